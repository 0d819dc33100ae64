/* Merging segments: what comes out means what went in, held against a naive model that
 * applies segments in turn to lists; and nothing damaged gets through. */
#include "persist/merge.h"

#include "fail_alloc.h"
#include "rows_model.h"
#include "segment_make.h"

/* ---- segments in memory ---- */

/* A segment whose file the test may damage. */
typedef struct made {
    pn_buf file;
    pn_segment *s;
} made;

static void release_nothing(void *ctx, const uint8_t *p, size_t n) { (void)ctx, (void)p, (void)n; }

static pn_segment_writer *writer(pn_buf *to)
{
    pn_segment_writer *w = NULL;
    pn_buf_init(to, &pn_alloc_system);
    CHECK_EQ_INT(pn_segment_writer_new(&pn_alloc_system, segment_sink, to, &w), PN_OK);
    return w;
}

static bool open_file(made *m)
{
    pn_blob *blob = NULL;
    pn_error e = {PN_OK, 0, 0, NULL};
    m->s = NULL;
    CHECK_EQ_INT(pn_blob_wrap(&pn_alloc_system, m->file.data, m->file.len, release_nothing, NULL, NULL, &blob), PN_OK);
    CHECK_EQ_INT(pn_segment_open(&pn_alloc_system, blob, &m->s, &e), PN_OK);
    pn_blob_unref(blob);
    return m->s != NULL;
}

static void finish(pn_segment_writer *w, made *m)
{
    uint64_t size;
    uint32_t crc;
    CHECK_EQ_INT(pn_segment_finish(w, &size, &crc), PN_OK);
    pn_segment_writer_free(w);
    open_file(m);
}

static void made_clear(made *m)
{
    pn_segment_close(m->s);
    pn_buf_clear(&m->file);
    m->s = NULL;
}

enum { MOST = 8 };

static pn_status merge(const made *m, size_t n, bool bottom, made *out, size_t *bad, pn_error *err)
{
    pn_segment *list[MOST];
    for (size_t i = 0; i < n; i++) list[i] = m[i].s;
    pn_segment_writer *w = writer(&out->file);
    pn_status s = pn_segment_merge(&pn_alloc_system, list, n, bottom, w, bad, err);
    out->s = NULL;
    if (s == PN_OK)
        finish(w, out);
    else
        pn_segment_writer_free(w);
    return s;
}

/* ---- the model ---- */

enum { MODEL_KEYS = 32, MODEL_TABLES = 6, MODEL_STORES = 4 };

typedef struct model_entry {
    char key[16];
    pn_buf value; /* of VALUES: the form, then the bytes; of VECTORS: dimension, encoding, bytes */
} model_entry;

typedef struct model_table {
    char name[32];
    uint8_t type;
    size_t n;
    model_entry entries[MODEL_KEYS];
} model_table;

typedef struct model_store {
    char name[16];
    uint8_t kind;
    size_t n;
    model_table tables[MODEL_TABLES];
} model_store;

typedef struct model {
    size_t n;
    model_store stores[MODEL_STORES];
} model;

static bool named(const char *a, pn_bytes b) { return strlen(a) == b.len && memcmp(a, b.ptr, b.len) == 0; }
static void name_it(char *to, size_t cap, pn_bytes name)
{
    CHECK(name.len < cap);
    memcpy(to, name.ptr, name.len);
    to[name.len] = 0;
}

static void entry_remove(model_table *t, size_t i)
{
    pn_buf_clear(&t->entries[i].value);
    memmove(&t->entries[i], &t->entries[i + 1], (t->n - i - 1) * sizeof(model_entry));
    t->n--;
}

static void table_empty(model_table *t)
{
    while (t->n) entry_remove(t, t->n - 1);
}

static void table_remove(model_store *s, size_t i)
{
    table_empty(&s->tables[i]);
    memmove(&s->tables[i], &s->tables[i + 1], (s->n - i - 1) * sizeof(model_table));
    s->n--;
}

static void store_empty(model_store *s)
{
    while (s->n) table_remove(s, s->n - 1);
}

static void model_clear(model *m)
{
    for (size_t i = 0; i < m->n; i++) store_empty(&m->stores[i]);
    m->n = 0;
}

static size_t entry_find(const model_table *t, pn_bytes key)
{
    size_t i = 0;
    while (i < t->n && !named(t->entries[i].key, key)) i++;
    return i;
}

static size_t table_find(const model_store *s, pn_bytes name)
{
    size_t i = 0;
    while (i < s->n && !named(s->tables[i].name, name)) i++;
    return i;
}

static size_t store_find(const model *m, pn_bytes name)
{
    size_t i = 0;
    while (i < m->n && !named(m->stores[i].name, name)) i++;
    return i;
}

