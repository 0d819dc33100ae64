#include "store/vector_pack.h"

#include "base/crc32c.h"
#include "codec/json_read.h"

/* ---- checks before first use ---- */

static uint64_t offset_in(pn_blob *blob, const uint8_t *p) { return (uint64_t)(p - pn_blob_view(blob).ptr); }

static pn_status refuse(pn_blob *blob, const uint8_t *at, const char *what, const char **file, pn_error *err)
{
    *file = pn_blob_name(blob);
    return pn_fail(err, PN_ERR_CORRUPT, offset_in(blob, at), what);
}

pn_status pn_vec_settle_rows(pn_vec *v, const char **file, pn_error *err)
{
    pn_buf *list = &v->unchecked_rows;
    while (list->len != 0) {
        pn_vec_unchecked u;
        memcpy(&u, list->data + list->len - sizeof u, sizeof u);
        if (pn_crc32c(0, u.bytes) != u.crc)
            return refuse(u.blob, u.bytes.ptr, "the vectors do not have their checksum", file, err);
        list->len -= sizeof u;
        pn_blob_unref(u.blob);
    }
    pn_buf_clear(list);
    return PN_OK;
}

static pn_status settle_text(pn_vec *v, pn_vec_cell *cell, const char **file, pn_error *err)
{
    pn_bytes text = {cell->ptr, cell->len};
    if (pn_crc32c(0, text) != cell->crc)
        return refuse(cell->blob, text.ptr, "metadata does not have its checksum", file, err);
    bool canonical;
    pn_status s = pn_json_is_canonical(text, v->alloc, &canonical);
    PN_FAIL_IF(s == PN_ERR_NOMEM, s);
    if (s != PN_OK || !canonical) return refuse(cell->blob, text.ptr, "metadata is not canonical JSON", file, err);
    cell->crc = 0;
    return PN_OK;
}

pn_status pn_vec_settle_metas(pn_vec *v, const char **file, pn_error *err)
{
    size_t pos = 0;
    pn_bytes id;
    void *value;
    while (v->unchecked_metas && pn_omap_next(&v->metas, &pos, &id, &value)) {
        pn_vec_cell *cell = value;
        if (cell->crc != 0) PN_TRY(settle_text(v, cell, file, err));
    }
    v->unchecked_metas = false;
    return PN_OK;
}
