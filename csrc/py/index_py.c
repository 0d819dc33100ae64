/* index_py.c: storing index structs on a native KVTable.
 *
 * A struct's fields are laid against the columns that stand for it (structs.h). Behind a
 * word stands an exact str, int, float, bool or None: such objects never change, so the
 * same object means the same text, and releasing one runs no code. Lists, sets and dicts
 * are spelled out, since they do change.
 *
 * Nothing here runs Python code: the GIL guards the table, and the collector is paused.
 */
#include "py/kv_type.h"

#include "store/structs.h"

enum { MAX_DEPTH = 32 }; /* deeper values take the peer's way */

/* ---- words ---- */

static bool is_atom(PyObject *obj)
{
    return PyUnicode_CheckExact(obj) || PyLong_CheckExact(obj) || PyFloat_CheckExact(obj) || obj == Py_None ||
           PyBool_Check(obj);
}

static pn_status put_word(pn_buf *words, pn_word w) { return pn_buf_append(words, &w, sizeof w); }

static pn_status put_key(pn_buf *words, PyObject *key)
{
    PN_FAIL_IF(!PyUnicode_CheckExact(key) && !PyLong_CheckExact(key), PN_ERR_UNSUPPORTED);
    return put_word(words, (pn_word)key);
}

static pn_status put_words(pn_buf *words, PyObject *obj, int depth);

static pn_status put_sequence(pn_buf *words, PyObject *list, int depth)
{
    Py_ssize_t n = PySequence_Fast_GET_SIZE(list);
    PN_TRY(put_word(words, pn_word_list((size_t)n)));
    for (Py_ssize_t i = 0; i < n; i++) PN_TRY(put_words(words, PySequence_Fast_GET_ITEM(list, i), depth));
    return PN_OK;
}

static pn_status put_dict(pn_buf *words, PyObject *dict, int depth)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    PN_TRY(put_word(words, pn_word_dict((size_t)PyDict_GET_SIZE(dict))));
    while (PyDict_Next(dict, &pos, &key, &value)) {
        PN_TRY(put_key(words, key));
        PN_TRY(put_words(words, value, depth));
    }
    return PN_OK;
}

/* Appends the words of a value: no references are taken. */
static pn_status put_words(pn_buf *words, PyObject *obj, int depth)
{
    if (is_atom(obj)) return put_word(words, (pn_word)obj);
    PN_FAIL_IF(depth == MAX_DEPTH, PN_ERR_UNSUPPORTED);
    if (PyList_CheckExact(obj) || PyTuple_CheckExact(obj)) return put_sequence(words, obj, depth + 1);
    if (PyDict_CheckExact(obj)) return put_dict(words, obj, depth + 1);
    PN_FAIL_IF(!PyAnySet_CheckExact(obj), PN_ERR_UNSUPPORTED);
    PyObject *list = PySequence_List(obj);
    PN_FAIL_IF(list == NULL, PN_ERR_CALLBACK);
    pn_status s = put_sequence(words, list, depth + 1); /* the set holds the items */
    Py_DECREF(list);
    return s;
}

/* ---- the rows of a field ---- */

typedef struct {
    uint8_t kind;
    PyObject *obj;  /* a dict, a list or tuple, or the value */
    PyObject *list; /* owned: the items of a set */
    Py_ssize_t pos;
} field_rows;

static pn_status rows_of(PyObject *value, field_rows *it)
{
    *it = (field_rows){.kind = PN_COLUMN_VALUE, .obj = value};
    if (PyDict_CheckExact(value)) it->kind = PN_COLUMN_DICT;
    if (PyList_CheckExact(value) || PyTuple_CheckExact(value)) it->kind = PN_COLUMN_LIST;
    if (!PyAnySet_CheckExact(value)) return PN_OK;
    it->kind = PN_COLUMN_LIST;
    it->obj = it->list = PySequence_List(value);
    return it->list ? PN_OK : PN_ERR_CALLBACK;
}

