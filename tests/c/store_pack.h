/* store_pack.h: what the tests of a store's way into a pack share: live values of a host, and
 * a batch as a segment. */
#ifndef PN_TESTS_STORE_PACK_H
#define PN_TESTS_STORE_PACK_H

#include "check.h"
#include "segment_make.h"
#include "store/batch.h"

#include <stdlib.h>

/* ---- live values: texts that may change ---- */

typedef struct object {
    int refs;
    char *text;
} object;

static long objects;

static inline void release(void *ctx, void *live)
{
    (void)ctx;
    object *o = live;
    CHECK(o->refs > 0);
    if (--o->refs > 0) return;
    free(o->text);
    free(o);
    objects--;
}

static inline void retain(void *ctx, void *live)
{
    (void)ctx;
    ((object *)live)->refs++;
}

static inline pn_status encode(void *ctx, void *live, pn_buf *out)
{
    (void)ctx;
    const char *text = ((object *)live)->text;
    return pn_buf_append(out, text, strlen(text));
}

static const pn_host host = {NULL, release, encode, retain, NULL};

static inline void set_text(object *o, pn_bytes text)
{
    free(o->text);
    o->text = malloc(text.len + 1);
    memcpy(o->text, text.ptr, text.len);
    o->text[text.len] = 0;
}

static inline object *new_object(pn_bytes text)
{
    object *o = calloc(1, sizeof *o);
    o->refs = 1;
    objects++;
    set_text(o, text);
    return o;
}

static inline pn_status encode_all(pn_batch *b)
{
    pn_bytes store, table, key;
    size_t left = 1;
    while (left) PN_TRY(pn_batch_encode(b, 20, &left, &store, &table, &key));
    return PN_OK;
}

/* The batch as a segment; *bytes is its size. */
static inline pn_status write_segment(const pn_alloc *alloc, pn_batch *b, size_t *bytes, pn_segment **out)
{
    pn_segment_writer *writer;
    pn_buf file;
    pn_blob *blob = NULL;
    uint64_t size;
    uint32_t crc;
    PN_TRY(pn_segment_writer_new(alloc, segment_sink, (pn_buf_init(&file, alloc), &file), &writer));
    pn_status s = pn_batch_write(b, writer);
    if (s == PN_OK) s = pn_segment_finish(writer, &size, &crc);
    pn_segment_writer_free(writer);
    *bytes = file.len;
    if (s == PN_OK) s = pn_blob_take(&file, &blob);
    pn_buf_clear(&file);
    if (s == PN_OK) s = pn_segment_open(alloc, blob, out, NULL);
    pn_blob_unref(blob);
    return s;
}

#endif
