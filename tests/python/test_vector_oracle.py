"""Random calls on pannier's vector store and LlamaIndex's, side by side.

Every round makes both stores, applies the same random operations, and compares results,
exceptions with their messages, order, contents and the bytes on disk, and lets each
load the other's file.
"""

from __future__ import annotations

import copy
import math
import os
import pickle
import random
import warnings
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.simple import SimpleVectorStore as Peer
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

from pannier.vector_store import NativeVectorData, SimpleVectorStore

ROUNDS = max(10, int(os.environ.get("PANNIER_TEST_ROUNDS", "260")))

TEXTS = ["", "a", "A", "ab", "Abc", "é", "É", "x\"y\\z", "\n\t\x7f", "日本", "😀", "\ud800", "None", "NaN", "c3", "ß", "İ"]
KEYS = ["k", "year", "tags", "é", "a\"b", "doc_id", "_node_type", "_node_content", "x.y", ""]
NUMBERS: List[Any] = [0, 1, -1, 2, 7, 1.0, 0.5, -0.0, 1e300, 10**17, 2**53, 2**53 + 1, 2**63, 10**30, True, False]
ODD_NUMBERS: List[Any] = [float("nan"), float("inf"), -float("inf")]


def scalar(r: random.Random) -> Any:
    kind = r.random()
    if kind < 0.4:
        return r.choice(TEXTS)
    if kind < 0.8:
        return r.choice(NUMBERS)
    return None if kind < 0.95 else r.choice(ODD_NUMBERS)


def value(r: random.Random) -> Any:
    kind = r.random()
    if kind < 0.6:
        return scalar(r)
    if kind < 0.85:
        return [scalar(r) for _ in range(r.randrange(4))]
    if kind < 0.92:
        return {r.choice(TEXTS): scalar(r) for _ in range(r.randrange(3))}
    return r.choice([[], [[1, "a"], {"b": 1}], {}, (1, 2), {"nested": {"deep": [1, None]}}])


def metadata(r: random.Random) -> Dict[str, Any]:
    return {r.choice(KEYS): value(r) for _ in range(r.randrange(5))}


def tame_metadata(r: random.Random) -> Dict[str, Any]:
    """What real programs store: one type a key, some missing."""
    whole = {
        "year": r.randrange(2019, 2024),
        "k": r.choice(["a", "ab", "Abc", "é", "x\"y\\z", "日本", ""]),
        "score": r.choice([0.5, 1.0, 2, -3.25, None]),
        "tags": [r.choice(["a", "b", "c", "é"]) for _ in range(r.randrange(4))],
        "flag": r.random() < 0.5,
    }
    return {key: v for key, v in whole.items() if r.random() < 0.8}


def vector(r: random.Random, dim: int, style: str) -> List[float]:
    if style == "ties":
        return [float(r.randrange(-1, 2)) for _ in range(dim - 1)] + [1.0]
    if style == "zeros" and r.random() < 0.3:
        return [0.0] * dim
    if style == "odd" and r.random() < 0.2:
        return [r.choice([float("nan"), float("inf"), 1e200, 5e-324, -0.0]) for _ in range(dim)]
    if style == "scales":
        scale = 10.0 ** r.randrange(-160, 160, 20)
        return [r.gauss(0, 1) * scale for _ in range(dim)]
    if style == "f32" or (style == "mixed" and r.random() < 0.5):
        return np.array([r.gauss(0, 1) for _ in range(dim)], dtype=np.float32).astype(float).tolist()
    return [r.gauss(0, 1) for _ in range(dim)]


STYLES = ["plain", "f32", "mixed", "ties", "ties", "zeros", "odd", "scales"]


TAME_FILTERS: List[Tuple[str, List[str], Callable[[random.Random], Any]]] = [
    ("year", [*"== != > >= < <=".split()], lambda r: r.randrange(2018, 2025)),
    ("year", ["in", "nin"], lambda r: [r.randrange(2018, 2025) for _ in range(3)]),
    ("k", [*"== != > >= < <= contains text_match text_match_insensitive in nin".split()], lambda r: r.choice(TEXTS)),
    ("k", ["in", "nin", "any", "all"], lambda r: [r.choice(TEXTS) for _ in range(r.randrange(4))]),
    ("score", [*"== != > >= < <=".split()], lambda r: r.choice([0.5, 1, 2.0, -4, float("nan")])),
    ("tags", ["contains"], lambda r: r.choice(["a", "b", "é", "z"])),
    ("tags", ["any", "all"], lambda r: [r.choice(["a", "b", "é", "z"]) for _ in range(r.randrange(3))]),
    ("tags", ["is_empty"], lambda r: None),
    ("flag", ["==", "!=", ">"], lambda r: r.choice([0, 1, 1.0])),
    ("missing", ["==", "!=", "nin", "is_empty", ">"], lambda r: r.choice([1, "a"])),
    ("ref_doc_id", ["==", "!="], lambda r: r.choice(["d1", "d2", "None"])),
]


