#include "base/blob.h"

#include <stdatomic.h>

struct pn_blob {
    const pn_alloc *alloc;
    atomic_size_t refs;
    size_t len;
    uint8_t *taken; /* separate memory of pn_blob_take; NULL: the bytes follow the struct */
};

pn_status pn_blob_copy(const pn_alloc *alloc, const void *ptr, size_t n, pn_blob **out)
{
    PN_FAIL_IF(n > SIZE_MAX - sizeof(pn_blob), PN_ERR_NOMEM);
    pn_blob *b = pn_alloc_get(alloc, sizeof *b + n);
    PN_FAIL_IF(b == NULL, PN_ERR_NOMEM);
    b->alloc = alloc;
    atomic_init(&b->refs, 1);
    b->len = n;
    b->taken = NULL;
    if (n) memcpy(b + 1, ptr, n);
    *out = b;
    return PN_OK;
}

pn_status pn_blob_take(pn_buf *buf, pn_blob **out)
{
    pn_blob *b = pn_alloc_get(buf->alloc, sizeof *b);
    PN_FAIL_IF(b == NULL, PN_ERR_NOMEM);
    b->alloc = buf->alloc;
    atomic_init(&b->refs, 1);
    b->len = buf->len;
    b->taken = buf->data;
    if (buf->len && buf->cap - buf->len > buf->len / 8) {
        uint8_t *p = pn_alloc_grow(buf->alloc, buf->data, buf->len);
        if (p != NULL) b->taken = p; /* a refused shrink keeps the block */
    }
    buf->data = NULL;
    buf->len = buf->cap = 0;
    *out = b;
    return PN_OK;
}

pn_blob *pn_blob_ref(pn_blob *blob)
{
    if (blob != NULL) atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

void pn_blob_unref(pn_blob *blob)
{
    if (blob == NULL || atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) != 1) return;
    pn_alloc_put(blob->alloc, blob->taken);
    pn_alloc_put(blob->alloc, blob);
}

pn_bytes pn_blob_view(const pn_blob *blob)
{
    const uint8_t *p = blob->taken != NULL ? blob->taken : (const uint8_t *)(blob + 1);
    return (pn_bytes){p, blob->len};
}
