/* kv_type.c: KVTable, collections of values behind the peer's SimpleKVStore interface.
 *
 * A table begins *young*: nothing but put, get, get_all and delete with exact str has
 * happened, so every value is a live object and every key a str, which nothing holds
 * better than dicts. These are the table's own: nobody else has seen them. Anything else
 * (a file loaded, documents added, a persist) makes it *native*, a pn_kv, for good. And
 * it may be *surrendered*: a plain dict of dicts is the truth and every method works on
 * that, as the peer's own store does. It surrenders when a caller hands in or asks for
 * the dicts themselves (constructor data, to_dict, an assigned mapping), or uses a key
 * that is no exact str. In all three callers see the same: values are shared but for
 * their top level, order is insertion order.
 *
 * No method releases the GIL while it looks at the table, so the GIL is its lock.
 * What an operation displaces is released last, since that may run Python code.
 */
#include "py/kv_type.h"

#include "store/refdoc.h"

enum { LAST = 4 };

typedef struct {
    PyObject_HEAD
    pn_kv *kv;       /* the store of a native table */
    PyObject *plain; /* the dict of dicts, once surrendered */
    PyObject *young; /* {name: {key: value}} of a young one; NULL also while empty */
    /* The collections that were last asked for: callers use the same few name objects again
     * and again. Dicts of a young table, else pn_colls, which are good while kv holds the
     * same ones (its version says so). Borrowed; the names are held. */
    struct {
        PyObject *name;
        void *found;
    } last[LAST];
    unsigned next_last; /* the one to be replaced next */
    uint64_t last_version;
    PyObject *default_name; /* "data", once used */
    /* What get_all handed out a copy of, the last time: see all_of. */
    PyObject *all;
    pn_coll *all_coll;
    uint64_t all_version;
} kv_object;

/* ---- surrender ---- */

typedef PyObject *(*value_of)(pn_coll *coll, pn_cell *cell); /* a new reference, or NULL with an exception */

static PyObject *promoted(pn_coll *coll, pn_cell *cell) { return Py_XNewRef(pn_py_promote(coll, cell)); }
static PyObject *decoded(pn_coll *unused, pn_cell *cell)
{
    (void)unused;
    return pn_py_cell_value(cell);
}

static PyObject *plain_collection(pn_coll *coll, value_of get)
{
    int gc = pn_gc_pause();
    PyObject *dict = PyDict_New();
    size_t pos = 0;
    pn_bytes key;
    void *cell;
    while (dict != NULL && pn_omap_next(&coll->cells, &pos, &key, &cell)) {
        PyObject *k = pn_py_str(key), *v = k ? get(coll, cell) : NULL;
        if (v == NULL || PyDict_SetItem(dict, k, v) < 0) Py_CLEAR(dict);
        Py_XDECREF(k);
        Py_XDECREF(v);
    }
    pn_gc_resume(gc);
    return dict;
}

/* All collections as one dict of dicts: of the table's live values, or of values decoded
 * for the occasion (live ones are the same objects either way). */
static PyObject *plain_store(pn_kv *kv, value_of get)
{
    int gc = pn_gc_pause();
    PyObject *outer = PyDict_New();
    size_t pos = 0;
    pn_bytes name;
    void *slot;
    while (outer != NULL && pn_omap_next(&kv->colls, &pos, &name, &slot)) {
        PyObject *k = pn_py_str(name), *v = k ? plain_collection(*(pn_coll **)slot, get) : NULL;
        if (v == NULL || PyDict_SetItem(outer, k, v) < 0) Py_CLEAR(outer);
        Py_XDECREF(k);
        Py_XDECREF(v);
    }
    pn_gc_resume(gc);
    return outer;
}

static void forget_last(kv_object *self)
{
    for (int i = 0; i < LAST; i++) {
        self->last[i].found = NULL;
        Py_CLEAR(self->last[i].name); /* an exact str: releasing one runs no code */
    }
}

static void *recall(const kv_object *self, const PyObject *name)
{
    for (int i = 0; i < LAST; i++)
        if (self->last[i].name == name) return self->last[i].found;
    return NULL;
}

static void remember(kv_object *self, PyObject *name, void *found)
{
    unsigned i = self->next_last++ % LAST;
    Py_XSETREF(self->last[i].name, Py_NewRef(name));
    self->last[i].found = found;
}

/* May run code: a value that was removed may have been held here alone. */
static void forget_all(kv_object *self)
{
    self->all_coll = NULL;
    Py_CLEAR(self->all);
}

