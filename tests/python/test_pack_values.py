"""Values of a pack that nobody has looked at: every way to them finds them whole, or damaged.

Opening a pack looks at no value. So each way to a value is taken on a context that was
just opened, and must give what it gives on the context that was persisted.
"""

from __future__ import annotations

import glob
import os
import pickle
from typing import Any, Callable, Dict, List

import pytest
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from pannier import CorruptPackError, StorageContext

Way = Callable[[StorageContext], Any]


def build() -> StorageContext:
    context = StorageContext.from_defaults()
    nodes: List[TextNode] = []
    for i in range(6):
        made = TextNode(id_=f"node-{i}", text=f"the text of {i}", metadata={"n": i, "nested": {"list": [i, "äé"]}})
        made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc-{i // 3}", metadata={"of": i // 3})
        nodes.append(made)
    context.docstore.add_documents(nodes)
    context.docstore.set_document_hash("doc-0", "a hash")
    struct = IndexDict(index_id="index")
    for node in nodes:
        struct.nodes_dict[node.node_id] = node.node_id
    context.index_store.add_index_struct(struct)
    context.docstore._kvstore.put("k", {"plain": [1, 2.5, None]}, collection="other")
    return context


def table(context: StorageContext) -> Any:
    return context.docstore._kvstore


def node_dicts(nodes: Any) -> List[Dict[str, Any]]:
    return [node.to_dict() for node in nodes]


def add_again(context: StorageContext) -> Any:
    made = TextNode(id_="node-9", text="another")
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="doc-1")
    context.docstore.add_documents([made])
    return context.docstore.get_ref_doc_info("doc-1").to_dict()


def delete(context: StorageContext) -> Any:
    context.docstore.delete_document("node-1")
    return [context.docstore.get_ref_doc_info("doc-0").to_dict(), sorted(context.docstore.docs)]


def delete_ref_doc(context: StorageContext) -> Any:
    context.docstore.delete_ref_doc("doc-1")
    return [context.docstore.get_all_ref_doc_info().keys(), sorted(context.docstore.docs)]


def grow_struct(context: StorageContext) -> Any:
    struct = context.index_store.get_index_struct("index")
    struct.nodes_dict["more"] = "more"
    context.index_store.add_index_struct(struct)
    return context.index_store.get_index_struct("index").to_dict()


def snapshot(context: StorageContext) -> Any:
    docs = context.docstore.docs
    context.docstore.delete_document("node-0", raise_error=False)
    return [node.to_dict() for node in docs.values()]


def json_files(context: StorageContext) -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as where:
        context.persist(where, format="json")
        return {
            os.path.basename(p): open(p, "rb").read() for p in sorted(glob.glob(os.path.join(where, "*store.json")))
        }


