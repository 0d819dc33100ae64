/* Segments that make a store, and those that do not: whatever is in them, the store is what
 * they say or the damage is named, at the latest when a value is first used. */
#include "codec/json_read.h"
#include "codec_check.h"
#include "segment_make.h"
#include "store/kv_pack.h"
#include "store/struct_pack.h"

static void release(void *ctx, void *live) { (void)ctx, (void)live; }
static const pn_host host = {NULL, release, NULL, NULL, NULL}; /* no value here is live */

static pn_status json_of(const pn_kv *kv, pn_buf *out)
{
    pn_kv_place place = {.turns = false};
    pn_status s = pn_kv_write_json(kv, out, &place);
    pn_kv_place_clear(&place);
    return s;
}

/* The whole store as a commit would write it. */
static pn_status write_whole(pn_kv *kv, bool whole, bool *changes, pn_error *err)
{
    pn_batch *b;
    pn_segment_writer *w;
    pn_buf file;
    pn_buf_init(&file, &pn_alloc_system);
    CHECK_EQ_INT(pn_batch_new(&pn_alloc_system, &host, &b), PN_OK);
    CHECK_EQ_INT(pn_kv_gather(kv, PN_BYTES("s"), whole, b), PN_OK);
    CHECK_EQ_INT(pn_segment_writer_new(&pn_alloc_system, segment_sink, &file, &w), PN_OK);
    *changes = pn_batch_changes(b);
    pn_status s = pn_batch_write(b, w);
    (void)pn_batch_damage(b, err);
    pn_kv_give_back(kv);
    pn_segment_writer_free(w);
    pn_batch_free(b);
    pn_buf_clear(&file);
    return s;
}

/* ---- segments ---- */

typedef pn_status (*maker)(pn_segment_writer *w);

static pn_segment *segment_by(maker make, size_t flip)
{
    pn_segment_writer *w;
    pn_buf file;
    pn_blob *blob = NULL;
    pn_segment *s = NULL;
    uint64_t size;
    uint32_t crc;
    pn_error err = {0};
    pn_buf_init(&file, &pn_alloc_system);
    CHECK_EQ_INT(pn_segment_writer_new(&pn_alloc_system, segment_sink, &file, &w), PN_OK);
    CHECK_EQ_INT(make(w), PN_OK);
    CHECK_EQ_INT(pn_segment_finish(w, &size, &crc), PN_OK);
    pn_segment_writer_free(w);
    if (flip) file.data[flip] ^= 1;
    CHECK_EQ_INT(pn_blob_take(&file, &blob), PN_OK);
    CHECK_EQ_INT(pn_segment_open(&pn_alloc_system, blob, &s, &err), PN_OK);
    pn_blob_unref(blob);
    return s;
}

static pn_status begin(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("s"), PN_STORE_COLLECTIONS, false));
    return pn_segment_begin_table(w, PN_BYTES("a"), PN_TABLE_VALUES, PN_TABLE_KEEPS);
}

static pn_status put_k(pn_segment_writer *w, pn_entry_op op)
{
    return pn_segment_put_value(w, op, PN_BYTES("k"), PN_FORM_JSON, PN_BYTES("\"value\""));
}

static pn_status one_value(pn_segment_writer *w)
{
    PN_TRY(begin(w));
    return put_k(w, PN_ENTRY_PUT);
}

static pn_status twice_put(pn_segment_writer *w)
{
    PN_TRY(one_value(w));
    return put_k(w, PN_ENTRY_PUT);
}

static pn_status twice_fresh(pn_segment_writer *w)
{
    PN_TRY(one_value(w));
    return put_k(w, PN_ENTRY_FRESH);
}

static pn_status put_removed(pn_segment_writer *w)
{
    PN_TRY(one_value(w));
    return pn_segment_remove(w, PN_BYTES("k"));
}

static pn_status removed_put(pn_segment_writer *w)
{
    PN_TRY(begin(w));
    PN_TRY(pn_segment_remove(w, PN_BYTES("k")));
    return put_k(w, PN_ENTRY_FRESH);
}

static pn_status removed_twice(pn_segment_writer *w)
{
    PN_TRY(begin(w));
    PN_TRY(pn_segment_remove(w, PN_BYTES("k")));
    return pn_segment_remove(w, PN_BYTES("k"));
}

static const uint8_t *struct_bytes(bool change, size_t *len)
{
    static uint8_t bytes[2][256];
    static size_t lens[2];
    uint8_t one[4] = {3, 0, 0, 0};
    pn_rows_piece pieces[2] = {{.keeps = true, .count = 1}, {.count = 1, .lens = one, .text = PN_BYTES("\"x\"")}};
    pn_rows r = {.alloc = &pn_alloc_system, .change = change, .type = PN_BYTES("t"), .count = 1};
    r.columns[0] = (pn_rows_column){PN_BYTES("f"), PN_COLUMN_LIST, change, 1 + change, change ? pieces : pieces + 1,
                                    1 + (size_t)change};
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_rows_write(&r, &out), PN_OK);
    lens[change] = out.len;
    memcpy(bytes[change], out.data, out.len);
    pn_buf_clear(&out);
    *len = lens[change];
    return bytes[change];
}

