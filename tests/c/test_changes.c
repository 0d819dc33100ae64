/* Changes against a model that cannot be wrong: a list of keys and values as a dict
 * keeps it, and a saved copy. What was noted, applied to the saved copy as a pack's
 * reader applies entries, must give the list again, order included. */
#include "codec_check.h"
#include "fail_alloc.h"
#include "store/changes.h"

enum { KEYS = 40 };

typedef struct dict {
    size_t n;
    int key[KEYS], value[KEYS];
} dict;

static size_t find(const dict *d, int key)
{
    size_t i = 0;
    while (i < d->n && d->key[i] != key) i++;
    return i;
}

static bool put(dict *d, int key, int value)
{
    size_t i = find(d, key);
    bool added = i == d->n;
    d->key[i] = key;
    d->value[i] = value;
    d->n += added;
    return added;
}

static bool drop(dict *d, int key)
{
    size_t i = find(d, key);
    if (i == d->n) return false;
    d->n--;
    memmove(&d->key[i], &d->key[i + 1], (d->n - i) * sizeof d->key[0]);
    memmove(&d->value[i], &d->value[i + 1], (d->n - i) * sizeof d->value[0]);
    return true;
}

static bool same(const dict *a, const dict *b)
{
    return a->n == b->n && memcmp(a->key, b->key, a->n * sizeof a->key[0]) == 0 &&
           memcmp(a->value, b->value, a->n * sizeof a->value[0]) == 0;
}

static pn_bytes key_text(int key, char *out) { return (pn_bytes){(uint8_t *)out, (size_t)sprintf(out, "key %d", key)}; }

static int key_of(pn_bytes text)
{
    int key = 0;
    for (size_t i = 4; i < text.len; i++) key = key * 10 + text.ptr[i] - '0';
    return key;
}

/* As a pack's reader: the values come from the map as it was at the take. */
static void apply(dict *saved, const pn_changes *taken, const dict *now)
{
    if (!taken->on || taken->all) {
        CHECK_EQ_INT(pn_omap_len(&taken->keys), 0);
        *saved = *now;
        return;
    }
    size_t pos = 0;
    pn_bytes text;
    void *value;
    while (pn_omap_next(&taken->keys, &pos, &text, &value)) {
        const pn_change_note *note = value;
        int key = key_of(text);
        size_t at = find(now, key);
        CHECK_EQ_INT(at == now->n, note->change == PN_CHANGE_REMOVED);
        CHECK(!note->is_new || (note->change == PN_CHANGE_FRESH && find(saved, key) == saved->n));
        if (note->change != PN_CHANGE_REPLACED) (void)drop(saved, key);
        if (note->change == PN_CHANGE_REPLACED) CHECK(find(saved, key) < saved->n);
        if (note->change != PN_CHANGE_REMOVED) (void)put(saved, key, now->value[at]);
    }
}

typedef struct world {
    pn_changes changes, taken;
    dict now, at_take, saved;
    bool pending;
    uint64_t rnd;
    int next;
} world;

static void edit(world *w, bool shrink)
{
    char text[32];
    int key = (int)(random_next(&w->rnd) % KEYS);
    pn_bytes k = key_text(key, text);
    unsigned dice = random_next(&w->rnd) % 10;
    if (dice < (shrink ? 6u : 3u)) {
        if (drop(&w->now, key)) pn_changes_remove(&w->changes, k);
    } else if (dice < 7 && find(&w->now, key) < w->now.n) {
        w->now.value[find(&w->now, key)] = w->next++;
        pn_changes_touch(&w->changes, k, NULL);
    } else {
        bool added = put(&w->now, key, w->next++);
        pn_changes_put(&w->changes, k, NULL, added);
    }
}

static void begin(world *w)
{
    pn_changes_take(&w->changes, &w->taken);
    CHECK(w->changes.on && !w->changes.all);
    w->at_take = w->now;
    w->pending = true;
}

static void end(world *w, bool durable)
{
    if (durable) {
        apply(&w->saved, &w->taken, &w->at_take);
        CHECK(same(&w->saved, &w->at_take));
        pn_changes_clear(&w->taken);
    } else {
        pn_changes_give_back(&w->changes, &w->taken);
    }
    w->pending = false;
}

static void walk(const pn_alloc *alloc, uint64_t seed, int steps)
{
    world w = {.rnd = seed};
    pn_changes_init(&w.changes, alloc);
    pn_changes_init(&w.taken, alloc);
    for (int step = 0; step < steps; step++) {
        edit(&w, step / 200 % 2);
        unsigned dice = random_next(&w.rnd) % 60;
        if (dice == 0 && !w.pending) begin(&w);
        else if (dice < 4 && w.pending) end(&w, dice == 1);
        else if (dice == 59 && random_next(&w.rnd) % 20 == 0) pn_changes_whole(&w.changes);
    }
    if (w.pending) end(&w, false);
    begin(&w);
    end(&w, true);
    pn_changes_clear(&w.changes);
    pn_changes_clear(&w.taken);
}

