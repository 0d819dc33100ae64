#include "py/node_watch.h"

static bool entry_ok(PyObject *entry)
{
    if (!PyTuple_CheckExact(entry) || PyTuple_GET_SIZE(entry) < 2 || PyTuple_GET_SIZE(entry) > 3) return false;
    PyObject *owner = PyTuple_GET_ITEM(entry, 0);
    bool has_dict = PyModule_Check(owner) || (PyType_Check(owner) && PyType_HasFeature((PyTypeObject *)owner, Py_TPFLAGS_HEAPTYPE));
    return has_dict && PyUnicode_CheckExact(PyTuple_GET_ITEM(entry, 1));
}

bool pn_watch_check(PyObject *obj)
{
    bool ok = PyTuple_CheckExact(obj);
    for (Py_ssize_t i = 0; ok && i < PyTuple_GET_SIZE(obj); i++) ok = entry_ok(PyTuple_GET_ITEM(obj, i));
    if (!ok) PyErr_SetString(PyExc_TypeError, "a watch is a tuple of (class or module, name[, value])");
    return ok;
}

/* Borrowed: the owner keeps its dict. */
static PyObject *dict_of(PyObject *owner)
{
    if (PyModule_Check(owner)) return PyModule_GetDict(owner);
#if PY_VERSION_HEX >= 0x030c0000
    PyObject *dict = PyType_GetDict((PyTypeObject *)owner);
    Py_XDECREF(dict);
    return dict;
#else
    return ((PyTypeObject *)owner)->tp_dict;
#endif
}

static bool entry_holds(PyObject *entry)
{
    PyObject *dict = dict_of(PyTuple_GET_ITEM(entry, 0));
    PyObject *now = dict ? PyDict_GetItemWithError(dict, PyTuple_GET_ITEM(entry, 1)) : NULL;
    return now == (PyTuple_GET_SIZE(entry) == 3 ? PyTuple_GET_ITEM(entry, 2) : NULL);
}

bool pn_watch_holds(PyObject *watch)
{
    bool holds = true;
    for (Py_ssize_t i = 0; holds && i < PyTuple_GET_SIZE(watch); i++) holds = entry_holds(PyTuple_GET_ITEM(watch, i));
    if (PyErr_Occurred()) {
        PyErr_Clear();
        holds = false;
    }
    return holds;
}
