"""LlamaIndex's own indices, pipelines and retrievers on pannier's stores.

Each scenario is run three ways: on the peer's stores, on pannier's by direct import, and
as unchanged LlamaIndex code after ``pannier.install()``. What it answers, the files that
it persists, and what it answers after loading those must be the same. Models are tiny and
deterministic; ids come from a seeded generator.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any, List
from unittest.mock import patch

import pytest

import llama_index.core as core
from llama_index.core import (
    ComposableGraph,
    DocumentSummaryIndex,
    KeywordTableIndex,
    KnowledgeGraphIndex,
    PropertyGraphIndex,
    Settings,
    SimpleKeywordTableIndex,
    SummaryIndex,
    TreeIndex,
    VectorStoreIndex,
)
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.embeddings.mock_embed_model import MockEmbedding
from llama_index.core.graph_stores.types import KG_NODES_KEY, KG_RELATIONS_KEY, EntityNode, Relation
from llama_index.core.indices.property_graph import ImplicitPathExtractor
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.llms.mock import MockLLM
from llama_index.core.memory import VectorMemory
from llama_index.core.memory.memory_blocks.vector import VectorMemoryBlock
from llama_index.core.node_parser import HierarchicalNodeParser, SentenceSplitter, get_leaf_nodes
from llama_index.core.retrievers import AutoMergingRetriever, RecursiveRetriever
from llama_index.core.schema import Document, IndexNode, NodeWithScore, TextNode, TransformComponent
from llama_index.core.vector_stores.types import (
    ExactMatchFilter,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

import oracle
from oracle import IS_PEER, difference

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:docstore_strategy='upserts' requires"),
]

TEXTS = [
    "Apples are red. Apples grow on trees. A tree needs water and light.",
    "Bananas are yellow. Bananas grow in bunches. Caf\u00e9s sell banana bread \U0001f34c.",
    "Cherries are red. Cherries are small. Birds like cherries; so do children.",
    "Dates are sweet. Dates grow on palms. Palms like the desert sun.",
]


def documents() -> List[Document]:
    return [
        Document(id_=f"doc{i}", text=text, metadata={"n": i, "kind": "red" if "red" in text else "other", "tags": [str(i)]})
        for i, text in enumerate(TEXTS)
    ]


class WordEmbedding(BaseEmbedding):
    """A bag of hashed words: equal texts are near, and no two runs differ."""

    def _vector(self, text: str) -> List[float]:
        vector = [0.01] * 16
        for word in re.findall(r"\w+", text.lower()):
            digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
            vector[digest[0] % 16] += 1.0 + digest[1] / 512
        return vector

    def _get_query_embedding(self, query: str) -> List[float]:
        return self._vector(query)

    async def _aget_query_embedding(self, query: str) -> List[float]:
        return self._vector(query)

    def _get_text_embedding(self, text: str) -> List[float]:
        return self._vector(text)


class Triplets(TransformComponent):
    """An extractor for the property graph: "X are Y" says (X, are, Y)."""

    def __call__(self, nodes: Any, **kwargs: Any) -> Any:
        for node in nodes:
            entities, relations = node.metadata.pop(KG_NODES_KEY, []), node.metadata.pop(KG_RELATIONS_KEY, [])
            for s, r, o in triplets_of(node.get_content()):
                entities += [EntityNode(name=s, label="fruit", properties={"p": 1}), EntityNode(name=o, label="what")]
                relations.append(Relation(label=r, source_id=s, target_id=o, properties={"q": [1]}))
            node.metadata[KG_NODES_KEY], node.metadata[KG_RELATIONS_KEY] = entities, relations
        return nodes


def triplets_of(text: str) -> list:
    return [tuple(m.groups()) for m in re.finditer(r"(\w+) (are|grow|like) (?:on |in )?(\w+)", text)]


class Way:
    """How the stores are come by."""

    def __init__(self, name: str, stores: Any) -> None:
        self.name = name
        self.stores = stores

    def context(self, **kwargs: Any) -> Any:
        return self.stores.StorageContext.from_defaults(**kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stores, name)


@contextlib.contextmanager
def way(name: str):
    if name == "install" and not IS_PEER:
        import pannier

        pannier.install()
        try:
            yield Way(name, oracle.raw)  # LlamaIndex's names, as a program has them
        finally:
            pannier.uninstall()
    elif name == "import" and not IS_PEER:
        yield Way(name, oracle.impl)
    else:
        # The peer as it is, but for the one documented fix that an index can meet:
        # the keyword table deletes nodes while looping over the stored list of them.
        stored = oracle.raw.KVDocumentStore._remove_legacy_info

        def copied(self: Any, info: dict) -> Any:
            got = stored(self, info)
            got.node_ids = list(got.node_ids)
            return got

        with patch.object(oracle.raw.KVDocumentStore, "_remove_legacy_info", copied):
            yield Way(name, oracle.raw)


@pytest.fixture(autouse=True)
def models():
    saved = Settings._llm, Settings._embed_model, Settings._transformations
    Settings.llm = MockLLM(max_tokens=12)
    Settings.embed_model = WordEmbedding()
    Settings.transformations = [SentenceSplitter(chunk_size=20, chunk_overlap=2)]
    yield
    Settings._llm, Settings._embed_model, Settings._transformations = saved


def plain(value: Any) -> Any:
    """Answers in a form that compares: node ids, texts, scores, metadata."""
    if isinstance(value, NodeWithScore):
        return (value.node.node_id, value.node.get_content(), value.score, dict(value.node.metadata))
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, oracle.Raised):
        return repr(value)
    if hasattr(value, "source_nodes"):
        return (str(value), plain(value.source_nodes))
    return value


def files(base: Path) -> dict:
    """Persisted files. The peer's property graph writes its triplets in set order."""
    found = oracle.tree(base)
    for name, data in found.items():
        if name.endswith("property_graph_store.json"):
            graph = json.loads(data)
            graph["triplets"] = sorted(graph["triplets"])
            found[name] = json.dumps(graph).encode()
    return found


