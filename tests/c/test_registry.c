/* What the table of index types promises: order, replacement in place, and that a
 * handle is released exactly once on every path, out of memory included. */
#include "check.h"
#include "store/registry.h"

#include <stdio.h>

enum { HANDLES = 64 };
static int released[HANDLES];
static int handle_ids[HANDLES];

static void *handle(int i)
{
    handle_ids[i] = i;
    return &handle_ids[i];
}

static void count_release(void *ctx, void *h)
{
    (void)ctx;
    released[*(int *)h]++;
}

static void forget_releases(void) { memset(released, 0, sizeof released); }

static pn_bytes name_of(const char *text) { return (pn_bytes){(const uint8_t *)text, strlen(text)}; }

static pn_status set(pn_registry *r, const char *name, int struct_id, int index_id)
{
    return pn_registry_set(r, name_of(name), (pn_registry_entry){handle(struct_id), handle(index_id)});
}

static void test_find_gives_what_was_set(void)
{
    pn_registry *r = NULL;
    forget_releases();
    CHECK(pn_registry_new(&pn_alloc_system, count_release, NULL, &r) == PN_OK);
    CHECK(pn_registry_find(r, name_of("list")) == NULL);
    CHECK(set(r, "list", 0, 1) == PN_OK);
    CHECK(set(r, "", 2, 3) == PN_OK);
    CHECK_EQ_INT(pn_registry_len(r), 2);
    const pn_registry_entry *e = pn_registry_find(r, name_of("list"));
    CHECK(e != NULL && e->struct_class == handle(0) && e->index_class == handle(1));
    e = pn_registry_find(r, name_of(""));
    CHECK(e != NULL && e->struct_class == handle(2) && e->index_class == handle(3));
    CHECK(pn_registry_find(r, name_of("lis")) == NULL);
    for (int i = 0; i < 4; i++) CHECK_EQ_INT(released[i], 0);
    pn_registry_free(r);
    for (int i = 0; i < 4; i++) CHECK_EQ_INT(released[i], 1);
}

static void test_replacing_keeps_the_place_and_releases_the_old(void)
{
    pn_registry *r = NULL;
    forget_releases();
    CHECK(pn_registry_new(&pn_alloc_system, count_release, NULL, &r) == PN_OK);
    CHECK(set(r, "a", 0, 1) == PN_OK);
    CHECK(set(r, "b", 2, 3) == PN_OK);
    CHECK(set(r, "a", 4, 5) == PN_OK);
    CHECK_EQ_INT(released[0], 1);
    CHECK_EQ_INT(released[1], 1);
    CHECK_EQ_INT(released[4], 0);
    size_t pos = 0;
    pn_bytes name;
    const pn_registry_entry *e;
    CHECK(pn_registry_next(r, &pos, &name, &e) && pn_bytes_equal(name, PN_BYTES("a")));
    CHECK(e->struct_class == handle(4));
    CHECK(pn_registry_next(r, &pos, &name, &e) && pn_bytes_equal(name, PN_BYTES("b")));
    CHECK(!pn_registry_next(r, &pos, &name, &e));
    pn_registry_free(r);
}

static void test_remove_and_clear_release_once(void)
{
    pn_registry *r = NULL;
    forget_releases();
    CHECK(pn_registry_new(&pn_alloc_system, count_release, NULL, &r) == PN_OK);
    CHECK(set(r, "a", 0, 1) == PN_OK);
    CHECK(pn_registry_set(r, name_of("half"), (pn_registry_entry){handle(2), NULL}) == PN_OK);
    CHECK(pn_registry_remove(r, name_of("a")));
    CHECK(!pn_registry_remove(r, name_of("a")));
    CHECK_EQ_INT(released[0], 1);
    CHECK_EQ_INT(released[1], 1);
    CHECK_EQ_INT(released[2], 0);
    pn_registry_clear(r);
    CHECK_EQ_INT(released[2], 1);
    CHECK_EQ_INT(pn_registry_len(r), 0);
    CHECK(set(r, "a", 3, 4) == PN_OK); /* usable after clear */
    pn_registry_free(r);
    pn_registry_free(NULL);
    CHECK_EQ_INT(released[3], 1);
    for (int i = 0; i < 3; i++) CHECK_EQ_INT(released[i], 1);
}

