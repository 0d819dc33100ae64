/* node_instance.c: the instance of a class that the values of its fields make, as pydantic would. */
#include "py/node_values.h"

/* The dict that an instance's begins as, and the values in it: those that stood in this
 * place before, as far as they cannot change, or the defaults. */
static pn_kept_model *begun(pn_node_decoder *n, const pn_node_model *m, size_t object)
{
    pn_kept_model *k = object < PN_OBJECTS_KEPT ? &n->readers->kept.models[object] : &n->readers->kept.spare;
    if (k->model == m) return k;
    PyObject *dict = PyDict_Copy(m->defaults);
    if (dict == NULL) return NULL;
    k->model = m;
    Py_XSETREF(k->dict, dict);
    for (Py_ssize_t i = 0; i < m->count; i++) k->values[i] = PyDict_GetItem(dict, PyTuple_GET_ITEM(m->names, i));
    return k;
}

/* A value that came again will come once more. */
static pn_status keep_value(pn_kept_model *k, const pn_node_model *m, Py_ssize_t i, PyObject *value)
{
    PN_FAIL_IF(PyDict_SetItem(k->dict, PyTuple_GET_ITEM(m->names, i), value) < 0, PN_ERR_CALLBACK);
    k->values[i] = value;
    return PN_OK;
}

/* What the dict is to hold for a field that is absent; a new reference. */
static PyObject *absent_value(const pn_node_model *m, Py_ssize_t i)
{
    if (m->absent[i] == PN_ABSENT_DEFAULT)
        return Py_XNewRef(PyDict_GetItemWithError(m->defaults, PyTuple_GET_ITEM(m->names, i)));
    return m->absent[i] == PN_ABSENT_LIST ? PyList_New(0) : PyDict_New();
}

static pn_status put_absent(const pn_node_model *m, Py_ssize_t i, PyObject *dict)
{
    PN_FAIL_IF(m->absent[i] == PN_ABSENT_REFUSED, PN_ERR_UNSUPPORTED);
    PyObject *value = absent_value(m, i);
    PN_FAIL_IF(value == NULL, PN_ERR_CALLBACK);
    int failed = PyDict_SetItem(dict, PyTuple_GET_ITEM(m->names, i), value);
    Py_DECREF(value);
    return failed ? PN_ERR_CALLBACK : PN_OK;
}

/* Puts the values where others stand; *all: every field is there. */
static pn_status fill_instance(const pn_node_model *m, pn_kept_model *k, pn_object_values *values, PyObject *dict, bool *all)
{
    *all = true;
    for (Py_ssize_t i = 0; i < m->count; i++) {
        PyObject *value = values->of[i];
        if (value == NULL) {
            *all = false; /* it is not set, only there */
            PN_TRY(put_absent(m, i, dict));
        } else if (value != k->values[i]) {
            PN_FAIL_IF(PyDict_SetItem(dict, PyTuple_GET_ITEM(m->names, i), value) < 0, PN_ERR_CALLBACK);
            bool again = values->again >> i & 1 && PyUnicode_CheckExact(value);
            if (again) PN_TRY(keep_value(k, m, i, value));
        }
    }
    return PN_OK;
}

/* In the order of the fields, as pydantic adds them: the order of a set depends on it. */
static PyObject *fields_set(const pn_node_model *m, const pn_object_values *values, bool all)
{
    if (all && m->full_set != NULL) return PySet_New(m->full_set);
    PyObject *set = PySet_New(NULL);
    for (Py_ssize_t i = 0; set != NULL && i < m->count; i++) {
        if (values->of[i] == NULL) continue;
        if (PySet_Add(set, PyTuple_GET_ITEM(m->names, i)) < 0) Py_CLEAR(set);
    }
    return set;
}

/* A slot of an object that is new: nothing stands there. */
static void set_slot(PyObject *object, Py_ssize_t at, PyObject *value)
{
    if (at != 0) *(PyObject **)(void *)((char *)object + at) = Py_NewRef(value);
}

static PyObject *instance(const pn_node_model *m, PyObject *dict, PyObject *set)
{
    PyObject *object = m->type->tp_alloc(m->type, 0);
    if (object == NULL) return NULL;
    set_slot(object, m->set_at, set);
    set_slot(object, m->extra_at, Py_None);
    set_slot(object, m->private_at, Py_None);
    if (PyObject_GenericSetDict(object, dict, NULL) < 0) Py_CLEAR(object);
    return object;
}

/* pydantic looks for a field under its alias first, and that may be another field's name. */
static void follow_aliases(const pn_node_model *m, pn_object_values *values)
{
    for (Py_ssize_t i = 0; i < m->count; i++) {
        PyObject *value = m->aliases[i] ? values->of[(uint8_t)m->aliases[i] - 1] : NULL;
        if (value != NULL) Py_XSETREF(values->of[i], Py_NewRef(value));
    }
}

pn_status pn_node_instance(pn_node_decoder *n, const pn_node_model *m, pn_object_values *values, PyObject **out)
{
    bool all;
    follow_aliases(m, values);
    pn_kept_model *k = begun(n, m, values->object);
    PyObject *dict = k ? PyDict_Copy(k->dict) : NULL;
    PN_FAIL_IF(dict == NULL, PN_ERR_CALLBACK);
    pn_status s = fill_instance(m, k, values, dict, &all);
    if (s == PN_OK) {
        PyObject *set = fields_set(m, values, all);
        *out = set ? instance(m, dict, set) : NULL;
        Py_XDECREF(set);
        s = pn_node_status(*out);
    }
    Py_DECREF(dict);
    return s;
}
