/* Incidence against a list of all edges that is searched: the same edges of every node, in
 * the order of addition, whatever was added and removed; and every allocation may fail. */
#include "check.h"
#include "fail_alloc.h"
#include "store/incidence.h"

enum { NODES = 7, EDGES = 200, STEPS = 20000 };

typedef struct {
    int from, to, label;
} edge;

static char names[NODES][16];

static pn_bytes name_of(int node) { return (pn_bytes){(const uint8_t *)names[node], strlen(names[node])}; }

static bool same(const void *ctx, const void *other)
{
    const edge *a = ctx, *b = other;
    return a->from == b->from && a->to == b->to && a->label == b->label;
}

static unsigned draw(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

/* The model: pointers in the order of addition. */
typedef struct {
    size_t n;
    edge *of[EDGES];
} list;

static size_t find(const list *l, const edge *e)
{
    size_t i = 0;
    while (i < l->n && !same(e, l->of[i])) i++;
    return i;
}

static void drop(list *l, size_t i)
{
    l->n--;
    memmove(&l->of[i], &l->of[i + 1], (l->n - i) * sizeof l->of[0]);
}

static void check_node(const pn_incidence *t, const list *l, int node)
{
    pn_link link = pn_incidence_first(t, name_of(node));
    for (size_t i = 0; i < l->n; i++) {
        if (l->of[i]->from != node && l->of[i]->to != node) continue;
        CHECK(link != PN_NO_LINK);
        if (link == PN_NO_LINK) return;
        CHECK(pn_incidence_edge(t, link, &link) == l->of[i]);
    }
    CHECK(link == PN_NO_LINK);
}

static void check_all(const pn_incidence *t, const list *l)
{
    size_t pos = 0, n = 0;
    void *e;
    while (pn_incidence_each(t, &pos, &e)) n += find(l, e) < l->n;
    CHECK_EQ_INT(n, l->n);
    CHECK_EQ_INT(pn_incidence_len(t), l->n);
    for (int node = 0; node < NODES; node++) check_node(t, l, node);
}

static void test_like_a_list(void)
{
    static edge pool[EDGES];
    unsigned state = 7;
    list l = {0};
    pn_incidence *t = NULL;
    CHECK(pn_incidence_new(&pn_alloc_system, &t) == PN_OK);
    for (int step = 0; step < STEPS; step++) {
        edge e = {(int)(draw(&state) % NODES), (int)(draw(&state) % NODES), (int)(draw(&state) % 4)};
        size_t i = find(&l, &e);
        pool[((e.from * NODES) + e.to) * 4 + e.label] = e;
        if (i < l.n) {
            CHECK(pn_incidence_remove(t, name_of(e.from), name_of(e.to), same, &e) == l.of[i]);
            drop(&l, i);
        } else if (draw(&state) % 3) {
            l.of[l.n++] = &pool[((e.from * NODES) + e.to) * 4 + e.label];
            CHECK(pn_incidence_add(t, name_of(e.from), name_of(e.to), l.of[l.n - 1]) == PN_OK);
        } else {
            CHECK(pn_incidence_remove(t, name_of(e.from), name_of(e.to), same, &e) == NULL);
        }
        if (step % 50 == 0) check_all(t, &l);
    }
    pn_incidence_free(t);
}

/* Adds, removes, adds again; what a failed addition left must be what was there before. */
static pn_status work(const pn_alloc *alloc)
{
    static edge edges[20];
    list l = {0};
    pn_incidence *t = NULL;
    PN_TRY(pn_incidence_new(alloc, &t));
    pn_status s = PN_OK;
    for (int i = 0; i < 20 && s == PN_OK; i++) {
        edges[i] = (edge){i % NODES, i * 3 % NODES, i};
        s = pn_incidence_add(t, name_of(edges[i].from), name_of(edges[i].to), &edges[i]);
        if (s == PN_OK) l.of[l.n++] = &edges[i];
        check_all(t, &l);
    }
    pn_incidence_free(t);
    return s;
}

static void test_every_allocation_may_fail(void)
{
    pn_status s = PN_OK;
    EACH_ALLOCATION_FAILED(f, s, s = work(&f.alloc));
}

static void test_an_unknown_node_has_nothing(void)
{
    edge e = {0, 1, 0};
    pn_incidence *t = NULL;
    CHECK(pn_incidence_new(&pn_alloc_system, &t) == PN_OK);
    CHECK(pn_incidence_first(t, name_of(0)) == PN_NO_LINK);
    CHECK(pn_incidence_remove(t, name_of(0), name_of(1), same, &e) == NULL);
    pn_incidence_free(t);
    pn_incidence_free(NULL);
}

int main(void)
{
    for (int i = 0; i < NODES; i++) snprintf(names[i], sizeof names[i], "%.*s", i, "node-a");
    RUN(test_like_a_list);
    RUN(test_every_allocation_may_fail);
    RUN(test_an_unknown_node_has_nothing);
    return check_summary();
}
