/* Stepping over values: validation and the canonical bit in one pass.
 *
 * A stack of bits tells objects from arrays. While everything was canonical so far,
 * the keys of all open objects are kept in one bounded pool; canonical keys are equal
 * exactly when their raw bytes are, so duplicates show without unescaping. When the
 * pool is full the span is called not canonical, which is always safe: it is then
 * only written again instead of copied. */
#include "base/hash.h"
#include "codec/json_lex.h"

enum { KEY_POOL = 1024 };

typedef struct walk {
    pn_json_reader *r;
    uint32_t depth; /* open containers of this value */
    bool canonical;
    uint32_t keys;
    uint64_t seed;
    uint64_t is_object[PN_JSON_MAX_DEPTH / 64 + 1];
    uint32_t first_key[PN_JSON_MAX_DEPTH]; /* of the object at that depth */
    uint32_t key_hash[KEY_POOL];
    pn_bytes key[KEY_POOL];
} walk;

static bool in_object(const walk *w) { return w->is_object[(w->depth - 1) / 64] >> ((w->depth - 1) % 64) & 1; }

static pn_status open_container(walk *w, bool object)
{
    pn_json_reader *r = w->r;
    uint32_t d = w->depth;
    if (r->depth + d >= PN_JSON_MAX_DEPTH) return pn_lex_fail(r, r->p, PN_ERR_DEPTH, "nested too deeply");
    uint64_t bit = (uint64_t)1 << (d % 64);
    w->is_object[d / 64] = object ? w->is_object[d / 64] | bit : w->is_object[d / 64] & ~bit;
    w->first_key[d] = w->keys;
    w->depth++;
    r->p++;
    return PN_OK;
}

static void close_container(walk *w)
{
    w->depth--;
    w->keys = w->first_key[w->depth];
    w->r->p++;
}

/* Whitespace where json.dumps writes `want` spaces (0 or 1). */
static inline void gap(walk *w, size_t want)
{
    pn_json_reader *r = w->r;
    const uint8_t *p = r->p, *q = p;
    if (want && q < r->end && *q == ' ') q++;
    if (q == r->end || *q > ' ') { /* the usual case */
        if ((size_t)(q - p) != want) w->canonical = false;
        r->p = q;
        return;
    }
    r->p = pn_lex_space(q, r->end);
    w->canonical = false;
}

static bool seen(const walk *w, pn_bytes key, uint32_t hash)
{
    for (uint32_t i = w->first_key[w->depth - 1]; i < w->keys; i++)
        if (w->key_hash[i] == hash && pn_bytes_equal(w->key[i], key)) return true;
    return false;
}

/* A key adds to the pool, or takes the canonical bit away. */
static void note_key(walk *w, const pn_json_str *s)
{
    pn_bytes key = {s->ptr, s->len};
    uint32_t hash = (uint32_t)pn_hash_bytes(key, w->seed);
    if (!s->canonical || w->keys == KEY_POOL || seen(w, key, hash)) {
        w->canonical = false;
        return;
    }
    w->key_hash[w->keys] = hash;
    w->key[w->keys++] = key;
}

/* `"key": ` in front of a value. */
static pn_status key_and_colon(walk *w)
{
    pn_json_reader *r = w->r;
    pn_json_str key;
    if (r->p == r->end || *r->p != '"')
        return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a key in double quotes");
    PN_TRY(pn_lex_string(r, &key));
    if (w->canonical) note_key(w, &key);
    gap(w, 0);
    if (r->p == r->end || *r->p != ':') return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a colon");
    r->p++;
    gap(w, 1);
    return PN_OK;
}

/* One token that is a whole value. */
static pn_status scalar(pn_json_reader *r, bool *canonical)
{
    pn_json_str s;
    pn_json_num n;
    switch (*r->p) {
    case '"':
        PN_TRY(pn_lex_string(r, &s));
        *canonical &= s.canonical;
        return PN_OK;
    case 't': case 'f': case 'n':
        return pn_lex_literal(r);
    default:
        PN_TRY(pn_lex_number(r, &n));
        if (*canonical) *canonical = pn_lex_number_canonical(&n);
        return PN_OK;
    }
}

/* Behind a value: closing brackets, then a comma, and up to the next value. Sets
 * *done when the outermost container has been closed. */
static pn_status after_value(walk *w, bool *done)
{
    pn_json_reader *r = w->r;
    for (;;) {
        if (w->depth == 0) {
            *done = true;
            return PN_OK;
        }
        gap(w, 0);
        bool object = in_object(w);
        uint8_t c = r->p < r->end ? *r->p : 0;
        if (c == ',') {
            r->p++;
            gap(w, 1);
            return object ? key_and_colon(w) : PN_OK;
        }
        if (c != (object ? '}' : ']'))
            return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a comma or the closing bracket");
        close_container(w);
    }
}

/* An opening bracket: up to the first value inside, or, when it is empty, behind it
 * and whatever else ends there. */
static pn_status enter(walk *w, bool *done)
{
    pn_json_reader *r = w->r;
    bool object = *r->p == '{';
    PN_TRY(open_container(w, object));
    gap(w, 0);
    if (r->p < r->end && *r->p == (object ? '}' : ']')) {
        close_container(w);
        return after_value(w, done);
    }
    return object ? key_and_colon(w) : PN_OK;
}

/* The reader stands at an opening bracket. */
static pn_status skip_container(pn_json_reader *r, bool *canonical)
{
    walk w;
    w.r = r;
    w.depth = w.keys = 0;
    w.canonical = true;
    w.seed = pn_hash_seed();
    memset(w.is_object, 0, sizeof w.is_object);
    bool done = false;
    PN_TRY(enter(&w, &done));
    while (!done) {
        uint8_t c = r->p < r->end ? *r->p : 0;
        if (c == '{' || c == '[') {
            PN_TRY(enter(&w, &done));
            continue;
        }
        if (r->p == r->end) return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a value");
        PN_TRY(scalar(r, &w.canonical));
        PN_TRY(after_value(&w, &done));
    }
    *canonical = w.canonical;
    return PN_OK;
}

pn_status pn_json_skip(pn_json_reader *r, pn_json_span *out)
{
    pn_json_type type = pn_json_peek(r);
    if (type == PN_JSON_END || type == PN_JSON_BAD) return pn_lex_fail(r, r->p, PN_ERR_SYNTAX, "expected a value");
    const uint8_t *start = r->p;
    bool canonical = true;
    if (type == PN_JSON_OBJECT || type == PN_JSON_ARRAY)
        PN_TRY(skip_container(r, &canonical));
    else
        PN_TRY(scalar(r, &canonical));
    r->first = false;
    if (out != NULL) *out = (pn_json_span){start, (size_t)(r->p - start), type, canonical};
    return PN_OK;
}
