/* graph_decode.c: a property graph from the text of its file, equal in every field and in
 * pydantic's own state to what LlamaIndex's from_persist_path makes of it.
 *
 * Read is what LlamaIndex writes: the three members of a graph, models with all of their
 * fields and no others, values of the types that the fields take without conversion.
 * Anything else (an unknown, absent or repeated key, an int in an embedding, a lone
 * surrogate, text that is no JSON) is UNSUPPORTED: LlamaIndex reads it, with its
 * conversions and errors. No Python code runs.
 */
#include "py/graph_models.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "py/json_decode.h"

/* An id stands in its node, in all of its relations and in their triplets: one str serves
 * for all, as far as it is found in its place here. */
enum { SHARED_LEAST = 16, SHARED_MOST = 1 << 16, SHARED_TEXT = 64 };

typedef struct {
    const pn_graph_models *models;
    pn_py_decoder d;
    pn_key_cache keys;
    uint64_t seed;
    size_t mask;
    PyObject **shared; /* mask + 1 places, NULL or a str */
} graph_decoder;

/* What cannot be read here, errors included, is left to the peer. */
static pn_status read_or_leave(pn_status s)
{
    return s == PN_OK || s == PN_ERR_CALLBACK || s == PN_ERR_NOMEM ? s : PN_ERR_UNSUPPORTED;
}

static pn_status made(PyObject *object)
{
    if (object != NULL) return PN_OK;
    return PyErr_ExceptionMatches(PyExc_MemoryError) ? PN_ERR_CALLBACK : (PyErr_Clear(), PN_ERR_UNSUPPORTED);
}

/* ---- values ---- */

static bool has_surrogates(PyObject *str)
{
    if (PyUnicode_KIND(str) == PyUnicode_1BYTE_KIND) return false;
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(str); i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(str, i);
        if (c >= 0xD800 && c <= 0xDFFF) return true;
    }
    return false;
}

/* The text has no encoded surrogates, so only escapes make some. */
static pn_status checked(const pn_json_str *s, PyObject **str)
{
    PN_TRY(made(*str));
    if (!s->has_escape || !has_surrogates(*str)) return PN_OK;
    Py_CLEAR(*str);
    return PN_ERR_UNSUPPORTED;
}

static pn_status read_str(graph_decoder *g, PyObject **out)
{
    pn_json_str s;
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_string(&g->d.r, &s));
    *out = pn_py_decode_chars(&g->d, &s);
    return checked(&s, out);
}

/* The str of a text, made or found. */
static PyObject *shared_str(graph_decoder *g, const pn_json_str *s)
{
    if (s->has_escape || !s->ascii || s->len > SHARED_TEXT) return pn_py_decode_chars(&g->d, s);
    PyObject **place = &g->shared[pn_hash_bytes((pn_bytes){s->ptr, s->len}, g->seed) & g->mask], *there = *place;
    bool same = there != NULL && (size_t)PyUnicode_GET_LENGTH(there) == s->len &&
                memcmp(PyUnicode_1BYTE_DATA(there), s->ptr, s->len) == 0;
    if (same) return Py_NewRef(there);
    PyObject *made = pn_py_decode_chars(&g->d, s);
    if (made != NULL) Py_XSETREF(*place, Py_NewRef(made));
    return made;
}

static pn_status read_id(graph_decoder *g, PyObject **out)
{
    pn_json_str s;
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_string(&g->d.r, &s));
    *out = shared_str(g, &s);
    return checked(&s, out);
}

/* As read_str, of a text that is repeated often. */
static pn_status read_label(graph_decoder *g, PyObject **out)
{
    pn_json_str s;
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_string(&g->d.r, &s));
    *out = pn_py_decode_key(&g->d, &s);
    return checked(&s, out);
}

static pn_status read_null(graph_decoder *g, PyObject **out)
{
    PN_TRY(pn_json_literal(&g->d.r));
    *out = Py_NewRef(Py_None);
    return PN_OK;
}

static pn_status read_value(graph_decoder *g, PyObject **out)
{
    *out = pn_py_decode_value(&g->d);
    return made(*out);
}

static bool all_floats(PyObject *list)
{
    Py_ssize_t i = 0;
    while (i < PyList_GET_SIZE(list) && PyFloat_CheckExact(PyList_GET_ITEM(list, i))) i++;
    return i == PyList_GET_SIZE(list);
}

static bool sound_keys(PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    while (PyDict_Next(dict, &pos, &key, &value))
        if (has_surrogates(key)) return false;
    return true;
}

static pn_status read_embedding(graph_decoder *g, PyObject **out)
{
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    PN_TRY(read_value(g, out));
    return all_floats(*out) ? PN_OK : PN_ERR_UNSUPPORTED;
}

static pn_status read_properties(graph_decoder *g, PyObject **out)
{
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(read_value(g, out));
    return sound_keys(*out) ? PN_OK : PN_ERR_UNSUPPORTED;
}

