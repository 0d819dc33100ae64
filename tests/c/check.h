/* check.h: the few macros that the C tests use. A test program runs its functions
 * with RUN and ends with `return check_summary();`: "N passed, M failed", and 1 when
 * any check failed. A failed check is printed and the test goes on. */
#ifndef PN_TESTS_CHECK_H
#define PN_TESTS_CHECK_H

#include <stdio.h>
#include <string.h>

static int check_failures, check_passed, check_failed;

#define CHECK(cond)                                                                  \
    do {                                                                             \
        if (!(cond)) {                                                               \
            fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #cond); \
            check_failures++;                                                        \
        }                                                                            \
    } while (0)

#define CHECK_EQ_INT(a, b)                                                           \
    do {                                                                             \
        long long check_a = (long long)(a), check_b = (long long)(b);                \
        if (check_a != check_b) {                                                    \
            fprintf(stderr, "%s:%d: %s: %s is %lld, not %lld\n", __FILE__, __LINE__, __func__, #a, check_a, \
                    check_b);                                                        \
            check_failures++;                                                        \
        }                                                                            \
    } while (0)

#define CHECK_EQ_STR(a, b)                                                           \
    do {                                                                             \
        const char *check_a = (a), *check_b = (b);                                   \
        if (strcmp(check_a, check_b) != 0) {                                         \
            fprintf(stderr, "%s:%d: %s: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, __func__, #a, check_a, \
                    check_b);                                                        \
            check_failures++;                                                        \
        }                                                                            \
    } while (0)

#define RUN(fn)                                                  \
    do {                                                         \
        int check_before = check_failures;                       \
        fn();                                                    \
        if (check_failures == check_before) check_passed++;      \
        else check_failed++;                                     \
    } while (0)

static inline int check_summary(void)
{
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
