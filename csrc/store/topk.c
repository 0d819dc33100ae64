#include "store/topk.h"

#include "simd/dot.h"

#include <math.h>

/* Norms for which no product or sum of the float scan can overflow, or underflow by
 * enough to matter. */
static const double SMALL = 1e-15, LARGE = 1e15;

typedef struct search {
    const pn_vec *v;
    const pn_pick *picks;
    size_t n, dim;
    const double *query;
    double query_norm;
    pn_dot_fn dot;
    double *wide;   /* dim values: a float row widened */
    bool ordinary;  /* all norms lie within SMALL and LARGE */
} search;

static const double *row_values(search *s, const pn_vec_row *row)
{
    if (pn_vec_band_of(s->v, row)->wide) return row->data;
    pn_dot_widen(row->data, s->dim, s->wide);
    return s->wide;
}

static bool usable_norm(double norm) { return norm > 0 && isfinite(norm); }
static bool ordinary_norm(double norm) { return norm >= SMALL && norm <= LARGE; }

static pn_status prepare(search *s)
{
    PN_FAIL_IF(s->dim < 2 || s->n == 0 || s->n > UINT32_MAX, PN_ERR_UNSUPPORTED);
    s->query_norm = sqrt(s->dot(s->query, s->query, s->dim));
    PN_FAIL_IF(!usable_norm(s->query_norm), PN_ERR_UNSUPPORTED);
    s->ordinary = ordinary_norm(s->query_norm);
    for (size_t i = 0; i < s->n; i++) {
        pn_vec_row *row = s->picks[i].row;
        PN_FAIL_IF(pn_vec_band_of(s->v, row)->dim != s->dim, PN_ERR_UNSUPPORTED);
        if (row->norm < 0) {
            const double *values = row_values(s, row);
            row->norm = sqrt(s->dot(values, values, s->dim));
        }
        PN_FAIL_IF(!usable_norm(row->norm), PN_ERR_UNSUPPORTED);
        s->ordinary = s->ordinary && ordinary_norm(row->norm);
    }
    return PN_OK;
}

static pn_status search_init(search *s, const pn_vec *v, const pn_pick *picks, size_t n, const double *query,
                             size_t dim, pn_dot_fn dot)
{
    *s = (search){.v = v, .picks = picks, .n = n, .dim = dim, .query = query, .dot = dot};
    PN_FAIL_IF(dim == 0 || dim > SIZE_MAX / 32, PN_ERR_UNSUPPORTED);
    s->wide = pn_alloc_get(v->alloc, dim * sizeof *s->wide);
    PN_FAIL_IF(s->wide == NULL, PN_ERR_NOMEM);
    return prepare(s);
}

static void search_clear(search *s) { pn_alloc_put(s->v->alloc, s->wide); }

/* Exactly the peer's, or a failure where numpy would warn. */
static pn_status exact(search *s, size_t pick, double *out)
{
    pn_vec_row *row = s->picks[pick].row;
    double norm = s->query_norm * row->norm;
    double similarity = s->dot(s->query, row_values(s, row), s->dim) / norm;
    PN_FAIL_IF(!usable_norm(norm) || !isfinite(similarity), PN_ERR_UNSUPPORTED);
    *out = similarity;
    return PN_OK;
}

/* ---- Python's heapq on (similarity, id) ---- */

static bool tuple_less(const search *s, pn_hit a, pn_hit b)
{
    if (a.similarity != b.similarity) return a.similarity < b.similarity;
    return pn_bytes_compare(s->picks[a.pick].id, s->picks[b.pick].id) < 0;
}

static void sift_down(const search *s, pn_hit *heap, size_t start, size_t pos)
{
    pn_hit item = heap[pos];
    while (pos > start) {
        size_t parent = (pos - 1) >> 1;
        if (!tuple_less(s, item, heap[parent])) break;
        heap[pos] = heap[parent];
        pos = parent;
    }
    heap[pos] = item;
}

static void heap_push(const search *s, pn_hit *heap, size_t len, pn_hit item)
{
    heap[len] = item;
    sift_down(s, heap, 0, len);
}

/* heapq's pop moves the smaller child up until a leaf is reached, then sifts back. */
static void heap_pop(const search *s, pn_hit *heap, size_t len)
{
    size_t end = len - 1, pos = 0;
    pn_hit item = heap[end];
    if (end == 0) return;
    for (size_t child = 1; child < end; child = 2 * pos + 1) {
        size_t right = child + 1;
        if (right < end && !tuple_less(s, heap[child], heap[right])) child = right;
        heap[pos] = heap[child];
        pos = child;
    }
    heap[pos] = item;
    sift_down(s, heap, 0, pos);
}

