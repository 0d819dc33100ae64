/* Packs: every crash state of each thing that is done to one, every failing operation, every
 * failing allocation. Rules that need no failing disk are in test_pack_rules.c. */
#include "pack_check.h"

#include "file_fault.h"
#include "persist/commit.h"

#include <errno.h>

/* ---- contents ---- */

static const change FIRST[] = {
    NEW_DOC(0, "a", "\"one\""), NEW_DOC(0, "b", "{\"x\": [1, 2]}"), NEW_DOC(0, "c", "null"), NEW_REF(0, "r", "{}"),
    NEW_ROW(0, "a", "1 2"), NEW_ROW(0, "b", "-0.5 4"), NEW_ID(0, "a", "r"), NEW_ID(0, "b", "r"),
    NEW_TEXT("{\"graph_dict\": {}}"),
};
static const change SECOND[] = {
    DOC(PN_ENTRY_PUT, "b", "\"two\""), DOC(PN_ENTRY_FRESH, "a", "\"one again\""), DOC(PN_ENTRY_REMOVE, "c", NULL),
    DOC(PN_ENTRY_PUT, "d", "[]"), ROW(PN_ENTRY_REMOVE, "a", NULL), ROW(PN_ENTRY_PUT, "d", "7 8"),
    TEXT("{\"graph_dict\": {\"a\": []}}"),
};
static const change THIRD[] = {DOC(PN_ENTRY_PUT, "e", "3")};
static const change WHOLE[] = {
    NEW_DOC(0, "z", "\"anew\""), NEW_ROW(0, "z", "0 0"), NEW_ID(0, "z", "z"), NEW_SUBJECT("z", "[]"),
};
static const change HALF[] = {NEW_DOC(0, "y", "\"only these\""), TEXT("{}")};
static const script FIRST_SCRIPT = SCRIPT(FIRST), SECOND_SCRIPT = SCRIPT(SECOND), THIRD_SCRIPT = SCRIPT(THIRD),
                    WHOLE_SCRIPT = SCRIPT(WHOLE), HALF_SCRIPT = SCRIPT(HALF), NOTHING = {NULL, 0, PN_OK};

/* ---- scenarios ---- */

/* What is to be done, and what it builds on, looked up before. */
typedef struct task {
    const struct scenario *s;
    bases b;
    pn_buf retired; /* a manifest without generations */
} task;

typedef struct scenario {
    const char *what;
    void (*prepare)(pn_memfs *fs);
    pn_status (*act)(const task *t, const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err);
    const script *script;
    uint32_t keep;
} scenario;

static pn_status act_commit(const task *t, const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err)
{
    return commit_on(vfs, alloc, &t->b, t->s->script, t->s->keep, NULL, err);
}

static pn_status act_foreign(const task *t, const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err)
{
    static const pn_manifest_foreign foreign = {"x.json", "other.Store"};
    (void)t;
    pn_pack_result result;
    pn_pack_write w = {.emit = emit_script, .ctx = (void *)&NOTHING, .time = 1, .foreign = &foreign, .foreign_count = 1};
    return pn_pack_commit(vfs, alloc, "/d", &w, &result, err);
}

static pn_status act_compact(const task *t, const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err)
{
    pn_pack_result result;
    return pn_pack_compact(vfs, alloc, "/d", t->s->keep, 0, "pid 4711", &result, err);
}

static pn_status act_rollback(const task *t, const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err)
{
    (void)t;
    pn_pack_result result;
    return pn_pack_rollback(vfs, alloc, "/d", 1, 99, 0, "pid 4711", &result, err);
}

static pn_status act_retire(const task *t, const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err)
{
    (void)t;
    return pn_pack_retire(vfs, alloc, "/d", 0, "pid 4711", err);
}

