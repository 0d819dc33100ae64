/* kv_decode.c: a file of a key-value store as the dicts of a young table (kv_table.h).
 *
 * Somebody who loads such a store mostly reads its values one by one, and decoding one on
 * its own costs more than decoding all in a row. A file of a document or index store is not
 * for this: their values are read where they stand as text. Those have collections of a
 * namespace and a suffix, with a slash in between.
 */
#include "py/json_decode.h"
#include "py/kv_table.h"

enum { AT_ONCE_MAX = 64 << 20 }; /* bytes of text: objects take several times as much */

/* map[key] = value; takes both (NULL: an exception is set). */
static bool put_new(PyObject *map, PyObject *key, PyObject *value)
{
    bool done = key != NULL && value != NULL && PyDict_SetItem(map, key, value) == 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return done;
}

/* The pairs of the collection that the reader stands before; NULL: it is no object of objects. */
static PyObject *decode_collection(pn_py_decoder *d)
{
    if (pn_json_peek(&d->r) != PN_JSON_OBJECT || pn_json_object_begin(&d->r) != PN_OK) return NULL;
    PyObject *map = PyDict_New();
    while (map != NULL) {
        pn_json_str k;
        bool more, good = pn_json_object_next(&d->r, &k, &more) == PN_OK;
        if (good && !more) break;
        PyObject *key = good ? pn_py_decode_chars(d, &k) : NULL; /* not among the names of members: it comes once */
        good = key != NULL && pn_json_peek(&d->r) == PN_JSON_OBJECT;
        if (!put_new(map, key, good ? pn_py_decode_value(d) : NULL)) Py_CLEAR(map);
    }
    return map;
}

static PyObject *decode_collections(pn_py_decoder *d)
{
    if (pn_json_peek(&d->r) != PN_JSON_OBJECT || pn_json_object_begin(&d->r) != PN_OK) return NULL;
    PyObject *outer = PyDict_New();
    while (outer != NULL) {
        pn_json_str k;
        bool more, good = pn_json_object_next(&d->r, &k, &more) == PN_OK;
        if (good && !more) break;
        good = good && memchr(k.ptr, '/', k.len) == NULL;
        PyObject *name = good ? pn_py_decode_chars(d, &k) : NULL;
        if (!put_new(outer, name, name ? decode_collection(d) : NULL)) Py_CLEAR(outer);
    }
    if (outer != NULL && pn_json_end(&d->r) != PN_OK) Py_CLEAR(outer);
    return outer;
}

PyObject *pn_kvt_decode_young(struct pn_key_cache *keys, pn_bytes text)
{
    if (keys == NULL || text.len > AT_ONCE_MAX) return NULL;
    pn_py_decoder d;
    pn_py_decoder_init(&d, text, keys);
    int gc = pn_gc_pause();
    PyObject *young = decode_collections(&d);
    pn_py_decoder_clear(&d);
    if (young == NULL) PyErr_Clear(); /* what is wrong is told by whoever reads it next */
    pn_gc_resume(gc);
    return young;
}
