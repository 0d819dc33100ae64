#include "store/kv.h"

#include "codec/json_read.h"
#include "codec/json_write.h"
#include "store/batch.h"

enum { TURN_AFTER = 256 * 1024 }; /* bytes of text: well below a millisecond */

pn_status pn_kv_new(const pn_alloc *alloc, const pn_host *host, pn_kv **out)
{
    pn_kv *kv = pn_alloc_zero(alloc, 1, sizeof *kv);
    PN_FAIL_IF(kv == NULL, PN_ERR_NOMEM);
    kv->alloc = alloc;
    kv->refs = 1;
    kv->host = *host;
    pn_omap_init(&kv->colls, alloc, sizeof(pn_coll *));
    pn_changes_init(&kv->names, alloc);
    pn_changes_init(&kv->taken, alloc);
    *out = kv;
    return PN_OK;
}

static pn_status coll_new(const pn_alloc *alloc, pn_coll **out)
{
    pn_coll *coll = pn_alloc_get(alloc, sizeof *coll);
    PN_FAIL_IF(coll == NULL, PN_ERR_NOMEM);
    pn_omap_init(&coll->cells, alloc, sizeof(pn_cell));
    coll->rewrites = 0;
    coll->made = (pn_made){NULL, 0};
    pn_changes_init(&coll->changes, alloc);
    pn_changes_init(&coll->taken, alloc);
    pn_omap_init(&coll->lives, alloc, sizeof(pn_live_note *));
    pn_omap_init(&coll->structs, alloc, sizeof(void *));
    coll->gathering = false;
    *out = coll;
    return PN_OK;
}

void pn_coll_free(pn_coll *coll, const pn_alloc *alloc, const pn_host *host)
{
    if (coll == NULL) return;
    size_t pos = 0;
    pn_bytes key;
    void *value;
    while (pn_omap_next(&coll->cells, &pos, &key, &value)) pn_cell_release(value, host);
    pn_omap_clear(&coll->cells);
    pn_made_clear(&coll->made, host);
    pn_changes_clear(&coll->changes);
    pn_changes_clear(&coll->taken);
    pn_live_notes_clear(&coll->lives);
    pn_omap_clear(&coll->structs);
    pn_alloc_put(alloc, coll);
}

void pn_kv_let_go(pn_kv *kv, pn_cell *old)
{
    if (old->kind != PN_CELL_STRUCT) {
        pn_host host = kv->host; /* host code may free the store */
        pn_cell_release(old, &host);
        return;
    }
    pn_gone_add(&kv->gone, old->structure, &kv->host);
    *old = (pn_cell){.kind = PN_CELL_EMPTY};
}

pn_kv *pn_kv_ref(pn_kv *kv)
{
    kv->refs++;
    return kv;
}

void pn_kv_unref(pn_kv *kv)
{
    if (kv == NULL || --kv->refs > 0) return;
    size_t pos = 0;
    pn_bytes name;
    void *value;
    while (pn_omap_next(&kv->colls, &pos, &name, &value)) pn_coll_free(*(pn_coll **)value, kv->alloc, &kv->host);
    pn_omap_clear(&kv->colls);
    pn_gone_free(&kv->gone, SIZE_MAX, &kv->host);
    pn_changes_clear(&kv->names);
    pn_changes_clear(&kv->taken);
    pn_alloc_put(kv->alloc, kv);
}

pn_coll *pn_kv_find(const pn_kv *kv, pn_bytes name)
{
    pn_coll **slot = pn_omap_get(&kv->colls, name);
    return slot ? *slot : NULL;
}

pn_status pn_kv_collection(pn_kv *kv, pn_bytes name, pn_coll **out)
{
    if ((*out = pn_kv_find(kv, name)) != NULL) return PN_OK;
    pn_coll *coll;
    PN_TRY(coll_new(kv->alloc, &coll));
    void *slot;
    bool added;
    pn_status s = pn_omap_put(&kv->colls, name, NULL, &slot, &added);
    if (s != PN_OK) {
        pn_alloc_put(kv->alloc, coll);
        return s;
    }
    *(pn_coll **)slot = *out = coll;
    pn_changes_put(&kv->names, pn_omap_key_of(slot), pn_omap_owner_of(slot), true);
    return PN_OK;
}

