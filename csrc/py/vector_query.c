/* vector_query.c: queries and deletions over a VectorTable: turns a query's arguments
 * into the core's, picks the rows that ids and filters leave, and lets topk.c choose.
 *
 * Whatever the core cannot answer exactly as the peer would makes the methods return
 * None (or False): the caller then runs the peer's own code. Rows whose filters only
 * Python can decide are handed to the callback `ask`, in order, between two phases with
 * the lock; if the table changed in between, the peer's code has it too. */
#include "py/npdot.h"
#include "py/vector_type.h"

#include "codec/json_write.h"
#include "store/filter.h"

/* ---- filters: from Python tuples to the core's ---- */

typedef struct compiled {
    pn_buf filters; /* pn_filter */
    pn_buf scalars; /* pn_scalar, room for all, so pointers stay */
    pn_buf escaped; /* text, room for all */
    pn_filter_set set;
} compiled;

static void compiled_clear(compiled *c)
{
    pn_buf_clear(&c->filters);
    pn_buf_clear(&c->scalars);
    pn_buf_clear(&c->escaped);
}

/* Characters as the str caches them: borrowed for as long as the str lives, which the
 * caller's arguments see to. Surrogates have none: unsupported. */
static bool cached_utf8(PyObject *str, pn_bytes *out)
{
    Py_ssize_t n;
    const char *p = PyUnicode_CheckExact(str) ? PyUnicode_AsUTF8AndSize(str, &n) : NULL;
    if (p == NULL) {
        PyErr_Clear();
        return false;
    }
    *out = (pn_bytes){(const uint8_t *)p, (size_t)n};
    return true;
}

static pn_status escape(compiled *c, pn_bytes utf8, pn_bytes *out)
{
    size_t before = c->escaped.len;
    PN_TRY(pn_json_put_escaped(&c->escaped, utf8));
    *out = (pn_bytes){c->escaped.data + before, c->escaped.len - before};
    return PN_OK;
}

static pn_status compile_scalar(compiled *c, PyObject *value)
{
    pn_scalar s = {.kind = PN_SCALAR_NONE};
    int overflow = 0;
    if (PyUnicode_CheckExact(value)) {
        s.kind = PN_SCALAR_STR;
        PN_FAIL_IF(!cached_utf8(value, &s.utf8), PN_ERR_UNSUPPORTED);
        PN_TRY(escape(c, s.utf8, &s.escaped));
    } else if (PyFloat_CheckExact(value)) {
        s.kind = PN_SCALAR_FLOAT;
        s.d = PyFloat_AS_DOUBLE(value);
    } else if (PyLong_CheckExact(value)) {
        s.kind = PN_SCALAR_INT;
        s.i = PyLong_AsLongLongAndOverflow(value, &overflow);
        PN_FAIL_IF(overflow != 0, PN_ERR_UNSUPPORTED);
    } else if (value != Py_None) {
        return PN_ERR_UNSUPPORTED;
    }
    return pn_buf_append(&c->scalars, &s, sizeof s);
}

static size_t text_room(PyObject *value)
{
    return PyUnicode_Check(value) ? 12 * (size_t)PyUnicode_GET_LENGTH(value) : 0; /* at most \uXXXX\uXXXX each */
}

/* Room for all scalars and escaped text of (key, op, value) tuples. */
static pn_status make_room(compiled *c, PyObject *specs)
{
    size_t scalars = 0, text = 1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(specs); i++) {
        PyObject *spec = PyList_GET_ITEM(specs, i);
        PN_FAIL_IF(!PyTuple_CheckExact(spec) || PyTuple_GET_SIZE(spec) != 3, PN_ERR_INVALID);
        PyObject *value = PyTuple_GET_ITEM(spec, 2);
        text += text_room(PyTuple_GET_ITEM(spec, 0)) + text_room(value) + 4;
        scalars++;
        if (!PyTuple_CheckExact(value)) continue;
        scalars += (size_t)PyTuple_GET_SIZE(value);
        for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(value); j++) text += text_room(PyTuple_GET_ITEM(value, j));
    }
    PN_TRY(pn_buf_reserve(&c->scalars, scalars * sizeof(pn_scalar)));
    return pn_buf_reserve(&c->escaped, text);
}

