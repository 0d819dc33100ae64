/* Commits: every crash state of a recorded one, every failing operation, every failing
 * allocation, and what recovery makes of journals that are not as they should be. */
#include "check.h"

#include "base/crc32c.h"
#include "file_fault.h"
#include "file_mem.h"
#include "persist/commit.h"
#include "persist/recover.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX_FILES = 6 };

typedef struct scenario {
    const char *what;
    size_t n;
    unsigned flags;
    const char *name[MAX_FILES];
    const char *old[MAX_FILES]; /* NULL: not there before */
    const char *new[MAX_FILES];
    bool links; /* d/f0 is a symlink to /far/f0 */
} scenario;

static const scenario SCENARIOS[] = {
    {"one new file", 1, 0, {"f0"}, {NULL}, {"new"}, false},
    {"one file replaced", 1, 0, {"f0"}, {"old contents"}, {"new"}, false},
    {"two files", 2, 0, {"f0", "f1"}, {"old contents", NULL}, {"new", "also new, longer"}, false},
    {"four files, two directories", 4, 0, {"f0", "sub/f1", "f2", "sub/f3"}, {"old", "old one", NULL, ""},
     {"new", "", "new two", "new three"}, false},
    {"six files", 6, 0, {"f0", "f1", "f2", "f3", "f4", "f5"}, {"old", "old 1", "old 2", "", NULL, "old five"},
     {"new", "new 1", "new 2", "new 3", "new 4", "new five"}, false},
    {"three files, one through a symlink", 3, 0, {"f0", "f1", "f2"}, {"old", "old 1", NULL}, {"new", "new 1", "new 2"},
     true},
    {"one file in place", 1, PN_COMMIT_IN_PLACE, {"f0"}, {"old contents"}, {"new"}, false},
    {"three files in place", 3, PN_COMMIT_IN_PLACE, {"f0", "f1", "f2"}, {"old contents", "old", NULL},
     {"new", "new and longer", "fresh"}, false},
    {"in place through a symlink", 2, PN_COMMIT_IN_PLACE, {"f0", "f1"}, {"old", "old 1"}, {"new 0", "new 1"}, true},
};
enum { SCENARIO_COUNT = sizeof SCENARIOS / sizeof *SCENARIOS };

static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static void path_of(const scenario *s, size_t i, char to[PN_PATH_MAX])
{
    CHECK_EQ_INT(pn_path_join("/d", s->name[i], to), 0);
}

static pn_memfs *set_up(const scenario *s)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(vfs.mkdir(fs, "/d"), 0);
    CHECK_EQ_INT(vfs.mkdir(fs, "/d/sub"), 0);
    CHECK_EQ_INT(vfs.mkdir(fs, "/far"), 0);
    if (s->links) CHECK_EQ_INT(pn_memfs_symlink(fs, "/d/f0", "../far/f0"), 0);
    for (size_t i = 0; i < s->n; i++) {
        char path[PN_PATH_MAX];
        path_of(s, i, path);
        if (s->old[i] != NULL)
            CHECK_EQ_INT(pn_memfs_put(fs, s->links && i == 0 ? "/far/f0" : path, text(s->old[i])), 0);
    }
    CHECK_EQ_INT(pn_memfs_settle(fs), 0);
    pn_memfs_limit_write(fs, 5);
    return fs;
}

static pn_status commit_with(const scenario *s, const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err)
{
    pn_commit_item items[MAX_FILES];
    for (size_t i = 0; i < s->n; i++) items[i] = (pn_commit_item){s->name[i], text(s->new[i])};
    return pn_commit_files(vfs, alloc, "/d/", items, s->n, s->flags, err);
}

/* ---- what state is it? ---- */

typedef enum state { STATE_OLD, STATE_NEW, STATE_MIXED } state;

typedef pn_status (*reader)(const pn_vfs *vfs, const char *path, pn_buf *out);

static pn_status read_plain(const pn_vfs *vfs, const char *path, pn_buf *out)
{
    return pn_file_read(vfs, path, out, NULL);
}

static pn_status read_only(const pn_vfs *vfs, const char *path, pn_buf *out)
{
    return pn_read_file(vfs, &pn_alloc_system, "/d", path, true, out, NULL);
}

static bool holds(const pn_vfs *vfs, const char *path, reader read, const char *want)
{
    pn_buf got;
    pn_buf_init(&got, &pn_alloc_system);
    pn_status status = read(vfs, path, &got);
    bool same = want == NULL ? status == PN_ERR_IO : status == PN_OK && pn_bytes_equal(pn_buf_view(&got), text(want));
    pn_buf_clear(&got);
    return same;
}

static state state_of(const scenario *s, const pn_vfs *vfs, reader read)
{
    size_t old = 0, new = 0;
    for (size_t i = 0; i < s->n; i++) {
        char path[PN_PATH_MAX];
        path_of(s, i, path);
        old += holds(vfs, path, read, s->old[i]);
        new += holds(vfs, path, read, s->new[i]);
    }
    return old == s->n ? STATE_OLD : new == s->n ? STATE_NEW : STATE_MIXED;
}

static bool count_own(void *arg, const char *name)
{
    if (strncmp(name, ".pannier-", 9) == 0) ++*(size_t *)arg;
    return true;
}

static size_t leftovers(const pn_vfs *vfs)
{
    size_t n = 0;
    const char *dirs[] = {"/d", "/d/sub", "/far"};
    for (size_t i = 0; i < 3; i++) (void)vfs->list(vfs->ctx, dirs[i], count_own, &n);
    return n;
}

