/* blob.h: immutable bytes shared by reference count.
 *
 * The text of a file that was loaded, or of values that were encoded together,
 * is one blob; every span that points into it holds a reference. Counting is
 * atomic, so a snapshot may be released on any thread. O(1) everything.
 */
#ifndef PN_BASE_BLOB_H
#define PN_BASE_BLOB_H

#include "base/buffer.h"

typedef struct pn_blob pn_blob;

/* Copies n bytes; the caller owns one reference. */
pn_status pn_blob_copy(const pn_alloc *alloc, const void *ptr, size_t n, pn_blob **out);
/* n bytes to be filled in through *bytes, before or while others hold references to parts
 * that are filled already. */
pn_status pn_blob_new(const pn_alloc *alloc, size_t n, uint8_t **bytes, pn_blob **out);
/* Takes the buffer's memory (the buffer is empty afterwards, also its slack is
 * given back). On failure the buffer is untouched. */
pn_status pn_blob_take(pn_buf *buf, pn_blob **out);

/* Wraps memory of another owner, such as a mapped file: `release` is called once, with the
 * last reference, on whatever thread lets go of it. `name` (copied, may be NULL) says in
 * messages what the bytes are. On failure release is not called. */
typedef void (*pn_blob_release)(void *ctx, const uint8_t *ptr, size_t n);
pn_status pn_blob_wrap(const pn_alloc *alloc, const uint8_t *ptr, size_t n, pn_blob_release release, void *ctx,
                       const char *name, pn_blob **out);
/* The name given to pn_blob_wrap, or NULL. Lives as long as the blob. */
const char *pn_blob_name(const pn_blob *blob);

pn_blob *pn_blob_ref(pn_blob *blob);  /* NULL gives NULL */
void pn_blob_unref(pn_blob *blob);    /* NULL is fine */
/* n of them at once: one atomic operation. NULL is fine. */
void pn_blob_ref_many(pn_blob *blob, size_t n);
void pn_blob_unref_many(pn_blob *blob, size_t n);

/* References to blobs that are met one after another, mostly the same: counted until
 * another comes. Zero it before; pn_blob_run_end after the last. */
typedef struct pn_blob_run {
    pn_blob *blob;
    size_t n;
} pn_blob_run;

static inline void pn_blob_run_ref(pn_blob_run *run, pn_blob *blob)
{
    if (blob != run->blob) {
        pn_blob_ref_many(run->blob, run->n);
        *run = (pn_blob_run){blob, 0};
    }
    run->n++;
}
static inline void pn_blob_run_unref(pn_blob_run *run, pn_blob *blob)
{
    if (blob != run->blob) {
        pn_blob_unref_many(run->blob, run->n);
        *run = (pn_blob_run){blob, 0};
    }
    run->n++;
}

pn_bytes pn_blob_view(const pn_blob *blob);
/* The allocator that it was made with. */
const pn_alloc *pn_blob_alloc(const pn_blob *blob);

#endif
