/* pack_batch.c: PackBatch, one commit into a pack as Python sees it.
 *
 *     batch = PackBatch()
 *     batch.gather([("docstore.json", table, whole), ...], f)   in slices; the last, after f(), is one moment of all
 *     batch.encode()                               live values, in slices
 *     batch.commit(...)                            the disk, without the GIL
 *     batch.settle(True)                           or False: what was gathered counts as unsaved
 *
 * A batch that goes away without being settled gives back what it gathered.
 */
#include "py/pack_py.h"

#include "codec/mpack_push.h"
#include "py/graph_type.h"
#include "store/batch.h"
#include "store/kv_pack.h"
#include "store/vector_pack.h"

#include <stdlib.h>

typedef struct source { /* what was gathered from: one of the three */
    pn_kv *kv;
    vector_object *vectors;
    PyObject *graph; /* a TripletTable */
} source;

typedef struct {
    PyObject_HEAD
    pn_batch *batch;
    pn_buf sources;
    pn_buf changed; /* names of stores that the commit wrote, each ended by a NUL */
    bool busy;      /* at something that lets go of the GIL */
} batch_object;

/* What is done in one go before other threads get a turn: text to be written, and what is
 * gathered (pn_batch_work), each some fraction of a millisecond. */
enum { SLICE = 1 << 16, SLICE_WORK = 4096 };

/* A turn for the others, an event loop among them. */
static void let_others_run(void)
{
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
}

static PyObject *batch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":PackBatch", names)) return NULL;
    batch_object *self = (batch_object *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    pn_buf_init(&self->sources, &pn_alloc_system);
    pn_buf_init(&self->changed, &pn_alloc_system);
    if (pn_batch_new(&pn_alloc_system, &pn_py_host, &self->batch) != PN_OK) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void settle_source(source *s, bool durable)
{
    if (s->kv != NULL) {
        if (durable) pn_kv_gathered(s->kv);
        else pn_kv_give_back(s->kv);
        return;
    }
    if (s->graph != NULL) {
        pn_py_graph_settle(s->graph, durable);
        return;
    }
    pn_vector_lock(s->vectors);
    if (durable) pn_vec_gathered(&s->vectors->vec);
    else pn_vec_give_back(&s->vectors->vec);
    pn_vector_unlock(s->vectors);
}

/* Everything is settled before the first reference goes, since that may run code. */
static void settle_all(batch_object *self, bool durable)
{
    pn_buf taken = self->sources;
    pn_buf_init(&self->sources, &pn_alloc_system);
    size_t n = taken.len / sizeof(source);
    source *s = (source *)(void *)taken.data;
    for (size_t i = 0; i < n; i++) settle_source(&s[i], durable);
    for (size_t i = 0; i < n; i++) {
        pn_kv_unref(s[i].kv);
        Py_XDECREF(s[i].vectors);
        Py_XDECREF(s[i].graph);
    }
    pn_buf_clear(&taken);
}

static void batch_dealloc(PyObject *op)
{
    batch_object *self = (batch_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    settle_all(self, false);
    pn_batch_free(self->batch);
    pn_buf_clear(&self->changed);
    type->tp_free(op);
    Py_DECREF(type);
}

static bool may_gather(batch_object *self)
{
    if (!self->busy) return true;
    PyErr_SetString(PyExc_RuntimeError, "the batch is being gathered or committed");
    return false;
}

/* ---- gathering ---- */

typedef enum wanted_kind { WANT_KV, WANT_VECTORS, WANT_GRAPH } wanted_kind;

/* One store to be gathered from. */
typedef struct wanted {
    pn_bytes name;   /* in the item's str, or in scratch */
    pn_buf scratch;
    PyObject *table; /* borrowed from the item */
    int whole;
    wanted_kind kind;
    bool got; /* it has begun; its source is noted (a graph's in the end) */
    union {
        pn_kv_gathering kv;
        pn_vec_gathering vectors;
    };
} wanted;

static bool want(pn_module_state *state, PyObject *item, wanted *w)
{
    PyObject *name;
    *w = (wanted){0};
    pn_buf_init(&w->scratch, &pn_alloc_system);
    if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "UOp:gather", &name, &w->table, &w->whole)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "expected tuples (name, table, whole)");
        return false;
    }
    if (PyObject_TypeCheck(w->table, state->kv_type)) {
        w->kind = WANT_KV;
    } else if (PyObject_TypeCheck(w->table, state->vector_type)) {
        w->kind = WANT_VECTORS;
    } else if (Py_IS_TYPE(w->table, state->graph_type)) {
        w->kind = WANT_GRAPH;
    } else {
        PyErr_SetString(PyExc_TypeError, "expected a KVTable, a VectorTable or a TripletTable");
        return false;
    }
    return pn_py_utf8(name, &w->scratch, &w->name);
}

