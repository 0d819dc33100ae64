/* kv_views.c: what a KVTable owes the mappings that it handed out (kv_table.h tells). */
#include "py/kv_table.h"

static bool is_held(PyObject *home) { return Py_REFCNT(home) > 1; } /* by a view, not by the table alone */

PyObject *pn_kvt_home(pn_kv_object *self, PyObject *name)
{
    if (self->homes == NULL && (self->homes = PyDict_New()) == NULL) return NULL;
    PyObject *home = PyDict_GetItemWithError(self->homes, name);
    if (home != NULL || PyErr_Occurred()) return Py_XNewRef(home);
    home = PyDict_New();
    if (home != NULL && PyDict_SetItem(self->homes, name, home) < 0) Py_CLEAR(home);
    return home;
}

bool pn_kvt_is_home(const pn_kv_object *self, PyObject *name, PyObject *home)
{
    bool is = self->homes != NULL && PyDict_GetItemWithError(self->homes, name) == home;
    PyErr_Clear();
    return is;
}

bool pn_kvt_viewed(const pn_kv_object *self)
{
    PyObject *name, *home;
    for (Py_ssize_t pos = 0; self->homes != NULL && PyDict_Next(self->homes, &pos, &name, &home);)
        if (is_held(home)) return true;
    return false;
}

/* Each held home becomes the dict of its collection in `plain`. */
static int move_collections(PyObject *homes, PyObject *plain)
{
    PyObject *name, *home;
    for (Py_ssize_t pos = 0; PyDict_Next(homes, &pos, &name, &home);) {
        PyObject *contents = is_held(home) && name != Py_None ? PyDict_GetItemWithError(plain, name) : NULL;
        if (contents != NULL && (PyDict_Update(home, contents) < 0 || PyDict_SetItem(plain, name, home) < 0)) return -1;
    }
    return 0;
}

/* The same of all of them: *plain becomes that home. */
static int move_all(PyObject *homes, PyObject **plain)
{
    PyObject *home = PyDict_GetItemWithError(homes, Py_None);
    if (home == NULL || !is_held(home)) return 0;
    if (PyDict_Update(home, *plain) < 0) return -1;
    Py_SETREF(*plain, Py_NewRef(home));
    return 0;
}

/* What was moved before memory ran out; the cells hold all of it. */
static void move_back(PyObject *homes)
{
    PyObject *name, *home;
    for (Py_ssize_t pos = 0; PyDict_Next(homes, &pos, &name, &home);) PyDict_Clear(home);
}

int pn_kvt_move_home(pn_kv_object *self, PyObject **plain)
{
    if (self->homes == NULL) return 0;
    int gc = pn_gc_pause();
    int r = move_collections(self->homes, *plain) < 0 ? -1 : move_all(self->homes, plain);
    if (r < 0) move_back(self->homes);
    pn_gc_resume(gc);
    return r;
}

int pn_kvt_leave(pn_kv_object *self, PyObject *name, pn_coll *coll)
{
    PyObject *home = self->homes ? PyDict_GetItemWithError(self->homes, name) : NULL;
    if (home == NULL) return PyErr_Occurred() ? -1 : 0;
    if (is_held(home)) {
        PyObject *contents = pn_kvt_dict_of(pn_kvt_keys(self), coll, pn_kvt_promoted);
        int r = contents ? PyDict_Update(home, contents) : -1;
        Py_XDECREF(contents);
        if (r < 0) return -1;
    }
    return PyDict_DelItem(self->homes, name);
}
