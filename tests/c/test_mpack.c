/* MessagePack to and from JSON text, hostile bytes included. */
#include "codec/mpack.h"

#include "codec/json_read.h"
#include "codec_check.h"
#include "fail_alloc.h"

static pn_status to_json(const void *p, size_t n, pn_buf *out, pn_error *err)
{
    uint8_t *copy = exact_copy(p, n);
    pn_status s = pn_mpack_to_json((pn_bytes){copy, n}, out, err);
    free(copy);
    return s;
}

/* JSON to these bytes, and back to its canonical form. */
static void check_pair(const char *json, const char *bytes, size_t n, const char *canonical)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_mpack_from_json((pn_bytes){(const uint8_t *)json, strlen(json)}, &pn_alloc_system, &b), PN_OK);
    if (b.len != n || memcmp(b.data, bytes, n) != 0) fprintf(stderr, "  on %s\n", json);
    CHECK(b.len == n && memcmp(b.data, bytes, n) == 0);
    b.len = 0;
    CHECK_EQ_INT(to_json(bytes, n, &b, NULL), PN_OK);
    CHECK_TEXT(pn_buf_view(&b), canonical);
    pn_buf_clear(&b);
}
#define PAIR(json, bytes) check_pair(json, bytes, sizeof(bytes) - 1, json)

static void test_mpack_shortest_forms(void)
{
    PAIR("null", "\xc0");
    PAIR("true", "\xc3");
    PAIR("false", "\xc2");
    PAIR("0", "\x00");
    PAIR("127", "\x7f");
    PAIR("128", "\xcc\x80");
    PAIR("256", "\xcd\x01\x00");
    PAIR("65536", "\xce\x00\x01\x00\x00");
    PAIR("4294967296", "\xcf\x00\x00\x00\x01\x00\x00\x00\x00");
    PAIR("18446744073709551615", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
    PAIR("9223372036854775808", "\xcf\x80\x00\x00\x00\x00\x00\x00\x00");
    PAIR("-1", "\xff");
    PAIR("-32", "\xe0");
    PAIR("-33", "\xd0\xdf");
    PAIR("-129", "\xd1\xff\x7f");
    PAIR("-9223372036854775808", "\xd3\x80\x00\x00\x00\x00\x00\x00\x00");
    PAIR("0.5", "\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00");
    PAIR("-0.0", "\xcb\x80\x00\x00\x00\x00\x00\x00\x00");
    PAIR("Infinity", "\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00");
    PAIR("\"\"", "\xa0");
    PAIR("\"a\\u00e9\"", "\xa3" "a\xc3\xa9");
    PAIR("[]", "\x90");
    PAIR("{}", "\x80");
    PAIR("{\"a\": [1, {}], \"b\": {\"c\": []}}", "\x82\xa1" "a\x92\x01\x80\xa1" "b\x81\xa1" "c\x90");
    check_pair("{\"a\":1,\"b\":2,\"a\":[ ]}", "\x82\xa1" "a\x90\xa1" "b\x02", 7, "{\"a\": [], \"b\": 2}");
}

static void test_mpack_extensions(void)
{
    PAIR("18446744073709551616", "\xc7\x14\x01" "18446744073709551616");
    PAIR("-9223372036854775809", "\xc7\x14\x01" "-9223372036854775809");
    PAIR("\"\\ud83d\"", "\xc7\x03\x02\xed\xa0\xbd");
    PAIR("{\"x\\udc00\": 1}", "\x81\xd6\x02" "x\xed\xb0\x80\x01");
    PAIR("\"\\ud83d\\ude00\"", "\xa4\xf0\x9f\x98\x80");
}

/* Round trip of containers around each width of header, nested in one another. */
static void test_mpack_wide_containers(void)
{
    static const int sizes[] = {14, 15, 16, 17, 65535, 65536};
    pn_buf json, mp, back;
    pn_buf_init(&json, &pn_alloc_system);
    pn_buf_init(&mp, &pn_alloc_system);
    pn_buf_init(&back, &pn_alloc_system);
    CHECK_EQ_INT(PN_BUF_LIT(&json, "[[[], {"), PN_OK);
    for (size_t s = 0; s < 6; s++) {
        char text[40];
        int n = sprintf(text, "%s\"size%d\": [", s ? ", " : "", sizes[s]);
        CHECK_EQ_INT(pn_buf_append(&json, text, (size_t)n), PN_OK);
        for (int i = 0; i < sizes[s]; i++) {
            n = sprintf(text, i % 100 ? "%s%d" : "%s[%d]", i ? ", " : "", i);
            CHECK_EQ_INT(pn_buf_append(&json, text, (size_t)n), PN_OK);
        }
        CHECK_EQ_INT(PN_BUF_LIT(&json, "]"), PN_OK);
    }
    for (int i = 0; i < 20; i++) {
        char text[40];
        int n = sprintf(text, ", \"k%d\": {\"i\": %d}", i, i);
        CHECK_EQ_INT(pn_buf_append(&json, text, (size_t)n), PN_OK);
    }
    CHECK_EQ_INT(PN_BUF_LIT(&json, "}, 1]]"), PN_OK);
    CHECK_EQ_INT(pn_mpack_from_json(pn_buf_view(&json), &pn_alloc_system, &mp), PN_OK);
    CHECK_EQ_INT(to_json(mp.data, mp.len, &back, NULL), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&json), pn_buf_view(&back)));
    pn_buf_clear(&json);
    pn_buf_clear(&mp);
    pn_buf_clear(&back);
}

