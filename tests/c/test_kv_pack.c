/* A key-value store through a pack and back. Random lives: values put, removed, changed
 * where they are, handed out and changed unseen, collections made and dropped, commits
 * that fail, and all of it also while a commit is under way. After each commit the
 * segments, applied in turn, must be the store: its JSON byte for byte. */
#include "codec_check.h"
#include "fail_alloc.h"
#include "segment_dump.h"
#include "store_pack.h"
#include "store/doc.h"
#include "store/kv_pack.h"
#include "store/struct_pack.h"

static pn_cell live_cell(pn_bytes text)
{
    pn_cell c = {.kind = PN_CELL_LIVE};
    c.live = new_object(text);
    return c;
}

/* ---- the world ---- */

enum { MAX_SEGMENTS = 16, COLLECTIONS = 3, KEYS = 12 };

typedef struct world {
    const pn_alloc *alloc;
    uint64_t rnd;
    int next; /* values differ */
    pn_kv *kv;
    pn_segment *segments[MAX_SEGMENTS];
    size_t count;
    int commits, empty_commits, in_parts, anew;
    size_t bytes;
} world;

static size_t below(world *w, size_t n) { return (size_t)(random_next(&w->rnd) % n); }

static pn_bytes name_of(size_t i)
{
    static const char *const names[] = {"docstore/data", "docstore/ref_doc_info", "other"};
    return segment_text(names[i]);
}

static pn_bytes key_of(size_t i, char *out)
{
    return (pn_bytes){(uint8_t *)out, i ? (size_t)sprintf(out, "key %zu%.*s", i, (int)i % 5, "-----") : 0};
}

static pn_bytes random_key(world *w, char *out) { return key_of(below(w, KEYS), out); }

static pn_status span_cell(world *w, const char *text, bool canonical, pn_cell *out)
{
    pn_blob *blob;
    PN_TRY(pn_blob_copy(w->alloc, text, strlen(text), &blob));
    *out = pn_cell_json(blob, pn_blob_view(blob), canonical);
    pn_blob_unref(blob);
    return PN_OK;
}

static pn_status mpack_cell(world *w, const char *json, pn_cell *out)
{
    pn_buf b;
    pn_blob *blob;
    pn_buf_init(&b, w->alloc);
    pn_status s = pn_mpack_from_json(segment_text(json), w->alloc, &b);
    if (s == PN_OK) s = pn_blob_take(&b, &blob);
    pn_buf_clear(&b);
    PN_TRY(s);
    *out = pn_cell_mpack(blob, pn_blob_view(blob));
    pn_blob_unref(blob);
    return PN_OK;
}

static pn_status random_cell(world *w, pn_cell *out)
{
    char text[256];
    int n = w->next++;
    switch (below(w, 8)) {
    case 0:
    case 1: sprintf(text, "{\"n\": %d}", n); return span_cell(w, text, true, out);
    case 2: sprintf(text, "{\"n\":%d,\"m\": [1 ]}", n); return span_cell(w, text, false, out);
    case 3: sprintf(text, "{\"n\": %d, \"x\": [1.5, null]}", n); return mpack_cell(w, text, out);
    case 4:
        sprintf(text, "[\"live\", %d]", n);
        *out = live_cell(segment_text(text));
        return PN_OK;
    case 5:
        sprintf(text, "{\"node_ids\": [\"n%d\", \"\\u00e9\"], \"metadata\": {\"page\": %d}}", n, n);
        return span_cell(w, text, true, out);
    default:
        sprintf(text, "{\"__type__\": \"list\", \"__data__\": \"{\\\"index_id\\\": \\\"i%d\\\", \\\"nodes\\\": [\\\"a\\\", \\\"b%.*s\\\"]}\"}",
                n, n % 9, "---------");
        return span_cell(w, text, true, out);
    }
}

