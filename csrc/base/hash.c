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

static uint64_t load(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

uint64_t pn_hash_bytes(pn_bytes b, uint64_t seed)
{
    const uint64_t k0 = 0xa0761d6478bd642fu, k1 = 0xe7037ed1a0b428dbu;
    uint64_t h = seed ^ fold(b.len ^ k0, k1);
    const uint8_t *p = b.ptr;
    size_t n = b.len;
    for (; n >= 16; p += 16, n -= 16) h = fold(load(p, 8) ^ k0 ^ h, load(p + 8, 8) ^ k1);
    if (n > 8) return fold(load(p, 8) ^ k1 ^ h, load(p + 8, n - 8) ^ k0) ^ h;
    uint64_t tail = n ? load(p, n) : 0;
    return fold(tail ^ k1 ^ h, k0 ^ n) ^ h;
}
