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
 *
 * A gather in parts begins with a take: O(collections). From then on changes are noted anew,
 * and anything may happen to the store between parts. The end, O(what was noted), makes
 * the batch what the store is then. It gathers all again, with nothing in between, when
 * the parts lost their way: a collection came or went, a map was swept, notes were lost.
 */
#ifndef PN_STORE_KV_PACK_H
#define PN_STORE_KV_PACK_H

#include "store/batch.h"
#include "store/kv.h"

/* Between begin and end. */
typedef struct pn_kv_gathering {
    pn_kv *kv;
    pn_batch *batch;
    pn_bytes name; /* borrowed */
    bool asked;    /* to be whole */
    bool begun;    /* the batch has the store */
    bool reset;    /* it is: nothing older counts */
    bool lost;     /* what was gathered so far does not count */
    bool whole;    /* of the collection: nothing older counts */
    bool lives;    /* its live cells come before its entries */
    pn_coll *coll;
    pn_omap_walk colls, entries;
} pn_kv_gathering;

/* Adds the store `name` to the batch: with `whole` (or when the store is not tracked) all
 * of it with reset, else the changes since the last take, which are taken. The caller holds
 * the store's lock. On failure nothing is taken; INVALID while another gather waits for its
 * end. Else afterwards exactly one of the next two, under the lock, whatever else happened
 * to the store meanwhile: */
pn_status pn_kv_gather(pn_kv *kv, pn_bytes name, bool whole, pn_batch *b);
void pn_kv_gathered(pn_kv *kv);  /* the commit is durable: the store is tracked from that gather on */
void pn_kv_give_back(pn_kv *kv); /* it is not: what was taken counts as changed still */

/* The same in parts, each under the lock: begin, some parts while there is more, end. The
 * batch has the store as it is at the end. When one of them fails no other may follow, and
 * give_back must, except after begin (as after a gather); twice does no harm. `name` must live
 * until the end. Other stores may be between begin and end at the same time, but a batch
 * takes all parts of one before those of another. A part does about `work` (pn_batch_work); an index struct is gathered in one. */
pn_status pn_kv_gather_begin(pn_kv *kv, pn_bytes name, bool whole, pn_batch *b, pn_kv_gathering *g);
pn_status pn_kv_gather_part(pn_kv_gathering *g, size_t work, bool *more);
pn_status pn_kv_gather_end(pn_kv_gathering *g);

/* Forgets what it builds on: the next gather is whole. */
void pn_kv_untrack(pn_kv *kv);

/* Fills an empty store from the segments (oldest first) in which a store of this name may
 * occur; it is tracked afterwards. CORRUPT with the reason: *bad is the number of the
 * segment, and err has the offset in that file. After a failure the store must be freed. */
pn_status pn_kv_unpack(pn_kv *kv, pn_bytes name, pn_segment *const *segments, size_t n, size_t *bad, pn_error *err);

#endif
