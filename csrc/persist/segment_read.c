/* Opening a segment.
 *
 * Head, tail and the index's CRC come first; then the index is read once, and each table's
 * columns are checked as it comes by: that they lie in the file, their CRCs, that lengths
 * add up. So what a table hands out afterwards needs no further look, but for the bytes of
 * values and rows. What is allocated is bounded by the bytes of the index and columns. */
#include "base/crc32c.h"
#include "base/omap.h"
#include "base/utf8.h"
#include "codec/mpack_pull.h"
#include "persist/segment_form.h"

/* The fewest bytes that these have in an index: so many of them can be there at most. */
enum { STORE_LEAST = 5, TABLE_LEAST = 17, RUN_LEAST = 8 };

typedef struct opening {
    pn_segment *s;
    pn_bytes file;
    bool stores_only;
    uint64_t room;     /* bytes that blocks can still have, if none overlap */
    pn_mpack_pull r;   /* its error is the opening's */
} opening;

static pn_status corrupt(opening *o, uint64_t offset, const char *what)
{
    return pn_fail(&o->r.error, PN_ERR_CORRUPT, offset, what);
}

static pn_status no_memory(opening *o)
{
    return pn_fail(&o->r.error, PN_ERR_NOMEM, 0, pn_status_text(PN_ERR_NOMEM));
}

static uint64_t offset_of(const opening *o, const uint8_t *p) { return (uint64_t)(p - o->file.ptr); }

/* ---- head and tail ---- */

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0) return false;
    return true;
}

static bool tail_crc_is_right(const uint8_t *tail)
{
    return pn_get_u32(tail + PN_SEGMENT_TAIL_CRC) == pn_crc32c(0, (pn_bytes){tail, PN_SEGMENT_TAIL_CRC});
}

/* Another number is a newer release's only if the tail does not deny it. */
static pn_status check_head(opening *o, const uint8_t *tail)
{
    const uint8_t *head = o->file.ptr;
    if (memcmp(head, PN_SEGMENT_MAGIC, PN_SEGMENT_MAGIC_LEN) != 0) return corrupt(o, 0, "not a segment");
    uint32_t version = pn_get_u32(head + PN_SEGMENT_MAGIC_LEN);
    bool tail_knows = tail_crc_is_right(tail) && pn_get_u32(tail + 28) == PN_SEGMENT_VERSION;
    if (version != PN_SEGMENT_VERSION)
        return tail_knows ? corrupt(o, PN_SEGMENT_MAGIC_LEN, "head and tail have different versions")
                          : pn_fail(&o->r.error, PN_ERR_VERSION, version, "a segment of a version that is not known");
    enum { REST = PN_SEGMENT_MAGIC_LEN + 4 };
    if (!all_zero(head + REST, PN_SEGMENT_HEAD - REST)) return corrupt(o, REST, "the head is not zero where it must be");
    return PN_OK;
}

static pn_status check_tail(opening *o, const uint8_t *tail)
{
    uint64_t at = offset_of(o, tail);
    if (!tail_crc_is_right(tail)) return corrupt(o, at, "the tail's checksum is wrong");
    if (pn_get_u32(tail + 28) != PN_SEGMENT_VERSION) return corrupt(o, at + 28, "head and tail have different versions");
    if (!all_zero(tail + 32, PN_SEGMENT_TAIL_CRC - 32)) return corrupt(o, at + 32, "the tail is not zero where it must be");
    if (pn_get_u64(tail + 16) != o->file.len) return corrupt(o, at + 16, "the file's length is not what its tail says");
    return PN_OK;
}

/* The index begins behind the head and ends where the tail begins. */
static pn_status find_index(opening *o, const uint8_t *tail)
{
    uint64_t at = pn_get_u64(tail), n = pn_get_u64(tail + 8), end = offset_of(o, tail);
    if (at < PN_SEGMENT_HEAD || at > end || n != end - at)
        return corrupt(o, end, "the index does not lie between head and tail");
    pn_bytes index = {o->file.ptr + at, (size_t)n};
    if (pn_crc32c(0, index) != pn_get_u32(tail + 24)) return corrupt(o, at, "the index's checksum is wrong");
    o->s->index_at = at;
    o->room = at - PN_SEGMENT_HEAD;
    pn_mpack_pull_init(&o->r, index, at);
    return PN_OK;
}

