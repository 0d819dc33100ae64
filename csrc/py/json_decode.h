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

enum { PN_KEY_CACHE = 128, PN_KEY_MAX = 32 };

/* Interned strings of keys that are short and plain, by a hash of their text. Values that
 * follow one another mostly have the same keys in the same order, so each slot also says
 * which key came after its own the last time: a guess, which is compared with the text
 * before anything of that is read. No bit of used set is an empty cache, whatever else is
 * in it. */
typedef struct pn_key_cache {
    uint64_t used[PN_KEY_CACHE / 64]; /* bit i: slot i */
    uint8_t first;                    /* the slot of the key that came first in a text */
    struct {
        PyObject *str;
        uint8_t len, next;
        char text[PN_KEY_MAX];
    } slots[PN_KEY_CACHE];
} pn_key_cache;

static inline void pn_key_cache_init(pn_key_cache *cache)
{
    memset(cache->used, 0, sizeof cache->used);
    cache->first = 0;
}
void pn_key_cache_clear(pn_key_cache *cache);

typedef struct pn_py_decoder {
    pn_json_reader r;
    pn_buf scratch;
    pn_key_cache *keys;
    uint8_t *guess; /* where the slot of the next key is noted */
} pn_py_decoder;

void pn_py_decoder_init(pn_py_decoder *d, pn_bytes text, pn_key_cache *keys);
void pn_py_decoder_clear(pn_py_decoder *d);

/* New references, or NULL with an exception set. */
PyObject *pn_py_decode_value(pn_py_decoder *d); /* the next value, of any type */
PyObject *pn_py_decode_key(pn_py_decoder *d, const pn_json_str *key);
PyObject *pn_py_decode_chars(pn_py_decoder *d, const pn_json_str *s);
PyObject *pn_py_ascii(const uint8_t *p, size_t n); /* characters below 0x80 */
PyObject *pn_py_str_copy(PyObject *str); /* an equal str, as distinct as reading the text again would make it */

/* The next value, which must be a string; *raw: what stands between its quotes. Cheaper than
 * pn_json_string and decoding what that found. */
pn_status pn_py_read_str(pn_py_decoder *d, pn_bytes *raw, PyObject **str);

#endif
