/* kv_pack.c: what changed in a key-value store, gathered for a commit. (kv_unpack.c is the
 * way back.) */
#include "store/kv_pack.h"

#include "store/refdoc.h"
#include "store/struct_pack.h"

typedef pn_kv_gathering gathering;

/* ---- values that may change unseen ---- */

static bool is_live(const pn_cell *cell)
{
    return cell->kind == PN_CELL_LIVE || (cell->kind == PN_CELL_REFDOC && cell->refdoc->metadata.kind == PN_CELL_LIVE);
}

/* Whether the commit under way, if there is one, changes the key. (If it writes everything,
 * and fails, the next one will write everything.) */
static bool is_taken(const pn_coll *c, pn_bytes key) { return pn_omap_get(&c->taken.keys, key) != NULL; }

/* The text that a commit has of a cell which did not change since: *blob is one more
 * reference, or NULL when the text is not known. */
static pn_status text_of(pn_coll *c, const pn_cell *cell, pn_blob **blob, pn_bytes *text)
{
    *blob = NULL;
    if (cell->kind == PN_CELL_JSON && cell->canonical) {
        *blob = pn_blob_ref(cell->span.blob);
        *text = pn_cell_span(cell);
    }
    if (cell->kind != PN_CELL_REFDOC) return PN_OK;
    pn_buf out;
    pn_buf_init(&out, c->cells.alloc);
    pn_status s = pn_refdoc_write_json(cell->refdoc, NULL, &out); /* its metadata is text: no host is needed */
    if (s == PN_OK) s = pn_blob_take(&out, blob);
    pn_buf_clear(&out);
    if (s == PN_OK) *text = pn_blob_view(*blob);
    return s;
}

/* A value that is as a commit has it need not be written again for being looked at. */
static pn_status note_text(pn_coll *c, const pn_cell *cell, pn_bytes key)
{
    pn_blob *blob;
    pn_bytes text;
    pn_live_note *note;
    PN_TRY(text_of(c, cell, &blob, &text));
    PN_FAIL_IF(blob == NULL, PN_ERR_UNSUPPORTED);
    pn_status s = pn_live_notes_get(&c->lives, key, pn_omap_owner_of(cell), &note);
    if (s == PN_OK) pn_live_note_found(note, blob, text, is_taken(c, key));
    pn_blob_unref(blob);
    return s;
}

void pn_coll_goes_live_slow(pn_coll *c, const pn_cell *cell)
{
    pn_bytes key = pn_omap_key_of(cell);
    if (is_live(cell)) return;
    if (!c->gathering && pn_omap_get(&c->lives, key) != NULL) return; /* it is watched */
    bool changed = c->changes.all || pn_omap_get(&c->changes.keys, key) != NULL;
    if (c->gathering || changed || note_text(c, cell, key) != PN_OK) pn_coll_touch(c, cell);
}

/* ---- one entry ---- */

typedef struct target {
    pn_entry_op op;
    pn_bytes key;
    pn_blob *owner;
} target;

static pn_status put_json(gathering *g, target t, const pn_cell *cell)
{
    if (!cell->canonical) return pn_batch_raw(g->batch, t.op, t.key, t.owner, pn_cell_span(cell), cell->span.blob);
    return pn_batch_span(g->batch, t.op, t.key, t.owner, PN_FORM_JSON, pn_cell_span(cell), cell->span.blob);
}

static pn_status put_packed(gathering *g, target t, const pn_cell *cell)
{
    return pn_batch_packed(g->batch, t.op, t.key, t.owner, (pn_value_form)cell->form, pn_cell_span(cell), cell->crc,
                           cell->span.blob);
}

static pn_status put_live(gathering *g, target t, const pn_cell *cell)
{
    pn_live_note *note;
    PN_TRY(pn_live_notes_get(&g->coll->lives, t.key, t.owner, &note));
    return pn_batch_live(g->batch, t.op, t.key, t.owner, cell->live, note);
}

static pn_status put_live_refdoc(gathering *g, target t, const pn_refdoc *r)
{
    pn_live_note *note;
    pn_buf *ids = pn_batch_scratch(g->batch);
    PN_TRY(pn_live_notes_get(&g->coll->lives, t.key, t.owner, &note));
    PN_TRY(pn_refdoc_write_ids(r, ids));
    return pn_batch_live_within(g->batch, t.op, t.key, t.owner, pn_buf_view(ids), r->metadata.live, PN_BYTES("}"), note);
}

