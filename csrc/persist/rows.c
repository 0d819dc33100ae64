/* Reading is one pass over the bytes and one over each row's text. Applying and combining
 * are the same thing: the rows that the second keeps are looked up among the pieces of the
 * first, which gives the pieces of the result; a whole struct is one piece. */
#include "persist/rows.h"

#include "codec/json_read.h"
#include "codec/mpack_pull.h"
#include "codec/mpack_push.h"

enum { KIND_VALUE, KIND_LIST, KIND_DICT, MAX_KIND = KIND_DICT };
enum { PIECE_KEPT, PIECE_NEW };
enum { COLUMN_ELEMENTS = 5, PIECE_ELEMENTS = 3, LEN_SIZE = 4, SEPARATOR = 2 };

void pn_rows_clear(pn_rows *r)
{
    for (size_t i = 0; i < r->count; i++) pn_alloc_put(r->alloc, r->columns[i].pieces);
    *r = (pn_rows){.alloc = r->alloc};
}

static size_t row_len(const pn_rows_piece *p, size_t row) { return pn_get_u32(p->lens + row * LEN_SIZE); }

/* ---- reading: the text of rows ---- */

typedef struct reading {
    const pn_alloc *alloc;
    pn_mpack_pull pull;
} reading;

static pn_status refuse(reading *r, const char *what) { return pn_mpack_pull_refuse(&r->pull, what); }

static pn_status refuse_at(reading *r, const uint8_t *at, const char *what)
{
    r->pull.at = at;
    return refuse(r, what);
}

/* What the scan would not call canonical may be it all the same. */
static pn_status check_exactly(reading *r, pn_bytes text)
{
    bool canonical = false;
    pn_status s = pn_json_is_canonical(text, r->alloc, &canonical);
    if (s == PN_ERR_NOMEM || canonical) return s;
    return refuse_at(r, text.ptr, "a row that is not canonical JSON");
}

static pn_status check_value(reading *r, pn_bytes text)
{
    pn_json_reader json;
    pn_json_span span;
    pn_json_reader_init(&json, text);
    if (pn_json_skip(&json, &span) != PN_OK) return refuse_at(r, text.ptr + json.error.offset, json.error.what);
    return span.canonical && span.len == text.len ? PN_OK : check_exactly(r, text);
}

/* "key": value */
static pn_status check_pair(reading *r, pn_bytes text)
{
    pn_json_reader json;
    pn_json_str key;
    pn_json_reader_init(&json, text);
    if (pn_json_string(&json, &key) != PN_OK) return refuse_at(r, text.ptr + json.error.offset, json.error.what);
    size_t at = key.len + 2; /* behind the closing quote, if nothing stands before the other */
    if (key.ptr != text.ptr + 1 || !key.canonical) return refuse_at(r, text.ptr, "a key that is not canonical JSON");
    if (text.len - at < 2 || memcmp(text.ptr + at, ": ", 2) != 0)
        return refuse_at(r, text.ptr + at, "expected a colon and a space behind a key");
    at += 2;
    return check_value(r, (pn_bytes){text.ptr + at, text.len - at});
}

static pn_status check_row(reading *r, uint8_t kind, pn_bytes text)
{
    return kind == KIND_DICT ? check_pair(r, text) : check_value(r, text);
}

static pn_status check_separator(reading *r, pn_bytes text, size_t *at)
{
    const uint8_t *p = text.ptr + *at;
    if (text.len - *at < SEPARATOR || memcmp(p, ", ", SEPARATOR) != 0)
        return refuse_at(r, p, "expected a comma and a space between rows");
    *at += SEPARATOR;
    return PN_OK;
}

/* New rows: their lengths and separators add up to the text, and each is as its kind says. */
static pn_status check_rows(reading *r, uint8_t kind, const pn_rows_piece *p)
{
    size_t at = 0;
    for (size_t i = 0; i < p->count; i++) {
        size_t len = row_len(p, i);
        if (i) PN_TRY(check_separator(r, p->text, &at));
        if (len > p->text.len - at) return refuse_at(r, p->text.ptr + at, "a row beyond the text");
        PN_TRY(check_row(r, kind, (pn_bytes){p->text.ptr + at, len}));
        at += len;
    }
    return at == p->text.len ? PN_OK : refuse_at(r, p->text.ptr + at, "text behind the last row");
}

/* ---- reading: the shape ---- */

