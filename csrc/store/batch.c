#include "store/batch.h"

#include "base/omap.h"
#include "codec/json_read.h"

typedef enum entry_kind {
    ENTRY_SPAN,
    ENTRY_RAW,
    ENTRY_PACKED,
    ENTRY_LIVE,
    ENTRY_GONE, /* live, but a later entry counts; it is to be let go of */
    ENTRY_NONE, /* nothing: what is there already, or a later entry, counts */
    ENTRY_ROW,
    ENTRY_STRING,
    ENTRY_REMOVE
} entry_kind;

typedef struct live_value {
    void *object;
    pn_live_note *note;
    pn_bytes before, after;
    bool compare;
} live_value;

typedef struct entry {
    uint8_t what; /* entry_kind */
    uint8_t op;   /* pn_entry_op */
    uint8_t form; /* pn_value_form, pn_row_encoding */
    bool instead; /* stands where the earlier entry of the key does */
    uint32_t crc; /* PACKED */
    pn_bytes key;
    pn_bytes value; /* ROW: len is the dimension */
    union {
        live_value *live;
        pn_blob *file; /* PACKED: borrowed, it is held */
    };
} entry;

enum { FIRST_ENTRIES = 16, BLOCK_ENTRIES = 512, PIECE = 64 * 1024 };
/* Of pn_batch_work: a live value (and its note), bytes that were written to be kept. */
enum { LIVE_WORK = 8, WORK_BYTES = 32 };

typedef struct block {
    struct block *next;
    size_t n, cap;
    entry entries[];
} block;

typedef struct table {
    struct table *next;
    pn_bytes name;
    uint8_t type, reset; /* pn_table_type, pn_table_reset */
    bool caught_up;      /* entries from `later` on count instead of earlier ones with their keys */
    size_t n, later;
    block *first, *last;
} table;

typedef struct store {
    struct store *next;
    pn_bytes name;
    uint8_t kind; /* pn_store_kind */
    bool reset, dropped;
    table *first, *last;
} store;

/* A place among all entries. */
typedef struct cursor {
    store *store;
    table *table;
    block *block;
    size_t i;
} cursor;

typedef struct piece { /* of copied bytes */
    struct piece *next;
    size_t used, size;
    uint8_t bytes[];
} piece;

typedef struct deferred {
    void (*done)(void *ctx);
    void *ctx;
} deferred;

struct pn_batch {
    const pn_alloc *alloc;
    pn_host host;
    store *first, *last;
    piece *pieces;
    pn_blob **held;
    size_t held_len, held_cap;
    deferred *deferred;
    size_t deferred_len, deferred_cap;
    store *store; /* that entries go to */
    table *table;
    size_t work;
    bool instead;  /* as they do */
    bool behind;   /* some table is caught up with, and earlier entries count still */
    size_t left;   /* live values, also those that are gone */
    cursor at;     /* where encoding is */
    pn_buf scratch;
    const char *damaged;
    pn_error damage;
};

/* ---- life ---- */

pn_status pn_batch_new(const pn_alloc *alloc, const pn_host *host, pn_batch **out)
{
    pn_batch *b = pn_alloc_zero(alloc, 1, sizeof *b);
    PN_FAIL_IF(b == NULL, PN_ERR_NOMEM);
    b->alloc = alloc;
    b->host = *host;
    pn_buf_init(&b->scratch, alloc);
    *out = b;
    return PN_OK;
}

/* Goes on to the next entry, which is c->block->entries[c->i - 1] then. */
static entry *next_entry(cursor *c)
{
    while (c->store != NULL) {
        if (c->block != NULL && c->i < c->block->n) return &c->block->entries[c->i++];
        c->i = 0;
        if (c->block != NULL && (c->block = c->block->next) != NULL) continue;
        c->table = c->table != NULL ? c->table->next : c->store->first;
        if (c->table == NULL) c->store = c->store->next;
        c->block = c->table != NULL ? c->table->first : NULL;
    }
    return NULL;
}

static cursor all_entries(const pn_batch *b) { return (cursor){.store = b->first}; }

static void free_live(pn_batch *b, entry *e)
{
    live_value *v = e->live;
    e->what = ENTRY_NONE;
    b->left--;
    pn_live_note_unref(v->note);
    b->host.release(b->host.ctx, v->object);
}

