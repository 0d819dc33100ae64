/* The JSON reader: what it accepts, what it calls canonical, where it says an error is,
 * and that nothing is read outside of the text (each text stands in a block of just its
 * size). What Python says to the same texts is in the tables. */
#include "codec/json_read.h"
#include "codec/json_walk.h"
#include "codec_check.h"
#include "fail_alloc.h"

#include <math.h>

typedef struct result {
    pn_status status;
    bool canonical;
    uint64_t offset;
} result;

static result skip(const char *text, size_t n)
{
    uint8_t *copy = exact_copy(text, n);
    pn_json_reader r;
    pn_json_span span = {0};
    pn_json_reader_init(&r, (pn_bytes){copy, n});
    pn_status s = pn_json_skip(&r, &span);
    if (s == PN_OK) s = pn_json_end(&r);
    result got = {s, span.canonical && span.len == n, r.error.offset};
    free(copy);
    return got;
}

/* The walk takes the other road through the reader: it must say the same. */
static pn_status nothing(void *ctx, pn_json_type t) { return (void)ctx, (void)t, PN_OK; }
static pn_status nothing_str(void *ctx, const pn_json_str *s) { return (void)ctx, (void)s, PN_OK; }
static pn_status nothing_num(void *ctx, const pn_json_num *n) { return (void)ctx, (void)n, PN_OK; }
static const pn_json_events no_events = {nothing, nothing, nothing_str, nothing_str, nothing_num, nothing};

static pn_status walk(const char *text, size_t n)
{
    uint8_t *copy = exact_copy(text, n);
    pn_status s = pn_json_walk((pn_bytes){copy, n}, &no_events, NULL);
    free(copy);
    return s;
}

#define CHECK_SKIP(text, want_status, want_canonical)                     \
    do {                                                                  \
        result got_ = skip((text), sizeof(text) - 1);                     \
        pn_status walked_ = walk((text), sizeof(text) - 1);               \
        if (got_.status != (want_status) || got_.canonical != (want_canonical) || walked_ != (want_status)) \
            fprintf(stderr, "  on %s\n", text);                           \
        CHECK_EQ_INT(got_.status, want_status);                           \
        CHECK_EQ_INT(walked_, want_status);                               \
        CHECK_EQ_INT(got_.canonical, want_canonical);                     \
    } while (0)

