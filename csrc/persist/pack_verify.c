/* pack_verify.c: looking for damage in every byte of a pack.
 *
 * Nothing is locked: a segment that is gone is damage only if a manifest that is read after
 * it was missed still lists it. So all are mapped before anything is told. */
#include "persist/merge.h"
#include "persist/pack_dir.h"

#include <errno.h>

enum { MAX_READINGS = 20 };

typedef struct verifier {
    const pn_vfs *vfs;
    const pn_alloc *alloc;
    char root[PN_PATH_MAX], path[PN_PATH_MAX]; /* of the manifest */
    pn_manifest manifest;
    pn_blob **blobs;       /* of its segments, in its order; NULL: not there, or not readable */
    pn_segment **segments; /* NULL: damaged */
    pn_pack_finding each;
    void *ctx;
    bool stop;        /* enough was told */
    pn_status unseen; /* why something could not be looked at: the first such failure, */
    pn_file_error why; /* and its detail */
} verifier;

static void tell(verifier *v, const char *path, uint64_t offset, const char *what)
{
    if (!v->stop) v->stop = !v->each(v->ctx, path, offset, what);
}

static void tell_segment(verifier *v, size_t i, uint64_t offset, const char *what)
{
    char path[PN_PATH_MAX];
    if (pn_path_join(v->root, v->manifest.segments[i].name, path) == 0) tell(v, path, offset, what);
}

/* What the bytes are wrong about is a finding; what keeps us from looking is told at the
 * end; only want of memory ends it at once. */
static pn_status judge(verifier *v, pn_status status, const pn_file_error *e)
{
    if (status == PN_OK || status == PN_ERR_NOMEM) return status;
    if (status == PN_ERR_CORRUPT) {
        tell(v, e->path, e->base.offset, e->base.what);
    } else if (v->unseen == PN_OK) {
        v->unseen = status;
        v->why = *e;
    }
    return PN_OK;
}

static void forget(verifier *v)
{
    for (size_t i = 0; i < v->manifest.segment_count; i++) {
        if (v->segments != NULL) pn_segment_close(v->segments[i]);
        if (v->blobs != NULL) pn_blob_unref(v->blobs[i]);
    }
    pn_alloc_put(v->alloc, v->segments);
    pn_alloc_put(v->alloc, v->blobs);
    v->segments = NULL;
    v->blobs = NULL;
    pn_manifest_clear(&v->manifest);
}

/* ---- what is there ---- */

static bool is_listed(const pn_manifest *m, const char *name)
{
    for (size_t i = 0; i < m->segment_count; i++)
        if (strcmp(m->segments[i].name, name) == 0) return true;
    return false;
}

/* Whether a segment that was not there has been swept by a commit since. */
static pn_status was_swept(verifier *v, const char *name, bool *swept)
{
    pn_manifest now;
    pn_status status = pn_pack_manifest(v->vfs, v->alloc, v->root, &now, NULL);
    PN_FAIL_IF(status == PN_ERR_NOMEM, status);
    *swept = status != PN_OK || !is_listed(&now, name); /* the next reading tells what is wrong with it */
    if (status == PN_OK) pn_manifest_clear(&now);
    return PN_OK;
}

/* *again: what was mapped is of a manifest that has been replaced. */
static pn_status map_all(verifier *v, bool *again)
{
    const pn_manifest *m = &v->manifest;
    for (size_t i = 0; i < m->segment_count; i++) {
        pn_file_error e = {0};
        pn_status status = pn_pack_map(v->vfs, v->alloc, v->root, &m->segments[i], false, &v->blobs[i], &e);
        if (status == PN_ERR_IO && e.base.sys == ENOENT) {
            PN_TRY(was_swept(v, m->segments[i].name, again));
            if (*again) return PN_OK;
        } else {
            PN_TRY(judge(v, status, &e)); /* never damage: nothing has been looked into */
        }
    }
    return PN_OK;
}

static pn_status make_room(verifier *v)
{
    size_t n = v->manifest.segment_count + 1;
    v->blobs = pn_alloc_zero(v->alloc, n, sizeof *v->blobs);
    v->segments = pn_alloc_zero(v->alloc, n, sizeof *v->segments);
    return v->blobs != NULL && v->segments != NULL ? PN_OK : PN_ERR_NOMEM;
}