static void test_changes_make_the_saved_copy_the_map(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    for (uint64_t seed = 1; seed <= 40; seed++) walk(&f.alloc, seed, 3000);
    CHECK_EQ_INT(f.blocks, 0);
}

static void test_changes_without_memory_are_all(void)
{
    for (long n = 1; n < 400; n++) {
        fail_alloc f;
        fail_alloc_init(&f, n);
        walk(&f.alloc, 7, 300);
        CHECK_EQ_INT(f.blocks, 0);
    }
    fail_alloc f;
    fail_alloc_init(&f, 1);
    pn_changes c, taken;
    pn_changes_init(&c, &f.alloc);
    pn_changes_take(&c, &taken);
    pn_changes_clear(&taken);
    pn_changes_put(&c, PN_BYTES("a"), NULL, true);
    CHECK(f.failed && c.all);
    pn_changes_clear(&c);
}

static void test_untracked_maps_note_nothing(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_changes c, taken;
    pn_changes_init(&c, &f.alloc);
    pn_changes_put(&c, PN_BYTES("a"), NULL, true);
    pn_changes_remove(&c, PN_BYTES("a"));
    pn_changes_whole(&c);
    CHECK(!c.all);
    CHECK_EQ_INT(f.calls, 0);
    /* a first commit that fails leaves it untracked, though it was tracked meanwhile */
    pn_changes_take(&c, &taken);
    pn_changes_put(&c, PN_BYTES("b"), NULL, true);
    pn_changes_give_back(&c, &taken);
    CHECK(!c.on && !c.all);
    CHECK_EQ_INT(pn_omap_len(&c.keys), 0);
    /* one that was untracked while it was under way stays so */
    pn_changes_take(&c, &taken);
    pn_changes_clear(&taken);
    pn_changes_put(&c, PN_BYTES("b"), NULL, true);
    pn_changes_take(&c, &taken);
    pn_changes_clear(&c);
    pn_changes_give_back(&c, &taken);
    CHECK(!c.on);
    pn_changes_clear(&c);
    CHECK_EQ_INT(f.blocks, 0);
}

static void test_keys_that_come_and_go_leave_nothing(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_changes c, taken;
    char text[32];
    pn_changes_init(&c, &f.alloc);
    pn_changes_take(&c, &taken);
    for (int i = 0; i < 1000; i++) {
        pn_changes_put(&c, key_text(i, text), NULL, true);
        pn_changes_touch(&c, key_text(i, text), NULL);
        pn_changes_remove(&c, key_text(i, text));
    }
    CHECK_EQ_INT(pn_omap_len(&c.keys), 0);
    /* but one that was there then is removed, whatever came between */
    pn_changes_remove(&c, PN_BYTES("old"));
    pn_changes_put(&c, PN_BYTES("old"), NULL, true);
    pn_changes_remove(&c, PN_BYTES("old"));
    const pn_change_note *note = pn_omap_get(&c.keys, PN_BYTES("old"));
    CHECK(note != NULL && note->change == PN_CHANGE_REMOVED);
    pn_changes_clear(&c);
    pn_changes_clear(&taken);
    CHECK_EQ_INT(f.blocks, 0);
}

static void test_keys_may_lie_in_a_blob(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_blob *blob;
    CHECK_EQ_INT(pn_blob_copy(&f.alloc, "abc", 3, &blob), PN_OK);
    pn_changes c, taken;
    pn_changes_init(&c, &f.alloc);
    pn_changes_take(&c, &taken);
    pn_changes_put(&c, pn_blob_view(blob), blob, true);
    pn_blob_unref(blob);
    pn_changes_take(&c, &taken);
    pn_changes_touch(&c, PN_BYTES("abc"), NULL);
    pn_changes_give_back(&c, &taken);
    CHECK(pn_omap_get(&c.keys, PN_BYTES("abc")) != NULL);
    pn_changes_clear(&c);
    CHECK_EQ_INT(f.blocks, 0);
}

int main(void)
{
    RUN(test_changes_make_the_saved_copy_the_map);
    RUN(test_changes_without_memory_are_all);
    RUN(test_untracked_maps_note_nothing);
    RUN(test_keys_that_come_and_go_leave_nothing);
    RUN(test_keys_may_lie_in_a_blob);
    return check_summary();
}
