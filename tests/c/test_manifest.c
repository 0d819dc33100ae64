/* The manifest: what is written comes back, what is damaged or not as FORMAT.md says is an
 * error that tells why, and editing one keeps it whole. */
#include "check.h"
#include "fail_alloc.h"

#include "base/crc32c.h"
#include "codec/mpack_push.h"
#include "persist/manifest.h"

enum { HEAD = 32 };

static pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

static pn_manifest_segment segment(uint64_t generation, uint64_t size)
{
    pn_manifest_segment s = {.size = size, .tail_crc = (uint32_t)(generation * 0x01010101u)};
    pn_segment_name(generation, 0xfeedULL + generation, s.name);
    return s;
}

/* A generation of segments 0 to number - 1 with two stores, one foreign, one outdated file. */
static pn_status add_generation(pn_manifest *m, uint64_t number)
{
    uint32_t at[8];
    pn_manifest_foreign foreign = {"graph_store.json", "redis.Store"};
    pn_manifest_json json = {"docstore.json", UINT64_MAX, INT64_MIN, 0xdeadbeef};
    pn_generation g = {.number = number, .time = 1700000000123456789 + (int64_t)number};
    pn_manifest_segment s = segment(number, 1000 * number);
    pn_status status = pn_manifest_add_segment(m, &s, &at[0]);
    for (uint32_t i = 0; i < m->segment_count && i < 8; i++) at[i] = i;
    if (status == PN_OK) status = pn_generation_set_segments(m->alloc, &g, at, m->segment_count);
    if (status == PN_OK) status = pn_generation_set_store(m->alloc, &g, text("docstore.json"), 1, number);
    if (status == PN_OK) status = pn_generation_set_store(m->alloc, &g, text("d\xc3\xa4 \xed\xa0\x80.json"), 2, 1);
    if (status == PN_OK) status = pn_generation_set_foreign(m->alloc, &g, &foreign, 1);
    if (status == PN_OK) status = pn_generation_set_json(m->alloc, &g, &json, 1);
    if (status == PN_OK) status = pn_manifest_push(m, &g);
    pn_generation_clear(m->alloc, &g);
    return status;
}

static pn_status build(pn_manifest *m, const pn_alloc *alloc)
{
    pn_manifest_init(m, alloc);
    for (int i = 0; i < 16; i++) m->id[i] = (uint8_t)(i * 17);
    m->keep = 5;
    pn_status status = PN_OK;
    for (uint64_t n = 1; status == PN_OK && n <= 3; n++) status = add_generation(m, n);
    if (status != PN_OK) pn_manifest_clear(m);
    return status;
}

static pn_buf bytes_of(const pn_manifest *m)
{
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_manifest_write(m, &out), PN_OK);
    return out;
}

static pn_buf sample(void)
{
    pn_manifest m;
    CHECK_EQ_INT(build(&m, &pn_alloc_system), PN_OK);
    pn_buf out = bytes_of(&m);
    pn_manifest_clear(&m);
    return out;
}

/* Parses; a failure must leave nothing and tell why. */
static pn_status parse(pn_bytes b, pn_error *err)
{
    pn_manifest m;
    *err = (pn_error){PN_OK, 0, 0, NULL};
    pn_manifest_init(&m, &pn_alloc_system);
    pn_status status = pn_manifest_parse(&m, b, err);
    if (status != PN_OK) {
        CHECK(m.generations == NULL && m.segments == NULL && m.generation_count == 0);
        CHECK(err->what != NULL && err->code == status);
        CHECK(status == PN_ERR_VERSION || err->offset <= b.len);
    }
    pn_manifest_clear(&m);
    return status;
}

