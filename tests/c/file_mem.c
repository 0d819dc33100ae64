#include "file_mem.h"

#include <errno.h>

enum { MAX_HOPS = 40, MAX_PENDING = 60, FATES = 4 };

typedef struct entry {
    char name[PN_MEMFS_NAME_MAX + 1];
    uint32_t ino;
} entry;

/* One change of a directory that is not durable yet. */
typedef struct change {
    uint32_t dir, ino;
    bool add;         /* name `to` now is ino */
    bool remove;      /* name `from` is gone */
    char from[PN_MEMFS_NAME_MAX + 1], to[PN_MEMFS_NAME_MAX + 1];
} change;

typedef struct node {
    pn_file_kind kind;
    uint32_t mode;
    int64_t mtime, disk_mtime;
    bool dirty;              /* data is not what is on the disk */
    bool locked;             /* a directory that somebody locked */
    pn_buf data, disk;       /* of a file; the target of a link */
    pn_buf names, disk_names; /* of a directory: entry[] */
} node;

typedef struct handle {
    uint32_t ino;
    size_t pos;
    bool used, writable, is_lock;
} handle;

struct pn_memfs {
    const pn_alloc *alloc;
    pn_buf nodes;   /* node*[]; number 0 is the root directory */
    pn_buf pending; /* change[], oldest first */
    pn_buf handles; /* handle[] */
    int64_t clock;
    uint64_t seed;
    size_t max_write, operations;
    pn_memfs_hook hook;
    void *hook_arg;
};

/* ---- arrays in buffers ---- */

static size_t count_of(const pn_buf *b, size_t size) { return b->len / size; }
static node *node_at(const pn_memfs *fs, uint32_t ino) { return ((node **)fs->nodes.data)[ino]; }
static uint32_t node_count(const pn_memfs *fs) { return (uint32_t)count_of(&fs->nodes, sizeof(node *)); }
static entry *entries_of(const pn_buf *names) { return (entry *)names->data; }
static int sys_of(pn_status s) { return s == PN_OK ? 0 : ENOMEM; }

static entry *find_entry(const pn_buf *names, const char *name)
{
    for (size_t i = 0; i < count_of(names, sizeof(entry)); i++)
        if (strcmp(entries_of(names)[i].name, name) == 0) return &entries_of(names)[i];
    return NULL;
}

static pn_status set_entry(pn_buf *names, const char *name, uint32_t ino)
{
    entry *e = find_entry(names, name);
    if (e != NULL) {
        e->ino = ino;
        return PN_OK;
    }
    entry fresh = {.ino = ino};
    memcpy(fresh.name, name, strlen(name) + 1);
    return pn_buf_append(names, &fresh, sizeof fresh);
}

static void drop_entry(pn_buf *names, const char *name)
{
    entry *e = find_entry(names, name);
    if (e == NULL) return;
    *e = entries_of(names)[count_of(names, sizeof(entry)) - 1];
    names->len -= sizeof(entry);
}

static pn_status copy_buf(pn_buf *to, const pn_buf *from)
{
    to->len = 0;
    return pn_buf_append(to, from->data, from->len);
}

/* ---- nodes ---- */

static void node_free(const pn_alloc *alloc, node *n)
{
    if (n == NULL) return;
    pn_buf_clear(&n->data);
    pn_buf_clear(&n->disk);
    pn_buf_clear(&n->names);
    pn_buf_clear(&n->disk_names);
    pn_alloc_put(alloc, n);
}

static pn_status node_new(pn_memfs *fs, pn_file_kind kind, uint32_t mode, uint32_t *ino)
{
    node *n = pn_alloc_zero(fs->alloc, 1, sizeof *n);
    PN_FAIL_IF(n == NULL, PN_ERR_NOMEM);
    n->kind = kind;
    n->mode = mode;
    n->mtime = n->disk_mtime = fs->clock;
    pn_buf *all[] = {&n->data, &n->disk, &n->names, &n->disk_names};
    for (size_t i = 0; i < 4; i++) pn_buf_init(all[i], fs->alloc);
    pn_status status = pn_buf_append(&fs->nodes, &n, sizeof n);
    if (status != PN_OK) node_free(fs->alloc, n);
    else *ino = node_count(fs) - 1;
    return status;
}