static pn_status recover_all(const pn_vfs *vfs)
{
    pn_recover_result did;
    pn_file_error err = {0};
    pn_status status = pn_recover(vfs, &pn_alloc_system, "/d", PN_RECOVER_ALL, &did, &err);
    if (status != PN_OK) fprintf(stderr, "recover: %s: %s (%d)\n", err.path, err.base.what, err.base.sys);
    return status;
}

/* ---- crash states ---- */

typedef struct watch {
    const scenario *s;
    size_t states, nested, old, new;
    bool returned; /* the commit has: only the new state is allowed */
    size_t bad;
} watch;

static bool check_nested(void *arg, pn_memfs *after)
{
    watch *w = arg;
    pn_vfs vfs = pn_memfs_vfs(after);
    w->nested++;
    /* Recovery has begun, so the commit had happened. */
    if (recover_all(&vfs) != PN_OK || state_of(w->s, &vfs, read_plain) != STATE_NEW) w->bad++;
    return w->bad == 0;
}

static void crash_recovery(void *arg, pn_memfs *fs)
{
    if (pn_memfs_each_crash(fs, 12, check_nested, arg) == 0) ((watch *)arg)->bad++;
}

static bool run_recovery(void *arg, pn_memfs *copy)
{
    pn_vfs vfs = pn_memfs_vfs(copy);
    pn_recover_result did;
    pn_memfs_on_change(copy, crash_recovery, arg);
    CHECK_EQ_INT(pn_recover(&vfs, &pn_alloc_system, "/d", PN_RECOVER_ALL, &did, NULL), PN_OK);
    return true;
}

static bool check_state(void *arg, pn_memfs *after)
{
    watch *w = arg;
    pn_vfs vfs = pn_memfs_vfs(after);
    w->states++;
    state looked = state_of(w->s, &vfs, read_only);
    if (looked == STATE_NEW) (void)pn_memfs_each_crash(after, 1, run_recovery, w);
    pn_status status = recover_all(&vfs);
    state then = state_of(w->s, &vfs, read_plain);
    bool good = status == PN_OK && then != STATE_MIXED && looked == then && !(w->returned && then != STATE_NEW);
    good = good && pn_memfs_open_count(after) == 0;
    if (good && w->states % 16 == 0) { /* and life goes on, with nothing left lying about */
        good = commit_with(w->s, &vfs, &pn_alloc_system, NULL) == PN_OK && leftovers(&vfs) == 0 &&
               state_of(w->s, &vfs, read_plain) == STATE_NEW;
    }
    w->old += then == STATE_OLD;
    w->new += then == STATE_NEW;
    if (!good) {
        fprintf(stderr, "%s: state %zu: recover %d, read through %d, then %d\n", w->s->what, w->states, status, looked,
                then);
        w->bad++;
    }
    return w->bad < 3;
}

static void crash_here(void *arg, pn_memfs *fs)
{
    if (pn_memfs_each_crash(fs, 160, check_state, arg) == 0) ((watch *)arg)->bad++;
}

static void test_every_crash_state_is_old_or_new(void)
{
    size_t states = 0, nested = 0;
    for (size_t i = 0; i < SCENARIO_COUNT; i++) {
        watch w = {.s = &SCENARIOS[i]};
        pn_memfs *fs = set_up(w.s);
        pn_vfs vfs = pn_memfs_vfs(fs);
        crash_here(&w, fs);
        pn_memfs_on_change(fs, crash_here, &w);
        CHECK_EQ_INT(commit_with(w.s, &vfs, &pn_alloc_system, NULL), PN_OK);
        w.returned = true;
        pn_memfs_on_change(fs, NULL, NULL);
        crash_here(&w, fs);
        CHECK_EQ_INT(w.bad, 0);
        CHECK(w.old > 0 && w.new > 0);
        CHECK_EQ_INT(leftovers(&vfs), 0);
        CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
        CHECK(state_of(w.s, &vfs, read_plain) == STATE_NEW);
        printf("  %-38s %6zu crash states (%zu old, %zu new), %zu of a recovery\n", w.s->what, w.states, w.old, w.new,
               w.nested);
        states += w.states;
        nested += w.nested;
        pn_memfs_free(fs);
    }
    printf("  %zu crash states of commits, %zu of recoveries\n", states, nested);
    CHECK(states > 5000);
    CHECK(nested > 1000);
}

/* The enumeration must be able to fail: the same commit without any sync does. */
static int no_sync_dir(void *ctx, const char *path)
{
    (void)ctx, (void)path;
    return 0;
}

static int no_fsync(void *ctx, int fd)
{
    (void)ctx, (void)fd;
    return 0;
}

static bool count_bad(void *arg, pn_memfs *after)
{
    watch *w = arg;
    pn_vfs vfs = pn_memfs_vfs(after);
    pn_recover_result did;
    w->states++;
    pn_status status = pn_recover(&vfs, &pn_alloc_system, "/d", PN_RECOVER_ALL, &did, NULL);
    state then = state_of(w->s, &vfs, read_plain);
    if (status != PN_OK || then == STATE_MIXED || (w->returned && then != STATE_NEW)) w->bad++;
    return true;
}

static void count_bad_here(void *arg, pn_memfs *fs) { (void)pn_memfs_each_crash(fs, 160, count_bad, arg); }