/* The value in place of what is there; a change is applied to it. */
static void set_value(const pn_segment_entry *e, uint8_t type, pn_buf *value)
{
    pn_buf old = *value;
    pn_rows base, change;
    pn_buf_init(value, &pn_alloc_system);
    if (type == PN_TABLE_VECTORS) {
        uint8_t head[9];
        pn_put_u64(head, e->run->dim);
        head[8] = (uint8_t)e->run->encoding;
        CHECK_EQ_INT(pn_buf_append(value, head, sizeof head), PN_OK);
        CHECK_EQ_INT(pn_buf_append(value, e->row, e->run->dim * 4 * e->run->encoding), PN_OK);
    } else if (e->form == PN_FORM_CHANGE) {
        CHECK(old.len > 0 && old.data[0] == PN_FORM_STRUCT);
        CHECK_EQ_INT(pn_buf_push(value, PN_FORM_STRUCT), PN_OK);
        CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, (pn_bytes){old.data + 1, old.len - 1}, false, &base, NULL), PN_OK);
        CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, e->value, true, &change, NULL), PN_OK);
        CHECK_EQ_INT(pn_rows_apply(&base, &change, value, NULL), PN_OK);
        pn_rows_clear(&base);
        pn_rows_clear(&change);
    } else {
        if (type == PN_TABLE_VALUES) CHECK_EQ_INT(pn_buf_push(value, e->form), PN_OK);
        CHECK_EQ_INT(pn_buf_append(value, e->value.ptr, e->value.len), PN_OK);
    }
    pn_buf_clear(&old);
}

static void apply_entry(model_table *t, const pn_segment_entry *e)
{
    size_t i = entry_find(t, e->key);
    if (e->op != PN_ENTRY_PUT && i < t->n) {
        entry_remove(t, i);
        i = t->n;
    }
    if (e->op == PN_ENTRY_REMOVE) return;
    if (i == t->n) {
        CHECK(t->n < MODEL_KEYS);
        name_it(t->entries[i].key, sizeof t->entries[i].key, e->key);
        pn_buf_init(&t->entries[i].value, &pn_alloc_system);
        t->n++;
    }
    set_value(e, t->type, &t->entries[i].value);
}

static void apply_table(model_store *s, const pn_segment_table *from)
{
    size_t i = table_find(s, from->name);
    if (i < s->n && (from->reset == PN_TABLE_DROPPED || from->reset == PN_TABLE_FRESH)) {
        table_remove(s, i);
        i = s->n;
    }
    if (from->reset == PN_TABLE_DROPPED) return;
    if (i == s->n) {
        CHECK(s->n < MODEL_TABLES);
        s->tables[i].n = 0;
        name_it(s->tables[i].name, sizeof s->tables[i].name, from->name);
        s->tables[i].type = from->type;
        s->n++;
    }
    if (from->reset == PN_TABLE_EMPTIED) table_empty(&s->tables[i]);
    CHECK_EQ_INT(s->tables[i].type, from->type);
    pn_segment_entry e = {0};
    while (pn_segment_next(from, &e)) apply_entry(&s->tables[i], &e);
}

static void apply_segment(model *m, const pn_segment *from)
{
    for (size_t k = 0; k < from->store_count; k++) {
        const pn_segment_store *store = &from->stores[k];
        size_t i = store_find(m, store->name);
        if (i == m->n) {
            CHECK(m->n < MODEL_STORES);
            m->stores[i].n = 0;
            name_it(m->stores[i].name, sizeof m->stores[i].name, store->name);
            m->stores[i].kind = store->kind;
            m->n++;
        }
        if (store->reset) {
            store_empty(&m->stores[i]);
            m->stores[i].kind = store->kind;
        }
        CHECK_EQ_INT(m->stores[i].kind, store->kind);
        for (size_t t = 0; t < store->table_count; t++) apply_table(&m->stores[i], &store->tables[t]);
    }
}

static void apply_all(model *m, const made *from, size_t n)
{
    for (size_t i = 0; i < n; i++) apply_segment(m, from[i].s);
}

static bool same_table(const model_table *a, const model_table *b)
{
    if (strcmp(a->name, b->name) != 0 || a->type != b->type || a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        if (strcmp(a->entries[i].key, b->entries[i].key) != 0) return false;
        if (!pn_bytes_equal(pn_buf_view(&a->entries[i].value), pn_buf_view(&b->entries[i].value))) return false;
    }
    return true;
}

static bool same_model(const model *a, const model *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const model_store *s = &a->stores[i], *t = &b->stores[i];
        if (strcmp(s->name, t->name) != 0 || s->kind != t->kind || s->n != t->n) return false;
        for (size_t k = 0; k < s->n; k++)
            if (!same_table(&s->tables[k], &t->tables[k])) return false;
    }
    return true;
}

/* ---- random segments ---- */

