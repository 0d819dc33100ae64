"""The document stores, every public call, against the peer (with the documented fixes)."""

from __future__ import annotations

import json
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.core.schema import Document, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore
from llama_index.core.storage.docstore.simple_docstore import SimpleDocumentStore
from llama_index.core.storage.docstore.types import BaseDocumentStore, RefDocInfo

import oracle
from oracle import (
    SIDES,
    LoggingKV,
    Raised,
    assert_same,
    chunk,
    clone,
    doc,
    dumps,
    impl,
    load,
    outcome,
    peer,
    persisted,
    raw,
    run,
    same,
    same_bytes,
)


class Names(dict):
    """A dict that is not exactly one."""


def batch():
    """Two source documents with their chunks, a lone chunk, and a chunk of a third source."""
    return [
        doc("d0", "first", author="a"),
        chunk("n0", "d0", page=1, tags=["x"]),
        chunk("n1", "d0", page=2),
        doc("d1", "second"),
        chunk("n2", "d1", lang="\u00e9"),
        chunk("n3", None, lone=True),
        chunk("n4", "far", deep={"a": [1, {"b": 2}]}),
    ]


def fresh(docs=None):
    pair = tuple(side.SimpleDocumentStore() for side in SIDES)
    for store in pair:
        if docs:
            store.add_documents(clone(docs))
    return pair


def loaded(docs=None):
    """Stores whose every value is still text from a file."""
    text = persisted(fresh(batch() if docs is None else docs)[0])
    return tuple(load(side.SimpleDocumentStore, text) for side in SIDES)


def from_dict(docs=None):
    data = fresh(batch() if docs is None else docs)[0].to_dict()
    return tuple(side.SimpleDocumentStore.from_dict(clone(data)) for side in SIDES)


def over_raw_kv(docs=None):
    """A peer's KV store below, on both sides."""
    pair = tuple(side.SimpleDocumentStore(raw.SimpleKVStore()) for side in SIDES)
    for store in pair:
        store.add_documents(clone(batch() if docs is None else docs))
    return pair


MAKERS = {"fresh": lambda d=None: fresh(batch() if d is None else d), "loaded": loaded, "from_dict": from_dict, "raw_kv": over_raw_kv}


@pytest.fixture(params=list(MAKERS))
def pair(request):
    return MAKERS[request.param]()


def collections(store):
    return {name: dict(values) for name, values in store._kvstore.to_dict().items()}


def same_state(a, b):
    return same_bytes(a, b)


# -- what it is -----------------------------------------------------------------------


def test_is_accepted_where_the_peers_stores_are():
    store = impl.SimpleDocumentStore()
    assert isinstance(store, (SimpleDocumentStore,)) and isinstance(store, KVDocumentStore)
    assert isinstance(store, BaseDocumentStore)
    assert isinstance(impl.KVDocumentStore(impl.SimpleKVStore()), KVDocumentStore)
    assert isinstance(store._kvstore, impl.SimpleKVStore)
    assert bool(store) and not hasattr(type(store), "__len__")


def test_names_that_callers_reach_for():
    for make in (
        lambda s: s.SimpleDocumentStore(),
        lambda s: s.SimpleDocumentStore(namespace="mine"),
        lambda s: s.KVDocumentStore(s.SimpleKVStore(), "ns", 3, "/n", "/r", "/m"),
        lambda s: s.KVDocumentStore(s.SimpleKVStore(), namespace="", batch_size=2),
    ):
        a, b = (make(side) for side in SIDES)
        for name in (
            "_namespace _node_collection _metadata_collection _ref_doc_collection _batch_size "
            "_node_collection_suffix _ref_doc_collection_suffix _metadata_collection_suffix"
        ).split():
            assert_same(getattr(a, name), getattr(b, name))


# -- adding ---------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_add_and_read_everything(asynchronous):
    a, b = fresh()
    if asynchronous:
        same(lambda s: s.async_add_documents(batch()), a, b)
    else:
        same(lambda s: s.add_documents(batch()), a, b)
    same_state(a, b)
    same(lambda s: s.docs, a, b)
    same(lambda s: s.get_all_ref_doc_info(), a, b)
    same(lambda s: s.get_all_document_hashes(), a, b)
    same(collections, a, b)
    same_state(a, b)


def test_collections_appear_in_the_peers_order():
    for docs in ([chunk("n0", "d0")], [chunk("n0", None)], [doc("d0")], [], [chunk("n0", None), chunk("n1", "d0")]):
        for how in ("add_documents", "async_add_documents"):
            for kwargs in ({}, {"store_text": False}, {"allow_update": False}):
                a, b = fresh()
                same(lambda s: getattr(s, how)(clone(docs), **kwargs), a, b)
                same_state(a, b)
    for call in ("get_all_ref_doc_info", "get_all_document_hashes"):
        a, b = fresh()
        same(lambda s: getattr(s, call)(), a, b)
        same(lambda s: list(s.docs), a, b)
        same_state(a, b)


@pytest.mark.parametrize("batch_size", [None, 0, 1, 2, 100])
def test_batch_sizes(batch_size):
    a, b = fresh()
    same(lambda s: s.add_documents(batch(), batch_size=batch_size), a, b)
    same(lambda s: s.async_add_documents(batch()[:3], batch_size=batch_size), a, b)
    same_state(a, b)
    a, b = (side.SimpleDocumentStore(batch_size=7) for side in SIDES)
    same(lambda s: s.add_documents(batch()), a, b)
    same_state(a, b)


def test_add_takes_any_sequence(pair):
    a, b = pair
    same(lambda s: s.add_documents(()), a, b)
    same(lambda s: s.add_documents(tuple(batch()[:2])), a, b)
    same(lambda s: s.add_documents([chunk("n9", "d0")], True, 1, True), a, b)
    same(lambda s: s.add_documents(docs=[chunk("n10", "d0")], allow_update=True, batch_size=1, store_text=True), a, b)
    same(lambda s: s.add_documents(iter([chunk("n11", "d1")])), a, b)
    same_state(a, b)


@pytest.mark.parametrize("bad", [None, 5, ["text"], [None], [{"id_": "x"}]], ids=repr)
def test_add_of_something_else_changes_nothing(pair, bad):
    a, b = pair
    before = persisted(b)
    expected, _ = same(lambda s: s.add_documents(bad), a, b)
    assert isinstance(expected, Raised)
    assert persisted(b) == before
    same_state(a, b)


def test_overwriting_keeps_the_place(pair):
    a, b = pair
    same(lambda s: s.add_documents([chunk("n1", "d0", "new text", new=1), doc("d0", "again"), chunk("n9", "d0")]), a, b)
    same_state(a, b)
    same(lambda s: list(s.docs), a, b)


def test_duplicates_in_one_batch(pair):
    a, b = pair
    twice = [chunk("n1", "d0", "one", v=1), chunk("n1", "d0", "two", v=2), chunk("x", "new", a=1), chunk("x", "new", b=2)]
    same(lambda s: s.add_documents(clone(twice)), a, b)
    same_state(a, b)
    same(lambda s: s.get_ref_doc_info("new"), a, b)
    # no error even when updates are refused: the check looks at the store only
    fresh_twice = [chunk("y", "new", a=1), chunk("y", "other", b=2)]
    same(lambda s: s.add_documents(clone(fresh_twice), allow_update=False), a, b)
    same_state(a, b)


@pytest.mark.parametrize("how", ["add_documents", "async_add_documents"])
def test_a_refused_add_changes_nothing(pair, how):
    a, b = pair
    before = collections(a)
    for docs in (
        [chunk("n0", "d0")],
        [chunk("new", "d0"), chunk("n0", "d0")],
        [chunk("new", "d0"), chunk("new2", "brand new"), chunk("n4", "far")],
    ):
        expected, got = same(lambda s: getattr(s, how)(clone(docs), allow_update=False), a, b)
        assert str(got.exc) == f"node_id {docs[-1].node_id} already exists. Set allow_update to True to overwrite."
    assert collections(b) == before
    same_state(a, b)
    same(lambda s: s.get_all_ref_doc_info(), a, b)


