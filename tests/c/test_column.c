/* Filter columns say what filter.h says of the text, whatever happens to the table in
 * between: texts replaced, removed, made live, put back, slots given out anew. */
#include "check.h"
#include "fail_alloc.h"
#include "store/column.h"

#include <stdint.h>

enum { IDS = 60 };

static uint32_t state = 12345;
static unsigned below(unsigned n)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 16) % n;
}

static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static pn_bytes name(int i)
{
    static char ids[IDS][16];
    snprintf(ids[i], sizeof ids[i], "n%d", i);
    return text(ids[i]);
}

static pn_status put_meta(pn_vec *v, int i, const char *json)
{
    pn_blob *blob;
    PN_TRY(pn_blob_copy(v->alloc, json, strlen(json), &blob));
    pn_status s = pn_vec_put_text(v, name(i), NULL, blob, pn_blob_view(blob));
    pn_blob_unref(blob);
    return s;
}

static pn_status put_row(pn_vec *v, int i)
{
    double values[2] = {i, 1};
    return pn_vec_put_row(v, name(i), NULL, values, 2);
}

static const char *const metas[] = {
    "{}", "{\"k\": \"a\"}", "{\"k\": \"ab\", \"y\": 3}", "{\"k\": 1}", "{\"y\": 2019.5, \"k\": null}",
    "{\"k\": [\"a\", 1]}", "{\"k\": \"\"}", "{\"k\": {\"k\": 1}}", "{\"k\": true}", "{\"k\": 12345678901234567890}",
    "{\"k\": \"x\\u00e9\"}", "[1]",
    "{\"y\": 1, \"k\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"}",
};
enum { METAS = sizeof metas / sizeof *metas };

static const pn_scalar scalars[] = {
    {.kind = PN_SCALAR_STR, .utf8 = {(const uint8_t *)"a", 1}, .escaped = {(const uint8_t *)"a", 1}},
    {.kind = PN_SCALAR_STR, .utf8 = {NULL, 0}, .escaped = {NULL, 0}},
    {.kind = PN_SCALAR_INT, .i = 1},
    {.kind = PN_SCALAR_FLOAT, .d = 2019.25},
    {.kind = PN_SCALAR_NONE},
};

static pn_filter random_filter(void)
{
    static const char *const keys[] = {"k", "y", "z"}, *const needles[] = {"\"k\": ", "\"y\": ", "\"z\": "};
    unsigned key = below(3), first = below(5), many = below(2);
    return (pn_filter){.key = text(keys[key]), .needle = text(needles[key]), .op = (pn_filter_op)below(14),
                       .is_list = many, .values = scalars + first, .n = many ? below(6 - first) : 1};
}

typedef struct fixture {
    pn_vec v;
    pn_rowview view;
    pn_columns columns;
} fixture;

static void fixture_init(fixture *f, const pn_alloc *alloc)
{
    pn_vec_init(&f->v, alloc);
    pn_rowview_init(&f->view, alloc);
    pn_columns_init(&f->columns, alloc);
}

static void fixture_clear(fixture *f)
{
    pn_columns_clear(&f->columns);
    pn_rowview_clear(&f->view);
    pn_vec_clear(&f->v);
}

static pn_match expected(const fixture *f, const pn_filter_set *set, pn_bytes id, pn_buf *scratch)
{
    const pn_vec_cell *cell = pn_omap_get(&f->v.metas, id);
    if (cell == NULL || cell->blob == NULL) return PN_MATCH_ASK;
    return pn_filter_eval(set, (pn_bytes){cell->ptr, cell->len}, scratch);
}

static pn_status check_filters(fixture *f)
{
    uint8_t out[IDS];
    pn_filter filters[3] = {random_filter(), random_filter(), random_filter()};
    pn_filter_set set = {filters, 1 + below(3), (pn_filter_condition)below(3)};
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_status s = pn_columns_eval(&f->columns, &f->v, &f->view, &set, &scratch, out);
    size_t pos = 0, i = 0;
    pn_bytes id;
    void *row;
    for (; s == PN_OK && pn_omap_next(&f->v.rows, &pos, &id, &row); i++) {
        CHECK(f->view.rows[i] == row);
        CHECK_EQ_INT(out[i], expected(f, &set, id, &scratch));
    }
    if (s == PN_OK) CHECK_EQ_INT(f->view.n, i);
    pn_buf_clear(&scratch);
    return s;
}

static pn_status change(fixture *f)
{
    int i = (int)below(IDS);
    bool found;
    pn_vec_cell *cell;
    switch (below(8)) {
    case 0: pn_vec_remove_row(&f->v, name(i)); return PN_OK;
    case 1: return pn_vec_remove_meta(&f->v, name(i), &found);
    case 2:
        cell = pn_omap_get(&f->v.metas, name(i));
        if (cell != NULL && cell->blob != NULL) pn_vec_make_live(&f->v, cell, f);
        return PN_OK;
    case 3: return pn_vec_put_host(&f->v, name(i), NULL, f);
    case 4: return put_row(&f->v, i);
    case 5: PN_TRY(put_meta(&f->v, i, metas[below(METAS)])); return put_row(&f->v, i);
    default: return put_meta(&f->v, i, metas[below(METAS)]);
    }
}

