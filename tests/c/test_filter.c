/* Filters on JSON text: each operator on each kind of value, what is left to Python, and
 * finding keys. The Python tests compare with the peer; these pin the table down. */
#include "check.h"
#include "store/filter.h"

#include <math.h>

static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static pn_scalar str(const char *s) { return (pn_scalar){.kind = PN_SCALAR_STR, .utf8 = text(s), .escaped = text(s)}; }
static pn_scalar num(int64_t i) { return (pn_scalar){.kind = PN_SCALAR_INT, .i = i}; }
static pn_scalar real(double d) { return (pn_scalar){.kind = PN_SCALAR_FLOAT, .d = d}; }
static const pn_scalar none = {.kind = PN_SCALAR_NONE};

/* One filter on the key "k" with a list of n values, or the first when n is 0. */
static pn_match eval(const char *json, pn_filter_op op, const pn_scalar *values, size_t n)
{
    pn_filter f = {.key = text("k"), .needle = text("\"k\": "), .op = op, .is_list = n > 0, .values = values, .n = n ? n : 1};
    pn_filter_set set = {&f, 1, PN_COND_AND};
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_match searched = pn_filter_eval(&set, text(json), &scratch);
    f.needle = (pn_bytes){NULL, 0};
    pn_match walked = pn_filter_eval(&set, text(json), &scratch);
    CHECK_EQ_INT(searched, walked);
    pn_buf_clear(&scratch);
    return searched;
}

static pn_match one(const char *json, pn_filter_op op, pn_scalar value) { return eval(json, op, &value, 0); }

static void test_equality(void)
{
    CHECK_EQ_INT(one("{\"k\": \"a\"}", PN_OP_EQ, str("a")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": \"a\"}", PN_OP_EQ, str("b")), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": \"1\"}", PN_OP_EQ, num(1)), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": 1}", PN_OP_EQ, real(1)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": 1.0}", PN_OP_EQ, num(1)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": true}", PN_OP_EQ, num(1)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": false}", PN_OP_NE, num(1)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": -7}", PN_OP_EQ, num(-7)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": NaN}", PN_OP_EQ, real(NAN)), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": NaN}", PN_OP_NE, real(NAN)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": -Infinity}", PN_OP_LT, num(0)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": [1]}", PN_OP_EQ, num(1)), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": {}}", PN_OP_NE, str("a")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": 5}", PN_OP_EQ, none), PN_MATCH_NO);
}

static void test_numbers_beyond_exact_comparison_are_asked(void)
{
    CHECK_EQ_INT(one("{\"k\": 9007199254740993}", PN_OP_EQ, real(9007199254740992.0)), PN_MATCH_ASK);
    CHECK_EQ_INT(one("{\"k\": 9007199254740993}", PN_OP_EQ, num(9007199254740993)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": 12345678901234567890}", PN_OP_GT, num(1)), PN_MATCH_ASK);
    CHECK_EQ_INT(one("{\"k\": 12345678901234567890}", PN_OP_EQ, str("a")), PN_MATCH_NO);
}

static void test_missing_and_null(void)
{
    const char *const absent[] = {"{}", "{\"k\": null}", "{\"kk\": 1}", "{\"x\": {\"k\": 1}}", "{\"x\": \"\\\"k\\\": 1\"}"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        for (int op = PN_OP_EQ; op <= PN_OP_ANY; op++) {
            bool yes = op == PN_OP_NE || op == PN_OP_NIN;
            CHECK_EQ_INT(one(absent[i], (pn_filter_op)op, num(1)), yes ? PN_MATCH_YES : PN_MATCH_NO);
        }
        CHECK_EQ_INT(one(absent[i], PN_OP_IS_EMPTY, none), PN_MATCH_YES);
    }
}

static void test_order(void)
{
    CHECK_EQ_INT(one("{\"k\": 2}", PN_OP_GT, num(1)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": 2}", PN_OP_GTE, real(2)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": 2}", PN_OP_LT, real(2)), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": 2}", PN_OP_LTE, num(2)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": NaN}", PN_OP_LTE, num(2)), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": \"b\"}", PN_OP_GT, str("a")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": \"\\u00e9\"}", PN_OP_GT, str("z")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": \"b\"}", PN_OP_GT, num(1)), PN_MATCH_ASK);
    CHECK_EQ_INT(one("{\"k\": [1]}", PN_OP_GT, num(1)), PN_MATCH_ASK);
}

