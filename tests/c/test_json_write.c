/* JSON text as json.dumps writes it. */
#include "codec/json_write.h"

#include "base/utf8.h"
#include "codec/json_read.h"
#include "codec_check.h"
#include "fail_alloc.h"

#include <math.h>

static void check_string(const char *text, size_t n, const char *want)
{
    pn_buf b;
    uint8_t *copy = exact_copy(text, n);
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_json_put_string(&b, (pn_bytes){copy, n}), PN_OK);
    CHECK_TEXT(pn_buf_view(&b), want);
    b.len = 0;
    CHECK_EQ_INT(pn_json_put_escaped(&b, (pn_bytes){copy, n}), PN_OK);
    CHECK(same_text(pn_buf_view(&b), want + 1, strlen(want) - 2));
    CHECK(pn_json_is_plain((pn_bytes){copy, n}) == same_text((pn_bytes){copy, n}, want + 1, strlen(want) - 2));
    pn_buf_clear(&b);
    free(copy);
}

static void test_json_put_string(void)
{
#define STRING(text, want) check_string(text, sizeof(text) - 1, want)
    STRING("", "\"\"");
    STRING("plain ~ text of more than sixteen bytes", "\"plain ~ text of more than sixteen bytes\"");
    STRING("\"\\/\n\r\t\b\f", "\"\\\"\\\\/\\n\\r\\t\\b\\f\"");
    STRING("\0\x01\x1f\x7f", "\"\\u0000\\u0001\\u001f\\u007f\"");
    STRING("\xc2\x80\xc3\xa9\xe4\xb8\xad\xef\xbf\xbf", "\"\\u0080\\u00e9\\u4e2d\\uffff\"");
    STRING("\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", "\"\\ud83d\\ude00\\udbff\\udfff\"");
    STRING("\xed\xa0\xbd\xed\xb8\x80", "\"\\ud83d\\ude00\"");
    STRING("\xe2\x80\xa8" "abcdef", "\"\\u2028abcdef\"");
}

static void test_json_put_string_reads_back_for_every_code_point(void)
{
    int wrong = 0;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        uint8_t text[4];
        size_t n = pn_utf8_put(cp, text);
        pn_json_reader r;
        pn_json_str s;
        b.len = 0;
        wrong += pn_json_put_string(&b, (pn_bytes){text, n}) != PN_OK;
        pn_json_reader_init(&r, pn_buf_view(&b));
        wrong += pn_json_string(&r, &s) != PN_OK || !s.canonical || pn_json_end(&r) != PN_OK;
        size_t at = b.len;
        wrong += pn_json_unescape(&s, &b) != PN_OK || b.len - at != n || memcmp(b.data + at, text, n) != 0;
    }
    CHECK_EQ_INT(wrong, 0);
    pn_buf_clear(&b);
}

static void test_json_put_string_refuses_other_bytes(void)
{
    static const char *bad[] = {"\xff", "abc\xc3", "\xc0\x80", "\xf4\x90\x80\x80", "abcdefghijklmnopqrst\xe4\xb8"};
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(PN_BUF_LIT(&b, "kept"), PN_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ_INT(pn_json_put_string(&b, (pn_bytes){(const uint8_t *)bad[i], strlen(bad[i])}), PN_ERR_UTF8);
        CHECK_EQ_INT(pn_json_put_escaped(&b, (pn_bytes){(const uint8_t *)bad[i], strlen(bad[i])}), PN_ERR_UTF8);
        CHECK_TEXT(pn_buf_view(&b), "kept");
    }
    CHECK_EQ_INT(pn_json_put_nested(&b, PN_BYTES("\"\xc3\xa9\"")), PN_ERR_INVALID);
    CHECK_TEXT(pn_buf_view(&b), "kept");
    pn_buf_clear(&b);
}

static void test_json_put_numbers(void)
{
    static const int64_t ints[] = {0, -1, 9, 10, 1234567890123, INT64_MAX, INT64_MIN};
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        char want[32];
        sprintf(want, "%lld", (long long)ints[i]);
        b.len = 0;
        CHECK_EQ_INT(pn_json_put_i64(&b, ints[i]), PN_OK);
        CHECK_TEXT(pn_buf_view(&b), want);
    }
    b.len = 0;
    CHECK_EQ_INT(pn_json_put_double(&b, 1e16), PN_OK);
    CHECK_EQ_INT(pn_json_put_double(&b, -(double)INFINITY), PN_OK);
    CHECK_TEXT(pn_buf_view(&b), "1e+16-Infinity");
    b.len = 0;
    const double d[] = {0.5, -0.0, (double)NAN};
    const float f[] = {0.1f, 3.0f};
    CHECK_EQ_INT(pn_json_put_doubles(&b, d, 3), PN_OK);
    CHECK_EQ_INT(pn_json_put_floats(&b, f, 2), PN_OK);
    CHECK_EQ_INT(pn_json_put_floats(&b, NULL, 0), PN_OK);
    CHECK_EQ_INT(pn_json_put_doubles(&b, d, 1), PN_OK);
    CHECK_TEXT(pn_buf_view(&b), "[0.5, -0.0, NaN][0.10000000149011612, 3.0][][0.5]");
    pn_buf_clear(&b);
}

static void test_json_put_floats_reads_back(void)
{
    enum { N = 1000 };
    float v[N];
    double back[N];
    uint64_t rnd = 9;
    for (int i = 0; i < N; i++) v[i] = (float)((double)(int64_t)random_next(&rnd) * 0x1p-65);
    for (size_t n = 0; n <= N; n += n < 140 ? 1 : 43) { /* around the places where room is checked */
        pn_buf b;
        pn_json_reader r;
        size_t len;
        pn_buf_init(&b, &pn_alloc_system);
        CHECK_EQ_INT(pn_json_put_floats(&b, v, n), PN_OK);
        pn_json_reader_init(&r, pn_buf_view(&b));
        CHECK_EQ_INT(pn_json_doubles(&r, back, N, &len), PN_OK);
        CHECK_EQ_INT(len, n);
        for (size_t i = 0; i < n; i++) CHECK(back[i] == (double)v[i]);
        pn_buf_clear(&b);
    }
}

static void test_json_put_nested(void)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_json_put_nested(&b, PN_BYTES("{\"a\": \"\\u00e9\\n\"}")), PN_OK);
    CHECK_TEXT(pn_buf_view(&b), "{\\\"a\\\": \\\"\\\\u00e9\\\\n\\\"}");
    pn_buf_clear(&b);
}

static pn_status put_all(const pn_alloc *alloc)
{
    double d[200] = {0.1};
    pn_buf b;
    pn_buf_init(&b, alloc);
    pn_status s = pn_json_put_string(&b, PN_BYTES("text \xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad \n\n\n\n\n\n\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"));
    size_t before = b.len;
    if (s == PN_OK) s = pn_json_put_doubles(&b, d, 200);
    if (s != PN_OK) CHECK_EQ_INT(b.len, before);
    pn_buf_clear(&b);
    return s;
}

static void test_json_put_survives_oom(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = put_all(&f.alloc));
}

int main(void)
{
    RUN(test_json_put_string);
    RUN(test_json_put_string_reads_back_for_every_code_point);
    RUN(test_json_put_string_refuses_other_bytes);
    RUN(test_json_put_numbers);
    RUN(test_json_put_floats_reads_back);
    RUN(test_json_put_nested);
    RUN(test_json_put_survives_oom);
    return check_summary();
}
