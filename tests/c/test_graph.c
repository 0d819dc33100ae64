/* What store/graph.h promises: a Python list's order with a set's speed, words that
 * leave with their last use, files read and written as json does, live objects handed
 * back exactly once, and every allocation that may fail. */
#include "check.h"
#include "store/graph.h"

#include <stdlib.h>

static pn_bytes bytes_of(const char *text) { return (pn_bytes){(const uint8_t *)text, strlen(text)}; }

/* ---- an allocator that refuses the n-th request, and one that counts blocks ---- */

typedef struct failing {
    long left; /* requests until the refusal; negative: never */
    long blocks;
} failing;

static void *failing_resize(void *ctx, void *ptr, size_t size)
{
    failing *f = ctx;
    if (size == 0) {
        f->blocks -= ptr != NULL;
        free(ptr);
        return NULL;
    }
    if (f->left == 0) return NULL;
    if (f->left > 0) f->left--;
    void *p = realloc(ptr, size);
    f->blocks += ptr == NULL && p != NULL;
    return p;
}

/* ---- short forms ---- */

static pn_status add(pn_graph *g, const char *s, const char *r, const char *o)
{
    bool added;
    return pn_graph_upsert(g, bytes_of(s), bytes_of(r), bytes_of(o), &added);
}

static bool del(pn_graph *g, const char *s, const char *r, const char *o)
{
    bool removed = false;
    CHECK(pn_graph_delete(g, bytes_of(s), bytes_of(r), bytes_of(o), true, &removed) == PN_OK);
    return removed;
}

static pn_status encode_text(void *ctx, void *live, pn_buf *out)
{
    (void)ctx;
    return pn_buf_append(out, live, strlen(live));
}

static void check_saves_as(const pn_graph *g, const char *want)
{
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK(pn_graph_save(g, encode_text, NULL, &out) == PN_OK);
    CHECK(pn_buf_push(&out, 0) == PN_OK);
    CHECK_EQ_STR((const char *)out.data, want);
    pn_buf_clear(&out);
}

static pn_status load(const pn_alloc *alloc, const char *text, pn_graph **g, pn_error *err)
{
    pn_blob *blob;
    PN_TRY(pn_blob_copy(alloc, text, strlen(text), &blob));
    pn_status s = pn_graph_load(alloc, blob, g, err);
    pn_blob_unref(blob); /* words keep what they need */
    return s;
}

static pn_graph *empty(void)
{
    pn_graph *g = NULL;
    CHECK(pn_graph_new(&pn_alloc_system, &g) == PN_OK);
    return g;
}

/* ---- order and membership ---- */

static void test_upsert_keeps_order_and_refuses_a_pair_twice(void)
{
    pn_graph *g = empty();
    bool added;
    CHECK(add(g, "b", "r", "1") == PN_OK && add(g, "a", "r", "1") == PN_OK && add(g, "b", "q", "1") == PN_OK);
    CHECK(pn_graph_upsert(g, bytes_of("b"), bytes_of("r"), bytes_of("1"), &added) == PN_OK && !added);
    CHECK(pn_graph_upsert(g, bytes_of("b"), bytes_of("1"), bytes_of("r"), &added) == PN_OK && added);
    CHECK(pn_graph_upsert(g, bytes_of(""), bytes_of(""), bytes_of(""), &added) == PN_OK && added);
    CHECK_EQ_INT(pn_graph_len(g), 3);
    check_saves_as(g, "{\"graph_dict\": {\"b\": [[\"r\", \"1\"], [\"q\", \"1\"], [\"1\", \"r\"]], "
                      "\"a\": [[\"r\", \"1\"]], \"\": [[\"\", \"\"]]}}");
    pn_graph_free(g, NULL, NULL);
}

