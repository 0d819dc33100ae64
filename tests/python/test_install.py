"""install() and uninstall(): every way LlamaIndex's names give a store, before,
during and after. Objects of both kinds have to go on working through all of it."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import os
import pickle
import subprocess
import sys
import threading
from importlib import import_module
from typing import Optional

import pytest

# Names taken before anything is installed, as a program's modules hold them.
from llama_index.core import (
    Document,
    KnowledgeGraphIndex,
    MockEmbedding,
    PropertyGraphIndex,
    Settings,
    StorageContext,
    SummaryIndex,
    VectorStoreIndex,
    load_index_from_storage,
)
from llama_index.core.graph_stores import SimpleGraphStore
from llama_index.core.graph_stores.simple_labelled import SimplePropertyGraphStore
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.ingestion.cache import SimpleCache
from llama_index.core.llms.mock import MockLLM
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.schema import TextNode
from llama_index.core.storage.docstore import DocumentStore, SimpleDocumentStore
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore
from llama_index.core.storage.docstore.registry import DOCSTORE_TYPE_TO_CLASS, get_default_docstore
from llama_index.core.storage.index_store import SimpleIndexStore
from llama_index.core.storage.index_store.keyval_index_store import KVIndexStore
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.vector_stores.simple import SimpleVectorStore
from pydantic import BaseModel, ConfigDict, Field

import pannier
from pannier.installing import _CLASSES, installed

PEERS = {name: getattr(import_module(theirs), name) for theirs, _, name in _CLASSES}
NAMES = list(PEERS)
bound_before = SimpleVectorStore.from_dict  # a bound class method taken early


def arguments(name: str) -> tuple:
    """Positional arguments that make one object of the class."""
    return {
        "KVIndexStore": lambda: (SimpleKVStore(),),
        "KVDocumentStore": lambda: (SimpleKVStore(),),
        "StorageContext": lambda: (SimpleDocumentStore(), SimpleIndexStore(), {}, SimpleGraphStore()),
    }.get(name, tuple)()


def is_ours(obj) -> bool:
    return type(obj).__module__.partition(".")[0] == "pannier"


def is_peers(obj) -> bool:
    return type(obj).__module__.partition(".")[0] == "llama_index"


@pytest.fixture(autouse=True)
def not_installed():
    pannier.uninstall()
    yield
    pannier.uninstall()


@pytest.fixture
def use():
    pannier.install()


@pytest.fixture
def mock_models(monkeypatch):
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    monkeypatch.setattr(Settings, "_embed_model", MockEmbedding(embed_dim=4))


def filled(name: str):
    """An object of LlamaIndex's name, with something in it."""
    obj = PEERS[name](*arguments(name))
    kind = name.removeprefix("Simple").removeprefix("KV")
    if name == "SimpleKVStore":
        obj.put("k", {"a": [1, {"b": None}]})
    elif kind == "DocumentStore":
        obj.add_documents([node("n1", "d1"), node("n2", "d1")])
    elif kind == "IndexStore":
        from llama_index.core.data_structs.data_structs import IndexDict

        obj.add_index_struct(IndexDict(index_id="i", nodes_dict={"n1": "n1"}))
    elif name == "SimpleVectorStore":
        obj.add([node("n1", "d1", [1.0, 0.5])])
    elif name == "SimpleGraphStore":
        obj.upsert_triplet("s", "r", "o")
    elif name == "SimplePropertyGraphStore":
        from llama_index.core.graph_stores.types import EntityNode, Relation

        obj.upsert_nodes([EntityNode(name="s"), EntityNode(name="o")])
        obj.upsert_relations([Relation(label="r", source_id="s", target_id="o")])
    else:
        obj.vector_stores["default"] = filled("SimpleVectorStore")
        obj.docstore.add_documents([node("n1", "d1")])
    return obj


def node(id_: str, source: str, embedding: Optional[list] = None) -> TextNode:
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo

    return TextNode(
        id_=id_,
        text=f"text of {id_}",
        metadata={"m": id_},
        embedding=embedding,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)},
    )


def contents(obj):
    """Plain data that tells two equal objects apart from two that differ."""
    if isinstance(obj, StorageContext):
        return (
            contents(obj.docstore),
            contents(obj.index_store),
            {k: contents(v) for k, v in obj.vector_stores.items()},
            contents(obj.graph_store),
        )
    if isinstance(obj, SimplePropertyGraphStore):
        return json.loads(obj.graph.model_dump_json())
    if isinstance(obj, (KVDocumentStore, KVIndexStore)):
        obj = obj._kvstore
    return json.loads(json.dumps(obj.to_dict()))


