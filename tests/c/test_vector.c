/* The vector table and its file: maps, bands, the reverse index, reading and writing,
 * failed allocations. */
#include "check.h"
#include "fail_alloc.h"
#include "store/vector.h"
#include "store/vector_json.h"

#include <math.h>

static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static const pn_vec_row *row_of(const pn_vec *v, const char *id) { return pn_omap_get(&v->rows, text(id)); }

static void check_values(const pn_vec *v, const char *id, const double *want, size_t n)
{
    double got[64] = {0};
    const pn_vec_row *row = row_of(v, id);
    CHECK(row != NULL);
    if (row == NULL) return;
    CHECK_EQ_INT(pn_vec_band_of(v, row)->dim, n);
    pn_vec_values(v, row, got);
    CHECK(memcmp(got, want, n * sizeof *want) == 0);
}

static void put(pn_vec *v, const char *id, const char *ref, double x)
{
    double values[3] = {x, 0.5, -0.0};
    CHECK_EQ_INT(pn_vec_put_row(v, text(id), NULL, values, 3), PN_OK);
    CHECK_EQ_INT(pn_vec_put_ref(v, text(id), NULL, text(ref)), PN_OK);
    pn_blob *blob;
    CHECK_EQ_INT(pn_blob_copy(v->alloc, "{}", 2, &blob), PN_OK);
    CHECK_EQ_INT(pn_vec_put_text(v, text(id), NULL, blob, pn_blob_view(blob)), PN_OK);
    pn_blob_unref(blob);
}

static void test_rows_keep_every_bit(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    double narrow[4] = {1.5, -0.0, INFINITY, 0}, wide[4] = {0.1, 1e300, 5e-324, -0.0}, none[1] = {0};
    CHECK_EQ_INT(pn_vec_put_row(&v, text("n"), NULL, narrow, 4), PN_OK);
    CHECK_EQ_INT(pn_vec_put_row(&v, text("w"), NULL, wide, 4), PN_OK);
    CHECK_EQ_INT(pn_vec_put_row(&v, text("0"), NULL, none, 0), PN_OK);
    CHECK(!pn_vec_band_of(&v, row_of(&v, "n"))->wide);
    CHECK(pn_vec_band_of(&v, row_of(&v, "w"))->wide);
    check_values(&v, "n", narrow, 4);
    check_values(&v, "w", wide, 4);
    check_values(&v, "0", none, 0);
    CHECK_EQ_INT((uintptr_t)row_of(&v, "w")->data % 64, 0);
    pn_vec_clear(&v);
}

static void test_freed_rows_are_used_again(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    put(&v, "a", "d", 1);
    const void *data = row_of(&v, "a")->data;
    CHECK(pn_vec_remove_row(&v, text("a")));
    CHECK(!pn_vec_remove_row(&v, text("a")));
    put(&v, "b", "d", 2);
    CHECK(row_of(&v, "b")->data == data);
    put(&v, "b", "d", 3); /* replacing takes another, then frees this one */
    CHECK(row_of(&v, "b")->data != data);
    put(&v, "c", "d", 4);
    CHECK(row_of(&v, "c")->data == data);
    pn_vec_clear(&v);
}

static void test_pinned_rows_are_left_alone(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    put(&v, "a", "d", 7);
    const float *data = row_of(&v, "a")->data;
    pn_vec_pin(&v);
    pn_vec_remove_row(&v, text("a"));
    put(&v, "b", "d", 8);
    CHECK(row_of(&v, "b")->data != data);
    CHECK(data[0] == 7 && data[1] == 0.5f);
    pn_vec_unpin(&v);
    put(&v, "c", "d", 9);
    CHECK(row_of(&v, "c")->data == data);
    pn_vec_clear(&v);
}

