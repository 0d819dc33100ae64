/* manifest.h: which generations a pack has, of which segments, with which stores.
 *
 * FORMAT.md, "Bytes of the manifest". A manifest in memory owns all it points to. Names
 * of segments occur once, in `segments`; generations refer to them by position.
 *
 * manifest.c builds one: the next generation is a copy of the current one that is edited
 * and pushed; old ones are dropped; tidying forgets the segments that are left over.
 * manifest_codec.c reads and writes the bytes. Parsing and writing are linear; finding a
 * store or a generation is linear in their number. One owner, no locking.
 */
#ifndef PN_PERSIST_MANIFEST_H
#define PN_PERSIST_MANIFEST_H

#include "base/buffer.h"

#define PN_MANIFEST_NAME "MANIFEST"
enum { PN_MANIFEST_VERSION = 1, PN_MANIFEST_KEEP = 3, PN_MANIFEST_MAX_KEEP = 1000, PN_SEGMENT_NAME_LEN = 40 };

typedef struct pn_manifest_segment {
    char name[PN_SEGMENT_NAME_LEN + 1];
    uint64_t size;
    uint32_t tail_crc;
} pn_manifest_segment;

typedef struct pn_manifest_store {
    char *name;
    uint8_t kind;
    uint64_t changed; /* the generation that last changed it */
} pn_manifest_store;

typedef struct pn_manifest_foreign {
    char *name, *type; /* file name and class, for the reader of a message */
} pn_manifest_foreign;

typedef struct pn_manifest_json { /* an outdated JSON file beside the pack */
    char *name;
    uint64_t size;
    int64_t mtime;
    uint32_t crc;
} pn_manifest_json;

typedef struct pn_generation {
    uint64_t number;
    int64_t time; /* ns since 1970 */
    uint32_t *segments; /* positions in pn_manifest.segments, oldest first */
    size_t segment_count;
    pn_manifest_store *stores;
    size_t store_count;
    pn_manifest_foreign *foreign;
    size_t foreign_count;
    pn_manifest_json *json;
    size_t json_count;
} pn_generation;

typedef struct pn_manifest {
    const pn_alloc *alloc;
    uint8_t id[16];
    uint32_t keep;
    pn_manifest_segment *segments;
    size_t segment_count;
    pn_generation *generations; /* ascending; the last is current */
    size_t generation_count;
} pn_manifest;

void pn_manifest_init(pn_manifest *m, const pn_alloc *alloc); /* no generations, allocates nothing */
void pn_manifest_clear(pn_manifest *m);

/* Into an initialised manifest. CORRUPT with reason and offset, VERSION; m is then empty. */
pn_status pn_manifest_parse(pn_manifest *m, pn_bytes bytes, pn_error *err);
/* Appends the bytes. INVALID for a name that is not UTF-8. On failure out is as it was. */
pn_status pn_manifest_write(const pn_manifest *m, pn_buf *out);

/* The current generation, or NULL; one by its number, or NULL. */
const pn_generation *pn_manifest_current(const pn_manifest *m);
const pn_generation *pn_manifest_find(const pn_manifest *m, uint64_t number);
const pn_manifest_store *pn_generation_store(const pn_generation *g, pn_bytes name); /* or NULL */

/* seg-<generation>-<random>.pn, and whether a name has that form. */
void pn_segment_name(uint64_t generation, uint64_t random, char to[PN_SEGMENT_NAME_LEN + 1]);
bool pn_segment_name_ok(pn_bytes name);

/* ---- editing ---- */

/* Every function that fails with NOMEM leaves what it edits as it was. A generation on its
 * own is zero-initialised, edited with the manifest's allocator, and pushed or cleared. */
pn_status pn_generation_copy(const pn_alloc *alloc, const pn_generation *from, pn_generation *to);
void pn_generation_clear(const pn_alloc *alloc, pn_generation *g);
/* Replaces the store of that name where it stands, or adds one behind the others. */
pn_status pn_generation_set_store(const pn_alloc *alloc, pn_generation *g, pn_bytes name, uint8_t kind,
                                  uint64_t changed);
/* These copy the list that replaces the old one. */
pn_status pn_generation_set_segments(const pn_alloc *alloc, pn_generation *g, const uint32_t *positions, size_t n);
pn_status pn_generation_set_foreign(const pn_alloc *alloc, pn_generation *g, const pn_manifest_foreign *list, size_t n);
pn_status pn_generation_set_json(const pn_alloc *alloc, pn_generation *g, const pn_manifest_json *list, size_t n);
bool pn_generation_same_foreign(const pn_generation *g, const pn_manifest_foreign *list, size_t n);

pn_status pn_manifest_add_segment(pn_manifest *m, const pn_manifest_segment *s, uint32_t *position);
/* Takes the generation, which is empty afterwards; it becomes the current one. */
pn_status pn_manifest_push(pn_manifest *m, pn_generation *g);
void pn_manifest_drop(pn_manifest *m, size_t n); /* the n oldest generations */
/* Forgets segments that no generation refers to. */
pn_status pn_manifest_tidy(pn_manifest *m);
/* Bytes of the segments that the last `n` generations refer to, each counted once; needs
 * a scratch byte for each segment of the manifest. */
uint64_t pn_manifest_bytes(const pn_manifest *m, size_t n, uint8_t *scratch);

#endif