static int adopt(kv_object *self, PyObject *plain)
{
    pn_kv *kv = self->kv;
    PyObject *old = self->plain, *young = self->young;
    forget_last(self);
    self->kv = NULL;
    self->young = NULL;
    self->plain = Py_NewRef(plain);
    forget_all(self);
    pn_kv_unref(kv);
    Py_XDECREF(young);
    Py_XDECREF(old);
    return 0;
}

static int surrender(kv_object *self)
{
    if (self->plain != NULL) return 0;
    PyObject *plain = self->kv ? plain_store(self->kv, promoted) : self->young ? Py_NewRef(self->young) : PyDict_New();
    if (plain == NULL) return -1;
    adopt(self, plain);
    Py_DECREF(plain);
    return 0;
}

/* ---- finding things ---- */

/* KeyError(key) also for a tuple or None, which PyErr_SetObject takes for its arguments. */
static void raise_key_error(PyObject *key)
{
    PyObject *args = PyTuple_Pack(1, key);
    if (args != NULL) PyErr_SetObject(PyExc_KeyError, args);
    Py_XDECREF(args);
}

static pn_status put_cell(pn_coll *coll, PyObject *key, PyObject *value, pn_cell *old)
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
            PN_TRY(put_cell(coll, key, value, &none));
        }
    }
    return PN_OK;
}

/* Makes a young table native. */
static int ready(kv_object *self)
{
    if (self->kv != NULL || self->plain != NULL) return 0;
    pn_kv *kv;
    int gc = pn_gc_pause();
    pn_status s = pn_kv_new(&pn_alloc_system, &pn_py_host, &kv);
    if (s == PN_OK && (s = grow_up(self->young, kv)) != PN_OK) pn_kv_unref(kv);
    pn_gc_resume(gc);
    if (s != PN_OK) return pn_py_raise(s, NULL, NULL), -1;
    forget_last(self);
    self->kv = kv;
    Py_CLEAR(self->young); /* the values are the store's now: nothing is let go of */
    return 0;
}

pn_kv *pn_py_kv(pn_module_state *state, PyObject *table)
{
    if (!PyObject_TypeCheck(table, state->kv_type)) return NULL;
    kv_object *self = (kv_object *)table;
    if (ready(self) < 0) {
        PyErr_Clear();
        return NULL;
    }
    if (self->all != NULL) forget_all(self); /* the caller may change what it was made of */
    return self->kv;
}

/* Keys of these types never equal a str. */
static bool never_equals_str(PyObject *key)
{
    return key == Py_None || PyLong_CheckExact(key) || PyFloat_CheckExact(key) || PyBool_Check(key) ||
           PyTuple_CheckExact(key) || PyBytes_CheckExact(key);
}

/* The collection of a surrendered table (a new reference), created when missing, as the peer. */
static PyObject *plain_mapping(kv_object *self, PyObject *collection)
{
    PyObject *outer = Py_NewRef(self->plain); /* hashing the name may run code that replaces it */
    PyObject *m = PyObject_GetItem(outer, collection);
    if (m == NULL && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        m = PyDict_New();
        if (m != NULL && PyObject_SetItem(outer, collection, m) < 0) Py_CLEAR(m);
    }
    Py_DECREF(outer);
    return m;
}

/* The collection of a native table, created when missing; NULL with or without an
 * exception: without, the table has been surrendered. */
static pn_coll *native_collection(kv_object *self, PyObject *collection)
{
    if (ready(self) < 0 || self->kv == NULL) return NULL;
    if (self->last_version != self->kv->colls.version) forget_last(self);
    pn_coll *coll = recall(self, collection);
    if (coll != NULL) return coll;
    if (!PyUnicode_CheckExact(collection)) {
        surrender(self);
        return NULL;
    }
    pn_status s = pn_py_named_collection(self->kv, collection, &coll);
    if (s != PN_OK) return pn_py_raise(s, NULL, NULL), NULL;
    if (self->last_version != self->kv->colls.version) forget_last(self);
    self->last_version = self->kv->colls.version;
    remember(self, collection, coll);
    return coll;
}