# -- the scenarios: (way, directory) -> answers -------------------------------------------------


def vector_index(w: Way, base: Path) -> list:
    def ask(index: Any) -> list:
        filters = MetadataFilters(filters=[ExactMatchFilter(key="kind", value="red")])
        either = MetadataFilters(
            filters=[
                MetadataFilter(key="n", operator=FilterOperator.GTE, value=3),
                MetadataFilter(key="tags", operator=FilterOperator.CONTAINS, value="1"),
            ],
            condition=FilterCondition.OR,
        )
        return [
            index.as_retriever(similarity_top_k=3).retrieve("red apples"),
            # LlamaIndex before 0.13 raises for a node without the key, and when nothing passes.
            oracle.outcome(index.as_retriever(similarity_top_k=4, filters=filters).retrieve, "bananas grow"),
            oracle.outcome(index.as_retriever(similarity_top_k=4, filters=either).retrieve, "bananas grow"),
            index.as_retriever(vector_store_query_mode="mmr", similarity_top_k=3).retrieve("red"),
            asyncio.run(index.as_retriever(similarity_top_k=2).aretrieve("palms")),
            index.as_query_engine(similarity_top_k=2).query("red apples"),
        ]

    index = VectorStoreIndex.from_documents(documents(), storage_context=w.context())
    out = ask(index)
    index.insert(Document(id_="new", text="Elderberries are dark. Elderberries are small.", metadata={"n": 9}))
    out.append(index.refresh_ref_docs([*documents()[:2], Document(id_="doc2", text="Cherries are gone.")]))
    out.append({k: vars(v) for k, v in index.ref_doc_info.items()})
    index.delete_ref_doc("doc3", delete_from_docstore=True)
    index.delete_nodes([next(iter(index.docstore.docs))], delete_from_docstore=True)
    index.update_ref_doc(Document(id_="doc1", text="Bananas are brown now."))
    index.insert_nodes([TextNode(id_="lone", text="a lone node about palms")])
    out += ask(index)
    index.storage_context.persist(str(base / "one"))
    loaded = w.load_index_from_storage(w.context(persist_dir=str(base / "one")))
    out += [type(loaded).__name__, loaded.index_id, *ask(loaded)]
    loaded.insert(Document(id_="later", text="Figs are soft."))
    loaded.delete_ref_doc("doc0", delete_from_docstore=True)
    out += ask(loaded)
    loaded.storage_context.persist(persist_dir=str(base / "one"))
    loaded.storage_context.persist(persist_dir=base / "two")
    return out


