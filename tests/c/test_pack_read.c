/* Packs: what readers see, of damage and of commits that go on meanwhile. */
#define _GNU_SOURCE
#include "pack_check.h"

#include "base/crc32c.h"
#include "file_fault.h"
#include "persist/commit.h"

#include <dirent.h>
#include <errno.h>
#include <unistd.h>

static const change FIRST[] = {
    NEW_DOC(0, "a", "\"one\""), NEW_DOC(0, "b", "{\"x\": [1, 2]}"), NEW_REF(0, "r", "{}"), NEW_ROW(0, "a", "1 2"),
    NEW_ROW(0, "b", "-0.5 4"), NEW_ID(0, "a", "r"), NEW_TEXT("{\"graph_dict\": {}}"),
};
static const change DOCS_ONLY[] = {DOC(PN_ENTRY_PUT, "a", "\"docs\"")};
static const change WHOLE[] = {NEW_DOC(0, "z", "\"anew\""), NEW_ROW(0, "z", "0 0"), NEW_TEXT("{}")};
static const script FIRST_SCRIPT = SCRIPT(FIRST), DOCS_SCRIPT = SCRIPT(DOCS_ONLY), WHOLE_SCRIPT = SCRIPT(WHOLE);
static const bases NO_BASES;

/* ---- opening ---- */

static void test_what_is_not_there(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, NULL);
    pn_file_error err;
    pn_pack_result r;
    pn_pack *p;
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_NOT_FOUND);
    CHECK_EQ_STR(err.path, "/d/MANIFEST");
    CHECK_EQ_INT(pn_pack_open(&vfs, &pn_alloc_system, "/nowhere", 0, 0, &p, NULL), PN_ERR_NOT_FOUND);
    CHECK_EQ_INT(pn_pack_verify(&vfs, &pn_alloc_system, "/d", NULL, NULL, &err), PN_ERR_NOT_FOUND);
    CHECK_EQ_INT(pn_pack_compact(&vfs, &pn_alloc_system, "/nowhere", 0, 0, NULL, &r, &err), PN_ERR_NOT_FOUND);
    CHECK_EQ_INT(pn_pack_rollback(&vfs, &pn_alloc_system, "/d", 1, 0, 0, NULL, &r, &err), PN_ERR_NOT_FOUND);
    commit_now(&vfs, &FIRST_SCRIPT, 0);
    CHECK_EQ_INT(open_close(&vfs, 2, &err), PN_ERR_NOT_FOUND);
    CHECK_EQ_INT(open_close(&vfs, 1, &err), PN_OK);
    CHECK_EQ_INT(pn_memfs_put(fs, "/file", text("x")), 0);
    CHECK_EQ_INT(pn_pack_open(&vfs, &pn_alloc_system, "/file", 0, 0, &p, &err), PN_ERR_IO);
    CHECK_EQ_INT(err.base.sys, ENOTDIR);
    pn_pack_close(NULL);
    pn_memfs_free(fs);
}

static size_t findings;
static char found_path[PN_PATH_MAX];
static bool note_finding(void *ctx, const char *path, uint64_t offset, const char *what)
{
    CHECK(what != NULL);
    (void)ctx, (void)offset;
    findings++;
    snprintf(found_path, sizeof found_path, "%s", path);
    return true;
}

static size_t verify(const pn_vfs *vfs)
{
    pn_file_error err = {0};
    findings = 0;
    pn_status status = pn_pack_verify(vfs, &pn_alloc_system, "/d", note_finding, NULL, &err);
    if (status != PN_OK) fprintf(stderr, "verify: %s: %s\n", err.path, err.base.what);
    CHECK_EQ_INT(status, PN_OK);
    return findings;
}

static void test_a_missing_segment_is_named(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    char path[PN_PATH_MAX];
    pn_file_error err;
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    CHECK_EQ_INT(verify(&vfs), 0);
    segment_path(&vfs, 1, path);
    CHECK_EQ_INT(vfs.unlink(fs, path), 0);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.path, path);
    CHECK(strstr(err.base.what, "missing") != NULL);
    CHECK_EQ_INT(open_close(&vfs, 1, &err), PN_OK);
    CHECK_EQ_INT(verify(&vfs), 1);
    CHECK_EQ_STR(found_path, path);
    pn_memfs_free(fs);
}

