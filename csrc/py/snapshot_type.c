/* snapshot_type.c: Snapshot, the entries of a collection as they stood at one moment.
 *
 * Taking one copies the map (pn_omap_clone) and a reference to each value: a few
 * nanoseconds an entry, and no Python object is made, not even for a key. A value is
 * decoded when asked for. An entry whose value a built node would
 * share with the store (something nested in it) is, on decoding, put into the store as
 * its live value, if the store still holds the very span: then both see one object, as
 * when the peer builds all nodes at once.
 */
#include "py/kv_type.h"
#include "py/node_decode.h"

typedef struct {
    PyObject_HEAD
    PyObject *table; /* the KVTable it was taken from */
    PyObject *name;  /* the collection */
    pn_omap cells;   /* key -> pn_cell: JSON, MPACK, PACKED or LIVE */
    size_t live;     /* how many are LIVE */
} snapshot_object;

static bool is_span(const pn_cell *c)
{
    return c->kind == PN_CELL_JSON || c->kind == PN_CELL_MPACK || c->kind == PN_CELL_PACKED;
}

/* Native state is made live: only that can be shared. */
static int promote_native(struct pn_key_cache *keys, pn_coll *coll)
{
    size_t pos = 0;
    pn_bytes key;
    void *value;
    while (pn_omap_next(&coll->cells, &pos, &key, &value)) {
        pn_cell *cell = value;
        if (!is_span(cell) && pn_py_promote(keys, coll, cell) == NULL) return -1;
    }
    return 0;
}

/* References for the cells of the copy; how many are live. */
static size_t retain(const pn_omap *cells)
{
    pn_blob_run run = {NULL, 0};
    size_t pos = 0, live = 0;
    pn_bytes key;
    void *value;
    while (pn_omap_next(cells, &pos, &key, &value)) {
        const pn_cell *c = value;
        if (c->kind == PN_CELL_LIVE) {
            Py_INCREF((PyObject *)c->live);
            live++;
        } else {
            pn_blob_run_ref(&run, c->span.blob);
        }
    }
    pn_blob_ref_many(run.blob, run.n);
    return live;
}

static int fill(pn_module_state *state, snapshot_object *self, pn_coll *coll)
{
    if (promote_native(state->keys, coll) < 0) return -1;
    pn_status s = pn_omap_clone(&coll->cells, &self->cells);
    if (s != PN_OK) return pn_py_raise(s, NULL, NULL), -1;
    self->live = retain(&self->cells);
    return 0;
}

static PyObject *doc_snapshot(PyObject *module, PyObject *args)
{
    PyObject *table, *name;
    if (!PyArg_ParseTuple(args, "OO:doc_snapshot", &table, &name)) return NULL;
    pn_module_state *state = pn_state_of(module);
    pn_kv *kv = pn_py_kv(state, table);
    if (kv == NULL || !PyUnicode_CheckExact(name)) Py_RETURN_NONE;
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes n;
    pn_coll *coll = NULL;
    pn_status s = pn_py_key(name, &scratch, &n) ? pn_kv_collection(kv, n, &coll) : PN_ERR_CALLBACK;
    pn_buf_clear(&scratch);
    if (s != PN_OK) return pn_py_raise(s, NULL, NULL);
    int gc = pn_gc_pause();
    snapshot_object *self = PyObject_GC_New(snapshot_object, state->snapshot_type);
    if (self != NULL) {
        self->table = Py_NewRef(table);
        self->name = Py_NewRef(name);
        self->live = 0;
        pn_omap_init(&self->cells, &pn_alloc_system, sizeof(pn_cell));
        if (fill(state, self, coll) < 0) Py_CLEAR(self);
    }
    if (self != NULL) PyObject_GC_Track(self);
    pn_gc_resume(gc);
    return (PyObject *)self;
}

static pn_cell *cell_of(const pn_omap *cells, PyObject *key)
{
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes k;
    pn_cell *cell = pn_py_key(key, &scratch, &k) ? pn_omap_get(cells, k) : NULL;
    pn_buf_clear(&scratch);
    return cell;
}