static void free_lives(pn_batch *b)
{
    cursor c = all_entries(b);
    entry *e;
    while (b->left > 0 && (e = next_entry(&c)) != NULL)
        if (e->what == ENTRY_LIVE || e->what == ENTRY_GONE) free_live(b, e);
}

static void free_blocks(pn_batch *b)
{
    for (store *s = b->first; s != NULL; s = s->next)
        for (table *t = s->first; t != NULL; t = t->next)
            for (block *k = t->first, *next; k != NULL; k = next) {
                next = k->next;
                pn_alloc_put(b->alloc, k);
            }
}

void pn_batch_shed(pn_batch *b)
{
    if (b->left > 0) return;
    free_blocks(b); /* stores and tables lie in the pieces */
    b->first = b->last = b->store = NULL;
    b->table = NULL;
    b->at = (cursor){0};
    for (size_t i = 0; i < b->held_len; i++) pn_blob_unref(b->held[i]);
    b->held_len = 0;
    for (piece *p = b->pieces, *next; p != NULL; p = next) {
        next = p->next;
        pn_alloc_put(b->alloc, p);
    }
    b->pieces = NULL;
    b->damaged = NULL;
}

void pn_batch_free(pn_batch *b)
{
    if (b == NULL) return;
    for (size_t i = b->deferred_len; i-- > 0;) b->deferred[i].done(b->deferred[i].ctx);
    free_lives(b);
    pn_batch_shed(b);
    pn_buf_clear(&b->scratch);
    pn_alloc_put(b->alloc, b->held);
    pn_alloc_put(b->alloc, b->deferred);
    pn_alloc_put(b->alloc, b);
}

/* ---- memory ---- */

static pn_status grow(const pn_alloc *alloc, void **array, size_t *cap, size_t len, size_t size)
{
    if (len < *cap) return PN_OK;
    size_t want = *cap ? *cap * 2 : 16;
    PN_FAIL_IF(want > SIZE_MAX / size, PN_ERR_NOMEM);
    void *p = pn_alloc_grow(alloc, *array, want * size);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    *array = p;
    *cap = want;
    return PN_OK;
}

pn_status pn_batch_defer(pn_batch *b, void (*done)(void *ctx), void *ctx)
{
    void *p = b->deferred;
    PN_TRY(grow(b->alloc, &p, &b->deferred_cap, b->deferred_len, sizeof *b->deferred));
    b->deferred = p;
    b->deferred[b->deferred_len++] = (deferred){done, ctx};
    return PN_OK;
}

/* One of the last two blobs (a key's, a value's) is held already. */
static bool held_lately(const pn_batch *b, const pn_blob *blob)
{
    size_t n = b->held_len;
    return (n >= 1 && b->held[n - 1] == blob) || (n >= 2 && b->held[n - 2] == blob);
}

static pn_status hold(pn_batch *b, pn_blob *blob)
{
    if (blob == NULL || held_lately(b, blob)) return PN_OK;
    void *p = b->held;
    PN_TRY(grow(b->alloc, &p, &b->held_cap, b->held_len, sizeof *b->held));
    b->held = p;
    b->held[b->held_len++] = pn_blob_ref(blob);
    return PN_OK;
}

/* Room for n bytes that stay where they are. */
static pn_status room(pn_batch *b, size_t n, uint8_t **out)
{
    n = (n + 7) & ~(size_t)7; /* live values lie here too */
    if (b->pieces == NULL || b->pieces->size - b->pieces->used < n) {
        size_t size = n > PIECE ? n : PIECE;
        PN_FAIL_IF(size > SIZE_MAX / 2, PN_ERR_NOMEM);
        piece *p = pn_alloc_get(b->alloc, sizeof *p + size);
        PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
        p->next = b->pieces;
        p->used = 0;
        p->size = size;
        b->pieces = p;
    }
    *out = b->pieces->bytes + b->pieces->used;
    b->pieces->used += n;
    return PN_OK;
}

static pn_status copy(pn_batch *b, pn_bytes *bytes)
{
    uint8_t *to;
    if (bytes->len == 0) return PN_OK;
    PN_TRY(room(b, bytes->len, &to));
    memcpy(to, bytes->ptr, bytes->len);
    bytes->ptr = to;
    return PN_OK;
}

