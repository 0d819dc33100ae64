/* json_decode.c: from JSON text to Python objects, with no tree in between.
 *
 * Recursion follows the nesting of the text, which the reader bounds
 * (PN_JSON_MAX_DEPTH) and Python's own recursion guard bounds further. Dict keys
 * that are short and plain are looked up in a small cache of interned strings: a
 * docstore repeats the same few dozen field names a thousandfold.
 */
#include "py/json_decode.h"
#include "py/module.h"

typedef pn_py_decoder decoder;

static PyObject *fail(decoder *d, pn_status s) { return pn_py_raise(s, &d->r.error, NULL); }

static bool slot_used(const pn_key_cache *keys, size_t slot) { return keys->used[slot / 64] >> slot % 64 & 1; }

/* The key of that slot, and its place in the order of keys. */
static PyObject *slot_key(decoder *d, size_t slot)
{
    *d->guess = (uint8_t)slot;
    d->guess = &d->keys->slots[slot].next;
    return Py_NewRef(d->keys->slots[slot].str);
}

static PyObject *fill_slot(pn_key_cache *keys, size_t slot, const pn_json_str *s)
{
    PyObject *key = pn_py_ascii(s->ptr, s->len);
    if (key == NULL) return NULL;
    PyUnicode_InternInPlace(&key);
    if (slot_used(keys, slot)) Py_DECREF(keys->slots[slot].str);
    keys->slots[slot].str = key;
    keys->slots[slot].len = (uint8_t)s->len;
    keys->slots[slot].next = (uint8_t)slot;
    memcpy(keys->slots[slot].text, s->ptr, s->len);
    keys->used[slot / 64] |= UINT64_C(1) << slot % 64;
    return key;
}

PyObject *pn_py_decode_key(decoder *d, const pn_json_str *s)
{
    if (s->has_escape || !s->ascii || s->len == 0 || s->len > PN_KEY_MAX) return pn_py_decode_chars(d, s);
    size_t slot = (s->ptr[0] * 31u + s->ptr[s->len - 1] * 7u + s->ptr[s->len / 2] * 3u + s->len * 5u) % PN_KEY_CACHE;
    bool hit = slot_used(d->keys, slot) && d->keys->slots[slot].len == s->len &&
               memcmp(d->keys->slots[slot].text, s->ptr, s->len) == 0;
    return hit || fill_slot(d->keys, slot, s) ? slot_key(d, slot) : NULL;
}

/* Steps over what stands in front of the next value of an object, if that is the guessed
 * key as json.dumps writes it; a new reference, or NULL without an exception. */
static PyObject *guessed_key(decoder *d)
{
    const uint8_t *p = d->r.p, *end = d->r.end;
    size_t slot = *d->guess % PN_KEY_CACHE;
    if (!slot_used(d->keys, slot)) return NULL;
    size_t len = d->keys->slots[slot].len;
    if (!d->r.first) {
        if (end - p < 2 || p[0] != ',' || p[1] != ' ') return NULL;
        p += 2;
    }
    if ((size_t)(end - p) < len + 3 || p[0] != '"' || p[len + 1] != '"' || p[len + 2] != ':' ||
        memcmp(p + 1, d->keys->slots[slot].text, len) != 0)
        return NULL;
    d->r.p = p + len + 3;
    d->r.first = false;
    return slot_key(d, slot);
}

void pn_key_cache_clear(pn_key_cache *cache)
{
    for (size_t i = 0; i < PN_KEY_CACHE; i++)
        if (slot_used(cache, i)) Py_DECREF(cache->slots[i].str);
    pn_key_cache_init(cache);
}

void pn_py_decoder_init(decoder *d, pn_bytes text, pn_key_cache *keys)
{
    pn_json_reader_init(&d->r, text);
    pn_buf_init(&d->scratch, &pn_alloc_system);
    d->keys = keys;
    d->guess = &keys->first;
}

void pn_py_decoder_clear(decoder *d) { pn_buf_clear(&d->scratch); }

static PyObject *decode_number(decoder *d)
{
    pn_json_num n;
    pn_status s = pn_json_number(&d->r, &n);
    if (s != PN_OK) return fail(d, s);
    if (!n.is_int) {
        double v;
        s = pn_json_num_double(&n, &v);
        return s == PN_OK ? PyFloat_FromDouble(v) : fail(d, s);
    }
    if (n.len < 18) { /* fits a long long */
        long long v = 0;
        bool neg = n.ptr[0] == '-';
        for (size_t i = neg; i < n.len; i++) v = v * 10 + (n.ptr[i] - '0');
        return PyLong_FromLongLong(neg ? -v : v);
    }
    d->scratch.len = 0;
    s = pn_buf_append(&d->scratch, n.ptr, n.len);
    if (s == PN_OK) s = pn_buf_push(&d->scratch, 0);
    return s == PN_OK ? PyLong_FromString((const char *)d->scratch.data, NULL, 10) : fail(d, s);
}

static PyObject *decode_array(decoder *d)
{
    pn_status s = pn_json_array_begin(&d->r);
    if (s != PN_OK) return fail(d, s);
    PyObject *list = PyList_New(0);
    while (list != NULL) {
        bool more;
        s = pn_json_array_next(&d->r, &more);
        if (s != PN_OK) {
            Py_DECREF(list);
            return fail(d, s);
        }
        if (!more) break;
        PyObject *v = pn_py_decode_value(d);
        if (v == NULL || PyList_Append(list, v) < 0) Py_CLEAR(list);
        Py_XDECREF(v);
    }
    return list;
}

