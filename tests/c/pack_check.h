/* pack_check.h: what the tests of packs share: commits written down as lists of changes, and
 * a reader of packs that is simple enough to be believed, which tells in a line of text what
 * a directory holds. */
#ifndef PN_TESTS_PACK_CHECK_H
#define PN_TESTS_PACK_CHECK_H

#include "check.h"

#include "file_mem.h"
#include "persist/pack.h"
#include "persist/recover.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#define DOCS "docstore.json"
#define VECTORS "default__vector_store.json"
#define GRAPH "graph_store.json"

static inline pn_bytes text(const char *s) { return (pn_bytes){(const uint8_t *)s, strlen(s)}; }

/* ---- changes ---- */

/* One entry, or with op -1 only its store and table, or without table only its store.
 * Changes of one store, and of one table, follow one another. */
typedef struct change {
    const char *store;
    uint8_t kind;
    bool reset;
    const char *table;
    uint8_t type, table_reset;
    int op;
    const char *key, *value; /* VECTORS: two numbers */
} change;

typedef struct script {
    const change *changes;
    size_t n;
    pn_status fail; /* returned at the end */
} script;

#define DOC(op, key, value) {DOCS, PN_STORE_COLLECTIONS, false, "docstore/data", PN_TABLE_VALUES, 0, op, key, value}
#define NEW_DOC(op, key, value) {DOCS, PN_STORE_COLLECTIONS, true, "docstore/data", PN_TABLE_VALUES, 0, op, key, value}
#define NEW_REF(op, key, value) {DOCS, PN_STORE_COLLECTIONS, true, "docstore/ref", PN_TABLE_VALUES, 0, op, key, value}
#define ROW(op, key, value) {VECTORS, PN_STORE_VECTORS, false, "embedding_dict", PN_TABLE_VECTORS, 0, op, key, value}
#define NEW_ROW(op, key, value) {VECTORS, PN_STORE_VECTORS, true, "embedding_dict", PN_TABLE_VECTORS, 0, op, key, value}
#define NEW_ID(op, key, value) \
    {VECTORS, PN_STORE_VECTORS, true, "text_id_to_ref_doc_id", PN_TABLE_STRINGS, 0, op, key, value}
#define TEXT(value) {GRAPH, PN_STORE_TEXT, false, "", PN_TABLE_VALUES, 0, PN_ENTRY_PUT, "", value}
#define NEW_TEXT(value) {GRAPH, PN_STORE_TEXT, true, "", PN_TABLE_VALUES, 0, PN_ENTRY_PUT, "", value}
/* The graph as a table, instead of the text that it was. */
#define NEW_SUBJECT(key, value) {GRAPH, PN_STORE_COLLECTIONS, true, "graph_dict", PN_TABLE_VALUES, 1, PN_ENTRY_PUT, key, value}
#define SCRIPT(changes) {changes, sizeof(changes) / sizeof *(changes), PN_OK}

static inline pn_status emit_entry(const change *c, pn_segment_writer *w)
{
    float row[2] = {0, 0};
    if (c->op == PN_ENTRY_REMOVE) return pn_segment_remove(w, text(c->key));
    pn_entry_op op = (pn_entry_op)c->op;
    switch (c->type) {
    case PN_TABLE_VECTORS:
        CHECK_EQ_INT(sscanf(c->value, "%f %f", &row[0], &row[1]), 2);
        return pn_segment_put_row(w, op, text(c->key), 2, PN_ROW_F32, row);
    case PN_TABLE_STRINGS: return pn_segment_put_string(w, op, text(c->key), text(c->value));
    default: return pn_segment_put_value(w, op, text(c->key), PN_FORM_JSON, text(c->value));
    }
}

static inline pn_status emit_script(void *ctx, pn_segment_writer *w)
{
    const script *s = ctx;
    for (size_t i = 0; i < s->n; i++) {
        const change *c = &s->changes[i], *last = i > 0 ? c - 1 : NULL;
        bool same_store = last != NULL && strcmp(last->store, c->store) == 0;
        if (!same_store) PN_TRY(pn_segment_begin_store(w, text(c->store), (pn_store_kind)c->kind, c->reset));
        if (c->table == NULL) continue;
        bool same_table = same_store && last->table != NULL && strcmp(last->table, c->table) == 0;
        if (!same_table)
            PN_TRY(pn_segment_begin_table(w, text(c->table), (pn_table_type)c->type, (pn_table_reset)c->table_reset));
        if (c->op >= 0) PN_TRY(emit_entry(c, w));
    }
    return s->fail;
}

/* ---- what a pack holds ---- */

typedef struct tell_buf {
    char text[24000];
    size_t n;
} tell_buf;

