/* The pull reader and the push writer of MessagePack, hostile bytes included. */
#include "codec/mpack_pull.h"
#include "codec/mpack_push.h"

#include "codec_check.h"
#include "fail_alloc.h"

/* Bytes of their exact size, and a reader over them that counts offsets from 100. */
typedef struct input {
    uint8_t *copy;
    pn_mpack_pull r;
} input;

static input *begin(input *in, const void *p, size_t n)
{
    in->copy = exact_copy(p, n);
    pn_mpack_pull_init(&in->r, (pn_bytes){in->copy, n}, 100);
    return in;
}
#define BYTES(literal) literal, sizeof(literal) - 1

static void check_uint(const char *p, size_t n, uint64_t want)
{
    input in;
    uint64_t v = ~want;
    CHECK_EQ_INT(pn_mpack_pull_uint(&begin(&in, p, n)->r, UINT64_MAX, &v), PN_OK);
    CHECK(v == want);
    CHECK_EQ_INT(pn_mpack_pull_end(&in.r), PN_OK);
    free(in.copy);
}

static void check_int(const char *p, size_t n, int64_t want)
{
    input in;
    int64_t v = ~want;
    CHECK_EQ_INT(pn_mpack_pull_int(&begin(&in, p, n)->r, &v), PN_OK);
    CHECK(v == want);
    CHECK_EQ_INT(pn_mpack_pull_end(&in.r), PN_OK);
    free(in.copy);
}

static void test_pull_integers_of_any_width(void)
{
    check_uint(BYTES("\x00"), 0);
    check_uint(BYTES("\x7f"), 127);
    check_uint(BYTES("\xcc\x05"), 5);
    check_uint(BYTES("\xcd\x01\x02"), 0x102);
    check_uint(BYTES("\xce\x01\x02\x03\x04"), 0x1020304);
    check_uint(BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), UINT64_MAX);
    check_uint(BYTES("\xd0\x7f"), 127);
    check_uint(BYTES("\xd3\x7f\xff\xff\xff\xff\xff\xff\xff"), INT64_MAX);
    check_int(BYTES("\x7f"), 127);
    check_int(BYTES("\xcc\xff"), 255);
    check_int(BYTES("\xff"), -1);
    check_int(BYTES("\xe0"), -32);
    check_int(BYTES("\xd0\x80"), -128);
    check_int(BYTES("\xd1\x80\x00"), -32768);
    check_int(BYTES("\xd2\xff\xff\xff\xfe"), -2);
    check_int(BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), INT64_MIN);
    check_int(BYTES("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"), INT64_MAX);
}

typedef enum wanted { ARRAY, TEXT, BIN, UINT, INT, BOOL, SKIP, END } wanted;

static pn_status pull(pn_mpack_pull *r, wanted what)
{
    size_t n;
    pn_bytes b;
    uint64_t u;
    int64_t i;
    bool t;
    switch (what) {
    case ARRAY: return pn_mpack_pull_array(r, 2, &n);
    case TEXT: return pn_mpack_pull_text(r, &b);
    case BIN: return pn_mpack_pull_bin(r, &b);
    case UINT: return pn_mpack_pull_uint(r, 1000, &u);
    case INT: return pn_mpack_pull_int(r, &i);
    case BOOL: return pn_mpack_pull_bool(r, &t);
    case SKIP: return pn_mpack_pull_skip(r, 2);
    default: return pn_mpack_pull_end(r);
    }
}

