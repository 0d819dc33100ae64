/* The codec against suites that others wrote: JSONTestSuite with what Python's json makes
 * of each file, and msgpack-test-suite. Read with our own reader; each part says so and
 * is skipped where the data is not there. */
#include "codec/json_read.h"
#include "codec/mpack.h"
#include "codec_check.h"

#include <math.h>

/* ---- small helpers over the reader ---- */

static void text_of(const pn_json_str *s, pn_buf *out)
{
    out->len = 0;
    CHECK_EQ_INT(pn_json_unescape(s, out), PN_OK);
}

static bool is_key(const pn_json_str *s, const char *text) { return s->len == strlen(text) && memcmp(s->ptr, text, s->len) == 0; }

/* The next key of the object, in `key`; false at its end. */
static bool next_key(pn_json_reader *r, pn_json_str *key)
{
    bool more = false;
    CHECK_EQ_INT(pn_json_object_next(r, key, &more), PN_OK);
    return more;
}

/* ---- JSONTestSuite ---- */

static long accepted, refused;

/* json.loads guesses UTF-16 and UTF-32 from byte order marks and zeros; not ours. */
static bool is_utf8_to_python(pn_bytes *text)
{
    if (text->len >= 3 && memcmp(text->ptr, "\xef\xbb\xbf", 3) == 0) {
        *text = (pn_bytes){text->ptr + 3, text->len - 3};
        return true;
    }
    if (text->len >= 2 && (memcmp(text->ptr, "\xff\xfe", 2) == 0 || memcmp(text->ptr, "\xfe\xff", 2) == 0)) return false;
    for (size_t i = 0; i < 4 && i < text->len; i++)
        if (text->ptr[i] == 0) return false;
    return true;
}

/* The outcomes hold the first 200 characters of a text. */
static bool as_recorded(const pn_buf *got, const pn_buf *dumps)
{
    size_t n = dumps->len == 200 && got->len > 200 ? 200 : got->len;
    return pn_bytes_equal((pn_bytes){got->data, n}, pn_buf_view(dumps));
}

/* `dumps`: what Python writes again, or NULL when it refuses the file. */
static void check_file(const char *name, const pn_buf *dumps)
{
    char path[300];
    pn_buf file, out;
    pn_buf_init(&file, &pn_alloc_system);
    pn_buf_init(&out, &pn_alloc_system);
    snprintf(path, sizeof path, "JSONTestSuite/%s", name);
    CHECK(read_data(path, &file));
    pn_bytes text = pn_buf_view(&file);
    if (is_utf8_to_python(&text)) {
        uint8_t *copy = exact_copy(text.ptr, text.len);
        pn_status s = pn_json_canonicalize((pn_bytes){copy, text.len}, &pn_alloc_system, &out);
        free(copy);
        if ((s == PN_OK) != (dumps != NULL)) fprintf(stderr, "  in %s: %s\n", name, pn_status_text(s));
        CHECK_EQ_INT(s == PN_OK, dumps != NULL);
        if (dumps != NULL && !as_recorded(&out, dumps)) fprintf(stderr, "  in %s\n", name);
        CHECK(dumps == NULL || as_recorded(&out, dumps));
        ++*(dumps ? &accepted : &refused);
    }
    pn_buf_clear(&file);
    pn_buf_clear(&out);
}

static void check_case(pn_json_reader *r, const pn_json_str *name)
{
    pn_json_str key, value;
    pn_buf dumps, path;
    bool ok = false;
    pn_buf_init(&dumps, &pn_alloc_system);
    pn_buf_init(&path, &pn_alloc_system);
    CHECK_EQ_INT(pn_json_object_begin(r), PN_OK);
    while (next_key(r, &key)) {
        if (!is_key(&key, "dumps")) {
            CHECK_EQ_INT(pn_json_skip(r, NULL), PN_OK);
            continue;
        }
        CHECK_EQ_INT(pn_json_string(r, &value), PN_OK);
        text_of(&value, &dumps);
        ok = true;
    }
    text_of(name, &path);
    CHECK_EQ_INT(pn_buf_push(&path, 0), PN_OK);
    check_file((char *)path.data, ok ? &dumps : NULL);
    pn_buf_clear(&dumps);
    pn_buf_clear(&path);
}

static void test_json_suite_as_python_takes_it(void)
{
    pn_buf file;
    pn_json_reader r;
    pn_json_str key, name;
    pn_buf_init(&file, &pn_alloc_system);
    if (!read_data("JSONTestSuite_python_outcomes.json", &file)) return;
    pn_json_reader_init(&r, pn_buf_view(&file));
    CHECK_EQ_INT(pn_json_object_begin(&r), PN_OK);
    while (next_key(&r, &key)) {
        if (!is_key(&key, "cases")) {
            CHECK_EQ_INT(pn_json_skip(&r, NULL), PN_OK);
            continue;
        }
        CHECK_EQ_INT(pn_json_object_begin(&r), PN_OK);
        while (next_key(&r, &name)) check_case(&r, &name);
    }
    CHECK_EQ_INT(pn_json_end(&r), PN_OK);
    CHECK(accepted > 120 && refused > 150);
    pn_buf_clear(&file);
}

/* ---- msgpack-test-suite ---- */

static long encodings;

/* "c4-01-ff" to bytes. */
static size_t from_hex(const pn_json_str *s, uint8_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i + 1 < s->len; i += 3) {
        char two[3] = {(char)s->ptr[i], (char)s->ptr[i + 1], 0};
        out[n++] = (uint8_t)strtol(two, NULL, 16);
    }
    return n;
}

