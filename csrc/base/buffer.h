/* buffer.h: bytes that grow. Amortised O(1) append; one owner, no locking. */
#ifndef PN_BASE_BUFFER_H
#define PN_BASE_BUFFER_H

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/status.h"

typedef struct pn_buf {
    const pn_alloc *alloc;
    uint8_t *data; /* NULL while cap is 0 */
    size_t len, cap;
} pn_buf;

void pn_buf_init(pn_buf *b, const pn_alloc *alloc); /* allocates nothing */
void pn_buf_clear(pn_buf *b);                       /* frees; the buffer can be used again */

/* After PN_OK, at least `more` bytes can be written at data + len. */
pn_status pn_buf_reserve_slow(pn_buf *b, size_t more);
static inline pn_status pn_buf_reserve(pn_buf *b, size_t more)
{
    return b->cap - b->len >= more ? PN_OK : pn_buf_reserve_slow(b, more);
}

static inline pn_status pn_buf_append(pn_buf *b, const void *p, size_t n)
{
    PN_TRY(pn_buf_reserve(b, n));
    if (n) memcpy(b->data + b->len, p, n);
    b->len += n;
    return PN_OK;
}
static inline pn_status pn_buf_push(pn_buf *b, uint8_t c)
{
    PN_TRY(pn_buf_reserve(b, 1));
    b->data[b->len++] = c;
    return PN_OK;
}
static inline pn_bytes pn_buf_view(const pn_buf *b) { return (pn_bytes){b->data, b->len}; }

#define PN_BUF_LIT(b, literal) pn_buf_append((b), (literal), sizeof(literal) - 1)

#endif