static pn_status put_form(pn_segment_writer *w, pn_value_form form)
{
    size_t len;
    const uint8_t *p = struct_bytes(form == PN_FORM_CHANGE, &len);
    return pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("k"), form, (pn_bytes){p, len});
}

static pn_status a_struct(pn_segment_writer *w)
{
    PN_TRY(begin(w));
    return put_form(w, PN_FORM_STRUCT);
}

static pn_status a_change(pn_segment_writer *w)
{
    PN_TRY(begin(w));
    return put_form(w, PN_FORM_CHANGE);
}

static pn_status struct_changed(pn_segment_writer *w)
{
    PN_TRY(a_struct(w));
    return put_form(w, PN_FORM_CHANGE);
}

static pn_status changed_twice(pn_segment_writer *w)
{
    PN_TRY(a_change(w));
    return put_form(w, PN_FORM_CHANGE);
}

static pn_status changed_removed(pn_segment_writer *w)
{
    PN_TRY(a_change(w));
    return pn_segment_remove(w, PN_BYTES("k"));
}

static pn_status text_store(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("s"), PN_STORE_TEXT, false));
    PN_TRY(pn_segment_begin_table(w, (pn_bytes){NULL, 0}, PN_TABLE_VALUES, PN_TABLE_KEEPS));
    return pn_segment_put_value(w, PN_ENTRY_PUT, (pn_bytes){NULL, 0}, PN_FORM_JSON, PN_BYTES("{}"));
}

static pn_status unpack(pn_segment *const *segments, size_t n, pn_kv **out, size_t *bad, pn_error *err)
{
    CHECK_EQ_INT(pn_kv_new(&pn_alloc_system, &host, out), PN_OK);
    return pn_kv_unpack(*out, PN_BYTES("s"), segments, n, bad, err);
}

