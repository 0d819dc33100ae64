"""The index stores, every public call, against the peer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Dict, List
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.core.data_structs.data_structs import (
    KG,
    EmptyIndexStruct,
    IndexDict,
    IndexGraph,
    IndexList,
    IndexLPG,
    IndexStruct,
    KeywordTable,
    MultiModelIndexDict,
)
from llama_index.core.data_structs.document_summary import IndexDocumentSummary
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS
from llama_index.core.data_structs.table import PandasStructTable, SQLStructTable
from llama_index.core.storage.index_store.keyval_index_store import KVIndexStore
from llama_index.core.storage.index_store.simple_index_store import SimpleIndexStore
from llama_index.core.storage.index_store.types import BaseIndexStore

import oracle
from oracle import (
    SIDES,
    LoggingKV,
    Raised,
    assert_same,
    chunk,
    dumps,
    impl,
    load,
    outcome,
    peer,
    persisted,
    raw,
    same,
    same_bytes,
)

# dataclasses-json tells of odd values by warnings; the peer's are as many as ours.
pytestmark = pytest.mark.filterwarnings("ignore:.*detected when decoding:RuntimeWarning")

STRUCTS = {
    "tree": IndexGraph(
        index_id="tree", summary="s", all_nodes={0: "a", 5: "b"}, root_nodes={5: "b"}, node_id_to_children_ids={"b": ["a"]}
    ),
    "keyword": KeywordTable(index_id="keyword", table={"w": {"a", "b", "c"}, "\u00e9": set()}),
    "list": IndexList(index_id="list", nodes=["a", "b", "a"]),
    "lpg": IndexLPG(index_id="lpg"),
    "vector": IndexDict(index_id="vector", nodes_dict={"v": "a", "w": "b"}, doc_id_dict={"d": ["a"]}, embeddings_dict={"a": [0.1, 1e16]}),
    "multi": MultiModelIndexDict(index_id="multi", nodes_dict={"v": "a"}),
    "kg": KG(index_id="kg", table={"k": {"a", "b"}}, rel_map={"s": [["p", "o"]]}, embedding_dict={"t": [0.5]}),
    "empty": EmptyIndexStruct(index_id="empty"),
    "summary": IndexDocumentSummary(
        index_id="summary", summary_id_to_node_ids={"s": ["a"]}, node_id_to_summary_id={"a": "s"}, doc_id_to_summary_id={"d": "s"}
    ),
    "sql": SQLStructTable(index_id="sql", context_dict={"t": "c"}),
    "pandas": PandasStructTable(index_id="pandas"),
}


def fresh(*names):
    pair = tuple(side.SimpleIndexStore() for side in SIDES)
    for store in pair:
        for name in names:
            store.add_index_struct(STRUCTS[name])
    return pair


def loaded(*names):
    text = persisted(fresh(*names)[0])
    return tuple(load(side.SimpleIndexStore, text) for side in SIDES)


@pytest.fixture(params=[fresh, loaded], ids=["fresh", "loaded"])
def make(request):
    return request.param


def test_is_accepted_where_the_peers_stores_are():
    store = impl.SimpleIndexStore()
    assert isinstance(store, SimpleIndexStore) and isinstance(store, KVIndexStore) and isinstance(store, BaseIndexStore)
    assert isinstance(impl.KVIndexStore(impl.SimpleKVStore()), KVIndexStore)
    assert isinstance(store._kvstore, impl.SimpleKVStore)
    assert bool(store) and not hasattr(type(store), "__len__")


def test_names_that_callers_reach_for():
    for build in (
        lambda s: s.SimpleIndexStore(),
        lambda s: s.KVIndexStore(s.SimpleKVStore(), namespace="ns"),
        lambda s: s.KVIndexStore(s.SimpleKVStore(), "ns", "/suffix"),
        lambda s: s.KVIndexStore(s.SimpleKVStore(), namespace="", collection_suffix=""),
    ):
        a, b = (build(side) for side in SIDES)
        for name in ("_namespace", "_collection", "_collection_suffix"):
            assert_same(getattr(a, name), getattr(b, name))
        same(lambda s: s.add_index_struct(STRUCTS["list"]), a, b)
        same_bytes(a._kvstore, b._kvstore)


@pytest.mark.parametrize("name", STRUCTS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_type(make, name, asynchronous):
    a, b = make()
    add, get, every, delete = (
        ("async_add_index_struct", "aget_index_struct", "async_index_structs", "adelete_index_struct")
        if asynchronous
        else ("add_index_struct", "get_index_struct", "index_structs", "delete_index_struct")
    )
    same(lambda s: getattr(s, add)(STRUCTS[name]), a, b)
    same_bytes(a, b)
    got, ours = same(lambda s: getattr(s, get)(name), a, b)
    assert type(ours) is type(STRUCTS[name])
    assert ours == got
    same(lambda s: getattr(s, every)(), a, b)
    same(lambda s: s._kvstore.get(name, s._collection), a, b)
    same_bytes(a, b)
    a, b = (load(side.SimpleIndexStore, persisted(b)) for side in SIDES)
    same(lambda s: getattr(s, get)(name), a, b)
    same(lambda s: getattr(s, get)(), a, b)
    same(lambda s: getattr(s, delete)(name), a, b)
    same(lambda s: getattr(s, delete)(name), a, b)
    same(lambda s: getattr(s, get)(name), a, b)
    same_bytes(a, b)


def test_all_types_together(make):
    a, b = make(*STRUCTS)
    same(lambda s: s.index_structs(), a, b)
    same_bytes(a, b)
    for name in ("vector", "kg", "tree"):
        same(lambda s: s.delete_index_struct(name), a, b)
        same(lambda s: s.add_index_struct(STRUCTS[name]), a, b)
        same_bytes(a, b)
    same(lambda s: [x.index_id for x in s.index_structs()], a, b)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_no_id_means_the_only_struct(make, asynchronous):
    get = "aget_index_struct" if asynchronous else "get_index_struct"
    for names in ([], ["vector"], ["vector", "list"]):
        a, b = make(*names)
        expected, got = same(lambda s: getattr(s, get)(), a, b)
        assert isinstance(got, Raised) == (len(names) != 1)
        if isinstance(got, Raised):
            assert type(got.exc) is AssertionError
        same(lambda s: getattr(s, get)(None), a, b)
        same(lambda s: getattr(s, get)(struct_id=None), a, b)


def test_a_missing_id_is_none(make):
    a, b = make("vector")
    for key in ("missing", "", 5, ("t",)):
        assert same(lambda s: s.get_index_struct(key), a, b) == (None, None)
        assert same(lambda s: s.aget_index_struct(key), a, b) == (None, None)
        same(lambda s: s.delete_index_struct(key), a, b)
    same_bytes(a, b)


def test_collections_appear_when_the_peers_do():
    for call in (
        lambda s: s.get_index_struct("x"),
        lambda s: s.get_index_struct(),
        lambda s: s.index_structs(),
        lambda s: s.delete_index_struct("x"),
    ):
        a, b = fresh()
        same(call, a, b)
        same_bytes(a, b)


def test_structs_come_back_fresh(make):
    for store in make("vector", "keyword"):
        one, two = store.get_index_struct("vector"), store.get_index_struct("vector")
        assert one is not two
        one.nodes_dict["new"] = "x"
        store.index_structs()[0].nodes_dict.clear()
        assert store.get_index_struct("vector").nodes_dict == {"v": "a", "w": "b"}
        table = store.get_index_struct("keyword").table
        assert all(type(v) is set for v in table.values())
        table["w"].add("zzz")
        assert store.get_index_struct("keyword").table["w"] == {"a", "b", "c"}


def test_add_takes_a_snapshot():
    for side in SIDES:
        store = side.SimpleIndexStore()
        struct = IndexDict(index_id="i")
        store.add_index_struct(struct)
        struct.nodes_dict["later"] = "x"
        assert store.get_index_struct("i").nodes_dict == {}


def test_re_adding_a_struct_that_grew():
    a, b = fresh()
    for struct, grow in (
        (IndexDict(index_id="v"), lambda s, i: s.add_node(chunk(f"n{i}", None))),
        (IndexList(index_id="l"), lambda s, i: s.add_node(chunk(f"n{i}", None))),
        (KeywordTable(index_id="k"), lambda s, i: s.add_node([f"w{i % 3}", "all"], chunk(f"n{i}", None))),
        (IndexGraph(index_id="t"), lambda s, i: s.insert(chunk(f"n{i}", None), children_nodes=[chunk("c", None)] * (i % 2))),
        (KG(index_id="g"), lambda s, i: s.add_node([f"w{i % 2}"], chunk(f"n{i}", None))),
        (IndexDocumentSummary(index_id="d"), lambda s, i: s.add_summary_and_nodes(chunk(f"s{i}", f"d{i}"), [chunk(f"n{i}", None)])),
    ):
        for i in range(12):
            grow(struct, i)
            same(lambda s: s.add_index_struct(struct), a, b)
            same_bytes(a, b)
            if i % 4 == 3:
                same(lambda s: s.get_index_struct(struct.index_id), a, b)
    # shrinking, changing in place, reordering
    struct = IndexDict(index_id="v", nodes_dict={f"n{i}": f"n{i}" for i in range(6)})
    for change in (
        lambda: None,
        lambda: struct.delete("n3"),
        lambda: struct.nodes_dict.__setitem__("n0", "other"),
        lambda: struct.nodes_dict.__setitem__("n3", "back at the end"),
        lambda: setattr(struct, "nodes_dict", dict(reversed(struct.nodes_dict.items()))),
        lambda: setattr(struct, "summary", "now with \ud83d"),
        lambda: struct.nodes_dict.clear(),
        lambda: struct.doc_id_dict.__setitem__("d", ["x"]),
        lambda: struct.embeddings_dict.__setitem__("d", [float("nan"), -0.0, 1]),
    ):
        change()
        same(lambda s: s.add_index_struct(struct), a, b)
        same_bytes(a, b)
        same(lambda s: s.get_index_struct("v"), a, b)


def test_re_adding_under_another_type():
    a, b = fresh("vector")
    for struct in (IndexList(index_id="vector", nodes=["x"]), MultiModelIndexDict(index_id="vector"), KG(index_id="vector")):
        same(lambda s: s.add_index_struct(struct), a, b)
        same_bytes(a, b)
        same(lambda s: s.get_index_struct("vector"), a, b)


ODD_STRUCTS = [
    lambda: IndexDict(index_id="o", nodes_dict={1: "int key", None: "none"}),
    lambda: IndexDict(index_id="o", nodes_dict={"a": 5, "b": None, "c": ["x"]}),
    lambda: IndexDict(index_id="o", nodes_dict={"a": ("t",)}),
    lambda: IndexDict(index_id="o", summary=5),
    lambda: IndexDict(index_id=7),
    lambda: IndexDict(index_id=None),
    lambda: IndexDict(index_id="o", nodes_dict=None),
    lambda: IndexDict(index_id="o", nodes_dict={"a": b"bytes"}),
    lambda: IndexDict(index_id="o", nodes_dict={oracle.Text("sub"): oracle.Colour.RED}),
    lambda: IndexDict(index_id="o", embeddings_dict={"a": ["not", "floats"]}),
    lambda: IndexList(index_id="o", nodes=("tuple", "of", "ids")),
    lambda: IndexList(index_id="o", nodes={"a"}),
    lambda: IndexGraph(index_id="o", all_nodes={"3": "str key", 2: "int key", True: "bool key"}),
    lambda: IndexGraph(index_id="o", all_nodes={2**70: "big"}, root_nodes={-1: "neg"}),
    lambda: KeywordTable(index_id="o", table={"w": ["a", "list"]}),
    lambda: KeywordTable(index_id="o", table={"w": {1}}),
    lambda: KG(index_id="o", rel_map={"s": [["a", "b", "c"]]}),
    lambda: IndexList(index_id=["unhashable"]),
    lambda: "no struct",
    lambda: None,
]


@pytest.mark.parametrize("build", ODD_STRUCTS, ids=range(len(ODD_STRUCTS)))
def test_odd_structs(build):
    a, b = fresh("vector")
    struct = build()
    same(lambda s: s.add_index_struct(struct), a, b)
    same_bytes(a, b)
    same(lambda s: s.index_structs(), a, b)
    key = getattr(struct, "index_id", "o")
    same(lambda s: s.get_index_struct(key), a, b)
    text = same_bytes(a, b)
    if not isinstance(text, Raised):
        same(lambda s: s.index_structs(), *(load(side.SimpleIndexStore, text) for side in SIDES))


def test_attributes_that_are_no_fields_are_not_stored():
    a, b = fresh()
    struct = IndexDict(index_id="i")
    struct.extra = {"x": 1}
    same(lambda s: s.add_index_struct(struct), a, b)
    same_bytes(a, b)


# -- what may lie in a file -----------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        {"__type__": "vector_store", "__data__": {"index_id": "i", "summary": None, "nodes_dict": {"a": "b"}}},
        {"__type__": "vector_store", "__data__": '{"index_id": "i"}'},
        {"__type__": "vector_store", "__data__": '{ "index_id":"i",\n"nodes_dict":{"a":"b"} }'},
        {"__type__": "vector_store", "__data__": '{"index_id": "i", "unknown": 1, "nodes_dict": {"a": "b", "a": "c"}}'},
        {"__type__": "vector_store", "__data__": '{"index_id": "i", "nodes_dict": null}'},
        {"__type__": "vector_store", "__data__": '{"index_id": "i", "nodes_dict": {"a": 5, "b": null}}'},
        {"__type__": "vector_store", "__data__": '{"index_id": "i", "nodes_dict": []}'},
        {"__type__": "vector_store", "__data__": '{"index_id": "i", "embeddings_dict": {"a": [1, "2", NaN]}}'},
        {"__type__": "vector_store", "__data__": '{"index_id": "\\ud83d", "summary": "\\u0041"}'},
        {"__type__": "vector_store", "__data__": "{}"},
        {"__type__": "vector_store", "__data__": "not json"},
        {"__type__": "vector_store", "__data__": "[]"},
        {"__type__": "vector_store", "__data__": "null"},
        {"__type__": "vector_store", "__data__": None},
        {"__type__": "vector_store", "__data__": 5},
        {"__type__": "simple_dict", "__data__": '{"index_id": "i"}'},
        {"__type__": "nonsense", "__data__": '{"index_id": "i"}'},
        {"__type__": None, "__data__": '{"index_id": "i"}'},
        {"__type__": "list", "__data__": '{"index_id": "i", "nodes": ["a", 1]}'},
        {"__type__": "list", "__data__": {"index_id": "i", "nodes": ["a"]}},
        {"__type__": "tree", "__data__": '{"index_id": "i", "all_nodes": {"0": "a", "x": "b"}}'},
        {"__type__": "tree", "__data__": '{"index_id": "i", "all_nodes": {"0": "a"}, "root_nodes": {"0": "a", " 1 ": "b"}}'},
        {"__type__": "keyword_table", "__data__": '{"index_id": "i", "table": {"w": ["a", "a", "b"]}}'},
        {"__type__": "keyword_table", "__data__": {"index_id": "i", "table": {"w": ["a"]}}},
        {"__type__": "keyword_table", "__data__": '{"index_id": "i", "table": {"w": "abc"}}'},
        {"__type__": "kg", "__data__": '{"index_id": "i", "table": {"w": ["a"]}, "rel_map": {"s": [["p", "o"]]}}'},
        {"__type__": "multimodal", "__data__": '{"index_id": "i"}'},
        {"__type__": "composite", "__data__": '{"index_id": "i"}'},
        {"__data__": '{"index_id": "i"}'},
        {"__type__": "list"},
        {},
        {"__type__": "list", "__data__": '{"index_id": "i"}', "more": 1},
    ],
    ids=lambda e: ascii(e)[:60],
)
def test_entries_of_every_kind(entry):
    text = dumps({"index_store/data": {"i": entry, "ok": {"__type__": "list", "__data__": '{"index_id": "ok", "nodes": ["a"]}'}}})
    a, b = (load(side.SimpleIndexStore, text) for side in SIDES)
    for call in (
        lambda s: s.get_index_struct("i"),
        lambda s: s.get_index_struct("ok"),
        lambda s: s.index_structs(),
        lambda s: s.get_index_struct(),
        lambda s: s._kvstore.get("i", "index_store/data"),
        lambda s: s.get_index_struct("i"),
    ):
        same(call, a, b)
        same_bytes(a, b)


def test_an_unknown_type_is_a_key_error():
    b = load(impl.SimpleIndexStore, dumps({"index_store/data": {"i": {"__type__": "XYZ", "__data__": "{}"}}}))
    with pytest.raises(KeyError):
        b.get_index_struct("i")


def test_the_envelope_is_a_string_inside_json():
    store = fresh("list")[1]
    data = json.loads(persisted(store))
    assert data == {
        "index_store/data": {
            "list": {"__type__": "list", "__data__": '{"index_id": "list", "summary": null, "nodes": ["a", "b", "a"]}'}
        }
    }


def test_raw_values_and_their_mutation(make):
    a, b = make("vector", "list")
    for store in (a, b):
        value = store._kvstore.get("vector", store._collection)
        value["__data__"] = "lost: the top level is a copy"
        everything = store._kvstore.get_all(store._collection)
        everything["list"]["__data__"] = '{"index_id": "list", "nodes": ["changed"]}'
    same(lambda s: s.index_structs(), a, b)
    same_bytes(a, b)
    for store in (a, b):
        store._kvstore.put("dict", {"__type__": "list", "__data__": {"index_id": "dict", "nodes": ["n"]}}, store._collection)
        store._kvstore.get("dict", store._collection)["__data__"]["nodes"].append("m")
    same(lambda s: s.get_index_struct("dict"), a, b)
    same_bytes(a, b)


# -- the user's own types ---------------------------------------------------------------------


@dataclass
class Tagged(IndexDict):
    """A subclass that adds a field under its parent's type."""

    tags: List[str] = field(default_factory=list)


