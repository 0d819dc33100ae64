#include "store/vector_pack.h"

#include "codec/mpack.h"

#include <assert.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are used as they lie in a file");

#define NAME(literal) {(const uint8_t *)literal, sizeof literal - 1}

/* In the order of the file's members. */
static const struct {
    pn_bytes name;
    pn_table_type type;
} tables[PN_VEC_MAPS] = {
    [PN_VEC_ROWS] = {NAME("embedding_dict"), PN_TABLE_VECTORS},
    [PN_VEC_REFS] = {NAME("text_id_to_ref_doc_id"), PN_TABLE_STRINGS},
    [PN_VEC_METAS] = {NAME("metadata_dict"), PN_TABLE_VALUES},
};

static const pn_omap *map_of(const pn_vec *v, int map)
{
    return map == PN_VEC_ROWS ? &v->rows : map == PN_VEC_REFS ? &v->refs : &v->metas;
}

/* ---- out ---- */

/* One entry of a map on its way into a batch. */
typedef struct going {
    pn_batch *b;
    pn_entry_op op;
    pn_bytes id;
    pn_blob *owner;
} going;

static pn_status gather_row(const pn_vec *v, const going *g, const pn_vec_row *row)
{
    const pn_vec_band *band = pn_vec_band_of(v, row);
    return pn_batch_row(g->b, g->op, g->id, g->owner, band->dim, band->wide ? PN_ROW_F64 : PN_ROW_F32, row->data);
}

static pn_status gather_ref(const pn_vec *v, const going *g, const void *value)
{
    return pn_batch_string(g->b, g->op, g->id, g->owner, pn_vec_ref_name(v, value), pn_vec_ref_owner(v, value));
}

static pn_status gather_live(pn_vec *v, const going *g, const pn_vec_cell *cell)
{
    pn_live_note *note;
    PN_TRY(pn_vec_live_note(v, g->id, &note));
    return pn_batch_live(g->b, g->op, g->id, g->owner, cell->host, note);
}

static pn_status gather_meta(pn_vec *v, const going *g, const pn_vec_cell *cell)
{
    pn_bytes text = {cell->ptr, cell->len};
    if (cell->blob == NULL) return gather_live(v, g, cell);
    if (cell->crc != 0)
        return pn_batch_packed(g->b, g->op, g->id, g->owner, PN_FORM_JSON, text, cell->crc, cell->blob);
    return pn_batch_span(g->b, g->op, g->id, g->owner, PN_FORM_JSON, text, cell->blob);
}

static pn_status gather_entry(pn_vec *v, int map, const going *g, const void *value)
{
    if (map == PN_VEC_ROWS) return gather_row(v, g, value);
    return map == PN_VEC_REFS ? gather_ref(v, g, value) : gather_meta(v, g, value);
}

/* What a note says of an id. When there is another note by now, the value may be gone. */
static pn_status gather_noted(pn_vec *v, int map, going *g, const pn_change_note *note)
{
    const void *value = pn_omap_get(map_of(v, map), g->id);
    if (note->change == PN_CHANGE_REMOVED) return pn_batch_remove(g->b, g->id, g->owner);
    g->op = note->change == PN_CHANGE_FRESH ? PN_ENTRY_FRESH : PN_ENTRY_PUT;
    return value != NULL ? gather_entry(v, map, g, value) : PN_OK;
}

/* Live metadata that nobody said had changed may have. */
static pn_status gather_unnoted_live(pn_vec *v, const going *g, pn_live_note *note)
{
    const pn_vec_cell *cell = pn_omap_get(&v->metas, g->id);
    if (cell == NULL || cell->blob != NULL || pn_omap_get(&v->taken[PN_VEC_METAS].keys, g->id) != NULL) return PN_OK;
    return pn_batch_live(g->b, g->op, g->id, g->owner, cell->host, note);
}

static bool is_whole(const pn_vec *v, bool whole) { return whole || !v->noted[PN_VEC_ROWS].on; }

bool pn_vec_gathers_rows(const pn_vec *v, bool whole) { return is_whole(v, whole) || v->noted[PN_VEC_ROWS].all; }

static pn_status begin_map(pn_vec_gathering *g)
{
    pn_vec *v = g->v;
    g->all = g->whole || v->taken[g->map].all;
    pn_table_reset reset = g->all && !g->whole ? PN_TABLE_EMPTIED : PN_TABLE_KEEPS;
    pn_omap_walk_begin(&g->entries, g->all ? map_of(v, g->map) : &v->taken[g->map].keys);
    return pn_batch_table(g->batch, tables[g->map].name, tables[g->map].type, reset);
}

