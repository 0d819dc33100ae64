/* The number libraries behind number.h; the only C++ of the tree.
 *
 * Printing: dragonbox gives the shortest digits that read back to the same double
 * (the closest ones where several are as short), which is what CPython's repr
 * prints; only the layout of the digits is ours.
 *
 * Reading: the grammar is matched here, eight digits a step, because JSON's grammar
 * is narrower than any library's and the scan is most of the time. What it yields,
 * an exact integer w of at most 19 digits and a power of ten q, goes to fast_float's
 * compute_float, which is correctly rounded for every such pair or says that it
 * cannot tell; then, and for longer literals, the library reads the whole text.
 */
#include "codec/number.h"

#if defined(PN_HAVE_FAST_FLOAT)
#include <fast_float/fast_float.h>
#endif
#if defined(PN_HAVE_DRAGONBOX)
#include <dragonbox/dragonbox.h>
#endif
#if !defined(PN_HAVE_FAST_FLOAT) || !defined(PN_HAVE_DRAGONBOX)
#include <charconv>
#endif
#include <system_error>
#if defined(__SSE2__) && defined(PN_HAVE_FAST_FLOAT)
#define PN_DIGITS_BY_SIXTEEN 1
#include <emmintrin.h>
#endif

namespace {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr bool little_endian = true;
#else
constexpr bool little_endian = false;
#endif

constexpr uint64_t power10[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000,
                                1000000000, 10000000000, 100000000000, 1000000000000, 10000000000000,
                                100000000000000, 1000000000000000, 10000000000000000, 100000000000000000};

constexpr uint64_t each_byte(uint64_t b) { return b * 0x0101010101010101u; }

/* ---- reading ---- */

/* Eight digits (bytes 0..9, the first lowest) as a number: pairs, fours, eights. */
inline uint32_t join_digits(uint64_t d)
{
    d = (d * 10 + (d >> 8)) & 0x00ff00ff00ff00ffu;
    d = (d * 100 + (d >> 16)) & 0x0000ffff0000ffffu;
    return static_cast<uint32_t>(d * 10000 + (d >> 32));
}

inline bool is_digit(const uint8_t *p, const uint8_t *end) { return p < end && static_cast<uint8_t>(*p - '0') < 10; }

/* Adds a run of digits to w (modulo 2^64: the caller counts them). */
inline const uint8_t *read_digits(const uint8_t *p, const uint8_t *end, uint64_t &w)
{
    while (little_endian && end - p >= 8) {
        uint64_t d;
        memcpy(&d, p, 8);
        d ^= each_byte('0');
        /* A carry out of a byte only reaches later ones, behind the first non-digit. */
        uint64_t other = ((d + each_byte(6)) | d) & each_byte(0xf0);
        if (other == 0) {
            w = w * 100000000 + join_digits(d);
            p += 8;
            continue;
        }
        unsigned n = static_cast<unsigned>(__builtin_ctzll(other)) / 8;
        w = w * power10[n] + join_digits(d << 8 << (56 - 8 * n)); /* zeros come in front */
        return p + n;
    }
    for (; is_digit(p, end); p++) w = w * 10 + (*p - '0');
    return p;
}

/* The exponent after 'e', clamped far outside of what a double can be. */
const uint8_t *read_exponent(const uint8_t *p, const uint8_t *end, int64_t &q)
{
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    if (!is_digit(p, end)) return nullptr;
    int64_t e = 0;
    for (; is_digit(p, end); p++)
        if (e < 100000000) e = e * 10 + (*p - '0');
    q += negative ? -e : e;
    return p;
}

/* Digits of the literal without sign, point and leading zeros. */
size_t significant_digits(const uint8_t *p, const uint8_t *end)
{
    size_t n = 0;
    bool started = false;
    for (; p < end && (is_digit(p, end) || *p == '.'); p++) {
        if (*p == '.') continue;
        started = started || *p != '0';
        n += started;
    }
    return n;
}

/* libstdc++ leaves the value alone out of range; which end it was, the text tells. */
double read_whole(const uint8_t *first, const uint8_t *last)
{
    const char *p = reinterpret_cast<const char *>(first), *end = reinterpret_cast<const char *>(last);
    double v = 0;
#if defined(PN_HAVE_FAST_FLOAT)
    fast_float::from_chars(p, end, v);
#else
    if (std::from_chars(p, end, v).ec == std::errc::result_out_of_range) {
        const uint8_t *at = first, *body = first + (*first == '-');
        while (at < last && *at != 'e' && *at != 'E') at++;
        int64_t q = 0, leading = 0;
        if (at < last) read_exponent(at + 1, last, q);
        const uint8_t *d = body;
        for (; d < at && *d != '.'; d++) leading += (*d != '0' || leading > 0);
        if (leading == 0)
            for (d++; d < at && *d == '0'; d++) leading--;
        v = leading + q > 0 ? __builtin_inf() : 0.0;
        if (*first == '-') v = -v;
    }
#endif
    return v;
}

/* w * 10^q when the library can tell at once. */
inline bool scale(uint64_t w, int64_t q, bool negative, double &out)
{
#if defined(PN_HAVE_FAST_FLOAT)
    fast_float::adjusted_mantissa am = fast_float::compute_float<fast_float::binary_format<double>>(q, w);
    if (am.power2 < 0) return false;
    uint64_t bits = am.mantissa | static_cast<uint64_t>(am.power2) << 52 | static_cast<uint64_t>(negative) << 63;
    memcpy(&out, &bits, 8);
    return true;
#else
    (void)w, (void)q, (void)negative, (void)out;
    return false;
#endif
}

/* ---- runs of numbers ---- */

#if defined(PN_DIGITS_BY_SIXTEEN)

/* How far behind the start of a number reading looks, and how far in front of its end. */
enum { LOOK_AHEAD = 40, LOOK_BACK = 32, MOST_PLACES = 22 };

/* Loaded from + n, the last n bytes are ones (n <= 16). */
alignas(16) constexpr uint8_t keep_last[32] = {0,    0,    0,    0,    0,    0,    0,    0,    0,    0,   0,
                                               0,    0,    0,    0,    0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                               0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

inline __m128i load16(const uint8_t *p) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(p)); }

