"""Pickling and copying: what comes back is what went in, shared exactly as in the peer."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import pytest

from llama_index.core.data_structs.data_structs import IndexDict, KeywordTable

import oracle
from oracle import SIDES, assert_same, chunk, doc, dumps, impl, load, peer, persisted, raw, same, same_bytes

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def fill_kv(side, loaded=False):
    store = side.SimpleKVStore()
    store.put("k", {"v": [1, {"x": "\u00e9\ud800"}], "f": float("inf")})
    store.put("l", {}, "other")
    store.get("nothing", "empty")
    return load(side.SimpleKVStore, persisted(store)) if loaded else store


def fill_docs(side, loaded=False):
    store = side.SimpleDocumentStore(namespace="mine")
    store.add_documents([doc("d0"), chunk("n0", "d0", tags=["a"]), chunk("n1", "d0")])
    return load(side.SimpleDocumentStore, persisted(store), namespace="mine") if loaded else store


def fill_index(side, loaded=False):
    store = side.SimpleIndexStore()
    store.add_index_struct(IndexDict(index_id="v", nodes_dict={"a": "b"}))
    store.add_index_struct(KeywordTable(index_id="k", table={"w": {"a"}}))
    return load(side.SimpleIndexStore, persisted(store)) if loaded else store


FILL = {"kv": fill_kv, "docs": fill_docs, "index": fill_index}
CLASS = {"kv": "SimpleKVStore", "docs": "SimpleDocumentStore", "index": "SimpleIndexStore"}


@pytest.fixture(params=[(kind, loaded) for kind in FILL for loaded in (False, True)], ids=lambda p: f"{p[0]}-{'loaded' if p[1] else 'fresh'}")
def pair(request):
    kind, loaded = request.param
    return tuple(FILL[kind](side, loaded) for side in SIDES)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickle_round_trip(pair, protocol):
    for s in pair:
        before = persisted(s)
        back = pickle.loads(pickle.dumps(s, protocol))
        assert type(back) is type(s)
        assert persisted(back) == before == persisted(s)
    same_bytes(*(pickle.loads(pickle.dumps(s, protocol)) for s in pair))


def test_a_pickled_copy_is_apart(pair):
    for s in pair:
        before = persisted(s)
        back = pickle.loads(pickle.dumps(s))
        kv = getattr(back, "_kvstore", back)
        kv.put("new", {"x": 1})
        for name in list(kv.to_dict()):
            kv.get_all(name).clear()
            for key in kv.get_all(name):
                kv.delete(key, name)
        assert persisted(s) == before


def test_a_pickled_copy_works_on(pair):
    a, b = (pickle.loads(pickle.dumps(s)) for s in pair)
    if hasattr(a, "add_documents"):
        same(lambda s: s.delete_document("n0"), a, b)
        same(lambda s: s.add_documents([chunk("n9", "d0", z=1)]), a, b)
        same(lambda s: s.docs, a, b)
        assert a._namespace == b._namespace == "mine"
    elif hasattr(a, "add_index_struct"):
        same(lambda s: s.index_structs(), a, b)
        same(lambda s: s.delete_index_struct("v"), a, b)
    else:
        same(lambda s: s.put("z", {"y": 1}), a, b)
        same(lambda s: s.get_all(), a, b)
    same_bytes(a, b)


def test_cloudpickle(pair):
    cloudpickle = pytest.importorskip("cloudpickle")
    for s in pair:
        assert persisted(pickle.loads(cloudpickle.dumps(s))) == persisted(s)


def test_what_a_pickle_shares_stays_shared():
    for side in SIDES:
        kv = fill_kv(side)
        kv2, docs, index = pickle.loads(pickle.dumps((kv, side.SimpleDocumentStore(kv), side.SimpleIndexStore(kv))))
        assert docs._kvstore is kv2 and index._kvstore is kv2
        docs.add_documents([chunk("n0", "d0")])
        assert kv2.get("n0", "docstore/data") is not None
        value = kv.get("k")["v"]
        kv3, value3 = pickle.loads(pickle.dumps((kv, value)))
        assert kv3.get("k")["v"] is value3


def test_values_json_cannot_hold_pickle():
    import datetime

    for side in SIDES:
        kv = side.SimpleKVStore()
        kv.put("k", {"when": datetime.date(2024, 1, 1), "t": (1,), 5: {1, 2}})
        back = pickle.loads(pickle.dumps(kv))
        assert_same(kv.get("k"), back.get("k"))


def test_an_unpicklable_value_is_an_error_as_in_the_peer():
    a, b = (side.SimpleKVStore() for side in SIDES)
    for s in (a, b):
        s.put("k", {"f": lambda: None})
    expected, got = (oracle.outcome(pickle.dumps, s) for s in (a, b))
    assert isinstance(expected, oracle.Raised) and isinstance(got, oracle.Raised)
    assert type(expected.exc) is type(got.exc)
    assert b.get("k") is not None


def test_damaged_data_is_not_left_out_of_a_pickle():
    """LlamaIndex drops what cannot be pickled, with a warning; damage must not pass as that."""
    from pannier import CorruptPackError, SimpleVectorStore

    class Damaged:
        def sync(self):
            return True

        def settle(self):
            raise CorruptPackError("a checksum is wrong", "seg.pn", 64)

    store = SimpleVectorStore()
    pickle.dumps(store)
    store.data._table = Damaged()
    with pytest.raises(CorruptPackError, match="seg.pn"):
        pickle.dumps(store)


def test_the_peers_pickled_state_is_taken():
    """A state as the peer's ``__getstate__`` makes it fills a store of ours."""
    theirs = fill_kv(raw)
    ours = impl.SimpleKVStore.__new__(impl.SimpleKVStore)
    ours.__setstate__(theirs.__getstate__())
    assert persisted(ours) == persisted(theirs)
    ours.put("n", {})
    assert ours.get("n") == {}
    docs = fill_docs(raw)
    other = impl.SimpleDocumentStore.__new__(impl.SimpleDocumentStore)
    state = getattr(docs, "__getstate__", lambda: docs.__dict__)()
    if hasattr(other, "__setstate__"):
        other.__setstate__(state)
    else:
        other.__dict__.update(state)
    assert persisted(other) == persisted(docs)
    assert_same(dict(docs.docs), {k: other.docs[k] for k in other.docs})


