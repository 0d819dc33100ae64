#include "persist/pack_plan.h"

static uint64_t add(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

static uint64_t sum_from(const uint64_t *sizes, size_t from, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = from; i < n; i++) sum = add(sum, sizes[i]);
    return sum;
}

/* Whether each of the first `alone` is larger than the others together. */
static bool outweighs(const uint64_t *sizes, size_t alone, size_t n)
{
    uint64_t rest = sum_from(sizes, alone, n);
    for (size_t i = 0; i < alone; i++)
        if (sizes[i] <= rest) return false;
    return true;
}

size_t pn_plan_merge(const uint64_t *sizes, size_t n)
{
    if (n <= PN_PLAN_FEW) return n;
    if (sum_from(sizes, 1, n) > sizes[0]) return 0;
    if (n <= PN_PLAN_MOST) return n;
    size_t alone = PN_PLAN_ALONE;
    while (!outweighs(sizes, alone, n)) alone--; /* none is larger than all: ends at 0 */
    return alone;
}

size_t pn_plan_drop(const pn_manifest *m, size_t keep, uint8_t *scratch)
{
    size_t kept = m->generation_count < keep ? m->generation_count : keep;
    if (kept <= 1) return m->generation_count - kept;
    uint64_t newest = pn_manifest_bytes(m, 1, scratch), limit = add(newest, newest);
    if (limit < PN_PLAN_SMALL) limit = PN_PLAN_SMALL;
    while (kept > 1 && pn_manifest_bytes(m, kept, scratch) > limit) kept--;
    return m->generation_count - kept;
}
