/* doc_py.c: document store operations on a native KVTable that change it; doc_read.c has
 * those that read.
 *
 * Every function first answers whether the fast way applies: NotImplemented (or False
 * from doc_add) means that nothing has changed and the caller takes the peer's way.
 * Each works on the three collections named in doc.h.
 */
#include "py/doc_py.h"
#include "py/kv_type.h"
#include "py/node_encode.h"

#include "codec/json_write.h"
#include "store/doc.h"

enum { CHUNK = 64 * 1024 }; /* texts encoded together share one blob of about this size */

/* ---- settling: cells of an info or a metadata entry that are packed, or became live ---- */

/* Turns a live value back into text when its round trip is the identity. The operations
 * that call this are those after which the peer stores a fresh copy (or nothing) in
 * that place, so that nobody can tell. The live object goes into the bin. */
static pn_status settle(pn_cell *cell, pn_cell_bin *bin)
{
    if (cell == NULL) return PN_OK;
    PN_FAIL_IF(!pn_py_settle(cell), PN_ERR_CALLBACK);
    if (cell->kind != PN_CELL_LIVE) return PN_OK;
    PN_TRY(pn_cell_bin_reserve(bin, 1));
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_blob *blob = NULL;
    pn_status s = pn_py_encode(cell->live, PN_ENCODE_IDENTITY, &out);
    if (s == PN_OK) s = pn_blob_take(&out, &blob);
    pn_buf_clear(&out);
    PN_TRY(s);
    pn_cell_bin_add(bin, *cell);
    *cell = pn_cell_json(blob, pn_blob_view(blob), true);
    pn_blob_unref(blob);
    return PN_OK;
}

/* The info of a source, native and with its metadata as text; *out NULL: none. */
static pn_status settled_refdoc(pn_coll *refs, pn_bytes ref_id, pn_cell_bin *bin, pn_refdoc **out)
{
    PN_TRY(settle(pn_coll_get(refs, ref_id), bin));
    PN_TRY(pn_doc_refdoc(refs, ref_id, &pn_alloc_system, out));
    return *out ? settle(&(*out)->metadata, bin) : PN_OK;
}

/* ---- adding ---- */

typedef struct {
    size_t blob; /* index into blobs */
    size_t node, node_len, meta, meta_len, id, id_len;
    Py_ssize_t ref; /* index into refs, or -1 */
} entry;

typedef struct {
    pn_buf id;        /* UTF-8 of ref_doc_id */
    PyObject *merged; /* the metadata a new info gets; NULL: there is one already */
    pn_buf metadata;  /* its text */
    pn_blob *blob;
} ref_plan;

typedef struct {
    pn_module_state *state;
    pn_kv *kv;
    PyObject *names[3]; /* collection names: nodes, metadata, refs */
    bool allow_update, store_text;
    entry *entries;
    size_t len, cap;
    pn_blob **blobs;
    size_t blob_len, blob_cap;
    pn_buf chunk;
    ref_plan *refs;
    size_t ref_len, ref_cap;
    PyObject *ref_index; /* {ref_doc_id: index into refs} */
    PyTypeObject *planned; /* the class that plan is for */
    PyObject *plan;
    pn_cell_bin bin;
} adder;

static pn_status grow(void **array, size_t *cap, size_t len, size_t size)
{
    if (len < *cap) return PN_OK;
    size_t want = *cap ? *cap * 2 : 16;
    void *p = pn_alloc_grow(&pn_alloc_system, *array, want * size);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    *array = p;
    *cap = want;
    return PN_OK;
}

static pn_status flush_chunk(adder *a)
{
    PN_TRY(grow((void **)&a->blobs, &a->blob_cap, a->blob_len, sizeof *a->blobs));
    PN_TRY(pn_blob_take(&a->chunk, &a->blobs[a->blob_len]));
    a->blob_len++;
    return PN_OK;
}

/* Nodes of one class mostly follow one another. */
static PyObject *plan_of(adder *a, PyObject *node)
{
    if (a->planned != Py_TYPE(node)) {
        a->plan = pn_node_plan(a->state, node);
        a->planned = Py_TYPE(node);
    }
    return a->plan;
}

