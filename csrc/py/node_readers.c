/* node_readers.c: readers from the tuples that pannier._nodeplan makes. Everything is
 * checked here once, so that decoding need not.
 */
#include "py/node_model.h"

#include <structmember.h>

Py_ssize_t pn_node_field_index(const pn_node_model *m, pn_bytes name)
{
    for (Py_ssize_t i = 0; i < m->count; i++)
        if (pn_bytes_equal(m->text[i], name)) return i;
    return -1;
}

static bool bad(const char *what)
{
    if (!PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "not a node reader: %s", what);
    return false;
}

static bool take_names(pn_node_model *m)
{
    m->count = PyTuple_GET_SIZE(m->names);
    if (m->count > PN_MODEL_MAX) return bad("too many fields");
    for (Py_ssize_t i = 0; i < m->count; i++) {
        PyObject *name = PyTuple_GET_ITEM(m->names, i);
        if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_COMPACT_ASCII(name)) return bad("names");
        if (PyDict_GetItemWithError(m->defaults, name) == NULL) return bad("defaults");
        m->text[i] = (pn_bytes){PyUnicode_1BYTE_DATA(name), (size_t)PyUnicode_GET_LENGTH(name)};
        int len = snprintf(m->prefix[i].text, PN_PIECE_KEPT, ", \"%s\": ", (const char *)m->text[i].ptr);
        m->prefix[i].len = len > 0 && len < PN_PIECE_KEPT ? (uint8_t)len : 0;
    }
    return PyDict_GET_SIZE(m->defaults) == m->count || bad("defaults");
}

/* Where instances have the slot, which a class with __slots__ leaves to such a descriptor. */
static bool take_slot(PyTypeObject *type, PyObject *descriptor, Py_ssize_t *at)
{
    *at = 0;
    if (descriptor == Py_None) return true;
    if (!Py_IS_TYPE(descriptor, &PyMemberDescr_Type)) return bad("slots");
    const PyMemberDef *member = ((PyMemberDescrObject *)descriptor)->d_member;
    if (member->type != T_OBJECT_EX || member->flags != 0) return bad("slots");
    *at = member->offset;
    return PyType_IsSubtype(type, PyDescr_TYPE(descriptor)) || bad("slots");
}

static bool take_model(PyObject *tuple, pn_node_model *m)
{
    Py_ssize_t kinds, absent, aliases;
    PyObject *set, *extra, *private;
    if (!PyTuple_CheckExact(tuple)) return bad("model");
    if (!PyArg_ParseTuple(tuple, "O!O!y#y#y#O!OOOO", &PyType_Type, &m->type, &PyTuple_Type, &m->names, &m->kinds, &kinds,
                          &m->absent, &absent, &m->aliases, &aliases, &PyDict_Type, &m->defaults, &m->full_set, &set, &extra,
                          &private))
        return false;
    if (!take_names(m)) return false;
    if (m->full_set == Py_None) m->full_set = NULL;
    if (m->full_set != NULL && !PySet_Check(m->full_set)) return bad("full set");
    if (kinds != m->count || absent != m->count || aliases != m->count) return bad("sizes");
    for (Py_ssize_t i = 0; i < m->count; i++)
        if ((uint8_t)m->aliases[i] > m->count) return bad("aliases");
    if (m->type->tp_alloc != PyType_GenericAlloc || m->type->tp_itemsize != 0) return bad("class");
    m->id = pn_node_field_index(m, PN_BYTES("id_"));
    if (m->id < 0) m->id = pn_node_field_index(m, PN_BYTES("node_id"));
    if (!take_slot(m->type, extra, &m->extra_at) || !take_slot(m->type, private, &m->private_at)) return false;
    return take_slot(m->type, set, &m->set_at) && (m->set_at != 0 || bad("slots"));
}

static bool take_text(PyObject *str, pn_bytes *out)
{
    if (!PyUnicode_CheckExact(str) || !PyUnicode_IS_COMPACT_ASCII(str)) return bad("text");
    *out = (pn_bytes){PyUnicode_1BYTE_DATA(str), (size_t)PyUnicode_GET_LENGTH(str)};
    return true;
}

