#include "store/incidence.h"

enum { MAX_EDGES = INT32_MAX - 16, FIRST_CAP = 8 };

typedef struct {
    pn_link first, last;
    uint32_t links;
} node_list;

typedef struct {
    void *edge; /* NULL: free */
    pn_link next[2], prev[2];
} edge_slot;

struct pn_incidence {
    const pn_alloc *alloc;
    pn_omap nodes; /* of node_list */
    edge_slot *slots;
    uint32_t used, cap; /* used: in use or free */
    uint32_t live;
    uint32_t free; /* the first free slot, or PN_NO_LINK */
};

pn_status pn_incidence_new(const pn_alloc *alloc, pn_incidence **out)
{
    pn_incidence *t = pn_alloc_zero(alloc, 1, sizeof *t);
    PN_FAIL_IF(t == NULL, PN_ERR_NOMEM);
    t->alloc = alloc;
    t->free = PN_NO_LINK;
    pn_omap_init(&t->nodes, alloc, sizeof(node_list));
    *out = t;
    return PN_OK;
}

void pn_incidence_free(pn_incidence *t)
{
    if (t == NULL) return;
    pn_omap_clear(&t->nodes);
    pn_alloc_put(t->alloc, t->slots);
    pn_alloc_put(t->alloc, t);
}

size_t pn_incidence_len(const pn_incidence *t) { return t->live; }

bool pn_incidence_each(const pn_incidence *t, size_t *pos, void **edge)
{
    while (*pos < t->used) {
        *edge = t->slots[(*pos)++].edge;
        if (*edge != NULL) return true;
    }
    return false;
}

/* ---- links ---- */

static pn_link *next_of(pn_incidence *t, pn_link link) { return &t->slots[link / 2].next[link % 2]; }
static pn_link *prev_of(pn_incidence *t, pn_link link) { return &t->slots[link / 2].prev[link % 2]; }

static void append(pn_incidence *t, node_list *list, pn_link link)
{
    *next_of(t, link) = PN_NO_LINK;
    *prev_of(t, link) = list->links ? list->last : PN_NO_LINK;
    if (list->links)
        *next_of(t, list->last) = link;
    else
        list->first = link;
    list->last = link;
    list->links++;
}

static void unlink_one(pn_incidence *t, node_list *list, pn_link link)
{
    pn_link next = *next_of(t, link), prev = *prev_of(t, link);
    *(prev == PN_NO_LINK ? &list->first : next_of(t, prev)) = next;
    *(next == PN_NO_LINK ? &list->last : prev_of(t, next)) = prev;
    list->links--;
}

static void drop_empty(pn_incidence *t, pn_bytes node)
{
    const node_list *list = pn_omap_get(&t->nodes, node);
    if (list != NULL && list->links == 0) pn_omap_remove(&t->nodes, node, NULL);
}

/* ---- slots ---- */

static pn_status reserve(pn_incidence *t)
{
    if (t->free != PN_NO_LINK || t->used < t->cap) return PN_OK;
    PN_FAIL_IF(t->used >= MAX_EDGES, PN_ERR_RANGE);
    uint32_t cap = t->cap ? t->cap + t->cap / 2 : FIRST_CAP;
    edge_slot *slots = pn_alloc_grow(t->alloc, t->slots, (size_t)cap * sizeof *slots);
    PN_FAIL_IF(slots == NULL, PN_ERR_NOMEM);
    t->slots = slots;
    t->cap = cap;
    return PN_OK;
}

static uint32_t take_slot(pn_incidence *t)
{
    uint32_t i = t->free;
    if (i == PN_NO_LINK) return t->used++;
    t->free = t->slots[i].next[0];
    return i;
}

static void give_back(pn_incidence *t, uint32_t i)
{
    t->slots[i] = (edge_slot){.next = {t->free, PN_NO_LINK}};
    t->free = i;
    t->live--;
}

/* ---- changing ---- */

static pn_status list_of(pn_incidence *t, pn_bytes node, node_list **list)
{
    bool added;
    void *value;
    PN_TRY(pn_omap_put(&t->nodes, node, NULL, &value, &added));
    *list = value;
    return PN_OK;
}

/* The lists of both ends. Putting the second may move the first, so that is asked for again. */
static pn_status lists_of(pn_incidence *t, pn_bytes source, pn_bytes target, node_list **from, node_list **to)
{
    PN_TRY(list_of(t, source, from));
    if (pn_bytes_equal(source, target)) {
        *to = *from;
        return PN_OK;
    }
    pn_status s = list_of(t, target, to);
    if (s == PN_OK) *from = pn_omap_get(&t->nodes, source);
    if (s != PN_OK) drop_empty(t, source);
    return s;
}

pn_status pn_incidence_add(pn_incidence *t, pn_bytes source, pn_bytes target, void *edge)
{
    node_list *from, *to;
    PN_TRY(reserve(t));
    PN_TRY(lists_of(t, source, target, &from, &to));
    uint32_t i = take_slot(t);
    t->slots[i].edge = edge;
    t->live++;
    append(t, from, i * 2);
    if (to != from) append(t, to, i * 2 + 1);
    return PN_OK;
}

static pn_link find(const pn_incidence *t, const node_list *list, pn_incidence_same same, const void *ctx)
{
    pn_link link = list->first, next;
    for (; link != PN_NO_LINK; link = next)
        if (same(ctx, pn_incidence_edge(t, link, &next))) break;
    return link;
}

void *pn_incidence_remove(pn_incidence *t, pn_bytes source, pn_bytes target, pn_incidence_same same, const void *ctx)
{
    node_list *from = pn_omap_get(&t->nodes, source), *to = pn_omap_get(&t->nodes, target);
    if (from == NULL || to == NULL) return NULL;
    pn_link link = find(t, from->links <= to->links ? from : to, same, ctx);
    if (link == PN_NO_LINK) return NULL;
    uint32_t i = link / 2;
    void *edge = t->slots[i].edge;
    unlink_one(t, from, i * 2);
    if (to != from) unlink_one(t, to, i * 2 + 1);
    give_back(t, i);
    drop_empty(t, source);
    drop_empty(t, target);
    return edge;
}

/* ---- reading ---- */

pn_link pn_incidence_first(const pn_incidence *t, pn_bytes node)
{
    const node_list *list = pn_omap_get(&t->nodes, node);
    return list ? list->first : PN_NO_LINK;
}

void *pn_incidence_edge(const pn_incidence *t, pn_link link, pn_link *next)
{
    const edge_slot *slot = &t->slots[link / 2];
    *next = slot->next[link % 2];
    return slot->edge;
}
