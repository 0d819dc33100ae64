/* Vector tables into packs and out of them: random changes over many commits, some of
 * which fail; rows that stay in read-only memory; damage found before use; failed
 * allocations. */
#define _GNU_SOURCE
#include "check.h"
#include "fail_alloc.h"
#include "segment_make.h"
#include "store/vector_json.h"
#include "store/vector_pack.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#define STORE PN_BYTES("default__vector_store.json")
enum { MOST_SEGMENTS = 64, IDS = 60, SOURCES = 7 };

static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static uint64_t seed;

static unsigned draw(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

/* ---- the host: counted objects with a text that anybody may change ---- */

typedef struct object {
    long refs;
    char text[40];
} object;

static long objects;

static object *new_object(void)
{
    object *o = malloc(sizeof *o);
    if (o == NULL) abort();
    o->refs = 1;
    snprintf(o->text, sizeof o->text, "{\"n\": %u}", draw(1000));
    objects++;
    return o;
}

static void release_object(void *ctx, void *live)
{
    object *o = live;
    (void)ctx;
    if (--o->refs > 0) return;
    objects--;
    free(o);
}

static void retain_object(void *ctx, void *live)
{
    (void)ctx;
    ((object *)live)->refs++;
}

static pn_status encode_object(void *ctx, void *live, pn_buf *out)
{
    (void)ctx;
    return pn_buf_append(out, ((object *)live)->text, strlen(((object *)live)->text));
}

static const pn_host host = {.release = release_object, .encode = encode_object, .retain = retain_object};

static void release_dropped(pn_vec *v)
{
    for (size_t i = 0; i < v->dropped.len; i += sizeof(void *)) {
        void *live;
        memcpy(&live, v->dropped.data + i, sizeof live);
        release_object(NULL, live);
    }
    v->dropped.len = 0;
}

static void close_table(pn_vec *v)
{
    size_t pos = 0;
    pn_bytes id;
    void *cell;
    while (pn_omap_next(&v->metas, &pos, &id, &cell))
        if (((pn_vec_cell *)cell)->blob == NULL) release_object(NULL, ((pn_vec_cell *)cell)->host);
    release_dropped(v);
    pn_vec_clear(v);
}

/* ---- files in read-only memory ---- */

static void unmap(void *ctx, const uint8_t *ptr, size_t n)
{
    size_t off = (size_t)(uintptr_t)ctx;
    munmap((void *)(ptr - off), n + off);
}

/* `off` is where in a page the file begins: rows are aligned only if it is a multiple of 64. */
static pn_status map_file(const pn_alloc *alloc, pn_bytes bytes, size_t off, const char *name, pn_blob **out)
{
    uint8_t *p = mmap(NULL, bytes.len + off, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) abort();
    memcpy(p + off, bytes.ptr, bytes.len);
    mprotect(p, bytes.len + off, PROT_READ);
    pn_status s = pn_blob_wrap(alloc, p + off, bytes.len, unmap, (void *)(uintptr_t)off, name, out);
    if (s != PN_OK) munmap(p, bytes.len + off);
    return s;
}

typedef struct pack {
    const pn_alloc *alloc;
    pn_segment *segments[MOST_SEGMENTS];
    size_t n;
} pack;

static void close_pack(pack *p)
{
    for (size_t i = 0; i < p->n; i++) pn_segment_close(p->segments[i]);
    p->n = 0;
}

static pn_status add_file(pack *p, pn_bytes bytes, size_t off)
{
    char name[32];
    pn_blob *blob;
    snprintf(name, sizeof name, "seg-%zu.pn", p->n);
    PN_TRY(map_file(p->alloc, bytes, off, name, &blob));
    pn_error err = {0};
    pn_status s = pn_segment_open(p->alloc, blob, &p->segments[p->n], &err);
    CHECK(s != PN_ERR_CORRUPT);
    p->n += s == PN_OK;
    pn_blob_unref(blob);
    return s;
}

static pn_status save(const pn_vec *v, pn_buf *out)
{
    pn_bytes live[IDS * 2];
    size_t pos = 0, n = 0;
    pn_bytes id;
    void *cell;
    while (pn_omap_next(&v->metas, &pos, &id, &cell))
        if (((pn_vec_cell *)cell)->blob == NULL) live[n++] = text(((object *)((pn_vec_cell *)cell)->host)->text);
    out->len = 0;
    return pn_vec_save_json(v, live, n, out);
}

/* ---- commits ---- */

static void unpin(void *v) { pn_vec_unpin(v); }

/* What adds the table to a batch; *json (may be NULL) is what it is at the end of that. */
typedef pn_status (*gather_fn)(pn_vec *v, bool whole, pn_batch *b, pn_buf *json);

static pn_status gather_at_once(pn_vec *v, bool whole, pn_batch *b, pn_buf *json)
{
    if (json != NULL) PN_TRY(save(v, json));
    return pn_vec_gather(v, STORE, whole, b);
}

/* A batch of the table, with nothing left to encode. */
static pn_status gather_as(pn_vec *v, bool whole, gather_fn f, pn_buf *json, pn_batch **out)
{
    pn_batch *b;
    PN_TRY(pn_batch_new(v->alloc, &host, &b));
    pn_vec_pin(v);
    pn_status s = pn_batch_defer(b, unpin, v);
    if (s != PN_OK) pn_vec_unpin(v);
    if (s == PN_OK) s = f(v, whole, b, json);
    bool gathered = s == PN_OK;
    size_t left = 1;
    pn_bytes store, table, key;
    while (s == PN_OK && left > 0) s = pn_batch_encode(b, 1, &left, &store, &table, &key);
    if (s == PN_OK) {
        *out = b;
        return PN_OK;
    }
    if (gathered) pn_vec_give_back(v);
    pn_batch_free(b);
    return s;
}

static pn_status gather(pn_vec *v, bool whole, pn_batch **out) { return gather_as(v, whole, gather_at_once, NULL, out); }

static pn_status write_batch(pack *p, pn_batch *b, size_t off)
{
    pn_buf file;
    uint64_t size;
    uint32_t crc;
    pn_segment_writer *w = NULL;
    pn_buf_init(&file, p->alloc);
    pn_status s = pn_segment_writer_new(p->alloc, segment_sink, &file, &w);
    if (s == PN_OK) s = pn_batch_write(b, w);
    if (s == PN_OK) s = pn_segment_finish(w, &size, &crc);
    if (s == PN_OK) s = add_file(p, pn_buf_view(&file), off);
    pn_segment_writer_free(w);
    pn_buf_clear(&file);
    return s;
}

/* The whole of a commit, for tests in which none is under way for long. */
static pn_status commit(pack *p, pn_vec *v, bool whole, size_t off)
{
    pn_batch *b;
    PN_TRY(gather(v, whole, &b));
    pn_status s = write_batch(p, b, off);
    if (s == PN_OK) pn_vec_gathered(v);
    else pn_vec_give_back(v);
    pn_batch_free(b);
    return s;
}

static pn_status settle(pn_vec *v)
{
    const char *file = NULL;
    pn_error err = {0};
    PN_TRY(pn_vec_settle_rows(v, &file, &err));
    return pn_vec_settle_metas(v, &file, &err);
}

static pn_status open_table(const pack *p, pn_vec *v)
{
    size_t bad;
    pn_error err = {0};
    pn_vec_init(v, p->alloc);
    return pn_vec_unpack(v, STORE, p->segments, p->n, &bad, &err);
}

static pn_status reread(const pack *p, pn_buf *out)
{
    pn_vec v;
    pn_status s = open_table(p, &v);
    if (s == PN_OK) CHECK(pn_vec_consistent(&v));
    if (s == PN_OK) s = settle(&v);
    if (s == PN_OK) s = save(&v, out);
    pn_vec_clear(&v);
    return s;
}

/* ---- mutations ---- */

static void random_id(char *id) { snprintf(id, 16, "id-%u", draw(IDS)); }

static pn_status put_random_row(pn_vec *v, const char *id)
{
    static const size_t dims[] = {3, 3, 3, 3, 16, 17, 1, 0};
    double values[17];
    size_t dim = dims[draw(8)];
    bool wide = draw(4) == 0;
    for (size_t i = 0; i < dim; i++) values[i] = wide ? draw(1000) / 7.0 : draw(1000) / 8.0 - 3;
    if (dim > 0 && draw(20) == 0) values[0] = draw(2) ? NAN : -INFINITY;
    return pn_vec_put_row(v, text(id), NULL, values, dim);
}

static pn_status put_random_ref(pn_vec *v, const char *id)
{
    char ref[16];
    snprintf(ref, sizeof ref, "doc-%u", draw(SOURCES));
    return pn_vec_put_ref(v, text(id), NULL, text(ref));
}

static pn_status put_random_text(pn_vec *v, const char *id)
{
    char json[32];
    pn_blob *blob;
    snprintf(json, sizeof json, "{\"page\": %u}", draw(1000));
    PN_TRY(pn_blob_copy(v->alloc, json, strlen(json), &blob));
    pn_status s = pn_vec_put_text(v, text(id), NULL, blob, pn_blob_view(blob));
    pn_blob_unref(blob);
    return s;
}

static pn_status put_random_host(pn_vec *v, const char *id)
{
    object *o = new_object();
    pn_status s = pn_vec_put_host(v, text(id), NULL, o);
    if (s != PN_OK) release_object(NULL, o);
    return s;
}

/* As a reader of the metadata makes it: live, and equal to the text. */
static pn_status promote(pn_vec *v, const char *id)
{
    const char *file;
    pn_vec_cell *cell = pn_omap_get(&v->metas, text(id));
    pn_bytes json;
    PN_TRY(pn_vec_settle_metas(v, &file, NULL));
    if (cell == NULL || cell->blob == NULL) return PN_OK;
    PN_TRY(pn_vec_text(v, cell, &json));
    object *o = new_object();
    snprintf(o->text, sizeof o->text, "%.*s", (int)json.len, (const char *)json.ptr);
    pn_vec_make_live(v, cell, o);
    return PN_OK;
}

/* A change that the table is not told of. */
static pn_status change_live(pn_vec *v, const char *id)
{
    const pn_vec_cell *cell = pn_omap_get(&v->metas, text(id));
    if (cell == NULL || cell->blob != NULL) return PN_OK;
    object *o = cell->host;
    snprintf(o->text, sizeof o->text, "{\"live\": %u}", draw(1000));
    return PN_OK;
}

static pn_status delete_source(pn_vec *v)
{
    char ref[16];
    size_t deleted;
    snprintf(ref, sizeof ref, "doc-%u", draw(SOURCES));
    pn_status s = pn_vec_delete_ref(v, text(ref), &deleted);
    return s == PN_ERR_UNSUPPORTED ? PN_OK : s;
}

static pn_status put_all_three(pn_vec *v, const char *id)
{
    PN_TRY(put_random_row(v, id));
    PN_TRY(put_random_ref(v, id));
    return put_random_text(v, id);
}

static pn_status mutate(pn_vec *v)
{
    char id[16];
    bool found;
    random_id(id);
    switch (draw(14)) {
    case 0: return put_random_row(v, id);
    case 1: return put_random_ref(v, id);
    case 2: return put_random_text(v, id);
    case 3: return put_random_host(v, id);
    case 4: return pn_vec_remove_row(v, text(id)), PN_OK;
    case 5: return pn_vec_remove_ref(v, text(id)), PN_OK;
    case 6: return pn_vec_remove_meta(v, text(id), &found);
    case 7: return pn_vec_delete_id(v, text(id)) == PN_ERR_NOMEM ? PN_ERR_NOMEM : PN_OK;
    case 8: return draw(4) ? PN_OK : delete_source(v);
    case 9: return promote(v, id);
    case 10: return change_live(v, id);
    default: return put_all_three(v, id);
    }
}

static void mutate_some(pn_vec *v, unsigned n)
{
    for (; n > 0; n--) {
        pn_status s = mutate(v);
        CHECK(s == PN_OK || s == PN_ERR_NOMEM);
        release_dropped(v);
    }
    CHECK(pn_vec_consistent(v));
}

/* ---- random commits ---- */

/* The file holds what the table held when it was gathered, whatever changed since. */
static void check_pack(const pack *p, const pn_buf *want)
{
    pn_buf got;
    pn_buf_init(&got, p->alloc);
    CHECK_EQ_INT(reread(p, &got), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&got), pn_buf_view(want)));
    pn_buf_clear(&got);
}