static void struct_from(pn_bytes bytes, struct_model *out)
{
    pn_rows r;
    CHECK_EQ_INT(pn_rows_read(&pn_alloc_system, bytes, false, &r, NULL), PN_OK);
    CHECK_EQ_INT(r.count, MODEL_COLUMNS);
    for (size_t k = 0; k < r.count; k++) {
        const pn_rows_piece *p = r.columns[k].pieces;
        const uint8_t *at = p->text.ptr;
        out->columns[k].n = p->count;
        for (size_t i = 0; i < p->count; i++) {
            size_t n = pn_get_u32(p->lens + 4 * i);
            name_it(out->columns[k].rows[i], 16, (pn_bytes){at, n});
            at += n + 2;
        }
    }
    pn_rows_clear(&r);
}

static void emit_struct(pn_segment_writer *w, uint64_t *rnd, pn_entry_op op, pn_bytes key)
{
    struct_model m;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    random_struct(&m, rnd);
    write_struct(&m, &b);
    CHECK_EQ_INT(pn_segment_put_value(w, op, key, PN_FORM_STRUCT, pn_buf_view(&b)), PN_OK);
    pn_buf_clear(&b);
}

static void emit_change(pn_segment_writer *w, uint64_t *rnd, pn_bytes key, const pn_buf *old)
{
    struct_model m;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    struct_from((pn_bytes){old->data + 1, old->len - 1}, &m);
    write_change(&m, rnd, &b);
    CHECK_EQ_INT(pn_segment_put_value(w, PN_ENTRY_PUT, key, PN_FORM_CHANGE, pn_buf_view(&b)), PN_OK);
    pn_buf_clear(&b);
}

/* old: what the key has, or NULL. */
static void emit_value(pn_segment_writer *w, uint64_t *rnd, pn_entry_op op, pn_bytes key, const pn_buf *old)
{
    char json[16];
    uint8_t mpack = (uint8_t)random_below(rnd, 100);
    if (old != NULL && old->data[0] == PN_FORM_STRUCT && random_below(rnd, 4)) {
        emit_change(w, rnd, key, old);
        return;
    }
    snprintf(json, sizeof json, "%u", (unsigned)random_below(rnd, 1000));
    switch (random_below(rnd, 4)) {
    case 0: CHECK_EQ_INT(pn_segment_put_value(w, op, key, PN_FORM_JSON, segment_text(json)), PN_OK); break;
    case 1: CHECK_EQ_INT(pn_segment_put_value(w, op, key, PN_FORM_MPACK, (pn_bytes){&mpack, 1}), PN_OK); break;
    default: emit_struct(w, rnd, op, key); break;
    }
}

static void emit_row(pn_segment_writer *w, uint64_t *rnd, pn_entry_op op, pn_bytes key)
{
    double row[20];
    float single[20];
    size_t dim = random_below(rnd, 3) * 9;
    for (size_t i = 0; i < dim; i++) row[i] = single[i] = (float)random_below(rnd, 1000);
    if (random_below(rnd, 3))
        CHECK_EQ_INT(pn_segment_put_row(w, op, key, dim, PN_ROW_F32, single), PN_OK);
    else
        CHECK_EQ_INT(pn_segment_put_row(w, op, key, dim, PN_ROW_F64, row), PN_OK);
}

static void emit_string(pn_segment_writer *w, uint64_t *rnd, pn_entry_op op, pn_bytes key)
{
    char text[16];
    snprintf(text, sizeof text, "doc%u", (unsigned)random_below(rnd, 4));
    CHECK_EQ_INT(pn_segment_put_string(w, op, key, segment_text(random_below(rnd, 5) ? text : "")), PN_OK);
}

static void emit_entry(pn_segment_writer *w, uint64_t *rnd, uint8_t type, pn_bytes key, const pn_buf *old)
{
    pn_entry_op op = random_below(rnd, 4) ? PN_ENTRY_PUT : PN_ENTRY_FRESH;
    if (random_below(rnd, 4) == 0)
        CHECK_EQ_INT(pn_segment_remove(w, key), PN_OK);
    else if (type == PN_TABLE_VALUES)
        emit_value(w, rnd, op, key, old);
    else if (type == PN_TABLE_VECTORS)
        emit_row(w, rnd, op, key);
    else
        emit_string(w, rnd, op, key);
}

/* Some of eight keys, each once, in a random order. before: the table as it was, or NULL. */
static void emit_entries(pn_segment_writer *w, uint64_t *rnd, uint8_t type, const model_table *before)
{
    enum { KEYS = 8 };
    size_t step = 1 + 2 * random_below(rnd, KEYS / 2), at = random_below(rnd, KEYS);
    for (size_t n = random_below(rnd, KEYS); n > 0; n--) {
        char key[16];
        at = (at + step) % KEYS;
        snprintf(key, sizeof key, "%s%u", at == 0 ? "a longer key " : "k", (unsigned)at);
        size_t i = before ? entry_find(before, segment_text(key)) : 0;
        emit_entry(w, rnd, type, segment_text(key), before && i < before->n ? &before->entries[i].value : NULL);
    }
}

static const char *const table_names[2][3] = {{"data", "metadata", "ref_doc_info"},
                                              {"embedding_dict", "text_id_to_ref_doc_id", "metadata_dict"}};
