/* segment_flaws.h: a small segment made by hand, with one thing wrong in it.
 *
 * FLAWS lists all that can be wrong, with what the reader says of it; raw_make writes the
 * segment from FORMAT.md's text alone, without the writer, and notes where the flaw is.
 * Checksums fit, save where a wrong one is the flaw. */
#ifndef PN_TESTS_SEGMENT_FLAWS_H
#define PN_TESTS_SEGMENT_FLAWS_H

#include "base/crc32c.h"
#include "codec/mpack_push.h"
#include "persist/segment.h"

#include <stdlib.h>

/* Which step finds it. */
typedef enum flaw_found { BY_OPENING, BY_CHECK, BY_NOBODY } flaw_found;

#define FLAWS(X)                                                                          \
    X(NOTHING_WRONG, BY_NOBODY, "")                                                       \
    X(MORE_ELEMENTS, BY_NOBODY, "")                                                       \
    /* 1 */                                                                               \
    X(FILE_TOO_SHORT, BY_OPENING, "too short for a segment")                              \
    X(HEAD_MAGIC, BY_OPENING, "not a segment")                                            \
    X(HEAD_VERSION, BY_OPENING, "head and tail have different versions")                  \
    X(HEAD_NOT_ZERO, BY_OPENING, "the head is not zero where it must be")                 \
    X(TAIL_CRC, BY_OPENING, "the tail's checksum is wrong")                               \
    X(TAIL_VERSION, BY_OPENING, "head and tail have different versions")                  \
    X(TAIL_NOT_ZERO, BY_OPENING, "the tail is not zero where it must be")                 \
    X(FILE_LENGTH, BY_OPENING, "the file's length is not what its tail says")             \
    /* 2 */                                                                               \
    X(INDEX_IN_HEAD, BY_OPENING, "the index does not lie between head and tail")          \
    X(INDEX_BEYOND, BY_OPENING, "the index does not lie between head and tail")           \
    X(INDEX_LENGTH, BY_OPENING, "the index does not lie between head and tail")           \
    X(INDEX_CRC, BY_OPENING, "the index's checksum is wrong")                             \
    X(INDEX_NO_ARRAY, BY_OPENING, "expected an array")                                    \
    X(INDEX_EMPTY, BY_OPENING, "an array is too short")                                   \
    X(INDEX_GOES_ON, BY_OPENING, "bytes after the last element")                          \
    X(MAP_IN_INDEX, BY_OPENING, "a map, where there are none")                            \
    X(STORES_TOO_MANY, BY_OPENING, "a count beyond the bytes")                            \
    X(STORE_SHORT, BY_OPENING, "an array is too short")                                   \
    X(STORE_NAME_TWICE, BY_OPENING, "a name occurs twice")                                \
    X(STORE_NAME_UTF8, BY_OPENING, "text that is not UTF-8")                              \
    X(STORE_KIND_0, BY_OPENING, "a number out of range")                                  \
    X(STORE_KIND_4, BY_OPENING, "a number out of range")                                  \
    X(STORE_RESET, BY_OPENING, "expected true or false")                                  \
    X(TABLES_TOO_MANY, BY_OPENING, "a count beyond the bytes")                            \
    X(TABLE_SHORT, BY_OPENING, "an array is too short")                                   \
    X(TABLE_WITHOUT_PARTS, BY_OPENING, "an array is too short")                           \
    X(TABLE_NAME_TWICE, BY_OPENING, "a name occurs twice")                                \
    X(TABLE_NAME_UTF8, BY_OPENING, "text that is not UTF-8")                              \
    X(TABLE_TYPE_0, BY_OPENING, "a number out of range")                                  \
    X(TABLE_TYPE_4, BY_OPENING, "a number out of range")                                  \
    X(TABLE_OF_OTHER_KIND, BY_OPENING, "a table that its store's kind does not have")     \
    X(VECTOR_TABLE_NAME, BY_OPENING, "a table that its store's kind does not have")       \
    X(STRING_TABLE_NAME, BY_OPENING, "a table that its store's kind does not have")       \
    X(TEXT_TABLE_NAME, BY_OPENING, "a table that its store's kind does not have")         \
    X(TABLE_RESET_4, BY_OPENING, "a number out of range")                                 \
    X(DROPPED_WITH_ENTRIES, BY_OPENING, "a dropped table has entries")                    \
    X(OP_3, BY_OPENING, "an entry's operation or form is not known")                      \
    X(FORM_4, BY_OPENING, "an entry's operation or form is not known")                    \
    X(OP_HIGH_BITS, BY_OPENING, "an entry's operation or form is not known")              \
    X(CHANGE_THAT_IS_FRESH, BY_OPENING, "an entry's operation or form is not known")      \
    X(REMOVAL_WITH_FORM, BY_OPENING, "an entry's operation or form is not known")         \
    X(ROW_WITH_FORM, BY_OPENING, "an entry's operation or form is not known")             \
    X(STRING_WITH_FORM, BY_OPENING, "an entry's operation or form is not known")          \
    X(ENCODING_0, BY_OPENING, "a number out of range")                                    \
    X(ENCODING_3, BY_OPENING, "a number out of range")                                    \
    X(TEXT_WITH_KEY, BY_OPENING, "a text store has a key")                                \
    X(TEXT_TWICE, BY_OPENING, "a text store has more than its text")                      \
    /* 3 */                                                                               \
    X(BLOCK_IN_HEAD, BY_OPENING, "a block outside of the file")                           \
    X(BLOCK_BEYOND, BY_OPENING, "a block outside of the file")                            \
    X(BLOCK_TOO_LONG, BY_OPENING, "a block outside of the file")                          \
    X(BLOCK_WRAPS, BY_OPENING, "a block outside of the file")                             \
    X(BLOCK_SHORT, BY_OPENING, "an array is too short")                                   \
    X(DATA_TOO_LONG, BY_OPENING, "a block outside of the file")                           \
    X(DATA_IN_HEAD, BY_OPENING, "a block outside of the file")                            \
    X(RUN_TOO_LONG, BY_OPENING, "a block outside of the file")                            \
    X(N_HUGE, BY_OPENING, "a number out of range")                                        \
    X(N_MORE, BY_OPENING, "a column has not one number for each entry")                   \
    X(KEY_LENS_MORE, BY_OPENING, "a column has not one number for each entry")            \
    X(KEY_LENS_CUT, BY_OPENING, "a column has not one number for each entry")             \
    X(VALUE_LENS_FEWER, BY_OPENING, "a column has not one number for each entry")         \
    X(VALUE_CRCS_FEWER, BY_OPENING, "a column has not one number for each entry")         \
    X(CODES_FEWER, BY_OPENING, "a column has not one number for each entry")              \
    X(STRING_LENS_CUT, BY_OPENING, "a column of lengths is cut short")                    \
    X(KEY_BEYOND, BY_OPENING, "a length beyond its block")                                \
    X(KEYS_LEFT_OVER, BY_OPENING, "lengths that do not add up to their block")            \
    X(VALUE_BEYOND, BY_OPENING, "a length beyond its block")                              \
    X(VALUES_LEFT_OVER, BY_OPENING, "lengths that do not add up to their block")          \
    X(STRING_BEYOND, BY_OPENING, "a length beyond its block")                             \
    X(STRINGS_LEFT_OVER, BY_OPENING, "lengths that do not add up to their block")         \
    X(REMOVED_VALUE, BY_OPENING, "a removed key has a value")                             \
    X(REMOVED_CRC, BY_OPENING, "a removed key has a value")                               \
    X(RUNS_TOO_MANY, BY_OPENING, "a count beyond the bytes")                              \
    X(RUN_SHORT, BY_OPENING, "an array is too short")                                     \
    X(ROWS_MORE, BY_OPENING, "more rows than entries")                                    \
    X(ROWS_HUGE, BY_OPENING, "more rows than entries")                                    \
    X(ROWS_FEWER, BY_OPENING, "fewer rows than entries")                                  \
    X(RUN_LENGTH, BY_OPENING, "a vector block is not as long as its rows")                \
    X(RUN_NOT_ALIGNED, BY_OPENING, "a vector block is not aligned")                       \
    X(BLOCKS_OVERLAP, BY_CHECK, "blocks that overlap")                                    \
    X(BLOCKS_OVERLAP_MUCH, BY_OPENING, "blocks that overlap")                             \
    X(BYTES_BETWEEN, BY_CHECK, "bytes that belong to no block")                           \
    X(BYTES_BEFORE_INDEX, BY_CHECK, "bytes that belong to no block")                      \
    /* 4 */                                                                               \
    X(OPS_CRC, BY_OPENING, "a block's checksum is wrong")                                 \
    X(KEY_LENS_CRC, BY_OPENING, "a block's checksum is wrong")                            \
    X(KEYS_CRC, BY_OPENING, "a block's checksum is wrong")                                \
    X(VALUE_LENS_CRC, BY_OPENING, "a block's checksum is wrong")                          \
    X(VALUE_CRCS_CRC, BY_OPENING, "a block's checksum is wrong")                          \
    X(CODES_CRC, BY_OPENING, "a block's checksum is wrong")                               \
    X(STRING_LENS_CRC, BY_OPENING, "a block's checksum is wrong")                         \
    X(STRINGS_CRC, BY_OPENING, "a block's checksum is wrong")                             \
    X(RUN_CRC, BY_CHECK, "a vector block's checksum is wrong")                            \
    X(VALUE_CRC, BY_CHECK, "a value's checksum is wrong")                                 \
    /* 5 */                                                                               \
    X(KEY_UTF8, BY_OPENING, "text that is not UTF-8")                                     \
    X(KEYS_SPLIT_CHARACTER, BY_OPENING, "text that is not UTF-8")                         \
    X(STRING_UTF8, BY_OPENING, "text that is not UTF-8")                                  \
    X(KEY_TWICE, BY_CHECK, "a key occurs twice in a table")                               \
    X(CODE_BEYOND, BY_OPENING, "a code that no string has")                               \
    X(CODE_OF_NONE, BY_OPENING, "a code that no string has")                              \
    X(CODE_OF_REMOVAL, BY_OPENING, "a code that no string has")                           \
    X(DIMENSION_HUGE, BY_OPENING, "a number out of range")                                \
    /* 6 */                                                                               \
    X(VALUE_NOT_JSON, BY_CHECK, "expected a value")                                       \
    X(VALUE_NOT_CANONICAL, BY_CHECK, "JSON that is not canonical")                        \
    X(VALUE_NOT_MPACK, BY_CHECK, "not MessagePack")                                       \
    X(VALUE_NOT_STRUCT, BY_CHECK, "an array is too short")                                \
    X(STRUCT_ROW_LENGTHS, BY_CHECK, "text behind the last row")                           \
    X(STRUCT_ROW_NOT_CANONICAL, BY_CHECK, "a row that is not canonical JSON")             \
    X(PADDING_NOT_ZERO, BY_CHECK, "the padding of a row is not zero")

