/* The head of an element says its kind and a number: the value of an integer, the elements
 * of an array, the bytes of a body that follows. Reading one head is all that there is;
 * msgpack-c's definitions give the codes and the loads. */
#include "codec/mpack_pull.h"

#include <msgpack/unpack_define.h>

#include "base/utf8.h"

typedef enum head_kind {
    HEAD_NONE, /* no such code */
    HEAD_NIL,
    HEAD_FALSE,
    HEAD_TRUE,
    HEAD_UINT,
    HEAD_NEGATIVE, /* number: the value's 64 bits */
    HEAD_STR,
    HEAD_BIN,
    HEAD_OTHER, /* float or ext: a body to step over */
    HEAD_ARRAY,
    HEAD_MAP,
} head_kind;

/* How the codes C0 to DF go on: `width` bytes hold the number, `extra` more belong to the
 * body; a width of 0 takes `extra` for the number. */
typedef struct head_form {
    uint8_t kind, width, extra;
} head_form;

enum { CODE_FALSE = 2, CODE_TRUE = 3 };

static const head_form forms[32] = {
    [MSGPACK_CS_HEADER] = {HEAD_NIL, 0, 0},
    [CODE_FALSE] = {HEAD_FALSE, 0, 0},
    [CODE_TRUE] = {HEAD_TRUE, 0, 0},
    [MSGPACK_CS_BIN_8] = {HEAD_BIN, 1, 0},
    [MSGPACK_CS_BIN_16] = {HEAD_BIN, 2, 0},
    [MSGPACK_CS_BIN_32] = {HEAD_BIN, 4, 0},
    [MSGPACK_CS_EXT_8] = {HEAD_OTHER, 1, 1},
    [MSGPACK_CS_EXT_16] = {HEAD_OTHER, 2, 1},
    [MSGPACK_CS_EXT_32] = {HEAD_OTHER, 4, 1},
    [MSGPACK_CS_FLOAT] = {HEAD_OTHER, 0, 4},
    [MSGPACK_CS_DOUBLE] = {HEAD_OTHER, 0, 8},
    [MSGPACK_CS_UINT_8] = {HEAD_UINT, 1, 0},
    [MSGPACK_CS_UINT_16] = {HEAD_UINT, 2, 0},
    [MSGPACK_CS_UINT_32] = {HEAD_UINT, 4, 0},
    [MSGPACK_CS_UINT_64] = {HEAD_UINT, 8, 0},
    [MSGPACK_CS_INT_8] = {HEAD_NEGATIVE, 1, 0},
    [MSGPACK_CS_INT_16] = {HEAD_NEGATIVE, 2, 0},
    [MSGPACK_CS_INT_32] = {HEAD_NEGATIVE, 4, 0},
    [MSGPACK_CS_INT_64] = {HEAD_NEGATIVE, 8, 0},
    [MSGPACK_CS_FIXEXT_1] = {HEAD_OTHER, 0, 2},
    [MSGPACK_CS_FIXEXT_2] = {HEAD_OTHER, 0, 3},
    [MSGPACK_CS_FIXEXT_4] = {HEAD_OTHER, 0, 5},
    [MSGPACK_CS_FIXEXT_8] = {HEAD_OTHER, 0, 9},
    [MSGPACK_CS_FIXEXT_16] = {HEAD_OTHER, 0, 17},
    [MSGPACK_CS_STR_8] = {HEAD_STR, 1, 0},
    [MSGPACK_CS_STR_16] = {HEAD_STR, 2, 0},
    [MSGPACK_CS_STR_32] = {HEAD_STR, 4, 0},
    [MSGPACK_CS_ARRAY_16] = {HEAD_ARRAY, 2, 0},
    [MSGPACK_CS_ARRAY_32] = {HEAD_ARRAY, 4, 0},
    [MSGPACK_CS_MAP_16] = {HEAD_MAP, 2, 0},
    [MSGPACK_CS_MAP_32] = {HEAD_MAP, 4, 0},
};

typedef struct head {
    head_kind kind;
    uint64_t number;
} head;

void pn_mpack_pull_init(pn_mpack_pull *r, pn_bytes bytes, uint64_t origin)
{
    static const uint8_t nothing[1] = {0};
    const uint8_t *p = bytes.len ? bytes.ptr : nothing; /* so that no arithmetic is on NULL */
    *r = (pn_mpack_pull){.base = p, .p = p, .end = p + bytes.len, .at = p, .origin = origin};
}

pn_status pn_mpack_pull_refuse(pn_mpack_pull *r, const char *what)
{
    return pn_fail(&r->error, PN_ERR_CORRUPT, r->origin + (uint64_t)(r->at - r->base), what);
}

static size_t left(const pn_mpack_pull *r) { return (size_t)(r->end - r->p); }

/* ---- heads ---- */

static uint64_t load(const uint8_t *p, unsigned width)
{
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;
    switch (width) {
    case 1: return *p;
    case 2: _msgpack_load16(uint16_t, p, &v16); return v16;
    case 4: _msgpack_load32(uint32_t, p, &v32); return v32;
    default: _msgpack_load64(uint64_t, p, &v64); return v64;
    }
}

static uint64_t sign_extend(uint64_t v, unsigned width)
{
    uint64_t sign = (uint64_t)1 << (8 * width - 1);
    return (v ^ sign) - sign;
}

/* A signed form may hold a number that is not negative. */
static head signed_head(uint64_t bits)
{
    return (head){(int64_t)bits < 0 ? HEAD_NEGATIVE : HEAD_UINT, bits};
}

