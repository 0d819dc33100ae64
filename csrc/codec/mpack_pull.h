/* mpack_pull.h: a pull reader over MessagePack whose shape the caller knows.
 *
 * For what is no JSON value: index of a segment, index structs, manifest. One call reads
 * one element, or the head of an array whose elements the next calls read:
 *
 *     pn_mpack_pull r;
 *     pn_mpack_pull_init(&r, bytes, offset of the bytes in the file);
 *     size_t n, more;
 *     PN_TRY(pn_mpack_pull_array(&r, 2, &n));        // at least two elements
 *     PN_TRY(pn_mpack_pull_text(&r, &name));
 *     PN_TRY(pn_mpack_pull_uint(&r, UINT32_MAX, &size));
 *     PN_TRY(pn_mpack_pull_skip(&r, n - 2));         // what a later release may have added
 *     PN_TRY(pn_mpack_pull_end(&r));
 *
 * Any input is safe: every length and count is checked against the bytes that are left
 * (an element has at least one), so what a caller allocates for n elements is bounded by
 * the input; nothing recurses. Integers may have any width; maps are refused everywhere.
 *
 * Every failure is PN_ERR_CORRUPT with r->error filled: what was wrong, and the offset of
 * the element that was. The reader must not be used further. Nothing is allocated; text and
 * bin point into the bytes. Each call is O(1), but text O(length) and skip O(elements).
 */
#ifndef PN_CODEC_MPACK_PULL_H
#define PN_CODEC_MPACK_PULL_H

#include "base/bytes.h"
#include "base/status.h"

typedef struct pn_mpack_pull {
    const uint8_t *base, *p, *end;
    const uint8_t *at; /* the element that was read last: where a caller's complaint is about */
    uint64_t origin;   /* added to offsets in errors */
    pn_error error;
} pn_mpack_pull;

void pn_mpack_pull_init(pn_mpack_pull *r, pn_bytes bytes, uint64_t origin);

/* An array's head: *n elements follow, at least `least` (else "an array is too short"). */
pn_status pn_mpack_pull_array(pn_mpack_pull *r, size_t least, size_t *n);
/* A str that is UTF-8, three-byte surrogates allowed. */
pn_status pn_mpack_pull_text(pn_mpack_pull *r, pn_bytes *out);
pn_status pn_mpack_pull_bin(pn_mpack_pull *r, pn_bytes *out);
/* An integer from 0 to max; one that fits int64. */
pn_status pn_mpack_pull_uint(pn_mpack_pull *r, uint64_t max, uint64_t *out);
pn_status pn_mpack_pull_int(pn_mpack_pull *r, int64_t *out);
pn_status pn_mpack_pull_bool(pn_mpack_pull *r, bool *out);
/* Steps over `n` elements of any kind but maps, whole. */
pn_status pn_mpack_pull_skip(pn_mpack_pull *r, size_t n);
/* Fails unless all bytes have been read. */
pn_status pn_mpack_pull_end(pn_mpack_pull *r);

/* For the caller's own conditions: fails with the offset of the element read last. */
pn_status pn_mpack_pull_refuse(pn_mpack_pull *r, const char *what);

#endif
