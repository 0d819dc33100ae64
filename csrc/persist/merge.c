/* Names first: what the segments say about a store, and then about each of its tables, is
 * listed oldest first, from the last reset on. A table's entries then go through one map,
 * whose order is that of the result, since it keeps the places that the format speaks of:
 * overwriting keeps a key's place, what is fresh is removed and put again. The map holds
 * where a value is; its bytes are read once, when it is written. */
#include "persist/merge.h"

#include "base/crc32c.h"
#include "base/omap.h"
#include "persist/rows.h"

typedef struct merge {
    const pn_alloc *alloc;
    pn_segment *const *segments;
    size_t n;
    bool bottom;
    pn_segment_writer *w;
    pn_buf scratch[2]; /* structs that were put together */
    size_t *bad;
    pn_error *err;
} merge;

static pn_status damaged(const merge *m, size_t segment, const uint8_t *at, uint64_t offset, const char *what)
{
    *m->bad = segment;
    return pn_fail(m->err, PN_ERR_CORRUPT, (uint64_t)(at - pn_blob_view(m->segments[segment]->blob).ptr) + offset, what);
}

/* A check's result, with the offset from the file's beginning. */
static pn_status located(const merge *m, pn_status s, size_t segment, const uint8_t *at, const pn_error *e)
{
    return s == PN_ERR_CORRUPT ? damaged(m, segment, at, e->offset, e->what) : s;
}

/* ---- what is said about a name ---- */

typedef struct mention {
    const void *what; /* a store or a table of a segment */
    uint32_t segment;
    uint32_t next; /* the number, from 1, of the next that counts; 0: there is none */
} mention;

typedef struct topic {
    uint32_t first, last;
    uint8_t kind;  /* a store's, or a table's type */
    uint8_t reset; /* of all mentions together */
} topic;

typedef struct topics {
    pn_omap names; /* name -> topic, in the order of the result */
    pn_buf mentions;
} topics;

static void topics_init(topics *t, const pn_alloc *alloc)
{
    pn_omap_init(&t->names, alloc, sizeof(topic));
    pn_buf_init(&t->mentions, alloc);
}

static void topics_clear(topics *t)
{
    pn_omap_clear(&t->names);
    pn_buf_clear(&t->mentions);
}

static mention *mention_at(const topics *t, uint32_t number)
{
    return number ? (mention *)(void *)t->mentions.data + (number - 1) : NULL;
}

static pn_status mention_add(topics *t, topic *about, const void *what, size_t segment)
{
    mention new = {what, (uint32_t)segment, 0};
    PN_TRY(pn_buf_append(&t->mentions, &new, sizeof new));
    uint32_t number = (uint32_t)(t->mentions.len / sizeof new);
    if (about->last)
        mention_at(t, about->last)->next = number;
    else
        about->first = number;
    about->last = number;
    return PN_OK;
}

static void mentions_forget(topic *about) { about->first = about->last = 0; }

static pn_status topic_of(const merge *m, topics *t, pn_bytes name, size_t segment, topic **out, bool *added)
{
    void *value;
    PN_TRY(pn_omap_put(&t->names, name, m->segments[segment]->blob, &value, added));
    *out = value;
    return PN_OK;
}

/* ---- entries ---- */

typedef struct record {
    const uint8_t *at; /* the value, the string or the row */
    union {
        struct {
            uint32_t len, crc;
        };
        const pn_segment_run *run;
    };
    uint32_t older; /* a change: the number, from 1, of the record that it changes; 0: not in these segments */
    uint16_t part;
    uint8_t op, form;
} record;

/* A segment's entries for the table. */
typedef struct part {
    const pn_segment_table *table;
    size_t segment;
    uint8_t *run_checked; /* a flag for each run */
} part;

typedef struct table {
    merge *m;
    bool alone;   /* older segments say nothing that counts */
    pn_omap keys; /* key -> record */
    pn_buf older; /* records under changes */
    pn_buf parts;
} table;

static part *parts(const table *t) { return (part *)(void *)t->parts.data; }
static size_t part_count(const table *t) { return t->parts.len / sizeof(part); }
static size_t segment_of(const table *t, const record *r) { return parts(t)[r->part].segment; }
static pn_bytes value_of(const record *r) { return (pn_bytes){r->at, r->len}; }
static const record *older_of(const table *t, const record *r)
{
    return (const record *)(void *)t->older.data + (r->older - 1);
}

static record record_of(const pn_segment_entry *e, size_t number)
{
    record r = {.at = e->value.ptr, .part = (uint16_t)number, .op = e->op, .form = e->form};
    if (e->run != NULL) {
        r.at = e->row;
        r.run = e->run;
    } else {
        r.len = (uint32_t)e->value.len;
        r.crc = e->crc;
    }
    return r;
}