typedef enum flaw {
#define X(flaw, by, what) flaw,
    FLAWS(X)
#undef X
    FLAW_COUNT,
    NO_FLAW, /* for a block that no flaw spoils */
} flaw;

typedef struct raw_block {
    uint64_t at, len;
    uint32_t crc;
} raw_block;

typedef struct raw {
    flaw flaw;
    pn_buf file, index;
    uint64_t at;   /* where the flaw is */
    bool in_index; /* counted from there */
    raw_block lens; /* of the keys of the vector table, and the same for its documents */
} raw;

static inline bool raw_is(const raw *r, flaw f) { return r->flaw == f; }

/* Memory runs out in no test of these. */
static inline void raw_must(pn_status s)
{
    if (s != PN_OK) abort();
}

/* If the flaw is f: it is `back` bytes before the end of the file's blocks or the index. */
static inline bool raw_file(raw *r, flaw f, size_t back)
{
    if (raw_is(r, f)) r->at = r->file.len - back;
    return raw_is(r, f);
}

static inline bool raw_here(raw *r, flaw f)
{
    if (raw_is(r, f) && !r->in_index) r->at = r->index.len, r->in_index = true; /* the first, if there are more */
    return raw_is(r, f);
}

/* ---- elements of the index ---- */

static inline void raw_uint(raw *r, uint64_t v) { raw_must(pn_mpack_push_uint(&r->index, v)); }
static inline void raw_text(raw *r, const char *s)
{
    raw_must(pn_mpack_push_text(&r->index, (pn_bytes){(const uint8_t *)s, strlen(s)}));
}
static inline void raw_list(raw *r, size_t n) { raw_must(pn_mpack_push_array(&r->index, n)); }