static pn_status put_refdoc(gathering *g, target t, const pn_refdoc *r)
{
    if (r->metadata.kind == PN_CELL_LIVE) return put_live_refdoc(g, t, r);
    pn_buf *text = pn_batch_scratch(g->batch);
    PN_TRY(pn_refdoc_write_json(r, &g->kv->host, text));
    return pn_batch_span(g->batch, t.op, t.key, t.owner, PN_FORM_JSON, pn_buf_view(text), NULL);
}

/* The text's memory goes to the batch: a whole struct can be large. */
static pn_status hand_over(gathering *g, target t, pn_value_form form, pn_buf *text)
{
    pn_blob *blob;
    PN_TRY(pn_blob_take(text, &blob));
    pn_status s = pn_batch_span(g->batch, t.op, t.key, t.owner, form, pn_blob_view(blob), blob);
    pn_blob_unref(blob);
    return s;
}

static pn_status put_struct(gathering *g, target t, pn_struct *s)
{
    pn_value_form form;
    bool same, added;
    void *unused;
    pn_buf *text = pn_batch_scratch(g->batch);
    PN_TRY(pn_omap_put(&g->coll->structs, t.key, t.owner, &unused, &added));
    PN_TRY(pn_struct_gather(s, g->whole || t.op == PN_ENTRY_FRESH, text, &form, &same));
    return same ? pn_batch_nothing(g->batch, t.key, t.owner) : hand_over(g, t, form, text);
}

static pn_status put_cell(gathering *g, target t, const pn_cell *cell)
{
    switch ((pn_cell_kind)cell->kind) {
    case PN_CELL_LIVE: return put_live(g, t, cell);
    case PN_CELL_JSON: return put_json(g, t, cell);
    case PN_CELL_MPACK:
        return pn_batch_span(g->batch, t.op, t.key, t.owner, PN_FORM_MPACK, pn_cell_span(cell), cell->span.blob);
    case PN_CELL_PACKED: return put_packed(g, t, cell);
    case PN_CELL_REFDOC: return put_refdoc(g, t, cell->refdoc);
    case PN_CELL_STRUCT: return put_struct(g, t, cell->structure);
    case PN_CELL_EMPTY: break;
    }
    return PN_ERR_INVALID;
}

/* ---- a collection ---- */

/* What a note says of a key. When there is another note by now, the cell may be gone. */
static pn_status put_noted(gathering *g, pn_bytes key, pn_blob *owner, const pn_change_note *note)
{
    if (note->change == PN_CHANGE_REMOVED) return pn_batch_remove(g->batch, key, owner);
    const pn_cell *cell = pn_coll_get(g->coll, key);
    target t = {note->change == PN_CHANGE_FRESH ? PN_ENTRY_FRESH : PN_ENTRY_PUT, key, owner};
    return cell != NULL ? put_cell(g, t, cell) : PN_OK;
}

/* Put since the gather began: the end sees to it, if it is there then. */
static bool is_new(const gathering *g, pn_bytes key) { return pn_changes_has_new(&g->coll->changes, key); }

static pn_status put_old(gathering *g, pn_bytes key, pn_blob *owner, const pn_cell *cell)
{
    return is_new(g, key) ? PN_OK : put_cell(g, (target){PN_ENTRY_PUT, key, owner}, cell);
}

/* A cell that was live, and that nobody told of. What is not live any more is a change. */
static pn_status put_unseen(gathering *g, pn_bytes key, pn_blob *owner)
{
    pn_coll *coll = g->coll;
    const pn_cell *cell = pn_coll_get(coll, key);
    if (cell == NULL || !is_live(cell)) {
        if (cell != NULL) pn_coll_touch(coll, cell);
        pn_live_notes_forget(&coll->lives, key);
        return PN_OK;
    }
    if (g->whole || is_taken(coll, key) || is_new(g, key)) return PN_OK; /* it comes with the others */
    return put_cell(g, (target){PN_ENTRY_PUT, key, owner}, cell);
}

/* How the collection builds on what older segments have of it. */
static pn_table_reset reset_of(const gathering *g, pn_bytes name)
{
    const pn_change_note *note = pn_omap_get(&g->kv->taken.keys, name);
    if (!g->reset && note != NULL && note->change == PN_CHANGE_FRESH && !note->is_new) return PN_TABLE_FRESH;
    return g->whole ? PN_TABLE_EMPTIED : PN_TABLE_KEEPS;
}

