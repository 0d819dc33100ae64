/* graph_property.c: PropertyMethods, what pannier.SimplePropertyGraphStore does without Python
 * code of its own.
 *
 *   upsert_nodes, upsert_relations   as LlamaIndex's, one entry after the other: what there is
 *                                    to put it into is looked up anew for each, since an entry
 *                                    may run code
 *
 * It adds no memory, so a store copies and pickles as before. The store's class gets the methods
 * as its own too (pn_py_own_methods). What they need to know is handed in by
 *
 *     property_classes(the store's class, LabelledPropertyGraph, the classes of its nodes and of
 *                      its triplets, (upsert_nodes, upsert_relations, upsert of one relation))
 *
 * The last are Python functions: LlamaIndex's two, which say what is wrong with arguments and do
 * it all while a method of its classes is replaced, and the one that takes a store and a relation
 * that is out of the ordinary.
 */
#include "py/graph_models.h"

enum { NODES, RELATIONS, ONE_RELATION, BY_HAND };
enum { CONTAINERS = 3 }; /* nodes, relations, triplets */

struct pn_property_classes {
    PyObject *owner; /* the arguments; the next five are borrowed from it */
    PyTypeObject *store, *graph, *nodes, *triplets;
    PyObject *by_hand;
    PyObject *graph_name, *add_name, *name[CONTAINERS]; /* interned */
};

bool pn_py_is_nodes(const pn_module_state *state, const PyObject *object)
{
    return state->property_classes != NULL && Py_TYPE(object) == state->property_classes->nodes;
}

/* A field of a graph of LlamaIndex's class, a new reference; NULL with an exception. */
static PyObject *field_of(const pn_property_classes *c, PyObject *graph, int i)
{
    PyObject *dict = pn_graph_dict_of(graph);
    PyObject *value = dict ? Py_XNewRef(PyDict_GetItemWithError(dict, c->name[i])) : NULL;
    Py_XDECREF(dict);
    if (value != NULL || PyErr_Occurred()) return value;
    return PyObject_GetAttr(graph, c->name[i]); /* pydantic says what is wrong */
}

/* ---- one entry: 0, or -1 with an exception ---- */

static int told(PyObject *result)
{
    Py_XDECREF(result);
    return result ? 0 : -1;
}

static int put_node(const pn_module_state *state, PyObject *store, PyObject *node)
{
    const pn_property_classes *c = state->property_classes;
    PyObject *graph = PyObject_GetAttr(store, c->graph_name);
    bool ours = graph != NULL && Py_TYPE(graph) == c->graph;
    PyObject *nodes = ours ? field_of(c, graph, 0) : NULL;
    int failed = nodes ? pn_graph_put_node(state, nodes, node) : -1;
    if (graph != NULL && !ours) failed = told(PyObject_CallMethodObjArgs(graph, c->add_name, node, NULL));
    Py_XDECREF(nodes);
    Py_XDECREF(graph);
    return failed;
}

static bool are_plain(const pn_property_classes *c, PyObject *const containers[CONTAINERS])
{
    bool nodes = PyDict_CheckExact(containers[0]) || Py_TYPE(containers[0]) == c->nodes;
    return nodes && PyDict_CheckExact(containers[1]) && Py_TYPE(containers[2]) == c->triplets;
}

/* 1: done; 0: not done; -1: an exception. */
static int put_into(const pn_module_state *state, PyObject *graph, PyObject *relation)
{
    const pn_property_classes *c = state->property_classes;
    PyObject *containers[CONTAINERS] = {NULL};
    int done = Py_TYPE(graph) == c->graph, found = 0;
    while (done && found < CONTAINERS && (containers[found] = field_of(c, graph, found)) != NULL) found++;
    if (done && found < CONTAINERS) done = -1;
    if (done > 0) done = are_plain(c, containers) ? pn_graph_put_relation(state, containers, relation) : 0;
    while (found > 0) Py_DECREF(containers[--found]);
    return done;
}

static int put_relation(const pn_module_state *state, PyObject *store, PyObject *relation)
{
    const pn_property_classes *c = state->property_classes;
    PyObject *graph = PyObject_GetAttr(store, c->graph_name), *method;
    int done = graph ? put_into(state, graph, relation) : -1;
    Py_XDECREF(graph);
    if (done != 0) return done < 0 ? -1 : 0;
    method = Py_NewRef(PyTuple_GET_ITEM(c->by_hand, ONE_RELATION));
    done = told(PyObject_CallFunctionObjArgs(method, store, relation, NULL));
    Py_DECREF(method);
    return done;
}

/* ---- the methods ---- */

typedef int (*put_one)(const pn_module_state *state, PyObject *store, PyObject *entry);

static int put_listed(const pn_module_state *state, PyObject *store, PyObject *list, put_one put)
{
    int failed = 0;
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(list); i++) {
        PyObject *entry = Py_NewRef(PyList_GET_ITEM(list, i));
        failed = put(state, store, entry);
        Py_DECREF(entry);
    }
    return failed;
}

static int put_all(const pn_module_state *state, PyObject *store, PyObject *entries, put_one put)
{
    PyObject *iterator = PyObject_GetIter(entries), *entry;
    int failed = iterator ? 0 : -1;
    while (!failed && (entry = PyIter_Next(iterator)) != NULL) {
        failed = put(state, store, entry);
        Py_DECREF(entry);
    }
    Py_XDECREF(iterator);
    return failed || PyErr_Occurred() ? -1 : 0;
}

