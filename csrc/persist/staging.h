/* staging.h: the parts that a commit of files (commit.h) and one of a pack (pack.h) share:
 * files under staged names, the file that one will replace, and what killed commits left.
 *
 * Nothing here takes locks; the caller holds the directory's.
 */
#ifndef PN_PERSIST_STAGING_H
#define PN_PERSIST_STAGING_H

#include "persist/journal.h"

enum { PN_MAX_NAMES_TRIED = 100 }; /* random ones, until one is free */

/* Creates a file under a fresh staged name in the directory. An errno. */
int pn_staged_create(const pn_vfs *vfs, const char *dir, uint32_t tag, char name[PN_STAGED_LEN + 1],
                     char path[PN_PATH_MAX], int *fd);

/* Looks at the file that will be replaced, refusing what a rename would destroy or could
 * not do (`pinned_fine`: it will be written in place), as opening it for writing would. */
pn_status pn_target_look(const pn_vfs *vfs, const char *path, bool pinned_fine, pn_stat *st, bool *exists,
                         pn_file_error *err);

/* Unlinks what is_leftover says in `dir`, and counts it. Leftovers are untidy, not wrong:
 * failing to remove them is no failure. But they go only once the names in `root` are
 * durable: a journal that was removed, or a manifest that was replaced, might need them. */
typedef bool (*pn_is_leftover)(void *ctx, const char *name);
size_t pn_leftovers_sweep(const pn_vfs *vfs, const char *root, const char *dir, pn_is_leftover is_leftover, void *ctx);

#endif
