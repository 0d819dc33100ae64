"""Index structs stored again and again, changed in every way in between, against the peer.

The store keeps columns and looks at what differs; every test compares the bytes that are
written, and what is read back, after each step.
"""

from __future__ import annotations

import copy
import gc
import json
import pickle
import random
import sys
import weakref

import pytest

from llama_index.core.data_structs.data_structs import (
    KG,
    EmptyIndexStruct,
    IndexDict,
    IndexGraph,
    IndexList,
    IndexLPG,
    KeywordTable,
    MultiModelIndexDict,
)
from llama_index.core.data_structs.document_summary import IndexDocumentSummary

import oracle
from oracle import SIDES, chunk, impl, load, outcome, persisted, same, same_bytes

TEXTS = ["", "a", "\u00e9", "\U0001f600", 'q"\\', "\n\x7f", "\ud83d", "node-" + "x" * 40, "3", "-0", "12"]


def word(rnd):
    if rnd.random() < 0.3:
        return rnd.choice(TEXTS)
    return f"n{rnd.randrange(60)}"  # a new object each time


def words(rnd, most=4):
    return [word(rnd) for _ in range(rnd.randrange(most))]


def change_dict(rnd, d, key, value):
    """What a caller may do to a dict between two adds."""
    keys = list(d)
    act = rnd.randrange(8)
    if act <= 2 or not keys:
        for _ in range(rnd.randrange(1, 5)):
            d[key(rnd)] = value(rnd)
    elif act == 3:
        for k in rnd.sample(keys, min(len(keys), rnd.randrange(1, 4))):
            del d[k]
    elif act == 4:
        d[rnd.choice(keys)] = value(rnd)
    elif act == 5:
        k = rnd.choice(keys)
        d[k] = d.pop(k)  # to the end
    elif act == 6:
        k = rnd.choice(keys)
        if isinstance(d[k], list):
            d[k].extend(value(rnd))
        elif isinstance(d[k], set):
            d[k] ^= value(rnd)
    elif rnd.random() < 0.2:
        d.clear()
    else:
        rest = list(d.items())
        rnd.shuffle(rest)
        d.clear()
        d.update(rest)


def change_list(rnd, items):
    act = rnd.randrange(6)
    if act <= 2 or not items:
        items.extend(words(rnd))
    elif act == 3:
        del items[rnd.randrange(len(items))]
    elif act == 4:
        items[rnd.randrange(len(items))] = word(rnd)
    elif rnd.random() < 0.3:
        rnd.shuffle(items)
    else:
        items.insert(0, word(rnd))


def int_key(rnd):
    return rnd.choice([rnd.randrange(20), -rnd.randrange(3), 10**rnd.randrange(25)])


def floats(rnd):
    return [rnd.choice([0.5, -0.0, 1e16, 1e-7, float("inf"), rnd.random()]) for _ in range(rnd.randrange(3))]


def change(rnd, struct):
    if rnd.random() < 0.15:
        struct.summary = rnd.choice([None, word(rnd)])
        return
    names = [n for n in vars(struct) if n not in ("index_id", "summary")]
    if not names:
        return
    name = rnd.choice(names)
    field = getattr(struct, name)
    if rnd.random() < 0.05:
        setattr(struct, name, type(field)(field))  # another container, the same items
    elif isinstance(field, list):
        change_list(rnd, field)
    elif name in ("all_nodes", "root_nodes"):
        change_dict(rnd, field, int_key, word)
    elif name == "table":
        change_dict(rnd, field, word, lambda r: set(words(r)))
    elif name == "rel_map":
        change_dict(rnd, field, word, lambda r: [words(r) for _ in range(r.randrange(3))])
    elif name in ("embeddings_dict", "embedding_dict"):
        change_dict(rnd, field, word, floats) if rnd.random() < 0.3 else None
    elif name in ("nodes_dict", "node_id_to_summary_id", "doc_id_to_summary_id"):
        change_dict(rnd, field, word, word)
    else:
        change_dict(rnd, field, word, words)


CLASSES = [
    IndexDict,
    IndexList,
    IndexGraph,
    KeywordTable,
    KG,
    IndexDocumentSummary,
    MultiModelIndexDict,
    IndexLPG,
    EmptyIndexStruct,
]


