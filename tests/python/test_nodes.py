"""Nodes in both directions, built and printed by the core: as LlamaIndex does it, to the
last bit of pydantic's state, and with whatever a caller has put in its place."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
from typing import Any, Dict, List
from unittest import mock

import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import schema
from llama_index.core.schema import Document, ImageNode, IndexNode, Node, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore import keyval_docstore, utils
from oracle import assert_same, outcome, run, same

import pannier
from pannier import _core, _nodeplan
from pannier._nodeplan import ensure_plans
from pannier._nodereader import _state as state

pytestmark = pytest.mark.skipif(oracle.IS_PEER, reason="about the core")

CLASSES = (TextNode, Document, ImageNode, IndexNode, Node)
SOURCE = NodeRelationship.SOURCE

flat_metadata = oracle.dicts(oracle.scalars)


@pytest.fixture(autouse=True)
def plans() -> None:
    ensure_plans()


def entry_of(node: Any) -> Dict[str, Any]:
    return json.loads(json.dumps(utils.doc_to_json(node)))


def the_peers(text: bytes) -> Any:
    """What LlamaIndex makes of an entry's text."""
    return utils.json_to_doc(_core.json_decode(text))


def store_of(entries: Dict[str, Any]) -> Any:
    """A store as loaded from a file with these entries."""
    return oracle.load(pannier.SimpleDocumentStore, oracle.dumps({"docstore/data": entries}))


def plain(cls: Any, **fields: Any) -> Any:
    fields = {"id_": "n", "metadata": {"page": 1, "file": "a.txt", "none": None}, **fields}
    if cls is IndexNode:
        fields.setdefault("index_id", "i")
    if cls is Node:
        fields.setdefault("text_resource", schema.MediaResource(text="text"))
    else:
        fields.setdefault("text", "text")
    source = RelatedNodeInfo(node_id="d", node_type=schema.ObjectType.DOCUMENT, metadata={"file": "a.txt"}, hash="h")
    fields.setdefault("relationships", {SOURCE: source, NodeRelationship.CHILD: [RelatedNodeInfo(node_id="c")]})
    return cls(**fields)


def assert_alike(got: Any, want: Any) -> None:
    """Every part of two nodes, and how they behave afterwards."""
    assert_same(want, got)
    assert state(got) == state(want)
    if got is not None:
        assert pickle.dumps(got) == pickle.dumps(want)
        assert repr(got) == repr(want)
        assert_same(outcome(type(want).model_dump, want), outcome(type(want).model_dump, got))
        assert_same(outcome(getattr, want, "hash"), outcome(getattr, got, "hash"))
        for name, value in (("metadata", {"new": 1}), ("id_", 5), ("metadata_template", "{key}")):
            assert_same(outcome(setattr, want, name, value), outcome(setattr, got, name, value))
        assert state(got) == state(want)
        assert_same(outcome(pickle.loads, pickle.dumps(want)), outcome(pickle.loads, pickle.dumps(got)))


# -- reading ------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES)
def test_each_class_has_a_fast_path_both_ways(cls: Any) -> None:
    node = plain(cls)
    text = _core.encode_node(node)
    assert bytes(text) == oracle.dumps(utils.doc_to_json(node))
    built = _core.decode_node(text)
    assert type(built) is cls
    assert_alike(built, the_peers(bytes(text)))


@settings(max_examples=oracle.ROUNDS)
@given(st.lists(oracle.nodes(metadata=st.one_of(flat_metadata, oracle.node_metadata)), min_size=1, max_size=5))
def test_random_nodes_come_back_as_from_the_peer(nodes: List[Any]) -> None:
    peer, ours = oracle.peer.SimpleDocumentStore(), pannier.SimpleDocumentStore()
    same(lambda s: s.add_documents(oracle.clone(nodes)), peer, ours)
    data = oracle.same_bytes(peer, ours)
    if isinstance(data, oracle.Raised):
        return
    loaded = [oracle.load(oracle.peer.SimpleDocumentStore, data), oracle.load(pannier.SimpleDocumentStore, data)]
    for a, b in ((peer, ours), loaded):
        ids = list(dict.fromkeys(n.node_id for n in nodes))
        for node_id in ids:
            want, got = outcome(a.get_document, node_id), outcome(b.get_document, node_id)
            assert_same(want, got)
            same(lambda s: s.get_node(node_id), a, b)
            same(lambda s: s.get_document_hash(node_id), a, b)
        same(lambda s: s.get_nodes(ids), a, b)
        same(lambda s: dict(s.docs), a, b)
    stored = json.loads(data)["docstore/data"]
    for node_id, entry in stored.items():
        text = oracle.dumps(entry)
        with oracle.seeded_uuids():
            want = outcome(the_peers, text)
        with oracle.seeded_uuids():
            got = outcome(store_of({"k": entry}).get_document, "k")
        assert_same(want, got)
        built = _core.decode_node(text)
        if built is not None:
            assert_alike(built, the_peers(text))