#define PARAMS PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names

/* The one argument, borrowed; NULL: something else was given. */
static PyObject *only_arg(PyObject *const *args, Py_ssize_t n, PyObject *names, const char *name)
{
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (n + named != 1) return NULL;
    return named == 0 || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), name) == 0 ? args[0] : NULL;
}

/* LlamaIndex's method, with the arguments as they are. */
static PyObject *peers(const pn_property_classes *c, int which, PARAMS)
{
    PyObject *method = PyMethod_New(PyTuple_GET_ITEM(c->by_hand, which), op);
    PyObject *result = method ? PyObject_Vectorcall(method, args, (size_t)n, names) : NULL;
    Py_XDECREF(method);
    return result;
}

static PyObject *upsert(PARAMS, int which, const char *name, put_one put)
{
    const pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL) return NULL;
    if (state->property_classes == NULL) return PyErr_Format(PyExc_RuntimeError, "pannier.property_graph is not loaded");
    PyObject *entries = pn_graph_models_hold(state->graph_models) ? only_arg(args, n, names, name) : NULL;
    if (entries == NULL) return peers(state->property_classes, which, op, args, n, names);
    int failed = PyList_CheckExact(entries) ? put_listed(state, op, entries, put) : put_all(state, op, entries, put);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *methods_upsert_nodes(PARAMS) { return upsert(op, args, n, names, NODES, "nodes", put_node); }

static PyObject *methods_upsert_relations(PARAMS)
{
    return upsert(op, args, n, names, RELATIONS, "relations", put_relation);
}

#define FAST(fn) ((PyCFunction)(void (*)(void))(fn))
enum { HOW = METH_FASTCALL | METH_KEYWORDS };

static PyMethodDef methods[] = {
    {"upsert_nodes", FAST(methods_upsert_nodes), HOW,
     "upsert_nodes($self, nodes)\n--\n\nAdd nodes, each in the place of the one that has its id."},
    {"upsert_relations", FAST(methods_upsert_relations), HOW,
     "upsert_relations($self, relations)\n--\n\nAdd relations, and nodes for ends that are not there.\n\n"
     "A relation of a triplet that is there stays what it is, but for one that is\n"
     "gone (two triplets can share one, and deleting either takes it away)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The methods of pannier.SimplePropertyGraphStore that put things into its graph."},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pannier._core.PropertyMethods",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

/* ---- the classes ---- */

void pn_property_classes_free(pn_property_classes *c)
{
    if (c == NULL) return;
    for (int i = 0; i < CONTAINERS; i++) Py_XDECREF(c->name[i]);
    Py_XDECREF(c->graph_name);
    Py_XDECREF(c->add_name);
    Py_XDECREF(c->owner);
    PyMem_Free(c);
}

int pn_property_classes_traverse(pn_property_classes *c, visitproc visit, void *arg)
{
    if (c != NULL) Py_VISIT(c->owner);
    return 0;
}

static bool take_names(pn_property_classes *c)
{
    static const char *const names[CONTAINERS] = {"nodes", "relations", "triplets"};
    c->graph_name = PyUnicode_InternFromString("graph");
    c->add_name = PyUnicode_InternFromString("add_node");
    bool good = c->graph_name != NULL && c->add_name != NULL;
    for (int i = 0; good && i < CONTAINERS; i++) good = (c->name[i] = PyUnicode_InternFromString(names[i])) != NULL;
    return good;
}

static bool take_classes(const pn_module_state *state, pn_property_classes *c)
{
    if (!PyArg_ParseTuple(c->owner, "O!O!O!O!O!:property_classes", &PyType_Type, &c->store, &PyType_Type, &c->graph,
                          &PyType_Type, &c->nodes, &PyType_Type, &c->triplets, &PyTuple_Type, &c->by_hand))
        return false;
    bool fit = PyType_IsSubtype(c->nodes, state->nodes_type) && PyType_IsSubtype(c->triplets, state->triplets_type) &&
               PyTuple_GET_SIZE(c->by_hand) == BY_HAND;
    if (!fit) PyErr_SetString(PyExc_ValueError, "property_classes() takes a NodeIndex, a TripletIndex and three functions");
    return fit && take_names(c);
}

static PyObject *property_classes(PyObject *module, PyObject *args)
{
    pn_module_state *state = pn_state_of(module);
    if (state->property_classes != NULL) return PyErr_Format(PyExc_RuntimeError, "the classes are set once");
    pn_property_classes *c = PyMem_Calloc(1, sizeof *c);
    if (c == NULL) return PyErr_NoMemory();
    c->owner = Py_NewRef(args);
    if (!take_classes(state, c) || pn_py_own_methods(c->store, methods) < 0) {
        pn_property_classes_free(c);
        return NULL;
    }
    state->property_classes = c;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"property_classes", property_classes, METH_VARARGS,
     "property_classes(store, graph, nodes, triplets, by_hand)\n\nWhat PropertyMethods look for, and what they fall back on."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_graph_property(PyObject *module)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    int failed = type == NULL ? -1 : PyModule_AddType(module, type);
    Py_XDECREF(type);
    return failed < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
