/* pack_type.c: Pack, one generation of a pack that is open for reading.
 *
 * It maps the segments and holds them; stores that are taken out of it hold what they
 * need by themselves. Any thread; taking a store out releases the GIL.
 */
#include "py/pack_py.h"

#include "codec/mpack_pull.h"
#include "py/graph_type.h"
#include "store/graph_pack.h"
#include "store/kv_pack.h"
#include "store/vector_json.h"
#include "store/vector_pack.h"

#include <errno.h>

typedef struct {
    PyObject_HEAD
    pn_pack *pack;
} pack_object;

/* ---- errors ---- */

static PyObject *raise_named(pn_module_state *state, const char *cls_name, const char *format, const char *path,
                             const char *detail)
{
    PyObject *cls = PyObject_GetAttrString(state->errors, cls_name);
    PyObject *name = cls ? PyUnicode_DecodeFSDefault(path) : NULL;
    PyObject *more = name ? PyUnicode_DecodeFSDefault(detail) : NULL;
    if (more != NULL) PyErr_Format(cls, format, name, more);
    Py_XDECREF(more);
    Py_XDECREF(name);
    Py_XDECREF(cls);
    return NULL;
}

PyObject *pn_py_raise_pack(pn_module_state *state, pn_status status, const pn_file_error *err, const char *root)
{
    char number[32];
    const char *what = err->base.what ? err->base.what : pn_status_text(status);
    switch (status) {
    case PN_ERR_CALLBACK: return NULL;
    case PN_ERR_NOMEM: return PyErr_NoMemory();
    case PN_ERR_IO:
    case PN_ERR_UNKNOWN_OUTCOME: return pn_py_raise_commit(state, status, err);
    case PN_ERR_VERSION:
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)err->base.offset);
        return raise_named(state, "FormatVersionError",
                           "%U is in format version %U; this release reads up to version 1. Nothing was changed. "
                           "Update pannier.",
                           err->path, number);
    case PN_ERR_CONFLICT:
        return raise_named(state, "ConflictError",
                           "%U in %U was changed by another writer after this context was opened or last persisted. "
                           "Nothing was changed. Open the directory again (reload(), or a new context), repeat the "
                           "change there and persist.",
                           err->path, root);
    case PN_ERR_LOCKED:
        return raise_named(state, "LockedError",
                           "another writer is at work in the pack%U%U. Nothing was changed. Persist again when it is done.",
                           err->path[0] ? ": " : "", err->path);
    case PN_ERR_NOT_FOUND: return raise_named(state, "GenerationError", "%U: %U", err->path[0] ? err->path : root, what);
    case PN_ERR_CORRUPT: return pn_py_raise_damaged(state, err->path[0] ? err->path : root, &err->base);
    default: return pn_py_raise(status, &err->base, err->path[0] ? err->path : root);
    }
}

/* ---- the manifest ---- */

/* Puts value (stolen; NULL is a failure) into a dict under a name in the file system's
 * encoding. */
static bool put(PyObject *dict, const char *name, PyObject *value)
{
    PyObject *key = value ? PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "surrogatepass") : NULL;
    bool ok = key != NULL && PyDict_SetItem(dict, key, value) == 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return ok;
}

static PyObject *segments_of(const pn_manifest *m, const pn_generation *g)
{
    PyObject *names = PyList_New((Py_ssize_t)g->segment_count);
    for (size_t i = 0; names != NULL && i < g->segment_count; i++) {
        PyObject *name = PyUnicode_FromString(m->segments[g->segments[i]].name);
        if (name == NULL) Py_CLEAR(names);
        else PyList_SET_ITEM(names, (Py_ssize_t)i, name);
    }
    return names;
}

static bool fill_generation(PyObject *dict, const pn_manifest *m, const pn_generation *g)
{
    PyObject *stores = PyDict_New(), *foreign = PyDict_New(), *json = PyDict_New();
    bool ok = stores != NULL && foreign != NULL && json != NULL;
    for (size_t i = 0; ok && i < g->store_count; i++)
        ok = put(stores, g->stores[i].name,
                 Py_BuildValue("iK", g->stores[i].kind, (unsigned long long)g->stores[i].changed));
    for (size_t i = 0; ok && i < g->foreign_count; i++)
        ok = put(foreign, g->foreign[i].name, PyUnicode_FromString(g->foreign[i].type));
    for (size_t i = 0; ok && i < g->json_count; i++)
        ok = put(json, g->json[i].name,
                 Py_BuildValue("KLI", (unsigned long long)g->json[i].size, (long long)g->json[i].mtime,
                               (unsigned int)g->json[i].crc));
    ok = ok && put(dict, "number", PyLong_FromUnsignedLongLong(g->number)) &&
         put(dict, "time", PyLong_FromLongLong(g->time)) && put(dict, "segments", segments_of(m, g)) &&
         put(dict, "stores", Py_NewRef(stores)) && put(dict, "foreign", Py_NewRef(foreign)) &&
         put(dict, "json", Py_NewRef(json));
    Py_XDECREF(stores);
    Py_XDECREF(foreign);
    Py_XDECREF(json);
    return ok;
}

