/* The pool: every piece is done once, numbers are distinct, several callers at once, what
 * a fork leaves, and no thread before it is needed. */
#define _GNU_SOURCE
#include "check.h"
#include "os/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECES = 2000 };

typedef struct loop {
    atomic_size_t next;
    atomic_uint done[PIECES];
    atomic_uint workers[PN_POOL_MAX];
} loop;

static void work(void *ctx, unsigned worker)
{
    loop *l = ctx;
    atomic_fetch_add(&l->workers[worker], 1);
    for (size_t i; (i = atomic_fetch_add(&l->next, 1)) < PIECES;) atomic_fetch_add(&l->done[i], 1);
}

static int wrong_pieces(unsigned want, unsigned *workers)
{
    loop l = {0};
    pn_pool_run(want, work, &l);
    int wrong = 0;
    for (size_t i = 0; i < PIECES; i++) wrong += atomic_load(&l.done[i]) != 1;
    *workers = 0;
    for (unsigned i = 0; i < PN_POOL_MAX; i++) {
        wrong += atomic_load(&l.workers[i]) > 1;
        *workers += atomic_load(&l.workers[i]);
    }
    return wrong;
}

static void test_nothing_is_started_before(void)
{
    unsigned workers;
    CHECK(pn_pool_threads() >= 1);
    CHECK_EQ_INT(pn_pool_helpers(), 0);
    CHECK_EQ_INT(wrong_pieces(1, &workers), 0);
    CHECK_EQ_INT(workers, 1);
    CHECK_EQ_INT(pn_pool_helpers(), 0);
}

/* Before any number is set. Returns in the parent only. */
static void test_a_child_is_alone_unless_told(void)
{
    pid_t child = fork();
    if (child == 0) {
        bool alone = pn_pool_threads() == 1;
        pn_pool_set_threads(2);
        unsigned workers;
        _exit(alone && pn_pool_threads() == 2 && wrong_pieces(2, &workers) == 0 ? 0 : 1);
    }
    int status = -1;
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK_EQ_INT(status, 0);
}

static void test_every_piece_is_done_once(void)
{
    unsigned workers;
    for (unsigned n = 1; n <= 6; n++) {
        pn_pool_set_threads(n);
        for (int i = 0; i < 200; i++) {
            CHECK_EQ_INT(wrong_pieces(8, &workers), 0);
            CHECK(workers >= 1 && workers <= n);
        }
        CHECK(pn_pool_helpers() <= 5);
    }
    pn_pool_set_threads(0);
    CHECK_EQ_INT(pn_pool_threads(), 1);
    pn_pool_set_threads(1000);
    CHECK_EQ_INT(pn_pool_threads(), PN_POOL_MAX);
}

/* Waits until all are there at once: the helpers really run beside the caller. */
typedef struct meeting {
    atomic_uint here;
    unsigned wanted;
} meeting;

static void meet(void *ctx, unsigned worker)
{
    meeting *m = ctx;
    (void)worker;
    atomic_fetch_add(&m->here, 1);
    while (atomic_load(&m->here) < m->wanted) usleep(100);
}

static void test_helpers_run_beside_the_caller(void)
{
    pn_pool_set_threads(4);
    for (int i = 0; i < 20; i++) {
        meeting m = {.wanted = 4};
        pn_pool_run(4, meet, &m);
        CHECK_EQ_INT(atomic_load(&m.here), 4);
    }
    CHECK_EQ_INT(pn_pool_helpers(), 3);
}

static void *caller(void *wrong)
{
    unsigned workers;
    for (int i = 0; i < 100; i++) *(int *)wrong += wrong_pieces(3, &workers);
    return NULL;
}

static void test_callers_do_not_wait_for_each_other(void)
{
    pthread_t threads[4];
    int wrong[4] = {0};
    pn_pool_set_threads(3);
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, caller, &wrong[i]);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) CHECK_EQ_INT(wrong[i], 0);
}

static void nested(void *ctx, unsigned worker)
{
    unsigned workers;
    if (worker == 0) *(int *)ctx += wrong_pieces(4, &workers) + (workers != 1);
}

static void test_a_loop_within_a_loop_runs_alone(void)
{
    int wrong = 0;
    pn_pool_set_threads(2);
    pn_pool_run(2, nested, &wrong);
    CHECK_EQ_INT(wrong, 0);
}

/* The fork comes while another thread runs a loop: its locks are no obstacle. */
static void test_a_fork_in_the_middle(void)
{
    pthread_t thread;
    int wrong = 0;
    pn_pool_set_threads(3);
    pthread_create(&thread, NULL, caller, &wrong);
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) {
            unsigned workers;
            bool fresh = pn_pool_helpers() == 0 && pn_pool_threads() == 3;
#ifdef __SANITIZE_THREAD__ /* which refuses threads in such a child */
            pn_pool_set_threads(1);
#endif
            unsigned helpers = pn_pool_threads() - 1;
            _exit(fresh && wrong_pieces(3, &workers) == 0 && pn_pool_helpers() == helpers ? 0 : 1);
        }
        int status = -1;
        CHECK_EQ_INT(waitpid(child, &status, 0), child);
        CHECK_EQ_INT(status, 0);
    }
    pthread_join(thread, NULL);
    CHECK_EQ_INT(wrong, 0);
}

int main(void)
{
    RUN(test_nothing_is_started_before);
    RUN(test_a_child_is_alone_unless_told);
    RUN(test_every_piece_is_done_once);
    RUN(test_helpers_run_beside_the_caller);
    RUN(test_callers_do_not_wait_for_each_other);
    RUN(test_a_loop_within_a_loop_runs_alone);
    RUN(test_a_fork_in_the_middle);
    return check_summary();
}