@dataclass
class Custom(IndexStruct):
    weights: Dict[str, float] = field(default_factory=dict)

    @classmethod
    def get_type(cls):
        return "custom_type"


@dataclass
class Loud(IndexList):
    def to_json(self, **kwargs):
        return super().to_json(**kwargs).upper()


def test_a_subclass_of_a_struct(make):
    a, b = make("vector")
    for struct in (
        Tagged(index_id="t", nodes_dict={"a": "b"}, tags=["x", "\u00e9"]),
        Loud(index_id="loud", nodes=["a"]),
    ):
        same(lambda s: s.add_index_struct(struct), a, b)
        same_bytes(a, b)
    same(lambda s: s.get_index_struct("t"), a, b)
    same(lambda s: s.get_index_struct("loud"), a, b)


def test_a_type_of_the_users_own(make, monkeypatch):
    a, b = make("vector")
    struct = Custom(index_id="c", weights={"a": 0.1})
    same(lambda s: s.add_index_struct(struct), a, b)
    same_bytes(a, b)
    same(lambda s: s.get_index_struct("c"), a, b)
    same(lambda s: s.index_structs(), a, b)
    monkeypatch.setitem(INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS, "custom_type", Custom)
    got, _ = same(lambda s: s.get_index_struct("c"), a, b)
    assert got == struct
    monkeypatch.setitem(INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS, "vector_store", Tagged)
    _, got = same(lambda s: s.get_index_struct("vector"), a, b)
    assert type(got) is Tagged
    same_bytes(a, b)


