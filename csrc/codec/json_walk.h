/* json_walk.h: a JSON value as a sequence of events, for what rewrites whole values.
 *
 * Events come in the order of the text; a key comes before its value. A handler that
 * fails ends the walk with its status. Nothing is allocated, nothing recurses.
 */
#ifndef PN_CODEC_JSON_WALK_H
#define PN_CODEC_JSON_WALK_H

#include "codec/json_read.h"

typedef struct pn_json_events {
    pn_status (*begin)(void *ctx, pn_json_type type); /* PN_JSON_OBJECT or PN_JSON_ARRAY */
    pn_status (*end)(void *ctx, pn_json_type type);
    pn_status (*key)(void *ctx, const pn_json_str *key);
    pn_status (*string)(void *ctx, const pn_json_str *string);
    pn_status (*number)(void *ctx, const pn_json_num *number);
    pn_status (*literal)(void *ctx, pn_json_type type); /* true, false or null */
} pn_json_events;

/* Walks one value and fails unless only whitespace follows it. */
pn_status pn_json_walk(pn_bytes text, const pn_json_events *on, void *ctx);

/* Whether text is one valid value, and canonical. */
pn_status pn_json_check(pn_bytes text, bool *canonical);

#endif
