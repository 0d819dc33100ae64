#include "persist/commit.h"

#include "base/crc32c.h"
#include "persist/apply.h"
#include "persist/recover.h"
#include "persist/staging.h"

#include <errno.h>

enum { MAX_OPEN = 32 };

/* One commit under way. */
typedef struct commit {
    const pn_vfs *vfs;
    const pn_alloc *alloc;
    const pn_commit_item *items;
    pn_journal journal; /* entry i is items[i] */
    pn_places places;
    char root[PN_PATH_MAX];
    uint32_t far_tag; /* of files staged outside root: tells whose they are */
    size_t staged;    /* entries whose staged file may exist */
    int open[MAX_OPEN]; /* written, not yet synced, of ... */
    size_t open_entry[MAX_OPEN], open_len;
    bool in_place, locked;
    int lock;
    pn_file_error *err;
} commit;

static pn_status fail(commit *c, int sys, const char *path, const char *what)
{
    return pn_file_fail(c->err, sys, path, what);
}

/* ---- names and what is there ---- */

static pn_status check_names(commit *c, size_t n)
{
    if (n == 0 || n > PN_JOURNAL_MAX) return pn_file_refuse(c->err, PN_ERR_INVALID, c->root, "no files, or too many");
    for (size_t i = 0; i < n; i++) {
        const char *name = c->items[i].name;
        if (!pn_journal_name_ok(name))
            return pn_file_refuse(c->err, PN_ERR_INVALID, name, "not a file name inside the directory");
        for (size_t k = 0; k < i; k++)
            if (strcmp(name, c->items[k].name) == 0)
                return pn_file_refuse(c->err, PN_ERR_INVALID, name, "the name occurs twice");
    }
    return PN_OK;
}

static pn_status make_parents(commit *c, const char *name)
{
    if (strchr(name, '/') == NULL) return PN_OK;
    char path[PN_PATH_MAX], dir[PN_PATH_MAX];
    int sys = pn_path_join(c->root, name, path);
    if (sys != 0) return fail(c, sys, name, "the name is too long");
    pn_path_dir(path, dir);
    return pn_file_make_dirs(c->vfs, dir, c->err);
}

static pn_status name_entries(commit *c, size_t n)
{
    PN_TRY(pn_journal_reserve(&c->journal, n));
    for (size_t i = 0; i < n; i++) {
        const char *name = c->items[i].name;
        PN_TRY(make_parents(c, name));
        PN_TRY(pn_journal_name(&c->journal, i, name, strlen(name)));
        c->journal.entries[i].size = c->items[i].bytes.len;
        c->journal.entries[i].crc = pn_crc32c(0, c->items[i].bytes);
    }
    return PN_OK;
}

/* Looks at the file that entry i will replace. */
static pn_status look_at_final(commit *c, size_t i, pn_stat *st, bool *exists)
{
    PN_TRY(pn_target_look(c->vfs, c->places.at[i].final, c->in_place, st, exists, c->err));
    if (!*exists) return PN_OK;
    pn_journal_entry *e = &c->journal.entries[i];
    e->had_old = true;
    e->old_size = st->size;
    e->old_mtime = st->mtime;
    e->copy = c->in_place;
    return PN_OK;
}

/* Two links to one file would each be staged and the journal would promise the file
 * two contents: only the last one is written, as writing both in turn would end. */
static pn_status drop_overwritten(commit *c)
{
    bool linked = false;
    for (size_t i = 0; i < c->places.len; i++) linked |= c->places.at[i].linked;
    if (!linked) return PN_OK;
    char dir[PN_PATH_MAX], real[PN_PATH_MAX], path[PN_PATH_MAX];
    for (size_t i = 0; i < c->places.len; i++) {
        pn_place *at = &c->places.at[i];
        pn_path_dir(at->final, dir);
        int sys = c->vfs->realpath(c->vfs->ctx, dir, real);
        if (sys == 0) sys = pn_path_join(real, pn_path_base(at->final), path);
        if (sys != 0) return fail(c, sys, dir, "cannot find the directory");
        char *copy = pn_alloc_get(c->alloc, strlen(path) + 1);
        PN_FAIL_IF(copy == NULL, PN_ERR_NOMEM);
        memcpy(copy, path, strlen(path) + 1);
        pn_alloc_put(c->alloc, at->final);
        at->final = copy;
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->places.at[k].final, path) == 0) c->places.at[k].done = true;
    }
    return PN_OK;
}

