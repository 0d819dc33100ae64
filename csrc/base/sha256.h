/* sha256.h: SHA-256 (FIPS 180-4), the hash that LlamaIndex gives its nodes.
 *
 * Fed piece by piece; the CPU's SHA instructions where it has them, plain C otherwise,
 * with the same result. Allocates nothing; one owner.
 */
#ifndef PN_BASE_SHA256_H
#define PN_BASE_SHA256_H

#include "base/bytes.h"

typedef struct pn_sha256 {
    uint32_t h[8];
    uint64_t len;
    uint8_t block[64];
    bool portable; /* set after init: never use the instructions (for tests) */
} pn_sha256;

void pn_sha256_init(pn_sha256 *s);
void pn_sha256_add(pn_sha256 *s, pn_bytes b);
/* 64 lower-case hex digits, no NUL. The state must not be used further. */
void pn_sha256_hex(pn_sha256 *s, char out[64]);

#endif
