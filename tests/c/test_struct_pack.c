/* Index structs on their way into a pack: whatever is done to one between commits, also
 * while one is under way, and whichever commits fail: what was written, applied in turn,
 * is the struct as it was gathered; and little is written when little changed. */
#include "codec_check.h"
#include "fail_alloc.h"
#include "store/struct_pack.h"

/* Objects behind words are numbers that are never freed. */
static void release_word(void *ctx, void *object) { (void)ctx, (void)object; }
static const pn_host host = {NULL, release_word, NULL, NULL, NULL};

enum { MAX_ROWS = 1200 };

typedef struct row {
    int key, value;
} row;

typedef struct model {
    uint8_t kind; /* PN_COLUMN_LIST or PN_COLUMN_DICT */
    size_t n;
    row rows[MAX_ROWS];
} model;

static size_t words_of(const model *m, row r, pn_word *w)
{
    size_t n = 0;
    if (m->kind == PN_COLUMN_DICT) w[n++] = (pn_word)r.key * 2 + 2;
    w[n++] = (pn_word)r.value * 2 + 2;
    return n;
}

static pn_bytes text_of(const model *m, row r, char *out)
{
    int n = m->kind == PN_COLUMN_DICT ? sprintf(out, "\"%d\": ", r.key) : 0;
    n += sprintf(out + n, "\"%.*s%d\"", r.value % 9, "---------", r.value);
    return (pn_bytes){(uint8_t *)out, (size_t)n};
}

static pn_status edit_row(pn_edit *e, const model *m, row r)
{
    pn_word w[2];
    char text[64];
    size_t n = words_of(m, r, w);
    if (pn_edit_find(e, w, n)) return pn_edit_keep(e, 1, n);
    return pn_edit_add(e, text_of(m, r, text), w, n);
}

static pn_status edit_rows(pn_edit *e, const model *m)
{
    const pn_column *c = e->column;
    size_t front = 0, words = 0;
    pn_word w[2];
    if (c->kind == m->kind) {
        size_t n = m->n ? words_of(m, m->rows[0], w) : 1;
        while (front < m->n && front < c->rows && words + n <= c->word_len &&
               words_of(m, m->rows[front], w) && memcmp(c->words + words, w, n * sizeof *w) == 0) {
            front++;
            words += n;
        }
    }
    PN_TRY(pn_edit_begin(e, m->kind, front, words));
    for (size_t i = front; i < m->n; i++) PN_TRY(edit_row(e, m, m->rows[i]));
    return pn_edit_prepare(e);
}

static pn_status set_rows(pn_column *c, const model *m)
{
    pn_edit e;
    pn_edit_init(&e, c);
    pn_status s = edit_rows(&e, m);
    if (s == PN_OK)
        pn_edit_commit(&e, &host);
    else
        pn_edit_abort(&e, &host);
    return s;
}

static pn_status new_struct(const pn_alloc *alloc, pn_struct **out)
{
    static const pn_word none = 2;
    PN_TRY(pn_struct_new(alloc, PN_BYTES("list"), out));
    pn_status s = pn_struct_add(*out, PN_BYTES("index_id"));
    if (s == PN_OK) s = pn_column_push(&(*out)->columns[0], PN_BYTES("\"the id\""), &none, 1);
    if (s == PN_OK) s = pn_struct_add(*out, PN_BYTES("nodes"));
    if (s == PN_OK) s = pn_struct_add(*out, PN_BYTES("docs"));
    if (s != PN_OK) pn_struct_free(*out, &host);
    return s;
}

/* ---- the disk: a struct's bytes and changes of it ---- */

enum { MAX_CHANGES = 16 };

typedef struct disk {
    pn_buf base, changes[MAX_CHANGES];
    size_t count;
} disk;

static void disk_init(disk *d, const pn_alloc *alloc)
{
    d->count = 0;
    pn_buf_init(&d->base, alloc);
    for (size_t i = 0; i < MAX_CHANGES; i++) pn_buf_init(&d->changes[i], alloc);
}

static void disk_clear(disk *d)
{
    pn_buf_clear(&d->base);
    for (size_t i = 0; i < MAX_CHANGES; i++) pn_buf_clear(&d->changes[i]);
    d->count = 0;
}

/* Both changes as one, in place of the first. */
static pn_status fold(const pn_alloc *alloc, pn_buf *first, const pn_buf *second)
{
    pn_rows a, b;
    pn_buf out;
    pn_error err = {0};
    PN_TRY(pn_rows_read(alloc, pn_buf_view(first), true, &a, &err));
    pn_status s = pn_rows_read(alloc, pn_buf_view(second), true, &b, &err);
    if (s != PN_OK) {
        pn_rows_clear(&a);
        return s;
    }
    pn_buf_init(&out, alloc);
    s = pn_rows_combine(&a, &b, &out, &err);
    pn_rows_clear(&a);
    pn_rows_clear(&b);
    if (s == PN_OK) {
        pn_buf_clear(first);
        *first = out;
    } else {
        pn_buf_clear(&out);
    }
    return s;
}

