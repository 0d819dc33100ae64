/* file.h: the file operations that persisting needs, as a table of functions.
 *
 * The core touches the disk only through a pn_vfs, so that the same commit code
 * runs on the real file system (file_posix.c) and, in the tests, on one in memory
 * whose every possible state after a crash can be listed (tests/c/file_mem.h), and on
 * one that fails wherever a test wants it to (tests/c/file_fault.h).
 *
 * Every operation returns 0 or an errno. Paths are NUL-terminated bytes in the
 * file system's encoding. Results come through out-parameters, untouched on
 * failure. The posix table is safe from any thread and interrupted calls are
 * retried inside; the others belong to one thread.
 */
#ifndef PN_OS_FILE_H
#define PN_OS_FILE_H

#include "base/blob.h"

/* Longest path with its NUL. */
enum { PN_PATH_MAX = 4096 };

typedef enum pn_file_kind { PN_KIND_FILE, PN_KIND_DIR, PN_KIND_LINK, PN_KIND_OTHER } pn_file_kind;

typedef struct pn_stat {
    pn_file_kind kind;
    uint32_t mode; /* permission bits */
    uint32_t uid, gid;
    uint64_t dev, ino; /* identity: equal for two names of one file */
    uint64_t size;
    int64_t mtime; /* nanoseconds */
    bool pinned;   /* a mount point: nothing can be renamed over it */
} pn_stat;

typedef enum pn_open_how {
    PN_OPEN_READ,
    PN_OPEN_CREATE, /* for writing; EEXIST when the name is taken, even by a dangling symlink */
    PN_OPEN_WRITE,  /* an existing file for overwriting; not truncated */
} pn_open_how;

/* Called for each name in a directory ("." and ".." left out); false ends it. */
typedef bool (*pn_list_fn)(void *arg, const char *name);

typedef struct pn_vfs {
    void *ctx;
    /* Files. `mode` counts for PN_OPEN_CREATE only and goes through the umask. */
    int (*open)(void *ctx, const char *path, pn_open_how how, uint32_t mode, int *fd);
    int (*read)(void *ctx, int fd, void *to, size_t n, size_t *got);         /* 0 bytes: the end */
    /* The same from a place of the caller's, whatever was read before. */
    int (*read_at)(void *ctx, int fd, uint64_t at, void *to, size_t n, size_t *got);
    int (*write)(void *ctx, int fd, const void *from, size_t n, size_t *put); /* may be short, never 0 */
    int (*truncate)(void *ctx, int fd, uint64_t size);
    /* Asks for room for a file of `size` bytes without changing its length. Where
     * the file system cannot reserve, success. */
    int (*reserve)(void *ctx, int fd, uint64_t size);
    /* Gives the open file the mode of `like`, and its owner where that is allowed. */
    int (*adopt)(void *ctx, int fd, const pn_stat *like);
    /* A hint that fsync follows, so that the disk can begin while other files are written. */
    void (*start_sync)(void *ctx, int fd);
    /* Once this failed the descriptor must not be trusted again: what it had
     * written may be gone although the next call succeeds. */
    int (*fsync)(void *ctx, int fd);
    int (*close)(void *ctx, int fd); /* the descriptor is gone even on failure */
    int (*fstat)(void *ctx, int fd, pn_stat *out);
    /* The whole contents of a file that never changes again, mapped where that is safe (a
     * local file system) and read into memory where it is not, or when `copy` says so. The
     * blob's name is the path; an empty file is an empty blob. */
    int (*map)(void *ctx, const pn_alloc *alloc, const char *path, bool copy, pn_blob **out);
    /* Names. */
    int (*lstat)(void *ctx, const char *path, pn_stat *out);
    int (*readlink)(void *ctx, const char *path, char to[PN_PATH_MAX]);
    int (*realpath)(void *ctx, const char *path, char to[PN_PATH_MAX]);
    int (*writable)(void *ctx, const char *path); /* 0 when the file may be written */
    int (*rename)(void *ctx, const char *from, const char *to); /* replaces `to` */
    int (*unlink)(void *ctx, const char *path);
    /* Directories. */
    int (*mkdir)(void *ctx, const char *path);
    int (*sync_dir)(void *ctx, const char *path); /* makes names in it durable */
    int (*list)(void *ctx, const char *path, pn_list_fn each, void *arg);
    /* An advisory exclusive lock on a directory, held by a descriptor until unlock.
     * Without `wait`, EWOULDBLOCK when another descriptor holds it. ENOLCK where the
     * file system has no locks. A killed process lets go of its locks. */
    int (*lock_dir)(void *ctx, const char *path, bool wait, int *fd);
    void (*unlock)(void *ctx, int fd);
    void (*pause)(void *ctx); /* sleeps for about a millisecond */
    uint64_t (*random)(void *ctx);
} pn_vfs;

extern const pn_vfs pn_vfs_posix;

/* Which file a failure is about, beside what pn_error says. */
typedef struct pn_file_error {
    pn_error base;
    char path[PN_PATH_MAX];
} pn_file_error;

/* Fill *err (may be NULL) and return the status; `what` is a constant string. */
pn_status pn_file_fail(pn_file_error *err, int sys, const char *path, const char *what); /* PN_ERR_IO */
pn_status pn_file_refuse(pn_file_error *err, pn_status code, const char *path, const char *what);

/* A directory's path as the rest of the code wants it: without trailing slashes, "." for "". */
void pn_path_trim(const char *path, char to[PN_PATH_MAX]);
/* to = dir/name, or name when dir is "". ENAMETOOLONG when it does not fit. */
int pn_path_join(const char *dir, const char *name, char to[PN_PATH_MAX]);
/* The directory that a path lies in: "." for a bare name, "/" for "/x". */
void pn_path_dir(const char *path, char to[PN_PATH_MAX]);
const char *pn_path_base(const char *path); /* points into path */

/* Appends a whole file to *out. On failure out's length is as before. */
pn_status pn_file_read(const pn_vfs *vfs, const char *path, pn_buf *out, pn_file_error *err);
/* Reads n bytes from `at` on, fewer only at the end of the file. An errno. */
int pn_file_read_at(const pn_vfs *vfs, int fd, uint64_t at, uint8_t *to, size_t n, size_t *got);
/* A whole file as a blob named after the path: what `map` gives where a file cannot be mapped.
 * An errno. */
int pn_file_load(const pn_vfs *vfs, const pn_alloc *alloc, const char *path, pn_blob **out);
/* Writes everything, however short the single writes are. An errno. */
int pn_file_write_all(const pn_vfs *vfs, int fd, pn_bytes bytes);
/* fsync, then close whatever became of it; what went wrong first. An errno. */
int pn_file_sync_close(const pn_vfs *vfs, int fd);
/* Length and CRC-32C of a file's contents. An errno. */
int pn_file_checksum(const pn_vfs *vfs, const char *path, uint64_t *size, uint32_t *crc);
/* Overwrites `to` with the contents of `from`, keeping its inode, and syncs it.
 * *touched says whether `to` had been opened for writing when it failed. */
int pn_file_copy_over(const pn_vfs *vfs, const char *from, const char *to, bool *touched);
/* Makes a directory and its missing parents, each durable. */
pn_status pn_file_make_dirs(const pn_vfs *vfs, const char *path, pn_file_error *err);
/* Follows the symlink that `path` may be, to the file that would be written, which
 * need not exist. *followed: it was one. An errno (ELOOP after 40). */
int pn_file_follow(const pn_vfs *vfs, const char *path, char to[PN_PATH_MAX], bool *followed);

#endif
