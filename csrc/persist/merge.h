/* merge.h: several segments that follow one another, written as one.
 *
 * The result means what they mean in turn (FORMAT.md, "Generations, merging, sweeping"):
 * of the entries of a key only the last matters; one whose place was made in between is
 * fresh; changes of a struct are applied to it or combined. With `bottom` set nothing
 * older remains, so removals, resets of what is not there, and dropped tables vanish.
 *
 * Everything that is copied is checked first: a merge never gives damaged bytes a good
 * checksum. Memory: some 40 bytes an entry.
 */
#ifndef PN_PERSIST_MERGE_H
#define PN_PERSIST_MERGE_H

#include "persist/segment.h"

/* Segments oldest first. CORRUPT: *bad is the number of the segment, err the place in it. */
pn_status pn_segment_merge(const pn_alloc *alloc, pn_segment *const *segments, size_t n, bool bottom,
                           pn_segment_writer *w, size_t *bad, pn_error *err);

#endif
