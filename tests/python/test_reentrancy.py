"""Code that runs in the middle of an operation (finalizers, a value's own methods, other
threads, tracers) changes the very store. Nothing may crash, and nothing may be refused
that LlamaIndex takes. Each script runs in a process of its own where freed memory is
overwritten, so that using it shows (a sanitizer build shows more)."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pannier

PRELUDE = """
import gc, sys, tempfile, os
from llama_index.core.schema import TextNode, NodeRelationship, RelatedNodeInfo
from pannier import _core
from pannier._core import TripletTable
from pannier.docstore import SimpleDocumentStore
from pannier.kvstore import SimpleKVStore
from pannier._nodeplan import ensure_plans
ensure_plans()
SURROGATES = "\\ud800x" * 30

def node(i, ref=None, metadata=None):
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ref)} if ref else {}
    return TextNode(id_=f"n{i}", text="x", metadata=metadata or {"a": 1}, relationships=source)

class Finalized:
    def __init__(self, run): self.run, self.me = run, self
    def __del__(self): self.run()

spare = [[[] for _ in range(3000)], [{} for _ in range(3000)]]  # empties the free lists

gc.collect()
gc.freeze()  # a collection then looks only at what the script made

def collect_during(make, operate, most=30):
    for n in range(1, most):
        thing, change = make()
        gc.collect(); gc.disable()
        Finalized(lambda: change(thing))
        gc.set_threshold(gc.get_count()[0] + n, 10, 10); gc.enable()
        operate(thing)
        gc.disable(); gc.set_threshold(10**6); gc.collect()
