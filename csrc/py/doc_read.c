/* doc_read.c: document store operations on a native KVTable that read.
 *
 * None of them makes a value live that the peer would not hand out: nodes are built from
 * the text, members of metadata are read where they stand.
 */
#include "py/doc_py.h"
#include "py/kv_type.h"
#include "py/node_decode.h"

#include "store/doc.h"

bool pn_py_doc_find(pn_module_state *state, PyObject *table, PyObject *name, PyObject *key, pn_coll **coll, pn_cell **cell)
{
    *coll = PyUnicode_CheckExact(key) ? pn_py_coll(state, table, name) : NULL;
    if (*coll == NULL) return false;
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes k;
    bool ok = pn_py_key(key, &scratch, &k);
    if (ok) *cell = pn_coll_get(*coll, k);
    pn_buf_clear(&scratch);
    return ok && (*cell == NULL || pn_py_settle(*cell));
}

static bool is_container(PyObject *v) { return PyDict_Check(v) || PyList_Check(v); }

static bool holds_container(PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    while (PyDict_Next(dict, &pos, &key, &value))
        if (is_container(value)) return true;
    return false;
}

/* Whether a RelatedNodeInfo's dict (or a list of them) has something nested in its metadata. */
static bool relation_shares(PyObject *info)
{
    if (PyList_Check(info)) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(info); i++)
            if (relation_shares(PyList_GET_ITEM(info, i))) return true;
        return false;
    }
    PyObject *metadata = PyDict_Check(info) ? PyDict_GetItemString(info, "metadata") : NULL;
    return metadata != NULL && PyDict_Check(metadata) && holds_container(metadata);
}

static bool field_shares(PyObject *name, PyObject *value)
{
    static const char *const copied[] = {"excluded_embed_metadata_keys", "excluded_llm_metadata_keys", "embedding",
                                         "text_embedding", "text_resource", "image_resource", "audio_resource",
                                         "video_resource"};
    if (!is_container(value)) return false;
    if (!PyUnicode_Check(name)) return true;
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        if (PyUnicode_CompareWithASCIIString(name, copied[i]) == 0) return false;
    if (!PyDict_Check(value)) return true;
    if (PyUnicode_CompareWithASCIIString(name, "metadata") == 0) return holds_container(value);
    if (PyUnicode_CompareWithASCIIString(name, "relationships") != 0) return true;
    PyObject *key, *info;
    Py_ssize_t pos = 0;
    while (PyDict_Next(value, &pos, &key, &info))
        if (relation_shares(info)) return true;
    return false;
}

/* A node built from this entry would share a part of it with the store: validation
 * copies the containers it knows but keeps what is nested in metadata. */
bool pn_py_node_shares(PyObject *entry_dict)
{
    PyObject *data = PyDict_Check(entry_dict) ? PyDict_GetItemString(entry_dict, "__data__") : NULL;
    if (data == NULL || !PyDict_Check(data)) return true;
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    while (PyDict_Next(data, &pos, &key, &value))
        if (field_shares(key, value)) return true;
    return false;
}

static bool struct_shares(PyObject *entry_dict)
{
    PyObject *data = PyDict_Check(entry_dict) ? PyDict_GetItemString(entry_dict, "__data__") : NULL;
    return data == NULL || is_container(data);
}

static PyObject *copy_of(PyObject *live)
{
    return PyDict_CheckExact(live) ? PyDict_Copy(live) : PyObject_CallMethod(live, "copy", NULL);
}

/* What the cell holds, for reading: decoded without promoting where nobody could tell, else
 * the live value itself; *live says which. */
static PyObject *read_cell(struct pn_key_cache *keys, pn_coll *coll, pn_cell *cell, bool (*shares)(PyObject *), bool *live)
{
    *live = false;
    if (cell->kind == PN_CELL_JSON || cell->kind == PN_CELL_STRUCT) {
        PyObject *value = pn_py_cell_value(keys, cell);
        if (value == NULL || (PyDict_Check(value) && !shares(value))) return value;
        Py_DECREF(value);
    }
    *live = true;
    return Py_XNewRef(pn_py_promote(keys, coll, cell));
}

