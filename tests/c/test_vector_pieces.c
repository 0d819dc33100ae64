/* Large vector files, which are read in pieces: what is saved again is the text that was
 * loaded, whatever stands between the rows that are alike. Everything is done twice, with
 * the text in memory and from a file. */
#include "check.h"
#include "codec/number.h"
#include "codec_check.h"
#include "fail_alloc.h"
#include "file_fault.h"
#include "file_mem.h"
#include "os/pool.h"
#include "store/vector_json.h"
#include "store/vector_pieces.h"

enum { ROWS = 6000, DIM = 48 };

typedef struct odd {
    int at;           /* in front of which row; ROWS: behind all */
    const char *text; /* `"id": [...], ` */
} odd;

static uint64_t rnd = 77;

static void put(pn_buf *b, const char *text) { CHECK_EQ_INT(pn_buf_append(b, text, strlen(text)), PN_OK); }

static void put_row(pn_buf *b, int i, bool wide)
{
    char id[32], number[PN_DOUBLE_TEXT_MAX];
    snprintf(id, sizeof id, "\"row-%06d\": [", i);
    put(b, id);
    for (int d = 0; d < DIM; d++) {
        double v = (double)(int64_t)random_next(&rnd) * 0x1p-66;
        if (d) put(b, ", ");
        CHECK_EQ_INT(pn_buf_append(b, number, pn_double_print(wide ? v : (double)(float)v, number)), PN_OK);
    }
    put(b, "], ");
}

/* A file of ROWS rows with the odd ones among them, and where each of those begins. */
static void make(pn_buf *b, const odd *odds, size_t count, bool wide, size_t *at)
{
    put(b, "{\"embedding_dict\": {");
    for (int i = 0; i <= ROWS; i++) {
        for (size_t k = 0; k < count; k++)
            if (odds[k].at == i) {
                if (at) at[k] = b->len;
                put(b, odds[k].text);
            }
        if (i < ROWS) put_row(b, i, wide);
    }
    b->len -= 2;
    put(b, "}, \"text_id_to_ref_doc_id\": {\"a\": \"[[[[\"}, \"metadata_dict\": {\"a\": {\"k\": [[], [[]]]}}}");
    CHECK(b->len > 2 * PN_VEC_PIECES_FROM);
}

static bool from_file;
static pn_fault fault; /* over the file, when a test sets it up */

static pn_status load_file(const pn_buf *text, pn_vec *v, pn_error *err)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    CHECK_EQ_INT(pn_memfs_put(fs, "/f", pn_buf_view(text)), 0);
    fault.below = pn_memfs_vfs(fs);
    pn_vfs vfs = pn_fault_vfs(&fault);
    int fd;
    CHECK_EQ_INT(fault.below.open(fault.below.ctx, "/f", PN_OPEN_READ, 0, &fd), 0);
    pn_status s = pn_vec_load_json_file(v, &vfs, fd, text->len, err);
    CHECK_EQ_INT(fault.below.close(fault.below.ctx, fd), 0);
    pn_memfs_free(fs);
    return s;
}

static pn_status load(const pn_alloc *alloc, const pn_buf *text, pn_vec *v, pn_error *err)
{
    pn_vec_init(v, alloc);
    if (from_file) return load_file(text, v, err);
    uint8_t *copy = exact_copy((const char *)text->data, text->len);
    pn_status s = pn_vec_load_json(v, (pn_bytes){copy, text->len}, err);
    free(copy);
    return s;
}

static void check_same_again(const odd *odds, size_t count, bool wide, bool dense)
{
    pn_buf text, out;
    pn_buf_init(&text, &pn_alloc_system);
    pn_buf_init(&out, &pn_alloc_system);
    make(&text, odds, count, wide, NULL);
    pn_vec v;
    CHECK_EQ_INT(load(&pn_alloc_system, &text, &v, NULL), PN_OK);
    CHECK_EQ_INT(pn_omap_len(&v.rows), ROWS + count);
    CHECK(pn_vec_consistent(&v));
    CHECK_EQ_INT(pn_vec_save_json(&v, NULL, 0, &out), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&text), pn_buf_view(&out)));
    const void *first;
    ptrdiff_t distance;
    const pn_vec_band *band;
    if (dense) CHECK(pn_vec_dense(&v, &first, &distance, &band) && band->wide == wide && band->blocks[0].used == ROWS);
    pn_vec_clear(&v);
    pn_buf_clear(&text);
    pn_buf_clear(&out);
}

