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
 * rows with a stride of whole cache lines. A row is float32 when every value of it is
 * one, else float64: both are bit-exact. Rows that were freed are used again.
 *
 *   band [dim 384, f32]  block: row row row ... | block: row row ...   free -> row -> row
 *
 * Source ids are interned in groups; the records of a group are a linked list, so
 * deleting a document costs O(its ids).
 *
 * A live host object is opaque. When it leaves the table it goes to `dropped`, which
 * the owner empties later, where releasing it may run any code.
 *
 * put, get, remove: O(1) (O(dimension) for a vector). Not locked: the owner has one
 * lock for the table. Memory of rows moves never; it is given back by pn_vec_clear.
 */
#ifndef PN_STORE_VECTOR_H
#define PN_STORE_VECTOR_H

#include "base/omap.h"

enum { PN_VEC_MAX_BANDS = 256 };

typedef struct pn_vec_row {
    void *data;    /* float or double values, 64-byte aligned */
    double norm;   /* cached by the reader; below zero: not known */
    uint32_t band;
} pn_vec_row;

typedef struct pn_vec_cell {
    pn_blob *blob;      /* owner of the text; NULL: host is the value */
    const uint8_t *ptr; /* canonical JSON (json_read.h) */
    size_t len;
    void *host;
    uint32_t slot; /* the number under which column.h knows this very text; 0: none yet */
} pn_vec_cell;

typedef struct pn_vec_block {
    void *memory;
    uint8_t *rows;
    size_t used, cap;
} pn_vec_block;

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
    pn_buf retired;   /* rows freed while pinned */
    size_t pins;      /* outside views of rows: none is used again meanwhile */
    uint64_t changes; /* counts mutations of any kind */
} pn_vec;

void pn_vec_init(pn_vec *v, const pn_alloc *alloc); /* allocates nothing */
/* Frees everything. The owner has released the hosts in metas and dropped before. */
void pn_vec_clear(pn_vec *v);

/* Vectors. `owner` as in pn_omap_put. An existing id keeps its place.
 * PN_ERR_UNSUPPORTED when there would be too many different dimensions. */
pn_status pn_vec_put_row(pn_vec *v, pn_bytes id, pn_blob *owner, const double *values, size_t dim);
/* A row with its values set that is in no map yet, for loaders. */
pn_status pn_vec_new_row(pn_vec *v, const double *values, size_t dim, size_t expected_rows, pn_vec_row *out);
pn_status pn_vec_adopt_row(pn_vec *v, pn_bytes id, pn_blob *owner, const pn_vec_row *row);
static inline const pn_vec_band *pn_vec_band_of(const pn_vec *v, const pn_vec_row *row) { return &v->bands[row->band]; }
/* Copies the values out as doubles; out has room for the band's dim. */
void pn_vec_values(const pn_vec *v, const pn_vec_row *row, double *out);
bool pn_vec_remove_row(pn_vec *v, pn_bytes id);

/* Keeps every row's memory as it is, also of rows deleted meanwhile, until unpin. */
void pn_vec_pin(pn_vec *v);
void pn_vec_unpin(pn_vec *v);

/* Source ids. */
pn_status pn_vec_put_ref(pn_vec *v, pn_bytes id, pn_blob *owner, pn_bytes ref);
pn_bytes pn_vec_ref_name(const pn_vec *v, const void *ref_value); /* of a value in refs */
bool pn_vec_remove_ref(pn_vec *v, pn_bytes id);

/* Metadata. put_text takes a reference to blob, put_host takes over the host on success. */
pn_status pn_vec_put_text(pn_vec *v, pn_bytes id, pn_blob *owner, pn_blob *blob, pn_bytes text);
pn_status pn_vec_put_host(pn_vec *v, pn_bytes id, pn_blob *owner, void *host);
/* The text of a cell that is not live: the one way to read it. */
pn_status pn_vec_text(const pn_vec *v, const pn_vec_cell *cell, pn_bytes *out);
/* Turns a cell of metas into a live one. */
void pn_vec_make_live(pn_vec *v, pn_vec_cell *cell, void *host);
pn_status pn_vec_remove_meta(pn_vec *v, pn_bytes id, bool *found);

/* Removes everything that came from the source. PN_ERR_UNSUPPORTED, and nothing is
 * changed, when one of its ids has no vector. O(ids of the source). */
pn_status pn_vec_delete_ref(pn_vec *v, pn_bytes ref, size_t *deleted);
/* Removes one id from all three. NOT_FOUND when it has no vector; UNSUPPORTED when it
 * has one but no source. Nothing is changed then. */
pn_status pn_vec_delete_id(pn_vec *v, pn_bytes id);

/* Where all vectors lie in one block in their order at equal distances: the matrix.
 * False when they do not (or there are none). */
bool pn_vec_dense(const pn_vec *v, const void **first, ptrdiff_t *distance, const pn_vec_band **band);

/* Debug: true when groups, records and refs agree. O(n). */
bool pn_vec_consistent(const pn_vec *v);

#endif
