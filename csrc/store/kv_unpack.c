/* kv_unpack.c: a key-value store from the segments of a pack.
 *
 * Segments are applied oldest first. A value is not looked at: its span, its form and its
 * checksum become a PACKED cell. Only index structs are read, when all segments have been
 * applied: a struct and the changes that later segments make of it become columns.
 *
 * A key twice in a table of one segment is found without a set of those seen: what this
 * segment put lies in its blob; only keys that it removed are kept for a time.
 */
#include "store/kv_pack.h"

#include "base/crc32c.h"
#include "store/struct_pack.h"

/* A change of a struct, in turn: the one before it is older. */
typedef struct change {
    struct change *before;
    struct change *made; /* the one that was made before: all are freed at the end */
    pn_bytes bytes;
    uint32_t crc;
    size_t segment;
} change;

typedef struct unpacking {
    pn_kv *kv;
    pn_bytes name;
    pn_segment *const *segments;
    size_t n;
    size_t at; /* the segment that is applied */
    change *made;
    pn_omap removed; /* keys that the table of this segment removed */
    size_t *bad;
    pn_error *err;
} unpacking;

static pn_blob *blob_of(const unpacking *u) { return u->segments[u->at]->blob; }

/* Something is wrong at a place in segment `number`. */
static pn_status corrupt_at(const unpacking *u, size_t number, const uint8_t *place, uint64_t further, const char *what)
{
    if (u->bad != NULL) *u->bad = number;
    uint64_t offset = (uint64_t)(place - pn_blob_view(u->segments[number]->blob).ptr);
    return pn_fail(u->err, PN_ERR_CORRUPT, offset + further, what);
}

static pn_status corrupt(const unpacking *u, pn_bytes place, const char *what)
{
    return corrupt_at(u, u->at, place.ptr, 0, what);
}

static pn_status twice(const unpacking *u, pn_bytes key) { return corrupt(u, key, "a key occurs twice in a table"); }

/* ---- entries ---- */

static change **last_change(pn_coll *coll, pn_bytes key) { return pn_omap_get(&coll->structs, key); }

static bool is_struct(const pn_cell *cell) { return cell->kind == PN_CELL_PACKED && cell->form == PN_FORM_STRUCT; }

/* The cell that an entry displaces goes. */
static pn_status displace(unpacking *u, pn_coll *coll, pn_bytes key, pn_cell *old)
{
    bool again = old->span.blob == blob_of(u);
    if (is_struct(old)) {
        const change *last = *last_change(coll, key);
        again = again || (last != NULL && last->segment == u->at);
    }
    pn_cell_release(old, &u->kv->host);
    return again ? twice(u, key) : PN_OK;
}

/* A struct of which nothing is changed yet, whatever the key had before. */
static pn_status note_struct(unpacking *u, pn_coll *coll, pn_bytes key)
{
    void *last;
    bool added;
    PN_TRY(pn_omap_put(&coll->structs, key, blob_of(u), &last, &added));
    *(change **)last = NULL;
    return PN_OK;
}

static pn_status put_value(unpacking *u, pn_coll *coll, const pn_segment_entry *e, uint32_t hash)
{
    void *slot;
    bool added;
    PN_TRY(pn_omap_put_hashed(&coll->cells, e->key, hash, blob_of(u), &slot, &added));
    if (!added) {
        pn_cell old = *(pn_cell *)slot;
        *(pn_cell *)slot = (pn_cell){.kind = PN_CELL_EMPTY};
        PN_TRY(displace(u, coll, e->key, &old));
        if (e->op == PN_ENTRY_FRESH) {
            (void)pn_omap_remove(&coll->cells, e->key, NULL);
            PN_TRY(pn_omap_put(&coll->cells, e->key, blob_of(u), &slot, &added));
        }
    }
    *(pn_cell *)slot = pn_cell_packed(blob_of(u), e->value, e->form, e->crc);
    return e->form == PN_FORM_STRUCT ? note_struct(u, coll, e->key) : PN_OK;
}

static pn_status put_change(unpacking *u, pn_coll *coll, const pn_segment_entry *e)
{
    const pn_cell *cell = pn_coll_get(coll, e->key);
    if (cell == NULL || !is_struct(cell)) return corrupt(u, e->key, "a change of an index struct that is not there");
    change **last = last_change(coll, e->key);
    if (cell->span.blob == blob_of(u) || (*last != NULL && (*last)->segment == u->at)) return twice(u, e->key);
    change *made = pn_alloc_get(u->kv->alloc, sizeof *made);
    PN_FAIL_IF(made == NULL, PN_ERR_NOMEM);
    *made = (change){*last, u->made, e->value, e->crc, u->at};
    *last = u->made = made;
    return PN_OK;
}

static pn_status remove_value(unpacking *u, pn_coll *coll, const pn_segment_entry *e)
{
    void *unused;
    bool added;
    pn_cell old;
    PN_TRY(pn_omap_put(&u->removed, e->key, blob_of(u), &unused, &added));
    return pn_omap_remove(&coll->cells, e->key, &old) ? displace(u, coll, e->key, &old) : PN_OK;
}

