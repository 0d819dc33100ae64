/* pack_file.c: single segments of a pack: one read, one written, several merged to one. */
#include "base/omap.h"
#include "persist/merge.h"
#include "persist/pack_dir.h"
#include "persist/staging.h"

#include <errno.h>

enum {
    HELD = 2 << 20,  /* gathered to multiples of it in the file, see pn_pack_file_sink */
    HINT = 16 << 20, /* the disk is told to begin after so many bytes */
};

/* ---- reading ---- */

static pn_status refuse(pn_file_error *err, pn_status status, const char *path, const pn_error *why)
{
    if (status == PN_ERR_NOMEM) return status;
    (void)pn_file_refuse(err, status, path, why->what);
    if (err != NULL) err->base.offset = why->offset;
    return status;
}

pn_status pn_pack_map(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_manifest_segment *s,
                      bool copy, pn_blob **out, pn_file_error *err)
{
    char path[PN_PATH_MAX];
    int sys = pn_path_join(root, s->name, path);
    if (sys != 0) return pn_file_fail(err, sys, root, "the name is too long");
    sys = vfs->map(vfs->ctx, alloc, path, copy, out);
    PN_FAIL_IF(sys == ENOMEM, PN_ERR_NOMEM);
    return sys == 0 ? PN_OK : pn_file_fail(err, sys, path, "cannot read a segment");
}

pn_status pn_pack_open_mapped(const pn_alloc *alloc, pn_blob *blob, const pn_manifest_segment *s, pn_pack_look look,
                              pn_segment **out, pn_file_error *err)
{
    pn_error why = {0};
    pn_segment *opened;
    uint64_t size = pn_blob_view(blob).len;
    pn_status status = look == PN_LOOK_ALL ? pn_segment_open(alloc, blob, &opened, &why)
                                           : pn_segment_peek(alloc, blob, &opened, &why);
    if (status != PN_OK) return refuse(err, status, pn_blob_name(blob), &why);
    if (size == s->size && opened->tail_crc == s->tail_crc) {
        *out = opened;
        return PN_OK;
    }
    pn_segment_close(opened);
    why = (pn_error){PN_ERR_CORRUPT, 0, size != s->size ? size : size - 4, "not the segment that the manifest lists"};
    return refuse(err, PN_ERR_CORRUPT, pn_blob_name(blob), &why);
}

pn_status pn_pack_segment(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_manifest_segment *s,
                          pn_pack_look look, bool copy, pn_segment **out, pn_file_error *err)
{
    pn_blob *blob;
    PN_TRY(pn_pack_map(vfs, alloc, root, s, copy, &blob, err));
    pn_status status = pn_pack_open_mapped(alloc, blob, s, look, out, err);
    pn_blob_unref(blob);
    return status;
}

/* ---- writing ---- */

void pn_pack_file_init(pn_pack_file *f, pn_pack_dir *d, uint64_t generation)
{
    *f = (pn_pack_file){.dir = d, .generation = generation, .fd = -1};
    pn_buf_init(&f->held, d->alloc);
}

static pn_status fail(pn_pack_file *f, int sys)
{
    return pn_file_fail(f->dir->err, sys, f->path, "cannot write a segment");
}

static pn_status create(pn_pack_file *f)
{
    const pn_vfs *vfs = f->dir->vfs;
    int sys = EEXIST;
    for (int n = 0; sys == EEXIST && n < PN_MAX_NAMES_TRIED; n++) {
        pn_segment_name(f->generation, vfs->random(vfs->ctx), f->made.name);
        sys = pn_path_join(f->dir->root, f->made.name, f->path);
        if (sys == 0) sys = vfs->open(vfs->ctx, f->path, PN_OPEN_CREATE, 0666, &f->fd);
    }
    f->created = sys == 0;
    /* Whoever may not read the manifest may not read what it lists. */
    if (sys == 0 && f->dir->exists) sys = vfs->adopt(vfs->ctx, f->fd, &f->dir->old);
    return sys == 0 ? PN_OK : pn_file_fail(f->dir->err, sys, f->path, "cannot create a segment");
}

static pn_status put(pn_pack_file *f, pn_bytes bytes)
{
    const pn_vfs *vfs = f->dir->vfs;
    if (!f->created) PN_TRY(create(f));
    int sys = pn_file_write_all(vfs, f->fd, bytes);
    if (sys != 0) return fail(f, sys);
    f->put += bytes.len;
    f->dir->bytes += bytes.len;
    if (f->put - f->hinted >= HINT) {
        vfs->start_sync(vfs->ctx, f->fd);
        f->hinted = f->put;
    }
    return PN_OK;
}

static pn_status put_held(pn_pack_file *f)
{
    if (f->held.len == 0) return PN_OK;
    PN_TRY(put(f, pn_buf_view(&f->held)));
    f->held.len = 0;
    return PN_OK;
}

/* Writes up to the next multiple of HELD, with what is held; or, when nothing is, up to the
 * last one that the bytes reach. */
static pn_status put_front(pn_pack_file *f, size_t room, pn_bytes *bytes)
{
    bool held = f->held.len != 0;
    size_t n = held ? room : room + (bytes->len - room) / HELD * HELD;
    if (held) PN_TRY(pn_buf_append(&f->held, bytes->ptr, n));
    PN_TRY(held ? put_held(f) : put(f, (pn_bytes){bytes->ptr, n}));
    *bytes = (pn_bytes){bytes->ptr + n, bytes->len - n};
    return PN_OK;
}

