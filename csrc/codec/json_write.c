#include "codec/json_write.h"

#include "base/utf8.h"
#include "codec/json_lex.h"
#include "codec/number.h"

/* ---- strings ---- */

/* \uXXXX: the four nibbles spread over four bytes and made letters all at once. */
static inline uint8_t *put_u(uint8_t *out, uint32_t unit)
{
    uint32_t v = (unit & 0xff00) << 8 | (unit & 0xff);
    v = (v | v << 4) & 0x0f0f0f0fu;
    uint32_t letter = (v + 0x06060606u) >> 4 & 0x01010101u;
    v += 0x30303030u + letter * ('a' - '9' - 1);
    memcpy(out, "\\u", 2);
    for (int i = 0; i < 4; i++) out[2 + i] = (uint8_t)(v >> (24 - 8 * i));
    return out + 6;
}

/* Room for 12 bytes, a surrogate pair. */
static inline uint8_t *put_code_point(uint8_t *out, uint32_t cp)
{
    if (cp < 0x10000) return put_u(out, cp);
    cp -= 0x10000;
    return put_u(put_u(out, 0xd800 + (cp >> 10)), 0xdc00 + (cp & 0x3ff));
}

static uint8_t *put_ascii(uint8_t *out, uint8_t c)
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    for (int i = 0; from[i]; i++) {
        if ((uint8_t)from[i] != c) continue;
        out[0] = '\\';
        out[1] = (uint8_t)to[i];
        return out + 2;
    }
    return put_u(out, c);
}

/* What stands at p and is not plain: one ASCII character, or a whole run of others. */
static pn_status put_special(pn_buf *out, const uint8_t **at, const uint8_t *end)
{
    const uint8_t *p = *at, *q = p + 1;
    if (*p < 0x80) {
        PN_TRY(pn_buf_reserve(out, 6));
        out->len = (size_t)(put_ascii(out->data + out->len, *p) - out->data);
        *at = q;
        return PN_OK;
    }
    while (q < end && *q >= 0x80) q++;
    PN_FAIL_IF(pn_utf8_valid_prefix((pn_bytes){p, (size_t)(q - p)}, NULL) != (size_t)(q - p), PN_ERR_UTF8);
    PN_TRY(pn_buf_reserve(out, 3 * (size_t)(q - p))); /* two bytes become six, at worst */
    uint8_t *to = out->data + out->len;
    while (p < q) to = put_code_point(to, pn_utf8_next(&p));
    out->len = (size_t)(to - out->data);
    *at = q;
    return PN_OK;
}

pn_status pn_json_put_escaped(pn_buf *out, pn_bytes utf8)
{
    size_t before = out->len;
    if (utf8.len == 0) return PN_OK;
    const uint8_t *p = utf8.ptr, *end = p + utf8.len;
    PN_TRY(pn_buf_reserve(out, utf8.len));
    for (;;) {
        const uint8_t *q = pn_lex_plain(p, end);
        pn_status s = pn_buf_append(out, p, (size_t)(q - p));
        p = q;
        if (s == PN_OK && p == end) return PN_OK;
        if (s == PN_OK) s = put_special(out, &p, end);
        if (s != PN_OK) {
            out->len = before;
            return s;
        }
    }
}

bool pn_json_is_plain(pn_bytes text) { return pn_lex_plain(text.ptr, text.ptr + text.len) == text.ptr + text.len; }

pn_status pn_json_put_string(pn_buf *out, pn_bytes utf8)
{
    size_t before = out->len;
    PN_TRY(pn_buf_reserve(out, utf8.len + 2));
    out->data[out->len++] = '"';
    pn_status s = pn_json_put_escaped(out, utf8);
    if (s == PN_OK) s = pn_buf_push(out, '"');
    if (s != PN_OK) out->len = before;
    return s;
}

pn_status pn_json_put_nested(pn_buf *out, pn_bytes ascii_text)
{
    for (size_t i = 0; i < ascii_text.len;) { /* in pieces, for the processor's cache */
        size_t n = ascii_text.len - i < 4096 ? ascii_text.len - i : 4096, high = 0;
        for (size_t k = 0; k < n; k++) high |= ascii_text.ptr[i + k];
        PN_FAIL_IF(high & 0x80, PN_ERR_INVALID);
        i += n;
    }
    return pn_json_put_escaped(out, ascii_text);
}

/* ---- numbers ---- */

pn_status pn_json_put_double(pn_buf *out, double v)
{
    PN_TRY(pn_buf_reserve(out, PN_DOUBLE_TEXT_MAX));
    out->len += pn_double_print(v, (char *)out->data + out->len);
    return PN_OK;
}

pn_status pn_json_put_i64(pn_buf *out, int64_t v)
{
    uint8_t text[20], *p = text + sizeof text;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do *--p = (uint8_t)('0' + u % 10);
    while (u /= 10);
    if (v < 0) *--p = '-';
    return pn_buf_append(out, p, (size_t)(text + sizeof text - p));
}

enum { AT_ONCE = 64 }; /* numbers that one check of the room is made for */

/* n numbers, each with ", " behind it; floats when f is not NULL. */
static pn_status put_list(pn_buf *out, const double *d, const float *f, size_t n)
{
    PN_TRY(PN_BUF_LIT(out, "["));
    for (size_t i = 0; i < n;) {
        size_t stop = n - i < AT_ONCE ? n : i + AT_ONCE;
        PN_TRY(pn_buf_reserve(out, AT_ONCE * (PN_DOUBLE_TEXT_MAX + 2)));
        char *p = (char *)out->data + out->len;
        for (; i < stop; i++) {
            p += pn_double_print(f ? (double)f[i] : d[i], p);
            memcpy(p, ", ", 2);
            p += 2;
        }
        out->len = (size_t)((uint8_t *)p - out->data);
    }
    if (n) out->len -= 2;
    return PN_BUF_LIT(out, "]");
}

static pn_status put_list_or_nothing(pn_buf *out, const double *d, const float *f, size_t n)
{
    size_t before = out->len;
    pn_status s = put_list(out, d, f, n);
    if (s != PN_OK) out->len = before;
    return s;
}

pn_status pn_json_put_doubles(pn_buf *out, const double *v, size_t n) { return put_list_or_nothing(out, v, NULL, n); }
pn_status pn_json_put_floats(pn_buf *out, const float *v, size_t n) { return put_list_or_nothing(out, NULL, v, n); }