static pn_status put(world *w)
{
    pn_coll *coll;
    pn_cell cell, old;
    char key[32];
    PN_TRY(random_cell(w, &cell));
    pn_status s = pn_kv_collection(w->kv, name_of(below(w, COLLECTIONS)), &coll);
    if (s == PN_OK) s = pn_coll_put(coll, random_key(w, key), NULL, cell, &old);
    pn_cell_release(s == PN_OK ? &old : &cell, &host);
    return s;
}

/* A cell of the store, or NULL. */
static pn_cell *random_place(world *w, pn_coll **coll)
{
    char key[32];
    *coll = pn_kv_find(w->kv, name_of(below(w, COLLECTIONS)));
    return *coll ? pn_coll_get(*coll, random_key(w, key)) : NULL;
}

static pn_status take_out(world *w)
{
    char key[32];
    pn_cell old;
    pn_coll *coll = pn_kv_find(w->kv, name_of(below(w, COLLECTIONS)));
    if (coll != NULL && pn_coll_remove(coll, random_key(w, key), &old)) pn_cell_release(&old, &host);
    return PN_OK;
}

/* The very cell goes to the end, under its key. */
static pn_status move(world *w)
{
    char key[32];
    pn_cell cell, old;
    pn_bytes k = random_key(w, key);
    pn_coll *coll = pn_kv_find(w->kv, name_of(below(w, COLLECTIONS)));
    if (coll == NULL || !pn_coll_remove(coll, k, &cell)) return PN_OK;
    pn_status s = pn_coll_put(coll, k, NULL, cell, &old);
    if (s != PN_OK) pn_cell_release(&cell, &host);
    return s;
}

static pn_status drop_or_make(world *w)
{
    pn_coll *coll;
    pn_bytes name = name_of(below(w, COLLECTIONS));
    if (below(w, 3) == 0) pn_coll_free(pn_kv_drop(w->kv, name), w->alloc, &host);
    return below(w, 2) ? pn_kv_collection(w->kv, name, &coll) : PN_OK;
}

/* ---- what happens to a cell where it is ---- */

static pn_status promote(world *w, pn_coll *coll, pn_cell *told, pn_cell *cell)
{
    pn_buf text;
    if (cell->kind == PN_CELL_LIVE) return PN_OK;
    pn_buf_init(&text, w->alloc);
    pn_status s = pn_cell_write_json(cell, &host, w->alloc, &text);
    if (s == PN_OK) {
        (void)pn_cell_settle(told, NULL);
        pn_coll_goes_live(coll, told);
        pn_cell_release(cell, &host);
        *cell = live_cell(pn_buf_view(&text));
    }
    pn_buf_clear(&text);
    return s;
}

static void change_unseen(world *w, pn_cell *cell)
{
    char text[64];
    if (cell->kind == PN_CELL_REFDOC) cell = &cell->refdoc->metadata;
    if (cell->kind != PN_CELL_LIVE) return;
    sprintf(text, "{\"changed\": %d}", w->next++);
    set_text(cell->live, segment_text(text));
}

/* A live value whose text is taken again: nobody is told. */
static pn_status back_to_text(world *w, pn_cell *cell)
{
    pn_cell text;
    if (cell->kind != PN_CELL_LIVE) return PN_OK;
    PN_TRY(span_cell(w, ((object *)cell->live)->text, true, &text));
    pn_cell_release(cell, &host);
    *cell = text;
    return PN_OK;
}

static bool has_prefix(const pn_cell *cell, const char *prefix)
{
    return cell->kind == PN_CELL_JSON && cell->span.len > strlen(prefix) && memcmp(cell->span.ptr, prefix, strlen(prefix)) == 0;
}

static pn_status as_refdoc(world *w, pn_coll *coll, pn_cell *cell)
{
    pn_refdoc *r;
    if (!has_prefix(cell, "{\"node_ids\"")) return PN_OK;
    return pn_doc_refdoc(coll, pn_omap_key_of(cell), w->alloc, &r);
}