pn_status pn_vec_gather_begin(pn_vec *v, pn_bytes name, bool whole, pn_batch *b, pn_vec_gathering *g)
{
    const char *file;
    *g = (pn_vec_gathering){.v = v, .batch = b, .name = name, .asked = whole, .whole = is_whole(v, whole)};
    PN_FAIL_IF(v->taking, PN_ERR_INVALID);
    if (pn_vec_gathers_rows(v, whole)) PN_TRY(pn_vec_settle_rows(v, &file, NULL));
    v->taking = v->gathering = true;
    for (int map = 0; map < PN_VEC_MAPS; map++) pn_changes_take(&v->noted[map], &v->taken[map]);
    return PN_OK;
}

static pn_status begin_store(pn_vec_gathering *g)
{
    g->begun = true;
    PN_TRY(pn_batch_store(g->batch, g->name, PN_STORE_VECTORS, g->whole));
    return begin_map(g);
}

/* The next map that has entries to gather: after what is noted of metadata, what is live. */
static pn_status next_map(pn_vec_gathering *g, bool *more)
{
    if (g->map == PN_VEC_METAS && !g->all && !g->lives) {
        g->lives = true;
        pn_omap_walk_begin(&g->entries, &g->v->live);
        return PN_OK;
    }
    *more = ++g->map < PN_VEC_MAPS;
    return *more ? begin_map(g) : PN_OK;
}

static pn_status gather_next(pn_vec_gathering *g, bool *more)
{
    going e = {.b = g->batch, .op = PN_ENTRY_PUT};
    void *value;
    *more = true;
    if (!pn_omap_walk_next(&g->entries, &e.id, &e.owner, &value)) return next_map(g, more);
    if (!g->all && !g->lives) return gather_noted(g->v, g->map, &e, value);
    if (pn_changes_has_new(&g->v->noted[g->map], e.id)) return PN_OK; /* the end sees to it, if it is there then */
    return g->lives ? gather_unnoted_live(g->v, &e, *(pn_live_note **)value) : gather_entry(g->v, g->map, &e, value);
}

static bool holds(const pn_vec_gathering *g)
{
    bool walks = g->begun && g->map < PN_VEC_MAPS;
    return !g->lost && g->v->gathering && (!walks || pn_omap_walk_holds(&g->entries));
}

pn_status pn_vec_gather_part(pn_vec_gathering *g, size_t work, bool *more)
{
    size_t from = pn_batch_work(g->batch);
    *more = holds(g);
    g->lost = !*more;
    if (*more && !g->begun) PN_TRY(begin_store(g));
    for (size_t steps = 0; *more && pn_batch_work(g->batch) - from + steps < work; steps++)
        PN_TRY(gather_next(g, more));
    return PN_OK;
}

static pn_status gather_later(pn_vec_gathering *g, going *e, const pn_change_note *later)
{
    const pn_change_note *note = g->all ? later : pn_omap_get(&g->v->taken[g->map].keys, e->id);
    bool nothing = note == NULL || (g->all && later->change == PN_CHANGE_REMOVED);
    pn_batch_instead(g->batch, later->change == PN_CHANGE_REPLACED);
    return nothing ? pn_batch_nothing(g->batch, e->id, e->owner) : gather_noted(g->v, g->map, e, note);
}

static pn_status gather_all_later(pn_vec_gathering *g, const pn_changes *later)
{
    size_t pos = 0;
    going e = {.b = g->batch};
    void *note;
    if (pn_omap_len(&later->keys) == 0) return PN_OK;
    PN_TRY(pn_batch_again(g->batch, g->name, tables[g->map].name));
    while (pn_omap_next_owned(&later->keys, &pos, &e.id, &e.owner, &note)) PN_TRY(gather_later(g, &e, note));
    return PN_OK;
}

static pn_status catch_up(pn_vec_gathering *g)
{
    pn_changes later;
    pn_changes *taken = &g->v->taken[g->map];
    g->all = g->whole || taken->all;
    pn_changes_retake(&g->v->noted[g->map], taken, &later);
    g->lost = later.all || (!g->all && taken->all);
    pn_status s = g->lost ? PN_OK : gather_all_later(g, &later);
    pn_changes_clear(&later);
    return s;
}