/* A segment that is whole, but not the one that the manifest lists. */
static void test_another_segment_in_its_place_is_noticed(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    char one[PN_PATH_MAX], two[PN_PATH_MAX];
    pn_buf b, manifest, second;
    pn_file_error err;
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    segment_path(&vfs, 0, one);
    segment_path(&vfs, 1, two);
    pn_buf_init(&b, &pn_alloc_system);
    pn_buf_init(&manifest, &pn_alloc_system);
    pn_buf_init(&second, &pn_alloc_system);
    CHECK_EQ_INT(pn_file_read(&vfs, "/d/MANIFEST", &manifest, NULL), PN_OK);
    CHECK_EQ_INT(pn_file_read(&vfs, two, &second, NULL), PN_OK);
    CHECK_EQ_INT(pn_file_read(&vfs, one, &b, NULL), PN_OK);
    CHECK_EQ_INT(pn_memfs_put(fs, two, pn_buf_view(&b)), 0);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.path, two);
    CHECK(verify(&vfs) == 1 && strcmp(found_path, two) == 0);
    /* And one of the same length. */
    static const change other[] = {DOC(PN_ENTRY_PUT, "a", "\"DOCS\"")};
    script same_length = SCRIPT(other);
    vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/MANIFEST", pn_buf_view(&manifest)), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, two, pn_buf_view(&second)), 0);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_OK);
    char three[PN_PATH_MAX];
    commit_now(&vfs, &same_length, 0);
    segment_path(&vfs, 2, three);
    b.len = 0;
    CHECK_EQ_INT(pn_file_read(&vfs, three, &b, NULL), PN_OK);
    CHECK_EQ_INT(b.len, second.len);
    CHECK_EQ_INT(pn_memfs_put(fs, two, pn_buf_view(&b)), 0);
    CHECK_EQ_INT(open_close(&vfs, 2, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.path, two);
    pn_buf_clear(&manifest);
    pn_buf_clear(&second);
    pn_buf_clear(&b);
    pn_memfs_free(fs);
}

static void test_stores_must_be_those_listed(void)
{
    for (int i = 0; i < 4; i++) {
        pn_vfs vfs;
        pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
        pn_manifest m;
        pn_buf b;
        pn_file_error err;
        pn_buf_init(&b, &pn_alloc_system);
        CHECK_EQ_INT(pn_pack_manifest(&vfs, &pn_alloc_system, "/d", &m, NULL), PN_OK);
        pn_generation *g = &m.generations[0];
        if (i == 0) g->stores[1].kind = PN_STORE_TEXT;
        if (i == 1) g->stores[1].name[0] = 'D';
        if (i == 3) pn_alloc_put(m.alloc, g->stores[--g->store_count].name);
        if (i == 2) CHECK_EQ_INT(pn_generation_set_store(m.alloc, g, text("more"), 1, 1), PN_OK);
        CHECK_EQ_INT(pn_manifest_write(&m, &b), PN_OK);
        CHECK_EQ_INT(pn_memfs_put(fs, "/d/MANIFEST", pn_buf_view(&b)), 0);
        CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_CORRUPT);
        CHECK_EQ_STR(err.path, "/d/MANIFEST");
        CHECK(verify(&vfs) == 1 && strcmp(found_path, "/d/MANIFEST") == 0);
        pn_buf_clear(&b);
        pn_manifest_clear(&m);
        pn_memfs_free(fs);
    }
}

static pn_status collect(void *buf, pn_bytes bytes) { return pn_buf_append(buf, bytes.ptr, bytes.len); }

/* Puts a segment of these changes behind the others of the newest generation, as no commit
 * would. */
