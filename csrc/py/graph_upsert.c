/* graph_upsert.c: one node or relation put into a property graph.
 *
 * What an ordinary entry asks for is done without Python code; the containers are the
 * caller's, who holds them. Nothing is kept from one entry to the next, so code that runs
 * when something displaced is released, or the collector comes by, may do what it likes.
 */
#include "py/graph_models.h"

/* ---- nodes ---- */

/* What its id is when that is a field as it stands: a new reference, or NULL. */
static PyObject *plain_id(const pn_graph_models *models, PyObject *node)
{
    pn_graph_kind kind = pn_graph_kind_of(models, node);
    if (kind != PN_GRAPH_ENTITY && kind != PN_GRAPH_CHUNK) return NULL;
    PyObject *id = pn_graph_value_of(models, node, kind == PN_GRAPH_ENTITY ? PN_GRAPH_NAME : PN_GRAPH_ID);
    bool plain = id != NULL && PyUnicode_CheckExact(id);
    if (plain && kind == PN_GRAPH_ENTITY) plain = PyUnicode_FindChar(id, '"', 0, PyUnicode_GET_LENGTH(id), 1) < 0;
    if (!plain) Py_CLEAR(id);
    return id;
}

int pn_graph_put_node(const pn_module_state *state, PyObject *nodes, PyObject *node)
{
    PyObject *id = plain_id(state->graph_models, node);
    bool plain = id != NULL;
    if (!plain && !PyErr_Occurred()) id = PyObject_GetAttrString(node, "id");
    if (id == NULL) return -1;
    int failed = plain && pn_py_is_nodes(state, nodes) ? pn_py_nodes_put(nodes, id, node) : PyObject_SetItem(nodes, id, node);
    Py_DECREF(id);
    return failed < 0 ? -1 : 0;
}

/* ---- relations ---- */

enum { SOURCE, LABEL, TARGET };

PyObject *pn_graph_relation_key(PyObject *const *parts)
{
    Py_ssize_t n = 2, at = 0;
    Py_UCS4 most = '_';
    for (int i = 0; i < 3; i++) {
        Py_UCS4 max = PyUnicode_MAX_CHAR_VALUE(parts[i]);
        n += PyUnicode_GET_LENGTH(parts[i]);
        if (max > most) most = max;
    }
    PyObject *key = PyUnicode_New(n, most);
    for (int i = 0; key != NULL && i < 3; i++) {
        if (i) PyUnicode_WRITE(PyUnicode_KIND(key), PyUnicode_DATA(key), at++, '_');
        Py_ssize_t len = PyUnicode_GET_LENGTH(parts[i]);
        if (len && PyUnicode_CopyCharacters(key, at, parts[i], 0, len) < 0) Py_CLEAR(key);
        at += len;
    }
    return key;
}

static void parts_clear(PyObject *parts[3])
{
    for (int i = 0; i < 3; i++) Py_CLEAR(parts[i]);
}

/* New references to the relation's fields; false, and none, when they are not three exact str. */
static bool parts_of(const pn_graph_models *models, PyObject *relation, PyObject *parts[3])
{
    static const pn_graph_field fields[3] = {PN_GRAPH_SOURCE, PN_GRAPH_LABEL, PN_GRAPH_TARGET};
    bool good = pn_graph_kind_of(models, relation) == PN_GRAPH_RELATION;
    for (int i = 0; good && i < 3; i++) {
        parts[i] = pn_graph_value_of(models, relation, fields[i]);
        good = parts[i] != NULL && PyUnicode_CheckExact(parts[i]);
    }
    if (!good) parts_clear(parts);
    return good;
}

/* Whether there is a node of that key, and the key is its id. */
static bool stands_there(const pn_graph_models *models, PyObject *nodes, PyObject *id)
{
    PyObject *node = Py_XNewRef(PyDict_GetItemWithError(nodes, id));
    bool stands = node != NULL && pn_graph_has_id(models, node, id);
    Py_XDECREF(node);
    return stands;
}

/* A triplet that was there keeps its relation, if it has one. */
static int put_triplet(PyObject *const *containers, PyObject *triplet, PyObject *key, PyObject *relation)
{
    PyObject *relations = containers[1], *triplets = containers[2];
    Py_ssize_t size = PySet_GET_SIZE(triplets);
    if (pn_py_triplets_add(triplets, triplet) < 0) return -1;
    bool new = PySet_GET_SIZE(triplets) > size;
    if (new) return PyDict_SetItem(relations, key, relation) < 0 ? -1 : 1;
    return PyDict_SetDefault(relations, key, relation) ? 1 : -1;
}

static int put_parts(PyObject *const *containers, PyObject *const *parts, PyObject *relation)
{
    PyObject *triplet = PyTuple_Pack(3, parts[SOURCE], parts[LABEL], parts[TARGET]);
    PyObject *key = triplet ? pn_graph_relation_key(parts) : NULL;
    int done = key ? put_triplet(containers, triplet, key, relation) : -1;
    Py_XDECREF(triplet);
    Py_XDECREF(key);
    return done;
}

int pn_graph_put_relation(const pn_module_state *state, PyObject *const containers[3], PyObject *relation)
{
    const pn_graph_models *models = state->graph_models;
    PyObject *parts[3] = {NULL};
    if (!parts_of(models, relation, parts)) return PyErr_Occurred() ? -1 : 0;
    bool plain = stands_there(models, containers[0], parts[SOURCE]) && stands_there(models, containers[0], parts[TARGET]);
    int done = plain ? put_parts(containers, parts, relation) : PyErr_Occurred() ? -1 : 0;
    parts_clear(parts);
    return done;
}