static void test_pull_refuses(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        wanted as;
        const char *what;
        unsigned offset;
    } bad[] = {
        {BYTES(""), ARRAY, "an element is missing", 0},
        {BYTES(""), TEXT, "an element is missing", 0},
        {BYTES("\xc1"), SKIP, "not MessagePack", 0},
        {BYTES("\x91\x00"), ARRAY, "an array is too short", 0},
        {BYTES("\x93\x00\x00"), ARRAY, "a count beyond the bytes", 0},
        {BYTES("\xdc\x00"), ARRAY, "an element is cut short", 0},
        {BYTES("\xdd\xff\xff\xff\xff\x00\x00"), ARRAY, "a count beyond the bytes", 0},
        {BYTES("\x05"), ARRAY, "expected an array", 0},
        {BYTES("\x82\x00\x00\x00\x00"), ARRAY, "a map, where there are none", 0},
        {BYTES("\xde\x00\x00"), SKIP, "a map, where there are none", 0},
        {BYTES("\xdf\x00\x00\x00\x00"), SKIP, "a map, where there are none", 0},
        {BYTES("\xa2" "a"), TEXT, "a length beyond the bytes", 0},
        {BYTES("\xdb\xff\xff\xff\xff" "abc"), TEXT, "a length beyond the bytes", 0},
        {BYTES("\xa1\xff"), TEXT, "text that is not UTF-8", 0},
        {BYTES("\xa2\xc0\x80"), TEXT, "text that is not UTF-8", 0},
        {BYTES("\xc4\x01" "a"), TEXT, "expected text", 0},
        {BYTES("\xa1" "a"), BIN, "expected bytes", 0},
        {BYTES("\xc6\x00\x00\x00\x02" "a"), BIN, "a length beyond the bytes", 0},
        {BYTES("\xc5\x00"), BIN, "an element is cut short", 0},
        {BYTES("\xff"), UINT, "a number out of range", 0},
        {BYTES("\xd1\xff\x00"), UINT, "a number out of range", 0},
        {BYTES("\xcd\x03\xe9"), UINT, "a number out of range", 0},
        {BYTES("\xcf\x00\x00\x00"), UINT, "an element is cut short", 0},
        {BYTES("\xc3"), UINT, "expected an integer", 0},
        {BYTES("\xcf\x80\x00\x00\x00\x00\x00\x00\x00"), INT, "a number out of range", 0},
        {BYTES("\xcb\x00\x00\x00\x00\x00\x00\x00\x00"), INT, "expected an integer", 0},
        {BYTES("\x01"), BOOL, "expected true or false", 0},
        {BYTES("\xc0"), BOOL, "expected true or false", 0},
        {BYTES("\x00"), SKIP, "an element is missing", 1},
        {BYTES("\x00\x92\x00"), SKIP, "a count beyond the bytes", 1},
        {BYTES("\x93\x00\x00\x00"), SKIP, "a count beyond the bytes", 0},
        {BYTES("\x91\x91\x81\x00\x00"), SKIP, "a map, where there are none", 2},
        {BYTES("\xca\x00\x00\x00"), SKIP, "a length beyond the bytes", 0},
        {BYTES("\xd8\x00"), SKIP, "a length beyond the bytes", 0},
        {BYTES("\xc7\xff\x00"), SKIP, "a length beyond the bytes", 0},
        {BYTES("\xc9\xff\xff\xff\xff\x00"), SKIP, "a length beyond the bytes", 0},
        {BYTES("\x00"), END, "bytes after the last element", 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        input in;
        int before = check_failures;
        CHECK_EQ_INT(pull(&begin(&in, bad[i].bytes, bad[i].n)->r, bad[i].as), PN_ERR_CORRUPT);
        CHECK_EQ_INT(in.r.error.code, PN_ERR_CORRUPT);
        CHECK_EQ_STR(in.r.error.what, bad[i].what);
        CHECK_EQ_INT(in.r.error.offset, 100 + bad[i].offset);
        if (check_failures != before) fprintf(stderr, "  in case %zu\n", i);
        free(in.copy);
    }
}