/* What kv.get would give. */
static PyObject *internal_value(struct pn_key_cache *keys, pn_coll *coll, pn_cell *cell, bool (*shares)(PyObject *))
{
    bool live;
    int gc = pn_gc_pause();
    PyObject *value = read_cell(keys, coll, cell, shares, &live);
    pn_gc_resume(gc);
    if (value == NULL || !live) return value;
    PyObject *copy = copy_of(value); /* runs the value's own code: the cell is not looked at again */
    Py_DECREF(value);
    return copy;
}

static PyObject *entry_get(PyObject *module, PyObject *args, const char *format, bool (*shares)(PyObject *))
{
    PyObject *table, *name, *key;
    pn_coll *coll;
    pn_cell *cell;
    if (!PyArg_ParseTuple(args, format, &table, &name, &key)) return NULL;
    pn_module_state *state = pn_state_of(module);
    if (!pn_py_doc_find(state, table, name, key, &coll, &cell))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    return cell ? internal_value(state->keys, coll, cell, shares) : Py_NewRef(Py_None);
}

static PyObject *doc_get(PyObject *module, PyObject *args) { return entry_get(module, args, "OOO:doc_get", pn_py_node_shares); }

/* ---- nodes ---- */

static bool is_plain_id(PyObject *id) { return PyUnicode_CheckExact(id) && PyUnicode_IS_COMPACT_ASCII(id); }

/* Of single characters Python keeps one of each itself. */
static void add_known(pn_known_ids *known, PyObject *id)
{
    for (size_t i = 0; i < known->len; i++)
        if (known->of[i] == id) return;
    if (is_plain_id(id) && PyUnicode_GET_LENGTH(id) > 1) known->of[known->len++] = Py_NewRef(id);
}

static void drop_known(pn_known_ids *known)
{
    for (size_t i = 0; i < known->len; i++) Py_DECREF(known->of[i]);
}

/* A node straight from its text. NULL without an exception: not this way. */
static PyObject *fast_node(pn_module_state *state, const pn_cell *cell, const pn_known_ids *known)
{
    PyObject *node = NULL;
    pn_status s = pn_node_decode_cell(state->node_readers, cell, known, &node);
    return s == PN_OK ? node : NULL;
}

PyObject *pn_py_doc_node(pn_module_state *state, PyObject *table, PyObject *name, PyObject *key)
{
    pn_coll *coll;
    pn_cell *cell;
    if (!pn_py_doc_find(state, table, name, key, &coll, &cell)) return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    if (cell == NULL) Py_RETURN_NONE;
    pn_node_readers_recheck(state->node_readers);
    pn_known_ids known = {0, {NULL}};
    add_known(&known, key);
    PyObject *node = fast_node(state, cell, &known);
    drop_known(&known);
    return node != NULL || PyErr_Occurred() ? node : Py_NewRef(Py_NotImplemented);
}

static PyObject *doc_node(PyObject *module, PyObject *args)
{
    PyObject *table, *name, *key;
    if (!PyArg_ParseTuple(args, "OOO:doc_node", &table, &name, &key)) return NULL;
    return pn_py_doc_node(pn_state_of(module), table, name, key);
}

typedef struct {
    pn_module_state *state;
    PyObject *table, *name, *store, *get;
    int gc;
} node_batch;

/* store.get_node(id), which is Python code: anything may have changed afterwards. */
static PyObject *general_node(node_batch *b, PyObject *id)
{
    pn_gc_resume(b->gc);
    PyObject *node = PyObject_CallMethodOneArg(b->store, b->get, id);
    b->gc = pn_gc_pause();
    pn_node_readers_recheck(b->state->node_readers);
    return node;
}

