"""The index store and the indices above it: structs kept, grown and read back."""

from __future__ import annotations

from typing import Any, Iterator

from harness import FEW, Bench, Op, Row, Step, group
from workload import load_nodes, query_vectors

ROWS = (
    Row("struct_add", "index store: add the struct"),
    Row("struct_add_again", "index store: add it again, unchanged"),
    Row("struct_grow", "index store: add it again, one entry more"),
    Row("struct_get", "index store: get_index_struct"),
    Row("structs_all", "index store: index_structs"),
    Row("struct_delete", "index store: delete_index_struct"),
    Row("load_index", "load_index_from_storage"),
    Row("index_insert", "index: insert one node"),
    Row("index_delete", "index: delete_ref_doc of ten nodes"),
    Row("index_retrieve", "index: retrieve ten nodes"),
)


def make_struct(nodes: list[Any], name: str = "bench") -> Any:
    from llama_index.core.data_structs import IndexDict

    struct = IndexDict(index_id=name)
    for node in nodes:
        struct.add_node(node)
    return struct


def make_index(b: Bench, nodes: list[Any]) -> Any:
    """A VectorStoreIndex over this side's context, as a pipeline leaves it."""
    from llama_index.core import MockEmbedding, VectorStoreIndex

    return VectorStoreIndex(
        nodes=nodes, storage_context=b.StorageContext.from_defaults(), embed_model=MockEmbedding(embed_dim=b.dim)
    )


def more_nodes(nodes: list[Any], count: int) -> Iterator[list[Any]]:
    """Batches of one node each, as a document that comes later would give."""
    return iter([[nodes[i % len(nodes)].model_copy(update={"id_": f"later-{i}"})] for i in range(count)])


@group("structs", *ROWS)
def structs(b: Bench) -> Iterator[Step]:
    from llama_index.core import MockEmbedding, QueryBundle

    nodes = load_nodes(b, embeddings=True)
    struct = make_struct(nodes)
    yield Op("struct_add", lambda store: store.add_index_struct(struct), b.SimpleIndexStore)
    store = b.SimpleIndexStore()
    store.add_index_struct(struct)
    yield Op("struct_add_again", lambda: store.add_index_struct(struct))
    extra = more_nodes(nodes, FEW)

    def grow(_: Any) -> None:
        store.add_index_struct(struct)

    yield Op("struct_grow", grow, lambda: struct.add_node(next(extra)[0]), repeats=FEW)
    store.add_index_struct(struct := make_struct(nodes))
    yield Op("struct_get", lambda: store.get_index_struct("bench"), answer=lambda found: list(found.nodes_dict)[-3:])
    yield Op("structs_all", store.index_structs, answer=len)

    def filled() -> Any:
        other = b.SimpleIndexStore()
        other.add_index_struct(struct)
        return other

    yield Op("struct_delete", lambda other: other.delete_index_struct("bench"), filled)
    index = make_index(b, nodes)
    embed, context = MockEmbedding(embed_dim=b.dim), index.storage_context
    yield Op(
        "load_index",
        lambda: b.load_index_from_storage(context, embed_model=embed),
        answer=lambda found: list(found.index_struct.nodes_dict.values())[-3:],
    )
    later = more_nodes(nodes, FEW)
    yield Op("index_insert", lambda: index.insert_nodes(next(later)), repeats=FEW)
    sources = list(dict.fromkeys(n.ref_doc_id for n in nodes))[-3:]

    def delete(index: Any) -> None:
        for source in sources:
            index.delete_ref_doc(source, delete_from_docstore=True)

    retriever = index.as_retriever(similarity_top_k=10)
    bundle = QueryBundle("what", embedding=query_vectors(b.dim)[0])
    yield Op("index_retrieve", lambda: retriever.retrieve(bundle), answer=lambda found: len(found))
    yield Op("index_delete", delete, lambda: make_index(b, nodes), count=len(sources))