/* Makes bytes live as long as the batch. */
static pn_status keep(pn_batch *b, pn_bytes *bytes, pn_blob *owner) { return owner ? hold(b, owner) : copy(b, bytes); }

/* ---- gathering ---- */

/* The place for the next entry; it counts once last->n is raised. */
static pn_status place(pn_batch *b, entry **out)
{
    table *t = b->table;
    if (t->last == NULL || t->last->n == t->last->cap) {
        size_t cap = t->last == NULL ? FIRST_ENTRIES : BLOCK_ENTRIES;
        block *k = pn_alloc_get(b->alloc, sizeof *k + cap * sizeof *k->entries);
        PN_FAIL_IF(k == NULL, PN_ERR_NOMEM);
        k->next = NULL;
        k->n = 0;
        k->cap = cap;
        if (t->last == NULL) t->first = k;
        else t->last->next = k;
        t->last = k;
    }
    *out = &t->last->entries[t->last->n];
    return PN_OK;
}

/* Adds the entry, once its key and its value are kept. */
static pn_status add(pn_batch *b, entry e, pn_blob *key_owner, pn_blob *value_owner, entry **out)
{
    entry *to;
    PN_FAIL_IF(b->table == NULL, PN_ERR_INVALID);
    PN_TRY(keep(b, &e.key, key_owner));
    if (e.what != ENTRY_LIVE && e.what != ENTRY_ROW) PN_TRY(keep(b, &e.value, value_owner));
    b->work += 1 + (value_owner == NULL && e.what == ENTRY_SPAN ? e.value.len / WORK_BYTES : 0);
    PN_TRY(place(b, &to));
    *to = e;
    to->instead = b->instead;
    b->table->last->n++;
    b->table->n++;
    if (out != NULL) *out = to;
    return PN_OK;
}

/* A zeroed store or table, and its name. */
static pn_status add_part(pn_batch *b, size_t size, pn_bytes *name, void *out)
{
    uint8_t *p;
    PN_TRY(copy(b, name));
    PN_TRY(room(b, size, &p));
    memset(p, 0, size);
    *(void **)out = p;
    return PN_OK;
}

pn_status pn_batch_store(pn_batch *b, pn_bytes name, pn_store_kind kind, bool reset)
{
    store *s;
    PN_TRY(add_part(b, sizeof *s, &name, &s));
    *s = (store){.name = name, .kind = (uint8_t)kind, .reset = reset};
    if (b->last == NULL) b->first = s;
    else b->last->next = s;
    b->last = b->store = s;
    b->table = NULL;
    b->instead = false;
    return PN_OK;
}

pn_status pn_batch_table(pn_batch *b, pn_bytes name, pn_table_type type, pn_table_reset reset)
{
    table *t;
    store *s = b->store;
    PN_FAIL_IF(s == NULL, PN_ERR_INVALID);
    PN_TRY(add_part(b, sizeof *t, &name, &t));
    *t = (table){.name = name, .type = (uint8_t)type, .reset = (uint8_t)reset};
    if (s->last == NULL) s->first = t;
    else s->last->next = t;
    s->last = b->table = t;
    b->instead = false;
    return PN_OK;
}

pn_buf *pn_batch_scratch(pn_batch *b)
{
    b->scratch.len = 0;
    return &b->scratch;
}

size_t pn_batch_work(const pn_batch *b) { return b->work; }

/* ---- catching up ---- */

static store *find_store(const pn_batch *b, pn_bytes name)
{
    store *s = b->first;
    while (s != NULL && (s->dropped || !pn_bytes_equal(s->name, name))) s = s->next;
    return s;
}

pn_status pn_batch_again(pn_batch *b, pn_bytes name, pn_bytes of_table)
{
    store *s = find_store(b, name);
    table *t = s != NULL ? s->first : NULL;
    while (t != NULL && !pn_bytes_equal(t->name, of_table)) t = t->next;
    PN_FAIL_IF(t == NULL || t->caught_up, PN_ERR_INVALID);
    t->later = t->n;
    t->caught_up = b->behind = true;
    b->store = s;
    b->table = t;
    return PN_OK;
}

