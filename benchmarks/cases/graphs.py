"""The two graph stores: a hub with one edge to each other subject, and edges at random."""

from __future__ import annotations

import os
import random
from typing import Any, Callable, Iterator

from harness import FEW, Bench, Op, Row, Step, group

SIMPLE = (
    Row("graph_upsert", "graph: upsert_triplet, all over the graph"),
    Row("graph_upsert_hub", "graph: upsert_triplet into a hub"),
    Row("graph_upsert_known", "graph: upsert_triplet that is there, in a hub"),
    Row("graph_get", "graph: get"),
    Row("graph_rel_map", "graph: get_rel_map of one subject"),
    Row("graph_rel_map_hub", "graph: get_rel_map of the hub"),
    Row("graph_delete", "graph: delete (the peer's does nothing)"),
    Row("graph_to_dict", "graph: to_dict"),
    Row("graph_persist", "graph: persist"),
    Row("graph_load", "graph: load"),
)
PROPERTY = (
    Row("property_nodes", "property graph: upsert_nodes, a node"),
    Row("property_relations", "property graph: upsert_relations, a relation"),
    Row("property_relation_one", "property graph: upsert one more relation"),
    Row("property_get_ids", "property graph: get by id"),
    Row("property_get_where", "property graph: get by property"),
    Row("property_triplets", "property graph: get_triplets of one node"),
    Row("property_triplets_label", "property graph: get_triplets by relation"),
    Row("property_rel_map", "property graph: get_rel_map of one node"),
    Row("property_delete", "property graph: delete one node"),
    Row("property_persist", "property graph: persist"),
    Row("property_load", "property graph: load"),
)
SOME = 20  # operations in one run, at least
LABELS = ("wrote", "cites", "knows", "part_of", "after")