static unsigned in_parts, anew;

/* While the table goes on changing. */
static pn_status gather_in_parts(pn_vec *v, bool whole, pn_batch *b, pn_buf *json)
{
    pn_vec_gathering g;
    bool more = true;
    PN_TRY(pn_vec_gather_begin(v, STORE, whole, b, &g));
    pn_status s = PN_OK;
    while (s == PN_OK && more) {
        s = pn_vec_gather_part(&g, 1 + draw(8), &more);
        if (s == PN_OK && more) mutate_some(v, draw(3));
    }
    if (s == PN_OK) s = settle(v);
    if (s == PN_OK) s = save(v, json);
    if (s == PN_OK) s = pn_vec_gather_end(&g);
    in_parts++;
    anew += g.lost;
    if (s != PN_OK) pn_vec_give_back(v);
    return s;
}

static void random_commit(pack *p, pn_vec *v, size_t off)
{
    pn_batch *b = NULL;
    pn_buf want;
    pn_buf_init(&want, p->alloc);
    CHECK_EQ_INT(settle(v), PN_OK);
    gather_fn f = draw(2) ? gather_at_once : gather_in_parts;
    CHECK_EQ_INT(gather_as(v, draw(8) == 0, f, &want, &b), PN_OK);
    mutate_some(v, draw(20));
    if (draw(3) == 0) {
        pn_vec_give_back(v);
    } else {
        CHECK_EQ_INT(write_batch(p, b, off), PN_OK);
        pn_vec_gathered(v);
        check_pack(p, &want);
    }
    pn_batch_free(b);
    CHECK(pn_vec_consistent(v));
    CHECK_EQ_INT(v->pins, 0);
    pn_buf_clear(&want);
}