static void test_json_accepts_and_marks_canonical(void)
{
    CHECK_SKIP("{}", PN_OK, true);
    CHECK_SKIP("[]", PN_OK, true);
    CHECK_SKIP("{\"a\": [1, -2, 0.5, 1e-05, -0.0, NaN, Infinity, -Infinity, true, false, null, \"x\"]}", PN_OK, true);
    CHECK_SKIP("[[], {}, [[]], {\"a\": {}}]", PN_OK, true);
    CHECK_SKIP("0", PN_OK, true);
    CHECK_SKIP("\"\"", PN_OK, true);
    CHECK_SKIP("123456789012345678901234567890", PN_OK, true);
    CHECK_SKIP("\"\\\"\\\\\\n\\r\\t\\b\\f\\u0000\\u001f\\u007f\\u00e9\\ud83d\\ude00\\udc00\"", PN_OK, true);
    /* valid, but not what json.dumps writes */
    CHECK_SKIP(" {}", PN_OK, false);
    CHECK_SKIP("{} ", PN_OK, false);
    CHECK_SKIP("{ }", PN_OK, false);
    CHECK_SKIP("[1,2]", PN_OK, false);
    CHECK_SKIP("[1,  2]", PN_OK, false);
    CHECK_SKIP("[1,\n2]", PN_OK, false);
    CHECK_SKIP("[1 , 2]", PN_OK, false);
    CHECK_SKIP("[1, 2 ]", PN_OK, false);
    CHECK_SKIP("{\"a\":1}", PN_OK, false);
    CHECK_SKIP("{\"a\" : 1}", PN_OK, false);
    CHECK_SKIP("{\"a\":\t1}", PN_OK, false);
    CHECK_SKIP("-0", PN_OK, false);
    CHECK_SKIP("1.50", PN_OK, false);
    CHECK_SKIP("1E5", PN_OK, false);
    CHECK_SKIP("1e5", PN_OK, false);
    CHECK_SKIP("100000.0", PN_OK, true);
    CHECK_SKIP("0.00001", PN_OK, false);
    CHECK_SKIP("0.0001", PN_OK, true);
    CHECK_SKIP("12345678901234567.0", PN_OK, false);
    CHECK_SKIP("0.1000000000000000055511151231257827", PN_OK, false);
    CHECK_SKIP("1e400", PN_OK, false);
    CHECK_SKIP("\"\\u0041\"", PN_OK, false);
    CHECK_SKIP("\"\\/\"", PN_OK, false);
    CHECK_SKIP("\"\\u00E9\"", PN_OK, false);
    CHECK_SKIP("\"\\u000a\"", PN_OK, false);
    CHECK_SKIP("\"\\u0022\"", PN_OK, false);
    CHECK_SKIP("\"\x7f\"", PN_OK, false);
    CHECK_SKIP("\"\xc3\xa9\"", PN_OK, false);
    CHECK_SKIP("\"\xed\xa0\xbd\"", PN_OK, false);
    CHECK_SKIP("{\"a\": 1, \"a\": 1}", PN_OK, false);
    CHECK_SKIP("[{\"a\": {\"b\": 1, \"c\": {\"b\": 2}}, \"b\": {}}]", PN_OK, true);
    CHECK_SKIP("[{\"a\": {\"b\": 1, \"c\": {\"b\": 2}, \"b\": {}}}]", PN_OK, false);
}

static void test_json_refuses(void)
{
    static const char *bad[] = {
        "", " ", "{", "[", "}", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,",
        "{\"a\":1,}", "{,}", "{a:1}", "{'a':1}", "{1:2}", "{\"a\" 1}", "[1}", "{\"a\":1]", "[]]", "1 2", "tru", "True",
        "nul", "nan", "inf", "-", "+1", ".5", "1.", "01", "-01", "1e", "1e+", "0x1", "-NaN", "--1", "-Inf", "Infinit",
        "\"", "\"a", "\"\\", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\u\"", "\"\t\"", "\"\n\"", "\"\x01\"",
        "//", "[1]//", "\xef\xbb\xbf[]", "[1]\x0b", "[\x0c" "1]", "{\"a\": }", "[\"a\": 1]", "{\"a\", 1}", "\"\\U0041\"",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = strlen(bad[i]);
        if (skip(bad[i], n).status != PN_ERR_SYNTAX) fprintf(stderr, "  on %s\n", bad[i]);
        CHECK_EQ_INT(skip(bad[i], n).status, PN_ERR_SYNTAX);
        CHECK_EQ_INT(walk(bad[i], n), PN_ERR_SYNTAX);
    }
    CHECK_SKIP("\"\0\"", PN_ERR_SYNTAX, false);
    CHECK_SKIP("[1\0]", PN_ERR_SYNTAX, false);
    CHECK_SKIP("\"\xff\"", PN_ERR_UTF8, false);
    CHECK_SKIP("[\"abc\xc3\"]", PN_ERR_UTF8, false);
    CHECK_SKIP("{\"\xe4\xb8\": 1}", PN_ERR_UTF8, false);
    CHECK_SKIP("\"\xc0\x80\"", PN_ERR_UTF8, false);
}

static void test_json_every_prefix_is_refused(void)
{
    const char *text = "{\"key\": [1.5, -2, true, null, \"s\\u00e9\\n\", {\"x\": {}}], \"long key of more than 16 bytes\": NaN}";
    for (size_t n = 0; n < strlen(text); n++) {
        CHECK(skip(text, n).status != PN_OK);
        CHECK(walk(text, n) != PN_OK);
    }
    CHECK_EQ_INT(skip(text, strlen(text)).status, PN_OK);
}

