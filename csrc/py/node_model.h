/* node_model.h: the readers of node_decode.h as the core holds them; made by
 * node_readers.c, used by node_decode.c, not for others.
 */
#ifndef PN_PY_NODE_MODEL_H
#define PN_PY_NODE_MODEL_H

#include "py/json_decode.h"
#include "py/node_decode.h"
#include "py/node_watch.h"

/* Nodes that follow one another say the same things in the same places: the defaults, the
 * metadata of their source. What was made for a place is kept with the text it came from,
 * and used again when that very text stands there again. Only what cannot change is
 * shared, and never between two places, so that within one node strings are as distinct
 * as json.loads makes them. */
enum {
    PN_OBJECTS_KEPT = 8,  /* objects of a node, in the order of reading: itself is 0 */
    PN_FIELDS_KEPT = 32,  /* fields of one object */
    PN_VALUES_KEPT = 16,  /* members of its metadata */
    PN_LISTS_KEPT = 2,    /* lists of strings of a node */
    PN_PIECE_KEPT = 63,   /* bytes of a string */
    PN_WHOLE_KEPT = 2048, /* bytes of a whole metadata object or list */
    PN_WHOLE_WORTH = 32,  /* fewer are as well made anew */
};

/* A str and its JSON text with the quotes; or an int and its digits; or a key and all that stands between two
 * values: , "key":  */
typedef struct {
    PyObject *str;
    uint8_t len;
    uint8_t raw[PN_PIECE_KEPT];
} pn_kept_piece;

typedef struct {
    PyObject *value; /* a dict or list, never handed out itself; NULL: the text was seen once */
    size_t len;
    uint8_t raw[PN_WHOLE_KEPT];
} pn_kept_whole;

/* The metadata object made last for a place: another with the same keys begins as a copy,
 * and only the values that differ are put. */
typedef struct {
    PyObject *dict; /* never handed out itself; NULL: none yet */
    size_t len;
    PyObject *names[PN_VALUES_KEPT], *values[PN_VALUES_KEPT]; /* borrowed from dict */
    PyObject *last[PN_VALUES_KEPT]; /* those made last, to be compared with only */
} pn_kept_flat;

typedef struct pn_node_model pn_node_model;

/* What the __dict__ of the next instance made in a place begins as. */
typedef struct {
    const pn_node_model *model; /* NULL: none yet */
    PyObject *dict;             /* never handed out itself */
    PyObject *values[PN_MODEL_MAX]; /* of the model's fields; borrowed from dict */
} pn_kept_model;

/* The text behind the last field of an object, as a class it is read for has it. */
typedef struct {
    const pn_node_model *model; /* NULL: none yet */
    uint8_t len;
    uint8_t raw[PN_PIECE_KEPT];
} pn_kept_tail;

typedef struct {
    pn_kept_model models[PN_OBJECTS_KEPT], spare; /* spare: for all further places */
    pn_kept_flat flats[PN_OBJECTS_KEPT];
    pn_kept_tail tails[PN_OBJECTS_KEPT];
    pn_kept_piece fields[PN_OBJECTS_KEPT][PN_FIELDS_KEPT];
    pn_kept_piece keys[PN_OBJECTS_KEPT][PN_VALUES_KEPT], values[PN_OBJECTS_KEPT][PN_VALUES_KEPT];
    pn_kept_whole wholes[PN_OBJECTS_KEPT + PN_LISTS_KEPT];
} pn_kept;

/* One class that is built: everything borrowed from the tuple it was read from. */
struct pn_node_model {
    PyTypeObject *type;
    PyObject *names, *defaults;
    PyObject *full_set; /* may be NULL */
    Py_ssize_t set_at, extra_at, private_at; /* where an instance has these slots; 0: not used */
    Py_ssize_t count;
    Py_ssize_t id; /* the field that is an id, or -1 */
    const char *kinds, *absent, *aliases;
    pn_bytes text[PN_MODEL_MAX]; /* the names */
    struct {
        uint8_t len;
        char text[PN_PIECE_KEPT]; /* , "name":  as it stands between two fields */
    } prefix[PN_MODEL_MAX];
};

typedef struct {
    pn_node_model model;
    pn_bytes type_text, class_name; /* class_name.ptr NULL: any */
    int flags;
    int resource, path, mimetype; /* fields that the flags look at, or -1 */
    PyObject *watch;
    pn_watch_memo memo;
    signed char holds; /* of the watch: -1 not looked at yet */
} pn_node_reader;

struct pn_node_readers {
    PyObject *owner;         /* what set_node_readers got */
    PyObject *relationships; /* {text: NodeRelationship member}, borrowed */
    pn_node_model related, resource; /* resource.type NULL: this release has none */
    Py_ssize_t resource_text; /* the field "text" of resource */
    size_t count;
    pn_node_reader readers[PN_READERS_MAX];
    pn_key_cache keys;
    pn_kept kept;
};

/* The readers that such a tuple describes, or NULL with an exception set. */
pn_node_readers *pn_node_readers_new(PyObject *owner);

/* The field of that name, or -1. */
Py_ssize_t pn_node_field_index(const pn_node_model *m, pn_bytes name);

#endif
