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

bool pn_class_has(PyTypeObject *type, PyObject *name)
{
    PyObject *mro = type->tp_mro, *found = NULL;
    for (Py_ssize_t i = 0; found == NULL && i < PyTuple_GET_SIZE(mro); i++)
        found = PyDict_GetItemWithError(dict_of(PyTuple_GET_ITEM(mro, i)), name);
    PyErr_Clear();
    return found != NULL;
}

bool pn_instance_hides(PyObject *dict, PyTypeObject *type, Py_ssize_t made)
{
    if (PyDict_GET_SIZE(dict) <= made) return false;
    PyObject *name, *unused;
    for (Py_ssize_t pos = 0; PyDict_Next(dict, &pos, &name, &unused);)
        if (!PyUnicode_CheckExact(name) || pn_class_has(type, name)) return true;
    return false;
}

unsigned pn_type_version(const PyTypeObject *type)
{
#ifdef Py_TPFLAGS_VALID_VERSION_TAG
    if (!PyType_HasFeature((PyTypeObject *)type, Py_TPFLAGS_VALID_VERSION_TAG)) return 0;
#endif
    return type->tp_version_tag;
}

/* A class has a tag once an attribute of it was looked up. */
static unsigned demand_version(PyTypeObject *type)
{
    if (pn_type_version(type) == 0) {
        PyObject *found = PyObject_GetAttrString((PyObject *)type, "mro");
        Py_XDECREF(found);
        PyErr_Clear();
    }
    return pn_type_version(type);
}

static bool note_type(pn_watch_memo *memo, PyTypeObject *type)
{
    for (size_t i = 0; i < memo->types; i++)
        if (memo->type[i].type == type) return true;
    unsigned tag = demand_version(type);
    if (tag == 0 || memo->types == PN_WATCH_TYPES) return false;
    memo->type[memo->types].type = type;
    memo->type[memo->types++].tag = tag;
    return true;
}

static bool note_entry(pn_watch_memo *memo, PyObject *watch, Py_ssize_t i)
{
    PyObject *owner = PyTuple_GET_ITEM(PyTuple_GET_ITEM(watch, i), 0);
    if (PyType_Check(owner)) return note_type(memo, (PyTypeObject *)owner);
    if (memo->entries == PN_WATCH_MODULE_ENTRIES) return false;
    memo->entry[memo->entries++] = i;
    return true;
}

static bool memo_holds(PyObject *watch, const pn_watch_memo *memo)
{
    for (size_t i = 0; i < memo->types; i++)
        if (pn_type_version(memo->type[i].type) != memo->type[i].tag) return false;
    bool holds = true;
    for (size_t i = 0; holds && i < memo->entries; i++) holds = entry_holds(PyTuple_GET_ITEM(watch, memo->entry[i]));
    if (PyErr_Occurred()) PyErr_Clear();
    return holds;
}

bool pn_watch_still_holds(PyObject *watch, pn_watch_memo *memo)
{
    if (memo->types > 0 && memo_holds(watch, memo)) return true;
    pn_watch_memo fresh = {.types = 0, .entries = 0};
    bool noted = true;
    for (Py_ssize_t i = 0; noted && i < PyTuple_GET_SIZE(watch); i++) noted = note_entry(&fresh, watch, i);
    bool holds = pn_watch_holds(watch); /* after the tags: asking for one runs code */
    if (!noted || !holds) fresh.types = 0;
    *memo = fresh;
    return holds;
}
