"""What the machine can do: memory reads, copies, dot products, disk writes, in bare C loops.

Usage: limits.py WORK SECONDS MEGABYTES (bench.py calls it); prints one JSON object on its last line.
Without a C compiler numpy does the loops, and the words say so.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import statistics
import sys
import threading
import time
from typing import Any, Callable, Optional

import numpy as np

from preload import compile_c

SOURCE = r"""
#include <stddef.h>
#include <string.h>

/* Eight sums, so that no addition waits for the one before it. */
float bench_sum(const float *a, size_t n)
{
    float s[64] = {0};
    for (size_t i = 0; i + 64 <= n; i += 64)
        for (size_t j = 0; j < 64; j++) s[j] += a[i + j];
    float total = 0;
    for (size_t j = 0; j < 64; j++) total += s[j];
    return total;
}

/* out[r] = rows[r] . q, dim a multiple of 64. */
void bench_dots(const float *rows, const float *q, float *out, size_t n, size_t dim)
{
    for (size_t r = 0; r < n; r++) {
        const float *a = rows + r * dim;
        float s[64] = {0};
        for (size_t i = 0; i + 64 <= dim; i += 64)
            for (size_t j = 0; j < 64; j++) s[j] += a[i + j] * q[i + j];
        float total = 0;
        for (size_t j = 0; j < 64; j++) total += s[j];
        out[r] = total;
    }
}

void bench_copy(void *to, const void *from, size_t n) { memcpy(to, from, n); }
"""
MEGA = 1 << 20


class Loops:
    """The loops in C where a compiler is at hand, in numpy elsewhere."""

    def __init__(self, work: str) -> None:
        path = compile_c(SOURCE, work, "limit_loops", "-march=native", "-ffast-math")
        self.library: Optional[ctypes.CDLL] = ctypes.CDLL(path) if path else None
        self.words = "a C loop" if path else "numpy"

    def sum(self, a: Any) -> None:
        if self.library is None:
            a.sum()
        else:
            self.library.bench_sum(ctypes.c_void_p(a.ctypes.data), ctypes.c_size_t(a.size))

    def dots(self, rows: Any, q: Any, out: Any) -> None:
        if self.library is None:
            np.dot(rows, q, out=out)
            return
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in (rows, q, out)]
        self.library.bench_dots(*pointers, ctypes.c_size_t(rows.shape[0]), ctypes.c_size_t(rows.shape[1]))

    def copy(self, to: Any, source: Any) -> None:
        if self.library is None:
            np.copyto(to, source)
            return
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in (to, source)]
        self.library.bench_copy(*pointers, ctypes.c_size_t(source.nbytes))


def timed(run: Callable[[], Any], seconds: float) -> list[float]:
    """Times of repeated runs; the first, which warms, is dropped."""
    found, end = [], time.perf_counter() + seconds
    while len(found) < 4 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return found[1:]


def in_threads(calls: list[Callable[[], Any]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write_synced(path: str, data: bytes) -> None:
    with open(path, "wb", buffering=0) as f:
        f.write(data)
        os.fsync(f.fileno())


def measure(work: str, seconds: float, megabytes: int) -> list[dict[str, Any]]:
    """Figures as {name, title, unit, values}; units are GB/s, µs and ns."""
    loops = Loops(work)
    rng = np.random.default_rng(1)
    big = rng.standard_normal(megabytes * MEGA // 4, dtype=np.float32)
    parts = np.array_split(big, os.cpu_count() or 1)
    other = np.empty_like(big)
    out: list[dict[str, Any]] = []

    def rate(name: str, title: str, run: Callable[[], Any], size: float) -> None:
        values = [size / t / 1e9 for t in timed(run, seconds)]
        out.append({"name": name, "title": title, "unit": "GB/s", "values": values})

    def each(name: str, title: str, unit: str, run: Callable[[], Any], count: float = 1) -> None:
        factor = {"ns": 1e9, "µs": 1e6}[unit] / count
        out.append({"name": name, "title": title, "unit": unit, "values": [t * factor for t in timed(run, seconds)]})

    rate("read_one", f"memory read, one thread, {loops.words}", lambda: loops.sum(big), big.nbytes)
    spread = [lambda p=p: loops.sum(p) for p in parts]
    rate("read_all", f"memory read, {len(parts)} threads, {loops.words}", lambda: in_threads(spread), big.nbytes)
    rate("copy", "memcpy (bytes copied)", lambda: loops.copy(other, big), big.nbytes)
    rows = big[: big.size // 384 * 384].reshape(-1, 384)
    question, result = big[:384].copy(), np.empty(len(rows), dtype=np.float32)
    rate("dots", f"dot products of 384 float32, {loops.words}", lambda: loops.dots(rows, question, result), rows.nbytes)
    rate("sha256", "SHA-256 (hashlib)", lambda: hashlib.sha256(big[: 4 * MEGA // 4].data).digest(), 4 * MEGA)
    path = os.path.join(work, "limit.bin")
    block = big[: min(64, megabytes) * MEGA // 4].tobytes()
    rate("write", f"write {len(block) // MEGA} MB to a file and fsync", lambda: write_synced(path, block), len(block))
    each("fsync", "write 4 KB to a file and fsync", "µs", lambda: write_synced(path, block[:4096]))
    values = {f"key-{i:08d}": {"doc_hash": f"{i:064x}", "ref_doc_id": "x"} for i in range(10_000)}

    def copies() -> None:
        for key in values:
            values[key].copy()

    each("dict", "dict lookup and a shallow copy of two entries", "ns", copies, len(values))
    os.remove(path)
    return out


def main() -> int:
    work, seconds, megabytes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    print(json.dumps([{**f, "median": statistics.median(f["values"])} for f in measure(work, seconds, megabytes)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
