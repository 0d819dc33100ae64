"""Every store once, briefly, against the peer: what each promises at first sight.

The stores have test files of their own; this one is the short way to notice that
something is off, and what the mutation check runs.
"""

from __future__ import annotations

import copy
import json

import pytest

from llama_index.core.graph_stores.types import EntityNode, Relation
from llama_index.core.ingestion import IngestionCache
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

import oracle
from oracle import IS_PEER, SIDES, Raised, assert_same, chunk, impl, outcome, peer, raw, same, same_bytes

fix = pytest.mark.fix


def vectors():
    """Nodes with ties, several sources, and metadata that not all of them have."""
    rows = []
    for i in range(12):
        node = chunk(f"n{i}", f"d{i % 3}" if i % 4 else None, f"text {i}", **({"k": i % 5, "tags": ["a", str(i)]} if i % 2 else {}))
        node.embedding = [1.0, float(i // 3), 0.1 * (i // 3)]
        rows.append(node)
    return rows


def vector_pair(nodes=None):
    pair = tuple(side.SimpleVectorStore() for side in SIDES)
    for store in pair:
        store.add(copy.deepcopy(vectors() if nodes is None else nodes))
    return pair


def asked(store, **kwargs):
    got = store.query(VectorStoreQuery(query_embedding=[0.5, 1.0, 0.25], **kwargs))
    return [(i, float(s)) for i, s in zip(got.ids, got.similarities)]


# -- vectors ------------------------------------------------------------------------------


def test_vector_store_names_itself():
    store = impl.SimpleVectorStore()
    assert store.class_name() == "SimpleVectorStore" == raw.SimpleVectorStore.class_name()
    assert store.to_dict() == raw.SimpleVectorStore().to_dict()
    assert store.stores_text is False and bool(store)


@pytest.mark.parametrize("k", [0, 1, 2, 3, 4, 5, 11, 12, 100])
def test_k_nearest_with_ties(k):
    same(lambda s: asked(s, similarity_top_k=k), *vector_pair())
    ties = [TextNode(id_=f"n{i}", text="t", embedding=[1.0, 0.0, 0.0]) for i in range(5)]
    same(lambda s: asked(s, similarity_top_k=k), *vector_pair(ties))


def test_ties_come_in_the_peers_order():
    ties = [TextNode(id_=f"n{i}", text="t", embedding=[1.0, 0.0, 0.0]) for i in range(5)]
    assert [i for i, _ in asked(vector_pair(ties)[1], similarity_top_k=3)] == ["n2", "n3", "n4"]


@pytest.mark.parametrize("operator", list(FilterOperator))
@pytest.mark.parametrize("value", [1, "1", [1, 2], None, "a"], ids=repr)
def test_filters(operator, value):
    filters = MetadataFilters(filters=[MetadataFilter(key="k", operator=operator, value=value)])
    same(lambda s: asked(s, similarity_top_k=20, filters=filters), *vector_pair())
    filters = MetadataFilters(
        filters=[MetadataFilter(key="tags", operator=operator, value=value), filters], condition=FilterCondition.OR
    )
    same(lambda s: asked(s, similarity_top_k=20, filters=filters), *vector_pair())


@pytest.mark.parametrize("mode", ["mmr", "text_search", "sparse", "hybrid"])
def test_other_query_modes(mode):
    same(lambda s: asked(s, similarity_top_k=4, mode=VectorStoreQueryMode(mode)), *vector_pair())


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.delete("d1"),
        lambda s: s.delete("None"),
        lambda s: s.delete(None),
        lambda s: s.delete("missing"),
        lambda s: s.delete_nodes(),
        lambda s: s.delete_nodes([]),
        lambda s: s.delete_nodes(["n1", "n2", "missing"]),
        lambda s: s.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="k", value=1)])),
        lambda s: s.clear(),
        lambda s: s.add([]),
        lambda s: s.add(vectors()[3:5]),
        lambda s: s.get("n1"),
        lambda s: s.get("missing"),
        lambda s: s.get_nodes(["n1"]),
        lambda s: s.add([TextNode(text="no embedding")]),
    ],
)
def test_vector_calls(call):
    a, b = vector_pair()
    same(call, a, b)
    same(lambda s: s.to_dict(), a, b)
    same_bytes(a, b)
    same(lambda s: asked(s, similarity_top_k=3), a, b)