static pn_status as_struct(world *w, pn_cell *cell)
{
    pn_struct *s;
    if (!has_prefix(cell, "{\"__type__\"")) return PN_OK;
    pn_status status = pn_struct_from_json(w->alloc, pn_cell_span(cell), &s);
    if (status != PN_OK) return status;
    pn_cell_release(cell, &host);
    *cell = (pn_cell){.kind = PN_CELL_STRUCT, .structure = s};
    return PN_OK;
}

static pn_status change_refdoc(world *w, pn_coll *coll, pn_cell *cell)
{
    char id[32];
    void *unused;
    bool added = true;
    pn_refdoc *r = cell->refdoc;
    sprintf(id, "id %zu", below(w, 6));
    if (below(w, 3) == 0) return promote(w, coll, cell, &r->metadata);
    if (below(w, 2))
        PN_TRY(pn_omap_put(&r->ids, segment_text(id), NULL, &unused, &added));
    else
        added = pn_omap_remove(&r->ids, segment_text(id), NULL);
    if (added) pn_coll_touch(coll, cell);
    return PN_OK;
}

static pn_status change_struct(world *w, pn_coll *coll, pn_cell *cell)
{
    char row[64];
    pn_column *c = &cell->structure->columns[1];
    sprintf(row, "\"node %d\"", w->next++);
    pn_coll_touch(coll, cell); /* first: some rows may be all that there is memory for */
    for (int i = 0; i < 3; i++) PN_TRY(pn_column_push(c, segment_text(row), NULL, 0));
    return PN_OK;
}

static pn_status change_cell(world *w)
{
    pn_coll *coll;
    pn_cell *cell = random_place(w, &coll);
    if (cell == NULL) return PN_OK;
    if (below(w, 3)) PN_TRY(as_refdoc(w, coll, cell));
    if (below(w, 3)) PN_TRY(as_struct(w, cell));
    if (cell->kind == PN_CELL_REFDOC && below(w, 4)) return change_refdoc(w, coll, cell);
    if (cell->kind == PN_CELL_STRUCT && below(w, 4)) return change_struct(w, coll, cell);
    switch (below(w, 5)) {
    case 0: return promote(w, coll, cell, cell);
    case 1: return back_to_text(w, cell);
    case 2: return pn_cell_settle(cell, NULL);
    default: change_unseen(w, cell); return PN_OK;
    }
}

/* What fails for want of memory has not happened. */
static void act(world *w, size_t times)
{
    for (; times; times--) {
        size_t dice = below(w, 40);
        pn_status s = dice == 0 ? drop_or_make(w) : dice < 8 ? take_out(w) : dice < 20 ? put(w) : dice < 22 ? move(w) : change_cell(w);
        CHECK(s == PN_OK || s == PN_ERR_NOMEM || s == PN_ERR_UNSUPPORTED);
    }
}

/* ---- commits ---- */

static void forget_segments(world *w)
{
    for (size_t i = 0; i < w->count; i++) pn_segment_close(w->segments[i]);
    w->count = 0;
}

static pn_status json_of(const pn_kv *kv, pn_buf *out)
{
    pn_kv_place place = {.turns = false};
    out->len = 0;
    pn_status s = pn_kv_write_json(kv, out, &place);
    pn_kv_place_clear(&place);
    return s;
}

static pn_status unpack(world *w, pn_kv **out)
{
    pn_error err = {0};
    size_t bad = 99;
    PN_TRY(pn_kv_new(w->alloc, &host, out));
    pn_status s = pn_kv_unpack(*out, PN_BYTES("docstore.json"), w->segments, w->count, &bad, &err);
    CHECK(s == PN_OK || s == PN_ERR_NOMEM);
    if (s != PN_OK) pn_kv_unref(*out);
    return s;
}

/* What the segments make is the store; now and then it takes the store's place. */
static pn_status check_segments(world *w, const pn_buf *want)
{
    pn_kv *kv;
    pn_buf got;
    PN_TRY(unpack(w, &kv));
    pn_buf_init(&got, w->alloc);
    pn_status s = json_of(kv, &got);
    if (s == PN_OK) CHECK(pn_bytes_equal(pn_buf_view(&got), pn_buf_view(want)));
    pn_buf_clear(&got);
    if (s != PN_OK || below(w, 4)) {
        pn_kv_unref(kv);
        return s;
    }
    pn_kv_unref(w->kv);
    w->kv = kv;
    return PN_OK;
}

