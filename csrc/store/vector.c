#include "store/vector.h"

#include "simd/dot.h"
#include "store/batch.h"

#include <assert.h>

enum { LINE = 64, FIRST_BLOCK = 16 * 1024, MAX_BLOCK = 8 * 1024 * 1024 };
#define NIL UINT32_MAX

struct pn_vec_record {
    pn_bytes id; /* borrowed from the entry in refs */
    uint32_t group, prev, next; /* next is also the list of free records */
};

struct pn_vec_group {
    pn_bytes name; /* borrowed from the entry in names, */
    pn_blob *owner; /* and so is this, which it lies in */
    uint32_t head; /* also the list of free groups */
    uint32_t count;
};

void pn_vec_init(pn_vec *v, const pn_alloc *alloc)
{
    *v = (pn_vec){.alloc = alloc, .free_record = NIL, .free_group = NIL};
    pn_omap_init(&v->rows, alloc, sizeof(pn_vec_row));
    pn_omap_init(&v->refs, alloc, sizeof(uint32_t));
    pn_omap_init(&v->metas, alloc, sizeof(pn_vec_cell));
    pn_omap_init(&v->names, alloc, sizeof(uint32_t));
    pn_omap_init(&v->live, alloc, sizeof(pn_live_note *));
    for (int i = 0; i < PN_VEC_MAPS; i++) {
        pn_changes_init(&v->noted[i], alloc);
        pn_changes_init(&v->taken[i], alloc);
    }
    pn_buf_init(&v->dropped, alloc);
    pn_lent_init(&v->lent);
    pn_buf_init(&v->retired, alloc);
    pn_buf_init(&v->unchecked_rows, alloc);
}

static void clear_bands(pn_vec *v)
{
    for (size_t i = 0; i < v->band_count; i++) {
        pn_vec_band *b = &v->bands[i];
        for (size_t j = 0; j < b->block_count; j++) {
            pn_alloc_put(v->alloc, b->blocks[j].memory);
            pn_blob_unref(b->blocks[j].owner);
        }
        pn_alloc_put(v->alloc, b->blocks);
    }
    pn_alloc_put(v->alloc, v->bands);
}

void pn_vec_untrack(pn_vec *v)
{
    for (int i = 0; i < PN_VEC_MAPS; i++) {
        pn_changes_clear(&v->noted[i]);
        pn_changes_clear(&v->taken[i]);
    }
    pn_live_notes_clear(&v->live);
    v->taking = v->gathering = false;
}

void pn_vec_clear(pn_vec *v)
{
    size_t pos = 0;
    pn_bytes id;
    void *value;
    while (pn_omap_next(&v->metas, &pos, &id, &value)) pn_blob_unref(((pn_vec_cell *)value)->blob);
    pn_vec_unchecked *u = (pn_vec_unchecked *)(void *)v->unchecked_rows.data;
    for (size_t i = 0; i < v->unchecked_rows.len / sizeof *u; i++) pn_blob_unref(u[i].blob);
    pn_vec_untrack(v);
    clear_bands(v);
    pn_alloc_put(v->alloc, v->records);
    pn_alloc_put(v->alloc, v->groups);
    pn_omap_clear(&v->rows);
    pn_omap_clear(&v->refs);
    pn_omap_clear(&v->metas);
    pn_omap_clear(&v->names);
    pn_buf_clear(&v->dropped);
    pn_lent_clear(&v->lent, v->alloc);
    pn_buf_clear(&v->retired);
    pn_buf_clear(&v->unchecked_rows);
    pn_vec_init(v, v->alloc);
}

/* An id and its hash in rows, refs and metas. */
typedef struct known_id {
    pn_bytes id;
    uint32_t hash[PN_VEC_MAPS];
} known_id;

static pn_omap *map_at(pn_vec *v, int map) { return map == PN_VEC_ROWS ? &v->rows : map == PN_VEC_REFS ? &v->refs : &v->metas; }

static known_id know(pn_vec *v, pn_bytes id)
{
    known_id k = {.id = id};
    for (int map = 0; map < PN_VEC_MAPS; map++) k.hash[map] = pn_omap_near(map_at(v, map), id);
    return k;
}

static void *found_in(pn_vec *v, int map, const known_id *k) { return pn_omap_get_hashed(map_at(v, map), k->id, k->hash[map]); }