static void test_delete_keeps_the_order_of_the_rest(void)
{
    pn_graph *g = empty();
    CHECK(add(g, "s", "r", "1") == PN_OK && add(g, "s", "r", "2") == PN_OK && add(g, "s", "r", "3") == PN_OK);
    CHECK(del(g, "s", "r", "2") && !del(g, "s", "r", "2") && !del(g, "s", "x", "1") && !del(g, "t", "r", "1"));
    CHECK(add(g, "s", "r", "2") == PN_OK); /* again: at the end */
    check_saves_as(g, "{\"graph_dict\": {\"s\": [[\"r\", \"1\"], [\"r\", \"3\"], [\"r\", \"2\"]]}}");
    CHECK(del(g, "s", "r", "1") && del(g, "s", "r", "2") && del(g, "s", "r", "3"));
    CHECK_EQ_INT(pn_graph_words(g), 0);
    check_saves_as(g, "{\"graph_dict\": {\"s\": []}}");
    void *live;
    CHECK(pn_graph_remove(g, bytes_of("s"), &live) && live == NULL);
    CHECK(!pn_graph_remove(g, bytes_of("s"), &live));
    bool removed;
    CHECK(add(g, "s", "r", "1") == PN_OK && add(g, "s", "r", "2") == PN_OK && add(g, "t", "r", "1") == PN_OK);
    CHECK(pn_graph_delete(g, bytes_of("s"), bytes_of("r"), bytes_of("1"), false, &removed) == PN_OK && removed);
    CHECK(pn_graph_delete(g, bytes_of("t"), bytes_of("r"), bytes_of("2"), false, &removed) == PN_OK && !removed);
    CHECK(pn_graph_delete(g, bytes_of("t"), bytes_of("r"), bytes_of("1"), false, &removed) == PN_OK && removed);
    check_saves_as(g, "{\"graph_dict\": {\"s\": [[\"r\", \"2\"]]}}"); /* t went with its last */
    pn_graph_free(g, NULL, NULL);
    pn_graph_free(NULL, NULL, NULL);
}

static void test_words_leave_with_their_last_use(void)
{
    pn_graph *g = empty();
    void *old;
    CHECK(add(g, "s", "same", "same") == PN_OK && add(g, "t", "same", "x") == PN_OK);
    CHECK_EQ_INT(pn_graph_words(g), 2);
    CHECK(del(g, "s", "same", "same"));
    CHECK_EQ_INT(pn_graph_words(g), 2);
    CHECK(pn_graph_set_native(g, bytes_of("t"), &old) == PN_OK && old == NULL);
    CHECK_EQ_INT(pn_graph_words(g), 0);
    CHECK(add(g, "t", "new", "x") == PN_OK); /* ids are used again */
    check_saves_as(g, "{\"graph_dict\": {\"s\": [], \"t\": [[\"new\", \"x\"]]}}");
    pn_graph_free(g, NULL, NULL);
}

/* ---- the model: a plain array searched from the front ---- */

enum { SUBJECTS = 3, KINDS = 40, ROUNDS = 20000, MODEL_MAX = KINDS * KINDS };
typedef struct model {
    int pairs[SUBJECTS][MODEL_MAX][2];
    int len[SUBJECTS];
} model;
static model m;

static int model_find(int s, int r, int o)
{
    for (int i = 0; i < m.len[s]; i++)
        if (m.pairs[s][i][0] == r && m.pairs[s][i][1] == o) return i;
    return -1;
}

static const char *name(char *out, int kind)
{
    sprintf(out, "w%d", kind);
    return out;
}

static void model_step(pn_graph *g, unsigned dice)
{
    int s = (int)(dice % SUBJECTS), r = (int)(dice / 7 % KINDS), o = (int)(dice / 1021 % KINDS);
    bool grow = dice / 65537 % 16 < (s == 0 ? 10 : 7); /* subject 0 grows, the others shrink */
    char sn[16], rn[16], on[16];
    int at = model_find(s, r, o);
    if (grow) {
        bool added = false;
        CHECK(pn_graph_upsert(g, bytes_of(name(sn, s)), bytes_of(name(rn, r)), bytes_of(name(on, o)), &added) == PN_OK);
        CHECK(added == (at < 0));
        if (at >= 0) return;
        m.pairs[s][m.len[s]][0] = r;
        m.pairs[s][m.len[s]++][1] = o;
    } else {
        if (m.len[s] == 0) return;
        if (at < 0 && dice % 4) { /* mostly delete what is there */
            at = (int)(dice / 31 % (unsigned)m.len[s]);
            r = m.pairs[s][at][0];
            o = m.pairs[s][at][1];
        }
        CHECK(del(g, name(sn, s), name(rn, r), name(on, o)) == (at >= 0));
        if (at < 0) return;
        memmove(m.pairs[s][at], m.pairs[s][at + 1], (size_t)(m.len[s] - at - 1) * sizeof m.pairs[s][0]);
        m.len[s]--;
    }
}

