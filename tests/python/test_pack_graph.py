"""Packs: a graph store costs what changed in it, by subject, and what is read is what
LlamaIndex's store holds after the same edits, in its order and in its JSON bytes."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from llama_index.core.graph_stores.simple import SimpleGraphStore as PeerGraphStore
from oracle import ROUNDS
from test_pack import opened

import pannier
from pannier import ConflictError, SimpleGraphStore, StorageContext, _core, _packing
from pannier.errors import CommitError, CorruptPackError

NAME = "graph_store.json"
COLLECTIONS, TEXT = 1, 3
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def kind(folder: Path) -> int:
    return _core.pack_manifest(str(folder))["generations"][-1]["stores"][NAME][0]


def last_segment(folder: Path) -> Path:
    found = _core.pack_manifest(str(folder))
    return folder / found["generations"][-1]["segments"][-1]


def text_of(store: Any, scratch: Path) -> bytes:
    store.persist(str(scratch / NAME))
    return (scratch / NAME).read_bytes()


def check(folder: Path, wanted: Any, scratch: Path) -> Tuple[StorageContext, Any]:
    """The pack has what a store of LlamaIndex's has. Returns both as they are when read."""
    scratch.mkdir(exist_ok=True)
    text = text_of(wanted, scratch)
    found, peer = opened(folder), PeerGraphStore.from_persist_path(str(scratch / NAME))
    assert bytes(_core.Pack.open(str(folder)).text(NAME)) == text
    assert text_of(found.graph_store, scratch) == text_of(peer, scratch)
    assert list(found.graph_store._data.graph_dict) == list(peer._data.graph_dict)
    return found, peer


def build(triplets: int) -> StorageContext:
    context = StorageContext.from_defaults()
    for i in range(triplets):
        context.graph_store.upsert_triplet(f"s{i // 4}", f"r{i % 3}", f"o{i}")
    return context


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pack"


# ----- The same edits here and there -----


class Editor:
    """Edits a store and LlamaIndex's in the same way."""

    def __init__(self, rng: random.Random, odd: bool) -> None:
        self.rng = rng
        self.edits = [self.upsert] * 6 + [self.delete] * 3 + [self.look, self.edit_list, self.assign, self.remove]
        if odd:
            self.edits += [self.put_odd, self.empty]

    def subject(self) -> str:
        return self.rng.choice(["a", "b", "c", "d", "\u00e9", "\ud800", "", "a b", "\u4e2d"])

    def step(self, *stores: Any) -> None:
        edit, seed = self.rng.choice(self.edits), self.rng.random()
        for store in stores:
            self.rng.seed(seed)
            edit(store)

    def pair(self) -> List[str]:
        return [f"r{self.rng.randrange(2)}", f"o{self.rng.randrange(4)}"]

    def upsert(self, store: Any) -> None:
        store.upsert_triplet(self.subject(), *self.pair())

    def delete(self, store: Any) -> None:
        subject, pair = self.subject(), self.pair()
        graph = store._data.graph_dict
        if isinstance(store, SimpleGraphStore):
            store.delete(subject, *pair)
        elif pair in graph.get(subject, []):  # what LlamaIndex's delete is meant to do
            graph[subject].remove(pair)
            if not graph[subject]:
                del graph[subject]

    def look(self, store: Any) -> None:
        store.get(self.subject())

    def edit_list(self, store: Any) -> None:
        links = store._data.graph_dict.get(self.subject())
        if links:
            links[self.rng.randrange(len(links)):] = [self.pair()]

    def assign(self, store: Any) -> None:
        store._data.graph_dict[self.subject()] = [["r", str(self.rng.random())]]

    def remove(self, store: Any) -> None:
        store._data.graph_dict.pop(self.subject(), None)

    def put_odd(self, store: Any) -> None:
        store._data.graph_dict[self.subject()] = [["r", "o", self.rng.random()]]

    def empty(self, store: Any) -> None:
        store._data.graph_dict.clear()


