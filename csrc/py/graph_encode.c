/* graph_encode.c: a property graph as the text that LlamaIndex's model_dump_json gives.
 *
 * What is written is exactly what pydantic would write for the classes of graph_models.h
 * with fields of the types that they declare, and for values of exact built-in types in
 * properties. Anything else (another class, an attribute of another type, NaN, a lone
 * surrogate, deep nesting) is UNSUPPORTED: pydantic writes the graph, with its warnings
 * and errors. No Python code runs.
 */
#include "py/graph_models.h"

#include "codec/json_raw.h"
#include "codec/json_write.h"
#include "py/json_py.h"

#include <math.h>

enum { MAX_DEPTH = 32 };

static pn_status put_str(pn_buf *out, PyObject *str)
{
    PN_FAIL_IF(!PyUnicode_CheckExact(str), PN_ERR_UNSUPPORTED);
    Py_ssize_t n;
    const char *p = PyUnicode_AsUTF8AndSize(str, &n);
    if (p != NULL) return pn_json_raw_string(out, (pn_bytes){(const uint8_t *)p, (size_t)n});
    PyErr_Clear();
    return PN_ERR_UNSUPPORTED;
}

static pn_status put_float(pn_buf *out, PyObject *value)
{
    PN_FAIL_IF(!PyFloat_CheckExact(value) || !isfinite(PyFloat_AS_DOUBLE(value)), PN_ERR_UNSUPPORTED);
    return pn_json_raw_double(out, PyFloat_AS_DOUBLE(value));
}

static pn_status put_int(pn_buf *out, PyObject *value)
{
    int overflow;
    long long v = PyLong_AsLongLongAndOverflow(value, &overflow);
    return overflow ? PN_ERR_UNSUPPORTED : pn_json_put_i64(out, v);
}

static pn_status put_value(pn_buf *out, PyObject *value, int depth);

static pn_status put_list(pn_buf *out, PyObject *list, int depth)
{
    PN_TRY(pn_buf_push(out, '['));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (i) PN_TRY(pn_buf_push(out, ','));
        PN_TRY(put_value(out, PyList_GET_ITEM(list, i), depth));
    }
    return pn_buf_push(out, ']');
}

static pn_status put_dict(pn_buf *out, PyObject *dict, int depth)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0, n = 0;
    PN_TRY(pn_buf_push(out, '{'));
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (n++) PN_TRY(pn_buf_push(out, ','));
        PN_TRY(put_str(out, key));
        PN_TRY(pn_buf_push(out, ':'));
        PN_TRY(put_value(out, value, depth));
    }
    return pn_buf_push(out, '}');
}

static pn_status put_value(pn_buf *out, PyObject *value, int depth)
{
    if (PyUnicode_CheckExact(value)) return put_str(out, value);
    if (value == Py_None) return PN_BUF_LIT(out, "null");
    if (value == Py_True) return PN_BUF_LIT(out, "true");
    if (value == Py_False) return PN_BUF_LIT(out, "false");
    if (PyLong_CheckExact(value)) return put_int(out, value);
    if (PyFloat_CheckExact(value)) return put_float(out, value);
    PN_FAIL_IF(depth == MAX_DEPTH, PN_ERR_UNSUPPORTED);
    if (PyDict_CheckExact(value)) return put_dict(out, value, depth + 1);
    return PyList_CheckExact(value) ? put_list(out, value, depth + 1) : PN_ERR_UNSUPPORTED;
}

/* ---- the models ---- */

static pn_status put_embedding(pn_buf *out, PyObject *list)
{
    if (list == Py_None) return PN_BUF_LIT(out, "null");
    PN_FAIL_IF(!PyList_CheckExact(list), PN_ERR_UNSUPPORTED);
    PN_TRY(pn_buf_push(out, '['));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (i) PN_TRY(pn_buf_push(out, ','));
        PN_TRY(put_float(out, PyList_GET_ITEM(list, i)));
    }
    return pn_buf_push(out, ']');
}

static pn_status put_field(pn_buf *out, pn_graph_field field, PyObject *value)
{
    switch (field) {
    case PN_GRAPH_EMBEDDING: return put_embedding(out, value);
    case PN_GRAPH_PROPERTIES: return PyDict_CheckExact(value) ? put_dict(out, value, 0) : PN_ERR_UNSUPPORTED;
    case PN_GRAPH_ID: return value == Py_None ? PN_BUF_LIT(out, "null") : put_str(out, value);
    default: return put_str(out, value);
    }
}

/* What stands in front of a field's value. */
static pn_status put_name(pn_buf *out, const char *name, bool first)
{
    size_t n = strlen(name);
    PN_TRY(pn_buf_reserve(out, n + 4));
    uint8_t *p = out->data + out->len;
    memcpy(p, first ? "{\"" : ",\"", 2);
    memcpy(p + 2, name, n);
    memcpy(p + 2 + n, "\":", 2);
    out->len += n + 4;
    return PN_OK;
}