def alter(obj) -> None:
    """Use it: read and write."""
    if isinstance(obj, StorageContext):
        alter(obj.docstore)
        alter(obj.vector_stores["default"])
    elif isinstance(obj, SimpleKVStore):
        obj.put("more", {"x": 1})
        assert obj.get("more") == {"x": 1}
    elif isinstance(obj, KVDocumentStore):
        obj.add_documents([node("n9", "d9")])
        assert obj.get_document("n9").get_content() == "text of n9"
        assert obj.get_ref_doc_info("d9").node_ids == ["n9"]
    elif isinstance(obj, KVIndexStore):
        assert obj.get_index_struct("i").index_id == "i"
        obj.delete_index_struct("i")
        assert obj.index_structs() == []
    elif isinstance(obj, SimpleVectorStore):
        from llama_index.core.vector_stores.types import VectorStoreQuery

        obj.add([node("n9", "d9", [0.0, 1.0])])
        found = obj.query(VectorStoreQuery(query_embedding=[0.0, 1.0], similarity_top_k=1))
        assert found.ids == ["n9"]
    elif isinstance(obj, SimpleGraphStore):
        obj.upsert_triplet("s", "r2", "o2")
        assert ["r2", "o2"] in obj.get("s")
    else:
        assert len(obj.get(ids=["s"])) == 1
        assert len(obj.get_triplets(entity_names=["s"])) == 1


# ----- What the names give -----


@pytest.mark.parametrize("name", NAMES)
def test_calling_the_class_gives_ours_only_while_installed(name):
    peer = PEERS[name]
    assert type(peer(*arguments(name))) is peer
    pannier.install()
    made = peer(*arguments(name))
    assert type(made) is getattr(pannier, name)
    assert isinstance(made, peer)
    pannier.uninstall()
    again = peer(*arguments(name))
    assert type(again) is peer
    assert not is_ours(again)


@pytest.mark.parametrize("name", NAMES)
def test_constructor_arguments_work_throughout(name):
    peer = PEERS[name]
    want = inspect.signature(peer)
    for step in (pannier.install, pannier.install, pannier.uninstall, pannier.uninstall):
        step()
        assert inspect.signature(peer) == want
        made = peer(*arguments(name))
        assert is_ours(made) == installed()
        with pytest.raises(TypeError, match="unexpected|takes|got"):
            peer(1, 2, 3, 4, 5, 6, 7, 8, 9)
    if name == "SimpleKVStore":
        assert SimpleKVStore({"c": {"k": {"v": 1}}}).get("k", "c") == {"v": 1}
        assert SimpleKVStore(data={"c": {}}).to_dict() == {"c": {}}


def test_install_twice_is_once(use):
    pannier.install()
    assert is_ours(SimpleKVStore())
    pannier.uninstall()
    assert is_peers(SimpleKVStore()) and is_peers(SimpleVectorStore.from_dict({}))
    assert pannier.install() is None and pannier.uninstall() is None


def test_uninstall_without_install_changes_nothing():
    pannier.uninstall()
    assert is_peers(SimpleKVStore())
    assert is_peers(StorageContext.from_defaults())


def test_aliases_registries_and_defaults(use):
    assert SimpleCache is SimpleKVStore and DocumentStore is SimpleDocumentStore
    assert is_ours(SimpleCache()) and is_ours(DocumentStore())
    assert is_ours(get_default_docstore())
    assert all(is_ours(cls()) for cls in DOCSTORE_TYPE_TO_CLASS.values())
    assert is_ours(IngestionCache().cache)


def test_ingestion_cache_without_arguments_persists(tmp_path):
    before = IngestionCache()
    pannier.install()
    during = IngestionCache()
    pannier.uninstall()
    after = IngestionCache()
    assert is_peers(before.cache) and is_ours(during.cache) and is_peers(after.cache)
    files = []
    for i, cache in enumerate((before, during, after)):
        cache.put("key", [TextNode(id_="n", text="cached")])
        path = str(tmp_path / f"{i}" / "cache.json")
        cache.persist(path)
        with open(path, "rb") as f:
            files.append(f.read())
        assert IngestionCache.from_persist_path(path).get("key")[0].text == "cached"
    assert files[0] == files[1] == files[2]