/* Stable, descending by similarity only. */
static pn_status sort_stably(const pn_alloc *alloc, pn_hit *hits, size_t n)
{
    if (n < 2) return PN_OK;
    pn_hit *other = pn_alloc_get(alloc, n * sizeof *other), *from = hits, *to = other;
    PN_FAIL_IF(other == NULL, PN_ERR_NOMEM);
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = n - lo > width ? lo + width : n, end = n - lo > 2 * width ? lo + 2 * width : n;
            for (size_t i = lo, j = mid, o = lo; o < end; o++) {
                bool right = i == mid || (j < end && from[j].similarity > from[i].similarity);
                to[o] = right ? from[j++] : from[i++];
            }
        }
        pn_hit *swap = from;
        from = to;
        to = swap;
    }
    if (from != hits) memcpy(hits, from, n * sizeof *hits);
    pn_alloc_put(alloc, other);
    return PN_OK;
}

static pn_status replay(search *s, size_t k, pn_hit **hits, size_t *count)
{
    size_t room = k && k < s->n ? k + 1 : s->n, len = 0;
    PN_FAIL_IF(room > SIZE_MAX / sizeof(pn_hit), PN_ERR_NOMEM);
    pn_hit *heap = pn_alloc_get(s->v->alloc, room * sizeof *heap);
    PN_FAIL_IF(heap == NULL, PN_ERR_NOMEM);
    pn_status status = PN_OK;
    for (size_t i = 0; i < s->n && status == PN_OK; i++) {
        pn_hit item = {0, (uint32_t)i};
        status = exact(s, i, &item.similarity);
        if (status != PN_OK) break;
        heap_push(s, heap, len++, item);
        if (k && len > k) heap_pop(s, heap, len--);
    }
    if (status == PN_OK) status = sort_stably(s->v->alloc, heap, len);
    if (status != PN_OK) {
        pn_alloc_put(s->v->alloc, heap);
        return status;
    }
    *hits = heap;
    *count = len;
    return PN_OK;
}

/* ---- the scan ---- */

enum { CHUNK = 128 };

typedef struct scan {
    search *s;
    double *unit;    /* the query at length 1 */
    float *unit32;   /* the same rounded */
    double *scores;  /* one a pick */
    double bound;    /* |score - peer's similarity| at most */
} scan;

/* The kernels' bound, the rounding of the query (float: one more), of the division by
 * the norm and of the peer's own arithmetic. */
static double error_bound(size_t dim, bool any_narrow)
{
    double u32 = ldexp(1, -24), u64 = ldexp(1, -53), n = (double)dim;
    double kernel = any_narrow ? (pn_dot_roundings_f32(dim) + 2) * u32 : pn_dot_roundings_f64(dim) * u64;
    return 1.02 * kernel + (8 * n + 64) * u64 + 1e-30;
}

static void score_wide(scan *c, const pn_dot_kernels *kernels, size_t from, size_t count)
{
    const double *rows[CHUNK] = {NULL};
    const pn_pick *picks = c->s->picks + from;
    double *out = c->scores + from;
    for (size_t i = 0; i < count; i++) rows[i] = picks[i].row->data;
    kernels->f64(c->unit, rows, count, c->s->dim, out);
    for (size_t i = 0; i < count; i++) out[i] /= picks[i].row->norm;
}

static void score_narrow(scan *c, const pn_dot_kernels *kernels, size_t from, size_t count)
{
    const float *rows[CHUNK] = {NULL};
    float out[CHUNK];
    const pn_pick *picks = c->s->picks + from;
    for (size_t i = 0; i < count; i++) rows[i] = picks[i].row->data;
    kernels->f32(c->unit32, rows, count, c->s->dim, out);
    for (size_t i = 0; i < count; i++) c->scores[from + i] = out[i] / picks[i].row->norm;
}

static void score_all(scan *c)
{
    search *s = c->s;
    const pn_dot_kernels *kernels = pn_dot_best();
    bool any_narrow = false;
    for (size_t i = 0, j; i < s->n; i = j) {
        bool wide = pn_vec_band_of(s->v, s->picks[i].row)->wide;
        any_narrow = any_narrow || !wide;
        for (j = i + 1; j < s->n && j - i < CHUNK; j++)
            if (pn_vec_band_of(s->v, s->picks[j].row)->wide != wide) break;
        (wide ? score_wide : score_narrow)(c, kernels, i, j - i);
    }
    c->bound = error_bound(s->dim, any_narrow);
}