/* An array to which a later release may add; raw_end ends it. */
static inline void raw_begin(raw *r, size_t n) { raw_list(r, n + raw_is(r, MORE_ELEMENTS) * 2); }
static inline void raw_end(raw *r)
{
    static const uint8_t more[] = {0x92, 0xa1, 'x', 0xcb, 1, 2, 3, 4, 5, 6, 7, 8, 0xc0};
    if (raw_is(r, MORE_ELEMENTS)) raw_must(pn_buf_append(&r->index, more, sizeof more));
}

static inline void raw_put_range(raw *r, raw_block b)
{
    raw_uint(r, b.at);
    raw_uint(r, b.len);
}

static inline void raw_put_block(raw *r, raw_block b)
{
    raw_begin(r, 3);
    raw_put_range(r, b);
    raw_uint(r, b.crc);
    raw_end(r);
}

/* ---- blocks ---- */

static inline raw_block raw_add(raw *r, const void *p, size_t n)
{
    raw_block b = {r->file.len, n, pn_crc32c(0, (pn_bytes){p, n})};
    raw_must(pn_buf_append(&r->file, p, n));
    return b;
}

/* With a wrong checksum if the flaw says so. */
static inline raw_block raw_column(raw *r, flaw crc, const void *p, size_t n)
{
    raw_file(r, crc, 0);
    raw_block b = raw_add(r, p, n);
    b.crc ^= raw_is(r, crc);
    return b;
}

static inline raw_block raw_u32s(raw *r, flaw crc, const uint32_t *v, size_t bytes)
{
    uint8_t column[64];
    for (size_t i = 0; 4 * i < bytes; i++) pn_put_u32(column + 4 * i, v[i]);
    return raw_column(r, crc, column, bytes);
}

