/* Writing a segment.
 *
 * Values and rows go out as they come; the columns of the table that is being written
 * stay in buffers until it ends. The index grows as MessagePack from the inside out: runs
 * of a table, tables of a store, stores; an array's head is put in front when its count is
 * known. Everything passes one buffer, so that the sink is called for large pieces only. */
#include "base/crc32c.h"
#include "base/omap.h"
#include "codec/mpack_push.h"
#include "persist/segment_form.h"

enum {
    HELD = 64 * 1024,       /* what is gathered before the sink is called */
    RUN_MAX = 16 << 20,     /* a run ends here, so that checking one is bounded */
};

typedef enum stage { IN_SEGMENT, IN_STORE, IN_TABLE, ENDED } stage;

/* The columns of one table; which are used depends on its type. */
typedef struct columns {
    pn_buf ops, key_lens, keys;
    pn_buf value_lens, value_crcs;       /* VALUES */
    pn_buf runs;                         /* VECTORS: their part of the index */
    pn_buf codes, string_lens, strings;  /* STRINGS */
} columns;
#define COLUMNS (sizeof(columns) / sizeof(pn_buf))

typedef struct open_run {
    size_t dim;
    pn_row_encoding encoding;
    uint64_t at; /* in the file */
    size_t rows;
    uint32_t crc;
} open_run;

struct pn_segment_writer {
    const pn_alloc *alloc;
    pn_segment_sink sink;
    void *ctx;
    stage stage;
    uint64_t at; /* bytes of the file so far, those in `held` included */

    /* the table being written */
    pn_buf table_name;
    uint8_t type, reset;
    size_t n;
    uint64_t data_at; /* VALUES: where the first begins */
    union {
        columns columns;
        pn_buf column[COLUMNS];
    };
    open_run run;
    size_t run_count;
    pn_omap code_of; /* STRINGS: text to u32 */

    pn_buf tables; /* of the store being written: MessagePack */
    pn_omap table_names;
    pn_buf stores; /* MessagePack */
    pn_omap store_names;
    pn_buf notes; /* pn_segment_store_note each; the last is the store being written */

    size_t held_len;
    uint8_t held[HELD];
};

/* ---- bytes to the sink ---- */

static pn_status flush(pn_segment_writer *w)
{
    if (w->held_len == 0) return PN_OK;
    PN_TRY(w->sink(w->ctx, (pn_bytes){w->held, w->held_len}));
    w->held_len = 0;
    return PN_OK;
}

/* What does not fit: large pieces go out as they are. */
static pn_status emit_slow(pn_segment_writer *w, pn_bytes b)
{
    PN_TRY(flush(w));
    if (b.len >= HELD / 2) return w->sink(w->ctx, b);
    memcpy(w->held, b.ptr, b.len);
    w->held_len = b.len;
    return PN_OK;
}

static inline pn_status emit(pn_segment_writer *w, const void *p, size_t n)
{
    if (n == 0) return PN_OK;
    w->at += n;
    if (n > HELD - w->held_len) return emit_slow(w, (pn_bytes){p, n});
    memcpy(w->held + w->held_len, p, n);
    w->held_len += n;
    return PN_OK;
}

static const uint8_t zeros[PN_ROW_ALIGN] = {0};

static pn_status emit_alignment(pn_segment_writer *w) { return emit(w, zeros, (size_t)(-w->at % PN_ROW_ALIGN)); }

/* ---- beginning and end ---- */

static void writer_init(pn_segment_writer *w, const pn_alloc *alloc)
{
    pn_buf_init(&w->table_name, alloc);
    for (size_t i = 0; i < COLUMNS; i++) pn_buf_init(&w->column[i], alloc);
    pn_omap_init(&w->code_of, alloc, sizeof(uint32_t));
    pn_buf_init(&w->tables, alloc);
    pn_buf_init(&w->stores, alloc);
    pn_buf_init(&w->notes, alloc);
    pn_omap_init(&w->table_names, alloc, 1);
    pn_omap_init(&w->store_names, alloc, 1);
}

static void put_head(pn_segment_writer *w)
{
    memset(w->held, 0, PN_SEGMENT_HEAD);
    memcpy(w->held, PN_SEGMENT_MAGIC, PN_SEGMENT_MAGIC_LEN);
    pn_put_u32(w->held + PN_SEGMENT_MAGIC_LEN, PN_SEGMENT_VERSION);
    w->held_len = w->at = PN_SEGMENT_HEAD;
}