/* The commit of what was gathered. */
static pn_status write_and_keep(world *w, pn_batch *b, bool whole, pn_segment **made)
{
    PN_TRY(encode_all(b));
    if (!pn_batch_changes(b)) return PN_OK;
    PN_TRY(write_segment(w->alloc, b, &w->bytes, made));
    if (whole) forget_segments(w);
    return PN_OK;
}

typedef struct plan {
    bool whole, fails, interleaved, in_parts;
} plan;

/* In parts, while the store goes on changing; *json is what it is at the end. */
static pn_status gather_in_parts(world *w, pn_batch *b, plan p, pn_buf *json)
{
    pn_kv_gathering g;
    bool more = true;
    PN_TRY(pn_kv_gather_begin(w->kv, PN_BYTES("docstore.json"), p.whole, b, &g));
    pn_status s = PN_OK;
    while (s == PN_OK && more) {
        s = pn_kv_gather_part(&g, 1 + (size_t)below(w, 4), &more);
        if (s == PN_OK && more) act(w, below(w, 3));
    }
    if (s == PN_OK) s = json_of(w->kv, json);
    if (s == PN_OK) s = pn_kv_gather_end(&g);
    w->anew += g.lost;
    w->in_parts++;
    if (s != PN_OK) pn_kv_give_back(w->kv);
    return s;
}

static pn_status gather(world *w, pn_batch *b, plan p, pn_buf *json)
{
    if (p.in_parts) return gather_in_parts(w, b, p, json);
    PN_TRY(json_of(w->kv, json));
    return pn_kv_gather(w->kv, PN_BYTES("docstore.json"), p.whole, b);
}

static pn_status finish(world *w, pn_batch *b, plan p, const pn_buf *json)
{
    pn_segment *made = NULL;
    pn_status s = write_and_keep(w, b, p.whole, &made);
    if (p.interleaved) act(w, below(w, 6));
    if (s != PN_OK || p.fails) {
        if (p.whole && s == PN_OK && made != NULL) pn_kv_untrack(w->kv); /* the old segments are gone */
        pn_kv_give_back(w->kv);
        pn_segment_close(made);
        return s;
    }
    pn_kv_gathered(w->kv);
    w->commits++;
    w->empty_commits += made == NULL;
    if (made != NULL) w->segments[w->count++] = made;
    return p.interleaved ? PN_OK : check_segments(w, json);
}

static pn_status commit(world *w, plan p)
{
    pn_batch *b;
    pn_buf json;
    if (w->count == MAX_SEGMENTS) p.whole = true;
    PN_TRY(pn_batch_new(w->alloc, &host, &b));
    pn_buf_init(&json, w->alloc);
    pn_status s = gather(w, b, p, &json);
    if (s == PN_OK) {
        if (p.interleaved) act(w, below(w, 6));
        s = finish(w, b, p, &json);
    }
    pn_buf_clear(&json);
    pn_batch_free(b);
    return s;
}

static void last_commit(world *w)
{
    plan p = {false, false, false, false};
    pn_status s;
    for (int tries = 0; (s = commit(w, p)) == PN_ERR_NOMEM && tries < 3;) tries++;
    CHECK_EQ_INT(s, PN_OK);
}

static void whole_life(world *w, int commits)
{
    pn_status s;
    for (int tries = 0; (s = pn_kv_new(w->alloc, &host, &w->kv)) != PN_OK && tries < 3;) tries++;
    CHECK_EQ_INT(s, PN_OK);
    for (int i = 0; i < commits; i++) {
        act(w, below(w, 12));
        s = commit(w, (plan){below(w, 12) == 0, below(w, 4) == 0, below(w, 3) == 0, below(w, 2) == 0});
        CHECK(s == PN_OK || s == PN_ERR_NOMEM);
    }
    last_commit(w);
    last_commit(w);
    pn_kv_unref(w->kv);
    forget_segments(w);
}

