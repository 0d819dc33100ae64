"""Packs on file systems of whole objects: memory, S3 (a local server), a wrapped local one.

The S3 tests need a local server and a client: ``pip install '.[s3]'``.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.schema import TextNode

import pannier
from pannier import ConflictError, CorruptPackError, MixedFormatError, StorageContext

numbers = itertools.count()


class Place(NamedTuple):
    """Where a pack is, as seen by two clients that share no cache."""

    root: str
    fs: Any
    other: Any  # what another process has


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[], Any]]:
    if os.environ.get("PANNIER_UNDER_SANITIZER"):
        pytest.skip("the C code is the same as on the other file systems")
    moto = pytest.importorskip("moto.server", reason="no S3 server here: pip install 'pannier[s3]'")
    s3fs = pytest.importorskip("s3fs", reason="no S3 client here: pip install 'pannier[s3]'")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()

    def client() -> Any:
        return s3fs.S3FileSystem(
            endpoint_url=f"http://{host}:{port}",
            key="test",
            secret="test",
            use_listings_cache=True,
            skip_instance_cache=True,
        )

    client().mkdir("bucket")
    yield client
    server.stop()


@pytest.fixture(params=["memory", "s3", "wrapped local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "memory":
        fs = fsspec.filesystem("memory")
        return Place(f"/packs/{next(numbers)}-{random.random()}", fs, fs)
    if request.param == "s3":
        client = request.getfixturevalue("s3")
        return Place(f"bucket/deep/{next(numbers)}", client(), client())
    return Place("storage", *(DirFileSystem(str(tmp_path), LocalFileSystem(skip_instance_cache=True)) for _ in "ab"))


def add(context: StorageContext, number: int) -> None:
    node = TextNode(id_=f"node-{number}", text=f"text é {number}", embedding=[0.5 * number, 0.1], metadata={"n": number})
    context.docstore.add_documents([node.model_copy(update={"embedding": None})])
    context.vector_store.add([node])
    structs = context.index_store.index_structs()
    struct = structs[0] if structs else IndexDict(index_id="index")
    struct.nodes_dict[node.node_id] = node.node_id
    context.index_store.add_index_struct(struct)
    context.graph_store.upsert_triplet("a", "r", str(number))


def made(n: int = 3) -> StorageContext:
    context = StorageContext.from_defaults()
    for number in range(n):
        add(context, number)
    return context


def as_json(context: StorageContext, folder: Path) -> Dict[str, bytes]:
    context.persist(str(folder), format="json")
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def names(place: Place) -> List[str]:
    place.other.invalidate_cache()
    return sorted(path.rsplit("/", 1)[-1] for path in place.other.ls(place.root, detail=False))


def opened(place: Place, **kwargs: Any) -> StorageContext:
    return StorageContext.open(place.root, fs=place.other, **kwargs)


def test_persist_open_generations_convert(place: Place, tmp_path: Path) -> None:
    context = made()
    context.persist(place.root, fs=place.fs, format="pack")
    states = {}
    for number in range(10, 30):
        add(context, number)
        context.persist(place.root, fs=place.fs)
        states[context.generation] = as_json(context, tmp_path / "json")
        if number % 5 == 0:
            assert as_json(opened(place), tmp_path / "back") == states[context.generation]
    kept = [g.number for g in pannier.history(place.root, place.other)]
    assert kept == [19, 20, 21]
    for number in kept:
        assert as_json(opened(place, generation=number, check=True), tmp_path / "back") == states[number]
    assert len(names(place)) <= 1 + 3 * 16 and names(place)[0] == "MANIFEST"
    pannier.convert(place.root, "json", fs=place.other)
    assert all(name.endswith(".json") for name in names(place))
    assert as_json(StorageContext.from_defaults(persist_dir=place.root, fs=place.fs), tmp_path / "back") == states[21]
    pannier.convert(place.root, "pack", fs=place.other)
    assert as_json(opened(place), tmp_path / "back") == states[21]
    assert not any(name.endswith(".json") for name in names(place))


def test_another_clients_changes_are_seen_through_cached_listings(place: Place) -> None:
    place.other.makedirs(place.root, exist_ok=True)
    assert not place.other.exists(f"{place.root}/MANIFEST")
    place.other.find(place.root)
    with pytest.raises(FileNotFoundError):
        opened(place)
    made().persist(place.root, fs=place.fs, format="pack")
    reader = opened(place)
    assert reader.docstore.document_exists("node-2")
    writer = StorageContext.open(place.root, fs=place.fs)
    for number in range(10, 14):
        place.other.ls(place.root)  # fills the cache
        add(writer, number)
        writer.persist(place.root, fs=place.fs, keep=1)
        assert reader.reload() and reader.docstore.document_exists(f"node-{number}")
        assert pannier.history(place.root, place.other)[-1].number == writer.generation
    place.other.ls(place.root)
    writer.persist(place.root, fs=place.fs, format="json")
    assert StorageContext.from_defaults(persist_dir=place.root, fs=place.other).docstore.document_exists("node-13")


def test_a_cached_listing_does_not_hide_a_pack_from_a_writer(place: Place) -> None:
    """Who thinks that there is none would begin a new one over it."""
    place.other.makedirs(place.root, exist_ok=True)
    place.other.pipe_file(f"{place.root}/notes.txt", b"mine")
    assert names(place) == ["notes.txt"]
    first = made()
    first.persist(place.root, fs=place.fs, format="pack")
    second = made(2)
    second.persist(place.root, fs=place.other, format="pack")  # a rebuild, as the next generation
    assert [g.number for g in pannier.history(place.root, place.fs)] == [1, 2]
    add(first, 50)
    with pytest.raises(ConflictError):
        first.persist(place.root, fs=place.fs)


class Puts:
    """Counts the puts and deletions of a client, and does something before or after one."""

    def __init__(self, fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: List[str] = []
        self.before: Callable[[int, str], None] = lambda number, path: None
        self.after: Callable[[int, str], None] = lambda number, path: None
        for name in ("pipe_file", "rm_file", "mv"):
            monkeypatch.setattr(fs, name, self.wrapped(getattr(fs, name)), raising=False)

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: str, *args: Any, **kwargs: Any) -> Any:
            number = len(self.done)
            self.before(number, path)
            self.done.append(path)
            result = function(path, *args, **kwargs)
            self.after(number, path)
            return result

        return call


def test_a_put_that_fails(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = made()
    context.persist(place.root, fs=place.fs, format="pack")
    puts = Puts(place.fs, monkeypatch)
    wanted = as_json(opened(place), tmp_path / "a")
    add(context, 100)
    left = names(place)
    for failing in itertools.count():

        def fail(number: int, path: str) -> None:
            if number >= failing:
                raise OSError(5, "the network is gone", path)

        puts.done, puts.before = [], fail
        try:
            context.persist(place.root, fs=place.fs)
        except OSError as e:
            assert "network" in str(e)
            assert as_json(opened(place), tmp_path / "b") == wanted
            continue
        break
    assert failing >= 2 and context.generation == 2
    puts.before = lambda number, path: None
    assert as_json(opened(place), tmp_path / "b") == as_json(context, tmp_path / "c")
    add(context, 101)
    context.persist(place.root, fs=place.fs)
    listed = {"MANIFEST", *(name for name in names(place) if name.startswith("seg-"))}
    assert set(names(place)) == listed and len(listed) == len(left) + 2  # what failed puts left went
    assert as_json(opened(place, check=True), tmp_path / "b") == as_json(context, tmp_path / "c")


def test_a_reader_between_the_puts(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = made()
    context.persist(place.root, fs=place.fs, format="pack", keep=1)
    puts = Puts(place.fs, monkeypatch)
    held = opened(place)
    seen: List[int] = []

    def look(number: int, path: str) -> None:
        reader = opened(place)
        seen.append(reader.generation or 0)
        assert as_json(reader, tmp_path / "seen") == states[reader.generation]
        held.reload()
        assert as_json(held, tmp_path / "seen") == states[held.generation]

    states = {1: as_json(context, tmp_path / "json")}
    for number in range(10, 19):
        add(context, number)
        states[number - 8] = as_json(context, tmp_path / "json")
        if number < 16:
            context.persist(place.root, fs=place.fs)
            continue
        puts.before = puts.after = look
        context.persist(place.root, fs=place.fs)
        puts.before = puts.after = lambda number, path: None
        assert seen[0] == number - 9 and seen[-1] == number - 8 and seen == sorted(seen)
        seen.clear()


def test_the_manifest_is_replaced_while_a_reader_fetches(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = made()
    context.persist(place.root, fs=place.fs, format="pack", keep=1)
    fetch = place.other.cat_file
    turns = iter(range(100, 103))

    def cat_file(path: str, *args: Any, **kwargs: Any) -> Any:
        if "/seg-" in path:
            for number in itertools.islice(turns, 1):
                add(context, number)
                context.persist(place.root, fs=place.fs)
                pannier_compact(context, place)
        return fetch(path, *args, **kwargs)

    monkeypatch.setattr(place.other, "cat_file", cat_file, raising=False)
    reader = opened(place)
    assert as_json(reader, tmp_path / "a") == as_json(context, tmp_path / "b")


def pannier_compact(context: StorageContext, place: Place) -> None:
    """All segments that are there go: a fresh context replaces every store."""
    fresh = StorageContext.from_dict(context.to_dict())
    fresh.persist(place.root, fs=place.fs)
    for name in ("docstore", "index_store", "graph_store", "vector_stores"):
        setattr(context, name, getattr(fresh, name))


def test_two_writers_between_each_others_puts(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no lock. Who finds another's manifest in place of the one that it read stops,
    and nobody removes what the other is about to refer to."""
    made().persist(place.root, fs=place.fs, format="pack")
    a, b = StorageContext.open(place.root, fs=place.fs), opened(place)
    puts = Puts(place.fs, monkeypatch)

    def other_writes(number: int, path: str) -> None:
        puts.after = lambda number, path: None
        add(b, 200)
        b.persist(place.root, fs=place.other)

    puts.after = other_writes  # after a's segment, before its manifest
    add(a, 100)
    with pytest.raises(ConflictError, match="reload"):
        a.persist(place.root, fs=place.fs)
    assert as_json(opened(place, check=True), tmp_path / "a") == as_json(b, tmp_path / "b")
    a.reload()
    add(a, 100)
    a.persist(place.root, fs=place.fs)
    both = opened(place, check=True)
    assert both.docstore.document_exists("node-100") and both.docstore.document_exists("node-200")


