/* batch.h: what one commit will write: stores as they are at one moment.
 *
 * A batch holds what it points to: blobs by reference, live objects of the host likewise,
 * rows of a vector table by pinning the table. So gathering costs some 100 ns an entry
 * (waiting for memory, mostly), and encoding and writing need no lock while everything
 * goes on changing.
 *
 * Of many entries even the gathering is too long for one moment. It is done in parts,
 * with the owner's lock, and the host's, let go of in between; what changes meanwhile is
 * noted (changes.h). In the end, at one moment of all stores, each returns to its tables
 * (pn_batch_again) and adds what was noted: such a later entry counts instead of an
 * earlier one with its key, in its place or behind all others as the map has it. So the
 * batch is what the stores were at that last moment.
 *
 *     pn_batch_store(b, name, kind, reset)
 *     pn_batch_table(b, name, type, reset)
 *     pn_batch_span / _live / _row / _string / _remove ...
 *     pn_batch_again(b, name, table), pn_batch_instead, entries
 *     pn_batch_catch_up(b)          later entries take over: O(entries) of tables with some
 *     pn_batch_encode(b, ...)       until nothing is left: live objects become text
 *     pn_batch_write(b, w)          the whole batch into a segment
 *     pn_batch_shed(b)              what it holds of memory
 *     pn_batch_free(b)              on every way out, where host code may run
 *
 * Layout: stores, their tables, and for each of these blocks of entries that never move; a
 * blob that is met again at once is counted once; what is copied lies in a few large
 * pieces of memory.
 *
 * One thread at a time. A failure of gathering leaves the batch as it was, but for what was
 * added before.
 */
#ifndef PN_STORE_BATCH_H
#define PN_STORE_BATCH_H

#include "base/omap.h"
#include "persist/segment.h"
#include "store/cell.h"

typedef struct pn_batch pn_batch;

pn_status pn_batch_new(const pn_alloc *alloc, const pn_host *host, pn_batch **out);
void pn_batch_free(pn_batch *b); /* NULL is fine; host code may run */
/* Ends the batch so far as no host is needed, unless it has live values: then it does
 * nothing. Nothing but pn_batch_free may follow. */
void pn_batch_shed(pn_batch *b);

/* Store, then table, then entries, as the segment's writer takes them: PN_ERR_INVALID for a
 * table before any store and for an entry before any table. */
pn_status pn_batch_store(pn_batch *b, pn_bytes name, pn_store_kind kind, bool reset);
pn_status pn_batch_table(pn_batch *b, pn_bytes name, pn_table_type type, pn_table_reset reset);

/* Returns to a table, once: what is added from here on is later. INVALID when there is no
 * such table, or it was returned to before. */
pn_status pn_batch_again(pn_batch *b, pn_bytes store, pn_bytes table);
/* Whether entries that follow stand where the earlier one of the key does (as long as
 * there is one), or where they are added; at first, and in each new table, the latter. */
void pn_batch_instead(pn_batch *b, bool instead);
/* A later entry that only says that the earlier one does not count. */
pn_status pn_batch_nothing(pn_batch *b, pn_bytes key, pn_blob *key_owner);
/* The store as it was added so far does not count; it may be added anew. */
void pn_batch_drop(pn_batch *b, pn_bytes store);
/* Lets later entries take over. Needs neither host nor lock; where it was not called,
 * encoding does. O(entries of tables that were returned to). */
pn_status pn_batch_catch_up(pn_batch *b);

/* How much was gathered so far: one for each entry, and more for what takes longer. It grows
 * by 1 for some 100 ns, and by as much as it takes to copy what is copied. */
size_t pn_batch_work(const pn_batch *b);

/* An empty buffer for whoever adds, until the next call. */
pn_buf *pn_batch_scratch(pn_batch *b);

/* Keys and values lie in blobs (a reference is taken), or are copied when the blob is NULL. */
pn_status pn_batch_span(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_value_form form,
                        pn_bytes value, pn_blob *value_owner);
