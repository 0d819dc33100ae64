#include "store/topk.h"

#include "os/pool.h"
#include "simd/dot.h"

#include <math.h>
#include <stdatomic.h>

typedef struct search {
    const pn_vec *v;
    pn_vec_row *const *rows;
    size_t n, dim;
    pn_coarse *coarse;
    uint64_t listing;
    const double *query;
    double query_norm;
    pn_dot_fn dot;
    double *wide; /* dim values: a float row widened */
} search;

static const double *values_of(const pn_vec *v, const pn_vec_row *row, double *wide)
{
    const pn_vec_band *band = pn_vec_band_of(v, row);
    if (band->wide) return row->data;
    pn_dot_widen(row->data, band->dim, wide);
    return wide;
}

static const double *row_values(search *s, const pn_vec_row *row) { return values_of(s->v, row, s->wide); }

static bool usable_norm(double norm) { return norm > 0 && isfinite(norm); }
static bool ordinary_norm(double norm) { return norm >= PN_SCAN_SMALL && norm <= PN_SCAN_LARGE; }

/* ---- looking at the rows before ---- */

enum { CLAIM = 256 };

typedef struct check {
    const pn_vec *v;
    const pn_candidates *rows;
    size_t dim;
    pn_dot_fn dot;
    double *wide; /* dim for each thread */
    atomic_size_t next;
    atomic_bool unusable, unordinary;
} check;

static bool check_row(check *c, pn_vec_row *row, double *wide)
{
    if (pn_vec_band_of(c->v, row)->dim != c->dim) return false;
    if (row->norm < 0) {
        const double *values = values_of(c->v, row, wide);
        row->norm = sqrt(c->dot(values, values, c->dim));
    }
    if (!ordinary_norm(row->norm)) atomic_store_explicit(&c->unordinary, true, memory_order_relaxed);
    return usable_norm(row->norm);
}

static void check_some(void *ctx, unsigned worker)
{
    check *c = ctx;
    while (!atomic_load_explicit(&c->unusable, memory_order_relaxed)) {
        size_t from = atomic_fetch_add_explicit(&c->next, CLAIM, memory_order_relaxed);
        if (from >= c->rows->n) return;
        size_t end = c->rows->n - from < CLAIM ? c->rows->n : from + CLAIM;
        bool fine = true;
        for (size_t i = from; i < end && fine; i++) fine = check_row(c, c->rows->rows[i], c->wide + worker * c->dim);
        if (!fine) atomic_store_explicit(&c->unusable, true, memory_order_relaxed);
    }
}

static size_t unknown_norms(const pn_candidates *rows)
{
    size_t count = 0;
    for (size_t i = rows->checked; i < rows->n; i++) count += rows->rows[i]->norm < 0;
    return count;
}

/* UNSUPPORTED when a row is not usable; *ordinary tells whether scan.h can take them. */
static pn_status check_rows(const pn_vec *v, pn_candidates *rows, size_t dim, pn_dot_fn dot, bool *ordinary)
{
    *ordinary = true;
    PN_FAIL_IF(dim < 2 || dim > SIZE_MAX / 64 / PN_POOL_MAX || rows->n == 0 || rows->n > UINT32_MAX,
               PN_ERR_UNSUPPORTED);
    PN_FAIL_IF(rows->checked != 0 && rows->checked_dim != dim, PN_ERR_UNSUPPORTED);
    if (rows->checked == rows->n) return PN_OK;
    unsigned threads = pn_scan_threads(unknown_norms(rows), dim * sizeof(double));
    check c = {.v = v, .rows = rows, .dim = dim, .dot = dot, .next = rows->checked,
               .wide = pn_alloc_get(v->alloc, dim * threads * sizeof(double))};
    PN_FAIL_IF(c.wide == NULL, PN_ERR_NOMEM);
    pn_pool_run(threads, check_some, &c);
    pn_alloc_put(v->alloc, c.wide);
    PN_FAIL_IF(atomic_load(&c.unusable), PN_ERR_UNSUPPORTED);
    *ordinary = !atomic_load(&c.unordinary);
    if (*ordinary) {
        rows->checked_dim = dim;
        rows->checked = rows->n;
    }
    return PN_OK;
}

