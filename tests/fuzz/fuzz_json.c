/* Any bytes as JSON: both roads through the reader agree; what is valid has one canonical
 * form, which MessagePack and back keeps; a span called canonical already is that form. */
#include "codec/json_read.h"
#include "codec/json_walk.h"
#include "codec/json_write.h"
#include "codec/mpack.h"

#include "demand.h"

static pn_status nothing(void *ctx, pn_json_type t) { return (void)ctx, (void)t, PN_OK; }

typedef struct scratch {
    pn_buf plain, escaped;
} scratch;

static pn_status string(void *ctx, const pn_json_str *s)
{
    scratch *t = ctx;
    t->plain.len = t->escaped.len = 0;
    PN_TRY(pn_json_unescape(s, &t->plain));
    PN_TRY(pn_json_put_escaped(&t->escaped, pn_buf_view(&t->plain)));
    DEMAND(s->ascii || !s->canonical);
    DEMAND(!s->canonical || pn_bytes_equal(pn_buf_view(&t->escaped), (pn_bytes){s->ptr, s->len}));
    return PN_OK;
}

static pn_status number(void *ctx, const pn_json_num *n)
{
    (void)ctx;
    double v;
    pn_status s = pn_json_num_double(n, &v);
    DEMAND(s == PN_OK || (s == PN_ERR_RANGE && n->is_int && n->len > 300));
    return PN_OK;
}

static void check_doubles(pn_bytes text)
{
    double v[64];
    size_t n = 0;
    pn_json_reader r;
    pn_json_reader_init(&r, text);
    const uint8_t *before = r.p;
    pn_status s = pn_json_doubles(&r, v, 64, &n);
    DEMAND(s == PN_OK ? n <= 64 && r.p > before : s == PN_ERR_UNSUPPORTED && r.p == before);
    if (s != PN_OK) return;
    pn_json_reader again;
    pn_json_reader_init(&again, text);
    DEMAND(pn_json_skip(&again, NULL) == PN_OK && again.p == r.p);
}

static void check_valid(pn_bytes text, bool canonical)
{
    pn_buf one, two, mp;
    pn_buf_init(&one, &pn_alloc_system);
    pn_buf_init(&two, &pn_alloc_system);
    pn_buf_init(&mp, &pn_alloc_system);
    pn_status s = pn_json_canonicalize(text, &pn_alloc_system, &one);
    DEMAND(s == PN_OK || s == PN_ERR_UNSUPPORTED);
    if (s == PN_OK) {
        DEMAND(!canonical || pn_bytes_equal(text, pn_buf_view(&one)));
        DEMAND(pn_json_canonicalize(pn_buf_view(&one), &pn_alloc_system, &two) == PN_OK);
        DEMAND(pn_bytes_equal(pn_buf_view(&one), pn_buf_view(&two)));
        DEMAND(pn_mpack_from_json(text, &pn_alloc_system, &mp) == PN_OK);
        two.len = 0;
        DEMAND(pn_mpack_to_json(pn_buf_view(&mp), &two, NULL) == PN_OK);
        DEMAND(pn_bytes_equal(pn_buf_view(&one), pn_buf_view(&two)));
    }
    pn_buf_clear(&one);
    pn_buf_clear(&two);
    pn_buf_clear(&mp);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const pn_json_events events = {nothing, nothing, string, string, number, nothing};
    pn_bytes text = {data, size};
    scratch t;
    bool canonical = false;
    pn_buf_init(&t.plain, &pn_alloc_system);
    pn_buf_init(&t.escaped, &pn_alloc_system);
    pn_status skipped = pn_json_check(text, &canonical);
    pn_status walked = pn_json_walk(text, &events, &t);
    DEMAND(skipped == walked);
    if (skipped == PN_OK) check_valid(text, canonical);
    check_doubles(text);
    pn_buf_clear(&t.plain);
    pn_buf_clear(&t.escaped);
    return 0;
}