static size_t bad_states_without(bool sync_file, bool sync_dir)
{
    watch w = {.s = &SCENARIOS[2]};
    pn_memfs *fs = set_up(w.s);
    pn_vfs vfs = pn_memfs_vfs(fs);
    if (!sync_file) vfs.fsync = no_fsync;
    if (!sync_dir) vfs.sync_dir = no_sync_dir;
    pn_memfs_on_change(fs, count_bad_here, &w);
    CHECK_EQ_INT(commit_with(w.s, &vfs, &pn_alloc_system, NULL), PN_OK);
    w.returned = true;
    count_bad_here(&w, fs);
    pn_memfs_free(fs);
    return w.bad;
}

static void test_crash_states_notice_missing_syncs(void)
{
    CHECK_EQ_INT(bad_states_without(true, true), 0);
    CHECK(bad_states_without(false, true) > 0);
    CHECK(bad_states_without(true, false) > 0);
    CHECK(bad_states_without(false, false) > 0);
}

/* ---- failing operations ---- */

static bool check_fault_state(void *arg, pn_memfs *after)
{
    watch *w = arg;
    pn_vfs vfs = pn_memfs_vfs(after);
    w->states++;
    pn_status status = recover_all(&vfs);
    state then = state_of(w->s, &vfs, read_plain);
    if (status != PN_OK || then == STATE_MIXED || (w->returned && then != STATE_NEW)) w->bad++;
    return w->bad == 0;
}

static void crash_fault_here(void *arg, pn_memfs *fs)
{
    if (pn_memfs_each_crash(fs, 4, check_fault_state, arg) == 0) ((watch *)arg)->bad++;
}

/* What must hold after a commit during which something failed, and after a crash then. */
static void check_after_fault(const scenario *s, pn_memfs *fs, pn_status status, const pn_fault *f, size_t *states)
{
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
    if (status == PN_OK) CHECK(state_of(s, &vfs, read_plain) == STATE_NEW);
    else if (status == PN_ERR_IO || status == PN_ERR_NOMEM) CHECK(state_of(s, &vfs, read_plain) == STATE_OLD);
    else CHECK_EQ_INT(status, PN_ERR_UNKNOWN_OUTCOME);
    if (status == PN_ERR_IO && f != NULL && f->kind == PN_FAULT_ONCE) CHECK_EQ_INT(leftovers(&vfs), 0);
    watch w = {.s = s, .returned = status == PN_OK};
    CHECK(pn_memfs_each_crash(fs, 48, check_fault_state, &w) > 0);
    /* The failing process is gone, what it wrote last may not be durable, another one
     * takes over, and the power is cut while it does. */
    bool watched = status == PN_ERR_UNKNOWN_OUTCOME || f == NULL || f->at % 16 == 0;
    if (watched) pn_memfs_on_change(fs, crash_fault_here, &w);
    CHECK_EQ_INT(recover_all(&vfs), PN_OK);
    CHECK(state_of(s, &vfs, read_plain) != STATE_MIXED);
    CHECK_EQ_INT(commit_with(s, &vfs, &pn_alloc_system, NULL), PN_OK);
    pn_memfs_on_change(fs, NULL, NULL);
    CHECK_EQ_INT(w.bad, 0);
    *states += w.states;
    CHECK(state_of(s, &vfs, read_plain) == STATE_NEW);
    CHECK_EQ_INT(leftovers(&vfs), 0);
}

static size_t fail_each(const scenario *s, pn_fault_kind kind, bool looks, size_t *states)
{
    for (size_t at = 0;; at++) {
        pn_memfs *fs = set_up(s);
        pn_fault f = {.below = pn_memfs_vfs(fs), .kind = kind, .at = at, .sys = EIO, .looks = looks};
        pn_vfs vfs = pn_fault_vfs(&f);
        pn_file_error err = {0};
        pn_status status = commit_with(s, &vfs, &pn_alloc_system, &err);
        if (status == PN_ERR_IO || status == PN_ERR_UNKNOWN_OUTCOME) {
            CHECK_EQ_INT(err.base.sys, EIO);
            CHECK_EQ_INT(err.base.code, status);
            CHECK(err.base.what != NULL && err.path[0] != '\0');
        }
        if (kind == PN_FAULT_SHORT) CHECK_EQ_INT(status, PN_OK);
        if (f.hit && kind == PN_FAULT_STICKY) CHECK(status != PN_OK || looks);
        check_after_fault(s, fs, status, &f, states);
        pn_memfs_free(fs);
        if (!f.hit && at >= f.count) return at;
    }
}

static void test_every_operation_failed(void)
{
    size_t points = 0, states = 0;
    for (size_t i = 0; i < SCENARIO_COUNT; i++)
        for (int kind = PN_FAULT_ONCE; kind <= PN_FAULT_CUT; kind++)
            for (int looks = 0; looks <= (kind <= PN_FAULT_STICKY); looks++)
                points += fail_each(&SCENARIOS[i], (pn_fault_kind)kind, looks != 0, &states);
    printf("  %zu failures injected, %zu crash states after them\n", points, states);
    CHECK(points > 500);
}

/* ---- failing memory ---- */

typedef struct meter {
    size_t left, live;
} meter;

static void *metered(void *ctx, void *ptr, size_t size)
{
    meter *m = ctx;
    if (size > 0) {
        if (m->left == 0) return NULL;
        m->left--;
    }
    void *p = pn_alloc_system.resize(NULL, ptr, size);
    if (ptr == NULL && p != NULL) m->live++;
    if (ptr != NULL && size == 0) m->live--;
    return p;
}

