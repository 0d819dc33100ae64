#include "py/node_decode.h"

#include "py/node_values.h"

/* ---- models ---- */

static pn_status read_field(pn_node_decoder *n, pn_read_kind kind, PyObject **out);

/* Keys that are no fields: class_name, and the copy of its text that a document has. */
static pn_status read_other(pn_node_decoder *n, pn_bytes key, const pn_node_reader *top)
{
    pn_json_str s;
    bool name = pn_bytes_equal(key, PN_BYTES("class_name"));
    bool text = top && top->flags & PN_READER_TEXT && pn_bytes_equal(key, PN_BYTES("text"));
    PN_FAIL_IF((!name && !text) || pn_json_peek(&n->d.r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_string(&n->d.r, &s));
    if (!top) return PN_OK;
    pn_json_str *kept = name ? &n->class_name : &n->text;
    PN_FAIL_IF(kept->ptr != NULL, PN_ERR_UNSUPPORTED);
    *kept = s;
    return PN_OK;
}

/* Whether the field that is expected next stands there; then the reader is at its value. */
static bool next_is(const pn_node_model *m, Py_ssize_t i, pn_json_reader *r)
{
    if (i >= m->count || m->prefix[i].len == 0) return false;
    size_t skip = r->first ? 2 : 0;
    return pn_steps_over(r, (const uint8_t *)m->prefix[i].text + skip, m->prefix[i].len - skip);
}

static pn_status read_value(pn_node_decoder *n, const pn_node_model *m, Py_ssize_t i, pn_object_values *values)
{
    size_t object = values->object;
    PyObject **out = &values->of[i];
    PN_FAIL_IF(*out != NULL, PN_ERR_UNSUPPORTED); /* a repeated key */
    n->object = object;
    n->place = object < PN_OBJECTS_KEPT && i < PN_FIELDS_KEPT ? &n->readers->kept.fields[object][i] : NULL;
    n->last.ptr = NULL;
    n->again = false;
    if (i == m->id && pn_node_known_id(n, out)) return PN_OK;
    PN_TRY(read_field(n, (pn_read_kind)m->kinds[i], out));
    if (n->again && PyUnicode_CheckExact(*out)) values->again |= UINT32_C(1) << i;
    if (m == &n->readers->resource && i == n->readers->resource_text) n->media = n->last;
    return PN_OK;
}

/* What stands behind the fields of an object inside a node, up to its end, is a class's name
 * that says nothing: the same text is stepped over. */
static bool tail_again(pn_node_decoder *n, const pn_node_model *m, size_t object)
{
    const pn_kept_tail *k = object < PN_OBJECTS_KEPT ? &n->readers->kept.tails[object] : NULL;
    if (k == NULL || k->model != m || !pn_steps_over(&n->d.r, k->raw, k->len)) return false;
    n->d.r.depth--;
    return true;
}

static void keep_tail(pn_node_decoder *n, const pn_node_model *m, size_t object, const uint8_t *tail)
{
    pn_kept_tail *k = object < PN_OBJECTS_KEPT ? &n->readers->kept.tails[object] : NULL;
    size_t len = tail ? (size_t)(n->d.r.p - tail) : 0;
    if (k == NULL || len == 0 || len > PN_PIECE_KEPT) return;
    k->model = m;
    k->len = (uint8_t)len;
    memcpy(k->raw, tail, len);
}

/* `top` is the reader when the object is a node, NULL for what stands inside one. */
static pn_status read_fields(pn_node_decoder *n, const pn_node_model *m, const pn_node_reader *top, pn_object_values *values)
{
    const uint8_t *tail = NULL; /* behind the field read last */
    values->object = n->objects++;
    PN_TRY(pn_json_object_begin(&n->d.r));
    for (Py_ssize_t i = 0;; i++) {
        if (i == m->count && !top && tail_again(n, m, values->object)) return PN_OK;
        if (!next_is(m, i, &n->d.r)) {
            pn_json_str key;
            bool more;
            PN_TRY(pn_json_object_next(&n->d.r, &key, &more));
            if (!more) {
                if (!top && i == m->count) keep_tail(n, m, values->object, tail);
                return PN_OK;
            }
            PN_FAIL_IF(key.has_escape, PN_ERR_UNSUPPORTED);
            pn_bytes text = {key.ptr, key.len};
            Py_ssize_t found = pn_node_field_index(m, text);
            if (found < 0) {
                PN_TRY(read_other(n, text, top));
                i--; /* the next field is still to come */
                continue;
            }
            i = found;
        }
        PN_TRY(read_value(n, m, i, values));
        tail = n->d.r.p;
        if (top && i == top->resource) n->resource = n->media;
    }
}

static void clear_values(const pn_node_model *m, pn_object_values *values)
{
    for (Py_ssize_t i = 0; i < m->count; i++) Py_XDECREF(values->of[i]);
}

static pn_status read_model(pn_node_decoder *n, const pn_node_model *m, PyObject **out)
{
    pn_object_values values = {.object = 0};
    PN_FAIL_IF(pn_json_peek(&n->d.r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    pn_status s = read_fields(n, m, NULL, &values);
    if (s == PN_OK) s = pn_node_instance(n, m, &values, out);
    clear_values(m, &values);
    return s;
}

static pn_status read_related(pn_node_decoder *n, PyObject **out) { return read_model(n, &n->readers->related, out); }

static pn_status read_resource(pn_node_decoder *n, PyObject **out)
{
    PN_FAIL_IF(n->readers->resource.type == NULL, PN_ERR_UNSUPPORTED);
    n->media.ptr = NULL;
    return read_model(n, &n->readers->resource, out);
}

/* ---- relationships ---- */

#if PY_VERSION_HEX < 0x030d0000
/* The hash of an enum member is Python code, so it is asked for once, by the dict that
 * the members came in. */
static int put_member(PyObject *dict, PyObject *member, Py_hash_t hash, PyObject *value)
{
    return _PyDict_SetItem_KnownHash(dict, member, value, hash);
}
#else
static int put_member(PyObject *dict, PyObject *member, Py_hash_t hash, PyObject *value)
{
    (void)hash;
    return PyDict_SetItem(dict, member, value);
}
#endif

static pn_status put_relationship(pn_node_decoder *n, PyObject *dict, const pn_json_str *key, PyObject *value)
{
    PyObject *text = pn_py_decode_key(&n->d, key);
    PyObject *pair = text ? PyDict_GetItemWithError(n->readers->relationships, text) : NULL; /* (member, hash) */
    Py_XDECREF(text);
    if (pair == NULL) return PyErr_Occurred() ? PN_ERR_CALLBACK : PN_ERR_UNSUPPORTED;
    Py_hash_t hash = PyLong_AsSsize_t(PyTuple_GET_ITEM(pair, 1));
    return put_member(dict, PyTuple_GET_ITEM(pair, 0), hash, value) < 0 ? PN_ERR_CALLBACK : PN_OK;
}

static pn_status fill_relationships(pn_node_decoder *n, PyObject *dict)
{
    PN_TRY(pn_json_object_begin(&n->d.r));
    for (;;) {
        pn_json_str key;
        bool more;
        PyObject *value = NULL;
        PN_TRY(pn_json_object_next(&n->d.r, &key, &more));
        if (!more) return PN_OK;
        PN_TRY(pn_json_peek(&n->d.r) == PN_JSON_ARRAY ? pn_node_list(n, read_related, &value) : read_related(n, &value));
        pn_status s = put_relationship(n, dict, &key, value);
        Py_DECREF(value);
        PN_TRY(s);
    }
}

static pn_status read_relationships(pn_node_decoder *n, PyObject **out)
{
    PyObject *dict = PyDict_New();
    PN_FAIL_IF(dict == NULL, PN_ERR_CALLBACK);
    pn_status s = fill_relationships(n, dict);
    if (s == PN_OK)
        *out = dict;
    else
        Py_DECREF(dict);
    return s;
}

/* ---- dispatch ---- */

static pn_status read_field(pn_node_decoder *n, pn_read_kind kind, PyObject **out)
{
    pn_json_type type = pn_node_peek(&n->d.r);
    if (type == PN_JSON_NULL)
        switch (kind) {
        case PN_READ_NULL:
        case PN_READ_STR_OR_NULL:
        case PN_READ_INT_OR_NULL:
        case PN_READ_FLOATS_OR_NULL:
        case PN_READ_RESOURCE_OR_NULL: return pn_node_null(n, out);
        default: return PN_ERR_UNSUPPORTED;
        }
    switch (kind) {
    case PN_READ_STR:
    case PN_READ_STR_OR_NULL: return type == PN_JSON_STRING ? pn_node_str(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_INT_OR_NULL: return type == PN_JSON_NUMBER ? pn_node_int(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_FLOATS_OR_NULL: return type == PN_JSON_ARRAY ? pn_node_floats(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_STRS: return type == PN_JSON_ARRAY ? pn_node_strs(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_FLAT: return type == PN_JSON_OBJECT ? pn_node_flat(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_RELATIONSHIPS:
        return type == PN_JSON_OBJECT ? read_relationships(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_RESOURCE_OR_NULL: return read_resource(n, out);
    case PN_READ_NULL: break;
    }
    return PN_ERR_UNSUPPORTED;
}

/* ---- entries ---- */

/* Document.__init__ takes "text" away when it is the text of text_resource, which it was
 * dumped from, and ignores it when empty; else it warns or converts. */
static bool text_is_copy(const pn_node_decoder *n)
{
    if (n->text.ptr == NULL || n->text.len == 0) return true;
    return n->resource.ptr != NULL && pn_bytes_equal((pn_bytes){n->text.ptr, n->text.len}, n->resource);
}

/* ImageNode.__init__ makes image_mimetype from image_path when there is only that. */
static bool mimetype_is_given(const pn_node_reader *r, const pn_object_values *values)
{
    PyObject *path = values->of[r->path], *mimetype = values->of[r->mimetype];
    return path == NULL || path == Py_None ||
           (mimetype != NULL && mimetype != Py_None && PyUnicode_GET_LENGTH(mimetype) > 0);
}

static bool names_class(const pn_node_decoder *n, const pn_node_reader *r)
{
    if (r->class_name.ptr == NULL) return true;
    return n->class_name.ptr != NULL && pn_bytes_equal((pn_bytes){n->class_name.ptr, n->class_name.len}, r->class_name);
}

static pn_status read_data(pn_node_decoder *n, const pn_node_reader *r, PyObject **node)
{
    pn_object_values values = {.object = 0};
    PN_FAIL_IF(pn_json_peek(&n->d.r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    pn_status s = read_fields(n, &r->model, r, &values);
    if (s == PN_OK && (!names_class(n, r) || !text_is_copy(n) ||
                       (r->flags & PN_READER_IMAGE && !mimetype_is_given(r, &values))))
        s = PN_ERR_UNSUPPORTED;
    if (s == PN_OK) s = pn_node_instance(n, &r->model, &values, node);
    clear_values(&r->model, &values);
    return s;
}

static pn_node_reader *reader_of(pn_node_readers *readers, pn_bytes type_text)
{
    for (size_t i = 0; i < readers->count; i++) {
        pn_node_reader *r = &readers->readers[i];
        if (!pn_bytes_equal(r->type_text, type_text)) continue;
        if (r->holds < 0) r->holds = pn_watch_still_holds(r->watch, &r->memo);
        return r->holds ? r : NULL;
    }
    return NULL;
}

static pn_status read_type(pn_json_reader *r, pn_bytes *type)
{
    pn_json_str s;
    PN_FAIL_IF(pn_json_peek(r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_string(r, &s));
    PN_FAIL_IF(s.has_escape, PN_ERR_UNSUPPORTED);
    *type = (pn_bytes){s.ptr, s.len};
    return PN_OK;
}

/* The type stands behind the data. An entry that we or the peer wrote ends in
 * , "__type__": "1"}
 * so a guess costs nothing; it is compared with what is read there in the end. */
static bool guess_type(pn_bytes entry, pn_bytes *type)
{
    static const char key[] = ", \"__type__\": \"";
    enum { KEY = sizeof key - 1 };
    if (entry.len < KEY + 3 || entry.ptr[entry.len - 1] != '}' || entry.ptr[entry.len - 2] != '"') return false;
    const uint8_t *end = entry.ptr + entry.len - 2, *p = end;
    while (p > entry.ptr + KEY && p[-1] != '"') p--;
    *type = (pn_bytes){p, (size_t)(end - p)};
    return memcmp(p - KEY, key, KEY) == 0;
}

/* Skips the data to get there. */
static pn_status find_type(pn_bytes entry, pn_bytes *type)
{
    pn_json_reader r;
    pn_json_reader_init(&r, entry);
    PN_FAIL_IF(pn_json_peek(&r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&r));
    for (;;) {
        pn_json_str key;
        bool more;
        PN_TRY(pn_json_object_next(&r, &key, &more));
        PN_FAIL_IF(!more, PN_ERR_UNSUPPORTED);
        if (!key.has_escape && pn_bytes_equal((pn_bytes){key.ptr, key.len}, PN_BYTES("__type__")))
            return read_type(&r, type);
        PN_TRY(pn_json_skip(&r, NULL));
    }
}

/* {"__data__": {...}, "__type__": "..."} in either order, and nothing else. */
static pn_status read_entry(pn_node_decoder *n, const pn_node_reader *r, PyObject **node)
{
    bool typed = false;
    PN_FAIL_IF(pn_json_peek(&n->d.r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&n->d.r));
    for (;;) {
        pn_json_str k;
        bool more;
        PN_TRY(pn_json_object_next(&n->d.r, &k, &more));
        if (!more) return typed && *node ? pn_json_end(&n->d.r) : PN_ERR_UNSUPPORTED;
        pn_bytes key = {k.ptr, k.len}, type;
        if (!typed && pn_bytes_equal(key, PN_BYTES("__type__"))) {
            PN_TRY(read_type(&n->d.r, &type));
            PN_FAIL_IF(!pn_bytes_equal(type, r->type_text), PN_ERR_UNSUPPORTED);
            typed = true;
        } else {
            PN_FAIL_IF(*node || !pn_bytes_equal(key, PN_BYTES("__data__")), PN_ERR_UNSUPPORTED);
            PN_TRY(read_data(n, r, node));
        }
    }
}

pn_status pn_node_decode(pn_node_readers *readers, pn_bytes entry, const pn_known_ids *known, PyObject **node)
{
    PN_FAIL_IF(readers == NULL, PN_ERR_UNSUPPORTED);
    pn_bytes type;
    if (!guess_type(entry, &type)) PN_TRY(find_type(entry, &type));
    pn_node_reader *r = reader_of(readers, type);
    PN_FAIL_IF(r == NULL, PN_ERR_UNSUPPORTED);
    pn_node_decoder n = {.readers = readers, .known = known};
    pn_py_decoder_init(&n.d, entry, &readers->keys);
    PyObject *made = NULL;
    int gc = pn_gc_pause();
    pn_status s = read_entry(&n, r, &made);
    pn_py_decoder_clear(&n.d);
    pn_gc_resume(gc);
    if (s == PN_OK)
        *node = made;
    else
        Py_XDECREF(made);
    if (s == PN_OK || s == PN_ERR_CALLBACK) return s;
    return s == PN_ERR_NOMEM ? (PyErr_NoMemory(), PN_ERR_CALLBACK) : PN_ERR_UNSUPPORTED;
}

pn_status pn_node_decode_cell(pn_node_readers *readers, const pn_cell *cell, const pn_known_ids *known, PyObject **node)
{
    PN_FAIL_IF(cell->kind != PN_CELL_JSON, PN_ERR_UNSUPPORTED);
    pn_bytes entry = pn_cell_span(cell);
    pn_blob *blob = pn_blob_ref(cell->span.blob);
    pn_status s = pn_node_decode(readers, entry, known, node);
    pn_blob_unref(blob);
    return s;
}

void pn_node_readers_recheck(pn_node_readers *readers)
{
    for (size_t i = 0; readers != NULL && i < readers->count; i++) readers->readers[i].holds = -1;
}

/* ---- functions ---- */

/* Once: another thread may be decoding with those there are. */
static PyObject *core_set_node_readers(PyObject *module, PyObject *owner)
{
    pn_module_state *state = pn_state_of(module);
    if (state->node_readers != NULL) return PyErr_Format(PyExc_RuntimeError, "node readers are set once");
    state->node_readers = pn_node_readers_new(owner);
    return state->node_readers ? Py_NewRef(Py_None) : NULL;
}

static PyObject *core_decode_node(PyObject *module, PyObject *args)
{
    PyObject *text, *owner = Py_None, *node = NULL;
    if (!PyArg_ParseTuple(args, "O|O:decode_node", &text, &owner)) return NULL;
    pn_module_state *state = pn_state_of(module);
    pn_node_readers *readers = owner == Py_None ? state->node_readers : pn_node_readers_new(owner);
    if (readers == NULL && PyErr_Occurred()) return NULL;
    pn_blob *blob = pn_py_blob(state, text);
    pn_status s = PN_ERR_CALLBACK;
    if (blob != NULL) {
        pn_node_readers_recheck(readers);
        s = pn_node_decode(readers, pn_blob_view(blob), NULL, &node);
    }
    pn_blob_unref(blob);
    if (owner != Py_None) pn_node_readers_free(readers);
    return s == PN_ERR_UNSUPPORTED ? Py_NewRef(Py_None) : node;
}

static PyMethodDef functions[] = {
    {"set_node_readers", core_set_node_readers, METH_O,
     "set_node_readers((relationships, related model, resource model or None, readers))"},
    {"decode_node", core_decode_node, METH_VARARGS,
     "decode_node(text[, readers]) -> node | None: of a docstore entry's text; None: no fast path for it."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_node_decode(PyObject *module) { return PyModule_AddFunctions(module, functions); }
