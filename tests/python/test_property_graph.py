"""SimplePropertyGraphStore against LlamaIndex's own: the same calls on both.

The reference is LlamaIndex's class over a graph that passes over triplets whose node or
relation is gone, and that gives such a triplet a relation again; nothing else.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import random
import sys
from typing import Any, Callable, Dict, List, Tuple

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.graph_stores.simple_labelled import SimplePropertyGraphStore as Peer
from llama_index.core.graph_stores.types import (
    ChunkNode,
    EntityNode,
    LabelledNode,
    LabelledPropertyGraph,
    PropertyGraphStore,
    Relation,
    Triplet,
)

import pannier
from pannier import _graphtext, property_graph
from pannier.errors import CorruptStoreError, UnserializableError
from pannier.property_graph import NodeDict, SimplePropertyGraphStore, TripletSet


class ReferenceGraph(LabelledPropertyGraph):
    def get_triplets(self) -> List[Triplet]:
        found = []
        for s, r, o in self.triplets:
            name = self._get_relation_key(subj_id=s, rel_id=r, obj_id=o)
            if s in self.nodes and o in self.nodes and name in self.relations:
                found.append((self.nodes[s], self.relations[name], self.nodes[o]))
        return found

    def add_relation(self, relation: Relation) -> None:
        super().add_relation(relation)
        subj, obj = self.nodes[relation.source_id], self.nodes[relation.target_id]
        if self._get_relation_key(subj_id=subj.id, rel_id=relation.id, obj_id=obj.id) not in self.relations:
            self.relations.setdefault(self._get_relation_key(relation=relation), relation)


class Reference(Peer):
    """Keeps the fixed graph whatever graph it is given; deletes only what is named."""

    def delete(self, entity_names: Any = None, relation_names: Any = None, properties: Any = None, ids: Any = None) -> None:
        given = [entity_names, relation_names, properties, ids]
        if properties or ids or all(x is None for x in given):
            return super().delete(entity_names, relation_names, properties, ids)
        for triplet in self.get_triplets(entity_names, relation_names):
            self.graph.delete_triplet(triplet)
        for node in list(self.graph.nodes.values()):
            if entity_names and node.id in entity_names:
                self.graph.delete_node(node)

    @property
    def graph(self) -> LabelledPropertyGraph:
        return self._graph

    @graph.setter
    def graph(self, graph: LabelledPropertyGraph) -> None:
        if type(graph) is LabelledPropertyGraph:
            fixed = ReferenceGraph()
            fixed.nodes, fixed.relations, fixed.triplets = graph.nodes, graph.relations, graph.triplets
            graph = fixed
        self._graph = graph


def outcome(call: Callable[[], Any]) -> Tuple[str, Any]:
    try:
        return "value", call()
    except Exception as e:
        return type(e).__name__, str(e)


def as_bag(triplets: Any) -> List[str]:
    assert type(triplets) is list and all(type(t) is tuple and len(t) == 3 for t in triplets)
    return sorted(f"{type(t[0]).__name__}{t!r}" for t in triplets)


def state_of(store: Peer) -> Any:
    graph = store.graph
    return list(graph.nodes.items()), list(graph.relations.items()), set(graph.triplets)


def parsed(text: Any) -> Any:
    data = json.loads(bytes(text))
    data["triplets"] = sorted(data["triplets"])
    return json.dumps(data)


def is_indexed(store: Peer) -> bool:
    return type(store.graph.nodes) is NodeDict and type(store.graph.triplets) is TripletSet


class OwnNode(LabelledNode):
    """A user's class, whose id is made of something else."""

    title: str

    def __str__(self) -> str:
        return self.title

    @property
    def id(self) -> str:
        return self.title.lower()


NAMES = ["a", "b", "c", "a_r", "r_b", 'say "x"', "é", "", "\U0001f600"]
LABELS = ["r", "b_r", "knows", ""]


