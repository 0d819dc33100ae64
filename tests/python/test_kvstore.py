"""SimpleKVStore, every public call, against the peer: results, exceptions, order, bytes."""

from __future__ import annotations

import copy
import json
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.core.storage.kvstore.simple_kvstore import SimpleKVStore
from llama_index.core.storage.kvstore.types import BaseInMemoryKVStore, BaseKVStore, MutableMappingKVStore

import oracle
from oracle import (
    SIDES,
    Mapped,
    Raised,
    assert_same,
    clone,
    difference,
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
    scribble,
)

EXAMPLES = oracle.ROUNDS


def pair(data=None):
    """Two empty stores, or two that hold their own copy of the same data."""
    if data is None:
        return tuple(side.SimpleKVStore() for side in SIDES)
    return tuple(side.SimpleKVStore(clone(data)) for side in SIDES)


def loaded_pair(data, at_once=False):
    """Two stores loaded from the same file."""
    text = data if isinstance(data, bytes) else dumps(data)
    return tuple(load(side.SimpleKVStore, text, at_once) for side in SIDES)


# -- what it is -----------------------------------------------------------------------


def test_is_accepted_where_the_peers_store_is():
    store = impl.SimpleKVStore()
    assert isinstance(store, SimpleKVStore)
    assert isinstance(store, MutableMappingKVStore)
    assert isinstance(store, BaseKVStore)
    assert not isinstance(store, BaseInMemoryKVStore)


def test_empty_store_is_true_and_has_no_length():
    store = impl.SimpleKVStore()
    assert bool(store)
    assert not hasattr(type(store), "__len__")
    assert not hasattr(type(store), "__bool__")
    assert_same(outcome(len, raw.SimpleKVStore()).exc.__class__, outcome(len, store).exc.__class__)


def test_empty_store_survives_or_defaults():
    store = impl.SimpleKVStore()
    for cls in (impl.SimpleDocumentStore, impl.SimpleIndexStore, raw.SimpleDocumentStore, raw.SimpleIndexStore):
        assert cls(store)._kvstore is store


@pytest.mark.parametrize("name", ["put", "get", "get_all", "delete", "put_all", "persist", "to_dict", "from_dict"])
def test_wrong_arguments_are_type_errors(name):
    for args, kwargs in (((1, 2, 3, 4, 5, 6), {}), ((), {"nonsense": 1})):
        a, b = (outcome(lambda s: getattr(s.SimpleKVStore(), name)(*args, **kwargs), side) for side in SIDES)
        assert isinstance(a, Raised) and type(a.exc) is TypeError
        assert isinstance(b, Raised) and type(b.exc) is TypeError


def test_keyword_arguments_have_the_peers_names():
    a, b = pair()
    for call in (
        lambda s: s.put(key="k", val={"a": 1}, collection="c"),
        lambda s: s.get(key="k", collection="c"),
        lambda s: s.get_all(collection="c"),
        lambda s: s.put_all(kv_pairs=[("k2", {})], collection="c", batch_size=1),
        lambda s: s.delete(key="k", collection="c"),
        lambda s: s.aput(key="k", val={"a": 1}, collection="c"),
        lambda s: s.aget(key="k", collection="c"),
        lambda s: s.aget_all(collection="c"),
        lambda s: s.adelete(key="k", collection="c"),
        lambda s: s.aput_all(kv_pairs=[("k2", {})], collection="c", batch_size=1),
    ):
        same(call, a, b)
    same_bytes(a, b)


# -- put, get, delete -----------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_put_get_delete(asynchronous):
    a, b = pair()

    def call(name, *args):
        return same(lambda s: getattr(s, ("a" if asynchronous else "") + name)(*args), a, b)

    assert call("get", "k") == (None, None)
    call("put", "k", {"x": 1})
    assert call("get", "k") == ({"x": 1}, {"x": 1})
    call("put", "k", {"x": 2}, "other")
    call("get", "k")
    call("get", "k", "other")
    assert call("delete", "k") == (True, True)
    assert call("delete", "k") == (False, False)
    assert call("delete", "k", "nowhere") == (False, False)
    call("get_all")
    call("get_all", "other")
    same_bytes(a, b)


def test_put_copies_the_top_level_only():
    for side in SIDES:
        store = side.SimpleKVStore()
        value = {"top": 1, "nested": {"list": [1]}}
        store.put("k", value)
        value["top"] = 2
        value["nested"]["list"].append(2)
        assert store.get("k") == {"top": 1, "nested": {"list": [1, 2]}}
        assert store.get("k")["nested"] is value["nested"]


def test_get_copies_the_top_level_only():
    for side in SIDES:
        store = side.SimpleKVStore()
        store.put("k", {"top": 1, "nested": {"list": [1]}})
        got = store.get("k")
        got["top"] = 2
        got["nested"]["list"].append(2)
        assert store.get("k") == {"top": 1, "nested": {"list": [1, 2]}}
        assert store.get("k")["nested"] is got["nested"]
        assert store.get("k") is not store.get("k")


def test_get_all_is_a_new_dict_of_the_live_values():
    for side in SIDES:
        store = side.SimpleKVStore()
        store.put("k", {"top": 1})
        everything = store.get_all()
        assert type(everything) is dict
        everything["k"]["top"] = 2
        everything["new"] = {}
        assert store.get("k") == {"top": 2}
        assert store.get("new") is None
        assert store.get_all()["k"] is everything["k"]


def test_get_all_may_be_deleted_from_while_looping():
    for side in SIDES:
        store = side.SimpleKVStore()
        store.put_all([(f"k{i}", {"i": i}) for i in range(10)])
        for key in store.get_all():
            assert store.delete(key)
        assert store.get_all() == {}


def test_insertion_order():
    a, b = pair()

    def call(f):
        same(f, a, b)

    for key in ("z", "a", "m"):
        call(lambda s, key=key: s.put(key, {"k": key}))
    call(lambda s: s.put("z", {"overwritten": True}))
    call(lambda s: s.get_all())
    call(lambda s: s.delete("a"))
    call(lambda s: s.put("a", {"again": True}))
    call(lambda s: s.get_all())
    assert list(b.get_all()) == ["z", "m", "a"]
    same_bytes(a, b)


def test_order_after_many_deletes_and_puts():
    a, b = pair()
    for s in (a, b):
        for i in range(500):
            s.put(f"k{i % 97}", {"i": i})
            if i % 3 == 0:
                s.delete(f"k{(i * 7) % 97}")
    same(lambda s: list(s.get_all().items()), a, b)
    same_bytes(a, b)