void pn_batch_instead(pn_batch *b, bool instead) { b->instead = instead; }

pn_status pn_batch_nothing(pn_batch *b, pn_bytes key, pn_blob *key_owner)
{
    return add(b, (entry){.what = ENTRY_NONE, .key = key}, key_owner, NULL, NULL);
}

/* Its live values are let go of when their turn comes: host code may not run now. */
static void end_entry(entry *e) { e->what = e->what == ENTRY_LIVE || e->what == ENTRY_GONE ? ENTRY_GONE : ENTRY_NONE; }

void pn_batch_drop(pn_batch *b, pn_bytes name)
{
    store *s = find_store(b, name);
    if (s == NULL) return;
    s->dropped = true;
    for (table *t = s->first; t != NULL; t = t->next)
        for (block *k = t->first; k != NULL; k = k->next)
            for (size_t i = 0; i < k->n; i++) end_entry(&k->entries[i]);
    if (b->store == s) b->store = NULL;
    if (b->store == NULL) b->table = NULL;
}

/* The later of two entries of a key takes over, there or here. */
static void take_over(entry *earlier, entry *later)
{
    if (later->instead) {
        entry e = *earlier;
        *earlier = *later;
        *later = e;
        end_entry(later);
    } else {
        end_entry(earlier);
    }
}

static pn_status note_later(const table *t, pn_omap *later)
{
    void *at;
    bool added;
    size_t i = 0;
    for (block *k = t->first; k != NULL; i += k->n, k = k->next)
        for (size_t j = i < t->later ? t->later - i : 0; j < k->n; j++) {
            PN_TRY(pn_omap_put(later, k->entries[j].key, NULL, &at, &added));
            *(entry **)at = &k->entries[j];
        }
    return PN_OK;
}

static void take_over_all(const table *t, const pn_omap *later)
{
    size_t i = 0;
    for (block *k = t->first; k != NULL; k = k->next)
        for (size_t j = 0; j < k->n && i < t->later; i++, j++) {
            entry **e = pn_omap_get(later, k->entries[j].key);
            if (e != NULL) take_over(&k->entries[j], *e);
        }
}

static pn_status catch_up_table(pn_batch *b, table *t)
{
    pn_omap later;
    if (!t->caught_up) return PN_OK;
    pn_omap_init(&later, b->alloc, sizeof(entry *));
    pn_status s = note_later(t, &later);
    if (s == PN_OK) take_over_all(t, &later);
    if (s == PN_OK) t->caught_up = false;
    pn_omap_clear(&later);
    return s;
}

pn_status pn_batch_catch_up(pn_batch *b)
{
    if (!b->behind) return PN_OK;
    for (store *s = b->first; s != NULL; s = s->next)
        for (table *t = s->first; t != NULL; t = t->next) PN_TRY(catch_up_table(b, t));
    b->behind = false;
    return PN_OK;
}

/* ---- entries ---- */

pn_status pn_batch_span(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_value_form form,
                        pn_bytes value, pn_blob *value_owner)
{
    entry e = {.what = ENTRY_SPAN, .op = (uint8_t)op, .form = (uint8_t)form, .key = key, .value = value};
    return add(b, e, key_owner, value_owner, NULL);
}

pn_status pn_batch_packed(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_value_form form,
                          pn_bytes value, uint32_t crc, pn_blob *value_owner)
{
    entry e = {.what = ENTRY_PACKED, .op = (uint8_t)op, .form = (uint8_t)form, .crc = crc, .key = key, .value = value};
    e.file = value_owner;
    return add(b, e, key_owner, value_owner, NULL);
}

pn_status pn_batch_raw(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_bytes value, pn_blob *value_owner)
{
    entry e = {.what = ENTRY_RAW, .op = (uint8_t)op, .form = PN_FORM_JSON, .key = key, .value = value};
    return add(b, e, key_owner, value_owner, NULL);
}

static bool is_reset(const pn_batch *b) { return b->store->reset || b->table->reset != PN_TABLE_KEEPS; }

