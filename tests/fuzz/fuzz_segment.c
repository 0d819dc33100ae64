/* Any bytes as a segment, as they are and with the checksums made right: an error that
 * says why and where, or entries that can be walked. What passes the whole check says the
 * same when it is written again, and that writing is the same every time. */
#include "persist/segment.h"

#include "demand.h"
#include "segment_tools.h"

static pn_segment *fuzz_segment_open(const uint8_t *data, size_t size)
{
    pn_blob *blob;
    pn_segment *s = NULL;
    pn_error e = {PN_OK, 0, 0, NULL};
    DEMAND(pn_blob_copy(&pn_alloc_system, data, size, &blob) == PN_OK);
    pn_status peeked = pn_segment_peek(&pn_alloc_system, blob, &s, &e);
    DEMAND(peeked == PN_OK || (e.code == peeked && e.what != NULL && s == NULL));
    pn_segment_close(s);
    s = NULL;
    pn_status status = pn_segment_open(&pn_alloc_system, blob, &s, &e);
    pn_blob_unref(blob);
    DEMAND(peeked == PN_OK || status == peeked);
    DEMAND(status == PN_OK || (e.code == status && e.what != NULL && s == NULL));
    DEMAND(status != PN_ERR_CORRUPT || e.offset <= size);
    DEMAND(status == PN_OK || status == PN_ERR_CORRUPT || status == PN_ERR_VERSION);
    return s;
}

static void fuzz_segment_say(const pn_segment *s, pn_buf *out)
{
    pn_buf_init(out, &pn_alloc_system);
    DEMAND(segment_say(s, out) == PN_OK);
}

/* Written again, it is another file that says the same; written once more, the same file. */
static void fuzz_segment_again(const pn_segment *s, const pn_buf *says)
{
    pn_buf once, twice, again;
    pn_buf_init(&once, &pn_alloc_system);
    pn_buf_init(&twice, &pn_alloc_system);
    DEMAND(segment_rewrite(s, &once) == PN_OK);
    pn_segment *other = fuzz_segment_open(once.data, once.len);
    DEMAND(other != NULL && pn_segment_check(other, NULL) == PN_OK);
    fuzz_segment_say(other, &again);
    DEMAND(pn_bytes_equal(pn_buf_view(says), pn_buf_view(&again)));
    DEMAND(segment_rewrite(other, &twice) == PN_OK);
    DEMAND(pn_bytes_equal(pn_buf_view(&once), pn_buf_view(&twice)));
    pn_segment_close(other);
    pn_buf_clear(&once);
    pn_buf_clear(&twice);
    pn_buf_clear(&again);
}

static void fuzz_segment_bytes(const uint8_t *data, size_t size)
{
    pn_segment *s = fuzz_segment_open(data, size);
    if (s == NULL) return;
    pn_buf says;
    pn_error e = {PN_OK, 0, 0, NULL};
    fuzz_segment_say(s, &says);
    pn_status checked = pn_segment_check(s, &e);
    DEMAND(checked == PN_OK || (checked == PN_ERR_CORRUPT && e.what != NULL && e.offset <= size));
    if (checked == PN_OK) fuzz_segment_again(s, &says);
    pn_buf_clear(&says);
    pn_segment_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_segment_bytes(data, size);
    uint8_t *repaired = malloc(size ? size : 1);
    if (size) memcpy(repaired, data, size);
    segment_repair(repaired, size);
    fuzz_segment_bytes(repaired, size);
    free(repaired);
    return 0;
}
