/* vector_type.c: VectorTable: three maps (vectors, source ids, metadata) that the
 * Python class shows as dictionaries, and the file they are read from and written to.
 * Adding, querying and the matrix are in vector_add.c, vector_query.c, vector_rows.c. */
#include "py/vector_type.h"

#include <limits.h>

#include "py/npdot.h"
#include "store/vector_json.h"
#include "store/vector_pack.h"

enum { ROWS, REFS, METAS };

/* ---- lock ---- */

/* How many forks lie between this process and the first: a mutex that another thread held
 * at a fork stays locked for ever in the child, so there each table makes a new one. The
 * tables themselves are whole: they change only under both the mutex and the GIL, and
 * the thread that forks holds the GIL. */
static atomic_uint forks;
static pthread_once_t fork_handler_once = PTHREAD_ONCE_INIT;

static void count_fork(void) { atomic_fetch_add(&forks, 1); }
static void install_fork_handler(void) { (void)pthread_atfork(NULL, NULL, count_fork); }

/* What queries keep changes under the lock alone: another thread may have been at it when
 * this process was forked, and is not here to finish. */
static void renew_after_fork(vector_object *self)
{
    unsigned now = atomic_load(&forks);
    if (self->forks == now) return;
    self->forks = now;
    if (pthread_mutex_trylock(&self->mutex) == 0) {
        pthread_mutex_unlock(&self->mutex);
        return;
    }
    pthread_mutex_init(&self->mutex, NULL);
    pn_columns_init(&self->columns, &pn_alloc_system); /* their memory is lost: nothing in them can be trusted */
    pn_rowview_renew(&self->view);
    pn_coarse_init(&self->coarse, &pn_alloc_system);
}

void pn_vector_lock(vector_object *self)
{
    renew_after_fork(self);
    if (pthread_mutex_trylock(&self->mutex) == 0) return;
    Py_BEGIN_ALLOW_THREADS;
    pthread_mutex_lock(&self->mutex);
    Py_END_ALLOW_THREADS;
}

static void release_hosts(pn_buf *hosts)
{
    for (size_t i = 0; i < hosts->len; i += sizeof(PyObject *)) {
        PyObject *host;
        memcpy(&host, hosts->data + i, sizeof host);
        Py_DECREF(host);
    }
    pn_buf_clear(hosts);
}

void pn_vector_unlock(vector_object *self)
{
    pn_buf dropped;
    pn_buf_init(&dropped, self->vec.alloc);
    if (self->vec.dropped.len != 0) {
        dropped = self->vec.dropped;
        pn_buf_init(&self->vec.dropped, self->vec.alloc);
    }
    pthread_mutex_unlock(&self->mutex);
    pn_vector_lent_release(self);
    release_hosts(&dropped);
}

static pn_status settle(pn_vec *v, unsigned what, const char **file, pn_error *err)
{
    if (what & PN_VECTOR_ROWS) PN_TRY(pn_vec_settle_rows(v, file, err));
    return what & PN_VECTOR_METAS ? pn_vec_settle_metas(v, file, err) : PN_OK;
}

bool pn_vector_settle(vector_object *self, unsigned what)
{
    pn_module_state *state = pn_state_of_type(Py_TYPE(self));
    if (state == NULL) return false;
    pn_error err = {0};
    const char *file = NULL;
    char name[PATH_MAX] = "";
    pn_status s;
    pn_vector_lock(self);
    Py_BEGIN_ALLOW_THREADS;
    s = settle(&self->vec, what, &file, &err);
    if (file != NULL) snprintf(name, sizeof name, "%s", file); /* it lives as long as the lock is held */
    Py_END_ALLOW_THREADS;
    pn_vector_unlock(self);
    if (s == PN_OK) atomic_fetch_or(&self->settled, what);
    else if (s == PN_ERR_CORRUPT) pn_py_raise_damaged(state, name, &err);
    else pn_py_raise(s, &err, NULL);
    return s == PN_OK;
}

/* ---- life ---- */

