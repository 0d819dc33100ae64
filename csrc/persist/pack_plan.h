/* pack_plan.h: when segments are merged and generations dropped. Numbers only.
 *
 * A pack's segments, oldest first, are kept few and their sizes descending, as a binary
 * counter keeps its digits: what is merged is smaller than each segment that is left alone,
 * so whenever bytes are copied they come to lie in a segment about twice as large. A long
 * series of small commits thus copies each byte some log2(n) times, in few large merges.
 */
#ifndef PN_PERSIST_PACK_PLAN_H
#define PN_PERSIST_PACK_PLAN_H

#include "persist/manifest.h"

enum {
    PN_PLAN_MOST = 16,  /* segments of a generation; with more, the youngest are merged */
    PN_PLAN_ALONE = 13, /* at most so many are then left alone: fewer copy more, more merge oftener */
    PN_PLAN_FEW = 4,    /* no more than these are never merged */
    PN_PLAN_LIMIT = 64, /* what a generation may have when merging fails */
};
#define PN_PLAN_SMALL ((uint64_t)1 << 20) /* generations in so few bytes are not dropped early */

/* How many of n segments, oldest first, are left alone: the others are merged into one.
 * n: nothing is merged. */
size_t pn_plan_merge(const uint64_t *sizes, size_t n);

/* How many of a manifest's oldest generations are dropped so that `keep` remain, and fewer
 * when the segments of all of them are more than twice those of the newest. `scratch`: a
 * byte for each segment. */
size_t pn_plan_drop(const pn_manifest *m, size_t keep, uint8_t *scratch);

#endif