static pn_status search_query(search *s, const double *query)
{
    s->query = query;
    s->query_norm = sqrt(s->dot(query, query, s->dim));
    return usable_norm(s->query_norm) ? PN_OK : PN_ERR_UNSUPPORTED;
}

static pn_status search_init(search *s, const pn_vec *v, pn_candidates *rows, size_t dim, pn_dot_fn dot, bool *ordinary)
{
    *s = (search){.v = v, .rows = rows->rows, .n = rows->n, .dim = dim, .dot = dot};
    s->coarse = rows->coarse;
    s->listing = rows->listing;
    PN_TRY(check_rows(v, rows, dim, dot, ordinary));
    s->wide = pn_alloc_get(v->alloc, dim * sizeof *s->wide);
    return s->wide ? PN_OK : PN_ERR_NOMEM;
}

static void search_clear(search *s) { pn_alloc_put(s->v->alloc, s->wide); }

/* Exactly the peer's, or a failure where numpy would warn. */
static pn_status exact(search *s, size_t pick, double *out)
{
    const pn_vec_row *row = s->rows[pick];
    double norm = s->query_norm * row->norm;
    double similarity = s->dot(s->query, row_values(s, row), s->dim) / norm;
    PN_FAIL_IF(!usable_norm(norm) || !isfinite(similarity), PN_ERR_UNSUPPORTED);
    *out = similarity;
    return PN_OK;
}

static pn_bytes id_of(const search *s, pn_hit hit) { return pn_omap_key_of(s->rows[hit.pick]); }

/* ---- Python's heapq on (similarity, id) ---- */

