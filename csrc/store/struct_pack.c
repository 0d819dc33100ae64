#include "store/struct_pack.h"

enum { LEN_SIZE = 4, SEPARATOR = PN_KEPT_SEPARATOR };

_Static_assert((int)PN_ROWS_MAX_COLUMNS >= (int)PN_STRUCT_MAX_COLUMNS, "every struct can be written");

/* ---- out ---- */

/* What the writing of a struct needs for a time: pieces, and the lengths of new rows as they
 * are on disk. */
typedef struct view {
    pn_rows rows;
    pn_rows_piece *pieces, *next_piece;
    uint8_t *lens, *next_len;
} view;

/* The column's pieces: all rows are new when the struct is written whole. */
static const pn_kept_piece *pieces_of(const pn_column *c, bool change, pn_kept_piece *one, size_t *count)
{
    if (change) return pn_kept_pieces(&c->saved, one, count);
    *count = 1;
    *one = (pn_kept_piece){PN_KEPT_NEW, c->rows, c->text.len};
    return one;
}

static void view_new(view *v, const pn_column *c, size_t row, size_t byte, size_t rows, size_t bytes)
{
    *v->next_piece++ = (pn_rows_piece){.count = rows, .lens = v->next_len, .text = {c->text.data + byte, bytes}};
    for (size_t i = 0; i < rows; i++, v->next_len += LEN_SIZE) pn_put_u32(v->next_len, c->lens[row + i]);
}

static void view_column(view *v, const pn_column *c)
{
    pn_kept_piece one;
    size_t count, row = 0, byte = 0;
    const pn_kept_piece *p = pieces_of(c, v->rows.change, &one, &count);
    v->rows.columns[v->rows.count++] = (pn_rows_column){
        pn_buf_view(&c->name), c->kind, v->rows.change ? c->saved.rows : 0, c->rows, v->next_piece, count};
    for (size_t i = 0; i < count; i++, p++) {
        if (p->from == PN_KEPT_NEW)
            view_new(v, c, row, byte, p->rows, p->bytes);
        else
            *v->next_piece++ = (pn_rows_piece){.keeps = true, .from = p->from, .count = p->rows};
        row += p->rows;
        byte += p->bytes + PN_KEPT_SEPARATOR;
    }
}

static size_t new_rows(const pn_column *c, bool change, size_t *count, size_t *bytes)
{
    pn_kept_piece one;
    size_t rows = 0;
    const pn_kept_piece *p = pieces_of(c, change, &one, count);
    for (size_t i = 0; i < *count; i++) {
        if (p[i].from != PN_KEPT_NEW) continue;
        rows += p[i].rows;
        *bytes += p[i].bytes;
    }
    return rows;
}

static pn_status view_columns(view *v, const pn_struct *s, pn_buf *out)
{
    v->next_piece = v->pieces;
    v->next_len = v->lens;
    for (size_t i = 0; i < s->count; i++) view_column(v, &s->columns[i]);
    return pn_rows_write(&v->rows, out);
}

static pn_status write_struct(const pn_struct *s, bool change, pn_buf *out)
{
    view v = {.rows = {.alloc = s->alloc, .change = change, .type = pn_buf_view(&s->type)}};
    size_t pieces = 1, rows = 0, bytes = 0;
    for (size_t i = 0, count; i < s->count; i++, pieces += count) rows += new_rows(&s->columns[i], change, &count, &bytes);
    v.pieces = pn_alloc_zero(s->alloc, pieces, sizeof *v.pieces);
    v.lens = pn_alloc_get(s->alloc, rows * LEN_SIZE + 1);
    pn_status status = v.pieces && v.lens ? view_columns(&v, s, out) : PN_ERR_NOMEM;
    pn_alloc_put(s->alloc, v.pieces);
    pn_alloc_put(s->alloc, v.lens);
    return status;
}

/* The last commit has the struct as one of these columns. */
static bool is_saved(const pn_struct *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (!s->columns[i].saved.on || s->columns[i].saved.kind != s->columns[i].kind) return false;
    return s->count > 0;
}

static bool is_same(const pn_struct *s)
{
    for (size_t i = 0; i < s->count; i++) {
        pn_kept_piece one;
        size_t count;
        const pn_column *c = &s->columns[i];
        const pn_kept_piece *p = pn_kept_pieces(&c->saved, &one, &count);
        if (c->rows != c->saved.rows || count > 1 || (count && p->from == PN_KEPT_NEW)) return false;
    }
    return true;
}

static bool is_mostly_new(const pn_struct *s)
{
    size_t bytes = 0, all = 0;
    for (size_t i = 0, count; i < s->count; i++) {
        (void)new_rows(&s->columns[i], true, &count, &bytes);
        all += s->columns[i].text.len;
    }
    return bytes > all / 2;
}

static void begin_pending(pn_struct *s)
{
    for (size_t i = 0; i < s->count; i++) {
        pn_column *c = &s->columns[i];
        pn_kept_clear(&c->pending, s->alloc);
        pn_kept_begin(&c->pending, c->kind, c->rows, c->text.len);
    }
    s->pending = true;
}

pn_status pn_struct_gather(pn_struct *s, bool whole, pn_buf *out, pn_value_form *form, bool *same)
{
    bool saved = !whole && is_saved(s), change = saved && !is_mostly_new(s);
    *same = saved && is_same(s);
    *form = change ? PN_FORM_CHANGE : PN_FORM_STRUCT;
    if (!*same) PN_TRY(write_struct(s, change, out));
    begin_pending(s);
    return PN_OK;
}

static void settle_column(pn_column *c, bool durable)
{
    pn_kept *old = durable ? &c->saved : &c->pending;
    pn_kept_clear(old, c->text.alloc);
    if (durable) c->saved = c->pending;
    c->pending = (pn_kept){.on = false};
}

void pn_struct_gathered(pn_struct *s, bool durable)
{
    if (!s->pending) return;
    s->pending = false;
    for (size_t i = 0; i < s->count; i++) settle_column(&s->columns[i], durable);
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
    if (s == PN_OK) pn_kept_begin(&to->saved, to->kind, to->rows, to->text.len);
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
    if (status == PN_OK)
        *out = s;
    else
        pn_struct_free(s, NULL); /* it has no words: no host is needed */
    return status;
}