static void check_equals_model(const pn_graph *g)
{
    for (int s = 0; s < SUBJECTS; s++) {
        char sn[16], rn[16], on[16];
        const pn_links *links = pn_graph_find(g, bytes_of(name(sn, s)));
        if (links == NULL) {
            CHECK_EQ_INT(m.len[s], 0);
            continue;
        }
        CHECK_EQ_INT(pn_links_len(links), m.len[s]);
        size_t pos = 0;
        pn_bytes rel, obj;
        int i = 0;
        for (; i < m.len[s] && pn_links_next(g, links, &pos, &rel, &obj); i++) {
            CHECK(pn_bytes_equal(rel, bytes_of(name(rn, m.pairs[s][i][0]))));
            CHECK(pn_bytes_equal(obj, bytes_of(name(on, m.pairs[s][i][1]))));
        }
        CHECK_EQ_INT(i, m.len[s]);
        CHECK(!pn_links_next(g, links, &pos, &rel, &obj));
    }
}

static void test_random_changes_equal_a_naive_list(void)
{
    pn_graph *g = empty();
    uint64_t state = 88172645463325252ull;
    for (int i = 0; i < ROUNDS; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        model_step(g, (unsigned)(state >> 20));
        if (i % 500 == 0) check_equals_model(g);
    }
    check_equals_model(g);
    CHECK(m.len[0] > 200); /* the indexed form was really used */
    pn_graph_free(g, NULL, NULL);
}

/* ---- walks ---- */

static pn_status write_triplet(void *ctx, pn_bytes subj, pn_bytes rel, pn_bytes obj)
{
    pn_buf *out = ctx;
    PN_TRY(pn_buf_append(out, subj.ptr, subj.len));
    PN_TRY(pn_buf_append(out, rel.ptr, rel.len));
    PN_TRY(pn_buf_append(out, obj.ptr, obj.len));
    return pn_buf_push(out, ' ');
}

/* A live object here: a string whose letters are objects; "!" is none. */
static pn_status read_letters(void *ctx, void *live, size_t *pos, pn_bytes *rel, pn_bytes *obj, bool *more)
{
    (void)ctx;
    const char *at = (const char *)live + *pos;
    *more = *at != 0;
    if (*at == '!') return PN_ERR_CALLBACK;
    *pos += *more;
    *rel = PN_BYTES(">");
    *obj = (pn_bytes){(const uint8_t *)at, *more};
    return PN_OK;
}

static void check_walk(const pn_graph *g, const char *subj, pn_graph_walk walk, const char *want)
{
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK(pn_graph_follow(g, bytes_of(subj), &walk, write_triplet, NULL, &out) == PN_OK);
    CHECK(pn_buf_push(&out, 0) == PN_OK);
    CHECK_EQ_STR((const char *)out.data, want);
    pn_buf_clear(&out);
}