pn_coll *pn_py_coll(pn_module_state *state, PyObject *table, PyObject *name)
{
    pn_kv *kv = pn_py_kv(state, table);
    return kv != NULL && PyUnicode_CheckExact(name) ? native_collection((kv_object *)table, name) : NULL;
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

/* The collection of a young table (a new reference), made when missing; NULL with or
 * without an exception: without, the table is not young or the key or name is odd. */
static PyObject *young_map(kv_object *self, PyObject *collection, PyObject *key)
{
    if (key != NULL && !PyUnicode_CheckExact(key)) return NULL;
    if (self->kv != NULL || self->plain != NULL) return NULL;
    PyObject *known = recall(self, collection);
    if (known != NULL) return Py_NewRef(known);
    if (!PyUnicode_CheckExact(collection)) return NULL;
    int gc = pn_gc_pause(); /* a finalizer could use the table */
    if (self->young == NULL) self->young = PyDict_New();
    PyObject *map = self->young ? inner_dict(self->young, collection) : NULL;
    pn_gc_resume(gc);
    if (map == NULL) return NULL;
    remember(self, collection, map);
    return Py_NewRef(map);
}

/* Parses (first [, second], collection="data") of a fast call: the peer's signatures. */
typedef struct {
    PyObject *first, *second, *collection;
} call_args;

static bool is_name(PyObject *kw, const char *name)
{
    size_t len = strlen(name);
    return PyUnicode_IS_COMPACT_ASCII(kw) && (size_t)PyUnicode_GET_LENGTH(kw) == len &&
           memcmp(PyUnicode_1BYTE_DATA(kw), name, len) == 0;
}

static bool parse_any(const char *fn, const char *first, const char *second, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames, call_args *out)
{
    PyObject **slots[] = {&out->first, second ? &out->second : &out->collection, second ? &out->collection : NULL};
    const char *names[] = {first, second ? second : "collection", second ? "collection" : NULL};
    Py_ssize_t count = second ? 3 : 2;
    *out = (call_args){NULL, NULL, NULL};
    if (nargs > count) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd positional arguments (%zd given)", fn, count + 1, nargs + 1);
        return false;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) *slots[i] = args[i];
    for (Py_ssize_t k = 0; kwnames != NULL && k < PyTuple_GET_SIZE(kwnames); k++) {
        PyObject *kw = PyTuple_GET_ITEM(kwnames, k);
        Py_ssize_t i = 0;
        while (i < count && !is_name(kw, names[i])) i++;
        if (i == count || *slots[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got %s argument '%U'", fn,
                         i == count ? "an unexpected keyword" : "multiple values for", kw);
            return false;
        }
        *slots[i] = args[nargs + k];
    }
    if (out->first == NULL || (second != NULL && out->second == NULL)) {
        PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", fn, out->first ? second : first);
        return false;
    }
    return true;
}

static inline bool parse_call(const char *fn, const char *first, const char *second, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames, call_args *out)
{
    Py_ssize_t needed = second ? 2 : 1;
    if (kwnames != NULL || nargs < needed || nargs > needed + 1)
        return parse_any(fn, first, second, args, nargs, kwnames, out);
    *out = (call_args){args[0], second ? args[1] : NULL, nargs > needed ? args[needed] : NULL};
    return true;
}

/* The name itself, or "data" for none; borrowed, of the caller or the table. */
static PyObject *or_default(kv_object *self, PyObject *collection)
{
    if (collection != NULL) return collection;
    if (self->default_name == NULL) self->default_name = PyUnicode_InternFromString("data");
    return self->default_name;
}

/* ---- put ---- */

static int put_live(kv_object *self, PyObject *collection, PyObject *key, PyObject *value)
{
    if (!PyUnicode_CheckExact(key)) {
        if (PyObject_Hash(key) == -1) return -1;
        if (surrender(self) < 0) return -1;
    }
    forget_all(self);
    pn_coll *coll = native_collection(self, collection);
    if (coll == NULL) {
        if (PyErr_Occurred()) return -1;
        PyObject *m = plain_mapping(self, collection);
        int r = m ? PyObject_SetItem(m, key, value) : -1;
        Py_XDECREF(m);
        return r;
    }
    pn_cell old = {.kind = PN_CELL_EMPTY};
    pn_status s = put_cell(coll, key, value, &old);
    pn_cell_release(&old, &pn_py_host);
    return s == PN_OK ? 0 : (pn_py_raise(s, NULL, NULL), -1);
}

/* val.copy(), as the peer does. */
static PyObject *shallow_copy(PyObject *value)
{
    return PyDict_CheckExact(value) ? PyDict_Copy(value) : PyObject_CallMethod(value, "copy", NULL);
}

static int put_copy(kv_object *self, PyObject *collection, PyObject *key, PyObject *value)
{
    /* the peer evaluates the copy first, then touches the collection, then stores */
    PyObject *copy = shallow_copy(value);
    if (copy == NULL) return -1;
    PyObject *map = young_map(self, collection, key);
    int r = map              ? PyDict_SetItem(map, key, copy)
            : PyErr_Occurred() ? -1
                               : put_live(self, collection, key, copy);
    Py_XDECREF(map);
    Py_DECREF(copy);
    return r;
}

static PyObject *kv_put(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    call_args a;
    if (!parse_call("put", "key", "val", args, nargs, kwnames, &a)) return NULL;
    PyObject *collection = or_default((kv_object *)op, a.collection);
    if (collection == NULL || put_copy((kv_object *)op, collection, a.first, a.second) < 0) return NULL;
    Py_RETURN_NONE;
}

