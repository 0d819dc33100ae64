/* files_py.c: committing, recovering and reading files, without the GIL. */
#include "py/module.h"
#include "py/pack_py.h"
#include "py/vector_type.h"

#include "persist/commit.h"
#include "persist/recover.h"
#include "store/vector_json.h"
#include "store/vector_pieces.h"

#include <errno.h>
#include <string.h>

/* ---- errors ---- */

/* The class in pannier.errors for a commit that failed with this errno, a built-in
 * like PermissionError being among its bases where open() would raise that one. */
static PyObject *commit_error_class(pn_module_state *state, int sys)
{
    const char *name = "CommitError";
    if (sys == EACCES || sys == EPERM) name = "CommitPermissionError";
    else if (sys == ENOENT) name = "CommitNotFoundError";
    else if (sys == ENOTDIR) name = "CommitNotADirectoryError";
    else if (sys == EISDIR) name = "CommitIsADirectoryError";
    else if (sys == EEXIST) name = "CommitExistsError";
    return PyObject_GetAttrString(state->errors, name);
}

/* Raises cls(errno, "what the system says (what was tried)", filename). */
static void raise_os_error(PyObject *cls, const pn_file_error *err)
{
    PyObject *path = cls ? PyUnicode_DecodeFSDefault(err->path) : NULL;
    PyObject *text = path ? PyUnicode_FromFormat("%s (%s)", strerror(err->base.sys), err->base.what) : NULL;
    PyObject *e = text ? PyObject_CallFunction(cls, "iOO", err->base.sys, text, path) : NULL;
    if (e != NULL) PyErr_SetObject((PyObject *)Py_TYPE(e), e);
    Py_XDECREF(e);
    Py_XDECREF(text);
    Py_XDECREF(path);
}

static void raise_journal_error(pn_module_state *state, const pn_file_error *err)
{
    PyObject *path = PyUnicode_DecodeFSDefault(err->path);
    PyObject *cls = path ? PyObject_GetAttrString(state->errors, "JournalError") : NULL;
    if (cls != NULL)
        PyErr_Format(cls,
                     "%U: %s. An earlier persist into this directory was cut off after it had committed; its files are "
                     "in the .pannier-*.tmp files that the journal " PN_JOURNAL_NAME
                     " lists. Nothing was changed. To give that persist up and keep the files as they are, delete "
                     "the journal.",
                     path, err->base.what);
    Py_XDECREF(cls);
    Py_XDECREF(path);
}

static void raise_common(pn_module_state *state, pn_status status, const pn_file_error *err)
{
    if (status == PN_ERR_NOMEM) {
        PyErr_NoMemory();
    } else if (status == PN_ERR_CORRUPT) {
        raise_journal_error(state, err);
    } else {
        PyObject *path = PyUnicode_DecodeFSDefault(err->path);
        if (path != NULL) PyErr_Format(PyExc_ValueError, "%R: %s", path, err->base.what);
        Py_XDECREF(path);
    }
}

PyObject *pn_py_raise_commit(pn_module_state *state, pn_status status, const pn_file_error *err)
{
    PyObject *cls;
    if (status == PN_ERR_IO) cls = commit_error_class(state, err->base.sys);
    else if (status == PN_ERR_UNKNOWN_OUTCOME) cls = PyObject_GetAttrString(state->errors, "OutcomeUnknownError");
    else {
        raise_common(state, status, err);
        return NULL;
    }
    raise_os_error(cls, err);
    Py_XDECREF(cls);
    return NULL;
}

/* As open() raises it, when it is about the file that the caller named. */
static PyObject *raise_reading(pn_module_state *state, pn_status status, const pn_file_error *err)
{
    if (status != PN_ERR_IO) {
        raise_common(state, status, err);
        return NULL;
    }
    PyObject *path = PyUnicode_DecodeFSDefault(err->path);
    if (path != NULL) {
        errno = err->base.sys;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
        Py_DECREF(path);
    }
    return NULL;
}

/* ---- commit_files ---- */

/* What a commit works on while the GIL is away: names copied, buffers held. */
typedef struct batch {
    pn_commit_item *items;
    char **names;
    Py_buffer *views;
    Py_ssize_t len;   /* items asked for */
    Py_ssize_t taken; /* items filled in */
} batch;

