"""Mutated manifests and segments, through everything that reads a pack: an error that names
the file, or the right data.

The seeds are the golden directories. Each mutated file is opened with and without
``check``, every store is used in every way, ``verify`` must find the damage. With
checksums put right again afterwards (what no accident does, and an attacker can) anything
may be read, but nothing may crash.

    PANNIER_TEST_MUTATIONS=1000 sh tools/run asan tests/python/test_pack_mutation.py

is the long run; PANNIER_TEST_SEED=7 another one.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import struct
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from llama_index.core.vector_stores.types import ExactMatchFilter, MetadataFilters, VectorStoreQuery

import pannier
from pannier import CorruptPackError, FormatVersionError, StorageContext, _core

ROUNDS = int(os.environ.get("PANNIER_TEST_MUTATIONS", "60"))
SEED = int(os.environ.get("PANNIER_TEST_SEED", "1"))
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "pack-v1"
CASES = ("by_hand", "merged", "written")
KNOWN = (CorruptPackError, FormatVersionError)


# ----- Everything that can be asked -----

Probe = Tuple[str, Callable[[StorageContext], Any]]


def kv_probes(label: str, keys: Dict[str, List[str]]) -> Iterator[Probe]:
    def table(context: StorageContext) -> Any:
        return getattr(context, label)._kvstore

    for name, wanted in keys.items():
        for key in wanted:
            yield f"{label} {name} {key!r}", lambda c, n=name, k=key: table(c).get(k, collection=n)
    for name in keys:
        yield f"{label} {name}", lambda c, n=name: table(c).get_all(collection=n)


def vector_probes(namespace: str, keys: List[str], dim: int) -> Iterator[Probe]:
    def store(context: StorageContext) -> Any:
        return context.vector_stores[namespace]

    for key in keys:
        yield f"row {key!r}", lambda c, k=key: list(store(c).data.embedding_dict[k])
    yield "metadata", lambda c: dict(store(c).data.metadata_dict)
    yield "documents", lambda c: dict(store(c).data.text_id_to_ref_doc_id)
    query = VectorStoreQuery(query_embedding=[0.5] * dim, similarity_top_k=3)
    filtered = VectorStoreQuery(
        query_embedding=[0.5] * dim, similarity_top_k=3, filters=MetadataFilters(filters=[ExactMatchFilter(key="n", value=2)])
    )
    for q in (query, filtered):
        yield "query", lambda c, q=q: _answer(store(c), q)


def _answer(store: Any, query: VectorStoreQuery) -> Any:
    try:
        found = store.query(query)
    except KNOWN:
        raise
    except Exception as e:  # rows of other lengths: LlamaIndex's own words
        return type(e).__name__
    return found.ids, found.similarities


def probes(context: StorageContext, folder: Path) -> List[Probe]:
    found: List[Probe] = []
    for label in ("docstore", "index_store"):
        tables = getattr(context, label)._kvstore._collections_mappings
        found += kv_probes(label, {name: list(tables[name]) for name in list(tables)})
    for namespace, store in context.vector_stores.items():
        rows = {key: list(row) for key, row in store.data.embedding_dict.items()}
        found += vector_probes(namespace, list(rows), max((len(r) for r in rows.values()), default=2))
    found += [
        ("nodes", lambda c: {key: _node(c, key) for key in list(c.docstore.docs)}),
        ("structs", lambda c: [s.to_json() for s in c.index_store.index_structs()]),
        ("ref docs", lambda c: {k: v.to_dict() for k, v in (c.docstore.get_all_ref_doc_info() or {}).items()}),
        ("hashes", lambda c: c.docstore.get_all_document_hashes()),
        ("graph", lambda c: c.graph_store.get_rel_map(["a"])),
        ("pickle", lambda c: pickle.loads(pickle.dumps(c.docstore))._kvstore.to_dict()),
        ("json", lambda c: _files(c, folder, "json")),
        ("pack", lambda c: _pack(c, folder)),
    ]
    return found


def _node(context: StorageContext, key: str) -> Any:
    try:
        return {**context.docstore.get_document(key).to_dict(), "id_": key}  # which a node without one draws
    except KNOWN:
        raise
    except Exception as e:  # a value that is no node: LlamaIndex's own words
        return type(e).__name__


def _files(context: StorageContext, folder: Path, format: str) -> Dict[str, bytes]:
    shutil.rmtree(folder, ignore_errors=True)
    context.persist(str(folder), format=format)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def _pack(context: StorageContext, folder: Path) -> Dict[str, bytes]:
    _files(context, folder, "pack")
    core = _core.Pack.open(str(folder), 0, True)
    return {name: bytes(core.text(name)) for name in core.manifest["generations"][-1]["stores"]}


def ask(folder: Path, every: List[Probe], generation: int, check: bool) -> List[Any]:
    """Every answer, or None where the damage was told; None for all when it was at opening."""
    try:
        context = StorageContext.open(folder, generation=generation, check=check)
    except KNOWN as e:
        assert str(folder) in str(e)
        return [None] * len(every)
    answers = []
    for name, probe in every:
        try:
            answers.append((name, probe(context)))
        except KNOWN as e:
            assert str(folder) in str(e) and not check, (name, e)
            answers.append(None)
    return answers


# ----- Mutations -----


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def drop(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 80)]


def insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((bytes(rng.randrange(1, 70)), rng.randbytes(9), bytes(data[at : at + 64])))


def splice_length(rng: random.Random, data: bytearray) -> None:
    """A length, an offset or a count, large, off by one or off by a lot."""
    size = rng.choice((1, 2, 4, 8))
    order = rng.choice(("little", "big"))
    at = rng.randrange(max(1, len(data) - size))
    old = int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]
    new = rng.choice((old + 1, old - 1, old * 2, 0, len(data), 2 ** (8 * size) - 1, 2 ** (8 * size - 1)))
    data[at : at + size] = (new % 2 ** (8 * size)).to_bytes(size, order)  # type: ignore[arg-type]


def copy_within(rng: random.Random, data: bytearray) -> None:
    a, b, n = rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(1, 200)
    piece = data[a : a + n]
    data[b : b + len(piece)] = piece


MUTATIONS = (flip, flip, cut, drop, insert, splice_length, splice_length, copy_within)


def crc(data: bytes) -> int:
    return int(_core.crc32c(data))


def mend_manifest(data: bytearray) -> None:
    """All checksums and the length are right again."""
    if len(data) >= 32:
        data[12:24] = struct.pack("<IQ", crc(bytes(data[32:])), len(data) - 32)
        data[28:32] = struct.pack("<I", crc(bytes(data[:28])))


def mend_segment(data: bytearray) -> None:
    """Tail, index and, as far as they can be found, blocks and values."""
    if len(data) < 128:
        return
    at, length = struct.unpack_from("<QQ", data, len(data) - 64)
    if at + length + 64 != len(data):
        at, length = max(64, min(at, len(data) - 64)), len(data) - 64 - max(64, min(at, len(data) - 64))
    struct.pack_into("<QQQI", data, len(data) - 64, at, length, len(data), crc(bytes(data[at : at + length])))
    struct.pack_into("<I", data, len(data) - 4, crc(bytes(data[-64:-4])))


def mend_listing(folder: Path, name: str, data: bytes) -> None:
    """The manifest lists the mutated segment's length and tail."""
    old = (folder / name).read_bytes()
    manifest = bytearray((folder / "MANIFEST").read_bytes())
    at = manifest.index(name.encode()) + len(name)
    listed = _packed(len(old)) + _packed(int.from_bytes(old[-4:], "little"))
    assert manifest[at : at + len(listed)] == listed
    manifest[at : at + len(listed)] = _packed(len(data)) + _packed(int.from_bytes(data[-4:], "little"))
    mend_manifest(manifest)
    (folder / "MANIFEST").write_bytes(bytes(manifest))