static int by_table(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const wanted *)a)->table, y = (uintptr_t)((const wanted *)b)->table;
    return (x > y) - (x < y);
}

static void unpin(void *ctx)
{
    vector_object *table = ctx;
    pn_vector_lock(table);
    pn_vec_unpin(&table->vec);
    pn_vector_unlock(table);
    Py_DECREF(table);
}

/* The batch unpins the table when it is freed, also after a failure from here on. The
 * caller holds the lock. */
static pn_status begin_vectors(batch_object *self, wanted *w)
{
    vector_object *table = (vector_object *)w->table;
    PN_TRY(pn_batch_defer(self->batch, unpin, table));
    Py_INCREF(table);
    pn_vec_pin(&table->vec);
    PN_TRY(pn_vec_gather_begin(&table->vec, w->name, w->whole != 0, self->batch, &w->vectors));
    source from = {.vectors = (vector_object *)Py_NewRef((PyObject *)table)};
    return pn_buf_append(&self->sources, &from, sizeof from); /* there is room */
}

static pn_status begin_kv(batch_object *self, pn_kv *kv, wanted *w)
{
    PN_TRY(pn_kv_gather_begin(kv, w->name, w->whole != 0, self->batch, &w->kv));
    source from = {.kv = pn_kv_ref(kv)};
    return pn_buf_append(&self->sources, &from, sizeof from); /* there is room */
}

/* A graph is gathered as a whole in the end. */
static pn_status begin(batch_object *self, pn_module_state *state, wanted *w)
{
    pn_kv *kv = w->kind == WANT_KV ? pn_py_kv_contents(state, w->table) : NULL;
    if (w->kind == WANT_KV && kv == NULL) return PN_OK; /* a plain dict by now */
    if (w->kind == WANT_KV) PN_TRY(begin_kv(self, kv, w));
    if (w->kind == WANT_VECTORS) PN_TRY(begin_vectors(self, w));
    w->got = true;
    return PN_OK;
}

static pn_status begin_all(batch_object *self, pn_module_state *state, wanted *w, size_t n)
{
    PN_TRY(pn_buf_reserve(&self->sources, n * sizeof(source)));
    for (size_t i = 0; i < n; i++) PN_TRY(begin(self, state, &w[i]));
    return PN_OK;
}

static pn_status gather_part(wanted *w, bool *more)
{
    *more = false;
    if (w->kind == WANT_GRAPH) return PN_OK;
    if (w->kind == WANT_KV) return pn_kv_gather_part(&w->kv, SLICE_WORK, more);
    pn_vector_lock((vector_object *)w->table);
    pn_status s = pn_vec_gather_part(&w->vectors, SLICE_WORK, more);
    pn_vector_unlock((vector_object *)w->table);
    return s;
}

static pn_status gather_parts(wanted *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (bool more = w[i].got; more;) {
            PN_TRY(gather_part(&w[i], &more));
            let_others_run();
        }
    return PN_OK;
}

/* It is none of ours any more. */
static void leave_out(batch_object *self, wanted *w)
{
    w->got = false;
    pn_batch_drop(self->batch, w->name);
}

/* There may be no room any more for its source: other tables were gathered meanwhile. */
static pn_status end_graph(batch_object *self, wanted *w)
{
    source from = {.graph = w->table};
    PN_TRY(pn_buf_reserve(&self->sources, sizeof from));
    pn_status s = pn_py_graph_gather(w->table, w->name, w->whole != 0, self->batch);
    if (s == PN_ERR_UNSUPPORTED) leave_out(self, w);
    if (s != PN_OK) return s == PN_ERR_UNSUPPORTED ? PN_OK : s;
    Py_INCREF(w->table);
    return pn_buf_append(&self->sources, &from, sizeof from);
}