static pn_status disk_write(disk *d, const pn_alloc *alloc, pn_value_form form, const pn_buf *bytes)
{
    if (form == PN_FORM_STRUCT) {
        d->base.len = d->count = 0;
        return pn_buf_append(&d->base, bytes->data, bytes->len);
    }
    if (d->count == MAX_CHANGES) {
        for (size_t i = 1; i < MAX_CHANGES; i++) PN_TRY(fold(alloc, &d->changes[0], &d->changes[i]));
        d->count = 1;
    }
    pn_buf *to = &d->changes[d->count];
    to->len = 0;
    PN_TRY(pn_buf_append(to, bytes->data, bytes->len));
    d->count++;
    return PN_OK;
}

/* The struct that the disk has: its changes combined, then applied. */
static pn_status disk_read(disk *d, const pn_alloc *alloc, pn_struct **out)
{
    pn_rows base, change;
    pn_error err = {0};
    for (size_t i = 1; i < d->count; i++) PN_TRY(fold(alloc, &d->changes[0], &d->changes[i]));
    if (d->count > 1) d->count = 1;
    PN_TRY(pn_rows_read(alloc, pn_buf_view(&d->base), false, &base, &err));
    pn_status s = d->count ? pn_rows_read(alloc, pn_buf_view(&d->changes[0]), true, &change, &err) : PN_OK;
    if (s == PN_OK) {
        s = pn_struct_unpack(alloc, &base, d->count ? &change : NULL, out, &err);
        if (d->count) pn_rows_clear(&change);
    }
    pn_rows_clear(&base);
    return s;
}

static pn_status check_disk(disk *d, const pn_alloc *alloc, pn_bytes want)
{
    pn_struct *s;
    pn_buf got;
    PN_TRY(disk_read(d, alloc, &s));
    pn_buf_init(&got, alloc);
    pn_status status = pn_struct_write_json(s, &got);
    if (status == PN_OK) CHECK(pn_bytes_equal(pn_buf_view(&got), want));
    CHECK(s->columns[0].saved.on && !s->pending);
    pn_buf_clear(&got);
    pn_struct_free(s, &host);
    return status;
}

/* ---- a random life ---- */

static void insert(model *m, size_t at, row r)
{
    if (m->n == MAX_ROWS) return;
    memmove(&m->rows[at + 1], &m->rows[at], (m->n - at) * sizeof *m->rows);
    m->rows[at] = r;
    m->n++;
}

static void take_out(model *m, size_t at, size_t n)
{
    if (n > m->n - at) n = m->n - at;
    memmove(&m->rows[at], &m->rows[at + n], (m->n - at - n) * sizeof *m->rows);
    m->n -= n;
}

static void change(model *m, uint64_t *rnd, int *next)
{
    size_t at = m->n ? random_next(rnd) % m->n : 0;
    row r = {*next, *next};
    (*next)++;
    switch (random_next(rnd) % 12) {
    case 0:
    case 1:
    case 2:
    case 3: insert(m, m->n, r); break;
    case 4: insert(m, at, r); break;
    case 5: insert(m, 0, r); break;
    case 6:
    case 7: take_out(m, at, 1); break;
    case 8: take_out(m, at, random_next(rnd) % 8); break;
    case 9:
        if (m->n) m->rows[at].value = r.value;
        break;
    case 10:
        if (m->n) m->rows[at] = m->rows[random_next(rnd) % m->n]; /* a row twice */
        break;
    default:
        if (random_next(rnd) % 20 == 0) m->kind = m->kind == PN_COLUMN_DICT ? PN_COLUMN_LIST : PN_COLUMN_DICT;
    }
}

typedef struct life {
    const pn_alloc *alloc;
    pn_struct *s;
    model *models; /* of columns 1 and 2 */
    disk disk;
    pn_buf gathered, json; /* of the commit under way, and the struct then */
    pn_value_form form;
    bool same, on_disk;
    size_t changes_written;
} life;

static pn_status gather(life *l, bool whole)
{
    l->gathered.len = l->json.len = 0;
    PN_TRY(pn_struct_write_json(l->s, &l->json));
    PN_TRY(pn_struct_gather(l->s, whole, &l->gathered, &l->form, &l->same));
    CHECK(!l->same || l->gathered.len == 0);
    CHECK(!whole || l->form == PN_FORM_STRUCT);
    CHECK(l->on_disk || l->form == PN_FORM_STRUCT);
    return PN_OK;
}

