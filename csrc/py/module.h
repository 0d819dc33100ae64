/* module.h: what the files of the binding share.
 *
 * Multi-phase init, heap types, all state in the module. Each file of the binding
 * that defines a type or functions has one entry point, pn_py_add_<name>(module),
 * called once from module.c. No algorithm lives in the binding.
 */
#ifndef PN_PY_MODULE_H
#define PN_PY_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/blob.h"

typedef struct pn_node_readers pn_node_readers; /* node_decode.h */
typedef struct pn_doc_classes pn_doc_classes;   /* doc_type.c */
typedef struct pn_graph_models pn_graph_models; /* graph_models.h */
typedef struct pn_vector_classes pn_vector_classes; /* vector_methods.c */
typedef struct pn_property_classes pn_property_classes; /* graph_property.c */

typedef struct pn_module_state {
    PyTypeObject *kv_type;
    unsigned kv_own_tag; /* of the class last found to have kv_type's methods, see kv_state.c */
    PyTypeObject *vector_type;
    PyTypeObject *graph_type;
    PyTypeObject *graph_part_type;
    PyTypeObject *graph_data_type; /* and the next three: what graph_classes() was given */
    PyTypeObject *graph_view_type;
    PyObject *graph_by_hand;
    int graph_inner_limit;
    PyObject *graph_data_name;     /* "_data" */
    PyTypeObject *nodes_type;      /* NodeIndex */
    PyTypeObject *triplets_type;   /* TripletIndex */
    pn_property_classes *property_classes; /* what PropertyMethods was told of, or NULL */
    pn_graph_models *graph_models; /* of a property graph, or NULL */
    Py_ssize_t graph_renames;      /* how often a node of one may have got another id */
    PyTypeObject *text_type;
    PyTypeObject *snapshot_type;
    struct pn_key_cache *keys; /* of values that are decoded, see json_decode.h */
    PyObject *json_dumps;  /* json.dumps */
    PyObject *json_loads;  /* json.loads */
    PyObject *errors;      /* the module pannier.errors */
    PyObject *node_plans;  /* {node class: plan}, see node_encode.h */
    PyObject *node_types;  /* the peer's helper classes, see node_encode.h */
    PyObject *node_names;  /* interned names, see node_encode.h */
    pn_node_readers *node_readers;
    PyTypeObject *doc_methods;   /* DocMethods */
    pn_doc_classes *doc_classes; /* what it was told of, or NULL */
    pn_vector_classes *vector_classes; /* what VectorMethods was told of, or NULL */
} pn_module_state;

extern struct PyModuleDef pn_module_def;

static inline pn_module_state *pn_state_of(PyObject *module)
{
    return (pn_module_state *)PyModule_GetState(module);
}
/* PyType_GetModuleByDef came with 3.11; 3.10 walks the MRO by hand. Borrowed. */
PyObject *pn_type_module(PyTypeObject *type);
/* The state that the type's module holds (the type must come from this module). */
static inline pn_module_state *pn_state_of_type(PyTypeObject *type)
{
    PyObject *m = pn_type_module(type);
    return m ? pn_state_of(m) : NULL;
}

/* Makes the methods of a base the class's own as well. CPython calls a C method directly, from code
 * that ran a few times, only for an object of the very class that the method belongs to. */
int pn_py_own_methods(PyTypeObject *cls, PyMethodDef *methods);

int pn_py_add_json(PyObject *module);     /* json_decode.c: encode and decode, for tests */
int pn_py_add_kv(PyObject *module);       /* kv_type.c: KVTable */
int pn_py_add_nodes(PyObject *module);    /* node_encode.c: node objects to text */
int pn_py_add_node_decode(PyObject *module); /* node_decode.c: text to node objects */
int pn_py_add_docs(PyObject *module);     /* doc_py.c: document store operations that change */
int pn_py_add_doc_reads(PyObject *module); /* doc_read.c: those that read */
int pn_py_add_doc_methods(PyObject *module); /* doc_type.c: DocMethods */
void pn_doc_classes_free(pn_doc_classes *classes);
int pn_doc_classes_traverse(pn_doc_classes *classes, visitproc visit, void *arg);
int pn_py_add_snapshot(PyObject *module); /* snapshot_type.c: Snapshot */
int pn_py_add_structs(PyObject *module);  /* index_py.c: index struct operations */
int pn_py_add_pool(PyObject *module);     /* pool_py.c: threads, the kernel */
int pn_py_add_vector(PyObject *module);   /* vector_type.c: VectorTable */
int pn_py_add_vector_methods(PyObject *module); /* vector_methods.c: VectorMethods */
void pn_vector_classes_free(pn_vector_classes *classes);
int pn_vector_classes_traverse(pn_vector_classes *classes, visitproc visit, void *arg);
int pn_py_add_graph(PyObject *module);    /* graph_type.c: TripletTable */
int pn_py_add_graph_models(PyObject *module); /* graph_models.c: the classes of a property graph */
void pn_graph_models_free(pn_graph_models *models);
int pn_graph_models_traverse(pn_graph_models *models, visitproc visit, void *arg);
int pn_py_add_graph_nodes(PyObject *module); /* graph_nodes.c: NodeIndex */
int pn_py_add_graph_triplets(PyObject *module); /* graph_triplets.c: TripletIndex */
int pn_py_add_graph_property(PyObject *module); /* graph_property.c: PropertyMethods */
void pn_property_classes_free(pn_property_classes *classes);
int pn_property_classes_traverse(pn_property_classes *classes, visitproc visit, void *arg);
int pn_py_add_graph_search(PyObject *module); /* graph_search.c: triplets by label */
int pn_py_add_graph_encode(PyObject *module); /* graph_encode.c: a property graph to text */
int pn_py_add_graph_decode(PyObject *module); /* graph_decode.c: and back */
int pn_py_add_files(PyObject *module);    /* files_py.c: commit, recover, read */
int pn_py_add_pack(PyObject *module);     /* pack_type.c: Pack, reading one */
int pn_py_add_pack_batch(PyObject *module); /* pack_batch.c: PackBatch, writing one */
int pn_py_add_pack_upkeep(PyObject *module); /* pack_upkeep_py.c: what works on a directory alone */
int pn_py_add_registry(PyObject *module); /* registry_py.c */

/* KeyError(key) also for a tuple or None, which PyErr_SetObject takes for its arguments. raise.c. */
void pn_py_raise_key(PyObject *key);

/* Raises pannier.errors.CorruptPackError for the place err->offset of a pack's file; returns
 * NULL. Without a state the module is looked up. raise.c. */
PyObject *pn_py_raise_damaged(pn_module_state *state, const char *path, const pn_error *err);

/* Text: an immutable run of bytes owned by the core, with the buffer protocol (so
 * it can be written, hashed or turned into bytes without a copy). text_type.c. */
int pn_py_add_text(PyObject *module);
/* A new Text that takes buf's memory. NULL with an exception set. */
PyObject *pn_py_text(pn_module_state *state, pn_buf *buf);
/* The bytes of a Text (shared) or of any bytes-like object (copied); one reference
 * for the caller, or NULL with an exception set. */
pn_blob *pn_py_blob(pn_module_state *state, PyObject *bytes_like);

#endif
