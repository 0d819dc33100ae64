/* node_watch.h: whether classes and modules still are what they were when something was
 * learned from them.
 *
 * A *watch* is a tuple of (owner, name, value) or, when the owner had no such name,
 * (owner, name). The owner is a class (its own dict counts, not its bases') or a module.
 * A caller that replaces a method at run time, for good or with unittest.mock, is so
 * noticed by the next operation, and its own function is what runs.
 */
#ifndef PN_PY_NODE_WATCH_H
#define PN_PY_NODE_WATCH_H

#include "py/module.h"

/* Whether obj is such a tuple; TypeError when not. */
bool pn_watch_check(PyObject *obj);

/* Whether everything in it is as it was, by identity. One dict look-up an entry; runs no
 * Python code, raises nothing. */
bool pn_watch_holds(PyObject *watch);

/* Whether a class has the name, or a base of it. Runs no Python code, raises nothing. */
bool pn_class_has(PyTypeObject *type, PyObject *name);
/* Whether an object's own dict hides something of its class: a method that was replaced on
 * the object. `made`: how many attributes an object has as it is made; no more, and nothing
 * is looked up. Runs no Python code, raises nothing. */
bool pn_instance_hides(PyObject *dict, PyTypeObject *type, Py_ssize_t made);

/* A number that CPython changes whenever the class or one of its bases changes; 0: none now. */
unsigned pn_type_version(const PyTypeObject *type);

/* What a watch was found to hold by: while no class of it has changed in any way (CPython
 * gives a class a new version tag then), only what it says of modules is looked at. All
 * zero: nothing is known. Belongs to one watch, which keeps the classes. */
enum { PN_WATCH_TYPES = 24, PN_WATCH_MODULE_ENTRIES = 24 };
typedef struct pn_watch_memo {
    size_t types, entries;
    struct {
        PyTypeObject *type;
        unsigned tag;
    } type[PN_WATCH_TYPES];
    Py_ssize_t entry[PN_WATCH_MODULE_ENTRIES]; /* those whose owner is a module */
} pn_watch_memo;

bool pn_watch_still_holds(PyObject *watch, pn_watch_memo *memo);

#endif
