/* Segments of a pack: written and read again, the writer's rules, failing sinks and memory,
 * the example of FORMAT.md. Broken segments are in test_segment_bad.c. */
#include "persist/segment.h"

#include "base/crc32c.h"
#include "codec_check.h"
#include "fail_alloc.h"
#include "segment_make.h"

static const pn_bytes none = {NULL, 0};

/* Takes the file's bytes from `file`. */
static pn_segment *opened(pn_buf *file)
{
    pn_blob *blob = NULL;
    pn_segment *s = NULL;
    pn_error err = {PN_OK, 0, 0, ""};
    CHECK_EQ_INT(pn_blob_take(file, &blob), PN_OK);
    CHECK_EQ_INT(pn_segment_open(&pn_alloc_system, blob, &s, &err), PN_OK);
    if (s == NULL) fprintf(stderr, "  %s at %d\n", err.what, (int)err.offset);
    pn_blob_unref(blob);
    return s;
}

static void check_whole(const pn_segment *s)
{
    pn_error err = {PN_OK, 0, 0, ""};
    CHECK_EQ_INT(pn_segment_check(s, &err), PN_OK);
    CHECK_EQ_STR(err.what, "");
}

/* A writer into `file`, with a store of each kind's table begun on request. */
static pn_segment_writer *writing(pn_buf *file)
{
    pn_segment_writer *w = NULL;
    pn_buf_init(file, &pn_alloc_system);
    CHECK_EQ_INT(pn_segment_writer_new(&pn_alloc_system, segment_sink, file, &w), PN_OK);
    return w;
}

static pn_segment *finished(pn_segment_writer *w, pn_buf *file)
{
    uint64_t size = 0;
    uint32_t crc = 0;
    CHECK_EQ_INT(pn_segment_finish(w, &size, &crc), PN_OK);
    CHECK_EQ_INT(size, file->len);
    CHECK_EQ_INT(crc, pn_get_u32(file->data + file->len - 4));
    pn_segment_writer_free(w);
    pn_segment *s = opened(file);
    if (s != NULL) CHECK_EQ_INT(s->tail_crc, crc);
    return s;
}

/* ---- what is written is read ---- */

typedef struct walk {
    const pn_segment_table *t;
    pn_segment_entry e;
} walk;

static walk walk_of(const pn_segment *s, const char *store, size_t table)
{
    const pn_segment_store *found = pn_segment_find(s, segment_text(store));
    CHECK(found != NULL && table < found->table_count);
    return (walk){.t = &found->tables[table]};
}

static void check_next(walk *w, int op, const char *key)
{
    CHECK(pn_segment_next(w->t, &w->e));
    CHECK_EQ_INT(w->e.op, op);
    CHECK_TEXT(w->e.key, key);
}

static void check_value(walk *w, int op, const char *key, pn_value_form form, const char *value)
{
    check_next(w, op, key);
    CHECK_EQ_INT(w->e.form, form);
    if (value != NULL) CHECK_TEXT(w->e.value, value);
    if (w->t->type == PN_TABLE_STRINGS) return;
    CHECK_EQ_INT(w->e.crc, pn_crc32c(0, w->e.value));
    if (op != PN_ENTRY_REMOVE)
        CHECK_EQ_INT(pn_segment_check_value(&pn_alloc_system, form, w->e.value, w->e.crc, NULL), PN_OK);
}

static void check_row(walk *w, int op, const char *key, size_t dim, pn_row_encoding encoding, const void *row)
{
    check_next(w, op, key);
    CHECK(w->e.run != NULL && w->e.row != NULL);
    if (w->e.run == NULL) return;
    CHECK_EQ_INT(w->e.run->dim, dim);
    CHECK_EQ_INT(w->e.run->encoding, encoding);
    CHECK(dim == 0 || memcmp(w->e.row, row, dim * (encoding == PN_ROW_F32 ? 4 : 8)) == 0);
    CHECK_EQ_INT(pn_segment_check_run(w->e.run, NULL), PN_OK);
}

static void check_end(walk *w)
{
    CHECK(!pn_segment_next(w->t, &w->e));
    CHECK(!pn_segment_next(w->t, &w->e));
}

static pn_segment *make(void)
{
    pn_buf file;
    uint64_t size;
    uint32_t crc;
    pn_buf_init(&file, &pn_alloc_system);
    CHECK_EQ_INT(segment_make(&pn_alloc_system, segment_sink, &file, &size, &crc), PN_OK);
    CHECK_EQ_INT(size, file.len);
    return opened(&file);
}

