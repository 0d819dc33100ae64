#include "persist/manifest.h"

#include <inttypes.h>
#include <stdio.h>

enum { NAME_GENERATION = 4, NAME_DASH = 20, NAME_RANDOM = 21, NAME_SUFFIX = 37 };

void pn_manifest_init(pn_manifest *m, const pn_alloc *alloc)
{
    *m = (pn_manifest){.alloc = alloc, .keep = PN_MANIFEST_KEEP};
}

/* ---- lists of things that own strings ---- */

static pn_status copy_text(const pn_alloc *alloc, pn_bytes text, char **out)
{
    char *p = pn_alloc_get(alloc, text.len + 1);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    if (text.len) memcpy(p, text.ptr, text.len);
    p[text.len] = '\0';
    *out = p;
    return PN_OK;
}

static pn_bytes text_of(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static void free_stores(const pn_alloc *alloc, pn_manifest_store *list, size_t n)
{
    for (size_t i = 0; i < n; i++) pn_alloc_put(alloc, list[i].name);
    pn_alloc_put(alloc, list);
}

static void free_foreign(const pn_alloc *alloc, pn_manifest_foreign *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pn_alloc_put(alloc, list[i].name);
        pn_alloc_put(alloc, list[i].type);
    }
    pn_alloc_put(alloc, list);
}

static void free_json(const pn_alloc *alloc, pn_manifest_json *list, size_t n)
{
    for (size_t i = 0; i < n; i++) pn_alloc_put(alloc, list[i].name);
    pn_alloc_put(alloc, list);
}

void pn_generation_clear(const pn_alloc *alloc, pn_generation *g)
{
    pn_alloc_put(alloc, g->segments);
    free_stores(alloc, g->stores, g->store_count);
    free_foreign(alloc, g->foreign, g->foreign_count);
    free_json(alloc, g->json, g->json_count);
    *g = (pn_generation){0};
}

void pn_manifest_clear(pn_manifest *m)
{
    for (size_t i = 0; i < m->generation_count; i++) pn_generation_clear(m->alloc, &m->generations[i]);
    pn_alloc_put(m->alloc, m->generations);
    pn_alloc_put(m->alloc, m->segments);
    pn_manifest_init(m, m->alloc);
}

/* ---- editing a generation ---- */

pn_status pn_generation_set_segments(const pn_alloc *alloc, pn_generation *g, const uint32_t *positions, size_t n)
{
    uint32_t *copy = NULL;
    if (n > 0) {
        copy = pn_alloc_zero(alloc, n, sizeof *copy);
        PN_FAIL_IF(copy == NULL, PN_ERR_NOMEM);
        memcpy(copy, positions, n * sizeof *copy);
    }
    pn_alloc_put(alloc, g->segments);
    g->segments = copy;
    g->segment_count = n;
    return PN_OK;
}

pn_status pn_generation_set_store(const pn_alloc *alloc, pn_generation *g, pn_bytes name, uint8_t kind,
                                  uint64_t changed)
{
    pn_manifest_store *at = (pn_manifest_store *)pn_generation_store(g, name);
    if (at == NULL) {
        pn_manifest_store fresh = {0};
        pn_manifest_store *grown = pn_alloc_grow(alloc, g->stores, (g->store_count + 1) * sizeof *grown);
        PN_FAIL_IF(grown == NULL, PN_ERR_NOMEM);
        g->stores = grown;
        PN_TRY(copy_text(alloc, name, &fresh.name));
        at = &g->stores[g->store_count++];
        *at = fresh;
    }
    at->kind = kind;
    at->changed = changed;
    return PN_OK;
}

