/* node_encode.h: a node object straight to the JSON text of its document store entry,
 * {"__data__": node.to_dict(), "__type__": node.get_type()}, without that dict.
 *
 * A *plan* tells how a class dumps; pannier._nodeplan makes one for each exact peer
 * class it knows, checks it against the installed class on sample nodes, and hands
 * the good ones over. A plan is the tuple
 *     (field names, field kinds, openings, closing, tail, end, hash, watch)
 * where kinds is bytes, one pn_node_kind a field; openings is a tuple of bytes, what is
 * printed before each field's value; closing and end are bytes, what is printed after the
 * last field and, tail (pn_node_tail) in between, at the very end; hash is a pn_node_hash
 * kind; watch as node_watch.h says: while it does not hold, there is no plan. node_types is
 *     (NodeRelationship, RelatedNodeInfo, ObjectType, MediaResource, SOURCE).
 */
#ifndef PN_PY_NODE_ENCODE_H
#define PN_PY_NODE_ENCODE_H

#include "py/json_py.h"
#include "py/module.h"

typedef enum pn_node_kind {
    PN_NODE_PLAIN = 0,         /* a value whose round trip is the identity */
    PN_NODE_RELATIONSHIPS = 1, /* {NodeRelationship: RelatedNodeInfo or a list of them} */
    PN_NODE_RESOURCE = 2,      /* a MediaResource that holds only text, or None */
    PN_NODE_NONE = 3,          /* must be None */
} pn_node_kind;

typedef enum pn_node_tail {
    PN_NODE_TAIL_NONE = 0,
    PN_NODE_TAIL_TEXT = 1, /* after class_name: "text", that of text_resource */
} pn_node_tail;

typedef enum pn_node_hash {
    PN_NODE_HASH_PROPERTY = 0, /* ask the node */
    PN_NODE_HASH_TEXT = 1,     /* of str(text) + str(metadata), as TextNode's */
} pn_node_hash;

/* Names that are looked up again and again, as interned strings. */
typedef enum pn_node_name {
    PN_NAME_ID, PN_NAME_METADATA, PN_NAME_RELATIONSHIPS, PN_NAME_NODE_ID, PN_NAME_NODE_TYPE, PN_NAME_HASH, PN_NAME_TEXT,
    PN_NAME_MIMETYPE, PN_NAME_TEXT_RESOURCE, PN_NAME_EMBEDDINGS, PN_NAME_DATA, PN_NAME_PATH, PN_NAME_URL, PN_NAME_COUNT,
} pn_node_name;

/* The plan of the node's exact class, borrowed; NULL (no exception) if there is none. One
 * that was found is valid for the rest of the operation: the watch is looked at here. */
PyObject *pn_node_plan(pn_module_state *state, PyObject *node);

/* Appends the entry's text. PN_ERR_UNSUPPORTED (no exception, length as before) when the
 * node holds anything whose round trip through JSON is not the identity. */
pn_status pn_node_encode(pn_module_state *state, PyObject *plan, PyObject *node, pn_buf *out);

/* Appends the node's hash, 64 hex digits. To be called after pn_node_encode, which has seen
 * that everything in the node is of a built-in type: then no Python code runs here.
 * PN_ERR_UNSUPPORTED: ask the node's property. */
pn_status pn_node_put_hash(pn_module_state *state, PyObject *plan, PyObject *node, pn_buf *out);

/* A field of the node, borrowed from its __dict__; NULL without an exception if absent. */
PyObject *pn_node_field(pn_module_state *state, PyObject *node, pn_node_name name);

/* The source's RelatedNodeInfo (borrowed) or NULL; *odd when there is one but it is not
 * exactly that. */
PyObject *pn_node_source(pn_module_state *state, PyObject *node, bool *odd);

#endif
