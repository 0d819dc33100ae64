/* registry_py.c: Registry, the index types as Python sees them.
 *
 * LlamaIndex keeps two dictionaries, type name -> struct class and type name ->
 * index class, and programs add to them at any time. They stay the truth: resolve
 * asks them (a dictionary probe each) and brings the core's table up to date, so
 * an entry that was added, replaced or deleted there is noticed at the next call.
 *
 *   Registry --owns--> pn_registry --owns references--> classes
 *            --owns references--> the two mappings
 *
 * Guarded by the GIL. The core's table is never held across a call into Python:
 * what is released runs after the table has its new state.
 */
#include "py/json_py.h"
#include "py/module.h"
#include "store/registry.h"

typedef struct {
    PyObject_HEAD
    pn_registry *types;
    PyObject *structs;
    PyObject *indices;
} registry_object;

static void release_class(void *ctx, void *handle)
{
    (void)ctx;
    Py_DECREF((PyObject *)handle);
}

/* The value under key, NULL without an exception when there is none. */
static int lookup(PyObject *mapping, PyObject *key, PyObject **out)
{
    *out = NULL;
    if (PyDict_CheckExact(mapping)) {
        *out = Py_XNewRef(PyDict_GetItemWithError(mapping, key));
    } else {
        *out = PyObject_GetItem(mapping, key);
        if (*out == NULL && PyErr_ExceptionMatches(PyExc_KeyError)) PyErr_Clear();
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* The bytes of a type name; false when it cannot be one (not a str, or with lone
 * surrogates): such a key lives in the mappings only. */
static bool name_of(PyObject *key, pn_bytes *out)
{
    if (!PyUnicode_Check(key)) return false;
    Py_ssize_t n;
    const char *text = PyUnicode_AsUTF8AndSize(key, &n);
    if (text == NULL) {
        PyErr_Clear();
        return false;
    }
    *out = (pn_bytes){(const uint8_t *)text, (size_t)n};
    return true;
}

/* Makes the table agree with what the mappings said. */
static int mirror(registry_object *self, PyObject *key, PyObject *struct_class, PyObject *index_class)
{
    pn_bytes name;
    if (!name_of(key, &name)) return 0;
    const pn_registry_entry *known = pn_registry_find(self->types, name);
    if (struct_class == NULL && index_class == NULL) {
        if (known != NULL) pn_registry_remove(self->types, name);
        return 0;
    }
    if (known != NULL && known->struct_class == struct_class && known->index_class == index_class) return 0;
    pn_registry_entry fresh = {Py_XNewRef(struct_class), Py_XNewRef(index_class)};
    pn_status s = pn_registry_set(self->types, name, fresh);
    if (s == PN_OK) return 0;
    Py_XDECREF(struct_class);
    Py_XDECREF(index_class);
    pn_py_raise(s, NULL, NULL);
    return -1;
}

static PyObject *registry_resolve(PyObject *op, PyObject *key)
{
    registry_object *self = (registry_object *)op;
    PyObject *struct_class = NULL, *index_class = NULL, *pair = NULL;
    if (lookup(self->structs, key, &struct_class) < 0) goto done;
    if (lookup(self->indices, key, &index_class) < 0) goto done;
    if (mirror(self, key, struct_class, index_class) < 0) goto done;
    pair = PyTuple_Pack(2, struct_class ? struct_class : Py_None, index_class ? index_class : Py_None);
done:
    Py_XDECREF(struct_class);
    Py_XDECREF(index_class);
    return pair;
}

static PyObject *registry_register(PyObject *op, PyObject *args)
{
    registry_object *self = (registry_object *)op;
    PyObject *key, *struct_class, *index_class;
    if (!PyArg_ParseTuple(args, "UOO:register", &key, &struct_class, &index_class)) return NULL;
    if (PyObject_SetItem(self->structs, key, struct_class) < 0) return NULL;
    if (PyObject_SetItem(self->indices, key, index_class) < 0) return NULL;
    if (mirror(self, key, struct_class, index_class) < 0) return NULL;
    Py_RETURN_NONE;
}

/* Resolves every key of a mapping. */
static int follow(PyObject *op, PyObject *mapping)
{
    PyObject *keys = PyMapping_Keys(mapping);
    if (keys == NULL) return -1;
    int failed = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(keys) && !failed; i++) {
        PyObject *pair = registry_resolve(op, PyList_GET_ITEM(keys, i));
        failed = pair == NULL;
        Py_XDECREF(pair);
    }
    Py_DECREF(keys);
    return failed ? -1 : 0;
}

/* Names that left the mappings since: resolving each one drops it. */
static PyObject *known_names(registry_object *self)
{
    PyObject *names = PyList_New(0);
    size_t pos = 0;
    pn_bytes name;
    const pn_registry_entry *classes;
    while (names != NULL && pn_registry_next(self->types, &pos, &name, &classes)) {
        PyObject *text = pn_py_str(name);
        if (text == NULL || PyList_Append(names, text) < 0) Py_CLEAR(names);
        Py_XDECREF(text);
    }
    return names;
}

static PyObject *registry_names(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    registry_object *self = (registry_object *)op;
    PyObject *before = known_names(self);
    if (before == NULL) return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(before); i++) {
        PyObject *pair = registry_resolve(op, PyList_GET_ITEM(before, i));
        if (pair == NULL) {
            Py_DECREF(before);
            return NULL;
        }
        Py_DECREF(pair);
    }
    Py_DECREF(before);
    if (follow(op, self->structs) < 0 || follow(op, self->indices) < 0) return NULL;
    return known_names(self);
}

