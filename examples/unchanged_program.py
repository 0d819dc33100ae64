"""Change no line of a program: install() sends LlamaIndex's own names to pannier."""

import tempfile

import pannier

pannier.install()

# From here on, the program as it always was.
from llama_index.core import Document, StorageContext, SummaryIndex, load_index_from_storage  # noqa: E402

with tempfile.TemporaryDirectory() as folder:
    index = SummaryIndex.from_documents([Document(text=f"Page {i}") for i in range(5)])
    index.storage_context.persist(persist_dir=folder)
    again = load_index_from_storage(StorageContext.from_defaults(persist_dir=folder))
    kind = type(again.storage_context.docstore).__module__
    print(f"{len(again.ref_doc_info)} documents, stored by {kind}")

assert kind.startswith("pannier"), kind

pannier.uninstall()
assert type(StorageContext.from_defaults().docstore).__module__.startswith("llama_index")
