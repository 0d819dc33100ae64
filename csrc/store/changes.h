/* changes.h: what changed in an insertion-ordered map since it was last written.
 *
 * The log that a pack is (FORMAT.md) wants, for each map, the entries that were put or
 * removed since the last commit. A map that is tracked tells each put and each removal
 * here; each costs one hash probe. A map that is not tracked pays for a test.
 *
 *   key -> op    REPLACED   was in the map then and has (perhaps) another value
 *                FRESH      was put as a new key, or removed and put again: it stands behind
 *                           what was there then, in the order of this map
 *                REMOVED    is not in the map; it may have been then
 *
 * When memory runs out, the answer is not an error but `all`: the map must be written
 * whole. A take moves the changes out for a commit; it is dropped when the commit is
 * durable, or given back when it failed, with later changes laid over it.
 *
 * Not locked: the owner of the map guards it.
 */
#ifndef PN_STORE_CHANGES_H
#define PN_STORE_CHANGES_H

#include "base/omap.h"

typedef enum pn_change { PN_CHANGE_REPLACED = 1, PN_CHANGE_FRESH, PN_CHANGE_REMOVED } pn_change;

typedef struct pn_changes {
    bool on;     /* tracked: there is a commit that the map builds on */
    bool all;    /* everything may differ from it */
    pn_omap keys; /* key -> uint8_t pn_change, FRESH ones in the order of the map */
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
/* The map was emptied, or filled in a way that was not told. */
static inline void pn_changes_whole(pn_changes *c) { c->all = c->on; }

/* Begins tracking anew from the map as it is now, for a commit: what was noted goes to
 * *taken (initialised by this), to be cleared when the commit is durable. */
void pn_changes_take(pn_changes *c, pn_changes *taken);
/* The commit failed: what was taken is laid under what was noted since. `taken` is cleared. */
void pn_changes_give_back(pn_changes *c, pn_changes *taken);

#endif
