/* recover.h: finishing what a killed commit began, and reading files as committed.
 *
 * A directory with a commit journal is a directory whose last commit has happened
 * but whose files have not all been renamed yet. Finishing it (rolling forward)
 * takes the directory's lock, since the journal may belong to a live process in
 * the middle of its renames; then that process is waited for.
 *
 * Each function may be called from any thread and any process at any time.
 */
#ifndef PN_PERSIST_RECOVER_H
#define PN_PERSIST_RECOVER_H

#include "persist/journal.h"

typedef enum pn_recover_mode {
    /* Look only: nothing is written or locked. */
    PN_RECOVER_LOOK,
    /* For loading. Finishes a commit whose files all lie in the directory proper, so
     * that loading never writes where a symlink points. What it may not or cannot
     * finish (permissions, read-only file system, no locks) stays as it is:
     * pn_read_file reads through it. */
    PN_RECOVER_LOAD,
    /* For committing and repairing: finishes it or fails. */
    PN_RECOVER_ALL,
} pn_recover_mode;

typedef enum pn_recover_result {
    PN_RECOVER_NOTHING, /* there was no journal */
    PN_RECOVER_DONE,    /* rolled forward */
    PN_RECOVER_STAYS,   /* there is a valid journal still */
} pn_recover_result;

/* PN_ERR_CORRUPT with the reason and file in err when the journal cannot be followed:
 * it is damaged, a staged file is, or a file was changed by somebody else since.
 * Nothing is changed then. `root` is a directory; a missing one is NOTHING. */
pn_status pn_recover(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, pn_recover_mode mode,
                     pn_recover_result *result, pn_file_error *err);
/* The same by one who holds the directory's lock (commit.c); mode PN_RECOVER_ALL. */
pn_status pn_recover_locked(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, pn_recover_result *result,
                            pn_file_error *err);

/* The journal as it stands, without a look at the files it lists; no entries when there
 * is none. The caller clears *j. */
pn_status pn_recover_pending(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, pn_journal *j,
                             pn_file_error *err);

/* Appends the contents of a file as the last commit in `root` left them (root NULL:
 * the file's own directory): after pn_recover in mode LOAD, or with read_only in mode
 * LOOK, from the staged file when there is still one. Costs one lstat more than
 * reading when there is no journal. */
pn_status pn_read_file(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const char *path, bool read_only,
                       pn_buf *out, pn_file_error *err);

/* The same file opened, to be read with read_at, where that is simply a regular file of at
 * least that size; UNSUPPORTED for all else, also for what reading it would fail with. */
pn_status pn_open_large_file(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const char *path,
                             bool read_only, uint64_t least, int *fd, uint64_t *size, pn_file_error *err);

/* The part of `path` below `root`, into name. False when it does not lie there. */
bool pn_name_below(const char *root, const char *path, char name[PN_PATH_MAX]);

#endif
