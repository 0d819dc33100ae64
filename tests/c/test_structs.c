/* Index structs as columns: what is written is what was read or added, every reference
 * behind a word is given back exactly once, a failed edit changes nothing. */
#include "check.h"
#include "fail_alloc.h"
#include "store/cell.h"
#include "store/gone.h"

/* ---- a host whose objects are numbers: word 2 * n + 2 stands for object n ---- */

enum { OBJECTS = 64 };
static int held[OBJECTS];

static void release_word(void *ctx, void *object)
{
    (void)ctx;
    held[(uintptr_t)object / 2 - 1]--;
}

static const pn_host host = {NULL, release_word, NULL, NULL, NULL};

static pn_word word(int n) { return (pn_word)n * 2 + 2; }
static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static int references(void)
{
    int sum = 0;
    for (int i = 0; i < OBJECTS; i++) sum += held[i] < 0 ? 1000000 : held[i];
    return sum;
}

static void take(const pn_word *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!pn_word_is_header(words[i])) held[words[i] / 2 - 1]++;
}

/* ---- a column against the rows that it is to have ---- */

typedef struct {
    int key, value;
} row;

static size_t encoded; /* rows that an edit did not find */

static pn_status edit_row(pn_edit *e, row r)
{
    pn_word w[2] = {word(r.key), word(r.value)};
    if (pn_edit_find(e, w, 2)) return pn_edit_keep(e, 1, 2);
    char line[32];
    snprintf(line, sizeof line, "\"%d\": %d", r.key, r.value);
    PN_TRY(pn_edit_add(e, text(line), w, 2));
    take(w, 2);
    encoded++;
    return PN_OK;
}

static pn_status edit_rows(pn_edit *e, const row *rows, size_t n)
{
    const pn_column *c = e->column;
    size_t front = 0;
    if (c->kind == PN_COLUMN_DICT)
        while (front < n && front < c->rows && c->words[2 * front] == word(rows[front].key) &&
               c->words[2 * front + 1] == word(rows[front].value))
            front++;
    PN_TRY(pn_edit_begin(e, PN_COLUMN_DICT, front, 2 * front));
    for (size_t i = front; i < n; i++) PN_TRY(edit_row(e, rows[i]));
    return pn_edit_prepare(e);
}

static pn_status set_rows(pn_column *c, const row *rows, size_t n)
{
    pn_edit e;
    encoded = 0;
    pn_edit_init(&e, c);
    pn_status s = edit_rows(&e, rows, n);
    if (s == PN_OK)
        pn_edit_commit(&e, &host);
    else
        pn_edit_abort(&e, &host);
    return s;
}

static void check_rows(const pn_struct *s, const row *rows, size_t n)
{
    char want[4096] = "";
    for (size_t i = 0; i < n; i++)
        snprintf(want + strlen(want), sizeof want - strlen(want), "%s\"%d\": %d", i ? ", " : "", rows[i].key, rows[i].value);
    CHECK(pn_bytes_equal(pn_buf_view(&s->columns[0].text), text(want)));
    CHECK_EQ_INT(s->columns[0].rows, n);
    CHECK_EQ_INT(references(), 2 * n);
}

static pn_struct *one_column(const pn_alloc *alloc)
{
    pn_struct *s = NULL;
    if (pn_struct_new(alloc, PN_BYTES("t"), &s) != PN_OK) return NULL;
    if (pn_struct_add(s, PN_BYTES("f")) == PN_OK) return s;
    pn_struct_free(s, &host);
    return NULL;
}

static void test_each_change_encodes_what_is_new(void)
{
    static const struct {
        size_t n, encoded;
        row rows[8];
    } steps[] = {
        {0, 0, {{0, 0}}},
        {4, 4, {{1, 1}, {2, 2}, {3, 3}, {4, 4}}},
        {4, 0, {{1, 1}, {2, 2}, {3, 3}, {4, 4}}},                         /* the same */
        {6, 2, {{1, 1}, {2, 2}, {3, 3}, {4, 4}, {5, 5}, {6, 6}}},         /* grown */
        {4, 0, {{1, 1}, {3, 3}, {4, 4}, {6, 6}}},                         /* two taken out */
        {4, 1, {{1, 1}, {3, 9}, {4, 4}, {6, 6}}},                         /* one replaced */
        {5, 1, {{7, 7}, {1, 1}, {3, 9}, {4, 4}, {6, 6}}},                 /* one put in front */
        {5, 2, {{1, 1}, {8, 8}, {4, 4}, {6, 6}, {7, 7}}},                 /* taken out, put in, moved to the end */
        {3, 2, {{7, 7}, {6, 6}, {4, 4}}},                                 /* in another order */
        {1, 0, {{4, 4}}},                                                 /* the last one alone */
        {0, 0, {{0, 0}}},
        {2, 2, {{4, 4}, {5, 5}}},
    };
    pn_struct *s = one_column(&pn_alloc_system);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        CHECK(set_rows(&s->columns[0], steps[i].rows, steps[i].n) == PN_OK);
        check_rows(s, steps[i].rows, steps[i].n);
        CHECK_EQ_INT(encoded, steps[i].encoded);
    }
    pn_struct_free(s, &host);
    CHECK_EQ_INT(references(), 0);
}

