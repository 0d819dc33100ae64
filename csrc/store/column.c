#include "store/column.h"

#include "base/hash.h"

enum { UNKNOWN, LONG, FIRST, LONGEST_KEPT = 200 };

typedef struct stored {
    size_t offset; /* of the text */
    uint32_t len, hash;
    uint8_t kind;
    bool is_int;
    union {
        int64_t i;
        double d;
    } number;
} stored;

struct pn_column {
    const pn_alloc *alloc;
    pn_buf key;
    uint32_t *codes;
    size_t code_count;
    stored *values;
    size_t value_count, value_cap;
    pn_buf texts;
    uint32_t *index; /* of values by text: code, 0 free */
    size_t mask;
    uint64_t seed, view_builds, renumbered, used_at;
};

void pn_columns_init(pn_columns *c, const pn_alloc *alloc) { *c = (pn_columns){.alloc = alloc}; }

/* ---- one column ---- */

static pn_status column_new(const pn_alloc *alloc, pn_bytes key, pn_column **out)
{
    pn_column *c = pn_alloc_zero(alloc, 1, sizeof *c);
    PN_FAIL_IF(c == NULL, PN_ERR_NOMEM);
    c->alloc = alloc;
    c->seed = pn_hash_seed();
    pn_buf_init(&c->key, alloc);
    pn_buf_init(&c->texts, alloc);
    *out = c;
    return pn_buf_append(&c->key, key.ptr, key.len);
}

static void column_empty(pn_column *c)
{
    pn_alloc_put(c->alloc, c->codes);
    pn_alloc_put(c->alloc, c->values);
    pn_alloc_put(c->alloc, c->index);
    pn_buf_clear(&c->texts);
    c->codes = NULL;
    c->values = NULL;
    c->index = NULL;
    c->code_count = c->value_count = c->value_cap = c->mask = 0;
    c->view_builds = 0;
}

static void column_free(pn_column *c)
{
    column_empty(c);
    pn_buf_clear(&c->key);
    pn_alloc_put(c->alloc, c);
}

static pn_bytes text_of(const pn_column *c, const stored *s)
{
    return (pn_bytes){s->len ? c->texts.data + s->offset : NULL, s->len};
}

static pn_status grow_index(pn_column *c)
{
    if (c->mask != 0 && c->value_count < c->mask / 2) return PN_OK;
    size_t slots = c->mask ? (c->mask + 1) * 2 : 16;
    uint32_t *index = pn_alloc_zero(c->alloc, slots, sizeof *index);
    PN_FAIL_IF(index == NULL, PN_ERR_NOMEM);
    for (size_t k = 0; k < c->value_count; k++) {
        size_t at = c->values[k].hash & (slots - 1);
        while (index[at] != 0) at = (at + 1) & (slots - 1);
        index[at] = (uint32_t)k + FIRST;
    }
    pn_alloc_put(c->alloc, c->index);
    c->index = index;
    c->mask = slots - 1;
    return PN_OK;
}

static pn_status grow_values(pn_column *c)
{
    if (c->value_count < c->value_cap) return PN_OK;
    size_t cap = c->value_cap + c->value_cap / 2 + 16;
    stored *p = pn_alloc_grow(c->alloc, c->values, cap * sizeof *p);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    c->values = p;
    c->value_cap = cap;
    return PN_OK;
}

static pn_status add_value(pn_column *c, pn_bytes text, uint32_t hash)
{
    PN_TRY(grow_values(c));
    size_t offset = c->texts.len;
    PN_TRY(pn_buf_append(&c->texts, text.ptr, text.len));
    pn_value v = pn_filter_classify(text);
    stored s = {.offset = offset, .len = (uint32_t)text.len, .hash = hash, .kind = (uint8_t)v.kind, .is_int = v.is_int};
    if (v.is_int) s.number.i = v.i;
    else s.number.d = v.d;
    c->values[c->value_count++] = s;
    return PN_OK;
}

/* The code of a value's text, which may be {NULL, 0} for none. */
static pn_status code_of(pn_column *c, pn_bytes text, uint32_t *out)
{
    *out = LONG;
    if (text.len > LONGEST_KEPT) return PN_OK;
    PN_TRY(grow_index(c));
    uint32_t hash = (uint32_t)pn_hash_bytes(text, c->seed), code;
    size_t at = hash & c->mask;
    for (; (code = c->index[at]) != 0; at = (at + 1) & c->mask) {
        const stored *s = &c->values[code - FIRST];
        if (s->hash == hash && pn_bytes_equal(text_of(c, s), text)) return *out = code, PN_OK;
    }
    PN_TRY(add_value(c, text, hash));
    *out = c->index[at] = (uint32_t)c->value_count - 1 + FIRST;
    return PN_OK;
}

static pn_value value_of_code(const pn_column *c, uint32_t code)
{
    const stored *s = &c->values[code - FIRST];
    pn_value v = {.kind = (pn_value_kind)s->kind, .is_int = s->is_int, .text = text_of(c, s)};
    if (v.is_int) v.i = s->number.i;
    else v.d = s->number.d;
    if (v.kind == PN_VALUE_STRING) v.text = (pn_bytes){v.text.ptr + 1, v.text.len - 2};
    return v;
}

static pn_status room_for_slots(pn_column *c, size_t count)
{
    if (c->code_count >= count) return PN_OK;
    size_t want = count + count / 8;
    PN_FAIL_IF(want > SIZE_MAX / sizeof *c->codes, PN_ERR_NOMEM);
    uint32_t *p = pn_alloc_grow(c->alloc, c->codes, want * sizeof *p);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    memset(p + c->code_count, 0, (want - c->code_count) * sizeof *p);
    c->codes = p;
    c->code_count = want;
    return PN_OK;
}

