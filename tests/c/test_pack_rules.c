/* Packs: who may write on what, what is kept, merged and swept, what a commit costs and what
 * its errors say. Failing disks are in test_pack.c, readers in test_pack_read.c. */
#include "pack_check.h"

#include "persist/pack_dir.h"
#include "persist/pack_plan.h"

#include <errno.h>

static const change FIRST[] = {
    NEW_DOC(0, "a", "\"one\""), NEW_DOC(0, "b", "{\"x\": [1, 2]}"), NEW_REF(0, "r", "{}"), NEW_ROW(0, "a", "1 2"),
    NEW_ROW(0, "b", "-0.5 4"), NEW_ID(0, "a", "r"), NEW_TEXT("{\"graph_dict\": {}}"),
};
static const change DOCS_ONLY[] = {DOC(PN_ENTRY_PUT, "a", "\"docs\"")};
static const change ROWS_ONLY[] = {ROW(PN_ENTRY_PUT, "c", "5 6")};
static const change WHOLE[] = {NEW_DOC(0, "z", "\"anew\""), NEW_ROW(0, "z", "0 0"), NEW_TEXT("{}")};
static const script FIRST_SCRIPT = SCRIPT(FIRST), DOCS_SCRIPT = SCRIPT(DOCS_ONLY), ROWS_SCRIPT = SCRIPT(ROWS_ONLY),
                    WHOLE_SCRIPT = SCRIPT(WHOLE), NOTHING = {NULL, 0, PN_OK};
static const bases NO_BASES;

/* ---- generations ---- */

static void test_nothing_changed_makes_no_generation(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_pack_result r;
    tell_buf before;
    bases b;
    static const change untouched[] = {{DOCS, PN_STORE_COLLECTIONS, false, NULL, 0, 0, -1, NULL, NULL}};
    const script none = SCRIPT(untouched);
    tell_dir(&vfs, &before);
    look_up_bases(&vfs, &b);
    size_t ops = pn_memfs_operations(fs);
    pn_pack_write w = {.emit = emit_script, .ctx = (void *)&NOTHING};
    CHECK_EQ_INT(pn_pack_commit(&vfs, &pn_alloc_system, "/d", &w, &r, NULL), PN_OK);
    CHECK(!r.wrote && r.generation == 1 && r.bytes == 0 && memcmp(r.id, b.id, 16) == 0);
    CHECK_EQ_INT(pn_memfs_operations(fs) - ops, 1); /* the directory is synced, nothing else */
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &b, &none, 0, &r, NULL), PN_OK);
    CHECK(!r.wrote);
    CHECK(tells(&vfs, &before) && is_tidy(&vfs));
    pn_memfs_free(fs);
}

static void test_an_empty_first_commit_is_a_generation(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, NULL);
    pn_pack_result r;
    tell_buf t;
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &NO_BASES, &NOTHING, 0, &r, NULL), PN_OK);
    CHECK(r.wrote && r.generation == 1);
    tell_dir(&vfs, &t);
    CHECK_EQ_STR(t.text, "pack: 1");
    CHECK_EQ_INT(segments_of_current(&vfs), 0);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &NO_BASES, &FIRST_SCRIPT, 0, &r, NULL), PN_OK);
    CHECK_EQ_INT(segments_of_current(&vfs), 1);
    CHECK(is_tidy(&vfs));
    pn_memfs_free(fs);
}

static void test_what_a_result_says(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_pack_result r;
    pn_manifest m;
    bases b;
    look_up_bases(&vfs, &b);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &b, &DOCS_SCRIPT, 0, &r, NULL), PN_OK);
    CHECK(r.wrote && r.generation == 2 && memcmp(r.id, b.id, 16) == 0);
    CHECK_EQ_INT(pn_pack_manifest(&vfs, &pn_alloc_system, "/d", &m, NULL), PN_OK);
    pn_stat st;
    CHECK_EQ_INT(vfs.lstat(fs, "/d/MANIFEST", &st), 0);
    CHECK_EQ_INT(r.bytes, m.segments[1].size + st.size);
    CHECK_EQ_INT(m.generations[1].time, 1700000000000000000);
    CHECK_EQ_INT(m.keep, PN_MANIFEST_KEEP);
    CHECK_EQ_INT(strncmp(m.segments[1].name, "seg-0000000000000002-", 21), 0);
    pn_manifest_clear(&m);
    pn_memfs_free(fs);
}

static void test_foreign_stores_and_json_files_are_noted(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_pack_result r;
    pn_manifest m;
    pn_manifest_foreign foreign[] = {{"x.json", "a.Store"}, {"y.json", "b.Store"}};
    pn_manifest_json json = {DOCS, 10, -5, 77};
    pn_pack_write w = {.emit = emit_script, .ctx = (void *)&NOTHING, .foreign = foreign, .foreign_count = 2,
                       .json = &json, .json_count = 1};
    CHECK_EQ_INT(pn_pack_commit(&vfs, &pn_alloc_system, "/d", &w, &r, NULL), PN_OK);
    CHECK(r.wrote && r.generation == 2);
    CHECK_EQ_INT(pn_pack_manifest(&vfs, &pn_alloc_system, "/d", &m, NULL), PN_OK);
    CHECK(m.generations[1].foreign_count == 2 && strcmp(m.generations[1].foreign[1].type, "b.Store") == 0);
    CHECK(m.generations[1].json_count == 1 && m.generations[1].json[0].mtime == -5);
    CHECK(m.generations[0].foreign_count == 0 && m.generations[1].stores[0].changed == 1);
    pn_manifest_clear(&m);
    w.json_count = 0; /* not a reason of its own */
    CHECK_EQ_INT(pn_pack_commit(&vfs, &pn_alloc_system, "/d", &w, &r, NULL), PN_OK);
    CHECK(!r.wrote && r.generation == 2);
    w.foreign_count = 1;
    CHECK_EQ_INT(pn_pack_commit(&vfs, &pn_alloc_system, "/d", &w, &r, NULL), PN_OK);
    CHECK(r.wrote && r.generation == 3);
    pn_memfs_free(fs);
}

static void test_the_last_generations_are_kept(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    for (int i = 0; i < 4; i++) commit_now(&vfs, &WHOLE_SCRIPT, 0);
    CHECK_EQ_INT(generations_now(&vfs), 3);
    commit_now(&vfs, &WHOLE_SCRIPT, 5);
    commit_now(&vfs, &WHOLE_SCRIPT, 0); /* stays as it was set */
    CHECK_EQ_INT(generations_now(&vfs), 5);
    commit_now(&vfs, &WHOLE_SCRIPT, 2);
    CHECK_EQ_INT(generations_now(&vfs), 2);
    CHECK(is_tidy(&vfs));
    CHECK_EQ_INT(number_now(&vfs), 8);
    pn_memfs_free(fs);
}

