/* segment_make.h: segments made in memory, for the tests that need some.
 *
 * Four stores have all there is: every table type, form, op and reset, rows of several
 * dimensions and both encodings, empty keys and names, text that is not ASCII. */
#ifndef PN_TESTS_SEGMENT_MAKE_H
#define PN_TESTS_SEGMENT_MAKE_H

#include "codec/mpack_push.h"
#include "persist/segment.h"

#include "../fuzz/segment_tools.h"

static inline pn_bytes segment_text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static inline pn_status segment_collections(pn_segment_writer *w)
{
    pn_bytes none = {NULL, 0};
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("docstore.json"), PN_STORE_COLLECTIONS, false));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("docstore/data"), PN_TABLE_VALUES, PN_TABLE_KEEPS));
    PN_TRY(pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("a"), PN_FORM_JSON, PN_BYTES("{\"text\": \"caf\\u00e9\", \"n\": [1, 2.5, null]}")));
    PN_TRY(pn_segment_put_value(w, PN_ENTRY_FRESH, PN_BYTES("\xc3\xa9\xed\xa0\x80"), PN_FORM_MPACK, PN_BYTES("\x81\xa1n\xcb\x3f\xe0\0\0\0\0\0\0")));
    PN_TRY(pn_segment_remove(w, PN_BYTES("gone")));
    PN_TRY(pn_segment_put_value(w, PN_ENTRY_PUT, none, PN_FORM_JSON, PN_BYTES("\"\"")));
    PN_TRY(pn_segment_begin_table(w, none, PN_TABLE_VALUES, PN_TABLE_EMPTIED));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("docstore/metadata"), PN_TABLE_VALUES, PN_TABLE_EMPTIED));
    PN_TRY(pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("k"), PN_FORM_JSON, PN_BYTES("{}")));
    return pn_segment_begin_table(w, PN_BYTES("docstore/ref_doc_info"), PN_TABLE_VALUES, PN_TABLE_DROPPED);
}

static inline pn_status segment_put_texts(pn_buf *out, const char *const *rows, size_t n)
{
    uint8_t lens[4 * 8];
    pn_buf text;
    pn_status s = PN_OK;
    pn_buf_init(&text, out->alloc);
    for (size_t i = 0; i < n; i++) {
        pn_put_u32(lens + 4 * i, (uint32_t)strlen(rows[i]));
        if (s == PN_OK && i) s = PN_BUF_LIT(&text, ", ");
        if (s == PN_OK) s = pn_buf_append(&text, rows[i], strlen(rows[i]));
    }
    if (s == PN_OK) s = pn_mpack_push_bin(out, (pn_bytes){lens, 4 * n});
    if (s == PN_OK) s = pn_mpack_push_bin(out, pn_buf_view(&text));
    pn_buf_clear(&text);
    return s;
}

static inline pn_status segment_put_column(pn_buf *out, const char *name, uint64_t kind)
{
    PN_TRY(pn_mpack_push_array(out, 5));
    PN_TRY(pn_mpack_push_text(out, segment_text(name)));
    return pn_mpack_push_uint(out, kind);
}

/* An index struct of a value and two pairs; a change that adds a third. */
static inline pn_status segment_put_struct(pn_buf *out)
{
    static const char *const id[] = {"\"x\""}, *const nodes[] = {"\"n1\": \"a\"", "\"n2\": \"b\""};
    PN_TRY(pn_mpack_push_array(out, 2));
    PN_TRY(pn_mpack_push_text(out, PN_BYTES("vector_store")));
    PN_TRY(pn_mpack_push_array(out, 2));
    PN_TRY(segment_put_column(out, "index_id", 0));
    PN_TRY(pn_mpack_push_uint(out, 1));
    PN_TRY(segment_put_texts(out, id, 1));
    PN_TRY(segment_put_column(out, "nodes_dict", 2));
    PN_TRY(pn_mpack_push_uint(out, 2));
    return segment_put_texts(out, nodes, 2);
}

static inline pn_status segment_put_change(pn_buf *out)
{
    static const char *const nodes[] = {"\"n3\": \"c\""};
    static const uint64_t id[] = {1, 1}, counts[] = {2, 3};
    PN_TRY(pn_mpack_push_array(out, 2));
    PN_TRY(pn_mpack_push_text(out, PN_BYTES("vector_store")));
    PN_TRY(pn_mpack_push_array(out, 2));
    for (size_t i = 0; i < 2; i++) {
        PN_TRY(segment_put_column(out, i ? "nodes_dict" : "index_id", i ? 2 : 0));
        PN_TRY(pn_mpack_push_uint(out, (i ? counts : id)[0]));
        PN_TRY(pn_mpack_push_uint(out, (i ? counts : id)[1]));
        PN_TRY(pn_mpack_push_array(out, i + 1));
        PN_TRY(pn_mpack_push_array(out, 3));
        PN_TRY(pn_mpack_push_uint(out, 0));
        PN_TRY(pn_mpack_push_uint(out, 0));
        PN_TRY(pn_mpack_push_uint(out, i + 1));
    }
    PN_TRY(pn_mpack_push_array(out, 3));
    PN_TRY(pn_mpack_push_uint(out, 1));
    return segment_put_texts(out, nodes, 1);
}

