#include "store/graph_pack.h"

#include "store/kv_pack.h"

#define TABLE PN_BYTES("graph_dict")

typedef struct gathering {
    pn_graph *g;
    pn_graph_track *track;
    pn_batch *batch;
    bool whole;
    pn_graph_encode encode;
    void *ctx;
} gathering;

/* ---- subjects that may change unseen ---- */

/* Whether the commit under way, if there is one, writes the subject. */
static bool is_taken(const pn_graph_track *t, pn_bytes subj)
{
    return t->taking && (!t->taken.on || t->taken.all || pn_omap_get(&t->taken.keys, subj) != NULL);
}

/* What a commit has of native links that did not change since. */
static pn_status note_pairs(pn_graph *g, pn_graph_track *t, const pn_links *links)
{
    pn_bytes subj = pn_omap_key_of(links);
    pn_buf text;
    pn_blob *blob = NULL;
    pn_live_note *note;
    pn_buf_init(&text, t->lives.alloc);
    pn_status s = pn_graph_write_links(g, links, NULL, NULL, &text);
    if (s == PN_OK) s = pn_blob_take(&text, &blob);
    pn_buf_clear(&text);
    if (s == PN_OK) s = pn_live_notes_get(&t->lives, subj, pn_omap_owner_of(links), &note);
    if (s == PN_OK) pn_live_note_found(note, blob, pn_blob_view(blob), is_taken(t, subj));
    pn_blob_unref(blob);
    return s;
}

pn_status pn_graph_goes_live(pn_graph *g, pn_bytes subj, void *live, void **old)
{
    pn_graph_track *t = pn_graph_track_of(g);
    const pn_links *links = pn_graph_find(g, subj);
    bool as_saved = t->changes.on && !t->changes.all && pn_omap_get(&t->changes.keys, subj) == NULL;
    if (links == NULL || pn_links_live(links) != NULL || !as_saved || note_pairs(g, t, links) != PN_OK)
        return pn_graph_set_live(g, subj, live, old);
    pn_graph_swap_live(g, subj, live, old);
    return PN_OK;
}

/* ---- one subject ---- */

static bool is_saved(const pn_live_note *note, pn_bytes text)
{
    return note->saved.blob != NULL && pn_bytes_equal(note->saved.text, text);
}

/* The memory of the text goes to the batch and to the note. */
static pn_status offer(gathering *ga, pn_entry_op op, pn_bytes subj, pn_blob *owner, pn_live_note *note, pn_buf *text)
{
    pn_blob *blob;
    PN_TRY(pn_blob_take(text, &blob));
    pn_status s = pn_batch_span(ga->batch, op, subj, owner, PN_FORM_JSON, pn_blob_view(blob), blob);
    if (s != PN_OK) {
        pn_blob_unref(blob);
        return s;
    }
    pn_blob_unref(note->offered.blob);
    note->offered = (pn_live_text){blob, pn_blob_view(blob)};
    return PN_OK;
}

static pn_status put_links(gathering *ga, pn_entry_op op, pn_bytes subj, pn_blob *owner, const pn_links *links)
{
    pn_live_note *note;
    pn_buf *text = pn_batch_scratch(ga->batch);
    PN_TRY(pn_graph_write_links(ga->g, links, ga->encode, ga->ctx, text));
    if (pn_links_live(links) == NULL)
        return pn_batch_span(ga->batch, op, subj, owner, PN_FORM_JSON, pn_buf_view(text), NULL);
    PN_TRY(pn_live_notes_get(&ga->track->lives, subj, owner, &note));
    if (op == PN_ENTRY_PUT && !ga->whole && is_saved(note, pn_buf_view(text))) return PN_OK;
    return offer(ga, op, subj, owner, note, text);
}

/* What a note says of a subject. */
static pn_status put_noted(gathering *ga, pn_bytes subj, pn_blob *owner, const pn_change_note *note)
{
    if (note->change == PN_CHANGE_REMOVED) return pn_batch_remove(ga->batch, subj, owner);
    const pn_links *links = pn_graph_find(ga->g, subj);
    PN_FAIL_IF(links == NULL, PN_ERR_INVALID);
    return put_links(ga, note->change == PN_CHANGE_FRESH ? PN_ENTRY_FRESH : PN_ENTRY_PUT, subj, owner, links);
}

/* ---- the store ---- */

/* Notes of what is not live any more are dropped: it will be noted when it changes. */
static pn_status put_unseen(gathering *ga)
{
    pn_graph_track *t = ga->track;
    size_t pos = 0;
    pn_bytes subj;
    pn_blob *owner;
    void *unused;
    while (pn_omap_next_owned(&t->lives, &pos, &subj, &owner, &unused)) {
        const pn_links *links = pn_graph_find(ga->g, subj);
        if (links == NULL || pn_links_live(links) == NULL) pn_live_notes_forget(&t->lives, subj);
        else if (!ga->whole && !is_taken(t, subj)) PN_TRY(put_links(ga, PN_ENTRY_PUT, subj, owner, links));
    }
    return PN_OK;
}

