"""StorageContext with LlamaIndex's as the oracle: what comes back, what is raised, what
lies on disk. Where pannier does better on purpose, the test says what it promises."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import datetime
import inspect
import itertools
import json
import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from llama_index.core.data_structs.data_structs import IndexDict, IndexList
from llama_index.core.graph_stores.simple import SimpleGraphStore as PeerGraph
from llama_index.core.graph_stores.simple_labelled import SimplePropertyGraphStore as PeerPropertyGraph
from llama_index.core.graph_stores.types import EntityNode, Relation
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore as PeerDocstore
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore as PeerKVDocstore
from llama_index.core.storage.index_store import SimpleIndexStore as PeerIndexStore
from llama_index.core.storage.kvstore import SimpleKVStore as PeerKV
from llama_index.core.storage.storage_context import StorageContext as PeerContext
from llama_index.core.vector_stores.simple import SimpleVectorStore as PeerVectors

import pannier
from pannier import errors
from pannier._local_fs import _is_current, local_fs

SIDES = [pytest.param(PeerContext, id="peer"), pytest.param(pannier.StorageContext, id="pannier")]
FILES = [
    "docstore.json",
    "index_store.json",
    "graph_store.json",
    "property_graph_store.json",
    "default__vector_store.json",
    "image__vector_store.json",
]


def kinds(cls) -> dict:
    """The store classes of one side."""
    if cls is PeerContext:
        return {
            "kv": PeerKV,
            "docstore": PeerDocstore,
            "index_store": PeerIndexStore,
            "vector": PeerVectors,
            "graph_store": PeerGraph,
            "property_graph_store": PeerPropertyGraph,
        }
    return {
        "kv": pannier.SimpleKVStore,
        "docstore": pannier.SimpleDocumentStore,
        "index_store": pannier.SimpleIndexStore,
        "vector": pannier.SimpleVectorStore,
        "graph_store": pannier.SimpleGraphStore,
        "property_graph_store": pannier.SimplePropertyGraphStore,
    }


NASTY = ["", "ascii", 'quote " back \\ slash /', "naïve — 漢字 🙂", "\x00\x1f\x7f", "\ud800 lone", "a\u2028b"]


def nodes() -> list:
    return [
        TextNode(
            id_=f"n{i}",
            text=text,
            metadata={"i": i, "text": text, "list": [1, 2.5, None, True], "big": 2**70},
            embedding=[0.1 * i, -1e-7, 1.5, float(i)],
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc{i % 2}")},
        )
        for i, text in enumerate(NASTY)
    ]


def filled(cls, property_graph: bool = True):
    """A context of one side with something in every store."""
    stores = kinds(cls)
    extra = {"property_graph_store": stores["property_graph_store"]()} if property_graph else {}
    context = cls.from_defaults(**extra)
    context.docstore.add_documents(nodes())
    context.index_store.add_index_struct(IndexDict(index_id="vectors", nodes_dict={"n1": "n1"}))
    context.index_store.add_index_struct(IndexList(index_id="list", nodes=["n1", "n2"]))
    context.vector_store.add(nodes())
    context.vector_stores["image"].add(nodes()[:2])
    context.graph_store.upsert_triplet("s", "r", "ö")
    if property_graph:
        context.property_graph_store.upsert_nodes([EntityNode(name="s"), EntityNode(name="o")])
        context.property_graph_store.upsert_relations([Relation(label="r", source_id="s", target_id="o")])
    return context


def contents(context) -> dict:
    """Plain data of everything in a context."""
    graph = context.property_graph_store
    return {
        "docs": {k: d.to_dict() for k, d in context.docstore.docs.items()},
        "hashes": context.docstore.get_all_document_hashes(),
        "sources": {k: i.to_dict() for k, i in context.docstore.get_all_ref_doc_info().items()},
        "structs": [s.to_dict() for s in context.index_store.index_structs()],
        "vectors": {
            name: {k: dict(v) for k, v in store.to_dict().items()}
            for name, store in context.vector_stores.items()
        },
        "graph": {k: [list(t) for t in v] for k, v in context.graph_store._data.graph_dict.items()},
        "property graph": None if graph is None else without_order(json.loads(graph.graph.model_dump_json())),
    }


def without_order(graph: dict) -> dict:
    """Triplets are a set: their order in the file is any."""
    return {**graph, "triplets": sorted(map(tuple, graph["triplets"]))}


def read_tree(root) -> dict:
    """Relative path -> bytes; a property graph as data, since its order is any."""
    tree = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                data = f.read()
            is_graph = b'"triplets":' in data[:100000]
            tree[os.path.relpath(path, root)] = without_order(json.loads(data)) if is_graph else data
    return tree


def stamps(root) -> dict:
    return {name: (os.stat(Path(root, name)).st_mtime_ns, Path(root, name).read_bytes()) for name in os.listdir(root)}


def outcome(call):
    try:
        return call()
    except Exception as e:
        return type(e), str(e)


# ----- from_defaults -----

PARTS = ["docstore", "index_store", "vector_store", "image_store", "vector_stores", "graph_store", "property_graph_store"]


def given(cls, parts, value=None):
    stores = kinds(cls)
    made = {}
    for part in parts:
        if part == "vector_stores":
            made[part] = {"default": stores["vector"](), "own": stores["vector"]()}
        else:
            made[part] = stores["vector" if part.endswith(("vector_store", "image_store")) else part]()
    return made


def shape(cls, context, made) -> dict:
    """Which stores are there, of which class, and which are the very ones given."""
    givens = {id(v): k for k, v in made.items()}
    givens.update({id(v): f"given {k}" for k, v in made.get("vector_stores", {}).items()})

    def one(store):
        return type(store).__name__, givens.get(id(store))

    return {
        **{name: one(getattr(context, name)) for name in ("docstore", "index_store", "graph_store", "property_graph_store")},
        "vector_stores": {k: one(v) for k, v in sorted(context.vector_stores.items())},
        "same dictionary": context.vector_stores is made.get("vector_stores"),
        "caller's dictionary": sorted(made.get("vector_stores", {})),
    }


@pytest.mark.parametrize("load", [False, True], ids=["new", "load"])
@pytest.mark.parametrize("count", range(len(PARTS) + 1))
def test_every_combination_of_given_stores(count, load, tmp_path):
    where = None
    if load:
        where = str(tmp_path)
        PeerContext.from_defaults(vector_stores={"default": PeerVectors(), "third": PeerVectors()}).persist(where)
    for parts in itertools.combinations(PARTS, count):
        shapes = []
        for cls in (PeerContext, pannier.StorageContext):
            made = given(cls, parts)
            context = cls.from_defaults(persist_dir=where, **made)
            assert type(context) is cls
            shapes.append(shape(cls, context, made))
        assert shapes[0] == shapes[1], parts


def test_new_stores_are_pannier_s_all_through():
    context = pannier.StorageContext.from_defaults()
    stores = [context.docstore, context.index_store, context.graph_store, *context.vector_stores.values()]
    stores += [context.docstore._kvstore, context.index_store._kvstore]
    assert all(type(s).__module__.startswith("pannier.") for s in stores)
    assert isinstance(context, PeerContext)


@pytest.mark.parametrize("load", [False, True], ids=["new", "load"])
def test_a_falsy_store_is_replaced_as_with_the_peer(load, tmp_path):
    class Falsy(PeerDocstore):
        def __bool__(self):
            return False

    PeerContext.from_defaults().persist(str(tmp_path))
    where = str(tmp_path) if load else None
    for cls in (PeerContext, pannier.StorageContext):
        assert type(cls.from_defaults(docstore=Falsy(), persist_dir=where).docstore) is kinds(cls)["docstore"]
        assert set(cls.from_defaults(vector_stores={}).vector_stores) == {"default", "image"}


def test_subclasses_get_themselves_back():
    class Own(pannier.StorageContext):
        pass

    assert type(Own.from_defaults()) is Own
    assert type(Own.from_dict(Own.from_defaults().to_dict())) is Own


# ----- persist: bytes -----


def both(tmp_path, persist, **kwargs):
    """Persist the same contents on both sides; returns the two trees."""
    trees = []
    for name, cls in (("peer", PeerContext), ("pannier", pannier.StorageContext)):
        root = tmp_path / name
        root.mkdir()
        persist(filled(cls, **kwargs), root)
        trees.append(read_tree(root))
    return trees


@pytest.mark.parametrize("property_graph", [True, False])
def test_files_are_byte_for_byte_the_peers(tmp_path, property_graph):
    if property_graph:  # the peer itself makes no directory for it
        persist = lambda context, root: context.persist(str(root))  # noqa: E731
    else:
        persist = lambda context, root: context.persist(str(root / "made" / "deep"))  # noqa: E731
    theirs, ours = both(tmp_path, persist, property_graph=property_graph)
    assert ours == theirs
    assert len(ours) == 6 if property_graph else 5


@pytest.mark.parametrize(
    "names",
    [
        {"docstore_fname": "d.json", "index_store_fname": "i", "vector_store_fname": "v.json"},
        {"graph_store_fname": "g.json", "pg_graph_store_fname": "p.json", "image_store_fname": "unused.json"},
        {"docstore_fname": "sub/folder/docstore.json", "graph_store_fname": "sub/g.json"},
        {"vector_store_fname": "sub/v.json"},
        {"docstore_fname": "../beside.json"},
        {"docstore_fname": "./x//docstore.json"},
        {"docstore_fname": "one.json", "index_store_fname": "one.json"},
        {"docstore_fname": "naïve 漢.json"},
    ],
    ids=lambda names: "+".join(names.values()),
)
def test_file_names_as_the_peers(tmp_path, names):
    def persist(context, root):
        (root / "in").mkdir()
        context.persist(str(root / "in"), **names)

    theirs, ours = both(tmp_path, persist, property_graph=False)
    assert ours == theirs


def test_absolute_file_name_as_the_peers(tmp_path):
    def persist(context, root):
        context.persist(str(root / "in"), docstore_fname=str(root / "elsewhere.json"))

    theirs, ours = both(tmp_path, persist, property_graph=False)
    assert ours == theirs and "elsewhere.json" in ours


@pytest.mark.parametrize(
    "spell",
    [str, Path, lambda p: f"{p}/", lambda p: f"{p}//x/../", lambda p: os.path.relpath(p)],
    ids=["str", "Path", "slash", "dots", "relative"],
)
def test_directory_spelled_any_way(tmp_path, spell, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()

    def persist(context, root):
        (root / "x").mkdir()
        context.persist(spell(root))

    theirs, ours = both(tmp_path, persist)
    assert ours == theirs


def test_default_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled(pannier.StorageContext).persist()
    assert set(FILES) == set(os.listdir(tmp_path / "storage"))
    os.makedirs(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    filled(pannier.StorageContext).persist("")
    assert set(FILES) == set(os.listdir(tmp_path / "empty"))


@pytest.fixture
def memory():
    fs = MemoryFileSystem()
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_memory_file_system_as_the_peers(memory):
    trees = []
    for cls in (PeerContext, pannier.StorageContext):
        filled(cls, property_graph=False).persist("/ctx", fs=memory)
        trees.append({name: memory.cat(name) for name in memory.find("/ctx")})
        loaded = cls.from_defaults(persist_dir="/ctx", fs=memory)
        assert loaded.docstore.get_document("n1").get_content() == "ascii"
        memory.rm("/ctx", recursive=True)
    assert trees[0] == trees[1] and len(trees[0]) == 5


@pytest.mark.parametrize("make", [lambda: fsspec.filesystem("file"), lambda: None], ids=["local", "none"])
def test_local_file_system_given(tmp_path, make):
    theirs, ours = both(tmp_path, lambda context, root: context.persist(str(root), fs=make()))
    assert ours == theirs


def test_wrapped_file_system(tmp_path):
    def persist(context, root):
        context.persist("in", fs=DirFileSystem(str(root), fsspec.filesystem("file")))

    theirs, ours = both(tmp_path, persist, property_graph=False)
    assert ours == theirs and len(ours) == 5


def test_a_store_made_with_a_file_system_goes_there(tmp_path, memory):
    for cls in (PeerContext, pannier.StorageContext):
        root = tmp_path / cls.__module__
        context = cls.from_defaults(vector_store=kinds(cls)["vector"](fs=memory))
        context.persist(str(root))
        assert sorted(os.listdir(root)) == [
            "docstore.json",
            "graph_store.json",
            "image__vector_store.json",
            "index_store.json",
        ]
        assert [os.path.basename(p) for p in memory.find(str(root))] == ["default__vector_store.json"]


def test_a_context_loaded_from_elsewhere_goes_where_persist_says(tmp_path, memory):
    for cls in (PeerContext, pannier.StorageContext):
        filled(cls, property_graph=False).persist("/ctx", fs=memory)
        root = tmp_path / cls.__module__
        cls.from_defaults(persist_dir="/ctx", fs=memory).persist(str(root))
        assert len(os.listdir(root)) == 5 if cls is pannier.StorageContext else 4
        assert memory.find(str(root)) == []


def test_persisting_again_changes_no_byte(tmp_path):
    filled(pannier.StorageContext, property_graph=False).persist(str(tmp_path))
    before = read_tree(tmp_path)
    pannier.StorageContext.from_defaults(persist_dir=str(tmp_path)).persist(str(tmp_path))
    assert read_tree(tmp_path) == before


def test_stale_namespaces_stay(tmp_path):
    filled(pannier.StorageContext).persist(str(tmp_path))
    context = pannier.StorageContext.from_defaults(persist_dir=str(tmp_path))
    del context.vector_stores["image"]
    context.persist(str(tmp_path))
    assert "image__vector_store.json" in os.listdir(tmp_path)


# ----- loading -----


@pytest.mark.parametrize("writer, reader", list(itertools.product([PeerContext, pannier.StorageContext], repeat=2)))
def test_each_side_loads_the_others(tmp_path, writer, reader):
    context = filled(writer)
    context.persist(str(tmp_path))
    assert contents(reader.from_defaults(persist_dir=str(tmp_path))) == contents(filled(PeerContext))


def test_contents_after_a_load_can_be_changed_as_the_peers(tmp_path):
    filled(PeerContext, property_graph=False).persist(str(tmp_path / "start"))
    trees = []
    for cls in (PeerContext, pannier.StorageContext):
        context = cls.from_defaults(persist_dir=str(tmp_path / "start"))
        context.docstore.delete_document("n3")
        context.docstore.delete_ref_doc("doc1")
        context.docstore.add_documents([TextNode(id_="new", text="new")])
        context.vector_store.delete("doc0")
        context.index_store.delete_index_struct("list")
        context.graph_store.upsert_triplet("s", "r", "x")
        context.persist(str(tmp_path / cls.__module__))
        trees.append(read_tree(tmp_path / cls.__module__))
    assert trees[0] == trees[1]


def load_outcome(cls, where):
    return outcome(lambda: contents(cls.from_defaults(persist_dir=str(where))))


@pytest.mark.parametrize("missing", FILES)
def test_one_missing_file_as_the_peers(tmp_path, missing):
    filled(PeerContext).persist(str(tmp_path))
    os.remove(tmp_path / missing)
    assert load_outcome(pannier.StorageContext, tmp_path) == load_outcome(PeerContext, tmp_path)


@pytest.mark.parametrize("fs", [None, fsspec.filesystem("file")], ids=["none", "local"])
def test_missing_directory_is_file_not_found(tmp_path, fs):
    where = str(tmp_path / "nothing")
    results = [
        outcome(lambda cls=cls: cls.from_defaults(persist_dir=where, fs=fs))
        for cls in (PeerContext, pannier.StorageContext)
    ]
    assert results[0] == results[1]
    assert results[1][0] is FileNotFoundError and "docstore.json" in results[1][1]
    assert not os.path.exists(where)


def test_missing_directory_in_memory(memory):
    results = [
        outcome(lambda cls=cls: cls.from_defaults(persist_dir="/none", fs=memory))
        for cls in (PeerContext, pannier.StorageContext)
    ]
    assert results[0] == results[1] and results[1][0] is FileNotFoundError


@pytest.mark.parametrize("damage", [b"", b'{"a": ', b"\x80\x02binary", b"[1, 2", b"IxFI\x00\x01faiss"], ids=repr)
@pytest.mark.parametrize("fname", FILES)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, fname, damage):
    filled(PeerContext).persist(str(tmp_path))
    (tmp_path / fname).write_bytes(damage)
    before = stamps(tmp_path)
    with pytest.raises(ValueError) as e:
        pannier.StorageContext.from_defaults(persist_dir=str(tmp_path))
    assert isinstance(e.value, (json.JSONDecodeError, UnicodeDecodeError))
    assert fname in str(e.value)
    assert stamps(tmp_path) == before


# ----- namespaces -----


@pytest.mark.parametrize("namespace", ["a/b", "/abs", "../up", "..", "a\0b"])
def test_a_namespace_that_is_no_file_name_is_refused(tmp_path, namespace):
    context = filled(pannier.StorageContext)
    context.persist(str(tmp_path / "dir"))
    before = read_tree(tmp_path)
    context.docstore.add_documents([TextNode(id_="more", text="more")])
    context.add_vector_store(pannier.SimpleVectorStore(), namespace)
    with pytest.raises(errors.NamespaceError) as e:
        context.persist(str(tmp_path / "dir"))
    assert repr(namespace) in str(e.value) and isinstance(e.value, ValueError)
    assert read_tree(tmp_path) == before


NAMESPACES = ["default", "", "a__b", "__", "x__vector_store.json", "image", "with space", "漢字", "trailing_", "UPPER"]


@pytest.mark.parametrize("fs", ["none", "local", "memory"])
def test_namespaces_survive_on_every_file_system(tmp_path, fs, memory):
    fs = {"none": None, "local": fsspec.filesystem("file"), "memory": memory}[fs]
    stores = {}
    for i, name in enumerate(NAMESPACES):
        stores[name] = pannier.SimpleVectorStore()
        stores[name].add([TextNode(id_=f"{i}", text="", embedding=[float(i)])])
    context = pannier.StorageContext.from_defaults(vector_stores=stores, image_store=stores["image"])
    context.persist(str(tmp_path / "ctx"), fs=fs)
    loaded = pannier.StorageContext.from_defaults(persist_dir=str(tmp_path / "ctx"), fs=fs)
    assert set(loaded.vector_stores) == set(NAMESPACES)
    for i, name in enumerate(NAMESPACES):
        assert loaded.vector_stores[name].get(f"{i}") == [float(i)]


def test_the_bare_file_is_the_default_store(tmp_path):
    filled(PeerContext).persist(str(tmp_path))
    os.rename(tmp_path / "default__vector_store.json", tmp_path / "vector_store.json")
    loaded = pannier.StorageContext.from_defaults(persist_dir=str(tmp_path))
    assert set(loaded.vector_stores) == {"default", "image"}
    assert contents(loaded) == contents(filled(PeerContext))
    loaded.vector_store.delete("doc0")
    loaded.persist(str(tmp_path))
    again = pannier.StorageContext.from_defaults(persist_dir=str(tmp_path))
    assert contents(again) == contents(loaded)  # default__ wins over the bare one


# ----- persist that cannot lose data -----

WHEN = datetime.datetime(2024, 1, 2)


def spoil_docstore(context):
    context.docstore.add_documents([TextNode(id_="bad", text="x", metadata={"deep": {"when": [1, WHEN]}})])
    return "when", "docstore"


def spoil_index_store(context):
    context.index_store._kvstore.put("bad", {"__type__": "list", "__data__": {1, 2}}, collection="index_store/data")
    return "__data__", "index store"


def spoil_graph(context):
    context.graph_store._data.graph_dict["bad"] = [["r", WHEN]]
    return "bad", "graph"


def spoil_vectors(context):
    context.vector_stores["image"].data.metadata_dict["n1"] = {"deep": [{"when": WHEN}]}
    return "when", "image"


@pytest.mark.parametrize("stores", [PeerContext, pannier.StorageContext], ids=["peer's stores", "pannier's stores"])
@pytest.mark.parametrize("spoil", [spoil_docstore, spoil_index_store, spoil_graph, spoil_vectors])
def test_a_value_json_cannot_hold_is_named_and_nothing_is_touched(tmp_path, spoil, stores):
    made = filled(stores)
    context = pannier.StorageContext(**{f.name: getattr(made, f.name) for f in dataclasses.fields(made)})
    context.persist(str(tmp_path))
    before = stamps(tmp_path)
    context.docstore.add_documents([TextNode(id_="fine", text="x")])
    key, label = spoil(context)
    with pytest.raises(errors.UnserializableError) as e:
        context.persist(str(tmp_path))
    assert isinstance(e.value, TypeError)
    assert key in e.value.key_path and key in str(e.value)
    assert label in e.value.store or label in str(e.value)
    assert stamps(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)


def test_a_context_that_cannot_be_encoded_makes_no_directory(tmp_path):
    context = filled(pannier.StorageContext)
    spoil_docstore(context)
    with pytest.raises(errors.UnserializableError):
        context.persist(str(tmp_path / "new"))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory(tmp_path):
    filled(pannier.StorageContext).persist(str(tmp_path))
    before = stamps(tmp_path)
    os.chmod(tmp_path, 0o555)
    try:
        with pytest.raises(errors.CommitError):
            filled(pannier.StorageContext).persist(str(tmp_path))
        assert stamps(tmp_path) == before
    finally:
        os.chmod(tmp_path, 0o755)


def test_a_file_where_the_directory_should_be(tmp_path):
    (tmp_path / "file").write_text("x")
    for cls in (PeerContext, pannier.StorageContext):
        with pytest.raises(OSError):
            filled(cls, property_graph=False).persist(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "x"


def test_a_directory_where_a_file_should_be(tmp_path):
    filled(pannier.StorageContext).persist(str(tmp_path))
    os.remove(tmp_path / "graph_store.json")
    os.mkdir(tmp_path / "graph_store.json")
    before = {n: Path(tmp_path, n).read_bytes() for n in FILES if n != "graph_store.json"}
    context = filled(pannier.StorageContext)
    context.docstore.add_documents([TextNode(id_="more", text="more")])
    with pytest.raises(OSError):
        context.persist(str(tmp_path))
    assert {n: Path(tmp_path, n).read_bytes() for n in before} == before
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)


def test_symlinks_and_modes_are_kept(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    context = filled(pannier.StorageContext)
    context.persist(str(tmp_path / "ctx"))
    target = real / "d.json"
    os.rename(tmp_path / "ctx" / "docstore.json", target)
    os.symlink(target, tmp_path / "ctx" / "docstore.json")
    os.chmod(tmp_path / "ctx" / "index_store.json", 0o640)
    context.docstore.add_documents([TextNode(id_="more", text="more")])
    context.persist(str(tmp_path / "ctx"))
    assert os.path.islink(tmp_path / "ctx" / "docstore.json")
    assert b'"more"' in target.read_bytes()
    assert stat.S_IMODE(os.stat(tmp_path / "ctx" / "index_store.json").st_mode) == 0o640


def test_in_place_keeps_the_files_themselves(tmp_path):
    context = filled(pannier.StorageContext)
    context.persist(str(tmp_path))
    inodes = {n: os.stat(tmp_path / n).st_ino for n in FILES}
    context.docstore.add_documents([TextNode(id_="more", text="more")])
    context.persist(str(tmp_path), in_place=True)
    assert {n: os.stat(tmp_path / n).st_ino for n in FILES} == inodes
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)
    assert b'"more"' in (tmp_path / "docstore.json").read_bytes()


# ----- stores that are not pannier's -----


class Recorder:
    """What a foreign store saw of a persist."""

    def __init__(self):
        self.calls = []

    def persist(self, persist_path, fs=None):
        self.calls.append((persist_path, fs, sorted(os.listdir(os.path.dirname(persist_path)))))


class ForeignGraph(Recorder, PeerGraph):
    def __init__(self):
        Recorder.__init__(self)
        PeerGraph.__init__(self)


class Failing(ForeignGraph):
    def persist(self, persist_path, fs=None):
        super().persist(persist_path, fs)
        raise RuntimeError("the engine is down")


class OwnVectors(pannier.SimpleVectorStore):
    def persist(self, persist_path="", fs=None):
        Path(persist_path).write_text("own format")


class OwnKV(pannier.SimpleKVStore):
    def persist(self, persist_path, fs=None):
        Path(persist_path).write_text("own kv")


class OwnPeerKV(PeerKV):
    def persist(self, persist_path, fs=None):
        Path(persist_path).write_text("own peer kv")


def test_foreign_stores_persist_first_under_the_peers_name(tmp_path):
    where = tmp_path / "ctx"
    graph = ForeignGraph()
    context = pannier.StorageContext.from_defaults(graph_store=graph, vector_store=OwnVectors())
    context.persist(str(where))
    assert graph.calls == [(str(where / "graph_store.json"), None, [])]
    assert (where / "default__vector_store.json").read_text() == "own format"
    assert (where / "docstore.json").exists()


def test_a_failing_foreign_store_aborts_before_pannier_s_are_written(tmp_path):
    context = filled(pannier.StorageContext)
    context.persist(str(tmp_path))
    before = stamps(tmp_path)
    context.docstore.add_documents([TextNode(id_="more", text="more")])
    context.graph_store = Failing()
    with pytest.raises(RuntimeError, match="the engine is down"):
        context.persist(str(tmp_path))
    assert stamps(tmp_path) == before


def test_encoding_is_done_before_a_foreign_store_is_touched(tmp_path):
    graph = ForeignGraph()
    context = pannier.StorageContext.from_defaults(graph_store=graph)
    spoil_docstore(context)
    with pytest.raises(errors.UnserializableError):
        context.persist(str(tmp_path))
    assert graph.calls == []


@pytest.mark.parametrize("kv", [OwnKV, OwnPeerKV])
@pytest.mark.parametrize("docstore", [pannier.SimpleDocumentStore, PeerDocstore])
def test_a_persist_that_a_user_wrote_is_the_one_that_runs(tmp_path, docstore, kv):
    context = pannier.StorageContext.from_defaults(docstore=docstore(kv()))
    context.persist(str(tmp_path))
    assert "own" in (tmp_path / "docstore.json").read_text()


def test_a_persist_put_on_an_instance_runs(tmp_path):
    context = pannier.StorageContext.from_defaults()
    seen = []
    context.docstore.persist = lambda persist_path, fs=None: seen.append(persist_path)
    context.persist(str(tmp_path))
    assert seen == [str(tmp_path / "docstore.json")] and not (tmp_path / "docstore.json").exists()


def test_a_docstore_over_a_database_writes_no_file(tmp_path):
    for cls in (PeerContext, pannier.StorageContext):
        root = tmp_path / cls.__module__
        cls.from_defaults(docstore=PeerKVDocstore(PeerKV())).persist(str(root))
        assert "docstore.json" not in os.listdir(root)


@pytest.mark.parametrize("parts", [["docstore"], ["index_store", "vector_store"], PARTS[:4] + PARTS[5:]], ids="+".join)
def test_peers_stores_in_our_context_write_the_peers_bytes(tmp_path, parts):
    peers = filled(PeerContext)
    ours = filled(pannier.StorageContext)
    for part in parts:
        if part == "vector_store":
            ours.vector_stores["default"] = peers.vector_stores["default"]
        elif part == "image_store":
            ours.vector_stores["image"] = peers.vector_stores["image"]
        else:
            setattr(ours, part, getattr(peers, part))
    (tmp_path / "peer").mkdir()
    peers.persist(str(tmp_path / "peer"))
    ours.persist(str(tmp_path / "ours"))
    assert read_tree(tmp_path / "ours") == read_tree(tmp_path / "peer")


def test_our_stores_in_the_peers_context(tmp_path):
    ours = filled(pannier.StorageContext)
    mixed = PeerContext(**{f.name: getattr(ours, f.name) for f in dataclasses.fields(ours)})
    (tmp_path / "mixed").mkdir()
    mixed.persist(str(tmp_path / "mixed"))
    ours.persist(str(tmp_path / "ours"))
    assert read_tree(tmp_path / "mixed") == read_tree(tmp_path / "ours")


# ----- to_dict and from_dict -----


@pytest.mark.parametrize("property_graph", [True, False])
def test_to_dict_as_the_peers(property_graph):
    theirs, ours = (filled(cls, property_graph).to_dict() for cls in (PeerContext, pannier.StorageContext))
    assert list(ours) == list(theirs)
    for side in (theirs, ours):
        if property_graph:
            graph = side["property_graph_store"]
            graph["triplets"] = sorted(graph["triplets"])
    assert ours == theirs


@pytest.mark.parametrize("maker, reader", list(itertools.product([PeerContext, pannier.StorageContext], repeat=2)))
def test_from_dict_both_ways(maker, reader):
    made = reader.from_dict(filled(maker).to_dict())
    assert contents(made) == contents(filled(PeerContext))
    assert type(made.docstore) is kinds(reader)["docstore"]
    assert type(made.vector_store) is kinds(reader)["vector"]


@pytest.mark.parametrize("key", ["vector_store", "doc_store", "index_store", "graph_store", "property_graph_store"])
def test_from_dict_without_a_key(key):
    results = []
    for cls in (PeerContext, pannier.StorageContext):
        data = filled(cls).to_dict()
        del data[key]
        results.append(outcome(lambda cls=cls, data=data: cls.from_dict(data)))
    assert results[0] == results[1] == (KeyError, repr(key))


@pytest.mark.parametrize("cls", SIDES)
def test_to_dict_wants_simple_stores(cls):
    context = cls.from_defaults(docstore=PeerKVDocstore(PeerKV()))
    with pytest.raises(ValueError) as e:
        context.to_dict()
    assert str(e.value) == "to_dict only available when using simple doc/index/vector stores"


def test_to_dict_takes_either_sides_stores_and_subclasses():
    class Own(PeerDocstore):
        pass

    for docstore in (PeerDocstore(), pannier.SimpleDocumentStore(), Own()):
        assert set(pannier.StorageContext.from_defaults(docstore=docstore).to_dict()) == {
            "vector_store",
            "doc_store",
            "index_store",
            "graph_store",
            "property_graph_store",
        }
    assert PeerContext.from_defaults(docstore=pannier.SimpleDocumentStore()).to_dict()["doc_store"] == {}


# ----- a dataclass of five fields -----


def test_it_is_the_peers_dataclass():
    assert [f.name for f in dataclasses.fields(pannier.StorageContext)] == [
        f.name for f in dataclasses.fields(PeerContext)
    ]
    context = pannier.StorageContext.from_defaults()
    twin = dataclasses.replace(context)
    assert type(twin) is pannier.StorageContext and twin == context
    assert context != pannier.StorageContext.from_defaults()
    twin.graph_store = pannier.SimpleGraphStore()
    assert twin != context
    assert inspect.signature(pannier.StorageContext) == inspect.signature(PeerContext)
    with pytest.raises(TypeError):
        hash(context)


@pytest.mark.parametrize("cls", SIDES)
def test_vector_store_property(cls):
    context = cls.from_defaults()
    assert context.vector_store is context.vector_stores["default"]
    with pytest.raises(AttributeError):
        context.vector_store = context.vector_stores["image"]
    own = kinds(cls)["vector"]()
    context.add_vector_store(own, "own")
    assert context.vector_stores["own"] is own
    del context.vector_stores["default"]
    with pytest.raises(KeyError, match="default"):
        context.vector_store


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_and_pickles(again):
    twin = again(filled(pannier.StorageContext))
    assert type(twin) is pannier.StorageContext
    assert contents(twin) == contents(filled(PeerContext))


def test_a_deep_copy_is_independent():
    context = filled(pannier.StorageContext)
    twin = copy.deepcopy(context)
    twin.docstore.delete_document("n1")
    twin.vector_store.delete("doc0")
    twin.graph_store.upsert_triplet("only", "in", "twin")
    assert contents(context) == contents(filled(PeerContext))


def test_repr_is_short_and_tells_what_is_inside():
    context = filled(pannier.StorageContext)
    text = repr(context)
    assert len(text) < 700
    assert "7 nodes of 2 documents" in text and "2 indices" in text and "7 × 4" in text
    context.add_vector_store(PeerVectors(), "<b>")
    shown = context._repr_html_()
    assert "<b>" not in shown and "&lt;b&gt;" in shown
    assert "7 nodes of 2 documents" in shown and shown.startswith("<table>") and shown.endswith("</table>")
    foreign = pannier.StorageContext(object(), object(), {"x": object()}, object())
    assert "object()" in repr(foreign)


# ----- beyond the peer -----


def test_apersist_writes_the_same(tmp_path):
    context = filled(pannier.StorageContext)
    asyncio.run(context.apersist(str(tmp_path / "a"), docstore_fname="d.json"))
    context.persist(str(tmp_path / "b"), docstore_fname="d.json")
    assert read_tree(tmp_path / "a") == read_tree(tmp_path / "b")


def test_progress_is_told(tmp_path, capsys):
    steps = []
    context = filled(pannier.StorageContext)
    context.persist(str(tmp_path), progress=lambda *step: steps.append(step))
    assert [done for _, done, _ in steps] == list(range(1, 8)) and {total for *_, total in steps} == {7}
    assert [what for what, *_ in steps][-1] == "commit"
    context.persist(str(tmp_path), progress=False)
    assert capsys.readouterr().err == ""
    context.persist(str(tmp_path), progress=True)
    assert "7/7" in capsys.readouterr().err


def test_nothing_but_the_stores_files_is_left(tmp_path):
    for _ in range(3):
        filled(pannier.StorageContext).persist(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)


# ----- The local file system that a new store has -----


def test_a_new_store_has_the_file_system_that_fsspec_hands_out(monkeypatch):
    def agrees():
        found, given = local_fs(), fsspec.filesystem("file")
        assert local_fs() is found  # now kept
        return found is given and pannier.SimpleGraphStore()._fs is given and pannier.SimpleVectorStore()._fs is given

    first = fsspec.filesystem("file")
    assert agrees() and local_fs() is first
    with ThreadPoolExecutor(1) as pool:  # each thread has its own
        assert pool.submit(agrees).result() and pool.submit(local_fs).result() is not first
    LocalFileSystem.clear_instance_cache()
    assert agrees() and local_fs() is not first
    monkeypatch.setitem(fsspec.config.conf, "file", {"auto_mkdir": True})
    assert agrees() and local_fs().auto_mkdir
    monkeypatch.delitem(fsspec.config.conf, "file")
    assert agrees() and not local_fs().auto_mkdir

    class Other(LocalFileSystem):
        pass

    fsspec.register_implementation("file", Other, clobber=True)
    try:
        assert agrees() and type(local_fs()) is Other
    finally:
        fsspec.register_implementation("file", LocalFileSystem, clobber=True)
    assert agrees()
    fake = LocalFileSystem(auto_mkdir=True)
    monkeypatch.setattr(fsspec, "filesystem", lambda protocol: fake)
    assert local_fs() is fake


def test_a_file_system_kept_in_an_unknown_way_is_asked_for_again():
    """Of fsspec's cache only what this release has is relied upon."""
    assert _is_current(fsspec.filesystem("file"))
    assert not _is_current(object())


def test_a_forked_process_has_a_file_system_of_its_own():
    kept = local_fs()
    child = os.fork()
    if child == 0:
        os._exit(0 if local_fs() is fsspec.filesystem("file") and local_fs() is not kept else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_new_vector_store_makes_its_table_once():
    """It is made on first use, which may be in several threads at once."""
    for _ in range(20):
        data = pannier.SimpleVectorStore().data
        with ThreadPoolExecutor(4) as pool:
            tables = list(pool.map(lambda _: data._table, range(8)))
        assert all(table is data._table for table in tables)