/* The manifest that says there is no pack was renamed just now, and nothing synced since. */
static pn_status act_swap_and_retire(const task *t, const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err)
{
    const char *staged = "/d/.pannier-00000000-0123456789abcdef.tmp", *final = "/d/MANIFEST";
    int fd, sys = vfs->open(vfs->ctx, staged, PN_OPEN_CREATE, 0666, &fd);
    if (sys == EEXIST) return act_retire(t, vfs, alloc, err);
    if (sys != 0) return pn_file_fail(err, sys, staged, "test");
    sys = pn_file_write_all(vfs, fd, pn_buf_view(&t->retired));
    int synced = pn_file_sync_close(vfs, fd);
    if (sys == 0) sys = synced;
    if (sys == 0) sys = vfs->rename(vfs->ctx, staged, final);
    return sys == 0 ? act_retire(t, vfs, alloc, err) : pn_file_fail(err, sys, staged, "test");
}

static pn_status act_to_json(const task *t, const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err)
{
    pn_commit_item items[] = {{DOCS, text("the documents, as JSON")}, {GRAPH, text("the graph")},
                              {PN_MANIFEST_NAME, pn_buf_view(&t->retired)}};
    return pn_commit_files(vfs, alloc, "/d", items, 3, 0, err);
}

static void make_dir(pn_memfs *fs)
{
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(vfs.mkdir(fs, "/d"), 0);
}

static void commits(pn_memfs *fs, const script *const *list, size_t n)
{
    pn_vfs vfs = pn_memfs_vfs(fs);
    make_dir(fs);
    for (size_t i = 0; i < n; i++) commit_now(&vfs, list[i], 0);
}

static void prepare_nothing(pn_memfs *fs) { (void)fs; }

static void prepare_one(pn_memfs *fs)
{
    const script *list[] = {&FIRST_SCRIPT};
    commits(fs, list, 1);
}

static void prepare_three(pn_memfs *fs)
{
    const script *list[] = {&FIRST_SCRIPT, &SECOND_SCRIPT, &THIRD_SCRIPT};
    commits(fs, list, 3);
}

/* What killed commits may have left: of another, too, whose name is not for us to take. */
static void prepare_leftovers(pn_memfs *fs)
{
    prepare_three(fs);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/seg-0000000000000004-00000000deadbeef.pn", text("half a segm")), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/seg-0000000000000002-00000000deadbeef.pn", text("")), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/.pannier-00000000-0123456789abcdef.tmp", text("half a mani")), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/.pannier-writer", text("pid 1")), 0);
}

static void small_commits(pn_memfs *fs, size_t n)
{
    pn_vfs vfs = pn_memfs_vfs(fs);
    for (size_t i = 0; i < n; i++) {
        char key[24];
        snprintf(key, sizeof key, "k%02zu", i);
        change c[] = {DOC(PN_ENTRY_PUT, key, "\"small\""), DOC(PN_ENTRY_PUT, "b", "\"each time\"")};
        script s = SCRIPT(c);
        commit_now(&vfs, &s, 1);
    }
}

static void prepare_four(pn_memfs *fs)
{
    prepare_one(fs);
    small_commits(fs, 3);
}

/* A first commit that outweighs all that follow. */
static void prepare_large(pn_memfs *fs)
{
    enum { LARGE = 12 };
    static change c[LARGE];
    static char keys[LARGE][4], value[1100];
    make_dir(fs);
    pn_vfs vfs = pn_memfs_vfs(fs);
    memset(value, 'v', sizeof value - 1);
    value[0] = value[sizeof value - 2] = '"';
    for (size_t i = 0; i < LARGE; i++) {
        snprintf(keys[i], sizeof keys[i], "%zu", i);
        c[i] = (change)NEW_DOC(0, keys[i], value);
    }
    script s = SCRIPT(c);
    commit_now(&vfs, &s, 1);
}

static void prepare_sixteen(pn_memfs *fs)
{
    prepare_large(fs);
    small_commits(fs, 15);
}

static void prepare_json(pn_memfs *fs)
{
    make_dir(fs);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/" DOCS, text("old documents")), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/" GRAPH, text("old graph")), 0);
}