static void test_json_errors_have_offsets(void)
{
    CHECK_EQ_INT(skip("[1, x]", 6).offset, 4);
    CHECK_EQ_INT(skip("{\"a\" 1}", 7).offset, 5);
    CHECK_EQ_INT(skip("[\"abc\\x\"]", 9).offset, 5);
    CHECK_EQ_INT(skip("[\"ab\n\"]", 7).offset, 4);
    CHECK_EQ_INT(skip("[\"ab\xff\"]", 7).offset, 4);
    CHECK_EQ_INT(skip("[1] 2", 5).offset, 4);
    CHECK_EQ_INT(skip("[1, \"abc", 8).offset, 4);
    CHECK_EQ_INT(skip("[\"\\n\\n\\q\"]", 10).offset, 6);
}

/* Specials at each place of a long string: the vector loop and its tail. */
static void test_json_strings_of_every_length(void)
{
    char text[80];
    for (size_t n = 0; n < 70; n++) {
        for (size_t at = 0; at <= n; at++) {
            text[0] = '"';
            memset(text + 1, 'a', n);
            text[n + 1] = '"';
            if (at < n) text[1 + at] = '\x1f';
            CHECK_EQ_INT(skip(text, n + 2).status, at < n ? PN_ERR_SYNTAX : PN_OK);
            if (at + 1 >= n) continue;
            memcpy(text + 1 + at, "\\n", 2);
            CHECK(skip(text, n + 2).canonical);
            memcpy(text + 1 + at, "\xc3\xa9", 2);
            CHECK_EQ_INT(skip(text, n + 2).status, PN_OK);
            CHECK(!skip(text, n + 2).canonical);
        }
    }
}

static pn_buf nested(size_t depth, const char *open, const char *close)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    for (size_t i = 0; i < depth; i++) CHECK_EQ_INT(pn_buf_append(&b, open, strlen(open)), PN_OK);
    CHECK_EQ_INT(PN_BUF_LIT(&b, "1"), PN_OK);
    for (size_t i = 0; i < depth; i++) CHECK_EQ_INT(pn_buf_append(&b, close, strlen(close)), PN_OK);
    return b;
}

static void test_json_depth_is_bounded(void)
{
    static const struct {
        size_t depth;
        pn_status want;
    } cases[] = {{PN_JSON_MAX_DEPTH - 1, PN_OK}, {PN_JSON_MAX_DEPTH, PN_OK}, {PN_JSON_MAX_DEPTH + 1, PN_ERR_DEPTH}, {100000, PN_ERR_DEPTH}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pn_buf a = nested(cases[i].depth, "[", "]"), o = nested(cases[i].depth, "{\"a\": ", "}");
        CHECK_EQ_INT(skip((char *)a.data, a.len).status, cases[i].want);
        CHECK_EQ_INT(walk((char *)a.data, a.len), cases[i].want);
        CHECK_EQ_INT(skip((char *)o.data, o.len).status, cases[i].want);
        CHECK_EQ_INT(skip((char *)o.data, o.len).canonical, cases[i].want == PN_OK);
        pn_buf_clear(&a);
        pn_buf_clear(&o);
    }
    /* a span inside open containers has only the rest of the depth */
    pn_buf in = nested(PN_JSON_MAX_DEPTH, "[", "]");
    pn_json_reader r;
    bool more;
    pn_json_reader_init(&r, (pn_bytes){in.data, in.len});
    for (int i = 0; i < 500; i++) {
        CHECK_EQ_INT(pn_json_array_begin(&r), PN_OK);
        CHECK_EQ_INT(pn_json_array_next(&r, &more), PN_OK);
    }
    CHECK_EQ_INT(pn_json_skip(&r, NULL), PN_OK);
    pn_buf_clear(&in);
}

