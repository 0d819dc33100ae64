#include "py/graph_models.h"

const pn_graph_fields pn_graph_fields_of[PN_GRAPH_KINDS] = {
    [PN_GRAPH_ENTITY] = {4, {PN_GRAPH_LABEL, PN_GRAPH_EMBEDDING, PN_GRAPH_PROPERTIES, PN_GRAPH_NAME}},
    [PN_GRAPH_CHUNK] = {5, {PN_GRAPH_LABEL, PN_GRAPH_EMBEDDING, PN_GRAPH_PROPERTIES, PN_GRAPH_TEXT, PN_GRAPH_ID}},
    [PN_GRAPH_RELATION] = {4, {PN_GRAPH_LABEL, PN_GRAPH_SOURCE, PN_GRAPH_TARGET, PN_GRAPH_PROPERTIES}},
};

const char *const pn_graph_name_text[PN_GRAPH_NAMES] = {
    "label", "embedding", "properties", "name", "text", "id_", "source_id", "target_id",
};

pn_graph_kind pn_graph_kind_of(const pn_graph_models *models, const PyObject *object)
{
    int kind = 0;
    while (models != NULL && kind < PN_GRAPH_KINDS && Py_TYPE(object) != models->type[kind]) kind++;
    return models ? (pn_graph_kind)kind : PN_GRAPH_KINDS;
}

PyObject *pn_graph_dict_of(PyObject *object)
{
    PyObject *dict = PyObject_GenericGetDict(object, NULL);
    if (dict == NULL) {
        PyErr_Clear();
        return NULL;
    }
    Py_DECREF(dict); /* the instance holds it */
    return dict;
}

static int set_slot(PyObject *descriptor, PyObject *object, PyObject *value)
{
    return Py_TYPE(descriptor)->tp_descr_set(descriptor, object, value);
}

PyObject *pn_graph_instance(const pn_graph_models *models, pn_graph_kind kind, PyObject *fields)
{
    PyTypeObject *type = models->type[kind];
    PyObject *object = type->tp_alloc(type, 0), *set = object ? PySet_New(models->full_set[kind]) : NULL;
    if (set == NULL || PyObject_GenericSetDict(object, fields, NULL) < 0 ||
        set_slot(models->slot[0], object, set) < 0 || set_slot(models->slot[1], object, Py_None) < 0 ||
        set_slot(models->slot[2], object, Py_None) < 0)
        Py_CLEAR(object);
    Py_XDECREF(set);
    return object;
}

/* ---- from Python ---- */

void pn_graph_models_free(pn_graph_models *models)
{
    if (models == NULL) return;
    for (int i = 0; i < PN_GRAPH_KINDS; i++) {
        Py_XDECREF(models->type[i]);
        Py_XDECREF(models->full_set[i]);
    }
    for (int i = 0; i < 3; i++) Py_XDECREF(models->slot[i]);
    for (int i = 0; i < PN_GRAPH_NAMES; i++) Py_XDECREF(models->name[i]);
    PyMem_Free(models);
}

int pn_graph_models_traverse(pn_graph_models *models, visitproc visit, void *arg)
{
    for (int i = 0; models != NULL && i < PN_GRAPH_KINDS; i++) {
        Py_VISIT(models->type[i]);
        Py_VISIT(models->full_set[i]);
    }
    for (int i = 0; models != NULL && i < 3; i++) Py_VISIT(models->slot[i]);
    return 0;
}

static pn_graph_models *models_new(PyObject *types, PyObject *sets, PyObject *slots)
{
    pn_graph_models *models = PyMem_Calloc(1, sizeof *models);
    if (models == NULL) return NULL;
    for (int i = 0; i < PN_GRAPH_KINDS; i++) {
        models->type[i] = (PyTypeObject *)Py_NewRef(PyTuple_GET_ITEM(types, i));
        models->full_set[i] = Py_NewRef(PyTuple_GET_ITEM(sets, i));
    }
    for (int i = 0; i < 3; i++) models->slot[i] = Py_NewRef(PyTuple_GET_ITEM(slots, i));
    for (int i = 0; i < PN_GRAPH_NAMES; i++)
        if ((models->name[i] = PyUnicode_InternFromString(pn_graph_name_text[i])) == NULL) {
            pn_graph_models_free(models);
            return NULL;
        }
    return models;
}

static bool usable(PyObject *types, PyObject *sets, PyObject *slots)
{
    bool good = PyTuple_GET_SIZE(types) == PN_GRAPH_KINDS && PyTuple_GET_SIZE(sets) == PN_GRAPH_KINDS &&
                PyTuple_GET_SIZE(slots) == 3;
    for (int i = 0; good && i < PN_GRAPH_KINDS; i++)
        good = PyType_Check(PyTuple_GET_ITEM(types, i)) && PySet_CheckExact(PyTuple_GET_ITEM(sets, i)) &&
               Py_TYPE(PyTuple_GET_ITEM(slots, i))->tp_descr_set != NULL;
    return good;
}

/* Once: others may be at work with those there are. */
static PyObject *graph_models(PyObject *module, PyObject *args)
{
    pn_module_state *state = pn_state_of(module);
    PyObject *types, *sets, *slots;
    if (!PyArg_ParseTuple(args, "O!O!O!:graph_models", &PyTuple_Type, &types, &PyTuple_Type, &sets, &PyTuple_Type, &slots))
        return NULL;
    if (!usable(types, sets, slots)) return PyErr_Format(PyExc_TypeError, "graph_models() takes three tuples of three");
    if (state->graph_models != NULL) return PyErr_Format(PyExc_RuntimeError, "graph models are set once");
    state->graph_models = models_new(types, sets, slots);
    return state->graph_models ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

static PyObject *node_renamed(PyObject *module, PyObject *ignored)
{
    (void)ignored;
    pn_state_of(module)->graph_renames++;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"graph_models", graph_models, METH_VARARGS, "graph_models(classes, full sets, slots): of a property graph."},
    {"node_renamed", node_renamed, METH_NOARGS, "A node of a property graph may have got another id."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_graph_models(PyObject *module) { return PyModule_AddFunctions(module, functions); }