static pn_coll *collection_now(snapshot_object *self, pn_kv *kv)
{
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes n;
    pn_coll *coll = pn_py_key(self->name, &scratch, &n) ? pn_kv_find(kv, n) : NULL;
    pn_buf_clear(&scratch);
    return coll;
}

/* The store's cell for that entry, if it still is the span that the snapshot holds. */
static pn_cell *same_cell(snapshot_object *self, PyObject *key, const pn_cell *mine, pn_coll **coll)
{
    pn_module_state *state = pn_state_of_type(Py_TYPE(self));
    pn_kv *kv = state ? pn_py_kv(state, self->table) : NULL;
    *coll = kv ? collection_now(self, kv) : NULL;
    pn_cell *cell = *coll ? cell_of(&(*coll)->cells, key) : NULL;
    PyErr_Clear();
    return cell != NULL && is_span(cell) && cell->span.ptr == mine->span.ptr ? cell : NULL;
}

/* The entry of that key, settled; NULL with an exception set. */
static pn_cell *entry_at(snapshot_object *self, PyObject *key)
{
    pn_cell *cell = PyUnicode_CheckExact(key) ? cell_of(&self->cells, key) : NULL;
    if (cell != NULL) return pn_py_settle(cell) ? cell : NULL;
    if (!PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, key);
    return NULL;
}

/* The entry's node, where it can be built straight from the text. */
static PyObject *snapshot_node(PyObject *op, PyObject *key)
{
    pn_cell *cell = entry_at((snapshot_object *)op, key);
    pn_module_state *state = cell ? pn_state_of_type(Py_TYPE(op)) : NULL;
    if (state == NULL) return NULL;
    PyObject *node = NULL;
    pn_node_readers_recheck(state->node_readers);
    pn_status s = pn_node_decode_cell(state->node_readers, cell, NULL, &node);
    return s == PN_ERR_UNSUPPORTED ? Py_NewRef(Py_None) : node;
}

/* Puts the node of that key into slots if `unbuilt` stands there. What cannot be built this
 * way, or not at all, stays: whoever asks for it learns why. */
static void build_slot(pn_module_state *state, snapshot_object *self, PyObject *key, PyObject *slots, PyObject *unbuilt)
{
    PyObject *node = NULL;
    pn_cell *cell = PyDict_GetItemWithError(slots, key) == unbuilt ? entry_at(self, key) : NULL;
    if (cell != NULL && pn_node_decode_cell(state->node_readers, cell, NULL, &node) == PN_OK) PyDict_SetItem(slots, key, node);
    Py_XDECREF(node);
    PyErr_Clear();
}

/* Many at once: the collector looks at their objects once, not after every few nodes. */
static PyObject *snapshot_build(PyObject *op, PyObject *args)
{
    PyObject *keys, *slots, *unbuilt;
    if (!PyArg_ParseTuple(args, "O!O!O:build", &PyList_Type, &keys, &PyDict_Type, &slots, &unbuilt)) return NULL;
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL) return NULL;
    int gc = pn_gc_pause();
    pn_node_readers_recheck(state->node_readers);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys); i++) {
        PyObject *key = Py_NewRef(PyList_GET_ITEM(keys, i));
        build_slot(state, (snapshot_object *)op, key, slots, unbuilt);
        Py_DECREF(key);
    }
    pn_gc_resume(gc);
    Py_RETURN_NONE;
}

static PyObject *snapshot_value(PyObject *op, PyObject *key)
{
    snapshot_object *self = (snapshot_object *)op;
    pn_cell *mine = entry_at(self, key);
    if (mine == NULL) return NULL;
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    PyObject *value = state ? pn_py_cell_value(state->keys, mine) : NULL;
    if (value == NULL || mine->kind == PN_CELL_LIVE || !pn_py_node_shares(value)) return value;
    pn_coll *coll;
    pn_cell *cell = same_cell(self, key, mine, &coll);
    if (cell == NULL) return value;
    if (!pn_py_settle(cell)) { /* the same bytes were right when they were looked at here */
        Py_DECREF(value);
        return NULL;
    }
    pn_py_go_live(coll, cell, Py_NewRef(value));
    return value;
}