/* What was gathered does not count: all once more, now, with nothing in between. */
static pn_status gather_anew(pn_vec_gathering *g)
{
    pn_vec_give_back(g->v);
    pn_batch_drop(g->batch, g->name);
    return pn_vec_gather(g->v, g->name, g->asked, g->batch);
}

pn_status pn_vec_gather_end(pn_vec_gathering *g)
{
    g->lost = !holds(g);
    for (g->map = 0; g->map < PN_VEC_MAPS && !g->lost; g->map++) PN_TRY(catch_up(g));
    if (g->lost) return gather_anew(g);
    g->v->gathering = false;
    return PN_OK;
}

pn_status pn_vec_gather(pn_vec *v, pn_bytes name, bool whole, pn_batch *b)
{
    pn_vec_gathering g;
    bool more;
    PN_TRY(pn_vec_gather_begin(v, name, whole, b, &g));
    pn_status s = pn_vec_gather_part(&g, SIZE_MAX, &more);
    if (s == PN_OK) s = pn_vec_gather_end(&g);
    if (s != PN_OK) pn_vec_give_back(v);
    return s;
}

static void end_gather(pn_vec *v, bool durable)
{
    pn_live_notes_settle(&v->live, durable);
    v->taking = v->gathering = false;
}

void pn_vec_gathered(pn_vec *v)
{
    for (int map = 0; map < PN_VEC_MAPS; map++) pn_changes_clear(&v->taken[map]);
    end_gather(v, true);
}

void pn_vec_give_back(pn_vec *v)
{
    if (!v->taking) return;
    for (int map = 0; map < PN_VEC_MAPS; map++) pn_changes_give_back(&v->noted[map], &v->taken[map]);
    end_gather(v, false);
}

/* ---- in ---- */

/* One table of one segment on its way in. */
typedef struct coming {
    pn_vec *v;
    pn_blob *blob;
    const pn_segment_table *t;
    uint32_t *numbers; /* ROWS: of each run the band, or COPIED; REFS: of each string a hint */
    pn_error *err;
} coming;

#define COPIED UINT32_MAX

static pn_status corrupt(coming *c, const uint8_t *at, const char *what)
{
    return pn_fail(c->err, PN_ERR_CORRUPT, (uint64_t)(at - pn_blob_view(c->blob).ptr), what);
}

static bool is_wide(const pn_segment_run *run) { return run->encoding == PN_ROW_F64; }

static pn_status check_later(pn_vec *v, pn_blob *blob, const pn_segment_run *run)
{
    pn_vec_unchecked u = {blob, *run};
    PN_TRY(pn_buf_append(&v->unchecked_rows, &u, sizeof u));
    (void)pn_blob_ref(blob);
    return PN_OK;
}

/* Rows stay where they are, unless the file was read to where they are not aligned. */
static pn_status place_run(coming *c, const pn_segment_run *run, uint32_t *band)
{
    *band = COPIED;
    PN_TRY(check_later(c->v, c->blob, run));
    if (run->rows == 0 || run->dim == 0 || (uintptr_t)run->data % PN_ROW_ALIGN != 0) return PN_OK;
    pn_status s = pn_vec_borrow(c->v, c->blob, run->data, run->rows, run->dim, is_wide(run), band);
    assert(s != PN_OK || c->v->bands[*band].stride == run->row_size);
    return s;
}

static pn_status make_row(coming *c, const pn_segment_entry *e, pn_vec_row *row)
{
    uint32_t band = c->numbers[e->run_at];
    if (band == COPIED) return pn_vec_copy_row(c->v, e->row, e->run->dim, is_wide(e->run), e->run->rows, row);
    *row = (pn_vec_row){.data = e->row, .norm = -1, .band = (uint16_t)band, .borrowed = true};
    return PN_OK;
}

static pn_status put_row(coming *c, const pn_segment_entry *e)
{
    pn_vec_row row;
    PN_TRY(make_row(c, e, &row));
    return pn_vec_adopt_row(c->v, e->key, c->blob, &row);
}

static pn_status put_ref(coming *c, const pn_segment_entry *e)
{
    uint32_t *hint = &c->numbers[pn_get_u32(c->t->codes + 4 * e->i)];
    return pn_vec_put_ref_hinted(c->v, e->key, c->blob, e->value, c->blob, hint);
}

