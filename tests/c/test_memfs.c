/* The in-memory file system keeps exactly the promises that a disk keeps: what is not
 * synced may be lost, in any part; what is synced stays. And the fault layer fails
 * where it is told to. */
#include "check.h"

#include "file_fault.h"
#include "file_mem.h"

#include <errno.h>

static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static int put(const pn_vfs *vfs, const char *path, const char *s, bool sync)
{
    int fd, sys = vfs->open(vfs->ctx, path, PN_OPEN_CREATE, 0666, &fd);
    if (sys != 0) return sys;
    sys = pn_file_write_all(vfs, fd, text(s));
    if (sys == 0 && sync) sys = vfs->fsync(vfs->ctx, fd);
    (void)vfs->close(vfs->ctx, fd);
    return sys;
}

static bool holds(const pn_vfs *vfs, const char *path, const char *want)
{
    pn_buf got;
    pn_buf_init(&got, &pn_alloc_system);
    bool same = pn_file_read(vfs, path, &got, NULL) == PN_OK && pn_bytes_equal(pn_buf_view(&got), text(want));
    pn_buf_clear(&got);
    return same;
}

static bool exists(const pn_vfs *vfs, const char *path)
{
    pn_stat st;
    return vfs->lstat(vfs->ctx, path, &st) == 0;
}

/* Counts in how many crash states each of a few things holds. */
typedef struct tally {
    const char *path, *want[6];
    size_t states, missing, found[6];
} tally;

static bool count(void *arg, pn_memfs *after)
{
    tally *t = arg;
    pn_vfs vfs = pn_memfs_vfs(after);
    t->states++;
    t->missing += !exists(&vfs, t->path);
    for (size_t i = 0; i < 6; i++) t->found[i] += t->want[i] != NULL && holds(&vfs, t->path, t->want[i]);
    return true;
}

static void test_a_new_file_may_be_lost_torn_or_zero(void)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(put(&vfs, "/a", "abcd", false), 0);
    tally t = {.path = "/a", .want = {"", "abcd", "ab"}};
    CHECK_EQ_INT(pn_memfs_each_crash(fs, 100, count, &t), 8); /* name or not, four fates */
    CHECK_EQ_INT(t.missing, 4);
    CHECK_EQ_INT(t.found[0], 1);
    CHECK_EQ_INT(t.found[1], 1);
    CHECK_EQ_INT(t.found[2], 1); /* the fourth is zeros */
    CHECK_EQ_INT(vfs.sync_dir(fs, "/"), 0);
    t = (tally){.path = "/a", .want = {"", "abcd", "ab"}};
    CHECK_EQ_INT(pn_memfs_each_crash(fs, 100, count, &t), 4);
    CHECK_EQ_INT(t.missing, 0);
    pn_memfs_free(fs);
}

static void test_fsync_keeps_contents_and_sync_dir_names(void)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(put(&vfs, "/a", "abcd", true), 0);
    tally t = {.path = "/a", .want = {"abcd"}};
    CHECK_EQ_INT(pn_memfs_each_crash(fs, 100, count, &t), 2);
    CHECK_EQ_INT(t.missing, 1);
    CHECK_EQ_INT(t.found[0], 1);
    CHECK_EQ_INT(vfs.sync_dir(fs, "/"), 0);
    t = (tally){.path = "/a", .want = {"abcd"}};
    CHECK_EQ_INT(pn_memfs_each_crash(fs, 100, count, &t), 1);
    CHECK_EQ_INT(t.found[0], 1);
    pn_memfs_free(fs);
}

static void test_an_unsynced_rename_shows_either_file_never_none(void)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(pn_memfs_put(fs, "/a", text("old")), 0);
    CHECK_EQ_INT(put(&vfs, "/b", "new", true), 0);
    CHECK_EQ_INT(vfs.rename(fs, "/b", "/a"), 0);
    tally t = {.path = "/a", .want = {"old", "new"}};
    CHECK_EQ_INT(pn_memfs_each_crash(fs, 100, count, &t), 4); /* creation and rename, each kept or lost */
    CHECK_EQ_INT(t.missing, 0);
    CHECK_EQ_INT(t.found[0], 2);
    CHECK_EQ_INT(t.found[1], 2);
    pn_memfs_free(fs);
}

static void test_overwriting_unsynced_shows_every_fate(void)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    pn_vfs vfs = pn_memfs_vfs(fs);
    int fd;
    CHECK_EQ_INT(pn_memfs_put(fs, "/a", text("old contents")), 0);
    CHECK_EQ_INT(vfs.open(fs, "/a", PN_OPEN_WRITE, 0, &fd), 0);
    CHECK_EQ_INT(pn_file_write_all(&vfs, fd, text("NEW!")), 0);
    tally t = {.path = "/a", .want = {"old contents", "NEW!contents", "NEW!co", "NEW!contents"}};
    CHECK_EQ_INT(pn_memfs_each_crash(fs, 100, count, &t), 4);
    CHECK_EQ_INT(t.found[0], 1);
    CHECK_EQ_INT(t.found[1], 2); /* as written, and torn where the halves agree */
    CHECK_EQ_INT(vfs.close(fs, fd), 0);
    CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
    pn_memfs_free(fs);
}

