"""Queries beyond one vector at a time: columns of filters, threads, several queries at once."""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from typing import Any, List

import numpy as np
import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore as Peer
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery

import pannier
from pannier.vector_store import SimpleVectorStore
from test_vector_oracle import Flavour, Pair, make_node, outcome, same, touch_metadata, vector

ROUNDS = max(4, int(os.environ.get("PANNIER_TEST_ROUNDS", "260")) // 10)


@pytest.fixture
def threads():
    before = pannier.get_threads()
    yield pannier.set_threads
    pannier.set_threads(before)


def filled(n: int, dim: int = 8, seed: int = 1) -> SimpleVectorStore:
    r = random.Random(seed)
    store = SimpleVectorStore()
    store.add(
        [
            TextNode(id_=f"n{i}", text="", embedding=vector(r, dim, "f32"), metadata={"year": 2000 + i % 20})
            for i in range(n)
        ]
    )
    return store


def pairs(result: Any) -> Any:
    return result.similarities, result.ids, result.nodes


# ----- filters over columns -----


class Many(Flavour):
    """Rows enough for columns, with short vectors."""

    def __init__(self, r: random.Random) -> None:
        super().__init__(r)
        self.dim, self.style = r.choice([2, 3]), r.choice(["plain", "f32", "ties"])


def many_nodes(r: random.Random, flavour: Many, n: int) -> List[Any]:
    nodes = [make_node(r, flavour) for _ in range(n)]
    for node in nodes:
        node.id_ = f"n{r.randrange(150)}"
    return nodes


def filter_queries(pair: Pair, r: random.Random, flavour: Many) -> None:
    for _ in range(r.randrange(1, 8)):
        filters = flavour.filters(r)
        ids = [f"n{r.randrange(150)}" for _ in range(60)] if r.random() < 0.2 else None
        query = VectorStoreQuery(
            query_embedding=flavour.vector(r), similarity_top_k=r.choice([0, 2, 10, 100]), filters=filters, node_ids=ids
        )
        pair.both(f"query {query}", lambda s: pairs(s.query(query)))


def change(pair: Pair, r: random.Random, flavour: Many) -> None:
    kind = r.randrange(6)
    if kind == 0:
        nodes = many_nodes(r, flavour, r.randrange(1, 9))
        pair.both("add", lambda s: s.add(copy.deepcopy(nodes)))
    elif kind == 1:
        doc = r.choice(["d1", "d2", "d3", "None"])
        pair.both("delete", lambda s: s.delete(doc))
    elif kind == 2:
        ids = [f"n{r.randrange(150)}" for _ in range(40)]
        filters = flavour.filters(r)
        pair.both("delete_nodes", lambda s: s.delete_nodes(ids, filters))
    else:
        touch_metadata(pair, r, flavour)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_filters_over_columns_are_the_peers(seed: int) -> None:
    r = random.Random(seed + 1000)
    pair, flavour = Pair(), Many(r)
    nodes = many_nodes(r, flavour, 120)
    pair.both("add", lambda s: s.add(copy.deepcopy(nodes)))
    for _ in range(8):
        filter_queries(pair, r, flavour)
        change(pair, r, flavour)
    pair.compare()


def test_columns_follow_every_change() -> None:
    store = filled(100)

    def count(year: Any, key: str = "year") -> int:
        one = MetadataFilter(key=key, value=year, operator="==")
        query = VectorStoreQuery(query_embedding=[1.0] * 8, similarity_top_k=1000, filters=MetadataFilters(filters=[one]))
        return len(store.query(query).ids)

    assert count(2003) == 5
    store.add([TextNode(id_="n3", text="", embedding=[1.0] * 8, metadata={"year": 2004})])
    assert (count(2003), count(2004)) == (4, 6)
    store.data.metadata_dict["n4"]["year"] = "another"  # live from now on
    assert (count(2004), count("another")) == (5, 1)
    store.data.metadata_dict["n4"]["year"] = 2003
    assert (count(2003), count("another")) == (5, 0)
    store.delete_nodes(["n23"])
    assert count(2003) == 4
    del store.data.metadata_dict["n43"]
    with pytest.raises(KeyError):
        count(2003)
    store.data.metadata_dict["n43"] = {"year": 2003}
    assert count(2003) == 4
    assert count("None", "ref_doc_id") == 98  # n23 is gone, n43 as the caller made it
    for i in range(4000):
        store.add([TextNode(id_="n5", text="", embedding=[1.0] * 8, metadata={"year": 2003 + i % 2})])
        if i % 500 == 0:
            assert count(2003) == 4 + (i % 2 == 0)


def test_more_keys_than_columns() -> None:
    keys = [f"key{i}" for i in range(40)]
    nodes = [
        TextNode(id_=f"n{i}", text="", embedding=[1.0, float(i)], metadata={key: i % 3 for key in keys}) for i in range(60)
    ]
    ours, peer = SimpleVectorStore(), Peer()
    for store in (ours, peer):
        store.add(nodes)
    for key in keys * 2:
        one = MetadataFilters(filters=[MetadataFilter(key=key, value=1, operator="==")])
        query = VectorStoreQuery(query_embedding=[1.0, 2.0], similarity_top_k=5, filters=one)
        assert ours.query(query) == peer.query(query)


# ----- several queries at once -----


def random_query(r: random.Random, flavour: Any, filters: Any) -> VectorStoreQuery:
    return VectorStoreQuery(
        query_embedding=vector(r, flavour.dim + (r.random() < 0.03), flavour.style),
        similarity_top_k=r.choice([0, 1, 3, 10, 30, -1 if r.random() < 0.1 else 2]),
        mode=r.choice(["default"] * 6 + ["mmr"]),
        node_ids=r.choice([None, None, None, [f"n{i}" for i in range(0, 150, 2)]]),
        filters=r.choice([None, *filters]),
    )


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_query_many_is_query_one_by_one(seed: int) -> None:
    r = random.Random(seed + 5000)
    flavour = Many(r)
    flavour.style = r.choice(["plain", "f32", "mixed", "ties", "zeros", "odd"])
    ours, peer = SimpleVectorStore(), Peer()
    nodes = many_nodes(r, flavour, 120)
    for store in (ours, peer):
        outcome(lambda: store.add(copy.deepcopy(nodes)))
    filters = [flavour.filters(r) for _ in range(2)]
    for _ in range(6):
        queries = [random_query(r, flavour, filters) for _ in range(r.choice([0, 1, 2, 7, 70]))]
        mine = outcome(lambda: [pairs(x) for x in ours.query_many(queries)])
        theirs = outcome(lambda: [pairs(peer.query(q)) for q in queries])
        assert same(mine, theirs), f"{mine} is not {theirs}"


def test_filters_that_only_look_equal_are_not_shared() -> None:
    store = filled(50)

    def query(value: Any) -> VectorStoreQuery:
        one = MetadataFilters(filters=[MetadataFilter(key="year", value=value, operator="contains")])
        return VectorStoreQuery(query_embedding=[1.0] * 8, similarity_top_k=3, filters=one)

    store.data.metadata_dict["n0"]["year"] = "2000"
    with pytest.raises(TypeError, match="float"):
        store.delete_nodes([f"n{i}" for i in range(1, 50)])
        store.query_many([query(1.0), query(1)])


def test_query_many_takes_keywords_subclasses_and_plain_data() -> None:
    queries = [VectorStoreQuery(query_embedding=[1.0 + i] * 8, similarity_top_k=3, mode="mmr") for i in range(3)]
    store = filled(30)
    wanted = [pairs(store.query(q, mmr_threshold=0.2)) for q in queries]
    assert [pairs(x) for x in store.query_many(iter(queries), mmr_threshold=0.2)] == wanted

    class Own(SimpleVectorStore):
        def query(self, query: VectorStoreQuery, **kwargs: Any) -> Any:
            return query.similarity_top_k

    assert Own().query_many(queries) == [3, 3, 3]
    plain = filled(30)
    plain.data.metadata_dict = dict(plain.data.metadata_dict)
    assert [pairs(x) for x in plain.query_many(queries)] == [pairs(store.query(q)) for q in queries]
    assert store.query_many([]) == []


# ----- threads -----


def test_the_number_of_threads_is_settable(threads: Any) -> None:
    assert pannier.get_threads() >= 1
    threads(3)
    assert pannier.get_threads() == 3
    threads(1000)
    assert pannier.get_threads() == 64
    for bad in (0, -1, -(10**30)):
        with pytest.raises(ValueError):
            threads(bad)
    with pytest.raises(TypeError):
        threads("two")
    assert pannier.get_threads() == 64


def python(code: str, **env: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k != "PANNIER_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env={**clean, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_default_and_the_environment() -> None:
    show = "import pannier; print(pannier.get_threads())"
    assert python(show) == str(min(4, len(os.sched_getaffinity(0))))
    assert python(show, PANNIER_THREADS="7") == "7"
    assert python(show, PANNIER_THREADS="none") == python(show)


BIG = """
import os, sys
import numpy as np, pannier
from pannier import _core
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from pannier.vector_store import SimpleVectorStore
rows = np.random.default_rng(3).standard_normal((6000, 256)).astype(np.float32).astype(float)
store = SimpleVectorStore()
store.add([TextNode(id_=f"n{i}", text="", embedding=row.tolist()) for i, row in enumerate(rows)])
query = VectorStoreQuery(query_embedding=rows[7].tolist(), similarity_top_k=10)
"""


def test_no_thread_is_started_before_it_is_of_use() -> None:
    code = BIG + """
pannier.set_threads(3)
small = SimpleVectorStore()
small.add([TextNode(id_="a", text="", embedding=[1.0, 2.0])] )
small.query(VectorStoreQuery(query_embedding=[1.0, 2.0], similarity_top_k=1))
before = _core.helper_threads()
alone = store.query(query)
pannier.set_threads(1)
assert store.query(query) == alone
print(before, _core.helper_threads() <= 2, alone.ids[0])
"""
    assert python(code) == "0 True n7"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_searches_alone_unless_told() -> None:
    code = BIG + """
{set}
wanted = store.query(query)
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        fresh = _core.helper_threads() == 0 and pannier.get_threads() == {child}
        same = store.query(query) == wanted
        pannier.set_threads(2)
        os._exit(0 if fresh and same and store.query(query) == wanted and _core.helper_threads() == 1 else 1)
    assert os.waitpid(pid, 0)[1] == 0
print("done")
"""
    assert python(code.replace("{set}", "").replace("{child}", "1")) == "done"
    assert python(code.replace("{set}", "pannier.set_threads(3)").replace("{child}", "3")) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif(
    "PANNIER_UNDER_SANITIZER" in os.environ,
    reason="AddressSanitizer's allocator is not made for a fork while another thread allocates",
)
def test_a_child_forked_while_columns_are_built_filters_right() -> None:
    code = """
import os, signal, threading
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery
from pannier.vector_store import SimpleVectorStore
store = SimpleVectorStore()
names = [f"key{i}" for i in range(30)]
store.add([TextNode(id_=f"n{i}", text="", embedding=[1.0, i / 7], metadata={k: f"{k} {i % 5}" for k in names}) for i in range(3000)])
def ask(key, value):
    one = MetadataFilter(key=key, value=f"{key} {value}", operator="==")
    return store.query(VectorStoreQuery(query_embedding=[1.0, 2.0], similarity_top_k=9, filters=MetadataFilters(filters=[one]))).ids
wanted = [ask("key3", i) for i in range(5)]
def others():
    while True:
        for name in names:
            ask(name, 1)
            store.add([TextNode(id_="n7", text="", embedding=[1.0, 1.0], metadata={k: f"{k} 2" for k in names})])
threading.Thread(target=others, daemon=True).start()
for _ in range(25):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        same = [ask("key3", i) for i in range(5)] == wanted
        store.add([TextNode(id_="n8", text="", embedding=[1.0, 2.0], metadata={"key3": "new"})])
        same = same and ask("key3", 1) != [] and store.query(VectorStoreQuery(query_embedding=[1.0, 2.0], similarity_top_k=1)).ids != []
        os._exit(0 if same else 1)
    assert os.waitpid(pid, 0)[1] == 0
print("done", flush=True)
os._exit(0)
"""
    assert python(code) == "done"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_answers_do_not_depend_on_the_threads(threads: Any, dtype: Any) -> None:
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((5000, 300)).astype(dtype).astype(float)
    rows[4000:4100] = rows[100:200]  # ties
    store = SimpleVectorStore()
    store.add([TextNode(id_=f"n{i}", text="", embedding=row.tolist()) for i, row in enumerate(rows)])
    queries = [
        VectorStoreQuery(query_embedding=rows[i].tolist(), similarity_top_k=k)
        for i, k in ((3, 1), (110, 5), (120, 100), (4040, 2500), (9, 3))
    ]
    threads(1)
    alone = [pairs(store.query(q)) for q in queries]
    for n in (2, 3, 5):
        threads(n)
        assert [pairs(store.query(q)) for q in queries] == alone
        assert [pairs(x) for x in store.query_many(queries)] == alone


# ----- searches by codes of eight bits -----


@pytest.mark.parametrize("narrow", [True, False])
def test_searches_again_and_again_are_the_peers(narrow: bool, threads: Any) -> None:
    """Large enough for codes, often enough; between searches rows come, go and change."""
    rng, number = np.random.default_rng(5), 1400

    def node(i: int) -> TextNode:
        row = rng.standard_normal(800) * 10.0 ** rng.integers(-3, 3)
        return TextNode(id_=f"n{i}", text="", embedding=(row.astype(np.float32) if narrow else row).astype(float).tolist())

    nodes = [node(i) for i in range(number)]
    for i in range(0, 60, 2):
        nodes[i + 1].embedding = list(nodes[i].embedding or [])  # ties
    stores = [Peer(), SimpleVectorStore()]
    for store in stores:
        store.add([n.model_copy(deep=True) for n in nodes])
    for step in range(24):
        threads(1 + step % 2)
        target = nodes[step * 3].embedding if step % 3 else rng.standard_normal(800).tolist()
        query = VectorStoreQuery(query_embedding=target, similarity_top_k=(1, 10, 40)[step % 3])
        theirs, ours = (pairs(store.query(query)) for store in stores)
        assert theirs == ours
        if step >= 12:
            fresh, changed = node(number + step), node(step)
            for store in stores:
                store.delete_nodes([f"n{step + 20}"])
                store.add([fresh.model_copy(deep=True), changed.model_copy(deep=True)])
                store.get(f"n{step + 50}")[3] = float(step)  # the stored list


# ----- kernels -----


def cpu_has(isa: str) -> bool:
    flag = {"avx2": "avx2", "avx512": "avx512bw", "neon": "asimd"}.get(isa)
    if flag is None:
        return True
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            return flag in f.read().split()
    except OSError:
        return False


@pytest.mark.parametrize("isa", ["serial", "avx2", "avx512", "neon"])
def test_the_oracle_agrees_with_every_kernel(isa: str) -> None:
    """The random suites once more for each kernel, a few rounds."""
    if not cpu_has(isa):
        pytest.skip("not on this CPU")
    here = os.path.dirname(os.path.abspath(__file__))
    code = "import sys, pytest; from pannier import _core; print(_core.simd_kernel()); sys.exit(pytest.main(sys.argv[1:]))"
    files = [os.path.join(here, "test_vector_oracle.py"), os.path.join(here, "test_vector_query.py")]
    done = subprocess.run(
        [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", "-k", "peers or one_by_one or depend", *files],
        env={**os.environ, "PANNIER_SIMD": isa, "PANNIER_TEST_ROUNDS": "20"},
        cwd=os.path.dirname(os.path.dirname(here)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[0] == isa, "another kernel ran"


def test_a_kernel_that_is_unknown_is_not_taken() -> None:
    show = "from pannier import _core; print(_core.simd_kernel())"
    assert python(show, PANNIER_SIMD="nonsense") == python(show, PANNIER_SIMD="")