static void test_segment_values(void)
{
    pn_segment *s = make();
    walk w = walk_of(s, "docstore.json", 0);
    check_value(&w, PN_ENTRY_PUT, "a", PN_FORM_JSON, "{\"text\": \"caf\\u00e9\", \"n\": [1, 2.5, null]}");
    check_value(&w, PN_ENTRY_FRESH, "\xc3\xa9\xed\xa0\x80", PN_FORM_MPACK, NULL);
    check_value(&w, PN_ENTRY_REMOVE, "gone", PN_FORM_JSON, "");
    check_value(&w, PN_ENTRY_PUT, "", PN_FORM_JSON, "\"\"");
    check_end(&w);
    w = walk_of(s, "index_store.json", 0);
    check_value(&w, PN_ENTRY_FRESH, "whole", PN_FORM_STRUCT, NULL);
    check_value(&w, PN_ENTRY_PUT, "changed", PN_FORM_CHANGE, NULL);
    check_end(&w);
    w = walk_of(s, "graph_store.json", 0);
    check_value(&w, PN_ENTRY_PUT, "", PN_FORM_JSON, "{\"graph_dict\": {}}");
    check_end(&w);
    pn_segment_close(s);
}

static void test_segment_rows(void)
{
    static const float f32[20] = {1.5f, -2, 3};
    static const double f64[3] = {0.1, 0.2, 1e300};
    pn_segment *s = make();
    walk w = walk_of(s, "default__vector_store.json", 0);
    check_row(&w, PN_ENTRY_PUT, "v1", 3, PN_ROW_F32, f32);
    check_row(&w, PN_ENTRY_FRESH, "v2", 3, PN_ROW_F32, f32);
    check_next(&w, PN_ENTRY_REMOVE, "v0");
    CHECK(w.e.run == NULL && w.e.row == NULL);
    check_row(&w, PN_ENTRY_PUT, "v3", 3, PN_ROW_F64, f64);
    check_row(&w, PN_ENTRY_PUT, "v4", 0, PN_ROW_F64, NULL);
    check_row(&w, PN_ENTRY_PUT, "v5", 20, PN_ROW_F32, f32);
    check_end(&w);
    CHECK_EQ_INT(w.t->run_count, 4);
    for (size_t i = 0; i < w.t->run_count; i++)
        CHECK_EQ_INT((size_t)(w.t->runs[i].data - pn_blob_view(s->blob).ptr) % PN_ROW_ALIGN, 0);
    pn_segment_close(s);
}

static void test_segment_strings(void)
{
    pn_segment *s = make();
    walk w = walk_of(s, "default__vector_store.json", 1);
    check_value(&w, PN_ENTRY_PUT, "v1", PN_FORM_JSON, "doc");
    check_value(&w, PN_ENTRY_PUT, "v2", PN_FORM_JSON, "");
    check_value(&w, PN_ENTRY_REMOVE, "v0", PN_FORM_JSON, "");
    check_value(&w, PN_ENTRY_FRESH, "v3", PN_FORM_JSON, "doc");
    check_end(&w);
    CHECK_EQ_INT(w.t->string_count, 2);
    pn_segment_close(s);
}

static void test_segment_stores_and_tables(void)
{
    static const struct {
        const char *name;
        int kind, reset;
        size_t tables;
    } want[] = {{"docstore.json", PN_STORE_COLLECTIONS, 0, 4},
                {"index_store.json", PN_STORE_COLLECTIONS, 0, 1},
                {"default__vector_store.json", PN_STORE_VECTORS, 1, 3},
                {"graph_store.json", PN_STORE_TEXT, 0, 1}};
    pn_segment *s = make();
    check_whole(s);
    CHECK_EQ_INT(s->store_count, 4);
    for (size_t i = 0; i < 4; i++) {
        CHECK_TEXT(s->stores[i].name, want[i].name);
        CHECK_EQ_INT(s->stores[i].kind, want[i].kind);
        CHECK_EQ_INT(s->stores[i].reset, want[i].reset);
        CHECK_EQ_INT(s->stores[i].table_count, want[i].tables);
        CHECK(pn_segment_find(s, segment_text(want[i].name)) == &s->stores[i]);
    }
    CHECK(pn_segment_find(s, PN_BYTES("docstore.jso")) == NULL);
    const pn_segment_table *t = s->stores[0].tables;
    CHECK_TEXT(t[1].name, "");
    for (int i = 0; i < 4; i++) CHECK_EQ_INT(t[i].reset, (i > 0) + (i > 2)); /* keeps, emptied, emptied, dropped */
    CHECK_EQ_INT(s->stores[1].tables[0].reset, PN_TABLE_FRESH);
    pn_segment_close(s);
}

/* A peek tells the stores and nothing of their tables. */
static void test_segment_peek(void)
{
    pn_segment *whole = make(), *s = NULL;
    CHECK_EQ_INT(pn_segment_peek(&pn_alloc_system, whole->blob, &s, NULL), PN_OK);
    CHECK_EQ_INT(s->store_count, whole->store_count);
    CHECK_EQ_INT(s->tail_crc, whole->tail_crc);
    for (size_t i = 0; i < s->store_count; i++) {
        CHECK(pn_bytes_equal(s->stores[i].name, whole->stores[i].name));
        CHECK_EQ_INT(s->stores[i].kind, whole->stores[i].kind);
        CHECK_EQ_INT(s->stores[i].reset, whole->stores[i].reset);
        CHECK_EQ_INT(s->stores[i].table_count, 0);
    }
    pn_segment_close(whole);
    pn_segment_close(s);
}

