/* commit.h: replacing several files as one.
 *
 * Every file is written in full beside its final place under a staged name, and
 * synced. One file is then renamed. Several are first listed in the commit journal
 * (journal.h); the journal's own rename is the moment of the commit. Then the files
 * are renamed, their directories synced, and the journal removed:
 *
 *   staged files, fsync each -> fsync directories
 *     -> journal staged, fsync, rename, fsync directory      <- committed
 *     -> renames, fsync directories -> unlink journal, fsync directory
 *
 * So at every moment the directory is, for anyone who opens it through recover.h,
 * entirely old or entirely new; and entirely new for ever once the call returned
 * PN_OK. Nothing named .pannier-* is left behind by a commit that was not killed.
 *
 * A file keeps its permission bits, and its owner where the process may give files
 * away; a symlink stays and its target is replaced; other hard links keep the old
 * contents. Commits into one directory, from any thread or process, go one after the
 * other (flock on the directory; where there are no locks, as on some network file
 * systems, they do not, and leftovers of killed ones are not swept).
 */
#ifndef PN_PERSIST_COMMIT_H
#define PN_PERSIST_COMMIT_H

#include "os/file.h"

typedef struct pn_commit_item {
    const char *name; /* relative to the directory, see pn_journal_name_ok */
    pn_bytes bytes;
} pn_commit_item;

enum {
    /* Files that exist are overwritten where they are, keeping inode, hard links and
     * attributes, after their new contents are safe in a staged copy and the journal
     * names it. For files that cannot be renamed over. A reader that is not pannier
     * may see one half written, and after a crash until the next load. */
    PN_COMMIT_IN_PLACE = 1,
};

/* Replaces or creates the n files, making missing directories. When two names lead to
 * one file, the later item counts. An unfinished earlier commit is finished first.
 *
 *   PN_OK                   durable
 *   PN_ERR_UNKNOWN_OUTCOME  as a rule the new contents are what loading sees from now
 *                           on, but after a power cut it may be the old ones (and the
 *                           other way round, when a refused rename could not be taken
 *                           back durably); never a mixture. err says which step failed
 *                           and its errno. The journal may have stayed: the next load
 *                           or commit goes on from it.
 *   any other               nothing was changed, nothing staged is left. PN_ERR_IO: err
 *                           holds errno and file. PN_ERR_INVALID: a name that escapes
 *                           the directory, or occurs twice. PN_ERR_CORRUPT: an earlier
 *                           commit's journal cannot be followed.
 */
pn_status pn_commit_files(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_commit_item *items,
                          size_t n, unsigned flags, pn_file_error *err);

/* Removes what killed commits into this directory left behind, when no live one holds
 * the lock and no journal needs it. *swept counts. Only files that lie in the directory
 * itself; those beside a symlink's target go with the next commit. */
pn_status pn_commit_sweep(const pn_vfs *vfs, const char *root, size_t *swept, pn_file_error *err);

#endif
