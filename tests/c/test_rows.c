/* Index structs on disk: their bytes, what is refused and where, and that changes applied
 * one by one or combined give what a model of plain arrays gives. */
#include "codec/mpack_push.h"
#include "fail_alloc.h"
#include "rows_model.h"

static pn_bytes bytes_of(const char *text) { return (pn_bytes){(const uint8_t *)text, strlen(text)}; }

/* ---- bytes ---- */

/* ["t", [["v", 0, 1, 01000000, "7"], ["d", 2, 2, 06000000 07000000, "\"a\": 1, \"b\": 22"]]] */
static const uint8_t whole_bytes[] =
    "\x92\xa1t\x92"
    "\x95\xa1v\x00\x01\xc4\x04\x01\x00\x00\x00\xc4\x01" "7"
    "\x95\xa1" "d\x02\x02\xc4\x08\x06\x00\x00\x00\x07\x00\x00\x00\xc4\x0f\"a\": 1, \"b\": 22";
static const pn_bytes whole = {whole_bytes, sizeof whole_bytes - 1};

/* Keeps v; of d keeps row 1, adds one. */
static const uint8_t change_bytes[] =
    "\x92\xa1t\x92"
    "\x95\xa1v\x00\x01\x01\x91\x93\x00\x00\x01"
    "\x95\xa1" "d\x02\x02\x02\x92\x93\x00\x01\x01\x93\x01\xc4\x04\x06\x00\x00\x00\xc4\x06\"c\": 3";
static const pn_bytes change = {change_bytes, sizeof change_bytes - 1};

static const uint8_t after_bytes[] =
    "\x92\xa1t\x92"
    "\x95\xa1v\x00\x01\xc4\x04\x01\x00\x00\x00\xc4\x01" "7"
    "\x95\xa1" "d\x02\x02\xc4\x08\x07\x00\x00\x00\x06\x00\x00\x00\xc4\x0f\"b\": 22, \"c\": 3";
static const pn_bytes after = {after_bytes, sizeof after_bytes - 1};

static void test_rows_bytes_of_a_struct(void)
{
    pn_rows r;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, whole, false, &r, NULL), PN_OK);
    CHECK_TEXT(r.type, "t");
    CHECK_EQ_INT(r.count, 2);
    CHECK_TEXT(r.columns[1].name, "d");
    CHECK_EQ_INT(r.columns[1].kind, 2);
    CHECK_EQ_INT(r.columns[1].rows, 2);
    CHECK_EQ_INT(r.columns[1].base_rows, 0);
    CHECK_EQ_INT(r.columns[1].piece_count, 1);
    CHECK_EQ_INT(r.columns[1].pieces[0].count, 2);
    CHECK_TEXT(r.columns[1].pieces[0].text, "\"a\": 1, \"b\": 22");
    CHECK_EQ_INT(pn_rows_write(&r, &out), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&out), whole));
    pn_rows_clear(&r);
    pn_buf_clear(&out);
}

static void test_rows_bytes_of_a_change(void)
{
    pn_rows r, base;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, change, true, &r, NULL), PN_OK);
    CHECK_EQ_INT(r.columns[1].base_rows, 2);
    CHECK(r.columns[1].pieces[0].keeps && !r.columns[1].pieces[1].keeps);
    CHECK_EQ_INT(r.columns[1].pieces[0].from, 1);
    CHECK_EQ_INT(pn_rows_write(&r, &out), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&out), change));
    out.len = 0;
    CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, whole, false, &base, NULL), PN_OK);
    CHECK_EQ_INT(pn_rows_apply(&base, &r, &out, NULL), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&out), after));
    CHECK_EQ_INT(pn_rows_apply(&r, &r, &out, NULL), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_rows_apply(&base, &base, &out, NULL), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_rows_combine(&base, &r, &out, NULL), PN_ERR_INVALID);
    CHECK_EQ_INT(pn_rows_combine(&r, &base, &out, NULL), PN_ERR_INVALID);
    CHECK(pn_bytes_equal(pn_buf_view(&out), after));
    pn_rows_clear(&base);
    pn_rows_clear(&r);
    pn_buf_clear(&out);
}

