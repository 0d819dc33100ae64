/* json_lex.h: the tokens of JSON, for the readers of this folder and json_str.c (not for others).
 *
 * Each function reads one token at r->p and steps over it, or fails with r->error
 * filled. None skips whitespace in front. All are O(length of the token).
 */
#ifndef PN_CODEC_JSON_LEX_H
#define PN_CODEC_JSON_LEX_H

#include "codec/json_read.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Fills r->error with the place `at`. */
pn_status pn_lex_fail(pn_json_reader *r, const uint8_t *at, pn_status code, const char *what);

/* A string, from its opening quote. */
pn_status pn_lex_string(pn_json_reader *r, pn_json_str *out);

/* A number, NaN and the infinities included. */
pn_status pn_lex_number(pn_json_reader *r, pn_json_num *out);
/* Whether json.dumps would print the number just so. */
bool pn_lex_number_canonical(const pn_json_num *n);

/* true, false or null. */
pn_status pn_lex_literal(pn_json_reader *r);

static inline bool pn_lex_is_space(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

static inline const uint8_t *pn_lex_space(const uint8_t *p, const uint8_t *end)
{
    while (p < end && pn_lex_is_space(*p)) p++;
    return p;
}

/* For each byte: its value as a hex digit and what it is, 0 for all others. */
enum { PN_LEX_HEX = 0x10, PN_LEX_HEX_UPPER = 0x20 };
extern const uint8_t pn_lex_hex[256];

/* The four hex digits at p, or -1. *upper: whether one is an upper-case letter. */
static inline int32_t pn_lex_hex4(const uint8_t *p, bool *upper)
{
    unsigned a = pn_lex_hex[p[0]], b = pn_lex_hex[p[1]], c = pn_lex_hex[p[2]], d = pn_lex_hex[p[3]];
    *upper = ((a | b | c | d) & PN_LEX_HEX_UPPER) != 0;
    if (!(a & b & c & d & PN_LEX_HEX)) return -1;
    return (int32_t)((a & 15) << 12 | (b & 15) << 8 | (c & 15) << 4 | (d & 15));
}

/* Plain: what stands in a JSON string as itself, ' ' to '~' but quote and backslash.
 * Text is nearly all plain, so this loop is what reading and writing it costs. */
static inline bool pn_lex_is_plain(uint8_t c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; }

#if defined(__SSE2__)
/* Bit i: byte i is not plain. */
static inline unsigned pn_lex_odd16(__m128i v)
{
    __m128i odd = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
    odd = _mm_or_si128(odd, _mm_cmplt_epi8(v, _mm_set1_epi8(' '))); /* signed: 0x80 and up too */
    odd = _mm_or_si128(odd, _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f)));
    return (unsigned)_mm_movemask_epi8(odd);
}
#endif

/* The first byte from p on that is not plain, or end. */
static inline const uint8_t *pn_lex_plain(const uint8_t *p, const uint8_t *end)
{
#if defined(__SSE2__)
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        unsigned mask = pn_lex_odd16(v);
        if (mask) return p + __builtin_ctz(mask);
    }
#elif defined(__aarch64__)
    for (; end - p >= 16; p += 16) {
        uint8x16_t v = vld1q_u8(p);
        uint8x16_t odd = vorrq_u8(vceqq_u8(v, vdupq_n_u8('"')), vceqq_u8(v, vdupq_n_u8('\\')));
        odd = vorrq_u8(odd, vcgeq_u8(vsubq_u8(v, vdupq_n_u8(' ')), vdupq_n_u8(0x7f - ' ')));
        uint64_t mask = vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(odd), 4)), 0);
        if (mask) return p + __builtin_ctzll(mask) / 4;
    }
#endif
    while (p < end && pn_lex_is_plain(*p)) p++;
    return p;
}

#endif