static void test_commit_survives_oom(void)
{
    size_t states = 0, points = 0;
    for (size_t i = 0; i < SCENARIO_COUNT; i++) {
        pn_status status = PN_ERR_NOMEM;
        for (size_t n = 0; status == PN_ERR_NOMEM; n++, points++) {
            meter m = {n, 0};
            pn_alloc alloc = {metered, &m};
            pn_memfs *fs = set_up(&SCENARIOS[i]);
            pn_vfs vfs = pn_memfs_vfs(fs);
            status = commit_with(&SCENARIOS[i], &vfs, &alloc, NULL);
            CHECK_EQ_INT(m.live, 0);
            if (status == PN_ERR_NOMEM) CHECK_EQ_INT(leftovers(&vfs), 0);
            check_after_fault(&SCENARIOS[i], fs, status, NULL, &states);
            pn_memfs_free(fs);
        }
        CHECK_EQ_INT(status, PN_OK);
    }
    printf("  %zu allocations failed\n", points);
}

/* A file system on which the first k renames of a commit were done, and no more; then
 * either nothing can be removed either, or nothing made durable. */
typedef struct cut {
    pn_vfs below;
    size_t renames;
    bool unlinks, refused;
} cut;

static int cut_rename(void *ctx, const char *from, const char *to)
{
    cut *c = ctx;
    c->refused = c->renames == 0;
    if (c->refused) return EIO;
    c->renames--;
    return c->below.rename(c->below.ctx, from, to);
}

static int cut_unlink(void *ctx, const char *path)
{
    cut *c = ctx;
    return c->refused && !c->unlinks ? EIO : c->below.unlink(c->below.ctx, path);
}

static int cut_sync_dir(void *ctx, const char *path)
{
    cut *c = ctx;
    return c->refused && c->unlinks ? EIO : c->below.sync_dir(c->below.ctx, path);
}

static int cut_lock(void *ctx, const char *path, bool wait, int *fd)
{
    return ((cut *)ctx)->below.lock_dir(((cut *)ctx)->below.ctx, path, wait, fd);
}
#define CUT_OVER(name, args, call) \
    static int cut_##name args { return ((cut *)ctx)->below.name call; }
#define BELOW ((cut *)ctx)->below.ctx
CUT_OVER(open, (void *ctx, const char *p, pn_open_how h, uint32_t m, int *fd), (BELOW, p, h, m, fd))
CUT_OVER(read, (void *ctx, int fd, void *to, size_t n, size_t *got), (BELOW, fd, to, n, got))
CUT_OVER(write, (void *ctx, int fd, const void *from, size_t n, size_t *put), (BELOW, fd, from, n, put))
CUT_OVER(adopt, (void *ctx, int fd, const pn_stat *like), (BELOW, fd, like))
CUT_OVER(fsync, (void *ctx, int fd), (BELOW, fd))
CUT_OVER(close, (void *ctx, int fd), (BELOW, fd))
CUT_OVER(fstat, (void *ctx, int fd, pn_stat *st), (BELOW, fd, st))
CUT_OVER(lstat, (void *ctx, const char *p, pn_stat *st), (BELOW, p, st))
CUT_OVER(readlink, (void *ctx, const char *p, char to[PN_PATH_MAX]), (BELOW, p, to))
CUT_OVER(realpath, (void *ctx, const char *p, char to[PN_PATH_MAX]), (BELOW, p, to))
CUT_OVER(writable, (void *ctx, const char *p), (BELOW, p))
CUT_OVER(mkdir, (void *ctx, const char *p), (BELOW, p))
CUT_OVER(list, (void *ctx, const char *p, pn_list_fn each, void *arg), (BELOW, p, each, arg))
static void cut_start_sync(void *ctx, int fd) { (void)ctx, (void)fd; }
static void cut_unlock(void *ctx, int fd) { ((cut *)ctx)->below.unlock(BELOW, fd); }
static uint64_t cut_random(void *ctx) { return ((cut *)ctx)->below.random(BELOW); }

static pn_vfs cut_vfs(cut *c)
{
    return (pn_vfs){.ctx = c, .open = cut_open, .read = cut_read, .write = cut_write, .adopt = cut_adopt,
                    .start_sync = cut_start_sync, .fsync = cut_fsync, .close = cut_close, .fstat = cut_fstat,
                    .lstat = cut_lstat, .readlink = cut_readlink, .realpath = cut_realpath, .writable = cut_writable,
                    .rename = cut_rename, .unlink = cut_unlink, .mkdir = cut_mkdir, .sync_dir = cut_sync_dir,
                    .list = cut_list, .lock_dir = cut_lock, .unlock = cut_unlock, .random = cut_random};
}

/* A commit of scenario s that stopped after the journal and `done` of its renames. */
static pn_memfs *unfinished(const scenario *s, size_t done)
{
    pn_memfs *fs = set_up(s);
    cut c = {pn_memfs_vfs(fs), 1 + done, false, false};
    pn_vfs vfs = cut_vfs(&c);
    CHECK_EQ_INT(commit_with(s, &vfs, &pn_alloc_system, NULL), PN_ERR_UNKNOWN_OUTCOME);
    return fs;
}

