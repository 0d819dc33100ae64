#include "store/coarse.h"

#include "os/pool.h"
#include "store/scan.h"

#include <math.h>
#include <stdatomic.h>

enum {
    CHUNK = PN_COARSE_CHUNK,
    WORTH = 1 << 20,      /* values of a table */
    SEARCHES = 8,         /* of the same rows before codes are made: they cost about as much */
    MISSES = 3,
    CLAIM = 64,
    FEW = 8,              /* as 1 / FEW of all rows: encoded without waiting */
    MOST_DIM = 1 << 16
};
#define NONE UINT32_MAX

void pn_coarse_init(pn_coarse *c, const pn_alloc *alloc)
{
    *c = (pn_coarse){.alloc = alloc};
    pn_buf_init(&c->free, alloc);
}

void pn_coarse_clear(pn_coarse *c)
{
    for (size_t i = 0; i < c->chunk_count; i++) pn_alloc_put(c->alloc, c->chunks[i]);
    pn_alloc_put(c->alloc, c->chunks);
    pn_alloc_put(c->alloc, c->slots);
    pn_alloc_put(c->alloc, c->entries);
    pn_buf_clear(&c->free);
    pn_coarse_init(c, c->alloc);
}

/* ---- numbers ---- */

static double largest(const double *v, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fabs(v[i]) > most ? fabs(v[i]) : most;
    return most;
}

/* Of less than 2^51. Adding and taking away leaves no fraction, and no call. */
static double nearest(double x)
{
    const double whole = 6755399441055744.0; /* 1.5 * 2^52 */
    return x + whole - whole;
}

/* A bound on a length that was computed as `sum` of squares, as a float: more than all
 * roundings on the way, and those of a norm that scaled the values. */
static float length_bound(double sum) { return (float)(sqrt(sum) * (1 + 1e-6) + 1e-9); }

/* The largest whole number in a query for which no sum leaves an int32. */
static double query_most(size_t dim)
{
    double most = floor(2147483647.0 / 127 / (double)(dim ? dim : 1));
    return most < 4095 ? most : 4095;
}

void pn_coarse_prepare(const double *unit, size_t dim, int16_t *values, pn_coarse_query *out)
{
    double most = query_most(dim), step = largest(unit, dim) / most, sum = 0;
    for (size_t i = 0; i < dim; i++) {
        double x = nearest(unit[i] / step), left = unit[i] - x * step;
        values[i] = (int16_t)x;
        sum += left * left;
    }
    memset(values + dim, 0, (pn_coarse_stride(dim) - dim) * sizeof *values);
    *out = (pn_coarse_query){values, step, length_bound(sum)};
}

/* codes: dim of them are written; the zeros behind stand there. The largest value comes to
 * 127 and some rounding. */
static void encode(const double *values, size_t dim, double norm, int8_t *codes, pn_coarse_entry *entry)
{
    float scale = (float)(largest(values, dim) / norm / 127);
    double to_unit = 1 / norm, to_code = to_unit / scale, sum = 0;
    for (size_t i = 0; i < dim; i++) {
        double x = nearest(values[i] * to_code), left = values[i] * to_unit - x * scale;
        codes[i] = (int8_t)x;
        sum += left * left;
    }
    entry->scale = scale;
    entry->slack = length_bound(sum);
}

/* ---- slots ---- */

static pn_status add_chunk(pn_coarse *c)
{
    int8_t **chunks = pn_alloc_grow(c->alloc, c->chunks, (c->chunk_count + 1) * sizeof *chunks);
    PN_FAIL_IF(chunks == NULL, PN_ERR_NOMEM);
    c->chunks = chunks;
    chunks[c->chunk_count] = pn_alloc_zero(c->alloc, CHUNK, c->stride);
    PN_FAIL_IF(chunks[c->chunk_count] == NULL, PN_ERR_NOMEM);
    c->chunk_count++;
    return PN_OK;
}

static pn_status new_slot(pn_coarse *c, uint32_t *slot)
{
    if (c->free.len != 0) {
        c->free.len -= sizeof *slot;
        memcpy(slot, c->free.data + c->free.len, sizeof *slot);
        return PN_OK;
    }
    if (c->used == c->chunk_count * CHUNK) PN_TRY(add_chunk(c));
    if (c->used == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : CHUNK;
        pn_coarse_entry *entries = pn_alloc_grow(c->alloc, c->entries, cap * sizeof *entries);
        PN_FAIL_IF(entries == NULL, PN_ERR_NOMEM);
        c->entries = entries;
        c->cap = cap;
    }
    *slot = (uint32_t)c->used++;
    return PN_OK;
}

