#include "persist/apply.h"

#include <errno.h>

static char *copy_string(const pn_alloc *alloc, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = pn_alloc_get(alloc, n);
    if (p != NULL) memcpy(p, s, n);
    return p;
}

/* Whether a directory between root and the name's last component is a symlink. */
static int any_linked_dir(const pn_vfs *vfs, const char *root, const char *name, bool *linked)
{
    char path[PN_PATH_MAX];
    int sys = pn_path_join(root, name, path);
    size_t at = strlen(path) - strlen(name);
    for (size_t i = at; sys == 0 && path[i] != '\0'; i++) {
        if (path[i] != '/') continue;
        pn_stat st;
        path[i] = '\0';
        sys = vfs->lstat(vfs->ctx, path, &st);
        path[i] = '/';
        if (sys == 0 && st.kind == PN_KIND_LINK) *linked = true;
    }
    return sys;
}

static pn_status find_one(const pn_vfs *vfs, const pn_places *p, const pn_journal_entry *e, pn_place *out,
                          pn_file_error *err)
{
    char path[PN_PATH_MAX], final[PN_PATH_MAX], dir[PN_PATH_MAX], staged[PN_PATH_MAX];
    int sys = pn_path_join(p->root, e->name, path);
    if (sys != 0) return pn_file_fail(err, sys, e->name, "the name is too long");
    sys = any_linked_dir(vfs, p->root, e->name, &out->linked);
    bool followed = false;
    if (sys == 0) sys = pn_file_follow(vfs, path, final, &followed);
    if (sys == 0) {
        out->linked |= followed;
        pn_path_dir(final, dir);
        sys = pn_path_join(e->copy ? p->root : dir, e->staged, staged);
    }
    if (sys != 0) return pn_file_fail(err, sys, path, "cannot find out where the file lies");
    out->final = copy_string(p->alloc, final);
    out->staged = copy_string(p->alloc, staged);
    return out->final != NULL && out->staged != NULL ? PN_OK : PN_ERR_NOMEM;
}

pn_status pn_places_find(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_journal *j,
                         pn_places *out, pn_file_error *err)
{
    pn_places p = {alloc, root, pn_alloc_zero(alloc, j->len, sizeof(pn_place)), j->len};
    pn_status status = p.at != NULL ? PN_OK : PN_ERR_NOMEM;
    for (size_t i = 0; status == PN_OK && i < j->len; i++) status = find_one(vfs, &p, &j->entries[i], &p.at[i], err);
    if (status == PN_OK) *out = p;
    else pn_places_clear(&p);
    return status;
}

void pn_places_clear(pn_places *p)
{
    for (size_t i = 0; p->at != NULL && i < p->len; i++) {
        pn_alloc_put(p->alloc, p->at[i].final);
        pn_alloc_put(p->alloc, p->at[i].staged);
    }
    pn_alloc_put(p->alloc, p->at);
    p->at = NULL;
    p->len = 0;
}

static pn_status sync_one(const pn_vfs *vfs, const char *dir, pn_file_error *err)
{
    int sys = vfs->sync_dir(vfs->ctx, dir);
    return sys == 0 ? PN_OK : pn_file_fail(err, sys, dir, "cannot make the directory durable");
}

/* Whether the directory of entry i is the journal's or an earlier entry's. */
static bool is_synced_before(const pn_places *p, size_t i, const char *dir)
{
    if (strcmp(dir, p->root) == 0) return true;
    char other[PN_PATH_MAX];
    for (size_t k = 0; k < i; k++) {
        pn_path_dir(p->at[k].final, other);
        if (strcmp(dir, other) == 0) return true;
    }
    return false;
}

pn_status pn_places_sync(const pn_vfs *vfs, const pn_places *p, pn_file_error *err)
{
    char dir[PN_PATH_MAX];
    for (size_t i = 0; i < p->len; i++) {
        pn_path_dir(p->at[i].final, dir);
        if (!is_synced_before(p, i, dir)) PN_TRY(sync_one(vfs, dir, err));
    }
    return sync_one(vfs, p->root, err);
}

int pn_entry_matches(const pn_vfs *vfs, const pn_journal_entry *e, const char *path, bool *matches)
{
    pn_stat st;
    int sys = vfs->lstat(vfs->ctx, path, &st);
    if (sys == ENOENT || (sys == 0 && (st.kind != PN_KIND_FILE || st.size != e->size))) {
        *matches = false;
        return 0;
    }
    uint64_t size = 0;
    uint32_t crc = 0;
    if (sys == 0) sys = pn_file_checksum(vfs, path, &size, &crc);
    if (sys == 0) *matches = size == e->size && crc == e->crc;
    return sys;
}

static int apply_one(const pn_vfs *vfs, const pn_journal_entry *e, pn_place *at, pn_progress *progress)
{
    int sys;
    bool touched = false;
    if (e->copy) {
        sys = pn_file_copy_over(vfs, at->staged, at->final, &touched);
        if (sys == 0) (void)vfs->unlink(vfs->ctx, at->staged); /* else the next commit sweeps it */
    } else {
        sys = vfs->rename(vfs->ctx, at->staged, at->final);
        touched = sys == 0;
    }
    if (sys == ENOENT && !touched) {
        /* Without locks another process may have finished this entry just now. */
        bool matches = false;
        if (pn_entry_matches(vfs, e, at->final, &matches) == 0 && matches) sys = 0;
    }
    if (sys == 0) at->done = true;
    if (sys == 0 || touched) progress->changed = true;
    return sys;
}

pn_status pn_journal_apply(const pn_vfs *vfs, const pn_journal *j, pn_places *p, pn_progress *progress,
                           pn_file_error *err)
{
    for (size_t i = 0; i < j->len; i++) {
        if (p->at[i].done) continue;
        int sys = apply_one(vfs, &j->entries[i], &p->at[i], progress);
        if (sys != 0)
            return pn_file_fail(err, sys, p->at[i].final,
                                j->entries[i].copy ? "cannot write the file in place" : "cannot replace the file");
    }
    PN_TRY(pn_places_sync(vfs, p, err));
    char path[PN_PATH_MAX];
    int sys = pn_path_join(p->root, PN_JOURNAL_NAME, path);
    if (sys == 0) sys = vfs->unlink(vfs->ctx, path);
    if (sys != 0 && sys != ENOENT) return pn_file_fail(err, sys, path, "cannot remove the commit journal");
    return sync_one(vfs, p->root, err);
}
