/* column.h: metadata filters over columns instead of over text.
 *
 * A filter asks the same key of every row, query after query, and a key has few different
 * values. For each key that was asked for there is a column: the distinct values in the
 * order in which they were met, and for each metadata text (known by its slot, see
 * rowview.h) the number of its value:
 *
 *   codes   by slot   3 2 3 3 4 0 ...      0: not looked at, 1: a long text, read it
 *   values  by code - 2   "c1" | null | 2019 | ...   texts interned, numbers read
 *
 * A query evaluates its filter once a distinct value that it meets (filter.h does it, so
 * the rules are in one place) and looks the rest up.
 *
 * A slot stands for one text and is never given out twice, so what a column says of a
 * slot stays true whatever happens to the table: after changes only slots that are new are
 * looked at. When the view gives out all slots anew, columns start afresh.
 *
 * Memory: 4 bytes a row and column, 40 and its text a distinct value; PN_COLUMN_MAX keys,
 * then the one not used for the longest goes. Guarded by the table's lock.
 */
#ifndef PN_STORE_COLUMN_H
#define PN_STORE_COLUMN_H

#include "store/filter.h"
#include "store/rowview.h"

enum { PN_COLUMN_MAX = 16 };

typedef struct pn_column pn_column;

typedef struct pn_columns {
    const pn_alloc *alloc;
    pn_column *items[PN_COLUMN_MAX];
    size_t count;
    uint64_t tick;
} pn_columns;

void pn_columns_init(pn_columns *c, const pn_alloc *alloc); /* allocates nothing */
void pn_columns_clear(pn_columns *c);

/* What the filters say of each row of the view (which is brought up to date): out has
 * room for v's rows. ASK for rows without a text. */
pn_status pn_columns_eval(pn_columns *c, pn_vec *v, pn_rowview *w, const pn_filter_set *set, pn_buf *scratch,
                          uint8_t *out);

#endif