def test_context_and_its_stores_are_ours(use):
    context = StorageContext.from_defaults()
    assert type(context) is pannier.StorageContext
    stores = [context.docstore, context.index_store, context.graph_store, *context.vector_stores.values()]
    assert all(map(is_ours, stores))
    assert is_ours(context.docstore._kvstore) and is_ours(context.index_store._kvstore)


def test_an_index_without_a_context_uses_ours(use, mock_models, tmp_path):
    index = VectorStoreIndex.from_documents([Document(text="alpha"), Document(text="beta")])
    assert type(index.storage_context) is pannier.StorageContext
    assert is_ours(index.vector_store) and is_ours(index.docstore)
    index.storage_context.persist(str(tmp_path))
    loaded = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path)))
    assert is_ours(loaded.storage_context)
    assert {n.get_content() for n in loaded.docstore.docs.values()} == {"alpha", "beta"}


def test_graph_indices_use_ours(use, mock_models):
    kg = KnowledgeGraphIndex([], max_triplets_per_chunk=1)
    assert is_ours(kg.graph_store)
    kg.upsert_triplet(("s", "r", "o"))
    assert kg.graph_store.get("s") == [["r", "o"]]
    assert is_ours(PropertyGraphIndex([]).property_graph_store)


def test_ingestion_pipeline_uses_ours(use, mock_models, tmp_path):
    pipeline = IngestionPipeline(
        transformations=[TokenTextSplitter()], docstore=SimpleDocumentStore(), vector_store=None
    )
    documents = [Document(id_="d", text="some text")]
    assert len(pipeline.run(documents=documents)) == 1
    assert is_ours(pipeline.docstore) and is_ours(pipeline.cache.cache)
    assert pipeline.run(documents=documents) == []
    pipeline.persist(str(tmp_path))
    pannier.uninstall()
    again = IngestionPipeline(transformations=[TokenTextSplitter()], docstore=SimpleDocumentStore())
    again.load(str(tmp_path))
    assert is_peers(again.docstore)
    assert again.run(documents=documents) == []


def class_methods() -> list:
    return [
        (name, method)
        for name, peer in PEERS.items()
        for method, value in vars(peer).items()
        if isinstance(value, classmethod) and method.startswith("from_")
    ]


def call_class_method(cls, name: str, method: str, directory: str):
    """What the class method makes of the directory or of a dictionary."""
    if method == "from_defaults":
        return cls.from_defaults(persist_dir=directory)
    if method == "from_dict":
        made = cls.from_defaults() if name == "StorageContext" else cls()
        if name == "SimplePropertyGraphStore":
            return cls.from_dict({"nodes": {}, "relations": {}, "triplets": set()})
        return cls.from_dict(made.to_dict())
    if method == "from_persist_path":
        fname = {
            "SimpleVectorStore": "default__vector_store.json",
            "SimpleGraphStore": "graph_store.json",
            "SimplePropertyGraphStore": "property_graph_store.json",
            "SimpleIndexStore": "index_store.json",
        }.get(name, "docstore.json")
        return cls.from_persist_path(os.path.join(directory, fname))
    return getattr(cls, method)(directory)


@pytest.mark.parametrize("name, method", class_methods())
def test_class_methods_give_ours_only_while_installed(name, method, tmp_path):
    context = StorageContext.from_defaults(property_graph_store=SimplePropertyGraphStore())
    context.persist(str(tmp_path))
    peer, original = PEERS[name], vars(PEERS[name])[method]
    signature = inspect.signature(getattr(peer, method))

    def made():
        result = call_class_method(peer, name, method, str(tmp_path))
        return result.get("default") if isinstance(result, dict) else result

    assert type(made()) is peer
    pannier.install()
    assert type(made()) is getattr(pannier, name)
    assert inspect.signature(getattr(peer, method)) == signature
    pannier.uninstall()
    assert type(made()) is peer
    assert vars(peer)[method] is original


def test_bound_class_method_taken_before(use):
    assert is_ours(bound_before({"embedding_dict": {"a": [1.0]}, "text_id_to_ref_doc_id": {"a": "d"}}))


# ----- Users' own classes -----


class OwnKV(SimpleKVStore):
    def __init__(self, label: str, size: int = 0):
        super().__init__()
        self.label, self.size = label, size


class OwnVectors(SimpleVectorStore):
    stores_text: bool = True


class OwnContext(StorageContext):
    pass


class Counting:
    def __new__(cls, *args, **kwargs):
        made = super().__new__(cls)
        made.arguments = args
        return made