static void test_kv_pack_follows_every_life(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    int commits = 0, empty = 0, in_parts = 0, anew = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        world w = {.alloc = &f.alloc, .rnd = seed};
        whole_life(&w, 60);
        commits += w.commits;
        empty += w.empty_commits;
        in_parts += w.in_parts;
        anew += w.anew;
    }
    CHECK(commits > 2000 && empty > 60);
    CHECK(anew > 20 && in_parts > 10 * anew);
    CHECK_EQ_INT(f.blocks, 0);
    CHECK_EQ_INT(objects, 0);
}

/* Whatever is refused, the life goes on, and in the end the segments are the store. */
static void test_kv_pack_survives_oom(void)
{
    fail_alloc f;
    long n = 0;
    do {
        fail_alloc_init(&f, ++n);
        world w = {.alloc = &f.alloc, .rnd = 11 + (uint64_t)n % 3};
        whole_life(&w, 10);
        CHECK_EQ_INT(f.blocks, 0);
        CHECK_EQ_INT(objects, 0);
    } while (f.failed && n < 20000);
    CHECK(n > 300 && !f.failed);
}

/* ---- what is written ---- */

static pn_status put_text(pn_kv *kv, const char *coll, const char *key, const char *json)
{
    pn_coll *c;
    pn_cell cell, old;
    world w = {.alloc = &pn_alloc_system};
    PN_TRY(span_cell(&w, json, true, &cell));
    PN_TRY(pn_kv_collection(kv, segment_text(coll), &c));
    PN_TRY(pn_coll_put(c, segment_text(key), NULL, cell, &old));
    pn_cell_release(&old, &host);
    return PN_OK;
}

static void remove_key(pn_kv *kv, const char *coll, const char *key)
{
    pn_cell old = {.kind = PN_CELL_EMPTY};
    CHECK(pn_coll_remove(pn_kv_find(kv, segment_text(coll)), segment_text(key), &old));
    pn_cell_release(&old, &host);
}

/* The segment of a commit of the store, in the words of segment_dump.h. */
static void check_commit(pn_kv *kv, bool durable, const char *want)
{
    pn_batch *b;
    pn_segment *s = NULL;
    world w = {.alloc = &pn_alloc_system};
    CHECK_EQ_INT(pn_batch_new(&pn_alloc_system, &host, &b), PN_OK);
    CHECK_EQ_INT(pn_kv_gather(kv, PN_BYTES("s"), false, b), PN_OK);
    CHECK_EQ_INT(encode_all(b), PN_OK);
    CHECK_EQ_INT(pn_batch_changes(b), want[0] != 0);
    CHECK_EQ_INT(write_segment(w.alloc, b, &w.bytes, &s), PN_OK);
    check_dump(s, want);
    pn_segment_close(s);
    pn_batch_free(b);
    if (durable)
        pn_kv_gathered(kv);
    else
        pn_kv_give_back(kv);
}

