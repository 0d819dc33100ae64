/* JSON text as pydantic writes it; that it does is checked from Python, on random values. */
#include "codec/json_raw.h"

#include "codec_check.h"
#include "fail_alloc.h"

static void check_string(const char *text, size_t n, const char *want)
{
    pn_buf b;
    uint8_t *copy = exact_copy(text, n);
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_json_raw_string(&b, (pn_bytes){copy, n}), PN_OK);
    CHECK_TEXT(pn_buf_view(&b), want);
    pn_buf_clear(&b);
    free(copy);
}

static void test_strings(void)
{
#define STRING(text, want) check_string(text, sizeof(text) - 1, want)
    STRING("", "\"\"");
    STRING("plain ~ text of more than sixteen bytes", "\"plain ~ text of more than sixteen bytes\"");
    STRING("\"\\/\n\r\t\b\f", "\"\\\"\\\\/\\n\\r\\t\\b\\f\"");
    STRING("\0\x01\x1f\x7f", "\"\\u0000\\u0001\\u001f\x7f\"");
    STRING("\xc3\xa9 and \xf0\x9f\x98\x80, then \"text\" of some length", "\"\xc3\xa9 and \xf0\x9f\x98\x80, then \\\"text\\\" of some length\"");
}

static void check_double(double v, const char *want)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_json_raw_double(&b, v), PN_OK);
    CHECK_TEXT(pn_buf_view(&b), want);
    pn_buf_clear(&b);
}

static void test_doubles(void)
{
    check_double(0.0, "0.0");
    check_double(-0.0, "-0.0");
    check_double(0.1, "0.1");
    check_double(0.0001, "0.0001");
    check_double(1e-5, "0.00001");
    check_double(-1.2345678901234567e-5, "-0.000012345678901234568");
    check_double(9.99e-6, "9.99e-6");
    check_double(-1e-9, "-1e-9");
    check_double(1e-10, "1e-10");
    check_double(1e16, "1e+16");
    check_double(1.7976931348623157e308, "1.7976931348623157e+308");
    check_double(5e-324, "5e-324");
}

static pn_status work(const pn_alloc *alloc)
{
    pn_buf b;
    pn_buf_init(&b, alloc);
    pn_status s = PN_OK;
    for (int i = 0; i < 40 && s == PN_OK; i++) {
        s = pn_json_raw_string(&b, PN_BYTES("a \"quoted\" text"));
        if (s == PN_OK) s = pn_json_raw_double(&b, 1.5e-5);
        if (s == PN_OK) s = pn_json_raw_double(&b, 1.5e-7);
    }
    pn_buf_clear(&b);
    return s;
}

static void test_every_allocation_may_fail(void)
{
    pn_status s = PN_OK;
    EACH_ALLOCATION_FAILED(f, s, s = work(&f.alloc));
}

int main(void)
{
    RUN(test_strings);
    RUN(test_doubles);
    RUN(test_every_allocation_may_fail);
    return check_summary();
}
