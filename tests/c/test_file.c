/* The posix file table and the helpers over it, on a real directory. */
#define _GNU_SOURCE
#include "check.h"

#include "base/crc32c.h"
#include "os/file.h"
#include "persist/commit.h"
#include "persist/recover.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const pn_vfs *vfs = &pn_vfs_posix;
static char top[PN_PATH_MAX];

static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

/* A path in the test's directory, in one of a few static buffers. */
static const char *at(const char *name)
{
    static char bufs[8][PN_PATH_MAX];
    static int next;
    char *to = bufs[next++ % 8];
    CHECK_EQ_INT(pn_path_join(top, name, to), 0);
    return to;
}

static void write_plain(const char *path, const char *s)
{
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    if (f != NULL) {
        fputs(s, f);
        fclose(f);
    }
}

static bool holds(const char *path, const char *want)
{
    pn_buf got;
    pn_buf_init(&got, &pn_alloc_system);
    bool same = pn_file_read(vfs, path, &got, NULL) == PN_OK && pn_bytes_equal(pn_buf_view(&got), text(want));
    pn_buf_clear(&got);
    return same;
}

static pn_status commit1(const char *root, const char *name, const char *s, unsigned flags, pn_file_error *err)
{
    pn_commit_item item = {name, text(s)};
    return pn_commit_files(vfs, &pn_alloc_system, root, &item, 1, flags, err);
}

static pn_status commit2(const char *root, const char *a, const char *b, const char *s, unsigned flags,
                         pn_file_error *err)
{
    pn_commit_item items[2] = {{a, text(s)}, {b, text(s)}};
    return pn_commit_files(vfs, &pn_alloc_system, root, items, 2, flags, err);
}

static bool count_own(void *arg, const char *name)
{
    if (strncmp(name, ".pannier-", 9) == 0) ++*(size_t *)arg;
    return true;
}

static size_t leftovers(const char *dir)
{
    size_t n = 0;
    CHECK_EQ_INT(vfs->list(vfs->ctx, dir, count_own, &n), 0);
    return n;
}

static struct stat stat_of(const char *path)
{
    struct stat st = {0};
    CHECK_EQ_INT(stat(path, &st), 0);
    return st;
}

/* ---- helpers ---- */

static void test_paths(void)
{
    char out[PN_PATH_MAX], longest[PN_PATH_MAX + 1];
    const char *cases[][3] = {{"/a/b", "/a", "b"}, {"b", ".", "b"}, {"/b", "/", "b"}, {"a//b", "a", "b"}, {"a/", "a", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pn_path_dir(cases[i][0], out);
        CHECK_EQ_STR(out, cases[i][1]);
        CHECK_EQ_STR(pn_path_base(cases[i][0]), cases[i][2]);
    }
    CHECK_EQ_INT(pn_path_join("/a/", "b", out), 0);
    CHECK_EQ_STR(out, "/a/b");
    memset(longest, 'x', PN_PATH_MAX);
    longest[PN_PATH_MAX] = '\0';
    CHECK_EQ_INT(pn_path_join("", longest, out), ENAMETOOLONG);
    longest[PN_PATH_MAX - 1] = '\0';
    CHECK_EQ_INT(pn_path_join("", longest, out), 0);
    CHECK_EQ_INT(pn_path_join("d", longest, out), ENAMETOOLONG);
}

static void test_read_errors_are_the_systems(void)
{
    pn_buf out;
    pn_file_error err;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_buf_push(&out, 'x'), PN_OK);
    CHECK_EQ_INT(pn_file_read(vfs, at("nothing"), &out, &err), PN_ERR_IO);
    CHECK_EQ_INT(err.base.sys, ENOENT);
    CHECK_EQ_STR(err.path, at("nothing"));
    CHECK_EQ_INT(pn_file_read(vfs, top, &out, &err), PN_ERR_IO);
    CHECK_EQ_INT(err.base.sys, EISDIR);
    write_plain(at("file"), "contents");
    CHECK_EQ_INT(pn_file_read(vfs, at("file/x"), &out, &err), PN_ERR_IO);
    CHECK_EQ_INT(err.base.sys, ENOTDIR);
    CHECK_EQ_INT(out.len, 1);
    CHECK_EQ_INT(pn_file_read(vfs, at("file"), &out, &err), PN_OK);
    CHECK_EQ_INT(out.len, 9);
    pn_buf_clear(&out);
}

static void test_reads_files_whose_size_is_not_told(void)
{
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_file_read(vfs, "/proc/self/maps", &out, NULL), PN_OK);
    CHECK(out.len > 100);
    pn_buf_clear(&out);
}

