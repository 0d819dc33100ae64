/* kv.h: named collections of insertion-ordered key -> value cells.
 *
 *   pn_kv      collection name -> pn_coll, in order of first touch (the order in
 *              which the collections stand in the file)
 *   pn_coll    key -> pn_cell, in order of insertion; overwriting keeps the place
 *
 * All names and keys are UTF-8 (three-byte surrogates allowed). put, get, remove are
 * O(1). Not locked: the owner guards it. Pointers to collections stay valid until
 * the collection is dropped; pointers to cells until the collection is next changed.
 *
 * A file is one JSON object of objects. Loading scans and validates the text once and
 * keeps each value as a span of it; saving writes canonical spans as they are.
 */
#ifndef PN_STORE_KV_H
#define PN_STORE_KV_H

#include "store/cell.h"
#include "store/changes.h"
#include "store/gone.h"

/* Besides its cells a collection notes what changed since the last commit (kv_pack.h):
 * put and remove do so here, and who changes a cell where it is calls pn_coll_touch. */
typedef struct pn_coll {
    pn_omap cells;      /* key -> pn_cell */
    uint64_t rewrites;  /* how often a value of a key that stays became another, or one that may change */
    pn_made made;       /* of the host, at pn_coll_version */
    pn_changes changes; /* since the last commit; off: that does not have the collection */
    pn_changes taken;   /* what the commit that is under way writes */
    pn_omap lives;      /* key -> pn_live_note *: cells that may change unseen */
    pn_omap structs;    /* key -> pointer: index structs of the commit under way (kv_pack.c, kv_unpack.c) */
    bool gathering;     /* that commit is being gathered: what becomes live meanwhile counts as changed */
} pn_coll;

typedef struct pn_kv {
    const pn_alloc *alloc;
    size_t refs; /* guarded by the owner's lock, as everything here */
    pn_host host;
    pn_omap colls;           /* name -> pn_coll * */
    pn_changes names, taken; /* of colls, as a collection has them of its cells */
    bool taking;             /* a commit is under way */
    pn_gone gone;            /* index structs that were removed */
} pn_kv;

pn_status pn_kv_new(const pn_alloc *alloc, const pn_host *host, pn_kv **out);
/* One reference for whoever uses the store while host code may run: such code may make
 * the owner let go of it. The last unref releases every value (host code may run). */
pn_kv *pn_kv_ref(pn_kv *kv);
void pn_kv_unref(pn_kv *kv); /* NULL is fine */

/* Finds or creates, as reading and writing both do. */
pn_status pn_kv_collection(pn_kv *kv, pn_bytes name, pn_coll **out);
/* Finds, or NULL. */
pn_coll *pn_kv_find(const pn_kv *kv, pn_bytes name);
/* Takes a collection out; the caller empties it with pn_coll_free. NULL if absent. */
pn_coll *pn_kv_drop(pn_kv *kv, pn_bytes name);
void pn_coll_free(pn_coll *coll, const pn_alloc *alloc, const pn_host *host);

static inline pn_cell *pn_coll_get(const pn_coll *c, pn_bytes key) { return pn_omap_get(&c->cells, key); }
/* Takes `cell` (also on failure it stays the caller's); what stood there goes to *old
 * (EMPTY when the key is new). `owner` as in pn_omap_put. */
pn_status pn_coll_put(pn_coll *c, pn_bytes key, pn_blob *owner, pn_cell cell, pn_cell *old);
/* With the hash that pn_omap_near gave for the key. */
pn_status pn_coll_put_hashed(pn_coll *c, pn_bytes key, uint32_t hash, pn_blob *owner, pn_cell cell, pn_cell *old);
bool pn_coll_remove(pn_coll *c, pn_bytes key, pn_cell *old);
/* Releases what was removed: at once (host code may run), but for index structs, which may be
 * large. Whoever stores or reads one calls pn_gone_free on kv->gone. */
void pn_kv_let_go(pn_kv *kv, pn_cell *old);

/* Differs from what it was when what the host finds in the collection may: unless it changed
 * a LIVE value. */
static inline uint64_t pn_coll_version(const pn_coll *c) { return c->cells.version + c->rewrites; }
/* The value in a cell of the collection changed where it is. Settling a cell, or giving it
 * another form, is no change. */
static inline void pn_coll_touch(pn_coll *c, const pn_cell *cell)
{
    c->rewrites++;
    if (c->changes.on) pn_changes_touch(&c->changes, pn_omap_key_of(cell), pn_omap_owner_of(cell));
}

/* The value in a cell (settled; JSON, MPACK or native) is about to become one that may change
 * at any time: the cell LIVE, or its ref_doc_info's metadata. O(1), but for such an info. */
void pn_coll_goes_live_slow(pn_coll *c, const pn_cell *cell);
static inline void pn_coll_goes_live(pn_coll *c, const pn_cell *cell)
{
    c->rewrites++;
    if (c->changes.on) pn_coll_goes_live_slow(c, cell);
}

/* Loads {"collection": {"key": value, ...}, ...}. UNSUPPORTED when the text is valid
 * but not of that shape or has something only the host's own reader decides about;
 * SYNTAX, UTF8, DEPTH with the offset in *err when it is not valid. */
pn_status pn_kv_load_json(const pn_alloc *alloc, const pn_host *host, pn_blob *text, pn_kv **out, pn_error *err);

/* Where writing stopped. It holds what the names lie in, since the value's own code may
 * have removed it meanwhile. Zero it before use, clear it afterwards. */
typedef struct pn_kv_place {
    pn_bytes collection, key;
    pn_blob *collection_owner, *key_owner;
    bool turns;     /* asked for: the host's other threads get a turn now and then */
    size_t turn_at; /* length of the text at the last one */
} pn_kv_place;

void pn_kv_place_clear(pn_kv_place *place);

/* Appends the whole store as json.dumps writes it. On failure *place tells which value
 * it was (key_owner NULL: none in particular). PN_ERR_EXISTS: the store was changed while
 * the host encoded a live value or others had a turn (not one of its live values, which
 * nobody notices); nothing is wrong with it, try again. The caller holds
 * a reference. */
pn_status pn_kv_write_json(const pn_kv *kv, pn_buf *out, pn_kv_place *place);

#endif
