"""The document store: nodes in and out, hashes, source documents, one large document."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Callable, Iterator

from harness import FEW, Bench, Op, Row, Step, group, limit
from warm import warm_memory
from workload import load_nodes, load_texts, of_one_document, some

ROWS = (
    Row("docstore_add", "docstore: add_documents, a node", limit="SHA-256 of the text"),
    Row("docstore_add_again", "docstore: add_documents over the same, a node", limit="SHA-256 of the text"),
    Row("docstore_add_one", "docstore: add one more node"),
    Row("get_document", "docstore: get_document"),
    Row("get_nodes", "docstore: get_nodes, a node"),
    Row("get_nodes_loaded", "docstore: get_nodes after a load, a node"),
    Row("docs", "docstore: docs, and one node of it"),
    Row("docs_all", "docstore: docs, all its nodes, a node"),
    Row("document_exists", "docstore: document_exists"),
    Row("get_document_hash", "docstore: get_document_hash"),
    Row("set_document_hash", "docstore: set_document_hash"),
    Row("set_document_hashes", "docstore: set_document_hashes, a node"),
    Row("all_document_hashes", "docstore: get_all_document_hashes"),
    Row("get_ref_doc_info", "docstore: get_ref_doc_info"),
    Row("all_ref_doc_info", "docstore: get_all_ref_doc_info"),
    Row("ref_doc_exists", "docstore: ref_doc_exists"),
    Row("delete_document", "docstore: delete_document"),
    Row("delete_ref_doc", "docstore: delete_ref_doc of ten nodes"),
    Row("docstore_to_dict", "docstore: to_dict"),
    Row("docstore_persist", "docstore: persist", limit="write the same bytes"),
    Row("docstore_load", "docstore: load"),
    Row("one_document_add", "docstore: all nodes of one document, in batches of 100"),
    Row("one_document_delete", "docstore: delete that document"),
)
BATCH = 100
MOST = 2000  # nodes of one document for the peer, whose time is quadratic


def digest(nodes: list[Any]) -> str:
    return hashlib.sha256("".join(f"{n.node_id}{n.text}{n.hash}" for n in nodes).encode()).hexdigest()


def each(call: Callable[[Any], Any], values: list[Any]) -> Callable[[], Any]:
    def run() -> Any:
        for value in values:
            found = call(value)
        return found

    return run


def built(b: Bench, nodes: list[Any]) -> Any:
    store = b.SimpleDocumentStore()
    store.add_documents(nodes)
    return store


def reading(store: Any, ids: list[str], sources: list[str]) -> Iterator[Step]:
    """What is asked of a store, one call after another."""
    calls: list[tuple[str, Callable[[Any], Any], list[str]]] = [
        ("document_exists", store.document_exists, ids),
        ("get_document_hash", store.get_document_hash, ids),
        ("set_document_hash", lambda i: store.set_document_hash(i, "0" * 64), ids),
    ]
    for name, call, values in calls:
        yield Op(name, each(call, values), count=len(values), answer=lambda found: found)
    hashes = {i: f"{n:064x}" for n, i in enumerate(ids)}
    yield Op("set_document_hashes", lambda: store.set_document_hashes(hashes), count=len(hashes))
    yield Op("all_document_hashes", store.get_all_document_hashes, answer=len)
    yield Op("get_ref_doc_info", each(store.get_ref_doc_info, sources), count=len(sources), answer=lambda i: i.node_ids)
    yield Op("all_ref_doc_info", store.get_all_ref_doc_info, answer=len)
    yield Op("ref_doc_exists", each(store.ref_doc_exists, sources), count=len(sources), answer=bool)


def one_large(b: Bench, nodes: list[Any]) -> Iterator[Step]:
    """Nodes of a single source: the peer looks through all of them for each."""
    most, scale = b.bounded(MOST, 2)
    same = of_one_document(nodes[:most])

    def add(store: Any) -> Any:
        for i in range(0, len(same), BATCH):
            store.add_documents(same[i : i + BATCH])
        return store

    def whole() -> Any:
        return add(b.SimpleDocumentStore())

    yield Op("one_document_add", add, b.SimpleDocumentStore, scale=scale, answer=lambda s: len(s.docs))
    source = same[0].ref_doc_id
    yield Op("one_document_delete", lambda store: store.delete_ref_doc(source), whole, scale=scale)


@group("documents", *ROWS)
def documents(b: Bench) -> Iterator[Step]:
    nodes = load_nodes(b)
    ids = some([n.node_id for n in nodes], 1000)
    sources = some(list(dict.fromkeys(n.ref_doc_id for n in nodes)), 1000)
    yield Op("docstore_add", lambda store: store.add_documents(nodes), b.SimpleDocumentStore, count=b.n)
    store = built(b, nodes)
    yield Op("docstore_add_again", lambda: store.add_documents(nodes), count=b.n)
    extra = iter([[nodes[i % b.n].model_copy(update={"id_": f"extra-{i}"})] for i in range(FEW)])
    yield Op("docstore_add_one", lambda: store.add_documents(next(extra)), repeats=FEW)
    path = os.path.join(b.folder("documents"), "docstore.json")
    store = built(b, nodes)
    store.persist(path)

    def load() -> Any:
        return b.SimpleDocumentStore.from_persist_path(path)

    def walk() -> Any:
        return list(store.docs.values())

    yield Op("get_document", each(store.get_document, ids), count=len(ids), answer=lambda n: digest([n]))
    yield Op("get_nodes", lambda: store.get_nodes(ids), count=len(ids), answer=digest)
    yield Op("get_nodes_loaded", lambda loaded: loaded.get_nodes(ids), load, count=len(ids), answer=digest)
    yield Op("docs", lambda: store.docs[ids[-1]], answer=lambda n: digest([n]))
    yield Op("docs_all", walk, count=b.n, answer=digest)
    yield from reading(store, ids, sources)
    gone, gone_sources = [n.node_id for n in nodes[-10:]], list(dict.fromkeys(sources))[-5:]

    def delete(store: Any) -> Any:
        for name in gone:
            store.delete_document(name)
        return store

    def delete_sources(store: Any) -> Any:
        for source in gone_sources:
            store.delete_ref_doc(source)
        return store

    def left(store: Any) -> list[int]:
        return [len(store.get_all_document_hashes()), len(store.get_all_ref_doc_info())]

    def build() -> Any:
        return built(b, nodes)

    yield Op("delete_document", delete, build, count=len(gone), answer=left)
    yield Op("delete_ref_doc", delete_sources, build, count=len(gone_sources), answer=left)
    kept = build()
    kept.to_dict()  # the first call makes the dictionaries
    yield Op("docstore_to_dict", each(lambda _: kept.to_dict(), ids), count=len(ids), answer=lambda data: list(data))
    if b.n > 1000:
        warm_memory(b.n)
    yield Op("docstore_persist", lambda: store.persist(path), answer=lambda _: os.path.getsize(path))
    yield Op("docstore_load", load)
    yield from one_large(b, nodes)


@limit("documents")
def documents_limit(b: Bench) -> Iterator[Step]:
    texts = [text.encode() for text in load_texts(b).values()]

    def hash_all() -> None:
        for text in texts:
            hashlib.sha256(text).hexdigest()

    yield Op("docstore_add", hash_all, count=b.n)
    yield Op("docstore_add_again", hash_all, count=b.n)