static PyObject *snapshot_keys(PyObject *op, PyObject *unused)
{
    (void)unused;
    return pn_py_key_list(&((snapshot_object *)op)->cells);
}

static PyObject *snapshot_live(PyObject *op, PyObject *unused)
{
    (void)unused;
    snapshot_object *self = (snapshot_object *)op;
    PyObject *list = PyList_New(0);
    size_t pos = 0;
    pn_bytes key;
    void *value;
    while (self->live > 0 && list != NULL && pn_omap_next(&self->cells, &pos, &key, &value)) {
        if (((pn_cell *)value)->kind != PN_CELL_LIVE) continue;
        PyObject *k = pn_py_str(key);
        if (k == NULL || PyList_Append(list, k) < 0) Py_CLEAR(list);
        Py_XDECREF(k);
    }
    return list;
}

static Py_ssize_t snapshot_len(PyObject *op) { return (Py_ssize_t)pn_omap_len(&((snapshot_object *)op)->cells); }

static int snapshot_contains(PyObject *op, PyObject *key)
{
    if (!PyUnicode_CheckExact(key)) return PyErr_Format(PyExc_TypeError, "a key of a snapshot is a str"), -1;
    bool there = cell_of(&((snapshot_object *)op)->cells, key) != NULL;
    return PyErr_Occurred() ? -1 : there;
}

static int snapshot_traverse(PyObject *op, visitproc visit, void *arg)
{
    snapshot_object *self = (snapshot_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->table);
    size_t pos = 0;
    pn_bytes key;
    void *value;
    while (self->live > 0 && pn_omap_next(&self->cells, &pos, &key, &value))
        if (((pn_cell *)value)->kind == PN_CELL_LIVE) Py_VISIT((PyObject *)((pn_cell *)value)->live);
    return 0;
}

static int snapshot_clear(PyObject *op)
{
    snapshot_object *self = (snapshot_object *)op;
    pn_omap cells = self->cells; /* live values may run code: the snapshot is empty by then */
    pn_omap_init(&self->cells, &pn_alloc_system, sizeof(pn_cell));
    self->live = 0;
    pn_blob_run run = {NULL, 0};
    size_t pos = 0;
    pn_bytes key;
    void *value;
    while (pn_omap_next(&cells, &pos, &key, &value)) {
        pn_cell *c = value;
        if (is_span(c))
            pn_blob_run_unref(&run, c->span.blob);
        else
            pn_cell_release(c, &pn_py_host);
    }
    pn_blob_unref_many(run.blob, run.n);
    pn_omap_clear(&cells);
    Py_CLEAR(self->table);
    Py_CLEAR(self->name);
    return 0;
}

static void snapshot_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    snapshot_clear(op);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyMethodDef snapshot_methods[] = {
    {"value", snapshot_value, METH_O, "value(key): the value, or KeyError."},
    {"node", snapshot_node, METH_O, "node(key): the node of that value, or None: build it from the value."},
    {"build", snapshot_build, METH_VARARGS,
     "build(keys, slots, unbuilt): puts the nodes of those keys into a dict, where `unbuilt` stands."},
    {"keys", snapshot_keys, METH_NOARGS, "A new list of the keys."},
    {"live", snapshot_live, METH_NOARGS, "Keys of the entries that were live."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot snapshot_slots[] = {
    {Py_tp_doc, "The entries of a collection as they stood at one moment."},
    {Py_tp_methods, snapshot_methods},
    {Py_tp_traverse, snapshot_traverse},
    {Py_tp_clear, snapshot_clear},
    {Py_tp_dealloc, snapshot_dealloc},
    {Py_sq_length, snapshot_len},
    {Py_sq_contains, snapshot_contains},
    {0, NULL},
};

static PyType_Spec snapshot_spec = {
    .name = "pannier._core.Snapshot",
    .basicsize = sizeof(snapshot_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = snapshot_slots,
};

static PyMethodDef functions[] = {
    {"doc_snapshot", doc_snapshot, METH_VARARGS, "doc_snapshot(table, collection) -> Snapshot | None"},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_snapshot(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    state->snapshot_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &snapshot_spec, NULL);
    return state->snapshot_type == NULL ? -1 : PyModule_AddFunctions(module, functions);
}
