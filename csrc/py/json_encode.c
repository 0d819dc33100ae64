/* json_encode.c: from Python objects to JSON text.
 *
 * Exact built-in types are written here; for everything else json.dumps itself is
 * asked about the smallest value that holds it (JSON text does not depend on where
 * it stands), so what it prints and what it refuses are its own.
 */
#include "py/json_py.h"
#include "py/module.h"

#include "codec/json_write.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { MAX_DEPTH = 200 }; /* beyond: json.dumps, which knows circles and its own limit */

typedef struct {
    pn_buf *out;
    pn_encode_mode mode;
    int depth;
} encoder;

static pn_status encode_value(encoder *e, PyObject *obj);

/* True when two neighbouring code units are a high and a low surrogate: as JSON they
 * would come back as one character. */
static bool has_joining_pair(PyObject *str)
{
    if (PyUnicode_KIND(str) == PyUnicode_1BYTE_KIND) return false;
    Py_ssize_t n = PyUnicode_GET_LENGTH(str);
    bool high = false;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(str, i);
        if (high && c >= 0xDC00 && c <= 0xDFFF) return true;
        high = c >= 0xD800 && c <= 0xDBFF;
    }
    return false;
}

static bool utf8_surrogates(PyObject *str, pn_buf *scratch, pn_bytes *out)
{
    Py_ssize_t n;
    const char *p = PyUnicode_AsUTF8AndSize(str, &n);
    if (p != NULL) {
        *out = (pn_bytes){(const uint8_t *)p, (size_t)n};
        return true;
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return false;
    PyErr_Clear();
    PyObject *b = PyUnicode_AsEncodedString(str, "utf-8", "surrogatepass");
    if (b == NULL) return false;
    scratch->len = 0;
    pn_status s = pn_buf_append(scratch, PyBytes_AS_STRING(b), (size_t)PyBytes_GET_SIZE(b));
    Py_DECREF(b);
    if (s != PN_OK) {
        PyErr_NoMemory();
        return false;
    }
    *out = pn_buf_view(scratch);
    return true;
}

bool pn_py_utf8(PyObject *str, pn_buf *scratch, pn_bytes *out)
{
    if (PyUnicode_IS_COMPACT_ASCII(str)) {
        *out = (pn_bytes){PyUnicode_1BYTE_DATA(str), (size_t)PyUnicode_GET_LENGTH(str)};
        return true;
    }
    int gc = pn_gc_pause(); /* with surrogates an exception comes and goes: callers hold pointers into tables */
    bool ok = utf8_surrogates(str, scratch, out);
    pn_gc_resume(gc);
    return ok;
}

/* How many characters at the front stand in JSON as themselves; writes those, in steps of
 * eight. A 16-bit character of 0x8000 and more counts as negative, so as less than ' '. */
static Py_ssize_t put_plain_run(int kind, const void *data, Py_ssize_t from, Py_ssize_t end, uint8_t *out)
{
    Py_ssize_t n = 0;
#if defined(__SSE2__)
    if (kind != PyUnicode_2BYTE_KIND) return 0;
    const Py_UCS2 *p = (const Py_UCS2 *)data + from;
    for (; end - from - n >= 8; n += 8) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + n));
        __m128i odd = _mm_or_si128(_mm_cmplt_epi16(v, _mm_set1_epi16(' ')), _mm_cmpgt_epi16(v, _mm_set1_epi16('~')));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi16(v, _mm_set1_epi16('"')));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi16(v, _mm_set1_epi16('\\')));
        if (_mm_movemask_epi8(odd)) break;
        _mm_storel_epi64((__m128i *)(void *)(out + n), _mm_packus_epi16(v, v));
    }
#else
    (void)kind, (void)data, (void)from, (void)end, (void)out;
#endif
    return n;
}

static uint8_t *put_unit(uint8_t *p, Py_UCS4 unit)
{
    static const char hex[] = "0123456789abcdef";
    *p++ = '\\';
    *p++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4) *p++ = (uint8_t)hex[(unit >> shift) & 15];
    return p;
}

/* A character that has to be escaped. */
static uint8_t *put_escape(uint8_t *p, Py_UCS4 c)
{
    uint8_t s = c == '"' || c == '\\' ? (uint8_t)c
                : c == '\n'           ? 'n'
                : c == '\r'           ? 'r'
                : c == '\t'           ? 't'
                : c == '\b'           ? 'b'
                : c == '\f'           ? 'f'
                                      : 0;
    if (s) {
        *p++ = '\\';
        *p++ = s;
        return p;
    }
    if (c <= 0xFFFF) return put_unit(p, c);
    return put_unit(put_unit(p, 0xD800 + ((c - 0x10000) >> 10)), 0xDC00 + ((c - 0x10000) & 0x3FF));
}

