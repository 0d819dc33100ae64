#include "store/batch.h"

#include "codec/json_read.h"

typedef enum entry_kind {
    ENTRY_STORE,
    ENTRY_TABLE,
    ENTRY_SPAN,
    ENTRY_RAW,
    ENTRY_PACKED,
    ENTRY_LIVE,
    ENTRY_SAME, /* was live; its text is what is there already */
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
    uint8_t what;  /* entry_kind */
    uint8_t op;    /* pn_entry_op; of a store or table: its reset */
    uint8_t form;  /* pn_value_form, pn_row_encoding; pn_store_kind, pn_table_type */
    uint32_t crc;  /* PACKED */
    pn_bytes key;  /* of a store or table: its name */
    pn_bytes value; /* ROW: len is the dimension */
    union {
        live_value *live;
        pn_blob *file; /* PACKED: borrowed, it is held */
    };
} entry;

enum { BLOCK_ENTRIES = 512, PIECE = 64 * 1024 };

typedef struct block {
    struct block *next;
    size_t n;
    entry entries[BLOCK_ENTRIES];
} block;

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
    block *first, *last;
    piece *pieces;
    pn_blob **held;
    size_t held_len, held_cap;
    deferred *deferred;
    size_t deferred_len, deferred_cap;
    const entry *store, *table; /* that entries go to */
    /* encoding: where it is, and how many live values remain */
    block *at;
    size_t at_entry, left;
    const entry *at_store, *at_table;
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
    *out = b;
    return PN_OK;
}

static void free_live(pn_batch *b, entry *e)
{
    pn_live_note_unref(e->live->note);
    e->what = ENTRY_SAME;
    b->host.release(b->host.ctx, e->live->object);
}

static void free_entries(pn_batch *b)
{
    for (block *k = b->first, *next; k != NULL; k = next) {
        for (size_t i = 0; i < k->n; i++)
            if (k->entries[i].what == ENTRY_LIVE) free_live(b, &k->entries[i]);
        next = k->next;
        pn_alloc_put(b->alloc, k);
    }
}

void pn_batch_free(pn_batch *b)
{
    if (b == NULL) return;
    for (size_t i = b->deferred_len; i-- > 0;) b->deferred[i].done(b->deferred[i].ctx);
    free_entries(b);
    for (size_t i = 0; i < b->held_len; i++) pn_blob_unref(b->held[i]);
    for (piece *p = b->pieces, *next; p != NULL; p = next) {
        next = p->next;
        pn_alloc_put(b->alloc, p);
    }
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
    if (b->last == NULL || b->last->n == BLOCK_ENTRIES) {
        block *k = pn_alloc_get(b->alloc, sizeof *k);
        PN_FAIL_IF(k == NULL, PN_ERR_NOMEM);
        k->next = NULL;
        k->n = 0;
        if (b->last == NULL)
            b->first = b->at = k;
        else
            b->last->next = k;
        b->last = k;
    }
    *out = &b->last->entries[b->last->n];
    return PN_OK;
}

/* Adds the entry, once its key and its value are kept. */
static pn_status add(pn_batch *b, entry e, pn_blob *key_owner, pn_blob *value_owner, entry **out)
{
    entry *to;
    PN_FAIL_IF(b->table == NULL, PN_ERR_INVALID);
    PN_TRY(keep(b, &e.key, key_owner));
    if (e.what != ENTRY_LIVE && e.what != ENTRY_ROW) PN_TRY(keep(b, &e.value, value_owner));
    PN_TRY(place(b, &to));
    *to = e;
    b->last->n++;
    if (out != NULL) *out = to;
    return PN_OK;
}

static pn_status add_mark(pn_batch *b, entry e, const entry **mark)
{
    entry *to;
    PN_TRY(copy(b, &e.key));
    PN_TRY(place(b, &to));
    *to = e;
    b->last->n++;
    *mark = to;
    return PN_OK;
}

pn_status pn_batch_store(pn_batch *b, pn_bytes name, pn_store_kind kind, bool reset)
{
    PN_TRY(add_mark(b, (entry){.what = ENTRY_STORE, .op = reset, .form = (uint8_t)kind, .key = name}, &b->store));
    b->table = NULL;
    return PN_OK;
}

pn_status pn_batch_table(pn_batch *b, pn_bytes name, pn_table_type type, pn_table_reset reset)
{
    PN_FAIL_IF(b->store == NULL, PN_ERR_INVALID);
    entry e = {.what = ENTRY_TABLE, .op = (uint8_t)reset, .form = (uint8_t)type, .key = name};
    return add_mark(b, e, &b->table);
}

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