static pn_status check_ends(opening *o)
{
    if (o->file.len < PN_SEGMENT_HEAD + PN_SEGMENT_TAIL) return corrupt(o, o->file.len, "too short for a segment");
    const uint8_t *tail = o->file.ptr + o->file.len - PN_SEGMENT_TAIL;
    PN_TRY(check_head(o, tail));
    PN_TRY(check_tail(o, tail));
    o->s->tail_crc = pn_get_u32(tail + PN_SEGMENT_TAIL_CRC);
    return find_index(o, tail);
}

/* ---- blocks ---- */

/* An array's head, refused when its elements, each of `least` bytes, cannot be there. */
static pn_status read_count(opening *o, size_t least, size_t *n)
{
    PN_TRY(pn_mpack_pull_array(&o->r, 0, n));
    return *n <= (size_t)(o->r.end - o->r.p) / least ? PN_OK : pn_mpack_pull_refuse(&o->r, "a count beyond the bytes");
}

/* offset, length. That all blocks together fit keeps opening linear in the file's size. */
static pn_status read_range(opening *o, pn_bytes *out)
{
    uint64_t at, n;
    PN_TRY(pn_mpack_pull_uint(&o->r, UINT64_MAX, &at));
    if (at < PN_SEGMENT_HEAD || at > o->s->index_at) return pn_mpack_pull_refuse(&o->r, "a block outside of the file");
    PN_TRY(pn_mpack_pull_uint(&o->r, UINT64_MAX, &n));
    if (n > o->s->index_at - at) return pn_mpack_pull_refuse(&o->r, "a block outside of the file");
    if (n > o->room) return pn_mpack_pull_refuse(&o->r, "blocks that overlap");
    o->room -= n;
    *out = (pn_bytes){o->file.ptr + at, (size_t)n};
    return PN_OK;
}

/* [offset, length] */
static pn_status read_data(opening *o, pn_bytes *out)
{
    size_t n;
    PN_TRY(pn_mpack_pull_array(&o->r, 2, &n));
    PN_TRY(read_range(o, out));
    return pn_mpack_pull_skip(&o->r, n - 2);
}

/* [offset, length, crc] */
static pn_status read_block(opening *o, pn_bytes *out, uint32_t *crc)
{
    size_t n;
    uint64_t c;
    PN_TRY(pn_mpack_pull_array(&o->r, 3, &n));
    PN_TRY(read_range(o, out));
    PN_TRY(pn_mpack_pull_uint(&o->r, UINT32_MAX, &c));
    *crc = (uint32_t)c;
    return pn_mpack_pull_skip(&o->r, n - 3);
}

/* A block that is checked on opening. */
static pn_status read_column(opening *o, pn_bytes *out)
{
    uint32_t crc;
    PN_TRY(read_block(o, out, &crc));
    return pn_crc32c(0, *out) == crc ? PN_OK : corrupt(o, offset_of(o, out->ptr), "a block's checksum is wrong");
}

/* A column of n u32. */
static pn_status read_u32s(opening *o, size_t n, const uint8_t **out)
{
    pn_bytes b;
    PN_TRY(read_column(o, &b));
    if (b.len % 4 != 0 || b.len / 4 != n)
        return corrupt(o, offset_of(o, b.ptr), "a column has not one number for each entry");
    *out = b.ptr;
    return PN_OK;
}

/* Whether n lengths divide the bytes, each part valid UTF-8. Once the whole is, a part is
 * if it begins at a character. */