/* Puts the pairs of a list or tuple up to the first that is no pair; tells how many. */
static PyObject *kv_put_pairs(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !(PyList_CheckExact(args[0]) || PyTuple_CheckExact(args[0])))
        return PyErr_Format(PyExc_TypeError, "_put_pairs(list or tuple, collection)");
    PyObject *pairs = args[0];
    Py_ssize_t i = 0;
    for (; i < PySequence_Fast_GET_SIZE(pairs); i++) { /* copying a value may run code that changes the list */
        PyObject *pair = PySequence_Fast_GET_ITEM(pairs, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2) break;
        Py_INCREF(pair);
        int r = put_copy((kv_object *)op, args[1], PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
        Py_DECREF(pair);
        if (r < 0) return NULL;
    }
    return PyLong_FromSsize_t(i);
}

/* ---- get ---- */

/* mapping[key], a new reference, or NULL: missing when no exception is set. */
static PyObject *plain_value(PyObject *mapping, PyObject *key)
{
    if (PyDict_CheckExact(mapping)) return Py_XNewRef(PyDict_GetItemWithError(mapping, key));
    return PySequence_Contains(mapping, key) > 0 ? PyObject_GetItem(mapping, key) : NULL;
}

/* The live value (a new reference), or NULL: missing when no exception is set. */
static PyObject *find_live(kv_object *self, PyObject *collection, PyObject *key)
{
    if (!PyUnicode_CheckExact(key) && !never_equals_str(key)) {
        if (surrender(self) < 0) return NULL;
    }
    pn_coll *coll = native_collection(self, collection);
    if (coll == NULL) {
        if (PyErr_Occurred()) return NULL;
        PyObject *m = plain_mapping(self, collection), *v = m ? plain_value(m, key) : NULL;
        Py_XDECREF(m);
        return v;
    }
    if (!PyUnicode_CheckExact(key)) {
        (void)PyObject_Hash(key); /* unhashable: TypeError */
        return NULL;
    }
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes k;
    pn_cell *cell = pn_py_key(key, &scratch, &k) ? pn_coll_get(coll, k) : NULL;
    pn_buf_clear(&scratch);
    return cell != NULL ? Py_XNewRef(pn_py_promote(coll, cell)) : NULL;
}

/* As find_live, in any table. */
static PyObject *find_value(kv_object *self, PyObject *collection, PyObject *key)
{
    PyObject *map = young_map(self, collection, key);
    if (map == NULL) return PyErr_Occurred() ? NULL : find_live(self, collection, key);
    PyObject *value = Py_XNewRef(PyDict_GetItemWithError(map, key));
    Py_DECREF(map);
    return value;
}

static PyObject *get_copy(kv_object *self, PyObject *collection, PyObject *key)
{
    PyObject *live = find_value(self, collection, key);
    if (live == NULL) return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    PyObject *copy = shallow_copy(live);
    Py_DECREF(live);
    return copy;
}

static PyObject *kv_get(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    call_args a;
    if (!parse_call("get", "key", NULL, args, nargs, kwnames, &a)) return NULL;
    PyObject *collection = or_default((kv_object *)op, a.collection);
    return collection ? get_copy((kv_object *)op, collection, a.first) : NULL;
}

static PyObject *kv_get_keys(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "_get_keys(keys, collection)");
    PyObject *keys = PyObject_GetIter(args[0]), *list = keys ? PyList_New(0) : NULL, *key;
    while (list != NULL && (key = PyIter_Next(keys)) != NULL) {
        PyObject *value = get_copy((kv_object *)op, args[1], key);
        if (value == NULL || PyList_Append(list, value) < 0) Py_CLEAR(list);
        Py_XDECREF(value);
        Py_DECREF(key);
    }
    Py_XDECREF(keys);
    if (list != NULL && PyErr_Occurred()) Py_CLEAR(list);
    return list;
}

/* Whether every value of the collection is the one that stands at its place in the dict. */
static bool holds_all(const pn_coll *coll, PyObject *dict)
{
    size_t pos = 0;
    Py_ssize_t at = 0;
    pn_bytes key;
    void *cell;
    PyObject *value;
    while (pn_omap_next(&coll->cells, &pos, &key, &cell)) {
        const pn_cell *c = cell;
        if (!PyDict_Next(dict, &at, NULL, &value) || c->kind != PN_CELL_LIVE || c->live != value) return false;
    }
    return !PyDict_Next(dict, &at, NULL, &value);
}

/* {key: live value} of a native collection (a new reference): kept from one call to the
 * next, since copying a dict costs a fraction of making it, and looked through whether it
 * still holds. */