def tame_filters(r: random.Random) -> Optional[MetadataFilters]:
    if r.random() < 0.3:
        return None
    filters = []
    for _ in range(r.randrange(1, 4)):
        key, operators, make = r.choice(TAME_FILTERS)
        filters.append(MetadataFilter(key=key, operator=FilterOperator(r.choice(operators)), value=make(r)))
    return MetadataFilters(filters=filters, condition=r.choice([*FilterCondition, None]))


class Flavour:
    """What a round is made of: anything at all, or what real programs store."""

    def __init__(self, r: random.Random) -> None:
        self.tame = r.random() < 0.6
        self.dim = r.choice([2, 3, 7, 16, 33, 100] if self.tame else [1, 2, 3, 7, 16, 33, 100])
        self.style = r.choice(STYLES)

    def vector(self, r: random.Random) -> List[float]:
        return vector(r, self.dim, self.style)

    def metadata(self, r: random.Random) -> Dict[str, Any]:
        return tame_metadata(r) if self.tame else metadata(r)

    def filters(self, r: random.Random) -> Optional[MetadataFilters]:
        return tame_filters(r) if self.tame else make_filters(r)


def related(r: random.Random, doc: str, make: Callable[[], Any]) -> Any:
    return RelatedNodeInfo(
        node_id=doc,
        node_type=r.choice([ObjectType.DOCUMENT, None, "2"]),
        metadata=make() if r.random() < 0.2 else {},
        hash=r.choice([None, "h"]),
    )


def make_node(r: random.Random, flavour: Flavour) -> Any:
    ident = r.choice([f"n{r.randrange(40)}", f"id-{r.randrange(9)}é", r.choice(TEXTS[:-6] if flavour.tame else TEXTS)])
    common: Dict[str, Any] = {"id_": ident, "metadata": flavour.metadata(r), "embedding": flavour.vector(r)}
    odd = 0.0 if flavour.tame else 0.02

    def some() -> Any:
        return flavour.metadata(r)

    if r.random() < odd:
        common["embedding"] = None
    relations: Dict[Any, Any] = {}
    if r.random() < 0.8:
        relations[NodeRelationship.SOURCE] = related(r, r.choice(["d1", "d2", "d3", "", "None", "dé"]), some)
    if r.random() < 0.2:
        relations[NodeRelationship.CHILD] = [related(r, "c", some)]
    if r.random() < odd:
        relations[NodeRelationship.SOURCE] = [related(r, "d1", some)]
    kind = r.randrange(10)
    if kind < 6:
        return TextNode(text=r.choice(TEXTS), relationships=relations, **common)
    if kind == 6:
        return Document(text="some", relationships=relations, **common)
    if kind == 7:
        return ImageNode(text="t", image_url="http://x/y.png", relationships=relations, **common)
    if kind == 8:
        return IndexNode(text="t", index_id="i", obj=r.choice([None, "an object"]), relationships=relations, **common)
    return Node(relationships=relations, **common)


def filter_value(r: random.Random, op: FilterOperator) -> Any:
    if op in (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ALL, FilterOperator.ANY) and r.random() < 0.85:
        kind = r.randrange(3)
        if kind == 0:
            return [r.choice(TEXTS) for _ in range(r.randrange(4))]
        if kind == 1:
            return [float(r.randrange(3)) for _ in range(r.randrange(4))]
        return [r.choice([0, 1, 7, 2**53]) for _ in range(r.randrange(4))]
    return r.choice([r.choice(TEXTS), r.choice([0, 1, 7, 10**17, 2**70]), r.choice([0.5, 1.0, float("nan")]), None])