static PyObject *registry_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"structs", "indices", NULL};
    PyObject *structs, *indices;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Registry", names, &structs, &indices)) return NULL;
    registry_object *self = (registry_object *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->structs = Py_NewRef(structs);
    self->indices = Py_NewRef(indices);
    pn_status s = pn_registry_new(&pn_alloc_system, release_class, NULL, &self->types);
    if (s != PN_OK) {
        Py_DECREF(self);
        return pn_py_raise(s, NULL, NULL);
    }
    if (follow((PyObject *)self, structs) < 0 || follow((PyObject *)self, indices) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

static int registry_traverse(PyObject *op, visitproc visit, void *arg)
{
    registry_object *self = (registry_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->structs);
    Py_VISIT(self->indices);
    size_t pos = 0;
    pn_bytes name;
    const pn_registry_entry *classes;
    while (self->types != NULL && pn_registry_next(self->types, &pos, &name, &classes)) {
        Py_VISIT((PyObject *)classes->struct_class);
        Py_VISIT((PyObject *)classes->index_class);
    }
    return 0;
}

static int registry_clear(PyObject *op)
{
    registry_object *self = (registry_object *)op;
    if (self->types != NULL) pn_registry_clear(self->types);
    Py_CLEAR(self->structs);
    Py_CLEAR(self->indices);
    return 0;
}

static void registry_dealloc(PyObject *op)
{
    registry_object *self = (registry_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    registry_clear(op);
    pn_registry_free(self->types);
    type->tp_free(op);
    Py_DECREF(type);
}

static Py_ssize_t registry_len(PyObject *op) { return (Py_ssize_t)pn_registry_len(((registry_object *)op)->types); }

static PyMethodDef registry_methods[] = {
    {"resolve", registry_resolve, METH_O,
     "resolve(name)\n--\n\nThe pair (struct class, index class) of a type now; None for what is not there."},
    {"register", registry_register, METH_VARARGS,
     "register(name, struct_class, index_class)\n--\n\nWrites both classes into the mappings too."},
    {"names", registry_names, METH_NOARGS, "names()\n--\n\nEvery type name known now, in order of registration."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot registry_slots[] = {
    {Py_tp_doc, "Registry(structs, indices)\n--\n\nIndex types by name, over the two mappings that hold their classes."},
    {Py_tp_new, registry_new},
    {Py_tp_dealloc, registry_dealloc},
    {Py_tp_traverse, registry_traverse},
    {Py_tp_clear, registry_clear},
    {Py_tp_methods, registry_methods},
    {Py_sq_length, registry_len},
    {0, NULL},
};

static PyType_Spec registry_spec = {
    .name = "pannier._core.Registry",
    .basicsize = sizeof(registry_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = registry_slots,
};

int pn_py_add_registry(PyObject *module)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &registry_spec, NULL);
    if (type == NULL) return -1;
    int failed = PyModule_AddType(module, type);
    Py_DECREF(type);
    return failed;
}