static unsigned seed = 1;
static unsigned roll(unsigned n) { return (seed = seed * 1664525u + 1013904223u) / 65536u % n; }

/* Some change of the rows that a caller might make to a dict. */
static size_t change(row *rows, size_t n)
{
    size_t at = n ? roll((unsigned)n) : 0, many = 1 + roll(4);
    switch (roll(5)) {
    case 0:
        for (; many && n < 24; many--, n++) rows[n] = (row){(int)roll(OBJECTS), (int)roll(OBJECTS)};
        return n;
    case 1:
        if (many > n - at) many = n - at;
        memmove(rows + at, rows + at + many, (n - at - many) * sizeof *rows);
        return n - many;
    case 2:
        if (n) rows[at].value = (int)roll(OBJECTS);
        return n;
    case 3:
        if (n) {
            row r = rows[at];
            rows[at] = rows[n - 1];
            rows[n - 1] = r;
        }
        return n;
    default: return roll(12) ? n : 0;
    }
}

static void test_random_changes(void)
{
    row rows[32];
    size_t n = 0;
    pn_struct *s = one_column(&pn_alloc_system);
    for (int i = 0; i < 3000; i++) {
        n = change(rows, n);
        if (roll(3) == 0) continue; /* several changes at once */
        CHECK(set_rows(&s->columns[0], rows, n) == PN_OK);
        check_rows(s, rows, n);
    }
    pn_struct_free(s, &host);
    CHECK_EQ_INT(references(), 0);
}

/* An edit that fails leaves the rows as they were. */
static pn_status changed_twice(const pn_alloc *alloc)
{
    static const row before[] = {{1, 1}, {2, 2}, {3, 3}, {4, 4}}, after[] = {{1, 1}, {3, 3}, {9, 9}, {4, 4}, {5, 5}, {6, 6}};
    pn_struct *s = one_column(alloc);
    PN_FAIL_IF(s == NULL, PN_ERR_NOMEM);
    pn_status status = set_rows(&s->columns[0], before, 4);
    if (status == PN_OK) {
        status = set_rows(&s->columns[0], after, 6);
        check_rows(s, status == PN_OK ? after : before, status == PN_OK ? 6 : 4);
    }
    pn_struct_free(s, &host);
    CHECK_EQ_INT(references(), 0);
    return status;
}

static void test_a_failed_edit_changes_nothing(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = changed_twice(&f.alloc));
}

static void test_looking_for_rows_ends(void)
{
    enum { N = 3000 };
    static row rows[N];
    pn_struct *s = one_column(&pn_alloc_system);
    pn_edit e;
    for (int i = 0; i < N; i++) rows[i] = (row){i % OBJECTS, i % 7};
    CHECK(set_rows(&s->columns[0], rows, N) == PN_OK);
    pn_edit_init(&e, &s->columns[0]);
    CHECK(pn_edit_begin(&e, PN_COLUMN_DICT, 0, 0) == PN_OK);
    for (int i = 0; i < N; i++) CHECK(edit_row(&e, (row){63, 50}) == PN_OK); /* never there */
    CHECK_EQ_INT(e.effort, 0);
    CHECK(edit_row(&e, rows[0]) == PN_OK); /* is there, but nobody looks any more */
    CHECK_EQ_INT(e.run_len, 0);
    pn_edit_abort(&e, &host);
    CHECK_EQ_INT(references(), 2 * N);
    pn_struct_free(s, &host);
    CHECK_EQ_INT(references(), 0);
}

