/* vector_pack.h: a vector table's way into a pack and out of it.
 *
 * As kv_pack.h, with the three maps as three tables. Rows read from a pack stay where the
 * file is mapped (a band's block that the table borrows); they are checked as one, and so
 * are the metadata texts, before their first use: pn_vec_settle_rows, pn_vec_settle_metas.
 */
#ifndef PN_STORE_VECTOR_PACK_H
#define PN_STORE_VECTOR_PACK_H

#include "store/batch.h"
#include "store/vector.h"

/* Between begin and end. */
typedef struct pn_vec_gathering {
    pn_vec *v;
    pn_batch *batch;
    pn_bytes name; /* borrowed */
    bool asked;    /* to be whole */
    bool begun;    /* the batch has the store */
    bool whole;    /* it is: nothing older counts */
    bool lost;     /* what was gathered so far does not count */
    int map;
    bool all;      /* of that map: nothing older counts */
    bool lives;    /* of the metadata: what is live and not noted */
    pn_omap_walk entries;
} pn_vec_gathering;

/* Adds the store `name` to the batch: with `whole` (or when the table is not tracked) all of
 * it with reset, else the changes since the last take, which are taken. The caller holds
 * what guards the table, has pinned it (pn_vec_pin) and unpins it through pn_batch_defer.
 * Metadata that is a live object is retained by the batch's host. Where all rows are to be
 * written they are settled; whoever wants to know which file is damaged, or holds a lock
 * that is not to be held for long, does it before. INVALID: another gather has not ended.
 * After PN_OK exactly one of the next two ends it, under the same guard and the host's
 * lock; after a failure nothing is taken. O(what is written). */
pn_status pn_vec_gather(pn_vec *v, pn_bytes name, bool whole, pn_batch *b);
void pn_vec_gathered(pn_vec *v);  /* the commit is durable: tracked from that gather on */
void pn_vec_give_back(pn_vec *v); /* it is not: what was taken counts as changed still */
/* The same in parts, as in kv_pack.h; pinned all the while. */
pn_status pn_vec_gather_begin(pn_vec *v, pn_bytes name, bool whole, pn_batch *b, pn_vec_gathering *g);
pn_status pn_vec_gather_part(pn_vec_gathering *g, size_t work, bool *more);
pn_status pn_vec_gather_end(pn_vec_gathering *g);
/* Whether a gather would write all rows. */
bool pn_vec_gathers_rows(const pn_vec *v, bool whole);

/* Fills an empty table from the segments (oldest first) in which a store of this name may
 * occur; it is tracked afterwards. CORRUPT: *bad is the segment's number, err the reason
 * and the offset in that file; UNSUPPORTED: more different dimensions than a table holds.
 * After a failure the table must be cleared. The segments may be closed afterwards: the
 * table holds what it needs of their blobs. O(entries): some 60 ns each of the three maps. */
pn_status pn_vec_unpack(pn_vec *v, pn_bytes name, pn_segment *const *segments, size_t n, size_t *bad, pn_error *err);

/* Before rows, or metadata texts, are read for the first time: checks what has not been.
 * O(1) when there is nothing left to check, else O(bytes). CORRUPT: *file is the damaged
 * file's name (borrowed from a blob that the table holds), err the place in it; what is
 * damaged stays unchecked, so whoever asks again is told again. */
pn_status pn_vec_settle_rows(pn_vec *v, const char **file, pn_error *err);
pn_status pn_vec_settle_metas(pn_vec *v, const char **file, pn_error *err);

#endif