static pn_status read_count(reading *r, size_t *out)
{
    uint64_t n;
    PN_TRY(pn_mpack_pull_uint(&r->pull, UINT32_MAX, &n));
    *out = (size_t)n;
    return PN_OK;
}

static pn_status read_new(reading *r, uint8_t kind, pn_rows_piece *p)
{
    pn_bytes lens;
    PN_TRY(pn_mpack_pull_bin(&r->pull, &lens));
    if (lens.len % LEN_SIZE) return refuse(r, "row lengths are cut short");
    *p = (pn_rows_piece){.count = lens.len / LEN_SIZE, .lens = lens.ptr};
    PN_TRY(pn_mpack_pull_bin(&r->pull, &p->text));
    return check_rows(r, kind, p);
}

static pn_status read_kept(reading *r, const pn_rows_column *c, pn_rows_piece *p)
{
    *p = (pn_rows_piece){.keeps = true};
    PN_TRY(read_count(r, &p->from));
    PN_TRY(read_count(r, &p->count));
    bool there = p->from <= c->base_rows && p->count <= c->base_rows - p->from;
    return there ? PN_OK : refuse(r, "a row that the base has not");
}

static pn_status read_piece(reading *r, const pn_rows_column *c, pn_rows_piece *p)
{
    size_t n;
    uint64_t op;
    PN_TRY(pn_mpack_pull_array(&r->pull, PIECE_ELEMENTS, &n));
    PN_TRY(pn_mpack_pull_uint(&r->pull, PIECE_NEW, &op));
    PN_TRY(op == PIECE_KEPT ? read_kept(r, c, p) : read_new(r, c->kind, p));
    return pn_mpack_pull_skip(&r->pull, n - PIECE_ELEMENTS);
}

static pn_status make_pieces(reading *r, pn_rows_column *c, size_t n)
{
    if (n == 0) return PN_OK;
    c->pieces = pn_alloc_zero(r->alloc, n, sizeof *c->pieces);
    return c->pieces == NULL ? PN_ERR_NOMEM : PN_OK;
}

/* The column stands at its pieces, of which there may be none. */
static pn_status read_pieces(reading *r, pn_rows_column *c)
{
    size_t n, rows = 0, kept = 0;
    PN_TRY(pn_mpack_pull_array(&r->pull, 0, &n));
    const uint8_t *at = r->pull.at;
    PN_TRY(make_pieces(r, c, n));
    for (; c->piece_count < n; c->piece_count++) {
        pn_rows_piece *p = &c->pieces[c->piece_count];
        PN_TRY(read_piece(r, c, p));
        if (p->count > c->rows - rows) return refuse_at(r, at, "more rows than the column has");
        rows += p->count;
        if (p->keeps) kept += p->count;
    }
    if (kept > c->base_rows) return refuse_at(r, at, "a row of the base is kept twice");
    return rows == c->rows ? PN_OK : refuse_at(r, at, "fewer rows than the column has");
}

static pn_status read_whole(reading *r, pn_rows_column *c)
{
    PN_TRY(make_pieces(r, c, 1));
    c->piece_count = 1;
    PN_TRY(read_new(r, c->kind, c->pieces));
    return c->pieces->count == c->rows ? PN_OK : refuse(r, "another number of rows than the column has");
}

static pn_status read_column(reading *r, bool change, pn_rows_column *c)
{
    size_t n;
    uint64_t kind;
    PN_TRY(pn_mpack_pull_array(&r->pull, COLUMN_ELEMENTS, &n));
    PN_TRY(pn_mpack_pull_text(&r->pull, &c->name));
    PN_TRY(pn_mpack_pull_uint(&r->pull, MAX_KIND, &kind));
    c->kind = (uint8_t)kind;
    if (change) PN_TRY(read_count(r, &c->base_rows));
    if (change && kind == KIND_VALUE && c->base_rows != 1) return refuse(r, "a value is one row");
    PN_TRY(read_count(r, &c->rows));
    if (kind == KIND_VALUE && c->rows != 1) return refuse(r, "a value is one row");
    PN_TRY(change ? read_pieces(r, c) : read_whole(r, c));
    return pn_mpack_pull_skip(&r->pull, n - COLUMN_ELEMENTS);
}