static void test_pieces_of_rows_alike(void)
{
    check_same_again(NULL, 0, false, true);
    check_same_again(NULL, 0, true, true);
}

static void test_pieces_around_odd_rows(void)
{
    const odd odds[] = {{0, "\"first\": [1.0], "},
                        {1, "\"empty\": [], "},
                        {700, "\"another width\": [0.1, 0.5], "},
                        {2000, "\"]\": [], "},
                        {2000, "\"[[[\": [0.5], "},
                        {3001, "\"\\u00e9\\\"]\\\\\": [0.25], "},
                        {3002, "\"with one zero\": [0.0, 1.5], "},
                        {ROWS, "\"last\": [NaN, Infinity, -0.0], "}};
    for (size_t k = 0; k < sizeof odds / sizeof *odds; k++) check_same_again(odds + k, 1, k % 2, false);
    check_same_again(odds, sizeof odds / sizeof *odds, false, false);
}

static void test_a_repeated_id_counts_once_with_its_last_row(void)
{
    pn_buf text;
    pn_buf_init(&text, &pn_alloc_system);
    make(&text, (odd[]){{5000, "\"row-000007\": [7.0], "}}, 1, false, NULL);
    pn_vec v;
    CHECK_EQ_INT(load(&pn_alloc_system, &text, &v, NULL), PN_OK);
    CHECK_EQ_INT(pn_omap_len(&v.rows), ROWS);
    const pn_vec_row *row = pn_omap_get(&v.rows, PN_BYTES("row-000007"));
    CHECK(row != NULL && pn_vec_band_of(&v, row)->dim == 1 && *(const float *)row->data == 7);
    pn_vec_clear(&v);
    pn_buf_clear(&text);
}

/* The place of an error is where one reader from the start finds it. */
static void test_errors_have_their_place(void)
{
    const odd wrong[] = {{1, "!"}, {2500, "\"a\" []"}, {4000, "\"b\": [0.5,, 1.5], "}, {5999, "\"c\": [0.5 0.5], "},
                         {ROWS, "\"d\": [0.5], \"\x01\": [], "}};
    const pn_status want[] = {PN_ERR_SYNTAX, PN_ERR_SYNTAX, PN_ERR_UNSUPPORTED, PN_ERR_UNSUPPORTED, PN_ERR_SYNTAX};
    const size_t offset[] = {0, 4, 0, 0, 13};
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        pn_buf text;
        pn_buf_init(&text, &pn_alloc_system);
        size_t at;
        make(&text, wrong + k, 1, false, &at);
        pn_vec v;
        pn_error err = {0};
        CHECK_EQ_INT(load(&pn_alloc_system, &text, &v, &err), want[k]);
        if (want[k] == PN_ERR_SYNTAX) CHECK_EQ_INT(err.offset, at + offset[k]);
        pn_vec_clear(&v);
        pn_buf_clear(&text);
    }
}

/* Cut off at any place, it is never taken for a whole file. */
static void test_a_cut_file_is_refused(void)
{
    pn_buf text;
    pn_buf_init(&text, &pn_alloc_system);
    make(&text, NULL, 0, false, NULL);
    for (int i = 0; i < 20; i++) {
        pn_buf part = text;
        part.len = i == 0 ? text.len - 1 : random_next(&rnd) % text.len;
        pn_vec v;
        CHECK(load(&pn_alloc_system, &part, &v, NULL) != PN_OK);
        pn_vec_clear(&v);
    }
    pn_buf_clear(&text);
}

static void test_pieces_survive_every_failed_allocation(void)
{
    pn_buf text;
    pn_buf_init(&text, &pn_alloc_system);
    make(&text, NULL, 0, false, NULL);
    pn_pool_set_threads(1); /* the failing allocator counts without a lock */
    fail_alloc f;
    long n = 0, refused = 0;
    do {
        fail_alloc_init(&f, ++n);
        pn_vec v;
        pn_status s = load(&f.alloc, &text, &v, NULL);
        CHECK(s == PN_OK || (s == PN_ERR_NOMEM && f.failed));
        refused += s != PN_OK;
        if (s == PN_OK) CHECK_EQ_INT(pn_omap_len(&v.rows), ROWS);
        pn_vec_clear(&v);
        CHECK_EQ_INT(f.blocks, 0);
    } while (f.failed && n < 10000);
    CHECK(!f.failed && refused > 10);
    pn_pool_set_threads(3);
    pn_buf_clear(&text);
}

