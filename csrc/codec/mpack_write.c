/* JSON to MessagePack through msgpack-c's packer, in one walk.
 *
 * The header of a container holds its count, which is known only at its end. One byte
 * is left for it, which does for up to 15 items; the longer headers are put in by one
 * pass from the back over the finished output, so that time stays linear. */
#include "codec/json_walk.h"
#include "codec/mpack.h"

#include <msgpack/pack.h>

#include "base/utf8.h"

typedef struct container {
    size_t at; /* of its header byte in the output */
    uint32_t count;
    bool map;
} container;

enum { HEADER_MAX = 5, SHORT_COUNT = 15 };

typedef struct job {
    pn_buf *out;
    pn_buf containers; /* in the order of opening */
    pn_buf text;       /* unescaped strings */
    msgpack_packer to;
    pn_status status;
    uint32_t depth;
    size_t wider; /* bytes that long headers will add */
    size_t open[PN_JSON_MAX_DEPTH]; /* numbers of the open containers */
} job;

static int append(void *ctx, const char *p, size_t n)
{
    job *j = ctx;
    if (j->status == PN_OK) j->status = pn_buf_append(j->out, p, n);
    return j->status == PN_OK ? 0 : -1;
}

/* ---- containers ---- */

static container *containers(const job *j) { return (container *)(void *)j->containers.data; }

/* An item of the innermost container; in objects, each key is one. */
static pn_status count_item(job *j, bool map)
{
    if (j->depth == 0) return PN_OK;
    container *c = &containers(j)[j->open[j->depth - 1]];
    if (c->map != map) return PN_OK;
    PN_FAIL_IF(c->count == UINT32_MAX, PN_ERR_RANGE);
    c->count++;
    return PN_OK;
}

static pn_status put_begin(void *ctx, pn_json_type type)
{
    job *j = ctx;
    PN_TRY(count_item(j, false));
    container c = {.at = j->out->len, .map = type == PN_JSON_OBJECT};
    j->open[j->depth++] = j->containers.len / sizeof c;
    PN_TRY(pn_buf_append(&j->containers, &c, sizeof c));
    return pn_buf_push(j->out, 0);
}

/* Where a header goes: HEADER_MAX bytes. */
static int append_header(void *ctx, const char *p, size_t n)
{
    pn_bytes *at = ctx;
    memcpy((uint8_t *)at->ptr + at->len, p, n);
    at->len += n;
    return 0;
}

static size_t header(const container *c, uint8_t *out)
{
    pn_bytes at = {out, 0};
    msgpack_packer to;
    msgpack_packer_init(&to, &at, append_header);
    if (c->map)
        msgpack_pack_map(&to, c->count);
    else
        msgpack_pack_array(&to, c->count);
    return at.len;
}

static pn_status put_end(void *ctx, pn_json_type type)
{
    (void)type;
    job *j = ctx;
    uint8_t h[HEADER_MAX];
    container *c = &containers(j)[j->open[--j->depth]];
    j->wider += header(c, h) - 1;
    j->out->data[c->at] = h[0];
    return PN_OK;
}

/* From the back, what stands behind each long header moves to its place. */
static pn_status widen_headers(job *j)
{
    if (j->wider == 0) return PN_OK;
    PN_TRY(pn_buf_reserve(j->out, j->wider));
    uint8_t *data = j->out->data, h[HEADER_MAX];
    size_t from = j->out->len, to = from + j->wider;
    j->out->len = to;
    for (size_t i = j->containers.len / sizeof(container); to > from; i--) {
        const container *c = &containers(j)[i - 1];
        if (c->count <= SHORT_COUNT) continue;
        size_t body = from - (c->at + 1), n = header(c, h);
        memmove(data + to - body, data + c->at + 1, body);
        memcpy(data + to - body - n, h, n);
        to -= body + n;
        from = c->at;
    }
    return PN_OK;
}

/* ---- scalars ---- */