pn_status pn_generation_set_foreign(const pn_alloc *alloc, pn_generation *g, const pn_manifest_foreign *list, size_t n)
{
    pn_manifest_foreign *copy = NULL;
    pn_status status = PN_OK;
    if (n > 0) {
        copy = pn_alloc_zero(alloc, n, sizeof *copy);
        PN_FAIL_IF(copy == NULL, PN_ERR_NOMEM);
    }
    for (size_t i = 0; status == PN_OK && i < n; i++) {
        status = copy_text(alloc, text_of(list[i].name), &copy[i].name);
        if (status == PN_OK) status = copy_text(alloc, text_of(list[i].type), &copy[i].type);
    }
    if (status != PN_OK) {
        free_foreign(alloc, copy, n);
        return status;
    }
    free_foreign(alloc, g->foreign, g->foreign_count);
    g->foreign = copy;
    g->foreign_count = n;
    return PN_OK;
}

pn_status pn_generation_set_json(const pn_alloc *alloc, pn_generation *g, const pn_manifest_json *list, size_t n)
{
    pn_manifest_json *copy = NULL;
    pn_status status = PN_OK;
    if (n > 0) {
        copy = pn_alloc_zero(alloc, n, sizeof *copy);
        PN_FAIL_IF(copy == NULL, PN_ERR_NOMEM);
    }
    for (size_t i = 0; status == PN_OK && i < n; i++) {
        copy[i] = list[i];
        copy[i].name = NULL;
        status = copy_text(alloc, text_of(list[i].name), &copy[i].name);
    }
    if (status != PN_OK) {
        free_json(alloc, copy, n);
        return status;
    }
    free_json(alloc, g->json, g->json_count);
    g->json = copy;
    g->json_count = n;
    return PN_OK;
}

static pn_status copy_stores(const pn_alloc *alloc, const pn_generation *from, pn_generation *to)
{
    if (from->store_count == 0) return PN_OK;
    to->stores = pn_alloc_zero(alloc, from->store_count, sizeof *to->stores);
    PN_FAIL_IF(to->stores == NULL, PN_ERR_NOMEM);
    for (size_t i = 0; i < from->store_count; i++) {
        pn_manifest_store s = from->stores[i];
        PN_TRY(copy_text(alloc, text_of(s.name), &s.name));
        to->stores[to->store_count++] = s;
    }
    return PN_OK;
}

pn_status pn_generation_copy(const pn_alloc *alloc, const pn_generation *from, pn_generation *to)
{
    pn_generation g = {.number = from->number, .time = from->time};
    pn_status status = pn_generation_set_segments(alloc, &g, from->segments, from->segment_count);
    if (status == PN_OK) status = copy_stores(alloc, from, &g);
    if (status == PN_OK) status = pn_generation_set_foreign(alloc, &g, from->foreign, from->foreign_count);
    if (status == PN_OK) status = pn_generation_set_json(alloc, &g, from->json, from->json_count);
    if (status == PN_OK) *to = g;
    else pn_generation_clear(alloc, &g);
    return status;
}

bool pn_generation_same_foreign(const pn_generation *g, const pn_manifest_foreign *list, size_t n)
{
    if (g->foreign_count != n) return false;
    for (size_t i = 0; i < n; i++)
        if (strcmp(g->foreign[i].name, list[i].name) != 0 || strcmp(g->foreign[i].type, list[i].type) != 0)
            return false;
    return true;
}

/* ---- editing a manifest ---- */

pn_status pn_manifest_add_segment(pn_manifest *m, const pn_manifest_segment *s, uint32_t *position)
{
    PN_FAIL_IF(m->segment_count >= UINT32_MAX, PN_ERR_RANGE);
    pn_manifest_segment *grown = pn_alloc_grow(m->alloc, m->segments, (m->segment_count + 1) * sizeof *grown);
    PN_FAIL_IF(grown == NULL, PN_ERR_NOMEM);
    m->segments = grown;
    *position = (uint32_t)m->segment_count;
    m->segments[m->segment_count++] = *s;
    return PN_OK;
}