pn_status pn_segment_writer_new(const pn_alloc *alloc, pn_segment_sink sink, void *ctx, pn_segment_writer **out)
{
    pn_segment_writer *w = pn_alloc_get(alloc, sizeof *w);
    PN_FAIL_IF(w == NULL, PN_ERR_NOMEM);
    memset(w, 0, offsetof(pn_segment_writer, held));
    w->alloc = alloc;
    w->sink = sink;
    w->ctx = ctx;
    writer_init(w, alloc);
    put_head(w);
    *out = w;
    return PN_OK;
}

static pn_segment_store_note *notes(const pn_segment_writer *w)
{
    return (pn_segment_store_note *)(void *)w->notes.data;
}

size_t pn_segment_written(const pn_segment_writer *w, const pn_segment_store_note **out)
{
    *out = notes(w);
    return w->notes.len / sizeof **out;
}

static pn_segment_store_note *last_note(pn_segment_writer *w)
{
    return notes(w) + w->notes.len / sizeof(pn_segment_store_note) - 1;
}

void pn_segment_writer_free(pn_segment_writer *w)
{
    if (w == NULL) return;
    const pn_segment_store_note *note;
    for (size_t i = pn_segment_written(w, &note); i-- > 0;) pn_buf_clear(&notes(w)[i].name);
    pn_buf_clear(&w->notes);
    pn_buf_clear(&w->table_name);
    for (size_t i = 0; i < COLUMNS; i++) pn_buf_clear(&w->column[i]);
    pn_omap_clear(&w->code_of);
    pn_buf_clear(&w->tables);
    pn_buf_clear(&w->stores);
    pn_omap_clear(&w->table_names);
    pn_omap_clear(&w->store_names);
    pn_alloc_put(w->alloc, w);
}

/* A failed writer's file is lost: no later call may succeed. */
static pn_status settle(pn_segment_writer *w, pn_status s)
{
    if (s != PN_OK) w->stage = ENDED;
    return s;
}

/* ---- the index ---- */

static pn_status push_range(pn_buf *out, uint64_t at, uint64_t n)
{
    PN_TRY(pn_mpack_push_uint(out, at));
    return pn_mpack_push_uint(out, n);
}

/* [offset, length, crc] */
static pn_status push_block(pn_buf *out, uint64_t at, uint64_t n, uint32_t crc)
{
    PN_TRY(pn_mpack_push_array(out, 3));
    PN_TRY(push_range(out, at, n));
    return pn_mpack_push_uint(out, crc);
}

/* A column goes to the file, and its place to the index. */
static pn_status emit_column(pn_segment_writer *w, const pn_buf *column)
{
    PN_TRY(push_block(&w->tables, w->at, column->len, pn_crc32c(0, pn_buf_view(column))));
    return emit(w, column->data, column->len);
}

/* ---- runs of rows ---- */

size_t pn_row_size(size_t dim, pn_row_encoding encoding)
{
    return (pn_row_used(dim, encoding) + PN_ROW_ALIGN - 1) & ~(size_t)(PN_ROW_ALIGN - 1);
}

static pn_status end_run(pn_segment_writer *w)
{
    const open_run *r = &w->run;
    if (r->rows == 0) return PN_OK;
    pn_buf *out = &w->columns.runs;
    PN_TRY(pn_mpack_push_array(out, 4));
    PN_TRY(pn_mpack_push_uint(out, r->dim));
    PN_TRY(pn_mpack_push_uint(out, r->encoding));
    PN_TRY(pn_mpack_push_uint(out, r->rows));
    PN_TRY(push_block(out, r->at, w->at - r->at, r->crc));
    w->run_count++;
    w->run.rows = 0;
    return PN_OK;
}

static pn_status begin_run(pn_segment_writer *w, size_t dim, pn_row_encoding encoding)
{
    PN_TRY(end_run(w));
    PN_TRY(emit_alignment(w));
    w->run = (open_run){.dim = dim, .encoding = encoding, .at = w->at};
    return PN_OK;
}

static pn_status add_row(pn_segment_writer *w, size_t dim, pn_row_encoding encoding, const void *row)
{
    open_run *r = &w->run;
    bool goes_on = r->rows > 0 && r->dim == dim && r->encoding == encoding && w->at - r->at < RUN_MAX;
    if (!goes_on) PN_TRY(begin_run(w, dim, encoding));
    pn_bytes numbers = {row, pn_row_used(dim, encoding)};
    pn_bytes padding = {zeros, pn_row_size(dim, encoding) - numbers.len};
    r->crc = pn_crc32c(pn_crc32c(r->crc, numbers), padding);
    r->rows++;
    PN_TRY(emit(w, numbers.ptr, numbers.len));
    return emit(w, padding.ptr, padding.len);
}

