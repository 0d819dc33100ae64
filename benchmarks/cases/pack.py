"""The pack format, beside the peer's JSON: the same work, what changed, a fresh open."""

from __future__ import annotations

import gc
import inspect
import os
import shutil
from typing import Any, Iterator

from harness import FEW, Bench, Fact, Op, Row, Skip, Step, group, memory_mb
from warm import warm_files, warm_memory
from workload import load_nodes, query_vectors

from .context import add_ten, fill
from .vectors import same

WRITING = (
    Row("pack_persist", "persist a context, pack", against="persist"),
    Row("pack_after_ten", "persist it again, after ten new nodes, pack", against="persist"),
    Row("pack_unchanged", "persist it again, nothing new, pack", against="persist"),
    Row("pack_bytes", "bytes written after ten new nodes, pack", "MB"),
)
OPENING = (
    Row("pack_open", "open a context, pack", against="load"),
    Row("pack_first_query", "first top-10 query after the open, pack", against="first_query"),
    Row("pack_memory_open", "private memory after an open, before a query, pack", "MB", against="memory"),
    Row("pack_memory", "private memory after the first query, pack", "MB", against="memory"),
)


def missing(b: Bench) -> str:
    """Why the pack format can't be measured here, or an empty string."""
    if "format" in inspect.signature(b.StorageContext.persist).parameters:
        return ""
    return "this pannier's persist() takes no format="


def names(rows: tuple[Row, ...]) -> tuple[str, ...]:
    return tuple(row.name for row in rows)


def written_bytes() -> float:
    """Bytes that this process has given to write() and the like so far."""
    with open("/proc/self/io", encoding="ascii") as f:
        return float(next(line.split()[1] for line in f if line.startswith("wchar")))


def empty(folder: str) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@group("pack", *WRITING, sides=("pannier",))
def pack(b: Bench) -> Iterator[Step]:
    why = missing(b)
    if why:
        yield Skip(names(WRITING), why)
        return
    nodes = load_nodes(b, embeddings=True)
    whole = os.path.join(b.folder("pack"), "storage")

    def first() -> Any:
        empty(whole)
        context = fill(b.StorageContext.from_defaults(), nodes)
        if b.n > 1000:
            warm_memory(b.n)
        return context

    yield Op("pack_persist", lambda context: context.persist(persist_dir=whole, format="pack"), first)
    folder = empty(f"{whole}-changed")  # the whole one stays for "packopen"
    context = fill(b.StorageContext.from_defaults(), nodes)
    context.persist(persist_dir=folder, format="pack")
    turn = iter(range(1 << 30))
    yield Op(
        "pack_after_ten",
        lambda _: context.persist(persist_dir=folder, format="pack"),
        lambda: add_ten(context, nodes, f"ten-{next(turn)}"),
        repeats=FEW,
    )
    yield Op("pack_unchanged", lambda: context.persist(persist_dir=folder, format="pack"))
    add_ten(context, nodes, "counted")
    before = written_bytes()
    context.persist(persist_dir=folder, format="pack")
    yield Fact("pack_bytes", (written_bytes() - before) / 1e6)


@group("packopen", *OPENING, alone=True, where="large", sides=("pannier",))
def pack_open(b: Bench) -> Iterator[Step]:
    from llama_index.core.vector_stores.types import VectorStoreQuery

    why = missing(b)
    if why:
        yield Skip(names(OPENING), why)
        return
    folder = os.path.join(b.folder("pack"), "storage")
    if not os.path.isdir(folder):
        nodes = load_nodes(b, embeddings=True)
        fill(b.StorageContext.from_defaults(), nodes).persist(persist_dir=folder, format="pack")
    query = VectorStoreQuery(query_embedding=query_vectors(b.dim)[0], similarity_top_k=10)
    warm_files(folder)
    warm_memory(b.n)
    b.StorageContext.from_defaults()
    gc.collect()
    before = memory_mb("private")
    kept: list[Any] = []
    yield Op("pack_open", lambda: kept.append(b.StorageContext.from_defaults(persist_dir=folder)), repeats=1)
    yield Fact("pack_memory_open", memory_mb("private") - before)
    yield Op("pack_first_query", lambda: kept[0].vector_store.query(query), repeats=1, answer=same)
    yield Fact("pack_memory", memory_mb("private") - before)
