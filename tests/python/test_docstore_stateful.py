"""A random machine that drives the peer's document store and ours with the same calls.

Both start from the same file (so that our cells are text that nobody has read) or empty,
may share their KV store with a second document store and an index store, and everything
that they hand out (nodes, ref_doc_infos, raw values) is changed, now or many calls later.
After each step both sides persist to the same bytes.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from llama_index.core.schema import BaseNode, TextNode
from llama_index.core.storage.docstore.types import RefDocInfo

import oracle
from oracle import SIDES, Raised, clone, load, same, same_bytes, scribble

IDS = st.sampled_from(oracle.NODE_IDS + oracle.REF_IDS)
REFS = st.sampled_from(oracle.REF_IDS + ["n1", "missing"])
SEEDS = st.integers(0, 10**9)
WHICH = st.sampled_from([0, 0, 0, 1])

LEGACY_INFO = st.fixed_dictionaries(
    {"doc_ids": st.lists(st.sampled_from(oracle.NODE_IDS), max_size=3), "extra_info": oracle.node_metadata}
)


class DocMachine(RuleBasedStateMachine):
    handed = Bundle("handed")

    def set_kvs(self, kvs):
        self.kvs = kvs
        #: which -> the peer's and our store: two document stores, and an index store
        self.docs = [
            tuple(side.SimpleDocumentStore(kv) for side, kv in zip(SIDES, kvs)),
            tuple(side.KVDocumentStore(kv, namespace="second") for side, kv in zip(SIDES, kvs)),
        ]
        self.index = tuple(side.SimpleIndexStore(kv) for side, kv in zip(SIDES, kvs))

    @initialize(docs=st.lists(oracle.nodes(), max_size=6), from_file=st.booleans())
    def start(self, docs, from_file):
        self.set_kvs(tuple(side.SimpleKVStore() for side in SIDES))
        same(lambda s: s.add_documents(clone(docs)), *self.docs[0])
        if from_file:
            self.persist_and_load()

    @rule()
    def persist_and_load(self):
        text = same_bytes(*self.kvs)
        if not isinstance(text, Raised):
            self.set_kvs(tuple(load(side.SimpleKVStore, text) for side in SIDES))

    # -- adding -----------------------------------------------------------------------

    @rule(
        which=WHICH,
        docs=st.lists(oracle.nodes(bad=True), min_size=1, max_size=4),
        allow_update=st.sampled_from([True, True, True, False]),
        store_text=st.sampled_from([True, True, True, False]),
        batch_size=st.sampled_from([None, 1, 2]),
        how=st.sampled_from(["add_documents", "add_documents", "async_add_documents"]),
    )
    def add(self, which, docs, allow_update, store_text, batch_size, how):
        copies = {id(s): clone(docs) for s in self.docs[which]}
        same(
            lambda s: getattr(s, how)(
                copies[id(s)], allow_update=allow_update, batch_size=batch_size, store_text=store_text
            ),
            *self.docs[which],
        )

    @rule(target=handed, which=WHICH, docs=st.lists(oracle.nodes(), min_size=1, max_size=3))
    def add_and_keep(self, which, docs):
        mine = clone(docs), clone(docs)
        for s, d in zip(self.docs[which], mine):
            s.add_documents(d)
        return mine[0][0], mine[1][0]

    # -- reading ----------------------------------------------------------------------

    @rule(target=handed, which=WHICH, key=IDS, how=st.sampled_from(["get_document", "aget_document", "get_node"]))
    def get(self, which, key, how):
        return same(lambda s: getattr(s, how)(key, raise_error=False), *self.docs[which])

    @rule(which=WHICH, keys=st.lists(IDS, max_size=4), raise_error=st.booleans())
    def get_nodes(self, which, keys, raise_error):
        same(lambda s: s.get_nodes(keys, raise_error), *self.docs[which])

    @rule(target=handed, which=WHICH, key=IDS)
    def get_from_docs(self, which, key):
        return same(lambda s: s.docs.get(key), *self.docs[which])

    @rule(target=handed, which=WHICH, key=REFS, how=st.sampled_from(["get_ref_doc_info", "aget_ref_doc_info"]))
    def get_ref_doc_info(self, which, key, how):
        return same(lambda s: getattr(s, how)(key), *self.docs[which])

    @rule(target=handed, which=WHICH)
    def get_all_ref_doc_info(self, which):
        a, b = same(lambda s: s.get_all_ref_doc_info(), *self.docs[which])
        if isinstance(a, Raised) or not a:
            return a, b
        key = sorted(a)[0]
        return a[key], b[key]

    @rule(which=WHICH, key=IDS)
    def questions(self, which, key):
        same(
            lambda s: (
                s.document_exists(key),
                s.ref_doc_exists(key),
                s.get_document_hash(key),
                s._get_ref_doc_id(key),
                len(s.docs),
                key in s.docs,
            ),
            *self.docs[which],
        )

    @rule(which=WHICH)
    def everything(self, which):
        same(lambda s: s.docs, *self.docs[which])
        same(lambda s: s.get_all_document_hashes(), *self.docs[which])

    # -- the KV store below -------------------------------------------------------------

    @rule(target=handed, which=WHICH, key=IDS, part=st.sampled_from(["_node_collection", "_metadata_collection", "_ref_doc_collection"]))
    def raw_get(self, which, key, part):
        collection = getattr(self.docs[which][0], part)
        return same(lambda kv: kv.get(key, collection), *self.kvs)

    @rule(target=handed, which=WHICH, part=st.sampled_from(["_node_collection", "_ref_doc_collection"]))
    def raw_get_all(self, which, part):
        collection = getattr(self.docs[which][0], part)
        return same(lambda kv: kv.get_all(collection), *self.kvs)

    @rule(which=WHICH, key=REFS, info=LEGACY_INFO)
    def raw_put_legacy_info(self, which, key, info):
        for s, kv in zip(self.docs[which], self.kvs):
            kv.put(key, clone(info), s._ref_doc_collection)

    @rule(which=WHICH, key=IDS, part=st.sampled_from(["_node_collection", "_metadata_collection", "_ref_doc_collection"]))
    def raw_delete(self, which, key, part):
        collection = getattr(self.docs[which][0], part)
        same(lambda kv: kv.delete(key, collection), *self.kvs)

    # -- changing what was handed out -----------------------------------------------------

    @rule(handle=handed, seed=SEEDS)
    def change(self, handle, seed):
        for value in handle:
            if isinstance(value, (BaseNode, RefDocInfo)):
                scribble(value.metadata, seed)
            elif isinstance(value, dict):
                # below the envelope: a node without __data__ is another test
                inner = value.get("__data__", value)
                scribble(inner.get("metadata", {}) if isinstance(inner, dict) else {}, seed)

    @rule(handle=handed)
    def alike(self, handle):
        oracle.assert_same(*handle)

    @rule(which=WHICH, handle=handed, text=oracle.clean_texts)
    def edit_and_add_back(self, which, handle, text):
        nodes = {}
        for s, node in zip(self.docs[which], handle):
            if not isinstance(node, BaseNode):
                return
            if isinstance(node, TextNode):
                node.text = text
            nodes[id(s)] = node
        same(lambda s: s.add_documents([nodes[id(s)]]), *self.docs[which])

    # -- hashes, deleting -----------------------------------------------------------------

    @rule(which=WHICH, key=IDS, value=oracle.clean_texts, how=st.sampled_from(["set_document_hash", "aset_document_hash"]))
    def set_hash(self, which, key, value, how):
        same(lambda s: getattr(s, how)(key, value), *self.docs[which])

    @rule(which=WHICH, hashes=st.dictionaries(IDS, oracle.clean_texts, max_size=3))
    def set_hashes(self, which, hashes):
        same(lambda s: s.set_document_hashes(hashes), *self.docs[which])

    @rule(which=WHICH, key=IDS, raise_error=st.booleans(), how=st.sampled_from(["delete_document", "adelete_document"]))
    def delete(self, which, key, raise_error, how):
        same(lambda s: getattr(s, how)(key, raise_error), *self.docs[which])

    @rule(which=WHICH, key=REFS, raise_error=st.booleans(), how=st.sampled_from(["delete_ref_doc", "adelete_ref_doc"]))
    def delete_ref_doc(self, which, key, raise_error, how):
        same(lambda s: getattr(s, how)(key, raise_error), *self.docs[which])

    @rule(which=WHICH, skip=st.integers(1, 3))
    def delete_while_looping(self, which, skip):
        def loop(s):
            done = []
            for i, key in enumerate(s.docs):
                if i % skip == 0:
                    s.delete_document(key, raise_error=False)
                    done.append(key)
            return done

        same(loop, *self.docs[which], check=False)

    @rule(which=WHICH, key=REFS)
    def delete_the_nodes_of_a_source(self, which, key):
        def loop(s):
            info = s.get_ref_doc_info(key)
            for node_id in info.node_ids if info else []:
                s.delete_document(node_id, raise_error=False)

        same(loop, *self.docs[which])

    # -- an index store beside ------------------------------------------------------------

    @rule(struct=oracle.structs())
    def add_struct(self, struct):
        same(lambda s: s.add_index_struct(struct), *self.index)

    @rule()
    def read_structs(self):
        same(lambda s: s.index_structs(), *self.index)

    @invariant()
    def same_bytes_on_disk(self):
        same_bytes(*self.kvs)

    def teardown(self):
        if hasattr(self, "kvs"):
            same(lambda kv: kv.to_dict(), *self.kvs)


DocMachine.TestCase.settings = settings(max_examples=oracle.ROUNDS, stateful_step_count=25)
TestDocstore = DocMachine.TestCase
