/* manifest.h: which generations a pack has, of which segments, with which stores.
 *
 * FORMAT.md, "Bytes of the manifest". A manifest in memory owns all it points to. Names
 * of segments occur once, in `segments`; generations refer to them by position.
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
    uint32_t *segments;
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
pn_status pn_manifest_write(const pn_manifest *m, pn_buf *out);

/* The current generation, or NULL; one by its number, or NULL. */
const pn_generation *pn_manifest_current(const pn_manifest *m);
const pn_generation *pn_manifest_find(const pn_manifest *m, uint64_t number);
const pn_manifest_store *pn_generation_store(const pn_generation *g, pn_bytes name); /* or NULL */

/* seg-<generation>-<random>.pn, and whether a name has that form. */
void pn_segment_name(uint64_t generation, uint64_t random, char to[PN_SEGMENT_NAME_LEN + 1]);
bool pn_segment_name_ok(pn_bytes name);

#endif
