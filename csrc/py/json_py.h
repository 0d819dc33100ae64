/* json_py.h: between Python objects and JSON text, without an intermediate tree.
 *
 * The GIL is held in every function here. Python exceptions are reported as
 * PN_ERR_CALLBACK with the exception set.
 */
#ifndef PN_PY_JSON_PY_H
#define PN_PY_JSON_PY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/buffer.h"
#include "codec/json_read.h"

/* Values are built while tables are being walked. A collection could run a finalizer
 * that changes the very table, so none is started meanwhile (no other Python code
 * runs either: the GIL is held). Pairs nest. */
static inline int pn_gc_pause(void) { return PyGC_Disable(); }
static inline void pn_gc_resume(int was_enabled)
{
    if (was_enabled) PyGC_Enable();
}

/* How strictly a value is looked at before it is encoded. */
typedef enum pn_encode_mode {
    /* Everything that json.dumps takes, exactly as it prints it. What our own code
     * does not know (subclasses, int enums, non-string keys, ...) is handed to
     * json.dumps itself. Fails with the exception that json.dumps raises. */
    PN_ENCODE_DUMPS,
    /* Only values whose round trip through JSON is the identity: exact str (no pair
     * of surrogates that would join), int, float, bool, None, list, and dict with
     * exact str keys. Anything else: PN_ERR_UNSUPPORTED, no exception set. */
    PN_ENCODE_IDENTITY,
    /* As IDENTITY, and: sets and tuples become arrays in their order of iteration, int
     * keys their decimal text. What an index struct's to_json prints. */
    PN_ENCODE_STRUCT,
} pn_encode_mode;

/* Appends the JSON text of obj. On failure the buffer's length is as before. */
pn_status pn_py_encode(PyObject *obj, pn_encode_mode mode, pn_buf *out);

/* A new reference to the Python value of one valid JSON value, as json.loads gives
 * it; NULL with an exception set. keys: where names of members are kept from one value to
 * the next, as json.loads keeps them within a file (the module's, state->keys); NULL: only
 * for this value. */
struct pn_key_cache;
PyObject *pn_py_decode(struct pn_key_cache *keys, pn_bytes json);

/* A JSON string's characters as a new str. */
PyObject *pn_py_decode_str(const pn_json_str *s);

/* UTF-8 bytes (three-byte surrogates allowed) as a new str. */
PyObject *pn_py_str(pn_bytes utf8);

/* The UTF-8 of an exact str: borrowed from the object, or, when it holds
 * surrogates, put into *scratch. false with an exception set on failure. */
bool pn_py_utf8(PyObject *str, pn_buf *scratch, pn_bytes *out);

/* Raises the Python exception for a status of the core (one table for the whole
 * binding); `path` (may be NULL) and err's offset go into the message. Always
 * returns NULL. PN_ERR_CALLBACK leaves the exception that is set. */
PyObject *pn_py_raise(pn_status status, const pn_error *err, const char *path);

#endif
