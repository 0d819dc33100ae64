/* rows_model.h: an index struct as arrays of strings, its bytes, and random changes of it. */
#ifndef PN_TESTS_ROWS_MODEL_H
#define PN_TESTS_ROWS_MODEL_H

#include "codec_check.h"
#include "persist/rows.h"

enum { MODEL_COLUMNS = 3, MODEL_ROWS = 64, MODEL_PIECES = 24 };

typedef struct column_model {
    size_t n;
    char rows[MODEL_ROWS][16]; /* JSON text */
} column_model;

/* A value, a list and a dict. */
typedef struct struct_model {
    column_model columns[MODEL_COLUMNS];
} struct_model;

static inline size_t random_below(uint64_t *rnd, size_t n) { return (size_t)(random_next(rnd) % n); }

static inline void random_row(int kind, uint64_t *rnd, char *to)
{
    unsigned v = (unsigned)random_below(rnd, 1000), width = (unsigned)random_below(rnd, 6);
    if (kind == 2)
        snprintf(to, 16, "\"k%.*s\": %u", (int)width, "-----", v);
    else
        snprintf(to, 16, "\"%.*s%u\"", (int)width, "-----", v);
}

static inline void random_struct(struct_model *m, uint64_t *rnd)
{
    for (int k = 0; k < MODEL_COLUMNS; k++) {
        column_model *c = &m->columns[k];
        c->n = k == 0 ? 1 : random_below(rnd, 12);
        for (size_t i = 0; i < c->n; i++) random_row(k, rnd, c->rows[i]);
    }
}

/* A view whose rows are copied into an arena of fixed size. */
typedef struct made_rows {
    pn_rows view;
    pn_rows_piece pieces[MODEL_COLUMNS][MODEL_PIECES];
    uint8_t arena[8192];
    size_t used;
} made_rows;

static inline void make_begin(made_rows *to, bool change)
{
    static const char *names[MODEL_COLUMNS] = {"index_id", "nodes", "nodes_dict"};
    to->used = 0;
    to->view = (pn_rows){.alloc = &pn_alloc_system, .change = change, .type = PN_BYTES("a_type"), .count = MODEL_COLUMNS};
    for (uint8_t k = 0; k < MODEL_COLUMNS; k++)
        to->view.columns[k] = (pn_rows_column){
            .name = {(const uint8_t *)names[k], strlen(names[k])}, .kind = k, .pieces = to->pieces[k]};
}

static inline void make_kept(made_rows *to, int k, size_t from, size_t count)
{
    pn_rows_column *c = &to->view.columns[k];
    CHECK(c->piece_count < MODEL_PIECES);
    c->pieces[c->piece_count++] = (pn_rows_piece){.keeps = true, .from = from, .count = count};
    c->rows += count;
}

static inline void make_new(made_rows *to, int k, char (*rows)[16], size_t count)
{
    pn_rows_column *c = &to->view.columns[k];
    uint8_t *lens = to->arena + to->used, *text = lens + 4 * count, *p = text;
    CHECK(c->piece_count < MODEL_PIECES && to->used + count * 22 <= sizeof to->arena);
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(rows[i]);
        if (i) memcpy(p, ", ", 2);
        p += i ? 2 : 0;
        memcpy(p, rows[i], n);
        p += n;
        pn_put_u32(lens + 4 * i, (uint32_t)n);
    }
    c->pieces[c->piece_count++] = (pn_rows_piece){.count = count, .lens = lens, .text = {text, (size_t)(p - text)}};
    c->rows += count;
    to->used = (size_t)(p - to->arena);
}

static inline void write_struct(struct_model *m, pn_buf *out)
{
    made_rows made;
    make_begin(&made, false);
    for (int k = 0; k < MODEL_COLUMNS; k++) make_new(&made, k, m->columns[k].rows, m->columns[k].n);
    CHECK_EQ_INT(pn_rows_write(&made.view, out), PN_OK);
}

/* ---- changes ---- */

static inline void append_rows(column_model *c, char (*rows)[16], size_t n)
{
    CHECK(c->n + n <= MODEL_ROWS);
    memcpy(c->rows + c->n, rows, n * 16);
    c->n += n;
}

static inline void change_by_new(made_rows *made, int k, column_model *to, uint64_t *rnd)
{
    char rows[3][16];
    size_t n = k == 0 ? 1 : random_below(rnd, 4);
    for (size_t i = 0; i < n; i++) random_row(k, rnd, rows[i]);
    make_new(made, k, rows, n);
    append_rows(to, rows, n);
}

/* The old rows in up to five parts, some of them left out, now and then in another order. */
static inline void change_column(made_rows *made, int k, column_model *c, uint64_t *rnd)
{
    column_model old = *c;
    size_t parts = 1 + random_below(rnd, 5), ends[6] = {0};
    bool backwards = random_below(rnd, 8) == 0;
    c->n = 0;
    for (size_t i = 1; i <= parts; i++)
        ends[i] = i == parts ? old.n : ends[i - 1] + random_below(rnd, old.n - ends[i - 1] + 1);
    for (size_t i = 0; i < parts; i++) {
        size_t at = backwards ? parts - 1 - i : i;
        size_t count = ends[at + 1] - ends[at];
        if (random_below(rnd, 4) == 0 && c->n < 30) change_by_new(made, k, c, rnd);
        if (random_below(rnd, 4) == 0 || c->n + count > 40) continue;
        make_kept(made, k, ends[at], count);
        append_rows(c, old.rows + ends[at], count);
    }
    if (random_below(rnd, 2) && c->n < 30) change_by_new(made, k, c, rnd);
}

static inline void change_value(made_rows *made, column_model *c, uint64_t *rnd)
{
    if (random_below(rnd, 2)) {
        make_kept(made, 0, 0, 1);
        return;
    }
    c->n = 0;
    change_by_new(made, 0, c, rnd);
}

/* Changes the model and appends the change's bytes. */
static inline void write_change(struct_model *m, uint64_t *rnd, pn_buf *out)
{
    made_rows made;
    make_begin(&made, true);
    for (int k = 0; k < MODEL_COLUMNS; k++) {
        made.view.columns[k].base_rows = m->columns[k].n;
        if (k == 0)
            change_value(&made, &m->columns[k], rnd);
        else
            change_column(&made, k, &m->columns[k], rnd);
    }
    CHECK_EQ_INT(pn_rows_write(&made.view, out), PN_OK);
}

#endif