/* The plan for one source document, made at its first node. */
static pn_status plan_ref(adder *a, PyObject *ref_id, PyObject *node_metadata, Py_ssize_t *index)
{
    PyObject *known = PyDict_GetItemWithError(a->ref_index, ref_id);
    if (known == NULL) {
        PN_TRY(grow((void **)&a->refs, &a->ref_cap, a->ref_len, sizeof *a->refs));
        ref_plan *r = &a->refs[a->ref_len];
        *r = (ref_plan){.merged = NULL};
        pn_buf_init(&r->id, &pn_alloc_system);
        pn_buf_init(&r->metadata, &pn_alloc_system);
        *index = (Py_ssize_t)a->ref_len++;
        pn_buf scratch;
        pn_buf_init(&scratch, &pn_alloc_system);
        pn_bytes id;
        pn_status s = pn_py_utf8(ref_id, &scratch, &id) ? pn_buf_append(&r->id, id.ptr, id.len) : PN_ERR_CALLBACK;
        pn_buf_clear(&scratch);
        PN_TRY(s);
        pn_coll *refs;
        pn_refdoc *info;
        PN_TRY(pn_py_named_collection(a->kv, a->names[2], &refs));
        PN_TRY(settled_refdoc(refs, pn_buf_view(&r->id), &a->bin, &info));
        if (info == NULL || pn_refdoc_metadata_is_empty(info)) {
            r->merged = PyDict_New();
            PN_FAIL_IF(r->merged == NULL, PN_ERR_CALLBACK);
        }
        PyObject *n = PyLong_FromSsize_t(*index);
        int failed = n == NULL || PyDict_SetItem(a->ref_index, ref_id, n) < 0;
        Py_XDECREF(n);
        PN_FAIL_IF(failed, PN_ERR_CALLBACK);
    } else {
        *index = PyLong_AsSsize_t(known);
    }
    ref_plan *r = &a->refs[*index];
    return r->merged != NULL && PyDict_Update(r->merged, node_metadata) < 0 ? PN_ERR_CALLBACK : PN_OK;
}

/* What follows the hash in {"doc_hash": "..."[, "ref_doc_id": "..."]} */
static pn_status close_meta(pn_buf *out, PyObject *ref_id)
{
    if (ref_id != NULL) {
        PN_TRY(PN_BUF_LIT(out, ", \"ref_doc_id\": "));
        PN_TRY(pn_py_encode(ref_id, PN_ENCODE_IDENTITY, out));
    }
    return pn_buf_push(out, '}');
}

static pn_status put_meta(pn_buf *out, PyObject *hash, PyObject *ref_id)
{
    PN_TRY(PN_BUF_LIT(out, "{\"doc_hash\": "));
    PN_TRY(pn_py_encode(hash, PN_ENCODE_IDENTITY, out));
    return close_meta(out, ref_id);
}

/* With the node's own hash: its property is asked only when the core does not know how. */
static pn_status put_node_meta(adder *a, PyObject *plan, PyObject *node, PyObject *ref_id)
{
    pn_buf *out = &a->chunk;
    size_t start = out->len;
    PN_TRY(PN_BUF_LIT(out, "{\"doc_hash\": \""));
    pn_status s = pn_node_put_hash(a->state, plan, node, out);
    if (s == PN_OK) {
        PN_TRY(pn_buf_push(out, '"'));
        return close_meta(out, ref_id);
    }
    PN_FAIL_IF(s != PN_ERR_UNSUPPORTED, s);
    out->len = start;
    PyObject *hash = PyObject_GetAttr(node, PyTuple_GET_ITEM(a->state->node_names, PN_NAME_HASH));
    PN_FAIL_IF(hash == NULL, PN_ERR_CALLBACK);
    s = PyUnicode_CheckExact(hash) ? put_meta(out, hash, ref_id) : PN_ERR_UNSUPPORTED;
    Py_DECREF(hash);
    return s;
}

/* A refused add goes the peer's way: which node of the batch is told, and what raises
 * before it, is for the peer to say. Looked at before anything is planned. */
static pn_status check_new(adder *a, PyObject *node)
{
    PyObject *id = pn_node_field(a->state, node, PN_NAME_ID);
    PN_FAIL_IF(plan_of(a, node) == NULL || id == NULL || !PyUnicode_CheckExact(id), PN_ERR_UNSUPPORTED);
    pn_coll *nodes;
    PN_TRY(pn_py_named_collection(a->kv, a->names[0], &nodes));
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes key;
    bool ok = pn_py_key(id, &scratch, &key), there = ok && pn_coll_get(nodes, key) != NULL;
    pn_buf_clear(&scratch);
    PN_FAIL_IF(!ok, PN_ERR_CALLBACK);
    return there ? PN_ERR_UNSUPPORTED : PN_OK;
}

