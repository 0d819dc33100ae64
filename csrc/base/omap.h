/* omap.h: an insertion-ordered hash map from byte-string keys to fixed-size values.
 *
 *   index  u32[]  open addressing, power of two, at most 2/3 full: entry number + 1,
 *                 0 empty, DELETED a grave
 *   entry  { key ptr, key owner, key len, hash, value bytes }, in insertion order;
 *          a removed entry has owner and ptr NULL and is swept when half are
 *
 * Semantics are those of Python's dict: overwriting keeps an entry's place,
 * removing and adding again goes to the end. A key's bytes are borrowed from a
 * blob that the entry holds a reference to (so keys may point into a loaded
 * file), or copied into a blob that the map fills with one key after another (at most
 * 4 KB, so that one key which stays does not hold much).
 *
 * Values are plain bytes to the map: it neither frees nor looks into them. The
 * owner releases them before removing, or gets them handed out by removal.
 *
 * put, get, remove: O(1). Not locked. Value pointers are valid until the next
 * put or remove. At most 2^32 - 16 entries.
 */
#ifndef PN_BASE_OMAP_H
#define PN_BASE_OMAP_H

#include "base/blob.h"

/* What stands before an entry's value. */
typedef struct pn_omap_head {
    const uint8_t *ptr; /* NULL: removed */
    pn_blob *owner;
    uint32_t len;
    uint32_t hash;
} pn_omap_head;

typedef struct pn_omap {
    const pn_alloc *alloc;
    uint64_t seed;
    size_t value_size, stride;
    uint8_t *entries;
    uint32_t *index;
    size_t used;     /* entries in use or removed */
    size_t live;     /* entries in use */
    size_t cap;      /* room in entries */
    size_t mask;     /* slots in index - 1, or 0 while empty */
    pn_blob *keys;   /* where copied keys go, or NULL */
    uint8_t *keys_at;
    size_t keys_left;
    uint64_t version; /* changes with every put of a new key and every removal */
    uint64_t moves;   /* changes when entries go to other places */
} pn_omap;

void pn_omap_init(pn_omap *m, const pn_alloc *alloc, size_t value_size); /* allocates nothing */
void pn_omap_clear(pn_omap *m); /* frees; values must have been released */
/* Room for n entries in all, so that loading does not rehash. */
pn_status pn_omap_reserve(pn_omap *m, size_t n);

static inline size_t pn_omap_len(const pn_omap *m) { return m->live; }

/* A copy: the same keys, values and order, each byte for byte. O(n), at the speed of
 * copying memory; what the values refer to is the caller's to look after. *out is
 * initialised by this, and holds nothing on failure. */
pn_status pn_omap_clone(const pn_omap *m, pn_omap *out);

/* The value of a key, or NULL. */
void *pn_omap_get(const pn_omap *m, pn_bytes key);

/* The key of a value that get, put or next handed out, and the blob that it lies in
 * (borrowed); valid as long as the value. */
pn_bytes pn_omap_key_of(const void *value);
pn_blob *pn_omap_owner_of(const void *value);

/* The value of the entry that was the i-th to come (i < m->used), or NULL if it was removed. */
static inline void *pn_omap_value_at(const pn_omap *m, size_t i)
{
    pn_omap_head *e = (pn_omap_head *)(void *)(m->entries + i * m->stride);
    return e->ptr != NULL ? e + 1 : NULL;
}

/* Finds or adds. *value points at the value; when *added it is zeroed and the
 * caller fills it. `owner` is the blob that key points into (a reference is
 * taken when the key is new), or NULL: the key is copied. */
pn_status pn_omap_put(pn_omap *m, pn_bytes key, pn_blob *owner, void **value, bool *added);

/* Many calls in a row wait for memory, mostly. Whoever knows the next keys hashes them ahead
 * of time (near), has the index's slot brought near, and somewhat later the entry that it
 * names (nearer); then calls with that hash. The hash is good for this map alone. */
uint32_t pn_omap_near(const pn_omap *m, pn_bytes key);
void pn_omap_nearer(const pn_omap *m, uint32_t hash);
pn_status pn_omap_put_hashed(pn_omap *m, pn_bytes key, uint32_t hash, pn_blob *owner, void **value, bool *added);

void *pn_omap_get_hashed(const pn_omap *m, pn_bytes key, uint32_t hash);
bool pn_omap_remove_hashed(pn_omap *m, pn_bytes key, uint32_t hash, void *out);

/* Removes; copies the value to *out (may be NULL) when it was there. */
bool pn_omap_remove(pn_omap *m, pn_bytes key, void *out);

/* Iteration in insertion order: start with *pos = 0; false at the end. Adding or
 * removing while iterating is allowed only if `version` is checked by the caller; but the
 * entry that was handed out last may be removed, and the iteration goes on. */
bool pn_omap_next(const pn_omap *m, size_t *pos, pn_bytes *key, void **value);
/* As next, and also hands out the key's owner (borrowed). */
bool pn_omap_next_owned(const pn_omap *m, size_t *pos, pn_bytes *key, pn_blob **owner, void **value);

/* A walk through the entries that a map has as it begins, with changes in between. What is
 * removed meanwhile is not met any more, what is added is not met. After changes the walk may go on
 * only if it holds: else entries went to other places, and where it was is not known. */
typedef struct pn_omap_walk {
    const pn_omap *map;
    size_t pos, end;
    uint64_t moves;
} pn_omap_walk;

static inline void pn_omap_walk_begin(pn_omap_walk *w, const pn_omap *m)
{
    *w = (pn_omap_walk){m, 0, m->used, m->moves};
}
static inline bool pn_omap_walk_holds(const pn_omap_walk *w) { return w->map->moves == w->moves; }
static inline bool pn_omap_walk_next(pn_omap_walk *w, pn_bytes *key, pn_blob **owner, void **value)
{
    return w->pos < w->end && pn_omap_next_owned(w->map, &w->pos, key, owner, value) && w->pos <= w->end;
}

#endif