static void reopen(pack *p, pn_vec *v, size_t off)
{
    CHECK_EQ_INT(settle(v), PN_OK);
    CHECK_EQ_INT(commit(p, v, false, off), PN_OK);
    close_table(v);
    CHECK_EQ_INT(open_table(p, v), PN_OK);
}

static void random_history(size_t off)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    for (int round = 0; round < 25; round++) {
        mutate_some(&v, draw(40));
        random_commit(&p, &v, off);
        if (draw(3) == 0) reopen(&p, &v, off);
    }
    close_table(&v);
    close_pack(&p);
    CHECK_EQ_INT(objects, 0);
}

static void test_random_histories(void)
{
    for (seed = 1; seed < 60; seed++) {
        uint64_t round = seed;
        random_history(round % 3 == 0 ? 16 : 0); /* a third of them where rows are not aligned */
        seed = round;
    }
    CHECK(anew > 10 && in_parts > 5 * anew);
}

/* ---- what is written ---- */

static size_t entries_of(const pn_segment *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->store_count; i++)
        for (size_t j = 0; j < s->stores[i].table_count; j++) n += s->stores[i].tables[j].n;
    return n;
}

static void check_commit(pack *p, pn_vec *v, size_t entries)
{
    pn_batch *b = NULL;
    CHECK_EQ_INT(gather(v, false, &b), PN_OK);
    CHECK_EQ_INT(pn_batch_changes(b), entries > 0);
    CHECK_EQ_INT(write_batch(p, b, 0), PN_OK);
    pn_vec_gathered(v);
    pn_batch_free(b);
    const pn_segment *last = p->segments[p->n - 1];
    CHECK_EQ_INT(entries_of(last), entries);
    CHECK_EQ_INT(last->store_count, entries > 0);
}

static void fill(pn_vec *v, int n)
{
    char id[16];
    for (int i = 0; i < n; i++) {
        double values[3] = {i, 0.5, -0.0};
        snprintf(id, sizeof id, "id-%d", i);
        CHECK_EQ_INT(pn_vec_put_row(v, text(id), NULL, values, 3), PN_OK);
        CHECK_EQ_INT(pn_vec_put_ref(v, text(id), NULL, text(i % 2 ? "odd" : "even")), PN_OK);
        CHECK_EQ_INT(put_random_text(v, id), PN_OK);
    }
}

static void test_only_changes_are_written(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    fill(&v, 20);
    check_commit(&p, &v, 60);
    check_commit(&p, &v, 0);
    CHECK_EQ_INT(put_random_row(&v, "id-3"), PN_OK);
    CHECK_EQ_INT(pn_vec_put_ref(&v, text("id-4"), NULL, text("even")), PN_OK); /* as it was */
    check_commit(&p, &v, 1);
    pn_vec_delete_id(&v, text("id-5"));
    CHECK_EQ_INT(put_all_three(&v, "new"), PN_OK);
    check_commit(&p, &v, 6);
    check_commit(&p, &v, 0);
    close_table(&v);
    close_pack(&p);
}

