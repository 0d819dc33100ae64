#include "store/struct_pack.h"

enum { LEN_SIZE = 4, SEPARATOR = 2, MAX_PIECES = 3 };

_Static_assert((int)PN_ROWS_MAX_COLUMNS >= (int)PN_STRUCT_MAX_COLUMNS, "every struct can be written");

/* ---- out ---- */

/* Rows of a column: the text of so many at the front, of the new ones, of so many at the back. */
typedef struct parts {
    size_t front, fresh, back;
    size_t at, bytes; /* of the new ones' text */
} parts;

static size_t text_of_last(const pn_column *c, size_t rows)
{
    size_t bytes = rows ? SEPARATOR * (rows - 1) : 0;
    for (size_t i = c->rows - rows; i < c->rows; i++) bytes += c->lens[i];
    return bytes;
}

/* As many rows of the base as stand, none of them twice. */
static parts parts_of(const pn_column *c, const pn_column_base *base)
{
    size_t fewer = base->rows < c->rows ? base->rows : c->rows;
    parts p = {.front = base->front, .back = base->back};
    size_t back_bytes = base->back_bytes;
    if (p.back > fewer - p.front) {
        p.back = fewer - p.front;
        back_bytes = text_of_last(c, p.back);
    }
    p.fresh = c->rows - p.front - p.back;
    p.at = base->front_bytes + (p.front ? SEPARATOR : 0);
    size_t end = c->text.len - back_bytes - (p.back ? SEPARATOR : 0);
    p.bytes = p.fresh ? end - p.at : 0;
    return p;
}

static parts all_parts(const pn_column *c) { return (parts){.fresh = c->rows, .bytes = c->text.len}; }

/* What the writing of a struct needs for a time. */
typedef struct view {
    pn_rows rows;
    pn_rows_piece pieces[PN_STRUCT_MAX_COLUMNS][MAX_PIECES];
    parts parts[PN_STRUCT_MAX_COLUMNS];
    uint8_t *lens; /* of all new rows */
} view;

static uint8_t *put_lens(const uint32_t *lens, size_t n, uint8_t *to)
{
    for (size_t i = 0; i < n; i++) pn_put_u32(to + LEN_SIZE * i, lens[i]);
    return to + LEN_SIZE * n;
}

static void view_column(view *v, const pn_struct *s, size_t i, uint8_t **lens)
{
    const pn_column *c = &s->columns[i];
    const parts *p = &v->parts[i];
    pn_rows_piece *to = v->pieces[i];
    size_t base = v->rows.change ? c->saved.rows : 0, n = 0;
    if (p->front) to[n++] = (pn_rows_piece){.keeps = true, .from = 0, .count = p->front};
    if (p->fresh) {
        to[n++] = (pn_rows_piece){.count = p->fresh, .lens = *lens, .text = {c->text.data + p->at, p->bytes}};
        *lens = put_lens(c->lens + p->front, p->fresh, *lens);
    }
    if (p->back) to[n++] = (pn_rows_piece){.keeps = true, .from = base - p->back, .count = p->back};
    v->rows.columns[i] = (pn_rows_column){pn_buf_view(&c->name), c->kind, base, c->rows, to, n};
}

static pn_status write_view(view *v, const pn_struct *s, pn_buf *out)
{
    size_t fresh = 0;
    for (size_t i = 0; i < s->count; i++) fresh += v->parts[i].fresh;
    uint8_t *lens = pn_alloc_get(s->alloc, fresh * LEN_SIZE + 1), *next = lens;
    PN_FAIL_IF(lens == NULL, PN_ERR_NOMEM);
    v->rows.alloc = s->alloc;
    v->rows.type = pn_buf_view(&s->type);
    v->rows.count = s->count;
    for (size_t i = 0; i < s->count; i++) view_column(v, s, i, &next);
    pn_status status = pn_rows_write(&v->rows, out);
    pn_alloc_put(s->alloc, lens);
    return status;
}

/* Whether the columns can be written as a change, and how much of them is new. */
static bool can_change(const pn_struct *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->columns[i].kind != s->columns[i].saved.kind) return false;
    return s->saved;
}

static bool is_same(const pn_struct *s, const view *v)
{
    for (size_t i = 0; i < s->count; i++)
        if (v->parts[i].fresh || s->columns[i].rows != s->columns[i].saved.rows) return false;
    return true;
}

static void plan(view *v, const pn_struct *s, bool whole)
{
    size_t fresh = 0, all = 0;
    v->rows.change = !whole && can_change(s);
    for (size_t i = 0; i < s->count && v->rows.change; i++) {
        v->parts[i] = parts_of(&s->columns[i], &s->columns[i].saved);
        fresh += v->parts[i].bytes;
        all += s->columns[i].text.len;
    }
    if (v->rows.change && fresh <= all / 2) return;
    v->rows.change = false;
    for (size_t i = 0; i < s->count; i++) v->parts[i] = all_parts(&s->columns[i]);
}