def test_the_peers_class_may_be_changed(monkeypatch):
    """A fast path must notice that the installed class is not what it was built for."""
    a, b = fresh("list", "vector")
    monkeypatch.setattr(IndexList, "to_json", lambda self, **kw: '{"index_id": "list", "nodes": ["patched"]}')
    same(lambda s: s.add_index_struct(STRUCTS["list"]), a, b)
    same_bytes(a, b)
    same(lambda s: s.get_index_struct("list"), a, b)
    monkeypatch.setattr(IndexDict, "from_json", classmethod(lambda cls, text, **kw: cls(index_id="patched")))
    same(lambda s: s.get_index_struct("vector"), a, b)


# -- stores below and beside -------------------------------------------------------------------


def test_a_users_own_kv_store_below_ours():
    kvs = LoggingKV(), LoggingKV()
    a, b = (side.KVIndexStore(kv) for side, kv in zip(SIDES, kvs))
    for call in (
        lambda s: s.add_index_struct(STRUCTS["vector"]),
        lambda s: s.async_add_index_struct(STRUCTS["kg"]),
        lambda s: s.index_structs(),
        lambda s: s.get_index_struct("vector"),
        lambda s: s.aget_index_struct("kg"),
        lambda s: s.get_index_struct(),
        lambda s: s.delete_index_struct("vector"),
        lambda s: s.adelete_index_struct("nothing"),
        lambda s: s.get_index_struct(),
    ):
        same(call, a, b)
        assert_same(kvs[0].log, kvs[1].log)
        assert_same(kvs[0].inner.to_dict(), kvs[1].inner.to_dict())


