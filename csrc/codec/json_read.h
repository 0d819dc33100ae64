/* json_read.h: a pull reader over one JSON text in memory.
 *
 * It accepts exactly what Python's json.loads(bytes) accepts for UTF-8 input:
 * NaN, Infinity and -Infinity; lone surrogates, escaped or encoded ("surrogatepass");
 * duplicate keys; integers of any length; whitespace space, tab, CR, LF; no BOM (the
 * caller strips it). Invalid UTF-8 is PN_ERR_UTF8, anything else malformed
 * PN_ERR_SYNTAX, nesting beyond PN_JSON_MAX_DEPTH PN_ERR_DEPTH; each with the byte
 * offset in reader.error. After an error the reader must not be used further.
 * An integer of more than PN_JSON_MAX_INT_DIGITS digits is PN_ERR_UNSUPPORTED
 * (Python has a limit of its own that only Python knows).
 *
 * Nothing is allocated; strings and spans are borrowed from the text. The text must
 * stay unchanged meanwhile. No recursion: depth is bounded, stack use is constant.
 *
 * A span is *canonical* when Python's json.dumps(json.loads(span)) gives the very
 * same bytes: separators ", " and ": ", no other whitespace, ASCII only with the
 * escapes that json.dumps writes (lower-case hex), numbers equal to their repr, no
 * duplicate keys, at any depth. Only canonical spans may be copied into a file. A
 * span with more than a thousand keys in objects that are open at once may be called
 * not canonical though it is: then it is only written anew.
 *
 *     pn_json_reader r;
 *     pn_json_reader_init(&r, text);
 *     PN_TRY(pn_json_object_begin(&r));
 *     for (;;) {
 *         pn_json_str key; bool more;
 *         PN_TRY(pn_json_object_next(&r, &key, &more));
 *         if (!more) break;
 *         PN_TRY(pn_json_skip(&r, &span));        // or read the value
 *     }
 *     PN_TRY(pn_json_end(&r));
 */
#ifndef PN_CODEC_JSON_READ_H
#define PN_CODEC_JSON_READ_H

#include "base/buffer.h"

enum { PN_JSON_MAX_DEPTH = 900, PN_JSON_MAX_INT_DIGITS = 4300 };

typedef enum pn_json_type {
    PN_JSON_END, /* only whitespace is left */
    PN_JSON_OBJECT,
    PN_JSON_ARRAY,
    PN_JSON_STRING,
    PN_JSON_NUMBER, /* also NaN, Infinity, -Infinity */
    PN_JSON_TRUE,
    PN_JSON_FALSE,
    PN_JSON_NULL,
    PN_JSON_BAD
} pn_json_type;

typedef struct pn_json_reader {
    const uint8_t *base, *p, *end;
    uint32_t depth;
    bool first; /* the innermost container was just opened */
    pn_error error;
} pn_json_reader;

/* The raw text between the quotes. With has_escape unset it *is* the UTF-8. */
typedef struct pn_json_str {
    const uint8_t *ptr;
    size_t len;
    bool has_escape;
    bool ascii;     /* no byte >= 0x80 in the raw text */
    bool canonical; /* json.dumps would write just these bytes */
} pn_json_str;

typedef struct pn_json_num {
    const uint8_t *ptr; /* the literal */
    size_t len;
    bool is_int;    /* no fraction, no exponent, not NaN/Infinity */
} pn_json_num;

typedef struct pn_json_span {
    const uint8_t *ptr; /* exactly the value, no surrounding whitespace */
    size_t len;
    pn_json_type type;
    bool canonical;
} pn_json_span;

void pn_json_reader_init(pn_json_reader *r, pn_bytes text);

/* Skips whitespace and tells what the next value is, by its first byte. */
pn_json_type pn_json_peek(pn_json_reader *r);

/* Containers. next() handles commas and the closing bracket; *more is false once
 * the container has ended. The caller reads exactly one value after each true. */
pn_status pn_json_object_begin(pn_json_reader *r);
pn_status pn_json_object_next(pn_json_reader *r, pn_json_str *key, bool *more);
pn_status pn_json_array_begin(pn_json_reader *r);
pn_status pn_json_array_next(pn_json_reader *r, bool *more);

/* Scalars. PN_ERR_SYNTAX when the next value is of another type. */
pn_status pn_json_string(pn_json_reader *r, pn_json_str *out);
pn_status pn_json_number(pn_json_reader *r, pn_json_num *out);
pn_status pn_json_literal(pn_json_reader *r); /* true, false or null: told apart by peek */

/* The number as a double, as Python's float(json value) is: integers converted,
 * PN_ERR_RANGE when an integer does not fit a double (float() raises there). */
pn_status pn_json_num_double(const pn_json_num *n, double *out);

/* The hot loop of loading embeddings: reads one array of numbers, all of them, into
 * the caller's buffer of doubles (*len is set, never more than cap are stored).
 * PN_ERR_UNSUPPORTED when an element is not a number, an integer fits no double, or
 * there are more than cap; the reader is then where it was before the call. Integers
 * become doubles, as the peer's from_dict makes them. */
pn_status pn_json_doubles(pn_json_reader *r, double *out, size_t cap, size_t *len);

/* Validates one value of any type and steps over it. out may be NULL. */
pn_status pn_json_skip(pn_json_reader *r, pn_json_span *out);

/* Fails unless only whitespace is left. */
pn_status pn_json_end(pn_json_reader *r);

/* Appends the string's characters as UTF-8; escaped surrogate pairs become one
 * character, lone surrogates their three-byte ("WTF-8") form, as Python's
 * encode("utf-8", "surrogatepass") gives. */
pn_status pn_json_unescape(const pn_json_str *s, pn_buf *out);

/* Appends the canonical form of a valid value: what json.dumps(json.loads(text))
 * gives. Duplicate keys: last value, first place. On failure out is as it was.
 * PN_ERR_UNSUPPORTED as above, and for a key with an unescaped pair of surrogates
 * (two characters to Python, which json.dumps writes like the one they would make). */
pn_status pn_json_canonicalize(pn_bytes text, const pn_alloc *alloc, pn_buf *out);

/* Whether text is one valid value in its canonical form: exactly, as a span's bit is not when
 * there are very many keys. Memory is taken only when that bit says no. */
pn_status pn_json_is_canonical(pn_bytes text, const pn_alloc *alloc, bool *canonical);

#endif
