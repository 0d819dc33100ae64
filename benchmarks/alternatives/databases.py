"""Vector databases that run inside the process: Chroma, Qdrant local, LanceDB, sqlite blobs.

They write as they add; ``save`` is what is left to do, and ``load`` opens the folder again.
"""

from __future__ import annotations

import gc
import os
from typing import Any

from . import contender

BATCH = 5000


@contender("chroma", "vectors", "chromadb", "approximate, on disk")
class Chroma:
    def __init__(self, folder: str, dim: int) -> None:
        self.path = os.path.join(folder, "chroma")
        self.load()

    def load(self) -> None:
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        self.client = chromadb.PersistentClient(path=self.path, settings=settings)
        self.collection = self.client.get_or_create_collection("vectors", metadata={"hnsw:space": "ip"})

    def add(self, ids: list[str], matrix: Any) -> None:
        for i in range(0, len(ids), BATCH):
            self.collection.add(ids=ids[i : i + BATCH], embeddings=matrix[i : i + BATCH])

    def query(self, vector: Any, k: int) -> list[str]:
        return list(self.collection.query(query_embeddings=[vector], n_results=k, include=[])["ids"][0])

    save = None


@contender("qdrant local", "vectors", "qdrant_client", "exact, on disk", most=1000)
class Qdrant:
    def __init__(self, folder: str, dim: int) -> None:
        from qdrant_client import models

        self.path = os.path.join(folder, "qdrant")
        self.client: Any = None
        self.load()
        config = models.VectorParams(size=dim, distance=models.Distance.DOT)
        self.client.create_collection("vectors", vectors_config=config)

    def load(self) -> None:
        from qdrant_client import QdrantClient

        if self.client is not None:
            self.client.close()
        self.client = QdrantClient(path=self.path)

    def add(self, ids: list[str], matrix: Any) -> None:
        import uuid

        self.client.upload_collection("vectors", vectors=matrix, ids=[str(uuid.UUID(i)) for i in ids])

    def query(self, vector: Any, k: int) -> list[str]:
        found = self.client.query_points("vectors", query=vector.tolist(), limit=k).points
        return [str(p.id).replace("-", "") for p in found]

    save = None


@contender("lancedb", "vectors", "lancedb", "exact (no index made), on disk")
class Lance:
    def __init__(self, folder: str, dim: int) -> None:
        import lancedb

        self.path, self.dim, self.lancedb = os.path.join(folder, "lance"), dim, lancedb
        self.db = lancedb.connect(self.path)

    def add(self, ids: list[str], matrix: Any) -> None:
        import pyarrow as pa

        column = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), self.dim)
        self.table = self.db.create_table("vectors", pa.table({"id": pa.array(ids), "vector": column}))

    def query(self, vector: Any, k: int) -> list[str]:
        found = self.table.search(vector).distance_type("dot").limit(k).select(["id", "_distance"]).to_arrow()
        return list(found["id"].to_pylist())

    save = None

    def load(self) -> None:
        del self.table
        gc.collect()
        self.db = self.lancedb.connect(self.path)
        self.table = self.db.open_table("vectors")


@contender("sqlite3 blobs", "vectors", "sqlite3", "exact; rows read into a matrix by load")
class SQLiteBlobs:
    def __init__(self, folder: str, dim: int) -> None:
        import sqlite3

        self.db = sqlite3.connect(os.path.join(folder, "vectors.sqlite"))
        self.db.execute("CREATE TABLE v (id TEXT PRIMARY KEY, vector BLOB)")

    def add(self, ids: list[str], matrix: Any) -> None:
        self.matrix, self.ids = matrix, ids
        with self.db:
            self.db.executemany("INSERT INTO v VALUES (?, ?)", [(i, row.tobytes()) for i, row in zip(ids, matrix)])

    def query(self, vector: Any, k: int) -> list[str]:
        scores = self.matrix @ vector
        return [self.ids[i] for i in (-scores).argsort()[:k]]

    save = None

    def load(self) -> None:
        import numpy as np

        rows = self.db.execute("SELECT id, vector FROM v").fetchall()
        self.ids = [row[0] for row in rows]
        self.matrix = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float32).reshape(len(rows), -1)