# a field's value in a file that some other version or some other hand wrote
odd_field = st.one_of(
    oracle.scalars,
    st.sampled_from([[], {}, "1", 1.0, 5.5, True, [1], ["a", 1], [1.5, 2], [True], {"a": [1]}, {"1": {"node_id": "x"}}]),
    st.sampled_from(
        [
            {"1": {"node_id": 5}},
            {"9": {"node_id": "x"}},
            {"1": [{"node_id": "x"}, 3]},
            {"1": "x"},
            {"1": {}},
            {"1": {"node_id": "x", "more": 1}},
            {"1": {"node_id": "x", "metadata": {"k": [1]}}},
            {"1": {"node_id": "x", "node_type": 4}},
            {"1": {"node_id": "x", "class_name": 4}},
            {"text": "other"},
            {"text": None, "mimetype": None},
            {"text": "t", "path": "a.png"},
            {"text": "t", "url": "http://x.y/z"},
            {"text": "t", "embeddings": {"dense": [1.0]}},
        ]
    ),
)
FIELDS = sorted({name for cls in CLASSES for name in cls.model_fields})
EXTRA = ["class_name", "extra_info", "metadata_seperator", "doc_id", "text", "text_resource", "image_resource", "unknown"]


@st.composite
def odd_entries(draw: Any) -> Dict[str, Any]:
    """An entry of a node with fields missing, changed, added or in another order."""
    entry = entry_of(plain(draw(st.sampled_from(CLASSES)), metadata=draw(flat_metadata)))
    data = entry["__data__"]
    for name in draw(st.lists(st.sampled_from(list(data)), max_size=3)):
        data.pop(name, None)
    for name in draw(st.lists(st.sampled_from(FIELDS + EXTRA), max_size=2)):
        data[name] = draw(odd_field)
    if draw(st.booleans()):
        items = list(data.items())
        random.Random(draw(st.integers(0, 99))).shuffle(items)
        entry["__data__"] = dict(items)
    if draw(st.integers(0, 5)) == 0:
        entry["__type__"] = draw(st.sampled_from(["1", "2", "3", "4", "5", "6", "", 1, None]))
    if draw(st.integers(0, 5)) == 0:
        entry = dict(reversed(list(entry.items())))
    if draw(st.integers(0, 9)) == 0:
        entry[draw(st.sampled_from(["more", "__data__", "__type__"]))] = draw(odd_field)
    return entry


