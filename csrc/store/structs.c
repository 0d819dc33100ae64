#include "store/structs.h"

#include "codec/json_write.h"

/* ---- columns ---- */

static void column_init(pn_column *c, const pn_alloc *alloc, uint8_t kind)
{
    *c = (pn_column){.kind = kind};
    pn_buf_init(&c->name, alloc);
    pn_buf_init(&c->text, alloc);
}

/* Frees the arrays; the words must have been released. */
static void column_clear(pn_column *c)
{
    const pn_alloc *alloc = c->text.alloc;
    pn_buf_clear(&c->name);
    pn_buf_clear(&c->text);
    pn_alloc_put(alloc, c->lens);
    pn_alloc_put(alloc, c->words);
    pn_kept_clear(&c->saved, alloc);
    pn_kept_clear(&c->pending, alloc);
    column_init(c, alloc, c->kind);
}

static void release_words(const pn_word *words, size_t n, const pn_host *host)
{
    for (size_t i = 0; i < n; i++)
        if (!pn_word_is_header(words[i])) host->release(host->ctx, (void *)words[i]);
}

/* Room for `more` items behind the `len` there are. */
static pn_status reserve(const pn_alloc *alloc, void **array, size_t *cap, size_t len, size_t more, size_t size)
{
    if (*cap - len >= more) return PN_OK;
    PN_FAIL_IF(more > SIZE_MAX / 4 / size - len, PN_ERR_NOMEM);
    size_t want = *cap + *cap / 2 > len + more ? *cap + *cap / 2 : len + more;
    void *p = pn_alloc_grow(alloc, *array, want * size);
    PN_FAIL_IF(p == NULL, PN_ERR_NOMEM);
    *array = p;
    *cap = want;
    return PN_OK;
}

static pn_status reserve_rows(pn_column *c, size_t more)
{
    void *p = c->lens;
    pn_status s = reserve(c->text.alloc, &p, &c->row_cap, c->rows, more, sizeof *c->lens);
    c->lens = p;
    return s;
}

static pn_status reserve_words(pn_column *c, size_t more)
{
    void *p = c->words;
    pn_status s = reserve(c->text.alloc, &p, &c->word_cap, c->word_len, more, sizeof *c->words);
    c->words = p;
    return s;
}

/* The column gets new rows at its end. */
static void note_rows(pn_column *c, size_t rows, size_t bytes)
{
    pn_kept_append(&c->saved, c->text.alloc, c->rows, rows, bytes);
    pn_kept_append(&c->pending, c->text.alloc, c->rows, rows, bytes);
}

/* ---- rows ---- */

pn_status pn_column_push(pn_column *c, pn_bytes text, const pn_word *words, size_t n)
{
    PN_FAIL_IF(text.len > UINT32_MAX, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_buf_reserve(&c->text, text.len + 2));
    PN_TRY(reserve_rows(c, 1));
    PN_TRY(reserve_words(c, n));
    note_rows(c, 1, text.len);
    if (c->rows) (void)PN_BUF_LIT(&c->text, ", ");
    (void)pn_buf_append(&c->text, text.ptr, text.len);
    c->lens[c->rows++] = (uint32_t)text.len;
    if (n) memcpy(c->words + c->word_len, words, n * sizeof *words);
    c->word_len += n;
    return PN_OK;
}

pn_status pn_column_extend(pn_column *c, size_t n, const uint8_t *lens, pn_bytes text)
{
    PN_FAIL_IF(c->word_len != 0, PN_ERR_INVALID);
    if (n == 0) return PN_OK;
    PN_TRY(pn_buf_reserve(&c->text, text.len + 2));
    PN_TRY(reserve_rows(c, n));
    note_rows(c, n, text.len);
    if (c->rows) (void)PN_BUF_LIT(&c->text, ", ");
    (void)pn_buf_append(&c->text, text.ptr, text.len);
    for (size_t i = 0; i < n; i++) c->lens[c->rows + i] = pn_get_u32(lens + 4 * i);
    c->rows += n;
    return PN_OK;
}

pn_status pn_column_bind(pn_column *c, const pn_word *words, size_t n)
{
    PN_FAIL_IF(c->word_len != 0, PN_ERR_INVALID);
    PN_TRY(reserve_words(c, n));
    if (n) memcpy(c->words, words, n * sizeof *words);
    c->word_len = n;
    return PN_OK;
}

size_t pn_words_of_value(const pn_word *words, size_t n)
{
    size_t i = 0;
    for (size_t pending = 1; pending; pending--) {
        if (i == n) return 0;
        pn_word w = words[i++];
        if (pn_word_is_header(w)) pending += pn_word_count(w) << pn_word_is_dict(w);
    }
    return i;
}

