/* pack_upkeep.c: what is done to a pack without a store in memory: going back to an earlier
 * generation, merging all segments, removing the pack. */
#include "persist/pack_dir.h"

#include <errno.h>

static pn_status none_here(pn_pack_dir *d, const char *what)
{
    return pn_file_refuse(d->err, PN_ERR_NOT_FOUND, d->path, what);
}

static void tell(const pn_pack_dir *d, bool wrote, pn_pack_result *result)
{
    *result = (pn_pack_result){.generation = pn_manifest_current(&d->manifest)->number, .bytes = d->bytes, .wrote = wrote};
    memcpy(result->id, d->manifest.id, sizeof result->id);
}

/* ---- rollback ---- */

/* Opens the generation's segments and lets go of them: what cannot be opened is not gone
 * back to. */
static pn_status check_openable(pn_pack_dir *d, uint64_t generation)
{
    pn_pack *pack;
    PN_TRY(pn_pack_open(d->vfs, d->alloc, d->root, generation, 0, &pack, d->err));
    pn_pack_close(pack);
    return PN_OK;
}

/* A store that is now what it was then keeps the number of its last change. */
static pn_status date_stores(const pn_alloc *alloc, const pn_generation *now, pn_generation *g)
{
    for (size_t i = 0; i < g->store_count; i++) {
        pn_bytes name = {(const uint8_t *)g->stores[i].name, strlen(g->stores[i].name)};
        const pn_manifest_store *s = pn_generation_store(now, name);
        if (s != NULL && s->changed == g->stores[i].changed) continue;
        PN_TRY(pn_generation_set_store(alloc, g, name, g->stores[i].kind, g->number));
    }
    return PN_OK;
}

static pn_status push_earlier(pn_pack_dir *d, const pn_generation *earlier, int64_t time)
{
    pn_generation g = {0};
    const pn_generation *now = pn_manifest_current(&d->manifest);
    pn_status status = pn_generation_copy(d->alloc, earlier, &g);
    g.number = now->number + 1;
    g.time = time;
    if (status == PN_OK) status = date_stores(d->alloc, now, &g);
    if (status == PN_OK) status = pn_manifest_push(&d->manifest, &g);
    pn_generation_clear(d->alloc, &g);
    return status;
}

static void drop_beyond(pn_manifest *m, size_t keep)
{
    if (m->generation_count > keep) pn_manifest_drop(m, m->generation_count - keep);
}

static pn_status roll_back(pn_pack_dir *d, uint64_t generation, int64_t time, pn_pack_result *result)
{
    bool visible;
    const pn_generation *now = pn_manifest_current(&d->manifest);
    const pn_generation *earlier = pn_manifest_find(&d->manifest, generation);
    if (now == NULL) return none_here(d, "there is no pack here");
    if (earlier == NULL) return none_here(d, "the pack has no such generation");
    if (now->number == UINT64_MAX)
        return pn_file_refuse(d->err, PN_ERR_CORRUPT, d->path, "there is no number left for a generation");
    if (earlier == now) {
        tell(d, false, result);
        return pn_pack_sync(d);
    }
    PN_TRY(check_openable(d, generation));
    PN_TRY(push_earlier(d, earlier, time));
    drop_beyond(&d->manifest, d->manifest.keep);
    PN_TRY(pn_manifest_tidy(&d->manifest));
    PN_TRY(pn_pack_publish(d, NULL, &visible));
    pn_pack_sweep_replaced(d);
    tell(d, true, result);
    return PN_OK;
}

pn_status pn_pack_rollback(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, uint64_t generation, int64_t time,
                           unsigned patience, const char *note, pn_pack_result *result, pn_file_error *err)
{
    pn_pack_dir d;
    pn_pack_result made;
    PN_TRY(pn_pack_enter(&d, vfs, alloc, dir, false, patience, note, err));
    pn_status status = roll_back(&d, generation, time, &made);
    pn_pack_leave(&d);
    if (status == PN_OK) *result = made;
    return status;
}

/* ---- compact ---- */