static void test_mpack_refuses(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        pn_status want;
        uint64_t offset;
    } bad[] = {
        {"", 0, PN_ERR_CORRUPT, 0},
        {"\xc1", 1, PN_ERR_CORRUPT, 0},
        {"\xc0\xc0", 2, PN_ERR_CORRUPT, 1},
        {"\x92\x01", 2, PN_ERR_CORRUPT, 2},
        {"\xdd\xff\xff\xff\xff", 5, PN_ERR_CORRUPT, 5},
        {"\xdf\xff\xff\xff\xff\xa1" "a", 7, PN_ERR_CORRUPT, 7},
        {"\xdb\xff\xff\xff\xff" "abc", 8, PN_ERR_CORRUPT, 5},
        {"\xc9\xff\xff\xff\xff\x01", 6, PN_ERR_CORRUPT, 4},
        {"\xa5" "abc", 4, PN_ERR_CORRUPT, 1},
        {"\xa1\xff", 2, PN_ERR_CORRUPT, 1},
        {"\xcb\x00", 2, PN_ERR_CORRUPT, 1},
        {"\xd4\x01" "x", 3, PN_ERR_CORRUPT, 2},
        {"\xd5\x01" "05", 4, PN_ERR_CORRUPT, 3},
        {"\xd4\x01" "-", 3, PN_ERR_CORRUPT, 2},
        {"\xc4\x00", 2, PN_ERR_UNSUPPORTED, 1},
        {"\xd4\x03" "x", 3, PN_ERR_UNSUPPORTED, 2},
        {"\xd6\xff\x00\x00\x00\x00", 6, PN_ERR_UNSUPPORTED, 5},
        {"\x81\x01\x01", 3, PN_ERR_UNSUPPORTED, 1},
        {"\x81\xc0\x01", 3, PN_ERR_UNSUPPORTED, 1},
        {"\x81\x90\x01", 3, PN_ERR_UNSUPPORTED, 1},
        {"\x81\x80\x01", 3, PN_ERR_UNSUPPORTED, 1},
        {"\x81\xd4\x01" "1\x01", 5, PN_ERR_UNSUPPORTED, 3},
    };
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(PN_BUF_LIT(&b, "kept"), PN_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pn_error e = {PN_OK, 0, 0, ""};
        int before = check_failures;
        CHECK_EQ_INT(to_json(bad[i].bytes, bad[i].n, &b, &e), bad[i].want);
        CHECK_EQ_INT(e.code, bad[i].want);
        CHECK_EQ_INT(e.offset, bad[i].offset);
        if (check_failures != before) fprintf(stderr, "  in case %zu: %s\n", i, e.what);
        CHECK_TEXT(pn_buf_view(&b), "kept");
    }
    pn_buf_clear(&b);
    CHECK_EQ_INT(pn_mpack_from_json(PN_BYTES("[1,"), &pn_alloc_system, &b), PN_ERR_SYNTAX);
    CHECK_EQ_INT(pn_mpack_from_json(PN_BYTES("[1] 2"), &pn_alloc_system, &b), PN_ERR_SYNTAX);
}