static pn_status read_field(graph_decoder *g, pn_graph_field field, PyObject **out)
{
    bool null = (field == PN_GRAPH_EMBEDDING || field == PN_GRAPH_ID) && pn_json_peek(&g->d.r) == PN_JSON_NULL;
    if (null) return read_null(g, out);
    switch (field) {
    case PN_GRAPH_LABEL: return read_label(g, out);
    case PN_GRAPH_EMBEDDING: return read_embedding(g, out);
    case PN_GRAPH_PROPERTIES: return read_properties(g, out);
    case PN_GRAPH_TEXT: return read_str(g, out);
    default: return read_id(g, out);
    }
}

/* ---- models ---- */

static int field_of(const pn_json_str *key)
{
    for (int i = 0; i < PN_GRAPH_NAMES; i++)
        if (strlen(pn_graph_name_text[i]) == key->len && memcmp(pn_graph_name_text[i], key->ptr, key->len) == 0) return i;
    return -1;
}

static pn_status read_fields(graph_decoder *g, PyObject *values[PN_GRAPH_NAMES], int *count)
{
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&g->d.r));
    for (*count = 0;; ++*count) {
        pn_json_str key;
        bool more;
        PN_TRY(pn_json_object_next(&g->d.r, &key, &more));
        if (!more) return PN_OK;
        int field = field_of(&key);
        PN_FAIL_IF(field < 0 || values[field] != NULL, PN_ERR_UNSUPPORTED);
        PN_TRY(read_field(g, (pn_graph_field)field, &values[field]));
    }
}

static pn_status instance_of(const graph_decoder *g, pn_graph_kind kind, PyObject *const *values, PyObject **out)
{
    const pn_graph_fields *fields = &pn_graph_fields_of[kind];
    PyObject *dict = PyDict_New();
    bool good = dict != NULL;
    for (int i = 0; good && i < fields->count; i++)
        good = PyDict_SetItem(dict, g->models->name[fields->of[i]], values[fields->of[i]]) == 0;
    *out = good ? pn_graph_instance(g->models, kind, dict) : NULL;
    Py_XDECREF(dict);
    return *out ? PN_OK : PN_ERR_CALLBACK;
}

/* All fields of the class, and no others. */
static bool complete(pn_graph_kind kind, PyObject *const *values, int count)
{
    const pn_graph_fields *fields = &pn_graph_fields_of[kind];
    int i = 0;
    while (i < fields->count && values[fields->of[i]] != NULL) i++;
    return i == fields->count && count == i;
}

static pn_status read_model(graph_decoder *g, bool relation, PyObject **out)
{
    PyObject *values[PN_GRAPH_NAMES] = {NULL};
    int count;
    pn_status s = read_fields(g, values, &count);
    pn_graph_kind kind = relation ? PN_GRAPH_RELATION : values[PN_GRAPH_NAME] ? PN_GRAPH_ENTITY : PN_GRAPH_CHUNK;
    if (s == PN_OK) s = complete(kind, values, count) ? instance_of(g, kind, values, out) : PN_ERR_UNSUPPORTED;
    for (int i = 0; i < PN_GRAPH_NAMES; i++) Py_XDECREF(values[i]);
    return s;
}

/* ---- the graph ---- */

/* A repeated key is the peer's business. */
static pn_status put_new(PyObject *dict, PyObject *key, PyObject *value)
{
    Py_ssize_t size = PyDict_GET_SIZE(dict);
    PN_FAIL_IF(PyDict_SetItem(dict, key, value) < 0, PN_ERR_CALLBACK);
    return PyDict_GET_SIZE(dict) == size ? PN_ERR_UNSUPPORTED : PN_OK;
}

static pn_status read_entry(graph_decoder *g, const pn_json_str *name, bool relation, PyObject *into)
{
    PyObject *key = relation ? pn_py_decode_chars(&g->d, name) : shared_str(g, name), *object = NULL;
    pn_status s = checked(name, &key);
    if (s == PN_OK) s = read_model(g, relation, &object);
    if (s == PN_OK) s = put_new(into, key, object);
    Py_XDECREF(key);
    Py_XDECREF(object);
    return s;
}

static pn_status read_models(graph_decoder *g, bool relations, PyObject *into)
{
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&g->d.r));
    for (;;) {
        pn_json_str name;
        bool more;
        PN_TRY(pn_json_object_next(&g->d.r, &name, &more));
        if (!more) return PN_OK;
        PN_TRY(read_entry(g, &name, relations, into));
    }
}

static pn_status fill_triplet(graph_decoder *g, PyObject *triplet)
{
    bool more;
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_array_begin(&g->d.r));
    for (int i = 0; i < 3; i++) {
        PyObject *part = NULL;
        PN_TRY(pn_json_array_next(&g->d.r, &more));
        PN_FAIL_IF(!more, PN_ERR_UNSUPPORTED);
        PN_TRY(i == 1 ? read_label(g, &part) : read_id(g, &part));
        PyTuple_SET_ITEM(triplet, i, part);
    }
    PN_TRY(pn_json_array_next(&g->d.r, &more));
    return more ? PN_ERR_UNSUPPORTED : PN_OK;
}