static PyObject *all_of(kv_object *self, pn_coll *coll)
{
    if (self->all != NULL && self->all_coll == coll && self->all_version == coll->cells.version &&
        holds_all(coll, self->all))
        return Py_NewRef(self->all);
    PyObject *dict = plain_collection(coll, promoted), *old = self->all;
    if (dict == NULL) return NULL;
    self->all = Py_NewRef(dict);
    self->all_coll = coll;
    self->all_version = coll->cells.version;
    Py_XDECREF(old);
    return dict;
}

static PyObject *get_all(kv_object *self, PyObject *collection)
{
    PyObject *map = young_map(self, collection, NULL);
    if (map == NULL && !PyErr_Occurred()) {
        pn_coll *coll = native_collection(self, collection);
        if (coll != NULL)
            map = all_of(self, coll);
        else if (!PyErr_Occurred())
            map = plain_mapping(self, collection);
    }
    if (map == NULL) return NULL;
    PyObject *copy = PyDict_CheckExact(map) ? PyDict_Copy(map) : PyObject_CallOneArg((PyObject *)&PyDict_Type, map);
    Py_DECREF(map);
    return copy;
}

static PyObject *kv_get_all(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *collection = nargs ? args[0] : NULL;
    if (nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0) > 1 ||
        (kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1 && !is_name(PyTuple_GET_ITEM(kwnames, 0), "collection"))) {
        PyErr_SetString(PyExc_TypeError, "get_all() takes one optional argument: 'collection'");
        return NULL;
    }
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1) collection = args[nargs];
    collection = or_default((kv_object *)op, collection);
    return collection ? get_all((kv_object *)op, collection) : NULL;
}

/* ---- delete ---- */

static PyObject *call_pop(PyObject *mapping, PyObject *key)
{
    PyObject *pop = PyObject_GetAttrString(mapping, "pop");
    PyObject *value = pop ? PyObject_CallOneArg(pop, key) : NULL;
    Py_XDECREF(pop);
    return value;
}

/* 1 removed, 0 was not there, -1 exception. */
static int remove_key(kv_object *self, PyObject *collection, PyObject *key)
{
    if (!PyUnicode_CheckExact(key) && !never_equals_str(key)) {
        if (surrender(self) < 0) return -1;
    }
    forget_all(self);
    pn_coll *coll = native_collection(self, collection);
    if (coll == NULL) {
        if (PyErr_Occurred()) return -1;
        PyObject *m = plain_mapping(self, collection);
        PyObject *gone = m ? call_pop(m, key) : NULL;
        Py_XDECREF(m);
        Py_XDECREF(gone);
        if (gone != NULL) return 1;
        if (!PyErr_ExceptionMatches(PyExc_KeyError)) return -1;
        PyErr_Clear();
        return 0;
    }
    if (!PyUnicode_CheckExact(key)) return PyObject_Hash(key) == -1 ? -1 : 0;
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes k;
    pn_cell old = {.kind = PN_CELL_EMPTY};
    int removed = pn_py_key(key, &scratch, &k) ? pn_coll_remove(coll, k, &old) : -1;
    pn_buf_clear(&scratch);
    pn_cell_release(&old, &pn_py_host);
    return removed;
}

static int remove_from(PyObject *map, PyObject *key)
{
    PyObject *value = PyDict_GetItemWithError(map, key);
    if (value == NULL) return PyErr_Occurred() ? -1 : 0;
    Py_INCREF(value); /* let go of last: that may run code */
    int r = PyDict_DelItem(map, key) < 0 ? -1 : 1;
    Py_DECREF(value);
    return r;
}

/* As remove_key, in any table. */
static int remove_any(kv_object *self, PyObject *collection, PyObject *key)
{
    PyObject *map = young_map(self, collection, key);
    if (map == NULL) return PyErr_Occurred() ? -1 : remove_key(self, collection, key);
    int r = remove_from(map, key);
    Py_DECREF(map);
    return r;
}

static PyObject *kv_delete(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    call_args a;
    if (!parse_call("delete", "key", NULL, args, nargs, kwnames, &a)) return NULL;
    PyObject *collection = or_default((kv_object *)op, a.collection);
    int r = collection ? remove_any((kv_object *)op, collection, a.first) : -1;
    return r < 0 ? NULL : PyBool_FromLong(r);
}

/* ---- what the views and the stores need ---- */

static PyObject *kv_plain(PyObject *op, PyObject *unused)
{
    (void)unused;
    PyObject *plain = ((kv_object *)op)->plain;
    return Py_NewRef(plain ? plain : Py_None);
}