def test_a_refused_add_did_change_the_peers_ref_doc_info():
    """What the fix is about; when this fails the row in docs/differences.md can go."""
    store = raw.SimpleDocumentStore()
    store.add_documents(batch())
    with pytest.raises(ValueError):
        store.add_documents([chunk("new", "d0"), chunk("n0", "d0")], allow_update=False)
    assert "new" in store.get_ref_doc_info("d0").node_ids


def test_allow_update_false_takes_new_nodes(pair):
    a, b = pair
    same(lambda s: s.add_documents([chunk("new", "d0"), doc("dn")], allow_update=False), a, b)
    same(lambda s: s.add_documents([chunk("new", "d0")], allow_update=False, store_text=False), a, b)
    same_state(a, b)


def test_store_text_false(pair):
    a, b = pair
    same(lambda s: s.add_documents([chunk("hidden", "d0", k=1), chunk("n0", "d0", "x")], store_text=False), a, b)
    same_state(a, b)
    for name in ("get_document", "get_ref_doc_info", "get_document_hash", "document_exists", "ref_doc_exists"):
        same(lambda s: getattr(s, name)("hidden"), a, b)
    same(lambda s: s.delete_document("hidden"), a, b)
    same_state(a, b)


def test_a_list_as_source_is_refused(pair):
    a, b = pair
    odd = TextNode(id_="odd", text="t", relationships={NodeRelationship.SOURCE: [RelatedNodeInfo(node_id="d0")]})
    expected, _ = same(lambda s: s.add_documents([chunk("new", "d0"), odd]), a, b)
    assert isinstance(expected.exc, ValueError)
    same_state(a, b)
    same(lambda s: s.async_add_documents([chunk("new", "d0"), odd]), a, b)
    same_state(a, b)


@pytest.mark.parametrize("how", ["add_documents", "async_add_documents"])
def test_the_first_bad_node_of_a_batch_is_the_one_that_is_told(pair, how):
    a, b = pair
    listed = TextNode(id_="odd", text="t", relationships={NodeRelationship.SOURCE: [RelatedNodeInfo(node_id="d0")]})
    unserializable = IndexNode(id_="odd", text="t", index_id="i", obj=oracle.Unserializable())
    taken = chunk("n0", "d0")
    for docs in (
        [listed, taken],
        [taken, listed],
        [unserializable, taken],
        [chunk("new", "d0"), unserializable, listed, taken],
        [chunk("new", "d0"), taken, unserializable],
    ):
        expected, _ = same(lambda s: getattr(s, how)(list(docs), allow_update=False), a, b)
        assert isinstance(expected, Raised)
        same_state(a, b)


def test_an_index_node_whose_object_does_not_serialize(pair):
    a, b = pair
    odd = IndexNode(id_="odd", text="t", index_id="i", obj=oracle.Unserializable())
    same(lambda s: s.add_documents([chunk("new", "d0"), odd]), a, b)
    same_state(a, b)


def test_empty_source_id(pair):
    a, b = pair
    same(lambda s: s.add_documents([chunk("e", "", a=1), chunk("e2", "", b=2)]), a, b)
    same(lambda s: s.get_ref_doc_info(""), a, b)
    same_state(a, b)
    same(lambda s: s.delete_document("e"), a, b)
    same_state(a, b)


def test_ref_doc_info_merges_metadata_as_the_peer_does(pair):
    a, b = pair
    same(lambda s: s.add_documents([chunk("m0", "new"), chunk("m1", "new", a=1), chunk("m2", "new", a=2, b={"c": [1]})]), a, b)
    same(lambda s: s.get_ref_doc_info("new"), a, b)
    same(lambda s: s.add_documents([chunk("m3", "new", a=3, z=1)]), a, b)
    same(lambda s: s.get_ref_doc_info("new"), a, b)
    same(lambda s: s.add_documents([chunk("p0", "plain")]), a, b)
    same(lambda s: s.add_documents([chunk("p1", "plain", late=1), chunk("p0", "plain", later=1)]), a, b)
    same(lambda s: s.get_ref_doc_info("plain"), a, b)
    same_state(a, b)


def test_a_node_may_move_to_another_source(pair):
    a, b = pair
    same(lambda s: s.add_documents([chunk("n0", "d1"), chunk("n1", None)]), a, b)
    same(lambda s: s.get_all_ref_doc_info(), a, b)
    same_state(a, b)
    same(lambda s: s.delete_ref_doc("d0"), a, b)
    same_state(a, b)


def test_the_node_itself_is_not_shared():
    for side in SIDES:
        store = side.SimpleDocumentStore()
        node = chunk("n0", "d0", tags=["a"])
        store.add_documents([node])
        node.metadata["tags"].append("b")
        node.text = "changed"
        assert store.get_document("n0").text == "text"
        assert store.get_document("n0").metadata == {"tags": ["a"]}
        assert store.get_ref_doc_info("d0").metadata == {"tags": ["a"]}


# -- reading --------------------------------------------------------------------------

IDS = ["d0", "n0", "n3", "far", "missing", "", None]


@pytest.mark.parametrize("key", IDS, ids=repr)
@pytest.mark.parametrize(
    "name",
    "get_document aget_document get_node aget_node get_ref_doc_info aget_ref_doc_info get_document_hash "
    "aget_document_hash document_exists adocument_exists ref_doc_exists aref_doc_exists _get_ref_doc_id".split(),
)
def test_read_one(pair, name, key):
    a, b = pair
    same(lambda s: getattr(s, name)(key), a, b)
    if name in ("get_document", "aget_document", "get_node", "aget_node"):
        same(lambda s: getattr(s, name)(key, raise_error=False), a, b)
        same(lambda s: getattr(s, name)(key, False), a, b)
    same_state(a, b)


def test_read_many(pair):
    a, b = pair
    for call in (
        lambda s: s.get_nodes(["n0", "d0", "n0"]),
        lambda s: s.get_nodes(["n0", "missing"]),
        lambda s: s.get_nodes(["n0", "missing", "n1"], raise_error=False),
        lambda s: s.get_nodes([]),
        lambda s: s.aget_nodes(["n0", "d0"]),
        lambda s: s.aget_nodes(["missing"]),
        lambda s: s.aget_nodes(["missing"], raise_error=False),
        lambda s: s.get_node_dict({3: "n0", 1: "d1"}),
        lambda s: s.get_node_dict({3: "missing"}),
        lambda s: s.aget_node_dict({3: "n0", 1: "d1"}),
        lambda s: s.get_all_ref_doc_info(),
        lambda s: s.aget_all_ref_doc_info(),
        lambda s: s.get_all_document_hashes(),
        lambda s: s.aget_all_document_hashes(),
        lambda s: {**s.docs},
        lambda s: list(s.docs.items()),
        lambda s: list(s.docs.values()),
        lambda s: len(s.docs),
        lambda s: ("n0" in s.docs, "missing" in s.docs, bool(s.docs)),
        lambda s: s.docs["missing"],
        lambda s: s.docs.get("missing", 5),
        lambda s: s.docs["n4"],
    ):
        same(call, a, b)
    same_state(a, b)


def test_results_are_of_the_peers_types(pair):
    _, b = pair
    assert type(b.get_document("n0")) is TextNode
    assert type(b.get_document("d0")) is Document
    info = b.get_ref_doc_info("d0")
    assert type(info) is RefDocInfo and type(info.node_ids) is list and type(info.metadata) is dict
    assert type(b.get_all_ref_doc_info()) is dict
    assert type(b.get_all_document_hashes()) is dict