static pn_status compile_values(compiled *c, PyObject *value, pn_filter *f)
{
    f->values = (pn_scalar *)(void *)(c->scalars.data + c->scalars.len);
    f->is_list = PyTuple_CheckExact(value); /* the caller makes tuples of lists */
    f->n = f->is_list ? (size_t)PyTuple_GET_SIZE(value) : 1;
    if (!f->is_list) return compile_scalar(c, value);
    for (size_t i = 0; i < f->n; i++) PN_TRY(compile_scalar(c, PyTuple_GET_ITEM(value, (Py_ssize_t)i)));
    return PN_OK;
}

static pn_status compile_key(compiled *c, pn_bytes utf8, pn_filter *f)
{
    size_t before = c->escaped.len;
    PN_TRY(PN_BUF_LIT(&c->escaped, "\""));
    PN_TRY(escape(c, utf8, &f->key));
    PN_TRY(PN_BUF_LIT(&c->escaped, "\": "));
    if (pn_filter_key_is_word(f->key))
        f->needle = (pn_bytes){c->escaped.data + before, c->escaped.len - before};
    return PN_OK;
}

static pn_status compile_filter(compiled *c, PyObject *spec)
{
    pn_filter f = {.is_list = false};
    pn_bytes key, op;
    PN_FAIL_IF(!cached_utf8(PyTuple_GET_ITEM(spec, 0), &key), PN_ERR_UNSUPPORTED);
    PN_FAIL_IF(!cached_utf8(PyTuple_GET_ITEM(spec, 1), &op) || !pn_filter_op_named(op, &f.op), PN_ERR_UNSUPPORTED);
    PN_TRY(compile_key(c, key, &f));
    PN_TRY(compile_values(c, PyTuple_GET_ITEM(spec, 2), &f));
    return pn_buf_append(&c->filters, &f, sizeof f);
}

static bool condition_named(PyObject *name, pn_filter_condition *out)
{
    static const char *const names[] = {"and", "or", "not"};
    for (int i = 0; i < 3; i++)
        if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return *out = (pn_filter_condition)i, true;
    return false;
}

/* specs: a list of (key, operator, value) or None; an empty set when None. */
static pn_status compile(compiled *c, PyObject *specs, PyObject *condition)
{
    pn_buf_init(&c->filters, &pn_alloc_system);
    pn_buf_init(&c->scalars, &pn_alloc_system);
    pn_buf_init(&c->escaped, &pn_alloc_system);
    c->set = (pn_filter_set){0};
    if (specs == Py_None) return PN_OK;
    PN_FAIL_IF(!PyList_CheckExact(specs), PN_ERR_INVALID);
    PN_FAIL_IF(PyList_GET_SIZE(specs) > PN_FILTER_MAX || !condition_named(condition, &c->set.condition),
               PN_ERR_UNSUPPORTED);
    PN_TRY(make_room(c, specs));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(specs); i++) PN_TRY(compile_filter(c, PyList_GET_ITEM(specs, i)));
    c->set.filters = (pn_filter *)(void *)c->filters.data;
    c->set.n = (size_t)PyList_GET_SIZE(specs);
    return PN_OK;
}

/* ---- picking rows ---- */

typedef struct picker {
    pn_vec *v;
    const compiled *filters;
    pn_buf picks;  /* pn_pick, in the order of the rows */
    pn_buf asked;  /* uint32_t: picks whose filters Python has to decide */
    pn_buf scratch;
    size_t meta_pos; /* metas is walked alongside rows: mostly they agree */
} picker;

static void picker_init(picker *p, pn_vec *v, const compiled *filters)
{
    *p = (picker){.v = v, .filters = filters};
    pn_buf_init(&p->picks, &pn_alloc_system);
    pn_buf_init(&p->asked, &pn_alloc_system);
    pn_buf_init(&p->scratch, &pn_alloc_system);
}

static void picker_clear(picker *p)
{
    pn_buf_clear(&p->picks);
    pn_buf_clear(&p->asked);
    pn_buf_clear(&p->scratch);
}

static size_t pick_count(const picker *p) { return p->picks.len / sizeof(pn_pick); }
static const pn_pick *picks_of(const picker *p) { return (const pn_pick *)(const void *)p->picks.data; }

static const pn_vec_cell *cell_of(picker *p, pn_bytes id)
{
    size_t pos = p->meta_pos;
    pn_bytes key;
    void *value;
    if (pn_omap_next(&p->v->metas, &pos, &key, &value) && pn_bytes_equal(key, id)) {
        p->meta_pos = pos;
        return value;
    }
    return pn_omap_get(&p->v->metas, id);
}