static void graft(pn_memfs *fs, pn_status (*emit)(void *ctx, pn_segment_writer *w), const void *ctx)
{
    pn_vfs vfs = pn_memfs_vfs(fs);
    pn_segment_writer *w;
    pn_manifest m;
    pn_buf b;
    char path[PN_PATH_MAX];
    pn_manifest_segment s;
    uint32_t at[8];
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_segment_writer_new(&pn_alloc_system, collect, &b, &w), PN_OK);
    CHECK_EQ_INT(emit((void *)ctx, w), PN_OK);
    CHECK_EQ_INT(pn_segment_finish(w, &s.size, &s.tail_crc), PN_OK);
    pn_segment_writer_free(w);
    pn_segment_name(1, 77, s.name);
    CHECK_EQ_INT(pn_path_join("/d", s.name, path), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, path, pn_buf_view(&b)), 0);
    CHECK_EQ_INT(pn_pack_manifest(&vfs, &pn_alloc_system, "/d", &m, NULL), PN_OK);
    pn_generation *g = &m.generations[m.generation_count - 1];
    memcpy(at, g->segments, g->segment_count * sizeof *at);
    CHECK_EQ_INT(pn_manifest_add_segment(&m, &s, &at[g->segment_count]), PN_OK);
    CHECK_EQ_INT(pn_generation_set_segments(m.alloc, g, at, g->segment_count + 1), PN_OK);
    b.len = 0;
    CHECK_EQ_INT(pn_manifest_write(&m, &b), PN_OK);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/MANIFEST", pn_buf_view(&b)), 0);
    pn_manifest_clear(&m);
    pn_buf_clear(&b);
}

static void test_changes_of_another_kind_are_refused(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_file_error err;
    change there[] = {{DOCS, PN_STORE_TEXT, false, "", PN_TABLE_VALUES, 0, PN_ENTRY_PUT, "", "1"}};
    change back[] = {DOC(PN_ENTRY_PUT, "a", "2")};
    script to_text = SCRIPT(there), to_docs = SCRIPT(back);
    graft(fs, emit_script, &to_text);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_CORRUPT);
    CHECK_EQ_STR(err.path, "/d/MANIFEST");
    pn_memfs_free(fs);
    /* Whatever is left at the end. */
    fs = make_pack(&vfs, &FIRST_SCRIPT);
    change anew[] = {{DOCS, PN_STORE_TEXT, true, "", PN_TABLE_VALUES, 0, PN_ENTRY_PUT, "", "1"}};
    script text_anew = SCRIPT(anew);
    graft(fs, emit_script, &text_anew);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_CORRUPT); /* the manifest says collections */
    commit_now(&vfs, &to_docs, 0);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_CORRUPT);
    CHECK(verify(&vfs) > 0);
    pn_memfs_free(fs);
}

/* A change of an index struct, of a value that is none. */
static pn_status emit_struct_change(void *ctx, pn_segment_writer *w)
{
    static const char change_of_v[] = "\x92\xa1t\x91\x95\xa1v\x00\x01\x01\x91\x93\x00\x00\x01";
    (void)ctx;
    PN_TRY(pn_segment_begin_store(w, text(DOCS), PN_STORE_COLLECTIONS, false));
    PN_TRY(pn_segment_begin_table(w, text("docstore/data"), PN_TABLE_VALUES, PN_TABLE_KEEPS));
    return pn_segment_put_value(w, PN_ENTRY_PUT, text("a"), PN_FORM_CHANGE,
                                (pn_bytes){(const uint8_t *)change_of_v, sizeof change_of_v - 1});
}

static void test_verifying_applies_what_is_there(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    char path[PN_PATH_MAX];
    pn_file_error err;
    graft(fs, emit_struct_change, NULL);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_OK); /* each segment is as it should be */
    CHECK_EQ_INT(verify(&vfs), 1);
    segment_path(&vfs, 1, path);
    CHECK_EQ_STR(found_path, path);
    pn_memfs_free(fs);
}

