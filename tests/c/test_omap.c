/* The ordered map against a model that cannot be wrong: an array searched from the
 * front, with Python's dict rules for order. */
#include "base/omap.h"
#include "codec_check.h"
#include "fail_alloc.h"

enum { MODEL_MAX = 4096 };

typedef struct model {
    size_t n;
    struct {
        int key, value;
    } e[MODEL_MAX];
} model;

static void model_put(model *m, int key, int value)
{
    size_t i = 0;
    while (i < m->n && m->e[i].key != key) i++;
    m->e[i].key = key;
    m->e[i].value = value;
    m->n += i == m->n;
}

static bool model_remove(model *m, int key, int *value)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->e[i].key != key) continue;
        *value = m->e[i].value;
        memmove(&m->e[i], &m->e[i + 1], (m->n - i - 1) * sizeof m->e[0]);
        m->n--;
        return true;
    }
    return false;
}

/* Keys of many lengths, the empty one among them. */
static pn_bytes key_text(int key, char *out)
{
    int n = key == 0 ? 0 : sprintf(out, "%d%.*s", key, key % 40, "----------------------------------------");
    return (pn_bytes){(uint8_t *)out, (size_t)n};
}

static void check_equal(const pn_omap *m, const model *want)
{
    size_t pos = 0, i = 0;
    pn_bytes key;
    pn_blob *owner;
    void *value;
    char text[64];
    CHECK_EQ_INT(pn_omap_len(m), want->n);
    while (pn_omap_next_owned(m, &pos, &key, &owner, &value)) {
        if (i >= want->n) break;
        CHECK(pn_bytes_equal(key, key_text(want->e[i].key, text)));
        CHECK_EQ_INT(*(int *)value, want->e[i].value);
        CHECK(owner != NULL);
        i++;
    }
    CHECK_EQ_INT(i, want->n);
}

static void test_omap_is_a_dict(void)
{
    static model want;
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_omap m;
    pn_omap_init(&m, &f.alloc, sizeof(int));
    CHECK_EQ_INT(f.calls, 0);
    uint64_t rnd = 3;
    char text[64];
    for (int step = 0; step < 40000; step++) {
        /* phases of growing and of shrinking, so that graves and sweeps happen */
        int key = (int)(random_next(&rnd) % 600), shrink = step / 5000 % 2;
        pn_bytes k = key_text(key, text);
        uint64_t version = m.version;
        if (random_next(&rnd) % 10 < (shrink ? 3u : 7u)) {
            bool added, had = pn_omap_get(&m, k) != NULL;
            void *value;
            CHECK_EQ_INT(pn_omap_put(&m, k, NULL, &value, &added), PN_OK);
            CHECK_EQ_INT(added, !had);
            CHECK(!added || *(int *)value == 0);
            CHECK((version != m.version) == added);
            *(int *)value = step;
            model_put(&want, key, step);
        } else {
            int got = -1, expected = -1;
            bool removed = pn_omap_remove(&m, k, &got);
            CHECK_EQ_INT(removed, model_remove(&want, key, &expected));
            CHECK_EQ_INT(got, expected);
            CHECK((version != m.version) == removed);
        }
        if (step % 997 == 0) check_equal(&m, &want);
    }
    check_equal(&m, &want);
    for (int key = 0; key < 600; key++) {
        int *v = pn_omap_get(&m, key_text(key, text)), found = -1;
        for (size_t i = 0; i < want.n; i++)
            if (want.e[i].key == key) found = want.e[i].value;
        CHECK_EQ_INT(v ? *v : -1, found);
    }
    pn_omap_clear(&m);
    CHECK_EQ_INT(f.blocks, 0);
    want.n = 0;
    check_equal(&m, &want);
}

static void test_omap_holds_the_owner_of_a_key(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_blob *blob;
    pn_omap m;
    void *value;
    bool added;
    CHECK_EQ_INT(pn_blob_copy(&f.alloc, "alphabeta", 9, &blob), PN_OK);
    const uint8_t *p = pn_blob_view(blob).ptr;
    pn_omap_init(&m, &f.alloc, 0);
    CHECK_EQ_INT(pn_omap_put(&m, (pn_bytes){p, 5}, blob, &value, &added), PN_OK);
    CHECK_EQ_INT(pn_omap_put(&m, (pn_bytes){p + 5, 4}, blob, &value, &added), PN_OK);
    CHECK_EQ_INT(pn_omap_put(&m, PN_BYTES("alpha"), NULL, &value, &added), PN_OK);
    CHECK(!added);
    pn_blob_unref(blob); /* its address stays good: the map holds it */
    CHECK(pn_omap_get(&m, PN_BYTES("beta")) != NULL);
    CHECK(pn_omap_remove(&m, PN_BYTES("alpha"), NULL));
    CHECK(pn_omap_get(&m, PN_BYTES("alpha")) == NULL);
    size_t pos = 0;
    pn_bytes key;
    CHECK(pn_omap_next(&m, &pos, &key, &value));
    CHECK(pn_bytes_equal(pn_omap_key_of(value), key));
    CHECK(key.ptr == p + 5); /* borrowed, not copied */
    CHECK(pn_omap_owner_of(value) == blob);
    pn_omap_clear(&m);
    CHECK_EQ_INT(f.blocks, 0);
}

