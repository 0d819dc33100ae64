#include "codec/json_read.h"

#include "base/utf8.h"
#include "codec/json_lex.h"
#include "codec/number.h"

#include <math.h>

void pn_json_reader_init(pn_json_reader *r, pn_bytes text)
{
    *r = (pn_json_reader){.first = false};
    r->base = r->p = text.len ? text.ptr : (const uint8_t *)"";
    r->end = r->base + text.len;
}

static pn_json_type type_of(uint8_t c)
{
    switch (c) {
    case '{': return PN_JSON_OBJECT;
    case '[': return PN_JSON_ARRAY;
    case '"': return PN_JSON_STRING;
    case 't': return PN_JSON_TRUE;
    case 'f': return PN_JSON_FALSE;
    case 'n': return PN_JSON_NULL;
    case 'N': case 'I': case '-':
        return PN_JSON_NUMBER;
    default:
        return c >= '0' && c <= '9' ? PN_JSON_NUMBER : PN_JSON_BAD;
    }
}

pn_json_type pn_json_peek(pn_json_reader *r)
{
    r->p = pn_lex_space(r->p, r->end);
    return r->p < r->end ? type_of(*r->p) : PN_JSON_END;
}

pn_status pn_json_end(pn_json_reader *r)
{
    if (pn_json_peek(r) == PN_JSON_END) return PN_OK;
    return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "text after the value");
}

/* ---- containers ---- */

static pn_status begin(pn_json_reader *r, pn_json_type type, const char *what)
{
    if (pn_json_peek(r) != type) return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, what);
    if (r->depth >= PN_JSON_MAX_DEPTH) return pn_lex_fail(r, r->p, PN_ERR_DEPTH, "nested too deeply");
    r->depth++;
    r->p++;
    r->first = true;
    return PN_OK;
}

/* Steps over the comma in front of the next item, or over the closing bracket. */
static pn_status next_item(pn_json_reader *r, uint8_t close, bool *more)
{
    r->p = pn_lex_space(r->p, r->end);
    uint8_t c = r->p < r->end ? *r->p : 0;
    if (c == close) {
        r->p++;
        r->depth--;
        r->first = false;
        *more = false;
        return PN_OK;
    }
    if (!r->first) {
        if (c != ',') return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a comma or the closing bracket");
        r->p++;
    }
    r->first = false;
    *more = true;
    return PN_OK;
}

pn_status pn_json_object_begin(pn_json_reader *r) { return begin(r, PN_JSON_OBJECT, "expected an object"); }
pn_status pn_json_array_begin(pn_json_reader *r) { return begin(r, PN_JSON_ARRAY, "expected an array"); }
pn_status pn_json_array_next(pn_json_reader *r, bool *more) { return next_item(r, ']', more); }

pn_status pn_json_object_next(pn_json_reader *r, pn_json_str *key, bool *more)
{
    PN_TRY(next_item(r, '}', more));
    if (!*more) return PN_OK;
    if (pn_json_peek(r) != PN_JSON_STRING)
        return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a key in double quotes");
    PN_TRY(pn_lex_string(r, key));
    r->p = pn_lex_space(r->p, r->end);
    if (r->p == r->end || *r->p != ':') return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a colon");
    r->p++;
    return PN_OK;
}

/* ---- scalars ---- */

pn_status pn_json_string(pn_json_reader *r, pn_json_str *out)
{
    if (pn_json_peek(r) != PN_JSON_STRING) return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a string");
    return pn_lex_string(r, out);
}

pn_status pn_json_number(pn_json_reader *r, pn_json_num *out)
{
    if (pn_json_peek(r) != PN_JSON_NUMBER) return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a number");
    return pn_lex_number(r, out);
}

pn_status pn_json_literal(pn_json_reader *r)
{
    pn_json_peek(r);
    return pn_lex_literal(r);
}

/* NaN and the infinities, told apart by their letters. */
static double named_value(const pn_json_num *n)
{
    if (n->ptr[0] == 'N') return (double)NAN;
    return n->ptr[0] == '-' ? -(double)INFINITY : (double)INFINITY;
}

pn_status pn_json_num_double(const pn_json_num *n, double *out)
{
    const uint8_t *end = n->ptr + n->len;
    double v;
    PN_FAIL_IF(n->len == 0, PN_ERR_INVALID);
    if (end[-1] > '9') {
        *out = named_value(n);
        return PN_OK;
    }
    PN_FAIL_IF(pn_double_read(n->ptr, end, &v) != end, PN_ERR_INVALID);
    if (n->is_int) {
        PN_FAIL_IF(isinf(v), PN_ERR_RANGE);
        if (v == 0) v = 0; /* the integer -0 is 0 */
    }
    *out = v;
    return PN_OK;
}

