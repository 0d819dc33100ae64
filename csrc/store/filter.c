#define _GNU_SOURCE
#include "store/filter.h"

#include "codec/json_read.h"

bool pn_filter_op_named(pn_bytes name, pn_filter_op *out)
{
    static const struct {
        const char *name;
        pn_filter_op op;
    } names[] = {
        {"==", PN_OP_EQ},   {"!=", PN_OP_NE},   {">", PN_OP_GT},
        {">=", PN_OP_GTE},  {"<", PN_OP_LT},    {"<=", PN_OP_LTE},
        {"in", PN_OP_IN},   {"nin", PN_OP_NIN}, {"contains", PN_OP_CONTAINS},
        {"all", PN_OP_ALL}, {"any", PN_OP_ANY}, {"text_match", PN_OP_TEXT_MATCH},
        {"text_match_insensitive", PN_OP_TEXT_MATCH_INSENSITIVE}, {"is_empty", PN_OP_IS_EMPTY},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        pn_bytes known = {(const uint8_t *)names[i].name, strlen(names[i].name)};
        if (!pn_bytes_equal(known, name)) continue;
        *out = names[i].op;
        return true;
    }
    return false;
}

/* ---- walking canonical text ---- */

/* Behind the closing quote of the string whose first character is at p. */
static const uint8_t *after_string(const uint8_t *p, const uint8_t *end)
{
    while (p < end && *p != '"') p += *p == '\\' ? 2 : 1;
    return p < end ? p + 1 : end;
}

static const uint8_t *after_container(const uint8_t *p, const uint8_t *end)
{
    size_t depth = 0;
    while (p < end) {
        uint8_t c = *p++;
        if (c == '"') p = after_string(p, end);
        else if (c == '{' || c == '[') depth++;
        else if ((c == '}' || c == ']') && --depth == 0) break;
    }
    return p;
}

static const uint8_t *after_value(const uint8_t *p, const uint8_t *end)
{
    if (p == end) return end;
    if (*p == '"') return after_string(p + 1, end);
    if (*p == '{' || *p == '[') return after_container(p, end);
    while (p < end && *p != ',' && *p != '}' && *p != ']') p++;
    return p;
}

/* The next item of a container: *p is behind its opening bracket or behind the item
 * before. False at its end. */
static bool next_item(const uint8_t **p, const uint8_t *end)
{
    if (*p < end && **p == ',') *p += 2; /* ", " */
    return *p < end && **p != '}' && **p != ']';
}

static bool next_member(const uint8_t **p, const uint8_t *end, pn_bytes *key, pn_bytes *value)
{
    if (!next_item(p, end)) return false;
    const uint8_t *k = *p + 1, *q = after_string(k, end);
    if (end - q < 3) return false;
    *key = (pn_bytes){k, (size_t)(q - 1 - k)};
    q += 2; /* ": " */
    *p = after_value(q, end);
    *value = (pn_bytes){q, (size_t)(*p - q)};
    return true;
}

/* ---- values ---- */

static bool read_i64(pn_bytes t, int64_t *out)
{
    bool negative = t.len && t.ptr[0] == '-';
    size_t i = negative;
    if (t.len - i == 0 || t.len - i > 18) return false; /* 18 digits always fit */
    int64_t v = 0;
    for (; i < t.len; i++) {
        if (t.ptr[i] < '0' || t.ptr[i] > '9') return false;
        v = v * 10 + (t.ptr[i] - '0');
    }
    *out = negative ? -v : v;
    return true;
}

static bool looks_int(pn_bytes t)
{
    for (size_t i = 0; i < t.len; i++)
        if (t.ptr[i] != '-' && (t.ptr[i] < '0' || t.ptr[i] > '9')) return false;
    return true;
}

static pn_value number(pn_bytes t)
{
    pn_value v = {.kind = PN_VALUE_OTHER, .text = t};
    v.is_int = read_i64(t, &v.i);
    if (!v.is_int) {
        pn_json_num n = {t.ptr, t.len, false};
        /* looks_int: bigger than what is compared here */
        if (looks_int(t) || pn_json_num_double(&n, &v.d) != PN_OK) return v;
    }
    v.kind = PN_VALUE_NUMBER;
    return v;
}

pn_value pn_filter_classify(pn_bytes t)
{
    pn_value v = {.kind = PN_VALUE_OTHER, .text = t};
    switch (t.len ? t.ptr[0] : 0) {
    case '"': return (pn_value){.kind = PN_VALUE_STRING, .text = {t.ptr + 1, t.len - 2}};
    case '[': return v.kind = PN_VALUE_LIST, v;
    case 0:
    case 'n': return v.kind = PN_VALUE_MISSING, v;
    case 't':
    case 'f': /* bool is an int in Python */
        return (pn_value){.kind = PN_VALUE_NUMBER, .text = t, .is_int = true, .i = t.ptr[0] == 't'};
    case '{': return v;
    default: return number(t);
    }
}