static void test_make_dirs(void)
{
    pn_file_error err;
    CHECK_EQ_INT(pn_file_make_dirs(vfs, at("m/n/o/p///"), &err), PN_OK);
    CHECK(S_ISDIR(stat_of(at("m/n/o/p")).st_mode));
    CHECK_EQ_INT(pn_file_make_dirs(vfs, at("m/n"), &err), PN_OK);
    write_plain(at("m/file"), "");
    CHECK_EQ_INT(pn_file_make_dirs(vfs, at("m/file"), &err), PN_ERR_IO);
    CHECK_EQ_INT(err.base.sys, ENOTDIR);
    CHECK_EQ_INT(pn_file_make_dirs(vfs, at("m/file/x/y"), &err), PN_ERR_IO);
    CHECK_EQ_INT(err.base.sys, ENOTDIR);
    CHECK_EQ_INT(symlink("n", at("m/link")), 0);
    CHECK_EQ_INT(pn_file_make_dirs(vfs, at("m/link/q"), &err), PN_OK);
    CHECK(S_ISDIR(stat_of(at("m/n/q")).st_mode));
}

static void test_checksum_and_copy_over(void)
{
    uint64_t size;
    uint32_t crc;
    bool touched;
    static char big[100000];
    memset(big, 'q', sizeof big - 1);
    write_plain(at("from"), big);
    write_plain(at("to"), "short");
    ino_t before = stat_of(at("to")).st_ino;
    CHECK_EQ_INT(pn_file_copy_over(vfs, at("from"), at("to"), &touched), 0);
    CHECK(touched && holds(at("to"), big) && stat_of(at("to")).st_ino == before);
    CHECK_EQ_INT(pn_file_checksum(vfs, at("to"), &size, &crc), 0);
    CHECK(size == sizeof big - 1 && crc == pn_crc32c(0, text(big)));
    write_plain(at("from"), "tiny");
    CHECK_EQ_INT(pn_file_copy_over(vfs, at("from"), at("to"), &touched), 0);
    CHECK(holds(at("to"), "tiny"));
    CHECK_EQ_INT(pn_file_copy_over(vfs, at("from"), at("absent"), &touched), ENOENT);
    CHECK(!touched);
}

/* ---- interrupted calls ---- */

static void on_alarm(int sig) { (void)sig; }

static void *fill_pipe(void *arg)
{
    int fd = *(int *)arg;
    static char block[1 << 20];
    memset(block, 'p', sizeof block);
    CHECK_EQ_INT(pn_file_write_all(vfs, fd, (pn_bytes){(uint8_t *)block, sizeof block}), 0);
    close(fd);
    return NULL;
}

/* Reader and writer of a pipe, both showered with signals that interrupt calls. */
static void test_interrupted_calls_go_on(void)
{
    struct sigaction act = {.sa_handler = on_alarm}, old;
    struct itimerval tick = {{0, 500}, {0, 500}}, none = {{0, 0}, {0, 0}};
    int ends[2];
    pthread_t writer;
    CHECK_EQ_INT(sigaction(SIGALRM, &act, &old), 0);
    CHECK_EQ_INT(pipe(ends), 0);
    setitimer(ITIMER_REAL, &tick, NULL);
    CHECK_EQ_INT(pthread_create(&writer, NULL, fill_pipe, &ends[1]), 0);
    size_t total = 0, got = 1;
    while (got > 0) {
        char some[4096];
        usleep(100);
        CHECK_EQ_INT(vfs->read(vfs->ctx, ends[0], some, sizeof some, &got), 0);
        total += got;
    }
    pthread_join(writer, NULL);
    setitimer(ITIMER_REAL, &none, NULL);
    sigaction(SIGALRM, &old, NULL);
    close(ends[0]);
    CHECK_EQ_INT(total, 1 << 20);
}

/* ---- commits on a real file system ---- */

static void test_commit_makes_exactly_its_files(void)
{
    CHECK_EQ_INT(commit2(at("made/deep"), "a.json", "sub/b.json", "{}", 0, NULL), PN_OK);
    CHECK(holds(at("made/deep/a.json"), "{}") && holds(at("made/deep/sub/b.json"), "{}"));
    CHECK_EQ_INT(leftovers(at("made/deep")), 0);
    CHECK_EQ_INT(leftovers(at("made/deep/sub")), 0);
}

