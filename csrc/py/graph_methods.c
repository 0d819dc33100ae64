/* graph_methods.c: the fast way from pannier.SimpleGraphStore to its TripletTable.
 *
 *   GraphMethods  a base of SimpleGraphStore: get, get_rel_map, upsert_triplet, delete,
 *                 to_dict. It adds no memory, so a store copies and pickles as before. The
 *                 class gets them as its own too (pn_py_own_methods).
 *   GraphPart     a base of NativeGraphData and GraphDict: one field, `held`. In the first
 *                 it is the graph_dict, in the second the table, or None.
 *
 * A method goes store -> _data -> graph_dict -> table, checks that each is exactly what
 * this package puts there and that the arguments are as expected, and asks the table.
 * Otherwise, and when the table declines, the method written in Python takes over: those
 * were handed in by graph_classes(), with the classes. They also raise what is wrong with
 * the arguments, so nothing here reports that.
 */
#include "py/graph_type.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *held; /* NULL: not set yet */
} part_object;

/* Places in state->graph_by_hand. */
enum { GET, REL_MAP, UPSERT, DELETE, TO_DICT, BY_HAND };

/* ---- the way to the table ---- */

static PyObject *held_by(PyObject *op, PyTypeObject *type)
{
    return op != NULL && Py_TYPE(op) == type ? ((part_object *)op)->held : NULL;
}

/* A new reference to the store's table; NULL (no exception) when there is none. */
static PyObject *table_of(const pn_module_state *state, PyObject *store)
{
    if (state->graph_by_hand == NULL) return NULL;
    PyObject *data = PyObject_GetAttr(store, state->graph_data_name);
    if (data == NULL) {
        PyErr_Clear(); /* the method in Python meets it again */
        return NULL;
    }
    PyObject *table = held_by(held_by(data, state->graph_data_type), state->graph_view_type);
    table = table != NULL && Py_TYPE(table) == state->graph_type ? Py_NewRef(table) : NULL;
    Py_DECREF(data);
    return table;
}

static PyObject *by_hand(const pn_module_state *state, int which, PyObject *store, PyObject *const *args,
                         Py_ssize_t n, PyObject *names)
{
    enum { FEW = 8 };
    if (state->graph_by_hand == NULL) return PyErr_Format(PyExc_RuntimeError, "pannier.graph_store is not loaded");
    size_t all = (size_t)n + (names ? (size_t)PyTuple_GET_SIZE(names) : 0) + 1;
    PyObject *few[FEW], **full = all <= FEW ? few : PyMem_New(PyObject *, all);
    if (full == NULL) return PyErr_NoMemory();
    full[0] = store;
    for (size_t i = 1; i < all; i++) full[i] = args[i - 1];
    PyObject *method = Py_NewRef(PyTuple_GET_ITEM(state->graph_by_hand, which));
    PyObject *result = PyObject_Vectorcall(method, full, (size_t)n + 1, names);
    Py_DECREF(method);
    if (full != few) PyMem_Free(full);
    return result;
}

/* ---- methods ---- */

#define PARAMS PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names

static bool plain_args(PyObject *const *args, Py_ssize_t n, PyObject *names, Py_ssize_t want)
{
    if (n != want || (names != NULL && PyTuple_GET_SIZE(names) > 0)) return false;
    for (Py_ssize_t i = 0; i < n; i++)
        if (!PyUnicode_CheckExact(args[i])) return false;
    return true;
}

static PyObject *methods_get(PARAMS)
{
    const pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL) return NULL;
    PyObject *table = plain_args(args, n, names, 1) ? table_of(state, op) : NULL;
    if (table == NULL) return by_hand(state, GET, op, args, n, names);
    PyObject *value = pn_py_graph_live(table, args[0], NULL);
    Py_DECREF(table);
    return value;
}

/* upsert_triplet and delete. */
static PyObject *change(PARAMS, int which, int (*done_by)(PyObject *, PyObject *const *))
{
    const pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL) return NULL;
    PyObject *table = plain_args(args, n, names, 3) ? table_of(state, op) : NULL;
    int done = table ? done_by(table, args) : 0;
    Py_XDECREF(table);
    if (done < 0) return NULL;
    return done ? Py_NewRef(Py_None) : by_hand(state, which, op, args, n, names);
}

static PyObject *methods_upsert(PARAMS) { return change(op, args, n, names, UPSERT, pn_py_graph_upsert); }
static PyObject *methods_delete(PARAMS) { return change(op, args, n, names, DELETE, pn_py_graph_delete); }

/* The arguments subjs, depth, limit: those given, in their places. */
static bool walk_args(PyObject *const *args, Py_ssize_t n, PyObject *names, PyObject *out[3])
{
    static const char *const known[3] = {"subjs", "depth", "limit"};
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (n > 3) return false;
    for (Py_ssize_t i = 0; i < n; i++) out[i] = args[i];
    for (Py_ssize_t i = 0; i < named; i++) {
        int at = 0;
        while (at < 3 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), known[at]) != 0) at++;
        if (at == 3 || out[at] != NULL) return false;
        out[at] = args[n + i];
    }
    return true;
}

/* An exact int from 0 to most; `otherwise` when it is not given, -1 when it is something else. */
static long plain_int(PyObject *o, long otherwise, long most)
{
    if (o == NULL) return otherwise;
    int overflow;
    long value = PyLong_CheckExact(o) ? PyLong_AsLongAndOverflow(o, &overflow) : -1;
    return value < 0 || value > most ? -1 : value;
}

