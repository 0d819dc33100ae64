/* json_decode.c: from JSON text to Python objects, with no tree in between.
 *
 * Recursion follows the nesting of the text, which the reader bounds
 * (PN_JSON_MAX_DEPTH) and Python's own recursion guard bounds further. Dict keys
 * that are short and plain are looked up in a small cache of interned strings: a
 * docstore repeats the same few dozen field names a thousandfold.
 */
#include "py/json_py.h"
#include "py/module.h"

enum { KEY_CACHE = 64, KEY_MAX = 32 };

typedef struct {
    pn_json_reader r;
    pn_buf scratch;
    struct {
        PyObject *str;
        uint8_t len;
        char text[KEY_MAX];
    } keys[KEY_CACHE];
} decoder;

static PyObject *decode_value(decoder *d);

static PyObject *fail(decoder *d, pn_status s) { return pn_py_raise(s, &d->r.error, NULL); }

static PyObject *str_surrogates(pn_bytes utf8)
{
    PyObject *s = PyUnicode_DecodeUTF8((const char *)utf8.ptr, (Py_ssize_t)utf8.len, NULL);
    if (s != NULL || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return s;
    PyErr_Clear();
    return PyUnicode_DecodeUTF8((const char *)utf8.ptr, (Py_ssize_t)utf8.len, "surrogatepass");
}

PyObject *pn_py_str(pn_bytes utf8)
{
    int gc = pn_gc_pause(); /* with surrogates an exception comes and goes: callers hold pointers into tables */
    PyObject *s = str_surrogates(utf8);
    pn_gc_resume(gc);
    return s;
}

static PyObject *ascii_str(const uint8_t *p, size_t n)
{
    PyObject *s = PyUnicode_New((Py_ssize_t)n, 127);
    if (s != NULL && n) memcpy(PyUnicode_1BYTE_DATA(s), p, n);
    return s;
}

static PyObject *decode_str(const pn_json_str *s, pn_buf *scratch)
{
    if (!s->has_escape) return s->ascii ? ascii_str(s->ptr, s->len) : pn_py_str((pn_bytes){s->ptr, s->len});
    scratch->len = 0;
    pn_status st = pn_json_unescape(s, scratch);
    if (st != PN_OK) return pn_py_raise(st, NULL, NULL);
    return pn_py_str(pn_buf_view(scratch));
}

PyObject *pn_py_decode_str(const pn_json_str *s)
{
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    PyObject *out = decode_str(s, &scratch);
    pn_buf_clear(&scratch);
    return out;
}

static PyObject *decode_key(decoder *d, const pn_json_str *s)
{
    if (s->has_escape || !s->ascii || s->len == 0 || s->len > KEY_MAX) return decode_str(s, &d->scratch);
    size_t slot = (s->ptr[0] * 31u + s->ptr[s->len - 1] * 7u + s->ptr[s->len / 2] + s->len) % KEY_CACHE;
    PyObject *hit = d->keys[slot].str;
    if (hit != NULL && d->keys[slot].len == s->len && memcmp(d->keys[slot].text, s->ptr, s->len) == 0)
        return Py_NewRef(hit);
    PyObject *key = ascii_str(s->ptr, s->len);
    if (key == NULL) return NULL;
    PyUnicode_InternInPlace(&key);
    Py_XDECREF(hit);
    d->keys[slot].str = Py_NewRef(key);
    d->keys[slot].len = (uint8_t)s->len;
    memcpy(d->keys[slot].text, s->ptr, s->len);
    return key;
}

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
        PyObject *v = decode_value(d);
        if (v == NULL || PyList_Append(list, v) < 0) Py_CLEAR(list);
        Py_XDECREF(v);
    }
    return list;
}

static PyObject *decode_object(decoder *d)
{
    pn_status s = pn_json_object_begin(&d->r);
    if (s != PN_OK) return fail(d, s);
    PyObject *dict = PyDict_New();
    while (dict != NULL) {
        pn_json_str k;
        bool more;
        s = pn_json_object_next(&d->r, &k, &more);
        if (s != PN_OK) {
            Py_DECREF(dict);
            return fail(d, s);
        }
        if (!more) break;
        PyObject *key = decode_key(d, &k);
        PyObject *v = key ? decode_value(d) : NULL;
        if (v == NULL || PyDict_SetItem(dict, key, v) < 0) Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(v);
    }
    return dict;
}

static PyObject *decode_string(decoder *d)
{
    pn_json_str s;
    pn_status st = pn_json_string(&d->r, &s);
    return st == PN_OK ? decode_str(&s, &d->scratch) : fail(d, st);
}

static PyObject *decode_value(decoder *d)
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

PyObject *pn_py_decode(pn_bytes json)
{
    decoder d;
    memset(&d.keys, 0, sizeof d.keys);
    pn_json_reader_init(&d.r, json);
    pn_buf_init(&d.scratch, &pn_alloc_system);
    int gc = pn_gc_pause();
    PyObject *out = decode_value(&d);
    if (out != NULL) {
        pn_status s = pn_json_end(&d.r);
        if (s != PN_OK) {
            Py_CLEAR(out);
            fail(&d, s);
        }
    }
    for (size_t i = 0; i < KEY_CACHE; i++) Py_XDECREF(d.keys[i].str);
    pn_buf_clear(&d.scratch);
    pn_gc_resume(gc);
    return out;
}

static PyObject *core_decode(PyObject *module, PyObject *text)
{
    pn_blob *blob = pn_py_blob(pn_state_of(module), text);
    if (blob == NULL) return NULL;
    PyObject *out = pn_py_decode(pn_blob_view(blob));
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

int pn_py_add_json(PyObject *module) { return PyModule_AddFunctions(module, functions); }
