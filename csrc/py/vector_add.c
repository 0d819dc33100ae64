/* vector_add.c: nodes into a VectorTable without the dictionaries that the peer makes.
 *
 * The peer dumps the whole node by pydantic and keeps its metadata plus four fields. A
 * node is taken here only if that dump is certain to succeed and to change nothing:
 * exact classes, plain JSON values everywhere, no NaN (it becomes null there), no
 * surrogates (pydantic refuses them or replaces them, depending on where they stand), no
 * deep nesting (pydantic refuses). For any other node the loop stops and the caller lets
 * the peer's own code have it.
 *
 * A plan says how a class dumps: (class name, field names, one letter a field):
 *   s str   o str or None   n int or None   l list of str   0 None   - not looked at
 *   r relationships   m MediaResource with nothing but text, or None
 */
#include "py/vector_type.h"

typedef struct adder {
    vector_object *table;
    PyObject *plans;
    /* RelatedNodeInfo, NodeRelationship, ObjectType, MediaResource, NodeRelationship.SOURCE */
    PyObject *related, *relationship, *object_type, *resource, *source;
    pn_buf scratch, text, floats, id_scratch, ref_scratch, ref; /* ref: a copy, see source_id */
} adder;

enum { MAX_NESTING = 64 };

/* True when nothing in the JSON text would be changed or refused by the peer's dump. It
 * may say no to harmless text (a string that holds "NaN"). */
static bool survives(pn_bytes t)
{
    size_t depth = 0;
    for (size_t i = 0; i < t.len; i++) {
        uint8_t c = t.ptr[i];
        if ((c == '[' || c == '{') && ++depth > MAX_NESTING) return false; /* counts all, not the deepest */
        if (c == 'N' && t.len - i >= 3 && memcmp(t.ptr + i, "NaN", 3) == 0) return false;
        if (c == 'I' && t.len - i >= 8 && memcmp(t.ptr + i, "Infinity", 8) == 0) return false;
        if (c == '\\' && t.len - i >= 6 && t.ptr[i + 1] == 'u' && t.ptr[i + 2] == 'd' && t.ptr[i + 3] >= '8') {
            bool pair = t.ptr[i + 3] <= 'b' && t.len - i >= 12 && memcmp(t.ptr + i + 6, "\\ud", 3) == 0 &&
                        t.ptr[i + 9] >= 'c';
            if (!pair) return false;
            i += 11;
        }
    }
    return true;
}

static bool plain(adder *a, PyObject *value)
{
    a->scratch.len = 0;
    return pn_py_encode(value, PN_ENCODE_IDENTITY, &a->scratch) == PN_OK && survives(pn_buf_view(&a->scratch));
}

/* A value of the object's own __dict__, borrowed. */
static PyObject *field(PyObject *dict, const char *name) { return PyDict_GetItemString(dict, name); }

static bool has_surrogates(PyObject *str)
{
    int kind = PyUnicode_KIND(str);
    const void *data = PyUnicode_DATA(str);
    Py_ssize_t n = kind == PyUnicode_1BYTE_KIND ? 0 : PyUnicode_GET_LENGTH(str);
    for (Py_ssize_t i = 0; i < n; i++)
        if (Py_UNICODE_IS_SURROGATE(PyUnicode_READ(kind, data, i))) return true;
    return false;
}

/* A str that pydantic dumps in every place, also inside unions. */
static bool is_str(PyObject *v) { return v != NULL && PyUnicode_CheckExact(v) && !has_surrogates(v); }
static bool is_str_or_none(PyObject *v) { return v == Py_None || is_str(v); }
static bool is_int_or_none(PyObject *v) { return v == Py_None || (v != NULL && PyLong_CheckExact(v)); }

static bool is_str_list(PyObject *v)
{
    if (v == NULL || !PyList_CheckExact(v)) return false;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(v); i++)
        if (!is_str(PyList_GET_ITEM(v, i))) return false;
    return true;
}

/* The instance dictionary of a pydantic object, a new reference; NULL without exception. */
static PyObject *instance_dict(PyObject *obj)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL) PyErr_Clear();
    return dict;
}