WAYS: Dict[str, Way] = {
    "get_document": lambda c: c.docstore.get_document("node-1").to_dict(),
    "get_nodes": lambda c: node_dicts(c.docstore.get_nodes(["node-1", "node-4"])),
    "get_node_dict": lambda c: {k: n.to_dict() for k, n in c.docstore.get_node_dict({1: "node-1"}).items()},
    "docs": lambda c: {k: n.to_dict() for k, n in c.docstore.docs.items()},
    "a snapshot": snapshot,
    "document_exists": lambda c: c.docstore.document_exists("node-1"),
    "hash": lambda c: [c.docstore.get_document_hash("node-1"), c.docstore.get_document_hash("doc-0")],
    "hashes": lambda c: c.docstore.get_all_document_hashes(),
    "set_hash": lambda c: [c.docstore.set_document_hash("node-1", "h"), c.docstore.get_document_hash("node-1")],
    "ref_doc_info": lambda c: c.docstore.get_ref_doc_info("doc-0").to_dict(),
    "all_ref_doc_info": lambda c: {k: i.to_dict() for k, i in c.docstore.get_all_ref_doc_info().items()},
    "ref_doc_exists": lambda c: [c.docstore.ref_doc_exists("doc-0"), c.docstore.ref_doc_exists("doc-9")],
    "add": add_again,
    "delete": delete,
    "delete_ref_doc": delete_ref_doc,
    "kv get": lambda c: table(c).get("k", collection="other"),
    "kv get_all": lambda c: table(c).get_all(collection="docstore/data"),
    "kv delete": lambda c: [table(c).delete("node-1", collection="docstore/data"), sorted(c.docstore.docs)],
    "kv to_dict": lambda c: table(c).to_dict(),
    "kv pickled": lambda c: pickle.loads(pickle.dumps(table(c))).to_dict(),
    "struct": lambda c: c.index_store.get_index_struct("index").to_dict(),
    "structs": lambda c: [s.to_dict() for s in c.index_store.index_structs()],
    "struct grown": grow_struct,
    "persist as JSON": json_files,
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> str:
    where = str(tmp_path_factory.mktemp("pack") / "storage")
    build().persist(where, format="pack")
    return where


@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_a_value(name: str, pack: str) -> None:
    assert WAYS[name](StorageContext.open(pack)) == WAYS[name](build())


@pytest.mark.parametrize("name", WAYS)
def test_what_a_way_changed_is_saved(name: str, pack: str, tmp_path: Any) -> None:
    """Reading and changing leave a store that a persist writes, by changes alone."""
    context, original = StorageContext.open(pack), build()
    WAYS[name](context)
    WAYS[name](original)
    where = str(tmp_path / "storage")
    StorageContext.open(pack).persist(where, format="pack")
    again = StorageContext.open(where)
    WAYS[name](again)
    again.persist(where)
    want = json_files(original)
    assert json_files(StorageContext.open(where)) == want
    assert json_files(context) == want


# What each way meets when this text is damaged where it stands in the file.
DAMAGED = {
    b"the text of 1": ["get_document", "get_nodes", "get_node_dict", "docs", "a snapshot", "kv get_all", "kv to_dict"],
    b'"a hash"': ["hash", "hashes"],
    b'"node_ids": ["node-0"': ["ref_doc_info", "all_ref_doc_info", "delete"],
    b'"node_ids": ["node-3"': ["add", "all_ref_doc_info", "delete_ref_doc"],
    b'{"plain"': ["kv get", "kv to_dict", "kv pickled", "persist as JSON"],
}


@pytest.mark.parametrize("text, name", [(t, n) for t, names in DAMAGED.items() for n in names])
def test_every_way_to_a_damaged_value(text: bytes, name: str, tmp_path: Any) -> None:
    where = str(tmp_path / "storage")
    build().persist(where, format="pack")
    (segment,) = glob.glob(os.path.join(where, "seg-*"))
    with open(segment, "rb") as f:
        data = bytearray(f.read())
    at = data.index(text)
    data[at + 3] ^= 1
    with open(segment, "wb") as f:
        f.write(data)
    context = StorageContext.open(where)
    if name != "get_document":
        assert context.docstore.get_document("node-5").text == "the text of 5"
    for _ in range(2):  # and again: it stays an error
        with pytest.raises(CorruptPackError) as caught:
            WAYS[name](context)
        assert caught.value.path == segment
        assert 0 <= at - caught.value.offset < 1000
        assert "pannier verify" in str(caught.value) and "pannier rollback" in str(caught.value)
    with open(segment, "rb") as f:
        assert f.read() == bytes(data)


def test_a_damaged_index_struct_is_found_when_the_pack_is_opened(tmp_path: Any) -> None:
    where = str(tmp_path / "storage")
    build().persist(where, format="pack")
    (segment,) = glob.glob(os.path.join(where, "seg-*"))
    with open(segment, "rb") as f:
        data = bytearray(f.read())
    at = data.index(b'"node-0": "node-0"')
    data[at + 3] ^= 1
    with open(segment, "wb") as f:
        f.write(data)
    with pytest.raises(CorruptPackError) as caught:
        StorageContext.open(where)
    assert caught.value.path == segment
    assert 0 <= at - caught.value.offset < 1000


# Ways that only look, whatever they hand out.
LOOKING = [
    "get_document", "get_nodes", "get_node_dict", "docs", "document_exists", "hash", "hashes", "ref_doc_info",
    "all_ref_doc_info", "ref_doc_exists", "kv get", "kv get_all", "kv pickled", "struct", "structs", "persist as JSON",
]  # fmt: skip


@pytest.mark.parametrize("name", LOOKING)
def test_looking_at_values_changes_nothing_on_disk(name: str, tmp_path: Any) -> None:
    """What was looked at, even handed out, and left alone is not written again."""
    where = str(tmp_path / "storage")
    build().persist(where, format="pack")
    context = StorageContext.open(where)
    context.persist(where)  # stores that are text as a whole: compared from here on
    before = sorted(os.listdir(where))
    for _ in range(2):
        WAYS[name](context)
        context.persist(where)
        assert sorted(os.listdir(where)) == before


def test_a_value_handed_out_and_changed_is_written_alone(tmp_path: Any) -> None:
    where = str(tmp_path / "storage")
    build().persist(where, format="pack")
    context = StorageContext.open(where)
    everything = table(context).get_all(collection="docstore/data")
    everything["node-2"]["__data__"]["text"] = "changed where it is"
    before = set(os.listdir(where))
    context.persist(where)
    (made,) = set(os.listdir(where)) - before - {"MANIFEST"}
    with open(os.path.join(where, made), "rb") as f:
        data = f.read()
    assert b"changed where it is" in data and b"the text of" not in data
    assert StorageContext.open(where).docstore.get_document("node-2").text == "changed where it is"


def test_a_struct_that_grew_is_written_as_a_change(tmp_path: Any) -> None:
    where = str(tmp_path / "storage")
    context = StorageContext.from_defaults()
    struct = IndexDict(index_id="index")
    for i in range(2000):
        struct.nodes_dict[f"vector-{i}"] = f"node-{i}"
    context.index_store.add_index_struct(struct)
    context.persist(where, format="pack")
    whole = sum(os.path.getsize(p) for p in glob.glob(os.path.join(where, "seg-*")))
    for step in range(4):
        opened = StorageContext.open(where) if step % 2 else context  # read from the pack, or at hand
        struct = opened.index_store.get_index_struct("index")
        struct.nodes_dict[f"more-{step}"] = "more"
        del struct.nodes_dict[f"vector-{100 * step}"]
        struct.nodes_dict[f"vector-{100 * step + 50}"] = "another"
        opened.index_store.add_index_struct(struct)
        before = set(os.listdir(where))
        opened.persist(where)
        (made,) = set(os.listdir(where)) - before
        assert os.path.getsize(os.path.join(where, made)) < whole / 10
        context = StorageContext.open(where)
        assert context.index_store.get_index_struct("index").to_dict() == struct.to_dict()
        assert list(context.index_store.get_index_struct("index").nodes_dict) == list(struct.nodes_dict)