pn_status pn_manifest_push(pn_manifest *m, pn_generation *g)
{
    pn_generation *grown = pn_alloc_grow(m->alloc, m->generations, (m->generation_count + 1) * sizeof *grown);
    PN_FAIL_IF(grown == NULL, PN_ERR_NOMEM);
    m->generations = grown;
    m->generations[m->generation_count++] = *g;
    *g = (pn_generation){0};
    return PN_OK;
}

void pn_manifest_drop(pn_manifest *m, size_t n)
{
    if (n == 0) return;
    for (size_t i = 0; i < n; i++) pn_generation_clear(m->alloc, &m->generations[i]);
    m->generation_count -= n;
    memmove(m->generations, m->generations + n, m->generation_count * sizeof *m->generations);
}

uint64_t pn_manifest_bytes(const pn_manifest *m, size_t n, uint8_t *scratch)
{
    uint64_t sum = 0;
    if (m->segment_count > 0) memset(scratch, 0, m->segment_count);
    for (size_t i = m->generation_count - n; i < m->generation_count; i++) {
        const pn_generation *g = &m->generations[i];
        for (size_t k = 0; k < g->segment_count; k++) {
            uint32_t at = g->segments[k];
            if (!scratch[at]) sum += m->segments[at].size;
            scratch[at] = 1;
        }
    }
    return sum;
}

pn_status pn_manifest_tidy(pn_manifest *m)
{
    if (m->segment_count == 0) return PN_OK;
    enum { UNUSED = 0, USED = 1 };
    uint32_t *to = pn_alloc_zero(m->alloc, m->segment_count, sizeof *to), n = 0;
    PN_FAIL_IF(to == NULL, PN_ERR_NOMEM);
    for (size_t i = 0; i < m->generation_count; i++)
        for (size_t k = 0; k < m->generations[i].segment_count; k++) to[m->generations[i].segments[k]] = USED;
    for (size_t i = 0; i < m->segment_count; i++) {
        if (to[i] == UNUSED) continue;
        m->segments[n] = m->segments[i];
        to[i] = n++;
    }
    m->segment_count = n;
    for (size_t i = 0; i < m->generation_count; i++)
        for (size_t k = 0; k < m->generations[i].segment_count; k++) {
            uint32_t *at = &m->generations[i].segments[k];
            *at = to[*at];
        }
    pn_alloc_put(m->alloc, to);
    return PN_OK;
}

/* ---- looking ---- */

const pn_generation *pn_manifest_current(const pn_manifest *m)
{
    return m->generation_count > 0 ? &m->generations[m->generation_count - 1] : NULL;
}

const pn_generation *pn_manifest_find(const pn_manifest *m, uint64_t number)
{
    for (size_t i = m->generation_count; i-- > 0;)
        if (m->generations[i].number == number) return &m->generations[i];
    return NULL;
}

const pn_manifest_store *pn_generation_store(const pn_generation *g, pn_bytes name)
{
    for (size_t i = 0; i < g->store_count; i++)
        if (pn_bytes_equal(text_of(g->stores[i].name), name)) return &g->stores[i];
    return NULL;
}

/* ---- names of segments ---- */

void pn_segment_name(uint64_t generation, uint64_t random, char to[PN_SEGMENT_NAME_LEN + 1])
{
    snprintf(to, PN_SEGMENT_NAME_LEN + 1, "seg-%016" PRIx64 "-%016" PRIx64 ".pn", generation, random);
}

static bool is_hex(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f'))) return false;
    return true;
}

bool pn_segment_name_ok(pn_bytes name)
{
    const uint8_t *p = name.ptr;
    return name.len == PN_SEGMENT_NAME_LEN && memcmp(p, "seg-", NAME_GENERATION) == 0 &&
           is_hex(p + NAME_GENERATION, 16) && p[NAME_DASH] == '-' && is_hex(p + NAME_RANDOM, 16) &&
           memcmp(p + NAME_SUFFIX, ".pn", 3) == 0;
}
