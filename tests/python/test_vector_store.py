"""pannier's vector store: what the random comparison (test_vector_oracle.py) does not
reach. Expected values come from LlamaIndex wherever it has one."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime
import gc
import json
import math
import os
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from typing import Any, Dict, List

import fsspec
import numpy as np
import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import simple as peer_module
from llama_index.core.vector_stores.simple import SimpleVectorStore as Peer
from llama_index.core.vector_stores.simple import SimpleVectorStoreData
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

from pannier import vector_store
from pannier.errors import CorruptStoreError, NamespaceError, UnserializableError
from pannier.vector_store import NativeVectorData, SimpleVectorStore

MESSAGE = "No existing llama_index.core.vector_stores.simple found at"


def node(ident: str, embedding: List[float], doc: str = "d", **metadata: Any) -> TextNode:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=doc)}
    return TextNode(id_=ident, text="t", embedding=embedding, metadata=metadata, relationships=source)


def nodes(n: int = 6) -> List[TextNode]:
    return [node(f"n{i}", [1.0, float(i), 0.5], f"d{i % 2}", i=i, tags=["a", i]) for i in range(n)]


def filled(n: int = 6) -> SimpleVectorStore:
    store = SimpleVectorStore()
    store.add(nodes(n))
    return store


def peer_filled(n: int = 6) -> Peer:
    store = Peer()
    store.add(nodes(n))
    return store


def ask(store: Any, embedding: List[float], k: int = 3, **kwargs: Any) -> Any:
    result = store.query(VectorStoreQuery(query_embedding=embedding, similarity_top_k=k, **kwargs))
    return result.similarities, result.ids


def is_native(store: SimpleVectorStore) -> bool:
    return type(store.data) is NativeVectorData


# ----- identity -----


def test_is_the_peers_class() -> None:
    store = SimpleVectorStore()
    assert isinstance(store, Peer)
    assert store.class_name() == "SimpleVectorStore"
    assert store.stores_text is False and store.is_embedding_query is True and store.client is None
    assert store._data is store.data
    assert bool(store) and not hasattr(store, "__len__")
    with pytest.raises(ValueError):
        store.anything = 1  # type: ignore[attr-defined]
    with pytest.raises(NotImplementedError, match="SimpleVectorStore does not store nodes directly."):
        store.get_nodes()


def test_stays_native_through_ordinary_use() -> None:
    store = filled()
    ask(store, [1.0, 2.0, 3.0])
    store.delete("d1")
    store.delete_nodes(["n0"])
    store.data.metadata_dict["n2"]["x"] = 1
    assert is_native(store)


# ----- the dictionaries -----


def test_mappings_are_live_and_like_dicts() -> None:
    store, peer = filled(), peer_filled()
    for name in ("embedding_dict", "text_id_to_ref_doc_id", "metadata_dict"):
        mine, theirs = getattr(store.data, name), getattr(peer.data, name)
        assert getattr(store.data, name) is mine
        assert mine == theirs and theirs == mine and dict(mine) == theirs
        assert repr(mine) == repr(theirs) and len(mine) == len(theirs)
        assert list(mine) == list(theirs) and list(reversed(mine)) == list(reversed(theirs))
        assert mine.copy() == theirs and type(mine.copy()) is dict
        assert (mine | {"z": 1}) == (theirs | {"z": 1}) and ({"z": 1} | mine) == ({"z": 1} | theirs)
        assert "n1" in mine and "zz" not in mine and mine.get("zz") is None
        assert list(mine.items()) == list(theirs.items())
        assert copy.deepcopy(mine) == theirs
        with pytest.raises(KeyError, match="zz"):
            mine["zz"]
        with pytest.raises(TypeError, match="unhashable"):
            mine[[]]
        assert mine.popitem() == theirs.popitem()
        assert mine.pop("n0") == theirs.pop("n0")
        mine.update(other=theirs["n1"])
        theirs.update(other=theirs["n1"])
        assert mine == theirs
    assert is_native(store)


def test_changing_size_while_iterating_raises() -> None:
    store = filled()
    with pytest.raises(RuntimeError, match="dictionary changed size during iteration"):
        for key in store.data.embedding_dict:
            del store.data.embedding_dict[key]


def test_metadata_is_the_stored_dict() -> None:
    store, peer = filled(), peer_filled()
    for s in (store, peer):
        s.data.metadata_dict["n1"]["tags"].append("new")
        assert s.data.metadata_dict["n1"]["tags"] == ["a", 1, "new"]
        assert s.data.metadata_dict["n1"] is s.data.metadata_dict["n1"]
    assert store.to_dict() == peer.to_dict()


@pytest.mark.parametrize("odd", [[1, 2, 3], np.array([1.0, 2.0, 3.0]), None, [[1.0]], (1.0, 2.0), "x", [np.float64(1)]])
def test_odd_embeddings_surrender(odd: Any) -> None:
    store, peer = filled(), peer_filled()
    rows, metas = store.data.embedding_dict, store.data.metadata_dict
    live = metas["n2"]
    for s in (store, peer):
        s.data.embedding_dict["odd"] = odd
    assert type(store.data) is SimpleVectorStoreData and type(store.data.embedding_dict) is dict
    assert store.data.embedding_dict["odd"] is odd
    assert rows["odd"] is odd and store.data.metadata_dict["n2"] is live and metas["n2"] is live
    rows["later"] = [1.0, 2.0, 3.0]
    assert "later" in store.data.embedding_dict
    assert list(store.data.embedding_dict)[:-1] == list(peer.data.embedding_dict)


def test_assigning_a_dictionary_surrenders() -> None:
    store = filled()
    before = store.data.metadata_dict
    mine: Dict[str, Any] = {"n0": {"a": 1}}
    store.data.metadata_dict = mine
    assert store.data.metadata_dict is mine and type(store.data) is SimpleVectorStoreData
    assert len(before) == 6  # what was handed out shows what it showed
    before["x"] = {}
    assert "x" not in mine
    store.data.text_id_to_ref_doc_id["n0"] = "q"
    assert ask(store, [1.0, 0.0, 0.0], 1)[1] == ["n0"]


def test_in_place_union_keeps_the_table() -> None:
    store = filled()
    store.data.metadata_dict |= {"n1": {"b": 2}}
    assert is_native(store) and store.data.metadata_dict["n1"] == {"b": 2}


def test_assigned_data_is_used_as_it_is() -> None:
    data = SimpleVectorStoreData({"a": [1, 2]}, {"a": "d"}, {"a": {}})
    store = SimpleVectorStore(data)
    assert store.data is data
    store = filled()
    store.data = data
    assert store.get("a") is data.embedding_dict["a"]
    store.add([node("b", [1.0, 2.0])])
    assert "b" in data.embedding_dict
    store.delete("d")
    assert not data.embedding_dict
    store.clear()
    assert is_native(store) and store.data == SimpleVectorStoreData()


def test_data_object_hooks() -> None:
    store, peer = filled(), peer_filled()
    assert store.data == peer.data and peer.data == store.data and repr(store.data) == repr(peer.data)
    assert store.data != SimpleVectorStoreData() and store.data != 5
    assert store.data.to_dict() == peer.data.to_dict() and store.data.to_json() == peer.data.to_json()
    assert dataclasses.asdict(store.data) == dataclasses.asdict(peer.data)
    assert store.model_dump() == peer.model_dump() and store.model_dump_json() == peer.model_dump_json()
    assert store.to_json() == peer.to_json() and repr(store) == repr(peer) and store.dict() == peer.dict()
    replaced = dataclasses.replace(store.data, metadata_dict={})
    assert type(replaced) is SimpleVectorStoreData and replaced.metadata_dict == {}
    assert is_native(store)


def test_dumps_are_deep_and_do_not_touch_the_store() -> None:
    store = filled()
    dumped = store.to_dict()
    dumped["metadata_dict"]["n1"]["i"] = 99
    dumped["embedding_dict"]["n1"][0] = 99.0
    assert store.data.metadata_dict["n1"]["i"] == 1 and store.get("n1")[0] == 1.0
    assert [key for key, _ in filled().data._table.live()] == []
    fresh = filled()
    repr(fresh), fresh == filled(), fresh.to_dict(), fresh.model_dump(), fresh._pn_encode()
    assert fresh.data._table.live() == []  # none of these made metadata live


def test_copies() -> None:
    store = filled()
    store.data.metadata_dict["n0"]["when"] = when = datetime.datetime(2020, 1, 1)
    for other in (copy.deepcopy(store), pickle.loads(pickle.dumps(store)), store.model_copy(deep=True)):
        assert type(other) is SimpleVectorStore and is_native(other)
        assert other.data == store.data and other.data.metadata_dict["n0"]["when"] == when
        other.data.metadata_dict["n1"]["i"] = 42
        other.delete("d1")
        assert store.data.metadata_dict["n1"]["i"] == 1
    assert copy.copy(store).data is store.data
    shallow = copy.copy(store.data)
    shallow.embedding_dict["x"] = [1.0]
    assert store.get("x") == [1.0]  # the dictionaries are shared, as in LlamaIndex


def test_unpickles_in_another_process() -> None:
    code = "import pickle, sys; s = pickle.load(sys.stdin.buffer); print(type(s.data).__name__, s.get('n1'), s.data.metadata_dict['n1']['i'])"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(filled()), capture_output=True, check=True)
    assert done.stdout.decode().split(None, 1) == ["NativeVectorData", "[1.0, 1.0, 0.5] 1\n"]


def test_takes_the_peers_state() -> None:
    peer = peer_filled()
    store = SimpleVectorStore.__new__(SimpleVectorStore)
    store.__setstate__(peer.__getstate__())
    assert store.data == peer.data and ask(store, [1.0, 2.0, 3.0]) == ask(peer, [1.0, 2.0, 3.0])


def test_cycles_through_metadata_are_collected() -> None:
    class Marker:
        pass

    store = filled()
    marker = Marker()
    gone = weakref.ref(marker)
    store.data.metadata_dict["n0"]["self"] = [store, marker]
    del store, marker
    gc.collect()
    assert gone() is None


# ----- adding -----


def test_nodes_before_a_bad_one_are_stored() -> None:
    stores = SimpleVectorStore(), Peer()
    for store in stores:
        with pytest.raises(ValueError, match="embedding not set."):
            store.add([*nodes(2), TextNode(id_="bad", text="t"), node("after", [1.0, 2.0, 3.0])])
    assert stores[0].data == stores[1].data and len(stores[0].data.embedding_dict) == 2


@pytest.mark.parametrize("make", [tuple, iter, lambda x: (n for n in x)])
def test_any_iterable_of_nodes(make: Any) -> None:
    a, b = SimpleVectorStore(), Peer()
    assert a.add(make(nodes())) == b.add(make(nodes()))
    assert a.data == b.data


def test_subclasses_of_node_classes_take_the_peers_path() -> None:
    class Mine(TextNode):
        extra: int = 5

        @classmethod
        def class_name(cls) -> str:
            return "Mine"

    a, b = SimpleVectorStore(), Peer()
    for s in (a, b):
        s.add([Mine(id_="x", text="t", embedding=[1.0, 2.0], metadata={"when": datetime.date(2020, 1, 2)})])
    assert a.data == b.data and a.data.metadata_dict["x"]["when"] == "2020-01-02"


def test_added_metadata_is_kept_as_text() -> None:
    store = filled()
    store.add([node("nan", [1.0, 2.0, 3.0], x=float("nan")), node("t", [1.0, 2.0, 3.0], when=datetime.date(2020, 1, 2))])
    assert store.data._table.live() == []


# ----- queries -----


def test_five_ties() -> None:
    for cls in (SimpleVectorStore, Peer):
        store = cls()
        store.add([node(f"n{i}", [1.0, 1.0]) for i in range(5)])
        assert ask(store, [1.0, 1.0])[1] == ["n2", "n3", "n4"]


def test_similarities_are_numpy_floats() -> None:
    similarities, ids = ask(filled(), [1.0, 2.0, 3.0])
    assert all(type(s) is np.float64 for s in similarities) and all(type(i) is str for i in ids)


def test_zero_vectors_warn_as_in_the_peer() -> None:
    for store in (filled(), peer_filled()):
        store.add([node("zero", [0.0, 0.0, 0.0])])
        with pytest.warns(RuntimeWarning, match="invalid value"):
            similarities, ids = ask(store, [1.0, 2.0, 3.0], 0)
        assert any(math.isnan(s) for s in similarities) and len(ids) == 7


@pytest.mark.parametrize(
    "query",
    [
        dict(query_embedding=None),
        dict(query_embedding=[1.0]),
        dict(query_embedding=["a", "b", "c"]),
        dict(query_embedding=[1.0, 2.0, 3.0], mode="sparse"),
        dict(query_embedding=[1.0, 2.0, 3.0], mode="text_search"),
        dict(query_embedding=[1.0, 2.0, 3.0], similarity_top_k="x"),
        dict(query_embedding=[1.0, 2.0, 3.0], node_ids=[[]]),
        dict(query_embedding=[1.0, 2.0, 3.0], node_ids=5),
        dict(query_embedding=[1.0, 2.0, 3.0], mode="mmr", similarity_top_k=None),
    ],
)
def test_odd_queries_end_as_in_the_peer(query: Dict[str, Any]) -> None:
    def outcome(store: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                r = store.query(VectorStoreQuery(**query))
                return [float(s) for s in r.similarities], r.ids
            except Exception as e:
                return type(e), str(e)

    assert outcome(filled()) == outcome(peer_filled())


@pytest.mark.parametrize("embedding", [[1, 2, 3], np.array([1.0, 2.0, 3.0]), np.array([1, 2, 3], dtype=np.float32), (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("mode", ["default", "mmr"])
def test_other_kinds_of_query_vectors(embedding: Any, mode: str) -> None:
    assert ask(filled(), embedding, mode=mode) == ask(peer_filled(), embedding, mode=mode)


def test_mmr_threshold_keyword_counts_and_the_field_does_not() -> None:
    query = VectorStoreQuery(query_embedding=[1.0, 2.0, 3.0], similarity_top_k=3, mode="mmr", mmr_threshold=0.0)
    a, b = filled(), peer_filled()
    assert a.query(query) == b.query(query)
    assert a.query(query, mmr_threshold=0.9) == b.query(query, mmr_threshold=0.9)
    assert a.query(query, mmr_threshold=0.9).similarities != a.query(query).similarities


@pytest.mark.parametrize("name,mode", [("get_top_k_mmr_embeddings", "mmr"), ("get_top_k_embeddings", "default")])
def test_replaced_module_functions_are_called(monkeypatch: Any, name: str, mode: str) -> None:
    seen = {}

    def replacement(query: Any, embeddings: Any, **kwargs: Any) -> Any:
        seen.update(kwargs, embeddings=embeddings)
        return [0.5], ["n1"]

    monkeypatch.setattr(peer_module, name, replacement)
    assert ask(filled(), [1.0, 2.0, 3.0], mode=mode) == ([0.5], ["n1"])
    assert type(seen["embeddings"][0]) is list and seen["embedding_ids"] == [f"n{i}" for i in range(6)]


def test_filtering_without_metadata_is_refused_as_in_the_peer() -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="i", value=1)])
    for store in (filled(), peer_filled()):
        store.data.metadata_dict.clear()
        with pytest.raises(ValueError, match="Cannot filter stores that were persisted without metadata"):
            ask(store, [1.0, 2.0, 3.0], filters=filters)


def test_filter_errors_are_the_peers() -> None:
    bad = MetadataFilters(filters=[MetadataFilter(key="tags", value=1, operator=FilterOperator.GT)])
    nested = MetadataFilters(filters=[MetadataFilters(filters=[])])
    for store in (filled(), peer_filled()):
        with pytest.raises(TypeError, match="'>' not supported between instances of 'list' and 'int'"):
            ask(store, [1.0, 2.0, 3.0], filters=bad)
        with pytest.raises(ValueError, match="Nested MetadataFilters are not supported."):
            ask(store, [1.0, 2.0, 3.0], filters=nested)
        del store.data.metadata_dict["n3"]
        with pytest.raises(KeyError, match="n3"):
            ask(store, [1.0, 2.0, 3.0], filters=MetadataFilters(filters=[MetadataFilter(key="i", value=1)]))


def test_filters_see_changed_metadata() -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="i", value=77)])
    store = filled()
    assert ask(store, [1.0, 2.0, 3.0], filters=filters)[1] == []
    store.data.metadata_dict["n3"]["i"] = 77
    assert ask(store, [1.0, 2.0, 3.0], filters=filters)[1] == ["n3"]
    assert [key for key, _ in store.data._table.live()] == ["n3"]


def test_fast_path_is_taken(monkeypatch: Any) -> None:
    """So that the comparisons above compare something."""
    store = filled()
    monkeypatch.setattr(Peer, "query", None)
    monkeypatch.setattr(Peer, "delete", None)
    monkeypatch.setattr(Peer, "delete_nodes", None)
    monkeypatch.setattr(Peer, "add", None)
    store.add(nodes(9))
    for mode in ("default", "mmr"):
        ask(store, [1.0, 2.0, 3.0], mode=mode, node_ids=["n1", "n2"])
    for op, value in (("==", 3), ("in", [1, 2]), (">", 2.5), ("contains", "a"), ("!=", "x")):
        key = "tags" if op == "contains" else "i"
        filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(op))])
        ask(store, [1.0, 2.0, 3.0], filters=filters)
    store.delete_nodes(["n1"], MetadataFilters(filters=[MetadataFilter(key="i", value=1)]))
    store.delete("d0")
    assert list(store.data.embedding_dict) == ["n3", "n5", "n7"]


def test_falls_back_where_numpys_dot_would_differ(monkeypatch: Any) -> None:
    want = ask(filled(), [1.0, 2.0, 3.0])
    monkeypatch.setattr(vector_store, "_dot_checked", False)
    monkeypatch.setattr(vector_store._core, "numpy_dot", None)
    assert ask(filled(), [1.0, 2.0, 3.0]) == want


def test_async_methods() -> None:
    async def run() -> Any:
        store = SimpleVectorStore()
        await store.async_add(nodes())
        await store.adelete("d1")
        await store.adelete_nodes(["n0"])
        found = await store.aquery(VectorStoreQuery(query_embedding=[1.0, 2.0, 3.0], similarity_top_k=5))
        await store.aclear()
        return found.ids, len(store.data.embedding_dict)

    ids, left = asyncio.run(run())
    assert sorted(ids) == ["n2", "n4"] and left == 0


def test_threads_on_one_store() -> None:
    store = filled(200)
    errors: List[BaseException] = []
    stop = threading.Event()

    def run(work: Any) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as e:
            errors.append(e)

    filters = MetadataFilters(filters=[MetadataFilter(key="i", value=3, operator=FilterOperator.GT)])
    jobs = [
        lambda: ask(store, [1.0, 2.0, 3.0]),
        lambda: store._pn_encode(),
        lambda: store.add([node("extra", [1.0, 2.0, 3.0], "x", a=1)]),
        lambda: store.delete("x"),
        lambda: store.vectors(),
    ]
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for t in threads:
        t.start()
    for _ in range(200):
        ask(store, [3.0, 2.0, 1.0], node_ids=["n1", "n9"], filters=filters)
    stop.set()
    for t in threads:
        t.join()
    assert not errors
    assert store.data._table.consistent()


# ----- deletion -----


def test_delete_quirks() -> None:
    for store in (filled(), peer_filled()):
        store.add([TextNode(id_="free", text="", embedding=[1.0, 2.0, 3.0])])
        store.delete(None)  # type: ignore[arg-type]
        store.delete_nodes([])
        assert len(store.data.embedding_dict) == 7
        store.delete("None")
        assert "free" not in store.data.embedding_dict
        store.delete_nodes()
        assert not store.data.embedding_dict and not store.data.metadata_dict


def test_deleting_what_lost_its_vector_raises_as_in_the_peer() -> None:
    for store in (filled(), peer_filled()):
        del store.data.embedding_dict["n0"]
        with pytest.raises(KeyError, match="n0"):
            store.delete("d0")
        del store.data.text_id_to_ref_doc_id["n1"]
        with pytest.raises(KeyError, match="n1"):
            store.delete_nodes(["n1"])


# ----- the matrix -----


def test_vectors_without_a_copy_keep_the_moment() -> None:
    store = filled()
    array, ids, copied = store.vectors()
    assert ids == [f"n{i}" for i in range(6)] and not copied and array.dtype == np.float32
    want = np.array([n.embedding for n in nodes()])
    assert (array == want).all() and not array.flags.writeable
    store.delete("d0")
    store.add([node(f"m{i}", [9.0, 9.0, 9.0]) for i in range(20)])
    assert (array == want).all()
    del store
    gc.collect()
    assert (array == want).all()


def test_vectors_as_a_copy() -> None:
    store = filled()
    store.delete("d0")
    store.add([node("w", [0.1, 0.2, 0.3])])
    array, ids, copied = store.vectors()
    assert copied and array.dtype == np.float64
    assert {i: list(r) for i, r in zip(ids, array)} == dict(store.data.embedding_dict)
    store.add([node("w", [0.1, 0.2])])
    with pytest.raises(ValueError, match="different lengths"):
        store.vectors()
    assert SimpleVectorStore().vectors().array.shape == (0, 0)
    plain = SimpleVectorStore(SimpleVectorStoreData({"a": [1.0, 2.0]}))
    assert plain.vectors().array.tolist() == [[1.0, 2.0]]


# ----- files -----


def test_a_value_that_json_cannot_hold_changes_nothing(tmp_path: Any) -> None:
    store, path = filled(), tmp_path / "v.json"
    store.persist(str(path))
    before = path.read_bytes()
    store.data.metadata_dict["n1"]["when"] = datetime.datetime(2020, 1, 1)
    with pytest.raises(UnserializableError, match="datetime is not JSON serializable") as caught:
        store.persist(str(path))
    assert caught.value.key_path == "metadata_dict['n1'].when" and caught.value.store == "v.json"
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["v.json"]


@pytest.mark.parametrize("value", [(1, 2), {3}, np.float64(1.5), {1: "a", None: "b"}, 10**400, "\ud800", float("nan"), [(1,)]])
def test_live_values_are_written_as_the_peer_does(tmp_path: Any, value: Any) -> None:
    a, b = filled(), peer_filled()
    for store, name in ((a, "a"), (b, "b")):
        store.data.metadata_dict["n1"]["v"] = value
        store.persist(str(tmp_path / name))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        {"embedding_dict": {"a": [1, 2]}},
        {"embedding_dict": {"a": [True, "1.5"]}, "text_id_to_ref_doc_id": {"a": 5}, "metadata_dict": {"a": {}}},
        {"embedding_dict": {"a": None}, "text_id_to_ref_doc_id": {"a": None}},
        {"embedding_dict": {"a": [1.0]}, "metadata_dict": None},
        {"embedding_dict": None},
        {"embedding_dict": {"a": "x"}},
        {"embedding_dict": {"a": [10**400]}},
        {"unknown": 1, "embedding_dict": {"a": [1.0]}},
        {"metadata_dict": {"a": "text", "b": 5, "c": [1]}},
        {},
        [],
        None,
        5,
    ],
)
def test_odd_files_load_as_in_the_peer(tmp_path: Any, content: Any) -> None:
    path = tmp_path / "v.json"

    def outcome(cls: Any) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = cls.from_persist_path(str(path)).to_dict()
            except Exception as e:
                result = type(e), str(e)
        return result, [str(w.message) for w in caught]

    for text in (json.dumps(content), json.dumps(content, indent=2, ensure_ascii=False)):
        path.write_text(text)
        assert outcome(SimpleVectorStore) == outcome(Peer)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_json_reads(tmp_path: Any, encoding: str) -> None:
    path = tmp_path / "v.json"
    path.write_text(json.dumps(peer_filled().to_dict(), ensure_ascii=False), encoding=encoding)
    store = SimpleVectorStore.from_persist_path(str(path))
    assert store.data == peer_filled().data and is_native(store)


@pytest.mark.parametrize("text", ["", "{", '{"embedding_dict": {"a": [1.0, }}', "nonsense", '{"embedding_dict": {}} x'])
def test_corrupt_files_are_named(tmp_path: Any, text: str) -> None:
    path = tmp_path / "default__vector_store.json"
    path.write_text(text)
    with pytest.raises(json.JSONDecodeError) as theirs:
        Peer.from_persist_path(str(path))
    for load in (lambda: SimpleVectorStore.from_persist_path(str(path)), lambda: SimpleVectorStore.from_namespaced_persist_dir(str(tmp_path))):
        with pytest.raises(CorruptStoreError) as mine:
            load()
        assert (mine.value.msg, mine.value.pos) == (theirs.value.msg, theirs.value.pos)
        assert str(path) in str(mine.value)


def test_missing_files(tmp_path: Any) -> None:
    for cls in (SimpleVectorStore, Peer):
        with pytest.raises(ValueError, match=MESSAGE):
            cls.from_persist_path(str(tmp_path / "x.json"))
        with pytest.raises(ValueError, match=f"{MESSAGE} {tmp_path}/default__vector_store.json, skipping load."):
            cls.from_persist_dir(str(tmp_path))
        with pytest.raises(ValueError, match=MESSAGE):
            cls.from_namespaced_persist_dir(str(tmp_path / "nowhere"))
        assert cls.from_namespaced_persist_dir(str(tmp_path)) == {}


def test_namespaces_on_every_file_system(tmp_path: Any) -> None:
    """docs/differences.md: the peer splits at the first "__" and lists local directories only."""
    memory = fsspec.filesystem("memory")
    for directory, fs in ((str(tmp_path), None), ("/pannier-namespaces", memory)):
        for namespace in ("default", "image", "a__b", "ü"):
            filled(2).persist(f"{directory}/{namespace}__vector_store.json", fs=fs)
        found = SimpleVectorStore.from_namespaced_persist_dir(directory, fs=fs)
        assert set(found) == {"default", "image", "a__b", "ü"}
        assert all(store.data == filled(2).data for store in found.values())
        if fs is not None:
            assert all(store._fs is fs for store in found.values())
        assert SimpleVectorStore.from_persist_dir(directory, "a__b", fs=fs).data == filled(2).data
    memory.rm("/pannier-namespaces", recursive=True)


def test_a_loaded_store_keeps_its_file_system() -> None:
    memory = fsspec.filesystem("memory")
    filled(2).persist("/pannier-fs/v.json", fs=memory)
    store = SimpleVectorStore.from_persist_path("/pannier-fs/v.json", fs=memory)
    store.persist("/pannier-fs/w.json")
    assert memory.exists("/pannier-fs/w.json")
    memory.rm("/pannier-fs", recursive=True)


def test_a_bare_file_is_the_default_store(tmp_path: Any) -> None:
    filled(2).persist(str(tmp_path / "vector_store.json"))
    found = SimpleVectorStore.from_namespaced_persist_dir(str(tmp_path))
    assert list(found) == ["default"] and found["default"].data == filled(2).data
    filled(3).persist(str(tmp_path / "default__vector_store.json"))
    assert SimpleVectorStore.from_namespaced_persist_dir(str(tmp_path))["default"].data == filled(3).data


@pytest.mark.parametrize("namespace", ["../x", "a/b", "..", "/etc/x"])
def test_namespaces_stay_in_the_directory(tmp_path: Any, namespace: str) -> None:
    with pytest.raises(NamespaceError):
        SimpleVectorStore.from_persist_dir(str(tmp_path), namespace)


def test_typescript_files_are_read(tmp_path: Any) -> None:
    path = tmp_path / "vector_store.json"
    path.write_text('{"embeddingDict":{"a":[0.00001,2]},"textIdToRefDocId":{"a":"d"},"metadataDict":{"a":{"x":1}}}')
    store = SimpleVectorStore.from_persist_path(str(path))
    assert store.to_dict() == {
        "embedding_dict": {"a": [1e-05, 2.0]},
        "text_id_to_ref_doc_id": {"a": "d"},
        "metadata_dict": {"a": {"x": 1}},
    }


@pytest.mark.parametrize("use", [
    lambda s: s.to_dict(),
    lambda s: s.add([TextNode(text="t", id_="n", embedding=[0.5])]),
    lambda s: s.data.embedding_dict.setdefault("a", [1.0]),
    lambda s: setattr(s.data, "metadata_dict", {"a": {}}),
    lambda s: (s.delete("d"), s.delete_nodes(["n"])),
    lambda s: s.clear(),
    lambda s: repr(s.data),
    lambda s: hasattr(s.data, "other"),
])
def test_a_cleared_store_is_a_new_one(use: Any) -> None:
    theirs, ours = Peer(), SimpleVectorStore()
    for store in (theirs, ours):
        store.add([TextNode(text="t", id_="n", embedding=[0.5, 1.0])])
        before = store.data
        store.clear()
        assert store.data is not before and len(before.embedding_dict) == 1
        assert "data" in store.model_fields_set
    assert use(ours) == use(theirs)
    for change in (lambda s: s, copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))):
        assert change(ours).to_dict() == change(theirs).to_dict()
    ours.clear()
    assert copy.deepcopy(ours.data) == Peer().data == pickle.loads(pickle.dumps(ours.data))


def test_from_dict_reads_any_dict_as_the_peer_does() -> None:
    plain = {"embedding_dict": {"a": [0.5, 1.0]}, "text_id_to_ref_doc_id": {"a": "d"}, "metadata_dict": {"a": {"k": 1}}}
    for change in (
        {},
        {"embedding_dict": {}},
        {"embedding_dict": {"a": [1, 2.0]}},
        {"embedding_dict": {"a": (0.5, 1.0)}},
        {"embedding_dict": {"a": []}},
        {"embedding_dict": {"a": ["1.5", True]}},
        {"embedding_dict": {5: [0.5]}},
        {"embedding_dict": {"a": [0.5], "b": [0.5, 1.0]}},
        {"embedding_dict": None},
        {"text_id_to_ref_doc_id": {"a": None}},
        {"text_id_to_ref_doc_id": {"a": 5}},
        {"metadata_dict": {"a": None, "b": [1], "c": (1,)}},
        {"metadata_dict": {5: {}}},
        {"more": 1},
    ):
        theirs, ours = ({**copy.deepcopy(plain), **copy.deepcopy(change)} for _ in range(2))
        for data in (theirs, ours):
            if change == {"embedding_dict": {}}:
                del data["embedding_dict"]
        found = []
        for cls, data in ((Peer, theirs), (SimpleVectorStore, ours)):
            try:
                store = cls.from_dict(data)
                rows = data["embedding_dict"] if "embedding_dict" in data else {}
                for row in (rows or {}).values():
                    if type(row) is list:
                        row.append(9.0)  # the store has its own
                found.append((store.to_dict(), [[type(x) for x in r] for r in (store.data.embedding_dict or {}).values()]))
            except Exception as e:
                found.append(type(e))
        assert found[0] == found[1], change


def test_from_dict_shares_metadata_as_the_peer_does() -> None:
    for cls in (SimpleVectorStore, Peer):
        data = {"embedding_dict": {"a": [1, 2]}, "text_id_to_ref_doc_id": {"a": "d"}, "metadata_dict": {"a": {"x": [1]}}}
        store = cls.from_dict(data)
        data["embedding_dict"]["a"].append(3)  # type: ignore[index]
        data["metadata_dict"]["a"]["x"].append(2)  # type: ignore[index]
        assert store.to_dict()["embedding_dict"] == {"a": [1.0, 2.0]}
        assert store.to_dict()["metadata_dict"] == {"a": {"x": [1, 2]}}


def test_load_frees_and_reads_one_dense_block(tmp_path: Any) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((300, 40))
    peer = Peer()
    peer.add([node(f"n{i}", r.tolist(), i=i) for i, r in enumerate(rows)])
    peer.persist(str(tmp_path / "v.json"))
    store = SimpleVectorStore.from_persist_path(str(tmp_path / "v.json"))
    array, ids, copied = store.vectors()
    assert not copied and array.dtype == np.float64 and (array == rows).all() and len(ids) == 300
