/* vector.h: the state of a vector store: embeddings, source ids and metadata.
 *
 * Three independent insertion-ordered maps, as in the store that it stands in for
 * (a file may list them in different orders, or lack one):
 *
 *   rows   id -> pn_vec_row   where the vector lies, and its norm once asked for
 *   refs   id -> record       which source document the id came from
 *   metas  id -> pn_vec_cell  a span of canonical JSON text, or a live host object
 *
 * Vectors lie in bands, one for each (dimension, encoding): blocks of 64-byte aligned
 * rows with a stride of whole cache lines, large blocks in huge pages. A row is float32
 * when every value of it is one, else float64: both are bit-exact. Rows that were freed
 * are used again.
 *
 *   band [dim 384, f32]  block: row row row ... | block: row row ...   free -> row -> row
 *
 * A block may be *borrowed*: its rows lie in a blob, such as a mapped file that nothing
 * may write to. Its rows are read like any others and are never used again.
 *
 * Source ids are interned in groups; the records of a group are a linked list, so
 * deleting a document costs O(its ids).
 *
 * A live host object is opaque. When it leaves the table it goes to `dropped`, which
 * the owner empties later, where releasing it may run any code. A row may have a host
 * object too, which others may change: it is lent (lent.h).
 *
 * A table that was read from a pack or written to one is *tracked* (vector_pack.h): each
 * map notes what changes in it (changes.h), and `live` lists the metadata that is live,
 * which may change unnoticed, each with the text that the pack has for it. What a table
 * holds of a pack is unchecked at first; it must be settled (vector_pack.h) before rows, or
 * metadata texts, are read.
 *
 * put, get, remove: O(1) (O(dimension) for a vector). Not locked: the owner has one
 * lock for the table. Memory of rows moves never; it is given back by pn_vec_clear.
 */
#ifndef PN_STORE_VECTOR_H
#define PN_STORE_VECTOR_H

#include "persist/segment.h"
#include "store/changes.h"
#include "store/lent.h"

struct pn_live_note; /* batch.h */

enum { PN_VEC_MAX_BANDS = 256 };
enum { PN_VEC_ROWS, PN_VEC_REFS, PN_VEC_METAS, PN_VEC_MAPS }; /* what `noted` and `taken` are about */

typedef struct pn_vec_row {
    const void *data; /* float or double values, 64-byte aligned */
    double norm;      /* cached by the reader; below zero: not known */
    uint32_t lent;    /* number of its loan (lent.h), or 0 */
    uint16_t band;
    bool borrowed;    /* the values lie in a blob */
    bool coded;       /* coarse.h: whoever reads the rows may have codes of these values */
} pn_vec_row;

typedef struct pn_vec_cell {
    pn_blob *blob;      /* owner of the text; NULL: host is the value */
    const uint8_t *ptr; /* canonical JSON (json_read.h) */
    size_t len;
    void *host;
    uint32_t slot; /* the number under which column.h knows this very text; 0: none yet */
    uint32_t crc;  /* of a text that is not checked yet; 0: it is */
} pn_vec_cell;

typedef struct pn_vec_block {
    void *memory;   /* NULL: borrowed from */
    pn_blob *owner; /* this */
    const uint8_t *rows;
    size_t used, cap;
} pn_vec_block;

/* Rows of a pack that nobody has looked at. */
typedef struct pn_vec_unchecked {
    pn_blob *blob;
    pn_segment_run run;
} pn_vec_unchecked;


typedef struct pn_vec_band {
    size_t dim, stride;
    bool wide; /* float64 */
    pn_vec_block *blocks;
    size_t block_count;
    void *free_rows; /* linked through their first bytes */
} pn_vec_band;

typedef struct pn_vec_record pn_vec_record;
typedef struct pn_vec_group pn_vec_group;

typedef struct pn_vec {
    const pn_alloc *alloc;
    pn_omap rows, refs, metas;
    pn_omap names; /* source id -> group */
    pn_vec_band *bands;
    size_t band_count;
    pn_vec_record *records;
    pn_vec_group *groups;
    size_t record_count, record_cap, group_count, group_cap;
    uint32_t free_record, free_group;
    pn_buf dropped;   /* void *host, each to be released by the owner */
    pn_lent lent;     /* host objects that stand for rows; those returned are released likewise */
    pn_buf retired;   /* rows freed while pinned */
    size_t pins;      /* outside views of rows: none is used again meanwhile */
    uint64_t changes; /* counts mutations of any kind */
    pn_changes noted[PN_VEC_MAPS]; /* since the last commit */
    pn_changes taken[PN_VEC_MAPS]; /* into a commit that is under way */
    bool taking;                   /* one is */
    bool gathering;                /* and being gathered: metadata that becomes live counts as changed */
    pn_omap live;                  /* id -> pn_live_note *; kept while metas are tracked */
    pn_buf unchecked_rows;         /* pn_vec_unchecked */
    bool unchecked_metas;          /* some cells may be */
} pn_vec;

void pn_vec_init(pn_vec *v, const pn_alloc *alloc); /* allocates nothing */
/* Frees everything. The owner has released the hosts in metas, dropped and lent before. */
void pn_vec_clear(pn_vec *v);
/* Forgets which commit it builds on: it is not tracked any more. */
void pn_vec_untrack(pn_vec *v);

/* Vectors. `owner` as in pn_omap_put. An existing id keeps its place.
 * PN_ERR_UNSUPPORTED when there would be too many different dimensions. */