static pn_status encode_node(adder *a, PyObject *plan, PyObject *node, PyObject *id, PyObject *ref_id)
{
    PN_TRY(grow((void **)&a->entries, &a->cap, a->len, sizeof *a->entries));
    if (a->chunk.len > CHUNK) PN_TRY(flush_chunk(a));
    entry *e = &a->entries[a->len];
    *e = (entry){.blob = a->blob_len, .ref = -1};
    e->node = a->chunk.len;
    PN_TRY(pn_node_encode(a->state, plan, node, &a->chunk));
    e->node_len = a->chunk.len - e->node;
    e->meta = a->chunk.len;
    PN_TRY(put_node_meta(a, plan, node, ref_id));
    e->meta_len = a->chunk.len - e->meta;
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes key;
    e->id = a->chunk.len;
    pn_status s = pn_py_key(id, &scratch, &key) ? pn_buf_append(&a->chunk, key.ptr, key.len) : PN_ERR_CALLBACK;
    e->id_len = a->chunk.len - e->id;
    pn_buf_clear(&scratch);
    return s;
}

static pn_status plan_node(adder *a, PyObject *node)
{
    PyObject *plan = plan_of(a, node);
    PN_FAIL_IF(plan == NULL, PN_ERR_UNSUPPORTED);
    PyObject *id = pn_node_field(a->state, node, PN_NAME_ID), *metadata = pn_node_field(a->state, node, PN_NAME_METADATA);
    bool odd;
    PyObject *source = pn_node_source(a->state, node, &odd);
    PN_FAIL_IF(odd || id == NULL || !PyUnicode_CheckExact(id) || metadata == NULL || !PyDict_CheckExact(metadata),
               PN_ERR_UNSUPPORTED);
    PyObject *ref_id = source ? pn_node_field(a->state, source, PN_NAME_NODE_ID) : NULL;
    PN_FAIL_IF(source != NULL && (ref_id == NULL || !PyUnicode_CheckExact(ref_id)), PN_ERR_UNSUPPORTED);
    pn_coll *refs;
    if (source != NULL) PN_TRY(pn_py_named_collection(a->kv, a->names[2], &refs)); /* the peer looks, and so creates it */
    bool linked = ref_id != NULL && PyUnicode_GET_LENGTH(ref_id) > 0;
    Py_INCREF(id);
    Py_XINCREF(ref_id);
    Py_INCREF(metadata);
    pn_status s = encode_node(a, plan, node, id, linked ? ref_id : NULL);
    if (s == PN_OK && linked) s = plan_ref(a, ref_id, metadata, &a->entries[a->len].ref);
    Py_DECREF(metadata);
    Py_XDECREF(ref_id);
    Py_DECREF(id);
    if (s == PN_OK) a->len++;
    return s;
}

static pn_status plan_metadata(adder *a)
{
    for (size_t i = 0; i < a->ref_len; i++) {
        ref_plan *r = &a->refs[i];
        if (r->merged == NULL) continue;
        PN_TRY(pn_py_encode(r->merged, PN_ENCODE_IDENTITY, &r->metadata));
        PN_TRY(pn_blob_take(&r->metadata, &r->blob));
    }
    return PN_OK;
}

/* From here on no Python code runs, and no collection starts one, until all is in place. */

static pn_status put_text(pn_coll *coll, pn_bytes key, pn_blob *blob, size_t at, size_t len, uint8_t tag,
                          pn_cell_bin *bin)
{
    PN_TRY(pn_cell_bin_reserve(bin, 1));
    pn_cell old, cell = pn_cell_json(blob, (pn_bytes){pn_blob_view(blob).ptr + at, len}, true);
    cell.tag = tag;
    pn_status s = pn_coll_put(coll, key, blob, cell, &old);
    if (s != PN_OK)
        pn_cell_release(&cell, &pn_py_host);
    else
        pn_cell_bin_add(bin, old);
    return s;
}