static void test_what_is_written_comes_back(void)
{
    pn_manifest m, back;
    pn_error err;
    CHECK_EQ_INT(build(&m, &pn_alloc_system), PN_OK);
    pn_buf out = bytes_of(&m);
    pn_manifest_init(&back, &pn_alloc_system);
    CHECK_EQ_INT(pn_manifest_parse(&back, pn_buf_view(&out), &err), PN_OK);
    CHECK_EQ_INT(back.keep, 5);
    CHECK(memcmp(back.id, m.id, 16) == 0);
    CHECK_EQ_INT(back.segment_count, 3);
    CHECK_EQ_STR(back.segments[1].name, "seg-0000000000000002-000000000000feef.pn");
    CHECK_EQ_INT(back.segments[2].size, 3000);
    const pn_generation *g = pn_manifest_current(&back);
    CHECK(g != NULL && g->number == 3 && g->segment_count == 3 && g->segments[2] == 2);
    CHECK(pn_manifest_find(&back, 2) == &back.generations[1] && pn_manifest_find(&back, 4) == NULL);
    CHECK_EQ_INT(g->time, 1700000000123456792);
    const pn_manifest_store *s = pn_generation_store(g, text("docstore.json"));
    CHECK(s != NULL && s->kind == 1 && s->changed == 3);
    CHECK(pn_generation_store(g, text("docstore")) == NULL);
    CHECK_EQ_STR(g->stores[1].name, "d\xc3\xa4 \xed\xa0\x80.json");
    CHECK_EQ_STR(g->foreign[0].type, "redis.Store");
    CHECK(g->json[0].size == UINT64_MAX && g->json[0].mtime == INT64_MIN && g->json[0].crc == 0xdeadbeef);
    pn_buf again = bytes_of(&back);
    CHECK(pn_bytes_equal(pn_buf_view(&out), pn_buf_view(&again)));
    pn_buf_clear(&again);
    pn_buf_clear(&out);
    pn_manifest_clear(&back);
    pn_manifest_clear(&m);
}

static void test_a_manifest_without_generations(void)
{
    pn_manifest m, back;
    pn_manifest_init(&m, &pn_alloc_system);
    pn_buf out = bytes_of(&m);
    pn_manifest_init(&back, &pn_alloc_system);
    CHECK_EQ_INT(pn_manifest_parse(&back, pn_buf_view(&out), NULL), PN_OK);
    CHECK(pn_manifest_current(&back) == NULL && back.keep == PN_MANIFEST_KEEP);
    pn_manifest_clear(&back);
    pn_buf_clear(&out);
}

/* The bytes that csrc/FORMAT.md shows under this heading (tests run from the tree's root). */
static size_t example_in_format(const char *heading, uint8_t *to, size_t room)
{
    FILE *f = fopen("csrc/FORMAT.md", "r");
    CHECK(f != NULL);
    if (f == NULL) return 0;
    char line[1024];
    size_t n = 0;
    bool inside = false;
    while (fgets(line, sizeof line, f) != NULL) {
        if (line[0] == '#') inside = strstr(line, heading) != NULL;
        if (!inside || strncmp(line, "    ", 4) != 0) continue;
        unsigned byte;
        int used;
        for (const char *p = line; n < room && sscanf(p, " %2x%n", &byte, &used) == 1; p += used) to[n++] = (uint8_t)byte;
    }
    fclose(f);
    return n;
}

static void test_the_example_of_the_format(void)
{
    uint8_t want[256];
    size_t n = example_in_format("Example of a manifest", want, sizeof want);
    pn_manifest m;
    pn_manifest_init(&m, &pn_alloc_system);
    for (int i = 0; i < 16; i++) m.id[i] = (uint8_t)i;
    uint32_t at;
    pn_manifest_segment s = {.size = 4711, .tail_crc = 0x89abcdef};
    pn_segment_name(1, 0x0123456789abcdef, s.name);
    pn_generation g = {.number = 1, .time = 1700000000000000000};
    CHECK_EQ_INT(pn_manifest_add_segment(&m, &s, &at), PN_OK);
    CHECK_EQ_INT(pn_generation_set_segments(m.alloc, &g, &at, 1), PN_OK);
    CHECK_EQ_INT(pn_generation_set_store(m.alloc, &g, text("docstore.json"), 1, 1), PN_OK);
    CHECK_EQ_INT(pn_manifest_push(&m, &g), PN_OK);
    pn_buf out = bytes_of(&m);
    CHECK_EQ_INT(n, out.len);
    CHECK(pn_bytes_equal(pn_buf_view(&out), (pn_bytes){want, n}));
    pn_buf_clear(&out);
    pn_manifest_clear(&m);
}