static const pn_table_type vector_types[3] = {PN_TABLE_VECTORS, PN_TABLE_STRINGS, PN_TABLE_VALUES};

/* before: the store as it was, or NULL. */
static void emit_tables(pn_segment_writer *w, uint64_t *rnd, pn_store_kind kind, const model_store *before)
{
    size_t step = 1 + random_below(rnd, 2), at = random_below(rnd, 3);
    for (size_t n = 1 + random_below(rnd, 3); n > 0; n--) {
        at = (at + step) % 3;
        pn_bytes name = segment_text(table_names[kind == PN_STORE_VECTORS][at]);
        pn_table_type type = kind == PN_STORE_VECTORS ? vector_types[at] : PN_TABLE_VALUES;
        pn_table_reset reset = random_below(rnd, 4) ? PN_TABLE_KEEPS : (pn_table_reset)(1 + random_below(rnd, 3));
        size_t i = before ? table_find(before, name) : 0;
        CHECK_EQ_INT(pn_segment_begin_table(w, name, type, reset), PN_OK);
        if (reset == PN_TABLE_DROPPED) continue;
        bool keeps = reset == PN_TABLE_KEEPS && before && i < before->n;
        emit_entries(w, rnd, (uint8_t)type, keeps ? &before->tables[i] : NULL);
    }
}

static void emit_text(pn_segment_writer *w, uint64_t *rnd)
{
    pn_bytes none = segment_text("");
    CHECK_EQ_INT(pn_segment_begin_table(w, none, PN_TABLE_VALUES, PN_TABLE_KEEPS), PN_OK);
    if (random_below(rnd, 8) == 0)
        CHECK_EQ_INT(pn_segment_remove(w, none), PN_OK);
    else
        emit_value(w, rnd, random_below(rnd, 2) ? PN_ENTRY_PUT : PN_ENTRY_FRESH, none, NULL);
}

/* Stores a and b are collections and vectors; c is anything, another thing after each reset. */
static void emit_store(pn_segment_writer *w, uint64_t *rnd, const char *name, const model *before)
{
    pn_bytes n = segment_text(name);
    size_t i = store_find(before, n);
    bool there = i < before->n, reset = random_below(rnd, 8) == 0;
    pn_store_kind kind = *name == 'a' ? PN_STORE_COLLECTIONS : *name == 'b' ? PN_STORE_VECTORS : PN_STORE_TEXT;
    if (*name == 'c') kind = (pn_store_kind)(there && !reset ? before->stores[i].kind : 1 + random_below(rnd, 3));
    CHECK_EQ_INT(pn_segment_begin_store(w, n, kind, reset), PN_OK);
    if (random_below(rnd, 8) == 0) return; /* without any table */
    if (kind == PN_STORE_TEXT)
        emit_text(w, rnd);
    else
        emit_tables(w, rnd, kind, there && !reset ? &before->stores[i] : NULL);
}

static void random_segment(uint64_t *rnd, const model *before, made *out)
{
    static const char *const names[] = {"a", "b", "c"};
    pn_segment_writer *w = writer(&out->file);
    size_t first = random_below(rnd, 3);
    for (size_t i = 0; i < 3; i++)
        if (random_below(rnd, 4)) emit_store(w, rnd, names[(first + i) % 3], before);
    finish(w, out);
}

/* ---- merging keeps the meaning ---- */

/* With nothing older there is nothing to remove, to reset or to change. */
static void check_bottom(const pn_segment *s)
{
    for (size_t i = 0; i < s->store_count; i++) {
        CHECK(!s->stores[i].reset);
        for (size_t k = 0; k < s->stores[i].table_count; k++) {
            const pn_segment_table *t = &s->stores[i].tables[k];
            pn_segment_entry e = {0};
            CHECK_EQ_INT(t->reset, PN_TABLE_KEEPS);
            while (pn_segment_next(t, &e)) CHECK(e.op == PN_ENTRY_PUT && e.form != PN_FORM_CHANGE);
        }
    }
}

/* segments[from, to) merged mean the same, whatever stands around them. */
static bool check_slice(const made *m, size_t n, size_t from, size_t to, const model *want)
{
    static model got;
    made merged;
    pn_error e = {PN_OK, 0, 0, NULL};
    size_t bad;
    CHECK_EQ_INT(merge(m + from, to - from, from == 0, &merged, &bad, &e), PN_OK);
    if (merged.s == NULL) return false;
    CHECK_EQ_INT(pn_segment_check(merged.s, &e), PN_OK);
    if (from == 0) check_bottom(merged.s);
    apply_all(&got, m, from);
    apply_segment(&got, merged.s);
    apply_all(&got, m + to, n - to);
    bool same = same_model(&got, want);
    model_clear(&got);
    made_clear(&merged);
    return same;
}