static void test_live_metadata_is_written_when_its_text_changed(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_vec_init(&v, &pn_alloc_system);
    fill(&v, 5);
    CHECK_EQ_INT(put_random_host(&v, "id-0"), PN_OK);
    release_dropped(&v);
    check_commit(&p, &v, 15);
    check_commit(&p, &v, 0); /* the text that the batch made is known */
    CHECK_EQ_INT(promote(&v, "id-1"), PN_OK);
    check_commit(&p, &v, 0); /* and so is the one that the cell had */
    CHECK_EQ_INT(change_live(&v, "id-0"), PN_OK);
    check_commit(&p, &v, 1);
    CHECK_EQ_INT(change_live(&v, "id-1"), PN_OK);
    check_commit(&p, &v, 1);
    close_table(&v);
    CHECK_EQ_INT(open_table(&p, &v), PN_OK);
    CHECK_EQ_INT(promote(&v, "id-2"), PN_OK);
    check_commit(&p, &v, 0);
    close_table(&v);
    close_pack(&p);
    CHECK_EQ_INT(objects, 0);
}

/* What a commit that fails would have written is no text that the pack has. */
static void test_live_text_of_a_failed_commit_is_not_known(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_batch *b = NULL;
    pn_vec_init(&v, &pn_alloc_system);
    fill(&v, 3);
    check_commit(&p, &v, 9);
    CHECK_EQ_INT(put_random_text(&v, "id-0"), PN_OK);
    CHECK_EQ_INT(gather(&v, false, &b), PN_OK);
    CHECK_EQ_INT(promote(&v, "id-0"), PN_OK); /* now it is in the batch */
    CHECK_EQ_INT(promote(&v, "id-1"), PN_OK);
    pn_vec_give_back(&v);
    pn_batch_free(b);
    check_commit(&p, &v, 1);
    close_table(&v);
    close_pack(&p);
}

static void test_a_table_that_is_not_tracked_is_written_whole(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_batch *b = NULL;
    pn_vec_init(&v, &pn_alloc_system);
    fill(&v, 2);
    CHECK(pn_vec_gathers_rows(&v, false));
    CHECK_EQ_INT(gather(&v, false, &b), PN_OK);
    pn_vec_give_back(&v);
    pn_batch_free(b);
    CHECK(pn_vec_gathers_rows(&v, false));
    check_commit(&p, &v, 6);
    CHECK(!pn_vec_gathers_rows(&v, false) && pn_vec_gathers_rows(&v, true));
    CHECK(p.segments[0]->stores[0].reset);
    pn_vec_untrack(&v);
    check_commit(&p, &v, 6);
    close_table(&v);
    close_pack(&p);
}

static void test_gathers_out_of_turn_are_refused(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_batch *b = NULL, *c = NULL;
    pn_vec_init(&v, &pn_alloc_system);
    fill(&v, 2);
    CHECK_EQ_INT(gather(&v, false, &b), PN_OK);
    CHECK_EQ_INT(gather(&v, false, &c), PN_ERR_INVALID);
    CHECK_EQ_INT(write_batch(&p, b, 0), PN_OK);
    pn_vec_gathered(&v);
    pn_batch_free(b);
    close_table(&v);
    CHECK_EQ_INT(open_table(&p, &v), PN_OK);
    check_commit(&p, &v, 0);
    close_table(&v);
    close_pack(&p);
}

/* ---- what is read ---- */

static const pn_vec_row *row_of(const pn_vec *v, const char *id) { return pn_omap_get(&v->rows, text(id)); }

static bool lies_in(pn_blob *blob, const void *p)
{
    pn_bytes b = pn_blob_view(blob);
    return (uintptr_t)p >= (uintptr_t)b.ptr && (uintptr_t)p < (uintptr_t)b.ptr + b.len;
}

static void open_filled(pack *p, pn_vec *v, int n, size_t off)
{
    pn_vec_init(v, p->alloc);
    fill(v, n);
    CHECK_EQ_INT(commit(p, v, false, off), PN_OK);
    close_table(v);
    CHECK_EQ_INT(open_table(p, v), PN_OK);
}

static void test_rows_stay_in_the_file(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    const void *first;
    ptrdiff_t distance;
    const pn_vec_band *band;
    open_filled(&p, &v, 50, 0);
    pn_blob *blob = p.segments[0]->blob;
    CHECK(lies_in(blob, row_of(&v, "id-7")->data) && row_of(&v, "id-7")->borrowed);
    CHECK(lies_in(blob, pn_omap_key_of(row_of(&v, "id-7")).ptr));
    CHECK(pn_vec_dense(&v, &first, &distance, &band));
    CHECK_EQ_INT(distance, 64);
    CHECK(((const float *)((const uint8_t *)first + 7 * 64))[0] == 7);
    close_pack(&p); /* the table holds what it needs */
    CHECK(((const float *)row_of(&v, "id-49")->data)[0] == 49);
    close_table(&v);
}

static void test_rows_that_are_not_aligned_are_copied(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    double values[3] = {1, 2, 3};
    open_filled(&p, &v, 50, 8);
    CHECK(!row_of(&v, "id-7")->borrowed && (uintptr_t)row_of(&v, "id-7")->data % 64 == 0);
    CHECK_EQ_INT(settle(&v), PN_OK);
    CHECK(((const float *)row_of(&v, "id-7")->data)[0] == 7);
    CHECK_EQ_INT(pn_vec_put_row(&v, text("id-8"), NULL, values, 3), PN_OK);
    CHECK_EQ_INT(commit(&p, &v, false, 0), PN_OK);
    close_table(&v);
    CHECK_EQ_INT(open_table(&p, &v), PN_OK);
    const pn_vec_band *band = pn_vec_band_of(&v, row_of(&v, "id-8"));
    CHECK(row_of(&v, "id-8")->borrowed && !row_of(&v, "id-7")->borrowed);
    CHECK_EQ_INT(pn_vec_put_row(&v, text("new"), NULL, values, 3), PN_OK);
    CHECK_EQ_INT(pn_vec_put_row(&v, text("newer"), NULL, values, 3), PN_OK);
    CHECK_EQ_INT(band->block_count, 2); /* the block of its own has room */
    close_table(&v);
    close_pack(&p);
}

