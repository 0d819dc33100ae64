#define _GNU_SOURCE
#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *system_resize(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    void *p = realloc(ptr, size);
#ifdef MADV_HUGEPAGE
    const uintptr_t huge = PN_ALLOC_HUGE;
    if (p != NULL && size >= 2 * huge) { /* also after growing: the block may have moved */
        uintptr_t lo = ((uintptr_t)p + huge - 1) & ~(huge - 1);
        uintptr_t hi = ((uintptr_t)p + size) & ~(huge - 1);
        if (hi > lo) (void)madvise((void *)lo, hi - lo, MADV_HUGEPAGE); /* advice only */
    }
#endif
    return p;
}

const pn_alloc pn_alloc_system = {system_resize, NULL};

void *pn_alloc_get(const pn_alloc *a, size_t size) { return a->resize(a->ctx, NULL, size); }

void *pn_alloc_zero(const pn_alloc *a, size_t n, size_t size)
{
    if (n == 0 || size == 0 || n > SIZE_MAX / size) return NULL;
    void *p = a->resize(a->ctx, NULL, n * size);
    if (p != NULL) memset(p, 0, n * size);
    return p;
}

void *pn_alloc_grow(const pn_alloc *a, void *ptr, size_t size) { return a->resize(a->ctx, ptr, size); }

void pn_alloc_put(const pn_alloc *a, void *ptr)
{
    if (ptr != NULL) a->resize(a->ctx, ptr, 0);
}