/* What a later release may have put at the end of an array is stepped over. */
static void test_rows_elements_of_a_later_release(void)
{
    static const uint8_t later[] =
        "\x93\xa1t\x91"
        "\x96\xa1" "d\x02\x02\x02\x92\x94\x00\x01\x01\xc0\x94\x01\xc4\x04\x06\x00\x00\x00\xc4\x06\"c\": 3\x92\x01\x02"
        "\xa3new" "\xcb\x00\x00\x00\x00\x00\x00\x00\x00";
    pn_rows r;
    CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, (pn_bytes){later, sizeof later - 1}, true, &r, NULL), PN_OK);
    CHECK_EQ_INT(r.count, 1);
    CHECK_EQ_INT(r.columns[0].piece_count, 2);
    CHECK_TEXT(r.columns[0].pieces[1].text, "\"c\": 3");
    pn_rows_clear(&r);
}

/* ---- refusals ---- */

/* One column of those rows, each with its length as `lens` says (or as it is). */
static void one_column(pn_buf *out, uint64_t kind, uint64_t rows, const char *lens, const char *text)
{
    uint8_t four[4];
    CHECK_EQ_INT(pn_mpack_push_array(out, 2), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_text(out, PN_BYTES("t")), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(out, 1), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(out, 5), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_text(out, PN_BYTES("c")), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_uint(out, kind), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_uint(out, rows), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_bin_head(out, 4 * strlen(lens)), PN_OK);
    for (; *lens; lens++) {
        pn_put_u32(four, (uint32_t)(*lens <= '9' ? *lens - '0' : *lens - 'a' + 10));
        CHECK_EQ_INT(pn_buf_append(out, four, 4), PN_OK);
    }
    CHECK_EQ_INT(pn_mpack_push_bin(out, bytes_of(text)), PN_OK);
}

static pn_status read_exact(const pn_buf *b, bool is_change, pn_error *err)
{
    uint8_t *copy = exact_copy(b->data, b->len);
    pn_rows r;
    pn_status s = pn_rows_read(&pn_alloc_system, (pn_bytes){copy, b->len}, is_change, &r, err);
    if (s != PN_OK) CHECK(r.count == 0 && r.columns[0].pieces == NULL);
    pn_rows_clear(&r);
    free(copy);
    return s;
}

/* at: where in the text, or -1: the text's own place in the bytes, or before. */
static void refused(uint64_t kind, uint64_t rows, const char *lens, const char *text, int at, const char *what)
{
    pn_buf b;
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_buf_init(&b, &pn_alloc_system);
    one_column(&b, kind, rows, lens, text);
    CHECK_EQ_INT(read_exact(&b, false, &e), PN_ERR_CORRUPT);
    CHECK_EQ_INT(e.code, PN_ERR_CORRUPT);
    CHECK_EQ_STR(e.what ? e.what : "", what);
    if (at >= 0) CHECK_EQ_INT(e.offset, b.len - strlen(text) + (size_t)at);
    pn_buf_clear(&b);
}

static void accepted(uint64_t kind, uint64_t rows, const char *lens, const char *text)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    one_column(&b, kind, rows, lens, text);
    CHECK_EQ_INT(read_exact(&b, false, NULL), PN_OK);
    pn_buf_clear(&b);
}

