#include "store/refdoc.h"

#include "codec/json_read.h"
#include "codec/json_write.h"

pn_status pn_refdoc_new(const pn_alloc *alloc, pn_refdoc **out)
{
    pn_refdoc *r = pn_alloc_zero(alloc, 1, sizeof *r);
    PN_FAIL_IF(r == NULL, PN_ERR_NOMEM);
    pn_omap_init(&r->ids, alloc, 0);
    *out = r;
    return PN_OK;
}

void pn_refdoc_free(pn_refdoc *r, const pn_host *host)
{
    if (r == NULL) return;
    const pn_alloc *alloc = r->ids.alloc;
    pn_cell metadata = r->metadata;
    pn_made_clear(&r->listed, host);
    pn_omap_clear(&r->ids);
    pn_alloc_put(alloc, r);
    pn_cell_release(&metadata, host);
}

/* Reads the list of ids into the set; a repeated or odd id is UNSUPPORTED. */
static pn_status read_ids(pn_refdoc *r, pn_json_reader *in, pn_blob *blob)
{
    PN_FAIL_IF(pn_json_peek(in) != PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_array_begin(in));
    pn_buf scratch;
    pn_buf_init(&scratch, r->ids.alloc);
    pn_status s = PN_OK;
    for (;;) {
        bool more;
        if ((s = pn_json_array_next(in, &more)) != PN_OK || !more) break;
        if (pn_json_peek(in) != PN_JSON_STRING) {
            s = PN_ERR_UNSUPPORTED;
            break;
        }
        pn_json_str id;
        if ((s = pn_json_string(in, &id)) != PN_OK) break;
        pn_bytes key = {id.ptr, id.len};
        if (id.has_escape) {
            scratch.len = 0;
            if ((s = pn_json_unescape(&id, &scratch)) != PN_OK) break;
            key = pn_buf_view(&scratch);
        }
        void *value;
        bool added;
        if ((s = pn_omap_put(&r->ids, key, id.has_escape ? NULL : blob, &value, &added)) != PN_OK) break;
        if (!added) {
            s = PN_ERR_UNSUPPORTED;
            break;
        }
    }
    pn_buf_clear(&scratch);
    return s;
}

static pn_status expect_key(pn_json_reader *in, pn_bytes name)
{
    pn_json_str key;
    bool more;
    PN_TRY(pn_json_object_next(in, &key, &more));
    return more && !key.has_escape && pn_bytes_equal((pn_bytes){key.ptr, key.len}, name) ? PN_OK
                                                                                        : PN_ERR_UNSUPPORTED;
}

static pn_status read_refdoc(pn_refdoc *r, pn_json_reader *in, pn_blob *blob)
{
    PN_FAIL_IF(pn_json_peek(in) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(in));
    PN_TRY(expect_key(in, PN_BYTES("node_ids")));
    PN_TRY(read_ids(r, in, blob));
    PN_TRY(expect_key(in, PN_BYTES("metadata")));
    PN_FAIL_IF(pn_json_peek(in) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    pn_json_span span;
    PN_TRY(pn_json_skip(in, &span));
    pn_json_str key;
    bool more;
    PN_TRY(pn_json_object_next(in, &key, &more));
    PN_FAIL_IF(more, PN_ERR_UNSUPPORTED);
    r->metadata = pn_cell_json(blob, (pn_bytes){span.ptr, span.len}, span.canonical);
    return PN_OK;
}

pn_status pn_refdoc_from_json(const pn_alloc *alloc, pn_blob *blob, pn_bytes text, pn_refdoc **out)
{
    pn_refdoc *r;
    PN_TRY(pn_refdoc_new(alloc, &r));
    pn_json_reader in;
    pn_json_reader_init(&in, text);
    pn_status s = read_refdoc(r, &in, blob);
    if (s != PN_OK) {
        pn_refdoc_free(r, NULL); /* metadata is not live here: no host is needed */
        return s == PN_ERR_NOMEM ? s : PN_ERR_UNSUPPORTED;
    }
    *out = r;
    return PN_OK;
}

pn_status pn_refdoc_write_ids(const pn_refdoc *r, pn_buf *out)
{
    PN_TRY(PN_BUF_LIT(out, "{\"node_ids\": ["));
    size_t pos = 0;
    pn_bytes id;
    void *value;
    for (bool first = true; pn_omap_next(&r->ids, &pos, &id, &value); first = false) {
        if (!first) PN_TRY(PN_BUF_LIT(out, ", "));
        PN_TRY(pn_json_put_string(out, id));
    }
    return PN_BUF_LIT(out, "], \"metadata\": ");
}

pn_status pn_refdoc_write_json(const pn_refdoc *r, const pn_host *host, pn_buf *out)
{
    PN_TRY(pn_refdoc_write_ids(r, out));
    PN_TRY(pn_cell_write_json(&r->metadata, host, r->ids.alloc, out));
    return pn_buf_push(out, '}');
}

bool pn_refdoc_metadata_is_empty(const pn_refdoc *r)
{
    if (r->metadata.kind != PN_CELL_JSON) return false;
    pn_json_reader in;
    pn_json_str key;
    bool more = true;
    pn_json_reader_init(&in, pn_cell_span(&r->metadata));
    return pn_json_object_begin(&in) == PN_OK && pn_json_object_next(&in, &key, &more) == PN_OK && !more;
}