@pytest.mark.parametrize("seed", range(max(3, ROUNDS // 10)))
@pytest.mark.parametrize("odd", [False, True])
def test_random_edits(seed: int, odd: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    editor = Editor(rng, odd)
    context, peer = StorageContext.from_defaults(), PeerGraphStore()
    context.persist(folder, format="pack")
    for _ in range(40):
        for _ in range(rng.randrange(8)):
            editor.step(context.graph_store, peer)
        what = rng.randrange(8)
        if what == 0:
            with monkeypatch.context() as m, pytest.raises(CommitError):
                m.setattr(_packing, "_commit", fail)
                context.persist(folder)
            continue
        if what == 1:
            context.graph_store.persist(str(folder / NAME))
        else:
            context.persist(folder)
        read = check(folder, peer, tmp_path / "scratch")
        if what == 2:
            context, peer = read
        elif what == 3:
            pannier.compact(folder)
            check(folder, peer, tmp_path / "scratch")
    assert pannier.verify(folder) == []


def fail(*args: Any) -> Any:
    raise CommitError(28, "No space left on device")


# ----- What it costs -----


def test_an_edit_costs_its_subject_however_large_the_graph(tmp_path: Path) -> None:
    sizes: Dict[int, List[int]] = {}
    for n in (100, 10_000):
        folder = tmp_path / str(n)
        context = build(n)
        context.persist(folder, format="pack")
        for edit in (
            lambda c: c.graph_store.upsert_triplet("s7", "new", "o"),
            lambda c: c.graph_store.delete("s7", "new", "o"),
            lambda c: c.graph_store._data.graph_dict.pop("s9"),
            lambda c: c.graph_store.get("s3").append(["r", "o"]),
        ):
            edit(context)
            context.persist(folder)
            sizes.setdefault(n, []).append(last_segment(folder).stat().st_size)
        assert context.graph_store.to_dict() == opened(folder).graph_store.to_dict()
    assert max(sizes[10_000]) < 600
    assert sizes[100] == sizes[10_000]


@pytest.mark.parametrize("again", [False, True])
def test_what_is_only_looked_at_is_not_written(again: bool, folder: Path) -> None:
    context = build(40)
    context.persist(folder, format="pack")
    if again:
        context = opened(folder)
    context.graph_store.get("s1")
    context.graph_store._data.graph_dict["s2"]
    context.graph_store.get_rel_map(["s3"])
    context.graph_store.upsert_triplet("s4", "r1", "o16")
    assert ("r1", "o16") in map(tuple, context.graph_store.get("s4"))
    context.persist(folder)
    assert context.generation == 1
    context.graph_store.get("s1").append(["r", "o"])
    context.persist(folder)
    assert context.generation == 2
    assert opened(folder).graph_store.get("s1")[-1] == ["r", "o"]


# ----- Text and tables -----


def test_values_that_a_table_does_not_have_are_kept_as_text(folder: Path, tmp_path: Path) -> None:
    context, peer = build(8), PeerGraphStore.from_dict(build(8).graph_store.to_dict())
    context.persist(folder, format="pack")
    assert kind(folder) == COLLECTIONS
    for store in (context.graph_store, peer):
        store._data.graph_dict["odd"] = [["r", 1]]
    context.persist(folder)
    assert kind(folder) == TEXT
    check(folder, peer, tmp_path / "scratch")
    for store in (context.graph_store, peer):
        del store._data.graph_dict["odd"]
        store.upsert_triplet("s0", "r", "o")
    context.persist(folder)
    assert kind(folder) == COLLECTIONS
    check(folder, peer, tmp_path / "scratch")
    assert [g.number for g in pannier.history(folder)] == [1, 2, 3]
    assert "odd" in StorageContext.open(folder, generation=2).graph_store._data.graph_dict


def test_a_plain_dict_in_its_place_is_written_whole(folder: Path, tmp_path: Path) -> None:
    context = build(8)
    context.persist(folder, format="pack")
    table = context.graph_store._data
    context.graph_store._data.graph_dict = {"x": [["r", "o"]]}
    context.persist(folder)
    assert kind(folder) == TEXT
    assert opened(folder).graph_store.to_dict() == {"graph_dict": {"x": [["r", "o"]]}}
    context.graph_store._data = build(4).graph_store._data
    context.persist(folder)
    assert kind(folder) == COLLECTIONS
    context.graph_store._data = table
    context.graph_store._data.graph_dict = build(12).graph_store._data.graph_dict
    context.persist(folder)
    assert opened(folder).graph_store.to_dict() == build(12).graph_store.to_dict()


@pytest.mark.parametrize("case", ["written", "merged"])
def test_a_pack_that_has_it_as_text(case: str, folder: Path, tmp_path: Path) -> None:
    """As packs of earlier releases do: it is a table from the first change on."""
    shutil.copytree(GOLDEN / "pack-v1" / case / "pack", folder)
    context = opened(folder)
    before = context.generation
    peer = PeerGraphStore.from_dict(context.graph_store.to_dict())
    assert kind(folder) == TEXT
    context.persist(folder)
    assert (context.generation, kind(folder)) == (before, TEXT)
    for i in range(20):
        for store in (context.graph_store, peer):
            store.upsert_triplet(f"s{i % 7}", "r", f"o{i}")
        context.persist(folder, keep=2)
        assert kind(folder) == COLLECTIONS
        check(folder, peer, tmp_path / "scratch")
    assert last_segment(folder).stat().st_size < 1000 or len(pannier.history(folder)) == 1
    assert pannier.verify(folder) == []


# ----- Nothing is lost -----


def test_a_stale_context_overwrites_nothing_whatever_its_graph_is(folder: Path) -> None:
    build(8).persist(folder, format="pack")
    plain, cleared, other, kept = (opened(folder) for _ in range(4))
    writer = opened(folder)
    writer.graph_store.upsert_triplet("new", "r", "o")
    writer.persist(folder)
    plain.graph_store._data.graph_dict = {"x": []}
    cleared.graph_store._data.graph_dict.clear()
    other.graph_store._data = build(4).graph_store._data
    kept.graph_store.upsert_triplet("x", "r", "o")
    for stale in (plain, cleared, other, kept):
        with pytest.raises(ConflictError, match=NAME):
            stale.persist(folder)
    assert opened(folder).graph_store.get("new") == [["r", "o"]]


def test_two_stores_over_the_same_triplets(tmp_path: Path) -> None:
    """What one of them saved to a pack counts as unsaved for the pack of the other."""
    first = build(8).graph_store
    second = SimpleGraphStore(first._data)
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        StorageContext.from_defaults().persist(folder, format="pack")
    for i in range(3):
        for store, folder in ((first, a), (second, b)):
            store.upsert_triplet("s0", folder.name, str(i))
            context = opened(folder)
            context.graph_store = store
            shutil.rmtree(folder)
            context.persist(folder, format="pack")
            store.upsert_triplet("s1", folder.name, str(i))
            store.persist(str(folder / NAME))
            assert opened(folder).graph_store.to_dict() == store.to_dict()


def test_to_two_packs_in_turn(tmp_path: Path) -> None:
    context = build(8)
    for i in range(6):
        folder = tmp_path / "ab"[i % 2]
        context.graph_store.upsert_triplet("s0", "r", f"new {i}")
        context.persist(folder, format="pack")
        assert opened(folder).graph_store.to_dict() == context.graph_store.to_dict()


def test_what_is_damaged_is_named(folder: Path) -> None:
    build(8).persist(folder, format="pack")
    segment = last_segment(folder)
    data = bytearray(segment.read_bytes())
    at = data.index(b'[["r0", "o0"]')
    data[at + 3] ^= 1
    segment.write_bytes(data)
    with pytest.raises(CorruptPackError, match=segment.name):
        opened(folder)
    assert [Path(f.path).name for f in pannier.verify(folder)] == [segment.name]


def test_json_of_a_converted_pack(folder: Path, tmp_path: Path) -> None:
    context = build(12)
    context.persist(folder, format="pack")
    context.graph_store.delete("s0", "r0", "o0")
    context.graph_store.upsert_triplet("\u00e9", "r", "\ud83d\ude00")
    context.persist(folder)
    pannier.convert(folder, "json", out=tmp_path / "json")
    wanted = json.dumps(context.graph_store.to_dict()).encode()
    assert (tmp_path / "json" / NAME).read_bytes() == wanted
