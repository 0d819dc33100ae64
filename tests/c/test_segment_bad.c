/* Segments that are not as FORMAT.md says: each condition broken by itself, with the reason
 * and the place that the reader gives; and thousands of mutated files, with and without
 * checksums made right. */
#include "persist/segment.h"

#include "codec_check.h"
#include "segment_flaws.h"
#include "segment_make.h"

/* ---- one flaw at a time ---- */

static const struct {
    const char *name;
    flaw_found by;
    const char *what;
} flaws[] = {
#define X(flaw, by, what) {#flaw, by, what},
    FLAWS(X)
#undef X
};

/* A blob whose last byte is the last of its block, so that a sanitizer sees reads past it. */
static pn_blob *exact_blob(const void *p, size_t n)
{
    pn_blob *blob = NULL;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    b.data = exact_copy(p, n);
    b.len = b.cap = n;
    CHECK_EQ_INT(pn_blob_take(&b, &blob), PN_OK);
    return blob;
}

/* Opens and, when that works, checks; *by says what failed. */
static pn_status look(pn_blob *blob, flaw_found *by, pn_error *err)
{
    pn_segment *s = NULL;
    *by = BY_OPENING;
    pn_status status = pn_segment_open(&pn_alloc_system, blob, &s, err);
    if (status != PN_OK) return status;
    *by = BY_CHECK;
    status = pn_segment_check(s, err);
    pn_segment_close(s);
    if (status == PN_OK) *by = BY_NOBODY;
    return status;
}

static void check_flaw(flaw f)
{
    raw r;
    flaw_found by;
    pn_error err = {PN_OK, 0, 0, ""};
    int before = check_failures;
    raw_make(&r, f);
    pn_blob *blob = exact_blob(r.file.data, r.file.len);
    CHECK_EQ_INT(look(blob, &by, &err), flaws[f].by == BY_NOBODY ? PN_OK : PN_ERR_CORRUPT);
    CHECK_EQ_INT(by, flaws[f].by);
    CHECK_EQ_STR(err.what, flaws[f].what);
    CHECK_EQ_INT(err.offset, flaws[f].by == BY_NOBODY ? 0 : r.at);
    if (check_failures != before) fprintf(stderr, "  in %s\n", flaws[f].name);
    pn_blob_unref(blob);
    raw_clear(&r);
}

static void test_segment_every_condition(void)
{
    for (int f = 0; f < FLAW_COUNT; f++) check_flaw((flaw)f);
}

/* A number that is not known is named, unless the file's own end says that it is damage. */
static void test_segment_newer_version(void)
{
    raw r;
    flaw_found by;
    pn_error err;
    raw_make(&r, TAIL_VERSION);
    r.file.data[8] = 7;
    pn_blob *blob = exact_blob(r.file.data, r.file.len);
    CHECK_EQ_INT(look(blob, &by, &err), PN_ERR_VERSION);
    CHECK_EQ_INT(err.offset, 7);
    CHECK_EQ_STR(err.what, "a segment of a version that is not known");
    pn_blob_unref(blob);
    /* its tail need not be one that we understand */
    memset(r.file.data + r.file.len - 64, 0xff, 64);
    blob = exact_blob(r.file.data, r.file.len);
    CHECK_EQ_INT(look(blob, &by, &err), PN_ERR_VERSION);
    pn_blob_unref(blob);
    raw_clear(&r);
}

/* What FORMAT.md's text alone gives and what the writer gives say the same. */
static void test_segment_by_hand_is_as_written(void)
{
    raw r;
    pn_buf says[2], again;
    pn_error err;
    pn_buf_init(&again, &pn_alloc_system);
    raw_make(&r, NOTHING_WRONG);
    pn_blob *blob = exact_blob(r.file.data, r.file.len);
    for (int i = 0; i < 2; i++) {
        pn_segment *s = NULL;
        pn_buf_init(&says[i], &pn_alloc_system);
        CHECK_EQ_INT(pn_segment_open(&pn_alloc_system, blob, &s, &err), PN_OK);
        CHECK_EQ_INT(segment_say(s, &says[i]), PN_OK);
        if (i == 0) CHECK_EQ_INT(segment_rewrite(s, &again), PN_OK);
        pn_segment_close(s);
        pn_blob_unref(blob);
        if (i == 0) blob = exact_blob(again.data, again.len);
    }
    CHECK(says[0].len > 0 && pn_bytes_equal(pn_buf_view(&says[0]), pn_buf_view(&says[1])));
    pn_buf_clear(&says[0]);
    pn_buf_clear(&says[1]);
    pn_buf_clear(&again);
    raw_clear(&r);
}

