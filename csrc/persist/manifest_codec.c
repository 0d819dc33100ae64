/* manifest_codec.c: the bytes of a manifest. */
#include "base/crc32c.h"
#include "base/omap.h"
#include "base/utf8.h"
#include "codec/mpack_pull.h"
#include "codec/mpack_push.h"
#include "persist/manifest.h"

enum { HEAD = 32, AT_VERSION = 8, AT_CRC = 12, AT_LENGTH = 16, AT_ZERO = 24, AT_HEAD_CRC = 28 };
static const uint8_t MAGIC[8] = {0x89, 'P', 'N', 'M', 'A', 'N', '\r', '\n'};

/* ---- writing ---- */

static pn_status push_name(pn_buf *out, const char *s)
{
    pn_bytes text = {(const uint8_t *)s, strlen(s)};
    PN_FAIL_IF(pn_utf8_valid_prefix(text, NULL) != text.len, PN_ERR_INVALID);
    return pn_mpack_push_text(out, text);
}

static pn_status push_segments(pn_buf *out, const pn_manifest *m)
{
    PN_TRY(pn_mpack_push_array(out, m->segment_count));
    for (size_t i = 0; i < m->segment_count; i++) {
        PN_TRY(pn_mpack_push_array(out, 3));
        PN_TRY(push_name(out, m->segments[i].name));
        PN_TRY(pn_mpack_push_uint(out, m->segments[i].size));
        PN_TRY(pn_mpack_push_uint(out, m->segments[i].tail_crc));
    }
    return PN_OK;
}

static pn_status push_stores(pn_buf *out, const pn_generation *g)
{
    PN_TRY(pn_mpack_push_array(out, g->store_count));
    for (size_t i = 0; i < g->store_count; i++) {
        PN_TRY(pn_mpack_push_array(out, 3));
        PN_TRY(push_name(out, g->stores[i].name));
        PN_TRY(pn_mpack_push_uint(out, g->stores[i].kind));
        PN_TRY(pn_mpack_push_uint(out, g->stores[i].changed));
    }
    return PN_OK;
}

static pn_status push_foreign(pn_buf *out, const pn_generation *g)
{
    PN_TRY(pn_mpack_push_array(out, g->foreign_count));
    for (size_t i = 0; i < g->foreign_count; i++) {
        PN_TRY(pn_mpack_push_array(out, 2));
        PN_TRY(push_name(out, g->foreign[i].name));
        PN_TRY(push_name(out, g->foreign[i].type));
    }
    return PN_OK;
}

static pn_status push_json(pn_buf *out, const pn_generation *g)
{
    PN_TRY(pn_mpack_push_array(out, g->json_count));
    for (size_t i = 0; i < g->json_count; i++) {
        PN_TRY(pn_mpack_push_array(out, 4));
        PN_TRY(push_name(out, g->json[i].name));
        PN_TRY(pn_mpack_push_uint(out, g->json[i].size));
        PN_TRY(pn_mpack_push_int(out, g->json[i].mtime));
        PN_TRY(pn_mpack_push_uint(out, g->json[i].crc));
    }
    return PN_OK;
}

static pn_status push_generation(pn_buf *out, const pn_generation *g)
{
    PN_TRY(pn_mpack_push_array(out, 6));
    PN_TRY(pn_mpack_push_uint(out, g->number));
    PN_TRY(pn_mpack_push_int(out, g->time));
    PN_TRY(pn_mpack_push_array(out, g->segment_count));
    for (size_t i = 0; i < g->segment_count; i++) PN_TRY(pn_mpack_push_uint(out, g->segments[i]));
    PN_TRY(push_stores(out, g));
    PN_TRY(push_foreign(out, g));
    return push_json(out, g);
}

static pn_status push_payload(pn_buf *out, const pn_manifest *m)
{
    PN_TRY(pn_mpack_push_array(out, 4));
    PN_TRY(pn_mpack_push_bin(out, (pn_bytes){m->id, sizeof m->id}));
    PN_TRY(pn_mpack_push_uint(out, m->keep));
    PN_TRY(push_segments(out, m));
    PN_TRY(pn_mpack_push_array(out, m->generation_count));
    for (size_t i = 0; i < m->generation_count; i++) PN_TRY(push_generation(out, &m->generations[i]));
    return PN_OK;
}