static void test_commit_keeps_mode_and_gives_new_files_the_umask(void)
{
    mode_t old = umask(027);
    CHECK_EQ_INT(commit2(at("modes"), "a", "b", "1", 0, NULL), PN_OK);
    CHECK_EQ_INT(stat_of(at("modes/a")).st_mode & 07777, 0640);
    CHECK_EQ_INT(chmod(at("modes/a"), 0604), 0);
    CHECK_EQ_INT(commit2(at("modes"), "a", "b", "2", 0, NULL), PN_OK);
    CHECK_EQ_INT(stat_of(at("modes/a")).st_mode & 07777, 0604);
    CHECK(holds(at("modes/a"), "2"));
    umask(old);
}

static void test_commit_keeps_the_owner_when_root(void)
{
    if (geteuid() != 0) return;
    CHECK_EQ_INT(commit1(at("own"), "a", "1", 0, NULL), PN_OK);
    CHECK_EQ_INT(chown(at("own/a"), 65534, 65534), 0);
    CHECK_EQ_INT(chmod(at("own/a"), 0600), 0);
    CHECK_EQ_INT(commit1(at("own"), "a", "2", 0, NULL), PN_OK);
    CHECK_EQ_INT(stat_of(at("own/a")).st_uid, 65534);
    CHECK_EQ_INT(stat_of(at("own/a")).st_mode & 07777, 0600);
}

static void test_commit_replaces_what_a_symlink_points_to(void)
{
    struct stat st;
    CHECK_EQ_INT(pn_file_make_dirs(vfs, at("links/far"), NULL), PN_OK);
    CHECK_EQ_INT(symlink("far/target", at("links/hop")), 0);
    CHECK_EQ_INT(symlink("hop", at("links/a")), 0);
    CHECK_EQ_INT(commit2(at("links"), "a", "b", "1", 0, NULL), PN_OK); /* dangling: the target is made */
    CHECK(holds(at("links/far/target"), "1"));
    CHECK_EQ_INT(commit1(at("links"), "a", "2", 0, NULL), PN_OK);
    CHECK(holds(at("links/far/target"), "2"));
    CHECK(lstat(at("links/a"), &st) == 0 && S_ISLNK(st.st_mode));
    CHECK(lstat(at("links/hop"), &st) == 0 && S_ISLNK(st.st_mode));
    CHECK_EQ_INT(leftovers(at("links")) + leftovers(at("links/far")), 0);
    CHECK_EQ_INT(symlink("round", at("links/round")), 0);
    pn_file_error err;
    CHECK_EQ_INT(commit1(at("links"), "round", "x", 0, &err), PN_ERR_IO);
    CHECK_EQ_INT(err.base.sys, ELOOP);
}

/* Another file system than the test's directory, if the machine has one to write to. */
static const char *other_file_system(void)
{
    static char made[] = "/dev/shm/pannier-test-XXXXXX";
    struct stat st;
    if (stat("/dev/shm", &st) != 0 || st.st_dev == stat_of(top).st_dev) return NULL;
    return mkdtemp(made);
}

static void test_a_symlink_may_lead_to_another_file_system(void)
{
    const char *other = other_file_system();
    if (other == NULL) return;
    char target[PN_PATH_MAX];
    CHECK_EQ_INT(pn_path_join(other, "target", target), 0);
    write_plain(target, "old");
    CHECK_EQ_INT(pn_file_make_dirs(vfs, at("xdev"), NULL), PN_OK);
    CHECK_EQ_INT(symlink(target, at("xdev/a")), 0);
    CHECK_EQ_INT(commit2(at("xdev"), "a", "b", "new", 0, NULL), PN_OK);
    CHECK(holds(target, "new"));
    CHECK_EQ_INT(commit2(at("xdev"), "a", "b", "in place", PN_COMMIT_IN_PLACE, NULL), PN_OK);
    CHECK(holds(target, "in place"));
    CHECK_EQ_INT(leftovers(other) + leftovers(at("xdev")), 0);
    CHECK_EQ_INT(unlink(target), 0);
    CHECK_EQ_INT(rmdir(other), 0);
}

static void test_commit_in_place_keeps_inode_and_hard_links(void)
{
    CHECK_EQ_INT(commit2(at("place"), "a", "b", "a long first contents", 0, NULL), PN_OK);
    CHECK_EQ_INT(link(at("place/a"), at("place/a2")), 0);
    ino_t before = stat_of(at("place/a")).st_ino;
    CHECK_EQ_INT(commit2(at("place"), "a", "new", "second", PN_COMMIT_IN_PLACE, NULL), PN_OK);
    CHECK(stat_of(at("place/a")).st_ino == before);
    CHECK(holds(at("place/a2"), "second") && holds(at("place/new"), "second"));
    CHECK_EQ_INT(leftovers(at("place")), 0);
    CHECK_EQ_INT(commit1(at("place"), "a", "third", 0, NULL), PN_OK);
    CHECK(holds(at("place/a2"), "second") && holds(at("place/a"), "third"));
}