class Pair:
    def __init__(self, seed: int, tmp: Any) -> None:
        self.rng = random.Random(seed)
        self.tmp = tmp
        self.theirs: Peer = Reference()
        self.ours: Peer = SimplePropertyGraphStore()
        self.held: List[Any] = []

    # A node is made for each side: the stores keep the objects that they are given.
    def node(self) -> Tuple[Any, Any]:
        rng = self.rng
        name, kind = rng.choice(NAMES), rng.random()
        properties = {rng.choice("xy"): rng.randrange(3)} if rng.random() < 0.6 else {}
        if kind < 0.75:
            make: Callable[[], Any] = lambda: EntityNode(name=name, label="l", properties=dict(properties))
        elif kind < 0.9:
            id_ = rng.choice([None, name, "chunk"])
            make = lambda: ChunkNode(text=name, id_=id_, properties=dict(properties))
        else:
            make = lambda: OwnNode(title=name.upper(), properties=dict(properties))
        return make(), make()

    def relation(self) -> Tuple[Relation, Relation]:
        rng = self.rng
        kw = dict(label=rng.choice(LABELS), source_id=rng.choice(NAMES), target_id=rng.choice(NAMES))
        properties = {"x": rng.randrange(3)} if rng.random() < 0.3 else {}
        return Relation(**kw, properties=properties), Relation(**kw, properties=dict(properties))

    def ids(self) -> Any:
        rng = self.rng
        known = [n.id for n in self.theirs.graph.nodes.values()] + NAMES[:3]
        found = [rng.choice(known) for _ in range(rng.choice([1, 1, 2, 5]))]
        return rng.choice([found, found, found, [], None, tuple(found), set(found), found[0], [*found, 5]])

    def properties(self) -> Any:
        rng = self.rng
        return rng.choice([None, None, {}, {"x": rng.randrange(3)}, {"y": 0, "x": 1}])

    def both(self, call: Callable[[Peer], Any], form: Callable[[Any], Any] = lambda x: x) -> Any:
        expected = outcome(lambda: form(call(self.theirs)))
        got = outcome(lambda: form(call(self.ours)))
        assert got == expected
        return expected[1]

    def step(self) -> None:
        names = [n for n in dir(self) if n.startswith("do_")]
        heavy = ("do_relations", "do_get_triplets", "do_rel_map", "do_get", "do_nodes")
        getattr(self, self.rng.choices(names, [5 if n in heavy else 1 for n in names])[0])()
        assert state_of(self.ours) == state_of(self.theirs)

    def do_nodes(self) -> None:
        made = [self.node() for _ in range(self.rng.randrange(1, 5))]
        self.theirs.upsert_nodes([a for a, _ in made])
        self.ours.upsert_nodes([b for _, b in made])

    def do_relations(self) -> None:
        made = [self.relation() for _ in range(self.rng.randrange(1, 8))]
        self.theirs.upsert_relations([a for a, _ in made])
        self.ours.upsert_relations([b for _, b in made])

    def do_get(self) -> None:
        properties, ids = self.properties(), self.ids()
        self.both(lambda s: s.get(properties=properties, ids=ids))

    def do_get_triplets(self) -> None:
        names, ids = self.rng.choice([(self.ids(), None), (None, self.ids()), (self.ids(), self.ids())])
        labels = self.rng.choice([None, None, [], self.rng.sample(LABELS, 2)])
        properties = self.properties()
        self.both(lambda s: s.get_triplets(names, labels, properties, ids), as_bag)

    def do_rel_map(self) -> None:
        rng = self.rng
        keys = rng.sample(list(self.theirs.graph.nodes), min(len(self.theirs.graph.nodes), rng.choice([0, 1, 2, 4])))
        ignored = rng.choice([None, [], ["r"], ["b_r", "knows"]])

        def starts(s: Peer) -> List[LabelledNode]:
            return [s.graph.nodes[key] for key in keys]

        depth = rng.choice([0, 1, 2, 3, 4])
        whole = self.both(lambda s: s.get_rel_map(starts(s), depth, 10**6, ignored), as_bag)
        self.both(lambda s: s.get_rel_map(starts(s), depth, -1, []), lambda t: len(as_bag(t)))
        self.both(lambda s: s.get_rel_map(starts(s), 1.5, 10**6, ignored), as_bag)
        # A limit takes the nearest; which ones of the last hop is the order of a set.
        nearest = as_bag(self.theirs.get_rel_map(starts(self.theirs), min(depth, 1), 10**6, ignored))
        for limit in (0, 1, 3, len(nearest), 30):
            cut = as_bag(self.ours.get_rel_map(starts(self.ours), depth, limit, ignored))
            assert len(cut) == min(limit, len(whole))
            assert contains(whole, cut) and (contains(nearest, cut) or contains(cut, nearest))

    def order_matters(self) -> bool:
        """A renamed node speaks for the triplets of another one. LlamaIndex deletes by
        the new ids, in the order of a set, and what is left depends on that."""
        graph = self.theirs.graph
        used = {i for t in graph.triplets for i in (t[0], t[2])} | set(graph.nodes)
        return any(n.id != key and n.id in used for key, n in graph.nodes.items())

    def do_delete(self) -> None:
        rng = self.rng
        if self.order_matters():
            return
        kw: Dict[str, Any] = {}
        kind = rng.choice(["ids"] * 6 + ["properties", "both", "names", "labels", "none"])
        if kind in ("ids", "both"):
            kw["ids"] = self.ids()
        if kind in ("properties", "both"):
            kw["properties"] = self.properties()
        if kind == "names":
            kw["entity_names"] = self.ids()
        if kind == "labels":
            kw["relation_names"] = [rng.choice(LABELS)]
        self.both(lambda s: s.delete(**kw))

    def do_llama_nodes(self) -> None:
        from llama_index.core.schema import TextNode

        ids = [self.rng.choice(NAMES) for _ in range(2)]
        if self.rng.random() < 0.5:
            self.both(lambda s: s.upsert_llama_nodes([TextNode(text=i, id_=i) for i in ids]))
        self.both(lambda s: [n.node_id for n in s.get_llama_nodes(ids)])
        if self.rng.random() < 0.3 and not self.order_matters():
            self.both(lambda s: s.delete_llama_nodes(node_ids=ids))

    def do_rename_in_place(self) -> None:
        nodes = list(self.theirs.graph.nodes)
        if not nodes:
            return
        key, name = self.rng.choice(nodes), self.rng.choice(NAMES)
        add_again = self.rng.random() < 0.5
        for store in (self.theirs, self.ours):
            node: Any = store.graph.nodes[key]
            if isinstance(node, EntityNode):
                node.name = name
            elif isinstance(node, ChunkNode):
                node.text, node.id_ = name, None
            else:
                node.title = name
            node.properties["renamed"] = 1
            if add_again:
                store.upsert_nodes([node])

    def do_change_the_graph_itself(self) -> None:
        rng = self.rng
        key, node, other = rng.choice(NAMES), self.node(), self.node()
        t = (rng.choice(NAMES), rng.choice(LABELS), rng.choice(NAMES))
        u = (rng.choice(NAMES), rng.choice(LABELS), rng.choice(NAMES))

        def change(call: Callable[[Any, Any], Any]) -> None:
            self.both(lambda s: call(s.graph, int(s is self.ours)))

        changes: List[Callable[[Any, int], Any]] = [
            lambda g, i: g.nodes.__setitem__(key, node[i]),
            lambda g, i: g.nodes.pop(key, None) and None,
            lambda g, i: g.nodes.__delitem__(key),
            lambda g, i: g.nodes.setdefault(key, node[i]) and None,
            lambda g, i: g.nodes.update({key: node[i], other[i].id: other[i]}),
            lambda g, i: g.nodes.popitem() and None,
            lambda g, i: g.nodes.clear(),
            lambda g, i: g.triplets.add(t),
            lambda g, i: g.triplets.discard(t),
            lambda g, i: g.triplets.remove(t),
            lambda g, i: g.triplets.update([t, u]),
            lambda g, i: g.triplets.difference_update([t, u]),
            lambda g, i: g.triplets.symmetric_difference_update([t, u]),
            lambda g, i: g.triplets.clear(),
            lambda g, i: setattr(g, "triplets", g.triplets & {t, u}),
            lambda g, i: setattr(g, "triplets", set(g.triplets) - {t}),
            lambda g, i: setattr(g, "nodes", dict(g.nodes)),
            lambda g, i: g.relations.clear(),
            lambda g, i: g.__dict__["triplets"].__ior__({t, u}) and None,
            lambda g, i: g.nodes.__ior__({key: node[i]}) and None,
            lambda g, i: (len(g.nodes), len(g.triplets), list(g.nodes), sorted(g.triplets)),
        ]
        change(rng.choice(changes))

    def do_hold(self) -> None:
        """Somebody keeps the containers, and changes them later."""
        if self.rng.random() < 0.3:
            self.held = [(s.graph.nodes, s.graph.triplets) for s in (self.theirs, self.ours)]
        elif self.held:
            t = (self.rng.choice(NAMES), self.rng.choice(LABELS), self.rng.choice(NAMES))
            node = self.node()
            for (nodes, triplets), made in zip(self.held, node):
                nodes[made.id] = made
                triplets.add(t)
            if self.rng.random() < 0.5:
                self.held = []

    def do_other_graph(self) -> None:
        change: Callable[[Any], Any] = self.rng.choice(
            [copy.deepcopy, copy.copy, lambda g: pickle.loads(pickle.dumps(g)), lambda g: g.model_copy()]
        )
        self.held = []
        for store in (self.theirs, self.ours):
            store.graph = change(store.graph)

    def do_other_store(self) -> None:
        change: Callable[[Any], Any] = self.rng.choice(
            [copy.deepcopy, copy.copy, lambda s: pickle.loads(pickle.dumps(s))]
        )
        self.held = []
        self.theirs, self.ours = change(self.theirs), change(self.ours)

    def do_file(self) -> None:
        a, b = self.tmp / "theirs.json", self.tmp / "ours.json"
        self.theirs.persist(str(a))
        self.ours.persist(str(b))
        # As the peer writes it, to the byte: only the order within a set is its own.
        assert parsed(b.read_bytes()) == parsed(a.read_bytes())
        assert b.read_bytes() == LabelledPropertyGraph.model_dump_json(self.ours.graph).encode()
        if self.rng.random() < 0.4 and not any(isinstance(n, OwnNode) for n in self.theirs.graph.nodes.values()):
            self.held = []
            self.theirs = Reference.from_persist_path(str(b))
            self.ours = SimplePropertyGraphStore.from_persist_path(str(a))

    def do_dict(self) -> None:
        ours, theirs = self.ours.to_dict(), self.theirs.to_dict()
        assert {**ours, "triplets": set(ours["triplets"])} == theirs
        if any(isinstance(n, OwnNode) for n in self.theirs.graph.nodes.values()):
            return
        before = copy.deepcopy((ours, theirs))
        from_theirs, from_ours = (SimplePropertyGraphStore.from_dict(d) for d in (theirs, ours))
        assert (ours, theirs) == before and state_of(from_ours) == state_of(from_theirs)
        json.dumps(ours)
        self.held = []
        self.theirs, self.ours = Reference.from_dict(ours), self.rng.choice([from_theirs, from_ours])