/* Hashes taken ahead of time stay good while the map grows, shrinks and is swept. */
/* As a blob of no bytes gives it, with a NULL. */
static void test_omap_empty_key_of_an_owner(void)
{
    pn_omap m;
    pn_blob *blob;
    pn_buf none;
    void *value;
    bool added;
    size_t pos = 0;
    pn_bytes key = {NULL, 0};
    pn_buf_init(&none, &pn_alloc_system);
    CHECK_EQ_INT(pn_blob_take(&none, &blob), PN_OK);
    pn_omap_init(&m, &pn_alloc_system, sizeof(int));
    CHECK_EQ_INT(pn_omap_put(&m, key, blob, &value, &added), PN_OK);
    CHECK(added && pn_omap_get(&m, key) == value && pn_omap_next(&m, &pos, &key, &value));
    CHECK_EQ_INT(pn_omap_reserve(&m, 100), PN_OK);
    CHECK(pn_omap_get(&m, PN_BYTES("")) != NULL && pn_omap_remove(&m, PN_BYTES(""), NULL));
    pn_omap_clear(&m);
    pn_blob_unref(blob);
}

static void test_omap_hashes_ahead_of_time(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_omap m;
    uint32_t hashes[300];
    char text[64];
    pn_omap_init(&m, &f.alloc, sizeof(int));
    for (int key = 0; key < 300; key++) hashes[key] = pn_omap_near(&m, key_text(key, text));
    for (int round = 0; round < 3; round++) {
        for (int key = 0; key < 300; key++) {
            void *value;
            bool added;
            pn_omap_nearer(&m, hashes[(key + 7) % 300]);
            CHECK_EQ_INT(pn_omap_near(&m, key_text(key, text)), hashes[key]);
            CHECK_EQ_INT(pn_omap_put_hashed(&m, key_text(key, text), hashes[key], NULL, &value, &added), PN_OK);
            CHECK_EQ_INT(added, round == 0 || key % 3 == 0);
            *(int *)value = key;
        }
        for (int key = 0; key < 300; key += 3) CHECK(pn_omap_remove(&m, key_text(key, text), NULL));
        for (int key = 0; key < 300; key++) {
            const int *value = pn_omap_get(&m, key_text(key, text));
            CHECK((value != NULL) == (key % 3 != 0) && (value == NULL || *value == key));
        }
    }
    pn_omap_clear(&m);
    CHECK_EQ_INT(f.blocks, 0);
}

/* The entry that was handed out last may go while others are still to come. */
static void test_omap_removing_on_the_way(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_omap m;
    pn_omap_init(&m, &f.alloc, sizeof(int));
    for (int keep = 2; keep < 5; keep += 2) { /* 4: no key is left */
        char text[64];
        for (int key = 0; key < 100; key++) {
            void *value;
            bool added;
            CHECK_EQ_INT(pn_omap_put(&m, key_text(key, text), NULL, &value, &added), PN_OK);
            *(int *)value = key;
        }
        size_t pos = 0;
        int seen = 0;
        pn_bytes key;
        void *value;
        while (pn_omap_next(&m, &pos, &key, &value)) {
            CHECK_EQ_INT(*(int *)value, seen++);
            if (keep == 4 || *(int *)value % keep) CHECK(pn_omap_remove(&m, key, NULL));
        }
        CHECK_EQ_INT(seen, 100);
        CHECK_EQ_INT(pn_omap_len(&m), keep == 4 ? 0 : 50);
        pn_omap_clear(&m);
    }
    CHECK_EQ_INT(f.blocks, 0);
}