/* The next key, or NULL: at the end when s is PN_OK and no exception is set. */
static PyObject *next_key(decoder *d, pn_status *s)
{
    pn_json_str k;
    bool more;
    *s = PN_OK;
    PyObject *key = guessed_key(d);
    if (key != NULL) return key;
    *s = pn_json_object_next(&d->r, &k, &more);
    if (*s != PN_OK) return fail(d, *s);
    return more ? pn_py_decode_key(d, &k) : NULL;
}

static int fill_dict(decoder *d, PyObject *dict)
{
    pn_status s;
    PyObject *key;
    while ((key = next_key(d, &s)) != NULL) {
        PyObject *v = pn_py_decode_value(d);
        int failed = v == NULL || PyDict_SetItem(dict, key, v) < 0;
        Py_DECREF(key);
        Py_XDECREF(v);
        if (failed) return -1;
    }
    return s == PN_OK && !PyErr_Occurred() ? 0 : -1;
}

static PyObject *decode_object(decoder *d)
{
    pn_status s = pn_json_object_begin(&d->r);
    if (s != PN_OK) return fail(d, s);
    PyObject *dict = PyDict_New();
    if (dict != NULL && fill_dict(d, dict) < 0) Py_CLEAR(dict);
    return dict;
}

static PyObject *decode_string(decoder *d)
{
    PyObject *str;
    pn_bytes raw;
    pn_status s = pn_py_read_str(d, &raw, &str);
    return s == PN_OK || s == PN_ERR_CALLBACK ? str : fail(d, s);
}

PyObject *pn_py_decode_value(decoder *d)
{
    pn_json_type type = pn_json_peek(&d->r);
    PyObject *out = NULL;
    switch (type) {
    case PN_JSON_OBJECT:
    case PN_JSON_ARRAY:
        if (Py_EnterRecursiveCall(" while decoding a JSON value")) return NULL;
        out = type == PN_JSON_OBJECT ? decode_object(d) : decode_array(d);
        Py_LeaveRecursiveCall();
        return out;
    case PN_JSON_STRING: return decode_string(d);
    case PN_JSON_NUMBER: return decode_number(d);
    case PN_JSON_TRUE: out = Py_True; break;
    case PN_JSON_FALSE: out = Py_False; break;
    case PN_JSON_NULL: out = Py_None; break;
    default: return fail(d, pn_fail(&d->r.error, PN_ERR_SYNTAX, (uint64_t)(d->r.p - d->r.base), "expected a value"));
    }
    pn_status s = pn_json_literal(&d->r);
    return s == PN_OK ? Py_NewRef(out) : fail(d, s);
}

static PyObject *decode_all(decoder *d)
{
    PyObject *out = pn_py_decode_value(d);
    pn_status s = out ? pn_json_end(&d->r) : PN_OK;
    if (s != PN_OK) {
        Py_CLEAR(out);
        fail(d, s);
    }
    return out;
}

static PyObject *decode_alone(pn_bytes json)
{
    pn_key_cache keys;
    pn_key_cache_init(&keys);
    PyObject *out = pn_py_decode(&keys, json);
    pn_key_cache_clear(&keys);
    return out;
}

PyObject *pn_py_decode(pn_key_cache *keys, pn_bytes json)
{
    if (keys == NULL) return decode_alone(json);
    decoder d;
    pn_py_decoder_init(&d, json, keys);
    int gc = pn_gc_pause();
    PyObject *out = decode_all(&d);
    pn_py_decoder_clear(&d);
    pn_gc_resume(gc);
    return out;
}

static PyObject *core_decode(PyObject *module, PyObject *text)
{
    pn_blob *blob = pn_py_blob(pn_state_of(module), text);
    if (blob == NULL) return NULL;
    PyObject *out = pn_py_decode(NULL, pn_blob_view(blob));
    pn_blob_unref(blob);
    return out;
}

static PyObject *core_encode(PyObject *module, PyObject *obj)
{
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_status s = pn_py_encode(obj, PN_ENCODE_DUMPS, &out);
    PyObject *text = s == PN_OK ? pn_py_text(pn_state_of(module), &out) : pn_py_raise(s, NULL, NULL);
    pn_buf_clear(&out);
    return text;
}

static PyObject *core_canonicalize(PyObject *module, PyObject *text)
{
    pn_blob *blob = pn_py_blob(pn_state_of(module), text);
    if (blob == NULL) return NULL;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_status s = pn_json_canonicalize(pn_blob_view(blob), &pn_alloc_system, &out);
    PyObject *result = s == PN_OK ? pn_py_text(pn_state_of(module), &out) : pn_py_raise(s, NULL, NULL);
    pn_buf_clear(&out);
    pn_blob_unref(blob);
    return result;
}

static PyMethodDef functions[] = {
    {"json_decode", core_decode, METH_O, "json_decode(text) -> object: as json.loads on UTF-8 bytes without a BOM."},
    {"json_encode", core_encode, METH_O, "json_encode(obj) -> Text: the bytes of json.dumps(obj)."},
    {"json_canonicalize", core_canonicalize, METH_O,
     "json_canonicalize(text) -> Text: json.dumps(json.loads(text)) without building objects."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_json(PyObject *module)
{
    pn_key_cache *keys = pn_alloc_get(&pn_alloc_system, sizeof *keys);
    if (keys == NULL) return PyErr_NoMemory(), -1;
    pn_key_cache_init(keys);
    pn_state_of(module)->keys = keys;
    return PyModule_AddFunctions(module, functions);
}
