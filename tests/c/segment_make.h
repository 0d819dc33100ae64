/* segment_make.h: segments made in memory, for the tests that need some. */
#ifndef PN_TESTS_SEGMENT_MAKE_H
#define PN_TESTS_SEGMENT_MAKE_H

#include "persist/segment.h"

/* A sink that appends to a pn_buf. */
static inline pn_status segment_sink(void *ctx, pn_bytes b) { return pn_buf_append(ctx, b.ptr, b.len); }

static inline pn_bytes segment_text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

/* Three stores: every table type, op and reset, rows of several dimensions and both
 * encodings, empty keys and names, text that is not ASCII. */
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

#endif
