/* Exact top-k: the scan and the full replay agree on ids, order and bits; ties keep the
 * heap's order; what is no number is refused; failed allocations. */
#include "check.h"
#include "fail_alloc.h"
#include "os/pool.h"
#include "random_values.h"
#include "store/topk.h"

#include <math.h>
#include <stdint.h>

enum { MAX = 600 };

typedef struct fixture {
    pn_vec v;
    pn_vec_row *list[MAX];
    pn_candidates rows;
} fixture;

static void fixture_picks(fixture *f)
{
    size_t pos = 0, n = 0;
    pn_bytes id;
    void *row;
    while (n < MAX && pn_omap_next(&f->v.rows, &pos, &id, &row)) f->list[n++] = row;
    f->rows = (pn_candidates){.rows = f->list, .n = n};
}

static pn_status add(pn_vec *v, int i, const double *values, size_t dim)
{
    char id[16];
    int len = snprintf(id, sizeof id, "n%d", i);
    return pn_vec_put_row(v, (pn_bytes){(const uint8_t *)id, (size_t)len}, NULL, values, dim);
}

/* kind 0 float64, 1 float32, 2 both, 3 small integers (many ties) */
static double value(int kind, int row)
{
    double x = next_random();
    if (kind == 3) return floor(x * 2);
    return kind == 1 || (kind == 2 && row % 3 == 0) ? (double)(float)x : x;
}

static void fixture_random(fixture *f, size_t n, size_t dim, int kind)
{
    double values[256];
    pn_vec_init(&f->v, &pn_alloc_system);
    for (size_t r = 0; r < n; r++) {
        for (size_t i = 0; i < dim; i++) values[i] = value(kind, (int)r);
        values[0] += 3; /* no zero vectors */
        CHECK_EQ_INT(add(&f->v, (int)r, values, dim), PN_OK);
    }
    fixture_picks(f);
}

static void check_same(fixture *f, const double *q, size_t dim, size_t k)
{
    pn_hit *a = NULL, *b = NULL;
    size_t an = 0, bn = 0;
    CHECK_EQ_INT(pn_topk(&f->v, &f->rows, q, dim, k, plain_dot, &a, &an), PN_OK);
    CHECK_EQ_INT(pn_topk_replay(&f->v, &f->rows, q, dim, k, plain_dot, &b, &bn), PN_OK);
    CHECK_EQ_INT(an, bn);
    CHECK_EQ_INT(an, k && k < f->rows.n ? k : f->rows.n);
    for (size_t i = 0; i < an && i < bn; i++) {
        CHECK(a[i].similarity == b[i].similarity);
        CHECK_EQ_INT(a[i].pick, b[i].pick);
        CHECK(i == 0 || a[i].similarity <= a[i - 1].similarity);
    }
    pn_alloc_put(&pn_alloc_system, a);
    pn_alloc_put(&pn_alloc_system, b);
}

static void test_scan_and_replay_agree(void)
{
    static fixture f;
    const size_t dims[] = {2, 3, 16, 33, 200}, ks[] = {0, 1, 2, 5, 10, 100, 299, 400, 500};
    double q[256];
    for (int kind = 0; kind < 4; kind++)
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
            fixture_random(&f, 400, dims[d], kind);
            for (size_t i = 0; i < dims[d]; i++) q[i] = kind == 3 ? floor(next_random() * 2) : next_random();
            q[0] += 1.5;
            for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) check_same(&f, q, dims[d], ks[k]);
            pn_vec_clear(&f.v);
        }
}

/* What the peer's heap gives for n0..n4, all equal: k = 3 gives n2, n3, n4. */
static void test_ties_come_in_the_heaps_order(void)
{
    static fixture f;
    double v[2] = {1, 1};
    pn_vec_init(&f.v, &pn_alloc_system);
    for (int i = 0; i < 5; i++) CHECK_EQ_INT(add(&f.v, i, v, 2), PN_OK);
    fixture_picks(&f);
    pn_hit *hits = NULL;
    size_t n = 0;
    CHECK_EQ_INT(pn_topk(&f.v, &f.rows, v, 2, 3, plain_dot, &hits, &n), PN_OK);
    CHECK_EQ_INT(n, 3);
    for (size_t i = 0; i < n; i++) CHECK_EQ_INT(hits[i].pick, i + 2);
    pn_alloc_put(&pn_alloc_system, hits);
    pn_vec_clear(&f.v);
}

/* Rows that differ only beyond float's precision: the scan cannot tell, the result can. */
static void test_near_ties_are_told_apart(void)
{
    static fixture f;
    double v[4] = {1, 0.5, 0.25, 0}, q[4] = {1, 0, 0, 0};
    pn_vec_init(&f.v, &pn_alloc_system);
    for (int i = 0; i < 300; i++) {
        v[3] = 1e-7 * ((i * 7919) % 300 + 1);
        CHECK_EQ_INT(add(&f.v, i, v, 4), PN_OK);
    }
    fixture_picks(&f);
    check_same(&f, q, 4, 10);
    pn_vec_clear(&f.v);
}