static void prepare_retired(pn_memfs *fs)
{
    prepare_three(fs);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/" DOCS, text("documents again")), 0);
    CHECK_EQ_INT(pn_memfs_put(fs, "/d/" GRAPH, text("graph again")), 0);
    put_retired(fs);
}

static const scenario SCENARIOS[] = {
    {"first commit, directory made", prepare_nothing, act_commit, &FIRST_SCRIPT, 0},
    {"second commit", prepare_one, act_commit, &SECOND_SCRIPT, 0},
    {"fourth, the first generation goes", prepare_three, act_commit, &HALF_SCRIPT, 0},
    {"leftovers are swept", prepare_leftovers, act_commit, &SECOND_SCRIPT, 0},
    {"all stores anew, one generation kept", prepare_three, act_commit, &WHOLE_SCRIPT, 1},
    {"one store anew, another changed", prepare_three, act_commit, &HALF_SCRIPT, 2},
    {"foreign store only", prepare_three, act_foreign, NULL, 0},
    {"the youngest are merged", prepare_sixteen, act_commit, &THIRD_SCRIPT, 1},
    {"all are merged", prepare_four, act_commit, &SECOND_SCRIPT, 1},
    {"compact", prepare_three, act_compact, NULL, 0},
    {"compact, one generation kept", prepare_three, act_compact, NULL, 1},
    {"rollback", prepare_three, act_rollback, NULL, 0},
    {"JSON to pack", prepare_json, act_commit, &FIRST_SCRIPT, 0},
    {"pack to JSON", prepare_three, act_to_json, NULL, 0},
    {"a retired pack is removed", prepare_retired, act_retire, NULL, 0},
    {"one that was retired just now, too", prepare_three, act_swap_and_retire, NULL, 0},
    {"a pack anew after one was retired", prepare_retired, act_commit, &FIRST_SCRIPT, 0},
};
enum { SCENARIO_COUNT = sizeof SCENARIOS / sizeof *SCENARIOS };

static pn_memfs *set_up(const scenario *s, task *t)
{
    pn_manifest m;
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    s->prepare(fs);
    CHECK_EQ_INT(pn_memfs_settle(fs), 0);
    pn_vfs vfs = pn_memfs_vfs(fs);
    t->s = s;
    look_up_bases(&vfs, &t->b);
    pn_manifest_init(&m, &pn_alloc_system);
    pn_buf_init(&t->retired, &pn_alloc_system);
    CHECK_EQ_INT(pn_manifest_write(&m, &t->retired), PN_OK);
    pn_memfs_limit_write(fs, 400);
    return fs;
}

static void tear_down(pn_memfs *fs, task *t)
{
    pn_buf_clear(&t->retired);
    pn_memfs_free(fs);
}

/* What /d holds before and after it is done. */
typedef struct ends {
    tell_buf old, new;
} ends;

static void find_ends(const scenario *s, ends *e)
{
    task t;
    pn_file_error err = {0};
    pn_memfs *fs = set_up(s, &t);
    pn_vfs vfs = pn_memfs_vfs(fs);
    tell_dir(&vfs, &e->old);
    pn_status status = s->act(&t, &vfs, &pn_alloc_system, &err);
    if (status != PN_OK) fprintf(stderr, "%s: %s: %s (%d)\n", s->what, err.path, err.base.what, err.base.sys);
    CHECK_EQ_INT(status, PN_OK);
    tell_dir(&vfs, &e->new);
    CHECK(s->act == act_retire || s->act == act_compact || strcmp(e->old.text, e->new.text) != 0);
    CHECK(strstr(e->old.text, "cannot") == NULL && strstr(e->new.text, "cannot") == NULL);
    if (s->act != act_to_json) CHECK(is_tidy(&vfs));
    CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
    tear_down(fs, &t);
}

/* ---- crash states ---- */

