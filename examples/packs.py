"""A pack: saving what changed, earlier generations, a reader beside the writer, and back."""

import os
import tempfile

from llama_index.core.schema import TextNode

import pannier
from pannier import ConflictError, StorageContext

with tempfile.TemporaryDirectory() as folder:
    writer = StorageContext.from_defaults()
    writer.docstore.add_documents([TextNode(id_=f"n{i}", text="word " * 100) for i in range(1000)])
    writer.persist(folder, format="pack")
    first = sum(entry.stat().st_size for entry in os.scandir(folder))

    reader = StorageContext.open(folder, read_only=True)
    late = StorageContext.open(folder)

    writer.docstore.add_documents([TextNode(id_="new", text="one more")])
    writer.persist(folder)  # a directory keeps its format
    second = sum(entry.stat().st_size for entry in os.scandir(folder)) - first
    print(f"generation 1: {first:,} bytes; generation 2: {second:,} bytes more")

    assert not reader.docstore.document_exists("new")  # it holds its generation
    assert reader.reload() and reader.docstore.document_exists("new")

    late.docstore.delete_document("n0")
    try:
        late.persist(folder)  # would undo what the writer saved
    except ConflictError as error:
        print(error)
        late.reload()
        late.docstore.delete_document("n0")
        late.persist(folder)
    else:
        raise AssertionError("persist should have seen that the pack moved on")

    print(*pannier.history(folder), sep="\n")
    assert StorageContext.open(folder, generation=1).docstore.document_exists("n0")
    pannier.rollback(folder, 2)
    assert pannier.verify(folder) == []

    pannier.convert(folder, "json")  # LlamaIndex's own files
    print(sorted(os.listdir(folder)))
