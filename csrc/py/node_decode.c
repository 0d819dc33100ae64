#include "py/node_decode.h"

#include "py/node_model.h"

typedef struct {
    pn_py_decoder d;
    pn_node_readers *readers;
    /* raw strings; ptr NULL: absent */
    pn_json_str last;             /* read last */
    pn_json_str media;            /* "text" of the MediaResource read last */
    pn_json_str resource;         /* that of text_resource */
    pn_json_str class_name, text; /* members of __data__ that are no fields */
    size_t objects;               /* begun so far */
    size_t object;                /* the one that is being read */
    size_t lists;                 /* of strings, begun so far */
    pn_kept_piece *place;            /* of the next string, or NULL */
    bool again;                      /* the string read last is the one that stood in its place before */
} node_decoder;

/* What is read for one object before it is made. */
typedef struct {
    size_t object;   /* the how manyth of its node */
    uint32_t again;  /* bit i: field i holds the string that it held in the node before */
    PyObject *of[PN_MODEL_MAX];
} object_values;

static pn_status object_of(PyObject *made) { return made ? PN_OK : PN_ERR_CALLBACK; }

/* ---- values of fields ---- */

static pn_status read_null(node_decoder *n, PyObject **out)
{
    *out = Py_NewRef(Py_None);
    return pn_json_literal(&n->d.r);
}

/* As pn_json_peek, at once where a string begins, as most values do. */
static inline pn_json_type peek(pn_json_reader *r)
{
    return r->p < r->end && *r->p == '"' ? PN_JSON_STRING : pn_json_peek(r);
}

static inline bool same8(const uint8_t *a, const uint8_t *b)
{
    uint64_t x, y;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return x == y;
}

/* memcmp for few bytes, without a call: by eights, the last ones overlapping. */
static inline bool same_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
    if (n < 8) return memcmp(a, b, n) == 0;
    size_t i = 0;
    for (; i + 8 < n; i += 8)
        if (!same8(a + i, b + i)) return false;
    return same8(a + n - 8, b + n - 8);
}

static bool steps_over(pn_json_reader *r, const uint8_t *text, size_t len)
{
    if ((size_t)(r->end - r->p) < len || !same_bytes(r->p, text, len)) return false;
    r->p += len;
    r->first = false;
    return true;
}

/* Takes str: what the text from start to the reader's place means. */
static PyObject *keep_piece(pn_kept_piece *k, const pn_json_reader *r, const uint8_t *start, PyObject *str)
{
    size_t len = (size_t)(r->p - start);
    if (k != NULL && str != NULL && len <= PN_PIECE_KEPT) {
        Py_XSETREF(k->str, Py_NewRef(str));
        k->len = (uint8_t)len;
        memcpy(k->raw, start, len);
    }
    return str;
}

static pn_status read_str(node_decoder *n, PyObject **out)
{
    pn_json_reader *r = &n->d.r;
    const uint8_t *start = r->p;
    pn_kept_piece *k = n->place;
    if (k != NULL && k->str != NULL && steps_over(r, k->raw, k->len)) {
        n->last.ptr = start + 1;
        n->last.len = k->len - 2u;
        n->again = true;
        *out = Py_NewRef(k->str);
        return PN_OK;
    }
    PN_TRY(pn_json_string(r, &n->last));
    *out = keep_piece(k, r, start, pn_py_decode_chars(&n->d, &n->last));
    return object_of(*out);
}

/* Longer ones may be beyond what pydantic or Python takes. */
static pn_status read_int(node_decoder *n, PyObject **out)
{
    enum { SAFE_DIGITS = 18 };
    pn_json_num num;
    PN_TRY(pn_json_number(&n->d.r, &num));
    PN_FAIL_IF(!num.is_int || num.len >= SAFE_DIGITS, PN_ERR_UNSUPPORTED);
    long long v = 0;
    bool negative = num.ptr[0] == '-';
    for (size_t i = negative; i < num.len; i++) v = v * 10 + (num.ptr[i] - '0');
    *out = PyLong_FromLongLong(negative ? -v : v);
    return object_of(*out);
}

