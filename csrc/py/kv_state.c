#include "py/kv_table.h"
#include "py/node_watch.h"

/* ---- surrender ---- */

struct pn_key_cache *pn_kvt_keys_slow(pn_kv_object *self)
{
    pn_module_state *state = pn_state_of_type(Py_TYPE(self));
    if (state == NULL) PyErr_Clear();
    return self->keys = state ? state->keys : NULL;
}

PyObject *pn_kvt_promoted(struct pn_key_cache *keys, pn_coll *coll, pn_cell *cell)
{
    return Py_XNewRef(pn_py_promote(keys, coll, cell));
}

PyObject *pn_kvt_decoded(struct pn_key_cache *keys, pn_coll *unused, pn_cell *cell)
{
    (void)unused;
    return pn_py_cell_value(keys, cell);
}

PyObject *pn_kvt_dict_of(struct pn_key_cache *keys, pn_coll *coll, pn_kvt_value get)
{
    int gc = pn_gc_pause();
    PyObject *dict = PyDict_New();
    size_t pos = 0;
    pn_bytes key;
    void *cell;
    while (dict != NULL && pn_omap_next(&coll->cells, &pos, &key, &cell)) {
        PyObject *k = pn_py_str(key), *v = k ? get(keys, coll, cell) : NULL;
        if (v == NULL || PyDict_SetItem(dict, k, v) < 0) Py_CLEAR(dict);
        Py_XDECREF(k);
        Py_XDECREF(v);
    }
    pn_gc_resume(gc);
    return dict;
}

PyObject *pn_kvt_dicts_of(struct pn_key_cache *keys, pn_kv *kv, pn_kvt_value get)
{
    int gc = pn_gc_pause();
    PyObject *outer = PyDict_New();
    size_t pos = 0;
    pn_bytes name;
    void *slot;
    while (outer != NULL && pn_omap_next(&kv->colls, &pos, &name, &slot)) {
        PyObject *k = pn_py_str(name), *v = k ? pn_kvt_dict_of(keys, *(pn_coll **)slot, get) : NULL;
        if (v == NULL || PyDict_SetItem(outer, k, v) < 0) Py_CLEAR(outer);
        Py_XDECREF(k);
        Py_XDECREF(v);
    }
    pn_gc_resume(gc);
    return outer;
}

void pn_kvt_forget_last(pn_kv_object *self)
{
    for (int i = 0; i < PN_KVT_LAST; i++) {
        self->last[i].found = NULL;
        Py_CLEAR(self->last[i].name); /* an exact str: releasing one runs no code */
    }
}

static void remember(pn_kv_object *self, PyObject *name, void *found)
{
    unsigned i = self->next_last++ % PN_KVT_LAST;
    Py_XSETREF(self->last[i].name, Py_NewRef(name));
    self->last[i].found = found;
}

void pn_kvt_forget_all(pn_kv_object *self)
{
    self->all_coll = NULL;
    Py_CLEAR(self->all);
}

int pn_kvt_adopt(pn_kv_object *self, PyObject *plain)
{
    pn_kv *kv = self->kv;
    PyObject *old = self->plain, *young = self->young;
    pn_kvt_forget_last(self);
    self->kv = NULL;
    self->young = NULL;
    self->plain = Py_NewRef(plain);
    Py_CLEAR(self->homes); /* those that nobody holds are empty */
    pn_kvt_forget_all(self);
    pn_kv_unref(kv);
    Py_XDECREF(young);
    Py_XDECREF(old);
    return 0;
}

int pn_kvt_surrender(pn_kv_object *self)
{
    if (self->plain != NULL) return 0;
    PyObject *plain = self->kv      ? pn_kvt_dicts_of(pn_kvt_keys(self), self->kv, pn_kvt_promoted)
                      : self->young ? Py_NewRef(self->young)
                                    : PyDict_New();
    int r = plain ? pn_kvt_move_home(self, &plain) : -1;
    if (r == 0) pn_kvt_adopt(self, plain);
    Py_XDECREF(plain);
    return r;
}