/* Takes an id out of a map and notes it. The id may lie in the very entry. */
static bool take_out(pn_vec *v, int map, const known_id *k, void *out)
{
    pn_changes *c = &v->noted[map];
    if (c->on && found_in(v, map, k) != NULL) pn_changes_remove(c, k->id);
    return pn_omap_remove_hashed(map_at(v, map), k->id, k->hash[map], out);
}

/* ---- rows ---- */

static pn_status find_band(pn_vec *v, size_t dim, bool wide, uint32_t *out)
{
    for (size_t i = 0; i < v->band_count; i++)
        if (v->bands[i].dim == dim && v->bands[i].wide == wide) return *out = (uint32_t)i, PN_OK;
    PN_FAIL_IF(v->band_count == PN_VEC_MAX_BANDS || dim > SIZE_MAX / 64, PN_ERR_UNSUPPORTED);
    pn_vec_band *p = pn_alloc_grow(v->alloc, v->bands, (v->band_count + 1) * sizeof *p);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    v->bands = p;
    size_t bytes = dim * (wide ? sizeof(double) : sizeof(float));
    size_t stride = bytes ? (bytes + LINE - 1) / LINE * LINE : LINE;
    p[v->band_count] = (pn_vec_band){.dim = dim, .stride = stride, .wide = wide};
    *out = (uint32_t)v->band_count++;
    return PN_OK;
}

/* There is room up to the next power of two. */
static pn_status room_for_block(pn_vec *v, pn_vec_band *b)
{
    size_t n = b->block_count;
    if ((n & (n - 1)) != 0) return PN_OK;
    pn_vec_block *p = pn_alloc_grow(v->alloc, b->blocks, (n ? 2 * n : 1) * sizeof *p);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    b->blocks = p;
    return PN_OK;
}

/* Large blocks begin with a huge page and end with one: what lies in small pages takes a
 * scan half as long again. */
static pn_status add_block(pn_vec *v, pn_vec_band *b, size_t rows)
{
    PN_FAIL_IF(rows >= (SIZE_MAX / 2 - PN_ALLOC_HUGE) / b->stride, PN_ERR_NOMEM);
    PN_TRY(room_for_block(v, b));
    size_t room = (rows + 1) * b->stride; /* the rows, and what completes their last page */
    size_t align = room >= PN_ALLOC_HUGE ? PN_ALLOC_HUGE : LINE;
    void *memory = pn_alloc_get(v->alloc, room + align);
    PN_FAIL_IF(memory == NULL, PN_ERR_NOMEM);
    uint8_t *first = (uint8_t *)(((uintptr_t)memory + align - 1) & ~(uintptr_t)(align - 1));
    b->blocks[b->block_count++] = (pn_vec_block){.memory = memory, .rows = first, .cap = rows};
    return PN_OK;
}

/* Own blocks double, from 16 KB (freeing 64 KB, malloc would tidy the whole heap) to 8 MB; a
 * loader that knows better says so. */
static size_t block_rows(const pn_vec_band *b, size_t expected)
{
    size_t bytes = FIRST_BLOCK;
    for (size_t i = 0; i < b->block_count && bytes < MAX_BLOCK; i++)
        if (b->blocks[i].owner == NULL) bytes *= 2;
    size_t rows = bytes / b->stride ? bytes / b->stride : 1;
    return bytes == FIRST_BLOCK && expected > rows ? expected : rows;
}

static pn_status take_row(pn_vec *v, pn_vec_band *b, size_t expected, void **out)
{
    if (b->free_rows != NULL) {
        *out = b->free_rows;
        memcpy(&b->free_rows, *out, sizeof b->free_rows);
        return PN_OK;
    }
    pn_vec_block *last = b->block_count ? &b->blocks[b->block_count - 1] : NULL;
    if (last == NULL || last->used == last->cap) {
        PN_TRY(add_block(v, b, block_rows(b, expected)));
        last = &b->blocks[b->block_count - 1];
    }
    assert(last->owner == NULL);
    *out = (uint8_t *)last->rows + last->used++ * b->stride;
    return PN_OK;
}

uint8_t *pn_vec_take_rows(pn_vec *v, uint32_t band, size_t n)
{
    const pn_vec_band *b = &v->bands[band];
    pn_vec_block *last = b->block_count ? &b->blocks[b->block_count - 1] : NULL;
    if (last == NULL || last->cap - last->used < n) return NULL;
    uint8_t *rows = (uint8_t *)last->rows + last->used * b->stride;
    last->used += n;
    return rows;
}