static PyObject *generations_of(const pn_manifest *m)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < m->generation_count; i++) {
        PyObject *g = PyDict_New();
        if (g == NULL || !fill_generation(g, m, &m->generations[i]) || PyList_Append(list, g) < 0) Py_CLEAR(list);
        Py_XDECREF(g);
    }
    return list;
}

static PyObject *sizes_of(const pn_manifest *m)
{
    PyObject *sizes = PyDict_New();
    for (size_t i = 0; sizes != NULL && i < m->segment_count; i++)
        if (!put(sizes, m->segments[i].name, PyLong_FromUnsignedLongLong(m->segments[i].size))) Py_CLEAR(sizes);
    return sizes;
}

PyObject *pn_py_manifest(const pn_manifest *m)
{
    PyObject *dict = PyDict_New();
    bool ok = dict != NULL &&
              put(dict, "id", PyBytes_FromStringAndSize((const char *)m->id, (Py_ssize_t)sizeof m->id)) &&
              put(dict, "keep", PyLong_FromUnsignedLong(m->keep)) && put(dict, "segments", sizes_of(m)) &&
              put(dict, "generations", generations_of(m));
    if (!ok) Py_CLEAR(dict);
    return dict;
}

/* ---- opening ---- */

PyDoc_STRVAR(pack_open_doc,
             "open($type, /, root, generation=0, check=False, copy=False)\n--\n\n"
             "Open a generation of the pack in a directory for reading; takes no lock.\n\n"
             "Args:\n"
             "    root (str | os.PathLike): the directory.\n"
             "    generation (int): its number; 0 is the current one.\n"
             "    check (bool): check all bytes now, instead of each value before its first use.\n"
             "    copy (bool): read the segments into memory instead of mapping them.\n\n"
             "Returns:\n"
             "    Pack | None: None when the directory holds no pack.\n\n"
             "Raises:\n"
             "    GenerationError, CorruptPackError, FormatVersionError, OSError.");

static PyObject *wrap(PyTypeObject *type, pn_pack *pack)
{
    pack_object *self = (pack_object *)type->tp_alloc(type, 0);
    if (self == NULL) pn_pack_close(pack);
    else self->pack = pack;
    return (PyObject *)self;
}

static PyObject *pack_open(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", "generation", "check", "copy", NULL};
    PyObject *root = NULL, *result;
    unsigned long long generation = 0;
    int check = 0, copy = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|Kpp:open", names, PyUnicode_FSConverter, &root, &generation,
                                     &check, &copy))
        return NULL;
    pn_pack *pack = NULL;
    pn_file_error err = {0};
    pn_status s;
    unsigned flags = (check ? PN_PACK_CHECK : 0) | (copy ? PN_PACK_COPY : 0);
    Py_BEGIN_ALLOW_THREADS
    s = pn_pack_open(&pn_vfs_posix, &pn_alloc_system, PyBytes_AS_STRING(root), generation, flags, &pack, &err);
    Py_END_ALLOW_THREADS
    if (s == PN_OK) result = wrap((PyTypeObject *)type, pack);
    else if (s == PN_ERR_NOT_FOUND && generation == 0) result = Py_NewRef(Py_None);
    else result = pn_py_raise_pack(pn_state_of_type((PyTypeObject *)type), s, &err, PyBytes_AS_STRING(root));
    Py_DECREF(root);
    return result;
}

static void pack_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    pn_pack_close(((pack_object *)op)->pack);
    type->tp_free(op);
    Py_DECREF(type);
}

/* ---- taking stores out ---- */

/* Raises for a store that could not be read: in segment `bad`. */
static PyObject *raise_store(PyObject *op, pn_status s, size_t bad, const pn_error *err)
{
    pack_object *self = (pack_object *)op;
    if (s == PN_ERR_CORRUPT && bad < self->pack->segment_count)
        return pn_py_raise_damaged(pn_state_of_type(Py_TYPE(op)), pn_blob_name(self->pack->segments[bad]->blob), err);
    return pn_py_raise(s, err, NULL);
}

