/* node_encode.h: a node object straight to the JSON text of its document store entry,
 * {"__data__": node.to_dict(), "__type__": node.get_type()}, without that dict.
 *
 * A *plan* tells how a class dumps; pannier._nodeplan makes one for each exact peer
 * class it knows, checks it against the installed class on sample nodes, and hands
 * the good ones over. A plan is the tuple
 *     (type text, class name, field names, field kinds, tail)
 * where kinds is bytes, one pn_node_kind a field, and tail a pn_node_tail. node_types is
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

/* The plan of the node's exact class, borrowed; NULL (no exception) if there is none. */
PyObject *pn_node_plan(pn_module_state *state, PyObject *node);

/* Appends the entry's text. PN_ERR_UNSUPPORTED (no exception, length as before) when the
 * node holds anything whose round trip through JSON is not the identity. */
pn_status pn_node_encode(pn_module_state *state, PyObject *plan, PyObject *node, pn_buf *out);

/* A field of the node, borrowed from its __dict__; NULL without an exception if absent. */
PyObject *pn_node_field(PyObject *node, const char *name);

/* The source's RelatedNodeInfo (borrowed) or NULL; *odd when there is one but it is not
 * exactly that. */
PyObject *pn_node_source(pn_module_state *state, PyObject *node, bool *odd);



#endif
