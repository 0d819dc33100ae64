/* vector_methods.c: VectorMethods, what pannier.SimpleVectorStore does without Python code.
 *
 * A type without state of its own that stands in front of the peer's class:
 *
 *     get, delete    when the store's data is pannier's and the arguments are as usual; else,
 *                    and when the table declines, the next method of that name is called, as
 *                    super() would. What a subclass overrides comes before both.
 *     clear          always: the new data object is pannier's
 *
 *     set_vector_classes(store's class, data's class)
 */
#include "py/vector_type.h"

/* An attribute that objects have in their __dict__; these are filled in the same order, so
 * where it was found last it is found without being looked up. */
typedef struct own_name {
    PyObject *name;   /* interned */
    Py_ssize_t place; /* for PyDict_Next */
} own_name;

struct pn_vector_classes {
    PyObject *owner; /* what set_vector_classes got; the next two are borrowed from it */
    PyTypeObject *store, *data;
    own_name data_name, table_name;
    PyObject *set_name;
};

#define PARAMS PyObject *op, PyTypeObject *cls, PyObject *const *args, Py_ssize_t n, PyObject *names

/* What the dict has, when that is not where it was found last; borrowed. */
static PyObject *searched(PyObject *dict, own_name *of)
{
    PyObject *value = PyDict_GetItemWithError(dict, of->name), *name, *other;
    Py_ssize_t pos = 0;
    for (Py_ssize_t at = 0; value != NULL && PyDict_Next(dict, &pos, &name, &other); at = pos)
        if (name == of->name) of->place = at;
    return value;
}

/* What the object's own __dict__ has, borrowed; NULL, perhaps with an exception, when nothing. */
static PyObject *own_attribute(PyObject *obj, own_name *of)
{
    PyObject **dict = _PyObject_GetDictPtr(obj), *name, *value;
    if (dict == NULL || *dict == NULL) return NULL;
    Py_ssize_t pos = of->place;
    return PyDict_Next(*dict, &pos, &name, &value) && name == of->name ? value : searched(*dict, of);
}

/* The table of a data object that clear made: asking for the attribute makes it. */
static PyObject *made_table(const pn_vector_classes *c, PyObject *data)
{
    Py_INCREF(data);
    PyObject *table = PyObject_GetAttr(data, c->table_name.name);
    Py_DECREF(data);
    return table;
}

/* A new reference to the store's table; NULL (no exception) when it has none. */
static vector_object *table_of(const pn_module_state *state, PyObject *store)
{
    pn_vector_classes *c = state->vector_classes;
    PyObject *data = c != NULL ? own_attribute(store, &c->data_name) : NULL, *table = NULL;
    if (data != NULL && Py_IS_TYPE(data, c->data)) {
        table = Py_XNewRef(own_attribute(data, &c->table_name));
        if (table == NULL && !PyErr_Occurred()) table = made_table(c, data);
    }
    if (table != NULL && Py_IS_TYPE(table, state->vector_type)) return (vector_object *)table;
    Py_XDECREF(table);
    PyErr_Clear(); /* the next method meets it again */
    return NULL;
}

/* The one argument, when it is an exact str; borrowed. */
static PyObject *text_arg(PyObject *const *args, Py_ssize_t n, PyObject *names, const char *name)
{
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (n + named != 1 || !PyUnicode_CheckExact(args[0])) return NULL;
    return named == 0 || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), name) == 0 ? args[0] : NULL;
}

/* super(VectorMethods, self).name(*args, **kwargs) */
static PyObject *call_next(const char *name, PARAMS)
{
    PyObject *next = PyObject_CallFunctionObjArgs((PyObject *)&PySuper_Type, (PyObject *)cls, op, NULL);
    PyObject *method = next ? PyObject_GetAttrString(next, name) : NULL;
    PyObject *result = method ? PyObject_Vectorcall(method, args, (size_t)n, names) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(next);
    return result;
}

static PyObject *methods_get(PARAMS)
{
    const pn_module_state *state = PyType_GetModuleState(cls);
    PyObject *id = text_arg(args, n, names, "text_id");
    vector_object *table = id != NULL ? table_of(state, op) : NULL;
    if (table == NULL) return call_next("get", op, cls, args, n, names);
    PyObject *list = pn_vector_get_list(table, id);
    Py_DECREF(table);
    return list;
}

