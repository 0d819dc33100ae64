/* module.c: the extension module pannier._core: its state, and nothing else. */
#include "py/module.h"
#include "py/json_decode.h"
#include "py/node_decode.h"

#include "codec/number.h"

PyObject *pn_type_module(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030b0000
    return PyType_GetModuleByDef(type, &pn_module_def);
#else
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *t = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (!(t->tp_flags & Py_TPFLAGS_HEAPTYPE)) continue;
        PyObject *m = ((PyHeapTypeObject *)t)->ht_module;
        if (m != NULL && PyModule_GetDef(m) == &pn_module_def) return m;
    }
    PyErr_SetString(PyExc_TypeError, "the type does not belong to pannier._core");
    return NULL;
#endif
}

static int module_exec(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    PyObject *json = PyImport_ImportModule("json");
    if (json == NULL) return -1;
    state->json_dumps = PyObject_GetAttrString(json, "dumps");
    state->json_loads = PyObject_GetAttrString(json, "loads");
    Py_DECREF(json);
    if (state->json_dumps == NULL || state->json_loads == NULL) return -1;
    state->errors = PyImport_ImportModule("pannier.errors");
    if (state->errors == NULL) return -1;
    if (PyModule_AddStringConstant(module, "number_backend", pn_number_backend()) < 0) return -1;

    int (*const parts[])(PyObject *) = {
        pn_py_add_text,        pn_py_add_json, pn_py_add_kv,       pn_py_add_nodes,
        pn_py_add_node_decode, pn_py_add_docs, pn_py_add_snapshot, pn_py_add_structs,
        pn_py_add_vector,      pn_py_add_graph, pn_py_add_files,   pn_py_add_registry,
        pn_py_add_pool,        pn_py_add_doc_reads, pn_py_add_doc_methods,
        pn_py_add_graph_models, pn_py_add_graph_nodes, pn_py_add_graph_triplets,
        pn_py_add_graph_property, pn_py_add_graph_search, pn_py_add_graph_encode, pn_py_add_graph_decode,
        pn_py_add_pack,        pn_py_add_pack_batch, pn_py_add_pack_upkeep, pn_py_add_vector_methods,
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i](module) < 0) return -1;
    return 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    pn_module_state *state = pn_state_of(module);
    Py_VISIT(state->kv_type);
    Py_VISIT(state->vector_type);
    Py_VISIT(state->graph_type);
    Py_VISIT(state->graph_part_type);
    Py_VISIT(state->graph_data_type);
    Py_VISIT(state->graph_view_type);
    Py_VISIT(state->graph_by_hand);
    Py_VISIT(state->graph_data_name);
    Py_VISIT(state->nodes_type);
    Py_VISIT(state->triplets_type);
    Py_VISIT(state->text_type);
    Py_VISIT(state->snapshot_type);
    Py_VISIT(state->json_dumps);
    Py_VISIT(state->json_loads);
    Py_VISIT(state->errors);
    Py_VISIT(state->node_plans);
    Py_VISIT(state->node_types);
    Py_VISIT(state->node_names);
    Py_VISIT(state->doc_methods);
    int stop = pn_doc_classes_traverse(state->doc_classes, visit, arg);
    if (!stop) stop = pn_graph_models_traverse(state->graph_models, visit, arg);
    if (!stop) stop = pn_property_classes_traverse(state->property_classes, visit, arg);
    if (stop == 0) stop = pn_vector_classes_traverse(state->vector_classes, visit, arg);
    return stop ? stop : pn_node_readers_traverse(state->node_readers, visit, arg);
}

static int module_clear(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    Py_CLEAR(state->kv_type);
    Py_CLEAR(state->vector_type);
    Py_CLEAR(state->graph_type);
    Py_CLEAR(state->graph_part_type);
    Py_CLEAR(state->graph_data_type);
    Py_CLEAR(state->graph_view_type);
    Py_CLEAR(state->graph_by_hand);
    Py_CLEAR(state->graph_data_name);
    Py_CLEAR(state->nodes_type);
    Py_CLEAR(state->triplets_type);
    Py_CLEAR(state->text_type);
    Py_CLEAR(state->snapshot_type);
    Py_CLEAR(state->json_dumps);
    Py_CLEAR(state->json_loads);
    Py_CLEAR(state->errors);
    Py_CLEAR(state->node_plans);
    Py_CLEAR(state->node_types);
    Py_CLEAR(state->node_names);
    if (state->keys != NULL) pn_key_cache_clear(state->keys);
    pn_node_readers *readers = state->node_readers;
    state->node_readers = NULL;
    pn_node_readers_free(readers);
    pn_doc_classes *classes = state->doc_classes;
    state->doc_classes = NULL;
    pn_doc_classes_free(classes);
    pn_graph_models *models = state->graph_models;
    state->graph_models = NULL;
    pn_graph_models_free(models);
    pn_property_classes *property_classes = state->property_classes;
    state->property_classes = NULL;
    pn_property_classes_free(property_classes);
    pn_vector_classes *vector_classes = state->vector_classes;
    state->vector_classes = NULL;
    pn_vector_classes_free(vector_classes);
    Py_CLEAR(state->doc_methods);
    return 0;
}

static void module_free(void *module)
{
    module_clear((PyObject *)module);
    pn_alloc_put(&pn_alloc_system, pn_state_of(module)->keys); /* not before: tables point at it */
}

int pn_py_own_methods(PyTypeObject *cls, PyMethodDef *methods)
{
    for (; methods->ml_name != NULL; methods++) {
        PyObject *method = PyDescr_NewMethod(cls, methods);
        int failed = method ? PyObject_SetAttrString((PyObject *)cls, methods->ml_name, method) : -1;
        Py_XDECREF(method);
        if (failed) return -1;
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

struct PyModuleDef pn_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pannier._core",
    .m_doc = "The C core of pannier. Use the classes of the package pannier instead.",
    .m_size = sizeof(pn_module_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&pn_module_def); }
