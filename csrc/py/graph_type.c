/* graph_type.c: TripletTable, the triplets of pannier.SimpleGraphStore by subject.
 *
 * A thin skin over store/graph.h. A subject that was handed out as the list that
 * LlamaIndex's callers expect is live: the list is its value from then on, and the
 * Python side works on it as LlamaIndex does. Methods answer None or False for what is
 * not theirs to do (a live subject, an argument that is no exact str): the caller then
 * takes that way.
 *
 * No method releases the GIL while it looks at the table, so the GIL is its lock. What
 * an operation displaces is released last, since that may run Python code.
 */
#include "py/graph_type.h"

#include "py/json_py.h"
#include "store/graph_pack.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    pn_graph *graph; /* NULL only after tp_clear */
    PyObject *weak_refs;
} table_object;

static void release_live(void *ctx, void *live)
{
    (void)ctx;
    Py_DECREF((PyObject *)live);
}

static pn_graph *graph_of(PyObject *op)
{
    pn_graph *g = ((table_object *)op)->graph;
    if (g == NULL) PyErr_SetString(PyExc_ReferenceError, "the table is being destroyed");
    return g;
}

/* ---- text arguments ---- */

enum { TEXTS = 3 };
typedef struct texts {
    pn_bytes at[TEXTS];
    int n; /* of scratch in use */
    pn_buf scratch[TEXTS];
} texts;

static void texts_clear(texts *t)
{
    for (int i = 0; i < t->n; i++) pn_buf_clear(&t->scratch[i]);
}

/* As texts_of, for str of any kind. */
static int texts_unlike(texts *t, PyObject *const *args, int n)
{
    for (int i = 0; i < n; i++)
        if (!PyUnicode_CheckExact(args[i])) return 0;
    for (; t->n < n; t->n++) {
        pn_buf_init(&t->scratch[t->n], &pn_alloc_system);
        if (!pn_py_utf8(args[t->n], &t->scratch[t->n], &t->at[t->n])) {
            pn_buf_clear(&t->scratch[t->n]);
            return -1;
        }
    }
    return 1;
}

/* 1: all are exact str and their bytes stand in t; 0: one is something else; -1: an
 * exception. In every case texts_clear is due. */
static inline int texts_of(texts *t, PyObject *const *args, int n)
{
    int i = 0;
    for (; i < n && PyUnicode_CheckExact(args[i]) && PyUnicode_IS_COMPACT_ASCII(args[i]); i++)
        t->at[i] = (pn_bytes){PyUnicode_1BYTE_DATA(args[i]), (size_t)PyUnicode_GET_LENGTH(args[i])};
    t->n = 0;
    return i == n ? 1 : texts_unlike(t, args, n);
}

static bool arity(const char *name, Py_ssize_t got, Py_ssize_t want)
{
    if (got != want) PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", name, want, got);
    return got == want;
}

/* ---- from links to objects ----
 *
 * Making a list may collect garbage, and so run code that changes the graph: no
 * collection starts while links are read (pn_gc_pause).
 */

/* The links of a subject, or NULL: with an exception, or because it is not there. */
static const pn_links *links_of(pn_graph *g, PyObject *subj)
{
    texts t;
    const pn_links *links = texts_of(&t, &subj, 1) == 1 ? pn_graph_find(g, t.at[0]) : NULL;
    texts_clear(&t);
    return links;
}

/* The str of texts that were met a moment ago, by where their bytes stand: a relation is
 * stored once and met often. Good while the graph is left alone. */
enum { MET = 16 };
typedef struct met {
    pn_bytes text[MET];
    PyObject *str[MET];
} met;

static void met_clear(met *m)
{
    for (int i = 0; i < MET; i++) Py_XDECREF(m->str[i]);
}

static PyObject **met_at(met *m, pn_bytes text, pn_bytes **key)
{
    size_t i = ((uintptr_t)text.ptr >> 3 ^ (uintptr_t)text.ptr >> 7) % MET;
    *key = &m->text[i];
    return &m->str[i];
}