static void test_recover_survives_oom(void)
{
    pn_status status = PN_ERR_NOMEM;
    for (size_t n = 0; status == PN_ERR_NOMEM; n++) {
        meter m = {n, 0};
        pn_alloc alloc = {metered, &m};
        pn_memfs *fs = unfinished(&SCENARIOS[4], 2);
        pn_vfs vfs = pn_memfs_vfs(fs);
        pn_recover_result did;
        status = pn_recover(&vfs, &alloc, "/d", PN_RECOVER_ALL, &did, NULL);
        CHECK_EQ_INT(m.live, 0);
        CHECK_EQ_INT(recover_all(&vfs), PN_OK);
        CHECK(state_of(&SCENARIOS[4], &vfs, read_plain) == STATE_NEW);
        pn_memfs_free(fs);
    }
    CHECK_EQ_INT(status, PN_OK);
}

static void test_recover_survives_failing_operations(void)
{
    for (int kind = PN_FAULT_ONCE; kind <= PN_FAULT_STICKY; kind++)
        for (size_t at = 0, hit = 1; hit; at++) {
            pn_memfs *fs = unfinished(&SCENARIOS[4], 2);
            pn_fault f = {.below = pn_memfs_vfs(fs), .kind = (pn_fault_kind)kind, .at = at, .sys = EIO, .looks = true};
            pn_vfs vfs = pn_fault_vfs(&f);
            pn_recover_result did;
            pn_status status = pn_recover(&vfs, &pn_alloc_system, "/d", PN_RECOVER_ALL, &did, NULL);
            hit = f.hit;
            CHECK(status == PN_OK || status == PN_ERR_IO);
            CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
            CHECK_EQ_INT(recover_all(&f.below), PN_OK);
            CHECK(state_of(&SCENARIOS[4], &f.below, read_plain) == STATE_NEW);
            pn_memfs_free(fs);
        }
}

/* ---- journals and what lies beside them ---- */

static pn_status try_recover(pn_memfs *fs, pn_recover_mode mode, pn_recover_result *did, pn_file_error *err)
{
    pn_vfs vfs = pn_memfs_vfs(fs);
    return pn_recover(&vfs, &pn_alloc_system, "/d", mode, did, err);
}

static void test_recover_rolls_forward_from_any_rename(void)
{
    for (size_t done = 1; done < SCENARIOS[4].n; done++) {
        pn_memfs *fs = unfinished(&SCENARIOS[4], done);
        pn_vfs vfs = pn_memfs_vfs(fs);
        pn_recover_result did;
        CHECK(state_of(&SCENARIOS[4], &vfs, read_plain) == STATE_MIXED);
        CHECK(state_of(&SCENARIOS[4], &vfs, read_only) == STATE_NEW);
        CHECK_EQ_INT(try_recover(fs, PN_RECOVER_LOOK, &did, NULL), PN_OK);
        CHECK_EQ_INT(did, PN_RECOVER_STAYS);
        CHECK(state_of(&SCENARIOS[4], &vfs, read_plain) == STATE_MIXED);
        CHECK_EQ_INT(try_recover(fs, PN_RECOVER_LOAD, &did, NULL), PN_OK);
        CHECK_EQ_INT(did, PN_RECOVER_DONE);
        CHECK(state_of(&SCENARIOS[4], &vfs, read_plain) == STATE_NEW);
        CHECK_EQ_INT(leftovers(&vfs), 0);
        CHECK_EQ_INT(try_recover(fs, PN_RECOVER_LOAD, &did, NULL), PN_OK);
        CHECK_EQ_INT(did, PN_RECOVER_NOTHING);
        pn_memfs_free(fs);
    }
}

/* The journal's rename was the last to work, its removal may not be durable: until it
 * is, the next commit must not sweep what the journal would need. */
static void test_sweep_waits_until_a_removed_journal_is_gone(void)
{
    pn_memfs *fs = set_up(&SCENARIOS[2]);
    pn_vfs vfs = pn_memfs_vfs(fs);
    cut c = {vfs, 1, true, false};
    pn_vfs broken = cut_vfs(&c);
    CHECK_EQ_INT(commit_with(&SCENARIOS[2], &broken, &pn_alloc_system, NULL), PN_ERR_UNKNOWN_OUTCOME);
    CHECK(state_of(&SCENARIOS[2], &vfs, read_plain) == STATE_OLD);
    CHECK(leftovers(&vfs) > 0);
    watch w = {.s = &SCENARIOS[2]};
    pn_memfs_on_change(fs, crash_fault_here, &w);
    pn_commit_item item = {"g", text("another")};
    CHECK_EQ_INT(pn_commit_files(&vfs, &pn_alloc_system, "/d", &item, 1, 0, NULL), PN_OK);
    CHECK_EQ_INT(w.bad, 0);
    CHECK_EQ_INT(leftovers(&vfs), 0);
    pn_memfs_free(fs);
}

static void test_commit_finishes_an_earlier_one(void)
{
    pn_memfs *fs = unfinished(&SCENARIOS[4], 3);
    pn_vfs vfs = pn_memfs_vfs(fs);
    pn_commit_item item = {"g", text("another")};
    CHECK_EQ_INT(pn_commit_files(&vfs, &pn_alloc_system, "/d", &item, 1, 0, NULL), PN_OK);
    CHECK(state_of(&SCENARIOS[4], &vfs, read_plain) == STATE_NEW);
    CHECK(holds(&vfs, "/d/g", read_plain, "another"));
    CHECK_EQ_INT(leftovers(&vfs), 0);
    pn_memfs_free(fs);
}