static void test_large_generations_go_early(void)
{
    enum { LARGE = 700000 };
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, NULL);
    char *value = malloc(LARGE + 1);
    memset(value, 'v', LARGE);
    value[0] = value[LARGE - 1] = '"';
    value[LARGE] = '\0';
    change c[] = {NEW_DOC(0, "a", value)};
    script s = SCRIPT(c);
    for (int i = 0; i < 4; i++) commit_now(&vfs, &s, 0);
    CHECK_EQ_INT(generations_now(&vfs), 2); /* three are more than twice one, and than a megabyte */
    CHECK(is_tidy(&vfs));
    value[100] = '"';
    value[101] = '\0';
    commit_now(&vfs, &s, 0); /* both old ones with the new one are, too */
    CHECK_EQ_INT(generations_now(&vfs), 2);
    commit_now(&vfs, &s, 0);
    CHECK_EQ_INT(generations_now(&vfs), 3);
    free(value);
    pn_memfs_free(fs);
}

/* Small pieces, and such as are written without being gathered, come in their order. */
static void test_values_of_all_sizes_are_written_in_order(void)
{
    enum { COUNT = 40, MOST = 90000 };
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, NULL);
    change c[COUNT];
    char keys[COUNT][8], *values[COUNT];
    pn_file_error err;
    for (size_t i = 0; i < COUNT; i++) {
        size_t n = 10 + (i * 7919 * 37) % MOST;
        snprintf(keys[i], sizeof keys[i], "%zu", i);
        values[i] = malloc(n + 1);
        memset(values[i], 'a' + (int)i % 26, n);
        values[i][0] = values[i][n - 1] = '"';
        values[i][n] = '\0';
        c[i] = (change)NEW_DOC(0, keys[i], values[i]);
    }
    script s = SCRIPT(c);
    commit_now(&vfs, &s, 0);
    pn_pack *p;
    CHECK_EQ_INT(pn_pack_open(&vfs, &pn_alloc_system, "/d", 0, PN_PACK_CHECK, &p, &err), PN_OK);
    pn_segment_entry e = {0};
    while (pn_segment_next(&p->segments[0]->stores[0].tables[0], &e))
        CHECK(pn_bytes_equal(e.value, text(values[e.i])));
    CHECK_EQ_INT(e.i, COUNT - 1);
    pn_pack_close(p);
    for (size_t i = 0; i < COUNT; i++) free(values[i]);
    pn_memfs_free(fs);
}

/* Writes of a file that were seen, and those that do not begin or end at whole huge pages. */
enum { PAGE = 2 << 20 };
static int (*write_on)(void *ctx, int fd, const void *from, size_t n, size_t *put);
static size_t writes, uneven_begins, uneven_ends, written;

static int count_write(void *ctx, int fd, const void *from, size_t n, size_t *put)
{
    writes++;
    uneven_begins += written % PAGE != 0;
    uneven_ends += (written + n) % PAGE != 0;
    int sys = write_on(ctx, fd, from, n, put);
    written += *put;
    return sys;
}

static void write_in_pieces(pn_pack_dir *d, const uint8_t *bytes, size_t size, size_t piece)
{
    pn_pack_file f;
    pn_bytes view;
    pn_blob *blob;
    writes = uneven_begins = uneven_ends = written = 0;
    pn_pack_file_init(&f, d, 1);
    for (size_t at = 0, n; at < size; at += n) {
        n = size - at < piece ? size - at : piece;
        CHECK_EQ_INT(pn_pack_file_sink(&f, (pn_bytes){bytes + at, n}), PN_OK);
    }
    CHECK_EQ_INT(pn_pack_file_flush(&f), PN_OK);
    CHECK_EQ_INT(pn_pack_file_sync(&f), PN_OK);
    CHECK_EQ_INT(d->vfs->map(d->vfs->ctx, &pn_alloc_system, f.path, false, &blob), 0);
    view = pn_blob_view(blob);
    CHECK(view.len == size && memcmp(view.ptr, bytes, size) == 0);
    pn_blob_unref(blob);
    pn_pack_file_end(&f, false);
}

/* So that the system can keep and map it in such pages; what is left at the end is one more. */
static void test_large_segments_are_written_in_whole_huge_pages(void)
{
    enum { MOST = 5 * PAGE + 1000 };
    static const size_t pieces[] = {1000, 65536, 70001, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5, MOST};
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, NULL);
    pn_pack_dir d = {.vfs = &vfs, .alloc = &pn_alloc_system, .root = "/d"};
    uint8_t *bytes = malloc(MOST);
    for (size_t i = 0; i < MOST; i++) bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    write_on = vfs.write;
    vfs.write = count_write;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        write_in_pieces(&d, bytes, MOST, pieces[i]);
        CHECK(uneven_begins == 0 && uneven_ends == 1 && writes <= 6);
        write_in_pieces(&d, bytes, 2 * PAGE, pieces[i]);
        CHECK(uneven_begins == 0 && uneven_ends == 0 && writes <= 2);
        write_in_pieces(&d, bytes, 150000, pieces[i]);
        CHECK_EQ_INT(writes, 1);
    }
    free(bytes);
    pn_memfs_free(fs);
}

/* A table that was only touched, a store that was only begun anew: both are changes. */
static void test_what_counts_as_a_change(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    tell_buf t;
    static const change touched[] = {{DOCS, PN_STORE_COLLECTIONS, false, "new", PN_TABLE_VALUES, 0, -1, NULL, NULL}};
    static const change anew[] = {{GRAPH, PN_STORE_TEXT, true, NULL, 0, 0, -1, NULL, NULL}};
    static const change mixed[] = {
        {DOCS, PN_STORE_COLLECTIONS, false, NULL, 0, 0, -1, NULL, NULL}, ROW(PN_ENTRY_PUT, "q", "1 1")};
    script table_only = SCRIPT(touched), store_only = SCRIPT(anew), one_of_two = SCRIPT(mixed);
    commit_now(&vfs, &table_only, 1);
    tell_dir(&vfs, &t);
    CHECK(strstr(t.text, "pack: 2 @2 [" DOCS) != NULL && strstr(t.text, "new{}") != NULL);
    commit_now(&vfs, &store_only, 1);
    tell_dir(&vfs, &t);
    CHECK(strstr(t.text, "@3 [" GRAPH " 3:]") != NULL);
    commit_now(&vfs, &one_of_two, 1);
    tell_dir(&vfs, &t);
    CHECK(strstr(t.text, "pack: 4 @2 [" DOCS) != NULL && strstr(t.text, "@4 [" VECTORS) != NULL);
    pn_memfs_free(fs);
}