pn_status pn_struct_gather(pn_struct *s, bool whole, pn_buf *out, pn_value_form *form, bool *same)
{
    view v = {.rows = {.alloc = NULL}};
    plan(&v, s, whole);
    *form = v.rows.change ? PN_FORM_CHANGE : PN_FORM_STRUCT;
    *same = v.rows.change && is_same(s, &v);
    if (!*same) PN_TRY(write_view(&v, s, out));
    for (size_t i = 0; i < s->count; i++) s->columns[i].pending = pn_column_base_now(&s->columns[i]);
    s->pending = true;
    return PN_OK;
}

void pn_struct_gathered(pn_struct *s, bool durable)
{
    if (!s->pending) return;
    s->pending = false;
    if (!durable) return;
    s->saved = true;
    for (size_t i = 0; i < s->count; i++) s->columns[i].saved = s->columns[i].pending;
}

/* ---- in ---- */

/* One column's rows, and where their texts begin: made at the first row that is kept. */
typedef struct source {
    const pn_alloc *alloc;
    const pn_rows_column *column;
    size_t *byte;
    size_t left; /* text that may still be kept: no row is kept twice */
} source;

static const pn_rows_piece *rows_of(const pn_rows_column *c) { return c->piece_count ? &c->pieces[0] : NULL; }

static pn_status find_texts(source *from)
{
    const pn_rows_piece *p = rows_of(from->column);
    if (from->byte != NULL || p == NULL) return PN_OK;
    from->byte = pn_alloc_get(from->alloc, (p->count + 1) * sizeof *from->byte);
    PN_FAIL_IF(from->byte == NULL, PN_ERR_NOMEM);
    size_t at = 0;
    for (size_t i = 0; i < p->count; i++) {
        from->byte[i] = at;
        at += pn_get_u32(p->lens + LEN_SIZE * i) + SEPARATOR;
    }
    from->byte[p->count] = at;
    return PN_OK;
}

static pn_status keep_rows(source *from, const pn_rows_piece *kept, pn_column *to, pn_error *err)
{
    if (kept->count == 0) return PN_OK;
    PN_TRY(find_texts(from));
    const pn_rows_piece *p = rows_of(from->column);
    if (p == NULL || kept->from > p->count || kept->count > p->count - kept->from)
        return pn_fail(err, PN_ERR_CORRUPT, 0, "a change keeps a row that is not there");
    const size_t *byte = from->byte + kept->from;
    pn_bytes text = {p->text.ptr + byte[0], byte[kept->count] - byte[0] - SEPARATOR};
    if (text.len > from->left) return pn_fail(err, PN_ERR_CORRUPT, 0, "a change keeps a row twice");
    from->left -= text.len;
    return pn_column_extend(to, kept->count, p->lens + LEN_SIZE * kept->from, text);
}

static pn_status put_pieces(source *from, const pn_rows_column *change, pn_column *to, pn_error *err)
{
    for (size_t i = 0; i < change->piece_count; i++) {
        const pn_rows_piece *p = &change->pieces[i];
        PN_TRY(p->keeps ? keep_rows(from, p, to, err) : pn_column_extend(to, p->count, p->lens, p->text));
    }
    return PN_OK;
}

static pn_status put_column(const pn_alloc *alloc, const pn_rows_column *base, const pn_rows_column *change,
                            pn_column *to, pn_error *err)
{
    const pn_rows_piece *all = rows_of(base);
    source from = {.alloc = alloc, .column = base, .left = all ? all->text.len : 0};
    pn_status s = put_pieces(&from, change ? change : base, to, err);
    pn_alloc_put(alloc, from.byte);
    to->kind = base->kind;
    to->saved = pn_column_base_now(to);
    return s;
}

static const char *misfit(const pn_rows *base, const pn_rows *change)
{
    if (!pn_bytes_equal(base->type, change->type)) return "a change of a struct of another type";
    if (base->count != change->count) return "a change of another number of columns";
    for (size_t i = 0; i < base->count; i++) {
        const pn_rows_column *a = &base->columns[i], *b = &change->columns[i];
        if (!pn_bytes_equal(a->name, b->name) || a->kind != b->kind) return "a change of other columns";
        if (a->rows != b->base_rows) return "a change of another number of rows";
    }
    return NULL;
}

static pn_status put_columns(pn_struct *s, const pn_rows *base, const pn_rows *change, pn_error *err)
{
    PN_FAIL_IF(base->count > PN_STRUCT_MAX_COLUMNS, PN_ERR_UNSUPPORTED);
    for (size_t i = 0; i < base->count; i++) {
        const pn_rows_column *c = &base->columns[i];
        PN_TRY(pn_struct_add(s, c->name));
        PN_TRY(put_column(s->alloc, c, change ? &change->columns[i] : NULL, &s->columns[i], err));
    }
    return PN_OK;
}

pn_status pn_struct_unpack(const pn_alloc *alloc, const pn_rows *base, const pn_rows *change, pn_struct **out,
                           pn_error *err)
{
    pn_struct *s;
    const char *what = change ? misfit(base, change) : NULL;
    if (what != NULL) return pn_fail(err, PN_ERR_CORRUPT, 0, what);
    PN_TRY(pn_struct_new(alloc, base->type, &s));
    pn_status status = put_columns(s, base, change, err);
    s->saved = true;
    if (status == PN_OK)
        *out = s;
    else
        pn_struct_free(s, NULL); /* it has no words: no host is needed */
    return status;
}
