/* Status, allocator, buffer, blob, hash, and the little-endian fields. */
#include "base/blob.h"
#include "base/hash.h"
#include "codec_check.h"
#include "fail_alloc.h"

#include <errno.h>

static void test_status_texts_and_errors(void)
{
    pn_error e;
    for (int s = PN_OK; s <= PN_ERR_LOCKED; s++) CHECK(pn_status_text((pn_status)s)[0] != 0);
    CHECK(pn_status_text((pn_status)999) != NULL);
    CHECK_EQ_INT(pn_fail(&e, PN_ERR_SYNTAX, 17, "what"), PN_ERR_SYNTAX);
    CHECK_EQ_INT(e.code, PN_ERR_SYNTAX);
    CHECK_EQ_INT(e.offset, 17);
    CHECK_EQ_STR(e.what, "what");
    CHECK_EQ_INT(pn_fail(NULL, PN_ERR_RANGE, 0, "x"), PN_ERR_RANGE);
    CHECK_EQ_INT(pn_fail_sys(&e, ENOENT, "open"), PN_ERR_IO);
    CHECK_EQ_INT(e.sys, ENOENT);
}

static void test_alloc_zero_checks_overflow(void)
{
    CHECK(pn_alloc_zero(&pn_alloc_system, SIZE_MAX / 4, 8) == NULL);
    uint8_t *p = pn_alloc_zero(&pn_alloc_system, 100, 3);
    int sum = 0;
    for (int i = 0; i < 300; i++) sum += p[i];
    CHECK_EQ_INT(sum, 0);
    p = pn_alloc_grow(&pn_alloc_system, p, 1 << 23); /* into the range of large blocks */
    memset(p, 7, 1 << 23);
    p = pn_alloc_grow(&pn_alloc_system, p, 10);
    CHECK_EQ_INT(p[9], 7);
    pn_alloc_put(&pn_alloc_system, p);
    pn_alloc_put(&pn_alloc_system, NULL);
}

static void test_buffer_grows_and_keeps(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_buf b;
    pn_buf_init(&b, &f.alloc);
    CHECK_EQ_INT(f.calls, 0);
    for (int i = 0; i < 100000; i++) CHECK_EQ_INT(pn_buf_push(&b, (uint8_t)i), PN_OK);
    CHECK(f.calls < 60); /* amortised */
    int wrong = 0;
    for (int i = 0; i < 100000; i++) wrong += b.data[i] != (uint8_t)i;
    CHECK_EQ_INT(wrong, 0);
    CHECK_EQ_INT(pn_buf_reserve(&b, SIZE_MAX / 2), PN_ERR_NOMEM);
    CHECK_EQ_INT(b.len, 100000);
    pn_buf_clear(&b);
    CHECK_EQ_INT(f.blocks, 0);
    CHECK_EQ_INT(PN_BUF_LIT(&b, "again"), PN_OK);
    CHECK_TEXT(pn_buf_view(&b), "again");
    pn_buf_clear(&b);
    CHECK_EQ_INT(pn_buf_append(&b, NULL, 0), PN_OK);
}

static void test_buffer_is_untouched_when_it_cannot_grow(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 2);
    pn_buf b;
    pn_buf_init(&b, &f.alloc);
    CHECK_EQ_INT(PN_BUF_LIT(&b, "kept"), PN_OK);
    CHECK_EQ_INT(pn_buf_reserve(&b, 1 << 20), PN_ERR_NOMEM);
    CHECK_TEXT(pn_buf_view(&b), "kept");
    pn_buf_clear(&b);
    CHECK_EQ_INT(f.blocks, 0);
}

