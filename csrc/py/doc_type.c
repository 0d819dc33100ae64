/* doc_type.c: DocMethods, the document stores' methods that a pipeline calls all the time.
 *
 * A type without state of its own that stands in front of the Python classes' other bases.
 * Each method does the work itself when all is as it usually is: the object is exactly one
 * of the classes that set_doc_classes named, no method has been replaced on the class or the
 * object, the key-value store is exactly pannier's, as it was made, and native. Otherwise, and for
 * arguments of another form, the next method of that name is called, as super() would,
 * with the very same arguments: the peer's, with its results and errors.
 *
 *     set_doc_classes((class, ...), key-value store's class, RefDocInfo or None, watches)
 *
 * RefDocInfo: the class if its instances are made by setting node_ids and metadata, else
 * None; watches: one for each class and one for RefDocInfo (node_watch.h).
 */
#include "py/doc_py.h"
#include "py/kv_type.h"
#include "py/node_watch.h"

enum { CLASSES = 2, FIELDS = 9 }; /* attributes of an object as it is made */

typedef enum name_index {
    NAME_KVSTORE,
    NAME_NODES,
    NAME_METADATA,
    NAME_REFS,
    NAME_GET_NODE,
    NAME_DELETE_DOCUMENT,
    NAME_DELETE,
    NAME_RAISE_ERROR,
    NAME_NODE_IDS,
    NAME_INFO_METADATA,
    NAMES
} name_index;

static const char *const name_texts[NAMES] = {
    "_kvstore",     "_node_collection", "_metadata_collection", "_ref_doc_collection",
    "get_node", "delete_document",  "delete",               "raise_error",         "node_ids", "metadata",
};

struct pn_doc_classes {
    PyObject *owner; /* what set_doc_classes got; the rest is borrowed from it */
    PyTypeObject *classes[CLASSES], *kvstore, *info;
    PyObject *watches[CLASSES + 1];
    pn_watch_memo memos[CLASSES + 1];
    PyObject *names[NAMES];
};

/* A call that has the usual form. */
typedef struct {
    pn_module_state *state;
    PyObject *self, *dict; /* the instance's; borrowed */
    PyObject *table;       /* held */
    PyObject *first, *second; /* arguments, second may be NULL */
} doc_call;

typedef struct {
    const char *name, *first, *second; /* second NULL: takes one argument; "" : takes none */
    bool optional;                     /* the second */
    PyObject *(*run)(doc_call *c);     /* NotImplemented: the next method */
} doc_method;

static PyObject *not_implemented(void) { return Py_NewRef(Py_NotImplemented); }

/* ---- the form of a call ---- */

static int which_class(const pn_doc_classes *d, PyTypeObject *type)
{
    for (int i = 0; i < CLASSES; i++)
        if (d->classes[i] == type) return i;
    return -1;
}

static bool takes(PyObject *kw, const char *name) { return name != NULL && PyUnicode_CompareWithASCIIString(kw, name) == 0; }

static bool parse(const doc_method *m, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, doc_call *c)
{
    PyObject **slots[] = {&c->first, &c->second};
    Py_ssize_t most = m->first == NULL ? 0 : m->second == NULL ? 1 : 2;
    if (nargs > most) return false;
    for (Py_ssize_t i = 0; i < nargs; i++) *slots[i] = args[i];
    for (Py_ssize_t k = 0; kwnames != NULL && k < PyTuple_GET_SIZE(kwnames); k++) {
        PyObject *kw = PyTuple_GET_ITEM(kwnames, k);
        PyObject **slot = takes(kw, m->first) ? &c->first : takes(kw, m->second) ? &c->second : NULL;
        if (slot == NULL || *slot != NULL) return false;
        *slot = args[nargs + k];
    }
    return (most < 1 || c->first != NULL) && (most < 2 || m->optional || c->second != NULL);
}

static PyObject *attribute(const doc_call *c, name_index name)
{
    return PyDict_GetItemWithError(c->dict, c->state->doc_classes->names[name]);
}

/* Holds the key-value store. False without an exception: not the usual form. */
static bool begin(doc_call *c)
{
    pn_doc_classes *d = c->state->doc_classes;
    int i = d ? which_class(d, Py_TYPE(c->self)) : -1;
    if (i < 0 || !pn_watch_still_holds(d->watches[i], &d->memos[i])) return false;
    c->dict = PyObject_GenericGetDict(c->self, NULL);
    if (c->dict == NULL) return false;
    Py_DECREF(c->dict); /* the object holds it */
    if (pn_instance_hides(c->dict, Py_TYPE(c->self), FIELDS)) return false;
    PyObject *table = attribute(c, NAME_KVSTORE);
    if (table == NULL || !Py_IS_TYPE(table, d->kvstore)) return false;
    c->table = Py_NewRef(table);
    return true;
}

