/* graph_triplets.c: TripletIndex, the base of a property graph's `triplets`.
 *
 * A set that knows which of its triplets touch a node (store/incidence.h). The index holds
 * a reference to each tuple in it, all of them of three exact str, so that nothing here
 * compares with Python code. It is NULL while nobody has asked, or something else than such
 * a tuple is in the set; and it does not count when its length is not that of the set:
 * somebody called a method of set itself.
 */
#include "py/graph_models.h"

#include "py/json_py.h"
#include "store/incidence.h"

typedef struct {
    PySetObject set;
    pn_incidence *index;
} triplets_object;

/* ---- the index ---- */

typedef struct {
    pn_buf scratch[2];
    pn_bytes source, target;
} ends;

static bool ends_of(PyObject *triplet, ends *e)
{
    for (int i = 0; i < 2; i++) pn_buf_init(&e->scratch[i], &pn_alloc_system);
    return pn_py_utf8(PyTuple_GET_ITEM(triplet, 0), &e->scratch[0], &e->source) &&
           pn_py_utf8(PyTuple_GET_ITEM(triplet, 2), &e->scratch[1], &e->target);
}

static void ends_clear(ends *e)
{
    for (int i = 0; i < 2; i++) pn_buf_clear(&e->scratch[i]);
}

static bool same_text(PyObject *a, PyObject *b) { return a == b || PyUnicode_Compare(a, b) == 0; }

static bool same_triplet(const void *ctx, const void *edge)
{
    PyObject *a = (PyObject *)(uintptr_t)ctx, *b = (PyObject *)(uintptr_t)edge;
    for (int i = 0; i < 3; i++)
        if (!same_text(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i))) return false;
    return true;
}

/* Tuples of str: no code runs when they go. */
static void forget(triplets_object *self)
{
    size_t pos = 0;
    void *edge;
    while (self->index != NULL && pn_incidence_each(self->index, &pos, &edge)) Py_DECREF((PyObject *)edge);
    pn_incidence_free(self->index);
    self->index = NULL;
}

static bool link_triplet(pn_incidence *index, PyObject *triplet)
{
    ends e;
    bool done = ends_of(triplet, &e) && pn_incidence_add(index, e.source, e.target, triplet) == PN_OK;
    if (done) Py_INCREF(triplet);
    ends_clear(&e);
    return done;
}

static void unlink_triplet(pn_incidence *index, PyObject *triplet)
{
    ends e;
    void *edge = ends_of(triplet, &e) ? pn_incidence_remove(index, e.source, e.target, same_triplet, triplet) : NULL;
    ends_clear(&e);
    Py_XDECREF((PyObject *)edge);
}

/* An index of what is in the set. NULL: not all of that is a triplet, or no memory, which is
 * no error: then all are looked at. The GIL is held and no code runs. */
static pn_incidence *index_of(PyObject *set)
{
    triplets_object made = {.index = NULL};
    if (pn_incidence_new(&pn_alloc_system, &made.index) != PN_OK) return NULL;
    PyObject *iterator = PyObject_GetIter(set), *triplet;
    bool good = iterator != NULL;
    while (good && (triplet = PyIter_Next(iterator)) != NULL) {
        good = pn_graph_is_triplet(triplet) && link_triplet(made.index, triplet);
        Py_DECREF(triplet);
    }
    Py_XDECREF(iterator);
    if (!good || PyErr_Occurred()) forget(&made);
    PyErr_Clear();
    return made.index;
}

static bool counts(const triplets_object *self)
{
    return self->index != NULL && pn_incidence_len(self->index) == (size_t)PySet_GET_SIZE(self);
}

static bool make_index(triplets_object *self)
{
    if (counts(self)) return true;
    forget(self);
    self->index = index_of((PyObject *)self);
    return self->index != NULL;
}

/* ---- reading ---- */

static int take(PyObject *found, PyObject *triplet)
{
    return PyList_CheckExact(found) ? PyList_Append(found, triplet) : PyDict_SetItem(found, triplet, Py_None);
}

static int take_all(const pn_incidence *index, PyObject *id, PyObject *found)
{
    pn_buf scratch;
    pn_bytes node;
    pn_buf_init(&scratch, &pn_alloc_system);
    int failed = pn_py_utf8(id, &scratch, &node) ? 0 : -1;
    pn_link link = failed ? PN_NO_LINK : pn_incidence_first(index, node);
    while (!failed && link != PN_NO_LINK) failed = take(found, pn_incidence_edge(index, link, &link));
    pn_buf_clear(&scratch);
    return failed;
}

/* A list for one node; a dict, which tells apart, for several. */
static PyObject *touching(const pn_incidence *index, PyObject *ids)
{
    Py_ssize_t n = PyList_GET_SIZE(ids);
    PyObject *found = n == 1 ? PyList_New(0) : PyDict_New();
    for (Py_ssize_t i = 0; found != NULL && i < n; i++)
        if (take_all(index, PyList_GET_ITEM(ids, i), found) < 0) Py_CLEAR(found);
    return found;
}