static pn_status apply_entry(unpacking *u, pn_coll *coll, const pn_segment_entry *e, uint32_t hash)
{
    if (pn_omap_len(&u->removed) && pn_omap_get(&u->removed, e->key) != NULL) return twice(u, e->key);
    if (e->op == PN_ENTRY_REMOVE) return remove_value(u, coll, e);
    return e->form == PN_FORM_CHANGE ? put_change(u, coll, e) : put_value(u, coll, e, hash);
}

/* Entries on their way: AHEAD of them are known, so that what each needs of the map is
 * there when its turn comes. */
enum { AHEAD = 16 };

typedef struct lookahead {
    pn_segment_entry walk; /* the last one known */
    pn_segment_entry entries[AHEAD];
    uint32_t hashes[AHEAD];
    size_t known, taken;
} lookahead;

/* False at the end. */
static bool look_ahead(lookahead *q, const pn_segment_table *t, const pn_omap *map)
{
    while (q->known - q->taken < AHEAD && pn_segment_next(t, &q->walk)) {
        q->entries[q->known % AHEAD] = q->walk;
        q->hashes[q->known % AHEAD] = pn_omap_near(map, q->walk.key);
        q->known++;
    }
    size_t half = q->taken + AHEAD / 2;
    if (half < q->known) pn_omap_nearer(map, q->hashes[half % AHEAD]);
    return q->taken < q->known;
}

static pn_status apply_entries(unpacking *u, pn_coll *coll, const pn_segment_table *t)
{
    lookahead q = {.known = 0};
    pn_status s = PN_OK;
    while (s == PN_OK && look_ahead(&q, t, &coll->cells)) {
        size_t i = q.taken++ % AHEAD;
        s = apply_entry(u, coll, &q.entries[i], q.hashes[i]);
    }
    pn_omap_clear(&u->removed);
    return s;
}

/* ---- tables ---- */

static const pn_segment_table *find_table(const pn_segment_store *store, pn_bytes name)
{
    for (size_t i = 0; store != NULL && i < store->table_count; i++)
        if (pn_bytes_equal(store->tables[i].name, name)) return &store->tables[i];
    return NULL;
}

/* Room for the entries of the table in this segment and in later ones. */
static pn_status make_room(const unpacking *u, pn_coll *coll, pn_bytes table)
{
    size_t n = 0;
    for (size_t i = u->at; i < u->n; i++) {
        const pn_segment_table *t = find_table(pn_segment_find(u->segments[i], u->name), table);
        if (t != NULL) n += t->n;
    }
    return n ? pn_omap_reserve(&coll->cells, n) : PN_OK;
}

static void drop(unpacking *u, pn_bytes name) { pn_coll_free(pn_kv_drop(u->kv, name), u->kv->alloc, &u->kv->host); }

static void empty(unpacking *u, pn_coll *coll)
{
    size_t pos = 0;
    pn_bytes key;
    void *cell;
    while (pn_omap_next(&coll->cells, &pos, &key, &cell)) pn_cell_release(cell, &u->kv->host);
    pn_omap_clear(&coll->cells);
}

static pn_status apply_table(unpacking *u, const pn_segment_table *t)
{
    pn_coll *coll;
    if (t->reset == PN_TABLE_DROPPED || t->reset == PN_TABLE_FRESH) drop(u, t->name);
    if (t->reset == PN_TABLE_DROPPED) return PN_OK;
    PN_TRY(pn_kv_collection(u->kv, t->name, &coll));
    if (t->reset == PN_TABLE_EMPTIED) empty(u, coll);
    if (pn_omap_len(&coll->cells) == 0) PN_TRY(make_room(u, coll, t->name));
    return apply_entries(u, coll, t);
}

static pn_status apply_segment(unpacking *u)
{
    const pn_segment_store *store = pn_segment_find(u->segments[u->at], u->name);
    if (store == NULL) return PN_OK;
    if (store->kind != PN_STORE_COLLECTIONS) return corrupt(u, store->name, "a store of another kind");
    for (size_t i = 0; i < store->table_count; i++) PN_TRY(apply_table(u, &store->tables[i]));
    return PN_OK;
}

/* ---- index structs ---- */

static size_t segment_of(const unpacking *u, const pn_blob *blob)
{
    size_t i = 0;
    while (u->segments[i]->blob != blob) i++;
    return i;
}

/* A value as rows, once its checksum was found right. */
static pn_status read_rows(const unpacking *u, size_t segment, pn_bytes bytes, uint32_t crc, bool is_change, pn_rows *out)
{
    pn_error e = {PN_OK, 0, 0, NULL};
    if (pn_crc32c(0, bytes) != crc) return corrupt_at(u, segment, bytes.ptr, 0, "a value's checksum is wrong");
    pn_status s = pn_rows_read(u->kv->alloc, bytes, is_change, out, &e);
    return s == PN_ERR_CORRUPT ? corrupt_at(u, segment, bytes.ptr, e.offset, e.what) : s;
}

/* The changes of one struct as they are combined; rows point into `bytes`, or into the
 * segment of the only one. */