void pn_vec_give_rows_back(pn_vec *v, uint32_t band, size_t n)
{
    const pn_vec_band *b = &v->bands[band];
    assert(n == 0 || (b->block_count > 0 && b->blocks[b->block_count - 1].used >= n));
    if (n > 0) b->blocks[b->block_count - 1].used -= n;
}

/* Borrowed blocks are full and stand before the one that rows are taken from. */
pn_status pn_vec_borrow(pn_vec *v, pn_blob *owner, const uint8_t *rows, size_t count, size_t dim, bool wide,
                        uint32_t *band)
{
    assert((uintptr_t)rows % LINE == 0 && dim > 0);
    PN_TRY(find_band(v, dim, wide, band));
    pn_vec_band *b = &v->bands[*band];
    PN_TRY(room_for_block(v, b));
    pn_vec_block *last = &b->blocks[b->block_count++];
    *last = (pn_vec_block){.owner = pn_blob_ref(owner), .rows = rows, .used = count, .cap = count};
    if (last != b->blocks) {
        pn_vec_block before = last[-1];
        last[-1] = *last;
        *last = before;
    }
    return PN_OK;
}

static void recycle(pn_vec_band *b, void *data)
{
    memcpy(data, &b->free_rows, sizeof b->free_rows);
    b->free_rows = data;
}

static void free_row(pn_vec *v, const pn_vec_row *row)
{
    if (row->lent != 0) pn_lent_return(&v->lent, row->lent);
    if (row->borrowed) return;
    if (v->pins == 0) {
        recycle(&v->bands[row->band], (void *)row->data);
        return;
    }
    /* On a failure to note it the row is unused until the table is cleared. */
    (void)pn_buf_append(&v->retired, row, sizeof *row);
}

void pn_vec_pin(pn_vec *v) { v->pins++; }

void pn_vec_unpin(pn_vec *v)
{
    assert(v->pins > 0);
    if (--v->pins != 0) return;
    for (size_t i = 0; i < v->retired.len; i += sizeof(pn_vec_row)) {
        pn_vec_row row;
        memcpy(&row, v->retired.data + i, sizeof row);
        recycle(&v->bands[row.band], (void *)row.data);
    }
    pn_buf_clear(&v->retired);
}

pn_status pn_vec_new_row(pn_vec *v, const double *values, size_t dim, size_t expected_rows, pn_vec_row *out)
{
    uint32_t band;
    void *data;
    bool wide = !pn_dot_fits_f32(values, dim);
    PN_TRY(find_band(v, dim, wide, &band));
    PN_TRY(take_row(v, &v->bands[band], expected_rows, &data));
    if (!wide) pn_dot_narrow(values, dim, data);
    else memcpy(data, values, dim * sizeof *values);
    *out = (pn_vec_row){.data = data, .norm = -1, .band = (uint16_t)band};
    return PN_OK;
}

pn_status pn_vec_copy_row(pn_vec *v, const void *values, size_t dim, bool wide, size_t expected_rows, pn_vec_row *out)
{
    uint32_t band;
    void *data;
    PN_TRY(find_band(v, dim, wide, &band));
    PN_TRY(take_row(v, &v->bands[band], expected_rows, &data));
    if (dim) memcpy(data, values, dim * (wide ? sizeof(double) : sizeof(float)));
    *out = (pn_vec_row){.data = data, .norm = -1, .band = (uint16_t)band};
    return PN_OK;
}

pn_status pn_vec_adopt_row(pn_vec *v, pn_bytes id, pn_blob *owner, const pn_vec_row *row)
{
    void *value;
    bool added;
    PN_TRY(pn_omap_put(&v->rows, id, owner, &value, &added));
    if (!added) free_row(v, value);
    *(pn_vec_row *)value = *row;
    pn_changes_put(&v->noted[PN_VEC_ROWS], id, owner, added);
    v->changes++;
    return PN_OK;
}

pn_status pn_vec_put_row(pn_vec *v, pn_bytes id, pn_blob *owner, const double *values, size_t dim)
{
    pn_vec_row row;
    PN_TRY(pn_vec_new_row(v, values, dim, 0, &row));
    pn_status s = pn_vec_adopt_row(v, id, owner, &row);
    if (s != PN_OK) recycle(&v->bands[row.band], (void *)row.data);
    return s;
}