/* A new reference, or NULL with an exception. */
static PyObject *met_str(met *m, pn_bytes text)
{
    pn_bytes *key;
    PyObject **at = met_at(m, text, &key);
    if (*at != NULL && key->ptr == text.ptr && key->len == text.len) return Py_NewRef(*at);
    PyObject *s = pn_py_str(text);
    if (s == NULL) return NULL;
    *key = text;
    Py_XSETREF(*at, Py_NewRef(s)); /* an exact str: releasing one runs no code */
    return s;
}

/* A list of the texts' str. */
static PyObject *text_list(met *m, const pn_bytes *texts, Py_ssize_t n)
{
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        PyObject *s = met_str(m, texts[i]);
        if (s == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, i, s);
    }
    return list;
}

/* Appends what may be NULL, with an exception, and takes its reference. */
static int append_new(PyObject *list, PyObject *item)
{
    int failed = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return failed;
}

/* A list of the first `most` pairs. */
static PyObject *pair_list(const pn_graph *g, const pn_links *links, size_t most)
{
    met m = {0};
    size_t pos = 0, n = pn_links_len(links);
    if (n > most) n = most;
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list != NULL && i < n; i++) {
        pn_bytes pair[2];
        bool more = pn_links_next(g, links, &pos, &pair[0], &pair[1]);
        PyObject *item = more ? text_list(&m, pair, 2) : PyErr_NoMemory(); /* len() says there are n */
        if (item == NULL) Py_CLEAR(list);
        else PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    met_clear(&m);
    return list;
}

/* The subjects in order; only the live ones on request. */
static PyObject *subjects(const pn_graph *g, bool only_live)
{
    int gc = pn_gc_pause();
    PyObject *list = PyList_New(0);
    size_t pos = 0;
    pn_bytes subj;
    const pn_links *links;
    while (list != NULL && !(only_live && pn_graph_live(g) == 0) && pn_graph_next(g, &pos, &subj, &links)) {
        if (only_live && pn_links_live(links) == NULL) continue;
        if (append_new(list, pn_py_str(subj)) < 0) Py_CLEAR(list);
    }
    pn_gc_resume(gc);
    return list;
}

/* The value of a subject: *value is its live object, or a fresh list of its first
 * `most` pairs, or NULL when it is not there. Returns 1 when live, -1 on failure. */
static int value_of(pn_graph *g, PyObject *subj, size_t most, PyObject **value)
{
    const pn_links *links = links_of(g, subj);
    *value = NULL;
    if (links == NULL) return PyErr_Occurred() ? -1 : 0;
    if (pn_links_live(links) != NULL) {
        *value = Py_NewRef((PyObject *)pn_links_live(links));
        return 1;
    }
    int gc = pn_gc_pause();
    *value = pair_list(g, links, most);
    pn_gc_resume(gc);
    return *value == NULL ? -1 : 0;
}

/* ---- from objects to links ---- */

/* A list of two exact str, as every pair should be. */
static bool is_pair(PyObject *pair)
{
    return PyList_CheckExact(pair) && PyList_GET_SIZE(pair) == 2 && PyUnicode_CheckExact(PyList_GET_ITEM(pair, 0)) &&
           PyUnicode_CheckExact(PyList_GET_ITEM(pair, 1));
}

static bool is_pair_list(PyObject *list)
{
    if (!PyList_CheckExact(list)) return false;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++)
        if (!is_pair(PyList_GET_ITEM(list, i))) return false;
    return true;
}

/* Puts the pairs of a list into native links. UNSUPPORTED when one occurs twice. */
static pn_status take_pairs(pn_graph *g, pn_bytes subj, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *pair = PyList_GET_ITEM(list, i);
        PyObject *const args[2] = {PyList_GET_ITEM(pair, 0), PyList_GET_ITEM(pair, 1)};
        texts t;
        bool added = false;
        pn_status s = texts_of(&t, args, 2) == 1 ? pn_graph_upsert(g, subj, t.at[0], t.at[1], &added) : PN_ERR_CALLBACK;
        texts_clear(&t);
        PN_TRY(s);
        PN_FAIL_IF(!added, PN_ERR_UNSUPPORTED);
    }
    return PN_OK;
}

