#define _GNU_SOURCE
#include "os/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

enum { DEFAULT_MOST = 4 };

/* One a process, as the CPUs are. `user` is held by whose loop runs, `mutex` guards the
 * rest and is never held while fn runs. */
static struct {
    pthread_mutex_t user, mutex;
    pthread_cond_t work, done;
    pn_pool_fn fn;
    void *ctx;
    unsigned helpers; /* alive */
    unsigned open;    /* places left in the loop */
    unsigned taken;   /* numbers given out in the loop */
    unsigned running; /* helpers in fn */
} pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER,
          NULL, NULL, 0, 0, 0, 0};

static atomic_uint threads; /* 0: not known yet */
static atomic_bool was_set;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Only the thread that forked lives here; locks that others held are made anew. */
static void start_afresh(void)
{
    pthread_mutex_init(&pool.user, NULL);
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.work, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.helpers = pool.open = pool.taken = pool.running = 0;
    if (!atomic_load(&was_set)) atomic_store(&threads, 1);
}

static unsigned within(unsigned n) { return n < 1 ? 1 : n > PN_POOL_MAX ? PN_POOL_MAX : n; }

static unsigned count_cpus(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

/* The number in PANNIER_THREADS, 0 when there is none. */
static unsigned wanted_by_environment(void)
{
    const char *text = getenv("PANNIER_THREADS");
    if (text == NULL) return 0;
    char *end;
    long n = strtol(text, &end, 10);
    return end != text && *end == '\0' && n > 0 ? within(n > PN_POOL_MAX ? PN_POOL_MAX : (unsigned)n) : 0;
}

static void install(void)
{
    unsigned n = wanted_by_environment(), cpus = count_cpus();
    atomic_store(&was_set, n != 0);
    atomic_store(&threads, n ? n : within(cpus < DEFAULT_MOST ? cpus : DEFAULT_MOST));
    (void)pthread_atfork(NULL, NULL, start_afresh);
}

void pn_pool_install(void) { pthread_once(&once, install); }

unsigned pn_pool_threads(void)
{
    pn_pool_install();
    return atomic_load(&threads);
}

void pn_pool_set_threads(unsigned n)
{
    pn_pool_install();
    atomic_store(&was_set, true);
    atomic_store(&threads, within(n));
    pthread_mutex_lock(&pool.mutex); /* helpers too many go */
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
}

static bool too_many(void) { return pool.helpers >= atomic_load(&threads); }

/* With the mutex, before and after. */
static void help(void)
{
    unsigned number = ++pool.taken;
    pool.open--;
    pool.running++;
    pn_pool_fn fn = pool.fn;
    void *ctx = pool.ctx;
    pthread_mutex_unlock(&pool.mutex);
    fn(ctx, number);
    pthread_mutex_lock(&pool.mutex);
    if (--pool.running == 0) pthread_cond_signal(&pool.done);
}

static void *helper(void *unused)
{
    pthread_mutex_lock(&pool.mutex);
    while (!too_many()) {
        if (pool.open != 0) help();
        else pthread_cond_wait(&pool.work, &pool.mutex);
    }
    pool.helpers--;
    pthread_mutex_unlock(&pool.mutex);
    return unused;
}

static bool start_helper(void)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    if (pthread_attr_init(&attr) != 0) return false;
    sigfillset(&all);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, &attr, helper, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return failed == 0;
}

/* With `user` held. */
static void run_with_helpers(unsigned helpers, pn_pool_fn fn, void *ctx)
{
    pthread_mutex_lock(&pool.mutex);
    while (pool.helpers < helpers && start_helper()) pool.helpers++;
    pool.fn = fn;
    pool.ctx = ctx;
    pool.taken = 0;
    pool.open = helpers;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
    fn(ctx, 0);
    pthread_mutex_lock(&pool.mutex);
    pool.open = 0; /* who comes now finds nothing to do */
    while (pool.running != 0) pthread_cond_wait(&pool.done, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
}

void pn_pool_run(unsigned want, pn_pool_fn fn, void *ctx)
{
    unsigned most = pn_pool_threads();
    if (want > most) want = most;
    if (want <= 1 || pthread_mutex_trylock(&pool.user) != 0) {
        fn(ctx, 0);
        return;
    }
    run_with_helpers(want - 1, fn, ctx);
    pthread_mutex_unlock(&pool.user);
}

unsigned pn_pool_helpers(void)
{
    pthread_mutex_lock(&pool.mutex);
    unsigned n = pool.helpers;
    pthread_mutex_unlock(&pool.mutex);
    return n;
}