static PyObject *kv_surrender(PyObject *op, PyObject *unused)
{
    (void)unused;
    kv_object *self = (kv_object *)op;
    if (surrender(self) < 0) return NULL;
    return Py_NewRef(self->plain);
}

static PyObject *kv_dump(PyObject *op, PyObject *unused)
{
    (void)unused;
    kv_object *self = (kv_object *)op;
    if (ready(self) < 0) return NULL;
    return self->kv ? plain_store(self->kv, decoded) : Py_NewRef(self->plain);
}

static PyObject *kv_adopt(PyObject *op, PyObject *plain)
{
    adopt((kv_object *)op, plain);
    Py_RETURN_NONE;
}

static PyObject *kv_names(PyObject *op, PyObject *unused)
{
    (void)unused;
    kv_object *self = (kv_object *)op;
    if (ready(self) < 0) return NULL;
    return self->kv == NULL ? PySequence_List(self->plain) : pn_py_key_list(&self->kv->colls);
}

/* The native collection of that name without creating it; NULL: none. */
static pn_coll *peek_collection(kv_object *self, PyObject *name)
{
    if (self->kv == NULL || !PyUnicode_CheckExact(name)) return NULL;
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes n;
    pn_coll *coll = pn_py_key(name, &scratch, &n) ? pn_kv_find(self->kv, n) : NULL;
    pn_buf_clear(&scratch);
    return coll;
}

static PyObject *kv_keys(PyObject *op, PyObject *name)
{
    kv_object *self = (kv_object *)op;
    if (ready(self) < 0) return NULL;
    if (self->plain != NULL) {
        PyObject *m = PyObject_GetItem(self->plain, name), *keys = m ? PySequence_List(m) : NULL;
        Py_XDECREF(m);
        return keys;
    }
    pn_coll *coll = peek_collection(self, name);
    if (PyErr_Occurred()) return NULL;
    return coll ? pn_py_key_list(&coll->cells) : PyList_New(0);
}

static PyObject *kv_count(PyObject *op, PyObject *name)
{
    kv_object *self = (kv_object *)op;
    if (ready(self) < 0) return NULL;
    if (self->plain != NULL) {
        PyObject *m = PyObject_GetItem(self->plain, name);
        Py_ssize_t n = m ? PyObject_Length(m) : -1;
        Py_XDECREF(m);
        return n < 0 ? NULL : PyLong_FromSsize_t(n);
    }
    pn_coll *coll = peek_collection(self, name);
    if (PyErr_Occurred()) return NULL;
    return PyLong_FromSize_t(coll ? pn_omap_len(&coll->cells) : 0);
}

static PyObject *kv_live(PyObject *op, PyObject *args)
{
    PyObject *name, *key;
    if (!PyArg_ParseTuple(args, "OO:_live", &name, &key)) return NULL;
    PyObject *live = find_live((kv_object *)op, name, key);
    if (live == NULL && !PyErr_Occurred()) raise_key_error(key);
    return live;
}

