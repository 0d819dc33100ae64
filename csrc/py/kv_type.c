/* kv_type.c: KVTable, collections of values behind the peer's SimpleKVStore interface.
 *
 * A table is native (a pn_kv) or *surrendered*: a plain dict of dicts is the truth and
 * every method works on that, as the peer's own store does. It surrenders when a
 * caller hands in or asks for the dicts themselves (constructor data, to_dict, an
 * assigned mapping), or uses a key that is no exact str. Both ways callers see the
 * same: values are shared but for their top level, order is insertion order.
 *
 * No method releases the GIL while it looks at the table, so the GIL is its lock.
 * What an operation displaces is released last, since that may run Python code.
 */
#include "py/kv_type.h"

#include "store/refdoc.h"
#include "store/structs.h"

typedef struct {
    PyObject_HEAD
    pn_kv *kv;       /* NULL once surrendered */
    PyObject *plain; /* the dict of dicts, once surrendered */
    /* The collection that was last asked for: callers use the same few name objects again
     * and again. Good while kv holds the same collections (its version says so). */
    PyObject *last_name;
    pn_coll *last;
    uint64_t last_version;
} kv_object;

/* ---- live values: the host's side of a cell ---- */

static void host_release(void *ctx, void *live)
{
    (void)ctx;
    Py_DECREF((PyObject *)live);
}

static pn_status host_encode(void *ctx, void *live, pn_buf *out)
{
    (void)ctx;
    PyObject *obj = Py_NewRef((PyObject *)live); /* the encoder may run code that drops it */
    pn_status s = pn_py_encode(obj, PN_ENCODE_DUMPS, out);
    Py_DECREF(obj);
    return s;
}

static void host_retain(void *ctx, void *live)
{
    (void)ctx;
    Py_INCREF((PyObject *)live);
}

const pn_host pn_py_host = {NULL, host_release, host_encode, host_retain};

static PyObject *decode_mpack(const pn_cell *cell)
{
    pn_buf json;
    pn_buf_init(&json, &pn_alloc_system);
    pn_error err;
    pn_status s = pn_cell_write_json(cell, &pn_py_host, &pn_alloc_system, &json);
    PyObject *value = NULL;
    if (s == PN_OK)
        value = pn_py_decode(pn_buf_view(&json));
    else
        pn_py_raise(s, (err = (pn_error){s, 0, 0, NULL}, &err), NULL);
    pn_buf_clear(&json);
    return value;
}

PyObject *pn_py_key_list(const pn_omap *map)
{
    int gc = pn_gc_pause();
    PyObject *list = PyList_New(0);
    size_t pos = 0;
    pn_bytes key;
    void *unused;
    while (list != NULL && pn_omap_next(map, &pos, &key, &unused)) {
        PyObject *s = pn_py_str(key);
        if (s == NULL || PyList_Append(list, s) < 0) Py_CLEAR(list);
        Py_XDECREF(s);
    }
    pn_gc_resume(gc);
    return list;
}

static PyObject *refdoc_dict(const pn_refdoc *r)
{
    PyObject *ids = pn_py_key_list(&r->ids), *metadata = pn_py_cell_value(&r->metadata);
    PyObject *dict = ids && metadata ? Py_BuildValue("{sOsO}", "node_ids", ids, "metadata", metadata) : NULL;
    Py_XDECREF(ids);
    Py_XDECREF(metadata);
    return dict;
}

static PyObject *struct_dict(const pn_struct *s)
{
    pn_buf data;
    pn_buf_init(&data, &pn_alloc_system);
    pn_status status = pn_struct_write_data(s, &data);
    PyObject *dict = status == PN_OK ? Py_BuildValue("{ss#ss#}", "__type__", s->type.data, (Py_ssize_t)s->type.len,
                                                     "__data__", data.data, (Py_ssize_t)data.len)
                                     : pn_py_raise(status, NULL, NULL);
    pn_buf_clear(&data);
    return dict;
}

/* The peer keeps an enum member under "__type__" until the value has been through a
 * file; a span that was made in this process remembers which enum by its tag. */
static PyObject *restore_type(PyObject *value, uint8_t tag)
{
    static const char *const home[][2] = {
        {"llama_index.core.schema", "ObjectType"},
        {"llama_index.core.data_structs.struct_type", "IndexStructType"},
    };
    if (value == NULL || tag == PN_TAG_NONE) return value;
    /* Only dictionary look-ups: no bytecode may run here, since that could let another
     * thread change the table whose cell is being promoted. */
    PyObject *name = PyUnicode_FromString(home[tag - 1][0]), *module = name ? PyImport_GetModule(name) : NULL;
    PyObject *type = module ? PyObject_GetAttrString(module, home[tag - 1][1]) : NULL;
    PyObject *members = type ? PyObject_GetAttrString(type, "_value2member_map_") : NULL;
    PyObject *text = PyDict_Check(value) ? PyDict_GetItemString(value, "__type__") : NULL;
    PyObject *member = members && text ? PyDict_GetItemWithError(members, text) : NULL;
    if (member != NULL) (void)PyDict_SetItemString(value, "__type__", member);
    PyErr_Clear(); /* the text itself equals the member: good enough */
    Py_XDECREF(members);
    Py_XDECREF(type);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return value;
}