/* Non-ASCII text is written straight from the code points: asking for its UTF-8
 * would cache that in the string for good. */
static pn_status encode_wide(encoder *e, PyObject *str)
{
    Py_ssize_t n = PyUnicode_GET_LENGTH(str), i = 0;
    int kind = PyUnicode_KIND(str);
    const void *data = PyUnicode_DATA(str);
    PN_FAIL_IF((size_t)n > (SIZE_MAX - 2) / 12, PN_ERR_NOMEM);
    PN_TRY(pn_buf_reserve(e->out, (size_t)n * (kind == PyUnicode_4BYTE_KIND ? 12 : 6) + 2));
    uint8_t *p = e->out->data + e->out->len;
    *p++ = '"';
    bool high = false;
    for (;;) {
        Py_ssize_t run = put_plain_run(kind, data, i, n, p);
        if (run) high = false;
        i += run;
        p += run;
        if (i == n) break;
        for (Py_ssize_t stop = n - i > 8 ? i + 8 : n; i < stop; i++) { /* where the odd one is */
            Py_UCS4 c = PyUnicode_READ(kind, data, i);
            if (high && c >= 0xDC00 && c <= 0xDFFF && e->mode != PN_ENCODE_DUMPS) return PN_ERR_UNSUPPORTED;
            high = c >= 0xD800 && c <= 0xDBFF;
            if (c >= ' ' && c <= '~' && c != '"' && c != '\\')
                *p++ = (uint8_t)c;
            else
                p = put_escape(p, c);
        }
    }
    *p++ = '"';
    e->out->len = (size_t)(p - e->out->data);
    return PN_OK;
}

static pn_status encode_str(encoder *e, PyObject *str)
{
    if (!PyUnicode_IS_COMPACT_ASCII(str)) return encode_wide(e, str);
    return pn_json_put_string(
        e->out, (pn_bytes){PyUnicode_1BYTE_DATA(str), (size_t)PyUnicode_GET_LENGTH(str)});
}

/* Digits of an int, whatever its class: int.__repr__, as json does. From some thousand bits
 * on that may raise or run Python code, which only DUMPS allows. */
static pn_status encode_big_int(encoder *e, PyObject *obj)
{
    if (e->mode != PN_ENCODE_DUMPS && _PyLong_NumBits(obj) > 2048) return PN_ERR_UNSUPPORTED;
    PyObject *text = PyLong_Type.tp_repr(obj);
    if (text == NULL) return PN_ERR_CALLBACK;
    pn_status s = pn_buf_append(e->out, PyUnicode_1BYTE_DATA(text), (size_t)PyUnicode_GET_LENGTH(text));
    Py_DECREF(text);
    return s;
}

static pn_status encode_int(encoder *e, PyObject *obj)
{
    int overflow;
    long long v = PyLong_AsLongLongAndOverflow(obj, &overflow);
    return overflow ? encode_big_int(e, obj) : pn_json_put_i64(e->out, v);
}

/* Asks json.dumps. */
static pn_status encode_general(encoder *e, PyObject *obj)
{
    if (e->mode != PN_ENCODE_DUMPS) return PN_ERR_UNSUPPORTED;
    PyObject *json = PyImport_ImportModule("json");
    PyObject *text = json ? PyObject_CallMethod(json, "dumps", "O", obj) : NULL;
    Py_XDECREF(json);
    if (text == NULL) return PN_ERR_CALLBACK;
    pn_status s = PN_ERR_CALLBACK;
    Py_ssize_t n;
    const char *p = PyUnicode_AsUTF8AndSize(text, &n);
    if (p != NULL) s = pn_buf_append(e->out, p, (size_t)n);
    Py_DECREF(text);
    return s;
}

static pn_status encode_list(encoder *e, PyObject *list, bool tuple)
{
    PN_TRY(pn_buf_push(e->out, '['));
    for (Py_ssize_t i = 0; i < (tuple ? PyTuple_GET_SIZE(list) : PyList_GET_SIZE(list)); i++) {
        if (i) PN_TRY(PN_BUF_LIT(e->out, ", "));
        PyObject *item = Py_NewRef(tuple ? PyTuple_GET_ITEM(list, i) : PyList_GET_ITEM(list, i));
        pn_status s = encode_value(e, item);
        Py_DECREF(item);
        PN_TRY(s);
    }
    return pn_buf_push(e->out, ']');
}

