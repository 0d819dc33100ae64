#include "store/scan.h"

#include "os/pool.h"
#include "simd/dot.h"
#include "store/coarse.h"

#include <math.h>
#include <stdatomic.h>

enum {
    BLOCK = 128,              /* rows at once, at most */
    BLOCK_BYTES = 192 * 1024, /* so that the next query finds them in the cache */
    FIRST_FOUND = 256,
    SHARE = 2 * 1024 * 1024   /* bytes that a thread must get to be worth waking */
};

unsigned pn_scan_threads(size_t rows, size_t bytes_a_row)
{
    size_t shares = (size_t)((double)rows * (double)bytes_a_row / SHARE), most = pn_pool_threads();
    return shares < 1 ? 1 : shares < most ? (unsigned)shares : (unsigned)most;
}

/* What one thread found for one query. */
typedef struct finder {
    double *best; /* min-heap of the k best scores less their slack */
    size_t best_count;
    double least; /* the worst of them: a row that does not reach it cannot win */
    pn_hit *found; /* with the most that their similarity can be */
    size_t count, cap;
} finder;

typedef struct prepared {
    double *unit;  /* the query at length 1 */
    float *unit32; /* the same rounded */
    pn_coarse_query coarse;
} prepared;

typedef struct scan {
    const pn_vec *v;
    pn_vec_row *const *rows;
    size_t n, dim, m, block;
    pn_scan_query *queries;
    prepared *prepared;
    finder *finders; /* thread by thread, m each */
    const pn_dot_kernels *kernels;
    const pn_coarse *coarse; /* or NULL */
    double slack; /* of a score of values */
    atomic_size_t next;
    atomic_bool failed; /* out of memory */
} scan;

/* ---- bound ---- */

static bool any_narrow(const pn_vec *v, size_t dim)
{
    for (size_t i = 0; i < v->band_count; i++)
        if (v->bands[i].dim == dim && !v->bands[i].wide) return true;
    return false;
}

/* The kernels' bound, the rounding of the query (float: one more), of the division by
 * the norm and of the peer's own arithmetic. */
static double error_bound(size_t dim, bool narrow)
{
    double u32 = ldexp(1, -24), u64 = ldexp(1, -53), n = (double)dim;
    double kernel = narrow ? (pn_dot_roundings_f32(dim) + 2) * u32 : pn_dot_roundings_f64(dim) * u64;
    return 1.02 * kernel + (8 * n + 64) * u64 + 1e-30;
}

/* ---- finding ---- */

static void keep_best(double *heap, size_t *count, size_t k, double x)
{
    size_t p = *count;
    if (p < k) {
        for (++*count; p > 0 && x < heap[(p - 1) / 2]; p = (p - 1) / 2) heap[p] = heap[(p - 1) / 2];
        heap[p] = x;
        return;
    }
    if (!(x > heap[0])) return;
    p = 0;
    for (size_t c = 1; c < k; c = 2 * p + 1) {
        if (c + 1 < k && heap[c + 1] < heap[c]) c++;
        if (x <= heap[c]) break;
        heap[p] = heap[c];
        p = c;
    }
    heap[p] = x;
}

static void sift(finder *f, double least)
{
    size_t to = 0;
    for (size_t i = 0; i < f->count; i++)
        if (f->found[i].similarity >= least) f->found[to++] = f->found[i];
    f->count = to;
}

static pn_status make_room(const pn_alloc *alloc, finder *f)
{
    if (f->count < f->cap) return PN_OK;
    sift(f, f->least);
    if (f->count < f->cap / 2) return PN_OK;
    size_t cap = f->cap ? f->cap * 2 : FIRST_FOUND;
    PN_FAIL_IF(cap > SIZE_MAX / sizeof *f->found, PN_ERR_NOMEM);
    pn_hit *p = pn_alloc_grow(alloc, f->found, cap * sizeof *p);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    f->found = p;
    f->cap = cap;
    return PN_OK;
}

static pn_status offer(const scan *s, finder *f, size_t k, double score, double slack, size_t row)
{
    keep_best(f->best, &f->best_count, k, score - slack);
    if (f->best_count == k) f->least = f->best[0];
    PN_TRY(make_room(s->v->alloc, f));
    f->found[f->count++] = (pn_hit){score + slack, (uint32_t)row};
    return PN_OK;
}

