/* kv_type.c: KVTable, collections of values behind the peer's SimpleKVStore interface: its
 * methods. kv_table.h tells what a table is.
 */
#include "py/kv_table.h"
#include "py/node_watch.h"

#include "store/refdoc.h"

typedef pn_kv_object kv_object;

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
    if (!PyUnicode_CheckExact(key) && pn_kvt_surrender(self) < 0) return -1;
    pn_kvt_forget_all(self);
    pn_coll *coll = pn_kvt_native(self, collection);
    if (coll == NULL) {
        if (PyErr_Occurred()) return -1;
        PyObject *m = pn_kvt_plain(self, collection);
        int r = m ? PyObject_SetItem(m, key, value) : -1;
        Py_XDECREF(m);
        return r;
    }
    pn_cell old = {.kind = PN_CELL_EMPTY};
    pn_status s = pn_kvt_put_cell(coll, key, value, &old);
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
    PyObject *map = pn_kvt_young(self, collection, key);
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

/* Puts the pairs of a list or tuple up to the first item that is no pair; how many, or -1. */
static Py_ssize_t put_pairs(kv_object *self, PyObject *pairs, PyObject *collection)
{
    Py_ssize_t i = 0;
    for (; i < PySequence_Fast_GET_SIZE(pairs); i++) { /* copying a value may run code that changes the list */
        PyObject *pair = PySequence_Fast_GET_ITEM(pairs, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2) break;
        Py_INCREF(pair);
        int r = put_copy(self, collection, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
        Py_DECREF(pair);
        if (r < 0) return -1;
    }
    return i;
}

static bool parse_put_all(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject *out[3])
{
    static const char *const names[] = {"kv_pairs", "collection", "batch_size"};
    if (nargs > 3) return PyErr_Format(PyExc_TypeError, "put_all() takes at most 4 positional arguments (%zd given)", nargs + 1), false;
    for (Py_ssize_t i = 0; i < nargs; i++) out[i] = args[i];
    for (Py_ssize_t k = 0; kwnames != NULL && k < PyTuple_GET_SIZE(kwnames); k++) {
        PyObject *kw = PyTuple_GET_ITEM(kwnames, k);
        int i = 0;
        while (i < 3 && !is_name(kw, names[i])) i++;
        if (i == 3 || out[i] != NULL)
            return PyErr_Format(PyExc_TypeError, "put_all() got an unexpected or repeated argument '%U'", kw), false;
        out[i] = args[nargs + k];
    }
    return out[0] != NULL || (PyErr_SetString(PyExc_TypeError, "put_all() missing required argument: 'kv_pairs'"), false);
}

static PyObject *kv_put_all(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *a[3] = {NULL, NULL, NULL};
    if (!parse_put_all(args, nargs, kwnames, a)) return NULL;
    PyObject *collection = or_default((kv_object *)op, a[1]);
    if (collection == NULL) return NULL;
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL) return NULL;
    Py_ssize_t done = 0;
    if ((PyList_CheckExact(a[0]) || PyTuple_CheckExact(a[0])) && pn_py_kv_untouched(state, op)) {
        done = put_pairs((kv_object *)op, a[0], collection);
        if (done < 0) return NULL;
        if (done >= PySequence_Fast_GET_SIZE(a[0])) Py_RETURN_NONE;
    }
    return PyObject_CallMethod(op, "_put_rest", "OnO", a[0], done, collection);
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
    if (!PyUnicode_CheckExact(key) && !pn_kvt_never_str(key)) {
        if (pn_kvt_surrender(self) < 0) return NULL;
    }
    pn_coll *coll = pn_kvt_native(self, collection);
    if (coll == NULL) {
        if (PyErr_Occurred()) return NULL;
        PyObject *m = pn_kvt_plain(self, collection), *v = m ? plain_value(m, key) : NULL;
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
    return cell != NULL ? Py_XNewRef(pn_py_promote(pn_kvt_keys(self), coll, cell)) : NULL;
}

/* As find_live, in any table. */
static PyObject *find_value(kv_object *self, PyObject *collection, PyObject *key)
{
    PyObject *map = pn_kvt_young(self, collection, key);
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

/* {key: live value} of a native collection (a new reference): kept from one call to the
 * next, since copying a dict costs a fraction of making it. What turns a live value of a collection
 * into text again comes through pn_py_kv, which forgets it. */
static PyObject *all_of(kv_object *self, pn_coll *coll)
{
    if (self->all != NULL && self->all_coll == coll && self->all_version == pn_coll_version(coll))
        return Py_NewRef(self->all);
    PyObject *dict = pn_kvt_dict_of(pn_kvt_keys(self), coll, pn_kvt_promoted), *old = self->all;
    if (dict == NULL) return NULL;
    self->all = NULL;
    pn_kvt_forget_all(self);
    self->all = Py_NewRef(dict);
    self->all_coll = coll;
    self->all_version = pn_coll_version(coll);
    Py_XDECREF(old); /* may run code */
    return dict;
}

static PyObject *get_all(kv_object *self, PyObject *collection)
{
    PyObject *map = pn_kvt_young(self, collection, NULL);
    if (map == NULL && !PyErr_Occurred()) {
        pn_coll *coll = pn_kvt_native(self, collection);
        if (coll != NULL)
            map = all_of(self, coll);
        else if (!PyErr_Occurred())
            map = pn_kvt_plain(self, collection);
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
    if (!PyUnicode_CheckExact(key) && !pn_kvt_never_str(key)) {
        if (pn_kvt_surrender(self) < 0) return -1;
    }
    pn_kvt_forget_all(self);
    pn_coll *coll = pn_kvt_native(self, collection);
    if (coll == NULL) {
        if (PyErr_Occurred()) return -1;
        PyObject *m = pn_kvt_plain(self, collection);
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
    pn_kv_let_go(self->kv, &old);
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
    PyObject *map = pn_kvt_young(self, collection, key);
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
    if (pn_kvt_surrender(self) < 0) return NULL;
    return Py_NewRef(self->plain);
}

PyObject *pn_py_kv_to_dict(PyObject *table)
{
    kv_object *self = (kv_object *)table;
    if (pn_kvt_surrender(self) < 0) return NULL;
    PyObject *plain = Py_NewRef(self->plain), *copy = shallow_copy(plain);
    Py_DECREF(plain);
    return copy;
}

static PyObject *kv_to_dict(PyObject *op, PyObject *unused)
{
    (void)unused;
    return pn_py_kv_to_dict(op);
}

static PyObject *kv_dump(PyObject *op, PyObject *unused)
{
    (void)unused;
    kv_object *self = (kv_object *)op;
    if (pn_kvt_ready(self) < 0) return NULL;
    return self->kv ? pn_kvt_dicts_of(pn_kvt_keys(self), self->kv, pn_kvt_decoded) : Py_NewRef(self->plain);
}

/* What views show must outlive the table's own contents: it becomes theirs. */
static int part_with_views(kv_object *self) { return pn_kvt_viewed(self) ? pn_kvt_surrender(self) : 0; }

static PyObject *kv_adopt(PyObject *op, PyObject *plain)
{
    if (part_with_views((kv_object *)op) < 0) return NULL;
    pn_kvt_adopt((kv_object *)op, plain);
    Py_RETURN_NONE;
}

static PyObject *kv_home(PyObject *op, PyObject *name)
{
    kv_object *self = (kv_object *)op;
    if (pn_kvt_ready(self) < 0) return NULL;
    bool odd = name != Py_None && !PyUnicode_CheckExact(name);
    if (odd && pn_kvt_surrender(self) < 0) return NULL;
    if (self->plain == NULL) return pn_kvt_home(self, name);
    PyObject *outer = Py_NewRef(self->plain), *mapping = name == Py_None ? Py_NewRef(outer) : PyObject_GetItem(outer, name);
    Py_DECREF(outer);
    return mapping;
}

static PyObject *kv_shows(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "_shows(name, home)");
    return PyBool_FromLong(pn_kvt_is_home((kv_object *)op, args[0], args[1]));
}

/* ---- _mapping_factory ---- */

static PyObject *get_factory(PyObject *op, void *unused)
{
    (void)unused;
    PyObject *factory = ((kv_object *)op)->factory;
    return Py_NewRef(factory ? factory : (PyObject *)&PyDict_Type);
}

/* Collections that are no dicts can only be those of a plain store. */
static int set_factory(PyObject *op, PyObject *value, void *unused)
{
    (void)unused;
    kv_object *self = (kv_object *)op;
    bool usual = value == NULL || value == (PyObject *)&PyDict_Type;
    if (!usual && pn_kvt_surrender(self) < 0) return -1;
    Py_XSETREF(self->factory, usual ? NULL : Py_NewRef(value));
    return 0;
}

static PyGetSetDef kv_getset[] = {
    {"_mapping_factory", get_factory, set_factory, "What makes a collection that is missing.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyObject *kv_names(PyObject *op, PyObject *unused)
{
    (void)unused;
    kv_object *self = (kv_object *)op;
    if (pn_kvt_ready(self) < 0) return NULL;
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
    if (pn_kvt_ready(self) < 0) return NULL;
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
    if (pn_kvt_ready(self) < 0) return NULL;
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
    if (live == NULL && !PyErr_Occurred()) pn_py_raise_key(key);
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
    if (pn_kvt_ready(self) < 0) return NULL;
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
    if (pn_kvt_native(self, name) == NULL) {
        PyObject *m = PyErr_Occurred() ? NULL : pn_kvt_plain(self, name);
        if (m == NULL) return NULL;
        Py_DECREF(m);
    }
    Py_RETURN_NONE;
}

static PyObject *kv_drop(PyObject *op, PyObject *name)
{
    kv_object *self = (kv_object *)op;
    if (pn_kvt_ready(self) < 0) return NULL;
    pn_kvt_forget_all(self);
    if (self->kv == NULL) return PyObject_DelItem(self->plain, name) < 0 ? NULL : Py_NewRef(Py_None);
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes n;
    pn_coll *coll = NULL;
    if (PyUnicode_CheckExact(name) && pn_py_key(name, &scratch, &n)) coll = pn_kv_find(self->kv, n);
    if (coll != NULL) coll = pn_kvt_leave(self, name, coll) < 0 ? NULL : pn_kv_drop(self->kv, n);
    pn_buf_clear(&scratch);
    if (coll == NULL && !PyErr_Occurred() && PyObject_Hash(name) != -1) pn_py_raise_key(name);
    pn_coll_free(coll, &pn_alloc_system, &pn_py_host);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

int pn_py_kv_replace(PyObject *table, pn_kv *kv)
{
    kv_object *self = (kv_object *)table;
    if (part_with_views(self) < 0) return pn_kv_unref(kv), -1;
    pn_kv *old = self->kv;
    PyObject *plain = self->plain, *young = self->young;
    pn_kvt_forget_last(self);
    self->kv = kv;
    self->plain = NULL;
    self->young = NULL;
    Py_CLEAR(self->homes);
    pn_kvt_forget_all(self);
    pn_kv_unref(old);
    Py_XDECREF(young);
    Py_XDECREF(plain);
    return 0;
}

static PyObject *kv_reset(PyObject *op, PyObject *unused)
{
    (void)unused;
    if (pn_py_kv_replace(op, NULL) < 0) return NULL;
    Py_CLEAR(((kv_object *)op)->factory);
    Py_RETURN_NONE;
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
    return pn_py_kv_replace(op, kv) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *kv_decode(PyObject *op, PyObject *text)
{
    Py_buffer view;
    if (PyObject_GetBuffer(text, &view, PyBUF_SIMPLE) < 0) return NULL;
    PyObject *young = pn_kvt_decode_young(pn_kvt_keys((kv_object *)op), (pn_bytes){view.buf, (size_t)view.len});
    PyBuffer_Release(&view);
    if (young == NULL) Py_RETURN_FALSE;
    if (pn_py_kv_replace(op, NULL) < 0) return Py_DECREF(young), NULL;
    ((kv_object *)op)->young = young;
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

enum { WRITE_TRIES = 20, TRIES_WITH_TURNS = 2 };

/* The native contents. Other code may run while a live value is encoded, and at first other
 * threads get their turns: when one changed the store, what was written is neither the old
 * state nor the new, so again. */
static pn_status write_native(kv_object *self, pn_buf *out, pn_kv_place *place)
{
    pn_status s = PN_ERR_EXISTS;
    for (int i = 0; s == PN_ERR_EXISTS && i < WRITE_TRIES && self->kv != NULL; i++) {
        pn_kv *kv = pn_kv_ref(self->kv);
        pn_gone_free(&kv->gone, SIZE_MAX, &pn_py_host);
        out->len = 0;
        pn_kv_place_clear(place);
        place->turns = i < TRIES_WITH_TURNS;
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
    if (state == NULL || pn_kvt_ready(self) < 0) return NULL;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_kv_place place = {.turns = false};
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
    Py_VISIT(self->homes);
    Py_VISIT(self->factory);
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
    pn_kvt_forget_last(self);
    self->kv = NULL;
    Py_CLEAR(self->default_name);
    pn_kvt_forget_all(self);
    pn_kv_unref(kv);
    Py_CLEAR(self->homes);
    Py_CLEAR(self->factory);
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
    {"put_all", FAST(kv_put_all), METH_FASTCALL | METH_KEYWORDS,
     "put_all($self, kv_pairs, collection='data', batch_size=1)\n--\n\n"
     "Puts each (key, value); any batch size is accepted (the peer's base class refuses all but 1)."},
    {"get", FAST(kv_get), METH_FASTCALL | METH_KEYWORDS,
     "get($self, key, collection='data')\n--\n\nA copy of the top level of the stored value; None if absent."},
    {"get_all", FAST(kv_get_all), METH_FASTCALL | METH_KEYWORDS,
     "get_all($self, collection='data')\n--\n\nA new dict of the stored values themselves, in insertion order."},
    {"delete", FAST(kv_delete), METH_FASTCALL | METH_KEYWORDS,
     "delete($self, key, collection='data')\n--\n\nRemoves; returns whether it was there."},
    {"to_dict", kv_to_dict, METH_NOARGS,
     "to_dict($self)\n--\n\nThe collections as a dict of dicts; the inner dicts are the store's own from now on (the store\n"
     "becomes plain), as in LlamaIndex."},
    {"_get_keys", FAST(kv_get_keys), METH_FASTCALL, "_get_keys(keys, collection) -> list: get of each."},
    {"_plain", kv_plain, METH_NOARGS, "The dict of dicts that a surrendered table works on, or None."},
    {"_surrender", kv_surrender, METH_NOARGS, "Turns the table into a plain dict of dicts and returns that."},
    {"_dump", kv_dump, METH_NOARGS, "The contents as a dict of dicts, for pickling; the table stays as it is."},
    {"_adopt", kv_adopt, METH_O, "Makes the given mapping the truth."},
    {"_reset", kv_reset, METH_NOARGS, "Empties the table, as a new one is."},
    {"_home", kv_home, METH_O, "_home(name or None) -> dict: what a view of it holds, to be the collection itself once it leaves the table."},
    {"_shows", FAST(kv_shows), METH_FASTCALL, "_shows(name or None, home) -> bool: whether that view's is the table's collection still."},
    {"_names", kv_names, METH_NOARGS, "Names of the collections."},
    {"_keys", kv_keys, METH_O, "Keys of a collection."},
    {"_count", kv_count, METH_O, "Number of keys of a collection."},
    {"_live", kv_live, METH_VARARGS, "_live(collection, key): the stored value itself, or KeyError."},
    {"_set_live", kv_set_live, METH_VARARGS, "_set_live(collection, key, value): stores the value itself."},
    {"_has", kv_has, METH_VARARGS, "_has(collection, key) -> bool"},
    {"_create", kv_create, METH_O, "Creates the collection if missing."},
    {"_drop", kv_drop, METH_O, "Removes a collection, or KeyError."},
    {"_load", kv_load, METH_O, "_load(text) -> bool: replaces the contents; False if the text is not of the plain shape."},
    {"_decode", kv_decode, METH_O, "_decode(text) -> bool: as _load, with all values as objects at once; False also if that does not suit it."},
    {"_write", kv_write, METH_NOARGS, "_write() -> Text: the bytes that json.dumps gives for the contents."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot kv_slots[] = {
    {Py_tp_doc, "Collections of values in insertion order: the C base of SimpleKVStore."},
    {Py_tp_methods, kv_methods},
    {Py_tp_getset, kv_getset},
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
