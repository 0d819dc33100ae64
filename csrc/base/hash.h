/* hash.h: the hash of the tables.
 *
 * Multiply-and-fold over 16 bytes a step, keyed by a seed that is drawn once a
 * process, so that a hostile file cannot choose keys that collide. It never
 * reaches the disk.
 */
#ifndef PN_BASE_HASH_H
#define PN_BASE_HASH_H

#include "base/bytes.h"

uint64_t pn_hash_seed(void); /* the process's seed; first call draws it, thread safe */
uint64_t pn_hash_bytes(pn_bytes b, uint64_t seed);

#endif