def test_docs_is_a_snapshot_with_one_object_a_key(pair):
    for store in pair:
        docs = store.docs
        assert docs["n0"] is docs["n0"]
        assert docs is not store.docs
        first = {key: docs[key] for key in docs}
        store.delete_document("n0")
        store.add_documents([chunk("later", None), chunk("n1", "d0", "changed")])
        assert "later" not in docs and "n0" in docs
        assert list(docs) == list(first)
        assert docs["n1"].text == "text"
        assert all(docs[key] is first[key] for key in docs)


def test_docs_of_an_unread_snapshot_is_as_it_was(pair):
    """Nodes that nobody has asked for yet are still those of the moment ``docs`` was taken."""
    for store in pair:
        docs = store.docs
        store.delete_document("n0")
        store.add_documents([chunk("n1", "d0", "changed")])
        assert docs["n0"].text == docs["n1"].text == "text"
        assert len(docs) == 7


def test_a_walk_through_docs_hands_out_the_one_object_of_each_key(pair):
    for store in pair:
        docs = store.docs
        early = docs["n1"]
        nodes, pairs = list(docs.values()), dict(docs.items())
        assert list(pairs) == list(docs) and pairs["n1"] is early
        assert all(docs[key] is node is pairs[key] for key, node in zip(docs, nodes))
        assert len(docs.values()) == len(docs.items()) == len(nodes)
        assert nodes[0] in docs.values() and ("n1", early) in docs.items() and ("n2", early) not in docs.items()


def test_what_a_walk_through_docs_built_ahead_is_replaced_and_removed(pair):
    a, b = pair
    for store in pair:
        docs, met = store.docs, []
        walk = iter(docs.items())
        for _ in range(3):
            met.append(next(walk)[0])
        docs["n3"] = "mine"  # the walk has come to n1; n3 is built by now
        store.delete_document("n2")
        rest = dict(walk)
        assert rest["n3"] == docs["n3"] == "mine" and rest["n2"].text == "text"
        assert met + list(rest) == list(docs)
        walk = iter(docs.values())
        next(walk)
        del docs["n4"]
        with pytest.raises(RuntimeError, match="changed size"):
            next(walk)
        assert "n4" not in docs and store.document_exists("n4")
    same_state(a, b)


def test_a_walk_through_docs_meets_an_odd_entry_in_its_turn():
    """Nodes before it are handed out first; LlamaIndex refuses the whole ``docs`` at once."""
    store = impl.SimpleDocumentStore()
    store.add_documents(batch())
    data = store.to_dict()
    data["docstore/data"]["n1"]["__type__"] = "no such"
    store = load(impl.SimpleDocumentStore, dumps(data))
    walk, met = iter(store.docs.values()), []
    with pytest.raises(ValueError, match="no such"):
        for node in walk:
            met.append(node.node_id)
    assert met == ["d0", "n0"]


def test_a_walk_through_many_docs_builds_each_once():
    many = [chunk(f"m{i}", "d0", page=i) if i % 7 else chunk(f"m{i}", "d0", deep={"a": [i]}) for i in range(1500)]
    a, b = fresh(many)
    same(lambda s: list(s.docs.values()), a, b)
    docs = b.docs
    assert [id(n) for n in docs.values()] == [id(n) for _, n in docs.items()] == [id(docs[k]) for k in docs]


def test_docs_may_be_edited_and_added_back(pair):
    a, b = pair
    for store in pair:
        for key, node in store.docs.items():
            node.metadata["edited"] = key
            node.metadata.setdefault("tags", []).append("t")
            if isinstance(node, TextNode):
                node.text += "!"
            store.add_documents([node])
    same_state(a, b)
    same(lambda s: s.docs, a, b)


def test_deleting_while_looping_over_docs(pair):
    a, b = pair
    for store in pair:
        for key in store.docs:
            store.delete_document(key, raise_error=False)
        assert len(store.docs) == 0
    same_state(a, b)


def test_changing_the_dict_of_docs_is_not_the_store(pair):
    for store in pair:
        docs = dict(store.docs)
        del docs["n0"]
        assert store.document_exists("n0")


# -- hashes ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "a"])
def test_set_document_hash_replaces_the_entry(pair, prefix):
    a, b = pair
    same(lambda s: getattr(s, f"{prefix}set_document_hash")("n0", "HASH"), a, b)
    same(lambda s: s.get_document_hash("n0"), a, b)
    same(lambda s: s._kvstore.get("n0", s._metadata_collection), a, b)
    assert b._kvstore.get("n0", b._metadata_collection) == {"doc_hash": "HASH"}
    same(lambda s: getattr(s, f"{prefix}set_document_hash")("unknown", "H2"), a, b)
    same(lambda s: getattr(s, f"{prefix}set_document_hashes")({"n1": "H3", "d0": "H3", "new": ""}), a, b)
    same(lambda s: s.get_all_document_hashes(), a, b)
    same_state(a, b)
    # the source is not known any more, so its info keeps the id
    same(lambda s: s.delete_document("n0"), a, b)
    same_state(a, b)


def test_hashes_of_a_store_with_a_batch_size():
    a, b = (side.SimpleDocumentStore(batch_size=10) for side in SIDES)
    same(lambda s: s.set_document_hashes({"a": "1", "b": "2"}), a, b)
    same(lambda s: s.aset_document_hashes({"c": "1"}), a, b)
    same_state(a, b)


def test_the_last_one_of_equal_hashes_wins(pair):
    a, b = pair
    same(lambda s: s.add_documents([chunk("twin1", None), chunk("twin2", None)]), a, b)
    hashes, _ = same(lambda s: s.get_all_document_hashes(), a, b)
    assert "twin2" in hashes.values() and "twin1" not in hashes.values()


@pytest.mark.parametrize("value", [5, None, ["x"], "\ud800"], ids=repr)
def test_hashes_of_any_type(pair, value):
    a, b = pair
    same(lambda s: s.set_document_hash("n0", value), a, b)
    same(lambda s: s.get_document_hash("n0"), a, b)
    same(lambda s: s.get_all_document_hashes(), a, b)
    same_state(a, b)


# -- deleting -------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("raise_error", [True, False])
@pytest.mark.parametrize("key", ["n0", "n2", "d0", "n3", "n4", "missing", "far"])
def test_delete_document(pair, asynchronous, raise_error, key):
    a, b = pair
    name = "adelete_document" if asynchronous else "delete_document"
    same(lambda s: getattr(s, name)(key, raise_error=raise_error), a, b)
    same_state(a, b)
    same(lambda s: s.get_all_ref_doc_info(), a, b)
    same(lambda s: getattr(s, name)(key, raise_error), a, b)
    same_state(a, b)


def test_async_delete_does_what_the_sync_one_does(pair):
    a, b = pair
    for key in ("n0", "n2", "n4"):
        b_sync = clone(b)
        b_sync.delete_document(key)
        run(b.adelete_document(key))
        assert persisted(b) == persisted(b_sync)


def test_async_delete_left_stale_ids_in_the_peer():
    store = raw.SimpleDocumentStore()
    store.add_documents(batch())
    run(store.adelete_document("n0"))
    assert "n0" in store.get_ref_doc_info("d0").node_ids


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("raise_error", [True, False])
@pytest.mark.parametrize("key", ["d0", "d1", "far", "n0", "missing"])
def test_delete_ref_doc(pair, asynchronous, raise_error, key):
    a, b = pair
    name = "adelete_ref_doc" if asynchronous else "delete_ref_doc"
    same(lambda s: getattr(s, name)(key, raise_error=raise_error), a, b)
    same_state(a, b)
    same(lambda s: s.docs, a, b)
    same(lambda s: getattr(s, name)(key, raise_error), a, b)
    same_state(a, b)


def test_messages(pair):
    _, b = pair
    for call, text in (
        (lambda: b.get_document("X"), "doc_id X not found."),
        (lambda: b.delete_document("X"), "doc_id X not found."),
        (lambda: b.delete_ref_doc("X"), "ref_doc_id X not found."),
        (lambda: b.get_nodes(["X"]), "doc_id X not found."),
    ):
        with pytest.raises(ValueError) as got:
            call()
        assert str(got.value) == text and type(got.value) is ValueError


