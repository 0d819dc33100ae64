"""How long ``apersist`` stops an event loop.

A task wakes every millisecond while ``apersist`` runs in its thread; the longest time
between two wakings, beyond that millisecond, is the longest stall. Beside it stands what
the persisting thread computed within that stall: on a busy machine a stall may be
somebody else's work, and the smaller of the two is what the persist can have held the GIL
for.

    PYTHONPATH=python python benchmarks/stall.py [--sizes 10000 100000] [--dim 384] [--repeat 5]

For each size: a first persist into a new directory, a persist after ten more nodes, the same
with every node's stored value handed out (live), in both formats.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from typing import Any, List, NamedTuple, Optional

WAKE = 0.001


class Stall(NamedTuple):
    wall: float  # s, the longest
    held: float  # s: the longest that the persisting thread can have held the GIL for
    took: float  # s, the whole persist


class Watch:
    """The CPU clock of the thread that persists."""

    def __init__(self) -> None:
        self.clock: Optional[int] = None

    def enter(self) -> None:
        self.clock = time.pthread_getcpuclockid(threading.get_ident())

    def now(self) -> float:
        return time.clock_gettime(self.clock) if self.clock is not None else 0.0


async def measure(context: Any, folder: str, **kwargs: Any) -> Stall:
    watch, done = Watch(), asyncio.Event()
    gaps: List[tuple[float, float]] = []

    async def tick() -> None:
        last, cpu = time.perf_counter(), watch.now()
        while not done.is_set():
            await asyncio.sleep(WAKE)
            now, now_cpu = time.perf_counter(), watch.now()
            gap = now - last - WAKE
            gaps.append((gap, min(gap, now_cpu - cpu)))
            last, cpu = now, now_cpu

    def noted(*step: Any) -> None:
        watch.enter()

    ticker = asyncio.ensure_future(tick())
    await asyncio.sleep(0.02)
    gaps.clear()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, watch.enter)  # the pool's only thread, which apersist uses
    start = time.perf_counter()
    await context.apersist(folder, **kwargs)
    took = time.perf_counter() - start
    await asyncio.sleep(0.01)
    done.set()
    await ticker
    return Stall(max(g for g, _ in gaps), max(h for _, h in gaps), took)


async def alone(seconds: float) -> float:
    """The longest stall of a loop that does nothing else: what the machine does."""
    last, worst = time.perf_counter(), 0.0
    end = last + seconds
    while last < end:
        await asyncio.sleep(WAKE)
        now = time.perf_counter()
        worst, last = max(worst, now - last - WAKE), now
    return worst


def filled(n: int, dim: int, seed: int = 1) -> Any:
    from llama_index.core.data_structs.data_structs import IndexDict
    from pannier import StorageContext

    context = StorageContext.from_defaults()
    struct = IndexDict(index_id="index")
    add(context, struct, 0, n, dim, seed)
    return context, struct


def add(context: Any, struct: Any, first: int, n: int, dim: int, seed: int) -> None:
    import numpy as np
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

    rng, words = np.random.default_rng(seed + first), random.Random(seed + first)
    for start in range(first, first + n, 5000):
        rows = rng.standard_normal((min(5000, first + n - start), dim)).astype("float32")
        nodes = []
        for i, row in enumerate(rows, start):
            text = " ".join(str(words.randrange(10**6)) for _ in range(100))
            node = TextNode(id_=f"node-{i:07}", text=text, metadata={"page": i % 50, "file": f"f{i % 97}.txt"}, embedding=row.tolist())
            node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc-{i // 20}")
            nodes.append(node)
        context.docstore.add_documents([n.model_copy(update={"embedding": None}) for n in nodes])
        context.vector_store.add(nodes)
        struct.nodes_dict.update({n.node_id: n.node_id for n in nodes})
    context.index_store.add_index_struct(struct)


def make_live(context: Any) -> None:
    for name in ("docstore/data", "docstore/metadata", "docstore/ref_doc_info"):
        context.docstore._kvstore.get_all(collection=name)


async def cases(n: int, dim: int, repeat: int) -> None:
    import concurrent.futures

    asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
    more = 10**6
    for live in (False, True):
        context, struct = filled(n, dim)
        if live:
            make_live(context)
        for format in ("pack", "json"):
            first: List[Stall] = []
            again: List[Stall] = []
            for _ in range(repeat):
                folder = tempfile.mkdtemp(prefix="pannier-stall-")
                gc.collect()
                first.append(await measure(context, folder, format=format))
                add(context, struct, more, 10, dim, 1)
                more += 10
                again.append(await measure(context, folder))
                shutil.rmtree(folder)
            for what, stalls in (("first persist", first), ("ten more", again)):
                tell(f"{n:7,} x {dim}  {format:4}  {'live values' if live else 'as added':11}  {what:13}", stalls)


def tell(label: str, stalls: List[Stall]) -> None:
    walls, held, took = (sorted(1e3 * getattr(s, name) for s in stalls) for name in ("wall", "held", "took"))
    print(
        f"{label}  stall {statistics.median(walls):7.1f} ms (worst {walls[-1]:7.1f})   "
        f"GIL {statistics.median(held):7.1f} ms (worst {held[-1]:7.1f})   persist {statistics.median(took):8.1f} ms",
        flush=True,
    )


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--repeat", type=int, default=5)
    a = parser.parse_args(argv)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; a loop alone stalls {1e3 * asyncio.run(alone(2)):.1f} ms")
    for n in a.sizes:
        asyncio.run(cases(n, a.dim, a.repeat))
    return 0


if __name__ == "__main__":
    sys.exit(main())