/* ---- docstore.json: a table of five values, one with a broken block, an empty one ---- */

enum { PUT_STRUCT = PN_FORM_STRUCT << 2, FRESH_MPACK = PN_ENTRY_FRESH | PN_FORM_MPACK << 2 };

/* [ "t", [ [ "c", 1, 2, bin lens, bin text ] ] ] */
static inline size_t raw_struct(raw *r, uint8_t *to)
{
    static const uint8_t good[] = {0x92, 0xa1, 't', 0x91, 0x95, 0xa1, 'c', 1, 2, 0xc4, 8, 1, 0, 0, 0, 2,
                                   0, 0, 0, 0xc4, 5, '1', ',', ' ', '2', '2'};
    memcpy(to, good, sizeof good);
    if (raw_is(r, VALUE_NOT_STRUCT)) to[0] = 0x91;
    if (raw_is(r, STRUCT_ROW_LENGTHS)) to[15] = 1;
    if (raw_is(r, STRUCT_ROW_NOT_CANONICAL)) to[24] = '0', to[25] = ' ';
    return sizeof good;
}

typedef struct raw_values {
    uint8_t bytes[100];
    size_t len;
    uint32_t lens[5], crcs[5];
} raw_values;

static inline void raw_add_value(raw_values *v, size_t i, const void *p, size_t n)
{
    memcpy(v->bytes + v->len, p, n);
    v->len += n;
    v->lens[i] = (uint32_t)n;
    v->crcs[i] = pn_crc32c(0, (pn_bytes){p, n});
}

static inline raw_values raw_make_values(raw *r)
{
    raw_values v = {.len = 0};
    uint8_t rows[64];
    raw_add_value(&v, 0, raw_is(r, VALUE_NOT_JSON) ? "        " : raw_is(r, VALUE_NOT_CANONICAL) ? "{\"n\":1 }" : "{\"n\": 1}", 8);
    raw_add_value(&v, 1, "", 0);
    raw_add_value(&v, 2, raw_is(r, VALUE_NOT_MPACK) ? "\x91\xc1" : "\x91\x07", 2);
    raw_add_value(&v, 3, rows, raw_struct(r, rows));
    raw_add_value(&v, 4, "[]", 2);
    v.crcs[2] ^= raw_is(r, VALUE_CRC);
    return v;
}

/* Where in the values the flaw of one is found. */
static inline void raw_note_value(raw *r)
{
    size_t first = r->file.len, mpack = first + 8, rows = mpack + 2;
    if (raw_is(r, VALUE_NOT_JSON)) r->at = first + 8;
    if (raw_is(r, VALUE_NOT_CANONICAL)) r->at = first;
    if (raw_is(r, VALUE_CRC)) r->at = mpack;
    if (raw_is(r, VALUE_NOT_MPACK)) r->at = mpack + 1;
    if (raw_is(r, VALUE_NOT_STRUCT)) r->at = rows;
    if (raw_is(r, STRUCT_ROW_LENGTHS)) r->at = rows + 25;
    if (raw_is(r, STRUCT_ROW_NOT_CANONICAL)) r->at = rows + 24;
}

/* How many bytes the flaws give the value that is a removal, and how the first one is. */
static inline void raw_spoil_values(raw *r, raw_values *v)
{
    if (raw_is(r, REMOVED_VALUE)) v->lens[1]++, v->lens[2]--;
    if (raw_is(r, REMOVED_CRC)) v->crcs[1] = 1;
    if (raw_is(r, VALUE_BEYOND)) v->lens[4]++;
    if (raw_is(r, VALUES_LEFT_OVER)) v->lens[4]--;
}

static inline raw_block raw_ops(raw *r)
{
    uint8_t ops[5] = {PN_ENTRY_PUT, PN_ENTRY_REMOVE, FRESH_MPACK, PUT_STRUCT, PN_ENTRY_PUT};
    if (raw_file(r, OP_3, 0)) ops[0] = 3;
    if (raw_file(r, FORM_4, 0)) ops[0] = 4 << 2;
    if (raw_file(r, OP_HIGH_BITS, 0)) ops[0] = 32;
    if (raw_file(r, CHANGE_THAT_IS_FRESH, 0)) ops[0] = PN_ENTRY_FRESH | PN_FORM_CHANGE << 2;
    if (raw_file(r, REMOVAL_WITH_FORM, 0)) ops[0] = PN_ENTRY_REMOVE | PN_FORM_MPACK << 2;
    raw_file(r, N_MORE, 0);
    return raw_column(r, OPS_CRC, ops, 5);
}

