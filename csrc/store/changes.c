#include "store/changes.h"

void pn_changes_init(pn_changes *c, const pn_alloc *alloc)
{
    *c = (pn_changes){.on = false};
    pn_omap_init(&c->keys, alloc, sizeof(pn_change_note));
}

void pn_changes_clear(pn_changes *c)
{
    pn_omap_clear(&c->keys);
    c->on = c->all = false;
}

void pn_changes_whole(pn_changes *c)
{
    pn_omap_clear(&c->keys);
    c->all = c->on;
}

/* The key's note, made when missing; NULL: there is no memory, and so `all` is set. */
static pn_change_note *note_of(pn_changes *c, pn_bytes key, pn_blob *owner)
{
    void *note;
    bool added;
    if (pn_omap_put(&c->keys, key, owner, &note, &added) == PN_OK) return note;
    pn_changes_whole(c);
    return NULL;
}

/* The key is at the end of the map now, and so here. */
static void note_fresh(pn_changes *c, pn_bytes key, pn_blob *owner, bool is_new)
{
    (void)pn_omap_remove(&c->keys, key, NULL);
    pn_change_note *note = note_of(c, key, owner);
    if (note != NULL) *note = (pn_change_note){PN_CHANGE_FRESH, is_new};
}

static void note_replaced(pn_changes *c, pn_bytes key, pn_blob *owner)
{
    pn_change_note *note = note_of(c, key, owner);
    if (note != NULL && note->change != PN_CHANGE_FRESH) note->change = PN_CHANGE_REPLACED;
}

void pn_changes_put_slow(pn_changes *c, pn_bytes key, pn_blob *owner, bool added)
{
    if (!added) {
        note_replaced(c, key, owner);
        return;
    }
    /* a key without a note is as it was then: it was not there */
    note_fresh(c, key, owner, pn_omap_get(&c->keys, key) == NULL);
}

static void note_removed(pn_changes *c, pn_bytes key, pn_blob *owner)
{
    pn_change_note *note = note_of(c, key, owner);
    if (note == NULL) return;
    if (note->is_new)
        (void)pn_omap_remove(&c->keys, key, NULL);
    else
        note->change = PN_CHANGE_REMOVED;
}

void pn_changes_remove_slow(pn_changes *c, pn_bytes key) { note_removed(c, key, NULL); }

void pn_changes_take(pn_changes *c, pn_changes *taken)
{
    *taken = *c;
    pn_changes_init(c, taken->keys.alloc);
    c->on = true;
}

/* What a later note says, laid over what c has. */
static void lay_over(pn_changes *c, pn_bytes key, pn_blob *owner, pn_change_note later)
{
    if (later.change == PN_CHANGE_REPLACED) {
        note_replaced(c, key, owner);
    } else if (later.change == PN_CHANGE_REMOVED) {
        note_removed(c, key, owner);
    } else {
        const pn_change_note *before = pn_omap_get(&c->keys, key);
        note_fresh(c, key, owner, before != NULL ? before->is_new : later.is_new);
    }
}

static void lay_all_over(pn_changes *c, const pn_changes *later)
{
    size_t pos = 0;
    pn_bytes key;
    pn_blob *owner;
    void *note;
    while (!c->all && pn_omap_next_owned(&later->keys, &pos, &key, &owner, &note))
        lay_over(c, key, owner, *(const pn_change_note *)note);
}

void pn_changes_retake(pn_changes *c, pn_changes *taken, pn_changes *later)
{
    pn_changes_take(c, later);
    later->all = later->all || !later->on;
    if (!taken->on || taken->all) return;
    if (later->all) pn_changes_whole(taken);
    else lay_all_over(taken, later);
}

void pn_changes_give_back(pn_changes *c, pn_changes *taken)
{
    pn_changes later = *c;
    *c = *taken;
    pn_changes_init(taken, c->keys.alloc);
    c->on = c->on && later.on;
    if (!c->on || c->all || later.all) pn_changes_whole(c);
    else lay_all_over(c, &later);
    pn_omap_clear(&later.keys);
}