static void test_rows_text_must_be_canonical_rows(void)
{
    accepted(1, 0, "", "");
    accepted(2, 0, "", "");
    accepted(1, 2, "16", "1, [2, 3]");
    accepted(0, 1, "4", "null");
    accepted(2, 2, "98", "\"a\": [{}], \"a\": \"b\""); /* a key twice, as a file may have it */
    refused(1, 2, "11", "1,2", 1, "expected a comma and a space between rows");
    refused(1, 2, "11", "1", 1, "expected a comma and a space between rows");
    refused(1, 2, "11", "1, ", 3, "a row beyond the text");
    refused(1, 1, "1", "12", 1, "text behind the last row");
    refused(1, 0, "", "1", 0, "text behind the last row");
    refused(1, 1, "3", "12", 0, "a row beyond the text");
    refused(1, 1, "0", "", 0, "expected a value");
    refused(1, 2, "11", "1, x", 3, "expected a value");
    refused(1, 1, "5", "[1,2]", 0, "a row that is not canonical JSON");
    refused(1, 1, "4", "1.50", 0, "a row that is not canonical JSON");
    refused(1, 1, "4", "1, 2", 0, "a row that is not canonical JSON"); /* two values in one row */
    refused(1, 1, "2", " 1", 0, "a row that is not canonical JSON");
    refused(1, 1, "3", "[1 ", 3, "expected a comma or the closing bracket");
    refused(2, 1, "1", "1", 0, "expected a string");
    refused(2, 1, "6", " \"a\": 1", 0, "a key that is not canonical JSON");
    refused(2, 1, "6", "\"\xc3\xa9\": 1", 0, "a key that is not canonical JSON");
    refused(2, 1, "3", "\"a\"", 3, "expected a colon and a space behind a key");
    refused(2, 1, "5", "\"a\":1", 3, "expected a colon and a space behind a key");
    refused(2, 1, "6", "\"a\" : 1", 3, "expected a colon and a space behind a key");
    refused(2, 1, "5", "\"a\": ", 5, "expected a value");
    refused(2, 1, "7", "\"a\":  1", 5, "a row that is not canonical JSON");
}

static void test_rows_shape_must_be_right(void)
{
    refused(3, 1, "1", "1", -1, "a number out of range");
    refused(0, 2, "11", "1, 2", -1, "a value is one row");
    refused(0, 0, "", "", -1, "a value is one row");
    refused(1, 3, "11", "1, 2", -1, "another number of rows than the column has");
    refused(1, (uint64_t)1 << 32, "1", "1", -1, "a number out of range");
}

/* A row may have more keys than the scan's canonical bit keeps count of. */
static void test_rows_with_very_many_keys(void)
{
    enum { N = 2000 };
    pn_buf text, b;
    char part[32];
    pn_buf_init(&text, &pn_alloc_system);
    pn_buf_init(&b, &pn_alloc_system);
    for (int i = 0; i < N; i++) {
        int n = snprintf(part, sizeof part, "%s\"k%04d\": 0", i ? ", " : "{", i);
        CHECK_EQ_INT(pn_buf_append(&text, part, (size_t)n), PN_OK);
    }
    CHECK_EQ_INT(pn_buf_append(&text, "}", 2), PN_OK);
    one_column(&b, 0, 1, "1", (char *)text.data);
    size_t length = strlen((char *)text.data), lens = b.len - length - 3 - 4;
    pn_put_u32(b.data + lens, (uint32_t)length);
    CHECK_EQ_INT(read_exact(&b, false, NULL), PN_OK);
    memcpy(strstr((char *)b.data + lens + 7, "k1999"), "k1998", 5);
    CHECK_EQ_INT(read_exact(&b, false, NULL), PN_ERR_CORRUPT);
    pn_buf_clear(&b);
    pn_buf_clear(&text);
}

/* A change of one list of `base` rows: pieces as pairs of numbers. */
static void list_change(pn_buf *out, size_t base, size_t rows, const size_t (*kept)[2], size_t n)
{
    CHECK_EQ_INT(pn_mpack_push_array(out, 2), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_text(out, PN_BYTES("t")), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(out, 1), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(out, 5), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_text(out, PN_BYTES("c")), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_uint(out, 1), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_uint(out, base), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_uint(out, rows), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(out, n), PN_OK);
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ_INT(pn_mpack_push_array(out, 3), PN_OK);
        CHECK_EQ_INT(pn_mpack_push_uint(out, 0), PN_OK);
        CHECK_EQ_INT(pn_mpack_push_uint(out, kept[i][0]), PN_OK);
        CHECK_EQ_INT(pn_mpack_push_uint(out, kept[i][1]), PN_OK);
    }
}

