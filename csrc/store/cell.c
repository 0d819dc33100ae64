#include "store/cell.h"

#include <assert.h>

#include "codec/json_read.h"
#include "codec/mpack.h"
#include "persist/segment.h"
#include "store/refdoc.h"
#include "store/structs.h"

pn_cell pn_cell_json(pn_blob *blob, pn_bytes span, bool canonical)
{
    pn_cell c = {.kind = PN_CELL_JSON, .canonical = canonical};
    c.span.blob = pn_blob_ref(blob);
    c.span.ptr = span.ptr;
    c.span.len = span.len;
    return c;
}

pn_cell pn_cell_mpack(pn_blob *blob, pn_bytes span)
{
    pn_cell c = pn_cell_json(blob, span, false);
    c.kind = PN_CELL_MPACK;
    return c;
}

pn_cell pn_cell_packed(pn_blob *blob, pn_bytes span, uint8_t form, uint32_t crc)
{
    pn_cell c = pn_cell_json(blob, span, false);
    c.kind = PN_CELL_PACKED;
    c.form = form;
    c.crc = crc;
    return c;
}

pn_status pn_cell_settle_slow(pn_cell *cell, pn_error *err)
{
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_blob *blob = cell->span.blob;
    uint64_t at = (uint64_t)(cell->span.ptr - pn_blob_view(blob).ptr);
    if (cell->form > PN_FORM_MPACK) /* index structs become columns when a pack is opened */
        return pn_fail(err, PN_ERR_CORRUPT, at, "an index struct where a value is due");
    pn_status s = pn_segment_check_value(pn_blob_alloc(blob), (pn_value_form)cell->form, pn_cell_span(cell), cell->crc, &e);
    if (s != PN_OK) return pn_fail(err, s, at + e.offset, e.what);
    cell->kind = cell->form == PN_FORM_JSON ? PN_CELL_JSON : PN_CELL_MPACK;
    cell->canonical = cell->form == PN_FORM_JSON;
    return PN_OK;
}

void pn_cell_release(pn_cell *cell, const pn_host *host)
{
    pn_cell c = *cell;
    *cell = (pn_cell){.kind = PN_CELL_EMPTY};
    switch ((pn_cell_kind)c.kind) {
    case PN_CELL_EMPTY: break;
    case PN_CELL_LIVE: host->release(host->ctx, c.live); break;
    case PN_CELL_JSON:
    case PN_CELL_MPACK:
    case PN_CELL_PACKED: pn_blob_unref(c.span.blob); break;
    case PN_CELL_REFDOC: pn_refdoc_free(c.refdoc, host); break;
    case PN_CELL_STRUCT: pn_struct_free(c.structure, host); break;
    }
}

void pn_made_clear(pn_made *m, const pn_host *host)
{
    void *old = m->object;
    m->object = NULL;
    if (old != NULL) host->release(host->ctx, old);
}

bool pn_made_again(pn_made *m, uint64_t version, const pn_host *host)
{
    if (m->version == version) return true;
    m->version = version;
    pn_made_clear(m, host);
    return false;
}

/* Looks at a copy, so the cell stays as it is. */
static pn_status write_packed(const pn_cell *cell, const pn_host *host, const pn_alloc *alloc, pn_buf *out)
{
    pn_cell settled = *cell;
    PN_TRY(pn_cell_settle_slow(&settled, NULL));
    return pn_cell_write_json(&settled, host, alloc, out);
}

pn_status pn_cell_write_json(const pn_cell *cell, const pn_host *host, const pn_alloc *alloc, pn_buf *out)
{
    switch ((pn_cell_kind)cell->kind) {
    case PN_CELL_LIVE: return host->encode(host->ctx, cell->live, out);
    case PN_CELL_JSON:
        return cell->canonical ? pn_buf_append(out, cell->span.ptr, cell->span.len)
                               : pn_json_canonicalize(pn_cell_span(cell), alloc, out);
    case PN_CELL_MPACK: return pn_mpack_to_json(pn_cell_span(cell), out, NULL);
    case PN_CELL_REFDOC: return pn_refdoc_write_json(cell->refdoc, host, out);
    case PN_CELL_STRUCT: return pn_struct_write_json(cell->structure, out);
    case PN_CELL_PACKED: return write_packed(cell, host, alloc, out);
    case PN_CELL_EMPTY: break;
    }
    return PN_ERR_INVALID;
}

void pn_cell_bin_init(pn_cell_bin *bin, const pn_alloc *alloc) { *bin = (pn_cell_bin){alloc, NULL, 0, 0}; }

pn_status pn_cell_bin_reserve(pn_cell_bin *bin, size_t more)
{
    if (bin->cap - bin->len >= more) return PN_OK;
    size_t cap = bin->cap * 2 > bin->len + more ? bin->cap * 2 : bin->len + more;
    PN_FAIL_IF(cap > SIZE_MAX / sizeof(pn_cell), PN_ERR_NOMEM);
    pn_cell *p = pn_alloc_grow(bin->alloc, bin->cells, cap * sizeof(pn_cell));
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    bin->cells = p;
    bin->cap = cap;
    return PN_OK;
}

void pn_cell_bin_add(pn_cell_bin *bin, pn_cell cell)
{
    if (cell.kind == PN_CELL_EMPTY) return;
    assert(bin->len < bin->cap);
    bin->cells[bin->len++] = cell;
}

void pn_cell_bin_empty(pn_cell_bin *bin, const pn_host *host)
{
    for (size_t i = 0; i < bin->len; i++) pn_cell_release(&bin->cells[i], host);
    pn_alloc_put(bin->alloc, bin->cells);
    pn_cell_bin_init(bin, bin->alloc);
}
