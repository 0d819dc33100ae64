/* kept.h: which rows of a list are still those that a commit has, through edits.
 *
 *   kept    pieces, in order, that make up the rows as they are now: rows of the commit
 *           (`from` is the first) or new ones; each with the length of its rows' text,
 *           joined by ", ". No row of the commit is in two pieces.
 *
 * So a list from which rows were taken out here and there, and to which others were added, is
 * written as a few pieces and the new rows. There are at most PN_KEPT_PIECES: beyond that the
 * shortest kept ones count as new. Nothing here fails: without memory `on` is unset, and the
 * list must be written whole.
 *
 * As long as nothing changed no memory is taken. An edit costs O(pieces + kept runs, and the
 * rows of those that are cut). Not locked.
 */
#ifndef PN_STORE_KEPT_H
#define PN_STORE_KEPT_H

#include "base/alloc.h"

#include <stdbool.h>
#include <stdint.h>

enum { PN_KEPT_PIECES = 32, PN_KEPT_SEPARATOR = 2 };
#define PN_KEPT_NEW SIZE_MAX

typedef struct pn_kept_piece {
    size_t from; /* row of the commit, or PN_KEPT_NEW */
    size_t rows, bytes;
} pn_kept_piece;

typedef struct pn_kept {
    bool on;
    uint8_t kind;       /* of the list, in the commit */
    size_t rows, bytes; /* in the commit */
    pn_kept_piece *pieces; /* room for PN_KEPT_PIECES; NULL: all rows, as they are there */
    size_t count;
} pn_kept;

/* The commit has the list as it is. */
void pn_kept_begin(pn_kept *k, uint8_t kind, size_t rows, size_t bytes);
void pn_kept_clear(pn_kept *k, const pn_alloc *alloc); /* off */
/* The pieces: in k, or the only one, put into *one. */
const pn_kept_piece *pn_kept_pieces(const pn_kept *k, pn_kept_piece *one, size_t *count);

/* New rows at the end of a list that has `now`. */
void pn_kept_append(pn_kept *k, const pn_alloc *alloc, size_t now, size_t rows, size_t bytes);

/* The list made anew, front to back, of rows that it has, in their order, and of new ones.
 * lens: the lengths of the rows that it has. */
typedef struct pn_kept_edit {
    const pn_kept *old;
    const uint32_t *lens;
    size_t piece, row; /* of old: the piece that is looked at, and its first row in the list */
    pn_kept_piece pieces[PN_KEPT_PIECES];
    size_t count;
} pn_kept_edit;

void pn_kept_edit_begin(pn_kept_edit *e, const pn_kept *k, const uint32_t *lens);
void pn_kept_edit_keep(pn_kept_edit *e, size_t row, size_t rows);
void pn_kept_edit_add(pn_kept_edit *e, size_t rows, size_t bytes);
void pn_kept_edit_end(const pn_kept_edit *e, pn_kept *k, const pn_alloc *alloc);

#endif