/* Both in turn, seen from older segments. */
static uint8_t op_after(uint8_t first, uint8_t second)
{
    if (second != PN_ENTRY_PUT) return second;
    return first == PN_ENTRY_REMOVE ? PN_ENTRY_FRESH : first;
}

static bool goes_to_the_end(uint8_t first, uint8_t second)
{
    return second == PN_ENTRY_FRESH || (second == PN_ENTRY_PUT && first == PN_ENTRY_REMOVE);
}

static pn_status find_key(table *t, pn_bytes key, size_t segment, record **out, bool *added)
{
    void *value;
    PN_TRY(pn_omap_put(&t->keys, key, t->m->segments[segment]->blob, &value, added));
    *out = value;
    return PN_OK;
}

static pn_status move_to_the_end(table *t, pn_bytes key, size_t segment, record **out)
{
    bool added;
    pn_omap_remove(&t->keys, key, NULL);
    return find_key(t, key, segment, out, &added);
}

/* An entry behind another of its key. */
static pn_status overlay(table *t, const pn_segment_entry *e, size_t segment, record *new, record **at)
{
    record old = **at;
    if (e->form == PN_FORM_CHANGE && old.op != PN_ENTRY_REMOVE) {
        PN_TRY(pn_buf_append(&t->older, &old, sizeof old));
        new->older = (uint32_t)(t->older.len / sizeof old);
    }
    new->op = op_after(old.op, e->op);
    return goes_to_the_end(old.op, e->op) ? move_to_the_end(t, e->key, segment, at) : PN_OK;
}

static pn_status take_entry(table *t, const pn_segment_entry *e, size_t number)
{
    record new = record_of(e, number), *at;
    size_t segment = segment_of(t, &new);
    bool added;
    PN_TRY(find_key(t, e->key, segment, &at, &added));
    if (!added && at->part == number) return damaged(t->m, segment, e->key.ptr, 0, "a key occurs twice in a table");
    if (!added) PN_TRY(overlay(t, e, segment, &new, &at));
    *at = new;
    return PN_OK;
}

static pn_status add_part(table *t, const pn_segment_table *from, size_t segment)
{
    part p = {from, segment, NULL};
    if (from->run_count > 0) {
        p.run_checked = pn_alloc_zero(t->m->alloc, from->run_count, 1);
        PN_FAIL_IF(p.run_checked == NULL, PN_ERR_NOMEM);
    }
    pn_status s = pn_buf_append(&t->parts, &p, sizeof p);
    if (s != PN_OK) pn_alloc_put(t->m->alloc, p.run_checked);
    return s;
}

static pn_status take_entries(table *t, const pn_segment_table *from, size_t segment)
{
    size_t number = part_count(t);
    pn_segment_entry e = {0};
    PN_TRY(add_part(t, from, segment));
    if (from->n > pn_omap_len(&t->keys)) PN_TRY(pn_omap_reserve(&t->keys, from->n));
    while (pn_segment_next(from, &e)) PN_TRY(take_entry(t, &e, number));
    return PN_OK;
}

static void table_init(table *t, merge *m, bool alone)
{
    *t = (table){.m = m, .alone = alone};
    pn_omap_init(&t->keys, m->alloc, sizeof(record));
    pn_buf_init(&t->older, m->alloc);
    pn_buf_init(&t->parts, m->alloc);
}

static void table_clear(table *t)
{
    for (size_t i = 0; i < part_count(t); i++) pn_alloc_put(t->m->alloc, parts(t)[i].run_checked);
    pn_omap_clear(&t->keys);
    pn_buf_clear(&t->older);
    pn_buf_clear(&t->parts);
}

/* ---- changes of structs ---- */

static pn_status wrong_value(const table *t, const record *r, const char *what)
{
    return damaged(t->m, segment_of(t, r), r->at, 0, what);
}

static pn_status read_struct(const table *t, const record *r, pn_rows *out)
{
    pn_error e = {PN_OK, 0, 0, NULL};
    if (pn_crc32c(0, value_of(r)) != r->crc) return wrong_value(t, r, "a value's checksum is wrong");
    pn_status s = pn_rows_read(t->m->alloc, value_of(r), r->form == PN_FORM_CHANGE, out, &e);
    return located(t->m, s, segment_of(t, r), r->at, &e);
}

/* The change `newer`, which is r with what followed it, behind the record below r. */
static pn_status join(const table *t, const record *r, const pn_rows *newer, pn_buf *out)
{
    pn_rows base;
    pn_error e = {PN_OK, 0, 0, NULL};
    const record *older = older_of(t, r);
    if (older->form < PN_FORM_STRUCT) return wrong_value(t, r, "a change of a value that is no struct");
    PN_TRY(read_struct(t, older, &base));
    out->len = 0;
    pn_status s = base.change ? pn_rows_combine(&base, newer, out, &e) : pn_rows_apply(&base, newer, out, &e);
    pn_rows_clear(&base);
    return located(t->m, s, segment_of(t, r), r->at, &e);
}