pn_coll *pn_kv_drop(pn_kv *kv, pn_bytes name)
{
    pn_coll *coll = pn_kv_find(kv, name);
    if (coll == NULL) return NULL;
    pn_changes_remove(&kv->names, name);
    (void)pn_omap_remove(&kv->colls, name, NULL);
    return coll;
}

pn_status pn_coll_put_hashed(pn_coll *c, pn_bytes key, uint32_t hash, pn_blob *owner, pn_cell cell, pn_cell *old)
{
    void *slot;
    bool added;
    PN_TRY(pn_omap_put_hashed(&c->cells, key, hash, owner, &slot, &added));
    *old = *(pn_cell *)slot; /* EMPTY (zero) when added */
    *(pn_cell *)slot = cell;
    c->rewrites++;
    if (c->changes.on) pn_changes_put(&c->changes, pn_omap_key_of(slot), pn_omap_owner_of(slot), added);
    return PN_OK;
}

pn_status pn_coll_put(pn_coll *c, pn_bytes key, pn_blob *owner, pn_cell cell, pn_cell *old)
{
    PN_FAIL_IF(key.len > UINT32_MAX, PN_ERR_RANGE); /* before its bytes are read */
    return pn_coll_put_hashed(c, key, pn_omap_near(&c->cells, key), owner, cell, old);
}

bool pn_coll_remove(pn_coll *c, pn_bytes key, pn_cell *old)
{
    if (c->changes.on && pn_coll_get(c, key) != NULL) pn_changes_remove(&c->changes, key); /* key may go with the entry */
    return pn_omap_remove(&c->cells, key, old);
}

/* ---- loading ---- */

/* The key's characters: in the text itself, or unescaped into scratch. */
static pn_status key_bytes(const pn_json_str *key, pn_buf *scratch, pn_bytes *out)
{
    *out = (pn_bytes){key->ptr, key->len};
    if (!key->has_escape) return PN_OK;
    scratch->len = 0;
    PN_TRY(pn_json_unescape(key, scratch));
    *out = pn_buf_view(scratch);
    return PN_OK;
}