pn_memfs *pn_memfs_new(const pn_alloc *alloc)
{
    pn_memfs *fs = pn_alloc_zero(alloc, 1, sizeof *fs);
    if (fs == NULL) return NULL;
    fs->alloc = alloc;
    fs->seed = 1;
    pn_buf_init(&fs->nodes, alloc);
    pn_buf_init(&fs->pending, alloc);
    pn_buf_init(&fs->handles, alloc);
    uint32_t root;
    if (node_new(fs, PN_KIND_DIR, 0777, &root) == PN_OK) return fs;
    pn_memfs_free(fs);
    return NULL;
}

void pn_memfs_free(pn_memfs *fs)
{
    if (fs == NULL) return;
    for (uint32_t i = 0; i < node_count(fs); i++) node_free(fs->alloc, node_at(fs, i));
    pn_buf_clear(&fs->nodes);
    pn_buf_clear(&fs->pending);
    pn_buf_clear(&fs->handles);
    pn_alloc_put(fs->alloc, fs);
}

void pn_memfs_on_change(pn_memfs *fs, pn_memfs_hook hook, void *arg)
{
    fs->hook = hook;
    fs->hook_arg = arg;
}

void pn_memfs_limit_write(pn_memfs *fs, size_t n) { fs->max_write = n; }
size_t pn_memfs_operations(const pn_memfs *fs) { return fs->operations; }

size_t pn_memfs_open_count(const pn_memfs *fs)
{
    size_t n = 0;
    for (size_t i = 0; i < count_of(&fs->handles, sizeof(handle)); i++) n += ((handle *)fs->handles.data)[i].used;
    return n;
}

static void changed(pn_memfs *fs)
{
    fs->operations++;
    if (fs->hook != NULL) fs->hook(fs->hook_arg, fs);
}

/* ---- paths ---- */

/* Where a path leads. ino is UINT32_MAX when the last name is free. */
typedef struct spot {
    uint32_t dir, ino;
    char name[PN_MEMFS_NAME_MAX + 1];
} spot;

/* Takes the next component off *path; 0, or ENAMETOOLONG. */
static int next_component(const char **path, char name[PN_MEMFS_NAME_MAX + 1])
{
    while (**path == '/') ++*path;
    size_t n = strcspn(*path, "/");
    if (n > PN_MEMFS_NAME_MAX) return ENAMETOOLONG;
    memcpy(name, *path, n);
    name[n] = '\0';
    *path += n;
    while (**path == '/') ++*path;
    return 0;
}

/* rest := target of the link, then what followed it. */
static int splice_link(const node *link, const char *after, char rest[PN_PATH_MAX])
{
    char tail[PN_PATH_MAX], target[PN_PATH_MAX];
    if (link->data.len >= PN_PATH_MAX) return ENAMETOOLONG;
    memcpy(tail, after, strlen(after) + 1);
    memcpy(target, link->data.data, link->data.len);
    target[link->data.len] = '\0';
    if (tail[0] != '\0') return pn_path_join(target, tail, rest);
    return pn_path_join("", target, rest);
}

/* The name of ino in any directory, and that directory. */
static bool find_name(const pn_memfs *fs, uint32_t ino, uint32_t *dir, const char **name)
{
    for (uint32_t d = 0; d < node_count(fs); d++) {
        const pn_buf *names = &node_at(fs, d)->names;
        for (size_t i = 0; i < count_of(names, sizeof(entry)); i++)
            if (entries_of(names)[i].ino == ino) {
                *dir = d;
                *name = entries_of(names)[i].name;
                return true;
            }
    }
    return false;
}