static pn_status begin_collection(gathering *g, pn_bytes name, pn_coll *coll)
{
    g->coll = coll;
    g->whole = g->reset || !coll->taken.on || coll->taken.all;
    g->lives = true;
    pn_omap_walk_begin(&g->entries, &coll->lives);
    return pn_batch_table(g->batch, name, PN_TABLE_VALUES, reset_of(g, name));
}

/* ---- what changed while that was gathered ---- */

static pn_status put_later(gathering *g, pn_bytes key, pn_blob *owner, const pn_change_note *later)
{
    const pn_cell *cell = pn_coll_get(g->coll, key);
    const pn_change_note *note = g->whole ? later : pn_omap_get(&g->coll->taken.keys, key);
    if (cell == NULL || !is_live(cell)) pn_live_notes_forget(&g->coll->lives, key);
    pn_batch_instead(g->batch, later->change == PN_CHANGE_REPLACED);
    if (note == NULL || (g->whole && cell == NULL)) return pn_batch_nothing(g->batch, key, owner);
    return put_noted(g, key, owner, note);
}

static pn_status put_all_later(gathering *g, pn_bytes name, const pn_changes *later)
{
    size_t pos = 0;
    pn_bytes key;
    pn_blob *owner;
    void *note;
    if (pn_omap_len(&later->keys) == 0) return PN_OK;
    PN_TRY(pn_batch_again(g->batch, g->name, name));
    while (pn_omap_next_owned(&later->keys, &pos, &key, &owner, &note)) PN_TRY(put_later(g, key, owner, note));
    return PN_OK;
}

static pn_status catch_up_collection(gathering *g, pn_bytes name, pn_coll *coll)
{
    pn_changes later;
    g->coll = coll;
    g->whole = g->reset || !coll->taken.on || coll->taken.all;
    pn_changes_retake(&coll->changes, &coll->taken, &later);
    g->lost = later.all || (!g->whole && coll->taken.all);
    pn_status s = g->lost ? PN_OK : put_all_later(g, name, &later);
    pn_changes_clear(&later);
    return s;
}

/* ---- the store ---- */

typedef void (*each_coll)(pn_coll *coll);

static void for_each(pn_kv *kv, each_coll f)
{
    size_t pos = 0;
    pn_bytes name;
    void *slot;
    while (pn_omap_next(&kv->colls, &pos, &name, &slot)) f(*(pn_coll **)slot);
}

static pn_status put_dropped(gathering *g)
{
    size_t pos = 0;
    pn_bytes name;
    void *value;
    while (pn_omap_next(&g->kv->taken.keys, &pos, &name, &value))
        if (((const pn_change_note *)value)->change == PN_CHANGE_REMOVED)
            PN_TRY(pn_batch_table(g->batch, name, PN_TABLE_VALUES, PN_TABLE_DROPPED));
    return PN_OK;
}

static void take_coll(pn_coll *coll)
{
    pn_changes_take(&coll->changes, &coll->taken);
    coll->gathering = true;
}

static void end_coll(pn_coll *coll) { coll->gathering = false; }

pn_status pn_kv_gather_begin(pn_kv *kv, pn_bytes name, bool whole, pn_batch *b, pn_kv_gathering *g)
{
    *g = (gathering){.kv = kv, .batch = b, .name = name, .asked = whole};
    g->reset = whole || !kv->names.on || kv->names.all;
    PN_FAIL_IF(kv->taking, PN_ERR_INVALID);
    kv->taking = true;
    for_each(kv, take_coll);
    pn_changes_take(&kv->names, &kv->taken);
    pn_omap_walk_begin(&g->colls, &kv->colls);
    return PN_OK;
}

static pn_status begin_store(gathering *g)
{
    g->begun = true;
    PN_TRY(pn_batch_store(g->batch, g->name, PN_STORE_COLLECTIONS, g->reset));
    return g->reset ? PN_OK : put_dropped(g);
}

/* Collections are those that there were, and the place among entries is known. */
static bool holds(const gathering *g)
{
    const pn_changes *names = &g->kv->names;
    if (g->lost || !g->kv->taking || !names->on || names->all || pn_omap_len(&names->keys) != 0) return false;
    return pn_omap_walk_holds(&g->colls) && (g->coll == NULL || pn_omap_walk_holds(&g->entries));
}

