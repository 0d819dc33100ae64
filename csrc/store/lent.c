#include "store/lent.h"

#include <assert.h>

void pn_lent_init(pn_lent *l) { *l = (pn_lent){.count = 1}; }

void pn_lent_clear(pn_lent *l, const pn_alloc *alloc)
{
    pn_alloc_put(alloc, l->loans);
    pn_lent_init(l);
}

static pn_status make_room(pn_lent *l, const pn_alloc *alloc)
{
    if (l->free != 0 || l->count < l->cap) return PN_OK;
    uint32_t cap = l->cap + l->cap / 2 + 8;
    PN_FAIL_IF(cap > UINT32_MAX / 2, PN_ERR_NOMEM);
    pn_loan *p = pn_alloc_grow(alloc, l->loans, cap * sizeof *p);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    l->loans = p;
    l->cap = cap;
    return PN_OK;
}

pn_status pn_lent_add(pn_lent *l, const pn_alloc *alloc, void *host, pn_bytes id, uint32_t hash, size_t values,
                      uint32_t *number)
{
    PN_TRY(make_room(l, alloc));
    uint32_t n = l->free != 0 ? l->free : l->count++;
    if (n == l->free) l->free = l->loans[n].next;
    if (id.ptr == NULL) id.ptr = (const uint8_t *)""; /* an empty one */
    l->loans[n] = (pn_loan){.host = host, .id = id, .hash = hash, .values = values};
    l->out++;
    l->values += values;
    *number = n;
    return PN_OK;
}

void pn_lent_return(pn_lent *l, uint32_t number)
{
    pn_loan *loan = &l->loans[number];
    assert(loan->id.ptr != NULL);
    l->ended++;
    l->out--;
    l->values -= loan->values;
    loan->id.ptr = NULL;
    loan->next = l->returned;
    l->returned = number;
}

void *pn_lent_take(pn_lent *l)
{
    uint32_t number = l->returned;
    if (number == 0) return NULL;
    pn_loan *loan = &l->loans[number];
    void *host = loan->host;
    l->returned = loan->next;
    *loan = (pn_loan){.next = l->free};
    l->free = number;
    return host;
}

const pn_loan *pn_lent_next(const pn_lent *l, uint32_t *number)
{
    while (++*number < l->count)
        if (l->loans[*number].id.ptr != NULL) return &l->loans[*number];
    return NULL;
}