/* The fields of the class in their order, and nothing else. */
static pn_status put_fields(const pn_graph_models *models, pn_buf *out, const pn_graph_fields *fields, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    PN_FAIL_IF(dict == NULL || PyDict_GET_SIZE(dict) != fields->count, PN_ERR_UNSUPPORTED);
    for (int i = 0; PyDict_Next(dict, &pos, &key, &value); i++) {
        PN_FAIL_IF(key != models->name[fields->of[i]], PN_ERR_UNSUPPORTED);
        PN_TRY(put_name(out, pn_graph_name_text[fields->of[i]], i == 0));
        PN_TRY(put_field(out, fields->of[i], value));
    }
    return pn_buf_push(out, '}');
}

static pn_status put_model(const pn_graph_models *models, pn_buf *out, PyObject *object, bool relation)
{
    pn_graph_kind kind = pn_graph_kind_of(models, object);
    PN_FAIL_IF(kind == PN_GRAPH_KINDS || (kind == PN_GRAPH_RELATION) != relation, PN_ERR_UNSUPPORTED);
    PyObject *dict = pn_graph_dict_of(object);
    pn_status s = put_fields(models, out, &pn_graph_fields_of[kind], dict);
    Py_XDECREF(dict); /* the object has it */
    return s;
}

static pn_status put_models(const pn_graph_models *models, pn_buf *out, PyObject *dict, bool relations)
{
    PyObject *key, *object;
    Py_ssize_t pos = 0, n = 0;
    PN_TRY(pn_buf_push(out, '{'));
    while (PyDict_Next(dict, &pos, &key, &object)) {
        if (n++) PN_TRY(pn_buf_push(out, ','));
        PN_TRY(put_str(out, key));
        PN_TRY(pn_buf_push(out, ':'));
        PN_TRY(put_model(models, out, object, relations));
    }
    return pn_buf_push(out, '}');
}

static pn_status put_triplet(pn_buf *out, PyObject *triplet)
{
    PN_FAIL_IF(!PyTuple_CheckExact(triplet) || PyTuple_GET_SIZE(triplet) != 3, PN_ERR_UNSUPPORTED);
    for (int i = 0; i < 3; i++) {
        PN_TRY(pn_buf_push(out, i ? ',' : '['));
        PN_TRY(put_str(out, PyTuple_GET_ITEM(triplet, i)));
    }
    return pn_buf_push(out, ']');
}

static pn_status put_triplets(pn_buf *out, PyObject *iterator)
{
    PyObject *triplet;
    bool first = true;
    pn_status s = pn_buf_push(out, '[');
    while (s == PN_OK && (triplet = PyIter_Next(iterator)) != NULL) {
        if (!first) s = pn_buf_push(out, ',');
        first = false;
        if (s == PN_OK) s = put_triplet(out, triplet);
        Py_DECREF(triplet);
    }
    return s == PN_OK && !PyErr_Occurred() ? pn_buf_push(out, ']') : s == PN_OK ? PN_ERR_CALLBACK : s;
}

static pn_status put_graph(const pn_graph_models *models, pn_buf *out, PyObject *nodes, PyObject *relations, PyObject *triplets)
{
    PN_TRY(PN_BUF_LIT(out, "{\"nodes\":"));
    PN_TRY(put_models(models, out, nodes, false));
    PN_TRY(PN_BUF_LIT(out, ",\"relations\":"));
    PN_TRY(put_models(models, out, relations, true));
    PN_TRY(PN_BUF_LIT(out, ",\"triplets\":"));
    PN_TRY(put_triplets(out, triplets));
    return pn_buf_push(out, '}');
}

static PyObject *graph_encode(PyObject *module, PyObject *args)
{
    pn_module_state *state = pn_state_of(module);
    PyObject *nodes, *relations, *triplets, *text = NULL;
    if (!PyArg_ParseTuple(args, "O!O!O!:graph_encode", &PyDict_Type, &nodes, &PyDict_Type, &relations, &PySet_Type, &triplets))
        return NULL;
    if (!pn_graph_models_hold(state->graph_models)) Py_RETURN_NONE;
    PyObject *iterator = PySet_Type.tp_iter(triplets); /* of the set, whatever a subclass has */
    if (iterator == NULL) return NULL;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    int gc = pn_gc_pause();
    pn_status s = put_graph(state->graph_models, &out, nodes, relations, iterator);
    pn_gc_resume(gc);
    Py_DECREF(iterator);
    if (s == PN_ERR_UNSUPPORTED)
        text = Py_NewRef(Py_None);
    else
        text = s == PN_OK ? pn_py_text(state, &out) : pn_py_raise(s, NULL, NULL);
    pn_buf_clear(&out);
    return text;
}

static PyMethodDef functions[] = {
    {"graph_encode", graph_encode, METH_VARARGS,
     "graph_encode(nodes, relations, triplets) -> Text | None: of a LabelledPropertyGraph; None: ask pydantic."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_graph_encode(PyObject *module) { return PyModule_AddFunctions(module, functions); }