typedef struct combined {
    pn_rows rows;
    pn_buf bytes;
    bool any;
} combined;

static pn_status combine(const unpacking *u, combined *all, const change *c)
{
    pn_rows next;
    pn_buf bytes;
    pn_error e = {PN_OK, 0, 0, NULL};
    PN_TRY(read_rows(u, c->segment, c->bytes, c->crc, true, all->any ? &next : &all->rows));
    if (!all->any) {
        all->any = true;
        return PN_OK;
    }
    pn_buf_init(&bytes, u->kv->alloc);
    pn_status s = pn_rows_combine(&all->rows, &next, &bytes, &e);
    if (s == PN_ERR_CORRUPT) s = corrupt_at(u, c->segment, c->bytes.ptr, e.offset, e.what);
    pn_rows_clear(&next);
    pn_rows_clear(&all->rows);
    pn_buf_clear(&all->bytes);
    all->bytes = bytes;
    all->any = s == PN_OK;
    if (s == PN_OK) s = pn_rows_read(u->kv->alloc, pn_buf_view(&all->bytes), true, &all->rows, &e);
    if (s == PN_ERR_CORRUPT) s = corrupt_at(u, c->segment, c->bytes.ptr, 0, e.what);
    all->any = s == PN_OK;
    return s;
}

/* The changes were linked newest first; oldest first they are applied. */
static const change *oldest_first(change *last)
{
    change *first = NULL;
    for (change *c = last, *before; c != NULL; c = before) {
        before = c->before;
        c->before = first;
        first = c;
    }
    return first;
}

/* The struct of its rows and of all changes, as one. */
static pn_status build(const unpacking *u, const pn_rows *base, change *last, pn_struct **out)
{
    combined all = {.any = false};
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_buf_init(&all.bytes, u->kv->alloc);
    pn_status s = PN_OK;
    for (const change *c = oldest_first(last); c != NULL && s == PN_OK; c = c->before) s = combine(u, &all, c);
    if (s == PN_OK) {
        s = pn_struct_unpack(u->kv->alloc, base, all.any ? &all.rows : NULL, out, &e);
        if (s == PN_ERR_CORRUPT && last != NULL) s = corrupt_at(u, last->segment, last->bytes.ptr, e.offset, e.what);
    }
    if (all.any) pn_rows_clear(&all.rows);
    pn_buf_clear(&all.bytes);
    return s;
}

static pn_status lay_out(const unpacking *u, pn_cell *cell, change *last)
{
    pn_rows base;
    pn_struct *s;
    PN_TRY(read_rows(u, segment_of(u, cell->span.blob), pn_cell_span(cell), cell->crc, false, &base));
    pn_status status = build(u, &base, last, &s);
    pn_rows_clear(&base);
    PN_TRY(status);
    pn_cell_release(cell, &u->kv->host);
    *cell = (pn_cell){.kind = PN_CELL_STRUCT, .structure = s};
    return PN_OK;
}

static pn_status lay_out_structs(const unpacking *u, pn_coll *coll)
{
    size_t pos = 0;
    pn_bytes key;
    void *last;
    while (pn_omap_next(&coll->structs, &pos, &key, &last)) {
        pn_cell *cell = pn_coll_get(coll, key);
        if (cell != NULL && is_struct(cell)) PN_TRY(lay_out(u, cell, *(change **)last));
    }
    pn_omap_clear(&coll->structs);
    return PN_OK;
}

/* ---- the store ---- */

/* The newest segment that makes the store anew: what is older does not count. */
static size_t first_that_counts(const unpacking *u)
{
    for (size_t i = u->n; i-- > 0;) {
        const pn_segment_store *store = pn_segment_find(u->segments[i], u->name);
        if (store != NULL && store->reset) return i;
    }
    return 0;
}

static pn_status finish(unpacking *u)
{
    size_t pos = 0;
    pn_bytes name;
    void *slot;
    while (pn_omap_next(&u->kv->colls, &pos, &name, &slot)) {
        pn_coll *coll = *(pn_coll **)slot;
        PN_TRY(lay_out_structs(u, coll));
        coll->changes.on = true;
    }
    u->kv->names.on = true;
    return PN_OK;
}

static void free_changes(unpacking *u)
{
    for (change *c = u->made, *next; c != NULL; c = next) {
        next = c->made;
        pn_alloc_put(u->kv->alloc, c);
    }
}

pn_status pn_kv_unpack(pn_kv *kv, pn_bytes name, pn_segment *const *segments, size_t n, size_t *bad, pn_error *err)
{
    PN_FAIL_IF(pn_omap_len(&kv->colls) != 0, PN_ERR_INVALID);
    unpacking u = {.kv = kv, .name = name, .segments = segments, .n = n, .bad = bad, .err = err};
    pn_omap_init(&u.removed, kv->alloc, 0);
    pn_status s = PN_OK;
    for (u.at = first_that_counts(&u); s == PN_OK && u.at < n; u.at++) s = apply_segment(&u);
    if (s == PN_OK) s = finish(&u);
    free_changes(&u);
    return s;
}
