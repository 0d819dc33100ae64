#include "py/node_encode.h"

#include "codec/json_write.h"

typedef struct {
    pn_module_state *state;
    pn_buf *out;
} node_encoder;

static PyObject *node_type(const pn_module_state *state, int i) { return PyTuple_GET_ITEM(state->node_types, i); }
static PyObject *relationship_type(const pn_module_state *s) { return node_type(s, 0); }
static PyObject *related_type(const pn_module_state *s) { return node_type(s, 1); }
static PyObject *object_type(const pn_module_state *s) { return node_type(s, 2); }
static PyObject *resource_type(const pn_module_state *s) { return node_type(s, 3); }
static PyObject *source_key(const pn_module_state *s) { return node_type(s, 4); }

PyObject *pn_node_plan(pn_module_state *state, PyObject *node)
{
    if (state->node_plans == NULL) return NULL;
    PyObject *plan = PyDict_GetItemWithError(state->node_plans, (PyObject *)Py_TYPE(node));
    if (plan == NULL) PyErr_Clear(); /* a class that cannot be hashed has no plan */
    return plan;
}

/* The instance dict of a pydantic model, borrowed from the instance. */
static PyObject *instance_dict(PyObject *obj)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL) {
        PyErr_Clear();
        return NULL;
    }
    Py_DECREF(dict); /* the instance holds it */
    return dict;
}

PyObject *pn_node_field(PyObject *node, const char *name)
{
    PyObject *dict = instance_dict(node);
    return dict ? PyDict_GetItemString(dict, name) : NULL;
}

PyObject *pn_node_source(pn_module_state *state, PyObject *node, bool *odd)
{
    *odd = true;
    PyObject *relationships = pn_node_field(node, "relationships");
    if (relationships == NULL || !PyDict_CheckExact(relationships)) return NULL;
    PyObject *source = PyDict_GetItemWithError(relationships, source_key(state));
    if (source == NULL && PyErr_Occurred()) {
        PyErr_Clear();
        return NULL;
    }
    *odd = source != NULL && (PyObject *)Py_TYPE(source) != related_type(state);
    return *odd ? NULL : source;
}

static pn_status put_plain(node_encoder *e, PyObject *value)
{
    return value ? pn_py_encode(value, PN_ENCODE_IDENTITY, e->out) : PN_ERR_UNSUPPORTED;
}

/* The characters of a str or of a str-valued enum member of exactly that class. */
static pn_status put_enum_or_str(node_encoder *e, PyObject *value, PyObject *enum_class)
{
    if ((PyObject *)Py_TYPE(value) != enum_class) return put_plain(e, value);
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes text;
    pn_status s = PyUnicode_Check(value) && pn_py_utf8(value, &scratch, &text) ? pn_json_put_string(e->out, text)
                                                                              : PN_ERR_UNSUPPORTED;
    pn_buf_clear(&scratch);
    PyErr_Clear();
    return s;
}

/* {"node_id": ..., "node_type": ..., "metadata": {...}, "hash": ..., "class_name": "RelatedNodeInfo"} */
static pn_status put_related(node_encoder *e, PyObject *info)
{
    PN_FAIL_IF((PyObject *)Py_TYPE(info) != related_type(e->state), PN_ERR_UNSUPPORTED);
    PyObject *dict = instance_dict(info);
    PyObject *type = dict ? PyDict_GetItemString(dict, "node_type") : NULL;
    PyObject *metadata = dict ? PyDict_GetItemString(dict, "metadata") : NULL;
    PN_FAIL_IF(type == NULL || metadata == NULL || !PyDict_CheckExact(metadata), PN_ERR_UNSUPPORTED);
    PN_TRY(PN_BUF_LIT(e->out, "{\"node_id\": "));
    PN_TRY(put_plain(e, PyDict_GetItemString(dict, "node_id")));
    PN_TRY(PN_BUF_LIT(e->out, ", \"node_type\": "));
    PN_TRY(put_enum_or_str(e, type, object_type(e->state)));
    PN_TRY(PN_BUF_LIT(e->out, ", \"metadata\": "));
    PN_TRY(put_plain(e, metadata));
    PN_TRY(PN_BUF_LIT(e->out, ", \"hash\": "));
    PN_TRY(put_plain(e, PyDict_GetItemString(dict, "hash")));
    return PN_BUF_LIT(e->out, ", \"class_name\": \"RelatedNodeInfo\"}");
}

