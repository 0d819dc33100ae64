/* MessagePack to JSON.
 *
 * msgpack-c's parser is a template: instantiated here with handlers that append JSON
 * text as values go by, it builds no objects, takes no memory of its own and keeps its
 * state in a stack of fixed size, whatever the input says its lengths are. */
#include "codec/json_walk.h"
#include "codec/json_write.h"
#include "codec/mpack.h"

#define MSGPACK_EMBED_STACK_SIZE PN_MPACK_MAX_DEPTH
#include <msgpack/unpack.h>
#include <msgpack/unpack_define.h>

typedef struct frame {
    uint32_t left; /* items not yet complete */
    bool map, at_key, some;
} frame;

typedef struct job {
    pn_buf *out;
    pn_status status; /* why a handler has failed */
    const char *what;
    uint32_t depth;
    frame stack[PN_MPACK_MAX_DEPTH];
} job;

static int refuse(job *j, pn_status status, const char *what)
{
    j->status = status;
    j->what = what;
    return -1;
}

static int check(job *j, pn_status status)
{
    return status == PN_OK ? 0 : refuse(j, status, pn_status_text(status));
}

/* In front of a value: the comma, and whether it may stand there. */
static int before(job *j, bool may_be_key)
{
    if (j->depth == 0) return 0;
    frame *f = &j->stack[j->depth - 1];
    if (f->map && !f->at_key) return 0;
    if (f->map && !may_be_key) return refuse(j, PN_ERR_UNSUPPORTED, "a map key that is no string");
    bool some = f->some;
    f->some = true;
    return some ? check(j, PN_BUF_LIT(j->out, ", ")) : 0;
}

/* Behind a value: the colon of a key, and the brackets of all that ends here. */
static int after(job *j)
{
    while (j->depth > 0) {
        frame *f = &j->stack[j->depth - 1];
        if (f->map && f->at_key) {
            f->at_key = false;
            return check(j, PN_BUF_LIT(j->out, ": "));
        }
        f->at_key = true;
        if (--f->left > 0) return 0;
        j->depth--;
        if (check(j, pn_buf_push(j->out, f->map ? '}' : ']')) != 0) return -1;
    }
    return 0;
}

static int put_word(job *j, const char *word)
{
    if (before(j, false) != 0 || check(j, pn_buf_append(j->out, word, strlen(word))) != 0) return -1;
    return after(j);
}

static int put_int(job *j, int64_t v)
{
    if (before(j, false) != 0 || check(j, pn_json_put_i64(j->out, v)) != 0) return -1;
    return after(j);
}

static int put_unsigned(job *j, uint64_t v)
{
    if (v <= INT64_MAX) return put_int(j, (int64_t)v);
    if (before(j, false) != 0 || check(j, pn_json_put_i64(j->out, (int64_t)(v / 10))) != 0) return -1;
    if (check(j, pn_buf_push(j->out, (uint8_t)('0' + v % 10))) != 0) return -1;
    return after(j);
}

static int put_double(job *j, double v)
{
    if (before(j, false) != 0 || check(j, pn_json_put_double(j->out, v)) != 0) return -1;
    return after(j);
}

static int put_text(job *j, const char *p, size_t n)
{
    if (before(j, true) != 0) return -1;
    pn_status s = pn_json_put_string(j->out, (pn_bytes){(const uint8_t *)p, n});
    if (s == PN_ERR_UTF8) return refuse(j, PN_ERR_CORRUPT, "a string that is not UTF-8");
    return check(j, s) != 0 ? -1 : after(j);
}

/* "-123...": as JSON writes an integer, and not zero. */
static bool is_big_integer(const char *p, size_t n)
{
    if (n && *p == '-') p++, n--;
    if (n == 0 || *p == '0') return false;
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9') return false;
    return true;
}

static int put_big_integer(job *j, const char *p, size_t n)
{
    if (!is_big_integer(p, n)) return refuse(j, PN_ERR_CORRUPT, "a big integer that is none");
    if (n > PN_JSON_MAX_INT_DIGITS + (size_t)(*p == '-'))
        return refuse(j, PN_ERR_UNSUPPORTED, "an integer of too many digits");
    if (before(j, false) != 0 || check(j, pn_buf_append(j->out, p, n)) != 0) return -1;
    return after(j);
}

static int begin(job *j, bool map, unsigned int n)
{
    if (before(j, false) != 0 || check(j, pn_buf_push(j->out, map ? '{' : '[')) != 0) return -1;
    if (n == 0) return check(j, pn_buf_push(j->out, map ? '}' : ']')) != 0 ? -1 : after(j);
    j->stack[j->depth++] = (frame){.left = n, .map = map, .at_key = true}; /* the parser has checked the depth */
    return 0;
}

/* ---- what the template calls ---- */

/* Values go nowhere: the object type of the template is a mere int. */
typedef job *job_ref;
#define HANDLER(name, type, call)                      \
    static inline int on_##name(job_ref *u, type d, int *o) \
    {                                                  \
        (void)d;                                       \
        *o = 0;                                        \
        return call;                                   \
    }
