/* file_posix.c: pn_vfs on the system's file calls. */
#define _GNU_SOURCE
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#ifdef __linux__
#include <sys/statfs.h>
#endif
#include <time.h>
#include <unistd.h>

/* Sets sys to 0 or the errno of a call, repeating what a signal interrupted. */
#define RETRY(sys, expr)                    \
    do {                                    \
        (sys) = (expr) < 0 ? errno : 0;     \
    } while ((sys) == EINTR)

static int sys_of(int result) { return result < 0 ? errno : 0; }

static int open_flags(const char *path, int flags, uint32_t mode, int *fd)
{
    int got;
    do {
        got = open(path, flags | O_CLOEXEC, (mode_t)mode);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return errno;
    *fd = got;
    return 0;
}

static int posix_open(void *ctx, const char *path, pn_open_how how, uint32_t mode, int *fd)
{
    (void)ctx;
    switch (how) {
    case PN_OPEN_READ: return open_flags(path, O_RDONLY, 0, fd);
    case PN_OPEN_CREATE: return open_flags(path, O_WRONLY | O_CREAT | O_EXCL, mode, fd);
    case PN_OPEN_WRITE: return open_flags(path, O_WRONLY, 0, fd);
    }
    return EINVAL;
}

/* One call moves at most 2 GiB on Linux; asking for less keeps ssize_t safe. */
static size_t at_most(size_t n) { return n < ((size_t)1 << 30) ? n : (size_t)1 << 30; }

static int posix_read(void *ctx, int fd, void *to, size_t n, size_t *got)
{
    (void)ctx;
    ssize_t r;
    do {
        r = read(fd, to, at_most(n));
    } while (r < 0 && errno == EINTR);
    if (r < 0) return errno;
    *got = (size_t)r;
    return 0;
}

static int posix_read_at(void *ctx, int fd, uint64_t at, void *to, size_t n, size_t *got)
{
    (void)ctx;
    ssize_t r;
    do {
        r = pread(fd, to, at_most(n), (off_t)at);
    } while (r < 0 && errno == EINTR);
    if (r < 0) return errno;
    *got = (size_t)r;
    return 0;
}

static int posix_write(void *ctx, int fd, const void *from, size_t n, size_t *put)
{
    (void)ctx;
    ssize_t r;
    do {
        r = write(fd, from, at_most(n));
    } while (r < 0 && errno == EINTR);
    if (r < 0) return errno;
    *put = (size_t)r;
    return 0;
}

static int posix_truncate(void *ctx, int fd, uint64_t size)
{
    (void)ctx;
    int sys;
    RETRY(sys, ftruncate(fd, (off_t)size));
    return sys;
}

static int posix_reserve(void *ctx, int fd, uint64_t size)
{
    (void)ctx;
#ifdef FALLOC_FL_KEEP_SIZE
    if (size == 0) return 0;
    int sys;
    RETRY(sys, fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size));
    return sys == ENOSPC || sys == EDQUOT || sys == EFBIG || sys == EIO ? sys : 0;
#else
    (void)fd, (void)size;
    return 0;
#endif
}

static int posix_adopt(void *ctx, int fd, const pn_stat *like)
{
    (void)ctx;
    struct stat st;
    int sys = sys_of(fstat(fd, &st));
    if (sys != 0) return sys;
    /* Only root may give files away; anybody else keeps the new owner, as any
     * editor that replaces files does. */
    if (st.st_uid != like->uid || st.st_gid != like->gid) (void)sys_of(fchown(fd, like->uid, like->gid));
    return sys_of(fchmod(fd, (mode_t)like->mode));
}

static void posix_start_sync(void *ctx, int fd)
{
    (void)ctx;
#ifdef SYNC_FILE_RANGE_WRITE
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)fd;
#endif
}

static int posix_fsync(void *ctx, int fd)
{
    (void)ctx;
    /* Not repeated after a failure, EINTR included: see file.h. */
    return fsync(fd) == 0 ? 0 : errno;
}

static int posix_close(void *ctx, int fd)
{
    (void)ctx;
    return close(fd) == 0 || errno == EINTR ? 0 : errno; /* on Linux closed even then */
}

