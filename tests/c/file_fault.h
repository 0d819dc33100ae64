/* file_fault.h: a pn_vfs that fails where a test wants it to, over any other one.
 *
 * Every operation that could fail on a real disk is counted, from 0, except close,
 * unlock and what only looks (lstat, readlink, realpath, writable, fstat, list), which
 * are counted only with `looks` set. One thread.
 */
#ifndef PN_TESTS_FILE_FAULT_H
#define PN_TESTS_FILE_FAULT_H

#include "os/file.h"

typedef enum pn_fault_kind {
    PN_FAULT_ONCE,   /* operation `at` fails */
    PN_FAULT_STICKY, /* it and all after it fail */
    PN_FAULT_SHORT,  /* if it is a write, half of it is written and that is no error */
    PN_FAULT_CUT,    /* if it is a write, half of it is written and the next one fails */
} pn_fault_kind;

typedef struct pn_fault {
    pn_vfs below;      /* copied */
    pn_fault_kind kind;
    size_t at;
    int sys;           /* errno of failures */
    bool looks;
    size_t count;      /* operations so far */
    bool hit;          /* something failed or was cut */
    bool cut;
} pn_fault;

/* The table that goes through `f`, which must outlive it. */
pn_vfs pn_fault_vfs(pn_fault *f);

#endif
