/* What the key-value core promises: order as Python's dict keeps it, every displaced
 * value handed out exactly once, files byte for byte, no leak on any failing path. */
#include "check.h"
#include "store/doc.h"
#include "store/kv.h"
#include "store/refdoc.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- an allocator that counts blocks and fails on demand ---- */

static long blocks, fail_at, calls;

static void *counting_resize(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    if (size == 0) {
        blocks -= ptr != NULL;
        free(ptr);
        return NULL;
    }
    if (++calls == fail_at) return NULL;
    void *p = realloc(ptr, size);
    blocks += ptr == NULL && p != NULL;
    return p;
}

static const pn_alloc counting = {counting_resize, NULL};

/* ---- live values: numbers, counted ---- */

static int live_count, encode_fails;

static void release_live(void *ctx, void *live)
{
    (void)ctx;
    free(live);
    live_count--;
}

static pn_status encode_live(void *ctx, void *live, pn_buf *out)
{
    (void)ctx;
    if (encode_fails) return PN_ERR_CALLBACK;
    char text[32];
    int n = snprintf(text, sizeof text, "%d", *(int *)live);
    return pn_buf_append(out, text, (size_t)n);
}

/* What other threads do at their turn. */
static int turn_count;
static pn_kv *turn_kv;
static void (*at_turn)(pn_kv *kv);

static void take_turn(void *ctx)
{
    (void)ctx;
    turn_count++;
    if (at_turn != NULL) at_turn(turn_kv);
}

static const pn_host host = {NULL, release_live, encode_live, NULL, take_turn};

static pn_cell live(int v)
{
    int *p = malloc(sizeof *p);
    *p = v;
    live_count++;
    pn_cell c = {.kind = PN_CELL_LIVE};
    c.live = p;
    return c;
}

static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static pn_status load(const char *json, pn_kv **out)
{
    pn_blob *blob;
    PN_TRY(pn_blob_copy(&counting, json, strlen(json), &blob));
    pn_status s = pn_kv_load_json(&counting, &host, blob, out, NULL);
    pn_blob_unref(blob);
    return s;
}

static void check_written(const pn_kv *kv, const char *want)
{
    pn_buf out;
    pn_kv_place place = {.turns = false};
    pn_buf_init(&out, &counting);
    CHECK(pn_kv_write_json(kv, &out, &place) == PN_OK);
    CHECK(pn_buf_push(&out, 0) == PN_OK);
    CHECK_EQ_STR((const char *)out.data, want);
    CHECK(place.key_owner == NULL);
    pn_kv_place_clear(&place);
    pn_buf_clear(&out);
}

/* ---- tests ---- */

static void put(pn_kv *kv, const char *coll, const char *key, pn_cell cell)
{
    pn_coll *c;
    pn_cell old;
    CHECK(pn_kv_collection(kv, text(coll), &c) == PN_OK);
    CHECK(pn_coll_put(c, text(key), NULL, cell, &old) == PN_OK);
    pn_cell_release(&old, &host);
}

static void test_order_is_that_of_a_dict(void)
{
    pn_kv *kv;
    CHECK(pn_kv_new(&counting, &host, &kv) == PN_OK);
    put(kv, "b", "x", live(1));
    put(kv, "a", "y", live(2));
    put(kv, "b", "w", live(3));
    put(kv, "b", "x", live(4)); /* keeps its place */
    check_written(kv, "{\"b\": {\"x\": 4, \"w\": 3}, \"a\": {\"y\": 2}}");
    pn_cell old;
    CHECK(pn_coll_remove(pn_kv_find(kv, text("b")), text("x"), &old));
    pn_cell_release(&old, &host);
    put(kv, "b", "x", live(5)); /* goes to the end */
    check_written(kv, "{\"b\": {\"w\": 3, \"x\": 5}, \"a\": {\"y\": 2}}");
    CHECK(!pn_coll_remove(pn_kv_find(kv, text("b")), text("nope"), &old));
    pn_kv_unref(kv);
    CHECK_EQ_INT(live_count, 0);
    CHECK_EQ_INT(blocks, 0);
}

static void test_reading_creates_a_collection(void)
{
    pn_kv *kv;
    pn_coll *c;
    CHECK(pn_kv_new(&counting, &host, &kv) == PN_OK);
    CHECK(pn_kv_find(kv, text("n")) == NULL);
    CHECK(pn_kv_collection(kv, text("n"), &c) == PN_OK);
    check_written(kv, "{\"n\": {}}");
    pn_coll *dropped = pn_kv_drop(kv, text("n"));
    CHECK(dropped == c && pn_kv_drop(kv, text("n")) == NULL);
    pn_coll_free(dropped, &counting, &host);
    check_written(kv, "{}");
    pn_kv_unref(kv);
    CHECK_EQ_INT(blocks, 0);
}