/* The bytes of an id that is plain ASCII; else, and past the end, none. */
static pn_bytes plain_id(PyObject *ids, Py_ssize_t i)
{
    PyObject *id = i < PyList_GET_SIZE(ids) ? PyList_GET_ITEM(ids, i) : NULL;
    if (id == NULL || !is_plain_id(id)) return PN_BYTES("");
    return (pn_bytes){PyUnicode_1BYTE_DATA(id), (size_t)PyUnicode_GET_LENGTH(id)};
}

static void text_near(const pn_cell *cell)
{
    enum { LINE = 64, MOST = 64 * LINE };
    if (cell == NULL || cell->kind != PN_CELL_JSON) return;
    size_t len = cell->span.len < MOST ? cell->span.len : MOST;
    for (size_t at = 0; at < len; at += LINE) PN_PREFETCH(cell->span.ptr + at);
}

/* Nodes lie anywhere in the memory of a loaded file: while one is built, the text of the next
 * one is brought near, and of those after it what finding them reads. */
static void next_near(const pn_omap *cells, PyObject *ids, Py_ssize_t i)
{
    pn_omap_near(cells, plain_id(ids, i + 3));
    pn_omap_nearer(cells, pn_omap_near(cells, plain_id(ids, i + 2)));
    text_near(pn_omap_get(cells, plain_id(ids, i + 1)));
}

/* The ith id and those beside it, held. */
static pn_known_ids known_near(PyObject *ids, Py_ssize_t i)
{
    pn_known_ids known = {0, {NULL}};
    for (Py_ssize_t k = i > 0 ? i - 1 : 0; k <= i + 1 && k < PyList_GET_SIZE(ids); k++) add_known(&known, PyList_GET_ITEM(ids, k));
    return known;
}

/* The node of the ith id if it is there; NULL without an exception for any other. */
static PyObject *batch_node(node_batch *b, PyObject *ids, Py_ssize_t i, PyObject *id)
{
    pn_coll *coll;
    pn_cell *cell = NULL;
    if (!pn_py_doc_find(b->state, b->table, b->name, id, &coll, &cell) || cell == NULL) return NULL;
    next_near(&coll->cells, ids, i);
    pn_known_ids known = known_near(ids, i);
    PyObject *node = fast_node(b->state, cell, &known);
    drop_known(&known);
    return node != NULL || PyErr_Occurred() ? node : general_node(b, id);
}

static PyObject *batch_nodes(node_batch *b, PyObject *ids)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(ids); i++) {
        PyObject *id = Py_NewRef(PyList_GET_ITEM(ids, i));
        PyObject *node = batch_node(b, ids, i, id);
        if (node == NULL || PyList_Append(list, node) < 0) Py_CLEAR(list);
        Py_XDECREF(node);
        Py_DECREF(id);
    }
    return list;
}

PyObject *pn_py_doc_nodes(pn_module_state *state, PyObject *table, PyObject *name, PyObject *ids, PyObject *store,
                          PyObject *get)
{
    node_batch b = {.state = state, .table = table, .name = name, .store = store, .get = get};
    pn_node_readers_recheck(state->node_readers);
    b.gc = pn_gc_pause();
    PyObject *list = batch_nodes(&b, ids);
    pn_gc_resume(b.gc);
    return list != NULL || PyErr_Occurred() ? list : Py_NewRef(Py_NotImplemented);
}

static PyObject *struct_get(PyObject *module, PyObject *args)
{
    return entry_get(module, args, "OOO:struct_get", struct_shares);
}

/* The member of that name if it is a string without escapes and stands first, as the hash of a
 * metadata entry does. NULL without an exception: not so. */
static PyObject *first_member(pn_bytes object, pn_bytes name)
{
    static const char before[] = "{\"", after[] = "\": \"";
    enum { BEFORE = sizeof before - 1, AFTER = sizeof after - 1 };
    size_t at = BEFORE + name.len + AFTER;
    if (object.len <= at || memcmp(object.ptr, before, BEFORE) != 0 || memcmp(object.ptr + BEFORE, name.ptr, name.len) != 0 ||
        memcmp(object.ptr + BEFORE + name.len, after, AFTER) != 0)
        return NULL;
    const uint8_t *text = object.ptr + at, *end = memchr(text, '"', object.len - at);
    if (end == NULL || memchr(text, '\\', (size_t)(end - text)) != NULL) return NULL;
    return pn_py_str((pn_bytes){text, (size_t)(end - text)});
}