/* A bit for each of the 32 bytes at p: whether it is a digit. */
inline uint32_t digit_mask(const uint8_t *p)
{
    const __m128i zero = _mm_set1_epi8('0'), nine = _mm_set1_epi8(9);
    __m128i a = _mm_sub_epi8(load16(p), zero), b = _mm_sub_epi8(load16(p + 16), zero);
    a = _mm_cmpeq_epi8(_mm_min_epu8(a, nine), a);
    b = _mm_cmpeq_epi8(_mm_min_epu8(b, nine), b);
    return static_cast<uint32_t>(_mm_movemask_epi8(a)) | static_cast<uint32_t>(_mm_movemask_epi8(b)) << 16;
}

/* The last n of the 16 digits at p, n <= 16, in fours. */
inline __m128i fours(const uint8_t *p, unsigned n)
{
    __m128i d = _mm_and_si128(_mm_sub_epi8(load16(p), _mm_set1_epi8('0')), load16(keep_last + n));
    __m128i tens = _mm_mullo_epi16(_mm_and_si128(d, _mm_set1_epi16(0xff)), _mm_set1_epi16(10));
    return _mm_madd_epi16(_mm_add_epi16(tens, _mm_srli_epi16(d, 8)), _mm_set1_epi32(1 << 16 | 100));
}

/* The n digits in front of end, n <= 24, in three eights, the lowest last. */
inline void eights(const uint8_t *end, unsigned n, uint32_t out[4])
{
    __m128i low = fours(end - 16, n < 16 ? n : 16), high = fours(end - 32, n < 16 ? 0 : n - 16);
    __m128i all = _mm_madd_epi16(_mm_packs_epi32(high, low), _mm_set1_epi32(1 << 16 | 10000));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(out), all);
}

/* One digit, a point, digits, a comma: what lies between sign and comma, as w and places.
 * Too many digits for w, w = 0 and all other shapes: false. */
inline bool usual_number(const uint8_t *first, uint32_t digits, uint64_t &w, unsigned &places)
{
    places = static_cast<unsigned>(__builtin_ctz(~(digits >> 2)));
    const uint8_t *end = first + 2 + places;
    uint64_t whole = static_cast<uint64_t>(*first) - '0';
    unsigned most = whole == 0 ? MOST_PLACES : 16;
    if ((digits & 3) != 1 || first[1] != '.' || places - 1 >= most || *end != ',') return false;
    uint32_t e[4];
    eights(end, places, e);
    w = whole * power10[places > 16 ? 0 : places] + e[1] * power10[16] + e[2] * power10[8] + e[3];
    return w != 0 && e[1] < 1000; /* below 10^19 */
}

