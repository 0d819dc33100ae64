/* The dot kernels: every one that this CPU runs against a long double sum, within the
 * bound that dot.h promises, at dimensions around the register widths; those of bytes exactly. */
#include "check.h"
#include "random_values.h"
#include "simd/dot.h"

#include <math.h>
#include <stdlib.h>
#include <stdint.h>

enum { MAX_DIM = 1600, ROWS = 5 };

static const char *const names[] = {"serial", "avx2", "avx512", "neon"};
static const size_t dims[] = {0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 129, 384, 1536, 1599};

/* q . row and |q| |row| */
static void reference(const double *q, const double *row, size_t dim, double *dot, double *norms)
{
    long double d = 0, a = 0, b = 0;
    for (size_t i = 0; i < dim; i++) {
        d += (long double)q[i] * row[i];
        a += (long double)q[i] * q[i];
        b += (long double)row[i] * row[i];
    }
    *dot = (double)d;
    *norms = (double)sqrtl(a * b);
}

static void check_f64(const pn_dot_kernels *k, size_t dim)
{
    static double q[MAX_DIM], data[ROWS][MAX_DIM];
    const double *rows[ROWS];
    double out[ROWS];
    for (size_t i = 0; i < dim; i++) q[i] = next_random();
    for (size_t r = 0; r < ROWS; r++) {
        rows[r] = data[r] + r % 2; /* unaligned ones, too */
        for (size_t i = 0; i < dim; i++) data[r][i + r % 2] = next_random() * ldexp(1, (int)(i % 40) - 20);
    }
    k->f64(q, rows, ROWS, dim, out);
    for (size_t r = 0; r < ROWS; r++) {
        double dot, norms;
        reference(q, rows[r], dim, &dot, &norms);
        CHECK(fabs(out[r] - dot) <= pn_dot_roundings_f64(dim) * ldexp(1.01, -53) * norms);
    }
}

static void check_f32(const pn_dot_kernels *k, size_t dim)
{
    static float q[MAX_DIM], data[ROWS][MAX_DIM];
    static double wide_q[MAX_DIM], wide[MAX_DIM];
    const float *rows[ROWS];
    float out[ROWS];
    for (size_t i = 0; i < dim; i++) q[i] = (float)next_random();
    for (size_t r = 0; r < ROWS; r++) {
        rows[r] = data[r] + r % 3;
        for (size_t i = 0; i < dim; i++) data[r][i + r % 3] = (float)(next_random() * ldexp(1, (int)(i % 20) - 10));
    }
    k->f32(q, rows, ROWS, dim, out);
    pn_dot_widen(q, dim, wide_q);
    for (size_t r = 0; r < ROWS; r++) {
        double dot, norms;
        pn_dot_widen(rows[r], dim, wide);
        reference(wide_q, wide, dim, &dot, &norms);
        CHECK(fabs((double)out[r] - dot) <= pn_dot_roundings_f32(dim) * ldexp(1.01, -24) * norms);
    }
}

static void test_every_kernel_keeps_its_bound(void)
{
    int tried = 0;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        const pn_dot_kernels *k = pn_dot_named(names[n]);
        if (k == NULL) continue;
        tried++;
        CHECK_EQ_STR(k->name, names[n]);
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
            check_f32(k, dims[d] < MAX_DIM - 2 ? dims[d] : MAX_DIM - 3);
            check_f64(k, dims[d] < MAX_DIM - 1 ? dims[d] : MAX_DIM - 2);
        }
    }
    CHECK(tried >= 1);
}

static void test_small_integers_are_exact(void)
{
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        const pn_dot_kernels *k = pn_dot_named(names[n]);
        if (k == NULL) continue;
        float q[37], out;
        const float *row = q;
        double sum = 0;
        for (int i = 0; i < 37; i++) q[i] = (float)(i - 9), sum += (i - 9) * (i - 9);
        k->f32(q, &row, 1, 37, &out);
        CHECK(out == sum);
    }
}

/* Whole numbers: every kernel gives the very sum, also the largest that there may be. */
static void test_bytes_are_exact(void)
{
    enum { MOST = 2176 };
    static int16_t q[MOST];
    static int8_t data[2][MOST];
    const int8_t *rows[2] = {data[0], data[1]};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        const pn_dot_kernels *k = pn_dot_named(names[n]);
        for (size_t dim = 0; k != NULL && dim <= MOST; dim += dim < 256 ? 32 : 480) {
            int64_t want[2] = {0, 0};
            int32_t out[2] = {1, 1};
            int most = dim ? (int)(2147483647 / 127 / dim) : 0;
            if (most > 32767) most = 32767;
            for (size_t i = 0; i < dim; i++) {
                q[i] = (int16_t)(i % 2 ? most : -most);
                data[0][i] = (int8_t)(i % 2 ? 127 : -127);
                data[1][i] = (int8_t)(next_random() * 127);
                for (int r = 0; r < 2; r++) want[r] += (int64_t)q[i] * data[r][i];
            }
            k->i8(q, rows, 2, dim, out);
            for (int r = 0; r < 2; r++) CHECK_EQ_INT(out[r], want[r]);
        }
    }
}

static void test_no_rows_write_nothing(void)
{
    float q[4] = {1, 2, 3, 4}, out = 42;
    pn_dot_best()->f32(q, NULL, 0, 4, &out);
    CHECK(out == 42);
}

static void test_names(void)
{
    CHECK(pn_dot_named("serial") != NULL);
    CHECK(pn_dot_named("mmx") == NULL);
    CHECK(pn_dot_named(pn_dot_best()->name) == pn_dot_best());
}

static void test_fits_f32(void)
{
    double v[200];
    for (int i = 0; i < 200; i++) v[i] = i / 8.0;
    CHECK(pn_dot_fits_f32(v, 200));
    CHECK(pn_dot_fits_f32(v, 0));
    for (int i = 0; i < 200; i += 33) {
        double kept = v[i];
        v[i] = 0.1;
        CHECK(!pn_dot_fits_f32(v, 200));
        v[i] = 1e300;
        CHECK(!pn_dot_fits_f32(v, 200));
        v[i] = kept;
    }
    v[3] = NAN, v[4] = INFINITY, v[5] = -0.0, v[6] = (double)1e-45f;
    CHECK(pn_dot_fits_f32(v, 200));
}

static void test_narrow_and_widen_are_inverse(void)
{
    double v[5] = {0.5, -0.0, INFINITY, (double)1e-45f, NAN}, back[5];
    float f[5];
    pn_dot_narrow(v, 5, f);
    pn_dot_widen(f, 5, back);
    CHECK(memcmp(v, back, 4 * sizeof *v) == 0);
    CHECK(isnan(back[4]));
}

int main(void)
{
    RUN(test_every_kernel_keeps_its_bound);
    RUN(test_small_integers_are_exact);
    RUN(test_bytes_are_exact);
    RUN(test_no_rows_write_nothing);
    RUN(test_names);
    RUN(test_fits_f32);
    RUN(test_narrow_and_widen_are_inverse);
    return check_summary();
}