def test_our_kv_store_below_the_peers_index_store():
    kvs = peer.SimpleKVStore(), impl.SimpleKVStore()
    a, b = (raw.KVIndexStore(kv) for kv in kvs)
    for struct in STRUCTS.values():
        same(lambda s: s.add_index_struct(struct), a, b)
    same(lambda s: s.index_structs(), a, b)
    same_bytes(*kvs)


def test_a_subclass_of_the_store_sees_its_own_methods():
    for side in SIDES:
        seen = []

        class Mine(side.SimpleIndexStore):
            def index_structs(self):
                seen.append("index_structs")
                return super().index_structs()

        store = Mine()
        store.add_index_struct(STRUCTS["vector"])
        assert store.get_index_struct().index_id == "vector"
        assert seen == ["index_structs"]


@pytest.mark.parametrize("on_class", [False, True])
@pytest.mark.parametrize("name", ["put", "get", "get_all", "delete"])
def test_replaced_methods_of_the_kv_store_are_called(name, on_class):
    logs = []
    for side in SIDES:
        store = side.SimpleIndexStore()
        store.add_index_struct(STRUCTS["list"])
        target = type(store._kvstore) if on_class else store._kvstore
        its, log = getattr(target, name), []
        with mock.patch.object(target, name, lambda *args, **kwargs: (log.append(name), its(*args, **kwargs))[1]):
            store.add_index_struct(STRUCTS["vector"])
            store.get_index_struct("vector"), store.index_structs(), store.delete_index_struct("vector")
        logs.append(log)
    assert_same(*logs)