static void test_generation_numbers_end(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_manifest m;
    pn_buf b;
    pn_pack_result r;
    pn_file_error err;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_pack_manifest(&vfs, &pn_alloc_system, "/d", &m, NULL), PN_OK);
    m.generations[0].number = UINT64_MAX;
    CHECK_EQ_INT(pn_manifest_write(&m, &b), PN_OK);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/MANIFEST", pn_buf_view(&b)), 0);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &NO_BASES, &WHOLE_SCRIPT, 0, &r, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.path, "/d/MANIFEST");
    pn_buf_clear(&b);
    pn_manifest_clear(&m);
    pn_memfs_free(fs);
}

/* ---- who may write on what ---- */

static void test_stale_bases_conflict(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    bases mine, theirs;
    pn_file_error err;
    pn_pack_result r = {.generation = 77};
    tell_buf t;
    look_up_bases(&vfs, &mine);
    look_up_bases(&vfs, &theirs);
    /* Other stores do not matter; the same one does. */
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &mine, &DOCS_SCRIPT, 0, NULL, NULL), PN_OK);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &theirs, &ROWS_SCRIPT, 0, NULL, NULL), PN_OK);
    tell_dir(&vfs, &t);
    size_t ops = pn_memfs_operations(fs);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &theirs, &DOCS_SCRIPT, 0, &r, &err), PN_ERR_CONFLICT);
    CHECK_EQ_STR(err.path, DOCS);
    CHECK(err.base.code == PN_ERR_CONFLICT && err.base.what != NULL && r.generation == 77);
    CHECK_EQ_INT(pn_memfs_operations(fs) - ops, 3); /* the note: made, written, removed */
    CHECK(tells(&vfs, &t));
    /* And so in turn, for as long as each builds on what it knew. */
    for (int i = 0; i < 10; i++) {
        bases *writer = i % 2 ? &mine : &theirs, *other = i % 2 ? &theirs : &mine;
        look_up_bases(&vfs, writer);
        CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, writer, &DOCS_SCRIPT, 0, NULL, NULL), PN_OK);
        CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, other, &DOCS_SCRIPT, 0, NULL, &err), PN_ERR_CONFLICT);
        CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, writer, &DOCS_SCRIPT, 0, NULL, &err), PN_ERR_CONFLICT);
    }
    /* Writing a store anew needs no base. */
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &NO_BASES, &WHOLE_SCRIPT, 0, NULL, NULL), PN_OK);
    pn_memfs_free(fs);
}

static void test_bases_of_another_pack_conflict(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    bases b;
    pn_file_error err;
    look_up_bases(&vfs, &b);
    b.id[5] ^= 1;
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &b, &DOCS_SCRIPT, 0, NULL, &err), PN_ERR_CONFLICT);
    b.id[5] ^= 1;
    CHECK_EQ_INT(vfs.unlink(fs, "/d/MANIFEST"), 0);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &b, &DOCS_SCRIPT, 0, NULL, &err), PN_ERR_CONFLICT);
    /* A pack that is made anew has another id, although its numbers begin again. */
    commit_now(&vfs, &FIRST_SCRIPT, 0);
    CHECK_EQ_INT(number_now(&vfs), 1);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &b, &DOCS_SCRIPT, 0, NULL, &err), PN_ERR_CONFLICT);
    look_up_bases(&vfs, &b);
    snprintf(b.names[0], sizeof b.names[0], "no such store");
    change c[] = {{"no such store", 1, false, "t", 1, 0, -1, NULL, NULL}};
    script s = SCRIPT(c);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &b, &s, 0, NULL, &err), PN_ERR_CONFLICT);
    CHECK_EQ_STR(err.path, "no such store");
    pn_memfs_free(fs);
}

static void refused(pn_memfs *fs, const bases *b, const script *s, uint32_t keep, pn_status want, const char *path)
{
    pn_vfs vfs = pn_memfs_vfs(fs);
    pn_file_error err = {0};
    tell_buf t;
    tell_dir(&vfs, &t);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, b, s, keep, NULL, &err), want);
    if (path != NULL) CHECK_EQ_STR(err.path, path);
    CHECK(tells(&vfs, &t) && is_tidy(&vfs));
    CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
}

static void test_changes_must_fit(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    bases b;
    look_up_bases(&vfs, &b);
    refused(fs, &NO_BASES, &DOCS_SCRIPT, 0, PN_ERR_INVALID, DOCS); /* no base, not reset */
    change kind[] = {{DOCS, PN_STORE_TEXT, false, NULL, 0, 0, -1, NULL, NULL}};
    change empty[] = {{"\xff.json", PN_STORE_TEXT, true, NULL, 0, 0, -1, NULL, NULL}};
    script wrong_kind = SCRIPT(kind), no_text = SCRIPT(empty), fails = FIRST_SCRIPT, twice = {NULL, 0, PN_OK};
    refused(fs, &b, &wrong_kind, 0, PN_ERR_INVALID, DOCS);
    refused(fs, &b, &no_text, 0, PN_ERR_INVALID, "\xff.json");
    refused(fs, &b, &DOCS_SCRIPT, PN_MANIFEST_MAX_KEEP + 1, PN_ERR_INVALID, "/d/MANIFEST");
    fails.fail = PN_ERR_CALLBACK;
    refused(fs, &b, &fails, 0, PN_ERR_CALLBACK, NULL);
    change back[] = {NEW_DOC(0, "a", "1"), NEW_TEXT("{}"), NEW_DOC(0, "b", "1")};
    twice = (script)SCRIPT(back);
    refused(fs, &b, &twice, 0, PN_ERR_INVALID, NULL);
    pn_memfs_free(fs);
}

/* A store may come back as another kind, if it is written anew. */
static void test_a_store_of_another_kind(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    tell_buf t;
    change c[] = {{DOCS, PN_STORE_TEXT, true, "", PN_TABLE_VALUES, 0, PN_ENTRY_PUT, "", "\"text\""}};
    script s = SCRIPT(c);
    commit_now(&vfs, &s, 1);
    tell_dir(&vfs, &t);
    CHECK(strstr(t.text, "@2 [" DOCS " 3: {=\"text\"}]") != NULL);
    pn_pack_result r;
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/d", 0, 0, NULL, &r, NULL), PN_OK);
    CHECK(tells(&vfs, &t));
    pn_memfs_free(fs);
}

/* ---- one writer at a time ---- */

typedef struct looker {
    pn_memfs *fs;
    bool noted, locked;
} looker;