static bool escaped(pn_bytes s) { return s.len && memchr(s.ptr, '\\', s.len) != NULL; }

/* The characters of a JSON string as UTF-8: itself, or unescaped into scratch. */
static bool characters(pn_bytes s, pn_buf *scratch, pn_bytes *out)
{
    if (!escaped(s)) return *out = s, true;
    pn_json_str str = {.ptr = s.ptr, .len = s.len, .has_escape = true, .ascii = true};
    scratch->len = 0;
    if (pn_json_unescape(&str, scratch) != PN_OK) return false;
    *out = pn_buf_view(scratch);
    return true;
}

/* ---- comparing: less, equal, greater, unordered (a NaN), or ask ---- */

typedef enum order { LESS = -1, EQUAL = 0, GREATER = 1, UNORDERED = 2, ASK = 3 } order;

static order compare_doubles(double a, double b)
{
    return a < b ? LESS : a > b ? GREATER : a == b ? EQUAL : UNORDERED;
}

static order compare_mixed(int64_t i, double d)
{
    const int64_t exact = (int64_t)1 << 53;
    if (i > exact || i < -exact) return ASK;
    return compare_doubles((double)i, d);
}

static order flip(order o) { return o == LESS ? GREATER : o == GREATER ? LESS : o; }

static order compare_numbers(const pn_value *v, const pn_scalar *s)
{
    bool is_int = s->kind == PN_SCALAR_INT;
    if (v->is_int && is_int) return (order)((v->i > s->i) - (v->i < s->i));
    if (v->is_int) return compare_mixed(v->i, s->d);
    if (is_int) return flip(compare_mixed(s->i, v->d));
    return compare_doubles(v->d, s->d);
}

static bool is_number(const pn_scalar *s) { return s->kind == PN_SCALAR_INT || s->kind == PN_SCALAR_FLOAT; }

static pn_match truth(bool b) { return b ? PN_MATCH_YES : PN_MATCH_NO; }
static pn_match negate(pn_match m) { return m == PN_MATCH_ASK ? m : truth(m == PN_MATCH_NO); }

/* v == s for a value that is there. */
static pn_match equals(const pn_value *v, const pn_scalar *s)
{
    if (v->kind == PN_VALUE_STRING) return truth(s->kind == PN_SCALAR_STR && pn_bytes_equal(v->text, s->escaped));
    if (v->kind == PN_VALUE_NUMBER && is_number(s)) {
        order o = compare_numbers(v, s);
        return o == ASK ? PN_MATCH_ASK : truth(o == EQUAL);
    }
    /* A big integer may still equal a float; a list, an object or null never a scalar. */
    bool big = v->kind == PN_VALUE_OTHER && v->text.ptr[0] != '{';
    return big && is_number(s) ? PN_MATCH_ASK : PN_MATCH_NO;
}

static pn_match equals_filter(const pn_value *v, const pn_filter *f)
{
    if (f->is_list) return v->kind == PN_VALUE_LIST ? PN_MATCH_ASK : PN_MATCH_NO;
    return equals(v, &f->values[0]);
}

static pn_match ordered(const pn_value *v, const pn_filter *f, pn_buf *scratch)
{
    if (f->is_list) return PN_MATCH_ASK;
    const pn_scalar *s = &f->values[0];
    order o = ASK;
    if (v->kind == PN_VALUE_NUMBER && is_number(s)) o = compare_numbers(v, s);
    pn_bytes chars;
    if (v->kind == PN_VALUE_STRING && s->kind == PN_SCALAR_STR && characters(v->text, scratch, &chars)) {
        int c = pn_bytes_compare(chars, s->utf8);
        o = c < 0 ? LESS : c > 0 ? GREATER : EQUAL;
    }
    if (o == ASK) return PN_MATCH_ASK;
    switch (f->op) {
    case PN_OP_GT: return truth(o == GREATER);
    case PN_OP_GTE: return truth(o == GREATER || o == EQUAL);
    case PN_OP_LT: return truth(o == LESS);
    default: return truth(o == LESS || o == EQUAL);
    }
}

/* ---- containment ---- */

static bool holds(pn_bytes haystack, pn_bytes needle)
{
    if (needle.len == 0) return true;
    return haystack.len >= needle.len && memmem(haystack.ptr, haystack.len, needle.ptr, needle.len) != NULL;
}