static void one_sequence(uint64_t seed)
{
    static model now;
    made m[MOST];
    uint64_t rnd = seed;
    size_t n = 2 + random_below(&rnd, 5);
    for (size_t i = 0; i < n; i++) {
        random_segment(&rnd, &now, &m[i]);
        apply_segment(&now, m[i].s);
    }
    bool same = true;
    for (size_t from = 0; from < n; from++)
        for (size_t to = from + 1; to <= n; to++) same &= check_slice(m, n, from, to, &now);
    CHECK(same);
    if (!same) fprintf(stderr, "  seed %llu\n", (unsigned long long)seed);
    model_clear(&now);
    for (size_t i = 0; i < n; i++) made_clear(&m[i]);
}

static void test_merge_means_the_same_as_its_segments(void)
{
    const char *rounds = getenv("PANNIER_MERGE_ROUNDS");
    uint64_t n = rounds ? strtoull(rounds, NULL, 10) : 3000;
    for (uint64_t seed = 1; seed <= n && check_failures < 20; seed++) one_sequence(seed);
}

/* The first segments merged as if there were older ones: it says more than it must. */
static void test_merge_of_the_first_segments_needs_no_bottom(void)
{
    static model now, got;
    made m[3], merged;
    size_t bad;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t rnd = seed;
        for (int i = 0; i < 3; i++) {
            random_segment(&rnd, &now, &m[i]);
            apply_segment(&now, m[i].s);
        }
        CHECK_EQ_INT(merge(m, 3, false, &merged, &bad, NULL), PN_OK);
        apply_segment(&got, merged.s);
        CHECK(same_model(&got, &now));
        model_clear(&now);
        model_clear(&got);
        made_clear(&merged);
        for (int i = 0; i < 3; i++) made_clear(&m[i]);
    }
}

/* ---- each rule by itself ---- */

/* A segment in words: "fresh k=v" and the like. */
static void say(pn_buf *out, const char *text) { CHECK_EQ_INT(pn_buf_append(out, text, strlen(text)), PN_OK); }
static void say_bytes(pn_buf *out, pn_bytes b) { CHECK_EQ_INT(pn_buf_append(out, b.ptr, b.len), PN_OK); }

static void say_table(pn_buf *out, const pn_segment_table *t)
{
    static const char *const resets[] = {"", " emptied", " dropped", " anew"};
    static const char *const ops[] = {"", "fresh ", "remove "};
    pn_segment_entry e = {0};
    say_bytes(out, t->name);
    say(out, resets[t->reset]);
    say(out, ":");
    while (pn_segment_next(t, &e)) {
        say(out, e.i ? ", " : " ");
        say(out, ops[e.op]);
        say_bytes(out, e.key);
        if (e.op == PN_ENTRY_REMOVE) continue;
        say(out, "=");
        say_bytes(out, e.value);
    }
}

static void say_segment(pn_buf *out, const pn_segment *s)
{
    for (size_t i = 0; i < s->store_count; i++) {
        say(out, i ? " | " : "");
        say_bytes(out, s->stores[i].name);
        say(out, s->stores[i].reset ? " reset {" : " {");
        for (size_t k = 0; k < s->stores[i].table_count; k++) {
            say(out, k ? "; " : "");
            say_table(out, &s->stores[i].tables[k]);
        }
        say(out, "}");
    }
}

/* Writes collections from words: "!s" a store with reset, "@s" one without; "t/k" a table that
 * is kept, t/e emptied, t/d dropped, t/a anew; "+k=1" put, "*k=1" fresh, "-k" remove. */
static pn_status write_word(pn_segment_writer *w, const char *word)
{
    pn_bytes rest = segment_text(word + 1), value = {NULL, 0};
    const char *equals = strchr(word, '=');
    if (equals != NULL) {
        value = segment_text(equals + 1);
        rest.len = (size_t)(equals - word) - 1;
    }
    switch (*word) {
    case '!': return pn_segment_begin_store(w, rest, PN_STORE_COLLECTIONS, true);
    case '@': return pn_segment_begin_store(w, rest, PN_STORE_COLLECTIONS, false);
    case '+': return pn_segment_put_value(w, PN_ENTRY_PUT, rest, PN_FORM_JSON, value);
    case '*': return pn_segment_put_value(w, PN_ENTRY_FRESH, rest, PN_FORM_JSON, value);
    case '-': return pn_segment_remove(w, rest);
    default: break;
    }
    pn_table_reset reset = (pn_table_reset)(strchr("keda", word[2]) - "keda");
    return pn_segment_begin_table(w, (pn_bytes){(const uint8_t *)word, 1}, PN_TABLE_VALUES, reset);
}

static void write_words(const char *words, made *out)
{
    char word[16];
    int used;
    pn_segment_writer *w = writer(&out->file);
    for (; sscanf(words, " %15s%n", word, &used) == 1; words += used) CHECK_EQ_INT(write_word(w, word), PN_OK);
    finish(w, out);
}