/* A member that is a string, of an object in canonical form, in which no key is repeated:
 * the first is it. NULL without an exception: the general way. */
static PyObject *text_member(pn_bytes object, pn_bytes name)
{
    pn_json_reader r;
    pn_json_str key, value;
    bool more;
    PyObject *first = first_member(object, name);
    if (first != NULL || PyErr_Occurred()) return first;
    pn_json_reader_init(&r, object);
    if (object.len == 0 || object.ptr[0] != '{' || pn_json_object_begin(&r) != PN_OK) return NULL;
    for (;;) {
        if (pn_json_object_next(&r, &key, &more) != PN_OK) return NULL;
        if (!more) return Py_NewRef(Py_None);
        bool found = pn_bytes_equal((pn_bytes){key.ptr, key.len}, name);
        if (key.has_escape || pn_json_peek(&r) != PN_JSON_STRING || pn_json_string(&r, &value) != PN_OK) return NULL;
        if (found) return pn_py_decode_str(&value);
    }
}

/* A member of a metadata entry: a new reference, NULL without an exception when the cell
 * is not plain text. */
static PyObject *meta_member(const pn_cell *cell, const char *name)
{
    if (cell->kind != PN_CELL_JSON) return NULL;
    PyObject *text = cell->canonical ? text_member(pn_cell_span(cell), (pn_bytes){(const uint8_t *)name, strlen(name)}) : NULL;
    if (text != NULL || PyErr_Occurred()) return text;
    pn_json_span value;
    pn_status s = pn_doc_member(pn_cell_span(cell), (pn_bytes){(const uint8_t *)name, strlen(name)}, &value);
    if (s == PN_ERR_NOT_FOUND) return Py_NewRef(Py_None);
    if (s != PN_OK || value.type == PN_JSON_OBJECT || value.type == PN_JSON_ARRAY) return NULL;
    return pn_py_decode(NULL, (pn_bytes){value.ptr, value.len});
}

/* A member of a metadata cell of any kind; NULL without an exception: not of a known one. */
static PyObject *cell_member(pn_cell *cell, const char *name)
{
    if (!pn_py_settle(cell)) return NULL;
    if (cell->kind != PN_CELL_LIVE) return meta_member(cell, name);
    if (!PyDict_CheckExact((PyObject *)cell->live)) return NULL;
    PyObject *value = PyDict_GetItemString(cell->live, name);
    return Py_NewRef(value ? value : Py_None);
}

PyObject *pn_py_doc_meta(pn_module_state *state, PyObject *table, PyObject *name, PyObject *key, const char *member)
{
    pn_coll *coll;
    pn_cell *cell;
    if (pn_py_doc_find(state, table, name, key, &coll, &cell)) {
        PyObject *value = cell ? cell_member(cell, member) : Py_NewRef(Py_None);
        if (value != NULL) return value;
    }
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
}

static PyObject *doc_meta(PyObject *module, PyObject *args)
{
    PyObject *table, *name, *key;
    const char *member;
    if (!PyArg_ParseTuple(args, "OOOs:doc_meta", &table, &name, &key, &member)) return NULL;
    return pn_py_doc_meta(pn_state_of(module), table, name, key, member);
}

/* {hash: id}; NotImplemented: one is of another form. */
static PyObject *hashes_of(const pn_coll *coll, bool *live)
{
    PyObject *dict = PyDict_New();
    size_t pos = 0;
    pn_bytes key;
    void *cell;
    while (dict != NULL && pn_omap_next(&coll->cells, &pos, &key, &cell)) {
        PyObject *hash = cell_member(cell, "doc_hash");
        *live = *live || ((pn_cell *)cell)->kind == PN_CELL_LIVE;
        if (hash == NULL || (hash != Py_None && !PyUnicode_CheckExact(hash))) {
            Py_XDECREF(hash);
            Py_DECREF(dict);
            return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
        }
        if (hash != Py_None && PyUnicode_GET_LENGTH(hash) > 0) {
            PyObject *id = pn_py_str(key);
            if (id == NULL || PyDict_SetItem(dict, hash, id) < 0) Py_CLEAR(dict);
            Py_XDECREF(id);
        }
        Py_DECREF(hash);
    }
    return dict;
}

