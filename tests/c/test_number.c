/* Doubles to and from text. The references are the C library's: strtod, and the first
 * %.{n}e that strtod reads back. */
#include "codec/number.h"
#include "codec_check.h"

#include <math.h>

static double from_bits(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

static uint64_t to_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits;
}

static const char *print(double v)
{
    static char text[PN_DOUBLE_TEXT_MAX + 2];
    memset(text, '#', sizeof text);
    size_t n = pn_double_print(v, text);
    CHECK(n < PN_DOUBLE_TEXT_MAX && text[PN_DOUBLE_TEXT_MAX] == '#');
    text[n] = 0;
    return text;
}

/* Reads the whole text from a block of just its size; NULL when not all is a number. */
static bool read_all(const char *text, double *out)
{
    size_t n = strlen(text);
    uint8_t *copy = exact_copy(text, n);
    const uint8_t *end = pn_double_read(copy, copy + n, out);
    bool all = end == copy + n;
    free(copy);
    return all;
}

static void test_number_prints_as_python(void)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {0.0, "0.0"}, {-0.0, "-0.0"}, {1.0, "1.0"}, {-1.5, "-1.5"}, {0.1, "0.1"}, {100.0, "100.0"},
        {0.0001, "0.0001"}, {0.00001, "1e-05"}, {-0.000012345, "-1.2345e-05"}, {1e15, "1000000000000000.0"},
        {1e16, "1e+16"}, {9999999999999998.0, "9999999999999998.0"}, {1.2345678901234568e+17, "1.2345678901234568e+17"},
        {1e22, "1e+22"}, {1e23, "1e+23"}, {1e100, "1e+100"}, {5e-324, "5e-324"}, {-5e-324, "-5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"}, {-2.2250738585072014e-308, "-2.2250738585072014e-308"},
        {0.30000000000000004, "0.30000000000000004"}, {123456.789, "123456.789"}, {5.684341886080802e-14, "5.684341886080802e-14"},
        {9007199254740993.0, "9007199254740992.0"}, {0.0355224609375, "0.0355224609375"},
        {-0.03543214499950409, "-0.03543214499950409"}, {0.00123456789012345678, "0.0012345678901234567"},
        {12345678.123456789, "12345678.12345679"}, {1234567890123456.5, "1234567890123456.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) CHECK_EQ_STR(print(cases[i].v), cases[i].text);
    CHECK_EQ_STR(print((double)INFINITY), "Infinity");
    CHECK_EQ_STR(print(-(double)INFINITY), "-Infinity");
    CHECK_EQ_STR(print((double)NAN), "NaN");
    CHECK_EQ_STR(print(-(double)NAN), "NaN");
}

/* Digits (no point, no zeros around) and exponent of printed text. */
static int digits_of(const char *text, char *digits)
{
    int n = 0, point = -1, exponent = 0, seen = 0;
    for (; *text; text++) {
        if (*text == 'e') {
            exponent = atoi(text + 1);
            break;
        }
        if (*text == '.') point = seen;
        if (*text < '0' || *text > '9') continue;
        seen++;
        digits[n++] = *text;
    }
    if (point < 0) point = seen;
    int leading = 0;
    while (leading < n - 1 && digits[leading] == '0') leading++;
    memmove(digits, digits + leading, (size_t)(n -= leading));
    while (n > 1 && digits[n - 1] == '0') n--;
    digits[n] = 0;
    return point - leading + exponent;
}

/* For powers of two the nearest short decimal may lie beyond the near edge of the
 * interval; the reference does not know, so they are left to the table above. */
static void check_shortest(double v)
{
    char text[40], got[40], want[40];
    for (int p = 0; p < 17; p++) {
        snprintf(text, sizeof text, "%.*e", p, v);
        if (strtod(text, NULL) == v) break;
    }
    int a = digits_of(print(v), got), b = digits_of(text, want);
    if (a != b || strcmp(got, want) != 0) CHECK_EQ_STR(print(v), text);
}

static double random_double(uint64_t *rnd)
{
    uint64_t r = random_next(rnd);
    switch (r % 4) {
    case 0: return (double)(float)((double)(int64_t)random_next(rnd) * 0x1p-66);
    case 1: return (double)(random_next(rnd) % 1000000) / 1000;
    default: return from_bits(random_next(rnd));
    }
}

static void test_number_prints_the_shortest_that_reads_back(void)
{
    uint64_t rnd = 11;
    for (int i = 0; i < 30000; i++) {
        double v = random_double(&rnd), again;
        if (!isfinite(v)) continue;
        CHECK(read_all(print(v), &again) && to_bits(again) == to_bits(v));
        if ((to_bits(v) << 12) != 0) check_shortest(v);
    }
    for (int e = -1074; e < 1024; e++)
        for (int d = -1; d <= 1; d++) {
            double again, v = from_bits(to_bits(ldexp(1, e)) + (uint64_t)(int64_t)d);
            CHECK(read_all(print(v), &again) && to_bits(again) == to_bits(v));
        }
}

