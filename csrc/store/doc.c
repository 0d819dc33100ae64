#include "store/doc.h"

#include "codec/json_read.h"

pn_status pn_doc_member(pn_bytes object, pn_bytes name, pn_json_span *out)
{
    pn_json_reader r;
    pn_json_reader_init(&r, object);
    PN_FAIL_IF(pn_json_peek(&r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&r));
    pn_status found = PN_ERR_NOT_FOUND;
    for (;;) {
        pn_json_str key;
        pn_json_span value;
        bool more;
        PN_TRY(pn_json_object_next(&r, &key, &more));
        if (!more) return found;
        PN_TRY(pn_json_skip(&r, &value));
        PN_FAIL_IF(key.has_escape, PN_ERR_UNSUPPORTED); /* could spell the name: leave it to the general way */
        if (!pn_bytes_equal((pn_bytes){key.ptr, key.len}, name)) continue;
        *out = value;
        found = PN_OK;
    }
}

pn_status pn_doc_ref_of(const pn_cell *metadata, pn_buf *id, bool *has)
{
    *has = false;
    if (metadata == NULL) return PN_OK;
    PN_FAIL_IF(metadata->kind != PN_CELL_JSON, PN_ERR_UNSUPPORTED);
    pn_json_span value;
    pn_status s = pn_doc_member(pn_cell_span(metadata), PN_BYTES("ref_doc_id"), &value);
    if (s == PN_ERR_NOT_FOUND || (s == PN_OK && value.type == PN_JSON_NULL)) return PN_OK;
    PN_TRY(s);
    PN_FAIL_IF(value.type != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    pn_json_reader r;
    pn_json_str str;
    pn_json_reader_init(&r, (pn_bytes){value.ptr, value.len});
    PN_TRY(pn_json_string(&r, &str));
    PN_TRY(str.has_escape ? pn_json_unescape(&str, id) : pn_buf_append(id, str.ptr, str.len));
    *has = true;
    return PN_OK;
}

static bool is_empty_object(pn_bytes text)
{
    pn_json_reader r;
    pn_json_str key;
    bool more = true;
    pn_json_reader_init(&r, text);
    return pn_json_peek(&r) == PN_JSON_OBJECT && pn_json_object_begin(&r) == PN_OK &&
           pn_json_object_next(&r, &key, &more) == PN_OK && !more;
}

pn_status pn_doc_refdoc_in(pn_cell *cell, const pn_alloc *alloc, pn_refdoc **out)
{
    *out = NULL;
    PN_TRY(pn_cell_settle(cell, NULL));
    if (cell->kind == PN_CELL_REFDOC) {
        *out = cell->refdoc;
        return PN_OK;
    }
    PN_FAIL_IF(cell->kind != PN_CELL_JSON, PN_ERR_UNSUPPORTED);
    if (is_empty_object(pn_cell_span(cell))) return PN_OK;
    pn_refdoc *r;
    pn_blob *blob = cell->span.blob;
    PN_TRY(pn_refdoc_from_json(alloc, blob, pn_cell_span(cell), &r));
    *cell = (pn_cell){.kind = PN_CELL_REFDOC, .refdoc = r};
    pn_blob_unref(blob);
    *out = r;
    return PN_OK;
}

pn_status pn_doc_refdoc(pn_coll *refs, pn_bytes ref_id, const pn_alloc *alloc, pn_refdoc **out)
{
    *out = NULL;
    pn_cell *cell = pn_coll_get(refs, ref_id);
    return cell ? pn_doc_refdoc_in(cell, alloc, out) : PN_OK;
}

/* Takes the key out of the collection of that name (created when missing). */
static pn_status take(pn_kv *kv, pn_bytes collection, pn_bytes key, pn_cell_bin *bin, bool *existed)
{
    pn_coll *coll;
    PN_TRY(pn_kv_collection(kv, collection, &coll));
    pn_cell old = {.kind = PN_CELL_EMPTY};
    *existed = pn_coll_remove(coll, key, &old);
    pn_cell_bin_add(bin, old);
    return PN_OK;
}

/* Takes the node from its source's info. */
static pn_status unlink_node(pn_kv *kv, const pn_doc_names *names, pn_bytes ref_id, pn_bytes id, pn_cell_bin *bin)
{
    pn_coll *refs;
    pn_refdoc *r;
    PN_TRY(pn_kv_collection(kv, names->refs, &refs));
    PN_TRY(pn_doc_refdoc(refs, ref_id, kv->alloc, &r));
    if (r == NULL) return PN_OK;
    PN_FAIL_IF(r->metadata.kind != PN_CELL_JSON, PN_ERR_UNSUPPORTED);
    if (pn_omap_remove(&r->ids, id, NULL)) pn_coll_touch(refs, pn_coll_get(refs, ref_id));
    if (pn_omap_len(&r->ids) > 0) return PN_OK;
    bool existed;
    PN_TRY(take(kv, names->metadata, ref_id, bin, &existed));
    PN_TRY(take(kv, names->nodes, ref_id, bin, &existed));
    return take(kv, names->refs, ref_id, bin, &existed);
}

pn_status pn_doc_delete(pn_kv *kv, const pn_doc_names *names, pn_bytes id, pn_cell_bin *bin, bool *existed)
{
    PN_TRY(pn_cell_bin_reserve(bin, 5));
    pn_coll *metadata;
    PN_TRY(pn_kv_collection(kv, names->metadata, &metadata));
    pn_cell *cell = pn_coll_get(metadata, id);
    if (cell != NULL) PN_TRY(pn_cell_settle(cell, NULL));
    pn_buf ref;
    pn_buf_init(&ref, kv->alloc);
    bool has, had;
    pn_status s = pn_doc_ref_of(cell, &ref, &has);
    if (s == PN_OK && has) s = unlink_node(kv, names, pn_buf_view(&ref), id, bin);
    pn_buf_clear(&ref);
    PN_TRY(s);
    PN_TRY(take(kv, names->nodes, id, bin, existed));
    return take(kv, names->metadata, id, bin, &had);
}