static void test_loading_never_writes_through_a_symlink(void)
{
    pn_memfs *fs = unfinished(&SCENARIOS[5], 1);
    pn_vfs vfs = pn_memfs_vfs(fs);
    pn_recover_result did;
    size_t before = pn_memfs_operations(fs);
    CHECK_EQ_INT(try_recover(fs, PN_RECOVER_LOAD, &did, NULL), PN_OK);
    CHECK_EQ_INT(did, PN_RECOVER_STAYS);
    CHECK_EQ_INT(pn_memfs_operations(fs), before);
    CHECK(state_of(&SCENARIOS[5], &vfs, read_only) == STATE_NEW);
    CHECK_EQ_INT(try_recover(fs, PN_RECOVER_ALL, &did, NULL), PN_OK);
    CHECK_EQ_INT(did, PN_RECOVER_DONE);
    CHECK(state_of(&SCENARIOS[5], &vfs, read_plain) == STATE_NEW);
    pn_memfs_free(fs);
}

static void test_load_reads_through_while_another_holds_the_lock(void)
{
    pn_memfs *fs = unfinished(&SCENARIOS[4], 2);
    pn_vfs vfs = pn_memfs_vfs(fs);
    pn_recover_result did;
    pn_file_error err;
    int fd;
    CHECK_EQ_INT(vfs.lock_dir(fs, "/d", true, &fd), 0);
    CHECK_EQ_INT(try_recover(fs, PN_RECOVER_LOAD, &did, NULL), PN_OK);
    CHECK_EQ_INT(did, PN_RECOVER_STAYS);
    CHECK(state_of(&SCENARIOS[4], &vfs, read_only) == STATE_NEW);
    CHECK_EQ_INT(try_recover(fs, PN_RECOVER_ALL, &did, &err), PN_ERR_IO);
    CHECK_EQ_INT(err.base.sys, EWOULDBLOCK);
    vfs.unlock(fs, fd);
    pn_memfs_free(fs);
}

/* Finds the first staged file in /d. */
static bool first_staged(void *arg, const char *name)
{
    if (!pn_staged_name_parse(name, NULL)) return true;
    return pn_path_join("/d", name, arg) != 0;
}

static void refused(pn_memfs *fs, const char *path, const char *what)
{
    pn_vfs vfs = pn_memfs_vfs(fs);
    pn_recover_result did;
    pn_file_error err = {0};
    size_t before = pn_memfs_operations(fs);
    CHECK_EQ_INT(try_recover(fs, PN_RECOVER_ALL, &did, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.path, path);
    CHECK(err.base.what != NULL && strstr(err.base.what, what) != NULL);
    CHECK_EQ_INT(pn_memfs_operations(fs), before); /* nothing was touched */
    pn_commit_item item = {"g", text("x")};
    CHECK_EQ_INT(pn_commit_files(&vfs, &pn_alloc_system, "/d", &item, 1, 0, NULL), PN_ERR_CORRUPT);
    CHECK_EQ_INT(pn_memfs_operations(fs), before);
    pn_memfs_free(fs);
}

static void test_recover_refuses_what_does_not_match(void)
{
    char staged[PN_PATH_MAX] = "";
    pn_memfs *fs = unfinished(&SCENARIOS[4], 2);
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(vfs.list(fs, "/d", first_staged, staged), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, staged, text("damaged")), 0);
    refused(fs, staged, "a staged file is not");

    fs = unfinished(&SCENARIOS[4], 2);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/f3", text("written by somebody else")), 0);
    refused(fs, "/d/f3", "changed by somebody else");

    fs = unfinished(&SCENARIOS[4], 2);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/f0", text("written by somebody else")), 0);
    refused(fs, "/d/f0", "is gone");

    fs = unfinished(&SCENARIOS[4], 2);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/.pannier-commit", text("pannier-commit 2\nwho knows\n")), 0);
    refused(fs, "/d/.pannier-commit", "newer pannier");

    fs = unfinished(&SCENARIOS[4], 2);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/.pannier-commit", text("")), 0);
    refused(fs, "/d/.pannier-commit", "not a commit journal");
}

static void test_recover_restores_a_file_deleted_meanwhile(void)
{
    pn_memfs *fs = unfinished(&SCENARIOS[4], 2);
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(vfs.unlink(fs, "/d/f5"), 0);
    CHECK_EQ_INT(recover_all(&vfs), PN_OK);
    CHECK(state_of(&SCENARIOS[4], &vfs, read_plain) == STATE_NEW);
    pn_memfs_free(fs);
}

/* ---- the journal's text ---- */

static pn_status parse(const char *s, size_t n)
{
    pn_journal j;
    pn_error err = {0};
    pn_journal_init(&j, &pn_alloc_system);
    pn_status status = pn_journal_parse(&j, (pn_bytes){(const uint8_t *)s, n}, &err);
    CHECK(status == PN_OK ? j.len > 0 : j.len == 0 && j.entries == NULL);
    pn_journal_clear(&j);
    return status;
}

/* Parses "pannier-commit 1" + body + a last line that is right for it. */
static pn_status parse_body(const char *body)
{
    char all[4096], full[4200];
    size_t lines = 0;
    snprintf(all, sizeof all, "pannier-commit 1\n%s", body);
    for (const char *p = body; *p; p++) lines += *p == '\n';
    int n = snprintf(full, sizeof full, "%send %zu %08x\n", all, lines, pn_crc32c(0, text(all)));
    return parse(full, (size_t)n);
}

#define STAGED_A ".pannier-00000000-0123456789abcdef.tmp"
#define STAGED_B ".pannier-00000000-0123456789abcdee.tmp"