@pytest.mark.parametrize("call", ["get", "delete", "get_all", "aget", "adelete", "aget_all"])
def test_touching_an_unknown_collection_creates_it(call):
    a, b = pair()
    if call.endswith("get_all"):
        same(lambda s: getattr(s, call)("made"), a, b)
    else:
        same(lambda s: getattr(s, call)("k", "made"), a, b)
    assert same_bytes(a, b) == b'{"made": {}}'


KEYS = ["k", "", 1, 1.0, True, None, 0, -1, 2.5, float("inf"), ("t", 1), b"b", frozenset([1]), oracle.Text("k"), oracle.Colour.RED]


@pytest.mark.parametrize("key", KEYS, ids=repr)
@pytest.mark.parametrize("where", ["key", "collection"])
def test_any_hashable_key(key, where):
    a, b = pair()
    kw = {"key": key} if where == "key" else {"key": "k", "collection": key}
    same(lambda s: s.get(**kw), a, b)
    same(lambda s: s.put(val={"v": 1}, **kw), a, b)
    same(lambda s: s.get(**kw), a, b)
    same(lambda s: s.get_all(**({"collection": key} if where == "collection" else {})), a, b)
    same(lambda s: s.to_dict(), a, b)
    same_bytes(a, b)
    same(lambda s: s.delete(**kw), a, b)
    same(lambda s: s.get(**kw), a, b)
    same_bytes(a, b)


def test_keys_that_are_equal_are_one_key():
    a, b = pair()
    for key in (1, 1.0, True, "1"):
        same(lambda s: s.put(key, {"k": repr(key)}), a, b)
    same(lambda s: s.get_all(), a, b)
    same(lambda s: [type(k) for k in s.get_all()], a, b)
    assert same_bytes(a, b) == b'{"data": {"1": {"k": "True"}, "1": {"k": "\'1\'"}}}'


@pytest.mark.parametrize("call", ["get", "put", "delete"])
@pytest.mark.parametrize("bad", [[], {}, set()], ids=repr)
def test_unhashable_keys(call, bad):
    a, b = pair({"data": {"k": {}}})
    args = (bad, {}) if call == "put" else (bad,)
    expected, _ = same(lambda s: getattr(s, call)(*args), a, b)
    assert isinstance(expected, Raised)
    args = ("k", {}, bad) if call == "put" else ("k", bad)
    same(lambda s: getattr(s, call)(*args), a, b)
    same(lambda s: s.to_dict(), a, b)


class NoHash(str):
    def __hash__(self):
        raise RuntimeError("no hash today")


class NoEqual(str):
    __hash__ = str.__hash__

    def __eq__(self, other):
        raise RuntimeError("not equal today")


@pytest.mark.parametrize("key", [NoHash("k"), NoEqual("k")], ids=["hash", "eq"])
def test_keys_whose_own_methods_raise(key):
    a, b = pair({"data": {"k": {"v": 1}}})
    for call in (lambda s: s.get(key), lambda s: s.delete(key), lambda s: s.put(key, {})):
        same(call, a, b)
    same(lambda s: s.get_all(), a, b)


class Copyless:
    pass


class CountingDict(dict):
    copies = 0

    def copy(self):
        type(self).copies += 1
        return CountingDict(self)


class BadCopy(dict):
    def copy(self):
        raise KeyError("no copies")


@pytest.mark.parametrize("value", [None, 1, "text", Copyless, 1.5, (1,)], ids=repr)
def test_a_value_without_copy_is_refused(value):
    a, b = pair({"data": {"k": {"v": 1}}})
    expected, _ = same(lambda s: s.put("k", value), a, b)
    assert isinstance(expected.exc, (AttributeError, TypeError))
    same(lambda s: s.get("k"), a, b)
    same(lambda s: s.put("new", value, "made"), a, b)
    same_bytes(a, b)


@pytest.mark.parametrize("make", [lambda: [1, [2]], lambda: {1, 2}, lambda: Mapped(a=[1]), lambda: CountingDict(a=1)])
def test_any_value_with_copy_is_taken(make):
    a, b = pair()
    same(lambda s: s.put("k", make()), a, b)
    same(lambda s: s.get("k"), a, b)
    same(lambda s: type(s.get_all()["k"]).__name__, a, b)
    same_bytes(a, b)


def test_a_values_own_copy_is_called():
    for side in SIDES:
        CountingDict.copies = 0
        store = side.SimpleKVStore()
        store.put("k", CountingDict(a=1))
        store.get("k")
        assert CountingDict.copies == 2
    a, b = pair({"data": {"k": {}}})
    same(lambda s: s.put("k", BadCopy()), a, b)
    same(lambda s: s.get("k"), a, b)


# -- put_all --------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["put_all", "aput_all"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_put_all(call, batch_size):
    a, b = pair()
    pairs = [(f"k{i}", {"i": i}) for i in range(7)] + [("k0", {"again": 1})]
    same(lambda s: getattr(s, call)(pairs, collection="c", batch_size=batch_size), a, b)
    same(lambda s: getattr(s, call)([], collection="empty", batch_size=batch_size), a, b)
    same(lambda s: getattr(s, call)(iter(pairs[:2]), batch_size=batch_size), a, b)
    same_bytes(a, b)


@pytest.mark.parametrize("call", ["put_all", "aput_all"])
def test_put_all_stops_at_the_first_bad_pair(call):
    a, b = pair()
    for bad in ([("k", {}), ("l", None), ("m", {})], [("k", {}), ("three", {}, 1)], [("k", {}), 5], None):
        same(lambda s: getattr(s, call)(bad), a, b)
    same_bytes(a, b)


def test_any_batch_size_where_the_peers_base_class_takes_one():
    peers = outcome(lambda: raw.SimpleKVStore().put_all([("k", {})], batch_size=2))
    assert isinstance(peers.exc, NotImplementedError)
    store = impl.SimpleKVStore()
    store.put_all([("k", {"a": 1})], batch_size=2)
    run(store.aput_all([("l", {"a": 1})], batch_size=1000))
    assert store.get_all() == {"k": {"a": 1}, "l": {"a": 1}}


def test_async_methods_are_coroutines():
    import inspect

    for name in ("aput", "aget", "aget_all", "adelete", "aput_all"):
        assert inspect.iscoroutinefunction(getattr(impl.SimpleKVStore, name)), name


def test_an_async_call_that_is_never_awaited_does_nothing():
    store = impl.SimpleKVStore()
    coro = store.aput("k", {})
    coro.close()
    assert store.get("k") is None


# -- aliasing of whole collections ------------------------------------------------------


def test_constructor_copies_the_outer_dict_only():
    for side in SIDES:
        data = {"data": {"k": {"v": [1]}}}
        store = side.SimpleKVStore(data)
        store.put("new", {"x": 1})
        store.put("k", {"w": 1}, "other")
        assert data == {"data": {"k": {"v": [1]}, "new": {"x": 1}}}
        data["data"]["mine"] = {"y": 1}
        data["data"]["k"]["v"].append(2)
        assert store.get("mine") == {"y": 1}
        assert store.get("k") == {"v": [1, 2]}
        data["added"] = {}
        assert "added" not in store.to_dict()