/* ---- finding things ---- */

pn_status pn_kvt_put_cell(pn_coll *coll, PyObject *key, PyObject *value, pn_cell *old)
{
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes k;
    pn_status s = PN_ERR_CALLBACK;
    if (pn_py_key(key, &scratch, &k)) {
        pn_cell cell = {.kind = PN_CELL_LIVE};
        cell.live = value;
        s = pn_coll_put(coll, k, NULL, cell, old);
        if (s == PN_OK) Py_INCREF(value);
    }
    pn_buf_clear(&scratch);
    return s;
}

pn_status pn_py_named_collection(pn_kv *kv, PyObject *name, pn_coll **out)
{
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes n;
    pn_status s = pn_py_key(name, &scratch, &n) ? pn_kv_collection(kv, n, out) : PN_ERR_CALLBACK;
    pn_buf_clear(&scratch);
    return s;
}

/* The same contents as a pn_kv. */
static pn_status grow_up(PyObject *young, pn_kv *kv)
{
    PyObject *name, *map, *key, *value;
    for (Py_ssize_t pos = 0; young != NULL && PyDict_Next(young, &pos, &name, &map);) {
        pn_coll *coll;
        PN_TRY(pn_py_named_collection(kv, name, &coll));
        PN_TRY(pn_omap_reserve(&coll->cells, (size_t)PyDict_GET_SIZE(map)));
        for (Py_ssize_t at = 0; PyDict_Next(map, &at, &key, &value);) {
            pn_cell none;
            PN_TRY(pn_kvt_put_cell(coll, key, value, &none));
        }
    }
    return PN_OK;
}

int pn_kvt_ready(pn_kv_object *self)
{
    if (self->kv != NULL || self->plain != NULL) return 0;
    pn_kv *kv;
    int gc = pn_gc_pause();
    pn_status s = pn_kv_new(&pn_alloc_system, &pn_py_host, &kv);
    if (s == PN_OK && (s = grow_up(self->young, kv)) != PN_OK) pn_kv_unref(kv);
    pn_gc_resume(gc);
    if (s != PN_OK) return pn_py_raise(s, NULL, NULL), -1;
    pn_kvt_forget_last(self);
    self->kv = kv;
    Py_CLEAR(self->young); /* the values are the store's now: nothing is let go of */
    return 0;
}

/* Whether the class's methods are KVTable's. A class that changes gets another version tag. */
static bool class_untouched(const pn_module_state *state, PyTypeObject *type)
{
    static const char *const names[] = {"put", "put_all", "get", "get_all", "delete", "to_dict"};
    bool same = true;
    for (size_t i = 0; same && i < sizeof names / sizeof *names; i++) {
        PyObject *its = PyObject_GetAttrString((PyObject *)type, names[i]);
        PyObject *ours = PyObject_GetAttrString((PyObject *)state->kv_type, names[i]);
        same = its != NULL && its == ours; /* a C method of a class is one object */
        Py_XDECREF(its);
        Py_XDECREF(ours);
    }
    PyErr_Clear();
    return same;
}

bool pn_py_kv_untouched(pn_module_state *state, PyObject *table)
{
    enum { FIELDS = 0 };
    pn_kv_object *self = (pn_kv_object *)table;
    PyTypeObject *type = Py_TYPE(self);
    unsigned tag = pn_type_version(type);
    if (tag == 0 || (tag != self->own_tag && tag != state->kv_own_tag)) {
        if (!class_untouched(state, type)) return false;
        tag = state->kv_own_tag = pn_type_version(type);
    }
    self->own_tag = tag;
    PyObject *dict = PyObject_GenericGetDict(table, NULL);
    bool untouched = dict != NULL && !pn_instance_hides(dict, type, FIELDS);
    Py_XDECREF(dict);
    PyErr_Clear();
    return untouched;
}

/* The store of a table that is native or gets so; NULL for any other, without an exception. */
static pn_kv *contents(pn_kv_object *self)
{
    if (pn_kvt_ready(self) < 0) {
        PyErr_Clear();
        return NULL;
    }
    if (self->all != NULL) pn_kvt_forget_all(self); /* the caller may change what it was made of */
    return self->kv;
}