static void change_refused(size_t base, size_t rows, const size_t (*kept)[2], size_t n, const char *what)
{
    pn_buf b;
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_buf_init(&b, &pn_alloc_system);
    list_change(&b, base, rows, kept, n);
    CHECK_EQ_INT(read_exact(&b, true, &e), what ? PN_ERR_CORRUPT : PN_OK);
    CHECK_EQ_STR(e.what ? e.what : "", what ? what : "");
    pn_buf_clear(&b);
}

static void test_rows_pieces_must_fit(void)
{
    const size_t two[2][2] = {{0, 2}, {2, 1}};
    change_refused(3, 3, two, 2, NULL);
    change_refused(3, 0, two, 0, NULL);
    change_refused(2, 3, two, 2, "a row that the base has not");
    change_refused(3, 2, two, 2, "more rows than the column has");
    change_refused(3, 4, two, 2, "fewer rows than the column has");
    const size_t far[1][2] = {{UINT32_MAX, 2}};
    change_refused(3, 2, far, 1, "a row that the base has not");
    const size_t empty[3][2] = {{3, 0}, {0, 3}, {0, 0}};
    change_refused(3, 3, empty, 3, NULL);
    const size_t twice[2][2] = {{0, 2}, {0, 2}};
    change_refused(3, 4, twice, 2, "a row of the base is kept twice");
}

static void test_rows_bytes_must_be_whole(void)
{
    pn_buf b;
    pn_error e;
    pn_buf_init(&b, &pn_alloc_system);
    one_column(&b, 1, 1, "1", "1");
    CHECK_EQ_INT(pn_buf_push(&b, 0), PN_OK);
    CHECK_EQ_INT(read_exact(&b, false, &e), PN_ERR_CORRUPT);
    CHECK_EQ_INT(e.offset, b.len - 1);
    CHECK_EQ_STR(e.what, "bytes after the last element");
    b.len = 0;
    CHECK_EQ_INT(pn_buf_append(&b, "\x92\xa1t\x91\x95\xa1" "c\x01\x01\xc4\x05\x01\0\0\0\0\xc4\x01" "1", 19), PN_OK);
    CHECK_EQ_INT(read_exact(&b, false, &e), PN_ERR_CORRUPT);
    CHECK_EQ_STR(e.what, "row lengths are cut short");
    b.len = 0; /* a value was one row before, too */
    CHECK_EQ_INT(pn_buf_append(&b, change.ptr, change.len), PN_OK);
    CHECK_EQ_INT(read_exact(&b, true, &e), PN_OK);
    CHECK(memcmp(b.data + 7, "\x00\x01\x01\x91", 4) == 0);
    b.data[8] = 2;
    CHECK_EQ_INT(read_exact(&b, true, &e), PN_ERR_CORRUPT);
    CHECK_EQ_STR(e.what, "a value is one row");
    pn_buf_clear(&b);
}

static void test_rows_too_many_columns(void)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    for (size_t n = PN_ROWS_MAX_COLUMNS; n <= PN_ROWS_MAX_COLUMNS + 1; n++) {
        b.len = 0;
        CHECK_EQ_INT(pn_mpack_push_array(&b, 2), PN_OK);
        CHECK_EQ_INT(pn_mpack_push_text(&b, PN_BYTES("t")), PN_OK);
        CHECK_EQ_INT(pn_mpack_push_array(&b, n), PN_OK);
        for (size_t i = 0; i < n; i++) CHECK_EQ_INT(pn_buf_append(&b, "\x95\xa1" "c\x01\x00\xc4\x00\xc4\x00", 9), PN_OK);
        CHECK_EQ_INT(read_exact(&b, false, NULL), n > PN_ROWS_MAX_COLUMNS ? PN_ERR_CORRUPT : PN_OK);
    }
    pn_buf_clear(&b);
}