pn_status pn_vec_put_row(pn_vec *v, pn_bytes id, pn_blob *owner, const double *values, size_t dim);
/* A row with its values set that is in no map yet, for loaders. */
pn_status pn_vec_new_row(pn_vec *v, const double *values, size_t dim, size_t expected_rows, pn_vec_row *out);
/* `n` rows of a band that follow each other in memory, to be filled and adopted in that order;
 * NULL when its last block has no such room. Those taken last can be given back. */
uint8_t *pn_vec_take_rows(pn_vec *v, uint32_t band, size_t n);
void pn_vec_give_rows_back(pn_vec *v, uint32_t band, size_t n);
/* The same from floats or doubles that are taken as they are. */
pn_status pn_vec_copy_row(pn_vec *v, const void *values, size_t dim, bool wide, size_t expected_rows, pn_vec_row *out);
/* `count` rows that lie in the blob at distances of whole cache lines, 64-byte aligned, with
 * dim > 0. A reference is taken; the band for their pn_vec_row goes to *band. */
pn_status pn_vec_borrow(pn_vec *v, pn_blob *owner, const uint8_t *rows, size_t count, size_t dim, bool wide,
                        uint32_t *band);
pn_status pn_vec_adopt_row(pn_vec *v, pn_bytes id, pn_blob *owner, const pn_vec_row *row);
static inline const pn_vec_band *pn_vec_band_of(const pn_vec *v, const pn_vec_row *row) { return &v->bands[row->band]; }
/* Copies the values out as doubles; out has room for the band's dim. */
void pn_vec_values(const pn_vec *v, const pn_vec_row *row, double *out);
bool pn_vec_remove_row(pn_vec *v, pn_bytes id);

/* Lends a row of the map, which is not lent; the host is taken over on success. */
pn_status pn_vec_lend(pn_vec *v, pn_vec_row *row, void *host);
void pn_vec_end_loan(pn_vec *v, pn_vec_row *row);
pn_vec_row *pn_vec_lent_row(const pn_vec *v, const pn_loan *loan); /* of a loan that is out */
/* A lent row gets the values that its host has now, and stays lent. */
pn_status pn_vec_follow_host(pn_vec *v, pn_vec_row *row, const double *values, size_t dim);

/* Keeps every row's memory as it is, also of rows deleted meanwhile, until unpin. */
void pn_vec_pin(pn_vec *v);
void pn_vec_unpin(pn_vec *v);

/* Source ids. */
pn_status pn_vec_put_ref(pn_vec *v, pn_bytes id, pn_blob *owner, pn_bytes ref);
/* The same where many ids have the same few sources. *hint: what the call before for the
 * same ref left there, or PN_VEC_NO_HINT. owner and ref_owner are the blobs that id and ref
 * lie in, never NULL. */
#define PN_VEC_NO_HINT UINT32_MAX
pn_status pn_vec_put_ref_hinted(pn_vec *v, pn_bytes id, pn_blob *owner, pn_bytes ref, pn_blob *ref_owner, uint32_t *hint);
pn_status pn_vec_reserve_refs(pn_vec *v, size_t n); /* room for n in all */
pn_bytes pn_vec_ref_name(const pn_vec *v, const void *ref_value); /* of a value in refs */
pn_blob *pn_vec_ref_owner(const pn_vec *v, const void *ref_value); /* what that lies in, borrowed */
bool pn_vec_remove_ref(pn_vec *v, pn_bytes id);

/* Metadata. put_text takes a reference to blob, put_host takes over the host on success. */
pn_status pn_vec_put_text(pn_vec *v, pn_bytes id, pn_blob *owner, pn_blob *blob, pn_bytes text);
/* Text to be checked before it is read (crc not 0). */
pn_status pn_vec_put_unchecked(pn_vec *v, pn_bytes id, pn_blob *owner, pn_blob *blob, pn_bytes text, uint32_t crc);
pn_status pn_vec_put_host(pn_vec *v, pn_bytes id, pn_blob *owner, void *host);
/* The text of a cell that is not live: the one way to read it. INVALID: it is not settled. */
pn_status pn_vec_text(const pn_vec *v, const pn_vec_cell *cell, pn_bytes *out);
/* Turns a cell of metas into a live one. */
void pn_vec_make_live(pn_vec *v, pn_vec_cell *cell, void *host);
pn_status pn_vec_remove_meta(pn_vec *v, pn_bytes id, bool *found);
/* The note of a live value, made when missing. */
pn_status pn_vec_live_note(pn_vec *v, pn_bytes id, struct pn_live_note **out);

/* Removes everything that came from the source. PN_ERR_UNSUPPORTED, and nothing is
 * changed, when one of its ids has no vector. O(ids of the source). */
pn_status pn_vec_delete_ref(pn_vec *v, pn_bytes ref, size_t *deleted);
/* Removes different ids from all three. NOT_FOUND when one has no vector; UNSUPPORTED when
 * it has one but no source. Nothing is changed then. Their bytes are not the table's own. */
pn_status pn_vec_delete_ids(pn_vec *v, const pn_bytes *ids, size_t n);
pn_status pn_vec_delete_id(pn_vec *v, pn_bytes id);

/* Where all vectors lie in one block in their order at equal distances: the matrix.
 * False when they do not (or there are none). */
bool pn_vec_dense(const pn_vec *v, const void **first, ptrdiff_t *distance, const pn_vec_band **band);

/* Debug: true when groups, records and refs agree, and `live` with the metadata. O(n). */
bool pn_vec_consistent(const pn_vec *v);

#endif