static pn_status look_at_note(void *ctx, pn_segment_writer *w)
{
    looker *l = ctx;
    pn_vfs vfs = pn_memfs_vfs(l->fs);
    pn_file_error err;
    pn_pack_result r;
    pn_pack_write other = {.emit = emit_script, .ctx = (void *)&NOTHING, .patience = 20};
    l->locked = pn_pack_commit(&vfs, &pn_alloc_system, "/d", &other, &r, &err) == PN_ERR_LOCKED;
    l->noted = strcmp(err.path, "pid 4711, host h, since 12:00") == 0;
    CHECK(err.base.code == PN_ERR_LOCKED && strcmp(err.base.what, "another process is writing here") == 0);
    return emit_script((void *)&FIRST_SCRIPT, w);
}

static void test_a_second_writer_is_told_who_is_first(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    looker l = {fs, false, false};
    pn_pack_result r;
    pn_stat st;
    pn_pack_write w = {.emit = look_at_note, .ctx = &l, .note = "pid 4711, host h, since 12:00\nsecond line"};
    CHECK_EQ_INT(pn_pack_commit(&vfs, &pn_alloc_system, "/d", &w, &r, NULL), PN_OK);
    CHECK(l.locked && l.noted);
    CHECK_EQ_INT(vfs.lstat(fs, "/d/.pannier-writer", &st), ENOENT);
    int fd;
    pn_file_error err;
    CHECK_EQ_INT(vfs.lock_dir(fs, "/d", true, &fd), 0);
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/d", 0, 3, "me", &r, &err), PN_ERR_LOCKED);
    CHECK_EQ_STR(err.path, ""); /* it left no note */
    CHECK_EQ_INT(pn_pack_rollback(&vfs, &pn_alloc_system, "/d", 1, 0, 0, "me", &r, NULL), PN_ERR_LOCKED);
    CHECK_EQ_INT(pn_pack_retire(&vfs, &pn_alloc_system, "/d", 0, "me", NULL), PN_ERR_LOCKED);
    CHECK_EQ_INT(vfs.lstat(fs, "/d/.pannier-writer", &st), ENOENT);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_OK); /* readers do not care */
    vfs.unlock(fs, fd);
    pn_memfs_free(fs);
}

static int pauses;
static int lock_fd;
static void count_pause(void *ctx)
{
    pn_vfs vfs = pn_memfs_vfs(ctx);
    if (++pauses == 5) vfs.unlock(ctx, lock_fd);
}

static void test_a_writer_waits_its_patience(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_pack_result r;
    pn_pack_write w = {.emit = emit_script, .ctx = (void *)&WHOLE_SCRIPT, .patience = 4};
    vfs.pause = count_pause;
    CHECK_EQ_INT(vfs.lock_dir(fs, "/d", true, &lock_fd), 0);
    CHECK_EQ_INT(pn_pack_commit(&vfs, &pn_alloc_system, "/d", &w, &r, NULL), PN_ERR_LOCKED);
    CHECK_EQ_INT(pauses, 4);
    w.patience = 1;
    CHECK_EQ_INT(pn_pack_commit(&vfs, &pn_alloc_system, "/d", &w, &r, NULL), PN_OK); /* it came free while waiting */
    CHECK_EQ_INT(pauses, 5);
    pn_memfs_free(fs);
}

static void test_a_stale_note_is_replaced_not_followed(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_buf b;
    CHECK_EQ_INT(pn_memfs_put(fs, "/precious", text("keep")), 0);
    CHECK_EQ_INT(pn_memfs_symlink(fs, "/d/.pannier-writer", "../precious"), 0);
    commit_now(&vfs, &WHOLE_SCRIPT, 0);
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_file_read(&vfs, "/precious", &b, NULL), PN_OK);
    CHECK(pn_bytes_equal(pn_buf_view(&b), text("keep")));
    CHECK(is_tidy(&vfs));
    pn_buf_clear(&b);
    pn_memfs_free(fs);
}

static int no_locks(void *ctx, const char *path, bool wait, int *fd)
{
    (void)ctx, (void)path, (void)wait, (void)fd;
    return ENOLCK;
}

static void test_without_locks_nothing_is_swept(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_pack_result r;
    pn_stat st;
    char path[PN_PATH_MAX];
    const char *orphan = "/d/seg-0000000000000001-00000000deadbeef.pn";
    segment_path(&vfs, 0, path);
    CHECK_EQ_INT(pn_memfs_put(fs, orphan, text("x")), 0);
    vfs.lock_dir = no_locks;
    commit_now(&vfs, &WHOLE_SCRIPT, 1);
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/d", 1, 0, "me", &r, NULL), PN_OK);
    CHECK_EQ_INT(vfs.lstat(fs, orphan, &st), 0);
    CHECK_EQ_INT(vfs.lstat(fs, path, &st), 0);
    CHECK_EQ_INT(vfs.lstat(fs, "/d/.pannier-writer", &st), ENOENT);
    put_retired(fs);
    CHECK_EQ_INT(pn_pack_retire(&vfs, &pn_alloc_system, "/d", 0, "me", NULL), PN_OK);
    CHECK_EQ_INT(vfs.lstat(fs, orphan, &st), 0);
    CHECK_EQ_INT(vfs.lstat(fs, "/d/MANIFEST", &st), 0);
    commit_now(&vfs, &FIRST_SCRIPT, 1);
    vfs = pn_memfs_vfs(fs);
    commit_now(&vfs, &DOCS_SCRIPT, 1);
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/d", 1, 0, "me", &r, NULL), PN_OK);
    CHECK(is_tidy(&vfs));
    pn_memfs_free(fs);
}

/* ---- merging ---- */

static void test_all_stores_anew_leave_old_segments_out(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    commit_now(&vfs, &ROWS_SCRIPT, 0);
    CHECK_EQ_INT(segments_of_current(&vfs), 3);
    static const change docs[] = {NEW_DOC(0, "q", "1")}, rest[] = {NEW_ROW(0, "q", "1 1"), NEW_TEXT("{}")};
    script docs_anew = SCRIPT(docs), rest_anew = SCRIPT(rest);
    commit_now(&vfs, &docs_anew, 0); /* one segment held nothing else */
    CHECK_EQ_INT(segments_of_current(&vfs), 3);
    commit_now(&vfs, &rest_anew, 0); /* now the others are void, too */
    CHECK_EQ_INT(segments_of_current(&vfs), 2);
    commit_now(&vfs, &WHOLE_SCRIPT, 1);
    CHECK_EQ_INT(segments_of_current(&vfs), 1);
    CHECK(is_tidy(&vfs));
    pn_memfs_free(fs);
}

/* A segment that cannot be read counts as one that matters: opening will tell. */
static void test_a_damaged_segment_is_not_left_out_unseen(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    char path[PN_PATH_MAX];
    pn_file_error err;
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    segment_path(&vfs, 1, path);
    CHECK_EQ_INT(pn_memfs_put(fs, path, text("damaged")), 0);
    static const change docs[] = {NEW_DOC(0, "q", "1")};
    script docs_anew = SCRIPT(docs);
    commit_now(&vfs, &docs_anew, 0);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.path, path);
    pn_memfs_free(fs);
}

