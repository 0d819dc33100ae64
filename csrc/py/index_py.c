/* index_py.c: index structs on a native KVTable.
 *
 * An entry is {"__type__": type, "__data__": struct.to_json()}: JSON inside a JSON string.
 * The struct is printed straight from its fields into that form.
 */
#include "py/kv_type.h"

#include "codec/json_write.h"

/* {"field": value, ...} of the named fields, as to_json prints a dataclass. */
static pn_status put_fields(PyObject *fields, PyObject *names, pn_buf *out)
{
    PN_TRY(pn_buf_push(out, '{'));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i), *value = PyDict_GetItemWithError(fields, name);
        PN_FAIL_IF(value == NULL, PN_ERR_UNSUPPORTED);
        if (i) PN_TRY(PN_BUF_LIT(out, ", "));
        PN_TRY(pn_py_encode(name, PN_ENCODE_IDENTITY, out));
        PN_TRY(PN_BUF_LIT(out, ": "));
        PN_TRY(pn_py_encode(value, PN_ENCODE_STRUCT, out));
    }
    return pn_buf_push(out, '}');
}

static pn_status put_entry(PyObject *type, PyObject *fields, PyObject *names, pn_buf *inner, pn_buf *out)
{
    PN_TRY(put_fields(fields, names, inner));
    PN_TRY(pn_buf_reserve(out, inner->len + inner->len / 8 + 64));
    PN_TRY(PN_BUF_LIT(out, "{\"__type__\": "));
    PN_TRY(pn_py_encode(type, PN_ENCODE_IDENTITY, out));
    PN_TRY(PN_BUF_LIT(out, ", \"__data__\": \""));
    PN_TRY(pn_json_put_nested(out, pn_buf_view(inner)));
    return PN_BUF_LIT(out, "\"}");
}

static PyObject *struct_text(PyObject *module, PyObject *args)
{
    PyObject *fields, *names;
    if (!PyArg_ParseTuple(args, "O!O!:struct_text", &PyDict_Type, &fields, &PyTuple_Type, &names)) return NULL;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_status s = put_fields(fields, names, &out);
    PyObject *text = s == PN_OK                ? pn_py_text(pn_state_of(module), &out)
                     : s == PN_ERR_UNSUPPORTED ? Py_NewRef(Py_None)
                                               : pn_py_raise(s, NULL, NULL);
    pn_buf_clear(&out);
    return text;
}

static pn_status store_entry(pn_kv *kv, PyObject *name, PyObject *key, pn_buf *text, pn_cell *old)
{
    pn_buf a, b;
    pn_buf_init(&a, &pn_alloc_system);
    pn_buf_init(&b, &pn_alloc_system);
    pn_bytes n, k;
    pn_coll *coll;
    pn_blob *blob = NULL;
    pn_status s = pn_py_key(name, &a, &n) && pn_py_key(key, &b, &k) ? PN_OK : PN_ERR_CALLBACK;
    if (s == PN_OK) s = pn_kv_collection(kv, n, &coll);
    if (s == PN_OK) s = pn_blob_take(text, &blob);
    if (s == PN_OK) {
        pn_cell cell = pn_cell_json(blob, pn_blob_view(blob), true);
        cell.tag = PN_TAG_STRUCT;
        s = pn_coll_put(coll, k, NULL, cell, old);
        if (s != PN_OK) pn_cell_release(&cell, &pn_py_host);
    }
    pn_blob_unref(blob);
    pn_buf_clear(&a);
    pn_buf_clear(&b);
    return s;
}

static PyObject *struct_put(PyObject *module, PyObject *args)
{
    PyObject *table, *name, *key, *type, *fields, *names;
    if (!PyArg_ParseTuple(args, "OOOUO!O!:struct_put", &table, &name, &key, &type, &PyDict_Type, &fields, &PyTuple_Type,
                          &names))
        return NULL;
    if (!PyUnicode_CheckExact(name) || !PyUnicode_CheckExact(key)) Py_RETURN_FALSE;
    pn_buf inner, out;
    pn_buf_init(&inner, &pn_alloc_system);
    pn_buf_init(&out, &pn_alloc_system);
    pn_cell old = {.kind = PN_CELL_EMPTY};
    pn_status s = put_entry(type, fields, names, &inner, &out);
    pn_buf_clear(&inner);
    pn_kv *kv = pn_py_kv(pn_state_of(module), table); /* only now: encoding may have started other code */
    if (s == PN_OK) s = kv != NULL ? store_entry(kv, name, key, &out, &old) : PN_ERR_UNSUPPORTED;
    pn_buf_clear(&out);
    pn_cell_release(&old, &pn_py_host);
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_FALSE;
    return s == PN_OK ? Py_NewRef(Py_True) : pn_py_raise(s, NULL, NULL);
}

static PyMethodDef functions[] = {
    {"struct_text", struct_text, METH_VARARGS,
     "struct_text(fields, names) -> Text | None: what to_json prints; None: a value needs the peer's encoder."},
    {"struct_put", struct_put, METH_VARARGS,
     "struct_put(table, collection, key, type, fields, names) -> bool: False: take the peer's way."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_structs(PyObject *module) { return PyModule_AddFunctions(module, functions); }
