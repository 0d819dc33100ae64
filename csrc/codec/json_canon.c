/* Any valid text to the one that json.dumps writes.
 *
 * Output is appended as the input is walked. For every open object the places of its
 * entries in the output are kept, so that duplicate keys can be found when it closes;
 * only an object that has some is put together again. Time is linear but for objects
 * inside objects that both have duplicates: a copy for each level. */
#include "base/hash.h"
#include "codec/json_walk.h"
#include "codec/json_write.h"
#include "codec/number.h"

typedef struct entry {
    size_t key, key_len; /* with the quotes; offsets into the output */
    size_t value, end;
    uint64_t hash;
    bool dropped; /* a duplicate: its value has moved to the first of them */
} entry;

typedef struct frame {
    size_t start; /* of its '{' or '[' in the output */
    size_t first; /* of its entries */
    bool object, some;
} frame;

typedef struct job {
    const pn_alloc *alloc;
    pn_buf *out;
    pn_buf scratch; /* unescaped strings, rebuilt objects */
    pn_buf entries;
    uint64_t seed;
    uint32_t depth;
    bool after_key;
    frame stack[PN_JSON_MAX_DEPTH];
} job;

static entry *entries(const job *j) { return (entry *)(void *)j->entries.data; }
static size_t entry_count(const job *j) { return j->entries.len / sizeof(entry); }

/* The comma in front of every item but the first. */
static pn_status separate(job *j)
{
    if (j->depth == 0) return PN_OK;
    if (j->after_key) {
        j->after_key = false;
        return PN_OK;
    }
    frame *f = &j->stack[j->depth - 1];
    if (f->some) return PN_BUF_LIT(j->out, ", ");
    f->some = true;
    return PN_OK;
}

/* After a value: it may be that of an entry. */
static pn_status complete(job *j)
{
    if (j->depth && j->stack[j->depth - 1].object) entries(j)[entry_count(j) - 1].end = j->out->len;
    return PN_OK;
}

static pn_status put_string(job *j, const pn_json_str *s)
{
    if (s->canonical) return pn_buf_append(j->out, s->ptr - 1, s->len + 2);
    j->scratch.len = 0;
    PN_TRY(pn_json_unescape(s, &j->scratch));
    return pn_json_put_string(j->out, pn_buf_view(&j->scratch));
}

/* A high surrogate and a low one that are two characters to Python, since they did
 * not come as one escape pair. They print as the pair would. */
static bool has_split_pair(pn_bytes utf8)
{
    for (size_t i = 0; i + 5 < utf8.len; i++)
        if (utf8.ptr[i] == 0xed && (utf8.ptr[i + 1] & 0xf0) == 0xa0 && utf8.ptr[i + 3] == 0xed &&
            utf8.ptr[i + 4] >= 0xb0)
            return true;
    return false;
}

static pn_status on_key(void *ctx, const pn_json_str *key)
{
    job *j = ctx;
    PN_TRY(separate(j));
    entry e = {.key = j->out->len};
    PN_TRY(put_string(j, key));
    /* Two keys of one text would be one key here; leave those to the general path. */
    PN_FAIL_IF(!key->ascii && has_split_pair(pn_buf_view(&j->scratch)), PN_ERR_UNSUPPORTED);
    e.key_len = j->out->len - e.key;
    e.hash = pn_hash_bytes((pn_bytes){j->out->data + e.key, e.key_len}, j->seed);
    PN_TRY(PN_BUF_LIT(j->out, ": "));
    e.value = j->out->len;
    j->after_key = true;
    return pn_buf_append(&j->entries, &e, sizeof e);
}

static pn_status on_string(void *ctx, const pn_json_str *s)
{
    job *j = ctx;
    PN_TRY(separate(j));
    PN_TRY(put_string(j, s));
    return complete(j);
}

static pn_status on_number(void *ctx, const pn_json_num *n)
{
    job *j = ctx;
    PN_TRY(separate(j));
    double v;
    if (n->is_int && n->len == 2 && n->ptr[0] == '-' && n->ptr[1] == '0')
        PN_TRY(pn_buf_push(j->out, '0'));
    else if (n->is_int)
        PN_TRY(pn_buf_append(j->out, n->ptr, n->len));
    else {
        PN_TRY(pn_json_num_double(n, &v));
        PN_TRY(pn_json_put_double(j->out, v));
    }
    return complete(j);
}

static pn_status on_literal(void *ctx, pn_json_type type)
{
    job *j = ctx;
    PN_TRY(separate(j));
    const char *word = type == PN_JSON_TRUE ? "true" : type == PN_JSON_FALSE ? "false" : "null";
    PN_TRY(pn_buf_append(j->out, word, strlen(word)));
    return complete(j);
}