static void test_load_keeps_canonical_text_and_rewrites_the_rest(void)
{
    pn_kv *kv;
    CHECK(load(" {\"c\" : {\"k\":{\"a\":1.50,\"b\":\"\\u00E9\"}, \"\\u0064\": [1, 2]} , \"e\":{}}\n", &kv) == PN_OK);
    check_written(kv, "{\"c\": {\"k\": {\"a\": 1.5, \"b\": \"\\u00e9\"}, \"d\": [1, 2]}, \"e\": {}}");
    CHECK(pn_coll_get(pn_kv_find(kv, text("c")), text("d")) != NULL); /* the key was escaped */
    pn_kv_unref(kv);
    CHECK_EQ_INT(blocks, 0);
}

static void test_a_repeated_key_counts_last_but_stands_first(void)
{
    pn_kv *kv;
    CHECK(load("{\"c\": {\"a\": 1, \"b\": 2, \"a\": 3}}", &kv) == PN_OK);
    check_written(kv, "{\"c\": {\"a\": 3, \"b\": 2}}");
    pn_kv_unref(kv);
    CHECK_EQ_INT(blocks, 0);
}

static void test_odd_shapes_are_left_to_the_host(void)
{
    static const char *const odd[] = {"[]", "1", "\"x\"", "{\"a\": 1}", "{\"a\": {}, \"a\": {}}", "{\"a\": null}"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        pn_kv *kv;
        CHECK(load(odd[i], &kv) == PN_ERR_UNSUPPORTED);
    }
    static const char *const bad[] = {"", "{", "{\"a\": {\"b\": }}", "{\"a\": {}} x", "{\"a\": {\"b\": 1,}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pn_kv *kv;
        pn_status s = load(bad[i], &kv);
        CHECK(s == PN_ERR_SYNTAX || s == PN_ERR_UNSUPPORTED);
    }
    CHECK_EQ_INT(blocks, 0);
}

static void test_a_failing_encoder_names_the_place(void)
{
    pn_kv *kv;
    CHECK(pn_kv_new(&counting, &host, &kv) == PN_OK);
    put(kv, "c", "good", live(1));
    pn_buf out;
    pn_kv_place place = {.turns = false};
    pn_buf_init(&out, &counting);
    encode_fails = 1;
    CHECK(pn_kv_write_json(kv, &out, &place) == PN_ERR_CALLBACK);
    encode_fails = 0;
    CHECK(pn_bytes_equal(place.collection, text("c")) && pn_bytes_equal(place.key, text("good")));
    pn_kv_place_clear(&place);
    pn_buf_clear(&out);
    pn_kv_unref(kv);
    CHECK_EQ_INT(blocks, 0);
}

static void put_elsewhere(pn_kv *kv) { put(kv, "other", "new", live(1)); }
static void add_collection(pn_kv *kv) { put(kv, "third", "new", live(1)); }

static void touch_elsewhere(pn_kv *kv)
{
    pn_coll *c = pn_kv_find(kv, text("other"));
    pn_coll_touch(c, pn_coll_get(c, text("old")));
}

static void drop_what_is_written(pn_kv *kv) { pn_coll_free(pn_kv_drop(kv, text("c")), &counting, &host); }

/* Writes with others at their turns; how many there were goes to turn_count. */
static void check_turns(void (*others)(pn_kv *), pn_status want)
{
    pn_kv *kv;
    CHECK(pn_kv_new(&counting, &host, &kv) == PN_OK);
    for (int i = 0; i < 100000; i++) {
        char key[16];
        snprintf(key, sizeof key, "key-%07d", i);
        put(kv, "c", key, live(i));
    }
    put(kv, "other", "old", live(1));
    pn_buf out;
    pn_buf_init(&out, &counting);
    pn_kv_place place = {.turns = true};
    turn_kv = kv;
    at_turn = others;
    turn_count = 0;
    CHECK_EQ_INT(pn_kv_write_json(kv, &out, &place), want);
    CHECK(place.key_owner == NULL);
    pn_kv_place_clear(&place);
    pn_buf_clear(&out);
    pn_kv_unref(kv);
    CHECK_EQ_INT(live_count, 0);
    CHECK_EQ_INT(blocks, 0);
}

