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

bool pn_graph_models_hold(pn_graph_models *models)
{
    return models != NULL && pn_watch_still_holds(models->watch, &models->memo);
}

PyObject *pn_graph_dict_of(PyObject *object)
{
    PyObject *dict = PyObject_GenericGetDict(object, NULL);
    if (dict == NULL) PyErr_Clear();
    return dict;
}

PyObject *pn_graph_value_of(const pn_graph_models *models, PyObject *object, pn_graph_field field)
{
    PyObject *dict = pn_graph_dict_of(object);
    PyObject *value = dict ? Py_XNewRef(PyDict_GetItemWithError(dict, models->name[field])) : NULL;
    Py_XDECREF(dict);
    return value;
}

static int set_slot(PyObject *descriptor, PyObject *object, PyObject *value)
{
    return Py_TYPE(descriptor)->tp_descr_set(descriptor, object, value);
}

/* In the order of the fields, as pydantic adds them: the order of a set depends on it. */
static PyObject *names_added(const pn_graph_models *models, pn_graph_kind kind)
{
    const pn_graph_fields *fields = &pn_graph_fields_of[kind];
    PyObject *set = PySet_New(NULL);
    for (int i = 0; set != NULL && i < fields->count; i++)
        if (PySet_Add(set, models->name[fields->of[i]]) < 0) Py_CLEAR(set);
    return set;
}

static PyObject *fields_set(const pn_graph_models *models, pn_graph_kind kind)
{
    PyObject *set = models->full_set[kind] ? PySet_New(models->full_set[kind]) : names_added(models, kind);
    if (set != NULL) PyObject_GC_UnTrack(set); /* of str, so in no circle: nothing for the collector */
    return set;
}

PyObject *pn_graph_instance(const pn_graph_models *models, pn_graph_kind kind, PyObject *fields)
{
    PyTypeObject *type = models->type[kind];
    PyObject *object = type->tp_alloc(type, 0), *set = object ? fields_set(models, kind) : NULL;
    if (set == NULL || PyObject_GenericSetDict(object, fields, NULL) < 0 ||
        set_slot(models->slot[0], object, set) < 0 || set_slot(models->slot[1], object, Py_None) < 0 ||
        set_slot(models->slot[2], object, Py_None) < 0)
        Py_CLEAR(object);
    Py_XDECREF(set);
    return object;
}

/* ---- ids ---- */

/* Whether `text` with each quote made a space is `id`. */
static bool is_unquoted(PyObject *text, PyObject *id)
{
    Py_ssize_t n = PyUnicode_GET_LENGTH(text);
    if (n != PyUnicode_GET_LENGTH(id)) return false;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(text, i);
        if ((c == '"' ? ' ' : c) != PyUnicode_READ_CHAR(id, i)) return false;
    }
    return true;
}

/* Of a ChunkNode without an id: its decimal hash. */
static bool is_hash(PyObject *text, PyObject *id)
{
    PyObject *number = text && PyUnicode_CheckExact(text) ? PyLong_FromSsize_t(PyObject_Hash(text)) : NULL;
    PyObject *digits = number ? PyObject_Str(number) : NULL;
    bool same = digits != NULL && PyUnicode_Compare(digits, id) == 0;
    Py_XDECREF(number);
    Py_XDECREF(digits);
    return same;
}

static bool entity_has(const pn_graph_models *models, PyObject *node, PyObject *id)
{
    PyObject *name = pn_graph_value_of(models, node, PN_GRAPH_NAME);
    bool has = name != NULL && PyUnicode_CheckExact(name) && is_unquoted(name, id);
    Py_XDECREF(name);
    return has;
}

static bool hash_has(const pn_graph_models *models, PyObject *node, PyObject *id)
{
    PyObject *text = pn_graph_value_of(models, node, PN_GRAPH_TEXT);
    bool has = is_hash(text, id);
    Py_XDECREF(text);
    return has;
}

static bool chunk_has(const pn_graph_models *models, PyObject *node, PyObject *id)
{
    PyObject *own = pn_graph_value_of(models, node, PN_GRAPH_ID);
    bool has = own == Py_None ? hash_has(models, node, id)
                              : own != NULL && PyUnicode_CheckExact(own) && PyUnicode_Compare(own, id) == 0;
    Py_XDECREF(own);
    return has;
}

bool pn_graph_has_id(const pn_graph_models *models, PyObject *node, PyObject *key)
{
    pn_graph_kind kind = pn_graph_kind_of(models, node);
    if (!PyUnicode_CheckExact(key) || (kind != PN_GRAPH_ENTITY && kind != PN_GRAPH_CHUNK)) return false;
    bool has = kind == PN_GRAPH_ENTITY ? entity_has(models, node, key) : chunk_has(models, node, key);
    PyErr_Clear();
    return has;
}

