#include "base/crc32c.h"

#include <pthread.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

/* The remainder is linear: an entry is the sum of those of its bits. */
#define BIT(i, k, remainder) ((i) >> (k) & 1 ? (remainder) : 0u)
#define ENTRY(i)                                                                                \
    (BIT(i, 0, 0xf26b8303u) ^ BIT(i, 1, 0xe13b70f7u) ^ BIT(i, 2, 0xc79a971fu) ^                 \
     BIT(i, 3, 0x8ad958cfu) ^ BIT(i, 4, 0x105ec76fu) ^ BIT(i, 5, 0x20bd8edeu) ^                 \
     BIT(i, 6, 0x417b1dbcu) ^ BIT(i, 7, 0x82f63b78u))
#define ENTRIES4(i) ENTRY(i), ENTRY((i) + 1), ENTRY((i) + 2), ENTRY((i) + 3)
#define ENTRIES16(i) ENTRIES4(i), ENTRIES4((i) + 4), ENTRIES4((i) + 8), ENTRIES4((i) + 12)
#define ENTRIES64(i) ENTRIES16(i), ENTRIES16((i) + 16), ENTRIES16((i) + 32), ENTRIES16((i) + 48)

static const uint32_t table[256] = {ENTRIES64(0), ENTRIES64(64), ENTRIES64(128), ENTRIES64(192)};

static uint32_t by_table(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n; n--) crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
    return crc;
}

#if defined(__x86_64__)

#define CRC_TARGET __attribute__((target("sse4.2")))
CRC_TARGET static inline uint32_t step8(uint32_t crc, uint64_t w) { return (uint32_t)_mm_crc32_u64(crc, w); }
CRC_TARGET static inline uint32_t step1(uint32_t crc, uint8_t b) { return _mm_crc32_u8(crc, b); }
/* The C library has looked at the CPU before any of our code runs. */
static bool has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }

#elif defined(__aarch64__) && defined(__linux__)

#define CRC_TARGET __attribute__((target("+crc")))
CRC_TARGET static inline uint32_t step8(uint32_t crc, uint64_t w) { return __crc32cd(crc, w); }
CRC_TARGET static inline uint32_t step1(uint32_t crc, uint8_t b) { return __crc32cb(crc, b); }
static bool has_instruction(void) { return getauxval(AT_HWCAP) >> 7 & 1; /* HWCAP_CRC32 */ }

#else

#define CRC_TARGET
static uint32_t step8(uint32_t crc, uint64_t w) { return (void)w, crc; } /* neither is called */
static uint32_t step1(uint32_t crc, uint8_t b) { return (void)b, crc; }
static bool has_instruction(void) { return false; }

#endif

CRC_TARGET static uint32_t in_one_lane(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        crc = step8(crc, w);
    }
    for (; n; n--) crc = step1(crc, *p++);
    return crc;
}

/* The instruction takes three cycles and one can begin in each, so three lanes of bytes
 * run side by side. What LANE zero bytes make of a remainder is linear too: by_lane gives
 * it for each byte of one, and so joins the lanes. */
enum { LANE = 4096 };
static uint32_t by_lane[4][256];
static pthread_once_t by_lane_once = PTHREAD_ONCE_INIT;

CRC_TARGET static void fill_by_lane(void)
{
    for (int k = 0; k < 4; k++)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t low = i & (0u - i), bit = low << (8 * k); /* 0 for 0 */
            if (i != low) {
                by_lane[k][i] = by_lane[k][low] ^ by_lane[k][i ^ low];
                continue;
            }
            for (int n = 0; n < LANE; n += 8) bit = step8(bit, 0);
            by_lane[k][i] = bit;
        }
}

static uint32_t skip_lane(uint32_t crc)
{
    return by_lane[0][crc & 0xff] ^ by_lane[1][crc >> 8 & 0xff] ^ by_lane[2][crc >> 16 & 0xff] ^ by_lane[3][crc >> 24];
}

CRC_TARGET static uint32_t in_three_lanes(uint32_t crc, const uint8_t *p)
{
    uint32_t second = 0, third = 0;
    for (const uint8_t *end = p + LANE; p < end; p += 8) {
        uint64_t w[3];
        memcpy(&w[0], p, 8);
        memcpy(&w[1], p + LANE, 8);
        memcpy(&w[2], p + 2 * LANE, 8);
        crc = step8(crc, w[0]);
        second = step8(second, w[1]);
        third = step8(third, w[2]);
    }
    return skip_lane(skip_lane(crc) ^ second) ^ third;
}

static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    if (n >= 3 * LANE) pthread_once(&by_lane_once, fill_by_lane);
    for (; n >= 3 * LANE; p += 3 * LANE, n -= 3 * LANE) crc = in_three_lanes(crc, p);
    return in_one_lane(crc, p, n);
}

uint32_t pn_crc32c_portable(uint32_t crc, pn_bytes b)
{
    return ~by_table(~crc, b.ptr, b.len);
}

uint32_t pn_crc32c(uint32_t crc, pn_bytes b)
{
    if (!has_instruction()) return pn_crc32c_portable(crc, b);
    return ~by_instruction(~crc, b.ptr, b.len);
}