static PyObject *kv_set_live(PyObject *op, PyObject *args)
{
    PyObject *name, *key, *value;
    if (!PyArg_ParseTuple(args, "OOO:_set_live", &name, &key, &value)) return NULL;
    return put_live((kv_object *)op, name, key, value) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *kv_has(PyObject *op, PyObject *args)
{
    PyObject *name, *key;
    if (!PyArg_ParseTuple(args, "OO:_has", &name, &key)) return NULL;
    kv_object *self = (kv_object *)op;
    if (ready(self) < 0) return NULL;
    pn_coll *coll = peek_collection(self, name);
    if (coll != NULL && PyUnicode_CheckExact(key)) {
        pn_buf scratch;
        pn_buf_init(&scratch, &pn_alloc_system);
        pn_bytes k;
        bool has = pn_py_key(key, &scratch, &k) && pn_coll_get(coll, k) != NULL;
        pn_buf_clear(&scratch);
        return PyErr_Occurred() ? NULL : PyBool_FromLong(has);
    }
    PyObject *live = find_live(self, name, key);
    bool has = live != NULL;
    Py_XDECREF(live);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(has);
}

static PyObject *kv_create(PyObject *op, PyObject *name)
{
    kv_object *self = (kv_object *)op;
    if (native_collection(self, name) == NULL) {
        PyObject *m = PyErr_Occurred() ? NULL : plain_mapping(self, name);
        if (m == NULL) return NULL;
        Py_DECREF(m);
    }
    Py_RETURN_NONE;
}

static PyObject *kv_drop(PyObject *op, PyObject *name)
{
    kv_object *self = (kv_object *)op;
    if (ready(self) < 0) return NULL;
    forget_all(self);
    if (self->kv == NULL) return PyObject_DelItem(self->plain, name) < 0 ? NULL : Py_NewRef(Py_None);
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes n;
    pn_coll *coll = NULL;
    if (PyUnicode_CheckExact(name) && pn_py_key(name, &scratch, &n)) coll = pn_kv_drop(self->kv, n);
    pn_buf_clear(&scratch);
    if (coll == NULL && !PyErr_Occurred()) raise_key_error(name);
    pn_coll_free(coll, &pn_alloc_system, &pn_py_host);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

void pn_py_kv_replace(PyObject *table, pn_kv *kv)
{
    kv_object *self = (kv_object *)table;
    pn_kv *old = self->kv;
    PyObject *plain = self->plain, *young = self->young;
    forget_last(self);
    self->kv = kv;
    self->plain = NULL;
    self->young = NULL;
    forget_all(self);
    pn_kv_unref(old);
    Py_XDECREF(young);
    Py_XDECREF(plain);
}

static PyObject *kv_load(PyObject *op, PyObject *text)
{
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    pn_blob *blob = state ? pn_py_blob(state, text) : NULL;
    if (blob == NULL) return NULL;
    pn_kv *kv = NULL;
    pn_status s;
    Py_BEGIN_ALLOW_THREADS /* the new store has no live value yet and nobody else sees it */
    s = pn_kv_load_json(&pn_alloc_system, &pn_py_host, blob, &kv, NULL);
    pn_blob_unref(blob);
    Py_END_ALLOW_THREADS
    if (s == PN_ERR_NOMEM) return PyErr_NoMemory();
    if (s != PN_OK) Py_RETURN_FALSE;
    pn_py_kv_replace(op, kv);
    Py_RETURN_TRUE;
}

/* Puts (collection, key) on the exception that is set. */
static void name_place(const pn_kv_place *place)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    PyObject *c = pn_py_str(place->collection), *k = c ? pn_py_str(place->key) : NULL;
    PyObject *pair = k ? PyTuple_Pack(2, c, k) : NULL;
    if (pair == NULL || value == NULL || PyObject_SetAttrString(value, "pn_place", pair) < 0) PyErr_Clear();
    Py_XDECREF(c);
    Py_XDECREF(k);
    Py_XDECREF(pair);
    PyErr_Restore(type, value, tb);
}

/* The value at that place is damaged: looking at it again tells where. */
static void raise_damaged_at(kv_object *self, const pn_kv_place *place)
{
    pn_coll *coll = self->kv ? pn_kv_find(self->kv, place->collection) : NULL;
    pn_cell *cell = coll ? pn_coll_get(coll, place->key) : NULL;
    if (cell == NULL || pn_py_settle(cell)) pn_py_raise(PN_ERR_CORRUPT, NULL, NULL);
}

enum { WRITE_TRIES = 20 };

/* The native contents. Other code may run while a live value is encoded: when it changed
 * the store, what was written is neither the old state nor the new, so again. */
static pn_status write_native(kv_object *self, pn_buf *out, pn_kv_place *place)
{
    pn_status s = PN_ERR_EXISTS;
    for (int i = 0; s == PN_ERR_EXISTS && i < WRITE_TRIES && self->kv != NULL; i++) {
        pn_kv *kv = pn_kv_ref(self->kv);
        out->len = 0;
        pn_kv_place_clear(place);
        s = pn_kv_write_json(kv, out, place);
        pn_kv_unref(kv);
    }
    return s;
}

static pn_status write_plain(kv_object *self, pn_buf *out)
{
    PyObject *plain = Py_NewRef(self->plain);
    out->len = 0;
    pn_status s = pn_py_encode(plain, PN_ENCODE_DUMPS, out);
    Py_DECREF(plain);
    return s;
}

static PyObject *kv_write(PyObject *op, PyObject *unused)
{
    (void)unused;
    kv_object *self = (kv_object *)op;
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL || ready(self) < 0) return NULL;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_kv_place place = {{NULL, 0}, {NULL, 0}, NULL, NULL};
    pn_status s = self->kv != NULL ? write_native(self, &out, &place) : write_plain(self, &out);
    if (s == PN_ERR_EXISTS && self->kv == NULL) s = write_plain(self, &out); /* surrendered meanwhile */
    PyObject *text = NULL;
    if (s == PN_OK) {
        text = pn_py_text(state, &out);
    } else if (s == PN_ERR_EXISTS) {
        PyErr_SetString(PyExc_RuntimeError, "the store was changed again and again while its values were encoded");
    } else if (s == PN_ERR_CORRUPT && place.key_owner != NULL) {
        raise_damaged_at(self, &place);
    } else {
        pn_py_raise(s, NULL, NULL);
        if (place.key_owner != NULL && s == PN_ERR_CALLBACK) name_place(&place);
    }
    pn_kv_place_clear(&place);
    pn_buf_clear(&out);
    return text;
}