typedef struct watch {
    const scenario *s;
    const ends *e;
    size_t states, old, new, continued, bad;
    bool returned; /* it was done: only the new state is allowed */
    bool replaced; /* another commit is under way: its state is, too */
    size_t shown, stride; /* unless 0, only one in so many is looked at */
} watch;

static void complain(watch *w, const char *what, const char *got)
{
    fprintf(stderr, "%s: state %zu: %s\n  %s\n", w->s->what, w->states, what, got);
    w->bad++;
}

static bool is_anew(const tell_buf *t)
{
    return strstr(t->text, "z=\"anew\"") != NULL && strstr(t->text, "cannot") == NULL;
}

/* What could not be swept at once, of a pack that was retired, stays until its numbers
 * are reached. */
static bool sweeps_late(const watch *w) { return w->s->prepare == prepare_retired; }

/* And life goes on: all stores are written anew, and nothing is left lying about. */
static void go_on(watch *w, const pn_vfs *vfs)
{
    tell_buf t;
    pn_file_error err = {0};
    bases none = {.n = 0};
    w->continued++;
    if (commit_on(vfs, &pn_alloc_system, &none, &WHOLE_SCRIPT, 1, NULL, &err) != PN_OK) {
        complain(w, "the next commit fails", err.base.what);
        return;
    }
    tell_dir(vfs, &t);
    if (!is_anew(&t)) complain(w, "the next commit", t.text);
    if (!sweeps_late(w) && !is_tidy(vfs)) complain(w, "files are left", "");
}

static bool count_segment(void *arg, const char *name)
{
    if (pn_segment_name_ok(text(name))) ++*(size_t *)arg;
    return true;
}

/* A pack that is being removed loses its manifest last: nothing is left that no pack knows. */
static bool leaves_orphans(const watch *w, const pn_vfs *vfs)
{
    pn_stat st;
    size_t segments = 0;
    bool retires = w->s->act == act_retire || w->s->act == act_swap_and_retire;
    if (!retires || vfs->lstat(vfs->ctx, "/d/MANIFEST", &st) != ENOENT) return false;
    return vfs->list(vfs->ctx, "/d", count_segment, &segments) != 0 || segments > 0;
}

static bool check_state(void *arg, pn_memfs *after)
{
    watch *w = arg;
    tell_buf t;
    pn_vfs vfs = pn_memfs_vfs(after);
    if (w->stride != 0 && w->shown++ % w->stride != 0) return true;
    w->states++;
    tell_dir(&vfs, &t);
    bool old = strcmp(t.text, w->e->old.text) == 0, new = strcmp(t.text, w->e->new.text) == 0;
    w->old += old;
    w->new += new && !old;
    if (!old && !new && !(w->replaced && is_anew(&t))) complain(w, "neither the old state nor the new one", t.text);
    if (w->returned && !new) complain(w, "what was done is lost", t.text);
    if (leaves_orphans(w, &vfs)) complain(w, "segments without a manifest", "");
    if (w->states % 8 == 0 && !w->replaced) go_on(w, &vfs);
    if (pn_memfs_open_count(after) != 0) complain(w, "left open", "");
    return w->bad < 3;
}

static void crash_here(void *arg, pn_memfs *fs)
{
    if (pn_memfs_each_crash(fs, 220, check_state, arg) == 0) ((watch *)arg)->bad++;
}

static size_t crash_everywhere(const scenario *s)
{
    static ends e;
    task t;
    find_ends(s, &e);
    watch w = {.s = s, .e = &e};
    pn_memfs *fs = set_up(s, &t);
    pn_vfs vfs = pn_memfs_vfs(fs);
    crash_here(&w, fs);
    pn_memfs_on_change(fs, crash_here, &w);
    CHECK_EQ_INT(s->act(&t, &vfs, &pn_alloc_system, NULL), PN_OK);
    w.returned = true;
    pn_memfs_on_change(fs, NULL, NULL);
    crash_here(&w, fs);
    CHECK_EQ_INT(w.bad, 0);
    CHECK(w.old > 0);
    CHECK(w.new > 0 || strcmp(e.old.text, e.new.text) == 0);
    CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
    printf("  %-38s %6zu crash states (%zu old, %zu new), %zu committed to again\n", s->what, w.states, w.old, w.new,
           w.continued);
    tear_down(fs, &t);
    return w.states;
}

