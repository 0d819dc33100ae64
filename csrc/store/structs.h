/* structs.h: an index struct, {"__type__": type, "__data__": "<its to_json>"}, as columns.
 *
 *   struct   type, one column a field
 *   column   text   the rows' JSON, joined by ", ":  "k": "v", "l": "w"
 *            lens   u32 a row, without the ", "
 *            words  what the rows were made of, in the host's terms:
 *                     row of a DICT   key word, value words
 *                     row of a LIST   value words
 *                     a VALUE         value words, one row
 *                   value words are one even word (an immutable object of the host, to
 *                   which the column holds a reference), or a header (pn_word_list,
 *                   pn_word_dict) and then the words of as many items (pairs)
 *
 * A struct is stored again after every insert, whole. Since the objects behind even
 * words never change, a row whose words are the kept ones has the kept text: storing a
 * struct that grew by k rows compares words (a few ns a row, nothing is looked into)
 * and encodes k rows. Columns read from a file have no words yet (word_len is 0); no row
 * matches them.
 *
 * Only text that json.dumps would print just so becomes a column, so the text written
 * is the text read. JSON inside JSON is escaped when it is written. A column read from a
 * file has its keys as they stand there, repeated ones too.
 *
 * Releasing a word runs no code of the host: only objects whose release does nothing but
 * free memory may stand behind one.
 *
 * Not locked. Invariants: lens has `rows` numbers, their sum and 2 bytes for each row
 * but the first is text.len; words are none, or whole rows, as many as there are.
 */
#ifndef PN_STORE_STRUCTS_H
#define PN_STORE_STRUCTS_H

#include "base/buffer.h"
#include "store/cell.h"
#include "store/kept.h"

typedef uintptr_t pn_word;

static inline bool pn_word_is_header(pn_word w) { return (w & 1) != 0; }
static inline pn_word pn_word_list(size_t items) { return (pn_word)items << 2 | 1; }
static inline pn_word pn_word_dict(size_t pairs) { return (pn_word)pairs << 2 | 3; }
static inline bool pn_word_is_dict(pn_word header) { return (header & 2) != 0; }
static inline size_t pn_word_count(pn_word header) { return header >> 2; }

enum { PN_STRUCT_MAX_COLUMNS = 16 };

typedef enum pn_column_kind { PN_COLUMN_VALUE, PN_COLUMN_LIST, PN_COLUMN_DICT } pn_column_kind;

typedef struct pn_column {
    pn_buf name; /* UTF-8 */
    uint8_t kind;
    pn_buf text;
    uint32_t *lens;
    pn_word *words;
    size_t rows, row_cap, word_len, word_cap;
    pn_kept saved, pending; /* which rows the last durable commit has, and one under way */
} pn_column;

typedef struct pn_struct {
    const pn_alloc *alloc;
    pn_buf type; /* UTF-8 */
    size_t count;
    bool pending; /* a commit under way has the struct (struct_pack.h) */
    struct pn_struct *next; /* while it waits to be freed (gone.h) */
    size_t bytes;           /* what it took when it was last measured; 0: never */
    pn_column columns[PN_STRUCT_MAX_COLUMNS];
} pn_struct;

/* One without columns. */
pn_status pn_struct_new(const pn_alloc *alloc, pn_bytes type, pn_struct **out);
/* Adds an empty VALUE column. UNSUPPORTED beyond PN_STRUCT_MAX_COLUMNS. */
pn_status pn_struct_add(pn_struct *s, pn_bytes name);
/* Notes how much memory the columns take, while the caller has them at hand. */
void pn_struct_measure(pn_struct *s);
/* Releases all words to the host. NULL is fine. */
void pn_struct_free(pn_struct *s, const pn_host *host);
/* The same in parts, of a struct that nobody uses any more: drops at most *effort words,
 * which are taken off it, at least 1 for each column that is freed. true: all of it is gone. */
bool pn_struct_free_some(pn_struct *s, size_t *effort, const pn_host *host);

