/* A graph through a pack and back. Random lives: triplets put and removed, subjects handed
 * out and changed unseen, taken back and removed, commits that fail, and all of it also while
 * a commit is under way. After each commit the segments, applied in turn, must be the graph:
 * its JSON byte for byte, read as a graph and read as collections. */
#include "codec_check.h"
#include "fail_alloc.h"
#include "segment_dump.h"
#include "store/graph_pack.h"
#include "store/kv_pack.h"
#include "store_pack.h"

#define NAME PN_BYTES("graph_store.json")

enum { MAX_SEGMENTS = 16, SUBJECTS = 9 };

typedef struct world {
    const pn_alloc *alloc;
    uint64_t rnd;
    int next; /* of a few live texts, which come again */
    pn_graph *g;
    pn_segment *segments[MAX_SEGMENTS];
    size_t count, bytes;
    int commits, empty_commits;
} world;

static size_t below(world *w, size_t n) { return (size_t)(random_next(&w->rnd) % n); }

/* ---- a life ---- */

static pn_bytes word(world *w, const char *what, size_t n, char *out)
{
    size_t i = below(w, n);
    return (pn_bytes){(uint8_t *)out, i ? (size_t)sprintf(out, "%s %zu \xc3\xa9", what, i) : 0};
}

static pn_status put(world *w)
{
    char s[32], r[32], o[32];
    bool added;
    pn_bytes subj = word(w, "s", SUBJECTS, s), rel = word(w, "r", 3, r);
    return pn_graph_upsert(w->g, subj, rel, word(w, "o", 30, o), &added);
}

static void drop_live(void *old)
{
    if (old != NULL) release(NULL, old);
}

static pn_status take_out(world *w)
{
    char s[32], r[32], o[32];
    bool removed, keep = below(w, 2);
    pn_bytes subj = word(w, "s", SUBJECTS, s), rel = word(w, "r", 3, r);
    return pn_graph_delete(w->g, subj, rel, word(w, "o", 30, o), keep, &removed);
}

static pn_status remove_subject(world *w)
{
    char s[32];
    void *old = NULL;
    (void)pn_graph_remove(w->g, word(w, "s", SUBJECTS, s), &old);
    drop_live(old);
    return PN_OK;
}

static pn_status swap(pn_graph *g, pn_bytes subj, pn_bytes text, pn_status (*set)(pn_graph *, pn_bytes, void *, void **))
{
    void *old = NULL;
    object *live = new_object(text);
    pn_status s = set(g, subj, live, &old);
    drop_live(s == PN_OK ? old : live);
    return s;
}

static pn_status set_live(world *w)
{
    char s[32], text[32];
    sprintf(text, "[[\"r\", \"%d\"]]", w->next++ % 3);
    return swap(w->g, word(w, "s", SUBJECTS, s), segment_text(text), pn_graph_set_live);
}

/* Handed out as it is. */
static pn_status look_at(world *w)
{
    char s[32];
    pn_buf text;
    pn_bytes subj = word(w, "s", SUBJECTS, s);
    const pn_links *links = pn_graph_find(w->g, subj);
    if (links == NULL || pn_links_live(links) != NULL) return PN_OK;
    pn_buf_init(&text, w->alloc);
    pn_status status = pn_graph_write_links(w->g, links, encode, NULL, &text);
    if (status == PN_OK) status = swap(w->g, subj, pn_buf_view(&text), pn_graph_goes_live);
    pn_buf_clear(&text);
    return status;
}

static pn_status change_unseen(world *w)
{
    char s[32], text[32];
    const pn_links *links = pn_graph_find(w->g, word(w, "s", SUBJECTS, s));
    if (links == NULL || pn_links_live(links) == NULL) return PN_OK;
    sprintf(text, "[[\"r\", \"%d\"], []]", w->next++ % 3);
    if (below(w, 3)) set_text(pn_links_live(links), segment_text(text));
    return PN_OK;
}

static pn_status take_back(world *w)
{
    char s[32];
    void *old = NULL;
    pn_bytes subj = word(w, "s", SUBJECTS, s);
    if (pn_graph_find(w->g, subj) == NULL) return PN_OK;
    pn_status status = pn_graph_set_native(w->g, subj, &old);
    drop_live(old);
    return status;
}