static pn_status give_back(pn_coarse *c, uint32_t slot)
{
    c->entries[slot].data = NULL;
    return pn_buf_append(&c->free, &slot, sizeof slot);
}

/* ---- from listing to listing ---- */

/* The slots of the rows that had codes, NONE for the others; slots of rows that are gone are
 * given back. */
static pn_status match(pn_coarse *c, pn_vec_row *const *rows, size_t n, uint32_t *slots, size_t *missing)
{
    size_t at = 0;
    *missing = 0;
    for (size_t i = 0; i < n; i++) {
        slots[i] = NONE;
        while (rows[i]->coded && at < c->n && slots[i] == NONE) {
            uint32_t slot = c->slots[at++];
            if (c->entries[slot].data == rows[i]->data) slots[i] = slot;
            else PN_TRY(give_back(c, slot));
        }
        *missing += slots[i] == NONE;
    }
    for (; at < c->n; at++) PN_TRY(give_back(c, c->slots[at]));
    return PN_OK;
}

typedef struct encoding {
    pn_coarse *c;
    const pn_vec *v;
    pn_vec_row *const *rows;
    double *values; /* dim for each thread */
    atomic_size_t next;
} encoding;

static void encode_some(void *ctx, unsigned worker)
{
    encoding *e = ctx;
    pn_coarse *c = e->c;
    double *values = e->values + worker * c->dim;
    for (size_t from; (from = atomic_fetch_add_explicit(&e->next, CLAIM, memory_order_relaxed)) < c->n;)
        for (size_t i = from; i < c->n && i < from + CLAIM; i++) {
            pn_vec_row *row = e->rows[i];
            pn_coarse_entry *entry = &c->entries[c->slots[i]];
            if (entry->data != NULL) continue;
            pn_vec_values(e->v, row, values);
            encode(values, c->dim, row->norm, (int8_t *)pn_coarse_codes(c, c->slots[i]), entry);
            entry->data = row->data;
            row->coded = true;
        }
}

static pn_status encode_missing(pn_coarse *c, const pn_vec *v, pn_vec_row *const *rows, size_t missing)
{
    if (missing == 0) return PN_OK;
    for (size_t i = 0; i < c->n; i++) {
        if (c->slots[i] != NONE) continue;
        PN_TRY(new_slot(c, &c->slots[i]));
        c->entries[c->slots[i]].data = NULL;
    }
    unsigned threads = pn_scan_threads(missing, c->dim * sizeof(double));
    encoding e = {.c = c, .v = v, .rows = rows, .values = pn_alloc_get(c->alloc, threads * c->dim * sizeof(double))};
    PN_FAIL_IF(e.values == NULL, PN_ERR_NOMEM);
    pn_pool_run(threads, encode_some, &e);
    pn_alloc_put(c->alloc, e.values);
    return PN_OK;
}

/* PN_ERR_UNSUPPORTED when more than `most` have no codes. */
static pn_status update(pn_coarse *c, const pn_vec *v, pn_vec_row *const *rows, size_t n, size_t most)
{
    size_t missing;
    uint32_t *slots = pn_alloc_get(c->alloc, n * sizeof *slots);
    PN_FAIL_IF(slots == NULL, PN_ERR_NOMEM);
    pn_status s = match(c, rows, n, slots, &missing);
    pn_alloc_put(c->alloc, c->slots);
    c->slots = slots;
    c->n = n;
    PN_TRY(s);
    PN_FAIL_IF(missing > most, PN_ERR_UNSUPPORTED);
    return encode_missing(c, v, rows, missing);
}

static void start_over(pn_coarse *c, size_t dim)
{
    uint64_t listing = c->listing;
    pn_coarse_clear(c);
    c->listing = listing;
    c->dim = dim;
    c->stride = pn_coarse_stride(dim);
}

bool pn_coarse_ready(pn_coarse *c, const pn_vec *v, pn_vec_row *const *rows, size_t n, size_t dim, uint64_t listing)
{
    if (n >= NONE || dim == 0 || dim > MOST_DIM || n < WORTH / dim) return false;
    bool others = c->listing != listing;
    bool kept = others && c->n != 0 && c->dim == dim;
    c->listing = listing;
    if (others && !kept) start_over(c, dim);
    if (c->n != 0 && !others) return true;
    if (!kept && (c->misses >= MISSES || c->searches++ < SEARCHES)) return false;
    if (update(c, v, rows, n, kept ? n / FEW : n) == PN_OK) return true;
    start_over(c, dim);
    return false;
}

void pn_coarse_judge(pn_coarse *c, bool helped)
{
    c->misses = helped ? 0 : c->misses + 1;
    if (c->misses < MISSES) return;
    start_over(c, c->dim);
    c->misses = MISSES;
}
