/* mpack_push.h: MessagePack element by element, appended to a buffer by msgpack-c.
 *
 * For the parts of the disk formats that are no JSON values: index of a segment, index
 * structs, manifest. Integers take their shortest form, so equal values give equal bytes.
 * An array's elements are the next `n` that are pushed, arrays among them counting once.
 *
 * Each is O(bytes pushed) and fails with PN_ERR_NOMEM, or PN_ERR_RANGE for a count or
 * length of 2^32 or more; the buffer may then hold part of the element.
 */
#ifndef PN_CODEC_MPACK_PUSH_H
#define PN_CODEC_MPACK_PUSH_H

#include "base/buffer.h"

pn_status pn_mpack_push_array(pn_buf *out, size_t n);
pn_status pn_mpack_push_text(pn_buf *out, pn_bytes text); /* str; the caller's business that it is UTF-8 */
pn_status pn_mpack_push_bin(pn_buf *out, pn_bytes bytes);
pn_status pn_mpack_push_bin_head(pn_buf *out, size_t n); /* the caller appends the n bytes */
pn_status pn_mpack_push_uint(pn_buf *out, uint64_t v);
pn_status pn_mpack_push_int(pn_buf *out, int64_t v);
pn_status pn_mpack_push_bool(pn_buf *out, bool v);

#endif