/* ---- mutations ---- */

typedef struct subject {
    pn_buf file, says; /* the good segment, and what it says */
    size_t same, refused, other;
} subject;

static void begin_subject(subject *m)
{
    uint64_t size;
    uint32_t crc;
    pn_segment *s = NULL;
    memset(m, 0, sizeof *m);
    pn_buf_init(&m->file, &pn_alloc_system);
    pn_buf_init(&m->says, &pn_alloc_system);
    CHECK_EQ_INT(segment_make(&pn_alloc_system, segment_sink, &m->file, &size, &crc), PN_OK);
    pn_blob *blob = exact_blob(m->file.data, m->file.len);
    CHECK_EQ_INT(pn_segment_open(&pn_alloc_system, blob, &s, NULL), PN_OK);
    CHECK_EQ_INT(segment_say(s, &m->says), PN_OK);
    pn_segment_close(s);
    pn_blob_unref(blob);
}

static void end_subject(subject *m)
{
    pn_buf_clear(&m->file);
    pn_buf_clear(&m->says);
}

/* What the values and rows say is only known to be right after the whole check. */
static void judge(subject *m, const uint8_t *bytes, size_t len, bool repaired)
{
    pn_segment *s = NULL;
    pn_buf says;
    pn_error err = {PN_OK, 0, 0, NULL};
    pn_blob *blob = exact_blob(bytes, len);
    pn_status status = pn_segment_open(&pn_alloc_system, blob, &s, &err);
    pn_buf_init(&says, &pn_alloc_system);
    if (status == PN_OK) CHECK_EQ_INT(segment_say(s, &says), PN_OK); /* safe to walk, whatever it says */
    if (status == PN_OK) status = pn_segment_check(s, &err);
    bool same = status == PN_OK && pn_bytes_equal(pn_buf_view(&says), pn_buf_view(&m->says));
    CHECK(status == PN_OK || (err.code == status && err.what != NULL && (err.offset <= len || status == PN_ERR_VERSION)));
    CHECK(status == PN_OK || status == PN_ERR_CORRUPT || status == PN_ERR_VERSION);
    CHECK(repaired || same || status != PN_OK); /* never wrong data under good checksums */
    m->same += same;
    m->refused += status != PN_OK;
    m->other += status == PN_OK && !same;
    pn_segment_close(s);
    pn_blob_unref(blob);
    pn_buf_clear(&says);
}

static void judge_both(subject *m, uint8_t *bytes, size_t len)
{
    judge(m, bytes, len, false);
    segment_repair(bytes, len);
    judge(m, bytes, len, true);
}

/* Every bit of the file, flipped. Alone, each is noticed; with checksums made right, those
 * of head, tail and checksums are taken back. */
static void test_segment_every_bit_flipped(void)
{
    subject m;
    begin_subject(&m);
    size_t bits = 8 * m.file.len;
    for (int repaired = 0; repaired < 2; repaired++)
        for (size_t i = 0; i < bits; i++) {
            uint8_t *bytes = exact_copy(m.file.data, m.file.len);
            bytes[i / 8] ^= (uint8_t)(1u << i % 8);
            if (repaired) segment_repair(bytes, m.file.len);
            judge(&m, bytes, m.file.len, repaired);
            free(bytes);
            if (i + 1 == bits && !repaired) CHECK_EQ_INT(m.refused, bits);
        }
    CHECK(m.same > 8 * (64 + 32) && m.other > 100);
    end_subject(&m);
}

