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

/* Below this many rows a column costs more than it saves. */
enum { SMALL = 16 };

typedef struct picker {
    vector_object *table;
    pn_vec *v;
    const compiled *filters;
    pn_buf picks;  /* pn_vec_row *, in the order of the rows */
    pn_buf asked;  /* uint32_t: picks whose filters Python has to decide */
    pn_buf scratch;
    pn_candidates rows;  /* what to search: the picks, or the view's rows */
    size_t meta_pos; /* see pn_rowview_cell */
} picker;

static void picker_init(picker *p, vector_object *table, const compiled *filters)
{
    *p = (picker){.table = table, .v = &table->vec, .filters = filters};
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

static size_t pick_count(const picker *p) { return p->picks.len / sizeof(pn_vec_row *); }
static pn_vec_row **picks_of(const picker *p) { return (pn_vec_row **)(void *)p->picks.data; }
static bool has_filters(const picker *p) { return p->filters->set.n != 0; }

static pn_match filtered(picker *p, const pn_vec_row *row)
{
    pn_bytes text;
    if (!has_filters(p)) return PN_MATCH_YES;
    const pn_vec_cell *cell = pn_rowview_cell(p->v, row, &p->meta_pos);
    if (cell == NULL || cell->blob == NULL) return PN_MATCH_ASK;
    if (pn_vec_text(p->v, cell, &text) != PN_OK) return PN_MATCH_ASK; /* whoever is asked meets the error */
    return pn_filter_eval(&p->filters->set, text, &p->scratch);
}

static pn_status consider(picker *p, pn_vec_row *row, pn_match m)
{
    if (m == PN_MATCH_NO) return PN_OK;
    uint32_t number = (uint32_t)pick_count(p);
    PN_TRY(pn_buf_append(&p->picks, &row, sizeof row));
    return m == PN_MATCH_ASK ? pn_buf_append(&p->asked, &number, sizeof number) : PN_OK;
}

/* By columns. Nothing is picked unless all goes well. */
static pn_status pick_by_columns(picker *p)
{
    pn_rowview *view = &p->table->view;
    uint8_t *matches = pn_alloc_get(&pn_alloc_system, view->n);
    PN_FAIL_IF(matches == NULL, PN_ERR_NOMEM);
    pn_status s = pn_columns_eval(&p->table->columns, p->v, view, &p->filters->set, &p->scratch, matches);
    for (size_t i = 0; s == PN_OK && i < view->n; i++) s = consider(p, view->rows[i], (pn_match)matches[i]);
    pn_alloc_put(&pn_alloc_system, matches);
    return s;
}

static pn_status pick_from_all(picker *p)
{
    pn_rowview *view = &p->table->view;
    PN_TRY(pn_rowview_update(view, p->v, false));
    p->rows = (pn_candidates){.rows = view->rows, .n = view->n, .checked = view->checked, .checked_dim = view->checked_dim};
    p->rows.coarse = has_filters(p) ? NULL : &p->table->coarse;
    p->rows.listing = view->builds;
    if (!has_filters(p)) return PN_OK;
    bool all_checked = view->checked == view->n;
    if (view->n >= SMALL) PN_TRY(pick_by_columns(p));
    for (size_t i = 0; view->n < SMALL && i < view->n; i++)
        PN_TRY(consider(p, view->rows[i], filtered(p, view->rows[i])));
    p->rows.rows = picks_of(p);
    p->rows.n = pick_count(p);
    p->rows.checked = all_checked ? p->rows.n : 0;
    return PN_OK;
}

/* Values of a map lie in its order, so their addresses sort like the rows. */
static int by_address(const void *a, const void *b)
{
    pn_vec_row *const *x = a, *const *y = b;
    return ((uintptr_t)*x > (uintptr_t)*y) - ((uintptr_t)*x < (uintptr_t)*y);
}

static pn_status consider_once(picker *p, pn_vec_row **found, size_t n)
{
    if (n > 1) qsort(found, n, sizeof *found, by_address);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || found[i] != found[i - 1]) PN_TRY(consider(p, found[i], filtered(p, found[i])));
    return PN_OK;
}

