"""Value cells: what is in a file stays text until it is asked for, and nobody can tell.

The rules (docs: how values are held): a public read turns a cell into the object that is
handed out from then on; internal readers do not; what was handed out is encoded again at
the next persist; a put of plain built-in values reads back equal and apart; everything
else stays the very object.
"""

from __future__ import annotations

import gc
import json
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from oracle import (
    SIDES,
    Raised,
    assert_same,
    chunk,
    clone,
    doc,
    dumps,
    impl,
    load,
    persisted,
    same,
    same_bytes,
    scribble,
)

DATA = {
    "data": {
        "k": {"v": [1, {"x": [2]}], "s": "text", "f": 0.1, "n": None, "t": True},
        "l": {},
        "m": {"deep": {"er": {"est": [[], {}, [{}]]}}},
    },
    "other": {"k": {"v": "other"}},
}


def loaded(data=DATA):
    text = data if isinstance(data, bytes) else dumps(data)
    return tuple(load(side.SimpleKVStore, text) for side in SIDES)


# -- reading does not change what is written --------------------------------------------------


@pytest.mark.parametrize(
    "touch",
    [
        lambda s: None,
        lambda s: s.get("k"),
        lambda s: s.get_all(),
        lambda s: (s.get("k"), s.get("k"), s.get_all("other")),
        lambda s: s.to_dict(),
        lambda s: s._collections_mappings["data"]["m"],
        lambda s: list(s._collections_mappings["data"].values()),
        lambda s: s._get_collection_mapping("data")["k"],
    ],
    ids=["nothing", "get", "get_all", "twice", "to_dict", "view item", "view values", "mapping"],
)
def test_reading_does_not_change_what_is_written(touch):
    for s in loaded():
        touch(s)
        assert persisted(s) == dumps(DATA)
        assert persisted(s) == dumps(DATA)


def test_one_object_from_the_first_read_on():
    for s in loaded():
        first = s.get("k")
        assert s.get("k")["v"] is first["v"]
        assert s.get_all()["k"]["v"] is first["v"]
        assert s.get_all()["k"] is s.get_all()["k"]
        assert s._collections_mappings["data"]["k"] is s.get_all()["k"]
        assert s.to_dict()["data"]["k"] is s.get_all()["k"]


def test_an_object_outlives_its_store_and_is_freed_with_it():
    for side in SIDES:
        s = load(side.SimpleKVStore, dumps(DATA))
        inner = s.get("k")["v"]
        del s
        gc.collect()
        assert inner == [1, {"x": [2]}]

        class Traced(dict):
            def copy(self):
                return self

        s = side.SimpleKVStore()
        value = Traced(a=1)
        ref = weakref.ref(value)
        s.put("k", value)
        del value
        gc.collect()
        assert ref() is not None
        s.delete("k")
        gc.collect()
        assert ref() is None


def test_a_cycle_through_a_store_is_collected():
    for side in SIDES:
        s = side.SimpleKVStore()
        s.put("self", {"store": [s]})
        ref = weakref.ref(s)
        del s
        gc.collect()
        assert ref() is None


def test_changes_reach_the_file_at_any_depth():
    a, b = loaded()
    for change in (
        lambda s: s.get("k")["v"].append(3),
        lambda s: s.get("k")["v"][1]["x"].clear(),
        lambda s: s.get("m")["deep"]["er"]["est"][2][0].update(z="\u00e9"),
        lambda s: s.get_all()["l"].update(new=[1.5]),
        lambda s: s.get_all()["l"]["new"].append(float("nan")),
        lambda s: s.get("k").pop("v"),  # the top level: a copy
        lambda s: s.get_all()["k"].pop("s"),
    ):
        same(change, a, b)
        same_bytes(a, b)
        same_bytes(a, b)


def test_a_change_after_a_persist_is_in_the_next():
    for s in loaded():
        inner = s.get("k")["v"]
        persisted(s)
        inner.append("late")
        assert json.loads(persisted(s))["data"]["k"]["v"][-1] == "late"


def test_a_deleted_values_object_is_let_go():
    a, b = loaded()
    for s in (a, b):
        inner = s.get("k")["v"]
        s.delete("k")
        inner.append("lost")
        s.put("k", {"v": "new"})
        inner.append("lost too")
    same_bytes(a, b)
    for s in (a, b):
        inner = s.get("m")["deep"]
        s.put("m", {"replaced": 1})
        inner["lost"] = 1
    same_bytes(a, b)
    same(lambda s: s.get_all(), a, b)


# -- what put makes of a value ---------------------------------------------------------------

SHARED = [
    {"l": [1, [2, [3]]]},
    {"d": {"x": {"y": {}}}},
    {"t": (1, [2])},
    {"i": {1: [2]}},
    {"m": oracle.Mapped(a=[1])},
    {"s": "text"},
]


