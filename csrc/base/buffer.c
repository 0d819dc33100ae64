#include "base/buffer.h"

void pn_buf_init(pn_buf *b, const pn_alloc *alloc) { *b = (pn_buf){alloc, NULL, 0, 0}; }

void pn_buf_clear(pn_buf *b)
{
    pn_alloc_put(b->alloc, b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

pn_status pn_buf_reserve_slow(pn_buf *b, size_t more)
{
    PN_FAIL_IF(more > SIZE_MAX / 2 - b->len, PN_ERR_NOMEM);
    size_t need = b->len + more;
    size_t cap = b->cap + b->cap / 2;
    if (cap < need) cap = need;
    if (cap < 64) cap = 64;
    uint8_t *p = pn_alloc_grow(b->alloc, b->data, cap);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    b->data = p;
    b->cap = cap;
    return PN_OK;
}
