/* coarse.h: the rows of a table in eight bits a value, for a first look at all of them.
 *
 * A scan of many rows waits for memory. A quarter of the bytes says which rows cannot be
 * among the best; the others, few more than asked for, are scored from their values. A row
 * v and a query q of length 1 are taken for whole numbers times a step,
 *
 *     v / |v|  ~  scale * code      code in -127 .. 127, int8
 *     q        ~  step * coarse q   in int16, see pn_coarse_query
 *
 * and since the lengths of what that leaves out are known (slack), Cauchy-Schwarz says
 *
 *     |v/|v| . q  -  scale * step * (code . coarse q)|  <=  slack + (1 + slack) * query's slack
 *
 * where the sum in brackets is one of whole numbers, without any rounding. 0.7 % is usual for
 * a slack: 127 steps for what is three deviations away.
 *
 *     rows     0 1 2 3 ...        as they were listed (rowview.h)
 *     slots    7 0 1 4 ...        where each row's codes are
 *     entries  {data, scale, slack} ...      a slot each; data: of the row it is of
 *     codes    int8 x stride ...  in chunks, so that growing copies none
 *
 * Codes of a row outlive changes of the table: `coded` in the row says that there are some
 * of its values, and they are found by walking the rows and the slots of the listing before
 * side by side, since rows keep their order. Whoever gives a row other values makes it a
 * new one, without the mark.
 *
 * They are made when they pay: for large tables, once the same rows were searched a few
 * times, or nearly all have codes. dim + 20 bytes a row. Guarded by the table's lock.
 */
#ifndef PN_STORE_COARSE_H
#define PN_STORE_COARSE_H

#include "store/vector.h"

enum { PN_COARSE_CHUNK = 4096 }; /* slots */

typedef struct pn_coarse_entry {
    const void *data; /* NULL: the slot is free */
    float scale, slack;
} pn_coarse_entry;

typedef struct pn_coarse {
    const pn_alloc *alloc;
    size_t dim, stride;
    size_t n;           /* rows of the listing */
    uint32_t *slots;
    pn_coarse_entry *entries;
    size_t used, cap;   /* slots */
    int8_t **chunks;
    size_t chunk_count;
    pn_buf free;        /* uint32_t: slots that were given back */
    uint64_t listing;   /* its number */
    unsigned searches;  /* of it, while there are no codes */
    unsigned misses;    /* searches one after the other that codes were no help for */
} pn_coarse;

typedef struct pn_coarse_query {
    int16_t *values; /* stride of them, zeros behind dim */
    double step, slack;
} pn_coarse_query;

void pn_coarse_init(pn_coarse *c, const pn_alloc *alloc); /* allocates nothing */
void pn_coarse_clear(pn_coarse *c);

/* Before a search of all rows, which scan.h can take: brings the codes up to date and tells
 * whether to use them. Rows with the same `listing`, which is not 0, are the same. false also
 * when there is no memory for codes. */
bool pn_coarse_ready(pn_coarse *c, const pn_vec *v, pn_vec_row *const *rows, size_t n, size_t dim, uint64_t listing);
/* After one: whether they left few enough rows. When a few searches one after the other
 * were not helped, there are no codes until the rows change. */
void pn_coarse_judge(pn_coarse *c, bool helped);

/* Values of a row with the zeros behind them: kernels take 32 at once. */
static inline size_t pn_coarse_stride(size_t dim) { return (dim + 31) / 32 * 32; }
/* unit: dim values, of length 1; values: room for stride of them, out's from then on. */
void pn_coarse_prepare(const double *unit, size_t dim, int16_t *values, pn_coarse_query *out);

static inline const int8_t *pn_coarse_codes(const pn_coarse *c, uint32_t slot)
{
    return c->chunks[slot / PN_COARSE_CHUNK] + slot % PN_COARSE_CHUNK * c->stride;
}

#endif
