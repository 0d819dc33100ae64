/* NEON, which every aarch64 has: four accumulators of four floats are the 16 partial
 * sums, four of two doubles the 8. */
#include "simd/dot_kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

static float dot_f32(const float *q, const float *row, size_t dim)
{
    float32x4_t a = vdupq_n_f32(0), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        a = vfmaq_f32(a, vld1q_f32(q + i), vld1q_f32(row + i));
        b = vfmaq_f32(b, vld1q_f32(q + i + 4), vld1q_f32(row + i + 4));
        c = vfmaq_f32(c, vld1q_f32(q + i + 8), vld1q_f32(row + i + 8));
        d = vfmaq_f32(d, vld1q_f32(q + i + 12), vld1q_f32(row + i + 12));
    }
    float tail = 0;
    for (; i < dim; i++) tail += q[i] * row[i];
    return vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) + tail;
}

static double dot_f64(const double *q, const double *row, size_t dim)
{
    float64x2_t a = vdupq_n_f64(0), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        a = vfmaq_f64(a, vld1q_f64(q + i), vld1q_f64(row + i));
        b = vfmaq_f64(b, vld1q_f64(q + i + 2), vld1q_f64(row + i + 2));
        c = vfmaq_f64(c, vld1q_f64(q + i + 4), vld1q_f64(row + i + 4));
        d = vfmaq_f64(d, vld1q_f64(q + i + 6), vld1q_f64(row + i + 6));
    }
    double tail = 0;
    for (; i < dim; i++) tail += q[i] * row[i];
    return vaddvq_f64(vaddq_f64(vaddq_f64(a, b), vaddq_f64(c, d))) + tail;
}

static void neon_f32(const float *q, const float *const *rows, size_t count, size_t dim, float *out)
{
    for (size_t r = 0; r < count; r++) out[r] = dot_f32(q, rows[r], dim);
}

static void neon_f64(const double *q, const double *const *rows, size_t count, size_t dim, double *out)
{
    for (size_t r = 0; r < count; r++) out[r] = dot_f64(q, rows[r], dim);
}

static int32_t dot_i8(const int16_t *q, const int8_t *row, size_t dim)
{
    int32x4_t a = vdupq_n_s32(0), b = a;
    for (size_t i = 0; i < dim; i += 8) {
        int16x8_t values = vld1q_s16(q + i), wide = vmovl_s8(vld1_s8(row + i));
        a = vmlal_s16(a, vget_low_s16(values), vget_low_s16(wide));
        b = vmlal_high_s16(b, values, wide);
    }
    return vaddvq_s32(vaddq_s32(a, b));
}

static void neon_i8(const int16_t *q, const int8_t *const *rows, size_t count, size_t dim, int32_t *out)
{
    for (size_t r = 0; r < count; r++) out[r] = dot_i8(q, rows[r], dim);
}

static const pn_dot_kernels kernels = {"neon", neon_f32, neon_f64, neon_i8};
const pn_dot_kernels *const pn_dot_neon = &kernels;
#else
const pn_dot_kernels *const pn_dot_neon = NULL;
#endif
