/* raise.c: the one table from a status of the core to a Python exception. */
#include "py/json_py.h"
#include "py/module.h"

static PyObject *class_for(pn_status status)
{
    switch (status) {
    case PN_ERR_NOMEM: return PyExc_MemoryError;
    case PN_ERR_IO:
    case PN_ERR_UNKNOWN_OUTCOME: return PyExc_OSError;
    case PN_ERR_DEPTH: return PyExc_RecursionError;
    case PN_ERR_RANGE: return PyExc_OverflowError;
    case PN_ERR_NOT_FOUND: return PyExc_KeyError;
    case PN_ERR_SYNTAX:
    case PN_ERR_UTF8:
    case PN_ERR_CORRUPT:
    case PN_ERR_EXISTS:
    case PN_ERR_VERSION:
    case PN_ERR_CONFLICT:
    case PN_ERR_LOCKED:
    case PN_ERR_INVALID:
    case PN_ERR_UNSUPPORTED: return PyExc_ValueError;
    default: return PyExc_SystemError;
    }
}

PyObject *pn_py_raise(pn_status status, const pn_error *err, const char *path)
{
    if (status == PN_ERR_CALLBACK && PyErr_Occurred()) return NULL;
    if (status == PN_ERR_NOMEM) return PyErr_NoMemory();
    if (status == PN_ERR_IO && err != NULL && err->sys != 0) {
        errno = err->sys;
        return path ? PyErr_SetFromErrnoWithFilename(PyExc_OSError, path) : PyErr_SetFromErrno(PyExc_OSError);
    }
    const char *what = err != NULL && err->what != NULL ? err->what : pn_status_text(status);
    if (err != NULL && (status == PN_ERR_SYNTAX || status == PN_ERR_UTF8 || status == PN_ERR_CORRUPT))
        return PyErr_Format(class_for(status), "%s%s%s at byte %llu", path ? path : "", path ? ": " : "", what,
                            (unsigned long long)err->offset);
    return PyErr_Format(class_for(status), "%s%s%s", path ? path : "", path ? ": " : "", what);
}

PyObject *pn_py_raise_damaged(pn_module_state *state, const char *path, const pn_error *err)
{
    PyObject *errors = state ? Py_NewRef(state->errors) : PyImport_ImportModule("pannier.errors");
    PyObject *cls = errors ? PyObject_GetAttrString(errors, "CorruptPackError") : NULL;
    PyObject *name = cls ? PyUnicode_DecodeFSDefault(path ? path : "") : NULL;
    PyObject *e = name ? PyObject_CallFunction(cls, "sOK", err->what ? err->what : pn_status_text(err->code), name,
                                               (unsigned long long)err->offset)
                       : NULL;
    if (e != NULL) PyErr_SetObject(cls, e);
    Py_XDECREF(e);
    Py_XDECREF(name);
    Py_XDECREF(cls);
    Py_XDECREF(errors);
    return NULL;
}

void pn_py_raise_key(PyObject *key)
{
    PyObject *args = PyTuple_Pack(1, key);
    if (args != NULL) PyErr_SetObject(PyExc_KeyError, args);
    Py_XDECREF(args);
}
