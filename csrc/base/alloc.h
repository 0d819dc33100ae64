/* alloc.h: the allocator that every core object is given at creation.
 *
 * One function does all three jobs, as realloc does:
 *   resize(ctx, NULL, n)  allocates n bytes (n > 0)
 *   resize(ctx, p, n)     grows or shrinks, may move
 *   resize(ctx, p, 0)     frees and returns NULL
 * It returns NULL when it cannot; the old block is then untouched.
 *
 * The struct must outlive every object that was created with it. Allocators
 * must be callable from any thread. Tests pass one that fails on demand.
 */
#ifndef PN_BASE_ALLOC_H
#define PN_BASE_ALLOC_H

#include <stddef.h>

typedef struct pn_alloc {
    void *(*resize)(void *ctx, void *ptr, size_t size);
    void *ctx;
} pn_alloc;

/* malloc and free of the C library. Blocks of two huge pages and more ask for them where
 * the system has any, since first-touch page faults limit every bulk load. What a block has
 * before the first boundary of a huge page and after the last stays in small ones. */
enum { PN_ALLOC_HUGE = 2 * 1024 * 1024 };
extern const pn_alloc pn_alloc_system;

void *pn_alloc_get(const pn_alloc *a, size_t size);        /* size > 0 */
void *pn_alloc_zero(const pn_alloc *a, size_t n, size_t size); /* n * size zeroed bytes, overflow checked */
void *pn_alloc_grow(const pn_alloc *a, void *ptr, size_t size);
void pn_alloc_put(const pn_alloc *a, void *ptr);           /* NULL is fine */

#endif
