/* struct_pack.h: an index struct's way into a pack and out of it (rows.h has the bytes).
 *
 * Each column knows which of its rows the last commit has (kept.h), so a struct that lost
 * some rows and got k new ones is gathered by copying k rows.
 *
 * Between gathering and its end (pn_struct_gathered) the struct may be edited: what
 * changes then is a change of what was gathered. Not locked: as the struct.
 */
#ifndef PN_STORE_STRUCT_PACK_H
#define PN_STORE_STRUCT_PACK_H

#include "persist/rows.h"
#include "persist/segment.h"
#include "store/structs.h"

/* Appends the struct: as a change of what the last commit has, when there is one that has
 * it so and less than half of the text is new, else (and with `whole`) whole. *same: it has
 * just this, and nothing was appended. O(what is appended). On failure out is as it was, and
 * so is the struct. */
pn_status pn_struct_gather(pn_struct *s, bool whole, pn_buf *out, pn_value_form *form, bool *same);
/* The commit ended. Nothing happens when the struct was not gathered. */
void pn_struct_gathered(pn_struct *s, bool durable);

/* A struct from its rows, and a change of them (or NULL); the text is copied. CORRUPT when
 * the change does not fit. The struct is what the last commit has. */
pn_status pn_struct_unpack(const pn_alloc *alloc, const pn_rows *base, const pn_rows *change, pn_struct **out,
                           pn_error *err);

#endif