def contains(bag: List[str], part: List[str]) -> bool:
    rest = list(bag)
    for item in part:
        if item not in rest:
            return False
        rest.remove(item)
    return True


@pytest.fixture(autouse=True)
def always_by_index(monkeypatch: Any) -> None:
    """A graph of a few nodes does without an index; these tests are about the index."""
    monkeypatch.setattr(property_graph, "_FEW", 0)


@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("few", [0, property_graph._FEW])
def test_random_calls_end_as_the_peers(block: int, few: int, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(property_graph, "_FEW", few)
    indexed = 0
    for seed in range(block * 25, block * 25 + 25):
        pair = Pair(seed, tmp_path)
        for _ in range(40):
            pair.step()
        indexed += is_indexed(pair.ours)
        if is_indexed(pair.ours):
            check_index(pair.ours.graph)
    assert indexed >= (0 if few else 8)


def check_index(graph: LabelledPropertyGraph) -> None:
    """What the containers say of themselves is what they contain."""
    nodes: Any = graph.nodes
    triplets: Any = graph.triplets
    odd = {k for k, n in nodes.items() if type(n) not in (EntityNode, ChunkNode) or n.id != k}
    assert set(nodes.odd()) == odd
    assert nodes.in_order(sorted(nodes)) == list(nodes)
    for key in NAMES:
        want = {t for t in triplets if key in (t[0], t[2])}
        found = list(triplets.touching([key]))
        assert len(found) == len(want) and set(found) == want


# -- one by one -----------------------------------------------------------------------------------


def small(graph: Any = None) -> SimplePropertyGraphStore:
    store = SimplePropertyGraphStore(graph)
    store.upsert_nodes([EntityNode(name=n, properties={"n": n}) for n in "abc"])
    store.upsert_relations(
        [Relation(label="r", source_id="a", target_id="b"), Relation(label="r", source_id="b", target_id="c")]
    )
    return store


def test_is_the_peers_kind() -> None:
    store = SimplePropertyGraphStore()
    assert isinstance(store, Peer) and isinstance(store, PropertyGraphStore)
    assert type(store.graph) is LabelledPropertyGraph
    for name in ("get_schema", "client", "structured_query", "vector_query"):
        for args in ((), ("q",)):
            expected = outcome(lambda: getattr(Peer(), name)(*args))
            assert outcome(lambda: getattr(store, name)(*args)) == expected
    assert (store.supports_structured_queries, store.supports_vector_queries) == (False, False)
    graph = LabelledPropertyGraph()
    assert SimplePropertyGraphStore(graph).graph is graph


def test_after_delete_get_triplets_never_raises() -> None:
    theirs, ours = Peer(small().graph.model_copy(deep=True)), small()
    for store in (theirs, ours):
        store.delete(ids=["a"])
    assert state_of(ours) == state_of(theirs)  # the neighbour went along, its triplet stayed
    with pytest.raises(KeyError):
        theirs.get_triplets(ids=["c"])
    assert ours.get_triplets(ids=["c"]) == [] == ours.get_triplets(relation_names=["r"])
    assert ours.get_rel_map(ours.get(ids=["c"])) == []
    for store in (theirs, ours):
        store.upsert_nodes([EntityNode(name="b")])
        assert [str(t[2]) for t in store.get_triplets(ids=["c"])] == ["c ({'n': 'c'})"]


def test_delete_takes_only_what_it_names() -> None:
    """LlamaIndex's takes every node of the graph for each of these."""
    for criterion in ({"ids": []}, {"relation_names": ["no such"]}, {"entity_names": ["no such"]}, {"properties": {}}):
        store, peer = SimplePropertyGraphStore(), Peer()
        for s in (store, peer):
            s.upsert_nodes([EntityNode(name="a"), EntityNode(name="b")])
            s.delete(**criterion)
        assert (len(store.get()), len(peer.get())) == (2, 0), criterion
    store.delete(entity_names=["a"])
    assert [n.id for n in store.get()] == ["b"]
    store.delete_llama_nodes(ref_doc_ids=["unknown"])
    assert [n.id for n in store.get()] == ["b"]
    store.delete()
    assert store.get() == []


@pytest.mark.parametrize("kind", [Relation, type("Subclass", (Relation,), {})])
def test_a_relation_that_spells_an_id_in_another_way_is_not_added_twice(kind: Any) -> None:
    """Ids have no quotation marks, keys and the ends of relations may."""
    stores = Peer(), SimplePropertyGraphStore()
    for store in stores:
        for name in ("a b", 'a"b'):
            store.upsert_relations([kind(label="r", source_id=name, target_id=name)])
    theirs, ours = (store.graph for store in stores)
    assert list(ours.relations) == list(theirs.relations) == ["a b_r_a b"]
    assert list(ours.nodes) == list(theirs.nodes)
    assert ours.triplets == theirs.triplets


def test_a_triplet_whose_relation_is_gone_can_be_added_again() -> None:
    store = SimplePropertyGraphStore()
    first = Relation(label="b_r", source_id="a", target_id="c")
    second = Relation(label="r", source_id="a_b", target_id="c")  # both are "a_b_r_c"
    store.upsert_relations([first, second])
    assert len(store.get_triplets(relation_names=["r", "b_r"])) == 2
    store.delete(ids=["a_b"])
    assert store.graph.triplets == {("a", "b_r", "c")} and store.graph.relations == {}
    assert store.get_triplets(relation_names=["r", "b_r"]) == []
    store.upsert_relations([first])
    assert store.get_triplets(ids=["a"]) == [(EntityNode(name="a"), first, EntityNode(name="c"))]


def test_nodes_come_in_the_order_of_the_graph() -> None:
    store = SimplePropertyGraphStore()
    names = [f"n{i}" for i in range(30)]
    store.upsert_nodes([EntityNode(name=n) for n in names])
    assert [n.id for n in store.get(ids=["n9", "n3", "n3", "n20"])] == ["n3", "n9", "n20"]
    del store.graph.nodes["n3"]
    store.upsert_nodes([EntityNode(name="n9"), EntityNode(name="n3")])
    assert [n.id for n in store.get(ids=["n9", "n3", "n20"])] == ["n9", "n20", "n3"]
    assert [n.id for n in store.get({"x": 1}, ids=["n9"])] == []


def test_the_nodes_are_the_stored_objects() -> None:
    store = small()
    node = store.get(ids=["a"])[0]
    assert node is store.graph.nodes["a"] and store.get_triplets(ids=["a"])[0][0] is node
    node.properties["new"] = 1
    assert store.get(properties={"new": 1}) == [node]


def test_a_renamed_node_is_found_by_its_name() -> None:
    store = small()
    assert len(store.get_triplets(ids=["a"])) == 1
    store.graph.nodes["a"].name = "z"  # type: ignore[attr-defined]
    assert store.get(ids=["a"]) == [] and [n.id for n in store.get(ids=["z"])] == ["z"]
    assert len(store.get_triplets(entity_names=["z"])) == 1 and store.get_triplets(ids=["a"]) == []
    node: Any = EntityNode(name="x")
    node.name = "y"
    assert node.name == "y" and node == EntityNode(name="y")
    with pytest.raises(ValueError):
        node.unknown = 1


def test_a_graph_of_its_own_is_indexed_from_the_start() -> None:
    store = SimplePropertyGraphStore()
    assert is_indexed(store) and store.graph.model_fields_set == set() == LabelledPropertyGraph().model_fields_set
    assert not is_indexed(SimplePropertyGraphStore(LabelledPropertyGraph()))


def test_containers_that_somebody_holds_stay() -> None:
    store = small(LabelledPropertyGraph())
    nodes, triplets = store.graph.nodes, store.graph.triplets
    assert len(store.get_triplets(ids=["b"])) == 2
    assert store.graph.nodes is nodes and store.graph.triplets is triplets and type(nodes) is dict
    triplets.discard(("a", "r", "b"))
    assert len(store.get_triplets(ids=["b"])) == 1
    del nodes, triplets
    assert len(store.get_triplets(ids=["b"])) == 1
    assert is_indexed(store)
    held = store.graph.triplets
    held.discard(("b", "r", "c"))
    assert store.get_triplets(ids=["b"]) == []


def test_the_index_leaves_no_trace() -> None:
    theirs, ours = small(LabelledPropertyGraph()), small(LabelledPropertyGraph())
    before = repr(ours.graph)
    fields = set(ours.graph.model_fields_set)
    ours.get(ids=["a"])
    ours.get_triplets(ids=["a"])
    assert is_indexed(ours) and not is_indexed(theirs)
    assert parse_repr(repr(ours.graph)) == parse_repr(before)
    assert ours.graph.model_fields_set == fields and ours.graph == theirs.graph
    dump = ours.graph.model_dump()
    assert type(dump["nodes"]) is dict and type(dump["triplets"]) is set
    for change in (copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))):
        for name, kind in (("nodes", dict), ("triplets", set)):
            new = change(getattr(ours.graph, name))
            assert type(new) is kind and new == getattr(ours.graph, name)
    assert b"pannier" not in pickle.dumps(ours.graph)


