/* graph_nodes.c: NodeIndex, the base of a property graph's `nodes`.
 *
 * A dict that knows which of its keys are no ids: a node's id is computed from the node, so
 * one that is renamed in place is found by its new name, under its old key. What is known
 * counts while `seen` equals the number of renamings in the process, which
 * pannier.property_graph reports; NEVER: nothing has been looked at, and changes cost
 * nothing more than those of a dict.
 *
 *   odd     {key: None} of the keys whose node is of another class than LlamaIndex's two or
 *           has another id
 *   places  {key: number}, the order of the dict, or NULL: nobody has asked
 */
#include "py/graph_models.h"

enum { NEVER = -1 };

typedef struct {
    PyDictObject dict;
    PyObject *odd, *places;
    Py_ssize_t next_place, seen;
} nodes_object;

static pn_module_state *state_of(PyObject *op) { return pn_state_of_type(Py_TYPE(op)); }

/* ---- what is known ---- */

static void forget(nodes_object *self)
{
    PyObject *odd = self->odd, *places = self->places;
    self->odd = self->places = NULL;
    self->next_place = 0;
    self->seen = NEVER;
    Py_XDECREF(odd); /* last: keys may run code */
    Py_XDECREF(places);
}

static int forget_if(int failed, PyObject *op)
{
    if (failed) forget((nodes_object *)op);
    return failed;
}

/* A key may run code when it is compared, and that forget what is known: the dicts are held
 * meanwhile. */

static int note_odd(nodes_object *self, PyObject *key)
{
    PyObject *odd = self->odd ? Py_NewRef(self->odd) : PyDict_New();
    if (odd == NULL) return -1;
    if (self->odd == NULL) self->odd = Py_NewRef(odd);
    int failed = PyDict_SetItem(odd, key, Py_None);
    Py_DECREF(odd);
    return failed;
}

/* Takes the key out of a dict where it may be. */
static int take_out(PyObject *dict, PyObject *key)
{
    if (dict == NULL || PyDict_GET_SIZE(dict) == 0) return 0;
    Py_INCREF(dict);
    int there = PyDict_Contains(dict, key);
    if (there > 0) there = PyDict_DelItem(dict, key);
    Py_DECREF(dict);
    return there;
}

/* The next place, unless the key has one. */
static int number(nodes_object *self, PyObject *places, PyObject *key)
{
    int there = PyDict_Contains(places, key);
    if (there) return there < 0 ? -1 : 0;
    PyObject *place = PyLong_FromSsize_t(self->next_place++);
    int failed = place ? PyDict_SetItem(places, key, place) : -1;
    Py_XDECREF(place);
    return failed;
}

static int put_place(nodes_object *self, PyObject *key)
{
    PyObject *places = Py_XNewRef(self->places);
    int failed = places ? number(self, places, key) : 0;
    Py_XDECREF(places);
    return failed;
}

static int note_id(nodes_object *self, PyObject *key)
{
    if (self->seen == NEVER) return 0;
    return take_out(self->odd, key) < 0 ? -1 : put_place(self, key);
}

static int note_put(nodes_object *self, PyObject *key, PyObject *node)
{
    if (self->seen == NEVER) return 0;
    const pn_module_state *state = state_of((PyObject *)self);
    if (state == NULL) return -1;
    if (pn_graph_has_id(state->graph_models, node, key)) return note_id(self, key);
    return note_odd(self, key) < 0 ? -1 : put_place(self, key);
}

static int note_gone(nodes_object *self, PyObject *key)
{
    return take_out(self->odd, key) < 0 ? -1 : take_out(self->places, key);
}

/* Looks at all nodes. */
static int look(nodes_object *self, const pn_module_state *state)
{
    PyObject *key, *node;
    Py_ssize_t pos = 0, size = PyDict_GET_SIZE(self);
    forget(self);
    self->seen = state->graph_renames;
    while (PyDict_Next((PyObject *)self, &pos, &key, &node)) {
        Py_INCREF(key); /* both may run code */
        Py_INCREF(node);
        int failed = pn_graph_has_id(state->graph_models, node, key) ? 0 : note_odd(self, key);
        Py_DECREF(node);
        Py_DECREF(key);
        if (failed) return -1;
        if (PyDict_GET_SIZE(self) != size) return PyErr_Format(PyExc_RuntimeError, "dictionary changed size"), -1;
    }
    return 0;
}

static PyObject *nodes_odd(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    nodes_object *self = (nodes_object *)op;
    const pn_module_state *state = state_of(op);
    if (state == NULL) return NULL;
    if (self->seen != state->graph_renames && forget_if(look(self, state), op)) return NULL;
    if (self->odd == NULL) self->odd = PyDict_New();
    return Py_XNewRef(self->odd);
}