def test_a_segment_that_another_writer_has_just_put_is_left_alone(place: Place) -> None:
    context = made()
    context.persist(place.root, fs=place.fs, format="pack")
    add(context, 1)
    context.persist(place.root, fs=place.fs)
    theirs, old = "seg-0000000000000003-00000000000000aa.pn", "seg-0000000000000002-00000000000000aa.pn"
    for name in (theirs, old):
        place.fs.pipe_file(f"{place.root}/{name}", b"not yet listed")
    add(context, 50)
    context.persist(place.root, fs=place.fs)
    assert theirs in names(place) and old not in names(place)
    add(context, 51)
    context.persist(place.root, fs=place.fs)
    assert theirs not in names(place)  # that writer's base is gone


class CutOff(Exception):
    pass


def test_a_conversion_to_json_that_is_cut_off_at_any_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pack or the JSON files are whole; where it is not clear which, the error says how to go on."""
    fs = fsspec.filesystem("memory")
    puts = 0
    context = made()
    wanted = as_json(context, tmp_path / "wanted")
    outcomes = []
    for cut_at in range(100):
        place = Place(f"/packs/{next(numbers)}-{random.random()}", fs, fs)
        context.persist(place.root, fs=fs, format="pack")
        puts = 0

        def put(path: str, value: bytes, **kwargs: Any) -> None:
            nonlocal puts
            if puts == cut_at:
                raise CutOff
            puts += 1
            type(fs).pipe_file(fs, path, value, **kwargs)

        monkeypatch.setattr(fs, "pipe_file", put, raising=False)
        try:
            opened(place).persist(place.root, fs=fs, format="json")
        except CutOff:
            pass
        monkeypatch.undo()
        try:
            found = opened(place)
            outcomes.append("pack" if found.generation else "json")
        except MixedFormatError as e:
            assert "cut off" in str(e) and "format='pack'" in str(e)
            outcomes.append("mixed")
            found = opened(place, format="pack")
        assert as_json(found, tmp_path / "found") == wanted
        found.persist(place.root, fs=fs, format="json")
        assert as_json(opened(place), tmp_path / "again") == wanted
        assert not any(name.startswith("seg-") for name in names(place))
        if puts < cut_at:
            break
    assert outcomes == sorted(outcomes, key=["pack", "mixed", "json"].index) and set(outcomes) == {"pack", "mixed", "json"}


def test_damage_and_what_others_put_beside(place: Place) -> None:
    context = made()
    context.persist(place.root, fs=place.fs, format="pack")
    segment = next(name for name in names(place) if name.startswith("seg-"))
    good = place.fs.cat_file(f"{place.root}/{segment}")
    place.fs.pipe_file(f"{place.root}/{segment}", good[:-1])
    with pytest.raises(CorruptPackError, match=segment):
        opened(place)
    place.fs.pipe_file(f"{place.root}/{segment}", good)
    place.fs.pipe_file(f"{place.root}/docstore.json", b"{}")
    with pytest.raises(MixedFormatError, match="docstore.json"):
        opened(place)
    with pytest.raises(MixedFormatError, match="docstore.json"):
        context.persist(place.root, fs=place.fs)


def test_a_wrapped_local_manifest_is_never_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a file system writes into the file itself: a killed process would leave half."""
    fs = DirFileSystem(str(tmp_path), LocalFileSystem(skip_instance_cache=True))
    context = made()
    context.persist("storage", fs=fs, format="pack")
    before = (tmp_path / "storage" / "MANIFEST").read_bytes()
    held = open(tmp_path / "storage" / "MANIFEST", "rb")
    add(context, 1)
    context.persist("storage", fs=fs)
    add(context, 2)
    context.persist("storage", fs=fs)
    with held:
        assert held.read() == before  # it was replaced, not written over
    assert sorted(p.name.split("-")[0] for p in (tmp_path / "storage").iterdir()) == ["MANIFEST", "seg", "seg", "seg"]
