"""Everything a LlamaIndex directory may be: directories that real programs persisted,
older layouts, and LlamaIndex.TS's. What the peer loads, pannier loads with equal
contents; what it loads as empty, pannier reads or refuses, and never empties.

The real directories are conformance data that is not part of the project: the tests
that need them look in $PANNIER_DATA, else in ../shared/data beside the project's root,
and skip where it is not there.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from llama_index.core import MockEmbedding, Settings
from llama_index.core.graph_stores.simple import SimpleGraphStore as PeerGraph
from llama_index.core.indices.loading import load_indices_from_storage as peer_load_indices
from llama_index.core.llms.mock import MockLLM
from llama_index.core.schema import NodeRelationship
from llama_index.core.storage.docstore import SimpleDocumentStore as PeerDocstore
from llama_index.core.storage.index_store import SimpleIndexStore as PeerIndexStore
from llama_index.core.storage.storage_context import StorageContext as PeerContext
from llama_index.core.vector_stores.simple import SimpleVectorStore as PeerVectors
from llama_index.core.vector_stores.types import VectorStoreQuery

import pannier
from pannier import errors, typescript

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("PANNIER_DATA") or ROOT.parent / "shared" / "data") / "real"
OUTCOMES = json.loads((DATA / "OUTCOMES.json").read_text()) if (DATA / "OUTCOMES.json").exists() else {}
needs_data = pytest.mark.skipif(not OUTCOMES, reason=f"no conformance data in {DATA}; set PANNIER_DATA")
TYPESCRIPT = ["chat-llamaindex-ts-2023-us-law", "chat-llamaindex-ts-documents"]


def folders(wanted) -> list:
    """Names of the directories whose recorded outcomes satisfy `wanted`; one stand-in
    that is skipped when there is no data."""
    return [name for name, outcomes in OUTCOMES.items() if wanted(outcomes)] or ["no data"]


def loads(outcomes) -> bool:
    return outcomes["StorageContext.from_defaults"].startswith("ok")


def files(prefix: str) -> list:
    """(directory, file) of every file that the peer alone loads by its own class."""
    found = [
        (name, fname)
        for name, outcomes in OUTCOMES.items()
        for fname, outcome in outcomes.items()
        if isinstance(outcome, dict) and fname.endswith(prefix) and outcome["load"] == "ok" and name not in TYPESCRIPT
    ]
    return found or [("no data", prefix)]


@pytest.fixture(autouse=True)
def mock_models(monkeypatch):
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    monkeypatch.setattr(Settings, "_embed_model", MockEmbedding(embed_dim=4))


def outcome(call):
    try:
        return call()
    except Exception as e:
        return type(e), str(e)


def docs(store) -> dict:
    return {
        "docs": {k: (type(d), d.to_dict(), d.hash) for k, d in store.docs.items()},
        "order": list(store.docs),
        "hashes": store.get_all_document_hashes(),
        "sources": {k: i.to_dict() for k, i in store.get_all_ref_doc_info().items()},
    }


def vectors(store) -> dict:
    data = store.to_dict()
    return {
        "embeddings": {k: list(v) for k, v in data["embedding_dict"].items()},
        "sources": dict(data["text_id_to_ref_doc_id"]),
        "metadata": dict(data["metadata_dict"] or {}),
        "order": list(data["embedding_dict"]),
    }


def everything(context) -> dict:
    return {
        **docs(context.docstore),
        "structs": [s.to_dict() for s in context.index_store.index_structs()],
        "vectors": {name: vectors(store) for name, store in context.vector_stores.items()},
        "graph": context.graph_store.to_dict(),
        "property graph": context.property_graph_store is None,
    }


def tree(root) -> dict:
    return {p.name: p.read_bytes() for p in Path(root).iterdir() if p.is_file()}


# ----- directories of real programs -----


@needs_data
@pytest.mark.parametrize("name, fname", files("docstore.json"))
def test_real_docstores(name, fname):
    path = str(DATA / name / fname)
    assert docs(pannier.SimpleDocumentStore.from_persist_path(path)) == docs(PeerDocstore.from_persist_path(path))
    recorded = OUTCOMES[name][fname]
    found = pannier.SimpleDocumentStore.from_persist_path(path)
    assert recorded["docs"].startswith(f"ok {len(found.docs)} nodes")
    assert recorded["ref_doc_info"] == f"ok {len(found.get_all_ref_doc_info())}"


@needs_data
@pytest.mark.parametrize("name, fname", files("index_store.json"))
def test_real_index_stores(name, fname):
    path = str(DATA / name / fname)
    theirs, ours = (
        [(type(s), s.to_dict()) for s in cls.from_persist_path(path).index_structs()]
        for cls in (PeerIndexStore, pannier.SimpleIndexStore)
    )
    assert ours == theirs
    assert OUTCOMES[name][fname]["structs"] == f"ok {[cls.__name__ for cls, _ in ours]}"


@needs_data
@pytest.mark.parametrize("name, fname", files("vector_store.json"))
def test_real_vector_stores(name, fname):
    path = str(DATA / name / fname)
    theirs, ours = PeerVectors.from_persist_path(path), pannier.SimpleVectorStore.from_persist_path(path)
    assert vectors(ours) == vectors(theirs)
    recorded = OUTCOMES[name][fname]
    assert len(vectors(ours)["order"]) == recorded["vectors"]
    if recorded["vectors"]:
        query = VectorStoreQuery(query_embedding=theirs.get(vectors(theirs)["order"][0]), similarity_top_k=5)
        want, got = theirs.query(query), ours.query(query)
        assert (got.ids, got.similarities) == (want.ids, want.similarities)


@needs_data
@pytest.mark.parametrize("name, fname", files("graph_store.json"))
def test_real_graph_stores(name, fname):
    path = str(DATA / name / fname)
    theirs, ours = PeerGraph.from_persist_path(path), pannier.SimpleGraphStore.from_persist_path(path)
    assert ours.to_dict() == theirs.to_dict()
    assert ours.get_rel_map() == theirs.get_rel_map()
    assert len(ours._data.graph_dict) == OUTCOMES[name][fname]["subjects"]


@needs_data
@pytest.mark.parametrize("name", folders(loads))
def test_real_directories_load_as_with_the_peer(name):
    where = str(DATA / name)
    theirs, ours = (cls.from_defaults(persist_dir=where) for cls in (PeerContext, pannier.StorageContext))
    assert everything(ours) == everything(theirs)
    recorded = OUTCOMES[name]["StorageContext.from_defaults"]
    assert recorded == f"ok vector stores {sorted(ours.vector_stores)}"


@needs_data
@pytest.mark.parametrize("name", folders(loads))
def test_indices_of_real_directories(name):
    def load(context, load_indices):
        found = load_indices(context.from_defaults(persist_dir=str(DATA / name)))
        return [(type(i), i.index_id, i.index_struct.to_dict()) for i in found]

    ours = outcome(lambda: load(pannier.StorageContext, pannier.load_indices_from_storage))
    assert ours == outcome(lambda: load(PeerContext, peer_load_indices))


@needs_data
@pytest.mark.parametrize("name", folders(loads))
def test_real_directories_persist_as_with_the_peer(name, tmp_path):
    """The same bytes as when the peer loads and persists them; and again."""
    trees = []
    for cls in (PeerContext, pannier.StorageContext):
        out = tmp_path / cls.__module__
        cls.from_defaults(persist_dir=str(DATA / name)).persist(str(out))
        trees.append(tree(out))
    assert trees[0] == trees[1]
    pannier.StorageContext.from_defaults(persist_dir=str(out)).persist(str(out))
    assert tree(out) == trees[0]


@needs_data
@pytest.mark.parametrize("name", folders(loads))
def test_used_and_persisted_real_directories(name, tmp_path):
    """Reading everything first (which makes values live) changes no byte either."""
    trees = []
    for cls in (PeerContext, pannier.StorageContext):
        context = cls.from_defaults(persist_dir=str(DATA / name))
        everything(context)
        context.docstore._kvstore.get_all("docstore/data")
        context.persist(str(tmp_path / cls.__module__))
        trees.append(tree(tmp_path / cls.__module__))
    assert trees[0] == trees[1]


def bare(outcomes) -> bool:
    return "vector_store.json" in outcomes and "docstore.json" in outcomes


@needs_data
@pytest.mark.parametrize("name", folders(bare))
def test_real_directories_with_a_bare_vector_store(name):
    where = str(DATA / name)
    with pytest.raises(ValueError):
        PeerContext.from_defaults(persist_dir=where)
    context = pannier.StorageContext.from_defaults(persist_dir=where)
    assert list(context.vector_stores) == ["default"]
    assert vectors(context.vector_store) == vectors(PeerVectors.from_persist_path(f"{where}/vector_store.json"))
    assert docs(context.docstore) == docs(PeerDocstore.from_persist_path(f"{where}/docstore.json"))
    found = pannier.load_indices_from_storage(context)
    assert len(found) == len(PeerIndexStore.from_persist_path(f"{where}/index_store.json").index_structs())


@needs_data
def test_a_directory_with_a_graph_only():
    where = str(DATA / "llamaindex-kg-example")
    results = [
        outcome(lambda cls=cls: cls.from_defaults(persist_dir=where)) for cls in (PeerContext, pannier.StorageContext)
    ]
    assert results[0] == results[1] and results[1][0] is FileNotFoundError
    context = pannier.StorageContext.from_defaults(
        persist_dir=where, docstore=PeerDocstore(), index_store=PeerIndexStore(), vector_store=PeerVectors()
    )
    assert len(context.graph_store._data.graph_dict) == 46


@needs_data
@pytest.mark.parametrize("name", TYPESCRIPT)
def test_real_typescript_directories(name, tmp_path):
    where = DATA / name
    raw_docs = json.loads((where / "doc_store.json").read_text())
    raw_vectors = json.loads((where / "vector_store.json").read_text())
    raw_index = json.loads((where / "index_store.json").read_text())["docstore/data"]
    context = pannier.StorageContext.from_defaults(persist_dir=str(where))
    assert list(context.docstore.docs) == list(raw_docs["docstore/data"])
    for key, entry in raw_docs["docstore/data"].items():
        data, node = json.loads(entry["__data__"]), context.docstore.get_document(key)
        assert type(node) is typescript.NODE_TYPES[entry["__type__"]]
        assert (node.node_id, node.get_content(), node.metadata) == (data["id_"], data["text"], data["metadata"])
        assert {r.name for r in node.relationships} == set(data["relationships"])
        source = data["relationships"].get("SOURCE")
        assert node.ref_doc_id == (source and source["nodeId"])
    for key, info in raw_docs["docstore/ref_doc_info"].items():
        assert context.docstore.get_ref_doc_info(key).node_ids == info["nodeIds"]
    for key, meta in raw_docs["docstore/metadata"].items():
        assert context.docstore.get_document_hash(key) == meta["docHash"]
    assert vectors(context.vector_store)["embeddings"] == raw_vectors["embeddingDict"]
    assert vectors(context.vector_store)["sources"] == raw_vectors["textIdToRefDocId"]
    assert vectors(context.vector_store)["metadata"] == raw_vectors.get("metadataDict", {})
    (struct,) = context.index_store.index_structs()
    assert list(struct.nodes_dict) == list(raw_index[struct.index_id]["nodesDict"])

    index = pannier.load_index_from_storage(context)
    probe = raw_vectors["embeddingDict"][list(struct.nodes_dict)[-1]]
    query = VectorStoreQuery(query_embedding=probe, similarity_top_k=1)
    assert index.vector_store.query(query).ids == [list(struct.nodes_dict)[-1]]

    context.persist(str(tmp_path))
    for cls in (PeerContext, pannier.StorageContext):
        assert everything(cls.from_defaults(persist_dir=str(tmp_path))) == everything(context)


# ----- LlamaIndex.TS, case by case -----


def ts_node(id_="n", kind="TEXT", **more) -> dict:
    return {
        "id_": id_,
        "metadata": {"page": 1},
        "excludedEmbedMetadataKeys": ["page"],
        "excludedLlmMetadataKeys": [],
        "relationships": {"SOURCE": {"nodeId": "d", "metadata": {}, "hash": "h"}},
        "text": f"text of {id_}",
        "textTemplate": "",
        "metadataSeparator": "\n",
        "type": kind,
        "hash": "h",
        **more,
    }


def ts_directory(root, *, docstore="doc_store.json", nodes=None, index=None, store=None) -> str:
    nodes = [ts_node()] if nodes is None else nodes
    entries = {n["id_"]: {"__data__": n, "__type__": n["type"]} for n in nodes}
    index = {"indexId": "i", "nodesDict": {n["id_"]: n for n in nodes}, "type": "simple_dict"} if index is None else index
    store = {"embeddingDict": {n["id_"]: [0.5, 1] for n in nodes}, "textIdToRefDocId": {}} if store is None else store
    (root / docstore).write_text(json.dumps({"docstore/data": entries}))
    (root / "index_store.json").write_text(json.dumps({"docstore/data": {"i": index}}))
    (root / "vector_store.json").write_text(json.dumps(store))
    return str(root)


def load(where):
    return pannier.StorageContext.from_defaults(persist_dir=where)


@pytest.mark.parametrize("docstore", ["doc_store.json", "docstore.json"])
def test_typescript_under_both_names(tmp_path, docstore):
    context = load(ts_directory(tmp_path, docstore=docstore))
    node = context.docstore.get_document("n")
    assert (node.get_content(), node.metadata, node.excluded_embed_metadata_keys) == ("text of n", {"page": 1}, ["page"])
    assert node.relationships[NodeRelationship.SOURCE].node_id == "d"
    assert vectors(context.vector_store)["embeddings"] == {"n": [0.5, 1.0]}
    assert vectors(context.vector_store)["sources"] == {"n": "None"}


@pytest.mark.parametrize(
    "more, check",
    [
        ({"kind": "DOCUMENT"}, lambda n: type(n).__name__ == "Document"),
        ({"kind": "DOCUMENT", "endCharIdx": 4}, lambda n: type(n).__name__ == "Document"),
        ({"startCharIdx": 0, "endCharIdx": 9}, lambda n: (n.start_char_idx, n.end_char_idx) == (0, 9)),
        ({"embedding": [1.5, 2]}, lambda n: n.embedding == [1.5, 2.0]),
        (
            {"metadataSeparator": " | ", "metadata": {"a": 1, "b": 2}},
            lambda n: n.get_metadata_str() == "a: 1 | b: 2",
        ),
        ({"kind": "INDEX", "indexId": "other"}, lambda n: n.index_id == "other"),
        ({"kind": "IMAGE", "image": "https://x/y.png"}, lambda n: n.image_url == "https://x/y.png"),
        ({"kind": "IMAGE", "image": "file:///a.png"}, lambda n: n.image_path == "/a.png"),
        (
            {"relationships": {"CHILD": [{"nodeId": "a", "nodeType": "TEXT", "metadata": {}}, {"nodeId": "b"}]}},
            lambda n: [c.node_id for c in n.relationships[NodeRelationship.CHILD]] == ["a", "b"],
        ),
    ],
    ids=lambda value: "+".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_typescript_node_fields(tmp_path, more, check):
    kind = more.get("kind", "TEXT")
    fields = {k: v for k, v in more.items() if k != "kind"}
    context = load(ts_directory(tmp_path, nodes=[ts_node(kind=kind, **fields)]))
    node = context.docstore.get_document("n")
    assert check(node)
    context.persist(str(tmp_path / "out"))
    assert PeerContext.from_defaults(persist_dir=str(tmp_path / "out")).docstore.get_document("n") == node


@pytest.mark.parametrize(
    "index, check",
    [
        ({"indexId": "i", "nodes": ["n"], "type": "list", "summary": "s"}, lambda s: s.nodes == ["n"] and s.summary == "s"),
        ({"indexId": "i", "table": {"w": ["n"]}, "type": "keyword_table"}, lambda s: s.table == {"w": {"n"}}),
        ({"indexId": "i", "nodesDict": {"v": ts_node()}, "type": "simple_dict"}, lambda s: s.nodes_dict == {"v": "n"}),
    ],
    ids=["list", "keyword table", "vector id that is not the node's"],
)
def test_typescript_indices(tmp_path, index, check):
    (struct,) = load(ts_directory(tmp_path, index=index)).index_store.index_structs()
    assert struct.index_id == "i" and check(struct)


def test_typescript_nodes_that_only_the_index_holds(tmp_path):
    where = ts_directory(tmp_path, nodes=[ts_node("a"), ts_node("b")])
    (tmp_path / "doc_store.json").write_text(
        json.dumps({"docstore/data": {"a": {"__data__": json.dumps(ts_node("a")), "__type__": "TEXT"}}})
    )
    context = load(where)
    assert list(context.docstore.docs) == ["a", "b"]
    assert context.docstore.get_document("b").get_content() == "text of b"


def test_typescript_images(tmp_path):
    where = ts_directory(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "vector_store.json").write_text('{"embeddingDict":{"p":[1,2]},"textIdToRefDocId":{"p":"d"}}')
    context = load(where)
    assert set(context.vector_stores) == {"default", "image"}
    assert vectors(context.vector_stores["image"])["embeddings"] == {"p": [1.0, 2.0]}


@pytest.mark.parametrize(
    "broken",
    [
        {"nodes": [ts_node(somethingNew=1)]},
        {"nodes": [ts_node(kind="TEXT", relationships={"COUSIN": {"nodeId": "x"}})]},
        {"nodes": [ts_node(relationships={"SOURCE": {"nodeId": "x", "weight": 1}})]},
        {"nodes": [ts_node(kind="IMAGE", image={"blob": 1})]},
        {"index": {"indexId": "i", "type": "tree"}},
        {"index": {"indexId": "i", "type": "list", "nodes": [], "more": 1}},
        {"store": {"embeddingDict": {}, "textIdToRefDocId": {}, "sparse": {}}},
    ],
    ids=["field", "relationship", "relationship field", "image", "index type", "index field", "vectors"],
)
def test_typescript_that_python_has_no_place_for_is_refused(tmp_path, broken):
    where = ts_directory(tmp_path, **broken)
    before = tree(where)
    with pytest.raises(errors.UnsupportedLayoutError) as e:
        load(where)
    assert "LlamaIndex.TS" in str(e.value) and where in str(e.value)
    assert tree(where) == before


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "fresh"])
def test_persisting_over_a_typescript_directory_is_refused(tmp_path, loaded):
    where = ts_directory(tmp_path)
    before = tree(where)
    context = load(where) if loaded else pannier.StorageContext.from_defaults()
    with pytest.raises(errors.UnsupportedLayoutError, match="another directory"):
        context.persist(where)
    assert tree(where) == before


def test_a_python_directory_with_typescript_s_file_name(tmp_path):
    """Somebody chose the name doc_store.json: it is Python's layout all the same."""
    context = PeerContext.from_defaults()
    context.persist(str(tmp_path), docstore_fname="doc_store.json")
    with pytest.raises(FileNotFoundError, match="docstore.json"):
        load(str(tmp_path))
    pannier.StorageContext.from_defaults().persist(str(tmp_path), docstore_fname="doc_store.json")


