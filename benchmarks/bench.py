"""The benchmark: LlamaIndex's stores, pannier, other libraries and the machine's limit, in one run.

    python benchmarks/bench.py                                 1,000 and 10,000 nodes x 384
    python benchmarks/bench.py --sizes 1000,10000,100000       100,000 in one round
    python benchmarks/bench.py --groups small                  every operation at 1, 10, 100
    python benchmarks/bench.py --groups kv,documents --sizes 1000 --no-report
    python benchmarks/bench.py --quick                         tiny sizes, to see that it works

Groups: the stores' cases (benchmarks/cases), "small" (all of them at the small sizes),
"limits" (what the machine can do) and "alternatives" (other libraries).

Up to 1,000 nodes both sides run in one process and take turns at every repetition; above,
each has a process of its own, and the two take turns row by row; the sides' order changes
from round to round. A ratio is the median of the rounds' ratios. Answers and files of the
two sides are compared: a difference ends the run. The results go into docs/performance.md
(between its markers), docs/performance.json, docs/*.svg and README.md's table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from typing import Any

import alternatives
import machine
import preload
import report
from harness import GROUPS
from plan import HERE, Job, Settings, call, plan, run_job
from results import ROWS, Results

ROOT = os.path.dirname(HERE)
EXTRA = ("small", "limits", "alternatives")
QUICK = {"sizes": "30", "small": "1,10", "growth": "10,20", "dim": 8, "growth_dim": 8, "rounds": 1, "budget": 0.002}
PATIENCE = 120  # seconds for another library


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(settings: Settings) -> Results:
    """Runs all processes of the plan."""
    results, jobs, start = Results(), list(plan(settings)), time.monotonic()
    for number, job in enumerate(jobs, 1):
        what = f"{number}/{len(jobs)}  {job.n:>7,}  round {job.round + 1}  {'+'.join(job.sides)}: {' '.join(job.groups)}"
        began = time.monotonic()
        try:
            results.add(job, run_job(job, settings))
        except subprocess.CalledProcessError as error:
            results.failed.append(f"{what} (exit {error.returncode})")
        say(f"{time.monotonic() - start:5.0f} s  {what}  {time.monotonic() - began:.1f} s")
    return results


def measure_limits(settings: Settings, quick: bool) -> list[dict[str, Any]]:
    amount = ["0.01", "8"] if quick else ["0.5", "1024"]
    return list(call([sys.executable, os.path.join(HERE, "limits.py"), settings.work, *amount], {}))


def contend(key: str, facts: dict[str, Any], python: str, n: int, settings: Settings) -> dict[str, Any]:
    """One other library's figures; pannier and LlamaIndex always run on this interpreter."""
    ours = facts["needs"] in ("pannier", "llama_index")
    job = Job([], [], n, settings.dim, settings.work, settings.budget, False)
    data = os.path.join(settings.work, f"data-{n}-{settings.dim}", "vectors.npy")
    if not os.path.exists(data):
        job.sides = ["limit"]
        run_job(job, settings)  # writes the data
    script = os.path.join(HERE, "alternatives", "run.py")
    command = [sys.executable if ours else python, script, key, str(n), str(settings.dim), settings.work]
    known = {name: facts[name] for name in ("name", "kind", "words")}
    try:
        return {**known, **call([*command, str(settings.budget), data], {}, PATIENCE)}
    except subprocess.TimeoutExpired:
        return {**known, "skipped": f"not done in {PATIENCE} s"}
    except (subprocess.CalledProcessError, IndexError) as error:
        return {**known, "skipped": f"failed: {error}"[:200]}


def measure_alternatives(settings: Settings, python: str) -> dict[str, Any]:
    n = max([n for n in settings.sizes if n <= 10_000] or settings.sizes[:1])
    found = {}
    for key, facts in alternatives.load_all().items():
        found[key] = contend(key, facts, python, n, settings)
        say(f"         {n:>7,}  {key}: {found[key].get('skipped', 'measured')}")
    return {"n": n, "results": found}


def draw(data: dict[str, Any], path: str, folder: str, pythons: list[str]) -> list[str]:
    """Names of the plots drawn, by the first interpreter that has matplotlib."""
    for python in pythons:
        try:
            drawn = call([python, os.path.join(HERE, "plots.py"), path, folder], {})
        except (OSError, subprocess.CalledProcessError) as error:
            say(f"bench: plots failed: {error}")
            continue
        if "plots" in drawn:
            return list(drawn["plots"])
    say("bench: no plots: no interpreter here has matplotlib (benchmarks/requirements.txt)")
    return []