static pn_status pick_from_ids(picker *p, const pn_bytes *ids, size_t n)
{
    pn_buf found;
    pn_buf_init(&found, &pn_alloc_system);
    pn_status s = PN_OK;
    for (size_t i = 0; i < n && s == PN_OK; i++) {
        pn_vec_row *row = pn_omap_get(&p->v->rows, ids[i]);
        if (row != NULL) s = pn_buf_append(&found, &row, sizeof row);
    }
    if (s == PN_OK) s = consider_once(p, (pn_vec_row **)(void *)found.data, found.len / sizeof(pn_vec_row *));
    pn_buf_clear(&found);
    p->rows = (pn_candidates){.rows = picks_of(p), .n = pick_count(p)};
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
        PyObject *id = pn_py_str(pn_omap_key_of(picks_of(p)[asked[i]]));
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
    pn_vec_row **picks = picks_of(p);
    for (size_t i = 0; i < pick_count(p); i++) {
        bool keep = true;
        if (q < questions && asked[q] == i) keep = keeps[q++];
        if (keep) picks[to++] = picks[i];
    }
    p->picks.len = to * sizeof *picks;
    p->rows.n = to;
    if (p->rows.checked > to) p->rows.checked = to; /* it was all or none */
}

/* Called with the lock, returns with it. UNSUPPORTED when the table changed. */
static pn_status settle_asked(picker *p, vector_object *self, PyObject *ask)
{
    if (p->asked.len == 0) return PN_OK;
    PyObject *ids = asked_ids(p);
    PN_FAIL_IF(ids == NULL, PN_ERR_CALLBACK);
    uint64_t changes = self->vec.changes, moves = self->vec.rows.moves;
    uint8_t *keeps = pn_alloc_zero(&pn_alloc_system, (size_t)PyList_GET_SIZE(ids), 1);
    pn_vector_unlock(self);
    pn_status s = keeps == NULL ? PN_ERR_NOMEM : ask_all(ids, ask, keeps) ? PN_OK : PN_ERR_CALLBACK;
    Py_DECREF(ids);
    pn_vector_lock(self);
    bool same = self->vec.changes == changes && self->vec.rows.moves == moves; /* an add that failed may move rows */
    if (s == PN_OK && !same) s = PN_ERR_UNSUPPORTED;
    if (s == PN_OK) drop_refused(p, keeps);
    pn_alloc_put(&pn_alloc_system, keeps);
    return s;
}

/* ---- query ---- */

typedef struct question {
    pn_query *queries; /* m of them, of dim values each */
    size_t m, dim;
    bool mmr; /* then one only */
    double threshold;
    pn_dot_fn dot;
} question;

static void choose(const question *q, picker *p)
{
    pn_query *one = q->queries;
    if (p->rows.n == 0) return; /* no hits, status OK */
    Py_BEGIN_ALLOW_THREADS;
    if (q->mmr)
        one->status = pn_topk_mmr(p->v, &p->rows, one->values, q->dim, one->k, q->threshold, q->dot, &one->hits,
                                  &one->count);
    else
        pn_topk_many(p->v, &p->rows, q->queries, q->m, q->dim, q->dot);
    Py_END_ALLOW_THREADS;
    if (p->rows.rows == p->table->view.rows) {
        p->table->view.checked = p->rows.checked;
        p->table->view.checked_dim = p->rows.checked_dim;
    }
}

/* ([similarity], [id]), with the lock held, since ids are the table's. */
static PyObject *answer(const picker *p, const pn_query *q)
{
    PyObject *similarities = PyList_New((Py_ssize_t)q->count), *ids = PyList_New((Py_ssize_t)q->count);
    bool ok = similarities != NULL && ids != NULL;
    for (size_t i = 0; ok && i < q->count; i++) {
        PyObject *s = pn_np_float64(q->hits[i].similarity), *id = pn_py_str(pn_omap_key_of(p->rows.rows[q->hits[i].pick]));
        ok = s != NULL && id != NULL;
        if (s != NULL) PyList_SET_ITEM(similarities, (Py_ssize_t)i, s);
        if (id != NULL) PyList_SET_ITEM(ids, (Py_ssize_t)i, id);
    }
    PyObject *pair = ok ? PyTuple_Pack(2, similarities, ids) : NULL;
    Py_XDECREF(similarities);
    Py_XDECREF(ids);
    return pair;
}