def parse_repr(text: str) -> Any:
    return sorted(text)


class OtherGraph(LabelledPropertyGraph):
    def get_triplets(self) -> List[Triplet]:
        return super().get_triplets()[:1]


def test_a_graph_of_another_class_is_asked_itself() -> None:
    store = SimplePropertyGraphStore(OtherGraph(**small().graph.__dict__))
    assert len(store.get_triplets(relation_names=["r"])) == 1
    assert len(store.get_rel_map(store.get(ids=["b"]))) == len(Peer(store.graph).get_rel_map(store.get(ids=["b"])))


def test_an_overridden_get_triplets_is_used() -> None:
    class Mine(SimplePropertyGraphStore):
        def get_triplets(self, *args: Any, **kwargs: Any) -> Any:
            return super().get_triplets(*args, **kwargs)[:1]

    store = Mine(small().graph)
    assert len(store.get_rel_map(store.get(ids=["b"]), depth=1)) == 1


def test_what_is_no_triplet_raises_as_the_peers() -> None:
    theirs, ours = Peer(small().graph), small()
    ours.get_triplets(ids=["a"])
    for store in (theirs, ours):
        store.graph.triplets.add(("a", "r"))  # type: ignore[arg-type]
    for call in (lambda s: s.get_triplets(ids=["a"]), lambda s: s.get_rel_map(s.get(ids=["a"]))):
        assert outcome(lambda: call(ours)) == outcome(lambda: call(theirs))
    for store in (theirs, ours):
        store.graph.triplets.discard(("a", "r"))  # type: ignore[arg-type]
    assert as_bag(ours.get_triplets(ids=["a"])) == as_bag(theirs.get_triplets(ids=["a"]))


def test_persist_makes_directories_and_knows_file_systems(tmp_path: Any, monkeypatch: Any) -> None:
    store = small()
    path = tmp_path / "x" / "y" / "property_graph_store.json"
    store.persist(str(path))
    assert state_of(Peer.from_persist_dir(str(path.parent))) == state_of(store)
    fs = fsspec.filesystem("memory")
    store.persist("memory://pannier-pg/x/property_graph_store.json", fs=fs)
    assert state_of(SimplePropertyGraphStore.from_persist_dir("memory://pannier-pg/x", fs=fs)) == state_of(store)
    monkeypatch.chdir(tmp_path)
    store.persist("bare.json")
    assert state_of(SimplePropertyGraphStore.from_persist_path("bare.json")) == state_of(store)
    assert bytes(store._pn_encode()) == path.read_bytes() == store.graph.model_dump_json().encode()


