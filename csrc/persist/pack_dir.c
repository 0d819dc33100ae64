/* pack_dir.c: taking a pack's directory, replacing its manifest, sweeping it. */
#include "persist/pack_dir.h"

#include "persist/recover.h"
#include "persist/staging.h"

#include <errno.h>

enum { NOTE_MAX = 500 };

/* ---- one writer at a time ---- */

/* The first line that the writer at work left, into `to`; empty when there is none. */
static void read_note(const pn_pack_dir *d, char to[NOTE_MAX + 1])
{
    char path[PN_PATH_MAX];
    size_t n = 0, got = 0;
    int fd, sys = pn_path_join(d->root, PN_WRITER_NOTE, path);
    if (sys == 0) sys = d->vfs->open(d->vfs->ctx, path, PN_OPEN_READ, 0, &fd);
    if (sys == 0) {
        while (n < NOTE_MAX && d->vfs->read(d->vfs->ctx, fd, to + n, NOTE_MAX - n, &got) == 0 && got > 0) n += got;
        (void)d->vfs->close(d->vfs->ctx, fd);
    }
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)to[i] < 0x20) n = i;
    to[n] = '\0';
}

static pn_status lock_root(pn_pack_dir *d, unsigned patience)
{
    for (unsigned waited = 0;; waited++) {
        int sys = d->vfs->lock_dir(d->vfs->ctx, d->root, false, &d->lock);
        d->locked = sys == 0;
        if (sys == 0 || sys == ENOLCK) return PN_OK;
        if (sys != EWOULDBLOCK) return pn_file_fail(d->err, sys, d->root, "cannot lock the directory");
        if (waited >= patience) break;
        d->vfs->pause(d->vfs->ctx);
    }
    char note[NOTE_MAX + 1];
    read_note(d, note);
    return pn_file_refuse(d->err, PN_ERR_LOCKED, note, "another process is writing here");
}

/* Locks first: as a rule the directory is there, and looking costs more than trying. */
static pn_status take(pn_pack_dir *d, bool make, unsigned patience)
{
    pn_file_error local = {0}, *outer = d->err;
    d->err = &local;
    pn_status status = lock_root(d, patience);
    d->err = outer;
    if (status == PN_ERR_IO && local.base.sys == ENOENT) {
        if (!make) return pn_file_refuse(outer, PN_ERR_NOT_FOUND, d->path, "there is no pack here");
        PN_TRY(pn_file_make_dirs(d->vfs, d->root, outer));
        return lock_root(d, patience);
    }
    if (status != PN_OK && outer != NULL) *outer = local;
    return status;
}

/* Says who is at work. A courtesy: what goes wrong is nobody's business. A note of one who
 * was killed is replaced, never written into, whatever it may be. */
static void leave_note(pn_pack_dir *d, const char *note)
{
    char path[PN_PATH_MAX];
    int fd;
    if (note == NULL || !d->locked || pn_path_join(d->root, PN_WRITER_NOTE, path) != 0) return;
    int sys = d->vfs->open(d->vfs->ctx, path, PN_OPEN_CREATE, 0666, &fd);
    if (sys == EEXIST && d->vfs->unlink(d->vfs->ctx, path) == 0)
        sys = d->vfs->open(d->vfs->ctx, path, PN_OPEN_CREATE, 0666, &fd);
    if (sys != 0) return;
    d->noted = true;
    (void)pn_file_write_all(d->vfs, fd, (pn_bytes){(const uint8_t *)note, strlen(note)});
    (void)d->vfs->close(d->vfs->ctx, fd);
}

static void take_note_away(pn_pack_dir *d)
{
    char path[PN_PATH_MAX];
    if (d->noted && pn_path_join(d->root, PN_WRITER_NOTE, path) == 0) (void)d->vfs->unlink(d->vfs->ctx, path);
}

/* ---- the manifest as it is ---- */

static pn_status parse_manifest(pn_pack_dir *d, pn_bytes bytes)
{
    pn_error why;
    pn_status status = pn_manifest_parse(&d->manifest, bytes, &why);
    if ((status == PN_ERR_CORRUPT || status == PN_ERR_VERSION) && d->err != NULL) {
        (void)pn_file_refuse(d->err, status, d->path, why.what);
        d->err->base.offset = why.offset;
    }
    return status;
}

static pn_status read_manifest(pn_pack_dir *d)
{
    pn_buf bytes;
    PN_TRY(pn_target_look(d->vfs, d->path, false, &d->old, &d->exists, d->err));
    if (!d->exists) return PN_OK;
    pn_buf_init(&bytes, d->alloc);
    pn_status status = pn_file_read(d->vfs, d->path, &bytes, d->err);
    if (status == PN_OK) status = parse_manifest(d, pn_buf_view(&bytes));
    pn_buf_clear(&bytes);
    return status;
}

static pn_status remember_segments(pn_pack_dir *d)
{
    size_t n = d->manifest.segment_count;
    if (n == 0) return PN_OK;
    d->before = pn_alloc_zero(d->alloc, n, sizeof *d->before);
    PN_FAIL_IF(d->before == NULL, PN_ERR_NOMEM);
    memcpy(d->before, d->manifest.segments, n * sizeof *d->before);
    d->before_count = n;
    return PN_OK;
}