static bool related_ok(adder *a, PyObject *info)
{
    if (!Py_IS_TYPE(info, (PyTypeObject *)a->related)) return false;
    PyObject *dict = instance_dict(info);
    if (dict == NULL) return false;
    PyObject *type = field(dict, "node_type"), *metadata = field(dict, "metadata");
    bool ok = PyDict_GET_SIZE(dict) == 4 && is_str(field(dict, "node_id")) && is_str_or_none(field(dict, "hash")) &&
              type != NULL && (is_str_or_none(type) || Py_IS_TYPE(type, (PyTypeObject *)a->object_type)) &&
              metadata != NULL && PyDict_CheckExact(metadata) && (PyDict_GET_SIZE(metadata) == 0 || plain(a, metadata));
    Py_DECREF(dict);
    return ok;
}

static bool relation_ok(adder *a, PyObject *value)
{
    if (!PyList_CheckExact(value)) return related_ok(a, value);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(value); i++)
        if (!related_ok(a, PyList_GET_ITEM(value, i))) return false;
    return true;
}

static bool relationships_ok(adder *a, PyObject *v)
{
    if (v == NULL || !PyDict_CheckExact(v)) return false;
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    while (PyDict_Next(v, &pos, &key, &value))
        if (!Py_IS_TYPE(key, (PyTypeObject *)a->relationship) || !relation_ok(a, value)) return false;
    return true;
}

static bool resource_ok(adder *a, PyObject *v)
{
    if (v == Py_None) return true;
    if (v == NULL || !Py_IS_TYPE(v, (PyTypeObject *)a->resource)) return false;
    PyObject *dict = instance_dict(v);
    if (dict == NULL) return false;
    bool ok = PyDict_GET_SIZE(dict) == 6 && field(dict, "embeddings") == Py_None && field(dict, "data") == Py_None &&
              field(dict, "path") == Py_None && field(dict, "url") == Py_None &&
              is_str_or_none(field(dict, "text")) && is_str_or_none(field(dict, "mimetype"));
    Py_DECREF(dict);
    return ok;
}

static bool field_ok(adder *a, char kind, PyObject *v)
{
    switch (kind) {
    case 's': return is_str(v);
    case 'o': return is_str_or_none(v);
    case 'n': return is_int_or_none(v);
    case 'l': return is_str_list(v);
    case '0': return v == Py_None;
    case 'r': return relationships_ok(a, v);
    case 'm': return resource_ok(a, v);
    default: return v != NULL;
    }
}

static bool fields_ok(adder *a, PyObject *plan, PyObject *dict)
{
    PyObject *names = PyTuple_GET_ITEM(plan, 1), *kinds = PyTuple_GET_ITEM(plan, 2);
    if (PyDict_GET_SIZE(dict) != PyTuple_GET_SIZE(names)) return false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *v = PyDict_GetItemWithError(dict, PyTuple_GET_ITEM(names, i));
        if (!field_ok(a, PyBytes_AS_STRING(kinds)[i], v)) return false;
    }
    return true;
}

static pn_status set_ref(adder *a, pn_bytes ref)
{
    a->ref.len = 0;
    if (ref.len == 0) ref = PN_BYTES("None");
    return pn_buf_append(&a->ref, ref.ptr, ref.len);
}

/* node.ref_doc_id or "None" into a->ref. A copy, since waiting for the lock lets other
 * threads change the node. */
static pn_status source_id(adder *a, PyObject *relationships)
{
    PyObject *info = PyDict_GetItemWithError(relationships, a->source);
    if (info == NULL) return PyErr_Occurred() ? PN_ERR_CALLBACK : set_ref(a, PN_BYTES(""));
    PN_FAIL_IF(!Py_IS_TYPE(info, (PyTypeObject *)a->related), PN_ERR_UNSUPPORTED);
    PyObject *dict = instance_dict(info);
    PN_FAIL_IF(dict == NULL, PN_ERR_UNSUPPORTED);
    PyObject *id = field(dict, "node_id");
    pn_bytes ref;
    pn_status s = PN_ERR_UNSUPPORTED;
    if (is_str(id)) s = pn_py_utf8(id, &a->ref_scratch, &ref) ? set_ref(a, ref) : PN_ERR_CALLBACK;
    Py_DECREF(dict);
    return s;
}

/* ---- the metadata with its four more fields ---- */

enum { NODE_TYPE, DOCUMENT_ID, DOC_ID, REF_DOC_ID, ADDED, NODE_CONTENT = ADDED };
static const char *const added_names[] = {"_node_type", "document_id", "doc_id", "ref_doc_id", "_node_content"};