static void test_kv_pack_writes_what_changed(void)
{
    pn_kv *kv;
    CHECK_EQ_INT(pn_kv_new(&pn_alloc_system, &host, &kv), PN_OK);
    check_commit(kv, true, "store s 1 reset\n");
    check_commit(kv, true, "");
    CHECK_EQ_INT(put_text(kv, "a", "x", "1"), PN_OK);
    CHECK_EQ_INT(put_text(kv, "a", "y", "2"), PN_OK);
    check_commit(kv, false, "store s 1\ntable a 1 emptied\nput x = 1\nput y = 2\n");
    CHECK_EQ_INT(put_text(kv, "a", "z", "3"), PN_OK);
    check_commit(kv, true, "store s 1\ntable a 1 emptied\nput x = 1\nput y = 2\nput z = 3\n");
    CHECK_EQ_INT(put_text(kv, "a", "y", "4"), PN_OK);
    remove_key(kv, "a", "x");
    CHECK_EQ_INT(put_text(kv, "a", "x", "5"), PN_OK);
    remove_key(kv, "a", "z");
    CHECK_EQ_INT(put_text(kv, "a", "w", "6"), PN_OK);
    CHECK_EQ_INT(put_text(kv, "a", "v", "7"), PN_OK);
    remove_key(kv, "a", "v");
    check_commit(kv, true, "store s 1\ntable a 1 keeps\nput y = 4\nfresh x = 5\nremove z\nfresh w = 6\n");
    CHECK_EQ_INT(put_text(kv, "b", "k", "1"), PN_OK);
    check_commit(kv, true, "store s 1\ntable b 1 emptied\nput k = 1\n");
    pn_coll_free(pn_kv_drop(kv, PN_BYTES("a")), &pn_alloc_system, &host);
    check_commit(kv, false, "store s 1\ntable a 1 dropped\n");
    CHECK_EQ_INT(put_text(kv, "a", "x", "1"), PN_OK);
    check_commit(kv, true, "store s 1\ntable a 1 fresh\nput x = 1\n");
    pn_kv_untrack(kv);
    check_commit(kv, true, "store s 1 reset\ntable b 1 emptied\nput k = 1\ntable a 1 emptied\nput x = 1\n");
    pn_kv_unref(kv);
}

static void test_kv_pack_watches_live_values(void)
{
    pn_kv *kv;
    pn_coll *coll;
    pn_cell old;
    CHECK_EQ_INT(pn_kv_new(&pn_alloc_system, &host, &kv), PN_OK);
    CHECK_EQ_INT(pn_kv_collection(kv, PN_BYTES("a"), &coll), PN_OK);
    CHECK_EQ_INT(pn_coll_put(coll, PN_BYTES("k"), NULL, live_cell(PN_BYTES("1")), &old), PN_OK);
    check_commit(kv, true, "store s 1 reset\ntable a 1 emptied\nput k = 1\n");
    check_commit(kv, true, "");
    set_text(pn_coll_get(coll, PN_BYTES("k"))->live, PN_BYTES("2"));
    check_commit(kv, false, "store s 1\ntable a 1 keeps\nput k = 2\n");
    check_commit(kv, true, "store s 1\ntable a 1 keeps\nput k = 2\n");
    check_commit(kv, true, "");
    /* it was changed unseen, and then it was text again */
    pn_cell *cell = pn_coll_get(coll, PN_BYTES("k"));
    set_text(cell->live, PN_BYTES("3"));
    world w = {.alloc = &pn_alloc_system};
    CHECK_EQ_INT(back_to_text(&w, cell), PN_OK);
    check_commit(kv, false, "store s 1\ntable a 1 keeps\nput k = 3\n");
    check_commit(kv, true, "store s 1\ntable a 1 keeps\nput k = 3\n");
    check_commit(kv, true, "");
    /* a ref_doc_info whose metadata is live */
    CHECK_EQ_INT(put_text(kv, "a", "k", "{\"node_ids\": [\"a\"], \"metadata\": {}}"), PN_OK);
    pn_refdoc *r;
    CHECK_EQ_INT(pn_doc_refdoc(coll, PN_BYTES("k"), &pn_alloc_system, &r), PN_OK);
    CHECK_EQ_INT(promote(&w, coll, pn_coll_get(coll, PN_BYTES("k")), &r->metadata), PN_OK);
    check_commit(kv, true, "store s 1\ntable a 1 keeps\nput k = {\"node_ids\": [\"a\"], \"metadata\": {}}\n");
    check_commit(kv, true, "");
    set_text(r->metadata.live, PN_BYTES("{\"b\": 1}"));
    check_commit(kv, true, "store s 1\ntable a 1 keeps\nput k = {\"node_ids\": [\"a\"], \"metadata\": {\"b\": 1}}\n");
    remove_key(kv, "a", "k");
    check_commit(kv, true, "store s 1\ntable a 1 keeps\nremove k\n");
    pn_kv_unref(kv);
    CHECK_EQ_INT(objects, 0);
}

