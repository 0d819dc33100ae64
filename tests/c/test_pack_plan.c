/* When a pack's segments are merged and its generations dropped: what long series cost. */
#include "check.h"

#include "persist/pack_plan.h"

#include <stdlib.h>

/* A pack of which only the sizes are kept; nothing is ever overwritten. */
typedef struct series {
    uint64_t sizes[PN_PLAN_MOST + 1];
    size_t n, most, merges;
    uint64_t added, written, largest; /* bytes; the most that one commit wrote */
} series;

static void add(series *s, uint64_t size)
{
    uint64_t wrote = size;
    s->sizes[s->n++] = size;
    size_t alone = pn_plan_merge(s->sizes, s->n);
    CHECK(alone <= s->n);
    if (alone < s->n) {
        uint64_t sum = 0;
        CHECK(s->n - alone > 1);
        for (size_t i = alone; i < s->n; i++) sum += s->sizes[i];
        for (size_t i = 0; i < alone; i++) CHECK(s->sizes[i] > sum);
        s->sizes[alone] = sum;
        s->n = alone + 1;
        s->merges++;
        wrote += sum;
    }
    CHECK(s->n <= PN_PLAN_MOST);
    if (s->n > s->most) s->most = s->n;
    s->added += size;
    s->written += wrote;
    if (wrote > s->largest) s->largest = wrote;
}

static double amplification(const series *s) { return (double)s->written / (double)s->added; }

static void test_equal_commits_from_nothing(void)
{
    series s = {.n = 0};
    for (size_t i = 0; i < 200000; i++) add(&s, 1000);
    printf("  200000 equal commits: written %.1f times, %zu merges\n", amplification(&s), s.merges);
    CHECK(amplification(&s) < 12); /* log2(200000) is 17.6 */
    CHECK(s.merges < 200000 / 5);
}

/* As a pack of a gigabyte that is added to node by node: what is there is left alone. */
static void test_small_commits_to_a_large_pack(void)
{
    series s = {.sizes = {1000000000}, .n = 1};
    for (size_t i = 0; i < 100000; i++) add(&s, 3000);
    printf("  100000 small commits to a large pack: written %.1f times, %zu merges, %.0f MB at most\n",
           amplification(&s), s.merges, (double)s.largest / 1e6);
    CHECK(amplification(&s) < 12);
    CHECK(s.largest < 310000000);
    CHECK(s.sizes[0] == 1000000000);
}

/* Whatever the sizes: each byte lies in a segment twice as large after each merge, but for
 * the few that are merged because there are too many that are alone. */
static void test_random_commits(void)
{
    uint32_t state = 3;
    for (int round = 0; round < 20; round++) {
        series s = {.n = 0};
        for (size_t i = 0; i < 20000; i++) {
            state = state * 1664525u + 1013904223u;
            unsigned shift = (state >> 8) % (unsigned)(4 + round);
            add(&s, 100 + ((uint64_t)(state >> 12) >> (20 - shift % 20)));
        }
        CHECK(amplification(&s) < 16);
        CHECK(s.merges < 20000 / 4);
    }
}

/* Many large ones, each half the one before, then small ones: the large are left alone. */
static void test_descending_commits_are_not_copied(void)
{
    series s = {.n = 0};
    for (unsigned i = 0; i < 10; i++) add(&s, (uint64_t)1 << (30 - i));
    CHECK_EQ_INT(s.merges, 0);
    uint64_t before = s.written;
    for (size_t i = 0; i < 1000; i++) add(&s, 500);
    CHECK(s.written - before < (uint64_t)500 * 1000 * 12);
}

static void test_few_are_never_merged(void)
{
    uint64_t sizes[17];
    for (size_t i = 0; i < 17; i++) sizes[i] = 1000 << i; /* the youngest is the largest */
    for (size_t n = 0; n <= PN_PLAN_FEW; n++) CHECK_EQ_INT(pn_plan_merge(sizes, n), n);
    CHECK_EQ_INT(pn_plan_merge(sizes, PN_PLAN_FEW + 1), 0);
    CHECK_EQ_INT(pn_plan_merge(sizes, 17), 0);
    for (size_t i = 0; i < 17; i++) sizes[i] = UINT64_MAX; /* of a crafted manifest */
    CHECK_EQ_INT(pn_plan_merge(sizes, 17), 0);
}

/* ---- generations ---- */

/* A manifest whose generation i has one segment of sizes[i]. */
static void make(pn_manifest *m, const uint64_t *sizes, size_t n)
{
    pn_manifest_init(m, &pn_alloc_system);
    for (size_t i = 0; i < n; i++) {
        uint32_t at;
        pn_manifest_segment s = {.size = sizes[i]};
        pn_generation g = {.number = i + 1};
        pn_segment_name(i + 1, 1, s.name);
        CHECK_EQ_INT(pn_manifest_add_segment(m, &s, &at), PN_OK);
        CHECK_EQ_INT(pn_generation_set_segments(m->alloc, &g, &at, 1), PN_OK);
        CHECK_EQ_INT(pn_manifest_push(m, &g), PN_OK);
    }
}

static size_t dropped(const uint64_t *sizes, size_t n, size_t keep)
{
    pn_manifest m;
    uint8_t scratch[16];
    make(&m, sizes, n);
    size_t drop = pn_plan_drop(&m, keep, scratch);
    pn_manifest_clear(&m);
    return drop;
}

static void test_generations_are_dropped(void)
{
    const uint64_t mb = 1 << 20;
    CHECK_EQ_INT(dropped((uint64_t[]){1, 1, 1, 1, 1}, 5, 3), 2);
    CHECK_EQ_INT(dropped((uint64_t[]){1, 1, 1, 1, 1}, 5, 1000), 0);
    CHECK_EQ_INT(dropped((uint64_t[]){1, 1, 1, 1, 1}, 5, 1), 4);
    CHECK_EQ_INT(dropped((uint64_t[]){1}, 1, 1), 0);
    CHECK_EQ_INT(dropped(NULL, 0, 3), 0);
    /* Small ones stay, large ones only while they are less than the newest again. */
    CHECK_EQ_INT(dropped((uint64_t[]){400000, 400000, 100}, 3, 3), 0);
    CHECK_EQ_INT(dropped((uint64_t[]){mb, mb, 100}, 3, 3), 2);
    CHECK_EQ_INT(dropped((uint64_t[]){mb, mb, 2 * mb}, 3, 3), 0);
    CHECK_EQ_INT(dropped((uint64_t[]){mb, mb, 2 * mb - 1}, 3, 3), 1);
    CHECK_EQ_INT(dropped((uint64_t[]){9 * mb, mb, 2 * mb}, 3, 3), 1);
}

int main(void)
{
    RUN(test_equal_commits_from_nothing);
    RUN(test_small_commits_to_a_large_pack);
    RUN(test_random_commits);
    RUN(test_descending_commits_are_not_copied);
    RUN(test_few_are_never_merged);
    RUN(test_generations_are_dropped);
    return check_summary();
}
