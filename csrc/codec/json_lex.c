#include "codec/json_lex.h"

#include "base/utf8.h"
#include "codec/number.h"

pn_status pn_lex_fail(pn_json_reader *r, const uint8_t *at, pn_status code, const char *what)
{
    return pn_fail(&r->error, code, (uint64_t)(at - r->base), what);
}

/* ---- strings ---- */

#define LOWER(c, v) [c] = PN_LEX_HEX | (v)
#define UPPER(c, v) [c] = PN_LEX_HEX | PN_LEX_HEX_UPPER | (v)
const uint8_t pn_lex_hex[256] = {
    LOWER('0', 0),  LOWER('1', 1),  LOWER('2', 2),  LOWER('3', 3),  LOWER('4', 4),  LOWER('5', 5),
    LOWER('6', 6),  LOWER('7', 7),  LOWER('8', 8),  LOWER('9', 9),  LOWER('a', 10), LOWER('b', 11),
    LOWER('c', 12), LOWER('d', 13), LOWER('e', 14), LOWER('f', 15), UPPER('A', 10), UPPER('B', 11),
    UPPER('C', 12), UPPER('D', 13), UPPER('E', 14), UPPER('F', 15),
};

/* json.dumps writes \u only where nothing shorter does. */
static bool unicode_escape_canonical(int32_t cp)
{
    if (cp >= 0x20) return cp >= 0x7f;
    return cp != '\b' && cp != '\t' && cp != '\n' && cp != '\f' && cp != '\r';
}

/* One escape at p: its end, or NULL. */
static inline const uint8_t *escape(const uint8_t *p, const uint8_t *end, bool *canonical)
{
    if (end - p < 2) return NULL;
    switch (p[1]) {
    case '"': case '\\': case 'b': case 'f': case 'n': case 'r': case 't':
        return p + 2;
    case '/':
        *canonical = false;
        return p + 2;
    case 'u': {
        if (end - p < 6) return NULL;
        bool upper;
        int32_t cp = pn_lex_hex4(p + 2, &upper);
        if (cp < 0) return NULL;
        if (upper || !unicode_escape_canonical(cp)) *canonical = false;
        return p + 6;
    }
    default:
        return NULL;
    }
}

/* A run of escapes: its end, or NULL with *bad at the wrong one. */
static const uint8_t *escapes(const uint8_t *p, const uint8_t *end, bool *canonical, const uint8_t **bad)
{
    do {
        *bad = p;
        p = escape(p, end, canonical);
    } while (p != NULL && p < end && *p == '\\');
    return p;
}

/* A run of bytes from 0x80 up: its end, or NULL with *bad at the first wrong one. */
static const uint8_t *high_run(const uint8_t *p, const uint8_t *end, const uint8_t **bad)
{
    const uint8_t *q = p;
    while (q < end && *q >= 0x80) q++;
    size_t n = pn_utf8_valid_prefix((pn_bytes){p, (size_t)(q - p)}, NULL);
    *bad = p + n;
    return *bad == q ? q : NULL;
}

pn_status pn_lex_string(pn_json_reader *r, pn_json_str *out)
{
    const uint8_t *start = r->p + 1, *p = start, *bad;
    bool has_escape = false, ascii = true, canonical = true;
    for (;;) {
        p = pn_lex_plain(p, r->end);
        if (p == r->end) return pn_lex_fail(r, start - 1, PN_ERR_SYNTAX, "unterminated string");
        if (*p == '"') break;
        if (*p == '\\') {
            p = escapes(p, r->end, &canonical, &bad);
            if (p == NULL) return pn_lex_fail(r, bad, PN_ERR_SYNTAX, "invalid escape");
            has_escape = true;
        } else if (*p >= 0x80) {
            p = high_run(p, r->end, &bad);
            if (p == NULL) return pn_lex_fail(r, bad, PN_ERR_UTF8, "invalid UTF-8");
            ascii = canonical = false;
        } else if (*p == 0x7f) {
            p++;
            canonical = false;
        } else {
            return pn_lex_fail(r, p, PN_ERR_SYNTAX, "control character in a string");
        }
    }
    r->p = p + 1;
    /* Field by field: copying a struct built of small stores waits for all of them. */
    out->ptr = start;
    out->len = (size_t)(p - start);
    out->has_escape = has_escape;
    out->ascii = ascii;
    out->canonical = canonical;
    return PN_OK;
}