static void test_dense(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    const void *first;
    ptrdiff_t distance;
    const pn_vec_band *band;
    CHECK(!pn_vec_dense(&v, &first, &distance, &band));
    char id[16];
    for (int i = 0; i < 100; i++) snprintf(id, sizeof id, "%d", i), put(&v, id, "d", i);
    CHECK(pn_vec_dense(&v, &first, &distance, &band));
    CHECK(band->dim == 3 && !band->wide);
    CHECK(*(const float *)((const char *)first + 42 * distance) == 42);
    pn_vec_remove_row(&v, text("50"));
    CHECK(!pn_vec_dense(&v, &first, &distance, &band));
    for (int i = 100; i < 5000; i++) snprintf(id, sizeof id, "%d", i), put(&v, id, "d", i);
    CHECK(!pn_vec_dense(&v, &first, &distance, &band)); /* several blocks */
    pn_vec_clear(&v);
}

static void test_too_many_dimensions_are_unsupported(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    double values[PN_VEC_MAX_BANDS + 2] = {0};
    pn_status s = PN_OK;
    for (size_t n = 0; n <= PN_VEC_MAX_BANDS && s == PN_OK; n++) s = pn_vec_put_row(&v, text("a"), NULL, values, n);
    CHECK_EQ_INT(s, PN_ERR_UNSUPPORTED);
    CHECK_EQ_INT(pn_omap_len(&v.rows), 1);
    pn_vec_clear(&v);
}

static void test_delete_by_source(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    size_t deleted;
    char id[16];
    for (int i = 0; i < 30; i++) snprintf(id, sizeof id, "n%d", i), put(&v, id, i % 3 ? "odd" : "even", i);
    CHECK(pn_vec_consistent(&v));
    CHECK_EQ_INT(pn_vec_delete_ref(&v, text("nobody"), &deleted), PN_OK);
    CHECK_EQ_INT(deleted, 0);
    CHECK_EQ_INT(pn_vec_delete_ref(&v, text("even"), &deleted), PN_OK);
    CHECK_EQ_INT(deleted, 10);
    CHECK(pn_vec_consistent(&v));
    CHECK_EQ_INT(pn_omap_len(&v.rows), 20);
    CHECK_EQ_INT(pn_omap_len(&v.metas), 20);
    CHECK_EQ_INT(pn_omap_len(&v.names), 1);
    CHECK(row_of(&v, "n3") == NULL && row_of(&v, "n4") != NULL);
    pn_vec_clear(&v);
}

static void test_delete_by_source_refuses_an_id_without_a_row(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    size_t deleted;
    put(&v, "a", "d", 1);
    put(&v, "b", "d", 1);
    pn_vec_remove_row(&v, text("a"));
    CHECK_EQ_INT(pn_vec_delete_ref(&v, text("d"), &deleted), PN_ERR_UNSUPPORTED);
    CHECK_EQ_INT(pn_omap_len(&v.refs), 2);
    CHECK(row_of(&v, "b") != NULL);
    CHECK_EQ_INT(pn_vec_delete_id(&v, text("a")), PN_ERR_NOT_FOUND);
    pn_vec_remove_ref(&v, text("b"));
    CHECK_EQ_INT(pn_vec_delete_id(&v, text("b")), PN_ERR_UNSUPPORTED);
    pn_vec_clear(&v);
}

static void test_many_are_deleted_together_or_none(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    char names[100][8];
    pn_bytes ids[100];
    size_t deleted;
    for (int i = 0; i < 100; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        ids[i] = text(names[i]);
        put(&v, names[i], i < 50 ? "low" : "high", i);
    }
    CHECK_EQ_INT(pn_vec_delete_ids(&v, ids, 0), PN_OK);
    pn_vec_remove_ref(&v, ids[39]);
    CHECK_EQ_INT(pn_vec_delete_ids(&v, ids, 40), PN_ERR_UNSUPPORTED);
    CHECK_EQ_INT(pn_omap_len(&v.rows), 100);
    CHECK_EQ_INT(pn_vec_delete_ids(&v, ids, 39), PN_OK);
    CHECK_EQ_INT(pn_omap_len(&v.rows), 61);
    CHECK_EQ_INT(pn_omap_len(&v.metas), 61);
    CHECK(row_of(&v, "n38") == NULL && row_of(&v, "n39") != NULL);
    pn_vec_remove_row(&v, ids[75]);
    CHECK_EQ_INT(pn_vec_delete_ref(&v, text("high"), &deleted), PN_ERR_UNSUPPORTED);
    CHECK_EQ_INT(pn_omap_len(&v.refs), 60);
    pn_vec_remove_ref(&v, ids[75]);
    CHECK_EQ_INT(pn_vec_delete_ref(&v, text("high"), &deleted), PN_OK);
    CHECK_EQ_INT(deleted, 49);
    CHECK(pn_vec_consistent(&v));
    CHECK_EQ_INT(pn_omap_len(&v.rows), 11);
    pn_vec_clear(&v);
}