static bool take_reader(PyObject *tuple, pn_node_reader *r)
{
    PyObject *type, *name, *m;
    if (!PyTuple_CheckExact(tuple)) return bad("reader");
    if (!PyArg_ParseTuple(tuple, "OOOiO", &type, &name, &m, &r->flags, &r->watch)) return false;
    if (!take_text(type, &r->type_text) || (name != Py_None && !take_text(name, &r->class_name))) return false;
    if (!take_model(m, &r->model) || !pn_watch_check(r->watch)) return false;
    r->resource = (int)pn_node_field_index(&r->model, PN_BYTES("text_resource"));
    r->path = (int)pn_node_field_index(&r->model, PN_BYTES("image_path"));
    r->mimetype = (int)pn_node_field_index(&r->model, PN_BYTES("image_mimetype"));
    r->holds = -1;
    if (r->flags & PN_READER_TEXT && r->resource < 0) return bad("no text_resource");
    return !(r->flags & PN_READER_IMAGE) || (r->path >= 0 && r->mimetype >= 0) || bad("no image fields");
}

static bool relationships_ok(PyObject *dict)
{
    PyObject *key, *pair;
    Py_ssize_t pos = 0;
    while (PyDict_Next(dict, &pos, &key, &pair))
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyLong_CheckExact(PyTuple_GET_ITEM(pair, 1)))
            return bad("relationships");
    return true;
}

static bool take_readers(PyObject *owner, pn_node_readers *out)
{
    PyObject *related, *resource, *readers;
    if (!PyArg_ParseTuple(owner, "O!OOO!", &PyDict_Type, &out->relationships, &related, &resource, &PyTuple_Type,
                          &readers))
        return false;
    if (!relationships_ok(out->relationships) || !take_model(related, &out->related)) return false;
    if (resource != Py_None) {
        if (!take_model(resource, &out->resource)) return false;
        out->resource_text = pn_node_field_index(&out->resource, PN_BYTES("text"));
    }
    if (PyTuple_GET_SIZE(readers) > PN_READERS_MAX) return bad("too many");
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(readers); i++, out->count++)
        if (!take_reader(PyTuple_GET_ITEM(readers, i), &out->readers[i])) return false;
    return true;
}

static void clear_pieces(pn_kept_piece *pieces, size_t n)
{
    for (size_t i = 0; i < n; i++) Py_CLEAR(pieces[i].str);
}

static void clear_kept(pn_kept *k)
{
    for (size_t i = 0; i < PN_OBJECTS_KEPT; i++) {
        Py_CLEAR(k->flats[i].dict);
        Py_CLEAR(k->models[i].dict);
    }
    Py_CLEAR(k->spare.dict);
    clear_pieces(k->fields[0], PN_OBJECTS_KEPT * PN_FIELDS_KEPT);
    clear_pieces(k->keys[0], PN_OBJECTS_KEPT * PN_VALUES_KEPT);
    clear_pieces(k->values[0], PN_OBJECTS_KEPT * PN_VALUES_KEPT);
    for (size_t i = 0; i < PN_OBJECTS_KEPT + PN_LISTS_KEPT; i++) Py_CLEAR(k->wholes[i].value);
}

void pn_node_readers_free(pn_node_readers *readers)
{
    if (readers == NULL) return;
    pn_key_cache_clear(&readers->keys);
    clear_kept(&readers->kept);
    Py_XDECREF(readers->owner);
    pn_alloc_put(&pn_alloc_system, readers);
}

int pn_node_readers_traverse(pn_node_readers *readers, visitproc visit, void *arg)
{
    if (readers != NULL) Py_VISIT(readers->owner);
    return 0;
}

pn_node_readers *pn_node_readers_new(PyObject *owner)
{
    if (!PyTuple_CheckExact(owner)) return PyErr_Format(PyExc_TypeError, "a tuple is needed"), NULL;
    pn_node_readers *readers = pn_alloc_zero(&pn_alloc_system, 1, sizeof *readers);
    if (readers == NULL) return PyErr_NoMemory(), NULL;
    readers->owner = Py_NewRef(owner);
    if (take_readers(owner, readers)) return readers;
    pn_node_readers_free(readers);
    return NULL;
}