static void test_json_integers_have_a_limit(void)
{
    char *text = malloc(PN_JSON_MAX_INT_DIGITS + 8);
    memset(text, '7', PN_JSON_MAX_INT_DIGITS + 8);
    text[0] = '-';
    CHECK_EQ_INT(skip(text, PN_JSON_MAX_INT_DIGITS + 1).status, PN_OK);
    CHECK_EQ_INT(skip(text, PN_JSON_MAX_INT_DIGITS + 2).status, PN_ERR_UNSUPPORTED);
    memcpy(text + PN_JSON_MAX_INT_DIGITS + 4, ".5", 2);
    CHECK_EQ_INT(skip(text, PN_JSON_MAX_INT_DIGITS + 6).status, PN_OK);
    free(text);
}

/* With more keys than the pool holds, only `true` would be unsafe. */
static void test_json_many_keys(void)
{
    for (int n = 1; n <= 3000; n = n * 3 + 1) {
        pn_buf b;
        char key[32];
        pn_buf_init(&b, &pn_alloc_system);
        for (int i = 0; i < n; i++) {
            int len = sprintf(key, "%s\"k%d\": %d", i ? ", " : "{", i, i);
            CHECK_EQ_INT(pn_buf_append(&b, key, (size_t)len), PN_OK);
        }
        CHECK_EQ_INT(PN_BUF_LIT(&b, "}"), PN_OK);
        result got = skip((char *)b.data, b.len);
        CHECK_EQ_INT(got.status, PN_OK);
        if (n < 1000) CHECK(got.canonical);
        b.len--;
        CHECK_EQ_INT(PN_BUF_LIT(&b, ", \"k0\": 1}"), PN_OK);
        CHECK(!skip((char *)b.data, b.len).canonical);
        pn_buf_clear(&b);
    }
}

/* ---- pulling ---- */

static void test_json_pull(void)
{
    const char *text = " {\"a\" : [1, 2.5 ,\"x\"], \"b\\n\":{}, \"c\": null , \"d\":{\"e\":[]}} ";
    pn_json_reader r;
    pn_json_str s;
    pn_json_num n;
    pn_json_span span;
    bool more;
    double v;
    pn_json_reader_init(&r, (pn_bytes){(const uint8_t *)text, strlen(text)});
    CHECK_EQ_INT(pn_json_peek(&r), PN_JSON_OBJECT);
    CHECK_EQ_INT(pn_json_object_begin(&r), PN_OK);
    CHECK_EQ_INT(pn_json_object_next(&r, &s, &more), PN_OK);
    CHECK(more && s.len == 1 && !s.has_escape && s.ascii && s.canonical);
    CHECK_EQ_INT(pn_json_array_begin(&r), PN_OK);
    CHECK_EQ_INT(pn_json_array_next(&r, &more), PN_OK);
    CHECK_EQ_INT(pn_json_number(&r, &n), PN_OK);
    CHECK(more && n.is_int && n.len == 1);
    CHECK_EQ_INT(pn_json_array_next(&r, &more), PN_OK);
    CHECK_EQ_INT(pn_json_number(&r, &n), PN_OK);
    CHECK_EQ_INT(pn_json_num_double(&n, &v), PN_OK);
    CHECK(!n.is_int && v == 2.5);
    CHECK_EQ_INT(pn_json_array_next(&r, &more), PN_OK);
    CHECK_EQ_INT(pn_json_string(&r, &s), PN_OK);
    CHECK_EQ_INT(pn_json_array_next(&r, &more), PN_OK);
    CHECK(!more);
    CHECK_EQ_INT(pn_json_object_next(&r, &s, &more), PN_OK);
    CHECK(more && s.has_escape && s.len == 3);
    CHECK_EQ_INT(pn_json_skip(&r, &span), PN_OK);
    CHECK(span.type == PN_JSON_OBJECT && span.len == 2 && span.canonical);
    CHECK_EQ_INT(pn_json_object_next(&r, &s, &more), PN_OK);
    CHECK_EQ_INT(pn_json_peek(&r), PN_JSON_NULL);
    CHECK_EQ_INT(pn_json_literal(&r), PN_OK);
    CHECK_EQ_INT(pn_json_object_next(&r, &s, &more), PN_OK);
    CHECK_EQ_INT(pn_json_skip(&r, &span), PN_OK);
    CHECK(span.len == 8 && !span.canonical);
    CHECK_EQ_INT(pn_json_object_next(&r, &s, &more), PN_OK);
    CHECK(!more);
    CHECK_EQ_INT(pn_json_peek(&r), PN_JSON_END);
    CHECK_EQ_INT(pn_json_end(&r), PN_OK);
}