static void test_number_reads_only_the_grammar(void)
{
    static const char *bad[] = {"", "-", "+1", ".5", "-.5", "1.", "1.e5", "01", "-01", "1e", "1e+", "1e-x", "0x10",
                                "1_0", "inf", "nan", "NaN", "Infinity", " 1", "1 ", "1,", "--1", "1.5.5"};
    static const char *good[] = {"0", "-0", "10", "0.5", "1e5", "1E+5", "1e-05", "12345678", "1234567890.12345678",
                                 "0.00000000000000000000000000000000001", "1e0000000000000000000000000000001"};
    double v;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (read_all(bad[i], &v)) fprintf(stderr, "  accepted %s\n", bad[i]);
        CHECK(!read_all(bad[i], &v));
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(read_all(good[i], &v));
        CHECK(v == strtod(good[i], NULL));
    }
}

static void test_number_overflow_and_underflow(void)
{
    static const char *text[] = {"1e400", "-1e400", "1e-400", "-1e-400", "1e99999999999999999999", "1e-99999999999999999999",
                                 "0e99999999999999999999", "-0.0e400", "1.7976931348623158e308", "1.7976931348623159e308",
                                 "2.4703282292062327e-324", "2.4703282292062328e-324"};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        double v = 1;
        CHECK(read_all(text[i], &v));
        CHECK(to_bits(v) == to_bits(strtod(text[i], NULL)));
    }
}

/* Digits without end, zeros in front and behind, exact halves. */
static void test_number_reads_long_literals(void)
{
    uint64_t rnd = 21;
    for (int i = 0; i < 20000; i++) {
        char text[500];
        int n = sprintf(text, "%s%d.", random_next(&rnd) % 2 ? "-" : "", (int)(random_next(&rnd) % 3));
        for (uint64_t zeros = random_next(&rnd) % 3 ? 0 : random_next(&rnd) % 340; zeros; zeros--) text[n++] = '0';
        for (uint64_t d = 1 + random_next(&rnd) % 40; d; d--) text[n++] = (char)('0' + random_next(&rnd) % 10);
        if (random_next(&rnd) % 2) n += sprintf(text + n, "e%d", (int)(random_next(&rnd) % 700) - 350);
        text[n] = 0;
        double v;
        CHECK(read_all(text, &v));
        CHECK(to_bits(v) == to_bits(strtod(text, NULL)));
    }
    for (int i = 0; i < 2000; i++) { /* 2m+1 halves of a unit: between two doubles */
        uint64_t m = random_next(&rnd) >> 11 | (uint64_t)1 << 52;
        char text[64];
        double v;
        snprintf(text, sizeof text, "%llu.5%s", (unsigned long long)m, i % 3 == 0 ? "0000000000001" : i % 3 == 1 ? "000" : "");
        CHECK(read_all(text, &v));
        CHECK(to_bits(v) == to_bits(strtod(text, NULL)));
    }
}

/* One number of a row: what embeddings look like, and what is nearly that. */
static int put_number(char *to, uint64_t *rnd)
{
    static const char *near[] = {"0.0", "-0.0", "0", "-0", "7", "10.5", "1e-05", "-2.5e-07", "0.1e5", "NaN", "-Infinity",
                                 "0.5", "-0.25", "9.000000000000000000000001", "0.0000000000000000000000001",
                                 "9.9999999999999999", "9.99999999999999999999", "0.1844674407370955161600",
                                 "0.0001844674407370955161", "0.999999999999999944488848768742172978818416595458984375",
                                 "0.9999999999999999444", "1.00000000000000011102", "1.0000000000000003", "0.1 ", "0.1\t"};
    uint64_t r = random_next(rnd);
    double v = (double)(int64_t)random_next(rnd) * 0x1p-63;
    switch (r % 8) {
    case 0: return sprintf(to, "%s", near[(r >> 8) % (sizeof near / sizeof *near)]);
    case 1: return sprintf(to, "%s", print((double)(float)v));
    case 2: return sprintf(to, "%s", print((double)(float)(v * 0x1p-8)));
    case 3: return sprintf(to, "%s", print(v * 9));
    case 4: return sprintf(to, "%.*f", (int)(r >> 8) % 26, v * 3);
    case 5: return sprintf(to, "%.*f", (int)(r >> 8) % 26, v * 1e-6);
    case 6: return sprintf(to, "%lld.5", (long long)(random_next(rnd) >> (10 + (r >> 8) % 54)));
    default: return sprintf(to, "%s", print(v));
    }
}

