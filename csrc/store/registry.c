#include "store/registry.h"

#include "base/omap.h"

struct pn_registry {
    const pn_alloc *alloc;
    pn_registry_release release;
    void *ctx;
    pn_omap types; /* name -> pn_registry_entry */
};

pn_status pn_registry_new(const pn_alloc *alloc, pn_registry_release release, void *ctx, pn_registry **out)
{
    pn_registry *r = pn_alloc_get(alloc, sizeof *r);
    PN_FAIL_IF(r == NULL, PN_ERR_NOMEM);
    *r = (pn_registry){.alloc = alloc, .release = release, .ctx = ctx};
    pn_omap_init(&r->types, alloc, sizeof(pn_registry_entry));
    *out = r;
    return PN_OK;
}

void pn_registry_free(pn_registry *r)
{
    if (r == NULL) return;
    pn_registry_clear(r);
    pn_alloc_put(r->alloc, r);
}

static void release_entry(const pn_registry *r, pn_registry_entry old)
{
    if (old.struct_class != NULL) r->release(r->ctx, old.struct_class);
    if (old.index_class != NULL) r->release(r->ctx, old.index_class);
}

pn_status pn_registry_set(pn_registry *r, pn_bytes name, pn_registry_entry classes)
{
    void *value;
    bool added;
    PN_TRY(pn_omap_put(&r->types, name, NULL, &value, &added));
    pn_registry_entry old = *(pn_registry_entry *)value; /* zeroed when added */
    *(pn_registry_entry *)value = classes;
    release_entry(r, old);
    return PN_OK;
}

const pn_registry_entry *pn_registry_find(const pn_registry *r, pn_bytes name)
{
    return pn_omap_get(&r->types, name);
}

bool pn_registry_remove(pn_registry *r, pn_bytes name)
{
    pn_registry_entry old;
    if (!pn_omap_remove(&r->types, name, &old)) return false;
    release_entry(r, old);
    return true;
}

/* The table is emptied before the first callback runs, which may use the registry. */
void pn_registry_clear(pn_registry *r)
{
    pn_omap gone = r->types;
    pn_omap_init(&r->types, r->alloc, sizeof(pn_registry_entry));
    size_t pos = 0;
    pn_bytes name;
    void *value;
    while (pn_omap_next(&gone, &pos, &name, &value)) release_entry(r, *(pn_registry_entry *)value);
    pn_omap_clear(&gone);
}

size_t pn_registry_len(const pn_registry *r) { return pn_omap_len(&r->types); }

bool pn_registry_next(const pn_registry *r, size_t *pos, pn_bytes *name, const pn_registry_entry **classes)
{
    void *value;
    if (!pn_omap_next(&r->types, pos, name, &value)) return false;
    *classes = value;
    return true;
}