static pn_status without_value; /* what a case should give that JSON cannot hold */

/* Types 1 and 2 are ours: 1 holds digits (the suite's case does not), 2 any text. */
static pn_status read_ext(pn_json_reader *r)
{
    pn_json_num type;
    bool more;
    CHECK_EQ_INT(pn_json_array_begin(r), PN_OK);
    CHECK_EQ_INT(pn_json_array_next(r, &more), PN_OK);
    CHECK_EQ_INT(pn_json_number(r, &type), PN_OK);
    CHECK_EQ_INT(pn_json_array_next(r, &more), PN_OK);
    CHECK_EQ_INT(pn_json_skip(r, NULL), PN_OK);
    CHECK_EQ_INT(pn_json_array_next(r, &more), PN_OK);
    return *type.ptr == '1' ? PN_ERR_CORRUPT : *type.ptr == '2' ? PN_OK : PN_ERR_UNSUPPORTED;
}

/* A case's value as canonical JSON; empty for what JSON cannot hold. */
static void read_expected(pn_json_reader *r, const pn_json_str *kind, pn_buf *want)
{
    pn_json_span span;
    pn_json_str big;
    if (is_key(kind, "bignum")) {
        want->len = 0;
        CHECK_EQ_INT(pn_json_string(r, &big), PN_OK);
        text_of(&big, want);
        return;
    }
    without_value = PN_ERR_UNSUPPORTED;
    if (is_key(kind, "ext")) {
        without_value = read_ext(r);
        return;
    }
    CHECK_EQ_INT(pn_json_skip(r, &span), PN_OK);
    if (want->len || is_key(kind, "binary") || is_key(kind, "timestamp")) return;
    CHECK_EQ_INT(pn_json_canonicalize((pn_bytes){span.ptr, span.len}, &pn_alloc_system, want), PN_OK);
}

/* Floats may stand for integers in the suite: then the numbers must be equal. */
static bool same_value(const pn_buf *got, const pn_buf *want, uint8_t head)
{
    if (pn_bytes_equal(pn_buf_view(got), pn_buf_view(want))) return true;
    char a[64] = "", b[64] = "";
    if (got->len >= sizeof a || want->len >= sizeof b || (head != 0xca && head != 0xcb)) return false;
    memcpy(a, got->data, got->len);
    memcpy(b, want->data, want->len);
    return strtod(a, NULL) == strtod(b, NULL);
}

static void check_encodings(pn_json_reader *r, const pn_buf *want)
{
    uint8_t bytes[4096];
    bool more, written = want->len == 0;
    pn_json_str s;
    pn_buf out, again;
    pn_buf_init(&out, &pn_alloc_system);
    pn_buf_init(&again, &pn_alloc_system);
    if (want->len) CHECK_EQ_INT(pn_mpack_from_json(pn_buf_view(want), &pn_alloc_system, &again), PN_OK);
    CHECK_EQ_INT(pn_json_array_begin(r), PN_OK);
    for (;;) {
        CHECK_EQ_INT(pn_json_array_next(r, &more), PN_OK);
        if (!more) break;
        CHECK_EQ_INT(pn_json_string(r, &s), PN_OK);
        size_t n = from_hex(&s, bytes);
        uint8_t *copy = exact_copy(bytes, n);
        out.len = 0;
        pn_status got = pn_mpack_to_json((pn_bytes){copy, n}, &out, NULL);
        free(copy);
        if (want->len == 0)
            CHECK_EQ_INT(got, without_value);
        else
            CHECK(got == PN_OK && same_value(&out, want, bytes[0]));
        written |= pn_bytes_equal(pn_buf_view(&again), (pn_bytes){bytes, n});
        encodings++;
    }
    if (!written) fprintf(stderr, "  writing %.*s\n", (int)want->len, (char *)want->data);
    CHECK(written); /* what we write is one of the suite's forms */
    pn_buf_clear(&out);
    pn_buf_clear(&again);
}

static void check_group(pn_json_reader *r)
{
    bool more;
    pn_json_str key;
    pn_buf want;
    pn_buf_init(&want, &pn_alloc_system);
    CHECK_EQ_INT(pn_json_array_begin(r), PN_OK);
    for (;;) {
        CHECK_EQ_INT(pn_json_array_next(r, &more), PN_OK);
        if (!more) break;
        want.len = 0;
        CHECK_EQ_INT(pn_json_object_begin(r), PN_OK);
        while (next_key(r, &key)) {
            if (is_key(&key, "msgpack"))
                check_encodings(r, &want);
            else
                read_expected(r, &key, &want);
        }
    }
    pn_buf_clear(&want);
}

static void test_msgpack_suite(void)
{
    pn_buf file;
    pn_json_reader r;
    pn_json_str key;
    pn_buf_init(&file, &pn_alloc_system);
    if (!read_data("msgpack-test-suite/cases.json", &file)) return;
    pn_json_reader_init(&r, pn_buf_view(&file));
    CHECK_EQ_INT(pn_json_object_begin(&r), PN_OK);
    while (next_key(&r, &key)) check_group(&r);
    CHECK_EQ_INT(pn_json_end(&r), PN_OK);
    CHECK(encodings > 200);
    pn_buf_clear(&file);
}

int main(void)
{
    RUN(test_json_suite_as_python_takes_it);
    RUN(test_msgpack_suite);
    printf("JSON files: %ld accepted, %ld refused; MessagePack encodings: %ld\n", accepted, refused, encodings);
    return check_summary();
}
