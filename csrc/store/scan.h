/* scan.h: which rows can be among the k most similar to a query.
 *
 * The SIMD kernels give every row a score that is within a proven bound, its slack, of the
 * similarity in the peer's arithmetic; a row that is below the k-th best even with its slack,
 * while those are above without theirs, cannot win. The scan hands out the others, few more
 * than k, and topk.h scores those exactly. Scores are of the rows' values, or of their codes
 * (coarse.h): a quarter of the memory to read, more slack, more rows handed out.
 *
 * Blocks of rows are claimed by as many threads as pool.h lends; each keeps, for each
 * query, the k best scores less slack, and the rows that reach the worst of them with theirs:
 *
 *     thread 0   blocks 0 2 3 ..   query 0: best k, found   query 1: ..
 *     thread 1   blocks 1 4 ..     query 0: best k, found   query 1: ..
 *                                  -> the k-th best of all, found is sifted once more
 *
 * Several queries share one reading of the rows. Time O(rows * dim * queries); memory
 * O(threads * queries * k). Pure; the rows must not change meanwhile.
 */
#ifndef PN_STORE_SCAN_H
#define PN_STORE_SCAN_H

#include "store/vector.h"

struct pn_coarse;

typedef struct pn_hit {
    double similarity;
    uint32_t pick; /* number of the row in the array that was searched */
} pn_hit;

typedef struct pn_scan_query {
    const double *values; /* dim of them */
    double norm;
    size_t k;      /* 1 to the number of rows */
    pn_hit *found; /* out: allocated with v->alloc, to be freed by the caller also on failure */
    size_t count;  /* out: k at least; in no order */
} pn_scan_query;

/* All rows have `dim` values and a known norm; norms of rows and queries lie within
 * PN_SCAN_SMALL and PN_SCAN_LARGE, so that no product of the float scan can overflow, or
 * underflow by enough to matter. n <= UINT32_MAX. coarse: the rows' codes, or NULL. */
pn_status pn_scan(const pn_vec *v, pn_vec_row *const *rows, size_t n, size_t dim, const struct pn_coarse *coarse,
                  pn_scan_query *queries, size_t m);

#define PN_SCAN_SMALL 1e-15
#define PN_SCAN_LARGE 1e15

/* How many threads are worth having for that many bytes of rows. */
unsigned pn_scan_threads(size_t rows, size_t bytes_a_row);

#endif
