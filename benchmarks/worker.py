"""One measurement in a process of its own; prints one JSON object.

Usage: worker.py CASE SIDE --n N --dim D --work DIR (bench.py calls it)

Cases: prepare, write (add and persist), read (load and query), kv. Sides: peer,
pannier, limit: the limit does only what the machine must do (hash the texts, write
and sync the bytes, read them, multiply the matrix).
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from typing import Any, Callable

from workload import make_nodes, make_vectors

MODULES = {"peer": "llama_index.core", "pannier": "pannier"}
TOP_K = 10
QUERIES = 7


def memory_mb(field: str) -> float:
    with open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    start = time.perf_counter()
    out = call()
    return time.perf_counter() - start, out


def warm(args: argparse.Namespace) -> None:
    """Makes the machine's memory and file cache ready, the same for every side.

    A virtual machine's host hands out memory on first touch and takes idle memory back;
    what that costs depends on who ran before, not on what is measured.
    """
    subprocess.run([sys.executable, "-c", "b'x' * (1 << 30)"], check=True)
    scratch = os.path.join(args.work, "scratch")
    with open(scratch, "wb") as f:
        for _ in range(512):
            f.write(b"x" * (1 << 20))
    os.remove(scratch)
    for entry in os.scandir(folder(args)) if os.path.isdir(folder(args)) else ():
        with open(entry.path, "rb") as f:
            while f.read(1 << 20):
                pass


def folder(args: argparse.Namespace) -> str:
    return os.path.join(args.work, args.side)


def query_vectors(args: argparse.Namespace) -> list[list[float]]:
    return make_vectors(QUERIES, args.dim, seed=99).tolist()


def load_nodes(args: argparse.Namespace) -> list[Any]:
    with open(os.path.join(args.work, "nodes.pickle"), "rb") as f:
        return pickle.load(f)  # written by prepare() of this run


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    nodes = make_nodes(args.n, args.dim)
    with open(os.path.join(args.work, "nodes.pickle"), "wb") as f:
        pickle.dump(nodes, f, pickle.HIGHEST_PROTOCOL)
    return {"mean_characters": statistics.fmean(len(n.text) for n in nodes)}


# ---------------------------------------------------------------- the stores


def write(args: argparse.Namespace) -> dict[str, Any]:
    """Adds the nodes to a context's stores, persists it; on disk and on a memory file system."""
    from llama_index.core.data_structs import IndexDict

    context_class = importlib.import_module(MODULES[args.side]).StorageContext
    nodes = load_nodes(args)
    context = context_class.from_defaults()
    out: dict[str, Any] = {"docstore": type(context.docstore).__module__}
    plain = [n.model_copy(update={"embedding": None}) for n in nodes]  # as VectorStoreIndex adds them
    out["docstore_add"], _ = timed(lambda: context.docstore.add_documents(plain))
    out["vector_add"], _ = timed(lambda: context.vector_store.add(nodes))
    struct = IndexDict(index_id="bench")
    for node in nodes:
        struct.add_node(node)
    out["struct_add"], _ = timed(lambda: context.index_store.add_index_struct(struct))
    warm(args)
    out["persist"], _ = timed(lambda: context.persist(persist_dir=folder(args)))
    out["persist_again"], _ = timed(lambda: context.persist(persist_dir=folder(args)))
    out["bytes"] = sum(e.stat().st_size for e in os.scandir(folder(args)))
    return out


def read(args: argparse.Namespace) -> dict[str, Any]:
    """Loads the directory, queries the vectors, fetches nodes."""
    from llama_index.core.vector_stores.types import ExactMatchFilter, MetadataFilters, VectorStoreQuery

    context_class = importlib.import_module(MODULES[args.side]).StorageContext
    queries = query_vectors(args)
    warm(args)
    context_class.from_defaults()  # whatever a first use imports is not the load's
    gc.collect()
    before = memory_mb("VmRSS")
    out: dict[str, Any] = {}
    out["load"], context = timed(lambda: context_class.from_defaults(persist_dir=folder(args)))
    gc.collect()
    out["memory"] = memory_mb("VmRSS") - before
    out["memory_peak"] = memory_mb("VmHWM") - before
    store = context.vector_store

    def ask(vector: list[float], **extra: Any) -> Any:
        return store.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=TOP_K, **extra))

    out["first_query"], first = timed(lambda: ask(queries[0]))
    out["query"] = statistics.median(timed(lambda q=q: ask(q))[0] for q in queries)
    only = MetadataFilters(filters=[ExactMatchFilter(key="department", value="legal")])
    out["query_filtered"] = statistics.median(timed(lambda q=q: ask(q, filters=only))[0] for q in queries)
    out["answers"] = [first.ids, [float(s).hex() for s in first.similarities]]
    found = ask(queries[1], filters=only)
    out["answers"] += [found.ids, [float(s).hex() for s in found.similarities]]
    ids = list(store.data.metadata_dict)[:1000]
    out["get_nodes"], got = timed(lambda: context.docstore.get_nodes(ids))
    out["get_nodes_again"], _ = timed(lambda: context.docstore.get_nodes(ids))
    for name in ("get_nodes", "get_nodes_again"):
        out[name] /= max(len(ids), 1)
    out["answers"].append(hashlib.sha256("".join(n.text for n in got).encode()).hexdigest())
    return out


