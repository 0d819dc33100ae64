"""How the cost of a small change grows with what is already there (few dimensions, many sizes)."""

from __future__ import annotations

import os
from typing import Any, Iterator

from harness import FEW, Bench, Op, Row, Skip, Step, group
from workload import load_nodes

from .context import add_ten, fill
from .documents import built
from .graphs import hub_of, make_property
from .pack import missing
from .structs import make_index, more_nodes

ROWS = (
    Row("grow_insert", "insert one node into an index"),
    Row("grow_delete", "delete one document of ten nodes"),
    Row("grow_vector_delete", "delete one document's vectors"),
    Row("grow_hub", "upsert one triplet into a hub"),
    Row("grow_rel_map", "property graph: get_rel_map of one node"),
    Row("grow_persist", "persist after ten new nodes, JSON"),
    Row("grow_pack", "persist after ten new nodes, pack", against="grow_persist"),
)


@group("growth", *ROWS, where="growth")
def growth(b: Bench) -> Iterator[Step]:
    nodes = load_nodes(b, embeddings=True)
    yield from inserting(b, nodes)
    yield from deleting(b, nodes)
    yield from graphs(b)
    yield from small_persists(b, nodes)


def inserting(b: Bench, nodes: list[Any]) -> Iterator[Step]:
    index, later = make_index(b, nodes), more_nodes(nodes, 5 * FEW)

    def insert() -> None:
        for _ in range(5):
            index.insert_nodes(next(later))

    yield Op("grow_insert", insert, count=5, repeats=FEW)


def deleting(b: Bench, nodes: list[Any]) -> Iterator[Step]:
    """A document a repetition; where there are few, one repetition only."""
    names = list(dict.fromkeys(n.ref_doc_id for n in nodes))[-FEW:]
    repeats = FEW if len(names) == FEW else 1
    store, sources = built(b, nodes), iter(names)
    yield Op("grow_delete", lambda: store.delete_ref_doc(next(sources)), repeats=repeats)
    vectors, others = b.SimpleVectorStore(), iter(names)
    vectors.add(nodes)
    yield Op("grow_vector_delete", lambda: vectors.delete(next(others)), repeats=repeats)


def graphs(b: Bench) -> Iterator[Step]:
    hub, names = hub_of(b, b.n), iter(range(1 << 30))

    def upsert() -> None:
        for _ in range(20):
            hub.upsert_triplet("hub", "knows", f"more-{next(names)}")

    yield Op("grow_hub", upsert, count=20, repeats=FEW)
    entities, relations = make_property(b.n)
    graph = b.SimplePropertyGraphStore()
    graph.upsert_nodes(entities)
    graph.upsert_relations(relations)
    one = entities[len(entities) // 2]
    yield Op("grow_rel_map", lambda: graph.get_rel_map([one]))


def small_persists(b: Bench, nodes: list[Any]) -> Iterator[Step]:
    context = fill(b.StorageContext.from_defaults(), nodes)
    turn = iter(range(1 << 30))

    def ten() -> None:
        add_ten(context, nodes, f"ten-{next(turn)}")

    folder = os.path.join(b.folder("growth"), "json")
    context.persist(persist_dir=folder)
    yield Op("grow_persist", lambda _: context.persist(persist_dir=folder), ten, repeats=FEW)
    if b.side == "peer":
        return
    if missing(b):
        yield Skip(("grow_pack",), missing(b))
        return
    packed = os.path.join(b.folder("growth"), "pack")
    context.persist(persist_dir=packed, format="pack")
    yield Op("grow_pack", lambda _: context.persist(persist_dir=packed, format="pack"), ten, repeats=FEW)