static void merges_to(bool bottom, const char *first, const char *second, const char *want)
{
    made m[2], merged;
    pn_buf words;
    size_t bad;
    pn_buf_init(&words, &pn_alloc_system);
    write_words(first, &m[0]);
    write_words(second, &m[1]);
    CHECK_EQ_INT(merge(m, 2, bottom, &merged, &bad, NULL), PN_OK);
    if (merged.s != NULL) say_segment(&words, merged.s);
    CHECK_TEXT(pn_buf_view(&words), want);
    pn_buf_clear(&words);
    made_clear(&merged);
    made_clear(&m[0]);
    made_clear(&m[1]);
}

static void test_merge_entries(void)
{
    merges_to(false, "@s t/k +a=1 +b=2", "@s t/k +a=3", "s {t: a=3, b=2}");
    merges_to(false, "@s t/k +a=1 +b=2", "@s t/k -a", "s {t: remove a, b=2}");
    merges_to(false, "@s t/k -a +b=2", "@s t/k +a=3", "s {t: b=2, fresh a=3}");
    merges_to(false, "@s t/k +a=1 +b=2", "@s t/k *a=3", "s {t: b=2, fresh a=3}");
    merges_to(false, "@s t/k *a=1 +b=2", "@s t/k +a=3", "s {t: fresh a=3, b=2}");
    merges_to(false, "@s t/k *a=1", "@s t/k -a", "s {t: remove a}");
    merges_to(false, "@s t/k -a", "@s t/k -a", "s {t: remove a}");
    merges_to(true, "@s t/k +a=1 +b=2", "@s t/k -a", "s {t: b=2}");
    merges_to(true, "@s t/k -a +b=2", "@s t/k +a=3", "s {t: b=2, a=3}");
    merges_to(true, "@s t/k *a=1 +b=2", "@s t/k +a=3", "s {t: a=3, b=2}");
    merges_to(true, "@s t/k +a=1 +b=2", "@s t/k *a=3", "s {t: b=2, a=3}");
    merges_to(true, "@s t/k -a", "@s t/k -a", "s {t:}");
}

static void test_merge_tables(void)
{
    merges_to(false, "@s t/k +a=1", "@s t/e +b=2", "s {t emptied: b=2}");
    merges_to(false, "@s t/e +a=1 +b=2", "@s t/k -a *b=3", "s {t emptied: b=3}");
    merges_to(false, "@s t/k +a=1", "@s t/d", "s {t dropped:}");
    merges_to(false, "@s t/d u/k", "@s t/k -a +b=1", "s {u:; t anew: b=1}");
    merges_to(false, "@s t/d u/k", "@s t/e", "s {u:; t anew:}");
    merges_to(false, "@s t/k +a=1 u/k", "@s t/a +b=1", "s {u:; t anew: b=1}");
    merges_to(false, "@s t/a +a=1 u/k", "@s t/k *b=1", "s {t anew: a=1, b=1; u:}");
    merges_to(false, "@s t/a +a=1 u/k", "@s t/e +b=1", "s {t anew: b=1; u:}");
    merges_to(false, "@s t/a u/k", "@s t/d", "s {t dropped:; u:}");
    merges_to(true, "@s t/k +a=1", "@s t/d", "s {}");
    merges_to(true, "@s t/d u/k", "@s t/k +a=1", "s {u:; t: a=1}");
    merges_to(true, "@s t/k u/k", "@s t/a", "s {u:; t:}");
    merges_to(true, "@s t/e +a=1", "@s u/e", "s {t: a=1; u:}");
}

static void test_merge_stores(void)
{
    merges_to(false, "@s t/k +a=1", "!s u/k +b=1", "s reset {u: b=1}");
    merges_to(false, "!s t/k -a *b=1", "@s t/k -b u/d v/e", "s reset {t:; v:}");
    merges_to(false, "@s", "@r @s t/k", "s {t:} | r {}");
    merges_to(true, "!s t/k *a=1", "!r", "s {t: a=1} | r {}");
    merges_to(true, "", "", "");
}

/* ---- damage ---- */

static void refused(made m[2], bool bottom, size_t bad_one, const char *what)
{
    made merged;
    size_t bad = 99;
    pn_error e = {PN_OK, 0, 0, NULL};
    CHECK_EQ_INT(merge(m, 2, bottom, &merged, &bad, &e), PN_ERR_CORRUPT);
    CHECK_EQ_INT(bad, bad_one);
    CHECK_EQ_STR(e.what ? e.what : "", what);
    if (bad < 2) CHECK(e.offset > 0 && e.offset < m[bad].file.len);
    made_clear(&merged);
    made_clear(&m[0]);
    made_clear(&m[1]);
}

/* A store s with a table t with one change, of a struct that `of` is one of. */
static void write_a_change(const struct_model *of, made *out)
{
    uint64_t rnd = 5;
    struct_model m = *of;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    pn_segment_writer *w = writer(&out->file);
    write_change(&m, &rnd, &b);
    CHECK_EQ_INT(write_word(w, "@s"), PN_OK);
    CHECK_EQ_INT(write_word(w, "t/k"), PN_OK);
    CHECK_EQ_INT(pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("a"), PN_FORM_CHANGE, pn_buf_view(&b)), PN_OK);
    pn_buf_clear(&b);
    finish(w, out);
}

