/* topk.h: exact nearest neighbours by cosine similarity, in the peer's arithmetic.
 *
 * The store that this stands in for computes, for each row, in float64,
 *
 *     dot(q, row) / (sqrt(dot(q, q)) * sqrt(dot(row, row)))
 *
 * with numpy's dot, keeps the k best on a binary heap of (similarity, id) and sorts the
 * heap's array stably. Results here are the same to the last bit and in the same order,
 * ties included. The caller hands in that very dot. Most rows are never scored by it:
 *
 *   1. a SIMD scan gives every row a score that is within a proven bound B of the peer's
 *   2. only rows within 2B of the k-th best score can be among the k best: those are
 *      scored exactly
 *   3. if two winners are equal, their order depends on the whole history of the heap:
 *      then all rows are scored exactly and the heap is replayed
 *
 * PN_ERR_UNSUPPORTED, with nothing returned, whenever a similarity would not be an
 * ordinary number (zero vectors, NaN, overflow), where dimensions differ, or below two
 * dimensions: numpy's own warnings and errors are wanted there.
 *
 * Time: O(rows * dim); MMR O(k * rows * dim). The rows' norms are computed once and
 * cached in them, so the table's lock must be held.
 */
#ifndef PN_STORE_TOPK_H
#define PN_STORE_TOPK_H

#include "store/vector.h"

typedef double (*pn_dot_fn)(const double *a, const double *b, size_t n);

/* One row to choose from; the ids are distinct. */
typedef struct pn_pick {
    pn_vec_row *row;
    pn_bytes id;
} pn_pick;

typedef struct pn_hit {
    double similarity;
    uint32_t pick;
} pn_hit;

/* The k best of the picks, best first; k = 0: all of them. *hits is allocated with
 * v->alloc and given to the caller, *count <= n. n > 0. */
pn_status pn_topk(const pn_vec *v, const pn_pick *picks, size_t n, const double *query, size_t dim, size_t k,
                  pn_dot_fn dot, pn_hit **hits, size_t *count);

/* Maximum marginal relevance, as the peer's get_top_k_mmr_embeddings. */
pn_status pn_topk_mmr(const pn_vec *v, const pn_pick *picks, size_t n, const double *query, size_t dim, size_t k,
                      double threshold, pn_dot_fn dot, pn_hit **hits, size_t *count);

/* For tests: pn_topk that scores everything exactly and replays the heap. */
pn_status pn_topk_replay(const pn_vec *v, const pn_pick *picks, size_t n, const double *query, size_t dim,
                         size_t k, pn_dot_fn dot, pn_hit **hits, size_t *count);

#endif
