#include "codec/json_raw.h"

#include "codec/json_lex.h"
#include "codec/number.h"

/* ---- strings ---- */

static bool is_raw(uint8_t c) { return c >= ' ' && c != '"' && c != '\\'; }

/* The first byte that is to be escaped, or end: as pn_lex_plain, over what it stops at. */
static const uint8_t *raw_run(const uint8_t *p, const uint8_t *end)
{
    while ((p = pn_lex_plain(p, end)) < end && is_raw(*p))
        while (p < end && *p > '~') p++;
    return p;
}

static pn_status put_escape(pn_buf *out, uint8_t c)
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf", hex[] = "0123456789abcdef";
    for (int i = 0; from[i]; i++)
        if ((uint8_t)from[i] == c) return pn_buf_append(out, (char[]){'\\', to[i]}, 2);
    return pn_buf_append(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
}

pn_status pn_json_raw_string(pn_buf *out, pn_bytes utf8)
{
    const uint8_t *p = utf8.ptr, *end = p + utf8.len;
    PN_TRY(pn_buf_reserve(out, utf8.len + 2));
    PN_TRY(pn_buf_push(out, '"'));
    while (p < end) {
        const uint8_t *q = raw_run(p, end);
        PN_TRY(pn_buf_append(out, p, (size_t)(q - p)));
        if (q < end) PN_TRY(put_escape(out, *q++));
        p = q;
    }
    return pn_buf_push(out, '"');
}

/* ---- numbers ---- */

/* 1.5e-05 to 0.000015. Behind the mantissa there is room for PN_DOUBLE_TEXT_MAX bytes. */
static size_t spell_out(const char *mantissa, size_t n, char *out)
{
    size_t len = 0;
    if (*mantissa == '-') {
        out[len++] = '-';
        mantissa++;
        n--;
    }
    memcpy(out + len, "0.0000", 6);
    len += 6;
    for (size_t i = 0; i < n; i++)
        if (mantissa[i] != '.') out[len++] = mantissa[i];
    return len;
}

pn_status pn_json_raw_double(pn_buf *out, double v)
{
    char text[PN_DOUBLE_TEXT_MAX], small[2 * PN_DOUBLE_TEXT_MAX];
    size_t n = pn_double_print(v, text);
    const char *e = memchr(text, 'e', n);
    size_t mantissa = e ? (size_t)(e - text) : 0;
    if (e == NULL || e[1] != '-' || n - mantissa != 4 || e[2] != '0') return pn_buf_append(out, text, n);
    if (e[3] == '5') return pn_buf_append(out, small, spell_out(text, mantissa, small));
    PN_TRY(pn_buf_append(out, text, n - 2));
    return pn_buf_push(out, (uint8_t)e[3]);
}