static PyObject *triplets_touching(PyObject *op, PyObject *ids)
{
    triplets_object *self = (triplets_object *)op;
    if (!PyList_CheckExact(ids)) return PyErr_Format(PyExc_TypeError, "touching() takes a list");
    int gc = pn_gc_pause(); /* links are held meanwhile */
    PyObject *found = pn_graph_all_str(ids) && make_index(self) ? touching(self->index, ids) : Py_NewRef(Py_None);
    pn_gc_resume(gc);
    return found;
}

/* ---- changing ---- */

static PyObject *set_method(PyObject *op, const char *name, PyObject *arg)
{
    PyObject *method = PyObject_GetAttrString((PyObject *)&PySet_Type, name);
    PyObject *result = method ? PyObject_CallFunctionObjArgs(method, op, arg, NULL) : NULL;
    Py_XDECREF(method);
    return result;
}

int pn_py_triplets_add(PyObject *op, PyObject *triplet)
{
    triplets_object *self = (triplets_object *)op;
    Py_ssize_t size = PySet_GET_SIZE(op);
    if (PySet_Add(op, triplet) < 0) return -1;
    bool grown = PySet_GET_SIZE(op) == size + 1;
    if (grown && self->index != NULL && !(pn_graph_is_triplet(triplet) && link_triplet(self->index, triplet))) forget(self);
    PyErr_Clear();
    return 0;
}

static PyObject *triplets_add(PyObject *op, PyObject *triplet)
{
    return pn_py_triplets_add(op, triplet) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Whether it was there. */
static int drop(triplets_object *self, PyObject *triplet)
{
    int there = PySet_Discard((PyObject *)self, triplet);
    if (there > 0 && self->index != NULL) unlink_triplet(self->index, triplet);
    return there;
}

static PyObject *triplets_discard(PyObject *op, PyObject *triplet)
{
    if (pn_graph_is_triplet(triplet)) return drop((triplets_object *)op, triplet) < 0 ? NULL : Py_NewRef(Py_None);
    forget((triplets_object *)op);
    return set_method(op, "discard", triplet);
}

static PyObject *triplets_remove(PyObject *op, PyObject *triplet)
{
    if (pn_graph_is_triplet(triplet) && drop((triplets_object *)op, triplet) > 0) Py_RETURN_NONE;
    if (PyErr_Occurred()) return NULL;
    if (!pn_graph_is_triplet(triplet)) forget((triplets_object *)op);
    return set_method(op, "remove", triplet); /* its KeyError */
}

static PyObject *triplets_forget(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    forget((triplets_object *)op);
    Py_RETURN_NONE;
}


/* ---- the type ---- */

/* A set without elements is indexed from the start. */
static int triplets_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    forget((triplets_object *)op);
    if (PySet_Type.tp_init(op, args, kwargs) < 0) return -1;
    if (PySet_GET_SIZE(op) == 0) make_index((triplets_object *)op);
    return 0;
}

static int triplets_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op)); /* the tuples of the index are no part of a circle */
    return PySet_Type.tp_traverse(op, visit, arg);
}

static int triplets_clear(PyObject *op)
{
    forget((triplets_object *)op);
    return PySet_Type.tp_clear(op);
}

static void triplets_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    forget((triplets_object *)op);
    PySet_Type.tp_dealloc(op);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"add", triplets_add, METH_O, "As set.add."},
    {"discard", triplets_discard, METH_O, "As set.discard."},
    {"remove", triplets_remove, METH_O, "As set.remove."},
    {"touching", triplets_touching, METH_O,
     "touching(ids): the triplets of these nodes, each once, in the order of addition; None: ids or\n"
     "what is in the set are not all made of str. O(those), O(n) after a change that forgets the index."},
    {"forget", triplets_forget, METH_NOARGS, "Call this after a change that set's own methods make."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The triplets of a property graph: a set that knows which of them touch a node."},
    {Py_tp_init, triplets_init},
    {Py_tp_dealloc, triplets_dealloc},
    {Py_tp_traverse, triplets_traverse},
    {Py_tp_clear, triplets_clear},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pannier._core.TripletIndex",
    .basicsize = sizeof(triplets_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

bool pn_py_is_triplets(const pn_module_state *state, const PyObject *object)
{
    return PyType_IsSubtype(Py_TYPE(object), state->triplets_type);
}

int pn_py_add_graph_triplets(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    PyObject *bases = PyTuple_Pack(1, &PySet_Type);
    if (bases != NULL) state->triplets_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, bases);
    Py_XDECREF(bases);
    return state->triplets_type ? PyModule_AddType(module, state->triplets_type) : -1;
}