static void fill_head(uint8_t *head, pn_bytes payload)
{
    memset(head, 0, HEAD);
    memcpy(head, MAGIC, sizeof MAGIC);
    pn_put_u32(head + AT_VERSION, PN_MANIFEST_VERSION);
    pn_put_u32(head + AT_CRC, pn_crc32c(0, payload));
    pn_put_u64(head + AT_LENGTH, payload.len);
    pn_put_u32(head + AT_HEAD_CRC, pn_crc32c(0, (pn_bytes){head, AT_HEAD_CRC}));
}

pn_status pn_manifest_write(const pn_manifest *m, pn_buf *out)
{
    size_t before = out->len;
    PN_TRY(pn_buf_reserve(out, HEAD));
    out->len += HEAD;
    pn_status status = push_payload(out, m);
    if (status != PN_OK) {
        out->len = before;
        return status;
    }
    fill_head(out->data + before, (pn_bytes){out->data + before + HEAD, out->len - before - HEAD});
    return PN_OK;
}

/* ---- reading ---- */

typedef struct reader {
    pn_manifest *m;
    pn_mpack_pull pull;
    pn_omap names;  /* those seen in the list that is being read */
    uint32_t *seen; /* for each segment: 1 + the generation that was last found to refer to it */
} reader;

static pn_status refuse(reader *r, const char *what) { return pn_mpack_pull_refuse(&r->pull, what); }

/* Room for the n elements of a list: n is no larger than the bytes that are left. */
static pn_status make_list(reader *r, size_t n, size_t size, void **out)
{
    *out = NULL;
    if (n == 0) return PN_OK;
    *out = pn_alloc_zero(r->m->alloc, n, size);
    return *out != NULL ? PN_OK : PN_ERR_NOMEM;
}

static pn_status pull_name(reader *r, char **out)
{
    pn_bytes text;
    PN_TRY(pn_mpack_pull_text(&r->pull, &text));
    if (text.len > 0 && memchr(text.ptr, 0, text.len) != NULL) return refuse(r, "a name holds a zero byte");
    char *copy = pn_alloc_get(r->m->alloc, text.len + 1);
    PN_FAIL_IF(copy == NULL, PN_ERR_NOMEM);
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    *out = copy;
    return PN_OK;
}

static pn_status pull_u32(reader *r, uint32_t max, uint32_t *out)
{
    uint64_t v;
    PN_TRY(pn_mpack_pull_uint(&r->pull, max, &v));
    *out = (uint32_t)v;
    return PN_OK;
}

/* Notes a name of the list; what is said when it was there already. */
static pn_status differs(reader *r, pn_bytes name, const char *what)
{
    void *value;
    bool added;
    PN_TRY(pn_omap_put(&r->names, name, NULL, &value, &added));
    return added ? PN_OK : refuse(r, what);
}

static pn_status pull_segment(reader *r, pn_manifest_segment *s)
{
    size_t n;
    pn_bytes name;
    PN_TRY(pn_mpack_pull_array(&r->pull, 3, &n));
    PN_TRY(pn_mpack_pull_text(&r->pull, &name));
    if (!pn_segment_name_ok(name)) return refuse(r, "not the name of a segment");
    memcpy(s->name, name.ptr, PN_SEGMENT_NAME_LEN);
    PN_TRY(differs(r, name, "a segment is listed twice"));
    PN_TRY(pn_mpack_pull_uint(&r->pull, UINT64_MAX, &s->size));
    PN_TRY(pull_u32(r, UINT32_MAX, &s->tail_crc));
    return pn_mpack_pull_skip(&r->pull, n - 3);
}

static pn_status pull_segments(reader *r)
{
    size_t n;
    void *list;
    PN_TRY(pn_mpack_pull_array(&r->pull, 0, &n));
    PN_TRY(make_list(r, n, sizeof *r->m->segments, &list));
    r->m->segments = list;
    r->m->segment_count = n;
    for (size_t i = 0; i < n; i++) PN_TRY(pull_segment(r, &r->m->segments[i]));
    pn_omap_clear(&r->names);
    PN_TRY(make_list(r, n, sizeof *r->seen, &list));
    r->seen = list;
    return PN_OK;
}