/* ---- life ---- */

static int kv_traverse(PyObject *op, visitproc visit, void *arg)
{
    kv_object *self = (kv_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->plain);
    Py_VISIT(self->young);
    Py_VISIT(self->all);
    if (self->kv == NULL) return 0;
    size_t pos = 0;
    pn_bytes name;
    void *slot;
    while (pn_omap_next(&self->kv->colls, &pos, &name, &slot)) {
        const pn_coll *coll = *(pn_coll **)slot;
        size_t at = 0;
        pn_bytes key;
        void *value;
        while (pn_omap_next(&coll->cells, &at, &key, &value)) {
            const pn_cell *cell = value;
            if (cell->kind == PN_CELL_LIVE) Py_VISIT((PyObject *)cell->live);
            if (cell->kind == PN_CELL_REFDOC && cell->refdoc->metadata.kind == PN_CELL_LIVE)
                Py_VISIT((PyObject *)cell->refdoc->metadata.live);
        }
    }
    return 0;
}

static int kv_clear(PyObject *op)
{
    kv_object *self = (kv_object *)op;
    pn_kv *kv = self->kv;
    forget_last(self);
    self->kv = NULL;
    Py_CLEAR(self->default_name);
    forget_all(self);
    pn_kv_unref(kv);
    Py_CLEAR(self->young);
    Py_CLEAR(self->plain);
    return 0;
}

static void kv_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    kv_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

#define FAST(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef kv_methods[] = {
    {"put", FAST(kv_put), METH_FASTCALL | METH_KEYWORDS,
     "put($self, key, val, collection='data')\n--\n\nStores val.copy() under key; an overwrite keeps the key's place."},
    {"get", FAST(kv_get), METH_FASTCALL | METH_KEYWORDS,
     "get($self, key, collection='data')\n--\n\nA copy of the top level of the stored value; None if absent."},
    {"get_all", FAST(kv_get_all), METH_FASTCALL | METH_KEYWORDS,
     "get_all($self, collection='data')\n--\n\nA new dict of the stored values themselves, in insertion order."},
    {"delete", FAST(kv_delete), METH_FASTCALL | METH_KEYWORDS,
     "delete($self, key, collection='data')\n--\n\nRemoves; returns whether it was there."},
    {"_put_pairs", FAST(kv_put_pairs), METH_FASTCALL,
     "_put_pairs(list or tuple, collection) -> int: puts its pairs up to the first item that is no pair; how many."},
    {"_get_keys", FAST(kv_get_keys), METH_FASTCALL, "_get_keys(keys, collection) -> list: get of each."},
    {"_plain", kv_plain, METH_NOARGS, "The dict of dicts that a surrendered table works on, or None."},
    {"_surrender", kv_surrender, METH_NOARGS, "Turns the table into a plain dict of dicts and returns that."},
    {"_dump", kv_dump, METH_NOARGS, "The contents as a dict of dicts, for pickling; the table stays as it is."},
    {"_adopt", kv_adopt, METH_O, "Makes the given mapping the truth."},
    {"_names", kv_names, METH_NOARGS, "Names of the collections."},
    {"_keys", kv_keys, METH_O, "Keys of a collection."},
    {"_count", kv_count, METH_O, "Number of keys of a collection."},
    {"_live", kv_live, METH_VARARGS, "_live(collection, key): the stored value itself, or KeyError."},
    {"_set_live", kv_set_live, METH_VARARGS, "_set_live(collection, key, value): stores the value itself."},
    {"_has", kv_has, METH_VARARGS, "_has(collection, key) -> bool"},
    {"_create", kv_create, METH_O, "Creates the collection if missing."},
    {"_drop", kv_drop, METH_O, "Removes a collection, or KeyError."},
    {"_load", kv_load, METH_O, "_load(text) -> bool: replaces the contents; False if the text is not of the plain shape."},
    {"_write", kv_write, METH_NOARGS, "_write() -> Text: the bytes that json.dumps gives for the contents."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot kv_slots[] = {
    {Py_tp_doc, "Collections of values in insertion order: the C base of SimpleKVStore."},
    {Py_tp_methods, kv_methods},
    {Py_tp_traverse, kv_traverse},
    {Py_tp_clear, kv_clear},
    {Py_tp_dealloc, kv_dealloc},
    {0, NULL},
};

static PyType_Spec kv_spec = {
    .name = "pannier._core.KVTable",
    .basicsize = sizeof(kv_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = kv_slots,
};

int pn_py_add_kv(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    state->kv_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &kv_spec, NULL);
    return state->kv_type == NULL ? -1 : PyModule_AddType(module, state->kv_type);
}