static pn_match filtered(picker *p, pn_bytes id)
{
    if (p->filters->set.n == 0) return PN_MATCH_YES;
    const pn_vec_cell *cell = cell_of(p, id);
    if (cell == NULL || cell->blob == NULL) return PN_MATCH_ASK;
    pn_bytes text;
    if (pn_vec_text(p->v, cell, &text) != PN_OK) return PN_MATCH_ASK; /* whoever is asked meets the error */
    return pn_filter_eval(&p->filters->set, text, &p->scratch);
}

static pn_status consider(picker *p, pn_vec_row *row, pn_bytes id)
{
    pn_match m = filtered(p, id);
    if (m == PN_MATCH_NO) return PN_OK;
    pn_pick pick = {row, id};
    uint32_t number = (uint32_t)pick_count(p);
    PN_TRY(pn_buf_append(&p->picks, &pick, sizeof pick));
    return m == PN_MATCH_ASK ? pn_buf_append(&p->asked, &number, sizeof number) : PN_OK;
}

static pn_status pick_from_all(picker *p)
{
    size_t pos = 0;
    pn_bytes id;
    void *row;
    if (p->filters->set.n == 0) PN_TRY(pn_buf_reserve(&p->picks, pn_omap_len(&p->v->rows) * sizeof(pn_pick)));
    while (pn_omap_next(&p->v->rows, &pos, &id, &row)) PN_TRY(consider(p, row, id));
    return PN_OK;
}

/* Values of a map lie in its order, so their addresses sort like the rows. */
static int by_address(const void *a, const void *b)
{
    const pn_pick *x = a, *y = b;
    return ((uintptr_t)x->row > (uintptr_t)y->row) - ((uintptr_t)x->row < (uintptr_t)y->row);
}

static pn_status pick_from_ids(picker *p, const pn_bytes *ids, size_t n)
{
    pn_buf found;
    pn_buf_init(&found, &pn_alloc_system);
    pn_status s = PN_OK;
    for (size_t i = 0; i < n && s == PN_OK; i++) {
        pn_pick pick = {pn_omap_get(&p->v->rows, ids[i]), ids[i]};
        if (pick.row != NULL) s = pn_buf_append(&found, &pick, sizeof pick);
    }
    pn_pick *picks = (pn_pick *)(void *)found.data;
    size_t count = found.len / sizeof *picks;
    if (count > 1) qsort(picks, count, sizeof *picks, by_address);
    for (size_t i = 0; i < count && s == PN_OK; i++)
        if (i == 0 || picks[i].row != picks[i - 1].row) s = consider(p, picks[i].row, picks[i].id);
    pn_buf_clear(&found);
    return s;
}

/* The ids of a tuple of str; UNSUPPORTED for anything that is no plain text. */
static pn_status ids_of(PyObject *tuple, pn_buf *out)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        pn_bytes id;
        PN_FAIL_IF(!cached_utf8(PyTuple_GET_ITEM(tuple, i), &id), PN_ERR_UNSUPPORTED);
        PN_TRY(pn_buf_append(out, &id, sizeof id));
    }
    return PN_OK;
}

static pn_status pick(picker *p, PyObject *node_ids)
{
    pn_buf ids;
    pn_buf_init(&ids, &pn_alloc_system);
    pn_status s = node_ids == Py_None ? PN_OK : PyTuple_CheckExact(node_ids) ? ids_of(node_ids, &ids) : PN_ERR_INVALID;
    if (s == PN_OK) {
        bool all = node_ids == Py_None;
        Py_BEGIN_ALLOW_THREADS;
        s = all ? pick_from_all(p) : pick_from_ids(p, (pn_bytes *)(void *)ids.data, ids.len / sizeof(pn_bytes));
        Py_END_ALLOW_THREADS;
    }
    pn_buf_clear(&ids);
    return s;
}

/* ---- rows that Python has to decide ---- */

/* str of the ids to be asked, in order. The GIL is held; the lock still is, too. */
static PyObject *asked_ids(const picker *p)
{
    const uint32_t *asked = (const uint32_t *)(const void *)p->asked.data;
    Py_ssize_t n = (Py_ssize_t)(p->asked.len / sizeof *asked);
    int gc = pn_gc_pause();
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        PyObject *id = pn_py_str(picks_of(p)[asked[i]].id);
        if (id != NULL) PyList_SET_ITEM(list, i, id);
        else Py_CLEAR(list);
    }
    pn_gc_resume(gc);
    return list;
}

/* Asks for each; keeps[i] is set to its answer. */
static bool ask_all(PyObject *ids, PyObject *ask, uint8_t *keeps)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(ids); i++) {
        PyObject *answer = PyObject_CallOneArg(ask, PyList_GET_ITEM(ids, i));
        int yes = answer ? PyObject_IsTrue(answer) : -1;
        Py_XDECREF(answer);
        if (yes < 0) return false;
        keeps[i] = (uint8_t)yes;
    }
    return true;
}