static void test_a_walk_goes_depth_first_within_its_limits(void)
{
    pn_graph *g = NULL;
    const char *text = "{\"graph_dict\": {\"a\": [[\">\", \"b\"], [\">\", \"c\"], [\">\", \"d\"]], "
                       "\"b\": [[\">\", \"a\"], [\">\", \"e\"]], \"d\": [[\">\", \"a\"]], \"none\": []}}";
    CHECK(load(&pn_alloc_system, text, &g, NULL) == PN_OK);
    check_walk(g, "a", (pn_graph_walk){0, 9, 9, 99}, "");
    check_walk(g, "x", (pn_graph_walk){2, 9, 9, 99}, "");
    check_walk(g, "none", (pn_graph_walk){2, 9, 9, 99}, "");
    check_walk(g, "a", (pn_graph_walk){1, 9, 9, 99}, "a>b a>c a>d ");
    check_walk(g, "a", (pn_graph_walk){1, 2, 9, 99}, "a>b a>c ");
    check_walk(g, "a", (pn_graph_walk){2, 9, 9, 99}, "a>b b>a b>e a>c a>d d>a ");
    check_walk(g, "a", (pn_graph_walk){2, 9, 1, 99}, "a>b b>a a>c a>d d>a ");
    check_walk(g, "a", (pn_graph_walk){2, 9, 9, 4}, "a>b b>a b>e a>c ");
    check_walk(g, "a", (pn_graph_walk){2, 9, 9, 0}, "");
    check_walk(g, "a", (pn_graph_walk){3, 1, 2, 99}, "a>b b>a a>b a>c b>e ");
    check_walk(g, "d", (pn_graph_walk){PN_GRAPH_MAX_DEPTH, 9, 9, 3}, "d>a a>b b>a ");
    pn_graph_walk deep = {PN_GRAPH_MAX_DEPTH + 1, 9, 9, 9};
    CHECK(pn_graph_follow(g, bytes_of("a"), &deep, write_triplet, NULL, NULL) == PN_ERR_RANGE);
    char live[] = "[]", letters[] = "dxe", odd[] = "dx!";
    void *old;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK(pn_graph_set_live(g, bytes_of("b"), live, &old) == PN_OK);
    deep.depth = 2;
    CHECK(pn_graph_follow(g, bytes_of("a"), &deep, write_triplet, NULL, &out) == PN_ERR_UNSUPPORTED);
    out.len = 0;
    deep = (pn_graph_walk){3, 9, 2, 99};
    CHECK(pn_graph_set_live(g, bytes_of("b"), letters, &old) == PN_OK);
    CHECK(pn_graph_follow(g, bytes_of("a"), &deep, write_triplet, read_letters, &out) == PN_OK);
    CHECK(pn_buf_push(&out, 0) == PN_OK);
    CHECK_EQ_STR((const char *)out.data, "a>b b>d d>a b>x a>c a>d d>a a>b a>c ");
    CHECK(pn_graph_set_live(g, bytes_of("b"), odd, &old) == PN_OK);
    CHECK(pn_graph_follow(g, bytes_of("a"), &deep, write_triplet, read_letters, &out) == PN_ERR_CALLBACK);
    pn_buf_clear(&out);
    pn_graph_free(g, NULL, NULL);
}

/* ---- live objects ---- */

static void count_release(void *ctx, void *live)
{
    (void)live;
    ++*(int *)ctx;
}

static void test_a_live_subject_belongs_to_its_host(void)
{
    pn_graph *g = empty();
    char first[] = "[1]", second[] = "[[\"a\", \"b\"]]";
    void *old = first;
    bool flag;
    CHECK(add(g, "s", "r", "o") == PN_OK);
    CHECK(pn_graph_set_live(g, bytes_of("s"), first, &old) == PN_OK && old == NULL);
    CHECK_EQ_INT(pn_graph_live(g), 1);
    CHECK_EQ_INT(pn_graph_words(g), 0);
    CHECK(pn_links_live(pn_graph_find(g, bytes_of("s"))) == first);
    CHECK(add(g, "s", "r", "o") == PN_ERR_UNSUPPORTED);
    CHECK(pn_graph_delete(g, bytes_of("s"), bytes_of("r"), bytes_of("o"), false, &flag) == PN_ERR_UNSUPPORTED);
    CHECK(pn_graph_set_live(g, bytes_of("t"), second, &old) == PN_OK && old == NULL);
    check_saves_as(g, "{\"graph_dict\": {\"s\": [1], \"t\": [[\"a\", \"b\"]]}}");
    CHECK(pn_graph_set_live(g, bytes_of("s"), second, &old) == PN_OK && old == first);
    CHECK(pn_graph_set_native(g, bytes_of("s"), &old) == PN_OK && old == second);
    CHECK_EQ_INT(pn_graph_live(g), 1);
    CHECK(add(g, "s", "r", "o") == PN_OK);
    CHECK(pn_graph_remove(g, bytes_of("t"), &old) && old == second);
    CHECK_EQ_INT(pn_graph_live(g), 0);
    CHECK(pn_graph_set_live(g, bytes_of("u"), first, &old) == PN_OK);
    CHECK(pn_graph_set_live(g, bytes_of("u"), NULL, &old) == PN_ERR_INVALID);
    int released = 0;
    pn_graph_free(g, count_release, &released);
    CHECK_EQ_INT(released, 1);
}

/* ---- files ---- */