/* super(DocMethods, self).name(*args, **kwargs) */
static PyObject *call_next(pn_module_state *state, const doc_method *m, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames)
{
    PyObject *next = PyObject_CallFunctionObjArgs((PyObject *)&PySuper_Type, (PyObject *)state->doc_methods, self, NULL);
    PyObject *method = next ? PyObject_GetAttrString(next, m->name) : NULL;
    PyObject *result = method ? PyObject_Vectorcall(method, args, (size_t)nargs, kwnames) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(next);
    return result;
}

static PyObject *run(const doc_method *m, PyObject *self, PyTypeObject *cls, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    doc_call c = {.state = PyType_GetModuleState(cls), .self = self};
    PyObject *result = NULL;
    if (parse(m, args, nargs, kwnames, &c) && begin(&c)) {
        result = m->run(&c);
        Py_DECREF(c.table);
        if (result != Py_NotImplemented) return result;
        Py_DECREF(result);
    }
    if (PyErr_Occurred()) return NULL;
    return call_next(c.state, m, self, args, nargs, kwnames);
}

/* For the methods in Python: whether those here would work on the table. */
static PyObject *doc__fast(PyObject *self, PyTypeObject *cls, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    (void)args;
    if (nargs || kwnames) return PyErr_Format(PyExc_TypeError, "_fast() takes no arguments");
    doc_call c = {.state = PyType_GetModuleState(cls), .self = self};
    bool usual = begin(&c) && pn_py_kv_untouched(c.state, c.table);
    Py_XDECREF(c.table);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(usual);
}

/* ---- the methods ---- */

typedef PyObject *(*of_one)(pn_module_state *state, PyObject *table, PyObject *name, PyObject *id);

/* What a function of doc_py.h gives for the collection and the first argument, both held. */
static PyObject *call_with(doc_call *c, name_index collection, of_one function)
{
    PyObject *name = Py_XNewRef(attribute(c, collection));
    if (name == NULL) return PyErr_Occurred() ? NULL : not_implemented();
    PyObject *result = function(c->state, c->table, name, c->first);
    Py_DECREF(name);
    return result;
}

static PyObject *run_get_document(doc_call *c)
{
    if (c->second != NULL && !PyBool_Check(c->second)) return not_implemented();
    PyObject *node = call_with(c, NAME_NODES, pn_py_doc_node);
    if (node != Py_None || c->second == Py_False) return node;
    Py_DECREF(node);
    return not_implemented(); /* the peer knows what to say */
}

static PyObject *run_get_node(doc_call *c)
{
    return run_get_document(c);
}

static PyObject *run_get_nodes(doc_call *c)
{
    if (!PyList_CheckExact(c->first)) return not_implemented();
    PyObject *name = Py_XNewRef(attribute(c, NAME_NODES)), *ids = Py_NewRef(c->first);
    PyObject *get = c->state->doc_classes->names[NAME_GET_NODE];
    PyObject *nodes = name ? pn_py_doc_nodes(c->state, c->table, name, ids, c->self, get) : not_implemented();
    Py_DECREF(ids);
    Py_XDECREF(name);
    return nodes;
}

static PyObject *exists(pn_module_state *state, PyObject *table, PyObject *name, PyObject *id)
{
    pn_coll *coll;
    pn_cell *cell;
    if (!pn_py_doc_find(state, table, name, id, &coll, &cell)) return PyErr_Occurred() ? NULL : not_implemented();
    return PyBool_FromLong(cell != NULL);
}

static PyObject *run_document_exists(doc_call *c) { return call_with(c, NAME_NODES, exists); }

static PyObject *hash_of(pn_module_state *state, PyObject *table, PyObject *name, PyObject *id)
{
    return pn_py_doc_meta(state, table, name, id, "doc_hash");
}

static PyObject *run_get_document_hash(doc_call *c) { return call_with(c, NAME_METADATA, hash_of); }

static PyObject *run_set_document_hashes(doc_call *c) { return call_with(c, NAME_METADATA, pn_py_doc_set_hashes); }

static PyObject *run_set_document_hash(doc_call *c)
{
    PyObject *name = Py_XNewRef(attribute(c, NAME_METADATA));
    if (name == NULL) return PyErr_Occurred() ? NULL : not_implemented();
    PyObject *result = pn_py_doc_set_hash(c->state, c->table, name, c->first, c->second);
    Py_DECREF(name);
    return result;
}

