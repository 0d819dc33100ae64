"""The vector store: adding, asking in every way, deleting, reading and writing."""

from __future__ import annotations

import os
from typing import Any, Iterator

from harness import FEW, Bench, Op, Row, Skip, Step, group, limit
from workload import load_nodes, load_vectors, query_vectors, some

TOP_K, MANY = 10, 32
LARGEST = 1000  # vectors of a store that is turned into a dictionary or written alone
WHY = "measured up to 1,000 vectors: they take LlamaIndex as long as persisting and loading the context"
MATRIX = "one float32 matrix-vector product"
ROWS = (
    Row("vector_add", "vector store: add all nodes", limit="copy the float32 matrix"),
    Row("vector_add_one", "vector store: add one more node"),
    Row("vector_get", "vector store: get a vector"),
    Row("query", "top-10 query", limit=MATRIX),
    Row("query_100", "top-100 query", limit=MATRIX),
    Row("query_filtered", "top-10 query, a filter keeps 10 %", limit="the same over a tenth"),
    Row("query_in", "top-10 query, IN over three values", limit="the same over three tenths"),
    Row("query_or", "top-10 query, EQ or GT", limit=MATRIX),
    Row("query_node_ids", "top-10 query among a tenth of the ids", limit="the same over a tenth"),
    Row("query_many", "top-10 query, 32 at once, a query", limit=MATRIX),
    Row("query_mmr", "top-10 query, MMR"),
    Row("vector_delete", "vector store: delete by ref_doc_id"),
    Row("vector_delete_nodes", "vector store: delete_nodes of ten ids"),
    Row("vector_clear", "vector store: clear"),
    Row("vector_to_dict", "vector store: to_dict"),
    Row("vector_from_dict", "vector store: from_dict"),
    Row("vector_persist", "vector store: persist", limit="write the same bytes"),
    Row("vector_load", "vector store: load", limit="read the bytes, fill a matrix"),
)


def filters() -> dict[str, Any]:
    from llama_index.core.vector_stores import types as t

    def one(key: str, value: Any, operator: Any = t.FilterOperator.EQ) -> Any:
        return t.MetadataFilter(key=key, value=value, operator=operator)

    return {
        "query_filtered": t.MetadataFilters(filters=[one("department", "legal")]),
        "query_in": t.MetadataFilters(
            filters=[one("department", ["legal", "sales", "press"], t.FilterOperator.IN)]
        ),
        "query_or": t.MetadataFilters(
            filters=[one("department", "legal"), one("file_size", 4_000_000, t.FilterOperator.GT)],
            condition=t.FilterCondition.OR,
        ),
    }


def same(result: Any) -> Any:
    return [result.ids, [float(s).hex() for s in result.similarities]]


def queries(b: Bench, store: Any, nodes: list[Any]) -> Iterator[Step]:
    from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

    vectors = query_vectors(b.dim)
    turn = iter(range(1 << 30))

    def ask(top_k: int = TOP_K, **extra: Any) -> Any:
        vector = vectors[next(turn) % len(vectors)]
        return store.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=top_k, **extra))

    def answered(**extra: Any) -> Any:
        query = VectorStoreQuery(query_embedding=vectors[0], similarity_top_k=TOP_K, **extra)
        return lambda _: same(store.query(query))

    yield Op("query", ask, answer=answered())
    yield Op("query_100", lambda: ask(100))
    for name, only in filters().items():
        yield Op(name, lambda only=only: ask(filters=only), answer=answered(filters=only))
    several = [VectorStoreQuery(query_embedding=v, similarity_top_k=TOP_K) for v in query_vectors(b.dim, MANY)]

    def ask_many() -> Any:
        if b.side == "pannier":
            return store.query_many(several)
        return [store.query(query) for query in several[:few]]

    few = MANY if b.n <= LARGEST else 4  # LlamaIndex answers one after the other
    count = MANY if b.side == "pannier" else few
    yield Op("query_many", ask_many, count=count, answer=lambda found: [same(x) for x in found[:few]])
    ids = [n.node_id for n in nodes[:: min(10, b.n)]]
    yield Op("query_node_ids", lambda: ask(node_ids=ids), answer=answered(node_ids=ids))
    mode = VectorStoreQueryMode.MMR
    part, scale = b.bounded(10_000, 1)
    if scale != 1.0:
        small = b.SimpleVectorStore()
        small.add(nodes[:part])
        query = VectorStoreQuery(query_embedding=vectors[0], similarity_top_k=TOP_K, mode=mode)
        yield Op("query_mmr", lambda: small.query(query), scale=scale)
    else:
        yield Op("query_mmr", lambda: ask(mode=mode), answer=answered(mode=mode))


