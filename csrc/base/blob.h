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
/* Takes the buffer's memory (the buffer is empty afterwards, also its slack is
 * given back). On failure the buffer is untouched. */
pn_status pn_blob_take(pn_buf *buf, pn_blob **out);

pn_blob *pn_blob_ref(pn_blob *blob);  /* NULL gives NULL */
void pn_blob_unref(pn_blob *blob);    /* NULL is fine */

pn_bytes pn_blob_view(const pn_blob *blob);

#endif