static void test_segment_empty(void)
{
    pn_buf file;
    pn_segment_writer *w = writing(&file);
    pn_segment *s = finished(w, &file);
    CHECK_EQ_INT(s->store_count, 0);
    CHECK_EQ_INT(pn_blob_view(s->blob).len, 64 + 2 + 64);
    check_whole(s);
    pn_segment_close(s);
    /* and with empty stores, empty tables of each type */
    w = writing(&file);
    CHECK_EQ_INT(pn_segment_begin_store(w, none, PN_STORE_COLLECTIONS, true), PN_OK);
    CHECK_EQ_INT(pn_segment_begin_store(w, PN_BYTES("v"), PN_STORE_VECTORS, false), PN_OK);
    CHECK_EQ_INT(pn_segment_begin_table(w, PN_BYTES("metadata_dict"), PN_TABLE_VALUES, PN_TABLE_KEEPS), PN_OK);
    CHECK_EQ_INT(pn_segment_begin_table(w, PN_BYTES("embedding_dict"), PN_TABLE_VECTORS, PN_TABLE_KEEPS), PN_OK);
    CHECK_EQ_INT(pn_segment_begin_table(w, PN_BYTES("text_id_to_ref_doc_id"), PN_TABLE_STRINGS, PN_TABLE_KEEPS), PN_OK);
    s = finished(w, &file);
    CHECK(s->store_count == 2 && s->stores[0].reset && s->stores[1].table_count == 3);
    for (size_t i = 0; i < 3; i++) {
        pn_segment_entry e = {0};
        CHECK(!pn_segment_next(&s->stores[1].tables[i], &e));
    }
    check_whole(s);
    pn_segment_close(s);
}

/* An empty key has no first byte: what lies behind the keys, here a length of 128, is none. */
static void test_segment_empty_key_at_the_end(void)
{
    pn_buf file;
    char text[129];
    snprintf(text, sizeof text, "\"%0126d\"", 7);
    pn_segment_writer *w = writing(&file);
    CHECK_EQ_INT(pn_segment_begin_store(w, PN_BYTES("d"), PN_STORE_COLLECTIONS, false), PN_OK);
    CHECK_EQ_INT(pn_segment_begin_table(w, PN_BYTES("t"), PN_TABLE_VALUES, PN_TABLE_KEEPS), PN_OK);
    CHECK_EQ_INT(pn_segment_put_value(w, PN_ENTRY_PUT, none, PN_FORM_JSON, segment_text(text)), PN_OK);
    pn_segment *s = finished(w, &file);
    check_whole(s);
    pn_segment_close(s);
}

/* Read and written again it is another file of the same bytes. */
static void test_segment_is_the_same_every_time(void)
{
    pn_segment *s = make();
    pn_buf again;
    pn_buf_init(&again, &pn_alloc_system);
    CHECK_EQ_INT(segment_rewrite(s, &again), PN_OK);
    CHECK(pn_bytes_equal(pn_blob_view(s->blob), pn_buf_view(&again)));
    pn_buf_clear(&again);
    pn_segment_close(s);
}

static void test_segment_notes(void)
{
    pn_buf file;
    uint64_t size;
    uint32_t crc;
    const pn_segment_store_note *note;
    pn_segment_writer *w = writing(&file);
    CHECK_EQ_INT(pn_segment_written(w, &note), 0);
    CHECK_EQ_INT(segment_collections(w), PN_OK);
    CHECK_EQ_INT(segment_vectors(w), PN_OK);
    CHECK_EQ_INT(pn_segment_finish(w, &size, &crc), PN_OK);
    CHECK_EQ_INT(pn_segment_written(w, &note), 2);
    CHECK_TEXT(pn_buf_view(&note[0].name), "docstore.json");
    CHECK(note[0].kind == PN_STORE_COLLECTIONS && !note[0].reset && note[0].tables == 4 && note[0].entries == 5);
    CHECK_TEXT(pn_buf_view(&note[1].name), "default__vector_store.json");
    CHECK(note[1].kind == PN_STORE_VECTORS && note[1].reset && note[1].tables == 3 && note[1].entries == 11);
    pn_segment_writer_free(w);
    pn_segment_writer_free(NULL);
    pn_segment_close(NULL);
    pn_buf_clear(&file);
}

/* ---- large ---- */

enum { MANY = 30000, LONG = 200000 };

static size_t text_of(size_t i, char *out) { return (size_t)sprintf(out, "\"value %zu\"", i * i); }