def summary_index(w: Way, base: Path) -> list:
    index = SummaryIndex.from_documents(documents(), storage_context=w.context())
    index.set_index_id("summary")
    out = [
        index.as_retriever().retrieve("x"),
        index.as_retriever(retriever_mode="embedding", similarity_top_k=2).retrieve("red"),
        index.as_query_engine().query("what"),
    ]
    index.insert(Document(id_="new", text="Figs are soft."))
    index.delete_ref_doc("doc1")
    index.storage_context.persist(str(base / "s"))
    loaded = w.load_index_from_storage(w.context(persist_dir=str(base / "s")), index_id="summary")
    out += [loaded.as_retriever().retrieve("x"), {k: vars(v) for k, v in loaded.ref_doc_info.items()}]
    loaded.delete_nodes([next(iter(loaded.docstore.docs))])
    loaded.storage_context.persist(str(base / "s2"))
    return out


def keyword_index(w: Way, base: Path) -> list:
    out = []
    for cls in (SimpleKeywordTableIndex, KeywordTableIndex):
        index = cls.from_documents(documents(), storage_context=w.context())
        out.append(index.as_retriever(retriever_mode="simple").retrieve("red apples and banana bread"))
        index.insert(Document(id_="new", text="Figs are soft and red."))
        # The peer forgets the keywords' links to the nodes that it deletes here.
        index.delete_ref_doc("doc0", delete_from_docstore=True)
        target = str(base / cls.__name__)
        index.storage_context.persist(target)
        loaded = w.load_index_from_storage(w.context(persist_dir=target))
        out += [
            type(loaded).__name__,
            sorted(loaded.index_struct.table),
            oracle.outcome(lambda: loaded.as_retriever(retriever_mode="simple").retrieve("red figs")),
            loaded.as_retriever(retriever_mode="simple").retrieve("soft bananas"),
        ]
        loaded.insert(Document(id_="newer", text="Grapes are green."))
        loaded.storage_context.persist(target + "2")
    return out


def tree_index(w: Way, base: Path) -> list:
    index = TreeIndex.from_documents(documents(), num_children=2, storage_context=w.context())
    out = [
        index.as_retriever(retriever_mode="root").retrieve("x"),
        index.as_retriever(retriever_mode="all_leaf").retrieve("x"),
        index.as_retriever(retriever_mode="select_leaf_embedding").retrieve("red"),
    ]
    index.insert(Document(id_="new", text="Figs are soft."))
    index.storage_context.persist(str(base / "t"))
    loaded = w.load_index_from_storage(w.context(persist_dir=str(base / "t")))
    out += [loaded.index_struct.all_nodes, loaded.as_retriever(retriever_mode="all_leaf").retrieve("x")]
    loaded.insert(Document(id_="newer", text="Grapes are green."))
    loaded.storage_context.persist(str(base / "t2"))
    return out


def knowledge_graph(w: Way, base: Path) -> list:
    def ask(index: Any) -> list:
        return [
            index.as_retriever(include_text=True, retriever_mode="keyword").retrieve("Apples are"),
            index.as_retriever(include_text=False, retriever_mode="embedding", similarity_top_k=2).retrieve("Dates sweet"),
            index.graph_store.get("Apples"),
            index.graph_store.get_rel_map(["Apples", "Dates"], depth=2),
            index.get_networkx_graph().number_of_edges(),
        ]

    index = KnowledgeGraphIndex.from_documents(
        documents(), kg_triplet_extract_fn=triplets_of, include_embeddings=True, storage_context=w.context()
    )
    out = ask(index)
    index.upsert_triplet(("Apples", "fall", "down"), include_embeddings=True)
    index.upsert_triplet_and_node(("Figs", "are", "soft"), TextNode(id_="fig", text="Figs are soft"), include_embeddings=True)
    index.storage_context.persist(str(base / "kg"))
    loaded = w.load_index_from_storage(
        w.context(persist_dir=str(base / "kg")), kg_triplet_extract_fn=triplets_of, include_embeddings=True
    )
    out += ask(loaded)
    loaded.insert(Document(id_="new", text="Grapes are green."))
    loaded.graph_store.upsert_triplet("Grapes", "are", "green")
    out += ask(loaded)
    loaded.storage_context.persist(str(base / "kg2"))
    # The index keeps its triplets in the dict that it assigns.
    struct = loaded.index_struct
    out.append(struct.rel_map)
    return out