/* a, bb, c, é, empty */
static inline raw_block raw_key_lens(raw *r)
{
    uint32_t lens[6] = {1, 2, 1, 2, 0, 0};
    raw_file(r, KEY_LENS_MORE, 0);
    raw_file(r, KEY_LENS_CUT, 0);
    if (raw_is(r, KEY_BEYOND)) lens[4] = 1, r->at = r->file.len + 16;
    if (raw_is(r, KEYS_LEFT_OVER)) lens[3] = 0;
    if (raw_is(r, KEYS_SPLIT_CHARACTER)) lens[3] = 1, lens[4] = 1;
    return raw_u32s(r, KEY_LENS_CRC, lens, raw_is(r, KEY_LENS_MORE) ? 24 : raw_is(r, KEY_LENS_CUT) ? 18 : 20);
}

static inline raw_block raw_keys(raw *r)
{
    uint8_t keys[6] = {'a', 'b', 'b', 'c', 0xc3, 0xa9};
    if (raw_is(r, KEYS_LEFT_OVER)) r->at = r->file.len + 4;
    if (raw_is(r, KEYS_SPLIT_CHARACTER)) r->at = r->file.len + 5;
    if (raw_is(r, KEY_UTF8)) keys[4] = 0xff, r->at = r->file.len + 4;
    if (raw_is(r, KEY_TWICE)) keys[3] = 'a', r->at = r->file.len + 3;
    return raw_column(r, KEYS_CRC, keys, 6);
}

static inline raw_block raw_value_lens(raw *r, const raw_values *v)
{
    if (raw_is(r, REMOVED_VALUE) || raw_is(r, REMOVED_CRC)) r->at = r->file.len + 4;
    if (raw_is(r, VALUE_BEYOND)) r->at = r->file.len + 16;
    raw_file(r, VALUE_LENS_FEWER, 0);
    return raw_u32s(r, VALUE_LENS_CRC, v->lens, raw_is(r, VALUE_LENS_FEWER) ? 16 : 20);
}

static inline void raw_put_ops(raw *r, raw_block ops)
{
    static const struct {
        flaw flaw;
        uint64_t at, len;
    } bad[] = {{BLOCK_IN_HEAD, 63, 5}, {BLOCK_BEYOND, 4000, 0}, {BLOCK_TOO_LONG, 64, 4000}, {BLOCK_WRAPS, 64, UINT64_MAX}};
    if (raw_here(r, BLOCK_SHORT)) {
        raw_list(r, 2);
        raw_put_range(r, ops);
        return;
    }
    for (size_t i = 0; i < 4; i++)
        if (raw_is(r, bad[i].flaw)) {
            ops.at = bad[i].at;
            ops.len = bad[i].len;
            r->at = r->index.len + (i < 2 ? 1 : 2); /* the offset, or the length behind it */
            r->in_index = true;
        }
    raw_put_block(r, ops);
}

static inline void raw_put_data(raw *r, raw_block data)
{
    raw_begin(r, 2);
    if (raw_here(r, DATA_IN_HEAD)) data.at = 0;
    raw_uint(r, data.at);
    if (raw_here(r, DATA_TOO_LONG)) data.len = 4000;
    if (raw_here(r, BLOCKS_OVERLAP_MUCH)) data.len = 380;
    raw_uint(r, data.len);
    raw_end(r);
}

static inline void raw_table_head(raw *r)
{
    raw_here(r, TABLE_SHORT);
    if (raw_is(r, TABLE_SHORT) || raw_is(r, TABLE_WITHOUT_PARTS))
        raw_list(r, raw_is(r, TABLE_SHORT) ? 7 : 9);
    else
        raw_begin(r, 10);
    raw_here(r, TABLE_NAME_UTF8);
    raw_text(r, raw_is(r, TABLE_NAME_UTF8) ? "dat\xff" : "data");
    bool none = raw_here(r, TABLE_TYPE_0), more = raw_here(r, TABLE_TYPE_4);
    raw_here(r, TABLE_OF_OTHER_KIND);
    raw_uint(r, none ? 0 : more ? 4 : raw_is(r, TABLE_OF_OTHER_KIND) ? PN_TABLE_STRINGS : PN_TABLE_VALUES);
    raw_here(r, TABLE_WITHOUT_PARTS); /* shows when the type has been read */
    bool dropped = raw_is(r, DROPPED_WITH_ENTRIES);
    raw_uint(r, raw_here(r, TABLE_RESET_4) ? 4 : dropped ? PN_TABLE_DROPPED : PN_TABLE_KEEPS);
    raw_here(r, DROPPED_WITH_ENTRIES);
    raw_uint(r, raw_here(r, N_HUGE) ? UINT64_MAX : raw_is(r, N_MORE) ? 6 : 5);
}

