/* lent.h: what stands for rows of a vector table while others hold it and may change it.
 *
 * The store that this stands in for hands out its own list of a vector: a caller who changes
 * it changes the store. A table has no lists; it makes one when a row is first asked for,
 * and *lends* it: the same list is handed out from then on, and whoever reads the table's
 * values first takes over what was changed in lists that are out (vector_lent.c).
 *
 *   row.lent = 2   loans  1 free -> ..   2 {list, id}   3 returned -> ..
 *
 * A loan ends when its row goes or gets another value, or when nobody else holds the list;
 * the host object is then *returned*, for the owner to release where that may run any code.
 *
 * Loan numbers start at 1; 0 means none. lend: amortised O(1), the rest O(1), except that
 * going through all costs O(the most there were). Guarded as the table's maps are.
 */
#ifndef PN_STORE_LENT_H
#define PN_STORE_LENT_H

#include "base/blob.h"

typedef struct pn_loan {
    void *host;    /* NULL: free */
    pn_bytes id;   /* borrowed from the row's entry; ptr NULL: free or returned */
    size_t values; /* of the row when it was lent */
    uint32_t hash; /* of the id when it was put: the bytes may lie in a file that others damage */
    uint32_t next; /* in the list of free or of returned ones */
} pn_loan;

typedef struct pn_lent {
    pn_loan *loans;
    uint32_t count, cap; /* loans[0] is not used */
    uint32_t free, returned;
    uint32_t out;
    size_t values; /* of all that are out */
    uint64_t ended; /* how many loans have: while it stands still, whoever is lent a list has the row's */
} pn_lent;

void pn_lent_init(pn_lent *l); /* allocates nothing */
/* The owner has released the hosts, see pn_lent_next and pn_lent_take. */
void pn_lent_clear(pn_lent *l, const pn_alloc *alloc);

/* Takes over host on success. */
pn_status pn_lent_add(pn_lent *l, const pn_alloc *alloc, void *host, pn_bytes id, uint32_t hash, size_t values,
                      uint32_t *number);
/* Ends a loan. */
void pn_lent_return(pn_lent *l, uint32_t number);
/* A host that was returned, each once, NULL when there is none (any more). */
void *pn_lent_take(pn_lent *l);
/* The loans that are out: *number is 0 before the first. NULL after the last. */
const pn_loan *pn_lent_next(const pn_lent *l, uint32_t *number);

static inline void *pn_lent_host(const pn_lent *l, uint32_t number) { return l->loans[number].host; }

#endif