static void drop_refused(picker *p, const uint8_t *keeps)
{
    const uint32_t *asked = (const uint32_t *)(const void *)p->asked.data;
    size_t questions = p->asked.len / sizeof *asked, to = 0, q = 0;
    pn_pick *picks = (pn_pick *)(void *)p->picks.data;
    for (size_t i = 0; i < pick_count(p); i++) {
        bool keep = true;
        if (q < questions && asked[q] == i) keep = keeps[q++];
        if (keep) picks[to++] = picks[i];
    }
    p->picks.len = to * sizeof *picks;
}

/* Called with the lock, returns with it. UNSUPPORTED when the table changed. */
static pn_status settle_asked(picker *p, vector_object *self, PyObject *ask)
{
    if (p->asked.len == 0) return PN_OK;
    PyObject *ids = asked_ids(p);
    PN_FAIL_IF(ids == NULL, PN_ERR_CALLBACK);
    uint64_t changes = self->vec.changes;
    uint8_t *keeps = pn_alloc_zero(&pn_alloc_system, (size_t)PyList_GET_SIZE(ids), 1);
    pn_vector_unlock(self);
    pn_status s = keeps == NULL ? PN_ERR_NOMEM : ask_all(ids, ask, keeps) ? PN_OK : PN_ERR_CALLBACK;
    Py_DECREF(ids);
    pn_vector_lock(self);
    if (s == PN_OK && self->vec.changes != changes) s = PN_ERR_UNSUPPORTED;
    if (s == PN_OK) drop_refused(p, keeps);
    pn_alloc_put(&pn_alloc_system, keeps);
    return s;
}

/* ---- query ---- */

typedef struct question {
    const double *query;
    size_t dim, k;
    bool mmr;
    double threshold;
    pn_dot_fn dot;
} question;

static pn_status choose(const question *q, const picker *p, pn_hit **hits, size_t *count)
{
    if (pick_count(p) == 0) return PN_OK;
    pn_status s;
    Py_BEGIN_ALLOW_THREADS;
    if (q->mmr)
        s = pn_topk_mmr(p->v, picks_of(p), pick_count(p), q->query, q->dim, q->k, q->threshold, q->dot, hits, count);
    else
        s = pn_topk(p->v, picks_of(p), pick_count(p), q->query, q->dim, q->k, q->dot, hits, count);
    Py_END_ALLOW_THREADS;
    return s;
}

/* ([similarity], [id]), with the lock held, since ids are the table's. */
static PyObject *answer(const picker *p, const pn_hit *hits, size_t count)
{
    int gc = pn_gc_pause();
    PyObject *similarities = PyList_New((Py_ssize_t)count), *ids = PyList_New((Py_ssize_t)count);
    bool ok = similarities != NULL && ids != NULL;
    for (size_t i = 0; ok && i < count; i++) {
        PyObject *s = pn_np_float64(hits[i].similarity), *id = pn_py_str(picks_of(p)[hits[i].pick].id);
        ok = s != NULL && id != NULL;
        if (s != NULL) PyList_SET_ITEM(similarities, (Py_ssize_t)i, s);
        if (id != NULL) PyList_SET_ITEM(ids, (Py_ssize_t)i, id);
    }
    PyObject *pair = ok ? PyTuple_Pack(2, similarities, ids) : NULL;
    Py_XDECREF(similarities);
    Py_XDECREF(ids);
    pn_gc_resume(gc);
    return pair;
}

static PyObject *run_query(vector_object *self, const question *q, const compiled *filters, PyObject *node_ids,
                           PyObject *ask)
{
    picker p;
    picker_init(&p, &self->vec, filters);
    pn_hit *hits = NULL;
    size_t count = 0;
    PyObject *result = NULL;
    pn_vector_lock(self);
    pn_status s = pick(&p, node_ids);
    if (s == PN_OK) s = settle_asked(&p, self, ask);
    if (s == PN_OK) s = choose(q, &p, &hits, &count);
    if (s == PN_OK) result = answer(&p, hits, count);
    pn_vector_unlock(self);
    pn_alloc_put(&pn_alloc_system, hits);
    picker_clear(&p);
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_NONE;
    return s == PN_OK ? result : pn_py_raise(s, NULL, NULL);
}