static inline void tell(tell_buf *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    t->n += (size_t)vsnprintf(t->text + t->n, sizeof t->text - t->n, format, args);
    va_end(args);
    CHECK(t->n < sizeof t->text);
}

typedef struct model_entry {
    char key[16], value[1200];
} model_entry;

typedef struct model_table {
    char name[24];
    model_entry *entries;
    size_t n;
} model_table;

typedef struct model_store {
    char name[32];
    uint8_t kind;
    model_table tables[4];
    size_t n;
} model_store;

typedef struct model {
    model_store stores[6];
    size_t n;
} model;

static inline void copy_name(char *to, size_t room, pn_bytes b)
{
    CHECK(b.len < room);
    if (b.len >= room) b.len = room - 1;
    memcpy(to, b.ptr, b.len);
    to[b.len] = '\0';
}

static inline void model_empty_store(model_store *s)
{
    for (size_t i = 0; i < s->n; i++) free(s->tables[i].entries);
    s->n = 0;
}

static inline void model_remove(model_table *t, const char *key)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->entries[i].key, key) == 0) {
            memmove(&t->entries[i], &t->entries[i + 1], (t->n - i - 1) * sizeof *t->entries);
            t->n--;
            return;
        }
}

static inline void model_apply_entry(model_table *t, const pn_segment_table *from, const pn_segment_entry *e)
{
    model_entry fresh = {"", ""}, *at = NULL;
    copy_name(fresh.key, sizeof fresh.key, e->key);
    if (e->op != PN_ENTRY_PUT) model_remove(t, fresh.key);
    if (e->op == PN_ENTRY_REMOVE) return;
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->entries[i].key, fresh.key) == 0) at = &t->entries[i];
    if (at == NULL) {
        t->entries = realloc(t->entries, (t->n + 1) * sizeof *t->entries);
        at = &t->entries[t->n++];
    }
    if (from->type == PN_TABLE_VECTORS) {
        float row[2];
        CHECK(e->run->dim == 2 && pn_segment_check_run(e->run, NULL) == PN_OK);
        memcpy(row, e->row, sizeof row);
        snprintf(fresh.value, sizeof fresh.value, "%g %g", (double)row[0], (double)row[1]);
    } else {
        if (from->type == PN_TABLE_VALUES)
            CHECK_EQ_INT(pn_segment_check_value(&pn_alloc_system, (pn_value_form)e->form, e->value, e->crc, NULL), PN_OK);
        copy_name(fresh.value, sizeof fresh.value, e->value);
    }
    *at = fresh;
}

static inline void model_apply_table(model_store *s, const pn_segment_table *from)
{
    model_table *t = NULL;
    for (size_t i = 0; i < s->n; i++)
        if (pn_bytes_equal(text(s->tables[i].name), from->name)) t = &s->tables[i];
    if (t != NULL && (from->reset == PN_TABLE_DROPPED || from->reset == PN_TABLE_FRESH)) {
        free(t->entries);
        memmove(t, t + 1, (size_t)(&s->tables[s->n] - t - 1) * sizeof *t);
        s->n--;
        t = NULL;
    }
    if (from->reset == PN_TABLE_DROPPED) return;
    if (t == NULL) {
        t = &s->tables[s->n++];
        *t = (model_table){.entries = NULL};
        copy_name(t->name, sizeof t->name, from->name);
    }
    if (from->reset != PN_TABLE_KEEPS) t->n = 0;
    pn_segment_entry e = {0};
    while (pn_segment_next(from, &e)) model_apply_entry(t, from, &e);
}

static inline void model_apply(model *m, const pn_segment *segment)
{
    for (size_t i = 0; i < segment->store_count; i++) {
        const pn_segment_store *from = &segment->stores[i];
        model_store *s = NULL;
        for (size_t k = 0; k < m->n; k++)
            if (pn_bytes_equal(text(m->stores[k].name), from->name)) s = &m->stores[k];
        if (s == NULL) {
            s = &m->stores[m->n++];
            *s = (model_store){.n = 0};
            copy_name(s->name, sizeof s->name, from->name);
        }
        if (from->reset) model_empty_store(s);
        s->kind = from->kind;
        for (size_t k = 0; k < from->table_count; k++) model_apply_table(s, &from->tables[k]);
    }
}

static inline void tell_store(const model_store *s, tell_buf *out)
{
    tell(out, " [%s %d:", s->name, s->kind);
    for (size_t i = 0; i < s->n; i++) {
        tell(out, " %s{", s->tables[i].name);
        for (size_t k = 0; k < s->tables[i].n; k++)
            tell(out, "%s%s=%s", k ? ", " : "", s->tables[i].entries[k].key, s->tables[i].entries[k].value);
        tell(out, "}");
    }
    tell(out, "]");
}

