/* dot.h: dot products of one query with many rows, as fast as memory allows.
 *
 * The results of floats are approximate in their last bits and differ between kernels; what
 * every kernel promises is a bound. With u = 2^-24 (float) or 2^-53 (double) and no
 * overflow or underflow of a product,
 *
 *     |out[i] - q . rows[i]|  <=  pn_dot_roundings_*(dim) * u * 1.01 * |q| * |rows[i]|
 *
 * because each kernel keeps at least 16 (float) or 8 (double) partial sums, so no
 * product passes through more roundings than that, and Cauchy-Schwarz bounds the sum
 * of their magnitudes. Whoever needs exact order scores again what lies within it.
 *
 * Kernels are picked once, when first asked for: the widest that the CPU runs, or the
 * one that PANNIER_SIMD names (serial, avx2, avx512, neon) if the CPU runs it. Thread
 * safe; nothing is allocated.
 */
#ifndef PN_SIMD_DOT_H
#define PN_SIMD_DOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pn_dot_kernels {
    const char *name;
    void (*f32)(const float *q, const float *const *rows, size_t count, size_t dim, float *out);
    void (*f64)(const double *q, const double *const *rows, size_t count, size_t dim, double *out);
    /* Exact, for a dim that is a multiple of 32 and |q[j]| <= 2^31 / (127 dim): no sum leaves an int32. */
    void (*i8)(const int16_t *q, const int8_t *const *rows, size_t count, size_t dim, int32_t *out);
} pn_dot_kernels;

const pn_dot_kernels *pn_dot_best(void);
/* NULL when the name is unknown or this CPU cannot run it. */
const pn_dot_kernels *pn_dot_named(const char *name);

/* How many roundings a product goes through at most. */
static inline double pn_dot_roundings_f32(size_t dim) { return (double)(dim / 16) + 33; }
static inline double pn_dot_roundings_f64(size_t dim) { return (double)(dim / 8) + 33; }

/* True when every value is a float (NaN counts as one), so that narrowing loses nothing. */
bool pn_dot_fits_f32(const double *v, size_t n);
void pn_dot_narrow(const double *restrict v, size_t n, float *restrict out); /* rounds to nearest */
void pn_dot_widen(const float *restrict v, size_t n, double *restrict out);  /* exact */

#endif
