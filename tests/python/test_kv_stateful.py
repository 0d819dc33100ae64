"""A random machine that drives the peer's SimpleKVStore and ours with the same calls.

It keeps several stores a side (they may share collections, as ``from_dict(to_dict())``
makes them do) and everything that they handed out, and changes both. After each step the
stores persist to the same bytes; persisting touches no value, so cells that nobody has
read stay as they are.
"""

from __future__ import annotations

import pickle

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

import oracle
from oracle import SIDES, Raised, clone, dumps, impl, load, peer, persisted, same, same_bytes, scribble

KEYS = st.sampled_from(["a", "b", "c", "", "\u00e9\ud800", "1", 1, True, None])
COLLECTIONS = st.sampled_from(["data", "data", "data", "docs", "", "x/y"])
VALUES = oracle.dicts(st.one_of(oracle.json_values, oracle.json_values, oracle.odd_values))
SEEDS = st.integers(0, 10**9)


class KVMachine(RuleBasedStateMachine):
    stores = Bundle("stores")
    handed = Bundle("handed")
    mappings = Bundle("mappings")  # (of the peer's store, of ours): those of a collection
    outer = Bundle("outer")  # the same of all collections

    def __init__(self):
        super().__init__()
        self.alive = []

    def keep(self, a, b):
        if len(self.alive) < 6:
            self.alive.append((a, b))
            return (a, b)
        return self.alive[-1]

    @initialize(target=stores)
    def fresh(self):
        return self.keep(*(side.SimpleKVStore() for side in SIDES))

    @initialize(target=stores, data=st.dictionaries(COLLECTIONS, st.dictionaries(KEYS.filter(lambda k: isinstance(k, str)), VALUES, max_size=4), max_size=3))
    def from_a_file(self, data):
        return self.keep(*(load(side.SimpleKVStore, dumps(data)) for side in SIDES))

    @initialize(target=stores, data=st.dictionaries(COLLECTIONS, st.dictionaries(KEYS.filter(lambda k: isinstance(k, str)), VALUES, max_size=4), max_size=3))
    def from_a_file_at_once(self, data):
        return self.keep(*(load(side.SimpleKVStore, dumps(data), at_once=True) for side in SIDES))

    # -- calls ------------------------------------------------------------------------

    @rule(pair=stores, key=KEYS, value=VALUES, collection=COLLECTIONS, how=st.sampled_from(["put", "aput"]))
    def put(self, pair, key, value, collection, how):
        a, b = pair
        copies = {id(a): clone(value), id(b): clone(value)}
        same(lambda s: getattr(s, how)(key, copies[id(s)], collection), a, b)

    @rule(target=handed, pair=stores, key=KEYS, value=VALUES)
    def put_and_keep(self, pair, key, value):
        a, b = pair
        mine = clone(value), clone(value)
        a.put(key, mine[0])
        b.put(key, mine[1])
        return mine

    @rule(pair=stores, collection=COLLECTIONS, pairs=st.lists(st.tuples(KEYS, VALUES), max_size=4), size=st.integers(1, 3))
    def put_all(self, pair, collection, pairs, size):
        a, b = pair
        copies = {id(a): clone(pairs), id(b): clone(pairs)}
        same(lambda s: s.put_all(copies[id(s)], collection, size), a, b)

    @rule(target=handed, pair=stores, key=KEYS, collection=COLLECTIONS, how=st.sampled_from(["get", "aget"]))
    def get(self, pair, key, collection, how):
        return same(lambda s: getattr(s, how)(key, collection), *pair)

    @rule(target=handed, pair=stores, collection=COLLECTIONS)
    def get_all(self, pair, collection):
        return same(lambda s: s.get_all(collection), *pair)

    @rule(pair=stores, key=KEYS, collection=COLLECTIONS, how=st.sampled_from(["delete", "adelete"]))
    def delete(self, pair, key, collection, how):
        same(lambda s: getattr(s, how)(key, collection), *pair)

    @rule(pair=stores, collection=COLLECTIONS, skip=st.integers(1, 3))
    def delete_while_looping(self, pair, collection, skip):
        for s in pair:
            for i, key in enumerate(s.get_all(collection)):
                if i % skip == 0:
                    assert s.delete(key, collection)

    @rule(handle=handed, seed=SEEDS)
    def change_what_was_handed_out(self, handle, seed):
        a, b = handle
        if isinstance(a, (dict, list)):
            # JSON-like parts only: the change draws from what it finds there
            scribble(a, seed)
            scribble(b, seed)

    @rule(handle=handed)
    def what_was_handed_out_is_alike(self, handle):
        oracle.assert_same(*handle)

    # -- the mapping behind -------------------------------------------------------------

    @rule(pair=stores, key=KEYS, value=VALUES, collection=COLLECTIONS)
    def set_through_the_mapping(self, pair, key, value, collection):
        for s in pair:
            s._get_collection_mapping(collection)[key] = clone(value)

    @rule(target=handed, pair=stores, key=KEYS, collection=COLLECTIONS)
    def get_through_the_mapping(self, pair, key, collection):
        return same(lambda s: s._collections_mappings[collection][key], *pair)

    @rule(pair=stores, key=KEYS, collection=COLLECTIONS, how=st.sampled_from(["pop", "__delitem__"]))
    def delete_through_the_mapping(self, pair, key, collection, how):
        same(lambda s: getattr(s._collections_mappings[collection], how)(key), *pair, check=False)

    @rule(pair=stores)
    def iterate_the_mapping(self, pair):
        same(lambda s: [(c, list(m.items())) for c, m in s._collections_mappings.items()], *pair)

    @rule(target=handed, pair=stores, data=st.dictionaries(KEYS, VALUES, max_size=3), collection=COLLECTIONS)
    def assign_a_plain_dict(self, pair, data, collection):
        mine = clone(data), clone(data)
        for s, d in zip(pair, mine):
            s._collections_mappings[collection] = d
        return mine

    @rule(pair=stores, collection=COLLECTIONS)
    def delete_a_collection(self, pair, collection):
        same(lambda s: s._collections_mappings.__delitem__(collection), *pair)

    # -- mappings that are kept while the stores go on --------------------------------------

    @rule(target=mappings, pair=stores, collection=COLLECTIONS)
    def keep_a_mapping(self, pair, collection):
        return tuple(s._get_collection_mapping(collection) for s in pair)

    @rule(target=outer, pair=stores)
    def keep_all_mappings(self, pair):
        return tuple(s._collections_mappings for s in pair)

    @rule(target=mappings, all=outer, collection=COLLECTIONS)
    def keep_one_of_all_mappings(self, all, collection):
        found = same(lambda m: m[collection], *all, check=False)
        assert isinstance(found[0], Raised) == isinstance(found[1], Raised)
        return multiple() if isinstance(found[0], Raised) else found

    @rule(pair=mappings, key=KEYS, value=VALUES)
    def set_in_a_kept_mapping(self, pair, key, value):
        for m in pair:
            m[key] = clone(value)

    @rule(pair=mappings, key=KEYS)
    def delete_in_a_kept_mapping(self, pair, key):
        same(lambda m: m.pop(key, None), *pair)

    @rule(pair=st.one_of(mappings, outer))
    def kept_mappings_are_alike(self, pair):
        same(lambda m: [(key, dict(value)) if isinstance(value, dict) else key for key, value in m.items()], *pair, check=False)
        same(len, *pair)
        same(list, *pair)
        assert pair[1] == dict(pair[0])

    @rule(pair=stores, how=st.sampled_from(["assign", "init", "clear", "pop"]))
    def empty_a_store(self, pair, how):
        for s in pair:
            if how == "assign":
                s._collections_mappings = {}
            elif how == "init":
                s.__init__()
            elif how == "clear":
                s._collections_mappings.clear()
            else:
                s._collections_mappings.pop("data", None)

    @rule(pair=stores, all=outer)
    def assign_a_kept_one_of_all(self, pair, all):
        for s, m in zip(pair, all):
            s._collections_mappings = m

    @rule(pair=stores, mappings=mappings, collection=COLLECTIONS)
    def assign_a_kept_mapping(self, pair, mappings, collection):
        for s, m in zip(pair, mappings):
            s._collections_mappings[collection] = m

    @rule(all=outer, mappings=mappings, collection=COLLECTIONS)
    def assign_in_all_kept_ones(self, all, mappings, collection):
        for a, m in zip(all, mappings):
            a[collection] = m

    @rule(pair=stores, collection=COLLECTIONS, key=KEYS, value=VALUES)
    def update_in_place(self, pair, collection, key, value):
        for s in pair:
            s._get_collection_mapping(collection)
            s._collections_mappings[collection] |= {key: clone(value)}
            s._collections_mappings |= {"added": {}}

    # -- stores from stores ---------------------------------------------------------------

    @rule(target=stores, pair=stores)
    def share_through_dicts(self, pair):
        a, b = pair
        return self.keep(peer.SimpleKVStore.from_dict(a.to_dict()), impl.SimpleKVStore.from_dict(b.to_dict()))

    @rule(target=stores, pair=stores)
    def over_the_mapping_of_another(self, pair):
        return self.keep(*(side.SimpleKVStore(s._collections_mappings) for side, s in zip(SIDES, pair)))

    @rule(target=handed, pair=stores)
    def take_to_dict(self, pair):
        return same(lambda s: s.to_dict(), *pair)

    @rule(target=stores, pair=stores, at_once=st.booleans())
    def persist_and_load(self, pair, at_once):
        text = same_bytes(*pair)
        if isinstance(text, Raised):
            return multiple()
        a, b = load(peer.SimpleKVStore, text), load(impl.SimpleKVStore, text, at_once)
        if pair in self.alive:
            self.alive.remove(pair)
        return self.keep(a, b)

    @rule(target=stores, pair=stores)
    def pickled(self, pair):
        return self.keep(*(pickle.loads(pickle.dumps(s)) for s in pair))

    @invariant()
    def same_bytes_on_disk(self):
        for a, b in self.alive:
            same_bytes(a, b)

    def teardown(self):
        for a, b in self.alive:
            same(lambda s: s.to_dict(), a, b)


KVMachine.TestCase.settings = settings(max_examples=oracle.ROUNDS, stateful_step_count=25)
TestKV = KVMachine.TestCase


def test_persisting_reads_no_value():
    """The machine relies on it: bytes come out without a cell being turned into objects."""
    text = dumps({"data": {"k": {"v": [1, {"x": 2}]}}})
    store = load(impl.SimpleKVStore, text)
    assert persisted(store) == persisted(store) == text
    store.get("k")["v"].append(1)
    assert persisted(store) == dumps({"data": {"k": {"v": [1, {"x": 2}, 1]}}})
