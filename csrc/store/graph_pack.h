/* graph_pack.h: a graph's way into a pack and out of it.
 *
 * In a pack the store is a collection: table "graph_dict" of a store of collections, subject
 * -> the JSON text of its list of pairs. That is its file's own shape, so whoever reads
 * collections as a file reads it: converting needs nothing from here, and a release that
 * knew graphs as text alone opens it.
 *
 * A subject that was handed out live may change unseen: while it is live its text is
 * compared, at each commit, with the last that was written.
 *
 * Gathering costs O(pairs of the subjects that changed or are live), or of all when it is
 * whole; their text is copied. Unpacking is O(pairs), and checks every value.
 */
#ifndef PN_STORE_GRAPH_PACK_H
#define PN_STORE_GRAPH_PACK_H

#include "persist/segment.h"
#include "store/batch.h"
#include "store/graph.h"

/* As pn_graph_set_live, with a live object that says what the subject's pairs do: what is
 * only looked at is not written again. O(pairs) while the graph is tracked. */
pn_status pn_graph_goes_live(pn_graph *g, pn_bytes subj, void *live, void **old);

/* Adds the store `name` to the batch as it is at this moment: with `whole` (or when the graph
 * is not tracked) all of it with reset, else what changed since the last take, which is
 * taken. On failure nothing is taken, and the batch must drop the store: what `encode` says
 * (as for pn_graph_save), INVALID while another gather waits for its end. Else afterwards
 * exactly one of the next two, whatever else happened to the graph meanwhile. */
pn_status pn_graph_gather(pn_graph *g, pn_bytes name, bool whole, pn_batch *b, pn_graph_encode encode, void *ctx);
void pn_graph_gathered(pn_graph *g);  /* the commit is durable: the graph is tracked from that gather on */
void pn_graph_give_back(pn_graph *g); /* it is not: what was taken counts as changed still */

/* A new graph, tracked, from the segments (oldest first) in which a store of collections of
 * this name may occur. UNSUPPORTED when that is no graph of plain pairs: its text is for the
 * host's reader. CORRUPT with the reason: *bad is the number of the segment, and err has the
 * offset in that file. `host` is not called. */
pn_status pn_graph_unpack(const pn_alloc *alloc, const pn_host *host, pn_bytes name, pn_segment *const *segments, size_t n,
                          pn_graph **out, size_t *bad, pn_error *err);

#endif
