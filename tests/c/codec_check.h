/* codec_check.h: what the tests of the codec share: checks on buffers, text in blocks of
 * its exact size (so that a sanitizer sees a read past it), conformance data. */
#ifndef PN_TESTS_CODEC_CHECK_H
#define PN_TESTS_CODEC_CHECK_H

#include "base/buffer.h"
#include "check.h"

#include <stdlib.h>

static inline bool same_text(pn_bytes b, const char *text, size_t n)
{
    if (b.len == n && (n == 0 || memcmp(b.ptr, text, n) == 0)) return true;
    fprintf(stderr, "  got \"%.*s\"\n  not \"%.*s\"\n", (int)b.len, b.len ? (const char *)b.ptr : "", (int)n, text);
    return false;
}
#define CHECK_TEXT(bytes, text) CHECK(same_text((bytes), (text), strlen(text)))

/* A copy without a terminating zero; free it. */
static inline uint8_t *exact_copy(const void *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (n) memcpy(copy, p, n);
    return copy;
}

/* Reads a file of the conformance data into out; false, and a word on why, when it is
 * not there. $PANNIER_DATA, or ../shared/data beside the tree. */
static inline bool read_data(const char *name, pn_buf *out)
{
    char path[1024];
    const char *root = getenv("PANNIER_DATA");
    snprintf(path, sizeof path, "%s/%s", root ? root : "../shared/data", name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        printf("skipped: no %s\n", path);
        return false;
    }
    uint8_t part[65536];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) CHECK_EQ_INT(pn_buf_append(out, part, n), PN_OK);
    fclose(f);
    return true;
}

/* A small generator, so that a failing run is the same everywhere. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

#endif