pn_status pn_pack_enter(pn_pack_dir *d, const pn_vfs *vfs, const pn_alloc *alloc, const char *root, bool make,
                        unsigned patience, const char *note, pn_file_error *err)
{
    pn_recover_result finished;
    *d = (pn_pack_dir){.vfs = vfs, .alloc = alloc, .err = err, .lock = -1};
    pn_manifest_init(&d->manifest, alloc);
    pn_path_trim(root, d->root);
    int sys = pn_path_join(d->root, PN_MANIFEST_NAME, d->path);
    if (sys != 0) return pn_file_fail(err, sys, d->root, "the name is too long");
    PN_TRY(take(d, make, patience));
    leave_note(d, note);
    pn_status status = pn_recover_locked(vfs, alloc, d->root, &finished, err);
    if (status == PN_OK) status = read_manifest(d);
    if (status == PN_OK) status = remember_segments(d);
    if (status != PN_OK) pn_pack_leave(d);
    return status;
}

void pn_pack_leave(pn_pack_dir *d)
{
    take_note_away(d);
    if (d->locked) d->vfs->unlock(d->vfs->ctx, d->lock);
    pn_alloc_put(d->alloc, d->before);
    pn_manifest_clear(&d->manifest);
}

/* ---- the moment of the commit ---- */

pn_status pn_pack_sync(pn_pack_dir *d)
{
    int sys = d->vfs->sync_dir(d->vfs->ctx, d->root);
    return sys == 0 ? PN_OK : pn_file_fail(d->err, sys, d->root, "cannot make the directory durable");
}

typedef struct staged {
    char path[PN_PATH_MAX];
    int fd; /* -1: closed */
} staged;

static int stage_manifest(pn_pack_dir *d, pn_bytes bytes, staged *s)
{
    const pn_vfs *vfs = d->vfs;
    char name[PN_STAGED_LEN + 1];
    int sys = pn_staged_create(vfs, d->root, 0, name, s->path, &s->fd);
    if (sys != 0) return sys;
    if (d->exists) sys = vfs->adopt(vfs->ctx, s->fd, &d->old);
    return sys == 0 ? pn_file_write_all(vfs, s->fd, bytes) : sys;
}

/* Makes durable what the manifest will refer to, and itself. Both are written before the
 * first is synced: the file system then needs one transaction where it would need two. */
static pn_status sync_all(pn_pack_dir *d, pn_pack_file *segment, staged *s)
{
    if (segment != NULL) PN_TRY(pn_pack_file_sync(segment));
    int sys = pn_file_sync_close(d->vfs, s->fd);
    s->fd = -1;
    if (sys != 0) return pn_file_fail(d->err, sys, d->path, "cannot write the manifest");
    return pn_pack_sync(d);
}

static pn_status replace_manifest(pn_pack_dir *d, pn_bytes bytes, pn_pack_file *segment)
{
    staged s = {.path = "", .fd = -1};
    int sys = stage_manifest(d, bytes, &s);
    pn_status status = sys == 0 ? sync_all(d, segment, &s) : PN_OK;
    if (sys == 0 && status == PN_OK) sys = d->vfs->rename(d->vfs->ctx, s.path, d->path);
    if (sys != 0) status = pn_file_fail(d->err, sys, d->path, "cannot write the manifest");
    if (s.fd >= 0) (void)d->vfs->close(d->vfs->ctx, s.fd);
    if (status != PN_OK && s.path[0] != '\0') (void)d->vfs->unlink(d->vfs->ctx, s.path);
    return status;
}

pn_status pn_pack_publish(pn_pack_dir *d, pn_pack_file *segment, bool *visible)
{
    pn_buf bytes;
    *visible = false;
    pn_buf_init(&bytes, d->alloc);
    pn_status status = pn_manifest_write(&d->manifest, &bytes);
    if (status == PN_OK) status = replace_manifest(d, pn_buf_view(&bytes), segment);
    d->bytes += bytes.len;
    pn_buf_clear(&bytes);
    PN_TRY(status);
    *visible = true;
    if (pn_pack_sync(d) == PN_OK) return PN_OK;
    if (d->err != NULL) d->err->base.code = PN_ERR_UNKNOWN_OUTCOME;
    return PN_ERR_UNKNOWN_OUTCOME;
}

/* ---- sweeping ---- */

static bool is_listed(const pn_manifest *m, const char *name)
{
    for (size_t i = 0; i < m->segment_count; i++)
        if (strcmp(m->segments[i].name, name) == 0) return true;
    return false;
}

static uint64_t generation_in(const char *name)
{
    uint64_t v = 0;
    for (const char *p = name + 4; *p != '-'; p++) v = v << 4 | (uint64_t)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
    return v;
}

/* A segment of a later generation than the next is from another pack, whose manifest was
 * lost perhaps: not ours to remove. Once a manifest says that there is no pack, all are. */
static bool is_leftover(void *ctx, const char *name)
{
    const pn_pack_dir *d = ctx;
    uint32_t tag;
    if (pn_staged_name_parse(name, &tag)) return tag == 0;
    if (!pn_segment_name_ok((pn_bytes){(const uint8_t *)name, strlen(name)}) || is_listed(&d->manifest, name)) return false;
    const pn_generation *current = pn_manifest_current(&d->manifest);
    if (current == NULL && d->exists) return true;
    return generation_in(name) <= (current != NULL ? current->number : 0) + 1;
}

void pn_pack_sweep_leftovers(pn_pack_dir *d)
{
    if (d->locked) (void)pn_leftovers_sweep(d->vfs, d->root, d->root, is_leftover, d);
}

void pn_pack_sweep_replaced(pn_pack_dir *d)
{
    char path[PN_PATH_MAX];
    for (size_t i = 0; d->locked && i < d->before_count; i++)
        if (!is_listed(&d->manifest, d->before[i].name) && pn_path_join(d->root, d->before[i].name, path) == 0)
            (void)d->vfs->unlink(d->vfs->ctx, path);
}
