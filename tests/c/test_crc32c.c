/* CRC-32C: the vectors of RFC 3720 and the check value of the catalogues, the
 * instructions against the table, and continuing at every place. */
#include "base/crc32c.h"
#include "codec_check.h"

static void test_crc32c_known_vectors(void)
{
    uint8_t b[32];
    CHECK_EQ_INT(pn_crc32c(0, PN_BYTES("")), 0);
    CHECK_EQ_INT(pn_crc32c(0, PN_BYTES("123456789")), 0xe3069283);
    memset(b, 0, 32);
    CHECK_EQ_INT(pn_crc32c(0, (pn_bytes){b, 32}), 0x8a9136aa);
    memset(b, 0xff, 32);
    CHECK_EQ_INT(pn_crc32c(0, (pn_bytes){b, 32}), 0x62a8ab43);
    for (int i = 0; i < 32; i++) b[i] = (uint8_t)i;
    CHECK_EQ_INT(pn_crc32c(0, (pn_bytes){b, 32}), 0x46dd794e);
    for (int i = 0; i < 32; i++) b[i] = (uint8_t)(31 - i);
    CHECK_EQ_INT(pn_crc32c(0, (pn_bytes){b, 32}), 0x113fdb5c);
}

static void test_crc32c_table_equals_instructions(void)
{
    uint64_t seed = 1;
    uint8_t b[300];
    for (size_t i = 0; i < sizeof b; i++) b[i] = (uint8_t)random_next(&seed);
    for (size_t from = 0; from < 9; from++)
        for (size_t n = 0; n + from <= sizeof b; n++) {
            pn_bytes part = {b + from, n};
            CHECK_EQ_INT(pn_crc32c(7, part), pn_crc32c_portable(7, part));
        }
}

/* Long runs are taken in three lanes. */
static void test_crc32c_of_long_runs(void)
{
    enum { LANES = 3 * 4096 };
    static uint8_t b[3 * LANES + 20];
    uint64_t seed = 2;
    for (size_t i = 0; i < sizeof b; i++) b[i] = (uint8_t)random_next(&seed);
    for (size_t k = 1; k <= 3; k++)
        for (size_t n = k * LANES - 9; n < k * LANES + 10; n++) {
            pn_bytes part = {b + n % 8, n};
            CHECK_EQ_INT(pn_crc32c(7, part), pn_crc32c_portable(7, part));
        }
}

static void test_crc32c_continues_anywhere(void)
{
    pn_bytes all = PN_BYTES("the quick brown fox jumps over the lazy dog");
    uint32_t whole = pn_crc32c(0, all);
    for (size_t cut = 0; cut <= all.len; cut++) {
        uint32_t first = pn_crc32c(0, (pn_bytes){all.ptr, cut});
        CHECK_EQ_INT(pn_crc32c(first, (pn_bytes){all.ptr + cut, all.len - cut}), whole);
    }
}

int main(void)
{
    RUN(test_crc32c_known_vectors);
    RUN(test_crc32c_table_equals_instructions);
    RUN(test_crc32c_of_long_runs);
    RUN(test_crc32c_continues_anywhere);
    return check_summary();
}