static void test_newer_versions_are_refused(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    char path[PN_PATH_MAX];
    pn_buf b;
    pn_file_error err;
    pn_pack_result r;
    pn_buf_init(&b, &pn_alloc_system);
    segment_path(&vfs, 0, path);
    CHECK_EQ_INT(pn_file_read(&vfs, path, &b, NULL), PN_OK);
    b.data[8] = 2;
    uint8_t *tail = b.data + b.len - PN_SEGMENT_TAIL;
    pn_put_u32(tail + 28, 2);
    pn_put_u32(tail + 60, pn_crc32c(0, (pn_bytes){tail, 60}));
    CHECK_EQ_INT(pn_memfs_put(fs, path, pn_buf_view(&b)), 0);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_VERSION);
    CHECK(strcmp(err.path, path) == 0 && err.base.offset == 2);
    CHECK_EQ_INT(pn_pack_verify(&vfs, &pn_alloc_system, "/d", note_finding, NULL, &err), PN_ERR_VERSION);
    b.len = 0;
    CHECK_EQ_INT(pn_file_read(&vfs, "/d/MANIFEST", &b, NULL), PN_OK);
    b.data[8] = 2;
    pn_put_u32(b.data + 28, pn_crc32c(0, (pn_bytes){b.data, 28}));
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/MANIFEST", pn_buf_view(&b)), 0);
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_VERSION);
    CHECK(strcmp(err.path, "/d/MANIFEST") == 0 && err.base.offset == 2 && err.base.code == PN_ERR_VERSION);
    CHECK_EQ_INT(pn_pack_verify(&vfs, &pn_alloc_system, "/d", note_finding, NULL, &err), PN_ERR_VERSION);
    size_t ops = pn_memfs_operations(fs);
    CHECK_EQ_INT(commit_on(&vfs, &pn_alloc_system, &NO_BASES, &WHOLE_SCRIPT, 0, &r, &err), PN_ERR_VERSION);
    CHECK_EQ_STR(err.path, "/d/MANIFEST");
    CHECK_EQ_INT(pn_memfs_operations(fs) - ops, 3); /* its note came and went */
    pn_buf_clear(&b);
    pn_memfs_free(fs);
}

/* Every byte of every file damaged in turn: an error that names the file, or the same
 * contents; and looking for damage finds it, in that file. */
static size_t damage_each_byte(pn_memfs *fs, const char *path, const tell_buf *want)
{
    pn_vfs vfs = pn_memfs_vfs(fs);
    pn_buf good, b;
    pn_file_error err;
    size_t refused_here = 0;
    pn_buf_init(&good, &pn_alloc_system);
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_file_read(&vfs, path, &good, NULL), PN_OK);
    for (size_t i = 0; i < good.len; i++) {
        b.len = 0;
        CHECK_EQ_INT(pn_buf_append(&b, good.data, good.len), PN_OK);
        b.data[i] ^= (uint8_t)(1 << i % 8);
        CHECK_EQ_INT(pn_memfs_put(fs, path, pn_buf_view(&b)), 0);
        pn_status status = open_close(&vfs, 0, &err);
        if (status == PN_OK) CHECK(tells(&vfs, want));
        else CHECK(status == PN_ERR_CORRUPT || (status == PN_ERR_VERSION && i / 4 == 2));
        if (status != PN_OK) CHECK_EQ_STR(err.path, path);
        refused_here += status != PN_OK;
        if (status == PN_ERR_VERSION) continue;
        found_path[0] = '\0';
        if (verify(&vfs) == 0 || strcmp(found_path, path) != 0) fprintf(stderr, "byte %zu of %s\n", i, path);
        CHECK_EQ_STR(found_path, path);
    }
    CHECK_EQ_INT(pn_memfs_put(fs, path, pn_buf_view(&good)), 0);
    pn_buf_clear(&b);
    pn_buf_clear(&good);
    return refused_here;
}

static void test_every_damaged_byte_is_noticed(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    tell_buf t;
    char path[PN_PATH_MAX];
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    tell_dir(&vfs, &t);
    size_t n = damage_each_byte(fs, "/d/MANIFEST", &t);
    for (size_t i = 0; i < 2; i++) {
        segment_path(&vfs, i, path);
        n += damage_each_byte(fs, path, &t);
    }
    CHECK(tells(&vfs, &t));
    printf("  %zu damaged bytes refused\n", n);
    CHECK(n > 1000);
    pn_memfs_free(fs);
}

static bool stop_at_first(void *ctx, const char *path, uint64_t offset, const char *what)
{
    (void)path, (void)offset, (void)what;
    ++*(size_t *)ctx;
    return false;
}

static void test_verifying_ends_when_it_is_told(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    char path[PN_PATH_MAX];
    commit_now(&vfs, &DOCS_SCRIPT, 0);
    for (size_t i = 0; i < 2; i++) {
        segment_path(&vfs, i, path);
        CHECK_EQ_INT(pn_memfs_put(fs, path, text("damaged")), 0);
    }
    CHECK_EQ_INT(verify(&vfs), 2);
    size_t n = 0;
    CHECK_EQ_INT(pn_pack_verify(&vfs, &pn_alloc_system, "/d", stop_at_first, &n, NULL), PN_OK);
    CHECK_EQ_INT(n, 1);
    pn_memfs_free(fs);
}