pn_status pn_vec_lend(pn_vec *v, pn_vec_row *row, void *host)
{
    assert(row->lent == 0);
    uint32_t hash = ((const pn_omap_head *)(const void *)row - 1)->hash;
    return pn_lent_add(&v->lent, v->alloc, host, pn_omap_key_of(row), hash, pn_vec_band_of(v, row)->dim, &row->lent);
}

/* The id is the entry's own, so that nothing is compared but where it lies. */
pn_vec_row *pn_vec_lent_row(const pn_vec *v, const pn_loan *loan)
{
    return pn_omap_get_hashed(&v->rows, loan->id, loan->hash);
}

void pn_vec_end_loan(pn_vec *v, pn_vec_row *row)
{
    pn_lent_return(&v->lent, row->lent);
    row->lent = 0;
}

pn_status pn_vec_follow_host(pn_vec *v, pn_vec_row *row, const double *values, size_t dim)
{
    pn_vec_row fresh;
    PN_TRY(pn_vec_new_row(v, values, dim, 0, &fresh));
    fresh.lent = row->lent;
    row->lent = 0;
    free_row(v, row);
    *row = fresh;
    pn_changes_put(&v->noted[PN_VEC_ROWS], pn_omap_key_of(row), pn_omap_owner_of(row), false);
    v->changes++;
    return PN_OK;
}

void pn_vec_values(const pn_vec *v, const pn_vec_row *row, double *out)
{
    const pn_vec_band *b = pn_vec_band_of(v, row);
    if (!b->wide) pn_dot_widen(row->data, b->dim, out);
    else memcpy(out, row->data, b->dim * sizeof *out);
}

static bool remove_row(pn_vec *v, const known_id *k)
{
    pn_vec_row row;
    if (!take_out(v, PN_VEC_ROWS, k, &row)) return false;
    free_row(v, &row);
    v->changes++;
    return true;
}

bool pn_vec_remove_row(pn_vec *v, pn_bytes id)
{
    known_id k = know(v, id);
    return remove_row(v, &k);
}

bool pn_vec_dense(const pn_vec *v, const void **first, ptrdiff_t *distance, const pn_vec_band **band)
{
    size_t pos = 0;
    pn_bytes id;
    void *value;
    const pn_vec_row *head = NULL;
    const uint8_t *next = NULL;
    while (pn_omap_next(&v->rows, &pos, &id, &value)) {
        const pn_vec_row *row = value;
        if (head == NULL) head = row;
        else if (row->band != head->band || row->data != next) return false;
        next = (const uint8_t *)row->data + v->bands[row->band].stride;
    }
    if (head == NULL) return false;
    *band = pn_vec_band_of(v, head);
    *first = head->data;
    *distance = (ptrdiff_t)(*band)->stride;
    /* Neighbours in address may still lie in two blocks. */
    for (size_t i = 0; i < (*band)->block_count; i++) {
        const pn_vec_block *k = &(*band)->blocks[i];
        const uint8_t *end = k->rows + k->cap * (*band)->stride;
        if ((const uint8_t *)head->data >= k->rows && (const uint8_t *)head->data < end) return next <= end;
    }
    return false;
}

/* ---- source ids ---- */

static pn_status set_record_cap(pn_vec *v, size_t cap)
{
    PN_FAIL_IF(cap >= NIL, PN_ERR_NOMEM);
    pn_vec_record *p = pn_alloc_grow(v->alloc, v->records, cap * sizeof *p);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    v->records = p;
    v->record_cap = cap;
    return PN_OK;
}

static pn_status grow_records(pn_vec *v)
{
    if (v->free_record != NIL || v->record_count < v->record_cap) return PN_OK;
    return set_record_cap(v, v->record_cap + v->record_cap / 2 + 16);
}

pn_status pn_vec_reserve_refs(pn_vec *v, size_t n)
{
    PN_TRY(pn_omap_reserve(&v->refs, n));
    return n > v->record_cap ? set_record_cap(v, n) : PN_OK;
}