static void test_a_source_can_change(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    put(&v, "a", "one", 1);
    put(&v, "b", "one", 1);
    put(&v, "a", "two", 1);
    CHECK(pn_vec_consistent(&v));
    pn_bytes name = pn_vec_ref_name(&v, pn_omap_get(&v.refs, text("a")));
    CHECK(pn_bytes_equal(name, text("two")));
    put(&v, "b", "two", 1);
    CHECK_EQ_INT(pn_omap_len(&v.names), 1); /* the empty group is gone */
    CHECK(pn_vec_consistent(&v));
    put(&v, "c", "", 1); /* reuses its place */
    CHECK(pn_vec_consistent(&v));
    pn_vec_clear(&v);
}

static void test_hosts_are_handed_out_once(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    int a, b, c;
    CHECK_EQ_INT(pn_vec_put_host(&v, text("x"), NULL, &a), PN_OK);
    CHECK_EQ_INT(v.dropped.len, 0);
    CHECK_EQ_INT(pn_vec_put_host(&v, text("x"), NULL, &b), PN_OK);
    CHECK_EQ_INT(v.dropped.len, sizeof(void *));
    bool found;
    CHECK_EQ_INT(pn_vec_remove_meta(&v, text("x"), &found), PN_OK);
    CHECK(found);
    CHECK_EQ_INT(pn_vec_remove_meta(&v, text("x"), &found), PN_OK);
    CHECK(!found);
    put(&v, "y", "d", 1);
    pn_vec_make_live(&v, pn_omap_get(&v.metas, text("y")), &c);
    size_t deleted;
    CHECK_EQ_INT(pn_vec_delete_ref(&v, text("d"), &deleted), PN_OK);
    void *want[] = {&a, &b, &c};
    CHECK_EQ_INT(v.dropped.len, sizeof want);
    CHECK(memcmp(v.dropped.data, want, sizeof want) == 0);
    pn_vec_clear(&v);
}

/* ---- the file ---- */

static const char *const sample =
    "{\"embedding_dict\": {\"n1\": [0.1, 2.0, -0.0], \"n\\u00e9\": [1.0, 0.5, NaN]}, "
    "\"text_id_to_ref_doc_id\": {\"n\\u00e9\": \"d\\\"\", \"n1\": \"None\"}, "
    "\"metadata_dict\": {\"n1\": {\"a\": [1, {\"b\": null}]}, \"x\": 5}}";

static pn_status load_and_save(const pn_alloc *alloc, const char *json, pn_buf *out)
{
    pn_vec v;
    pn_vec_init(&v, alloc);
    pn_buf_init(out, alloc);
    pn_error err;
    pn_status s = pn_vec_load_json(&v, text(json), &err);
    if (s == PN_OK) CHECK(pn_vec_consistent(&v));
    if (s == PN_OK) s = pn_vec_save_json(&v, NULL, 0, out);
    pn_vec_clear(&v);
    return s;
}

static void check_round_trip(const char *json, const char *want)
{
    pn_buf out;
    CHECK_EQ_INT(load_and_save(&pn_alloc_system, json, &out), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&out), text(want)));
    pn_buf_clear(&out);
}

/* How many of the hosts have been returned; *sum gets what they point to added. */
static size_t take_returned(pn_vec *v, int *sum)
{
    size_t n = 0;
    for (int *host; (host = pn_lent_take(&v->lent)) != NULL; n++) *sum += *host;
    return n;
}

static pn_vec_row *lend(pn_vec *v, const char *id, int *host, pn_status *s)
{
    pn_vec_row *row = pn_omap_get(&v->rows, text(id));
    *s = pn_vec_lend(v, row, host);
    return row;
}

