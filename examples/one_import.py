"""Change one import line: build, persist and reopen an index on pannier's stores."""

import tempfile

from llama_index.core import Document, MockEmbedding, VectorStoreIndex

from pannier import StorageContext, load_index_from_storage

embed_model = MockEmbedding(embed_dim=64)
documents = [Document(id_=f"letter-{i}", text=f"Letter number {i}.", metadata={"year": 1990 + i}) for i in range(20)]

with tempfile.TemporaryDirectory() as folder:
    context = StorageContext.from_defaults()
    VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embed_model)
    context.persist(persist_dir=folder)

    reopened = StorageContext.from_defaults(persist_dir=folder)
    index = load_index_from_storage(reopened, embed_model=embed_model)
    best = index.as_retriever(similarity_top_k=2).retrieve("letters")
    for found in best:
        print(found.node.metadata["year"], found.node.get_content())

assert len(best) == 2 and len(reopened.docstore.docs) == 20