static pn_status check_texts(opening *o, const uint8_t *lens, size_t n, pn_bytes bytes)
{
    size_t at = 0, valid = pn_utf8_valid_prefix(bytes, NULL);
    if (valid != bytes.len) return corrupt(o, offset_of(o, bytes.ptr + valid), "text that is not UTF-8");
    for (size_t i = 0; i < n; i++) {
        size_t len = pn_get_u32(lens + 4 * i);
        if (len > bytes.len - at) return corrupt(o, offset_of(o, lens + 4 * i), "a length beyond its block");
        if (len > 0 && (bytes.ptr[at] & 0xc0) == 0x80)
            return corrupt(o, offset_of(o, bytes.ptr + at), "text that is not UTF-8");
        at += len;
    }
    return at == bytes.len ? PN_OK : corrupt(o, offset_of(o, bytes.ptr + at), "lengths that do not add up to their block");
}

/* ---- parts of a table ---- */

static bool is_removal(const pn_segment_table *t, size_t i) { return (t->ops[i] & 3) == PN_ENTRY_REMOVE; }

/* The lengths divide the data; a removal has an empty value and, as all of those, CRC 0. */
static pn_status check_value_lens(opening *o, const pn_segment_table *t)
{
    size_t at = 0;
    for (size_t i = 0; i < t->n; i++) {
        size_t len = pn_get_u32(t->value_lens + 4 * i);
        if (len > t->values_size - at) return corrupt(o, offset_of(o, t->value_lens + 4 * i), "a length beyond its block");
        if (is_removal(t, i) && (len != 0 || pn_get_u32(t->value_crcs + 4 * i) != 0))
            return corrupt(o, offset_of(o, t->value_lens + 4 * i), "a removed key has a value");
        at += len;
    }
    if (at == t->values_size) return PN_OK;
    return corrupt(o, offset_of(o, t->values + at), "lengths that do not add up to their block");
}

static pn_status read_values(opening *o, pn_segment_table *t)
{
    pn_bytes data;
    PN_TRY(read_u32s(o, t->n, &t->value_lens));
    PN_TRY(read_u32s(o, t->n, &t->value_crcs));
    PN_TRY(read_data(o, &data));
    t->values = data.ptr;
    t->values_size = data.len;
    return check_value_lens(o, t);
}

/* [dimension, encoding, rows, block] */
static pn_status read_run(opening *o, size_t most_rows, pn_segment_run *out)
{
    size_t n;
    uint64_t dim, encoding, rows;
    pn_bytes block;
    PN_TRY(pn_mpack_pull_array(&o->r, 4, &n));
    PN_TRY(pn_mpack_pull_uint(&o->r, PN_ROW_MAX_DIM, &dim));
    PN_TRY(pn_mpack_pull_uint(&o->r, PN_ROW_F64, &encoding));
    if (encoding < PN_ROW_F32) return pn_mpack_pull_refuse(&o->r, "a number out of range");
    PN_TRY(pn_mpack_pull_uint(&o->r, UINT64_MAX, &rows));
    if (rows > most_rows) return pn_mpack_pull_refuse(&o->r, "more rows than entries");
    PN_TRY(read_block(o, &block, &out->crc));
    out->dim = (size_t)dim;
    out->encoding = (pn_row_encoding)encoding;
    out->rows = (size_t)rows;
    out->row_size = pn_row_size(out->dim, out->encoding);
    out->data = block.ptr;
    uint64_t want;
    if (__builtin_mul_overflow(rows, (uint64_t)out->row_size, &want) || want != block.len)
        return corrupt(o, offset_of(o, block.ptr), "a vector block is not as long as its rows");
    if (offset_of(o, block.ptr) % PN_ROW_ALIGN != 0)
        return corrupt(o, offset_of(o, block.ptr), "a vector block is not aligned");
    return pn_mpack_pull_skip(&o->r, n - 4);
}

static pn_status read_runs(opening *o, pn_segment_table *t, size_t rows)
{
    size_t n;
    PN_TRY(read_count(o, RUN_LEAST, &n));
    if (n > 0 && (t->runs = pn_alloc_zero(o->s->alloc, n, sizeof *t->runs)) == NULL) return no_memory(o);
    for (; t->run_count < n; t->run_count++) {
        PN_TRY(read_run(o, rows, &t->runs[t->run_count]));
        rows -= t->runs[t->run_count].rows;
    }
    return rows == 0 ? PN_OK : pn_mpack_pull_refuse(&o->r, "fewer rows than entries");
}