static pn_file_kind kind_of(mode_t mode)
{
    if (S_ISREG(mode)) return PN_KIND_FILE;
    if (S_ISDIR(mode)) return PN_KIND_DIR;
    return S_ISLNK(mode) ? PN_KIND_LINK : PN_KIND_OTHER;
}

static void fill(const struct stat *st, pn_stat *out)
{
    *out = (pn_stat){.kind = kind_of(st->st_mode), .mode = st->st_mode & 07777,
                     .uid = st->st_uid, .gid = st->st_gid,
                     .dev = st->st_dev, .ino = st->st_ino, .size = (uint64_t)st->st_size,
                     .mtime = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec};
}

static int posix_fstat(void *ctx, int fd, pn_stat *out)
{
    (void)ctx;
    struct stat st;
    int sys = sys_of(fstat(fd, &st));
    if (sys == 0) fill(&st, out);
    return sys;
}

/* Where another machine or process may change a file under a mapping without our
 * noticing, or take it away so that touching it is SIGBUS: network and FUSE file systems. */
static bool may_map(int fd)
{
#ifdef __linux__
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0) return false;
    static const uint32_t remote[] = {
        0x6969 /* nfs */, 0x517B /* smb */, 0xFE534D42 /* smb2 */, 0xFF534D42 /* cifs */, 0x65735546 /* fuse */,
        0x01021997 /* 9p */, 0x00C36400 /* ceph */, 0x5346414F /* afs */, 0x6B414653 /* afs */, 0x73757245 /* coda */,
        0x7461636F /* ocfs2 */, 0x01161970 /* gfs2 */, 0x0BD00BD0 /* lustre */, 0x47504653 /* gpfs */,
    };
    for (size_t i = 0; i < sizeof remote / sizeof *remote; i++)
        if ((uint32_t)fs.f_type == remote[i]) return false;
    return true;
#else
    (void)fd;
    return false;
#endif
}

static void unmap(void *ctx, const uint8_t *ptr, size_t n)
{
    (void)ctx;
    (void)munmap((void *)ptr, n);
}

static int map_open(int fd, const pn_alloc *alloc, const char *path, pn_blob **out)
{
    struct stat st;
    int sys = sys_of(fstat(fd, &st));
    if (sys != 0) return sys;
    if (!S_ISREG(st.st_mode) || st.st_size == 0 || (uint64_t)st.st_size > SIZE_MAX || !may_map(fd)) return EOPNOTSUPP;
    size_t n = (size_t)st.st_size;
    void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return EOPNOTSUPP;
    if (pn_blob_wrap(alloc, p, n, unmap, NULL, path, out) == PN_OK) return 0;
    unmap(NULL, p, n);
    return ENOMEM;
}

static int posix_map(void *ctx, const pn_alloc *alloc, const char *path, bool copy, pn_blob **out)
{
    (void)ctx;
    if (copy) return pn_file_load(&pn_vfs_posix, alloc, path, out);
    int fd = -1, sys = open_flags(path, O_RDONLY, 0, &fd);
    if (sys != 0) return sys;
    sys = map_open(fd, alloc, path, out);
    (void)close(fd);
    return sys == EOPNOTSUPP ? pn_file_load(&pn_vfs_posix, alloc, path, out) : sys;
}

/* Whether a single file is the root of a mount, as container tools bind them. */
static bool is_pinned(const char *path)
{
#ifdef STATX_ATTR_MOUNT_ROOT
    struct statx sx;
    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &sx) == 0 &&
           (sx.stx_attributes_mask & sx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
#else
    (void)path;
    return false;
#endif
}

static int posix_lstat(void *ctx, const char *path, pn_stat *out)
{
    (void)ctx;
    struct stat st;
    int sys = sys_of(lstat(path, &st));
    if (sys != 0) return sys;
    fill(&st, out);
    if (out->kind == PN_KIND_FILE) out->pinned = is_pinned(path);
    return 0;
}

static int posix_readlink(void *ctx, const char *path, char to[PN_PATH_MAX])
{
    (void)ctx;
    ssize_t n = readlink(path, to, PN_PATH_MAX);
    if (n < 0) return errno;
    if (n >= PN_PATH_MAX) return ENAMETOOLONG;
    to[n] = '\0';
    return 0;
}