/* Cut anywhere, or with a bit the other way round: an error in bounds, or something valid. */
static void damage(pn_bytes from, bool is_change)
{
    pn_buf b, again;
    pn_error e;
    pn_rows r;
    pn_buf_init(&b, &pn_alloc_system);
    pn_buf_init(&again, &pn_alloc_system);
    for (size_t n = 0; n < from.len; n++) {
        b.len = 0;
        CHECK_EQ_INT(pn_buf_append(&b, from.ptr, n), PN_OK);
        CHECK_EQ_INT(read_exact(&b, is_change, &e), PN_ERR_CORRUPT);
        CHECK(e.offset <= n);
    }
    b.len = 0;
    CHECK_EQ_INT(pn_buf_append(&b, from.ptr, from.len), PN_OK);
    for (size_t bit = 0; bit < 8 * from.len; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        pn_status s = read_exact(&b, is_change, &e);
        CHECK(s == PN_OK || (s == PN_ERR_CORRUPT && e.offset <= b.len));
        if (s == PN_OK) {
            again.len = 0;
            CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, pn_buf_view(&b), is_change, &r, NULL), PN_OK);
            CHECK_EQ_INT(pn_rows_write(&r, &again), PN_OK);
            pn_rows_clear(&r);
            CHECK_EQ_INT(read_exact(&again, is_change, NULL), PN_OK);
        }
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    pn_buf_clear(&again);
    pn_buf_clear(&b);
}

static void test_rows_damaged_bytes(void)
{
    damage(whole, false);
    damage(change, true);
}

/* ---- writing ---- */

static void test_rows_writing_joins_pieces(void)
{
    made_rows made;
    pn_rows r;
    pn_buf out;
    char rows[3][16] = {"\"a\": 1", "\"b\": 2", "\"c\": 3"};
    pn_buf_init(&out, &pn_alloc_system);
    make_begin(&made, true);
    for (int k = 0; k < 3; k++) made.view.columns[k].base_rows = k ? 9 : 1;
    make_kept(&made, 0, 0, 1);
    make_kept(&made, 2, 0, 0);
    make_kept(&made, 2, 0, 2); /* these three are one */
    make_kept(&made, 2, 2, 1);
    make_kept(&made, 2, 3, 1);
    make_new(&made, 2, rows, 1); /* and these */
    make_new(&made, 2, rows, 0);
    make_kept(&made, 2, 8, 0);
    make_new(&made, 2, rows + 1, 2);
    make_kept(&made, 2, 5, 1);
    make_kept(&made, 2, 7, 1); /* not behind the one before */
    CHECK_EQ_INT(pn_rows_write(&made.view, &out), PN_OK);
    CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, pn_buf_view(&out), true, &r, NULL), PN_OK);
    CHECK_EQ_INT(r.columns[1].piece_count, 0);
    CHECK_EQ_INT(r.columns[2].piece_count, 4);
    CHECK_EQ_INT(r.columns[2].pieces[0].count, 4);
    CHECK_EQ_INT(r.columns[2].pieces[1].count, 3);
    CHECK_TEXT(r.columns[2].pieces[1].text, "\"a\": 1, \"b\": 2, \"c\": 3");
    CHECK_EQ_INT(r.columns[2].pieces[3].from, 7);
    pn_rows_clear(&r);
    pn_buf_clear(&out);
}