static uint32_t next_random(uint32_t *state) { return (*state = *state * 1664525u + 1013904223u) >> 9; }

/* What the changes do, without any pack. */
static void model_apply_script(model *m, const script *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const change *c = &s->changes[i];
        model_store *store = NULL;
        for (size_t k = 0; k < m->n; k++)
            if (strcmp(m->stores[k].name, c->store) == 0) store = &m->stores[k];
        if (store == NULL) {
            store = &m->stores[m->n++];
            *store = (model_store){.kind = c->kind};
            snprintf(store->name, sizeof store->name, "%s", c->store);
        }
        bool begins = i == 0 || strcmp(s->changes[i - 1].store, c->store) != 0;
        if (begins && c->reset) model_empty_store(store);
        model_table *t = NULL;
        for (size_t k = 0; k < store->n; k++)
            if (strcmp(store->tables[k].name, c->table) == 0) t = &store->tables[k];
        if (t == NULL) {
            t = &store->tables[store->n++];
            *t = (model_table){.entries = NULL};
            snprintf(t->name, sizeof t->name, "%s", c->table);
        }
        if (begins && c->table_reset == PN_TABLE_EMPTIED) t->n = 0;
        if (c->op != PN_ENTRY_PUT) model_remove(t, c->key);
        model_entry *at = NULL;
        for (size_t k = 0; k < t->n; k++)
            if (strcmp(t->entries[k].key, c->key) == 0) at = &t->entries[k];
        if (c->op == PN_ENTRY_REMOVE) continue;
        if (at == NULL) {
            t->entries = realloc(t->entries, (t->n + 1) * sizeof *t->entries);
            at = &t->entries[t->n++];
        }
        snprintf(at->key, sizeof at->key, "%s", c->key);
        snprintf(at->value, sizeof at->value, "%s", c->value);
    }
}

/* Some changes of one store, its keys differing. */
static script random_script(uint32_t *seed, change *changes, char (*keys)[8], char (*values)[24])
{
    unsigned kind = next_random(seed) % 3;
    size_t n = kind == 2 ? 1 : 1 + next_random(seed) % 6, first = next_random(seed) % 30;
    bool reset = next_random(seed) % 40 == 0;
    uint8_t empties = next_random(seed) % 30 == 0 ? PN_TABLE_EMPTIED : PN_TABLE_KEEPS;
    for (size_t i = 0; i < n; i++) {
        int op = (int)(next_random(seed) % 3);
        snprintf(keys[i], sizeof keys[i], "k%zu", (first + i * 7) % 30);
        if (kind == 1) snprintf(values[i], sizeof values[i], "%u %u", next_random(seed) % 100, next_random(seed) % 9);
        else snprintf(values[i], sizeof values[i], "%u", next_random(seed) % 100000);
        change doc = DOC(op, keys[i], values[i]), row = ROW(op, keys[i], values[i]), whole = TEXT(values[i]);
        changes[i] = kind == 0 ? doc : kind == 1 ? row : whole;
        changes[i].reset = reset;
        changes[i].table_reset = empties;
    }
    return (script){changes, n, PN_OK};
}

static void tell_model(const model *m, uint64_t number, const bases *b, tell_buf *out)
{
    out->n = 0;
    tell(out, "pack: %llu", (unsigned long long)number);
    for (size_t i = 0; i < b->n; i++) {
        tell(out, " @%llu", (unsigned long long)b->list[i].changed);
        for (size_t k = 0; k < m->n; k++)
            if (strcmp(m->stores[k].name, b->names[i]) == 0) tell_store(&m->stores[k], out);
    }
}

/* Whether the oldest segment says that something is not there any more. */
static bool oldest_has_removals(const pn_vfs *vfs)
{
    pn_pack *p;
    bool has = false;
    CHECK_EQ_INT(pn_pack_open(vfs, &pn_alloc_system, "/d", 0, 0, &p, NULL), PN_OK);
    const pn_segment *s = p->segments[0];
    for (size_t i = 0; i < s->store_count; i++)
        for (size_t k = 0; k < s->stores[i].table_count; k++) {
            pn_segment_entry e = {0};
            while (pn_segment_next(&s->stores[i].tables[k], &e)) has |= e.op == PN_ENTRY_REMOVE;
        }
    pn_pack_close(p);
    return has;
}

/* However often segments were merged and left out, the pack holds what the changes say. */
static void long_series(const script *first, uint64_t commits, size_t merges_least)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, first);
    model m = {.n = 0};
    uint32_t seed = 11;
    size_t most = 0, before = 1, merges = 0;
    model_apply_script(&m, first);
    for (uint64_t number = 2; number < commits; number++) {
        change changes[8];
        char keys[8][8], values[8][24];
        script s = random_script(&seed, changes, keys, values);
        commit_now(&vfs, &s, 1);
        model_apply_script(&m, &s);
        CHECK_EQ_INT(pn_memfs_settle(fs), 0);
        size_t n = segments_of_current(&vfs);
        if (n > most) most = n;
        if (n <= before) merges++;
        before = n;
        if (n == 1) CHECK(!oldest_has_removals(&vfs) || number < 3);
        if (number % 3 != 0) continue;
        bases b;
        tell_buf want;
        look_up_bases(&vfs, &b);
        tell_model(&m, number, &b, &want);
        if (!tells(&vfs, &want) || !is_tidy(&vfs)) {
            CHECK(false);
            break;
        }
    }
    CHECK(most > PN_PLAN_FEW && most <= PN_PLAN_MOST);
    CHECK(merges > merges_least);
    for (size_t i = 0; i < m.n; i++) model_empty_store(&m.stores[i]);
    pn_memfs_free(fs);
}

static void test_a_long_series_of_commits(void) { long_series(&FIRST_SCRIPT, 800, 100); }

/* Beside much that does not change, so that the oldest segment is seldom merged. */
static void test_a_long_series_of_commits_to_much(void)
{
    enum { MUCH = 20, VALUE = 1100 };
    change c[MUCH + 5];
    char keys[MUCH][8], value[VALUE + 1];
    memset(value, 'v', VALUE);
    value[0] = value[VALUE - 1] = '"';
    value[VALUE] = '\0';
    for (size_t i = 0; i < MUCH; i++) {
        snprintf(keys[i], sizeof keys[i], "m%zu", i);
        c[i] = (change)NEW_DOC(0, keys[i], value);
        c[i].table = "much";
    }
    size_t n = MUCH;
    c[n++] = (change)NEW_DOC(0, "k1", "1");
    c[n++] = (change)NEW_DOC(0, "k8", "1");
    c[n++] = (change)NEW_ROW(0, "k2", "2 2");
    c[n++] = (change)NEW_ROW(0, "k9", "2 2");
    c[n++] = (change)NEW_TEXT("{}");
    script first = {c, n, PN_OK};
    long_series(&first, 400, 20);
}