/* Joins r with all records below it. From the newest down, so that a large struct at the
 * bottom is copied once; *out is one of the scratch buffers, or r's own bytes. */
static pn_status fold(table *t, const record *r, pn_bytes *out, uint8_t *form)
{
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_rows newer = {.alloc = t->m->alloc};
    pn_status s = read_struct(t, r, &newer);
    *out = value_of(r);
    for (int turn = 0; s == PN_OK && r->older; turn ^= 1) {
        s = join(t, r, &newer, &t->m->scratch[turn]);
        pn_rows_clear(&newer);
        *out = pn_buf_view(&t->m->scratch[turn]);
        r = older_of(t, r);
        if (s == PN_OK && r->older)
            s = located(t->m, pn_rows_read(t->m->alloc, *out, true, &newer, &e), segment_of(t, r), r->at, &e);
    }
    pn_rows_clear(&newer);
    *form = r->form;
    return s;
}

static pn_status put_changed(table *t, pn_bytes key, uint8_t op, const record *r)
{
    pn_bytes value;
    uint8_t form;
    PN_TRY(fold(t, r, &value, &form));
    if (form == PN_FORM_CHANGE && (t->alone || op == PN_ENTRY_FRESH))
        return wrong_value(t, r, "a change of a value that is not there");
    return pn_segment_put_value(t->m->w, (pn_entry_op)op, key, (pn_value_form)form, value);
}

/* ---- writing a table ---- */

static pn_status put_value(table *t, pn_bytes key, uint8_t op, const record *r)
{
    pn_error e = {PN_OK, 0, 0, NULL};
    if (r->form == PN_FORM_CHANGE) return put_changed(t, key, op, r);
    pn_status s = pn_segment_check_value(t->m->alloc, (pn_value_form)r->form, value_of(r), r->crc, &e);
    PN_TRY(located(t->m, s, segment_of(t, r), r->at, &e));
    return pn_segment_put_value(t->m->w, (pn_entry_op)op, key, (pn_value_form)r->form, value_of(r));
}

static pn_status check_run(table *t, const record *r)
{
    pn_error e = {PN_OK, 0, 0, NULL};
    const part *p = &parts(t)[r->part];
    uint8_t *checked = &p->run_checked[r->run - p->table->runs];
    if (*checked) return PN_OK;
    PN_TRY(located(t->m, pn_segment_check_run(r->run, &e), p->segment, r->run->data, &e));
    *checked = 1;
    return PN_OK;
}

static pn_status put_row(table *t, pn_bytes key, uint8_t op, const record *r)
{
    PN_TRY(check_run(t, r));
    return pn_segment_put_row(t->m->w, (pn_entry_op)op, key, r->run->dim, r->run->encoding, r->at);
}

static pn_status put_entry(table *t, uint8_t type, pn_bytes key, const record *r)
{
    if (r->op == PN_ENTRY_REMOVE) return t->alone ? PN_OK : pn_segment_remove(t->m->w, key);
    uint8_t op = t->alone ? (uint8_t)PN_ENTRY_PUT : r->op;
    if (type == PN_TABLE_VALUES) return put_value(t, key, op, r);
    if (type == PN_TABLE_VECTORS) return put_row(t, key, op, r);
    return pn_segment_put_string(t->m->w, (pn_entry_op)op, key, value_of(r));
}

static pn_status put_entries(table *t, uint8_t type)
{
    size_t pos = 0;
    pn_bytes key;
    void *value;
    while (pn_omap_next(&t->keys, &pos, &key, &value)) PN_TRY(put_entry(t, type, key, value));
    return PN_OK;
}

static pn_status merge_entries(merge *m, const topics *tables, const topic *about, bool alone)
{
    table t;
    pn_status s = PN_OK;
    table_init(&t, m, alone);
    for (const mention *at = mention_at(tables, about->first); s == PN_OK && at; at = mention_at(tables, at->next))
        s = take_entries(&t, at->what, at->segment);
    if (s == PN_OK) s = put_entries(&t, about->kind);
    table_clear(&t);
    return s;
}

static pn_status merge_table(merge *m, pn_bytes name, const topics *tables, const topic *about, bool alone)
{
    if (alone && about->reset == PN_TABLE_DROPPED) return PN_OK;
    pn_table_reset reset = alone ? PN_TABLE_KEEPS : (pn_table_reset)about->reset;
    PN_TRY(pn_segment_begin_table(m->w, name, (pn_table_type)about->kind, reset));
    return merge_entries(m, tables, about, alone || reset != PN_TABLE_KEEPS);
}