@pytest.mark.parametrize("fname", ["doc_store.json", "vector_store.json"])
def test_a_damaged_typescript_file_is_named(tmp_path, fname):
    where = ts_directory(tmp_path)
    text = (tmp_path / fname).read_text()
    (tmp_path / fname).write_text(text[: len(text) // 2])
    with pytest.raises(errors.CorruptStoreError, match=fname):
        load(where)


def test_a_typescript_vector_file_is_never_loaded_as_empty(tmp_path):
    path = Path(ts_directory(tmp_path)) / "vector_store.json"
    try:
        store = pannier.SimpleVectorStore.from_persist_path(str(path))
    except errors.UnsupportedLayoutError:
        return
    assert vectors(store)["embeddings"] == {"n": [0.5, 1.0]}


def test_typescript_in_memory(tmp_path):
    from fsspec.implementations.memory import MemoryFileSystem

    fs = MemoryFileSystem()
    where = ts_directory(tmp_path)
    try:
        for name, data in tree(where).items():
            fs.pipe_file(f"/ts/{name}", data)
        context = pannier.StorageContext.from_defaults(persist_dir="/ts", fs=fs)
        assert list(context.docstore.docs) == ["n"]
        with pytest.raises(errors.UnsupportedLayoutError):
            context.persist("/ts", fs=fs)
        context.persist("/out", fs=fs)
        loaded = pannier.StorageContext.from_defaults(persist_dir="/out", fs=fs)
        assert everything(loaded) == everything(context)
    finally:
        fs.store.clear()
        fs.pseudo_dirs[:] = [""]


def test_typescript_directory_with_some_stores_given(tmp_path):
    where = ts_directory(tmp_path)
    own = pannier.SimpleDocumentStore()
    context = pannier.StorageContext.from_defaults(persist_dir=where, docstore=own)
    assert context.docstore is own and list(own.docs) == ["n"]
    shutil.rmtree(where)
    with pytest.raises(FileNotFoundError):
        load(where)