#define HANDLER_OF_RUN(name, call)                                                                         \
    static inline int on_##name(job_ref *u, const char *base, const char *p, unsigned int n, int *o)       \
    {                                                                                                      \
        (void)base, (void)p, (void)n;                                                                      \
        *o = 0;                                                                                            \
        return call;                                                                                       \
    }

HANDLER(_uint8, uint8_t, put_int(*u, d))
HANDLER(_uint16, uint16_t, put_int(*u, d))
HANDLER(_uint32, uint32_t, put_int(*u, d))
HANDLER(_uint64, uint64_t, put_unsigned(*u, d))
HANDLER(_int8, int8_t, put_int(*u, d))
HANDLER(_int16, int16_t, put_int(*u, d))
HANDLER(_int32, int32_t, put_int(*u, d))
HANDLER(_int64, int64_t, put_int(*u, d))
HANDLER(_float, float, put_double(*u, (double)d))
HANDLER(_double, double, put_double(*u, d))
HANDLER(_array, unsigned int, begin(*u, false, d))
HANDLER(_map, unsigned int, begin(*u, true, d))
HANDLER_OF_RUN(_str, put_text(*u, p, n))
HANDLER_OF_RUN(_bin, refuse(*u, PN_ERR_UNSUPPORTED, "bytes have no place in JSON"))

/* p stands at the type, n counts it; n is 0 when the template's own sum wraps. */
static int put_ext(job *j, const char *p, unsigned int n)
{
    if (n == 0) return refuse(j, PN_ERR_CORRUPT, "a length beyond the input");
    if (*p == PN_MPACK_EXT_WTF8) return put_text(j, p + 1, n - 1);
    if (*p == PN_MPACK_EXT_BIGINT) return put_big_integer(j, p + 1, n - 1);
    return refuse(j, PN_ERR_UNSUPPORTED, "an unknown extension type");
}
HANDLER_OF_RUN(_ext, put_ext(*u, p, n))

static inline int on_constant(job *j, int *o, const char *word)
{
    *o = 0;
    return put_word(j, word);
}
static inline int on__nil(job_ref *u, int *o) { return on_constant(*u, o, "null"); }
static inline int on__true(job_ref *u, int *o) { return on_constant(*u, o, "true"); }
static inline int on__false(job_ref *u, int *o) { return on_constant(*u, o, "false"); }

static inline int on__root(job_ref *u)
{
    (void)u;
    return 0;
}
static inline int on__array_item(job_ref *u, int *c, int o)
{
    (void)u, (void)c, (void)o;
    return 0;
}
static inline int on__map_item(job_ref *u, int *c, int k, int v)
{
    (void)u, (void)c, (void)k, (void)v;
    return 0;
}

#define msgpack_unpack_struct(name) struct parser##name
#define msgpack_unpack_func(result, name) static inline result parse##name
#define msgpack_unpack_callback(name) on_##name
#define msgpack_unpack_object int
#define msgpack_unpack_user job_ref
#include <msgpack/unpack_template.h>

/* ---- the whole ---- */

static pn_status parse(pn_bytes mpack, job *j, pn_error *err)
{
    struct parser_context parser;
    job_ref ref = j;
    parser.user = ref;
    parse_init(&parser);
    size_t off = 0;
    int got = parse_execute(&parser, (const char *)mpack.ptr, mpack.len, &off);
    if (j->status != PN_OK) return pn_fail(err, j->status, off, j->what);
    if (got == MSGPACK_UNPACK_NOMEM_ERROR) return pn_fail(err, PN_ERR_DEPTH, off, "nested too deeply");
    if (got < 0) return pn_fail(err, PN_ERR_CORRUPT, off, "not MessagePack");
    if (got == 0) return pn_fail(err, PN_ERR_CORRUPT, off, "the value is cut short");
    if (off != mpack.len) return pn_fail(err, PN_ERR_CORRUPT, off, "bytes after the value");
    return PN_OK;
}

/* Only a map that has a key twice makes the text from `start` on less than canonical. */
static pn_status collapse(pn_buf *out, size_t start, pn_error *err)
{
    pn_bytes text = {out->data + start, out->len - start};
    bool canonical;
    pn_status s = pn_json_check(text, &canonical);
    if (s != PN_OK) return pn_fail(err, s, 0, pn_status_text(s));
    if (canonical) return PN_OK;
    pn_buf again;
    pn_buf_init(&again, out->alloc);
    s = pn_json_canonicalize(text, out->alloc, &again);
    if (s == PN_OK) {
        memcpy(out->data + start, again.data, again.len); /* never longer than the text */
        out->len = start + again.len;
    }
    pn_buf_clear(&again);
    return s == PN_OK ? PN_OK : pn_fail(err, s, 0, pn_status_text(s));
}

pn_status pn_mpack_to_json(pn_bytes mpack, pn_buf *out, pn_error *err)
{
    job j;
    j.out = out;
    j.status = PN_OK;
    j.what = NULL;
    j.depth = 0;
    size_t start = out->len;
    if (mpack.len == 0) return pn_fail(err, PN_ERR_CORRUPT, 0, "the value is cut short");
    pn_status s = parse(mpack, &j, err);
    if (s == PN_OK) s = collapse(out, start, err);
    if (s != PN_OK) out->len = start;
    return s;
}