def test_to_dict_copies_the_outer_dict_only():
    for side in SIDES:
        store = side.SimpleKVStore()
        store.put("k", {"v": 1})
        out = store.to_dict()
        assert type(out) is dict
        out["data"]["mine"] = {"y": 1}
        out["added"] = {}
        assert store.get("mine") == {"y": 1}
        assert "added" not in store.to_dict()
        store.put("later", {})
        assert list(out["data"]) == ["k", "mine", "later"]
        assert json.loads(json.dumps(out)) == {"data": {"k": {"v": 1}, "mine": {"y": 1}, "later": {}}, "added": {}}


def test_to_dict_of_a_loaded_store_is_plain_and_live():
    for store in loaded_pair({"data": {"k": {"v": [1]}}}):
        out = store.to_dict()
        assert json.dumps(out) == '{"data": {"k": {"v": [1]}}}'
        out["data"]["k"]["v"].append(2)
        assert store.get("k") == {"v": [1, 2]}
        assert persisted(store) == b'{"data": {"k": {"v": [1, 2]}}}'


def test_from_dict_shares_the_inner_dicts():
    for side in SIDES:
        first = side.SimpleKVStore()
        first.put("k", {"v": 1})
        second = side.SimpleKVStore.from_dict(first.to_dict())
        second.put("k2", {"v": 2})
        second.put("alone", {}, "other")
        assert first.get("k2") == {"v": 2}
        assert "other" not in first.to_dict()
        first.delete("k")
        assert second.get("k") is None
        assert persisted(first) == b'{"data": {"k2": {"v": 2}}}'


def test_two_stores_over_one_dict_stay_in_step():
    for side in SIDES:
        data = {"data": {}}
        stores = [side.SimpleKVStore(data) for _ in range(3)]
        stores[0].put("a", {"x": [1]})
        stores[1].get("a")["x"].append(2)
        stores[2].put("b", {})
        for store in stores:
            assert store.get_all() == {"a": {"x": [1, 2]}, "b": {}}
            assert persisted(store) == b'{"data": {"a": {"x": [1, 2]}, "b": {}}}'


@pytest.mark.parametrize("data", [{"data": None}, {"data": [1, 2]}, {"data": {"k": None}}, {"data": {"k": 5}}, {1: {}}, {}])
def test_odd_contents_behave_as_in_the_peer(data):
    for a, b in (pair(data), loaded_pair(data)):
        for call in (
            lambda s: s.get("k"),
            lambda s: s.get_all(),
            lambda s: s.to_dict(),
            lambda s: s.delete("k"),
            lambda s: s.put("z", {}),
            lambda s: s.get_all(),
        ):
            same(call, a, b)
        same_bytes(a, b)


@pytest.mark.parametrize("data", [[], "text", 5, [["data", {}]]], ids=repr)
def test_data_that_is_no_dict(data):
    a, b = (outcome(lambda s=side: s.SimpleKVStore(clone(data))) for side in SIDES)
    if isinstance(a, Raised):
        assert_same(a, b)
        return
    for call in (lambda s: s.get("k"), lambda s: s.get_all(), lambda s: s.to_dict(), lambda s: s.put("k", {})):
        same(call, a, b)


# -- the mapping behind it --------------------------------------------------------------


def test_collections_mappings_reads_like_the_peers():
    for a, b in (pair({"data": {"k": {"v": [1]}}, "other": {}}), loaded_pair({"data": {"k": {"v": [1]}}, "other": {}})):
        for call in (
            lambda s: list(s._collections_mappings),
            lambda s: len(s._collections_mappings),
            lambda s: "data" in s._collections_mappings,
            lambda s: "nowhere" in s._collections_mappings,
            lambda s: s._collections_mappings["nowhere"],
            lambda s: s._collections_mappings.get("nowhere"),
            lambda s: list(s._collections_mappings["data"]),
            lambda s: dict(s._collections_mappings["data"]),
            lambda s: list(s._collections_mappings["data"].items()),
            lambda s: list(s._collections_mappings["data"].values()),
            lambda s: "k" in s._collections_mappings["data"],
            lambda s: s._collections_mappings["data"]["missing"],
            lambda s: s._collections_mappings["data"].get("missing", 7),
            lambda s: len(s._collections_mappings["other"]),
            lambda s: s._collections_mappings["data"] == {"k": {"v": [1]}},
            lambda s: {k: dict(v) for k, v in s._collections_mappings.items()},
            lambda s: bool(s._collections_mappings["other"]),
            lambda s: dict(s._get_collection_mapping("data")),
            lambda s: dict(s._get_collection_mapping("made")),
        ):
            same(call, a, b)
        same_bytes(a, b)


def test_collections_mappings_writes_through():
    for a, b in (pair({"data": {"k": {"v": [1]}}}), loaded_pair({"data": {"k": {"v": [1]}}})):
        for call in (
            lambda s: s._collections_mappings["data"].__setitem__("new", {"x": [1]}),
            lambda s: s.get("new"),
            lambda s: s._collections_mappings["data"]["k"]["v"].append(2),
            lambda s: s._collections_mappings["data"]["k"].__setitem__("top", 1),
            lambda s: s.get("k"),
            lambda s: s._collections_mappings["data"].pop("k"),
            lambda s: s.get_all(),
            lambda s: s._collections_mappings["data"].setdefault("d", {"z": 1}),
            lambda s: s._collections_mappings["data"].update({"e": {}, "d": {"z": 2}}),
            lambda s: s._collections_mappings.__setitem__("assigned", {"q": {"r": 1}}),
            lambda s: s.get("q", "assigned"),
            lambda s: s.put("p", {}, "assigned"),
            lambda s: s._collections_mappings.__delitem__("assigned"),
            lambda s: s.get_all("assigned"),
            lambda s: s._collections_mappings["data"].__delitem__("missing"),
            lambda s: s._collections_mappings["data"].clear(),
            lambda s: s.get_all(),
        ):
            same(call, a, b)
            same_bytes(a, b)


def test_a_dict_assigned_as_a_collection_is_adopted():
    for side in SIDES:
        store = side.SimpleKVStore()
        mine = {"k": {"v": 1}}
        store._collections_mappings["data"] = mine
        store.put("new", {})
        assert mine == {"k": {"v": 1}, "new": {}}
        mine["later"] = {"z": 1}
        assert store.get("later") == {"z": 1}
        assert persisted(store) == b'{"data": {"k": {"v": 1}, "new": {}, "later": {"z": 1}}}'


