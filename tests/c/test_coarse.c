/* Searches by codes of eight bits: the bound holds, answers are those of exact scores, codes
 * follow every change of the table, no memory means no codes. */
#include "check.h"
#include "fail_alloc.h"
#include "os/pool.h"
#include "random_values.h"
#include "simd/dot.h"
#include "store/rowview.h"
#include "store/topk.h"

#include <math.h>

enum { ROWS = 700, DIM = 1600, SEARCHES = 8, MISSES = 3, K = 10 }; /* SEARCHES, MISSES: coarse.c's */

typedef struct table {
    pn_vec v;
    pn_rowview view;
    pn_coarse coarse;
} table;

static void table_init(table *t, const pn_alloc *codes)
{
    pn_vec_init(&t->v, &pn_alloc_system);
    pn_rowview_init(&t->view, &pn_alloc_system);
    pn_coarse_init(&t->coarse, codes);
}

static void table_clear(table *t)
{
    pn_coarse_clear(&t->coarse);
    pn_rowview_clear(&t->view);
    pn_vec_clear(&t->v);
}

static pn_bytes id_of(int i, char *text)
{
    return (pn_bytes){(const uint8_t *)text, (size_t)snprintf(text, 16, "n%d", i)};
}

static void put(table *t, int i, const double *values)
{
    char text[16];
    CHECK_EQ_INT(pn_vec_put_row(&t->v, id_of(i, text), NULL, values, DIM), PN_OK);
}

/* What rows may be like. */
enum { PLAIN, NARROW, SPIKE, TINY, STEPS, LIKE_THE_LAST, KINDS };

static void make(int kind, double *values)
{
    for (int i = 0; i < DIM; i++) {
        double x = next_random();
        if (kind == LIKE_THE_LAST) values[i] += x * 1e-9;
        else if (kind == NARROW) values[i] = (float)x;
        else if (kind == SPIKE) values[i] = i == 7 ? 1e6 * x : x * 1e-3;
        else if (kind == TINY) values[i] = x * 1e-12;
        else if (kind == STEPS) values[i] = i == 0 ? 127 : floor(x * 127) + 0.5; /* half way between codes */
        else values[i] = x;
    }
}

static void fill(table *t, const pn_alloc *codes)
{
    static double values[DIM];
    table_init(t, codes);
    for (int i = 0; i < ROWS; i++) {
        make(i % KINDS, values);
        put(t, i, values);
    }
}

/* One search as vector_query.c does it, against exact scores of all rows. */
static bool search(table *t, const double *q, size_t k)
{
    CHECK_EQ_INT(pn_rowview_update(&t->view, &t->v, false), PN_OK);
    pn_candidates rows = {.rows = t->view.rows, .n = t->view.n, .checked = t->view.checked, .checked_dim = t->view.checked_dim};
    pn_query one = {.values = q, .k = k};
    pn_hit *want = NULL;
    size_t count = 0;
    rows.coarse = &t->coarse;
    rows.listing = t->view.builds;
    pn_topk_many(&t->v, &rows, &one, 1, DIM, plain_dot);
    t->view.checked = rows.checked;
    t->view.checked_dim = rows.checked_dim;
    CHECK_EQ_INT(one.status, PN_OK);
    CHECK_EQ_INT(pn_topk_replay(&t->v, &rows, q, DIM, k, plain_dot, &want, &count), PN_OK);
    CHECK_EQ_INT(one.count, count);
    for (size_t i = 0; i < count && i < one.count; i++) {
        CHECK(one.hits[i].similarity == want[i].similarity);
        CHECK_EQ_INT(one.hits[i].pick, want[i].pick);
    }
    pn_alloc_put(&pn_alloc_system, one.hits);
    pn_alloc_put(&pn_alloc_system, want);
    return t->coarse.listing == t->view.builds && t->coarse.n != 0;
}

static void test_answers_are_those_of_exact_scores(void)
{
    static table t;
    static double q[DIM];
    int coded = 0;
    fill(&t, &pn_alloc_system);
    for (int i = 0; i < 40; i++) {
        if (i % 3 != 1) make(i % (KINDS - 1), q);
        else pn_vec_values(&t.v, t.view.rows[i * 17 % ROWS], q);
        pn_pool_set_threads(1 + (unsigned)i % 3);
        coded += search(&t, q, i % 7 ? K : 1);
    }
    CHECK_EQ_INT(coded, 40 - SEARCHES);
    table_clear(&t);
}

static const pn_coarse_entry *entry_of(const table *t, size_t row, const int8_t **codes)
{
    *codes = pn_coarse_codes(&t->coarse, t->coarse.slots[row]);
    return &t->coarse.entries[t->coarse.slots[row]];
}

/* |v / |v| . q - what the codes say| <= the slack that they promise. Returns the share of it. */
static double check_bound(const table *t, size_t row, const double *unit)
{
    static double values[DIM];
    static int16_t whole[DIM + 32];
    pn_coarse_query coarse;
    const int8_t *codes;
    int32_t sum;
    const pn_coarse_entry *e = entry_of(t, row, &codes);
    pn_coarse_prepare(unit, DIM, whole, &coarse);
    pn_dot_best()->i8(whole, &codes, 1, t->coarse.stride, &sum);
    pn_vec_values(&t->v, t->view.rows[row], values);
    double similarity = plain_dot(values, unit, DIM) / sqrt(plain_dot(values, values, DIM));
    double off = fabs(similarity - e->scale * coarse.step * sum), slack = e->slack + (1.0 + e->slack) * coarse.slack;
    CHECK(off <= slack);
    CHECK(e->slack < 0.05 && coarse.slack < 0.002);
    return off / slack;
}