static void test_journal_accepts_only_what_it_writes(void)
{
    CHECK_EQ_INT(parse_body("rename 0000000f 10 - " STAGED_A " a.json\n"), PN_OK);
    CHECK_EQ_INT(parse_body("copy 0000000f 10 3:-77 " STAGED_A " sub/a%20b%25.json\n"), PN_OK);
    const char *bad[] = {
        "", "\n", "rename\n", "move 0000000f 10 - " STAGED_A " a\n",
        "rename 0000000F 10 - " STAGED_A " a\n",          /* upper-case hex */
        "rename 0000000f 010 - " STAGED_A " a\n",         /* leading zero */
        "rename 0000000f 18446744073709551616 - " STAGED_A " a\n",
        "rename 0000000f 10 -  " STAGED_A " a\n",         /* two spaces */
        "rename 0000000f 10 1: " STAGED_A " a\n", "rename 0000000f 10 1:-0 " STAGED_A " a\n",
        "rename 0000000f 10 1:9223372036854775808 " STAGED_A " a\n",
        "rename 0000000f 10 - x" STAGED_A " a\n", "rename 0000000f 10 - .pannier-0-1.tmp a\n",
        "rename 0000000f 10 - " STAGED_A " \n", "rename 0000000f 10 - " STAGED_A "\n",
        "rename 0000000f 10 - " STAGED_A " /etc/passwd\n", "rename 0000000f 10 - " STAGED_A " ../a\n",
        "rename 0000000f 10 - " STAGED_A " b/../../a\n", "rename 0000000f 10 - " STAGED_A " a/\n",
        "rename 0000000f 10 - " STAGED_A " a//b\n", "rename 0000000f 10 - " STAGED_A " ./a\n",
        "rename 0000000f 10 - " STAGED_A " .pannier-commit\n", "rename 0000000f 10 - " STAGED_A " x/.pannier-commit\n",
        "rename 0000000f 10 - " STAGED_A " a%41\n",       /* escaped without need */
        "rename 0000000f 10 - " STAGED_A " a%2\n", "rename 0000000f 10 - " STAGED_A " a%00b\n",
        "rename 0000000f 10 - " STAGED_A " a%0a\n",       /* lower-case escape */
        "rename 0000000f 10 - " STAGED_A " a b\n",
        "rename 0000000f 10 - " STAGED_A " a\nrename 0000000f 10 - " STAGED_A " b\n", /* staged twice */
        "rename 0000000f 10 - " STAGED_A " a\nrename 0000000f 10 - " STAGED_B " a\n", /* final twice */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pn_status status = parse_body(bad[i]);
        if (status != PN_ERR_CORRUPT) fprintf(stderr, "accepted: %s", bad[i]);
        CHECK_EQ_INT(status, PN_ERR_CORRUPT);
    }
    char longer[PN_PATH_MAX + 200] = "rename 0000000f 10 - " STAGED_A " ";
    size_t n = strlen(longer);
    memset(longer + n, 'a', 3500);
    strcpy(longer + n + 3500, "\n");
    CHECK_EQ_INT(parse_body(longer), PN_OK);
}

static void test_journal_notices_every_changed_byte(void)
{
    pn_journal j;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_journal_init(&j, &pn_alloc_system);
    CHECK_EQ_INT(pn_journal_reserve(&j, 2), PN_OK);
    CHECK_EQ_INT(pn_journal_name(&j, 0, "docstore.json", 13), PN_OK);
    CHECK_EQ_INT(pn_journal_name(&j, 1, "a b\n%\x7f\xc3\xa4", 8), PN_OK);
    for (uint32_t i = 0; i < 2; i++) {
        pn_staged_name(i, 77, j.entries[i].staged);
        j.entries[i].crc = 0xdeadbeef;
        j.entries[i].size = UINT64_MAX;
        j.entries[i].had_old = i == 1;
        j.entries[i].old_mtime = INT64_MAX;
    }
    CHECK_EQ_INT(pn_journal_write(&j, &out), PN_OK);
    pn_journal back;
    pn_journal_init(&back, &pn_alloc_system);
    CHECK_EQ_INT(pn_journal_parse(&back, pn_buf_view(&out), NULL), PN_OK);
    CHECK_EQ_INT(back.len, 2);
    CHECK_EQ_STR(back.entries[1].name, "a b\n%\x7f\xc3\xa4");
    CHECK(back.entries[1].had_old && !back.entries[0].had_old && back.entries[1].old_mtime == INT64_MAX);
    CHECK(back.entries[0].size == UINT64_MAX && back.entries[0].crc == 0xdeadbeef);
    pn_journal_clear(&back);
    for (size_t i = 0; i < out.len; i++) {
        CHECK_EQ_INT(parse((const char *)out.data, i), PN_ERR_CORRUPT);
        for (int bit = 0; bit < 8; bit++) {
            out.data[i] ^= (uint8_t)(1 << bit);
            CHECK_EQ_INT(parse((const char *)out.data, out.len), PN_ERR_CORRUPT);
            out.data[i] ^= (uint8_t)(1 << bit);
        }
    }
    CHECK_EQ_INT(pn_buf_push(&out, '\n'), PN_OK);
    CHECK_EQ_INT(parse((const char *)out.data, out.len), PN_ERR_CORRUPT);
    pn_buf_clear(&out);
    pn_journal_clear(&j);
}

/* ---- names and the rest ---- */