/* A store that was turned into plain dicts in the middle of it is left out. */
static pn_status end(batch_object *self, pn_module_state *state, wanted *w)
{
    if (w->got && w->kind == WANT_KV && pn_py_kv_contents(state, w->table) != w->kv.kv) leave_out(self, w);
    if (!w->got) return PN_OK;
    switch (w->kind) {
    case WANT_KV: return pn_kv_gather_end(&w->kv);
    case WANT_VECTORS: return pn_vec_gather_end(&w->vectors);
    case WANT_GRAPH: return end_graph(self, w);
    }
    return PN_ERR_INVALID;
}

static pn_status end_all(batch_object *self, pn_module_state *state, wanted *w, size_t n)
{
    for (size_t i = 0; i < n; i++) PN_TRY(end(self, state, &w[i]));
    return PN_OK;
}

/* Damaged rows must not be copied under a good checksum. */
static bool settle_wanted(wanted *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        vector_object *table = (vector_object *)w[i].table;
        if (w[i].kind == WANT_VECTORS && pn_vec_gathers_rows(&table->vec, w[i].whole != 0) &&
            !pn_vector_ready(table, PN_VECTOR_ROWS | PN_VECTOR_METAS))
            return false;
    }
    return true;
}

typedef pn_status (*step)(batch_object *self, pn_module_state *state, wanted *w, size_t n);

/* Locks are taken in one order everywhere, and the GIL is let go of while one is waited
 * for: with all of them held, and the GIL, all stores are seen at one moment. */
static pn_status at_one_moment(batch_object *self, pn_module_state *state, wanted *w, size_t n, step f)
{
    for (size_t i = 0; i < n; i++)
        if (w[i].kind == WANT_VECTORS) pn_vector_lock((vector_object *)w[i].table);
    pn_status s = f(self, state, w, n);
    for (size_t i = 0; i < n; i++)
        if (w[i].kind == WANT_VECTORS) pn_vector_unlock((vector_object *)w[i].table);
    return s;
}

/* What is no table is encoded as late as can be. That may gather more tables. */
static pn_status call_meanwhile(batch_object *self, PyObject *meanwhile)
{
    if (meanwhile == NULL) return PN_OK;
    self->busy = false;
    PyObject *done = PyObject_CallNoArgs(meanwhile);
    PN_FAIL_IF(done == NULL, PN_ERR_CALLBACK);
    Py_DECREF(done);
    PN_FAIL_IF(!may_gather(self), PN_ERR_CALLBACK);
    self->busy = true;
    return PN_OK;
}

/* Whatever fails, what has begun is given back by settle. */
static pn_status gather_all(batch_object *self, pn_module_state *state, wanted *w, size_t n, PyObject *meanwhile)
{
    pn_status s;
    PN_TRY(at_one_moment(self, state, w, n, begin_all));
    PN_TRY(gather_parts(w, n));
    PN_TRY(call_meanwhile(self, meanwhile));
    PN_TRY(at_one_moment(self, state, w, n, end_all));
    Py_BEGIN_ALLOW_THREADS
    s = pn_batch_catch_up(self->batch);
    Py_END_ALLOW_THREADS
    return s;
}

static bool want_all(pn_module_state *state, PyObject *items, wanted *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!want(state, PyTuple_GET_ITEM(items, (Py_ssize_t)i), &w[i])) return false;
    if (n > 0) qsort(w, n, sizeof *w, by_table);
    for (size_t i = 1; i < n; i++) {
        if (w[i].table != w[i - 1].table) continue;
        PyErr_SetString(PyExc_ValueError, "a table can be gathered once in a batch");
        return false;
    }
    return true;
}