/* Reads the manifest and maps what it lists. *found: there is something to look into. */
static pn_status read_all(verifier *v, bool *found)
{
    bool again = true;
    *found = false;
    for (int n = 0; again; n++) {
        pn_file_error e = {0};
        forget(v);
        v->unseen = PN_OK;
        if (n == MAX_READINGS)
            return judge(v, pn_file_refuse(&e, PN_ERR_IO, v->path, "the pack is replaced faster than it can be read"), &e);
        pn_status status = pn_pack_manifest(v->vfs, v->alloc, v->root, &v->manifest, &e);
        if (status == PN_OK && pn_manifest_current(&v->manifest) == NULL)
            status = pn_file_refuse(&e, PN_ERR_NOT_FOUND, v->path, "there is no pack here");
        if (status != PN_OK) return judge(v, status, &e);
        again = false;
        PN_TRY(make_room(v));
        PN_TRY(map_all(v, &again));
    }
    *found = true;
    return PN_OK;
}

/* ---- whether it is whole ---- */

static pn_status check_segment(verifier *v, size_t i)
{
    pn_error why = {0};
    pn_file_error e = {0};
    if (v->blobs[i] == NULL) {
        if (v->unseen == PN_OK) tell_segment(v, i, 0, "a segment that the manifest lists is missing");
        return PN_OK;
    }
    pn_status status = pn_pack_open_mapped(v->alloc, v->blobs[i], &v->manifest.segments[i], PN_LOOK_ALL,
                                           &v->segments[i], &e);
    if (status != PN_OK) return judge(v, status, &e);
    status = pn_segment_check(v->segments[i], &why);
    if (status != PN_ERR_CORRUPT) return status;
    tell_segment(v, i, why.offset, why.what);
    pn_segment_close(v->segments[i]);
    v->segments[i] = NULL;
    return PN_OK;
}

static pn_status discard(void *ctx, pn_bytes bytes)
{
    (void)ctx, (void)bytes;
    return PN_OK;
}

/* Tries the merge of a generation's segments: changes must fit what they change. */
static pn_status try_merge(verifier *v, const pn_generation *g, pn_segment **segments)
{
    size_t bad = 0;
    pn_error why = {0};
    pn_segment_writer *w;
    PN_TRY(pn_segment_writer_new(v->alloc, discard, NULL, &w));
    pn_status status = pn_segment_merge(v->alloc, segments, g->segment_count, true, w, &bad, &why);
    pn_segment_writer_free(w);
    if (status != PN_ERR_CORRUPT) return status;
    tell_segment(v, g->segments[bad], why.offset, why.what);
    return PN_OK;
}

static pn_status check_applied(verifier *v, const pn_generation *g, pn_segment **segments)
{
    const char *what = NULL;
    for (size_t i = 0; i < g->segment_count; i++) {
        segments[i] = v->segments[g->segments[i]];
        if (segments[i] == NULL) return PN_OK; /* that has been told */
    }
    pn_status status = pn_pack_check_stores(v->alloc, g, segments, &what);
    if (status == PN_OK) return g->segment_count > 1 ? try_merge(v, g, segments) : PN_OK;
    if (status != PN_ERR_CORRUPT) return status;
    tell(v, v->path, 0, what);
    return PN_OK;
}

static pn_status check_generation(verifier *v, const pn_generation *g)
{
    pn_segment **segments = pn_alloc_zero(v->alloc, g->segment_count + 1, sizeof *segments);
    PN_FAIL_IF(segments == NULL, PN_ERR_NOMEM);
    pn_status status = check_applied(v, g, segments);
    pn_alloc_put(v->alloc, segments);
    return status;
}

static pn_status check_all(verifier *v)
{
    bool found;
    PN_TRY(read_all(v, &found));
    if (!found) return PN_OK;
    for (size_t i = 0; i < v->manifest.segment_count && !v->stop; i++) PN_TRY(check_segment(v, i));
    for (size_t i = 0; i < v->manifest.generation_count && !v->stop; i++)
        PN_TRY(check_generation(v, &v->manifest.generations[i]));
    return PN_OK;
}

pn_status pn_pack_verify(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, pn_pack_finding each, void *ctx,
                         pn_file_error *err)
{
    verifier v = {.vfs = vfs, .alloc = alloc, .each = each, .ctx = ctx, .unseen = PN_OK};
    pn_path_trim(dir, v.root);
    pn_manifest_init(&v.manifest, alloc);
    int sys = pn_path_join(v.root, PN_MANIFEST_NAME, v.path);
    if (sys != 0) return pn_file_fail(err, sys, v.root, "the name is too long");
    pn_status status = check_all(&v);
    forget(&v);
    if (status == PN_OK && v.unseen != PN_OK) {
        if (err != NULL) *err = v.why;
        return v.unseen;
    }
    return status;
}