def make_filters(r: random.Random) -> Optional[MetadataFilters]:
    if r.random() < 0.4:
        return None
    filters: List[Any] = []
    for _ in range(r.randrange(4)):
        op = r.choice(list(FilterOperator))
        filters.append(MetadataFilter(key=r.choice([*KEYS, "missing"]), operator=op, value=filter_value(r, op)))
    if r.random() < 0.03:
        filters.append(MetadataFilters(filters=[]))
    return MetadataFilters(filters=filters, condition=r.choice([*FilterCondition, None]))


def make_ids(r: random.Random) -> Optional[List[str]]:
    if r.random() < 0.75:
        return None
    return [r.choice([f"n{r.randrange(40)}", f"n{r.randrange(40)}", r.choice(TEXTS)]) for _ in range(r.randrange(30))]


def make_query(r: random.Random, flavour: Flavour) -> Tuple[VectorStoreQuery, Dict[str, Any]]:
    dim = flavour.dim + (r.random() < 0.03)
    query = VectorStoreQuery(
        query_embedding=vector(r, dim, flavour.style),
        similarity_top_k=r.choice([0, 1, 2, 3, 3, 5, 10, 50, -1]),
        mode=r.choice(["default", "default", "default", "mmr", "sparse" if r.random() < 0.05 else "default"]),
        node_ids=make_ids(r),
        filters=flavour.filters(r),
    )
    kwargs = {"mmr_threshold": r.choice([None, 0, 1, 0.3, 0.9])} if query.mode == "mmr" else {}
    return query, kwargs


def same(a: Any, b: Any) -> bool:
    """Equal, to the bits of floats, with NaN equal to NaN."""
    if isinstance(a, float) and isinstance(b, float):
        return type(a) is type(b) and (a == b and math.copysign(1, a) == math.copysign(1, b) or (a != a and b != b))
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


def outcome(call: Callable[[], Any]) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as e:
            result = (type(e).__name__, str(e))
    return result, sorted({str(w.message) for w in caught})


def contents(store: Any) -> Any:
    data = store.data
    rows = {k: data.embedding_dict[k] for k in data.embedding_dict}
    dumped = data.to_dict()["metadata_dict"]
    return rows, dict(data.text_id_to_ref_doc_id), {k: dumped[k] for k in data.metadata_dict}


class Pair:
    """One store of each kind; each call goes to both and has to have the same outcome."""

    def __init__(self) -> None:
        self.ours, self.peer = SimpleVectorStore(), Peer()
        self.held: Dict[type, List[List[float]]] = {SimpleVectorStore: [], Peer: []}  # lists that callers keep

    def both(self, what: str, call: Callable[[Any], Any]) -> Any:
        mine, theirs = outcome(lambda: call(self.ours)), outcome(lambda: call(self.peer))
        assert same(mine, theirs), f"{what}: {mine} is not {theirs}"
        return mine

    def compare(self) -> None:
        assert same(contents(self.ours), contents(self.peer))
        if type(self.ours.data) is NativeVectorData:
            assert self.ours.data._table.consistent()

    def compare_files(self, tmp_path: Any, reload: bool) -> None:
        mine, theirs = str(tmp_path / "ours.json"), str(tmp_path / "peer.json")
        self.ours.persist(mine)
        self.peer.persist(theirs)
        with open(mine, "rb") as a, open(theirs, "rb") as b:
            assert a.read() == b.read()
        crossed = SimpleVectorStore.from_persist_path(theirs), Peer.from_persist_path(mine)
        assert same(contents(crossed[0]), contents(crossed[1]))
        if reload:
            self.ours, self.peer = crossed


def touch_metadata(pair: Pair, r: random.Random, flavour: Flavour) -> None:
    """A caller who reaches into the dictionaries."""
    ids = list(pair.peer.data.metadata_dict)
    if not ids:
        return
    ident, key = r.choice(ids), r.choice(["k", "tags"] if flavour.tame else KEYS)
    new = tame_metadata(r).get(key) if flavour.tame else value(r)
    action = r.randrange(5)

    def touch(store: Any) -> Any:
        metas = store.data.metadata_dict
        if action == 0:
            metas[ident][key] = copy.deepcopy(new)
        elif action == 1:
            metas[ident].pop(key, None)
        elif action == 2:
            metas[ident] = {"k": copy.deepcopy(new)}
        elif action == 3:
            metas.pop(ident)
        else:
            store.data.text_id_to_ref_doc_id[ident] = r_doc
        return len(metas)

    r_doc = r.choice(["d1", "d9"])
    pair.both("touch", touch)