/* Every way to change a table whose rows nobody may write to. */
static void test_borrowed_rows_are_never_written(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    size_t deleted;
    double values[3] = {1, 2, 3};
    open_filled(&p, &v, 40, 0);
    const void *at = row_of(&v, "id-3")->data;
    CHECK_EQ_INT(pn_vec_put_row(&v, text("id-3"), NULL, values, 3), PN_OK);
    CHECK(!row_of(&v, "id-3")->borrowed && row_of(&v, "id-3")->data != at);
    pn_vec_pin(&v);
    CHECK(pn_vec_remove_row(&v, text("id-4")));
    CHECK_EQ_INT(pn_vec_delete_id(&v, text("id-5")), PN_OK);
    pn_vec_unpin(&v);
    CHECK(pn_vec_remove_row(&v, text("id-6")));
    CHECK_EQ_INT(pn_vec_delete_ref(&v, text("odd"), &deleted), PN_OK);
    CHECK_EQ_INT(deleted, 19);
    fill(&v, 60); /* takes rows, of which none may be one of those */
    CHECK_EQ_INT(settle(&v), PN_OK);
    CHECK(pn_vec_consistent(&v));
    CHECK_EQ_INT(commit(&p, &v, false, 0), PN_OK);
    close_table(&v);
    close_pack(&p);
}

static void test_nothing_is_read_before_it_is_settled(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_bytes json;
    pn_buf out;
    const char *file;
    pn_buf_init(&out, &pn_alloc_system);
    open_filled(&p, &v, 3, 0);
    CHECK_EQ_INT(pn_vec_text(&v, pn_omap_get(&v.metas, text("id-1")), &json), PN_ERR_INVALID);
    CHECK_EQ_INT(save(&v, &out), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_vec_settle_metas(&v, &file, NULL), PN_OK);
    CHECK_EQ_INT(save(&v, &out), PN_ERR_INVALID);
    CHECK_EQ_INT(settle(&v), PN_OK);
    CHECK(v.unchecked_rows.len == 0 && !v.unchecked_metas);
    CHECK_EQ_INT(pn_vec_text(&v, pn_omap_get(&v.metas, text("id-1")), &json), PN_OK);
    CHECK_EQ_INT(save(&v, &out), PN_OK);
    pn_buf_clear(&out);
    close_table(&v);
    close_pack(&p);
}

static pn_status write_by_hand(pn_status (*emit)(pn_segment_writer *w), pn_buf *file)
{
    uint64_t size;
    uint32_t crc;
    pn_segment_writer *w = NULL;
    PN_TRY(pn_segment_writer_new(&pn_alloc_system, segment_sink, file, &w));
    pn_status s = emit(w);
    if (s == PN_OK) s = pn_segment_finish(w, &size, &crc);
    pn_segment_writer_free(w);
    return s;
}

static void add_by_hand(pack *p, pn_status (*emit)(pn_segment_writer *w))
{
    pn_buf file;
    pn_buf_init(&file, p->alloc);
    CHECK_EQ_INT(write_by_hand(emit, &file), PN_OK);
    CHECK_EQ_INT(add_file(p, pn_buf_view(&file), 0), PN_OK);
    pn_buf_clear(&file);
}

static pn_status begin(pn_segment_writer *w, const char *table, pn_table_type type, pn_table_reset reset)
{
    return pn_segment_begin_table(w, text(table), type, reset);
}

/* Another writer's: MessagePack, an empty text, the metadata's table first. */
static pn_status emit_foreign(pn_segment_writer *w)
{
    static const float row[3] = {1, 2, 3};
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, false));
    PN_TRY(begin(w, "metadata_dict", PN_TABLE_VALUES, PN_TABLE_KEEPS));
    PN_TRY(pn_segment_put_value(w, PN_ENTRY_PUT, text("a"), PN_FORM_MPACK, text("\x81\xa1n\x05")));
    PN_TRY(pn_segment_put_value(w, PN_ENTRY_FRESH, text("b"), PN_FORM_JSON, text("{}")));
    PN_TRY(begin(w, "embedding_dict", PN_TABLE_VECTORS, PN_TABLE_KEEPS));
    PN_TRY(pn_segment_put_row(w, PN_ENTRY_FRESH, text("a"), 3, PN_ROW_F32, row));
    PN_TRY(pn_segment_put_row(w, PN_ENTRY_PUT, text("z"), 0, PN_ROW_F32, row));
    PN_TRY(begin(w, "text_id_to_ref_doc_id", PN_TABLE_STRINGS, PN_TABLE_KEEPS));
    return pn_segment_put_string(w, PN_ENTRY_PUT, text("a"), text("doc"));
}

static pn_status emit_resets(pn_segment_writer *w)
{
    static const double row[2] = {0.1, 2};
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, false));
    PN_TRY(begin(w, "embedding_dict", PN_TABLE_VECTORS, PN_TABLE_EMPTIED));
    PN_TRY(pn_segment_put_row(w, PN_ENTRY_PUT, text("n"), 2, PN_ROW_F64, row));
    PN_TRY(pn_segment_remove(w, text("gone")));
    PN_TRY(begin(w, "text_id_to_ref_doc_id", PN_TABLE_STRINGS, PN_TABLE_DROPPED));
    PN_TRY(begin(w, "metadata_dict", PN_TABLE_VALUES, PN_TABLE_KEEPS));
    PN_TRY(pn_segment_remove(w, text("nobody")));
    return pn_segment_put_value(w, PN_ENTRY_FRESH, text("a"), PN_FORM_JSON, text("7"));
}

static pn_status emit_other_store(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, text("other__vector_store.json"), PN_STORE_VECTORS, true));
    return begin(w, "embedding_dict", PN_TABLE_VECTORS, PN_TABLE_EMPTIED);
}

static pn_status emit_empty(pn_segment_writer *w) { return pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, true); }