static void test_json_pull_refuses_other_types(void)
{
    pn_json_reader r;
    pn_json_str s;
    pn_json_num n;
    pn_json_reader_init(&r, PN_BYTES("[1]"));
    CHECK_EQ_INT(pn_json_object_begin(&r), PN_ERR_SYNTAX);
    CHECK_EQ_INT(pn_json_string(&r, &s), PN_ERR_SYNTAX);
    CHECK_EQ_INT(pn_json_number(&r, &n), PN_ERR_SYNTAX);
    CHECK_EQ_INT(pn_json_literal(&r), PN_ERR_SYNTAX);
    CHECK_EQ_INT(r.error.offset, 0);
}

/* ---- numbers ---- */

static pn_status num_double(const char *text, double *v)
{
    pn_json_reader r;
    pn_json_num n;
    pn_json_reader_init(&r, (pn_bytes){(const uint8_t *)text, strlen(text)});
    CHECK_EQ_INT(pn_json_number(&r, &n), PN_OK);
    return pn_json_num_double(&n, v);
}

static void test_json_num_double_is_pythons_float(void)
{
    double v;
    char big[400];
    CHECK(num_double("-0", &v) == PN_OK && v == 0 && !signbit(v));
    CHECK(num_double("-0.0", &v) == PN_OK && v == 0 && signbit(v));
    CHECK(num_double("9007199254740993", &v) == PN_OK && v == 9007199254740992.0);
    CHECK(num_double("NaN", &v) == PN_OK && isnan(v));
    CHECK(num_double("-Infinity", &v) == PN_OK && isinf(v) && v < 0);
    CHECK(num_double("1e400", &v) == PN_OK && isinf(v));
    memset(big, '9', 309);
    big[309] = 0;
    CHECK_EQ_INT(num_double(big, &v), PN_ERR_RANGE);
    big[308] = 0;
    CHECK(num_double(big, &v) == PN_OK && v == 1e308);
}

static pn_status doubles(const char *text, double *out, size_t cap, size_t *len, size_t *at)
{
    size_t n = strlen(text);
    uint8_t *copy = exact_copy(text, n);
    pn_json_reader r;
    pn_json_reader_init(&r, (pn_bytes){copy, n});
    pn_status s = pn_json_doubles(&r, out, cap, len);
    *at = (size_t)(r.p - copy);
    free(copy);
    return s;
}

static void test_json_doubles(void)
{
    double v[8];
    size_t n = 77, at;
    const char *text = " [ 0.5, -1,2e3\n, NaN, -Infinity, -0, -0.0, 0]tail";
    CHECK_EQ_INT(doubles(text, v, 8, &n, &at), PN_OK);
    CHECK_EQ_INT(n, 8);
    CHECK_EQ_STR(text + at, "tail");
    CHECK(v[0] == 0.5 && v[1] == -1 && v[2] == 2000 && isnan(v[3]) && isinf(v[4]) && v[4] < 0);
    CHECK(v[5] == 0 && !signbit(v[5]) && signbit(v[6]) && v[7] == 0);
    CHECK_EQ_INT(doubles("[]", v, 0, &n, &at), PN_OK);
    CHECK_EQ_INT(n, 0);
    static const char *bad[] = {"[1, \"a\"]", "[1, [2]]", "[null]", "[1,]", "[1", "[", "1", "[1 2]", "[-]", "[01]", "[1.]",
                                "[1, 2, 3]", " ", "{}", "[1e999, 2}", "[true]", "[,1]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        n = 77;
        CHECK_EQ_INT(doubles(bad[i], v, 2, &n, &at), PN_ERR_UNSUPPORTED);
        CHECK_EQ_INT(at, 0);
        CHECK_EQ_INT(n, 77);
    }
    char big[420] = "[";
    memset(big + 1, '9', 400);
    memcpy(big + 401, "]", 2);
    CHECK_EQ_INT(doubles(big, v, 2, &n, &at), PN_ERR_UNSUPPORTED);
}