static pn_status grow_groups(pn_vec *v)
{
    if (v->free_group != NIL || v->group_count < v->group_cap) return PN_OK;
    size_t cap = v->group_cap + v->group_cap / 2 + 16;
    PN_FAIL_IF(cap >= NIL, PN_ERR_NOMEM);
    pn_vec_group *p = pn_alloc_grow(v->alloc, v->groups, cap * sizeof *p);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    v->groups = p;
    v->group_cap = cap;
    return PN_OK;
}

/* The group of a name that lies in owner, made when there is none. */
static pn_status intern_in(pn_vec *v, pn_bytes name, pn_blob *owner, uint32_t *out)
{
    void *value;
    bool added;
    PN_TRY(grow_groups(v));
    PN_TRY(pn_omap_put(&v->names, name, owner, &value, &added));
    if (added) {
        uint32_t g = v->free_group != NIL ? v->free_group : (uint32_t)v->group_count++;
        if (g == v->free_group) v->free_group = v->groups[g].head;
        v->groups[g] = (pn_vec_group){name, owner, NIL, 0};
        *(uint32_t *)value = g;
    }
    *out = *(uint32_t *)value;
    return PN_OK;
}

static pn_status intern(pn_vec *v, pn_bytes name, uint32_t *out)
{
    uint32_t *known = pn_omap_get(&v->names, name);
    if (known != NULL) return *out = *known, PN_OK;
    pn_blob *copy;
    PN_TRY(pn_blob_copy(v->alloc, name.ptr, name.len, &copy));
    pn_status s = intern_in(v, pn_blob_view(copy), copy, out);
    pn_blob_unref(copy);
    return s;
}

static void drop_group_if_empty(pn_vec *v, uint32_t g)
{
    if (v->groups[g].count != 0) return;
    pn_omap_remove(&v->names, v->groups[g].name, NULL);
    v->groups[g].head = v->free_group;
    v->free_group = g;
}

static void link_record(pn_vec *v, uint32_t r, uint32_t g)
{
    pn_vec_record *rec = &v->records[r];
    rec->group = g;
    rec->prev = NIL;
    rec->next = v->groups[g].head;
    if (rec->next != NIL) v->records[rec->next].prev = r;
    v->groups[g].head = r;
    v->groups[g].count++;
}

static void unlink_record(pn_vec *v, uint32_t r)
{
    pn_vec_record *rec = &v->records[r];
    if (rec->prev != NIL) v->records[rec->prev].next = rec->next;
    else v->groups[rec->group].head = rec->next;
    if (rec->next != NIL) v->records[rec->next].prev = rec->prev;
    v->groups[rec->group].count--;
}

/* Puts id into refs, with a record of its own that is linked nowhere yet. */
static pn_status put_record(pn_vec *v, pn_bytes id, pn_blob *owner, uint32_t *out, bool *added)
{
    void *value;
    PN_TRY(pn_omap_put(&v->refs, id, owner, &value, added));
    if (*added) {
        uint32_t r = v->free_record != NIL ? v->free_record : (uint32_t)v->record_count++;
        if (r == v->free_record) v->free_record = v->records[r].next;
        v->records[r] = (pn_vec_record){.id = id, .group = NIL, .prev = NIL, .next = NIL};
        *(uint32_t *)value = r;
    }
    *out = *(uint32_t *)value;
    return PN_OK;
}

static pn_status put_ref_owned(pn_vec *v, pn_bytes id, pn_blob *owner, uint32_t group)
{
    uint32_t r;
    bool added;
    PN_TRY(grow_records(v));
    PN_TRY(put_record(v, id, owner, &r, &added));
    uint32_t before = v->records[r].group;
    if (!added && before == group) return PN_OK;
    if (!added) unlink_record(v, r);
    link_record(v, r, group);
    if (!added) drop_group_if_empty(v, before);
    pn_changes_put(&v->noted[PN_VEC_REFS], id, owner, added);
    return PN_OK;
}

/* Groups come and go: whether the number still stands for the name. */
static bool hint_holds(const pn_vec *v, uint32_t hint, pn_bytes name)
{
    if (hint >= v->group_count || v->groups[hint].count == 0) return false;
    return v->groups[hint].name.ptr == name.ptr || pn_bytes_equal(v->groups[hint].name, name);
}

