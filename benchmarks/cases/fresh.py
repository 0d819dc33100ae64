"""What has to be measured in a fresh process: imports, memory, loads of some size."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from typing import Any, Iterator

from harness import Bench, Fact, Op, Row, Step, forget_peak, group, limit, memory_mb
from warm import warm_files, warm_memory
from workload import load_texts, load_vectors, query_vectors

from .context import LOAD_ROWS, directory
from .vectors import same

MEMORY = (
    Row("memory", "private memory after a load, over the import", "MB", limit="float32 vectors and the texts"),
    Row("memory_rss", "resident memory after a load, over the import", "MB"),
    Row("memory_peak", "peak memory of a load, over the import", "MB"),
)
IMPORTS = (
    Row("import", "import the package"),
    Row("import_context", "from ... import StorageContext"),
)


@group("fresh", *LOAD_ROWS, *MEMORY, alone=True, where="large")
def fresh(b: Bench) -> Iterator[Step]:
    from llama_index.core.vector_stores.types import VectorStoreQuery

    folder = directory(b)
    query = VectorStoreQuery(query_embedding=query_vectors(b.dim)[0], similarity_top_k=10)
    warm_files(folder)
    warm_memory(b.n)
    b.StorageContext.from_defaults()  # whatever a first use imports is not the load's
    gc.collect()
    before = {name: memory_mb(name) for name in ("private", "rss")}
    forget_peak()
    kept: list[Any] = []
    yield Op("load", lambda: kept.append(b.StorageContext.from_defaults(persist_dir=folder)), repeats=1)
    gc.collect()
    yield Fact("memory", memory_mb("private") - before["private"])
    yield Fact("memory_rss", memory_mb("rss") - before["rss"])
    yield Fact("memory_peak", memory_mb("peak") - before["rss"])
    yield Op(
        "first_query",
        lambda: kept[0].vector_store.query(query),
        repeats=1,
        answer=same,
    )


@limit("fresh")
def fresh_limit(b: Bench) -> Iterator[Step]:
    import numpy as np

    data = load_vectors(b)
    source = os.path.join(b.work, f"json-{b.n}-{b.dim}", "pannier")
    buffers = [(e.path, bytearray(e.stat().st_size)) for e in os.scandir(source)] if os.path.isdir(source) else []

    def read() -> Any:
        for path, buffer in buffers:
            with open(path, "rb", buffering=0) as f:
                f.readinto(buffer)
        return data.copy()

    question = np.array(query_vectors(b.dim)[0], dtype=np.float32)
    yield Op("load", read)
    yield Op("first_query", lambda: data @ question)
    yield Fact("memory", (data.nbytes + sum(len(t.encode()) for t in load_texts(b).values())) / 1e6)


@group("imports", *IMPORTS, where="once")
def imports(b: Bench) -> Iterator[Step]:
    """Whole processes: what an empty one takes is in both, and so is compiled code: an
    installed package has it, a source tree only where the environment lets Python write it."""
    package = "pannier" if b.side == "pannier" else "llama_index.core"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = b.folder("compiled")

    def python(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, env=env)

    python(f"from {package} import StorageContext")
    yield Op("import", lambda: python(f"import {package}"))
    yield Op("import_context", lambda: python(f"from {package} import StorageContext"), least=6)