/* ---- scoring ---- */

typedef struct block {
    size_t from, count;
    bool wide;
    const void *data[BLOCK];
    double norms[BLOCK], scores[BLOCK], slack[BLOCK];
} block;

static void score_values(const scan *s, const prepared *q, block *b)
{
    float narrow[BLOCK];
    if (b->wide) s->kernels->f64(q->unit, (const double *const *)b->data, b->count, s->dim, b->scores);
    else {
        s->kernels->f32(q->unit32, (const float *const *)b->data, b->count, s->dim, narrow);
        for (size_t i = 0; i < b->count; i++) b->scores[i] = narrow[i];
    }
    for (size_t i = 0; i < b->count; i++) {
        b->scores[i] /= b->norms[i];
        b->slack[i] = s->slack;
    }
}

/* See coarse.h; s->slack covers the rounding of what is computed here, and the peer's own. */
static void score_codes(const scan *s, const prepared *q, block *b)
{
    int32_t sums[BLOCK];
    s->kernels->i8(q->coarse.values, (const int8_t *const *)b->data, b->count, s->coarse->stride, sums);
    for (size_t i = 0; i < b->count; i++) {
        const pn_coarse_entry *e = &s->coarse->entries[s->coarse->slots[b->from + i]];
        b->scores[i] = e->scale * q->coarse.step * sums[i];
        b->slack[i] = e->slack + (1.0 + e->slack) * q->coarse.slack + s->slack;
    }
}

static pn_status offer_block(const scan *s, finder *f, size_t k, const block *b)
{
    for (size_t i = 0; i < b->count; i++)
        if (b->scores[i] + b->slack[i] >= f->least) PN_TRY(offer(s, f, k, b->scores[i], b->slack[i], b->from + i));
    return PN_OK;
}

static bool is_wide(const scan *s, size_t row) { return pn_vec_band_of(s->v, s->rows[row])->wide; }

static void gather_codes(const scan *s, block *b, size_t end)
{
    b->count = end - b->from;
    for (size_t i = 0; i < b->count; i++) b->data[i] = pn_coarse_codes(s->coarse, s->coarse->slots[b->from + i]);
}

/* The rows from b->from on that are of one encoding. */
static void gather_values(const scan *s, block *b, size_t end)
{
    b->wide = is_wide(s, b->from);
    b->count = 0;
    for (size_t i = b->from; i < end && is_wide(s, i) == b->wide; i++) {
        b->data[b->count] = s->rows[i]->data;
        b->norms[b->count++] = s->rows[i]->norm;
    }
}

static pn_status scan_rows(const scan *s, finder *finders, size_t from, size_t end)
{
    block b;
    for (b.from = from; b.from < end; b.from += b.count) {
        s->coarse ? gather_codes(s, &b, end) : gather_values(s, &b, end);
        for (size_t q = 0; q < s->m; q++) {
            s->coarse ? score_codes(s, &s->prepared[q], &b) : score_values(s, &s->prepared[q], &b);
            PN_TRY(offer_block(s, &finders[q], s->queries[q].k, &b));
        }
    }
    return PN_OK;
}

static void work(void *ctx, unsigned worker)
{
    scan *s = ctx;
    finder *finders = s->finders + worker * s->m;
    while (!atomic_load_explicit(&s->failed, memory_order_relaxed)) {
        size_t from = atomic_fetch_add_explicit(&s->next, s->block, memory_order_relaxed);
        if (from >= s->n) return;
        size_t end = s->n - from < s->block ? s->n : from + s->block;
        if (scan_rows(s, finders, from, end) != PN_OK) atomic_store_explicit(&s->failed, true, memory_order_relaxed);
    }
}

/* ---- all together ---- */

/* The found of all threads that reach the k-th best of all. */
static pn_status merge(const scan *s, size_t q, unsigned threads)
{
    pn_scan_query *query = &s->queries[q];
    finder *first = &s->finders[q];
    size_t sum = first->count;
    for (unsigned t = 1; t < threads; t++) {
        const finder *f = &s->finders[t * s->m + q];
        for (size_t i = 0; i < f->best_count; i++) keep_best(first->best, &first->best_count, query->k, f->best[i]);
        sum += f->count;
    }
    pn_hit *all = pn_alloc_grow(s->v->alloc, first->found, sum * sizeof *all);
    PN_FAIL_IF(all == NULL, PN_ERR_NOMEM);
    first->found = all;
    for (unsigned t = 1; t < threads; t++) {
        const finder *f = &s->finders[t * s->m + q];
        if (f->count) memcpy(all + first->count, f->found, f->count * sizeof *all);
        first->count += f->count;
    }
    sift(first, first->best[0]);
    query->found = all;
    query->count = first->count;
    first->found = NULL;
    return PN_OK;
}