static void test_pull_skips_everything_but_maps(void)
{
    static const char all[] = "\x00\xff\xc0\xc2\xc3\xcc\x01\xcd\x01\x01\xce\x01\x01\x01\x01\xcf\x01\x01\x01\x01\x01\x01\x01\x01"
                              "\xd0\x01\xd1\x01\x01\xd2\x01\x01\x01\x01\xd3\x01\x01\x01\x01\x01\x01\x01\x01"
                              "\xca\x01\x01\x01\x01\xcb\x01\x01\x01\x01\x01\x01\x01\x01"
                              "\xa1" "a\xd9\x01" "a\xda\x00\x01" "a\xdb\x00\x00\x00\x01" "a\xc4\x01" "a\xc5\x00\x01" "a\xc6\x00\x00\x00\x01" "a"
                              "\xd4\x01" "a\xd5\x01" "ab\xd6\x01" "abcd\xd7\x01" "abcdefgh\xd8\x01" "abcdefghijklmnop"
                              "\xc7\x01\x01" "a\xc8\x00\x01\x01" "a\xc9\x00\x00\x00\x01\x01" "a"
                              "\x90\x92\x91\x91\x00\x01\xdc\x00\x01\x02\xdd\x00\x00\x00\x01\x90" "\xc3";
    input in;
    bool last = false;
    CHECK_EQ_INT(pn_mpack_pull_skip(&begin(&in, BYTES(all))->r, 34), PN_OK);
    CHECK_EQ_INT(pn_mpack_pull_bool(&in.r, &last), PN_OK);
    CHECK(last);
    CHECK_EQ_INT(pn_mpack_pull_end(&in.r), PN_OK);
    CHECK_EQ_INT(pn_mpack_pull_skip(&in.r, 0), PN_OK);
    free(in.copy);
}

/* A million arrays in one another: no stack grows. */
static void test_pull_skips_any_depth(void)
{
    enum { DEPTH = 1000000 };
    uint8_t *deep = malloc(DEPTH);
    memset(deep, 0x91, DEPTH);
    deep[DEPTH - 1] = 0xc0;
    pn_mpack_pull r;
    pn_mpack_pull_init(&r, (pn_bytes){deep, DEPTH}, 0);
    CHECK_EQ_INT(pn_mpack_pull_skip(&r, 1), PN_OK);
    CHECK_EQ_INT(pn_mpack_pull_end(&r), PN_OK);
    free(deep);
}

static void check_pushed(pn_buf *b, pn_status s, const char *want, size_t n)
{
    CHECK_EQ_INT(s, PN_OK);
    CHECK(same_text(pn_buf_view(b), want, n));
    b->len = 0;
}