def test_deleting_the_last_child_deletes_the_source(pair):
    a, b = pair
    same(lambda s: s.delete_document("n0"), a, b)
    assert b.document_exists("d0")
    same(lambda s: s.delete_document("n1"), a, b)
    assert not b.document_exists("d0") and not b.ref_doc_exists("d0")
    same_state(a, b)


def test_deleting_while_looping_over_ref_doc_info(pair):
    a, b = pair
    for store in pair:
        for node_id in store.get_ref_doc_info("d0").node_ids:
            store.delete_document(node_id)
        assert not store.document_exists("n0") and not store.document_exists("n1")
    same_state(a, b)


def test_deleting_while_looping_skipped_entries_in_the_peer():
    store = raw.SimpleDocumentStore()
    store.add_documents(batch())
    for node_id in store.get_ref_doc_info("d0").node_ids:
        store.delete_document(node_id)
    assert store.document_exists("n1")


def test_a_large_document_is_added_and_deleted_alike():
    a, b = fresh()
    for store in (a, b):
        for i in range(0, 300, 50):
            store.add_documents([chunk(f"n{j}", "big", v=j) for j in range(i, i + 50)])
        for i in range(0, 300, 3):
            store.delete_document(f"n{i}")
        store.add_documents([chunk(f"n{i}", "big") for i in (0, 150, 299)])
    same(lambda s: s.get_ref_doc_info("big"), a, b)
    same_state(a, b)
    for store in (a, b):
        store.delete_ref_doc("big")
    same_state(a, b)


# -- aliasing: what is changed in what was handed out --------------------------------------


def test_nested_metadata_of_a_node_is_the_stores(pair):
    """In the peer a node is built around the stored values, and so is ours."""
    a, b = pair
    for store in pair:
        node = store.get_document("n0")
        node.metadata["tags"].append("y")
        node.metadata["top"] = 1
        store.get_document("n4").metadata["deep"]["a"][1]["b"] = 3
    same(lambda s: s.get_document("n0"), a, b)
    same(lambda s: s.get_document("n4"), a, b)
    same_state(a, b)


def test_nested_metadata_of_docs_is_the_stores(pair):
    a, b = pair
    for store in pair:
        docs = store.docs
        docs["n0"].metadata["tags"].append("y")
        docs["n4"].metadata["deep"]["a"].append("z")
    same(lambda s: s.get_document("n0"), a, b)
    same_state(a, b)


def test_metadata_of_ref_doc_info_is_the_stores(pair):
    a, b = pair
    for store in pair:
        info = store.get_ref_doc_info("d0")
        info.metadata["added"] = [1]
        info.metadata["tags"].append("z")
        info.metadata["added"].append(2)
    same(lambda s: s.get_ref_doc_info("d0"), a, b)
    same_state(a, b)
    for store in pair:
        infos = store.get_all_ref_doc_info()
        infos["far"].metadata["deep"]["new"] = 1
        infos["d1"].metadata.clear()
    same_state(a, b)


def test_held_ref_doc_info_is_let_go_when_the_entry_is_written(pair):
    a, b = pair
    held = []
    for store in pair:
        info = store.get_ref_doc_info("d0")
        store.delete_document("n1")
        info.metadata["late"] = 1
        held.append(info)
    same(lambda s: s.get_ref_doc_info("d0"), a, b)
    same_state(a, b)


def test_public_get_of_ref_doc_info_and_its_mutation(pair):
    a, b = pair
    for store in pair:
        got = store._kvstore.get("d0", store._ref_doc_collection)
        got["node_ids"].append("ghost")
        got["metadata"]["x"] = {"y": [1]}
        got["top"] = "lost"
    same(lambda s: s.get_ref_doc_info("d0"), a, b)
    same_state(a, b)
    same(lambda s: s.add_documents([chunk("n9", "d0")]), a, b)
    same_state(a, b)
    same(lambda s: s.delete_ref_doc("d0"), a, b)
    same_state(a, b)


def test_get_all_of_ref_doc_info_and_its_mutation(pair):
    a, b = pair
    for store in pair:
        everything = store._kvstore.get_all(store._ref_doc_collection)
        everything["d0"]["node_ids"].remove("n0")
        everything["d1"]["node_ids"] = ["n2", "n2", "other"]
        everything["far"]["metadata"] = None
    for call in (
        lambda s: s.get_all_ref_doc_info(),
        lambda s: s.add_documents([chunk("n8", "d1", a=1), chunk("n9", "far", b=2)]),
        lambda s: s.get_all_ref_doc_info(),
        lambda s: s.delete_document("n0"),
        lambda s: s.delete_document("n2"),
        lambda s: s.delete_document("n4"),
    ):
        same(call, a, b)
        same_state(a, b)


def test_raw_values_put_by_hand(pair):
    """Somebody writes the collections directly; the document store takes what it finds."""
    a, b = pair
    for key, value in {
        "d0": {"node_ids": ["n0"], "metadata": {}, "extra": 1},
        "d1": {"node_ids": []},
        "far": {"metadata": {"only": 1}},
        "e": {},
        "dup": {"node_ids": ["n0", "n0", "x"], "metadata": {"k": 1}},
        "odd": {"node_ids": ("n0", 5), "metadata": {"t": (1, 2)}},
        "none": {"node_ids": None, "metadata": None},
    }.items():
        for s in pair:
            s._kvstore.put(key, clone(value), s._ref_doc_collection)
        same(lambda s: s.get_ref_doc_info(key), a, b)
        same(lambda s: s.add_documents([chunk(f"c{key}", key, m=1)]), a, b)
        same(lambda s: s.get_ref_doc_info(key), a, b)
        same_state(a, b)
        same(lambda s: s.delete_document(f"c{key}"), a, b)
        same(lambda s: s.delete_ref_doc(key), a, b)
        same_state(a, b)


@pytest.mark.parametrize(
    "entry",
    [
        {"__data__": {"text": "x"}, "__type__": "nonsense"},
        {"__data__": {"text": "x", "id_": "q", "class_name": "TextNode"}, "__type__": "1"},
        {"__data__": {"text": "x", "id_": "q"}, "__type__": 1},
        {"__data__": {}, "__type__": "4"},
        {"__data__": {"class_name": "Document", "text": "x", "id_": "q"}, "__type__": "4"},
        {"__data__": {"class_name": "Document", "text": None, "text_resource": {"text": "y"}, "id_": "q"}, "__type__": "4"},
        {"__data__": {"id_": 5, "text": "x"}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "unknown": [1]}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "metadata": {"a": [1]}, "relationships": {"1": {"node_id": "r"}}}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "relationships": {"9": {"node_id": "r"}}}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "relationships": {"5": [{"node_id": "r", "node_type": "1"}]}}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "embedding": [1, 2.5]}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "embedding": "no"}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "start_char_idx": "7", "end_char_idx": 1.0}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "metadata_seperator": "|"}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "metadata_separator": "|", "metadata_template": "{key}"}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "\ud800"}, "__type__": "1"},
        {"__data__": {"id_": "q", "text_resource": {"text": "via resource"}}, "__type__": "1"},
        {"__data__": {"id_": "q", "text": "x", "index_id": "i", "obj": {"__data__": {"text": "in"}, "__type__": "1"}}, "__type__": "3"},
        {"__data__": {"id_": "q", "text": "x", "index_id": "i", "obj": "word"}, "__type__": "3"},
        {"__data__": {"id_": "q", "text": "x", "image": "aGk=", "image_path": "a.png"}, "__type__": "2"},
        {"__data__": {"id_": "q", "text_resource": {"text": "t", "embeddings": {"dense": [1]}}, "image_resource": None}, "__type__": "5"},
        {"__data__": {"text": "old", "doc_id": "q", "extra_info": {"a": 1}, "relationships": {"1": "src"}}, "__type__": "1"},
        {"__data__": {"text": "old", "doc_id": "q", "extra_info": None}, "__type__": "4"},
        {"__data__": {"text": "old", "extra_info": {}, "image": "aGk="}, "__type__": "2"},
        {"__data__": {"text": "old", "doc_id": "q", "extra_info": {}, "index_id": "i"}, "__type__": "3"},
        {"__data__": {"text": "old", "extra_info": {}}, "__type__": "TEXT"},
        {"__data__": {"text": "x"}},
        {"__type__": "1"},
        {"__data__": None, "__type__": "1"},
        {"__data__": [], "__type__": "1"},
        {"__data__": "text", "__type__": "1"},
    ],
    ids=lambda e: ascii(e)[:60],
)
def test_entries_of_every_kind(entry):
    text = dumps({"docstore/data": {"q": entry, "n": {"__data__": chunk("n", None).to_dict(), "__type__": "1"}}})
    a, b = (load(side.SimpleDocumentStore, text) for side in SIDES)
    same(lambda s: s.get_document("q"), a, b)
    same(lambda s: s.get_nodes(["n"]), a, b)
    same_state(a, b)
    same(lambda s: s.docs, a, b)
    same(lambda s: s.add_documents([s.get_document("n")]), a, b)
    same_state(a, b)


