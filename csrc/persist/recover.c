#include "persist/recover.h"

#include "base/crc32c.h"
#include "persist/apply.h"

#include <errno.h>

/* About ten seconds of waiting for a live commit's renames, or as many readings of a
 * directory that is committed to all the time. */
enum { MAX_WAITS = 10000, MAX_READINGS = 1000 };

static pn_status find_journal(const pn_vfs *vfs, const char *root, char path[PN_PATH_MAX], bool *found,
                              pn_file_error *err)
{
    pn_stat st;
    int sys = pn_path_join(root, PN_JOURNAL_NAME, path);
    if (sys == 0) sys = vfs->lstat(vfs->ctx, path, &st);
    *found = sys == 0;
    /* Whatever else keeps us from looking will be told by reading the file itself. */
    if (sys == 0 || sys == ENOENT || sys == ENOTDIR || sys == EACCES || sys == ENAMETOOLONG || sys == ELOOP)
        return PN_OK;
    return pn_file_fail(err, sys, path, "cannot look for a commit journal");
}

/* Reads and checks the journal; *found is false when it is gone. */
static pn_status read_journal(const pn_vfs *vfs, const pn_alloc *alloc, const char *path, pn_journal *j, bool *found,
                              pn_file_error *err)
{
    pn_file_error local;
    pn_error why;
    pn_buf text;
    pn_buf_init(&text, alloc);
    pn_journal_init(j, alloc);
    *found = true;
    pn_status status = pn_file_read(vfs, path, &text, &local);
    if (status == PN_OK) {
        status = pn_journal_parse(j, pn_buf_view(&text), &why);
        if (status == PN_ERR_CORRUPT) {
            (void)pn_file_refuse(err, status, path, why.what);
            if (err != NULL) err->base.offset = why.offset;
        }
    } else if (status == PN_ERR_IO && local.base.sys == ENOENT) {
        *found = false;
        status = PN_OK;
    } else if (err != NULL) {
        *err = local;
    }
    pn_buf_clear(&text);
    return status;
}

/* ---- rolling forward ---- */

/* Whether the final file is still what it was when the commit began, or as good. */
static int is_untouched(const pn_vfs *vfs, const pn_journal_entry *e, const char *final, bool *ok)
{
    pn_stat st;
    int sys = vfs->lstat(vfs->ctx, final, &st);
    if (sys == ENOENT) {
        *ok = true; /* there is nothing to overwrite */
        return 0;
    }
    if (sys != 0) return sys;
    *ok = e->had_old && st.kind == PN_KIND_FILE && st.size == e->old_size && st.mtime == e->old_mtime;
    return *ok ? 0 : pn_entry_matches(vfs, e, final, ok);
}

/* Decides what is left to do for one entry, without changing anything. */
static pn_status judge(const pn_vfs *vfs, const pn_journal_entry *e, pn_place *at, pn_file_error *err)
{
    pn_stat st;
    bool ok = false;
    int sys = vfs->lstat(vfs->ctx, at->staged, &st);
    if (sys == ENOENT) {
        sys = pn_entry_matches(vfs, e, at->final, &ok);
        if (sys != 0) return pn_file_fail(err, sys, at->final, "cannot read");
        at->done = true;
        return ok ? PN_OK : pn_file_refuse(err, PN_ERR_CORRUPT, at->final,
                                           "the staged file of an unfinished commit is gone, and this is not it");
    }
    if (sys == 0) sys = pn_entry_matches(vfs, e, at->staged, &ok);
    if (sys != 0) return pn_file_fail(err, sys, at->staged, "cannot read a staged file");
    if (!ok)
        return pn_file_refuse(err, PN_ERR_CORRUPT, at->staged, "a staged file is not what the commit journal says");
    if (e->copy) return PN_OK; /* half overwritten looks like anything */
    sys = is_untouched(vfs, e, at->final, &ok);
    if (sys != 0) return pn_file_fail(err, sys, at->final, "cannot read");
    return ok ? PN_OK : pn_file_refuse(err, PN_ERR_CORRUPT, at->final,
                                       "the file was changed by somebody else after an unfinished commit");
}

static bool any_linked(const pn_places *p)
{
    for (size_t i = 0; i < p->len; i++)
        if (p->at[i].linked) return true;
    return false;
}

static pn_status roll_forward(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_journal *j,
                              pn_recover_mode mode, pn_recover_result *result, pn_file_error *err)
{
    pn_places places;
    PN_TRY(pn_places_find(vfs, alloc, root, j, &places, err));
    pn_progress progress = {false};
    pn_status status = PN_OK;
    if (mode == PN_RECOVER_LOAD && any_linked(&places)) {
        *result = PN_RECOVER_STAYS;
        goto done;
    }
    for (size_t i = 0; status == PN_OK && i < j->len; i++) status = judge(vfs, &j->entries[i], &places.at[i], err);
    /* The process that wrote the journal may have died before its name was durable;
     * renames must not become so before it. */
    if (status == PN_OK) status = pn_places_sync(vfs, &places, err);
    if (status == PN_OK) status = pn_journal_apply(vfs, j, &places, &progress, err);
    if (status == PN_OK) *result = PN_RECOVER_DONE;
done:
    pn_places_clear(&places);
    return status;
}

