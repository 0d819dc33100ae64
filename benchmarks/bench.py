"""The benchmark: LlamaIndex's stores, pannier, and what the machine allows, in one run.

    python benchmarks/bench.py                       10,000 nodes x 384, 3 rounds
    python benchmarks/bench.py --n 1000 --dim 64 --rounds 1 --no-report

Every measurement runs in a fresh process; within a round the sides take turns, and
the order changes from round to round. A ratio is the median of the rounds' ratios,
so that a slow minute of the machine meets both sides. Answers and files of the two
sides are compared; a difference is an error. The results go into docs/performance.md
(between its markers), docs/performance.json and README.md's table.
"""

from __future__ import annotations

import argparse
import datetime
import filecmp
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from typing import Any, Callable, Optional

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
CASES = ("write", "read", "kv")
SIDES = ("peer", "pannier", "limit")


def seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.0f} ns"


def megabytes(value: float) -> str:
    return f"{value:,.0f} MB"


# (metric, what it is, how it is shown, what the limit does)
ROWS: list[tuple[str, str, Callable[[float], str], str]] = [
    ("persist", "persist a context, JSON", seconds, "write and fsync the same bytes"),
    ("persist_again", "persist it again", seconds, ""),
    ("load", "load a context, JSON", seconds, "read the bytes, fill a matrix"),
    ("first_query", "first top-10 query after the load", seconds, "one float32 matrix-vector product"),
    ("query", "top-10 query", seconds, "one float32 matrix-vector product"),
    ("query_filtered", "top-10 query, a filter keeps 10 %", seconds, "the same over a tenth"),
    ("docstore_add", "docstore: add all nodes", seconds, "SHA-256 of the texts"),
    ("vector_add", "vector store: add all nodes", seconds, ""),
    ("struct_add", "index store: add the struct", seconds, ""),
    ("get_nodes", "get_nodes after a load, a node", seconds, ""),
    ("get_nodes_again", "get_nodes again, a node", seconds, ""),
    ("kv_put", "KV put", seconds, "a dict and a shallow copy"),
    ("kv_get", "KV get", seconds, "a dict and a shallow copy"),
    ("kv_delete", "KV delete", seconds, "a dict"),
    ("memory", "memory after load, over the import", megabytes, "float32 vectors and the texts"),
    ("memory_peak", "peak memory of the load, over the import", megabytes, ""),
]
README_ROWS = ("persist", "load", "query", "query_filtered", "docstore_add", "get_nodes", "get_nodes_again", "memory")


def measure(case: str, side: str, args: argparse.Namespace, work: str) -> dict[str, Any]:
    """One worker process. What earlier ones left to be written is written first."""
    os.sync()
    command = [sys.executable, os.path.join(HERE, "worker.py"), case, side]
    command += ["--n", str(args.n), "--dim", str(args.dim), "--work", work]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"} if side == "limit" else None  # one core reads
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=env)
    if done.returncode != 0:
        raise SystemExit(f"bench: {case} of {side} failed (exit {done.returncode})")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one_round(number: int, args: argparse.Namespace, work: str) -> dict[str, dict[str, Any]]:
    """All cases of all sides; returns {side: {metric: value}}."""
    out: dict[str, dict[str, Any]] = {side: {} for side in SIDES}
    first, second = ("peer", "pannier") if number % 2 == 0 else ("pannier", "peer")
    for case in CASES:
        for side in (first, second, "limit"):
            result = measure(case, side, args, work)
            out[side].update(result)
            short = ", ".join(f"{m} {show(result[m])}" for m, _, show, _ in ROWS if m in result)
            print(f"round {number + 1}  {case:<6} {side:<8} {short}", file=sys.stderr, flush=True)
    return out


def check_same(rounds: list[dict[str, dict[str, Any]]], work: str) -> None:
    """The benchmark compares equals or nothing: answers and bytes on disk."""
    for result in rounds:
        if result["peer"]["answers"] != result["pannier"]["answers"]:
            raise SystemExit("bench: the two sides give different answers")
        if not result["pannier"]["docstore"].startswith("pannier"):
            raise SystemExit("bench: pannier's side does not use pannier")
    peer, ours = os.path.join(work, "peer"), os.path.join(work, "pannier")
    names = sorted(os.listdir(peer))
    if names != sorted(os.listdir(ours)) or filecmp.cmpfiles(peer, ours, names, shallow=False)[0] != names:
        raise SystemExit("bench: the two sides wrote different files")


def summarize(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Optional[float]]]:
    """{metric: {peer, pannier, limit: medians, times: median of the rounds' ratios}}."""
    out: dict[str, dict[str, Optional[float]]] = {}
    for metric in [*(row[0] for row in ROWS), "fsync", "bytes"]:
        found: dict[str, Optional[float]] = {}
        for side in SIDES:
            values = [r[side][metric] for r in rounds if metric in r[side]]
            found[side] = statistics.median(values) if values else None
        both = [(r["peer"][metric], r["pannier"][metric]) for r in rounds if metric in r["peer"]]
        found["times"] = statistics.median(a / max(b, 1e-12) for a, b in both) if both else None
        out[metric] = found
    return out


def installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(source tree)"


def machine() -> dict[str, str]:
    """What the figures depend on, in words."""

    def field(path: str, name: str) -> str:
        try:
            with open(path, encoding="utf-8") as f:
                return next((x.split(":", 1)[1].strip() for x in f if x.startswith(name)), "unknown")
        except OSError:
            return "unknown"

    memory = field("/proc/meminfo", "MemTotal").split()[0]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "memory": f"{int(memory) / 1e6:.0f} GB" if memory.isdigit() else memory,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: installed(name) for name in ("llama-index-core", "numpy", "pannier")},
    }


def describe(facts: dict[str, str], args: argparse.Namespace) -> str:
    rounds = "one round" if args.rounds == 1 else f"median of {args.rounds} rounds"
    return (
        f"{args.n:,} nodes × {args.dim} dimensions, {rounds}, {facts['date']}: "
        f"pannier {facts['pannier']}, llama-index-core {facts['llama-index-core']}, {facts['python']}, "
        f"numpy {facts['numpy']}, {facts['cpu']}, {facts['memory']}, {facts['system']}."
    )


def full_table(summary: dict[str, dict[str, Optional[float]]]) -> list[str]:
    lines = ["| operation | LlamaIndex | pannier | times | limit | what the limit does |", "|---|--:|--:|--:|--:|---|"]
    for metric, title, show, limit in ROWS:
        found = summary[metric]
        cells = ["" if found[side] is None else show(found[side]) for side in SIDES]  # type: ignore[arg-type]
        times = "" if found["times"] is None else f"{found['times']:,.1f}"
        lines.append(f"| {title} | {cells[0]} | {cells[1]} | {times} | {cells[2]} | {limit} |")
    return lines


def short_table(summary: dict[str, dict[str, Optional[float]]]) -> list[str]:
    lines = ["| operation | LlamaIndex | pannier | times |", "|---|--:|--:|--:|"]
    for metric, title, show, _ in ROWS:
        if metric in README_ROWS:
            found = summary[metric]
            lines.append(
                f"| {title} | {show(found['peer'])} | {show(found['pannier'])} | **{found['times']:,.1f}** |"  # type: ignore[arg-type]
            )
    return lines


def replace_block(path: str, lines: list[str]) -> None:
    """Puts lines between the file's bench markers."""
    begin, end = "<!-- bench:begin -->", "<!-- bench:end -->"
    with open(path, encoding="utf-8") as f:
        text = f.read()
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"bench: {path} has no {begin} ... {end}")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join([head + begin, *lines, end + tail]))


def report(args: argparse.Namespace, summary: dict[str, Any], facts: dict[str, str]) -> None:
    caption = describe(facts, args)
    fsync, size = summary["fsync"]["limit"], summary["bytes"]["pannier"]
    notes = [
        caption,
        "",
        *full_table(summary),
        "",
        f"The {size / 1e6:,.0f} MB of JSON are byte-identical on both sides, and so are ids, order and scores of the "
        f"answers. pannier's persist includes fsync; syncing the same bytes alone took {seconds(fsync)} here. "
        "LlamaIndex does not sync.",
    ]
    replace_block(os.path.join(ROOT, "docs", "performance.md"), notes)
    replace_block(os.path.join(ROOT, "README.md"), [*short_table(summary), "", caption])
    with open(os.path.join(ROOT, "docs", "performance.json"), "w", encoding="utf-8") as f:
        json.dump({"machine": facts, "n": args.n, "dim": args.dim, "rounds": args.rounds, "summary": summary}, f, indent=1)
        f.write("\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="LlamaIndex, pannier and the machine's limit, in one run.")
    parser.add_argument("--n", type=int, default=10_000, help="nodes")
    parser.add_argument("--dim", type=int, default=384, help="dimensions of an embedding")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", help="folder for the data (default: a temporary one, removed)")
    parser.add_argument("--no-report", action="store_true", help="print the table only")
    args = parser.parse_args()
    if min(args.n, args.dim, args.rounds) < 1:
        parser.error("--n, --dim and --rounds must be at least 1")
    work = args.work or tempfile.mkdtemp(prefix="pannier-bench-")
    os.makedirs(work, exist_ok=True)
    try:
        measure("prepare", "peer", args, work)
        rounds = [one_round(number, args, work) for number in range(args.rounds)]
        check_same(rounds, work)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)
    summary, facts = summarize(rounds), machine()
    print("\n".join([describe(facts, args), "", *full_table(summary)]))
    if not args.no_report:
        report(args, summary, facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