def _packed(n: int) -> bytes:
    for code, form, limit in ((b"", ">B", 128), (b"\xcc", ">B", 256), (b"\xcd", ">H", 1 << 16)):
        if n < limit:
            return code + struct.pack(form, n)
    return b"\xce" + struct.pack(">I", n)


def mutated(rng: random.Random, good: bytes) -> bytes:
    while True:
        data = bytearray(good)
        rng.choice(MUTATIONS)(rng, data)
        if bytes(data) != good:
            return bytes(data)


# ----- The tests -----


class Seed:
    """A golden directory, what it answers in one of its generations, and a copy to be damaged."""

    def __init__(self, name: str, rng: random.Random, tmp_path: Path) -> None:
        self.folder = tmp_path / name
        if not self.folder.exists():
            shutil.copytree(GOLDEN / name / "pack", self.folder)
        self.generation = rng.choice([g.number for g in pannier.history(self.folder)])
        good = StorageContext.open(self.folder, generation=self.generation)
        self.probes = probes(good, tmp_path / "out")
        self.wanted = ask(self.folder, self.probes, self.generation, True)
        assert None not in self.wanted

    def choose(self, rng: random.Random, kind: str) -> Path:
        if kind == "manifest":
            return self.folder / "MANIFEST"
        return rng.choice(sorted(self.folder.glob("seg-*")))