pn_kv *pn_py_kv(pn_module_state *state, PyObject *table)
{
    bool usual = PyObject_TypeCheck(table, state->kv_type) && pn_py_kv_untouched(state, table);
    return usual ? contents((pn_kv_object *)table) : NULL;
}

pn_kv *pn_py_kv_contents(pn_module_state *state, PyObject *table)
{
    return PyObject_TypeCheck(table, state->kv_type) ? contents((pn_kv_object *)table) : NULL;
}

bool pn_kvt_never_str(PyObject *key)
{
    return key == Py_None || PyLong_CheckExact(key) || PyFloat_CheckExact(key) || PyBool_Check(key) ||
           PyTuple_CheckExact(key) || PyBytes_CheckExact(key);
}

/* outer[name] = factory() */
static int make_mapping(pn_kv_object *self, PyObject *outer, PyObject *name)
{
    PyObject *factory = Py_XNewRef(self->factory), *m = factory ? PyObject_CallNoArgs(factory) : PyDict_New();
    int r = m ? PyObject_SetItem(outer, name, m) : -1;
    Py_XDECREF(factory);
    Py_XDECREF(m);
    return r;
}

PyObject *pn_kvt_plain(pn_kv_object *self, PyObject *collection)
{
    PyObject *outer = Py_NewRef(self->plain); /* hashing the name may run code that replaces it */
    PyObject *m = PyDict_CheckExact(outer) ? Py_XNewRef(PyDict_GetItemWithError(outer, collection)) : NULL;
    if (m == NULL && !PyErr_Occurred()) {
        int there = PySequence_Contains(outer, collection);
        if (there == 0) there = make_mapping(self, outer, collection);
        if (there >= 0) m = PyObject_GetItem(outer, collection);
    }
    Py_DECREF(outer);
    return m;
}

pn_coll *pn_kvt_native(pn_kv_object *self, PyObject *collection)
{
    if (pn_kvt_ready(self) < 0 || self->kv == NULL) return NULL;
    if (self->last_version != self->kv->colls.version) pn_kvt_forget_last(self);
    pn_coll *coll = pn_kvt_recall(self, collection);
    if (coll != NULL) return coll;
    if (!PyUnicode_CheckExact(collection)) {
        pn_kvt_surrender(self);
        return NULL;
    }
    pn_status s = pn_py_named_collection(self->kv, collection, &coll);
    if (s != PN_OK) return pn_py_raise(s, NULL, NULL), NULL;
    if (self->last_version != self->kv->colls.version) pn_kvt_forget_last(self);
    self->last_version = self->kv->colls.version;
    remember(self, collection, coll);
    return coll;
}

pn_coll *pn_py_coll(pn_module_state *state, PyObject *table, PyObject *name)
{
    pn_kv *kv = pn_py_kv(state, table);
    return kv != NULL && PyUnicode_CheckExact(name) ? pn_kvt_native((pn_kv_object *)table, name) : NULL;
}

/* The dict of that name in an outer dict, made when missing; borrowed. */
static PyObject *inner_dict(PyObject *outer, PyObject *name)
{
    PyObject *map = PyDict_GetItemWithError(outer, name);
    if (map != NULL || PyErr_Occurred() || (map = PyDict_New()) == NULL) return map;
    int failed = PyDict_SetItem(outer, name, map);
    Py_DECREF(map);
    return failed ? NULL : map;
}

PyObject *pn_kvt_young_slow(pn_kv_object *self, PyObject *collection)
{
    if (!PyUnicode_CheckExact(collection)) return NULL;
    int gc = pn_gc_pause(); /* a finalizer could use the table */
    if (self->young == NULL) self->young = PyDict_New();
    PyObject *map = self->young ? inner_dict(self->young, collection) : NULL;
    pn_gc_resume(gc);
    if (map == NULL) return NULL;
    remember(self, collection, map);
    return Py_NewRef(map);
}
