/* Any bytes as a manifest, and as the payload of one whose checksums are right: an error
 * that says why, or a manifest whose own bytes come back as they are. */
#include "base/crc32c.h"
#include "persist/manifest.h"

#include "demand.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_manifest_bytes(pn_bytes bytes)
{
    pn_manifest m, back;
    pn_buf one, two;
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_manifest_init(&m, &pn_alloc_system);
    pn_manifest_init(&back, &pn_alloc_system);
    pn_buf_init(&one, &pn_alloc_system);
    pn_buf_init(&two, &pn_alloc_system);
    pn_status s = pn_manifest_parse(&m, bytes, &e);
    if (s != PN_OK) {
        DEMAND(s == e.code && e.what != NULL && m.generation_count == 0 && m.segment_count == 0);
        DEMAND(s == PN_ERR_VERSION || (s == PN_ERR_CORRUPT && e.offset <= bytes.len));
    } else {
        DEMAND(pn_manifest_write(&m, &one) == PN_OK);
        DEMAND(pn_manifest_parse(&back, pn_buf_view(&one), &e) == PN_OK);
        DEMAND(pn_manifest_write(&back, &two) == PN_OK);
        DEMAND(pn_bytes_equal(pn_buf_view(&one), pn_buf_view(&two)));
    }
    pn_buf_clear(&one);
    pn_buf_clear(&two);
    pn_manifest_clear(&back);
    pn_manifest_clear(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_manifest_bytes((pn_bytes){data, size});
    uint8_t *whole = malloc(size + 32);
    DEMAND(whole != NULL);
    memset(whole, 0, 32);
    memcpy(whole, "\x89PNMAN\r\n\1", 9);
    if (size > 0) memcpy(whole + 32, data, size);
    pn_put_u64(whole + 16, size);
    pn_put_u32(whole + 12, pn_crc32c(0, (pn_bytes){whole + 32, size}));
    pn_put_u32(whole + 28, pn_crc32c(0, (pn_bytes){whole, 28}));
    fuzz_manifest_bytes((pn_bytes){whole, size + 32});
    free(whole);
    return 0;
}