static PyObject *methods_rel_map(PARAMS)
{
    const pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL) return NULL;
    PyObject *given[3] = {NULL}, *map = NULL;
    bool known = walk_args(args, n, names, given);
    long depth = known ? plain_int(given[1], 2, PN_GRAPH_MAX_DEPTH) : -1, limit = plain_int(given[2], 30, INT32_MAX);
    PyObject *table = depth >= 0 && limit >= 0 ? table_of(state, op) : NULL;
    if (table != NULL) {
        map = pn_py_graph_rel_map(table, given[0] ? given[0] : Py_None, (size_t)depth, (size_t)limit,
                                  (size_t)state->graph_inner_limit);
        Py_DECREF(table);
        if (map != Py_None) return map;
        Py_DECREF(map);
    }
    return by_hand(state, REL_MAP, op, args, n, names);
}

static PyObject *methods_to_dict(PARAMS)
{
    const pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL) return NULL;
    PyObject *table = plain_args(args, n, names, 0) ? table_of(state, op) : NULL;
    PyObject *graph = table ? pn_py_graph_copied(table) : Py_NewRef(Py_None), *dict = NULL;
    Py_XDECREF(table);
    if (graph != NULL) dict = graph == Py_None ? by_hand(state, TO_DICT, op, args, n, names) : PyDict_New();
    if (dict != NULL && graph != Py_None && PyDict_SetItemString(dict, "graph_dict", graph) < 0) Py_CLEAR(dict);
    Py_XDECREF(graph);
    return dict;
}

#define FAST(fn) ((PyCFunction)(void (*)(void))(fn))
enum { HOW = METH_FASTCALL | METH_KEYWORDS };

static PyMethodDef methods_methods[] = {
    {"get", FAST(methods_get), HOW,
     "get(subj) -> list\n\nThe live list ``[[relation, object], ...]`` of a subject; a fresh empty list\nwhen there "
     "is none."},
    {"get_rel_map", FAST(methods_rel_map), HOW,
     "get_rel_map(subjs=None, depth=2, limit=30) -> dict\n\nTriplets that start at the subjects, depth first: see "
     "NativeGraphData.get_rel_map."},
    {"upsert_triplet", FAST(methods_upsert), HOW,
     "upsert_triplet(subj, rel, obj)\n\nAdd a triplet, at the end of its subject's, unless it is there."},
    {"delete", FAST(methods_delete), HOW,
     "delete(subj, rel, obj)\n\nDelete a triplet if it is there, and its subject with the last one.\n\n"
     "LlamaIndex's own never deletes anything."},
    {"to_dict", FAST(methods_to_dict), HOW, "to_dict() -> dict\n\n{\"graph_dict\": {...}}, a deep copy."},
    {NULL, NULL, 0, NULL},
};

/* ---- the classes ---- */

/* graph_classes(store, data, view, inner_limit, by_hand): see pannier.graph_store. */
static PyObject *graph_classes(PyObject *module, PyObject *args)
{
    pn_module_state *state = pn_state_of(module);
    PyObject *store, *data, *view, *methods;
    int inner;
    if (!PyArg_ParseTuple(args, "O!O!O!iO!:graph_classes", &PyType_Type, &store, &PyType_Type, &data, &PyType_Type, &view,
                          &inner, &PyTuple_Type, &methods))
        return NULL;
    bool parts = PyType_IsSubtype((PyTypeObject *)data, state->graph_part_type) &&
                 PyType_IsSubtype((PyTypeObject *)view, state->graph_part_type);
    if (!parts || inner < 0 || PyTuple_GET_SIZE(methods) != BY_HAND)
        return PyErr_Format(PyExc_ValueError, "graph_classes() takes two GraphPart classes, a limit, %d methods", BY_HAND);
    Py_XSETREF(state->graph_data_type, (PyTypeObject *)Py_NewRef(data));
    Py_XSETREF(state->graph_view_type, (PyTypeObject *)Py_NewRef(view));
    Py_XSETREF(state->graph_by_hand, Py_NewRef(methods));
    state->graph_inner_limit = inner;
    return pn_py_own_methods((PyTypeObject *)store, methods_methods) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- the types ---- */

static PyType_Slot methods_slots[] = {
    {Py_tp_doc, "The methods of pannier.SimpleGraphStore that its table answers."},
    {Py_tp_methods, methods_methods},
    {0, NULL},
};

static PyType_Spec methods_spec = {
    .name = "pannier._core.GraphMethods",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = methods_slots,
};

static int part_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((part_object *)op)->held);
    return 0;
}

static int part_clear(PyObject *op)
{
    Py_CLEAR(((part_object *)op)->held);
    return 0;
}

static void part_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    part_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMemberDef part_members[] = {
    {"held", T_OBJECT_EX, offsetof(part_object, held), 0, "What this is a view of."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot part_slots[] = {
    {Py_tp_doc, "A link of the chain from a store to its table."},
    {Py_tp_dealloc, part_dealloc},
    {Py_tp_traverse, part_traverse},
    {Py_tp_clear, part_clear},
    {Py_tp_members, part_members},
    {0, NULL},
};

static PyType_Spec part_spec = {
    .name = "pannier._core.GraphPart",
    .basicsize = sizeof(part_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = part_slots,
};

static PyMethodDef functions[] = {
    {"graph_classes", graph_classes, METH_VARARGS,
     "graph_classes(store, data, view, inner_limit, by_hand)\n\nWhat GraphMethods look for, and what they fall back on."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_graph_methods(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    state->graph_data_name = PyUnicode_InternFromString("_data");
    state->graph_part_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &part_spec, NULL);
    if (state->graph_data_name == NULL || state->graph_part_type == NULL) return -1;
    PyTypeObject *methods = (PyTypeObject *)PyType_FromModuleAndSpec(module, &methods_spec, NULL);
    int failed = methods == NULL ? -1 : PyModule_AddType(module, methods);
    Py_XDECREF(methods);
    if (failed < 0 || PyModule_AddType(module, state->graph_part_type) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