/* Small values between ones that pass the writer's buffer by, and rows of more than a run. */
static void put_many(pn_segment_writer *w, const char *big, const float *row)
{
    pn_status s = pn_segment_begin_store(w, PN_BYTES("d"), PN_STORE_COLLECTIONS, false);
    if (s == PN_OK) s = pn_segment_begin_table(w, PN_BYTES("t"), PN_TABLE_VALUES, PN_TABLE_KEEPS);
    char key[40], value[40];
    for (size_t i = 0; i < MANY && s == PN_OK; i++) {
        pn_bytes k = {(uint8_t *)key, (size_t)sprintf(key, "key %zu", i)};
        pn_bytes v = {(uint8_t *)value, text_of(i, value)};
        if (i % 5000 == 0) v = (pn_bytes){(const uint8_t *)big, LONG - i};
        s = i % 7 == 3 ? pn_segment_remove(w, k) : pn_segment_put_value(w, PN_ENTRY_PUT, k, PN_FORM_JSON, v);
    }
    CHECK_EQ_INT(s, PN_OK);
    s = pn_segment_begin_store(w, PN_BYTES("v"), PN_STORE_VECTORS, false);
    if (s == PN_OK) s = pn_segment_begin_table(w, PN_BYTES("embedding_dict"), PN_TABLE_VECTORS, PN_TABLE_KEEPS);
    for (size_t i = 0; i < MANY && s == PN_OK; i++) {
        pn_bytes k = {(uint8_t *)key, (size_t)sprintf(key, "key %zu", i)};
        s = pn_segment_put_row(w, PN_ENTRY_FRESH, k, 300, PN_ROW_F32, row + i % 100);
    }
    CHECK_EQ_INT(s, PN_OK);
}

static void check_many(const pn_segment *s, const char *big, const float *row)
{
    char key[40], value[40];
    size_t wrong = 0;
    walk w = walk_of(s, "d", 0), v = walk_of(s, "v", 0);
    for (size_t i = 0; i < MANY; i++) {
        pn_bytes k = {(uint8_t *)key, (size_t)sprintf(key, "key %zu", i)};
        pn_bytes want = {(uint8_t *)value, text_of(i, value)};
        if (i % 5000 == 0) want = (pn_bytes){(const uint8_t *)big, LONG - i};
        if (i % 7 == 3) want = none;
        wrong += !pn_segment_next(w.t, &w.e) || !pn_bytes_equal(w.e.key, k) || !pn_bytes_equal(w.e.value, want);
        wrong += !pn_segment_next(v.t, &v.e) || !pn_bytes_equal(v.e.key, k) || v.e.i != i;
        wrong += v.e.row == NULL || memcmp(v.e.row, row + i % 100, 300 * sizeof *row) != 0;
    }
    CHECK_EQ_INT(wrong, 0);
    check_end(&w);
    check_end(&v);
    CHECK_EQ_INT(v.t->run_count, 3); /* of 1216 bytes, in runs of a little over 16 MB */
    for (size_t i = 0; i < v.t->run_count; i++) CHECK(v.t->runs[i].rows * v.t->runs[i].row_size < 17 << 20);
}

static void test_segment_large(void)
{
    pn_buf file;
    float row[400];
    char *big = malloc(LONG);
    memset(big, 'x', LONG);
    for (int i = 0; i < 400; i++) row[i] = (float)i / 7;
    pn_segment_writer *w = writing(&file);
    put_many(w, big, row);
    pn_segment *s = finished(w, &file);
    check_many(s, big, row);
    pn_segment_close(s);
    free(big);
}

static void test_segment_row_size(void)
{
    CHECK_EQ_INT(pn_row_size(0, PN_ROW_F32), 0);
    CHECK_EQ_INT(pn_row_size(1, PN_ROW_F32), 64);
    CHECK_EQ_INT(pn_row_size(16, PN_ROW_F32), 64);
    CHECK_EQ_INT(pn_row_size(16, PN_ROW_F64), 128);
    CHECK_EQ_INT(pn_row_size(17, PN_ROW_F32), 128);
    CHECK_EQ_INT(pn_row_size(384, PN_ROW_F32), 1536);
    CHECK_EQ_INT(pn_row_size(PN_ROW_MAX_DIM, PN_ROW_F64), (size_t)1 << 27);
}

/* ---- the writer's rules ---- */

/* Where a call is made: in the segment, in a store, in a table of some type. */
typedef enum place { AT_START, IN_DOCS, IN_VECTORS, IN_TEXT, IN_VALUES, IN_DROPPED, IN_ROWS, IN_STRINGS, IN_TEXT_TABLE, AT_END } place;