@pytest.mark.skipif(oracle.IS_PEER, reason="pannier's own ways")
def test_every_type_takes_the_fast_way():
    """Both ways check themselves against the installed class and step back if they differ."""
    from pannier import index_store

    for cls in CLASSES:
        assert index_store._plan(cls) is not None
        assert index_store._reading(cls.get_type().value) is not None


def stores():
    return tuple(side.SimpleIndexStore() for side in SIDES)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("part", range(4))
def test_random_rounds(cls, part):
    for round_ in range(oracle.ROUNDS // 16):
        rnd = random.Random(f"{cls.__name__} {part} {round_}")
        a, b = stores()
        struct = cls(index_id="i")
        for _ in range(14):
            for _ in range(rnd.randrange(4)):
                change(rnd, struct)
            act = rnd.randrange(12)
            if act <= 5:
                same(lambda s: s.add_index_struct(struct), a, b)
            elif act == 6:  # equal, but other objects
                struct = copy.deepcopy(cls.from_json(struct.to_json()) if rnd.random() < 0.5 else struct)
                same(lambda s: s.add_index_struct(struct), a, b)
            elif act == 7:  # what the store hands out goes on living
                got = same(lambda s: s.get_index_struct("i"), a, b)[1]
                struct = got if isinstance(got, cls) else struct
            elif act == 8:
                a, b = (load(side.SimpleIndexStore, persisted(a)) for side in SIDES)
            elif act == 9:
                same(lambda s: s._kvstore.get("i", s._collection), a, b)
            elif act == 10 and rnd.random() < 0.5:
                same(lambda s: s.delete_index_struct("i"), a, b)
            elif act == 11 and rnd.random() < 0.3:
                a, b = pickle.loads(pickle.dumps(a)), pickle.loads(pickle.dumps(b))
            same_bytes(a, b)
            same(lambda s: s.get_index_struct("i"), a, b)
            same_bytes(a, b)
        same(lambda s: s.index_structs(), a, b)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_struct_is_a_snapshot(cls):
    for seed in range(30):
        rnd = random.Random(seed)
        struct = cls(index_id="i")
        for _ in range(8):
            change(rnd, struct)
        a, b = stores()
        same(lambda s: s.add_index_struct(struct), a, b)
        before = same_bytes(a, b)
        for _ in range(6):
            change(rnd, struct)
            assert persisted(b) == before
        read = b.get_index_struct("i")
        for _ in range(6):
            change(rnd, read)
        assert persisted(b) == before
        same(lambda s: s.get_index_struct("i"), a, b)


def test_loading_does_not_change_the_bytes():
    for cls in CLASSES:
        if cls in (KeywordTable, KG):  # sets have no order: storing one again may print another
            continue
        rnd = random.Random(1)
        struct = cls(index_id="i")
        for _ in range(20):
            change(rnd, struct)
        text = persisted_one(struct)
        for side in SIDES:
            store = load(side.SimpleIndexStore, text)
            store.add_index_struct(store.index_structs()[0])
            assert persisted(store) == text


def persisted_one(struct):
    store = impl.SimpleIndexStore()
    store.add_index_struct(struct)
    return persisted(store)


def test_the_type_is_a_member_once_it_was_stored_here():
    for load_first in (False, True):
        a, b = stores()
        for s in (a, b):
            s.add_index_struct(IndexList(index_id="i", nodes=["a"]))
        if load_first:
            a, b = (load(side.SimpleIndexStore, persisted(a)) for side in SIDES)
            same(lambda s: s.get_index_struct("i"), a, b)
            same(lambda s: load(type(s), persisted(s))._kvstore.get("i", s._collection), a, b)
        same(lambda s: s.add_index_struct(s.get_index_struct("i")), a, b)
        same(lambda s: s._kvstore.get("i", s._collection), a, b)
        same(lambda s: s.to_dict(), a, b)


def test_a_handed_out_value_stays_as_it_was():
    a, b = stores()
    struct = IndexDict(index_id="i", nodes_dict={"a": "b"})
    same(lambda s: s.add_index_struct(struct), a, b)
    held = [s._kvstore.get_all(s._collection)["i"] for s in (a, b)]
    struct.nodes_dict["c"] = "d"
    same(lambda s: s.add_index_struct(struct), a, b)
    assert held[0] == held[1] and '"c"' not in held[1]["__data__"]
    for value in held:
        value["__data__"] = "no longer the store's"
    same_bytes(a, b)


@pytest.mark.parametrize("odd", [5, None, b"x", object(), 1.5, ("t",), {"n": ["m"]}, oracle.Text("sub"), [[["deep"]]]], ids=repr)
def test_a_value_that_turns_odd_and_back(odd):
    a, b = stores()
    struct = IndexDict(index_id="i", nodes_dict={f"n{i}": f"n{i}" for i in range(9)})
    for value in ("x", odd, "x", odd, "n3"):
        struct.nodes_dict["n3"] = value
        struct.nodes_dict[f"more {value!s:.3}"] = "y"
        same(lambda s: s.add_index_struct(struct), a, b)
        same_bytes(a, b)
        same(lambda s: s.get_index_struct("i"), a, b)


def test_a_failed_add_keeps_the_snapshot():
    a, b = stores()
    struct = IndexDict(index_id="i", nodes_dict={"a": "b"})
    same(lambda s: s.add_index_struct(struct), a, b)
    struct.nodes_dict["new"] = "c"
    struct.summary = "new"
    struct.embeddings_dict["x"] = [object()]
    same(lambda s: s.add_index_struct(struct), a, b)
    same_bytes(a, b)
    same(lambda s: s.get_index_struct("i").nodes_dict, a, b)


@pytest.mark.parametrize("keys", [{3: "a", "3": "b"}, {"3": "a"}, {True: "a"}, {-5: "a", 0: "b"}, {10**30: "a"}, {1.5: "a"}])
def test_keys_of_a_graph(keys):
    a, b = stores()
    struct = IndexGraph(index_id="i", all_nodes=dict(keys))
    for _ in range(2):
        same(lambda s: s.add_index_struct(struct), a, b)
        same(lambda s: s.get_index_struct("i"), a, b)
        text = same_bytes(a, b)
        struct.all_nodes[99] = "more"
    if isinstance(text, bytes):
        a, b = (load(side.SimpleIndexStore, text) for side in SIDES)
        same(lambda s: s.get_index_struct("i"), a, b)
        same(lambda s: s.add_index_struct(struct), a, b)
        same_bytes(a, b)


@pytest.mark.parametrize(
    "data",
    [
        '{"index_id": "i", "summary": null, "nodes_dict": {"a": "b", "a": "c"}, "doc_id_dict": {}, "embeddings_dict": {}}',
        '{"index_id": "i", "summary": null, "nodes_dict": {"a":"b"}, "doc_id_dict": {}, "embeddings_dict": {}}',
        '{"index_id": "i", "summary": null, "nodes_dict": {"a": "b"}, "doc_id_dict": {}, "embeddings_dict": {} }',
        '{"index_id": "i", "summary": 5, "nodes_dict": {"a": "b"}, "doc_id_dict": {}, "embeddings_dict": {}}',
        '{"index_id": "i", "summary": "\u00e9", "nodes_dict": {"a": "b"}, "doc_id_dict": {}, "embeddings_dict": {}}',
        '{"summary": null, "index_id": "i", "nodes_dict": {"a": "b"}, "doc_id_dict": {}, "embeddings_dict": {}}',
        '{"index_id": "i", "summary": null, "nodes_dict": {"a": 1}, "doc_id_dict": {}, "embeddings_dict": {}}',
        '{"index_id": "i", "summary": null, "nodes_dict": {"a": "b"}, "doc_id_dict": {"d": "no list"}, "embeddings_dict": {}}',
        '{"index_id": "i", "summary": null, "nodes_dict": {"a": "b"}, "doc_id_dict": {}, "embeddings_dict": {"e": [1, 0.5, NaN]}}',
        '{"index_id": "i", "summary": null, "nodes_dict": {"a": "b"}, "doc_id_dict": {}, "embeddings_dict": {"e": [0.50]}}',
        '{"index_id": "i", "summary": null, "nodes_dict": {"a": "b"}, "doc_id_dict": {}, "embeddings_dict": {}, "more": 1}',
        '{"index_id": "i", "summary": null, "nodes_dict": {"a": "b"}, "doc_id_dict": {}}',
    ],
    ids=range(12),
)
@pytest.mark.parametrize("indent", [None, 2])
def test_text_of_other_shapes_is_read_and_kept(data, indent):
    text = json.dumps({"index_store/data": {"i": {"__type__": "vector_store", "__data__": data}}}, indent=indent).encode()
    a, b = (load(side.SimpleIndexStore, text) for side in SIDES)
    for _ in range(2):
        same(lambda s: s.get_index_struct("i"), a, b)
        same_bytes(a, b)
    same(lambda s: s.add_index_struct(s.get_index_struct("i")), a, b)
    same_bytes(a, b)


def test_more_fields_of_every_length():
    for n in (0, 1, 2, 7, 8, 9, 63, 64, 65, 1000, 1025):
        a, b = stores()
        struct = IndexDict(index_id="i", nodes_dict={f"{i}": f"\u00e9{i}" for i in range(n)})
        same(lambda s: s.add_index_struct(struct), a, b)
        text = same_bytes(a, b)
        a, b = (load(side.SimpleIndexStore, text) for side in SIDES)
        same(lambda s: s.get_index_struct("i"), a, b)
        assert same_bytes(a, b) == text


def test_two_structs_and_a_docstore_in_one_table():
    kvs = tuple(side.SimpleKVStore() for side in SIDES)
    structs = tuple(side.KVIndexStore(kv) for side, kv in zip(SIDES, kvs))
    docs = tuple(side.KVDocumentStore(kv) for side, kv in zip(SIDES, kvs))
    one, two = IndexDict(index_id="one"), IndexList(index_id="two")
    for i in range(6):
        node = chunk(f"n{i}", f"d{i % 2}")
        one.add_node(node)
        two.add_node(node)
        same(lambda s: s.add_index_struct(one), *structs)
        same(lambda s: s.add_documents([node]), *docs)
        same(lambda s: s.add_index_struct(two), *structs)
        same_bytes(*kvs)
    same(lambda s: s.index_structs(), *structs)
    same(lambda s: s.to_dict(), *kvs)  # from here on plain dicts
    one.delete("n3")
    same(lambda s: s.add_index_struct(one), *structs)
    same(lambda s: s.index_structs(), *structs)
    same_bytes(*kvs)


def test_what_a_struct_held_is_given_back():
    class Probe(str):
        """No exact str: never kept."""

    text = "kept " + "x" * 30
    before = sys.getrefcount(text)
    store = impl.SimpleIndexStore()
    struct = IndexDict(index_id="i", nodes_dict={text: text}, doc_id_dict={"d": [text, text]})
    for i in range(5):
        struct.nodes_dict[f"n{i}"] = text
        store.add_index_struct(struct)
    del struct.nodes_dict["n1"], struct.doc_id_dict["d"]
    store.add_index_struct(struct)
    assert text in store.get_index_struct("i").nodes_dict
    store._kvstore.get("i", store._collection)  # to a plain value
    del struct
    assert sys.getrefcount(text) == before
    store.add_index_struct(IndexDict(index_id="i", nodes_dict={text: text}))
    store.delete_index_struct("i")  # costs nothing; what comes next frees
    store.add_index_struct(IndexDict(index_id="j"))
    assert sys.getrefcount(text) == before
    store.add_index_struct(IndexDict(index_id="i", nodes_dict={text: text}))
    store.delete_index_struct("i")
    assert sys.getrefcount(text) > before
    store._kvstore._pn_encode()
    assert sys.getrefcount(text) == before
    store.add_index_struct(IndexDict(index_id="i", nodes_dict={text: text}))
    store.delete_index_struct("i")
    store.add_index_struct(IndexDict(index_id="k", nodes_dict={text: text}))
    del store
    gc.collect()
    assert sys.getrefcount(text) == before
    odd = Probe("odd")
    gone = weakref.ref(odd)
    store = impl.SimpleIndexStore()
    outcome(lambda s: s.add_index_struct(IndexList(index_id="i", nodes=["a", odd])), store)
    del odd
    gc.collect()
    assert gone() is None