/* The contents of one generation, stores in the manifest's order with their last change. */
static inline void tell_pack(const pn_pack *p, tell_buf *out)
{
    model m = {.n = 0};
    for (size_t i = 0; i < p->segment_count; i++) model_apply(&m, p->segments[i]);
    tell(out, "%llu", (unsigned long long)p->generation->number);
    for (size_t i = 0; i < p->generation->store_count; i++) {
        const pn_manifest_store *s = &p->generation->stores[i];
        tell(out, " @%llu", (unsigned long long)s->changed);
        for (size_t k = 0; k < m.n; k++)
            if (strcmp(m.stores[k].name, s->name) == 0) tell_store(&m.stores[k], out);
    }
    for (size_t i = 0; i < p->generation->foreign_count; i++) tell(out, " <%s>", p->generation->foreign[i].type);
    for (size_t i = 0; i < m.n; i++) model_empty_store(&m.stores[i]);
}

static inline void tell_json(const pn_vfs *vfs, const char *name, tell_buf *out)
{
    char path[PN_PATH_MAX];
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_path_join("/d", name, path), 0);
    pn_status status = pn_read_file(vfs, &pn_alloc_system, "/d", path, true, &b, NULL);
    if (status == PN_OK) tell(out, " %s=%.*s", name, (int)b.len, (const char *)b.data);
    else tell(out, " %s=none", name);
    pn_buf_clear(&b);
}

/* All that /d holds for a reader: every generation of the pack, or the JSON files. */
static inline void tell_dir(const pn_vfs *vfs, tell_buf *out)
{
    pn_manifest m;
    pn_file_error err = {0};
    out->n = 0;
    out->text[0] = '\0';
    pn_status status = pn_pack_manifest(vfs, &pn_alloc_system, "/d", &m, &err);
    if (status == PN_ERR_NOT_FOUND || (status == PN_OK && m.generation_count == 0)) {
        tell(out, "json:");
        tell_json(vfs, DOCS, out);
        tell_json(vfs, GRAPH, out);
    } else if (status != PN_OK) {
        tell(out, "%s: %s", err.path, err.base.what);
    }
    for (size_t i = 0; status == PN_OK && i < m.generation_count; i++) {
        pn_pack *p;
        tell(out, "%s", i ? "; " : "pack: ");
        pn_status opened = pn_pack_open(vfs, &pn_alloc_system, "/d", m.generations[i].number, PN_PACK_CHECK, &p, &err);
        if (opened == PN_OK) tell_pack(p, out);
        else tell(out, "%s: %s (%d)", err.path, err.base.what, err.base.sys);
        if (opened == PN_OK) pn_pack_close(p);
    }
    if (status == PN_OK) pn_manifest_clear(&m);
}

/* ---- writing one ---- */

enum { MAX_BASES = 6 };

/* The stores of /d as they are now, for a writer to build on. */
typedef struct bases {
    uint8_t id[16];
    char names[MAX_BASES][32];
    pn_pack_base list[MAX_BASES];
    size_t n;
} bases;

static inline void look_up_bases(const pn_vfs *vfs, bases *b)
{
    pn_manifest m;
    b->n = 0;
    if (pn_pack_manifest(vfs, &pn_alloc_system, "/d", &m, NULL) != PN_OK) return;
    memcpy(b->id, m.id, 16);
    const pn_generation *g = pn_manifest_current(&m);
    for (size_t i = 0; g != NULL && i < g->store_count && i < MAX_BASES; i++, b->n++) {
        snprintf(b->names[i], sizeof b->names[i], "%s", g->stores[i].name);
        b->list[i] = (pn_pack_base){b->names[i], b->id, g->stores[i].changed};
    }
    pn_manifest_clear(&m);
}

/* A commit of the script's changes, with those of the bases whose stores it does not reset. */
static inline pn_status commit_on(const pn_vfs *vfs, const pn_alloc *alloc, const bases *b, const script *s,
                                  uint32_t keep, pn_pack_result *result, pn_file_error *err)
{
    pn_pack_result ignored;
    pn_pack_base list[MAX_BASES];
    pn_pack_write w = {.emit = emit_script, .ctx = (void *)s, .bases = list, .keep = keep, .time = 1700000000000000000,
                       .note = "pid 4711 on host"};
    for (size_t i = 0; i < b->n; i++)
        for (size_t k = 0; k < s->n; k++)
            if (!s->changes[k].reset && strcmp(s->changes[k].store, b->names[i]) == 0) {
                list[w.base_count] = b->list[i];
                list[w.base_count++].store = b->names[i];
                break;
            }
    return pn_pack_commit(vfs, alloc, "/d", &w, result != NULL ? result : &ignored, err);
}

