/* pack.h: a directory whose stores are a manifest and segments (FORMAT.md, "The pack").
 *
 *   open      no lock, no writing: the manifest, then the segments of one generation,
 *             mapped. The pack holds them for as long as it lives, whatever commits do.
 *   commit    one at a time (flock on the directory): checks that the stores to be
 *             changed are as the writer thinks, writes one segment, now and then a merged
 *             one, replaces the manifest. That is the commit: before it every failure
 *             changes nothing, after it the new generation is there whole.
 *   rollback, compact, verify    on the directory alone, no store in memory needed
 *
 * The directory's JSON commits (commit.h) use the same lock, and are finished first.
 * Any thread, any process. O(what changes) for a commit, O(entries) for opening.
 */
#ifndef PN_PERSIST_PACK_H
#define PN_PERSIST_PACK_H

#include "os/file.h"
#include "persist/manifest.h"
#include "persist/segment.h"

#define PN_WRITER_NOTE ".pannier-writer"

/* ---- reading ---- */

typedef struct pn_pack {
    const pn_alloc *alloc;
    pn_manifest manifest;
    const pn_generation *generation; /* in manifest: the one that was opened */
    pn_segment **segments;           /* of that generation, oldest first */
    size_t segment_count;
} pn_pack;

enum {
    PN_PACK_CHECK = 1, /* check every value and every vector now */
    PN_PACK_COPY = 2,  /* read the segments into memory instead of mapping them */
};

/* generation 0: the current one. NOT_FOUND: the directory has no pack (no manifest, or one
 * without generations), or not that generation (err names the manifest). CORRUPT, VERSION,
 * IO: err names the file and the offset. The manifest is read again, some times, when a
 * segment that it lists has gone. */
pn_status pn_pack_open(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, uint64_t generation, unsigned flags,
                       pn_pack **out, pn_file_error *err);
void pn_pack_close(pn_pack *p); /* NULL is fine */

/* The manifest alone; NOT_FOUND as above when there is none (a manifest without
 * generations is read and is no error). */
pn_status pn_pack_manifest(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, pn_manifest *out,
                           pn_file_error *err);

/* ---- writing ---- */

/* What a writer builds on: a store as it was when it was read or last written. */
typedef struct pn_pack_base {
    const char *store;
    const uint8_t *id; /* 16 bytes: of the pack that the base is in */
    uint64_t changed;
} pn_pack_base;

typedef struct pn_pack_write {
    /* Called once, under the lock, to write the changes. */
    pn_status (*emit)(void *ctx, pn_segment_writer *w);
    void *ctx;
    /* Stores that are written as changes of a base. CONFLICT, and nothing is done, when the
     * directory's current generation has them otherwise (another id, another generation
     * of the last change, not at all). Stores without a base must be emitted reset. */
    const pn_pack_base *bases;
    size_t base_count;
    uint32_t keep;  /* generations; 0: as the directory has it, 3 for a new one */
    int64_t time;   /* ns since 1970 */
    unsigned patience; /* milliseconds to wait for another writer */
    const pn_manifest_foreign *foreign; /* replaces the current list */
    size_t foreign_count;
    const pn_manifest_json *json;       /* likewise */
    size_t json_count;
} pn_pack_write;

typedef struct pn_pack_result {
    uint8_t id[16];
    uint64_t generation; /* now current */
    uint64_t bytes;      /* written, all files */
    bool wrote;          /* false: nothing had changed and no generation was made */
} pn_pack_result;

/* Makes the directory when missing. OK, or nothing changed and: CONFLICT (err.path is
 * the store's name), LOCKED (err.base.what begins the reason, err.path is the writer's note), IO, CORRUPT,
 * VERSION, NOMEM, whatever emit returned. UNKNOWN_OUTCOME: the manifest was replaced but
 * the directory could not be synced. A generation is made when a store was emitted with
 * any entry, table or reset, or foreign differs, or there was none. */
pn_status pn_pack_commit(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, const pn_pack_write *write,
                         pn_pack_result *result, pn_file_error *err);

/* A new generation that is an earlier one again. NOT_FOUND when it is not kept. */
pn_status pn_pack_rollback(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, uint64_t generation, int64_t time,
                           unsigned patience, pn_pack_result *result, pn_file_error *err);

/* Merges all segments of the current generation into one, which keeps its number (so no
 * writer's base moves), and forgets all but the last `keep` generations (0: keeps them
 * all). Sweeps. */
pn_status pn_pack_compact(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, uint32_t keep, unsigned patience,
                          pn_pack_result *result, pn_file_error *err);

/* Removes the pack's files: a manifest without generations must be there already (it is
 * committed together with the JSON files that take over, under its name by pn_commit_files). */
pn_status pn_pack_retire(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, unsigned patience, pn_file_error *err);

/* Checks every byte of every generation. Each finding is told; false ends it. Returns OK
 * when all could be looked at, however much was found wrong. */
typedef bool (*pn_pack_finding)(void *ctx, const char *path, uint64_t offset, const char *what);
pn_status pn_pack_verify(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, pn_pack_finding each, void *ctx,
                         pn_file_error *err);

#endif