static void test_loans_end_with_their_rows(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    int hosts[6] = {1, 2, 4, 8, 16, 32}, sum = 0;
    const char *ids[6] = {"a", "b", "c", "d", "", "f"};
    pn_status s;
    for (int i = 0; i < 6; i++) put(&v, ids[i], i == 3 ? "gone" : "d", i), lend(&v, ids[i], &hosts[i], &s);
    CHECK_EQ_INT(v.lent.out, 6);
    CHECK_EQ_INT(v.lent.values, 18);
    CHECK(pn_lent_host(&v.lent, row_of(&v, "c")->lent) == &hosts[2]);
    size_t deleted;
    pn_vec_remove_row(&v, text("a"));
    put(&v, "b", "d", 9);
    CHECK_EQ_INT(pn_vec_delete_ref(&v, text("gone"), &deleted), PN_OK);
    CHECK_EQ_INT(take_returned(&v, &sum), 3);
    CHECK_EQ_INT(sum, 1 + 2 + 8);
    CHECK_EQ_INT(row_of(&v, "b")->lent, 0);
    double followed[4] = {0.1, 2, 3, 4};
    pn_vec_row *c = pn_omap_get(&v.rows, text("c"));
    CHECK_EQ_INT(pn_vec_follow_host(&v, c, followed, 4), PN_OK);
    check_values(&v, "c", followed, 4);
    CHECK(pn_lent_host(&v.lent, c->lent) == &hosts[2]);
    uint32_t number = 0;
    size_t n = 0;
    for (const pn_loan *loan; (loan = pn_lent_next(&v.lent, &number)) != NULL; n++)
        CHECK(pn_lent_host(&v.lent, pn_vec_lent_row(&v, loan)->lent) == loan->host);
    CHECK_EQ_INT(n, 3);
    pn_vec_end_loan(&v, c);
    lend(&v, "b", &hosts[1], &s); /* in a place that is free again */
    CHECK_EQ_INT(v.lent.count, 7);
    CHECK_EQ_INT(take_returned(&v, &sum), 1);
    CHECK_EQ_INT(sum, 1 + 2 + 8 + 4);
    pn_vec_clear(&v);
    CHECK_EQ_INT(v.lent.out, 0);
}

static void test_a_loan_finds_its_row_when_the_ids_bytes_change(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    double values[2] = {1, 2};
    int host = 1, sum = 0;
    uint8_t *bytes;
    pn_blob *mapped;
    CHECK_EQ_INT(pn_blob_new(v.alloc, 4, &bytes, &mapped), PN_OK);
    memcpy(bytes, "name", 4);
    CHECK_EQ_INT(pn_vec_put_row(&v, pn_blob_view(mapped), mapped, values, 2), PN_OK);
    pn_status s;
    pn_vec_row *row = lend(&v, "name", &host, &s);
    CHECK_EQ_INT(s, PN_OK);
    bytes[0] = 'g'; /* another process wrote into the file */
    uint32_t number = 0;
    CHECK(pn_vec_lent_row(&v, pn_lent_next(&v.lent, &number)) == row);
    pn_vec_end_loan(&v, row);
    CHECK_EQ_INT(take_returned(&v, &sum), 1);
    pn_blob_unref(mapped);
    pn_vec_clear(&v);
}

static pn_status lend_and_follow(const pn_alloc *alloc)
{
    pn_vec v;
    pn_vec_init(&v, alloc);
    double values[2] = {1, 2}, others[3] = {0.1, 2, 3};
    int host = 1, sum = 0;
    pn_status s = pn_vec_put_row(&v, text("a"), NULL, values, 2);
    pn_vec_row *row = s == PN_OK ? lend(&v, "a", &host, &s) : NULL;
    if (s == PN_OK) {
        s = pn_vec_follow_host(&v, row, others, 3);
        if (s != PN_OK) check_values(&v, "a", values, 2);
        CHECK(row->lent != 0);
        pn_vec_end_loan(&v, row);
        CHECK_EQ_INT(take_returned(&v, &sum), 1);
    }
    pn_vec_clear(&v);
    return s;
}