static PyObject *new_table(PyTypeObject *type)
{
    vector_object *self = (vector_object *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    pn_vec_init(&self->vec, &pn_alloc_system);
    pn_rowview_init(&self->view, &pn_alloc_system);
    pn_coarse_init(&self->coarse, &pn_alloc_system);
    pn_columns_init(&self->columns, &pn_alloc_system);
    pn_vector_lent_init(self);
    self->forks = atomic_load(&forks);
    if (pthread_mutex_init(&self->mutex, NULL) != 0) {
        PyObject_GC_UnTrack(self);
        type->tp_free(self);
        Py_DECREF(type);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static PyObject *vector_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "VectorTable takes no arguments");
        return NULL;
    }
    return new_table(type);
}

static int vector_traverse(PyObject *op, visitproc visit, void *arg)
{
    vector_object *self = (vector_object *)op;
    Py_VISIT(Py_TYPE(op));
    size_t pos = 0;
    pn_bytes id;
    void *cell;
    while (pn_omap_next(&self->vec.metas, &pos, &id, &cell)) Py_VISIT((PyObject *)((pn_vec_cell *)cell)->host);
    return pn_vector_lent_traverse(self, visit, arg);
}

/* Breaks cycles: every live value becomes None. */
static int vector_tp_clear(PyObject *op)
{
    vector_object *self = (vector_object *)op;
    size_t pos = 0;
    pn_bytes id;
    void *value;
    while (pn_omap_next(&self->vec.metas, &pos, &id, &value)) {
        pn_vec_cell *cell = value;
        if (cell->host == NULL) continue;
        PyObject *old = cell->host;
        cell->host = Py_NewRef(Py_None);
        Py_DECREF(old); /* may come back here; this cell is done by then */
    }
    pn_vector_lent_clear(self);
    return 0;
}

static void vector_dealloc(PyObject *op)
{
    vector_object *self = (vector_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    size_t pos = 0;
    pn_bytes id;
    void *cell;
    while (pn_omap_next(&self->vec.metas, &pos, &id, &cell)) Py_XDECREF((PyObject *)((pn_vec_cell *)cell)->host);
    release_hosts(&self->vec.dropped);
    pn_vector_lent_clear(self);
    renew_after_fork(self);
    pn_columns_clear(&self->columns);
    pn_rowview_clear(&self->view);
    pn_coarse_clear(&self->coarse);
    pn_vec_clear(&self->vec);
    pthread_mutex_destroy(&self->mutex);
    type->tp_free(op);
    Py_DECREF(type);
}

/* ---- the maps ---- */

static pn_omap *map_of(vector_object *self, PyObject *which)
{
    long w = PyLong_AsLong(which);
    if (w == ROWS) return &self->vec.rows;
    if (w == REFS) return &self->vec.refs;
    if (w == METAS) return &self->vec.metas;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "no such map");
    return NULL;
}

static bool check_args(Py_ssize_t nargs, Py_ssize_t wanted)
{
    if (nargs == wanted) return true;
    PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", wanted, nargs);
    return false;
}

/* The UTF-8 of a key. A key that is no exact str is in no map: *ok false, no exception. */
typedef struct key_text {
    pn_buf scratch;
    pn_bytes bytes;
    bool ok;
} key_text;

static bool key_begin(key_text *k, PyObject *key)
{
    pn_buf_init(&k->scratch, &pn_alloc_system);
    k->ok = PyUnicode_CheckExact(key);
    return !k->ok || pn_py_utf8(key, &k->scratch, &k->bytes);
}

static void key_end(key_text *k) { pn_buf_clear(&k->scratch); }

static PyObject *vector_len(PyObject *op, PyObject *which)
{
    const pn_omap *m = map_of((vector_object *)op, which);
    return m ? PyLong_FromSize_t(pn_omap_len(m)) : NULL;
}

static PyObject *vector_keys(PyObject *op, PyObject *which)
{
    const pn_omap *m = map_of((vector_object *)op, which);
    if (m == NULL) return NULL;
    int gc = pn_gc_pause();
    PyObject *list = PyList_New((Py_ssize_t)pn_omap_len(m));
    size_t pos = 0;
    pn_bytes id;
    void *value;
    for (Py_ssize_t i = 0; list != NULL && pn_omap_next(m, &pos, &id, &value); i++) {
        PyObject *key = pn_py_str(id);
        if (key != NULL) PyList_SET_ITEM(list, i, key);
        else Py_CLEAR(list);
    }
    pn_gc_resume(gc);
    return list;
}