@settings(max_examples=3 * oracle.ROUNDS)
@given(odd_entries(), st.sampled_from([None, 1]), st.booleans())
def test_odd_entries_give_what_the_peer_gives(entry: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(entry, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    with oracle.seeded_uuids():
        want = outcome(the_peers, text)
    store = oracle.load(pannier.SimpleDocumentStore, b'{"docstore/data": {"k": ' + text + b"}}")
    with oracle.seeded_uuids():
        got = outcome(store.get_document, "k")
    assert_same(want, got)
    built = outcome(_core.decode_node, text)
    assert not isinstance(built, oracle.Raised)
    if built is not None:
        assert_alike(built, want)


@pytest.mark.parametrize(
    "text",
    [
        b'{"__data__": {"id_": "a", "id_": "b"}, "__type__": "1"}',
        b'{"__data__": {"id_": "a", "metadata": {"k": 1, "k": 2}}, "__type__": "1"}',
        b'{"__data__": {"id_": "a", "relationships": {"1": {"node_id": "x"}, "1": {"node_id": "y"}}}, "__type__": "1"}',
        b'{"__type__": "4", "__data__": {"id_": "a", "index_id": "i", "obj": null}, "__type__": "3"}',
        b'{"__data__": {"id_": "a"}, "__data__": {"id_": "b"}, "__type__": "1"}',
        b'{"__data__": {"\\u0069d_": "a"}, "__type__": "1"}',
        b'{"__data__": {"id_": "a"}, "__typ\\u0065__": "1"}',
        b'{"__data__": {"id_": "a", "text": ", \\"__type__\\": \\"4"}, "__type__": "1"}',
        b' {"__data__" :{"id_":"a","embedding":[1,2.5]} ,"__type__":"1"} ',
        b'{"__data__": {"id_": "a", "embedding": [NaN, -Infinity, 1e400, -0.0]}, "__type__": "1"}',
        b'{"__data__": {"id_": "a", "start_char_idx": -0, "end_char_idx": 123456789012345678901}, "__type__": "1"}',
    ],
)
def test_unusual_texts(text: bytes) -> None:
    store = oracle.load(pannier.SimpleDocumentStore, b'{"docstore/data": {"k": ' + text + b"}}")
    want, got = outcome(the_peers, text), outcome(store.get_document, "k")
    assert state(got) == state(want) or isinstance(want, oracle.Raised)
    assert_same(want, got)


OLD = {  # as LlamaIndex 0.9 wrote it
    "__data__": {
        "id_": "a",
        "embedding": None,
        "metadata": {"k": "v"},
        "excluded_embed_metadata_keys": [],
        "excluded_llm_metadata_keys": [],
        "relationships": {"1": {"node_id": "d", "node_type": "4", "metadata": {}, "hash": "h"}},
        "hash": "0",
        "text": "text",
        "start_char_idx": 0,
        "end_char_idx": 4,
        "text_template": "{metadata_str}\n\n{content}",
        "metadata_template": "{key}: {value}",
        "metadata_seperator": "\n",
        "class_name": "TextNode",
    },
    "__type__": "1",
}


@pytest.mark.parametrize("kind", ["1", "2", "3", "4", "5"])
@pytest.mark.parametrize("gone", [(), ("hash",), ("hash", "metadata_seperator"), ("hash", "metadata_seperator", "class_name")])
def test_entries_of_older_versions(kind: str, gone: Any) -> None:
    data = {k: v for k, v in OLD["__data__"].items() if k not in gone}
    entry = {"__data__": data, "__type__": kind}
    assert_same(outcome(the_peers, oracle.dumps(entry)), outcome(store_of({"a": entry}).get_document, "a"))


def test_fields_that_older_files_lack_are_not_set() -> None:
    data = {k: v for k, v in OLD["__data__"].items() if k not in ("hash", "metadata_seperator")}
    text = oracle.dumps({"__data__": data, "__type__": "1"})
    built = _core.decode_node(text)
    assert "mimetype" not in built.model_fields_set and built.mimetype == "text/plain"
    assert_alike(built, the_peers(text))


# -- what is handed out -------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES)
def test_nodes_share_nothing_that_can_change(cls: Any) -> None:
    store = pannier.SimpleDocumentStore()
    long = {f"key {i}": "value " * 3 for i in range(6)}
    store.add_documents([plain(cls, metadata=long, excluded_llm_metadata_keys=list(long))])
    before = state(store.get_node("n"))
    for node in [store.get_node("n") for _ in range(4)] + store.get_nodes(["n"] * 4):
        assert state(node) == before
        node.metadata["key 0"] = "changed"
        node.metadata["more"] = 1
        node.excluded_llm_metadata_keys.clear()
        node.relationships[SOURCE].metadata["file"] = "other"
        node.relationships[SOURCE].model_fields_set.clear()
        node.relationships.clear()
        node.model_fields_set.clear()
    assert state(store.get_node("n")) == before


def test_nested_metadata_is_the_stored_value() -> None:
    def seen(side: Any) -> Any:
        store = side.SimpleDocumentStore()
        store.add_documents([plain(TextNode, metadata={"tags": ["a"]})])
        store = oracle.load(side.SimpleDocumentStore, oracle.persisted(store))
        store.get_node("n").metadata["tags"].append("b")
        store.get_nodes(["n"])[0].metadata["tags"].append("c")
        store.docs["n"].metadata["tags"].append("d")
        return store.get_node("n").metadata, oracle.persisted(store)

    same(seen, oracle.peer, oracle.impl)


def test_texts_in_one_node_are_distinct_objects() -> None:
    """As json.loads makes them: a pickle tells equal texts from one text."""
    repeated = {"a": "the same text", "b": "the same text"}
    node = plain(TextNode, text="the same text", metadata=repeated)
    node.relationships[SOURCE].metadata = dict(repeated)
    text = bytes(_core.encode_node(node))
    want = pickle.dumps(the_peers(text))
    for _ in range(4):
        assert pickle.dumps(_core.decode_node(text)) == want


ALIKE = [
    ({"n": 1, "a": "x"}, {"n": 12, "a": "x"}),
    ({"n": 12, "a": "x"}, {"n": 1, "a": "x"}),
    ({"a": "text", "n": 12}, {"a": "text", "n": 1}),
    ({"a": "text", "n": 12}, {"a": "text", "n": 12}),
    ({"a": "text", "n": 1.5}, {"a": "text", "n": 1.5, "z": None}),
    ({"a": "text", "b": "more"}, {"a": "text"}),
    ({"a": "text"}, {"a": "text", "b": "more"}),
    ({"a": "text", "b": True}, {"b": True, "a": "text"}),
    ({"a": "te", "b": "more"}, {"a": "text", "b": "more"}),
    ({"a": "quote \" and \\", "b": "more"}, {"a": "quote \" and \\", "b": "more"}),
    ({"a": "caf\u00e9", "b": "\u65e5\u672c", "c": "\U0001f4a1"}, {"a": "caf\u00e9", "b": "\u65e5\u672c", "c": "\U0001f4a1", "d": ""}),
    ({f"k{i}": f"value {i}" for i in range(20)}, {f"k{i}": f"value {i}" for i in range(20)}),
    ({f"k{i}": f"value {i}" for i in range(16)}, {f"k{i}": f"value {i}" for i in range(18)}),
    ({}, {"a": "text"}),
    ({"a": "text", "b": {"nested": 1}}, {"a": "text", "b": {"nested": 1}}),
    ({"a": "text", "b": "x"}, {"a": "text", "b": ["nested"]}),
]


@pytest.mark.parametrize("own, of_source", ALIKE)
def test_metadata_of_a_neighbour_that_begins_like_the_node_s(own: Any, of_source: Any) -> None:
    node = plain(TextNode, metadata=own)
    node.relationships[SOURCE].metadata = of_source
    node.relationships[NodeRelationship.CHILD][0].metadata = own
    text = oracle.dumps(entry_of(node))
    for _ in range(4):
        got = _core.decode_node(text)
        if got is not None:
            assert_alike(got, the_peers(text))


def test_metadata_with_a_repeated_key_or_other_spaces_is_no_beginning() -> None:
    node = plain(TextNode, metadata={"a": "one", "b": "two"})
    node.relationships[SOURCE].metadata = {"a": "one", "b": "two"}
    text = oracle.dumps(entry_of(node)).decode()
    flat = '{"a": "one", "b": "two"}'
    assert text.count(flat) == 2
    for first in ('{"a": "one", "b": "two", "a": "three"}', '{"a":"one", "b": "two"}', '{ "a": "one" , "b": "two" }'):
        for changed in (text.replace(flat, first, 1), text.replace(flat, first)):
            for _ in range(3):
                got = _core.decode_node(changed.encode())
                if got is not None:
                    assert_alike(got, the_peers(changed.encode()))


def test_metadata_like_the_node_s_is_a_dict_of_its_own() -> None:
    node = plain(TextNode, metadata={"a": "text", "b": "more"})
    node.relationships[SOURCE].metadata = {"a": "text", "b": "more"}
    text = oracle.dumps(entry_of(node))
    before = state(the_peers(text))
    for _ in range(4):
        got = _core.decode_node(text)
        assert state(got) == before
        got.relationships[SOURCE].metadata["a"] = "changed"
        assert got.metadata == {"a": "text", "b": "more"}
        del got.metadata["b"]
        assert got.relationships[SOURCE].metadata == {"a": "changed", "b": "more"}


# -- get_nodes ----------------------------------------------------------------------------


ODD_IDS = ["plain", "with \" quote", "back\\", 'x", "text": "y', "caf\u00e9", "\u65e5\u672c", "", "a", "new\nline", "\x7f"]


@pytest.mark.parametrize("ids", [ODD_IDS, ODD_IDS[::-1], ["plain"] * 3, ["plain", "a", "plain"]])
def test_ids_that_the_caller_has_stand_for_those_in_the_text(ids: List[str]) -> None:
    """Chained to one another, as a splitter leaves nodes, and to themselves."""

    def seen(side: Any) -> Any:
        nodes = [plain(TextNode, id_=i) for i in ODD_IDS]
        for node, previous, next_ in zip(nodes, ODD_IDS[-1:] + ODD_IDS, ODD_IDS[1:] + ODD_IDS[:1]):
            node.relationships[NodeRelationship.PREVIOUS] = RelatedNodeInfo(node_id=previous)
            node.relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id=next_)
            node.relationships[NodeRelationship.PARENT] = RelatedNodeInfo(node_id=node.node_id)
        store = side.SimpleDocumentStore()
        store.add_documents(nodes)
        store = oracle.load(side.SimpleDocumentStore, oracle.persisted(store))
        found = [*store.get_nodes(ids), *map(store.get_node, ids)]
        return [(state(n), pickle.dumps(n)) for n in found]

    same(seen, oracle.peer, oracle.impl)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 4079, 4080, 4081, 4094, 4095, 4096, 4097, 9000])
