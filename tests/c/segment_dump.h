/* segment_dump.h: a segment as text, one line a store, a table, an entry:
 *
 *     store docstore.json 1 reset
 *     table data 1 keeps
 *     put key = {"a": 1}
 *     fresh key = rows 3 f32
 *
 * Values of a form other than JSON have it in front: "mpack ...", "struct", "change". */
#ifndef PN_TESTS_SEGMENT_DUMP_H
#define PN_TESTS_SEGMENT_DUMP_H

#include "check.h"
#include "codec/mpack.h"
#include "persist/segment.h"

#include <stdio.h>

static inline void dump_text(pn_buf *out, const char *s)
{
    if (pn_buf_append(out, s, strlen(s)) != PN_OK) out->len = 0;
}

static inline void dump_bytes(pn_buf *out, pn_bytes b)
{
    if (pn_buf_append(out, b.ptr, b.len) != PN_OK) out->len = 0;
}

static inline void dump_value(pn_buf *out, const pn_segment_table *t, const pn_segment_entry *e)
{
    char line[64];
    if (t->type == PN_TABLE_VECTORS) {
        snprintf(line, sizeof line, "row %zu %s", e->run->dim, e->run->encoding == PN_ROW_F32 ? "f32" : "f64");
        dump_text(out, line);
    } else if (e->form == PN_FORM_MPACK) {
        dump_text(out, "mpack ");
        if (pn_mpack_to_json(e->value, out, NULL) != PN_OK) dump_text(out, "?");
    } else if (e->form != PN_FORM_JSON) {
        dump_text(out, e->form == PN_FORM_STRUCT ? "struct" : "change");
    } else {
        dump_bytes(out, e->value);
    }
}

static inline void dump_table(pn_buf *out, const pn_segment_table *t)
{
    static const char *const resets[] = {"keeps", "emptied", "dropped", "fresh"};
    static const char *const ops[] = {"put ", "fresh ", "remove "};
    char line[64];
    dump_text(out, "table ");
    dump_bytes(out, t->name);
    snprintf(line, sizeof line, " %d %s\n", t->type, resets[t->reset]);
    dump_text(out, line);
    pn_segment_entry e = {0};
    while (pn_segment_next(t, &e)) {
        dump_text(out, ops[e.op]);
        dump_bytes(out, e.key);
        if (e.op != PN_ENTRY_REMOVE) dump_text(out, " = ");
        if (e.op != PN_ENTRY_REMOVE) dump_value(out, t, &e);
        dump_text(out, "\n");
    }
}

static inline void dump_segment(pn_buf *out, const pn_segment *s)
{
    char line[64];
    for (size_t i = 0; i < s->store_count; i++) {
        const pn_segment_store *store = &s->stores[i];
        dump_text(out, "store ");
        dump_bytes(out, store->name);
        snprintf(line, sizeof line, " %d%s\n", store->kind, store->reset ? " reset" : "");
        dump_text(out, line);
        for (size_t k = 0; k < store->table_count; k++) dump_table(out, &store->tables[k]);
    }
}

/* That the segment reads as `want`. */
static inline void check_dump(const pn_segment *s, const char *want)
{
    pn_buf text;
    pn_buf_init(&text, &pn_alloc_system);
    dump_segment(&text, s);
    CHECK_EQ_INT(pn_buf_push(&text, 0), PN_OK);
    CHECK_EQ_STR((const char *)text.data, want);
    pn_buf_clear(&text);
}

#endif