static void write_a_struct(struct_model *of, made *out)
{
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    pn_segment_writer *w = writer(&out->file);
    write_struct(of, &b);
    CHECK_EQ_INT(write_word(w, "@s"), PN_OK);
    CHECK_EQ_INT(write_word(w, "t/k"), PN_OK);
    CHECK_EQ_INT(pn_segment_put_value(w, PN_ENTRY_PUT, PN_BYTES("a"), PN_FORM_STRUCT, pn_buf_view(&b)), PN_OK);
    pn_buf_clear(&b);
    finish(w, out);
}

static void test_merge_changes_of_nothing(void)
{
    static const char *const before[] = {"@s t/k", "@s t/k -a", "!s", "@s t/k +b=1"};
    struct_model model;
    made m[2];
    uint64_t rnd = 6;
    random_struct(&model, &rnd);
    for (size_t i = 0; i < 4; i++) {
        write_words(before[i], &m[0]);
        write_a_change(&model, &m[1]);
        refused(m, i == 0 || i == 3, 1, "a change of a value that is not there");
    }
    write_words("@s t/k +a=1", &m[0]);
    write_a_change(&model, &m[1]);
    refused(m, false, 1, "a change of a value that is no struct");
    write_a_struct(&model, &m[0]);
    model.columns[1].n++;
    write_a_change(&model, &m[1]);
    refused(m, false, 1, "a change of another number of rows");
}

/* What older segments may have stays as it is: a change. */
static void test_merge_keeps_a_change_of_what_is_older(void)
{
    struct_model model;
    made m[2], merged;
    uint64_t rnd = 6;
    size_t bad;
    random_struct(&model, &rnd);
    write_words("@s t/k +b=1", &m[0]);
    write_a_change(&model, &m[1]);
    CHECK_EQ_INT(merge(m, 2, false, &merged, &bad, NULL), PN_OK);
    pn_segment_entry e = {0};
    CHECK(pn_segment_next(&merged.s->stores[0].tables[0], &e));
    CHECK(pn_segment_next(&merged.s->stores[0].tables[0], &e));
    CHECK_EQ_INT(e.op, PN_ENTRY_PUT);
    CHECK_EQ_INT(e.form, PN_FORM_CHANGE);
    made_clear(&merged);
    made_clear(&m[0]);
    made_clear(&m[1]);
}

static void test_merge_of_what_cannot_be(void)
{
    made m[2];
    write_words("@s t/k +a=1", &m[0]);
    write_words("@s t/k +b=1 +b=2", &m[1]);
    refused(m, false, 1, "a key occurs twice in a table");
    pn_segment_writer *w = writer(&m[0].file);
    CHECK_EQ_INT(pn_segment_begin_store(w, PN_BYTES("s"), PN_STORE_TEXT, false), PN_OK);
    finish(w, &m[0]);
    write_words("@s t/k +b=1", &m[1]);
    refused(m, true, 1, "a store of another kind than before");
    pn_segment *list[1] = {NULL};
    CHECK_EQ_INT(pn_segment_merge(&pn_alloc_system, list, 1 << 16, true, NULL, NULL, NULL), PN_ERR_INVALID);
}

/* Segments with everything in them, and a big value below others. */
static void some_segments(made m[4])
{
    static model now;
    uint64_t rnd = 4713;
    for (int i = 0; i < 4; i++) {
        random_segment(&rnd, &now, &m[i]);
        apply_segment(&now, m[i].s);
    }
    model_clear(&now);
}

/* Whether a byte is of a value or a row, which opening does not look at. */
static bool is_unchecked(const pn_segment *s, const uint8_t *p)
{
    for (size_t i = 0; i < s->store_count; i++)
        for (size_t k = 0; k < s->stores[i].table_count; k++) {
            const pn_segment_table *t = &s->stores[i].tables[k];
            pn_segment_entry e = {0};
            while (t->type == PN_TABLE_VALUES && pn_segment_next(t, &e))
                if (p >= e.value.ptr && p < e.value.ptr + e.value.len) return true;
            for (size_t r = 0; r < t->run_count; r++)
                if (p >= t->runs[r].data && p < t->runs[r].data + t->runs[r].rows * t->runs[r].row_size) return true;
        }
    return false;
}

/* Any byte changed after the segments were opened: either it was not needed, and the result
 * is what it would have been, or the merge says which segment is damaged. */