static int walk(const pn_memfs *fs, const char *path, bool follow_last, spot *out)
{
    char rest[PN_PATH_MAX];
    int sys = pn_path_join("", path, rest), hops = 0;
    if (sys != 0) return sys;
    const char *p = rest;
    *out = (spot){0, 0, "."};
    while (*p == '/') p++;
    while (*p != '\0') {
        if (out->ino == UINT32_MAX) return ENOENT;
        node *dir = node_at(fs, out->ino);
        if (dir->kind != PN_KIND_DIR) return ENOTDIR;
        spot next = {out->ino, UINT32_MAX, ""};
        if ((sys = next_component(&p, next.name)) != 0) return sys;
        if (strcmp(next.name, ".") == 0) continue;
        if (strcmp(next.name, "..") == 0) {
            const char *own;
            if (out->ino != 0 && !find_name(fs, out->ino, &out->ino, &own)) return ENOENT;
            continue;
        }
        entry *e = find_entry(&dir->names, next.name);
        if (e != NULL) next.ino = e->ino;
        if (e != NULL && node_at(fs, e->ino)->kind == PN_KIND_LINK && (*p != '\0' || follow_last)) {
            if (++hops > MAX_HOPS) return ELOOP;
            if ((sys = splice_link(node_at(fs, e->ino), p, rest)) != 0) return sys;
            p = rest;
            if (*p == '/') *out = (spot){0, 0, "."};
            continue;
        }
        *out = next;
    }
    return 0;
}

static int walk_existing(const pn_memfs *fs, const char *path, bool follow, spot *out)
{
    int sys = walk(fs, path, follow, out);
    return sys == 0 && out->ino == UINT32_MAX ? ENOENT : sys;
}

/* ---- names ---- */

/* Applies a change to a directory's names. */
static pn_status apply_change(pn_buf *names, const change *c)
{
    if (c->remove) {
        entry *e = find_entry(names, c->from);
        /* When an earlier change was lost, the name may be somebody else's by now. */
        if (e != NULL && (!c->add || e->ino == c->ino)) drop_entry(names, c->from);
    }
    return c->add ? set_entry(names, c->to, c->ino) : PN_OK;
}

static int make_change(pn_memfs *fs, uint32_t dir, uint32_t ino, const char *from, const char *to)
{
    if (count_of(&fs->pending, sizeof(change)) == MAX_PENDING) return ENOSPC;
    change c = {.dir = dir, .ino = ino, .add = to != NULL, .remove = from != NULL};
    if (from != NULL) memcpy(c.from, from, strlen(from) + 1);
    if (to != NULL) memcpy(c.to, to, strlen(to) + 1);
    int sys = sys_of(pn_buf_append(&fs->pending, &c, sizeof c));
    if (sys == 0) sys = sys_of(apply_change(&node_at(fs, dir)->names, &c));
    fs->clock++;
    return sys;
}

static int mem_rename(void *ctx, const char *from, const char *to)
{
    pn_memfs *fs = ctx;
    spot a, b;
    int sys = walk_existing(fs, from, false, &a);
    if (sys == 0) sys = walk(fs, to, false, &b);
    if (sys != 0) return sys;
    if (b.ino != UINT32_MAX && node_at(fs, b.ino)->kind == PN_KIND_DIR) return EISDIR;
    if (a.dir != b.dir) return EXDEV; /* a commit never renames across directories */
    sys = make_change(fs, a.dir, a.ino, a.name, b.name);
    if (sys == 0) changed(fs);
    return sys;
}

static int mem_unlink(void *ctx, const char *path)
{
    pn_memfs *fs = ctx;
    spot at;
    int sys = walk_existing(fs, path, false, &at);
    if (sys != 0) return sys;
    if (node_at(fs, at.ino)->kind == PN_KIND_DIR) return EISDIR;
    sys = make_change(fs, at.dir, at.ino, at.name, NULL);
    if (sys == 0) changed(fs);
    return sys;
}

static int create_node(pn_memfs *fs, const char *path, pn_file_kind kind, uint32_t mode, uint32_t *ino)
{
    spot at;
    int sys = walk(fs, path, false, &at);
    if (sys == 0 && at.ino != UINT32_MAX) sys = EEXIST;
    if (sys == 0) sys = sys_of(node_new(fs, kind, mode, ino));
    return sys == 0 ? make_change(fs, at.dir, *ino, NULL, at.name) : sys;
}

static int mem_mkdir(void *ctx, const char *path)
{
    uint32_t ino;
    int sys = create_node(ctx, path, PN_KIND_DIR, 0777, &ino);
    if (sys == 0) changed(ctx);
    return sys;
}