static inline void raw_table(raw *r)
{
    raw_values v = raw_make_values(r);
    raw_note_value(r);
    raw_block data = raw_add(r, v.bytes, v.len);
    raw_file(r, VALUES_LEFT_OVER, 1);
    raw_spoil_values(r, &v);
    raw_table_head(r);
    raw_put_ops(r, raw_ops(r));
    raw_put_block(r, raw_key_lens(r));
    raw_put_block(r, raw_keys(r));
    raw_put_block(r, raw_value_lens(r, &v));
    raw_file(r, VALUE_CRCS_FEWER, 0);
    raw_put_block(r, raw_u32s(r, VALUE_CRCS_CRC, v.crcs, raw_is(r, VALUE_CRCS_FEWER) ? 16 : 20));
    raw_put_data(r, data);
    raw_end(r);
}

static inline void raw_empty_table(raw *r, const char *name, pn_table_reset reset)
{
    raw_block nothing = {64, 0, 0};
    raw_begin(r, 10);
    raw_text(r, name);
    raw_uint(r, PN_TABLE_VALUES);
    raw_uint(r, reset);
    raw_uint(r, 0);
    for (int i = 0; i < 5; i++) raw_put_block(r, nothing);
    raw_put_data(r, nothing);
    raw_end(r);
}

static inline void raw_docs(raw *r)
{
    bool is_short = raw_here(r, STORE_SHORT);
    if (is_short)
        raw_list(r, 3);
    else
        raw_begin(r, 4);
    raw_here(r, STORE_NAME_UTF8);
    raw_text(r, raw_is(r, STORE_NAME_UTF8) ? "doc\xc3" : "docstore.json");
    bool none = raw_here(r, STORE_KIND_0), more = raw_here(r, STORE_KIND_4);
    raw_uint(r, none ? 0 : more ? 4 : PN_STORE_COLLECTIONS);
    if (raw_here(r, STORE_RESET))
        raw_uint(r, 1);
    else
        raw_must(pn_mpack_push_bool(&r->index, false));
    raw_list(r, raw_here(r, TABLES_TOO_MANY) ? 100 : 2);
    raw_table(r);
    if (raw_here(r, TABLE_NAME_TWICE)) r->at += 2; /* the text in the array */
    raw_empty_table(r, raw_is(r, TABLE_NAME_TWICE) ? "data" : "", raw_is(r, TABLE_NAME_TWICE) ? 0 : PN_TABLE_DROPPED);
    raw_end(r);
}

/* ---- a vector store: three rows and a removal; their documents ---- */

/* Rows of 3 and, for the last, 16 numbers. */
static inline void raw_rows(raw *r, raw_block run[2])
{
    uint8_t rows[3 * 64] = {0};
    size_t gap = (size_t)(-r->file.len % 64);
    if (raw_is(r, RUN_NOT_ALIGNED)) gap += 32;
    for (size_t i = 0; i < gap; i++) raw_must(pn_buf_push(&r->file, (uint8_t)(i == 3 && raw_is(r, BYTES_BETWEEN))));
    if (raw_is(r, BYTES_BETWEEN)) r->at = r->file.len - gap + 3;
    raw_file(r, RUN_NOT_ALIGNED, 0);
    raw_file(r, RUN_LENGTH, 0);
    for (int i = 0; i < 3; i++) memset(rows + 64 * i, i + 1, i == 2 ? 64 : 12);
    if (raw_is(r, PADDING_NOT_ZERO)) rows[64 + 50] = 1, r->at = r->file.len + 64 + 12;
    run[0] = raw_column(r, RUN_CRC, rows, 128);
    run[1] = raw_add(r, rows + 128, 64);
}

static inline void raw_put_run(raw *r, uint64_t dim, uint64_t rows, raw_block b)
{
    bool first = rows == 2;
    if (first && raw_here(r, RUN_SHORT)) {
        raw_list(r, 3);
        return;
    }
    raw_begin(r, 4);
    raw_uint(r, first && raw_here(r, DIMENSION_HUGE) ? PN_ROW_MAX_DIM + 1 : dim);
    bool none = first && raw_here(r, ENCODING_0), more = first && raw_here(r, ENCODING_3);
    raw_uint(r, none ? 0 : more ? 3 : PN_ROW_F32);
    if (!first && raw_here(r, ROWS_MORE)) rows++;
    if (first && raw_here(r, ROWS_HUGE)) rows = UINT64_MAX;
    raw_uint(r, rows);
    if (first && raw_is(r, RUN_LENGTH)) b.len -= 64;
    if (first && raw_here(r, RUN_TOO_LONG)) b.len = 4000, r->at += 1 + 2; /* behind the offset in two bytes */
    raw_put_block(r, b);
    raw_end(r);
}

static inline void raw_put_runs(raw *r, const raw_block run[2])
{
    bool many = raw_here(r, RUNS_TOO_MANY), fewer = raw_is(r, ROWS_FEWER);
    raw_list(r, many ? 100 : fewer ? 1 : 2);
    raw_put_run(r, 3, 2, run[0]);
    if (!fewer) raw_put_run(r, 16, 1, run[1]);
    if (raw_here(r, ROWS_FEWER)) r->at -= 5; /* the checksum, read last */
}