static pn_status read_triplets(graph_decoder *g, PyObject *into)
{
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_array_begin(&g->d.r));
    for (;;) {
        bool more;
        PN_TRY(pn_json_array_next(&g->d.r, &more));
        if (!more) return PN_OK;
        PyObject *triplet = PyTuple_New(3);
        PN_FAIL_IF(triplet == NULL, PN_ERR_CALLBACK);
        pn_status s = fill_triplet(g, triplet);
        PyObject_GC_UnTrack(triplet); /* of str: what the collector would do when it came by */
        if (s == PN_OK && PySet_Add(into, triplet) < 0) s = PN_ERR_CALLBACK;
        Py_DECREF(triplet);
        PN_TRY(s);
    }
}

enum { NODES = 1, RELATIONS = 2, TRIPLETS = 4, ALL = 7 };

static int member_of(const pn_json_str *key)
{
    pn_bytes name = {key->ptr, key->len};
    return pn_bytes_equal(name, PN_BYTES("nodes"))       ? NODES
           : pn_bytes_equal(name, PN_BYTES("relations")) ? RELATIONS
           : pn_bytes_equal(name, PN_BYTES("triplets"))  ? TRIPLETS
                                                         : 0;
}

static pn_status read_graph(graph_decoder *g, PyObject *nodes, PyObject *relations, PyObject *triplets)
{
    int seen = 0;
    PN_FAIL_IF(pn_json_peek(&g->d.r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&g->d.r));
    for (;;) {
        pn_json_str key;
        bool more;
        PN_TRY(pn_json_object_next(&g->d.r, &key, &more));
        if (!more) break;
        int member = member_of(&key);
        PN_FAIL_IF(member == 0 || seen & member, PN_ERR_UNSUPPORTED);
        seen |= member;
        PN_TRY(member == TRIPLETS ? read_triplets(g, triplets)
                                  : read_models(g, member == RELATIONS, member == NODES ? nodes : relations));
    }
    return seen == ALL ? pn_json_end(&g->d.r) : PN_ERR_UNSUPPORTED;
}

static bool is_strict_utf8(pn_bytes text)
{
    bool surrogates = false;
    return pn_utf8_valid_prefix(text, &surrogates) == text.len && !surrogates;
}

static pn_status decoder_init(graph_decoder *g, pn_bytes text)
{
    size_t places = SHARED_LEAST;
    while (places < SHARED_MOST && places < text.len / 128) places *= 2;
    g->mask = places - 1;
    g->seed = pn_hash_seed();
    g->shared = PyMem_Calloc(places, sizeof *g->shared);
    PN_FAIL_IF(g->shared == NULL, PN_ERR_NOMEM);
    pn_py_decoder_init(&g->d, text, &g->keys);
    return PN_OK;
}

static void decoder_clear(graph_decoder *g)
{
    pn_key_cache_clear(&g->keys);
    pn_py_decoder_clear(&g->d);
    for (size_t i = 0; i <= g->mask; i++) Py_XDECREF(g->shared[i]);
    PyMem_Free(g->shared);
}

static pn_status decode(pn_graph_models *models, pn_bytes text, PyObject *nodes, PyObject *relations, PyObject *triplets)
{
    PN_FAIL_IF(!pn_graph_models_hold(models) || !is_strict_utf8(text), PN_ERR_UNSUPPORTED);
    graph_decoder g = {.models = models};
    PN_TRY(decoder_init(&g, text));
    int gc = pn_gc_pause();
    pn_status s = read_or_leave(read_graph(&g, nodes, relations, triplets));
    decoder_clear(&g);
    pn_gc_resume(gc);
    return s;
}

static PyObject *graph_decode(PyObject *module, PyObject *args)
{
    pn_module_state *state = pn_state_of(module);
    PyObject *text, *nodes, *relations, *triplets;
    if (!PyArg_ParseTuple(args, "OO!O!O!:graph_decode", &text, &PyDict_Type, &nodes, &PyDict_Type, &relations, &PySet_Type,
                          &triplets))
        return NULL;
    pn_blob *blob = pn_py_blob(state, text);
    if (blob == NULL) return NULL;
    pn_status s = decode(state->graph_models, pn_blob_view(blob), nodes, relations, triplets);
    pn_blob_unref(blob);
    if (s != PN_OK && s != PN_ERR_UNSUPPORTED) return pn_py_raise(s, NULL, NULL);
    return PyBool_FromLong(s == PN_OK);
}

static PyMethodDef functions[] = {
    {"graph_decode", graph_decode, METH_VARARGS,
     "graph_decode(text, nodes, relations, triplets) -> bool: fills empty ones from a file. False: ask LlamaIndex,\n"
     "and throw away what is in them."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_graph_decode(PyObject *module) { return PyModule_AddFunctions(module, functions); }
