#include "codec/json_walk.h"

/* One token that is a whole value, or the opening of a container. */
static pn_status enter(pn_json_reader *r, const pn_json_events *on, void *ctx, pn_json_type *type)
{
    pn_json_str s;
    pn_json_num n;
    *type = pn_json_peek(r);
    switch (*type) {
    case PN_JSON_OBJECT:
        PN_TRY(pn_json_object_begin(r));
        return on->begin(ctx, *type);
    case PN_JSON_ARRAY:
        PN_TRY(pn_json_array_begin(r));
        return on->begin(ctx, *type);
    case PN_JSON_STRING:
        PN_TRY(pn_json_string(r, &s));
        return on->string(ctx, &s);
    case PN_JSON_NUMBER:
        PN_TRY(pn_json_number(r, &n));
        return on->number(ctx, &n);
    default:
        PN_TRY(pn_json_literal(r));
        return on->literal(ctx, *type);
    }
}

static pn_status next(pn_json_reader *r, const pn_json_events *on, void *ctx, bool object, bool *more)
{
    pn_json_str key;
    if (!object) return pn_json_array_next(r, more);
    PN_TRY(pn_json_object_next(r, &key, more));
    return *more ? on->key(ctx, &key) : PN_OK;
}

pn_status pn_json_walk(pn_bytes text, const pn_json_events *on, void *ctx)
{
    pn_json_reader r;
    uint8_t kind[PN_JSON_MAX_DEPTH + 1];
    pn_json_reader_init(&r, text);
    bool more;
    do {
        pn_json_type type;
        PN_TRY(enter(&r, on, ctx, &type));
        if (type == PN_JSON_OBJECT || type == PN_JSON_ARRAY) kind[r.depth] = (uint8_t)type;
        more = false;
        while (r.depth > 0 && !more) {
            type = (pn_json_type)kind[r.depth];
            PN_TRY(next(&r, on, ctx, type == PN_JSON_OBJECT, &more));
            if (!more) PN_TRY(on->end(ctx, type));
        }
    } while (more);
    return pn_json_end(&r);
}

pn_status pn_json_check(pn_bytes text, bool *canonical)
{
    pn_json_reader r;
    pn_json_span span;
    pn_json_reader_init(&r, text);
    PN_TRY(pn_json_skip(&r, &span));
    PN_TRY(pn_json_end(&r));
    *canonical = span.canonical && span.len == text.len;
    return PN_OK;
}