/* ---- damage ---- */

static void test_every_changed_byte_is_noticed(void)
{
    pn_buf b = sample();
    pn_error err;
    size_t mutated = 0;
    for (size_t i = 0; i < b.len; i++) {
        CHECK_EQ_INT(parse((pn_bytes){b.data, i}, &err), PN_ERR_CORRUPT);
        for (int bit = 0; bit < 8; bit++, mutated++) {
            b.data[i] ^= (uint8_t)(1 << bit);
            CHECK_EQ_INT(parse(pn_buf_view(&b), &err), PN_ERR_CORRUPT);
            b.data[i] ^= (uint8_t)(1 << bit);
        }
    }
    CHECK_EQ_INT(pn_buf_push(&b, 0), PN_OK);
    CHECK_EQ_INT(parse(pn_buf_view(&b), &err), PN_ERR_CORRUPT);
    printf("  %zu bits flipped\n", mutated);
    CHECK(mutated > 1000);
    pn_buf_clear(&b);
}

static void seal(pn_buf *b)
{
    pn_put_u64(b->data + 16, b->len - HEAD);
    pn_put_u32(b->data + 12, pn_crc32c(0, (pn_bytes){b->data + HEAD, b->len - HEAD}));
    pn_put_u32(b->data + 28, pn_crc32c(0, (pn_bytes){b->data, 28}));
}