/* ---- readers while somebody writes ---- */

static pn_vfs plain;
static int replacements; /* commits that come between the manifest and a segment */
static bool in_between;

static int map_after_a_commit(void *ctx, const pn_alloc *alloc, const char *path, bool copy, pn_blob **out)
{
    if (replacements > 0 && !in_between) {
        replacements--;
        in_between = true;
        commit_now(&plain, &WHOLE_SCRIPT, 1);
        in_between = false;
    }
    return plain.map(ctx, alloc, path, copy, out);
}

static void test_a_manifest_replaced_meanwhile_is_read_again(void)
{
    pn_vfs vfs;
    pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
    pn_file_error err;
    pn_pack *p;
    plain = vfs;
    vfs.map = map_after_a_commit;
    replacements = 7;
    CHECK_EQ_INT(pn_pack_open(&vfs, &pn_alloc_system, "/d", 0, 0, &p, &err), PN_OK);
    CHECK_EQ_INT(p->generation->number, 8);
    pn_pack_close(p);
    replacements = 1; /* the one that is wanted is gone by then */
    CHECK_EQ_INT(open_close(&vfs, 8, &err), PN_ERR_NOT_FOUND);
    replacements = 1000;
    CHECK_EQ_INT(open_close(&vfs, 0, &err), PN_ERR_IO);
    CHECK_EQ_STR(err.path, "/d/MANIFEST");
    replacements = 3;
    CHECK_EQ_INT(verify(&vfs), 0);
    CHECK_EQ_INT(replacements, 0);
    replacements = 1000;
    findings = 0;
    CHECK_EQ_INT(pn_pack_verify(&vfs, &pn_alloc_system, "/d", note_finding, NULL, &err), PN_ERR_IO);
    CHECK_EQ_INT(findings, 0);
    CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
    pn_memfs_free(fs);
}

/* A conversion to JSON that was killed behind its journal: the pack is gone for readers,
 * who finish nothing. */
static void test_reading_through_a_journal_writes_nothing(void)
{
    pn_vfs vfs;
    tell_buf t;
    pn_manifest m;
    pn_buf retired;
    pn_stat st;
    bool found = false;
    pn_manifest_init(&m, &pn_alloc_system);
    pn_buf_init(&retired, &pn_alloc_system);
    CHECK_EQ_INT(pn_manifest_write(&m, &retired), PN_OK);
    for (size_t at = 0; at < 60 && !found; at++) {
        pn_memfs *fs = make_pack(&vfs, &FIRST_SCRIPT);
        pn_fault f = {.below = vfs, .kind = PN_FAULT_STICKY, .at = at, .sys = EIO};
        pn_vfs failing = pn_fault_vfs(&f);
        pn_commit_item items[] = {{DOCS, text("documents")}, {GRAPH, text("graph")}, {"MANIFEST", pn_buf_view(&retired)}};
        (void)pn_commit_files(&failing, &pn_alloc_system, "/d", items, 3, 0, NULL);
        found = vfs.lstat(fs, "/d/.pannier-commit", &st) == 0;
        size_t ops = pn_memfs_operations(fs);
        tell_dir(&vfs, &t);
        CHECK_EQ_INT(pn_memfs_operations(fs), ops);
        if (found) CHECK_EQ_STR(t.text, "json: " DOCS "=documents " GRAPH "=graph");
        pn_memfs_free(fs);
    }
    CHECK(found);
    pn_buf_clear(&retired);
}

/* ---- a real disk ---- */

static char real_dir[128];

static pn_vfs real_vfs(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(real_dir, sizeof real_dir, "%.100s/pannier-pack-XXXXXX", tmp != NULL ? tmp : "/tmp");
    CHECK(mkdtemp(real_dir) != NULL);
    return pn_vfs_posix;
}

static void remove_real_dir(void)
{
    char path[512];
    DIR *d = opendir(real_dir);
    CHECK(d != NULL);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%.200s", real_dir, e->d_name);
        (void)unlink(path);
    }
    if (d != NULL) closedir(d);
    CHECK_EQ_INT(rmdir(real_dir), 0);
}