static void test_kv_unpack_refuses_what_is_wrong(void)
{
    static const struct {
        maker first, second;
        bool ok;
    } cases[] = {
        {one_value, one_value, true},       {one_value, removed_put, false}, {one_value, removed_twice, false},
        {one_value, twice_put, false},      {one_value, twice_fresh, false}, {one_value, put_removed, false},
        {a_struct, a_change, true},         {one_value, a_change, false},    {text_store, a_change, false},
        {a_struct, changed_twice, false},   {a_struct, struct_changed, false},
        {a_struct, changed_removed, false}, {a_struct, one_value, true},     {one_value, text_store, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pn_segment *s[2] = {segment_by(cases[i].first, 0), segment_by(cases[i].second, 0)};
        pn_kv *kv;
        size_t bad = 9;
        pn_error err = {0};
        pn_status got = unpack(s, 2, &kv, &bad, &err);
        CHECK_EQ_INT(got, cases[i].ok ? PN_OK : PN_ERR_CORRUPT);
        if (!cases[i].ok) CHECK_EQ_INT(bad, cases[i].first == text_store ? 0 : 1);
        CHECK_EQ_INT(err.what != NULL, !cases[i].ok);
        CHECK(cases[i].ok || err.offset >= 64);
        pn_kv_unref(kv);
        /* the same in one segment alone */
        got = unpack(s + 1, 1, &kv, &bad, &err);
        bool fine = cases[i].second == one_value;
        CHECK_EQ_INT(got, fine ? PN_OK : PN_ERR_CORRUPT);
        pn_kv_unref(kv);
        pn_segment_close(s[0]);
        pn_segment_close(s[1]);
    }
}

/* A struct that is put anew has no part in what changed before it. */
static void test_kv_unpack_applies_changes_to_the_last_struct(void)
{
    static const char *const want[] = {"\"x\"", "\"x\", \"x\"", "\"x\"", "\"x\", \"x\""};
    pn_segment *s[4] = {segment_by(a_struct, 0), segment_by(a_change, 0), segment_by(a_struct, 0), segment_by(a_change, 0)};
    for (size_t n = 1; n <= 4; n++) {
        pn_kv *kv;
        size_t bad;
        pn_error err = {0};
        CHECK_EQ_INT(unpack(s, n, &kv, &bad, &err), PN_OK);
        const pn_cell *cell = pn_coll_get(pn_kv_find(kv, PN_BYTES("a")), PN_BYTES("k"));
        CHECK(cell->kind == PN_CELL_STRUCT && cell->tag == 0);
        if (cell->kind == PN_CELL_STRUCT)
            CHECK(pn_bytes_equal(pn_buf_view(&cell->structure->columns[0].text), segment_text(want[n - 1])));
        pn_kv_unref(kv);
    }
    for (int i = 0; i < 4; i++) pn_segment_close(s[i]);
}

/* A damaged value is found when it is first used, a damaged struct at once. */
static void test_kv_unpack_finds_damage(void)
{
    pn_segment *whole = segment_by(one_value, 0);
    pn_segment_entry e = {0};
    CHECK(pn_segment_next(&whole->stores[0].tables[0], &e));
    size_t at = (size_t)(e.value.ptr - pn_blob_view(whole->blob).ptr);
    pn_segment *broken = segment_by(one_value, at + 3);
    pn_kv *kv;
    size_t bad;
    pn_error err = {0};
    CHECK_EQ_INT(unpack(&broken, 1, &kv, &bad, &err), PN_OK);
    pn_cell *cell = pn_coll_get(pn_kv_find(kv, PN_BYTES("a")), PN_BYTES("k"));
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(json_of(kv, &out), PN_ERR_CORRUPT);
    pn_buf_clear(&out);
    CHECK_EQ_INT(pn_cell_settle(cell, &err), PN_ERR_CORRUPT);
    CHECK_EQ_INT(err.offset, at);
    CHECK(err.what != NULL && cell->kind == PN_CELL_PACKED);
    /* not carried into another file either */
    bool changes;
    err = (pn_error){PN_OK, 0, 0, NULL};
    CHECK_EQ_INT(write_whole(kv, true, &changes, &err), PN_ERR_CORRUPT);
    CHECK_EQ_INT(err.offset, at);
    pn_kv_unref(kv);
    pn_segment_close(whole);
    pn_segment_close(broken);

    pn_segment *fine = segment_by(a_struct, 0);
    e = (pn_segment_entry){0};
    CHECK(pn_segment_next(&fine->stores[0].tables[0], &e));
    at = (size_t)(e.value.ptr - pn_blob_view(fine->blob).ptr);
    broken = segment_by(a_struct, at + 3);
    CHECK_EQ_INT(unpack(&broken, 1, &kv, &bad, &err), PN_ERR_CORRUPT);
    CHECK_EQ_INT(err.offset, at);
    CHECK_EQ_INT(bad, 0);
    pn_kv_unref(kv);
    pn_segment_close(fine);
    pn_segment_close(broken);
}

/* ---- mutated values and files ---- */

static uint64_t mutation;

static void mutate(uint8_t *bytes, size_t len)
{
    for (size_t n = 1 + random_next(&mutation) % 3; n; n--) {
        size_t at = (size_t)(random_next(&mutation) % len);
        if (random_next(&mutation) % 2)
            bytes[at] ^= (uint8_t)(1u << random_next(&mutation) % 8);
        else
            bytes[at] = (uint8_t)(bytes[at] + 1 - 2 * (random_next(&mutation) % 2));
    }
}

/* A struct or a change with other bytes, whose checksum is right. */
static pn_status put_mutated(pn_segment_writer *w, pn_value_form form)
{
    uint8_t bytes[256];
    size_t len;
    memcpy(bytes, struct_bytes(form == PN_FORM_CHANGE, &len), sizeof bytes);
    mutate(bytes, len);
    PN_TRY(begin(w));
    return pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("k"), form, (pn_bytes){bytes, len});
}

static pn_status mutated_struct(pn_segment_writer *w) { return put_mutated(w, PN_FORM_STRUCT); }
static pn_status mutated_change(pn_segment_writer *w) { return put_mutated(w, PN_FORM_CHANGE); }

static pn_status mutated_value(pn_segment_writer *w)
{
    uint8_t json[] = "{\"a\": [1, 2.5, \"\\u00e9\"], \"b\": null}", mpack[] = "\x82\xa1n\xcb\x3f\xe0\0\0\0\0\0\0\xa1m\x91\xc0";
    mutate(json, sizeof json - 1);
    mutate(mpack, sizeof mpack - 1);
    PN_TRY(begin(w));
    PN_TRY(pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("j"), PN_FORM_JSON, (pn_bytes){json, sizeof json - 1}));
    return pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("m"), PN_FORM_MPACK, (pn_bytes){mpack, sizeof mpack - 1});
}

/* Unpacks and looks at everything: whole, or an error that says where. */
static bool look_at(pn_segment *const *segments, size_t n)
{
    pn_kv *kv;
    pn_buf json;
    size_t bad = 0;
    pn_error err = {0};
    pn_status s = unpack(segments, n, &kv, &bad, &err);
    CHECK(s == PN_OK || s == PN_ERR_CORRUPT);
    CHECK(s == PN_OK || (err.what != NULL && bad < n && err.offset < pn_blob_view(segments[bad]->blob).len));
    pn_buf_init(&json, &pn_alloc_system);
    if (s == PN_OK) s = json_of(kv, &json);
    CHECK(s == PN_OK || s == PN_ERR_CORRUPT);
    bool canonical = s != PN_OK;
    if (s == PN_OK) CHECK_EQ_INT(pn_json_is_canonical(pn_buf_view(&json), &pn_alloc_system, &canonical), PN_OK);
    CHECK(canonical);
    pn_buf_clear(&json);
    pn_kv_unref(kv);
    return s == PN_OK;
}