static uint32_t next_random(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

/* Damage under good checksums, as somebody might craft it: an error, or a manifest that
 * keeps every promise, which its own bytes show. */
static void check_crafted(pn_bytes b, size_t *valid)
{
    pn_manifest m, back;
    pn_error err;
    pn_manifest_init(&m, &pn_alloc_system);
    pn_manifest_init(&back, &pn_alloc_system);
    if (pn_manifest_parse(&m, b, &err) == PN_OK) {
        pn_buf out = bytes_of(&m);
        CHECK_EQ_INT(pn_manifest_parse(&back, pn_buf_view(&out), &err), PN_OK);
        pn_buf again = bytes_of(&back);
        CHECK(pn_bytes_equal(pn_buf_view(&out), pn_buf_view(&again)));
        pn_buf_clear(&again);
        pn_buf_clear(&out);
        ++*valid;
    } else {
        CHECK(err.what != NULL && err.offset <= b.len);
    }
    pn_manifest_clear(&back);
    pn_manifest_clear(&m);
}

static void test_crafted_manifests_do_no_harm(void)
{
    pn_buf good = sample(), b;
    uint32_t seed = 7;
    size_t valid = 0, tried = 0;
    pn_buf_init(&b, &pn_alloc_system);
    for (int round = 0; round < 4000; round++, tried++) {
        b.len = 0;
        CHECK_EQ_INT(pn_buf_append(&b, good.data, good.len), PN_OK);
        for (uint32_t n = 1 + next_random(&seed) % 3; n > 0; n--) {
            size_t at = HEAD + (next_random(&seed) >> 8) % (b.len - HEAD);
            uint8_t kind = (uint8_t)((next_random(&seed) >> 8) % 3);
            if (kind == 0) b.data[at] = (uint8_t)(next_random(&seed) >> 16);
            else if (kind == 1) b.len = at + 1;
            else if (at + 8 < b.len) memmove(b.data + at, b.data + at + 3, b.len - at - 3), b.len -= 3;
        }
        seal(&b);
        check_crafted(pn_buf_view(&b), &valid);
    }
    for (size_t i = HEAD; i < good.len; i++)
        for (int v = 0; v < 256; v += 5, tried++) {
            b.len = 0;
            CHECK_EQ_INT(pn_buf_append(&b, good.data, good.len), PN_OK);
            b.data[i] = (uint8_t)v;
            seal(&b);
            check_crafted(pn_buf_view(&b), &valid);
        }
    printf("  %zu crafted manifests, %zu of them valid\n", tried, valid);
    CHECK(valid > 0 && valid < tried / 2);
    pn_buf_clear(&b);
    pn_buf_clear(&good);
}

static void test_versions_are_named(void)
{
    pn_buf b = sample();
    pn_error err;
    pn_put_u32(b.data + 8, 2);
    seal(&b);
    CHECK_EQ_INT(parse(pn_buf_view(&b), &err), PN_ERR_VERSION);
    CHECK_EQ_INT(err.offset, 2);
    pn_put_u32(b.data + 8, 1);
    pn_put_u32(b.data + 24, 1);
    seal(&b);
    CHECK_EQ_INT(parse(pn_buf_view(&b), &err), PN_ERR_CORRUPT);
    pn_buf_clear(&b);
}

/* ---- each condition of a valid one ---- */

typedef void (*spoiler)(pn_manifest *m);

static void spoil_name(pn_manifest *m) { m->segments[1].name[4] = 'G'; }
static void spoil_suffix(pn_manifest *m) { m->segments[1].name[38] = 'q'; }
static void spoil_twice(pn_manifest *m) { m->segments[1] = m->segments[0]; }
static void spoil_position(pn_manifest *m) { m->generations[2].segments[1] = 3; }
static void spoil_positions(pn_manifest *m) { m->generations[2].segments[1] = 0; }
static void spoil_order(pn_manifest *m) { m->generations[1].number = 1; }
static void spoil_number(pn_manifest *m) { m->generations[0].number = 0; }
static void spoil_changed(pn_manifest *m) { m->generations[2].stores[1].changed = 4; }
static void spoil_kind(pn_manifest *m) { m->generations[2].stores[1].kind = 0; }
static void spoil_kinds(pn_manifest *m) { m->generations[2].stores[1].kind = 4; }
static void spoil_keep(pn_manifest *m) { m->keep = 0; }
static void spoil_keeps(pn_manifest *m) { m->keep = 1001; }
static void spoil_store(pn_manifest *m)
{
    strcpy(m->generations[1].stores[0].name, "same");
    strcpy(m->generations[1].stores[1].name, "same");
}

static void test_each_condition(void)
{
    static const struct {
        spoiler spoil;
        const char *what;
    } cases[] = {
        {spoil_name, "not the name of a segment"}, {spoil_suffix, "not the name of a segment"},
        {spoil_twice, "listed twice"}, {spoil_position, "not listed"}, {spoil_positions, "a segment twice"},
        {spoil_order, "ascending"}, {spoil_number, "ascending"}, {spoil_changed, NULL}, {spoil_kind, "kind"},
        {spoil_kinds, NULL}, {spoil_keep, "kept"}, {spoil_keeps, NULL}, {spoil_store, "listed twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pn_manifest m;
        pn_error err;
        CHECK_EQ_INT(build(&m, &pn_alloc_system), PN_OK);
        cases[i].spoil(&m);
        pn_buf b = bytes_of(&m);
        CHECK_EQ_INT(parse(pn_buf_view(&b), &err), PN_ERR_CORRUPT);
        CHECK(err.what != NULL && (cases[i].what == NULL || strstr(err.what, cases[i].what) != NULL));
        CHECK(err.offset > HEAD);
        pn_buf_clear(&b);
        pn_manifest_clear(&m);
    }
}

static void test_a_name_that_is_no_text_is_not_written(void)
{
    pn_manifest m;
    pn_buf b;
    CHECK_EQ_INT(build(&m, &pn_alloc_system), PN_OK);
    m.generations[2].stores[0].name[0] = '\xff';
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_buf_push(&b, 'x'), PN_OK);
    CHECK_EQ_INT(pn_manifest_write(&m, &b), PN_ERR_INVALID);
    CHECK_EQ_INT(b.len, 1);
    pn_buf_clear(&b);
    pn_manifest_clear(&m);
}

/* A later release of version 1 may put more at the end of any array. */
static void test_further_elements_are_passed_over(void)
{
    static const uint8_t id[16] = {1, 2, 3};
    pn_manifest_segment s = segment(1, 100);
    pn_error err;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_buf_append(&b, "\x89PNMAN\r\n\1\0\0\0", 12), PN_OK);
    while (b.len < HEAD) CHECK_EQ_INT(pn_buf_push(&b, 0), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(&b, 5), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_bin(&b, (pn_bytes){id, 16}), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_uint(&b, 3), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(&b, 1), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(&b, 4), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_text(&b, text(s.name)), PN_OK);
    for (int i = 0; i < 3; i++) CHECK_EQ_INT(pn_mpack_push_uint(&b, 100), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(&b, 1), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(&b, 7), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_uint(&b, 9), PN_OK); /* number, time, segments */
    CHECK_EQ_INT(pn_mpack_push_int(&b, -1), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_array(&b, 1), PN_OK);
    CHECK_EQ_INT(pn_mpack_push_uint(&b, 0), PN_OK);
    const char *heads[3] = {"store", "foreign", "json"};
    for (int list = 0; list < 3; list++) {
        CHECK_EQ_INT(pn_mpack_push_array(&b, 1), PN_OK);
        CHECK_EQ_INT(pn_mpack_push_array(&b, (size_t)(list == 2 ? 5 : 4 - list)), PN_OK);
        CHECK_EQ_INT(pn_mpack_push_text(&b, text(heads[list])), PN_OK);
        if (list == 1) CHECK_EQ_INT(pn_mpack_push_text(&b, text("class")), PN_OK);
        for (int i = 0; i < (list == 2 ? 3 : list == 0 ? 2 : 0); i++) CHECK_EQ_INT(pn_mpack_push_uint(&b, 2), PN_OK);
        CHECK_EQ_INT(pn_mpack_push_text(&b, text("later")), PN_OK);
    }
    CHECK_EQ_INT(pn_mpack_push_bool(&b, true), PN_OK); /* of the generation, */
    CHECK_EQ_INT(pn_mpack_push_bool(&b, true), PN_OK); /* and of the whole */
    seal(&b);
    CHECK_EQ_INT(parse(pn_buf_view(&b), &err), PN_OK);
    pn_buf_clear(&b);
}

