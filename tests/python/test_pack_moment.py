"""Packs: a commit is what all stores were at one moment, however long its gathering takes
and whatever changes meanwhile; and nothing is lost or held on to when that fails."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from test_pack import as_json, opened

from pannier import SimpleKVStore, SimpleVectorStore, StorageContext, _core
from pannier.errors import UnserializableError

NODES = 4000  # several slices of each store
Change = Callable[[StorageContext], Any]


def chunk(number: int, version: int) -> TextNode:
    made = TextNode(
        id_=f"n{number}", text=f"version {version}", metadata={"version": version}, embedding=[float(version), 1.0]
    )
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"d{number % 40}")
    return made


def struct(version: int) -> IndexDict:
    return IndexDict(index_id="i", nodes_dict={f"n{i}": f"v{version if i % 500 == 0 else 0}" for i in range(NODES)})


def build() -> StorageContext:
    made = StorageContext.from_defaults()
    nodes = [chunk(i, 0) for i in range(NODES)]
    made.docstore.add_documents(nodes)
    made.vector_store.add(nodes)
    made.index_store.add_index_struct(struct(0))
    made.docstore._kvstore.put("state", {"version": 0}, "marks")
    for i in range(NODES):
        made.graph_store.upsert_triplet(f"s{i // 4}", "r", f"o{i}")
    return made


def changes(version: int) -> List[Change]:
    """The way from one version to the next, store after store: entries change in place, go,
    come, come back and are handed out, before and behind where a gather is."""
    found: List[Change] = [lambda c: c.docstore._kvstore.put("state", {"version": version}, "marks")]
    for i in range(4):
        number = (version * 7919 + i * 1237) % NODES
        node = chunk(number, version)
        found += [
            lambda c, node=node: c.docstore.add_documents([node]),
            lambda c, node=node: c.vector_store.delete_nodes([node.node_id]),
            lambda c, node=node: c.vector_store.add([node]),
            lambda c, number=number: c.docstore.delete_document(f"n{(number + 1) % NODES}", raise_error=False),
            lambda c, number=number: c.vector_store.data.metadata_dict.get(f"n{(number + 2) % NODES}"),
            lambda c, number=number: c.graph_store.upsert_triplet(f"s{number // 4}", "is", f"{version}"),
            lambda c, number=number: c.graph_store.delete(f"s{number // 4}", "r", f"o{number}"),
        ]
    found.append(lambda c: c.docstore.add_documents([chunk(NODES + version, version)]))
    found.append(lambda c: c.vector_store.add([chunk(NODES + version, version)]))
    found.append(lambda c: c.docstore._kvstore.delete(f"n{NODES + version - 2}", "docstore/data"))
    if version % 8 == 0:
        found.append(lambda c: c.graph_store.get(f"s{version % 500}").append(["seen", f"{version}"]))
        found.append(lambda c: c.docstore._kvstore.get(f"n{version % NODES}", "docstore/data"))
        found.append(lambda c: c.index_store.add_index_struct(struct(version)))
    return found


class Writer(threading.Thread):
    """Takes a context from state to state while ``going`` is set."""

    def __init__(self, context: StorageContext) -> None:
        super().__init__()
        self.context = context
        self.done = 0  # changes
        self.going = threading.Event()
        self.stopping = False
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            for version in itertools.count(1):
                for change in changes(version):
                    self.going.wait()
                    if self.stopping:
                        return
                    change(self.context)
                    self.done += 1
        except BaseException as e:  # noqa: BLE001
            self.error = e

    def __enter__(self) -> "Writer":
        self.going.set()
        self.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.stopping = True
        self.going.set()
        self.join()
        assert self.error is None


@pytest.fixture
def short_turns() -> Iterator[None]:
    """Threads that wait for the GIL get it at the next chance."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def states(context: StorageContext) -> Iterator[int]:
    """Takes a context through every state of a writer's: the version after each change."""
    yield 0
    for version in itertools.count(1):
        for change in changes(version):
            change(context)
            yield version


def check_existed(wanted: Dict[str, bytes], version: int, context: StorageContext, way: Iterator[int], scratch: Path) -> None:
    """``context`` is on its ``way`` through all states, and comes to one that is ``wanted``."""
    for number in way:
        assert number <= version, f"no state of version {version} has all of that"
        if number == version and as_json(context, scratch) == wanted:
            return


