/* registry.h: which classes stand behind the name of an index type.
 *
 * An index struct is persisted with its type name ("vector_store", "list", ...).
 * Reading it back needs the class of the struct, building the index from it the
 * class of the index. A class is an opaque handle to the core: the host gives a
 * callback that releases one.
 *
 *   name -> { struct_class, index_class }, in the order of registration
 *
 * Either handle may be NULL: a host may know how to read a struct whose index
 * class lives in a package that is not there.
 *
 * Lifetime: a handle passed to set belongs to the registry from then on, and is
 * released exactly once: when it is replaced, removed or the registry goes. The
 * registry is in its new state when a release callback runs, so the callback may
 * call back into it. What find and next hand out is valid until the next set,
 * remove or clear.
 *
 * set, find, remove: O(1). Not locked: the host's lock guards it.
 */
#ifndef PN_STORE_REGISTRY_H
#define PN_STORE_REGISTRY_H

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/status.h"

typedef struct pn_registry pn_registry;

typedef struct pn_registry_entry {
    void *struct_class;
    void *index_class;
} pn_registry_entry;

typedef void (*pn_registry_release)(void *ctx, void *handle);

pn_status pn_registry_new(const pn_alloc *alloc, pn_registry_release release, void *ctx, pn_registry **out);
void pn_registry_free(pn_registry *r); /* NULL is fine */

/* Adds a type or replaces both classes of one, which keeps its place. On failure
 * nothing has changed and the handles still belong to the caller. */
pn_status pn_registry_set(pn_registry *r, pn_bytes name, pn_registry_entry classes);

/* The classes of a type, or NULL. */
const pn_registry_entry *pn_registry_find(const pn_registry *r, pn_bytes name);

bool pn_registry_remove(pn_registry *r, pn_bytes name); /* whether it was there */
void pn_registry_clear(pn_registry *r);

size_t pn_registry_len(const pn_registry *r);
/* Iteration in order of registration: start with *pos = 0; false at the end. */
bool pn_registry_next(const pn_registry *r, size_t *pos, pn_bytes *name, const pn_registry_entry **classes);

#endif