/* ---- characters ---- */

static void check_unescape(const char *quoted, const char *want, size_t n)
{
    pn_json_reader r;
    pn_json_str s;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    size_t len = strlen(quoted);
    uint8_t *copy = exact_copy(quoted, len);
    pn_json_reader_init(&r, (pn_bytes){copy, len});
    CHECK_EQ_INT(pn_json_string(&r, &s), PN_OK);
    CHECK_EQ_INT(PN_BUF_LIT(&b, "before"), PN_OK);
    CHECK_EQ_INT(pn_json_unescape(&s, &b), PN_OK);
    CHECK(same_text((pn_bytes){b.data + 6, b.len - 6}, want, n));
    pn_buf_clear(&b);
    free(copy);
}

static void test_json_unescape(void)
{
#define UNESCAPE(quoted, want) check_unescape(quoted, want, sizeof(want) - 1)
    UNESCAPE("\"\"", "");
    UNESCAPE("\"plain\"", "plain");
    UNESCAPE("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t");
    UNESCAPE("\"a\\u0000b\"", "a\0b");
    UNESCAPE("\"\\u00e9\\u4e2D\"", "\xc3\xa9\xe4\xb8\xad");
    UNESCAPE("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80");
    UNESCAPE("\"\\ud83dx\"", "\xed\xa0\xbdx");
    UNESCAPE("\"\\ud83d\"", "\xed\xa0\xbd");
    UNESCAPE("\"\\ude00\\ud83d\"", "\xed\xb8\x80\xed\xa0\xbd");
    UNESCAPE("\"\\ud83d\\ud83d\\ude00\"", "\xed\xa0\xbd\xf0\x9f\x98\x80");
    UNESCAPE("\"\\ud83d\\n\"", "\xed\xa0\xbd\n");
    UNESCAPE("\"\xed\xa0\xbd\\ude00\"", "\xed\xa0\xbd\xed\xb8\x80"); /* not an escape pair */
    UNESCAPE("\"\xc3\xa9\\n\"", "\xc3\xa9\n");
}

static void test_json_unescape_refuses_what_no_reader_gives(void)
{
    static const char *bad[] = {"\\", "\\u12", "\\uzzzz"};
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    for (size_t i = 0; i < 3; i++) {
        pn_json_str s = {(const uint8_t *)bad[i], strlen(bad[i]), true, true, false};
        CHECK_EQ_INT(pn_json_unescape(&s, &b), PN_ERR_INVALID);
        CHECK_EQ_INT(b.len, 0);
    }
    pn_buf_clear(&b);
}

/* ---- canonicalizing ---- */

static void check_canonical(const char *text, const char *want)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(PN_BUF_LIT(&b, "@"), PN_OK);
    CHECK_EQ_INT(pn_json_canonicalize((pn_bytes){(const uint8_t *)text, strlen(text)}, &pn_alloc_system, &b), PN_OK);
    CHECK_TEXT(((pn_bytes){b.data + 1, b.len - 1}), want);
    CHECK(skip((char *)b.data + 1, b.len - 1).canonical);
    pn_buf_clear(&b);
}