def test_each_generation_is_a_state_that_there_was(
    tmp_path: Path, short_turns: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, context = tmp_path / "pack", build()
    meanwhile: List[int] = []  # changes, for each gather

    class Batch(_core.PackBatch):  # type: ignore[misc]
        def gather(self, *args: Any) -> Any:
            before = writer.done
            found = super().gather(*args)
            meanwhile.append(writer.done - before)
            return found

    monkeypatch.setattr(_core, "PackBatch", Batch)
    saved: List[Dict[str, bytes]] = []
    versions: List[int] = []
    with Writer(context) as writer:
        while sum(n > 0 for n in meanwhile) < 4 and len(meanwhile) < 400:
            writer.going.set()
            asyncio.run(context.apersist(folder, format="pack"))
            writer.going.clear()
            if meanwhile[-1] > 0:
                found = opened(folder)
                versions.append(found.docstore._kvstore.get("state", "marks")["version"])
                saved.append(as_json(found, tmp_path / "saved"))
    assert saved  # else no other thread ever ran while one gathered
    replay = build()
    way = states(replay)
    for wanted, version in zip(saved, versions):
        check_existed(wanted, version, replay, way, tmp_path / "replayed")
    monkeypatch.undo()
    context.persist(folder)
    assert as_json(opened(folder), tmp_path / "got") == as_json(context, tmp_path / "now")


def test_values_that_change_unseen_meanwhile_are_in_the_next_commit(tmp_path: Path, short_turns: None) -> None:
    folder, context = tmp_path / "pack", build()
    context.persist(folder, format="pack")
    live = list(context.docstore._kvstore.get_all("docstore/data").values())
    metadata = context.vector_store.data.metadata_dict
    stopping = threading.Event()

    def change() -> None:
        for i in itertools.cycle(range(NODES)):
            live[i]["seen"] = metadata[f"n{i}"]["seen"] = i
            if stopping.is_set():
                return

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(4):
            asyncio.run(context.apersist(folder))
    finally:
        stopping.set()
        thread.join()
    context.persist(folder)
    assert as_json(opened(folder), tmp_path / "got") == as_json(context, tmp_path / "now")


@pytest.mark.parametrize("native", [True, False])
def test_a_store_that_is_given_other_data_meanwhile(native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gathered again, with what it has then; so is one that becomes plain dicts."""
    context = build()
    replaced: List[Any] = []

    class Batch(_core.PackBatch):  # type: ignore[misc]
        def gather(self, tables: Any, *meanwhile: Any) -> Any:
            done = super().gather(tables, *meanwhile)
            if not replaced:
                replaced.append(context.vector_store.data)
                if native:
                    context.vector_store.data = SimpleVectorStore().data
                else:
                    context.vector_store.data.text_id_to_ref_doc_id = {"n1": "other"}
                context.vector_store.data.embedding_dict["n1"] = [2.0]
                context.docstore._kvstore.put("other", {"x": 1})
            return done

    monkeypatch.setattr(_core, "PackBatch", Batch)
    context.persist(tmp_path / "pack", format="pack")
    found = opened(tmp_path / "pack")
    assert found.docstore._kvstore.get("other") == {"x": 1}
    assert as_json(found, tmp_path / "got") == as_json(context, tmp_path / "now")


def test_a_key_value_store_that_becomes_plain_while_it_is_gathered(tmp_path: Path) -> None:
    store, other = SimpleKVStore(), SimpleKVStore()
    store.put("a", {"x": 1})
    other.put("b", {"x": 2})
    batch = _core.PackBatch()
    plain = batch.gather([("docstore.json", store, True), ("index_store.json", other, True)], lambda: store.put(3, {}))
    assert plain == ["docstore.json"]
    assert batch.encode() is None
    _, _, _, _, changed = batch.commit(tmp_path, (), (), (), "test", 1)
    assert changed == ["index_store.json"]
    batch.settle(True)


# ----- Failures -----


def fail_meanwhile() -> None:
    raise ZeroDivisionError


def test_a_gather_that_fails_gives_back_what_it_took(tmp_path: Path) -> None:
    folder, context = tmp_path / "pack", build()
    context.persist(folder, format="pack")
    for change in changes(1):
        change(context)
    kv, table, graph = context.docstore._kvstore, context.vector_store.data._table, context.graph_store._table()
    links = context.graph_store.get("s3")
    value = kv.get_all("docstore/data")["n7"]
    held = []
    for settled in (True, False, True, False):
        batch = _core.PackBatch()
        with pytest.raises(ZeroDivisionError):
            batch.gather(
                [("docstore.json", kv, False), ("default__vector_store.json", table, False), ("graph_store.json", graph, False)],
                fail_meanwhile,
            )
        with pytest.raises(ValueError, match="invalid"):
            _core.PackBatch().gather([("docstore.json", kv, False)])  # it is taken
        later = _core.PackBatch()
        assert later.gather([("graph_store.json", graph, False)]) == []
        with pytest.raises(ValueError, match="invalid"):
            _core.PackBatch().gather([("graph_store.json", graph, False)])
        if settled:
            later.settle(False)
        del later
        if settled:
            batch.settle(False)
        del batch
        gc.collect()
        held.append([sys.getrefcount(x) for x in (value, kv, table, graph, links)])
    assert held[1:] == held[:-1]
    context.persist(folder)
    assert as_json(opened(folder), tmp_path / "got") == as_json(context, tmp_path / "now")


@pytest.mark.parametrize("when", ["encode", "commit"])
def test_a_persist_that_fails_while_others_write_loses_nothing(
    when: str, tmp_path: Path, short_turns: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, context = tmp_path / "pack", build()
    context.docstore._kvstore.put("untouched", {}, "docstore/data")  # the writer puts new values of all others
    context.persist(folder, format="pack")
    bad = context.docstore._kvstore.get_all("docstore/data")["untouched"]

    class Batch(_core.PackBatch):  # type: ignore[misc]
        def commit(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError(28, "No space left on device")

    with Writer(context):
        for _ in range(3):
            with monkeypatch.context() as m, pytest.raises((UnserializableError, OSError)):
                if when == "encode":
                    bad["bad"] = object()
                else:
                    m.setattr(_core, "PackBatch", Batch)
                asyncio.run(context.apersist(folder))
            bad.pop("bad", None)
        asyncio.run(context.apersist(folder))
    context.persist(folder)
    assert as_json(opened(folder), tmp_path / "got") == as_json(context, tmp_path / "now")


def test_a_store_with_methods_of_its_own_is_gathered_as_a_table() -> None:
    class Mine(SimpleKVStore):
        def put(self, key: str, val: dict, collection: str = "data") -> None:
            super().put(key, {**val, "mine": True}, collection)

    store = Mine()
    store.put("a", {})
    store.get = store.get  # type: ignore[method-assign]
    assert _core.PackBatch().gather([("docstore.json", store, True)]) == []