/* needle in v, both strings. */
static pn_match in_string(const pn_value *v, const pn_scalar *needle, pn_buf *scratch)
{
    pn_bytes chars;
    if (needle->kind != PN_SCALAR_STR || !characters(v->text, scratch, &chars)) return PN_MATCH_ASK;
    return truth(holds(chars, needle->utf8));
}

/* v in the filter's value. */
static pn_match value_in(const pn_value *v, const pn_filter *f, pn_buf *scratch)
{
    pn_bytes chars;
    if (!f->is_list) {
        const pn_scalar *s = &f->values[0];
        if (v->kind != PN_VALUE_STRING || s->kind != PN_SCALAR_STR || !characters(v->text, scratch, &chars))
            return PN_MATCH_ASK;
        return truth(holds(s->utf8, chars));
    }
    for (size_t i = 0; i < f->n; i++) {
        pn_match m = equals(v, &f->values[i]);
        if (m != PN_MATCH_NO) return m;
    }
    return PN_MATCH_NO;
}

/* s in v, where v is a string or a list. */
static pn_match contains(const pn_value *v, const pn_scalar *s, pn_buf *scratch)
{
    if (v->kind == PN_VALUE_STRING) return in_string(v, s, scratch);
    if (v->kind != PN_VALUE_LIST) return PN_MATCH_ASK;
    const uint8_t *p = v->text.ptr + 1, *end = v->text.ptr + v->text.len;
    while (next_item(&p, end)) {
        const uint8_t *start = p;
        p = after_value(p, end);
        pn_value item = pn_filter_classify((pn_bytes){start, (size_t)(p - start)});
        if (item.kind == PN_VALUE_MISSING && s->kind == PN_SCALAR_NONE) return PN_MATCH_YES;
        pn_match m = equals(&item, s);
        if (m != PN_MATCH_NO) return m;
    }
    return PN_MATCH_NO;
}

/* any() and all() stop at the first value that decides, as Python's do. */
static pn_match contains_many(const pn_value *v, const pn_filter *f, pn_buf *scratch)
{
    if (!f->is_list) return PN_MATCH_ASK;
    pn_match stop = f->op == PN_OP_ANY ? PN_MATCH_YES : PN_MATCH_NO;
    for (size_t i = 0; i < f->n; i++) {
        pn_match m = contains(v, &f->values[i], scratch);
        if (m == PN_MATCH_ASK || m == stop) return m;
    }
    return negate(stop);
}

static void lower_ascii(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z') p[i] |= 0x20;
}

static bool is_ascii(pn_bytes s)
{
    uint8_t all = 0;
    for (size_t i = 0; i < s.len; i++) all |= s.ptr[i];
    return all < 0x80;
}

/* lower() of anything beyond ASCII is Python's business. */
static pn_match in_string_lower(const pn_value *v, const pn_scalar *needle, pn_buf *scratch)
{
    pn_bytes chars;
    if (!is_ascii(needle->utf8) || !characters(v->text, scratch, &chars) || !is_ascii(chars)) return PN_MATCH_ASK;
    size_t at = chars.ptr == scratch->data ? chars.len : 0, h = chars.len, n = needle->utf8.len;
    scratch->len = at;
    if (pn_buf_reserve(scratch, h + n) != PN_OK) return PN_MATCH_ASK;
    const uint8_t *from = at ? scratch->data : chars.ptr; /* reserving may have moved it */
    uint8_t *low = scratch->data + at;
    if (h) memcpy(low, from, h);
    if (n) memcpy(low + h, needle->utf8.ptr, n);
    lower_ascii(low, h + n);
    return truth(holds((pn_bytes){low, h}, (pn_bytes){low + h, n}));
}

static pn_match text_match(const pn_value *v, const pn_filter *f, pn_buf *scratch)
{
    if (f->is_list || v->kind != PN_VALUE_STRING || f->values[0].kind != PN_SCALAR_STR) return PN_MATCH_ASK;
    if (f->op == PN_OP_TEXT_MATCH) return in_string(v, &f->values[0], scratch);
    return in_string_lower(v, &f->values[0], scratch);
}

pn_match pn_filter_eval_value(const pn_filter *f, const pn_value *v, pn_buf *scratch)
{
    if (f->op == PN_OP_IS_EMPTY) {
        bool empty_list = v->kind == PN_VALUE_LIST && v->text.len == 2;
        return truth(v->kind == PN_VALUE_MISSING || (v->kind == PN_VALUE_STRING && v->text.len == 0) || empty_list);
    }
    if (v->kind == PN_VALUE_MISSING) return truth(f->op == PN_OP_NE || f->op == PN_OP_NIN);
    switch (f->op) {
    case PN_OP_EQ: return equals_filter(v, f);
    case PN_OP_NE: return negate(equals_filter(v, f));
    case PN_OP_IN: return value_in(v, f, scratch);
    case PN_OP_NIN: return negate(value_in(v, f, scratch));
    case PN_OP_CONTAINS: return f->is_list ? PN_MATCH_ASK : contains(v, &f->values[0], scratch);
    case PN_OP_ALL:
    case PN_OP_ANY: return contains_many(v, f, scratch);
    case PN_OP_TEXT_MATCH:
    case PN_OP_TEXT_MATCH_INSENSITIVE: return text_match(v, f, scratch);
    default: return ordered(v, f, scratch);
    }
}

