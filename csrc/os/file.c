#include "os/file.h"

#include "base/crc32c.h"

#include <errno.h>
#include <stdio.h>

enum { CHUNK = 256 * 1024, SMALL_CHUNK = 16 * 1024, MAX_LINKS = 40 };

static void set_path(pn_file_error *err, const char *path)
{
    snprintf(err->path, sizeof err->path, "%s", path);
}

pn_status pn_file_fail(pn_file_error *err, int sys, const char *path, const char *what)
{
    if (err == NULL) return PN_ERR_IO;
    set_path(err, path);
    return pn_fail_sys(&err->base, sys, what);
}

pn_status pn_file_refuse(pn_file_error *err, pn_status code, const char *path, const char *what)
{
    if (err == NULL) return code;
    set_path(err, path);
    return pn_fail(&err->base, code, 0, what);
}

void pn_path_trim(const char *path, char to[PN_PATH_MAX])
{
    size_t n = strlen(path);
    if (n >= PN_PATH_MAX) n = PN_PATH_MAX - 1;
    memcpy(to, path, n);
    while (n > 1 && to[n - 1] == '/') n--;
    to[n] = '\0';
    if (n == 0) memcpy(to, ".", 2);
}

int pn_path_join(const char *dir, const char *name, char to[PN_PATH_MAX])
{
    size_t d = strlen(dir), n = strlen(name);
    size_t slash = d > 0 && dir[d - 1] != '/';
    if (d + slash + n >= PN_PATH_MAX) return ENAMETOOLONG;
    memcpy(to, dir, d);
    if (slash) to[d] = '/';
    memcpy(to + d + slash, name, n + 1);
    return 0;
}

