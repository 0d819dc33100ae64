/* graph_type.h: TripletTable as graph_methods.c sees it.
 *
 * `table` is an exact TripletTable, and the caller holds a reference to it. Each function
 * sets an exception when it fails. Python code may run at the end of those that change.
 */
#ifndef PN_PY_GRAPH_TYPE_H
#define PN_PY_GRAPH_TYPE_H

#include "py/module.h"
#include "store/batch.h"
#include "store/graph.h"

/* The value of a subject, live from then on; `missing` when it is not there, or a fresh empty
 * list when that is NULL. */
PyObject *pn_py_graph_live(PyObject *table, PyObject *subj, PyObject *missing);

/* Of three objects: subject, relation, object. 1: done; 0: not for the table to do, an
 * argument is no exact str or the subject is live; -1: an exception. */
int pn_py_graph_upsert(PyObject *table, PyObject *const *args);
int pn_py_graph_delete(PyObject *table, PyObject *const *args);

/* The peer's get_rel_map of the subjects, a list or None (all). None is returned when it is
 * not for the table to do. depth > PN_GRAPH_MAX_DEPTH is a ValueError. */
PyObject *pn_py_graph_rel_map(PyObject *table, PyObject *subjs, size_t depth, size_t limit, size_t inner_limit);

/* A plain dict of all, every list fresh, or None when a live value is no list of pairs. */
PyObject *pn_py_graph_copied(PyObject *table);

/* A TripletTable of the graph, whose owner it becomes, on failure too. */
PyObject *pn_py_graph_table(PyTypeObject *type, pn_graph *g);

/* pn_graph_gather of a table; UNSUPPORTED when a live value is no list of pairs of str. Runs no
 * Python code. Afterwards exactly one settle, when the commit is durable or has failed. */
pn_status pn_py_graph_gather(PyObject *table, pn_bytes name, bool whole, pn_batch *b);
void pn_py_graph_settle(PyObject *table, bool durable);

int pn_py_add_graph_methods(PyObject *module); /* graph_methods.c: GraphMethods, GraphPart */

#endif