PyObject *pn_py_cell_value(const pn_cell *cell)
{
    switch ((pn_cell_kind)cell->kind) {
    case PN_CELL_LIVE: return Py_NewRef((PyObject *)cell->live);
    case PN_CELL_JSON: return restore_type(pn_py_decode(pn_cell_span(cell)), cell->tag);
    case PN_CELL_MPACK: return decode_mpack(cell);
    case PN_CELL_REFDOC: return refdoc_dict(cell->refdoc);
    case PN_CELL_STRUCT: return restore_type(struct_dict(cell->structure), cell->tag);
    case PN_CELL_PACKED:
    case PN_CELL_EMPTY: break;
    }
    PyErr_SetString(PyExc_SystemError, "an empty cell has no value");
    return NULL;
}

PyObject *pn_py_promote(pn_cell *cell)
{
    if (cell->kind == PN_CELL_LIVE) return cell->live;
    int gc = pn_gc_pause(); /* a finalizer could change the table that the cell lies in */
    PyObject *value = pn_py_cell_value(cell);
    if (value != NULL) {
        pn_cell old = *cell;
        *cell = (pn_cell){.kind = PN_CELL_LIVE};
        cell->live = value;
        pn_cell_release(&old, &pn_py_host); /* a span or native state: no Python code runs */
    }
    pn_gc_resume(gc);
    return value;
}

/* ---- surrender ---- */

typedef PyObject *(*value_of)(pn_cell *cell); /* a new reference, or NULL with an exception */

static PyObject *promoted(pn_cell *cell) { return Py_XNewRef(pn_py_promote(cell)); }
static PyObject *decoded(pn_cell *cell) { return pn_py_cell_value(cell); }

