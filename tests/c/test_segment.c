/* Segments of a pack: written, read, broken. */
#include "persist/segment.h"
#include "codec_check.h"
#include "fail_alloc.h"
#include "segment_make.h"

static pn_status make(const pn_alloc *alloc, pn_buf *out, uint64_t *size, uint32_t *crc)
{
    pn_segment_writer *w;
    PN_TRY(pn_segment_writer_new(alloc, segment_sink, out, &w));
    pn_status s = segment_collections(w);
    if (s == PN_OK) s = segment_vectors(w);
    if (s == PN_OK) s = segment_graph(w);
    if (s == PN_OK) s = pn_segment_finish(w, size, crc);
    pn_segment_writer_free(w);
    return s;
}

static void test_segment_round_trip(void)
{
    pn_buf b;
    uint64_t size;
    uint32_t crc;
    pn_error err = {0};
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(make(&pn_alloc_system, &b, &size, &crc), PN_OK);
    CHECK_EQ_INT(b.len, size);
    pn_blob *blob;
    pn_segment *s = NULL;
    CHECK_EQ_INT(pn_blob_copy(&pn_alloc_system, b.data, b.len, &blob), PN_OK);
    CHECK_EQ_INT(pn_segment_open(&pn_alloc_system, blob, &s, &err), PN_OK);
    pn_blob_unref(blob);
    if (s != NULL) CHECK_EQ_INT(pn_segment_check(s, &err), PN_OK);
    pn_segment_close(s);
    pn_buf_clear(&b);
}

static pn_status there_and_back(const pn_alloc *alloc)
{
    pn_buf b;
    uint64_t size;
    uint32_t crc;
    pn_blob *blob = NULL;
    pn_segment *s = NULL;
    pn_buf_init(&b, alloc);
    pn_status st = make(alloc, &b, &size, &crc);
    if (st == PN_OK) st = pn_blob_take(&b, &blob);
    pn_buf_clear(&b);
    if (st == PN_OK) st = pn_segment_open(alloc, blob, &s, NULL);
    if (st == PN_OK) st = pn_segment_check(s, NULL);
    pn_segment_close(s);
    pn_blob_unref(blob);
    return st;
}
static void test_segment_survives_oom(void)
{
    pn_status s;
    EACH_ALLOCATION_FAILED(f, s, s = there_and_back(&f.alloc));
}

int main(void)
{
    RUN(test_segment_round_trip);
    RUN(test_segment_survives_oom);
    return check_summary();
}
