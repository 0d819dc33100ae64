#include "store/rowview.h"

#include "store/scan.h"

void pn_rowview_init(pn_rowview *w, const pn_alloc *alloc) { *w = (pn_rowview){.alloc = alloc}; }

void pn_rowview_clear(pn_rowview *w)
{
    pn_alloc_put(w->alloc, w->rows);
    pn_alloc_put(w->alloc, w->slots);
    pn_rowview_init(w, w->alloc);
}

void pn_rowview_renew(pn_rowview *w)
{
    uint64_t renumbered = w->renumbered;
    pn_rowview_init(w, w->alloc);
    w->renumbered = renumbered;
    w->renewed = true;
}

/* The maps may move without a change when adding failed half way. */
static bool current(const pn_rowview *w, const pn_vec *v)
{
    return w->built && w->changes == v->changes && w->row_entries == v->rows.entries &&
           w->meta_entries == v->metas.entries;
}

/* Room for n items in *array; its contents are not kept. */
static pn_status make_room(const pn_alloc *alloc, void **array, size_t *cap, size_t n, size_t item)
{
    if (*array != NULL && *cap >= n && *cap / 4 <= n) return PN_OK;
    size_t want = n + n / 8 + 8;
    PN_FAIL_IF(n > SIZE_MAX / 4 / item, PN_ERR_NOMEM);
    pn_alloc_put(alloc, *array);
    *cap = 0;
    *array = pn_alloc_get(alloc, want * item);
    PN_FAIL_IF(*array == NULL, PN_ERR_NOMEM);
    *cap = want;
    return PN_OK;
}

/* Whether topk.h has found the row to be one like the first. */
static bool is_checked(const pn_rowview *w, const pn_vec *v, const pn_vec_row *row)
{
    return row->norm >= PN_SCAN_SMALL && row->norm <= PN_SCAN_LARGE && pn_vec_band_of(v, row)->dim == w->checked_dim;
}

static pn_status list_rows(pn_rowview *w, const pn_vec *v)
{
    size_t pos = 0, n = pn_omap_len(&v->rows);
    pn_bytes id;
    void *row;
    w->built = w->slotted = false;
    w->n = 0;
    w->checked = 0;
    PN_TRY(make_room(w->alloc, (void **)&w->rows, &w->cap, n, sizeof *w->rows));
    while (pn_omap_next(&v->rows, &pos, &id, &row)) {
        if (w->n == 0) w->checked_dim = pn_vec_band_of(v, row)->dim;
        if (w->checked == w->n) w->checked += is_checked(w, v, row);
        w->rows[w->n++] = row;
    }
    w->changes = v->changes;
    w->row_entries = v->rows.entries;
    w->meta_entries = v->metas.entries;
    w->built = true;
    w->builds++;
    return PN_OK;
}

/* Slots are never given out twice, so they run ahead of the texts that are left. */
static void renumber_if_sparse(pn_rowview *w, pn_vec *v)
{
    if (!w->renewed && w->last_slot / 2 < w->n + 1024 && w->last_slot < UINT32_MAX / 2) return;
    size_t pos = 0;
    pn_bytes id;
    void *cell;
    while (pn_omap_next(&v->metas, &pos, &id, &cell)) ((pn_vec_cell *)cell)->slot = 0;
    w->last_slot = 0;
    w->renewed = false;
    w->renumbered++;
}

pn_vec_cell *pn_rowview_cell(const pn_vec *v, const pn_vec_row *row, size_t *pos)
{
    size_t at = *pos;
    pn_bytes key, id = pn_omap_key_of(row);
    void *value;
    /* Of a node that was added both keys are the same bytes: nothing is compared then. */
    bool next = pn_omap_next(&v->metas, &at, &key, &value);
    if (next && key.len == id.len && (key.ptr == id.ptr || pn_bytes_equal(key, id))) {
        *pos = at;
        return value;
    }
    return pn_omap_get(&v->metas, id);
}

static pn_status list_slots(pn_rowview *w, pn_vec *v)
{
    PN_TRY(make_room(w->alloc, (void **)&w->slots, &w->slot_cap, w->n, sizeof *w->slots));
    renumber_if_sparse(w, v);
    size_t pos = 0;
    for (size_t i = 0; i < w->n; i++) {
        pn_vec_cell *cell = pn_rowview_cell(v, w->rows[i], &pos);
        bool text = cell != NULL && cell->blob != NULL;
        if (text && cell->slot == 0) cell->slot = ++w->last_slot;
        w->slots[i] = text ? cell->slot : 0;
    }
    w->slotted = true;
    return PN_OK;
}

pn_status pn_rowview_update(pn_rowview *w, pn_vec *v, bool with_slots)
{
    if (!current(w, v)) PN_TRY(list_rows(w, v));
    return with_slots && !w->slotted ? list_slots(w, v) : PN_OK;
}