static int mem_sync_dir(void *ctx, const char *path)
{
    pn_memfs *fs = ctx;
    spot at;
    int sys = walk_existing(fs, path, true, &at);
    if (sys != 0) return sys;
    node *dir = node_at(fs, at.ino);
    if (dir->kind != PN_KIND_DIR) return ENOTDIR;
    sys = sys_of(copy_buf(&dir->disk_names, &dir->names));
    change *all = (change *)fs->pending.data;
    size_t n = count_of(&fs->pending, sizeof *all), to = 0;
    for (size_t i = 0; sys == 0 && i < n; i++)
        if (all[i].dir != at.ino) all[to++] = all[i];
    if (sys == 0) {
        fs->pending.len = to * sizeof *all;
        changed(fs);
    }
    return sys;
}

static int mem_list(void *ctx, const char *path, pn_list_fn each, void *arg)
{
    pn_memfs *fs = ctx;
    spot at;
    int sys = walk_existing(fs, path, true, &at);
    if (sys != 0) return sys;
    if (node_at(fs, at.ino)->kind != PN_KIND_DIR) return ENOTDIR;
    pn_buf names;
    pn_buf_init(&names, fs->alloc);
    sys = sys_of(copy_buf(&names, &node_at(fs, at.ino)->names)); /* `each` may change the directory */
    for (size_t i = 0; sys == 0 && i < count_of(&names, sizeof(entry)); i++)
        if (!each(arg, entries_of(&names)[i].name)) break;
    pn_buf_clear(&names);
    return sys;
}

static int mem_readlink(void *ctx, const char *path, char to[PN_PATH_MAX])
{
    spot at;
    int sys = walk_existing(ctx, path, false, &at);
    if (sys != 0) return sys;
    node *n = node_at(ctx, at.ino);
    return n->kind == PN_KIND_LINK ? splice_link(n, "", to) : EINVAL;
}

static int mem_realpath(void *ctx, const char *path, char to[PN_PATH_MAX])
{
    spot at;
    int sys = walk_existing(ctx, path, true, &at);
    char built[PN_PATH_MAX] = "/";
    uint32_t ino = at.ino;
    const char *name;
    while (sys == 0 && ino != 0 && find_name(ctx, ino, &ino, &name)) {
        char tail[PN_PATH_MAX];
        memcpy(tail, built, sizeof tail);
        built[0] = '/';
        sys = pn_path_join("/", name, built);
        if (sys == 0 && tail[1] != '\0') {
            char head[PN_PATH_MAX];
            memcpy(head, built, sizeof head);
            sys = pn_path_join(head, tail + 1, built);
        }
    }
    if (sys == 0) memcpy(to, built, strlen(built) + 1);
    return sys;
}

static void fill(const pn_memfs *fs, uint32_t ino, pn_stat *out)
{
    const node *n = node_at(fs, ino);
    *out = (pn_stat){.kind = n->kind, .mode = n->mode, .dev = 1, .ino = ino, .size = n->data.len, .mtime = n->mtime};
}

static int mem_lstat(void *ctx, const char *path, pn_stat *out)
{
    spot at;
    int sys = walk_existing(ctx, path, false, &at);
    if (sys == 0) fill(ctx, at.ino, out);
    return sys;
}

static int mem_writable(void *ctx, const char *path)
{
    spot at;
    int sys = walk_existing(ctx, path, true, &at);
    return sys != 0 ? sys : node_at(ctx, at.ino)->mode & 0222 ? 0 : EACCES;
}

/* ---- open files ---- */

static handle *handle_at(const pn_memfs *fs, int fd)
{
    handle *all = (handle *)fs->handles.data;
    return fd >= 0 && (size_t)fd < count_of(&fs->handles, sizeof(handle)) && all[fd].used ? &all[fd] : NULL;
}

static int new_handle(pn_memfs *fs, handle h, int *fd)
{
    size_t n = count_of(&fs->handles, sizeof(handle));
    h.used = true;
    for (size_t i = 0; i < n; i++) {
        handle *at = (handle *)fs->handles.data + i;
        if (at->used) continue;
        *at = h;
        *fd = (int)i;
        return 0;
    }
    int sys = sys_of(pn_buf_append(&fs->handles, &h, sizeof h));
    if (sys == 0) *fd = (int)n;
    return sys;
}

