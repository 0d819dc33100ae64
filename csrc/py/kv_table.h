/* kv_table.h: a KVTable from inside, for the files that make it up: kv_state.c (which of the
 * three a table is, and finding its collections) and kv_type.c (its methods). Others use
 * kv_type.h.
 *
 * A table begins *young*: nothing but put, get, get_all and delete with exact str has
 * happened, or a file of its own was loaded, so every value is a live object and every key a
 * str, which nothing holds better than dicts. These are the table's own: nobody else has
 * seen them. Anything else (a document store's file loaded, documents added, a persist) makes
 * it *native*, a pn_kv, for good. And
 * it may be *surrendered*: a plain dict of dicts is the truth and every method works on
 * that, as the peer's own store does. It surrenders when a caller hands in or asks for
 * the dicts themselves (constructor data, to_dict, an assigned mapping), or uses a key
 * that is no exact str. In all three callers see the same: values are shared but for
 * their top level, order is insertion order.
 *
 *     young        kv NULL, plain NULL, young a dict of dicts or NULL
 *     native       kv
 *     surrendered  plain
 *
 * No function releases the GIL while it looks at the table, so the GIL is its lock.
 * What an operation displaces is released last, since that may run Python code.
 */
#ifndef PN_PY_KV_TABLE_H
#define PN_PY_KV_TABLE_H

#include "py/kv_type.h"

enum { PN_KVT_LAST = 4 };

typedef struct {
    PyObject_HEAD
    pn_kv *kv;       /* the store of a native table */
    PyObject *plain; /* the dict of dicts, once surrendered */
    PyObject *young; /* {name: {key: value}} of a young one; NULL also while empty */
    PyObject *homes; /* {name: dict} of a native one: see views; NULL: nobody asked */
    PyObject *factory; /* what makes the collections of a surrendered one; NULL: dict */
    /* The collections that were last asked for: callers use the same few name objects again
     * and again. Dicts of a young table, else pn_colls, which are good while kv holds the
     * same ones (its version says so). Borrowed; the names are held. */
    struct {
        PyObject *name;
        void *found;
    } last[PN_KVT_LAST];
    unsigned next_last; /* the one to be replaced next */
    uint64_t last_version;
    PyObject *default_name; /* "data", once used */
    struct pn_key_cache *keys; /* the module's, once used */
    unsigned own_tag;       /* version tag of the class when its methods were found to be KVTable's; 0: never */
    /* What get_all handed out a copy of, the last time: see all_of. */
    PyObject *all;
    pn_coll *all_coll;
    uint64_t all_version;
} pn_kv_object;

/* ---- which it is ---- */

/* Makes a young table native; 0, or -1 with an exception set. */
int pn_kvt_ready(pn_kv_object *self);
/* Makes any table a plain one. */
int pn_kvt_surrender(pn_kv_object *self);
/* Makes the given mapping the truth. */
int pn_kvt_adopt(pn_kv_object *self, PyObject *plain);

/* What a young table holds, of the text of a file; NULL without an exception: it is for a native
 * one, or for Python's own reader. kv_decode.c. */
PyObject *pn_kvt_decode_young(struct pn_key_cache *keys, pn_bytes text);

void pn_kvt_forget_last(pn_kv_object *self);
/* May run code: a value that was removed may have been held here alone. */
void pn_kvt_forget_all(pn_kv_object *self);

/* ---- collections ---- */

/* The collection of a native table, made when missing; NULL with or without an exception:
 * without, the table has been surrendered. */
pn_coll *pn_kvt_native(pn_kv_object *self, PyObject *collection);

/* The collection of a surrendered table (a new reference), made when missing, as the peer. */
PyObject *pn_kvt_plain(pn_kv_object *self, PyObject *collection);

static inline void *pn_kvt_recall(const pn_kv_object *self, const PyObject *name)
{
    for (int i = 0; i < PN_KVT_LAST; i++)
        if (self->last[i].name == name) return self->last[i].found;
    return NULL;
}

/* The collection of a young table (a new reference), made when missing; NULL with or
 * without an exception: without, the table is not young or the key or name is odd. */
PyObject *pn_kvt_young_slow(pn_kv_object *self, PyObject *collection);
static inline PyObject *pn_kvt_young(pn_kv_object *self, PyObject *collection, PyObject *key)
{
    if (self->kv != NULL || self->plain != NULL || (key != NULL && !PyUnicode_CheckExact(key))) return NULL;
    PyObject *known = pn_kvt_recall(self, collection);
    return known != NULL ? Py_NewRef(known) : pn_kvt_young_slow(self, collection);
}

/* ---- views ----
 *
 * Who asks a native table for its mappings gets views (python/pannier/_views.py), which come
 * back to the table with a name for every access. LlamaIndex gives its dicts themselves, which
 * keep what they hold wherever the store goes. So each view has a dict, its *home*, which
 * the table knows too: empty, until the collection leaves the table (dropped, or everything is
 * replaced) or the table surrenders. Then the home gets the contents, and is that collection's
 * dict from then on; the view finds that it is no home of the table's any more and reads it.
 * Nothing is copied for views that nobody holds. The name None is that of the mapping of
 * all collections, whose home becomes the outer dict. */

PyObject *pn_kvt_home(pn_kv_object *self, PyObject *name); /* of an exact str or None; a new reference */
/* Whether a view with that home shows what the table has under the name. */
bool pn_kvt_is_home(const pn_kv_object *self, PyObject *name, PyObject *home);
bool pn_kvt_viewed(const pn_kv_object *self); /* whether somebody holds a view */
/* The dicts that held homes are to be, in `*plain`, the dict of dicts that the table becomes;
 * -1: nothing has changed. */
int pn_kvt_move_home(pn_kv_object *self, PyObject **plain);
/* The collection is about to be dropped. Runs no code, unless it fails. */
int pn_kvt_leave(pn_kv_object *self, PyObject *name, pn_coll *coll);

/* ---- values ---- */

/* Where names of members are kept; NULL: nowhere. */
struct pn_key_cache *pn_kvt_keys_slow(pn_kv_object *self);
static inline struct pn_key_cache *pn_kvt_keys(pn_kv_object *self) { return self->keys ? self->keys : pn_kvt_keys_slow(self); }

typedef PyObject *(*pn_kvt_value)(struct pn_key_cache *keys, pn_coll *coll, pn_cell *cell); /* a new reference, or NULL with an exception */

PyObject *pn_kvt_promoted(struct pn_key_cache *keys, pn_coll *coll, pn_cell *cell);
PyObject *pn_kvt_decoded(struct pn_key_cache *keys, pn_coll *unused, pn_cell *cell);

/* {key: value} of a collection; all collections as one dict of dicts: of the table's live
 * values, or of values decoded for the occasion (live ones are the same objects either way). */
PyObject *pn_kvt_dict_of(struct pn_key_cache *keys, pn_coll *coll, pn_kvt_value get);
PyObject *pn_kvt_dicts_of(struct pn_key_cache *keys, pn_kv *kv, pn_kvt_value get);

/* Puts a live value (one more reference) under an exact str. *old as pn_coll_put has it. */
pn_status pn_kvt_put_cell(pn_coll *coll, PyObject *key, PyObject *value, pn_cell *old);

/* Whether the key's type is one that never equals a str. */
bool pn_kvt_never_str(PyObject *key);

#endif