static pn_bytes entry_id(const adder *a, const entry *e)
{
    return (pn_bytes){pn_blob_view(a->blobs[e->blob]).ptr + e->id, e->id_len};
}

/* Whether all infos can take ids natively. Asked again here: other code ran since they
 * were planned. After this nothing but a failed allocation stands in the way. */
static pn_status settle_refs(adder *a, pn_coll *refs)
{
    for (size_t i = 0; i < a->ref_len; i++) {
        ref_plan *r = &a->refs[i];
        pn_refdoc *info;
        PN_TRY(settled_refdoc(refs, pn_buf_view(&r->id), &a->bin, &info));
        PN_FAIL_IF(info == NULL && r->merged == NULL, PN_ERR_UNSUPPORTED); /* deleted meanwhile */
    }
    return PN_OK;
}

/* The info to add ids to: the one there is, or a new one in its place. */
static pn_status open_refdoc(adder *a, pn_coll *refs, ref_plan *r, pn_refdoc **out)
{
    pn_bytes id = pn_buf_view(&r->id);
    PN_TRY(pn_doc_refdoc(refs, id, &pn_alloc_system, out));
    bool fresh = *out == NULL;
    if (!fresh) pn_coll_touch(refs, pn_coll_get(refs, id));
    if (fresh) {
        PN_TRY(pn_cell_bin_reserve(&a->bin, 1));
        PN_TRY(pn_refdoc_new(&pn_alloc_system, out));
        pn_cell old, cell = {.kind = PN_CELL_REFDOC, .refdoc = *out};
        pn_status s = pn_coll_put(refs, id, NULL, cell, &old);
        if (s != PN_OK) {
            pn_refdoc_free(*out, &pn_py_host);
            return s;
        }
        pn_cell_bin_add(&a->bin, old);
    }
    if (r->merged != NULL && (fresh || pn_refdoc_metadata_is_empty(*out))) {
        PN_TRY(pn_cell_bin_reserve(&a->bin, 1));
        pn_cell_bin_add(&a->bin, (*out)->metadata);
        (*out)->metadata = pn_cell_json(r->blob, pn_blob_view(r->blob), true);
    }
    return PN_OK;
}

static pn_status commit_refs(adder *a, pn_coll *refs)
{
    pn_refdoc **infos = pn_alloc_zero(&pn_alloc_system, a->ref_len, sizeof *infos);
    PN_FAIL_IF(infos == NULL, PN_ERR_NOMEM);
    pn_status s = PN_OK;
    for (size_t i = 0; s == PN_OK && i < a->ref_len; i++) s = open_refdoc(a, refs, &a->refs[i], &infos[i]);
    for (size_t i = 0; s == PN_OK && i < a->len; i++) {
        const entry *e = &a->entries[i];
        void *unused;
        bool added;
        if (e->ref >= 0) s = pn_omap_put(&infos[e->ref]->ids, entry_id(a, e), a->blobs[e->blob], &unused, &added);
    }
    pn_alloc_put(&pn_alloc_system, infos);
    return s;
}

static pn_status commit_nodes(adder *a)
{
    pn_coll *nodes, *metadata;
    if (a->store_text) {
        PN_TRY(pn_py_named_collection(a->kv, a->names[0], &nodes));
        for (size_t i = 0; i < a->len; i++) {
            const entry *e = &a->entries[i];
            PN_TRY(put_text(nodes, entry_id(a, e), a->blobs[e->blob], e->node, e->node_len, PN_TAG_NODE, &a->bin));
        }
    }
    PN_TRY(pn_py_named_collection(a->kv, a->names[1], &metadata));
    for (size_t i = 0; i < a->len; i++) {
        const entry *e = &a->entries[i];
        PN_TRY(put_text(metadata, entry_id(a, e), a->blobs[e->blob], e->meta, e->meta_len, PN_TAG_NONE, &a->bin));
    }
    return PN_OK;
}

static pn_status commit(adder *a)
{
    pn_coll *refs = NULL;
    if (a->ref_len > 0) {
        PN_TRY(pn_py_named_collection(a->kv, a->names[2], &refs));
        PN_TRY(settle_refs(a, refs));
    }
    if (a->len > 0) PN_TRY(commit_nodes(a));
    return refs != NULL ? commit_refs(a, refs) : PN_OK;
}