static pn_status check_codes(opening *o, const pn_segment_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        uint32_t code = pn_get_u32(t->codes + 4 * i);
        if (is_removal(t, i) ? code != PN_STRING_NONE : code >= t->string_count)
            return corrupt(o, offset_of(o, t->codes + 4 * i), "a code that no string has");
    }
    return PN_OK;
}

/* The strings are few against the entries: their places are worked out once. */
static pn_status place_strings(opening *o, pn_segment_table *t)
{
    size_t at = 0, n = t->string_count;
    if (n == 0) return PN_OK;
    t->string_at = pn_alloc_zero(o->s->alloc, n, sizeof *t->string_at);
    if (t->string_at == NULL) return no_memory(o);
    for (size_t i = 0; i < n; i++) {
        t->string_at[i] = (pn_bytes){t->strings + at, pn_get_u32(t->string_lens + 4 * i)};
        at += t->string_at[i].len;
    }
    return PN_OK;
}

static pn_status read_strings(opening *o, pn_segment_table *t)
{
    pn_bytes lens, strings;
    PN_TRY(read_u32s(o, t->n, &t->codes));
    PN_TRY(read_column(o, &lens));
    if (lens.len % 4 != 0) return corrupt(o, offset_of(o, lens.ptr), "a column of lengths is cut short");
    PN_TRY(read_column(o, &strings));
    t->string_lens = lens.ptr;
    t->string_count = lens.len / 4;
    t->strings = strings.ptr;
    t->strings_size = strings.len;
    PN_TRY(check_texts(o, t->string_lens, t->string_count, strings));
    PN_TRY(check_codes(o, t));
    return place_strings(o, t);
}

/* ---- tables ---- */

static pn_status check_ops(opening *o, const pn_segment_table *t, size_t *removals)
{
    *removals = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (!pn_segment_op_fits(t->type, t->ops[i]))
            return corrupt(o, offset_of(o, t->ops + i), "an entry's operation or form is not known");
        *removals += is_removal(t, i);
    }
    return PN_OK;
}

/* n, ops, key_lens, keys */
static pn_status read_keys(opening *o, uint8_t kind, pn_segment_table *t)
{
    uint64_t n;
    pn_bytes ops, keys;
    PN_TRY(pn_mpack_pull_uint(&o->r, o->s->index_at, &n)); /* each entry has a byte in front of the index */
    if (n > 0 && t->reset == PN_TABLE_DROPPED) return pn_mpack_pull_refuse(&o->r, "a dropped table has entries");
    if (n > 1 && kind == PN_STORE_TEXT) return pn_mpack_pull_refuse(&o->r, "a text store has more than its text");
    t->n = (size_t)n;
    PN_TRY(read_column(o, &ops));
    if (ops.len != t->n) return corrupt(o, offset_of(o, ops.ptr), "a column has not one number for each entry");
    t->ops = ops.ptr;
    PN_TRY(read_u32s(o, t->n, &t->key_lens));
    PN_TRY(read_column(o, &keys));
    t->keys = keys.ptr;
    t->keys_size = keys.len;
    if (keys.len > 0 && kind == PN_STORE_TEXT) return corrupt(o, offset_of(o, keys.ptr), "a text store has a key");
    return check_texts(o, t->key_lens, t->n, keys);
}