static void test_load_and_save_are_inverse(void)
{
    static const char *const texts[] = {
        "{\"graph_dict\": {}}",
        "{\"graph_dict\": {\"a\": []}}",
        "{\"graph_dict\": {\"a\": [[\"r\", \"b\"], [\"r\", \"c\"]], \"\": [[\"\", \"\"]], \"b\": [[\"r\", \"a\"]]}}",
        "{\"graph_dict\": {\"\\u00e9\\\"\\n\": [[\"\\ud83d\\ude00\", \"\\ud800\"], [\"\\u007f\", \"\\\\\"]]}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        pn_graph *g = NULL;
        CHECK(load(&pn_alloc_system, texts[i], &g, NULL) == PN_OK);
        check_saves_as(g, texts[i]);
        pn_graph_free(g, NULL, NULL);
    }
}

static void test_load_normalises_spelling(void)
{
    pn_graph *g = NULL;
    CHECK(load(&pn_alloc_system, " {\"graph_dict\" :{\"\xc3\xa9\":[[\"\\u0061\",\"a\"] ]}}\n", &g, NULL) == PN_OK);
    CHECK_EQ_INT(pn_graph_words(g), 1); /* "\u0061" is "a" */
    check_saves_as(g, "{\"graph_dict\": {\"\\u00e9\": [[\"a\", \"a\"]]}}");
    pn_graph_free(g, NULL, NULL);
}

static void test_load_leaves_other_shapes_to_the_host(void)
{
    static const char *const texts[] = {
        "[]", "{}", "null", "1", "{\"graph\": {}}", "{\"graph_dict\": []}", "{\"graph_dict\": null}",
        "{\"graph_dict\": {}, \"x\": 1}", "{\"graph_dict\": {\"a\": {}}}", "{\"graph_dict\": {\"a\": null}}",
        "{\"graph_dict\": {\"a\": [1]}}", "{\"graph_dict\": {\"a\": [[]]}}", "{\"graph_dict\": {\"a\": [[\"r\"]]}}",
        "{\"graph_dict\": {\"a\": [[\"r\", 1]]}}", "{\"graph_dict\": {\"a\": [[\"r\", \"o\", \"x\"]]}}",
        "{\"graph_dict\": {\"a\": [[\"r\", \"o\"], [\"r\", \"o\"]]}}", "{\"graph_dict\": {\"a\": [], \"a\": []}}",
        "{\"graph_dict\": {\"a\": [], \"\\u0061\": []}}", "{\"graph_dict\": {}, \"graph_dict\": {}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        pn_graph *g = NULL;
        pn_status s = load(&pn_alloc_system, texts[i], &g, NULL);
        if (s != PN_ERR_UNSUPPORTED) fprintf(stderr, "%s: %s\n", texts[i], pn_status_text(s));
        CHECK(s == PN_ERR_UNSUPPORTED && g == NULL);
    }
}

