"""Vector files of megabytes, which are read in pieces straight from the file: what is loaded
is what LlamaIndex loads, and what is odd is read as small files are."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
from llama_index.core.vector_stores.simple import SimpleVectorStore as PeerVectorStore
from llama_index.core.vector_stores.types import VectorStoreQuery

import pannier
from pannier import SimpleVectorStore, _core

DIM, ROWS = 96, 1100


def data(wide: bool = False) -> dict:
    rows = np.random.default_rng(5).standard_normal((ROWS, DIM))
    rows = rows if wide else rows.astype("float32").astype("float64")
    ids = [f"node {i}" for i in range(ROWS)]
    return {
        "embedding_dict": dict(zip(ids, rows.tolist())),
        "text_id_to_ref_doc_id": {i: f"doc {n // 9}" for n, i in enumerate(ids)},
        "metadata_dict": {i: {"page": n, "brackets": "[][" * (n % 3)} for n, i in enumerate(ids)},
    }


def put_at(d: dict, at: int, key: str, row: list) -> dict:
    items = list(d["embedding_dict"].items())
    items.insert(at, (key, row))
    return {**d, "embedding_dict": dict(items)}


def written(tmp_path, text) -> str:
    path = str(tmp_path / "default__vector_store.json")
    with open(path, "w", encoding="utf-8", errors="surrogatepass") as f:
        f.write(text)
    assert os.path.getsize(path) > 2 << 20
    return path


def bits(d: dict) -> list:
    """Ids and values, NaN as its bits."""
    return [(key, np.array(row, dtype="float64").tobytes()) for key, row in d["embedding_dict"].items()]


def check(path: str) -> SimpleVectorStore:
    ours, peers = SimpleVectorStore.from_persist_path(path), PeerVectorStore.from_persist_path(path)
    mine, theirs = ours.to_dict(), peers.to_dict()
    assert bits(mine) == bits(theirs)
    for member in ("text_id_to_ref_doc_id", "metadata_dict"):
        assert list(mine[member].items()) == list(theirs[member].items())
    return ours


@pytest.fixture(params=[1, 3])
def threads(request):
    before = pannier.get_threads()
    pannier.set_threads(request.param)
    yield
    pannier.set_threads(before)


@pytest.mark.parametrize("wide", [False, True])
def test_a_file_as_json_dump_writes_it(tmp_path, threads, wide):
    path = written(tmp_path, json.dumps(data(wide)))
    assert _core.load_vectors(path) is not None
    store = check(path)
    table = _core.load_vectors(path)
    assert table.shape() == (ROWS, DIM, wide) and table.dense() is not None and table.consistent()
    query = VectorStoreQuery(query_embedding=[1.0] * DIM, similarity_top_k=7)
    found, expected = store.query(query), PeerVectorStore.from_persist_path(path).query(query)
    assert (found.ids, found.similarities) == (expected.ids, expected.similarities)


@pytest.mark.parametrize(
    "key, row",
    [
        ("another dimension", [1.5] * 7),
        ("another width", [0.1] * DIM),
        ("zeros and integers", [0.0, -0.0, 1, -7] * (DIM // 4)),
        ("not finite", [math.nan, math.inf, -math.inf] * (DIM // 3)),
        ("tiny and huge", [1e-300, 5e-324, 1.7976931348623157e308] * (DIM // 3)),
        ("] [ \" \\ \u00e9 \U0001f600", [0.5] * DIM),
        ("node 3", [0.25] * DIM),
    ],
)
@pytest.mark.parametrize("at", [0, 700])
def test_an_odd_row_among_the_others(tmp_path, at, key, row):
    check(written(tmp_path, json.dumps(put_at(data(), at, key, row))))


def test_a_repeated_id(tmp_path):
    text = json.dumps(data())
    again = json.dumps([0.75] * DIM)
    check(written(tmp_path, text.replace('"node 900": [', f'"node 3": {again}, "node 900": [', 1)))


@pytest.mark.parametrize(
    "form",
    [
        lambda d: json.dumps(d, separators=(",", ":")),
        lambda d: json.dumps(d, indent=1),
        lambda d: json.dumps(dict(reversed(d.items()))),
        lambda d: "\n " + json.dumps(d) + " \n",
        lambda d: json.dumps({"embedding_dict": d["embedding_dict"]}),
    ],
    ids=["compact", "indented", "vectors last", "space around", "vectors alone"],
)
def test_other_forms(tmp_path, form):
    text = form(data())
    path = written(tmp_path, text)
    if "text_id" in text:
        check(path)
    else:  # LlamaIndex's from_dict does with it whatever it does
        assert list(SimpleVectorStore.from_persist_path(path).data.embedding_dict) == list(data()["embedding_dict"])


@pytest.mark.parametrize("at", [1 << 20, -30_000])
@pytest.mark.parametrize("what", ["\x01", "", "\udcff"], ids=["wrong", "cut", "not UTF-8"])
def test_what_is_not_json_is_refused_as_ever(tmp_path, at, what):
    text = json.dumps(data())
    path = written(tmp_path, text)
    raw = text.encode()
    at %= len(raw)
    raw = raw[:at] + what.encode("utf-8", "surrogateescape") + (raw[at:] if what else b"")
    with open(path, "wb") as f:
        f.write(raw)
    assert _core.load_vectors(path) is None
    with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)) as found:
        SimpleVectorStore.from_persist_path(path)
    with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)) as expected:
        PeerVectorStore.from_persist_path(path)
    assert isinstance(found.value, type(expected.value))


def test_what_is_left_to_read_file(tmp_path):
    path = written(tmp_path, json.dumps(data()))
    os.symlink(path, tmp_path / "link")
    (tmp_path / "small").write_text("{}")
    for other in ("link", "small", "missing", "."):
        assert _core.load_vectors(str(tmp_path / other)) is None
    check(str(tmp_path / "link"))


def test_an_earlier_persist_is_finished_first(tmp_path):
    from pannier import _files

    path = written(tmp_path, json.dumps(data()))
    (tmp_path / ".pannier-commit").write_text("not a journal")
    with pytest.raises(pannier.errors.JournalError):
        _core.load_vectors(path)
    with pytest.raises(pannier.errors.JournalError):
        _files.read_file(path)