static PyObject *plain_collection(pn_coll *coll, value_of get)
{
    int gc = pn_gc_pause();
    PyObject *dict = PyDict_New();
    size_t pos = 0;
    pn_bytes key;
    void *cell;
    while (dict != NULL && pn_omap_next(&coll->cells, &pos, &key, &cell)) {
        PyObject *k = pn_py_str(key), *v = k ? get(cell) : NULL;
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
    self->last = NULL;
    Py_CLEAR(self->last_name);
}

static int adopt(kv_object *self, PyObject *plain)
{
    pn_kv *kv = self->kv;
    PyObject *old = self->plain;
    forget_last(self);
    self->kv = NULL;
    self->plain = Py_NewRef(plain);
    pn_kv_unref(kv);
    Py_XDECREF(old);
    return 0;
}

static int surrender(kv_object *self)
{
    if (self->kv == NULL) return 0;
    PyObject *plain = plain_store(self->kv, promoted);
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

static int ready(kv_object *self)
{
    if (self->kv != NULL || self->plain != NULL) return 0;
    pn_status s = pn_kv_new(&pn_alloc_system, &pn_py_host, &self->kv);
    return s == PN_OK ? 0 : (pn_py_raise(s, NULL, NULL), -1);
}

pn_kv *pn_py_kv(pn_module_state *state, PyObject *table)
{
    if (!PyObject_TypeCheck(table, state->kv_type)) return NULL;
    kv_object *self = (kv_object *)table;
    if (ready(self) < 0) {
        PyErr_Clear();
        return NULL;
    }
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
    if (collection == self->last_name && self->last_version == self->kv->colls.version) return self->last;
    if (!PyUnicode_CheckExact(collection)) {
        surrender(self);
        return NULL;
    }
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes name;
    pn_coll *coll = NULL;
    if (pn_py_key(collection, &scratch, &name)) {
        pn_status s = pn_kv_collection(self->kv, name, &coll);
        if (s != PN_OK) pn_py_raise(s, NULL, NULL);
    }
    pn_buf_clear(&scratch);
    if (coll != NULL) {
        Py_XSETREF(self->last_name, Py_NewRef(collection)); /* an exact str: releasing one runs no code */
        self->last = coll;
        self->last_version = self->kv->colls.version;
    }
    return coll;
}

/* Parses (first [, second], collection="data") of a fast call: the peer's signatures. */
typedef struct {
    PyObject *first, *second, *collection;
} call_args;

static bool is_name(PyObject *kw, const char *name) { return PyUnicode_CompareWithASCIIString(kw, name) == 0; }

static bool parse_call(const char *fn, const char *first, const char *second, PyObject *const *args, Py_ssize_t nargs,
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

static PyObject *collection_or_default(const call_args *a, PyObject **owned)
{
    *owned = NULL;
    if (a->collection != NULL) return a->collection;
    return *owned = PyUnicode_InternFromString("data");
}

/* ---- put ---- */

static int put_live(kv_object *self, PyObject *collection, PyObject *key, PyObject *value)
{
    if (!PyUnicode_CheckExact(key)) {
        if (PyObject_Hash(key) == -1) return -1;
        if (ready(self) < 0 || surrender(self) < 0) return -1;
    }
    pn_coll *coll = native_collection(self, collection);
    if (coll == NULL) {
        if (PyErr_Occurred()) return -1;
        PyObject *m = plain_mapping(self, collection);
        int r = m ? PyObject_SetItem(m, key, value) : -1;
        Py_XDECREF(m);
        return r;
    }
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes k;
    int result = -1;
    pn_cell old = {.kind = PN_CELL_EMPTY};
    if (pn_py_key(key, &scratch, &k)) {
        pn_cell cell = {.kind = PN_CELL_LIVE};
        cell.live = value;
        pn_status s = pn_coll_put(coll, k, NULL, cell, &old);
        if (s == PN_OK) {
            Py_INCREF(value);
            result = 0;
        } else {
            pn_py_raise(s, NULL, NULL);
        }
    }
    pn_buf_clear(&scratch);
    pn_cell_release(&old, &pn_py_host);
    return result;
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
    int r = put_live(self, collection, key, copy);
    Py_DECREF(copy);
    return r;
}

static PyObject *kv_put(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    call_args a;
    PyObject *owned;
    if (!parse_call("put", "key", "val", args, nargs, kwnames, &a)) return NULL;
    PyObject *collection = collection_or_default(&a, &owned);
    int r = collection ? put_copy((kv_object *)op, collection, a.first, a.second) : -1;
    Py_XDECREF(owned);
    return r < 0 ? NULL : Py_NewRef(Py_None);
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
        if (ready(self) < 0 || surrender(self) < 0) return NULL;
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
    return cell != NULL ? Py_XNewRef(pn_py_promote(cell)) : NULL;
}

static PyObject *kv_get(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    call_args a;
    PyObject *owned;
    if (!parse_call("get", "key", NULL, args, nargs, kwnames, &a)) return NULL;
    PyObject *collection = collection_or_default(&a, &owned);
    PyObject *live = collection ? find_live((kv_object *)op, collection, a.first) : NULL;
    PyObject *result = NULL;
    if (live != NULL) {
        result = shallow_copy(live);
        Py_DECREF(live);
    } else if (!PyErr_Occurred()) {
        result = Py_NewRef(Py_None);
    }
    Py_XDECREF(owned);
    return result;
}

static PyObject *get_all(kv_object *self, PyObject *collection)
{
    pn_coll *coll = native_collection(self, collection);
    if (coll != NULL) return plain_collection(coll, promoted);
    if (PyErr_Occurred()) return NULL;
    PyObject *m = plain_mapping(self, collection);
    PyObject *copy = m ? PyObject_CallOneArg((PyObject *)&PyDict_Type, m) : NULL;
    Py_XDECREF(m);
    return copy;
}

static PyObject *kv_get_all(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *collection = nargs ? args[0] : NULL, *owned = NULL;
    if (nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0) > 1 ||
        (kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1 && !is_name(PyTuple_GET_ITEM(kwnames, 0), "collection"))) {
        PyErr_SetString(PyExc_TypeError, "get_all() takes one optional argument: 'collection'");
        return NULL;
    }
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1) collection = args[nargs];
    if (collection == NULL) collection = owned = PyUnicode_InternFromString("data");
    PyObject *result = collection ? get_all((kv_object *)op, collection) : NULL;
    Py_XDECREF(owned);
    return result;
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
        if (ready(self) < 0 || surrender(self) < 0) return -1;
    }
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

static PyObject *kv_delete(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    call_args a;
    PyObject *owned;
    if (!parse_call("delete", "key", NULL, args, nargs, kwnames, &a)) return NULL;
    PyObject *collection = collection_or_default(&a, &owned);
    int r = collection ? remove_key((kv_object *)op, collection, a.first) : -1;
    Py_XDECREF(owned);
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
    if (ready(self) < 0 || surrender(self) < 0) return NULL;
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

static PyObject *kv_load(PyObject *op, PyObject *text)
{
    kv_object *self = (kv_object *)op;
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
    pn_kv *old = self->kv;
    PyObject *plain = self->plain;
    forget_last(self);
    self->kv = kv;
    self->plain = NULL;
    pn_kv_unref(old);
    Py_XDECREF(plain);
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
    pn_kv_unref(kv);
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
     "put(key, val, collection='data')\n\nStores val.copy() under key; an overwrite keeps the key's place."},
    {"get", FAST(kv_get), METH_FASTCALL | METH_KEYWORDS,
     "get(key, collection='data') -> dict | None\n\nA copy of the top level of the stored value; None if absent."},
    {"get_all", FAST(kv_get_all), METH_FASTCALL | METH_KEYWORDS,
     "get_all(collection='data') -> dict\n\nA new dict of the stored values themselves, in insertion order."},
    {"delete", FAST(kv_delete), METH_FASTCALL | METH_KEYWORDS,
     "delete(key, collection='data') -> bool\n\nRemoves; returns whether it was there."},
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