static pn_status read_rows(reading *r, pn_rows *out)
{
    size_t n, columns;
    PN_TRY(pn_mpack_pull_array(&r->pull, 2, &n));
    PN_TRY(pn_mpack_pull_text(&r->pull, &out->type));
    PN_TRY(pn_mpack_pull_array(&r->pull, 0, &columns));
    if (columns > PN_ROWS_MAX_COLUMNS) return refuse(r, "too many columns");
    while (out->count < columns) PN_TRY(read_column(r, out->change, &out->columns[out->count++]));
    PN_TRY(pn_mpack_pull_skip(&r->pull, n - 2));
    return pn_mpack_pull_end(&r->pull);
}

pn_status pn_rows_read(const pn_alloc *alloc, pn_bytes bytes, bool change, pn_rows *out, pn_error *err)
{
    reading r = {.alloc = alloc};
    pn_mpack_pull_init(&r.pull, bytes, 0);
    *out = (pn_rows){.alloc = alloc, .change = change};
    pn_status s = read_rows(&r, out);
    if (s == PN_OK) return s;
    pn_rows_clear(out);
    if (err != NULL && s == PN_ERR_CORRUPT) *err = r.pull.error;
    return s;
}

/* ---- writing ---- */

/* Pieces [first, end) of a column, written as one; empty ones may be among them. */
typedef struct group {
    bool keeps;
    size_t first, end;
    size_t from, count;
    size_t bytes; /* of the joined text */
} group;

static bool joins(const group *g, const pn_rows_piece *p)
{
    if (g->count == 0 || p->count == 0) return true;
    return g->keeps == p->keeps && (!p->keeps || g->from + g->count == p->from);
}

static void join(group *g, const pn_rows_piece *p)
{
    if (p->count == 0) return;
    if (g->count == 0) {
        g->keeps = p->keeps;
        g->from = p->from;
    }
    if (!p->keeps) g->bytes += p->text.len + (g->count ? SEPARATOR : 0);
    g->count += p->count;
}

/* The next group from piece `first` on; without any rows at the end. */
static group group_at(const pn_rows_column *c, size_t first)
{
    group g = {.first = first, .end = first};
    while (g.end < c->piece_count && joins(&g, &c->pieces[g.end])) join(&g, &c->pieces[g.end++]);
    return g;
}

/* How many groups there are; their rows and their bytes are added to the totals. */
static size_t count_groups(const pn_rows_column *c, size_t *rows, size_t *bytes)
{
    size_t n = 0;
    for (group g = group_at(c, 0); g.count; g = group_at(c, g.end)) {
        n++;
        *rows += g.count;
        *bytes += g.bytes + (g.keeps ? 0 : g.count * LEN_SIZE);
    }
    return n;
}

static pn_status put_lens(const pn_rows_column *c, const group *g, pn_buf *out)
{
    PN_TRY(pn_mpack_push_bin_head(out, g->count * LEN_SIZE));
    for (size_t i = g->first; i < g->end; i++)
        PN_TRY(pn_buf_append(out, c->pieces[i].lens, c->pieces[i].count * LEN_SIZE));
    return PN_OK;
}

static pn_status put_text(const pn_rows_column *c, const group *g, pn_buf *out)
{
    bool some = false;
    PN_TRY(pn_mpack_push_bin_head(out, g->bytes));
    for (size_t i = g->first; i < g->end; i++) {
        const pn_rows_piece *p = &c->pieces[i];
        if (p->count == 0) continue;
        if (some) PN_TRY(PN_BUF_LIT(out, ", "));
        PN_TRY(pn_buf_append(out, p->text.ptr, p->text.len));
        some = true;
    }
    return PN_OK;
}

static pn_status put_new(const pn_rows_column *c, const group *g, pn_buf *out)
{
    PN_TRY(put_lens(c, g, out));
    return put_text(c, g, out);
}

static pn_status put_piece(const pn_rows_column *c, const group *g, pn_buf *out)
{
    PN_TRY(pn_mpack_push_array(out, PIECE_ELEMENTS));
    PN_TRY(pn_mpack_push_uint(out, g->keeps ? PIECE_KEPT : PIECE_NEW));
    if (!g->keeps) return put_new(c, g, out);
    PN_TRY(pn_mpack_push_uint(out, g->from));
    return pn_mpack_push_uint(out, g->count);
}