static void go_to(pn_segment_writer *w, place p)
{
    uint64_t size;
    uint32_t crc;
    pn_status s = PN_OK;
    if (p == IN_DOCS || p == IN_VALUES || p == IN_DROPPED)
        s = pn_segment_begin_store(w, PN_BYTES("d"), PN_STORE_COLLECTIONS, false);
    if (p == IN_VECTORS || p == IN_ROWS || p == IN_STRINGS)
        s = pn_segment_begin_store(w, PN_BYTES("v"), PN_STORE_VECTORS, false);
    if (p == IN_TEXT || p == IN_TEXT_TABLE) s = pn_segment_begin_store(w, PN_BYTES("g"), PN_STORE_TEXT, false);
    CHECK_EQ_INT(s, PN_OK);
    if (p == IN_VALUES) s = pn_segment_begin_table(w, PN_BYTES("t"), PN_TABLE_VALUES, PN_TABLE_EMPTIED);
    if (p == IN_DROPPED) s = pn_segment_begin_table(w, PN_BYTES("t"), PN_TABLE_VALUES, PN_TABLE_DROPPED);
    if (p == IN_ROWS) s = pn_segment_begin_table(w, PN_BYTES("embedding_dict"), PN_TABLE_VECTORS, PN_TABLE_KEEPS);
    if (p == IN_STRINGS) s = pn_segment_begin_table(w, PN_BYTES("text_id_to_ref_doc_id"), PN_TABLE_STRINGS, PN_TABLE_KEEPS);
    if (p == IN_TEXT_TABLE) s = pn_segment_begin_table(w, none, PN_TABLE_VALUES, PN_TABLE_KEEPS);
    if (p == IN_TEXT_TABLE && s == PN_OK) s = pn_segment_put_value(w, PN_ENTRY_PUT, none, PN_FORM_JSON, PN_BYTES("{}"));
    if (p == AT_END) s = pn_segment_finish(w, &size, &crc);
    CHECK_EQ_INT(s, PN_OK);
}

/* After a call that was refused, every one is. */
static void check_ended(pn_segment_writer *w)
{
    uint64_t size;
    uint32_t crc;
    CHECK_EQ_INT(pn_segment_begin_store(w, PN_BYTES("new"), PN_STORE_TEXT, false), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_segment_begin_table(w, PN_BYTES("new"), PN_TABLE_VALUES, PN_TABLE_KEEPS), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("new"), PN_FORM_JSON, PN_BYTES("1")), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_segment_put_row(w, PN_ENTRY_PUT, PN_BYTES("new"), 0, PN_ROW_F32, NULL), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_segment_put_string(w, PN_ENTRY_PUT, PN_BYTES("new"), none), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_segment_remove(w, PN_BYTES("new")), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_segment_finish(w, &size, &crc), PN_ERR_INVALID);
}

#define REFUSED(place, want, call)                \
    do {                                          \
        pn_buf file;                              \
        pn_segment_writer *w = writing(&file);    \
        go_to(w, place);                          \
        CHECK_EQ_INT(call, want);                 \
        check_ended(w);                           \
        pn_segment_writer_free(w);                \
        pn_buf_clear(&file);                      \
    } while (0)

#define STORE(name, kind) pn_segment_begin_store(w, PN_BYTES(name), kind, false)
#define TABLE(name, type) pn_segment_begin_table(w, PN_BYTES(name), type, PN_TABLE_KEEPS)
#define VALUE(op, key, form) pn_segment_put_value(w, op, PN_BYTES(key), form, PN_BYTES("1"))
#define STRING(op, key) pn_segment_put_string(w, op, PN_BYTES(key), none)
#define ROW(op, dim, encoding) pn_segment_put_row(w, op, PN_BYTES("k"), dim, encoding, "")

static void test_segment_writer_refuses_stores_and_tables(void)
{
    REFUSED(AT_START, PN_ERR_INVALID, STORE("s", 0));
    REFUSED(AT_START, PN_ERR_INVALID, STORE("s", 4));
    REFUSED(IN_DOCS, PN_ERR_INVALID, STORE("d", PN_STORE_TEXT));
    REFUSED(AT_END, PN_ERR_INVALID, STORE("s", PN_STORE_TEXT));
    REFUSED(AT_START, PN_ERR_INVALID, TABLE("t", PN_TABLE_VALUES));
    REFUSED(IN_VALUES, PN_ERR_INVALID, TABLE("t", PN_TABLE_VALUES));
    REFUSED(IN_DOCS, PN_ERR_INVALID, TABLE("t", 0));
    REFUSED(IN_DOCS, PN_ERR_INVALID, TABLE("t", 4));
    REFUSED(IN_DOCS, PN_ERR_INVALID, TABLE("t", PN_TABLE_STRINGS));
    REFUSED(IN_DOCS, PN_ERR_INVALID, TABLE("embedding_dict", PN_TABLE_VECTORS));
    REFUSED(IN_DOCS, PN_ERR_INVALID, pn_segment_begin_table(w, PN_BYTES("t"), PN_TABLE_VALUES, 4));
    REFUSED(IN_VECTORS, PN_ERR_INVALID, TABLE("embedding_dict", PN_TABLE_VALUES));
    REFUSED(IN_VECTORS, PN_ERR_INVALID, TABLE("metadata_dict", PN_TABLE_STRINGS));
    REFUSED(IN_VECTORS, PN_ERR_INVALID, TABLE("metadata_dict", 0));
    REFUSED(IN_VECTORS, PN_ERR_INVALID, TABLE("metadata_dict", 4));
    REFUSED(IN_VECTORS, PN_ERR_INVALID, TABLE("other", PN_TABLE_VECTORS));
    REFUSED(IN_TEXT, PN_ERR_INVALID, TABLE("t", PN_TABLE_VALUES));
    REFUSED(IN_TEXT, PN_ERR_INVALID, TABLE("", PN_TABLE_STRINGS));
}