static pn_status recover_mode_locked(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, pn_recover_mode mode,
                                     pn_recover_result *result, pn_file_error *err)
{
    char path[PN_PATH_MAX];
    pn_journal j;
    bool found;
    PN_TRY(find_journal(vfs, root, path, &found, err));
    if (found) PN_TRY(read_journal(vfs, alloc, path, &j, &found, err));
    if (!found) {
        *result = PN_RECOVER_NOTHING;
        return PN_OK;
    }
    pn_status status = roll_forward(vfs, alloc, root, &j, mode, result, err);
    pn_journal_clear(&j);
    return status;
}

pn_status pn_recover_locked(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, pn_recover_result *result,
                            pn_file_error *err)
{
    return recover_mode_locked(vfs, alloc, root, PN_RECOVER_ALL, result, err);
}

/* Waits until the lock is ours or the journal is gone. Only the renames of a live
 * commit are waited for: trying again and again, not queueing, so that the next
 * commit's long staging does not hold a reader up. An errno; *gone: no journal. */
static int lock_for_journal(const pn_vfs *vfs, const char *root, const char *journal, int *fd, bool *gone)
{
    *gone = false;
    for (int waits = 0;; waits++) {
        int sys = vfs->lock_dir(vfs->ctx, root, false, fd);
        if (sys != EWOULDBLOCK || waits == MAX_WAITS) return sys;
        vfs->pause(vfs->ctx);
        pn_stat st;
        if (vfs->lstat(vfs->ctx, journal, &st) == ENOENT) {
            *gone = true;
            return 0;
        }
    }
}

static bool may_stay(int sys)
{
    return sys == EACCES || sys == EPERM || sys == EROFS || sys == ENOLCK || sys == EWOULDBLOCK || sys == EBUSY;
}

static pn_status look(const pn_vfs *vfs, const pn_alloc *alloc, const char *path, pn_recover_result *result,
                      pn_file_error *err)
{
    pn_journal j;
    bool found;
    PN_TRY(read_journal(vfs, alloc, path, &j, &found, err));
    pn_journal_clear(&j);
    *result = found ? PN_RECOVER_STAYS : PN_RECOVER_NOTHING;
    return PN_OK;
}

pn_status pn_recover(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, pn_recover_mode mode,
                     pn_recover_result *result, pn_file_error *err)
{
    char dir[PN_PATH_MAX], path[PN_PATH_MAX];
    bool found, gone;
    pn_path_trim(root, dir);
    PN_TRY(find_journal(vfs, dir, path, &found, err));
    if (!found) {
        *result = PN_RECOVER_NOTHING;
        return PN_OK;
    }
    if (mode == PN_RECOVER_LOOK) return look(vfs, alloc, path, result, err);
    int fd = -1, sys = lock_for_journal(vfs, dir, path, &fd, &gone);
    if (sys == 0 && gone) {
        *result = PN_RECOVER_NOTHING;
        return PN_OK;
    }
    if (sys != 0 && mode == PN_RECOVER_LOAD && may_stay(sys)) return look(vfs, alloc, path, result, err);
    if (sys != 0 && sys != ENOLCK) return pn_file_fail(err, sys, dir, "cannot lock the directory");
    pn_file_error local;
    pn_status status = recover_mode_locked(vfs, alloc, dir, mode, result, &local);
    if (sys == 0) vfs->unlock(vfs->ctx, fd);
    if (status == PN_ERR_IO && mode == PN_RECOVER_LOAD && may_stay(local.base.sys))
        return look(vfs, alloc, path, result, err);
    if (status != PN_OK && status != PN_ERR_NOMEM && err != NULL) *err = local;
    return status;
}

pn_status pn_recover_pending(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, pn_journal *j,
                             pn_file_error *err)
{
    char dir[PN_PATH_MAX], path[PN_PATH_MAX];
    bool found;
    pn_path_trim(root, dir);
    PN_TRY(find_journal(vfs, dir, path, &found, err));
    pn_journal_init(j, alloc);
    return found ? read_journal(vfs, alloc, path, j, &found, err) : PN_OK;
}

/* ---- reading through a journal ---- */

static const pn_journal_entry *entry_of(const pn_journal *j, const char *name, size_t *i)
{
    for (*i = 0; *i < j->len; ++*i)
        if (strcmp(j->entries[*i].name, name) == 0) return &j->entries[*i];
    return NULL;
}

/* Reads the staged file, or the final one when it is already renamed. *ok is false
 * when neither is what the journal says (it may have been replaced meanwhile). */