static inline pn_status segment_put_structs(pn_segment_writer *w, pn_buf *value)
{
    PN_TRY(segment_put_struct(value));
    PN_TRY(pn_segment_put_value(w, PN_ENTRY_FRESH, PN_BYTES("whole"), PN_FORM_STRUCT, pn_buf_view(value)));
    value->len = 0;
    PN_TRY(segment_put_change(value));
    return pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("changed"), PN_FORM_CHANGE, pn_buf_view(value));
}

static inline pn_status segment_structs(pn_segment_writer *w, const pn_alloc *alloc)
{
    pn_buf value;
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("index_store.json"), PN_STORE_COLLECTIONS, false));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("index_store/data"), PN_TABLE_VALUES, PN_TABLE_FRESH));
    pn_buf_init(&value, alloc);
    pn_status s = segment_put_structs(w, &value);
    pn_buf_clear(&value);
    return s;
}

static inline pn_status segment_vectors(pn_segment_writer *w)
{
    static const float f32[20] = {1.5f, -2, 3};
    static const double f64[3] = {0.1, 0.2, 1e300};
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("default__vector_store.json"), PN_STORE_VECTORS, true));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("embedding_dict"), PN_TABLE_VECTORS, PN_TABLE_KEEPS));
    PN_TRY(pn_segment_put_row(w, PN_ENTRY_PUT, PN_BYTES("v1"), 3, PN_ROW_F32, f32));
    PN_TRY(pn_segment_put_row(w, PN_ENTRY_FRESH, PN_BYTES("v2"), 3, PN_ROW_F32, f32));
    PN_TRY(pn_segment_remove(w, PN_BYTES("v0")));
    PN_TRY(pn_segment_put_row(w, PN_ENTRY_PUT, PN_BYTES("v3"), 3, PN_ROW_F64, f64));
    PN_TRY(pn_segment_put_row(w, PN_ENTRY_PUT, PN_BYTES("v4"), 0, PN_ROW_F64, NULL));
    PN_TRY(pn_segment_put_row(w, PN_ENTRY_PUT, PN_BYTES("v5"), 20, PN_ROW_F32, f32));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("text_id_to_ref_doc_id"), PN_TABLE_STRINGS, PN_TABLE_EMPTIED));
    PN_TRY(pn_segment_put_string(w, PN_ENTRY_PUT, PN_BYTES("v1"), PN_BYTES("doc")));
    PN_TRY(pn_segment_put_string(w, PN_ENTRY_PUT, PN_BYTES("v2"), (pn_bytes){NULL, 0}));
    PN_TRY(pn_segment_remove(w, PN_BYTES("v0")));
    PN_TRY(pn_segment_put_string(w, PN_ENTRY_FRESH, PN_BYTES("v3"), PN_BYTES("doc")));
    PN_TRY(pn_segment_begin_table(w, PN_BYTES("metadata_dict"), PN_TABLE_VALUES, PN_TABLE_KEEPS));
    return pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("v1"), PN_FORM_JSON, PN_BYTES("{\"page\": 1}"));
}

static inline pn_status segment_graph(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, PN_BYTES("graph_store.json"), PN_STORE_TEXT, false));
    PN_TRY(pn_segment_begin_table(w, (pn_bytes){NULL, 0}, PN_TABLE_VALUES, PN_TABLE_KEEPS));
    return pn_segment_put_value(w, PN_ENTRY_PUT, (pn_bytes){NULL, 0}, PN_FORM_JSON, PN_BYTES("{\"graph_dict\": {}}"));
}

/* All four as one file. */
static inline pn_status segment_make(const pn_alloc *alloc, pn_segment_sink sink, void *ctx, uint64_t *size, uint32_t *crc)
{
    pn_segment_writer *w;
    PN_TRY(pn_segment_writer_new(alloc, sink, ctx, &w));
    pn_status s = segment_collections(w);
    if (s == PN_OK) s = segment_structs(w, alloc);
    if (s == PN_OK) s = segment_vectors(w);
    if (s == PN_OK) s = segment_graph(w);
    if (s == PN_OK) s = pn_segment_finish(w, size, crc);
    pn_segment_writer_free(w);
    return s;
}

#endif
