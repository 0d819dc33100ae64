/* changes.h: what changed in an insertion-ordered map since it was last written.
 *
 * The log that a pack is (FORMAT.md) wants, for each map, the entries that were put or
 * removed since the last commit. A map that is tracked tells each put and each removal
 * here; each costs one hash probe. A map that is not tracked pays for a test.
 *
 *   key -> pn_change_note, of which the first byte is
 *                REPLACED   was in the map then and has (perhaps) another value
 *                FRESH      was put as a new key, or removed and put again: it stands behind
 *                           what was there then, in the order of this map
 *                REMOVED    is not in the map; it was then (or it may have been)
 *
 * A key that came and went again leaves no note, so a map whose entries come and go, and
 * which is never written, does not collect them here.
 *
 * When memory runs out, the answer is not an error but `all`: the map must be written
 * whole. A take moves the changes out for a commit; it is dropped when the commit is
 * durable, or given back when it failed, with later changes laid over it. A commit that is
 * gathered in parts catches up in the end with what was noted meanwhile (retake).
 *
 * Not locked: the owner of the map guards it. Puts, removals: O(1). Taking: O(1). Taking
 * again, giving back: O(what was noted since the take).
 */
#ifndef PN_STORE_CHANGES_H
#define PN_STORE_CHANGES_H

#include "base/omap.h"

typedef enum pn_change { PN_CHANGE_REPLACED = 1, PN_CHANGE_FRESH, PN_CHANGE_REMOVED } pn_change;

typedef struct pn_change_note {
    uint8_t change; /* pn_change */
    bool is_new;    /* FRESH: the key was not in the map then */
} pn_change_note;

typedef struct pn_changes {
    bool on;     /* tracked: there is a commit that the map builds on */
    bool all;    /* everything may differ from it; keys is empty */
    pn_omap keys; /* key -> pn_change_note, FRESH ones in the order of the map */
} pn_changes;

void pn_changes_init(pn_changes *c, const pn_alloc *alloc); /* off; allocates nothing */
void pn_changes_clear(pn_changes *c);                       /* frees; off */

/* `owner` as in pn_omap_put: the blob that key lies in, or NULL. */
void pn_changes_put_slow(pn_changes *c, pn_bytes key, pn_blob *owner, bool added);
void pn_changes_remove_slow(pn_changes *c, pn_bytes key);
static inline void pn_changes_put(pn_changes *c, pn_bytes key, pn_blob *owner, bool added)
{
    if (c->on && !c->all) pn_changes_put_slow(c, key, owner, added);
}
static inline void pn_changes_remove(pn_changes *c, pn_bytes key)
{
    if (c->on && !c->all) pn_changes_remove_slow(c, key);
}
/* The value of a key that is in the map changed where it is. */
static inline void pn_changes_touch(pn_changes *c, pn_bytes key, pn_blob *owner) { pn_changes_put(c, key, owner, false); }
/* Whether the key was not in the map as this tracking began, and is now. */
static inline bool pn_changes_has_new(const pn_changes *c, pn_bytes key)
{
    const pn_change_note *note = pn_omap_get(&c->keys, key);
    return note != NULL && note->is_new;
}
/* The map was emptied, or filled in a way that was not told. */
void pn_changes_whole(pn_changes *c);

/* Begins tracking anew from the map as it is now, for a commit: what was noted goes to
 * *taken (initialised by this), to be cleared when the commit is durable. */
void pn_changes_take(pn_changes *c, pn_changes *taken);
/* The same once more for the same commit: what was noted since the take goes to *later
 * (initialised by this, to be cleared), and is laid over what was taken. When a note is
 * lost on the way, later->all is set, or taken->all. */
void pn_changes_retake(pn_changes *c, pn_changes *taken, pn_changes *later);
/* The commit failed: what was taken is laid under what was noted since. `taken` is cleared.
 * A map that was not tracked before the take, or is not any more, is not tracked. */
void pn_changes_give_back(pn_changes *c, pn_changes *taken);

#endif