const char *pn_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void pn_path_dir(const char *path, char to[PN_PATH_MAX])
{
    size_t n = (size_t)(pn_path_base(path) - path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (n >= PN_PATH_MAX) n = PN_PATH_MAX - 1;
    if (n == 0) {
        memcpy(to, ".", 2);
        return;
    }
    memcpy(to, path, n);
    to[n] = '\0';
}

/* Reads to the end; the file may grow or shrink meanwhile, so size is only a hint. */
static pn_status read_to_end(const pn_vfs *vfs, int fd, uint64_t hint, pn_buf *out, int *sys)
{
    PN_FAIL_IF(hint > SIZE_MAX / 4, PN_ERR_NOMEM);
    PN_TRY(pn_buf_reserve(out, (size_t)hint + 1));
    for (;;) {
        if (out->cap == out->len) PN_TRY(pn_buf_reserve(out, CHUNK));
        size_t got = 0;
        *sys = vfs->read(vfs->ctx, fd, out->data + out->len, out->cap - out->len, &got);
        if (*sys != 0) return PN_ERR_IO;
        if (got == 0) return PN_OK;
        out->len += got;
    }
}

pn_status pn_file_read(const pn_vfs *vfs, const char *path, pn_buf *out, pn_file_error *err)
{
    int fd, sys = vfs->open(vfs->ctx, path, PN_OPEN_READ, 0, &fd);
    if (sys != 0) return pn_file_fail(err, sys, path, "cannot open");
    size_t before = out->len;
    pn_stat st = {0};
    sys = vfs->fstat(vfs->ctx, fd, &st);
    if (sys == 0 && st.kind == PN_KIND_DIR) sys = EISDIR;
    pn_status s = sys != 0 ? PN_ERR_IO : read_to_end(vfs, fd, st.size, out, &sys);
    (void)vfs->close(vfs->ctx, fd); /* nothing was written: nothing can be lost */
    if (s == PN_OK) return PN_OK;
    out->len = before;
    return s == PN_ERR_IO ? pn_file_fail(err, sys, path, "cannot read") : s;
}

int pn_file_read_at(const pn_vfs *vfs, int fd, uint64_t at, uint8_t *to, size_t n, size_t *got)
{
    for (*got = 0; *got < n;) {
        size_t more = 0;
        int sys = vfs->read_at(vfs->ctx, fd, at + *got, to + *got, n - *got, &more);
        if (sys != 0) return sys;
        if (more == 0) return 0;
        *got += more;
    }
    return 0;
}

static void free_loaded(void *ctx, const uint8_t *ptr, size_t n)
{
    (void)n;
    pn_alloc_put(ctx, (uint8_t *)ptr);
}

int pn_file_load(const pn_vfs *vfs, const pn_alloc *alloc, const char *path, pn_blob **out)
{
    pn_buf b;
    pn_buf_init(&b, alloc);
    pn_file_error err = {0};
    pn_status s = pn_file_read(vfs, path, &b, &err);
    /* The allocator outlives what it made, and is given back as it came. */
    if (s == PN_OK) s = pn_blob_wrap(alloc, b.data, b.len, free_loaded, (void *)alloc, path, out);
    if (s == PN_OK) return 0;
    pn_buf_clear(&b);
    return s == PN_ERR_NOMEM ? ENOMEM : err.base.sys != 0 ? err.base.sys : EIO;
}

int pn_file_write_all(const pn_vfs *vfs, int fd, pn_bytes bytes)
{
    while (bytes.len > 0) {
        size_t put = 0;
        int sys = vfs->write(vfs->ctx, fd, bytes.ptr, bytes.len, &put);
        if (sys != 0) return sys;
        if (put == 0 || put > bytes.len) return EIO;
        bytes.ptr += put;
        bytes.len -= put;
    }
    return 0;
}

int pn_file_sync_close(const pn_vfs *vfs, int fd)
{
    int sys = vfs->fsync(vfs->ctx, fd);
    int closed = vfs->close(vfs->ctx, fd);
    return sys != 0 ? sys : closed;
}

int pn_file_checksum(const pn_vfs *vfs, const char *path, uint64_t *size, uint32_t *crc)
{
    int fd, sys = vfs->open(vfs->ctx, path, PN_OPEN_READ, 0, &fd);
    if (sys != 0) return sys;
    uint8_t chunk[SMALL_CHUNK];
    uint64_t total = 0;
    uint32_t sum = 0;
    size_t got = 0;
    while ((sys = vfs->read(vfs->ctx, fd, chunk, sizeof chunk, &got)) == 0 && got > 0) {
        sum = pn_crc32c(sum, (pn_bytes){chunk, got});
        total += got;
    }
    (void)vfs->close(vfs->ctx, fd);
    if (sys != 0) return sys;
    *size = total;
    *crc = sum;
    return 0;
}

static int copy_bytes(const pn_vfs *vfs, int from, int to, uint64_t *total)
{
    uint8_t chunk[SMALL_CHUNK];
    for (*total = 0;;) {
        size_t got = 0;
        int sys = vfs->read(vfs->ctx, from, chunk, sizeof chunk, &got);
        if (sys != 0 || got == 0) return sys;
        sys = pn_file_write_all(vfs, to, (pn_bytes){chunk, got});
        if (sys != 0) return sys;
        *total += got;
    }
}

int pn_file_copy_over(const pn_vfs *vfs, const char *from, const char *to, bool *touched)
{
    *touched = false;
    int in, out, sys = vfs->open(vfs->ctx, from, PN_OPEN_READ, 0, &in);
    if (sys != 0) return sys;
    sys = vfs->open(vfs->ctx, to, PN_OPEN_WRITE, 0, &out);
    if (sys == 0) {
        *touched = true;
        uint64_t total;
        sys = copy_bytes(vfs, in, out, &total);
        if (sys == 0) sys = vfs->truncate(vfs->ctx, out, total);
        if (sys == 0) sys = vfs->fsync(vfs->ctx, out);
        int closed = vfs->close(vfs->ctx, out);
        if (sys == 0) sys = closed;
    }
    (void)vfs->close(vfs->ctx, in);
    return sys;
}

static int make_one(const pn_vfs *vfs, const char *path)
{
    int sys = vfs->mkdir(vfs->ctx, path);
    if (sys == EEXIST) {
        char real[PN_PATH_MAX];
        pn_stat st;
        sys = vfs->realpath(vfs->ctx, path, real);
        if (sys == 0) sys = vfs->lstat(vfs->ctx, real, &st);
        return sys != 0 ? sys : st.kind == PN_KIND_DIR ? 0 : ENOTDIR;
    }
    if (sys != 0) return sys;
    char parent[PN_PATH_MAX];
    pn_path_dir(path, parent);
    return vfs->sync_dir(vfs->ctx, parent);
}

/* Deepest first: only as many parents are looked at as are missing. */
static int make_chain(const pn_vfs *vfs, char *path)
{
    int sys = make_one(vfs, path);
    if (sys != ENOENT) return sys;
    size_t end = strlen(path), missing[PN_PATH_MAX / 2], n = 0;
    do {
        while (end > 0 && path[end - 1] != '/') end--;
        while (end > 0 && path[end - 1] == '/') end--;
        if (end == 0) return ENOENT;
        missing[n++] = end;
        char kept = path[end];
        path[end] = '\0';
        sys = make_one(vfs, path);
        path[end] = kept;
    } while (sys == ENOENT);
    while (sys == 0 && n-- > 0) {
        size_t at = n ? missing[n - 1] : strlen(path);
        char kept = path[at];
        path[at] = '\0';
        sys = make_one(vfs, path);
        path[at] = kept;
    }
    return sys;
}

pn_status pn_file_make_dirs(const pn_vfs *vfs, const char *path, pn_file_error *err)
{
    char copy[PN_PATH_MAX];
    int sys = pn_path_join("", path, copy);
    for (size_t n = strlen(copy); sys == 0 && n > 1 && copy[n - 1] == '/';) copy[--n] = '\0';
    if (sys == 0) sys = make_chain(vfs, copy);
    return sys == 0 ? PN_OK : pn_file_fail(err, sys, path, "cannot make the directory");
}

int pn_file_follow(const pn_vfs *vfs, const char *path, char to[PN_PATH_MAX], bool *followed)
{
    char at[PN_PATH_MAX], target[PN_PATH_MAX], dir[PN_PATH_MAX];
    int sys = pn_path_join("", path, at);
    *followed = false;
    for (int hops = 0; sys == 0; hops++) {
        pn_stat st;
        sys = vfs->lstat(vfs->ctx, at, &st);
        if (sys == ENOENT || (sys == 0 && st.kind != PN_KIND_LINK)) {
            memcpy(to, at, strlen(at) + 1);
            return 0;
        }
        if (sys == 0 && hops == MAX_LINKS) sys = ELOOP;
        if (sys == 0) sys = vfs->readlink(vfs->ctx, at, target);
        if (sys != 0) return sys;
        *followed = true;
        pn_path_dir(at, dir);
        sys = pn_path_join(target[0] == '/' ? "" : dir, target, at);
    }
    return sys;
}