/* From the JSON text of an entry. UNSUPPORTED when it is of another shape, or its inner
 * text is not just what json.dumps prints. */
pn_status pn_struct_from_json(const pn_alloc *alloc, pn_bytes entry, pn_struct **out);

/* The type of an entry's JSON text, borrowed from it; its data is not looked at. */
pn_status pn_struct_type_of(pn_bytes entry, pn_bytes *type);

/* Appends the inner text, or the whole entry. */
pn_status pn_struct_write_data(const pn_struct *s, pn_buf *out);
pn_status pn_struct_write_json(const pn_struct *s, pn_buf *out);

/* Appends a row (text without separators). The column then owns a reference to each even
 * word; there may be none while the column has none. */
pn_status pn_column_push(pn_column *c, pn_bytes text, const pn_word *words, size_t n);

/* Appends n rows, whose texts are joined by ", " and have the lengths in lens (u32 each,
 * little-endian, not aligned), to a column without words. */
pn_status pn_column_extend(pn_column *c, size_t n, const uint8_t *lens, pn_bytes text);

/* Gives a column that has none its words, those of all rows in order. Takes the
 * caller's references to the even words. */
pn_status pn_column_bind(pn_column *c, const pn_word *words, size_t n);

/* How many of the n words make one value. 0: they are too few. */
size_t pn_words_of_value(const pn_word *words, size_t n);

/* ---- replacing a column's rows ----
 *
 * An edit names the rows at the front that stand and is then told the others, in order.
 * Rows that the column has already, in that order, are found and not encoded again:
 * deleting rows costs as much as comparing words. Nothing changes before the commit.
 *
 *     PN_TRY(pn_edit_begin(&e, kind, rows, words));
 *     for each further row:
 *         if (pn_edit_find(&e, words, n)) // the column has it, at e.row and e.word,
 *             PN_TRY(pn_edit_keep(&e, rows, words)); // and maybe those behind it too
 *         else
 *             PN_TRY(pn_edit_add(&e, text, words, n)); // then take references
 *     PN_TRY(pn_edit_prepare(&e));
 *     pn_edit_commit(&e, host); // cannot fail
 *
 * and pn_edit_abort on every other way out. Looking for rows stops for good after a
 * bounded number of vain looks (a struct in another order is encoded anew), so an edit
 * is linear.
 */
typedef struct pn_edit_run {
    size_t from, at, len; /* len words from `from` in the column, at `at` in the tail */
    size_t row, rows;     /* the same as rows of the column, */
    size_t at_row, at_byte, bytes; /* and of the tail, with their text */
} pn_edit_run;

typedef struct pn_edit {
    pn_column *column;
    pn_column tail;            /* the rows behind the front */
    size_t rows, words, bytes; /* the front */
    size_t row, word, byte;    /* the first row of the column not yet kept or passed over */
    size_t effort;             /* rows that may still be looked at in vain */
    pn_edit_run *runs;
    size_t run_len, run_cap;
} pn_edit;

/* An edit that changes nothing and owns nothing: what abort leaves. */
void pn_edit_init(pn_edit *e, pn_column *c);
/* The first `rows` rows of the column, which are `words` words, stand: 0 when the kind
 * changes or the column has no words. */
pn_status pn_edit_begin(pn_edit *e, uint8_t kind, size_t rows, size_t words);
/* Whether the column has that row, not yet kept or passed over: then it is the next. */
bool pn_edit_find(pn_edit *e, const pn_word *words, size_t n);
/* The next `rows` rows of the column, which are `words` words, come next. */
pn_status pn_edit_keep(pn_edit *e, size_t rows, size_t words);
/* After PN_OK the edit owns a reference to each even word: the caller takes them. */
pn_status pn_edit_add(pn_edit *e, pn_bytes text, const pn_word *words, size_t n);
pn_status pn_edit_prepare(pn_edit *e);
void pn_edit_commit(pn_edit *e, const pn_host *host);
void pn_edit_abort(pn_edit *e, const pn_host *host);

#endif
