"""The load functions and the registry of index types, beside LlamaIndex's own."""

from __future__ import annotations

import gc
import weakref

import pytest
from llama_index.core import MockEmbedding, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.data_structs.data_structs import IndexList
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS as STRUCTS
from llama_index.core.data_structs.struct_type import IndexStructType
from llama_index.core.indices import loading as peer_loading
from llama_index.core.indices.composability.graph import ComposableGraph
from llama_index.core.indices.empty.base import EmptyIndex
from llama_index.core.indices.keyword_table.simple_base import SimpleKeywordTableIndex
from llama_index.core.indices.registry import INDEX_STRUCT_TYPE_TO_INDEX_CLASS as INDICES
from llama_index.core.llms.mock import MockLLM
from llama_index.core.schema import TextNode
from llama_index.core.storage.storage_context import StorageContext as PeerContext

import pannier
from pannier import loading as our_loading
from pannier import registry
from pannier._core import Registry

LOADINGS = [pytest.param(peer_loading, id="peer"), pytest.param(our_loading, id="pannier")]


@pytest.fixture(autouse=True)
def mock_models(monkeypatch):
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    monkeypatch.setattr(Settings, "_embed_model", MockEmbedding(embed_dim=4))


@pytest.fixture(autouse=True)
def registered_types():
    """Whatever a test does to the peer's dictionaries is undone."""
    structs, indices = dict(STRUCTS), dict(INDICES)
    yield
    for now, before in ((STRUCTS, structs), (INDICES, indices)):
        now.clear()
        now.update(before)


def nodes(n: int = 3) -> list:
    return [TextNode(id_=f"n{i}", text=f"text number {i}") for i in range(n)]


def persisted(tmp_path, *classes) -> str:
    """A directory with one index of each class over the same nodes, written by the peer."""
    context = PeerContext.from_defaults()
    for i, cls in enumerate(classes):
        given = {} if cls is EmptyIndex else {"nodes": nodes()}
        index = cls(storage_context=context, **given)
        index.set_index_id(f"index-{i}")
    context.persist(str(tmp_path))
    return str(tmp_path)


def outcome(call):
    try:
        return call()
    except Exception as e:
        return type(e), str(e)


def describe(index):
    return type(index), index.index_id, index.index_struct.to_dict()


class Keywords(SimpleKeywordTableIndex):
    """Its own keywords, since LlamaIndex's want a list of stop words, which not every release carries."""

    def _extract_keywords(self, text):
        return set(text.split())


@pytest.mark.parametrize(
    "classes",
    [
        (VectorStoreIndex,),
        (SummaryIndex,),
        (Keywords,),
        (EmptyIndex,),
        (VectorStoreIndex, SummaryIndex, Keywords, VectorStoreIndex),
        (),
    ],
    ids=lambda classes: "+".join(c.__name__ for c in classes) or "none",
)
def test_indices_load_as_with_the_peer(tmp_path, classes):
    where = persisted(tmp_path, *classes)
    theirs = peer_loading.load_indices_from_storage(PeerContext.from_defaults(persist_dir=where))
    context = pannier.StorageContext.from_defaults(persist_dir=where)
    ours = pannier.load_indices_from_storage(context)
    assert [describe(i) for i in ours] == [describe(i) for i in theirs]
    assert all(i.storage_context is context for i in ours)


@pytest.mark.parametrize("ids", [None, [], ["index-1"], ["index-1", "index-0"], ["index-0", "nope", "index-1"]])
def test_ids_choose_and_order(tmp_path, ids):
    where = persisted(tmp_path, VectorStoreIndex, SummaryIndex)

    def load(module, context):
        found = module.load_indices_from_storage(context.from_defaults(persist_dir=where), index_ids=ids)
        return [describe(i) for i in found]

    ours = outcome(lambda: load(our_loading, pannier.StorageContext))
    assert ours == outcome(lambda: load(peer_loading, PeerContext))


