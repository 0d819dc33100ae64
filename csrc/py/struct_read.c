/* struct_read.c: the fields of a stored index struct as Python objects.
 *
 * An entry that is text becomes columns (structs.h), whose rows are then given their
 * words: the str objects and numbers that this and every later reading hand out. So a
 * struct that is read and stored again, as loading an index does, is found unchanged
 * object by object.
 *
 * What a field holds is told by its *shape*, in prefix notation:
 *   s  str        o  str or None       f  float      i  int (as a key)
 *   [x  list of x       <x  set of x        {kx  dict from k (s or i) to x
 * Anything else in the field: the caller takes the peer's way.
 */
#include "py/doc_py.h"
#include "py/kv_type.h"

#include "store/structs.h"

/* ---- from text to words ---- */

typedef struct {
    pn_buf words;     /* own a reference each */
    PyObject *last;   /* borrowed: the last str that was made */
    pn_json_str read; /* and what it was made of */
} binder;

/* Takes obj (may be NULL: an exception is set). */
static pn_status push_object(binder *b, PyObject *obj)
{
    PN_FAIL_IF(obj == NULL, PN_ERR_CALLBACK);
    pn_word w = (pn_word)obj;
    pn_status s = pn_buf_append(&b->words, &w, sizeof w);
    if (s != PN_OK) Py_DECREF(obj);
    return s;
}

/* A key and its value are often the same text: then they are one object. */
static bool is_last(const binder *b, const pn_json_str *s)
{
    return b->last != NULL && s->len == b->read.len && memcmp(s->ptr, b->read.ptr, s->len) == 0;
}