def test_unknown_doc_type_message():
    b = load(impl.SimpleDocumentStore, dumps({"docstore/data": {"q": {"__data__": {"a": 1}, "__type__": "X"}}}))
    with pytest.raises(ValueError, match="^Unknown doc type: X$"):
        b.get_document("q")


def test_legacy_ref_doc_info_is_migrated_in_place():
    data = {
        "docstore/ref_doc_info": {
            "old": {"doc_ids": ["n0", "n1"], "extra_info": {"a": [1]}},
            "older": {"doc_ids": [], "extra_info": {}, "x": 1},
            "new": {"node_ids": ["n2"], "metadata": {}},
        },
        "docstore/metadata": {"n0": {"doc_hash": "h", "ref_doc_id": "old"}, "n1": {"doc_hash": "i", "ref_doc_id": "old"}},
    }
    a, b = (load(side.SimpleDocumentStore, dumps(data)) for side in SIDES)
    same(lambda s: s.get_ref_doc_info("old"), a, b)  # migrates a copy
    same_state(a, b)
    same(lambda s: s.delete_document("n0", raise_error=False), a, b)
    same_state(a, b)
    same(lambda s: s.get_all_ref_doc_info(), a, b)  # migrates the stored dict
    same_state(a, b)
    same(lambda s: s.add_documents([chunk("n3", "old"), chunk("n4", "older", z=1)]), a, b)
    same_state(a, b)
    broken = {"docstore/ref_doc_info": {"old": {"doc_ids": ["n0"]}}}
    a, b = (load(side.SimpleDocumentStore, dumps(broken)) for side in SIDES)
    same(lambda s: s.get_ref_doc_info("old"), a, b)
    same(lambda s: s.get_all_ref_doc_info(), a, b)
    same_state(a, b)


def test_legacy_nodes_read_and_written_back():
    data = {
        "docstore/data": {
            "n0": {
                "__data__": {"text": "t", "doc_id": "n0", "extra_info": {"a": [1]}, "relationships": {"1": "d0"}},
                "__type__": "1",
            }
        }
    }
    a, b = (load(side.SimpleDocumentStore, dumps(data)) for side in SIDES)
    same(lambda s: s.get_document("n0"), a, b)
    for s in (a, b):
        s.get_document("n0").metadata["a"].append(2)
    same_state(a, b)
    same(lambda s: s.add_documents(list(s.docs.values())), a, b)
    same_state(a, b)


# -- stores below and beside ---------------------------------------------------------------


def test_namespaces_and_suffixes():
    for make in (
        lambda s, kv: s.SimpleDocumentStore(kv, namespace="mine"),
        lambda s, kv: s.KVDocumentStore(kv, "ns", 1, "_nodes", "_refs", "_meta"),
        lambda s, kv: s.KVDocumentStore(kv, namespace="\u00e9\ud800/"),
        lambda s, kv: s.KVDocumentStore(kv, "x", 1, "/same", "/same", "/other"),
    ):
        kvs = tuple(side.SimpleKVStore() for side in SIDES)
        a, b = (make(side, kv) for side, kv in zip(SIDES, kvs))
        same(lambda s: s.add_documents(batch()), a, b)
        same_bytes(*kvs)
        same(lambda s: s.get_document("n0"), a, b)
        same(lambda s: s.delete_ref_doc("d0"), a, b)
        same_bytes(*kvs)
    text = persisted(kvs[0])
    a, b = (load(side.SimpleDocumentStore, text, namespace="x") for side in SIDES)
    same(lambda s: s.get_all_ref_doc_info(), a, b)


def test_two_docstores_and_an_index_store_on_one_kv():
    from llama_index.core.data_structs.data_structs import IndexDict, KeywordTable

    kvs = tuple(side.SimpleKVStore() for side in SIDES)
    one = tuple(side.SimpleDocumentStore(kv) for side, kv in zip(SIDES, kvs))
    two = tuple(side.SimpleDocumentStore(kv, namespace="two") for side, kv in zip(SIDES, kvs))
    again = tuple(side.KVDocumentStore(kv) for side, kv in zip(SIDES, kvs))
    index = tuple(side.SimpleIndexStore(kv) for side, kv in zip(SIDES, kvs))
    same(lambda s: s.add_documents(batch()), *one)
    same(lambda s: s.add_documents(batch()[:3]), *two)
    same(lambda s: s.add_index_struct(IndexDict(index_id="i", nodes_dict={"a": "b"})), *index)
    same(lambda s: s.delete_document("n0"), *again)
    same(lambda s: s.docs, *one)
    same(lambda s: s.docs, *two)
    same(lambda s: s.get_all_ref_doc_info(), *again)
    same(lambda s: s.add_index_struct(KeywordTable(index_id="k", table={"w": {"a"}})), *index)
    same(lambda s: s.index_structs(), *index)
    same_bytes(*kvs)
    text = same_bytes(*one)
    kvs = tuple(load(side.SimpleKVStore, text) for side in SIDES)
    one = tuple(side.SimpleDocumentStore(kv) for side, kv in zip(SIDES, kvs))
    index = tuple(side.SimpleIndexStore(kv) for side, kv in zip(SIDES, kvs))
    same(lambda s: s.delete_ref_doc("d0"), *one)
    same(lambda s: s.index_structs(), *index)
    same(lambda s: s._kvstore.get("d1", "docstore/ref_doc_info"), *one)
    same_bytes(*kvs)


CALLS = [
    lambda s: s.add_documents(batch()),
    lambda s: s.async_add_documents(batch()[:3]),
    lambda s: s.add_documents(batch(), batch_size=5),
    lambda s: s.add_documents([chunk("n0", "d0")], allow_update=False),
    lambda s: s.get_document("n0"),
    lambda s: s.get_nodes(["n0", "missing"]),
    lambda s: s.docs,
    lambda s: s.get_all_ref_doc_info(),
    lambda s: s.aget_ref_doc_info("d0"),
    lambda s: s.get_all_document_hashes(),
    lambda s: s.set_document_hashes({"a": "b"}),
    lambda s: s.document_exists("n0"),
    lambda s: s.ref_doc_exists("d0"),
    lambda s: s.delete_document("n0"),
    lambda s: s.adelete_document("n1"),
    lambda s: s.adelete_document("zz"),
    lambda s: s.delete_ref_doc("d1"),
    lambda s: s.adelete_ref_doc("far"),
    lambda s: s.get_all_ref_doc_info(),
]


