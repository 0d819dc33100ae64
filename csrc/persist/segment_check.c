/* Looking at what opening a segment leaves for later: the bytes of values and rows. */
#include "base/crc32c.h"
#include "base/omap.h"
#include "codec/json_read.h"
#include "codec/mpack.h"
#include "persist/rows.h"
#include "persist/segment_form.h"

#include <stdlib.h>

/* ---- values ---- */

/* Whatever is wrong with a value, the file is damaged; only memory is not its fault. */
static pn_status damaged(pn_error *err, pn_status s, uint64_t offset, const char *what)
{
    if (s == PN_ERR_NOMEM) return pn_fail(err, s, 0, pn_status_text(s));
    return pn_fail(err, PN_ERR_CORRUPT, offset, what != NULL ? what : pn_status_text(s));
}

static pn_status check_json(const pn_alloc *alloc, pn_bytes text, pn_error *err)
{
    pn_json_reader r;
    pn_json_span span;
    bool canonical;
    pn_json_reader_init(&r, text);
    pn_status s = pn_json_skip(&r, &span);
    if (s != PN_OK) return damaged(err, s, r.error.offset, r.error.what);
    if (span.canonical && span.len == text.len) return PN_OK;
    s = pn_json_is_canonical(text, alloc, &canonical); /* a span's bit may be unset by mistake */
    if (s == PN_OK && canonical) return PN_OK;
    return damaged(err, s, 0, "JSON that is not canonical");
}

static pn_status check_mpack(const pn_alloc *alloc, pn_bytes mpack, pn_error *err)
{
    pn_buf json;
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_buf_init(&json, alloc);
    pn_status s = pn_mpack_to_json(mpack, &json, &e);
    pn_buf_clear(&json);
    return s == PN_OK ? PN_OK : damaged(err, s, e.offset, e.what);
}

static pn_status check_rows(const pn_alloc *alloc, pn_bytes bytes, bool change, pn_error *err)
{
    pn_rows rows;
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_status s = pn_rows_read(alloc, bytes, change, &rows, &e);
    if (s != PN_OK) return damaged(err, s, e.offset, e.what);
    pn_rows_clear(&rows);
    return PN_OK;
}

pn_status pn_segment_check_value(const pn_alloc *alloc, pn_value_form form, pn_bytes value, uint32_t crc, pn_error *err)
{
    if (pn_crc32c(0, value) != crc) return pn_fail(err, PN_ERR_CORRUPT, 0, "a value's checksum is wrong");
    switch (form) {
    case PN_FORM_JSON: return check_json(alloc, value, err);
    case PN_FORM_MPACK: return check_mpack(alloc, value, err);
    case PN_FORM_STRUCT: return check_rows(alloc, value, false, err);
    case PN_FORM_CHANGE: return check_rows(alloc, value, true, err);
    }
    return pn_fail(err, PN_ERR_INVALID, 0, pn_status_text(PN_ERR_INVALID));
}

/* ---- rows ---- */

/* Scans run over the padding as over numbers, so it must be zero whatever the CRC says. */
static pn_status check_padding(const pn_segment_run *run, pn_error *err)
{
    static const uint8_t zeros[PN_ROW_ALIGN] = {0};
    size_t used = pn_row_used(run->dim, run->encoding), padding = run->row_size - used;
    if (padding == 0) return PN_OK;
    for (size_t at = used; at < run->rows * run->row_size; at += run->row_size)
        if (memcmp(run->data + at, zeros, padding) != 0)
            return pn_fail(err, PN_ERR_CORRUPT, at, "the padding of a row is not zero");
    return PN_OK;
}

pn_status pn_segment_check_run(const pn_segment_run *run, pn_error *err)
{
    pn_bytes block = {run->data, run->rows * run->row_size};
    if (pn_crc32c(0, block) != run->crc) return pn_fail(err, PN_ERR_CORRUPT, 0, "a vector block's checksum is wrong");
    return check_padding(run, err);
}

/* ---- the whole ---- */

typedef struct check {
    const pn_segment *s;
    pn_error *err;
} check;

static uint64_t offset_of(const check *c, const uint8_t *p) { return (uint64_t)(p - pn_blob_view(c->s->blob).ptr); }

/* Passes a failure on, its offset moved to the file's beginning. */
static pn_status at_place(const check *c, pn_status s, const pn_error *e, const uint8_t *from)
{
    return s == PN_OK ? PN_OK : pn_fail(c->err, s, s == PN_ERR_CORRUPT ? offset_of(c, from) + e->offset : 0, e->what);
}

static pn_status check_runs(const check *c, const pn_segment_table *t)
{
    for (size_t i = 0; i < t->run_count; i++) {
        pn_error e;
        PN_TRY(at_place(c, pn_segment_check_run(&t->runs[i], &e), &e, t->runs[i].data));
    }
    return PN_OK;
}

