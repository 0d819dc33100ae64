"""Packs: the same stores, saved as a log of changes.

What a pack holds is compared with LlamaIndex's own files: a context is persisted as a
pack, opened again, persisted as JSON, and the bytes must be those that the context
itself gives as JSON, which other tests compare with LlamaIndex's.
"""

from __future__ import annotations

import datetime
import os
import pickle
import random
import subprocess
import sys
from typing import Any, Dict, List

import fsspec
import pytest
from llama_index.core.graph_stores.types import EntityNode, Relation
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.storage_context import StorageContext as PeerContext
from llama_index.core.vector_stores.types import VectorStoreQuery

import pannier
from pannier import (
    ConflictError,
    CorruptPackError,
    FormatVersionError,
    GenerationError,
    LockedError,
    MixedFormatError,
    ReadOnlyError,
    SimpleDocumentStore,
    SimpleGraphStore,
    SimpleIndexStore,
    SimplePropertyGraphStore,
    SimpleVectorStore,
    StorageContext,
    UnserializableError,
)
from llama_index.core.data_structs.data_structs import IndexDict

ROUNDS = int(os.environ.get("PANNIER_TEST_ROUNDS", "200"))
JSON_NAMES = ("docstore.json", "index_store.json", "graph_store.json", "default__vector_store.json")