/* The next row, borrowed; key is NULL where there are none. */
static inline bool next_row(field_rows *it, PyObject **key, PyObject **value)
{
    *key = NULL;
    if (it->kind == PN_COLUMN_DICT) return PyDict_Next(it->obj, &it->pos, key, value);
    Py_ssize_t n = it->kind == PN_COLUMN_LIST ? PySequence_Fast_GET_SIZE(it->obj) : 1;
    if (it->pos >= n) return false;
    *value = it->kind == PN_COLUMN_LIST ? PySequence_Fast_GET_ITEM(it->obj, it->pos) : it->obj;
    it->pos++;
    return true;
}

/* The words of a list, set or dict against those at `at`: how many, 0 when they differ. */
static pn_status same_container(const pn_column *c, size_t at, PyObject *value, pn_buf *words, size_t *same)
{
    *same = 0;
    if (!pn_word_is_header(c->words[at])) return PN_OK;
    words->len = 0;
    PN_TRY(put_words(words, value, 0));
    size_t n = words->len / sizeof(pn_word);
    if (c->word_len - at >= n && memcmp(c->words + at, words->data, words->len) == 0) *same = n;
    return PN_OK;
}

typedef struct {
    size_t row, word;
} place;

/* How many rows from *at on are the kept ones; `it` stops at the first other one, and
 * *at goes there. */
static pn_status same_rows(const pn_column *c, field_rows *it, pn_buf *scratch, place *at)
{
    PyObject *key, *value;
    size_t w = at->word, n = at->row;
    for (Py_ssize_t before = it->pos; n < c->rows && next_row(it, &key, &value); before = it->pos, n++) {
        size_t v = w + (key != NULL), same = 0;
        bool differs = v >= c->word_len || (key != NULL && c->words[w] != (pn_word)key);
        if (!differs && c->words[v] == (pn_word)value) {
            w = v + 1;
            continue;
        }
        if (!differs) PN_TRY(same_container(c, v, value, scratch, &same));
        if (same == 0) {
            it->pos = before;
            break;
        }
        w = v + same;
    }
    *at = (place){n, w};
    return PN_OK;
}

/* ---- storing ---- */

typedef struct {
    pn_buf words, text;
} scratch;

static pn_status encode_key(PyObject *key, pn_buf *out)
{
    if (PyUnicode_CheckExact(key)) return pn_py_encode(key, PN_ENCODE_STRUCT, out);
    PN_TRY(pn_buf_push(out, '"'));
    PN_TRY(pn_py_encode(key, PN_ENCODE_STRUCT, out));
    return pn_buf_push(out, '"');
}

static pn_status encode_row(PyObject *key, PyObject *value, pn_buf *out)
{
    out->len = 0;
    if (key != NULL) {
        PN_TRY(encode_key(key, out));
        PN_TRY(PN_BUF_LIT(out, ": "));
    }
    return pn_py_encode(value, PN_ENCODE_STRUCT, out);
}

static pn_status add_row(pn_edit *e, PyObject *key, PyObject *value, scratch *t)
{
    const pn_word *words = (const pn_word *)(const void *)t->words.data;
    size_t n = t->words.len / sizeof *words;
    PN_TRY(encode_row(key, value, &t->text));
    PN_TRY(pn_edit_add(e, pn_buf_view(&t->text), words, n));
    for (size_t i = 0; i < n; i++)
        if (!pn_word_is_header(words[i])) Py_INCREF((PyObject *)words[i]);
    return PN_OK;
}

/* The column has the row that `it` is at: keeps it and those that follow in both. */
static pn_status keep_rows(pn_edit *e, field_rows *it, scratch *t)
{
    place at = {e->row, e->word};
    PN_TRY(same_rows(e->column, it, &t->words, &at));
    return pn_edit_keep(e, at.row - e->row, at.word - e->word);
}

/* The row at `it`, and more when they are the column's. *more: false at the end. */
static pn_status edit_row(pn_edit *e, field_rows *it, scratch *t, bool *more)
{
    PyObject *key, *value;
    Py_ssize_t before = it->pos;
    *more = next_row(it, &key, &value);
    if (!*more) return PN_OK;
    t->words.len = 0;
    if (key != NULL) PN_TRY(put_key(&t->words, key));
    PN_TRY(put_words(&t->words, value, 0));
    if (!pn_edit_find(e, (const pn_word *)(const void *)t->words.data, t->words.len / sizeof(pn_word)))
        return add_row(e, key, value, t);
    it->pos = before;
    return keep_rows(e, it, t);
}

