/* json_decode.h: the decoder of json_decode.c, for a neighbour that walks a text itself
 * and wants single values of it.
 *
 * A decoder reads one text (d.r is its reader, to be driven by the caller) and borrows
 * it. The cache of keys may be shared by decoders that follow one another, so that a
 * field name is made once for all of them; the decoder's own is used when the caller
 * gives none. No Python bytecode runs in any of these functions.
 */
#ifndef PN_PY_JSON_DECODE_H
#define PN_PY_JSON_DECODE_H

#include "py/json_py.h"

enum { PN_KEY_CACHE = 64, PN_KEY_MAX = 32 };

/* Interned strings of keys that are short and plain, by a hash of their text. used == 0 is
 * an empty one, whatever else is in it. */
typedef struct pn_key_cache {
    uint64_t used; /* bit i: slot i */
    struct {
        PyObject *str;
        uint8_t len;
        char text[PN_KEY_MAX];
    } slots[PN_KEY_CACHE];
} pn_key_cache;

void pn_key_cache_clear(pn_key_cache *cache);

typedef struct pn_py_decoder {
    pn_json_reader r;
    pn_buf scratch;
    pn_key_cache *keys;
} pn_py_decoder;

void pn_py_decoder_init(pn_py_decoder *d, pn_bytes text, pn_key_cache *keys);
void pn_py_decoder_clear(pn_py_decoder *d);

/* New references, or NULL with an exception set. */
PyObject *pn_py_decode_value(pn_py_decoder *d); /* the next value, of any type */
PyObject *pn_py_decode_key(pn_py_decoder *d, const pn_json_str *key);
PyObject *pn_py_decode_chars(pn_py_decoder *d, const pn_json_str *s);

#endif
