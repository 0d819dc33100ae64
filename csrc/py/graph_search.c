/* graph_search.c: all triplets of a property graph looked at, for those with some labels.
 *
 * None is answered when anything is not as the peer's own loop would find it without asking
 * Python code: a triplet that is no tuple of str, one whose nodes or relation are gone, a
 * relation of another class or whose label is no str.
 */
#include "py/graph_models.h"
#include "py/json_py.h"

typedef struct {
    const pn_graph_models *models;
    PyObject *nodes, *relations, *labels, *found;
} search;

/* A new reference, or NULL. Odd keys may run code when a dict is asked, so nothing is borrowed
 * across a look-up. */
static PyObject *relation_of(const search *q, PyObject *triplet)
{
    PyObject *key = pn_graph_relation_key(&PyTuple_GET_ITEM(triplet, 0));
    PyObject *relation = key ? PyDict_GetItemWithError(q->relations, key) : NULL;
    Py_XDECREF(key);
    return relation && pn_graph_kind_of(q->models, relation) == PN_GRAPH_RELATION ? Py_NewRef(relation) : NULL;
}

static PyObject *label_of(const search *q, PyObject *relation)
{
    PyObject *label = pn_graph_value_of(q->models, relation, PN_GRAPH_LABEL);
    if (label && !PyUnicode_CheckExact(label)) Py_CLEAR(label);
    return label;
}

static bool is_wanted(const search *q, PyObject *label)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(q->labels); i++)
        if (PyUnicode_Compare(PyList_GET_ITEM(q->labels, i), label) == 0) return true;
    return false;
}

static bool take(const search *q, PyObject *triplet, PyObject *relation)
{
    PyObject *subj = Py_XNewRef(PyDict_GetItemWithError(q->nodes, PyTuple_GET_ITEM(triplet, 0)));
    PyObject *obj = subj ? PyDict_GetItemWithError(q->nodes, PyTuple_GET_ITEM(triplet, 2)) : NULL;
    PyObject *row = obj ? PyTuple_Pack(3, subj, relation, obj) : NULL;
    bool taken = row != NULL && PyList_Append(q->found, row) == 0;
    Py_XDECREF(subj);
    Py_XDECREF(row);
    return taken;
}

static bool has_ends(const search *q, PyObject *triplet)
{
    return PyDict_Contains(q->nodes, PyTuple_GET_ITEM(triplet, 0)) > 0 &&
           PyDict_Contains(q->nodes, PyTuple_GET_ITEM(triplet, 2)) > 0;
}

/* false: the peer's way, or an exception. */
static bool look_at(const search *q, PyObject *triplet)
{
    PyObject *relation = pn_graph_is_triplet(triplet) ? relation_of(q, triplet) : NULL;
    PyObject *label = relation ? label_of(q, relation) : NULL;
    bool good = label && (is_wanted(q, label) ? take(q, triplet, relation) : has_ends(q, triplet));
    Py_XDECREF(label);
    Py_XDECREF(relation);
    return good;
}

static bool look_at_all(const search *q, PyObject *triplets)
{
    PyObject *iterator = PySet_Type.tp_iter(triplets), *triplet;
    bool good = iterator != NULL;
    while (good && (triplet = PyIter_Next(iterator)) != NULL) {
        good = look_at(q, triplet);
        Py_DECREF(triplet);
    }
    Py_XDECREF(iterator);
    return good && !PyErr_Occurred();
}

static PyObject *graph_labelled(PyObject *module, PyObject *args)
{
    PyObject *triplets;
    search q = {.models = pn_state_of(module)->graph_models};
    if (!PyArg_ParseTuple(args, "O!O!O!O!:graph_labelled", &PyDict_Type, &q.nodes, &PyDict_Type, &q.relations, &PySet_Type,
                          &triplets, &PyList_Type, &q.labels))
        return NULL;
    if (!pn_graph_all_str(q.labels)) Py_RETURN_NONE;
    q.found = PyList_New(0);
    if (q.found == NULL) return NULL;
    int gc = pn_gc_pause();
    bool good = look_at_all(&q, triplets);
    pn_gc_resume(gc);
    if (good) return q.found;
    Py_DECREF(q.found);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef functions[] = {
    {"graph_labelled", graph_labelled, METH_VARARGS,
     "graph_labelled(nodes, relations, triplets, labels) -> list | None: (node, relation, node) of each triplet\n"
     "whose relation has one of the labels; None: look yourself."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_graph_search(PyObject *module) { return PyModule_AddFunctions(module, functions); }