static PyObject *vector_has(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (!check_args(nargs, 2)) return NULL;
    const pn_omap *m = map_of((vector_object *)op, args[0]);
    key_text k;
    if (m == NULL || !key_begin(&k, args[1])) return NULL;
    bool found = k.ok && pn_omap_get(m, k.bytes) != NULL;
    key_end(&k);
    return PyBool_FromLong(found);
}

static PyObject *cell_value(const vector_object *self, const pn_vec_cell *cell)
{
    if (cell->blob == NULL) return Py_NewRef((PyObject *)cell->host);
    pn_bytes text;
    pn_status s = pn_vec_text(&self->vec, cell, &text);
    if (s != PN_OK) return pn_py_raise(s, NULL, NULL);
    int gc = pn_gc_pause();
    PyObject *value = pn_py_decode(NULL, text);
    pn_gc_resume(gc);
    return value;
}

/* What a caller was handed has to be what is stored: the cell becomes live. */
static PyObject *promoted(vector_object *self, pn_bytes id)
{
    pn_vec_cell *cell = pn_omap_get(&self->vec.metas, id);
    PyObject *value = cell_value(self, cell);
    if (value == NULL || cell->blob == NULL) return value;
    pn_vector_lock(self); /* may let others run first */
    cell = pn_omap_get(&self->vec.metas, id);
    if (cell != NULL && cell->blob != NULL) pn_vec_make_live(&self->vec, cell, Py_NewRef(value));
    else if (cell != NULL) Py_SETREF(value, Py_NewRef((PyObject *)cell->host));
    pn_vector_unlock(self);
    return value;
}

static PyObject *get_value(vector_object *self, const pn_omap *m, pn_bytes id, bool peek)
{
    if (m == &self->vec.rows && !peek) return pn_vector_lend(self, id);
    void *value = pn_omap_get(m, id);
    if (value == NULL) return NULL;
    if (m == &self->vec.rows) return pn_vector_copy_list(self, value);
    if (m == &self->vec.refs) return pn_py_str(pn_vec_ref_name(&self->vec, value));
    return peek ? cell_value(self, value) : promoted(self, id);
}

static bool map_ready(vector_object *self, const pn_omap *m)
{
    return pn_vector_ready(self, m == &self->vec.rows ? PN_VECTOR_ROWS : m == &self->vec.metas ? PN_VECTOR_METAS : 0);
}

static PyObject *value_of(vector_object *self, const pn_omap *m, PyObject *id, bool peek)
{
    key_text k;
    if (!map_ready(self, m) || !key_begin(&k, id)) return NULL;
    PyObject *value = k.ok ? get_value(self, m, k.bytes, peek) : NULL;
    key_end(&k);
    if (value == NULL && !PyErr_Occurred()) pn_py_raise_key(id);
    return value;
}

PyObject *pn_vector_get_list(vector_object *self, PyObject *id)
{
    PyObject *list = pn_vector_lately(self, id);
    if (list != NULL) return Py_NewRef(list);
    uint64_t ended = self->vec.lent.ended;
    list = value_of(self, &self->vec.rows, id, false);
    if (list != NULL) pn_vector_note_lately(self, id, list, ended);
    return list;
}

static PyObject *get_or_raise(PyObject *op, PyObject *const *args, Py_ssize_t nargs, bool peek)
{
    if (!check_args(nargs, 2)) return NULL;
    const pn_omap *m = map_of((vector_object *)op, args[0]);
    return m != NULL ? value_of((vector_object *)op, m, args[1], peek) : NULL;
}

static PyObject *vector_get(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    return get_or_raise(op, args, nargs, false);
}

static PyObject *vector_peek(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    return get_or_raise(op, args, nargs, true);
}

bool pn_vector_floats(PyObject *list, pn_buf *out)
{
    if (!PyList_CheckExact(list)) return false;
    size_t n = (size_t)PyList_GET_SIZE(list);
    if (n > SIZE_MAX / 16 || pn_buf_reserve(out, n * sizeof(double)) != PN_OK) {
        PyErr_NoMemory();
        return false;
    }
    double *v = (double *)(void *)(out->data + out->len);
    for (size_t i = 0; i < n; i++) {
        PyObject *item = PyList_GET_ITEM(list, (Py_ssize_t)i);
        if (!PyFloat_CheckExact(item)) return false;
        v[i] = PyFloat_AS_DOUBLE(item);
    }
    out->len += n * sizeof(double);
    return true;
}

