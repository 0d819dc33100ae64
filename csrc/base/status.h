/* status.h: what every fallible function of the core returns.
 *
 * A function that can fail returns a pn_status and gives its results through
 * out-parameters, which are untouched on failure. Where a caller can use more
 * than the code (a byte offset, errno), the function also fills a pn_error that
 * the caller passes in; it may be NULL.
 *
 * The core never aborts, prints or exits. An assert guards against our own
 * mistakes only; bad input is always a status.
 */
#ifndef PN_BASE_STATUS_H
#define PN_BASE_STATUS_H

#include <stdint.h>

typedef enum pn_status {
    PN_OK = 0,
    PN_ERR_NOMEM,       /* the allocator said no */
    PN_ERR_IO,          /* a file operation failed: pn_error.sys holds errno */
    PN_ERR_SYNTAX,      /* the text is not JSON / MessagePack: pn_error.offset */
    PN_ERR_UTF8,        /* the text is not UTF-8: pn_error.offset */
    PN_ERR_DEPTH,       /* nested deeper than PN_JSON_MAX_DEPTH */
    PN_ERR_RANGE,       /* a size or number beyond what is allowed */
    PN_ERR_CORRUPT,     /* a checksum or structure on disk is wrong */
    PN_ERR_NOT_FOUND,
    PN_ERR_EXISTS,
    PN_ERR_INVALID,     /* an argument that no caller should pass */
    PN_ERR_UNSUPPORTED, /* valid, but beyond the fast path: take the general one */
    PN_ERR_CALLBACK,    /* a callback of the host failed and keeps its own error */
    PN_ERR_UNKNOWN_OUTCOME, /* the commit may or may not be durable */
    PN_ERR_VERSION,     /* written by a newer release: pn_error.offset holds the format's number */
    PN_ERR_CONFLICT,    /* what is on disk moved on since the writer's base */
    PN_ERR_LOCKED,      /* another writer holds the directory */
} pn_status;

/* Detail of a failure. `what` is a constant string, never freed. */
typedef struct pn_error {
    pn_status code;
    int sys;         /* errno, or 0 */
    uint64_t offset; /* byte offset into the text or file, where it makes sense */
    const char *what;
} pn_error;

/* A short constant English phrase for a status. Never NULL. */
const char *pn_status_text(pn_status status);

/* Fills *err (when not NULL) and returns code, so that a failing path reads
 *     return pn_fail(err, PN_ERR_SYNTAX, offset, "expected a value"); */
pn_status pn_fail(pn_error *err, pn_status code, uint64_t offset, const char *what);
/* The same for a failed system call: keeps `sys` (an errno). */
pn_status pn_fail_sys(pn_error *err, int sys, const char *what);

#define PN_TRY(expr)                       \
    do {                                   \
        pn_status pn_try_ = (expr);        \
        if (pn_try_ != PN_OK) return pn_try_; \
    } while (0)

#define PN_FAIL_IF(cond, code)      \
    do {                            \
        if (cond) return (code);    \
    } while (0)

#endif
