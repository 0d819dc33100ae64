/* JSON to MessagePack: one walk counts the items of each container, since the header
 * with the count comes first; a second one writes, through msgpack-c's packer. */
#include "codec/json_walk.h"
#include "codec/mpack.h"

#include <msgpack/pack.h>

#include "base/utf8.h"

typedef struct job {
    pn_buf *out;
    pn_buf counts; /* u32 for each container, in the order of opening */
    size_t at;     /* containers opened so far */
    pn_buf text;   /* unescaped strings */
    msgpack_packer to;
    pn_status status;
    uint32_t depth;
    uint32_t open[PN_JSON_MAX_DEPTH]; /* numbers of the open containers */
} job;

/* ---- counting ---- */

static uint32_t *counts(const job *j) { return (uint32_t *)(void *)j->counts.data; }

/* A value; those of objects are counted by their keys. */
static pn_status count_value(job *j)
{
    if (j->depth == 0) return PN_OK;
    uint32_t *n = counts(j) + j->open[j->depth - 1];
    PN_FAIL_IF(*n == UINT32_MAX, PN_ERR_RANGE);
    ++*n;
    return PN_OK;
}

static pn_status count_begin(void *ctx, pn_json_type type)
{
    (void)type;
    job *j = ctx;
    PN_TRY(count_value(j));
    PN_FAIL_IF(j->counts.len / 4 >= UINT32_MAX, PN_ERR_RANGE);
    j->open[j->depth++] = (uint32_t)(j->counts.len / 4);
    return pn_buf_append(&j->counts, &(uint32_t){0}, 4);
}

static pn_status count_end(void *ctx, pn_json_type type)
{
    (void)type;
    job *j = ctx;
    j->depth--;
    return PN_OK;
}

static pn_status count_key(void *ctx, const pn_json_str *s)
{
    (void)ctx, (void)s;
    return PN_OK;
}

static pn_status count_string(void *ctx, const pn_json_str *s)
{
    (void)s;
    return count_value(ctx);
}

static pn_status count_number(void *ctx, const pn_json_num *n)
{
    (void)n;
    return count_value(ctx);
}

static pn_status count_literal(void *ctx, pn_json_type type)
{
    (void)type;
    return count_value(ctx);
}

/* ---- writing ---- */

static int append(void *ctx, const char *p, size_t n)
{
    job *j = ctx;
    if (j->status == PN_OK) j->status = pn_buf_append(j->out, p, n);
    return j->status == PN_OK ? 0 : -1;
}

static pn_status put_begin(void *ctx, pn_json_type type)
{
    job *j = ctx;
    uint32_t n = counts(j)[j->at++];
    if (type == PN_JSON_OBJECT)
        msgpack_pack_map(&j->to, n);
    else
        msgpack_pack_array(&j->to, n);
    return j->status;
}

static pn_status put_end(void *ctx, pn_json_type type)
{
    (void)type;
    return ((job *)ctx)->status;
}

static pn_status put_text(job *j, const uint8_t *p, size_t n, bool surrogates)
{
    PN_FAIL_IF(n > UINT32_MAX, PN_ERR_RANGE);
    if (surrogates)
        msgpack_pack_ext_with_body(&j->to, p, n, PN_MPACK_EXT_WTF8);
    else
        msgpack_pack_str_with_body(&j->to, p, n);
    return j->status;
}

static pn_status put_string(void *ctx, const pn_json_str *s)
{
    job *j = ctx;
    bool surrogates;
    if (!s->has_escape && s->ascii) return put_text(j, s->ptr, s->len, false);
    j->text.len = 0;
    PN_TRY(pn_json_unescape(s, &j->text));
    pn_utf8_valid_prefix(pn_buf_view(&j->text), &surrogates);
    return put_text(j, j->text.data, j->text.len, surrogates);
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
    static const pn_json_events count = {count_begin, count_end, count_key, count_string, count_number, count_literal};
    static const pn_json_events put = {put_begin, put_end, put_string, put_string, put_number, put_literal};
    job j;
    j.out = out;
    j.at = 0;
    j.depth = 0;
    j.status = PN_OK;
    pn_buf_init(&j.counts, alloc);
    pn_buf_init(&j.text, alloc);
    msgpack_packer_init(&j.to, &j, append);
    pn_status s = pn_json_walk(canonical, &count, &j);
    if (s == PN_OK) s = pn_json_walk(canonical, &put, &j);
    pn_buf_clear(&j.counts);
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