static void test_columns_say_what_the_text_says(void)
{
    fixture f;
    fixture_init(&f, &pn_alloc_system);
    for (int i = 0; i < IDS; i++) CHECK_EQ_INT(put_row(&f.v, i), PN_OK);
    for (int round = 0; round < 6000; round++) {
        for (unsigned n = below(4); n > 0; n--) CHECK_EQ_INT(change(&f), PN_OK);
        CHECK_EQ_INT(check_filters(&f), PN_OK);
    }
    CHECK(f.view.renumbered > 0); /* the rounds were enough for that */
    fixture_clear(&f);
}

/* A row that leaves and comes back beside its old text, with the column seen in between. */
static void test_a_row_that_comes_back(void)
{
    fixture f;
    fixture_init(&f, &pn_alloc_system);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ_INT(put_row(&f.v, i), PN_OK);
        CHECK_EQ_INT(put_meta(&f.v, i, metas[1]), PN_OK);
    }
    pn_filter one = {.key = text("k"), .needle = text("\"k\": "), .op = PN_OP_EQ, .values = scalars, .n = 1};
    pn_filter other = {.key = text("y"), .needle = text("\"y\": "), .op = PN_OP_EQ, .values = scalars, .n = 1};
    pn_filter_set set = {&one, 1, PN_COND_AND}, set2 = {&other, 1, PN_COND_AND};
    uint8_t out[IDS];
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    CHECK_EQ_INT(pn_columns_eval(&f.columns, &f.v, &f.view, &set2, &scratch, out), PN_OK);
    pn_vec_remove_row(&f.v, name(1));
    CHECK_EQ_INT(pn_columns_eval(&f.columns, &f.v, &f.view, &set, &scratch, out), PN_OK);
    CHECK_EQ_INT(f.view.n, 2);
    CHECK_EQ_INT(put_row(&f.v, 1), PN_OK);
    CHECK_EQ_INT(pn_columns_eval(&f.columns, &f.v, &f.view, &set, &scratch, out), PN_OK);
    for (int i = 0; i < 3; i++) CHECK_EQ_INT(out[i], PN_MATCH_YES);
    pn_buf_clear(&scratch);
    fixture_clear(&f);
}

/* What a process does that was forked while another thread was in a query. */
static void test_a_view_that_cannot_be_trusted(void)
{
    fixture f;
    fixture_init(&f, &pn_alloc_system);
    for (int i = 0; i < IDS; i++) {
        CHECK_EQ_INT(put_row(&f.v, i), PN_OK);
        CHECK_EQ_INT(put_meta(&f.v, i, metas[i % METAS]), PN_OK);
    }
    for (int round = 0; round < 50; round++) {
        CHECK_EQ_INT(check_filters(&f), PN_OK);
        CHECK_EQ_INT(change(&f), PN_OK);
        if (round % 10 != 9) continue;
        pn_columns_clear(&f.columns); /* freed here; the process could not */
        pn_alloc_put(&pn_alloc_system, f.view.rows);
        pn_alloc_put(&pn_alloc_system, f.view.slots);
        f.view.last_slot = 3; /* torn */
        pn_rowview_renew(&f.view);
    }
    fixture_clear(&f);
}

static void test_many_keys_push_each_other_out(void)
{
    fixture f;
    fixture_init(&f, &pn_alloc_system);
    CHECK_EQ_INT(put_row(&f.v, 0), PN_OK);
    CHECK_EQ_INT(put_meta(&f.v, 0, metas[1]), PN_OK);
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    for (int i = 0; i < 3 * PN_COLUMN_MAX; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%d", i);
        pn_filter one = {.key = text(i % 2 ? "k" : key), .op = PN_OP_EQ, .values = scalars, .n = 1};
        pn_filter_set set = {&one, 1, PN_COND_AND};
        uint8_t out = 9;
        CHECK_EQ_INT(pn_columns_eval(&f.columns, &f.v, &f.view, &set, &scratch, &out), PN_OK);
        CHECK_EQ_INT(out, i % 2 ? PN_MATCH_YES : PN_MATCH_NO);
    }
    CHECK_EQ_INT(f.columns.count, PN_COLUMN_MAX);
    pn_buf_clear(&scratch);
    fixture_clear(&f);
}

static pn_status use(const pn_alloc *alloc)
{
    fixture f;
    fixture_init(&f, alloc);
    state = 7;
    pn_status s = PN_OK;
    for (int i = 0; i < 20 && s == PN_OK; i++) {
        s = put_row(&f.v, i);
        if (s == PN_OK) s = put_meta(&f.v, i, metas[i % METAS]);
    }
    for (int i = 0; i < 4 && s == PN_OK; i++) s = check_filters(&f);
    /* What failed half way is done by the next call. */
    if (s == PN_ERR_NOMEM && pn_omap_len(&f.v.metas) == 20) CHECK_EQ_INT(check_filters(&f), PN_OK);
    fixture_clear(&f);
    return s;
}

static void test_failed_allocations(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = use(&f.alloc));
}

int main(void)
{
    RUN(test_columns_say_what_the_text_says);
    RUN(test_a_row_that_comes_back);
    RUN(test_a_view_that_cannot_be_trusted);
    RUN(test_many_keys_push_each_other_out);
    RUN(test_failed_allocations);
    return check_summary();
}