/* The names of those that are plain dicts. */
static PyObject *plain_ones(const wanted *w, size_t n)
{
    PyObject *names = PyList_New(0);
    for (size_t i = 0; names != NULL && i < n; i++) {
        if (w[i].got) continue;
        PyObject *name = pn_py_str(w[i].name);
        if (name == NULL || PyList_Append(names, name) < 0) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

static PyObject *gather_wanted(batch_object *self, pn_module_state *state, wanted *w, size_t n, PyObject *meanwhile)
{
    if (!settle_wanted(w, n) || !may_gather(self)) return NULL;
    self->busy = true;
    pn_status s = gather_all(self, state, w, n, meanwhile);
    self->busy = false;
    return s == PN_OK ? plain_ones(w, n) : pn_py_raise(s, NULL, NULL);
}

static PyObject *batch_gather(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 2) {
        PyErr_SetString(PyExc_TypeError, "expected (tables[, meanwhile])");
        return NULL;
    }
    batch_object *self = (batch_object *)op;
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    PyObject *items = state ? PySequence_Tuple(args[0]) : NULL, *plain = NULL;
    if (items == NULL) return NULL;
    size_t n = (size_t)PyTuple_GET_SIZE(items);
    wanted *w = PyMem_Calloc(n + 1, sizeof *w);
    if (w == NULL) PyErr_NoMemory();
    else if (want_all(state, items, w, n)) plain = gather_wanted(self, state, w, n, nargs == 2 ? args[1] : NULL);
    for (size_t i = 0; w != NULL && i < n; i++) pn_buf_clear(&w[i].scratch);
    PyMem_Free(w);
    Py_DECREF(items);
    return plain;
}

static pn_status add_text(pn_batch *b, pn_bytes name, pn_bytes text)
{
    pn_buf value;
    pn_blob *blob = NULL;
    pn_buf_init(&value, &pn_alloc_system);
    pn_status s = pn_mpack_push_text(&value, text);
    if (s == PN_OK) s = pn_blob_take(&value, &blob);
    pn_buf_clear(&value);
    if (s == PN_OK) s = pn_batch_store(b, name, PN_STORE_TEXT, true);
    if (s == PN_OK) s = pn_batch_table(b, PN_BYTES(""), PN_TABLE_VALUES, PN_TABLE_KEEPS);
    if (s == PN_OK)
        s = pn_batch_span(b, PN_ENTRY_PUT, PN_BYTES(""), NULL, PN_FORM_MPACK, pn_blob_view(blob), blob);
    pn_blob_unref(blob);
    return s;
}

static PyObject *batch_text(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    batch_object *self = (batch_object *)op;
    if (nargs != 2 || !PyUnicode_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "expected (name: str, text: bytes-like)");
        return NULL;
    }
    Py_buffer view;
    if (!may_gather(self) || PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) < 0) return NULL;
    pn_buf scratch;
    pn_bytes name;
    pn_status s = PN_ERR_CALLBACK;
    pn_buf_init(&scratch, &pn_alloc_system);
    if (pn_py_utf8(args[0], &scratch, &name)) s = add_text(self->batch, name, (pn_bytes){view.buf, (size_t)view.len});
    pn_buf_clear(&scratch);
    PyBuffer_Release(&view);
    return s == PN_OK ? Py_NewRef(Py_None) : pn_py_raise(s, NULL, NULL);
}

/* ---- encoding ---- */

/* Puts (store, table, key) on the exception that is set. */
static void name_place(pn_bytes store, pn_bytes table, pn_bytes key)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    PyObject *s = pn_py_str(store), *t = s ? pn_py_str(table) : NULL, *k = t ? pn_py_str(key) : NULL;
    PyObject *place = k ? PyTuple_Pack(3, s, t, k) : NULL;
    if (place == NULL || value == NULL || PyObject_SetAttrString(value, "pn_place", place) < 0) PyErr_Clear();
    Py_XDECREF(s);
    Py_XDECREF(t);
    Py_XDECREF(k);
    Py_XDECREF(place);
    PyErr_Restore(type, value, tb);
}

static PyObject *batch_encode(PyObject *op, PyObject *unused)
{
    (void)unused;
    batch_object *self = (batch_object *)op;
    if (!may_gather(self)) return NULL;
    self->busy = true;
    pn_status s = PN_OK;
    pn_bytes store, table, key;
    for (size_t left = 1; s == PN_OK && left != 0;) {
        s = pn_batch_encode(self->batch, SLICE, &left, &store, &table, &key);
        let_others_run();
    }
    self->busy = false;
    if (s == PN_OK) Py_RETURN_NONE;
    if (s == PN_ERR_UNSUPPORTED) return pn_py_str(store);
    if (s != PN_ERR_CALLBACK) return pn_py_raise(s, NULL, NULL);
    name_place(store, table, key);
    return NULL;
}

/* ---- committing ---- */

typedef struct commit_args { /* borrowed from the Python arguments, but for the arrays */
    pn_pack_base *bases;
    pn_manifest_foreign *foreign;
    pn_manifest_json *json;
    pn_pack_write write;
} commit_args;

static pn_status emit(void *ctx, pn_segment_writer *w)
{
    batch_object *self = ctx;
    PN_TRY(pn_batch_write(self->batch, w));
    const pn_segment_store_note *notes;
    size_t n = pn_segment_written(w, &notes);
    self->changed.len = 0;
    for (size_t i = 0; i < n; i++) { /* a store is begun only when something of it is written */
        PN_TRY(pn_buf_append(&self->changed, notes[i].name.data, notes[i].name.len));
        PN_TRY(pn_buf_push(&self->changed, 0));
    }
    return PN_OK;
}