def test_a_users_own_kv_store_below_ours():
    kvs = LoggingKV(), LoggingKV()
    a, b = (side.KVDocumentStore(kv) for side, kv in zip(SIDES, kvs))
    for call in CALLS:
        same(call, a, b)
        # the same keys in the same collections, in the same order
        assert_same(kvs[0].inner.to_dict(), kvs[1].inner.to_dict())
    assert [entry[0] for entry in kvs[0].log] == [entry[0] for entry in kvs[1].log]


def test_a_simple_docstore_over_a_users_store_persists_nothing_and_has_no_dict(tmp_path):
    a, b = (side.SimpleDocumentStore(LoggingKV()) for side in SIDES)
    same(lambda s: s.persist(str(tmp_path / "x.json")), a, b)
    assert oracle.tree(tmp_path) == {}
    expected, _ = same(lambda s: s.to_dict(), a, b)
    assert isinstance(expected.exc, AssertionError)


def test_our_kv_store_below_the_peers_document_store():
    kvs = peer.SimpleKVStore(), impl.SimpleKVStore()
    a, b = (raw.KVDocumentStore(kv) for kv in kvs)
    for call in CALLS:
        same(call, a, b)
        same_bytes(*kvs)
    a, b = (raw.SimpleDocumentStore(kv) for kv in kvs)
    same(lambda s: s.to_dict(), a, b)
    same_bytes(a, b)
    text = persisted(a)
    kvs = load(peer.SimpleKVStore, text), load(impl.SimpleKVStore, text)
    a, b = (raw.KVDocumentStore(kv) for kv in kvs)
    for call in CALLS:
        same(call, a, b)
        same_bytes(*kvs)


def test_a_subclass_that_overrides_something_gets_its_way():
    for side in SIDES:
        seen = []

        class Mine(side.SimpleDocumentStore):
            def get_document(self, doc_id, raise_error=True):
                seen.append(doc_id)
                return super().get_document(doc_id, raise_error)

            def _get_kv_pairs_for_insert(self, node, ref_doc_info, store_text):
                pairs = super()._get_kv_pairs_for_insert(node, ref_doc_info, store_text)
                pairs[0][1]["__data__"]["metadata"]["stamp"] = 1
                return pairs

            def document_exists(self, doc_id):
                return doc_id == "always"

        store = Mine()
        store.add_documents(batch())
        assert store.get_nodes(["n0"])[0].metadata["stamp"] == 1
        assert seen == ["n0"]
        store.add_documents([chunk("n0", "d0")], allow_update=False)
        with pytest.raises(ValueError):
            store.add_documents([chunk("always", "d0")], allow_update=False)


def test_a_subclass_of_the_kv_store_sees_the_calls():
    logs = []
    for side in SIDES:

        class Counting(side.SimpleKVStore):
            def __init__(self, data=None):
                super().__init__(data)
                self.seen = []

            def put(self, key, val, collection="data"):
                self.seen.append(("put", key, collection))
                super().put(key, val, collection=collection)

            def get(self, key, collection="data"):
                self.seen.append(("get", key, collection))
                return super().get(key, collection=collection)

        kv = Counting()
        store = side.SimpleDocumentStore(kv)
        store.add_documents(batch())
        store.get_document("n0")
        store.delete_document("n0")
        logs.append(kv.seen)
    assert_same(*logs)


# -- persisting -----------------------------------------------------------------------


def test_persist_and_load_on_disk(tmp_path):
    a, b = fresh(batch())
    for s, name in ((a, "a"), (b, "b")):
        s.persist(str(tmp_path / name / "docstore.json"))
        s.persist(persist_path=str(tmp_path / name / "named.json"), fs=None)
    files = oracle.tree(tmp_path)
    assert files["a/docstore.json"] == files["b/docstore.json"] == files["b/named.json"]
    same(
        lambda s: s.docs,
        peer.SimpleDocumentStore.from_persist_dir(str(tmp_path / "b")),
        impl.SimpleDocumentStore.from_persist_dir(str(tmp_path / "a")),
    )
    fs = oracle.fsspec.filesystem("file")
    same(
        lambda s: s.to_dict(),
        peer.SimpleDocumentStore.from_persist_dir(str(tmp_path / "b"), fs=fs),
        impl.SimpleDocumentStore.from_persist_dir(str(tmp_path / "a"), namespace=None, fs=fs),
    )
    a, b = (outcome(side.SimpleDocumentStore.from_persist_dir, str(tmp_path / "nowhere")) for side in SIDES)
    assert type(a.exc) is type(b.exc) is FileNotFoundError


