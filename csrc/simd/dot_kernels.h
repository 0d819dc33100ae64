/* dot_kernels.h: the kernels of each instruction set, for dot.c to pick from.
 * A pointer is NULL where the target architecture has no such set. */
#ifndef PN_SIMD_DOT_KERNELS_H
#define PN_SIMD_DOT_KERNELS_H

#include "simd/dot.h"

extern const pn_dot_kernels *const pn_dot_avx2;
extern const pn_dot_kernels *const pn_dot_avx512;
extern const pn_dot_kernels *const pn_dot_neon;

#endif