/* w / 10^places, 0 < places <= MOST_PLACES: what scale gives, where there is no tie. */
inline bool divide(uint64_t w, unsigned places, uint64_t sign, double &out)
{
    int lz = __builtin_clzll(w), q = -static_cast<int>(places);
    fast_float::value128 product = fast_float::compute_product_approximation<55>(q, w << lz);
    if (product.low + 1 <= 2) return false;
    int upper = static_cast<int>(product.high >> 63);
    uint64_t mantissa = product.high >> (upper + 9); /* one bit too many, for rounding */
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    int64_t power2 = fast_float::detail::power(q) + upper - lz + 1023;
    /* The implicit bit of the mantissa, or its carry, counts in the exponent. */
    uint64_t bits = (static_cast<uint64_t>(power2 - 1) << 52) + mantissa + (sign << 63);
    memcpy(&out, &bits, 8);
    return true;
}

#endif

/* ---- printing ---- */

/* value = digits * 10^exponent, digits of at most 17 places. */
struct decimal {
    uint64_t digits;
    int exponent;
};

inline decimal shortest(double v) /* finite, positive */
{
#if defined(PN_HAVE_DRAGONBOX)
    namespace db = jkj::dragonbox;
    auto r = db::to_decimal(v, db::policy::sign::ignore, db::policy::trailing_zero::ignore, db::policy::cache::full);
    return {r.significand, r.exponent};
#else
    char text[40];
    auto r = std::to_chars(text, text + sizeof text, v, std::chars_format::scientific);
    decimal d = {0, 0};
    const char *p = text;
    for (bool fraction = false; *p != 'e'; p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        d.digits = d.digits * 10 + static_cast<uint64_t>(*p - '0');
        d.exponent -= fraction;
    }
    int64_t q = 0;
    read_exponent(reinterpret_cast<const uint8_t *>(p + 1), reinterpret_cast<const uint8_t *>(r.ptr), q);
    d.exponent += static_cast<int>(q);
    return d;
#endif
}

/* The opposite of join_digits: the digits of v < 10^8, one a byte, first lowest. */
inline uint64_t split_digits(uint32_t v)
{
    uint64_t d = (static_cast<uint64_t>(v % 10000) << 32) | (v / 10000);
    uint64_t hundreds = ((d * 10486) >> 20) & 0x0000007f0000007fu; /* / 100, exact below 10^4 */
    d = ((d - hundreds * 100) << 16) | hundreds;
    uint64_t tens = ((d * 103) >> 10) & 0x000f000f000f000fu; /* / 10, exact below 100 */
    return ((d - tens * 10) << 8) | tens;
}

inline void put_digits(char *out, uint64_t d)
{
    d |= each_byte('0');
    if (!little_endian) d = __builtin_bswap64(d);
    memcpy(out, &d, 8);
}

/* 17 decimal places in three parts, with what is not significant counted off. */
struct places {
    uint64_t high, low; /* split_digits of the 16 lower places */
    char first;
    int count;    /* without leading zeros */
    int trailing; /* zeros at the end */
};

inline places spread(uint64_t digits)
{
    uint64_t top = digits / 100000000;
    uint32_t high = static_cast<uint32_t>(top % 100000000);
    places s;
    s.first = static_cast<char>('0' + top / 100000000);
    s.high = split_digits(high);
    s.low = split_digits(static_cast<uint32_t>(digits % 100000000));
    int log = ((64 - __builtin_clzll(digits)) * 1233) >> 12;
    s.count = log + (digits >= power10[log]);
    if (s.low != 0)
        s.trailing = __builtin_clzll(s.low) / 8;
    else
        s.trailing = s.high != 0 ? 8 + __builtin_clzll(s.high) / 8 : 16;
    return s;
}

/* "d.ddde-05" */
char *put_exponential(char *out, const char *digits, int n, int exponent)
{
    *out++ = digits[0];
    if (n > 1) {
        *out++ = '.';
        memcpy(out, digits + 1, 16);
        out += n - 1;
    }
    *out++ = 'e';
    *out++ = exponent < 0 ? '-' : '+';
    unsigned e = static_cast<unsigned>(exponent < 0 ? -exponent : exponent);
    if (e >= 100) *out++ = static_cast<char>('0' + e / 100);
    *out++ = static_cast<char>('0' + e / 10 % 10);
    *out++ = static_cast<char>('0' + e % 10);
    return out;
}