/* Makes the subject's value what the list holds: native if the list has only what
 * native links can hold, else UNSUPPORTED and the list itself live (its reference is
 * then taken). *old as in pn_graph_set_live. */
static pn_status put_list(pn_graph *g, pn_bytes subj, PyObject *list, void **old)
{
    pn_status s = PN_ERR_UNSUPPORTED;
    *old = NULL;
    if (is_pair_list(list)) {
        PN_TRY(pn_graph_set_native(g, subj, old));
        s = take_pairs(g, subj, list);
        if (s == PN_OK) return PN_OK;
    }
    void *none = NULL;
    pn_status set = pn_graph_set_live(g, subj, list, *old ? &none : old);
    if (set != PN_OK) return set;
    Py_INCREF(list);
    return s;
}

/* True when the table alone holds the list and the list alone its pairs. */
static bool unshared(PyObject *list)
{
#ifdef Py_GIL_DISABLED
    (void)list;
    return false;
#else
    if (Py_REFCNT(list) != 1 || !is_pair_list(list)) return false;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++)
        if (Py_REFCNT(PyList_GET_ITEM(list, i)) != 1) return false;
    return true;
#endif
}

/* A live subject whose list nobody else holds any more is as good as native: changing
 * it costs O(1) again. What is in the way leaves it live. */
static int settle(pn_graph *g, pn_bytes subj)
{
    const pn_links *links = pn_graph_live(g) ? pn_graph_find(g, subj) : NULL;
    PyObject *live = links ? pn_links_live(links) : NULL;
    if (live == NULL || !unshared(live)) return 0;
    void *old = NULL;
    pn_status s = put_list(g, subj, live, &old);
    Py_XDECREF((PyObject *)old);
    if (s == PN_OK || s == PN_ERR_UNSUPPORTED) return 0;
    pn_py_raise(s, NULL, NULL);
    return -1;
}

/* ---- methods ---- */

/* Three texts for a change of the first one's links: as texts_of. */
static int change_of(pn_graph *g, texts *t, PyObject *const *args)
{
    int ok = texts_of(t, args, 3);
    return ok == 1 && settle(g, t->at[0]) < 0 ? -1 : ok;
}

int pn_py_graph_upsert(PyObject *table, PyObject *const *args)
{
    pn_graph *g = graph_of(table);
    if (g == NULL) return -1;
    texts t;
    bool added;
    int ok = change_of(g, &t, args);
    pn_status s = ok == 1 ? pn_graph_upsert(g, t.at[0], t.at[1], t.at[2], &added) : PN_ERR_UNSUPPORTED;
    texts_clear(&t);
    if (ok < 0) return -1;
    if (s == PN_OK || s == PN_ERR_UNSUPPORTED) return s == PN_OK;
    pn_py_raise(s, NULL, NULL);
    return -1;
}

static PyObject *told(int done) { return done < 0 ? NULL : PyBool_FromLong(done); }

static PyObject *table_upsert(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
    return arity("upsert", n, 3) ? told(pn_py_graph_upsert(op, args)) : NULL;
}

int pn_py_graph_delete(PyObject *table, PyObject *const *args)
{
    pn_graph *g = graph_of(table);
    if (g == NULL) return -1;
    texts t;
    bool removed;
    int ok = change_of(g, &t, args);
    pn_status s = ok == 1 ? pn_graph_delete(g, t.at[0], t.at[1], t.at[2], false, &removed) : PN_ERR_UNSUPPORTED;
    texts_clear(&t);
    return ok < 0 ? -1 : s == PN_OK;
}

static PyObject *table_delete(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
    return arity("delete", n, 3) ? told(pn_py_graph_delete(op, args)) : NULL;
}

static PyObject *table_peek(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
    pn_graph *g = graph_of(op);
    if (g == NULL || !arity("peek", n, 2)) return NULL;
    Py_ssize_t most = PyNumber_AsSsize_t(args[1], NULL);
    if (most == -1 && PyErr_Occurred()) return NULL;
    PyObject *value;
    int live = value_of(g, args[0], most < 0 ? 0 : (size_t)most, &value);
    if (live < 0) return NULL;
    return value ? value : Py_NewRef(Py_None);
}