static void to_unit(double *values)
{
    double norm = sqrt(plain_dot(values, values, DIM));
    for (int i = 0; i < DIM; i++) values[i] /= norm;
}

/* The query that codes are worst at: what they leave out of the row. */
static void left_out(const table *t, size_t row, double *out)
{
    const int8_t *codes;
    const pn_coarse_entry *e = entry_of(t, row, &codes);
    pn_vec_values(&t->v, t->view.rows[row], out);
    to_unit(out);
    for (int i = 0; i < DIM; i++) out[i] -= (double)e->scale * codes[i];
    to_unit(out);
}

static void test_the_bound_holds(void)
{
    static table t;
    static double q[DIM];
    double worst = 0;
    fill(&t, &pn_alloc_system);
    make(PLAIN, q);
    while (!search(&t, q, K)) continue;
    for (int kind = 0; kind < KINDS; kind++) {
        make(kind, q);
        to_unit(q);
        for (size_t r = 0; r < t.coarse.n; r++) (void)check_bound(&t, r, q);
    }
    for (size_t r = 0; r < t.coarse.n; r++) {
        left_out(&t, r, q);
        worst = fmax(worst, check_bound(&t, r, q));
    }
    CHECK(worst > 0.9); /* it is no looser than it has to be */
    table_clear(&t);
}

/* Puts, overwrites and deletes; a few at a time keep the codes, many start over. */
static void test_codes_follow_changes(void)
{
    static table t;
    static double values[DIM], q[DIM];
    int coded = 0, next = ROWS;
    char text[16];
    fill(&t, &pn_alloc_system);
    make(PLAIN, q);
    while (!search(&t, q, K)) continue;
    for (int round = 0; round < 30; round++) {
        int changes = round % 10 == 9 ? ROWS / 2 : 5;
        for (int i = 0; i < changes; i++) {
            int which = (int)((next_random() + 1) / 2 * next);
            make(i % KINDS, values);
            if (i % 3 == 0) (void)pn_vec_remove_row(&t.v, id_of(which, text));
            else put(&t, i % 3 == 1 ? which : next++, values);
        }
        make(PLAIN, q);
        for (int i = 0; i < 12; i++) coded += search(&t, q, K);
        CHECK_EQ_INT(t.coarse.n, t.view.n);
        CHECK_EQ_INT(t.coarse.used - t.coarse.free.len / sizeof(uint32_t), t.view.n);
    }
    CHECK_EQ_INT(coded, 30 * 12 - 3 * (SEARCHES + 1));
    table_clear(&t);
}

/* Rows that codes cannot tell apart: after a few searches there are none. */
static void test_codes_that_do_not_help_are_given_up(void)
{
    static table t;
    static double values[DIM], q[DIM];
    table_init(&t, &pn_alloc_system);
    make(PLAIN, values);
    for (int i = 0; i < ROWS; i++) {
        make(LIKE_THE_LAST, values);
        put(&t, i, values);
    }
    make(PLAIN, q);
    int coded = 0;
    for (int i = 0; i < 20; i++) coded += search(&t, q, K);
    CHECK_EQ_INT(coded, MISSES - 1); /* the last of them gave them up */
    CHECK(t.coarse.entries == NULL);
    make(PLAIN, values);
    put(&t, 0, values);
    for (int i = 0; i < 20; i++) coded += search(&t, q, K);
    CHECK_EQ_INT(coded, 2 * (MISSES - 1)); /* other rows may be better ones */
    table_clear(&t);
}

static void test_small_tables_have_no_codes(void)
{
    static table t;
    static double values[DIM];
    table_init(&t, &pn_alloc_system);
    for (int i = 0; i < 100; i++) {
        make(PLAIN, values);
        put(&t, i, values);
    }
    for (int i = 0; i < 20; i++) CHECK(!search(&t, values, K));
    table_clear(&t);
}

static void test_without_memory_there_are_no_codes(void)
{
    static table t;
    static double q[DIM], values[DIM];
    make(PLAIN, q);
    for (long fail_at = 1, coded = 0; coded == 0; fail_at++) {
        fail_alloc f;
        fail_alloc_init(&f, fail_at);
        fill(&t, &f.alloc);
        for (int i = 0; i < 3 * (SEARCHES + 1); i++) search(&t, q, K);
        make(NARROW, values);
        put(&t, 0, values); /* and on the way to another view */
        search(&t, q, K);
        table_clear(&t);
        CHECK_EQ_INT(f.blocks, 0);
        coded = !f.failed;
    }
}

int main(void)
{
    RUN(test_answers_are_those_of_exact_scores);
    RUN(test_the_bound_holds);
    RUN(test_codes_follow_changes);
    RUN(test_codes_that_do_not_help_are_given_up);
    RUN(test_small_tables_have_no_codes);
    RUN(test_without_memory_there_are_no_codes);
    return check_summary();
}