/* Merges the segments of a generation into `to`, which takes their place. */
static pn_status merge_all(pn_pack_dir *d, pn_generation *g, pn_pack_file *to)
{
    uint32_t at;
    pn_manifest_segment *list = pn_alloc_zero(d->alloc, g->segment_count, sizeof *list);
    PN_FAIL_IF(list == NULL, PN_ERR_NOMEM);
    for (size_t i = 0; i < g->segment_count; i++) list[i] = d->manifest.segments[g->segments[i]];
    pn_status status = pn_pack_merge(d, list, g->segment_count, true, to);
    pn_alloc_put(d->alloc, list);
    PN_TRY(status);
    PN_TRY(pn_manifest_add_segment(&d->manifest, &to->made, &at));
    return pn_generation_set_segments(d->alloc, g, &at, 1);
}

static pn_status compact(pn_pack_dir *d, uint32_t keep, pn_pack_file *to, bool *visible, pn_pack_result *result)
{
    pn_manifest *m = &d->manifest;
    if (m->generation_count == 0) return none_here(d, "there is no pack here");
    pn_generation *current = &m->generations[m->generation_count - 1];
    bool merges = current->segment_count > 1, drops = keep > 0 && m->generation_count > keep;
    to->generation = current->number;
    pn_pack_sweep_leftovers(d);
    if (!merges && !drops) {
        tell(d, false, result);
        return pn_pack_sync(d);
    }
    if (merges) PN_TRY(merge_all(d, current, to));
    if (drops) drop_beyond(m, keep);
    PN_TRY(pn_manifest_tidy(m));
    PN_TRY(pn_pack_publish(d, NULL, visible));
    pn_pack_sweep_replaced(d);
    tell(d, true, result);
    return PN_OK;
}

pn_status pn_pack_compact(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, uint32_t keep, unsigned patience,
                          const char *note, pn_pack_result *result, pn_file_error *err)
{
    pn_pack_dir d;
    pn_pack_file to;
    pn_pack_result made;
    bool visible = false;
    PN_TRY(pn_pack_enter(&d, vfs, alloc, dir, false, patience, note, err));
    pn_pack_file_init(&to, &d, 0);
    pn_status status = compact(&d, keep, &to, &visible, &made);
    pn_pack_file_end(&to, visible);
    pn_pack_leave(&d);
    if (status == PN_OK) *result = made;
    return status;
}

/* ---- retire ---- */

typedef struct removal {
    const pn_pack_dir *d;
    int sys; /* of the first that could not be removed */
    char path[PN_PATH_MAX];
} removal;

static bool remove_segment(void *arg, const char *name)
{
    removal *r = arg;
    char path[PN_PATH_MAX];
    if (!pn_segment_name_ok((pn_bytes){(const uint8_t *)name, strlen(name)})) return true;
    int sys = pn_path_join(r->d->root, name, path);
    if (sys == 0) sys = r->d->vfs->unlink(r->d->vfs->ctx, path);
    if (sys == 0 || sys == ENOENT) return true;
    r->sys = sys;
    memcpy(r->path, path, sizeof path);
    return false;
}

/* The manifest that says there is no pack must be durable before the first segment goes,
 * and go itself when the last one has: killed in between, the same call ends it. */
static pn_status remove_all(pn_pack_dir *d)
{
    removal r = {.d = d};
    PN_TRY(pn_pack_sync(d));
    int sys = d->vfs->list(d->vfs->ctx, d->root, remove_segment, &r);
    if (r.sys != 0) return pn_file_fail(d->err, r.sys, r.path, "cannot remove a segment");
    if (sys != 0) return pn_file_fail(d->err, sys, d->root, "cannot list the directory");
    PN_TRY(pn_pack_sync(d));
    sys = d->vfs->unlink(d->vfs->ctx, d->path);
    if (sys != 0 && sys != ENOENT) return pn_file_fail(d->err, sys, d->path, "cannot remove the manifest");
    return pn_pack_sync(d);
}

pn_status pn_pack_retire(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, unsigned patience,
                         const char *note, pn_file_error *err)
{
    pn_pack_dir d;
    pn_status status = pn_pack_enter(&d, vfs, alloc, dir, false, patience, note, err);
    if (status == PN_ERR_NOT_FOUND) return PN_OK;
    PN_TRY(status);
    if (d.manifest.generation_count > 0)
        status = pn_file_refuse(err, PN_ERR_INVALID, d.path, "the pack is in use");
    else if (d.exists && d.locked)
        status = remove_all(&d);
    pn_pack_leave(&d);
    return status;
}