/* The k-th largest of the scores (k <= n), by a min-heap of the k best. */
static double kth_best(const double *scores, size_t n, size_t k, double *heap)
{
    for (size_t i = 0; i < n; i++) {
        double x = scores[i];
        if (i < k) {
            size_t p = i;
            for (; p > 0 && x < heap[(p - 1) / 2]; p = (p - 1) / 2) heap[p] = heap[(p - 1) / 2];
            heap[p] = x;
        } else if (x > heap[0]) {
            size_t p = 0;
            for (size_t c = 1; c < k; c = 2 * p + 1) {
                if (c + 1 < k && heap[c + 1] < heap[c]) c++;
                if (x <= heap[c]) break;
                heap[p] = heap[c];
                p = c;
            }
            heap[p] = x;
        }
    }
    return heap[0];
}

static int by_tuple_descending(const pn_hit *a, const pn_hit *b, const search *s)
{
    return tuple_less(s, *b, *a) ? -1 : tuple_less(s, *a, *b) ? 1 : 0;
}

/* Bottom-up heap sort: no recursion, no worst case, and the comparison needs s. */
static void sort_tuples(const search *s, pn_hit *h, size_t n)
{
    for (size_t start = n / 2, end = n; end > 1;) {
        if (start > 0) start--;
        else {
            pn_hit t = h[--end];
            h[end] = h[0];
            h[0] = t;
        }
        pn_hit item = h[start];
        size_t p = start;
        for (size_t c = 2 * p + 1; c < end; c = 2 * p + 1) {
            if (c + 1 < end && by_tuple_descending(&h[c], &h[c + 1], s) < 0) c++;
            if (by_tuple_descending(&item, &h[c], s) >= 0) break;
            h[p] = h[c];
            p = c;
        }
        h[p] = item;
    }
}

static size_t count_from(const double *scores, size_t n, double least)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += scores[i] >= least;
    return count;
}

static pn_status score_candidates(scan *c, double least, pn_hit *out)
{
    for (size_t i = 0, o = 0; i < c->s->n; i++) {
        if (!(c->scores[i] >= least)) continue;
        out[o].pick = (uint32_t)i;
        PN_TRY(exact(c->s, i, &out[o].similarity));
        o++;
    }
    return PN_OK;
}

static bool winners_tie(const pn_hit *hits, size_t k)
{
    for (size_t i = 1; i < k; i++)
        if (hits[i].similarity == hits[i - 1].similarity) return true;
    return false;
}

/* After the scores are there. `heap` has room for k doubles. */
static pn_status choose(scan *c, size_t k, double *heap, pn_hit **hits, size_t *count)
{
    search *s = c->s;
    double least = kth_best(c->scores, s->n, k, heap) - 2 * c->bound;
    size_t m = count_from(c->scores, s->n, least);
    pn_hit *found = pn_alloc_get(s->v->alloc, m * sizeof *found);
    PN_FAIL_IF(found == NULL, PN_ERR_NOMEM);
    pn_status status = score_candidates(c, least, found);
    if (status == PN_OK) {
        sort_tuples(s, found, m);
        if (!winners_tie(found, k)) {
            *hits = found;
            *count = k;
            return PN_OK;
        }
    }
    pn_alloc_put(s->v->alloc, found);
    return status == PN_OK ? replay(s, k, hits, count) : status;
}

static pn_status scan_and_choose(search *s, size_t k, pn_hit **hits, size_t *count)
{
    PN_FAIL_IF(s->n > SIZE_MAX / 64 || s->dim > SIZE_MAX / 64, PN_ERR_NOMEM);
    size_t doubles = s->n + k + s->dim;
    double *memory = pn_alloc_get(s->v->alloc, doubles * sizeof *memory + s->dim * sizeof(float));
    PN_FAIL_IF(memory == NULL, PN_ERR_NOMEM);
    scan c = {.s = s, .scores = memory, .unit = memory + s->n + k, .unit32 = (float *)(memory + doubles)};
    for (size_t i = 0; i < s->dim; i++) c.unit[i] = s->query[i] / s->query_norm;
    pn_dot_narrow(c.unit, s->dim, c.unit32);
    score_all(&c);
    pn_status status = choose(&c, k, memory + s->n, hits, count);
    pn_alloc_put(s->v->alloc, memory);
    return status;
}

pn_status pn_topk_replay(const pn_vec *v, const pn_pick *picks, size_t n, const double *query, size_t dim,
                         size_t k, pn_dot_fn dot, pn_hit **hits, size_t *count)
{
    search s;
    pn_status status = search_init(&s, v, picks, n, query, dim, dot);
    if (status == PN_OK) status = replay(&s, k, hits, count);
    search_clear(&s);
    return status;
}

