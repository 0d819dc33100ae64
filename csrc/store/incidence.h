/* incidence.h: which edges touch a node, the index beside a property graph's triplets.
 *
 *   nodes  omap: id -> { first link, last link, links }; a node is there while an edge
 *          touches it
 *   edges  { opaque pointer of the host, two links }: one for each end, in a list of the
 *          edges of that end's node, in the order of addition. A free edge is chained by
 *          its first link. An edge from a node to itself is in that list once.
 *
 * A link is a number: edge * 2 + end, end 0 for the source. The pointers are never looked
 * into: the host owns what they stand for.
 *
 * add: O(1). remove: O(edges of the end that has fewer). Reading a node's edges: O(those).
 * One owner, no lock. At most 2^31 - 16 edges.
 */
#ifndef PN_STORE_INCIDENCE_H
#define PN_STORE_INCIDENCE_H

#include "base/omap.h"

typedef struct pn_incidence pn_incidence;
typedef uint32_t pn_link;
enum { PN_NO_LINK = UINT32_MAX };

pn_status pn_incidence_new(const pn_alloc *alloc, pn_incidence **out);
void pn_incidence_free(pn_incidence *t); /* NULL is fine; the edges are the caller's to release */

size_t pn_incidence_len(const pn_incidence *t); /* edges */
/* All edges, in no order, from *pos = 0; false at the end. Nothing may change meanwhile. */
bool pn_incidence_each(const pn_incidence *t, size_t *pos, void **edge);

/* Adds an edge that is not there yet. A failure changes nothing. */
pn_status pn_incidence_add(pn_incidence *t, pn_bytes source, pn_bytes target, void *edge);

/* Whether the edge, which touches at least one of the two nodes, is the one that is meant. */
typedef bool (*pn_incidence_same)(const void *ctx, const void *edge);
/* Removes the edge between the nodes for which `same` says so, and hands it out; NULL when
 * there is none. */
void *pn_incidence_remove(pn_incidence *t, pn_bytes source, pn_bytes target, pn_incidence_same same, const void *ctx);

/* The first link of a node, or PN_NO_LINK; the edge of a link, and the link behind it in
 * its node's list. Valid until the next change. */
pn_link pn_incidence_first(const pn_incidence *t, pn_bytes node);
void *pn_incidence_edge(const pn_incidence *t, pn_link link, pn_link *next);

#endif