def test_all_collections_replaced_by_a_plain_dict():
    for a, b in (pair({"data": {"k": {}}}), loaded_pair({"data": {"k": {}}})):
        for s in (a, b):
            mine = {"data": {"z": {"y": 1}}}
            s._collections_mappings = mine
            s.put("a", {})
            mine["data"]["b"] = {"direct": 1}
            mine["second"] = {"x": {}}
            assert list(mine["data"]) == ["z", "a", "b"]
        same(lambda s: s.get_all(), a, b)
        same(lambda s: s.get_all("second"), a, b)
        same_bytes(a, b)


# -- files that are decoded at once -----------------------------------------------------

VALUE = {"t": "caf\u00e9 \ud800 \U0001f4a1 \"\n", "n": [1, -0.0, 1e400, 10**30, None, True], "d": {"": {}, "x": [[]]}}
TEXTS = {
    "usual": dumps({"c": {"k": VALUE, "l": {"m": 1}}, "empty": {}, "\u00e9\n": {"\u00fc": {}, "": {}}}),
    "spaced": b' { "c" :\n{"k"\t: { "a" : [ 1 , 2 ] } , "l":{}} }\r\n',
    "nothing": b"{}",
    "repeated": b'{"c": {"k": {"v": 1}, "l": {}, "k": {"v": 2, "v": 3}}, "d": {}, "c": {"z": {}}}',
    "surrogates": b'{"\\ud800": {"\\udc00\\ud83d\\ude00": {"\\uDFFF": "\\ud83d"}}, "raw": {"k": {"v": "\xed\xa0\x80"}}}',
    "a slash": b'{"c": {"k": {"v": 1}}, "docstore/data": {"k": {"v": 2}}}',
    "a slash escaped": b'{"c\\/d": {"k": {"v": 1}}}',
    "a long key": dumps({"c" * 40: {"k" * 50: {"m" * 60: 1, "a": 2}}}),
    "nan": b'{"c": {"k": {"v": NaN, "w": -Infinity}}}',
    "a large integer": b'{"c": {"k": {"v": ' + b"9" * 5000 + b"}}}",
    "deep": b'{"c": {"k": {"v": ' + b"[" * 60 + b"]" * 60 + b"}}}",
    "too deep": b'{"c": {"k": {"v": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}}",
    "a value that is a list": b'{"c": {"k": [1], "l": {}}}',
    "a value that is a number": b'{"c": {"k": 1}}',
    "a collection that is a list": b'{"c": ["k"]}',
    "null": b"null",
    "empty": b"",
    "cut off": b'{"c": {"k": {"v": 1}',
    "trailing": b'{"c": {"k": {"v": 1}}} x',
    "a control character": b'{"c": {"k": {"v": "\x01"}}}',
    "no utf-8": b'{"c": {"k": {"v": "\xff"}}}',
    "no utf-8 in a key": b'{"c": {"\xff": {}}}',
    "a mark": b'\xef\xbb\xbf{"c": {"k": {"v": 1}}}',
    "utf-16": '{"c": {"k": {"v": 1}}}'.encode("utf-16"),
}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_file_decoded_at_once_is_as_the_peers(text, at_once):
    a, b = (outcome(lambda side=side: load(side.SimpleKVStore, text, at_once)) for side in SIDES)
    if isinstance(a, Raised):
        assert isinstance(b, Raised) and issubclass(type(b.exc), type(a.exc))
        return
    for call in (
        lambda s: s.get("k", "c"),
        lambda s: s.get_all("c"),
        lambda s: s.put("new", {"n": 1}, "c"),
        lambda s: s.delete("k", "c"),
        lambda s: s.put("k", {"again": 1}, "c"),
    ):
        same(call, a, b)
        same_bytes(a, b)
    same(lambda s: s.to_dict(), a, b)


def test_which_files_are_decoded_at_once():
    for name, at_once in (("usual", True), ("spaced", True), ("repeated", True), ("a slash", False), ("cut off", False)):
        store = impl.SimpleKVStore()
        assert store._decode(TEXTS[name]) is at_once, name
        assert bool(store._names()) is at_once, name


def test_large_values_stay_text():
    def decoded(value):
        return impl.SimpleKVStore()._decode(dumps({"c": {"small": {"v": 1}, "k": {"v": value}}}))

    assert decoded("x" * 2000)
    assert not decoded("x" * 2100)
    assert not decoded([0.5] * 1536)


def test_values_of_a_file_are_the_stores_own():
    for at_once in (False, True):
        for store in loaded_pair({"c": {"k": {"v": [1]}}}, at_once):
            store.get("k", "c")["v"].append(2)
            store.get("k", "c")["w"] = 1
            assert store.get("k", "c") == {"v": [1, 2]}
            assert store.get_all("c")["k"] is store._collections_mappings["c"]["k"]


REPLACED = {
    "all collections assigned": lambda s: setattr(s, "_collections_mappings", {"data": {"new": {}}}),
    "one assigned": lambda s: s._collections_mappings.__setitem__("data", {"new": {}}),
    "one deleted": lambda s: s._collections_mappings.__delitem__("data"),
    "one popped": lambda s: s._collections_mappings.pop("data"),
    "cleared": lambda s: s._collections_mappings.clear(),
    "updated": lambda s: s._collections_mappings.update(data={"new": {}}),
    "made again": lambda s: s.__init__(),
    "made again of data": lambda s: s.__init__({"data": {"new": {}}}),
    "made again of no data": lambda s: s.__init__(5),
    "plain": lambda s: s.to_dict(),
    "a key that is no str": lambda s: s.put(1, {}),
    "another factory": lambda s: setattr(s, "_mapping_factory", Mapped),
    "set to itself": lambda s: setattr(s, "_collections_mappings", s._collections_mappings),
    "added to itself": lambda s: setattr(s, "_collections_mappings", s._collections_mappings | {"more": {}}),
    "a copy of itself": lambda s: setattr(s, "_collections_mappings", s._collections_mappings.copy()),
    "copied": copy.copy,
}


