/* Batches: what is gathered is what the segment has, whatever becomes of it in between;
 * nothing is leaked or released twice on any way out. */
#include "check.h"
#include "fail_alloc.h"
#include "segment_dump.h"
#include "segment_make.h"
#include "store/batch.h"

/* ---- live values: counted strings ---- */

typedef struct object {
    int refs;
    const char *text; /* NULL: cannot be encoded */
} object;

static void release(void *ctx, void *live)
{
    (void)ctx;
    CHECK(((object *)live)->refs > 0);
    ((object *)live)->refs--;
}

static void retain(void *ctx, void *live)
{
    (void)ctx;
    ((object *)live)->refs++;
}

static pn_status encode(void *ctx, void *live, pn_buf *out)
{
    (void)ctx;
    const char *text = ((object *)live)->text;
    if (text == NULL) return PN_ERR_CALLBACK;
    return pn_buf_append(out, text, strlen(text));
}

static const pn_host host = {NULL, release, encode, retain, NULL};

/* ---- writing ---- */

static pn_status write(const pn_alloc *alloc, pn_batch *b, pn_buf *file)
{
    pn_segment_writer *w;
    uint64_t size;
    uint32_t crc;
    PN_TRY(pn_segment_writer_new(alloc, segment_sink, file, &w));
    pn_status s = pn_batch_write(b, w);
    if (s == PN_OK) s = pn_segment_finish(w, &size, &crc);
    pn_segment_writer_free(w);
    return s;
}

static pn_segment *written(pn_batch *b)
{
    pn_buf file;
    pn_blob *blob = NULL;
    pn_segment *s = NULL;
    pn_error err = {0};
    pn_buf_init(&file, &pn_alloc_system);
    CHECK_EQ_INT(write(&pn_alloc_system, b, &file), PN_OK);
    CHECK_EQ_INT(pn_blob_take(&file, &blob), PN_OK);
    CHECK_EQ_INT(pn_segment_open(&pn_alloc_system, blob, &s, &err), PN_OK);
    CHECK_EQ_INT(pn_segment_check(s, &err), PN_OK);
    pn_blob_unref(blob);
    return s;
}

static void check_written(pn_batch *b, const char *want)
{
    pn_segment *s = written(b);
    check_dump(s, want);
    pn_segment_close(s);
}

static pn_batch *new_batch(void)
{
    pn_batch *b = NULL;
    CHECK_EQ_INT(pn_batch_new(&pn_alloc_system, &host, &b), PN_OK);
    return b;
}

static void begin(pn_batch *b)
{
    CHECK_EQ_INT(pn_batch_store(b, PN_BYTES("s.json"), PN_STORE_COLLECTIONS, false), PN_OK);
    CHECK_EQ_INT(pn_batch_table(b, PN_BYTES("data"), PN_TABLE_VALUES, PN_TABLE_KEEPS), PN_OK);
}

static void encode_all(pn_batch *b)
{
    pn_bytes store, table, key;
    size_t left = 1;
    while (left) CHECK_EQ_INT(pn_batch_encode(b, 1, &left, &store, &table, &key), PN_OK);
}

/* ---- tests ---- */