def test_vector_dictionaries():
    a, b = vector_pair()
    for name in ("embedding_dict", "text_id_to_ref_doc_id", "metadata_dict"):
        assert_same(dict(getattr(a.data, name)), {k: getattr(b.data, name)[k] for k in getattr(b.data, name)})
    assert b.data.text_id_to_ref_doc_id["n0"] == "None"


# -- graphs -------------------------------------------------------------------------------


def graph_pair():
    pair = tuple(side.SimpleGraphStore() for side in SIDES)
    for store in pair:
        for s, r, o in [("b", "r", "z"), ("b", "r", "a"), ("a", "q", "b"), ("b", "r", "z"), ("b", "p", "z"), ("z", "r", "c")]:
            store.upsert_triplet(s, r, o)
    return pair


def test_graph_calls():
    a, b = graph_pair()
    for call in (
        lambda s: s.get("b"),
        lambda s: s.get("missing"),
        lambda s: s.get_rel_map(["a", "b", "missing"], depth=2),
        lambda s: s.get_rel_map(["a"], depth=3, limit=2),
        lambda s: s.get_rel_map(),
        lambda s: s.get_schema(),
        lambda s: s.query("x"),
        lambda s: s.upsert_triplet("b", "r", "a"),
        lambda s: s.get("b"),
        lambda s: s.to_dict(),
        lambda s: s.client,
    ):
        same(call, a, b)
        same_bytes(a, b)
    assert b.get("missing") == []
    assert b.get("b") == [["r", "z"], ["r", "a"], ["p", "z"]]
    b.get("b").append(["live", "x"])
    a.get("b").append(["live", "x"])
    same(lambda s: s.get("b"), a, b)
    same_bytes(a, b)


@fix
def test_graph_delete_deletes():
    b = graph_pair()[1]
    b.delete("b", "r", "a")
    assert b.get("b") == [["r", "z"], ["p", "z"]]
    b.delete("b", "r", "nothing")
    b.delete("nobody", "r", "a")
    assert b.get("b") == [["r", "z"], ["p", "z"]]


def test_graph_file(tmp_path):
    a, b = graph_pair()
    for s, name in ((a, "a"), (b, "b")):
        s.persist(str(tmp_path / name / "graph_store.json"))
    files = oracle.tree(tmp_path)
    assert files["a/graph_store.json"] == files["b/graph_store.json"]
    same(
        lambda s: s.to_dict(),
        peer.SimpleGraphStore.from_persist_dir(str(tmp_path / "b")),
        impl.SimpleGraphStore.from_persist_dir(str(tmp_path / "a")),
    )
    assert impl.SimpleGraphStore.from_persist_dir(str(tmp_path / "nowhere")).get("x") == []


def property_pair():
    pair = tuple(side.SimplePropertyGraphStore() for side in SIDES)
    for store in pair:
        store.upsert_nodes([EntityNode(name=n, label="person", properties={"age": i}) for i, n in enumerate("abcd")])
        store.upsert_relations([Relation(label="knows", source_id=s, target_id=o) for s, o in ("ab", "bc", "ab", "ca")])
    return pair


def test_property_graph_calls():
    a, b = property_pair()
    for call in (
        lambda s: s.get(),
        lambda s: s.get(ids=["b", "missing"]),
        lambda s: s.get(properties={"age": 2}),
        lambda s: sorted((x.id, r.label, y.id) for x, r, y in s.get_triplets()),
        lambda s: sorted((x.id, r.label, y.id) for x, r, y in s.get_triplets(entity_names=["a"])),
        lambda s: {(x.id, r.label, y.id) for x, r, y in s.get_rel_map(s.get(ids=["a"]), depth=2)},
        lambda s: s.get_schema(),
    ):
        same(call, a, b)