static bool is_reset(const pn_batch *b) { return b->store->op || b->table->op != PN_TABLE_KEEPS; }

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
static pn_status encode_entry(pn_batch *b, entry *e, pn_buf *scratch)
{
    live_value *v = e->live;
    scratch->len = 0;
    PN_TRY(encode_text(b, v, scratch));
    pn_bytes text = pn_buf_view(scratch);
    bool same = is_saved(v, text);
    if (!same) PN_TRY(check_text(b, text));
    if (!same) PN_TRY(keep_text(b, v, &text));
    b->left--;
    free_live(b, e);
    if (same) return PN_OK;
    e->what = ENTRY_SPAN;
    e->value = text;
    return PN_OK;
}

/* The next live entry; the store and the table it is in are noted on the way. */
static entry *next_live(pn_batch *b)
{
    for (;; b->at_entry++) {
        while (b->at_entry == b->at->n && b->at->next != NULL) {
            b->at = b->at->next;
            b->at_entry = 0;
        }
        entry *e = &b->at->entries[b->at_entry];
        if (e->what == ENTRY_STORE) b->at_store = e;
        if (e->what == ENTRY_TABLE) b->at_table = e;
        if (e->what == ENTRY_LIVE) return e;
    }
}

pn_status pn_batch_encode(pn_batch *b, size_t bytes, size_t *left, pn_bytes *store, pn_bytes *table, pn_bytes *key)
{
    pn_buf scratch;
    pn_buf_init(&scratch, b->alloc);
    pn_status s = PN_OK;
    for (size_t done = 0; s == PN_OK && b->left > 0 && (done == 0 || done < bytes); done += scratch.len) {
        entry *e = next_live(b);
        s = encode_entry(b, e, &scratch);
        if (s == PN_OK) continue;
        *store = b->at_store->key;
        *table = b->at_table->key;
        *key = e->key;
    }
    pn_buf_clear(&scratch);
    *left = b->left;
    return s;
}

/* ---- writing ---- */

static bool is_written(const entry *e)
{
    if (e->what == ENTRY_STORE) return e->op;
    if (e->what == ENTRY_TABLE) return e->op != PN_TABLE_KEEPS;
    return e->what != ENTRY_SAME;
}

bool pn_batch_changes(const pn_batch *b)
{
    for (const block *k = b->first; k != NULL; k = k->next)
        for (size_t i = 0; i < k->n; i++)
            if (is_written(&k->entries[i])) return true;
    return false;
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
    case ENTRY_STORE: return pn_segment_begin_store(w, e->key, (pn_store_kind)e->form, e->op);
    case ENTRY_TABLE: return pn_segment_begin_table(w, e->key, (pn_table_type)e->form, (pn_table_reset)e->op);
    case ENTRY_SPAN: return pn_segment_put_value(w, op, e->key, (pn_value_form)e->form, e->value);
    case ENTRY_RAW: return write_raw(b, e, w);
    case ENTRY_PACKED: return write_packed(b, e, w);
    case ENTRY_ROW: return pn_segment_put_row(w, op, e->key, e->value.len, (pn_row_encoding)e->form, e->value.ptr);
    case ENTRY_STRING: return pn_segment_put_string(w, op, e->key, e->value);
    case ENTRY_REMOVE: return pn_segment_remove(w, e->key);
    case ENTRY_LIVE:
    case ENTRY_SAME: break;
    }
    return PN_ERR_INVALID;
}

/* A store and a table are begun only when something of theirs is written. */
typedef struct begun {
    const entry *store, *table; /* not begun yet */
} begun;

static pn_status begin(pn_batch *b, const entry **mark, pn_segment_writer *w)
{
    const entry *e = *mark;
    *mark = NULL;
    return e != NULL ? write_entry(b, e, w) : PN_OK;
}

static pn_status write_next(pn_batch *b, const entry *e, begun *not_yet, pn_segment_writer *w)
{
    if (e->what == ENTRY_STORE) *not_yet = (begun){e, NULL};
    if (e->what == ENTRY_TABLE) not_yet->table = e;
    if (!is_written(e)) return PN_OK;
    PN_TRY(begin(b, &not_yet->store, w));
    PN_TRY(begin(b, &not_yet->table, w));
    return e->what == ENTRY_STORE || e->what == ENTRY_TABLE ? PN_OK : write_entry(b, e, w);
}

pn_status pn_batch_write(pn_batch *b, pn_segment_writer *w)
{
    PN_FAIL_IF(b->left > 0, PN_ERR_INVALID);
    begun not_yet = {NULL, NULL};
    for (const block *k = b->first; k != NULL; k = k->next)
        for (size_t i = 0; i < k->n; i++) PN_TRY(write_next(b, &k->entries[i], &not_yet, w));
    return PN_OK;
}

const char *pn_batch_damage(const pn_batch *b, pn_error *err)
{
    if (err != NULL) *err = b->damage;
    return b->damaged;
}
