/* refdoc.h: a document's ref_doc_info, {"node_ids": [...], "metadata": {...}}, as an
 * insertion-ordered set of node ids and the metadata as a cell.
 *
 * Adding or removing one id is O(1), where the list costs O(ids of the document).
 * Only a value of exactly that shape, keys in that order, ids distinct strings,
 * becomes one; its JSON text then is the value's canonical text.
 */
#ifndef PN_STORE_REFDOC_H
#define PN_STORE_REFDOC_H

#include "base/omap.h"
#include "store/cell.h"

typedef struct pn_refdoc {
    pn_omap ids;      /* id -> nothing */
    pn_cell metadata; /* JSON or LIVE (a dict) */
    pn_made listed;   /* the host's list of the ids, at ids.version */
} pn_refdoc;

/* An empty one: no ids, metadata EMPTY (to be set by the caller). */
pn_status pn_refdoc_new(const pn_alloc *alloc, pn_refdoc **out);
void pn_refdoc_free(pn_refdoc *r, const pn_host *host);

/* From JSON text that lies in blob. PN_ERR_UNSUPPORTED when of another shape. */
pn_status pn_refdoc_from_json(const pn_alloc *alloc, pn_blob *blob, pn_bytes text, pn_refdoc **out);

/* Appends {"node_ids": [...], "metadata": ...}. */
pn_status pn_refdoc_write_json(const pn_refdoc *r, const pn_host *host, pn_buf *out);

/* Appends the part before the metadata; a } must follow that. */
pn_status pn_refdoc_write_ids(const pn_refdoc *r, pn_buf *out);

/* Whether the metadata is the empty object. A LIVE one is unknown: false. */
bool pn_refdoc_metadata_is_empty(const pn_refdoc *r);

#endif