@pytest.mark.parametrize("kind", ["manifest", "segment"])
def test_a_mutated_file_is_an_error_or_gives_the_right_data(kind: str, tmp_path: Path) -> None:
    rng = random.Random(f"{SEED} {kind}")
    seeds: Dict[str, Seed] = {}
    told = right = 0
    for turn in range(ROUNDS):
        name = rng.choice(CASES)
        if turn % 20 == 0:
            seeds.clear()  # other generations
        seed = seeds.setdefault(name, seeds.get(name) or Seed(name, rng, tmp_path))
        path = seed.choose(rng, kind)
        good = path.read_bytes()
        path.write_bytes(mutated(rng, good))
        for check in (False, True):
            for answer, wanted in zip(ask(seed.folder, seed.probes, seed.generation, check), seed.wanted):
                told, right = told + (answer is None), right + (answer is not None)
                assert answer is None or answer == wanted, path
        try:
            findings = pannier.verify(seed.folder)
            assert findings and all(f.path == str(path) and 0 <= f.offset <= 1 << 20 for f in findings)
        except KNOWN as e:
            assert path.name in str(e)
        path.write_bytes(good)
    assert told > ROUNDS and (kind == "manifest" or right > ROUNDS)


@pytest.mark.parametrize("kind", ["manifest", "segment"])
def test_a_mutated_file_with_good_checksums_does_not_crash(kind: str, tmp_path: Path) -> None:
    rng = random.Random(f"{SEED} mended {kind}")
    refused = read = 0
    for turn in range(ROUNDS):
        if turn % 20 == 0:
            shutil.rmtree(tmp_path, ignore_errors=True)
            tmp_path.mkdir()
            seeds = {name: Seed(name, rng, tmp_path) for name in CASES}
        seed = seeds[rng.choice(CASES)]
        path = seed.choose(rng, kind)
        saved = {p: p.read_bytes() for p in seed.folder.iterdir()}
        data = bytearray(mutated(rng, saved[path]))
        (mend_manifest if kind == "manifest" else mend_segment)(data)
        if kind == "segment":
            mend_listing(seed.folder, path.name, bytes(data))
        path.write_bytes(bytes(data))
        for check in (False, True):
            try:
                context = StorageContext.open(seed.folder, check=check)
            except SystemError:
                raise
            except Exception:
                refused += 1
                continue
            read += 1
            for _, probe in seed.probes:
                try:
                    probe(context)
                except SystemError:
                    raise
                except Exception:
                    pass
        for work in (lambda: pannier.verify(seed.folder), lambda: pannier.compact(seed.folder, keep=0)):
            try:
                work()
            except SystemError:
                raise
            except Exception:
                pass
        for p in seed.folder.iterdir():
            p.unlink()
        for p, old in saved.items():
            p.write_bytes(old)
    assert refused and read