static int mem_open(void *ctx, const char *path, pn_open_how how, uint32_t mode, int *fd)
{
    pn_memfs *fs = ctx;
    spot at;
    int sys;
    if (how == PN_OPEN_CREATE) {
        sys = create_node(fs, path, PN_KIND_FILE, mode & 0755, &at.ino); /* umask 022 */
    } else {
        sys = walk_existing(fs, path, true, &at);
        if (sys == 0 && how == PN_OPEN_WRITE && node_at(fs, at.ino)->kind == PN_KIND_DIR) sys = EISDIR;
    }
    if (sys == 0) sys = new_handle(fs, (handle){.ino = at.ino, .writable = how != PN_OPEN_READ}, fd);
    if (sys == 0 && how == PN_OPEN_CREATE) changed(fs);
    return sys;
}

static int mem_read_at(void *ctx, int fd, uint64_t at, void *to, size_t n, size_t *got)
{
    const handle *h = handle_at(ctx, fd);
    if (h == NULL) return EBADF;
    const node *f = node_at(ctx, h->ino);
    if (f->kind != PN_KIND_FILE) return EISDIR;
    size_t left = at < f->data.len ? f->data.len - (size_t)at : 0;
    if (n > left) n = left;
    if (n > 0) memcpy(to, f->data.data + at, n);
    *got = n;
    return 0;
}

static int mem_read(void *ctx, int fd, void *to, size_t n, size_t *got)
{
    handle *h = handle_at(ctx, fd);
    int sys = mem_read_at(ctx, fd, h ? h->pos : 0, to, n, got);
    if (sys == 0) h->pos += *got;
    return sys;
}

static node *written(pn_memfs *fs, uint32_t ino)
{
    node *f = node_at(fs, ino);
    f->dirty = true;
    f->mtime = ++fs->clock;
    return f;
}

static int resize(node *f, size_t size)
{
    if (size > f->data.len) {
        if (pn_buf_reserve(&f->data, size - f->data.len) != PN_OK) return ENOMEM;
        memset(f->data.data + f->data.len, 0, size - f->data.len);
    }
    f->data.len = size;
    return 0;
}

static int mem_write(void *ctx, int fd, const void *from, size_t n, size_t *put)
{
    pn_memfs *fs = ctx;
    handle *h = handle_at(fs, fd);
    if (h == NULL || !h->writable) return EBADF;
    if (fs->max_write > 0 && n > fs->max_write) n = fs->max_write;
    node *f = written(fs, h->ino);
    if (h->pos + n > f->data.len && resize(f, h->pos + n) != 0) return ENOMEM;
    memcpy(f->data.data + h->pos, from, n);
    h->pos += n;
    *put = n;
    changed(fs);
    return 0;
}

static int mem_truncate(void *ctx, int fd, uint64_t size)
{
    handle *h = handle_at(ctx, fd);
    if (h == NULL || !h->writable) return EBADF;
    int sys = resize(written(ctx, h->ino), (size_t)size);
    if (sys == 0) changed(ctx);
    return sys;
}

static int mem_reserve(void *ctx, int fd, uint64_t size)
{
    (void)size;
    return handle_at(ctx, fd) != NULL ? 0 : EBADF;
}

static int mem_adopt(void *ctx, int fd, const pn_stat *like)
{
    handle *h = handle_at(ctx, fd);
    if (h == NULL) return EBADF;
    node_at(ctx, h->ino)->mode = like->mode;
    return 0;
}

static void mem_start_sync(void *ctx, int fd) { (void)ctx, (void)fd; }

static int settle_node(node *n)
{
    if (n->dirty && copy_buf(&n->disk, &n->data) != PN_OK) return ENOMEM;
    n->disk_mtime = n->mtime;
    n->dirty = false;
    return 0;
}

static int mem_fsync(void *ctx, int fd)
{
    handle *h = handle_at(ctx, fd);
    if (h == NULL) return EBADF;
    int sys = settle_node(node_at(ctx, h->ino));
    if (sys == 0) changed(ctx);
    return sys;
}

static int mem_close(void *ctx, int fd)
{
    handle *h = handle_at(ctx, fd);
    if (h == NULL) return EBADF;
    h->used = false;
    return 0;
}

static int mem_fstat(void *ctx, int fd, pn_stat *out)
{
    handle *h = handle_at(ctx, fd);
    if (h == NULL) return EBADF;
    fill(ctx, h->ino, out);
    return 0;
}