static pn_status set_row(vector_object *self, pn_bytes id, PyObject *value)
{
    pn_buf floats;
    pn_buf_init(&floats, &pn_alloc_system);
    pn_status s = PN_ERR_UNSUPPORTED;
    if (pn_vector_floats(value, &floats)) {
        pn_vector_lock(self);
        s = pn_vector_put_list(self, id, NULL, value, &floats);
        pn_vector_unlock(self);
    } else if (PyErr_Occurred()) {
        s = PN_ERR_CALLBACK;
    }
    pn_buf_clear(&floats);
    return s;
}

static pn_status set_ref(vector_object *self, pn_bytes id, PyObject *value)
{
    key_text ref;
    if (!key_begin(&ref, value)) return PN_ERR_CALLBACK;
    pn_status s = PN_ERR_UNSUPPORTED;
    if (ref.ok) {
        pn_vector_lock(self);
        s = pn_vec_put_ref(&self->vec, id, NULL, ref.bytes);
        pn_vector_unlock(self);
    }
    key_end(&ref);
    return s;
}

static pn_status set_meta(vector_object *self, pn_bytes id, PyObject *value)
{
    pn_vector_lock(self);
    pn_status s = pn_vec_put_host(&self->vec, id, NULL, Py_NewRef(value));
    pn_vector_unlock(self);
    if (s != PN_OK) Py_DECREF(value);
    return s;
}

static PyObject *vector_set(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (!check_args(nargs, 3)) return NULL;
    vector_object *self = (vector_object *)op;
    const pn_omap *m = map_of(self, args[0]);
    key_text k;
    if (m == NULL || !key_begin(&k, args[1])) return NULL;
    pn_status s = PN_ERR_UNSUPPORTED;
    if (k.ok && m == &self->vec.rows) s = set_row(self, k.bytes, args[2]);
    else if (k.ok && m == &self->vec.refs) s = set_ref(self, k.bytes, args[2]);
    else if (k.ok) s = set_meta(self, k.bytes, args[2]);
    key_end(&k);
    if (s != PN_OK && s != PN_ERR_UNSUPPORTED) return pn_py_raise(s, NULL, NULL);
    return PyBool_FromLong(s == PN_OK);
}

static PyObject *vector_set_text(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (!check_args(nargs, 2)) return NULL;
    vector_object *self = (vector_object *)op;
    key_text k;
    if (!key_begin(&k, args[0])) return NULL;
    pn_buf text;
    pn_buf_init(&text, &pn_alloc_system);
    pn_blob *blob = NULL;
    pn_status s = k.ok ? pn_py_encode(args[1], PN_ENCODE_IDENTITY, &text) : PN_ERR_UNSUPPORTED;
    if (s == PN_OK) s = pn_blob_take(&text, &blob);
    if (s == PN_OK) {
        pn_vector_lock(self);
        s = pn_vec_put_text(&self->vec, k.bytes, NULL, blob, pn_blob_view(blob));
        pn_vector_unlock(self);
    }
    pn_blob_unref(blob);
    pn_buf_clear(&text);
    key_end(&k);
    if (s != PN_OK && s != PN_ERR_UNSUPPORTED) return pn_py_raise(s, NULL, NULL);
    return PyBool_FromLong(s == PN_OK);
}

static PyObject *vector_remove(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (!check_args(nargs, 2)) return NULL;
    vector_object *self = (vector_object *)op;
    const pn_omap *m = map_of(self, args[0]);
    key_text k;
    if (m == NULL || !key_begin(&k, args[1])) return NULL;
    bool found = false;
    pn_status s = PN_OK;
    pn_vector_lock(self);
    if (k.ok && m == &self->vec.rows) found = pn_vec_remove_row(&self->vec, k.bytes);
    else if (k.ok && m == &self->vec.refs) found = pn_vec_remove_ref(&self->vec, k.bytes);
    else if (k.ok) s = pn_vec_remove_meta(&self->vec, k.bytes, &found);
    pn_vector_unlock(self);
    key_end(&k);
    return s == PN_OK ? PyBool_FromLong(found) : pn_py_raise(s, NULL, NULL);
}

