/* pack_dir.h: a pack's directory while one writer holds it (for pack_*.c only).
 *
 *     pn_pack_enter(&d, ...)      lock, note, finish a JSON commit, read the manifest
 *     ... d.manifest is edited, segments are written ...
 *     pn_pack_publish(&d, ...)    the manifest is replaced: the commit
 *     pn_pack_leave(&d)           on every way out after pn_pack_enter returned OK
 */
#ifndef PN_PERSIST_PACK_DIR_H
#define PN_PERSIST_PACK_DIR_H

#include "persist/pack.h"

typedef struct pn_pack_dir {
    const pn_vfs *vfs;
    const pn_alloc *alloc;
    pn_file_error *err;
    char root[PN_PATH_MAX]; /* no trailing slash */
    char path[PN_PATH_MAX]; /* of the manifest */
    int lock;
    bool locked, noted;     /* false: the file system has no locks; the note is ours to remove */
    bool exists;            /* there was a manifest: */
    pn_stat old;            /* its file */
    pn_manifest manifest;   /* as it was read, empty without one; the caller edits it */
    pn_manifest_segment *before; /* the segments that were listed when it was read */
    size_t before_count;
    uint64_t bytes;         /* written so far */
} pn_pack_dir;

/* With `make` a missing directory is made; else it is NOT_FOUND. Refuses a manifest that
 * could not be replaced, as opening it for writing would be. */
pn_status pn_pack_enter(pn_pack_dir *d, const pn_vfs *vfs, const pn_alloc *alloc, const char *root, bool make,
                        unsigned patience, const char *note, pn_file_error *err);
void pn_pack_leave(pn_pack_dir *d);

/* Makes all names in the directory durable. */
pn_status pn_pack_sync(pn_pack_dir *d);
/* Replaces the manifest by d->manifest, after making `segment` (may be NULL), which is
 * flushed, and all names durable. *visible: the rename was done, so what the manifest refers
 * to must stay, and a failure is UNKNOWN_OUTCOME. */
struct pn_pack_file;
pn_status pn_pack_publish(pn_pack_dir *d, struct pn_pack_file *segment, bool *visible);

/* Unlinks what killed commits left: staged files, and segments that the manifest does not
 * list and that a commit on it, or on one before it, can have made. */
void pn_pack_sweep_leftovers(pn_pack_dir *d);
/* After publishing: unlinks segments that were listed before and are no more. Both do
 * nothing without the lock; what they fail to unlink is a leftover for the next commit. */
void pn_pack_sweep_replaced(pn_pack_dir *d);

/* ---- one segment ---- */

typedef enum pn_pack_look { PN_LOOK_STORES, PN_LOOK_ALL } pn_pack_look;

/* Maps a segment's file; IO with ENOENT when it is not there. Opens a mapped one and compares
 * it with what the manifest says of it. Both in turn. */
pn_status pn_pack_map(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_manifest_segment *s,
                      bool copy, pn_blob **out, pn_file_error *err);
pn_status pn_pack_open_mapped(const pn_alloc *alloc, pn_blob *blob, const pn_manifest_segment *s, pn_pack_look look,
                              pn_segment **out, pn_file_error *err);
pn_status pn_pack_segment(const pn_vfs *vfs, const pn_alloc *alloc, const char *root, const pn_manifest_segment *s,
                          pn_pack_look look, bool copy, pn_segment **out, pn_file_error *err);

/* A segment file that is being written. The file is created when there is something to
 * write to it beyond what memory holds, or at its end. */
typedef struct pn_pack_file {
    pn_pack_dir *dir;
    uint64_t generation;
    pn_manifest_segment made; /* its name, and after the end its size and tail */
    char path[PN_PATH_MAX];
    int fd;          /* -1: none */
    bool created;
    pn_buf held;
    uint64_t put, hinted; /* bytes in the file; when the disk was last told to begin */
} pn_pack_file;

void pn_pack_file_init(pn_pack_file *f, pn_pack_dir *d, uint64_t generation);
pn_status pn_pack_file_sink(void *file, pn_bytes bytes); /* a pn_segment_sink */
/* Writes what is held, so that the file can be read. Then makes it durable and closes it. */
pn_status pn_pack_file_flush(pn_pack_file *f);
pn_status pn_pack_file_sync(pn_pack_file *f);
/* Closes; removes the file unless it is kept. On every way out. */
void pn_pack_file_end(pn_pack_file *f, bool keep);

/* Merges the segments, oldest first, into the file and makes it durable. On failure the
 * file is gone and d->err says why. */
pn_status pn_pack_merge(pn_pack_dir *d, const pn_manifest_segment *list, size_t n, bool bottom, pn_pack_file *to);

/* Whether the segments of a generation, applied in turn, leave exactly its stores: OK, or
 * CORRUPT, what says why. */
pn_status pn_pack_check_stores(const pn_alloc *alloc, const pn_generation *g, pn_segment *const *segments,
                               const char **what);

#endif
