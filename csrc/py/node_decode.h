/* node_decode.h: a node object straight from the JSON text of its document store entry,
 * equal in every respect to what LlamaIndex's json_to_doc makes of the decoded dict.
 *
 * A *reader* tells how one class is built: which fields it has, what type of value each
 * accepts without any conversion, and what an absent one becomes. pannier._nodeplan
 * makes the readers from the installed classes, compares what they build with what
 * the installed json_to_doc builds, and hands over the good ones:
 *
 *     set_node_readers((relationships, model of RelatedNodeInfo, of MediaResource or None,
 *                       (reader, ...)))
 *     relationships = {text: (NodeRelationship member, its hash)}
 *     model   = (class, field names, field kinds, absent kinds, aliases, defaults, full set,
 *                descriptor of __pydantic_fields_set__, of __pydantic_extra__ or None,
 *                of __pydantic_private__ or None)
 *     reader  = (type text, class name or None, model, flags, watch)
 *
 * field kinds: bytes, one pn_read_kind a field. absent kinds: bytes, one pn_absent_kind a
 * field. aliases: bytes, 1 + the index of the field whose key a field takes its value from
 * when that is there, or 0. defaults: a dict of all fields in their order. full set: the set of all names, a copy
 * of which has the order of one that they are added to; else None.
 * A descriptor is there when instances hold None in that slot.
 *
 * Whatever is not exactly as the reader says (another type, an unknown or repeated
 * key, something nested in metadata, which a node shares with the stored value) is left
 * to the peer, with its conversions and errors.
 */
#ifndef PN_PY_NODE_DECODE_H
#define PN_PY_NODE_DECODE_H

#include "py/json_py.h"
#include "py/module.h"
#include "store/cell.h"

typedef enum pn_read_kind {
    PN_READ_NULL = 0,
    PN_READ_STR = 1,
    PN_READ_STR_OR_NULL = 2,
    PN_READ_INT_OR_NULL = 3,
    PN_READ_FLOATS_OR_NULL = 4,
    PN_READ_STRS = 5,
    PN_READ_FLAT = 6,             /* an object whose values are scalars */
    PN_READ_RELATIONSHIPS = 7,    /* an object of RelatedNodeInfos and lists of them */
    PN_READ_RESOURCE_OR_NULL = 8, /* a MediaResource */
} pn_read_kind;

typedef enum pn_absent_kind {
    PN_ABSENT_REFUSED = 0, /* required, or with a default that is not known beforehand */
    PN_ABSENT_DEFAULT = 1, /* the value in defaults */
    PN_ABSENT_LIST = 2,    /* a new empty list */
    PN_ABSENT_DICT = 3,    /* a new empty dict */
} pn_absent_kind;

enum {
    PN_READER_TEXT = 1,  /* "text" beside text_resource, as documents are dumped with */
    PN_READER_IMAGE = 2, /* image_mimetype is guessed from image_path when not given */
};

enum { PN_MODEL_MAX = 32, PN_READERS_MAX = 8 };

/* Those in use are in the module's state, NULL before there are any. */
void pn_node_readers_free(pn_node_readers *readers);
int pn_node_readers_traverse(pn_node_readers *readers, visitproc visit, void *arg);

/* Whether classes may have changed since the last check: a caller that builds many nodes
 * checks once, and again whenever Python code has run in between. */
void pn_node_readers_recheck(pn_node_readers *readers);

/* Ids that the node or its neighbours probably have: exact strs of compact ASCII, which are
 * used where such an id stands, each at most once: all are different objects. */
enum { PN_KNOWN_IDS = 3 };
typedef struct pn_known_ids {
    size_t len;
    PyObject *of[PN_KNOWN_IDS]; /* held by the caller */
} pn_known_ids;

/* The node of an entry's text. `readers` and `known` may be NULL. PN_ERR_UNSUPPORTED (no exception): take the peer's way;
 * PN_ERR_CALLBACK: an exception is set. The caller keeps the text alive, and holds no
 * pointer into a table: on CPython 3.13 the hash of an enum member is Python code. */
pn_status pn_node_decode(pn_node_readers *readers, pn_bytes entry, const pn_known_ids *known, PyObject **node);

/* The same for a cell, whose text it keeps alive: the cell itself may go meanwhile. */
pn_status pn_node_decode_cell(pn_node_readers *readers, const pn_cell *cell, const pn_known_ids *known, PyObject **node);

#endif