def test_our_state_is_taken_by_the_peer():
    ours = fill_kv(impl)
    theirs = raw.SimpleKVStore.__new__(raw.SimpleKVStore)
    theirs.__setstate__(ours.__getstate__())
    assert_same({k: dict(v) for k, v in theirs.to_dict().items()}, {k: dict(v) for k, v in fill_kv(raw).to_dict().items()})


@pytest.mark.parametrize("name", FILL)
def test_pickled_across_processes(name, tmp_path):
    path = tmp_path / "p.pickle"
    store = FILL[name](impl, True)
    path.write_bytes(pickle.dumps(store))
    code = (
        "import pickle, sys, oracle\n"
        "s = pickle.load(open(sys.argv[1], 'rb'))\n"
        "sys.stdout.buffer.write(oracle.persisted(s))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *[p for p in sys.path if p]])}
    out = subprocess.run([sys.executable, "-c", code, str(path)], env=env, check=True, stdout=subprocess.PIPE).stdout
    assert out == persisted(store)


# -- copies -------------------------------------------------------------------------------


def test_deepcopy_is_apart(pair):
    for s in pair:
        before = persisted(s)
        other = copy.deepcopy(s)
        assert type(other) is type(s) and persisted(other) == before
        kv = getattr(other, "_kvstore", other)
        for name in kv.to_dict():
            for value in kv.get_all(name).values():
                value["changed"] = 1
        kv.put("more", {})
        assert persisted(s) == before


def test_deepcopy_keeps_one_shared_kv_store_shared():
    for side in SIDES:
        kv = fill_kv(side)
        docs, index = copy.deepcopy((side.SimpleDocumentStore(kv), side.SimpleIndexStore(kv)))
        assert docs._kvstore is index._kvstore and docs._kvstore is not kv


def test_copy_shares_as_the_peers_does():
    for loaded in (False, True):
        a, b = (fill_kv(side, loaded) for side in SIDES)
        for s in (a, b):
            other = copy.copy(s)
            assert type(other) is type(s) and other is not s
            other.put("through the copy", {"x": [1]})
            s.put("through the first", {"x": 1})
            other.put("c", {}, "new collection")
            other.get("k")["v"].append("both")
            assert persisted(other) == persisted(s)
            s.delete("k")
            assert other.get("k") is None
        same_bytes(a, b)


def test_copy_of_a_docstore_shares_its_kv_store():
    for side in SIDES:
        store = fill_docs(side)
        other = copy.copy(store)
        assert other._kvstore is store._kvstore and other._namespace == "mine"
        other.delete_document("n0")
        assert not store.document_exists("n0")


class OwnKV(impl.SimpleKVStore):
    def __init__(self, data=None, label="none"):
        super().__init__(data)
        self.label = label


class OwnDocs(impl.SimpleDocumentStore):
    pass


def test_subclasses_pickle_and_copy_with_their_attributes():
    kv = OwnKV({"data": {"k": {}}}, label="mine")
    docs = OwnDocs(kv)
    docs.note = ["n"]
    for back in (pickle.loads(pickle.dumps(docs)), copy.deepcopy(docs), copy.copy(docs)):
        assert type(back) is OwnDocs and type(back._kvstore) is OwnKV
        # The peer's __setstate__ of a KV store keeps the collections only.
        assert back.note == ["n"]
        assert back._kvstore.get("k") == {}
    assert persisted(pickle.loads(pickle.dumps(docs))) == dumps({"data": {"k": {}}})


def test_docs_pickles_and_copies_as_a_dict_does():
    for side in SIDES:
        docs = fill_docs(side, True).docs
        for back in (pickle.loads(pickle.dumps(docs)), copy.deepcopy(docs), copy.copy(docs)):
            assert list(back) == ["d0", "n0", "n1"]
            assert back["n0"].metadata == {"tags": ["a"]}
    assert_same(dict(fill_docs(peer).docs), {**fill_docs(impl).docs})
