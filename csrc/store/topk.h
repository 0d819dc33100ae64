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
 *   1. scan.h finds the rows that can be among the k best, by their codes if there are any,
 *      unless those leave too many
 *   2. those are scored exactly
 *   3. if two winners are equal, their order depends on the whole history of the heap:
 *      then all rows are scored exactly and the heap is replayed
 *
 * PN_ERR_UNSUPPORTED, with nothing returned, whenever a similarity would not be an
 * ordinary number (zero vectors, NaN, overflow), where dimensions differ, or below two
 * dimensions: numpy's own warnings and errors are wanted there.
 *
 * Time: O(rows * dim); MMR O(k * rows * dim). The rows' norms are computed once and
 * cached in them, so the table's lock must be held. Large searches use the threads of
 * pool.h; `dot` is called on them and must be thread safe.
 */
#ifndef PN_STORE_TOPK_H
#define PN_STORE_TOPK_H

#include "store/coarse.h"
#include "store/scan.h"

typedef double (*pn_dot_fn)(const double *a, const double *b, size_t n);

/* The rows to choose from: of the table's map of rows, each once. */
typedef struct pn_candidates {
    pn_vec_row *const *rows;
    size_t n;
    /* The first so many rows have that dimension and a norm that scan.h can take, so that
     * this need not be looked at again. Set by a search that found it so. */
    size_t checked, checked_dim;
    pn_coarse *coarse; /* for their codes, when these are all rows; or NULL */
    uint64_t listing;  /* see coarse.h */
} pn_candidates;

typedef struct pn_query {
    const double *values;
    size_t k;         /* 0: all */
    pn_status status; /* out */
    pn_hit *hits;     /* out: best first, allocated with v->alloc, the caller's */
    size_t count;
} pn_query;

/* The k best of the rows for each of m queries of one dimension. Each has its own status;
 * no answer depends on the other queries. */
void pn_topk_many(const pn_vec *v, pn_candidates *rows, pn_query *queries, size_t m, size_t dim, pn_dot_fn dot);

/* For one query. *hits is allocated with v->alloc and given to the caller, *count <= n. */
pn_status pn_topk(const pn_vec *v, pn_candidates *rows, const double *query, size_t dim, size_t k, pn_dot_fn dot,
                  pn_hit **hits, size_t *count);

/* Maximum marginal relevance, as the peer's get_top_k_mmr_embeddings. */
pn_status pn_topk_mmr(const pn_vec *v, pn_candidates *rows, const double *query, size_t dim, size_t k, double threshold,
                      pn_dot_fn dot, pn_hit **hits, size_t *count);

/* For tests: pn_topk that scores everything exactly and replays the heap. */
pn_status pn_topk_replay(const pn_vec *v, pn_candidates *rows, const double *query, size_t dim, size_t k, pn_dot_fn dot,
                         pn_hit **hits, size_t *count);

#endif