static pn_status read_kv(const pn_pack *p, pn_bytes name, pn_kv **out, size_t *bad, pn_error *err)
{
    PN_TRY(pn_kv_new(&pn_alloc_system, &pn_py_host, out));
    pn_status s = pn_kv_unpack(*out, name, p->segments, p->segment_count, bad, err);
    if (s == PN_OK) return PN_OK;
    pn_kv_unref(*out); /* nothing in it is live: no Python code runs */
    *out = NULL;
    return s;
}

static pn_status read_vectors(const pn_pack *p, pn_bytes name, pn_vec *out, size_t *bad, pn_error *err)
{
    pn_vec_init(out, &pn_alloc_system);
    pn_status s = pn_vec_unpack(out, name, p->segments, p->segment_count, bad, err);
    if (s != PN_OK) pn_vec_clear(out);
    return s;
}

static PyObject *pack_kv(PyObject *op, PyObject *args)
{
    pack_object *self = (pack_object *)op;
    const char *name;
    Py_ssize_t n;
    PyObject *table;
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL || !PyArg_ParseTuple(args, "s#O!:kv", &name, &n, state->kv_type, &table)) return NULL;
    pn_kv *kv = NULL;
    size_t bad = SIZE_MAX;
    pn_error err = {0};
    pn_status s;
    Py_BEGIN_ALLOW_THREADS
    s = read_kv(self->pack, (pn_bytes){(const uint8_t *)name, (size_t)n}, &kv, &bad, &err);
    Py_END_ALLOW_THREADS
    if (s != PN_OK) return raise_store(op, s, bad, &err);
    return pn_py_kv_replace(table, kv) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *pack_vectors(PyObject *op, PyObject *arg)
{
    pack_object *self = (pack_object *)op;
    Py_ssize_t n;
    const char *name = PyUnicode_AsUTF8AndSize(arg, &n);
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL || name == NULL) return NULL;
    pn_vec vec;
    size_t bad = SIZE_MAX;
    pn_error err = {0};
    pn_status s;
    Py_BEGIN_ALLOW_THREADS
    s = read_vectors(self->pack, (pn_bytes){(const uint8_t *)name, (size_t)n}, &vec, &bad, &err);
    Py_END_ALLOW_THREADS
    return s == PN_OK ? pn_py_vector_table(state->vector_type, &vec) : raise_store(op, s, bad, &err);
}

static PyObject *pack_graph(PyObject *op, PyObject *arg)
{
    pack_object *self = (pack_object *)op;
    Py_ssize_t n;
    const char *name = PyUnicode_AsUTF8AndSize(arg, &n);
    pn_module_state *state = pn_state_of_type(Py_TYPE(op));
    if (state == NULL || name == NULL) return NULL;
    pn_graph *graph;
    size_t bad = SIZE_MAX;
    pn_error err = {0};
    pn_status s;
    Py_BEGIN_ALLOW_THREADS
    s = pn_graph_unpack(&pn_alloc_system, &pn_py_host, (pn_bytes){(const uint8_t *)name, (size_t)n}, self->pack->segments,
                        self->pack->segment_count, &graph, &bad, &err);
    Py_END_ALLOW_THREADS
    if (s == PN_OK) return pn_py_graph_table(state->graph_type, graph);
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_NONE;
    return raise_store(op, s, bad, &err);
}

/* ---- a store as the text of its file ---- */

static pn_status kv_text(const pn_pack *p, pn_bytes name, pn_buf *out, size_t *bad, pn_error *err)
{
    pn_kv *kv;
    PN_TRY(read_kv(p, name, &kv, bad, err));
    pn_kv_place place = {.turns = false};
    pn_status s = pn_kv_write_json(kv, out, &place);
    pn_kv_place_clear(&place);
    pn_kv_unref(kv);
    return s;
}

static pn_status vectors_text(const pn_pack *p, pn_bytes name, pn_buf *out, size_t *bad, pn_error *err)
{
    pn_vec vec;
    const char *file;
    PN_TRY(read_vectors(p, name, &vec, bad, err));
    pn_status s = pn_vec_settle_rows(&vec, &file, err);
    if (s == PN_OK) s = pn_vec_settle_metas(&vec, &file, err);
    if (s == PN_OK) s = pn_vec_save_json(&vec, NULL, 0, out);
    for (size_t i = 0; s == PN_ERR_CORRUPT && i < p->segment_count; i++)
        if (pn_blob_name(p->segments[i]->blob) != NULL && strcmp(pn_blob_name(p->segments[i]->blob), file) == 0) *bad = i;
    pn_vec_clear(&vec);
    return s;
}

