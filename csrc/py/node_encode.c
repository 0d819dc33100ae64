#include "py/node_encode.h"

#include "base/sha256.h"
#include "codec/json_write.h"
#include "py/node_watch.h"

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

enum { NAMES, KINDS, OPENINGS, CLOSING, TAIL, END, HASH, WATCH, PLAN_SIZE };

PyObject *pn_node_plan(pn_module_state *state, PyObject *node)
{
    if (state->node_plans == NULL) return NULL;
    PyObject *plan = PyDict_GetItemWithError(state->node_plans, (PyObject *)Py_TYPE(node));
    if (plan == NULL) PyErr_Clear(); /* a class that cannot be hashed has no plan */
    return plan && pn_watch_holds(PyTuple_GET_ITEM(plan, WATCH)) ? plan : NULL;
}

static PyObject *name_of(const pn_module_state *state, pn_node_name name)
{
    return PyTuple_GET_ITEM(state->node_names, (Py_ssize_t)name);
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

static PyObject *member(const pn_module_state *state, PyObject *dict, pn_node_name name)
{
    return dict ? PyDict_GetItemWithError(dict, name_of(state, name)) : NULL;
}

PyObject *pn_node_field(pn_module_state *state, PyObject *node, pn_node_name name)
{
    return member(state, instance_dict(node), name);
}

PyObject *pn_node_source(pn_module_state *state, PyObject *node, bool *odd)
{
    *odd = true;
    PyObject *relationships = pn_node_field(state, node, PN_NAME_RELATIONSHIPS);
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
    PyObject *type = member(e->state, dict, PN_NAME_NODE_TYPE);
    PyObject *metadata = member(e->state, dict, PN_NAME_METADATA);
    PN_FAIL_IF(type == NULL || metadata == NULL || !PyDict_CheckExact(metadata), PN_ERR_UNSUPPORTED);
    PN_TRY(PN_BUF_LIT(e->out, "{\"node_id\": "));
    PN_TRY(put_plain(e, member(e->state, dict, PN_NAME_NODE_ID)));
    PN_TRY(PN_BUF_LIT(e->out, ", \"node_type\": "));
    PN_TRY(put_enum_or_str(e, type, object_type(e->state)));
    PN_TRY(PN_BUF_LIT(e->out, ", \"metadata\": "));
    PN_TRY(put_plain(e, metadata));
    PN_TRY(PN_BUF_LIT(e->out, ", \"hash\": "));
    PN_TRY(put_plain(e, member(e->state, dict, PN_NAME_HASH)));
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
    static const pn_node_name absent[] = {PN_NAME_EMBEDDINGS, PN_NAME_DATA, PN_NAME_PATH, PN_NAME_URL};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        PN_FAIL_IF(member(e->state, dict, absent[i]) != Py_None, PN_ERR_UNSUPPORTED);
    PN_TRY(PN_BUF_LIT(e->out, "{\"embeddings\": null, \"text\": "));
    PN_TRY(put_plain(e, member(e->state, dict, PN_NAME_TEXT)));
    PN_TRY(PN_BUF_LIT(e->out, ", \"path\": null, \"url\": null, \"mimetype\": "));
    PN_TRY(put_plain(e, member(e->state, dict, PN_NAME_MIMETYPE)));
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
    PyObject *resource = member(e->state, dict, PN_NAME_TEXT_RESOURCE);
    PyObject *text = resource && resource != Py_None ? pn_node_field(e->state, resource, PN_NAME_TEXT) : NULL;
    return text == NULL || text == Py_None ? PN_BUF_LIT(e->out, "\"\"") : put_plain(e, text);
}

static pn_status put_bytes(node_encoder *e, PyObject *bytes)
{
    return pn_buf_append(e->out, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

static pn_status put_node(node_encoder *e, PyObject *plan, PyObject *node)
{
    PyObject *names = PyTuple_GET_ITEM(plan, NAMES), *openings = PyTuple_GET_ITEM(plan, OPENINGS);
    const char *kinds = PyBytes_AS_STRING(PyTuple_GET_ITEM(plan, KINDS));
    PyObject *dict = instance_dict(node);
    PN_FAIL_IF(dict == NULL || PyDict_GET_SIZE(dict) != PyTuple_GET_SIZE(names), PN_ERR_UNSUPPORTED);
    PyObject *name, *value;
    Py_ssize_t pos = 0;
    for (Py_ssize_t i = 0; PyDict_Next(dict, &pos, &name, &value); i++) {
        /* pydantic dumps in the order of the instance's dict: it must be the plan's */
        PyObject *want = PyTuple_GET_ITEM(names, i);
        PN_FAIL_IF(name != want && (!PyUnicode_Check(name) || PyUnicode_Compare(name, want) != 0), PN_ERR_UNSUPPORTED);
        PN_TRY(put_bytes(e, PyTuple_GET_ITEM(openings, i)));
        PN_TRY(put_field(e, value, (pn_node_kind)kinds[i]));
    }
    PN_TRY(put_bytes(e, PyTuple_GET_ITEM(plan, CLOSING)));
    if (PyLong_AsLong(PyTuple_GET_ITEM(plan, TAIL)) == PN_NODE_TAIL_TEXT) PN_TRY(put_tail_text(e, dict));
    return put_bytes(e, PyTuple_GET_ITEM(plan, END));
}

pn_status pn_node_encode(pn_module_state *state, PyObject *plan, PyObject *node, pn_buf *out)
{
    node_encoder e = {state, out};
    size_t start = out->len;
    pn_status s = put_node(&e, plan, node);
    if (s != PN_OK) out->len = start;
    return s;
}

/* ---- hashes ---- */

/* Feeds the characters as UTF-8, surrogates passed, without leaving that in the str. */
static pn_status hash_str(pn_sha256 *hash, PyObject *str)
{
    if (PyUnicode_IS_COMPACT_ASCII(str)) {
        pn_sha256_add(hash, (pn_bytes){PyUnicode_1BYTE_DATA(str), (size_t)PyUnicode_GET_LENGTH(str)});
        return PN_OK;
    }
    PyObject *bytes = PyUnicode_AsEncodedString(str, "utf-8", "surrogatepass");
    PN_FAIL_IF(bytes == NULL, PN_ERR_CALLBACK);
    pn_sha256_add(hash, (pn_bytes){(const uint8_t *)PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)});
    Py_DECREF(bytes);
    return PN_OK;
}

static pn_status put_text_hash(PyObject *text, PyObject *metadata, pn_buf *out)
{
    PyObject *repr = PyObject_Repr(metadata);
    PN_FAIL_IF(repr == NULL, PN_ERR_CALLBACK);
    pn_sha256 hash;
    pn_sha256_init(&hash);
    pn_status s = hash_str(&hash, text);
    if (s == PN_OK) s = hash_str(&hash, repr);
    Py_DECREF(repr);
    PN_TRY(s);
    PN_TRY(pn_buf_reserve(out, 64));
    pn_sha256_hex(&hash, (char *)out->data + out->len);
    out->len += 64;
    return PN_OK;
}

pn_status pn_node_put_hash(pn_module_state *state, PyObject *plan, PyObject *node, pn_buf *out)
{
    PN_FAIL_IF(PyLong_AsLong(PyTuple_GET_ITEM(plan, HASH)) != PN_NODE_HASH_TEXT, PN_ERR_UNSUPPORTED);
    PyObject *dict = instance_dict(node);
    PyObject *text = member(state, dict, PN_NAME_TEXT), *metadata = member(state, dict, PN_NAME_METADATA);
    PN_FAIL_IF(text == NULL || !PyUnicode_CheckExact(text), PN_ERR_UNSUPPORTED);
    PN_FAIL_IF(metadata == NULL || !PyDict_CheckExact(metadata), PN_ERR_UNSUPPORTED);
    Py_INCREF(text); /* a collection in between may run anything */
    Py_INCREF(metadata);
    pn_status s = put_text_hash(text, metadata, out);
    Py_DECREF(metadata);
    Py_DECREF(text);
    return s;
}

/* ---- functions ---- */

static bool bytes_ok(PyObject *tuple, Py_ssize_t count)
{
    bool ok = PyTuple_CheckExact(tuple) && PyTuple_GET_SIZE(tuple) == count;
    for (Py_ssize_t i = 0; ok && i < count; i++) ok = PyBytes_CheckExact(PyTuple_GET_ITEM(tuple, i));
    return ok;
}

static bool names_ok(PyObject *tuple)
{
    bool ok = PyTuple_CheckExact(tuple);
    for (Py_ssize_t i = 0; ok && i < PyTuple_GET_SIZE(tuple); i++) ok = PyUnicode_CheckExact(PyTuple_GET_ITEM(tuple, i));
    return ok;
}

static bool plan_ok(PyObject *plan)
{
    if (!PyTuple_CheckExact(plan) || PyTuple_GET_SIZE(plan) != PLAN_SIZE) return false;
    PyObject *names = PyTuple_GET_ITEM(plan, NAMES), *kinds = PyTuple_GET_ITEM(plan, KINDS);
    if (!names_ok(names) || !PyBytes_CheckExact(kinds) || PyBytes_GET_SIZE(kinds) != PyTuple_GET_SIZE(names)) return false;
    return bytes_ok(PyTuple_GET_ITEM(plan, OPENINGS), PyTuple_GET_SIZE(names)) &&
           PyBytes_CheckExact(PyTuple_GET_ITEM(plan, CLOSING)) && PyLong_CheckExact(PyTuple_GET_ITEM(plan, TAIL)) &&
           PyBytes_CheckExact(PyTuple_GET_ITEM(plan, END)) && PyLong_CheckExact(PyTuple_GET_ITEM(plan, HASH)) &&
           pn_watch_check(PyTuple_GET_ITEM(plan, WATCH));
}

static bool plans_ok(PyObject *plans)
{
    PyObject *type, *plan;
    Py_ssize_t pos = 0;
    while (PyDict_Next(plans, &pos, &type, &plan))
        if (!plan_ok(plan)) return false;
    return true;
}

static PyObject *not_a_plan(void)
{
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "not a node plan");
    return NULL;
}

static PyObject *core_set_node_plans(PyObject *module, PyObject *args)
{
    PyObject *types, *plans;
    if (!PyArg_ParseTuple(args, "O!O!:set_node_plans", &PyTuple_Type, &types, &PyDict_Type, &plans)) return NULL;
    if (PyTuple_GET_SIZE(types) != 5) return PyErr_Format(PyExc_ValueError, "five helper classes are needed");
    if (!plans_ok(plans)) return not_a_plan();
    pn_module_state *state = pn_state_of(module);
    PyObject *copy = PyDict_Copy(plans);
    if (copy == NULL) return NULL;
    Py_XSETREF(state->node_types, Py_NewRef(types));
    Py_XSETREF(state->node_plans, copy);
    Py_RETURN_NONE;
}

static PyObject *core_encode_node(PyObject *module, PyObject *args)
{
    PyObject *node, *plan = NULL;
    if (!PyArg_ParseTuple(args, "O|O:encode_node", &node, &plan)) return NULL;
    pn_module_state *state = pn_state_of(module);
    if (plan != NULL && (state->node_types == NULL || !plan_ok(plan))) return not_a_plan();
    if (plan == NULL) plan = pn_node_plan(state, node);
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
    {"encode_node", core_encode_node, METH_VARARGS,
     "encode_node(node[, plan]) -> Text | None: the text of its docstore entry; None: no fast path for it."},
    {NULL, NULL, 0, NULL},
};

static PyObject *make_names(void)
{
    static const char *const names[PN_NAME_COUNT] = {
        [PN_NAME_ID] = "id_", [PN_NAME_METADATA] = "metadata", [PN_NAME_RELATIONSHIPS] = "relationships",
        [PN_NAME_NODE_ID] = "node_id", [PN_NAME_NODE_TYPE] = "node_type", [PN_NAME_HASH] = "hash",
        [PN_NAME_TEXT] = "text", [PN_NAME_MIMETYPE] = "mimetype", [PN_NAME_TEXT_RESOURCE] = "text_resource",
        [PN_NAME_EMBEDDINGS] = "embeddings", [PN_NAME_DATA] = "data", [PN_NAME_PATH] = "path", [PN_NAME_URL] = "url",
    };
    PyObject *tuple = PyTuple_New(PN_NAME_COUNT);
    for (int i = 0; tuple != NULL && i < PN_NAME_COUNT; i++) {
        PyObject *name = PyUnicode_InternFromString(names[i]);
        if (name == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, name);
    }
    return tuple;
}

int pn_py_add_nodes(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    state->node_names = make_names();
    return state->node_names ? PyModule_AddFunctions(module, functions) : -1;
}
