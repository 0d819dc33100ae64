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

/* The caller holds what guards the table, has pinned it (pn_vec_pin) and unpins it through
 * pn_batch_defer. Metadata that is a live object is retained by the batch's host. */
pn_status pn_vec_gather(pn_vec *v, pn_bytes name, bool whole, pn_batch *b);
void pn_vec_gathered(pn_vec *v);
void pn_vec_give_back(pn_vec *v);

/* Fills an empty table; tracked afterwards. */
pn_status pn_vec_unpack(pn_vec *v, pn_bytes name, pn_segment *const *segments, size_t n, size_t *bad, pn_error *err);

/* Before rows, or metadata texts, are read for the first time: checks what has not been.
 * O(1) when there is nothing left to check. CORRUPT: *file is the damaged file's name
 * (borrowed from a blob that the table holds), err the place in it. */
pn_status pn_vec_settle_rows(pn_vec *v, const char **file, pn_error *err);
pn_status pn_vec_settle_metas(pn_vec *v, const char **file, pn_error *err);

#endif