/* name, type, reset */
static pn_status read_table_head(opening *o, uint8_t kind, pn_segment_table *t)
{
    uint64_t type, reset;
    PN_TRY(pn_mpack_pull_text(&o->r, &t->name));
    PN_TRY(pn_mpack_pull_uint(&o->r, PN_TABLE_STRINGS, &type));
    if (type < PN_TABLE_VALUES) return pn_mpack_pull_refuse(&o->r, "a number out of range");
    if (!pn_segment_table_fits(kind, t->name, (uint8_t)type))
        return pn_mpack_pull_refuse(&o->r, "a table that its store's kind does not have");
    PN_TRY(pn_mpack_pull_uint(&o->r, PN_TABLE_FRESH, &reset));
    t->type = (uint8_t)type;
    t->reset = (uint8_t)reset;
    return PN_OK;
}

static pn_status read_table(opening *o, uint8_t kind, pn_segment_table *t)
{
    enum { COMMON = 7 };
    size_t n, removals;
    PN_TRY(pn_mpack_pull_array(&o->r, COMMON + 1, &n));
    PN_TRY(read_table_head(o, kind, t));
    size_t parts = t->type == PN_TABLE_VECTORS ? 1 : 3;
    if (n < COMMON + parts) return pn_mpack_pull_refuse(&o->r, "an array is too short");
    PN_TRY(read_keys(o, kind, t));
    PN_TRY(check_ops(o, t, &removals));
    if (t->type == PN_TABLE_VALUES)
        PN_TRY(read_values(o, t));
    else
        PN_TRY(t->type == PN_TABLE_VECTORS ? read_runs(o, t, t->n - removals) : read_strings(o, t));
    return pn_mpack_pull_skip(&o->r, n - COMMON - parts);
}

/* ---- stores ---- */

static pn_status note_name(opening *o, pn_omap *names, pn_bytes name)
{
    void *value;
    bool added;
    if (pn_omap_put(names, name, o->s->blob, &value, &added) != PN_OK) return no_memory(o);
    return added ? PN_OK : corrupt(o, offset_of(o, name.ptr), "a name occurs twice");
}

static pn_status read_tables(opening *o, pn_segment_store *store, pn_omap *names)
{
    size_t n;
    PN_TRY(read_count(o, TABLE_LEAST, &n));
    if (n > 0 && (store->tables = pn_alloc_zero(o->s->alloc, n, sizeof *store->tables)) == NULL) return no_memory(o);
    while (store->table_count < n) {
        pn_segment_table *t = &store->tables[store->table_count++];
        PN_TRY(read_table(o, store->kind, t));
        PN_TRY(note_name(o, names, t->name));
    }
    return PN_OK;
}

/* [name, kind, reset, [table, ...]] */
static pn_status read_store(opening *o, pn_segment_store *store, pn_omap *names)
{
    size_t n;
    uint64_t kind;
    pn_omap table_names;
    PN_TRY(pn_mpack_pull_array(&o->r, 4, &n));
    PN_TRY(pn_mpack_pull_text(&o->r, &store->name));
    PN_TRY(note_name(o, names, store->name));
    PN_TRY(pn_mpack_pull_uint(&o->r, PN_STORE_TEXT, &kind));
    if (kind < PN_STORE_COLLECTIONS) return pn_mpack_pull_refuse(&o->r, "a number out of range");
    store->kind = (uint8_t)kind;
    PN_TRY(pn_mpack_pull_bool(&o->r, &store->reset));
    if (o->stores_only) return pn_mpack_pull_skip(&o->r, n - 3);
    pn_omap_init(&table_names, o->s->alloc, 1);
    pn_status s = read_tables(o, store, &table_names);
    pn_omap_clear(&table_names);
    PN_TRY(s);
    return pn_mpack_pull_skip(&o->r, n - 4);
}

static pn_status read_stores(opening *o, pn_omap *names)
{
    size_t n;
    pn_segment *s = o->s;
    PN_TRY(read_count(o, STORE_LEAST, &n));
    if (n > 0 && (s->stores = pn_alloc_zero(s->alloc, n, sizeof *s->stores)) == NULL) return no_memory(o);
    while (s->store_count < n) PN_TRY(read_store(o, &s->stores[s->store_count++], names));
    return PN_OK;
}