@pytest.mark.parametrize("value", SHARED, ids=lambda v: next(iter(v)))
def test_put_shares_what_is_nested(value):
    for side in SIDES:
        s = side.SimpleKVStore()
        mine = clone(value)
        s.put("k", mine)
        name = next(iter(mine))
        assert s.get("k")[name] is mine[name] or isinstance(mine[name], str)
        assert type(s.get("k")[name]) is type(mine[name])
        persisted(s)
        assert type(s.get("k")[name]) is type(mine[name])


def test_a_value_changed_by_its_giver_after_the_put():
    a, b = tuple(side.SimpleKVStore() for side in SIDES)
    givers = []
    for s in (a, b):
        mine = {"flat": 1, "l": [1]}
        s.put("k", mine)
        mine["flat"] = 2
        mine["l"].append(2)
        mine["new"] = 3
        givers.append(mine)
    same_bytes(a, b)
    for mine in givers:
        mine["l"].append(3)
    same_bytes(a, b)
    same(lambda s: s.get("k"), a, b)


@settings(max_examples=oracle.ROUNDS // 2)
@given(oracle.dicts(st.one_of(oracle.scalars, oracle.odd_values, oracle.unjsonable)))
def test_flat_values_come_back_with_their_types(value):
    a, b = tuple(side.SimpleKVStore() for side in SIDES)
    copies = {id(a): clone(value), id(b): clone(value)}
    same(lambda s: s.put("k", copies[id(s)]), a, b)
    same(lambda s: s.get("k"), a, b)
    text = same_bytes(a, b)
    same(lambda s: s.get("k"), a, b)
    same(lambda s: s.get_all(), a, b)
    if not isinstance(text, Raised):
        assert_same(load(oracle.peer.SimpleKVStore, text).get("k"), load(impl.SimpleKVStore, text).get("k"))


@settings(max_examples=oracle.ROUNDS)
@given(
    st.dictionaries(st.sampled_from("abcd"), oracle.dicts(), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abcd"), st.integers(0, 10**9)), max_size=14),
)
def test_random_walks_over_a_loaded_collection(values, steps):
    a, b = loaded({"data": values})
    held = []
    for act, key, seed in steps:
        if act == 0:
            held.append(same(lambda s: s.get(key), a, b))
        elif act == 1:
            held.append(same(lambda s: s.get_all().get(key), a, b))
        elif act == 2 and held:
            for value in held[seed % len(held)]:
                if value is not None:
                    scribble(value, seed)
        elif act == 3:
            same(lambda s: s.delete(key), a, b)
        elif act == 4 and held:
            pair = {id(s): v for s, v in zip((a, b), held[seed % len(held)])}
            same(lambda s: s.put(key, pair[id(s)]), a, b)  # what was handed out goes back in
        elif act == 5:
            text = same_bytes(a, b)
            a, b = loaded(text)
        else:
            same(lambda s: list(s.get_all()), a, b)
        same_bytes(a, b)
    same(lambda s: s.to_dict(), a, b)


# -- internal readers -------------------------------------------------------------------------


def docs_file():
    store = oracle.peer.SimpleDocumentStore()
    store.add_documents([doc("d0", "x"), chunk("n0", "d0", tags=["a"], d={"x": 1}), chunk("n1", "d0"), chunk("n2", None)])
    return persisted(store)


def test_building_nodes_does_not_change_what_is_written():
    text = docs_file()
    for side in SIDES:
        s = load(side.SimpleDocumentStore, text)
        for _ in range(2):
            dict(s.docs)
            s.get_nodes(["n0", "n1"])
            s.get_all_ref_doc_info()
            s.get_all_document_hashes()
            s.document_exists("n0")
            assert persisted(s) == text


def test_two_nodes_of_one_entry_share_nested_metadata():
    for side in SIDES:
        s = load(side.SimpleDocumentStore, docs_file())
        one, two = s.get_document("n0"), s.get_document("n0")
        assert one is not two
        one.metadata["tags"].append("b")
        assert two.metadata["tags"] == ["a", "b"]
        assert s._kvstore.get("n0", "docstore/data")["__data__"]["metadata"]["tags"] == ["a", "b"]


def test_top_level_metadata_of_a_node_is_as_in_the_peer():
    a, b = (load(side.SimpleDocumentStore, docs_file()) for side in SIDES)
    for s in (a, b):
        node = s.get_document("n0")
        node.metadata["top"] = 1
        node.excluded_llm_metadata_keys.append("x")
        node.relationships.clear()
        node.text = "new"
    same(lambda s: s.get_document("n0"), a, b)
    same_bytes(a, b)


def test_relationship_metadata_of_a_node_is_as_in_the_peer():
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

    node = TextNode(
        id_="r",
        text="x",
        embedding=[0.5, 1.5],
        relationships={
            NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d0", metadata={"tags": ["a"]}),
            NodeRelationship.CHILD: [RelatedNodeInfo(node_id="c", metadata={"n": {"m": 1}})],
        },
    )
    store = oracle.peer.SimpleDocumentStore()
    store.add_documents([node])
    text = persisted(store)
    a, b = (load(side.SimpleDocumentStore, text) for side in SIDES)
    for s in (a, b):
        got = s.get_document("r")
        got.relationships[NodeRelationship.SOURCE].metadata["tags"].append("b")
        got.relationships[NodeRelationship.CHILD][0].metadata["n"]["o"] = 2
        got.relationships[NodeRelationship.CHILD][0].metadata["top"] = 2
        got.embedding.append(2.5)
    same(lambda s: s.get_document("r"), a, b)
    same_bytes(a, b)


def test_a_value_read_by_hand_is_what_the_document_store_reads():
    a, b = (load(side.SimpleDocumentStore, docs_file()) for side in SIDES)
    for s in (a, b):
        s._kvstore.get("n0", "docstore/data")["__data__"]["text"] = "by hand"
        s._kvstore.get("n1", "docstore/data")["__data__"]["metadata"] = {"h": [1]}
        s._kvstore.get_all("docstore/metadata")["n0"]["doc_hash"] = "hash by hand"
        s._kvstore.get_all("docstore/metadata")["n1"].pop("ref_doc_id")
    for call in (
        lambda s: s.docs,
        lambda s: s.get_all_document_hashes(),
        lambda s: s.get_document_hash("n0"),
        lambda s: s.delete_document("n1"),
        lambda s: s.get_ref_doc_info("d0"),
        lambda s: s.delete_document("n0"),
        lambda s: s.get_ref_doc_info("d0"),
    ):
        same(call, a, b)
        same_bytes(a, b)


def test_metadata_entries_without_a_hash():
    data = {"docstore/metadata": {"a": {"doc_hash": ""}, "b": {}, "c": {"doc_hash": None}, "d": {"doc_hash": "h", "ref_doc_id": "r"}, "e": {"ref_doc_id": None, "doc_hash": "h"}}}
    a, b = (load(side.SimpleDocumentStore, dumps(data)) for side in SIDES)
    same(lambda s: s.get_all_document_hashes(), a, b)
    for key in "abcde":
        same(lambda s: s.get_document_hash(key), a, b)
        same(lambda s: s.delete_document(key, raise_error=False), a, b)
    same_bytes(a, b)


def test_the_same_entry_through_three_stores():
    text = docs_file()
    kvs = tuple(load(side.SimpleKVStore, text) for side in SIDES)
    for side, kv in zip(SIDES, kvs):
        stores = side.SimpleDocumentStore(kv), side.KVDocumentStore(kv), oracle.raw.KVDocumentStore(kv)
        for i, s in enumerate(stores):
            s.get_document("n0").metadata["tags"].append(i)
            s.get_document("n0").metadata["d"]["x"] = i
            s.get_ref_doc_info("d0").metadata[f"i{i}"] = i
    same_bytes(*kvs)


# -- large and deep ---------------------------------------------------------------------------


def test_many_entries_some_of_them_read():
    data = {"data": {f"k{i}": {"i": i, "l": [i, [i]], "s": f"\u00e9{i}"} for i in range(2000)}}
    a, b = loaded(data)
    for s in (a, b):
        for i in range(0, 2000, 7):
            s.get(f"k{i}")["l"].append("r")
        for i in range(0, 2000, 5):
            s.delete(f"k{i}")
        for i in range(0, 2000, 10):
            s.put(f"k{i}", {"again": i})
    same_bytes(a, b)
    same(lambda s: s.get_all(), a, b)


@pytest.mark.parametrize("depth", [10, 200, 900])
def test_deep_values(depth):
    value = {"leaf": [1]}
    for _ in range(depth // 2):
        value = {"d": [value]}
    a, b = loaded({"data": {"k": value}})
    same_bytes(a, b)
    assert json.dumps(a.get("k")) == json.dumps(b.get("k"))  # comparing by hand would recurse deeper
    same_bytes(a, b)


def test_a_value_of_many_megabytes():
    value = {"text": "x\u00e9\"" * 500_000, "list": list(range(100_000))}
    a, b = loaded({"data": {"k": value, "l": {"v": 1}}})
    same_bytes(a, b)
    same(lambda s: s.get("l"), a, b)
    assert b.get("k") == value
    same_bytes(a, b)
