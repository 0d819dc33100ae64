"""The whole context as JSON: persist, persist again, dictionaries; load at small sizes."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Iterator

from harness import FEW, Bench, Op, Row, Skip, Step, group, limit
from warm import warm_disk, warm_memory
from workload import load_nodes, query_vectors

from .structs import make_struct
from .vectors import same

ROWS = (
    Row("context_new", "a new context"),
    Row("persist", "persist a context, JSON", limit="write and fsync the same bytes"),
    Row("persist_again", "persist it again, after ten new nodes"),
    Row("context_to_dict", "context: to_dict"),
    Row("context_from_dict", "context: from_dict"),
)
LOAD_ROWS = (
    Row("load", "load a context, JSON", limit="read the bytes, fill a matrix"),
    Row("first_query", "first top-10 query after the load", limit="one float32 matrix-vector product"),
)


WHY = "measured up to 1,000 nodes: they take LlamaIndex as long as a persist and a load"
LARGEST = 1000  # nodes of a context that is turned into a dictionary


def fill(context: Any, nodes: list[Any], name: str = "bench") -> Any:
    """What VectorStoreIndex does to the three stores."""
    context.docstore.add_documents([n.model_copy(update={"embedding": None}) for n in nodes])
    context.vector_store.add(nodes)
    context.index_store.add_index_struct(make_struct(nodes, name))
    return context


def add_ten(context: Any, nodes: list[Any], tag: str) -> None:
    """Ten nodes more, in documents and vectors."""
    ten = [nodes[i % len(nodes)].model_copy(update={"id_": f"{tag}-{i}"}) for i in range(10)]
    context.docstore.add_documents([n.model_copy(update={"embedding": None}) for n in ten])
    context.vector_store.add(ten)


def digest(folder: str) -> str:
    """One hash of all files below a folder, names and bytes."""
    total = hashlib.sha256()
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        total.update(entry.name.encode())
        with open(entry.path, "rb") as f:
            while block := f.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def directory(b: Bench) -> str:
    """A persisted context of this size; written now, by this side, if no case has yet."""
    folder = b.folder("json")
    if not os.listdir(folder):
        fill(b.StorageContext.from_defaults(), load_nodes(b, embeddings=True)).persist(persist_dir=folder)
    return folder


@group("context", *ROWS)
def context(b: Bench) -> Iterator[Step]:
    folder = b.folder("json")
    yield Op("context_new", b.StorageContext.from_defaults)
    nodes = load_nodes(b, embeddings=True)
    context = fill(b.StorageContext.from_defaults(), nodes)
    if b.n > 1000:
        warm_disk(b.work, b.n)
        warm_memory(b.n)
    yield Op("persist", lambda: context.persist(persist_dir=folder), answer=lambda _: digest(folder))
    data = context.to_dict() if b.n <= LARGEST else {}
    turn = iter(range(1 << 30))
    other = os.path.join(b.folder("again"), "storage")
    if b.side == "pannier" or b.n <= 20_000:  # LlamaIndex writes all of it again, in the same time
        yield Op(
            "persist_again",
            lambda _: context.persist(persist_dir=other),
            lambda: add_ten(context, nodes, f"ten-{next(turn)}"),
            repeats=1 if b.n > 1000 else FEW,
        )
    if b.n > LARGEST:
        yield Skip(("context_to_dict", "context_from_dict"), WHY)
    else:
        yield Op("context_to_dict", context.to_dict, answer=lambda found: list(found))
        yield Op("context_from_dict", lambda: b.StorageContext.from_dict(data))


@limit("context")
def context_limit(b: Bench) -> Iterator[Step]:
    source = os.path.join(b.work, f"json-{b.n}-{b.dim}", "pannier")
    if not os.path.isdir(source):
        return
    contents = {}
    for entry in os.scandir(source):
        with open(entry.path, "rb") as f:
            contents[entry.name] = f.read()
    folder = b.folder("json")

    def write() -> None:
        for name, text in contents.items():
            with open(os.path.join(folder, name), "wb", buffering=0) as f:
                f.write(text)
                os.fsync(f.fileno())

    yield Op("persist", write)


@group("load", *LOAD_ROWS, where="small")
def load(b: Bench) -> Iterator[Step]:
    from llama_index.core.vector_stores.types import VectorStoreQuery

    folder = directory(b)
    query = VectorStoreQuery(query_embedding=query_vectors(b.dim)[0], similarity_top_k=10)

    def opened() -> Any:
        return b.StorageContext.from_defaults(persist_dir=folder)

    yield Op("load", opened)
    yield Op(
        "first_query",
        lambda context: context.vector_store.query(query),
        opened,
        answer=same,
    )
