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

AVX2 static __m256i products(const int16_t *q, const int8_t *row)
{
    __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)row));
    return _mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)(const void *)q), wide);
}

AVX2 static int32_t dot_i8(const int16_t *q, const int8_t *row, size_t dim)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i < dim; i += 32) {
        a = _mm256_add_epi32(a, products(q + i, row + i));
        b = _mm256_add_epi32(b, products(q + i + 16, row + i + 16));
    }
    a = _mm256_add_epi32(a, b);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1))));
}

static void avx2_i8(const int16_t *q, const int8_t *const *rows, size_t count, size_t dim, int32_t *out)
{
    for (size_t r = 0; r < count; r++) out[r] = dot_i8(q, rows[r], dim);
}

static const pn_dot_kernels kernels = {"avx2", avx2_f32, avx2_f64, avx2_i8};
const pn_dot_kernels *const pn_dot_avx2 = &kernels;
#else
const pn_dot_kernels *const pn_dot_avx2 = NULL;
#endif
