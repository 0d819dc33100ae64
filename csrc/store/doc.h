/* doc.h: what a document store does to its three collections.
 *
 *   nodes     node id -> {"__data__": {...}, "__type__": "..."}
 *   metadata  node id -> {"doc_hash": "...", "ref_doc_id": "..."}
 *   refs      ref_doc_id -> {"node_ids": [...], "metadata": {...}}
 *
 * These functions handle the native case: cells that are text or REFDOC. Those that a
 * pack left unchecked are settled (CORRUPT: before anything is changed). A cell that
 * is live makes them return PN_ERR_UNSUPPORTED before anything is changed; the caller
 * settles it (or goes the general way). Collections are touched, and so created, in
 * the order in which the peer touches them: that order shows in the file.
 *
 * What is displaced goes into a bin that the caller empties when no map is in use.
 */
#ifndef PN_STORE_DOC_H
#define PN_STORE_DOC_H

#include "store/kv.h"
#include "store/refdoc.h"

typedef struct pn_doc_names {
    pn_bytes nodes, metadata, refs;
} pn_doc_names;

/* The text of one member of a JSON object (the last of that name). PN_ERR_NOT_FOUND
 * when absent, PN_ERR_UNSUPPORTED when text is no object. `name` is plain ASCII. */
struct pn_json_span;
pn_status pn_doc_member(pn_bytes object, pn_bytes name, struct pn_json_span *out);

/* The ref_doc_id that a node's metadata cell names, appended to *id as UTF-8. *has is
 * false when there is none. */
pn_status pn_doc_ref_of(const pn_cell *metadata, pn_buf *id, bool *has);

/* The info of a source document in native form: the cell is converted in place. *out
 * is NULL when there is none (absent, or an empty object, which counts as none). */
pn_status pn_doc_refdoc(pn_coll *refs, pn_bytes ref_id, const pn_alloc *alloc, pn_refdoc **out);
pn_status pn_doc_refdoc_in(pn_cell *cell, const pn_alloc *alloc, pn_refdoc **out); /* the same of its cell */

/* Deletes a node as the peer's delete_document: takes it from its source's info, which
 * goes, with the source's own entries, when no node is left. O(1). */
pn_status pn_doc_delete(pn_kv *kv, const pn_doc_names *names, pn_bytes id, pn_cell_bin *bin, bool *existed);

#endif