static pn_status pull_positions(reader *r, pn_generation *g)
{
    size_t n;
    void *list;
    uint32_t mark = (uint32_t)r->m->generation_count;
    PN_TRY(pn_mpack_pull_array(&r->pull, 0, &n));
    PN_TRY(make_list(r, n, sizeof *g->segments, &list));
    g->segments = list;
    g->segment_count = n;
    for (size_t i = 0; i < n; i++) {
        uint32_t at;
        PN_TRY(pull_u32(r, UINT32_MAX, &at));
        if (at >= r->m->segment_count) return refuse(r, "a generation refers to a segment that is not listed");
        if (r->seen[at] == mark) return refuse(r, "a generation refers to a segment twice");
        r->seen[at] = mark;
        g->segments[i] = at;
    }
    return PN_OK;
}

static pn_status pull_store(reader *r, const pn_generation *g, pn_manifest_store *s)
{
    size_t n;
    uint64_t kind;
    PN_TRY(pn_mpack_pull_array(&r->pull, 3, &n));
    PN_TRY(pull_name(r, &s->name));
    PN_TRY(differs(r, (pn_bytes){(const uint8_t *)s->name, strlen(s->name)}, "a store is listed twice"));
    PN_TRY(pn_mpack_pull_uint(&r->pull, 3, &kind));
    if (kind == 0) return refuse(r, "no such kind of store");
    s->kind = (uint8_t)kind;
    PN_TRY(pn_mpack_pull_uint(&r->pull, g->number, &s->changed));
    return pn_mpack_pull_skip(&r->pull, n - 3);
}

static pn_status pull_stores(reader *r, pn_generation *g)
{
    size_t n;
    void *list;
    PN_TRY(pn_mpack_pull_array(&r->pull, 0, &n));
    PN_TRY(make_list(r, n, sizeof *g->stores, &list));
    g->stores = list;
    g->store_count = n;
    for (size_t i = 0; i < n; i++) PN_TRY(pull_store(r, g, &g->stores[i]));
    pn_omap_clear(&r->names);
    return PN_OK;
}

static pn_status pull_foreign(reader *r, pn_generation *g)
{
    size_t n, parts;
    void *list;
    PN_TRY(pn_mpack_pull_array(&r->pull, 0, &n));
    PN_TRY(make_list(r, n, sizeof *g->foreign, &list));
    g->foreign = list;
    g->foreign_count = n;
    for (size_t i = 0; i < n; i++) {
        PN_TRY(pn_mpack_pull_array(&r->pull, 2, &parts));
        PN_TRY(pull_name(r, &g->foreign[i].name));
        PN_TRY(pull_name(r, &g->foreign[i].type));
        PN_TRY(pn_mpack_pull_skip(&r->pull, parts - 2));
    }
    return PN_OK;
}

static pn_status pull_json(reader *r, pn_generation *g)
{
    size_t n, parts;
    void *list;
    PN_TRY(pn_mpack_pull_array(&r->pull, 0, &n));
    PN_TRY(make_list(r, n, sizeof *g->json, &list));
    g->json = list;
    g->json_count = n;
    for (size_t i = 0; i < n; i++) {
        PN_TRY(pn_mpack_pull_array(&r->pull, 4, &parts));
        PN_TRY(pull_name(r, &g->json[i].name));
        PN_TRY(pn_mpack_pull_uint(&r->pull, UINT64_MAX, &g->json[i].size));
        PN_TRY(pn_mpack_pull_int(&r->pull, &g->json[i].mtime));
        PN_TRY(pull_u32(r, UINT32_MAX, &g->json[i].crc));
        PN_TRY(pn_mpack_pull_skip(&r->pull, parts - 4));
    }
    return PN_OK;
}