static int posix_realpath(void *ctx, const char *path, char to[PN_PATH_MAX])
{
    (void)ctx;
    char *p = realpath(path, NULL);
    if (p == NULL) return errno;
    int sys = pn_path_join("", p, to);
    free(p);
    return sys;
}

static int posix_writable(void *ctx, const char *path)
{
    (void)ctx;
    return sys_of(faccessat(AT_FDCWD, path, W_OK, AT_EACCESS));
}

static int posix_rename(void *ctx, const char *from, const char *to)
{
    (void)ctx;
    return sys_of(rename(from, to));
}

static int posix_unlink(void *ctx, const char *path)
{
    (void)ctx;
    return sys_of(unlink(path));
}

static int posix_mkdir(void *ctx, const char *path)
{
    (void)ctx;
    return sys_of(mkdir(path, 0777));
}

static int posix_sync_dir(void *ctx, const char *path)
{
    int fd = -1, sys = open_flags(path, O_RDONLY | O_DIRECTORY, 0, &fd);
    if (sys != 0) return sys;
    sys = posix_fsync(ctx, fd);
    (void)close(fd);
    /* Some network and FUSE file systems have no directory fsync; there is nothing
     * more that could be done on them. */
    return sys == EINVAL || sys == EOPNOTSUPP || sys == ENOSYS ? 0 : sys;
}

static int posix_list(void *ctx, const char *path, pn_list_fn each, void *arg)
{
    (void)ctx;
    DIR *d = opendir(path);
    if (d == NULL) return errno;
    int sys = 0;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (e == NULL) {
            sys = errno;
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (!each(arg, e->d_name)) break;
    }
    (void)closedir(d);
    return sys;
}

static int posix_lock_dir(void *ctx, const char *path, bool wait, int *fd)
{
    (void)ctx;
    int got = -1, sys = open_flags(path, O_RDONLY | O_DIRECTORY, 0, &got);
    if (sys != 0) return sys;
    RETRY(sys, flock(got, wait ? LOCK_EX : LOCK_EX | LOCK_NB));
    if (sys == 0) {
        *fd = got;
        return 0;
    }
    (void)close(got);
    /* NFS wants a descriptor that can write, which a directory's never can. */
    return sys == EWOULDBLOCK ? sys : ENOLCK;
}

static void posix_unlock(void *ctx, int fd)
{
    (void)ctx;
    /* Said aloud: a child that was forked meanwhile shares the descriptor, and
     * closing ours alone would leave it locked. */
    (void)flock(fd, LOCK_UN);
    (void)close(fd);
}

static void posix_pause(void *ctx)
{
    (void)ctx;
    struct timespec t = {0, 1000000};
    (void)nanosleep(&t, NULL);
}

static uint64_t posix_random(void *ctx)
{
    (void)ctx;
    static atomic_uint_fast64_t count;
    uint64_t v;
    if (getrandom(&v, sizeof v, GRND_NONBLOCK) == (ssize_t)sizeof v) return v;
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_REALTIME, &t);
    v = (uint64_t)t.tv_nsec ^ ((uint64_t)t.tv_sec << 30) ^ ((uint64_t)getpid() << 40);
    return (v + ++count) * 0x9E3779B97F4A7C15u; /* unique enough: names are tried until free */
}

const pn_vfs pn_vfs_posix = {
    .open = posix_open, .read = posix_read, .read_at = posix_read_at, .write = posix_write,
    .truncate = posix_truncate, .reserve = posix_reserve, .adopt = posix_adopt, .start_sync = posix_start_sync, .fsync = posix_fsync,
    .close = posix_close, .fstat = posix_fstat, .map = posix_map, .lstat = posix_lstat, .readlink = posix_readlink, .realpath = posix_realpath,
    .writable = posix_writable, .rename = posix_rename, .unlink = posix_unlink, .mkdir = posix_mkdir,
    .sync_dir = posix_sync_dir, .list = posix_list, .lock_dir = posix_lock_dir, .unlock = posix_unlock,
    .pause = posix_pause, .random = posix_random,
};