/* What a query takes: itself in double, in float, in int16. */
static size_t query_doubles(size_t dim) { return dim + (dim + 1) / 2 + pn_coarse_stride(dim) / 4; }

static void prepare_query(const scan *s, size_t q, double *unit)
{
    double *behind = unit + s->dim;
    prepared *p = &s->prepared[q];
    *p = (prepared){.unit = unit, .unit32 = (float *)behind};
    for (size_t i = 0; i < s->dim; i++) unit[i] = s->queries[q].values[i] / s->queries[q].norm;
    pn_dot_narrow(unit, s->dim, p->unit32);
    if (s->coarse != NULL) pn_coarse_prepare(unit, s->dim, (int16_t *)(behind + (s->dim + 1) / 2), &p->coarse);
}

static void prepare_finders(const scan *s, unsigned threads, double *best)
{
    for (size_t i = 0; i < threads * s->m; i++) {
        s->finders[i] = (finder){.best = best, .least = -INFINITY};
        best += s->queries[i % s->m].k;
    }
}

static void free_finders(const scan *s, unsigned threads)
{
    for (size_t i = 0; i < threads * s->m; i++) pn_alloc_put(s->v->alloc, s->finders[i].found);
}

static pn_status run(scan *s, unsigned threads, double *memory)
{
    size_t each = query_doubles(s->dim);
    for (size_t q = 0; q < s->m; q++) prepare_query(s, q, memory + q * each);
    prepare_finders(s, threads, memory + s->m * each);
    pn_pool_run(threads, work, s);
    pn_status status = atomic_load(&s->failed) ? PN_ERR_NOMEM : PN_OK;
    for (size_t q = 0; q < s->m && status == PN_OK; q++) status = merge(s, q, threads);
    free_finders(s, threads);
    return status;
}

static size_t sum_of_k(const pn_scan_query *queries, size_t m)
{
    size_t sum = 0;
    for (size_t q = 0; q < m; q++) sum += queries[q].k;
    return sum;
}

static size_t block_rows(size_t bytes)
{
    size_t rows = BLOCK_BYTES / (bytes ? bytes : 1);
    return rows < 8 ? 8 : rows < BLOCK ? rows : BLOCK;
}

pn_status pn_scan(const pn_vec *v, pn_vec_row *const *rows, size_t n, size_t dim, const pn_coarse *coarse,
                  pn_scan_query *queries, size_t m)
{
    size_t ks = sum_of_k(queries, m), bytes = coarse ? dim : dim * sizeof(float);
    double slack = error_bound(dim, coarse == NULL && any_narrow(v, dim));
    PN_FAIL_IF(n > UINT32_MAX || dim > SIZE_MAX / 64 / m || ks > SIZE_MAX / 64 / PN_POOL_MAX, PN_ERR_NOMEM);
    /* Each thread keeps its k best: worth it only while that is little. */
    unsigned threads = ks / m > n / 16 ? 1 : pn_scan_threads(n, bytes * m);
    scan s = {.v = v, .rows = rows, .n = n, .dim = dim, .m = m, .block = block_rows(bytes), .queries = queries,
              .kernels = pn_dot_best(), .coarse = coarse, .slack = slack};
    size_t doubles = m * query_doubles(dim) + ks * threads;
    double *memory = pn_alloc_get(v->alloc, doubles * sizeof *memory);
    s.prepared = pn_alloc_get(v->alloc, m * sizeof *s.prepared);
    s.finders = pn_alloc_get(v->alloc, m * threads * sizeof *s.finders);
    bool ok = memory != NULL && s.prepared != NULL && s.finders != NULL;
    pn_status status = ok ? run(&s, threads, memory) : PN_ERR_NOMEM;
    pn_alloc_put(v->alloc, memory);
    pn_alloc_put(v->alloc, s.prepared);
    pn_alloc_put(v->alloc, s.finders);
    return status;
}
