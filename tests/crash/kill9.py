"""Kills a process that persists, again and again, and looks at what is left.

A child persists numbered generations over a good directory, as files, as the JSON of a
context or as a pack, and reports each one whose
persist returned. The parent kills it (SIGKILL) at a random moment, opens the directory
and requires that everything in it is of one generation, which is not older than the
last one reported, and that no file of pannier's own is left after the next persist.

    python tests/crash/kill9.py --rounds 300 [--worker files] [--in-place] [--seed 1]

SIGKILL shows that a commit is atomic, not that it is durable: the kernel still writes
what the dead process gave it. Durability is what tests/c/test_commit.c shows.

A worker is two functions, ``persist(directory, generation)`` and
``read(directory) -> set of generations found``, entered into WORKERS.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, NamedTuple

FILES = 6
REPORT = struct.Struct("<I")


class Worker(NamedTuple):
    persist: Callable[[str, int], None]
    read: Callable[[str], set[int]]


class Outcome(NamedTuple):
    rounds: int
    persists: int  # generations that were reported
    finished_later: int  # kills between the commit and its last rename
    newer: int  # kills after the commit, before the report
    leftovers: int  # kills that left staged files behind
    failures: list[str]


def contents_of(generation: int, i: int) -> bytes:
    """Some thousands of bytes that say which generation they are, all through."""
    line = f"{generation} {i}\n".encode()
    return line * (1 + (generation * 7919 + i * 104729) % 5000)


def files_persist(directory: str, generation: int) -> None:
    from pannier import _core

    items = [(os.path.join(directory, f"store{i}.json"), contents_of(generation, i)) for i in range(FILES)]
    _core.commit_files(directory, items, os.environ.get("KILL9_IN_PLACE") == "1")


def files_read(directory: str) -> set[int]:
    from pannier import _core

    found = set()
    for i in range(FILES):
        data = bytes(_core.read_file(os.path.join(directory, f"store{i}.json")))
        generation = int(data.split(b" ", 1)[0])
        if data != contents_of(generation, i):
            raise AssertionError(f"store{i}.json is torn: {len(data)} bytes of generation {generation}")
        found.add(generation)
    return found


@functools.cache
def growing_context() -> Any:
    """One context that the child goes on changing, with something in every store."""
    from pannier import SimplePropertyGraphStore, StorageContext

    return StorageContext.from_defaults(property_graph_store=SimplePropertyGraphStore())


def grow(generation: int) -> Any:
    """The context with every store saying which generation it is."""
    from llama_index.core.data_structs import IndexList
    from llama_index.core.graph_stores.types import EntityNode
    from llama_index.core.schema import TextNode

    context, stamp = growing_context(), str(generation)
    nodes = [TextNode(id_=f"n{i}", text=stamp, embedding=[float(generation), 1.0]) for i in range(generation % 50 + 1)]
    context.docstore.add_documents(nodes)
    context.index_store.add_index_struct(IndexList(index_id="i", summary=stamp))
    context.graph_store.upsert_triplet("generation", "is", stamp)
    context.property_graph_store.upsert_nodes([EntityNode(name="generation", label=stamp)])
    for store in context.vector_stores.values():
        store.add(nodes[:1])
    return context


def context_persist(directory: str, generation: int) -> None:
    grow(generation).persist(directory, in_place=os.environ.get("KILL9_IN_PLACE") == "1")


def pack_persist(directory: str, generation: int) -> None:
    """Mostly what changed; the parent, between two children, begins anew."""
    from pannier import ConflictError

    try:
        grow(generation).persist(directory, format="pack")
    except ConflictError:
        growing_context.cache_clear()
        grow(generation).persist(directory, format="pack")


def context_read(directory: str) -> set[int]:
    from pannier import StorageContext

    context = StorageContext.from_defaults(persist_dir=directory)
    found = {context.docstore.get_document("n0").text, context.index_store.get_index_struct("i").summary}
    found.add(context.graph_store.get("generation")[-1][1])
    found.add(context.property_graph_store.get(ids=["generation"])[0].label)
    vectors = {store.get("n0")[0] for store in context.vector_stores.values()}
    if len(context.vector_stores) != 2:
        raise AssertionError(f"vector stores {sorted(context.vector_stores)}")
    return {int(x) for x in found | vectors}


WORKERS: dict[str, Worker] = {
    "files": Worker(files_persist, files_read),
    "context": Worker(context_persist, context_read),
    "pack": Worker(pack_persist, context_read),
}


def child(worker: Worker, directory: str, first: int) -> None:
    """Persists until it is killed, reporting each generation through stdout."""
    for generation in range(first, 2**31):
        worker.persist(directory, generation)
        os.write(sys.stdout.fileno(), REPORT.pack(generation))


def kill_once(args: argparse.Namespace, directory: str, first: int, delay: float) -> tuple[int, int]:
    """(last generation reported, how many were) of a child killed after a delay that
    begins with its first report, so that its start-up time does not matter."""
    command = [sys.executable, os.path.abspath(__file__), "--child", directory, "--first", str(first)]
    environment = dict(os.environ, KILL9_IN_PLACE="1" if args.in_place else "0")
    process = subprocess.Popen([*command, "--worker", args.worker], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    reports = process.stdout.read(REPORT.size)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    reports += process.stdout.read()
    process.stdout.close()
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError(f"the child ended by itself with {process.returncode}")
    whole = len(reports) // REPORT.size
    return REPORT.unpack_from(reports, (whole - 1) * REPORT.size)[0], whole


def own_files(directory: str) -> list[str]:
    names = os.listdir(directory)
    segments = [name for name in names if name.startswith("seg-")]
    if segments:
        from pannier import _core

        manifest = _core.pack_manifest(directory)
        segments = [name for name in segments if manifest is None or name not in manifest["segments"]]
    return segments + [name for name in names if name.startswith(".pannier-")]


def check(worker: Worker, directory: str, reported: int) -> tuple[int, str]:
    """(generation found, what is wrong or "")."""
    try:
        found = worker.read(directory)
    except Exception as e:
        return reported, f"cannot be read: {type(e).__name__}: {e}"
    if len(found) != 1:
        return max(found, default=reported), f"generations {sorted(found)} side by side"
    (generation,) = found
    if generation < reported:
        return reported, f"generation {generation} although the persist of {reported} had returned"
    return generation, ""


def run(args: argparse.Namespace) -> Outcome:
    worker, rng = WORKERS[args.worker], random.Random(args.seed)
    failures: list[str] = []
    persists = finished_later = newer = leftovers = 0
    with tempfile.TemporaryDirectory(prefix="pannier-kill9-") as directory:
        worker.persist(directory, 0)
        generation = 0
        for number in range(args.rounds):
            reported, count = kill_once(args, directory, generation + 1, rng.uniform(0, args.max_delay))
            persists += count
            before = own_files(directory)
            finished_later += ".pannier-commit" in before
            leftovers += bool(before) and ".pannier-commit" not in before
            generation, wrong = check(worker, directory, reported)
            newer += generation > reported
            if not wrong and number % 10 == 9:
                generation += 1
                worker.persist(directory, generation)
                if own_files(directory):
                    wrong = f"left behind: {own_files(directory)}"
            if wrong:
                failures.append(f"round {number}: {wrong}")
                if len(failures) == 5:
                    break
    return Outcome(args.rounds, persists, finished_later, newer, leftovers, failures)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--worker", choices=sorted(WORKERS), default="files")
    parser.add_argument("--in-place", action="store_true", help="overwrite instead of renaming")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-delay", type=float, default=0.05, help="seconds of persisting before the kill")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.child:
        child(WORKERS[args.worker], args.child, args.first)
    outcome = run(args)
    print(
        f"{outcome.rounds} kills, {outcome.persists} persists that returned, {outcome.leftovers} killed while staging, "
        f"{outcome.finished_later} between commit and last rename, {outcome.newer} found newer than reported, "
        f"{len(outcome.failures)} failures"
    )
    for failure in outcome.failures:
        print(failure)
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