const char pn_vector_query_doc[] =
    "query(query, k, mmr_threshold, node_ids, filters, condition, ask) -> ([similarity], [id]) or None.\n\n"
    "query: float64 buffer. k: 0 for all. mmr_threshold: float for MMR, else None. node_ids: tuple\n"
    "of str or None. filters: list of (key, operator, value), lists as tuples, or None.\n"
    "ask(id) -> bool decides where Python has to. None: the peer's own code has to answer.";

PyObject *pn_vector_query(PyObject *op, PyObject *args)
{
    Py_buffer query;
    Py_ssize_t k;
    PyObject *threshold, *node_ids, *specs, *condition, *ask;
    if (!PyArg_ParseTuple(args, "y*nOOOOO", &query, &k, &threshold, &node_ids, &specs, &condition, &ask)) return NULL;
    bool ready = pn_vector_ready((vector_object *)op, PN_VECTOR_ROWS | (specs != Py_None ? PN_VECTOR_METAS : 0));
    question q = {.query = query.buf, .dim = (size_t)query.len / sizeof(double), .k = (size_t)k,
                  .mmr = threshold != Py_None, .dot = pn_np_dot()};
    if (ready && q.mmr) q.threshold = PyFloat_AsDouble(threshold);
    PyObject *result = NULL;
    if (q.dot != NULL && ready && !PyErr_Occurred()) {
        compiled filters;
        pn_status s = compile(&filters, specs, condition);
        if (s == PN_OK) result = run_query((vector_object *)op, &q, &filters, node_ids, ask);
        else if (s == PN_ERR_UNSUPPORTED) result = Py_NewRef(Py_None);
        else pn_py_raise(s, NULL, NULL);
        compiled_clear(&filters);
    }
    PyBuffer_Release(&query);
    return result;
}

/* ---- deletion ---- */

/* Nothing is deleted unless all can be: each needs its source id. */
static pn_status delete_picks(pn_vec *v, const picker *p)
{
    const pn_pick *picks = picks_of(p);
    size_t n = pick_count(p);
    for (size_t i = 0; i < n; i++) PN_FAIL_IF(pn_omap_get(&v->refs, picks[i].id) == NULL, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_buf_reserve(&v->dropped, n * sizeof(void *)));
    for (size_t i = 0; i < n; i++) PN_TRY(pn_vec_delete_id(v, picks[i].id));
    return PN_OK;
}

const char pn_vector_delete_matching_doc[] =
    "delete_matching(node_ids, filters, condition) -> bool: deletes what query would choose\n"
    "from. False: nothing was deleted, the peer's own code has to do it.";

/* Copies of the picks' ids: deleting frees the bytes that the picks point to. */
static pn_status own_ids(picker *p, pn_buf *bytes)
{
    pn_pick *picks = (pn_pick *)(void *)p->picks.data;
    size_t n = pick_count(p), sum = 0;
    for (size_t i = 0; i < n; i++) sum += picks[i].id.len;
    PN_TRY(pn_buf_reserve(bytes, sum));
    for (size_t i = 0; i < n; i++) {
        const uint8_t *at = bytes->data + bytes->len;
        PN_TRY(pn_buf_append(bytes, picks[i].id.ptr, picks[i].id.len));
        picks[i].id.ptr = at;
    }
    return PN_OK;
}

PyObject *pn_vector_delete_matching(PyObject *op, PyObject *args)
{
    PyObject *node_ids, *specs, *condition;
    if (!PyArg_ParseTuple(args, "OOO", &node_ids, &specs, &condition)) return NULL;
    vector_object *self = (vector_object *)op;
    if (specs != Py_None && !pn_vector_ready(self, PN_VECTOR_METAS)) return NULL;
    compiled filters;
    picker p;
    pn_buf bytes;
    pn_buf_init(&bytes, &pn_alloc_system);
    picker_init(&p, &self->vec, &filters);
    pn_status s = compile(&filters, specs, condition);
    pn_vector_lock(self);
    if (s == PN_OK) s = pick(&p, node_ids);
    if (s == PN_OK && p.asked.len != 0) s = PN_ERR_UNSUPPORTED;
    if (s == PN_OK) s = own_ids(&p, &bytes);
    if (s == PN_OK) s = delete_picks(&self->vec, &p);
    pn_vector_unlock(self);
    picker_clear(&p);
    compiled_clear(&filters);
    pn_buf_clear(&bytes);
    if (s != PN_OK && s != PN_ERR_UNSUPPORTED) return pn_py_raise(s, NULL, NULL);
    return PyBool_FromLong(s == PN_OK);
}
