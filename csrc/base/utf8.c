#include "base/utf8.h"

/* How many bytes at p are ASCII, in steps of eight, then one by one. */
static const uint8_t *skip_ascii(const uint8_t *p, const uint8_t *end)
{
    for (; end - p >= 8; p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        if (w & 0x8080808080808080u) break;
    }
    while (p < end && *p < 0x80) p++;
    return p;
}

static bool continues(const uint8_t *p, const uint8_t *end) { return p < end && (*p & 0xc0) == 0x80; }

/* Length of the multi-byte character at p, 0 when it is not valid. */
static size_t character(const uint8_t *p, const uint8_t *end, bool *surrogate)
{
    uint8_t c = *p;
    if (c < 0xc2 || c > 0xf4 || !continues(p + 1, end)) return 0;
    if (c < 0xe0) return 2;
    if (!continues(p + 2, end)) return 0;
    if (c < 0xf0) {
        if (c == 0xe0 && p[1] < 0xa0) return 0; /* overlong */
        *surrogate |= c == 0xed && p[1] >= 0xa0;
        return 3;
    }
    if (!continues(p + 3, end)) return 0;
    if (c == 0xf0 && p[1] < 0x90) return 0;  /* overlong */
    if (c == 0xf4 && p[1] >= 0x90) return 0; /* past U+10FFFF */
    return 4;
}

size_t pn_utf8_valid_prefix(pn_bytes b, bool *surrogates)
{
    if (surrogates != NULL) *surrogates = false;
    if (b.len == 0) return 0;
    const uint8_t *p = b.ptr, *end = b.ptr + b.len;
    bool surrogate = false;
    for (;;) {
        p = skip_ascii(p, end);
        size_t n = 0;
        while (p < end && *p >= 0x80 && (n = character(p, end, &surrogate)) != 0) p += n;
        if (p == end || *p >= 0x80) break;
    }
    if (surrogates != NULL) *surrogates = surrogate;
    return (size_t)(p - b.ptr);
}

uint32_t pn_utf8_next(const uint8_t **at)
{
    const uint8_t *p = *at;
    uint32_t c = *p;
    if (c < 0x80) {
        *at = p + 1;
        return c;
    }
    if (c < 0xe0) {
        *at = p + 2;
        return (c & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (c < 0xf0) {
        *at = p + 3;
        return (c & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    }
    *at = p + 4;
    return (c & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}

size_t pn_utf8_put(uint32_t cp, uint8_t *out)
{
    if (cp < 0x80) {
        out[0] = (uint8_t)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (uint8_t)(0xc0 | cp >> 6);
        out[1] = (uint8_t)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (uint8_t)(0xe0 | cp >> 12);
        out[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | cp >> 18);
    out[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (cp & 0x3f));
    return 4;
}
