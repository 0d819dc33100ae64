/* pack_upkeep_py.c: what can be done with a pack's directory without any store in memory. */
#include "py/pack_py.h"

#include "base/crc32c.h"

static PyObject *result_of(PyObject *module, pn_status s, const pn_pack_result *r, const pn_file_error *err, PyObject *root)
{
    PyObject *out = s != PN_OK ? pn_py_raise_pack(pn_state_of(module), s, err, PyBytes_AS_STRING(root))
                               : Py_BuildValue("KKO", (unsigned long long)r->generation, (unsigned long long)r->bytes,
                                               r->wrote ? Py_True : Py_False);
    Py_DECREF(root);
    return out;
}

PyDoc_STRVAR(manifest_doc,
             "pack_manifest($module, /, root)\n--\n\n"
             "The manifest of the pack in a directory, without opening its segments.\n\n"
             "Returns:\n"
             "    dict | None: as Pack.manifest; None when there is no manifest. No generations: the pack was\n"
             "    retired, its JSON files count.\n\n"
             "Raises:\n"
             "    CorruptPackError, FormatVersionError, OSError.");

static PyObject *manifest(PyObject *module, PyObject *arg)
{
    PyObject *root = NULL, *out;
    if (!PyUnicode_FSConverter(arg, &root)) return NULL;
    pn_manifest m;
    pn_file_error err = {0};
    pn_status s;
    pn_manifest_init(&m, &pn_alloc_system);
    Py_BEGIN_ALLOW_THREADS
    s = pn_pack_manifest(&pn_vfs_posix, &pn_alloc_system, PyBytes_AS_STRING(root), &m, &err);
    Py_END_ALLOW_THREADS
    if (s == PN_OK) out = pn_py_manifest(&m);
    else if (s == PN_ERR_NOT_FOUND) out = Py_NewRef(Py_None);
    else out = pn_py_raise_pack(pn_state_of(module), s, &err, PyBytes_AS_STRING(root));
    pn_manifest_clear(&m);
    Py_DECREF(root);
    return out;
}

PyDoc_STRVAR(rollback_doc,
             "pack_rollback($module, /, root, generation, time, note, patience=10000)\n--\n\n"
             "Make a new generation that is an earlier one again.\n\n"
             "Returns:\n"
             "    tuple[int, int, bool]: the generation's number, bytes written, whether one was made.\n\n"
             "Raises:\n"
             "    GenerationError: it is not kept. LockedError, CommitError, CorruptPackError, ...");

static PyObject *rollback(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", "generation", "time", "note", "patience", NULL};
    PyObject *root = NULL;
    unsigned long long generation;
    long long time;
    const char *note;
    unsigned int patience = 10000;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&KLs|I:pack_rollback", names, PyUnicode_FSConverter, &root, &generation,
                                     &time, &note, &patience))
        return NULL;
    pn_pack_result r = {0};
    pn_file_error err = {0};
    pn_status s;
    Py_BEGIN_ALLOW_THREADS
    s = pn_pack_rollback(&pn_vfs_posix, &pn_alloc_system, PyBytes_AS_STRING(root), generation, time, patience, note, &r, &err);
    Py_END_ALLOW_THREADS
    return result_of(module, s, &r, &err, root);
}

PyDoc_STRVAR(compact_doc,
             "pack_compact($module, /, root, note, keep=0, patience=10000)\n--\n\n"
             "Merge the current generation's segments into one, and forget all but the last `keep` generations\n"
             "(0: none).\n\n"
             "Returns:\n"
             "    tuple[int, int, bool]: the current generation, bytes written, whether anything was.\n\n"
             "Raises:\n"
             "    LockedError, CommitError, CorruptPackError, ...");

static PyObject *compact(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", "note", "keep", "patience", NULL};
    PyObject *root = NULL;
    const char *note;
    unsigned int keep = 0, patience = 10000;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&s|II:pack_compact", names, PyUnicode_FSConverter, &root, &note, &keep,
                                     &patience))
        return NULL;
    pn_pack_result r = {0};
    pn_file_error err = {0};
    pn_status s;
    Py_BEGIN_ALLOW_THREADS
    s = pn_pack_compact(&pn_vfs_posix, &pn_alloc_system, PyBytes_AS_STRING(root), keep, patience, note, &r, &err);
    Py_END_ALLOW_THREADS
    return result_of(module, s, &r, &err, root);
}

PyDoc_STRVAR(retire_doc,
             "pack_retire($module, /, root, note, patience=10000)\n--\n\n"
             "Remove a pack's files once its manifest has no generations.");

static PyObject *retire(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", "note", "patience", NULL};
    PyObject *root = NULL;
    const char *note;
    unsigned int patience = 10000;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&s|I:pack_retire", names, PyUnicode_FSConverter, &root, &note,
                                     &patience))
        return NULL;
    pn_file_error err = {0};
    pn_status s;
    Py_BEGIN_ALLOW_THREADS
    s = pn_pack_retire(&pn_vfs_posix, &pn_alloc_system, PyBytes_AS_STRING(root), patience, note, &err);
    Py_END_ALLOW_THREADS
    PyObject *out = s == PN_OK ? Py_NewRef(Py_None) : pn_py_raise_pack(pn_state_of(module), s, &err, PyBytes_AS_STRING(root));
    Py_DECREF(root);
    return out;
}

