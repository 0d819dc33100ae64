/* kv_type.h: KVTable, the C base of pannier.SimpleKVStore, as its neighbours see it. */
#ifndef PN_PY_KV_TYPE_H
#define PN_PY_KV_TYPE_H

#include "py/json_py.h"
#include "py/module.h"
#include "store/kv.h"
#include "store/structs.h"

/* The store behind a KVTable, or NULL (no exception) when the object is none, has been
 * surrendered to a plain dict, or has methods that are not KVTable's: then the caller takes
 * the peer's way. Borrowed; Python code that runs meanwhile may surrender the table. */
pn_kv *pn_py_kv(pn_module_state *state, PyObject *table);
/* Whether a KVTable's put, get and so on are that class's: neither overridden nor replaced, on
 * the class or the object. Whoever works on the contents without calling them asks first. */
bool pn_py_kv_untouched(pn_module_state *state, PyObject *table);

/* table.to_dict() of such a one. */
PyObject *pn_py_kv_to_dict(PyObject *table);
/* The store, whatever its methods are: for what the peer would not call them for. */
pn_kv *pn_py_kv_contents(pn_module_state *state, PyObject *table);

/* Whoever finds a cell and looks at what kind it is settles it first (cell.h): O(1) but for
 * the first time after a pack was opened. false: CorruptPackError, which names the damaged
 * file and place, or MemoryError is set, and Python code may have run. */
bool pn_py_settle_slow(pn_cell *cell);
static inline bool pn_py_settle(pn_cell *cell) { return cell->kind != PN_CELL_PACKED || pn_py_settle_slow(cell); }

/* Makes `kv` (taken over; NULL: nothing) the contents of a table. What was in it goes, but for
 * what views show, so Python code may run, at the end. -1: an exception is set, kv is gone. */
int pn_py_kv_replace(PyObject *table, pn_kv *kv);

/* The collection of that name (an exact str), made when missing. CALLBACK: an exception is set. */
pn_status pn_py_named_collection(pn_kv *kv, PyObject *name, pn_coll **out);

/* The collection of that name in the store behind a KVTable, made when missing; NULL with or
 * without an exception: without, the table is none or surrendered, or the name no exact
 * str. Quick for name objects that come again. Good until Python code runs. */
pn_coll *pn_py_coll(pn_module_state *state, PyObject *table, PyObject *name);

/* keys of the next two: as pn_py_decode has it. */

/* Makes a cell live and returns the live object (borrowed from the cell); NULL with an
 * exception set. `cell` must not be EMPTY. The collection that it lies in is told (NULL: it
 * lies in none, as a ref_doc_info's metadata; the caller tells of the info). */
PyObject *pn_py_promote(struct pn_key_cache *keys, pn_coll *coll, pn_cell *cell);

/* As promote, with a value that the cell's was decoded to; takes it. */
void pn_py_go_live(pn_coll *coll, pn_cell *cell, PyObject *value);

/* The value of a cell as a new object, without promoting: live values are returned
 * themselves (a new reference). The cell is settled. */
PyObject *pn_py_cell_value(struct pn_key_cache *keys, pn_cell *cell);

/* Converts a borrowed exact str to key bytes; false with an exception set. */
#define pn_py_key pn_py_utf8

/* A list of a map's keys as str, in order. */
PyObject *pn_py_key_list(const pn_omap *map);

/* Tags of spans made in this process (pn_cell.tag): what stands under "__type__". */
enum { PN_TAG_NONE = 0, PN_TAG_NODE = 1, PN_TAG_STRUCT = 2 };

/* Whether a node built from this docstore entry (a dict) would share a part of it. */
bool pn_py_node_shares(PyObject *entry);

/* Whether a native struct is of that type and has just these fields. */
bool pn_py_struct_fits(const pn_struct *s, PyObject *type, PyObject *names);

int pn_py_add_struct_reading(PyObject *module); /* struct_read.c, for index_py.c */

extern const pn_host pn_py_host;

#endif