static void test_lending_survives_every_failed_allocation(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = lend_and_follow(&f.alloc));
}

static void test_file_round_trip(void)
{
    check_round_trip(sample, sample);
    check_round_trip("{}", "{\"embedding_dict\": {}, \"text_id_to_ref_doc_id\": {}, \"metadata_dict\": {}}");
}

static void test_other_layouts_of_the_same_file(void)
{
    check_round_trip("{\n \"metadata_dict\" : {\"a\":{\"k\":\"\xc3\xa9\",\"k\":1.50}},\"embedding_dict\":{\"a\":[1,1e0],"
                     "\"b\":[3,4],\"a\":[2,2]}}",
                     "{\"embedding_dict\": {\"a\": [2.0, 2.0], \"b\": [3.0, 4.0]}, \"text_id_to_ref_doc_id\": {}, "
                     "\"metadata_dict\": {\"a\": {\"k\": 1.5}}}");
}

static void check_load(const char *json, pn_status want)
{
    pn_buf out;
    CHECK_EQ_INT(load_and_save(&pn_alloc_system, json, &out), want);
    pn_buf_clear(&out);
}

static void test_what_the_loader_leaves_to_others(void)
{
    const char *const odd[] = {
        "[]", "5", "null", "{\"embedding_dict\": null}", "{\"embedding_dict\": []}", "{\"other\": {}}",
        "{\"embedding_dict\": {\"a\": null}}", "{\"embedding_dict\": {\"a\": [1, null]}}",
        "{\"embedding_dict\": {\"a\": [true]}}", "{\"embedding_dict\": {\"a\": [[1]]}}",
        "{\"embedding_dict\": {\"a\": \"b\"}}", "{\"text_id_to_ref_doc_id\": {\"a\": 5}}",
        "{\"text_id_to_ref_doc_id\": {\"a\": null}}", "{\"metadata_dict\": null}",
        "{\"embedding_dict\": {}, \"embedding_dict\": {}}", "{\"embeddingDict\": {}}",
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) check_load(odd[i], PN_ERR_UNSUPPORTED);
}

static void test_malformed_files(void)
{
    const char *const bad[] = {"", "{", "{\"embedding_dict\": {\"a\": [1,]}}", "{\"embedding_dict\": {\"a\": [1}}",
                               "{}x", "{\"metadata_dict\": {\"a\": {\"b\" 1}}}", "{\"embedding_dict\": {\"a\" [1]}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pn_vec v;
        pn_vec_init(&v, &pn_alloc_system);
        pn_status s = pn_vec_load_json(&v, text(bad[i]), NULL);
        CHECK(s == PN_ERR_SYNTAX || s == PN_ERR_UNSUPPORTED);
        pn_vec_clear(&v);
    }
    /* Cut off anywhere, it is never taken for a whole file. */
    for (size_t n = 0; n < strlen(sample); n++) {
        pn_vec v;
        pn_vec_init(&v, &pn_alloc_system);
        CHECK(pn_vec_load_json(&v, (pn_bytes){(const uint8_t *)sample, n}, NULL) != PN_OK);
        pn_vec_clear(&v);
    }
}

static void test_live_texts_are_put_in_their_places(void)
{
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    int host;
    CHECK_EQ_INT(pn_vec_put_host(&v, text("a"), NULL, &host), PN_OK);
    put(&v, "b", "d", 1);
    CHECK_EQ_INT(pn_vec_put_host(&v, text("c"), NULL, &host), PN_OK);
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_bytes live[] = {text("1"), text("[2]")};
    CHECK_EQ_INT(pn_vec_save_json(&v, live, 1, &out), PN_ERR_INVALID);
    out.len = 0;
    CHECK_EQ_INT(pn_vec_save_json(&v, live, 2, &out), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&out), text("{\"embedding_dict\": {\"b\": [1.0, 0.5, -0.0]}, "
                                                 "\"text_id_to_ref_doc_id\": {\"b\": \"d\"}, "
                                                 "\"metadata_dict\": {\"a\": 1, \"b\": {}, \"c\": [2]}}")));
    pn_buf_clear(&out);
    pn_vec_clear(&v);
}