static PyObject *answer_or_none(const picker *p, const pn_query *q)
{
    if (q->status == PN_ERR_UNSUPPORTED) return Py_NewRef(Py_None);
    return q->status == PN_OK ? answer(p, q) : pn_py_raise(q->status, NULL, NULL);
}

static PyObject *answers(const picker *p, const question *q)
{
    int gc = pn_gc_pause();
    PyObject *list = PyList_New((Py_ssize_t)q->m);
    for (size_t i = 0; list != NULL && i < q->m; i++) {
        PyObject *one = answer_or_none(p, &q->queries[i]);
        if (one != NULL) PyList_SET_ITEM(list, (Py_ssize_t)i, one);
        else Py_CLEAR(list);
    }
    pn_gc_resume(gc);
    return list;
}

/* A list with an answer a query, or None when the peer's own code has to answer all. */
static PyObject *run_queries(vector_object *self, const question *q, const compiled *filters, PyObject *node_ids,
                             PyObject *ask)
{
    picker p;
    picker_init(&p, self, filters);
    PyObject *result = NULL;
    pn_vector_lock(self);
    pn_status s = pick(&p, node_ids);
    if (s == PN_OK) s = settle_asked(&p, self, ask);
    if (s == PN_OK) choose(q, &p);
    if (s == PN_OK) result = answers(&p, q);
    pn_vector_unlock(self);
    for (size_t i = 0; i < q->m; i++) pn_alloc_put(&pn_alloc_system, q->queries[i].hits);
    picker_clear(&p);
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_NONE;
    return s == PN_OK ? result : pn_py_raise(s, NULL, NULL);
}

static PyObject *compile_and_run(vector_object *self, const question *q, PyObject *node_ids, PyObject *specs,
                                 PyObject *condition, PyObject *ask)
{
    compiled filters;
    PyObject *result = NULL;
    if (!pn_vector_ready(self, PN_VECTOR_ROWS | (specs != Py_None ? PN_VECTOR_METAS : 0))) return NULL;
    pn_status s = compile(&filters, specs, condition);
    if (s == PN_OK) result = run_queries(self, q, &filters, node_ids, ask);
    else if (s == PN_ERR_UNSUPPORTED) result = Py_NewRef(Py_None);
    else pn_py_raise(s, NULL, NULL);
    compiled_clear(&filters);
    return result;
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
    pn_query one = {.values = query.buf, .k = (size_t)k};
    question q = {.queries = &one, .m = 1, .dim = (size_t)query.len / sizeof(double), .mmr = threshold != Py_None,
                  .dot = pn_np_dot()};
    if (q.mmr) q.threshold = PyFloat_AsDouble(threshold);
    PyObject *result = NULL;
    if (q.dot != NULL && !PyErr_Occurred())
        result = compile_and_run((vector_object *)op, &q, node_ids, specs, condition, ask);
    PyBuffer_Release(&query);
    if (result != NULL && result != Py_None) Py_SETREF(result, Py_NewRef(PyList_GET_ITEM(result, 0)));
    return result;
}

const char pn_vector_query_many_doc[] =
    "query_many(queries, ks, node_ids, filters, condition, ask) -> list of what query returns, or\n"
    "None where the peer's own code has to answer all. queries: float64 buffer of len(ks) rows of\n"
    "one length. ks: tuple of int. The rest as in query.";

static bool ks_of(PyObject *ks, const double *values, size_t dim, pn_query *out)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(ks); i++) {
        Py_ssize_t k = PyLong_AsSsize_t(PyTuple_GET_ITEM(ks, i));
        if (k < 0 && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "k is negative");
        if (k < 0) return false;
        out[i] = (pn_query){.values = values + (size_t)i * dim, .k = (size_t)k};
    }
    return true;
}

