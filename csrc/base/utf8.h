/* utf8.h: UTF-8 with Python's "surrogatepass": three-byte surrogates are allowed. */
#ifndef PN_BASE_UTF8_H
#define PN_BASE_UTF8_H

#include "base/bytes.h"

/* Length of the valid prefix. Overlong forms, values past U+10FFFF and truncated
 * sequences are invalid; surrogates (ED A0..BF xx) are valid and set *surrogates
 * when it is not NULL. */
size_t pn_utf8_valid_prefix(pn_bytes b, bool *surrogates);

/* Decodes one character at p (p < end, valid text); advances p. */
uint32_t pn_utf8_next(const uint8_t **p);

/* Writes one code point (surrogates included), returns the number of bytes. */
size_t pn_utf8_put(uint32_t cp, uint8_t *out);

#endif