/* A small segment is one write, and an empty one none. A large one is written in whole huge
 * pages: newer Linux then keeps and maps it in those (ext4, xfs), so that vectors are
 * searched where they lie as fast as in memory. */
pn_status pn_pack_file_sink(void *file, pn_bytes bytes)
{
    pn_pack_file *f = file;
    for (size_t room; bytes.len >= (room = HELD - (size_t)(f->put % HELD) - f->held.len);)
        PN_TRY(put_front(f, room, &bytes));
    return pn_buf_append(&f->held, bytes.ptr, bytes.len);
}

pn_status pn_pack_file_flush(pn_pack_file *f) { return put_held(f); }

pn_status pn_pack_file_sync(pn_pack_file *f)
{
    int sys = pn_file_sync_close(f->dir->vfs, f->fd);
    f->fd = -1;
    return sys == 0 ? PN_OK : fail(f, sys);
}

void pn_pack_file_end(pn_pack_file *f, bool keep)
{
    const pn_vfs *vfs = f->dir->vfs;
    if (f->fd >= 0) (void)vfs->close(vfs->ctx, f->fd);
    if (f->created && !keep) (void)vfs->unlink(vfs->ctx, f->path);
    f->fd = -1;
    f->created = false;
    pn_buf_clear(&f->held);
}

/* ---- merging ---- */

static pn_status write_merged(pn_pack_dir *d, const pn_manifest_segment *list, pn_segment **segments, size_t n,
                              bool bottom, pn_pack_file *to)
{
    size_t bad = 0;
    pn_error why = {0};
    char path[PN_PATH_MAX];
    pn_segment_writer *w;
    PN_TRY(pn_segment_writer_new(d->alloc, pn_pack_file_sink, to, &w));
    pn_status status = pn_segment_merge(d->alloc, segments, n, bottom, w, &bad, &why);
    if (status == PN_ERR_CORRUPT && pn_path_join(d->root, list[bad].name, path) == 0)
        (void)refuse(d->err, status, path, &why);
    if (status == PN_OK) status = pn_segment_finish(w, &to->made.size, &to->made.tail_crc);
    if (status == PN_OK) status = pn_pack_file_flush(to);
    if (status == PN_OK) status = pn_pack_file_sync(to);
    pn_segment_writer_free(w);
    return status;
}

pn_status pn_pack_merge(pn_pack_dir *d, const pn_manifest_segment *list, size_t n, bool bottom, pn_pack_file *to)
{
    pn_status status = PN_OK;
    pn_segment **segments = pn_alloc_zero(d->alloc, n, sizeof *segments);
    PN_FAIL_IF(segments == NULL, PN_ERR_NOMEM);
    for (size_t i = 0; status == PN_OK && i < n; i++)
        status = pn_pack_segment(d->vfs, d->alloc, d->root, &list[i], PN_LOOK_ALL, false, &segments[i], d->err);
    if (status == PN_OK) status = write_merged(d, list, segments, n, bottom, to);
    if (status != PN_OK) pn_pack_file_end(to, false);
    for (size_t i = 0; i < n; i++) pn_segment_close(segments[i]);
    pn_alloc_put(d->alloc, segments);
    return status;
}

/* ---- what a generation's segments leave ---- */

static pn_status apply_stores(pn_omap *kinds, const pn_segment *s, const char **what)
{
    for (size_t i = 0; i < s->store_count; i++) {
        const pn_segment_store *store = &s->stores[i];
        void *value;
        bool added;
        PN_TRY(pn_omap_put(kinds, store->name, s->blob, &value, &added));
        uint8_t *kind = value;
        if (!added && !store->reset && *kind != store->kind) {
            *what = "a segment changes a store of another kind";
            return PN_ERR_CORRUPT;
        }
        *kind = store->kind;
    }
    return PN_OK;
}

static pn_status compare_stores(const pn_omap *kinds, const pn_generation *g, const char **what)
{
    bool same = pn_omap_len(kinds) == g->store_count; /* listed names differ, so each is found once */
    for (size_t i = 0; same && i < g->store_count; i++) {
        const pn_manifest_store *s = &g->stores[i];
        const uint8_t *kind = pn_omap_get(kinds, (pn_bytes){(const uint8_t *)s->name, strlen(s->name)});
        same = kind != NULL && *kind == s->kind;
    }
    if (same) return PN_OK;
    *what = "the segments do not hold the stores that the manifest lists";
    return PN_ERR_CORRUPT;
}

pn_status pn_pack_check_stores(const pn_alloc *alloc, const pn_generation *g, pn_segment *const *segments,
                               const char **what)
{
    pn_omap kinds;
    pn_status status = PN_OK;
    pn_omap_init(&kinds, alloc, sizeof(uint8_t));
    for (size_t i = 0; status == PN_OK && i < g->segment_count; i++) status = apply_stores(&kinds, segments[i], what);
    if (status == PN_OK) status = compare_stores(&kinds, g, what);
    pn_omap_clear(&kinds);
    return status;
}