/* Merging is tidiness. Damage in an old segment stops it, not the commits, until there are
 * far too many. */
static void test_commits_go_on_when_merging_fails(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    bases b;
    pn_file_error err;
    pn_pack_result r;
    pn_status status = PN_OK;
    char path[PN_PATH_MAX];
    pn_buf bytes;
    pn_buf_init(&bytes, &pn_alloc_system);
    segment_path(&vfs, 0, path);
    CHECK_EQ_INT(pn_file_read(&vfs, path, &bytes, NULL), PN_OK);
    bytes.data[64] ^= 1; /* in the first value */
    CHECK_EQ_INT(pn_memfs_put(fs, path, pn_buf_view(&bytes)), 0);
    size_t n = 1;
    for (; n < 100 && status == PN_OK; n++) {
        look_up_bases(&vfs, &b);
        status = commit_on(&vfs, &pn_alloc_system, &b, &ROWS_SCRIPT, 1, &r, &err);
        if (status == PN_OK) CHECK_EQ_INT(segments_of_current(&vfs), n + 1);
        CHECK(is_tidy(&vfs));
        CHECK_EQ_INT(pn_memfs_settle(fs), 0);
    }
    CHECK_EQ_INT(status, PN_ERR_CORRUPT);
    CHECK_EQ_INT(n, PN_PLAN_LIMIT + 1);
    CHECK_EQ_STR(err.path, path);
    CHECK_EQ_INT(err.base.offset, 64);
    pn_buf_clear(&bytes);
    pn_memfs_free(fs);
}

/* ---- rolling back, compacting, retiring ---- */

static void test_rolling_back_and_forth(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    bases old, now;
    pn_pack_result r;
    pn_file_error err;
    tell_buf t;
    look_up_bases(&vfs, &old);
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    look_up_bases(&vfs, &now);
    CHECK_EQ_INT(pn_pack_rollback(&vfs, &pn_alloc_system, "/d", 1, 5, 0, NULL, &r, &err), PN_OK);
    CHECK(r.wrote && r.generation == 3);
    tell_dir(&vfs, &t);
    CHECK(strstr(t.text, "; 3 @3 [" DOCS " 1: docstore/data{a=\"one\"") != NULL);
    CHECK(strstr(t.text, "@1 [" VECTORS) != NULL);
    /* Who built on either is told; who changes a store that was the same all the time is not. */
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &now, &DOCS_SCRIPT, 0, NULL, NULL), PN_ERR_CONFLICT);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &old, &DOCS_SCRIPT, 0, NULL, NULL), PN_ERR_CONFLICT);
    CHECK_EQ_INT(pn_pack_rollback(&vfs, &pn_alloc_system, "/d", 2, 6, 0, NULL, &r, &err), PN_OK);
    CHECK_EQ_INT(r.generation, 4);
    CHECK(generations_now(&vfs) == 3 && is_tidy(&vfs));
    tell_dir(&vfs, &t);
    CHECK(strstr(t.text, "; 4 @4 [" DOCS " 1: docstore/data{a=\"docs\"") != NULL);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &old, &ROWS_SCRIPT, 0, NULL, NULL), PN_OK);
    CHECK_EQ_INT(pn_pack_rollback(&vfs, &pn_alloc_system, "/d", 5, 7, 0, NULL, &r, &err), PN_OK);
    CHECK(!r.wrote && r.generation == 5); /* it is the current one */
    CHECK_EQ_INT(pn_pack_rollback(&vfs, &pn_alloc_system, "/d", 1, 8, 0, NULL, &r, &err), PN_ERR_NOT_FOUND);
    CHECK_EQ_STR(err.path, "/d/MANIFEST");
    CHECK_EQ_INT(generations_now(&vfs), 3);
    CHECK(is_tidy(&vfs));
    pn_memfs_free(fs);
}

static void test_going_back_to_damage_is_refused(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    char path[PN_PATH_MAX];
    pn_pack_result r;
    pn_file_error err;
    segment_path(&vfs, 0, path);
    commit_now(&vfs, &WHOLE_SCRIPT, 0);
    CHECK_EQ_INT(vfs.unlink(fs, path), 0);
    size_t ops = pn_memfs_operations(fs);
    CHECK_EQ_INT(pn_pack_rollback(&vfs, &pn_alloc_system, "/d", 1, 5, 0, NULL, &r, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.path, path);
    CHECK_EQ_INT(pn_memfs_operations(fs), ops);
    pn_memfs_free(fs);
}

static void test_compacting_moves_nobodys_base(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    bases b;
    pn_pack_result r;
    tell_buf t;
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    commit_now(&vfs, &ROWS_SCRIPT, 0);
    tell_dir(&vfs, &t);
    look_up_bases(&vfs, &b);
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/d", 0, 0, NULL, &r, NULL), PN_OK);
    CHECK(r.wrote && r.generation == 3 && r.bytes > 0);
    CHECK_EQ_INT(segments_of_current(&vfs), 1);
    CHECK_EQ_INT(generations_now(&vfs), 3);
    CHECK(tells(&vfs, &t) && is_tidy(&vfs));
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/d", 0, 0, NULL, &r, NULL), PN_OK);
    CHECK(!r.wrote && r.bytes == 0);
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/d", 1, 0, NULL, &r, NULL), PN_OK);
    CHECK(r.wrote && generations_now(&vfs) == 1 && is_tidy(&vfs));
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &b, &DOCS_SCRIPT, 0, &r, NULL), PN_OK);
    CHECK_EQ_INT(r.generation, 4);
    commit_now(&vfs, &WHOLE_SCRIPT, 0);
    CHECK_EQ_INT(generations_now(&vfs), 3); /* how many are kept has not changed */
    pn_memfs_free(fs);
}