bool pn_graph_is_triplet(PyObject *o)
{
    bool good = PyTuple_CheckExact(o) && PyTuple_GET_SIZE(o) == 3;
    for (int i = 0; good && i < 3; i++) good = PyUnicode_CheckExact(PyTuple_GET_ITEM(o, i));
    return good;
}

bool pn_graph_all_str(PyObject *list)
{
    Py_ssize_t i = 0;
    while (i < PyList_GET_SIZE(list) && PyUnicode_CheckExact(PyList_GET_ITEM(list, i))) i++;
    return i == PyList_GET_SIZE(list);
}

/* ---- from Python ---- */

/* A set of all names, if a copy of it has their order too: a larger table has another. */
static PyObject *copyable_set(const pn_graph_models *models, pn_graph_kind kind)
{
    PyObject *set = names_added(models, kind), *copy = set ? PySet_New(set) : NULL;
    PyObject *order = set ? PySequence_List(set) : NULL, *copied = copy ? PySequence_List(copy) : NULL;
    bool same = order != NULL && copied != NULL && PyObject_RichCompareBool(order, copied, Py_EQ) == 1;
    Py_XDECREF(copy);
    Py_XDECREF(order);
    Py_XDECREF(copied);
    if (!same) Py_CLEAR(set);
    PyErr_Clear();
    return set;
}

void pn_graph_models_free(pn_graph_models *models)
{
    if (models == NULL) return;
    for (int i = 0; i < PN_GRAPH_KINDS; i++) {
        Py_XDECREF(models->type[i]);
        Py_XDECREF(models->full_set[i]);
    }
    for (int i = 0; i < 3; i++) Py_XDECREF(models->slot[i]);
    for (int i = 0; i < PN_GRAPH_NAMES; i++) Py_XDECREF(models->name[i]);
    Py_XDECREF(models->watch);
    PyMem_Free(models);
}

int pn_graph_models_traverse(pn_graph_models *models, visitproc visit, void *arg)
{
    for (int i = 0; models != NULL && i < PN_GRAPH_KINDS; i++) Py_VISIT(models->type[i]);
    for (int i = 0; models != NULL && i < 3; i++) Py_VISIT(models->slot[i]);
    if (models != NULL) Py_VISIT(models->watch);
    return 0;
}

static pn_graph_models *models_new(PyObject *types, PyObject *slots, PyObject *watch)
{
    pn_graph_models *models = PyMem_Calloc(1, sizeof *models);
    if (models == NULL) return NULL;
    models->watch = Py_NewRef(watch);
    for (int i = 0; i < PN_GRAPH_KINDS; i++) models->type[i] = (PyTypeObject *)Py_NewRef(PyTuple_GET_ITEM(types, i));
    for (int i = 0; i < 3; i++) models->slot[i] = Py_NewRef(PyTuple_GET_ITEM(slots, i));
    for (int i = 0; i < PN_GRAPH_NAMES; i++)
        if ((models->name[i] = PyUnicode_InternFromString(pn_graph_name_text[i])) == NULL) {
            pn_graph_models_free(models);
            return NULL;
        }
    for (int i = 0; i < PN_GRAPH_KINDS; i++) models->full_set[i] = copyable_set(models, (pn_graph_kind)i);
    return models;
}

static bool usable(PyObject *types, PyObject *slots)
{
    bool good = PyTuple_GET_SIZE(types) == PN_GRAPH_KINDS && PyTuple_GET_SIZE(slots) == 3;
    for (int i = 0; good && i < 3; i++)
        good = PyType_Check(PyTuple_GET_ITEM(types, i)) && Py_TYPE(PyTuple_GET_ITEM(slots, i))->tp_descr_set != NULL;
    return good;
}

/* What was told before is forgotten: nobody keeps it while code can run. */
static PyObject *graph_models(PyObject *module, PyObject *args)
{
    pn_module_state *state = pn_state_of(module);
    PyObject *types, *slots, *watch;
    if (!PyArg_ParseTuple(args, "O!O!O:graph_models", &PyTuple_Type, &types, &PyTuple_Type, &slots, &watch) ||
        !pn_watch_check(watch))
        return NULL;
    if (!usable(types, slots)) return PyErr_Format(PyExc_TypeError, "graph_models() takes three classes and slots");
    pn_graph_models *now = models_new(types, slots, watch), *before = state->graph_models;
    if (now == NULL) return PyErr_NoMemory();
    state->graph_models = now;
    pn_graph_models_free(before);
    Py_RETURN_NONE;
}

static PyObject *node_renamed(PyObject *module, PyObject *ignored)
{
    (void)ignored;
    pn_state_of(module)->graph_renames++;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"graph_models", graph_models, METH_VARARGS, "graph_models(classes, slots, watch): of a property graph."},
    {"node_renamed", node_renamed, METH_NOARGS, "A node of a property graph may have got another id."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_graph_models(PyObject *module) { return PyModule_AddFunctions(module, functions); }