def node(rng: random.Random, number: int, dim: int = 8, exact: bool = True) -> TextNode:
    values = [rng.uniform(-1, 1) for _ in range(dim)]
    if exact:
        values = [float(x) for x in memoryview(bytearray(b"".join(_f32(v) for v in values))).cast("f")]
    made = TextNode(
        id_=f"node-{number}",
        text=f"text {number} " + "äé\n\U0001f600 " * rng.randrange(4),
        embedding=values,
        metadata={"n": number, "tag": rng.choice("abc"), "list": [1, 2.5, None]},
    )
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc-{number // 4}")
    return made


def _f32(value: float) -> bytes:
    import struct

    return struct.pack("f", value)


def add(context: StorageContext, nodes: List[TextNode], namespace: str = "default") -> None:
    context.docstore.add_documents([n.model_copy(update={"embedding": None}) for n in nodes])
    if namespace not in context.vector_stores:
        context.vector_stores[namespace] = SimpleVectorStore()
    context.vector_stores[namespace].add(nodes)
    structs = context.index_store.index_structs()
    struct = structs[0] if structs else IndexDict(index_id="index")
    for n in nodes:
        struct.nodes_dict[n.node_id] = n.node_id
    context.index_store.add_index_struct(struct)


def build(n: int = 40, seed: int = 1) -> StorageContext:
    rng = random.Random(seed)
    context = StorageContext.from_defaults(property_graph_store=SimplePropertyGraphStore())
    add(context, [node(rng, i, exact=i % 3 != 0) for i in range(n)])
    context.graph_store.upsert_triplet("a", "likes", "b")
    context.property_graph_store.upsert_nodes([EntityNode(name="x", label="é"), EntityNode(name="y")])
    context.property_graph_store.upsert_relations([Relation(label="r", source_id="x", target_id="y")])
    return context


def files(folder: Any) -> Dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def as_json(context: StorageContext, folder: Any) -> Dict[str, bytes]:
    """What the context's JSON files hold."""
    folder.mkdir(exist_ok=True, parents=True)
    for old in folder.iterdir():
        old.unlink()
    context.persist(str(folder), format="json")
    return files(folder)


def opened(folder: Any, **kwargs: Any) -> StorageContext:
    return StorageContext.open(str(folder), **kwargs)


# ----- The round trip -----


def test_a_pack_holds_what_the_json_files_hold(tmp_path: Any) -> None:
    context = build()
    wanted = as_json(context, tmp_path / "json")
    context.persist(str(tmp_path / "pack"), format="pack")
    assert sorted(p.name.split("-")[0] for p in (tmp_path / "pack").iterdir()) == ["MANIFEST", "seg"]
    for check in (False, True):
        assert as_json(opened(tmp_path / "pack", check=check), tmp_path / "back") == wanted
    assert as_json(StorageContext.from_defaults(persist_dir=str(tmp_path / "pack")), tmp_path / "back") == wanted


def test_empty_and_single_node_contexts(tmp_path: Any) -> None:
    for n in (0, 1):
        context = StorageContext.from_defaults()
        if n:
            add(context, [node(random.Random(1), 0)])
        wanted = as_json(context, tmp_path / f"json{n}")
        context.persist(str(tmp_path / f"pack{n}"), format="pack")
        assert as_json(opened(tmp_path / f"pack{n}"), tmp_path / "back") == wanted


def test_an_opened_context_answers_like_the_original(tmp_path: Any) -> None:
    context = build(60)
    context.persist(str(tmp_path / "pack"), format="pack")
    other = opened(tmp_path / "pack")
    query = VectorStoreQuery(query_embedding=[0.1 * i for i in range(8)], similarity_top_k=7)
    mine, theirs = context.vector_store.query(query), other.vector_store.query(query)
    assert (mine.ids, mine.similarities) == (theirs.ids, theirs.similarities)
    ids = [f"node-{i}" for i in range(60)]
    assert other.docstore.get_nodes(ids) == context.docstore.get_nodes(ids)
    assert other.docstore.get_all_ref_doc_info() == context.docstore.get_all_ref_doc_info()
    assert other.docstore.get_all_document_hashes() == context.docstore.get_all_document_hashes()
    assert other.index_store.index_structs()[0].nodes_dict == context.index_store.index_structs()[0].nodes_dict
    assert other.graph_store.get("a") == [["likes", "b"]]
    assert [n.id for n in other.property_graph_store.get(ids=["x"])] == ["x"]
    assert other.docstore.docs.keys() == context.docstore.docs.keys()


def test_llama_index_reads_what_convert_gives_back(tmp_path: Any) -> None:
    folder = tmp_path / "storage"
    context = build()
    wanted = as_json(context, folder)
    pannier.convert(str(folder), "pack")
    assert not any(p.suffix == ".json" for p in folder.iterdir())
    pannier.convert(str(folder), "json")
    assert files(folder) == wanted
    peer = PeerContext.from_defaults(persist_dir=str(folder))
    assert peer.docstore.get_document("node-3").get_content() == context.docstore.get_document("node-3").get_content()


def test_convert_into_another_directory(tmp_path: Any) -> None:
    wanted = as_json(build(), tmp_path / "a")
    pannier.convert(tmp_path / "a", "pack", out=tmp_path / "b")
    assert files(tmp_path / "a") == wanted
    pannier.convert(tmp_path / "b", "json", out=tmp_path / "c")
    assert files(tmp_path / "c") == wanted
    assert (tmp_path / "b" / "MANIFEST").exists()


# ----- Changes -----


class Changer:
    """Random changes of a context, through the stores' own methods."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.count = 0

    def step(self, context: StorageContext) -> None:
        rng = self.rng
        known = [f"node-{i}" for i in range(self.count)]
        what = rng.randrange(11)
        if what <= 2 or not known:
            made = [node(rng, self.count + i, dim=rng.choice((8, 8, 3)), exact=rng.random() < 0.7) for i in range(rng.randrange(1, 6))]
            self.count += len(made)
            add(context, made, rng.choice(("default", "default", "image")))
        elif what == 3:
            context.docstore.delete_document(rng.choice(known), raise_error=False)
        elif what == 4:
            context.vector_store.delete_nodes([rng.choice(known)]) if rng.choice(known) in context.vector_store.data.embedding_dict else None
        elif what == 5:
            context.vector_store.delete(f"doc-{rng.randrange(self.count)}")
        elif what == 6:
            context.docstore.delete_ref_doc(f"doc-{rng.randrange(self.count)}", raise_error=False)
        elif what == 7:
            self.edit_struct(context)
        elif what == 8:
            self.edit_values(context, known)
        elif what == 9:
            context.graph_store.upsert_triplet(rng.choice("abc"), "r", rng.choice("xyz"))
        else:
            context.docstore.set_document_hash(rng.choice(known), f"hash-{rng.random()}")

    def edit_struct(self, context: StorageContext) -> None:
        for struct in context.index_store.index_structs()[:1]:
            for key in list(struct.nodes_dict):
                if self.rng.random() < 0.2:
                    del struct.nodes_dict[key]
            context.index_store.add_index_struct(struct)

    def edit_values(self, context: StorageContext, known: List[str]) -> None:
        """What a caller was handed is the stored value itself."""
        kvstore = context.docstore._kvstore
        value = kvstore.get_all(collection="docstore/data").get(self.rng.choice(known))
        if value is not None:
            value["__data__"]["metadata"]["edited"] = self.rng.random()


@pytest.mark.parametrize("seed", range(max(2, ROUNDS // 20)))
def test_random_changes_saved_step_by_step(seed: int, tmp_path: Any) -> None:
    rng = random.Random(seed)
    changer = Changer(rng)
    context = build(0)
    folder = tmp_path / "pack"
    generations: Dict[int, Dict[str, bytes]] = {}
    for _ in range(rng.randrange(3, 25)):
        for _ in range(rng.randrange(0, 5)):
            changer.step(context)
        if rng.random() < 0.2:
            broken_persist(context, folder)
        context.persist(str(folder), format="pack")
        generations[context.generation] = as_json(context, tmp_path / "json")
        assert as_json(opened(folder), tmp_path / "back") == generations[context.generation]
        if rng.random() < 0.2:
            context = opened(folder)
        if rng.random() < 0.1:
            pannier.compact(folder, keep=0)
    for kept in pannier.history(folder):
        assert as_json(opened(folder, generation=kept.number), tmp_path / "back") == generations[kept.number]
    assert pannier.verify(folder) == []


def broken_persist(context: StorageContext, folder: Any) -> None:
    before = files(folder) if folder.exists() else {}
    context.docstore._kvstore.put("bad", {"when": datetime.datetime(2026, 1, 1)}, collection="docstore/data")
    with pytest.raises(UnserializableError, match=r"docstore/data\['bad'\]\.when"):
        context.persist(str(folder), format="pack")
    assert (files(folder) if folder.exists() else {}) == before
    context.docstore._kvstore.delete("bad", collection="docstore/data")


def test_saving_again_writes_what_changed(tmp_path: Any) -> None:
    context = build(2000)
    folder = tmp_path / "pack"
    context.persist(str(folder), format="pack")
    first = {p.name: p.stat().st_size for p in folder.iterdir()}
    context.persist(str(folder))
    assert {p.name: p.stat().st_size for p in folder.iterdir()} == first and context.generation == 1
    add(context, [node(random.Random(9), 5000 + i) for i in range(10)])
    context.persist(str(folder))
    new = sum(p.stat().st_size for p in folder.iterdir() if p.name not in first)
    assert context.generation == 2 and new < sum(first.values()) / 50
    assert as_json(opened(folder), tmp_path / "a") == as_json(context, tmp_path / "b")


def test_many_small_persists_stay_few_segments(tmp_path: Any) -> None:
    context = build(30)
    folder = tmp_path / "pack"
    for i in range(60):
        add(context, [node(random.Random(i), 1000 + i)])
        context.persist(str(folder), format="pack")
        assert len(pannier.history(folder)) <= 3
        assert pannier.history(folder)[-1].segments <= 16
    assert len(list(folder.glob("seg-*"))) <= 3 * 16
    assert as_json(opened(folder), tmp_path / "a") == as_json(context, tmp_path / "b")


def test_a_value_handed_out_and_changed_is_saved(tmp_path: Any) -> None:
    build().persist(str(tmp_path / "pack"), format="pack")
    context = opened(tmp_path / "pack")
    context.docstore._kvstore.get_all(collection="docstore/data")["node-1"]["__data__"]["text"] = "changed"
    context.persist(str(tmp_path / "pack"))
    assert context.generation == 2
    assert opened(tmp_path / "pack").docstore.get_document("node-1").get_content() == "changed"
    context.persist(str(tmp_path / "pack"))  # still live, but the same text
    assert context.generation == 2


def test_stores_that_became_plain_are_saved_whole(tmp_path: Any) -> None:
    context = build()
    folder = tmp_path / "pack"
    context.persist(str(folder), format="pack")
    context.docstore.to_dict()
    context.vector_store.data.embedding_dict = dict(context.vector_store.data.embedding_dict)
    add(context, [node(random.Random(3), 77)])
    context.persist(str(folder))
    assert as_json(opened(folder), tmp_path / "a") == as_json(context, tmp_path / "b")
    before = context.generation
    context.persist(str(folder))
    assert context.generation == before  # the same text is not written again


def test_one_key_value_store_under_two_stores(tmp_path: Any) -> None:
    kvstore = pannier.SimpleKVStore()
    context = StorageContext.from_defaults(
        docstore=SimpleDocumentStore(kvstore), index_store=SimpleIndexStore(kvstore)
    )
    for i in range(3):
        add(context, [node(random.Random(i), i)])
        context.persist(str(tmp_path / "pack"), format="pack")
        assert as_json(opened(tmp_path / "pack"), tmp_path / "a") == as_json(context, tmp_path / "b")


def test_llama_index_s_own_stores_in_a_context(tmp_path: Any) -> None:
    from llama_index.core.graph_stores.simple import SimpleGraphStore as PeerGraph
    from llama_index.core.storage.docstore import SimpleDocumentStore as PeerDocs
    from llama_index.core.storage.index_store import SimpleIndexStore as PeerIndex
    from llama_index.core.vector_stores.simple import SimpleVectorStore as PeerVectors

    context = StorageContext.from_defaults(
        docstore=PeerDocs(), index_store=PeerIndex(), vector_store=PeerVectors(), graph_store=PeerGraph()
    )
    for i in range(3):
        add(context, [node(random.Random(i), i)])
        context.persist(str(tmp_path / "pack"), format="pack")
        assert as_json(opened(tmp_path / "pack"), tmp_path / "a") == as_json(context, tmp_path / "b")


# ----- Generations -----


def test_earlier_generations_open_and_come_back(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    context = build(8)
    states = {}
    for i in range(5):
        add(context, [node(random.Random(i), 100 + i)])
        context.persist(str(folder), format="pack")
        states[context.generation] = as_json(context, tmp_path / "json")
    assert [g.number for g in pannier.history(folder)] == [3, 4, 5]
    for number in (3, 4, 5):
        assert as_json(opened(folder, generation=number), tmp_path / "back") == states[number]
    for number in (1, 2, 6):
        with pytest.raises(GenerationError):
            opened(folder, generation=number)
    assert pannier.rollback(folder, 3).number == 6
    assert as_json(opened(folder), tmp_path / "back") == states[3]
    with pytest.raises(ConflictError):
        add(context, [node(random.Random(1), 999)])
        context.persist(str(folder))


def test_keep(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    context = build(4)
    for i in range(8):
        add(context, [node(random.Random(i), 100 + i)])
        context.persist(str(folder), format="pack", keep=5)
    assert [g.number for g in pannier.history(folder)] == [4, 5, 6, 7, 8]
    assert pannier.compact(folder).number == 8
    assert [g.number for g in pannier.history(folder)] == [8]
    assert len(list(folder.glob("seg-*"))) == 1
    add(context, [node(random.Random(1), 999)])
    context.persist(str(folder))  # compacting moved nobody's base
    assert as_json(opened(folder), tmp_path / "a") == as_json(context, tmp_path / "b")


def test_a_context_of_an_old_generation_can_not_overwrite_newer_ones(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    context = build(4)
    context.persist(str(folder), format="pack")
    add(context, [node(random.Random(1), 50)])
    context.persist(str(folder))
    old = opened(folder, generation=1)
    add(old, [node(random.Random(2), 60)])
    with pytest.raises(ConflictError):
        old.persist(str(folder))
    old.persist(str(tmp_path / "other"), format="pack")
    assert as_json(opened(tmp_path / "other"), tmp_path / "a") == as_json(old, tmp_path / "b")


# ----- Readers and writers -----


def test_a_second_writer_gets_a_conflict_and_loses_nothing(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    build(8).persist(str(folder), format="pack")
    a, b = opened(folder), opened(folder)
    add(a, [node(random.Random(1), 100)])
    a.persist(str(folder))
    saved = files(folder)
    add(b, [node(random.Random(2), 200)])
    with pytest.raises(ConflictError, match="docstore.json") as caught:
        b.persist(str(folder))
    assert "reload()" in str(caught.value) and files(folder) == saved
    assert b.reload()
    add(b, [node(random.Random(2), 200)])
    b.persist(str(folder))
    both = opened(folder)
    assert both.docstore.document_exists("node-100") and both.docstore.document_exists("node-200")


def test_graph_stores_are_not_lost_either(tmp_path: Any) -> None:
    """They are written whole, but build on a generation as the others do."""
    folder = tmp_path / "pack"
    build(8).persist(str(folder), format="pack")
    for write in (
        lambda c, word: c.graph_store.upsert_triplet(word, "r", "o"),
        lambda c, word: c.property_graph_store.upsert_nodes([EntityNode(name=word)]),
    ):
        a, b = opened(folder), opened(folder)
        before = a.generation
        a.persist(str(folder))
        assert a.generation == before  # opened and persisted: nothing changed
        write(a, "mine")
        a.persist(str(folder))
        write(b, "theirs")
        with pytest.raises(ConflictError, match="graph_store.json"):
            b.persist(str(folder))
        assert b.reload()
        write(b, "theirs")
        b.persist(str(folder))
        assert b.generation == before + 2
    both = opened(folder)
    assert both.graph_store.get("mine") and both.graph_store.get("theirs")
    assert len(both.property_graph_store.get(ids=["mine", "theirs"])) == 2
    a, b = SimpleGraphStore.from_persist_dir(str(folder)), SimpleGraphStore.from_persist_dir(str(folder))
    a.persist(str(folder / "graph_store.json"))
    a.upsert_triplet("alone", "r", "o")
    a.persist(str(folder / "graph_store.json"))
    with pytest.raises(ConflictError, match="graph_store.json"):
        b.upsert_triplet("late", "r", "o")
        b.persist(str(folder / "graph_store.json"))


def test_reload_keeps_the_store_objects(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    build(8).persist(str(folder), format="pack")
    reader, writer = opened(folder, read_only=True), opened(folder)
    stores = (reader.docstore, reader.index_store, reader.vector_store, reader.graph_store)
    assert not reader.reload()
    add(writer, [node(random.Random(1), 100)])
    writer.graph_store.upsert_triplet("new", "r", "o")
    writer.persist(str(folder))
    assert not reader.docstore.document_exists("node-100") and reader.generation == 1
    assert reader.reload() and reader.generation == 2
    assert (reader.docstore, reader.index_store, reader.vector_store, reader.graph_store) == stores
    assert reader.docstore.document_exists("node-100")
    assert "node-100" in reader.vector_store.data.embedding_dict
    assert reader.graph_store.get("new") == [["r", "o"]]


def test_a_reader_keeps_its_generation_while_it_is_swept(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    context = build(30)
    context.persist(str(folder), format="pack")
    reader = opened(folder)
    wanted = as_json(context, tmp_path / "json")
    for i in range(6):
        add(context, [node(random.Random(i), 100 + i)])
        context.persist(str(folder), keep=1)
    pannier.compact(folder)
    assert as_json(reader, tmp_path / "back") == wanted


def test_a_rebuild_without_a_base_replaces_the_stores(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    build(30).persist(str(folder), format="pack")
    other = build(5, seed=7)
    other.persist(str(folder))
    assert pannier.history(folder)[-1].number == 2
    assert as_json(opened(folder), tmp_path / "a") == as_json(other, tmp_path / "b")


def test_read_only(tmp_path: Any) -> None:
    for format in ("pack", "json"):
        folder = tmp_path / format
        build(4).persist(str(folder), format=format)
        context = opened(folder, read_only=True)
        saved = files(folder)
        with pytest.raises(ReadOnlyError):
            context.persist(str(folder))
        assert files(folder) == saved


LOCK = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
fcntl.flock(fd, fcntl.LOCK_EX)
with open(os.path.join(sys.argv[1], ".pannier-writer"), "w") as f:
    f.write("process 4711 on elsewhere, since yesterday")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_live_writer_is_named_and_a_dead_one_is_forgotten(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pannier import _pack

    folder = tmp_path / "pack"
    context = build(4)
    context.persist(str(folder), format="pack")
    monkeypatch.setattr(_pack, "PATIENCE", 50)
    holder = subprocess.Popen([sys.executable, "-c", LOCK, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline().strip() == b"locked"
        add(context, [node(random.Random(1), 100)])
        with pytest.raises(LockedError, match="process 4711 on elsewhere, since yesterday"):
            context.persist(str(folder))
        opened(folder)  # readers take no lock
    finally:
        holder.kill()
        holder.wait()
    context.persist(str(folder))
    assert context.generation == 2 and not (folder / ".pannier-writer").exists()


# ----- Mixed directories -----


def test_a_single_store_persisted_into_a_pack(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    context = build(8)
    context.persist(str(folder), format="pack")
    add(context, [node(random.Random(1), 100)])
    context.docstore.persist(str(folder / "docstore.json"))
    assert not (folder / "docstore.json").exists()
    assert opened(folder).docstore.document_exists("node-100")
    assert "node-100" not in opened(folder).vector_store.data.embedding_dict
    context.vector_store.persist(str(folder / "default__vector_store.json"))
    context.index_store.persist(str(folder / "index_store.json"))
    context.graph_store.persist(str(folder / "graph_store.json"))
    assert as_json(opened(folder), tmp_path / "a") == as_json(context, tmp_path / "b")
    context.persist(str(folder))
    loaded = SimpleDocumentStore.from_persist_dir(str(folder))
    assert loaded.get_document("node-100") == context.docstore.get_document("node-100")
    assert SimpleVectorStore.from_persist_dir(str(folder)).get("node-100") == context.vector_store.get("node-100")
    assert SimpleIndexStore.from_persist_dir(str(folder)).index_structs()[0].index_id == "index"
    assert SimpleGraphStore.from_persist_dir(str(folder)).get("a") == [["likes", "b"]]
    assert SimplePropertyGraphStore.from_persist_dir(str(folder)).get(ids=["x"])
    assert set(SimpleVectorStore.from_namespaced_persist_dir(str(folder))) == {"default", "image"}


def test_llama_index_rebuilding_beside_a_pack_is_not_overlooked(tmp_path: Any) -> None:
    folder = tmp_path / "storage"
    context = build(8)
    context.persist(str(folder), format="pack")
    peer = PeerContext.from_defaults()
    peer.docstore.add_documents([TextNode(id_="peer", text="rebuilt")])
    peer.persist(str(folder))
    for load in (opened, lambda f: StorageContext.from_defaults(persist_dir=str(f))):
        with pytest.raises(MixedFormatError, match="MANIFEST.*docstore.json"):
            load(folder)
    saved = files(folder)
    with pytest.raises(MixedFormatError):
        context.persist(str(folder))
    with pytest.raises(MixedFormatError):
        SimpleDocumentStore.from_persist_dir(str(folder))
    assert files(folder) == saved
    assert opened(folder, format="json").docstore.document_exists("peer")
    assert opened(folder, format="pack").docstore.document_exists("node-1")
    chosen = opened(folder, format="json")
    chosen.persist(str(folder), format="json")
    assert opened(folder).docstore.document_exists("peer") and not (folder / "MANIFEST").exists()


def test_outdated_json_beside_a_pack_is_known(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converting in place was killed after the commit and before the old files went."""
    from pannier import _files

    folder = tmp_path / "storage"
    context = build(8)
    context.persist(str(folder))
    with monkeypatch.context() as m:
        m.setattr(_files, "remove", lambda *args: None)
        context.persist(str(folder), format="pack")
    assert (folder / "docstore.json").exists()
    add(context, [node(random.Random(1), 100)])
    for name in JSON_NAMES:
        os.utime(folder / name, ns=(1, 1))  # a copied directory: other times, the same bytes
    assert opened(folder).docstore.document_exists("node-7")
    context.persist(str(folder))
    assert not (folder / "docstore.json").exists()
    assert opened(folder).docstore.document_exists("node-100")


def test_a_directory_keeps_its_format(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = build(4)
    context.persist(str(tmp_path / "json"))
    context.persist(str(tmp_path / "pack"), format="pack")
    monkeypatch.setenv("PANNIER_FORMAT", "pack")
    context.persist(str(tmp_path / "json"))
    context.persist(str(tmp_path / "new"))
    monkeypatch.setenv("PANNIER_FORMAT", "json")
    context.persist(str(tmp_path / "pack"))
    assert not (tmp_path / "json" / "MANIFEST").exists()
    assert (tmp_path / "new" / "MANIFEST").exists() and (tmp_path / "pack" / "MANIFEST").exists()
    assert not (tmp_path / "pack" / "docstore.json").exists()
    with pytest.raises(ValueError, match="'json' or 'pack'"):
        context.persist(str(tmp_path / "x"), format="parquet")


def test_the_default_format_of_install(tmp_path: Any) -> None:
    pannier.install(format="pack")
    try:
        PeerContext.from_defaults().persist(str(tmp_path / "a"))
    finally:
        pannier.uninstall()
    StorageContext.from_defaults().persist(str(tmp_path / "b"))
    assert (tmp_path / "a" / "MANIFEST").exists() and not (tmp_path / "b" / "MANIFEST").exists()
    with pytest.raises(ValueError):
        pannier.install(format="parquet")


def test_namespaces_that_this_context_lacks_stay(tmp_path: Any) -> None:
    """As files of other namespaces stay where LlamaIndex persists."""
    folder = tmp_path / "pack"
    context = build(4)
    context.vector_stores["other"] = SimpleVectorStore()
    context.vector_stores["other"].add([node(random.Random(1), 5)])
    context.persist(str(folder), format="pack")
    build(3).persist(str(folder))
    assert "node-5" in opened(folder).vector_stores["other"].data.embedding_dict
    build(3).persist(str(folder), format="json")
    assert (folder / "other__vector_store.json").exists() and not (folder / "MANIFEST").exists()
    assert "node-5" in opened(folder).vector_stores["other"].data.embedding_dict


def test_a_pack_made_of_private_files_is_private(tmp_path: Any) -> None:
    folder = tmp_path / "storage"
    build(4).persist(str(folder))
    for path in folder.iterdir():
        path.chmod(0o600)
    pannier.convert(folder, "pack")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    pannier.convert(folder, "json")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert opened(folder).docstore.document_exists("node-1")


def test_a_conversion_that_fails_leaves_the_json_files_alone(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pannier import _core

    folder = tmp_path / "storage"
    context = build(4)
    context.persist(str(folder))
    saved = files(folder)

    class Full(_core.PackBatch):  # type: ignore[misc]
        def commit(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(_core, "PackBatch", Full)
    with pytest.raises(OSError, match="No space"):
        context.persist(str(folder), format="pack")
    assert files(folder) == saved


def test_two_threads_persist_one_context(tmp_path: Any) -> None:
    import threading

    context = build(20)
    errors: List[BaseException] = []

    def persist(number: int) -> None:
        try:
            for i in range(10):
                add(context, [node(random.Random(i), 1000 * number + i)])
                context.persist(str(tmp_path / "pack"), format="pack")
        except BaseException as e:  # noqa: BLE001
            errors.append(e)

    threads = [threading.Thread(target=persist, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert as_json(opened(tmp_path / "pack"), tmp_path / "a") == as_json(context, tmp_path / "b")


class Nothing(SimpleVectorStore):
    """A store whose data is elsewhere: persisting it does nothing."""

    def persist(self, persist_path: str, fs: Any = None) -> None:
        pass


class Failing(SimpleVectorStore):
    def persist(self, persist_path: str, fs: Any = None) -> None:
        raise RuntimeError("no connection")


def test_foreign_stores(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    context = build(4)
    context.vector_stores["redis"] = Nothing()
    context.persist(str(folder), format="pack")
    assert pannier.inspect(folder)["foreign"] == {"redis__vector_store.json": f"{__name__}.Nothing"}
    assert "redis" not in opened(folder).vector_stores
    saved = files(folder)
    context.vector_stores["redis"] = Failing()
    add(context, [node(random.Random(1), 100)])
    with pytest.raises(RuntimeError, match="no connection"):
        context.persist(str(folder))
    assert files(folder) == saved
    del context.vector_stores["redis"]
    context.persist(str(folder))
    assert opened(folder).docstore.document_exists("node-100")


# ----- Other file systems -----


def test_a_pack_on_another_file_system(tmp_path: Any) -> None:
    fs = fsspec.filesystem("memory")
    root = f"/pack-{random.random()}"
    context = build(8)
    context.persist(root, fs=fs, format="pack")
    for i in range(20):
        add(context, [node(random.Random(i), 100 + i)])
        context.persist(root, fs=fs)
    names = [entry["name"].rsplit("/", 1)[-1] for entry in fs.ls(root)]
    assert "MANIFEST" in names and not any(n.endswith(".json") for n in names)
    loaded = StorageContext.from_defaults(persist_dir=root, fs=fs)
    assert as_json(loaded, tmp_path / "a") == as_json(context, tmp_path / "b")
    other = StorageContext.open(root, fs=fs, generation=pannier.history(root, fs)[0].number)
    assert other.generation == 19
    add(loaded, [node(random.Random(1), 500)])
    loaded.persist(root, fs=fs)
    add(context, [node(random.Random(1), 600)])
    with pytest.raises(ConflictError):
        context.persist(root, fs=fs)
    loaded.persist(root, fs=fs, format="json")
    names = [entry["name"].rsplit("/", 1)[-1] for entry in fs.ls(root)]
    assert "docstore.json" in names and "MANIFEST" not in names and not any(n.startswith("seg-") for n in names)
    assert as_json(StorageContext.from_defaults(persist_dir=root, fs=fs), tmp_path / "a") == as_json(loaded, tmp_path / "b")


def test_a_put_that_fails_leaves_the_old_generation(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("memory")
    root = f"/pack-{random.random()}"
    context = build(8)
    context.persist(root, fs=fs, format="pack")
    wanted = as_json(StorageContext.open(root, fs=fs), tmp_path / "a")
    add(context, [node(random.Random(1), 100)])
    put = type(fs).pipe_file
    for failing in range(2):
        calls = []

        def pipe_file(self: Any, path: str, value: bytes, **kwargs: Any) -> Any:
            calls.append(path)
            if len(calls) > failing:
                raise OSError(5, "the network is gone")
            return put(self, path, value, **kwargs)

        with monkeypatch.context() as m:
            m.setattr(type(fs), "pipe_file", pipe_file)
            with pytest.raises(OSError, match="network"):
                context.persist(root, fs=fs)
        assert as_json(StorageContext.open(root, fs=fs), tmp_path / "b") == wanted
    context.persist(root, fs=fs)
    assert StorageContext.open(root, fs=fs).docstore.document_exists("node-100")


# ----- Damage -----


@pytest.mark.parametrize("which", ["MANIFEST", "seg"])
def test_damage_is_an_error_or_harmless(which: str, tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    context = build(20)
    context.persist(str(folder), format="pack")
    add(context, [node(random.Random(1), 100)])
    context.persist(str(folder))
    wanted = as_json(context, tmp_path / "json")
    path = next(p for p in folder.iterdir() if p.name.startswith(which))
    good = path.read_bytes()
    rng = random.Random(5)
    for _ in range(max(20, ROUNDS)):
        bad = bytearray(good)
        how = rng.randrange(3)
        if how == 0:
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        elif how == 1:
            del bad[rng.randrange(len(bad)) :]
        else:
            at = rng.randrange(len(bad))
            bad[at : at + 4] = rng.randbytes(4)
        path.write_bytes(bytes(bad))
        try:
            got = as_json(opened(folder), tmp_path / "back")
        except (CorruptPackError, FormatVersionError) as e:
            assert str(folder) in str(e)
            continue
        assert got == wanted
    path.write_bytes(good)
    assert as_json(opened(folder), tmp_path / "back") == wanted


def test_verify_names_the_file_and_the_place(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from pannier.__main__ import main

    folder = tmp_path / "pack"
    build(20).persist(str(folder), format="pack")
    assert pannier.verify(folder) == [] and main(["verify", str(folder)]) == 0
    path = next(folder.glob("seg-*"))
    good = path.read_bytes()
    at = good.index(b"text 7 ")
    path.write_bytes(good[:at] + b"X" + good[at + 1 :])
    (finding,) = pannier.verify(folder)
    assert finding.path == str(path) and at - 5000 < finding.offset <= at
    assert main(["verify", str(folder)]) == 1
    assert str(path) in capsys.readouterr().out
    context = opened(folder)
    assert context.docstore.get_document("node-8").get_content().startswith("text 8 ")
    for touch in (
        lambda: context.docstore.get_document("node-7"),
        lambda: context.docstore.docs["node-7"],
        lambda: context.docstore._kvstore.get("node-7", collection="docstore/data"),
        lambda: context.docstore._kvstore.get_all(collection="docstore/data"),
        lambda: context.persist(str(tmp_path / "elsewhere")),
        lambda: context.persist(str(tmp_path / "elsewhere"), format="pack"),
        lambda: opened(folder, check=True),
    ):
        with pytest.raises(CorruptPackError, match="pannier verify") as caught:
            touch()
        assert caught.value.path == str(path) and caught.value.offset == finding.offset
    assert not (tmp_path / "elsewhere").exists() or not list((tmp_path / "elsewhere").glob("*.json"))


def test_verify_of_json(tmp_path: Any) -> None:
    build(4).persist(str(tmp_path))
    assert pannier.verify(tmp_path) == []
    text = (tmp_path / "docstore.json").read_bytes()
    (tmp_path / "docstore.json").write_bytes(text[:-40])
    (finding,) = pannier.verify(tmp_path)
    assert finding.path.endswith("docstore.json")
    with pytest.raises(FileNotFoundError):
        pannier.verify(tmp_path / "missing")


def test_a_newer_format_is_named_and_left_alone(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    context = build(4)
    context.persist(str(folder), format="pack")
    saved = (folder / "MANIFEST").read_bytes()
    head = bytearray(saved[:28])
    head[8] = 9
    from pannier import _core

    (folder / "MANIFEST").write_bytes(bytes(head) + _core.crc32c(bytes(head)).to_bytes(4, "little") + saved[32:])
    newer = files(folder)
    add(context, [node(random.Random(1), 100)])
    for attempt in (lambda: opened(folder), lambda: context.persist(str(folder)), lambda: pannier.compact(folder)):
        with pytest.raises(FormatVersionError, match="version 9"):
            attempt()
    assert files(folder) == newer


def test_a_missing_segment_is_named(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    build(4).persist(str(folder), format="pack")
    path = next(folder.glob("seg-*"))
    path.unlink()
    with pytest.raises(CorruptPackError, match=path.name):
        opened(folder)


# ----- Commands, pickles, events -----


def test_commands(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from pannier.__main__ import main

    folder = tmp_path / "storage"
    context = build(8)
    wanted = as_json(context, folder)
    assert main(["convert", str(folder), "--format", "pack"]) == 0
    assert main(["inspect", str(folder)]) == 0
    assert '"format": "pack"' in capsys.readouterr().out
    changed = opened(folder)
    add(changed, [node(random.Random(1), 100)])
    changed.persist(str(folder))
    assert main(["history", str(folder)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["rollback", str(folder), "1"]) == 0
    assert main(["compact", str(folder)]) == 0
    assert main(["rollback", str(folder), "1"]) == 1
    assert "generation" in capsys.readouterr().err
    assert main(["convert", str(folder), "--format", "json", "--out", str(tmp_path / "out")]) == 0
    assert files(tmp_path / "out") == wanted
    assert main(["convert", str(tmp_path / "missing"), "--format", "pack"]) == 1


def test_a_pickled_context_does_not_take_its_base_along(tmp_path: Any) -> None:
    folder = tmp_path / "pack"
    context = build(4)
    context.persist(str(folder), format="pack")
    copy = pickle.loads(pickle.dumps(context.docstore))
    copy.add_documents([TextNode(id_="new", text="t")])
    copy.persist(str(folder / "docstore.json"))
    assert opened(folder).docstore.document_exists("new")


def test_apersist(tmp_path: Any) -> None:
    import asyncio

    context = build(50)
    asyncio.run(context.apersist(str(tmp_path / "pack"), format="pack"))
    assert as_json(opened(tmp_path / "pack"), tmp_path / "a") == as_json(context, tmp_path / "b")


def test_adding_while_another_thread_persists(tmp_path: Any) -> None:
    import threading

    context = build(10)
    folder = tmp_path / "pack"
    stop = threading.Event()
    errors: List[BaseException] = []

    def write() -> None:
        try:
            number = 1000
            while not stop.is_set():
                add(context, [node(random.Random(number), number)])
                number += 1
        except BaseException as e:  # noqa: BLE001
            errors.append(e)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(10):
        context.persist(str(folder), format="pack")
        opened(folder, check=True)
    stop.set()
    thread.join()
    assert not errors
    context.persist(str(folder))
    assert as_json(opened(folder), tmp_path / "a") == as_json(context, tmp_path / "b")