def write(data: dict[str, Any], folder: str, pythons: list[str]) -> None:
    """JSON, plots and the page into a folder; README's table when the folder is docs."""
    os.makedirs(folder, exist_ok=True)
    path, page = os.path.join(folder, "performance.json"), os.path.join(folder, "performance.md")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, indent=1, ensure_ascii=False)
        f.write("\n")
    plots = draw(data, path, folder, pythons)
    if not os.path.exists(page):
        with open(page, "w", encoding="utf-8") as f:
            f.write(f"# Performance\n\n{report.BEGIN}\n{report.END}\n")
    report.replace_block(page, report.markdown(data, plots))
    if os.path.realpath(folder) == os.path.join(ROOT, "docs") and report.README_SIZE in data["settings"]["sizes"]:
        report.replace_block(os.path.join(ROOT, "README.md"), report.short_table(data, report.README_SIZE))


def numbers(text: str) -> list[int]:
    found = [int(word) for word in text.split(",") if word]
    if any(n < 1 for n in found):
        raise argparse.ArgumentTypeError("sizes must be at least 1")
    return sorted(set(found))


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="LlamaIndex, pannier and the machine's limit, in one run.")
    names = [*GROUPS, *EXTRA]
    parser.add_argument("--sizes", default="1000,10000", help="numbers of nodes, with commas")
    parser.add_argument("--small", default="1,10,100", help="sizes of the group small")
    parser.add_argument("--growth", help="sizes of the growth plot (default: up to the largest of --sizes)")
    parser.add_argument("--groups", default=",".join(names), help=f"any of {', '.join(names)}")
    parser.add_argument("--dim", type=int, default=384, help="dimensions of an embedding")
    parser.add_argument("--growth-dim", type=int, default=32, help="the same for the growth plot")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (two at most above 5,000 nodes, one above 20,000)")
    parser.add_argument("--budget", type=float, default=0.1, help="seconds for one row of one side and round")
    parser.add_argument("--patient", action="store_true", help="run LlamaIndex's quadratic ways in full too")
    parser.add_argument("--million", action="store_true", help="search a million vectors too, pannier alone (4 GB)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; no report unless --out names a folder")
    parser.add_argument("--work", help="folder for the data (default: a temporary one, removed)")
    parser.add_argument("--out", help="folder of the report (default: docs, and README.md)")
    parser.add_argument("--no-report", action="store_true", help="print the report only")
    parser.add_argument("--alternatives-python", default=sys.executable, help="an interpreter with the other libraries")
    args = parser.parse_args(words)
    if args.quick:
        for name, value in QUICK.items():
            setattr(args, name, value)
        args.no_report = args.no_report or not args.out
    args.groups = [name for name in args.groups.split(",") if name]
    if unknown := sorted(set(args.groups) - set(names)):
        parser.error(f"no group {', '.join(unknown)}; there are {', '.join(names)}")
    if min(args.dim, args.growth_dim, args.rounds) < 1:
        parser.error("--dim, --growth-dim and --rounds must be at least 1")
    return args


def growth_sizes(sizes: list[int]) -> list[int]:
    """100, 300, 1,000, ... up to the largest size."""
    steps = [n for exponent in range(2, 7) for n in (10**exponent, 3 * 10**exponent)]
    return [n for n in steps if n <= max(sizes, default=0)]


def make_settings(args: argparse.Namespace, work: str) -> Settings:
    library = preload.build(work)
    if library is None:
        say("bench: no C compiler: fsync times are not shown apart")
    sizes = numbers(args.sizes)
    return Settings(
        sizes=sizes,
        small=numbers(args.small),
        growth=numbers(args.growth) if args.growth else growth_sizes(sizes),
        groups=args.groups,
        dim=args.dim,
        growth_dim=args.growth_dim,
        rounds=args.rounds,
        budget=args.budget,
        patient=args.patient,
        million=[1_000_000] if args.million else [],
        work=work,
        env={"LD_PRELOAD": library} if library else {},
    )


def collect(settings: Settings, args: argparse.Namespace) -> tuple[dict[str, Any], Results]:
    """The run, as what docs/performance.json holds."""
    limits = measure_limits(settings, args.quick) if "limits" in settings.groups else []
    results = measure(settings)
    others: dict[str, Any] = {}
    if "alternatives" in settings.groups and settings.sizes:
        others = measure_alternatives(settings, args.alternatives_python)
    shown = {k: v for k, v in asdict(settings).items() if k not in ("work", "env")}
    return {
        "machine": machine.facts(),
        "settings": shown,
        "limits": limits,
        "summary": results.summary(),
        "titles": {name: row.title for name, row in ROWS.items()},
        "alternatives": others,
        "skipped": results.skipped,
    }, results


def main() -> int:
    args = parse(sys.argv[1:])
    work = os.path.abspath(args.work) if args.work else tempfile.mkdtemp(prefix="pannier-bench-")
    os.makedirs(work, exist_ok=True)
    try:
        data, results = collect(make_settings(args, work), args)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)
    print("\n".join(report.markdown(data, [])))
    if not args.no_report:
        write(data, args.out or os.path.join(ROOT, "docs"), [sys.executable, args.alternatives_python])
    for line in results.failed:
        say(f"bench: failed: {line}")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