pn_status pn_batch_live_within(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_bytes before, void *live,
                               pn_bytes after, pn_live_note *note)
{
    uint8_t *to;
    entry *e;
    PN_FAIL_IF(b->table == NULL, PN_ERR_INVALID);
    PN_TRY(copy(b, &before));
    PN_TRY(copy(b, &after));
    PN_TRY(room(b, sizeof(live_value), &to));
    live_value *v = (live_value *)(void *)to;
    *v = (live_value){live, note, before, after, op == PN_ENTRY_PUT && !is_reset(b)};
    entry made = {.what = ENTRY_LIVE, .op = (uint8_t)op, .form = PN_FORM_JSON, .key = key, .live = v};
    PN_TRY(add(b, made, key_owner, NULL, &e));
    (void)pn_live_note_ref(note);
    b->host.retain(b->host.ctx, live);
    b->left++;
    b->work += LIVE_WORK;
    return PN_OK;
}

pn_status pn_batch_live(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, void *live, pn_live_note *note)
{
    pn_bytes none = {NULL, 0};
    return pn_batch_live_within(b, op, key, key_owner, none, live, none, note);
}

pn_status pn_batch_row(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, size_t dim,
                       pn_row_encoding encoding, const void *row)
{
    entry e = {.what = ENTRY_ROW, .op = (uint8_t)op, .form = (uint8_t)encoding, .key = key, .value = {row, dim}};
    return add(b, e, key_owner, NULL, NULL);
}

pn_status pn_batch_string(pn_batch *b, pn_entry_op op, pn_bytes key, pn_blob *key_owner, pn_bytes string, pn_blob *owner)
{
    return add(b, (entry){.what = ENTRY_STRING, .op = (uint8_t)op, .key = key, .value = string}, key_owner, owner, NULL);
}

pn_status pn_batch_remove(pn_batch *b, pn_bytes key, pn_blob *key_owner)
{
    return add(b, (entry){.what = ENTRY_REMOVE, .op = PN_ENTRY_REMOVE, .key = key}, key_owner, NULL, NULL);
}

/* ---- encoding ---- */

pn_status pn_live_note_new(const pn_alloc *alloc, pn_live_note **out)
{
    pn_live_note *note = pn_alloc_zero(alloc, 1, sizeof *note);
    PN_FAIL_IF(note == NULL, PN_ERR_NOMEM);
    note->alloc = alloc;
    note->refs = 1;
    *out = note;
    return PN_OK;
}

pn_live_note *pn_live_note_ref(pn_live_note *note)
{
    if (note != NULL) note->refs++;
    return note;
}

void pn_live_note_unref(pn_live_note *note)
{
    if (note == NULL || --note->refs > 0) return;
    pn_blob_unref(note->saved.blob);
    pn_blob_unref(note->offered.blob);
    pn_alloc_put(note->alloc, note);
}

void pn_live_note_found(pn_live_note *note, pn_blob *blob, pn_bytes text, bool pending)
{
    pn_live_text *to = pending ? &note->offered : &note->saved;
    if (to->blob == NULL) *to = (pn_live_text){pn_blob_ref(blob), text};
}

void pn_live_note_settle(pn_live_note *note, bool durable)
{
    if (note->offered.blob == NULL) return;
    pn_blob_unref(durable ? note->saved.blob : note->offered.blob);
    if (durable) note->saved = note->offered;
    note->offered = (pn_live_text){NULL, {NULL, 0}};
}

pn_status pn_live_notes_get(pn_omap *notes, pn_bytes key, pn_blob *owner, pn_live_note **out)
{
    void *slot;
    bool added;
    PN_TRY(pn_omap_put(notes, key, owner, &slot, &added));
    pn_status s = added ? pn_live_note_new(notes->alloc, slot) : PN_OK;
    if (s == PN_OK) *out = *(pn_live_note **)slot;
    else (void)pn_omap_remove(notes, key, NULL);
    return s;
}

void pn_live_notes_forget(pn_omap *notes, pn_bytes key)
{
    pn_live_note *note;
    if (pn_omap_remove(notes, key, &note)) pn_live_note_unref(note);
}

void pn_live_notes_settle(pn_omap *notes, bool durable)
{
    size_t pos = 0;
    pn_bytes key;
    void *note;
    while (pn_omap_next(notes, &pos, &key, &note)) pn_live_note_settle(*(pn_live_note **)note, durable);
}

