"""Exact search on one thread and on all, beside what as many threads read from memory.

A query cannot be faster than reading the vectors once, so this shows how near it comes, and
how that scales. LlamaIndex has no threads: its times are those of the row "top-10 query". The
group "million" does the same with a million vectors (``bench.py --million``), without LlamaIndex.
"""

from __future__ import annotations

import os
from typing import Any, Iterator

from harness import Bench, Op, Row, Step, group, limit
from limits import Loops, in_threads
from workload import query_vectors

TOP_K = 10
ALL = os.cpu_count() or 1
ROWS = (
    Row("scan_one", "top-10 query, one thread", limit="read the vectors, one thread", against="query"),
    Row("scan_all", f"top-10 query, {ALL} threads", limit=f"read the vectors, {ALL} threads", against="query"),
)
THREADS = {"scan_one": 1, "scan_all": ALL}


def matrix(b: Bench) -> Any:
    import numpy as np

    return np.random.default_rng(3).standard_normal((b.n, b.dim), dtype=np.float32)


def asking(b: Bench) -> Iterator[Step]:
    import pannier
    from llama_index.core.vector_stores.types import VectorStoreQuery

    store = b.SimpleVectorStore()
    rows = store.data.embedding_dict
    for i, row in enumerate(matrix(b)):
        rows[f"node-{i:08d}"] = row.tolist()
    queries = [VectorStoreQuery(query_embedding=v, similarity_top_k=TOP_K) for v in query_vectors(b.dim)]
    store.query(queries[0])  # computes the rows' lengths
    turn = iter(range(1 << 30))
    for name, threads in THREADS.items():
        yield Op(
            name,
            lambda _: store.query(queries[next(turn) % len(queries)]),
            fresh=lambda threads=threads: pannier.set_threads(threads),
        )


def reading(b: Bench) -> Iterator[Step]:
    import numpy as np

    loops, data = Loops(b.work), matrix(b)
    for name, threads in THREADS.items():
        calls = [lambda part=part: loops.sum(part) for part in np.array_split(data, threads)]
        yield Op(name, calls[0] if threads == 1 else lambda calls=calls: in_threads(calls))


@group("scan", *ROWS, alone=True, where="large", sides=("pannier",), own_data=True)
def scan(b: Bench) -> Iterator[Step]:
    yield from asking(b)


@group("million", alone=True, where="million", sides=("pannier",), own_data=True)
def million(b: Bench) -> Iterator[Step]:
    yield from asking(b)


for _name in ("scan", "million"):
    limit(_name)(reading)