/* What fails for want of memory has not happened. */
static void act(world *w, size_t times)
{
    static pn_status (*const deeds[])(world *) = {put, put, put, put, put, take_out, take_out, take_out, look_at, look_at,
                                                  change_unseen, change_unseen, set_live, take_back, remove_subject};
    for (; times; times--) {
        pn_status s = deeds[below(w, sizeof deeds / sizeof *deeds)](w);
        CHECK(s == PN_OK || s == PN_ERR_NOMEM || s == PN_ERR_UNSUPPORTED);
    }
}

/* ---- commits ---- */

static void forget_segments(world *w)
{
    for (size_t i = 0; i < w->count; i++) pn_segment_close(w->segments[i]);
    w->count = 0;
}

static pn_status kv_json(world *w, pn_buf *out)
{
    pn_kv *kv;
    pn_kv_place place = {.turns = false};
    size_t bad = 99;
    pn_error err = {0};
    PN_TRY(pn_kv_new(w->alloc, &host, &kv));
    pn_status s = pn_kv_unpack(kv, NAME, w->segments, w->count, &bad, &err);
    if (s == PN_OK) s = pn_kv_write_json(kv, out, &place);
    pn_kv_place_clear(&place);
    pn_kv_unref(kv);
    return s;
}

static pn_status check_text(world *w, pn_bytes want)
{
    pn_buf got;
    pn_buf_init(&got, w->alloc);
    pn_status s = kv_json(w, &got);
    if (s == PN_OK) CHECK(pn_bytes_equal(pn_buf_view(&got), want));
    pn_buf_clear(&got);
    return s;
}

/* What the segments make is the graph; now and then it takes the graph's place. */
static pn_status check_segments(world *w, pn_bytes want)
{
    pn_graph *g;
    pn_buf got;
    pn_error err = {0};
    size_t bad = 99;
    PN_TRY(check_text(w, want));
    pn_status s = pn_graph_unpack(w->alloc, &host, NAME, w->segments, w->count, &g, &bad, &err);
    if (s == PN_ERR_UNSUPPORTED) { /* a live value that is no list of pairs */
        CHECK(strstr((const char *)want.ptr, "[]]") != NULL);
        return PN_OK;
    }
    PN_TRY(s);
    pn_buf_init(&got, w->alloc);
    s = pn_graph_save(g, NULL, NULL, &got);
    if (s == PN_OK) CHECK(pn_bytes_equal(pn_buf_view(&got), want));
    pn_buf_clear(&got);
    if (s == PN_OK && below(w, 3) == 0) {
        pn_graph *old = w->g;
        w->g = g;
        g = old;
    }
    pn_graph_free(g, release, NULL);
    return s;
}

typedef struct plan {
    bool whole, fails, interleaved;
} plan;

static pn_status finish(world *w, pn_batch *b, plan p, pn_bytes json)
{
    pn_segment *made = NULL;
    pn_status s = pn_batch_changes(b) ? write_segment(w->alloc, b, &w->bytes, &made) : PN_OK;
    if (p.interleaved) act(w, below(w, 6));
    if (s != PN_OK || p.fails) {
        pn_graph_give_back(w->g);
        pn_segment_close(made);
        return s;
    }
    if (p.whole) forget_segments(w);
    pn_graph_gathered(w->g);
    w->commits++;
    w->empty_commits += made == NULL;
    if (made != NULL) w->segments[w->count++] = made;
    return p.interleaved ? PN_OK : check_segments(w, json);
}

static pn_status gather_and_finish(world *w, pn_batch *b, plan p, pn_buf *json)
{
    PN_TRY(pn_graph_save(w->g, encode, NULL, json));
    PN_TRY(pn_buf_push(json, 0));
    json->len--; /* for strstr */
    PN_TRY(pn_graph_gather(w->g, NAME, p.whole, b, encode, NULL));
    CHECK_EQ_INT(pn_graph_gather(w->g, NAME, p.whole, b, encode, NULL), PN_ERR_INVALID);
    if (p.interleaved) act(w, below(w, 6));
    return finish(w, b, p, pn_buf_view(json));
}

static pn_status commit(world *w, plan p)
{
    pn_batch *b;
    pn_buf json;
    if (w->count == MAX_SEGMENTS) p.whole = true;
    PN_TRY(pn_batch_new(w->alloc, &host, &b));
    pn_buf_init(&json, w->alloc);
    pn_status s = gather_and_finish(w, b, p, &json);
    pn_buf_clear(&json);
    pn_batch_free(b);
    return s;
}