static PyObject *all_hashes(pn_module_state *state, PyObject *table, PyObject *name, PyObject *unused)
{
    (void)unused;
    return pn_py_doc_hashes(state, table, name);
}

static PyObject *run_get_all_document_hashes(doc_call *c) { return call_with(c, NAME_METADATA, all_hashes); }

/* A RefDocInfo, as its class's own call makes it. */
static PyObject *ref_doc_info(pn_module_state *state, PyObject *ids, PyObject *metadata)
{
    const pn_doc_classes *d = state->doc_classes;
    PyObject *info = d->info->tp_alloc(d->info, 0);
    if (info != NULL && (PyObject_GenericSetAttr(info, d->names[NAME_NODE_IDS], ids) < 0 ||
                         PyObject_GenericSetAttr(info, d->names[NAME_INFO_METADATA], metadata) < 0))
        Py_CLEAR(info);
    return info;
}

static bool infos_are_plain(doc_call *c)
{
    pn_doc_classes *d = c->state->doc_classes;
    return d->info != NULL && pn_watch_still_holds(d->watches[CLASSES], &d->memos[CLASSES]);
}

static PyObject *one_info(pn_module_state *state, PyObject *table, PyObject *name, PyObject *id)
{
    return pn_py_doc_ref_info(state, table, name, id, ref_doc_info);
}

static PyObject *run_get_ref_doc_info(doc_call *c)
{
    return infos_are_plain(c) ? call_with(c, NAME_REFS, one_info) : not_implemented();
}

static PyObject *all_infos(pn_module_state *state, PyObject *table, PyObject *name, PyObject *unused)
{
    (void)unused;
    return pn_py_doc_ref_infos(state, table, name, ref_doc_info);
}

static PyObject *run_get_all_ref_doc_info(doc_call *c)
{
    return infos_are_plain(c) ? call_with(c, NAME_REFS, all_infos) : not_implemented();
}

static PyObject *run_ref_doc_exists(doc_call *c)
{
    if (!infos_are_plain(c)) return not_implemented();
    return call_with(c, NAME_REFS, pn_py_doc_ref_exists);
}

/* Runs with the names of the three collections held. */
static PyObject *with_names(doc_call *c, PyObject *(*run)(doc_call *c, PyObject *const names[3]))
{
    PyObject *names[3] = {NULL, NULL, NULL};
    if (c->second != NULL && !PyBool_Check(c->second)) return not_implemented();
    bool usual = true;
    for (int i = 0; i < 3; i++) {
        names[i] = Py_XNewRef(attribute(c, NAME_NODES + i));
        usual = usual && names[i] != NULL && PyUnicode_CheckExact(names[i]);
    }
    PyObject *result = usual ? run(c, names) : PyErr_Occurred() ? NULL : not_implemented();
    for (int i = 0; i < 3; i++) Py_XDECREF(names[i]);
    return result;
}

static PyObject *delete_held(doc_call *c, PyObject *const names[3])
{
    PyObject *existed = pn_py_doc_delete(c->state, c->table, names, c->first);
    if (existed == NULL || existed == Py_NotImplemented) return existed;
    bool fails = existed == Py_False && c->second != Py_False;
    Py_DECREF(existed);
    return fails ? PyErr_Format(PyExc_ValueError, "doc_id %U not found.", c->first) : Py_NewRef(Py_None);
}

static PyObject *run_delete_document(doc_call *c)
{
    return with_names(c, delete_held);
}

/* delete_document(id, raise_error=False) of a node that is listed. */
static bool delete_listed(doc_call *c, PyObject *const names[3], PyObject *id)
{
    PyObject *done = pn_py_doc_delete(c->state, c->table, names, id);
    if (done == Py_NotImplemented) {
        PyObject *method = c->state->doc_classes->names[NAME_DELETE_DOCUMENT];
        Py_SETREF(done, PyObject_CallMethodObjArgs(c->self, method, id, Py_False, NULL));
    }
    Py_XDECREF(done);
    return done != NULL;
}

/* What of the source itself is left, as a rule nothing. */
static bool delete_rest(doc_call *c, PyObject *const names[3])
{
    static const int order[] = {2, 1, 0};
    for (int i = 0; i < 3; i++) {
        PyObject *method = c->state->doc_classes->names[NAME_DELETE];
        PyObject *done = PyObject_CallMethodObjArgs(c->table, method, c->first, names[order[i]], NULL);
        Py_XDECREF(done);
        if (done == NULL) return false;
    }
    return true;
}