pn_status pn_vec_put_ref_hinted(pn_vec *v, pn_bytes id, pn_blob *owner, pn_bytes ref, pn_blob *ref_owner, uint32_t *hint)
{
    assert(owner != NULL && ref_owner != NULL);
    if (!hint_holds(v, *hint, ref)) PN_TRY(intern_in(v, ref, ref_owner, hint));
    pn_status s = put_ref_owned(v, id, owner, *hint);
    if (s == PN_OK) v->changes++;
    else drop_group_if_empty(v, *hint);
    return s;
}

pn_status pn_vec_put_ref(pn_vec *v, pn_bytes id, pn_blob *owner, pn_bytes ref)
{
    uint32_t group;
    pn_blob *copy = NULL;
    if (owner == NULL) {
        PN_TRY(pn_blob_copy(v->alloc, id.ptr, id.len, &copy));
        id = pn_blob_view(copy);
        owner = copy;
    }
    pn_status s = intern(v, ref, &group);
    if (s == PN_OK) {
        s = put_ref_owned(v, id, owner, group);
        if (s != PN_OK) drop_group_if_empty(v, group);
    }
    pn_blob_unref(copy);
    if (s == PN_OK) v->changes++;
    return s;
}

pn_bytes pn_vec_ref_name(const pn_vec *v, const void *ref_value)
{
    return v->groups[v->records[*(const uint32_t *)ref_value].group].name;
}

pn_blob *pn_vec_ref_owner(const pn_vec *v, const void *ref_value)
{
    return v->groups[v->records[*(const uint32_t *)ref_value].group].owner;
}

static bool remove_ref(pn_vec *v, const known_id *k)
{
    uint32_t *value = found_in(v, PN_VEC_REFS, k);
    if (value == NULL) return false;
    uint32_t r = *value, g = v->records[r].group;
    unlink_record(v, r);
    take_out(v, PN_VEC_REFS, k, NULL);
    v->records[r].next = v->free_record;
    v->free_record = r;
    drop_group_if_empty(v, g);
    v->changes++;
    return true;
}

bool pn_vec_remove_ref(pn_vec *v, pn_bytes id)
{
    known_id k = know(v, id);
    return remove_ref(v, &k);
}

/* ---- metadata ---- */

static pn_status room_to_drop(pn_vec *v) { return pn_buf_reserve(&v->dropped, sizeof(void *)); }

/* After room_to_drop. */
static void empty_cell(pn_vec *v, pn_vec_cell *cell)
{
    pn_blob_unref(cell->blob);
    if (cell->blob == NULL && cell->host != NULL) (void)pn_buf_append(&v->dropped, &cell->host, sizeof cell->host);
    *cell = (pn_vec_cell){0};
}

pn_status pn_vec_live_note(pn_vec *v, pn_bytes id, pn_live_note **out) { return pn_live_notes_get(&v->live, id, NULL, out); }

/* Whether the commit under way, if there is one, will write the id. */
static bool is_taken(const pn_vec *v, pn_bytes id)
{
    const pn_changes *c = &v->taken[PN_VEC_METAS];
    return v->taking && (!c->on || c->all || pn_omap_get(&c->keys, id) != NULL);
}

/* The pack has the text that a cell had before it became live, if that did not change since
 * the last commit; or it may have it, when the commit under way is durable. */
static void keep_text(pn_vec *v, pn_bytes id, const pn_vec_cell *before, pn_live_note *note)
{
    if (before->blob == NULL || before->crc != 0 || pn_omap_get(&v->noted[PN_VEC_METAS].keys, id) != NULL) return;
    pn_live_note_found(note, before->blob, (pn_bytes){before->ptr, before->len}, is_taken(v, id));
}

/* A cell becomes live; what it was is still in *before (as it is in a new cell: nothing). */
static void note_live(pn_vec *v, pn_bytes id, const pn_vec_cell *before)
{
    pn_changes *c = &v->noted[PN_VEC_METAS];
    pn_live_note *note;
    if (!c->on || c->all) return;
    pn_status s = pn_vec_live_note(v, id, &note);
    if (s == PN_OK) keep_text(v, id, before, note);
    else pn_changes_whole(c);
}

static pn_status put_cell(pn_vec *v, pn_bytes id, pn_blob *owner, pn_vec_cell cell)
{
    void *value;
    bool added;
    PN_TRY(room_to_drop(v));
    PN_TRY(pn_omap_put(&v->metas, id, owner, &value, &added));
    if (cell.blob == NULL) note_live(v, id, value);
    else pn_live_notes_forget(&v->live, id);
    pn_changes_put(&v->noted[PN_VEC_METAS], id, owner, added);
    if (!added) empty_cell(v, value);
    pn_blob_ref(cell.blob);
    *(pn_vec_cell *)value = cell;
    v->changes++;
    return PN_OK;
}