/* A value that was handed out and left alone is not written again: what the commit has of it
 * is known. */
static void test_kv_pack_knows_what_was_handed_out(void)
{
    pn_kv *kv;
    world w = {.alloc = &pn_alloc_system};
    CHECK_EQ_INT(pn_kv_new(&pn_alloc_system, &host, &kv), PN_OK);
    CHECK_EQ_INT(put_text(kv, "a", "k", "[1]"), PN_OK);
    CHECK_EQ_INT(put_text(kv, "a", "r", "{\"node_ids\": [\"a\"], \"metadata\": {}}"), PN_OK);
    check_commit(kv, true, "store s 1 reset\ntable a 1 emptied\nput k = [1]\n"
                           "put r = {\"node_ids\": [\"a\"], \"metadata\": {}}\n");
    pn_coll *coll = pn_kv_find(kv, PN_BYTES("a"));
    pn_cell *k = pn_coll_get(coll, PN_BYTES("k")), *r = pn_coll_get(coll, PN_BYTES("r"));
    CHECK_EQ_INT(as_refdoc(&w, coll, r), PN_OK);
    CHECK_EQ_INT(promote(&w, coll, k, k), PN_OK);
    CHECK_EQ_INT(promote(&w, coll, r, &r->refdoc->metadata), PN_OK);
    check_commit(kv, false, "");
    check_commit(kv, true, "");
    set_text(k->live, PN_BYTES("[2]"));
    set_text(r->refdoc->metadata.live, PN_BYTES("{\"x\": 1}"));
    check_commit(kv, false, "store s 1\ntable a 1 keeps\nput k = [2]\nput r = {\"node_ids\": [\"a\"], \"metadata\": {\"x\": 1}}\n");
    set_text(k->live, PN_BYTES("[1]")); /* as it was */
    check_commit(kv, true, "store s 1\ntable a 1 keeps\nput r = {\"node_ids\": [\"a\"], \"metadata\": {\"x\": 1}}\n");
    /* handed out while a commit is under way: whether that ends well decides what is known */
    for (int durable = 0; durable < 2; durable++) {
        pn_batch *b;
        CHECK_EQ_INT(put_text(kv, "a", "m", durable ? "[4]" : "[3]"), PN_OK);
        CHECK_EQ_INT(pn_batch_new(&pn_alloc_system, &host, &b), PN_OK);
        CHECK_EQ_INT(pn_kv_gather(kv, PN_BYTES("s"), false, b), PN_OK);
        pn_cell *m = pn_coll_get(coll, PN_BYTES("m"));
        CHECK_EQ_INT(promote(&w, coll, m, m), PN_OK);
        if (durable) pn_kv_gathered(kv);
        else pn_kv_give_back(kv);
        check_commit(kv, true, durable ? "" : "store s 1\ntable a 1 keeps\nfresh m = [3]\n");
        pn_batch_free(b);
    }
    pn_kv_unref(kv);
    CHECK_EQ_INT(objects, 0);
}