class Mixed(SimpleKVStore, Counting):
    def __init__(self, *args):
        super().__init__()


class OwnNew(SimpleGraphStore):
    def __new__(cls, *args, **kwargs):
        made = super().__new__(cls, *args, **kwargs)
        made.tag = "own"
        return made


def test_subclasses_of_users_are_left_alone():
    for step in (lambda: None, pannier.install, pannier.uninstall):
        step()
        own = OwnKV("label", size=3)
        assert type(own) is OwnKV and (own.label, own.size) == ("label", 3)
        assert type(OwnKV.__mro__[1]) is type(SimpleKVStore)
        assert type(OwnVectors()) is OwnVectors and type(OwnVectors.from_dict({})) is OwnVectors
        assert type(OwnContext.from_defaults()) is OwnContext
        assert Mixed(1, 2).arguments == (1, 2)
        assert type(OwnNew()) is OwnNew and OwnNew().tag == "own"
        assert type(pickle.loads(pickle.dumps(OwnVectors()))) is OwnVectors
        assert type(copy.deepcopy(OwnVectors())) is OwnVectors


def test_our_classes_stay_ours_after_uninstall(use):
    pannier.uninstall()
    for name in NAMES:
        ours = getattr(pannier, name)
        if name not in ("KVIndexStore", "KVDocumentStore", "StorageContext"):
            assert type(ours()) is ours
    assert is_ours(pannier.StorageContext.from_defaults().docstore)


# ----- Objects that live through it -----


@pytest.mark.parametrize("name", NAMES)
def test_objects_made_before_go_on_working(name):
    obj = filled(name)
    same = filled(name)
    assert is_peers(obj)
    pannier.install()
    assert contents(obj) == contents(same)
    alter(obj)
    pannier.uninstall()
    alter(same)
    assert contents(obj) == contents(same)


@pytest.mark.parametrize("name", NAMES)
def test_objects_made_while_installed_go_on_working(name, use):
    obj = filled(name)
    assert is_ours(obj)
    pannier.uninstall()
    peers = filled(name)
    assert is_peers(peers)
    assert contents(obj) == contents(peers)
    alter(obj)
    alter(peers)
    assert contents(obj) == contents(peers)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", NAMES)
def test_pickles_made_before_load_as_ours(name, protocol):
    obj = filled(name)
    stored = pickle.dumps(obj, protocol)
    pannier.install()
    loaded = pickle.loads(stored)
    assert type(loaded) is getattr(pannier, name)
    assert contents(loaded) == contents(obj)
    alter(loaded)
    pannier.uninstall()
    plain = pickle.loads(stored)
    assert type(plain) is PEERS[name]
    assert contents(plain) == contents(obj)
    alter(plain)
    assert contents(plain) == contents(loaded)


@pytest.mark.parametrize("name", NAMES)
def test_pickles_of_ours_load_without_install(name, use):
    stored = pickle.dumps(filled(name))
    pannier.uninstall()
    loaded = pickle.loads(stored)
    assert type(loaded) is getattr(pannier, name)
    assert contents(loaded) == contents(filled(name))
    alter(loaded)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
@pytest.mark.parametrize("name", NAMES)
def test_copies_of_both_kinds_at_any_time(name, copier):
    before = filled(name)
    want = contents(before)
    pannier.install()
    during = filled(name)
    for obj in (before, during):
        twin = copier(obj)
        assert isinstance(twin, PEERS[name]) and contents(twin) == want
    twin = copier(before)
    alter(twin)
    pannier.uninstall()
    fresh = filled(name)
    for obj in (fresh, copier(during)):
        twin = copier(obj)
        assert type(twin) is type(obj) and contents(twin) == want
        alter(copier(obj))


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    kv: SimpleKVStore = Field(default_factory=SimpleKVStore)
    vectors: SimpleVectorStore = Field(default_factory=SimpleVectorStore)
    docstore: Optional[SimpleDocumentStore] = None
    context: Optional[StorageContext] = None


def test_pydantic_fields_take_both_kinds_at_any_time():
    peers = {"kv": SimpleKVStore(), "vectors": filled("SimpleVectorStore"), "docstore": SimpleDocumentStore()}
    pannier.install()
    ours = {"kv": SimpleKVStore(), "vectors": filled("SimpleVectorStore"), "docstore": SimpleDocumentStore()}
    for step in (pannier.install, pannier.uninstall):
        step()
        for values in (peers, ours):
            held = Holder(**values)
            assert held.kv is values["kv"] and held.docstore is values["docstore"]
            assert held.vectors is values["vectors"]
            assert type(held.model_copy(deep=True).vectors) is type(values["vectors"])
        made = Holder()
        assert is_ours(made.kv) == is_ours(made.vectors) == installed()
        alter(made.vectors)


