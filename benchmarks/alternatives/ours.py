"""LlamaIndex and pannier at the contenders' work, through the stores' own methods."""

from __future__ import annotations

import os
from typing import Any

from harness import Bench

from . import contender


class KV:
    side = ""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "kv.json")
        self.classes = Bench(self.side, 0, 0, folder)
        self.store = self.classes.SimpleKVStore()

    def open(self) -> None:
        self.store = self.classes.SimpleKVStore.from_persist_path(self.path)

    def put_all(self, items: list[tuple[str, dict[str, Any]]]) -> None:
        self.store.put_all(items)
        self.store.persist(self.path)

    def get(self, key: str) -> Any:
        return self.store.get(key)

    def close(self) -> None:
        self.store = None


class Vectors:
    side = ""

    def __init__(self, folder: str, dim: int) -> None:
        self.path = os.path.join(folder, "vector_store.json")
        self.classes = Bench(self.side, 0, 0, folder)
        self.store = self.classes.SimpleVectorStore()

    def add(self, ids: list[str], matrix: Any) -> None:
        from llama_index.core.schema import TextNode

        self.store.add([TextNode(id_=i, text="", embedding=v) for i, v in zip(ids, matrix.tolist())])

    def query(self, vector: Any, k: int) -> list[str]:
        from llama_index.core.vector_stores.types import VectorStoreQuery

        return list(self.store.query(VectorStoreQuery(query_embedding=vector.tolist(), similarity_top_k=k)).ids)

    def save(self) -> None:
        self.store.persist(self.path)

    def load(self) -> None:
        self.store = self.classes.SimpleVectorStore.from_persist_path(self.path)


for _name, _side, _module in (("LlamaIndex", "peer", "llama_index"), ("pannier", "pannier", "pannier")):
    contender(_name, "kv", _module, "persisted as JSON")(type(f"KV_{_side}", (KV,), {"side": _side}))
    contender(_name, "vectors", _module, "exact; making the nodes counts")(
        type(f"Vectors_{_side}", (Vectors,), {"side": _side})
    )