static pn_status add_all(adder *a, PyObject *table, PyObject *docs)
{
    for (Py_ssize_t i = 0; !a->allow_update && i < PySequence_Fast_GET_SIZE(docs); i++)
        PN_TRY(check_new(a, PySequence_Fast_GET_ITEM(docs, i)));
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(docs); i++) {
        PyObject *node = Py_NewRef(PySequence_Fast_GET_ITEM(docs, i));
        pn_status s = plan_node(a, node);
        Py_DECREF(node);
        PN_TRY(s);
    }
    if (a->chunk.len) PN_TRY(flush_chunk(a));
    PN_TRY(plan_metadata(a));
    /* a node's own code, or another thread meanwhile, may have surrendered the table */
    PN_FAIL_IF(pn_py_kv(a->state, table) != a->kv, PN_ERR_UNSUPPORTED);
    int gc = pn_gc_pause();
    pn_status s = commit(a);
    pn_gc_resume(gc);
    return s;
}

static void adder_clear(adder *a)
{
    pn_kv_unref(a->kv);
    for (size_t i = 0; i < a->blob_len; i++) pn_blob_unref(a->blobs[i]);
    for (size_t i = 0; i < a->ref_len; i++) {
        pn_buf_clear(&a->refs[i].id);
        pn_buf_clear(&a->refs[i].metadata);
        pn_blob_unref(a->refs[i].blob);
        Py_XDECREF(a->refs[i].merged);
    }
    pn_alloc_put(&pn_alloc_system, a->blobs);
    pn_alloc_put(&pn_alloc_system, a->refs);
    pn_alloc_put(&pn_alloc_system, a->entries);
    pn_buf_clear(&a->chunk);
    Py_XDECREF(a->ref_index);
    pn_cell_bin_empty(&a->bin, &pn_py_host);
}

/* Three names as they should be; equal ones (custom suffixes) mix what is kept apart here. */
static bool exact_names(PyObject *const names[3])
{
    for (int i = 0; i < 3; i++)
        if (!PyUnicode_CheckExact(names[i]) || PyUnicode_Compare(names[i], names[(i + 1) % 3]) == 0) return false;
    return true;
}