pn_status pn_vec_put_text(pn_vec *v, pn_bytes id, pn_blob *owner, pn_blob *blob, pn_bytes text)
{
    return put_cell(v, id, owner, (pn_vec_cell){.blob = blob, .ptr = text.ptr, .len = text.len});
}

pn_status pn_vec_put_unchecked(pn_vec *v, pn_bytes id, pn_blob *owner, pn_blob *blob, pn_bytes text, uint32_t crc)
{
    v->unchecked_metas = true;
    return put_cell(v, id, owner, (pn_vec_cell){.blob = blob, .ptr = text.ptr, .len = text.len, .crc = crc});
}

pn_status pn_vec_put_host(pn_vec *v, pn_bytes id, pn_blob *owner, void *host)
{
    return put_cell(v, id, owner, (pn_vec_cell){.host = host});
}

pn_status pn_vec_text(const pn_vec *v, const pn_vec_cell *cell, pn_bytes *out)
{
    (void)v;
    assert(cell->blob != NULL);
    PN_FAIL_IF(cell->crc != 0, PN_ERR_INVALID);
    *out = (pn_bytes){cell->ptr, cell->len};
    return PN_OK;
}

void pn_vec_make_live(pn_vec *v, pn_vec_cell *cell, void *host)
{
    assert(cell->blob != NULL && cell->crc == 0);
    note_live(v, pn_omap_key_of(cell), cell);
    if (v->gathering) pn_changes_touch(&v->noted[PN_VEC_METAS], pn_omap_key_of(cell), pn_omap_owner_of(cell));
    pn_blob_unref(cell->blob);
    *cell = (pn_vec_cell){.host = host};
    v->changes++;
}

/* After room_to_drop. */
static bool remove_meta(pn_vec *v, const known_id *k)
{
    pn_vec_cell cell;
    pn_live_notes_forget(&v->live, k->id);
    if (!take_out(v, PN_VEC_METAS, k, &cell)) return false;
    empty_cell(v, &cell);
    v->changes++;
    return true;
}

pn_status pn_vec_remove_meta(pn_vec *v, pn_bytes id, bool *found)
{
    PN_TRY(room_to_drop(v));
    known_id k = know(v, id);
    *found = remove_meta(v, &k);
    return PN_OK;
}

/* ---- deletion of all three ----
 *
 * Nearly all the time goes to waiting for memory: some ids are looked up together, each map
 * one step at a time. */

enum { TOGETHER = 16 };

/* Brings near what deleting reads. */
static void approach(pn_vec *v, const known_id *ids, size_t n)
{
    for (int map = 0; map < PN_VEC_MAPS; map++)
        for (size_t i = 0; i < n; i++) pn_omap_nearer(map_at(v, map), ids[i].hash[map]);
    for (size_t i = 0; i < n; i++) {
        const pn_vec_row *row = found_in(v, PN_VEC_ROWS, &ids[i]);
        const pn_vec_cell *cell = found_in(v, PN_VEC_METAS, &ids[i]);
        if (row != NULL) PN_PREFETCH(row->data);
        if (cell != NULL) PN_PREFETCH(cell->blob);
        if (cell != NULL && cell->blob != NULL) PN_PREFETCH(cell->ptr + cell->len); /* freeing looks there */
    }
}

/* After room to drop n. The id may lie in the entry of refs, so that one goes last. */
static void delete_known(pn_vec *v, const known_id *ids, size_t n)
{
    approach(v, ids, n);
    for (size_t i = 0; i < n; i++) {
        remove_meta(v, &ids[i]);
        remove_row(v, &ids[i]);
        remove_ref(v, &ids[i]);
    }
}

static pn_status room_to_drop_many(pn_vec *v, size_t n)
{
    PN_FAIL_IF(n > SIZE_MAX / sizeof(void *), PN_ERR_NOMEM);
    return pn_buf_reserve(&v->dropped, n * sizeof(void *));
}