/* A refused shrink of a block is no failure, so some runs succeed: then fully. */
static void test_loading_survives_every_failed_allocation(void)
{
    fail_alloc f;
    long n = 0, refused = 0;
    do {
        fail_alloc_init(&f, ++n);
        pn_buf out;
        pn_status s = load_and_save(&f.alloc, sample, &out);
        CHECK(s == PN_OK || (s == PN_ERR_NOMEM && f.failed));
        if (s == PN_OK) CHECK(pn_bytes_equal(pn_buf_view(&out), text(sample)));
        else refused++;
        pn_buf_clear(&out);
        CHECK_EQ_INT(f.blocks, 0);
    } while (f.failed && n < 10000);
    CHECK(!f.failed && refused > 10);
}

static pn_status change_things(const pn_alloc *alloc)
{
    pn_vec v;
    pn_vec_init(&v, alloc);
    double wide[2] = {0.1, 2}, narrow[2] = {1, 2};
    pn_status s = PN_OK;
    char id[16];
    size_t deleted;
    bool found;
    for (int i = 0; i < 40 && s == PN_OK; i++) {
        snprintf(id, sizeof id, "n%d", i % 30);
        s = pn_vec_put_row(&v, text(id), NULL, i % 2 ? wide : narrow, 2);
        if (s == PN_OK) s = pn_vec_put_ref(&v, text(id), NULL, text(i % 4 ? "d" : id));
        if (s == PN_OK) s = pn_vec_put_host(&v, text(id), NULL, &v);
        if (s == PN_OK && i == 20) s = pn_vec_delete_ref(&v, text("d"), &deleted);
        if (s == PN_OK && i == 25) s = pn_vec_remove_meta(&v, text(id), &found);
        CHECK(pn_vec_consistent(&v));
    }
    pn_vec_clear(&v);
    return s;
}

static void test_changes_survive_every_failed_allocation(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = change_things(&f.alloc));
}

/* A source that was made for an id which could not be put is gone again. */
static pn_status put_hinted(const pn_alloc *alloc)
{
    pn_vec v;
    uint32_t hint = PN_VEC_NO_HINT;
    pn_blob *blob = NULL;
    pn_vec_init(&v, alloc);
    pn_status s = pn_blob_copy(alloc, "abcdefghijklmnopqrstuvwxyz012345", 32, &blob);
    for (size_t i = 0; i < 29 && s == PN_OK; i++) {
        const uint8_t *ids = pn_blob_view(blob).ptr;
        s = pn_vec_put_ref_hinted(&v, (pn_bytes){ids + i, 1}, blob, (pn_bytes){ids + 29, 3}, blob, &hint);
        CHECK(pn_vec_consistent(&v));
    }
    if (s == PN_OK) CHECK_EQ_INT(pn_omap_len(&v.names), 1);
    pn_blob_unref(blob);
    pn_vec_clear(&v);
    return s;
}

static void test_sources_by_hint_survive_every_failed_allocation(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = put_hinted(&f.alloc));
}

int main(void)
{
    RUN(test_rows_keep_every_bit);
    RUN(test_freed_rows_are_used_again);
    RUN(test_pinned_rows_are_left_alone);
    RUN(test_dense);
    RUN(test_too_many_dimensions_are_unsupported);
    RUN(test_delete_by_source);
    RUN(test_delete_by_source_refuses_an_id_without_a_row);
    RUN(test_many_are_deleted_together_or_none);
    RUN(test_a_source_can_change);
    RUN(test_hosts_are_handed_out_once);
    RUN(test_loans_end_with_their_rows);
    RUN(test_a_loan_finds_its_row_when_the_ids_bytes_change);
    RUN(test_lending_survives_every_failed_allocation);
    RUN(test_file_round_trip);
    RUN(test_other_layouts_of_the_same_file);
    RUN(test_what_the_loader_leaves_to_others);
    RUN(test_malformed_files);
    RUN(test_live_texts_are_put_in_their_places);
    RUN(test_loading_survives_every_failed_allocation);
    RUN(test_changes_survive_every_failed_allocation);
    RUN(test_sources_by_hint_survive_every_failed_allocation);
    return check_summary();
}