static pn_status put_related_list(node_encoder *e, PyObject *list)
{
    PN_TRY(pn_buf_push(e->out, '['));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (i) PN_TRY(PN_BUF_LIT(e->out, ", "));
        PN_TRY(put_related(e, PyList_GET_ITEM(list, i)));
    }
    return pn_buf_push(e->out, ']');
}

static pn_status put_relationships(node_encoder *e, PyObject *relationships)
{
    PN_FAIL_IF(relationships == NULL || !PyDict_CheckExact(relationships), PN_ERR_UNSUPPORTED);
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    bool first = true;
    PN_TRY(pn_buf_push(e->out, '{'));
    while (PyDict_Next(relationships, &pos, &key, &value)) {
        PN_FAIL_IF((PyObject *)Py_TYPE(key) != relationship_type(e->state), PN_ERR_UNSUPPORTED);
        if (!first) PN_TRY(PN_BUF_LIT(e->out, ", "));
        first = false;
        PN_TRY(put_enum_or_str(e, key, relationship_type(e->state)));
        PN_TRY(PN_BUF_LIT(e->out, ": "));
        PN_TRY(PyList_CheckExact(value) ? put_related_list(e, value) : put_related(e, value));
    }
    return pn_buf_push(e->out, '}');
}

/* A MediaResource that holds text alone: data is not dumped, url and path need their
 * own serialisers. */
