/* rows.h: an index struct on disk: columns of rows, and changes of them.
 *
 * The bytes are in FORMAT.md, "Index structs". A struct is whole; a change names, for
 * each column, which rows of the struct before it stay and where new ones stand. Two
 * changes that follow one another combine to one (pn_rows_combine), without the struct
 * that they change: a merge of young segments needs no old one.
 *
 * A view borrows the bytes that it was read from. Reading checks shape and lengths, and
 * that the rows are canonical JSON text (for a dict, "key": value); a key of a dict may
 * occur twice, as it may in a file.
 *
 * Reading takes some 0.6 ns a byte of text. Applying and combining copy the result's text
 * and are O(rows of the first + pieces * log pieces); they cannot grow beyond what the two
 * have together, whatever the bytes say.
 */
#ifndef PN_PERSIST_ROWS_H
#define PN_PERSIST_ROWS_H

#include "base/buffer.h"

enum { PN_ROWS_MAX_COLUMNS = 16 };

typedef struct pn_rows_piece {
    bool keeps;
    size_t from, count;        /* keeps: rows of the base. else count new rows: */
    const uint8_t *lens;       /* u32 each, not aligned */
    pn_bytes text;             /* joined by ", " */
} pn_rows_piece;

typedef struct pn_rows_column {
    pn_bytes name;
    uint8_t kind;              /* 0 value, 1 list, 2 dict */
    size_t base_rows, rows;    /* a whole struct: base_rows 0 and one piece of new rows */
    pn_rows_piece *pieces;
    size_t piece_count;
} pn_rows_column;

typedef struct pn_rows {
    const pn_alloc *alloc;
    bool change;
    pn_bytes type;
    pn_rows_column columns[PN_ROWS_MAX_COLUMNS];
    size_t count;
} pn_rows;

/* CORRUPT with the reason and the offset. The view is empty (and cleared) on failure. */
pn_status pn_rows_read(const pn_alloc *alloc, pn_bytes bytes, bool change, pn_rows *out, pn_error *err);
void pn_rows_clear(pn_rows *r);

/* Appends the bytes of a view (whose pieces the caller made). Kept pieces that follow
 * one another, and new ones, are joined. INVALID when the pieces do not have `rows` rows, or
 * those of a struct keep; RANGE for a column of 2^32 bytes or more. On failure of this and
 * the next two, out is as it was. */
pn_status pn_rows_write(const pn_rows *r, pn_buf *out);

/* Appends base with the change applied (a struct), or both changes as one. CORRUPT when
 * they do not fit: other columns, other numbers of rows. */
pn_status pn_rows_apply(const pn_rows *base, const pn_rows *change, pn_buf *out, pn_error *err);
pn_status pn_rows_combine(const pn_rows *first, const pn_rows *second, pn_buf *out, pn_error *err);

#endif
