/* json_str.c: the strings of a JSON text as Python's.
 *
 * A string without escapes is copied as it stands. One with escapes is drafted: copied, with
 * its escapes resolved, while its end is looked for, and then put into a str of the right
 * width; so its text is walked once. What is too long for a draft is read first and resolved
 * afterwards.
 */
#include "py/json_decode.h"

#include "codec/json_lex.h"

typedef pn_py_decoder decoder;

static PyObject *str_surrogates(pn_bytes utf8)
{
    PyObject *s = PyUnicode_DecodeUTF8((const char *)utf8.ptr, (Py_ssize_t)utf8.len, NULL);
    if (s != NULL || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return s;
    PyErr_Clear();
    return PyUnicode_DecodeUTF8((const char *)utf8.ptr, (Py_ssize_t)utf8.len, "surrogatepass");
}

PyObject *pn_py_ascii(const uint8_t *p, size_t n)
{
    if (n == 1) return PyUnicode_FromOrdinal(*p); /* Python keeps one of each */
    PyObject *s = PyUnicode_New((Py_ssize_t)n, 127);
    if (s != NULL && n) memcpy(PyUnicode_1BYTE_DATA(s), p, n);
    return s;
}

PyObject *pn_py_str_copy(PyObject *str)
{
    Py_ssize_t n = PyUnicode_GET_LENGTH(str);
    if (n == 0) return Py_NewRef(str);
    if (n == 1) return PyUnicode_FromOrdinal((int)PyUnicode_READ_CHAR(str, 0));
    PyObject *copy = PyUnicode_New(n, PyUnicode_MAX_CHAR_VALUE(str));
    if (copy != NULL) memcpy(PyUnicode_DATA(copy), PyUnicode_DATA(str), (size_t)n * PyUnicode_KIND(str));
    return copy;
}

static bool is_ascii(pn_bytes text)
{
    uint64_t high = 0, v;
    size_t i = 0;
    for (; text.len - i >= 8; i += 8) {
        memcpy(&v, text.ptr + i, 8);
        high |= v;
    }
    for (; i < text.len; i++) high |= (uint64_t)text.ptr[i] << 56;
    return (high & 0x8080808080808080u) == 0;
}

PyObject *pn_py_str(pn_bytes utf8)
{
    if (is_ascii(utf8)) return pn_py_ascii(utf8.ptr, utf8.len);
    int gc = pn_gc_pause(); /* with surrogates an exception comes and goes: callers hold pointers into tables */
    PyObject *s = str_surrogates(utf8);
    pn_gc_resume(gc);
    return s;
}

/* ---- strings with escapes ---- */

/* The value of a valid hex digit: bit 6 tells letters, which count from 1, from digits. */
static uint32_t hex1(uint8_t c) { return (c & 15u) + 9u * (c >> 6); }

static uint32_t hex4(const uint8_t *p) { return hex1(p[0]) << 12 | hex1(p[1]) << 8 | hex1(p[2]) << 4 | hex1(p[3]); }

/* The character of the escape at *p, stepping over it; a pair of surrogates is one. */
static uint32_t escaped(const uint8_t **p, const uint8_t *end)
{
    uint8_t c = (*p)[1];
    *p += 2;
    switch (c) {
    case 'n': return '\n';
    case 't': return '\t';
    case 'r': return '\r';
    case 'b': return '\b';
    case 'f': return '\f';
    case 'u': break;
    default: return c;
    }
    uint32_t high = hex4(*p);
    *p += 4;
    if (high < 0xD800 || high > 0xDBFF || end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u') return high;
    uint32_t low = hex4(*p + 2);
    if (low < 0xDC00 || low > 0xDFFF) return high;
    *p += 6;
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

static const uint8_t *next_escape(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *at = memchr(p, '\\', (size_t)(end - p));
    return at ? at : end;
}

static void widen2(uint16_t *out, const uint8_t *p, size_t n)
{
    size_t i = 0;
#if defined(__SSE2__)
    for (; n - i >= 16; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        _mm_storeu_si128((__m128i *)(void *)(out + i), _mm_unpacklo_epi8(v, _mm_setzero_si128()));
        _mm_storeu_si128((__m128i *)(void *)(out + i + 8), _mm_unpackhi_epi8(v, _mm_setzero_si128()));
    }
#endif
    for (; i < n; i++) out[i] = p[i];
}

static void widen4(uint32_t *out, const uint8_t *p, size_t n)
{
    size_t i = 0;
#if defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128();
    for (; n - i >= 16; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        __m128i low = _mm_unpacklo_epi8(v, zero), high = _mm_unpackhi_epi8(v, zero);
        __m128i *to = (__m128i *)(void *)(out + i);
        _mm_storeu_si128(to, _mm_unpacklo_epi16(low, zero));
        _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(low, zero));
        _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(high, zero));
        _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(high, zero));
    }
#endif
    for (; i < n; i++) out[i] = p[i];
}

