"""A clock around fsync, by LD_PRELOAD: how much of a call was waiting for the disk.

LlamaIndex never syncs, pannier always does; a fair table shows that time apart. The
library is compiled in the work folder; without a C compiler the column stays empty.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from typing import Callable, Optional

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

/* Time during which at least one thread was in a sync call. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int inside;
static double since, total;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void enter(void)
{
    pthread_mutex_lock(&lock);
    if (inside++ == 0) since = now();
    pthread_mutex_unlock(&lock);
}

static void leave(void)
{
    pthread_mutex_lock(&lock);
    if (--inside == 0) total += now() - since;
    pthread_mutex_unlock(&lock);
}

double bench_fsync_seconds(void)
{
    pthread_mutex_lock(&lock);
    double seconds = total;
    pthread_mutex_unlock(&lock);
    return seconds;
}

#define CLOCKED(type, name, params, args) \
    type name params { \
        static type (*next) params; \
        if (!next) *(void **)&next = dlsym(RTLD_NEXT, #name); \
        enter(); \
        type result = next args; \
        leave(); \
        return result; \
    }

CLOCKED(int, fsync, (int fd), (fd))
CLOCKED(int, fdatasync, (int fd), (fd))
CLOCKED(int, sync_file_range, (int fd, off64_t at, off64_t n, unsigned flags), (fd, at, n, flags))
"""


def compile_c(source: str, work: str, name: str, *flags: str) -> Optional[str]:
    """Path of a shared library made of C source, or None where no compiler works."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    library = os.path.join(work, f"{name}.so")
    if compiler is None:
        return None
    text = os.path.join(work, f"{name}.c")
    with open(text, "w", encoding="ascii") as f:
        f.write(source)
    command = [compiler, "-O3", *flags, "-shared", "-fPIC", text, "-o", library, "-ldl", "-lpthread"]
    return library if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


def build(work: str) -> Optional[str]:
    """The library to name in LD_PRELOAD, or None."""
    return compile_c(SOURCE, work, "fsync_clock")


def _bind() -> Callable[[], float]:
    try:
        function = ctypes.CDLL(None).bench_fsync_seconds
    except AttributeError:
        return lambda: 0.0
    function.restype = ctypes.c_double
    return function  # type: ignore[no-any-return]


fsync_seconds = _bind()
