/* vector_rows.c: the vectors of a table as a matrix: VectorRows, a read-only buffer of
 * (n, dim) floats over the table's own memory, or a copy into the caller's array.
 *
 * A VectorRows pins the table's rows: what is deleted or replaced meanwhile keeps its
 * memory, so the matrix is that of the moment when it was asked for. */
#include "py/vector_type.h"

typedef struct {
    PyObject_HEAD
    vector_object *table;
    void *first;
    bool wide;
    Py_ssize_t shape[2], strides[2];
} rows_object;

static int rows_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
    rows_object *self = (rows_object *)op;
    view->obj = NULL;
    Py_ssize_t item = self->wide ? 8 : 4;
    bool strided = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;
    bool c_wanted = (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS ||
                    (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS;
    bool f_wanted = (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS;
    bool dense = self->strides[0] == self->shape[1] * item;
    if ((flags & PyBUF_WRITABLE) || !strided || f_wanted || (c_wanted && !dense)) {
        PyErr_SetString(PyExc_BufferError, "the rows are read-only and may lie at a stride");
        return -1;
    }
    *view = (Py_buffer){.buf = self->first, .obj = Py_NewRef(op), .itemsize = item, .readonly = 1, .ndim = 2,
                        .len = self->shape[0] * self->shape[1] * item, .shape = self->shape,
                        .strides = self->strides};
    if (flags & PyBUF_FORMAT) view->format = self->wide ? "d" : "f";
    return 0;
}

static void rows_dealloc(PyObject *op)
{
    rows_object *self = (rows_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (self->table != NULL) {
        pn_vector_lock(self->table);
        pn_vec_unpin(&self->table->vec);
        pn_vector_unlock(self->table);
        Py_DECREF(self->table);
    }
    PyObject_Free(op);
    Py_DECREF(type);
}

static PyType_Slot rows_slots[] = {
    {Py_tp_doc, "A vector store's vectors as a read-only (n, dim) buffer, without a copy."},
    {Py_tp_dealloc, rows_dealloc},
    {Py_bf_getbuffer, rows_getbuffer},
    {0, NULL},
};

static PyType_Spec rows_spec = {
    .name = "pannier._core.VectorRows",
    .basicsize = sizeof(rows_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = rows_slots,
};

int pn_vector_add_rows_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &rows_spec, NULL);
    if (type == NULL) return -1;
    int done = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return done;
}

static void fill_rows(rows_object *rows, vector_object *table)
{
    const void *first;
    ptrdiff_t distance;
    const pn_vec_band *band;
    rows->table = NULL;
    pn_vector_lock(table);
    if (pn_vec_dense(&table->vec, &first, &distance, &band)) {
        rows->table = (vector_object *)Py_NewRef(table);
        rows->first = (void *)first;
        rows->wide = band->wide;
        rows->shape[0] = (Py_ssize_t)pn_omap_len(&table->vec.rows);
        rows->shape[1] = (Py_ssize_t)band->dim;
        rows->strides[0] = distance;
        rows->strides[1] = band->wide ? 8 : 4;
        pn_vec_pin(&table->vec);
    }
    pn_vector_unlock(table);
}

PyObject *pn_vector_dense(PyObject *op, PyObject *unused)
{
    (void)unused;
    if (!pn_vector_ready((vector_object *)op, PN_VECTOR_ROWS)) return NULL;
    PyObject *module = pn_type_module(Py_TYPE(op));
    PyObject *type = module ? PyObject_GetAttrString(module, "VectorRows") : NULL;
    if (type == NULL) return NULL;
    rows_object *rows = PyObject_New(rows_object, (PyTypeObject *)type);
    Py_DECREF(type);
    if (rows == NULL) return NULL;
    fill_rows(rows, (vector_object *)op);
    if (rows->table != NULL) return (PyObject *)rows;
    Py_DECREF(rows);
    Py_RETURN_NONE;
}

PyObject *pn_vector_shape(PyObject *op, PyObject *unused)
{
    (void)unused;
    vector_object *self = (vector_object *)op;
    size_t pos = 0, dim = 0;
    bool wide = false, first = true;
    pn_bytes id;
    void *value;
    while (pn_omap_next(&self->vec.rows, &pos, &id, &value)) {
        const pn_vec_band *band = pn_vec_band_of(&self->vec, value);
        if (!first && band->dim != dim) Py_RETURN_NONE;
        dim = band->dim;
        wide = wide || band->wide;
        first = false;
    }
    return Py_BuildValue("nnO", (Py_ssize_t)pn_omap_len(&self->vec.rows), (Py_ssize_t)dim,
                         wide ? Py_True : Py_False);
}

static pn_status copy_row(const pn_vec *v, const pn_vec_row *row, const Py_buffer *view, size_t i)
{
    const pn_vec_band *band = pn_vec_band_of(v, row);
    size_t item = (size_t)view->itemsize, bytes = band->dim * item;
    PN_FAIL_IF(bytes != (size_t)view->shape[1] * item || (band->wide && item != sizeof(double)), PN_ERR_INVALID);
    uint8_t *to = (uint8_t *)view->buf + i * bytes;
    if (item == sizeof(double)) pn_vec_values(v, row, (double *)(void *)to);
    else memcpy(to, row->data, bytes);
    return PN_OK;
}

PyObject *pn_vector_copy_rows(PyObject *op, PyObject *array)
{
    vector_object *self = (vector_object *)op;
    Py_buffer view;
    if (!pn_vector_ready(self, PN_VECTOR_ROWS)) return NULL;
    if (PyObject_GetBuffer(array, &view, PyBUF_STRIDES | PyBUF_WRITABLE) < 0) return NULL;
    bool fits = view.ndim == 2 && (view.itemsize == 4 || view.itemsize == 8) &&
                view.shape[0] == (Py_ssize_t)pn_omap_len(&self->vec.rows) && PyBuffer_IsContiguous(&view, 'C');
    size_t pos = 0;
    pn_bytes id;
    void *value;
    pn_status s = fits ? PN_OK : PN_ERR_INVALID;
    for (size_t i = 0; s == PN_OK && pn_omap_next(&self->vec.rows, &pos, &id, &value); i++)
        s = copy_row(&self->vec, value, &view, i);
    PyBuffer_Release(&view);
    if (s != PN_OK) return pn_py_raise(s, NULL, NULL);
    Py_RETURN_NONE;
}