int pn_vector_delete_ref(vector_object *self, PyObject *ref)
{
    key_text k;
    if (!key_begin(&k, ref)) return -1;
    size_t deleted;
    pn_vector_lock(self);
    pn_status s = k.ok ? pn_vec_delete_ref(&self->vec, k.bytes, &deleted) : PN_ERR_UNSUPPORTED;
    pn_vector_unlock(self);
    key_end(&k);
    if (s == PN_OK || s == PN_ERR_UNSUPPORTED) return s == PN_OK;
    pn_py_raise(s, NULL, NULL);
    return -1;
}

static PyObject *vector_delete_ref(PyObject *op, PyObject *ref)
{
    int done = pn_vector_delete_ref((vector_object *)op, ref);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

/* ---- the file ---- */

PyObject *pn_py_vector_table(PyTypeObject *type, pn_vec *vec)
{
    PyObject *table = new_table(type);
    if (table == NULL) pn_vec_clear(vec);
    else ((vector_object *)table)->vec = *vec;
    return table;
}

static PyObject *vector_load(PyObject *type, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return NULL;
    pn_vec vec;
    pn_vec_init(&vec, &pn_alloc_system);
    pn_status s;
    Py_BEGIN_ALLOW_THREADS;
    s = pn_vec_load_json(&vec, (pn_bytes){view.buf, (size_t)view.len}, NULL);
    if (s != PN_OK) pn_vec_clear(&vec);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&view);
    if (s == PN_ERR_NOMEM) return PyErr_NoMemory();
    if (s != PN_OK) Py_RETURN_NONE;
    return pn_py_vector_table((PyTypeObject *)type, &vec);
}

enum { PAIRS_A_TURN = 256, TRIES_WITH_TURNS = 2 };

/* One live value's text: ours, or what the caller's encode_odd(id, value) returns. */
static pn_status encode_live(PyObject *id, PyObject *value, PyObject *encode_odd, pn_buf *out)
{
    pn_status s = pn_py_encode(value, PN_ENCODE_IDENTITY, out);
    if (s != PN_ERR_UNSUPPORTED) return s;
    PyObject *text = PyObject_CallFunctionObjArgs(encode_odd, id, value, NULL);
    if (text == NULL) return PN_ERR_CALLBACK;
    Py_ssize_t n;
    const char *utf8 = PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, &n) : NULL;
    s = utf8 ? pn_buf_append(out, utf8, (size_t)n) : PN_ERR_INVALID;
    if (utf8 == NULL && PyErr_Occurred()) s = PN_ERR_CALLBACK;
    Py_DECREF(text);
    return s;
}

/* (id, value) of every live cell, in order. */
static PyObject *live_pairs(vector_object *self)
{
    int gc = pn_gc_pause();
    PyObject *list = PyList_New(0);
    size_t pos = 0;
    pn_bytes id;
    void *value;
    while (list != NULL && pn_omap_next(&self->vec.metas, &pos, &id, &value)) {
        pn_vec_cell *cell = value;
        if (cell->blob != NULL) continue;
        PyObject *key = pn_py_str(id);
        PyObject *pair = key ? PyTuple_Pack(2, key, (PyObject *)cell->host) : NULL;
        if (pair == NULL || PyList_Append(list, pair) < 0) Py_CLEAR(list);
        Py_XDECREF(key);
        Py_XDECREF(pair);
    }
    pn_gc_resume(gc);
    return list;
}

/* Texts of the pairs, back to back in *text, and where each ends in *ends (size_t). With
 * turns, other threads run now and then. */
static pn_status encode_pairs(PyObject *pairs, PyObject *encode_odd, bool turns, pn_buf *text, pn_buf *ends)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pairs); i++) {
        if (turns && i % PAIRS_A_TURN == PAIRS_A_TURN - 1) {
            Py_BEGIN_ALLOW_THREADS;
            Py_END_ALLOW_THREADS;
        }
        PyObject *pair = PyList_GET_ITEM(pairs, i);
        PN_TRY(encode_live(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1), encode_odd, text));
        PN_TRY(pn_buf_append(ends, &text->len, sizeof text->len));
    }
    return PN_OK;
}

static pn_status spans_of(const pn_buf *text, const pn_buf *ends, pn_buf *spans)
{
    size_t from = 0;
    for (size_t i = 0; i < ends->len; i += sizeof from) {
        size_t to;
        memcpy(&to, ends->data + i, sizeof to);
        pn_bytes span = {text->data + from, to - from};
        PN_TRY(pn_buf_append(spans, &span, sizeof span));
        from = to;
    }
    return PN_OK;
}