static void batch_clear(batch *b)
{
    for (Py_ssize_t i = 0; i < b->taken; i++) {
        PyBuffer_Release(&b->views[i]);
        PyMem_Free(b->names[i]);
    }
    PyMem_Free(b->items);
    PyMem_Free(b->names);
    PyMem_Free(b->views);
}

static char *name_of(const char *root, PyObject *path)
{
    char name[PN_PATH_MAX];
    PyObject *bytes;
    if (!PyUnicode_FSConverter(path, &bytes)) return NULL;
    char *copy = NULL;
    if (!pn_name_below(root, PyBytes_AS_STRING(bytes), name)) {
        PyErr_Format(PyExc_ValueError, "%R does not lie in the directory that is committed to", path);
    } else {
        copy = PyMem_Malloc(strlen(name) + 1);
        if (copy != NULL) memcpy(copy, name, strlen(name) + 1);
        else PyErr_NoMemory();
    }
    Py_DECREF(bytes);
    return copy;
}

static int batch_take(batch *b, const char *root, PyObject *item)
{
    PyObject *path, *data;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "items must be (path, bytes) tuples");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "OO:commit_files", &path, &data)) return -1;
    char *name = name_of(root, path);
    if (name == NULL) return -1;
    Py_buffer *view = &b->views[b->taken];
    if (PyObject_GetBuffer(data, view, PyBUF_SIMPLE) < 0) {
        PyMem_Free(name);
        return -1;
    }
    b->names[b->taken] = name;
    b->items[b->taken++] = (pn_commit_item){name, {view->buf, (size_t)view->len}};
    return 0;
}

/* `items` is a tuple; it keeps the objects alive. */
static int batch_fill(batch *b, const char *root, PyObject *items)
{
    b->len = PyTuple_GET_SIZE(items);
    size_t n = b->len ? (size_t)b->len : 1;
    b->items = PyMem_Calloc(n, sizeof *b->items);
    b->names = PyMem_Calloc(n, sizeof *b->names);
    b->views = PyMem_Calloc(n, sizeof *b->views);
    if (b->items == NULL || b->names == NULL || b->views == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < b->len; i++)
        if (batch_take(b, root, PyTuple_GET_ITEM(items, i)) < 0) return -1;
    return 0;
}

PyDoc_STRVAR(commit_files_doc,
             "commit_files($module, /, root, items, in_place=False)\n--\n\n"
             "Replace or create files in one atomic, durable step.\n\n"
             "Args:\n"
             "    root (str | os.PathLike): the directory; made when missing.\n"
             "    items (Sequence[tuple[str, Buffer]]): path of each file, which must begin with root and lie\n"
             "        in it, and its contents.\n"
             "    in_place (bool): overwrite files that exist instead of renaming over them.\n\n"
             "Raises:\n"
             "    CommitError: nothing was changed; errno and filename say why.\n"
             "    OutcomeUnknownError: committed, but perhaps not durably.\n"
             "    JournalError: an unfinished earlier commit cannot be finished.\n"
             "    ValueError: a path outside of root, or twice the same, or no items.");

static PyObject *commit_files(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", "items", "in_place", NULL};
    PyObject *root = NULL, *given, *items, *result = NULL;
    int in_place = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O|p:commit_files", names, PyUnicode_FSConverter, &root, &given,
                                     &in_place))
        return NULL;
    batch b = {0};
    items = PySequence_Tuple(given);
    if (items != NULL && batch_fill(&b, PyBytes_AS_STRING(root), items) == 0) {
        pn_file_error err = {0};
        pn_status status;
        Py_BEGIN_ALLOW_THREADS
        status = pn_commit_files(&pn_vfs_posix, &pn_alloc_system, PyBytes_AS_STRING(root), b.items, (size_t)b.len,
                                 in_place ? PN_COMMIT_IN_PLACE : 0, &err);
        Py_END_ALLOW_THREADS
        result = status == PN_OK ? Py_NewRef(Py_None) : pn_py_raise_commit(pn_state_of(module), status, &err);
    }
    batch_clear(&b);
    Py_XDECREF(items);
    Py_DECREF(root);
    return result;
}

/* ---- recover, sweep, read ---- */

PyDoc_STRVAR(recover_doc,
             "recover($module, /, root, read_only=False)\n--\n\n"
             "Finish a commit that was cut off in a directory, if there is one.\n\n"
             "Returns:\n"
             "    bool: whether there was one. It is finished now, unless read_only is true, the directory\n"
             "    cannot be written or one of the files is a symlink; then read_file(path, root) reads the\n"
             "    files as committed.\n\n"
             "Raises:\n"
             "    JournalError: it cannot be finished; nothing was changed.\n"
             "    OSError: reading or renaming failed.");