def test_files_that_do_not_load(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError):
        SimplePropertyGraphStore.from_persist_dir(str(tmp_path))
    path = tmp_path / "property_graph_store.json"
    for data in (b"", b"{", b"\r\n{\r\nx", b'\xef\xbb\xbf{"nodes": {}}'):
        path.write_bytes(data)
        with pytest.raises(json.JSONDecodeError) as theirs:
            Peer.from_persist_dir(str(tmp_path))
        with pytest.raises(CorruptStoreError) as ours:
            SimplePropertyGraphStore.from_persist_dir(str(tmp_path))
        assert (ours.value.msg, ours.value.pos) == (theirs.value.msg, theirs.value.pos)
        assert ours.value.path == str(path)
    path.write_bytes(b'{"\xff"}')
    with pytest.raises(UnicodeDecodeError, match=path.name):
        SimplePropertyGraphStore.from_persist_dir(str(tmp_path))
    for data in (b"[]", b"{}", b'{"nodes": {"a": {}}}', b'{"nodes": {}, "triplets": [["a"]]}', b"5"):
        path.write_bytes(data)
        expected = outcome(lambda: Peer.from_persist_dir(str(tmp_path)))
        assert outcome(lambda: SimplePropertyGraphStore.from_persist_dir(str(tmp_path))) == expected
        assert expected[0] != "value"


def test_what_json_cannot_hold_is_named(tmp_path: Any) -> None:
    path = tmp_path / "property_graph_store.json"
    for value, where in (
        (object(), "nodes['a'].properties"), ({"k": [0, object()]}, "nodes['a'].properties"), ("\ud800", "nodes['a']"),
    ):
        store = small()
        store.persist(str(path))
        before = path.read_bytes()
        store.graph.nodes["a"].properties["v"] = value
        with pytest.raises(UnserializableError) as error:
            store.persist(str(path))
        assert error.value.key_path.startswith("nodes['a']['properties']['v']") and path.read_bytes() == before
        assert error.value.key_path in str(error.value) and isinstance(error.value, ValueError)
        with pytest.raises(ValueError):
            Peer(store.graph).persist(str(tmp_path / "theirs.json"))
    store = small()
    store.graph.relations["a_r_b"].properties["v"] = object()
    with pytest.raises(UnserializableError, match="a_r_b"):
        store.persist(str(path))


# -- the text of the file ---------------------------------------------------------------------------

ROUNDS = max(10, int(os.environ.get("PANNIER_TEST_ROUNDS", "200")))
texts = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates too
floats = st.floats() | st.floats(-1e-3, 1e-3) | st.integers(-400, 400).map(lambda e: float(f"1.5e{e}"))


class Text(str):
    pass


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | floats | texts
odd = scalars | st.binary(max_size=3) | st.just(Text("t")) | st.just((1, "a")) | st.dates() | st.just({1, 2})
plain_values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=8)
values = st.recursive(odd, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts | st.integers(0, 3), v, max_size=3), max_leaves=6)
properties = st.dictionaries(texts, plain_values, max_size=3)
embeddings = st.none() | st.lists(floats, max_size=4)


def dumped(graph: Any) -> Any:
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = outcome(lambda: graph.model_dump_json().encode())
    return result, [str(w.message) for w in caught]


@st.composite
def graphs(draw: Any) -> LabelledPropertyGraph:
    graph = LabelledPropertyGraph()
    for _ in range(draw(st.integers(0, 3))):
        given = dict(label=draw(texts), embedding=draw(embeddings), properties=draw(properties))
        kind = draw(st.sampled_from([EntityNode, ChunkNode]))
        try:
            node = kind(name=draw(texts), text=draw(texts), id_=draw(st.none() | texts), **given)
        except ValueError:  # a surrogate
            continue
        graph.nodes[draw(texts)] = node
    for _ in range(draw(st.integers(0, 3))):
        try:
            relation = Relation(label=draw(texts), source_id=draw(texts), target_id=draw(texts), properties=draw(properties))
        except ValueError:
            continue
        graph.relations[draw(texts)] = relation
    graph.triplets |= draw(st.sets(st.tuples(texts, texts, texts), max_size=3))
    return graph


def distort(graph: LabelledPropertyGraph, draw: Any) -> None:
    """What the core must leave to pydantic."""
    items = [*graph.nodes.values(), *graph.relations.values()]
    if not items:
        return
    item = draw(st.sampled_from(items))
    name = draw(st.sampled_from(["label", "embedding", "properties", "name", "source_id", "id_", "more"]))
    how = draw(st.sampled_from(["set", "delete", "add", "order"]))
    if how == "set" and name in item.__dict__:
        item.__dict__[name] = draw(values)
    elif how == "delete":
        item.__dict__.pop(name, None)
    elif how == "add":
        item.properties[draw(texts)] = draw(values)
    else:
        item.__dict__[name] = item.__dict__.pop(name, 1)


@settings(max_examples=ROUNDS)
@given(graphs(), st.data(), st.booleans())
def test_the_text_is_pydantics(graph: LabelledPropertyGraph, data: Any, odd: bool) -> None:
    if odd:
        distort(graph, data.draw)
    (kind, expected), warned = dumped(graph)
    text = _graphtext.encode(graph)
    assert text is None or (bytes(text), []) == (expected, warned)
    if not odd and kind == "value" and not any(x in repr(graph) for x in ("nan", "inf", r"\ud")):
        small = not any(isinstance(v, int) and abs(v) > 2**62 for v in numbers_of(graph))
        assert text is not None or not small  # it is the core that wrote it


def numbers_of(value: Any) -> Any:
    if isinstance(value, (LabelledPropertyGraph, LabelledNode, Relation)):
        value = value.__dict__
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)):
        return [n for inner in value for n in numbers_of(inner)]
    return [value]


@settings(max_examples=ROUNDS)
@given(st.lists(floats, min_size=1))
def test_numbers_are_printed_as_pydantic_prints_them(numbers: List[float]) -> None:
    graph = LabelledPropertyGraph()
    graph.nodes["a"] = EntityNode(name="a", embedding=numbers, properties={"n": numbers})
    text = _graphtext.encode(graph)
    assert text is None or bytes(text) == graph.model_dump_json().encode()
    assert text is not None or any(n != n or n in (float("inf"), float("-inf")) for n in numbers)