def test_property_graph_file(tmp_path):
    a, b = property_pair()
    for s, name in ((a, "a"), (b, "b")):
        (tmp_path / name).mkdir()
        s.persist(str(tmp_path / name / "property_graph_store.json"))
    files = oracle.tree(tmp_path)
    one, two = (json.loads(files[f"{name}/property_graph_store.json"]) for name in "ab")
    for data in (one, two):
        data["triplets"] = sorted(data["triplets"])
    assert_same(one, two)
    a = peer.SimplePropertyGraphStore.from_persist_dir(str(tmp_path / "b"))
    b = impl.SimplePropertyGraphStore.from_persist_dir(str(tmp_path / "a"))
    same(lambda s: s.get(), a, b)
    same(lambda s: sorted((x.id, r.label, y.id) for x, r, y in s.get_triplets()), a, b)


# -- the context ----------------------------------------------------------------------------


def test_context_of_nothing():
    a, b = (side.StorageContext.from_defaults() for side in SIDES)
    same(lambda s: list(s.vector_stores), a, b)
    assert list(b.vector_stores) == ["default", "image"]
    assert b.vector_store is b.vector_stores["default"]
    assert b.property_graph_store is None
    same(lambda s: s.to_dict(), a, b)


def test_context_with_an_image_store(tmp_path):
    for side in SIDES:
        image = side.SimpleVectorStore()
        mine = {"default": side.SimpleVectorStore()}
        ctx = side.StorageContext.from_defaults(image_store=image, vector_stores=mine)
        assert ctx.vector_stores["image"] is image and ctx.vector_stores is mine
        image.add([TextNode(id_="picture", text="", embedding=[0.5])])
        ctx.persist(str(tmp_path / side.name))
        again = side.StorageContext.from_defaults(persist_dir=str(tmp_path / side.name))
        assert again.vector_stores["image"].get("picture") == [0.5]


@fix
def test_a_namespace_may_hold_a_separator(tmp_path):
    ctx = impl.StorageContext.from_defaults()
    ctx.add_vector_store(impl.SimpleVectorStore(), "my__own")
    ctx.vector_stores["my__own"].add([TextNode(id_="n", text="", embedding=[0.5])])
    ctx.persist(str(tmp_path))
    again = impl.StorageContext.from_defaults(persist_dir=str(tmp_path))
    assert sorted(again.vector_stores) == ["default", "image", "my__own"]
    assert again.vector_stores["my__own"].get("n") == [0.5]


# -- install --------------------------------------------------------------------------------


@fix
def test_install_reaches_aliases_and_uninstall_restores():
    import pannier
    from llama_index.core import StorageContext
    from llama_index.core.storage.docstore import DocumentStore
    from llama_index.core.storage.kvstore import SimpleKVStore

    pannier.install()
    try:
        assert type(IngestionCache().cache) is pannier.SimpleKVStore
        assert type(SimpleKVStore()) is pannier.SimpleKVStore
        assert type(DocumentStore()) is pannier.SimpleDocumentStore
        assert type(StorageContext.from_defaults()) is pannier.StorageContext
    finally:
        pannier.uninstall()
    assert type(IngestionCache().cache) is SimpleKVStore
    assert type(DocumentStore()) is DocumentStore
    assert type(StorageContext.from_defaults()) is StorageContext
    assert type(DocumentStore.from_dict({})) is DocumentStore


def test_each_store_refuses_what_the_peer_refuses():
    for name in ("SimpleKVStore", "SimpleDocumentStore", "SimpleIndexStore", "SimpleVectorStore", "SimplePropertyGraphStore"):
        a, b = (outcome(getattr(side, name).from_persist_path, "/nowhere/at/all.json") for side in SIDES)
        assert isinstance(a, Raised) and isinstance(b, Raised)
        assert isinstance(b.exc, type(a.exc)), name
        if not IS_PEER and name == "SimpleVectorStore":
            assert str(a.exc) == str(b.exc)
