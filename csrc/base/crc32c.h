/* crc32c.h: CRC-32C (Castagnoli), the checksum of everything on disk. */
#ifndef PN_BASE_CRC32C_H
#define PN_BASE_CRC32C_H

#include "base/bytes.h"

/* crc of b, continued from `crc` (0 to start): crc(ab) = crc(b, crc(a)). Hardware
 * instructions where the CPU has them, a table otherwise, the same value. */
uint32_t pn_crc32c(uint32_t crc, pn_bytes b);

/* Always the table: what the tests hold the instructions against. */
uint32_t pn_crc32c_portable(uint32_t crc, pn_bytes b);

#endif
