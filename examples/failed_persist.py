"""A value that JSON can't hold: the error says where it is, and no file was touched."""

import datetime
import os
import tempfile

from llama_index.core.schema import TextNode

from pannier import StorageContext, UnserializableError


def contents(folder: str) -> dict:
    return {name: open(os.path.join(folder, name), "rb").read() for name in sorted(os.listdir(folder))}


with tempfile.TemporaryDirectory() as folder:
    context = StorageContext.from_defaults()
    context.docstore.add_documents([TextNode(id_="good", text="kept")])
    context.persist(persist_dir=folder)
    before = contents(folder)

    context.docstore.add_documents([TextNode(id_="bad", text="new", metadata={"when": datetime.datetime(2024, 5, 1)})])
    try:
        context.persist(persist_dir=folder)
    except UnserializableError as error:
        print(error)
        assert "when" in error.key_path and "bad" in error.key_path
    else:
        raise AssertionError("persist should have refused the datetime")

    assert contents(folder) == before
    kept = StorageContext.from_defaults(persist_dir=folder)
    assert list(kept.docstore.docs) == ["good"]
