/* file_mem.h: a file system in memory that knows what a crash may do to it.
 *
 * Beside what programs see it keeps what is surely on the disk:
 *
 *   contents of a file   durable after fsync of the file
 *   names in a directory durable after sync_dir of that directory; until then each
 *                        create, rename, unlink and mkdir is pending on its own
 *
 * A crash may keep any subset of the pending name operations, in any directory, and of
 * each file that was written since its last fsync the old contents, the new ones, the
 * new ones up to the middle, or zeros at the new length. pn_memfs_each_crash builds
 * those states one after the other. That is more than any real file system does wrong.
 *
 * Paths begin with "/" or are taken to; symlinks are followed as usual. Time is a
 * counter of operations. Names have at most PN_MEMFS_NAME_MAX bytes. One thread.
 */
#ifndef PN_TESTS_FILE_MEM_H
#define PN_TESTS_FILE_MEM_H

#include "os/file.h"

enum { PN_MEMFS_NAME_MAX = 63 };

typedef struct pn_memfs pn_memfs;

pn_memfs *pn_memfs_new(const pn_alloc *alloc); /* NULL: no memory */
void pn_memfs_free(pn_memfs *fs);              /* NULL is fine */
/* The table of functions; valid as long as fs. */
pn_vfs pn_memfs_vfs(pn_memfs *fs);

/* Puts a durable file, or symlink, making no directories. An errno. */
int pn_memfs_put(pn_memfs *fs, const char *path, pn_bytes bytes);
int pn_memfs_symlink(pn_memfs *fs, const char *path, const char *target);
/* Makes everything as it is now durable. An errno. */
int pn_memfs_settle(pn_memfs *fs);

/* Called after every operation that changed something; NULL for none. */
typedef void (*pn_memfs_hook)(void *arg, pn_memfs *fs);
void pn_memfs_on_change(pn_memfs *fs, pn_memfs_hook hook, void *arg);
/* No write moves more than n bytes at once; 0 is no limit. */
void pn_memfs_limit_write(pn_memfs *fs, size_t n);

/* How many files are open or directories locked: 0 when nobody forgot to close. */
size_t pn_memfs_open_count(const pn_memfs *fs);
size_t pn_memfs_operations(const pn_memfs *fs); /* changes so far */

/* Called with a file system as it may be after a crash (all of it durable, nothing
 * open); false ends the enumeration. */
typedef bool (*pn_memfs_crash_fn)(void *arg, pn_memfs *after);

/* Every state that a crash now may leave. When there are more than `limit`, then
 * nothing, everything, everything but one and only one pending operation with each
 * fate of the data, and states drawn by a fixed generator up to the limit. Returns how
 * many states were shown, or 0 when memory ran out. */
size_t pn_memfs_each_crash(const pn_memfs *fs, size_t limit, pn_memfs_crash_fn each, void *arg);

#endif