static inline void raw_put_keys(raw *r, flaw with_form)
{
    uint8_t ops[4] = {PN_ENTRY_PUT, PN_ENTRY_FRESH, PN_ENTRY_REMOVE, PN_ENTRY_PUT};
    static const uint32_t lens[4] = {1, 1, 1, 1};
    if (raw_file(r, with_form, 0)) ops[0] = PN_FORM_MPACK << 2;
    raw_put_block(r, raw_add(r, ops, 4));
    raw_block b = raw_u32s(r, NO_FLAW, lens, 16);
    bool again = with_form == STRING_WITH_FORM && raw_is(r, BLOCKS_OVERLAP);
    if (again) b = r->lens, r->at = b.at, r->file.len -= 16;
    r->lens = b;
    raw_put_block(r, b);
    raw_put_block(r, raw_add(r, "wxyz", 4));
}

static inline void raw_embeddings(raw *r)
{
    raw_block run[2];
    raw_rows(r, run);
    raw_begin(r, 8);
    if (raw_here(r, VECTOR_TABLE_NAME)) r->at += 1 + 4; /* the type behind it */
    raw_text(r, raw_is(r, VECTOR_TABLE_NAME) ? "rows" : "embedding_dict");
    raw_uint(r, PN_TABLE_VECTORS);
    raw_uint(r, PN_TABLE_FRESH);
    raw_uint(r, 4);
    raw_put_keys(r, ROW_WITH_FORM);
    raw_put_runs(r, run);
    raw_end(r);
}

static inline raw_block raw_codes(raw *r)
{
    uint32_t codes[4] = {0, 1, UINT32_MAX, 0};
    if (raw_is(r, CODE_BEYOND)) codes[1] = 2, r->at = r->file.len + 4;
    if (raw_is(r, CODE_OF_NONE)) codes[1] = UINT32_MAX, r->at = r->file.len + 4;
    if (raw_is(r, CODE_OF_REMOVAL)) codes[2] = 0, r->at = r->file.len + 8;
    raw_file(r, CODES_FEWER, 0);
    return raw_u32s(r, CODES_CRC, codes, raw_is(r, CODES_FEWER) ? 12 : 16);
}

static inline void raw_put_strings(raw *r)
{
    uint32_t lens[2] = {3, 2};
    char text[] = "doc\xc3\xa9";
    raw_file(r, STRING_LENS_CUT, 0);
    if (raw_is(r, STRING_BEYOND)) lens[1] = 3, r->at = r->file.len + 4;
    if (raw_is(r, STRINGS_LEFT_OVER)) lens[1] = 0;
    raw_put_block(r, raw_u32s(r, STRING_LENS_CRC, lens, raw_is(r, STRING_LENS_CUT) ? 7 : 8));
    if (raw_is(r, STRINGS_LEFT_OVER)) r->at = r->file.len + 3;
    if (raw_is(r, STRING_UTF8)) text[4] = 'e', r->at = r->file.len + 3;
    raw_put_block(r, raw_column(r, STRINGS_CRC, text, 5));
}

static inline void raw_documents(raw *r)
{
    raw_begin(r, 10);
    if (raw_here(r, STRING_TABLE_NAME)) r->at += 1 + 13;
    raw_text(r, raw_is(r, STRING_TABLE_NAME) ? "metadata_dict" : "text_id_to_ref_doc_id");
    raw_uint(r, PN_TABLE_STRINGS);
    raw_uint(r, PN_TABLE_EMPTIED);
    raw_uint(r, 4);
    raw_put_keys(r, STRING_WITH_FORM);
    raw_put_block(r, raw_codes(r));
    raw_put_strings(r);
    raw_end(r);
}

static inline void raw_vectors(raw *r)
{
    raw_begin(r, 4);
    if (raw_here(r, STORE_NAME_TWICE)) r->at++;
    raw_text(r, raw_is(r, STORE_NAME_TWICE) ? "docstore.json" : "v");
    raw_uint(r, PN_STORE_VECTORS);
    raw_must(pn_mpack_push_bool(&r->index, true));
    raw_list(r, 2);
    raw_embeddings(r);
    raw_documents(r);
    raw_end(r);
}

/* ---- a text store ---- */