static size_t know_some(pn_vec *v, const pn_bytes *ids, size_t n, known_id *out)
{
    size_t some = n < TOGETHER ? n : TOGETHER;
    for (size_t i = 0; i < some; i++) PN_PREFETCH(ids[i].ptr);
    for (size_t i = 0; i < some; i++) out[i] = know(v, ids[i]);
    for (int map = 0; map < PN_VEC_MAPS; map++)
        for (size_t i = 0; i < some; i++) pn_omap_nearer(map_at(v, map), out[i].hash[map]);
    return some;
}

pn_status pn_vec_delete_ids(pn_vec *v, const pn_bytes *ids, size_t n)
{
    known_id some[TOGETHER];
    for (size_t at = 0, got; at < n; at += got) {
        got = know_some(v, ids + at, n - at, some);
        for (size_t i = 0; i < got; i++) {
            PN_FAIL_IF(found_in(v, PN_VEC_ROWS, &some[i]) == NULL, PN_ERR_NOT_FOUND);
            PN_FAIL_IF(found_in(v, PN_VEC_REFS, &some[i]) == NULL, PN_ERR_UNSUPPORTED);
        }
    }
    PN_TRY(room_to_drop_many(v, n));
    for (size_t at = 0, got; at < n; at += got) {
        got = know_some(v, ids + at, n - at, some);
        delete_known(v, some, got);
    }
    return PN_OK;
}

pn_status pn_vec_delete_id(pn_vec *v, pn_bytes id) { return pn_vec_delete_ids(v, &id, 1); }

/* The ids of a group from a record on; *r goes on to the next. */
static size_t know_group(pn_vec *v, uint32_t *r, known_id *out)
{
    pn_bytes ids[TOGETHER];
    size_t n = 0;
    for (; n < TOGETHER && *r != NIL; *r = v->records[*r].next) ids[n++] = v->records[*r].id;
    return know_some(v, ids, n, out);
}

pn_status pn_vec_delete_ref(pn_vec *v, pn_bytes ref, size_t *deleted)
{
    *deleted = 0;
    uint32_t *known = pn_omap_get(&v->names, ref);
    if (known == NULL) return PN_OK;
    uint32_t g = *known, r = v->groups[g].head;
    size_t count = v->groups[g].count, n = 0;
    known_id some[TOGETHER];
    while (r != NIL) {
        n = know_group(v, &r, some);
        for (size_t i = 0; i < n; i++) PN_FAIL_IF(found_in(v, PN_VEC_ROWS, &some[i]) == NULL, PN_ERR_UNSUPPORTED);
    }
    PN_TRY(room_to_drop_many(v, count));
    for (; *deleted < count; *deleted += n) { /* with the last record the group itself goes */
        r = v->groups[g].head;
        if (count > TOGETHER) n = know_group(v, &r, some);
        delete_known(v, some, n);
    }
    return PN_OK;
}

/* ---- verification ---- */

static bool group_consistent(const pn_vec *v, uint32_t g, size_t *seen)
{
    const uint32_t *named = pn_omap_get(&v->names, v->groups[g].name);
    if (named == NULL || *named != g) return false;
    size_t n = 0;
    for (uint32_t r = v->groups[g].head, prev = NIL; r != NIL; prev = r, r = v->records[r].next, n++) {
        const uint32_t *value = pn_omap_get(&v->refs, v->records[r].id);
        if (value == NULL || *value != r || v->records[r].group != g || v->records[r].prev != prev) return false;
    }
    *seen += n;
    return n == v->groups[g].count && n > 0;
}

/* While metas are tracked one by one, `live` has the live ones and no other. */
static bool live_consistent(const pn_vec *v)
{
    const pn_changes *c = &v->noted[PN_VEC_METAS];
    if (!c->on || c->all || v->gathering) return true;
    size_t pos = 0, n = 0;
    pn_bytes id;
    void *value;
    while (pn_omap_next(&v->metas, &pos, &id, &value)) {
        if (((pn_vec_cell *)value)->blob != NULL) continue;
        if (pn_omap_get(&v->live, id) == NULL) return false;
        n++;
    }
    return n == pn_omap_len(&v->live);
}

bool pn_vec_consistent(const pn_vec *v)
{
    size_t pos = 0, seen = 0;
    pn_bytes name;
    void *value;
    while (pn_omap_next(&v->names, &pos, &name, &value))
        if (!group_consistent(v, *(uint32_t *)value, &seen)) return false;
    return seen == pn_omap_len(&v->refs) && live_consistent(v);
}