static void test_words_of_nested_values(void)
{
    pn_word flat[] = {word(1)}, list[] = {pn_word_list(2), word(1), word(2), word(3)};
    pn_word nested[] = {pn_word_dict(1), word(1), pn_word_list(2), pn_word_list(0), word(2), word(9)};
    CHECK_EQ_INT(pn_words_of_value(flat, 1), 1);
    CHECK_EQ_INT(pn_words_of_value(list, 4), 3);
    CHECK_EQ_INT(pn_words_of_value(nested, 6), 5);
    CHECK_EQ_INT(pn_words_of_value(list, 2), 0);
    CHECK_EQ_INT(pn_words_of_value(nested, 4), 0);
    CHECK_EQ_INT(pn_words_of_value(NULL, 0), 0);
}

static void test_rows_of_lists_are_found_again(void)
{
    pn_struct *s = one_column(&pn_alloc_system);
    pn_column *c = &s->columns[0];
    pn_word a[] = {word(1), pn_word_list(2), word(2), word(3)}, b[] = {word(4), pn_word_list(0)}, d[] = {word(5), word(6)};
    c->kind = PN_COLUMN_DICT;
    CHECK(pn_column_push(c, PN_BYTES("\"a\": [2, 3]"), a, 4) == PN_OK);
    CHECK(pn_column_push(c, PN_BYTES("\"b\": []"), b, 2) == PN_OK);
    CHECK(pn_column_push(c, PN_BYTES("\"d\": 6"), d, 2) == PN_OK);
    take(a, 4), take(b, 2), take(d, 2);
    pn_edit e;
    pn_edit_init(&e, c);
    CHECK(pn_edit_begin(&e, PN_COLUMN_DICT, 0, 0) == PN_OK);
    CHECK(pn_edit_find(&e, b, 2));
    CHECK_EQ_INT(e.row, 1);
    CHECK(pn_edit_keep(&e, 2, 4) == PN_OK);
    CHECK(pn_edit_keep(&e, 1, 1) == PN_ERR_INVALID); /* there are no more */
    CHECK(pn_edit_prepare(&e) == PN_OK);
    pn_edit_commit(&e, &host);
    CHECK(pn_bytes_equal(pn_buf_view(&c->text), PN_BYTES("\"b\": [], \"d\": 6")));
    CHECK_EQ_INT(references(), 3);
    pn_struct_free(s, &host);
    CHECK_EQ_INT(references(), 0);
}

/* ---- text ---- */

#define ENTRY(type, data) "{\"__type__\": \"" type "\", \"__data__\": \"" data "\"}"
#define WHOLE "{\\\"index_id\\\": \\\"i\\\\n\\\", \\\"summary\\\": null, \\\"d\\\": {\\\"a\\\": \\\"b\\\", \\\"c\\\": [1.5, {}]}, \\\"e\\\": {}, \\\"l\\\": [\\\"x\\\", \\\"\\\\u00e9\\\"], \\\"m\\\": []}"

static pn_status round_trip(const pn_alloc *alloc, pn_bytes entry, bool *same)
{
    pn_struct *s;
    pn_buf out;
    PN_TRY(pn_struct_from_json(alloc, entry, &s));
    pn_buf_init(&out, alloc);
    pn_cell cell = {.kind = PN_CELL_STRUCT, .structure = s};
    pn_status status = pn_cell_write_json(&cell, &host, alloc, &out);
    *same = status == PN_OK && pn_bytes_equal(pn_buf_view(&out), entry);
    pn_buf_clear(&out);
    pn_cell_release(&cell, &host);
    return status;
}

static void test_what_is_read_is_written(void)
{
    static const char *const entries[] = {ENTRY("vector_store", WHOLE), ENTRY("x", "{}"), ENTRY("", "{\\\"a\\\": true}")};
    for (size_t i = 0; i < 3; i++) {
        bool same = false;
        CHECK(round_trip(&pn_alloc_system, text(entries[i]), &same) == PN_OK);
        CHECK(same);
    }
}

static void test_spaces_around_the_envelope_do_not_matter(void)
{
    pn_struct *s;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK(pn_struct_from_json(&pn_alloc_system, PN_BYTES(" {\n\"__type__\":\"t\" , \"__data__\":\"{\\u0022a\\u0022: 1}\" }"), &s) == PN_OK);
    CHECK(pn_struct_write_json(s, &out) == PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&out), PN_BYTES(ENTRY("t", "{\\\"a\\\": 1}"))));
    pn_buf_clear(&out);
    pn_struct_free(s, &host);
}

