"""Directories that earlier releases wrote, in ``tests/golden``: read and written for ever."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery

import pannier
from pannier import StorageContext, _core

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = sorted(p.parent for p in GOLDEN.glob("*/*/pack"))
every_case = pytest.mark.parametrize("case", CASES, ids=lambda p: f"{p.parent.name}-{p.name}")


def contents(folder: Path) -> Dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def generations(case: Path) -> Iterator[Tuple[int, Dict[str, bytes]]]:
    """(number, its JSON files), oldest first."""
    for number in sorted(int(p.name) for p in (case / "json").iterdir()):
        yield number, contents(case / "json" / str(number))


def as_json(context: StorageContext, folder: Path) -> Dict[str, bytes]:
    shutil.rmtree(folder, ignore_errors=True)
    context.persist(str(folder), format="json")
    return contents(folder)


def test_nothing_was_changed_added_or_removed() -> None:
    versions = [p for p in GOLDEN.iterdir() if p.is_dir() and p.name.startswith("pack-v")]
    assert [p.name for p in versions] == ["pack-v1"]
    assert sorted(p.name for p in CASES) == ["by_hand", "converted", "merged", "written"]
    for root in versions:
        listed = dict(reversed(line.split("  ", 1)) for line in (root / "SHA256SUMS").read_text("utf-8").splitlines())
        found = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file() and p.name != "SHA256SUMS"}
        assert found.keys() == listed.keys()
        assert [n for n, p in found.items() if hashlib.sha256(p.read_bytes()).hexdigest() != listed[n]] == []


@every_case
def test_every_generation_is_what_it_was(case: Path, tmp_path: Any) -> None:
    before = contents(case / "pack")
    kept = [g.number for g in pannier.history(case / "pack")]
    assert kept == [number for number, _ in generations(case)]
    for number, wanted in generations(case):
        for check in (False, True):
            context = StorageContext.open(case / "pack", generation=number, check=check, read_only=True)
            assert context.generation == number
            context._pn_read_only = False  # to see what it holds
            assert as_json(context, tmp_path / "back") == wanted
        core = _core.Pack.open(str(case / "pack"), number)
        assert {name: bytes(core.text(name)) for name in wanted} == wanted
    assert contents(case / "pack") == before


@every_case
def test_verify_finds_nothing(case: Path) -> None:
    assert pannier.verify(case / "pack") == []
    assert pannier.inspect(case / "pack")["format"] == "pack"


@every_case
def test_convert_gives_the_files(case: Path, tmp_path: Any) -> None:
    *_, (_, wanted) = generations(case)
    pannier.convert(case / "pack", "json", out=tmp_path / "out")
    assert contents(tmp_path / "out") == wanted
    shutil.copytree(case / "pack", tmp_path / "here")
    pannier.convert(tmp_path / "here", "json")
    assert contents(tmp_path / "here") == wanted
    pannier.convert(tmp_path / "here", "pack")
    pannier.convert(tmp_path / "here", "json")
    assert contents(tmp_path / "here") == wanted


@every_case
def test_every_value_can_be_read(case: Path) -> None:
    context = StorageContext.open(case / "pack")
    for store in (context.docstore, context.index_store):
        for name in list(store._kvstore._collections_mappings):
            assert all(v is not None for v in store._kvstore.get_all(collection=name).values())
    assert context.index_store.index_structs() is not None
    for store in context.vector_stores.values():
        rows = {key: list(row) for key, row in store.data.embedding_dict.items()}
        for key, row in rows.items():
            if rows and all(len(other) == len(row) for other in rows.values()):
                found = store.query(VectorStoreQuery(query_embedding=row, similarity_top_k=len(rows)))
                assert key in found.ids


@every_case
def test_writing_goes_on_there(case: Path, tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(case / "pack", folder)
    *_, (number, wanted) = generations(case)
    context = StorageContext.open(folder)
    context.persist(str(folder))
    assert context.generation == number  # nothing had changed
    for turn in range(1, 20):  # so often that all is merged with what is new
        made = TextNode(id_=f"new-{turn}", text="t", embedding=[0.25, 2.0 * turn], metadata={"turn": turn})
        context.docstore.add_documents([made.model_copy(update={"embedding": None})])
        context.vector_store.add([made])
        for struct in context.index_store.index_structs():
            if hasattr(struct, "nodes_dict"):
                struct.nodes_dict[f"new-{turn}"] = f"new-{turn}"
                context.index_store.add_index_struct(struct)
        context.persist(str(folder))
        assert context.generation == number + turn
        if turn == 1 and number in [g.number for g in pannier.history(folder)]:
            assert as_json(StorageContext.open(folder, generation=number), tmp_path / "old") == wanted
    assert as_json(StorageContext.open(folder, check=True), tmp_path / "a") == as_json(context, tmp_path / "b")
    assert not list(folder.glob("*.json")) and pannier.verify(folder) == []
    pannier.compact(folder)
    assert as_json(StorageContext.open(folder, check=True), tmp_path / "a") == as_json(context, tmp_path / "b")


@every_case
def test_compacting_and_going_back_keep_the_meaning(case: Path, tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(case / "pack", folder)
    first, wanted = next(generations(case))
    pannier.rollback(folder, first)
    assert as_json(StorageContext.open(folder), tmp_path / "a") == {**wanted, **as_json(StorageContext.open(folder), tmp_path / "a")}
    for name, text in wanted.items():
        assert contents(tmp_path / "a")[name] == text
    pannier.compact(folder, keep=0)
    assert {n: t for n, t in as_json(StorageContext.open(folder), tmp_path / "a").items() if n in wanted} == wanted
    for number, files in generations(case):
        if number in [g.number for g in pannier.history(folder)]:
            assert as_json(StorageContext.open(folder, generation=number), tmp_path / "b") == files