static void test_merge_lets_no_damage_through(void)
{
    made m[4], sound, merged;
    size_t bad, refusals = 0;
    some_segments(m);
    CHECK_EQ_INT(merge(m, 4, false, &sound, &bad, NULL), PN_OK);
    for (size_t i = 0; i < 4; i++) {
        for (size_t at = PN_SEGMENT_TAIL; at < m[i].file.len; at++) {
            uint8_t *byte = &m[i].file.data[at], was = *byte;
            if (!is_unchecked(m[i].s, byte)) continue;
            pn_error e = {PN_OK, 0, 0, NULL};
            *byte ^= (uint8_t)(1 << at % 8);
            bad = 99;
            pn_status s = merge(m, 4, false, &merged, &bad, &e);
            if (s == PN_ERR_CORRUPT)
                CHECK(bad == i && e.offset <= at && e.what != NULL);
            else
                CHECK(s == PN_OK && pn_bytes_equal(pn_buf_view(&merged.file), pn_buf_view(&sound.file)));
            refusals += s == PN_ERR_CORRUPT;
            made_clear(&merged);
            *byte = was;
        }
    }
    CHECK(refusals > 500);
    made_clear(&sound);
    for (int i = 0; i < 4; i++) made_clear(&m[i]);
}

/* ---- failures around it ---- */

static pn_status merge_with(const pn_alloc *alloc, const made *m, pn_buf *want)
{
    pn_segment *list[4] = {m[0].s, m[1].s, m[2].s, m[3].s};
    pn_segment_writer *w;
    pn_buf out;
    uint64_t size;
    uint32_t crc;
    size_t bad;
    pn_error e;
    pn_buf_init(&out, alloc);
    PN_TRY(pn_segment_writer_new(alloc, segment_sink, &out, &w));
    pn_status s = pn_segment_merge(alloc, list, 4, true, w, &bad, &e);
    if (s == PN_OK) s = pn_segment_finish(w, &size, &crc);
    if (s == PN_OK) CHECK(pn_bytes_equal(pn_buf_view(&out), pn_buf_view(want)));
    pn_segment_writer_free(w);
    pn_buf_clear(&out);
    return s;
}

static void test_merge_survives_oom(void)
{
    made m[4], merged;
    pn_status s;
    size_t bad;
    some_segments(m);
    CHECK_EQ_INT(merge(m, 4, true, &merged, &bad, NULL), PN_OK);
    EACH_ALLOCATION_FAILED(f, s, s = merge_with(&f.alloc, m, &merged.file));
    made_clear(&merged);
    for (int i = 0; i < 4; i++) made_clear(&m[i]);
}

typedef struct failing_sink {
    int calls, fail_at;
} failing_sink;

static pn_status fail_to_sink(void *ctx, pn_bytes b)
{
    failing_sink *f = ctx;
    (void)b;
    return ++f->calls == f->fail_at ? PN_ERR_IO : PN_OK;
}

/* One with so much in it that the sink is called again and again. */
static void large_segment(made *out)
{
    enum { DIM = 4096 };
    static float row[DIM];
    char key[16];
    pn_segment_writer *w = writer(&out->file);
    CHECK_EQ_INT(pn_segment_begin_store(w, PN_BYTES("v"), PN_STORE_VECTORS, false), PN_OK);
    CHECK_EQ_INT(pn_segment_begin_table(w, PN_BYTES("embedding_dict"), PN_TABLE_VECTORS, PN_TABLE_KEEPS), PN_OK);
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "k%d", i);
        CHECK_EQ_INT(pn_segment_put_row(w, PN_ENTRY_PUT, segment_text(key), DIM, PN_ROW_F32, row), PN_OK);
    }
    finish(w, out);
}

static void test_merge_passes_on_the_sinks_failure(void)
{
    made m;
    size_t bad;
    int failures = 0;
    pn_status s = PN_ERR_IO;
    large_segment(&m);
    for (int n = 1; s != PN_OK; n++) {
        failing_sink f = {0, n};
        pn_segment_writer *w;
        uint64_t size;
        uint32_t crc;
        CHECK_EQ_INT(pn_segment_writer_new(&pn_alloc_system, fail_to_sink, &f, &w), PN_OK);
        s = pn_segment_merge(&pn_alloc_system, &m.s, 1, false, w, &bad, NULL);
        if (s == PN_OK) s = pn_segment_finish(w, &size, &crc);
        CHECK(s == (f.calls < n ? PN_OK : PN_ERR_IO));
        failures += s == PN_ERR_IO;
        pn_segment_writer_free(w);
    }
    CHECK(failures > 5);
    made_clear(&m);
}

int main(void)
{
    RUN(test_merge_means_the_same_as_its_segments);
    RUN(test_merge_of_the_first_segments_needs_no_bottom);
    RUN(test_merge_entries);
    RUN(test_merge_tables);
    RUN(test_merge_stores);
    RUN(test_merge_changes_of_nothing);
    RUN(test_merge_keeps_a_change_of_what_is_older);
    RUN(test_merge_of_what_cannot_be);
    RUN(test_merge_lets_no_damage_through);
    RUN(test_merge_survives_oom);
    RUN(test_merge_passes_on_the_sinks_failure);
    return check_summary();
}