static void test_other_text_is_refused(void)
{
    static const char *const entries[] = {
        "", "[]", "5", "{}", "{\"__type__\": \"t\"}", "{\"__data__\": \"{}\", \"__type__\": \"t\"}",
        "{\"__type__\": \"t\", \"__data__\": {}}", "{\"__type__\": 5, \"__data__\": \"{}\"}",
        "{\"__type__\": \"t\", \"__data__\": \"{}\", \"more\": 1}", "{\"__type__\": \"\\u0074\", \"__data__\": \"{}\"}",
        "{\"__type__\": \"\xc3\xa9\", \"__data__\": \"{}\"}",
        ENTRY("t", ""), ENTRY("t", "[]"), ENTRY("t", "null"), ENTRY("t", " {}"), ENTRY("t", "{} "), ENTRY("t", "{ }"),
        ENTRY("t", "{\\\"a\\\":1}"), ENTRY("t", "{\\\"a\\\":  1}"), ENTRY("t", "{\\\"a\\\": 1,\\\"b\\\": 2}"),
        ENTRY("t", "{\\\"a\\\": 1 ,\\\"b\\\": 2}"), ENTRY("t", "{\\\"a\\\": 1, \\\"b\\\": 2 }"), ENTRY("t", "{\\\"a\\\": 1.0e0}"),
        ENTRY("t", "{\\\"a\\\": [1,2]}"), ENTRY("t", "{\\\"a\\\": [1, 2 ]}"), ENTRY("t", "{\\\"a\\\": [ 1]}"),
        ENTRY("t", "{\\\"a\\\": [ ]}"), ENTRY("t", "{\\\"a\\\": { }}"), ENTRY("t", "{\\\"a\\\": {\\\"k\\\":1}}"),
        ENTRY("t", "{\\\"a\\\": {\\\"k\\\": 1,\\\"l\\\": 2}}"), ENTRY("t", "{\\\"a\\\": {\\\"k\\\": [1,2]}}"),
        ENTRY("t", "{\\\"a\\\": {\\\"\\\\u0041\\\": 1}}"), ENTRY("t", "{\\\"a\\\": \\\"\\u00e9\\\"}"), ENTRY("t", "{\\\"\\\\n\\\": 1}"),
        ENTRY("t", "{\\\"a\\\": 1"), ENTRY("t", "{\\\"a\\\": {\\\"k\\\": 1}"), ENTRY("t", "{\\\"a\\\": tru}"),
    };
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        pn_struct *s = NULL;
        pn_status status = pn_struct_from_json(&pn_alloc_system, text(entries[i]), &s);
        if (status != PN_ERR_UNSUPPORTED) fprintf(stderr, "not refused: %s\n", entries[i]);
        CHECK(status == PN_ERR_UNSUPPORTED);
        CHECK(s == NULL);
    }
}

static void test_more_fields_than_columns(void)
{
    char data[512] = "{\"__type__\": \"t\", \"__data__\": \"{", *p = data + strlen(data);
    for (int i = 0; i <= PN_STRUCT_MAX_COLUMNS; i++) p += sprintf(p, "%s\\\"%c\\\": 1", i ? ", " : "", 'a' + i);
    strcpy(p, "}\"}");
    pn_struct *s;
    CHECK(pn_struct_from_json(&pn_alloc_system, text(data), &s) == PN_ERR_UNSUPPORTED);
}

static void test_the_type_alone(void)
{
    pn_bytes type;
    CHECK(pn_struct_type_of(PN_BYTES("{\"__type__\": \"list\", \"__data__\": broken"), &type) == PN_OK);
    CHECK(pn_bytes_equal(type, PN_BYTES("list")));
    CHECK(pn_struct_type_of(PN_BYTES("{\"__type__\": 5}"), &type) == PN_ERR_UNSUPPORTED);
    CHECK(pn_struct_type_of(PN_BYTES("{"), &type) == PN_ERR_UNSUPPORTED);
    CHECK(pn_struct_type_of(PN_BYTES(""), &type) == PN_ERR_UNSUPPORTED);
}

static void test_reading_survives_oom(void)
{
    pn_status s;
    bool same = false;
    EACH_ALLOCATION_FAILED(f, s, s = round_trip(&f.alloc, PN_BYTES(ENTRY("t", WHOLE)), &same));
    CHECK(same);
}