static bool plain_key(encoder *e, PyObject *key)
{
    return PyUnicode_CheckExact(key) && (e->mode == PN_ENCODE_DUMPS || !has_joining_pair(key));
}

static pn_status encode_key(encoder *e, PyObject *key)
{
    if (plain_key(e, key)) return encode_str(e, key);
    if (e->mode != PN_ENCODE_STRUCT || !PyLong_CheckExact(key)) return PN_ERR_UNSUPPORTED;
    PN_TRY(pn_buf_push(e->out, '"'));
    PN_TRY(encode_int(e, key));
    return pn_buf_push(e->out, '"');
}

static pn_status encode_dict(encoder *e, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0, size = PyDict_GET_SIZE(dict);
    bool first = true;
    PN_TRY(pn_buf_push(e->out, '{'));
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (!first) PN_TRY(PN_BUF_LIT(e->out, ", "));
        first = false;
        PN_TRY(encode_key(e, key));
        PN_TRY(PN_BUF_LIT(e->out, ": "));
        Py_INCREF(value);
        pn_status s = encode_value(e, value);
        Py_DECREF(value);
        PN_TRY(s);
        if (PyDict_GET_SIZE(dict) != size) return PN_ERR_UNSUPPORTED; /* changed under us: json.dumps says how */
    }
    return pn_buf_push(e->out, '}');
}

/* Sets of an index struct: no order but that of iteration. */
static pn_status encode_set(encoder *e, PyObject *set)
{
    PyObject *list = PySequence_List(set);
    if (list == NULL) return PN_ERR_CALLBACK;
    pn_status s = encode_list(e, list, false);
    Py_DECREF(list);
    return s;
}

static pn_status encode_container(encoder *e, PyObject *obj)
{
    size_t start = e->out->len;
    pn_status s = PN_ERR_UNSUPPORTED;
    if (e->depth < MAX_DEPTH) {
        e->depth++;
        s = PyDict_CheckExact(obj)        ? encode_dict(e, obj)
            : PyAnySet_CheckExact(obj)    ? encode_set(e, obj)
                                          : encode_list(e, obj, PyTuple_CheckExact(obj));
        e->depth--;
    }
    if (s != PN_ERR_UNSUPPORTED) return s;
    e->out->len = start;
    return encode_general(e, obj);
}

/* Subclasses of str, int and float: their contents, as json's C encoder prints them, which
 * runs no code of theirs (enum members are common in node entries). */
static pn_status encode_subclass(encoder *e, PyObject *obj)
{
    if (PyUnicode_Check(obj)) return encode_str(e, obj);
    if (PyLong_Check(obj)) return encode_int(e, obj);
    if (PyFloat_Check(obj)) return pn_json_put_double(e->out, PyFloat_AS_DOUBLE(obj));
    return encode_general(e, obj);
}

static pn_status encode_value(encoder *e, PyObject *obj)
{
    if (PyUnicode_CheckExact(obj)) return encode_str(e, obj);
    if (obj == Py_None) return PN_BUF_LIT(e->out, "null");
    if (obj == Py_True) return PN_BUF_LIT(e->out, "true");
    if (obj == Py_False) return PN_BUF_LIT(e->out, "false");
    if (PyLong_CheckExact(obj)) return encode_int(e, obj);
    if (PyFloat_CheckExact(obj)) return pn_json_put_double(e->out, PyFloat_AS_DOUBLE(obj));
    if (PyDict_CheckExact(obj) || PyList_CheckExact(obj)) return encode_container(e, obj);
    if (PyTuple_CheckExact(obj) && e->mode != PN_ENCODE_IDENTITY) return encode_container(e, obj);
    if (PyAnySet_CheckExact(obj) && e->mode == PN_ENCODE_STRUCT) return encode_container(e, obj);
    return e->mode == PN_ENCODE_DUMPS ? encode_subclass(e, obj) : PN_ERR_UNSUPPORTED;
}

pn_status pn_py_encode(PyObject *obj, pn_encode_mode mode, pn_buf *out)
{
    encoder e = {out, mode, 0};
    size_t start = out->len;
    int gc = mode == PN_ENCODE_DUMPS ? 0 : pn_gc_pause(); /* callers of these hold pointers into tables */
    pn_status s = encode_value(&e, obj);
    pn_gc_resume(gc);
    if (s != PN_OK) out->len = start;
    return s;
}