static void test_blob_is_counted(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    pn_buf b;
    pn_blob *one, *two;
    pn_buf_init(&b, &f.alloc);
    CHECK_EQ_INT(PN_BUF_LIT(&b, "taken"), PN_OK);
    CHECK_EQ_INT(pn_blob_take(&b, &one), PN_OK);
    CHECK(b.data == NULL && b.len == 0 && b.cap == 0);
    CHECK_EQ_INT(pn_blob_copy(&f.alloc, "copied", 6, &two), PN_OK);
    CHECK_TEXT(pn_blob_view(one), "taken");
    CHECK_TEXT(pn_blob_view(two), "copied");
    CHECK(pn_blob_ref(one) == one);
    pn_blob_unref(one);
    CHECK_TEXT(pn_blob_view(one), "taken");
    pn_blob_unref(one);
    pn_blob_unref(two);
    CHECK(pn_blob_ref(NULL) == NULL);
    pn_blob_unref(NULL);
    CHECK_EQ_INT(f.blocks, 0);
    CHECK_EQ_INT(pn_blob_copy(&f.alloc, NULL, 0, &one), PN_OK);
    CHECK_EQ_INT(pn_blob_view(one).len, 0);
    pn_blob_unref(one);
}

static pn_status make_blobs(const pn_alloc *alloc)
{
    pn_buf b;
    pn_blob *one = NULL, *two = NULL;
    pn_buf_init(&b, alloc);
    pn_status s = PN_BUF_LIT(&b, "some text");
    if (s == PN_OK) s = pn_blob_copy(alloc, "x", 1, &one);
    if (s == PN_OK) s = pn_blob_take(&b, &two);
    if (s == PN_ERR_NOMEM && b.len) CHECK_TEXT(pn_buf_view(&b), "some text");
    pn_buf_clear(&b);
    pn_blob_unref(one);
    pn_blob_unref(two);
    return s;
}

static void test_blob_survives_oom(void)
{
    fail_alloc f;
    long n = 0;
    do { /* not EACH_ALLOCATION_FAILED: giving back slack may fail and nothing is lost */
        fail_alloc_init(&f, ++n);
        pn_status s = make_blobs(&f.alloc);
        CHECK(s == PN_ERR_NOMEM || s == PN_OK);
        CHECK(f.failed || s == PN_OK);
        CHECK_EQ_INT(f.blocks, 0);
    } while (f.failed);
    CHECK(n > 3);
}

static void test_hash_depends_on_every_byte(void)
{
    uint8_t b[80];
    uint64_t rnd = 5;
    for (size_t i = 0; i < sizeof b; i++) b[i] = (uint8_t)random_next(&rnd);
    int same = 0;
    for (size_t n = 0; n < sizeof b; n++) {
        uint64_t h = pn_hash_bytes((pn_bytes){b, n}, 1);
        CHECK(h == pn_hash_bytes((pn_bytes){b, n}, 1));
        same += h == pn_hash_bytes((pn_bytes){b, n}, 2);
        same += h == pn_hash_bytes((pn_bytes){b, n + 1}, 1);
        for (size_t i = 0; i < n; i++) {
            b[i] ^= 0x10;
            same += h == pn_hash_bytes((pn_bytes){b, n}, 1);
            b[i] ^= 0x10;
        }
    }
    CHECK_EQ_INT(same, 0);
    CHECK(pn_hash_seed() == pn_hash_seed());
}

static void test_fields_are_little_endian(void)
{
    uint8_t b[8];
    pn_put_u64(b, 0x0102030405060708u);
    CHECK_EQ_INT(b[0], 8);
    CHECK_EQ_INT(b[7], 1);
    CHECK(pn_get_u64(b) == 0x0102030405060708u);
    pn_put_u32(b, 0xfffefdfcu);
    CHECK_EQ_INT(b[0], 0xfc);
    CHECK(pn_get_u32(b) == 0xfffefdfcu);
    CHECK(pn_bytes_compare(PN_BYTES("a"), PN_BYTES("ab")) < 0);
    CHECK(pn_bytes_compare(PN_BYTES("b"), PN_BYTES("ab")) > 0);
    CHECK_EQ_INT(pn_bytes_compare(PN_BYTES(""), PN_BYTES("")), 0);
}

int main(void)
{
    RUN(test_status_texts_and_errors);
    RUN(test_alloc_zero_checks_overflow);
    RUN(test_buffer_grows_and_keeps);
    RUN(test_buffer_is_untouched_when_it_cannot_grow);
    RUN(test_blob_is_counted);
    RUN(test_blob_survives_oom);
    RUN(test_hash_depends_on_every_byte);
    RUN(test_fields_are_little_endian);
    return check_summary();
}