static void test_rows_writing_refuses_what_cannot_be(void)
{
    made_rows made;
    pn_buf out;
    char rows[1][16] = {"1"};
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_buf_push(&out, 'x'), PN_OK);
    make_begin(&made, false);
    make_new(&made, 0, rows, 1);
    made.view.columns[0].rows = 2;
    CHECK_EQ_INT(pn_rows_write(&made.view, &out), PN_ERR_INVALID); /* another number of rows */
    make_begin(&made, false);
    make_kept(&made, 0, 0, 1);
    CHECK_EQ_INT(pn_rows_write(&made.view, &out), PN_ERR_INVALID); /* a struct that keeps */
    make_begin(&made, false);
    make_new(&made, 0, rows, 1);
    made.pieces[0][0].text.len = (size_t)UINT32_MAX + 1;
    made.view.count = 1;
    pn_buf_clear(&out);
    CHECK_EQ_INT(pn_rows_write(&made.view, &out), PN_ERR_RANGE);
    CHECK_EQ_INT(out.len, 0);
    pn_buf_clear(&out);
}

/* ---- applying and combining ---- */

static pn_status apply(const pn_alloc *alloc, pn_bytes base, pn_bytes by, pn_buf *out, pn_error *err)
{
    pn_rows b, c;
    PN_TRY(pn_rows_read(alloc, base, false, &b, err));
    pn_status s = pn_rows_read(alloc, by, true, &c, err);
    if (s == PN_OK) s = pn_rows_apply(&b, &c, out, err);
    pn_rows_clear(&b);
    pn_rows_clear(&c);
    return s;
}

static pn_status combine(const pn_alloc *alloc, pn_bytes first, pn_bytes second, pn_buf *out, pn_error *err)
{
    pn_rows a, b;
    PN_TRY(pn_rows_read(alloc, first, true, &a, err));
    pn_status s = pn_rows_read(alloc, second, true, &b, err);
    if (s == PN_OK) s = pn_rows_combine(&a, &b, out, err);
    pn_rows_clear(&a);
    pn_rows_clear(&b);
    return s;
}

/* As many changes in a row as this; combined in any grouping they are one. */
enum { IN_A_ROW = 3 };

static void check_one_sequence(uint64_t *rnd, pn_buf *b)
{
    struct_model m;
    pn_buf *base = &b[0], *by = &b[1], *step = &b[4], *want = &b[5], *one = &b[6], *two = &b[7];
    for (int i = 0; i < 8; i++) b[i].len = 0;
    random_struct(&m, rnd);
    write_struct(&m, base);
    CHECK_EQ_INT(pn_buf_append(step, base->data, base->len), PN_OK);
    for (int i = 0; i < IN_A_ROW; i++) {
        write_change(&m, rnd, &by[i]);
        one->len = want->len = 0;
        write_struct(&m, want);
        CHECK_EQ_INT(apply(&pn_alloc_system, pn_buf_view(step), pn_buf_view(&by[i]), one, NULL), PN_OK);
        CHECK(pn_bytes_equal(pn_buf_view(one), pn_buf_view(want)));
        step->len = 0;
        CHECK_EQ_INT(pn_buf_append(step, one->data, one->len), PN_OK);
    }
    one->len = 0; /* (0 1) 2 */
    CHECK_EQ_INT(combine(&pn_alloc_system, pn_buf_view(&by[0]), pn_buf_view(&by[1]), one, NULL), PN_OK);
    CHECK_EQ_INT(combine(&pn_alloc_system, pn_buf_view(one), pn_buf_view(&by[2]), two, NULL), PN_OK);
    step->len = 0;
    CHECK_EQ_INT(apply(&pn_alloc_system, pn_buf_view(base), pn_buf_view(two), step, NULL), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(step), pn_buf_view(want)));
    one->len = step->len = 0; /* 0 (1 2) */
    CHECK_EQ_INT(combine(&pn_alloc_system, pn_buf_view(&by[1]), pn_buf_view(&by[2]), one, NULL), PN_OK);
    CHECK_EQ_INT(combine(&pn_alloc_system, pn_buf_view(&by[0]), pn_buf_view(one), step, NULL), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(step), pn_buf_view(two)));
}

