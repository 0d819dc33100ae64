/* node_values.h: what a node's text is read with, and the values of its fields; for
 * node_decode.c, node_values.c and node_instance.c, not for others.
 *
 * Every reader here begins at a value (pn_node_peek has been called) and steps over it. It gives a new
 * reference, or PN_ERR_UNSUPPORTED and others as pn_node_decode has them; then *out is NULL.
 */
#ifndef PN_PY_NODE_VALUES_H
#define PN_PY_NODE_VALUES_H

#include "py/node_model.h"

/* The first metadata object of a node: those of its source and its neighbours mostly begin with
 * the same members. */
typedef struct {
    const uint8_t *text; /* behind its bracket; NULL: none yet */
    size_t len;
    PyObject *names[PN_VALUES_KEPT], *values[PN_VALUES_KEPT]; /* borrowed from its dict */
    size_t ends[PN_VALUES_KEPT]; /* of each member, counted from text */
} pn_first_flat;

typedef struct {
    pn_py_decoder d;
    pn_node_readers *readers;
    const pn_known_ids *known; /* may be NULL */
    unsigned known_used;       /* bit i: the ith, which stands in one place only */
    /* raw strings; ptr NULL: absent */
    pn_bytes last;                /* read last */
    pn_bytes media;               /* "text" of the MediaResource read last */
    pn_bytes resource;            /* that of text_resource */
    pn_json_str class_name, text; /* members of __data__ that are no fields */
    size_t objects;               /* begun so far */
    size_t object;                /* the one that is being read */
    size_t lists;                 /* of strings, begun so far */
    pn_kept_piece *place;         /* of the next string, or NULL */
    pn_first_flat first;
    bool again;                   /* the string read last is the one that stood in its place before */
} pn_node_decoder;

/* What is read for one object before it is made. */
typedef struct {
    size_t object;   /* the how manyth of its node */
    uint32_t again;  /* bit i: field i holds the string that it held in the node before */
    PyObject *of[PN_MODEL_MAX];
} pn_object_values;

static inline pn_status pn_node_status(PyObject *object) { return object ? PN_OK : PN_ERR_CALLBACK; }

/* As pn_json_peek, at once where a string begins, as most values do. */
static inline pn_json_type pn_node_peek(pn_json_reader *r)
{
    return r->p < r->end && *r->p == '"' ? PN_JSON_STRING : pn_json_peek(r);
}

static inline bool pn_same8(const uint8_t *a, const uint8_t *b)
{
    uint64_t x, y;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return x == y;
}

/* memcmp for few bytes, without a call: by eights, the last ones overlapping. */
static inline bool pn_same_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
    if (n < 8) return memcmp(a, b, n) == 0;
    size_t i = 0;
    for (; i + 8 < n; i += 8)
        if (!pn_same8(a + i, b + i)) return false;
    return pn_same8(a + n - 8, b + n - 8);
}

static inline bool pn_steps_over(pn_json_reader *r, const uint8_t *text, size_t len)
{
    if ((size_t)(r->end - r->p) < len || !pn_same_bytes(r->p, text, len)) return false;
    r->p += len;
    r->first = false;
    return true;
}

pn_status pn_node_null(pn_node_decoder *n, PyObject **out);
pn_status pn_node_str(pn_node_decoder *n, PyObject **out);  /* at n->place, if that is set */
bool pn_node_known_id(pn_node_decoder *n, PyObject **out); /* if one stands here */
pn_status pn_node_int(pn_node_decoder *n, PyObject **out);
pn_status pn_node_floats(pn_node_decoder *n, PyObject **out);
pn_status pn_node_strs(pn_node_decoder *n, PyObject **out); /* a list of strings */
pn_status pn_node_flat(pn_node_decoder *n, PyObject **out); /* an object of scalars */

/* An array of what `item` reads. */
typedef pn_status (*pn_node_item)(pn_node_decoder *n, PyObject **out);
pn_status pn_node_list(pn_node_decoder *n, pn_node_item item, PyObject **out);

/* ---- node_instance.c ---- */

/* The instance that these values make. */
pn_status pn_node_instance(pn_node_decoder *n, const pn_node_model *m, pn_object_values *values, PyObject **out);

#endif