/* ---- life ---- */

pn_status pn_struct_new(const pn_alloc *alloc, pn_bytes type, pn_struct **out)
{
    pn_struct *s = pn_alloc_zero(alloc, 1, sizeof *s);
    PN_FAIL_IF(s == NULL, PN_ERR_NOMEM);
    s->alloc = alloc;
    pn_buf_init(&s->type, alloc);
    pn_status status = pn_buf_append(&s->type, type.ptr, type.len);
    if (status != PN_OK) {
        pn_alloc_put(alloc, s);
        return status;
    }
    *out = s;
    return PN_OK;
}

pn_status pn_struct_add(pn_struct *s, pn_bytes name)
{
    PN_FAIL_IF(s->count == PN_STRUCT_MAX_COLUMNS, PN_ERR_UNSUPPORTED);
    pn_column *c = &s->columns[s->count];
    column_init(c, s->alloc, PN_COLUMN_VALUE);
    PN_TRY(pn_buf_append(&c->name, name.ptr, name.len));
    s->count++;
    return PN_OK;
}

void pn_struct_measure(pn_struct *s)
{
    s->bytes = sizeof *s;
    for (size_t i = 0; i < s->count; i++) {
        const pn_column *c = &s->columns[i];
        s->bytes += c->text.cap + c->row_cap * sizeof *c->lens + c->word_cap * sizeof *c->words;
    }
}

static void spend(size_t *effort, size_t n) { *effort -= n < *effort ? n : *effort; }

bool pn_struct_free_some(pn_struct *s, size_t *effort, const pn_host *host)
{
    for (; s->count && *effort; s->count--) {
        pn_column *c = &s->columns[s->count - 1];
        size_t n = c->word_len < *effort ? c->word_len : *effort;
        c->word_len -= n;
        release_words(c->words + c->word_len, n, host);
        spend(effort, n);
        if (c->word_len) return false;
        column_clear(c);
        spend(effort, 1);
    }
    if (s->count) return false;
    pn_buf_clear(&s->type);
    pn_alloc_put(s->alloc, s);
    return true;
}

void pn_struct_free(pn_struct *s, const pn_host *host)
{
    size_t effort = SIZE_MAX;
    if (s != NULL) (void)pn_struct_free_some(s, &effort, host);
}

/* ---- writing ---- */

typedef pn_status (*put_text)(pn_buf *out, pn_bytes text);

static pn_status put_plain(pn_buf *out, pn_bytes text) { return pn_buf_append(out, text.ptr, text.len); }

/* A column as "name": value; name holds the JSON text of the name and ": ". */
static pn_status put_column(const pn_column *c, pn_bytes name, put_text put, pn_buf *out)
{
    static const pn_bytes open[] = {{NULL, 0}, {(const uint8_t *)"[", 1}, {(const uint8_t *)"{", 1}};
    static const pn_bytes close[] = {{NULL, 0}, {(const uint8_t *)"]", 1}, {(const uint8_t *)"}", 1}};
    PN_TRY(put(out, name));
    PN_TRY(put(out, open[c->kind]));
    PN_TRY(put(out, pn_buf_view(&c->text)));
    return put(out, close[c->kind]);
}

static pn_status put_columns(const pn_struct *s, put_text put, pn_buf *name, pn_buf *out)
{
    PN_TRY(put(out, PN_BYTES("{")));
    for (size_t i = 0; i < s->count; i++) {
        name->len = 0;
        if (i) PN_TRY(PN_BUF_LIT(name, ", "));
        PN_TRY(pn_json_put_string(name, pn_buf_view(&s->columns[i].name)));
        PN_TRY(PN_BUF_LIT(name, ": "));
        PN_TRY(put_column(&s->columns[i], pn_buf_view(name), put, out));
    }
    return put(out, PN_BYTES("}"));
}

static pn_status put_data(const pn_struct *s, put_text put, pn_buf *out)
{
    pn_buf name;
    pn_buf_init(&name, s->alloc);
    pn_status status = put_columns(s, put, &name, out);
    pn_buf_clear(&name);
    return status;
}

pn_status pn_struct_write_data(const pn_struct *s, pn_buf *out) { return put_data(s, put_plain, out); }

pn_status pn_struct_write_json(const pn_struct *s, pn_buf *out)
{
    size_t length = 64;
    for (size_t i = 0; i < s->count; i++) length += s->columns[i].text.len + s->columns[i].rows * 4;
    PN_TRY(pn_buf_reserve(out, length));
    PN_TRY(PN_BUF_LIT(out, "{\"__type__\": "));
    PN_TRY(pn_json_put_string(out, pn_buf_view(&s->type)));
    PN_TRY(PN_BUF_LIT(out, ", \"__data__\": \""));
    PN_TRY(put_data(s, pn_json_put_nested, out));
    return PN_BUF_LIT(out, "\"}");
}