static PyObject *changed_names(const batch_object *self)
{
    PyObject *list = PyList_New(0);
    for (size_t at = 0; list != NULL && at < self->changed.len;) {
        const char *name = (const char *)self->changed.data + at;
        PyObject *str = pn_py_str((pn_bytes){(const uint8_t *)name, strlen(name)});
        if (str == NULL || PyList_Append(list, str) < 0) Py_CLEAR(list);
        Py_XDECREF(str);
        at += strlen(name) + 1;
    }
    return list;
}

static void *array_for(PyObject *tuple, size_t size)
{
    void *p = PyMem_Calloc((size_t)PyTuple_GET_SIZE(tuple) + 1, size);
    if (p == NULL) PyErr_NoMemory();
    return p;
}

static bool take_bases(commit_args *a, PyObject *bases)
{
    a->bases = array_for(bases, sizeof *a->bases);
    a->write.bases = a->bases;
    for (Py_ssize_t i = 0; a->bases != NULL && i < PyTuple_GET_SIZE(bases); i++) {
        const char *store;
        const uint8_t *id;
        Py_ssize_t id_len;
        unsigned long long changed;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(bases, i), "sy#K", &store, &id, &id_len, &changed)) return false;
        if (id_len != 16) {
            PyErr_SetString(PyExc_ValueError, "a store id has 16 bytes");
            return false;
        }
        a->bases[a->write.base_count++] = (pn_pack_base){store, id, changed};
    }
    return a->bases != NULL;
}

static bool take_foreign(commit_args *a, PyObject *foreign)
{
    a->foreign = array_for(foreign, sizeof *a->foreign);
    a->write.foreign = a->foreign;
    for (Py_ssize_t i = 0; a->foreign != NULL && i < PyTuple_GET_SIZE(foreign); i++) {
        const char *name, *type;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(foreign, i), "ss", &name, &type)) return false;
        a->foreign[a->write.foreign_count++] = (pn_manifest_foreign){(char *)name, (char *)type};
    }
    return a->foreign != NULL;
}

static bool take_json(commit_args *a, PyObject *json)
{
    a->json = array_for(json, sizeof *a->json);
    a->write.json = a->json;
    for (Py_ssize_t i = 0; a->json != NULL && i < PyTuple_GET_SIZE(json); i++) {
        const char *name;
        unsigned long long size;
        long long mtime;
        unsigned int crc;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(json, i), "sKLI", &name, &size, &mtime, &crc)) return false;
        a->json[a->write.json_count++] = (pn_manifest_json){(char *)name, size, mtime, crc};
    }
    return a->json != NULL;
}

PyDoc_STRVAR(batch_commit_doc,
             "commit($self, /, root, bases, foreign, json, note, time, keep=0, patience=10000)\n--\n\n"
             "Write the batch as a new generation of the pack in a directory.\n\n"
             "Args:\n"
             "    root (str | os.PathLike): the directory; made when missing.\n"
             "    bases (tuple[tuple[str, bytes, int], ...]): (store, pack id, generation that last changed it) of the\n"
             "        stores that are written as changes.\n"
             "    foreign (tuple[tuple[str, str], ...]): (file name, class) of stores that persisted themselves.\n"
             "    json (tuple[tuple[str, int, int, int], ...]): (name, size, mtime in ns, CRC-32C) of outdated files.\n"
             "    note (str): who writes, for those who wait.\n"
             "    time (int): ns since 1970.\n"
             "    keep (int): generations to keep; 0: as before.\n"
             "    patience (int): milliseconds to wait for another writer.\n\n"
             "Returns:\n"
             "    tuple[bytes, int, int, bool, list[str]]: pack id, current generation, bytes written, whether a\n"
             "    generation was made (False: nothing had changed), the stores that it changed.\n\n"
             "Raises:\n"
             "    ConflictError, LockedError, CommitError, OutcomeUnknownError, CorruptPackError, FormatVersionError.");

