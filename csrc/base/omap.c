#include "base/omap.h"

#include "base/hash.h"

#include <assert.h>

#define DELETED UINT32_MAX
enum { MIN_SLOTS = 8, KEYS_MIN = 32, KEYS_MAX = 4096 };

typedef pn_omap_head head;

static head *entry_at(const pn_omap *m, size_t i) { return (head *)(m->entries + i * m->stride); }
static void *value_of(head *e) { return e + 1; }

pn_bytes pn_omap_key_of(const void *value)
{
    const head *e = (const head *)value - 1;
    return (pn_bytes){e->ptr, e->len};
}

pn_blob *pn_omap_owner_of(const void *value) { return ((const head *)value - 1)->owner; }

void pn_omap_init(pn_omap *m, const pn_alloc *alloc, size_t value_size)
{
    *m = (pn_omap){.alloc = alloc, .seed = pn_hash_seed(), .value_size = value_size};
    m->stride = sizeof(head) + ((value_size + 7) & ~(size_t)7);
}

void pn_omap_clear(pn_omap *m)
{
    pn_blob_run run = {NULL, 0};
    for (size_t i = 0; i < m->used; i++) pn_blob_run_unref(&run, entry_at(m, i)->owner);
    pn_blob_unref_many(run.blob, run.n);
    pn_blob_unref(m->keys);
    pn_alloc_put(m->alloc, m->entries);
    pn_alloc_put(m->alloc, m->index);
    m->keys = NULL;
    m->keys_left = 0;
    m->entries = NULL;
    m->index = NULL;
    m->used = m->live = m->cap = m->mask = 0;
    m->version++;
    m->moves++;
}

/* The slot of the key, or the first free one on its way. */
static size_t probe(const pn_omap *m, pn_bytes key, uint32_t hash, uint32_t *found)
{
    size_t free_slot = SIZE_MAX;
    for (size_t i = hash & m->mask, step = 1;; i = (i + step++) & m->mask) {
        uint32_t n = m->index[i];
        if (n == 0) {
            *found = 0;
            return free_slot != SIZE_MAX ? free_slot : i;
        }
        if (n == DELETED) {
            if (free_slot == SIZE_MAX) free_slot = i;
            continue;
        }
        head *e = entry_at(m, n - 1);
        if (e->hash == hash && e->len == key.len && (e->ptr == key.ptr || key.len == 0 || memcmp(e->ptr, key.ptr, key.len) == 0)) {
            *found = n;
            return i;
        }
    }
}

/* Sweeps removed entries and builds the index anew with `slots` slots. */
static pn_status rebuild(pn_omap *m, size_t slots)
{
    uint32_t *index = pn_alloc_zero(m->alloc, slots, sizeof *index);
    PN_FAIL_IF(index == NULL, PN_ERR_NOMEM);
    size_t to = 0;
    for (size_t from = 0; from < m->used; from++) {
        head *e = entry_at(m, from);
        if (e->ptr == NULL) continue;
        if (to != from) memcpy(entry_at(m, to), e, m->stride);
        size_t i = e->hash & (slots - 1);
        for (size_t step = 1; index[i] != 0; step++) i = (i + step) & (slots - 1);
        index[i] = (uint32_t)++to;
    }
    assert(to == m->live);
    m->moves += to != m->used;
    m->used = to;
    pn_alloc_put(m->alloc, m->index);
    m->index = index;
    m->mask = slots - 1;
    return PN_OK;
}

static void ref_owners(const pn_omap *m)
{
    pn_blob_run run = {NULL, 0};
    for (size_t i = 0; i < m->used; i++) pn_blob_run_ref(&run, entry_at(m, i)->owner);
    pn_blob_ref_many(run.blob, run.n);
}

pn_status pn_omap_clone(const pn_omap *m, pn_omap *out)
{
    *out = *m;
    out->entries = NULL;
    out->index = NULL;
    out->keys = NULL;
    out->keys_left = 0;
    out->used = out->live = out->cap = out->mask = 0;
    if (m->live == 0) return PN_OK;
    out->entries = pn_alloc_get(m->alloc, m->used * m->stride);
    out->index = pn_alloc_get(m->alloc, (m->mask + 1) * sizeof *m->index);
    if (out->entries == NULL || out->index == NULL) {
        pn_omap_clear(out);
        return PN_ERR_NOMEM;
    }
    memcpy(out->entries, m->entries, m->used * m->stride);
    memcpy(out->index, m->index, (m->mask + 1) * sizeof *m->index);
    out->used = out->cap = m->used;
    out->live = m->live;
    out->mask = m->mask;
    ref_owners(out);
    return PN_OK;
}

static size_t slots_for(size_t n)
{
    size_t slots = MIN_SLOTS;
    while (slots / 3 * 2 < n) slots *= 2;
    return slots;
}

pn_status pn_omap_reserve(pn_omap *m, size_t n)
{
    PN_FAIL_IF(n > UINT32_MAX - 16 || n > SIZE_MAX / 2 / m->stride, PN_ERR_NOMEM);
    if (n > m->cap) {
        uint8_t *p = pn_alloc_grow(m->alloc, m->entries, n * m->stride);
        PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
        m->entries = p;
        m->cap = n;
    }
    return m->mask == 0 || (m->mask + 1) / 3 * 2 < n ? rebuild(m, slots_for(n)) : PN_OK;
}