/* ---- edits ---- */

void pn_edit_init(pn_edit *e, pn_column *c)
{
    *e = (pn_edit){.column = c};
    column_init(&e->tail, c->text.alloc, c->kind);
}

static size_t text_of_rows(const pn_column *c, size_t rows)
{
    if (rows == c->rows) return c->text.len;
    size_t bytes = rows ? 2 * (rows - 1) : 0;
    for (size_t i = 0; i < rows; i++) bytes += c->lens[i];
    return bytes;
}

pn_status pn_edit_begin(pn_edit *e, uint8_t kind, size_t rows, size_t words)
{
    const pn_column *c = e->column;
    e->tail.kind = kind;
    PN_FAIL_IF(rows > c->rows || words > c->word_len || (rows && kind != c->kind), PN_ERR_INVALID);
    e->rows = rows;
    e->words = words;
    e->bytes = text_of_rows(c, rows);
    e->row = kind == c->kind && c->word_len ? rows : c->rows; /* at the end nothing is found */
    e->word = words;
    e->byte = e->bytes + (rows ? 2 : 0);
    e->effort = c->rows * 4 + 1024;
    return PN_OK;
}

/* The words of the row at `word`: a key where there are keys, and a value. */
static size_t row_words(const pn_column *c, size_t word)
{
    size_t key = c->kind == PN_COLUMN_DICT;
    return key + pn_words_of_value(c->words + word + key, c->word_len - word - key);
}

typedef struct {
    size_t row, word, byte;
} place;

static void step(const pn_column *c, place *p)
{
    p->byte += c->lens[p->row] + 2;
    p->word += row_words(c, p->word);
    p->row++;
}

static bool words_at(const pn_column *c, size_t word, const pn_word *words, size_t n)
{
    return c->word_len - word >= n && memcmp(c->words + word, words, n * sizeof *words) == 0;
}

static place place_of(const pn_edit *e) { return (place){e->row, e->word, e->byte}; }

static void go_to(pn_edit *e, place p)
{
    e->row = p.row;
    e->word = p.word;
    e->byte = p.byte;
}

/* The current row has the same key and another value: the new one stands for it. */
static bool is_replaced(const pn_edit *e, const pn_word *words, size_t n)
{
    const pn_column *c = e->column;
    return e->row < c->rows && c->kind == PN_COLUMN_DICT && c->words[e->word] == words[0] &&
           !words_at(c, e->word, words, n);
}

bool pn_edit_find(pn_edit *e, const pn_word *words, size_t n)
{
    const pn_column *c = e->column;
    place p = place_of(e);
    if (is_replaced(e, words, n)) {
        step(c, &p);
        go_to(e, p);
        return false;
    }
    for (; p.row < c->rows && e->effort; step(c, &p), e->effort--) {
        if (!words_at(c, p.word, words, n)) continue;
        go_to(e, p);
        return true;
    }
    return false;
}

/* The next rows of the column come next in the tail. */
static pn_status note_run(pn_edit *e, size_t rows, size_t bytes, size_t words)
{
    const pn_column *t = &e->tail;
    pn_edit_run *last = e->run_len ? &e->runs[e->run_len - 1] : NULL;
    if (last != NULL && last->from + last->len == e->word && last->at + last->len == t->word_len) {
        last->len += words;
        last->rows += rows;
        last->bytes += bytes + 2;
        return PN_OK;
    }
    void *p = e->runs;
    PN_TRY(reserve(e->tail.text.alloc, &p, &e->run_cap, e->run_len, 1, sizeof *e->runs));
    e->runs = p;
    e->runs[e->run_len++] = (pn_edit_run){e->word, t->word_len, words, e->row, rows,
                                          t->rows, t->text.len + (t->rows ? 2 : 0), bytes};
    return PN_OK;
}

/* The text of the next `rows` rows. */
static pn_bytes text_of_next(const pn_edit *e, size_t rows)
{
    size_t len = 2 * (rows - 1);
    for (size_t i = 0; i < rows; i++) len += e->column->lens[e->row + i];
    return (pn_bytes){e->column->text.data + e->byte, len};
}