static pn_status read_float(node_decoder *n, PyObject **out)
{
    pn_json_num num;
    double v;
    PN_FAIL_IF(pn_json_peek(&n->d.r) != PN_JSON_NUMBER, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_number(&n->d.r, &num));
    PN_FAIL_IF(num.is_int, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_num_double(&num, &v));
    *out = PyFloat_FromDouble(v);
    return object_of(*out);
}

static pn_status read_str_item(node_decoder *n, PyObject **out)
{
    PN_FAIL_IF(peek(&n->d.r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    n->place = NULL;
    return read_str(n, out);
}

typedef pn_status (*read_one)(node_decoder *n, PyObject **out);

/* Takes item. */
static pn_status append(PyObject *list, PyObject *item)
{
    int failed = PyList_Append(list, item);
    Py_DECREF(item);
    return failed ? PN_ERR_CALLBACK : PN_OK;
}

static pn_status fill_list(node_decoder *n, read_one item, PyObject *list)
{
    PN_TRY(pn_json_array_begin(&n->d.r));
    for (;;) {
        bool more;
        PyObject *value = NULL;
        PN_TRY(pn_json_array_next(&n->d.r, &more));
        if (!more) return PN_OK;
        PN_TRY(item(n, &value));
        PN_TRY(append(list, value));
    }
}

static pn_status read_list(node_decoder *n, read_one item, PyObject **out)
{
    PyObject *list = PyList_New(0);
    PN_FAIL_IF(list == NULL, PN_ERR_CALLBACK);
    pn_status s = fill_list(n, item, list);
    if (s == PN_OK)
        *out = list;
    else
        Py_DECREF(list);
    return s;
}

static pn_kept_piece *member_place(pn_kept_piece places[PN_OBJECTS_KEPT][PN_VALUES_KEPT], size_t object, size_t i)
{
    return i < PN_VALUES_KEPT && object < PN_OBJECTS_KEPT ? &places[object][i] : NULL;
}

static bool ends_number(uint8_t c) { return c == ',' || c == '}'; }

static pn_status read_kept_number(node_decoder *n, PyObject **out)
{
    pn_json_reader *r = &n->d.r;
    const uint8_t *start = r->p;
    pn_kept_piece *k = n->place;
    if (k != NULL && k->str != NULL && (size_t)(r->end - start) > k->len && ends_number(start[k->len]) &&
        steps_over(r, k->raw, k->len)) {
        *out = Py_NewRef(k->str);
        return PN_OK;
    }
    *out = pn_py_decode_value(&n->d);
    keep_piece(*out != NULL && PyLong_CheckExact(*out) ? k : NULL, r, start, *out);
    return object_of(*out);
}

static pn_status read_scalar(node_decoder *n, size_t object, size_t i, PyObject **out)
{
    pn_json_type type = peek(&n->d.r);
    n->place = member_place(n->readers->kept.values, object, i);
    if (type == PN_JSON_STRING) return read_str(n, out);
    PN_FAIL_IF(type == PN_JSON_OBJECT || type == PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    if (type == PN_JSON_NUMBER) return read_kept_number(n, out);
    *out = pn_py_decode_value(&n->d);
    return object_of(*out);
}

/* The next key, with what stands around it; NULL at the end. */
static pn_status read_key(node_decoder *n, pn_kept_piece *k, PyObject **name)
{
    pn_json_reader *r = &n->d.r;
    pn_json_str key;
    bool more;
    if (k != NULL && k->str != NULL && steps_over(r, k->raw, k->len)) {
        *name = Py_NewRef(k->str);
        return PN_OK;
    }
    const uint8_t *start = r->p;
    *name = NULL;
    PN_TRY(pn_json_object_next(r, &key, &more));
    if (!more) return PN_OK;
    pn_json_peek(r); /* steps to the value */
    *name = keep_piece(k, r, start, pn_py_decode_key(&n->d, &key));
    return object_of(*name);
}

/* Names and values of one metadata object, before there is a dict of them. */
typedef struct {
    size_t len;
    PyObject *names[PN_VALUES_KEPT], *values[PN_VALUES_KEPT];
    PyObject *dict; /* of those and all further ones, once there is no room here */
} flat_members;

static pn_status put_members(const flat_members *f, PyObject *dict)
{
    for (size_t i = 0; i < f->len; i++)
        PN_FAIL_IF(PyDict_SetItem(dict, f->names[i], f->values[i]) < 0, PN_ERR_CALLBACK);
    return PN_OK;
}

/* Takes name and value. */
static pn_status add_member(flat_members *f, PyObject *name, PyObject *value)
{
    if (f->dict == NULL && f->len < PN_VALUES_KEPT) {
        f->names[f->len] = name;
        f->values[f->len++] = value;
        return PN_OK;
    }
    pn_status s = PN_OK;
    if (f->dict == NULL) s = (f->dict = PyDict_New()) ? put_members(f, f->dict) : PN_ERR_CALLBACK;
    if (s == PN_OK && PyDict_SetItem(f->dict, name, value) < 0) s = PN_ERR_CALLBACK;
    Py_DECREF(name);
    Py_DECREF(value);
    return s;
}

static pn_status read_members(node_decoder *n, flat_members *f)
{
    size_t object = n->object;
    PN_TRY(pn_json_object_begin(&n->d.r));
    for (size_t i = 0;; i++) {
        PyObject *name, *value = NULL;
        PN_TRY(read_key(n, member_place(n->readers->kept.keys, object, i), &name));
        if (name == NULL) return PN_OK;
        pn_status s = read_scalar(n, object, i, &value);
        if (s != PN_OK) {
            Py_XDECREF(value);
            Py_DECREF(name);
            return s;
        }
        PN_TRY(add_member(f, name, value));
    }
}

static bool begins_as(const flat_members *f, const pn_kept_flat *k)
{
    return k != NULL && k->dict != NULL && k->len == f->len && memcmp(k->names, f->names, f->len * sizeof *f->names) == 0;
}

/* A copy of the dict made last, with the values that differ. */
static PyObject *dict_like(const flat_members *f, const pn_kept_flat *k)
{
    PyObject *dict = PyDict_Copy(k->dict);
    for (size_t i = 0; dict != NULL && i < f->len; i++)
        if (f->values[i] != k->values[i] && PyDict_SetItem(dict, f->names[i], f->values[i]) < 0) Py_CLEAR(dict);
    return dict;
}

static pn_status keep_flat(const flat_members *f, PyObject *dict, pn_kept_flat *k)
{
    if (k == NULL || f->len == 0 || (size_t)PyDict_GET_SIZE(dict) != f->len) return PN_OK; /* a repeated key */
    PyObject *copy = PyDict_Copy(dict);
    PN_FAIL_IF(copy == NULL, PN_ERR_CALLBACK);
    Py_XSETREF(k->dict, copy);
    k->len = f->len;
    memcpy(k->names, f->names, f->len * sizeof *f->names);
    memcpy(k->values, f->values, f->len * sizeof *f->values);
    return PN_OK;
}

static pn_status dict_of(const flat_members *f, pn_kept_flat *k, PyObject **out)
{
    if (begins_as(f, k)) {
        *out = dict_like(f, k);
        return object_of(*out);
    }
    PyObject *dict = PyDict_New();
    PN_FAIL_IF(dict == NULL, PN_ERR_CALLBACK);
    pn_status s = put_members(f, dict);
    if (s == PN_OK) s = keep_flat(f, dict, k);
    if (s == PN_OK)
        *out = dict;
    else
        Py_DECREF(dict);
    return s;
}

static pn_status make_flat(node_decoder *n, PyObject **out)
{
    flat_members f = {.len = 0, .dict = NULL};
    pn_kept_flat *k = n->object < PN_OBJECTS_KEPT ? &n->readers->kept.flats[n->object] : NULL;
    pn_status s = read_members(n, &f);
    if (s == PN_OK && f.dict == NULL) s = dict_of(&f, k, &f.dict);
    for (size_t i = 0; i < f.len; i++) {
        Py_DECREF(f.names[i]);
        Py_DECREF(f.values[i]);
    }
    if (s == PN_OK)
        *out = f.dict;
    else
        Py_XDECREF(f.dict);
    return s;
}

static pn_status read_dict(node_decoder *n, pn_status (*fill)(node_decoder *, PyObject *), PyObject **out)
{
    PyObject *dict = PyDict_New();
    PN_FAIL_IF(dict == NULL, PN_ERR_CALLBACK);
    pn_status s = fill(n, dict);
    if (s == PN_OK)
        *out = dict;
    else
        Py_DECREF(dict);
    return s;
}

static PyObject *copy_of(PyObject *value)
{
    return PyDict_CheckExact(value) ? PyDict_Copy(value) : PyList_GetSlice(value, 0, PyList_GET_SIZE(value));
}

/* Remembers the text, and at the second time what was made of it. */
static pn_status keep_whole(pn_kept_whole *k, const uint8_t *start, size_t len, bool again, PyObject *value)
{
    if (again) {
        Py_XSETREF(k->value, copy_of(value));
        return object_of(k->value);
    }
    k->len = 0;
    Py_CLEAR(k->value);
    if (len < PN_WHOLE_WORTH || len > PN_WHOLE_KEPT) return PN_OK;
    memcpy(k->raw, start, len);
    k->len = len;
    return PN_OK;
}

/* What `make` reads, or a copy of what stood in that place before. */
static pn_status read_whole(node_decoder *n, size_t place, pn_status (*make)(node_decoder *, PyObject **),
                            PyObject **out)
{
    pn_json_reader *r = &n->d.r;
    pn_kept_whole *k = place < PN_OBJECTS_KEPT + PN_LISTS_KEPT ? &n->readers->kept.wholes[place] : NULL;
    const uint8_t *start = r->p;
    bool again = k && k->len && (size_t)(r->end - start) >= k->len && memcmp(start, k->raw, k->len) == 0;
    if (again && k->value != NULL) {
        r->p += k->len;
        r->first = false;
        *out = copy_of(k->value);
        return object_of(*out);
    }
    PN_TRY(make(n, out));
    pn_status s = k ? keep_whole(k, start, (size_t)(r->p - start), again, *out) : PN_OK;
    if (s != PN_OK) Py_CLEAR(*out);
    return s;
}

static pn_status make_strs(node_decoder *n, PyObject **out) { return read_list(n, read_str_item, out); }

static pn_status read_flat(node_decoder *n, PyObject **out)
{
    return read_whole(n, n->object < PN_OBJECTS_KEPT ? n->object : SIZE_MAX, make_flat, out);
}

static pn_status read_strs(node_decoder *n, PyObject **out) { return read_whole(n, PN_OBJECTS_KEPT + n->lists++, make_strs, out); }

/* ---- models ---- */

static pn_status read_field(node_decoder *n, pn_read_kind kind, PyObject **out);

/* Keys that are no fields: class_name, and the copy of its text that a document has. */
static pn_status read_other(node_decoder *n, pn_bytes key, const pn_node_reader *top)
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
    return steps_over(r, (const uint8_t *)m->prefix[i].text + skip, m->prefix[i].len - skip);
}

static pn_status read_value(node_decoder *n, const pn_node_model *m, Py_ssize_t i, object_values *values)
{
    size_t object = values->object;
    PyObject **out = &values->of[i];
    PN_FAIL_IF(*out != NULL, PN_ERR_UNSUPPORTED); /* a repeated key */
    n->object = object;
    n->place = object < PN_OBJECTS_KEPT && i < PN_FIELDS_KEPT ? &n->readers->kept.fields[object][i] : NULL;
    n->last.ptr = NULL;
    n->again = false;
    PN_TRY(read_field(n, (pn_read_kind)m->kinds[i], out));
    if (n->again && PyUnicode_CheckExact(*out)) values->again |= UINT32_C(1) << i;
    if (m == &n->readers->resource && i == n->readers->resource_text) n->media = n->last;
    return PN_OK;
}

/* `top` is the reader when the object is a node, NULL for what stands inside one. */
static pn_status read_fields(node_decoder *n, const pn_node_model *m, const pn_node_reader *top, object_values *values)
{
    values->object = n->objects++;
    PN_TRY(pn_json_object_begin(&n->d.r));
    for (Py_ssize_t i = 0;; i++) {
        if (!next_is(m, i, &n->d.r)) {
            pn_json_str key;
            bool more;
            PN_TRY(pn_json_object_next(&n->d.r, &key, &more));
            if (!more) return PN_OK;
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
        if (top && i == top->resource) n->resource = n->media;
    }
}

/* The dict that an instance's begins as, and the values in it: those that stood in this
 * place before, as far as they cannot change, or the defaults. */
static pn_kept_model *begun(node_decoder *n, const pn_node_model *m, size_t object)
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
static pn_status fill_instance(const pn_node_model *m, pn_kept_model *k, object_values *values, PyObject *dict, bool *all)
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
static PyObject *fields_set(const pn_node_model *m, const object_values *values, bool all)
{
    if (all && m->full_set != NULL) return PySet_New(m->full_set);
    PyObject *set = PySet_New(NULL);
    for (Py_ssize_t i = 0; set != NULL && i < m->count; i++) {
        if (values->of[i] == NULL) continue;
        if (PySet_Add(set, PyTuple_GET_ITEM(m->names, i)) < 0) Py_CLEAR(set);
    }
    return set;
}

static int set_slot(PyObject *descriptor, PyObject *object, PyObject *value)
{
    return descriptor ? Py_TYPE(descriptor)->tp_descr_set(descriptor, object, value) : 0;
}

static PyObject *instance(const pn_node_model *m, PyObject *dict, PyObject *set)
{
    PyObject *object = m->type->tp_alloc(m->type, 0);
    if (object == NULL) return NULL;
    if (PyObject_GenericSetDict(object, dict, NULL) < 0 || set_slot(m->set_slot, object, set) < 0 ||
        set_slot(m->extra_slot, object, Py_None) < 0 || set_slot(m->private_slot, object, Py_None) < 0)
        Py_CLEAR(object);
    return object;
}

/* pydantic looks for a field under its alias first, and that may be another field's name. */
static void follow_aliases(const pn_node_model *m, object_values *values)
{
    for (Py_ssize_t i = 0; i < m->count; i++) {
        PyObject *value = m->aliases[i] ? values->of[(uint8_t)m->aliases[i] - 1] : NULL;
        if (value != NULL) Py_XSETREF(values->of[i], Py_NewRef(value));
    }
}

static pn_status make_instance(node_decoder *n, const pn_node_model *m, object_values *values, PyObject **out)
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
        s = object_of(*out);
    }
    Py_DECREF(dict);
    return s;
}

static void clear_values(const pn_node_model *m, object_values *values)
{
    for (Py_ssize_t i = 0; i < m->count; i++) Py_XDECREF(values->of[i]);
}

static pn_status read_model(node_decoder *n, const pn_node_model *m, PyObject **out)
{
    object_values values = {.object = 0};
    PN_FAIL_IF(pn_json_peek(&n->d.r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    pn_status s = read_fields(n, m, NULL, &values);
    if (s == PN_OK) s = make_instance(n, m, &values, out);
    clear_values(m, &values);
    return s;
}

static pn_status read_related(node_decoder *n, PyObject **out) { return read_model(n, &n->readers->related, out); }

static pn_status read_resource(node_decoder *n, PyObject **out)
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

static pn_status put_relationship(node_decoder *n, PyObject *dict, const pn_json_str *key, PyObject *value)
{
    PyObject *text = pn_py_decode_key(&n->d, key);
    PyObject *pair = text ? PyDict_GetItemWithError(n->readers->relationships, text) : NULL; /* (member, hash) */
    Py_XDECREF(text);
    if (pair == NULL) return PyErr_Occurred() ? PN_ERR_CALLBACK : PN_ERR_UNSUPPORTED;
    Py_hash_t hash = PyLong_AsSsize_t(PyTuple_GET_ITEM(pair, 1));
    return put_member(dict, PyTuple_GET_ITEM(pair, 0), hash, value) < 0 ? PN_ERR_CALLBACK : PN_OK;
}

static pn_status fill_relationships(node_decoder *n, PyObject *dict)
{
    PN_TRY(pn_json_object_begin(&n->d.r));
    for (;;) {
        pn_json_str key;
        bool more;
        PyObject *value = NULL;
        PN_TRY(pn_json_object_next(&n->d.r, &key, &more));
        if (!more) return PN_OK;
        PN_TRY(pn_json_peek(&n->d.r) == PN_JSON_ARRAY ? read_list(n, read_related, &value) : read_related(n, &value));
        pn_status s = put_relationship(n, dict, &key, value);
        Py_DECREF(value);
        PN_TRY(s);
    }
}

/* ---- dispatch ---- */

static pn_status read_field(node_decoder *n, pn_read_kind kind, PyObject **out)
{
    pn_json_type type = peek(&n->d.r);
    if (type == PN_JSON_NULL)
        switch (kind) {
        case PN_READ_NULL:
        case PN_READ_STR_OR_NULL:
        case PN_READ_INT_OR_NULL:
        case PN_READ_FLOATS_OR_NULL:
        case PN_READ_RESOURCE_OR_NULL: return read_null(n, out);
        default: return PN_ERR_UNSUPPORTED;
        }
    switch (kind) {
    case PN_READ_STR:
    case PN_READ_STR_OR_NULL: return type == PN_JSON_STRING ? read_str(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_INT_OR_NULL: return type == PN_JSON_NUMBER ? read_int(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_FLOATS_OR_NULL: return type == PN_JSON_ARRAY ? read_list(n, read_float, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_STRS: return type == PN_JSON_ARRAY ? read_strs(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_FLAT: return type == PN_JSON_OBJECT ? read_flat(n, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_RELATIONSHIPS:
        return type == PN_JSON_OBJECT ? read_dict(n, fill_relationships, out) : PN_ERR_UNSUPPORTED;
    case PN_READ_RESOURCE_OR_NULL: return read_resource(n, out);
    case PN_READ_NULL: break;
    }
    return PN_ERR_UNSUPPORTED;
}

/* ---- entries ---- */

/* Document.__init__ takes "text" away when it is the text of text_resource, which it was
 * dumped from, and ignores it when empty; else it warns or converts. */
static bool text_is_copy(const node_decoder *n)
{
    if (n->text.ptr == NULL || n->text.len == 0) return true;
    pn_bytes copy = {n->text.ptr, n->text.len}, text = {n->resource.ptr, n->resource.len};
    return text.ptr != NULL && pn_bytes_equal(copy, text);
}

/* ImageNode.__init__ makes image_mimetype from image_path when there is only that. */
static bool mimetype_is_given(const pn_node_reader *r, const object_values *values)
{
    PyObject *path = values->of[r->path], *mimetype = values->of[r->mimetype];
    return path == NULL || path == Py_None ||
           (mimetype != NULL && mimetype != Py_None && PyUnicode_GET_LENGTH(mimetype) > 0);
}

static bool names_class(const node_decoder *n, const pn_node_reader *r)
{
    if (r->class_name.ptr == NULL) return true;
    return n->class_name.ptr != NULL && pn_bytes_equal((pn_bytes){n->class_name.ptr, n->class_name.len}, r->class_name);
}

static pn_status read_data(node_decoder *n, const pn_node_reader *r, PyObject **node)
{
    object_values values = {.object = 0};
    PN_FAIL_IF(pn_json_peek(&n->d.r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    pn_status s = read_fields(n, &r->model, r, &values);
    if (s == PN_OK && (!names_class(n, r) || !text_is_copy(n) ||
                       (r->flags & PN_READER_IMAGE && !mimetype_is_given(r, &values))))
        s = PN_ERR_UNSUPPORTED;
    if (s == PN_OK) s = make_instance(n, &r->model, &values, node);
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
static pn_status read_entry(node_decoder *n, const pn_node_reader *r, PyObject **node)
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

pn_status pn_node_decode(pn_node_readers *readers, pn_bytes entry, PyObject **node)
{
    PN_FAIL_IF(readers == NULL, PN_ERR_UNSUPPORTED);
    pn_bytes type;
    if (!guess_type(entry, &type)) PN_TRY(find_type(entry, &type));
    pn_node_reader *r = reader_of(readers, type);
    PN_FAIL_IF(r == NULL, PN_ERR_UNSUPPORTED);
    node_decoder n = {.readers = readers};
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

pn_status pn_node_decode_cell(pn_node_readers *readers, const pn_cell *cell, PyObject **node)
{
    PN_FAIL_IF(cell->kind != PN_CELL_JSON, PN_ERR_UNSUPPORTED);
    pn_bytes entry = pn_cell_span(cell);
    pn_blob *blob = pn_blob_ref(cell->span.blob);
    pn_status s = pn_node_decode(readers, entry, node);
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
        s = pn_node_decode(readers, pn_blob_view(blob), &node);
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