static pn_status check_key(const check *c, pn_omap *keys, pn_bytes key)
{
    void *value;
    bool added;
    if (pn_omap_put(keys, key, c->s->blob, &value, &added) != PN_OK)
        return pn_fail(c->err, PN_ERR_NOMEM, 0, pn_status_text(PN_ERR_NOMEM));
    return added ? PN_OK : pn_fail(c->err, PN_ERR_CORRUPT, offset_of(c, key.ptr), "a key occurs twice in a table");
}

static pn_status check_entry(const check *c, const pn_segment_table *t, const pn_segment_entry *e)
{
    pn_error why;
    if (t->type != PN_TABLE_VALUES || e->op == PN_ENTRY_REMOVE) return PN_OK;
    pn_status s = pn_segment_check_value(c->s->alloc, (pn_value_form)e->form, e->value, e->crc, &why);
    return at_place(c, s, &why, e->value.ptr);
}

static pn_status check_entries(const check *c, const pn_segment_table *t, pn_omap *keys)
{
    pn_segment_entry e = {0};
    while (pn_segment_next(t, &e)) {
        PN_TRY(check_key(c, keys, e.key));
        PN_TRY(check_entry(c, t, &e));
    }
    return PN_OK;
}

static pn_status check_table(const check *c, const pn_segment_table *t)
{
    pn_omap keys;
    PN_TRY(check_runs(c, t));
    pn_omap_init(&keys, c->s->alloc, 1);
    pn_status s = check_entries(c, t, &keys);
    pn_omap_clear(&keys);
    return s;
}

/* ---- what lies between the blocks ---- */

static pn_status add_span(pn_buf *spans, const uint8_t *p, size_t n)
{
    pn_bytes span = {p, n};
    return n > 0 ? pn_buf_append(spans, &span, sizeof span) : PN_OK;
}

static pn_status add_spans(pn_buf *spans, const pn_segment_table *t)
{
    PN_TRY(add_span(spans, t->ops, t->n));
    PN_TRY(add_span(spans, t->key_lens, 4 * t->n));
    PN_TRY(add_span(spans, t->keys, t->keys_size));
    for (size_t i = 0; i < t->run_count; i++)
        PN_TRY(add_span(spans, t->runs[i].data, t->runs[i].rows * t->runs[i].row_size));
    if (t->type == PN_TABLE_VALUES) {
        PN_TRY(add_span(spans, t->value_lens, 4 * t->n));
        PN_TRY(add_span(spans, t->value_crcs, 4 * t->n));
        return add_span(spans, t->values, t->values_size);
    }
    if (t->type != PN_TABLE_STRINGS) return PN_OK;
    PN_TRY(add_span(spans, t->codes, 4 * t->n));
    PN_TRY(add_span(spans, t->string_lens, 4 * t->string_count));
    return add_span(spans, t->strings, t->strings_size);
}

static int by_place(const void *a, const void *b)
{
    const uint8_t *p = ((const pn_bytes *)a)->ptr, *q = ((const pn_bytes *)b)->ptr;
    return (p > q) - (p < q);
}

/* The spans in order; the index, behind the last gap, closes them. */
static pn_status check_gaps(const check *c, const pn_bytes *spans, size_t n)
{
    pn_bytes file = pn_blob_view(c->s->blob);
    const uint8_t *at = file.ptr + PN_SEGMENT_HEAD;
    for (size_t i = 0; i < n; i++) {
        for (; at < spans[i].ptr; at++)
            if (*at != 0) return pn_fail(c->err, PN_ERR_CORRUPT, offset_of(c, at), "bytes that belong to no block");
        if (at > spans[i].ptr) return pn_fail(c->err, PN_ERR_CORRUPT, offset_of(c, spans[i].ptr), "blocks that overlap");
        at += spans[i].len;
    }
    return PN_OK;
}

static pn_status check_between(const check *c, pn_buf *spans)
{
    const pn_segment *s = c->s;
    for (size_t i = 0; i < s->store_count; i++)
        for (size_t k = 0; k < s->stores[i].table_count; k++) PN_TRY(add_spans(spans, &s->stores[i].tables[k]));
    PN_TRY(add_span(spans, pn_blob_view(s->blob).ptr + s->index_at, 1));
    qsort(spans->data, spans->len / sizeof(pn_bytes), sizeof(pn_bytes), by_place);
    return check_gaps(c, (const pn_bytes *)(void *)spans->data, spans->len / sizeof(pn_bytes));
}

pn_status pn_segment_check(const pn_segment *s, pn_error *err)
{
    check c = {s, err};
    pn_buf spans;
    for (size_t i = 0; i < s->store_count; i++)
        for (size_t k = 0; k < s->stores[i].table_count; k++) PN_TRY(check_table(&c, &s->stores[i].tables[k]));
    pn_buf_init(&spans, s->alloc);
    pn_status status = check_between(&c, &spans);
    pn_buf_clear(&spans);
    if (status == PN_ERR_NOMEM) return pn_fail(err, status, 0, pn_status_text(status));
    return status;
}