pn_status pn_edit_keep(pn_edit *e, size_t rows, size_t words)
{
    const pn_column *c = e->column;
    pn_column *t = &e->tail;
    PN_FAIL_IF(rows == 0 || rows > c->rows - e->row || words > c->word_len - e->word, PN_ERR_INVALID);
    pn_bytes text = text_of_next(e, rows);
    PN_TRY(pn_buf_reserve(&t->text, text.len + 2));
    PN_TRY(reserve_rows(t, rows));
    PN_TRY(reserve_words(t, words));
    PN_TRY(note_run(e, rows, text.len, words));
    if (t->rows) (void)PN_BUF_LIT(&t->text, ", ");
    (void)pn_buf_append(&t->text, text.ptr, text.len);
    memcpy(t->lens + t->rows, c->lens + e->row, rows * sizeof *t->lens);
    memcpy(t->words + t->word_len, c->words + e->word, words * sizeof *t->words);
    t->rows += rows;
    t->word_len += words;
    go_to(e, (place){e->row + rows, e->word + words, e->byte + text.len + 2});
    return PN_OK;
}

pn_status pn_edit_add(pn_edit *e, pn_bytes text, const pn_word *words, size_t n)
{
    return pn_column_push(&e->tail, text, words, n);
}

pn_status pn_edit_prepare(pn_edit *e)
{
    pn_column *c = e->column, *t = &e->tail;
    if (c->rows - e->rows < t->rows) PN_TRY(reserve_rows(c, t->rows - (c->rows - e->rows)));
    if (c->word_len - e->words < t->word_len) PN_TRY(reserve_words(c, t->word_len - (c->word_len - e->words)));
    size_t bytes = t->text.len + 2, old = c->text.len - e->bytes;
    return old < bytes ? pn_buf_reserve(&c->text, bytes - old) : PN_OK;
}

static void edit_clear(pn_edit *e)
{
    column_clear(&e->tail);
    pn_alloc_put(e->tail.text.alloc, e->runs);
    e->runs = NULL;
    e->run_len = e->run_cap = 0;
}

/* New rows of the tail, up to the row whose text begins at `byte`. */
static void note_new(pn_kept_edit *k, size_t from, size_t from_byte, size_t row, size_t byte)
{
    if (row > from) pn_kept_edit_add(k, row - from, byte - PN_KEPT_SEPARATOR - from_byte);
}

/* Which of a commit's rows the edit leaves. */
static void note_kept(const pn_edit *e, pn_kept *kept)
{
    pn_kept_edit k;
    const pn_column *t = &e->tail;
    size_t row = 0, byte = 0;
    if (!kept->on) return;
    pn_kept_edit_begin(&k, kept, e->column->lens);
    pn_kept_edit_keep(&k, 0, e->rows);
    for (size_t i = 0; i < e->run_len; i++) {
        const pn_edit_run *run = &e->runs[i];
        note_new(&k, row, byte, run->at_row, run->at_byte);
        pn_kept_edit_keep(&k, run->row, run->rows);
        row = run->at_row + run->rows;
        byte = run->at_byte + run->bytes + PN_KEPT_SEPARATOR;
    }
    note_new(&k, row, byte, t->rows, t->text.len + PN_KEPT_SEPARATOR);
    pn_kept_edit_end(&k, kept, t->text.alloc);
}

void pn_edit_commit(pn_edit *e, const pn_host *host)
{
    pn_column *c = e->column, *t = &e->tail;
    size_t word = e->words;
    for (size_t i = 0; i <= e->run_len; i++) { /* what lies between the runs goes */
        size_t end = i < e->run_len ? e->runs[i].from : c->word_len;
        release_words(c->words + word, end - word, host);
        if (i < e->run_len) word = end + e->runs[i].len;
    }
    note_kept(e, &c->saved);
    note_kept(e, &c->pending);
    c->kind = t->kind;
    c->text.len = e->bytes;
    if (e->rows && t->rows) (void)PN_BUF_LIT(&c->text, ", ");
    (void)pn_buf_append(&c->text, t->text.data, t->text.len);
    if (t->rows) memcpy(c->lens + e->rows, t->lens, t->rows * sizeof *t->lens);
    if (t->word_len) memcpy(c->words + e->words, t->words, t->word_len * sizeof *t->words);
    c->rows = e->rows + t->rows;
    c->word_len = e->words + t->word_len;
    edit_clear(e);
}

void pn_edit_abort(pn_edit *e, const pn_host *host)
{
    size_t word = 0;
    for (size_t i = 0; i <= e->run_len; i++) { /* the runs are the column's still */
        size_t end = i < e->run_len ? e->runs[i].at : e->tail.word_len;
        release_words(e->tail.words + word, end - word, host);
        if (i < e->run_len) word = end + e->runs[i].len;
    }
    edit_clear(e);
}