static void check_refused(const double *row, const double *q, size_t dim)
{
    static fixture f;
    double plain[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    pn_vec_init(&f.v, &pn_alloc_system);
    for (int i = 0; i < 20; i++) CHECK_EQ_INT(add(&f.v, i, i == 11 ? row : plain, dim), PN_OK);
    fixture_picks(&f);
    pn_hit *hits = NULL;
    size_t n = 0;
    CHECK_EQ_INT(pn_topk(&f.v, &f.rows, q, dim, 3, plain_dot, &hits, &n), PN_ERR_UNSUPPORTED);
    CHECK_EQ_INT(pn_topk_mmr(&f.v, &f.rows, q, dim, 3, 0.5, plain_dot, &hits, &n), PN_ERR_UNSUPPORTED);
    CHECK(hits == NULL);
    pn_vec_clear(&f.v);
}

static void test_what_is_no_number_is_refused(void)
{
    const double fine[4] = {1, 2, 3, 4}, zero[4] = {0}, nan[4] = {1, NAN, 0, 0}, inf[4] = {INFINITY, 0, 0, 0},
                 huge[4] = {1e200, 1e200, 0, 0}, tiny[4] = {1e-200, 0, 0, 0};
    const double *const odd[] = {zero, nan, inf, huge, tiny};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        check_refused(odd[i], fine, 4);
        check_refused(fine, odd[i], 4);
    }
    check_refused(fine, fine, 1); /* one dimension: numpy multiplies instead */
}

static void test_other_dimensions_are_refused(void)
{
    static fixture f;
    double v[3] = {1, 2, 3};
    pn_hit *hits = NULL;
    size_t n = 0;
    pn_vec_init(&f.v, &pn_alloc_system);
    CHECK_EQ_INT(add(&f.v, 0, v, 3), PN_OK);
    fixture_picks(&f);
    CHECK_EQ_INT(pn_topk(&f.v, &f.rows, v, 2, 3, plain_dot, &hits, &n), PN_ERR_UNSUPPORTED);
    CHECK_EQ_INT(add(&f.v, 1, v, 2), PN_OK);
    fixture_picks(&f);
    CHECK_EQ_INT(pn_topk(&f.v, &f.rows, v, 3, 3, plain_dot, &hits, &n), PN_ERR_UNSUPPORTED);
    f.rows.n = f.rows.checked = 0;
    CHECK_EQ_INT(pn_topk(&f.v, &f.rows, v, 3, 3, plain_dot, &hits, &n), PN_ERR_UNSUPPORTED);
    pn_vec_clear(&f.v);
}

/* Extreme but legal norms leave the scan's range: everything is scored exactly then. */
static void test_large_and_small_norms(void)
{
    static fixture f;
    double v[4];
    pn_vec_init(&f.v, &pn_alloc_system);
    for (int i = 0; i < 100; i++) {
        for (int j = 0; j < 4; j++) v[j] = next_random() * pow(10, i % 5 * 20 - 40);
        CHECK_EQ_INT(add(&f.v, i, v, 4), PN_OK);
    }
    fixture_picks(&f);
    check_same(&f, v, 4, 7);
    pn_vec_clear(&f.v);
}

static double similarity(const double *a, const double *b, size_t n)
{
    return plain_dot(a, b, n) / (sqrt(plain_dot(a, a, n)) * sqrt(plain_dot(b, b, n)));
}

/* The definition, on a matrix. */
static void naive_mmr(double rows[][8], size_t n, const double *q, double threshold, size_t k, uint32_t *out)
{
    bool taken[MAX] = {false};
    for (size_t r = 0; r < k; r++) {
        double best = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            if (taken[i]) continue;
            double x = threshold * similarity(q, rows[i], 8);
            if (r > 0) x = x - (1 - threshold) * similarity(rows[i], rows[out[r - 1]], 8);
            if (!(x > best)) continue;
            best = x;
            out[r] = (uint32_t)i;
        }
        taken[out[r]] = true;
    }
}

