"""One process persists into a pack as fast as it can, others read it all the while.

Every reader opens the directory, or brings an open context up to date, and requires that
all stores are of one generation, which never goes back.

    python tests/crash/readers.py --seconds 60 --readers 4
"""

from __future__ import annotations

import argparse
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kill9  # noqa: E402

REPORT = struct.Struct("<II")  # opens, generations seen


class Outcome(NamedTuple):
    persists: int
    opens: int
    generations: int  # different ones that readers saw
    failures: list[str]


def write(directory: str) -> None:
    kill9.child(kill9.WORKERS["pack"], directory, 1)


def stamps(context: Any) -> set[int]:
    found = {context.docstore.get_document("n0").text, context.index_store.get_index_struct("i").summary}
    found.add(context.graph_store.get("generation")[-1][1])
    found.add(context.property_graph_store.get(ids=["generation"])[0].label)
    return {int(x) for x in found | {store.get("n0")[0] for store in context.vector_stores.values()}}


def read(directory: str, seconds: float) -> None:
    """Opens and reloads in turn until the time is over; a report, or an exception."""
    from pannier import StorageContext

    opens, last, seen = 0, -1, set()
    held = StorageContext.open(directory, read_only=True)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or opens < 4:
        if opens % 2:
            held.reload()
        else:
            held = StorageContext.open(directory, read_only=True, check=opens % 8 == 0)
        (generation,) = stamps(held)
        if generation < last:
            raise AssertionError(f"generation {generation} after {last}")
        last = generation
        seen.add(generation)
        opens += 1
    sys.stdout.buffer.write(REPORT.pack(opens, len(seen)))


def run(args: argparse.Namespace) -> Outcome:
    failures = []
    opens = generations = 0
    with tempfile.TemporaryDirectory(prefix="pannier-readers-") as directory:
        kill9.WORKERS["pack"].persist(directory, 0)
        me = [sys.executable, os.path.abspath(__file__), "--directory", directory]
        writer = subprocess.Popen([*me, "--write"], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.read(kill9.REPORT.size)
        command = [*me, "--seconds", str(args.seconds)]
        readers = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(args.readers)
        ]
        for reader in readers:
            out, err = reader.communicate()
            if reader.returncode != 0:
                failures.append(err.decode(errors="replace")[-2000:])
                continue
            report = REPORT.unpack(out)
            opens, generations = opens + report[0], max(generations, report[1])
        if writer.poll() is not None:
            failures.append(f"the writer ended with {writer.returncode}")
        writer.send_signal(signal.SIGKILL)
        persists = 1 + len(writer.stdout.read()) // kill9.REPORT.size
        writer.stdout.close()
        writer.wait()
    return Outcome(persists, opens, generations, failures)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.directory:
        write(args.directory) if args.write else read(args.directory, args.seconds)
        return 0
    outcome = run(args)
    print(
        f"{outcome.persists} persists, {outcome.opens} opens and reloads by {args.readers} readers, "
        f"{outcome.generations} generations seen by one of them, {len(outcome.failures)} failures"
    )
    for failure in outcome.failures:
        print(failure)
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