static bool tuple_less(const search *s, pn_hit a, pn_hit b)
{
    if (a.similarity != b.similarity) return a.similarity < b.similarity;
    return pn_bytes_compare(id_of(s, a), id_of(s, b)) < 0;
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

/* ---- what a scan found ---- */

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

static bool winners_tie(const pn_hit *hits, size_t k)
{
    for (size_t i = 1; i < k; i++)
        if (hits[i].similarity == hits[i - 1].similarity) return true;
    return false;
}

/* The k best of what was found, unless their order is the heap's business. */
static pn_status choose(search *s, const pn_scan_query *scanned, size_t k, bool *tie)
{
    pn_hit *found = scanned->found;
    for (size_t i = 0; i < scanned->count; i++) PN_TRY(exact(s, found[i].pick, &found[i].similarity));
    sort_tuples(s, found, scanned->count);
    *tie = winners_tie(found, k);
    return PN_OK;
}

/* s has the query; `scanned` gives up what it found. */
static void answer(search *s, pn_scan_query *scanned, pn_query *q)
{
    bool tie = false;
    q->status = choose(s, scanned, q->k, &tie);
    if (q->status != PN_OK) return;
    if (tie) {
        q->status = replay(s, q->k, &q->hits, &q->count);
        return;
    }
    q->hits = scanned->found;
    q->count = q->k;
    scanned->found = NULL;
}

static bool worth_scanning(const search *s, const pn_query *q)
{
    return ordinary_norm(s->query_norm) && q->k > 0 && q->k < s->n / 2;
}

/* Answers those that a scan would not help; lists the others in `scans` and `which`. */
static size_t sort_out(search *s, pn_query *queries, size_t m, bool ordinary, pn_scan_query *scans, size_t *which)
{
    size_t count = 0;
    for (size_t i = 0; i < m; i++) {
        pn_query *q = &queries[i];
        q->status = search_query(s, q->values);
        if (q->status != PN_OK) continue;
        if (ordinary && worth_scanning(s, q)) {
            scans[count] = (pn_scan_query){.values = q->values, .norm = s->query_norm, .k = q->k};
            which[count++] = i;
        } else {
            q->status = replay(s, q->k, &q->hits, &q->count);
        }
    }
    return count;
}

enum { MANY = 16 }; /* as 1 / MANY of all rows: exact scores would take longer than a scan of the values */

static pn_status scan_values(const search *s, pn_scan_query *scans, size_t count)
{
    return pn_scan(s->v, s->rows, s->n, s->dim, NULL, scans, count);
}

/* By the codes, if there are any, and if they leave too many rows by the values. */
static pn_status scan_once(const search *s, pn_scan_query *scan)
{
    if (s->coarse == NULL || !pn_coarse_ready(s->coarse, s->v, s->rows, s->n, s->dim, s->listing))
        return scan_values(s, scan, 1);
    PN_TRY(pn_scan(s->v, s->rows, s->n, s->dim, s->coarse, scan, 1));
    bool helped = scan->count <= scan->k + s->n / MANY;
    pn_coarse_judge(s->coarse, helped);
    if (helped) return PN_OK;
    pn_alloc_put(s->v->alloc, scan->found);
    scan->found = NULL;
    return scan_values(s, scan, 1);
}

static void run_scans(search *s, pn_query *queries, pn_scan_query *scans, const size_t *which, size_t count)
{
    pn_status status = count == 1 ? scan_once(s, scans) : scan_values(s, scans, count);
    for (size_t i = 0; i < count; i++) {
        pn_query *q = &queries[which[i]];
        q->status = status;
        if (status == PN_OK && (q->status = search_query(s, q->values)) == PN_OK) answer(s, &scans[i], q);
        pn_alloc_put(s->v->alloc, scans[i].found);
    }
}

static pn_status search_many(search *s, pn_query *queries, size_t m, bool ordinary)
{
    PN_FAIL_IF(m > SIZE_MAX / 256, PN_ERR_NOMEM);
    pn_scan_query *scans = pn_alloc_get(s->v->alloc, m * (sizeof *scans + sizeof(size_t)));
    PN_FAIL_IF(scans == NULL, PN_ERR_NOMEM);
    size_t *which = (size_t *)(void *)(scans + m);
    size_t count = sort_out(s, queries, m, ordinary, scans, which);
    if (count != 0) run_scans(s, queries, scans, which, count);
    pn_alloc_put(s->v->alloc, scans);
    return PN_OK;
}

void pn_topk_many(const pn_vec *v, pn_candidates *rows, pn_query *queries, size_t m, size_t dim, pn_dot_fn dot)
{
    search s;
    bool ordinary;
    if (m == 0) return;
    pn_status status = search_init(&s, v, rows, dim, dot, &ordinary);
    if (status == PN_OK) status = search_many(&s, queries, m, ordinary);
    for (size_t i = 0; i < m && status != PN_OK; i++) queries[i].status = status;
    search_clear(&s);
}

pn_status pn_topk(const pn_vec *v, pn_candidates *rows, const double *query, size_t dim, size_t k, pn_dot_fn dot,
                  pn_hit **hits, size_t *count)
{
    pn_query q = {.values = query, .k = k};
    pn_topk_many(v, rows, &q, 1, dim, dot);
    if (q.status != PN_OK) return q.status;
    *hits = q.hits;
    *count = q.count;
    return PN_OK;
}

pn_status pn_topk_replay(const pn_vec *v, pn_candidates *rows, const double *query, size_t dim, size_t k, pn_dot_fn dot,
                         pn_hit **hits, size_t *count)
{
    search s;
    bool ordinary;
    pn_status status = search_init(&s, v, rows, dim, dot, &ordinary);
    if (status == PN_OK) status = search_query(&s, query);
    if (status == PN_OK) status = replay(&s, k, hits, count);
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
    pn_vec_values(s->v, s->rows[taken], m->recent);
    double recent_norm = s->rows[taken]->norm;
    *score = -INFINITY;
    *best = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        pn_vec_row *row = s->rows[m->left[i]];
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

pn_status pn_topk_mmr(const pn_vec *v, pn_candidates *rows, const double *query, size_t dim, size_t k, double threshold,
                      pn_dot_fn dot, pn_hit **hits, size_t *count)
{
    PN_FAIL_IF(!isfinite(threshold), PN_ERR_UNSUPPORTED);
    search s;
    bool ordinary;
    pn_status status = search_init(&s, v, rows, dim, dot, &ordinary);
    if (status == PN_OK) status = search_query(&s, query);
    if (status == PN_OK) status = mmr_all(&s, k, threshold, hits, count);
    search_clear(&s);
    return status;
}