def test_pydantic_makes_a_store_from_a_dictionary():
    data = {"data": {"embedding_dict": {"a": [1.0]}, "text_id_to_ref_doc_id": {"a": "d"}, "metadata_dict": {}}}
    want = contents(SimpleVectorStore.model_validate(data))
    for step in (pannier.install, pannier.uninstall):
        step()
        made = SimpleVectorStore.model_validate(data)
        assert isinstance(made, SimpleVectorStore) and contents(made) == want
        assert contents(Holder(vectors=data).vectors) == want
        assert isinstance(SimpleVectorStore.model_construct(), SimpleVectorStore)


def test_a_mixed_context_persists_as_the_peers(tmp_path):
    before = filled("StorageContext")
    before.persist(str(tmp_path / "peer"))
    pannier.install()
    mixed = StorageContext.from_defaults(docstore=before.docstore, vector_stores=before.vector_stores)
    del mixed.vector_stores["image"]
    assert is_ours(mixed) and is_peers(mixed.docstore) and is_ours(mixed.index_store)
    mixed.persist(str(tmp_path / "mixed"))
    pannier.uninstall()
    for fname in ("docstore.json", "default__vector_store.json", "graph_store.json"):
        with open(tmp_path / "peer" / fname, "rb") as a, open(tmp_path / "mixed" / fname, "rb") as b:
            assert a.read() == b.read()


def test_each_others_directories(tmp_path):
    peers = filled("StorageContext")
    peers.persist(str(tmp_path / "peer"))
    pannier.install()
    ours = filled("StorageContext")
    ours.persist(str(tmp_path / "ours"))
    loaded = StorageContext.from_defaults(persist_dir=str(tmp_path / "peer"))
    assert is_ours(loaded) and contents(loaded) == contents(ours)
    pannier.uninstall()
    loaded = StorageContext.from_defaults(persist_dir=str(tmp_path / "ours"))
    assert is_peers(loaded) and contents(loaded) == contents(peers)


def test_loaders_imported_before(use, mock_models, tmp_path):
    SummaryIndex.from_documents([Document(text="x")]).storage_context.persist(str(tmp_path))
    index = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path)))
    assert isinstance(index, SummaryIndex) and is_ours(index.docstore)


def test_async_methods_of_what_the_names_give(use):
    async def work():
        kv = SimpleKVStore()
        await kv.aput("k", {"v": 1})
        return await kv.aget("k")

    assert asyncio.run(work()) == {"v": 1}


def test_copying_in_one_thread_does_not_switch_the_redirection_off_in_another(use):
    old = filled("SimpleVectorStore")
    inside, go_on = threading.Event(), threading.Event()

    class Slow:
        def __deepcopy__(self, memo):
            inside.set()
            assert go_on.wait(30)
            return self

    pannier.uninstall()
    old = filled("SimpleVectorStore")
    old.data.metadata_dict["slow"] = Slow()
    pannier.install()
    worker = threading.Thread(target=copy.deepcopy, args=(old,))
    worker.start()
    try:
        assert inside.wait(30)
        assert is_ours(SimpleVectorStore())
    finally:
        go_on.set()
        worker.join()
    assert is_ours(SimpleVectorStore())


def test_installing_while_other_threads_make_stores():
    stop = threading.Event()
    errors: list = []

    def make():
        while not stop.is_set():
            try:
                store = SimpleKVStore()
                store.put("k", {"v": 1})
                assert store.get("k") == {"v": 1}
                SimpleVectorStore.from_dict({})
            except Exception as e:
                errors.append(e)
                return

    workers = [threading.Thread(target=make) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(30):
        pannier.install()
        pannier.uninstall()
    stop.set()
    for worker in workers:
        worker.join()
    assert errors == []


def test_install_as_the_first_thing_a_program_does():
    code = (
        "import pannier; pannier.install()\n"
        "from llama_index.core import StorageContext\n"
        "from llama_index.core.storage.docstore import SimpleDocumentStore\n"
        "print(type(StorageContext.from_defaults()).__module__, type(SimpleDocumentStore()).__module__)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["pannier.storage_context", "pannier.docstore"], done.stderr