static pn_status real_commit(const script *s, unsigned patience, pn_pack_result *r, pn_file_error *err)
{
    pn_pack_write w = {.emit = emit_script, .ctx = (void *)s, .keep = 1, .patience = patience, .note = "pid 1"};
    return pn_pack_commit(&pn_vfs_posix, &pn_alloc_system, real_dir, &w, r, err);
}

/* What a reader has mapped stays, however much is swept under it. */
static void test_a_reader_holds_its_generation(void)
{
    enum { READERS = 6 };
    pn_vfs vfs = real_vfs();
    pn_pack *open[READERS];
    tell_buf then[READERS], now;
    pn_pack_result r;
    for (int i = 0; i < READERS; i++) {
        CHECK_EQ_INT(real_commit(i % 2 ? &WHOLE_SCRIPT : &FIRST_SCRIPT, 0, &r, NULL), PN_OK);
        CHECK_EQ_INT(pn_pack_open(&vfs, &pn_alloc_system, real_dir, 0, PN_PACK_CHECK, &open[i], NULL), PN_OK);
        then[i].n = 0;
        tell_pack(open[i], &then[i]);
    }
    for (int i = 0; i < READERS; i++) {
        now.n = 0;
        tell_pack(open[i], &now);
        CHECK_EQ_STR(now.text, then[i].text);
        CHECK_EQ_INT(pn_segment_check(open[i]->segments[0], NULL), PN_OK);
        pn_pack_close(open[i]);
    }
    int fd;
    pn_file_error err;
    CHECK_EQ_INT(vfs.lock_dir(NULL, real_dir, false, &fd), 0);
    CHECK_EQ_INT(real_commit(&WHOLE_SCRIPT, 2, &r, &err), PN_ERR_LOCKED);
    vfs.unlock(NULL, fd);
    CHECK_EQ_INT(real_commit(&WHOLE_SCRIPT, 2, &r, &err), PN_OK);
    CHECK_EQ_INT(r.generation, READERS + 1);
    remove_real_dir();
}

static void test_large_segments_on_a_real_disk(void)
{
    enum { ROWS = 20000, VALUE = 3000 };
    pn_vfs vfs = real_vfs();
    change *c = calloc(ROWS, sizeof *c);
    char(*keys)[8] = calloc(ROWS, sizeof *keys), *value = malloc(VALUE + 1);
    memset(value, 'v', VALUE);
    value[0] = value[VALUE - 1] = '"';
    value[VALUE] = '\0';
    for (size_t i = 0; i < ROWS; i++) {
        snprintf(keys[i], sizeof keys[i], "%zu", i);
        c[i] = (change)NEW_DOC(0, keys[i], i % 1000 ? value : "\"v\"");
    }
    script s = {c, ROWS, PN_OK};
    pn_pack_result r;
    pn_pack *p;
    CHECK_EQ_INT(real_commit(&s, 0, &r, NULL), PN_OK);
    CHECK(r.bytes > (uint64_t)ROWS * VALUE * 99 / 100);
    CHECK_EQ_INT(pn_pack_open(&vfs, &pn_alloc_system, real_dir, 0, PN_PACK_CHECK, &p, NULL), PN_OK);
    CHECK_EQ_INT(p->segments[0]->stores[0].tables[0].n, ROWS);
    pn_pack_close(p);
    remove_real_dir();
    free(value);
    free(keys);
    free(c);
}

int main(void)
{
    RUN(test_what_is_not_there);
    RUN(test_a_missing_segment_is_named);
    RUN(test_another_segment_in_its_place_is_noticed);
    RUN(test_stores_must_be_those_listed);
    RUN(test_changes_of_another_kind_are_refused);
    RUN(test_verifying_applies_what_is_there);
    RUN(test_newer_versions_are_refused);
    RUN(test_every_damaged_byte_is_noticed);
    RUN(test_verifying_ends_when_it_is_told);
    RUN(test_a_manifest_replaced_meanwhile_is_read_again);
    RUN(test_reading_through_a_journal_writes_nothing);
    RUN(test_a_reader_holds_its_generation);
    RUN(test_large_segments_on_a_real_disk);
    return check_summary();
}