/* Kept as text, so read at once. */
static pn_status put_mpack(coming *c, const pn_segment_entry *e)
{
    pn_buf text;
    pn_blob *blob = NULL;
    pn_buf_init(&text, c->v->alloc);
    pn_status s = pn_mpack_to_json(e->value, &text, NULL);
    if (s == PN_OK) s = pn_blob_take(&text, &blob);
    if (s == PN_OK) s = pn_vec_put_text(c->v, e->key, c->blob, blob, pn_blob_view(blob));
    pn_blob_unref(blob);
    pn_buf_clear(&text);
    return s;
}

/* A text whose CRC is 0 cannot say that it is unchecked. */
static pn_status put_meta(coming *c, const pn_segment_entry *e)
{
    if (e->form == PN_FORM_JSON && e->crc != 0)
        return pn_vec_put_unchecked(c->v, e->key, c->blob, c->blob, e->value, e->crc);
    if (e->form != PN_FORM_JSON && e->form != PN_FORM_MPACK)
        return corrupt(c, c->t->ops + e->i, "metadata that is an index struct");
    pn_error err = {0};
    pn_status s = pn_segment_check_value(c->v->alloc, (pn_value_form)e->form, e->value, e->crc, &err);
    if (s == PN_ERR_CORRUPT) return corrupt(c, e->value.ptr + err.offset, err.what);
    PN_TRY(s);
    if (e->form == PN_FORM_MPACK) return put_mpack(c, e);
    return pn_vec_put_text(c->v, e->key, c->blob, c->blob, e->value);
}

static pn_status put_entry(coming *c, int map, const pn_segment_entry *e)
{
    if (map == PN_VEC_ROWS) return put_row(c, e);
    return map == PN_VEC_REFS ? put_ref(c, e) : put_meta(c, e);
}

static pn_status remove_entry(coming *c, int map, pn_bytes id)
{
    bool found;
    if (map == PN_VEC_METAS) return pn_vec_remove_meta(c->v, id, &found);
    (void)(map == PN_VEC_ROWS ? pn_vec_remove_row(c->v, id) : pn_vec_remove_ref(c->v, id));
    return PN_OK;
}

/* Maps larger than the caches are slow to find a place in: what the next keys need is
 * fetched ahead of their turn. */
enum { AHEAD = 16 };
typedef struct ahead {
    size_t n, key_at; /* how many keys were looked at, and where the next one lies */
    uint32_t hashes[AHEAD];
} ahead;

static void look_ahead(ahead *a, const pn_segment_table *t, const pn_omap *m, size_t from)
{
    for (; a->n < t->n && a->n < from + AHEAD; a->n++) {
        pn_bytes key = {t->keys + a->key_at, pn_get_u32(t->key_lens + 4 * a->n)};
        a->hashes[a->n % AHEAD] = pn_omap_near(m, key);
        a->key_at += key.len;
    }
    if (from + AHEAD / 2 < a->n) pn_omap_nearer(m, a->hashes[(from + AHEAD / 2) % AHEAD]);
}

/* Into a map that was empty every put brings a new key. */
static pn_status apply_entries(coming *c, int map)
{
    pn_segment_entry e = {0};
    ahead a = {0};
    const pn_omap *m = map_of(c->v, map);
    bool was_empty = pn_omap_len(m) == 0;
    while (pn_segment_next(c->t, &e)) {
        look_ahead(&a, c->t, m, e.next);
        size_t before = pn_omap_len(m);
        if (e.op != PN_ENTRY_PUT && !was_empty) PN_TRY(remove_entry(c, map, e.key));
        if (e.op == PN_ENTRY_REMOVE) continue;
        PN_TRY(put_entry(c, map, &e));
        if (was_empty && pn_omap_len(m) == before) return corrupt(c, e.key.ptr, "a key occurs twice");
    }
    return PN_OK;
}

static pn_status make_room(coming *c, int map)
{
    pn_vec *v = c->v;
    if (pn_omap_len(map_of(v, map)) != 0 || c->t->n == 0) return PN_OK;
    if (map == PN_VEC_REFS) return pn_vec_reserve_refs(v, c->t->n);
    return pn_omap_reserve(map == PN_VEC_ROWS ? &v->rows : &v->metas, c->t->n);
}

static pn_status apply_numbered(coming *c, int map)
{
    for (size_t i = 0; map == PN_VEC_ROWS && i < c->t->run_count; i++)
        PN_TRY(place_run(c, &c->t->runs[i], &c->numbers[i]));
    for (size_t i = 0; map == PN_VEC_REFS && i < c->t->string_count; i++) c->numbers[i] = PN_VEC_NO_HINT;
    PN_TRY(make_room(c, map));
    return apply_entries(c, map);
}