static void test_others_have_turns_while_much_is_written(void)
{
    check_turns(NULL, PN_OK);
    CHECK(turn_count >= 5);
    void (*const changes[])(pn_kv *) = {put_elsewhere, add_collection, touch_elsewhere, drop_what_is_written};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        check_turns(changes[i], PN_ERR_EXISTS);
        CHECK_EQ_INT(turn_count, 1);
    }
    at_turn = NULL;
    turn_count = 0;
    pn_kv *kv;
    CHECK(pn_kv_new(&counting, &host, &kv) == PN_OK);
    put(kv, "c", "x", live(1));
    check_written(kv, "{\"c\": {\"x\": 1}}");
    pn_kv_unref(kv);
    CHECK_EQ_INT(turn_count, 0); /* nobody asked for any */
}

static void test_load_survives_every_failed_allocation(void)
{
    const char *json = "{\"c\": {\"a\": 1, \"\\u0062\": {\"x\": [1.0]}, \"d\": \"e\"}, \"f\": {\"g\": null}}";
    for (long n = 1;; n++) {
        calls = 0;
        fail_at = n;
        pn_kv *kv = NULL;
        pn_status s = load(json, &kv);
        fail_at = 0;
        if (s == PN_OK) {
            pn_kv_unref(kv);
            CHECK(n > 5);
            break;
        }
        CHECK(s == PN_ERR_NOMEM);
        CHECK_EQ_INT(blocks, 0);
    }
    CHECK_EQ_INT(blocks, 0);
}

static void test_a_mpack_cell_is_written_as_its_json(void)
{
    static const uint8_t good[] = {0x82, 0xa1, 'a', 0x01, 0xa1, 'b', 0x91, 0xc3}; /* {"a": 1, "b": [true]} */
    static const uint8_t cut[] = {0x82, 0xa1, 'a', 0x01, 0xa1, 'b'};
    pn_kv *kv;
    pn_blob *blob;
    CHECK(pn_kv_new(&counting, &host, &kv) == PN_OK);
    CHECK(pn_blob_copy(&counting, good, sizeof good, &blob) == PN_OK);
    put(kv, "c", "k", pn_cell_mpack(blob, pn_blob_view(blob)));
    pn_blob_unref(blob); /* the cell keeps it */
    check_written(kv, "{\"c\": {\"k\": {\"a\": 1, \"b\": [true]}}}");

    CHECK(pn_blob_copy(&counting, cut, sizeof cut, &blob) == PN_OK);
    put(kv, "c", "k", pn_cell_mpack(blob, pn_blob_view(blob)));
    pn_blob_unref(blob);
    pn_buf out;
    pn_kv_place place = {.turns = false};
    pn_buf_init(&out, &counting);
    CHECK(pn_kv_write_json(kv, &out, &place) == PN_ERR_CORRUPT);
    CHECK(pn_bytes_equal(place.key, text("k")));
    pn_kv_place_clear(&place);
    pn_buf_clear(&out);
    pn_kv_unref(kv);
    CHECK_EQ_INT(blocks, 0);
}

/* ---- document store ---- */

static const char docstore[] =
    "{\"docstore/metadata\": {\"n1\": {\"doc_hash\": \"h1\", \"ref_doc_id\": \"d\"}, "
    "\"n2\": {\"doc_hash\": \"h2\", \"ref_doc_id\": \"d\"}, \"d\": {\"doc_hash\": \"h\"}}, "
    "\"docstore/data\": {\"n1\": {}, \"n2\": {}, \"lone\": {}}, "
    "\"docstore/ref_doc_info\": {\"d\": {\"node_ids\": [\"n1\", \"n2\"], \"metadata\": {\"k\": 1}}}}";

static pn_doc_names names(void)
{
    return (pn_doc_names){text("docstore/data"), text("docstore/metadata"), text("docstore/ref_doc_info")};
}

static bool delete(pn_kv *kv, const char *id)
{
    pn_cell_bin bin;
    pn_cell_bin_init(&bin, &counting);
    bool existed = false;
    pn_doc_names n = names();
    CHECK(pn_doc_delete(kv, &n, text(id), &bin, &existed) == PN_OK);
    pn_cell_bin_empty(&bin, &host);
    return existed;
}