/* Looks at the texts of the view that were not looked at yet. */
static pn_status column_update(pn_column *c, const pn_vec *v, const pn_rowview *w, const pn_filter *f)
{
    if (c->renumbered != w->renumbered) column_empty(c);
    c->renumbered = w->renumbered;
    if (c->view_builds == w->builds) return PN_OK;
    PN_TRY(room_for_slots(c, (size_t)w->last_slot + 1));
    size_t pos = 0;
    for (size_t i = 0; i < w->n; i++) {
        uint32_t slot = w->slots[i];
        pn_bytes text;
        if (slot == 0 || c->codes[slot] != UNKNOWN) continue;
        if (pn_vec_text(v, pn_rowview_cell(v, w->rows[i], &pos), &text) != PN_OK) continue; /* asked about */
        if (text.len < 2 || text.ptr[0] != '{') continue;
        PN_TRY(code_of(c, pn_filter_find(f, text), &c->codes[slot]));
    }
    c->view_builds = w->builds;
    return PN_OK;
}

/* ---- all columns ---- */

void pn_columns_clear(pn_columns *c)
{
    for (size_t i = 0; i < c->count; i++) column_free(c->items[i]);
    pn_columns_init(c, c->alloc);
}

static size_t least_used(const pn_columns *c)
{
    size_t least = 0;
    for (size_t i = 1; i < c->count; i++)
        if (c->items[i]->used_at < c->items[least]->used_at) least = i;
    return least;
}

static pn_status add_column(pn_columns *c, pn_bytes key, pn_column **out)
{
    pn_column *made = NULL;
    pn_status s = column_new(c->alloc, key, &made);
    if (s != PN_OK) {
        if (made != NULL) column_free(made);
        return s;
    }
    size_t at = c->count;
    if (at < PN_COLUMN_MAX) c->count++;
    else column_free(c->items[at = least_used(c)]);
    *out = c->items[at] = made;
    return PN_OK;
}

static pn_status column_for(pn_columns *c, pn_bytes key, pn_column **out)
{
    *out = NULL;
    for (size_t i = 0; i < c->count && *out == NULL; i++)
        if (pn_bytes_equal(pn_buf_view(&c->items[i]->key), key)) *out = c->items[i];
    if (*out == NULL) PN_TRY(add_column(c, key, out));
    (*out)->used_at = ++c->tick;
    return PN_OK;
}

/* ---- evaluation ---- */

/* What the filters said so far of a row, and of a value: bits. */
enum { SAID_YES = 1, SAID_NO = 2, SAID_ASK = 4 };

static uint8_t said(pn_match m) { return m == PN_MATCH_YES ? SAID_YES : m == PN_MATCH_NO ? SAID_NO : SAID_ASK; }

static uint8_t eval_text(const pn_vec *v, const pn_vec_row *row, const pn_filter *f, pn_buf *scratch)
{
    size_t pos = SIZE_MAX;
    pn_bytes text;
    const pn_vec_cell *cell = pn_rowview_cell(v, row, &pos);
    if (pn_vec_text(v, cell, &text) != PN_OK) return SAID_ASK;
    pn_value value = pn_filter_classify(pn_filter_find(f, text));
    return said(pn_filter_eval_value(f, &value, scratch));
}

/* One filter on all rows. memo: a byte a code, zeroed. */
static void eval_rows(const pn_column *c, const pn_vec *v, const pn_rowview *w, const pn_filter *f, uint8_t *memo,
                      pn_buf *scratch, uint8_t *bits)
{
    memo[UNKNOWN] = SAID_ASK;
    for (size_t i = 0; i < w->n; i++) {
        uint32_t slot = w->slots[i], code = slot ? c->codes[slot] : UNKNOWN;
        uint8_t b = memo[code];
        if (b == 0 && code == LONG) b = eval_text(v, w->rows[i], f, scratch);
        else if (b == 0) {
            pn_value value = value_of_code(c, code);
            b = memo[code] = said(pn_filter_eval_value(f, &value, scratch));
        }
        bits[i] |= b;
    }
}

static pn_status eval_filter(pn_columns *all, const pn_vec *v, const pn_rowview *w, const pn_filter *f,
                             pn_buf *scratch, uint8_t *bits)
{
    pn_column *c;
    PN_TRY(column_for(all, f->key, &c));
    PN_TRY(column_update(c, v, w, f));
    uint8_t *memo = pn_alloc_zero(all->alloc, c->value_count + FIRST, 1);
    PN_FAIL_IF(memo == NULL, PN_ERR_NOMEM);
    eval_rows(c, v, w, f, memo, scratch, bits);
    pn_alloc_put(all->alloc, memo);
    return PN_OK;
}

pn_status pn_columns_eval(pn_columns *c, pn_vec *v, pn_rowview *w, const pn_filter_set *set, pn_buf *scratch,
                          uint8_t *out)
{
    PN_TRY(pn_rowview_update(w, v, true));
    memset(out, 0, w->n);
    for (size_t i = 0; i < set->n; i++) PN_TRY(eval_filter(c, v, w, &set->filters[i], scratch, out));
    for (size_t i = 0; i < w->n; i++) {
        pn_match m = pn_filter_combine(set->condition, !(out[i] & SAID_NO), out[i] & SAID_YES);
        out[i] = (uint8_t)(out[i] & SAID_ASK ? PN_MATCH_ASK : m);
    }
    return PN_OK;
}