/* ---- numbers ---- */

static bool is_digit(const uint8_t *p, const uint8_t *end) { return p < end && (uint8_t)(*p - '0') < 10; }

static const uint8_t *digits(const uint8_t *p, const uint8_t *end)
{
    while (is_digit(p, end)) p++;
    return p;
}

static bool starts(const uint8_t *p, const uint8_t *end, const char *word, size_t n)
{
    return (size_t)(end - p) >= n && memcmp(p, word, n) == 0;
}

/* The end of NaN, Infinity or -Infinity at p, or NULL. */
static const uint8_t *named_number(const uint8_t *p, const uint8_t *end)
{
    if (starts(p, end, "NaN", 3)) return p + 3;
    if (starts(p, end, "Infinity", 8)) return p + 8;
    return starts(p, end, "-Infinity", 9) ? p + 9 : NULL;
}

/* Behind the integer part: fraction and exponent. A point or an 'e' that nothing
 * follows is no part of the number, and an error for whoever reads on. */
static const uint8_t *fraction_and_exponent(const uint8_t *p, const uint8_t *end)
{
    if (p < end && *p == '.' && is_digit(p + 1, end)) p = digits(p + 1, end);
    if (p < end && (*p | 0x20) == 'e') {
        const uint8_t *q = p + 1;
        if (q < end && (*q == '+' || *q == '-')) q++;
        if (is_digit(q, end)) p = digits(q, end);
    }
    return p;
}

pn_status pn_lex_number(pn_json_reader *r, pn_json_num *out)
{
    const uint8_t *start = r->p, *end = r->end, *first = start + (start < end && *start == '-');
    if (!is_digit(first, end)) {
        const uint8_t *p = named_number(start, end);
        if (p == NULL) return pn_lex_fail(r, start, PN_ERR_SYNTAX, "expected a value");
        out->ptr = start;
        out->len = (size_t)(p - start);
        out->is_int = false;
        r->p = p;
        return PN_OK;
    }
    const uint8_t *whole = *first == '0' ? first + 1 : digits(first, end);
    const uint8_t *p = fraction_and_exponent(whole, end);
    if (p == whole && whole - first > PN_JSON_MAX_INT_DIGITS)
        return pn_lex_fail(r, start, PN_ERR_UNSUPPORTED, "an integer of too many digits");
    out->ptr = start;
    out->len = (size_t)(p - start);
    out->is_int = p == whole;
    r->p = p;
    return PN_OK;
}

/* "0.25", "-3.5": at most 15 digits, no exponent, no zero at the end but in ".0".
 * Two decimals of 15 digits never share a double, so no shorter or other text of that
 * length can stand for it: it is its own repr. Zero and numbers below 0.1 (where repr
 * may have an exponent) go the long way. */
static bool obviously_repr(const pn_json_num *n)
{
    const uint8_t *p = n->ptr + (*n->ptr == '-'), *end = n->ptr + n->len, *point = p;
    if (end - p > 16 || end - p < 3 || (p[0] == '0' && p[2] == '0')) return false;
    while (point < end && *point != '.') point++;
    if (point >= end - 1) return false;
    for (const uint8_t *q = point + 1; q < end; q++)
        if (*q > '9' || *q < '0') return false;
    return end[-1] != '0' || point + 2 == end;
}

bool pn_lex_number_canonical(const pn_json_num *n)
{
    if (n->is_int) return !(n->len == 2 && n->ptr[0] == '-' && n->ptr[1] == '0');
    if (n->ptr[n->len - 1] > '9') return true; /* NaN, Infinity */
    if (obviously_repr(n)) return true;
    char text[PN_DOUBLE_TEXT_MAX];
    double v;
    if (n->len >= sizeof text || pn_double_read(n->ptr, n->ptr + n->len, &v) != n->ptr + n->len) return false;
    size_t len = pn_double_print(v, text);
    return len == n->len && memcmp(text, n->ptr, len) == 0;
}

/* ---- true, false, null ---- */

pn_status pn_lex_literal(pn_json_reader *r)
{
    const uint8_t *p = r->p, *end = r->end;
    size_t n = starts(p, end, "true", 4) || starts(p, end, "null", 4) ? 4 : starts(p, end, "false", 5) ? 5 : 0;
    if (n == 0) return pn_lex_fail(r, p, PN_ERR_SYNTAX, "expected a value");
    r->p = p + n;
    return PN_OK;
}
