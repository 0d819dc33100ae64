#include "file_fault.h"

/* Counts an operation; the errno it is to fail with, or 0. */
static int tick(pn_fault *f)
{
    size_t n = f->count++;
    bool fails = (f->kind == PN_FAULT_ONCE && n == f->at) || (f->kind == PN_FAULT_STICKY && n >= f->at);
    if (!fails) return 0;
    f->hit = true;
    return f->sys;
}

static int tick_look(pn_fault *f) { return f->looks ? tick(f) : 0; }

#define OVER(counted, call)              \
    do {                                 \
        pn_fault *f = ctx;               \
        int sys_ = counted(f);           \
        return sys_ != 0 ? sys_ : (call); \
    } while (0)

static int fault_open(void *ctx, const char *path, pn_open_how how, uint32_t mode, int *fd)
{
    OVER(tick, f->below.open(f->below.ctx, path, how, mode, fd));
}

static int fault_read(void *ctx, int fd, void *to, size_t n, size_t *got)
{
    OVER(tick, f->below.read(f->below.ctx, fd, to, n, got));
}

static int fault_read_at(void *ctx, int fd, uint64_t at, void *to, size_t n, size_t *got)
{
    OVER(tick, f->below.read_at(f->below.ctx, fd, at, to, n, got));
}

static int fault_write(void *ctx, int fd, const void *from, size_t n, size_t *put)
{
    pn_fault *f = ctx;
    if (f->cut) {
        f->cut = false;
        return f->sys;
    }
    bool shortens = (f->kind == PN_FAULT_SHORT || f->kind == PN_FAULT_CUT) && f->count == f->at && n > 1;
    int sys = tick(f);
    if (sys != 0) return sys;
    if (shortens) {
        f->hit = true;
        f->cut = f->kind == PN_FAULT_CUT;
        n /= 2;
    }
    return f->below.write(f->below.ctx, fd, from, n, put);
}

static int fault_truncate(void *ctx, int fd, uint64_t size)
{
    OVER(tick, f->below.truncate(f->below.ctx, fd, size));
}

static int fault_reserve(void *ctx, int fd, uint64_t size) { OVER(tick, f->below.reserve(f->below.ctx, fd, size)); }

static int fault_adopt(void *ctx, int fd, const pn_stat *like)
{
    OVER(tick, f->below.adopt(f->below.ctx, fd, like));
}

static void fault_start_sync(void *ctx, int fd)
{
    pn_fault *f = ctx;
    f->below.start_sync(f->below.ctx, fd);
}

static int fault_fsync(void *ctx, int fd) { OVER(tick, f->below.fsync(f->below.ctx, fd)); }

static int fault_close(void *ctx, int fd)
{
    /* The descriptor goes either way, so that a failure is no leak. */
    pn_fault *f = ctx;
    int sys = tick_look(f), below = f->below.close(f->below.ctx, fd);
    return sys != 0 ? sys : below;
}

static int fault_fstat(void *ctx, int fd, pn_stat *out) { OVER(tick_look, f->below.fstat(f->below.ctx, fd, out)); }

static int fault_map(void *ctx, const pn_alloc *alloc, const char *path, bool copy, pn_blob **out)
{
    OVER(tick, f->below.map(f->below.ctx, alloc, path, copy, out));
}

static int fault_lstat(void *ctx, const char *path, pn_stat *out)
{
    OVER(tick_look, f->below.lstat(f->below.ctx, path, out));
}

static int fault_readlink(void *ctx, const char *path, char to[PN_PATH_MAX])
{
    OVER(tick_look, f->below.readlink(f->below.ctx, path, to));
}

static int fault_realpath(void *ctx, const char *path, char to[PN_PATH_MAX])
{
    OVER(tick_look, f->below.realpath(f->below.ctx, path, to));
}

static int fault_writable(void *ctx, const char *path) { OVER(tick_look, f->below.writable(f->below.ctx, path)); }

static int fault_rename(void *ctx, const char *from, const char *to)
{
    OVER(tick, f->below.rename(f->below.ctx, from, to));
}

static int fault_unlink(void *ctx, const char *path) { OVER(tick, f->below.unlink(f->below.ctx, path)); }
static int fault_mkdir(void *ctx, const char *path) { OVER(tick, f->below.mkdir(f->below.ctx, path)); }
static int fault_sync_dir(void *ctx, const char *path) { OVER(tick, f->below.sync_dir(f->below.ctx, path)); }

static int fault_list(void *ctx, const char *path, pn_list_fn each, void *arg)
{
    OVER(tick_look, f->below.list(f->below.ctx, path, each, arg));
}

static int fault_lock_dir(void *ctx, const char *path, bool wait, int *fd)
{
    OVER(tick, f->below.lock_dir(f->below.ctx, path, wait, fd));
}

static void fault_unlock(void *ctx, int fd)
{
    pn_fault *f = ctx;
    f->below.unlock(f->below.ctx, fd);
}

static void fault_pause(void *ctx)
{
    pn_fault *f = ctx;
    f->below.pause(f->below.ctx);
}

static uint64_t fault_random(void *ctx)
{
    pn_fault *f = ctx;
    return f->below.random(f->below.ctx);
}

pn_vfs pn_fault_vfs(pn_fault *f)
{
    return (pn_vfs){
        .ctx = f, .open = fault_open, .read = fault_read, .read_at = fault_read_at, .write = fault_write,
        .truncate = fault_truncate, .reserve = fault_reserve, .adopt = fault_adopt, .start_sync = fault_start_sync, .fsync = fault_fsync,
        .close = fault_close, .fstat = fault_fstat, .map = fault_map, .lstat = fault_lstat, .readlink = fault_readlink,
        .realpath = fault_realpath, .writable = fault_writable, .rename = fault_rename, .unlink = fault_unlink,
        .mkdir = fault_mkdir, .sync_dir = fault_sync_dir, .list = fault_list, .lock_dir = fault_lock_dir,
        .unlock = fault_unlock, .pause = fault_pause, .random = fault_random,
    };
}