static void test_batch_is_written_in_order(void)
{
    static const float row[3] = {1, 2, 3};
    pn_batch *b = new_batch();
    pn_blob *blob;
    char copied[] = "copied", value[] = "\"mine\"";
    CHECK_EQ_INT(pn_blob_copy(&pn_alloc_system, "key{\"a\": 1}[ 1,2 ]\x91\x05", 20, &blob), PN_OK);
    const uint8_t *p = pn_blob_view(blob).ptr;
    begin(b);
    CHECK_EQ_INT(pn_batch_span(b, PN_ENTRY_PUT, (pn_bytes){p, 3}, blob, PN_FORM_JSON, (pn_bytes){p + 3, 8}, blob), PN_OK);
    CHECK_EQ_INT(pn_batch_raw(b, PN_ENTRY_FRESH, segment_text(copied), NULL, (pn_bytes){p + 11, 7}, blob), PN_OK);
    memset(copied, 'x', 6);
    CHECK_EQ_INT(pn_batch_span(b, PN_ENTRY_PUT, PN_BYTES("m"), NULL, PN_FORM_MPACK, (pn_bytes){p + 18, 2}, blob), PN_OK);
    CHECK_EQ_INT(pn_batch_remove(b, PN_BYTES("gone"), NULL), PN_OK);
    CHECK_EQ_INT(pn_batch_span(b, PN_ENTRY_PUT, (pn_bytes){NULL, 0}, NULL, PN_FORM_JSON, segment_text(value), NULL), PN_OK);
    memset(value, 'x', 6);
    pn_blob_unref(blob);
    CHECK_EQ_INT(pn_batch_table(b, PN_BYTES("old"), PN_TABLE_VALUES, PN_TABLE_DROPPED), PN_OK);
    CHECK_EQ_INT(pn_batch_store(b, PN_BYTES("v.json"), PN_STORE_VECTORS, true), PN_OK);
    CHECK_EQ_INT(pn_batch_table(b, PN_BYTES("embedding_dict"), PN_TABLE_VECTORS, PN_TABLE_KEEPS), PN_OK);
    CHECK_EQ_INT(pn_batch_row(b, PN_ENTRY_PUT, PN_BYTES("r"), NULL, 3, PN_ROW_F32, row), PN_OK);
    CHECK_EQ_INT(pn_batch_table(b, PN_BYTES("text_id_to_ref_doc_id"), PN_TABLE_STRINGS, PN_TABLE_EMPTIED), PN_OK);
    CHECK_EQ_INT(pn_batch_string(b, PN_ENTRY_FRESH, PN_BYTES("r"), NULL, PN_BYTES("doc"), NULL), PN_OK);
    CHECK(pn_batch_changes(b));
    check_written(b, "store s.json 1\n"
                     "table data 1 keeps\n"
                     "put key = {\"a\": 1}\n"
                     "fresh copied = [1, 2]\n"
                     "put m = mpack [5]\n"
                     "remove gone\n"
                     "put  = \"mine\"\n"
                     "table old 1 dropped\n"
                     "store v.json 2 reset\n"
                     "table embedding_dict 2 keeps\n"
                     "put r = row 3 f32\n"
                     "table text_id_to_ref_doc_id 3 emptied\n"
                     "fresh r = doc\n");
    pn_batch_free(b);
}

static void test_batch_writes_nothing_for_nothing(void)
{
    pn_batch *b = new_batch();
    check_written(b, "");
    begin(b);
    CHECK_EQ_INT(pn_batch_store(b, PN_BYTES("t.json"), PN_STORE_COLLECTIONS, false), PN_OK);
    CHECK(!pn_batch_changes(b));
    check_written(b, "");
    CHECK_EQ_INT(pn_batch_table(b, PN_BYTES("a"), PN_TABLE_VALUES, PN_TABLE_KEEPS), PN_OK);
    CHECK_EQ_INT(pn_batch_table(b, PN_BYTES("b"), PN_TABLE_VALUES, PN_TABLE_EMPTIED), PN_OK);
    CHECK(pn_batch_changes(b));
    check_written(b, "store t.json 1\ntable b 1 emptied\n");
    pn_batch_free(b);
    b = new_batch();
    CHECK_EQ_INT(pn_batch_store(b, PN_BYTES("r.json"), PN_STORE_TEXT, true), PN_OK);
    CHECK(pn_batch_changes(b));
    check_written(b, "store r.json 3 reset\n");
    pn_batch_free(b);
}

static void test_batch_wants_a_store_and_a_table(void)
{
    pn_batch *b = new_batch();
    CHECK_EQ_INT(pn_batch_table(b, PN_BYTES("a"), PN_TABLE_VALUES, PN_TABLE_KEEPS), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_batch_remove(b, PN_BYTES("a"), NULL), PN_ERR_INVALID);
    begin(b);
    CHECK_EQ_INT(pn_batch_store(b, PN_BYTES("t.json"), PN_STORE_COLLECTIONS, false), PN_OK);
    CHECK_EQ_INT(pn_batch_remove(b, PN_BYTES("a"), NULL), PN_ERR_INVALID);
    object o = {1, "1"};
    CHECK_EQ_INT(pn_batch_live(b, PN_ENTRY_PUT, PN_BYTES("a"), NULL, &o, NULL), PN_ERR_INVALID);
    CHECK_EQ_INT(o.refs, 1);
    pn_batch_free(b);
}