/* ---- finding the keys ---- */

bool pn_filter_key_is_word(pn_bytes key)
{
    for (size_t i = 0; i < key.len; i++) {
        uint8_t c = key.ptr[i], low = c | 0x20;
        if (!((low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-')) return false;
    }
    return key.len > 0;
}

typedef uint8_t lanes __attribute__((vector_size(16)));

/* Any of 16 positions where the needle's second and fourth-last byte stand (the others
 * are quotes and a colon, which stand everywhere). */
static bool may_match(const uint8_t *p, size_t far, uint8_t first, uint8_t last)
{
    lanes a, b;
    memcpy(&a, p + 1, sizeof a);
    memcpy(&b, p + far, sizeof b);
    lanes hit = (lanes)(a == first) & (lanes)(b == last);
    uint64_t half[2];
    memcpy(half, &hit, sizeof half);
    return (half[0] | half[1]) != 0;
}

static const uint8_t *find_needle(pn_bytes json, pn_bytes needle)
{
    if (json.len < needle.len) return NULL;
    size_t n = needle.len, far = n - 4;
    const uint8_t *p = json.ptr, *last = json.ptr + (json.len - n), *end = json.ptr + json.len;
    while (p <= last) {
        if (end - p >= (ptrdiff_t)(n + 16) && !may_match(p, far, needle.ptr[1], needle.ptr[far])) {
            p += 16;
            continue;
        }
        const uint8_t *stop = last - p > 15 ? p + 15 : last;
        for (; p <= stop; p++)
            if (p[1] == needle.ptr[1] && memcmp(p, needle.ptr, n) == 0) return p;
    }
    return NULL;
}

/* Finds one key by searching: true when that settles it, with *value empty if the key is
 * not there. Text with an object inside before the match may hold the key there. */
static bool search_value(const pn_filter *f, pn_bytes json, pn_bytes *value)
{
    const uint8_t *at = find_needle(json, f->needle), *end = json.ptr + json.len;
    *value = (pn_bytes){NULL, 0};
    if (at == NULL) return true;
    if (at[-1] != '{' && at[-1] != ' ') return false;
    if (memchr(json.ptr + 1, '{', (size_t)(at - json.ptr - 1)) != NULL) return false;
    const uint8_t *start = at + f->needle.len;
    *value = (pn_bytes){start, (size_t)(after_value(start, end) - start)};
    return true;
}

static void walk_for_value(const pn_filter *f, pn_bytes json, pn_bytes *value)
{
    const uint8_t *p = json.ptr + 1, *end = json.ptr + json.len;
    pn_bytes key, text;
    *value = (pn_bytes){NULL, 0};
    while (next_member(&p, end, &key, &text)) {
        if (!pn_bytes_equal(key, f->key)) continue;
        *value = text;
        return;
    }
}

pn_bytes pn_filter_find(const pn_filter *f, pn_bytes json)
{
    pn_bytes value;
    if (f->needle.len == 0 || !search_value(f, json, &value)) walk_for_value(f, json, &value);
    return value;
}

/* ---- all filters ---- */

pn_match pn_filter_combine(pn_filter_condition condition, bool all, bool any)
{
    switch (condition) {
    case PN_COND_AND: return truth(all);
    case PN_COND_OR: return truth(any);
    default: return truth(!any);
    }
}

pn_match pn_filter_eval(const pn_filter_set *set, pn_bytes json, pn_buf *scratch)
{
    if (json.len < 2 || json.ptr[0] != '{' || set->n == 0 || set->n > PN_FILTER_MAX) return PN_MATCH_ASK;
    bool all = true, any = false;
    for (size_t i = 0; i < set->n; i++) {
        pn_value v = pn_filter_classify(pn_filter_find(&set->filters[i], json));
        pn_match m = pn_filter_eval_value(&set->filters[i], &v, scratch);
        if (m == PN_MATCH_ASK) return m;
        all = all && m == PN_MATCH_YES;
        any = any || m == PN_MATCH_YES;
    }
    return pn_filter_combine(set->condition, all, any);
}
