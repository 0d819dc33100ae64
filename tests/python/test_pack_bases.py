"""Packs: what a store builds on, and who may write: conflicts that must be seen and
conflicts that there are none, threads, code that runs while values are encoded, forks,
commits that were cut off, and stores that persist themselves."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List

import pytest
from llama_index.core.storage.kvstore.types import BaseInMemoryKVStore
from test_pack import JSON_NAMES, add, as_json, build, files, node, opened

import pannier
from pannier import (
    ConflictError,
    GenerationError,
    SimpleDocumentStore,
    SimpleGraphStore,
    SimpleKVStore,
    SimplePropertyGraphStore,
    SimpleVectorStore,
    StorageContext,
    _packing,
)
from pannier.errors import OutcomeUnknownError


def grow(context: StorageContext, number: int) -> None:
    add(context, [node(random.Random(number), number)])


def check(context: StorageContext, folder: Path, scratch: Path) -> None:
    assert as_json(opened(folder), scratch / "got") == as_json(context, scratch / "wanted")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pack"


# ----- Conflicts -----


def change_graph(context: StorageContext) -> None:
    context.graph_store.upsert_triplet("new", "r", "o")


def change_property_graph(context: StorageContext) -> None:
    context.property_graph_store.delete(ids=["x"])


@pytest.mark.parametrize("change", [change_graph, change_property_graph])
def test_a_store_that_is_written_whole_is_not_overwritten_unseen(change: Any, folder: Path) -> None:
    build(4).persist(folder, format="pack")
    a, b = opened(folder), opened(folder)
    change(a)
    a.persist(folder)
    grow(b, 50)
    with pytest.raises(ConflictError, match="graph_store.json"):
        b.persist(folder)
    assert b.reload()
    grow(b, 50)
    b.persist(folder)
    assert b.generation == 3


def test_nor_is_a_document_store_that_is_kept_as_text(folder: Path) -> None:
    context = build(4)
    context.docstore._kvstore.put("odd", {1: 1, "1": 2})  # the same key twice: no segment has that
    context.persist(folder, format="pack")
    a, b = opened(folder), opened(folder)
    grow(a, 50)
    a.docstore.persist(str(folder / "docstore.json"))
    grow(b, 51)
    with pytest.raises(ConflictError, match="docstore.json"):
        b.docstore.persist(str(folder / "docstore.json"))


def test_an_opened_context_has_nothing_to_write(folder: Path) -> None:
    build(4).persist(folder, format="pack")
    context = opened(folder)
    context.persist(folder)
    assert context.generation == 1


def test_a_copy_of_the_directory_is_another_pack(folder: Path, tmp_path: Path) -> None:
    """Both have the same id, and generations of the same numbers."""
    copied = tmp_path / "copy"
    context = build(4)
    context.persist(folder, format="pack")
    shutil.copytree(folder, copied)
    other = opened(copied)
    grow(other, 60)
    grow(other, 61)
    other.persist(copied)
    grow(context, 62)
    context.persist(folder)
    grow(context, 63)
    context.persist(copied)  # as into any directory that it does not know: whole
    check(context, copied, tmp_path)
    context.persist(folder)
    check(context, folder, tmp_path)


def test_a_directory_that_was_moved_or_linked_is_the_same_pack(folder: Path, tmp_path: Path) -> None:
    context = build(400)
    context.persist(folder, format="pack")
    moved = folder.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(moved)
    grow(context, 1000)
    context.persist(tmp_path / "link")
    assert pannier.history(moved)[-1].bytes < 1.5 * pannier.history(moved)[0].bytes
    check(context, moved, tmp_path)


def test_two_directories_in_turn(folder: Path, tmp_path: Path) -> None:
    context = build(4)
    for i in range(6):
        grow(context, 100 + i)
        for where in (folder, tmp_path / "other"):
            if i % 2:
                context.docstore._kvstore.get_all(collection="docstore/data")["node-1"]["extra"] = i
            context.persist(where, format="pack")
            check(context, where, tmp_path)
    stranger = opened(folder)
    change_graph(stranger)
    stranger.persist(folder)
    context.persist(tmp_path / "other")
    change_graph(context)
    with pytest.raises(ConflictError):
        context.persist(folder)


def test_one_store_under_two_names(folder: Path) -> None:
    """What a store tells as changed is so since its last commit, under whichever name."""
    kvstore = SimpleKVStore()
    both = StorageContext.from_defaults(docstore=SimpleDocumentStore(kvstore), index_store=pannier.SimpleIndexStore(kvstore))
    both.persist(folder, format="pack")
    for i, names in enumerate((JSON_NAMES[:1], JSON_NAMES[1:2], JSON_NAMES[:1], JSON_NAMES[:2], JSON_NAMES[1:2], JSON_NAMES[:1])):
        kvstore.put(f"k{i}", {"n": i})
        if len(names) == 2:
            both.persist(folder)
        elif names[0] == "docstore.json":
            both.docstore.persist(str(folder / names[0]))
        else:
            both.index_store.persist(str(folder / names[0]))
        for name in names:
            loaded = SimpleKVStore.from_persist_path(str(folder / name))
            assert bytes(loaded._pn_encode()) == bytes(kvstore._pn_encode())


# ----- Reload -----


def test_a_relative_directory_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(2).persist("pack", format="pack")
    context, other = opened("pack"), opened("pack")
    grow(other, 50)
    other.persist("pack")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert context.reload() and context.docstore.document_exists("node-50")


def test_reloading_after_a_rollback_that_lacks_a_store(folder: Path, tmp_path: Path) -> None:
    context = StorageContext.from_defaults()
    grow(context, 1)
    context.persist(folder, format="pack")
    context.vector_stores["later"] = SimpleVectorStore()
    context.vector_stores["later"].add([node(random.Random(1), 2)])
    context.property_graph_store = SimplePropertyGraphStore()
    context.persist(folder)
    pannier.rollback(folder, 1)
    context.reload()
    assert not context.vector_stores["later"].data.embedding_dict
    grow(context, 3)
    context.persist(folder)
    check(context, folder, tmp_path)


def test_reload_then_persist_of_every_store(folder: Path, tmp_path: Path) -> None:
    build(4).persist(folder, format="pack")
    a, b = opened(folder), opened(folder)
    for context, other in ((a, b), (b, a), (a, b)):
        grow(context, 70)
        change_graph(context)
        context.property_graph_store.upsert_nodes([])
        context.persist(folder)
        assert other.reload()
        other.persist(folder)
        assert other.generation == context.generation
    check(b, folder, tmp_path)


# ----- Threads, and code that runs meanwhile -----


def test_threads_that_persist_one_context(folder: Path, tmp_path: Path) -> None:
    context = build(3)
    context.persist(folder, format="pack")
    errors: List[BaseException] = []

    def work() -> None:
        try:
            for _ in range(15):
                context.persist(folder)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(100):
        grow(context, 1000 + i)
    for thread in threads:
        thread.join()
    assert errors == []
    context.persist(folder)
    check(context, folder, tmp_path)


class Hook(dict):
    """A value with code of its own, which json.dumps runs."""

    def __init__(self, what: Any) -> None:
        super().__init__(a=1)
        self.what = what

    def items(self) -> Any:
        self.what()
        return super().items()


def test_persisting_from_inside_a_persist_is_refused(folder: Path, tmp_path: Path) -> None:
    context = build(3)
    context.persist(folder, format="pack")
    refused: List[str] = []

    def again() -> None:
        grow(context, 91)
        try:
            context.persist(folder)
        except RuntimeError as e:
            refused.append(str(e))

    grow(context, 90)
    context.docstore._kvstore.put("hook", {"x": Hook(again)})
    context.persist(folder)
    assert refused and "docstore is being persisted" in refused[0]
    context.docstore._kvstore.delete("hook")
    context.persist(folder)
    check(context, folder, tmp_path)


def test_what_another_persist_took_comes_back_when_it_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = build(3)
    context.persist(folder, format="pack")
    commit = _packing._commit
    failing = [True]

    def fails(*args: Any) -> Any:
        if not failing.pop():
            return commit(*args)
        failing.append(False)
        grow(context, 91)
        with pytest.raises(RuntimeError):
            context.persist(folder)
        raise OSError("no space")

    grow(context, 90)
    monkeypatch.setattr(_packing, "_commit", fails)
    with pytest.raises(OSError):
        context.persist(folder)
    monkeypatch.undo()
    context.persist(folder)
    check(context, folder, tmp_path)


def test_a_fork_in_the_middle_of_a_persist(folder: Path, tmp_path: Path) -> None:
    """The thread that persists is not in the child, and what it took must not be lost there."""
    context = build(3)
    context.persist(folder, format="pack")
    encoding, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        encoding.set()
        go_on.wait(60)

    grow(context, 90)
    context.docstore._kvstore.put("hook", {"x": Hook(wait)})
    refused: List[str] = []

    def persist() -> None:
        try:
            context.persist(folder)
        except ConflictError as e:  # the child was first
            refused.append(str(e))

    thread = threading.Thread(target=persist)
    thread.start()
    assert encoding.wait(60)
    child = os.fork()
    if child == 0:
        try:
            go_on.set()
            context.docstore._kvstore.delete("hook")
            context.persist(tmp_path / "child", format="pack")
            context.persist(folder)
            check(context, tmp_path / "child", tmp_path / "scratch")
            check(context, folder, tmp_path / "scratch")
            os._exit(0)
        except BaseException:
            os._exit(1)
    try:
        assert os.waitpid(child, 0)[1] == 0
    finally:
        go_on.set()
        thread.join()
    assert refused


# ----- Commits of which it is not known whether they were made -----


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OutcomeUnknownError])
def test_a_context_can_go_on_after_a_commit_that_was_cut_off(
    made: bool, error: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = build(30)
    context.persist(folder, format="pack")
    grow(context, 90)

    real = _packing._core.PackBatch

    class Batch:
        def __init__(self) -> None:
            self.batch = real()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.batch, name)

        def commit(self, *args: Any) -> Any:
            if made:
                self.batch.commit(*args)
            raise error("cut off")

    with monkeypatch.context() as m:
        m.setattr(_packing._core, "PackBatch", Batch)
        with pytest.raises(error):
            context.persist(folder)
    grow(context, 91)
    context.persist(folder)
    check(context, folder, tmp_path)
    stranger = opened(folder)
    change_graph(stranger)
    stranger.persist(folder)
    change_graph(context)
    with pytest.raises(ConflictError):
        context.persist(folder)


# ----- Stores that persist themselves -----


class Logging(SimpleVectorStore):
    """A user's class that does something besides."""

    def persist(self, persist_path: str, fs: Any = None) -> None:
        super().persist(persist_path, fs)