static pn_status put_all(gathering *ga)
{
    size_t pos = 0;
    pn_bytes subj;
    const pn_links *links;
    while (pn_graph_next(ga->g, &pos, &subj, &links))
        PN_TRY(put_links(ga, PN_ENTRY_PUT, subj, pn_omap_owner_of(links), links));
    return PN_OK;
}

static pn_status put_changes(gathering *ga)
{
    size_t pos = 0;
    pn_bytes subj;
    pn_blob *owner;
    void *note;
    while (pn_omap_next_owned(&ga->track->taken.keys, &pos, &subj, &owner, &note))
        PN_TRY(put_noted(ga, subj, owner, note));
    return PN_OK;
}

static pn_status put_store(gathering *ga, pn_bytes name)
{
    PN_TRY(pn_batch_store(ga->batch, name, PN_STORE_COLLECTIONS, ga->whole));
    PN_TRY(pn_batch_table(ga->batch, TABLE, PN_TABLE_VALUES, ga->whole ? PN_TABLE_EMPTIED : PN_TABLE_KEEPS));
    PN_TRY(put_unseen(ga));
    return ga->whole ? put_all(ga) : put_changes(ga);
}

pn_status pn_graph_gather(pn_graph *g, pn_bytes name, bool whole, pn_batch *b, pn_graph_encode encode, void *ctx)
{
    pn_graph_track *t = pn_graph_track_of(g);
    gathering ga = {g, t, b, whole || !t->changes.on || t->changes.all, encode, ctx};
    PN_FAIL_IF(t->taking, PN_ERR_INVALID);
    pn_changes_take(&t->changes, &t->taken);
    t->taking = true;
    pn_status s = put_store(&ga, name);
    if (s != PN_OK) pn_graph_give_back(g);
    return s;
}

void pn_graph_gathered(pn_graph *g)
{
    pn_graph_track *t = pn_graph_track_of(g);
    pn_live_notes_settle(&t->lives, true);
    pn_changes_clear(&t->taken);
    t->taking = false;
}

void pn_graph_give_back(pn_graph *g)
{
    pn_graph_track *t = pn_graph_track_of(g);
    if (!t->taking) return;
    pn_live_notes_settle(&t->lives, false);
    pn_changes_give_back(&t->changes, &t->taken);
    t->taking = false;
}

/* ---- out of a pack ---- */

typedef struct unpacking {
    pn_graph *g;
    pn_segment *const *segments;
    size_t n;
    size_t *bad;
    pn_error *err;
} unpacking;

static pn_status settle(const unpacking *u, pn_cell *cell)
{
    pn_blob *file = cell->span.blob;
    pn_status s = pn_cell_settle(cell, u->err);
    for (size_t i = 0; s == PN_ERR_CORRUPT && i < u->n; i++)
        if (u->segments[i]->blob == file) *u->bad = i;
    return s;
}

static pn_status take_subject(const unpacking *u, pn_bytes subj, pn_blob *owner, pn_cell *cell)
{
    PN_FAIL_IF(cell->kind != PN_CELL_PACKED, PN_ERR_UNSUPPORTED); /* an index struct */
    PN_TRY(settle(u, cell));
    PN_FAIL_IF(cell->kind != PN_CELL_JSON, PN_ERR_UNSUPPORTED);
    return pn_graph_load_links(u->g, subj, owner, cell->span.blob, pn_cell_span(cell));
}

static pn_status take_subjects(const unpacking *u, const pn_kv *kv)
{
    size_t pos = 0;
    pn_bytes subj;
    pn_blob *owner;
    void *cell;
    const pn_coll *coll = pn_kv_find(kv, TABLE);
    PN_FAIL_IF(coll == NULL || pn_omap_len(&kv->colls) != 1, PN_ERR_UNSUPPORTED);
    while (pn_omap_next_owned(&coll->cells, &pos, &subj, &owner, &cell)) PN_TRY(take_subject(u, subj, owner, cell));
    return PN_OK;
}

static pn_status unpack_by(const unpacking *u, pn_kv *kv, pn_bytes name)
{
    PN_TRY(pn_kv_unpack(kv, name, u->segments, u->n, u->bad, u->err));
    PN_TRY(take_subjects(u, kv));
    pn_graph_track_of(u->g)->changes.on = true;
    return PN_OK;
}

pn_status pn_graph_unpack(const pn_alloc *alloc, const pn_host *host, pn_bytes name, pn_segment *const *segments, size_t n,
                          pn_graph **out, size_t *bad, pn_error *err)
{
    unpacking u = {.segments = segments, .n = n, .bad = bad, .err = err};
    pn_kv *kv;
    PN_TRY(pn_kv_new(alloc, host, &kv));
    pn_status s = pn_graph_new(alloc, &u.g);
    if (s == PN_OK) s = unpack_by(&u, kv, name);
    pn_kv_unref(kv); /* nothing in it is live */
    if (s == PN_OK) *out = u.g;
    else pn_graph_free(u.g, NULL, NULL);
    return s;
}
