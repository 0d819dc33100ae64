/* Any bytes as index structs and changes of them.
 *
 * The first byte says what follows: 0 a struct, 1 a change, 2 two lengths (u16), then a
 * struct and two changes. What is read is written again and read as the same; changes one
 * by one or combined give one result. */
#include "persist/rows.h"

#include "demand.h"

static pn_status read_or_explain(pn_bytes bytes, bool change, pn_rows *out)
{
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_status s = pn_rows_read(&pn_alloc_system, bytes, change, out, &e);
    DEMAND(s == PN_OK || (s == PN_ERR_CORRUPT && e.code == s && e.what != NULL && e.offset <= bytes.len));
    DEMAND(s == PN_OK || out->count == 0);
    return s;
}

static void one(pn_bytes bytes, bool change)
{
    pn_rows r;
    pn_buf once, twice;
    pn_buf_init(&once, &pn_alloc_system);
    pn_buf_init(&twice, &pn_alloc_system);
    if (read_or_explain(bytes, change, &r) == PN_OK) {
        DEMAND(pn_rows_write(&r, &once) == PN_OK);
        pn_rows_clear(&r);
        DEMAND(read_or_explain(pn_buf_view(&once), change, &r) == PN_OK);
        DEMAND(pn_rows_write(&r, &twice) == PN_OK);
        DEMAND(pn_bytes_equal(pn_buf_view(&once), pn_buf_view(&twice)));
        pn_rows_clear(&r);
    }
    pn_buf_clear(&once);
    pn_buf_clear(&twice);
}

/* Rows kept twice are noticed only as far as they could make a result grow. */
static bool ascends(const pn_rows *r)
{
    for (size_t i = 0; i < r->count; i++) {
        size_t at = 0;
        for (size_t k = 0; k < r->columns[i].piece_count; k++) {
            const pn_rows_piece *p = &r->columns[i].pieces[k];
            if (p->keeps && p->from < at) return false;
            if (p->keeps) at = p->from + p->count;
        }
    }
    return true;
}

static pn_status apply(const pn_rows *base, const pn_rows *change, pn_buf *out)
{
    pn_error e = {PN_OK, 0, 0, NULL};
    pn_status s = pn_rows_apply(base, change, out, &e);
    DEMAND(s == PN_OK || (s == PN_ERR_CORRUPT && e.what != NULL && out->len == 0));
    return s;
}

static pn_status in_turn(const pn_rows *base, const pn_rows *first, const pn_rows *second, pn_buf *out)
{
    pn_rows middle;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    pn_status s = apply(base, first, &b);
    if (s == PN_OK) {
        DEMAND(read_or_explain(pn_buf_view(&b), false, &middle) == PN_OK);
        s = apply(&middle, second, out);
        pn_rows_clear(&middle);
    }
    pn_buf_clear(&b);
    return s;
}

static pn_status combined(const pn_rows *base, const pn_rows *first, const pn_rows *second, pn_buf *out)
{
    pn_rows both;
    pn_buf b;
    pn_buf_init(&b, &pn_alloc_system);
    pn_status s = pn_rows_combine(first, second, &b, NULL);
    if (s == PN_OK) {
        s = read_or_explain(pn_buf_view(&b), true, &both);
        DEMAND(s == PN_OK || !ascends(first) || !ascends(second));
        if (s == PN_OK) s = apply(base, &both, out);
        pn_rows_clear(&both);
    }
    pn_buf_clear(&b);
    return s;
}

static void compare(const pn_rows *base, const pn_rows *first, const pn_rows *second)
{
    pn_buf a, b;
    pn_buf_init(&a, &pn_alloc_system);
    pn_buf_init(&b, &pn_alloc_system);
    pn_status s = in_turn(base, first, second, &a), t = combined(base, first, second, &b);
    DEMAND(s == PN_OK || s == PN_ERR_CORRUPT);
    DEMAND(t == PN_OK || t == PN_ERR_CORRUPT);
    if (s == PN_OK && t == PN_OK)
        DEMAND(pn_bytes_equal(pn_buf_view(&a), pn_buf_view(&b)));
    else if (ascends(first) && ascends(second))
        DEMAND(s != PN_OK && t != PN_OK);
    pn_buf_clear(&a);
    pn_buf_clear(&b);
}

static void three(const uint8_t *p, size_t n)
{
    if (n < 4) return;
    size_t one_len = p[0] | (size_t)p[1] << 8, two_len = p[2] | (size_t)p[3] << 8;
    p += 4;
    n -= 4;
    if (one_len > n || two_len > n - one_len) return;
    pn_rows base, first, second;
    if (read_or_explain((pn_bytes){p, one_len}, false, &base) != PN_OK) return;
    if (read_or_explain((pn_bytes){p + one_len, two_len}, true, &first) == PN_OK) {
        size_t at = one_len + two_len;
        if (read_or_explain((pn_bytes){p + at, n - at}, true, &second) == PN_OK) compare(&base, &first, &second);
        pn_rows_clear(&second);
        pn_rows_clear(&first);
    }
    pn_rows_clear(&base);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    if (data[0] < 2)
        one((pn_bytes){data + 1, size - 1}, data[0] == 1);
    else
        three(data + 1, size - 1);
    return 0;
}