PyObject *pn_vector_query_many(PyObject *op, PyObject *args)
{
    Py_buffer buf;
    PyObject *ks, *node_ids, *specs, *condition, *ask;
    if (!PyArg_ParseTuple(args, "y*O!OOOO", &buf, &PyTuple_Type, &ks, &node_ids, &specs, &condition, &ask)) return NULL;
    question q = {.m = (size_t)PyTuple_GET_SIZE(ks), .dot = pn_np_dot()};
    PyObject *result = NULL;
    q.queries = pn_alloc_zero(&pn_alloc_system, q.m + 1, sizeof *q.queries);
    if (q.queries == NULL) PyErr_NoMemory();
    if (q.m != 0) q.dim = (size_t)buf.len / sizeof(double) / q.m;
    if (q.queries != NULL && q.dot != NULL && ks_of(ks, buf.buf, q.dim, q.queries))
        result = compile_and_run((vector_object *)op, &q, node_ids, specs, condition, ask);
    pn_alloc_put(&pn_alloc_system, q.queries);
    PyBuffer_Release(&buf);
    return result;
}

/* ---- deletion ---- */

const char pn_vector_delete_matching_doc[] =
    "delete_matching(node_ids, filters, condition) -> bool: deletes what query would choose\n"
    "from. False: nothing was deleted, the peer's own code has to do it.";

/* Copies of the rows' ids, pn_bytes in *ids: deleting frees the bytes they point to. */
static pn_status own_ids(const pn_candidates *rows, pn_buf *bytes, pn_buf *ids)
{
    size_t sum = 0;
    for (size_t i = 0; i < rows->n; i++) sum += pn_omap_key_of(rows->rows[i]).len;
    PN_TRY(pn_buf_reserve(bytes, sum));
    PN_TRY(pn_buf_reserve(ids, rows->n * sizeof(pn_bytes)));
    for (size_t i = 0; i < rows->n; i++) {
        pn_bytes id = pn_omap_key_of(rows->rows[i]);
        const uint8_t *at = bytes->data + bytes->len;
        PN_TRY(pn_buf_append(bytes, id.ptr, id.len));
        id.ptr = at;
        PN_TRY(pn_buf_append(ids, &id, sizeof id));
    }
    return PN_OK;
}

static pn_status delete_found(pn_vec *v, const pn_candidates *rows)
{
    pn_buf bytes, ids;
    pn_buf_init(&bytes, &pn_alloc_system);
    pn_buf_init(&ids, &pn_alloc_system);
    pn_status s = own_ids(rows, &bytes, &ids);
    if (s == PN_OK) s = pn_vec_delete_ids(v, (const pn_bytes *)(const void *)ids.data, rows->n);
    pn_buf_clear(&bytes);
    pn_buf_clear(&ids);
    return s;
}

PyObject *pn_vector_delete_matching(PyObject *op, PyObject *args)
{
    PyObject *node_ids, *specs, *condition;
    if (!PyArg_ParseTuple(args, "OOO", &node_ids, &specs, &condition)) return NULL;
    vector_object *self = (vector_object *)op;
    if (specs != Py_None && !pn_vector_ready(self, PN_VECTOR_METAS)) return NULL;
    compiled filters;
    picker p;
    picker_init(&p, self, &filters);
    pn_status s = compile(&filters, specs, condition);
    pn_vector_lock(self);
    if (s == PN_OK) s = pick(&p, node_ids);
    if (s == PN_OK && p.asked.len != 0) s = PN_ERR_UNSUPPORTED;
    if (s == PN_OK) s = delete_found(&self->vec, &p.rows);
    pn_vector_unlock(self);
    picker_clear(&p);
    compiled_clear(&filters);
    if (s != PN_OK && s != PN_ERR_UNSUPPORTED) return pn_py_raise(s, NULL, NULL);
    return PyBool_FromLong(s == PN_OK);
}