PyDoc_STRVAR(retired_doc,
             "retired_manifest($module, /, id, keep)\n--\n\n"
             "The bytes of a manifest without generations: committed together with JSON files, it makes them count.");

static PyObject *retired(PyObject *module, PyObject *args)
{
    const uint8_t *id;
    Py_ssize_t id_len;
    unsigned int keep;
    if (!PyArg_ParseTuple(args, "y#I:retired_manifest", &id, &id_len, &keep)) return NULL;
    if (id_len != 16) return PyErr_SetString(PyExc_ValueError, "a store id has 16 bytes"), NULL;
    pn_manifest m;
    pn_buf out;
    pn_manifest_init(&m, &pn_alloc_system);
    pn_buf_init(&out, &pn_alloc_system);
    memcpy(m.id, id, sizeof m.id);
    m.keep = keep;
    pn_status s = pn_manifest_write(&m, &out);
    PyObject *text = s == PN_OK ? pn_py_text(pn_state_of(module), &out) : pn_py_raise(s, NULL, NULL);
    pn_buf_clear(&out);
    pn_manifest_clear(&m);
    return text;
}

/* ---- verify ---- */

typedef struct finding {
    char *path;
    uint64_t offset;
    const char *what;
} finding;

typedef struct findings {
    finding *at;
    size_t len;
    bool full;
} findings;

enum { MAX_FINDINGS = 1000 };

/* Without the GIL: PyMem_Raw* only. */
static bool note_finding(void *ctx, const char *path, uint64_t offset, const char *what)
{
    findings *f = ctx;
    char *copy = f->len < MAX_FINDINGS ? PyMem_RawMalloc(strlen(path) + 1) : NULL;
    f->full = copy == NULL;
    if (f->full) return false;
    memcpy(copy, path, strlen(path) + 1);
    f->at[f->len++] = (finding){copy, offset, what};
    return true;
}

static PyObject *list_findings(const findings *f)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < f->len; i++) {
        PyObject *path = PyUnicode_DecodeFSDefault(f->at[i].path);
        PyObject *item = path ? Py_BuildValue("NKs", path, (unsigned long long)f->at[i].offset, f->at[i].what) : NULL;
        if (item == NULL || PyList_Append(list, item) < 0) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyDoc_STRVAR(verify_doc,
             "pack_verify($module, /, root)\n--\n\n"
             "Check every byte of every generation of a pack.\n\n"
             "Returns:\n"
             "    list[tuple[str, int, str]]: (file, byte offset, what is wrong), at most 1,000.\n\n"
             "Raises:\n"
             "    OSError: something could not be looked at.");

static PyObject *verify(PyObject *module, PyObject *arg)
{
    PyObject *root = NULL, *out = NULL;
    if (!PyUnicode_FSConverter(arg, &root)) return NULL;
    findings f = {PyMem_RawCalloc(MAX_FINDINGS, sizeof(finding)), 0, false};
    pn_file_error err = {0};
    pn_status s = PN_ERR_NOMEM;
    if (f.at != NULL) {
        Py_BEGIN_ALLOW_THREADS
        s = pn_pack_verify(&pn_vfs_posix, &pn_alloc_system, PyBytes_AS_STRING(root), note_finding, &f, &err);
        Py_END_ALLOW_THREADS
    }
    out = s == PN_OK ? list_findings(&f) : pn_py_raise_pack(pn_state_of(module), s, &err, PyBytes_AS_STRING(root));
    for (size_t i = 0; i < f.len; i++) PyMem_RawFree(f.at[i].path);
    PyMem_RawFree(f.at);
    Py_DECREF(root);
    return out;
}

static PyObject *crc32c(PyObject *module, PyObject *data)
{
    (void)module;
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return NULL;
    uint32_t crc;
    Py_BEGIN_ALLOW_THREADS
    crc = pn_crc32c(0, (pn_bytes){view.buf, (size_t)view.len});
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLong(crc);
}

#define KEYWORDS(f) ((PyCFunction)(void (*)(void))(f)), METH_VARARGS | METH_KEYWORDS

static PyMethodDef functions[] = {
    {"pack_manifest", manifest, METH_O, manifest_doc},
    {"pack_rollback", KEYWORDS(rollback), rollback_doc},
    {"pack_compact", KEYWORDS(compact), compact_doc},
    {"pack_retire", KEYWORDS(retire), retire_doc},
    {"pack_verify", verify, METH_O, verify_doc},
    {"crc32c", crc32c, METH_O, "crc32c(bytes-like) -> int: CRC-32C (Castagnoli)."},
    {"retired_manifest", retired, METH_VARARGS, retired_doc},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_pack_upkeep(PyObject *module) { return PyModule_AddFunctions(module, functions); }