static void last_commit(world *w)
{
    pn_status s;
    for (int tries = 0; (s = commit(w, (plan){false, false, false})) == PN_ERR_NOMEM && tries < 3;) tries++;
    CHECK_EQ_INT(s, PN_OK);
}

static void whole_life(world *w, int commits)
{
    pn_status s;
    for (int tries = 0; (s = pn_graph_new(w->alloc, &w->g)) != PN_OK && tries < 3;) tries++;
    CHECK_EQ_INT(s, PN_OK);
    for (int i = 0; i < commits; i++) {
        act(w, below(w, 12));
        s = commit(w, (plan){below(w, 12) == 0, below(w, 4) == 0, below(w, 3) == 0});
        CHECK(s == PN_OK || s == PN_ERR_NOMEM);
    }
    last_commit(w);
    last_commit(w);
    pn_graph_free(w->g, release, NULL);
    forget_segments(w);
}

static void test_graph_pack_follows_every_life(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    int commits = 0, empty = 0;
    for (uint64_t seed = 1; seed <= 80; seed++) {
        world w = {.alloc = &f.alloc, .rnd = seed};
        whole_life(&w, 60);
        commits += w.commits;
        empty += w.empty_commits;
    }
    CHECK(commits > 2500 && empty > 80);
    CHECK_EQ_INT(f.blocks, 0);
    CHECK_EQ_INT(objects, 0);
}

/* Whatever is refused, the life goes on, and in the end the segments are the graph. */
static void test_graph_pack_survives_oom(void)
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
    CHECK(n > 200 && !f.failed);
}

/* ---- what is written ---- */

static void add(pn_graph *g, const char *s, const char *r, const char *o)
{
    bool added;
    CHECK_EQ_INT(pn_graph_upsert(g, segment_text(s), segment_text(r), segment_text(o), &added), PN_OK);
}

/* The segment of a commit, in the words of segment_dump.h. */
static void check_commit(pn_graph *g, bool durable, const char *want)
{
    pn_batch *b;
    pn_segment *s = NULL;
    size_t bytes;
    CHECK_EQ_INT(pn_batch_new(&pn_alloc_system, &host, &b), PN_OK);
    CHECK_EQ_INT(pn_graph_gather(g, PN_BYTES("s"), false, b, encode, NULL), PN_OK);
    CHECK_EQ_INT(pn_batch_changes(b), want[0] != 0);
    CHECK_EQ_INT(write_segment(&pn_alloc_system, b, &bytes, &s), PN_OK);
    check_dump(s, want);
    pn_segment_close(s);
    pn_batch_free(b);
    if (durable)
        pn_graph_gathered(g);
    else
        pn_graph_give_back(g);
}

static void test_graph_pack_writes_what_changed(void)
{
    pn_graph *g;
    bool removed;
    void *old;
    CHECK_EQ_INT(pn_graph_new(&pn_alloc_system, &g), PN_OK);
    check_commit(g, false, "store s 1 reset\ntable graph_dict 1 emptied\n");
    check_commit(g, true, "store s 1 reset\ntable graph_dict 1 emptied\n");
    check_commit(g, true, "");
    add(g, "a", "r", "x");
    add(g, "b", "r", "x");
    check_commit(g, false, "store s 1\ntable graph_dict 1 keeps\nfresh a = [[\"r\", \"x\"]]\nfresh b = [[\"r\", \"x\"]]\n");
    check_commit(g, true, "store s 1\ntable graph_dict 1 keeps\nfresh a = [[\"r\", \"x\"]]\nfresh b = [[\"r\", \"x\"]]\n");
    add(g, "a", "r", "x");
    check_commit(g, true, "");
    add(g, "a", "r", "y");
    CHECK_EQ_INT(pn_graph_delete(g, PN_BYTES("b"), PN_BYTES("r"), PN_BYTES("x"), true, &removed), PN_OK);
    check_commit(g, true, "store s 1\ntable graph_dict 1 keeps\nput a = [[\"r\", \"x\"], [\"r\", \"y\"]]\nput b = []\n");
    CHECK(pn_graph_remove(g, PN_BYTES("a"), &old));
    check_commit(g, false, "store s 1\ntable graph_dict 1 keeps\nremove a\n");
    add(g, "a", "r", "z");
    check_commit(g, true, "store s 1\ntable graph_dict 1 keeps\nfresh a = [[\"r\", \"z\"]]\n");
    pn_graph_free(g, release, NULL);
}