static void test_kv_pack_writes_changes_of_structs(void)
{
    pn_kv *kv;
    world w = {.alloc = &pn_alloc_system};
    CHECK_EQ_INT(pn_kv_new(&pn_alloc_system, &host, &kv), PN_OK);
    CHECK_EQ_INT(put_text(kv, "a", "k", "{\"__type__\": \"list\", \"__data__\": \"{\\\"id\\\": \\\"a rather long one, and longer\\\", "
                                        "\\\"nodes\\\": [\\\"a\\\", \\\"b\\\"]}\"}"), PN_OK);
    pn_coll *coll = pn_kv_find(kv, PN_BYTES("a"));
    pn_cell *cell = pn_coll_get(coll, PN_BYTES("k"));
    CHECK_EQ_INT(as_struct(&w, cell), PN_OK);
    check_commit(kv, true, "store s 1 reset\ntable a 1 emptied\nput k = struct\n");
    pn_coll_touch(coll, cell);
    check_commit(kv, true, ""); /* touched, and yet the same */
    CHECK_EQ_INT(pn_column_push(&cell->structure->columns[1], PN_BYTES("\"c\""), NULL, 0), PN_OK);
    pn_coll_touch(coll, cell);
    check_commit(kv, false, "store s 1\ntable a 1 keeps\nput k = change\n");
    check_commit(kv, true, "store s 1\ntable a 1 keeps\nput k = change\n");
    CHECK_EQ_INT(promote(&w, coll, cell, cell), PN_OK);
    check_commit(kv, true, "store s 1\ntable a 1 keeps\nput k = {\"__type__\": \"list\", \"__data__\": \"{\\\"id\\\": \\\"a rather "
                           "long one, and longer\\\", \\\"nodes\\\": [\\\"a\\\", \\\"b\\\", \\\"c\\\"]}\"}\n");
    pn_kv_unref(kv);
    CHECK_EQ_INT(objects, 0);
}

/* What a document store does to infos where they are is told. */
static void test_kv_pack_hears_of_deleted_nodes(void)
{
    pn_kv *kv;
    pn_cell_bin bin;
    bool existed;
    pn_doc_names names = {PN_BYTES("nodes"), PN_BYTES("metadata"), PN_BYTES("refs")};
    pn_cell_bin_init(&bin, &pn_alloc_system);
    CHECK_EQ_INT(pn_kv_new(&pn_alloc_system, &host, &kv), PN_OK);
    CHECK_EQ_INT(put_text(kv, "nodes", "n", "{}"), PN_OK);
    CHECK_EQ_INT(put_text(kv, "nodes", "m", "{}"), PN_OK);
    CHECK_EQ_INT(put_text(kv, "metadata", "n", "{\"ref_doc_id\": \"d\"}"), PN_OK);
    CHECK_EQ_INT(put_text(kv, "metadata", "m", "{\"ref_doc_id\": \"d\"}"), PN_OK);
    CHECK_EQ_INT(put_text(kv, "refs", "d", "{\"node_ids\": [\"n\", \"m\"], \"metadata\": {}}"), PN_OK);
    check_commit(kv, true, "store s 1 reset\ntable nodes 1 emptied\nput n = {}\nput m = {}\ntable metadata 1 emptied\n"
                           "put n = {\"ref_doc_id\": \"d\"}\nput m = {\"ref_doc_id\": \"d\"}\ntable refs 1 emptied\n"
                           "put d = {\"node_ids\": [\"n\", \"m\"], \"metadata\": {}}\n");
    CHECK_EQ_INT(pn_doc_delete(kv, &names, PN_BYTES("n"), &bin, &existed), PN_OK);
    check_commit(kv, true, "store s 1\ntable nodes 1 keeps\nremove n\ntable metadata 1 keeps\nremove n\n"
                           "table refs 1 keeps\nput d = {\"node_ids\": [\"m\"], \"metadata\": {}}\n");
    CHECK_EQ_INT(pn_doc_delete(kv, &names, PN_BYTES("m"), &bin, &existed), PN_OK);
    check_commit(kv, true, "store s 1\ntable nodes 1 keeps\nremove m\ntable metadata 1 keeps\nremove m\n"
                           "table refs 1 keeps\nremove d\n");
    pn_cell_bin_empty(&bin, &host);
    pn_kv_unref(kv);
}

int main(void)
{
    RUN(test_kv_pack_follows_every_life);
    RUN(test_kv_pack_survives_oom);
    RUN(test_kv_pack_writes_what_changed);
    RUN(test_kv_pack_watches_live_values);
    RUN(test_kv_pack_knows_what_was_handed_out);
    RUN(test_kv_pack_writes_changes_of_structs);
    RUN(test_kv_pack_hears_of_deleted_nodes);
    return check_summary();
}