static pn_status on_begin(void *ctx, pn_json_type type)
{
    job *j = ctx;
    PN_TRY(separate(j));
    bool object = type == PN_JSON_OBJECT;
    j->stack[j->depth++] = (frame){j->out->len, entry_count(j), object, false};
    return pn_buf_push(j->out, object ? '{' : '[');
}

/* ---- duplicate keys ---- */

/* Moves the value of each duplicate to the first entry of that key. `slots` is an empty
 * table of a power of two, more than n. */
static bool merge_duplicates(const job *j, entry *e, size_t n, uint32_t *slots, size_t mask)
{
    bool any = false;
    const uint8_t *text = j->out->data;
    for (size_t i = 0; i < n; i++) {
        size_t s = e[i].hash & mask;
        for (; slots[s] != 0; s = (s + 1) & mask) {
            entry *o = &e[slots[s] - 1];
            if (o->hash != e[i].hash || o->key_len != e[i].key_len) continue;
            if (memcmp(text + o->key, text + e[i].key, o->key_len) != 0) continue;
            o->value = e[i].value;
            o->end = e[i].end;
            e[i].dropped = any = true;
            break;
        }
        if (slots[s] == 0) slots[s] = (uint32_t)i + 1;
    }
    return any;
}

/* Writes the object from `start` on again, without what was dropped. */
static pn_status rebuild(job *j, size_t start, const entry *e, size_t n)
{
    pn_buf *to = &j->scratch;
    const uint8_t *text = j->out->data;
    to->len = 0;
    for (size_t i = 0; i < n; i++) {
        if (e[i].dropped) continue;
        PN_TRY(pn_buf_append(to, i ? ", " : "{", i ? 2 : 1));
        PN_TRY(pn_buf_append(to, text + e[i].key, e[i].key_len));
        PN_TRY(PN_BUF_LIT(to, ": "));
        PN_TRY(pn_buf_append(to, text + e[i].value, e[i].end - e[i].value));
    }
    memcpy(j->out->data + start, to->data, to->len);
    j->out->len = start + to->len;
    return PN_OK;
}

static pn_status drop_duplicates(job *j, const frame *f)
{
    enum { SMALL = 32 };
    uint32_t few[SMALL] = {0}, *slots = few;
    size_t n = entry_count(j) - f->first, size = SMALL;
    if (n < 2) return PN_OK;
    entry *e = entries(j) + f->first;
    PN_FAIL_IF(n >= UINT32_MAX / 2, PN_ERR_RANGE);
    while (size < 2 * n) size *= 2;
    if (size > SMALL) slots = pn_alloc_zero(j->alloc, size, sizeof *slots);
    PN_FAIL_IF(slots == NULL, PN_ERR_NOMEM);
    bool any = merge_duplicates(j, e, n, slots, size - 1);
    if (slots != few) pn_alloc_put(j->alloc, slots);
    return any ? rebuild(j, f->start, e, n) : PN_OK;
}

static pn_status on_end(void *ctx, pn_json_type type)
{
    job *j = ctx;
    frame f = j->stack[j->depth - 1];
    if (type == PN_JSON_OBJECT) PN_TRY(drop_duplicates(j, &f));
    j->entries.len = f.first * sizeof(entry);
    j->depth--;
    PN_TRY(pn_buf_push(j->out, f.object ? '}' : ']'));
    return complete(j);
}

static pn_status rewrite(pn_bytes text, const pn_alloc *alloc, pn_buf *out)
{
    static const pn_json_events on = {on_begin, on_end, on_key, on_string, on_number, on_literal};
    job j;
    j.alloc = alloc;
    j.out = out;
    j.seed = pn_hash_seed();
    j.depth = 0;
    j.after_key = false;
    pn_buf_init(&j.scratch, alloc);
    pn_buf_init(&j.entries, alloc);
    pn_status s = pn_json_walk(text, &on, &j);
    pn_buf_clear(&j.scratch);
    pn_buf_clear(&j.entries);
    return s;
}

pn_status pn_json_canonicalize(pn_bytes text, const pn_alloc *alloc, pn_buf *out)
{
    bool canonical;
    size_t before = out->len;
    PN_TRY(pn_json_check(text, &canonical));
    if (canonical) return pn_buf_append(out, text.ptr, text.len);
    pn_status s = rewrite(text, alloc, out);
    if (s != PN_OK) out->len = before;
    return s;
}

pn_status pn_json_is_canonical(pn_bytes text, const pn_alloc *alloc, bool *canonical)
{
    pn_buf again;
    PN_TRY(pn_json_check(text, canonical));
    if (*canonical) return PN_OK;
    pn_buf_init(&again, alloc);
    pn_status s = rewrite(text, alloc, &again);
    if (s == PN_OK) *canonical = pn_bytes_equal(text, pn_buf_view(&again));
    pn_buf_clear(&again);
    return s == PN_ERR_UNSUPPORTED ? PN_OK : s; /* a key that no canonical text has */
}