@pytest.mark.parametrize("made", ["put", "loaded", "loaded at once", "surrendered"])
@pytest.mark.parametrize("how", REPLACED)
def test_a_kept_mapping_keeps_its_values(how, made):
    """What LlamaIndex hands out is a dict, which is as it was wherever the store goes."""
    data = {"data": {"k": {"v": [1]}, "l": {"w": 2}}, "other": {"o": {}}}
    at_once = made == "loaded at once"
    a, b = loaded_pair(data, at_once) if made.startswith("loaded") else pair(data if made == "surrendered" else None)
    if made == "put":
        for s in (a, b):
            for name, entries in data.items():
                s.put_all([(key, clone(value)) for key, value in entries.items()], name)
    kept = [(s._collections_mappings, s._collections_mappings["data"], s._get_collection_mapping("other")) for s in (a, b)]
    same(REPLACED[how], a, b, check=False)
    for step in (
        lambda m: None,
        lambda m: m[1].__setitem__("added", {"x": 1}),
        lambda m: m[1].pop("l"),
        lambda m: m[2].clear(),
        lambda m: m[0].setdefault("late", {}).update(y={"z": 1}),
        lambda m: m[1].__delitem__("missing"),
        lambda m: [[] in m[i] for i in (0, 1)],
        lambda m: m[0].__delitem__([]),
        lambda m: m[1].__getitem__([]),
        lambda m: m[1] == {"k": {"v": [1]}, "added": {"x": 1}},
        lambda m: list(reversed(m[1])),
        lambda m: m[0].pop("data", None) and None,
    ):
        same(step, *kept)
        same(lambda m: [list(m[0]), list(m[1].items()), len(m[1]), list(m[2].items()), "k" in m[1], m[1].get("k")], *kept)
        same_bytes(a, b)
    assert_same(a.to_dict(), b.to_dict())


def test_a_view_in_a_dict_of_the_callers():
    for first in (True, False):
        a, b = pair(), pair()
        for left, right in zip(a, b):
            left.put("k", {"v": 1}, "c")
            view, mine = left._collections_mappings["c"], {}
            if first:
                right._collections_mappings = mine
            mine["d"] = view
            if not first:
                right._collections_mappings = mine
            left.put("l", {"w": 2}, "c")
        for stores in (a, b):
            assert same_bytes(*stores)
            same(lambda s: s.get_all("d"), *stores)
            same(lambda s: s._collections_mappings["d"], *stores)


def test_keep_reset_and_copy_back():
    """The code that lost everything when a mapping followed the store to its new contents."""
    for make in (lambda side: load(side.SimpleKVStore, b'{"x": {"k": {"v": 1}}}'), lambda side: side.SimpleKVStore()):
        for side in SIDES:
            kv = make(side)
            kv.put("l", {"w": 2}, "x")
            old = kv._collections_mappings
            kv._collections_mappings = {}
            kv.put("n", {}, "x")
            kv._collections_mappings["x"].update(old["x"])
            assert kv.get("l", "x") == {"w": 2}
            assert list(kv.get_all("x"))[-1] == "l"


def test_a_store_that_is_dropped_leaves_its_mapping():
    for side in SIDES:
        m = load(side.SimpleKVStore, b'{"x": {"k": {"v": 1}}}')._get_collection_mapping("x")
        assert m == {"k": {"v": 1}}


def test_init_empties_a_store():
    a, b = pair()
    for call in (
        lambda s: s.put("k", {}),
        lambda s: s.__init__(),
        lambda s: s.get_all(),
        lambda s: s.__init__({"c": {"k": {"v": 1}}}),
        lambda s: s.get_all("c"),
        lambda s: s.__init__(),
        lambda s: setattr(s, "_mapping_factory", Mapped),
        lambda s: s.put("k", {}),
        lambda s: s.__init__(),
        lambda s: s.put("k", {}, "d"),
        lambda s: s.to_dict(),
    ):
        same(call, a, b)
        same(lambda s: s._mapping_factory, a, b)
        same_bytes(a, b)


class Counted(dict):
    made = 0

    def __init__(self, *args):
        type(self).made += 1
        super().__init__(*args)


@pytest.mark.parametrize("how", ["fresh", "loaded"])
def test_a_factory_of_the_users_makes_the_collections(how):
    for side in SIDES:
        store = side.SimpleKVStore() if how == "fresh" else load(side.SimpleKVStore, b'{"old": {"k": {}}}')
        store._mapping_factory = Counted
        Counted.made = 0
        store.put("k", {"v": 1}, "c")
        store.get("k", "d")
        assert Counted.made == 2
        assert store._mapping_factory is Counted
        assert type(store._collections_mappings["c"]) is type(store.to_dict()["d"]) is Counted
        assert type(store.get_all("c")) is dict
        again = pickle.loads(pickle.dumps(store))
        assert type(again._collections_mappings["c"]) is Counted and again._mapping_factory is Counted
        store._mapping_factory = dict
        store.get("k", "e")
        assert type(store._collections_mappings["e"]) is dict


def test_a_factory_that_raises():
    a, b = pair()
    for s in (a, b):
        s._mapping_factory = lambda: 1 // 0
    for call in (lambda s: s.put("k", {}), lambda s: s.get("k"), lambda s: s.get_all(), lambda s: s.delete("k")):
        same(call, a, b)
    same_bytes(a, b)


# -- persisting -------------------------------------------------------------------------


@settings(max_examples=EXAMPLES)
@given(st.dictionaries(oracle.texts, st.dictionaries(oracle.texts, oracle.dicts(), max_size=3), max_size=3))
def test_persisted_bytes_and_cross_loading(data):
    a, b = pair(data)
    text = same_bytes(a, b)
    for left, right in ((a, b), (load(peer.SimpleKVStore, text), load(impl.SimpleKVStore, text))):
        same(lambda s: s.to_dict(), left, right)
    # unread cells are written again as they are
    assert persisted(load(impl.SimpleKVStore, text)) == persisted(load(peer.SimpleKVStore, text))


@settings(max_examples=EXAMPLES)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", ""]), oracle.dicts(oracle.live_values)), max_size=4))
def test_live_values_come_back_as_they_went_in(pairs):
    a, b = pair()
    for key, value in pairs:
        copies = clone(value), clone(value)
        for store, mine in zip((a, b), copies):
            store.put(key, mine)
        expected, got = same(lambda s: s.get(key), a, b)
        # the very objects: nothing was converted on the way
        for name in value:
            assert got[name] is copies[1][name] or type(got[name]) in (bool, int, float, str, list, dict)
    same(lambda s: s.get_all(), a, b)
    same_bytes(a, b)