/* Writes the file unless the table has changed since `changes`. */
static pn_status save_if_unchanged(vector_object *self, uint64_t changes, const pn_buf *spans, pn_buf *out,
                                   bool *saved)
{
    pn_status s = PN_OK;
    pn_vector_lock(self);
    *saved = self->vec.changes == changes;
    if (*saved) {
        Py_BEGIN_ALLOW_THREADS;
        s = pn_vec_save_json(&self->vec, (pn_bytes *)(void *)spans->data, spans->len / sizeof(pn_bytes), out);
        Py_END_ALLOW_THREADS;
    }
    pn_vector_unlock(self);
    return s;
}

/* One attempt: live values are encoded without the lock, so others may change the
 * table meanwhile; then *saved is false and nothing was written. */
static pn_status try_encode(vector_object *self, PyObject *encode_odd, bool turns, pn_buf *out, bool *saved)
{
    uint64_t changes = self->vec.changes;
    PyObject *pairs = live_pairs(self);
    if (pairs == NULL) return PN_ERR_CALLBACK;
    pn_buf text, ends, spans;
    pn_buf_init(&text, &pn_alloc_system);
    pn_buf_init(&ends, &pn_alloc_system);
    pn_buf_init(&spans, &pn_alloc_system);
    pn_status s = encode_pairs(pairs, encode_odd, turns, &text, &ends);
    if (s == PN_OK) s = spans_of(&text, &ends, &spans);
    if (s == PN_OK) s = save_if_unchanged(self, changes, &spans, out, saved);
    pn_buf_clear(&text);
    pn_buf_clear(&ends);
    pn_buf_clear(&spans);
    Py_DECREF(pairs);
    return s;
}

static PyObject *vector_encode(PyObject *op, PyObject *encode_odd)
{
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL || !pn_vector_ready((vector_object *)op, PN_VECTOR_ROWS | PN_VECTOR_METAS)) return NULL;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    bool saved = false;
    pn_status s = PN_OK;
    for (int attempt = 0; attempt < 1000 && !saved && s == PN_OK; attempt++)
        s = try_encode((vector_object *)op, encode_odd, attempt < TRIES_WITH_TURNS, &out, &saved);
    PyObject *text = NULL;
    if (s != PN_OK) pn_py_raise(s, NULL, NULL);
    else if (!saved) PyErr_SetString(PyExc_RuntimeError, "the vector store was changed all the time while it was encoded");
    else text = pn_py_text(state, &out);
    pn_buf_clear(&out);
    return text;
}

static PyObject *vector_live(PyObject *op, PyObject *unused)
{
    (void)unused;
    return live_pairs((vector_object *)op);
}

/* ---- checks ---- */