/* [ [store, ...] ] */
static pn_status read_index(opening *o)
{
    size_t n;
    pn_omap names;
    PN_TRY(pn_mpack_pull_array(&o->r, 1, &n));
    pn_omap_init(&names, o->s->alloc, 1);
    pn_status s = read_stores(o, &names);
    pn_omap_clear(&names);
    PN_TRY(s);
    PN_TRY(pn_mpack_pull_skip(&o->r, n - 1));
    return pn_mpack_pull_end(&o->r);
}

/* ---- the whole ---- */

static pn_status open_segment(const pn_alloc *alloc, pn_blob *blob, bool stores_only, pn_segment **out, pn_error *err)
{
    pn_segment *s = pn_alloc_zero(alloc, 1, sizeof *s);
    if (s == NULL) return pn_fail(err, PN_ERR_NOMEM, 0, pn_status_text(PN_ERR_NOMEM));
    s->alloc = alloc;
    s->blob = pn_blob_ref(blob);
    opening o = {.s = s, .file = pn_blob_view(blob), .stores_only = stores_only};
    pn_status status = check_ends(&o);
    if (status == PN_OK) status = read_index(&o);
    if (status != PN_OK) {
        if (err != NULL) *err = o.r.error;
        pn_segment_close(s);
        return status;
    }
    *out = s;
    return PN_OK;
}

pn_status pn_segment_open(const pn_alloc *alloc, pn_blob *blob, pn_segment **out, pn_error *err)
{
    return open_segment(alloc, blob, false, out, err);
}

pn_status pn_segment_peek(const pn_alloc *alloc, pn_blob *blob, pn_segment **out, pn_error *err)
{
    return open_segment(alloc, blob, true, out, err);
}

static void close_store(const pn_alloc *alloc, pn_segment_store *store)
{
    for (size_t i = 0; i < store->table_count; i++) {
        pn_alloc_put(alloc, store->tables[i].runs);
        pn_alloc_put(alloc, store->tables[i].string_at);
    }
    pn_alloc_put(alloc, store->tables);
}

void pn_segment_close(pn_segment *s)
{
    if (s == NULL) return;
    for (size_t i = 0; i < s->store_count; i++) close_store(s->alloc, &s->stores[i]);
    pn_alloc_put(s->alloc, s->stores);
    pn_blob_unref(s->blob);
    pn_alloc_put(s->alloc, s);
}

const pn_segment_store *pn_segment_find(const pn_segment *s, pn_bytes name)
{
    for (size_t i = 0; i < s->store_count; i++)
        if (pn_bytes_equal(s->stores[i].name, name)) return &s->stores[i];
    return NULL;
}

/* ---- entries ---- */

static void take_row(const pn_segment_table *t, pn_segment_entry *e)
{
    if (e->op == PN_ENTRY_REMOVE) {
        e->run = NULL;
        e->row = NULL;
        return;
    }
    while (e->row_at == t->runs[e->run_at].rows) e->run_at++, e->row_at = 0; /* opening has counted the rows */
    e->run = &t->runs[e->run_at];
    e->row = e->run->data + e->row_at++ * e->run->row_size;
}

bool pn_segment_next(const pn_segment_table *t, pn_segment_entry *e)
{
    if (e->next == t->n) return false;
    size_t i = e->i = e->next++;
    e->op = t->ops[i] & 3;
    e->form = t->ops[i] >> 2;
    e->key = (pn_bytes){t->keys + e->key_at, pn_get_u32(t->key_lens + 4 * i)};
    e->key_at += e->key.len;
    if (t->type == PN_TABLE_VECTORS) {
        take_row(t, e);
    } else if (t->type == PN_TABLE_VALUES) {
        e->value = (pn_bytes){t->values + e->value_at, pn_get_u32(t->value_lens + 4 * i)};
        e->crc = pn_get_u32(t->value_crcs + 4 * i);
        e->value_at += e->value.len;
    } else {
        e->value = e->op == PN_ENTRY_REMOVE ? (pn_bytes){NULL, 0} : t->string_at[pn_get_u32(t->codes + 4 * i)];
    }
    return true;
}