static void test_segment_writer_refuses_entries(void)
{
    REFUSED(AT_START, PN_ERR_INVALID, VALUE(PN_ENTRY_PUT, "k", PN_FORM_JSON));
    REFUSED(IN_DOCS, PN_ERR_INVALID, VALUE(PN_ENTRY_PUT, "k", PN_FORM_JSON));
    REFUSED(IN_DOCS, PN_ERR_INVALID, pn_segment_remove(w, PN_BYTES("k")));
    REFUSED(IN_DROPPED, PN_ERR_INVALID, VALUE(PN_ENTRY_PUT, "k", PN_FORM_JSON));
    REFUSED(IN_DROPPED, PN_ERR_INVALID, pn_segment_remove(w, PN_BYTES("k")));
    REFUSED(IN_ROWS, PN_ERR_INVALID, VALUE(PN_ENTRY_PUT, "k", PN_FORM_JSON));
    REFUSED(IN_STRINGS, PN_ERR_INVALID, ROW(PN_ENTRY_PUT, 0, PN_ROW_F32));
    REFUSED(IN_VALUES, PN_ERR_INVALID, STRING(PN_ENTRY_PUT, "k"));
    REFUSED(IN_VALUES, PN_ERR_INVALID, VALUE(PN_ENTRY_REMOVE, "k", PN_FORM_JSON));
    REFUSED(IN_VALUES, PN_ERR_INVALID, VALUE(3, "k", PN_FORM_JSON));
    REFUSED(IN_VALUES, PN_ERR_INVALID, VALUE(PN_ENTRY_PUT, "k", 4));
    REFUSED(IN_VALUES, PN_ERR_INVALID, VALUE(PN_ENTRY_PUT, "k", 64)); /* no byte holds it */
    REFUSED(IN_VALUES, PN_ERR_INVALID, VALUE(PN_ENTRY_FRESH, "k", PN_FORM_CHANGE));
    REFUSED(IN_STRINGS, PN_ERR_INVALID, STRING(PN_ENTRY_REMOVE, "k"));
    REFUSED(IN_ROWS, PN_ERR_INVALID, ROW(PN_ENTRY_REMOVE, 0, PN_ROW_F32));
    REFUSED(IN_ROWS, PN_ERR_INVALID, ROW(PN_ENTRY_PUT, 0, 0));
    REFUSED(IN_ROWS, PN_ERR_INVALID, ROW(PN_ENTRY_PUT, 0, 3));
    REFUSED(IN_ROWS, PN_ERR_INVALID, ROW(PN_ENTRY_PUT, PN_ROW_MAX_DIM + 1, PN_ROW_F32));
    REFUSED(IN_TEXT_TABLE, PN_ERR_INVALID, VALUE(PN_ENTRY_PUT, "", PN_FORM_JSON)); /* a second */
    REFUSED(IN_TEXT_TABLE, PN_ERR_INVALID, VALUE(PN_ENTRY_PUT, "k", PN_FORM_JSON));
}

/* Lengths that no u32 holds; none of these bytes are there to be read. */
static void test_segment_writer_refuses_lengths(void)
{
    pn_bytes huge = {(const uint8_t *)"", (size_t)1 << 32}, nearly = {(const uint8_t *)"", UINT32_MAX};
    REFUSED(IN_VALUES, PN_ERR_RANGE, pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("k"), PN_FORM_JSON, huge));
    REFUSED(IN_VALUES, PN_ERR_RANGE, pn_segment_put_value(w, PN_ENTRY_PUT, huge, PN_FORM_JSON, PN_BYTES("1")));
    REFUSED(IN_VALUES, PN_ERR_RANGE, pn_segment_remove(w, huge));
    REFUSED(IN_VALUES, PN_ERR_RANGE, (VALUE(PN_ENTRY_PUT, "k", PN_FORM_JSON), pn_segment_remove(w, nearly)));
    REFUSED(IN_STRINGS, PN_ERR_RANGE, pn_segment_put_string(w, PN_ENTRY_PUT, PN_BYTES("k"), huge));
}

/* ---- failures from outside ---- */

typedef struct bad_sink {
    size_t calls, fail_at;
} bad_sink;

static pn_status sink_badly(void *ctx, pn_bytes b)
{
    bad_sink *s = ctx;
    CHECK(b.len > 0);
    return s->calls++ == s->fail_at ? PN_ERR_IO : PN_OK;
}