@settings(max_examples=EXAMPLES // 2)
@given(oracle.dicts(st.one_of(oracle.json_values, oracle.odd_values)))
def test_odd_but_jsonable_values_are_written_as_json_dumps_does(value):
    a, b = pair()
    for s in (a, b):
        s.put("k", clone(value))
    text = same_bytes(a, b)
    if not isinstance(text, Raised):
        assert text == dumps({"data": {"k": value}})
        same(lambda s: s.get("k"), load(peer.SimpleKVStore, text), load(impl.SimpleKVStore, text))


@pytest.mark.parametrize("text", oracle.NASTY_TEXT, ids=ascii)
def test_nasty_text_as_value_key_and_collection(text):
    data = {text: {text: {text: text, "l": [text]}}}
    a, b = pair(data)
    assert same_bytes(a, b) == dumps(data)
    same(lambda s: s.to_dict(), *loaded_pair(data))
    same(lambda s: s.get(text, text), *loaded_pair(data))


@pytest.mark.parametrize("number", oracle.NASTY_FLOATS + oracle.NASTY_INTS, ids=repr)
def test_nasty_numbers(number):
    data = {"data": {"k": {"v": number, "l": [number, -number]}}}
    a, b = pair(data)
    assert same_bytes(a, b) == dumps(data)
    same(lambda s: s.get("k"), *loaded_pair(data))
    c, d = loaded_pair(data)
    same_bytes(c, d)


@pytest.mark.parametrize(
    "key", [1, -1, 0, True, False, None, 1.5, float("nan"), float("inf"), 1e16, 10**30, oracle.Level.HIGH, oracle.Colour.RED, (1,), b"b"], ids=repr
)
def test_inner_keys_that_are_no_strings(key):
    a, b = pair()
    for s in (a, b):
        s.put("k", {"inner": {key: 1}, key: 2})
    same(lambda s: s.get("k"), a, b)
    same_bytes(a, b)


def test_circular_and_bottomless_values_are_refused():
    a, b = pair()
    for s in (a, b):
        circle = {"l": []}
        circle["l"].append(circle["l"])
        s.put("circle", circle)
    assert isinstance(same_bytes(a, b).exc, ValueError)
    a, b = pair()
    for s in (a, b):
        deep = {}
        top = deep
        for _ in range(100_000):
            deep["d"] = {}
            deep = deep["d"]
        s.put("deep", top)
    assert isinstance(same_bytes(a, b).exc, RecursionError)


def test_persist_makes_directories_and_takes_bare_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for side, name in zip(SIDES, ("peer", "impl")):
        store = side.SimpleKVStore()
        store.put("k", {"a": "\u00e9"})
        store.persist(str(tmp_path / name / "deep" / "er" / "kv.json"))
        store.persist(f"{name}.json")
        assert (tmp_path / f"{name}.json").read_bytes() == b'{"data": {"k": {"a": "\\u00e9"}}}'
    files = oracle.tree(tmp_path)
    assert set(files) == {f"{n}{s}" for n in ("peer", "impl") for s in (".json", "/deep/er/kv.json")}


def test_persist_replaces_a_longer_file(tmp_path):
    path = tmp_path / "kv.json"
    path.write_text("x" * 10_000)
    impl.SimpleKVStore().persist(str(path))
    assert path.read_bytes() == b"{}"


def test_on_disk_each_side_loads_the_others_file(tmp_path):
    data = {"data": {"k": {"v": [1, 2.5, None, "\u00e9\ud800"]}}, "empty": {}}
    a, b = pair(data)
    for s, name in ((a, "a.json"), (b, "b.json")):
        s.persist(str(tmp_path / name))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    same(
        lambda s: s.to_dict(),
        peer.SimpleKVStore.from_persist_path(str(tmp_path / "b.json")),
        impl.SimpleKVStore.from_persist_path(str(tmp_path / "a.json")),
    )


def test_loading_what_is_not_there_or_no_json(tmp_path):
    missing = str(tmp_path / "nowhere" / "kv.json")
    a, b = (outcome(side.SimpleKVStore.from_persist_path, missing) for side in SIDES)
    assert type(a.exc) is type(b.exc) is FileNotFoundError
    for text in (b"", b"{", b"nonsense", b'{"data": {"k": {"v": 1}}', b'{"data": {"k": 01}}', b"\xff\xfe", b'{"a": 1} x', b"{'a': 1}"):
        path = tmp_path / "bad.json"
        path.write_bytes(text)
        a, b = (outcome(side.SimpleKVStore.from_persist_path, str(path)) for side in SIDES)
        assert isinstance(a, Raised), text
        assert isinstance(b, Raised) and isinstance(b.exc, type(a.exc)), (text, a, b)
        assert path.read_bytes() == text


def test_file_encodings_that_json_detects():
    data = {"data": {"k": {"v": "\u00e9\u4e2d"}}}
    text = json.dumps(data, ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        a, b = (outcome(load, side.SimpleKVStore, text.encode(encoding)) for side in SIDES)
        assert isinstance(a, Raised) == isinstance(b, Raised), encoding
        if not isinstance(a, Raised):
            same(lambda s: s.to_dict(), a, b)
            same_bytes(a, b)


def test_duplicate_keys_in_a_file():
    text = b'{"data": {"k": {"v": 1, "v": 2}, "z": {}, "k": {"w": 1, "w": [1], "x": 0}}, "data2": {}, "data2": {"q": {}}}'
    a, b = loaded_pair(text)
    assert same_bytes(a, b) == dumps(json.loads(text))
    same(lambda s: s.to_dict(), a, b)


@pytest.mark.parametrize(
    "text",
    [
        b'{ "data" : { "k" : { "v" : 1 , "l" : [ 1 , 2 ] } } }',
        b'{"data":{"k":{"v":1,"l":[1,2]}}}',
        b'{\n\t"data": {\r\n  "k": {"v": [ ]}, "l": { }}}\n',
        '{"data": {"k": {"v": "caf\u00e9 \U0001f600"}}}'.encode(),
        b'{"data": {"k": {"v": "\\u00E9 \\/ \\u0041 \\ud83d\\ude00"}}}',
        b'{"data": {"k": {"v": [1e5, 1E+2, 1.0e-7, 0.10, -0, -0.0, 100000000000000000000.0, 1e400, 5e-324, 0.1e1]}}}',
        b'{"data": {"k": {"v": [NaN, Infinity, -Infinity]}}}',
        b'{"data": {"k": {"v": "\x7f"}}}',
        b'{"data": {"\\u006b": {"v": 1}, "k": {"v": 2}}}',
        b'{"d\\u0061ta": {"k": {"\\u0076": 1}}}',
    ],
)
def test_text_that_the_peer_would_write_differently_is_normalised(text):
    a, b = loaded_pair(text)
    assert same_bytes(a, b) == dumps(json.loads(text))
    same(lambda s: s.get("k"), a, b)
    assert same_bytes(a, b) == dumps(json.loads(text))
    same(lambda s: s.to_dict(), a, b)


@settings(max_examples=EXAMPLES // 2)
@given(st.dictionaries(st.sampled_from("abc"), oracle.dicts(), max_size=3), st.integers(0, 10**6), st.data())
def test_reading_and_changing_a_loaded_store(values, seed, data):
    a, b = loaded_pair({"data": values})
    for key in data.draw(st.permutations(sorted(values))):
        if data.draw(st.booleans()):
            for s in (a, b):
                scribble(s.get(key), seed, nested_only=True)
        elif data.draw(st.booleans()):
            for s in (a, b):
                scribble(s.get_all()[key], seed)
    text = same_bytes(a, b)
    same(lambda s: s.to_dict(), a, b)
    assert_same(text, persisted(b))


def test_subclasses_see_their_own_methods():
    for side in SIDES:
        calls = []

        class Mine(side.SimpleKVStore):
            def put(self, key, val, collection="data"):
                calls.append(key)
                super().put(key, {**val, "stamp": 1}, collection)

            def get(self, key, collection="data"):
                found = super().get(key, collection)
                return found if found is None else {**found, "seen": 1}

        store = Mine()
        store.put_all([("a", {"x": 1})])
        run(store.aput("b", {"x": 2}))
        assert calls == ["a", "b"]
        assert store.get("a") == {"x": 1, "stamp": 1, "seen": 1}
        assert run(store.aget("b")) == {"x": 2, "stamp": 1, "seen": 1}
        assert store.get_all()["a"] == {"x": 1, "stamp": 1}
        loaded = load(Mine, persisted(store))
        assert type(loaded) is Mine
        assert loaded.get("a") == {"x": 1, "stamp": 1, "seen": 1}


def test_attributes_may_be_set():
    for side in SIDES:
        store = side.SimpleKVStore()
        store.note = "mine"
        assert store.note == "mine"
    assert difference(raw.SimpleKVStore()._mapping_factory, impl.SimpleKVStore()._mapping_factory) is None


# -- young, native, plain: a table's three forms are one to its callers ------------------------


def test_collections_keep_the_order_of_their_first_touch_through_all_forms():
    a, b = pair()
    for s in (a, b):
        s.get("k", "read")
        s.put("k", {"v": [1]}, "written")
        s.delete("k", "deleted")
        s.get_all("all")
    assert json.loads(persisted(b)) == {"read": {}, "written": {"k": {"v": [1]}}, "deleted": {}, "all": {}}
    same_bytes(a, b)
    for s in (a, b):
        s.put("k2", {}, "written")
        s.put("k", {}, "last")
    same_bytes(a, b)
    same(lambda s: s.to_dict(), a, b)
    same_bytes(a, b)


@pytest.mark.parametrize("become", [lambda s: None, persisted, lambda s: s._collections_mappings["c"]["k"], lambda s: s.to_dict()])
def test_values_stay_the_same_objects_in_all_forms(become):
    for side in SIDES:
        s = side.SimpleKVStore()
        inner = [1]
        s.put("k", {"v": inner}, "c")
        stored = s.get_all("c")["k"]
        become(s)
        assert s.get_all("c")["k"] is stored and s.get("k", "c")["v"] is inner
        s.put("k2", {"v": inner}, "c")
        become(s)
        assert list(s.get_all("c")) == ["k", "k2"] and s.delete("k", "c") and not s.delete("k", "c")
        assert s.get("k", "c") is None and s.get("k", "other") is None


def test_equal_names_that_are_other_objects():
    a, b = pair()
    for i in range(9):
        for s in (a, b):
            s.put(f"k{i}", {"i": i}, "".join(["c", str(i % 6)]))
    for i in range(9):
        same(lambda s: s.get(f"k{i}", "".join(["c", str(i % 6)])), a, b)
    same_bytes(a, b)


def test_get_all_again_is_another_dict_of_the_same_values():
    for s in loaded_pair({"c": {str(i): {"i": [i]} for i in range(20)}}):
        first, second = s.get_all("c"), s.get_all("c")
        assert first is not second and all(first[k] is second[k] for k in second)
        first.pop("3")
        second["new"] = {}
        assert list(s.get_all("c")) == [str(i) for i in range(20)]
        s.put("3", {"i": "put"}, "c")
        assert s.get_all("c")["3"] == {"i": "put"} and list(s.get_all("c"))[3] == "3"
        s.delete("4", "c")
        s.put("4", {}, "c")
        assert list(s.get_all("c"))[-1] == "4" and len(s.get_all("c")) == 20
        s._collections_mappings["c"]["5"] = {"raw": 1}
        assert s.get_all("c")["5"] == {"raw": 1}
        s._collections_mappings.clear()
        assert s.get_all("c") == {}


def test_get_all_holds_no_value_that_was_removed():
    import gc
    import weakref

    class Traced(dict):
        def copy(self):
            return self

    for s in loaded_pair({"c": {"k": {}}}):
        for remove in (lambda: s.delete("t", "c"), lambda: s.put("t", {}, "c")):
            value = Traced()
            s.put("t", value, "c")
            assert s.get_all("c")["t"] is value and s.get_all("c")["t"] is value
            alive = weakref.ref(value)
            del value
            remove()
            gc.collect()
            assert alive() is None


@pytest.mark.parametrize("asynchronous", [False, True])
def test_put_all_of_odd_items_stops_where_the_peer_does(asynchronous):
    name = "aput_all" if asynchronous else "put_all"
    for pairs in (
        [("a", {"v": 1}), ["b", {"v": 2}], ("c", {"v": 3})],
        [("a", {"v": 1}), 5, ("c", {"v": 3})],
        [("a", {"v": 1}), ("b", {}, 1)],
        [("a", {"v": 1}), ("b", 7)],
        [("a", {"v": 1}), ([], {})],
        (("a", {"v": 1}), ("b", {})),
        {"ab": 1, "cd": 2},
        [],
    ):
        a, b = pair()
        for s in (a, b):
            s.put("a", {"old": True}, "c")
        same(lambda s: getattr(s, name)(clone(pairs), "c"), a, b)
        same(lambda s: s.get_all("c"), a, b)
        same_bytes(a, b)


def test_put_all_goes_through_a_put_that_was_replaced():
    for side in SIDES:

        class Mine(side.SimpleKVStore):
            def put(self, key, val, collection="data"):
                super().put(key, dict(val, mine=True), collection)

        s = Mine()
        s.put_all([("a", {})])
        assert s.get("a") == {"mine": True}
        s = side.SimpleKVStore()
        seen = []
        s.put = lambda key, val, collection: seen.append(key)
        s.put_all([("a", {}), ("b", {})])
        assert seen == ["a", "b"] and s.get_all() == {}
        del s.put
        s.put_all([("a", {})])
        assert s.get_all() == {"a": {}}


def test_a_list_that_changes_while_it_is_put():
    class Grows(dict):
        def copy(self):
            if len(pairs) < 4:
                pairs.append((f"more{len(pairs)}", Grows()))
            return {}

    for side in SIDES:
        pairs = [("first", Grows())]
        s = side.SimpleKVStore()
        s.put_all(pairs)
        assert list(s.get_all()) == ["first", "more1", "more2", "more3"]


def test_get_many_gets_each():
    s = impl.SimpleKVStore()
    s.put_all([("a", {"v": 1}), ("b", {"v": 2})], "c")
    for keys in (["b", "no", "a"], ("b", "no", "a"), iter(["b", "no", "a"])):
        assert s.get_many(keys, "c") == [{"v": 2}, None, {"v": 1}]
    assert s.get_many([5, ("x",)], "c") == [None, None]
    with pytest.raises(TypeError):
        s.get_many([[]], "c")
    with pytest.raises(TypeError):
        s.get_many(5)


# -- who overrides, replaces and reaches in ----------------------------------------------


def test_aput_all_goes_through_aput_and_nothing_else():
    logs = []
    for side in SIDES:
        log = []

        class Mine(side.SimpleKVStore):
            async def aput(self, key, val, collection="data"):
                log.append(("aput", key))
                await super().aput(key, val, collection)

        class Other(side.SimpleKVStore):
            def put_all(self, *args, **kwargs):
                log.append("put_all")

        one, other, third = Mine(), Other(), side.SimpleKVStore()
        run(one.aput_all([("a", {}), ("b", {})], "c"))
        run(other.aput_all([("a", {})]))

        async def aput(key, val, collection):
            log.append(("its own", key, collection))

        third.aput = aput
        run(third.aput_all([("a", {})]))
        logs.append((log, one.get_all("c"), other.get_all(), third.get_all()))
    assert_same(*logs)


def test_a_subclass_may_find_collections_its_own_way():
    results = []
    for side in SIDES:

        class Mine(side.SimpleKVStore):
            def _get_collection_mapping(self, collection):
                return super()._get_collection_mapping("mine/" + collection)

        class Deeper(Mine):
            def get(self, key, collection="data"):
                return super().get(key.lower(), collection)

        store = Deeper()
        store.put("a", {"v": 1})
        store.put_all([("b", {"v": 2}), ("c", {})], "x")
        results.append((store.get("A"), store.get_all("x"), store.delete("c", "x"), store.delete("c", "x"), store.to_dict()))
    assert_same(*results)


def test_a_subclass_may_delete_through_the_mappings():
    results = []
    for side in SIDES:

        class Mine(side.SimpleKVStore):
            def delete(self, key, collection="data"):
                return self._collections_mappings.get(collection, {}).pop(key, None) is not None

        store = Mine()
        store.put("a", {})
        results.append((store.delete("a"), store.delete("a"), store.get_all()))
    assert_same(*results)


def test_popitem_and_reversed_begin_at_the_end():
    a, b = pair()
    for s in (a, b):
        s.put_all([("a", {"v": 1}), ("b", {"v": 2}), ("c", {"v": 3})])
        s.put("x", {}, "other")
    same(lambda s: list(reversed(s._collections_mappings)), a, b)
    same(lambda s: list(reversed(s._collections_mappings["data"])), a, b)
    for _ in range(4):
        same(lambda s: s._collections_mappings["data"].popitem(), a, b)
    same(lambda s: s.to_dict(), a, b)


@pytest.mark.parametrize("count", [1, 2])
def test_a_deletion_at_the_last_key_of_a_loop_is_noticed(count):
    def loop(s):
        for i, key in enumerate(s._collections_mappings["data"]):
            if i == count - 1:
                s.delete(key)

    a, b = pair()
    for s in (a, b):
        s.put_all([(str(i), {}) for i in range(count)])
    same(loop, a, b)
    same(lambda s: s.get_all(), a, b)


def test_a_put_under_what_has_no_hash_touches_the_collection_as_in_the_peer():
    a, b = pair()
    same(lambda s: s.put([], {}, "c"), a, b)
    same(lambda s: s.to_dict(), a, b)


# -- the first get of a value that was loaded --------------------------------------------------

LOADED = {
    "flat": {"a": "x", "b": 1, "c": 1.5, "d": None, "e": True, "\u00e9\"": "\ud800", "a" * 40: 10**30},
    "empty": {},
    "nested": {"list": [1], "dict": {"k": "v"}, "a": 2},
    "deep": {"a": {"b": {"a": {"b": "a"}}}, "b": [{"a": 1, "b": 2}, {"b": 1, "a": 2}]},
}


def loaded_ones():
    return loaded_pair({"c": LOADED, "d": {"list": [1, 2]}})


@pytest.mark.parametrize("key", LOADED)
@pytest.mark.parametrize("gets", [1, 2, 3])
def test_what_get_gave_is_a_copy_from_the_first_time_on(key, gets):
    a, b = loaded_ones()
    for _ in range(gets):
        same(lambda s: s.get(key, "c"), a, b)
        for store in (a, b):
            store.get(key, "c")["mine"] = 1
    same(lambda s: s.get(key, "c"), a, b)
    same(lambda s: s.get_all("c"), a, b)
    assert b.get_many([key, "missing"], "c") == [a.get(key, "c"), None]
    same_bytes(a, b)


@pytest.mark.parametrize("key", ["nested", "deep"])
def test_what_is_nested_is_the_stores_from_the_first_get_on(key):
    a, b = loaded_ones()
    for store in (a, b):
        first = store.get(key, "c")
        for value in first.values():
            if isinstance(value, dict):
                value["changed"] = True
            elif isinstance(value, list):
                value.append("changed")
        assert all(store.get(key, "c")[k] is v for k, v in first.items())
    same(lambda s: s.get(key, "c"), a, b)
    same_bytes(a, b)


def test_get_then_get_all_then_get():
    a, b = loaded_ones()
    for store in (a, b):
        store.get("flat", "c")
        everything = store.get_all("c")
        everything["flat"]["changed"] = 1
        assert store.get("flat", "c")["changed"] == 1 and store.get_all("c")["flat"] is everything["flat"]
    same(lambda s: s.get("list", "d"), a, b)
    same(lambda s: s.get("list", "d"), a, b)
    same_bytes(a, b)


def test_keys_are_read_right_whatever_follows_what():
    """Objects whose members come in ever other orders, repeated, missing, one key another's beginning."""
    rng = random.Random(5)
    names = ["a", "ab", "abc", "b", "", "\u00e9", "k\\n", "x" * 31, "x" * 32, "x" * 33, *(f"key{i}" for i in range(150))]

    def value(depth):
        keys = rng.sample(names, rng.randint(0, 12))
        return {k: value(depth - 1) if depth and rng.random() < 0.3 else rng.choice(["", "v", 1, None]) for k in keys}

    content = {"c": {f"{i}": value(3) for i in range(400)}}
    for text in (json.dumps(content), json.dumps(content, separators=(",", ":")), json.dumps(content, indent=1)):
        a, b = loaded_pair(text.encode())
        for key in content["c"]:
            same(lambda s: s.get(key, "c"), a, b)
        same_bytes(a, b)