static void test_load_reports_where_text_is_broken(void)
{
    static const struct {
        const char *text;
        pn_status status;
    } cases[] = {
        {"{\"graph_dict\": {\"a\": [[\"r\", \"o\"]}}", PN_ERR_SYNTAX},
        {"{\"graph_dict\": {\"a\": [[\"r\", \"o", PN_ERR_SYNTAX},
        {"{\"graph_dict\": {}} x", PN_ERR_SYNTAX},
        {"{\"graph_dict\": {\"\xff\": []}}", PN_ERR_UTF8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pn_graph *g = NULL;
        pn_error err = {0};
        CHECK_EQ_INT(load(&pn_alloc_system, cases[i].text, &g, &err), cases[i].status);
        CHECK(g == NULL && err.code == cases[i].status && err.offset > 0);
    }
}

static void test_every_cut_of_a_file_is_refused(void)
{
    const char *text = "{\"graph_dict\": {\"a\": [[\"r\", \"b\"], [\"\\u00e9\", \"c\"]], \"b\": []}}";
    char cut[128];
    for (size_t n = 0; n < strlen(text); n++) {
        pn_graph *g = NULL;
        memcpy(cut, text, n);
        cut[n] = 0;
        CHECK(load(&pn_alloc_system, cut, &g, NULL) != PN_OK && g == NULL);
    }
}

/* ---- out of memory ---- */

static const char oom_before[] = "{\"graph_dict\": {\"a\": [[\"r\", \"\\u00e9\"]], \"keep\": [[\"r\", \"x\"]]}}";

/* Grows one subject past its index, changes others. A refused call must leave the
 * graph as it was, so asking again is all that it takes. */
static pn_status oom_script(const pn_alloc *alloc, pn_graph **out)
{
    PN_TRY(load(alloc, oom_before, out, NULL));
    char obj[16];
    for (int i = 0; i < 40; i++) PN_TRY(add(*out, "hub", "r", name(obj, i)));
    for (int i = 0; i < 30; i++) CHECK(del(*out, "hub", "r", name(obj, i)));
    void *old;
    PN_TRY(pn_graph_set_live(*out, bytes_of("live"), obj, &old));
    PN_TRY(pn_graph_set_native(*out, bytes_of("bare"), &old));
    return PN_OK;
}

static void test_graph_survives_oom(void)
{
    char long_word[5000];
    memset(long_word, 'w', sizeof long_word - 1);
    long_word[sizeof long_word - 1] = 0;
    for (long n = 0;; n++) {
        failing f = {n, 0};
        pn_alloc alloc = {failing_resize, &f};
        pn_graph *g = NULL;
        pn_status s = oom_script(&alloc, &g);
        bool done = s == PN_OK;
        CHECK(done || s == PN_ERR_NOMEM);
        if (g != NULL) {
            size_t words = pn_graph_words(g), subjects = pn_graph_len(g);
            f.left = 0; /* everything that needs memory is refused now: a long word does */
            CHECK(add(g, "other", "brand new", long_word) == PN_ERR_NOMEM);
            CHECK_EQ_INT(pn_graph_words(g), words);
            CHECK_EQ_INT(pn_graph_len(g), subjects);
            CHECK(del(g, "keep", "r", "x"));
            f.left = -1;
            CHECK(add(g, "other", "brand new", "brand new too") == PN_OK);
        }
        pn_graph_free(g, NULL, NULL);
        CHECK_EQ_INT(f.blocks, 0);
        if (done) {
            CHECK(n > 20);
            return;
        }
    }
}

static void test_a_refused_upsert_can_be_repeated(void)
{
    failing f = {-1, 0};
    pn_alloc alloc = {failing_resize, &f};
    pn_graph *g = NULL;
    CHECK(pn_graph_new(&alloc, &g) == PN_OK);
    char obj[16];
    for (int i = 0; i < 60; i++)
        for (long n = 0;; n++) {
            f.left = n;
            pn_status s = add(g, "hub", "r", name(obj, i));
            f.left = -1;
            const pn_links *links = pn_graph_find(g, bytes_of("hub"));
            CHECK_EQ_INT(links ? pn_links_len(links) : 0, s == PN_OK ? i + 1 : i);
            CHECK_EQ_INT(pn_graph_words(g), s == PN_OK ? i + 2 : i ? i + 1 : 0);
            if (s == PN_OK) break;
        }
    pn_graph_free(g, NULL, NULL);
    CHECK_EQ_INT(f.blocks, 0);
}

static void test_save_survives_oom(void)
{
    pn_graph *g = NULL;
    CHECK(load(&pn_alloc_system, oom_before, &g, NULL) == PN_OK);
    for (long n = 0;; n++) {
        failing f = {-1, 0};
        pn_alloc alloc = {failing_resize, &f};
        pn_buf out;
        pn_buf_init(&out, &alloc);
        CHECK(PN_BUF_LIT(&out, "before") == PN_OK);
        f.left = n;
        pn_status s = pn_graph_save(g, NULL, NULL, &out);
        if (s != PN_OK) CHECK(s == PN_ERR_NOMEM && out.len == 6);
        pn_buf_clear(&out);
        CHECK_EQ_INT(f.blocks, 0);
        if (s == PN_OK) break;
    }
    pn_graph_free(g, NULL, NULL);
}

int main(void)
{
    RUN(test_upsert_keeps_order_and_refuses_a_pair_twice);
    RUN(test_delete_keeps_the_order_of_the_rest);
    RUN(test_words_leave_with_their_last_use);
    RUN(test_random_changes_equal_a_naive_list);
    RUN(test_a_walk_goes_depth_first_within_its_limits);
    RUN(test_a_live_subject_belongs_to_its_host);
    RUN(test_load_and_save_are_inverse);
    RUN(test_load_normalises_spelling);
    RUN(test_load_leaves_other_shapes_to_the_host);
    RUN(test_load_reports_where_text_is_broken);
    RUN(test_every_cut_of_a_file_is_refused);
    RUN(test_graph_survives_oom);
    RUN(test_a_refused_upsert_can_be_repeated);
    RUN(test_save_survives_oom);
    return check_summary();
}
