"""Measures one contender: run.py KEY N DIM WORK BUDGET VECTORS; prints JSON on its last line.

{"times": {operation: [seconds, ...]}, "recall": share of the exact top 10 found, ...} or
{"skipped": why}.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import shutil
import sys
import time
from typing import Any, Callable

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import alternatives  # noqa: E402
from workload import make_items  # noqa: E402

GETS = 1000
TOP_K = 10


PACKAGES = {"faiss": "faiss-cpu", "qdrant_client": "qdrant-client", "llama_index": "llama-index-core"}


def version(module: str) -> str:
    """The installed version of a module's package, or what the module says of itself."""
    try:
        return importlib.metadata.version(PACKAGES.get(module, module))
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(module), "sqlite_version", ""))


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def keyvalue(make: Any, folder: str, n: int) -> dict[str, Any]:
    items = make_items(n)
    store = make(folder)
    times = {"put": [timed(lambda: store.put_all(items)) / n]}
    store.close()
    times["open"] = [timed(lambda: (store.open(), store.get(items[0][0])))]
    keys = [items[i * n // min(GETS, n)][0] for i in range(min(GETS, n))]
    if store.get(keys[-1]) != dict(items)[keys[-1]]:
        raise SystemExit("another value came back")

    def get() -> None:
        for key in keys:
            store.get(key)

    times["get"] = [timed(get) / len(keys) for _ in range(3)]
    store.close()
    return {"times": times}


def vectors(make: Any, folder: str, n: int, dim: int, matrix: Any, budget: float) -> dict[str, Any]:
    import numpy as np

    ids = [f"{i:032x}" for i in range(n)]
    rng = np.random.default_rng(99)
    questions = rng.standard_normal((20, dim), dtype=np.float32)
    questions /= np.linalg.norm(questions, axis=1, keepdims=True)
    store = make(folder, dim)
    times: dict[str, list[float]] = {"add": [timed(lambda: store.add(ids, matrix))]}
    store.query(questions[0], TOP_K)
    times["query"], hits, start = [], 0, time.perf_counter()
    for question in questions:
        found: list[Any] = []
        times["query"].append(timed(lambda: found.extend(store.query(question, TOP_K))))
        hits += len({ids[i] for i in np.argsort(-(matrix @ question))[:TOP_K]} & set(found))
        if time.perf_counter() - start > 10 * budget:
            break
    if store.save is not None:
        times["save"] = [timed(store.save)]
    times["load"] = [timed(lambda: (store.load(), store.query(questions[0], TOP_K)))]
    return {"times": times, "recall": hits / (len(times["query"]) * min(TOP_K, n))}


def main() -> int:
    key, n, dim, work, budget, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:7]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    found = alternatives.load_all()[key]
    try:
        importlib.import_module(found["needs"])
    except ImportError as error:
        print(json.dumps({"skipped": str(error)}), file=out, flush=True)
        return 0
    n = min(n, found["most"])
    folder = os.path.join(work, "alternative")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if found["kind"] == "kv":
        result = keyvalue(found["make"], folder, n)
    else:
        import numpy as np

        result = vectors(found["make"], folder, n, dim, np.load(path)[:n], float(budget))
    shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**result, "n": n, "version": version(found["needs"])}), file=out)
    out.flush()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # some clients complain at exit
