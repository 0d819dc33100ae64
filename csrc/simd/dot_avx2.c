/* AVX2 and FMA: four accumulators, so that the latency of an FMA is hidden. */
#include "simd/dot_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))

AVX2 static float sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

AVX2 static float dot_f32(const float *q, const float *row, size_t dim)
{
    __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        a = _mm256_fmadd_ps(_mm256_loadu_ps(q + i), _mm256_loadu_ps(row + i), a);
        b = _mm256_fmadd_ps(_mm256_loadu_ps(q + i + 8), _mm256_loadu_ps(row + i + 8), b);
        c = _mm256_fmadd_ps(_mm256_loadu_ps(q + i + 16), _mm256_loadu_ps(row + i + 16), c);
        d = _mm256_fmadd_ps(_mm256_loadu_ps(q + i + 24), _mm256_loadu_ps(row + i + 24), d);
    }
    for (; i + 8 <= dim; i += 8) a = _mm256_fmadd_ps(_mm256_loadu_ps(q + i), _mm256_loadu_ps(row + i), a);
    float tail = 0;
    for (; i < dim; i++) tail += q[i] * row[i];
    return sum8(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d))) + tail;
}

AVX2 static double dot_f64(const double *q, const double *row, size_t dim)
{
    __m256d a = _mm256_setzero_pd(), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        a = _mm256_fmadd_pd(_mm256_loadu_pd(q + i), _mm256_loadu_pd(row + i), a);
        b = _mm256_fmadd_pd(_mm256_loadu_pd(q + i + 4), _mm256_loadu_pd(row + i + 4), b);
        c = _mm256_fmadd_pd(_mm256_loadu_pd(q + i + 8), _mm256_loadu_pd(row + i + 8), c);
        d = _mm256_fmadd_pd(_mm256_loadu_pd(q + i + 12), _mm256_loadu_pd(row + i + 12), d);
    }
    for (; i + 4 <= dim; i += 4) a = _mm256_fmadd_pd(_mm256_loadu_pd(q + i), _mm256_loadu_pd(row + i), a);
    double tail = 0;
    for (; i < dim; i++) tail += q[i] * row[i];
    __m256d s = _mm256_add_pd(_mm256_add_pd(a, b), _mm256_add_pd(c, d));
    __m128d h = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
    return _mm_cvtsd_f64(_mm_add_sd(h, _mm_unpackhi_pd(h, h))) + tail;
}

static void avx2_f32(const float *q, const float *const *rows, size_t count, size_t dim, float *out)
{
    for (size_t r = 0; r < count; r++) out[r] = dot_f32(q, rows[r], dim);
}

static void avx2_f64(const double *q, const double *const *rows, size_t count, size_t dim, double *out)
{
    for (size_t r = 0; r < count; r++) out[r] = dot_f64(q, rows[r], dim);
}

static const pn_dot_kernels kernels = {"avx2", avx2_f32, avx2_f64};
const pn_dot_kernels *const pn_dot_avx2 = &kernels;
#else
const pn_dot_kernels *const pn_dot_avx2 = NULL;
#endif