static void test_rows_changes_in_turn_or_combined(void)
{
    pn_buf b[8];
    uint64_t rnd = 20;
    for (int i = 0; i < 8; i++) pn_buf_init(&b[i], &pn_alloc_system);
    for (int i = 0; i < 5000; i++) check_one_sequence(&rnd, b);
    for (int i = 0; i < 8; i++) pn_buf_clear(&b[i]);
}

#define misfit(base, from, to, what) misfit_with((base), (from), (to), sizeof(from) - 1, (what))
static void misfit_with(pn_bytes base, const char *from, const char *to, size_t n, const char *what)
{
    uint8_t other[sizeof change_bytes];
    size_t at = 0;
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    memcpy(other, change_bytes, sizeof other);
    while (at + n < sizeof other && memcmp(other + at, from, n) != 0) at++;
    CHECK(at + n < sizeof other);
    memcpy(other + at, to, n);
    CHECK_EQ_INT(apply(&pn_alloc_system, base, (pn_bytes){other, change.len}, &out, &e), PN_ERR_CORRUPT);
    CHECK_EQ_STR(e.what ? e.what : "", what);
    CHECK_EQ_INT(out.len, 0);
    pn_buf_clear(&out);
}

static void test_rows_changes_of_another_struct(void)
{
    static const uint8_t no_columns[] = "\x92\xa1t\x90";
    static const pn_bytes none = {no_columns, sizeof no_columns - 1};
    misfit(whole, "\xa1t", "\xa1u", "a change of a struct of another type");
    misfit(whole, "\xa1v", "\xa1w", "a change of other columns");
    misfit(whole, "\xa1v\x00", "\xa1v\x01", "a change of other columns"); /* of that name, and a list */
    misfit(none, "\xa1t", "\xa1t", "a change of another number of columns");
    misfit(after, "d\x02\x02", "d\x02\x03", "a change of another number of rows");
}

/* Kept ranges that overlap pass the reader's sum; the result stays within bounds. */
static void test_rows_kept_twice(void)
{
    const size_t overlap[3][2] = {{0, 2}, {0, 2}, {1, 2}};
    pn_buf base, by, out;
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_buf_init(&base, &pn_alloc_system);
    pn_buf_init(&by, &pn_alloc_system);
    pn_buf_init(&out, &pn_alloc_system);
    one_column(&base, 1, 6, "991111", "1234567, 7654321, 1, 2, 3, 4");
    base.data[11] = base.data[15] = 7; /* the lengths of the two */
    list_change(&by, 6, 6, overlap, 3);
    CHECK_EQ_INT(apply(&pn_alloc_system, pn_buf_view(&base), pn_buf_view(&by), &out, &e), PN_ERR_CORRUPT);
    CHECK_EQ_STR(e.what ? e.what : "", "a change keeps a row twice");
    pn_buf_clear(&base);
    pn_buf_clear(&by);
    pn_buf_clear(&out);
}

/* The same where nothing but pieces could grow. */
static void test_rows_kept_twice_across_pieces(void)
{
    const size_t kept[3][2] = {{0, 1}, {2, 1}, {4, 10}}, overlap[4][2] = {{0, 2}, {0, 2}, {0, 2}, {0, 2}};
    pn_buf first, second, out;
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_buf_init(&first, &pn_alloc_system);
    pn_buf_init(&second, &pn_alloc_system);
    pn_buf_init(&out, &pn_alloc_system);
    list_change(&first, 14, 12, kept, 3);
    list_change(&second, 12, 8, overlap, 4);
    CHECK_EQ_INT(combine(&pn_alloc_system, pn_buf_view(&first), pn_buf_view(&second), &out, &e), PN_ERR_CORRUPT);
    CHECK_EQ_STR(e.what ? e.what : "", "a change keeps a row twice");
    pn_buf_clear(&first);
    pn_buf_clear(&second);
    pn_buf_clear(&out);
}

