"""One process of the benchmark: some groups, one size, one or more sides; prints JSON.

Usage: worker.py JOB [FD first|second], JOB being the JSON of plan.Job (bench.py calls it), FD
the socket to the process that it takes turns with. What the cases print goes to standard
error; the last line of standard output is the outcome.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
from typing import Any

import cases
from harness import GROUPS, Bench, Outcome, drive
from turns import Turns
from workload import prepare

assert cases.__all__  # importing them registers them


def run(job: dict[str, Any], turns: Turns) -> Outcome:
    outcome = Outcome()
    turns.take()
    sides = {s: Bench(s, job["n"], job["dim"], job["work"], job["patient"]) for s in job["sides"]}
    first = next(iter(sides.values()))
    if not os.path.isdir(first.data) and not all(GROUPS[name].own_data for name in job["groups"]):
        prepare(first)
    for name in job["groups"]:
        group = GROUPS[name]
        if list(sides) == ["limit"]:
            if group.limit is not None:
                drive({"limit": group.limit(first)}, job["budget"], outcome, turns)
            continue
        running = {side: group.case(b) for side, b in sides.items() if side in group.sides}
        if running:
            drive(running, job["budget"], outcome, turns)
    if "pannier" in sides:
        module = sides["pannier"].SimpleKVStore.__module__
        if not module.startswith("pannier"):
            raise SystemExit("pannier's side does not use pannier")
    turns.leave()
    return outcome


def turns_of(words: list[str]) -> Turns:
    """With the process at the other end of the socket, or with nobody."""
    return Turns(socket.socket(fileno=int(words[0])), words[1] == "first") if words else Turns()


def main() -> int:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not spoil the outcome
    print(json.dumps(dataclasses.asdict(run(json.loads(sys.argv[1]), turns_of(sys.argv[2:]))), default=str), file=out)
    out.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