@pytest.mark.parametrize("index_id", [None, "index-0", "nope"])
@pytest.mark.parametrize("classes", [(), (SummaryIndex,), (SummaryIndex, VectorStoreIndex)], ids=len)
def test_one_index_or_the_peers_error(tmp_path, classes, index_id):
    where = persisted(tmp_path, *classes)

    def load(module, context):
        return describe(
            module.load_index_from_storage(context.from_defaults(persist_dir=where), index_id=index_id)
        )

    ours = outcome(lambda: load(our_loading, pannier.StorageContext))
    assert ours == outcome(lambda: load(peer_loading, PeerContext))


def test_messages():
    context = pannier.StorageContext.from_defaults()
    with pytest.raises(ValueError) as none:
        pannier.load_index_from_storage(context)
    assert str(none.value) == "No index in storage context, check if you specified the right persist_dir."
    with pytest.raises(ValueError) as unknown:
        pannier.load_index_from_storage(context, "x")
    assert str(unknown.value) == "Failed to load index with ID x"
    for _ in range(2):
        SummaryIndex(nodes=[], storage_context=context)
    with pytest.raises(ValueError) as many:
        pannier.load_index_from_storage(context)
    assert str(many.value) == (
        "Expected to load a single index, but got 2 instead. Please specify index_id."
    )


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("module", LOADINGS)
def test_loaders_take_both_sides_contexts(tmp_path, module, ours):
    where = persisted(tmp_path, VectorStoreIndex)
    cls = pannier.StorageContext if ours else PeerContext
    index = module.load_index_from_storage(cls.from_defaults(persist_dir=where))
    found = index.as_retriever(similarity_top_k=2).retrieve("text")
    assert len(found) == 2 and {f.node.node_id for f in found} <= {"n0", "n1", "n2"}


def test_graph_loads_all_and_looks_its_root_up_lazily(tmp_path):
    where = persisted(tmp_path, VectorStoreIndex, SummaryIndex)
    context = pannier.StorageContext.from_defaults(persist_dir=where)
    graph = pannier.load_graph_from_storage(context, root_id="index-1")
    assert isinstance(graph, ComposableGraph)
    assert set(graph.all_indices) == {"index-0", "index-1"}
    assert isinstance(graph.root_index, SummaryIndex)
    lazy = pannier.load_graph_from_storage(context, root_id="nope")
    with pytest.raises(KeyError, match="nope"):
        lazy.root_index


class Recording(SummaryIndex):
    made: list = []

    def __init__(self, *args, **kwargs):
        Recording.made.append(kwargs.pop("extra", None))
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize("module", LOADINGS)
def test_all_are_built_before_they_are_counted_and_kwargs_reach_them(tmp_path, module, monkeypatch):
    where = persisted(tmp_path, SummaryIndex, SummaryIndex)
    monkeypatch.setitem(INDICES, IndexStructType.LIST, Recording)
    Recording.made = []
    context = pannier.StorageContext.from_defaults(persist_dir=where)
    with pytest.raises(ValueError, match="got 2 instead"):
        module.load_index_from_storage(context, extra="kw")
    assert Recording.made == ["kw", "kw"]


@pytest.mark.parametrize("module", LOADINGS)
def test_nothing_is_built_when_an_id_is_missing(tmp_path, module, monkeypatch):
    where = persisted(tmp_path, SummaryIndex)
    monkeypatch.setitem(INDICES, IndexStructType.LIST, Recording)
    Recording.made = []
    context = pannier.StorageContext.from_defaults(persist_dir=where)
    with pytest.raises(ValueError, match="ID nope"):
        module.load_indices_from_storage(context, index_ids=["index-0", "nope"])
    assert Recording.made == []


# ----- The registry -----


class Shelf(IndexList):
    @classmethod
    def get_type(cls):
        return "shelf"


class ShelfIndex(SummaryIndex):
    index_struct_cls = Shelf

    def _build_index_from_nodes(self, nodes, show_progress=False, **kwargs):
        return Shelf(nodes=[node.node_id for node in nodes])


class OtherShelfIndex(ShelfIndex):
    pass


def shelf_directory(tmp_path) -> str:
    context = PeerContext.from_defaults()
    ShelfIndex(nodes=nodes(), storage_context=context)
    context.persist(str(tmp_path))
    return str(tmp_path)