/* ---- arrays of numbers ---- */

/* An element that the fast loop does not settle: names, a zero or an infinity (what
 * they are depends on whether the literal is an integer), very long literals. */
static pn_status odd_double(pn_json_reader *r, double *out)
{
    pn_json_num n;
    PN_FAIL_IF(pn_json_peek(r) != PN_JSON_NUMBER || pn_lex_number(r, &n) != PN_OK, PN_ERR_UNSUPPORTED);
    return pn_json_num_double(&n, out) == PN_OK ? PN_OK : PN_ERR_UNSUPPORTED;
}

static bool settled(const uint8_t *p, const uint8_t *end, double v)
{
    return end != NULL && end - p < PN_JSON_MAX_INT_DIGITS && v != 0 && !isinf(v);
}

/* One element, of any shape. */
static pn_status read_double(pn_json_reader *r, double *out)
{
    r->p = pn_lex_space(r->p, r->end);
    const uint8_t *end = pn_double_read(r->p, r->end, out);
    if (!settled(r->p, end, *out)) return odd_double(r, out);
    r->p = end;
    return PN_OK;
}

/* From behind the opening bracket to behind the closing one. */
static pn_status read_doubles(pn_json_reader *r, double *out, size_t cap, size_t *len)
{
    size_t n = 0, run;
    if (pn_json_peek(r) == PN_JSON_BAD && *r->p == ']') goto done;
    for (;;) {
        r->p = pn_double_run(r->base, r->p, r->end, out + n, cap - n, &run);
        n += run;
        double v;
        PN_TRY(read_double(r, &v));
        PN_FAIL_IF(n == cap, PN_ERR_UNSUPPORTED);
        out[n++] = v;
        r->p = pn_lex_space(r->p, r->end);
        if (r->p == r->end || *r->p != ',') break;
        r->p = pn_lex_space(r->p + 1, r->end);
    }
    PN_FAIL_IF(r->p == r->end || *r->p != ']', PN_ERR_UNSUPPORTED);
done:
    r->p++;
    *len = n;
    return PN_OK;
}

pn_status pn_json_doubles(pn_json_reader *r, double *out, size_t cap, size_t *len)
{
    pn_json_reader at = *r;
    PN_FAIL_IF(pn_json_peek(&at) != PN_JSON_ARRAY || at.depth >= PN_JSON_MAX_DEPTH, PN_ERR_UNSUPPORTED);
    at.p++;
    PN_TRY(read_doubles(&at, out, cap, len));
    r->p = at.p;
    return PN_OK;
}

/* ---- the characters of a string ---- */

static uint8_t short_escape(uint8_t c)
{
    switch (c) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return c;
    }
}

/* The escape at p written to out (room for 4 bytes), or an error for what a reader
 * would never have let through. Advances both. */
static inline pn_status put_escape(const uint8_t **at, const uint8_t *end, uint8_t **out)
{
    const uint8_t *p = *at;
    PN_FAIL_IF(end - p < 2, PN_ERR_INVALID);
    if (p[1] != 'u') {
        *(*out)++ = short_escape(p[1]);
        *at = p + 2;
        return PN_OK;
    }
    PN_FAIL_IF(end - p < 6, PN_ERR_INVALID);
    bool upper;
    int32_t cp = pn_lex_hex4(p + 2, &upper);
    PN_FAIL_IF(cp < 0, PN_ERR_INVALID);
    p += 6;
    if (cp >= 0xd800 && cp < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
        int32_t low = pn_lex_hex4(p + 2, &upper);
        if (low >= 0xdc00 && low < 0xe000) {
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
    }
    *out += pn_utf8_put((uint32_t)cp, *out);
    *at = p;
    return PN_OK;
}

/* The result is never longer than the raw text. */
pn_status pn_json_unescape(const pn_json_str *s, pn_buf *out)
{
    if (!s->has_escape) return pn_buf_append(out, s->ptr, s->len);
    PN_TRY(pn_buf_reserve(out, s->len));
    const uint8_t *p = s->ptr, *end = p + s->len;
    uint8_t *to = out->data + out->len;
    while (p < end) {
        if (*p == '\\') {
            PN_TRY(put_escape(&p, end, &to));
            continue;
        }
        const uint8_t *slash = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((slash ? slash : end) - p);
        memcpy(to, p, n);
        to += n;
        p += n;
    }
    out->len = (size_t)(to - out->data);
    return PN_OK;
}