/* ---- walks ---- */

typedef struct hops {
    met met;
    PyObject *found; /* [[subj, rel, obj], ...] */
    Py_ssize_t room; /* how many are wanted */
} hops;

static pn_status take_hop(void *ctx, pn_bytes subj, pn_bytes rel, pn_bytes obj)
{
    hops *h = ctx;
    if (PyList_GET_SIZE(h->found) >= h->room) return PN_OK;
    const pn_bytes hop[3] = {subj, rel, obj};
    return append_new(h->found, text_list(&h->met, hop, 3)) == 0 ? PN_OK : PN_ERR_CALLBACK;
}

/* The bytes of an exact str where they stand in it; false when it has none (surrogates). */
static bool lasting_utf8(PyObject *str, pn_bytes *out)
{
    Py_ssize_t len;
    const char *text = PyUnicode_CheckExact(str) ? PyUnicode_AsUTF8AndSize(str, &len) : NULL;
    if (text == NULL) {
        PyErr_Clear();
        return false;
    }
    *out = (pn_bytes){(const uint8_t *)text, (size_t)len};
    return true;
}

/* A pn_graph_read. What is no list of lists (or tuples) of two str is UNSUPPORTED. */
static pn_status read_pair(void *ctx, void *live, size_t *pos, pn_bytes *rel, pn_bytes *obj, bool *more)
{
    (void)ctx;
    PyObject *list = live;
    PN_FAIL_IF(!PyList_CheckExact(list), PN_ERR_UNSUPPORTED);
    *more = *pos < (size_t)PyList_GET_SIZE(list);
    if (!*more) return PN_OK;
    PyObject *pair = PyList_GET_ITEM(list, (Py_ssize_t)(*pos)++);
    bool fits = (PyList_CheckExact(pair) || PyTuple_CheckExact(pair)) && PySequence_Fast_GET_SIZE(pair) == 2;
    PN_FAIL_IF(!fits || !lasting_utf8(PySequence_Fast_GET_ITEM(pair, 0), rel), PN_ERR_UNSUPPORTED);
    PN_FAIL_IF(!lasting_utf8(PySequence_Fast_GET_ITEM(pair, 1), obj), PN_ERR_UNSUPPORTED);
    return PN_OK;
}

/* The first `room` triplets of a walk from the subject, a new list. */
static pn_status follow(pn_graph *g, PyObject *subj, pn_graph_walk walk, Py_ssize_t room, PyObject **found)
{
    texts t;
    hops h = {.found = PyList_New(0), .room = room};
    pn_status s = h.found != NULL && texts_of(&t, &subj, 1) == 1 ? PN_OK : PN_ERR_CALLBACK;
    if (s == PN_OK) {
        pn_bytes *key;
        PyObject **known = met_at(&h.met, t.at[0], &key);
        *key = t.at[0];
        *known = Py_NewRef(subj);
        s = pn_graph_follow(g, t.at[0], &walk, take_hop, read_pair, &h);
    }
    if (h.found != NULL) texts_clear(&t);
    met_clear(&h.met);
    if (s == PN_OK) *found = h.found;
    else Py_XDECREF(h.found); /* fresh lists of str: no code runs */
    return s;
}

/* Fills `map`. A walk stops where the answer is cut, unless there are live subjects: what
 * is odd in one must be met where the peer meets it. */
static pn_status follow_all(pn_graph *g, PyObject *subjs, const pn_graph_walk *bounds, PyObject *map)
{
    bool stop = pn_graph_live(g) == 0, full = false;
    Py_ssize_t room = (Py_ssize_t)bounds->limit;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(subjs) && !(full && stop); i++) {
        PyObject *subj = PyList_GET_ITEM(subjs, i), *found = NULL;
        int known = PyDict_Contains(map, subj);
        if (known != 0) PN_FAIL_IF(known < 0, PN_ERR_CALLBACK);
        if (known) continue;
        pn_graph_walk walk = *bounds;
        walk.room = stop ? (size_t)room + 1 : SIZE_MAX;
        PN_TRY(follow(g, subj, walk, full ? 0 : room + 1, &found));
        bool failed = false, over = PyList_GET_SIZE(found) > room;
        if (over) failed = PyList_SetSlice(found, room, room + 1, NULL) < 0;
        if (!failed && !full) failed = PyDict_SetItem(map, subj, found) < 0;
        room -= PyList_GET_SIZE(found);
        full = full || over;
        Py_DECREF(found);
        PN_FAIL_IF(failed, PN_ERR_CALLBACK);
    }
    return PN_OK;
}

