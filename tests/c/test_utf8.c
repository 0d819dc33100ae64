/* UTF-8 as Python's "surrogatepass" has it. The reference below reads the definition
 * instead of the bytes' classes: decode, then demand the shortest form. */
#include "base/utf8.h"
#include "codec_check.h"

static size_t reference_length(const uint8_t *p, size_t n)
{
    if (n == 0) return 0;
    size_t len = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    if (len == 0 || len > n) return 0;
    uint32_t cp = len == 1 ? p[0] : p[0] & (0x7f >> len);
    for (size_t i = 1; i < len; i++) {
        if (p[i] >> 6 != 2) return 0;
        cp = cp << 6 | (p[i] & 0x3f);
    }
    uint8_t again[4];
    return cp <= 0x10ffff && pn_utf8_put(cp, again) == len ? len : 0;
}

static size_t valid(const char *text, size_t n, bool *surrogates)
{
    uint8_t *copy = exact_copy(text, n);
    size_t len = pn_utf8_valid_prefix((pn_bytes){copy, n}, surrogates);
    free(copy);
    return len;
}

static void test_utf8_every_code_point_round_trips(void)
{
    uint8_t text[4];
    int wrong = 0;
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        size_t n = pn_utf8_put(cp, text);
        const uint8_t *p = text;
        bool surrogates;
        wrong += pn_utf8_valid_prefix((pn_bytes){text, n}, &surrogates) != n;
        wrong += surrogates != (cp >= 0xd800 && cp < 0xe000);
        wrong += pn_utf8_next(&p) != cp || p != text + n;
    }
    CHECK_EQ_INT(wrong, 0);
}

static void test_utf8_every_three_bytes_as_defined(void)
{
    int wrong = 0;
    uint8_t t[4] = {0, 0, 0, 0x80};
    for (int a = 0x7f; a < 256; a++)
        for (int b = 0x7f; b < 256; b++)
            for (int c = 0x7e; c < 256; c += 1) {
                t[0] = (uint8_t)a, t[1] = (uint8_t)b, t[2] = (uint8_t)c;
                size_t want = 0, n;
                while ((n = reference_length(t + want, 4 - want)) > 0) want += n;
                wrong += pn_utf8_valid_prefix((pn_bytes){t, 4}, NULL) != want;
            }
    CHECK_EQ_INT(wrong, 0);
}

static void test_utf8_prefix_ends_at_the_first_wrong_byte(void)
{
    bool surrogates;
    CHECK_EQ_INT(valid("", 0, &surrogates), 0);
    CHECK(!surrogates);
    CHECK_EQ_INT(valid("abcdefgh\xff", 9, NULL), 8);
    CHECK_EQ_INT(valid("abcdefghijkl\xc3", 13, NULL), 12);
    CHECK_EQ_INT(valid("\xc3\xa9\xe4\xb8", 4, NULL), 2);
    CHECK_EQ_INT(valid("\xf0\x9f\x98\x80", 4, NULL), 4);
    CHECK_EQ_INT(valid("\xf0\x9f\x98", 3, NULL), 0);
    CHECK_EQ_INT(valid("\xc0\x80", 2, NULL), 0);
    CHECK_EQ_INT(valid("\xf4\x90\x80\x80", 4, NULL), 0);
    CHECK_EQ_INT(valid("x\xed\xa0\xbd", 4, &surrogates), 4);
    CHECK(surrogates);
}

int main(void)
{
    RUN(test_utf8_every_code_point_round_trips);
    RUN(test_utf8_every_three_bytes_as_defined);
    RUN(test_utf8_prefix_ends_at_the_first_wrong_byte);
    return check_summary();
}