/* Files that are not as the head would have them are read as a whole. */
static void test_other_large_files(void)
{
    static const char *const begins[] = {"{\"metadata_dict\": {}, ", " \n{", "{\"text_id_to_ref_doc_id\": {}, "};
    for (size_t i = 0; i < 2 * sizeof begins / sizeof *begins; i++) {
        pn_buf text;
        pn_buf_init(&text, &pn_alloc_system);
        put(&text, begins[i / 2]);
        put(&text, "\"embedding_dict\": {\"a\": [");
        for (int k = 0; k < 700000; k++) put(&text, "0.5, ");
        put(&text, "0.5]}}");
        if (i % 2) put(&text, "!");
        pn_vec v;
        pn_error err;
        CHECK_EQ_INT(load(&pn_alloc_system, &text, &v, &err), i % 2 ? PN_ERR_SYNTAX : PN_OK);
        if (i % 2) CHECK_EQ_INT(err.offset, text.len - 1);
        else CHECK(pn_omap_len(&v.rows) == 1 && v.bands[0].dim == 700001);
        pn_vec_clear(&v);
        pn_buf_clear(&text);
    }
}

static void test_what_follows_far_behind_the_end_is_seen(void)
{
    pn_buf text;
    pn_buf_init(&text, &pn_alloc_system);
    put(&text, "{\"embedding_dict\": {}}");
    CHECK_EQ_INT(pn_buf_reserve(&text, 2 * PN_VEC_PIECES_FROM), PN_OK);
    memset(text.data + text.len, ' ', 2 * PN_VEC_PIECES_FROM);
    text.len += 2 * PN_VEC_PIECES_FROM;
    pn_vec v;
    CHECK_EQ_INT(load(&pn_alloc_system, &text, &v, NULL), PN_OK);
    pn_vec_clear(&v);
    text.data[text.len - 1] = 'x';
    pn_error err;
    CHECK_EQ_INT(load(&pn_alloc_system, &text, &v, &err), PN_ERR_SYNTAX);
    CHECK_EQ_INT(err.offset, text.len - 1);
    pn_vec_clear(&v);
    pn_buf_clear(&text);
}

/* A file that cannot be read somewhere is refused, or its text was complete all the same. */
static void test_pieces_survive_every_failed_read(void)
{
    pn_buf text;
    pn_buf_init(&text, &pn_alloc_system);
    make(&text, NULL, 0, false, NULL);
    size_t refused = 0;
    for (size_t at = 0;; at++) {
        fault = (pn_fault){.kind = PN_FAULT_ONCE, .at = at, .sys = 5};
        pn_vec v;
        pn_status s = load(&pn_alloc_system, &text, &v, NULL);
        CHECK(s == PN_OK || (s == PN_ERR_IO && fault.hit));
        if (s == PN_OK) CHECK_EQ_INT(pn_omap_len(&v.rows), ROWS);
        refused += s != PN_OK;
        pn_vec_clear(&v);
        if (!fault.hit) break;
    }
    fault = (pn_fault){.kind = PN_FAULT_ONCE, .at = SIZE_MAX};
    CHECK(refused >= 1 || !from_file); /* what a helper could not read is read again */
    pn_buf_clear(&text);
}

int main(void)
{
    pn_pool_set_threads(3);
    fault = (pn_fault){.kind = PN_FAULT_ONCE, .at = SIZE_MAX};
    for (int i = 0; i < 2; i++) {
        from_file = i != 0;
        RUN(test_pieces_of_rows_alike);
        RUN(test_pieces_around_odd_rows);
        RUN(test_a_repeated_id_counts_once_with_its_last_row);
        RUN(test_errors_have_their_place);
        RUN(test_a_cut_file_is_refused);
        RUN(test_other_large_files);
        RUN(test_what_follows_far_behind_the_end_is_seen);
        RUN(test_pieces_survive_every_failed_allocation);
        RUN(test_pieces_survive_every_failed_read);
    }
    return check_summary();
}