static void test_membership(void)
{
    pn_scalar words[] = {str("a"), str("b")}, numbers[] = {num(1), real(2.5)};
    CHECK_EQ_INT(eval("{\"k\": \"b\"}", PN_OP_IN, words, 2), PN_MATCH_YES);
    CHECK_EQ_INT(eval("{\"k\": \"c\"}", PN_OP_IN, words, 2), PN_MATCH_NO);
    CHECK_EQ_INT(eval("{\"k\": \"c\"}", PN_OP_NIN, words, 2), PN_MATCH_YES);
    CHECK_EQ_INT(eval("{\"k\": 2.5}", PN_OP_IN, numbers, 2), PN_MATCH_YES);
    CHECK_EQ_INT(eval("{\"k\": true}", PN_OP_IN, numbers, 2), PN_MATCH_YES);
    CHECK_EQ_INT(eval("{\"k\": [1]}", PN_OP_IN, numbers, 2), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": \"b\"}", PN_OP_IN, str("abc")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": 1}", PN_OP_IN, str("abc")), PN_MATCH_ASK);
    CHECK_EQ_INT(one("{\"k\": 1}", PN_OP_NIN, num(1)), PN_MATCH_ASK);
}

static void test_containment(void)
{
    pn_scalar words[] = {str("a"), str("b")};
    CHECK_EQ_INT(one("{\"k\": [\"x\", \"a\"]}", PN_OP_CONTAINS, str("a")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": [\"x, a\"]}", PN_OP_CONTAINS, str("a")), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": [[\"a\"], {\"a\": 1}, null]}", PN_OP_CONTAINS, str("a")), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": [1, 2.0]}", PN_OP_CONTAINS, num(2)), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": \"banana\"}", PN_OP_CONTAINS, str("nan")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": 5}", PN_OP_CONTAINS, num(5)), PN_MATCH_ASK);
    CHECK_EQ_INT(eval("{\"k\": [\"a\", \"b\", \"c\"]}", PN_OP_ALL, words, 2), PN_MATCH_YES);
    CHECK_EQ_INT(eval("{\"k\": [\"a\"]}", PN_OP_ALL, words, 2), PN_MATCH_NO);
    CHECK_EQ_INT(eval("{\"k\": [\"b\"]}", PN_OP_ANY, words, 2), PN_MATCH_YES);
    CHECK_EQ_INT(eval("{\"k\": []}", PN_OP_ANY, words, 2), PN_MATCH_NO);
    CHECK_EQ_INT(eval("{\"k\": 5}", PN_OP_ANY, words, 2), PN_MATCH_ASK);
}

static void test_text(void)
{
    CHECK_EQ_INT(one("{\"k\": \"Hello\"}", PN_OP_TEXT_MATCH, str("ell")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": \"Hello\"}", PN_OP_TEXT_MATCH, str("ELL")), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": \"Hello\"}", PN_OP_TEXT_MATCH_INSENSITIVE, str("ELL")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": \"a\\nHello\"}", PN_OP_TEXT_MATCH_INSENSITIVE, str("\nhELL")), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": \"\\u00c9\"}", PN_OP_TEXT_MATCH_INSENSITIVE, str("e")), PN_MATCH_ASK);
    CHECK_EQ_INT(one("{\"k\": 5}", PN_OP_TEXT_MATCH, str("5")), PN_MATCH_ASK);
    CHECK_EQ_INT(one("{\"k\": \"\"}", PN_OP_TEXT_MATCH, str("")), PN_MATCH_YES);
}

static void test_emptiness(void)
{
    CHECK_EQ_INT(one("{\"k\": \"\"}", PN_OP_IS_EMPTY, none), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": []}", PN_OP_IS_EMPTY, none), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"k\": {}}", PN_OP_IS_EMPTY, none), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"k\": 0}", PN_OP_IS_EMPTY, none), PN_MATCH_NO);
}