static bool only_str(PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++)
        if (!PyUnicode_CheckExact(PyList_GET_ITEM(list, i))) return false;
    return true;
}

PyObject *pn_py_graph_rel_map(PyObject *table, PyObject *subjs, size_t depth, size_t limit, size_t inner_limit)
{
    pn_graph *g = graph_of(table);
    PyObject *names = g == NULL ? NULL : subjs == Py_None ? subjects(g, false) : Py_NewRef(subjs), *map;
    if (names == NULL) return NULL;
    if (!PyList_CheckExact(names) || !only_str(names)) {
        Py_DECREF(names);
        Py_RETURN_NONE;
    }
    int gc = pn_gc_pause(); /* so nobody changes the list of names, either */
    pn_graph_walk bounds = {depth, limit, inner_limit, 0};
    map = PyDict_New();
    pn_status s = map == NULL ? PN_ERR_CALLBACK : follow_all(g, names, &bounds, map);
    if (s != PN_OK) Py_CLEAR(map);
    pn_gc_resume(gc);
    Py_DECREF(names);
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_NONE;
    return s == PN_OK ? map : pn_py_raise(s, NULL, NULL);
}

static PyObject *table_rel_map(PyObject *op, PyObject *args)
{
    PyObject *subjs;
    Py_ssize_t depth, limit, inner;
    if (!PyArg_ParseTuple(args, "Onnn:rel_map", &subjs, &depth, &limit, &inner)) return NULL;
    if (depth < 0 || limit < 0 || inner < 0 || limit == PY_SSIZE_T_MAX)
        return PyErr_Format(PyExc_ValueError, "rel_map() takes no such number");
    return pn_py_graph_rel_map(op, subjs, (size_t)depth, (size_t)limit, (size_t)inner);
}

/* ---- methods: the rest ---- */

PyObject *pn_py_graph_live(PyObject *table, PyObject *subj, PyObject *missing)
{
    pn_graph *g = graph_of(table);
    PyObject *value;
    int live = g == NULL ? -1 : value_of(g, subj, SIZE_MAX, &value);
    if (live < 0) return NULL;
    if (value == NULL) return missing ? Py_NewRef(missing) : PyList_New(0);
    if (live) return value;
    texts t;
    void *old = NULL;
    pn_status s = texts_of(&t, &subj, 1) == 1 ? pn_graph_goes_live(g, t.at[0], value, &old) : PN_ERR_CALLBACK;
    texts_clear(&t);
    if (s == PN_OK) Py_INCREF(value);
    else Py_CLEAR(value);
    Py_XDECREF((PyObject *)old);
    return s == PN_OK ? value : pn_py_raise(s, NULL, NULL);
}

static PyObject *table_live(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
    return arity("live", n, 2) ? pn_py_graph_live(op, args[0], args[1]) : NULL;
}

static PyObject *table_set(PyObject *op, PyObject *const *args, Py_ssize_t n)
{
    pn_graph *g = graph_of(op);
    if (g == NULL || !arity("set", n, 2)) return NULL;
    texts t;
    void *old = NULL;
    int ok = texts_of(&t, args, 1);
    pn_status s = ok == 1 ? pn_graph_set_live(g, t.at[0], args[1], &old) : PN_ERR_UNSUPPORTED;
    texts_clear(&t);
    if (ok < 0) return NULL;
    if (s == PN_OK) Py_INCREF(args[1]);
    Py_XDECREF((PyObject *)old);
    if (s == PN_OK || s == PN_ERR_UNSUPPORTED) return PyBool_FromLong(s == PN_OK);
    return pn_py_raise(s, NULL, NULL);
}

