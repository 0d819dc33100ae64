"""Vectors in one block: numpy, FAISS flat and HNSW, usearch.

A contender has ``add(ids, matrix)``, ``query(vector, k)`` (ids, best first), ``save()`` and
``load()`` (ready to answer).
"""

from __future__ import annotations

import os
from typing import Any

from . import contender


@contender("numpy", "vectors", "numpy", "exact; a matrix-vector product and argpartition, np.save")
class Numpy:
    def __init__(self, folder: str, dim: int) -> None:
        self.path = os.path.join(folder, "matrix.npy")

    def add(self, ids: list[str], matrix: Any) -> None:
        self.ids, self.matrix = ids, matrix.copy()

    def query(self, vector: Any, k: int) -> list[str]:
        import numpy as np

        scores = self.matrix @ vector
        best = np.argpartition(scores, -k)[-k:] if k < len(scores) else np.arange(len(scores))
        return [self.ids[i] for i in best[np.argsort(-scores[best])]]

    def save(self) -> None:
        import numpy as np

        np.save(self.path, self.matrix)

    def load(self) -> None:
        import numpy as np

        self.matrix = np.load(self.path)


class Faiss:
    """FAISS keeps no names: a list beside the index does."""

    def __init__(self, folder: str, dim: int) -> None:
        import faiss

        self.faiss, self.path = faiss, os.path.join(folder, "index.faiss")
        self.index = self.make(dim)
        self.ids: list[str] = []

    def make(self, dim: int) -> Any:
        raise NotImplementedError

    def add(self, ids: list[str], matrix: Any) -> None:
        self.ids += ids
        self.index.add(matrix)

    def query(self, vector: Any, k: int) -> list[str]:
        return [self.ids[i] for i in self.index.search(vector[None, :], k)[1][0] if i >= 0]

    def save(self) -> None:
        self.faiss.write_index(self.index, self.path)

    def load(self) -> None:
        self.index = self.faiss.read_index(self.path)


@contender("faiss flat", "vectors", "faiss", "exact")
class FaissFlat(Faiss):
    def make(self, dim: int) -> Any:
        return self.faiss.IndexFlatIP(dim)


@contender("faiss hnsw", "vectors", "faiss", "approximate")
class FaissHNSW(Faiss):
    def make(self, dim: int) -> Any:
        return self.faiss.IndexHNSWFlat(dim, 32, self.faiss.METRIC_INNER_PRODUCT)


@contender("usearch", "vectors", "usearch", "approximate")
class USearch:
    def __init__(self, folder: str, dim: int) -> None:
        from usearch.index import Index

        self.path = os.path.join(folder, "index.usearch")
        self.index = Index(ndim=dim, metric="ip", dtype="f32")

    def add(self, ids: list[str], matrix: Any) -> None:
        import numpy as np

        self.ids = ids
        self.index.add(np.arange(len(ids)), matrix)

    def query(self, vector: Any, k: int) -> list[str]:
        return [self.ids[i] for i in self.index.search(vector, k).keys]

    def save(self) -> None:
        self.index.save(self.path)

    def load(self) -> None:
        self.index.load(self.path)
