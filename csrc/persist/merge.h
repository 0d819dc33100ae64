/* merge.h: several segments that follow one another, written as one.
 *
 * The result means what they mean in turn (FORMAT.md, "Generations, merging, sweeping"):
 * of the entries of a key only the last matters; one whose place was made in between is
 * fresh; changes of a struct are applied to it or combined; of a store or a table only
 * what was said since it was last reset. With `bottom` set nothing older remains, so
 * removals and dropped tables vanish, and nothing needs to be fresh or reset.
 *
 * Everything that is copied is checked first: a merge never gives damaged bytes a good
 * checksum. What is left out (an overwritten value) is not looked at.
 *
 * O(bytes) and one hash probe an entry. Memory: some 60 bytes an entry of the largest
 * table, and two copies of the largest struct that changed.
 */
#ifndef PN_PERSIST_MERGE_H
#define PN_PERSIST_MERGE_H

#include "persist/segment.h"

/* Segments oldest first, at most 65,535 (else INVALID). The caller finishes the writer, or frees it
 * after a failure. CORRUPT: *bad is the number of the segment, err the place in its file.
 * Otherwise what the writer returned, or NOMEM. */
pn_status pn_segment_merge(const pn_alloc *alloc, pn_segment *const *segments, size_t n, bool bottom,
                           pn_segment_writer *w, size_t *bad, pn_error *err);

#endif
