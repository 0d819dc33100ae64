#include "base/sha256.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

/* The first 32 bits of the fractions of the cube roots of the first 64 primes. */
static const uint32_t k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static uint32_t get_be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static void expand(uint32_t w[64], const uint8_t *block)
{
    for (int i = 0; i < 16; i++) w[i] = get_be32(block + 4 * i);
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
}

static void compress(uint32_t h[8], const uint8_t *block)
{
    uint32_t w[64], v[8];
    expand(w, block);
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t t1 = v[7] + s1 + choice + k[i] + w[i];
        uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + s0 + majority;
    }
    for (int i = 0; i < 8; i++) h[i] += v[i];
}

static void by_c(uint32_t h[8], const uint8_t *p, size_t blocks)
{
    for (; blocks; blocks--, p += 64) compress(h, p);
}

#if defined(__x86_64__)

#define SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))

/* Four rounds; w holds their four words of the schedule. The instructions keep the
 * state as ABEF and CDGH. */
SHA_TARGET static inline void four_rounds(__m128i *abef, __m128i *cdgh, __m128i w, const uint32_t *constants)
{
    __m128i wk = _mm_add_epi32(w, _mm_loadu_si128((const __m128i *)(const void *)constants));
    *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, wk);
    *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

/* The next four words of the schedule, from the sixteen before them. */
SHA_TARGET static inline __m128i next_words(__m128i w0, __m128i w1, __m128i w2, __m128i w3)
{
    __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
    return _mm_sha256msg2_epu32(sum, w3);
}

SHA_TARGET static void block_by_instructions(__m128i *abef, __m128i *cdgh, const uint8_t *p)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
    const __m128i abef0 = *abef, cdgh0 = *cdgh;
    __m128i w[4];
    for (int i = 0; i < 4; i++) {
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), big_endian);
        four_rounds(abef, cdgh, w[i], k + 4 * i);
    }
    for (int i = 16; i < 64; i += 16) {
        w[0] = next_words(w[0], w[1], w[2], w[3]);
        four_rounds(abef, cdgh, w[0], k + i);
        w[1] = next_words(w[1], w[2], w[3], w[0]);
        four_rounds(abef, cdgh, w[1], k + i + 4);
        w[2] = next_words(w[2], w[3], w[0], w[1]);
        four_rounds(abef, cdgh, w[2], k + i + 8);
        w[3] = next_words(w[3], w[0], w[1], w[2]);
        four_rounds(abef, cdgh, w[3], k + i + 12);
    }
    *abef = _mm_add_epi32(*abef, abef0);
    *cdgh = _mm_add_epi32(*cdgh, cdgh0);
}

SHA_TARGET static void by_instructions(uint32_t h[8], const uint8_t *p, size_t blocks)
{
    __m128i abef = _mm_set_epi32((int)h[0], (int)h[1], (int)h[4], (int)h[5]);
    __m128i cdgh = _mm_set_epi32((int)h[2], (int)h[3], (int)h[6], (int)h[7]);
    for (; blocks; blocks--, p += 64) block_by_instructions(&abef, &cdgh, p);
    uint32_t out[8];
    _mm_storeu_si128((__m128i *)(void *)out, abef);
    _mm_storeu_si128((__m128i *)(void *)(out + 4), cdgh);
    const uint8_t place[8] = {3, 2, 7, 6, 1, 0, 5, 4}; /* of a to h */
    for (int i = 0; i < 8; i++) h[i] = out[place[i]];
}

static bool has_instructions(void)
{
    static int known; /* 0: not looked yet; every thread finds the same */
    int now = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (now == 0) {
        unsigned a, b, c, d;
        bool sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1;
        now = sha && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3") ? 1 : -1;
        __atomic_store_n(&known, now, __ATOMIC_RELAXED);
    }
    return now > 0;
}

#else

static void by_instructions(uint32_t h[8], const uint8_t *p, size_t blocks) { by_c(h, p, blocks); }
static bool has_instructions(void) { return false; }

#endif

static void blocks_of(pn_sha256 *s, const uint8_t *p, size_t blocks)
{
    if (blocks == 0) return;
    if (s->portable || !has_instructions())
        by_c(s->h, p, blocks);
    else
        by_instructions(s->h, p, blocks);
}

void pn_sha256_init(pn_sha256 *s)
{
    static const uint32_t start[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };
    memcpy(s->h, start, sizeof start);
    s->len = 0;
    s->portable = false;
}

void pn_sha256_add(pn_sha256 *s, pn_bytes b)
{
    size_t held = s->len % 64;
    s->len += b.len;
    if (held) {
        size_t n = b.len < 64 - held ? b.len : 64 - held;
        if (n) memcpy(s->block + held, b.ptr, n);
        if (held + n < 64) return;
        blocks_of(s, s->block, 1);
        b.ptr += n;
        b.len -= n;
    }
    blocks_of(s, b.ptr, b.len / 64);
    if (b.len % 64) memcpy(s->block, b.ptr + b.len / 64 * 64, b.len % 64);
}

void pn_sha256_hex(pn_sha256 *s, char out[64])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t bits = s->len * 8;
    size_t held = s->len % 64, pad = (held < 56 ? 56 : 120) - held;
    uint8_t tail[72] = {0x80};
    for (int i = 0; i < 8; i++) tail[pad + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    pn_sha256_add(s, (pn_bytes){tail, pad + 8});
    for (int i = 0; i < 64; i++) out[i] = digits[s->h[i / 8] >> (28 - 4 * (i % 8)) & 15];
}
