/* json_raw.h: JSON text as pydantic's model_dump_json writes it: UTF-8 as it stands, no
 * blanks. What json_write.h is for json.dumps.
 */
#ifndef PN_CODEC_JSON_RAW_H
#define PN_CODEC_JSON_RAW_H

#include "base/buffer.h"

/* Appends a quoted string: \" \\ \b \f \n \r \t short, other bytes below 0x20 as \u00xx,
 * everything else as it is. The caller vouches for the UTF-8. */
pn_status pn_json_raw_string(pn_buf *out, pn_bytes utf8);

/* Appends a finite double. As its repr, but for small ones: 0.00001 where that is 1e-05, and
 * no zero in front of an exponent's only digit. */
pn_status pn_json_raw_double(pn_buf *out, double v);

#endif