static void test_commit_refuses_names_that_escape(void)
{
    const char *bad[] = {"", "/x", "../x", "a/../x", "a//x", "./x", "a/", ".pannier-commit", "a/.pannier-b"};
    pn_memfs *fs = set_up(&SCENARIOS[4]);
    pn_vfs vfs = pn_memfs_vfs(fs);
    size_t before = pn_memfs_operations(fs);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pn_commit_item items[2] = {{"ok", text("x")}, {bad[i], text("x")}};
        CHECK_EQ_INT(pn_commit_files(&vfs, &pn_alloc_system, "/d", items, 2, 0, NULL), PN_ERR_INVALID);
    }
    pn_commit_item twice[2] = {{"ok", text("x")}, {"ok", text("y")}};
    CHECK_EQ_INT(pn_commit_files(&vfs, &pn_alloc_system, "/d", twice, 2, 0, NULL), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_commit_files(&vfs, &pn_alloc_system, "/d", twice, 0, 0, NULL), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_memfs_operations(fs), before);
    pn_memfs_free(fs);
}

static void test_two_links_to_one_file_end_as_the_last(void)
{
    pn_memfs *fs = set_up(&SCENARIOS[4]);
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(pn_memfs_symlink(fs, "/d/link", "./f0"), 0);
    pn_commit_item items[3] = {{"link", text("first")}, {"f1", text("other")}, {"f0", text("last")}};
    CHECK_EQ_INT(pn_commit_files(&vfs, &pn_alloc_system, "/d", items, 3, 0, NULL), PN_OK);
    CHECK(holds(&vfs, "/d/link", read_plain, "last"));
    CHECK(holds(&vfs, "/d/f1", read_plain, "other"));
    CHECK_EQ_INT(leftovers(&vfs), 0);
    pn_stat st;
    CHECK_EQ_INT(vfs.lstat(fs, "/d/link", &st), 0);
    CHECK_EQ_INT(st.kind, PN_KIND_LINK);
    pn_memfs_free(fs);
}

static void test_sweep_leaves_what_a_live_commit_or_a_journal_needs(void)
{
    const char *orphan = "/d/" STAGED_A, *foreign = "/d/.pannier-00000001-0123456789abcdef.tmp";
    size_t swept;
    pn_memfs *fs = set_up(&SCENARIOS[4]);
    pn_vfs vfs = pn_memfs_vfs(fs);
    int fd;
    CHECK_EQ_INT(pn_memfs_put(fs, orphan, text("x")), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, foreign, text("x")), 0);
    CHECK_EQ_INT(vfs.lock_dir(fs, "/d", true, &fd), 0);
    CHECK_EQ_INT(pn_commit_sweep(&vfs, "/d", &swept, NULL), PN_OK);
    CHECK_EQ_INT(swept, 0);
    vfs.unlock(fs, fd);
    CHECK_EQ_INT(pn_commit_sweep(&vfs, "/d", &swept, NULL), PN_OK);
    CHECK_EQ_INT(swept, 1);
    CHECK(holds(&vfs, foreign, read_plain, "x"));
    pn_memfs_free(fs);
    fs = unfinished(&SCENARIOS[4], 1);
    vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(pn_commit_sweep(&vfs, "/d", &swept, NULL), PN_OK);
    CHECK_EQ_INT(swept, 0);
    CHECK_EQ_INT(recover_all(&vfs), PN_OK);
    pn_memfs_free(fs);
}

static void test_names_below_a_directory(void)
{
    char name[PN_PATH_MAX];
    CHECK(pn_name_below("/a/b", "/a/b/c.json", name));
    CHECK_EQ_STR(name, "c.json");
    CHECK(pn_name_below("/a/b/", "/a/b//c/d", name));
    CHECK_EQ_STR(name, "c/d");
    CHECK(pn_name_below("/", "/c", name));
    CHECK_EQ_STR(name, "c");
    CHECK(pn_name_below("", "c", name));
    CHECK(pn_name_below(".", "./c", name));
    CHECK_EQ_STR(name, "c");
    CHECK(!pn_name_below("/a/b", "/a/bc", name));
    CHECK(!pn_name_below("/a/b", "/a/b", name));
    CHECK(!pn_name_below("/a/b", "/a/b/", name));
    CHECK(!pn_name_below("/a/b", "/x/c", name));
}

int main(void)
{
    RUN(test_every_crash_state_is_old_or_new);
    RUN(test_crash_states_notice_missing_syncs);
    RUN(test_every_operation_failed);
    RUN(test_commit_survives_oom);
    RUN(test_recover_survives_oom);
    RUN(test_recover_survives_failing_operations);
    RUN(test_recover_rolls_forward_from_any_rename);
    RUN(test_commit_finishes_an_earlier_one);
    RUN(test_sweep_waits_until_a_removed_journal_is_gone);
    RUN(test_loading_never_writes_through_a_symlink);
    RUN(test_load_reads_through_while_another_holds_the_lock);
    RUN(test_recover_refuses_what_does_not_match);
    RUN(test_recover_restores_a_file_deleted_meanwhile);
    RUN(test_journal_accepts_only_what_it_writes);
    RUN(test_journal_notices_every_changed_byte);
    RUN(test_commit_refuses_names_that_escape);
    RUN(test_two_links_to_one_file_end_as_the_last);
    RUN(test_sweep_leaves_what_a_live_commit_or_a_journal_needs);
    RUN(test_names_below_a_directory);
    return check_summary();
}