static void test_segment_every_truncation(void)
{
    subject m;
    begin_subject(&m);
    for (size_t n = 0; n < m.file.len; n++) {
        uint8_t *bytes = exact_copy(m.file.data, m.file.len);
        judge_both(&m, bytes, n);
        free(bytes);
    }
    CHECK_EQ_INT(m.same + m.other, 0);
    end_subject(&m);
}

static uint64_t pick_number(uint64_t *seed)
{
    static const uint64_t edges[] = {0, 1, 63, 64, 65, 127, 128, 255, 256, 65535, 65536, 1u << 24, INT32_MAX,
                                     UINT32_MAX, (uint64_t)1 << 32, INT64_MAX, UINT64_MAX};
    uint64_t r = random_next(seed);
    return r % 3 == 0 ? r >> (r % 64) : edges[r / 3 % (sizeof edges / sizeof *edges)];
}

/* A number over what stands there: raw, or as MessagePack, in the blocks or the index. */
static void splice_number(uint8_t *bytes, size_t len, uint64_t *seed)
{
    uint64_t v = pick_number(seed);
    size_t at = random_next(seed) % (len - 9);
    switch (random_next(seed) % 5) {
    case 0: pn_put_u32(bytes + at, (uint32_t)v); break;
    case 1: pn_put_u64(bytes + at, v); break;
    case 2: bytes[at] = 0xcc, bytes[at + 1] = (uint8_t)v; break;
    case 3: bytes[at] = 0xce, pn_put_u32(bytes + at + 1, (uint32_t)v); break;
    default: bytes[at] = 0xcf, pn_put_u64(bytes + at + 1, v); break;
    }
}

/* Part of the file over another part. */
static void splice_part(uint8_t *bytes, size_t len, uint64_t *seed)
{
    size_t n = 1 + random_next(seed) % 100, from = random_next(seed) % (len - n), to = random_next(seed) % (len - n);
    memmove(bytes + to, bytes + from, n);
}

/* Takes bytes out, or leaves room for some that repeat what follows. */
static size_t resize_part(uint8_t *bytes, size_t len, uint64_t *seed)
{
    size_t n = 1 + random_next(seed) % 70, at = random_next(seed) % (len - n);
    if (random_next(seed) % 2) {
        memmove(bytes + at, bytes + at + n, len - at - n);
        return len - n;
    }
    memmove(bytes + at + n, bytes + at, len - at);
    return len + n;
}

static size_t mutate(uint8_t *bytes, size_t len, uint64_t *seed)
{
    for (uint64_t times = 1 + random_next(seed) % 3; times > 0; times--) {
        uint64_t kind = random_next(seed) % 8;
        if (kind < 4) splice_number(bytes, len, seed);
        else if (kind < 5) splice_part(bytes, len, seed);
        else if (kind < 6) bytes[random_next(seed) % len] = (uint8_t)random_next(seed);
        else if (kind < 7) bytes[random_next(seed) % len] ^= (uint8_t)(1u << random_next(seed) % 8);
        else len = resize_part(bytes, len, seed);
    }
    return len;
}

static void test_segment_mutated(void)
{
    enum { ROUNDS = 10000 };
    subject m;
    uint64_t seed = 4;
    begin_subject(&m);
    uint8_t *bytes = malloc(m.file.len + 1000);
    for (int i = 0; i < ROUNDS; i++) {
        memcpy(bytes, m.file.data, m.file.len);
        judge_both(&m, bytes, mutate(bytes, m.file.len, &seed));
    }
    /* all three happen, so that none of the checks above is idle */
    CHECK(m.refused > ROUNDS && m.same > ROUNDS / 100 && m.other > ROUNDS / 100);
    free(bytes);
    end_subject(&m);
}

int main(void)
{
    RUN(test_segment_every_condition);
    RUN(test_segment_newer_version);
    RUN(test_segment_by_hand_is_as_written);
    RUN(test_segment_every_bit_flipped);
    RUN(test_segment_every_truncation);
    RUN(test_segment_mutated);
    return check_summary();
}