static void test_batch_encodes_in_slices(void)
{
    object o[3] = {{1, "[1]"}, {1, "[2]"}, {1, NULL}};
    pn_batch *b = new_batch();
    pn_bytes store, table, key;
    size_t left;
    begin(b);
    CHECK_EQ_INT(pn_batch_live(b, PN_ENTRY_PUT, PN_BYTES("a"), NULL, &o[0], NULL), PN_OK);
    CHECK_EQ_INT(pn_batch_live_within(b, PN_ENTRY_FRESH, PN_BYTES("b"), NULL, PN_BYTES("{\"x\": "), &o[1], PN_BYTES("}"),
                                      NULL), PN_OK);
    CHECK_EQ_INT(pn_batch_table(b, PN_BYTES("more"), PN_TABLE_VALUES, PN_TABLE_KEEPS), PN_OK);
    CHECK_EQ_INT(pn_batch_live(b, PN_ENTRY_PUT, PN_BYTES("c"), NULL, &o[2], NULL), PN_OK);
    CHECK_EQ_INT(o[0].refs + o[1].refs + o[2].refs, 6);
    pn_buf file;
    pn_buf_init(&file, &pn_alloc_system);
    CHECK_EQ_INT(write(&pn_alloc_system, b, &file), PN_ERR_INVALID);
    pn_buf_clear(&file);
    CHECK_EQ_INT(pn_batch_encode(b, 1, &left, &store, &table, &key), PN_OK);
    CHECK_EQ_INT(left, 2);
    CHECK_EQ_INT(o[0].refs, 1);
    CHECK_EQ_INT(pn_batch_encode(b, 1000, &left, &store, &table, &key), PN_ERR_CALLBACK);
    CHECK_EQ_INT(left, 1);
    CHECK(pn_bytes_equal(store, PN_BYTES("s.json")));
    CHECK(pn_bytes_equal(table, PN_BYTES("more")));
    CHECK(pn_bytes_equal(key, PN_BYTES("c")));
    o[2].text = "3"; /* the same one comes again */
    encode_all(b);
    check_written(b, "store s.json 1\ntable data 1 keeps\nput a = [1]\nfresh b = {\"x\": [2]}\ntable more 1 keeps\nput c = 3\n");
    CHECK_EQ_INT(o[0].refs + o[1].refs + o[2].refs, 3);
    pn_batch_free(b);
    CHECK_EQ_INT(o[0].refs + o[1].refs + o[2].refs, 3);
}

static void gather_noted(pn_batch *b, pn_entry_op op, pn_table_reset reset, object *o, pn_live_note *note)
{
    CHECK_EQ_INT(pn_batch_store(b, PN_BYTES("s.json"), PN_STORE_COLLECTIONS, false), PN_OK);
    CHECK_EQ_INT(pn_batch_table(b, PN_BYTES("data"), PN_TABLE_VALUES, reset), PN_OK);
    CHECK_EQ_INT(pn_batch_live(b, op, PN_BYTES("k"), NULL, o, note), PN_OK);
    encode_all(b);
}

static void test_batch_does_not_write_the_saved_text_again(void)
{
    object o = {1, "[1]"};
    pn_live_note *note;
    CHECK_EQ_INT(pn_live_note_new(&pn_alloc_system, &note), PN_OK);
    const char *want[] = {"store s.json 1\ntable data 1 keeps\nput k = [1]\n", "", /* same text */
                          "store s.json 1\ntable data 1 keeps\nfresh k = [1]\n",
                          "store s.json 1\ntable data 1 emptied\nput k = [1]\n",
                          "store s.json 1\ntable data 1 keeps\nput k = [2]\n", /* fails */
                          "store s.json 1\ntable data 1 keeps\nput k = [2]\n", ""};
    for (int i = 0; i < 7; i++) {
        pn_batch *b = new_batch();
        if (i == 4) o.text = "[2]";
        gather_noted(b, i == 2 ? PN_ENTRY_FRESH : PN_ENTRY_PUT, i == 3 ? PN_TABLE_EMPTIED : PN_TABLE_KEEPS, &o, note);
        CHECK_EQ_INT(pn_batch_changes(b), want[i][0] != 0);
        check_written(b, want[i]);
        pn_batch_free(b);
        pn_live_note_settle(note, i != 4);
        CHECK(note->offered.blob == NULL && note->saved.blob != NULL);
    }
    pn_live_note_unref(note);
    CHECK_EQ_INT(o.refs, 1);
}

static pn_segment *packed_segment(void)
{
    pn_batch *b = new_batch();
    begin(b);
    CHECK_EQ_INT(pn_batch_span(b, PN_ENTRY_PUT, PN_BYTES("k"), NULL, PN_FORM_JSON, PN_BYTES("\"text\""), NULL), PN_OK);
    pn_segment *s = written(b);
    pn_batch_free(b);
    return s;
}

