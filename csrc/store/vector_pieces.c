#define _GNU_SOURCE
#include "store/vector_pieces.h"

#include "os/pool.h"
#include "simd/dot.h"

#include <pthread.h>

enum { PIECE = 1024 * 1024 };

typedef struct piece {
    uint64_t at;       /* in the text */
    size_t size, done; /* its length; behind the last row that was read */
    uint8_t *memory;   /* of its rows */
    size_t rows, read; /* taken of the matrix, filled */
    pn_buf ids, items;
} piece;

typedef struct pieces {
    pn_vec *v;
    const pn_vec_source *text;
    uint32_t depth; /* of the readers */
    uint32_t band;
    pthread_mutex_t lock; /* for the rest, and for taking rows */
    bool more;
    uint64_t next; /* of the text that nobody has taken */
    piece *all;
    size_t count, cap;
} pieces;

/* One thread's own. */
typedef struct bench {
    double *values; /* a row */
    uint8_t *block; /* a piece of a file */
} bench;

static size_t count_byte(const uint8_t *p, const uint8_t *end, uint8_t c)
{
    size_t n = 0;
    for (; (p = memchr(p, c, (size_t)(end - p))) != NULL; p++) n++;
    return n;
}

/* The text from `at` on, a piece of it or what there is; empty also when it cannot be read. */
static pn_bytes text_at(const pn_vec_source *text, uint64_t at, uint8_t *block)
{
    size_t n = 0;
    if (text->vfs == NULL) {
        n = text->size - at < PIECE ? (size_t)(text->size - at) : PIECE;
        return (pn_bytes){text->memory + at, n};
    }
    if (pn_file_read_at(text->vfs, text->fd, at, block, PIECE, &n) != 0) n = 0;
    return (pn_bytes){block, n};
}

/* With the lock: the next piece and its bytes, or NULL. */
static piece *cut(pieces *all, uint8_t *block, pn_bytes *bytes)
{
    if (!all->more || all->count == all->cap) return NULL;
    all->more = false;
    *bytes = text_at(all->text, all->next, block);
    const uint8_t *close = bytes->len ? memrchr(bytes->ptr, ']', bytes->len) : NULL;
    if (close == NULL) return NULL;
    bytes->len = (size_t)(close + 1 - bytes->ptr);
    size_t rows = count_byte(bytes->ptr, close, '[');
    uint8_t *memory = pn_vec_take_rows(all->v, all->band, rows);
    if (memory == NULL) return NULL;
    piece *p = &all->all[all->count++];
    *p = (piece){.at = all->next, .size = bytes->len, .memory = memory, .rows = rows};
    pn_buf_init(&p->ids, all->v->alloc);
    pn_buf_init(&p->items, all->v->alloc);
    all->next += bytes->len;
    all->more = true;
    return p;
}

static piece *take(pieces *all, uint8_t *block, pn_bytes *bytes)
{
    pthread_mutex_lock(&all->lock);
    piece *p = cut(all, block, bytes);
    pthread_mutex_unlock(&all->lock);
    return p;
}

static void take_no_more(pieces *all)
{
    pthread_mutex_lock(&all->lock);
    all->more = false;
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

static void read_piece(pieces *all, piece *p, pn_bytes bytes, double *values)
{
    pn_json_reader r;
    pn_json_reader_init(&r, bytes);
    r.depth = all->depth;
    while (p->done != p->size && read_row(all, p, &r, values) == PN_OK) {
        p->done = (size_t)(r.p - r.base);
        p->read++;
    }
}

static bool read_through(const piece *p) { return p->done == p->size && p->read == p->rows; }

static void read_pieces(pieces *all, bench *b)
{
    pn_bytes bytes;
    for (piece *p; (p = take(all, b->block, &bytes)) != NULL;) {
        read_piece(all, p, bytes, b->values);
        if (!read_through(p)) take_no_more(all);
    }
}

static void work(void *ctx, unsigned worker)
{
    (void)worker;
    pieces *all = ctx;
    const pn_alloc *alloc = all->v->alloc;
    bench b = {.values = pn_alloc_get(alloc, all->v->bands[all->band].dim * sizeof *b.values)};
    if (all->text->vfs != NULL) b.block = pn_alloc_get(alloc, PIECE);
    if (b.values != NULL && (b.block != NULL || all->text->vfs == NULL)) read_pieces(all, &b);
    pn_alloc_put(alloc, b.values);
    pn_alloc_put(alloc, b.block);
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
static pn_status join(pieces *all, uint64_t *at, pn_buf *ids, pn_buf *items)
{
    pn_status s = PN_OK;
    size_t unused = 0;
    bool counts = true;
    for (size_t i = 0; i < all->count; i++) {
        piece *p = &all->all[i];
        if (counts && s == PN_OK) {
            s = append(p, ids, items);
            *at = p->at + p->done;
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

pn_status pn_vec_read_pieces(pn_vec *v, const pn_vec_source *text, const pn_json_reader *r, uint64_t *at,
                             const pn_vec_row *like, pn_buf *ids, pn_buf *items)
{
    if (*at >= text->size || pn_vec_band_of(v, like)->dim == 0) return PN_OK;
    size_t cap = (size_t)((text->size - *at) / (PIECE / 2)) + 1;
    pieces all = {.v = v, .text = text, .depth = r->depth, .band = like->band, .more = true, .next = *at, .cap = cap};
    all.all = pn_alloc_zero(v->alloc, cap, sizeof *all.all);
    PN_FAIL_IF(all.all == NULL, PN_ERR_NOMEM);
    pthread_mutex_init(&all.lock, NULL);
    pn_pool_run((unsigned)(cap < PN_POOL_MAX ? cap : PN_POOL_MAX), work, &all);
    pthread_mutex_destroy(&all.lock);
    pn_status s = join(&all, at, ids, items);
    pn_alloc_put(v->alloc, all.all);
    return s;
}