class Own(SimpleVectorStore):
    """A user's class that writes the file itself."""

    def persist(self, persist_path: str, fs: Any = None) -> None:
        Path(persist_path).write_text(json.dumps(self.data.to_dict()))


@pytest.mark.parametrize("cls", [Logging, Own])
def test_a_subclass_with_a_persist_of_its_own(cls: Any, folder: Path) -> None:
    context = build(2)
    context.persist(folder, format="pack")  # there the default store is pannier's
    store = cls()
    context.vector_stores["default"] = store
    for i in range(3):
        store.add([node(random.Random(i), 100 + i)])
        context.persist(folder)
        assert set(opened(folder).vector_store.data.embedding_dict) == {f"node-{100 + j}" for j in range(i + 1)}
        assert "default__vector_store.json" not in pannier.inspect(folder)["foreign"] or cls is Own
    pannier.convert(folder, "json")
    assert len(opened(folder).vector_store.data.embedding_dict) == 3
    alone = folder / "alone__vector_store.json"
    pannier.convert(folder, "pack")
    store.persist(str(alone))
    assert len(SimpleVectorStore.from_persist_path(str(alone)).data.embedding_dict) == 3


class Dicts(BaseInMemoryKVStore):
    """A user's key-value store."""

    def __init__(self) -> None:
        self.data: Dict[str, Dict[str, dict]] = {}

    def put(self, key: str, val: dict, collection: str = "data") -> None:
        self.data.setdefault(collection, {})[key] = val

    def get(self, key: str, collection: str = "data") -> Any:
        return self.data.get(collection, {}).get(key)

    def get_all(self, collection: str = "data") -> Dict[str, dict]:
        return self.data.get(collection, {})

    def delete(self, key: str, collection: str = "data") -> bool:
        return self.data.get(collection, {}).pop(key, None) is not None

    async def aput(self, key: str, val: dict, collection: str = "data") -> None:
        self.put(key, val, collection)

    async def aget(self, key: str, collection: str = "data") -> Any:
        return self.get(key, collection)

    async def aget_all(self, collection: str = "data") -> Dict[str, dict]:
        return self.get_all(collection)

    async def adelete(self, key: str, collection: str = "data") -> bool:
        return self.delete(key, collection)

    def persist(self, persist_path: str, fs: Any = None) -> None:
        Path(persist_path).write_text(json.dumps(self.data))

    @classmethod
    def from_persist_path(cls, persist_path: str, fs: Any = None) -> "Dicts":
        store = cls()
        store.data = json.loads(Path(persist_path).read_text())
        return store


