/* pack_py.h: what the files that bind packs share. */
#ifndef PN_PY_PACK_PY_H
#define PN_PY_PACK_PY_H

#include "persist/pack.h"
#include "py/kv_type.h"
#include "py/vector_type.h"

/* Raises what pannier.errors has for a status of persist/pack.h; returns NULL. `root` is the
 * directory, for messages. */
PyObject *pn_py_raise_pack(pn_module_state *state, pn_status status, const pn_file_error *err, const char *root);

/* The classes of files_py.c for a file operation that failed. */
PyObject *pn_py_raise_commit(pn_module_state *state, pn_status status, const pn_file_error *err);

/* A manifest as a dict; see Pack.manifest. */
PyObject *pn_py_manifest(const pn_manifest *m);

#endif
