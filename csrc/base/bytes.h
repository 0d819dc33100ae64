/* bytes.h: a borrowed run of bytes, and the few things done to one. */
#ifndef PN_BASE_BYTES_H
#define PN_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed: valid as long as its owner is. Not NUL-terminated. */
typedef struct pn_bytes {
    const uint8_t *ptr;
    size_t len;
} pn_bytes;

/* A hint that what p points at is read soon; any address will do. */
#if defined(__GNUC__)
#define PN_PREFETCH(p) __builtin_prefetch(p)
#else
#define PN_PREFETCH(p) ((void)(p))
#endif

#define PN_BYTES(literal) ((pn_bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline bool pn_bytes_equal(pn_bytes a, pn_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Order of code points for UTF-8: the order of bytes. */
static inline int pn_bytes_compare(pn_bytes a, pn_bytes b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

/* Little-endian fields, byte by byte: what is on disk never is a host struct. */
static inline void pn_put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}
static inline void pn_put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (8 * i));
}
/* Spelled out: compilers make one load of it, but not of a loop. */
static inline uint32_t pn_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t pn_get_u64(const uint8_t *p) { return pn_get_u32(p) | (uint64_t)pn_get_u32(p + 4) << 32; }

#endif