@pytest.mark.parametrize("odd", ["\n", "\u00e9", "\u65e5", "\U0001f4a1", "\ud800", "\udc00", '"', "\\", "\x7f", "\x00"])
def test_texts_with_escapes_of_any_length(length: int, odd: str) -> None:
    for text in (odd * length, "a" * length + odd, odd + "a" * length, ("a" * 20 + odd) * (length // 16)):
        for ascii_only in (True, False):
            json_text = json.dumps([text], ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
            assert _core.json_decode(json_text) == [text]


@pytest.mark.parametrize("tail", ["", "\\", "\\u12", "\\uzzzz", "\\x", "\\ud800\\uzzzz", "\\ud800\\", "\\\x00", "\n", "\udcff"])
@pytest.mark.parametrize("length", [0, 14, 15, 16, 30, 4090, 4096])
def test_broken_texts_are_errors(tail: str, length: int) -> None:
    for closed in ("", '"'):
        text = f'"\\n{"a" * length}{tail}{closed}'.encode("utf-8", "surrogateescape")
        if tail == "" and closed:
            assert _core.json_decode(text) == "\n" + "a" * length
        else:
            with pytest.raises(ValueError):
                _core.json_decode(text)


@pytest.fixture
def stores() -> Any:
    nodes = [plain(cls, id_=f"n{i}") for i, cls in enumerate(CLASSES)]
    nodes.append(plain(TextNode, id_="nested", metadata={"tags": [1]}))
    pair = oracle.peer.SimpleDocumentStore(), pannier.SimpleDocumentStore()
    for store in pair:
        store.add_documents(oracle.clone(nodes))
    return pair


IDS = ["n3", "n0", "nested", "n0", "n4"]


@pytest.mark.parametrize(
    "ids", [IDS, [], ["n0", "absent", "n1"], ["absent"], ["n0", 5], ["n0", None], tuple(IDS), iter(IDS), "n0", None, [["n0"]]]
)
@pytest.mark.parametrize("raise_error", [True, False])
def test_get_nodes(stores: Any, ids: Any, raise_error: bool) -> None:
    ids = list(ids) if not isinstance(ids, (list, tuple, str, type(None))) else ids
    same(lambda s: s.get_nodes(ids, raise_error), *stores)
    same(lambda s: s.get_nodes(node_ids=ids, raise_error=raise_error), *stores)
    same(lambda s: run(s.aget_nodes(ids, raise_error)), *stores)
    same(lambda s: s.get_nodes(iter(ids), raise_error), *stores)


@pytest.mark.parametrize("key", ["n0", "n3", "nested", "absent", 5, None])
def test_get_node(stores: Any, key: Any) -> None:
    for raise_error in (True, False):
        same(lambda s: s.get_node(key, raise_error), *stores)
        same(lambda s: run(s.aget_node(key, raise_error)), *stores)
        same(lambda s: s.get_document(key, raise_error), *stores)
    same(lambda s: s.get_node_dict({1: "n0", 2: "nested"}), *stores)
    same(lambda s: run(s.aget_node_dict({1: "n0", 2: "nested"})), *stores)


def test_reading_creates_the_collection_as_the_peer_does() -> None:
    for call in (lambda s: s.get_nodes([]), lambda s: s.get_nodes(["x"], False), lambda s: s.get_node("x", False)):
        same(lambda side: oracle.persisted((s := side.SimpleDocumentStore(), call(s))[0]), oracle.peer, oracle.impl)


# -- what callers put in place ------------------------------------------------------------


def test_subclasses_that_override_reading() -> None:
    def seen(side: Any) -> Any:
        class Store(side.SimpleDocumentStore):
            def get_document(self, doc_id: str, raise_error: bool = True) -> Any:
                calls.append(doc_id)
                return super().get_document(doc_id, raise_error)

        calls: List[str] = []
        store = Store()
        store.add_documents([plain(TextNode)])
        return store.get_nodes(["n"]), store.get_node("n"), calls

    same(seen, oracle.peer, oracle.impl)


@pytest.mark.parametrize("name", ["get_document", "get_node"])
@pytest.mark.parametrize("on_class", [True, False])
def test_reading_replaced_on_the_store(stores: Any, name: str, on_class: bool) -> None:
    def seen(store: Any) -> Any:
        fake = mock.MagicMock(return_value=plain(TextNode, id_="fake"))
        with mock.patch.object(type(store) if on_class else store, name, fake):
            got = store.get_nodes(["n0", "n1"]), store.get_node("n0"), fake.call_count
        return got, store.get_nodes(["n0", "n1"])

    same(seen, *stores)


def counting(function: Any, calls: List[Any]) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        calls.append(function)
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("owner", [TextNode, schema.BaseNode, schema.BaseComponent])
@pytest.mark.parametrize("name", ["from_dict", "__init__", "get_type"])
def test_a_replaced_method_is_what_builds(stores: Any, owner: Any, name: str) -> None:
    def seen(store: Any) -> Any:
        calls: List[Any] = []
        found = getattr(owner, name)
        if hasattr(found, "__func__"):
            wrapper: Any = classmethod(counting(found.__func__, calls))
        else:
            wrapper = counting(found, calls)
        with mock.patch.object(owner, name, wrapper):
            got = [store.get_node("n0"), store.get_nodes(["n0", "n2"]), store.docs["n0"]]
        during = len(calls)
        again = store.get_node("n0")
        return got, during > 0, len(calls) - during, again

    same(seen, *stores)


def test_a_replaced_json_to_doc_is_what_builds(stores: Any) -> None:
    def seen(store: Any) -> Any:
        def other(entry: Any) -> Any:
            node = utils.json_to_doc(entry)
            node.metadata["seen"] = True
            return node

        with mock.patch.object(keyval_docstore, "json_to_doc", other):
            return store.get_node("n0"), store.get_nodes(["n0", "nested"]), store.docs["n1"]

    same(seen, *stores)


@pytest.mark.parametrize("name", ["from_dict", "__init__", "__pydantic_validator__", "__setattr__"])
def test_the_fast_path_sees_what_is_replaced(name: str) -> None:
    text = _core.encode_node(plain(TextNode))
    assert _core.decode_node(text) is not None
    with mock.patch.object(TextNode, name, counting(getattr(TextNode, name), [])):
        assert _core.decode_node(text) is None
    assert _core.decode_node(text) is not None


@pytest.mark.parametrize("name", ["to_dict", "dict", "model_dump", "hash", "get_type", "class_name"])
def test_a_replaced_method_is_what_prints(name: str) -> None:
    def seen(side: Any) -> Any:
        fakes: Dict[str, Any] = {
            "to_dict": lambda self, **kw: {"id_": self.id_, "fake": True},
            "dict": lambda self, **kw: {"id_": self.id_, "fake": 2},
            "model_dump": lambda self, **kw: {"id_": self.id_, "fake": 3},
            "hash": property(lambda self: "fake hash"),
            "get_type": classmethod(lambda cls: "fake type"),
            "class_name": classmethod(lambda cls: "Fake"),
        }
        store = side.SimpleDocumentStore()
        with mock.patch.object(TextNode, name, fakes[name]):
            store.add_documents([plain(TextNode)])
        store.add_documents([plain(TextNode, id_="after")])
        return oracle.persisted(store)

    same(seen, oracle.peer, oracle.impl)


def test_a_subclass_of_a_node_takes_the_peers_way() -> None:
    class Mine(TextNode):
        extra: int = 5

    assert _core.encode_node(plain(Mine)) is None

    def seen(side: Any) -> Any:
        store = side.SimpleDocumentStore()
        store.add_documents([plain(Mine)])
        return store.get_node("n"), oracle.persisted(store)

    same(seen, oracle.peer, oracle.impl)


# -- hashes -------------------------------------------------------------------------------


@settings(max_examples=oracle.ROUNDS)
@given(oracle.texts, oracle.dicts())
def test_hashes_are_the_nodes_own(text: str, metadata: Any) -> None:
    node = plain(TextNode, text=text, metadata=metadata)
    ours = pannier.SimpleDocumentStore()
    ours.add_documents([node])
    assert ours.get_document_hash("n") == node.hash


def test_hashes_of_long_texts() -> None:
    rng = random.Random(5)
    store = pannier.SimpleDocumentStore()
    for n in [*range(40, 140), 1000, 5000]:
        text = "".join(rng.choice("abc é中\U0001f600") for _ in range(n))
        node = TextNode(id_=str(n), text=text, metadata={"n": n})
        store.add_documents([node])
        want = hashlib.sha256((text + str(node.metadata)).encode("utf-8", "surrogatepass")).hexdigest()
        assert store.get_document_hash(str(n)) == want == node.hash


# -- memory -------------------------------------------------------------------------------


def test_a_failed_allocation_is_a_memory_error() -> None:
    testcapi = pytest.importorskip("_testcapi")
    text = bytes(_core.encode_node(plain(Document)))
    want = state(_core.decode_node(text))
    for n in range(1, 2000):
        testcapi.set_nomemory(n, 0)  # from the n-th on
        try:
            built = _core.decode_node(text)
        except MemoryError:
            built = None
        finally:
            testcapi.remove_mem_hooks()
        assert built is None or state(built) == want
        if built is not None:
            return
    pytest.fail("never succeeded")


def test_readers_are_checked() -> None:
    for wrong in ((), ({}, 1, None, ()), ({}, (TextNode,), None, ()), ({"1": 5}, (), None, ())):
        with pytest.raises((TypeError, ValueError)):
            _core.decode_node(b"{}", wrong)
    with pytest.raises(RuntimeError):
        _core.set_node_readers(({}, (), None, ()))
    with pytest.raises(ValueError, match="plan"):
        _core.encode_node(plain(TextNode), ())


def test_nodes_that_follow_one_another_share_only_what_is_alike() -> None:
    """Numbers that begin alike, keys in another order, fewer and more of them, a value that
    comes twice and then not: each node is built from its own text."""
    metadata: List[Dict[str, Any]] = [
        {"a": 1, "b": "x", "c": None},
        {"a": 12, "b": "x", "c": None},
        {"a": 1, "b": "xy", "c": None},
        {"a": 1.5, "b": "x", "c": True},
        {"a": 1, "c": None, "b": "x"},
        {"a": 1, "b": "x"},
        {"a": 1, "b": "x", "c": None, "d": 10**30},
        {},
        {"a": -1, "b": 1, "c": "1"},
        {"a": True, "b": 1, "c": "1"},
        {str(i): i for i in range(40)},
        {str(i): i + 1 for i in range(40)},
        {"a": "\u00e9", "b": "\U0001f600" * 3},
    ]
    for one in metadata * 2:
        for two in metadata[:6]:
            source = RelatedNodeInfo(node_id="s", metadata=two)
            node = TextNode(id_="n", text="t\U0001f600" + "a" * 40 + "\n" + "\u00e9" * 3, metadata=one)
            node.relationships[NodeRelationship.SOURCE] = source
            text = bytes(_core.encode_node(node))
            built, want = _core.decode_node(text), the_peers(text)
            assert state(built) == state(want)
            built.metadata["mine"] = 1
            built.relationships[NodeRelationship.SOURCE].metadata["mine"] = 1


def test_an_unknown_pydantic_costs_the_fast_way_and_nothing_else(monkeypatch):
    """Readers that the core does not take are done without, when pannier is imported."""

    class Core:
        plans: dict = {}

        def __getattr__(self, name):
            return getattr(_core, name)

        def set_node_readers(self, readers):
            raise ValueError("not a node reader: slots")

        def set_node_plans(self, types, plans):
            Core.plans = plans

    monkeypatch.setattr(_nodeplan, "_core", Core())
    _nodeplan._install_plans()
    assert TextNode in Core.plans