/* ---- tables ---- */

static pn_status end_values(pn_segment_writer *w)
{
    uint64_t data_len = w->at - w->data_at;
    PN_TRY(emit_column(w, &w->columns.ops));
    PN_TRY(emit_column(w, &w->columns.key_lens));
    PN_TRY(emit_column(w, &w->columns.keys));
    PN_TRY(emit_column(w, &w->columns.value_lens));
    PN_TRY(emit_column(w, &w->columns.value_crcs));
    PN_TRY(pn_mpack_push_array(&w->tables, 2));
    return push_range(&w->tables, w->data_at, data_len);
}

static pn_status end_vectors(pn_segment_writer *w)
{
    PN_TRY(end_run(w));
    PN_TRY(emit_column(w, &w->columns.ops));
    PN_TRY(emit_column(w, &w->columns.key_lens));
    PN_TRY(emit_column(w, &w->columns.keys));
    PN_TRY(pn_mpack_push_array(&w->tables, w->run_count));
    return pn_buf_append(&w->tables, w->columns.runs.data, w->columns.runs.len);
}

static pn_status end_strings(pn_segment_writer *w)
{
    PN_TRY(emit_column(w, &w->columns.ops));
    PN_TRY(emit_column(w, &w->columns.key_lens));
    PN_TRY(emit_column(w, &w->columns.keys));
    PN_TRY(emit_column(w, &w->columns.codes));
    PN_TRY(emit_column(w, &w->columns.string_lens));
    return emit_column(w, &w->columns.strings);
}

/* [name, type, reset, n, ops, key_lens, keys, part, ...] */
static pn_status end_table(pn_segment_writer *w)
{
    if (w->stage != IN_TABLE) return PN_OK;
    PN_TRY(pn_mpack_push_array(&w->tables, w->type == PN_TABLE_VECTORS ? 8 : 10));
    PN_TRY(pn_mpack_push_text(&w->tables, pn_buf_view(&w->table_name)));
    PN_TRY(pn_mpack_push_uint(&w->tables, w->type));
    PN_TRY(pn_mpack_push_uint(&w->tables, w->reset));
    PN_TRY(pn_mpack_push_uint(&w->tables, w->n));
    if (w->type == PN_TABLE_VALUES)
        PN_TRY(end_values(w));
    else
        PN_TRY(w->type == PN_TABLE_VECTORS ? end_vectors(w) : end_strings(w));
    last_note(w)->entries += w->n;
    last_note(w)->tables++;
    w->stage = IN_STORE;
    return PN_OK;
}

/* PN_ERR_INVALID for a name that was given before. */
static pn_status note_name(pn_omap *names, pn_bytes name)
{
    void *value;
    bool added;
    PN_TRY(pn_omap_put(names, name, NULL, &value, &added));
    return added ? PN_OK : PN_ERR_INVALID;
}

static pn_status begin_table(pn_segment_writer *w, pn_bytes name, pn_table_type type, pn_table_reset reset)
{
    PN_FAIL_IF(w->stage != IN_STORE && w->stage != IN_TABLE, PN_ERR_INVALID);
    PN_FAIL_IF(type < PN_TABLE_VALUES || type > PN_TABLE_STRINGS, PN_ERR_INVALID);
    PN_FAIL_IF(reset > PN_TABLE_FRESH, PN_ERR_INVALID);
    PN_FAIL_IF(!pn_segment_table_fits(last_note(w)->kind, name, (uint8_t)type), PN_ERR_INVALID);
    PN_TRY(end_table(w));
    PN_TRY(note_name(&w->table_names, name));
    w->table_name.len = 0;
    PN_TRY(pn_buf_append(&w->table_name, name.ptr, name.len));
    for (size_t i = 0; i < COLUMNS; i++) w->column[i].len = 0;
    pn_omap_clear(&w->code_of);
    w->type = (uint8_t)type;
    w->reset = (uint8_t)reset;
    w->n = w->run_count = 0;
    w->data_at = w->at;
    w->stage = IN_TABLE;
    return PN_OK;
}

pn_status pn_segment_begin_table(pn_segment_writer *w, pn_bytes name, pn_table_type type, pn_table_reset reset)
{
    return settle(w, begin_table(w, name, type, reset));
}

/* ---- stores ---- */

