/* segment.h: one commit's changes to the stores of a pack, as an immutable file.
 *
 * FORMAT.md, "The pack", gives the bytes and says what they mean: stores, each with
 * tables, each with entries (put, fresh, remove) that are applied in order.
 *
 * Writing is a stream: values and vector rows go to the sink as they come, so a
 * segment of any size needs memory only for its keys and a few numbers an entry.
 *
 *     pn_segment_writer_new(alloc, sink, ctx, &w)
 *     pn_segment_begin_store(w, name, kind, reset)
 *         pn_segment_begin_table(w, name, type, reset)
 *             pn_segment_put_value / _put_row / _put_string / _remove ...
 *     pn_segment_finish(w, ...)             also without any store
 *     pn_segment_writer_free(w)             on every way out
 *
 * Reading checks everything that FORMAT.md says is checked on opening (down to CRCs of the
 * columns, sums of lengths, UTF-8 of keys; not whether a key occurs twice); after that the
 * columns can be walked without further checks, except that values and vector blocks
 * must be checked (pn_segment_check_value, pn_segment_check_run) before their bytes are
 * used. A segment keeps its blob; what it hands out points into it.
 *
 * One thread a writer; a segment that is open is only read, by any number. Writing is
 * O(bytes): 100,000 values of 1.1 KB take 24 ms, as many rows of 384 floats too, without
 * the disk. Opening is O(entries), about 10 ns each, whatever the file.
 */
#ifndef PN_PERSIST_SEGMENT_H
#define PN_PERSIST_SEGMENT_H

#include "base/blob.h"

typedef enum pn_store_kind { PN_STORE_COLLECTIONS = 1, PN_STORE_VECTORS, PN_STORE_TEXT } pn_store_kind;
typedef enum pn_table_type { PN_TABLE_VALUES = 1, PN_TABLE_VECTORS, PN_TABLE_STRINGS } pn_table_type;
typedef enum pn_table_reset { PN_TABLE_KEEPS = 0, PN_TABLE_EMPTIED, PN_TABLE_DROPPED, PN_TABLE_FRESH } pn_table_reset;
typedef enum pn_entry_op { PN_ENTRY_PUT = 0, PN_ENTRY_FRESH, PN_ENTRY_REMOVE } pn_entry_op;
typedef enum pn_value_form { PN_FORM_JSON = 0, PN_FORM_MPACK, PN_FORM_STRUCT, PN_FORM_CHANGE } pn_value_form;
typedef enum pn_row_encoding { PN_ROW_F32 = 1, PN_ROW_F64 } pn_row_encoding;

enum { PN_SEGMENT_VERSION = 1, PN_SEGMENT_TAIL = 64, PN_ROW_ALIGN = 64, PN_ROW_MAX_DIM = 1 << 24 };

/* Bytes of one row, padding included. */
size_t pn_row_size(size_t dim, pn_row_encoding encoding);

/* ---- writing ---- */

/* Takes the next bytes of the file; what it returns other than PN_OK ends the writing. */
typedef pn_status (*pn_segment_sink)(void *ctx, pn_bytes bytes);

/* What became of one store: the manifest wants to know. */
typedef struct pn_segment_store_note {
    pn_buf name;
    uint8_t kind;
    bool reset;
    size_t tables, entries;
} pn_segment_store_note;

typedef struct pn_segment_writer pn_segment_writer; /* opaque: large, on the heap */

pn_status pn_segment_writer_new(const pn_alloc *alloc, pn_segment_sink sink, void *ctx, pn_segment_writer **out);
void pn_segment_writer_free(pn_segment_writer *w); /* NULL is fine */

/* Names and keys are copied; that they are UTF-8 and that values are what their form says
 * is the caller's business. PN_ERR_INVALID for a call out of turn, a name given twice, a
 * table that its store's kind does not have (FORMAT.md, "What a segment means": names and
 * types), an entry of a dropped table; that a key occurs once in a table is the caller's
 * business (readers refuse it). A value or a table's keys beyond 2^32 - 1 bytes:
 * PN_ERR_RANGE. After a failure only free. The same calls give the same bytes. */
pn_status pn_segment_begin_store(pn_segment_writer *w, pn_bytes name, pn_store_kind kind, bool reset);
pn_status pn_segment_begin_table(pn_segment_writer *w, pn_bytes name, pn_table_type type, pn_table_reset reset);
pn_status pn_segment_put_value(pn_segment_writer *w, pn_entry_op op, pn_bytes key, pn_value_form form, pn_bytes value);
/* `row` has dim numbers of the encoding; padding need not be there. */
pn_status pn_segment_put_row(pn_segment_writer *w, pn_entry_op op, pn_bytes key, size_t dim, pn_row_encoding encoding,
                             const void *row);