@group("vectors", *ROWS)
def vectors(b: Bench) -> Iterator[Step]:
    nodes = load_nodes(b, embeddings=True)

    def build() -> Any:
        store = b.SimpleVectorStore()
        store.add(nodes)
        return store

    yield Op("vector_add", lambda store: store.add(nodes), b.SimpleVectorStore)
    store = build()
    extra = iter([[nodes[i % b.n].model_copy(update={"id_": f"extra-{i}"})] for i in range(FEW)])
    yield Op("vector_add_one", lambda: store.add(next(extra)), repeats=FEW)
    store = build()
    wanted = some([n.node_id for n in nodes], 1000)

    def get_each() -> Any:
        for name in wanted:
            found = store.get(name)
        return found

    yield Op("vector_get", get_each, count=len(wanted), answer=lambda found: list(found))
    yield from queries(b, store, nodes)
    # Enough that the first one, which finds nothing in the caches, not even code, counts for little.
    sources = list(dict.fromkeys(n.ref_doc_id for n in nodes))[-100:]
    last = [[n.node_id] for n in nodes[-200:]]

    def delete(store: Any) -> Any:
        for source in sources:
            store.delete(source)
        return store

    def delete_nodes(store: Any) -> Any:
        for ids in batches:
            store.delete_nodes(ids)
        return store

    batches = [sum(last[i : i + 10], []) for i in range(0, len(last), 10)]
    yield Op("vector_delete", delete, build, count=len(sources), answer=lambda s: len(s.data.embedding_dict))
    yield Op("vector_delete_nodes", delete_nodes, build, count=len(batches), answer=lambda s: len(s.data.embedding_dict))
    yield Op("vector_clear", lambda store: store.clear(), build)
    if b.n > LARGEST:
        yield Skip(("vector_to_dict", "vector_from_dict", "vector_persist", "vector_load"), WHY)
        return
    yield Op("vector_to_dict", store.to_dict)
    data = store.to_dict()
    yield Op("vector_from_dict", lambda: b.SimpleVectorStore.from_dict(data))
    path = os.path.join(b.folder("vectors"), "vector_store.json")
    yield Op("vector_persist", lambda: store.persist(path), answer=lambda _: os.path.getsize(path))
    yield Op("vector_load", lambda: b.SimpleVectorStore.from_persist_path(path))


@limit("vectors")
def vectors_limit(b: Bench) -> Iterator[Step]:
    import numpy as np

    data = load_vectors(b)
    questions = [np.array(q, dtype=np.float32) for q in query_vectors(b.dim)]
    tenth = np.ascontiguousarray(data[: max(b.n // 10, 1)])
    three = np.ascontiguousarray(data[: max(3 * b.n // 10, 1)])
    turn = iter(range(1 << 30))

    def product(matrix: Any) -> Any:
        return matrix @ questions[next(turn) % len(questions)]

    yield Op("vector_add", data.copy)
    for name in ("query", "query_100", "query_many", "query_or"):
        yield Op(name, lambda: product(data))
    for name in ("query_filtered", "query_node_ids"):
        yield Op(name, lambda: product(tenth))
    yield Op("query_in", lambda: product(three))
