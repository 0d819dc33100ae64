/* text_type.c: Text, the bytes that pass between the core and Python without a copy. */
#include "py/json_py.h"
#include "py/module.h"

typedef struct {
    PyObject_HEAD
    pn_blob *blob;
} text_object;

PyObject *pn_py_text(pn_module_state *state, pn_buf *buf)
{
    text_object *self = PyObject_New(text_object, state->text_type);
    if (self == NULL) return NULL;
    self->blob = NULL;
    pn_status s = pn_blob_take(buf, &self->blob);
    if (s != PN_OK) {
        Py_DECREF(self);
        return pn_py_raise(s, NULL, NULL);
    }
    return (PyObject *)self;
}

pn_blob *pn_py_blob(pn_module_state *state, PyObject *bytes_like)
{
    if (Py_IS_TYPE(bytes_like, state->text_type)) return pn_blob_ref(((text_object *)bytes_like)->blob);
    Py_buffer view;
    if (PyObject_GetBuffer(bytes_like, &view, PyBUF_SIMPLE) < 0) return NULL;
    pn_blob *blob = NULL;
    pn_status s = pn_blob_copy(&pn_alloc_system, view.buf, (size_t)view.len, &blob);
    PyBuffer_Release(&view);
    if (s != PN_OK) pn_py_raise(s, NULL, NULL);
    return blob;
}

static void text_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    pn_blob_unref(((text_object *)op)->blob);
    PyObject_Free(op);
    Py_DECREF(type);
}

static int text_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
    pn_bytes b = pn_blob_view(((text_object *)op)->blob);
    return PyBuffer_FillInfo(view, op, (void *)b.ptr, (Py_ssize_t)b.len, 1, flags);
}

static Py_ssize_t text_len(PyObject *op) { return (Py_ssize_t)pn_blob_view(((text_object *)op)->blob).len; }

static PyObject *text_repr(PyObject *op) { return PyUnicode_FromFormat("<Text of %zd bytes>", text_len(op)); }

static PyType_Slot text_slots[] = {
    {Py_tp_doc, "Immutable bytes owned by the core; bytes(text) copies, memoryview(text) does not."},
    {Py_tp_dealloc, text_dealloc},
    {Py_tp_repr, text_repr},
    {Py_sq_length, text_len},
    {Py_bf_getbuffer, text_getbuffer},
    {0, NULL},
};

static PyType_Spec text_spec = {
    .name = "pannier._core.Text",
    .basicsize = sizeof(text_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = text_slots,
};

int pn_py_add_text(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    state->text_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &text_spec, NULL);
    return state->text_type == NULL ? -1 : PyModule_AddType(module, state->text_type);
}
