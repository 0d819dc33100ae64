/* gone.h: index structs that were removed, freed a part at a time.
 *
 * A struct of n rows holds 2n references to objects of the host. Dropping them takes time
 * in n, while removing an entry should not: so a removed struct waits here, and whoever
 * works with structs next, which takes longer anyway, frees a part.
 *
 * What waits is at most PN_GONE_MOST bytes: beyond that, a struct is freed when it is
 * removed, after those that wait. Freeing runs no code of the host (structs.h).
 *
 * Not locked: the owner guards it.
 */
#ifndef PN_STORE_GONE_H
#define PN_STORE_GONE_H

#include "store/structs.h"

#define PN_GONE_MOST ((size_t)32 << 20)
enum { PN_GONE_STEP = 1024 }; /* references that one operation on structs drops: a few microseconds */

typedef struct pn_gone {
    pn_struct *first; /* a list by pn_struct.next, the last removed in front */
    size_t bytes;
} pn_gone;

/* Takes the struct. O(1) while there is room. */
void pn_gone_add(pn_gone *gone, pn_struct *s, const pn_host *host);
/* Frees what costs about as much as dropping so many references; SIZE_MAX: everything. */
void pn_gone_free_slow(pn_gone *gone, size_t effort, const pn_host *host);
static inline void pn_gone_free(pn_gone *gone, size_t effort, const pn_host *host)
{
    if (gone->first != NULL) pn_gone_free_slow(gone, effort, host);
}

#endif