def make_triplets(n: int) -> list[tuple[str, str, str]]:
    """n triplets over about n / 4 subjects."""
    rng = random.Random(5)
    people = max(n // 4, 2)
    return [
        (f"entity-{rng.randrange(people)}", LABELS[i % len(LABELS)], f"entity-{rng.randrange(people)}")
        for i in range(n)
    ]


def many(make: Callable[[], Any], n: int) -> Callable[[], list[Any]]:
    """Makes so many stores that a run over all of them is some twenty operations of n each: one
    alone is hardly longer than the clock takes."""
    return lambda: [make() for _ in range(-(-SOME // max(n, 1)))]


def filled(b: Bench, triplets: list[tuple[str, str, str]]) -> Any:
    store = b.SimpleGraphStore()
    for triplet in triplets:
        store.upsert_triplet(*triplet)
    return store


def hub_of(b: Bench, n: int) -> Any:
    """A store whose one subject has n objects; the peer's is filled past its slow search."""
    store = b.SimpleGraphStore()
    if b.side == "peer":
        store._data.graph_dict["hub"] = [["knows", f"object-{i}"] for i in range(n)]
        return store
    return filled(b, [("hub", "knows", f"object-{i}") for i in range(n)])


@group("graph", *SIMPLE)
def graph(b: Bench) -> Iterator[Step]:
    triplets = make_triplets(b.n)

    def add(stores: list[Any]) -> None:
        for store in stores:
            for subject, relation, other in triplets:
                store.upsert_triplet(subject, relation, other)

    fresh = many(b.SimpleGraphStore, b.n)
    yield Op("graph_upsert", add, fresh, count=b.n * len(fresh()))
    hub = hub_of(b, b.n)
    names = iter(range(1 << 30))

    def into_hub() -> None:
        for _ in range(SOME):
            hub.upsert_triplet("hub", "knows", f"more-{next(names)}")

    def known() -> None:
        for _ in range(SOME):
            hub.upsert_triplet("hub", "knows", last)

    yield Op("graph_upsert_hub", into_hub, count=SOME, repeats=FEW)
    hub, last = hub_of(b, b.n), f"object-{b.n - 1}"
    yield Op("graph_upsert_known", known, count=SOME, answer=lambda _: len(hub.get("hub")))
    yield Op("graph_rel_map_hub", lambda: hub.get_rel_map(["hub"], depth=2), answer=lambda found: found)
    store = filled(b, triplets)
    subjects = [t[0] for t in triplets[:200]]
    subjects *= 200 // len(subjects)  # one call is shorter than the clock's own

    def get_each() -> Any:
        for subject in subjects:
            found = store.get(subject)
        return found

    yield Op("graph_get", get_each, count=len(subjects), answer=lambda found: [list(x) for x in found])
    yield Op("graph_rel_map", lambda: store.get_rel_map([subjects[0]], depth=2), answer=lambda found: found)
    gone = list(dict.fromkeys(triplets))[-SOME:]

    def delete(stores: list[Any]) -> None:
        for store in stores:
            for subject, relation, other in gone:
                store.delete(subject, relation, other)

    fresh = many(lambda: filled(b, triplets), len(gone))
    yield Op("graph_delete", delete, fresh, count=len(gone) * len(fresh()))
    yield Op("graph_to_dict", store.to_dict)
    path = os.path.join(b.folder("graph"), "graph_store.json")
    yield Op("graph_persist", lambda: store.persist(path), answer=lambda _: os.path.getsize(path))
    yield Op("graph_load", lambda: b.SimpleGraphStore.from_persist_path(path))


def make_property(n: int) -> tuple[list[Any], list[Any]]:
    """About n / 4 entities and n relations among them."""
    from llama_index.core.graph_stores.types import EntityNode, Relation

    triplets = dict.fromkeys(make_triplets(n))
    names = dict.fromkeys([t[0] for t in triplets] + [t[2] for t in triplets])
    nodes = [EntityNode(name=name, label="person", properties={"rank": i % 10}) for i, name in enumerate(names)]
    relations = [Relation(source_id=s, label=r, target_id=o, properties={"year": 2000}) for s, r, o in triplets]
    return nodes, relations


def names_of(triplets: list[Any]) -> list[Any]:
    return sorted((s.id, r.id, o.id) for s, r, o in triplets)


@group("property", *PROPERTY)
def property_graph(b: Bench) -> Iterator[Step]:
    from llama_index.core.graph_stores.types import Relation

    nodes, relations = make_property(b.n)

    def with_nodes() -> Any:
        store = b.SimplePropertyGraphStore()
        store.upsert_nodes(nodes)
        return store

    def whole() -> Any:
        store = with_nodes()
        store.upsert_relations(relations)
        return store

    def put_nodes(stores: list[Any]) -> None:
        for store in stores:
            store.upsert_nodes(nodes)

    empty = many(b.SimplePropertyGraphStore, len(nodes))
    yield Op("property_nodes", put_nodes, empty, count=len(nodes) * len(empty()))
    yield Op("property_relations", lambda s: s.upsert_relations(relations), with_nodes, count=len(relations))
    store = whole()
    later = iter([[Relation(source_id=nodes[0].id, label=f"later-{i}", target_id=nodes[-1].id)] for i in range(FEW)])
    yield Op("property_relation_one", lambda: store.upsert_relations(next(later)), repeats=FEW)
    store = whole()
    one = nodes[len(nodes) // 2]
    yield Op("property_get_ids", lambda: store.get(ids=[one.id]), answer=lambda found: [n.id for n in found])
    yield Op("property_get_where", lambda: store.get(properties={"rank": 3}), answer=lambda found: [n.id for n in found])
    yield Op("property_triplets", lambda: store.get_triplets(entity_names=[one.id]), answer=names_of)
    yield Op("property_triplets_label", lambda: store.get_triplets(relation_names=["knows"]), answer=names_of)
    yield Op("property_rel_map", lambda: store.get_rel_map([one]))
    yield Op("property_delete", lambda s: s.delete(ids=[one.id]), whole)
    path = os.path.join(b.folder("property"), "property_graph_store.json")
    yield Op("property_persist", lambda: store.persist(path), answer=lambda _: os.path.getsize(path))
    yield Op("property_load", lambda: b.SimplePropertyGraphStore.from_persist_path(path))