/* ---- staging ---- */

static pn_status unlink_staged(commit *c)
{
    pn_status status = PN_OK;
    for (size_t i = 0; i < c->staged; i++) {
        if (c->places.at[i].done) continue;
        int sys = c->vfs->unlink(c->vfs->ctx, c->places.at[i].staged);
        if (sys != 0 && sys != ENOENT) status = PN_ERR_IO;
    }
    c->staged = 0;
    return status;
}

static int fill(commit *c, int fd, pn_bytes bytes, const pn_stat *like)
{
    const pn_vfs *vfs = c->vfs;
    int sys = like != NULL ? vfs->adopt(vfs->ctx, fd, like) : 0;
    return sys == 0 ? pn_file_write_all(vfs, fd, bytes) : sys;
}

/* Makes what has been written so far durable. Several files are written before the
 * first is synced: the disk then works on all of them at once, and the file system
 * needs one transaction of its own where it would need one for each. */
static pn_status sync_open(commit *c)
{
    pn_status status = PN_OK;
    for (size_t i = 0; i < c->open_len; i++) {
        int sys = pn_file_sync_close(c->vfs, c->open[i]);
        if (sys != 0 && status == PN_OK)
            status = fail(c, sys, c->places.at[c->open_entry[i]].final, "cannot write its new contents beside it");
    }
    c->open_len = 0;
    return status;
}

static void close_open(commit *c)
{
    while (c->open_len > 0) (void)c->vfs->close(c->vfs->ctx, c->open[--c->open_len]);
}

/* Room in the file itself, so that overwriting it does not run out of it halfway. */
static pn_status reserve_in_place(commit *c, size_t i)
{
    const char *path = c->places.at[i].final;
    int fd, sys = c->vfs->open(c->vfs->ctx, path, PN_OPEN_WRITE, 0, &fd);
    if (sys != 0) return fail(c, sys, path, "cannot open for writing");
    sys = c->vfs->reserve(c->vfs->ctx, fd, c->items[i].bytes.len);
    (void)c->vfs->close(c->vfs->ctx, fd);
    return sys == 0 ? PN_OK : fail(c, sys, path, "no room to write the file in place");
}

static pn_status stage_one(commit *c, size_t i)
{
    pn_stat old;
    bool exists;
    pn_journal_entry *e = &c->journal.entries[i];
    pn_place *at = &c->places.at[i];
    PN_TRY(look_at_final(c, i, &old, &exists));
    if (e->copy) PN_TRY(reserve_in_place(c, i));
    char dir[PN_PATH_MAX], path[PN_PATH_MAX];
    if (e->copy) memcpy(dir, c->root, sizeof dir);
    else pn_path_dir(at->final, dir);
    int fd, sys = pn_staged_create(c->vfs, dir, strcmp(dir, c->root) == 0 ? 0 : c->far_tag, e->staged, path, &fd);
    if (sys != 0) return fail(c, sys, at->final, "cannot create a file beside it");
    char *staged = pn_alloc_get(c->alloc, strlen(path) + 1);
    if (staged == NULL) {
        (void)c->vfs->close(c->vfs->ctx, fd);
        (void)c->vfs->unlink(c->vfs->ctx, path);
        return PN_ERR_NOMEM;
    }
    memcpy(staged, path, strlen(path) + 1);
    pn_alloc_put(c->alloc, at->staged);
    at->staged = staged;
    c->staged = i + 1;
    c->open_entry[c->open_len] = i;
    c->open[c->open_len++] = fd;
    sys = fill(c, fd, c->items[i].bytes, exists ? &old : NULL);
    if (sys != 0) return fail(c, sys, at->final, "cannot write its new contents beside it");
    if (c->journal.len > 1) c->vfs->start_sync(c->vfs->ctx, fd); /* a single one is waited for at once */
    return c->open_len == MAX_OPEN ? sync_open(c) : PN_OK;
}

static pn_status stage_all(commit *c)
{
    for (size_t i = 0; i < c->journal.len; i++)
        if (!c->places.at[i].done) PN_TRY(stage_one(c, i));
    return sync_open(c);
}