/* The sink's status comes out of whichever call met it, and nothing succeeds after. */
static void test_segment_sink_fails(void)
{
    static char big[100000];
    bad_sink sink = {.fail_at = 0};
    int before = check_failures;
    for (;; sink.fail_at++) {
        uint64_t size;
        uint32_t crc;
        pn_segment_writer *w;
        sink.calls = 0;
        CHECK_EQ_INT(pn_segment_writer_new(&pn_alloc_system, sink_badly, &sink, &w), PN_OK);
        pn_status s = segment_collections(w);
        if (s == PN_OK) s = segment_vectors(w);
        for (int i = 0; i < 3 && s == PN_OK; i++)
            s = pn_segment_put_value(w, PN_ENTRY_PUT, (pn_bytes){(uint8_t *)big, 1u << i}, PN_FORM_JSON, (pn_bytes){(uint8_t *)big, sizeof big});
        if (s == PN_OK) s = pn_segment_finish(w, &size, &crc);
        CHECK_EQ_INT(s, sink.calls > sink.fail_at ? PN_ERR_IO : PN_OK);
        check_ended(w);
        pn_segment_writer_free(w);
        if (s == PN_OK || check_failures != before) break;
    }
    CHECK_EQ_INT(sink.fail_at, 5); /* head and small things, three large values, the rest */
}

static pn_status there_and_back(const pn_alloc *alloc)
{
    pn_buf file;
    uint64_t size;
    uint32_t crc;
    pn_blob *blob = NULL;
    pn_segment *s = NULL;
    pn_error err = {PN_OK, 0, 0, ""};
    pn_buf_init(&file, alloc);
    pn_status status = segment_make(alloc, segment_sink, &file, &size, &crc);
    if (status == PN_OK) status = pn_blob_take(&file, &blob);
    pn_buf_clear(&file);
    if (status == PN_OK) {
        status = pn_segment_open(alloc, blob, &s, &err);
        if (status == PN_OK) status = pn_segment_check(s, &err);
        CHECK_EQ_INT(err.code, status);
    }
    pn_segment_close(s);
    pn_blob_unref(blob);
    return status;
}

static void test_segment_survives_oom(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = there_and_back(&f.alloc));
}

/* ---- values by themselves ---- */

static pn_status check_as(pn_value_form form, pn_bytes value, pn_error *err)
{
    uint8_t *copy = exact_copy(value.ptr, value.len);
    pn_bytes exact = {copy, value.len};
    pn_status s = pn_segment_check_value(&pn_alloc_system, form, exact, pn_crc32c(0, exact), err);
    free(copy);
    return s;
}

static void test_segment_check_value(void)
{
    static const struct {
        pn_value_form form;
        const char *value;
        const char *what; /* NULL: is right */
        unsigned offset;
    } cases[] = {
        {PN_FORM_JSON, "{\"a\": [1, 2.5, \"\\u00e9\", null, NaN]}", NULL, 0},
        {PN_FORM_JSON, "7", NULL, 0},
        {PN_FORM_JSON, "", "expected a value", 0},
        {PN_FORM_JSON, "{\"a\": 1", "expected a comma or the closing bracket", 7},
        {PN_FORM_JSON, "{\"a\": 1}x", "JSON that is not canonical", 0},
        {PN_FORM_JSON, "{\"a\":1}", "JSON that is not canonical", 0},
        {PN_FORM_JSON, " 7", "JSON that is not canonical", 0},
        {PN_FORM_JSON, "7\n", "JSON that is not canonical", 0},
        {PN_FORM_JSON, "\"\xc3\xa9\"", "JSON that is not canonical", 0},
        {PN_FORM_JSON, "1.0e5", "JSON that is not canonical", 0},
        {PN_FORM_JSON, "{\"a\": 1, \"a\": 2}", "JSON that is not canonical", 0},
        {PN_FORM_MPACK, "\x81\xa1k\x07", NULL, 0},
        {PN_FORM_MPACK, "", "the value is cut short", 0},
        {PN_FORM_MPACK, "\xc4\x01x", "bytes have no place in JSON", 2},
        {PN_FORM_MPACK, "\x07\x07", "bytes after the value", 1},
        {PN_FORM_STRUCT, "\x92\xa1t\x90", NULL, 0},
        {PN_FORM_STRUCT, "\x92\xa1t\x91\x90", "an array is too short", 4},
        {PN_FORM_CHANGE, "\x92\xa1t\x90", NULL, 0},
        {PN_FORM_CHANGE, "\x92\xa1t", "an element is missing", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pn_error err = {PN_OK, 0, 0, ""};
        int before = check_failures;
        pn_status want = cases[i].what == NULL ? PN_OK : PN_ERR_CORRUPT;
        CHECK_EQ_INT(check_as(cases[i].form, segment_text(cases[i].value), &err), want);
        if (want != PN_OK) CHECK_EQ_STR(err.what, cases[i].what);
        CHECK_EQ_INT(err.offset, cases[i].offset);
        if (check_failures != before) fprintf(stderr, "  in case %zu\n", i);
    }
    pn_error err;
    CHECK_EQ_INT(pn_segment_check_value(&pn_alloc_system, PN_FORM_JSON, PN_BYTES("7"), 1, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.what, "a value's checksum is wrong");
    CHECK_EQ_INT(pn_segment_check_value(&pn_alloc_system, (pn_value_form)4, none, 0, &err), PN_ERR_INVALID);
}

/* More keys than the scan's pool holds: the value is canonical all the same. */
static void test_segment_check_value_of_many_keys(void)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_buf_push(&b, '{'), PN_OK);
    for (int i = 0; i < 3000; i++) {
        char pair[40];
        int n = sprintf(pair, "%s\"%d\": %d", i ? ", " : "", i, i);
        CHECK_EQ_INT(pn_buf_append(&b, pair, (size_t)n), PN_OK);
    }
    CHECK_EQ_INT(pn_buf_push(&b, '}'), PN_OK);
    CHECK_EQ_INT(check_as(PN_FORM_JSON, pn_buf_view(&b), NULL), PN_OK);
    b.len--;
    CHECK_EQ_INT(PN_BUF_LIT(&b, ", \"1500\": 0}"), PN_OK);
    CHECK_EQ_INT(check_as(PN_FORM_JSON, pn_buf_view(&b), NULL), PN_ERR_CORRUPT);
    pn_buf_clear(&b);
}

