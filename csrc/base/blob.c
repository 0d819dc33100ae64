#include "base/blob.h"

#include <stdatomic.h>

typedef enum blob_kind { BLOB_INLINE, BLOB_TAKEN, BLOB_WRAPPED } blob_kind;

/* The bytes lie behind the struct, in a block of their own, or where another owner
 * keeps them. There are as many as copied keys, so it is kept small. */
struct pn_blob {
    const pn_alloc *alloc;
    atomic_uint refs;
    blob_kind kind;
    const uint8_t *ptr;
    size_t len;
};

typedef struct wrapped_blob {
    pn_blob base;
    pn_blob_release release;
    void *ctx;
    char *name; /* behind the struct, or NULL */
} wrapped_blob;

static void blob_init(pn_blob *b, const pn_alloc *alloc, blob_kind kind, const uint8_t *ptr, size_t n)
{
    b->alloc = alloc;
    atomic_init(&b->refs, 1);
    b->kind = kind;
    b->ptr = ptr;
    b->len = n;
}

pn_status pn_blob_new(const pn_alloc *alloc, size_t n, uint8_t **bytes, pn_blob **out)
{
    PN_FAIL_IF(n > SIZE_MAX - sizeof(pn_blob), PN_ERR_NOMEM);
    pn_blob *b = pn_alloc_get(alloc, sizeof *b + n);
    PN_FAIL_IF(b == NULL, PN_ERR_NOMEM);
    *bytes = (uint8_t *)(b + 1);
    blob_init(b, alloc, BLOB_INLINE, *bytes, n);
    *out = b;
    return PN_OK;
}

pn_status pn_blob_copy(const pn_alloc *alloc, const void *ptr, size_t n, pn_blob **out)
{
    uint8_t *bytes;
    PN_TRY(pn_blob_new(alloc, n, &bytes, out));
    if (n) memcpy(bytes, ptr, n);
    return PN_OK;
}

pn_status pn_blob_take(pn_buf *buf, pn_blob **out)
{
    pn_blob *b = pn_alloc_get(buf->alloc, sizeof *b);
    PN_FAIL_IF(b == NULL, PN_ERR_NOMEM);
    uint8_t *taken = buf->data;
    if (buf->len && buf->cap - buf->len > buf->len / 8) {
        uint8_t *p = pn_alloc_grow(buf->alloc, buf->data, buf->len);
        if (p != NULL) taken = p; /* a refused shrink keeps the block */
    }
    blob_init(b, buf->alloc, BLOB_TAKEN, taken, buf->len);
    buf->data = NULL;
    buf->len = buf->cap = 0;
    *out = b;
    return PN_OK;
}

pn_status pn_blob_wrap(const pn_alloc *alloc, const uint8_t *ptr, size_t n, pn_blob_release release, void *ctx,
                       const char *name, pn_blob **out)
{
    size_t name_size = name ? strlen(name) + 1 : 0;
    wrapped_blob *b = pn_alloc_get(alloc, sizeof *b + name_size);
    PN_FAIL_IF(b == NULL, PN_ERR_NOMEM);
    blob_init(&b->base, alloc, BLOB_WRAPPED, ptr, n);
    b->release = release;
    b->ctx = ctx;
    b->name = name ? memcpy(b + 1, name, name_size) : NULL;
    *out = &b->base;
    return PN_OK;
}

const char *pn_blob_name(const pn_blob *blob)
{
    return blob->kind == BLOB_WRAPPED ? ((const wrapped_blob *)blob)->name : NULL;
}

pn_blob *pn_blob_ref(pn_blob *blob)
{
    if (blob != NULL) atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

void pn_blob_ref_many(pn_blob *blob, size_t n)
{
    if (blob != NULL) atomic_fetch_add_explicit(&blob->refs, (unsigned)n, memory_order_relaxed);
}

void pn_blob_unref(pn_blob *blob) { pn_blob_unref_many(blob, 1); }

void pn_blob_unref_many(pn_blob *blob, size_t n)
{
    if (blob == NULL || n == 0 || atomic_fetch_sub_explicit(&blob->refs, (unsigned)n, memory_order_acq_rel) != n) return;
    if (blob->kind == BLOB_WRAPPED) {
        const wrapped_blob *w = (const wrapped_blob *)blob;
        w->release(w->ctx, blob->ptr, blob->len);
    }
    if (blob->kind == BLOB_TAKEN) pn_alloc_put(blob->alloc, (uint8_t *)blob->ptr);
    pn_alloc_put(blob->alloc, blob);
}

const pn_alloc *pn_blob_alloc(const pn_blob *blob) { return blob->alloc; }

pn_bytes pn_blob_view(const pn_blob *blob) { return (pn_bytes){blob->ptr, blob->len}; }