static void test_retiring(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_file_error err;
    pn_pack_result r;
    tell_buf t;
    CHECK_EQ_INT(pn_pack_retire(&vfs, &pn_alloc_system, "/d", 0, NULL, &err), PN_ERR_INVALID);
    CHECK_EQ_STR(err.path, "/d/MANIFEST");
    CHECK_EQ_INT(pn_pack_retire(&vfs, &pn_alloc_system, "/nowhere", 0, NULL, &err), PN_OK);
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    put_retired(fs);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_NOT_FOUND);
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/d", 0, 0, NULL, &r, &err), PN_ERR_NOT_FOUND);
    CHECK_EQ_INT(pn_pack_rollback(&vfs, &pn_alloc_system, "/d", 1, 0, 0, NULL, &r, &err), PN_ERR_NOT_FOUND);
    CHECK_EQ_INT(pn_pack_retire(&vfs, &pn_alloc_system, "/d", 0, "me", &err), PN_OK);
    pn_stat st;
    CHECK_EQ_INT(vfs.lstat(fs, "/d/MANIFEST", &st), ENOENT);
    CHECK(is_tidy(&vfs)); /* that is: empty */
    CHECK_EQ_INT(pn_pack_retire(&vfs, &pn_alloc_system, "/d", 0, "me", &err), PN_OK);
    tell_dir(&vfs, &t);
    CHECK_EQ_STR(t.text, "json: " DOCS "=none " GRAPH "=none");
    put_retired(fs);
    commit_now(&vfs, &FIRST_SCRIPT, 0);
    static const uint8_t no_id[16];
    bases b;
    look_up_bases(&vfs, &b);
    CHECK(memcmp(b.id, no_id, 16) != 0); /* the retired manifest's: another pack begins */
    pn_memfs_free(fs);
}

static void test_staged_files_of_others_are_left(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_stat st;
    const char *own = "/d/.pannier-00000000-0123456789abcdef.tmp", *other = "/d/.pannier-00000001-0123456789abcdef.tmp";
    CHECK_EQ_INT(pn_memfs_put(fs, own, text("x")), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, other, text("x")), 0); /* of a commit whose file a link leads here */
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/seg-0000000000000001-00000000deadbeef.pn~", text("x")), 0);
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    CHECK_EQ_INT(vfs.lstat(fs, own, &st), ENOENT);
    CHECK_EQ_INT(vfs.lstat(fs, other, &st), 0);
    CHECK_EQ_INT(vfs.lstat(fs, "/d/seg-0000000000000001-00000000deadbeef.pn~", &st), 0);
    pn_memfs_free(fs);
}

/* What is left by killed commits goes even when the next one has nothing to write. */
static void test_compacting_sweeps(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_pack_result r;
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/seg-0000000000000002-00000000deadbeef.pn", text("x")), 0);
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/d", 0, 0, NULL, &r, NULL), PN_OK);
    CHECK(!r.wrote && is_tidy(&vfs));
    pn_memfs_free(fs);
}

/* A journal that cannot be followed stops everything: nothing is written beside it. */
static void test_a_damaged_journal_stops_a_commit(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_pack_result r;
    pn_file_error err;
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/.pannier-commit", text("no journal")), 0);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &NO_BASES, &WHOLE_SCRIPT, 0, &r, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.path, "/d/.pannier-commit");
    CHECK_EQ_INT(vfs.unlink(fs, "/d/.pannier-commit"), 0);
    CHECK(number_now(&vfs) == 1 && is_tidy(&vfs));
    pn_memfs_free(fs);
}

static void test_segments_of_a_lost_manifest_are_left(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    char first[PN_PATH_MAX], second[PN_PATH_MAX], third[PN_PATH_MAX];
    pn_stat st;
    segment_path(&vfs, 0, first);
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    segment_path(&vfs, 1, second);
    segment_path(&vfs, 2, third);
    CHECK_EQ_INT(vfs.unlink(fs, "/d/MANIFEST"), 0);
    commit_now(&vfs, &FIRST_SCRIPT, 0);
    CHECK_EQ_INT(vfs.lstat(fs, first, &st), ENOENT); /* a killed first commit may have left it */
    CHECK_EQ_INT(vfs.lstat(fs, second, &st), 0);
    CHECK_EQ_INT(vfs.lstat(fs, third, &st), 0);
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    CHECK(is_tidy(&vfs));
    pn_memfs_free(fs);
}

/* ---- what errors say ---- */

typedef struct trap {
    pn_vfs below;
    const char *name; /* part of the path, or NULL */
    int sys;
} trap;

static trap trapped;

static int trap_open(void *ctx, const char *path, pn_open_how how, uint32_t mode, int *fd)
{
    if (how == PN_OPEN_CREATE && strstr(path, trapped.name) != NULL) return trapped.sys;
    return trapped.below.open(ctx, path, how, mode, fd);
}

static int trap_write(void *ctx, int fd, const void *from, size_t n, size_t *put)
{
    return n > 100 ? trapped.sys : trapped.below.write(ctx, fd, from, n, put);
}

static int trap_fsync(void *ctx, int fd)
{
    (void)ctx, (void)fd;
    return trapped.sys;
}

static void fails_with(pn_memfs *fs, const pn_vfs *vfs, int sys, const char *path, const char *what)
{
    pn_vfs clean = pn_memfs_vfs(fs);
    pn_file_error err = {0};
    pn_pack_result r;
    tell_buf t;
    tell_dir(&clean, &t);
    CHECK_EQ_INT(commit_on(vfs, &pn_alloc_system, &NO_BASES, &WHOLE_SCRIPT, 0, &r, &err), PN_ERR_IO);
    CHECK_EQ_INT(err.base.sys, sys);
    CHECK_EQ_STR(err.base.what, what);
    CHECK_EQ_INT(strncmp(err.path, path, strlen(path)), 0);
    CHECK(tells(&clean, &t) && is_tidy(&clean));
    CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
}

static void test_a_full_disk_and_a_protected_one(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    const int full[] = {ENOSPC, EDQUOT};
    for (size_t i = 0; i < 2; i++) {
        trapped = (trap){pn_memfs_vfs(fs), NULL, full[i]};
        vfs = trapped.below;
        vfs.write = trap_write;
        fails_with(fs, &vfs, full[i], "/d/seg-", "cannot write a segment");
        vfs = trapped.below;
        vfs.fsync = trap_fsync;
        fails_with(fs, &vfs, full[i], "/d/seg-", "cannot write a segment");
    }
    const int denied[] = {EROFS, EACCES};
    for (size_t i = 0; i < 2; i++) {
        trapped = (trap){pn_memfs_vfs(fs), "/seg-", denied[i]};
        vfs = trapped.below;
        vfs.open = trap_open;
        fails_with(fs, &vfs, denied[i], "/d/seg-", "cannot create a segment");
        trapped.name = ".tmp";
        fails_with(fs, &vfs, denied[i], "/d/MANIFEST", "cannot write the manifest");
    }
    vfs = pn_memfs_vfs(fs);
    pn_stat st = {.mode = 0444};
    int fd;
    CHECK_EQ_INT(vfs.open(fs, "/d/MANIFEST", PN_OPEN_READ, 0, &fd), 0);
    CHECK_EQ_INT(vfs.adopt(fs, fd, &st), 0);
    CHECK_EQ_INT(vfs.close(fs, fd), 0);
    fails_with(fs, &vfs, EACCES, "/d/MANIFEST", "cannot write the file");
    pn_memfs_free(fs);
}