def test_a_document_store_over_a_key_value_store_of_the_user_s(folder: Path) -> None:
    context = build(2)
    context.persist(folder, format="pack")
    context.docstore = SimpleDocumentStore(Dicts())  # type: ignore[arg-type]
    for i in range(2):
        grow(context, 100 + i)
        context.persist(folder)
        assert opened(folder).docstore.document_exists(f"node-{100 + i}")
        assert not opened(folder).docstore.document_exists("node-1")
    grow(context, 102)
    context.docstore.persist(str(folder / "docstore.json"))
    assert opened(folder).docstore.document_exists("node-102")
    assert files(folder)["docstore.json"]


def test_foreign_and_back(folder: Path) -> None:
    context = build(2)
    mine = context.vector_store
    context.persist(folder, format="pack")
    context.vector_stores["default"] = Own()
    context.persist(folder)
    assert not opened(folder).vector_store.data.embedding_dict
    context.vector_stores["default"] = mine
    grow(context, 5)
    context.persist(folder)
    assert not (folder / "default__vector_store.json").exists()
    assert set(opened(folder).vector_store.data.embedding_dict) == set(mine.data.embedding_dict)


# ----- Values that no segment may have -----


@pytest.mark.parametrize("odd", ["deep", "long", "twice"])
def test_values_beyond_the_format_s_limits(odd: str, folder: Path, tmp_path: Path) -> None:
    value: Any = 1
    if odd == "deep":
        for _ in range(920):
            value = [value]
    elif odd == "long":
        value = 10**5000
        if hasattr(sys, "set_int_max_str_digits"):
            sys.set_int_max_str_digits(0)
    else:
        value = {1: "a", "1": "b"}
    try:
        context = build(4)
        context.persist(folder, format="pack")
        context.docstore._kvstore.put("odd", {"v": value})
        context.index_store._kvstore.put("odd", {"v": value})
        for i in range(3):
            context.persist(folder)
            assert pannier.verify(folder) == []
            back = opened(folder, check=True)
            assert json.dumps(back.docstore._kvstore.get("odd")) == json.dumps(json.loads(json.dumps({"v": value})))
            assert back.docstore.document_exists("node-1")
            generation = context.generation
            context.persist(folder)
            assert context.generation == generation
            grow(context, 50 + i)
        context.docstore._kvstore.delete("odd")
        context.index_store._kvstore.delete("odd")
        context.persist(folder)
        check(context, folder, tmp_path)
    finally:
        if hasattr(sys, "set_int_max_str_digits"):
            sys.set_int_max_str_digits(4300)