void pn_live_notes_clear(pn_omap *notes)
{
    size_t pos = 0;
    pn_bytes key;
    void *note;
    while (pn_omap_next(notes, &pos, &key, &note)) pn_live_note_unref(*(pn_live_note **)note);
    pn_omap_clear(notes);
}

static pn_status encode_text(const pn_batch *b, const live_value *v, pn_buf *text)
{
    PN_TRY(pn_buf_append(text, v->before.ptr, v->before.len));
    PN_TRY(b->host.encode(b->host.ctx, v->object, text));
    return pn_buf_append(text, v->after.ptr, v->after.len);
}

/* The text stays for as long as the batch does, and longer where there is a note. */
static pn_status keep_text(pn_batch *b, live_value *v, pn_bytes *text)
{
    pn_blob *blob;
    if (v->note == NULL) return copy(b, text);
    PN_TRY(pn_blob_copy(b->alloc, text->ptr, text->len, &blob));
    pn_status s = hold(b, blob);
    if (s != PN_OK) {
        pn_blob_unref(blob);
        return s;
    }
    *text = pn_blob_view(blob);
    pn_blob_unref(v->note->offered.blob);
    v->note->offered = (pn_live_text){blob, *text};
    return PN_OK;
}

static bool is_saved(const live_value *v, pn_bytes text)
{
    const pn_live_note *note = v->compare ? v->note : NULL;
    return note != NULL && note->saved.blob != NULL && pn_bytes_equal(text, note->saved.text);
}

/* What segments may have is narrower than what hosts encode (and read). */
static pn_status check_text(const pn_batch *b, pn_bytes text)
{
    pn_json_reader r;
    pn_json_span span;
    bool canonical = false;
    pn_json_reader_init(&r, text);
    if (pn_json_skip(&r, &span) == PN_OK && span.canonical && span.len == text.len) return PN_OK;
    pn_status s = pn_json_is_canonical(text, b->alloc, &canonical); /* exactly */
    if (s == PN_ERR_NOMEM) return s;
    return s == PN_OK && canonical ? PN_OK : PN_ERR_UNSUPPORTED;
}

/* The live value becomes its text, or nothing. */
static pn_status encode_entry(pn_batch *b, entry *e, pn_buf *text)
{
    live_value *v = e->live;
    PN_TRY(encode_text(b, v, text));
    pn_bytes value = pn_buf_view(text);
    bool same = is_saved(v, value);
    if (!same) PN_TRY(check_text(b, value));
    if (!same) PN_TRY(keep_text(b, v, &value));
    free_live(b, e);
    if (same) return PN_OK;
    e->what = ENTRY_SPAN;
    e->value = value;
    return PN_OK;
}

/* The next live entry, when some are left; among those that were added last, perhaps, to a
 * table that was passed before. */
static entry *next_live(pn_batch *b)
{
    for (;;) {
        entry *e = next_entry(&b->at);
        if (e == NULL) b->at = all_entries(b);
        else if (e->what == ENTRY_LIVE || e->what == ENTRY_GONE) return e;
    }
}

/* The next live value; after a failure the same comes next again. */
static pn_status encode_next(pn_batch *b, pn_buf *text)
{
    entry *e = next_live(b);
    pn_status s = PN_OK;
    if (e->what == ENTRY_GONE) free_live(b, e);
    else s = encode_entry(b, e, text);
    if (s != PN_OK) b->at.i--;
    return s;
}

pn_status pn_batch_encode(pn_batch *b, size_t bytes, size_t *left, pn_bytes *store, pn_bytes *table, pn_bytes *key)
{
    pn_buf text;
    *store = *table = *key = (pn_bytes){NULL, 0};
    pn_buf_init(&text, b->alloc);
    pn_status s = pn_batch_catch_up(b);
    for (size_t done = 0; s == PN_OK && b->left > 0 && (done == 0 || done < bytes); done += text.len + sizeof(live_value)) {
        text.len = 0;
        s = encode_next(b, &text);
        if (s == PN_OK) continue;
        *store = b->at.store->name;
        *table = b->at.table->name;
        *key = b->at.block->entries[b->at.i].key;
    }
    pn_buf_clear(&text);
    *left = b->left;
    return s;
}

/* ---- writing ---- */