"""

SCRIPTS = {
    "value_surrenders_the_store_while_written": """
        class D(dict):
            def items(self):
                S.to_dict()
                return [("a", 1)]
        S = SimpleKVStore()
        for i in range(50): S.put(f"k{i}", {"v": D(x=1)} if i == 20 else {"v": i})
        try: S._write()
        except RuntimeError: pass
    """,
    "value_deletes_its_own_key_and_fails": """
        K = "k20" * 20
        class D(dict):
            def items(self):
                S.delete(K)
                for i in range(200): S.put("Z" * (len(K) - 3) + f"{i:03}", {"a": 1}, "other")
                raise TypeError("no")
        S = SimpleKVStore()
        for i in range(50): S.put(f"k{i}" * 20, {"v": D(x=1)} if i == 20 else {"v": i})
        try: S.persist(os.path.join(tempfile.mkdtemp(), "x.json"))
        except TypeError as e: assert not isinstance(e, KeyError)
        else: raise AssertionError("no error")
    """,
    "node_hash_lets_others_surrender_the_store": """
        ds = SimpleDocumentStore()
        ds.add_documents([node(i, f"d{i}") for i in range(5)])
        def trace(frame, event, arg):
            if event == "call" and frame.f_code.co_name == "hash": ds._kvstore.to_dict()
        nodes = [node(i, f"d{i}") for i in range(60)]
        sys.setprofile(trace)
        ds.add_documents(nodes)
        sys.setprofile(None)
        assert len(ds.docs) == 60 and len(ds.get_all_ref_doc_info()) == 60
    """,
    "source_is_deleted_between_two_nodes_of_one_add": """
        ds = SimpleDocumentStore()
        ds.add_documents([node(99, "d")])
        seen = []
        def trace(frame, event, arg):
            if event == "call" and frame.f_code.co_name == "hash":
                seen.append(1)
                if len(seen) == 6: sys.setprofile(None); ds.delete_ref_doc("d", raise_error=False)
        nodes = [node(i, "d") for i in range(10)]
        sys.setprofile(trace)
        ds.add_documents(nodes, allow_update=False)
        sys.setprofile(None)
        assert set(ds.docs) >= {f"n{i}" for i in range(10)}
    """,
    "source_info_is_handed_out_between_two_nodes_of_one_add": """
        ds = SimpleDocumentStore()
        ds.add_documents([node(99, "d")])
        seen = []
        def trace(frame, event, arg):
            if event == "call" and frame.f_code.co_name == "hash":
                seen.append(1)
                if len(seen) == 6: sys.setprofile(None); ds._kvstore.get_all(ds._ref_doc_collection)
        nodes = [node(i, "d") for i in range(10)]
        sys.setprofile(trace)
        ds.add_documents(nodes, allow_update=False)
        sys.setprofile(None)
        assert len(ds.get_ref_doc_info("d").node_ids) == 11
    """,
    "others_add_while_a_store_with_handed_out_nodes_is_written": """
        ds = SimpleDocumentStore()
        ds.add_documents([node(i, metadata={"a": {"b": 1}}) for i in range(20)])
        list(ds.docs.values())
        def trace(frame, event, arg):
            if event == "call" and frame.f_code.co_name == "dumps": sys.setprofile(None); ds.add_documents([node(10**6)])
        sys.setprofile(trace)
        ds.persist(os.path.join(tempfile.mkdtemp(), "docstore.json"))
        sys.setprofile(None)
    """,
    "mapping_that_makes_values_afresh": """
        class V(dict): pass
        class M(dict):
            def __getitem__(self, key): return V(v=key)
        S = SimpleKVStore({"data": M({"a": 1})})
        for _ in range(2000): assert S.get("a") == {"v": "a"}
    """,
    "unhashable_node_class": """
        class Meta(type):
            def __hash__(cls): raise RuntimeError("no")
        class N(metaclass=Meta): pass
        try: _core.encode_node(N())
        except RuntimeError: pass
    """,
    "collection_while_a_value_is_handed_out": """
        def make():
            ds = SimpleDocumentStore()
            ds.add_documents([node(i, f"d{i}", {"a": {"b": [1]}}) for i in range(50)])
            def change(ds):
                kv = ds._kvstore
                for c in kv._names():
                    for k in kv._keys(c): kv.delete(k, c)
                    for i in range(300): kv.put(f"z{i}", {"a": 1}, c)
            return ds, change
        collect_during(make, lambda ds: ds._kvstore.get("n7", ds._node_collection))
        collect_during(make, lambda ds: ds._kvstore.get("d7", ds._ref_doc_collection))
        collect_during(make, lambda ds: ds.get_document("n7", False))
    """,
    "collection_while_a_struct_is_put": """
        def make():
            kv = SimpleKVStore()
            kv.put("a", {"x": 1}, "c")
            return kv, lambda kv: kv.to_dict()
        collect_during(make, lambda kv: _core.struct_put(kv, "c", "k", "t", {"f": {1, 2, 3}}, ("f",)))
    """,
    "collection_while_surrogate_keys_are_read": """
        def kv_make():
            kv = SimpleKVStore()
            for i in range(40): kv.put(SURROGATES + str(i), {"a": 1})
            return kv, lambda kv: kv._surrender()
        collect_during(kv_make, lambda kv: kv.put(SURROGATES, {"a": 1}))
        collect_during(kv_make, lambda kv: kv.get(SURROGATES + "3"))
        collect_during(kv_make, lambda kv: kv.delete(SURROGATES + "3"))
    """,
    "collection_while_surrogate_words_are_read": """
        def make():
            g = TripletTable()
            for i in range(40): g.upsert(SURROGATES + str(i), "r", SURROGATES + str(i + 1))
            def change(g):
                for i in range(40): g.remove(SURROGATES + str(i))
                for i in range(400): g.upsert(f"q{i}", "r", "o")
            return g, change
        for operate in (lambda g: g.rel_map([SURROGATES + "0"], 30, 100, 100), lambda g: g.live(SURROGATES + "7", None),
                        lambda g: g.keys(), lambda g: g.snapshot(), lambda g: g.copied()):
            collect_during(make, operate)
    """,
}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_changes_in_the_middle(name: str) -> None:
    root = str(Path(pannier.__file__).parents[1])
    env = {**os.environ, "MALLOC_PERTURB_": "165", "PYTHONMALLOC": "malloc",
           "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    script = PRELUDE + textwrap.dedent(SCRIPTS[name])
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-1500:])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_during_a_query_can_use_the_store() -> None:
    script = """
import os, signal, threading, time
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from pannier.vector_store import SimpleVectorStore
vs = SimpleVectorStore()
vs.add([TextNode(id_=f"n{i}", text="x", embedding=[float(i % 97 + 1), *[1.0] * 255]) for i in range(20000)])
short = VectorStoreQuery(query_embedding=[1.0] * 256, similarity_top_k=3)
long = VectorStoreQuery(query_embedding=[1.0] * 256, similarity_top_k=2000, mode="mmr")
vs.query(short)
threading.Thread(target=vs.query, args=(long,), daemon=True).start()
time.sleep(0.3)
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    vs.query(short)
    os._exit(0)
os._exit(0 if os.waitpid(pid, 0)[1] == 0 else 1)
"""
    root = str(Path(pannier.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