static void test_rows_read_get_words_once(void)
{
    pn_struct *s;
    CHECK(pn_struct_from_json(&pn_alloc_system, PN_BYTES(ENTRY("t", "{\\\"a\\\": [1, 2]}")), &s) == PN_OK);
    pn_column *c = &s->columns[0];
    pn_word words[] = {word(1), word(2)};
    pn_edit e;
    pn_edit_init(&e, c);
    CHECK(pn_edit_begin(&e, PN_COLUMN_LIST, 0, 0) == PN_OK);
    CHECK(!pn_edit_find(&e, words, 1)); /* nothing is known about the rows yet */
    pn_edit_abort(&e, &host);
    take(words, 2);
    CHECK(pn_column_bind(c, words, 2) == PN_OK);
    CHECK(pn_column_bind(c, words, 2) == PN_ERR_INVALID);
    CHECK(pn_edit_begin(&e, PN_COLUMN_LIST, 0, 0) == PN_OK);
    CHECK(pn_edit_find(&e, words + 1, 1));
    CHECK(pn_edit_begin(&e, PN_COLUMN_DICT, 1, 1) == PN_ERR_INVALID); /* a front of another kind */
    pn_edit_abort(&e, &host);
    pn_struct_free(s, &host);
    CHECK_EQ_INT(references(), 0);
}

/* ---- freeing in parts ---- */

enum { PAIRS = 20 };

/* A struct of one column with PAIRS rows, whose words are held. */
static pn_struct *struct_of_pairs(void)
{
    pn_struct *s;
    row rows[PAIRS];
    for (int i = 0; i < PAIRS; i++) rows[i] = (row){i, i + PAIRS};
    CHECK(pn_struct_new(&pn_alloc_system, PN_BYTES("t"), &s) == PN_OK);
    CHECK(pn_struct_add(s, PN_BYTES("a")) == PN_OK);
    CHECK(pn_struct_add(s, PN_BYTES("b")) == PN_OK);
    CHECK(set_rows(&s->columns[0], rows, PAIRS) == PN_OK);
    return s;
}

static void test_what_is_gone_is_freed_in_parts(void)
{
    pn_gone gone = {NULL, 0};
    pn_gone_add(&gone, struct_of_pairs(), &host);
    pn_gone_add(&gone, struct_of_pairs(), &host);
    CHECK_EQ_INT(references(), 4 * PAIRS); /* nothing yet */
    size_t waiting = gone.bytes;
    pn_gone_free(&gone, 5, &host);
    int left = references();
    CHECK(left >= 4 * PAIRS - 5 && left < 4 * PAIRS);
    for (int i = 0; i < 1000 && gone.first != NULL; i++) pn_gone_free(&gone, 3, &host);
    CHECK(gone.first == NULL && waiting > 0);
    CHECK_EQ_INT(gone.bytes, 0);
    CHECK_EQ_INT(references(), 0);
    pn_gone_add(&gone, struct_of_pairs(), &host);
    pn_gone_free(&gone, SIZE_MAX, &host);
    CHECK(gone.first == NULL);
    CHECK_EQ_INT(references(), 0);
}

static void test_little_waits(void)
{
    pn_gone gone = {NULL, 0};
    pn_gone_add(&gone, struct_of_pairs(), &host);
    size_t one = gone.bytes;
    gone.bytes = PN_GONE_MOST - 1000; /* as if there were many */
    pn_gone_add(&gone, struct_of_pairs(), &host);
    CHECK_EQ_INT(references(), 2 * PAIRS); /* the first had to go, */
    gone.bytes = one;
    pn_struct *large = struct_of_pairs();
    CHECK(pn_buf_reserve(&large->columns[1].text, PN_GONE_MOST) == PN_OK);
    pn_gone_add(&gone, large, &host); /* and this one goes with all that wait */
    CHECK(gone.first == NULL);
    CHECK_EQ_INT(gone.bytes, 0);
    CHECK_EQ_INT(references(), 0);
}

int main(void)
{
    RUN(test_what_is_gone_is_freed_in_parts);
    RUN(test_little_waits);
    RUN(test_each_change_encodes_what_is_new);
    RUN(test_random_changes);
    RUN(test_a_failed_edit_changes_nothing);
    RUN(test_looking_for_rows_ends);
    RUN(test_words_of_nested_values);
    RUN(test_rows_of_lists_are_found_again);
    RUN(test_what_is_read_is_written);
    RUN(test_spaces_around_the_envelope_do_not_matter);
    RUN(test_other_text_is_refused);
    RUN(test_more_fields_than_columns);
    RUN(test_the_type_alone);
    RUN(test_reading_survives_oom);
    RUN(test_rows_read_get_words_once);
    return check_summary();
}