def touch_rows(pair: Pair, r: random.Random, flavour: Flavour) -> None:
    ids = list(pair.peer.data.embedding_dict) or ["new"]
    ident, row = r.choice([*ids, "new"]), flavour.vector(r)
    action, place, change = r.randrange(16), r.randrange(99), flavour.vector(r)[:1]
    if not flavour.tame and r.random() < 0.1:
        change = r.choice([[], [1, 2.0], [0.5, 0.5]])

    def touch(store: Any) -> Any:
        rows = store.data.embedding_dict
        if action < 5:
            rows[ident] = list(row)
        elif action < 8:
            return rows.pop(ident, None)
        elif action == 8:
            return rows.popitem()
        elif action == 9:
            return store.get(ident)
        elif action == 10:
            return rows.get(ident), ident in rows, len(rows), list(rows), list(reversed(rows))
        elif action > 11:
            held = pair.held[type(store)]
            held.append(store.get(ident))
            held[place % len(held)][:1] = change
        elif r_surrender:
            rows[ident] = [1, 2.0]
        return None

    r_surrender = not flavour.tame and r.random() < 0.1
    pair.both("rows", touch)


def add(pair: Pair, r: random.Random, flavour: Flavour) -> None:
    nodes = [make_node(r, flavour) for _ in range(r.randrange(1, 20))]
    pair.both("add", lambda s: s.add(copy.deepcopy(nodes)))


def step(pair: Pair, r: random.Random, flavour: Flavour) -> None:
    kind = r.randrange(14)
    if kind < 3:
        add(pair, r, flavour)
    elif kind < 9:
        query, kwargs = make_query(r, flavour)
        pair.both(f"query {query} {kwargs}", lambda s: (lambda x: (x.similarities, x.ids, x.nodes))(s.query(query, **kwargs)))
    elif kind == 9:
        doc = r.choice(["d1", "d2", "d3", "None", "dé", "nobody", None])
        pair.both(f"delete {doc}", lambda s: s.delete(doc))
    elif kind == 10 and r.random() < 0.5:
        ids, filters = make_ids(r), flavour.filters(r)
        if ids is None and filters is None:
            ids = []
        pair.both(f"delete_nodes {ids} {filters}", lambda s: s.delete_nodes(ids, filters))
    elif kind == 11:
        touch_metadata(pair, r, flavour)
    elif kind == 12:
        touch_rows(pair, r, flavour)
    elif r.random() < 0.1:
        pair.both("clear", lambda s: s.clear())
    else:
        pair.ours, pair.peer = r.choice([copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])(pair.ours), pair.peer


@pytest.mark.parametrize("block", range(10))
def test_random_calls_have_the_peers_outcomes(block: int, tmp_path: Any) -> None:
    for seed in range(block * ROUNDS // 10, (block + 1) * ROUNDS // 10):
        r = random.Random(seed)
        pair, flavour = Pair(), Flavour(r)
        try:
            add(pair, r, flavour)
            for _ in range(r.randrange(4, 16)):
                step(pair, r, flavour)
                pair.compare()
            pair.compare_files(tmp_path, reload=True)
            for _ in range(5):
                step(pair, r, flavour)
                pair.compare()
            pair.compare_files(tmp_path, reload=False)
        except Exception as e:
            raise AssertionError(f"seed {seed}: {type(e).__name__}: {e}") from e


@pytest.mark.parametrize("style", ["plain", "f32", "mixed", "ties", "scales"])
@pytest.mark.parametrize("dim", [2, 5, 24, 129])
def test_larger_queries_are_the_peers_to_the_bit(style: str, dim: int) -> None:
    r = random.Random(f"{style}{dim}")
    nodes = [TextNode(id_=f"n{r.randrange(10**6)}", text="", embedding=vector(r, dim, style)) for _ in range(400)]
    pair = Pair()
    pair.both("add", lambda s: s.add(nodes))
    for k in (1, 2, 3, 10, 37, 399, 400, 0):
        for mode in ("default", "mmr"):
            if mode == "mmr" and k > 10 or mode == "mmr" and k == 0:
                continue
            query = VectorStoreQuery(query_embedding=vector(r, dim, style), similarity_top_k=k, mode=mode)
            pair.both(f"{mode} {k}", lambda s: (lambda x: (x.similarities, x.ids))(s.query(query)))