def test_default_persist_path(tmp_path, monkeypatch):
    for side, name in zip(SIDES, "ab"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        store = side.SimpleDocumentStore()
        store.add_documents(batch())
        store.persist()
        assert side.SimpleDocumentStore.from_persist_dir().get_document("n0").text == "text"
    assert {k[2:]: v for k, v in oracle.tree(tmp_path).items() if k[0] == "a"} == {
        k[2:]: v for k, v in oracle.tree(tmp_path).items() if k[0] == "b"
    }


def test_to_dict_is_the_store_from_then_on(pair):
    a, b = pair
    for _ in range(2):
        same(lambda s: s.to_dict(), a, b)
    for store in pair:
        data = store.to_dict()
        data[store._metadata_collection]["n0"]["doc_hash"] = "changed"
        data["another"] = {}
        assert store.get_document_hash("n0") == "changed" and "another" not in store.to_dict()
    same_state(a, b)


@pytest.mark.parametrize("on_class", [False, True])
def test_to_dict_calls_the_key_value_stores(pair, on_class):
    for store in pair:
        owner = type(store._kvstore) if on_class else store._kvstore
        with mock.patch.object(owner, "to_dict", lambda *_: {"replaced": {}}):
            assert store.to_dict() == {"replaced": {}}
        assert "replaced" not in store.to_dict()
        assert type(store).to_dict(store) == store.to_dict()
    same(lambda s: s.to_dict(5), *pair)


def test_to_dict_of_a_subclass():
    class Mine(impl.SimpleDocumentStore):
        def to_dict(self):
            return {"mine": super().to_dict()}

    store = Mine()
    store.add_documents(batch())
    assert set(store.to_dict()["mine"]) == {"docstore/ref_doc_info", "docstore/data", "docstore/metadata"}
    assert not hasattr(impl.KVDocumentStore, "to_dict")


def test_to_dict_and_from_dict_share_the_inner_dicts():
    for side in SIDES:
        store = side.SimpleDocumentStore()
        store.add_documents(batch())
        out = store.to_dict()
        other = side.SimpleDocumentStore.from_dict(out)
        other.delete_document("n0")
        assert not store.document_exists("n0")
        assert "n0" not in out["docstore/data"]
        out["docstore/data"].pop("n1")
        assert not store.document_exists("n1") and not other.document_exists("n1")
        assert json.loads(json.dumps(out)) == json.loads(persisted(store))


@pytest.mark.parametrize("text", [
    lambda d: json.dumps(d, indent=2),
    lambda d: json.dumps(d, separators=(",", ":")),
    lambda d: json.dumps(d, ensure_ascii=False),
    lambda d: json.dumps(d, sort_keys=True),
], ids=["pretty", "compact", "utf8", "sorted"])
def test_files_of_other_writers(text):
    data = text(json.loads(persisted(fresh(batch())[0]))).encode()
    a, b = (load(side.SimpleDocumentStore, data) for side in SIDES)
    same_state(a, b)
    same(lambda s: s.docs, a, b)
    same(lambda s: s.get_all_ref_doc_info(), a, b)
    same(lambda s: s.delete_document("n0"), a, b)
    same(lambda s: s.add_documents([chunk("n9", "d0", q=1)]), a, b)
    same_state(a, b)


@settings(max_examples=oracle.ROUNDS)
@given(st.lists(oracle.nodes(), max_size=5), st.booleans())
def test_nodes_of_every_class_round_trip(docs, store_text):
    a, b = fresh()
    same(lambda s: s.add_documents(clone(docs), store_text=store_text), a, b)
    text = same_state(a, b)
    same(lambda s: s.docs, a, b)
    same(lambda s: s.get_all_ref_doc_info(), a, b)
    same(lambda s: s.get_all_document_hashes(), a, b)
    if isinstance(text, Raised):
        return
    a, b = (load(side.SimpleDocumentStore, text) for side in SIDES)
    same_state(a, b)
    for node in docs:
        same(lambda s: s.get_document(node.node_id, raise_error=False), a, b)
    same(lambda s: s.docs, a, b)
    same_state(a, b)


# -- what is kept from one call to the next ----------------------------------------------------


def live_hash(store):
    """Somebody holds the stored entry itself, and changes it."""
    store._kvstore.get_all(store._metadata_collection)["n1"]["doc_hash"] = "changed in place"


CHANGES = {
    "set": lambda s: s.set_document_hash("n0", "new hash"),
    "set_many": lambda s: s.set_document_hashes({"n1": "x", "more": "y"}),
    "over": lambda s: s.add_documents([chunk("n0", "d0", page=9)]),
    "add": lambda s: s.add_documents([chunk("n9", "d0")]),
    "other": lambda s: s.add_documents([chunk("n9", "d9")]),
    "delete": lambda s: s.delete_document("n1"),
    "delete_source": lambda s: s.delete_ref_doc("d0"),
    "put": lambda s: s._kvstore.put("n0", {"doc_hash": "put"}, s._metadata_collection),
    "put_info": lambda s: s._kvstore.put("d0", {"node_ids": ["z"], "metadata": {}}, s._ref_doc_collection),
    "remove": lambda s: s._kvstore.delete("n0", s._metadata_collection),
    "live": live_hash,
    "drop": lambda s: s._kvstore._collections_mappings.__delitem__(s._metadata_collection),
}


def kept_answers(store):
    return [store.get_all_document_hashes(), store.get_all_ref_doc_info(), store.get_ref_doc_info("d0")]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("then", ["set", "delete", "add"])
def test_answers_that_are_kept_follow_every_change(pair, change, then):
    a, b = pair
    for call in (CHANGES[change], CHANGES[then], CHANGES[change]):
        for _ in range(3):  # asked for, kept, handed out as a copy
            same(kept_answers, a, b)
        same(call, a, b)
        same(kept_answers, a, b)
    same_state(a, b)


def test_an_entry_that_was_handed_out_is_looked_at_each_time(pair):
    for store in pair:
        for _ in range(3):
            store.get_all_document_hashes()
        entry = store._kvstore.get_all(store._metadata_collection)["n1"]
        for value in ("first", "second", "third"):
            entry["doc_hash"] = value
            assert store.get_all_document_hashes()[value] == "n1"


def test_what_was_handed_out_is_the_callers(pair):
    store = pair[1]
    for _ in range(4):
        hashes, info = store.get_all_document_hashes(), store.get_ref_doc_info("d0")
        assert len(hashes) == 7 and info.node_ids == ["n0", "n1"]
        hashes.clear()
        info.node_ids.append("mine")
        store.get_all_ref_doc_info()["d0"].node_ids.clear()


# -- the C methods, and what they leave to others ----------------------------------------------

C_CALLS = {
    "get_document": (("n0",), {"doc_id": "n0", "raise_error": False}),
    "get_node": (("n0",), {"node_id": "n0", "raise_error": True}),
    "get_nodes": ((["n0", "n1"],), {"node_ids": ["n1"], "raise_error": True}),
    "document_exists": (("n0",), {"doc_id": "nowhere"}),
    "get_document_hash": (("n0",), {"doc_id": "nowhere"}),
    "set_document_hash": (("n0", "h"), {"doc_id": "new", "doc_hash": "\u00e9\"\\"}),
    "set_document_hashes": (({"n0": "h", "new": "\u00e9\"\\"},), {"doc_hashes": {"n1": ""}}),
    "get_all_document_hashes": ((), {}),
    "get_ref_doc_info": (("d0",), {"ref_doc_id": "nowhere"}),
    "get_all_ref_doc_info": ((), {}),
    "ref_doc_exists": (("d0",), {"ref_doc_id": "nowhere"}),
    "delete_document": (("n0",), {"doc_id": "nowhere", "raise_error": False}),
    "delete_ref_doc": (("d0",), {"ref_doc_id": "nowhere", "raise_error": False}),
}


def test_every_c_method_is_tried():
    from pannier import _core

    assert set(C_CALLS) == {name for name in vars(_core.DocMethods) if not name.startswith("_")}


@pytest.mark.parametrize("name", C_CALLS)
def test_arguments_by_place_and_by_name(pair, name):
    a, b = pair
    args, kwargs = C_CALLS[name]
    same(lambda s: getattr(s, name)(*clone(args)), a, b)
    same(lambda s: getattr(s, name)(**clone(kwargs)), a, b)
    same_state(a, b)


@pytest.mark.parametrize("name", C_CALLS)
def test_wrong_arguments_are_the_peers_type_errors(pair, name):
    args, _ = C_CALLS[name]
    for more, kwargs in (((1, 2, 3), {}), ((), {"nonsense": 1})):
        for store in pair:
            with pytest.raises(TypeError):
                getattr(store, name)(*args, *more, **kwargs)
    if args:
        for store in pair:
            with pytest.raises(TypeError, match="missing"):
                getattr(store, name)()


@pytest.mark.parametrize("name", ["get_document", "get_node", "get_nodes", "delete_document", "delete_ref_doc"])
@pytest.mark.parametrize("raise_error", [0, 1, "", [1], None])
def test_raise_error_may_be_any_object(pair, name, raise_error):
    a, b = pair
    for key in ("n0", "nowhere"):
        same(lambda s: getattr(s, name)([key] if name == "get_nodes" else key, raise_error), a, b)
    same_state(a, b)


@pytest.mark.parametrize("name", C_CALLS)
@pytest.mark.parametrize("key", [5, None, ("n0",), oracle.clone(b"n0"), 1.5])
def test_ids_of_other_types(pair, name, key):
    a, b = pair
    args, _ = C_CALLS[name]
    if args and name != "get_nodes":
        same(lambda s: getattr(s, name)(key, *args[1:]), a, b)
        same_state(a, b)


@pytest.mark.parametrize("hashes", [
    {"n0": 5}, {5: "h"}, {"n0": None}, {"n0": "\ud800", "n1": "x"}, {"\udc00": "h"}, {}, Names(n0="h"), [("n0", "h")], None,
], ids=repr)  # fmt: skip
def test_set_document_hashes_of_any_form(pair, hashes):
    a, b = pair
    same(lambda s: s.set_document_hashes(hashes), a, b)
    for _ in range(3):
        same(lambda s: s.get_all_document_hashes(), a, b)
    same_state(a, b)


def delete_with(store, name, seen):
    """delete_ref_doc of a store one of whose methods says that it was called."""
    method = getattr(store, name)
    setattr(store, name, lambda *args, **kwargs: seen.append((args, kwargs)) or method(*args, **kwargs))
    return store.delete_ref_doc("d0")


@pytest.mark.parametrize("name", ["delete_document", "get_ref_doc_info"])
def test_delete_ref_doc_calls_what_was_replaced(pair, name):
    seen = [], []
    for store, calls in zip(pair, seen):
        delete_with(store, name, calls)
    assert seen[0] == seen[1] and seen[0]
    same_state(*pair)


@pytest.mark.parametrize("collection", ["_node_collection", "_metadata_collection", "_ref_doc_collection"])
@pytest.mark.parametrize("value", [{}, {"node_ids": ["n1", "n1"], "metadata": {}}, {"ref_doc_id": "d1"}, {"doc_hash": {1, 2}}])
def test_delete_ref_doc_beside_odd_entries(pair, collection, value):
    a, b = pair
    for store in pair:
        name = getattr(store, collection)
        store._kvstore.put("n1" if collection != "_ref_doc_collection" else "d0", value, name)
    same(lambda s: s.delete_ref_doc("d0"), a, b)
    same(lambda s: s.delete_ref_doc("d0"), a, b)
    same_state(a, b)


def test_ref_doc_exists_hands_out_nothing(pair):
    """The info stays as it was: asking twice, then changing what get_ref_doc_info gave."""
    a, b = pair
    for store in pair:
        assert store.ref_doc_exists("d0") and not store.ref_doc_exists("n0")
        store.get_ref_doc_info("d0").metadata["added"] = 1
        assert store.ref_doc_exists("d0")
    same(lambda s: s.get_ref_doc_info("d0"), a, b)
    same_state(a, b)


@pytest.mark.parametrize("on_class", [False, True])
def test_a_replaced_get_document_is_what_get_node_calls(pair, on_class):
    def other(*args, **kwargs):
        return TextNode(text="other", id_="other")

    for store in pair:
        with mock.patch.object(type(store) if on_class else store, "get_document", other):
            assert store.get_node("n0").text == "other"
            assert [n.text for n in store.get_nodes(["n0", "n1"])] == ["other", "other"]
        assert store.get_node("n0").text == "text"
        with mock.patch.object(type(store) if on_class else store, "get_node", other):
            assert store.get_nodes(["n0"])[0].text == "other"
            assert store.get_document("n0").text == "text"
        with mock.patch.object(type(store) if on_class else store, "get_ref_doc_info", lambda *args: None):
            assert not store.ref_doc_exists("d0")
        assert store.ref_doc_exists("d0")


def test_a_subclass_may_call_what_it_overrides():
    for side in SIDES:

        class Mine(side.SimpleDocumentStore):
            def get_document(self, doc_id, raise_error=True):
                found = super().get_document(doc_id, raise_error)
                if found is not None:
                    found.metadata["mine"] = True
                return found

        store = Mine()
        store.add_documents(batch())
        assert store.get_node("n0").metadata["mine"]
        assert [n.metadata["mine"] for n in store.get_nodes(["n0", "d1"])] == [True, True]
        assert store.get_document("nowhere", raise_error=False) is None
        assert store.document_exists("n0") and store.get_document_hash("n0")


def test_a_replaced_ref_doc_info_class_is_used(pair):
    def other(self, node_ids, metadata):
        self.node_ids, self.metadata = list(node_ids) + ["other"], metadata

    for store in pair:
        with mock.patch.object(RefDocInfo, "__init__", other):
            assert store.get_ref_doc_info("d0").node_ids == ["n0", "n1", "other"]
            assert store.get_all_ref_doc_info()["d0"].node_ids == ["n0", "n1", "other"]
        assert store.get_ref_doc_info("d0").node_ids == ["n0", "n1"]


# -- docs, seen from all sides -----------------------------------------------------------------


def test_docs_answers_before_anything_is_built(pair):
    for store in pair:
        docs = store.docs
        assert "n0" in docs and "nowhere" not in docs and 5 not in docs and len(docs) == 7
        with pytest.raises(KeyError, match="nowhere"):
            docs["nowhere"]
        with pytest.raises(KeyError):
            docs[5]
        with pytest.raises(TypeError):
            docs[[]]
        assert docs.get("nowhere") is None
        assert len(docs) == 7 and list(docs)[:2] == ["d0", "n0"] and list(reversed(docs))[0] == "n4"


def test_docs_keeps_what_was_built_when_its_ids_are_looked_at(pair):
    class Key(str):
        pass

    for store in pair:
        docs = store.docs
        first = docs["n1"]
        assert list(docs) == ["d0", "n0", "n1", "d1", "n2", "n3", "n4"]
        assert docs["n1"] is first and dict(docs)["n1"] is first
        assert docs[Key("n2")] is docs["n2"]
        del docs["n0"]
        docs["mine"] = first
        assert "n0" not in docs and docs["mine"] is first and len(docs) == 7
        assert list(docs)[-1] == "mine" and store.document_exists("n0")


def test_docs_of_values_that_are_live(pair):
    """Values that a caller was handed, and may change, are built as they are now."""
    for store in pair:
        entry = store._kvstore.get("n4", collection=store._node_collection)
        docs = store.docs
        entry["__data__"]["metadata"]["deep"]["a"].append("late")
        assert len(docs["n4"].metadata["deep"]["a"]) == 3  # what is nested is shared
        entry["__data__"]["text"] = "changed"
        assert docs["n4"].text == "text"


def test_docs_outlives_its_store(pair):
    import gc

    snapshots = []
    for store in pair:
        snapshots.append(store.docs)
        for key in list(store.docs):
            store.delete_document(key, raise_error=False)
    del store, pair
    gc.collect()
    for docs in snapshots:
        assert [docs[key].node_id for key in docs] == ["d0", "n0", "n1", "d1", "n2", "n3", "n4"]


# -- methods that somebody replaced ------------------------------------------------------

CALLS = {
    "add": lambda s: s.add_documents(batch()),
    "add new": lambda s: s.add_documents([chunk("n9", "d0")], allow_update=False),
    "get": lambda s: (s.get_document("n0"), s.get_nodes(["n0", "n1"]), s.document_exists("n0"), list(s.docs)),
    "hashes": lambda s: (s.get_document_hash("n0"), s.set_document_hash("n0", "h"), s.get_all_document_hashes()),
    "many hashes": lambda s: s.set_document_hashes({"n0": "h"}),
    "infos": lambda s: (s.get_ref_doc_info("d0"), s.get_all_ref_doc_info(), s.ref_doc_exists("d0")),
    "delete": lambda s: s.delete_document("n0"),
    "delete source": lambda s: s.delete_ref_doc("d0"),
    "async": lambda s: (run(s.async_add_documents(batch())), run(s.aget_nodes(["n0"])), run(s.aset_document_hash("n0", "h"))),
}

KV_METHODS = ("put", "put_all", "get", "get_all", "delete")
STORE_METHODS = (
    "get_document", "get_node", "document_exists", "get_ref_doc_info", "delete_document", "_get_ref_doc_id",
    "_remove_from_ref_doc_node", "_remove_legacy_info", "_prepare_kv_pairs", "_get_kv_pairs_for_insert",
    "_merge_ref_doc_kv_pairs", "aget_document", "aget_node",
)  # fmt: skip


def called(store, call, target, name):
    """How often the one method, replaced by one that counts, is called."""
    count = []
    its = getattr(target, name)

    def counting(*args, **kwargs):
        count.append(name)
        return its(*args, **kwargs)

    with mock.patch.object(target, name, counting):
        call(store)
    return len(count)


@pytest.mark.parametrize("on_class", [False, True])
@pytest.mark.parametrize("call", list(CALLS))
def test_replaced_methods_are_called_as_the_peer_calls_them(call, on_class):
    for below, names in ((True, KV_METHODS), (False, STORE_METHODS)):
        for name in names:
            counts = []
            for side in (raw, impl):
                store = side.SimpleDocumentStore()
                store.add_documents(batch())
                target = store._kvstore if below else store
                counts.append(called(store, CALLS[call], type(target) if on_class else target, name))
                assert called(store, lambda s: s.get_document("d1"), target, name) == (name in ("get", "get_document"))
            assert counts[0] == counts[1], name


def test_what_an_object_is_given_besides_is_no_replaced_method():
    store = impl.SimpleDocumentStore()
    store.note = store._kvstore.note = "mine"
    store.add_documents(batch())
    assert store._fast() and type(store.docs) is not dict
    store._kvstore.get = store._kvstore.get
    assert not store._fast() and type(store.docs) is dict
    del store._kvstore.get
    assert type(store.docs) is not dict