def read_by(kind: Any, path: Any) -> Any:
    found = outcome(lambda: kind.from_persist_path(str(path)))
    if found[0] != "value":
        return found
    graph = found[1].graph
    states, nodes, relations = _graphtext._state_of(graph)
    states[0] = (*states[0][:1], sorted(states[0][1]), *states[0][2:])  # a set in it
    return states, nodes, relations, graph.triplets, list(graph.__dict__), repr(list(graph.model_fields_set))


def changed_text(text: str, draw: Any) -> str:
    """Another text of the same kind: spelt otherwise, or not quite right."""
    data = json.loads(text)
    part = data[draw(st.sampled_from(["nodes", "relations"]))]
    how = draw(st.sampled_from(["spelling", "value", "key", "order", "twice", "top", "cut", "none"]))
    if how == "spelling":
        return json.dumps(data, indent=draw(st.sampled_from([None, 1])), ensure_ascii=draw(st.booleans()))
    if how == "top":
        name = draw(st.sampled_from(list(data)))
        data[name] = draw(st.sampled_from([None, [], {}, "x", [["a", "b"]], [["a", "b", 5]], [["a", "b", "c"]] * 2]))
    elif how == "cut":
        return text[: draw(st.integers(0, len(text)))]
    elif how == "twice":
        return text.replace('"label":', '"label":"x","label":', 1)
    elif part:
        item = part[draw(st.sampled_from(list(part)))]
        name = draw(st.sampled_from([*item, "text", "name", "more"]))
        if how == "value":
            item[name] = draw(plain_values)
        elif how == "key":
            item.pop(name, None)
        elif how == "order":
            item.update({k: item.pop(k) for k in sorted(item)})
    return json.dumps(data)


@settings(max_examples=ROUNDS)
@given(graphs(), st.data())
def test_a_file_is_read_as_the_peer_reads_it(tmp_path_factory: Any, graph: LabelledPropertyGraph, data: Any) -> None:
    (kind, text), _ = dumped(graph)
    if kind != "value":
        return
    path = tmp_path_factory.getbasetemp() / "read.json"
    spelt = changed_text(text.decode(), data.draw)
    path.write_bytes(spelt.encode("utf-8", "surrogatepass"))
    theirs, ours = read_by(Peer, path), read_by(SimplePropertyGraphStore, path)
    if theirs[0] == "JSONDecodeError":
        assert ours[0] == "CorruptStoreError"
    elif theirs[0] == "UnicodeDecodeError":
        assert ours[0] == theirs[0]
    else:
        assert ours == theirs


def test_what_was_read_is_the_peers_in_all_respects(tmp_path: Any) -> None:
    path = tmp_path / "g.json"
    store = small()
    store.upsert_nodes([ChunkNode(text="t", id_="c1", embedding=[0.5], properties={"deep": [{"a": 1}]}), ChunkNode(text="u")])
    store.persist(str(path))
    theirs, ours = Peer.from_persist_path(str(path)), SimplePropertyGraphStore.from_persist_path(str(path))
    assert type(ours.graph) is LabelledPropertyGraph and ours.graph == theirs.graph
    assert pickle.loads(pickle.dumps(ours.graph)) == theirs.graph == copy.deepcopy(ours.graph)
    for key, node in ours.graph.nodes.items():
        other: Any = theirs.graph.nodes[key]
        assert node == other and node.model_dump() == other.model_dump() and str(node) == str(other)
        assert list(node.__dict__) == list(other.__dict__) and list(node.model_fields_set) == list(other.model_fields_set)
        assert copy.copy(node) == other and pickle.loads(pickle.dumps(node)) == other
        node.label = "new"
        assert node.label == "new" and node.model_dump(exclude_unset=True) == {**other.model_dump(), "label": "new"}
        with pytest.raises(ValueError):
            node.unknown = 1
    a, b = (s.graph.nodes["a"] for s in (ours, SimplePropertyGraphStore.from_persist_path(str(path))))
    a.properties["only"] = "here"
    assert "only" not in b.properties
    assert len(ours.get_triplets(ids=["b"])) == 2 and is_indexed(ours)
    ours.delete(ids=["b"])
    theirs.delete(ids=["b"])
    assert set(ours.graph.nodes) == set(theirs.graph.nodes)


def test_the_core_writes_graphs_while_installed_too() -> None:
    graph = small().graph
    pannier.install()
    try:
        assert _graphtext.encode(graph) is not None
    finally:
        pannier.uninstall()
    assert _graphtext.encode(graph) is not None


