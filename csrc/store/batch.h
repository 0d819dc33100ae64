/* batch.h: what one commit will write, gathered at one moment and written later.
 *
 * A batch is a list of entries that holds what it points to: blobs by reference, live
 * objects of the host likewise, rows of a vector table by pinning the table. So
 * gathering is short (the owner's lock, and the host's, are held: some 20 ns an entry,
 * only of what changed), encoding the live objects may follow in slices, and writing
 * needs neither lock while everything goes on changing.
 *
 *     pn_batch_store(b, name, kind, reset)
 *     pn_batch_table(b, name, type, reset)
 *     pn_batch_span / _live / _row / _string / _remove ...
 *     pn_batch_encode(b, ...)       until nothing is left: live objects become text
 *     pn_batch_write(b, w)          the whole batch into a segment
 *     pn_batch_clear(b)             on every way out, where host code may run
 *
 * One thread at a time. A failure of gathering leaves the batch as it was, but for what was
 * added before.
 */
#ifndef PN_STORE_BATCH_H
#define PN_STORE_BATCH_H

#include "persist/segment.h"
#include "store/cell.h"

typedef struct pn_batch pn_batch;

pn_status pn_batch_new(const pn_alloc *alloc, const pn_host *host, pn_batch **out);
void pn_batch_free(pn_batch *b); /* NULL is fine; host code may run */

pn_status pn_batch_store(pn_batch *b, pn_bytes name, pn_store_kind kind, bool reset);
pn_status pn_batch_table(pn_batch *b, pn_bytes name, pn_table_type type, pn_table_reset reset);

/* Keys and values lie in blobs (a reference is taken), or are copied when the blob is NULL. */
pn_status pn_batch_span(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_value_form form,
                        pn_bytes value, pn_blob *value_owner);
/* JSON text that is not canonical; it is made so when the batch is written. */
pn_status pn_batch_raw(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_bytes value, pn_blob *value_owner);
/* Takes a reference to a live object (pn_host.retain). `before` (may be EMPTY; a JSON span in a blob,
 * referenced) is the text that the last commit wrote for the key: equal text is not written
 * again, unless op is FRESH. */
pn_status pn_batch_live(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, void *live, const pn_cell *before);
/* A row that stays where it is for as long as `pinned` says; `row` is read when written. */
pn_status pn_batch_row(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, size_t dim,
                       pn_row_encoding encoding, const void *row);
pn_status pn_batch_string(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_bytes string, pn_blob *owner);
pn_status pn_batch_remove(pn_batch *b, pn_bytes key, pn_blob *key_owner);

/* Calls `done(ctx)` when the batch is freed: unpinning, for example. */
pn_status pn_batch_defer(pn_batch *b, void (*done)(void *ctx), void *ctx);

/* Encodes live objects, about `bytes` of text, then returns; *left is how many remain.
 * What the host's encode returns is returned; *store, *table and *key say where it was (they
 * live as long as the batch). Host code may run. */
pn_status pn_batch_encode(pn_batch *b, size_t bytes, size_t *left, pn_bytes *store, pn_bytes *table, pn_bytes *key);

/* Whether anything would be written: a reset, a table that is not just kept, an entry. */
bool pn_batch_changes(const pn_batch *b);
/* Needs no host. PN_ERR_INVALID while live objects remain. */
pn_status pn_batch_write(pn_batch *b, pn_segment_writer *w);

#endif
