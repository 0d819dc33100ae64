/* apply.h: the second half of a commit, shared by the commit itself and by recovery:
 * where the files of a journal lie, and making them what the journal says.
 *
 * Nothing here takes locks; the caller holds the directory's.
 */
#ifndef PN_PERSIST_APPLY_H
#define PN_PERSIST_APPLY_H

#include "persist/journal.h"

/* Where one entry's files lie. A symlink is followed, so the file it points to is
 * replaced and the link stays; the staged file lies beside that file, or, for an
 * entry that is copied, in the journal's directory. */
typedef struct pn_place {
    char *final;
    char *staged;
    bool linked; /* a symlink below the journal's directory was followed */
    bool done;   /* nothing left to do for this entry */
} pn_place;

typedef struct pn_places {
    const pn_alloc *alloc;
    const char *root; /* borrowed; no trailing slash */
    pn_place *at;
    size_t len;
} pn_places;

/* Finds the files of all entries. On failure *out is empty and needs no clearing. */
pn_status pn_places_find(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_journal *j,
                         pn_places *out, pn_file_error *err);
void pn_places_clear(pn_places *p);

/* Makes the names in every directory that holds one of the files durable, the
 * journal's directory included. */
pn_status pn_places_sync(const pn_vfs *vfs, const pn_places *p, pn_file_error *err);

/* Whether a file holds what the entry says. *matches is false when it is missing. An errno. */
int pn_entry_matches(const pn_vfs *vfs, const pn_journal_entry *e, const char *path, bool *matches);

/* How far an application came before it failed. */
typedef struct pn_progress {
    bool changed; /* a file of the user's may differ from before */
} pn_progress;

/* Renames or copies every entry that is not done, syncs the directories, removes the
 * journal and syncs its directory. On failure the journal stays (unless it was the
 * last sync that failed) and the same call can be made again. */
pn_status pn_journal_apply(const pn_vfs *vfs, const pn_journal *j, pn_places *p, pn_progress *progress,
                           pn_file_error *err);

#endif