def test_an_empty_id_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    context = StorageContext.from_defaults()
    context.vector_store.data.embedding_dict[""] = [0.25]
    context.vector_store.data.text_id_to_ref_doc_id[""] = ""
    context.persist(folder)
    pannier.convert(folder, "pack")
    check(context, folder, tmp_path)


# ----- Arguments, and a directory's other contents -----


def test_generations_and_numbers_that_there_cannot_be(folder: Path) -> None:
    context = build(2)
    for keep in (-1, 1001, 10**12):
        with pytest.raises(ValueError, match="keep must be"):
            context.persist(folder, format="pack", keep=keep)
    assert not folder.exists()
    context.persist(folder, format="pack")
    for number in (-1, 0, 2, 2**64, 2**64 + 1):
        with pytest.raises(GenerationError):
            opened(folder, generation=number)
        with pytest.raises(GenerationError):
            pannier.rollback(folder, number)
    with pytest.raises(ValueError, match="keep must be"):
        pannier.compact(folder, keep=-1)


def test_the_last_of_two_stores_with_one_file_name_wins(folder: Path) -> None:
    context = build(2)
    context.persist(folder, format="pack", docstore_fname="x.json", index_store_fname="x.json")
    names = SimpleKVStore.from_persist_path(str(folder / "x.json"))._collections_mappings
    assert list(names) == ["index_store/data"]


def test_a_retired_pack_s_files_go_with_the_next_persist(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was killed between the commit that brought the JSON back and the sweep."""
    context = build(2)
    context.persist(folder, format="pack")
    with monkeypatch.context() as m:
        m.setattr(pannier._pack, "retire", lambda *args: None)
        context.persist(folder, format="json")
    loaded = opened(folder)
    grow(loaded, 50)
    loaded.persist(folder)
    assert not [name for name in files(folder) if not name.endswith(".json")]


def test_a_directory_s_name_in_an_error(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    context = build(2)
    context.persist(folder, format="pack")
    other = opened(folder)
    grow(context, 5)
    context.persist(folder)
    grow(other, 6)
    with pytest.raises(ConflictError) as caught:
        other.persist(folder)
    assert str(folder) in str(caught.value)
    assert SimpleGraphStore.from_persist_dir(str(folder)).get("a")


@pytest.mark.parametrize("what", ["text", "directory", "empty"])
def test_a_manifest_of_somebody_else_s(what: str, folder: Path) -> None:
    """MANIFEST is a common name; such a directory is LlamaIndex's as it ever was."""
    folder.mkdir()
    path = folder / "MANIFEST"
    if what == "directory":
        path.mkdir()
    else:
        path.write_text("include *.txt\n" if what == "text" else "")
    context = build(2)
    context.persist(folder)
    context.docstore.persist(str(folder / "docstore.json"))
    assert opened(folder).docstore.document_exists("node-1")
    assert pannier.verify(folder) == [] and pannier.inspect(folder)["format"] == "json"
    with pytest.raises((ValueError, OSError), match="MANIFEST"):
        context.persist(folder, format="pack")
    assert path.is_dir() or path.read_text() in ("include *.txt\n", "")
    assert opened(folder).docstore.document_exists("node-1")