static void test_push_shortest_forms(void)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    check_pushed(&b, pn_mpack_push_array(&b, 0), BYTES("\x90"));
    check_pushed(&b, pn_mpack_push_array(&b, 15), BYTES("\x9f"));
    check_pushed(&b, pn_mpack_push_array(&b, 16), BYTES("\xdc\x00\x10"));
    check_pushed(&b, pn_mpack_push_array(&b, 65536), BYTES("\xdd\x00\x01\x00\x00"));
    check_pushed(&b, pn_mpack_push_text(&b, (pn_bytes){NULL, 0}), BYTES("\xa0"));
    check_pushed(&b, pn_mpack_push_text(&b, PN_BYTES("caf\xc3\xa9")), BYTES("\xa5" "caf\xc3\xa9"));
    check_pushed(&b, pn_mpack_push_bin(&b, (pn_bytes){NULL, 0}), BYTES("\xc4\x00"));
    check_pushed(&b, pn_mpack_push_bin(&b, PN_BYTES("\x00\xff")), BYTES("\xc4\x02\x00\xff"));
    check_pushed(&b, pn_mpack_push_uint(&b, 127), BYTES("\x7f"));
    check_pushed(&b, pn_mpack_push_uint(&b, 128), BYTES("\xcc\x80"));
    check_pushed(&b, pn_mpack_push_uint(&b, UINT32_MAX), BYTES("\xce\xff\xff\xff\xff"));
    check_pushed(&b, pn_mpack_push_uint(&b, UINT64_MAX), BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"));
    check_pushed(&b, pn_mpack_push_int(&b, 5), BYTES("\x05"));
    check_pushed(&b, pn_mpack_push_int(&b, -1), BYTES("\xff"));
    check_pushed(&b, pn_mpack_push_int(&b, INT64_MIN), BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"));
    check_pushed(&b, pn_mpack_push_bool(&b, true), BYTES("\xc3"));
    check_pushed(&b, pn_mpack_push_bool(&b, false), BYTES("\xc2"));
    CHECK_EQ_INT(pn_mpack_push_array(&b, (size_t)1 << 32), PN_ERR_RANGE);
    CHECK_EQ_INT(pn_mpack_push_text(&b, (pn_bytes){NULL, (size_t)1 << 32}), PN_ERR_RANGE);
    CHECK_EQ_INT(pn_mpack_push_bin(&b, (pn_bytes){NULL, (size_t)1 << 32}), PN_ERR_RANGE);
    pn_buf_clear(&b);
}

static pn_status push_all(pn_buf *b)
{
    PN_TRY(pn_mpack_push_array(b, 6));
    PN_TRY(pn_mpack_push_text(b, PN_BYTES("text of more than sixty-four bytes, so that the room for it must be made: \xed\xa0\x80")));
    PN_TRY(pn_mpack_push_bin(b, PN_BYTES("\xff\xfe")));
    PN_TRY(pn_mpack_push_uint(b, UINT64_MAX));
    PN_TRY(pn_mpack_push_int(b, -300));
    PN_TRY(pn_mpack_push_bool(b, true));
    return pn_mpack_push_array(b, 0);
}

static void test_pushed_is_pulled(void)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(push_all(&b), PN_OK);
    input in;
    size_t n = 0, none = 1;
    pn_bytes text, bin;
    uint64_t u = 0;
    int64_t i = 0;
    bool t = false;
    CHECK_EQ_INT(pn_mpack_pull_array(&begin(&in, b.data, b.len)->r, 6, &n), PN_OK);
    CHECK_EQ_INT(n, 6);
    CHECK_EQ_INT(pn_mpack_pull_text(&in.r, &text), PN_OK);
    CHECK(text.len == 77 && memcmp(text.ptr + 74, "\xed\xa0\x80", 3) == 0);
    CHECK_EQ_INT(pn_mpack_pull_bin(&in.r, &bin), PN_OK);
    CHECK(pn_bytes_equal(bin, PN_BYTES("\xff\xfe")));
    CHECK_EQ_INT(pn_mpack_pull_uint(&in.r, UINT64_MAX, &u), PN_OK);
    CHECK(u == UINT64_MAX);
    CHECK_EQ_INT(pn_mpack_pull_int(&in.r, &i), PN_OK);
    CHECK_EQ_INT(i, -300);
    CHECK_EQ_INT(pn_mpack_pull_bool(&in.r, &t), PN_OK);
    CHECK(t);
    CHECK_EQ_INT(pn_mpack_pull_array(&in.r, 0, &none), PN_OK);
    CHECK_EQ_INT(none, 0);
    CHECK_EQ_INT(pn_mpack_pull_end(&in.r), PN_OK);
    CHECK_EQ_INT(pn_mpack_pull_refuse(&in.r, "the caller's word"), PN_ERR_CORRUPT);
    CHECK_EQ_STR(in.r.error.what, "the caller's word");
    CHECK_EQ_INT(in.r.error.offset, 100 + b.len);
    free(in.copy);
    /* every prefix is refused at some element, wherever it ends */
    for (size_t cut = 0; cut < b.len; cut++) {
        pn_mpack_pull_init(&in.r, (pn_bytes){b.data, cut}, 0);
        CHECK_EQ_INT(pn_mpack_pull_skip(&in.r, 1), PN_ERR_CORRUPT);
        CHECK(in.r.error.offset <= cut);
    }
    pn_buf_clear(&b);
}

static pn_status push_and_clear(const pn_alloc *alloc)
{
    pn_buf b;
    pn_buf_init(&b, alloc);
    pn_status s = push_all(&b);
    pn_buf_clear(&b);
    return s;
}

static void test_push_survives_oom(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = push_and_clear(&f.alloc));
}

int main(void)
{
    RUN(test_pull_integers_of_any_width);
    RUN(test_pull_refuses);
    RUN(test_pull_skips_everything_but_maps);
    RUN(test_pull_skips_any_depth);
    RUN(test_push_shortest_forms);
    RUN(test_pushed_is_pulled);
    RUN(test_push_survives_oom);
    return check_summary();
}