/* A class that goes away may run code that registers again. */
static pn_registry *reentered;

static void release_and_register(void *ctx, void *h)
{
    (void)ctx;
    released[*(int *)h]++;
    const pn_registry_entry *e = pn_registry_find(reentered, name_of("a"));
    CHECK(e == NULL || e->struct_class != h);
    if (*(int *)h == 0) CHECK(set(reentered, "from the callback", 10, 11) == PN_OK);
}

static void test_release_may_use_the_registry(void)
{
    forget_releases();
    CHECK(pn_registry_new(&pn_alloc_system, release_and_register, NULL, &reentered) == PN_OK);
    CHECK(set(reentered, "a", 0, 1) == PN_OK);
    CHECK(set(reentered, "a", 2, 3) == PN_OK);
    CHECK(pn_registry_find(reentered, name_of("from the callback")) != NULL);
    pn_registry_clear(reentered);
    CHECK_EQ_INT(pn_registry_len(reentered), 0);
    pn_registry_free(reentered);
    for (int i = 0; i < 4; i++) CHECK_EQ_INT(released[i], 1);
    CHECK_EQ_INT(released[10], 1);
}

typedef struct countdown {
    int left; /* allocations until one fails; negative: none does */
    int live;
} countdown;

static void *failing_resize(void *ctx, void *ptr, size_t size)
{
    countdown *c = ctx;
    if (size == 0) {
        c->live -= ptr != NULL;
        return pn_alloc_system.resize(pn_alloc_system.ctx, ptr, 0);
    }
    if (c->left == 0) return NULL;
    if (c->left > 0) c->left--;
    void *p = pn_alloc_system.resize(pn_alloc_system.ctx, ptr, size);
    c->live += ptr == NULL && p != NULL;
    return p;
}

/* Thirty types, each set twice. On a failure the handles go back to the caller. */
static bool run_with(countdown *c)
{
    pn_alloc alloc = {failing_resize, c};
    pn_registry *r = NULL;
    forget_releases();
    if (pn_registry_new(&alloc, count_release, NULL, &r) != PN_OK) return false;
    bool ok = true;
    for (int i = 0; i < 30 && ok; i++) {
        char name[8];
        snprintf(name, sizeof name, "t%d", i);
        size_t before = pn_registry_len(r);
        ok = set(r, name, 2 * i, 2 * i + 1) == PN_OK;
        CHECK_EQ_INT(pn_registry_len(r), before + (ok ? 1 : 0));
        CHECK((pn_registry_find(r, name_of(name)) != NULL) == ok);
        if (!ok) CHECK_EQ_INT(released[2 * i], 0);
    }
    int stored = (int)pn_registry_len(r);
    pn_registry_free(r);
    for (int i = 0; i < 2 * stored; i++) CHECK_EQ_INT(released[i], 1);
    for (int i = 2 * stored; i < HANDLES; i++) CHECK_EQ_INT(released[i], 0);
    return ok;
}

static void test_set_survives_oom(void)
{
    for (int n = 0;; n++) {
        countdown c = {.left = n};
        bool done = run_with(&c);
        CHECK_EQ_INT(c.live, 0);
        if (done) break;
        CHECK(n < 1000);
        if (n >= 1000) break;
    }
}

int main(void)
{
    RUN(test_find_gives_what_was_set);
    RUN(test_replacing_keeps_the_place_and_releases_the_old);
    RUN(test_remove_and_clear_release_once);
    RUN(test_release_may_use_the_registry);
    RUN(test_set_survives_oom);
    return check_summary();
}