static void check_json(const pack *p, const char *want)
{
    pn_buf out;
    pn_buf_init(&out, p->alloc);
    CHECK_EQ_INT(reread(p, &out), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&out), text(want)));
    pn_buf_clear(&out);
}

static void test_segments_of_other_writers(void)
{
    pack p = {.alloc = &pn_alloc_system};
    static const char *const nothing =
        "{\"embedding_dict\": {}, \"text_id_to_ref_doc_id\": {}, \"metadata_dict\": {}}";
    check_json(&p, nothing);
    add_by_hand(&p, emit_foreign);
    check_json(&p, "{\"embedding_dict\": {\"a\": [1.0, 2.0, 3.0], \"z\": []}, "
                   "\"text_id_to_ref_doc_id\": {\"a\": \"doc\"}, \"metadata_dict\": {\"a\": {\"n\": 5}, \"b\": {}}}");
    add_by_hand(&p, emit_other_store);
    add_by_hand(&p, emit_resets);
    check_json(&p, "{\"embedding_dict\": {\"n\": [0.1, 2.0]}, \"text_id_to_ref_doc_id\": {}, "
                   "\"metadata_dict\": {\"b\": {}, \"a\": 7}}");
    add_by_hand(&p, emit_empty);
    check_json(&p, nothing);
    close_pack(&p);
}

/* Within a segment a source can vanish and its number be given to another only where a
 * key occurs twice. The last of its entries counts, and no other key is mistaken. */
static pn_status emit_refs(pn_segment_writer *w)
{
    static const char *const refs[] = {"b", "y", "b", "z", "d", "w", "c", "y",
                                       "e", "v", "e", "u", "f", "v"};
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, false));
    PN_TRY(begin(w, "text_id_to_ref_doc_id", PN_TABLE_STRINGS, PN_TABLE_KEEPS));
    for (size_t i = 0; i < sizeof refs / sizeof *refs; i += 2)
        PN_TRY(pn_segment_put_string(w, PN_ENTRY_PUT, text(refs[i]), text(refs[i + 1])));
    return PN_OK;
}

static void test_sources_that_come_and_go(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    add_by_hand(&p, emit_foreign);
    add_by_hand(&p, emit_refs);
    CHECK_EQ_INT(open_table(&p, &v), PN_OK);
    CHECK(pn_vec_consistent(&v));
    static const char *const want[] = {"a", "doc", "b", "z", "d", "w", "c", "y", "e", "u", "f", "v"};
    for (size_t i = 0; i < sizeof want / sizeof *want; i += 2)
        CHECK(pn_bytes_equal(pn_vec_ref_name(&v, pn_omap_get(&v.refs, text(want[i]))), text(want[i + 1])));
    pn_vec_clear(&v);
    close_pack(&p);
}

static pn_status emit_crc_0(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, true));
    PN_TRY(begin(w, "metadata_dict", PN_TABLE_VALUES, PN_TABLE_KEEPS));
    return pn_segment_put_value(w, PN_ENTRY_PUT, text("a"), PN_FORM_JSON, text("\"dicgdmg`b`\""));
}

static void test_text_with_a_checksum_of_0(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_buf file;
    pn_vec v;
    size_t bad = 99;
    pn_error err = {0};
    pn_buf_init(&file, &pn_alloc_system);
    CHECK_EQ_INT(write_by_hand(emit_crc_0, &file), PN_OK);
    CHECK_EQ_INT(add_file(&p, pn_buf_view(&file), 0), PN_OK);
    check_json(&p, "{\"embedding_dict\": {}, \"text_id_to_ref_doc_id\": {}, \"metadata_dict\": {\"a\": \"dicgdmg`b`\"}}");
    size_t at = (size_t)(p.segments[0]->stores[0].tables[0].values - pn_blob_view(p.segments[0]->blob).ptr);
    close_pack(&p);
    file.data[at + 1] ^= 1;
    CHECK_EQ_INT(add_file(&p, pn_buf_view(&file), 0), PN_OK);
    pn_vec_init(&v, &pn_alloc_system);
    CHECK_EQ_INT(pn_vec_unpack(&v, STORE, p.segments, p.n, &bad, &err), PN_ERR_CORRUPT);
    CHECK_EQ_INT(err.offset, at);
    pn_vec_clear(&v);
    close_pack(&p);
    pn_buf_clear(&file);
}

/* ---- what is wrong ---- */

static pn_status emit_twice(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, true));
    PN_TRY(begin(w, "text_id_to_ref_doc_id", PN_TABLE_STRINGS, PN_TABLE_KEEPS));
    PN_TRY(pn_segment_put_string(w, PN_ENTRY_PUT, text("a"), text("doc")));
    return pn_segment_put_string(w, PN_ENTRY_PUT, text("a"), text("doc"));
}

static pn_status emit_struct(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, true));
    PN_TRY(begin(w, "metadata_dict", PN_TABLE_VALUES, PN_TABLE_KEEPS));
    return pn_segment_put_value(w, PN_ENTRY_PUT, text("a"), PN_FORM_STRUCT, text("\x92\xa1x\x90"));
}

static pn_status emit_bad_mpack(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, true));
    PN_TRY(begin(w, "metadata_dict", PN_TABLE_VALUES, PN_TABLE_KEEPS));
    return pn_segment_put_value(w, PN_ENTRY_PUT, text("a"), PN_FORM_MPACK, text("\x81\xa1n"));
}

static pn_status emit_other_kind(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_COLLECTIONS, true));
    return begin(w, "docstore/data", PN_TABLE_VALUES, PN_TABLE_KEEPS);
}

static pn_status emit_many_dimensions(pn_segment_writer *w)
{
    static const float row[2 * PN_VEC_MAX_BANDS] = {0};
    char id[16];
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, true));
    PN_TRY(begin(w, "embedding_dict", PN_TABLE_VECTORS, PN_TABLE_KEEPS));
    for (size_t dim = 1; dim <= PN_VEC_MAX_BANDS + 1; dim++) {
        snprintf(id, sizeof id, "%zu", dim);
        PN_TRY(pn_segment_put_row(w, PN_ENTRY_PUT, text(id), dim, PN_ROW_F32, row));
    }
    return PN_OK;
}