static PyObject *methods_delete(PARAMS)
{
    const pn_module_state *state = PyType_GetModuleState(cls);
    PyObject *ref = text_arg(args, n, names, "ref_doc_id");
    vector_object *table = ref != NULL ? table_of(state, op) : NULL;
    int done = table != NULL ? pn_vector_delete_ref(table, ref) : 0;
    Py_XDECREF(table);
    if (done < 0) return NULL;
    return done ? Py_NewRef(Py_None) : call_next("delete", op, cls, args, n, names);
}

/* All that pydantic's assignment does for a store that is exactly ours. */
static int set_data(const pn_vector_classes *c, PyObject *store, PyObject *data)
{
    if (!Py_IS_TYPE(store, c->store)) return PyObject_SetAttr(store, c->data_name.name, data);
    PyObject *dict = PyObject_GenericGetDict(store, NULL);
    PyObject *fields = dict ? PyObject_GenericGetAttr(store, c->set_name) : NULL;
    int failed = fields ? PyDict_SetItem(dict, c->data_name.name, data) : -1;
    if (failed == 0) failed = PySet_Add(fields, c->data_name.name);
    Py_XDECREF(fields);
    Py_XDECREF(dict);
    return failed;
}

static PyObject *methods_clear(PyObject *op, PyTypeObject *cls, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    const pn_vector_classes *c = ((const pn_module_state *)PyType_GetModuleState(cls))->vector_classes;
    if (n != 0 || names != NULL || c == NULL) return call_next("clear", op, cls, args, n, names);
    PyObject *data = c->data->tp_alloc(c->data, 0); /* its table comes with its first use */
    if (data == NULL) return NULL;
    int failed = set_data(c, op, data);
    Py_DECREF(data);
    return failed ? NULL : Py_NewRef(Py_None);
}

#define ENTRY(NAME, DOC) \
    {#NAME, (PyCFunction)(void (*)(void))methods_##NAME, METH_METHOD | METH_FASTCALL | METH_KEYWORDS, DOC}

static PyMethodDef methods[] = {
    ENTRY(get, "get($self, text_id)\n--\n\n"
               "The embedding of a node: the same list each time, and what is changed in it is what\nthe store holds."
               "\n\nRaises:\n    KeyError: there is none."),
    ENTRY(delete, "delete($self, ref_doc_id, **delete_kwargs)\n--\n\n"
                  "Removes everything that came from a source document, in time O(its nodes).\n\n"
                  "Args:\n    ref_doc_id (str): the document's id; ``\"None\"`` means nodes without a source."),
    ENTRY(clear, "clear($self)\n--\n\nEmpties the store: ``data`` becomes a new object."),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Methods of the vector store that do without Python code where all is as usual."},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pannier._core.VectorMethods",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

/* ---- the classes ---- */

void pn_vector_classes_free(pn_vector_classes *c)
{
    if (c == NULL) return;
    Py_XDECREF(c->data_name.name);
    Py_XDECREF(c->table_name.name);
    Py_XDECREF(c->set_name);
    Py_XDECREF(c->owner);
    pn_alloc_put(&pn_alloc_system, c);
}

int pn_vector_classes_traverse(pn_vector_classes *c, visitproc visit, void *arg)
{
    if (c != NULL) Py_VISIT(c->owner);
    return 0;
}

static bool take_classes(pn_vector_classes *c)
{
    if (!PyArg_ParseTuple(c->owner, "O!O!", &PyType_Type, &c->store, &PyType_Type, &c->data)) return false;
    c->data_name.name = PyUnicode_InternFromString("data");
    c->table_name.name = PyUnicode_InternFromString("_table");
    c->set_name = PyUnicode_InternFromString("__pydantic_fields_set__");
    return c->data_name.name != NULL && c->table_name.name != NULL && c->set_name != NULL;
}

static PyObject *set_vector_classes(PyObject *module, PyObject *args)
{
    pn_module_state *state = pn_state_of(module);
    if (state->vector_classes != NULL) return PyErr_Format(PyExc_RuntimeError, "the classes are set once");
    pn_vector_classes *c = pn_alloc_zero(&pn_alloc_system, 1, sizeof *c);
    if (c == NULL) return PyErr_NoMemory();
    c->owner = Py_NewRef(args);
    if (!take_classes(c)) {
        pn_vector_classes_free(c);
        return NULL;
    }
    state->vector_classes = c;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"set_vector_classes", set_vector_classes, METH_VARARGS,
     "set_vector_classes(store's class, data's class): what VectorMethods look for."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_vector_methods(PyObject *module)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    int failed = type == NULL ? -1 : PyModule_AddType(module, type);
    Py_XDECREF(type);
    return failed < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