def test_a_replaced_method_is_the_one_that_runs(tmp_path: Any, monkeypatch: Any) -> None:
    path = tmp_path / "g.json"
    small().persist(str(path))
    calls = []
    original = EntityNode.model_validate.__func__  # type: ignore[attr-defined]

    def model_validate(cls: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(cls)
        return original(cls, *args, **kwargs)

    monkeypatch.setattr(EntityNode, "model_validate", classmethod(model_validate))
    store = SimplePropertyGraphStore.from_persist_path(str(path))
    assert len(calls) == 3 and _graphtext.encode(store.graph) is None
    monkeypatch.undo()
    assert _graphtext.encode(store.graph) is not None

    class Own(SimplePropertyGraphStore):
        @classmethod
        def from_dict(cls, data: Any) -> Any:
            calls.append(data)
            return super().from_dict(data)

    assert type(Own.from_persist_path(str(path))) is Own and len(calls) == 4


@pytest.mark.parametrize("owner, name", [(LabelledPropertyGraph, "add_node"), (EntityNode, "id")])
def test_a_replaced_method_puts_nodes(owner: Any, name: str, monkeypatch: Any) -> None:
    nodes = [EntityNode(name="a"), EntityNode(name="b")]
    if name == "id":
        monkeypatch.setattr(owner, name, property(lambda node: "id of " + node.name))
    else:
        monkeypatch.setattr(owner, name, lambda graph, node: graph.nodes.__setitem__("mine " + node.name, node))
    peer, store = Peer(), SimplePropertyGraphStore()
    for each in (peer, store):
        each.upsert_nodes(nodes)
    assert list(store.graph.nodes) == list(peer.graph.nodes) and "a" not in store.graph.nodes
    monkeypatch.undo()
    store.upsert_nodes(nodes)
    assert list(store.graph.nodes)[2:] == ["a", "b"]


def test_a_replaced_add_relation_is_the_one_that_runs(monkeypatch: Any) -> None:
    calls: List[Any] = []
    monkeypatch.setattr(LabelledPropertyGraph, "add_relation", lambda graph, relation: calls.append(relation))
    relation = Relation(label="r", source_id="a", target_id="b")
    store = SimplePropertyGraphStore()
    store.upsert_relations([relation])
    assert calls == [relation] and not store.graph.nodes


class Named:
    """A node of nobody's class, whose id may do anything."""

    def __init__(self, then: Callable[[], Any]) -> None:
        self.then = then

    @property
    def id(self) -> str:
        self.then()
        return "named"


def outcome_of(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as e:
        return type(e), str(e)


@pytest.mark.parametrize(
    "method, args, kwargs",
    [
        ("upsert_nodes", (), {}),
        ("upsert_nodes", ([], 0), {}),
        ("upsert_nodes", (), {"node": []}),
        ("upsert_nodes", ([],), {"nodes": []}),
        ("upsert_nodes", (5,), {}),
        ("upsert_nodes", (), {"nodes": [EntityNode(name="a")]}),
        ("upsert_nodes", ((EntityNode(name='a"b'), EntityNode(name="ü")),), {}),
        ("upsert_nodes", ([EntityNode(name="a"), ChunkNode(text="t"), ChunkNode(text="t", id_="c"), 5, EntityNode(name="z")],), {}),
        ("upsert_nodes", ([EntityNode.model_construct(name=5)],), {}),
        ("upsert_nodes", ([EntityNode.model_construct()],), {}),
        ("upsert_nodes", ([ChunkNode.model_construct(text="t", id_=[])],), {}),
        ("upsert_relations", (), {}),
        ("upsert_relations", (None,), {}),
        ("upsert_relations", (), {"relations": [Relation(label="r", source_id="a", target_id="b")]}),
        ("upsert_relations", ({"r": 1},), {}),
        ("upsert_relations", ([Relation.model_construct(label="r", source_id="a")],), {}),
        ("upsert_relations", ([Relation.model_construct(label=None, source_id="a", target_id="a")],), {}),
    ],
)
@pytest.mark.parametrize("few", [0, 2])
def test_odd_arguments_do_what_they_do_to_the_peer(method: str, args: Any, kwargs: Any, few: int) -> None:
    seen = []
    for kind in (Peer, SimplePropertyGraphStore):
        store = kind()
        store.upsert_nodes([EntityNode(name=f"n{i}") for i in range(few)])
        out = outcome_of(lambda: getattr(store, method)(*args, **kwargs))
        graph = store.graph
        seen.append((out, list(graph.nodes), list(graph.relations), sorted(map(repr, graph.triplets))))
    assert seen[0] == seen[1]


def test_iterators_and_lists_that_grow_are_taken_as_by_the_peer() -> None:
    for kind in (Peer, SimplePropertyGraphStore):
        store = kind()
        nodes: List[Any] = [EntityNode(name="a")]
        nodes.append(Named(lambda: nodes.append(EntityNode(name="late")) if len(nodes) < 4 else None))
        store.upsert_nodes(nodes)
        store.upsert_nodes(node for node in [EntityNode(name="from an iterator")])
        assert list(store.graph.nodes) == ["a", "named", "late", "from an iterator"]


@pytest.mark.parametrize("what", ["graph", "nodes", "foreign"])
def test_a_graph_replaced_by_an_entry_gets_the_rest(what: str) -> None:
    class Own(LabelledPropertyGraph):
        pass

    ends = []
    for kind in (Peer, SimplePropertyGraphStore):
        store = kind()
        store.upsert_nodes([EntityNode(name="old")])
        before = store.graph

        def replace() -> None:
            if what == "nodes":
                store.graph.nodes = {}
            else:
                store.graph = LabelledPropertyGraph() if what == "graph" else Own()

        store.upsert_nodes([EntityNode(name="a"), Named(replace), EntityNode(name="b")])
        store.upsert_relations([Relation(label="r", source_id="b", target_id="c")])
        ends.append((list(before.nodes), list(store.graph.nodes), list(store.graph.relations)))
        assert store.get(ids=["b"])[0].id == "b"
    assert ends[0] == ends[1]


def test_a_store_has_its_methods_itself() -> None:
    """CPython calls a C method directly only for an object of the class that has it."""
    for cls, names in (
        (SimplePropertyGraphStore, ["upsert_nodes", "upsert_relations"]),
        (pannier.SimpleGraphStore, ["get", "get_rel_map", "upsert_triplet", "delete", "to_dict"]),
    ):
        assert [vars(cls)[name].__objclass__ for name in names] == [cls] * len(names)

    class Own(SimplePropertyGraphStore):
        def upsert_nodes(self, nodes: Any) -> None:
            super().upsert_nodes(list(nodes)[:1])

    store = Own()
    store.upsert_nodes([EntityNode(name="a"), EntityNode(name="b")])
    store.upsert_relations([Relation(label="r", source_id="a", target_id="c")])
    assert list(store.graph.nodes) == ["a", "c"] and len(copy.deepcopy(store).get_triplets(ids=["c"])) == 1


class Evil:
    """A key that equals nothing and runs what it is told when it is compared."""

    def __init__(self, like: str, then: Callable[[], Any] = lambda: None) -> None:
        self.like, self.then, self.armed = like, then, False

    def __hash__(self) -> int:
        return hash(self.like)

    def __eq__(self, other: object) -> bool:
        if self.armed and self is not other:
            self.armed = False
            self.then()
        return self is other


def armed(key: Evil, then: Callable[[], Any]) -> Evil:
    key.then, key.armed = then, True
    return key


@pytest.mark.parametrize("change", ["set", "put", "delete", "pop", "places", "setdefault"])
@pytest.mark.parametrize("what", ["clear", "forget"])
def test_a_key_may_change_the_nodes_while_it_is_compared(change: str, what: str) -> None:
    store = SimplePropertyGraphStore()
    nodes = store.graph.nodes
    evil, other = Evil("a"), Evil("a")
    nodes[evil] = EntityNode(name="x")
    nodes[other] = EntityNode(name="y")
    nodes["b"] = EntityNode(name="b")
    nodes.odd()
    if change != "places":
        nodes.places()
    calls: Dict[str, Callable[[], Any]] = {
        "set": lambda: nodes.__setitem__("a", EntityNode(name="a")),
        "put": lambda: store.upsert_nodes([EntityNode(name="a")]),
        "delete": lambda: nodes.__delitem__(other),
        "pop": lambda: nodes.pop(other),
        "places": lambda: nodes.places(),
        "setdefault": lambda: nodes.setdefault("a", EntityNode(name="a")),
    }
    for turn in range(6):  # at the turn-th comparison
        left = [turn]

        def then() -> None:
            if left[0] == 0:
                getattr(nodes, what)()
                gc.collect()
            else:
                left[0] -= 1
                evil.armed = True

        armed(evil, then)
        outcome_of(calls[change])
        evil.armed = False
        nodes.update({evil: EntityNode(name="x"), other: EntityNode(name="y"), "b": EntityNode(name="b")})
        nodes.pop("a", None)
        nodes.odd()
        if change != "places":
            nodes.places()
    assert list(nodes.places()) == list(nodes) and {evil, other} <= set(nodes.odd())


@pytest.mark.parametrize("what", ["nodes", "triplets"])
def test_an_id_may_change_the_graph_while_it_is_searched(what: str) -> None:
    found = []
    for kind in (Peer, SimplePropertyGraphStore):
        store = kind()
        store.upsert_relations([Relation(label="r", source_id="a", target_id=name) for name in ("b", "named", *"cdefgh")])

        def then() -> None:
            if what == "nodes":
                store.graph.nodes = dict(store.graph.nodes)
            elif len(store.graph.triplets) < 9:
                store.graph.triplets.add((f"a{len(store.graph.triplets)}", "r", "b"))

        store.graph.nodes["named"] = Named(then)
        call = store.get_triplets if what == "triplets" else lambda ids: store.get_rel_map([EntityNode(name=ids[0])])
        got = outcome_of(lambda: call(ids=["named" if what == "triplets" else "a"]))
        found.append(sorted((s.id, o.id) for s, _, o in got) if type(got) is list else got)
    assert found[0] == found[1] and type(found[0]) is list and found[0]


def test_async_methods_call_these() -> None:
    import asyncio

    async def calls() -> Any:
        store = small()
        found = [await store.aget(ids=["a"]), await store.aget_triplets(ids=["a"])]
        found.append(await store.aget_rel_map(found[0]))
        await store.adelete(ids=["a"])
        await store.aupsert_nodes([EntityNode(name="z")])
        return found, store

    found, store = asyncio.run(calls())
    assert len(found[0]) == 1 and len(found[1]) == 1 and len(found[2]) == 3
    assert list(store.graph.nodes) == ["c", "z"]


def test_an_index_is_made_from_a_few_nodes_on(monkeypatch: Any) -> None:
    monkeypatch.setattr(property_graph, "_FEW", 24)
    for n, by_get, by_triplets in ((24, False, False), (25, True, True)):
        store = SimplePropertyGraphStore(LabelledPropertyGraph())
        store.upsert_relations(
            [Relation(label="r", source_id=f"n{i}", target_id=f"n{(i + 1) % n}") for i in range(n)]
        )
        assert [node.id for node in store.get(ids=["n7"])] == ["n7"] and is_indexed(store) is by_get
        store.graph.nodes = dict(store.graph.nodes)
        assert len(store.get_triplets(ids=["n7"])) == 2 and is_indexed(store) is by_triplets


def test_only_what_is_touched_is_looked_at() -> None:
    """Counts the nodes and relations that a call on one node reads: not a matter of n."""
    reads = []
    for n in (50, 500):
        store = SimplePropertyGraphStore()
        store.upsert_relations(
            [Relation(label="r", source_id=f"n{i}", target_id=f"n{(i + 1) % n}") for i in range(n)]
        )
        store.get_rel_map(store.get(ids=["n0"]))  # builds the index
        reads.append(count_calls(lambda: use_one(store)))
    assert reads[0] == reads[1]


def use_one(store: SimplePropertyGraphStore) -> None:
    node = store.get(ids=["n7"])
    store.get_triplets(ids=["n7"])
    store.get_rel_map(node, depth=2)
    store.upsert_relations([Relation(label="q", source_id="n7", target_id="n9")])
    store.delete(ids=["n7"])


def count_calls(call: Callable[[], None]) -> int:
    """The Python calls that `call` makes; none of the collector's (a test library may hang on it)."""
    count = 0

    def profile(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call"

    gc.collect()
    gc.disable()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


# -- the index that uses it -------------------------------------------------------------------------


def pg_index(store: Peer, texts: List[str]) -> Any:
    from llama_index.core import Document, MockEmbedding, PropertyGraphIndex, StorageContext
    from llama_index.core.graph_stores.types import KG_NODES_KEY, KG_RELATIONS_KEY
    from llama_index.core.llms import MockLLM
    from llama_index.core.schema import TransformComponent

    class Words(TransformComponent):
        def __call__(self, nodes: Any, **kwargs: Any) -> Any:
            for node in nodes:
                words = node.text.split()
                node.metadata[KG_NODES_KEY] = [EntityNode(name=w) for w in words]
                node.metadata[KG_RELATIONS_KEY] = [
                    Relation(label="before", source_id=a, target_id=b) for a, b in zip(words, words[1:])
                ]
            return nodes

    return PropertyGraphIndex.from_documents(
        [Document(text=t, id_=f"d{i}") for i, t in enumerate(texts)],
        kg_extractors=[Words()],
        property_graph_store=store,
        llm=MockLLM(),
        embed_model=MockEmbedding(embed_dim=3),
        embed_kg_nodes=False,
        storage_context=StorageContext.from_defaults(property_graph_store=store),
    )


def stripped(text: str, ids: List[str]) -> str:
    for i, name in enumerate(ids):
        text = text.replace(name, f"<{i}>")
    return text


def test_property_graph_index(tmp_path: Any) -> None:
    from llama_index.core import Document
    from llama_index.core.indices.property_graph import CustomPGRetriever

    class ByWord(CustomPGRetriever):
        def init(self, **kwargs: Any) -> None:
            pass

        def custom_retrieve(self, query: str) -> Any:
            nodes = self.graph_store.get(ids=[query])
            return "\n".join(sorted(str(t[0]) + str(t[2]) for t in self.graph_store.get_rel_map(nodes)))

    found = []
    for store in (Reference(), SimplePropertyGraphStore()):
        index = pg_index(store, ["one two three one four", "two three five"])
        index.insert(Document(text="five six", id_="d9"))
        chunks = [k for k, n in store.graph.nodes.items() if isinstance(n, ChunkNode)]
        retriever = index.as_retriever(sub_retrievers=[ByWord(index.property_graph_store)])
        answers = [stripped(n.get_content(), chunks) for n in retriever.retrieve("two")]
        path = tmp_path / f"{type(store).__name__}.json"
        store.persist(str(path))
        back = type(store).from_persist_path(str(path))
        assert set(back.graph.triplets) == set(store.graph.triplets)
        assert list(back.graph.nodes.items()) == list(store.graph.nodes.items())
        names = [stripped(n, chunks) for n in store.graph.nodes]
        index.delete_ref_doc("d9", delete_from_docstore=True)
        left = [stripped(n, chunks) for n in store.graph.nodes]
        found.append((names, answers, left, [n.get_content() for n in store.get_llama_nodes(chunks)]))
    assert found[0] == found[1]
    assert len(found[0][1]) > 0 and found[0][2] != found[0][0]