static PyObject *doc_add(PyObject *module, PyObject *args)
{
    PyObject *table, *names[3], *docs;
    int allow_update, store_text;
    if (!PyArg_ParseTuple(args, "OUUUOpp:doc_add", &table, &names[0], &names[1], &names[2], &docs, &allow_update,
                          &store_text))
        return NULL;
    pn_module_state *state = pn_state_of(module);
    pn_kv *kv = pn_py_kv(state, table);
    if (kv == NULL || state->node_plans == NULL || !exact_names(names)) Py_RETURN_FALSE;
    if (!PyList_CheckExact(docs) && !PyTuple_CheckExact(docs)) Py_RETURN_FALSE;
    adder a = {.state = state, .kv = pn_kv_ref(kv), .names = {names[0], names[1], names[2]}, .allow_update = allow_update,
               .store_text = store_text};
    pn_buf_init(&a.chunk, &pn_alloc_system);
    pn_cell_bin_init(&a.bin, &pn_alloc_system);
    a.ref_index = PyDict_New();
    pn_status s = a.ref_index ? add_all(&a, table, docs) : PN_ERR_CALLBACK;
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    adder_clear(&a);
    PyErr_Restore(type, value, tb);
    if (s == PN_ERR_UNSUPPORTED) {
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    return s == PN_OK ? Py_NewRef(Py_True) : pn_py_raise(s, NULL, NULL);
}

/* ---- deleting ---- */

/* Settles what deleting this node looks at. */
static pn_status settle_for_delete(pn_kv *kv, const pn_doc_names *names, pn_bytes id, pn_cell_bin *bin)
{
    pn_coll *metadata;
    PN_TRY(pn_kv_collection(kv, names->metadata, &metadata));
    pn_cell *cell = pn_coll_get(metadata, id);
    PN_TRY(settle(cell, bin));
    pn_buf ref;
    pn_buf_init(&ref, &pn_alloc_system);
    bool has;
    pn_refdoc *info;
    pn_coll *refs = pn_kv_find(kv, names->refs);
    pn_status s = pn_doc_ref_of(cell, &ref, &has);
    if (s == PN_OK && has && refs != NULL) s = settled_refdoc(refs, pn_buf_view(&ref), bin, &info);
    pn_buf_clear(&ref);
    return s;
}

PyObject *pn_py_doc_delete(pn_module_state *state, PyObject *table, PyObject *const names[3], PyObject *id)
{
    PyObject *objects[4] = {names[0], names[1], names[2], id};
    pn_kv *kv = pn_py_kv(state, table);
    if (kv == NULL || !exact_names(objects) || !PyUnicode_CheckExact(id)) Py_RETURN_NOTIMPLEMENTED;
    pn_buf scratch[4];
    pn_bytes text[4];
    bool ok = true, existed = false;
    for (int i = 0; i < 4; i++) {
        pn_buf_init(&scratch[i], &pn_alloc_system);
        ok = ok && pn_py_key(objects[i], &scratch[i], &text[i]);
    }
    pn_cell_bin bin;
    pn_cell_bin_init(&bin, &pn_alloc_system);
    pn_status s = PN_ERR_CALLBACK;
    if (ok) {
        pn_doc_names names = {text[0], text[1], text[2]};
        s = settle_for_delete(kv, &names, text[3], &bin);
        if (s == PN_OK) s = pn_doc_delete(kv, &names, text[3], &bin, &existed);
    }
    for (int i = 0; i < 4; i++) pn_buf_clear(&scratch[i]);
    pn_cell_bin_empty(&bin, &pn_py_host);
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_NOTIMPLEMENTED;
    return s == PN_OK ? PyBool_FromLong(existed) : pn_py_raise(s, NULL, NULL);
}

static PyObject *doc_delete(PyObject *module, PyObject *args)
{
    PyObject *table, *names[3], *id;
    if (!PyArg_ParseTuple(args, "OUUUO:doc_delete", &table, &names[0], &names[1], &names[2], &id)) return NULL;
    return pn_py_doc_delete(pn_state_of(module), table, names, id);
}

/* ---- hashes ---- */

static bool is_plain(PyObject *str)
{
    return PyUnicode_IS_COMPACT_ASCII(str) &&
           pn_json_is_plain((pn_bytes){PyUnicode_1BYTE_DATA(str), (size_t)PyUnicode_GET_LENGTH(str)});
}

static uint8_t *put_bytes(uint8_t *to, const void *from, size_t n)
{
    memcpy(to, from, n);
    return to + n;
}

/* {"doc_hash": hash} and, behind it, the key, in one blob; for a hash without escapes. */
static pn_status plain_hash_entry(PyObject *hash, pn_bytes key, size_t *meta_len, pn_blob **out)
{
    static const char before[] = "{\"doc_hash\": \"", after[] = "\"}";
    size_t len = (size_t)PyUnicode_GET_LENGTH(hash);
    uint8_t *to;
    *meta_len = sizeof before - 1 + len + sizeof after - 1;
    PN_TRY(pn_blob_new(&pn_alloc_system, *meta_len + key.len, &to, out));
    to = put_bytes(to, before, sizeof before - 1);
    to = put_bytes(to, PyUnicode_1BYTE_DATA(hash), len);
    to = put_bytes(to, after, sizeof after - 1);
    if (key.len) put_bytes(to, key.ptr, key.len);
    return PN_OK;
}

static pn_status hash_entry(PyObject *hash, pn_bytes key, size_t *meta_len, pn_blob **out)
{
    if (is_plain(hash)) return plain_hash_entry(hash, key, meta_len, out);
    pn_buf text;
    pn_buf_init(&text, &pn_alloc_system);
    pn_status s = put_meta(&text, hash, NULL);
    *meta_len = text.len;
    if (s == PN_OK) s = pn_buf_append(&text, key.ptr, key.len);
    if (s == PN_OK) s = pn_blob_take(&text, out);
    pn_buf_clear(&text);
    return s;
}

/* What stood there before goes to *old. The collection's memory comes near while the text is made. */
static pn_status put_hash(pn_coll *coll, pn_bytes id, PyObject *hash, pn_cell *old)
{
    uint32_t near = pn_omap_near(&coll->cells, id);
    pn_omap_nearer(&coll->cells, near);
    pn_blob *blob;
    size_t len;
    PN_TRY(hash_entry(hash, id, &len, &blob));
    const uint8_t *text = pn_blob_view(blob).ptr;
    pn_cell cell = pn_cell_json(blob, (pn_bytes){text, len}, true);
    pn_status s = pn_coll_put_hashed(coll, (pn_bytes){text + len, id.len}, near, blob, cell, old);
    if (s != PN_OK) pn_cell_release(&cell, &pn_py_host);
    pn_blob_unref(blob);
    return s;
}

static pn_status put_hash_of(pn_coll *coll, PyObject *key, PyObject *hash, pn_cell *old)
{
    pn_buf scratch;
    pn_buf_init(&scratch, &pn_alloc_system);
    pn_bytes id;
    pn_status s = pn_py_key(key, &scratch, &id) ? put_hash(coll, id, hash, old) : PN_ERR_CALLBACK;
    pn_buf_clear(&scratch);
    return s;
}

PyObject *pn_py_doc_set_hash(pn_module_state *state, PyObject *table, PyObject *name, PyObject *key, PyObject *hash)
{
    pn_coll *coll = PyUnicode_CheckExact(key) && PyUnicode_CheckExact(hash) ? pn_py_coll(state, table, name) : NULL;
    if (coll == NULL) return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    pn_cell old = {.kind = PN_CELL_EMPTY};
    pn_status s = put_hash_of(coll, key, hash, &old);
    pn_cell_release(&old, &pn_py_host);
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_NOTIMPLEMENTED;
    return s == PN_OK ? Py_NewRef(Py_None) : pn_py_raise(s, NULL, NULL);
}

static pn_status put_hashes(pn_coll *coll, PyObject *hashes, pn_cell_bin *bin)
{
    PyObject *key, *hash;
    PN_TRY(pn_cell_bin_reserve(bin, (size_t)PyDict_GET_SIZE(hashes)));
    for (Py_ssize_t pos = 0; PyDict_Next(hashes, &pos, &key, &hash);) {
        pn_cell old = {.kind = PN_CELL_EMPTY};
        PN_TRY(put_hash_of(coll, key, hash, &old));
        pn_cell_bin_add(bin, old);
    }
    return PN_OK;
}

static bool all_str(PyObject *dict)
{
    PyObject *key, *value;
    for (Py_ssize_t pos = 0; PyDict_Next(dict, &pos, &key, &value);)
        if (!PyUnicode_CheckExact(key) || !PyUnicode_CheckExact(value)) return false;
    return true;
}

PyObject *pn_py_doc_set_hashes(pn_module_state *state, PyObject *table, PyObject *name, PyObject *hashes)
{
    bool usual = PyDict_CheckExact(hashes) && PyDict_GET_SIZE(hashes) > 0 && all_str(hashes);
    pn_coll *coll = usual ? pn_py_coll(state, table, name) : NULL;
    if (coll == NULL) return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
    pn_cell_bin bin;
    pn_cell_bin_init(&bin, &pn_alloc_system);
    int gc = pn_gc_pause();
    pn_status s = put_hashes(coll, hashes, &bin);
    pn_gc_resume(gc);
    if (s != PN_OK && s != PN_ERR_UNSUPPORTED) pn_py_raise(s, NULL, NULL);
    PyObject *result = PyErr_Occurred() ? NULL : Py_NewRef(s == PN_OK ? Py_None : Py_NotImplemented);
    pn_cell_bin_empty(&bin, &pn_py_host);
    return result;
}

static PyObject *doc_set_hash(PyObject *module, PyObject *args)
{
    PyObject *table, *name, *key, *hash;
    if (!PyArg_ParseTuple(args, "OOOO:doc_set_hash", &table, &name, &key, &hash)) return NULL;
    return pn_py_doc_set_hash(pn_state_of(module), table, name, key, hash);
}

static PyMethodDef functions[] = {
    {"doc_add", doc_add, METH_VARARGS,
     "doc_add(table, nodes, metadata, refs, docs, allow_update, store_text) -> bool: False: take the peer's way."},
    {"doc_delete", doc_delete, METH_VARARGS, "doc_delete(table, nodes, metadata, refs, id) -> bool | NotImplemented"},
    {"doc_set_hash", doc_set_hash, METH_VARARGS, "doc_set_hash(table, metadata, id, hash) -> bool"},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_docs(PyObject *module) { return PyModule_AddFunctions(module, functions); }