/* Room for one more entry. */
static pn_status make_room(pn_omap *m)
{
    size_t slots = m->mask ? m->mask + 1 : 0;
    if (m->used < m->cap && m->used + 1 <= slots / 3 * 2) return PN_OK;
    if (m->used >= 16 && m->live < m->used / 2) return rebuild(m, slots_for(m->live * 2));
    size_t want = m->live + m->live / 2 + MIN_SLOTS / 2;
    if (want < m->used + 1) want = m->used + 1;
    return pn_omap_reserve(m, want);
}

void *pn_omap_get_hashed(const pn_omap *m, pn_bytes key, uint32_t hash)
{
    if (m->live == 0) return NULL;
    uint32_t n;
    probe(m, key, hash, &n);
    return n ? value_of(entry_at(m, n - 1)) : NULL;
}

void *pn_omap_get(const pn_omap *m, pn_bytes key)
{
    return m->live ? pn_omap_get_hashed(m, key, (uint32_t)pn_hash_bytes(key, m->seed)) : NULL;
}

uint32_t pn_omap_near(const pn_omap *m, pn_bytes key)
{
    uint32_t hash = (uint32_t)pn_hash_bytes(key, m->seed);
    if (m->index != NULL) PN_PREFETCH(&m->index[hash & m->mask]);
    return hash;
}

void pn_omap_nearer(const pn_omap *m, uint32_t hash)
{
    uint32_t n = m->index != NULL ? m->index[hash & m->mask] : 0;
    if (n != 0 && n != DELETED) PN_PREFETCH(entry_at(m, n - 1));
}

/* Copies a key to where copied keys go; a reference for the entry. */
static pn_status copy_key(pn_omap *m, pn_bytes *key, pn_blob **owner)
{
    if (m->keys == NULL || key->len > m->keys_left) {
        size_t room = KEYS_MIN * (m->live + 1) < KEYS_MAX ? KEYS_MIN * (m->live + 1) : KEYS_MAX;
        if (room < key->len) room = key->len;
        pn_blob *blob;
        PN_TRY(pn_blob_new(m->alloc, room, &m->keys_at, &blob));
        pn_blob_unref(m->keys);
        m->keys = blob;
        m->keys_left = room;
    }
    if (key->len) memcpy(m->keys_at, key->ptr, key->len);
    key->ptr = m->keys_at;
    m->keys_at += key->len;
    m->keys_left -= key->len;
    *owner = pn_blob_ref(m->keys);
    return PN_OK;
}

pn_status pn_omap_put(pn_omap *m, pn_bytes key, pn_blob *owner, void **value, bool *added)
{
    PN_FAIL_IF(key.len > UINT32_MAX, PN_ERR_RANGE); /* before its bytes are read */
    return pn_omap_put_hashed(m, key, (uint32_t)pn_hash_bytes(key, m->seed), owner, value, added);
}

pn_status pn_omap_put_hashed(pn_omap *m, pn_bytes key, uint32_t hash, pn_blob *owner, void **value, bool *added)
{
    PN_FAIL_IF(key.len > UINT32_MAX, PN_ERR_RANGE);
    uint32_t n = 0;
    if (m->live) {
        probe(m, key, hash, &n);
        if (n) {
            *value = value_of(entry_at(m, n - 1));
            *added = false;
            return PN_OK;
        }
    }
    PN_TRY(make_room(m));
    if (owner == NULL)
        PN_TRY(copy_key(m, &key, &owner));
    else
        pn_blob_ref(owner);
    size_t slot = probe(m, key, hash, &n);
    head *e = entry_at(m, m->used);
    if (key.ptr == NULL) key.ptr = (const uint8_t *)""; /* an empty one; NULL is a removed entry */
    *e = (head){key.ptr, owner, (uint32_t)key.len, hash};
    memset(value_of(e), 0, m->stride - sizeof *e);
    m->index[slot] = (uint32_t)++m->used;
    m->live++;
    m->version++;
    *value = value_of(e);
    *added = true;
    return PN_OK;
}

bool pn_omap_remove(pn_omap *m, pn_bytes key, void *out)
{
    return m->live && pn_omap_remove_hashed(m, key, (uint32_t)pn_hash_bytes(key, m->seed), out);
}

bool pn_omap_remove_hashed(pn_omap *m, pn_bytes key, uint32_t hash, void *out)
{
    if (m->live == 0) return false;
    uint32_t n;
    size_t slot = probe(m, key, hash, &n);
    if (n == 0) return false;
    head *e = entry_at(m, n - 1);
    if (out != NULL) memcpy(out, value_of(e), m->value_size);
    pn_blob *owner = e->owner;
    e->ptr = NULL;
    e->owner = NULL;
    m->index[slot] = DELETED;
    m->live--;
    m->version++;
    if (m->live == 0) { /* every slot is a grave: start afresh */
        memset(m->index, 0, (m->mask + 1) * sizeof *m->index);
        m->used = 0;
        m->moves++;
    }
    pn_blob_unref(owner);
    return true;
}

bool pn_omap_next_owned(const pn_omap *m, size_t *pos, pn_bytes *key, pn_blob **owner, void **value)
{
    while (*pos < m->used) {
        head *e = entry_at(m, (*pos)++);
        if (e->ptr == NULL) continue;
        *key = (pn_bytes){e->ptr, e->len};
        *owner = e->owner;
        *value = value_of(e);
        return true;
    }
    return false;
}

bool pn_omap_next(const pn_omap *m, size_t *pos, pn_bytes *key, void **value)
{
    pn_blob *owner;
    return pn_omap_next_owned(m, pos, key, &owner, value);
}