static pn_status finish(life *l, bool durable)
{
    if (durable && !l->same) PN_TRY(disk_write(&l->disk, l->alloc, l->form, &l->gathered));
    pn_struct_gathered(l->s, durable);
    if (!durable) return PN_OK;
    l->on_disk = true;
    l->changes_written += l->form == PN_FORM_CHANGE && !l->same;
    return check_disk(&l->disk, l->alloc, pn_buf_view(&l->json));
}

/* A row at the end, without an edit. */
static pn_status push_row(pn_column *c, model *m, uint64_t *rnd, int *next)
{
    char text[64];
    pn_word w[2];
    row r = {*next, *next};
    if (random_next(rnd) % 4 || c->kind != m->kind || m->n == MAX_ROWS) return PN_OK;
    (*next)++;
    PN_TRY(pn_column_push(c, text_of(m, r, text), w, words_of(m, r, w)));
    insert(m, m->n, r);
    return PN_OK;
}

static pn_status edit_columns(life *l, uint64_t *rnd, int *next)
{
    for (int k = 0; k < 2; k++) {
        for (size_t n = random_next(rnd) % 3; n; n--) change(&l->models[k], rnd, next);
        PN_TRY(set_rows(&l->s->columns[1 + k], &l->models[k]));
        PN_TRY(push_row(&l->s->columns[1 + k], &l->models[k], rnd, next));
    }
    return PN_OK;
}

static pn_status live(life *l, uint64_t seed, int steps)
{
    int next = 1;
    for (int i = 0; i < steps; i++) {
        PN_TRY(edit_columns(l, &seed, &next));
        if (random_next(&seed) % 3) continue;
        PN_TRY(gather(l, random_next(&seed) % 16 == 0));
        for (size_t n = random_next(&seed) % 3; n; n--) PN_TRY(edit_columns(l, &seed, &next));
        PN_TRY(finish(l, random_next(&seed) % 4 != 0));
    }
    return PN_OK;
}

static pn_status whole_life(const pn_alloc *alloc, uint64_t seed, int steps, size_t *changes)
{
    static model models[2];
    life l = {.alloc = alloc, .models = models};
    models[0].n = models[1].n = 0;
    models[0].kind = PN_COLUMN_LIST;
    models[1].kind = PN_COLUMN_DICT;
    PN_TRY(new_struct(alloc, &l.s));
    disk_init(&l.disk, alloc);
    pn_buf_init(&l.gathered, alloc);
    pn_buf_init(&l.json, alloc);
    pn_status s = live(&l, seed, steps);
    disk_clear(&l.disk);
    pn_buf_clear(&l.gathered);
    pn_buf_clear(&l.json);
    pn_struct_free(l.s, &host);
    *changes += l.changes_written;
    return s;
}

static void test_struct_pack_follows_every_life(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    size_t changes = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) CHECK_EQ_INT(whole_life(&f.alloc, seed, 300, &changes), PN_OK);
    CHECK(changes > 500); /* it is not always written whole */
    CHECK_EQ_INT(f.blocks, 0);
}

static void test_struct_pack_survives_oom(void)
{
    fail_alloc f;
    size_t changes = 0;
    long n = 0;
    do {
        fail_alloc_init(&f, ++n);
        pn_status s = whole_life(&f.alloc, 5, 40, &changes);
        CHECK(s == PN_OK || (f.failed && s == PN_ERR_NOMEM)); /* OK: it forgot what a commit has */
        CHECK_EQ_INT(f.blocks, 0);
    } while (f.failed && n < 10000);
    CHECK(n > 100 && !f.failed);
}

/* ---- what is written ---- */

static size_t gathered_bytes(pn_struct *s, bool durable, pn_value_form *form, bool *same)
{
    pn_buf out;
    pn_buf_init(&out, &pn_alloc_system);
    CHECK_EQ_INT(pn_struct_gather(s, false, &out, form, same), PN_OK);
    pn_struct_gathered(s, durable);
    size_t n = out.len;
    pn_buf_clear(&out);
    return n;
}