/* ---- the moment of the commit ---- */

/* The same failure, told as one whose outcome is not known. */
static pn_status unknown(commit *c)
{
    if (c->err != NULL) c->err->base.code = PN_ERR_UNKNOWN_OUTCOME;
    return PN_ERR_UNKNOWN_OUTCOME;
}

static pn_status commit_single(commit *c, size_t i)
{
    pn_place *at = &c->places.at[i];
    int sys = c->vfs->rename(c->vfs->ctx, at->staged, at->final);
    if (sys != 0) return fail(c, sys, at->final, "cannot replace the file");
    at->done = true;
    return pn_places_sync(c->vfs, &c->places, c->err) == PN_OK ? PN_OK : unknown(c);
}

/* What the journal lists is all that is to be done: dropped items are not. */
static void forget_dropped(commit *c)
{
    size_t to = 0;
    for (size_t i = 0; i < c->journal.len; i++) {
        if (c->places.at[i].done) {
            pn_alloc_put(c->alloc, c->journal.entries[i].name);
            pn_alloc_put(c->alloc, c->places.at[i].final);
            pn_alloc_put(c->alloc, c->places.at[i].staged);
            continue;
        }
        c->journal.entries[to] = c->journal.entries[i];
        c->places.at[to++] = c->places.at[i];
    }
    c->journal.len = c->places.len = c->staged = to;
}

/* Puts the journal in place. *visible: its rename was done, so it must be believed. */
static pn_status publish_journal(commit *c, const char *journal, bool *visible)
{
    *visible = false;
    PN_TRY(pn_places_sync(c->vfs, &c->places, c->err));
    pn_buf text;
    pn_buf_init(&text, c->alloc);
    pn_status status = pn_journal_write(&c->journal, &text);
    char name[PN_STAGED_LEN + 1], path[PN_PATH_MAX];
    int fd, sys = 0;
    if (status == PN_OK) sys = pn_staged_create(c->vfs, c->root, 0, name, path, &fd);
    if (status == PN_OK && sys == 0) {
        sys = fill(c, fd, pn_buf_view(&text), NULL);
        int closed = pn_file_sync_close(c->vfs, fd);
        if (sys == 0) sys = closed;
        if (sys == 0) sys = c->vfs->rename(c->vfs->ctx, path, journal);
        if (sys != 0) (void)c->vfs->unlink(c->vfs->ctx, path);
        else *visible = true;
        if (sys == 0) sys = c->vfs->sync_dir(c->vfs->ctx, c->root);
    }
    pn_buf_clear(&text);
    if (status != PN_OK) return status;
    return sys == 0 ? PN_OK : fail(c, sys, journal, "cannot write the commit journal");
}

/* Takes a journal back whose first rename failed; err keeps what failed. False when
 * it may still be there after a crash, and with it the need for the staged files. */
static bool take_back(commit *c, const char *journal)
{
    return c->vfs->unlink(c->vfs->ctx, journal) == 0 && c->vfs->sync_dir(c->vfs->ctx, c->root) == 0;
}

static pn_status commit_journaled(commit *c)
{
    char journal[PN_PATH_MAX];
    bool visible;
    int sys = pn_path_join(c->root, PN_JOURNAL_NAME, journal);
    if (sys != 0) return fail(c, sys, c->root, "the name is too long");
    pn_status status = publish_journal(c, journal, &visible);
    if (status != PN_OK) return visible ? (c->staged = 0, unknown(c)) : status;
    pn_progress progress = {false};
    status = pn_journal_apply(c->vfs, &c->journal, &c->places, &progress, c->err);
    if (status == PN_OK) return PN_OK;
    if (!progress.changed && take_back(c, journal)) return status;
    c->staged = 0; /* the journal needs them */
    return unknown(c);
}

/* ---- what killed commits left ---- */

static bool is_staged(void *ctx, const char *name)
{
    uint32_t tag;
    return pn_staged_name_parse(name, &tag) && tag == *(const uint32_t *)ctx;
}

static size_t sweep_dir(const pn_vfs *vfs, const char *root, const char *dir, uint32_t tag)
{
    return pn_leftovers_sweep(vfs, root, dir, is_staged, &tag);
}