def property_graph(w: Way, base: Path) -> list:
    def ask(index: Any) -> list:
        store = index.property_graph_store
        return [
            sorted((t[0].id, t[1].label, t[2].id) for t in store.get_triplets(entity_names=["Apples", "Dates"])),
            sorted(n.id for n in store.get(properties={"p": 1})),
            sorted({(t[0].id, t[1].label, t[2].id) for t in store.get_rel_map(store.get(ids=["Apples"]), depth=2)}),
            sorted(n.node.node_id for n in index.as_retriever(include_text=True).retrieve("red apples")),
            len(store.graph.nodes),
        ]

    index = PropertyGraphIndex.from_documents(
        documents(),
        kg_extractors=[Triplets(), ImplicitPathExtractor()],
        storage_context=w.context(),
        use_async=False,
    )
    out = ask(index)
    index.insert(Document(id_="new", text="Figs are soft. Figs like water."))
    index.storage_context.persist(str(base / "pg"))
    context = w.context(persist_dir=str(base / "pg"))
    loaded = w.load_index_from_storage(context, kg_extractors=[Triplets()], use_async=False)
    out += ask(loaded)
    loaded.insert(Document(id_="newer", text="Grapes are green."))
    out += ask(loaded)
    loaded.storage_context.persist(str(base / "pg2"))
    return out


def document_summary(w: Way, base: Path) -> list:
    def ask(index: Any) -> list:
        return [
            index.as_retriever(retriever_mode="embedding", similarity_top_k=2).retrieve("red apples"),
            [index.get_document_summary(f"doc{i}") for i in (0, 2)],
        ]

    index = DocumentSummaryIndex.from_documents(documents(), storage_context=w.context())
    out = ask(index)
    index.delete_ref_doc("doc1", delete_from_docstore=True)
    index.insert(Document(id_="new", text="Figs are soft."))
    index.storage_context.persist(str(base / "ds"))
    loaded = w.load_index_from_storage(w.context(persist_dir=str(base / "ds")))
    out += ask(loaded)
    loaded.delete_nodes([next(iter(loaded.index_struct.node_id_to_summary_id))])
    loaded.storage_context.persist(str(base / "ds2"))
    return out


def composable_graph(w: Way, base: Path) -> list:
    context = w.context()
    docs = documents()
    children = [
        VectorStoreIndex.from_documents(docs[:2], storage_context=context),
        SummaryIndex.from_documents(docs[2:], storage_context=context),
    ]
    graph = ComposableGraph.from_indices(
        SummaryIndex, children, index_summaries=["apples and bananas", "cherries and dates"], storage_context=context
    )
    graph.root_index.set_index_id("root")
    out = [graph.as_query_engine().query("what"), [s.index_id for s in context.index_store.index_structs()]]
    context.persist(str(base / "g"))
    loaded = w.load_graph_from_storage(w.context(persist_dir=str(base / "g")), root_id="root")
    out += [loaded.as_query_engine().query("what"), sorted(loaded.all_indices)]
    missing = w.load_graph_from_storage(w.context(persist_dir=str(base / "g")), root_id="nowhere")
    out.append(oracle.outcome(lambda: missing.root_index))
    out.append(oracle.outcome(lambda: w.load_index_from_storage(w.context(persist_dir=str(base / "g")))))
    out.append(oracle.outcome(lambda: w.load_index_from_storage(w.context())))
    out.append(oracle.outcome(lambda: w.load_index_from_storage(w.context(), index_id="X")))
    out.append([type(i).__name__ for i in w.load_indices_from_storage(w.context(persist_dir=str(base / "g")))])
    return out


