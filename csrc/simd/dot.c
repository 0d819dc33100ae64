#include "simd/dot.h"

#include "simd/dot_kernels.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The reference: plain C, 16 partial sums as the bound asks for. */
static void serial_f32(const float *q, const float *const *rows, size_t count, size_t dim, float *out)
{
    for (size_t r = 0; r < count; r++) {
        const float *row = rows[r];
        float acc[16] = {0};
        size_t i = 0;
        for (; i + 16 <= dim; i += 16)
            for (int j = 0; j < 16; j++) acc[j] += q[i + j] * row[i + j];
        for (int j = 0; i < dim; i++, j++) acc[j] += q[i] * row[i];
        float sum = 0;
        for (int j = 0; j < 16; j++) sum += acc[j];
        out[r] = sum;
    }
}

static void serial_f64(const double *q, const double *const *rows, size_t count, size_t dim, double *out)
{
    for (size_t r = 0; r < count; r++) {
        const double *row = rows[r];
        double acc[8] = {0};
        size_t i = 0;
        for (; i + 8 <= dim; i += 8)
            for (int j = 0; j < 8; j++) acc[j] += q[i + j] * row[i + j];
        for (int j = 0; i < dim; i++, j++) acc[j] += q[i] * row[i];
        double sum = 0;
        for (int j = 0; j < 8; j++) sum += acc[j];
        out[r] = sum;
    }
}

static void serial_i8(const int16_t *q, const int8_t *const *rows, size_t count, size_t dim, int32_t *out)
{
    for (size_t r = 0; r < count; r++) {
        int32_t sum = 0;
        for (size_t i = 0; i < dim; i++) sum += q[i] * rows[r][i];
        out[r] = sum;
    }
}

static const pn_dot_kernels serial = {"serial", serial_f32, serial_f64, serial_i8};

static bool runs(const pn_dot_kernels *k)
{
    if (k == NULL) return false;
#if defined(__x86_64__)
    if (k == pn_dot_avx512) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    if (k == pn_dot_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return true;
}

const pn_dot_kernels *pn_dot_named(const char *name)
{
    const pn_dot_kernels *all[] = {&serial, pn_dot_avx2, pn_dot_avx512, pn_dot_neon};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] != NULL && strcmp(all[i]->name, name) == 0 && runs(all[i])) return all[i];
    return NULL;
}

static const pn_dot_kernels *pick(void)
{
    const char *forced = getenv("PANNIER_SIMD");
    const pn_dot_kernels *k = forced ? pn_dot_named(forced) : NULL;
    if (k != NULL) return k;
    if (runs(pn_dot_avx512)) return pn_dot_avx512;
    if (runs(pn_dot_avx2)) return pn_dot_avx2;
    return runs(pn_dot_neon) ? pn_dot_neon : &serial;
}

const pn_dot_kernels *pn_dot_best(void)
{
    static _Atomic(const pn_dot_kernels *) chosen; /* racing threads choose the same one */
    const pn_dot_kernels *k = atomic_load_explicit(&chosen, memory_order_acquire);
    if (k == NULL) {
        k = pick();
        atomic_store_explicit(&chosen, k, memory_order_release);
    }
    return k;
}

bool pn_dot_fits_f32(const double *v, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = n - i > 64 ? i + 64 : n;
        int misfits = 0;
        for (; i < end; i++) misfits += ((double)(float)v[i] != v[i]) & (v[i] == v[i]);
        if (misfits) return false;
    }
    return true;
}

/* Eight at a time: without it compilers convert one by one. */
void pn_dot_narrow(const double *restrict v, size_t n, float *restrict out)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) out[i + j] = (float)v[i + j];
    for (; i < n; i++) out[i] = (float)v[i];
}

void pn_dot_widen(const float *restrict v, size_t n, double *restrict out)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) out[i + j] = v[i + j];
    for (; i < n; i++) out[i] = v[i];
}
