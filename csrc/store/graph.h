/* graph.h: triplets by subject, the memory of the simple graph store.
 *
 *   subjects  omap: subject -> pn_links, in the order in which subjects came
 *   pn_links  native: { rel id, obj id } pairs in insertion order (a single one in place),
 *                     and from 9 pairs on a hash index over them
 *             live:   one object of the host (the list that a caller was handed):
 *                     opaque here, the host is the only one who reads or changes it
 *   words     omap: text -> id, and id -> { text, uses }: every relation and object is
 *             stored once, however often it occurs; words without a use leave when
 *             they are more than a few and more than half
 *
 * A native subject holds no pair twice. Order is that of a Python list: a new pair
 * goes to the end, removing one keeps the order of the rest. A subject may have no
 * pairs at all (files can say so).
 *
 * upsert, delete, find: O(1), amortised for the occasional sweep. Loading and saving
 * run at the speed of text. Texts are UTF-8 with three-byte surrogates allowed; words
 * of a loaded file point into its text, which lives as long as any of them.
 *
 * One owner, no lock. A `const pn_links *` and the bytes it leads to are borrowed until
 * the next change of the graph. At most 2^32 - 16 subjects, words, pairs of a subject.
 */
#ifndef PN_STORE_GRAPH_H
#define PN_STORE_GRAPH_H

#include "store/changes.h"

typedef struct pn_graph pn_graph;
typedef struct pn_links pn_links;

/* Drops a live object that goes away with its graph. Never called by other functions:
 * those hand the object back, so that the caller drops it when the graph is at rest. */
typedef void (*pn_graph_release)(void *ctx, void *live);
/* Appends the JSON text of a live object. It must not change the graph. */
typedef pn_status (*pn_graph_encode)(void *ctx, void *live, pn_buf *out);

pn_status pn_graph_new(const pn_alloc *alloc, pn_graph **out);
void pn_graph_free(pn_graph *g, pn_graph_release release, void *ctx); /* NULL is fine */

/* ---- reading ---- */

size_t pn_graph_len(const pn_graph *g);      /* subjects */
size_t pn_graph_live(const pn_graph *g);     /* of them live */
size_t pn_graph_words(const pn_graph *g);    /* different relations and objects */

/* The links of a subject, or NULL. */
const pn_links *pn_graph_find(const pn_graph *g, pn_bytes subj);
/* Subjects in order, from *pos = 0; false at the end. */
bool pn_graph_next(const pn_graph *g, size_t *pos, pn_bytes *subj, const pn_links **links);

/* The live object, or NULL when the links are native. */
void *pn_links_live(const pn_links *links);
/* Native links: how many pairs, and the pairs in order, from *pos = 0. A live subject
 * has none. */
size_t pn_links_len(const pn_links *links);
bool pn_links_next(const pn_graph *g, const pn_links *links, size_t *pos, pn_bytes *rel, pn_bytes *obj);

/* A walk along triplets, depth first: after each triplet come those of its object, as
 * long as fewer than `depth` lie on the way. A subject gives its first `limit` pairs,
 * one that was reached through an object its first `inner_limit`. Cycles are followed;
 * the walk ends after `room` triplets. depth <= PN_GRAPH_MAX_DEPTH, else RANGE. */
enum { PN_GRAPH_MAX_DEPTH = 64 };
typedef struct pn_graph_walk {
    size_t depth, limit, inner_limit, room;
} pn_graph_walk;
/* Gets each triplet; what it returns other than PN_OK ends the walk. It must not
 * change the graph. */
typedef pn_status (*pn_graph_visit)(void *ctx, pn_bytes subj, pn_bytes rel, pn_bytes obj);
/* The pair at *pos (from 0) of a live object, and *pos after it; *more is false at the end.
 * The bytes must stay until the walk is over. It must change nothing; what it returns other
 * than PN_OK ends the walk. It is asked once more than the limits say: to see the pair that
 * a host's loop would take before it stops. */
typedef pn_status (*pn_graph_read)(void *ctx, void *live, size_t *pos, pn_bytes *rel, pn_bytes *obj, bool *more);
/* `read` may be NULL: then UNSUPPORTED when the way leads to a live subject. */
pn_status pn_graph_follow(const pn_graph *g, pn_bytes subj, const pn_graph_walk *walk, pn_graph_visit visit,
                          pn_graph_read read, void *ctx);

/* ---- changing ---- */

/* Adds the pair, and the subject when it is new; *added is false when the pair was
 * there. UNSUPPORTED when the subject is live: its host adds to it. A failure changes
 * nothing. */
pn_status pn_graph_upsert(pn_graph *g, pn_bytes subj, pn_bytes rel, pn_bytes obj, bool *added);

/* Removes the pair of a native subject; *removed tells whether it was there. The subject
 * goes with its last pair, unless `keep`. UNSUPPORTED when the subject is live. */
pn_status pn_graph_delete(pn_graph *g, pn_bytes subj, pn_bytes rel, pn_bytes obj, bool keep, bool *removed);

/* Makes `live` the value of a subject, new or not (pairs it had go). *old is the live
 * object that stood there, or NULL. Cannot fail when the subject exists. */
pn_status pn_graph_set_live(pn_graph *g, pn_bytes subj, void *live, void **old);

/* Makes a subject native and without pairs, new or not; *old as above. Cannot fail
 * when the subject exists. */
pn_status pn_graph_set_native(pn_graph *g, pn_bytes subj, void **old);

/* Removes a subject; *old as above. False when it was not there. */
bool pn_graph_remove(pn_graph *g, pn_bytes subj, void **old);

/* ---- packs (graph_pack.h) ---- */

/* What differs from the last commit, as a collection has it of its cells (kv.h). Nothing is
 * noted while `changes` is off. */
typedef struct pn_graph_track {
    pn_changes changes; /* of subjects, since the last commit */
    pn_changes taken;   /* what the commit that is under way writes */
    pn_omap lives;      /* subject -> pn_live_note *: live ones, which may change unseen */
    bool taking;        /* a commit is under way */
} pn_graph_track;

pn_graph_track *pn_graph_track_of(pn_graph *g);

/* As pn_graph_set_live of a subject that is there, but noted as no change: the live object
 * says what the pairs did. (pn_graph_goes_live is for hosts.) */
void pn_graph_swap_live(pn_graph *g, pn_bytes subj, void *live, void **old);

/* ---- files ---- */

/* Appends the links as json.dumps writes their list; `encode` as for pn_graph_save. */
pn_status pn_graph_write_links(const pn_graph *g, const pn_links *links, pn_graph_encode encode, void *ctx, pn_buf *out);

/* Adds a new subject with the pairs of such a list; notes no change. `owner` is the blob that
 * `subj` lies in, `text` the one of the list. UNSUPPORTED as for pn_graph_load; the graph must
 * be freed after a failure. */
pn_status pn_graph_load_links(pn_graph *g, pn_bytes subj, pn_blob *owner, pn_blob *text, pn_bytes list);

/* A new graph from {"graph_dict": {subject: [[relation, object], ...], ...}}.
 * UNSUPPORTED when the text is JSON of another shape, or repeats a subject or a pair:
 * the host's reader decides then. SYNTAX, UTF8, DEPTH with the offset in *err. */
pn_status pn_graph_load(const pn_alloc *alloc, pn_blob *text, pn_graph **out, pn_error *err);

/* Appends the graph as json.dumps writes it. `encode` may be NULL when nothing is live;
 * its failure is returned. A failure leaves `out` as long as it was. */
pn_status pn_graph_save(const pn_graph *g, pn_graph_encode encode, void *ctx, pn_buf *out);

#endif
