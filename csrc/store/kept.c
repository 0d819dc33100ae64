#include "store/kept.h"

#include <string.h>

void pn_kept_begin(pn_kept *k, uint8_t kind, size_t rows, size_t bytes)
{
    *k = (pn_kept){.on = true, .kind = kind, .rows = rows, .bytes = bytes};
}

void pn_kept_clear(pn_kept *k, const pn_alloc *alloc)
{
    pn_alloc_put(alloc, k->pieces);
    *k = (pn_kept){.on = false};
}

const pn_kept_piece *pn_kept_pieces(const pn_kept *k, pn_kept_piece *one, size_t *count)
{
    *count = k->pieces ? k->count : k->rows > 0;
    *one = (pn_kept_piece){0, k->rows, k->bytes};
    return k->pieces ? k->pieces : one;
}

/* ---- putting pieces together ---- */

static bool follows(const pn_kept_piece *a, const pn_kept_piece *b)
{
    if (a->from == PN_KEPT_NEW || b->from == PN_KEPT_NEW) return a->from == b->from;
    return a->from + a->rows == b->from;
}

/* One piece behind another: true when they became one. */
static bool join(pn_kept_piece *a, const pn_kept_piece *b)
{
    if (!follows(a, b)) return false;
    a->rows += b->rows;
    a->bytes += b->bytes + PN_KEPT_SEPARATOR;
    return true;
}

/* The shortest kept piece counts as new; new ones that meet become one. */
static void forget_shortest(pn_kept_edit *e)
{
    size_t shortest = SIZE_MAX, to = 0;
    for (size_t i = 0; i < e->count; i++)
        if (e->pieces[i].from != PN_KEPT_NEW && (shortest == SIZE_MAX || e->pieces[i].bytes < e->pieces[shortest].bytes))
            shortest = i;
    if (shortest != SIZE_MAX) e->pieces[shortest].from = PN_KEPT_NEW;
    for (size_t i = 1; i < e->count; i++)
        if (!join(&e->pieces[to], &e->pieces[i])) e->pieces[++to] = e->pieces[i];
    e->count = to + 1;
}

static void push(pn_kept_edit *e, pn_kept_piece p)
{
    if (e->count && join(&e->pieces[e->count - 1], &p)) return;
    while (e->count == PN_KEPT_PIECES) forget_shortest(e);
    if (e->count && join(&e->pieces[e->count - 1], &p)) return;
    e->pieces[e->count++] = p;
}

/* ---- edits ---- */

void pn_kept_edit_begin(pn_kept_edit *e, const pn_kept *k, const uint32_t *lens)
{
    e->old = k;
    e->lens = lens;
    e->piece = e->row = e->count = 0;
}

static size_t text_of(const uint32_t *lens, size_t rows)
{
    size_t bytes = (rows - 1) * PN_KEPT_SEPARATOR;
    for (size_t i = 0; i < rows; i++) bytes += lens[i];
    return bytes;
}

/* `rows` rows of a piece, from its row `at` on. */
static pn_kept_piece part_of(const pn_kept_edit *e, const pn_kept_piece *p, size_t at, size_t rows)
{
    if (rows == p->rows) return *p;
    size_t from = p->from == PN_KEPT_NEW ? PN_KEPT_NEW : p->from + at;
    return (pn_kept_piece){from, rows, text_of(e->lens + e->row + at, rows)};
}

void pn_kept_edit_keep(pn_kept_edit *e, size_t row, size_t rows)
{
    pn_kept_piece one;
    size_t count;
    const pn_kept_piece *pieces = pn_kept_pieces(e->old, &one, &count);
    while (rows > 0 && e->piece < count) {
        const pn_kept_piece *p = &pieces[e->piece];
        size_t at = row - e->row;
        if (at < p->rows) {
            size_t n = rows < p->rows - at ? rows : p->rows - at;
            push(e, part_of(e, p, at, n));
            row += n;
            rows -= n;
        }
        if (row - e->row < p->rows) return; /* there is more of it */
        e->row += p->rows;
        e->piece++;
    }
}

void pn_kept_edit_add(pn_kept_edit *e, size_t rows, size_t bytes)
{
    if (rows > 0) push(e, (pn_kept_piece){PN_KEPT_NEW, rows, bytes});
}

void pn_kept_edit_end(const pn_kept_edit *e, pn_kept *k, const pn_alloc *alloc)
{
    if (k->pieces == NULL) k->pieces = pn_alloc_get(alloc, sizeof e->pieces);
    if (k->pieces == NULL) {
        pn_kept_clear(k, alloc);
        return;
    }
    memcpy(k->pieces, e->pieces, e->count * sizeof *e->pieces);
    k->count = e->count;
}

void pn_kept_append(pn_kept *k, const pn_alloc *alloc, size_t now, size_t rows, size_t bytes)
{
    pn_kept_edit e;
    if (!k->on || rows == 0) return;
    pn_kept_edit_begin(&e, k, NULL); /* nothing is cut */
    pn_kept_edit_keep(&e, 0, now);
    pn_kept_edit_add(&e, rows, bytes);
    pn_kept_edit_end(&e, k, alloc);
}