@pytest.mark.parametrize("on_class", [False, True])
@pytest.mark.parametrize("name", ["aput", "aget", "aget_all", "adelete", "get_all"])
def test_replaced_async_methods_of_the_kv_store_are_awaited(name, on_class):
    logs = []
    for side in SIDES:
        store, empty = side.SimpleIndexStore(), side.SimpleIndexStore()
        store.add_index_struct(STRUCTS["list"])
        target = type(store._kvstore) if on_class else store._kvstore
        its, log = getattr(target, name), []
        with mock.patch.object(target, name, lambda *args, **kwargs: (log.append(name), its(*args, **kwargs))[1]):
            for call in (
                store.async_add_index_struct(STRUCTS["vector"]),
                store.aget_index_struct("vector"),
                store.async_index_structs(),
                empty.async_index_structs(),
                store.adelete_index_struct("vector"),
            ):
                oracle.run(call)
            empty.index_structs()
        logs.append(log)
    assert logs[0]
    assert_same(*logs)


@pytest.mark.parametrize("name", ["add_index_struct", "get_index_struct", "index_structs"])
def test_async_methods_call_no_sync_ones(name):
    for side in SIDES:
        store = side.SimpleIndexStore()
        with mock.patch.object(store, name, None):
            oracle.run(store.async_add_index_struct(STRUCTS["vector"]))
            assert oracle.run(store.aget_index_struct("vector")) == STRUCTS["vector"]
            assert oracle.run(store.aget_index_struct()) == STRUCTS["vector"]


