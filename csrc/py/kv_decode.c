/* kv_decode.c: a file of a key-value store as the dicts of a young table (kv_table.h).
 *
 * Somebody who loads a store of small values mostly reads them one by one, and decoding one
 * on its own costs more than decoding all in a row. Not for this are
 *
 *   large values    (nodes with embeddings in an ingestion cache): as text they take a
 *                   fraction of the memory, and the next persist copies them as they stand
 *   other stores'   files: values of a document or index store are read where they stand;
 *                   its collections have a namespace and a suffix, with a slash in between
 */
#include "py/json_decode.h"
#include "py/kv_table.h"

/* Bytes of text, of a file and of one value: objects take several times as much. */
enum { AT_ONCE_MAX = 32 << 20, VALUE_MAX = 2048 };

/* map[key] = value; takes both; false also if one is NULL. */
static bool put_new(PyObject *map, PyObject *key, PyObject *value)
{
    bool done = key != NULL && value != NULL && PyDict_SetItem(map, key, value) == 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return done;
}

/* What a member's value is, of which the name has been read; NULL: it is not for this. */
typedef PyObject *(*decode_member)(pn_py_decoder *d, const pn_json_str *name);

/* The object that the reader stands before, as a dict; NULL: it is none, or not for this. */
static PyObject *decode_members(pn_py_decoder *d, decode_member decode)
{
    if (pn_json_peek(&d->r) != PN_JSON_OBJECT || pn_json_object_begin(&d->r) != PN_OK) return NULL;
    PyObject *map = PyDict_New();
    while (map != NULL) {
        pn_json_str name;
        bool more, good = pn_json_object_next(&d->r, &name, &more) == PN_OK;
        if (good && !more) break;
        PyObject *key = good ? pn_py_decode_chars(d, &name) : NULL; /* not among the names of values' members: it comes once */
        if (!put_new(map, key, key ? decode(d, &name) : NULL)) Py_CLEAR(map);
    }
    return map;
}

static PyObject *decode_pair_value(pn_py_decoder *d, const pn_json_str *name)
{
    (void)name;
    if (pn_json_peek(&d->r) != PN_JSON_OBJECT) return NULL;
    const uint8_t *begin = d->r.p;
    PyObject *value = pn_py_decode_value(d);
    if (value != NULL && d->r.p - begin > VALUE_MAX) Py_CLEAR(value);
    return value;
}

static PyObject *decode_collection(pn_py_decoder *d, const pn_json_str *name)
{
    return memchr(name->ptr, '/', name->len) == NULL ? decode_members(d, decode_pair_value) : NULL;
}

PyObject *pn_kvt_decode_young(struct pn_key_cache *keys, pn_bytes text)
{
    if (keys == NULL || text.len > AT_ONCE_MAX) return NULL;
    pn_py_decoder d;
    pn_py_decoder_init(&d, text, keys);
    int gc = pn_gc_pause();
    PyObject *young = decode_members(&d, decode_collection);
    if (young != NULL && pn_json_end(&d.r) != PN_OK) Py_CLEAR(young);
    pn_py_decoder_clear(&d);
    if (young == NULL) PyErr_Clear(); /* what is wrong is told by whoever reads it next */
    pn_gc_resume(gc);
    return young;
}