static void test_every_crash_state_is_whole(void)
{
    size_t states = 0;
    for (size_t i = 0; i < SCENARIO_COUNT; i++) states += crash_everywhere(&SCENARIOS[i]);
    printf("  %zu crash states of packs\n", states);
    CHECK(states > 10000);
}

/* The enumeration must be able to fail: without any one sync it does. */
static int no_sync_dir(void *ctx, const char *path)
{
    (void)ctx, (void)path;
    return 0;
}

static int no_fsync(void *ctx, int fd)
{
    (void)ctx, (void)fd;
    return 0;
}

static bool count_bad(void *arg, pn_memfs *after)
{
    watch *w = arg;
    tell_buf t;
    pn_vfs vfs = pn_memfs_vfs(after);
    tell_dir(&vfs, &t);
    bool old = strcmp(t.text, w->e->old.text) == 0, new = strcmp(t.text, w->e->new.text) == 0;
    w->bad += w->returned ? !new : !old && !new;
    return true;
}

static void count_bad_here(void *arg, pn_memfs *fs) { (void)pn_memfs_each_crash(fs, 60, count_bad, arg); }

static size_t bad_states_without(bool sync_file, bool sync_dir)
{
    static ends e;
    task t;
    find_ends(&SCENARIOS[2], &e);
    watch w = {.s = &SCENARIOS[2], .e = &e};
    pn_memfs *fs = set_up(w.s, &t);
    pn_vfs vfs = pn_memfs_vfs(fs);
    if (!sync_file) vfs.fsync = no_fsync;
    if (!sync_dir) vfs.sync_dir = no_sync_dir;
    pn_memfs_on_change(fs, count_bad_here, &w);
    CHECK_EQ_INT(w.s->act(&t, &vfs, &pn_alloc_system, NULL), PN_OK);
    w.returned = true;
    pn_memfs_on_change(fs, NULL, NULL);
    count_bad_here(&w, fs);
    tear_down(fs, &t);
    return w.bad;
}

static void test_crash_states_notice_missing_syncs(void)
{
    CHECK_EQ_INT(bad_states_without(true, true), 0);
    CHECK(bad_states_without(false, true) > 0);
    CHECK(bad_states_without(true, false) > 0);
}

/* ---- failing operations ---- */

static void crash_next_here(void *arg, pn_memfs *fs)
{
    if (pn_memfs_each_crash(fs, 6, check_state, arg) == 0) ((watch *)arg)->bad++;
}

/* What must hold after something failed, after a crash then, and, when what failed last may
 * not be durable, after one while another commit is under way. */
static void check_after_fault(const scenario *s, const ends *e, pn_memfs *fs, pn_status status, size_t *states)
{
    tell_buf t;
    pn_vfs vfs = pn_memfs_vfs(fs);
    CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
    tell_dir(&vfs, &t);
    bool old = strcmp(t.text, e->old.text) == 0, new = strcmp(t.text, e->new.text) == 0;
    bool either = status == PN_ERR_UNKNOWN_OUTCOME || s->act == act_swap_and_retire;
    bool good = status == PN_OK ? new : either ? old || new : old;
    if (!good) fprintf(stderr, "%s: status %d, but %s\n", s->what, status, t.text);
    CHECK(good);
    /* Which ones are looked at changes from failure to failure. */
    watch w = {.s = s, .e = e, .returned = status == PN_OK, .stride = 6, .shown = *states};
    CHECK(pn_memfs_each_crash(fs, 8, check_state, &w) > 0);
    w.returned = false;
    w.replaced = true;
    if (status == PN_ERR_UNKNOWN_OUTCOME) pn_memfs_on_change(fs, crash_next_here, &w);
    go_on(&w, &vfs);
    pn_memfs_on_change(fs, NULL, NULL);
    CHECK_EQ_INT(w.bad, 0);
    *states += w.states;
}