static pn_status long_head(pn_mpack_pull *r, head_form form, head *out)
{
    if (form.kind == HEAD_NONE) return pn_mpack_pull_refuse(r, "not MessagePack");
    if (left(r) < form.width) return pn_mpack_pull_refuse(r, "an element is cut short");
    *out = (head){form.kind, form.extra};
    if (form.width == 0) return PN_OK;
    uint64_t v = load(r->p, form.width);
    r->p += form.width;
    if (form.kind == HEAD_NEGATIVE)
        *out = signed_head(sign_extend(v, form.width));
    else
        out->number += v;
    return PN_OK;
}

static head short_head(uint8_t c)
{
    if (c < 0x80) return (head){HEAD_UINT, c};
    if (c < 0x90) return (head){HEAD_MAP, c & 0x0fu};
    if (c < 0xa0) return (head){HEAD_ARRAY, c & 0x0fu};
    if (c < 0xc0) return (head){HEAD_STR, c & 0x1fu};
    return (head){HEAD_NEGATIVE, (uint64_t)(int64_t)(int8_t)c}; /* E0 to FF */
}

static bool has_body(head_kind kind) { return kind == HEAD_STR || kind == HEAD_BIN || kind == HEAD_OTHER; }

/* Reads one head; what it announces is known to be there, as far as one byte an element
 * can tell. */
static pn_status next_head(pn_mpack_pull *r, head *out)
{
    r->at = r->p;
    if (left(r) == 0) return pn_mpack_pull_refuse(r, "an element is missing");
    uint8_t c = *r->p++;
    if (c >= 0xc0 && c < 0xe0)
        PN_TRY(long_head(r, forms[c & 0x1f], out));
    else
        *out = short_head(c);
    if (out->kind == HEAD_MAP) return pn_mpack_pull_refuse(r, "a map, where there are none");
    if (has_body(out->kind) && out->number > left(r)) return pn_mpack_pull_refuse(r, "a length beyond the bytes");
    if (out->kind == HEAD_ARRAY && out->number > left(r)) return pn_mpack_pull_refuse(r, "a count beyond the bytes");
    return PN_OK;
}

static pn_bytes take(pn_mpack_pull *r, size_t n)
{
    pn_bytes body = {r->p, n};
    r->p += n;
    return body;
}

/* ---- elements ---- */

pn_status pn_mpack_pull_array(pn_mpack_pull *r, size_t least, size_t *n)
{
    head h;
    PN_TRY(next_head(r, &h));
    if (h.kind != HEAD_ARRAY) return pn_mpack_pull_refuse(r, "expected an array");
    if (h.number < least) return pn_mpack_pull_refuse(r, "an array is too short");
    *n = (size_t)h.number;
    return PN_OK;
}

pn_status pn_mpack_pull_text(pn_mpack_pull *r, pn_bytes *out)
{
    head h;
    PN_TRY(next_head(r, &h));
    if (h.kind != HEAD_STR) return pn_mpack_pull_refuse(r, "expected text");
    pn_bytes text = take(r, (size_t)h.number);
    if (pn_utf8_valid_prefix(text, NULL) != text.len) return pn_mpack_pull_refuse(r, "text that is not UTF-8");
    *out = text;
    return PN_OK;
}

pn_status pn_mpack_pull_bin(pn_mpack_pull *r, pn_bytes *out)
{
    head h;
    PN_TRY(next_head(r, &h));
    if (h.kind != HEAD_BIN) return pn_mpack_pull_refuse(r, "expected bytes");
    *out = take(r, (size_t)h.number);
    return PN_OK;
}

pn_status pn_mpack_pull_uint(pn_mpack_pull *r, uint64_t max, uint64_t *out)
{
    head h;
    PN_TRY(next_head(r, &h));
    if (h.kind == HEAD_NEGATIVE) return pn_mpack_pull_refuse(r, "a number out of range");
    if (h.kind != HEAD_UINT) return pn_mpack_pull_refuse(r, "expected an integer");
    if (h.number > max) return pn_mpack_pull_refuse(r, "a number out of range");
    *out = h.number;
    return PN_OK;
}

pn_status pn_mpack_pull_int(pn_mpack_pull *r, int64_t *out)
{
    head h;
    PN_TRY(next_head(r, &h));
    if (h.kind != HEAD_NEGATIVE && h.kind != HEAD_UINT) return pn_mpack_pull_refuse(r, "expected an integer");
    if (h.kind == HEAD_UINT && h.number > INT64_MAX) return pn_mpack_pull_refuse(r, "a number out of range");
    *out = (int64_t)h.number;
    return PN_OK;
}

pn_status pn_mpack_pull_bool(pn_mpack_pull *r, bool *out)
{
    head h;
    PN_TRY(next_head(r, &h));
    if (h.kind != HEAD_FALSE && h.kind != HEAD_TRUE) return pn_mpack_pull_refuse(r, "expected true or false");
    *out = h.kind == HEAD_TRUE;
    return PN_OK;
}

/* An array's elements join those that are to be skipped. Each needs a byte of its own, so
 * more of them than bytes are left is known early, and the sum stays small. */
pn_status pn_mpack_pull_skip(pn_mpack_pull *r, size_t n)
{
    while (n > 0) {
        head h;
        PN_TRY(next_head(r, &h));
        n--;
        if (has_body(h.kind)) take(r, (size_t)h.number);
        if (h.kind != HEAD_ARRAY) continue;
        if (n > left(r) - h.number) return pn_mpack_pull_refuse(r, "a count beyond the bytes");
        n += (size_t)h.number;
    }
    return PN_OK;
}

pn_status pn_mpack_pull_end(pn_mpack_pull *r)
{
    r->at = r->p;
    return left(r) == 0 ? PN_OK : pn_mpack_pull_refuse(r, "bytes after the last element");
}