/* ---- names ---- */

static void test_names_of_segments(void)
{
    char name[PN_SEGMENT_NAME_LEN + 1];
    pn_segment_name(UINT64_MAX, 0, name);
    CHECK_EQ_STR(name, "seg-ffffffffffffffff-0000000000000000.pn");
    CHECK(pn_segment_name_ok(text(name)));
    const char *bad[] = {"", "seg-.pn", "seg-FFFFFFFFFFFFFFFF-0000000000000000.pn",
                         "seg-ffffffffffffffff-0000000000000000.pn~", "seg-ffffffffffffffff-000000000000000.pn",
                         "Seg-ffffffffffffffff-0000000000000000.pn", "seg-ffffffffffffffff_0000000000000000.pn",
                         "seg-ffffffffffffffff-0000000000000000.pq", "seg-fffffffffffffff/-0000000000000000.pn"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(!pn_segment_name_ok(text(bad[i])));
}

/* ---- editing ---- */

static void test_dropping_and_tidying(void)
{
    pn_manifest m;
    uint8_t scratch[3];
    CHECK_EQ_INT(build(&m, &pn_alloc_system), PN_OK);
    CHECK_EQ_INT(pn_manifest_bytes(&m, 3, scratch), 6000);
    CHECK_EQ_INT(pn_manifest_bytes(&m, 1, scratch), 6000);
    uint32_t only = 2, second = 1;
    CHECK_EQ_INT(pn_generation_set_segments(m.alloc, &m.generations[2], &only, 1), PN_OK);
    CHECK_EQ_INT(pn_generation_set_segments(m.alloc, &m.generations[1], &second, 1), PN_OK);
    CHECK_EQ_INT(pn_manifest_bytes(&m, 1, scratch), 3000);
    CHECK_EQ_INT(pn_manifest_bytes(&m, 2, scratch), 5000);
    pn_manifest_drop(&m, 0);
    CHECK_EQ_INT(m.generation_count, 3);
    pn_manifest_drop(&m, 1);
    CHECK_EQ_INT(m.generation_count, 2);
    CHECK_EQ_INT(pn_manifest_tidy(&m), PN_OK);
    CHECK_EQ_INT(m.segment_count, 2);
    CHECK_EQ_STR(m.segments[0].name, "seg-0000000000000002-000000000000feef.pn");
    CHECK_EQ_INT(m.generations[0].segments[0], 0);
    CHECK_EQ_INT(m.generations[1].segments[0], 1);
    pn_manifest_drop(&m, 2);
    CHECK_EQ_INT(pn_manifest_tidy(&m), PN_OK);
    CHECK(m.segment_count == 0 && pn_manifest_current(&m) == NULL);
    pn_manifest_clear(&m);
}

static void test_editing_a_copy(void)
{
    pn_manifest m;
    pn_generation g = {0};
    CHECK_EQ_INT(build(&m, &pn_alloc_system), PN_OK);
    CHECK_EQ_INT(pn_generation_copy(m.alloc, pn_manifest_current(&m), &g), PN_OK);
    CHECK(g.number == 3 && g.store_count == 2 && g.foreign_count == 1 && g.json_count == 1 && g.segment_count == 3);
    CHECK(pn_generation_same_foreign(&g, m.generations[0].foreign, 1));
    CHECK(!pn_generation_same_foreign(&g, NULL, 0));
    pn_manifest_foreign other = {"graph_store.json", "another.Store"};
    CHECK(!pn_generation_same_foreign(&g, &other, 1));
    CHECK_EQ_INT(pn_generation_set_foreign(m.alloc, &g, &other, 1), PN_OK);
    CHECK(pn_generation_same_foreign(&g, &other, 1));
    CHECK_EQ_INT(pn_generation_set_json(m.alloc, &g, NULL, 0), PN_OK);
    CHECK_EQ_INT(pn_generation_set_segments(m.alloc, &g, NULL, 0), PN_OK);
    CHECK_EQ_INT(pn_generation_set_store(m.alloc, &g, text("docstore.json"), 1, 4), PN_OK);
    CHECK_EQ_INT(pn_generation_set_store(m.alloc, &g, text("new"), 3, 4), PN_OK);
    CHECK(g.store_count == 3 && g.stores[0].changed == 4 && g.stores[2].kind == 3);
    CHECK(g.json == NULL && g.segments == NULL);
    CHECK_EQ_INT(m.generations[2].stores[0].changed, 3);
    g.number = 4;
    CHECK_EQ_INT(pn_manifest_push(&m, &g), PN_OK);
    CHECK(g.stores == NULL && pn_manifest_current(&m)->number == 4);
    pn_manifest_clear(&m);
}

/* ---- memory ---- */

static pn_status work(const pn_alloc *alloc)
{
    pn_manifest m, back;
    pn_generation g = {0};
    pn_buf out;
    PN_TRY(build(&m, alloc));
    pn_buf_init(&out, alloc);
    pn_manifest_init(&back, alloc);
    pn_status status = pn_generation_copy(alloc, pn_manifest_current(&m), &g);
    if (status == PN_OK) status = pn_generation_set_store(alloc, &g, text("third"), 3, 4);
    if (status == PN_OK) status = pn_manifest_tidy(&m);
    if (status == PN_OK) status = pn_manifest_write(&m, &out);
    if (status == PN_OK) status = pn_manifest_parse(&back, pn_buf_view(&out), NULL);
    pn_generation_clear(alloc, &g);
    pn_buf_clear(&out);
    pn_manifest_clear(&back);
    pn_manifest_clear(&m);
    return status;
}

static void test_manifest_survives_oom(void)
{
    pn_status status;
    EACH_ALLOCATION_FAILED(f, status, status = work(&f.alloc));
}

int main(void)
{
    RUN(test_what_is_written_comes_back);
    RUN(test_a_manifest_without_generations);
    RUN(test_the_example_of_the_format);
    RUN(test_every_changed_byte_is_noticed);
    RUN(test_crafted_manifests_do_no_harm);
    RUN(test_versions_are_named);
    RUN(test_each_condition);
    RUN(test_a_name_that_is_no_text_is_not_written);
    RUN(test_further_elements_are_passed_over);
    RUN(test_names_of_segments);
    RUN(test_dropping_and_tidying);
    RUN(test_editing_a_copy);
    RUN(test_manifest_survives_oom);
    return check_summary();
}