/* Into the next element of the list, which is counted first so that clearing frees it. */
static pn_status pull_generation(reader *r)
{
    size_t n, before = r->m->generation_count++;
    pn_generation *g = &r->m->generations[before];
    PN_TRY(pn_mpack_pull_array(&r->pull, 6, &n));
    PN_TRY(pn_mpack_pull_uint(&r->pull, UINT64_MAX, &g->number));
    if (g->number <= (before > 0 ? r->m->generations[before - 1].number : 0))
        return refuse(r, "generations are not in ascending order");
    PN_TRY(pn_mpack_pull_int(&r->pull, &g->time));
    PN_TRY(pull_positions(r, g));
    PN_TRY(pull_stores(r, g));
    PN_TRY(pull_foreign(r, g));
    PN_TRY(pull_json(r, g));
    return pn_mpack_pull_skip(&r->pull, n - 6);
}

static pn_status pull_generations(reader *r)
{
    size_t n;
    void *list;
    PN_TRY(pn_mpack_pull_array(&r->pull, 0, &n));
    PN_TRY(make_list(r, n, sizeof *r->m->generations, &list));
    r->m->generations = list;
    for (size_t i = 0; i < n; i++) PN_TRY(pull_generation(r));
    return PN_OK;
}

static pn_status pull_payload(reader *r)
{
    size_t n;
    pn_bytes id;
    PN_TRY(pn_mpack_pull_array(&r->pull, 4, &n));
    PN_TRY(pn_mpack_pull_bin(&r->pull, &id));
    if (id.len != sizeof r->m->id) return refuse(r, "the store id is not of 16 bytes");
    memcpy(r->m->id, id.ptr, sizeof r->m->id);
    PN_TRY(pull_u32(r, PN_MANIFEST_MAX_KEEP, &r->m->keep));
    if (r->m->keep == 0) return refuse(r, "no generation is to be kept");
    PN_TRY(pull_segments(r));
    PN_TRY(pull_generations(r));
    PN_TRY(pn_mpack_pull_skip(&r->pull, n - 4));
    return pn_mpack_pull_end(&r->pull);
}

static pn_status check_head(pn_bytes b, pn_error *err)
{
    if (b.len < HEAD || memcmp(b.ptr, MAGIC, sizeof MAGIC) != 0)
        return pn_fail(err, PN_ERR_CORRUPT, 0, "not a pack's manifest");
    if (pn_get_u32(b.ptr + AT_HEAD_CRC) != pn_crc32c(0, (pn_bytes){b.ptr, AT_HEAD_CRC}))
        return pn_fail(err, PN_ERR_CORRUPT, 0, "the head of the manifest is damaged");
    uint32_t version = pn_get_u32(b.ptr + AT_VERSION);
    if (version != PN_MANIFEST_VERSION) return pn_fail(err, PN_ERR_VERSION, version, "written by a newer pannier");
    if (pn_get_u32(b.ptr + AT_ZERO) != 0)
        return pn_fail(err, PN_ERR_CORRUPT, AT_ZERO, "the head of the manifest is damaged");
    if (pn_get_u64(b.ptr + AT_LENGTH) != b.len - HEAD)
        return pn_fail(err, PN_ERR_CORRUPT, AT_LENGTH, "the manifest is not as long as it says");
    if (pn_get_u32(b.ptr + AT_CRC) != pn_crc32c(0, (pn_bytes){b.ptr + HEAD, b.len - HEAD}))
        return pn_fail(err, PN_ERR_CORRUPT, HEAD, "the manifest is damaged");
    return PN_OK;
}

pn_status pn_manifest_parse(pn_manifest *m, pn_bytes bytes, pn_error *err)
{
    PN_TRY(check_head(bytes, err));
    reader r = {.m = m};
    pn_mpack_pull_init(&r.pull, (pn_bytes){bytes.ptr + HEAD, bytes.len - HEAD}, HEAD);
    pn_omap_init(&r.names, m->alloc, 0);
    pn_status status = pull_payload(&r);
    pn_omap_clear(&r.names);
    pn_alloc_put(m->alloc, r.seen);
    if (status == PN_OK) return PN_OK;
    if (status == PN_ERR_CORRUPT && err != NULL) *err = r.pull.error;
    pn_manifest_clear(m);
    return status;
}