static pn_status bind_str(binder *b, pn_json_reader *r)
{
    pn_json_str s;
    PN_FAIL_IF(pn_json_peek(r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_string(r, &s));
    PyObject *obj = is_last(b, &s) ? Py_NewRef(b->last) : pn_py_decode_str(&s);
    PN_TRY(push_object(b, obj));
    b->last = obj;
    b->read = s;
    return PN_OK;
}

static pn_status bind_float(binder *b, pn_json_reader *r)
{
    pn_json_num n;
    double v;
    PN_FAIL_IF(pn_json_peek(r) != PN_JSON_NUMBER, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_number(r, &n));
    PN_FAIL_IF(n.is_int, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_num_double(&n, &v));
    return push_object(b, PyFloat_FromDouble(v));
}

/* A key that int() reads and str() prints again. */
static pn_status bind_int_key(binder *b, pn_json_reader *r)
{
    pn_json_str s;
    PN_TRY(pn_json_string(r, &s));
    bool negative = s.len > 0 && s.ptr[0] == '-';
    size_t digits = s.len - negative;
    PN_FAIL_IF(digits == 0 || digits > 18, PN_ERR_UNSUPPORTED);
    PN_FAIL_IF(s.ptr[negative] == '0' && s.len > 1, PN_ERR_UNSUPPORTED);
    long long v = 0;
    for (size_t i = negative; i < s.len; i++) {
        PN_FAIL_IF(s.ptr[i] < '0' || s.ptr[i] > '9', PN_ERR_UNSUPPORTED);
        v = v * 10 + (s.ptr[i] - '0');
    }
    return push_object(b, PyLong_FromLongLong(negative ? -v : v));
}

static pn_status bind_value(binder *b, pn_json_reader *r, const char *shape);

static pn_status bind_items(binder *b, pn_json_reader *r, const char *shape)
{
    size_t at = b->words.len, count = 0;
    pn_word header = pn_word_list(0);
    PN_FAIL_IF(pn_json_peek(r) != PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_array_begin(r));
    PN_TRY(pn_buf_append(&b->words, &header, sizeof header));
    for (;; count++) {
        bool more;
        PN_TRY(pn_json_array_next(r, &more));
        if (!more) break;
        PN_TRY(bind_value(b, r, shape));
    }
    header = pn_word_list(count);
    memcpy(b->words.data + at, &header, sizeof header);
    return PN_OK;
}

static pn_status bind_value(binder *b, pn_json_reader *r, const char *shape)
{
    switch (*shape) {
    case 'o':
        if (pn_json_peek(r) == PN_JSON_NULL) return push_object(b, Py_NewRef(Py_None));
        return bind_str(b, r);
    case 's': return bind_str(b, r);
    case 'f': return bind_float(b, r);
    case '[':
    case '<': return bind_items(b, r, shape + 1);
    default: return PN_ERR_UNSUPPORTED;
    }
}

static pn_status bind_row(binder *b, pn_bytes row, const char *shape)
{
    pn_json_reader r;
    pn_json_reader_init(&r, row);
    if (*shape != '{') return bind_value(b, &r, *shape == '[' ? shape + 1 : shape);
    b->last = NULL;
    PN_TRY(shape[1] == 'i' ? bind_int_key(b, &r) : bind_str(b, &r));
    r.p += 2; /* ": " */
    return bind_value(b, &r, shape + 2);
}

static bool kind_fits(const pn_column *c, const char *shape)
{
    return c->kind == (*shape == '{' ? PN_COLUMN_DICT : *shape == '[' ? PN_COLUMN_LIST : PN_COLUMN_VALUE);
}

static void drop_words(const pn_buf *words)
{
    const pn_word *w = (const pn_word *)(const void *)words->data;
    for (size_t i = 0; i < words->len / sizeof *w; i++)
        if (!pn_word_is_header(w[i])) Py_DECREF((PyObject *)w[i]);
}

static pn_status bind_column(pn_column *c, const char *shape)
{
    if (c->word_len || c->rows == 0) return PN_OK;
    binder b = {.last = NULL};
    pn_buf_init(&b.words, &pn_alloc_system);
    const uint8_t *p = c->text.data;
    pn_status s = pn_buf_reserve(&b.words, c->rows * sizeof(pn_word) * (1 + (*shape == '{')));
    for (size_t i = 0; s == PN_OK && i < c->rows; p += c->lens[i++] + 2) s = bind_row(&b, (pn_bytes){p, c->lens[i]}, shape);
    if (s == PN_OK) s = pn_column_bind(c, (const pn_word *)(const void *)b.words.data, b.words.len / sizeof(pn_word));
    if (s != PN_OK) drop_words(&b.words);
    pn_buf_clear(&b.words);
    return s;
}

/* ---- from words to values ---- */

typedef struct {
    const pn_word *at, *end;
} cursor;

static bool is_of(PyObject *obj, char shape)
{
    switch (shape) {
    case 's': return PyUnicode_CheckExact(obj);
    case 'o': return obj == Py_None || PyUnicode_CheckExact(obj);
    case 'f': return PyFloat_CheckExact(obj);
    case 'i': return PyLong_CheckExact(obj);
    default: return false;
    }
}

/* The next word as an object of that shape, borrowed. */
static pn_status take_atom(cursor *c, char shape, PyObject **out)
{
    PN_FAIL_IF(c->at == c->end || pn_word_is_header(*c->at), PN_ERR_UNSUPPORTED);
    *out = (PyObject *)*c->at;
    PN_FAIL_IF(!is_of(*out, shape), PN_ERR_UNSUPPORTED);
    c->at++;
    return PN_OK;
}

static pn_status take_value(cursor *c, const char *shape, PyObject **out);

static pn_status fill(cursor *c, const char *shape, size_t count, PyObject *into)
{
    bool set = PyAnySet_Check(into);
    for (size_t i = 0; i < count; i++) {
        PyObject *item;
        PN_TRY(take_value(c, shape, &item));
        int failed = set ? PySet_Add(into, item) : PyList_Append(into, item);
        Py_DECREF(item);
        PN_FAIL_IF(failed < 0, PN_ERR_CALLBACK);
    }
    return PN_OK;
}

/* A list, or a set, of the next `count` values. */
static pn_status take_items(cursor *c, const char *shape, size_t count, PyObject **out)
{
    PyObject *made = *shape == '<' ? PySet_New(NULL) : PyList_New(0);
    PN_FAIL_IF(made == NULL, PN_ERR_CALLBACK);
    pn_status s = fill(c, shape + 1, count, made);
    if (s == PN_OK)
        *out = made;
    else
        Py_DECREF(made);
    return s;
}

/* A new reference. */
static pn_status take_value(cursor *c, const char *shape, PyObject **out)
{
    if (*shape != '[' && *shape != '<') {
        PN_TRY(take_atom(c, *shape, out));
        Py_INCREF(*out);
        return PN_OK;
    }
    PN_FAIL_IF(c->at == c->end || !pn_word_is_header(*c->at) || pn_word_is_dict(*c->at), PN_ERR_UNSUPPORTED);
    size_t count = pn_word_count(*c->at++);
    return take_items(c, shape, count, out);
}

static pn_status take_rows(cursor *c, const char *shape, size_t rows, PyObject *dict)
{
    for (size_t i = 0; i < rows; i++) {
        PyObject *key, *value;
        PN_TRY(take_atom(c, shape[1], &key));
        PN_TRY(take_value(c, shape + 2, &value));
        int failed = PyDict_SetItem(dict, key, value);
        Py_DECREF(value);
        PN_FAIL_IF(failed < 0, PN_ERR_CALLBACK);
    }
    return PN_OK; /* a file may repeat a key: last value, first place, as json.loads has it */
}

static pn_status take_dict(cursor *c, const char *shape, size_t rows, PyObject **out)
{
    PyObject *dict = PyDict_New();
    PN_FAIL_IF(dict == NULL, PN_ERR_CALLBACK);
    pn_status s = take_rows(c, shape, rows, dict);
    if (s == PN_OK)
        *out = dict;
    else
        Py_DECREF(dict);
    return s;
}

static pn_status column_value(pn_column *column, const char *shape, PyObject **out)
{
    PN_FAIL_IF(!kind_fits(column, shape), PN_ERR_UNSUPPORTED);
    PN_TRY(bind_column(column, shape));
    cursor c = {column->words, column->words + column->word_len};
    if (*shape == '{') return take_dict(&c, shape, column->rows, out);
    return *shape == '[' ? take_items(&c, shape, column->rows, out) : take_value(&c, shape, out);
}

static pn_status fill_fields(pn_struct *s, PyObject *names, PyObject *shapes, PyObject *fields)
{
    for (size_t i = 0; i < s->count; i++) {
        const char *shape = PyUnicode_AsUTF8(PyTuple_GET_ITEM(shapes, (Py_ssize_t)i));
        PyObject *value;
        PN_FAIL_IF(shape == NULL, PN_ERR_CALLBACK);
        PN_TRY(column_value(&s->columns[i], shape, &value));
        int failed = PyDict_SetItem(fields, PyTuple_GET_ITEM(names, (Py_ssize_t)i), value);
        Py_DECREF(value);
        PN_FAIL_IF(failed < 0, PN_ERR_CALLBACK);
    }
    return PN_OK;
}

/* ---- entries ---- */

/* The entry's cell, settled; NULL with or without an exception. */
static pn_cell *find_entry(PyObject *module, PyObject *table, PyObject *name, PyObject *key)
{
    pn_kv *kv = pn_py_kv(pn_state_of(module), table);
    if (kv == NULL || !PyUnicode_CheckExact(name) || !PyUnicode_CheckExact(key)) return NULL;
    pn_gone_free(&kv->gone, PN_GONE_STEP, &pn_py_host);
    pn_buf a, b;
    pn_bytes n, k;
    pn_buf_init(&a, &pn_alloc_system);
    pn_buf_init(&b, &pn_alloc_system);
    pn_coll *coll = pn_py_key(name, &a, &n) ? pn_kv_find(kv, n) : NULL;
    pn_cell *cell = coll && pn_py_key(key, &b, &k) ? pn_coll_get(coll, k) : NULL;
    pn_buf_clear(&a);
    pn_buf_clear(&b);
    return cell != NULL && pn_py_settle(cell) ? cell : NULL;
}

/* The type's text, borrowed from the cell; false: the entry is of no kind known here. */
static bool entry_type(const pn_cell *cell, pn_bytes *type)
{
    if (cell == NULL) return false;
    if (cell->kind == PN_CELL_JSON) return pn_struct_type_of(pn_cell_span(cell), type) == PN_OK;
    if (cell->kind != PN_CELL_STRUCT) return false;
    *type = pn_buf_view(&cell->structure->type);
    return true;
}

static PyObject *struct_type(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    pn_coll *coll;
    pn_cell *cell;
    pn_bytes type;
    if (nargs != 3) return PyErr_Format(PyExc_TypeError, "struct_type() takes 3 arguments (%zd given)", nargs);
    if (!pn_py_doc_find(pn_state_of(module), args[0], args[1], args[2], &coll, &cell))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    if (cell == NULL) Py_RETURN_FALSE;
    return entry_type(cell, &type) ? pn_py_str(type) : Py_NewRef(Py_None);
}

/* The fields of an entry that is text. It becomes native only if all of it fits. */
static pn_status settle_fields(pn_cell *cell, PyObject *type, PyObject *names, PyObject *shapes, PyObject *fields)
{
    pn_struct *s;
    PN_TRY(pn_struct_from_json(&pn_alloc_system, pn_cell_span(cell), &s));
    pn_status status = pn_py_struct_fits(s, type, names) ? fill_fields(s, names, shapes, fields) : PN_ERR_UNSUPPORTED;
    if (status != PN_OK) {
        pn_struct_free(s, &pn_py_host);
        return status;
    }
    pn_cell old = *cell;
    *cell = (pn_cell){.kind = PN_CELL_STRUCT, .tag = old.tag, .structure = s};
    pn_cell_release(&old, &pn_py_host);
    return PN_OK;
}

static pn_status read_fields(pn_cell *cell, PyObject *type, PyObject *names, PyObject *shapes, PyObject *fields)
{
    if (cell->kind == PN_CELL_JSON) return settle_fields(cell, type, names, shapes, fields);
    bool fits = cell->kind == PN_CELL_STRUCT && pn_py_struct_fits(cell->structure, type, names);
    return fits ? fill_fields(cell->structure, names, shapes, fields) : PN_ERR_UNSUPPORTED;
}

static pn_status find_fields(PyObject *module, PyObject *table, PyObject *name, PyObject *key, PyObject *type,
                             PyObject *names, PyObject *shapes, PyObject *fields)
{
    pn_cell *cell = find_entry(module, table, name, key);
    PN_FAIL_IF(PyErr_Occurred(), PN_ERR_CALLBACK);
    PN_FAIL_IF(cell == NULL || PyTuple_GET_SIZE(names) != PyTuple_GET_SIZE(shapes), PN_ERR_UNSUPPORTED);
    return read_fields(cell, type, names, shapes, fields);
}

static PyObject *struct_fields(PyObject *module, PyObject *args)
{
    PyObject *table, *name, *key, *type, *names, *shapes;
    if (!PyArg_ParseTuple(args, "OOOUO!O!:struct_fields", &table, &name, &key, &type, &PyTuple_Type, &names,
                          &PyTuple_Type, &shapes))
        return NULL;
    PyObject *fields = PyDict_New();
    if (fields == NULL) return NULL;
    int gc = pn_gc_pause(); /* a finalizer could change the table while its cells are looked at */
    pn_status s = find_fields(module, table, name, key, type, names, shapes, fields);
    pn_gc_resume(gc);
    if (s == PN_OK) return fields;
    Py_DECREF(fields);
    return s == PN_ERR_NOMEM || s == PN_ERR_CALLBACK ? pn_py_raise(s, NULL, NULL) : Py_NewRef(Py_None);
}

static PyMethodDef functions[] = {
    {"struct_type", (PyCFunction)(void (*)(void))struct_type, METH_FASTCALL,
     "struct_type(table, collection, key) -> str | False | None: the type of a stored struct; False: there is none;\n"
     "None: take the other way."},
    {"struct_fields", struct_fields, METH_VARARGS,
     "struct_fields(table, collection, key, type, names, shapes) -> dict | None: the fields of a stored struct, new\n"
     "containers each time; None: something in it is not of the given shapes."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_struct_reading(PyObject *module) { return PyModule_AddFunctions(module, functions); }