static bool at_end(const field_rows *it)
{
    PyObject *key, *value;
    field_rows ahead = *it;
    return !next_row(&ahead, &key, &value);
}

/* The edit that makes the column this value; *changed is false when it is. */
static pn_status edit_rows(pn_edit *e, field_rows *it, scratch *t, bool *changed)
{
    const pn_column *c = e->column;
    place front = {0, 0};
    if (it->kind == c->kind) PN_TRY(same_rows(c, it, &t->words, &front));
    *changed = it->kind != c->kind || front.row < c->rows || !at_end(it);
    if (!*changed) return PN_OK;
    PN_TRY(pn_edit_begin(e, it->kind, front.row, front.word));
    for (bool more = true; more;) PN_TRY(edit_row(e, it, t, &more));
    return pn_edit_prepare(e);
}

static pn_status edit_field(pn_edit *e, PyObject *value, scratch *t, bool *changed)
{
    field_rows it;
    pn_status s = rows_of(value, &it);
    if (s == PN_OK) s = edit_rows(e, &it, t, changed);
    Py_XDECREF(it.list);
    return s;
}

/* Makes the columns the named fields: all of them, or on failure none. */
static pn_status update(pn_struct *s, PyObject *fields, PyObject *names, bool *changed_any)
{
    pn_edit edits[PN_STRUCT_MAX_COLUMNS];
    scratch t;
    pn_buf_init(&t.words, &pn_alloc_system);
    pn_buf_init(&t.text, &pn_alloc_system);
    size_t n = 0;
    pn_status status = PN_OK;
    for (size_t i = 0; i < s->count && status == PN_OK; i++) {
        PyObject *value = PyDict_GetItemWithError(fields, PyTuple_GET_ITEM(names, (Py_ssize_t)i));
        bool changed = true;
        pn_edit_init(&edits[n], &s->columns[i]);
        status = value ? edit_field(&edits[n], value, &t, &changed) : PN_ERR_UNSUPPORTED;
        n += changed; /* an edit that failed is aborted with the others */
    }
    for (size_t i = 0; i < n; i++) {
        if (status == PN_OK)
            pn_edit_commit(&edits[i], &pn_py_host);
        else
            pn_edit_abort(&edits[i], &pn_py_host);
    }
    pn_buf_clear(&t.words);
    pn_buf_clear(&t.text);
    if (n) pn_struct_measure(s);
    *changed_any = n > 0;
    return status;
}

static bool same_text(PyObject *str, const pn_buf *text)
{
    return PyUnicode_IS_COMPACT_ASCII(str) &&
           pn_bytes_equal((pn_bytes){PyUnicode_1BYTE_DATA(str), (size_t)PyUnicode_GET_LENGTH(str)}, pn_buf_view(text));
}

bool pn_py_struct_fits(const pn_struct *s, PyObject *type, PyObject *names)
{
    if (!same_text(type, &s->type) || s->count != (size_t)PyTuple_GET_SIZE(names)) return false;
    for (size_t i = 0; i < s->count; i++)
        if (!same_text(PyTuple_GET_ITEM(names, (Py_ssize_t)i), &s->columns[i].name)) return false;
    return true;
}

static pn_status add_columns(pn_struct *s, PyObject *names)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        PN_FAIL_IF(!PyUnicode_CheckExact(name) || !PyUnicode_IS_COMPACT_ASCII(name), PN_ERR_UNSUPPORTED);
        PN_TRY(pn_struct_add(s, (pn_bytes){PyUnicode_1BYTE_DATA(name), (size_t)PyUnicode_GET_LENGTH(name)}));
    }
    return PN_OK;
}

static pn_status new_struct(PyObject *type, PyObject *fields, PyObject *names, pn_struct **out)
{
    PN_FAIL_IF(!PyUnicode_IS_COMPACT_ASCII(type), PN_ERR_UNSUPPORTED);
    pn_struct *s;
    PN_TRY(pn_struct_new(&pn_alloc_system,
                         (pn_bytes){PyUnicode_1BYTE_DATA(type), (size_t)PyUnicode_GET_LENGTH(type)}, &s));
    pn_status status = add_columns(s, names);
    bool changed;
    if (status == PN_OK) status = update(s, fields, names, &changed);
    if (status == PN_OK)
        *out = s;
    else
        pn_struct_free(s, &pn_py_host);
    return status;
}