static void test_keys_are_found_where_they_are(void)
{
    const pn_scalar a = str("a");
    CHECK_EQ_INT(one("{\"x\": {\"k\": \"b\"}, \"k\": \"a\"}", PN_OP_EQ, a), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"x\": \"{\", \"k\": \"a\", \"y\": {\"k\": 1}}", PN_OP_EQ, a), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"x\": \", \\\"k\\\": \\\"a\\\"\", \"k\": \"a\"}", PN_OP_EQ, a), PN_MATCH_YES);
    CHECK_EQ_INT(one("{\"x\": [{\"k\": \"a\"}]}", PN_OP_EQ, a), PN_MATCH_NO);
    CHECK_EQ_INT(one("{\"\\\"k\": \"a\"}", PN_OP_EQ, a), PN_MATCH_NO);
    /* at every distance from the start, so at each place of a vector register */
    char json[128];
    for (int pad = 0; pad < 60; pad++) {
        snprintf(json, sizeof json, "{\"p\": \"%0*d\", \"k\": \"a\"}", pad + 1, 0);
        CHECK_EQ_INT(one(json, PN_OP_EQ, a), PN_MATCH_YES);
        snprintf(json, sizeof json, "{\"k\": \"a\", \"p\": \"%0*d\"}", pad + 1, 0);
        CHECK_EQ_INT(one(json, PN_OP_EQ, a), PN_MATCH_YES);
    }
    CHECK(pn_filter_key_is_word(text("file_name-2")));
    CHECK(!pn_filter_key_is_word(text("")));
    CHECK(!pn_filter_key_is_word(text(", ")));
    CHECK(!pn_filter_key_is_word(text("\\u00e9")));
}

static void test_conditions(void)
{
    const pn_scalar a = str("a"), b = str("b");
    pn_filter f[2] = {{.key = text("k"), .op = PN_OP_EQ, .values = &a, .n = 1},
                      {.key = text("l"), .op = PN_OP_EQ, .values = &b, .n = 1}};
    const char *const jsons[] = {"{}", "{\"k\": \"a\"}", "{\"k\": \"a\", \"l\": \"b\"}"};
    const pn_match want[3][3] = {{PN_MATCH_NO, PN_MATCH_NO, PN_MATCH_YES},
                                 {PN_MATCH_NO, PN_MATCH_YES, PN_MATCH_NO},
                                 {PN_MATCH_YES, PN_MATCH_YES, PN_MATCH_NO}};
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    for (int i = 0; i < 3; i++)
        for (int c = PN_COND_AND; c <= PN_COND_NOT; c++) {
            pn_filter_set set = {f, 2, (pn_filter_condition)c};
            CHECK_EQ_INT(pn_filter_eval(&set, text(jsons[i]), &scratch), want[i][c]);
        }
    pn_filter_set set = {f, 2, PN_COND_OR};
    CHECK_EQ_INT(pn_filter_eval(&set, text("[]"), &scratch), PN_MATCH_ASK); /* no object */
    CHECK_EQ_INT(pn_filter_eval(&set, text("\"k\""), &scratch), PN_MATCH_ASK);
    CHECK_EQ_INT(pn_filter_eval(&set, (pn_bytes){NULL, 0}, &scratch), PN_MATCH_ASK);
    pn_buf_clear(&scratch);
}

static void test_operator_names(void)
{
    pn_filter_op op;
    CHECK(pn_filter_op_named(text("=="), &op) && op == PN_OP_EQ);
    CHECK(pn_filter_op_named(text("nin"), &op) && op == PN_OP_NIN);
    CHECK(!pn_filter_op_named(text("="), &op));
}

int main(void)
{
    RUN(test_equality);
    RUN(test_numbers_beyond_exact_comparison_are_asked);
    RUN(test_missing_and_null);
    RUN(test_order);
    RUN(test_membership);
    RUN(test_containment);
    RUN(test_text);
    RUN(test_emptiness);
    RUN(test_keys_are_found_where_they_are);
    RUN(test_conditions);
    RUN(test_operator_names);
    return check_summary();
}