static void test_kv_unpack_survives_mutated_values(void)
{
    static const struct {
        maker first, second;
    } cases[] = {{mutated_struct, a_change}, {a_struct, mutated_change}, {one_value, mutated_value}};
    int whole = 0, refused = 0;
    mutation = 1;
    for (int round = 0; round < 3000; round++) {
        size_t i = (size_t)round % 3;
        pn_segment *s[2] = {segment_by(cases[i].first, 0), segment_by(cases[i].second, 0)};
        if (look_at(s, 2)) whole++;
        else refused++;
        pn_segment_close(s[0]);
        pn_segment_close(s[1]);
    }
    CHECK(whole > 30 && refused > 1000);
}

static void test_kv_unpack_survives_mutated_files(void)
{
    pn_segment *fine[2] = {segment_by(a_struct, 0), segment_by(a_change, 0)};
    int opened = 0;
    mutation = 2;
    for (int round = 0; round < 2000; round++) {
        pn_segment *s[2] = {fine[0], fine[1]};
        pn_bytes file = pn_blob_view(fine[round % 2]->blob);
        pn_blob *blob;
        uint8_t *bytes = malloc(file.len);
        memcpy(bytes, file.ptr, file.len);
        mutate(bytes, file.len);
        CHECK_EQ_INT(pn_blob_copy(&pn_alloc_system, bytes, file.len, &blob), PN_OK);
        free(bytes);
        pn_error err = {0};
        pn_status got = pn_segment_open(&pn_alloc_system, blob, &s[round % 2], &err);
        pn_blob_unref(blob);
        CHECK(got == PN_OK || got == PN_ERR_CORRUPT || got == PN_ERR_VERSION);
        if (got != PN_OK) continue;
        opened++;
        CHECK(!look_at(s, 2) || pn_bytes_equal(file, pn_blob_view(s[round % 2]->blob))); /* mutated back and forth */
        pn_segment_close(s[round % 2]);
    }
    CHECK(opened > 20);
    pn_segment_close(fine[0]);
    pn_segment_close(fine[1]);
}

/* What an older segment says of a store that a newer one makes anew does not count. */
static pn_status anew(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("s"), PN_STORE_COLLECTIONS, true));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("b"), PN_TABLE_VALUES, PN_TABLE_KEEPS));
    return put_k(w, PN_ENTRY_PUT);
}

static pn_status another_store(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("t"), PN_STORE_COLLECTIONS, true));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("b"), PN_TABLE_VALUES, PN_TABLE_DROPPED));
    return PN_OK;
}

static void test_kv_unpack_begins_where_the_store_was_made_anew(void)
{
    pn_segment *s[4] = {segment_by(text_store, 0), segment_by(anew, 0), segment_by(one_value, 0), segment_by(another_store, 0)};
    pn_kv *kv;
    pn_buf json;
    size_t bad;
    pn_error err = {0};
    pn_buf_init(&json, &pn_alloc_system);
    CHECK_EQ_INT(unpack(s, 4, &kv, &bad, &err), PN_OK);
    CHECK_EQ_INT(json_of(kv, &json), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&json), PN_BYTES("{\"b\": {\"k\": \"value\"}, \"a\": {\"k\": \"value\"}}")));
    bool changes = true;
    CHECK_EQ_INT(write_whole(kv, false, &changes, &err), PN_OK);
    CHECK(!changes); /* it is tracked */
    CHECK_EQ_INT(pn_kv_unpack(kv, PN_BYTES("s"), s, 4, &bad, &err), PN_ERR_INVALID); /* not empty */
    pn_kv_unref(kv);
    CHECK_EQ_INT(unpack(s + 3, 1, &kv, &bad, &err), PN_OK);
    CHECK_EQ_INT(pn_omap_len(&kv->colls), 0);
    pn_kv_unref(kv);
    pn_buf_clear(&json);
    for (int i = 0; i < 4; i++) pn_segment_close(s[i]);
}

int main(void)
{
    RUN(test_kv_unpack_refuses_what_is_wrong);
    RUN(test_kv_unpack_applies_changes_to_the_last_struct);
    RUN(test_kv_unpack_finds_damage);
    RUN(test_kv_unpack_survives_mutated_values);
    RUN(test_kv_unpack_survives_mutated_files);
    RUN(test_kv_unpack_begins_where_the_store_was_made_anew);
    return check_summary();
}