/* A clone is equal, has no part in what happens to the other, and lives longer. */
static void test_omap_clone_is_apart(void)
{
    for (int fail = 0; fail < 4; fail++) {
        fail_alloc f;
        fail_alloc_init(&f, 0);
        static model want;
        want.n = 0;
        pn_omap m, copy;
        char text[64];
        pn_omap_init(&m, &f.alloc, sizeof(int));
        CHECK_EQ_INT(pn_omap_clone(&m, &copy), PN_OK);
        CHECK_EQ_INT(pn_omap_len(&copy), 0);
        CHECK(pn_omap_get(&copy, PN_BYTES("x")) == NULL);
        for (int key = 0; key < 200; key++) {
            void *value;
            bool added;
            CHECK_EQ_INT(pn_omap_put(&m, key_text(key, text), NULL, &value, &added), PN_OK);
            *(int *)value = key;
            model_put(&want, key, key);
        }
        int gone;
        for (int key = 0; key < 200; key += 3) CHECK(pn_omap_remove(&m, key_text(key, text), NULL) && model_remove(&want, key, &gone));
        f.fail_at = fail ? f.calls + fail : 0;
        pn_status s = pn_omap_clone(&m, &copy);
        f.fail_at = 0;
        CHECK_EQ_INT(s, fail == 1 || fail == 2 ? PN_ERR_NOMEM : PN_OK);
        if (s == PN_OK) {
            void *value;
            bool added;
            CHECK(pn_omap_remove(&m, key_text(1, text), NULL));
            CHECK_EQ_INT(pn_omap_put(&m, key_text(900, text), NULL, &value, &added), PN_OK);
            check_equal(&copy, &want);
            pn_omap_clear(&m);
            check_equal(&copy, &want);
            CHECK_EQ_INT(pn_omap_put(&copy, key_text(0, text), NULL, &value, &added), PN_OK);
            *(int *)value = 7;
            model_put(&want, 0, 7);
            check_equal(&copy, &want);
        }
        pn_omap_clear(&copy);
        pn_omap_clear(&m);
        CHECK_EQ_INT(f.blocks, 0);
    }
}

static void test_omap_reserve_spares_rehashing(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_blob *blob;
    pn_omap m;
    uint8_t keys[2000];
    for (int i = 0; i < 1000; i++) keys[2 * i] = (uint8_t)i, keys[2 * i + 1] = (uint8_t)(i >> 8);
    CHECK_EQ_INT(pn_blob_copy(&f.alloc, keys, sizeof keys, &blob), PN_OK);
    pn_omap_init(&m, &f.alloc, 8);
    CHECK_EQ_INT(pn_omap_reserve(&m, 1000), PN_OK);
    long calls = f.calls;
    for (int i = 0; i < 1000; i++) {
        void *value;
        bool added;
        CHECK_EQ_INT(pn_omap_put(&m, (pn_bytes){pn_blob_view(blob).ptr + 2 * i, 2}, blob, &value, &added), PN_OK);
        CHECK(added);
    }
    CHECK_EQ_INT(f.calls, calls);
    CHECK_EQ_INT(pn_omap_reserve(&m, SIZE_MAX), PN_ERR_NOMEM);
    pn_omap_clear(&m);
    pn_blob_unref(blob);
    CHECK_EQ_INT(f.blocks, 0);
}

/* A put that fails leaves the map as it was; the rest goes on. */
static pn_status fill(const pn_alloc *alloc)
{
    pn_omap m;
    pn_status first = PN_OK;
    model want = {0};
    char text[64];
    pn_omap_init(&m, alloc, sizeof(int));
    for (int key = 0; key < 60; key++) {
        void *value;
        bool added;
        pn_status s = pn_omap_put(&m, key_text(key, text), NULL, &value, &added);
        if (s != PN_OK) {
            first = s;
            CHECK(pn_omap_get(&m, key_text(key, text)) == NULL);
            continue;
        }
        *(int *)value = key;
        model_put(&want, key, key);
        if (key % 3 == 0) {
            int got;
            CHECK(pn_omap_remove(&m, key_text(key, text), &got) && model_remove(&want, key, &got));
        }
    }
    check_equal(&m, &want);
    pn_omap_clear(&m);
    return first;
}

static void test_omap_put_survives_oom(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = fill(&f.alloc));
}

int main(void)
{
    RUN(test_omap_is_a_dict);
    RUN(test_omap_holds_the_owner_of_a_key);
    RUN(test_omap_empty_key_of_an_owner);
    RUN(test_omap_hashes_ahead_of_time);
    RUN(test_omap_removing_on_the_way);
    RUN(test_omap_clone_is_apart);
    RUN(test_omap_reserve_spares_rehashing);
    RUN(test_omap_put_survives_oom);
    return check_summary();
}
