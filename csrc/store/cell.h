/* cell.h: one value of a key-value collection, in whichever form it is cheapest.
 *
 *   LIVE    an object of the host language, opaque here (callbacks release and
 *           encode it). What a caller was handed must be live, since callers see
 *           and change the stored value itself.
 *   JSON    a span of JSON text inside a shared blob. `canonical` as json_read.h
 *           defines it: only such text is written out as it stands.
 *   MPACK   a span of MessagePack inside a shared blob.
 *   REFDOC  a ref_doc_info in native form (refdoc.h).
 *   STRUCT  an index struct in native form (structs.h).
 *   PACKED  a span of a pack's segment that nobody has looked at: its checksum and form
 *           are kept with it, and pn_cell_settle makes it JSON or MPACK before its first
 *           use. Whoever finds a cell settles it; only what copies cells need not.
 *
 * A cell owns what it points to. Moving a cell is copying the struct; the source
 * must then be forgotten. Releasing a LIVE cell may run the host's code, so it is
 * never done inside a map operation: operations hand out what they displace.
 */
#ifndef PN_STORE_CELL_H
#define PN_STORE_CELL_H

#include "base/blob.h"

typedef enum pn_cell_kind {
    PN_CELL_EMPTY = 0,
    PN_CELL_LIVE,
    PN_CELL_JSON,
    PN_CELL_MPACK,
    PN_CELL_REFDOC,
    PN_CELL_STRUCT,
    PN_CELL_PACKED,
} pn_cell_kind;

struct pn_refdoc;
struct pn_struct;

typedef struct pn_cell {
    uint8_t kind;
    bool canonical;
    uint8_t tag; /* the host's note on how to rebuild the value; 0: just as the text says */
    uint8_t form; /* PACKED: pn_value_form */
    uint32_t crc; /* PACKED: of the span */
    union {
        void *live;
        struct pn_refdoc *refdoc;
        struct pn_struct *structure;
        struct {
            pn_blob *blob;
            const uint8_t *ptr;
            size_t len;
        } span;
    };
} pn_cell;

/* The host language's part. All but retain may run arbitrary host code. */
typedef struct pn_host {
    void *ctx;
    void (*release)(void *ctx, void *live);
    /* Appends the JSON text of a live value. PN_ERR_CALLBACK: the host holds the reason. */
    pn_status (*encode)(void *ctx, void *live, pn_buf *out);
    void (*retain)(void *ctx, void *live); /* one more reference; runs no host code */
    void (*turn)(void *ctx); /* lets the host's other threads run; they may change anything */
} pn_host;

/* What the host made of all that a container holds and keeps for the next time. It is good
 * while the container's version is that one, and is never handed out itself. */
typedef struct pn_made {
    void *object; /* one reference, or NULL */
    uint64_t version;
} pn_made;

static inline void *pn_made_of(const pn_made *m, uint64_t version) { return m->version == version ? m->object : NULL; }
/* Whether what is made now is to be kept (object): it is the second time that it is made of
 * the same contents. What was made of others is released. */
bool pn_made_again(pn_made *m, uint64_t version, const pn_host *host);
void pn_made_clear(pn_made *m, const pn_host *host); /* runs no host code: nobody else knows the object */

/* A JSON cell over bytes that lie in blob; takes a reference of its own. */
pn_cell pn_cell_json(pn_blob *blob, pn_bytes span, bool canonical);
pn_cell pn_cell_mpack(pn_blob *blob, pn_bytes span);
pn_cell pn_cell_packed(pn_blob *blob, pn_bytes span, uint8_t form, uint32_t crc);

/* Makes a PACKED cell JSON (canonical) or MPACK once its bytes are found to be what the
 * segment promised. O(length), once. CORRUPT: the cell stays PACKED; err has the reason and
 * the offset in the file that pn_blob_name(cell->span.blob) names. Other kinds: OK, O(1). */
pn_status pn_cell_settle_slow(pn_cell *cell, pn_error *err);
static inline pn_status pn_cell_settle(pn_cell *cell, pn_error *err)
{
    return cell->kind == PN_CELL_PACKED ? pn_cell_settle_slow(cell, err) : PN_OK;
}

/* Frees what the cell owns and makes it EMPTY. */
void pn_cell_release(pn_cell *cell, const pn_host *host);

static inline pn_bytes pn_cell_span(const pn_cell *c) { return (pn_bytes){c->span.ptr, c->span.len}; }

/* Appends the value's canonical JSON text. */
pn_status pn_cell_write_json(const pn_cell *cell, const pn_host *host, const pn_alloc *alloc, pn_buf *out);

/* Cells that wait for their release until no map is being changed. */
typedef struct pn_cell_bin {
    const pn_alloc *alloc;
    pn_cell *cells;
    size_t len, cap;
} pn_cell_bin;

void pn_cell_bin_init(pn_cell_bin *bin, const pn_alloc *alloc);
pn_status pn_cell_bin_reserve(pn_cell_bin *bin, size_t more);
void pn_cell_bin_add(pn_cell_bin *bin, pn_cell cell); /* room must have been reserved */
void pn_cell_bin_empty(pn_cell_bin *bin, const pn_host *host);

#endif