static int added_field(PyObject *key)
{
    for (int i = 0; i <= NODE_CONTENT; i++)
        if (PyUnicode_CompareWithASCIIString(key, added_names[i]) == 0) return i;
    return -1;
}

static pn_status put_added(adder *a, int which, PyObject *class_name, pn_bytes ref_json)
{
    if (which == NODE_TYPE) return pn_py_encode(class_name, PN_ENCODE_IDENTITY, &a->text);
    return pn_buf_append(&a->text, ref_json.ptr, ref_json.len);
}

static pn_status put_separator(adder *a) { return a->text.len > 1 ? PN_BUF_LIT(&a->text, ", ") : PN_OK; }

/* A value that is not kept is still dumped by the peer first. */
static pn_status check_replaced(adder *a, PyObject *value)
{
    size_t before = a->text.len;
    PN_TRY(pn_py_encode(value, PN_ENCODE_IDENTITY, &a->text));
    bool fine = survives((pn_bytes){a->text.data + before, a->text.len - before});
    a->text.len = before;
    return fine ? PN_OK : PN_ERR_UNSUPPORTED;
}

static pn_status put_member(adder *a, PyObject *key, PyObject *value, PyObject *class_name, pn_bytes ref_json,
                            bool *seen)
{
    PN_FAIL_IF(!PyUnicode_CheckExact(key), PN_ERR_UNSUPPORTED);
    int which = added_field(key);
    if (which >= 0) PN_TRY(check_replaced(a, value));
    if (which == NODE_CONTENT) return PN_OK;
    PN_TRY(put_separator(a));
    PN_TRY(pn_py_encode(key, PN_ENCODE_IDENTITY, &a->text));
    PN_TRY(PN_BUF_LIT(&a->text, ": "));
    if (which < 0) return pn_py_encode(value, PN_ENCODE_IDENTITY, &a->text);
    seen[which] = true;
    return put_added(a, which, class_name, ref_json);
}

static pn_status put_members(adder *a, PyObject *metadata, PyObject *class_name, pn_bytes ref_json)
{
    bool seen[ADDED] = {false};
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    a->text.len = 0;
    PN_TRY(PN_BUF_LIT(&a->text, "{"));
    while (PyDict_Next(metadata, &pos, &key, &value))
        PN_TRY(put_member(a, key, value, class_name, ref_json, seen));
    for (int i = 0; i < ADDED; i++) {
        if (seen[i]) continue;
        PN_TRY(put_separator(a));
        PN_TRY(PN_BUF_LIT(&a->text, "\""));
        PN_TRY(pn_buf_append(&a->text, added_names[i], strlen(added_names[i])));
        PN_TRY(PN_BUF_LIT(&a->text, "\": "));
        PN_TRY(put_added(a, i, class_name, ref_json));
    }
    return PN_BUF_LIT(&a->text, "}");
}

static pn_status make_text(adder *a, PyObject *metadata, PyObject *class_name, pn_bytes ref)
{
    PN_FAIL_IF(metadata == NULL || !PyDict_CheckExact(metadata), PN_ERR_UNSUPPORTED);
    PyObject *ref_str = pn_py_str(ref);
    PN_FAIL_IF(ref_str == NULL, PN_ERR_CALLBACK);
    a->scratch.len = 0;
    pn_status s = pn_py_encode(ref_str, PN_ENCODE_IDENTITY, &a->scratch);
    Py_DECREF(ref_str);
    PN_TRY(s);
    PN_TRY(put_members(a, metadata, class_name, pn_buf_view(&a->scratch)));
    return survives(pn_buf_view(&a->text)) ? PN_OK : PN_ERR_UNSUPPORTED;
}

/* ---- into the table ---- */

static pn_status put_three(adder *a, pn_blob *id_blob, const PyObject *embedding, pn_bytes ref, pn_blob *text)
{
    pn_vec *v = &a->table->vec;
    pn_bytes id = pn_blob_view(id_blob);
    PN_TRY(pn_vector_put_list(a->table, id, id_blob, embedding, &a->floats));
    PN_TRY(pn_vec_put_ref(v, id, id_blob, ref));
    return pn_vec_put_text(v, id, id_blob, text, pn_blob_view(text));
}