static pn_status put_pieces(const pn_rows_column *c, size_t groups, pn_buf *out)
{
    PN_TRY(pn_mpack_push_array(out, groups));
    for (group g = group_at(c, 0); g.count; g = group_at(c, g.end)) PN_TRY(put_piece(c, &g, out));
    return PN_OK;
}

static pn_status put_column(const pn_rows_column *c, bool change, pn_buf *out)
{
    size_t rows = 0, bytes = 0, groups = count_groups(c, &rows, &bytes);
    group all = group_at(c, 0);
    PN_FAIL_IF(rows != c->rows || (!change && (groups > 1 || all.keeps)), PN_ERR_INVALID);
    PN_FAIL_IF(bytes > UINT32_MAX, PN_ERR_RANGE); /* no value is that long */
    PN_TRY(pn_buf_reserve(out, bytes));
    PN_TRY(pn_mpack_push_array(out, COLUMN_ELEMENTS));
    PN_TRY(pn_mpack_push_text(out, c->name));
    PN_TRY(pn_mpack_push_uint(out, c->kind));
    if (change) PN_TRY(pn_mpack_push_uint(out, c->base_rows));
    PN_TRY(pn_mpack_push_uint(out, c->rows));
    return change ? put_pieces(c, groups, out) : put_new(c, &all, out);
}

static pn_status put_rows(const pn_rows *r, pn_buf *out)
{
    PN_TRY(pn_mpack_push_array(out, 2));
    PN_TRY(pn_mpack_push_text(out, r->type));
    PN_TRY(pn_mpack_push_array(out, r->count));
    for (size_t i = 0; i < r->count; i++) PN_TRY(put_column(&r->columns[i], r->change, out));
    return PN_OK;
}

pn_status pn_rows_write(const pn_rows *r, pn_buf *out)
{
    size_t before = out->len;
    pn_status s = put_rows(r, out);
    if (s != PN_OK) out->len = before;
    return s;
}

/* ---- one after the other ---- */

/* Where the rows of a column are. */
typedef struct places {
    const pn_rows_column *column;
    size_t *row;   /* by piece: its first row; and the number of rows */
    size_t *fresh; /* by piece: how many new rows stand before it */
    size_t *byte;  /* by new row: where its text begins in its piece */
} places;

static void note_texts(const pn_rows_piece *p, size_t *byte)
{
    size_t at = 0;
    for (size_t i = 0; i < p->count; i++) {
        byte[i] = at;
        at += row_len(p, i) + SEPARATOR;
    }
}

static pn_status find_places(const pn_alloc *alloc, const pn_rows_column *c, places *out)
{
    size_t n = c->piece_count, fresh = 0, row = 0;
    for (size_t i = 0; i < n; i++) fresh += c->pieces[i].keeps ? 0 : c->pieces[i].count;
    *out = (places){.column = c, .row = pn_alloc_zero(alloc, 2 * n + 1 + fresh, sizeof(size_t))};
    PN_FAIL_IF(out->row == NULL, PN_ERR_NOMEM);
    out->fresh = out->row + n + 1;
    out->byte = out->fresh + n;
    fresh = 0;
    for (size_t i = 0; i < n; i++) {
        out->row[i] = row;
        out->fresh[i] = fresh;
        row += c->pieces[i].count;
        if (c->pieces[i].keeps) continue;
        note_texts(&c->pieces[i], out->byte + fresh);
        fresh += c->pieces[i].count;
    }
    out->row[n] = row;
    return PN_OK;
}

