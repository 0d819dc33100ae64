/* graph_models.h: what the core knows of the classes that a property graph is made of.
 *
 *     graph_models((EntityNode, ChunkNode, Relation),
 *                  (descriptors of __pydantic_fields_set__, _extra_, _private_), watch)
 *
 * is called by pannier._graphtext, after it has seen that the installed classes
 * have the fields and ids that are spelt out here (a model's order of fields is that of
 * pn_graph_fields_of). While the watch (node_watch.h) does not hold, nothing is read, written
 * or put into a graph natively. node_renamed() says that what an id is made of was assigned to,
 * on some node in the process.
 *
 * Nothing in this header runs Python code, but for keys that somebody put into a model's own
 * __dict__ and that are no str.
 */
#ifndef PN_PY_GRAPH_MODELS_H
#define PN_PY_GRAPH_MODELS_H

#include "py/node_watch.h"

typedef enum pn_graph_kind { PN_GRAPH_ENTITY, PN_GRAPH_CHUNK, PN_GRAPH_RELATION, PN_GRAPH_KINDS } pn_graph_kind;

typedef enum pn_graph_field {
    PN_GRAPH_LABEL, PN_GRAPH_EMBEDDING, PN_GRAPH_PROPERTIES, PN_GRAPH_NAME,
    PN_GRAPH_TEXT, PN_GRAPH_ID, PN_GRAPH_SOURCE, PN_GRAPH_TARGET, PN_GRAPH_NAMES,
} pn_graph_field;

/* The fields of a class in its order. */
enum { PN_GRAPH_MOST = 5 };
typedef struct pn_graph_fields {
    int count;
    pn_graph_field of[PN_GRAPH_MOST];
} pn_graph_fields;
extern const pn_graph_fields pn_graph_fields_of[PN_GRAPH_KINDS];
extern const char *const pn_graph_name_text[PN_GRAPH_NAMES];

struct pn_graph_models {
    PyTypeObject *type[PN_GRAPH_KINDS];
    PyObject *full_set[PN_GRAPH_KINDS]; /* to be copied; NULL: made anew each time */
    PyObject *slot[3];                /* descriptors: fields_set, extra, private */
    PyObject *name[PN_GRAPH_NAMES];   /* interned */
    PyObject *watch;
    pn_watch_memo memo;
};

/* The class of an object: PN_GRAPH_KINDS when it is none of them (or none are known). */
pn_graph_kind pn_graph_kind_of(const pn_graph_models *models, const PyObject *object);

/* Whether the classes are known and still what they were. */
bool pn_graph_models_hold(pn_graph_models *models);

/* The instance dict of a model, a new reference; NULL, no exception, if there is none. */
PyObject *pn_graph_dict_of(PyObject *object);

/* The value of a field, a new reference; NULL when there is none, or with an exception. The
 * caller holds the object: a key in its dict may run code when it is compared. */
PyObject *pn_graph_value_of(const pn_graph_models *models, PyObject *object, pn_graph_field field);

/* Whether the node is an entity or a chunk and `key` is its id; false in doubt. Sets no
 * exception. The caller holds both, as above. */
bool pn_graph_has_id(const pn_graph_models *models, PyObject *node, PyObject *key);

bool pn_graph_is_triplet(PyObject *object); /* an exact tuple of three exact str */
bool pn_graph_all_str(PyObject *list);      /* of exact str, all of them */

/* A new instance with these fields: state as pydantic leaves it when all were given. Takes
 * no reference; the dict must not be used for anything else. NULL with an exception set. */
PyObject *pn_graph_instance(const pn_graph_models *models, pn_graph_kind kind, PyObject *fields);

/* graph_upsert.c. "source_label_target" of three str, what `relations` has them under. */
PyObject *pn_graph_relation_key(PyObject *const *parts);
/* nodes[node.id] = node, for any node: 0, or -1 with an exception. */
int pn_graph_put_node(const pn_module_state *state, PyObject *nodes, PyObject *node);
/* Into nodes (a dict), relations (a dict) and triplets (a TripletIndex), references of the
 * caller's. 1: done; 0: something is out of the ordinary, nothing was done; -1: an exception. */
int pn_graph_put_relation(const pn_module_state *state, PyObject *const containers[3], PyObject *relation);

/* graph_property.c: whether it is exactly the class that property_classes() named for nodes. */
bool pn_py_is_nodes(const pn_module_state *state, const PyObject *object);

/* graph_nodes.c: nodes[id] = node of a NodeIndex, when `id`, an exact str, is the node's id: 0, or
 * -1 with an exception. */
int pn_py_nodes_put(PyObject *nodes, PyObject *id, PyObject *node);

/* graph_triplets.c: whether it is a TripletIndex, and its method add: 0, or -1 with an exception. */
bool pn_py_is_triplets(const pn_module_state *state, const PyObject *object);
int pn_py_triplets_add(PyObject *triplets, PyObject *triplet);

#endif
