#include "persist/journal.h"

#include "base/crc32c.h"

#include <inttypes.h>
#include <stdio.h>

#define MAGIC "pannier-commit "
#define FIRST_LINE MAGIC "1\n"
static const char HEX_UPPER[] = "0123456789ABCDEF";

void pn_journal_init(pn_journal *j, const pn_alloc *alloc) { *j = (pn_journal){.alloc = alloc}; }

pn_status pn_journal_reserve(pn_journal *j, size_t n)
{
    PN_FAIL_IF(n == 0 || n > PN_JOURNAL_MAX || j->entries != NULL, PN_ERR_RANGE);
    j->entries = pn_alloc_zero(j->alloc, n, sizeof *j->entries);
    PN_FAIL_IF(j->entries == NULL, PN_ERR_NOMEM);
    j->len = n;
    return PN_OK;
}

pn_status pn_journal_name(pn_journal *j, size_t i, const char *name, size_t len)
{
    char *copy = pn_alloc_get(j->alloc, len + 1);
    PN_FAIL_IF(copy == NULL, PN_ERR_NOMEM);
    memcpy(copy, name, len);
    copy[len] = '\0';
    pn_alloc_put(j->alloc, j->entries[i].name);
    j->entries[i].name = copy;
    return PN_OK;
}

void pn_journal_clear(pn_journal *j)
{
    for (size_t i = 0; i < j->len; i++) pn_alloc_put(j->alloc, j->entries[i].name);
    pn_alloc_put(j->alloc, j->entries);
    j->entries = NULL;
    j->len = 0;
}

static bool component_ok(const char *p, size_t n)
{
    if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
    size_t prefix = sizeof PN_STAGED_PREFIX - 1;
    return n < prefix || memcmp(p, PN_STAGED_PREFIX, prefix) != 0;
}

bool pn_journal_name_ok(const char *name)
{
    for (;;) {
        size_t n = strcspn(name, "/");
        if (!component_ok(name, n)) return false;
        if (name[n] == '\0') return true;
        name += n + 1;
    }
}

void pn_staged_name(uint32_t tag, uint64_t random, char to[PN_STAGED_LEN + 1])
{
    snprintf(to, PN_STAGED_LEN + 1, PN_STAGED_PREFIX "%08" PRIx32 "-%016" PRIx64 PN_STAGED_SUFFIX, tag, random);
}

/* n lower-case hex digits; false otherwise. */
static bool read_hex(const char *p, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned c = (unsigned char)p[i];
        if (c >= '0' && c <= '9') v = v << 4 | (c - '0');
        else if (c >= 'a' && c <= 'f') v = v << 4 | (c - 'a' + 10);
        else return false;
    }
    *out = v;
    return true;
}

bool pn_staged_name_parse(const char *name, uint32_t *tag)
{
    uint64_t t, r;
    if (strlen(name) != PN_STAGED_LEN || memcmp(name, PN_STAGED_PREFIX, 9) != 0 || !read_hex(name + 9, 8, &t) ||
        name[17] != '-' || !read_hex(name + 18, 16, &r) || strcmp(name + 34, PN_STAGED_SUFFIX) != 0)
        return false;
    if (tag != NULL) *tag = (uint32_t)t;
    return true;
}

static bool must_escape(uint8_t c) { return c <= 0x20 || c == '%' || c == 0x7f; }

static pn_status write_name(const char *name, pn_buf *out)
{
    for (; *name; name++) {
        uint8_t c = (uint8_t)*name;
        if (must_escape(c)) {
            uint8_t esc[3] = {'%', (uint8_t)HEX_UPPER[c >> 4], (uint8_t)HEX_UPPER[c & 15]};
            PN_TRY(pn_buf_append(out, esc, 3));
        } else {
            PN_TRY(pn_buf_push(out, c));
        }
    }
    return PN_OK;
}

static pn_status write_entry(const pn_journal_entry *e, pn_buf *out)
{
    char head[128];
    int n = snprintf(head, sizeof head, "%s %08" PRIx32 " %" PRIu64 " ", e->copy ? "copy" : "rename", e->crc, e->size);
    PN_TRY(pn_buf_append(out, head, (size_t)n));
    if (e->had_old) n = snprintf(head, sizeof head, "%" PRIu64 ":%" PRId64 " ", e->old_size, e->old_mtime);
    else n = snprintf(head, sizeof head, "- ");
    PN_TRY(pn_buf_append(out, head, (size_t)n));
    PN_TRY(pn_buf_append(out, e->staged, PN_STAGED_LEN));
    PN_TRY(pn_buf_push(out, ' '));
    PN_TRY(write_name(e->name, out));
    return pn_buf_push(out, '\n');
}

pn_status pn_journal_write(const pn_journal *j, pn_buf *out)
{
    PN_TRY(PN_BUF_LIT(out, FIRST_LINE));
    for (size_t i = 0; i < j->len; i++) PN_TRY(write_entry(&j->entries[i], out));
    char end[64];
    int n = snprintf(end, sizeof end, "end %zu %08" PRIx32 "\n", j->len, pn_crc32c(0, pn_buf_view(out)));
    return pn_buf_append(out, end, (size_t)n);
}

/* ---- reading ---- */

typedef struct scan {
    const uint8_t *p, *end;
} scan;

static bool take_literal(scan *s, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n) != 0) return false;
    s->p += n;
    return true;
}