static pn_status put_resource(node_encoder *e, PyObject *resource)
{
    if (resource == Py_None) return PN_BUF_LIT(e->out, "null");
    PN_FAIL_IF(resource == NULL || (PyObject *)Py_TYPE(resource) != resource_type(e->state), PN_ERR_UNSUPPORTED);
    PyObject *dict = instance_dict(resource);
    static const char *const absent[] = {"embeddings", "data", "path", "url"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        PN_FAIL_IF(dict == NULL || PyDict_GetItemString(dict, absent[i]) != Py_None, PN_ERR_UNSUPPORTED);
    PN_TRY(PN_BUF_LIT(e->out, "{\"embeddings\": null, \"text\": "));
    PN_TRY(put_plain(e, PyDict_GetItemString(dict, "text")));
    PN_TRY(PN_BUF_LIT(e->out, ", \"path\": null, \"url\": null, \"mimetype\": "));
    PN_TRY(put_plain(e, PyDict_GetItemString(dict, "mimetype")));
    return pn_buf_push(e->out, '}');
}

static pn_status put_field(node_encoder *e, PyObject *value, pn_node_kind kind)
{
    switch (kind) {
    case PN_NODE_PLAIN: return put_plain(e, value);
    case PN_NODE_RELATIONSHIPS: return put_relationships(e, value);
    case PN_NODE_RESOURCE: return put_resource(e, value);
    case PN_NODE_NONE: return value == Py_None ? PN_BUF_LIT(e->out, "null") : PN_ERR_UNSUPPORTED;
    }
    return PN_ERR_UNSUPPORTED;
}

static pn_status put_tail_text(node_encoder *e, PyObject *dict)
{
    PyObject *resource = PyDict_GetItemString(dict, "text_resource");
    PyObject *text = resource && resource != Py_None ? pn_node_field(resource, "text") : NULL;
    PN_TRY(PN_BUF_LIT(e->out, ", \"text\": "));
    return text == NULL || text == Py_None ? PN_BUF_LIT(e->out, "\"\"") : put_plain(e, text);
}

static pn_status put_node(node_encoder *e, PyObject *plan, PyObject *node)
{
    PyObject *type, *class_name, *names, *kinds;
    int tail;
    if (!PyArg_ParseTuple(plan, "O!O!O!O!i", &PyUnicode_Type, &type, &PyUnicode_Type, &class_name, &PyTuple_Type,
                          &names, &PyBytes_Type, &kinds, &tail))
        return PN_ERR_CALLBACK;
    PyObject *dict = instance_dict(node);
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    PN_FAIL_IF(dict == NULL || PyBytes_GET_SIZE(kinds) != count || PyDict_GET_SIZE(dict) != count, PN_ERR_UNSUPPORTED);
    PN_TRY(PN_BUF_LIT(e->out, "{\"__data__\": {"));
    PyObject *name, *value;
    Py_ssize_t pos = 0;
    for (Py_ssize_t i = 0; PyDict_Next(dict, &pos, &name, &value); i++) {
        /* pydantic dumps in the order of the instance's dict: it must be the plan's */
        PyObject *want = PyTuple_GET_ITEM(names, i);
        PN_FAIL_IF(name != want && PyUnicode_Compare(name, want) != 0, PN_ERR_UNSUPPORTED);
        if (i) PN_TRY(PN_BUF_LIT(e->out, ", "));
        PN_TRY(put_plain(e, name));
        PN_TRY(PN_BUF_LIT(e->out, ": "));
        PN_TRY(put_field(e, value, (pn_node_kind)PyBytes_AS_STRING(kinds)[i]));
    }
    PN_TRY(PN_BUF_LIT(e->out, ", \"class_name\": "));
    PN_TRY(put_plain(e, class_name));
    if (tail == PN_NODE_TAIL_TEXT) PN_TRY(put_tail_text(e, dict));
    PN_TRY(PN_BUF_LIT(e->out, "}, \"__type__\": "));
    PN_TRY(put_plain(e, type));
    return pn_buf_push(e->out, '}');
}

pn_status pn_node_encode(pn_module_state *state, PyObject *plan, PyObject *node, pn_buf *out)
{
    node_encoder e = {state, out};
    size_t start = out->len;
    pn_status s = put_node(&e, plan, node);
    if (s != PN_OK) out->len = start;
    return s;
}

static PyObject *core_set_node_plans(PyObject *module, PyObject *args)
{
    PyObject *types, *plans;
    if (!PyArg_ParseTuple(args, "O!O!:set_node_plans", &PyTuple_Type, &types, &PyDict_Type, &plans)) return NULL;
    if (PyTuple_GET_SIZE(types) != 5) return PyErr_Format(PyExc_ValueError, "five helper classes are needed");
    pn_module_state *state = pn_state_of(module);
    Py_XSETREF(state->node_types, Py_NewRef(types));
    Py_XSETREF(state->node_plans, PyDict_Copy(plans));
    if (state->node_plans == NULL) return NULL;
    Py_RETURN_NONE;
}

static PyObject *core_encode_node(PyObject *module, PyObject *node)
{
    pn_module_state *state = pn_state_of(module);
    PyObject *plan = pn_node_plan(state, node);
    if (plan == NULL) Py_RETURN_NONE;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_status s = pn_node_encode(state, plan, node, &out);
    PyObject *text = s == PN_OK               ? pn_py_text(state, &out)
                     : s == PN_ERR_UNSUPPORTED ? Py_NewRef(Py_None)
                                               : pn_py_raise(s, NULL, NULL);
    pn_buf_clear(&out);
    return text;
}

static PyMethodDef functions[] = {
    {"set_node_plans", core_set_node_plans, METH_VARARGS, "set_node_plans(helper classes, {class: plan})"},
    {"encode_node", core_encode_node, METH_O,
     "encode_node(node) -> Text | None: the text of its docstore entry; None: no fast path for it."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_nodes(PyObject *module) { return PyModule_AddFunctions(module, functions); }
