#include "store/vector_json.h"

#include "codec/json_read.h"
#include "codec/json_write.h"
#include "store/vector_pieces.h"

enum { FIRST_VALUES = 4096, HEAD = 256 * 1024 };

/* Keys and values of one member are collected first, so that their bytes can be one
 * blob and the map is sized once. */
typedef pn_vec_staged staged;

typedef struct loader {
    pn_vec *v;
    pn_json_reader r;
    pn_buf bytes;  /* ids and texts */
    pn_buf items;  /* staged */
    pn_buf values; /* double */
    const uint8_t *pieces_from; /* where pieces may be tried again */
    const pn_vec_source *file;    /* of which only the head is in memory yet; NULL: none */
    pn_buf text;                /* what is in memory of a file, and where in the file it begins */
    uint64_t text_at;
} loader;

static pn_status put_str(loader *l, const pn_json_str *s, size_t *at, size_t *len)
{
    size_t before = l->bytes.len;
    if (s->has_escape) PN_TRY(pn_json_unescape(s, &l->bytes));
    else PN_TRY(pn_buf_append(&l->bytes, s->ptr, s->len));
    *at = before;
    *len = l->bytes.len - before;
    return PN_OK;
}

/* Makes room for the longest array that the rest of the text could hold, in steps. */
static pn_status more_values(loader *l)
{
    size_t cap = l->values.cap / sizeof(double);
    size_t most = (size_t)(l->r.end - l->r.p) / 2 + 1;
    PN_FAIL_IF(cap > most, PN_ERR_UNSUPPORTED);
    return pn_buf_reserve(&l->values, cap ? 4 * cap * sizeof(double) : FIRST_VALUES * sizeof(double));
}

static size_t count_of_rows(const loader *l, size_t row_text)
{
    uint64_t rest = l->file ? l->file->size - (uint64_t)(l->r.p - l->r.base) : (uint64_t)(l->r.end - l->r.p);
    return (size_t)(rest / (row_text ? row_text : 1)) + 2;
}