def kv(args: argparse.Namespace) -> dict[str, Any]:
    """put, get and delete of small dicts, one at a time."""
    if args.side == "pannier":
        store_class = importlib.import_module("pannier").SimpleKVStore
    else:
        store_class = importlib.import_module("llama_index.core.storage.kvstore").SimpleKVStore
    store = store_class()
    items = [(f"key-{i:08d}", {"doc_hash": f"{i:064x}", "ref_doc_id": f"document-{i // 10}"}) for i in range(args.n)]
    out = {"kv_put": timed(lambda: [store.put(k, v, "c") for k, v in items])[0]}
    out["kv_get"] = timed(lambda: [store.get(k, "c") for k, _ in items])[0]
    out["kv_delete"] = timed(lambda: [store.delete(k, "c") for k, _ in items])[0]
    return {name: seconds / args.n for name, seconds in out.items()}


# ---------------------------------------------------------------- the limit


def limit_write(args: argparse.Namespace) -> dict[str, Any]:
    """Hashing the texts; writing the same bytes as the persisted files, then syncing them."""
    texts = [n.text.encode() for n in load_nodes(args)]
    out: dict[str, Any] = {"docstore_add": timed(lambda: [hashlib.sha256(t).hexdigest() for t in texts])[0]}
    warm(args)
    source = os.path.join(args.work, "pannier")
    contents = [open(e.path, "rb").read() for e in os.scandir(source)]
    os.makedirs(folder(args), exist_ok=True)
    written = synced = 0.0
    for i, data in enumerate(contents):
        fd = os.open(os.path.join(folder(args), f"{i}.bin"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        written += timed(lambda: os.write(fd, data) == len(data))[0]
        synced += timed(lambda: os.fsync(fd))[0]
        os.close(fd)
    out["persist"], out["fsync"] = written + synced, synced
    return out


def limit_read(args: argparse.Namespace) -> dict[str, Any]:
    """Reading the files' bytes, filling a fresh matrix; one matrix-vector product."""
    import numpy as np

    data = make_vectors(args.n, args.dim)
    buffers = [(e.path, bytearray(e.stat().st_size)) for e in os.scandir(os.path.join(args.work, "pannier"))]

    warm(args)

    def read_all() -> Any:
        for path, buffer in buffers:
            with open(path, "rb", buffering=0) as f:
                f.readinto(buffer)
        return data.copy()

    out: dict[str, Any] = {"load": timed(read_all)[0]}
    queries = [np.array(q, dtype=np.float32) for q in query_vectors(args)]
    data @ queries[0]
    out["query"] = out["first_query"] = statistics.median(timed(lambda q=q: data @ q)[0] for q in queries)
    tenth = np.ascontiguousarray(data[: max(args.n // 10, 1)])
    out["query_filtered"] = statistics.median(timed(lambda q=q: tenth @ q)[0] for q in queries)
    out["memory"] = (data.nbytes + sum(len(n.text.encode()) for n in load_nodes(args))) / 1e6
    return out


def limit_kv(args: argparse.Namespace) -> dict[str, Any]:
    """A plain dict, with the shallow copies that the interface promises."""
    items = [(f"key-{i:08d}", {"doc_hash": f"{i:064x}", "ref_doc_id": f"document-{i // 10}"}) for i in range(args.n)]
    store: dict[str, dict[str, Any]] = {}

    def put(k: str, v: dict[str, Any]) -> None:
        store[k] = v.copy()

    def get(k: str) -> dict[str, Any]:
        return store[k].copy()

    def delete(k: str) -> bool:
        return store.pop(k, None) is not None

    out = {"kv_put": timed(lambda: [put(k, v) for k, v in items])[0]}
    out["kv_get"] = timed(lambda: [get(k) for k, _ in items])[0]
    out["kv_delete"] = timed(lambda: [delete(k) for k, _ in items])[0]
    return {name: seconds / args.n for name, seconds in out.items()}


CASES = {"prepare": prepare, "write": write, "read": read, "kv": kv}
LIMITS = {"write": limit_write, "read": limit_read, "kv": limit_kv}


def main() -> int:
    parser = argparse.ArgumentParser(description="One measurement; see bench.py.")
    parser.add_argument("case", choices=tuple(CASES))
    parser.add_argument("side", choices=("peer", "pannier", "limit"))
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--dim", type=int, required=True)
    parser.add_argument("--work", required=True)
    args = parser.parse_args()
    run = LIMITS[args.case] if args.side == "limit" else CASES[args.case]
    print(json.dumps(run(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