static pn_status put_text(job *j, const uint8_t *p, size_t n, bool surrogates)
{
    PN_FAIL_IF(n > UINT32_MAX, PN_ERR_RANGE);
    if (surrogates)
        msgpack_pack_ext_with_body(&j->to, p, n, PN_MPACK_EXT_WTF8);
    else
        msgpack_pack_str_with_body(&j->to, p, n);
    return j->status;
}

static pn_status put_characters(job *j, const pn_json_str *s)
{
    bool surrogates;
    if (!s->has_escape && s->ascii) return put_text(j, s->ptr, s->len, false);
    j->text.len = 0;
    PN_TRY(pn_json_unescape(s, &j->text));
    pn_utf8_valid_prefix(pn_buf_view(&j->text), &surrogates);
    return put_text(j, j->text.data, j->text.len, surrogates);
}

static pn_status put_key(void *ctx, const pn_json_str *s)
{
    PN_TRY(count_item(ctx, true));
    return put_characters(ctx, s);
}

static pn_status put_string(void *ctx, const pn_json_str *s)
{
    PN_TRY(count_item(ctx, false));
    return put_characters(ctx, s);
}

/* The value of an integer literal's digits when 64 bits hold it. */
static bool small_enough(const pn_json_num *n, uint64_t limit, uint64_t *out)
{
    uint64_t v = 0;
    for (const uint8_t *p = n->ptr + (*n->ptr == '-'); p < n->ptr + n->len; p++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v)) return false;
    *out = v;
    return v <= limit;
}

static pn_status put_number(void *ctx, const pn_json_num *n)
{
    job *j = ctx;
    PN_TRY(count_item(j, false));
    bool negative = *n->ptr == '-';
    uint64_t u;
    double v;
    if (!n->is_int) {
        PN_TRY(pn_json_num_double(n, &v));
        msgpack_pack_double(&j->to, v);
    } else if (!small_enough(n, negative ? (uint64_t)1 << 63 : UINT64_MAX, &u)) {
        msgpack_pack_ext_with_body(&j->to, n->ptr, n->len, PN_MPACK_EXT_BIGINT);
    } else if (negative) {
        msgpack_pack_int64(&j->to, (int64_t)(0 - u));
    } else {
        msgpack_pack_uint64(&j->to, u);
    }
    return j->status;
}

static pn_status put_literal(void *ctx, pn_json_type type)
{
    job *j = ctx;
    PN_TRY(count_item(j, false));
    if (type == PN_JSON_TRUE)
        msgpack_pack_true(&j->to);
    else if (type == PN_JSON_FALSE)
        msgpack_pack_false(&j->to);
    else
        msgpack_pack_nil(&j->to);
    return j->status;
}

/* Canonical text: no key is there twice. */
static pn_status pack(pn_bytes canonical, const pn_alloc *alloc, pn_buf *out)
{
    static const pn_json_events put = {put_begin, put_end, put_key, put_string, put_number, put_literal};
    job j;
    j.out = out;
    j.depth = 0;
    j.wider = 0;
    j.status = PN_OK;
    pn_buf_init(&j.containers, alloc);
    pn_buf_init(&j.text, alloc);
    msgpack_packer_init(&j.to, &j, append);
    pn_status s = pn_json_walk(canonical, &put, &j);
    if (s == PN_OK) s = widen_headers(&j);
    pn_buf_clear(&j.containers);
    pn_buf_clear(&j.text);
    return s;
}

pn_status pn_mpack_from_json(pn_bytes json, const pn_alloc *alloc, pn_buf *out)
{
    bool canonical;
    size_t before = out->len;
    pn_buf text;
    pn_buf_init(&text, alloc);
    PN_TRY(pn_json_check(json, &canonical));
    pn_status s = canonical ? PN_OK : pn_json_canonicalize(json, alloc, &text);
    if (s == PN_OK) s = pack(canonical ? json : pn_buf_view(&text), alloc, out);
    if (s != PN_OK) out->len = before;
    pn_buf_clear(&text);
    return s;
}