static bool has_entries(const table *t)
{
    for (const block *k = t->first; k != NULL; k = k->next)
        for (size_t i = 0; i < k->n; i++)
            if (k->entries[i].what != ENTRY_NONE) return true;
    return false;
}

static bool is_written(const table *t) { return t->reset != PN_TABLE_KEEPS || has_entries(t); }

static bool store_is_written(const store *s)
{
    if (s->dropped || s->reset) return !s->dropped;
    const table *t = s->first;
    while (t != NULL && !is_written(t)) t = t->next;
    return t != NULL;
}

bool pn_batch_changes(const pn_batch *b)
{
    const store *s = b->first;
    while (s != NULL && !store_is_written(s)) s = s->next;
    return s != NULL;
}

static pn_status write_packed(pn_batch *b, const entry *e, pn_segment_writer *w)
{
    pn_error err = {PN_OK, 0, 0, NULL};
    pn_status s = pn_segment_check_value(b->alloc, (pn_value_form)e->form, e->value, e->crc, &err);
    if (s == PN_OK) return pn_segment_put_value(w, (pn_entry_op)e->op, e->key, (pn_value_form)e->form, e->value);
    if (e->file != NULL) {
        b->damaged = pn_blob_name(e->file);
        err.offset += (uint64_t)(e->value.ptr - pn_blob_view(e->file).ptr);
    }
    b->damage = err;
    return s;
}

static pn_status write_raw(const pn_batch *b, const entry *e, pn_segment_writer *w)
{
    pn_buf text;
    pn_buf_init(&text, b->alloc);
    pn_status s = pn_json_canonicalize(e->value, b->alloc, &text);
    if (s == PN_OK) s = pn_segment_put_value(w, (pn_entry_op)e->op, e->key, PN_FORM_JSON, pn_buf_view(&text));
    pn_buf_clear(&text);
    return s;
}

static pn_status write_entry(pn_batch *b, const entry *e, pn_segment_writer *w)
{
    pn_entry_op op = (pn_entry_op)e->op;
    switch ((entry_kind)e->what) {
    case ENTRY_SPAN: return pn_segment_put_value(w, op, e->key, (pn_value_form)e->form, e->value);
    case ENTRY_RAW: return write_raw(b, e, w);
    case ENTRY_PACKED: return write_packed(b, e, w);
    case ENTRY_ROW: return pn_segment_put_row(w, op, e->key, e->value.len, (pn_row_encoding)e->form, e->value.ptr);
    case ENTRY_STRING: return pn_segment_put_string(w, op, e->key, e->value);
    case ENTRY_REMOVE: return pn_segment_remove(w, e->key);
    case ENTRY_NONE: return PN_OK;
    case ENTRY_LIVE:
    case ENTRY_GONE: break;
    }
    return PN_ERR_INVALID;
}

static pn_status write_table(pn_batch *b, const table *t, pn_segment_writer *w)
{
    PN_TRY(pn_segment_begin_table(w, t->name, (pn_table_type)t->type, (pn_table_reset)t->reset));
    for (const block *k = t->first; k != NULL; k = k->next)
        for (size_t i = 0; i < k->n; i++) PN_TRY(write_entry(b, &k->entries[i], w));
    return PN_OK;
}

/* A store and a table are begun only when something of theirs is written. */
static pn_status write_store(pn_batch *b, const store *s, pn_segment_writer *w)
{
    if (!store_is_written(s)) return PN_OK;
    PN_TRY(pn_segment_begin_store(w, s->name, (pn_store_kind)s->kind, s->reset));
    for (const table *t = s->first; t != NULL; t = t->next)
        if (is_written(t)) PN_TRY(write_table(b, t, w));
    return PN_OK;
}

pn_status pn_batch_write(pn_batch *b, pn_segment_writer *w)
{
    PN_FAIL_IF(b->left > 0, PN_ERR_INVALID);
    PN_TRY(pn_batch_catch_up(b));
    for (const store *s = b->first; s != NULL; s = s->next) PN_TRY(write_store(b, s, w));
    return PN_OK;
}

const char *pn_batch_damage(const pn_batch *b, pn_error *err)
{
    if (err != NULL) *err = b->damage;
    return b->damaged;
}
