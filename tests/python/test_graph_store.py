"""SimpleGraphStore against LlamaIndex's own: the same calls on both, the same outcome.

The reference is LlamaIndex's class with a ``delete`` that deletes, nothing else.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import logging
import pickle
import random
from typing import Any, Callable, Dict, List, Tuple

import fsspec
import pytest
from llama_index.core.graph_stores import simple as peer_module
from llama_index.core.graph_stores.simple import SimpleGraphStore as Peer
from llama_index.core.graph_stores.simple import SimpleGraphStoreData as PeerData
from llama_index.core.graph_stores.types import GraphStore

from pannier.errors import CorruptStoreError, UnserializableError
from pannier.graph_store import GraphDict, NativeGraphData, SimpleGraphStore


class Reference(Peer):
    def delete(self, subj: str, rel: str, obj: str) -> None:
        graph = self._data.graph_dict
        for i, pair in enumerate(graph.get(subj, [])):
            if tuple(pair) == (rel, obj):
                del graph[subj][i]
                if not graph[subj]:
                    del graph[subj]
                return


def is_native(store: SimpleGraphStore) -> bool:
    return store._table() is not None


def outcome(call: Callable[[], Any]) -> Tuple[str, Any]:
    try:
        return "value", call()
    except Exception as e:
        return type(e).__name__, str(e)


def contents(store: Peer) -> List[Tuple[str, Any]]:
    """In order, without making anything live that is not."""
    graph = store._data.graph_dict
    return list((graph._snapshot() if isinstance(graph, GraphDict) else graph).items())


def file_of(store: Peer, path: Any) -> bytes:
    store.persist(str(path))
    return path.read_bytes()


WORDS = ["", "a", "b", "c", "é", "\U0001f600", "\ud83d", '"\\', "\n\x7f", "long " * 9]


# -- random calls ------------------------------------------------------------------------


class Pair:
    """One random walk over both stores."""

    def __init__(self, seed: int, tmp: Any) -> None:
        self.rng = random.Random(seed)
        self.tmp = tmp
        self.theirs: Peer = Reference()
        self.ours: Peer = SimpleGraphStore()
        self.held: List[Tuple[Any, Any]] = []  # lists that both handed out

    def word(self) -> str:
        return self.rng.choice(WORDS[: self.rng.choice([3, 5, len(WORDS)])])

    def both(self, call: Callable[[Peer], Any]) -> Tuple[Any, Any]:
        expected, got = outcome(lambda: call(self.theirs)), outcome(lambda: call(self.ours))
        assert got == expected
        return expected[1], got[1]

    def step(self) -> None:
        names = [n for n in dir(self) if n.startswith("do_")]
        weights = [6 if n in ("do_upsert", "do_delete", "do_rel_map") else 1 for n in names]
        getattr(self, self.rng.choices(names, weights)[0])()
        assert contents(self.ours) == contents(self.theirs)

    def do_upsert(self) -> None:
        for _ in range(self.rng.choice([1, 1, 5, 30])):
            t = (self.word(), self.word(), self.rng.choice([self.word(), str(self.rng.randrange(40))]))
            self.both(lambda s: s.upsert_triplet(*t))

    def do_delete(self) -> None:
        known = [(s, *pair) for s, pairs in contents(self.theirs) for pair in pairs if len(pair) == 2]
        for _ in range(self.rng.choice([1, 1, 12])):
            t = self.rng.choice(known) if known and self.rng.random() < 0.8 else (self.word(),) * 3
            self.both(lambda s: s.delete(*t))

    def do_rel_map(self) -> None:
        rng = self.rng
        subjs = rng.choice([None, [], [self.word() for _ in range(rng.randrange(1, 5))], ["a", "a", "b"]])
        depth, limit = rng.choice([0, 1, 2, 3]), rng.choice([-1, 0, 1, 2, 7, 30, 31, 100])
        self.both(lambda s: s.get_rel_map(subjs, depth, limit))
        self.both(lambda s: s._data.get_rel_map(subjs, depth=depth, limit=limit))

    def do_get(self) -> None:
        subj = self.word()
        pair = self.both(lambda s: s.get(subj))
        if self.rng.random() < 0.5:
            self.held.append(pair)

    def do_change_what_was_handed_out(self) -> None:
        rng = self.rng
        if not self.held:
            return
        pair = rng.choice(self.held)
        new = [self.word(), self.word()]
        kind, at = rng.choice(["append", "tuple", "remove", "clear", "edit", "twice"]), rng.randrange(5)
        for held in pair:
            if kind in ("append", "twice"):
                held += [list(new)] * (2 if kind == "twice" else 1)
            elif kind == "tuple":
                held.append(tuple(new))
            elif kind == "clear":
                held.clear()
            elif at < len(held) and kind == "remove":
                del held[at]
            elif at < len(held) and isinstance(held[at], list):
                held[at][:] = new

    def do_let_go(self) -> None:
        self.held.clear()

    def do_mapping(self) -> None:
        word, value = self.word(), [[self.word(), self.word()] for _ in range(self.rng.randrange(3))]
        calls: List[Callable[[Peer], Any]] = [
            lambda s: s._data.graph_dict[word],
            lambda s: s._data.graph_dict.__setitem__(word, copy.deepcopy(value)),
            lambda s: s._data.graph_dict.__delitem__(word),
            lambda s: s._data.graph_dict.pop(word, "none"),
            lambda s: s._data.graph_dict.setdefault(word, copy.deepcopy(value)),
            lambda s: s._data.graph_dict.get(word),
            lambda s: (word in s._data.graph_dict, 5 in s._data.graph_dict, len(s._data.graph_dict)),
            lambda s: [] in s._data.graph_dict,
            lambda s: s._data.graph_dict[None],
            lambda s: (list(s._data.graph_dict), list(reversed(s._data.graph_dict))),
            lambda s: list(s._data.graph_dict.items()),
            lambda s: list(s._data.graph_dict.values()),
            lambda s: s._data.graph_dict.copy(),
            lambda s: s._data.graph_dict | {word: value},
            lambda s: {word: value} | s._data.graph_dict,
            lambda s: s._data.graph_dict.update({word: copy.deepcopy(value)}),
            lambda s: repr(s._data.graph_dict),
            lambda s: repr(s._data),
            lambda s: s._data.graph_dict.popitem(),
            lambda s: [s._data.graph_dict.pop(k) for k in s._data.graph_dict],
        ]
        self.both(self.rng.choice(calls))

    def do_whole(self) -> None:
        calls: List[Callable[[Peer], Any]] = [
            lambda s: s.to_dict(),
            lambda s: s._data.to_dict(),
            lambda s: s._data.to_json(),
            lambda s: dataclasses.asdict(s._data),
            lambda s: copy.deepcopy(s._data.graph_dict),
            lambda s: dict(pickle.loads(pickle.dumps(s._data.graph_dict))),
        ]
        call = self.rng.choice(calls)
        self.both(lambda s: copy.deepcopy(call(s)))

    def do_other_object(self) -> None:
        change: Callable[[Peer], Peer] = self.rng.choice(
            [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
        )
        if change is not copy.copy:
            self.held.clear()
        self.theirs, self.ours = change(self.theirs), change(self.ours)

    def do_from_dict(self) -> None:
        self.held.clear()
        data = self.theirs.to_dict()
        expected = outcome(lambda: Reference.from_dict(data))
        got = outcome(lambda: SimpleGraphStore.from_dict(self.ours.to_dict()))
        assert got[0] == expected[0]
        if expected[0] == "value":
            self.theirs, self.ours = expected[1], got[1]

    def do_file(self) -> None:
        a, b = self.tmp / "theirs.json", self.tmp / "ours.json"
        assert file_of(self.ours, b) == file_of(self.theirs, a)
        if self.rng.random() < 0.5:  # each goes on with the other's file
            self.held.clear()
            expected = outcome(lambda: Reference.from_persist_path(str(b)))
            got = outcome(lambda: SimpleGraphStore.from_persist_path(str(a)))
            assert got[0] == expected[0]
            if expected[0] == "value":
                self.theirs, self.ours = expected[1], got[1]

    def do_odd(self) -> None:
        """What only a plain dict can hold: rare, since most of it is for good."""
        if self.rng.random() < 0.7:
            return
        odd = self.rng.choice([None, 5, ("t",)])
        t = [self.word(), self.word(), self.word()]
        t[self.rng.randrange(3)] = odd
        self.both(lambda s: s.upsert_triplet(*t))
        if isinstance(t[0], tuple):
            self.both(lambda s: s._data.graph_dict.pop(t[0]))
        self.both(lambda s: s.delete(*t))

    def do_assign(self) -> None:
        if self.rng.random() < 0.8:
            return
        plain: Dict[str, Any] = {self.word(): [[self.word(), self.word()]]}
        copies = copy.deepcopy(plain), copy.deepcopy(plain)
        self.held.clear()
        for store, value in zip((self.theirs, self.ours), copies):
            store._data.graph_dict = value
            assert store._data.graph_dict is value


@pytest.mark.parametrize("block", range(10))
def test_random_calls_end_as_the_peers(block: int, tmp_path: Any) -> None:
    native = 0
    for seed in range(block * 30, block * 30 + 30):
        pair = Pair(seed, tmp_path)
        for _ in range(40):
            pair.step()
        native += is_native(pair.ours)
    assert native >= 10  # else the table itself was hardly tested


# -- one by one ----------------------------------------------------------------------------


def test_is_the_peers_kind() -> None:
    store = SimpleGraphStore()
    assert isinstance(store, Peer) and isinstance(store, GraphStore)
    assert isinstance(store._data, PeerData)
    assert store.client is None and store.schema == ""
    for call in (store.get_schema, lambda: store.query("q")):
        expected = outcome(getattr(Peer(), "get_schema") if call == store.get_schema else lambda: Peer().query("q"))
        assert outcome(call) == expected and expected[0] == "NotImplementedError"
    assert bool(store) and not hasattr(store, "__len__")


def test_delete_really_deletes() -> None:
    store = SimpleGraphStore()
    store.upsert_triplet("a", "r", "b")
    store.upsert_triplet("a", "r", "c")
    store.delete("a", "r", "b")
    assert store.get("a") == [["r", "c"]]
    store.delete("a", "r", "c")
    assert store._data.graph_dict == {} and store.get("a") == []
    store.delete("a", "r", "c")


def test_get_of_nothing_is_a_fresh_list() -> None:
    store = SimpleGraphStore()
    store.get("x").append(["r", "o"])
    assert store.get("x") == [] and store.to_dict() == {"graph_dict": {}}


def test_get_hands_out_the_stored_list() -> None:
    store = SimpleGraphStore()
    store.upsert_triplet("a", "r", "b")
    held = store.get("a")
    assert store.get("a") is held and store._data.graph_dict["a"] is held
    store.upsert_triplet("a", "r", "c")
    assert held == [["r", "b"], ["r", "c"]]
    held.append(["r", "d"])
    store.upsert_triplet("a", "r", "d")
    assert held == [["r", "b"], ["r", "c"], ["r", "d"]]
    assert store.get_rel_map(["a"], 1) == {"a": [["a", "r", o] for o in "bcd"]}
    assert store.to_dict()["graph_dict"]["a"] is not held


def test_a_pair_that_somebody_holds_stays_the_stored_one() -> None:
    store = SimpleGraphStore()
    store.upsert_triplet("a", "r", "b")
    pair = store.get("a")[0]
    store.upsert_triplet("a", "r", "c")
    pair[1] = "changed"
    assert store.get("a") == [["r", "changed"], ["r", "c"]]


def test_a_list_that_was_let_go_costs_nothing_later() -> None:
    store = SimpleGraphStore()
    for i in range(50):
        store.upsert_triplet("hub", "r", str(i))
    assert len(store.get("hub")) == 50
    assert store._table().live_count == 1
    store.upsert_triplet("hub", "r", "new")
    assert store._table().live_count == 0
    assert [o for _, o in store.get("hub")] == [*map(str, range(50)), "new"]


def test_a_list_with_a_pair_twice_stays_a_list() -> None:
    store = SimpleGraphStore()
    store._data.graph_dict["a"] = [["r", "b"], ["r", "b"]]
    store.upsert_triplet("a", "r", "c")
    assert store.get("a") == [["r", "b"], ["r", "b"], ["r", "c"]]
    store.delete("a", "r", "b")
    assert store.get("a") == [["r", "b"], ["r", "c"]]


def test_reading_makes_nothing_live() -> None:
    store = SimpleGraphStore()
    for s, o in ("ab", "bc", "ca"):
        store.upsert_triplet(s, "r", o)
    store.get_rel_map(depth=3)
    store.to_dict()
    store._pn_encode()
    repr(store._data)
    copy.deepcopy(store)
    assert store._data == PeerData({"a": [["r", "b"]], "b": [["r", "c"]], "c": [["r", "a"]]})
    assert PeerData({}) != store._data
    assert "a" in store._data.graph_dict and len(store._data.graph_dict) == 3 == len(list(store._data.graph_dict))
    assert store._table().live_count == 0


def test_a_deep_walk_is_left_to_python() -> None:
    theirs, ours = Reference(), SimpleGraphStore()
    for store in (theirs, ours):
        for i in range(100):
            store.upsert_triplet(str(i), "next", str(i + 1))
    for depth in (63, 64, 65, 99, 150, -1):
        assert ours.get_rel_map(["0"], depth, 500) == theirs.get_rel_map(["0"], depth, 500)
    for store in (theirs, ours):
        store.upsert_triplet("100", "next", "0")
        with pytest.raises(RecursionError):
            store.get_rel_map(["0"], -1, 500)


def test_rel_map_takes_what_the_peers_takes() -> None:
    theirs, ours = Reference(), SimpleGraphStore()
    for store in (theirs, ours):
        for i in range(50):
            store.upsert_triplet("hub", "r", f"o{i}")
            store.upsert_triplet("o0", "r", f"x{i}")
            store.upsert_triplet("top", "r", "hub")
    for args in [
        (["hub"], 1, 45), (["hub"], 2, 200), (["top"], 2, 200), (["top"], 3, 40), ("hub", 1, 3),
        (["top", 5], 1, 9), ([[]], 1, 9), (5, 1, 9), (["hub"], 1, None), (["hub"], 1.0, 9), (None, 2, 2.5),
        ({"hub": 1}, 1, 9), (["hub", ["top"]], 0, 9),
    ]:
        assert outcome(lambda: ours.get_rel_map(*args)) == outcome(lambda: theirs.get_rel_map(*args)), args
    assert ours.get_rel_map(s for s in ["hub"]) == theirs.get_rel_map(s for s in ["hub"])
    found = ours.get_rel_map(["hub"])
    found["hub"][0][0] = "changed"
    assert ours.get_rel_map(["hub"]) == theirs.get_rel_map(["hub"])


def test_arguments_are_taken_and_refused_as_the_peers_are() -> None:
    theirs, ours = Reference(), SimpleGraphStore()
    calls: List[Callable[[Peer], Any]] = [
        lambda s: s.upsert_triplet("a", rel="r", obj="b"),
        lambda s: s.upsert_triplet(obj="c", rel="r", subj="a"),
        lambda s: s.upsert_triplet("a", "r"),
        lambda s: s.upsert_triplet("a", "r", "c", subj="b"),
        lambda s: s.upsert_triplet(*"abcdefghij"),
        lambda s: s.get(),
        lambda s: s.get(subj="a"),
        lambda s: s.get("a", "b"),
        lambda s: s.get(subject="a"),
        lambda s: s.get([]),
        lambda s: s.get_rel_map(limit=1),
        lambda s: s.get_rel_map(["a"], limit=1, depth=1),
        lambda s: s.get_rel_map(["a"], 1, depth=1),
        lambda s: s.get_rel_map(["a"], 1, 2, 3),
        lambda s: s.get_rel_map(["a"], many=1),
        lambda s: s.get_rel_map(subjs=["a", "a", "c"], depth=True, limit=10**30),
        lambda s: s.get_rel_map(["a"], -1, 3),
        lambda s: s.to_dict(),
        lambda s: s.to_dict(1),
        lambda s: s.to_dict(encode_json=True),
        lambda s: s.delete("a", "r", obj="b"),
        lambda s: s._data.graph_dict,
    ]
    for i, call in enumerate(calls):
        assert outcome(lambda: call(ours)) == outcome(lambda: call(theirs)), i
    del ours._data, theirs._data
    assert outcome(lambda: ours.get("a"))[0] == outcome(lambda: theirs.get("a"))[0] == "AttributeError"


def test_a_walk_over_lists_that_were_handed_out() -> None:
    theirs, ours = Reference(), SimpleGraphStore()
    for store in (theirs, ours):
        for s, o in ("ab", "ac", "bé", "éa", "cb"):
            store.upsert_triplet(s, "r\ud83d" if s == "c" else "r", o)
        held = store.get("a"), store.get("é"), store.get("c")
        held[0].append(("tuple", "b"))
        assert store.get_rel_map(["a", "b", "x", "c"], 4, 12) == theirs.get_rel_map(["a", "b", "x", "c"], 4, 12)
    assert is_native(ours)
    for odd in (["r"], ["r", 5], [["r"], "b"], "rb", None):
        for store in (theirs, ours):
            store.get("a")[1:] = [odd]
        for limit in (0, 1, 2, 9):  # the peer stops at an odd pair even beyond what it gives
            for depth in (1, 3):
                args = ["é", "b"], depth, limit
                assert outcome(lambda: ours.get_rel_map(*args)) == outcome(lambda: theirs.get_rel_map(*args)), (odd, args)


def test_looping_while_changing_raises_as_a_dict_does() -> None:
    for change in (lambda g: g.pop("a"), lambda g: g.setdefault("z", [])):
        for subjects in ("a", "ab"):
            theirs = {s: [] for s in subjects}
            ours = GraphDict()
            ours.update(copy.deepcopy(theirs))

            def loop(graph: Any) -> None:
                for _ in graph:
                    change(graph)

            assert outcome(lambda: loop(ours)) == outcome(lambda: loop(theirs))


def test_a_view_goes_on_after_it_became_plain() -> None:
    store = SimpleGraphStore()
    store.upsert_triplet("a", "r", "b")
    view, held = store._data.graph_dict, store.get("a")
    store.upsert_triplet(5, "r", "b")  # type: ignore[arg-type]
    assert not is_native(store) and store._data.graph_dict is view
    store.upsert_triplet("a", "r", "c")
    assert view == {"a": [["r", "b"], ["r", "c"]], 5: [["r", "b"]]} and view["a"] is held
    view.clear()
    assert len(view) == 0 and store.to_dict() == {"graph_dict": {}}


class Word(str):
    pass


def test_a_str_of_another_class_is_found() -> None:
    store = SimpleGraphStore()
    store.upsert_triplet("a", "r", "b")
    assert store.get_rel_map([Word("a")]) == {"a": [["a", "r", "b"]]}
    assert store.get(Word("a")) == [["r", "b"]]
    store.upsert_triplet(Word("a"), "r", "c")
    assert store.get("a") == [["r", "b"], ["r", "c"]]


def test_a_given_data_object_is_kept() -> None:
    for data in (PeerData({"a": [["r", "b"]]}), NativeGraphData()):
        store = SimpleGraphStore(data)
        assert store._data is data
        store.upsert_triplet("s", "r", "o")
        assert data.graph_dict["s"] == [["r", "o"]]
    assert NativeGraphData({"a": []}).graph_dict == {"a": []}
    assert dataclasses.replace(store._data) == store._data


def test_takes_the_peers_pickled_state() -> None:
    theirs = Peer(PeerData({"a": [["r", "b"]]}))
    ours = SimpleGraphStore.__new__(SimpleGraphStore)
    ours.__dict__.update(pickle.loads(pickle.dumps(theirs.__dict__)))
    ours.upsert_triplet("a", "r", "c")
    ours.delete("a", "r", "b")
    assert ours.get("a") == [["r", "c"]]
    data = NativeGraphData.__new__(NativeGraphData)
    data.__setstate__({"graph_dict": {"a": [["r", "b"]]}, "note": 1})
    assert data == theirs._data and data.note == 1  # type: ignore[attr-defined]


def test_copies_keep_what_is_shared() -> None:
    store = SimpleGraphStore()
    store.upsert_triplet("a", "r", "b")
    store.upsert_triplet("c", "r", "d")
    for change in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        new, held = change((store, store.get("a")))
        held.append(["r", "x"])
        assert new.get("a") is held and is_native(new) and new.get("c") == [["r", "d"]]
        assert store.get("a") == [["r", "b"]]
    same = copy.copy(store)
    assert same._data is store._data
    assert copy.copy(store._data).graph_dict is store._data.graph_dict


def test_lists_are_freed_with_the_store() -> None:
    class Witness(list):
        pass

    store = SimpleGraphStore()
    witness = Witness()
    store._data.graph_dict["a"] = witness
    witness.append([store])  # a cycle through the table
    gone: List[int] = []
    import weakref

    weakref.finalize(witness, gone.append, 1)
    del store, witness
    gc.collect()
    assert gone == [1]


# -- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"graph_dict": {}}',
        '{"graph_dict": {"a": [], "": [["", ""]]}}',
        ' {"graph_dict":{"\u00e9":[["\\u00e9","\U0001f600"]]}}\n',
        '{"graph_dict": {"a": [["r", "o"], ["r", "o"]]}}',
        '{"graph_dict": {"a": [["r", "o"]], "b": [], "a": [["r", "p"]]}}',
        '{"graph_dict": {"a": [["r", "o", "more"], [], ["r"], [1, 2.5]]}}',
        '{"graph_dict": {"a": [["r", null]], "b": null}}',
        '{"graph_dict": {"a": []}, "other": 1}',
        '{"graph_dict": {"\\ud800": [["\\ud83d\\ude00", "\\ud83d"]]}}',
        '\ufeff{"graph_dict": {"a": [["r", "o"]]}}',
        "{}",
        '{"graph_dict": null}',
        '{"graph_dict": []}',
        "[]",
        "5",
    ],
)
def test_any_json_loads_as_the_peers(text: str, tmp_path: Any) -> None:
    path = tmp_path / "graph_store.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    expected = outcome(lambda: Peer.from_persist_path(str(path)))
    got = outcome(lambda: SimpleGraphStore.from_persist_path(str(path)))
    assert got[0] == expected[0]
    if expected[0] != "value":
        assert got == expected
        return
    theirs, ours = expected[1], got[1]
    assert outcome(lambda: contents(ours)) == outcome(lambda: contents(theirs))
    again = tmp_path / "again.json"
    assert outcome(lambda: file_of(ours, again)) == outcome(lambda: file_of(theirs, again))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "utf-8-sig"])
def test_any_encoding_that_json_reads(encoding: str, tmp_path: Any) -> None:
    path = tmp_path / "graph_store.json"
    path.write_bytes('{"graph_dict": {"é": [["r", "o"]]}}'.encode(encoding))
    assert SimpleGraphStore.from_persist_dir(str(tmp_path))._data == Peer.from_persist_dir(str(tmp_path))._data


@pytest.mark.parametrize("text", ["", "{", '{"graph_dict": {"a": [["r" "o"]]}}', '{"graph_dict": {}} x', "nul"])
def test_a_corrupt_file_is_named(text: str, tmp_path: Any) -> None:
    path = tmp_path / "graph_store.json"
    path.write_text(text)
    with pytest.raises(json.JSONDecodeError) as theirs:
        Peer.from_persist_dir(str(tmp_path))
    with pytest.raises(CorruptStoreError) as ours:
        SimpleGraphStore.from_persist_dir(str(tmp_path))
    assert (ours.value.msg, ours.value.pos) == (theirs.value.msg, theirs.value.pos)
    assert ours.value.path == str(path) and str(path) in str(ours.value)


def test_bytes_that_are_no_text_raise_as_the_peers(tmp_path: Any) -> None:
    path = tmp_path / "graph_store.json"
    path.write_bytes(b'{"graph_dict": {"\xff": []}}')
    with pytest.raises(UnicodeDecodeError) as theirs:
        Peer.from_persist_dir(str(tmp_path))
    with pytest.raises(UnicodeDecodeError) as ours:
        SimpleGraphStore.from_persist_dir(str(tmp_path))
    assert ours.value.args[:4] == theirs.value.args[:4] and str(path) in str(ours.value)


def test_a_missing_file_is_a_warning(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger=peer_module.__name__):
        Peer.from_persist_dir(str(tmp_path))
        store = SimpleGraphStore.from_persist_dir(str(tmp_path))
        store.persist(str(tmp_path / "graph_store.json"))
        Peer.from_persist_dir(str(tmp_path))
        SimpleGraphStore.from_persist_dir(str(tmp_path))
    found = [(r.name, r.levelname, r.getMessage()) for r in caplog.records if r.name == peer_module.__name__]
    assert len(found) == 4 and found[0] == found[1] and found[2] == found[3]
    assert found[0][1:] == ("WARNING", found[0][2]) and str(tmp_path) in found[0][2]
    assert store.to_dict() == {"graph_dict": {}}


def test_persist_makes_directories_and_knows_file_systems(tmp_path: Any, monkeypatch: Any) -> None:
    store = SimpleGraphStore(fs=fsspec.filesystem("memory"))
    store.upsert_triplet("a", "r", "b")
    store.persist("memory://pannier-graph/x/graph_store.json")
    fs = fsspec.filesystem("memory")
    assert Peer.from_persist_dir("memory://pannier-graph/x", fs=fs)._data == store._data
    assert SimpleGraphStore.from_persist_dir("memory://pannier-graph/x", fs=fs)._data == store._data
    local = fsspec.filesystem("file")
    store.persist(str(tmp_path / "x" / "y" / "graph_store.json"), fs=local)
    assert Peer.from_persist_dir(str(tmp_path / "x" / "y"))._data == store._data
    monkeypatch.chdir(tmp_path)
    store.persist("bare.json", fs=local)
    assert Peer.from_persist_path("bare.json")._data == store._data


class Opaque:
    pass


@pytest.mark.parametrize(
    ("subj", "value", "path"),
    [
        ("s", [["r", Opaque()]], "graph_dict.s[0][1]"),
        ("s", [["r", "o"], ["r", {"k": [Opaque()]}]], "graph_dict.s[1][1].k[0]"),
        (("t",), [], "graph_dict (key ('t',))"),
    ],
)
def test_what_json_cannot_hold_is_named(subj: Any, value: Any, path: str, tmp_path: Any) -> None:
    file = tmp_path / "graph_store.json"
    store = SimpleGraphStore()
    store.upsert_triplet("a", "r", "b")
    before = file_of(store, file)
    store._data.graph_dict[subj] = value
    with pytest.raises(UnserializableError) as error:
        store.persist(str(file))
    assert error.value.key_path == path and path in str(error.value)
    assert file.read_bytes() == before
    with pytest.raises(TypeError):
        Peer(PeerData(store._data.graph_dict.copy())).persist(str(tmp_path / "theirs.json"))


@pytest.mark.parametrize("value", [[("r", "o")], [["r", {"x"}]], [["r", 1.5, None, True]], "text", None, {"a": 1}, 5])
def test_odd_values_are_written_as_the_peers(value: Any, tmp_path: Any) -> None:
    theirs, ours = Peer(), SimpleGraphStore()
    for store in (theirs, ours):
        store.upsert_triplet("a", "r", "b")
        store._data.graph_dict["odd"] = copy.deepcopy(value)
    assert file_of(ours, tmp_path / "a.json") == file_of(theirs, tmp_path / "b.json")
    assert ours.to_dict() == theirs.to_dict()


def test_the_methods_use_the_subclass() -> None:
    class Mine(SimpleGraphStore):
        pass

    assert type(Mine.from_dict({"graph_dict": {}})) is Mine
    assert inspect_names(SimpleGraphStore) >= inspect_names(Peer)


def inspect_names(cls: type) -> set:
    return {n for n in dir(cls) if not n.startswith("_abc_")}


# -- the index that uses it --------------------------------------------------------------------


def triplets_of(text: str) -> List[Tuple[str, str, str]]:
    words = text.split()
    return [(a, "before", b) for a, b in zip(words, words[1:])]


def kg_index(store: Peer, **kwargs: Any) -> Any:
    from llama_index.core import Document, KnowledgeGraphIndex, MockEmbedding, StorageContext
    from llama_index.core.llms import MockLLM

    return KnowledgeGraphIndex.from_documents(
        [Document(text="one two three one four", id_="d1"), Document(text="two three five", id_="d2")],
        storage_context=StorageContext.from_defaults(graph_store=store),
        kg_triplet_extract_fn=triplets_of,
        llm=MockLLM(),
        embed_model=MockEmbedding(embed_dim=3),
        **kwargs,
    )


@pytest.mark.parametrize("include_embeddings", [False, True])
def test_knowledge_graph_index(include_embeddings: bool, tmp_path: Any) -> None:
    from llama_index.core import Document

    found = []
    for store in (Peer(), SimpleGraphStore()):
        index = kg_index(store, include_embeddings=include_embeddings)
        index.insert(Document(text="five six", id_="d3"))
        index.upsert_triplet(("six", "after", "five"))
        index.storage_context.persist(str(tmp_path / type(store).__module__))
        retriever = index.as_retriever(retriever_mode="keyword", include_text=False)
        response = [n.get_content() for n in retriever.retrieve("one two five")]
        found.append((contents(store), response, store.get_rel_map(["one"], 3), sorted(index.index_struct.table)))
    assert found[0] == found[1]
    files = [tmp_path / m / "graph_store.json" for m in (Peer.__module__, SimpleGraphStore.__module__)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_knowledge_graph_index_upgrades_an_old_struct() -> None:
    from llama_index.core import KnowledgeGraphIndex, MockEmbedding, StorageContext
    from llama_index.core.data_structs.data_structs import KG
    from llama_index.core.llms import MockLLM

    struct = KG(table={"a": {"n"}}, rel_map={"a": [["r", "b"]]})
    store = SimpleGraphStore()
    index = KnowledgeGraphIndex(
        index_struct=struct,
        storage_context=StorageContext.from_defaults(graph_store=store),
        llm=MockLLM(),
        embed_model=MockEmbedding(embed_dim=3),
    )
    assert store._data.graph_dict is index.index_struct.rel_map
    index.upsert_triplet(("a", "r", "c"))
    assert struct.rel_map == {"a": [["r", "b"], ["r", "c"]]} == store.to_dict()["graph_dict"]
    store.delete("a", "r", "b")
    assert struct.rel_map == {"a": [["r", "c"]]}
