/* struct_json.c: an index struct from the text of its entry.
 *
 * The inner text is read by position as well as by token: where json.dumps would have
 * left other bytes between two tokens, the text is refused.
 */
#include "store/structs.h"

#include "codec/json_read.h"

typedef struct {
    pn_json_reader r;
    const uint8_t *at; /* the end of the last token */
} exact;

/* Only `gap` may stand between the last token and the one at `next`. */
static pn_status after(const exact *x, const uint8_t *next, pn_bytes gap)
{
    bool same = next >= x->at && pn_bytes_equal((pn_bytes){x->at, (size_t)(next - x->at)}, gap);
    return same ? PN_OK : PN_ERR_UNSUPPORTED;
}

static pn_bytes separator(bool first) { return first ? (pn_bytes){NULL, 0} : PN_BYTES(", "); }

static pn_status begin(exact *x, pn_json_type type, pn_bytes gap)
{
    PN_FAIL_IF(pn_json_peek(&x->r) != type, PN_ERR_UNSUPPORTED);
    PN_TRY(after(x, x->r.p, gap));
    PN_TRY(type == PN_JSON_OBJECT ? pn_json_object_begin(&x->r) : pn_json_array_begin(&x->r));
    x->at = x->r.p;
    return PN_OK;
}

/* The closing bracket was read: it must have followed at once. */
static pn_status ended(exact *x)
{
    PN_TRY(after(x, x->r.p - 1, (pn_bytes){NULL, 0}));
    x->at = x->r.p;
    return PN_OK;
}

static pn_status read_key(exact *x, bool first, pn_json_str *key, bool *more)
{
    PN_TRY(pn_json_object_next(&x->r, key, more));
    if (!*more) return ended(x);
    PN_FAIL_IF(!key->canonical, PN_ERR_UNSUPPORTED);
    PN_TRY(after(x, key->ptr - 1, separator(first)));
    x->at = key->ptr + key->len + 1;
    return PN_OK;
}

static pn_status read_value(exact *x, pn_bytes gap, pn_json_span *span)
{
    PN_TRY(pn_json_skip(&x->r, span));
    PN_FAIL_IF(!span->canonical, PN_ERR_UNSUPPORTED);
    PN_TRY(after(x, span->ptr, gap));
    x->at = span->ptr + span->len;
    return PN_OK;
}

static pn_status push(pn_column *c, const uint8_t *from, const uint8_t *to)
{
    return pn_column_push(c, (pn_bytes){from, (size_t)(to - from)}, NULL, 0);
}

static pn_status read_pairs(exact *x, pn_column *c)
{
    c->kind = PN_COLUMN_DICT;
    PN_TRY(begin(x, PN_JSON_OBJECT, PN_BYTES(": ")));
    for (bool first = true;; first = false) {
        pn_json_str key;
        pn_json_span value;
        bool more;
        PN_TRY(read_key(x, first, &key, &more));
        if (!more) return PN_OK;
        PN_TRY(read_value(x, PN_BYTES(": "), &value));
        PN_TRY(push(c, key.ptr - 1, x->at));
    }
}

static pn_status read_items(exact *x, pn_column *c)
{
    c->kind = PN_COLUMN_LIST;
    PN_TRY(begin(x, PN_JSON_ARRAY, PN_BYTES(": ")));
    for (bool first = true;; first = false) {
        pn_json_span item;
        bool more;
        PN_TRY(pn_json_array_next(&x->r, &more));
        if (!more) return ended(x);
        PN_TRY(read_value(x, separator(first), &item));
        PN_TRY(push(c, item.ptr, x->at));
    }
}

static pn_status read_column(exact *x, pn_column *c)
{
    pn_json_type type = pn_json_peek(&x->r);
    if (type == PN_JSON_OBJECT) return read_pairs(x, c);
    if (type == PN_JSON_ARRAY) return read_items(x, c);
    pn_json_span value;
    PN_TRY(read_value(x, PN_BYTES(": "), &value));
    return push(c, value.ptr, x->at);
}

static pn_status read_data(pn_struct *s, pn_bytes text)
{
    exact x;
    pn_json_reader_init(&x.r, text);
    x.at = x.r.p;
    PN_TRY(begin(&x, PN_JSON_OBJECT, (pn_bytes){NULL, 0}));
    for (bool first = true;; first = false) {
        pn_json_str key;
        bool more;
        PN_TRY(read_key(&x, first, &key, &more));
        if (!more) return x.at == x.r.end ? PN_OK : PN_ERR_UNSUPPORTED;
        PN_FAIL_IF(key.has_escape, PN_ERR_UNSUPPORTED);
        PN_TRY(pn_struct_add(s, (pn_bytes){key.ptr, key.len}));
        PN_TRY(read_column(&x, &s->columns[s->count - 1]));
    }
}

/* A member of that name whose value is a string. */
static pn_status read_member(pn_json_reader *r, pn_bytes name, pn_json_str *value)
{
    pn_json_str key;
    bool more;
    PN_TRY(pn_json_object_next(r, &key, &more));
    PN_FAIL_IF(!more || key.has_escape || !pn_bytes_equal((pn_bytes){key.ptr, key.len}, name), PN_ERR_UNSUPPORTED);
    PN_FAIL_IF(pn_json_peek(r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    return pn_json_string(r, value);
}

static pn_status read_type(pn_json_reader *r, pn_bytes entry, pn_json_str *type)
{
    pn_json_reader_init(r, entry);
    PN_FAIL_IF(pn_json_peek(r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(r));
    PN_TRY(read_member(r, PN_BYTES("__type__"), type));
    return type->has_escape || !type->canonical ? PN_ERR_UNSUPPORTED : PN_OK;
}

static pn_status read_envelope(pn_bytes entry, pn_json_str *type, pn_json_str *data)
{
    pn_json_reader r;
    pn_json_str key;
    bool more;
    PN_TRY(read_type(&r, entry, type));
    PN_TRY(read_member(&r, PN_BYTES("__data__"), data));
    PN_TRY(pn_json_object_next(&r, &key, &more));
    PN_FAIL_IF(more, PN_ERR_UNSUPPORTED);
    return pn_json_end(&r);
}

pn_status pn_struct_type_of(pn_bytes entry, pn_bytes *type)
{
    pn_json_reader r;
    pn_json_str str;
    PN_FAIL_IF(read_type(&r, entry, &str) != PN_OK, PN_ERR_UNSUPPORTED);
    *type = (pn_bytes){str.ptr, str.len};
    return PN_OK;
}

static pn_status read_struct(const pn_alloc *alloc, const pn_json_str *type, const pn_json_str *data, pn_struct **out)
{
    pn_buf text;
    pn_buf_init(&text, alloc);
    pn_struct *s = NULL;
    pn_status status = pn_json_unescape(data, &text);
    if (status == PN_OK) status = pn_struct_new(alloc, (pn_bytes){type->ptr, type->len}, &s);
    if (status == PN_OK) status = read_data(s, pn_buf_view(&text));
    pn_buf_clear(&text);
    if (status == PN_OK)
        *out = s;
    else
        pn_struct_free(s, NULL); /* it has no words: no host is needed */
    return status;
}

pn_status pn_struct_from_json(const pn_alloc *alloc, pn_bytes entry, pn_struct **out)
{
    pn_json_str type, data;
    PN_FAIL_IF(read_envelope(entry, &type, &data) != PN_OK, PN_ERR_UNSUPPORTED);
    pn_status s = read_struct(alloc, &type, &data, out);
    return s == PN_OK || s == PN_ERR_NOMEM ? s : PN_ERR_UNSUPPORTED;
}