static void test_mmr(void)
{
    static fixture f;
    double rows[50][8], q[8];
    const double thresholds[] = {0, 0.3, 0.5, 1};
    for (size_t t = 0; t < 4; t++) {
        pn_vec_init(&f.v, &pn_alloc_system);
        for (int i = 0; i < 50; i++) {
            for (int j = 0; j < 8; j++) rows[i][j] = i % 2 ? next_random() : (double)(float)next_random();
            CHECK_EQ_INT(add(&f.v, i, rows[i], 8), PN_OK);
        }
        for (int j = 0; j < 8; j++) q[j] = next_random();
        fixture_picks(&f);
        const size_t ks[] = {1, 5, 50};
        for (size_t k = 0; k < 3; k++) {
            uint32_t want[50];
            pn_hit *hits = NULL;
            size_t n = 0;
            naive_mmr(rows, 50, q, thresholds[t], ks[k], want);
            f.rows.n = 50;
            CHECK_EQ_INT(pn_topk_mmr(&f.v, &f.rows, q, 8, ks[k] == 50 ? 0 : ks[k], thresholds[t], plain_dot, &hits, &n), PN_OK);
            CHECK_EQ_INT(n, ks[k]);
            for (size_t i = 0; i < n; i++) CHECK_EQ_INT(hits[i].pick, want[i]);
            pn_alloc_put(&pn_alloc_system, hits);
        }
        pn_vec_clear(&f.v);
    }
}

static pn_status query_everything(const pn_alloc *alloc)
{
    static fixture f;
    pn_vec_init(&f.v, alloc);
    pn_status s = PN_OK;
    double v[3] = {1, 2, 3};
    for (int i = 0; i < 40 && s == PN_OK; i++) {
        v[i % 3] = i % 4;
        v[2] += 1;
        s = add(&f.v, i, v, 3);
    }
    fixture_picks(&f);
    for (size_t k = 0; k < 8 && s == PN_OK; k += 4) {
        pn_hit *hits = NULL;
        size_t n;
        s = pn_topk(&f.v, &f.rows, v, 3, k, plain_dot, &hits, &n);
        pn_alloc_put(alloc, hits);
        hits = NULL;
        if (s == PN_OK) s = pn_topk_mmr(&f.v, &f.rows, v, 3, k, 0.5, plain_dot, &hits, &n);
        pn_alloc_put(alloc, hits);
    }
    pn_vec_clear(&f.v);
    return s;
}

static void test_queries_survive_every_failed_allocation(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = query_everything(&f.alloc));
}

static void same_answer(const pn_query *a, const pn_query *b)
{
    CHECK_EQ_INT(a->status, b->status);
    CHECK_EQ_INT(a->count, b->count);
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        CHECK(a->hits[i].similarity == b->hits[i].similarity);
        CHECK_EQ_INT(a->hits[i].pick, b->hits[i].pick);
    }
}

/* One query the first, the second all zeros, the last with a k that no scan takes. */
static void check_many(fixture *f, double queries[][4000], size_t dim)
{
    enum { M = 7 };
    const size_t ks[M] = {3, 1, 10, 2, 25, 7, 400};
    pn_query many[M], one;
    for (size_t i = 0; i < M; i++) many[i] = (pn_query){.values = queries[i], .k = ks[i]};
    f->rows.checked = 0;
    pn_topk_many(&f->v, &f->rows, many, M, dim, plain_dot);
    for (size_t i = 0; i < M; i++) {
        one = (pn_query){.values = queries[i], .k = ks[i]};
        one.status = pn_topk_replay(&f->v, &f->rows, queries[i], dim, ks[i], plain_dot, &one.hits, &one.count);
        CHECK_EQ_INT(one.status, i == 1 ? PN_ERR_UNSUPPORTED : PN_OK);
        same_answer(&many[i], &one);
        pn_alloc_put(&pn_alloc_system, many[i].hits);
        pn_alloc_put(&pn_alloc_system, one.hits);
    }
}

/* Enough bytes for four threads; float and double rows, and groups of equal ones. */
static void test_many_queries_on_several_threads(void)
{
    static fixture f;
    static double v[4000], queries[7][4000];
    pn_vec_init(&f.v, &pn_alloc_system);
    for (int i = 0; i < MAX; i++) {
        for (int j = 0; j < 4000 && i % 50 < 40; j++) v[j] = i % 3 ? (double)(float)next_random() : next_random();
        CHECK_EQ_INT(add(&f.v, i, v, 4000), PN_OK);
    }
    fixture_picks(&f);
    for (int q = 0; q < 7; q++)
        for (int j = 0; j < 4000; j++) queries[q][j] = q == 1 ? 0 : next_random();
    for (unsigned threads = 1; threads <= 4; threads++) {
        pn_pool_set_threads(threads);
        check_many(&f, queries, 4000);
    }
    CHECK(pn_pool_helpers() > 0);
    pn_vec_clear(&f.v);
}

int main(void)
{
    RUN(test_many_queries_on_several_threads);
    RUN(test_scan_and_replay_agree);
    RUN(test_ties_come_in_the_heaps_order);
    RUN(test_near_ties_are_told_apart);
    RUN(test_what_is_no_number_is_refused);
    RUN(test_other_dimensions_are_refused);
    RUN(test_large_and_small_norms);
    RUN(test_mmr);
    RUN(test_queries_survive_every_failed_allocation);
    return check_summary();
}
