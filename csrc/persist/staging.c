#include "persist/staging.h"

#include <errno.h>

int pn_staged_create(const pn_vfs *vfs, const char *dir, uint32_t tag, char name[PN_STAGED_LEN + 1],
                     char path[PN_PATH_MAX], int *fd)
{
    int sys = EEXIST;
    for (int n = 0; sys == EEXIST && n < PN_MAX_NAMES_TRIED; n++) {
        pn_staged_name(tag, vfs->random(vfs->ctx), name);
        sys = pn_path_join(dir, name, path);
        if (sys == 0) sys = vfs->open(vfs->ctx, path, PN_OPEN_CREATE, 0666, fd);
    }
    return sys;
}

pn_status pn_target_look(const pn_vfs *vfs, const char *path, bool pinned_fine, pn_stat *st, bool *exists,
                         pn_file_error *err)
{
    int sys = vfs->lstat(vfs->ctx, path, st);
    *exists = sys == 0;
    if (sys == ENOENT) return PN_OK;
    if (sys == 0 && st->kind == PN_KIND_DIR) sys = EISDIR;
    if (sys == 0 && st->kind != PN_KIND_FILE) return pn_file_fail(err, EINVAL, path, "not a regular file");
    if (sys == 0) sys = vfs->writable(vfs->ctx, path);
    if (sys != 0) return pn_file_fail(err, sys, path, "cannot write the file");
    if (st->pinned && !pinned_fine)
        return pn_file_fail(err, EBUSY, path, "a mounted file cannot be replaced; persist with in_place=True");
    return PN_OK;
}

/* ---- what killed commits left ---- */

typedef struct sweep {
    const pn_vfs *vfs;
    const char *dir;
    pn_is_leftover is_leftover;
    void *ctx;
    bool count_only;
    size_t count;
} sweep;

static bool sweep_name(void *arg, const char *name)
{
    sweep *s = arg;
    char path[PN_PATH_MAX];
    if (!s->is_leftover(s->ctx, name) || pn_path_join(s->dir, name, path) != 0) return true;
    if (s->count_only || s->vfs->unlink(s->vfs->ctx, path) == 0) s->count++;
    return true;
}

size_t pn_leftovers_sweep(const pn_vfs *vfs, const char *root, const char *dir, pn_is_leftover is_leftover, void *ctx)
{
    sweep s = {vfs, dir, is_leftover, ctx, true, 0};
    if (vfs->list(vfs->ctx, dir, sweep_name, &s) != 0 || s.count == 0) return 0;
    if (vfs->sync_dir(vfs->ctx, root) != 0) return 0;
    s.count_only = false;
    s.count = 0;
    (void)vfs->list(vfs->ctx, dir, sweep_name, &s);
    return s.count;
}