/* [name, kind, reset, [table, ...]] */
static pn_status end_store(pn_segment_writer *w)
{
    PN_TRY(end_table(w));
    if (w->stage != IN_STORE) return PN_OK;
    const pn_segment_store_note *note = last_note(w);
    PN_TRY(pn_mpack_push_array(&w->stores, 4));
    PN_TRY(pn_mpack_push_text(&w->stores, pn_buf_view(&note->name)));
    PN_TRY(pn_mpack_push_uint(&w->stores, note->kind));
    PN_TRY(pn_mpack_push_bool(&w->stores, note->reset));
    PN_TRY(pn_mpack_push_array(&w->stores, note->tables));
    PN_TRY(pn_buf_append(&w->stores, w->tables.data, w->tables.len));
    w->stage = IN_SEGMENT;
    return PN_OK;
}

static pn_status add_note(pn_segment_writer *w, pn_bytes name, pn_store_kind kind, bool reset)
{
    pn_segment_store_note note = {.kind = (uint8_t)kind, .reset = reset};
    pn_buf_init(&note.name, w->alloc);
    PN_TRY(pn_buf_reserve(&w->notes, sizeof note));
    PN_TRY(pn_buf_append(&note.name, name.ptr, name.len));
    return pn_buf_append(&w->notes, &note, sizeof note);
}

static pn_status begin_store(pn_segment_writer *w, pn_bytes name, pn_store_kind kind, bool reset)
{
    PN_FAIL_IF(w->stage == ENDED, PN_ERR_INVALID);
    PN_FAIL_IF(kind < PN_STORE_COLLECTIONS || kind > PN_STORE_TEXT, PN_ERR_INVALID);
    PN_TRY(end_store(w));
    PN_TRY(note_name(&w->store_names, name));
    PN_TRY(add_note(w, name, kind, reset));
    w->tables.len = 0;
    pn_omap_clear(&w->table_names);
    w->stage = IN_STORE;
    return PN_OK;
}

pn_status pn_segment_begin_store(pn_segment_writer *w, pn_bytes name, pn_store_kind kind, bool reset)
{
    return settle(w, begin_store(w, name, kind, reset));
}

/* ---- entries ---- */

static inline pn_status push_u32(pn_buf *b, size_t v)
{
    PN_TRY(pn_buf_reserve(b, 4));
    pn_put_u32(b->data + b->len, (uint32_t)v);
    b->len += 4;
    return PN_OK;
}

/* A text store is one text, under the empty key. */
static bool key_fits(pn_segment_writer *w, pn_bytes key)
{
    return last_note(w)->kind != PN_STORE_TEXT || (key.len == 0 && w->n == 0);
}

static inline pn_status add_entry(pn_segment_writer *w, pn_table_type type, uint8_t op, pn_bytes key)
{
    PN_FAIL_IF(w->stage != IN_TABLE || w->type != type || w->reset == PN_TABLE_DROPPED, PN_ERR_INVALID);
    PN_FAIL_IF(!pn_segment_op_fits((uint8_t)type, op) || !key_fits(w, key), PN_ERR_INVALID);
    PN_FAIL_IF(key.len > UINT32_MAX - w->columns.keys.len, PN_ERR_RANGE);
    w->n++;
    PN_TRY(pn_buf_push(&w->columns.ops, op));
    PN_TRY(push_u32(&w->columns.key_lens, key.len));
    return pn_buf_append(&w->columns.keys, key.ptr, key.len);
}

static inline pn_status add_value(pn_segment_writer *w, uint8_t op, pn_bytes key, pn_bytes value)
{
    PN_FAIL_IF(value.len > UINT32_MAX, PN_ERR_RANGE);
    PN_TRY(add_entry(w, PN_TABLE_VALUES, op, key));
    PN_TRY(push_u32(&w->columns.value_lens, value.len));
    PN_TRY(push_u32(&w->columns.value_crcs, pn_crc32c(0, value)));
    return emit(w, value.ptr, value.len);
}

pn_status pn_segment_put_value(pn_segment_writer *w, pn_entry_op op, pn_bytes key, pn_value_form form, pn_bytes value)
{
    if (op > PN_ENTRY_FRESH || form > PN_FORM_CHANGE) return settle(w, PN_ERR_INVALID);
    return settle(w, add_value(w, pn_segment_op_byte(op, form), key, value));
}

