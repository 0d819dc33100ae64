/* pack.h: a directory whose stores are a manifest and segments (FORMAT.md, "The pack").
 *
 *   pack_open.c    reading: the manifest, then the segments of one generation
 *   pack_commit.c  a commit
 *   pack_upkeep.c  rollback, compact, retire
 *   pack_verify.c  looking for damage
 *   pack_dir.h     what those do under the lock; pack_plan.h: when to merge and drop
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
    unsigned patience; /* milliseconds, roughly, to wait for another writer */
    const char *note;  /* who writes: one line of text for other writers' messages, or NULL */
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

/* Makes the directory when missing. OK, or nothing changed and:
 *
 *   CONFLICT   err.path is the store's name
 *   LOCKED     err.base.what begins the reason, err.path is the writer's note: its first
 *              line, or empty when it left none
 *   INVALID    err.path is the name of a store that was emitted without base or reset, as
 *              another kind than its base, or under a name that is no text; or keep is
 *              out of range
 *   IO, CORRUPT, VERSION, NOMEM, whatever emit returned
 *
 * UNKNOWN_OUTCOME: the manifest was replaced but the directory could not be synced. As a
 * rule the new generation is what readers see from now on; the next commit makes it sure.
 *
 * A generation is made when a store was emitted with any entry, table or reset, or foreign
 * differs, or there was none. The first one of a directory draws the pack's id, and so does
 * the first after the pack was retired.
 *
 * Where the directory cannot be locked (ENOLCK), commits do not exclude each other, and
 * nothing is ever swept: another's commit may be about to refer to it. */
pn_status pn_pack_commit(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, const pn_pack_write *write,
                         pn_pack_result *result, pn_file_error *err);

/* A new generation that is an earlier one again, whose segments must be there and whole
 * (as far as opening checks). Stores that differ count as changed by it, so that writers
 * who build on what is rolled back get CONFLICT. Nothing is dropped early, so that it can
 * itself be rolled back. NOT_FOUND when the generation is not kept, or there is no pack. */
pn_status pn_pack_rollback(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, uint64_t generation, int64_t time,
                           unsigned patience, const char *note, pn_pack_result *result, pn_file_error *err);

/* Merges all segments of the current generation into one, which keeps its number (so no
 * writer's base moves), and forgets all but the last `keep` generations (0: keeps them
 * all; what the pack keeps from then on is not changed). Sweeps. NOT_FOUND without a pack. */
pn_status pn_pack_compact(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, uint32_t keep, unsigned patience,
                          const char *note, pn_pack_result *result, pn_file_error *err);

/* Removes the pack's files, the manifest last: one without generations must be there (it
 * is committed together with the JSON files that take over, under its name by
 * pn_commit_files), else INVALID. No manifest at all is fine. After a failure the same call
 * can be made again. Where there are no locks nothing is removed. */
pn_status pn_pack_retire(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, unsigned patience,
                         const char *note, pn_file_error *err);

/* Checks every byte of every generation, and that its segments can be applied in turn.
 * Each finding is told; false ends it. Returns OK when all could be looked at, however much
 * was found wrong. NOT_FOUND: no pack. IO, VERSION: what could not be looked at. */
typedef bool (*pn_pack_finding)(void *ctx, const char *path, uint64_t offset, const char *what);
pn_status pn_pack_verify(const pn_vfs *vfs, const pn_alloc *alloc, const char *dir, pn_pack_finding each, void *ctx,
                         pn_file_error *err);

#endif
