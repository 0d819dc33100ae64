/* Kept rows against a list that says of each row which one of the commit it is: the pieces
 * must be that list, but for rows that count as new when there are too many pieces. */
#include "codec_check.h"
#include "fail_alloc.h"
#include "store/kept.h"

enum { MAX_ROWS = 600, NEW = -1 };

typedef struct model {
    size_t n;
    int from[MAX_ROWS]; /* row of the commit, or NEW */
    uint32_t lens[MAX_ROWS];
} model;

static size_t text_of(const model *m, size_t row, size_t rows)
{
    size_t bytes = rows ? (rows - 1) * PN_KEPT_SEPARATOR : 0;
    for (size_t i = row; i < row + rows; i++) bytes += m->lens[i];
    return bytes;
}

/* How many rows count as new that are the commit's. */
static size_t check_kept(const pn_kept *k, const model *m)
{
    pn_kept_piece one;
    size_t count, row = 0, lost = 0;
    const pn_kept_piece *p = pn_kept_pieces(k, &one, &count);
    CHECK(count <= PN_KEPT_PIECES);
    for (size_t i = 0; i < count && row + p[i].rows <= m->n; i++) {
        CHECK_EQ_INT(p[i].bytes, text_of(m, row, p[i].rows));
        CHECK(p[i].rows > 0);
        for (size_t r = 0; r < p[i].rows; r++) {
            int from = m->from[row + r];
            if (p[i].from == PN_KEPT_NEW) lost += from != NEW;
            else CHECK_EQ_INT(from, p[i].from + r);
        }
        row += p[i].rows;
    }
    CHECK_EQ_INT(row, m->n);
    return lost;
}

/* Takes out some rows and puts in others, by one edit, at so many places and at the end. */
static void edit(pn_kept *k, const pn_alloc *alloc, model *m, uint64_t *rnd, size_t places)
{
    model next = {.n = 0};
    pn_kept_edit e;
    size_t row = 0;
    pn_kept_edit_begin(&e, k, m->lens);
    for (size_t i = 0; i <= places; i++) {
        size_t end = i == places ? m->n : row + (size_t)(random_next(rnd) % (m->n - row + 1));
        size_t keep = end - row;
        if (keep > MAX_ROWS - next.n) keep = MAX_ROWS - next.n;
        pn_kept_edit_keep(&e, row, keep);
        memcpy(next.from + next.n, m->from + row, keep * sizeof *m->from);
        memcpy(next.lens + next.n, m->lens + row, keep * sizeof *m->lens);
        next.n += keep;
        row = end;
        size_t gone = (size_t)(random_next(rnd) % 3), made = (size_t)(random_next(rnd) % 3), bytes = 0;
        row += gone < m->n - row ? gone : m->n - row;
        if (made > MAX_ROWS - next.n) made = MAX_ROWS - next.n;
        for (size_t r = 0; r < made; r++) {
            uint32_t len = (uint32_t)(random_next(rnd) % 20);
            bytes += len + (r ? PN_KEPT_SEPARATOR : 0);
            next.from[next.n] = NEW;
            next.lens[next.n++] = len;
        }
        pn_kept_edit_add(&e, made, bytes);
    }
    pn_kept_edit_end(&e, k, alloc);
    *m = next;
}

static void begin(pn_kept *k, model *m, size_t rows, uint64_t *rnd)
{
    m->n = rows;
    for (size_t i = 0; i < rows; i++) {
        m->from[i] = (int)i;
        m->lens[i] = (uint32_t)(random_next(rnd) % 20);
    }
    pn_kept_begin(k, 1, rows, text_of(m, 0, rows));
}

static void test_kept_follows_edits(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 0);
    uint64_t rnd = 1;
    for (int round = 0; round < 400; round++) {
        model m;
        pn_kept k;
        size_t places = 0;
        begin(&k, &m, (size_t)(random_next(&rnd) % 500), &rnd);
        CHECK_EQ_INT(f.blocks, 0);
        CHECK_EQ_INT(check_kept(&k, &m), 0);
        for (int step = 0; step < 12; step++) {
            size_t n = (size_t)(random_next(&rnd) % (round % 4 ? 2 : 9));
            edit(&k, &f.alloc, &m, &rnd, n);
            places += n + 1;
            size_t lost = check_kept(&k, &m);
            if (2 * places < PN_KEPT_PIECES) CHECK_EQ_INT(lost, 0);
            if (m.n < MAX_ROWS) {
                m.from[m.n] = NEW;
                m.lens[m.n] = (uint32_t)step;
                pn_kept_append(&k, &f.alloc, m.n, 1, (size_t)step);
                m.n++;
                places++;
                (void)check_kept(&k, &m);
            }
        }
        CHECK(k.on && k.kind == 1);
        pn_kept_clear(&k, &f.alloc);
        CHECK(!k.on);
    }
    CHECK_EQ_INT(f.blocks, 0);
}

/* Beyond the most pieces it is the shortest that count as new: the long ones stay. */
static void test_kept_gives_up_the_shortest(void)
{
    uint64_t rnd = 3;
    model m;
    pn_kept k;
    pn_kept_edit e;
    begin(&k, &m, 500, &rnd);
    size_t row = 0;
    model next = {.n = 0};
    pn_kept_edit_begin(&e, &k, m.lens);
    for (int i = 0; i < 100; i++) { /* 99 of three rows, one of 100 */
        size_t rows = i == 50 ? 100 : 3;
        pn_kept_edit_keep(&e, row, rows);
        memcpy(next.from + next.n, m.from + row, rows * sizeof *m.from);
        memcpy(next.lens + next.n, m.lens + row, rows * sizeof *m.lens);
        next.n += rows;
        row += rows + 1;
    }
    pn_kept_edit_end(&e, &k, &pn_alloc_system);
    size_t lost = check_kept(&k, &next);
    CHECK(lost > 0 && lost < 300);
    pn_kept_piece one;
    size_t count, longest = 0;
    const pn_kept_piece *p = pn_kept_pieces(&k, &one, &count);
    for (size_t i = 0; i < count; i++)
        if (p[i].from != PN_KEPT_NEW && p[i].rows > longest) longest = p[i].rows;
    CHECK_EQ_INT(longest, 100);
    pn_kept_clear(&k, &pn_alloc_system);
}

static void test_kept_without_memory_is_off(void)
{
    fail_alloc f;
    fail_alloc_init(&f, 1);
    pn_kept k;
    pn_kept_begin(&k, 0, 3, 10);
    pn_kept_append(&k, &f.alloc, 3, 1, 2);
    CHECK(f.failed && !k.on);
    pn_kept_append(&k, &f.alloc, 4, 1, 2);
    CHECK_EQ_INT(f.calls, 1);
    pn_kept_clear(&k, &f.alloc);
    CHECK_EQ_INT(f.blocks, 0);
}

int main(void)
{
    RUN(test_kept_follows_edits);
    RUN(test_kept_gives_up_the_shortest);
    RUN(test_kept_without_memory_is_off);
    return check_summary();
}
