/* kv_pack.h: a key-value store's way into a pack and out of it.
 *
 * Out: pn_kv_gather lists what changed since the last commit (or everything) into a
 * batch. In: pn_kv_unpack applies segments to an empty store; values become PACKED cells,
 * spans of the mapped file that are checked when first used (pn_cell_settle in cell.h);
 * index structs are checked and laid into columns at once.
 *
 * A value that was handed out live may change at any time without the store noticing: as
 * long as its cell is live it counts as changed, and its text is compared with the last
 * that was written. (A ref_doc_info whose metadata is live likewise.)
 *
 * Gathering costs O(what changed + what is live), or O(entries) when it is whole; the text
 * of a ref_doc_info, and the new rows of a struct, are copied. Unpacking is O(entries).
 */
#ifndef PN_STORE_KV_PACK_H
#define PN_STORE_KV_PACK_H

#include "store/batch.h"
#include "store/kv.h"

/* Adds the store `name` to the batch: with `whole` (or when the store is not tracked) all
 * of it with reset, else the changes since the last take, which are taken. The caller holds
 * the store's lock. On failure nothing is taken; INVALID while another gather waits for its
 * end. Else afterwards exactly one of the next two, under the lock, whatever else happened
 * to the store meanwhile: */
pn_status pn_kv_gather(pn_kv *kv, pn_bytes name, bool whole, pn_batch *b);
void pn_kv_gathered(pn_kv *kv);  /* the commit is durable: the store is tracked from that gather on */
void pn_kv_give_back(pn_kv *kv); /* it is not: what was taken counts as changed still */

/* Forgets what it builds on: the next gather is whole. */
void pn_kv_untrack(pn_kv *kv);

/* Fills an empty store from the segments (oldest first) in which a store of this name may
 * occur; it is tracked afterwards. CORRUPT with the reason: *bad is the number of the
 * segment, and err has the offset in that file. After a failure the store must be freed. */
pn_status pn_kv_unpack(pn_kv *kv, pn_bytes name, pn_segment *const *segments, size_t n, size_t *bad, pn_error *err);

#endif
