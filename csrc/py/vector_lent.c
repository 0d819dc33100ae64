/* vector_lent.c: the lists that stand for rows of a VectorTable (lent.h).
 *
 * get hands out the same list each time, as the peer does, and what a caller changes in it
 * is what the store holds. The values lie in a matrix, so before anything reads that, the
 * lists that are out are compared with it (sync), and a row whose list was changed gets its
 * values. A list that nobody else holds is given up then: what is kept between two readings
 * are the lists that callers hold, and 64 MB of others.
 *
 * Callers ask with the same str objects again and again. What was handed out lately is found
 * by their addresses, without a look at the id: in one of a few slots that follow each other,
 * in a table that grows with the lists that are out, to 96 KB. */
#include "py/vector_type.h"

enum {
    KEEP_VALUES = 64 * 1024 * 1024 / 32, /* a float and the pointer to it */
    FEWEST_RECENT = 16,
    MOST_RECENT = 4096,
    WINDOW = 4 /* of 1,000 ids among 4,096 slots, one or two find no place */
};

static PyObject *float_list(const void *data, bool wide, size_t n)
{
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list != NULL && i < n; i++) {
        PyObject *f = PyFloat_FromDouble(wide ? ((const double *)data)[i] : ((const float *)data)[i]);
        if (f != NULL) PyList_SET_ITEM(list, (Py_ssize_t)i, f);
        else Py_CLEAR(list);
    }
    return list;
}

/* A row may be freed, but not unmapped, once a collection runs: it is paused. */
static PyObject *row_list(vector_object *self, const pn_vec_row *row)
{
    const pn_vec_band *band = pn_vec_band_of(&self->vec, row);
    int gc = pn_gc_pause();
    PyObject *list = float_list(row->data, band->wide, band->dim);
    pn_gc_resume(gc);
    return list;
}

static PyObject *list_of(const vector_object *self, const pn_vec_row *row)
{
    return row->lent != 0 ? pn_lent_host(&self->vec.lent, row->lent) : NULL;
}

PyObject *pn_vector_copy_list(vector_object *self, const pn_vec_row *row)
{
    PyObject *list = list_of(self, row);
    return list != NULL ? PyList_GetSlice(list, 0, PyList_GET_SIZE(list)) : row_list(self, row);
}

/* ---- back into the matrix ---- */

static bool same_bits(double a, double b) { return memcmp(&a, &b, sizeof a) == 0; }

static bool holds_values(const pn_vec *v, const pn_vec_row *row, PyObject *list)
{
    const pn_vec_band *band = pn_vec_band_of(v, row);
    if ((size_t)PyList_GET_SIZE(list) != band->dim) return false;
    for (size_t i = 0; i < band->dim; i++) {
        PyObject *item = PyList_GET_ITEM(list, (Py_ssize_t)i);
        double want = band->wide ? ((const double *)row->data)[i] : ((const float *)row->data)[i];
        if (!PyFloat_CheckExact(item) || !same_bits(PyFloat_AS_DOUBLE(item), want)) return false;
    }
    return true;
}

static pn_status follow(vector_object *self, pn_vec_row *row, PyObject *list)
{
    pn_buf floats;
    pn_buf_init(&floats, &pn_alloc_system);
    pn_status s = PN_ERR_UNSUPPORTED;
    if (pn_vector_floats(list, &floats))
        s = pn_vec_follow_host(&self->vec, row, (double *)(void *)floats.data, floats.len / sizeof(double));
    else if (PyErr_Occurred()) s = PN_ERR_CALLBACK;
    pn_buf_clear(&floats);
    return s;
}

pn_status pn_vector_put_list(vector_object *self, pn_bytes id, pn_blob *owner, const PyObject *list, const pn_buf *floats)
{
    const double *values = (double *)(void *)floats->data;
    size_t dim = floats->len / sizeof *values;
    pn_vec_row *row = self->vec.lent.out != 0 ? pn_omap_get(&self->vec.rows, id) : NULL;
    bool own = row != NULL && list_of(self, row) == list;
    return own ? pn_vec_follow_host(&self->vec, row, values, dim) : pn_vec_put_row(&self->vec, id, owner, values, dim);
}

static pn_status sync_loan(vector_object *self, const pn_loan *loan)
{
    pn_vec_row *row = pn_vec_lent_row(&self->vec, loan);
    PyObject *list = loan->host;
    if (!holds_values(&self->vec, row, list)) PN_TRY(follow(self, row, list));
    if (Py_REFCNT(list) == 1) pn_vec_end_loan(&self->vec, row);
    return PN_OK;
}

/* All that can be; what the first that could not says. With the lock: no Python code runs. */
static pn_status sync_loans(vector_object *self)
{
    pn_status first = PN_OK;
    uint32_t number = 0;
    for (const pn_loan *loan; (loan = pn_lent_next(&self->vec.lent, &number)) != NULL;) {
        pn_status s = sync_loan(self, loan);
        if (first == PN_OK) first = s;
        if (s == PN_ERR_CALLBACK || s == PN_ERR_NOMEM) break;
    }
    return first;
}

PyObject *pn_vector_sync(PyObject *op, PyObject *unused)
{
    (void)unused;
    vector_object *self = (vector_object *)op;
    if (self->vec.lent.out == 0) Py_RETURN_TRUE;
    pn_vector_lock(self);
    pn_status s = sync_loans(self);
    pn_vector_unlock(self);
    if (s != PN_OK && s != PN_ERR_UNSUPPORTED) return pn_py_raise(s, NULL, NULL);
    return PyBool_FromLong(s == PN_OK);
}

/* ---- out ---- */

/* Where lists that nobody holds may be among those kept; looked for again once there are
 * twice as many as were left. */