static void test_files_have_the_manifests_mode(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_stat st = {.mode = 0600};
    char path[PN_PATH_MAX];
    int fd;
    CHECK_EQ_INT(vfs.open(fs, "/d/MANIFEST", PN_OPEN_READ, 0, &fd), 0);
    CHECK_EQ_INT(vfs.adopt(fs, fd, &st), 0);
    CHECK_EQ_INT(vfs.close(fs, fd), 0);
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    CHECK_EQ_INT(vfs.lstat(fs, "/d/MANIFEST", &st), 0);
    CHECK_EQ_INT(st.mode, 0600);
    segment_path(&vfs, 1, path);
    CHECK_EQ_INT(vfs.lstat(fs, path, &st), 0);
    CHECK_EQ_INT(st.mode, 0600);
    pn_memfs_free(fs);
}

/* ---- what a small commit costs ---- */

typedef struct tally {
    pn_vfs below;
    size_t opens, closes, writes, fsyncs, dir_syncs, renames, unlinks, maps, lists, looks;
} tally;

static tally t0;
static int tally_open(void *ctx, const char *path, pn_open_how how, uint32_t mode, int *fd)
{
    t0.opens++;
    return t0.below.open(ctx, path, how, mode, fd);
}
static int tally_write(void *ctx, int fd, const void *from, size_t n, size_t *put)
{
    t0.writes++;
    return t0.below.write(ctx, fd, from, n, put);
}
static int tally_close(void *ctx, int fd) { return t0.closes++, t0.below.close(ctx, fd); }
static int tally_fsync(void *ctx, int fd) { return t0.fsyncs++, t0.below.fsync(ctx, fd); }
static int tally_sync_dir(void *ctx, const char *path) { return t0.dir_syncs++, t0.below.sync_dir(ctx, path); }
static int tally_rename(void *ctx, const char *from, const char *to)
{
    return t0.renames++, t0.below.rename(ctx, from, to);
}
static int tally_unlink(void *ctx, const char *path) { return t0.unlinks++, t0.below.unlink(ctx, path); }
static int tally_map(void *ctx, const pn_alloc *alloc, const char *path, bool copy, pn_blob **out)
{
    return t0.maps++, t0.below.map(ctx, alloc, path, copy, out);
}
static int tally_list(void *ctx, const char *path, pn_list_fn each, void *arg)
{
    return t0.lists++, t0.below.list(ctx, path, each, arg);
}
static int tally_lstat(void *ctx, const char *path, pn_stat *out)
{
    return t0.looks++, t0.below.lstat(ctx, path, out);
}

static tally cost_of(const pn_vfs *vfs, const script *s)
{
    bases b;
    pn_pack_result r;
    look_up_bases(vfs, &b);
    t0 = (tally){.below = *vfs};
    pn_vfs counted = *vfs;
    counted.open = tally_open;
    counted.close = tally_close;
    counted.write = tally_write;
    counted.fsync = tally_fsync;
    counted.sync_dir = tally_sync_dir;
    counted.rename = tally_rename;
    counted.unlink = tally_unlink;
    counted.map = tally_map;
    counted.list = tally_list;
    counted.lstat = tally_lstat;
    CHECK_EQ_INT(commit_on(&counted, &pn_alloc_system, &b, s, 0, &r, NULL), PN_OK);
    return t0;
}

static void test_a_small_commit_costs_the_same_in_a_large_pack(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, NULL);
    enum { LARGE = 1100 };
    change c[30];
    char keys[30][8], value[LARGE + 1];
    memset(value, 'v', LARGE);
    value[0] = value[LARGE - 1] = '"';
    value[LARGE] = '\0';
    for (size_t i = 0; i < 30; i++) {
        snprintf(keys[i], sizeof keys[i], "%zu", i);
        c[i] = (change)NEW_DOC(0, keys[i], value);
    }
    script large = SCRIPT(c);
    commit_now(&vfs, &large, 0);
    for (size_t n = 1; n < 10; n++) {
        tally t = cost_of(&vfs, &DOCS_SCRIPT);
        CHECK_EQ_INT(t.fsyncs, 2);
        CHECK_EQ_INT(t.dir_syncs, 2);
        CHECK_EQ_INT(t.renames, 1);
        CHECK_EQ_INT(t.maps, 0);
        CHECK_EQ_INT(t.lists, 1);
        CHECK_EQ_INT(t.looks, 2);  /* a journal, the manifest */
        CHECK_EQ_INT(t.opens, 4);  /* note, manifest, segment, manifest */
        CHECK_EQ_INT(t.closes, t.opens);
        CHECK_EQ_INT(t.writes, 3); /* note, segment, manifest */
        CHECK_EQ_INT(t.unlinks, 1); /* the note */
    }
    CHECK_EQ_INT(segments_of_current(&vfs), 10);
    pn_memfs_free(fs);
}

int main(void)
{
    RUN(test_nothing_changed_makes_no_generation);
    RUN(test_an_empty_first_commit_is_a_generation);
    RUN(test_what_a_result_says);
    RUN(test_foreign_stores_and_json_files_are_noted);
    RUN(test_the_last_generations_are_kept);
    RUN(test_large_generations_go_early);
    RUN(test_values_of_all_sizes_are_written_in_order);
    RUN(test_large_segments_are_written_in_whole_huge_pages);
    RUN(test_what_counts_as_a_change);
    RUN(test_generation_numbers_end);
    RUN(test_stale_bases_conflict);
    RUN(test_bases_of_another_pack_conflict);
    RUN(test_changes_must_fit);
    RUN(test_a_store_of_another_kind);
    RUN(test_a_second_writer_is_told_who_is_first);
    RUN(test_a_writer_waits_its_patience);
    RUN(test_a_stale_note_is_replaced_not_followed);
    RUN(test_without_locks_nothing_is_swept);
    RUN(test_all_stores_anew_leave_old_segments_out);
    RUN(test_a_damaged_segment_is_not_left_out_unseen);
    RUN(test_a_long_series_of_commits);
    RUN(test_a_long_series_of_commits_to_much);
    RUN(test_commits_go_on_when_merging_fails);
    RUN(test_rolling_back_and_forth);
    RUN(test_going_back_to_damage_is_refused);
    RUN(test_compacting_moves_nobodys_base);
    RUN(test_retiring);
    RUN(test_staged_files_of_others_are_left);
    RUN(test_compacting_sweeps);
    RUN(test_a_damaged_journal_stops_a_commit);
    RUN(test_segments_of_a_lost_manifest_are_left);
    RUN(test_a_full_disk_and_a_protected_one);
    RUN(test_files_have_the_manifests_mode);
    RUN(test_a_small_commit_costs_the_same_in_a_large_pack);
    return check_summary();
}