static PyObject *table_remove(PyObject *op, PyObject *subj)
{
    pn_graph *g = graph_of(op);
    if (g == NULL) return NULL;
    texts t;
    void *old = NULL;
    int ok = texts_of(&t, &subj, 1);
    bool removed = ok == 1 && pn_graph_remove(g, t.at[0], &old);
    texts_clear(&t);
    Py_XDECREF((PyObject *)old);
    return ok < 0 ? NULL : PyBool_FromLong(removed);
}

static PyObject *table_keys(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    pn_graph *g = graph_of(op);
    return g ? subjects(g, false) : NULL;
}

static PyObject *table_live_subjects(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    pn_graph *g = graph_of(op);
    return g ? subjects(g, true) : NULL;
}

/* A fresh list of a list of pairs. */
static PyObject *copied_pairs(PyObject *list)
{
    PyObject *copy = PyList_New(PyList_GET_SIZE(list));
    for (Py_ssize_t i = 0; copy != NULL && i < PyList_GET_SIZE(copy); i++) {
        PyObject *pair = PyList_GetSlice(PyList_GET_ITEM(list, i), 0, 2);
        if (pair == NULL) Py_CLEAR(copy);
        else PyList_SET_ITEM(copy, i, pair);
    }
    return copy;
}

/* Links as a dict holds them; with `copy` live ones are copied too, NULL without an
 * exception if that is not for us to do. */
static PyObject *links_value(const pn_graph *g, const pn_links *links, bool copy)
{
    PyObject *live = pn_links_live(links);
    if (live == NULL) return pair_list(g, links, SIZE_MAX);
    if (!copy) return Py_NewRef(live);
    return is_pair_list(live) ? copied_pairs(live) : NULL;
}

static PyObject *whole_dict(const pn_graph *g, bool copy)
{
    int gc = pn_gc_pause();
    PyObject *dict = PyDict_New();
    size_t pos = 0;
    pn_bytes subj;
    const pn_links *links;
    while (dict != NULL && pn_graph_next(g, &pos, &subj, &links)) {
        PyObject *key = pn_py_str(subj), *value = key ? links_value(g, links, copy) : NULL;
        if (value == NULL || PyDict_SetItem(dict, key, value) < 0) Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    pn_gc_resume(gc);
    return dict;
}

static PyObject *table_snapshot(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    pn_graph *g = graph_of(op);
    return g ? whole_dict(g, false) : NULL;
}

static PyObject *table_copied(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    pn_graph *g = graph_of(op);
    PyObject *dict = g ? whole_dict(g, true) : NULL;
    return dict != NULL || PyErr_Occurred() ? dict : Py_NewRef(Py_None);
}

PyObject *pn_py_graph_copied(PyObject *table) { return table_copied(table, NULL); }

/* ---- whole contents ---- */

static pn_status encode_live(void *ctx, void *live, pn_buf *out)
{
    (void)ctx;
    return pn_py_encode((PyObject *)live, PN_ENCODE_IDENTITY, out); /* runs no Python code */
}

static PyObject *table_encode(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    pn_graph *g = graph_of(op);
    if (g == NULL) return NULL;
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    pn_status s = pn_graph_save(g, encode_live, NULL, &out);
    PyObject *result;
    if (s == PN_OK) result = pn_py_text(pn_state_of_type(Py_TYPE(op)), &out);
    else if (s == PN_ERR_UNSUPPORTED) result = Py_NewRef(Py_None);
    else result = pn_py_raise(s, NULL, NULL);
    pn_buf_clear(&out);
    return result;
}

/* Every key an exact str, and with `strict` every value a list of pairs. */
static bool is_graph_dict(PyObject *dict, bool strict)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    while (PyDict_Next(dict, &pos, &key, &value))
        if (!PyUnicode_CheckExact(key) || (strict && !is_pair_list(value))) return false;
    return true;
}

static pn_status fill(pn_graph *g, PyObject *dict, bool strict)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        texts t;
        void *old;
        pn_status s = texts_of(&t, &key, 1) == 1 ? put_list(g, t.at[0], value, &old) : PN_ERR_CALLBACK;
        texts_clear(&t);
        if (s != PN_OK && (strict || s != PN_ERR_UNSUPPORTED)) return s;
    }
    return PN_OK;
}