def test_starts_with_every_type_of_the_peer():
    for type_, cls in INDICES.items():
        assert registry.index_class(type_) is cls
        assert registry.index_class(str(type_.value)) is cls
        assert registry.struct_class(type_) is STRUCTS[type_]
    assert set(registry.index_types()) == {t.value for t in STRUCTS}


def test_unknown_type_is_a_key_error(tmp_path):
    where = shelf_directory(tmp_path)
    for cls, module in ((PeerContext, peer_loading), (pannier.StorageContext, our_loading)):
        with pytest.raises(KeyError) as e:
            module.load_index_from_storage(cls.from_defaults(persist_dir=where))
        assert e.value.args == ("shelf",)


def test_registered_type_loads_on_both_sides(tmp_path):
    where = shelf_directory(tmp_path)
    pannier.register_index_type("shelf", Shelf, ShelfIndex)
    assert STRUCTS["shelf"] is Shelf and INDICES["shelf"] is ShelfIndex
    assert "shelf" in registry.index_types()
    for cls, module in ((PeerContext, peer_loading), (pannier.StorageContext, our_loading)):
        index = module.load_index_from_storage(cls.from_defaults(persist_dir=where))
        assert type(index) is ShelfIndex and type(index.index_struct) is Shelf
        assert index.index_struct.nodes == ["n0", "n1", "n2"]


def test_follows_what_is_done_to_the_peers_dictionaries(tmp_path):
    where = shelf_directory(tmp_path)
    context = pannier.StorageContext.from_defaults(persist_dir=where)
    with pytest.raises(KeyError):
        pannier.load_index_from_storage(context)
    STRUCTS["shelf"], INDICES["shelf"] = Shelf, ShelfIndex
    assert type(pannier.load_index_from_storage(context)) is ShelfIndex
    INDICES["shelf"] = OtherShelfIndex
    assert type(pannier.load_index_from_storage(context)) is OtherShelfIndex
    del INDICES["shelf"]
    with pytest.raises(KeyError):
        pannier.load_index_from_storage(context)
    assert registry.struct_class("shelf") is Shelf
    del STRUCTS["shelf"]
    assert "shelf" not in registry.index_types()


def test_registering_again_replaces():
    pannier.register_index_type("shelf", Shelf, ShelfIndex)
    pannier.register_index_type("shelf", Shelf, OtherShelfIndex)
    assert registry.index_class("shelf") is OtherShelfIndex


@pytest.mark.parametrize(
    "args",
    [
        (None, Shelf, ShelfIndex),
        (b"shelf", Shelf, ShelfIndex),
        ("shelf", ShelfIndex, Shelf),
        ("shelf", Shelf(), ShelfIndex),
        ("shelf", Shelf, "ShelfIndex"),
        ("shelf", dict, ShelfIndex),
    ],
)
def test_registering_nonsense_changes_nothing(args):
    with pytest.raises(TypeError):
        pannier.register_index_type(*args)
    assert "shelf" not in INDICES and "shelf" not in STRUCTS


def test_core_registry_keeps_classes_alive_and_lets_go():
    class Struct: ...

    class Index: ...

    gone = weakref.ref(Struct), weakref.ref(Index)
    structs, indices = {"a": Struct}, {"a": Index}
    table = Registry(structs, indices)
    del Struct, Index
    structs.clear(), indices.clear()
    gc.collect()
    assert len(table) == 1 and gone[0]() is not None
    assert table.resolve("a") == (None, None)
    gc.collect()
    assert len(table) == 0 and gone[0]() is None and gone[1]() is None


def test_core_registry_odd_keys():
    class Mapping(dict):
        def __missing__(self, key):
            raise KeyError(key)

    table = Registry(Mapping({1: "one", "\ud800": "lone", "\0é": "s"}), {})
    assert table.resolve(1) == ("one", None)
    assert table.resolve("\ud800") == ("lone", None)
    assert table.resolve("\0é") == ("s", None)
    assert table.names() == ["\0é"]
    with pytest.raises(TypeError):
        table.resolve([])
    with pytest.raises(TypeError):
        table.register(1, None, None)


def test_core_registry_is_collected_in_a_cycle():
    class Index: ...

    Index.table = Registry({}, {"a": Index})
    gone = weakref.ref(Index)
    del Index
    gc.collect()
    assert gone() is None