pn_status pn_topk(const pn_vec *v, const pn_pick *picks, size_t n, const double *query, size_t dim, size_t k,
                  pn_dot_fn dot, pn_hit **hits, size_t *count)
{
    search s;
    pn_status status = search_init(&s, v, picks, n, query, dim, dot);
    if (status == PN_OK) {
        bool worth = s.ordinary && k > 0 && k < n / 2;
        status = worth ? scan_and_choose(&s, k, hits, count) : replay(&s, k, hits, count);
    }
    search_clear(&s);
    return status;
}

/* ---- MMR ---- */

typedef struct mmr {
    search *s;
    double threshold;
    double *similarities;
    uint32_t *left; /* picks not yet taken, in order */
    double *recent; /* values of the pick taken last */
} mmr;

static pn_status mmr_first(mmr *m, double *score, size_t *best)
{
    *score = -INFINITY;
    *best = SIZE_MAX;
    for (size_t i = 0; i < m->s->n; i++) {
        PN_TRY(exact(m->s, i, &m->similarities[i]));
        m->left[i] = (uint32_t)i;
        double x = m->similarities[i] * m->threshold;
        if (!(x > *score)) continue;
        *score = x;
        *best = i;
    }
    return *best == SIZE_MAX ? PN_ERR_UNSUPPORTED : PN_OK;
}

/* left[best] was taken; scores the others against it. */
static pn_status mmr_next(mmr *m, size_t count, uint32_t taken, double *score, size_t *best)
{
    search *s = m->s;
    pn_vec_values(s->v, s->picks[taken].row, m->recent);
    double recent_norm = s->picks[taken].row->norm;
    *score = -INFINITY;
    *best = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        pn_vec_row *row = s->picks[m->left[i]].row;
        double norm = row->norm * recent_norm;
        double overlap = s->dot(row_values(s, row), m->recent, s->dim) / norm;
        PN_FAIL_IF(!usable_norm(norm) || !isfinite(overlap), PN_ERR_UNSUPPORTED);
        double x = m->threshold * m->similarities[m->left[i]] - (1 - m->threshold) * overlap;
        if (!(x > *score)) continue;
        *score = x;
        *best = i;
    }
    return *best == SIZE_MAX ? PN_ERR_UNSUPPORTED : PN_OK;
}

static pn_status mmr_run(mmr *m, size_t k, pn_hit *hits)
{
    double score;
    size_t best, left = m->s->n;
    PN_TRY(mmr_first(m, &score, &best));
    for (size_t i = 0;;) {
        uint32_t taken = m->left[best];
        hits[i++] = (pn_hit){score, taken};
        memmove(m->left + best, m->left + best + 1, (--left - best) * sizeof *m->left);
        /* The peer scores once more after the last one; the result is not used. */
        if (i == k) return PN_OK;
        PN_TRY(mmr_next(m, left, taken, &score, &best));
    }
}

static pn_status mmr_all(search *s, size_t k, double threshold, pn_hit **hits, size_t *count)
{
    PN_FAIL_IF(s->n > SIZE_MAX / 64, PN_ERR_NOMEM);
    const pn_alloc *a = s->v->alloc;
    if (k == 0 || k > s->n) k = s->n;
    size_t doubles = s->n + s->dim;
    double *memory = pn_alloc_get(a, doubles * sizeof *memory + s->n * sizeof(uint32_t));
    pn_hit *found = pn_alloc_get(a, k * sizeof *found);
    mmr m = {s, threshold, memory, (uint32_t *)(memory + doubles), memory + s->n};
    pn_status status = memory && found ? mmr_run(&m, k, found) : PN_ERR_NOMEM;
    pn_alloc_put(a, memory);
    if (status != PN_OK) {
        pn_alloc_put(a, found);
        return status;
    }
    *hits = found;
    *count = k;
    return PN_OK;
}

pn_status pn_topk_mmr(const pn_vec *v, const pn_pick *picks, size_t n, const double *query, size_t dim, size_t k,
                      double threshold, pn_dot_fn dot, pn_hit **hits, size_t *count)
{
    PN_FAIL_IF(!isfinite(threshold), PN_ERR_UNSUPPORTED);
    search s;
    pn_status status = search_init(&s, v, picks, n, query, dim, dot);
    if (status == PN_OK) status = mmr_all(&s, k, threshold, hits, count);
    search_clear(&s);
    return status;
}