/* The same on what is there now; it must succeed. */
static inline void commit_now(const pn_vfs *vfs, const script *s, uint32_t keep)
{
    bases b;
    pn_file_error err = {0};
    look_up_bases(vfs, &b);
    pn_status status = commit_on(vfs, &pn_alloc_system, &b, s, keep, NULL, &err);
    if (status != PN_OK) fprintf(stderr, "commit: %s: %s (%d)\n", err.path, err.base.what, err.base.sys);
    CHECK_EQ_INT(status, PN_OK);
}

/* ---- files ---- */

typedef struct tidy_look {
    const pn_manifest *m;
    size_t segments, strange;
} tidy_look;

static inline bool tidy_name(void *arg, const char *name)
{
    tidy_look *t = arg;
    size_t n = strlen(name);
    if (strcmp(name, PN_MANIFEST_NAME) == 0 || (n > 5 && strcmp(name + n - 5, ".json") == 0)) return true;
    for (size_t i = 0; i < t->m->segment_count; i++)
        if (strcmp(t->m->segments[i].name, name) == 0) {
            t->segments++;
            return true;
        }
    t->strange++;
    return true;
}

/* Whether /d holds the manifest, the segments that it lists, JSON files, and nothing else. */
static inline bool is_tidy(const pn_vfs *vfs)
{
    pn_manifest m;
    pn_manifest_init(&m, &pn_alloc_system);
    pn_status status = pn_pack_manifest(vfs, &pn_alloc_system, "/d", &m, NULL);
    tidy_look t = {&m, 0, 0};
    int sys = vfs->list(vfs->ctx, "/d", tidy_name, &t);
    bool tidy = (status == PN_OK || status == PN_ERR_NOT_FOUND) && (sys == 0 || sys == ENOENT) && t.strange == 0 && t.segments == m.segment_count;
    pn_manifest_clear(&m);
    return tidy;
}

static inline size_t segments_of_current(const pn_vfs *vfs)
{
    pn_manifest m;
    if (pn_pack_manifest(vfs, &pn_alloc_system, "/d", &m, NULL) != PN_OK) return 0;
    const pn_generation *g = pn_manifest_current(&m);
    size_t n = g != NULL ? g->segment_count : 0;
    pn_manifest_clear(&m);
    return n;
}

static inline void put_retired(pn_memfs *fs)
{
    pn_manifest m;
    pn_buf b;
    pn_manifest_init(&m, &pn_alloc_system);
    pn_buf_init(&b, &pn_alloc_system);
    CHECK_EQ_INT(pn_manifest_write(&m, &b), PN_OK);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/MANIFEST", pn_buf_view(&b)), 0);
    pn_buf_clear(&b);
}

/* ---- looking ---- */

/* /d with a first commit, or (NULL) with nothing in it. */
static inline pn_memfs *make_pack(pn_vfs *vfs, const script *first)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    *vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(vfs->mkdir(fs, "/d"), 0);
    if (first != NULL) commit_now(vfs, first, 0);
    return fs;
}

static inline uint64_t number_now(const pn_vfs *vfs)
{
    pn_manifest m;
    if (pn_pack_manifest(vfs, &pn_alloc_system, "/d", &m, NULL) != PN_OK) return 0;
    const pn_generation *g = pn_manifest_current(&m);
    uint64_t number = g != NULL ? g->number : 0;
    pn_manifest_clear(&m);
    return number;
}

static inline size_t generations_now(const pn_vfs *vfs)
{
    pn_manifest m;
    if (pn_pack_manifest(vfs, &pn_alloc_system, "/d", &m, NULL) != PN_OK) return 0;
    size_t n = m.generation_count;
    pn_manifest_clear(&m);
    return n;
}

/* The path of the newest generation's segment at a position. */
static inline void segment_path(const pn_vfs *vfs, size_t at, char to[PN_PATH_MAX])
{
    pn_manifest m;
    CHECK_EQ_INT(pn_pack_manifest(vfs, &pn_alloc_system, "/d", &m, NULL), PN_OK);
    const pn_generation *g = pn_manifest_current(&m);
    CHECK(at < g->segment_count);
    CHECK_EQ_INT(pn_path_join("/d", m.segments[g->segments[at]].name, to), 0);
    pn_manifest_clear(&m);
}

static inline bool tells(const pn_vfs *vfs, const tell_buf *want)
{
    tell_buf t;
    tell_dir(vfs, &t);
    bool same = strcmp(t.text, want->text) == 0;
    if (!same) fprintf(stderr, "is   %s\nwant %s\n", t.text, want->text);
    return same;
}

static inline pn_status open_close(const pn_vfs *vfs, uint64_t generation, pn_file_error *err)
{
    pn_pack *p;
    *err = (pn_file_error){0};
    pn_status status = pn_pack_open(vfs, &pn_alloc_system, "/d", generation, PN_PACK_CHECK, &p, err);
    if (status == PN_OK) pn_pack_close(p);
    return status;
}

#endif