static void check_refused(pn_status (*emit)(pn_segment_writer *w), pn_status want)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    size_t bad = 99;
    pn_error err = {0};
    add_by_hand(&p, emit_other_store);
    add_by_hand(&p, emit);
    pn_vec_init(&v, &pn_alloc_system);
    CHECK_EQ_INT(pn_vec_unpack(&v, STORE, p.segments, p.n, &bad, &err), want);
    CHECK_EQ_INT(bad, 1);
    if (want == PN_ERR_CORRUPT) CHECK(err.what != NULL && err.offset >= 64);
    pn_vec_clear(&v);
    close_pack(&p);
}

static void test_what_unpacking_refuses(void)
{
    check_refused(emit_twice, PN_ERR_CORRUPT);
    check_refused(emit_struct, PN_ERR_CORRUPT);
    check_refused(emit_bad_mpack, PN_ERR_CORRUPT);
    check_refused(emit_other_kind, PN_ERR_CORRUPT);
    check_refused(emit_many_dimensions, PN_ERR_UNSUPPORTED);
}

/* Canonical or not is no matter of checksums. */
static pn_status emit_not_canonical(pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_store(w, STORE, PN_STORE_VECTORS, true));
    PN_TRY(begin(w, "metadata_dict", PN_TABLE_VALUES, PN_TABLE_KEEPS));
    return pn_segment_put_value(w, PN_ENTRY_PUT, text("a"), PN_FORM_JSON, text("{\"a\":1}"));
}

static void test_text_that_is_not_canonical_is_refused(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    const char *file = NULL;
    pn_error err = {0};
    add_by_hand(&p, emit_not_canonical);
    CHECK_EQ_INT(open_table(&p, &v), PN_OK);
    CHECK_EQ_INT(pn_vec_settle_metas(&v, &file, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(file, "seg-0.pn");
    pn_vec_clear(&v);
    close_pack(&p);
}

/* One byte of rows or metadata is flipped: the other kind of use goes on, this one never. */
static void check_damage(const pn_buf *file, size_t at, bool in_rows)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    const char *name = NULL;
    pn_error err = {0};
    file->data[at] ^= 0x10;
    CHECK_EQ_INT(add_file(&p, pn_buf_view(file), 0), PN_OK);
    file->data[at] ^= 0x10;
    CHECK_EQ_INT(open_table(&p, &v), PN_OK);
    CHECK_EQ_INT(in_rows ? pn_vec_settle_metas(&v, &name, &err) : pn_vec_settle_rows(&v, &name, &err), PN_OK);
    for (int again = 0; again < 2; again++) {
        pn_status s = in_rows ? pn_vec_settle_rows(&v, &name, &err) : pn_vec_settle_metas(&v, &name, &err);
        CHECK_EQ_INT(s, PN_ERR_CORRUPT);
        CHECK_EQ_STR(name, "seg-0.pn");
        CHECK(err.offset <= at && at - err.offset < 10 * 64);
    }
    /* Damage that is overwritten is gone. */
    bool found;
    for (int i = 0; i < 10 && !in_rows; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        CHECK_EQ_INT(pn_vec_remove_meta(&v, text(id), &found), PN_OK);
    }
    if (!in_rows) CHECK_EQ_INT(pn_vec_settle_metas(&v, &name, &err), PN_OK);
    pn_vec_clear(&v);
    close_pack(&p);
}

/* A copy of a pack looks at what nobody has looked at: at rows when it is gathered, at
 * metadata when it is written. */
static void check_copy(const pn_buf *file, size_t at, uint8_t flip, pn_status gathering, pn_status writing)
{
    pack p = {.alloc = &pn_alloc_system}, copy = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_batch *b = NULL;
    pn_error err = {0};
    file->data[at] ^= flip;
    CHECK_EQ_INT(add_file(&p, pn_buf_view(file), 0), PN_OK);
    file->data[at] ^= flip;
    CHECK_EQ_INT(open_table(&p, &v), PN_OK);
    CHECK_EQ_INT(gather(&v, true, &b), gathering);
    if (b != NULL) {
        CHECK_EQ_INT(write_batch(&copy, b, 0), writing);
        CHECK((pn_batch_damage(b, &err) != NULL) == (writing == PN_ERR_CORRUPT));
        pn_vec_give_back(&v);
    }
    pn_batch_free(b);
    pn_vec_clear(&v);
    close_pack(&p);
    close_pack(&copy);
}

static void test_damage_is_found_before_use(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_buf file;
    open_filled(&p, &v, 10, 0);
    pn_buf_init(&file, &pn_alloc_system);
    pn_bytes bytes = pn_blob_view(p.segments[0]->blob);
    CHECK_EQ_INT(pn_buf_append(&file, bytes.ptr, bytes.len), PN_OK);
    const pn_segment_table *t = p.segments[0]->stores[0].tables;
    size_t rows = (size_t)(t[0].runs[0].data - bytes.ptr), metas = (size_t)(t[2].values - bytes.ptr);
    for (size_t i = 0; i < 10 * 64; i += 7) check_damage(&file, rows + i, true);
    for (size_t i = 0; i < t[2].values_size; i++) check_damage(&file, metas + i, false);
    check_copy(&file, metas + 3, 1, PN_OK, PN_ERR_CORRUPT);
    check_copy(&file, rows + 3, 1, PN_ERR_CORRUPT, PN_OK);
    check_copy(&file, metas + 3, 0, PN_OK, PN_OK);
    pn_buf_clear(&file);
    close_table(&v);
    close_pack(&p);
}

/* ---- any bytes ---- */

/* What opens, settles and is consistent can be used and changed in every way. */
static void use(const pack *p)
{
    pn_vec v;
    pn_buf json;
    pn_buf_init(&json, p->alloc);
    pn_status s = open_table(p, &v);
    CHECK(s == PN_OK || s == PN_ERR_CORRUPT || s == PN_ERR_UNSUPPORTED);
    if (s == PN_OK) CHECK(pn_vec_consistent(&v));
    if (s == PN_OK) s = settle(&v);
    CHECK(s == PN_OK || s == PN_ERR_CORRUPT || s == PN_ERR_UNSUPPORTED);
    if (s == PN_OK) {
        CHECK_EQ_INT(save(&v, &json), PN_OK);
        mutate_some(&v, 30);
    }
    close_table(&v);
    pn_buf_clear(&json);
}

static void add_mutated(pack *p, const pn_buf *file, uint8_t *bytes)
{
    char name[32] = "mutated";
    pn_blob *blob;
    memcpy(bytes, file->data, file->len);
    for (unsigned n = 1 + draw(4); n > 0; n--) bytes[draw((unsigned)file->len)] ^= (uint8_t)(1 << draw(8));
    segment_repair(bytes, file->len); /* so that they come past the checksums */
    CHECK_EQ_INT(map_file(p->alloc, (pn_bytes){bytes, file->len}, 0, name, &blob), PN_OK);
    if (pn_segment_open(p->alloc, blob, &p->segments[p->n], NULL) == PN_OK) p->n++;
    pn_blob_unref(blob);
}

static void test_mutated_segments(void)
{
    pack p = {.alloc = &pn_alloc_system};
    pn_vec v;
    pn_buf file;
    size_t opened = 0;
    seed = 7;
    pn_vec_init(&v, &pn_alloc_system);
    mutate_some(&v, 60);
    CHECK_EQ_INT(commit(&p, &v, false, 0), PN_OK);
    mutate_some(&v, 60);
    CHECK_EQ_INT(commit(&p, &v, false, 0), PN_OK);
    pn_buf_init(&file, &pn_alloc_system);
    pn_bytes second = pn_blob_view(p.segments[1]->blob);
    CHECK_EQ_INT(pn_buf_append(&file, second.ptr, second.len), PN_OK);
    pn_segment_close(p.segments[--p.n]);
    uint8_t *bytes = malloc(file.len);
    for (int i = 0; i < 5000 && bytes != NULL; i++) {
        add_mutated(&p, &file, bytes);
        opened += p.n == 2;
        use(&p);
        if (p.n == 2) pn_segment_close(p.segments[--p.n]);
    }
    CHECK(opened > 1000);
    free(bytes);
    pn_buf_clear(&file);
    close_table(&v);
    close_pack(&p);
    CHECK_EQ_INT(objects, 0);
}

/* ---- failed allocations ---- */

static pn_status reread_or_nomem(const pack *p, pn_buf *out)
{
    pn_status s = reread(p, out);
    return s == PN_ERR_NOMEM ? reread(p, out) : s;
}

/* A commit is tried again; whatever failed before, the file holds the table as it is. */
static void commit_and_compare(pack *p, pn_vec *v)
{
    pn_buf want, got;
    pn_buf_init(&want, &pn_alloc_system);
    pn_buf_init(&got, &pn_alloc_system);
    pn_status s = settle(v);
    if (s == PN_ERR_NOMEM) s = settle(v);
    CHECK_EQ_INT(s, PN_OK);
    CHECK_EQ_INT(save(v, &want), PN_OK);
    s = commit(p, v, false, 0);
    if (s == PN_ERR_NOMEM) s = commit(p, v, false, 0);
    CHECK_EQ_INT(s, PN_OK);
    CHECK_EQ_INT(reread_or_nomem(p, &got), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&want), pn_buf_view(&got)));
    pn_buf_clear(&want);
    pn_buf_clear(&got);
}

