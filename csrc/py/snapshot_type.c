/* snapshot_type.c: Snapshot, the entries of a collection as they stood at one moment.
 *
 * Holding a span costs a reference to its blob, so taking one is cheap and builds no
 * value. A value is decoded when asked for. An entry whose value a built node would
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
    size_t len;
    pn_cell *cells; /* JSON, MPACK, PACKED or LIVE */
    PyObject *keys; /* list of str */
} snapshot_object;

static pn_cell share(const pn_cell *cell)
{
    pn_cell c = *cell;
    if (c.kind == PN_CELL_LIVE)
        Py_INCREF((PyObject *)c.live);
    else
        pn_blob_ref(c.span.blob);
    return c;
}

static int fill(snapshot_object *self, pn_coll *coll)
{
    size_t n = pn_omap_len(&coll->cells), pos = 0;
    self->keys = pn_py_key_list(&coll->cells);
    if (self->keys == NULL) return -1;
    if (n == 0) return 0;
    self->cells = pn_alloc_zero(&pn_alloc_system, n, sizeof *self->cells);
    if (self->cells == NULL) return PyErr_NoMemory(), -1;
    pn_bytes key;
    void *value;
    while (pn_omap_next(&coll->cells, &pos, &key, &value)) {
        pn_cell *cell = value;
        bool native = cell->kind == PN_CELL_REFDOC || cell->kind == PN_CELL_STRUCT;
        if (native && pn_py_promote(coll, cell) == NULL) return -1;
        self->cells[self->len++] = share(cell);
    }
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
        self->len = 0;
        self->cells = NULL;
        self->keys = NULL;
        if (fill(self, coll) < 0) Py_CLEAR(self);
    }
    if (self != NULL) PyObject_GC_Track(self);
    pn_gc_resume(gc);
    return (PyObject *)self;
}

/* The store's cell for entry i, if it still is the span that the snapshot holds. */
static pn_cell *same_cell(snapshot_object *self, pn_module_state *state, Py_ssize_t i, pn_coll **coll)
{
    pn_kv *kv = pn_py_kv(state, self->table);
    pn_buf a, b;
    pn_buf_init(&a, &pn_alloc_system);
    pn_buf_init(&b, &pn_alloc_system);
    pn_bytes n, k;
    pn_cell *cell = NULL;
    if (kv != NULL && pn_py_key(self->name, &a, &n) && pn_py_key(PyList_GET_ITEM(self->keys, i), &b, &k)) {
        *coll = pn_kv_find(kv, n);
        cell = *coll ? pn_coll_get(*coll, k) : NULL;
    }
    pn_buf_clear(&a);
    pn_buf_clear(&b);
    PyErr_Clear();
    bool text = cell != NULL && (cell->kind == PN_CELL_JSON || cell->kind == PN_CELL_PACKED);
    return text && cell->span.ptr == self->cells[i].span.ptr ? cell : NULL;
}

/* The entry, settled. */
static pn_cell *entry_at(snapshot_object *self, PyObject *arg)
{
    Py_ssize_t i = PyLong_AsSsize_t(arg);
    if (i == -1 && PyErr_Occurred()) return NULL;
    if (i >= 0 && (size_t)i < self->len) return pn_py_settle(&self->cells[i]) ? &self->cells[i] : NULL;
    PyErr_Format(PyExc_IndexError, "no entry %zd", i);
    return NULL;
}

/* The i-th entry's node, where it can be built straight from the text. */
static PyObject *snapshot_node(PyObject *op, PyObject *arg)
{
    pn_cell *cell = entry_at((snapshot_object *)op, arg);
    pn_module_state *state = cell ? pn_state_of_type(Py_TYPE(op)) : NULL;
    if (state == NULL) return NULL;
    PyObject *node = NULL;
    pn_node_readers_recheck(state->node_readers);
    pn_status s = pn_node_decode_cell(state->node_readers, cell, &node);
    return s == PN_ERR_UNSUPPORTED ? Py_NewRef(Py_None) : node;
}

static PyObject *snapshot_value(PyObject *op, PyObject *arg)
{
    snapshot_object *self = (snapshot_object *)op;
    pn_cell *mine = entry_at(self, arg);
    if (mine == NULL) return NULL;
    Py_ssize_t i = mine - self->cells;
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    PyObject *value = pn_py_cell_value(mine);
    if (value == NULL || mine->kind == PN_CELL_LIVE || !pn_py_node_shares(value)) return value;
    pn_coll *coll;
    pn_cell *cell = state ? same_cell(self, state, i, &coll) : NULL;
    if (cell == NULL) return value;
    pn_cell old = *cell;
    *cell = (pn_cell){.kind = PN_CELL_LIVE};
    cell->live = Py_NewRef(value);
    pn_coll_touch(coll, cell);
    pn_cell_release(&old, &pn_py_host);
    return value;
}

static PyObject *snapshot_keys(PyObject *op, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(((snapshot_object *)op)->keys);
}

static PyObject *snapshot_live(PyObject *op, PyObject *unused)
{
    (void)unused;
    snapshot_object *self = (snapshot_object *)op;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < self->len; i++) {
        if (self->cells[i].kind != PN_CELL_LIVE) continue;
        PyObject *n = PyLong_FromSize_t(i);
        if (n == NULL || PyList_Append(list, n) < 0) Py_CLEAR(list);
        Py_XDECREF(n);
    }
    return list;
}

static int snapshot_traverse(PyObject *op, visitproc visit, void *arg)
{
    snapshot_object *self = (snapshot_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->table);
    Py_VISIT(self->keys);
    for (size_t i = 0; i < self->len; i++)
        if (self->cells[i].kind == PN_CELL_LIVE) Py_VISIT((PyObject *)self->cells[i].live);
    return 0;
}

static int snapshot_clear(PyObject *op)
{
    snapshot_object *self = (snapshot_object *)op;
    pn_cell *cells = self->cells;
    size_t len = self->len;
    self->cells = NULL;
    self->len = 0;
    for (size_t i = 0; i < len; i++) pn_cell_release(&cells[i], &pn_py_host);
    pn_alloc_put(&pn_alloc_system, cells);
    Py_CLEAR(self->table);
    Py_CLEAR(self->name);
    Py_CLEAR(self->keys);
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
    {"value", snapshot_value, METH_O, "value(i): the i-th value."},
    {"node", snapshot_node, METH_O, "node(i): the node of the i-th value, or None: build it from the value."},
    {"keys", snapshot_keys, METH_NOARGS, "The list of keys; do not change it."},
    {"live", snapshot_live, METH_NOARGS, "Indices of the entries that were live."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot snapshot_slots[] = {
    {Py_tp_doc, "The entries of a collection as they stood at one moment."},
    {Py_tp_methods, snapshot_methods},
    {Py_tp_traverse, snapshot_traverse},
    {Py_tp_clear, snapshot_clear},
    {Py_tp_dealloc, snapshot_dealloc},
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