PyObject *pn_py_graph_table(PyTypeObject *type, pn_graph *g)
{
    table_object *self = (table_object *)type->tp_alloc(type, 0);
    if (self == NULL) pn_graph_free(g, release_live, NULL);
    else self->graph = g;
    return (PyObject *)self;
}

static PyObject *table_of(PyObject *type, PyObject *args)
{
    PyObject *dict;
    int strict;
    pn_graph *g = NULL;
    if (!PyArg_ParseTuple(args, "O!p:of", &PyDict_Type, &dict, &strict)) return NULL;
    if (!is_graph_dict(dict, strict)) Py_RETURN_NONE;
    pn_status s = pn_graph_new(&pn_alloc_system, &g);
    if (s == PN_OK) s = fill(g, dict, strict);
    if (s == PN_OK) return pn_py_graph_table((PyTypeObject *)type, g);
    pn_graph_free(g, release_live, NULL);
    if (s == PN_ERR_UNSUPPORTED) Py_RETURN_NONE;
    return pn_py_raise(s, NULL, NULL);
}

static PyObject *table_load(PyObject *type, PyObject *text)
{
    pn_module_state *state = pn_state_of_type((PyTypeObject *)type);
    pn_blob *blob = state ? pn_py_blob(state, text) : NULL;
    if (blob == NULL) return NULL;
    pn_graph *g = NULL;
    pn_status s;
    Py_BEGIN_ALLOW_THREADS
    s = pn_graph_load(&pn_alloc_system, blob, &g, NULL);
    pn_blob_unref(blob);
    Py_END_ALLOW_THREADS
    if (s == PN_OK) return pn_py_graph_table((PyTypeObject *)type, g);
    if (s == PN_ERR_NOMEM) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* ---- packs ---- */

static pn_status encode_pairs(void *ctx, void *live, pn_buf *out)
{
    return is_pair_list(live) ? encode_live(ctx, live, out) : PN_ERR_UNSUPPORTED;
}

pn_status pn_py_graph_gather(PyObject *table, pn_bytes name, bool whole, pn_batch *b)
{
    pn_graph *g = ((table_object *)table)->graph;
    return g != NULL ? pn_graph_gather(g, name, whole, b, encode_pairs, NULL) : PN_ERR_UNSUPPORTED;
}

void pn_py_graph_settle(PyObject *table, bool durable)
{
    pn_graph *g = ((table_object *)table)->graph;
    if (g != NULL && durable) pn_graph_gathered(g);
    if (g != NULL && !durable) pn_graph_give_back(g);
}

/* ---- the type ---- */

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    pn_graph *g = NULL;
    static char *none[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":TripletTable", none)) return NULL;
    pn_status s = pn_graph_new(&pn_alloc_system, &g);
    return s == PN_OK ? pn_py_graph_table(type, g) : pn_py_raise(s, NULL, NULL);
}

static int table_traverse(PyObject *op, visitproc visit, void *arg)
{
    pn_graph *g = ((table_object *)op)->graph;
    Py_VISIT(Py_TYPE(op));
    if (g == NULL || pn_graph_live(g) == 0) return 0;
    size_t pos = 0;
    pn_bytes subj;
    const pn_links *links;
    while (pn_graph_next(g, &pos, &subj, &links)) Py_VISIT((PyObject *)pn_links_live(links));
    return 0;
}

static int table_tp_clear(PyObject *op)
{
    pn_graph *g = ((table_object *)op)->graph;
    ((table_object *)op)->graph = NULL;
    pn_graph_free(g, release_live, NULL);
    return 0;
}

static void table_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (((table_object *)op)->weak_refs != NULL) PyObject_ClearWeakRefs(op);
    table_tp_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static Py_ssize_t table_len(PyObject *op)
{
    pn_graph *g = graph_of(op);
    return g ? (Py_ssize_t)pn_graph_len(g) : -1;
}