static void test_json_canonicalize(void)
{
    check_canonical("{\"a\":[ 1,2.50,-0 ],\"b\":{ }}", "{\"a\": [1, 2.5, 0], \"b\": {}}");
    check_canonical("[1E5, 1e400, -1e400, NaN, 0.00001, 1e16, -0.0]", "[100000.0, Infinity, -Infinity, NaN, 1e-05, 1e+16, -0.0]");
    check_canonical("\"\\/\\u0041\xc3\xa9\x7f\xf0\x9f\x98\x80\"", "\"/A\\u00e9\\u007f\\ud83d\\ude00\"");
    check_canonical(" null ", "null");
    check_canonical("[]", "[]");
    check_canonical("[[ ], { }, [[1]]]", "[[], {}, [[1]]]");
    /* duplicates: the last value in the first place */
    check_canonical("{\"a\": 1, \"b\": 2, \"a\": 3}", "{\"a\": 3, \"b\": 2}");
    check_canonical("{\"a\": 1, \"\\u0061\": {\"x\": 1, \"x\": 2}, \"b\": 2}", "{\"a\": {\"x\": 2}, \"b\": 2}");
    check_canonical("[{\"a\": {\"b\": 1, \"b\": {\"c\": 1, \"c\": 2}}, \"a\": 5}, 1]", "[{\"a\": 5}, 1]");
    check_canonical("{\"a\": 1, \"a\": [1, 2, 3, \"longer than before\"]}", "{\"a\": [1, 2, 3, \"longer than before\"]}");
    check_canonical("{\"\": 1, \"\": 2, \"\": 3}", "{\"\": 3}");
}

static void test_json_canonicalize_many_duplicates(void)
{
    pn_buf in, want;
    char item[64];
    pn_buf_init(&in, &pn_alloc_system);
    pn_buf_init(&want, &pn_alloc_system);
    for (int i = 0; i < 9000; i++) {
        int n = sprintf(item, "%s\"key%d\":%d", i ? "," : "{", i % 3000, i);
        CHECK_EQ_INT(pn_buf_append(&in, item, (size_t)n), PN_OK);
        n = sprintf(item, "%s\"key%d\": %d", i ? ", " : "{", i, i + 6000);
        if (i < 3000) CHECK_EQ_INT(pn_buf_append(&want, item, (size_t)n), PN_OK);
    }
    CHECK_EQ_INT(pn_buf_push(&in, '}'), PN_OK);
    CHECK_EQ_INT(pn_buf_push(&want, '}'), PN_OK);
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_json_canonicalize(pn_buf_view(&in), &pn_alloc_system, &out), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&out), pn_buf_view(&want)));
    pn_buf_clear(&in);
    pn_buf_clear(&want);
    pn_buf_clear(&out);
}

static void test_json_canonicalize_errors_leave_the_output(void)
{
    static const char *bad[] = {"[1, ]", "", "[1] x", "{\"\xed\xa0\xbd\xed\xb8\x80\": 1}"};
    static const pn_status want[] = {PN_ERR_SYNTAX, PN_ERR_SYNTAX, PN_ERR_SYNTAX, PN_ERR_UNSUPPORTED};
    for (size_t i = 0; i < 4; i++) {
        pn_buf b;
        pn_buf_init(&b, &pn_alloc_system);
        CHECK_EQ_INT(PN_BUF_LIT(&b, "kept"), PN_OK);
        CHECK_EQ_INT(pn_json_canonicalize((pn_bytes){(const uint8_t *)bad[i], strlen(bad[i])}, &pn_alloc_system, &b), want[i]);
        CHECK_TEXT(pn_buf_view(&b), "kept");
        pn_buf_clear(&b);
    }
}

/* {"k0": 0, "k1": 1, ...}, more keys than a span's bit keeps count of. */
static void many_keys(pn_buf *out, int n)
{
    char part[32];
    for (int i = 0; i < n; i++) {
        int len = snprintf(part, sizeof part, "%s\"k%d\": %d", i ? ", " : "{", i, i);
        CHECK_EQ_INT(pn_buf_append(out, part, (size_t)len), PN_OK);
    }
    CHECK_EQ_INT(pn_buf_push(out, '}'), PN_OK);
}

static bool is_canonical(const char *text, size_t n)
{
    bool canonical = false;
    CHECK_EQ_INT(pn_json_is_canonical((pn_bytes){(const uint8_t *)text, n}, &pn_alloc_system, &canonical), PN_OK);
    return canonical;
}