static pn_status read_entry(const pn_vfs *vfs, const pn_journal_entry *e, const pn_place *at, pn_buf *out, bool *ok,
                            pn_file_error *err)
{
    size_t before = out->len;
    pn_file_error local;
    pn_status status = pn_file_read(vfs, at->staged, out, &local);
    if (status == PN_ERR_IO && local.base.sys == ENOENT) status = pn_file_read(vfs, at->final, out, &local);
    *ok = false;
    if (status == PN_ERR_IO && local.base.sys == ENOENT) return PN_OK;
    if (status != PN_OK) {
        if (err != NULL) *err = local;
        return status;
    }
    pn_bytes got = {out->data + before, out->len - before};
    *ok = got.len == e->size && pn_crc32c(0, got) == e->crc;
    if (!*ok) out->len = before;
    return PN_OK;
}

static pn_status read_listed(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_journal *j,
                             const char *name, const char *path, pn_buf *out, bool *ok, pn_file_error *err)
{
    size_t i;
    const pn_journal_entry *e = entry_of(j, name, &i);
    if (e == NULL) {
        *ok = true;
        return pn_file_read(vfs, path, out, err);
    }
    pn_places places;
    PN_TRY(pn_places_find(vfs, alloc, root, j, &places, err));
    pn_status status = read_entry(vfs, e, &places.at[i], out, ok, err);
    pn_places_clear(&places);
    return status;
}

/* A live commit may finish, and the next begin, while we read: what does not match a
 * journal that has changed since is simply read again. */
static pn_status read_through(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const char *name,
                              const char *path, pn_buf *out, pn_file_error *err)
{
    char journal[PN_PATH_MAX];
    int sys = pn_path_join(root, PN_JOURNAL_NAME, journal);
    if (sys != 0) return pn_file_fail(err, sys, root, "the name is too long");
    pn_stat last = {0};
    for (int n = 0; n < MAX_READINGS; n++) {
        pn_journal j;
        pn_stat now = {0};
        bool found = false, ok = false;
        sys = vfs->lstat(vfs->ctx, journal, &now);
        if (sys == 0) PN_TRY(read_journal(vfs, alloc, journal, &j, &found, err));
        if (!found) return pn_file_read(vfs, path, out, err);
        pn_status status = read_listed(vfs, alloc, root, &j, name, path, out, &ok, err);
        pn_journal_clear(&j);
        if (status != PN_OK || ok) return status;
        if (n > 0 && now.ino == last.ino && now.mtime == last.mtime) break;
        last = now;
    }
    return pn_file_refuse(err, PN_ERR_CORRUPT, path, "the file is not what the commit journal beside it says");
}

/* Recovers what `path` lies in; *stays: an unfinished commit does, name is the file's in dir. */
static pn_status recover_for(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const char *path,
                             bool read_only, char dir[PN_PATH_MAX], char name[PN_PATH_MAX], bool *stays,
                             pn_file_error *err)
{
    pn_recover_result result;
    *stays = false;
    if (root == NULL) pn_path_dir(path, dir);
    else pn_path_trim(root, dir);
    if (!pn_name_below(dir, path, name)) return PN_OK;
    PN_TRY(pn_recover(vfs, alloc, dir, read_only ? PN_RECOVER_LOOK : PN_RECOVER_LOAD, &result, err));
    *stays = result == PN_RECOVER_STAYS;
    return PN_OK;
}

pn_status pn_read_file(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const char *path, bool read_only,
                       pn_buf *out, pn_file_error *err)
{
    char dir[PN_PATH_MAX], name[PN_PATH_MAX];
    bool stays;
    PN_TRY(recover_for(vfs, alloc, root, path, read_only, dir, name, &stays, err));
    return stays ? read_through(vfs, alloc, dir, name, path, out, err) : pn_file_read(vfs, path, out, err);
}

pn_status pn_open_large_file(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const char *path,
                             bool read_only, uint64_t least, int *fd, uint64_t *size, pn_file_error *err)
{
    char dir[PN_PATH_MAX], name[PN_PATH_MAX];
    bool stays;
    pn_stat st = {0};
    PN_TRY(recover_for(vfs, alloc, root, path, read_only, dir, name, &stays, err));
    PN_FAIL_IF(stays || vfs->lstat(vfs->ctx, path, &st) != 0, PN_ERR_UNSUPPORTED);
    PN_FAIL_IF(st.kind != PN_KIND_FILE || st.size < least, PN_ERR_UNSUPPORTED);
    PN_FAIL_IF(vfs->open(vfs->ctx, path, PN_OPEN_READ, 0, fd) != 0, PN_ERR_UNSUPPORTED);
    if (vfs->fstat(vfs->ctx, *fd, &st) == 0) {
        *size = st.size;
        return PN_OK;
    }
    (void)vfs->close(vfs->ctx, *fd);
    return PN_ERR_UNSUPPORTED;
}

bool pn_name_below(const char *root, const char *path, char name[PN_PATH_MAX])
{
    char dir[PN_PATH_MAX];
    pn_path_trim(root, dir);
    size_t n = strlen(dir);
    if (strcmp(dir, ".") == 0 && path[0] != '/') {
        if (path[0] == '.' && path[1] == '/') path += 2;
    } else {
        if (strncmp(path, dir, n) != 0) return false;
        path += n;
        if (path[0] != '/' && dir[n - 1] != '/') return false;
    }
    while (path[0] == '/') path++;
    return pn_path_join("", path, name) == 0 && name[0] != '\0';
}