/* All layouts but the hot one. `point`: digits before the decimal point, may be <= 0. */
char *put_any(char *out, const places &s, int n, int point)
{
    char buf[8 + 16 + 16], *digits = buf + 24 - s.count;
    buf[7] = s.first;
    put_digits(buf + 8, s.high);
    put_digits(buf + 16, s.low);
    put_digits(buf + 24, 0);
    put_digits(buf + 32, 0);
    if (point <= -4 || point > 16) return put_exponential(out, digits, n, point - 1);
    if (point <= 0) {
        memcpy(out, "0.000000", 8);
        memcpy(out + 2 - point, digits, 17);
        return out + 2 - point + n;
    }
    memcpy(out, digits, 16);
    if (point >= n) {
        memset(out + n, '0', static_cast<size_t>(point - n));
        memcpy(out + point, ".0", 2);
        return out + point + 2;
    }
    out[point] = '.';
    memcpy(out + point + 1, digits + point, 8); /* never beyond PN_DOUBLE_TEXT_MAX */
    if (n - point > 8) memcpy(out + point + 9, digits + point + 8, 8);
    return out + n + 1;
}

char *put_decimal(char *out, decimal d)
{
    places s = spread(d.digits);
    int n = s.count - s.trailing, point = s.count + d.exponent;
    if (s.count < 16 || point > 0 || point <= -4) return put_any(out, s, n, point);
    /* 0.00ddd with 16 or 17 places, most of all embeddings: written in place. With 16
     * the zero in front of them may hit the decimal point, hence the last line. */
    memcpy(out, "0.000000", 8);
    char *end = out + 2 - point + s.count;
    end[-17] = s.first;
    put_digits(end - 16, s.high);
    put_digits(end - 8, s.low);
    out[1] = '.';
    return end - s.trailing;
}

} // namespace

extern "C" const uint8_t *pn_double_read(const uint8_t *p, const uint8_t *end, double *out)
{
    const uint8_t *start = p;
    uint64_t w = 0;
    int64_t q = 0;
    bool negative = p < end && *p == '-';
    p += negative;
    const uint8_t *digits = p;
    if (!is_digit(p, end)) return nullptr;
    if (*p == '0')
        p++;
    else
        p = read_digits(p, end, w);
    size_t places = static_cast<size_t>(p - digits);
    if (p < end && *p == '.') {
        const uint8_t *fraction = ++p;
        p = read_digits(p, end, w);
        if (p == fraction) return nullptr;
        q = fraction - p;
        places += static_cast<size_t>(p - fraction);
    }
    if (p < end && (*p | 0x20) == 'e') {
        p = read_exponent(p + 1, end, q);
        if (p == nullptr) return nullptr;
    }
    bool exact = places <= 19 || significant_digits(digits, p) <= 19;
    if (!exact || !scale(w, q, negative, *out)) *out = read_whole(start, p);
    return p;
}

extern "C" const uint8_t *pn_double_run(const uint8_t *start, const uint8_t *p, const uint8_t *end, double *out,
                                       size_t cap, size_t *len)
{
    size_t n = 0;
#if defined(PN_DIGITS_BY_SIXTEEN)
    for (bool room = p - start >= LOOK_BACK; room && n < cap && end - p >= LOOK_AHEAD; n++) {
        /* Nothing here branches on the sign, which is a coin toss. */
        uint32_t digits = digit_mask(p), sign = ~digits & 1;
        const uint8_t *first = p + sign;
        uint64_t w;
        unsigned places;
        if ((sign & (*p != '-')) != 0 || !usual_number(first, digits >> sign, w, places)) break;
        if (!divide(w, places, sign, out[n])) break;
        p = first + 4 + places;
        if (__builtin_expect(p[-1] != ' ', 0)) p--;
    }
#else
    (void)start, (void)end, (void)out, (void)cap;
#endif
    *len = n;
    return p;
}

extern "C" size_t pn_double_print(double value, char *out)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    uint64_t magnitude = bits & ~(uint64_t(1) << 63);
    char *start = out;
    *out = '-';
    out += bits >> 63;
    if (__builtin_expect(magnitude - 1 < 0x7fefffffffffffffu, 1)) { /* finite, not zero */
        memcpy(&value, &magnitude, 8);
        return static_cast<size_t>(put_decimal(out, shortest(value)) - start);
    }
    if (magnitude > 0x7ff0000000000000u) out = start; /* a NaN has no sign */
    const char *word = magnitude == 0 ? "0.0" : magnitude == 0x7ff0000000000000u ? "Infinity" : "NaN";
    size_t n = strlen(word);
    memcpy(out, word, n);
    return static_cast<size_t>(out - start) + n;
}

extern "C" const char *pn_number_backend(void)
{
#if defined(PN_HAVE_FAST_FLOAT)
#define PN_READER "fast_float"
#else
#define PN_READER "std::from_chars"
#endif
#if defined(PN_HAVE_DRAGONBOX)
#define PN_PRINTER "dragonbox"
#else
#define PN_PRINTER "std::to_chars"
#endif
    return PN_READER ", " PN_PRINTER;
}
