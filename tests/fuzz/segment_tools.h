/* segment_tools.h: what tests and the fuzz target of segments share: all that a segment
 * says as bytes to compare, the segment written again, checksums made right again. */
#ifndef PN_TESTS_FUZZ_SEGMENT_TOOLS_H
#define PN_TESTS_FUZZ_SEGMENT_TOOLS_H

#include "base/crc32c.h"
#include "codec/mpack_pull.h"
#include "persist/segment.h"

/* A sink that appends to a pn_buf. */
static inline pn_status segment_sink(void *ctx, pn_bytes b) { return pn_buf_append(ctx, b.ptr, b.len); }

/* ---- everything that a segment says ---- */

static inline pn_status segment_say_number(pn_buf *out, uint64_t v) { return pn_buf_append(out, &v, sizeof v); }

static inline pn_status segment_say_bytes(pn_buf *out, pn_bytes b)
{
    PN_TRY(segment_say_number(out, b.len));
    return pn_buf_append(out, b.ptr, b.len);
}

static inline pn_status segment_say_entry(const pn_segment_table *t, const pn_segment_entry *e, pn_buf *out)
{
    PN_TRY(segment_say_number(out, (uint64_t)e->op << 8 | e->form));
    PN_TRY(segment_say_bytes(out, e->key));
    if (t->type != PN_TABLE_VECTORS) return segment_say_bytes(out, e->value);
    if (e->run == NULL) return PN_OK;
    PN_TRY(segment_say_number(out, e->run->dim << 2 | e->run->encoding));
    return segment_say_bytes(out, (pn_bytes){e->row, e->run->row_size});
}

static inline pn_status segment_say_table(const pn_segment_table *t, pn_buf *out)
{
    PN_TRY(segment_say_bytes(out, t->name));
    PN_TRY(segment_say_number(out, (uint64_t)t->type << 8 | t->reset));
    PN_TRY(segment_say_number(out, t->n));
    pn_segment_entry e = {0};
    while (pn_segment_next(t, &e)) PN_TRY(segment_say_entry(t, &e, out));
    return PN_OK;
}

static inline pn_status segment_say(const pn_segment *s, pn_buf *out)
{
    for (size_t i = 0; i < s->store_count; i++) {
        const pn_segment_store *store = &s->stores[i];
        PN_TRY(segment_say_bytes(out, store->name));
        PN_TRY(segment_say_number(out, (uint64_t)store->kind << 8 | store->reset));
        PN_TRY(segment_say_number(out, store->table_count));
        for (size_t k = 0; k < store->table_count; k++) PN_TRY(segment_say_table(&store->tables[k], out));
    }
    return PN_OK;
}

/* ---- written again ---- */

static inline pn_status segment_rewrite_entry(const pn_segment_table *t, const pn_segment_entry *e, pn_segment_writer *w)
{
    if (e->op == PN_ENTRY_REMOVE) return pn_segment_remove(w, e->key);
    if (t->type == PN_TABLE_VALUES)
        return pn_segment_put_value(w, (pn_entry_op)e->op, e->key, (pn_value_form)e->form, e->value);
    if (t->type == PN_TABLE_STRINGS) return pn_segment_put_string(w, (pn_entry_op)e->op, e->key, e->value);
    return pn_segment_put_row(w, (pn_entry_op)e->op, e->key, e->run->dim, e->run->encoding, e->row);
}

static inline pn_status segment_rewrite_table(const pn_segment_table *t, pn_segment_writer *w)
{
    pn_segment_entry e = {0};
    PN_TRY(pn_segment_begin_table(w, t->name, (pn_table_type)t->type, (pn_table_reset)t->reset));
    while (pn_segment_next(t, &e)) PN_TRY(segment_rewrite_entry(t, &e, w));
    return PN_OK;
}

static inline pn_status segment_rewrite_stores(const pn_segment *s, pn_segment_writer *w)
{
    for (size_t i = 0; i < s->store_count; i++) {
        const pn_segment_store *store = &s->stores[i];
        PN_TRY(pn_segment_begin_store(w, store->name, (pn_store_kind)store->kind, store->reset));
        for (size_t k = 0; k < store->table_count; k++) PN_TRY(segment_rewrite_table(&store->tables[k], w));
    }
    return PN_OK;
}

static inline pn_status segment_rewrite(const pn_segment *s, pn_buf *out)
{
    uint64_t size;
    uint32_t crc;
    pn_segment_writer *w;
    PN_TRY(pn_segment_writer_new(&pn_alloc_system, segment_sink, out, &w));
    pn_status status = segment_rewrite_stores(s, w);
    if (status == PN_OK) status = pn_segment_finish(w, &size, &crc);
    pn_segment_writer_free(w);
    return status;
}

/* ---- checksums made right ---- */

/* If [offset, length, CRC in five bytes] begins at p: the CRC is written anew. */
static inline void segment_repair_block(uint8_t *file, size_t len, uint8_t *p, uint8_t *end)
{
    size_t n;
    uint64_t at, size, crc;
    pn_mpack_pull r;
    pn_mpack_pull_init(&r, (pn_bytes){p, (size_t)(end - p)}, 0);
    if (pn_mpack_pull_array(&r, 3, &n) != PN_OK || n != 3) return;
    if (pn_mpack_pull_uint(&r, len, &at) != PN_OK || pn_mpack_pull_uint(&r, len - at, &size) != PN_OK) return;
    if (pn_mpack_pull_uint(&r, UINT32_MAX, &crc) != PN_OK || *r.at != 0xce) return;
    uint32_t right = pn_crc32c(0, (pn_bytes){file + at, (size_t)size});
    uint8_t *to = p + (r.at + 1 - p);
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(right >> (24 - 8 * i));
}

/* Blocks, index and tail of what may be a damaged segment get the checksums that fit, so
 * that damage shows behind them; head and tail get their fixed bytes and the length. */
static inline void segment_repair(uint8_t *file, size_t len)
{
    enum { HEAD = 64 };
    if (len < HEAD + PN_SEGMENT_TAIL) return;
    uint8_t *tail = file + len - PN_SEGMENT_TAIL;
    memset(file, 0, HEAD);
    memcpy(file, "\x89PNSEG\r\n\x01", 9);
    uint64_t at = pn_get_u64(tail), most = len - PN_SEGMENT_TAIL;
    if (at < HEAD || at > most) at = most;
    for (uint8_t *p = file + at; p < tail; p++)
        if (*p == 0x93) segment_repair_block(file, len, p, tail);
    memset(tail, 0, PN_SEGMENT_TAIL);
    pn_put_u64(tail, at);
    pn_put_u64(tail + 8, most - at);
    pn_put_u64(tail + 16, len);
    pn_put_u32(tail + 24, pn_crc32c(0, (pn_bytes){file + at, (size_t)(most - at)}));
    pn_put_u32(tail + 28, PN_SEGMENT_VERSION);
    pn_put_u32(tail + PN_SEGMENT_TAIL - 4, pn_crc32c(0, (pn_bytes){tail, PN_SEGMENT_TAIL - 4}));
}

#endif
