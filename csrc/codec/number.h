/* number.h: doubles to and from decimal text, exactly as CPython does it.
 *
 * The implementation is the one C++ file of the tree (number_leaf.cpp), over
 * header-only libraries: fast_float reads, dragonbox prints; where the build
 * machine lacks them, std::from_chars / std::to_chars. No exceptions, no RTTI,
 * no allocation, nothing thrown across this header.
 */
#ifndef PN_CODEC_NUMBER_H
#define PN_CODEC_NUMBER_H

#include "base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PN_DOUBLE_TEXT_MAX = 32 };

/* Writes repr(value) as CPython prints it ("0.1", "1e+16", "-0.0", "1e-05"),
 * NaN, Infinity and -Infinity as the json module does. `out` has room for
 * PN_DOUBLE_TEXT_MAX bytes; returns the length. */
size_t pn_double_print(double value, char *out);

/* Reads the JSON number that text starts with, by JSON's grammar (no NaN, no infinities),
 * correctly rounded; overflow gives an infinity, underflow zero, signs kept, as float()
 * does. Returns the end of what was read, or NULL when text starts with no number or
 * with one that breaks off ("1.", "1e"). Reads nothing at or behind `end`. */
const uint8_t *pn_double_read(const uint8_t *p, const uint8_t *end, double *out);

/* Reads the numbers at p that are each followed by a comma, as long as they have the shape
 * that embeddings have ("-0.0123456789012345, "), and steps over commas and one space behind
 * each. Stops in front of the first that is anything else, a zero among them, or near the end
 * of the text, which pn_double_read then reads; may stop at once. Reads from `start`, where
 * the text begins, to `end`. Stores at most cap, sets *len; returns where it stopped. The values
 * are those of pn_double_read. */
const uint8_t *pn_double_run(const uint8_t *start, const uint8_t *p, const uint8_t *end, double *out, size_t cap,
                             size_t *len);

/* Names of the libraries that were compiled in, e.g. "fast_float, dragonbox". */
const char *pn_number_backend(void);

#ifdef __cplusplus
}
#endif
#endif