/* ---- tables of a store ---- */

/* Both in turn, seen from older segments. */
static uint8_t reset_after(uint8_t first, uint8_t second)
{
    if (second == PN_TABLE_DROPPED || second == PN_TABLE_FRESH) return second;
    if (first == PN_TABLE_DROPPED) return PN_TABLE_FRESH;
    return first == PN_TABLE_KEEPS ? second : first;
}

/* A table that was dropped, or is, stands behind the others when it is there again. */
static pn_status move_table(const merge *m, topics *tables, const pn_segment_table *t, size_t segment, topic **about)
{
    topic was;
    bool added;
    pn_omap_remove(&tables->names, t->name, &was);
    PN_TRY(topic_of(m, tables, t->name, segment, about, &added));
    **about = was;
    return PN_OK;
}

static pn_status note_table(const merge *m, topics *tables, const pn_segment_table *t, size_t segment)
{
    topic *about;
    bool added;
    PN_TRY(topic_of(m, tables, t->name, segment, &about, &added));
    bool dropped = !added && about->reset == PN_TABLE_DROPPED;
    if (!added && (dropped || t->reset == PN_TABLE_FRESH)) PN_TRY(move_table(m, tables, t, segment, &about));
    if (t->reset != PN_TABLE_KEEPS) mentions_forget(about);
    about->kind = t->type; /* one and the same: store's kind and name leave no choice */
    about->reset = added ? t->reset : reset_after(about->reset, t->reset);
    return mention_add(tables, about, t, segment);
}

static pn_status note_tables(const merge *m, topics *tables, const mention *at)
{
    const pn_segment_store *store = at->what;
    for (size_t i = 0; i < store->table_count; i++) PN_TRY(note_table(m, tables, &store->tables[i], at->segment));
    return PN_OK;
}

static pn_status put_tables(merge *m, const topics *tables, bool alone)
{
    size_t pos = 0;
    pn_bytes name;
    void *about;
    while (pn_omap_next(&tables->names, &pos, &name, &about)) PN_TRY(merge_table(m, name, tables, about, alone));
    return PN_OK;
}

static pn_status merge_tables(merge *m, const topics *stores, const topic *about)
{
    topics tables;
    pn_status s = PN_OK;
    topics_init(&tables, m->alloc);
    for (const mention *at = mention_at(stores, about->first); s == PN_OK && at; at = mention_at(stores, at->next))
        s = note_tables(m, &tables, at);
    if (s == PN_OK) s = put_tables(m, &tables, m->bottom || about->reset);
    topics_clear(&tables);
    return s;
}

/* ---- stores ---- */

static pn_status note_store(const merge *m, topics *stores, const pn_segment_store *store, size_t segment)
{
    topic *about;
    bool added;
    PN_TRY(topic_of(m, stores, store->name, segment, &about, &added));
    if (store->reset)
        mentions_forget(about);
    else if (!added && about->kind != store->kind)
        return damaged(m, segment, store->name.ptr, 0, "a store of another kind than before");
    about->kind = store->kind;
    about->reset |= store->reset;
    return mention_add(stores, about, store, segment);
}

static pn_status note_stores(const merge *m, topics *stores)
{
    for (size_t i = 0; i < m->n; i++)
        for (size_t k = 0; k < m->segments[i]->store_count; k++)
            PN_TRY(note_store(m, stores, &m->segments[i]->stores[k], i));
    return PN_OK;
}

static pn_status put_stores(merge *m, const topics *stores)
{
    size_t pos = 0;
    pn_bytes name;
    void *value;
    while (pn_omap_next(&stores->names, &pos, &name, &value)) {
        const topic *about = value;
        PN_TRY(pn_segment_begin_store(m->w, name, (pn_store_kind)about->kind, about->reset && !m->bottom));
        PN_TRY(merge_tables(m, stores, about));
    }
    return PN_OK;
}

pn_status pn_segment_merge(const pn_alloc *alloc, pn_segment *const *segments, size_t n, bool bottom,
                           pn_segment_writer *w, size_t *bad, pn_error *err)
{
    PN_FAIL_IF(n > UINT16_MAX, PN_ERR_INVALID);
    merge m = {.alloc = alloc, .segments = segments, .n = n, .bottom = bottom, .w = w, .bad = bad, .err = err};
    topics stores;
    topics_init(&stores, alloc);
    pn_buf_init(&m.scratch[0], alloc);
    pn_buf_init(&m.scratch[1], alloc);
    pn_status s = note_stores(&m, &stores);
    if (s == PN_OK) s = put_stores(&m, &stores);
    pn_buf_clear(&m.scratch[0]);
    pn_buf_clear(&m.scratch[1]);
    topics_clear(&stores);
    return s;
}