/* The next map that has entries to gather. */
static pn_status next_map(gathering *g, bool *more)
{
    pn_bytes name;
    pn_blob *owner;
    void *slot;
    if (g->coll != NULL && g->lives) {
        g->lives = false;
        pn_omap_walk_begin(&g->entries, g->whole ? &g->coll->cells : &g->coll->taken.keys);
        return PN_OK;
    }
    g->coll = NULL;
    *more = pn_omap_walk_next(&g->colls, &name, &owner, &slot);
    return *more ? begin_collection(g, name, *(pn_coll **)slot) : PN_OK;
}

static pn_status put_next(gathering *g, bool *more)
{
    pn_bytes key;
    pn_blob *owner;
    void *value;
    *more = true;
    if (g->coll == NULL || !pn_omap_walk_next(&g->entries, &key, &owner, &value)) return next_map(g, more);
    if (g->lives) return put_unseen(g, key, owner);
    return g->whole ? put_old(g, key, owner, value) : put_noted(g, key, owner, value);
}

pn_status pn_kv_gather_part(pn_kv_gathering *g, size_t work, bool *more)
{
    size_t from = pn_batch_work(g->batch);
    *more = holds(g);
    g->lost = !*more;
    if (*more && !g->begun) PN_TRY(begin_store(g));
    for (size_t steps = 0; *more && pn_batch_work(g->batch) - from + steps < work; steps++) PN_TRY(put_next(g, more));
    if (!g->lost && g->coll != NULL) g->entries.moves = g->entries.map->moves; /* what moved, the walk itself did */
    return PN_OK;
}

/* What was gathered does not count: all once more, now, with nothing in between. */
static pn_status gather_anew(gathering *g)
{
    pn_kv_give_back(g->kv);
    pn_batch_drop(g->batch, g->name);
    return pn_kv_gather(g->kv, g->name, g->asked, g->batch);
}

pn_status pn_kv_gather_end(pn_kv_gathering *g)
{
    size_t pos = 0;
    pn_bytes name;
    void *slot;
    g->coll = NULL;
    g->lost = !holds(g);
    while (!g->lost && pn_omap_next(&g->kv->colls, &pos, &name, &slot))
        PN_TRY(catch_up_collection(g, name, *(pn_coll **)slot));
    if (g->lost) return gather_anew(g);
    for_each(g->kv, end_coll);
    return PN_OK;
}

pn_status pn_kv_gather(pn_kv *kv, pn_bytes name, bool whole, pn_batch *b)
{
    gathering g;
    bool more;
    PN_TRY(pn_kv_gather_begin(kv, name, whole, b, &g));
    pn_status s = pn_kv_gather_part(&g, SIZE_MAX, &more);
    if (s == PN_OK) s = pn_kv_gather_end(&g);
    if (s != PN_OK) pn_kv_give_back(kv);
    return s;
}

static void settle_structs(pn_coll *coll, bool durable)
{
    size_t pos = 0;
    pn_bytes key;
    void *unused;
    while (pn_omap_next(&coll->structs, &pos, &key, &unused)) {
        pn_cell *cell = pn_coll_get(coll, key);
        if (cell != NULL && cell->kind == PN_CELL_STRUCT) pn_struct_gathered(cell->structure, durable);
    }
    pn_omap_clear(&coll->structs);
}

static void coll_gathered(pn_coll *coll)
{
    pn_live_notes_settle(&coll->lives, true);
    settle_structs(coll, true);
    pn_changes_clear(&coll->taken);
}

static void coll_give_back(pn_coll *coll)
{
    pn_live_notes_settle(&coll->lives, false);
    settle_structs(coll, false);
    coll->gathering = false;
    pn_changes_give_back(&coll->changes, &coll->taken);
}

void pn_kv_gathered(pn_kv *kv)
{
    for_each(kv, coll_gathered);
    pn_changes_clear(&kv->taken);
    kv->taking = false;
}

void pn_kv_give_back(pn_kv *kv)
{
    if (!kv->taking) return;
    for_each(kv, coll_give_back);
    pn_changes_give_back(&kv->names, &kv->taken);
    kv->taking = false;
}

static void untrack_coll(pn_coll *coll) { pn_changes_clear(&coll->changes); }

void pn_kv_untrack(pn_kv *kv)
{
    for_each(kv, untrack_coll);
    pn_changes_clear(&kv->names);
}
