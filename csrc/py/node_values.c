/* node_values.c: values of a node's fields, and what of them is used again. */
#include "py/node_values.h"

#include "codec/json_write.h"

pn_status pn_node_null(pn_node_decoder *n, PyObject **out)
{
    *out = Py_NewRef(Py_None);
    return pn_json_literal(&n->d.r);
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

pn_status pn_node_str(pn_node_decoder *n, PyObject **out)
{
    pn_json_reader *r = &n->d.r;
    const uint8_t *start = r->p;
    pn_kept_piece *k = n->place;
    if (k != NULL && k->str != NULL && pn_steps_over(r, k->raw, k->len)) {
        n->last.ptr = start + 1;
        n->last.len = k->len - 2u;
        n->again = true;
        *out = Py_NewRef(k->str);
        return PN_OK;
    }
    PN_TRY(pn_py_read_str(&n->d, &n->last, out));
    keep_piece(k, r, start, *out);
    return PN_OK;
}

bool pn_node_known_id(pn_node_decoder *n, PyObject **out)
{
    pn_json_reader *r = &n->d.r;
    for (size_t i = 0; n->known != NULL && i < n->known->len; i++) {
        const uint8_t *id = PyUnicode_1BYTE_DATA(n->known->of[i]);
        size_t len = (size_t)PyUnicode_GET_LENGTH(n->known->of[i]);
        if (n->known_used >> i & 1 || (size_t)(r->end - r->p) < len + 2 || r->p[0] != '"' || r->p[len + 1] != '"') continue;
        if (!pn_same_bytes(r->p + 1, id, len) || !pn_json_is_plain((pn_bytes){id, len})) continue;
        r->p += len + 2;
        n->known_used |= 1u << i;
        *out = Py_NewRef(n->known->of[i]);
        return true;
    }
    return false;
}

/* Longer ones may be beyond what pydantic or Python takes. */
pn_status pn_node_int(pn_node_decoder *n, PyObject **out)
{
    enum { SAFE_DIGITS = 18 };
    pn_json_num num;
    PN_TRY(pn_json_number(&n->d.r, &num));
    PN_FAIL_IF(!num.is_int || num.len >= SAFE_DIGITS, PN_ERR_UNSUPPORTED);
    long long v = 0;
    bool negative = num.ptr[0] == '-';
    for (size_t i = negative; i < num.len; i++) v = v * 10 + (num.ptr[i] - '0');
    *out = PyLong_FromLongLong(negative ? -v : v);
    return pn_node_status(*out);
}

static pn_status read_float(pn_node_decoder *n, PyObject **out)
{
    pn_json_num num;
    double v;
    PN_FAIL_IF(pn_json_peek(&n->d.r) != PN_JSON_NUMBER, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_number(&n->d.r, &num));
    PN_FAIL_IF(num.is_int, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_num_double(&num, &v));
    *out = PyFloat_FromDouble(v);
    return pn_node_status(*out);
}

static pn_status read_str_item(pn_node_decoder *n, PyObject **out)
{
    PN_FAIL_IF(pn_node_peek(&n->d.r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    n->place = NULL;
    return pn_node_str(n, out);
}

/* Takes item. */
static pn_status append(PyObject *list, PyObject *item)
{
    int failed = PyList_Append(list, item);
    Py_DECREF(item);
    return failed ? PN_ERR_CALLBACK : PN_OK;
}

static pn_status fill_list(pn_node_decoder *n, pn_node_item item, PyObject *list)
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

pn_status pn_node_list(pn_node_decoder *n, pn_node_item item, PyObject **out)
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

static bool ends_member(uint8_t c) { return c == ',' || c == '}'; }

static pn_status read_kept_number(pn_node_decoder *n, PyObject **out)
{
    pn_json_reader *r = &n->d.r;
    const uint8_t *start = r->p;
    pn_kept_piece *k = n->place;
    if (k != NULL && k->str != NULL && (size_t)(r->end - start) > k->len && ends_member(start[k->len]) &&
        pn_steps_over(r, k->raw, k->len)) {
        *out = Py_NewRef(k->str);
        return PN_OK;
    }
    *out = pn_py_decode_value(&n->d);
    keep_piece(*out != NULL && PyLong_CheckExact(*out) ? k : NULL, r, start, *out);
    return pn_node_status(*out);
}

static pn_status read_scalar(pn_node_decoder *n, size_t object, size_t i, PyObject **out)
{
    pn_json_type type = pn_node_peek(&n->d.r);
    n->place = member_place(n->readers->kept.values, object, i);
    if (type == PN_JSON_STRING) return pn_node_str(n, out);
    PN_FAIL_IF(type == PN_JSON_OBJECT || type == PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    if (type == PN_JSON_NUMBER) return read_kept_number(n, out);
    *out = pn_py_decode_value(&n->d);
    return pn_node_status(*out);
}

/* The next key, with what stands around it; NULL at the end. */
static pn_status read_key(pn_node_decoder *n, pn_kept_piece *k, PyObject **name)
{
    pn_json_reader *r = &n->d.r;
    pn_json_str key;
    bool more;
    if (k != NULL && k->str != NULL && pn_steps_over(r, k->raw, k->len)) {
        *name = Py_NewRef(k->str);
        return PN_OK;
    }
    const uint8_t *start = r->p;
    *name = NULL;
    PN_TRY(pn_json_object_next(r, &key, &more));
    if (!more) return PN_OK;
    pn_json_peek(r); /* steps to the value */
    *name = keep_piece(k, r, start, pn_py_decode_key(&n->d, &key));
    return pn_node_status(*name);
}

/* Names and values of one metadata object, before there is a dict of them. */
typedef struct {
    size_t len;
    PyObject *names[PN_VALUES_KEPT], *values[PN_VALUES_KEPT];
    const uint8_t *ends[PN_VALUES_KEPT]; /* behind each member's value */
    PyObject *dict; /* of those and all further ones, once there is no room here */
} flat_members;

static pn_status put_members(const flat_members *f, PyObject *dict)
{
    for (size_t i = 0; i < f->len; i++)
        PN_FAIL_IF(PyDict_SetItem(dict, f->names[i], f->values[i]) < 0, PN_ERR_CALLBACK);
    return PN_OK;
}

/* Takes name and value. */
static pn_status add_member(flat_members *f, PyObject *name, PyObject *value, const uint8_t *end)
{
    if (f->dict == NULL && f->len < PN_VALUES_KEPT) {
        f->names[f->len] = name;
        f->ends[f->len] = end;
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

/* How many bytes the two have in common at their beginnings, at most. */
static size_t in_common(const uint8_t *a, const uint8_t *b, size_t most)
{
    size_t i = 0;
    while (most - i >= 8 && pn_same8(a + i, b + i)) i += 8;
    while (i < most && a[i] == b[i]) i++;
    return i;
}

/* A value of another object of the same node: texts are as distinct as json.loads makes them. */
static PyObject *value_again(PyObject *value)
{
    return PyUnicode_CheckExact(value) ? pn_py_str_copy(value) : Py_NewRef(value);
}

/* The members that the node's first metadata object begins with, as far as they stand at its
 * beginning here too: their text is not read again. */
static pn_status share_members(pn_node_decoder *n, flat_members *f)
{
    pn_json_reader *r = &n->d.r;
    const pn_first_flat *first = &n->first;
    if (first->len == 0) return PN_OK;
    size_t left = (size_t)(r->end - r->p), most = first->ends[first->len - 1] + 1u;
    size_t same = in_common(r->p, first->text, left < most ? left : most), i = 0;
    while (i < first->len && first->ends[i] <= same) i++;
    if (i > 0 && (first->ends[i - 1] == left || !ends_member(r->p[first->ends[i - 1]]))) i--;
    if (i == 0) return PN_OK;
    for (size_t m = 0; m < i; m++) {
        PyObject *value = value_again(first->values[m]);
        PN_FAIL_IF(value == NULL, PN_ERR_CALLBACK);
        PN_TRY(add_member(f, Py_NewRef(first->names[m]), value, r->p + first->ends[m]));
    }
    r->p = f->ends[i - 1];
    r->first = false;
    return PN_OK;
}

static pn_status read_members(pn_node_decoder *n, flat_members *f)
{
    size_t object = n->object;
    PN_TRY(pn_json_object_begin(&n->d.r));
    PN_TRY(share_members(n, f));
    for (size_t i = f->len;; i++) {
        PyObject *name, *value = NULL;
        PN_TRY(read_key(n, member_place(n->readers->kept.keys, object, i), &name));
        if (name == NULL) return PN_OK;
        pn_status s = read_scalar(n, object, i, &value);
        if (s != PN_OK) {
            Py_XDECREF(value);
            Py_DECREF(name);
            return s;
        }
        PN_TRY(add_member(f, name, value, n->d.r.p));
    }
}

/* The members of the node's first metadata object, held by its dict, which lives as long as the
 * node is read. */
static void note_first(pn_node_decoder *n, const flat_members *f, const uint8_t *start)
{
    if (n->first.text != NULL || f->len == 0 || (size_t)PyDict_GET_SIZE(f->dict) != f->len) return;
    n->first.text = start;
    n->first.len = f->len;
    memcpy(n->first.names, f->names, f->len * sizeof *f->names);
    memcpy(n->first.values, f->values, f->len * sizeof *f->values);
    for (size_t i = 0; i < f->len; i++) n->first.ends[i] = (size_t)(f->ends[i] - start);
}

static bool begins_as(const flat_members *f, const pn_kept_flat *k)
{
    return k != NULL && k->dict != NULL && k->len == f->len && memcmp(k->names, f->names, f->len * sizeof *f->names) == 0;
}

/* A value that came again will come once more. */
static pn_status keep_again(const flat_members *f, pn_kept_flat *k, size_t i)
{
    bool again = k->last[i] == f->values[i];
    k->last[i] = f->values[i];
    if (!again) return PN_OK;
    PN_FAIL_IF(PyDict_SetItem(k->dict, f->names[i], f->values[i]) < 0, PN_ERR_CALLBACK);
    k->values[i] = f->values[i];
    return PN_OK;
}

/* A copy of the dict that was kept, with the values that differ. */
static pn_status dict_like(const flat_members *f, pn_kept_flat *k, PyObject **out)
{
    for (size_t i = 0; i < f->len; i++)
        if (f->values[i] != k->values[i]) PN_TRY(keep_again(f, k, i));
    PyObject *dict = PyDict_Copy(k->dict);
    for (size_t i = 0; dict != NULL && i < f->len; i++)
        if (f->values[i] != k->values[i] && PyDict_SetItem(dict, f->names[i], f->values[i]) < 0) Py_CLEAR(dict);
    *out = dict;
    return pn_node_status(dict);
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
    memcpy(k->last, f->values, f->len * sizeof *f->values);
    return PN_OK;
}

static pn_status dict_of(const flat_members *f, pn_kept_flat *k, PyObject **out)
{
    if (begins_as(f, k)) return dict_like(f, k, out);
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

static pn_status make_flat(pn_node_decoder *n, PyObject **out)
{
    flat_members f;
    f.len = 0;
    f.dict = NULL;
    const uint8_t *start = n->d.r.p + 1;
    pn_kept_flat *k = n->object < PN_OBJECTS_KEPT ? &n->readers->kept.flats[n->object] : NULL;
    pn_status s = read_members(n, &f);
    bool few = f.dict == NULL;
    if (s == PN_OK && few) s = dict_of(&f, k, &f.dict);
    if (s == PN_OK && few) note_first(n, &f, start);
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

pn_status pn_node_floats(pn_node_decoder *n, PyObject **out) { return pn_node_list(n, read_float, out); }

static PyObject *copy_of(PyObject *value)
{
    return PyDict_CheckExact(value) ? PyDict_Copy(value) : PyList_GetSlice(value, 0, PyList_GET_SIZE(value));
}

/* Remembers the text, and at the second time what was made of it. */
static pn_status keep_whole(pn_kept_whole *k, const uint8_t *start, size_t len, bool again, PyObject *value)
{
    if (again) {
        Py_XSETREF(k->value, copy_of(value));
        return pn_node_status(k->value);
    }
    k->len = 0;
    Py_CLEAR(k->value);
    if (len < PN_WHOLE_WORTH || len > PN_WHOLE_KEPT) return PN_OK;
    memcpy(k->raw, start, len);
    k->len = len;
    return PN_OK;
}

/* What `make` reads, or a copy of what stood in that place before. */
static pn_status read_whole(pn_node_decoder *n, size_t place, pn_status (*make)(pn_node_decoder *, PyObject **),
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
        return pn_node_status(*out);
    }
    PN_TRY(make(n, out));
    pn_status s = k ? keep_whole(k, start, (size_t)(r->p - start), again, *out) : PN_OK;
    if (s != PN_OK) Py_CLEAR(*out);
    return s;
}

static pn_status make_strs(pn_node_decoder *n, PyObject **out) { return pn_node_list(n, read_str_item, out); }

pn_status pn_node_flat(pn_node_decoder *n, PyObject **out)
{
    return read_whole(n, n->object < PN_OBJECTS_KEPT ? n->object : SIZE_MAX, make_flat, out);
}

pn_status pn_node_strs(pn_node_decoder *n, PyObject **out) { return read_whole(n, PN_OBJECTS_KEPT + n->lists++, make_strs, out); }
