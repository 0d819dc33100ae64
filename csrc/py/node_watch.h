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

#endif