/* Every number that the run takes is what pn_double_read reads there, and a comma follows. */
static size_t check_run(const char *text, size_t n)
{
    double v[64], one;
    size_t len;
    uint8_t *copy = exact_copy(text, n);
    const uint8_t *p = copy, *end = copy + n, *stop = pn_double_run(copy, copy + 1, end, v, 64, &len);
    CHECK_EQ_INT(len == 0 ? stop == copy + 1 : 1, 1); /* nothing to look back at: it need not try */
    size_t taken = 0;
    for (p = copy; p < end; p = (p = memchr(p, ',', (size_t)(end - p))) == NULL ? end : p + 1) {
        while (p < end && *p == ' ') p++;
        stop = pn_double_run(copy, p, end, v, 64, &len);
        CHECK(stop >= p && stop <= end && len <= 64);
        for (size_t i = 0; i < len; i++, taken++) {
            const uint8_t *behind = pn_double_read(p, end, &one);
            CHECK(behind != NULL && *behind == ',' && to_bits(one) == to_bits(v[i]) && one != 0);
            CHECK(to_bits(one) == to_bits(strtod((const char *)p, NULL)));
            p = behind + 1 + (behind[1] == ' ');
        }
        if (len) CHECK(p == stop);
        if (p == end) break;
    }
    free(copy);
    return taken;
}

static void test_number_run_reads_what_read_reads(void)
{
    uint64_t rnd = 31;
    size_t taken = 0, all = 0;
    for (int i = 0; i < 3000; i++) {
        char text[64 * 64];
        int n = sprintf(text, "\"an-id-that-is-rather-long\": [");
        const char *comma = i % 5 ? ", " : i % 2 ? "," : " , ";
        for (uint64_t k = random_next(&rnd) % 40; k; k--, all++) {
            n += put_number(text + n, &rnd);
            n += sprintf(text + n, "%s", k > 1 ? comma : "]");
        }
        taken += check_run(text, (size_t)n);
    }
    CHECK(taken > all / 2 || strcmp(pn_number_backend(), "fast_float, dragonbox") != 0);
}

static void test_number_run_stops_at_its_capacity(void)
{
    char text[400] = "{\"x\": {\"this is a long key to begin with\": [";
    size_t at = strlen(text), len;
    for (int i = 0; i < 10; i++) strcat(text, "0.125, ");
    strcat(text, "                                                  ");
    double v[4] = {0, 0, 0, 7};
    const uint8_t *p = (const uint8_t *)text, *stop = pn_double_run(p, p + at, p + strlen(text), v, 3, &len);
    CHECK(len <= 3 && stop == p + at + 7 * len && v[3] == 7);
    for (size_t i = 0; i < len; i++) CHECK(v[i] == 0.125);
    CHECK(pn_double_run(p, p + at, p + strlen(text), v, 0, &len) == p + at && len == 0);
}

/* One line: float16, float32, float64 in hex, then the text. */
static void check_line(const char *line, long *read)
{
    unsigned long long bits;
    char text[2048];
    double v;
    if (sscanf(line, "%*s %*s %16llx %2047s", &bits, text) != 2) return;
    if (!read_all(text, &v)) return;
    ++*read;
    if (to_bits(v) != bits) CHECK_EQ_STR(text, "what was read");
    if (isfinite(v)) {
        double again;
        CHECK(read_all(print(v), &again) && to_bits(again) == bits);
    }
}

static void test_number_hard_cases_of_parse_number_fxx(void)
{
    static const char *files[] = {"exhaustive-float16", "freetype-2-7", "google-wuffs", "lemire-fast-float",
                                  "more-test-cases", "tencent-rapidjson"};
    long read = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[80];
        pn_buf b;
        pn_buf_init(&b, &pn_alloc_system);
        snprintf(name, sizeof name, "parse-number-fxx/%s.txt", files[i]);
        if (!read_data(name, &b)) return;
        CHECK_EQ_INT(pn_buf_push(&b, 0), PN_OK);
        for (char *line = strtok((char *)b.data, "\n"); line; line = strtok(NULL, "\n")) check_line(line, &read);
        pn_buf_clear(&b);
    }
    CHECK(read > 40000);
}

static void test_number_names_its_libraries(void) { CHECK(strstr(pn_number_backend(), ", ") != NULL); }

int main(void)
{
    RUN(test_number_prints_as_python);
    RUN(test_number_prints_the_shortest_that_reads_back);
    RUN(test_number_reads_only_the_grammar);
    RUN(test_number_overflow_and_underflow);
    RUN(test_number_reads_long_literals);
    RUN(test_number_run_reads_what_read_reads);
    RUN(test_number_run_stops_at_its_capacity);
    RUN(test_number_hard_cases_of_parse_number_fxx);
    RUN(test_number_names_its_libraries);
    return check_summary();
}
