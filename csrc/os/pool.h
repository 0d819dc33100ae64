/* pool.h: a few threads of the process that help with one loop at a time.
 *
 * pn_pool_run calls a function on the caller's thread and, at the same time, on as many
 * helpers as come in time; the function claims pieces of the work by an atomic counter
 * until none is left, so it does not matter how many come, or whether any does:
 *
 *     caller   fn(ctx, 0) claims 0 2 3 5 ...
 *     helper   . . fn(ctx, 1) claims 1 4 ...      late or absent: the caller did it all
 *
 * There is one pool a process and one loop in it at a time: who finds it taken runs
 * alone. No thread exists before the first loop that wants one; idle helpers sleep.
 *
 * Fork: the child has no helpers and starts its own when it wants some. Unless a number
 * was set (by PANNIER_THREADS or pn_pool_set_threads), a child runs alone: programs that
 * fork workers have given each CPU its work already.
 *
 * Thread safe. Helpers block every signal. The function must not fork, and must not call
 * pn_pool_run of its own (it would run alone). Nothing fails: what cannot be started is
 * done without.
 */
#ifndef PN_OS_POOL_H
#define PN_OS_POOL_H

#include <stddef.h>

enum { PN_POOL_MAX = 64 };

/* worker: 0 for the caller, else a number below `want` that no other thread has. */
typedef void (*pn_pool_fn)(void *ctx, unsigned worker);

/* Once a process, before any fork that matters; more calls do nothing. */
void pn_pool_install(void);

/* How many threads a loop may run on, the caller included. Before a number was set:
 * PANNIER_THREADS, else as many as there are CPUs to run on, 4 at most. */
unsigned pn_pool_threads(void);
/* 1 to PN_POOL_MAX (what is beyond is brought within). */
void pn_pool_set_threads(unsigned n);

/* Runs fn on at most `want` threads; returns when all that began have returned. */
void pn_pool_run(unsigned want, pn_pool_fn fn, void *ctx);

/* Helpers alive, for tests. */
unsigned pn_pool_helpers(void);

#endif