/* Pieces as a caller may make them: some without rows, one that keeps what is not there. */
static void test_rows_pieces_of_the_callers_making(void)
{
    static made_rows base, by;
    char rows[3][16] = {"1", "2", "3"}, value[1][16] = {"0"}, want[] = "3, 1, 2";
    pn_buf out;
    pn_rows r;
    pn_buf_init(&out, &pn_alloc_system);
    make_begin(&base, false);
    make_new(&base, 0, value, 1);
    make_new(&base, 1, rows, 0);
    make_new(&base, 1, rows, 1);
    make_new(&base, 1, rows, 0);
    make_new(&base, 1, rows + 1, 2);
    make_new(&base, 1, rows, 0);
    make_begin(&by, true);
    make_kept(&by, 0, 0, 1);
    make_kept(&by, 1, 2, 1);
    make_new(&by, 1, rows, 0);
    make_kept(&by, 1, 0, 2);
    by.view.columns[0].base_rows = 1;
    by.view.columns[1].base_rows = 3;
    CHECK_EQ_INT(pn_rows_apply(&base.view, &by.view, &out, NULL), PN_OK);
    CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, pn_buf_view(&out), false, &r, NULL), PN_OK);
    CHECK_TEXT(r.columns[1].pieces[0].text, want);
    pn_rows_clear(&r);
    by.pieces[1][0].from = 3;
    out.len = 0;
    CHECK_EQ_INT(pn_rows_apply(&base.view, &by.view, &out, NULL), PN_ERR_INVALID);
    CHECK_EQ_INT(out.len, 0);
    pn_buf_clear(&out);
}

/* ---- memory ---- */

static pn_status all_of_it(const pn_alloc *alloc, const pn_buf *in, pn_buf *want)
{
    pn_buf out;
    pn_buf_init(&out, alloc);
    pn_status s = combine(alloc, pn_buf_view(&in[1]), pn_buf_view(&in[2]), &out, NULL);
    if (s != PN_OK) CHECK_EQ_INT(out.len, 0);
    pn_buf one = out;
    pn_buf_init(&out, alloc);
    if (s == PN_OK) s = apply(alloc, pn_buf_view(&in[0]), pn_buf_view(&one), &out, NULL);
    if (s == PN_OK) CHECK(pn_bytes_equal(pn_buf_view(&out), pn_buf_view(want)));
    pn_buf_clear(&one);
    pn_buf_clear(&out);
    return s;
}

static void test_rows_survive_oom(void)
{
    struct_model m;
    pn_buf in[4];
    uint64_t rnd = 77;
    pn_status s;
    for (int i = 0; i < 4; i++) pn_buf_init(&in[i], &pn_alloc_system);
    random_struct(&m, &rnd);
    write_struct(&m, &in[0]);
    write_change(&m, &rnd, &in[1]);
    write_change(&m, &rnd, &in[2]);
    write_struct(&m, &in[3]);
    EACH_ALLOCATION_FAILED(f, s, s = all_of_it(&f.alloc, in, &in[3]));
    for (int i = 0; i < 4; i++) pn_buf_clear(&in[i]);
}

int main(void)
{
    RUN(test_rows_bytes_of_a_struct);
    RUN(test_rows_bytes_of_a_change);
    RUN(test_rows_elements_of_a_later_release);
    RUN(test_rows_text_must_be_canonical_rows);
    RUN(test_rows_shape_must_be_right);
    RUN(test_rows_with_very_many_keys);
    RUN(test_rows_pieces_must_fit);
    RUN(test_rows_bytes_must_be_whole);
    RUN(test_rows_too_many_columns);
    RUN(test_rows_damaged_bytes);
    RUN(test_rows_writing_joins_pieces);
    RUN(test_rows_writing_refuses_what_cannot_be);
    RUN(test_rows_changes_in_turn_or_combined);
    RUN(test_rows_changes_of_another_struct);
    RUN(test_rows_kept_twice);
    RUN(test_rows_kept_twice_across_pieces);
    RUN(test_rows_pieces_of_the_callers_making);
    RUN(test_rows_survive_oom);
    return check_summary();
}
