/* pack_commit.c: a commit of changes as a new generation.
 *
 * What it costs does not grow with the pack: the manifest is read and written, the changes
 * are written once. Older segments are opened only to be merged, or, when a store was
 * written anew, looked at for what they still say. */
#include "base/omap.h"
#include "base/utf8.h"
#include "persist/pack_dir.h"
#include "persist/pack_plan.h"

#define NEW UINT32_MAX

/* One of the segments that the new generation will have. */
typedef struct live {
    pn_manifest_segment s;
    uint32_t at; /* where the manifest lists it, or NEW */
} live;

typedef struct commit {
    pn_pack_dir dir;
    const pn_pack_write *write;
    const pn_generation *current; /* NULL: the first; valid until the manifest is edited */
    uint64_t number;              /* of the new generation */
    pn_segment_writer *w;
    pn_pack_file delta, merged;
    bool changed;   /* a store was */
    live *list;     /* oldest first */
    size_t count;
    bool visible;   /* the manifest refers to what was written */
} commit;

static pn_bytes text_of(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

/* ---- does it fit what is there? ---- */

static pn_status check_bases(commit *c)
{
    const pn_manifest *m = &c->dir.manifest;
    for (size_t i = 0; i < c->write->base_count; i++) {
        const pn_pack_base *b = &c->write->bases[i];
        const pn_manifest_store *s = c->current != NULL ? pn_generation_store(c->current, text_of(b->store)) : NULL;
        if (s == NULL || s->changed != b->changed || memcmp(b->id, m->id, sizeof m->id) != 0)
            return pn_file_refuse(c->dir.err, PN_ERR_CONFLICT, b->store, "the store was changed by another writer");
    }
    return PN_OK;
}

static pn_status begin(commit *c)
{
    const pn_manifest *m = &c->dir.manifest;
    if (c->write->keep > PN_MANIFEST_MAX_KEEP)
        return pn_file_refuse(c->dir.err, PN_ERR_INVALID, c->dir.path, "too many generations to keep");
    c->current = pn_manifest_current(m);
    if (c->current != NULL && c->current->number == UINT64_MAX)
        return pn_file_refuse(c->dir.err, PN_ERR_CORRUPT, c->dir.path, "there is no number left for a generation");
    c->number = c->current != NULL ? c->current->number + 1 : 1;
    c->delta.generation = c->merged.generation = c->number;
    return check_bases(c);
}

/* ---- the changes ---- */

static bool has_base(const commit *c, pn_bytes name)
{
    for (size_t i = 0; i < c->write->base_count; i++)
        if (pn_bytes_equal(text_of(c->write->bases[i].store), name)) return true;
    return false;
}

static bool is_change(const pn_segment_store_note *n) { return n->reset || n->tables > 0 || n->entries > 0; }

static pn_status refuse_store(commit *c, pn_bytes name, const char *what)
{
    char path[PN_PATH_MAX];
    size_t n = name.len < sizeof path ? name.len : sizeof path - 1;
    if (n > 0) memcpy(path, name.ptr, n);
    path[n] = '\0';
    return pn_file_refuse(c->dir.err, PN_ERR_INVALID, path, what);
}

static pn_status check_note(commit *c, const pn_segment_store_note *note)
{
    pn_bytes name = pn_buf_view(&note->name);
    if (pn_utf8_valid_prefix(name, NULL) != name.len || (name.len > 0 && memchr(name.ptr, 0, name.len) != NULL))
        return refuse_store(c, name, "the name of a store is no text");
    if (note->reset) return PN_OK;
    if (!has_base(c, name)) return refuse_store(c, name, "changes of a store that build on nothing");
    const pn_manifest_store *s = pn_generation_store(c->current, name); /* as every base, it is there */
    return s->kind == note->kind ? PN_OK : refuse_store(c, name, "the store is of another kind");
}

static pn_status check_notes(commit *c)
{
    const pn_segment_store_note *notes;
    size_t n = pn_segment_written(c->w, &notes);
    for (size_t i = 0; i < n; i++) {
        PN_TRY(check_note(c, &notes[i]));
        c->changed |= is_change(&notes[i]);
    }
    return PN_OK;
}

/* Writes the changes to a file that is not synced yet; to none when there are none. */
static pn_status write_delta(commit *c)
{
    PN_TRY(pn_segment_writer_new(c->dir.alloc, pn_pack_file_sink, &c->delta, &c->w));
    PN_TRY(c->write->emit(c->write->ctx, c->w));
    PN_TRY(pn_segment_finish(c->w, &c->delta.made.size, &c->delta.made.tail_crc));
    PN_TRY(check_notes(c));
    return c->changed ? pn_pack_file_flush(&c->delta) : PN_OK;
}

/* ---- which segments the new generation has ---- */

static pn_status list_segments(commit *c)
{
    size_t n = c->current != NULL ? c->current->segment_count : 0;
    c->list = pn_alloc_zero(c->dir.alloc, n + 1, sizeof *c->list);
    PN_FAIL_IF(c->list == NULL, PN_ERR_NOMEM);
    for (size_t i = 0; i < n; i++) {
        uint32_t at = c->current->segments[i];
        c->list[i] = (live){c->dir.manifest.segments[at], at};
    }
    c->count = n;
    if (c->changed) c->list[c->count++] = (live){c->delta.made, NEW};
    return PN_OK;
}

static pn_status add_name(pn_omap *set, pn_bytes name, pn_blob *owner)
{
    void *value;
    bool added;
    return pn_omap_put(set, name, owner, &value, &added);
}

/* Adds the stores that the changes begin anew. *all: there is no other store. */
static pn_status reset_by_delta(commit *c, pn_omap *reset, bool *all)
{
    const pn_segment_store_note *notes;
    size_t n = pn_segment_written(c->w, &notes);
    for (size_t i = 0; i < n; i++)
        if (notes[i].reset) PN_TRY(add_name(reset, pn_buf_view(&notes[i].name), NULL));
    *all = true;
    for (size_t i = 0; i < c->current->store_count; i++)
        *all = *all && pn_omap_get(reset, text_of(c->current->stores[i].name)) != NULL;
    return PN_OK;
}

/* Whether a segment says anything that the stores in `reset` do not make void; its own
 * resets are added. What cannot be read is as if it did: who reads it will be told. */
static pn_status contributes(commit *c, const live *l, pn_omap *reset, bool *does)
{
    pn_segment *s;
    const pn_pack_dir *d = &c->dir;
    *does = true;
    pn_status status = pn_pack_segment(d->vfs, d->alloc, d->root, &l->s, PN_LOOK_STORES, false, &s, NULL);
    if (status != PN_OK) return status == PN_ERR_NOMEM ? status : PN_OK;
    *does = false;
    for (size_t i = 0; i < s->store_count; i++) *does |= pn_omap_get(reset, s->stores[i].name) == NULL;
    for (size_t i = 0; status == PN_OK && i < s->store_count; i++)
        if (s->stores[i].reset) status = add_name(reset, s->stores[i].name, s->blob);
    pn_segment_close(s);
    return status;
}

/* Leaves segments out, younger ones first, all of whose stores were begun anew since. */
static pn_status drop_void(commit *c, pn_omap *reset)
{
    bool all;
    PN_TRY(reset_by_delta(c, reset, &all));
    if (pn_omap_len(reset) == 0) return PN_OK;
    size_t kept = c->count - 1; /* those before `kept` are looked at, those behind it stay */
    for (size_t i = c->count - 1; i-- > 0;) {
        bool does = false;
        if (!all) PN_TRY(contributes(c, &c->list[i], reset, &does));
        if (does) c->list[--kept] = c->list[i];
    }
    c->count -= kept;
    memmove(c->list, c->list + kept, c->count * sizeof *c->list);
    return PN_OK;
}

static pn_status leave_out_void(commit *c)
{
    if (c->current == NULL || !c->changed) return PN_OK;
    pn_omap reset;
    pn_omap_init(&reset, c->dir.alloc, 1);
    pn_status status = drop_void(c, &reset);
    pn_omap_clear(&reset);
    return status;
}

/* ---- merging ---- */

static pn_status plan(const commit *c, size_t *alone)
{
    uint64_t *sizes = pn_alloc_zero(c->dir.alloc, c->count + 1, sizeof *sizes);
    PN_FAIL_IF(sizes == NULL, PN_ERR_NOMEM);
    for (size_t i = 0; i < c->count; i++) sizes[i] = c->list[i].s.size;
    *alone = pn_plan_merge(sizes, c->count);
    pn_alloc_put(c->dir.alloc, sizes);
    return PN_OK;
}

static pn_status merge_from(commit *c, size_t alone)
{
    size_t n = c->count - alone;
    pn_manifest_segment *list = pn_alloc_zero(c->dir.alloc, n, sizeof *list);
    PN_FAIL_IF(list == NULL, PN_ERR_NOMEM);
    for (size_t i = 0; i < n; i++) list[i] = c->list[alone + i].s;
    pn_status status = pn_pack_merge(&c->dir, list, n, alone == 0, &c->merged);
    pn_alloc_put(c->dir.alloc, list);
    if (status != PN_OK) return status;
    c->list[alone] = (live){c->merged.made, NEW};
    c->count = alone + 1;
    pn_pack_file_end(&c->delta, false); /* it is in there */
    return PN_OK;
}

/* A merge is a matter of tidiness: when it fails, the segments stay as they are, unless
 * they are far too many. */
static pn_status settle_segments(commit *c)
{
    size_t alone;
    PN_TRY(leave_out_void(c));
    if (!c->changed) return PN_OK;
    PN_TRY(plan(c, &alone));
    if (alone == c->count) return PN_OK;
    pn_status status = merge_from(c, alone);
    return c->count > PN_PLAN_LIMIT ? status : PN_OK;
}

/* ---- the new generation ---- */

static pn_status set_stores(commit *c, pn_generation *g)
{
    const pn_segment_store_note *notes;
    size_t n = pn_segment_written(c->w, &notes);
    for (size_t i = 0; i < n; i++)
        if (is_change(&notes[i]))
            PN_TRY(pn_generation_set_store(c->dir.alloc, g, pn_buf_view(&notes[i].name), notes[i].kind, c->number));
    return PN_OK;
}

static pn_status set_segments(commit *c, pn_generation *g)
{
    uint32_t *at = pn_alloc_zero(c->dir.alloc, c->count + 1, sizeof *at);
    PN_FAIL_IF(at == NULL, PN_ERR_NOMEM);
    pn_status status = PN_OK;
    for (size_t i = 0; status == PN_OK && i < c->count; i++) {
        at[i] = c->list[i].at;
        if (at[i] == NEW) status = pn_manifest_add_segment(&c->dir.manifest, &c->list[i].s, &at[i]);
    }
    if (status == PN_OK) status = pn_generation_set_segments(c->dir.alloc, g, at, c->count);
    pn_alloc_put(c->dir.alloc, at);
    return status;
}

static pn_status fill_generation(commit *c, pn_generation *g)
{
    const pn_alloc *alloc = c->dir.alloc;
    if (c->current != NULL) PN_TRY(pn_generation_copy(alloc, c->current, g));
    g->number = c->number;
    g->time = c->write->time;
    PN_TRY(set_stores(c, g));
    PN_TRY(set_segments(c, g));
    PN_TRY(pn_generation_set_foreign(alloc, g, c->write->foreign, c->write->foreign_count));
    return pn_generation_set_json(alloc, g, c->write->json, c->write->json_count);
}

static pn_status drop_old(commit *c)
{
    pn_manifest *m = &c->dir.manifest;
    uint8_t *scratch = pn_alloc_zero(c->dir.alloc, m->segment_count + 1, 1);
    PN_FAIL_IF(scratch == NULL, PN_ERR_NOMEM);
    if (c->write->keep > 0) m->keep = c->write->keep;
    pn_manifest_drop(m, pn_plan_drop(m, m->keep, scratch));
    pn_alloc_put(c->dir.alloc, scratch);
    return pn_manifest_tidy(m);
}

static void draw_id(commit *c)
{
    const pn_vfs *vfs = c->dir.vfs;
    pn_put_u64(c->dir.manifest.id, vfs->random(vfs->ctx));
    pn_put_u64(c->dir.manifest.id + 8, vfs->random(vfs->ctx));
}

static pn_status add_generation(commit *c)
{
    pn_generation g = {0};
    if (c->current == NULL) draw_id(c); /* one that was retired is another pack from now on */
    pn_status status = fill_generation(c, &g);
    if (status == PN_OK) status = pn_manifest_push(&c->dir.manifest, &g);
    pn_generation_clear(c->dir.alloc, &g);
    c->current = NULL; /* it has moved */
    return status == PN_OK ? drop_old(c) : status;
}

/* ---- the whole ---- */

static bool makes_generation(const commit *c)
{
    return c->changed || c->current == NULL ||
           !pn_generation_same_foreign(c->current, c->write->foreign, c->write->foreign_count);
}

static pn_status run(commit *c, pn_pack_result *result)
{
    PN_TRY(begin(c));
    pn_pack_sweep_leftovers(&c->dir);
    PN_TRY(write_delta(c));
    *result = (pn_pack_result){.generation = c->number};
    if (makes_generation(c)) {
        PN_TRY(list_segments(c));
        PN_TRY(settle_segments(c));
        PN_TRY(add_generation(c));
        PN_TRY(pn_pack_publish(&c->dir, c->delta.created ? &c->delta : NULL, &c->visible));
        pn_pack_sweep_replaced(&c->dir);
        result->wrote = true;
    } else {
        /* What a killed commit replaced last is perhaps not durable, and is built on now. */
        PN_TRY(pn_pack_sync(&c->dir));
        result->generation = c->current->number;
    }
    result->bytes = c->dir.bytes;
    memcpy(result->id, c->dir.manifest.id, sizeof result->id);
    return PN_OK;
}

pn_status pn_pack_commit(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, const pn_pack_write *write,
                         pn_pack_result *result, pn_file_error *err)
{
    commit c = {.write = write};
    pn_pack_result made;
    PN_TRY(pn_pack_enter(&c.dir, vfs, alloc, dir, true, write->patience, write->note, err));
    pn_pack_file_init(&c.delta, &c.dir, 0);
    pn_pack_file_init(&c.merged, &c.dir, 0);
    pn_status status = run(&c, &made);
    pn_segment_writer_free(c.w);
    pn_pack_file_end(&c.delta, c.visible);
    pn_pack_file_end(&c.merged, c.visible);
    pn_alloc_put(alloc, c.list);
    pn_pack_leave(&c.dir);
    if (status == PN_OK) *result = made;
    return status;
}
