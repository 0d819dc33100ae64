/* pack_open.c: reading a pack.
 *
 * Nothing is locked. A commit that goes on meanwhile may replace the manifest that was read
 * and unlink segments that it listed: then the manifest is another one, and reading begins
 * again. Under the same manifest a missing segment is damage. */
#include "persist/pack_dir.h"
#include "persist/recover.h"

#include <errno.h>

enum { MAX_READINGS = 20 };

/* ---- the manifest ---- */

/* The manifest's bytes, as a JSON commit that is not finished yet left it. */
static pn_status read_bytes(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const char *path, pn_buf *out,
                            pn_file_error *err)
{
    pn_file_error local = {0};
    pn_status status = pn_read_file(vfs, alloc, root, path, true, out, &local);
    if (status == PN_ERR_IO && local.base.sys == ENOENT)
        return pn_file_refuse(err, PN_ERR_NOT_FOUND, path, "there is no pack here");
    if (status != PN_OK && err != NULL) *err = local;
    return status;
}

static pn_status parse(pn_manifest *m, pn_bytes bytes, const char *path, pn_file_error *err)
{
    pn_error why = {0};
    pn_status status = pn_manifest_parse(m, bytes, &why);
    if (status == PN_OK || status == PN_ERR_NOMEM) return status;
    (void)pn_file_refuse(err, status, path, why.what);
    if (err != NULL) err->base.offset = why.offset;
    return status;
}

pn_status pn_pack_manifest(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, pn_manifest *out,
                           pn_file_error *err)
{
    char root[PN_PATH_MAX], path[PN_PATH_MAX];
    pn_buf bytes;
    pn_manifest m;
    pn_path_trim(dir, root);
    int sys = pn_path_join(root, PN_MANIFEST_NAME, path);
    if (sys != 0) return pn_file_fail(err, sys, root, "the name is too long");
    pn_buf_init(&bytes, alloc);
    pn_manifest_init(&m, alloc);
    pn_status status = read_bytes(vfs, alloc, root, path, &bytes, err);
    if (status == PN_OK) status = parse(&m, pn_buf_view(&bytes), path, err);
    pn_buf_clear(&bytes);
    if (status == PN_OK) *out = m;
    return status;
}

/* ---- the segments ---- */

typedef struct opening {
    const pn_vfs *vfs;
    const pn_alloc *alloc;
    char root[PN_PATH_MAX], path[PN_PATH_MAX]; /* of the manifest */
    uint64_t wanted;
    unsigned flags;
    pn_pack *pack;
    pn_file_error why;
} opening;

static pn_status check_all(opening *o, const pn_segment *s, const pn_manifest_segment *m)
{
    pn_error why = {0};
    char path[PN_PATH_MAX] = "";
    pn_status status = pn_segment_check(s, &why);
    if (status == PN_OK || status == PN_ERR_NOMEM) return status;
    (void)pn_path_join(o->root, m->name, path);
    (void)pn_file_refuse(&o->why, status, path, why.what);
    o->why.base.offset = why.offset;
    return status;
}

static pn_status open_segments(opening *o)
{
    pn_pack *p = o->pack;
    const pn_generation *g = p->generation;
    const char *what = NULL;
    if (g->segment_count > 0) {
        p->segments = pn_alloc_zero(o->alloc, g->segment_count, sizeof(pn_segment *));
        PN_FAIL_IF(p->segments == NULL, PN_ERR_NOMEM);
    }
    for (size_t i = 0; i < g->segment_count; i++) {
        const pn_manifest_segment *s = &p->manifest.segments[g->segments[i]];
        PN_TRY(pn_pack_segment(o->vfs, o->alloc, o->root, s, PN_LOOK_ALL, (o->flags & PN_PACK_COPY) != 0,
                               &p->segments[i], &o->why));
        p->segment_count++;
        if (o->flags & PN_PACK_CHECK) PN_TRY(check_all(o, p->segments[i], s));
    }
    pn_status status = pn_pack_check_stores(o->alloc, g, p->segments, &what);
    return status == PN_ERR_CORRUPT ? pn_file_refuse(&o->why, status, o->path, what) : status;
}

static void empty(pn_pack *p)
{
    for (size_t i = 0; i < p->segment_count; i++) pn_segment_close(p->segments[i]);
    pn_alloc_put(p->alloc, p->segments);
    pn_manifest_clear(&p->manifest);
    p->segments = NULL;
    p->segment_count = 0;
    p->generation = NULL;
}

/* Fills the pack from these bytes of the manifest. */
static pn_status fill(opening *o, pn_bytes bytes)
{
    pn_pack *p = o->pack;
    PN_TRY(parse(&p->manifest, bytes, o->path, &o->why));
    p->generation = o->wanted == 0 ? pn_manifest_current(&p->manifest) : pn_manifest_find(&p->manifest, o->wanted);
    if (p->generation == NULL)
        return pn_file_refuse(&o->why, PN_ERR_NOT_FOUND, o->path,
                              pn_manifest_current(&p->manifest) == NULL ? "there is no pack here"
                                                                        : "the pack has no such generation");
    return open_segments(o);
}

/* ENOENT of a segment is told as an IO error; here it is settled what it means. */
static pn_status missing(opening *o)
{
    char path[PN_PATH_MAX];
    memcpy(path, o->why.path, sizeof path);
    return pn_file_refuse(&o->why, PN_ERR_CORRUPT, path, "a segment that the manifest lists is missing");
}

static pn_status open_with(opening *o, pn_buf *now, pn_buf *before)
{
    for (int n = 0; n < MAX_READINGS; n++) {
        now->len = 0;
        PN_TRY(read_bytes(o->vfs, o->alloc, o->root, o->path, now, &o->why));
        if (n > 0 && pn_bytes_equal(pn_buf_view(now), pn_buf_view(before))) return missing(o);
        pn_status status = fill(o, pn_buf_view(now));
        if (status != PN_ERR_IO || o->why.base.sys != ENOENT) return status;
        empty(o->pack);
        pn_buf swap = *now;
        *now = *before;
        *before = swap;
    }
    return pn_file_refuse(&o->why, PN_ERR_IO, o->path, "the pack is replaced faster than it can be read");
}

pn_status pn_pack_open(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, uint64_t generation, unsigned flags,
                       pn_pack **out, pn_file_error *err)
{
    opening o = {.vfs = vfs, .alloc = alloc, .wanted = generation, .flags = flags};
    pn_buf now, before;
    pn_path_trim(dir, o.root);
    int sys = pn_path_join(o.root, PN_MANIFEST_NAME, o.path);
    if (sys != 0) return pn_file_fail(err, sys, o.root, "the name is too long");
    o.pack = pn_alloc_zero(alloc, 1, sizeof *o.pack);
    PN_FAIL_IF(o.pack == NULL, PN_ERR_NOMEM);
    o.pack->alloc = alloc;
    pn_manifest_init(&o.pack->manifest, alloc);
    pn_buf_init(&now, alloc);
    pn_buf_init(&before, alloc);
    pn_status status = open_with(&o, &now, &before);
    pn_buf_clear(&now);
    pn_buf_clear(&before);
    if (status == PN_OK) *out = o.pack;
    else pn_pack_close(o.pack);
    if (status != PN_OK && status != PN_ERR_NOMEM && err != NULL) *err = o.why;
    return status;
}

void pn_pack_close(pn_pack *p)
{
    if (p == NULL) return;
    empty(p);
    pn_alloc_put(p->alloc, p);
}
