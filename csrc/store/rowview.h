/* rowview.h: the rows of a vector table in their order, as an array.
 *
 * Queries walk all rows again and again; the maps are hash tables. The view lists the
 * rows once, and for filters the number (slot) of each row's metadata text:
 *
 *   rows   row * row * ...     into the map: valid while the table is unchanged
 *   slots  u32   u32  ...      0: no text (none, or a live object), else see column.h
 *
 * Built when asked for (O(rows)) and used until the table changes. 8 bytes a row, 12 with
 * slots. Guarded by the table's lock, also its metadata's slots, which the view gives out.
 */
#ifndef PN_STORE_ROWVIEW_H
#define PN_STORE_ROWVIEW_H

#include "store/vector.h"

typedef struct pn_rowview {
    const pn_alloc *alloc;
    pn_vec_row **rows;
    uint32_t *slots;
    size_t n, cap, slot_cap;
    uint64_t changes;        /* of the table when this was built */
    const void *row_entries; /* and where its maps lay */
    const void *meta_entries;
    bool built, slotted;     /* rows, slots are of that table */
    bool renewed;            /* metadata has slots from before */
    uint32_t last_slot;      /* given out so far */
    uint64_t renumbered;     /* how often all slots were given out anew */
    uint64_t builds;         /* how often rows was listed */
    size_t checked, checked_dim; /* see topk.h */
} pn_rowview;

void pn_rowview_init(pn_rowview *w, const pn_alloc *alloc); /* allocates nothing */
void pn_rowview_clear(pn_rowview *w);
/* For a view whose contents cannot be trusted: frees nothing, gives out all slots anew. */
void pn_rowview_renew(pn_rowview *w);

/* Brings rows up to date, and slots as well if they are asked for. */
pn_status pn_rowview_update(pn_rowview *w, pn_vec *v, bool with_slots);

/* The metadata cell of a row, NULL when it has none. Whoever goes through the rows in
 * order keeps *pos (0 at first): both maps mostly agree, so there is nothing to look up. */
pn_vec_cell *pn_rowview_cell(const pn_vec *v, const pn_vec_row *row, size_t *pos);

#endif
