/* mpack.h: MessagePack over msgpack-c, to and from JSON values.
 *
 * Extension types (numbers are for ever; FORMAT.md lists them):
 *   1  an integer that does not fit 64 bits: its decimal digits, ASCII, with sign
 *   2  a string with lone surrogates: its bytes in WTF-8
 * NaN and infinities are float64. Everything else maps as one expects; floats are
 * always float64, integers the shortest form, strings str, never bin.
 */
#ifndef PN_CODEC_MPACK_H
#define PN_CODEC_MPACK_H

#include "base/buffer.h"

enum { PN_MPACK_EXT_BIGINT = 1, PN_MPACK_EXT_WTF8 = 2, PN_MPACK_MAX_DEPTH = 900 };

/* Appends the MessagePack form of one valid JSON value. Duplicate keys collapse as
 * in pn_json_canonicalize. */
pn_status pn_mpack_from_json(pn_bytes json, const pn_alloc *alloc, pn_buf *out);

/* Appends the canonical JSON text of one MessagePack value, which must end exactly
 * at the end of the bytes. Any input is safe: every length is checked, depth is
 * bounded. PN_ERR_CORRUPT with the offset for malformed input; PN_ERR_UNSUPPORTED
 * for what JSON cannot hold (bin, unknown ext, a map key that is no string). Float32
 * is read as its exact double. On failure out is as it was. Takes memory from out's
 * allocator only. */
pn_status pn_mpack_to_json(pn_bytes mpack, pn_buf *out, pn_error *err);

#endif
