/* AVX-512F and BW: four accumulators, the tail by mask. */
#include "simd/dot_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw")))

AVX512 static float dot_f32(const float *q, const float *row, size_t dim)
{
    __m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        a = _mm512_fmadd_ps(_mm512_loadu_ps(q + i), _mm512_loadu_ps(row + i), a);
        b = _mm512_fmadd_ps(_mm512_loadu_ps(q + i + 16), _mm512_loadu_ps(row + i + 16), b);
        c = _mm512_fmadd_ps(_mm512_loadu_ps(q + i + 32), _mm512_loadu_ps(row + i + 32), c);
        d = _mm512_fmadd_ps(_mm512_loadu_ps(q + i + 48), _mm512_loadu_ps(row + i + 48), d);
    }
    for (; i + 16 <= dim; i += 16) a = _mm512_fmadd_ps(_mm512_loadu_ps(q + i), _mm512_loadu_ps(row + i), a);
    if (i < dim) {
        __mmask16 m = (__mmask16)((1u << (dim - i)) - 1);
        b = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, q + i), _mm512_maskz_loadu_ps(m, row + i), b);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
}

AVX512 static double dot_f64(const double *q, const double *row, size_t dim)
{
    __m512d a = _mm512_setzero_pd(), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        a = _mm512_fmadd_pd(_mm512_loadu_pd(q + i), _mm512_loadu_pd(row + i), a);
        b = _mm512_fmadd_pd(_mm512_loadu_pd(q + i + 8), _mm512_loadu_pd(row + i + 8), b);
        c = _mm512_fmadd_pd(_mm512_loadu_pd(q + i + 16), _mm512_loadu_pd(row + i + 16), c);
        d = _mm512_fmadd_pd(_mm512_loadu_pd(q + i + 24), _mm512_loadu_pd(row + i + 24), d);
    }
    for (; i + 8 <= dim; i += 8) a = _mm512_fmadd_pd(_mm512_loadu_pd(q + i), _mm512_loadu_pd(row + i), a);
    if (i < dim) {
        __mmask8 m = (__mmask8)((1u << (dim - i)) - 1);
        b = _mm512_fmadd_pd(_mm512_maskz_loadu_pd(m, q + i), _mm512_maskz_loadu_pd(m, row + i), b);
    }
    return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_add_pd(a, b), _mm512_add_pd(c, d)));
}

static void avx512_f32(const float *q, const float *const *rows, size_t count, size_t dim, float *out)
{
    for (size_t r = 0; r < count; r++) out[r] = dot_f32(q, rows[r], dim);
}

static void avx512_f64(const double *q, const double *const *rows, size_t count, size_t dim, double *out)
{
    for (size_t r = 0; r < count; r++) out[r] = dot_f64(q, rows[r], dim);
}

AVX512 static __m512i products(const int16_t *q, const int8_t *row)
{
    __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)row));
    return _mm512_madd_epi16(_mm512_loadu_si512(q), wide);
}

AVX512 static int32_t dot_i8(const int16_t *q, const int8_t *row, size_t dim)
{
    __m512i a = _mm512_setzero_si512(), b = a;
    size_t i = 0;
    for (; i + 64 <= dim; i += 64) {
        a = _mm512_add_epi32(a, products(q + i, row + i));
        b = _mm512_add_epi32(b, products(q + i + 32, row + i + 32));
    }
    if (i < dim) a = _mm512_add_epi32(a, products(q + i, row + i));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
}

static void avx512_i8(const int16_t *q, const int8_t *const *rows, size_t count, size_t dim, int32_t *out)
{
    for (size_t r = 0; r < count; r++) out[r] = dot_i8(q, rows[r], dim);
}

static const pn_dot_kernels kernels = {"avx512", avx512_f32, avx512_f64, avx512_i8};
const pn_dot_kernels *const pn_dot_avx512 = &kernels;
#else
const pn_dot_kernels *const pn_dot_avx512 = NULL;
#endif