/* ---- FORMAT.md ---- */

/* The bytes of one line of the example: "    offset  bytes  words", where 00×52 is as many
 * zeros. False when the line is none. */
static bool example_line(const char *line, pn_buf *out)
{
    unsigned offset, byte, times;
    int used;
    if (sscanf(line, "    %4x  %n", &offset, &used) != 1 || strncmp(line, "    ", 4) != 0 || line[4] == ' ') return false;
    CHECK_EQ_INT(offset, out->len);
    for (const char *p = line + used; sscanf(p, "%2x", &byte) == 1; p++) {
        p += 2;
        times = 1;
        if (strncmp(p, "\xc3\x97", 2) == 0) {
            times = (unsigned)strtoul(p + 2, NULL, 10);
            p += 2 + strspn(p + 2, "0123456789");
        }
        while (times-- > 0) CHECK_EQ_INT(pn_buf_push(out, (uint8_t)byte), PN_OK);
        if (p[0] != ' ' || p[1] == ' ') break; /* two spaces: words follow */
    }
    return true;
}

static void read_example(pn_buf *out)
{
    char line[512];
    bool there = false;
    FILE *f = fopen("csrc/FORMAT.md", "r");
    CHECK(f != NULL);
    if (f == NULL) return;
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "### ", 4) == 0) there = strstr(line, "An example of a segment") != NULL;
        if (there) example_line(line, out);
    }
    fclose(f);
}

static pn_status write_example(pn_segment_writer *w)
{
    static const float row[] = {1, -2.5f};
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("docstore.json"), PN_STORE_COLLECTIONS, false));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("docstore/data"), PN_TABLE_VALUES, PN_TABLE_KEEPS));
    PN_TRY(pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("a"), PN_FORM_JSON, PN_BYTES("{\"n\": 1}")));
    PN_TRY(pn_segment_remove(w, PN_BYTES("b")));
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("default__vector_store.json"), PN_STORE_VECTORS, true));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("embedding_dict"), PN_TABLE_VECTORS, PN_TABLE_KEEPS));
    return pn_segment_put_row(w, PN_ENTRY_PUT, PN_BYTES("a"), 2, PN_ROW_F32, row);
}

static void test_segment_example_of_the_format(void)
{
    pn_buf file, want;
    uint64_t size;
    uint32_t crc;
    pn_segment_writer *w = writing(&file);
    CHECK_EQ_INT(write_example(w), PN_OK);
    CHECK_EQ_INT(pn_segment_finish(w, &size, &crc), PN_OK);
    pn_segment_writer_free(w);
    pn_buf_init(&want, &pn_alloc_system);
    read_example(&want);
    CHECK(want.len > 400 && pn_bytes_equal(pn_buf_view(&file), pn_buf_view(&want)));
    pn_segment *s = opened(&want);
    if (s != NULL) check_whole(s);
    pn_segment_close(s);
    pn_buf_clear(&file);
}

int main(void)
{
    RUN(test_segment_values);
    RUN(test_segment_rows);
    RUN(test_segment_strings);
    RUN(test_segment_stores_and_tables);
    RUN(test_segment_peek);
    RUN(test_segment_empty);
    RUN(test_segment_empty_key_at_the_end);
    RUN(test_segment_is_the_same_every_time);
    RUN(test_segment_notes);
    RUN(test_segment_large);
    RUN(test_segment_row_size);
    RUN(test_segment_writer_refuses_stores_and_tables);
    RUN(test_segment_writer_refuses_entries);
    RUN(test_segment_writer_refuses_lengths);
    RUN(test_segment_sink_fails);
    RUN(test_segment_survives_oom);
    RUN(test_segment_check_value);
    RUN(test_segment_check_value_of_many_keys);
    RUN(test_segment_example_of_the_format);
    return check_summary();
}