pn_status pn_segment_put_string(pn_segment_writer *w, pn_entry_op op, pn_bytes key, pn_bytes string);
pn_status pn_segment_remove(pn_segment_writer *w, pn_bytes key);
/* Writes index and tail. *size: bytes of the file, *tail_crc: its last four. */
pn_status pn_segment_finish(pn_segment_writer *w, uint64_t *size, uint32_t *tail_crc);

/* The stores written, in order; valid until the writer is freed. */
size_t pn_segment_written(const pn_segment_writer *w, const pn_segment_store_note **notes);

/* ---- reading ---- */

typedef struct pn_segment_run { /* rows of one dimension and encoding, one behind the other */
    size_t dim, rows, row_size;
    pn_row_encoding encoding;
    const uint8_t *data; /* rows * row_size bytes, at a multiple of 64 in the file */
    uint32_t crc;
} pn_segment_run;

typedef struct pn_segment_table {
    pn_bytes name;
    uint8_t type, reset;
    size_t n;
    const uint8_t *ops;                 /* u8 each: op | form << 2 */
    const uint8_t *key_lens, *keys;     /* u32 each, not aligned; the bytes */
    size_t keys_size;
    const uint8_t *value_lens, *value_crcs, *values; /* VALUES: likewise */
    size_t values_size;
    pn_segment_run *runs;               /* VECTORS */
    size_t run_count;
    const uint8_t *codes;               /* STRINGS: u32 each */
    const uint8_t *string_lens, *strings;
    size_t strings_size;
    pn_bytes *string_at;                /* the strings, decoded: string_count of them */
    size_t string_count;
} pn_segment_table;

typedef struct pn_segment_store {
    pn_bytes name;
    uint8_t kind;
    bool reset;
    pn_segment_table *tables;
    size_t table_count;
} pn_segment_store;

typedef struct pn_segment {
    const pn_alloc *alloc;
    pn_blob *blob;
    uint64_t index_at; /* where the index begins */
    uint32_t tail_crc;
    pn_segment_store *stores;
    size_t store_count;
} pn_segment;

/* Takes a reference to blob. CORRUPT with what and the offset; VERSION, with the number
 * as the offset. That a key occurs once in a table is not looked at: who fills a map with
 * the keys sees it, and pn_segment_check does. */
pn_status pn_segment_open(const pn_alloc *alloc, pn_blob *blob, pn_segment **out, pn_error *err);
/* The same, but only the ends and the stores are read: no tables, and none of their columns
 * are touched. O(bytes of the index). */
pn_status pn_segment_peek(const pn_alloc *alloc, pn_blob *blob, pn_segment **out, pn_error *err);
void pn_segment_close(pn_segment *s); /* NULL is fine */
const pn_segment_store *pn_segment_find(const pn_segment *s, pn_bytes name); /* or NULL */

/* Walks the entries of a table: zero-initialise, then next until false. */
typedef struct pn_segment_entry {
    size_t i;          /* this entry's number */
    uint8_t op, form;
    pn_bytes key;
    pn_bytes value;    /* VALUES: not checked yet. STRINGS: the string */
    uint32_t crc;      /* VALUES */
    const pn_segment_run *run; /* VECTORS: NULL for a removal */
    const uint8_t *row;        /* VECTORS: not checked yet */
    /* where the walk is */
    size_t next, key_at, value_at, run_at, row_at;
} pn_segment_entry;
bool pn_segment_next(const pn_segment_table *t, pn_segment_entry *e);

/* Whether a value's bytes have the CRC and are what the form says: canonical JSON text,
 * MessagePack, a struct, a change. CORRUPT with the reason; offset is from the value's
 * first byte. The limits of codec/json_read.h hold (depth, digits of an integer). Takes
 * memory only for MessagePack, structs, and objects of more than a thousand keys. */
pn_status pn_segment_check_value(const pn_alloc *alloc, pn_value_form form, pn_bytes value, uint32_t crc, pn_error *err);
/* Whether a run's bytes have the CRC and the padding of its rows is zero. The error's offset
 * is from the run's first byte. */
pn_status pn_segment_check_run(const pn_segment_run *run, pn_error *err);
/* Everything in a segment that opening leaves unchecked, down to keys that occur twice and
 * what lies between the blocks. Memory: some 40 bytes for each key of the largest table.
 * *err tells the first that is wrong, with the offset from the beginning of the file. */
pn_status pn_segment_check(const pn_segment *s, pn_error *err);

#endif