static pn_status give_up_idle(vector_object *self)
{
    if (self->vec.lent.values <= self->keep_values) return PN_OK;
    pn_status s = sync_loans(self);
    size_t left = self->vec.lent.values;
    self->keep_values = left > KEEP_VALUES / 2 ? 2 * left : KEEP_VALUES;
    return s == PN_ERR_UNSUPPORTED ? PN_OK : s; /* those stay */
}

/* With the lock: the row that the list is made of is the one that is lent. */
static pn_status lend(vector_object *self, pn_bytes id, PyObject **list)
{
    pn_vec_row *row = pn_omap_get(&self->vec.rows, id);
    if (row == NULL) return PN_OK;
    *list = Py_XNewRef(list_of(self, row));
    if (*list != NULL) return PN_OK;
    PN_TRY(give_up_idle(self));
    *list = row_list(self, row);
    PN_FAIL_IF(*list == NULL, PN_ERR_CALLBACK);
    PN_TRY(pn_vec_lend(&self->vec, row, *list));
    Py_INCREF(*list);
    return PN_OK;
}

PyObject *pn_vector_lend(vector_object *self, pn_bytes id)
{
    const pn_vec_row *row = pn_omap_get(&self->vec.rows, id);
    if (row == NULL) return NULL;
    PyObject *list = list_of(self, row);
    if (list != NULL) return Py_NewRef(list);
    pn_vector_lock(self); /* may let others run first */
    pn_status s = lend(self, id, &list);
    pn_vector_unlock(self);
    if (s == PN_OK) return list;
    Py_XDECREF(list);
    return pn_py_raise(s, NULL, NULL);
}

/* ---- what was handed out lately ---- */

/* The first of the WINDOW slots that an id may be in; behind the last first one come the rest of its window. */
static pn_recent *recent_window(const vector_object *self, const PyObject *id)
{
    uint64_t spread = (uint64_t)((uintptr_t)id >> 4) * 0x9e3779b97f4a7c15u;
    return &self->recent[(spread >> 32) & (self->recent_count - 1)];
}

static bool holds_now(const vector_object *self, const pn_recent *r)
{
    return r->id != NULL && r->ended == self->vec.lent.ended;
}

PyObject *pn_vector_lately(const vector_object *self, const PyObject *id)
{
    if (self->recent_count == 0) return NULL;
    const pn_recent *r = recent_window(self, id);
    for (const pn_recent *end = r + WINDOW; r < end; r++)
        if (r->id == id) return holds_now(self, r) ? r->list : NULL;
    return NULL;
}

/* Where the id is, or else one that says nothing (any more), or else the first. */
static pn_recent *recent_slot(const vector_object *self, const PyObject *id)
{
    pn_recent *first = recent_window(self, id), *idle = NULL;
    for (pn_recent *r = first; r < first + WINDOW; r++) {
        if (r->id == id) return r;
        if (idle == NULL && !holds_now(self, r)) idle = r;
    }
    return idle != NULL ? idle : first;
}

/* Takes over the reference to the id. */
static void put_recent(vector_object *self, pn_recent noted)
{
    pn_recent *r = recent_slot(self, noted.id);
    PyObject *older = r->id;
    *r = noted;
    Py_XDECREF(older);
}

static size_t recent_slots(const vector_object *self)
{
    return self->recent != NULL ? self->recent_count + WINDOW - 1 : 0;
}

static void drop_recent(vector_object *self)
{
    for (size_t i = 0; i < recent_slots(self); i++) Py_XDECREF(self->recent[i].id);
    pn_alloc_put(&pn_alloc_system, self->recent);
    self->recent = NULL;
    self->recent_count = 0;
}

/* What was noted goes with it. */
static bool resize_recent(vector_object *self, size_t count)
{
    pn_recent *old = self->recent, *made = pn_alloc_zero(&pn_alloc_system, count + WINDOW - 1, sizeof *made);
    size_t slots = recent_slots(self);
    if (made == NULL) return false;
    self->recent = made;
    self->recent_count = count;
    for (size_t i = 0; i < slots; i++)
        if (old[i].id != NULL) put_recent(self, old[i]);
    pn_alloc_put(&pn_alloc_system, old);
    return true;
}

/* Four slots for each list that is out. False: none at all, no memory. */
static bool room_for_recent(vector_object *self)
{
    size_t count = self->recent_count ? self->recent_count : FEWEST_RECENT;
    while (count < 4 * (size_t)self->vec.lent.out && count < MOST_RECENT) count *= 2;
    return count == self->recent_count || resize_recent(self, count) || self->recent != NULL;
}

void pn_vector_note_lately(vector_object *self, PyObject *id, PyObject *list, uint64_t ended)
{
    if (room_for_recent(self)) put_recent(self, (pn_recent){Py_NewRef(id), list, ended});
}

/* ---- life ---- */

void pn_vector_lent_init(vector_object *self) { self->keep_values = KEEP_VALUES; }

int pn_vector_lent_traverse(const vector_object *self, visitproc visit, void *arg)
{
    const pn_lent *l = &self->vec.lent;
    for (uint32_t i = 1; i < l->count; i++) Py_VISIT((PyObject *)l->loans[i].host);
    return 0;
}

void pn_vector_lent_release(vector_object *self)
{
    for (PyObject *list; (list = pn_lent_take(&self->vec.lent)) != NULL;) Py_DECREF(list);
}

void pn_vector_lent_clear(vector_object *self)
{
    uint32_t number = 0;
    for (const pn_loan *loan; (loan = pn_lent_next(&self->vec.lent, &number)) != NULL;)
        pn_vec_end_loan(&self->vec, pn_vec_lent_row(&self->vec, loan));
    pn_vector_lent_release(self);
    drop_recent(self);
}