/* The last segment that has the store has all of it: text is always written whole. */
static pn_status plain_text(const pn_pack *p, pn_bytes name, pn_buf *out, size_t *bad, pn_error *err)
{
    for (size_t i = p->segment_count; i-- > 0;) {
        const pn_segment_store *s = pn_segment_find(p->segments[i], name);
        if (s == NULL) continue;
        *bad = i;
        const uint8_t *start = pn_blob_view(p->segments[i]->blob).ptr;
        pn_segment_entry e = {0};
        if (s->table_count != 1 || !pn_segment_next(&s->tables[0], &e) || e.op == PN_ENTRY_REMOVE || e.form != PN_FORM_MPACK)
            return pn_fail(err, PN_ERR_CORRUPT, 0, "a store of text does not have the one value that it should have");
        pn_status status = pn_segment_check_value(&pn_alloc_system, e.form, e.value, e.crc, err);
        pn_mpack_pull in;
        pn_bytes text;
        if (status != PN_OK) {
            err->offset += (uint64_t)(e.value.ptr - start);
            return status;
        }
        pn_mpack_pull_init(&in, e.value, (uint64_t)(e.value.ptr - start));
        if (pn_mpack_pull_text(&in, &text) == PN_OK && pn_mpack_pull_end(&in) == PN_OK)
            return pn_buf_append(out, text.ptr, text.len);
        *err = in.error;
        return err->code;
    }
    return pn_fail(err, PN_ERR_NOT_FOUND, 0, "no such store");
}

static pn_status text_of(const pn_pack *p, pn_bytes name, int kind, pn_buf *out, size_t *bad, pn_error *err)
{
    switch (kind) {
    case PN_STORE_COLLECTIONS: return kv_text(p, name, out, bad, err);
    case PN_STORE_VECTORS: return vectors_text(p, name, out, bad, err);
    default: return plain_text(p, name, out, bad, err);
    }
}

static PyObject *pack_text(PyObject *op, PyObject *arg)
{
    pack_object *self = (pack_object *)op;
    Py_ssize_t n;
    const char *utf8 = PyUnicode_AsUTF8AndSize(arg, &n);
    if (utf8 == NULL) return NULL;
    pn_bytes name = {(const uint8_t *)utf8, (size_t)n};
    const pn_manifest_store *store = pn_generation_store(self->pack->generation, name);
    if (store == NULL) return PyErr_Format(PyExc_KeyError, "%U", arg), NULL;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    size_t bad = SIZE_MAX;
    pn_error err = {0};
    pn_status s;
    Py_BEGIN_ALLOW_THREADS
    s = text_of(self->pack, name, store->kind, &out, &bad, &err);
    Py_END_ALLOW_THREADS
    PyObject *text = s == PN_OK ? pn_py_text(pn_state_of_type(Py_TYPE(op)), &out) : raise_store(op, s, bad, &err);
    pn_buf_clear(&out);
    return text;
}

/* ---- the type ---- */

static PyObject *pack_manifest(PyObject *op, void *unused)
{
    (void)unused;
    return pn_py_manifest(&((pack_object *)op)->pack->manifest);
}

static PyObject *pack_generation(PyObject *op, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((pack_object *)op)->pack->generation->number);
}

static PyMethodDef pack_methods[] = {
    {"open", (PyCFunction)(void (*)(void))pack_open, METH_VARARGS | METH_KEYWORDS | METH_CLASS, pack_open_doc},
    {"kv", pack_kv, METH_VARARGS, "kv(name, table): replaces the contents of a KVTable by a store of collections."},
    {"vectors", pack_vectors, METH_O, "vectors(name) -> VectorTable: a store of vectors."},
    {"graph", pack_graph, METH_O,
     "graph(name) -> TripletTable | None: a store of collections that is a graph_dict of plain pairs."},
    {"text", pack_text, METH_O, "text(name) -> Text: any store as the bytes of its file."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pack_getset[] = {
    {"manifest", pack_manifest, NULL,
     "dict: id (bytes), keep, segments {name: size}, generations [{number, time, segments, stores {name: (kind, changed)}, "
     "foreign {name: class}, json {name: (size, mtime, crc)}}].",
     NULL},
    {"generation", pack_generation, NULL, "int: the number of the generation that is open.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pack_slots[] = {
    {Py_tp_doc, "One generation of a pack, open for reading: see Pack.open."},
    {Py_tp_dealloc, pack_dealloc},
    {Py_tp_methods, pack_methods},
    {Py_tp_getset, pack_getset},
    {0, NULL},
};

static PyType_Spec pack_spec = {
    .name = "pannier._core.Pack",
    .basicsize = sizeof(pack_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pack_slots,
};

int pn_py_add_pack(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &pack_spec, NULL);
    if (type == NULL) return -1;
    int r = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return r;
}
