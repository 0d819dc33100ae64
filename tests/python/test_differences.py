"""docs/differences.md: every row names tests that exist, and what no other file proves.

Each proof here shows both sides: when LlamaIndex changes, its half fails and the row
can go.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest import mock

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from llama_index.core.graph_stores.simple_labelled import SimplePropertyGraphStore as PeerPropertyGraph
from llama_index.core.graph_stores.types import EntityNode, Relation
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore.simple_kvstore import SimpleKVStore as PeerKV
from llama_index.core.vector_stores.simple import SimpleVectorStore as PeerVectors

import pannier

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what")]
CITED = re.findall(r"`(test_\w+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_every_row_says_five_things_and_cites_a_test(row):
    cells = [c.strip() for c in row.strip("|").split(" | ")]
    assert len(cells) == 5 and all(cells)
    assert re.search(r"`test_\w+\.py::\w+`", cells[4])


@pytest.mark.parametrize("file, name", sorted(set(CITED)))
def test_cited_tests_exist(file, name):
    source = (ROOT / "tests" / "python" / file).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {name}\(", source, re.M)


def test_embeddings_are_copied_when_they_are_added():
    theirs, ours = PeerVectors(), pannier.SimpleVectorStore()
    for store, kept in ((theirs, False), (ours, True)):
        node = TextNode(id_="n", text="", embedding=[1.0, 2.0])
        store.add([node])
        node.embedding[0] = 9.0
        assert store.get("n") == store.data.embedding_dict["n"] == [1.0 if kept else 9.0, 2.0]
        assigned = [3.0, 4.0]
        store.data.embedding_dict["n"] = assigned
        assigned[0] = 9.0
        assert store.get("n") == [3.0 if kept else 9.0, 4.0]


def test_a_vector_store_keeps_its_file_system(tmp_path):
    fs = MemoryFileSystem()
    path = str(tmp_path / "v.json")
    try:
        for cls, kept in ((PeerVectors, False), (pannier.SimpleVectorStore, True)):
            cls().persist("/v.json", fs=fs)
            cls.from_persist_path("/v.json", fs=fs).persist(path)
            assert (fs.exists(path), (tmp_path / "v.json").exists()) == (kept, True)
    finally:
        fs.store.clear()
        fs.pseudo_dirs[:] = [""]


def test_a_property_graph_s_dict_is_json_and_survives_from_dict():
    def filled(cls):
        store = cls()
        store.upsert_nodes([EntityNode(name="s"), EntityNode(name="o")])
        store.upsert_relations([Relation(label="r", source_id="s", target_id="o")])
        return store

    theirs, ours = (filled(cls).to_dict() for cls in (PeerPropertyGraph, pannier.SimplePropertyGraphStore))
    with pytest.raises(TypeError):
        json.dumps(theirs)
    text = json.dumps(ours)
    PeerPropertyGraph.from_dict(theirs)
    again = pannier.SimplePropertyGraphStore.from_dict(ours)
    assert theirs["nodes"] == {}
    assert json.dumps(ours) == text
    assert json.dumps(again.to_dict()) == text


def test_methods_replaced_on_llama_index_s_class_stay_its_own():
    replaced = lambda self, key, collection="data": "replaced"  # noqa: E731
    with mock.patch.object(PeerKV, "get", replaced):
        assert PeerKV().get("k") == "replaced"
        assert pannier.SimpleKVStore().get("k") is None
    with mock.patch.object(pannier.SimpleKVStore, "get", replaced):
        assert pannier.SimpleKVStore().get("k") == "replaced"