static void test_graph_pack_watches_live_subjects(void)
{
    pn_graph *g;
    CHECK_EQ_INT(pn_graph_new(&pn_alloc_system, &g), PN_OK);
    add(g, "a", "r", "x");
    check_commit(g, true, "store s 1 reset\ntable graph_dict 1 emptied\nput a = [[\"r\", \"x\"]]\n");
    CHECK_EQ_INT(swap(g, PN_BYTES("a"), PN_BYTES("[[\"r\", \"x\"]]"), pn_graph_goes_live), PN_OK);
    check_commit(g, true, ""); /* looking changes nothing */
    object *live = pn_links_live(pn_graph_find(g, PN_BYTES("a")));
    set_text(live, PN_BYTES("[]"));
    check_commit(g, false, "store s 1\ntable graph_dict 1 keeps\nput a = []\n");
    check_commit(g, true, "store s 1\ntable graph_dict 1 keeps\nput a = []\n");
    check_commit(g, true, "");
    set_text(live, PN_BYTES("[1]"));
    check_commit(g, true, "store s 1\ntable graph_dict 1 keeps\nput a = [1]\n");
    CHECK_EQ_INT(swap(g, PN_BYTES("a"), PN_BYTES("[1]"), pn_graph_set_live), PN_OK);
    check_commit(g, true, ""); /* another object that says the same */
    pn_graph_free(g, release, NULL);
    CHECK_EQ_INT(objects, 0);
}

/* ---- what is read ---- */

static void check_read(const char *table, const char *key, const char *value, pn_value_form form, pn_status want)
{
    pn_batch *b;
    pn_segment *s = NULL;
    pn_graph *g = NULL;
    size_t bytes, bad = 99;
    pn_error err = {0};
    CHECK_EQ_INT(pn_batch_new(&pn_alloc_system, &host, &b), PN_OK);
    CHECK_EQ_INT(pn_batch_store(b, NAME, PN_STORE_COLLECTIONS, true), PN_OK);
    CHECK_EQ_INT(pn_batch_table(b, segment_text(table), PN_TABLE_VALUES, PN_TABLE_EMPTIED), PN_OK);
    if (key != NULL)
        CHECK_EQ_INT(pn_batch_span(b, PN_ENTRY_PUT, segment_text(key), NULL, form, segment_text(value), NULL), PN_OK);
    CHECK_EQ_INT(write_segment(&pn_alloc_system, b, &bytes, &s), PN_OK);
    pn_batch_free(b);
    CHECK_EQ_INT(pn_graph_unpack(&pn_alloc_system, &host, NAME, &s, 1, &g, &bad, &err), want);
    if (want == PN_OK) CHECK_EQ_INT(pn_graph_len(g), key != NULL);
    if (want == PN_OK) pn_graph_free(g, NULL, NULL);
    CHECK_EQ_INT(bad, want == PN_ERR_CORRUPT ? 0 : 99);
    pn_segment_close(s);
}

static void test_graph_unpack_takes_plain_pairs_only(void)
{
    check_read("graph_dict", NULL, NULL, PN_FORM_JSON, PN_OK);
    check_read("graph_dict", "a", "[[\"r\", \"x\"]]", PN_FORM_JSON, PN_OK);
    check_read("graph_dict", "a", "[]", PN_FORM_JSON, PN_OK);
    check_read("other", "a", "[]", PN_FORM_JSON, PN_ERR_UNSUPPORTED);
    check_read("graph_dict", "a", "{}", PN_FORM_JSON, PN_ERR_UNSUPPORTED);
    check_read("graph_dict", "a", "[[\"r\", 1]]", PN_FORM_JSON, PN_ERR_UNSUPPORTED);
    check_read("graph_dict", "a", "[[\"r\", \"x\"], [\"r\", \"x\"]]", PN_FORM_JSON, PN_ERR_UNSUPPORTED);
    check_read("graph_dict", "a", "\x90", PN_FORM_MPACK, PN_ERR_UNSUPPORTED);
    check_read("graph_dict", "a", "[[\"r\",\"x\"]]", PN_FORM_JSON, PN_ERR_CORRUPT); /* not canonical */
}

int main(void)
{
    RUN(test_graph_pack_follows_every_life);
    RUN(test_graph_pack_survives_oom);
    RUN(test_graph_pack_writes_what_changed);
    RUN(test_graph_pack_watches_live_subjects);
    RUN(test_graph_unpack_takes_plain_pairs_only);
    return check_summary();
}