static void put_run(PyObject *str, Py_ssize_t at, const uint8_t *p, size_t n)
{
    switch (PyUnicode_KIND(str)) {
    case PyUnicode_1BYTE_KIND: memcpy(PyUnicode_1BYTE_DATA(str) + at, p, n); break;
    case PyUnicode_2BYTE_KIND: widen2(PyUnicode_2BYTE_DATA(str) + at, p, n); break;
    default: widen4(PyUnicode_4BYTE_DATA(str) + at, p, n);
    }
}

/* ASCII text with escapes: measured, then written in place, where going through UTF-8
 * would write it three times. */
static PyObject *unescaped(const pn_json_str *s)
{
    const uint8_t *end = s->ptr + s->len;
    Py_ssize_t n = 0;
    uint32_t max = 0;
    for (const uint8_t *p = s->ptr, *q; p < end; p = q) {
        q = next_escape(p, end);
        n += q - p;
        if (q == end) break;
        uint32_t c = escaped(&q, end);
        if (c > max) max = c;
        n++;
    }
    if (n == 1) return PyUnicode_FromOrdinal((int)max);
    PyObject *str = PyUnicode_New(n, max < 128 ? 127 : max);
    Py_ssize_t at = 0;
    for (const uint8_t *p = s->ptr, *q; str != NULL && p < end; p = q) {
        q = next_escape(p, end);
        put_run(str, at, p, (size_t)(q - p));
        at += q - p;
        if (q < end) {
            uint32_t c = escaped(&q, end);
            PyUnicode_WRITE(PyUnicode_KIND(str), PyUnicode_DATA(str), at++, c);
        }
    }
    return str;
}

static PyObject *decode_str(const pn_json_str *s, pn_buf *scratch)
{
    if (!s->has_escape) return s->ascii ? pn_py_ascii(s->ptr, s->len) : pn_py_str((pn_bytes){s->ptr, s->len});
    if (s->ascii) return unescaped(s);
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

PyObject *pn_py_decode_chars(decoder *d, const pn_json_str *s) { return decode_str(s, &d->scratch); }

/* ---- strings that are read ---- */

/* The characters of a string, those beyond Latin-1 aside. */
enum { DRAFT_MOST = 4096, WIDE_MOST = 64, COPIED_AT_ONCE = 16 };
typedef struct {
    size_t len, wide;
    uint32_t max; /* of the escaped characters */
    struct {
        uint32_t at, c;
    } wides[WIDE_MOST];
    uint8_t text[DRAFT_MOST + COPIED_AT_ONCE];
} draft;

/* As pn_lex_plain, with a copy of what it steps over; more may be written behind that. */
static const uint8_t *copied_plain(const uint8_t *p, const uint8_t *end, uint8_t *to)
{
    const uint8_t *start = p;
#if defined(__SSE2__)
    for (; end - p >= COPIED_AT_ONCE; p += COPIED_AT_ONCE) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        _mm_storeu_si128((__m128i *)(void *)(to + (p - start)), v);
        unsigned odd = pn_lex_odd16(v);
        if (odd) return p + __builtin_ctz(odd);
    }
#endif
    const uint8_t *rest = p;
    p = pn_lex_plain(p, end);
    memcpy(to + (rest - start), rest, (size_t)(p - rest));
    return p;
}