static void test_struct_pack_writes_what_changed(void)
{
    static model m;
    pn_struct *s;
    pn_value_form form;
    bool same;
    CHECK_EQ_INT(new_struct(&pn_alloc_system, &s), PN_OK);
    m.kind = PN_COLUMN_DICT;
    for (int i = 0; i < 1000; i++) insert(&m, m.n, (row){i, i});
    CHECK_EQ_INT(set_rows(&s->columns[2], &m), PN_OK);
    CHECK(gathered_bytes(s, false, &form, &same) > 10000);
    CHECK(form == PN_FORM_STRUCT);
    CHECK(gathered_bytes(s, true, &form, &same) > 10000); /* the first one failed */
    CHECK(form == PN_FORM_STRUCT);
    CHECK_EQ_INT(gathered_bytes(s, true, &form, &same), 0);
    CHECK(same);
    for (int step = 0; step < 6; step++) {
        if (step == 0) insert(&m, m.n, (row){5000, 5000});
        if (step == 1) take_out(&m, 400, 3);
        if (step == 2) m.rows[700].value = 6000;
        if (step == 3) insert(&m, 0, (row){7000, 7000});
        if (step == 4) take_out(&m, m.n - 1, 1);
        if (step == 5) { /* here and there, as an update of some documents */
            take_out(&m, 1, 1);
            take_out(&m, 500, 20);
            m.rows[300].value = 8000;
            insert(&m, m.n, (row){8001, 8001});
        }
        CHECK_EQ_INT(set_rows(&s->columns[2], &m), PN_OK);
        size_t failed = gathered_bytes(s, false, &form, &same);
        CHECK_EQ_INT(gathered_bytes(s, true, &form, &same), failed);
        CHECK(!same && form == PN_FORM_CHANGE && failed > 0 && failed < 150);
    }
    /* at more places than are kept count of: it is less than the whole still */
    for (size_t i = m.n; i > 600; i -= 5) take_out(&m, i - 5, 1);
    CHECK_EQ_INT(set_rows(&s->columns[2], &m), PN_OK);
    CHECK(gathered_bytes(s, true, &form, &same) < 8000);
    CHECK(!same && form == PN_FORM_CHANGE);
    /* more than half of it is new */
    take_out(&m, 0, 600);
    for (int i = 0; i < 800; i++) insert(&m, m.n, (row){10000 + i, 10000 + i});
    CHECK_EQ_INT(set_rows(&s->columns[2], &m), PN_OK);
    (void)gathered_bytes(s, true, &form, &same);
    CHECK(!same && form == PN_FORM_STRUCT);
    /* another kind of column cannot be a change */
    m.kind = PN_COLUMN_LIST;
    m.n = 0;
    CHECK_EQ_INT(set_rows(&s->columns[1], &m), PN_OK);
    (void)gathered_bytes(s, true, &form, &same);
    CHECK(!same && form == PN_FORM_STRUCT);
    pn_struct_free(s, &host);
}

/* ---- what does not fit ---- */

static pn_bytes new_lens(uint8_t *to, size_t n, uint32_t len)
{
    for (size_t i = 0; i < n; i++) pn_put_u32(to + 4 * i, len);
    return (pn_bytes){to, 4 * n};
}

static void test_struct_pack_refuses_what_does_not_fit(void)
{
    uint8_t lens[12];
    pn_rows_piece all = {.count = 3, .lens = new_lens(lens, 3, 1).ptr, .text = PN_BYTES("1, 2, 3")};
    pn_rows base = {.alloc = &pn_alloc_system, .type = PN_BYTES("t"), .count = 1};
    base.columns[0] = (pn_rows_column){PN_BYTES("f"), PN_COLUMN_LIST, 0, 3, &all, 1};
    for (int what = 0; what < 8; what++) {
        pn_rows_piece kept[3] = {{.keeps = true, .from = 1, .count = 2}};
        pn_rows change = {.alloc = &pn_alloc_system, .change = true, .type = PN_BYTES("t"), .count = 1};
        change.columns[0] = (pn_rows_column){PN_BYTES("f"), PN_COLUMN_LIST, 3, 2, kept, 1};
        if (what == 1) change.type = PN_BYTES("u");
        if (what == 2) change.count = 0;
        if (what == 3) change.columns[0].name = PN_BYTES("g");
        if (what == 4) change.columns[0].kind = PN_COLUMN_DICT;
        if (what == 5) change.columns[0].base_rows = 4;
        if (what == 6) kept[0].from = 2; /* its reader would have refused it */
        if (what == 7) kept[1] = kept[2] = kept[0], change.columns[0].piece_count = 3;
        pn_struct *s = NULL;
        pn_error err = {0};
        pn_status got = pn_struct_unpack(&pn_alloc_system, &base, &change, &s, &err);
        CHECK_EQ_INT(got, what ? PN_ERR_CORRUPT : PN_OK);
        CHECK((s != NULL) == (what == 0) && (err.what != NULL) == (what != 0));
        if (s != NULL) CHECK(pn_bytes_equal(pn_buf_view(&s->columns[0].text), PN_BYTES("2, 3")));
        pn_struct_free(s, &host);
    }
}

int main(void)
{
    RUN(test_struct_pack_follows_every_life);
    RUN(test_struct_pack_survives_oom);
    RUN(test_struct_pack_writes_what_changed);
    RUN(test_struct_pack_refuses_what_does_not_fit);
    return check_summary();
}
