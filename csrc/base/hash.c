#define _GNU_SOURCE
#include "base/hash.h"

#include <pthread.h>
#include <sys/random.h>
#include <time.h>

static uint64_t process_seed;
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void draw_seed(void)
{
    uint64_t s = 0;
    if (getrandom(&s, sizeof s, GRND_NONBLOCK) != (ssize_t)sizeof s) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        s = (uint64_t)t.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)t.tv_sec ^ (uintptr_t)&s;
    }
    process_seed = s;
}

uint64_t pn_hash_seed(void)
{
    pthread_once(&seed_once, draw_seed);
    return process_seed;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    __uint128_t m = (__uint128_t)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t load8(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static uint64_t load4(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

uint64_t pn_hash_bytes(pn_bytes b, uint64_t seed)
{
    const uint64_t k0 = 0xa0761d6478bd642fu, k1 = 0xe7037ed1a0b428dbu;
    uint64_t h = seed ^ fold(b.len ^ k0, k1), lo = 0, hi = 0;
    const uint8_t *p = b.ptr;
    size_t n = b.len;
    for (; n > 16; p += 16, n -= 16) h = fold(load8(p) ^ k0 ^ h, load8(p + 8) ^ k1);
    /* the last 1 to 16 bytes by two fixed-size loads that may overlap */
    if (n >= 8) {
        lo = load8(p);
        hi = load8(p + n - 8);
    } else if (n >= 4) {
        lo = load4(p);
        hi = load4(p + n - 4);
    } else if (n > 0) {
        lo = (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1];
    }
    return fold(lo ^ k1 ^ h, hi ^ k0 ^ n) ^ h;
}
