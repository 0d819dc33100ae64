"""The mutation check: plants each fault of ``faults.py`` and sees a test fail.

    python tests/mutation/check.py                 all faults, and a clean run
    python tests/mutation/check.py --only NAME...  some
    python tests/mutation/check.py --list

Prints a table; exit status 0 when every fault was noticed by a failing test (not by an
error at import or collection) and the clean run passed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, NamedTuple, Optional

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TESTS = ROOT / "tests" / "python"
sys.path.insert(0, str(HERE))

from faults import FAULTS  # noqa: E402


class Outcome(NamedTuple):
    name: str
    noticed: bool
    by: str
    seconds: float
    output: str


def run(name: Optional[str], tests: List[str]) -> subprocess.CompletedProcess:
    """pytest in a process of its own, with the fault planted, to the first failure."""
    env = {**os.environ, "PANNIER_TEST_ROUNDS": os.environ.get("PANNIER_TEST_ROUNDS", "40")}
    env.pop("PANNIER_TEST_IMPL", None)
    env.pop("PANNIER_FAULT", None)
    if name:
        env["PANNIER_FAULT"] = name
    env["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [env.get("PYTHONPATH")])])
    # A fault that makes a test hang is noticed too, but as an error of this check.
    command = [sys.executable, "-m", "pytest", "-p", "faults", "-x", "-q", "--tb=line", "-o", "faulthandler_timeout=120"]
    return subprocess.run(
        [*command, *(str(TESTS / t) for t in tests)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def check(name: str) -> Outcome:
    start = time.monotonic()
    by, output = "", ""
    for test in FAULTS[name].tests:
        done = run(name, [test])
        output = done.stdout
        failed = re.search(r"^FAILED (\S+)", output, re.MULTILINE)
        if done.returncode == 1 and failed and not re.search(r"^ERROR ", output, re.MULTILINE):
            by = failed.group(1).split("/")[-1]
            break
    return Outcome(name, bool(by), by, time.monotonic() - start, output)


def clean(names: List[str]) -> Outcome:
    tests = sorted({test for name in names for test in FAULTS[name].tests})
    start = time.monotonic()
    done = run(None, tests)
    return Outcome("(no fault)", done.returncode == 0, "all pass", time.monotonic() - start, done.stdout)


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(FAULTS), help="these faults only")
    parser.add_argument("--no-clean", action="store_true", help="leave out the run without a fault")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--list", action="store_true", help="list the faults and do nothing")
    args = parser.parse_args(argv)
    names = args.only or list(FAULTS)
    if args.list:
        for name in names:
            print(f"{name:45} {'missed by the peer' if FAULTS[name].missed_by_the_peer else '':20} {' '.join(FAULTS[name].tests)}")
        return 0
    bad = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(check, name) for name in names]
        if not args.no_clean:
            jobs.append(pool.submit(clean, names))
        print(f"{'fault':45} {'':8} {'s':>5}  noticed by")
        for job in jobs:
            got = job.result()
            verdict = ("ok" if got.name == "(no fault)" else "noticed") if got.noticed else "MISSED"
            print(f"{got.name:45} {verdict:8} {got.seconds:5.1f}  {got.by if got.noticed else ''}", flush=True)
            if not got.noticed:
                bad += 1
                print("\n".join("    " + line for line in got.output.splitlines()[-15:]))
    print(f"{len(jobs) - bad} of {len(jobs)} as they should be")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
