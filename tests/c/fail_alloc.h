/* fail_alloc.h: an allocator that counts its blocks and fails the n-th request.
 *
 *     EACH_ALLOCATION_FAILED(f, status = work(&f.alloc));
 *
 * runs the statement with the first, then the second, ... request refused, until a run
 * needs no more; after each it checks that nothing is left allocated and that the
 * status was PN_ERR_NOMEM. `status` is whatever pn_status variable the caller names. */
#ifndef PN_TESTS_FAIL_ALLOC_H
#define PN_TESTS_FAIL_ALLOC_H

#include "base/alloc.h"

#include <stdbool.h>
#include <stdlib.h>

typedef struct fail_alloc {
    pn_alloc alloc;
    long blocks;  /* in use */
    long calls;   /* requests so far */
    long fail_at; /* the request to refuse, counted from 1; 0: none */
    bool failed;
} fail_alloc;

static inline void *fail_alloc_resize(void *ctx, void *ptr, size_t size)
{
    fail_alloc *f = ctx;
    if (size == 0) {
        f->blocks -= ptr != NULL;
        free(ptr);
        return NULL;
    }
    if (++f->calls == f->fail_at) {
        f->failed = true;
        return NULL;
    }
    void *p = realloc(ptr, size);
    f->blocks += ptr == NULL && p != NULL;
    return p;
}

static inline void fail_alloc_init(fail_alloc *f, long fail_at)
{
    *f = (fail_alloc){.alloc = {fail_alloc_resize, f}, .fail_at = fail_at};
}

#define EACH_ALLOCATION_FAILED(f, status, statement)         \
    do {                                                     \
        fail_alloc f;                                        \
        long fail_n = 0;                                     \
        do {                                                 \
            fail_alloc_init(&f, ++fail_n);                   \
            statement;                                       \
            CHECK_EQ_INT(f.blocks, 0);                       \
            CHECK_EQ_INT(status, f.failed ? PN_ERR_NOMEM : PN_OK); \
        } while (f.failed && fail_n < 10000);                \
        CHECK(!f.failed);                                    \
        CHECK(fail_n > 1); /* something was refused at all */ \
    } while (0)

#endif