def ingestion(w: Way, base: Path) -> list:
    def pipeline(**kwargs: Any) -> IngestionPipeline:
        return IngestionPipeline(
            transformations=[SentenceSplitter(chunk_size=20, chunk_overlap=2), WordEmbedding()], disable_cache=False, **kwargs
        )

    def show(nodes: Any) -> list:
        return [(n.node_id, n.get_content(), n.metadata, n.embedding) for n in nodes]

    out = []
    vectors = w.SimpleVectorStore()
    p = pipeline(docstore=w.SimpleDocumentStore(), cache=IngestionCache(cache=w.SimpleKVStore()))
    out.append(show(p.run(documents=documents())))
    out.append(show(p.run(documents=documents())))  # nothing is new
    out.append(show(p.run(documents=[*documents()[:1], Document(id_="doc1", text="Bananas are brown.")])))
    p.persist(str(base / "p"))
    again = pipeline()
    again.load(str(base / "p"))
    out.append(show(again.run(documents=documents())))
    out.append(show(again.run(documents=documents())))
    again.persist(str(base / "p2"))
    for strategy in DocstoreStrategy:
        q = pipeline(docstore=w.SimpleDocumentStore(), vector_store=vectors, docstore_strategy=strategy)
        for docs in (documents(), documents()[1:], [Document(id_="doc2", text="Cherries are gone.")]):
            out.append(show(q.run(documents=docs)))
            out.append(sorted(q.docstore.get_all_document_hashes().items()))
            out.append(list(q.vector_store.data.embedding_dict))
        q.persist(str(base / f"q-{strategy.value}"))
    cache = IngestionCache()
    cache.put("key", [TextNode(id_="n", text="cached")])
    cache.persist(str(base / "cache.json"))
    out.append([n.node_id for n in IngestionCache.from_persist_path(str(base / "cache.json")).get("key")])
    cache.clear()
    cache.persist(str(base / "cleared.json"))
    asyncio.run(async_ingestion(pipeline(docstore=w.SimpleDocumentStore()), out, show))
    return out


async def async_ingestion(p: IngestionPipeline, out: list, show: Any) -> None:
    out.append(show(await p.arun(documents=documents()[:2])))
    out.append(show(await p.arun(documents=documents()[:2])))


def auto_merging(w: Way, base: Path) -> list:
    parser = HierarchicalNodeParser.from_defaults(chunk_sizes=[80, 30, 14], chunk_overlap=0)
    all_nodes = parser.get_nodes_from_documents([Document(id_="long", text=" ".join(TEXTS))])
    context = w.context()
    context.docstore.add_documents(all_nodes)
    index = VectorStoreIndex(get_leaf_nodes(all_nodes), storage_context=context)

    def ask(index: Any, context: Any) -> list:
        retriever = AutoMergingRetriever(index.as_retriever(similarity_top_k=8), context, simple_ratio_thresh=0.3)
        return [retriever.retrieve(q) for q in ("red apples", "palms and sun", "bananas")]

    out = ask(index, context)
    context.persist(str(base / "am"))
    context = w.context(persist_dir=str(base / "am"))
    return out + ask(w.load_index_from_storage(context), context)


def recursive(w: Way, base: Path) -> list:
    context = w.context()
    docs = documents()
    small = VectorStoreIndex.from_documents(docs[:2], storage_context=context)
    tops = [
        IndexNode(id_="i0", text="apples and bananas", index_id="small"),
        IndexNode(id_="i1", text="cherries", index_id="n1", obj=TextNode(id_="n1", text="all about cherries")),
        TextNode(id_="plain", text="dates"),
    ]
    top_context = w.context(vector_store=w.SimpleVectorStore())
    top = VectorStoreIndex(tops, storage_context=top_context)

    def ask(top: Any) -> list:
        retriever = RecursiveRetriever(
            "root",
            retriever_dict={"root": top.as_retriever(similarity_top_k=2), "small": small.as_retriever(similarity_top_k=1)},
            node_dict={"n1": TextNode(id_="n1", text="all about cherries")},
        )
        return [retriever.retrieve(q) for q in ("apples", "cherries", "dates")]

    out = ask(top)
    top_context.persist(str(base / "r"))
    loaded = w.load_index_from_storage(w.context(persist_dir=str(base / "r")))
    return out + ask(loaded) + [[type(n).__name__ for n in loaded.docstore.docs.values()]]


def several_indices(w: Way, base: Path) -> list:
    context = w.context()
    docs = documents()
    nodes = SentenceSplitter(chunk_size=20, chunk_overlap=2).get_nodes_from_documents(docs)
    context.docstore.add_documents(nodes)
    for i, cls in enumerate((VectorStoreIndex, SummaryIndex, SimpleKeywordTableIndex)):
        cls(nodes, storage_context=context).set_index_id(f"index{i}")
    context.add_vector_store(w.SimpleVectorStore(), namespace="extra")
    context.vector_stores["extra"].add([TextNode(id_="e", text="x", embedding=[1.0, 0.5])])
    context.persist(str(base / "many"))
    loaded = w.context(persist_dir=str(base / "many"))
    out = [sorted(loaded.vector_stores), [s.index_id for s in loaded.index_store.index_structs()]]
    for index in w.load_indices_from_storage(loaded, ["index2", "index0"]):
        out += [type(index).__name__, index.as_retriever().retrieve("red apples")]
    loaded.persist(str(base / "many2"))
    as_dict = loaded.to_dict()
    back = w.StorageContext.from_dict(json.loads(json.dumps(as_dict)))
    back.persist(str(base / "many3"))
    return out + [sorted(as_dict)]