static size_t fail_each(const scenario *s, const ends *e, pn_fault_kind kind, bool looks, size_t *states)
{
    for (size_t at = 0;; at++) {
        task t;
        pn_memfs *fs = set_up(s, &t);
        pn_fault f = {.below = pn_memfs_vfs(fs), .kind = kind, .at = at, .sys = EIO, .looks = looks};
        pn_vfs vfs = pn_fault_vfs(&f);
        pn_file_error err = {0};
        pn_status status = s->act(&t, &vfs, &pn_alloc_system, &err);
        if (status != PN_OK) {
            CHECK(status == PN_ERR_IO || status == PN_ERR_UNKNOWN_OUTCOME);
            CHECK_EQ_INT(err.base.sys, EIO);
            CHECK_EQ_INT(err.base.code, status);
            CHECK(err.base.what != NULL && strncmp(err.path, "/", 1) == 0);
        }
        if (kind == PN_FAULT_SHORT) CHECK_EQ_INT(status, PN_OK);
        /* Who fails takes back what it made (what was there before may not have been swept). */
        bool takes_back = kind == PN_FAULT_ONCE && s->prepare != prepare_leftovers && s->prepare != prepare_retired &&
                          s->act != act_swap_and_retire;
        if (status == PN_ERR_IO && takes_back) CHECK(is_tidy(&f.below));
        check_after_fault(s, e, fs, status, states);
        tear_down(fs, &t);
        if (!f.hit && at >= f.count) return at;
    }
}

static void test_every_operation_failed(void)
{
    static ends e;
    size_t points = 0, states = 0;
    for (size_t i = 0; i < SCENARIO_COUNT; i++) {
        find_ends(&SCENARIOS[i], &e);
        for (int kind = PN_FAULT_ONCE; kind <= PN_FAULT_CUT; kind++)
            for (int looks = 0; looks <= (kind <= PN_FAULT_STICKY); looks++)
                points += fail_each(&SCENARIOS[i], &e, (pn_fault_kind)kind, looks != 0, &states);
    }
    printf("  %zu failures injected into what is done to packs, %zu crash states after them\n", points, states);
    CHECK(points > 1000);
}

/* ---- failing memory ---- */

typedef struct meter {
    size_t calls, fail_at, live;
    bool sticky, failed;
} meter;

static void *metered(void *ctx, void *ptr, size_t size)
{
    meter *m = ctx;
    if (size > 0) {
        size_t n = m->calls++;
        if (n == m->fail_at || (m->sticky && n > m->fail_at)) {
            m->failed = true;
            return NULL;
        }
    }
    void *p = pn_alloc_system.resize(NULL, ptr, size);
    if (ptr == NULL && p != NULL) m->live++;
    if (ptr != NULL && size == 0) m->live--;
    return p;
}

static size_t starve(const scenario *s, const ends *e, bool sticky, size_t *states)
{
    for (size_t n = 0;; n++) {
        task t;
        meter m = {.fail_at = n, .sticky = sticky};
        pn_alloc alloc = {metered, &m};
        pn_memfs *fs = set_up(s, &t);
        pn_vfs vfs = pn_memfs_vfs(fs);
        pn_status status = s->act(&t, &vfs, &alloc, NULL);
        CHECK_EQ_INT(m.live, 0);
        CHECK(status == PN_OK || (status == PN_ERR_NOMEM && m.failed));
        check_after_fault(s, e, fs, status, states);
        tear_down(fs, &t);
        if (!m.failed) return n;
    }
}