/* Files staged beside a symlink's target carry the tag of the directory whose commit
 * staged them: another directory's journal may still need its own. */
static void sweep_far(commit *c)
{
    char dir[PN_PATH_MAX], last[PN_PATH_MAX] = "";
    for (size_t i = 0; i < c->places.len; i++) {
        pn_path_dir(c->places.at[i].final, dir);
        if (strcmp(dir, c->root) == 0 || strcmp(dir, last) == 0) continue;
        (void)sweep_dir(c->vfs, c->root, dir, c->far_tag);
        memcpy(last, dir, sizeof last);
    }
}

pn_status pn_commit_sweep(const pn_vfs *vfs, const char *root, size_t *swept, pn_file_error *err)
{
    int fd, sys = vfs->lock_dir(vfs->ctx, root, false, &fd);
    *swept = 0;
    if (sys == EWOULDBLOCK || sys == ENOLCK || sys == ENOENT) return PN_OK;
    if (sys != 0) return pn_file_fail(err, sys, root, "cannot lock the directory");
    char journal[PN_PATH_MAX];
    pn_stat st;
    sys = pn_path_join(root, PN_JOURNAL_NAME, journal);
    if (sys == 0 && vfs->lstat(vfs->ctx, journal, &st) == ENOENT) *swept = sweep_dir(vfs, root, root, 0);
    vfs->unlock(vfs->ctx, fd);
    return sys == 0 ? PN_OK : pn_file_fail(err, sys, root, "the name is too long");
}

/* ---- the whole ---- */

static void set_far_tag(commit *c)
{
    pn_stat st;
    uint8_t id[16] = {0};
    c->far_tag = 1;
    if (!c->locked || c->vfs->fstat(c->vfs->ctx, c->lock, &st) != 0) return;
    pn_put_u64(id, st.dev);
    pn_put_u64(id + 8, st.ino);
    c->far_tag = pn_crc32c(0, (pn_bytes){id, sizeof id}) | 1; /* 0 is the directory itself */
}

static pn_status lock_root(commit *c)
{
    int sys = c->vfs->lock_dir(c->vfs->ctx, c->root, true, &c->lock);
    c->locked = sys == 0;
    if (sys != 0 && sys != ENOLCK) return fail(c, sys, c->root, "cannot lock the directory");
    set_far_tag(c);
    return PN_OK;
}

static size_t count_open(const commit *c, size_t *last)
{
    size_t n = 0;
    for (size_t i = 0; i < c->places.len; i++)
        if (!c->places.at[i].done) {
            *last = i;
            n++;
        }
    return n;
}

static pn_status run_locked(commit *c, size_t n)
{
    pn_recover_result before;
    PN_TRY(pn_recover_locked(c->vfs, c->alloc, c->root, &before, c->err));
    if (c->locked) (void)sweep_dir(c->vfs, c->root, c->root, 0);
    PN_TRY(name_entries(c, n));
    PN_TRY(pn_places_find(c->vfs, c->alloc, c->root, &c->journal, &c->places, c->err));
    PN_TRY(drop_overwritten(c));
    if (c->locked) sweep_far(c);
    PN_TRY(stage_all(c));
    size_t last = 0;
    if (count_open(c, &last) == 1 && !c->journal.entries[last].copy) return commit_single(c, last);
    forget_dropped(c);
    return commit_journaled(c);
}

pn_status pn_commit_files(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_commit_item *items,
                          size_t n, unsigned flags, pn_file_error *err)
{
    commit c = {.vfs = vfs, .alloc = alloc, .items = items, .lock = -1, .err = err};
    c.in_place = (flags & PN_COMMIT_IN_PLACE) != 0;
    pn_path_trim(root, c.root);
    pn_journal_init(&c.journal, alloc);
    PN_TRY(check_names(&c, n));
    PN_TRY(pn_file_make_dirs(vfs, c.root, err));
    PN_TRY(lock_root(&c));
    pn_status status = run_locked(&c, n);
    close_open(&c);
    if (status != PN_OK) (void)unlink_staged(&c);
    if (c.locked) vfs->unlock(vfs->ctx, c.lock);
    pn_places_clear(&c.places);
    pn_journal_clear(&c.journal);
    return status;
}