static int number_all(nodes_object *self)
{
    PyObject *keys = PyDict_Keys((PyObject *)self), *places = PyDict_New();
    int failed = keys == NULL || places == NULL ? -1 : 0;
    Py_XSETREF(self->places, Py_XNewRef(places));
    self->next_place = 0;
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(keys); i++) failed = number(self, places, PyList_GET_ITEM(keys, i));
    bool ours = self->places == places;
    Py_XDECREF(places);
    Py_XDECREF(keys);
    if (!failed && !ours) return PyErr_Format(PyExc_RuntimeError, "dictionary changed while it was numbered"), -1;
    return failed;
}

static PyObject *nodes_places(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    nodes_object *self = (nodes_object *)op;
    if (self->places == NULL && forget_if(number_all(self), op)) return NULL;
    return Py_NewRef(self->places);
}

static PyObject *nodes_forget(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    forget((nodes_object *)op);
    Py_RETURN_NONE;
}

/* ---- the dict ---- */

static int assign(PyObject *op, PyObject *key, PyObject *node)
{
    int failed = node ? PyDict_SetItem(op, key, node) : PyDict_DelItem(op, key);
    if (failed) return failed;
    return forget_if(node ? note_put((nodes_object *)op, key, node) : note_gone((nodes_object *)op, key), op);
}

/* What goes is released when all is noted: that may run code which changes the dict. */
static int nodes_assign(PyObject *op, PyObject *key, PyObject *node)
{
    PyObject *old = Py_XNewRef(PyDict_GetItemWithError(op, key));
    int failed = old == NULL && PyErr_Occurred() ? -1 : assign(op, key, node);
    Py_XDECREF(old);
    return failed;
}

int pn_py_nodes_put(PyObject *op, PyObject *id, PyObject *node)
{
    PyObject *old = Py_XNewRef(PyDict_GetItemWithError(op, id));
    int failed = old == NULL && PyErr_Occurred() ? -1 : PyDict_SetItem(op, id, node);
    if (!failed) failed = forget_if(note_id((nodes_object *)op, id), op);
    Py_XDECREF(old);
    return failed;
}

static PyObject *nodes_pop(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
    if (n < 1 || n > 2) return PyErr_Format(PyExc_TypeError, "pop expected 1 or 2 arguments, got %zd", n);
    PyObject *node = Py_XNewRef(PyDict_GetItemWithError(op, args[0]));
    if (node == NULL && !PyErr_Occurred() && n == 2) return Py_NewRef(args[1]);
    if (node == NULL && PyErr_Occurred()) return NULL;
    if (nodes_assign(op, args[0], NULL) == 0) return node; /* KeyError without a node */
    Py_XDECREF(node);
    return NULL;
}

static PyObject *nodes_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *op = PyDict_Type.tp_new(type, args, kwargs);
    if (op != NULL) ((nodes_object *)op)->seen = NEVER;
    return op;
}

/* A dict without items is known from the start. */
static int nodes_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    const pn_module_state *state = state_of(op);
    if (state == NULL || PyDict_Type.tp_init(op, args, kwargs) < 0) return -1;
    forget((nodes_object *)op);
    if (PyDict_GET_SIZE(op) == 0) ((nodes_object *)op)->seen = state->graph_renames;
    return 0;
}

static int nodes_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((nodes_object *)op)->odd);
    Py_VISIT(((nodes_object *)op)->places);
    return PyDict_Type.tp_traverse(op, visit, arg);
}

static int nodes_clear(PyObject *op)
{
    forget((nodes_object *)op);
    return PyDict_Type.tp_clear(op);
}

static void nodes_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    forget((nodes_object *)op);
    PyDict_Type.tp_dealloc(op);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"pop", (PyCFunction)(void (*)(void))nodes_pop, METH_FASTCALL, "As dict.pop."},
    {"odd", nodes_odd, METH_NOARGS, "{key: None}: keys whose node may have any id. O(1), O(n) after a renaming."},
    {"places", nodes_places, METH_NOARGS, "{key: number}, in the order of the dict. O(1), O(n) the first time."},
    {"forget", nodes_forget, METH_NOARGS, "Call this after a change that dict's own methods make."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The nodes of a property graph: a dict that knows which keys are no ids."},
    {Py_tp_new, nodes_new},
    {Py_tp_init, nodes_init},
    {Py_tp_dealloc, nodes_dealloc},
    {Py_tp_traverse, nodes_traverse},
    {Py_tp_clear, nodes_clear},
    {Py_tp_methods, methods},
    {Py_mp_ass_subscript, nodes_assign},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pannier._core.NodeIndex",
    .basicsize = sizeof(nodes_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int pn_py_add_graph_nodes(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    PyObject *bases = PyTuple_Pack(1, &PyDict_Type);
    if (bases != NULL) state->nodes_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, bases);
    Py_XDECREF(bases);
    return state->nodes_type ? PyModule_AddType(module, state->nodes_type) : -1;
}