static void test_json_is_canonical_with_very_many_keys(void)
{
    pn_buf b;
    bool canonical;
    pn_buf_init(&b, &pn_alloc_system);
    many_keys(&b, 3000);
    CHECK_EQ_INT(pn_json_check(pn_buf_view(&b), &canonical), PN_OK);
    CHECK(!canonical); /* else this tests nothing */
    CHECK(is_canonical((const char *)b.data, b.len));
    memcpy(strstr((char *)b.data, "k2999"), "k2998", 5); /* a key twice */
    CHECK(!is_canonical((const char *)b.data, b.len));
    pn_buf_clear(&b);
    const char *other[] = {"[1,2]", "1.50", "[1] ", "{\"\xed\xa0\x80\xed\xb0\x80\": 1}"};
    CHECK_EQ_INT(pn_json_is_canonical(PN_BYTES("\"\xe9\""), &pn_alloc_system, &canonical), PN_ERR_UTF8);
    CHECK_EQ_INT(pn_json_is_canonical(PN_BYTES("[1"), &pn_alloc_system, &canonical), PN_ERR_SYNTAX);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) CHECK(!is_canonical(other[i], strlen(other[i])));
    CHECK(is_canonical("[1, 2]", 6));
}

static pn_status check_many_keys(const pn_alloc *alloc, pn_bytes text)
{
    bool canonical = false;
    pn_status s = pn_json_is_canonical(text, alloc, &canonical);
    CHECK(canonical == (s == PN_OK));
    return s;
}

static void test_json_is_canonical_survives_oom(void)
{
    pn_status s;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    many_keys(&b, 1100);
    EACH_ALLOCATION_FAILED(f, s, s = check_many_keys(&f.alloc, pn_buf_view(&b)));
    pn_buf_clear(&b);
}

static pn_status canonicalize(const pn_alloc *alloc)
{
    const char *text = "{\"a\":[\"\\u0041\xc3\xa9\",1.50,{\"k\":1,\"k\":{\"z\":1}}],\"b\":1,\"a\":2,"
                       "\"00\":0,\"01\":0,\"02\":0,\"03\":0,\"04\":0,\"05\":0,\"06\":0,\"07\":0,\"08\":0,\"09\":0,"
                       "\"10\":0,\"11\":0,\"12\":0,\"13\":0,\"14\":0,\"15\":0,\"16\":0,\"17\":0,\"18\":0,\"19\":0}";
    pn_buf b;
    pn_buf_init(&b, alloc);
    pn_status s = pn_json_canonicalize((pn_bytes){(const uint8_t *)text, strlen(text)}, alloc, &b);
    if (s != PN_OK) CHECK_EQ_INT(b.len, 0);
    pn_buf_clear(&b);
    return s;
}

static void test_json_canonicalize_survives_oom(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = canonicalize(&f.alloc));
}

int main(void)
{
    RUN(test_json_accepts_and_marks_canonical);
    RUN(test_json_refuses);
    RUN(test_json_every_prefix_is_refused);
    RUN(test_json_errors_have_offsets);
    RUN(test_json_strings_of_every_length);
    RUN(test_json_depth_is_bounded);
    RUN(test_json_integers_have_a_limit);
    RUN(test_json_many_keys);
    RUN(test_json_pull);
    RUN(test_json_pull_refuses_other_types);
    RUN(test_json_num_double_is_pythons_float);
    RUN(test_json_doubles);
    RUN(test_json_unescape);
    RUN(test_json_unescape_refuses_what_no_reader_gives);
    RUN(test_json_canonicalize);
    RUN(test_json_canonicalize_many_duplicates);
    RUN(test_json_canonicalize_errors_leave_the_output);
    RUN(test_json_is_canonical_with_very_many_keys);
    RUN(test_json_is_canonical_survives_oom);
    RUN(test_json_canonicalize_survives_oom);
    return check_summary();
}