static void test_delete_unlinks_and_the_last_node_takes_its_source(void)
{
    pn_kv *kv;
    CHECK(load(docstore, &kv) == PN_OK);
    CHECK(delete(kv, "n1"));
    check_written(kv, "{\"docstore/metadata\": {\"n2\": {\"doc_hash\": \"h2\", \"ref_doc_id\": \"d\"}, "
                      "\"d\": {\"doc_hash\": \"h\"}}, \"docstore/data\": {\"n2\": {}, \"lone\": {}}, "
                      "\"docstore/ref_doc_info\": {\"d\": {\"node_ids\": [\"n2\"], \"metadata\": {\"k\": 1}}}}");
    CHECK(!delete(kv, "n1"));
    CHECK(delete(kv, "n2"));
    CHECK(delete(kv, "lone"));
    check_written(kv, "{\"docstore/metadata\": {}, \"docstore/data\": {}, \"docstore/ref_doc_info\": {}}");
    pn_kv_unref(kv);
    CHECK_EQ_INT(blocks, 0);
}

static void test_a_live_cell_is_refused_before_anything_changes(void)
{
    pn_kv *kv;
    CHECK(load(docstore, &kv) == PN_OK);
    put(kv, "docstore/metadata", "n1", live(7));
    pn_cell_bin bin;
    pn_cell_bin_init(&bin, &counting);
    bool existed;
    pn_doc_names n = names();
    CHECK(pn_doc_delete(kv, &n, text("n1"), &bin, &existed) == PN_ERR_UNSUPPORTED);
    pn_cell_bin_empty(&bin, &host);
    CHECK(pn_coll_get(pn_kv_find(kv, text("docstore/data")), text("n1")) != NULL);
    pn_kv_unref(kv);
    CHECK_EQ_INT(blocks, 0);
    CHECK_EQ_INT(live_count, 0);
}

static void test_refdoc_takes_only_its_own_shape(void)
{
    static const char *const odd[] = {
        "{}", "[]", "{\"node_ids\": [], \"metadata\": {}, \"x\": 1}", "{\"metadata\": {}, \"node_ids\": []}",
        "{\"node_ids\": [\"a\", \"a\"], \"metadata\": {}}", "{\"node_ids\": [1], \"metadata\": {}}",
        "{\"node_ids\": [\"a\"], \"metadata\": null}", "{\"doc_ids\": [], \"extra_info\": {}}",
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        pn_blob *blob;
        pn_refdoc *r;
        CHECK(pn_blob_copy(&counting, odd[i], strlen(odd[i]), &blob) == PN_OK);
        CHECK(pn_refdoc_from_json(&counting, blob, pn_blob_view(blob), &r) == PN_ERR_UNSUPPORTED);
        pn_blob_unref(blob);
    }
    CHECK_EQ_INT(blocks, 0);
}

static void test_refdoc_writes_what_it_read(void)
{
    static const char json[] = "{\"node_ids\": [\"b\", \"\\u00e9\\\"\", \"a\"], \"metadata\": {\"k\": [1, {}]}}";
    pn_blob *blob;
    pn_refdoc *r;
    CHECK(pn_blob_copy(&counting, json, sizeof json - 1, &blob) == PN_OK);
    CHECK(pn_refdoc_from_json(&counting, blob, pn_blob_view(blob), &r) == PN_OK);
    CHECK(!pn_refdoc_metadata_is_empty(r));
    pn_buf out;
    pn_buf_init(&out, &counting);
    CHECK(pn_refdoc_write_json(r, &host, &out) == PN_OK && pn_buf_push(&out, 0) == PN_OK);
    CHECK_EQ_STR((const char *)out.data, json);
    pn_buf_clear(&out);
    pn_refdoc_free(r, &host);
    pn_blob_unref(blob);
    CHECK_EQ_INT(blocks, 0);
}

int main(void)
{
    RUN(test_order_is_that_of_a_dict);
    RUN(test_reading_creates_a_collection);
    RUN(test_load_keeps_canonical_text_and_rewrites_the_rest);
    RUN(test_a_repeated_key_counts_last_but_stands_first);
    RUN(test_odd_shapes_are_left_to_the_host);
    RUN(test_a_failing_encoder_names_the_place);
    RUN(test_others_have_turns_while_much_is_written);
    RUN(test_load_survives_every_failed_allocation);
    RUN(test_a_mpack_cell_is_written_as_its_json);
    RUN(test_delete_unlinks_and_the_last_node_takes_its_source);
    RUN(test_a_live_cell_is_refused_before_anything_changes);
    RUN(test_refdoc_takes_only_its_own_shape);
    RUN(test_refdoc_writes_what_it_read);
    return check_summary();
}