static pn_status apply_table(coming *c, int map)
{
    size_t n = map == PN_VEC_ROWS ? c->t->run_count : map == PN_VEC_REFS ? c->t->string_count : 0;
    if (n != 0) c->numbers = pn_alloc_zero(c->v->alloc, n, sizeof *c->numbers);
    pn_status s = n != 0 && c->numbers == NULL ? PN_ERR_NOMEM : apply_numbered(c, map);
    pn_alloc_put(c->v->alloc, c->numbers);
    c->numbers = NULL;
    return s;
}

static const pn_segment_table *find_table(const pn_segment_store *store, int map)
{
    for (size_t i = 0; i < store->table_count; i++)
        if (pn_bytes_equal(store->tables[i].name, tables[map].name)) return &store->tables[i];
    return NULL;
}

/* The segment from which on the table's entries count: the last that empties it. */
static size_t first_segment(pn_bytes name, int map, pn_segment *const *segments, size_t n)
{
    for (size_t i = n; i-- > 0;) {
        const pn_segment_store *store = pn_segment_find(segments[i], name);
        const pn_segment_table *t = store ? find_table(store, map) : NULL;
        if (store != NULL && (store->reset || (t != NULL && t->reset != PN_TABLE_KEEPS))) return i;
    }
    return 0;
}

static pn_status apply_segment(pn_vec *v, pn_bytes name, int map, const pn_segment *segment, pn_error *err)
{
    const pn_segment_store *store = pn_segment_find(segment, name);
    if (store == NULL) return PN_OK;
    coming c = {.v = v, .blob = segment->blob, .err = err, .t = find_table(store, map)};
    if (store->kind != PN_STORE_VECTORS) return corrupt(&c, store->name.ptr, "not a vector store");
    return c.t != NULL ? apply_table(&c, map) : PN_OK;
}

static pn_status unpack_map(pn_vec *v, pn_bytes name, int map, pn_segment *const *segments, size_t n, size_t *bad,
                            pn_error *err)
{
    for (*bad = first_segment(name, map, segments, n); *bad < n; ++*bad)
        PN_TRY(apply_segment(v, name, map, segments[*bad], err));
    return PN_OK;
}

pn_status pn_vec_unpack(pn_vec *v, pn_bytes name, pn_segment *const *segments, size_t n, size_t *bad, pn_error *err)
{
    for (int map = 0; map < PN_VEC_MAPS; map++) PN_TRY(unpack_map(v, name, map, segments, n, bad, err));
    for (int map = 0; map < PN_VEC_MAPS; map++) v->noted[map].on = true;
    return PN_OK;
}

/* ---- checks before first use ---- */

static pn_status refuse(pn_blob *blob, const uint8_t *at, const pn_error *why, const char **file, pn_error *err)
{
    *file = pn_blob_name(blob);
    return pn_fail(err, PN_ERR_CORRUPT, (uint64_t)(at - pn_blob_view(blob).ptr) + why->offset, why->what);
}

pn_status pn_vec_settle_rows(pn_vec *v, const char **file, pn_error *err)
{
    pn_buf *list = &v->unchecked_rows;
    while (list->len != 0) {
        pn_vec_unchecked u;
        pn_error why = {0};
        memcpy(&u, list->data + list->len - sizeof u, sizeof u);
        if (pn_segment_check_run(&u.run, &why) != PN_OK) return refuse(u.blob, u.run.data, &why, file, err);
        list->len -= sizeof u;
        pn_blob_unref(u.blob);
    }
    pn_buf_clear(list);
    return PN_OK;
}

static pn_status settle_text(pn_vec *v, pn_vec_cell *cell, const char **file, pn_error *err)
{
    pn_error why = {0};
    pn_status s = pn_segment_check_value(v->alloc, PN_FORM_JSON, (pn_bytes){cell->ptr, cell->len}, cell->crc, &why);
    if (s == PN_ERR_CORRUPT) return refuse(cell->blob, cell->ptr, &why, file, err);
    PN_TRY(s);
    cell->crc = 0;
    return PN_OK;
}

pn_status pn_vec_settle_metas(pn_vec *v, const char **file, pn_error *err)
{
    size_t pos = 0;
    pn_bytes id;
    void *value;
    while (v->unchecked_metas && pn_omap_next(&v->metas, &pos, &id, &value)) {
        pn_vec_cell *cell = value;
        if (cell->crc != 0) PN_TRY(settle_text(v, cell, file, err));
    }
    v->unchecked_metas = false;
    return PN_OK;
}