pn_status pn_segment_put_row(pn_segment_writer *w, pn_entry_op op, pn_bytes key, size_t dim, pn_row_encoding encoding,
                             const void *row)
{
    bool known = encoding == PN_ROW_F32 || encoding == PN_ROW_F64;
    if (op > PN_ENTRY_FRESH || !known || dim > PN_ROW_MAX_DIM) return settle(w, PN_ERR_INVALID);
    pn_status s = add_entry(w, PN_TABLE_VECTORS, pn_segment_op_byte(op, 0), key);
    return settle(w, s == PN_OK ? add_row(w, dim, encoding, row) : s);
}

/* The number of a string: equal ones have one. */
static pn_status code_of(pn_segment_writer *w, pn_bytes string, uint32_t *out)
{
    void *code;
    bool added;
    PN_TRY(pn_omap_put(&w->code_of, string, NULL, &code, &added));
    if (added) {
        uint32_t next = (uint32_t)(pn_omap_len(&w->code_of) - 1);
        memcpy(code, &next, sizeof next);
        PN_TRY(push_u32(&w->columns.string_lens, string.len));
        PN_TRY(pn_buf_append(&w->columns.strings, string.ptr, string.len));
    }
    memcpy(out, code, sizeof *out);
    return PN_OK;
}

static pn_status add_string(pn_segment_writer *w, pn_entry_op op, pn_bytes key, pn_bytes string)
{
    uint32_t code;
    PN_TRY(add_entry(w, PN_TABLE_STRINGS, pn_segment_op_byte(op, 0), key));
    PN_TRY(code_of(w, string, &code));
    return push_u32(&w->columns.codes, code);
}

pn_status pn_segment_put_string(pn_segment_writer *w, pn_entry_op op, pn_bytes key, pn_bytes string)
{
    if (op > PN_ENTRY_FRESH) return settle(w, PN_ERR_INVALID);
    return settle(w, add_string(w, op, key, string));
}

static pn_status add_removal(pn_segment_writer *w, pn_bytes key)
{
    if (w->type == PN_TABLE_VALUES) return add_value(w, PN_ENTRY_REMOVE, key, (pn_bytes){NULL, 0});
    PN_TRY(add_entry(w, w->type, PN_ENTRY_REMOVE, key));
    return w->type == PN_TABLE_STRINGS ? push_u32(&w->columns.codes, PN_STRING_NONE) : PN_OK;
}

pn_status pn_segment_remove(pn_segment_writer *w, pn_bytes key) { return settle(w, add_removal(w, key)); }

/* ---- the end ---- */

static void make_tail(uint8_t tail[PN_SEGMENT_TAIL], uint64_t index_at, pn_bytes index)
{
    memset(tail, 0, PN_SEGMENT_TAIL);
    pn_put_u64(tail, index_at);
    pn_put_u64(tail + 8, index.len);
    pn_put_u64(tail + 16, index_at + index.len + PN_SEGMENT_TAIL);
    pn_put_u32(tail + 24, pn_crc32c(0, index));
    pn_put_u32(tail + 28, PN_SEGMENT_VERSION);
    pn_put_u32(tail + PN_SEGMENT_TAIL_CRC, pn_crc32c(0, (pn_bytes){tail, PN_SEGMENT_TAIL_CRC}));
}

/* [[store, ...]], in the buffer that tables need no more. */
static pn_status make_index(pn_segment_writer *w)
{
    pn_buf *index = &w->tables;
    index->len = 0;
    PN_TRY(pn_mpack_push_array(index, 1));
    PN_TRY(pn_mpack_push_array(index, w->notes.len / sizeof(pn_segment_store_note)));
    return pn_buf_append(index, w->stores.data, w->stores.len);
}

static pn_status finish(pn_segment_writer *w, uint64_t *size, uint32_t *tail_crc)
{
    PN_FAIL_IF(w->stage == ENDED, PN_ERR_INVALID);
    uint8_t tail[PN_SEGMENT_TAIL];
    PN_TRY(end_store(w));
    PN_TRY(make_index(w));
    make_tail(tail, w->at, pn_buf_view(&w->tables));
    PN_TRY(emit(w, w->tables.data, w->tables.len));
    PN_TRY(emit(w, tail, sizeof tail));
    PN_TRY(flush(w));
    w->stage = ENDED;
    *size = w->at;
    *tail_crc = pn_get_u32(tail + PN_SEGMENT_TAIL_CRC);
    return PN_OK;
}

pn_status pn_segment_finish(pn_segment_writer *w, uint64_t *size, uint32_t *tail_crc)
{
    return settle(w, finish(w, size, tail_crc));
}