static void test_batch_checks_what_nobody_has_looked_at(void)
{
    pn_segment *s = packed_segment();
    pn_segment_entry e = {0};
    CHECK(pn_segment_next(&s->stores[0].tables[0], &e));
    for (int damage = 0; damage < 2; damage++) {
        pn_batch *b = new_batch();
        pn_blob *file;
        pn_bytes all = pn_blob_view(s->blob);
        uint8_t *bytes = malloc(all.len);
        memcpy(bytes, all.ptr, all.len);
        size_t at = (size_t)(e.value.ptr - all.ptr);
        bytes[at + 2] ^= (uint8_t)damage;
        CHECK_EQ_INT(pn_blob_copy(&pn_alloc_system, bytes, all.len, &file), PN_OK);
        free(bytes);
        begin(b);
        CHECK_EQ_INT(pn_batch_packed(b, PN_ENTRY_PUT, e.key, s->blob, e.form,
                                     (pn_bytes){pn_blob_view(file).ptr + at, e.value.len}, e.crc, file), PN_OK);
        pn_blob_unref(file);
        if (damage) {
            pn_buf out;
            pn_error err;
            pn_buf_init(&out, &pn_alloc_system);
            CHECK_EQ_INT(write(&pn_alloc_system, b, &out), PN_ERR_CORRUPT);
            CHECK(pn_batch_damage(b, &err) == NULL); /* this file has no name */
            CHECK_EQ_INT(err.offset, at);
            CHECK(err.what != NULL);
            pn_buf_clear(&out);
        } else {
            check_written(b, "store s.json 1\ntable data 1 keeps\nput k = \"text\"\n");
        }
        pn_batch_free(b);
    }
    pn_segment_close(s);
}

static int done_calls;
static void count_done(void *ctx) { done_calls += *(int *)ctx; }

static void test_batch_calls_what_was_deferred(void)
{
    int one = 1, ten = 10;
    pn_batch *b = new_batch();
    CHECK_EQ_INT(pn_batch_defer(b, count_done, &one), PN_OK);
    CHECK_EQ_INT(pn_batch_defer(b, count_done, &ten), PN_OK);
    CHECK_EQ_INT(done_calls, 0);
    pn_batch_free(b);
    CHECK_EQ_INT(done_calls, 11);
    pn_batch_free(NULL);
}

/* Enough entries and bytes for several blocks and pieces of memory. */
static pn_status gather_many(pn_batch *b, const pn_alloc *alloc, object *o, pn_live_note *note)
{
    char key[16], value[700];
    memset(value, 'v', sizeof value);
    value[0] = value[sizeof value - 1] = '"';
    PN_TRY(pn_batch_store(b, PN_BYTES("s.json"), PN_STORE_COLLECTIONS, false));
    PN_TRY(pn_batch_table(b, PN_BYTES("data"), PN_TABLE_VALUES, PN_TABLE_KEEPS));
    for (int i = 0; i < 1200; i++) {
        pn_blob *blob = NULL;
        pn_bytes k = {(uint8_t *)key, (size_t)sprintf(key, "%d", i)}, v = {(uint8_t *)value, sizeof value};
        if (i % 100 == 0) PN_TRY(pn_blob_copy(alloc, k.ptr, k.len, &blob));
        pn_status s = i % 50 == 7   ? pn_batch_live(b, PN_ENTRY_PUT, k, NULL, o, i % 100 == 7 ? note : NULL)
                      : i % 50 == 8 ? pn_batch_raw(b, PN_ENTRY_PUT, k, NULL, PN_BYTES("[ ]"), NULL)
                                    : pn_batch_span(b, PN_ENTRY_PUT, blob ? pn_blob_view(blob) : k, blob, PN_FORM_JSON, v, NULL);
        pn_blob_unref(blob);
        PN_TRY(s);
    }
    return PN_OK;
}

static pn_status whole_way(const pn_alloc *alloc, object *o)
{
    pn_batch *b;
    pn_live_note *note;
    pn_buf file;
    size_t left = 1;
    pn_bytes store, table, key;
    PN_TRY(pn_live_note_new(alloc, &note));
    pn_status s = pn_batch_new(alloc, &host, &b);
    if (s != PN_OK) {
        pn_live_note_unref(note);
        return s;
    }
    pn_buf_init(&file, alloc);
    s = gather_many(b, alloc, o, note);
    while (s == PN_OK && left) s = pn_batch_encode(b, 1000, &left, &store, &table, &key);
    if (s == PN_OK) s = write(alloc, b, &file);
    pn_live_note_settle(note, s == PN_OK);
    pn_live_note_unref(note);
    pn_buf_clear(&file);
    pn_batch_free(b);
    CHECK_EQ_INT(o->refs, 1);
    return s;
}

static void test_batch_survives_oom(void)
{
    object o = {1, "{\"live\": true}"};
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = whole_way(&f.alloc, &o));
}

int main(void)
{
    RUN(test_batch_is_written_in_order);
    RUN(test_batch_writes_nothing_for_nothing);
    RUN(test_batch_wants_a_store_and_a_table);
    RUN(test_batch_encodes_in_slices);
    RUN(test_batch_does_not_write_the_saved_text_again);
    RUN(test_batch_checks_what_nobody_has_looked_at);
    RUN(test_batch_calls_what_was_deferred);
    RUN(test_batch_survives_oom);
    return check_summary();
}