static PyObject *struct_text(PyObject *module, PyObject *args)
{
    PyObject *fields, *names;
    if (!PyArg_ParseTuple(args, "O!O!:struct_text", &PyDict_Type, &fields, &PyTuple_Type, &names)) return NULL;
    pn_buf out;
    pn_struct *made = NULL;
    pn_buf_init(&out, &pn_alloc_system);
    PyObject *type = PyUnicode_FromString("");
    int gc = pn_gc_pause();
    pn_status s = type ? new_struct(type, fields, names, &made) : PN_ERR_CALLBACK;
    pn_gc_resume(gc);
    Py_XDECREF(type);
    if (s == PN_OK) s = pn_struct_write_data(made, &out);
    pn_struct_free(made, &pn_py_host);
    PyObject *text = s == PN_OK                ? pn_py_text(pn_state_of(module), &out)
                     : s == PN_ERR_UNSUPPORTED ? Py_NewRef(Py_None)
                                               : pn_py_raise(s, NULL, NULL);
    pn_buf_clear(&out);
    return text;
}

static pn_status put_new(pn_kv *kv, pn_bytes name, pn_bytes key, pn_struct *made, pn_cell *old)
{
    pn_coll *coll;
    PN_TRY(pn_kv_collection(kv, name, &coll));
    return pn_coll_put(coll, key, NULL, (pn_cell){.kind = PN_CELL_STRUCT, .tag = PN_TAG_STRUCT, .structure = made}, old);
}

/* Changes the columns that stand under the key, or puts new ones there. */
static pn_status put_struct(pn_kv *kv, pn_bytes name, pn_bytes key, PyObject *type, PyObject *fields, PyObject *names,
                            pn_cell *old)
{
    pn_coll *coll = pn_kv_find(kv, name);
    pn_cell *cell = coll ? pn_coll_get(coll, key) : NULL;
    if (cell != NULL && cell->kind == PN_CELL_STRUCT && pn_py_struct_fits(cell->structure, type, names)) {
        bool changed;
        PN_TRY(update(cell->structure, fields, names, &changed));
        if (changed) pn_coll_touch(coll, cell);
        cell->tag = PN_TAG_STRUCT;
        return PN_OK;
    }
    pn_struct *made;
    PN_TRY(new_struct(type, fields, names, &made));
    pn_status s = put_new(kv, name, key, made, old);
    if (s != PN_OK) pn_struct_free(made, &pn_py_host);
    return s;
}

static PyObject *struct_put(PyObject *module, PyObject *args)
{
    PyObject *table, *name, *key, *type, *fields, *names;
    if (!PyArg_ParseTuple(args, "OOOUO!O!:struct_put", &table, &name, &key, &type, &PyDict_Type, &fields, &PyTuple_Type,
                          &names))
        return NULL;
    pn_kv *kv = pn_py_kv(pn_state_of(module), table);
    if (kv == NULL || !PyUnicode_CheckExact(name) || !PyUnicode_CheckExact(key)) Py_RETURN_FALSE;
    pn_buf a, b;
    pn_bytes n, k;
    pn_cell old = {.kind = PN_CELL_EMPTY};
    pn_buf_init(&a, &pn_alloc_system);
    pn_buf_init(&b, &pn_alloc_system);
    int gc = pn_gc_pause();
    pn_status s = pn_py_key(name, &a, &n) && pn_py_key(key, &b, &k) ? put_struct(kv, n, k, type, fields, names, &old)
                                                                    : PN_ERR_CALLBACK;
    pn_gone_free(&kv->gone, PN_GONE_STEP, &pn_py_host);
    pn_gc_resume(gc);
    pn_buf_clear(&a);
    pn_buf_clear(&b);
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

int pn_py_add_structs(PyObject *module)
{
    return PyModule_AddFunctions(module, functions) < 0 ? -1 : pn_py_add_struct_reading(module);
}