static bool escape_valid(const uint8_t *p, const uint8_t *end)
{
    bool upper;
    if (end - p < 2) return false;
    if (p[1] == 'u') return end - p >= 6 && pn_lex_hex4(p + 2, &upper) >= 0;
    return p[1] != 0 && strchr("\"\\/bfnrt", p[1]) != NULL;
}

/* Whether what begins a pair of surrogates is followed by something valid. */
static bool pair_valid(const uint8_t *p, const uint8_t *end)
{
    bool surrogate = p[1] == 'u' && (p[2] | 0x20) == 'd';
    return !surrogate || end - p < 8 || p[6] != '\\' || escape_valid(p + 6, end);
}

static bool draft_escape(draft *d, const uint8_t **p, const uint8_t *end)
{
    if (!escape_valid(*p, end) || !pair_valid(*p, end)) return false;
    uint32_t c = escaped(p, end);
    if (c > d->max) d->max = c;
    if (c > 0xff) {
        if (d->wide == WIDE_MOST) return false;
        d->wides[d->wide].at = (uint32_t)d->len;
        d->wides[d->wide++].c = c;
    }
    d->text[d->len++] = (uint8_t)c;
    return true;
}

/* From behind the opening quote; *p is set to the closing one. False: not this way. */
static bool draft_text(draft *d, const uint8_t **p, const uint8_t *end)
{
    d->len = d->wide = 0;
    d->max = 127;
    if (end - *p > DRAFT_MOST) end = *p + DRAFT_MOST;
    for (;;) {
        const uint8_t *run = *p;
        *p = copied_plain(run, end, d->text + d->len);
        d->len += (size_t)(*p - run);
        if (*p == end) return false;
        if (**p == '"') return true;
        if (**p != '\\' || !draft_escape(d, p, end)) return false;
    }
}

static PyObject *drafted(const draft *d)
{
    if (d->len == 1) return PyUnicode_FromOrdinal((int)(d->wide ? d->wides[0].c : d->text[0]));
    PyObject *str = PyUnicode_New((Py_ssize_t)d->len, d->max);
    if (str == NULL) return NULL;
    put_run(str, 0, d->text, d->len);
    for (size_t i = 0; i < d->wide; i++) PyUnicode_WRITE(PyUnicode_KIND(str), PyUnicode_DATA(str), d->wides[i].at, d->wides[i].c);
    return str;
}

/* The string whose opening quote the reader is at, when it can be made at once; NULL
 * without an exception: not so, and the reader has not moved. */
static PyObject *made_at_once(pn_json_reader *r, pn_bytes *raw)
{
    draft d;
    const uint8_t *start = r->p + 1, *p = pn_lex_plain(start, r->end);
    if (p == r->end) return NULL;
    PyObject *str = NULL;
    if (*p == '"')
        str = pn_py_ascii(start, (size_t)(p - start));
    else if (p = start, draft_text(&d, &p, r->end))
        str = drafted(&d);
    if (str == NULL) return NULL;
    *raw = (pn_bytes){start, (size_t)(p - start)};
    r->p = p + 1;
    return str;
}

pn_status pn_py_read_str(decoder *d, pn_bytes *raw, PyObject **str)
{
    pn_json_str s;
    *str = NULL;
    if (pn_json_peek(&d->r) == PN_JSON_STRING) *str = made_at_once(&d->r, raw);
    if (*str != NULL) return PN_OK;
    if (PyErr_Occurred()) return PN_ERR_CALLBACK;
    PN_TRY(pn_json_string(&d->r, &s));
    *raw = (pn_bytes){s.ptr, s.len};
    *str = decode_str(&s, &d->scratch);
    return *str ? PN_OK : PN_ERR_CALLBACK;
}