static void refuses(pn_status got, const pn_file_error *err, int sys, const char *path)
{
    CHECK_EQ_INT(got, PN_ERR_IO);
    CHECK_EQ_INT(err->base.sys, sys);
    CHECK_EQ_STR(err->path, path);
}

static void test_commit_refuses_what_open_would(void)
{
    pn_file_error err;
    CHECK_EQ_INT(pn_file_make_dirs(vfs, at("no/dir"), NULL), PN_OK);
    refuses(commit2(at("no"), "x", "dir", "1", 0, &err), &err, EISDIR, at("no/dir"));
    CHECK_EQ_INT(mkfifo(at("no/fifo"), 0600), 0);
    refuses(commit2(at("no"), "x", "fifo", "1", 0, &err), &err, EINVAL, at("no/fifo"));
    write_plain(at("no/file"), "");
    refuses(commit1(at("no/file"), "x", "1", 0, &err), &err, ENOTDIR, at("no/file"));
    CHECK_EQ_INT(access(at("no/x"), F_OK), -1);
    CHECK_EQ_INT(leftovers(at("no")), 0);
}

/* Runs fn as a user whom permissions bind; the number of failed checks. */
static int as_nobody(void (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        check_failures = 0;
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(99);
        fn();
        _exit(check_failures > 90 ? 90 : check_failures);
    }
    int status = 0;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

static void expect_permission_errors(void)
{
    pn_file_error err;
    refuses(commit2(at("perm/closed"), "a", "b", "2", 0, &err), &err, EACCES, at("perm/closed/a"));
    CHECK(holds(at("perm/closed/a"), "1"));
    refuses(commit2(at("perm/open"), "b", "guarded", "2", 0, &err), &err, EACCES, at("perm/open/guarded"));
    CHECK(holds(at("perm/open/guarded"), "1"));
    CHECK_EQ_INT(leftovers(at("perm/open")), 0);
    refuses(commit1(at("perm/closed/new"), "a", "2", 0, &err), &err, EACCES, at("perm/closed/new"));
}

static void test_commit_respects_permissions(void)
{
    CHECK_EQ_INT(commit2(at("perm/closed"), "a", "b", "1", 0, NULL), PN_OK);
    CHECK_EQ_INT(commit2(at("perm/open"), "b", "guarded", "1", 0, NULL), PN_OK);
    CHECK_EQ_INT(chmod(top, 0755), 0);
    CHECK_EQ_INT(chmod(at("perm/closed"), 0555), 0);
    CHECK_EQ_INT(chmod(at("perm/closed/a"), 0666), 0);
    CHECK_EQ_INT(chmod(at("perm/open"), 0777), 0);
    CHECK_EQ_INT(chmod(at("perm/open/b"), 0666), 0);
    CHECK_EQ_INT(chmod(at("perm/open/guarded"), 0444), 0);
    CHECK_EQ_INT(as_nobody(expect_permission_errors), 0);
    CHECK_EQ_INT(chmod(at("perm/closed"), 0755), 0);
}

/* ---- unfinished commits ---- */

static int renames_left;

static int few_renames(void *ctx, const char *from, const char *to)
{
    if (renames_left-- > 0) return pn_vfs_posix.rename(ctx, from, to);
    _exit(0); /* killed */
}

/* A process that dies after the journal and `done` renames of a commit of a, b and c. */
static void die_in_commit(const char *root, int done)
{
    pid_t pid = fork();
    if (pid == 0) {
        pn_vfs dying = pn_vfs_posix;
        dying.rename = few_renames;
        renames_left = 1 + done;
        pn_commit_item items[3] = {{"a", text("new")}, {"b", text("new")}, {"c", text("new")}};
        (void)pn_commit_files(&dying, &pn_alloc_system, root, items, 3, 0, NULL);
        _exit(1);
    }
    int status = 1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ_INT(status, 0);
}

static void read_through_read_only_directory(void)
{
    pn_buf out;
    pn_recover_result did;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_recover(vfs, &pn_alloc_system, at("cut"), PN_RECOVER_LOAD, &did, NULL), PN_OK);
    CHECK_EQ_INT(did, PN_RECOVER_STAYS);
    const char *names[] = {"cut/a", "cut/b", "cut/c"};
    for (size_t i = 0; i < 3; i++) {
        out.len = 0;
        CHECK_EQ_INT(pn_read_file(vfs, &pn_alloc_system, NULL, at(names[i]), false, &out, NULL), PN_OK);
        CHECK(pn_bytes_equal(pn_buf_view(&out), text("new")));
    }
    pn_buf_clear(&out);
}