static pn_status load_collection(pn_json_reader *r, pn_kv *kv, pn_coll *coll, pn_blob *text, pn_buf *scratch)
{
    PN_FAIL_IF(pn_json_peek(r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(r));
    for (;;) {
        pn_json_str key;
        bool more;
        PN_TRY(pn_json_object_next(r, &key, &more));
        if (!more) return PN_OK;
        pn_json_span span;
        PN_TRY(pn_json_skip(r, &span));
        pn_bytes name;
        PN_TRY(key_bytes(&key, scratch, &name));
        pn_cell old, cell = pn_cell_json(text, (pn_bytes){span.ptr, span.len}, span.canonical);
        pn_status s = pn_coll_put(coll, name, key.has_escape ? NULL : text, cell, &old);
        pn_cell_release(s == PN_OK ? &old : &cell, &kv->host); /* a repeated key: the last one counts */
        PN_TRY(s);
    }
}

static pn_status load_store(pn_json_reader *r, pn_kv *kv, pn_blob *text, pn_buf *scratch)
{
    PN_FAIL_IF(pn_json_peek(r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(r));
    for (;;) {
        pn_json_str key;
        bool more;
        PN_TRY(pn_json_object_next(r, &key, &more));
        if (!more) return pn_json_end(r);
        pn_bytes name;
        PN_TRY(key_bytes(&key, scratch, &name));
        PN_FAIL_IF(pn_kv_find(kv, name) != NULL, PN_ERR_UNSUPPORTED); /* a repeated collection */
        pn_coll *coll;
        PN_TRY(pn_kv_collection(kv, name, &coll));
        PN_TRY(load_collection(r, kv, coll, text, scratch));
    }
}

pn_status pn_kv_load_json(const pn_alloc *alloc, const pn_host *host, pn_blob *text, pn_kv **out, pn_error *err)
{
    pn_kv *kv;
    PN_TRY(pn_kv_new(alloc, host, &kv));
    pn_json_reader r;
    pn_json_reader_init(&r, pn_blob_view(text));
    pn_buf scratch;
    pn_buf_init(&scratch, alloc);
    pn_status s = load_store(&r, kv, text, &scratch);
    pn_buf_clear(&scratch);
    if (s != PN_OK) {
        if (err != NULL) *err = r.error;
        pn_kv_unref(kv);
        return s;
    }
    *out = kv;
    return PN_OK;
}

/* ---- saving ---- */

void pn_kv_place_clear(pn_kv_place *place)
{
    pn_blob_unref(place->collection_owner);
    pn_blob_unref(place->key_owner);
    *place = (pn_kv_place){.turns = false};
}

/* Grows with every change of any collection. */
static uint64_t version_of_values(const pn_kv *kv)
{
    uint64_t sum = 0;
    size_t pos = 0;
    pn_bytes name;
    void *slot;
    while (pn_omap_next(&kv->colls, &pos, &name, &slot)) sum += pn_coll_version(*(pn_coll **)slot);
    return sum;
}

/* A turn for others, after much text. EXISTS: they changed the store. */
static pn_status give_turn(const pn_kv *kv, const pn_buf *out, pn_kv_place *place)
{
    if (!place->turns || out->len - place->turn_at < TURN_AFTER) return PN_OK;
    place->turn_at = out->len;
    uint64_t names = kv->colls.version, values = version_of_values(kv);
    kv->host.turn(kv->host.ctx);
    return names == kv->colls.version && values == version_of_values(kv) ? PN_OK : PN_ERR_EXISTS;
}

/* The cell's text, while the place holds the key. */
static pn_status write_cell(const pn_kv *kv, const pn_cell *cell, pn_blob *key_owner, pn_buf *out, pn_kv_place *place)
{
    place->key_owner = pn_blob_ref(key_owner);
    PN_TRY(pn_cell_write_json(cell, &kv->host, kv->alloc, out));
    pn_blob_unref(place->key_owner);
    place->key_owner = NULL;
    return give_turn(kv, out, place);
}

static pn_status write_collection(const pn_kv *kv, const pn_coll *coll, pn_buf *out, pn_kv_place *place)
{
    uint64_t version = coll->cells.version, names = kv->colls.version;
    size_t pos = 0;
    pn_blob *owner;
    void *cell;
    PN_TRY(pn_buf_push(out, '{'));
    for (bool first = true; pn_omap_next_owned(&coll->cells, &pos, &place->key, &owner, &cell); first = false) {
        if (!first) PN_TRY(PN_BUF_LIT(out, ", "));
        PN_TRY(pn_json_put_string(out, place->key));
        PN_TRY(PN_BUF_LIT(out, ": "));
        PN_TRY(write_cell(kv, cell, owner, out, place));
        /* a live value's encoder is host code: other code may have run meanwhile */
        PN_FAIL_IF(kv->colls.version != names || coll->cells.version != version, PN_ERR_EXISTS);
    }
    return pn_buf_push(out, '}');
}

pn_status pn_kv_write_json(const pn_kv *kv, pn_buf *out, pn_kv_place *place)
{
    size_t pos = 0;
    pn_blob *owner;
    void *slot;
    PN_TRY(pn_buf_push(out, '{'));
    for (bool first = true; pn_omap_next_owned(&kv->colls, &pos, &place->collection, &owner, &slot); first = false) {
        if (!first) PN_TRY(PN_BUF_LIT(out, ", "));
        PN_TRY(pn_json_put_string(out, place->collection));
        PN_TRY(PN_BUF_LIT(out, ": "));
        pn_blob_unref(place->collection_owner);
        place->collection_owner = pn_blob_ref(owner);
        PN_TRY(write_collection(kv, *(pn_coll **)slot, out, place));
    }
    return pn_buf_push(out, '}');
}