/* Decimal without leading zeros. */
static bool take_number(scan *s, uint64_t *out)
{
    const uint8_t *from = s->p;
    uint64_t v = 0;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++) {
        unsigned d = *s->p - '0';
        if (v > (UINT64_MAX - d) / 10) return false;
        v = v * 10 + d;
    }
    if (s->p == from || (*from == '0' && s->p - from > 1)) return false;
    *out = v;
    return true;
}

static bool take_signed(scan *s, int64_t *out)
{
    bool minus = take_literal(s, "-");
    uint64_t v;
    if (!take_number(s, &v) || v > INT64_MAX || (minus && v == 0)) return false;
    *out = minus ? -(int64_t)v : (int64_t)v;
    return true;
}

static bool take_crc(scan *s, uint32_t *out)
{
    uint64_t v;
    if (s->end - s->p < 8 || !read_hex((const char *)s->p, 8, &v)) return false;
    s->p += 8;
    *out = (uint32_t)v;
    return true;
}

static bool take_old(scan *s, pn_journal_entry *e)
{
    if (take_literal(s, "- ")) return true;
    e->had_old = true;
    return take_number(s, &e->old_size) && take_literal(s, ":") && take_signed(s, &e->old_mtime) &&
           take_literal(s, " ");
}

static bool take_staged(scan *s, pn_journal_entry *e)
{
    if (s->end - s->p < PN_STAGED_LEN) return false;
    memcpy(e->staged, s->p, PN_STAGED_LEN);
    s->p += PN_STAGED_LEN;
    return pn_staged_name_parse(e->staged, NULL) && take_literal(s, " ");
}

static int upper_hex(uint8_t c)
{
    const char *p = c ? strchr(HEX_UPPER, c) : NULL;
    return p ? (int)(p - HEX_UPPER) : -1;
}

/* The name up to the line's end, escapes undone into `to`; what needs no escape must
 * not have one, so that a name has one spelling. */
static bool take_name(scan *s, char to[PN_PATH_MAX])
{
    size_t n = 0;
    while (s->p < s->end && *s->p != '\n') {
        uint8_t c = *s->p++;
        if (c == '%') {
            if (s->end - s->p < 2) return false;
            int hi = upper_hex(s->p[0]), lo = upper_hex(s->p[1]);
            if (hi < 0 || lo < 0) return false;
            c = (uint8_t)(hi << 4 | lo);
            s->p += 2;
            if (c == 0 || !must_escape(c)) return false;
        } else if (must_escape(c)) {
            return false;
        }
        if (n + 1 >= PN_PATH_MAX) return false;
        to[n++] = (char)c;
    }
    to[n] = '\0';
    return take_literal(s, "\n") && pn_journal_name_ok(to);
}

static bool take_entry(scan *s, pn_journal_entry *e, char name[PN_PATH_MAX])
{
    if (take_literal(s, "copy ")) e->copy = true;
    else if (!take_literal(s, "rename ")) return false;
    return take_crc(s, &e->crc) && take_literal(s, " ") && take_number(s, &e->size) && take_literal(s, " ") &&
           take_old(s, e) && take_staged(s, e) && take_name(s, name);
}

static bool is_distinct(const pn_journal *j, size_t i, const char *name)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(j->entries[k].staged, j->entries[i].staged) == 0 || strcmp(j->entries[k].name, name) == 0)
            return false;
    return true;
}

static pn_status parse_entries(pn_journal *j, scan *s)
{
    char name[PN_PATH_MAX];
    for (size_t i = 0; i < j->len; i++) {
        PN_FAIL_IF(!take_entry(s, &j->entries[i], name) || !is_distinct(j, i, name), PN_ERR_CORRUPT);
        PN_TRY(pn_journal_name(j, i, name, strlen(name)));
    }
    return PN_OK;
}

static size_t count_lines(pn_bytes text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) n += text.ptr[i] == '\n';
    return n;
}

/* The last line, which vouches for all the others. */
static bool check_end(pn_bytes text, size_t entries, size_t *body)
{
    if (text.len == 0 || text.ptr[text.len - 1] != '\n') return false;
    size_t at = text.len - 1;
    while (at > 0 && text.ptr[at - 1] != '\n') at--;
    scan s = {text.ptr + at, text.ptr + text.len};
    uint64_t count;
    uint32_t crc;
    *body = at;
    return take_literal(&s, "end ") && take_number(&s, &count) && take_literal(&s, " ") && take_crc(&s, &crc) &&
           take_literal(&s, "\n") && s.p == s.end && count == entries &&
           crc == pn_crc32c(0, (pn_bytes){text.ptr, at});
}

pn_status pn_journal_parse(pn_journal *j, pn_bytes text, pn_error *err)
{
    scan s = {text.ptr, text.ptr + text.len};
    if (!take_literal(&s, FIRST_LINE)) {
        bool newer = take_literal(&s, MAGIC);
        return pn_fail(err, PN_ERR_CORRUPT, 0,
                       newer ? "the commit journal was written by a newer pannier" : "not a commit journal");
    }
    size_t lines = count_lines(text), body;
    if (lines < 3 || !check_end(text, lines - 2, &body))
        return pn_fail(err, PN_ERR_CORRUPT, text.len, "the commit journal is incomplete or damaged");
    s.end = text.ptr + body;
    pn_status status = pn_journal_reserve(j, lines - 2);
    if (status == PN_OK) status = parse_entries(j, &s);
    if (status == PN_OK) return PN_OK;
    pn_journal_clear(j);
    if (status == PN_ERR_NOMEM) return status;
    return pn_fail(err, PN_ERR_CORRUPT, (uint64_t)(s.p - text.ptr), "an entry of the commit journal is not valid");
}
