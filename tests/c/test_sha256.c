/* SHA-256: the vectors of FIPS 180-4, both ways at every length around the block, and in
 * pieces cut at every place. */
#include "base/sha256.h"
#include "codec_check.h"

static void hash(pn_bytes b, bool portable, char hex[65])
{
    pn_sha256 s;
    pn_sha256_init(&s);
    s.portable = portable;
    pn_sha256_add(&s, b);
    pn_sha256_hex(&s, hex);
    hex[64] = 0;
}

static void check_hash(pn_bytes b, const char *want)
{
    char hex[65];
    for (int portable = 0; portable < 2; portable++) {
        hash(b, portable, hex);
        CHECK_EQ_STR(hex, want);
    }
}

static void test_sha256_known_vectors(void)
{
    static uint8_t many[1000000];
    check_hash(PN_BYTES(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_hash(PN_BYTES("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_hash(PN_BYTES("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(many, 'a', sizeof many);
    check_hash((pn_bytes){many, sizeof many}, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void test_sha256_instructions_equal_c(void)
{
    uint64_t seed = 1;
    uint8_t b[400];
    for (size_t i = 0; i < sizeof b; i++) b[i] = (uint8_t)random_next(&seed);
    for (size_t n = 0; n <= sizeof b; n++) {
        char one[65], other[65];
        hash((pn_bytes){b, n}, false, one);
        hash((pn_bytes){b, n}, true, other);
        CHECK_EQ_STR(one, other);
    }
}

static void test_sha256_in_pieces(void)
{
    uint64_t seed = 2;
    uint8_t b[200];
    char whole[65], pieces[65] = {0};
    for (size_t i = 0; i < sizeof b; i++) b[i] = (uint8_t)random_next(&seed);
    hash((pn_bytes){b, sizeof b}, true, whole);
    for (size_t first = 0; first <= sizeof b; first++) {
        size_t second = (first + 70) < sizeof b ? first + 70 : sizeof b;
        pn_sha256 s;
        pn_sha256_init(&s);
        pn_sha256_add(&s, (pn_bytes){b, first});
        pn_sha256_add(&s, (pn_bytes){NULL, 0});
        pn_sha256_add(&s, (pn_bytes){b + first, second - first});
        pn_sha256_add(&s, (pn_bytes){b + second, sizeof b - second});
        pn_sha256_hex(&s, pieces);
        CHECK_EQ_STR(pieces, whole);
    }
}

int main(void)
{
    RUN(test_sha256_known_vectors);
    RUN(test_sha256_instructions_equal_c);
    RUN(test_sha256_in_pieces);
    return check_summary();
}