static void test_many_pending_changes_are_sampled(void)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    pn_vfs vfs = pn_memfs_vfs(fs);
    char path[] = "/a";
    for (char c = 'a'; c < 'a' + 12; c++) {
        path[1] = c;
        CHECK_EQ_INT(put(&vfs, path, "x", true), 0);
    }
    tally t = {.path = "/c", .want = {"x"}};
    CHECK_EQ_INT(pn_memfs_each_crash(fs, 200, count, &t), 200);
    CHECK(t.missing > 50 && t.found[0] > 50 && t.missing + t.found[0] == 200);
    pn_memfs_free(fs);
}

static void test_paths_links_and_errnos(void)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    pn_vfs vfs = pn_memfs_vfs(fs);
    char path[PN_PATH_MAX];
    int fd;
    CHECK_EQ_INT(vfs.mkdir(fs, "/d"), 0);
    CHECK_EQ_INT(vfs.mkdir(fs, "/d"), EEXIST);
    CHECK_EQ_INT(vfs.mkdir(fs, "/no/d"), ENOENT);
    CHECK_EQ_INT(put(&vfs, "/d/f", "x", false), 0);
    CHECK_EQ_INT(put(&vfs, "/d/f", "x", false), EEXIST);
    CHECK_EQ_INT(put(&vfs, "/d/f/g", "x", false), ENOTDIR);
    CHECK_EQ_INT(pn_memfs_symlink(fs, "/l", "d"), 0);
    CHECK_EQ_INT(pn_memfs_symlink(fs, "/d/up", "../d/./f"), 0);
    CHECK_EQ_INT(pn_memfs_symlink(fs, "/loop", "loop"), 0);
    CHECK(holds(&vfs, "/l/up", "x"));
    CHECK_EQ_INT(vfs.open(fs, "/loop", PN_OPEN_READ, 0, &fd), ELOOP);
    CHECK_EQ_INT(vfs.realpath(fs, "/l/up", path), 0);
    CHECK_EQ_STR(path, "/d/f");
    CHECK_EQ_INT(vfs.rename(fs, "/d/f", "/f"), EXDEV);
    CHECK_EQ_INT(vfs.unlink(fs, "/nothing"), ENOENT);
    CHECK_EQ_INT(vfs.lock_dir(fs, "/d", false, &fd), 0);
    int other;
    CHECK_EQ_INT(vfs.lock_dir(fs, "/l", false, &other), EWOULDBLOCK);
    vfs.unlock(fs, fd);
    CHECK_EQ_INT(vfs.lock_dir(fs, "/l", false, &fd), 0);
    vfs.unlock(fs, fd);
    CHECK_EQ_INT(vfs.fsync(fs, 99), EBADF);
    pn_memfs_free(fs);
}

/* ---- the fault layer ---- */

static void test_faults_come_when_told(void)
{
    for (int kind = PN_FAULT_ONCE; kind <= PN_FAULT_STICKY; kind++) {
        pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
        pn_fault f = {.below = pn_memfs_vfs(fs), .kind = (pn_fault_kind)kind, .at = 1, .sys = EDQUOT};
        pn_vfs vfs = pn_fault_vfs(&f);
        CHECK_EQ_INT(vfs.mkdir(vfs.ctx, "/a"), 0);
        CHECK_EQ_INT(vfs.mkdir(vfs.ctx, "/b"), EDQUOT);
        CHECK(f.hit);
        CHECK_EQ_INT(vfs.mkdir(vfs.ctx, "/c"), kind == PN_FAULT_ONCE ? 0 : EDQUOT);
        CHECK_EQ_INT(f.count, 3);
        pn_memfs_free(fs);
    }
}

static void test_cut_writes_are_half_done(void)
{
    for (int kind = PN_FAULT_SHORT; kind <= PN_FAULT_CUT; kind++) {
        pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
        pn_fault f = {.below = pn_memfs_vfs(fs), .kind = (pn_fault_kind)kind, .at = 1, .sys = ENOSPC};
        pn_vfs vfs = pn_fault_vfs(&f);
        CHECK_EQ_INT(put(&vfs, "/a", "abcdef", true), kind == PN_FAULT_CUT ? ENOSPC : 0);
        CHECK(holds(&f.below, "/a", kind == PN_FAULT_CUT ? "abc" : "abcdef"));
        CHECK(f.hit);
        pn_memfs_free(fs);
    }
}

int main(void)
{
    RUN(test_a_new_file_may_be_lost_torn_or_zero);
    RUN(test_fsync_keeps_contents_and_sync_dir_names);
    RUN(test_an_unsynced_rename_shows_either_file_never_none);
    RUN(test_overwriting_unsynced_shows_every_fate);
    RUN(test_many_pending_changes_are_sampled);
    RUN(test_paths_links_and_errnos);
    RUN(test_faults_come_when_told);
    RUN(test_cut_writes_are_half_done);
    return check_summary();
}