static pn_status put_node(adder *a, pn_bytes id, PyObject *embedding, pn_bytes ref)
{
    pn_blob *id_blob = NULL, *text = NULL;
    pn_status s = pn_blob_copy(a->table->vec.alloc, id.ptr, id.len, &id_blob);
    if (s == PN_OK) s = pn_blob_copy(a->table->vec.alloc, a->text.data, a->text.len, &text);
    if (s == PN_OK) {
        Py_INCREF(embedding); /* the node may change while others have the lock */
        pn_vector_lock(a->table);
        s = put_three(a, id_blob, embedding, ref, text);
        pn_vector_unlock(a->table);
        Py_DECREF(embedding);
    }
    pn_blob_unref(id_blob);
    pn_blob_unref(text);
    return s;
}

static pn_status add_fields(adder *a, PyObject *plan, PyObject *dict)
{
    PN_FAIL_IF(!fields_ok(a, plan, dict), PN_ERR_UNSUPPORTED);
    a->floats.len = 0;
    PyObject *embedding = field(dict, "embedding");
    if (embedding == NULL || !pn_vector_floats(embedding, &a->floats))
        return PyErr_Occurred() ? PN_ERR_CALLBACK : PN_ERR_UNSUPPORTED;
    PN_TRY(source_id(a, field(dict, "relationships")));
    pn_bytes id;
    PN_FAIL_IF(!pn_py_utf8(field(dict, "id_"), &a->id_scratch, &id), PN_ERR_CALLBACK);
    PN_TRY(make_text(a, field(dict, "metadata"), PyTuple_GET_ITEM(plan, 0), pn_buf_view(&a->ref)));
    return put_node(a, id, embedding, pn_buf_view(&a->ref));
}

static pn_status add_node(adder *a, PyObject *node)
{
    PyObject *plan = PyDict_GetItemWithError(a->plans, (PyObject *)Py_TYPE(node));
    PN_FAIL_IF(plan == NULL, PyErr_Occurred() ? PN_ERR_CALLBACK : PN_ERR_UNSUPPORTED);
    PyObject *dict = instance_dict(node);
    PN_FAIL_IF(dict == NULL, PN_ERR_UNSUPPORTED);
    pn_status s = add_fields(a, plan, dict);
    Py_DECREF(dict);
    return s;
}

static bool unpack_types(adder *a, PyObject *types)
{
    return PyArg_ParseTuple(types, "OOOOO", &a->related, &a->relationship, &a->object_type, &a->resource, &a->source);
}

static pn_status add_all(adder *a, PyObject *nodes, Py_ssize_t *i)
{
    for (; *i < PyList_GET_SIZE(nodes); ++*i) {
        PyObject *node = Py_NewRef(PyList_GET_ITEM(nodes, *i));
        int gc = pn_gc_pause(); /* what is borrowed from the node must not change meanwhile */
        pn_status s = add_node(a, node);
        pn_gc_resume(gc);
        Py_DECREF(node);
        PN_TRY(s);
    }
    return PN_OK;
}

const char pn_vector_add_nodes_doc[] =
    "add_nodes(nodes, start, plans, types) -> int: adds nodes[start:] until one needs the\n"
    "peer's own code; returns its index, or len(nodes).";

PyObject *pn_vector_add_nodes(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4 || !PyList_Check(args[0]) || !PyDict_Check(args[2]) || !PyTuple_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "add_nodes(list, int, dict, tuple)");
        return NULL;
    }
    adder a = {.table = (vector_object *)self, .plans = args[2]};
    Py_ssize_t i = PyLong_AsSsize_t(args[1]);
    if ((i < 0 && PyErr_Occurred()) || !unpack_types(&a, args[3])) return NULL;
    pn_buf *bufs[] = {&a.scratch, &a.text, &a.floats, &a.id_scratch, &a.ref_scratch, &a.ref};
    for (size_t k = 0; k < sizeof bufs / sizeof *bufs; k++) pn_buf_init(bufs[k], &pn_alloc_system);
    pn_status s = i < 0 ? PN_ERR_INVALID : add_all(&a, args[0], &i);
    for (size_t k = 0; k < sizeof bufs / sizeof *bufs; k++) pn_buf_clear(bufs[k]);
    if (s != PN_OK && s != PN_ERR_UNSUPPORTED) return pn_py_raise(s, NULL, NULL);
    return PyLong_FromSsize_t(i);
}