/* As hashes_of; kept while no entry changes, from the second time on: whoever asks once for
 * each batch of new documents need not pay with memory. */
static PyObject *all_hashes(pn_coll *coll)
{
    PyObject *kept = pn_made_of(&coll->made, pn_coll_version(coll));
    if (kept != NULL) return PyDict_Copy(kept);
    bool live = false;
    PyObject *dict = hashes_of(coll, &live);
    bool odd = live || dict == NULL || dict == Py_NotImplemented;
    if (odd || !pn_made_again(&coll->made, pn_coll_version(coll), &pn_py_host))
        return dict;
    coll->made.object = dict;
    return PyDict_Copy(dict);
}

PyObject *pn_py_doc_hashes(pn_module_state *state, PyObject *table, PyObject *name)
{
    pn_coll *coll = pn_py_coll(state, table, name);
    if (coll == NULL) return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    int gc = pn_gc_pause();
    PyObject *dict = all_hashes(coll);
    pn_gc_resume(gc);
    return dict;
}

/* The ids as a new list; what it is a copy of is kept from the second time on. */
static PyObject *ids_of(pn_refdoc *r)
{
    PyObject *kept = pn_made_of(&r->listed, r->ids.version);
    if (kept != NULL) return PyList_GetSlice(kept, 0, PyList_GET_SIZE(kept));
    PyObject *list = pn_py_key_list(&r->ids);
    if (list == NULL || !pn_made_again(&r->listed, r->ids.version, &pn_py_host)) return list;
    PyObject_GC_UnTrack(list); /* of str alone, and nobody else's */
    r->listed.object = list;
    return PyList_GetSlice(list, 0, PyList_GET_SIZE(list));
}

/* r is the cell's */
static PyObject *make_info(pn_module_state *state, pn_coll *coll, const pn_cell *cell, pn_refdoc *r, pn_info_maker make)
{
    int gc = pn_gc_pause();
    pn_coll_goes_live(coll, cell);
    PyObject *metadata = pn_py_promote(state->keys, NULL, &r->metadata);
    Py_XINCREF(metadata);
    PyObject *ids = metadata ? ids_of(r) : NULL;
    PyObject *info = ids ? make(state, ids, metadata) : NULL;
    Py_XDECREF(ids);
    Py_XDECREF(metadata);
    pn_gc_resume(gc);
    return info;
}

static PyObject *doc_hashes(PyObject *module, PyObject *args)
{
    PyObject *table, *name;
    if (!PyArg_ParseTuple(args, "OO:doc_hashes", &table, &name)) return NULL;
    return pn_py_doc_hashes(pn_state_of(module), table, name);
}

/* NotImplemented: not of the usual form. */
static PyObject *info_in(pn_module_state *state, pn_coll *coll, pn_cell *cell, pn_info_maker make)
{
    pn_refdoc *info;
    pn_status s = pn_doc_refdoc_in(cell, &pn_alloc_system, &info);
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_NOTIMPLEMENTED;
    if (s != PN_OK) return pn_py_raise(s, NULL, NULL);
    return info ? make_info(state, coll, cell, info, make) : Py_NewRef(Py_None);
}

PyObject *pn_py_doc_ref_info(pn_module_state *state, PyObject *table, PyObject *name, PyObject *key, pn_info_maker make)
{
    pn_coll *coll;
    pn_cell *cell;
    if (!pn_py_doc_find(state, table, name, key, &coll, &cell)) return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    return cell ? info_in(state, coll, cell, make) : Py_NewRef(Py_None);
}