# -- persisting ------------------------------------------------------------------------------


def test_persist_and_load_on_disk(tmp_path):
    a, b = fresh(*STRUCTS)
    for s, name in ((a, "a"), (b, "b")):
        s.persist(str(tmp_path / name / "index_store.json"))
    files = oracle.tree(tmp_path)
    assert files["a/index_store.json"] == files["b/index_store.json"]
    same(
        lambda s: s.index_structs(),
        peer.SimpleIndexStore.from_persist_dir(str(tmp_path / "b")),
        impl.SimpleIndexStore.from_persist_dir(str(tmp_path / "a")),
    )
    a, b = (outcome(side.SimpleIndexStore.from_persist_dir, str(tmp_path / "nowhere")) for side in SIDES)
    assert type(a.exc) is type(b.exc) is FileNotFoundError


def test_to_dict_and_from_dict():
    for side in SIDES:
        store = side.SimpleIndexStore()
        store.add_index_struct(STRUCTS["vector"])
        out = store.to_dict()
        other = side.SimpleIndexStore.from_dict(out)
        other.add_index_struct(STRUCTS["list"])
        assert [s.index_id for s in store.index_structs()] == ["vector", "list"]
        out["index_store/data"].pop("vector")
        assert [s.index_id for s in other.index_structs()] == ["list"]
    same(lambda s: s.to_dict(), *fresh(*STRUCTS))
    a, b = (outcome(lambda s=side: s.SimpleIndexStore(raw.SimpleKVStore()).to_dict()) for side in SIDES)
    assert_same(a, b)


@settings(max_examples=oracle.ROUNDS)
@given(st.lists(st.tuples(oracle.structs(), st.sampled_from(["add", "add", "delete", "get", "load"])), max_size=8))
def test_random_structs(steps):
    a, b = fresh()
    for struct, act in steps:
        if act == "add":
            same(lambda s: s.add_index_struct(struct), a, b)
        elif act == "delete":
            same(lambda s: s.delete_index_struct(struct.index_id), a, b)
        elif act == "get":
            same(lambda s: s.get_index_struct(struct.index_id), a, b)
        else:
            text = persisted(a)
            a, b = (load(side.SimpleIndexStore, text) for side in SIDES)
        same_bytes(a, b)
    same(lambda s: s.index_structs(), a, b)
    same_bytes(a, b)
    same(lambda s: s.async_index_structs(), a, b)