/* The piece that has the row, which is one of the column's. */
static size_t piece_of(const places *at, size_t row)
{
    size_t low = 0, high = at->column->piece_count; /* row[low] <= row < row[high] */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (at->row[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* `count` rows, at least one, of piece k from its row `from` on. */
static pn_rows_piece part_of(const places *at, size_t k, size_t from, size_t count)
{
    const pn_rows_piece *p = &at->column->pieces[k];
    if (p->keeps) return (pn_rows_piece){.keeps = true, .from = p->from + from, .count = count};
    const size_t *byte = at->byte + at->fresh[k];
    size_t end = byte[from + count - 1] + row_len(p, from + count - 1);
    return (pn_rows_piece){
        .count = count,
        .lens = p->lens + from * LEN_SIZE,
        .text = {p->text.ptr + byte[from], end - byte[from]},
    };
}

/* The result of a column. Where no row is kept twice there are no more pieces, and no
 * more text, than the two have together. */
typedef struct composing {
    const places *first;
    pn_rows_column *to;
    size_t room, text;
    pn_error *err;
} composing;

static pn_status kept_twice(const composing *w)
{
    return pn_fail(w->err, PN_ERR_CORRUPT, 0, "a change keeps a row twice");
}

static pn_status add_piece(composing *w, pn_rows_piece p)
{
    pn_rows_column *to = w->to;
    if (to->piece_count == w->room || p.text.len > w->text) return kept_twice(w);
    w->text -= p.text.len;
    to->pieces[to->piece_count++] = p;
    return PN_OK;
}

static pn_status add_kept(composing *w, size_t row, size_t count)
{
    const places *at = w->first;
    for (size_t k = count ? piece_of(at, row) : 0; count; k++) {
        size_t left = at->row[k + 1] - row, n = count < left ? count : left;
        if (n) PN_TRY(add_piece(w, part_of(at, k, row - at->row[k], n)));
        row += n;
        count -= n;
    }
    return PN_OK;
}

static size_t text_of(const pn_rows_column *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->piece_count; i++) n += c->pieces[i].text.len;
    return n;
}

static pn_status compose_pieces(const places *first, const pn_rows_column *second, pn_rows_column *to, pn_error *err)
{
    size_t room = first->column->piece_count + second->piece_count, rows = first->row[first->column->piece_count];
    composing w = {first, to, room, text_of(first->column) + text_of(second), err};
    for (size_t i = 0; i < second->piece_count; i++) {
        const pn_rows_piece *p = &second->pieces[i];
        PN_FAIL_IF(p->keeps && (p->from > rows || p->count > rows - p->from), PN_ERR_INVALID);
        PN_TRY(p->keeps ? add_kept(&w, p->from, p->count) : add_piece(&w, *p));
    }
    return PN_OK;
}

static pn_status compose_column(const pn_alloc *alloc, const pn_rows_column *first, const pn_rows_column *second,
                                pn_rows_column *to, pn_error *err)
{
    places at;
    *to = (pn_rows_column){second->name, second->kind, first->base_rows, second->rows, NULL, 0};
    size_t room = first->piece_count + second->piece_count;
    if (room == 0) return PN_OK;
    to->pieces = pn_alloc_zero(alloc, room, sizeof *to->pieces);
    PN_FAIL_IF(to->pieces == NULL, PN_ERR_NOMEM);
    PN_TRY(find_places(alloc, first, &at));
    pn_status s = compose_pieces(&at, second, to, err);
    pn_alloc_put(alloc, at.row);
    return s;
}

static const char *misfit(const pn_rows *first, const pn_rows *second)
{
    if (!pn_bytes_equal(first->type, second->type)) return "a change of a struct of another type";
    if (first->count != second->count) return "a change of another number of columns";
    for (size_t i = 0; i < first->count; i++) {
        const pn_rows_column *a = &first->columns[i], *b = &second->columns[i];
        if (!pn_bytes_equal(a->name, b->name) || a->kind != b->kind) return "a change of other columns";
        if (a->rows != b->base_rows) return "a change of another number of rows";
    }
    return NULL;
}

/* The second, a change, applied to the first, whatever that is. */
static pn_status compose(const pn_rows *first, const pn_rows *second, pn_buf *out, pn_error *err)
{
    const char *what = misfit(first, second);
    if (what != NULL) return pn_fail(err, PN_ERR_CORRUPT, 0, what);
    pn_rows to = {.alloc = first->alloc, .change = first->change, .type = first->type};
    pn_status s = PN_OK;
    for (; s == PN_OK && to.count < first->count; to.count++) {
        size_t i = to.count;
        s = compose_column(to.alloc, &first->columns[i], &second->columns[i], &to.columns[i], err);
    }
    if (s == PN_OK) s = pn_rows_write(&to, out);
    pn_rows_clear(&to);
    return s;
}

pn_status pn_rows_apply(const pn_rows *base, const pn_rows *change, pn_buf *out, pn_error *err)
{
    PN_FAIL_IF(base->change || !change->change, PN_ERR_INVALID);
    return compose(base, change, out, err);
}

pn_status pn_rows_combine(const pn_rows *first, const pn_rows *second, pn_buf *out, pn_error *err)
{
    PN_FAIL_IF(!first->change || !second->change, PN_ERR_INVALID);
    return compose(first, second, out, err);
}
