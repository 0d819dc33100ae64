/* doc_py.h: document store operations on a native KVTable, for the C methods of the
 * document stores (doc_type.c). doc_py.c has those that change it, doc_read.c the others.
 *
 * `table` is any object; collections are told by name, a source or node by its id. Every
 * function returns a new reference, or NULL with an exception set. NotImplemented: nothing
 * has changed, the peer's way is to be taken (not a native table, an odd key or value).
 * Each touches, and so creates, the collections that the peer's method touches.
 */
#ifndef PN_PY_DOC_PY_H
#define PN_PY_DOC_PY_H

#include "py/module.h"
#include "store/kv.h"

/* Finds the cell, settled; *cell NULL when absent. False without an exception: the peer's way. */
bool pn_py_doc_find(pn_module_state *state, PyObject *table, PyObject *name, PyObject *key, pn_coll **coll,
                    pn_cell **cell);

/* The node of that id; None: there is none. */
PyObject *pn_py_doc_node(pn_module_state *state, PyObject *table, PyObject *nodes, PyObject *id);

/* The nodes of a list of ids that are all there. For one that has no fast way the method
 * named `get` of `store` is called with the id. */
PyObject *pn_py_doc_nodes(pn_module_state *state, PyObject *table, PyObject *nodes, PyObject *ids, PyObject *store,
                          PyObject *get);

/* A member of the metadata entry of that id; None: no entry, or no such member. */
PyObject *pn_py_doc_meta(pn_module_state *state, PyObject *table, PyObject *metadata, PyObject *id, const char *member);

/* {hash: id} */
PyObject *pn_py_doc_hashes(pn_module_state *state, PyObject *table, PyObject *metadata);

/* Replaces the metadata entry by {"doc_hash": hash}; None. */
PyObject *pn_py_doc_set_hash(pn_module_state *state, PyObject *table, PyObject *metadata, PyObject *id, PyObject *hash);

/* Such an entry for each id of a {id: hash}; None. An empty one touches nothing. */
PyObject *pn_py_doc_set_hashes(pn_module_state *state, PyObject *table, PyObject *metadata, PyObject *hashes);

/* Whether there is such a source; its node ids as a new list, or None. */
PyObject *pn_py_doc_ref_exists(pn_module_state *state, PyObject *table, PyObject *refs, PyObject *id);
PyObject *pn_py_doc_ref_ids(pn_module_state *state, PyObject *table, PyObject *refs, PyObject *id);

/* What is made of a source's node ids, a new list, and its metadata, the stored dict: runs no Python code. */
typedef PyObject *(*pn_info_maker)(pn_module_state *state, PyObject *ids, PyObject *metadata);

/* That of a source. None: no such source. */
PyObject *pn_py_doc_ref_info(pn_module_state *state, PyObject *table, PyObject *refs, PyObject *id, pn_info_maker make);

/* {source id: that} of all, in order. */
PyObject *pn_py_doc_ref_infos(pn_module_state *state, PyObject *table, PyObject *refs, pn_info_maker make);

/* Deletes a node; names: nodes, metadata, refs. True when it was there. */
PyObject *pn_py_doc_delete(pn_module_state *state, PyObject *table, PyObject *const names[3], PyObject *id);

#endif
