/* random_values.h: the same vectors in every run, and a dot product to check others by. */
#ifndef PN_TESTS_RANDOM_VALUES_H
#define PN_TESTS_RANDOM_VALUES_H

#include <stddef.h>
#include <stdint.h>

/* Within -1 and 1. */
static inline double next_random(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(int64_t)state / 9.3e18;
}

static inline double plain_dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

#endif
