/* Any bytes as MessagePack: an error that says why, or JSON in its canonical form that
 * goes to MessagePack and back unchanged. */
#include "codec/json_read.h"
#include "codec/mpack.h"

#include "demand.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pn_buf json, other, mp;
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_buf_init(&json, &pn_alloc_system);
    pn_buf_init(&other, &pn_alloc_system);
    pn_buf_init(&mp, &pn_alloc_system);
    pn_status s = pn_mpack_to_json((pn_bytes){data, size}, &json, &e);
    if (s != PN_OK) {
        DEMAND(s == e.code && e.what != NULL && e.offset <= size && json.len == 0);
    } else {
        DEMAND(pn_json_canonicalize(pn_buf_view(&json), &pn_alloc_system, &other) == PN_OK);
        DEMAND(pn_bytes_equal(pn_buf_view(&json), pn_buf_view(&other)));
        DEMAND(pn_mpack_from_json(pn_buf_view(&json), &pn_alloc_system, &mp) == PN_OK);
        other.len = 0;
        DEMAND(pn_mpack_to_json(pn_buf_view(&mp), &other, NULL) == PN_OK);
        DEMAND(pn_bytes_equal(pn_buf_view(&json), pn_buf_view(&other)));
    }
    pn_buf_clear(&json);
    pn_buf_clear(&other);
    pn_buf_clear(&mp);
    return 0;
}
