#include "base/status.h"

#include <stddef.h>

const char *pn_status_text(pn_status status)
{
    switch (status) {
    case PN_OK: return "ok";
    case PN_ERR_NOMEM: return "out of memory";
    case PN_ERR_IO: return "a file operation failed";
    case PN_ERR_SYNTAX: return "malformed text";
    case PN_ERR_UTF8: return "text is not UTF-8";
    case PN_ERR_DEPTH: return "nested too deeply";
    case PN_ERR_RANGE: return "out of range";
    case PN_ERR_CORRUPT: return "corrupt data";
    case PN_ERR_NOT_FOUND: return "not found";
    case PN_ERR_EXISTS: return "exists already";
    case PN_ERR_INVALID: return "invalid argument";
    case PN_ERR_UNSUPPORTED: return "not supported here";
    case PN_ERR_CALLBACK: return "a callback failed";
    case PN_ERR_UNKNOWN_OUTCOME: return "outcome unknown";
    case PN_ERR_VERSION: return "written by a newer release";
    case PN_ERR_CONFLICT: return "changed by another writer";
    case PN_ERR_LOCKED: return "another writer is at work";
    }
    return "unknown status";
}

pn_status pn_fail(pn_error *err, pn_status code, uint64_t offset, const char *what)
{
    if (err != NULL) *err = (pn_error){code, 0, offset, what};
    return code;
}

pn_status pn_fail_sys(pn_error *err, int sys, const char *what)
{
    if (err != NULL) *err = (pn_error){PN_ERR_IO, sys, 0, what};
    return PN_ERR_IO;
}