static PyObject *run_commit(batch_object *self, const char *root, commit_args *a)
{
    pn_pack_result r = {0};
    pn_file_error err = {0};
    pn_status s;
    self->busy = true;
    Py_BEGIN_ALLOW_THREADS
    s = pn_pack_commit(&pn_vfs_posix, &pn_alloc_system, root, &a->write, &r, &err);
    Py_END_ALLOW_THREADS
    self->busy = false;
    pn_module_state *state = pn_state_of_type(Py_TYPE(self));
    if (s == PN_ERR_CORRUPT && pn_batch_damage(self->batch, &err.base) != NULL)
        return pn_py_raise_damaged(state, pn_batch_damage(self->batch, NULL), &err.base);
    if (s != PN_OK) return pn_py_raise_pack(state, s, &err, root);
    PyObject *changed = changed_names(self);
    return changed == NULL ? NULL
                           : Py_BuildValue("y#KKON", (const char *)r.id, (Py_ssize_t)sizeof r.id,
                                           (unsigned long long)r.generation, (unsigned long long)r.bytes,
                                           r.wrote ? Py_True : Py_False, changed);
}

static PyObject *batch_commit(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", "bases", "foreign", "json", "note", "time", "keep", "patience", NULL};
    batch_object *self = (batch_object *)op;
    PyObject *root = NULL, *bases, *foreign, *json, *result = NULL;
    const char *note;
    long long time;
    unsigned int keep = 0, patience = 10000;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O!O!O!sL|II:commit", names, PyUnicode_FSConverter, &root,
                                     &PyTuple_Type, &bases, &PyTuple_Type, &foreign, &PyTuple_Type, &json, &note, &time,
                                     &keep, &patience))
        return NULL;
    commit_args a = {.write = {.emit = emit, .ctx = self, .keep = keep, .time = time, .patience = patience,
                               .note = note}};
    if (may_gather(self) && take_bases(&a, bases) && take_foreign(&a, foreign) && take_json(&a, json))
        result = run_commit(self, PyBytes_AS_STRING(root), &a);
    PyMem_Free(a.bases);
    PyMem_Free(a.foreign);
    PyMem_Free(a.json);
    Py_DECREF(root);
    return result;
}

static PyObject *batch_settle(PyObject *op, PyObject *durable)
{
    batch_object *self = (batch_object *)op;
    int ok = PyObject_IsTrue(durable);
    if (ok < 0 || !may_gather(self)) return NULL;
    settle_all(self, ok != 0);
    self->busy = true;
    Py_BEGIN_ALLOW_THREADS
    pn_batch_shed(self->batch);
    Py_END_ALLOW_THREADS
    self->busy = false;
    Py_RETURN_NONE;
}

static PyObject *batch_abandon(PyObject *op, PyObject *unused)
{
    (void)unused;
    settle_all((batch_object *)op, false);
    Py_RETURN_NONE;
}

/* ---- the type ---- */

#define FAST(f) ((PyCFunction)(void (*)(void))(f)), METH_FASTCALL

static PyMethodDef batch_methods[] = {
    {"gather", FAST(batch_gather),
     "gather([(name, table, whole), ...], meanwhile=None) -> names of tables that are plain dicts by now and were left out. All "
     "tables, KVTable, VectorTable or TripletTable, are seen at one moment, the last of the call; each can be gathered once. Other "
     "threads run before that. meanwhile() is called right before it: for what is no table. After an error nothing but settle(False) may follow."},
    {"text", FAST(batch_text), "text(name, bytes-like): adds a store as the text of its file, UTF-8."},
    {"encode", batch_encode, METH_NOARGS,
     "encode() -> str | None: live values to text, in slices; or the name of a store with a value that only text can hold:\n"
     "begin again with that store as text(). The exception of a value that has no text has pn_place: (store, collection, key)."},
    {"commit", (PyCFunction)(void (*)(void))batch_commit, METH_VARARGS | METH_KEYWORDS, batch_commit_doc},
    {"settle", batch_settle, METH_O, "settle(durable): what was gathered is saved, or counts as changed again. The batch is empty then."},
    {"abandon", batch_abandon, METH_NOARGS,
     "abandon(): settle(False) in the child of a fork, where the thread that was committing is no more."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot batch_slots[] = {
    {Py_tp_doc, "What one commit into a pack will write."},
    {Py_tp_new, batch_new},
    {Py_tp_dealloc, batch_dealloc},
    {Py_tp_methods, batch_methods},
    {0, NULL},
};

static PyType_Spec batch_spec = {
    .name = "pannier._core.PackBatch",
    .basicsize = sizeof(batch_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = batch_slots,
};

int pn_py_add_pack_batch(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &batch_spec, NULL);
    if (type == NULL) return -1;
    int r = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return r;
}