def memory(w: Way, base: Path) -> list:
    store = w.SimpleVectorStore()
    out = [plain(oracle.outcome(lambda: VectorMemoryBlock(vector_store=store)))[:100]]
    mem = VectorMemory.from_defaults(
        vector_store=None, embed_model=WordEmbedding(), retriever_kwargs={"similarity_top_k": 1}
    )
    for text in ("I like red apples", "The desert has palms", "Banana bread is good"):
        mem.put(ChatMessage(role="user", content=text))
    out.append([m.content for m in mem.get("apples")])
    out.append([m.content for m in mem.get("palms")])
    mem.reset()
    # LlamaIndex before 0.13 raises for an empty store.
    out.append(oracle.outcome(lambda: [m.content for m in mem.get("palms")]))
    return out


def without_a_context(w: Way, base: Path) -> list:
    """No context given: what ``install()`` alone decides."""
    index = VectorStoreIndex.from_documents(documents(), embed_model=MockEmbedding(embed_dim=4))
    out = [index.as_retriever(similarity_top_k=3).retrieve("ties only")]
    index.storage_context.persist(str(base / "d"))
    loaded = core.load_index_from_storage(
        core.StorageContext.from_defaults(persist_dir=str(base / "d")), embed_model=MockEmbedding(embed_dim=4)
    )
    out.append(loaded.as_retriever(similarity_top_k=3).retrieve("ties only"))
    module = type(loaded.docstore).__module__.split(".")[0]
    assert module == ("pannier" if w.name == "install" and not IS_PEER else "llama_index")
    return out


SCENARIOS = [
    vector_index,
    summary_index,
    keyword_index,
    tree_index,
    knowledge_graph,
    property_graph,
    document_summary,
    composable_graph,
    ingestion,
    auto_merging,
    recursive,
    several_indices,
    memory,
    without_a_context,
]


def play(scenario: Any, name: str, base: Path) -> tuple:
    base.mkdir()
    with way(name) as w, oracle.seeded_uuids():
        answers = plain(scenario(w, base))
    return answers, files(base)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_same_answers_and_files(scenario, tmp_path):
    expected, expected_files = play(scenario, "peer", tmp_path / "peer")
    for name in ("import", "install"):
        answers, written = play(scenario, name, tmp_path / name)
        assert difference(expected, answers) is None, name
        assert list(written) == list(expected_files) or set(written) == set(expected_files), name
        for path, data in expected_files.items():
            assert written[path] == data, f"{name}: {path}"


def test_each_side_goes_on_with_the_others_directory(tmp_path):
    """Started by one, continued by the other, back again: the same as by one alone."""

    def step(stores: Any, source: Any, target: Path, i: int) -> list:
        with oracle.seeded_uuids(i):
            if source is None:
                index = VectorStoreIndex.from_documents(documents(), storage_context=stores.StorageContext.from_defaults())
            else:
                index = stores.load_index_from_storage(stores.StorageContext.from_defaults(persist_dir=str(source)))
                index.insert(Document(id_=f"new{i}", text=f"Fruit number {i} is red.", metadata={"n": i}))
                index.delete_ref_doc(f"doc{i}", delete_from_docstore=True)
            index.storage_context.persist(str(target))
            return plain(index.as_retriever(similarity_top_k=3).retrieve("red fruit"))

    def chain(sides: list, base: Path) -> list:
        out, source = [], None
        for i, side in enumerate(sides):
            out.append(step(side, source, base / str(i), i))
            source = base / str(i)
        return out

    a, b = oracle.raw, oracle.impl
    expected = chain([a, a, a, a], tmp_path / "alone")
    for n, sides in enumerate(([b, b, b, b], [a, b, a, b], [b, a, b, a])):
        assert difference(expected, chain(sides, tmp_path / f"mixed{n}")) is None
        assert files(tmp_path / f"mixed{n}") == files(tmp_path / "alone")