static void test_mpack_duplicate_keys_collapse(void)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(PN_BUF_LIT(&b, "@"), PN_OK);
    CHECK_EQ_INT(to_json("\x83\xa1" "a\x01\xa1" "b\x02\xa1" "a\x03", 10, &b, NULL), PN_OK);
    CHECK_TEXT(pn_buf_view(&b), "@{\"a\": 3, \"b\": 2}");
    pn_buf_clear(&b);
}

static void test_mpack_depth_is_bounded(void)
{
    uint8_t deep[PN_MPACK_MAX_DEPTH + 2];
    pn_buf json, mp;
    pn_error e;
    pn_buf_init(&json, &pn_alloc_system);
    pn_buf_init(&mp, &pn_alloc_system);
    memset(deep, 0x91, sizeof deep);
    deep[PN_MPACK_MAX_DEPTH] = 0xc0;
    CHECK_EQ_INT(to_json(deep, PN_MPACK_MAX_DEPTH + 1, &json, &e), PN_OK);
    CHECK_EQ_INT(pn_mpack_from_json(pn_buf_view(&json), &pn_alloc_system, &mp), PN_OK);
    CHECK(mp.len == PN_MPACK_MAX_DEPTH + 1 && memcmp(mp.data, deep, mp.len) == 0);
    deep[PN_MPACK_MAX_DEPTH] = 0x91;
    deep[PN_MPACK_MAX_DEPTH + 1] = 0xc0;
    CHECK_EQ_INT(to_json(deep, PN_MPACK_MAX_DEPTH + 2, &json, &e), PN_ERR_DEPTH);
    pn_buf_clear(&json);
    pn_buf_clear(&mp);
}

/* Every prefix of a value is cut short; every change of a byte is survived. */
static void test_mpack_broken_bytes(void)
{
    const char *json = "{\"key\": [1, -2, 0.5, \"text\", null, {\"n\": 18446744073709551616}], \"\\ud800\": [300, 70000, 1e+300]}";
    pn_buf mp, out;
    pn_buf_init(&mp, &pn_alloc_system);
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_mpack_from_json((pn_bytes){(const uint8_t *)json, strlen(json)}, &pn_alloc_system, &mp), PN_OK);
    for (size_t n = 0; n < mp.len; n++) CHECK_EQ_INT(to_json(mp.data, n, &out, NULL), PN_ERR_CORRUPT);
    for (size_t i = 0; i < mp.len; i++) {
        uint8_t was = mp.data[i];
        for (int c = 0; c < 256; c++) {
            bool canonical = true;
            mp.data[i] = (uint8_t)c;
            out.len = 0;
            if (to_json(mp.data, mp.len, &out, NULL) != PN_OK) continue;
            pn_buf again;
            pn_buf_init(&again, &pn_alloc_system);
            CHECK_EQ_INT(pn_json_canonicalize(pn_buf_view(&out), &pn_alloc_system, &again), PN_OK);
            canonical = pn_bytes_equal(pn_buf_view(&out), pn_buf_view(&again));
            CHECK(canonical);
            pn_buf_clear(&again);
        }
        mp.data[i] = was;
    }
    pn_buf_clear(&mp);
    pn_buf_clear(&out);
}

static pn_status there_and_back(const pn_alloc *alloc)
{
    const char *json = "{\"a\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,\"\\u00e9 and more text so that room runs out\"],\"b\":1,\"a\":{\"c\":1,\"d\":[]}}";
    pn_buf mp, out;
    pn_buf_init(&mp, alloc);
    pn_buf_init(&out, alloc);
    pn_status s = pn_mpack_from_json((pn_bytes){(const uint8_t *)json, strlen(json)}, alloc, &mp);
    if (s == PN_OK) s = pn_mpack_to_json(pn_buf_view(&mp), &out, NULL);
    if (s == PN_OK) s = pn_mpack_to_json(PN_BYTES("\x82\xa1" "a\x01\xa1" "a\x02"), &out, NULL);
    pn_buf_clear(&mp);
    pn_buf_clear(&out);
    return s;
}

static void test_mpack_survives_oom(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = there_and_back(&f.alloc));
}

int main(void)
{
    RUN(test_mpack_shortest_forms);
    RUN(test_mpack_extensions);
    RUN(test_mpack_wide_containers);
    RUN(test_mpack_refuses);
    RUN(test_mpack_duplicate_keys_collapse);
    RUN(test_mpack_depth_is_bounded);
    RUN(test_mpack_broken_bytes);
    RUN(test_mpack_survives_oom);
    return check_summary();
}