static PyObject *vector_settle(PyObject *op, PyObject *unused)
{
    (void)unused;
    if (!pn_vector_ready((vector_object *)op, PN_VECTOR_ROWS | PN_VECTOR_METAS)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *vector_consistent(PyObject *op, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(pn_vec_consistent(&((vector_object *)op)->vec));
}

/* ---- numpy's dot, for the check at first use ---- */

static PyObject *numpy_dot(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
{
    (void)unused;
    if (!check_args(nargs, 2)) return NULL;
    pn_dot_fn dot = pn_np_dot();
    Py_buffer a, b;
    if (dot == NULL || PyObject_GetBuffer(args[0], &a, PyBUF_SIMPLE) < 0) return NULL;
    if (PyObject_GetBuffer(args[1], &b, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&a);
        return NULL;
    }
    PyObject *result = NULL;
    if (a.len == b.len) result = pn_np_float64(dot(a.buf, b.buf, (size_t)a.len / sizeof(double)));
    else PyErr_SetString(PyExc_ValueError, "the vectors differ in length");
    PyBuffer_Release(&a);
    PyBuffer_Release(&b);
    return result;
}

/* A list of floats as the bytes of their doubles, or None for any other object. */
static PyObject *pack_floats(PyObject *unused, PyObject *list)
{
    (void)unused;
    if (!PyList_CheckExact(list)) Py_RETURN_NONE;
    Py_ssize_t n = PyList_GET_SIZE(list);
    for (Py_ssize_t i = 0; i < n; i++)
        if (!PyFloat_CheckExact(PyList_GET_ITEM(list, i))) Py_RETURN_NONE;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(double));
    if (bytes == NULL) return NULL;
    double *out = (double *)(void *)PyBytes_AS_STRING(bytes);
    for (Py_ssize_t i = 0; i < n; i++) out[i] = PyFloat_AS_DOUBLE(PyList_GET_ITEM(list, i));
    return bytes;
}

/* ---- type ---- */

#define FAST(f) ((PyCFunction)(void (*)(void))(f)), METH_FASTCALL

static PyMethodDef vector_methods[] = {
    {"len", vector_len, METH_O, "len(which) -> int. which: 0 vectors, 1 source ids, 2 metadata."},
    {"keys", vector_keys, METH_O, "keys(which) -> list of ids, in order."},
    {"has", FAST(vector_has), "has(which, id) -> bool"},
    {"get", FAST(vector_get), "get(which, id): the value, KeyError. It is live: what is changed in it is what the table holds."},
    {"peek", FAST(vector_peek), "peek(which, id): an equal value; nothing becomes live."},
    {"set", FAST(vector_set), "set(which, id, value) -> bool. False: no value that a table holds."},
    {"set_text", FAST(vector_set_text), "set_text(id, metadata) -> bool. Keeps the metadata's JSON text. False: it has none that reads back the same."},
    {"remove", FAST(vector_remove), "remove(which, id) -> bool: whether it was there."},
    {"delete_ref", vector_delete_ref, METH_O, "delete_ref(source id) -> bool. False: not done, take the general way."},
    {"load", vector_load, METH_O | METH_CLASS, "load(bytes-like) -> VectorTable, or None for text that needs the general way."},
    {"encode", vector_encode, METH_O, "encode(encode_odd) -> Text: the store's file. encode_odd(id, value) -> str gives the JSON text of metadata that is not plain JSON."},
    {"live", vector_live, METH_NOARGS, "live() -> [(id, metadata), ...] of the metadata kept as objects."},
    {"dense", pn_vector_dense, METH_NOARGS, "dense() -> VectorRows where the vectors lie as one matrix, else None."},
    {"shape", pn_vector_shape, METH_NOARGS, "shape() -> (n, dim, any_float64), None when dimensions differ."},
    {"copy_rows", pn_vector_copy_rows, METH_O, "copy_rows(array): fills a C-contiguous (n, dim) float32 or float64 array."},
    {"sync", pn_vector_sync, METH_NOARGS, "sync() -> bool: takes over what was changed in vectors that get gave, before any are read. False: no table holds that."},
    {"settle", vector_settle, METH_NOARGS, "settle(): checks at once what a pack leaves unchecked until it is used. CorruptPackError."},
    {"consistent", vector_consistent, METH_NOARGS, "consistent() -> bool: checks the reverse index, for tests."},
    {"add_nodes", FAST(pn_vector_add_nodes), pn_vector_add_nodes_doc},
    {"query", pn_vector_query, METH_VARARGS, pn_vector_query_doc},
    {"query_many", pn_vector_query_many, METH_VARARGS, pn_vector_query_many_doc},
    {"delete_matching", pn_vector_delete_matching, METH_VARARGS, pn_vector_delete_matching_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot vector_slots[] = {
    {Py_tp_doc, "The state of a vector store: ids to vectors, to source ids and to metadata."},
    {Py_tp_new, vector_new},
    {Py_tp_dealloc, vector_dealloc},
    {Py_tp_traverse, vector_traverse},
    {Py_tp_clear, vector_tp_clear},
    {Py_tp_methods, vector_methods},
    {0, NULL},
};

static PyType_Spec vector_spec = {
    .name = "pannier._core.VectorTable",
    .basicsize = sizeof(vector_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = vector_slots,
};

static PyMethodDef functions[] = {
    {"pack_floats", pack_floats, METH_O, "pack_floats(list) -> bytes of float64, or None unless it is a list of floats."},
    {"numpy_dot", FAST(numpy_dot), "numpy_dot(a, b): numpy's dot of two float64 buffers, as queries use it."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_vector(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    pthread_once(&fork_handler_once, install_fork_handler);
    state->vector_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &vector_spec, NULL);
    if (state->vector_type == NULL || PyModule_AddType(module, state->vector_type) < 0) return -1;
    if (pn_vector_add_rows_type(module) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