static void live_with_failures(const pn_alloc *alloc)
{
    pack p = {.alloc = alloc};
    pn_vec v;
    pn_vec_init(&v, alloc);
    for (int round = 0; round < 3; round++) {
        mutate_some(&v, 25);
        commit_and_compare(&p, &v);
        if (round != 1) continue;
        close_table(&v);
        pn_status s = open_table(&p, &v);
        if (s == PN_ERR_NOMEM) {
            pn_vec_clear(&v);
            s = open_table(&p, &v);
        }
        CHECK_EQ_INT(s, PN_OK);
    }
    close_table(&v);
    close_pack(&p);
}

static void test_every_failed_allocation_is_survived(void)
{
    fail_alloc f;
    long n = 0;
    do {
        fail_alloc_init(&f, ++n);
        seed = 42;
        live_with_failures(&f.alloc);
        CHECK_EQ_INT(f.blocks, 0);
        CHECK_EQ_INT(objects, 0);
    } while (f.failed && n < 20000);
    CHECK(!f.failed && n > 300);
}

int main(void)
{
    RUN(test_random_histories);
    RUN(test_only_changes_are_written);
    RUN(test_live_metadata_is_written_when_its_text_changed);
    RUN(test_live_text_of_a_failed_commit_is_not_known);
    RUN(test_a_table_that_is_not_tracked_is_written_whole);
    RUN(test_gathers_out_of_turn_are_refused);
    RUN(test_rows_stay_in_the_file);
    RUN(test_rows_that_are_not_aligned_are_copied);
    RUN(test_borrowed_rows_are_never_written);
    RUN(test_nothing_is_read_before_it_is_settled);
    RUN(test_segments_of_other_writers);
    RUN(test_sources_that_come_and_go);
    RUN(test_text_with_a_checksum_of_0);
    RUN(test_what_unpacking_refuses);
    RUN(test_text_that_is_not_canonical_is_refused);
    RUN(test_damage_is_found_before_use);
    RUN(test_mutated_segments);
    RUN(test_every_failed_allocation_is_survived);
    return check_summary();
}
