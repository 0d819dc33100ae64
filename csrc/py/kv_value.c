/* kv_value.c: the values of a KVTable's cells as Python objects.
 *
 * pn_py_host is the host's side of a live cell. A cell of any kind is decoded for the
 * occasion, or promoted: then the object is what the store holds from now on.
 */
#include "py/kv_type.h"

#include "store/refdoc.h"

static void host_release(void *ctx, void *live)
{
    (void)ctx;
    Py_DECREF((PyObject *)live);
}

static pn_status host_encode(void *ctx, void *live, pn_buf *out)
{
    (void)ctx;
    PyObject *obj = Py_NewRef((PyObject *)live); /* the encoder may run code that drops it */
    pn_status s = pn_py_encode(obj, PN_ENCODE_DUMPS, out);
    Py_DECREF(obj);
    return s;
}

static void host_retain(void *ctx, void *live)
{
    (void)ctx;
    Py_INCREF((PyObject *)live);
}

static void host_turn(void *ctx)
{
    (void)ctx;
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
}

const pn_host pn_py_host = {NULL, host_release, host_encode, host_retain, host_turn};

static PyObject *decode_mpack(struct pn_key_cache *keys, const pn_cell *cell)
{
    pn_buf json;
    pn_buf_init(&json, &pn_alloc_system);
    pn_error err;
    pn_status s = pn_cell_write_json(cell, &pn_py_host, &pn_alloc_system, &json);
    PyObject *value = NULL;
    if (s == PN_OK)
        value = pn_py_decode(keys, pn_buf_view(&json));
    else
        pn_py_raise(s, (err = (pn_error){s, 0, 0, NULL}, &err), NULL);
    pn_buf_clear(&json);
    return value;
}

PyObject *pn_py_key_list(const pn_omap *map)
{
    int gc = pn_gc_pause();
    PyObject *list = PyList_New((Py_ssize_t)pn_omap_len(map));
    size_t pos = 0;
    pn_bytes key;
    void *unused;
    for (Py_ssize_t i = 0; list != NULL && pn_omap_next(map, &pos, &key, &unused); i++) {
        PyObject *s = pn_py_str(key);
        if (s == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, s);
    }
    pn_gc_resume(gc);
    return list;
}

static PyObject *refdoc_dict(struct pn_key_cache *keys, pn_refdoc *r)
{
    PyObject *ids = pn_py_key_list(&r->ids), *metadata = pn_py_cell_value(keys, &r->metadata);
    PyObject *dict = ids && metadata ? Py_BuildValue("{sOsO}", "node_ids", ids, "metadata", metadata) : NULL;
    Py_XDECREF(ids);
    Py_XDECREF(metadata);
    return dict;
}

static PyObject *struct_dict(const pn_struct *s)
{
    pn_buf data;
    pn_buf_init(&data, &pn_alloc_system);
    pn_status status = pn_struct_write_data(s, &data);
    PyObject *dict = status == PN_OK ? Py_BuildValue("{ss#ss#}", "__type__", s->type.data, (Py_ssize_t)s->type.len,
                                                     "__data__", data.data, (Py_ssize_t)data.len)
                                     : pn_py_raise(status, NULL, NULL);
    pn_buf_clear(&data);
    return dict;
}

/* The peer keeps an enum member under "__type__" until the value has been through a
 * file; a span that was made in this process remembers which enum by its tag. */
static PyObject *restore_type(PyObject *value, uint8_t tag)
{
    static const char *const home[][2] = {
        {"llama_index.core.schema", "ObjectType"},
        {"llama_index.core.data_structs.struct_type", "IndexStructType"},
    };
    if (value == NULL || tag == PN_TAG_NONE) return value;
    /* Only dictionary look-ups: no bytecode may run here, since that could let another
     * thread change the table whose cell is being promoted. */
    PyObject *name = PyUnicode_FromString(home[tag - 1][0]), *module = name ? PyImport_GetModule(name) : NULL;
    PyObject *type = module ? PyObject_GetAttrString(module, home[tag - 1][1]) : NULL;
    PyObject *members = type ? PyObject_GetAttrString(type, "_value2member_map_") : NULL;
    PyObject *text = PyDict_Check(value) ? PyDict_GetItemString(value, "__type__") : NULL;
    PyObject *member = members && text ? PyDict_GetItemWithError(members, text) : NULL;
    if (member != NULL) (void)PyDict_SetItemString(value, "__type__", member);
    PyErr_Clear(); /* the text itself equals the member: good enough */
    Py_XDECREF(members);
    Py_XDECREF(type);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return value;
}

bool pn_py_settle_slow(pn_cell *cell)
{
    pn_error err = {PN_OK, 0, 0, NULL};
    pn_status s = pn_cell_settle_slow(cell, &err);
    if (s == PN_OK) return true;
    pn_blob *file = pn_blob_ref(cell->span.blob); /* the message's name lies in it: code may drop the cell */
    if (s == PN_ERR_CORRUPT)
        pn_py_raise_damaged(NULL, pn_blob_name(file), &err);
    else
        pn_py_raise(s, NULL, NULL);
    pn_blob_unref(file);
    return false;
}

PyObject *pn_py_cell_value(struct pn_key_cache *keys, pn_cell *cell)
{
    if (!pn_py_settle(cell)) return NULL;
    switch ((pn_cell_kind)cell->kind) {
    case PN_CELL_LIVE: return Py_NewRef((PyObject *)cell->live);
    case PN_CELL_JSON: return restore_type(pn_py_decode(keys, pn_cell_span(cell)), cell->tag);
    case PN_CELL_MPACK: return decode_mpack(keys, cell);
    case PN_CELL_REFDOC: return refdoc_dict(keys, cell->refdoc);
    case PN_CELL_STRUCT: return restore_type(struct_dict(cell->structure), cell->tag);
    case PN_CELL_PACKED:
    case PN_CELL_EMPTY: break;
    }
    PyErr_SetString(PyExc_SystemError, "an empty cell has no value");
    return NULL;
}

void pn_py_go_live(pn_coll *coll, pn_cell *cell, PyObject *value)
{
    if (coll != NULL) pn_coll_goes_live(coll, cell);
    pn_cell old = *cell;
    *cell = (pn_cell){.kind = PN_CELL_LIVE};
    cell->live = value;
    pn_cell_release(&old, &pn_py_host); /* a span or native state: no Python code runs */
}

PyObject *pn_py_promote(struct pn_key_cache *keys, pn_coll *coll, pn_cell *cell)
{
    if (cell->kind == PN_CELL_LIVE) return cell->live;
    int gc = pn_gc_pause(); /* a finalizer could change the table that the cell lies in */
    PyObject *value = pn_py_cell_value(keys, cell);
    if (value != NULL) pn_py_go_live(coll, cell, value);
    pn_gc_resume(gc);
    return value;
}