static void test_a_killed_commit_is_read_and_finished(void)
{
    pn_commit_item old[2] = {{"a", text("old")}, {"b", text("old")}};
    CHECK_EQ_INT(pn_commit_files(vfs, &pn_alloc_system, at("cut"), old, 2, 0, NULL), PN_OK);
    die_in_commit(at("cut"), 1);
    CHECK(holds(at("cut/a"), "new") && holds(at("cut/b"), "old") && access(at("cut/c"), F_OK) != 0);
    CHECK_EQ_INT(chmod(at("cut"), 0555), 0);
    CHECK_EQ_INT(as_nobody(read_through_read_only_directory), 0);
    CHECK_EQ_INT(chmod(at("cut"), 0755), 0);
    CHECK(holds(at("cut/b"), "old"));
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_read_file(vfs, &pn_alloc_system, NULL, at("cut/b"), false, &out, NULL), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&out), text("new")));
    pn_buf_clear(&out);
    CHECK(holds(at("cut/a"), "new") && holds(at("cut/b"), "new") && holds(at("cut/c"), "new"));
    CHECK_EQ_INT(leftovers(at("cut")), 0);
}

static void test_the_next_commit_sweeps_what_a_killed_one_left(void)
{
    CHECK_EQ_INT(pn_file_make_dirs(vfs, at("swept"), NULL), PN_OK);
    die_in_commit(at("swept"), -1); /* before the journal */
    CHECK_EQ_INT(leftovers(at("swept")), 4);
    CHECK_EQ_INT(commit1(at("swept"), "a", "1", 0, NULL), PN_OK);
    CHECK_EQ_INT(leftovers(at("swept")), 0);
}

/* ---- several writers ---- */

enum { WRITERS = 4, COMMITS_EACH = 25 };

static void write_many(int id)
{
    char s[32];
    for (int i = 0; i < COMMITS_EACH; i++) {
        snprintf(s, sizeof s, "%d.%d", id, i);
        CHECK_EQ_INT(commit2(at("many"), "a", "b", s, 0, NULL), PN_OK);
    }
}

static void test_commits_into_one_directory_take_turns(void)
{
    pid_t pids[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        if (pids[i] != 0) continue;
        check_failures = 0;
        write_many(i);
        _exit(check_failures != 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = 1;
        CHECK(waitpid(pids[i], &status, 0) == pids[i]);
        CHECK_EQ_INT(status, 0);
    }
    pn_buf a, b;
    pn_buf_init(&a, &pn_alloc_system);
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_file_read(vfs, at("many/a"), &a, NULL), PN_OK);
    CHECK_EQ_INT(pn_file_read(vfs, at("many/b"), &b, NULL), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&a), pn_buf_view(&b)));
    CHECK_EQ_INT(leftovers(at("many")), 0);
    pn_buf_clear(&a);
    pn_buf_clear(&b);
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char sub[PN_PATH_MAX];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (pn_path_join(path, e->d_name, sub) == 0 && unlink(sub) != 0) remove_tree(sub);
    }
    if (d != NULL) closedir(d);
    (void)rmdir(path);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(top, sizeof top, "%s/pannier-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(top) == NULL) {
        perror(top);
        return 1;
    }
    RUN(test_paths);
    RUN(test_read_errors_are_the_systems);
    RUN(test_reads_files_whose_size_is_not_told);
    RUN(test_make_dirs);
    RUN(test_checksum_and_copy_over);
    RUN(test_interrupted_calls_go_on);
    RUN(test_commit_makes_exactly_its_files);
    RUN(test_commit_keeps_mode_and_gives_new_files_the_umask);
    RUN(test_commit_keeps_the_owner_when_root);
    RUN(test_commit_replaces_what_a_symlink_points_to);
    RUN(test_a_symlink_may_lead_to_another_file_system);
    RUN(test_commit_in_place_keeps_inode_and_hard_links);
    RUN(test_commit_refuses_what_open_would);
    RUN(test_commit_respects_permissions);
    RUN(test_a_killed_commit_is_read_and_finished);
    RUN(test_the_next_commit_sweeps_what_a_killed_one_left);
    RUN(test_commits_into_one_directory_take_turns);
    remove_tree(top);
    return check_summary();
}