static int mem_map(void *ctx, const pn_alloc *alloc, const char *path, bool copy, pn_blob **out)
{
    (void)copy;
    pn_vfs vfs = pn_memfs_vfs(ctx);
    return pn_file_load(&vfs, alloc, path, out);
}

static int mem_lock_dir(void *ctx, const char *path, bool wait, int *fd)
{
    pn_memfs *fs = ctx;
    spot at;
    int sys = walk_existing(fs, path, true, &at);
    if (sys != 0) return sys;
    node *dir = node_at(fs, at.ino);
    if (dir->kind != PN_KIND_DIR) return ENOTDIR;
    if (dir->locked) return wait ? EDEADLK : EWOULDBLOCK; /* one thread: it would wait for itself */
    sys = new_handle(fs, (handle){.ino = at.ino, .is_lock = true}, fd);
    if (sys == 0) dir->locked = true;
    return sys;
}

static void mem_unlock(void *ctx, int fd)
{
    handle *h = handle_at(ctx, fd);
    if (h == NULL) return;
    node_at(ctx, h->ino)->locked = false;
    h->used = false;
}

static void mem_pause(void *ctx) { (void)ctx; }

static uint64_t step(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t mem_random(void *ctx) { return step(&((pn_memfs *)ctx)->seed); }

pn_vfs pn_memfs_vfs(pn_memfs *fs)
{
    return (pn_vfs){
        .ctx = fs, .open = mem_open, .read = mem_read, .read_at = mem_read_at, .write = mem_write,
        .truncate = mem_truncate, .reserve = mem_reserve, .adopt = mem_adopt, .start_sync = mem_start_sync, .fsync = mem_fsync,
        .close = mem_close, .fstat = mem_fstat, .map = mem_map, .lstat = mem_lstat, .readlink = mem_readlink,
        .realpath = mem_realpath, .writable = mem_writable, .rename = mem_rename, .unlink = mem_unlink,
        .mkdir = mem_mkdir, .sync_dir = mem_sync_dir, .list = mem_list, .lock_dir = mem_lock_dir,
        .unlock = mem_unlock, .pause = mem_pause, .random = mem_random,
    };
}

/* ---- set-up ---- */

int pn_memfs_settle(pn_memfs *fs)
{
    for (uint32_t i = 0; i < node_count(fs); i++) {
        node *n = node_at(fs, i);
        if (settle_node(n) != 0 || copy_buf(&n->disk_names, &n->names) != PN_OK) return ENOMEM;
    }
    fs->pending.len = 0;
    return 0;
}

static int put_node(pn_memfs *fs, const char *path, pn_file_kind kind, pn_bytes bytes)
{
    uint32_t ino;
    spot at;
    int sys = walk(fs, path, true, &at);
    if (sys != 0) return sys;
    if (at.ino == UINT32_MAX) sys = create_node(fs, path, kind, 0644, &ino);
    else ino = at.ino;
    if (sys != 0) return sys;
    node *n = written(fs, ino);
    n->data.len = 0;
    sys = sys_of(pn_buf_append(&n->data, bytes.ptr, bytes.len));
    return sys == 0 ? pn_memfs_settle(fs) : sys;
}

int pn_memfs_put(pn_memfs *fs, const char *path, pn_bytes bytes) { return put_node(fs, path, PN_KIND_FILE, bytes); }

int pn_memfs_symlink(pn_memfs *fs, const char *path, const char *target)
{
    return put_node(fs, path, PN_KIND_LINK, (pn_bytes){(const uint8_t *)target, strlen(target)});
}

/* ---- crashes ---- */

/* What one crash does: which pending changes it keeps, and each dirty file's fate. */
typedef struct crash {
    uint64_t keep; /* bit i: pending change i */
    uint64_t drawn; /* with `uniform` false: two bits a dirty file, drawn from this */
    unsigned fate;
    bool uniform;
} crash;

static unsigned fate_of(const crash *c, size_t dirty)
{
    if (c->uniform) return c->fate;
    uint64_t s = c->drawn + dirty;
    return (unsigned)(step(&s) % FATES);
}

/* The contents that a dirty file has after the crash. */
static pn_status suffer(const node *f, unsigned fate, pn_buf *out)
{
    size_t half = f->data.len / 2;
    switch (fate) {
    case 0: return copy_buf(out, &f->disk);
    case 1: return copy_buf(out, &f->data);
    case 2: /* torn: the first half new, the rest as it was */
        PN_TRY(pn_buf_append(out, f->data.data, half));
        return f->disk.len > half ? pn_buf_append(out, f->disk.data + half, f->disk.len - half) : PN_OK;
    default: /* the length is new, the blocks never arrived */
        PN_TRY(pn_buf_reserve(out, f->data.len));
        if (f->data.len) memset(out->data, 0, f->data.len);
        out->len = f->data.len;
        return PN_OK;
    }
}

static pn_status copy_node(pn_memfs *to, const node *from, const crash *c, size_t *dirty)
{
    uint32_t ino;
    PN_TRY(node_new(to, from->kind, from->mode, &ino));
    node *n = node_at(to, ino);
    unsigned fate = from->dirty ? fate_of(c, (*dirty)++) : 1;
    PN_TRY(suffer(from, fate, &n->data));
    PN_TRY(copy_buf(&n->disk, &n->data));
    n->mtime = n->disk_mtime = fate == 0 ? from->disk_mtime : from->mtime;
    return copy_buf(&n->names, &from->disk_names);
}

static pn_status crash_into(const pn_memfs *fs, const crash *c, pn_memfs *to)
{
    size_t dirty = 0;
    node_free(to->alloc, node_at(to, 0));
    to->nodes.len = 0;
    to->clock = fs->clock + 1;
    to->seed = fs->seed + 1;
    for (uint32_t i = 0; i < node_count(fs); i++) PN_TRY(copy_node(to, node_at(fs, i), c, &dirty));
    const change *all = (const change *)fs->pending.data;
    for (size_t i = 0; i < count_of(&fs->pending, sizeof *all); i++)
        if (c->keep >> i & 1) PN_TRY(apply_change(&node_at(to, all[i].dir)->names, &all[i]));
    return pn_memfs_settle(to) == 0 ? PN_OK : PN_ERR_NOMEM;
}

typedef struct tour {
    const pn_memfs *fs;
    pn_memfs_crash_fn each;
    void *arg;
    size_t shown;
    bool stop, failed;
} tour;

static void show(tour *t, crash c)
{
    if (t->stop) return;
    pn_memfs *after = pn_memfs_new(t->fs->alloc);
    if (after == NULL || crash_into(t->fs, &c, after) != PN_OK) {
        t->failed = t->stop = true;
    } else {
        t->shown++;
        t->stop = !t->each(t->arg, after);
    }
    pn_memfs_free(after);
}

static void show_fates(tour *t, uint64_t keep, bool any_dirty)
{
    for (unsigned fate = 0; fate < (any_dirty ? FATES : 1u); fate++) show(t, (crash){keep, 0, fate, true});
}

static void show_sample(tour *t, size_t pending, size_t dirty, size_t limit)
{
    uint64_t all = pending ? UINT64_MAX >> (64 - pending) : 0, seed = 42;
    show_fates(t, 0, dirty > 0);
    show_fates(t, all, dirty > 0);
    for (size_t i = 0; i < pending; i++) {
        show_fates(t, all & ~((uint64_t)1 << i), dirty > 0);
        show_fates(t, (uint64_t)1 << i, dirty > 0);
    }
    while (!t->stop && t->shown < limit) {
        uint64_t keep = step(&seed) & all;
        show(t, (crash){keep, step(&seed), 0, false});
    }
}

size_t pn_memfs_each_crash(const pn_memfs *fs, size_t limit, pn_memfs_crash_fn each, void *arg)
{
    tour t = {fs, each, arg, 0, false, false};
    size_t pending = count_of(&fs->pending, sizeof(change)), dirty = 0;
    for (uint32_t i = 0; i < node_count(fs); i++) dirty += node_at(fs, i)->dirty;
    if (pending < 20 && dirty <= 1 && ((size_t)1 << pending) * (dirty ? FATES : 1) <= limit) {
        for (uint64_t keep = 0; keep < (uint64_t)1 << pending; keep++) show_fates(&t, keep, dirty > 0);
    } else {
        show_sample(&t, pending, dirty, limit);
    }
    return t.failed ? 0 : t.shown;
}