static pn_status read_row(loader *l, staged *s)
{
    PN_FAIL_IF(pn_json_peek(&l->r) != PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    const uint8_t *start = l->r.p;
    size_t n;
    for (;;) {
        pn_status got = pn_json_doubles(&l->r, (double *)(void *)l->values.data, l->values.cap / sizeof(double), &n);
        if (got == PN_OK) break;
        PN_FAIL_IF(got != PN_ERR_UNSUPPORTED, got);
        PN_TRY(more_values(l));
    }
    size_t expected = count_of_rows(l, (size_t)(l->r.p - start));
    return pn_vec_new_row(l->v, (double *)(void *)l->values.data, n, expected, &s->row);
}

static pn_status read_ref(loader *l, staged *s)
{
    PN_FAIL_IF(pn_json_peek(&l->r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    pn_json_str str;
    PN_TRY(pn_json_string(&l->r, &str));
    return put_str(l, &str, &s->text_at, &s->text_len);
}

static pn_status read_meta(loader *l, staged *s)
{
    pn_json_span span;
    PN_TRY(pn_json_skip(&l->r, &span));
    s->text_at = l->bytes.len;
    if (span.canonical) PN_TRY(pn_buf_append(&l->bytes, span.ptr, span.len));
    else PN_TRY(pn_json_canonicalize((pn_bytes){span.ptr, span.len}, l->v->alloc, &l->bytes));
    s->text_len = l->bytes.len - s->text_at;
    return PN_OK;
}

/* The file from `at` on becomes the text. */
static pn_status take_text(loader *l, const pn_vec_source *file, uint64_t at)
{
    uint64_t rest = file->size > at ? file->size - at : 0;
    PN_FAIL_IF(rest > SIZE_MAX / 4, PN_ERR_NOMEM);
    l->text.len = 0;
    l->text_at = at;
    size_t got = 0;
    PN_TRY(pn_buf_reserve(&l->text, (size_t)rest + 1));
    PN_FAIL_IF(pn_file_read_at(file->vfs, file->fd, at, l->text.data, (size_t)rest, &got) != 0, PN_ERR_IO);
    l->text.len = got;
    l->r.base = l->r.p = l->pieces_from = l->text.data;
    l->r.end = l->r.base + got;
    return PN_OK;
}

/* Behind the first row of a file: the rows that are like it, while they are read; then what
 * is left of the text. */
static pn_status read_from_file(loader *l, const staged *s)
{
    const pn_vec_source *file = l->file;
    uint64_t at = (uint64_t)(l->r.p - l->r.base);
    l->file = NULL;
    PN_TRY(pn_vec_read_pieces(l->v, file, &l->r, &at, &s->row, &l->bytes, &l->items));
    return take_text(l, file, at);
}

/* Behind a row: what follows of the same kind, where it is much. After an odd row a piece's
 * worth is read before pieces are tried again. */
static pn_status read_ahead(loader *l, const staged *s)
{
    if (l->file != NULL) return read_from_file(l, s);
    if (l->r.p < l->pieces_from || l->r.end - l->r.p < PN_VEC_PIECES_FROM) return PN_OK;
    uint64_t at = (uint64_t)(l->r.p - l->r.base);
    pn_vec_source text = {.size = (uint64_t)(l->r.end - l->r.base), .memory = l->r.base};
    PN_TRY(pn_vec_read_pieces(l->v, &text, &l->r, &at, &s->row, &l->bytes, &l->items));
    l->r.p = l->r.base + at;
    l->pieces_from = l->r.end - l->r.p < PN_VEC_PIECES_FROM ? l->r.end : l->r.p + PN_VEC_PIECES_FROM;
    return PN_OK;
}

typedef pn_status read_fn(loader *, staged *);

static pn_status read_items(loader *l, read_fn *read)
{
    l->bytes.len = l->items.len = 0;
    PN_FAIL_IF(pn_json_peek(&l->r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&l->r));
    for (;;) {
        pn_json_str id;
        bool more;
        PN_TRY(pn_json_object_next(&l->r, &id, &more));
        if (!more) return PN_OK;
        staged s = {0};
        PN_TRY(put_str(l, &id, &s.id_at, &s.id_len));
        PN_TRY(read(l, &s));
        PN_TRY(pn_buf_append(&l->items, &s, sizeof s));
        if (read == read_row) PN_TRY(read_ahead(l, &s));
    }
}

static pn_status store_item(loader *l, read_fn *read, pn_blob *blob, const staged *s)
{
    const uint8_t *base = pn_blob_view(blob).ptr;
    pn_bytes id = {base + s->id_at, s->id_len}, text = {base + s->text_at, s->text_len};
    if (read == read_row) return pn_vec_adopt_row(l->v, id, blob, &s->row);
    if (read == read_ref) return pn_vec_put_ref(l->v, id, blob, text);
    return pn_vec_put_text(l->v, id, blob, blob, text);
}

static pn_omap *target(loader *l, read_fn *read)
{
    return read == read_row ? &l->v->rows : read == read_ref ? &l->v->refs : &l->v->metas;
}

static pn_status read_member(loader *l, read_fn *read)
{
    PN_TRY(read_items(l, read));
    size_t n = l->items.len / sizeof(staged);
    if (n == 0) return PN_OK;
    PN_TRY(pn_omap_reserve(target(l, read), n));
    pn_blob *blob;
    PN_TRY(pn_blob_take(&l->bytes, &blob));
    pn_status s = PN_OK;
    for (size_t i = 0; i < n && s == PN_OK; i++) s = store_item(l, read, blob, (staged *)(void *)l->items.data + i);
    pn_blob_unref(blob);
    return s;
}

static bool is_key(const pn_json_str *key, pn_bytes name)
{
    return !key->has_escape && pn_bytes_equal((pn_bytes){key->ptr, key->len}, name);
}

/* Which member a key means, as a bit: 1, 2, 4, or 0. */
static unsigned member_of(const pn_json_str *key)
{
    const pn_bytes names[] = {PN_BYTES("embedding_dict"), PN_BYTES("text_id_to_ref_doc_id"), PN_BYTES("metadata_dict")};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (is_key(key, names[i])) return 1u << i;
    return 0;
}

static pn_status read_members(loader *l)
{
    unsigned seen = 0;
    PN_FAIL_IF(pn_json_peek(&l->r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&l->r));
    for (;;) {
        pn_json_str key;
        bool more;
        PN_TRY(pn_json_object_next(&l->r, &key, &more));
        if (!more) return pn_json_end(&l->r);
        unsigned bit = member_of(&key);
        PN_FAIL_IF(bit == 0 || (seen & bit) != 0, PN_ERR_UNSUPPORTED);
        seen |= bit;
        PN_TRY(read_member(l, bit == 1 ? read_row : bit == 2 ? read_ref : read_meta));
    }
}

static void loader_init(loader *l, pn_vec *v)
{
    *l = (loader){.v = v};
    pn_buf_init(&l->bytes, v->alloc);
    pn_buf_init(&l->items, v->alloc);
    pn_buf_init(&l->values, v->alloc);
    pn_buf_init(&l->text, v->alloc);
}

static void begin(loader *l, pn_bytes text)
{
    pn_json_reader_init(&l->r, text);
    l->pieces_from = l->r.p;
}

static pn_status end(loader *l, pn_status s, pn_error *err)
{
    if (s == PN_ERR_RANGE) s = PN_ERR_UNSUPPORTED; /* an integer that no double holds */
    if (s != PN_OK && err != NULL) {
        *err = l->r.error;
        err->offset += l->text_at;
    }
    pn_buf_clear(&l->bytes);
    pn_buf_clear(&l->items);
    pn_buf_clear(&l->values);
    pn_buf_clear(&l->text);
    return s;
}

pn_status pn_vec_load_json(pn_vec *v, pn_bytes text, pn_error *err)
{
    loader l;
    loader_init(&l, v);
    begin(&l, text);
    return end(&l, read_members(&l), err);
}

/* The start of a file of the usual form, with the vectors first, and all that follows. */
static pn_status load_by_head(loader *l, const pn_vec_source *file)
{
    size_t got = 0;
    PN_TRY(pn_buf_reserve(&l->text, HEAD));
    PN_FAIL_IF(pn_file_read_at(file->vfs, file->fd, 0, l->text.data, HEAD, &got) != 0, PN_ERR_IO);
    begin(l, (pn_bytes){l->text.data, got});
    l->file = file;
    return read_members(l);
}

pn_status pn_vec_load_json_file(pn_vec *v, const pn_vfs *vfs, int fd, uint64_t size, pn_error *err)
{
    pn_vec_source file = {.size = size, .vfs = vfs, .fd = fd};
    loader l;
    loader_init(&l, v);
    if (size >= PN_VEC_PIECES_FROM) {
        pn_status s = load_by_head(&l, &file);
        if (l.file == NULL) return end(&l, s, err);
        l.file = NULL; /* the head was not read up to the end of a row */
        pn_vec_clear(v);
    }
    begin(&l, (pn_bytes){NULL, 0});
    pn_status s = take_text(&l, &file, 0);
    return end(&l, s == PN_OK ? read_members(&l) : s, err);
}

/* ---- writing ---- */

static pn_status put_key(pn_buf *out, bool first, pn_bytes key)
{
    if (!first) PN_TRY(PN_BUF_LIT(out, ", "));
    PN_TRY(pn_json_put_string(out, key));
    return PN_BUF_LIT(out, ": ");
}

static pn_status save_rows(const pn_vec *v, pn_buf *out)
{
    size_t pos = 0;
    pn_bytes id;
    void *value;
    for (bool first = true; pn_omap_next(&v->rows, &pos, &id, &value); first = false) {
        const pn_vec_row *row = value;
        const pn_vec_band *band = pn_vec_band_of(v, row);
        PN_TRY(put_key(out, first, id));
        if (band->wide) PN_TRY(pn_json_put_doubles(out, row->data, band->dim));
        else PN_TRY(pn_json_put_floats(out, row->data, band->dim));
    }
    return PN_OK;
}

static pn_status save_refs(const pn_vec *v, pn_buf *out)
{
    size_t pos = 0;
    pn_bytes id;
    void *value;
    for (bool first = true; pn_omap_next(&v->refs, &pos, &id, &value); first = false) {
        PN_TRY(put_key(out, first, id));
        PN_TRY(pn_json_put_string(out, pn_vec_ref_name(v, value)));
    }
    return PN_OK;
}

static pn_status save_metas(const pn_vec *v, const pn_bytes *live, size_t live_count, pn_buf *out)
{
    size_t pos = 0, used = 0;
    pn_bytes id;
    void *value;
    for (bool first = true; pn_omap_next(&v->metas, &pos, &id, &value); first = false) {
        const pn_vec_cell *cell = value;
        pn_bytes text;
        if (cell->blob != NULL) PN_TRY(pn_vec_text(v, cell, &text));
        else {
            PN_FAIL_IF(used == live_count, PN_ERR_INVALID);
            text = live[used++];
        }
        PN_TRY(put_key(out, first, id));
        PN_TRY(pn_buf_append(out, text.ptr, text.len));
    }
    return PN_OK;
}

/* About what the text will take, so that it is written into one block. */
static size_t expected_size(const pn_vec *v)
{
    size_t pos = 0, sum = 128;
    pn_bytes id;
    void *value;
    while (pn_omap_next(&v->rows, &pos, &id, &value))
        sum += id.len + 8 + pn_vec_band_of(v, value)->dim * 23;
    pos = 0;
    while (pn_omap_next(&v->metas, &pos, &id, &value)) sum += 2 * id.len + ((pn_vec_cell *)value)->len + 64;
    return sum;
}

pn_status pn_vec_save_json(const pn_vec *v, const pn_bytes *live, size_t live_count, pn_buf *out)
{
    PN_FAIL_IF(v->unchecked_rows.len != 0, PN_ERR_INVALID);
    PN_TRY(pn_buf_reserve(out, expected_size(v)));
    PN_TRY(PN_BUF_LIT(out, "{\"embedding_dict\": {"));
    PN_TRY(save_rows(v, out));
    PN_TRY(PN_BUF_LIT(out, "}, \"text_id_to_ref_doc_id\": {"));
    PN_TRY(save_refs(v, out));
    PN_TRY(PN_BUF_LIT(out, "}, \"metadata_dict\": {"));
    PN_TRY(save_metas(v, live, live_count, out));
    return PN_BUF_LIT(out, "}}");
}