static PyObject *delete_source(doc_call *c, PyObject *const names[3])
{
    PyObject *ids = pn_py_doc_ref_ids(c->state, c->table, names[2], c->first);
    if (ids == NULL || ids == Py_NotImplemented) return ids;
    if (ids == Py_None) Py_SETREF(ids, not_implemented()); /* the peer knows what to say */
    if (!PyList_Check(ids)) return ids;
    bool ok = true;
    for (Py_ssize_t i = 0; ok && i < PyList_GET_SIZE(ids); i++) ok = delete_listed(c, names, PyList_GET_ITEM(ids, i));
    Py_DECREF(ids);
    return ok && delete_rest(c, names) ? Py_NewRef(Py_None) : NULL;
}

static PyObject *run_delete_ref_doc(doc_call *c)
{
    if (!infos_are_plain(c)) return not_implemented();
    PyObject *held = Py_NewRef(c->first), *result = with_names(c, delete_source);
    Py_DECREF(held);
    return result;
}

static PyObject *run_to_dict(doc_call *c)
{
    return pn_py_kv_untouched(c->state, c->table) ? pn_py_kv_to_dict(c->table) : not_implemented();
}

#define METHOD(NAME, FIRST, SECOND, OPTIONAL)                                                                         \
    static PyObject *doc_##NAME(PyObject *self, PyTypeObject *cls, PyObject *const *args, Py_ssize_t nargs, PyObject *kw) \
    {                                                                                                                 \
        static const doc_method m = {#NAME, FIRST, SECOND, OPTIONAL, run_##NAME};                                     \
        return run(&m, self, cls, args, nargs, kw);                                                                   \
    }

METHOD(get_document, "doc_id", "raise_error", true)
METHOD(get_node, "node_id", "raise_error", true)
METHOD(get_nodes, "node_ids", "raise_error", true)
METHOD(document_exists, "doc_id", NULL, false)
METHOD(get_document_hash, "doc_id", NULL, false)
METHOD(set_document_hash, "doc_id", "doc_hash", false)
METHOD(set_document_hashes, "doc_hashes", NULL, false)
METHOD(get_all_document_hashes, NULL, NULL, false)
METHOD(get_ref_doc_info, "ref_doc_id", NULL, false)
METHOD(get_all_ref_doc_info, NULL, NULL, false)
METHOD(ref_doc_exists, "ref_doc_id", NULL, false)
METHOD(delete_document, "doc_id", "raise_error", true)
METHOD(delete_ref_doc, "ref_doc_id", "raise_error", true)
METHOD(to_dict, NULL, NULL, false)

#define ENTRY(NAME, DOC) {#NAME, (PyCFunction)(void (*)(void))doc_##NAME, METH_METHOD | METH_FASTCALL | METH_KEYWORDS, DOC}

static PyMethodDef doc_methods[] = {
    ENTRY(_fast, "_fast($self)\n--\n\nWhether all is as usual, so that fast ways apply."),
    ENTRY(get_document, "get_document($self, doc_id, raise_error=True)\n--\n\n"
                        "The node with that id.\n\nRaises:\n    ValueError: \"doc_id X not found.\" unless raise_error is "
                        "False (then None)."),
    ENTRY(get_node, "get_node($self, node_id, raise_error=True)\n--\n\n"
                    "The node with that id.\n\nRaises:\n    ValueError: \"doc_id X not found.\" unless raise_error is False "
                    "(then None);\n        what stands there is no node."),
    ENTRY(get_nodes, "get_nodes($self, node_ids, raise_error=True)\n--\n\n"
                     "The nodes with those ids, in that order.\n\nRaises:\n    ValueError: \"doc_id X not found.\" unless "
                     "raise_error is False: then there\n        are only those that exist."),
    ENTRY(document_exists, "document_exists($self, doc_id)\n--\n\nWhether there is a node with that id."),
    ENTRY(get_document_hash, "get_document_hash($self, doc_id)\n--\n\nThe stored hash of a document, or None."),
    ENTRY(set_document_hash, "set_document_hash($self, doc_id, doc_hash)\n--\n\n"
                             "Stores the hash of a document (replacing its metadata entry, as the peer does)."),
    ENTRY(set_document_hashes, "set_document_hashes($self, doc_hashes)\n--\n\n"
                               "set_document_hash of each id and hash of a dictionary."),
    ENTRY(get_all_document_hashes, "get_all_document_hashes($self)\n--\n\n"
                                   "{hash: document id}; of several documents with one hash, the last."),
    ENTRY(get_ref_doc_info, "get_ref_doc_info($self, ref_doc_id)\n--\n\n"
                            "The ids of the nodes that came from a source document, and its metadata.\n\n"
                            "Returns:\n    RefDocInfo | None: node_ids is a copy (the peer's is the stored list)."),
    ENTRY(get_all_ref_doc_info, "get_all_ref_doc_info($self)\n--\n\n{ref_doc_id: RefDocInfo} of all source documents."),
    ENTRY(ref_doc_exists, "ref_doc_exists($self, ref_doc_id)\n--\n\nWhether nodes of that source document are there."),
    ENTRY(delete_document, "delete_document($self, doc_id, raise_error=True)\n--\n\n"
                           "Deletes a node; its source's info goes with the last of its nodes.\n\n"
                           "Raises:\n    ValueError: \"doc_id X not found.\" unless raise_error is False."),
    ENTRY(delete_ref_doc, "delete_ref_doc($self, ref_doc_id, raise_error=True)\n--\n\n"
                          "Deletes a source document and all its nodes.\n\n"
                          "Raises:\n    ValueError: \"ref_doc_id X not found.\" unless raise_error is False."),
    {NULL, NULL, 0, NULL},
};

/* Not in the type, since only one of the classes has it: simple_to_dict of the module. */
static PyMethodDef to_dict_method =
    ENTRY(to_dict, "to_dict($self)\n--\n\nThe collections as a dict of dicts, as SimpleKVStore.to_dict.");

static PyType_Slot doc_slots[] = {
    {Py_tp_doc, "Methods of the document stores that do without Python code where all is as usual."},
    {Py_tp_methods, doc_methods},
    {0, NULL},
};

static PyType_Spec doc_spec = {
    .name = "pannier._core.DocMethods",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = doc_slots,
};

/* ---- the classes ---- */

void pn_doc_classes_free(pn_doc_classes *d)
{
    if (d == NULL) return;
    for (int i = 0; i < NAMES; i++) Py_XDECREF(d->names[i]);
    Py_XDECREF(d->owner);
    pn_alloc_put(&pn_alloc_system, d);
}

int pn_doc_classes_traverse(pn_doc_classes *d, visitproc visit, void *arg)
{
    if (d != NULL) Py_VISIT(d->owner);
    return 0;
}

static bool take_classes(pn_doc_classes *d)
{
    PyObject *info, *watches;
    if (!PyArg_ParseTuple(d->owner, "(O!O!)O!OO!", &PyType_Type, &d->classes[0], &PyType_Type, &d->classes[1], &PyType_Type,
                          &d->kvstore, &info, &PyTuple_Type, &watches))
        return false;
    d->info = PyType_Check(info) ? (PyTypeObject *)info : NULL;
    if (PyTuple_GET_SIZE(watches) != CLASSES + 1) return PyErr_SetString(PyExc_TypeError, "a watch for each class is needed"), false;
    for (int i = 0; i <= CLASSES; i++) {
        d->watches[i] = PyTuple_GET_ITEM(watches, i);
        if (!pn_watch_check(d->watches[i])) return false;
    }
    for (int i = 0; i < NAMES; i++)
        if ((d->names[i] = PyUnicode_InternFromString(name_texts[i])) == NULL) return false;
    return true;
}

static PyObject *set_doc_classes(PyObject *module, PyObject *args)
{
    pn_module_state *state = pn_state_of(module);
    if (state->doc_classes != NULL) return PyErr_Format(PyExc_RuntimeError, "the classes are set once");
    pn_doc_classes *d = pn_alloc_zero(&pn_alloc_system, 1, sizeof *d);
    if (d == NULL) return PyErr_NoMemory();
    d->owner = Py_NewRef(args);
    if (!take_classes(d)) {
        pn_doc_classes_free(d);
        return NULL;
    }
    state->doc_classes = d;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"set_doc_classes", set_doc_classes, METH_VARARGS,
     "set_doc_classes((class, class), key-value store's class, RefDocInfo or None, (watch, watch, watch))"},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_doc_methods(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    state->doc_methods = (PyTypeObject *)PyType_FromModuleAndSpec(module, &doc_spec, NULL);
    if (state->doc_methods == NULL || PyModule_AddFunctions(module, functions) < 0) return -1;
    PyObject *method = PyDescr_NewMethod(state->doc_methods, &to_dict_method);
    int failed = method == NULL || PyModule_AddObjectRef(module, "simple_to_dict", method) < 0;
    Py_XDECREF(method);
    return failed ? -1 : PyModule_AddType(module, state->doc_methods);
}