static int table_contains(PyObject *op, PyObject *subj)
{
    pn_graph *g = graph_of(op);
    if (g == NULL) return -1;
    const pn_links *links = links_of(g, subj);
    return links == NULL && PyErr_Occurred() ? -1 : links != NULL;
}

static PyObject *table_live_count(PyObject *op, void *Py_UNUSED(closure))
{
    pn_graph *g = graph_of(op);
    return g ? PyLong_FromSize_t(pn_graph_live(g)) : NULL;
}

/* METH_FASTCALL functions have a type of their own. */
#define FAST(fn) ((PyCFunction)(void (*)(void))(fn))

static PyMethodDef table_methods[] = {
    {"upsert", FAST(table_upsert), METH_FASTCALL,
     "upsert(subj, rel, obj) -> bool\n\nAdds the triplet unless it is there. False: not done, the subject is live or an "
     "argument is no str."},
    {"delete", FAST(table_delete), METH_FASTCALL,
     "delete(subj, rel, obj) -> bool\n\nRemoves the triplet if it is there, and its subject with the last one. False: "
     "as for upsert."},
    {"live", FAST(table_live), METH_FASTCALL,
     "live(subj, default)\n\nThe value of a subject, which is live from then on; default when it is not there."},
    {"peek", FAST(table_peek), METH_FASTCALL,
     "peek(subj, most)\n\nA fresh list of the first pairs, or the live value itself, or None."},
    {"rel_map", table_rel_map, METH_VARARGS,
     "rel_map(subjs, depth, limit, inner_limit) -> dict or None\n\nSubject to the triplets [subj, rel, obj] of a walk "
     "from it, depth first, `limit` in all; from all subjects if subjs is None. None when subjs is no list of str or "
     "there is something odd on the way."},
    {"set", FAST(table_set), METH_FASTCALL, "set(subj, value) -> bool\n\nMakes value the live value of the subject."},
    {"remove", table_remove, METH_O, "remove(subj) -> bool\n\nRemoves a subject; tells whether it was there."},
    {"keys", table_keys, METH_NOARGS, "keys() -> list\n\nThe subjects in order."},
    {"live_subjects", table_live_subjects, METH_NOARGS, "live_subjects() -> list\n\nThe subjects that are live."},
    {"snapshot", table_snapshot, METH_NOARGS,
     "snapshot() -> dict\n\nSubject to pairs: fresh lists, but the value itself where a subject is live."},
    {"copied", table_copied, METH_NOARGS,
     "copied() -> dict or None\n\nThe same with lists that are all fresh; None when a live value is no list of pairs."},
    {"encode", table_encode, METH_NOARGS,
     "encode() -> Text or None\n\nThe file's contents; None when a live value is more than lists of plain values."},
    {"of", table_of, METH_VARARGS | METH_CLASS,
     "of(dict, strict) -> TripletTable or None\n\nA copy of a plain graph_dict. Values that are no lists of different "
     "[str, str] pairs become live, or give None with strict; so do keys that are no str."},
    {"load", table_load, METH_O | METH_CLASS,
     "load(text) -> TripletTable or None\n\nFrom a file's contents; None when it is not of the plain form."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef table_getset[] = {
    {"live_count", table_live_count, NULL, "How many subjects are live.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef table_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(table_object, weak_refs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot table_slots[] = {
    {Py_tp_doc, "TripletTable()\n--\n\nTriplets by subject, in order."},
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_traverse, table_traverse},
    {Py_tp_clear, table_tp_clear},
    {Py_tp_methods, table_methods},
    {Py_tp_getset, table_getset},
    {Py_tp_members, table_members},
    {Py_sq_length, table_len},
    {Py_sq_contains, table_contains},
    {0, NULL},
};

static PyType_Spec table_spec = {
    .name = "pannier._core.TripletTable",
    .basicsize = sizeof(table_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = table_slots,
};

int pn_py_add_graph(PyObject *module)
{
    pn_module_state *state = pn_state_of(module);
    state->graph_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &table_spec, NULL);
    if (state->graph_type == NULL || PyModule_AddType(module, state->graph_type) < 0) return -1;
    return pn_py_add_graph_methods(module);
}