static PyObject *recover(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", "read_only", NULL};
    PyObject *root = NULL;
    int read_only = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|p:recover", names, PyUnicode_FSConverter, &root, &read_only))
        return NULL;
    pn_file_error err = {0};
    pn_status status;
    pn_recover_result did = PN_RECOVER_NOTHING;
    Py_BEGIN_ALLOW_THREADS
    status = pn_recover(&pn_vfs_posix, &pn_alloc_system, PyBytes_AS_STRING(root),
                        read_only ? PN_RECOVER_LOOK : PN_RECOVER_LOAD, &did, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(root);
    if (status != PN_OK) return raise_reading(pn_state_of(module), status, &err);
    return PyBool_FromLong(did != PN_RECOVER_NOTHING);
}

PyDoc_STRVAR(sweep_doc,
             "sweep($module, /, root)\n--\n\n"
             "Remove what killed commits left behind in a directory, unless a live one is at work.\n\n"
             "Every commit does so by itself first.\n\n"
             "Returns:\n"
             "    int: how many files were removed.");

static PyObject *sweep(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", NULL};
    PyObject *root = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:sweep", names, PyUnicode_FSConverter, &root)) return NULL;
    pn_file_error err = {0};
    pn_status status;
    size_t swept = 0;
    Py_BEGIN_ALLOW_THREADS
    status = pn_commit_sweep(&pn_vfs_posix, PyBytes_AS_STRING(root), &swept, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(root);
    return status == PN_OK ? PyLong_FromSize_t(swept) : raise_reading(pn_state_of(module), status, &err);
}

PyDoc_STRVAR(pending_doc,
             "pending($module, /, root)\n--\n\n"
             "The files of an unfinished commit in a directory that may not be finished (see recover).\n\n"
             "Some of them may not be there yet under their own names; read_file(path, root) reads them.\n\n"
             "Returns:\n"
             "    list[str]: names relative to root; empty when there is no unfinished commit.");

static PyObject *list_names(const pn_journal *j)
{
    PyObject *list = PyList_New((Py_ssize_t)j->len);
    for (size_t i = 0; list != NULL && i < j->len; i++) {
        PyObject *name = PyUnicode_DecodeFSDefault(j->entries[i].name);
        if (name == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, (Py_ssize_t)i, name);
    }
    return list;
}

static PyObject *pending(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"root", NULL};
    PyObject *root = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:pending", names, PyUnicode_FSConverter, &root)) return NULL;
    pn_file_error err = {0};
    pn_status status;
    pn_journal j;
    Py_BEGIN_ALLOW_THREADS
    status = pn_recover_pending(&pn_vfs_posix, &pn_alloc_system, PyBytes_AS_STRING(root), &j, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(root);
    if (status != PN_OK) return raise_reading(pn_state_of(module), status, &err);
    PyObject *list = list_names(&j);
    pn_journal_clear(&j);
    return list;
}

PyDoc_STRVAR(read_file_doc,
             "read_file($module, /, path, root=None, read_only=False)\n--\n\n"
             "Read a whole file as the last commit left it.\n\n"
             "Args:\n"
             "    path (str | os.PathLike): the file.\n"
             "    root (str | os.PathLike | None): the directory that was committed to; None is the file's own.\n"
             "        An unfinished commit there is finished first (see recover).\n"
             "    read_only (bool): finish nothing, only read.\n\n"
             "Returns:\n"
             "    Text: the bytes, in memory of their own.\n\n"
             "Raises:\n"
             "    OSError: as open(path, 'rb') raises it.\n"
             "    JournalError: there is a journal that cannot be followed.");

/* What read_file is told. The names are bytes objects; root may be NULL. */
typedef struct reading {
    PyObject *path, *root;
    int read_only;
} reading;

static int reading_parse(reading *r, PyObject *args, PyObject *kwargs, const char *format)
{
    static char *names[] = {"path", "root", "read_only", NULL};
    PyObject *given_root = Py_None;
    *r = (reading){NULL, NULL, 0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, PyUnicode_FSConverter, &r->path, &given_root,
                                     &r->read_only))
        return -1;
    if (given_root == Py_None || PyUnicode_FSConverter(given_root, &r->root)) return 0;
    Py_CLEAR(r->path);
    return -1;
}

static const char *reading_path(const reading *r) { return PyBytes_AS_STRING(r->path); }
static const char *reading_root(const reading *r) { return r->root ? PyBytes_AS_STRING(r->root) : NULL; }

static void reading_clear(reading *r)
{
    Py_CLEAR(r->path);
    Py_CLEAR(r->root);
}

static PyObject *read_file(PyObject *module, PyObject *args, PyObject *kwargs)
{
    reading r;
    if (reading_parse(&r, args, kwargs, "O&|Op:read_file") < 0) return NULL;
    pn_buf buf;
    pn_file_error err = {0};
    pn_status status;
    pn_buf_init(&buf, &pn_alloc_system);
    Py_BEGIN_ALLOW_THREADS
    status = pn_read_file(&pn_vfs_posix, &pn_alloc_system, reading_root(&r), reading_path(&r), r.read_only != 0, &buf,
                          &err);
    Py_END_ALLOW_THREADS
    reading_clear(&r);
    PyObject *text = status == PN_OK ? pn_py_text(pn_state_of(module), &buf)
                                     : raise_reading(pn_state_of(module), status, &err);
    pn_buf_clear(&buf);
    return text;
}

PyDoc_STRVAR(load_vectors_doc,
             "load_vectors($module, /, path, root=None, read_only=False)\n--\n\n"
             "A large vector store's file as a table, without its text ever being in memory as a whole.\n\n"
             "Args:\n"
             "    path, root, read_only: as read_file takes them.\n\n"
             "Returns:\n"
             "    VectorTable | None: None when VectorTable.load(read_file(...)) has to decide.\n\n"
             "Raises:\n"
             "    OSError, JournalError: finishing an earlier commit failed.");

/* The table of an open file; OK, NOMEM, or whatever makes it another's to read. */
static pn_status load_open(int fd, uint64_t size, pn_vec *vec)
{
    pn_vec_init(vec, &pn_alloc_system);
    pn_status s = pn_vec_load_json_file(vec, &pn_vfs_posix, fd, size, NULL);
    (void)pn_vfs_posix.close(pn_vfs_posix.ctx, fd);
    if (s != PN_OK) pn_vec_clear(vec);
    return s;
}

static PyObject *load_vectors(PyObject *module, PyObject *args, PyObject *kwargs)
{
    reading r;
    if (reading_parse(&r, args, kwargs, "O&|Op:load_vectors") < 0) return NULL;
    pn_file_error err = {0};
    pn_status opened, loaded = PN_ERR_UNSUPPORTED;
    pn_vec vec;
    int fd;
    uint64_t size;
    Py_BEGIN_ALLOW_THREADS
    opened = pn_open_large_file(&pn_vfs_posix, &pn_alloc_system, reading_root(&r), reading_path(&r), r.read_only != 0,
                                PN_VEC_PIECES_FROM, &fd, &size, &err);
    if (opened == PN_OK) loaded = load_open(fd, size, &vec);
    Py_END_ALLOW_THREADS
    reading_clear(&r);
    if (opened != PN_OK && opened != PN_ERR_UNSUPPORTED) return raise_reading(pn_state_of(module), opened, &err);
    if (loaded == PN_ERR_NOMEM) return PyErr_NoMemory();
    if (loaded != PN_OK) Py_RETURN_NONE;
    return pn_py_vector_table(pn_state_of(module)->vector_type, &vec);
}

static PyMethodDef functions[] = {
    {"load_vectors", (PyCFunction)(void (*)(void))load_vectors, METH_VARARGS | METH_KEYWORDS, load_vectors_doc},
    {"commit_files", (PyCFunction)(void (*)(void))commit_files, METH_VARARGS | METH_KEYWORDS, commit_files_doc},
    {"recover", (PyCFunction)(void (*)(void))recover, METH_VARARGS | METH_KEYWORDS, recover_doc},
    {"sweep", (PyCFunction)(void (*)(void))sweep, METH_VARARGS | METH_KEYWORDS, sweep_doc},
    {"pending", (PyCFunction)(void (*)(void))pending, METH_VARARGS | METH_KEYWORDS, pending_doc},
    {"read_file", (PyCFunction)(void (*)(void))read_file, METH_VARARGS | METH_KEYWORDS, read_file_doc},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_files(PyObject *module) { return PyModule_AddFunctions(module, functions); }