static void test_every_allocation_failed(void)
{
    static ends e;
    size_t points = 0, states = 0;
    for (size_t i = 0; i < SCENARIO_COUNT; i++) {
        find_ends(&SCENARIOS[i], &e);
        for (int sticky = 0; sticky <= 1; sticky++) points += starve(&SCENARIOS[i], &e, sticky != 0, &states);
    }
    printf("  %zu allocations failed, %zu crash states after them\n", points, states);
    CHECK(points > 500);
}

/* ---- reading ---- */

static bool count_finding(void *ctx, const char *path, uint64_t offset, const char *what)
{
    (void)path, (void)offset, (void)what;
    ++*(size_t *)ctx;
    return true;
}

/* Opens, and looks for damage; the first failure is returned. */
static pn_status read_all(const pn_vfs *vfs, const pn_alloc *alloc, pn_file_error *err)
{
    pn_pack *p = NULL;
    size_t findings = 0;
    pn_manifest m;
    pn_status status = pn_pack_open(vfs, alloc, "/d", 0, PN_PACK_CHECK | PN_PACK_COPY, &p, err);
    if (status == PN_OK) CHECK(p->segment_count > 1);
    pn_pack_close(status == PN_OK ? p : NULL);
    if (status == PN_OK) status = pn_pack_manifest(vfs, alloc, "/d", &m, err);
    if (status == PN_OK) pn_manifest_clear(&m);
    if (status == PN_OK) status = pn_pack_verify(vfs, alloc, "/d", count_finding, &findings, err);
    CHECK_EQ_INT(findings, 0);
    return status;
}

static void test_reading_survives_failing_operations(void)
{
    size_t points = 0;
    for (int kind = PN_FAULT_ONCE; kind <= PN_FAULT_STICKY; kind++) {
        pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
        prepare_three(fs);
        bool hit = true;
        for (size_t at = 0; hit; at++, points++) {
            pn_fault f = {.below = pn_memfs_vfs(fs), .kind = (pn_fault_kind)kind, .at = at, .sys = EIO, .looks = true};
            pn_vfs vfs = pn_fault_vfs(&f);
            pn_file_error err = {0};
            size_t before = pn_memfs_operations(fs);
            pn_status status = read_all(&vfs, &pn_alloc_system, &err);
            hit = f.hit;
            CHECK(hit ? status == PN_ERR_IO || status == PN_OK : status == PN_OK);
            if (status == PN_ERR_IO) CHECK(err.base.sys == EIO && err.base.what != NULL && err.path[0] == '/');
            CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
            CHECK_EQ_INT(pn_memfs_operations(fs), before); /* readers write nothing */
        }
        pn_memfs_free(fs);
    }
    printf("  %zu failures injected into reading\n", points);
}

static void test_reading_survives_oom(void)
{
    pn_memfs *fs = pn_memfs_new(&pn_alloc_system);
    prepare_three(fs);
    pn_vfs vfs = pn_memfs_vfs(fs);
    size_t points = 0;
    for (int sticky = 0; sticky <= 1; sticky++) {
        bool failed = true;
        for (size_t n = 0; failed; n++, points++) {
            meter m = {.fail_at = n, .sticky = sticky != 0};
            pn_alloc alloc = {metered, &m};
            pn_status status = read_all(&vfs, &alloc, NULL);
            failed = m.failed;
            CHECK_EQ_INT(status, failed ? PN_ERR_NOMEM : PN_OK);
            CHECK_EQ_INT(m.live, 0);
            CHECK_EQ_INT(pn_memfs_open_count(fs), 0);
        }
    }
    printf("  %zu allocations of reading failed\n", points);
    pn_memfs_free(fs);
}

int main(void)
{
    RUN(test_every_crash_state_is_whole);
    RUN(test_crash_states_notice_missing_syncs);
    RUN(test_every_operation_failed);
    RUN(test_every_allocation_failed);
    RUN(test_reading_survives_failing_operations);
    RUN(test_reading_survives_oom);
    return check_summary();
}