static inline void raw_text_table(raw *r)
{
    static const uint8_t ops[2] = {0};
    bool twice = raw_is(r, TEXT_TWICE);
    uint32_t crc[2] = {pn_crc32c(0, PN_BYTES("{}")), 0}, len[2] = {2, 0}, key[2] = {raw_is(r, TEXT_WITH_KEY), 0};
    raw_block data = raw_add(r, "{}", 2);
    size_t n = twice ? 2 : 1;
    raw_begin(r, 10);
    if (raw_here(r, TEXT_TABLE_NAME)) r->at += 2;
    raw_text(r, raw_is(r, TEXT_TABLE_NAME) ? "t" : "");
    raw_uint(r, PN_TABLE_VALUES);
    raw_uint(r, PN_TABLE_KEEPS);
    raw_here(r, TEXT_TWICE);
    raw_uint(r, n);
    raw_put_block(r, raw_add(r, ops, n));
    raw_put_block(r, raw_u32s(r, NO_FLAW, key, 4 * n));
    raw_file(r, TEXT_WITH_KEY, 0);
    raw_put_block(r, raw_add(r, "k", key[0]));
    raw_put_block(r, raw_u32s(r, NO_FLAW, len, 4 * n));
    raw_put_block(r, raw_u32s(r, NO_FLAW, crc, 4 * n));
    raw_put_data(r, data);
    raw_end(r);
}

static inline void raw_graph(raw *r)
{
    raw_begin(r, 4);
    raw_text(r, "graph_store.json");
    raw_uint(r, PN_STORE_TEXT);
    raw_must(pn_mpack_push_bool(&r->index, false));
    raw_list(r, 1);
    raw_text_table(r);
    raw_end(r);
}

/* ---- the whole ---- */

static inline void raw_head(raw *r)
{
    uint8_t head[64] = {0x89, 'P', 'N', 'S', 'E', 'G', '\r', '\n', 1};
    if (raw_is(r, HEAD_MAGIC)) head[1] = 'p';
    if (raw_is(r, HEAD_VERSION)) head[8] = 2, r->at = 8;
    if (raw_is(r, HEAD_NOT_ZERO)) head[63] = 1, r->at = 12;
    raw_must(pn_buf_append(&r->file, head, sizeof head));
}

static inline void raw_index(raw *r)
{
    if (raw_here(r, INDEX_NO_ARRAY)) raw_uint(r, 1);
    if (raw_here(r, INDEX_EMPTY)) raw_list(r, 0);
    if (raw_here(r, MAP_IN_INDEX)) raw_must(pn_buf_push(&r->index, 0x80));
    raw_begin(r, 1);
    raw_list(r, raw_here(r, STORES_TOO_MANY) ? 300 : 3);
    raw_docs(r);
    raw_vectors(r);
    raw_graph(r);
    raw_end(r);
    if (raw_here(r, INDEX_GOES_ON)) raw_uint(r, 0);
}

static inline void raw_tail(raw *r, uint64_t index_at)
{
    uint8_t tail[64] = {0};
    uint64_t len = r->index.len, size = r->file.len + 64;
    raw_file(r, TAIL_CRC, 0);
    if (raw_file(r, INDEX_IN_HEAD, 0)) len += index_at - 63, index_at = 63;
    if (raw_file(r, INDEX_BEYOND, 0)) index_at = size - 63, len = UINT64_MAX;
    if (raw_file(r, INDEX_LENGTH, 0)) len--;
    if (raw_is(r, FILE_LENGTH)) size++, r->at = r->file.len + 16;
    if (raw_is(r, INDEX_CRC)) r->at = index_at;
    pn_put_u64(tail, index_at);
    pn_put_u64(tail + 8, len);
    pn_put_u64(tail + 16, size);
    pn_put_u32(tail + 24, pn_crc32c(0, pn_buf_view(&r->index)) ^ raw_is(r, INDEX_CRC));
    pn_put_u32(tail + 28, raw_is(r, TAIL_VERSION) ? 2 : 1);
    if (raw_is(r, TAIL_VERSION)) r->at = r->file.len + 28;
    if (raw_is(r, TAIL_NOT_ZERO)) tail[59] = 1, r->at = r->file.len + 32;
    pn_put_u32(tail + 60, pn_crc32c(0, (pn_bytes){tail, 60}) ^ raw_is(r, TAIL_CRC));
    raw_must(pn_buf_append(&r->file, tail, sizeof tail));
}

/* Appends nothing to what the caller owns: r->file is the segment; raw_clear frees it. */
static inline void raw_make(raw *r, flaw f)
{
    *r = (raw){.flaw = f};
    pn_buf_init(&r->file, &pn_alloc_system);
    pn_buf_init(&r->index, &pn_alloc_system);
    raw_head(r);
    raw_index(r);
    if (raw_file(r, BYTES_BEFORE_INDEX, 0)) raw_must(pn_buf_push(&r->file, 1));
    uint64_t index_at = r->file.len;
    if (r->in_index) r->at += index_at;
    raw_must(pn_buf_append(&r->file, r->index.data, r->index.len));
    raw_tail(r, index_at);
    if (raw_is(r, FILE_TOO_SHORT)) r->at = r->file.len = 127;
}

static inline void raw_clear(raw *r)
{
    pn_buf_clear(&r->file);
    pn_buf_clear(&r->index);
}

#endif
