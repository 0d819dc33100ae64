#include "store/vector_pieces.h"

#include "os/pool.h"
#include "simd/dot.h"

#include <pthread.h>

enum { PIECE = 1024 * 1024 };

typedef struct piece {
    const uint8_t *start, *end;
    const uint8_t *stop; /* behind the last row that was read */
    uint8_t *memory;     /* of its rows */
    size_t rows, read;   /* taken of the matrix, filled */
    pn_buf ids, items;
} piece;

typedef struct pieces {
    pn_vec *v;
    const pn_json_reader *from; /* where they begin; depth and bounds for all */
    uint32_t band;
    pthread_mutex_t lock; /* for the rest, and for taking rows */
    const uint8_t *next;  /* of the text that nobody has taken; NULL: no more pieces */
    piece *all;
    size_t count, cap;
} pieces;

static size_t count_byte(const uint8_t *p, const uint8_t *end, uint8_t c)
{
    size_t n = 0;
    for (; (p = memchr(p, c, (size_t)(end - p))) != NULL; p++) n++;
    return n;
}

/* Behind the first `]` that is a piece away, or the end of the text. */
static const uint8_t *end_of_piece(const uint8_t *p, const uint8_t *end)
{
    if ((size_t)(end - p) <= PIECE) return end;
    const uint8_t *close = memchr(p + PIECE, ']', (size_t)(end - p) - PIECE);
    return close ? close + 1 : end;
}

/* With the lock: the next piece, or NULL. */
static piece *cut(pieces *all)
{
    if (all->next == NULL || all->next == all->from->end || all->count == all->cap) return NULL;
    const uint8_t *start = all->next, *end = end_of_piece(start, all->from->end);
    size_t rows = count_byte(start, end, '[');
    uint8_t *memory = pn_vec_take_rows(all->v, all->band, rows);
    all->next = memory ? end : NULL;
    if (memory == NULL) return NULL;
    piece *p = &all->all[all->count++];
    *p = (piece){.start = start, .end = end, .stop = start, .memory = memory, .rows = rows};
    pn_buf_init(&p->ids, all->v->alloc);
    pn_buf_init(&p->items, all->v->alloc);
    return p;
}

static piece *take(pieces *all)
{
    pthread_mutex_lock(&all->lock);
    piece *p = cut(all);
    pthread_mutex_unlock(&all->lock);
    return p;
}

static void take_no_more(pieces *all)
{
    pthread_mutex_lock(&all->lock);
    all->next = NULL;
    pthread_mutex_unlock(&all->lock);
}

/* The values as the band holds them; false when they belong into another one. */
static bool put_values(const pn_vec_band *band, const double *values, void *to)
{
    if (pn_dot_fits_f32(values, band->dim) == band->wide) return false;
    if (band->wide) memcpy(to, values, band->dim * sizeof *values);
    else pn_dot_narrow(values, band->dim, to);
    return true;
}

/* One row, or an error for all that is not such a row. */
static pn_status read_row(pieces *all, piece *p, pn_json_reader *r, double *values)
{
    const pn_vec_band *band = &all->v->bands[all->band];
    uint8_t *to = p->memory + p->read * band->stride;
    pn_vec_staged s = {.id_at = p->ids.len, .row = {.data = to, .norm = -1, .band = all->band}};
    pn_json_str id;
    bool more;
    size_t n;
    PN_TRY(pn_json_object_next(r, &id, &more));
    PN_FAIL_IF(!more || p->read == p->rows, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_doubles(r, values, band->dim, &n));
    PN_FAIL_IF(n != band->dim || !put_values(band, values, to), PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_unescape(&id, &p->ids));
    s.id_len = p->ids.len - s.id_at;
    return pn_buf_append(&p->items, &s, sizeof s);
}

static void read_piece(pieces *all, piece *p, double *values)
{
    pn_json_reader r = *all->from;
    r.p = p->start;
    r.end = p->end;
    while (p->stop != p->end && read_row(all, p, &r, values) == PN_OK) {
        p->stop = r.p;
        p->read++;
    }
}

static bool read_through(const piece *p) { return p->stop == p->end && p->read == p->rows; }

static void work(void *ctx, unsigned worker)
{
    (void)worker;
    pieces *all = ctx;
    size_t dim = all->v->bands[all->band].dim;
    double *values = pn_alloc_get(all->v->alloc, dim * sizeof *values);
    if (values == NULL) return;
    for (piece *p; (p = take(all)) != NULL;) {
        read_piece(all, p, values);
        if (!read_through(p)) take_no_more(all);
    }
    pn_alloc_put(all->v->alloc, values);
}

/* A piece's items behind those that are there. A failed row may have left its id. */
static pn_status append(const piece *p, pn_buf *ids, pn_buf *items)
{
    size_t before = ids->len;
    PN_TRY(pn_buf_append(ids, p->ids.data, p->ids.len));
    PN_TRY(pn_buf_reserve(items, p->read * sizeof(pn_vec_staged)));
    const pn_vec_staged *from = (const pn_vec_staged *)(const void *)p->items.data;
    for (size_t i = 0; i < p->read; i++) {
        pn_vec_staged s = from[i];
        s.id_at += before;
        PN_TRY(pn_buf_append(items, &s, sizeof s));
    }
    return PN_OK;
}

/* What counts of the pieces; the rest of their rows is given back. */
static pn_status join(pieces *all, pn_json_reader *r, pn_buf *ids, pn_buf *items)
{
    pn_status s = PN_OK;
    size_t unused = 0;
    bool counts = true;
    for (size_t i = 0; i < all->count; i++) {
        piece *p = &all->all[i];
        if (counts && s == PN_OK) {
            s = append(p, ids, items);
            r->p = p->stop;
            unused += p->rows - p->read;
        } else {
            unused += p->rows;
        }
        counts = counts && read_through(p);
        pn_buf_clear(&p->ids);
        pn_buf_clear(&p->items);
    }
    pn_vec_give_rows_back(all->v, all->band, unused);
    return s;
}

pn_status pn_vec_read_pieces(pn_vec *v, pn_json_reader *r, const pn_vec_row *like, pn_buf *ids, pn_buf *items)
{
    pn_json_reader from = *r;
    size_t cap = (size_t)(r->end - r->p) / PIECE + 1;
    if (pn_vec_band_of(v, like)->dim == 0) return PN_OK;
    pieces all = {.v = v, .from = &from, .band = like->band, .next = r->p, .cap = cap};
    all.all = pn_alloc_zero(v->alloc, cap, sizeof *all.all);
    PN_FAIL_IF(all.all == NULL, PN_ERR_NOMEM);
    pthread_mutex_init(&all.lock, NULL);
    pn_pool_run((unsigned)(cap < PN_POOL_MAX ? cap : PN_POOL_MAX), work, &all);
    pthread_mutex_destroy(&all.lock);
    pn_status s = join(&all, r, ids, items);
    pn_alloc_put(v->alloc, all.all);
    return s;
}