/* What `of` makes of a source's info, which is NULL for a source that is not there. */
static PyObject *of_refdoc(pn_module_state *state, PyObject *table, PyObject *name, PyObject *key, PyObject *(*of)(pn_refdoc *))
{
    pn_coll *coll;
    pn_cell *cell;
    if (!pn_py_doc_find(state, table, name, key, &coll, &cell)) return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    pn_refdoc *info = NULL;
    pn_status s = cell ? pn_doc_refdoc_in(cell, &pn_alloc_system, &info) : PN_OK;
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_NOTIMPLEMENTED;
    return s == PN_OK ? of(info) : pn_py_raise(s, NULL, NULL);
}

static PyObject *is_there(pn_refdoc *r) { return PyBool_FromLong(r != NULL); }

PyObject *pn_py_doc_ref_exists(pn_module_state *state, PyObject *table, PyObject *name, PyObject *key)
{
    return of_refdoc(state, table, name, key, is_there);
}

static PyObject *ids_or_none(pn_refdoc *r) { return r ? ids_of(r) : Py_NewRef(Py_None); }

PyObject *pn_py_doc_ref_ids(pn_module_state *state, PyObject *table, PyObject *name, PyObject *key)
{
    return of_refdoc(state, table, name, key, ids_or_none);
}

static PyObject *pair_of(pn_module_state *state, PyObject *ids, PyObject *metadata)
{
    (void)state;
    return PyTuple_Pack(2, ids, metadata);
}

static PyObject *doc_ref_info(PyObject *module, PyObject *args)
{
    PyObject *table, *name, *key;
    if (!PyArg_ParseTuple(args, "OOO:doc_ref_info", &table, &name, &key)) return NULL;
    return pn_py_doc_ref_info(pn_state_of(module), table, name, key, pair_of);
}

/* NULL without an exception: one is not of the usual form. */
static PyObject *all_infos(pn_module_state *state, pn_coll *coll, pn_info_maker make)
{
    PyObject *dict = PyDict_New();
    size_t pos = 0;
    pn_bytes key;
    void *cell;
    while (dict != NULL && pn_omap_next(&coll->cells, &pos, &key, &cell)) {
        PyObject *info = pn_py_settle(cell) ? info_in(state, coll, cell, make) : NULL;
        PyObject *id = info ? pn_py_str(key) : NULL;
        bool usual = id != NULL && info != Py_NotImplemented && info != Py_None;
        if (!usual || PyDict_SetItem(dict, id, info) < 0) Py_CLEAR(dict);
        Py_XDECREF(id);
        Py_XDECREF(info);
    }
    return dict;
}

PyObject *pn_py_doc_ref_infos(pn_module_state *state, PyObject *table, PyObject *name, pn_info_maker make)
{
    pn_coll *coll = pn_py_coll(state, table, name);
    if (coll == NULL) return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    int gc = pn_gc_pause();
    PyObject *dict = all_infos(state, coll, make);
    pn_gc_resume(gc);
    return dict != NULL || PyErr_Occurred() ? dict : Py_NewRef(Py_NotImplemented);
}

static PyMethodDef functions[] = {
    {"doc_get", doc_get, METH_VARARGS, "doc_get(table, nodes, id) -> dict | None | NotImplemented"},
    {"doc_node", doc_node, METH_VARARGS, "doc_node(table, nodes, id) -> node | None | NotImplemented"},
    {"struct_get", struct_get, METH_VARARGS, "struct_get(table, collection, id) -> dict | None | NotImplemented"},
    {"doc_meta", doc_meta, METH_VARARGS, "doc_meta(table, metadata, id, member) -> value | None | NotImplemented"},
    {"doc_hashes", doc_hashes, METH_VARARGS, "doc_hashes(table, metadata) -> {hash: id} | NotImplemented"},
    {"doc_ref_info", doc_ref_info, METH_VARARGS,
     "doc_ref_info(table, refs, id) -> (node ids, metadata) | None | NotImplemented"},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_doc_reads(PyObject *module) { return PyModule_AddFunctions(module, functions); }
