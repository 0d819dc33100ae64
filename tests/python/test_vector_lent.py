"""The lists that the vector store hands out: they are what it holds, as in LlamaIndex.
Expected values come from LlamaIndex."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from typing import Any, Callable, List

import numpy as np
import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore as Peer
from llama_index.core.vector_stores.simple import SimpleVectorStoreData
from llama_index.core.vector_stores.types import VectorStoreQuery

from pannier import StorageContext, _core
from pannier.vector_store import NativeVectorData, SimpleVectorStore

BOTH = (SimpleVectorStore, Peer)


def filled(cls: Any, n: int = 6, dim: int = 3, wide: bool = False) -> Any:
    rng = np.random.default_rng(7)
    store = cls()
    for i in range(n):
        values = rng.standard_normal(dim).astype(np.float64 if wide else np.float32).astype(float).tolist()
        source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"d{i % 2}")}
        store.add([TextNode(id_=f"n{i}", text="t", embedding=values, relationships=source)])
    return store


def ask(store: Any, k: int = 3, **kwargs: Any) -> Any:
    found = store.query(VectorStoreQuery(query_embedding=[1.0, -2.0, 0.5], similarity_top_k=k, **kwargs))
    return [float(s).hex() for s in found.similarities], found.ids


def many(store: Any) -> Any:
    queries = [VectorStoreQuery(query_embedding=[1.0, x, 0.5], similarity_top_k=2) for x in (0.5, -1.0)]
    found = store.query_many(queries) if isinstance(store, SimpleVectorStore) else [store.query(q) for q in queries]
    return [(one.ids, [float(s).hex() for s in one.similarities]) for one in found]


def written(store: Any, tmp_path: Any) -> bytes:
    store.persist(str(tmp_path / "v.json"))
    return (tmp_path / "v.json").read_bytes()


READINGS: List[Callable[[Any, Any], Any]] = [
    lambda s, _: ask(s),
    lambda s, _: ask(s, mode="mmr"),
    lambda s, _: ask(s, node_ids=["n1", "n4"]),
    lambda s, _: many(s),
    written,
    lambda s, _: s.to_dict(),
    lambda s, _: pickle.loads(pickle.dumps(s)).to_dict(),
    lambda s, _: copy.deepcopy(s).get("n1"),
    lambda s, _: copy.copy(s).get("n1"),
    lambda s, _: repr(s.data),
    lambda s, _: s.data == SimpleVectorStoreData(**s.to_dict()),
    lambda s, _: dict(s.data.embedding_dict),
    lambda s, _: s.model_dump()["data"],
    lambda s, _: (s.data.embedding_dict.pop("n1"), list(s.data.embedding_dict)),
    lambda s, _: (s.add([TextNode(id_="n1", text="t", embedding=[1.0, 2.0, 3.0])]), s.get("n1")),
    lambda s, _: (s.delete("d1"), s.to_dict()),
    lambda s, _: (s.delete_nodes(["n1"]), s.to_dict()),
]
CHANGES: List[Callable[[List[Any]], Any]] = [
    lambda row: row.__setitem__(0, 9.0),
    lambda row: row.__setitem__(slice(None), [0.1, 0.2, 0.3]),  # no float32 holds these
    lambda row: row.append(7.0),
    lambda row: row.reverse(),
    lambda row: row.__setitem__(1, -0.0),
    lambda row: row.__setitem__(0, 5),  # an int: no table holds it
    lambda row: row.append("x"),
    lambda row: row.clear(),
    lambda row: None,
]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("reading", range(len(READINGS)))
def test_changed_lists_are_what_the_store_holds(reading: int, wide: bool, tmp_path: Any) -> None:
    for change in CHANGES:
        found = []
        for cls in BOTH:
            store = filled(cls, wide=wide)
            row = store.get("n1")
            assert store.data.embedding_dict["n1"] is row
            change(row)
            change(store.data.embedding_dict["n2"])  # nobody holds that list any more
            outcomes = []
            for _ in range(2):
                try:
                    outcomes.append(READINGS[reading](store, tmp_path))
                except Exception as e:
                    outcomes.append((type(e), str(e)))
                row[:1] = [4.0]
            found.append((outcomes, row, {i: list(v) for i, v in store.data.embedding_dict.items()}))
        assert repr(found[0]) == repr(found[1])


def test_the_same_list_each_time() -> None:
    store = filled(SimpleVectorStore)
    row = store.get("n1")
    assert store.get("n1") is store.data.embedding_dict["n1"] is row
    for use in (ask, lambda s: s.to_dict(), lambda s: s.vectors()):
        use(store)
        assert store.get("n1") is row
    row[0] = 9.0
    array, ids, _ = store.vectors()
    assert array[ids.index("n1")][0] == 9.0 and type(store.data) is NativeVectorData


@pytest.mark.parametrize("end", [
    lambda s: s.delete("d1"),
    lambda s: s.delete_nodes(["n1"]),
    lambda s: s.data.embedding_dict.pop("n1"),
    lambda s: s.data.embedding_dict.update(n1=[1.0, 2.0, 3.0]),
    lambda s: s.add([TextNode(id_="n1", text="t", embedding=[1.0, 2.0, 3.0])]),
    lambda s: s.clear(),
])
def test_a_list_whose_row_went_is_nobodys(end: Any) -> None:
    found = []
    for cls in BOTH:
        store = filled(cls)
        row, other = store.get("n1"), store.get("n3")
        end(store)
        row[0] = 9.0
        other[0] = 8.0
        found.append((row, store.to_dict()))
    assert found[0] == found[1]


def test_lists_that_nobody_holds_are_given_up() -> None:
    store = filled(SimpleVectorStore)
    row = store.get("n1")
    assert sys.getrefcount(row) == 3  # here, in the call, in the table
    store.get("n2")[0] = 9.0
    ask(store)
    del row
    ask(store)
    assert store.data._table.sync()
    row = store.get("n1")
    assert store.get("n2")[0] == 9.0 and sys.getrefcount(row) == 3


def test_memory_of_many_gets_is_bounded() -> None:
    """Lists of 3 million values, held by nobody: some have been given up on the way."""
    n, dim = 3000, 1024
    store = SimpleVectorStore.from_dict({
        "embedding_dict": {f"n{i}": [float(i), *[0.5] * (dim - 1)] for i in range(n)},
        "text_id_to_ref_doc_id": {f"n{i}": "d" for i in range(n)},
        "metadata_dict": {f"n{i}": {} for i in range(n)},
    })
    before = len(gc.get_objects())
    for i in range(n):
        store.get(f"n{i}")[1] = 2.0
    assert len(gc.get_objects()) - before < n - 500
    array, ids, _ = store.vectors()
    assert (array[:, 1] == 2.0).all() and (array[:, 0] == np.arange(n)).all()


def test_a_list_that_holds_its_store_is_collected() -> None:
    store = filled(SimpleVectorStore)

    class Mark:
        pass

    mark = Mark()
    store.get("n1").append((store, mark))
    gone = weakref.ref(mark)
    del store, mark
    gc.collect()
    assert gone() is None


def test_a_finalizer_may_use_the_store() -> None:
    store = filled(SimpleVectorStore)
    seen: List[Any] = []

    class Late:
        def __del__(self) -> None:
            seen.append((len(store.data.embedding_dict), store.get("n2")))

    store.get("n1").append(Late())
    store.data.embedding_dict["n1"] = [1.0, 2.0, 3.0]
    assert len(seen) == 1 and seen[0][0] == 6
    store.get("n3").append(Late())
    store.delete("d1")
    assert len(seen) == 2 and seen[1][0] == 3


def test_packs_hold_what_was_changed(tmp_path: Any) -> None:
    context = StorageContext.from_defaults(vector_store=filled(SimpleVectorStore))
    context.persist(str(tmp_path), format="pack")
    row = context.vector_store.get("n1")
    row[0] = 9.0
    context.persist(str(tmp_path))
    loaded = StorageContext.from_defaults(persist_dir=str(tmp_path)).vector_store
    assert loaded.get("n1") == row and loaded.get("n2") == context.vector_store.get("n2")
    changed = loaded.get("n2")  # of rows that lie in the mapped file
    changed[1] = 8.0
    assert ask(loaded, 6) != ask(context.vector_store, 6)
    row.append(5)  # no table holds it
    context.persist(str(tmp_path))
    assert type(context.vector_store.data) is SimpleVectorStoreData
    assert StorageContext.from_defaults(persist_dir=str(tmp_path)).vector_store.get("n1") == row


def test_arguments_are_the_peers() -> None:
    for call in (
        lambda s: s.get(text_id="n1"),
        lambda s: s.get("nobody"),
        lambda s: s.get("é"),
        lambda s: s.get("\ud800"),
        lambda s: s.get(5),
        lambda s: s.get(None),
        lambda s: s.get((1, 2)),
        lambda s: s.get([]),
        lambda s: s.get(),
        lambda s: s.get("n1", "n2"),
        lambda s: s.get(node="n1"),
        lambda s: s.get("n1", text_id="n1"),
        lambda s: (s.delete(ref_doc_id="d0"), s.to_dict()),
        lambda s: (s.delete("d0", more=1), s.to_dict()),
        lambda s: (s.delete(None), s.to_dict()),
        lambda s: (s.delete("é"), s.to_dict()),
        lambda s: s.delete(),
        lambda s: s.delete("d0", "d1"),
        lambda s: s.clear(1),
        lambda s: (s.clear(), s.to_dict(), sorted(s.model_fields_set)),
    ):
        found = []
        for cls in BOTH:
            try:
                found.append(call(filled(cls)))
            except Exception as e:
                found.append((type(e), str(e).replace("VectorMethods", "SimpleVectorStore")))
        assert found[0] == found[1]


def test_what_a_subclass_or_a_caller_overrides_wins(monkeypatch: Any) -> None:
    class Mine(SimpleVectorStore):
        def get(self, text_id: str) -> Any:
            return ["mine", *super().get(text_id)]

        def delete(self, ref_doc_id: str, **kwargs: Any) -> None:
            super().delete("d0", **kwargs)

    store = filled(Mine)
    assert store.get("n1") == ["mine", *filled(Peer).get("n1")]
    store.delete("d1")
    assert list(store.data.embedding_dict) == ["n1", "n3", "n5"]
    store.clear()
    assert type(store.data) is NativeVectorData and not store.data.embedding_dict
    monkeypatch.setattr(SimpleVectorStore, "get", lambda self, text_id: "patched")
    assert filled(SimpleVectorStore).get("n1") == "patched"


def test_plain_data_goes_the_peers_way() -> None:
    row = [1.0, 2.0]
    store = SimpleVectorStore(SimpleVectorStoreData({"a": row, "b": [3.0]}, {"a": "d", "b": "e"}, {}))
    assert store.get("a") is row
    store.delete("d")
    assert list(store.data.embedding_dict) == ["b"]
    store.clear()
    assert type(store.data) is NativeVectorData


def test_threads_that_change_lists() -> None:
    store = filled(SimpleVectorStore, 60)
    stop, errors = threading.Event(), []  # type: ignore[var-annotated]

    def run(work: Callable[[], Any]) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as e:
            errors.append(e)

    def change() -> None:
        row = store.get("n7")
        row[0] += 1.0

    jobs = [change, lambda: ask(store), lambda: store.to_dict(), lambda: store.get("n9"), lambda: store._pn_encode()]
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for t in threads:
        t.start()
    for _ in range(200):
        ask(store)
    stop.set()
    for t in threads:
        t.join()
    assert not errors and store.data._table.consistent()
    assert store.to_dict()["embedding_dict"]["n7"] == store.get("n7")


def test_vector_methods_adds_no_memory() -> None:
    assert _core.VectorMethods.__basicsize__ == object.__basicsize__


def test_adding_and_deleting_do_not_look_at_the_lists_that_are_out() -> None:
    """They read no vectors, and many lists may be out: a node would cost as much as a query."""
    results = []
    for cls in BOTH:
        store = filled(cls)
        held = [store.get(f"n{i}") for i in range(6)]
        held[0][0] = None  # what no table holds: whoever looks surrenders
        held[4][0] = 5.0
        store.add([TextNode(id_="new", text="t", embedding=[1.0, 2.0, 3.0])])
        store.add([TextNode(id_="n2", text="t", embedding=[3.0, 2.0, 1.0])])
        store.add([TextNode(id_="odd", text="t", embedding=[1.0, 2.0, 3.0], metadata={"x": "NaN"})])  # not in C
        store.delete_nodes(["n3"])
        store.delete("d1")
        assert cls is Peer or type(store.data) is NativeVectorData
        held[2][0] = held[3][0] = 7.0  # nobody's by now
        results.append((list(map(repr, held)), store.to_dict()))
        assert type(store.data) is SimpleVectorStoreData
    assert results[0] == results[1]


# What was handed out lately is found by the address of the str that asks.


def test_the_same_str_asks_again_after_each_change() -> None:
    results = []
    for cls in BOTH:
        store, name, seen = filled(cls), "n1", []
        first = store.get(name)
        assert store.get(name) is first and store.get("".join(["n", "1"])) is first
        changes: List[Callable[[], Any]] = [
            lambda: store.add([TextNode(id_=name, text="t", embedding=[1.0, 2.0, 3.0])]),
            lambda: store.data.embedding_dict.update({name: [4.0, 5.0, 6.0]}),
            lambda: store.delete("d0"),
            lambda: store.get(name).append(0.5),
            lambda: store.get(name).pop(),
            lambda: store.data.embedding_dict.pop(name),
            lambda: store.data.embedding_dict.update({name: [7.0, 8.0, 9.0]}),
            lambda: store.clear(),
        ]
        for change in changes:
            change()
            for _ in range(3):
                try:
                    seen.append(list(store.get(name)))
                except KeyError as e:
                    seen.append(e.args)
        results.append(seen)
    assert results[0] == results[1]


def test_a_list_that_was_given_up_is_not_handed_out_again() -> None:
    store = filled(SimpleVectorStore)
    names = [f"n{i}" for i in range(6)]
    for _ in range(3):
        assert [store.get(name) for name in names] == [filled(Peer).get(name) for name in names]
        ask(store)  # gives up what nobody holds
    kept = store.get("n2")
    ask(store)
    kept[0] = 9.5
    assert store.get("n2") is kept and store.get("n3") is not kept


def test_more_strs_than_are_kept_and_none_outlives_the_store() -> None:
    store, count = SimpleVectorStore(), 6000
    names = ["n" + str(i) for i in range(count)]
    before = sum(map(sys.getrefcount, names)) + 1  # `name` keeps the last one
    store.add([TextNode(id_="n" + str(i), text="t", embedding=[float(i), 1.0]) for i in range(count)])
    for _ in range(2):
        for i, name in enumerate(names):
            assert store.get(name)[0] == i
    lists = [store.get(name) for name in names]
    assert all(store.get(name) is one for name, one in zip(names, lists))
    del store
    gc.collect()
    held = sum(map(sys.getrefcount, names)) - before
    assert held == 0 and max(map(sys.getrefcount, lists)) <= 3


def test_a_store_whose_attributes_lie_elsewhere_is_read_all_the_same() -> None:
    """The core looks where the last store had them; objects may have been filled in another order."""
    for turn in range(3):
        for shuffled in (False, True, False):
            stores = {cls: filled(cls) for cls in BOTH}
            for store in stores.values():
                if shuffled:
                    store.__dict__["data"] = store.__dict__.pop("data")  # the last one now
                    store.data.__dict__.update({"note": 1, "_table": store.data.__dict__.pop("_table", None)})
                    store.__dict__["data"] = store.__dict__.pop("data")
            assert len({repr(s.get("n1")) for s in stores.values()}) == 1
            for store in stores.values():
                store.delete("d1")
                with pytest.raises(KeyError):
                    store.get("n1")
    gone = filled(SimpleVectorStore)
    del gone.__dict__["data"]
    with pytest.raises(AttributeError):
        gone.get("n1")


def test_what_was_handed_out_lately_is_known_while_more_lists_go_out() -> None:
    store, count = SimpleVectorStore(), 300
    store.add([TextNode(id_=f"n{i}", text="t", embedding=[float(i), 1.0]) for i in range(count)])
    names, found = [f"n{i}" for i in range(count)], []
    for i in range(count):
        found.append(store.get(names[i]))
        assert all(store.get(name) is one for name, one in zip(names, found))
    store.add([TextNode(id_="n7", text="t", embedding=[-1.0, 1.0])])  # ends one loan
    assert [store.get(name) is one for name, one in zip(names, found)] == [i != 7 for i in range(count)]


STORED_AGAIN: List[Callable[[Any, Any], Any]] = [
    lambda s, found: s.data.embedding_dict.update({"n1": found}),
    lambda s, found: s.add([TextNode(id_="n1", text="other").model_copy(update={"embedding": found})]),
    lambda s, found: s.data.embedding_dict.__setitem__("n1", s.get("n1")),
]


@pytest.mark.parametrize("change", [lambda v: None, lambda v: v.append(2.5), lambda v: v.__setitem__(0, 0.1)])
@pytest.mark.parametrize("again", range(len(STORED_AGAIN)))
def test_a_list_that_is_stored_again_stays_the_stores(again: int, change: Any, tmp_path: Any) -> None:
    results = []
    for cls in BOTH:
        store = filled(cls)
        found = store.get("n1")
        change(found)
        STORED_AGAIN[again](store, found)
        seen = [store.get("n1") is found, written(store, tmp_path)]
        found[1] = -7.25
        seen += [store.get("n1") is found, written(store, tmp_path), list(store.data.embedding_dict)]
        found[1:] = [1.5, 2.5]
        results.append(seen + [ask(store), written(store, tmp_path)])
    assert results[0] == results[1]


def test_another_rows_list_is_copied() -> None:
    store = filled(SimpleVectorStore)
    found, values = store.get("n1"), list(store.get("n1"))
    store.data.embedding_dict["n2"] = found
    found[0] = 5.5
    assert store.get("n1") is found and store.get("n2") == values
