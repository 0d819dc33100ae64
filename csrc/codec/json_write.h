/* json_write.h: JSON text byte for byte as Python's json.dumps writes it. */
#ifndef PN_CODEC_JSON_WRITE_H
#define PN_CODEC_JSON_WRITE_H

#include "base/buffer.h"

/* Appends a quoted string: ASCII, \uXXXX in lower-case hex for everything outside
 * ' '..'~' (0x7f too), \" \\ \n \r \t \b \f short. Input is UTF-8 in which lone
 * surrogates stand as three bytes; PN_ERR_UTF8 when it is neither. */
pn_status pn_json_put_string(pn_buf *out, pn_bytes utf8);
/* The same without the quotes. */
pn_status pn_json_put_escaped(pn_buf *out, pn_bytes utf8);

/* Whether the text stands between quotes as it is: ' ' to '~' but quote and backslash. */
bool pn_json_is_plain(pn_bytes text);

/* A JSON text put inside a JSON string (the index store's envelope): the text must
 * be ASCII; only quotes, backslashes and control characters are escaped. */
pn_status pn_json_put_nested(pn_buf *out, pn_bytes ascii_text);

pn_status pn_json_put_double(pn_buf *out, double v);
pn_status pn_json_put_i64(pn_buf *out, int64_t v);

/* "[v, v, ...]" */
pn_status pn_json_put_doubles(pn_buf *out, const double *v, size_t n);
pn_status pn_json_put_floats(pn_buf *out, const float *v, size_t n); /* each as its exact double */

#endif