/* A value of another segment that nobody has looked at: it is checked when it is written, so
 * that damaged bytes never get a good checksum. value_owner is that file's blob. */
pn_status pn_batch_packed(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_value_form form,
                          pn_bytes value, uint32_t crc, pn_blob *value_owner);
/* JSON text that is not canonical; it is made so when the batch is written. */
pn_status pn_batch_raw(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_bytes value, pn_blob *value_owner);

/* The text of a live value as it was last written. A store keeps one for each value that
 * may change unseen, and shares it with its batch: what that encodes is offered here.
 * Guarded by the host's lock. */
typedef struct pn_live_text {
    pn_blob *blob; /* NULL: none is known */
    pn_bytes text; /* in it */
} pn_live_text;

typedef struct pn_live_note {
    const pn_alloc *alloc;
    size_t refs;
    pn_live_text saved;   /* what the last durable commit has */
    pn_live_text offered; /* what a commit under way has, if that is another text */
} pn_live_note;

pn_status pn_live_note_new(const pn_alloc *alloc, pn_live_note **out);
pn_live_note *pn_live_note_ref(pn_live_note *note); /* NULL gives NULL */
void pn_live_note_unref(pn_live_note *note);        /* NULL is fine */
/* The text that the value had before it became live: the last commit has it or (`pending`)
 * the one under way. Does nothing when such a text is known. */
void pn_live_note_found(pn_live_note *note, pn_blob *blob, pn_bytes text, bool pending);
/* The commit ended: what was offered is what is saved, or was never written. */
void pn_live_note_settle(pn_live_note *note, bool durable);

/* The notes of a map's live values: key -> pn_live_note *. */
pn_status pn_live_notes_get(pn_omap *notes, pn_bytes key, pn_blob *owner, pn_live_note **out); /* made when missing */
void pn_live_notes_forget(pn_omap *notes, pn_bytes key); /* the value is not live (any more): its note would go out of date */
void pn_live_notes_settle(pn_omap *notes, bool durable);
void pn_live_notes_clear(pn_omap *notes);

/* Takes a reference to a live object (pn_host.retain), and to `note` (may be NULL): text equal
 * to note->saved is not written again, unless op is FRESH, or the table or the store is
 * reset. */
pn_status pn_batch_live(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, void *live, pn_live_note *note);
/* The same with text around the live object's own (both copied). */
pn_status pn_batch_live_within(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_bytes before, void *live,
                               pn_bytes after, pn_live_note *note);

/* A row that stays where it is for as long as its table is pinned; read when it is written. */
pn_status pn_batch_row(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, size_t dim,
                       pn_row_encoding encoding, const void *row);
pn_status pn_batch_string(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_bytes string, pn_blob *owner);
pn_status pn_batch_remove(pn_batch *b, pn_bytes key, pn_blob *key_owner);

/* Calls `done(ctx)` when the batch is freed: unpinning, for example. */
pn_status pn_batch_defer(pn_batch *b, void (*done)(void *ctx), void *ctx);

/* Encodes live objects, about `bytes` of text, then returns; *left is how many remain.
 * What the host's encode returns is returned, and UNSUPPORTED for text that no segment may
 * have (nested too deeply, numbers of too many digits, a key twice): the store must be
 * written as text as a whole. *store, *table and *key say where it was (they live as long as
 * the batch), and the same object comes next again. Host code may run. */
pn_status pn_batch_encode(pn_batch *b, size_t bytes, size_t *left, pn_bytes *store, pn_bytes *table, pn_bytes *key);

/* Whether anything would be written: a reset, a table that is not just kept, an entry. */
bool pn_batch_changes(const pn_batch *b);
/* Needs no host. PN_ERR_INVALID while live objects remain. CORRUPT: pn_batch_damage tells what
 * is. A table that is just kept and has no entries is not written, nor a store of such. */
pn_status pn_batch_write(pn_batch *b, pn_segment_writer *w);
/* The damaged file's name (or NULL), which lives as long as the batch, and the place in it. */
const char *pn_batch_damage(const pn_batch *b, pn_error *err);

#endif
