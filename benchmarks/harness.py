"""Rows, groups of cases, and the clock.

A *case* is a generator registered with ``@group``. It gets a ``Bench`` (whose classes, how
many nodes) and yields ``Op`` objects, one for each row, in a fixed order; between two yields
it may build what the next one needs. The harness times what was yielded:

- several sides in one process run in lockstep, taking turns at each repetition, so a slow
  moment of the machine meets all of them. Their objects are frozen out of the garbage
  collector first, so that no side pays for another's heap;
- above that size each side has its own process, with the collector as any program has it;
  the two take turns too (``turns.py``), some repetitions at a time;
- a side alone (memory, opening in a fresh process) is timed the same way.

Repetitions go on until the row's share of time is used up, or MAX_REPEATS, and three at least
unless they take very long; when there are three or more, the first one, which warms caches, is dropped on
every side.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Optional, Union

import preload
from turns import Turns

MAX_REPEATS = 100
FEW = 15  # repetitions of a row that changes what it works on


@dataclass(frozen=True)
class Row:
    """One line of the report: ``unit`` is "s", "MB" or "B"; ``limit`` says what the limit does.

    ``against`` names the row of the peer that this one is compared with (the pack format
    against the peer's JSON).
    """

    name: str
    title: str
    unit: str = "s"
    limit: str = ""
    against: str = ""


@dataclass
class Op:
    """One operation to time.

    run:     what is timed; gets what ``fresh`` returned, if there is one.
    fresh:   makes the state that one run uses up; not timed.
    count:   operations in one run; times are given for one.
    scale:   what a bounded run of the peer is multiplied by (see ``Bench.bounded``).
    repeats: repetitions at most: 1 when a second run would not be the same.
    least:   repetitions at least, however long they take.
    answer:  what both sides must agree on, from the last run's result.
    """

    name: str
    run: Callable[..., Any]
    fresh: Optional[Callable[[], Any]] = None
    count: int = 1
    scale: float = 1.0
    repeats: int = MAX_REPEATS
    least: int = 1
    answer: Optional[Callable[[Any], Any]] = None


@dataclass
class Fact:
    """A figure that is no time: megabytes, bytes."""

    name: str
    value: float


@dataclass
class Skip:
    """Rows that can't be measured here, and why."""

    names: tuple[str, ...]
    why: str


Step = Union[Op, Fact, Skip]
Case = Callable[["Bench"], Iterator[Step]]


@dataclass
class Group:
    """A case with its rows.

    alone: each side needs a fresh process at any size.
    where: "all" sizes, only the "small" ones, only the "large" ones, "once" (no size), or at
           sizes of its own ("growth", "million").
    own_data: does without the size's nodes and vectors.
    """

    name: str
    rows: tuple[Row, ...]
    case: Case
    alone: bool = False
    sides: tuple[str, ...] = ("peer", "pannier")
    where: str = "all"
    limit: Optional[Case] = None
    own_data: bool = False


GROUPS: dict[str, Group] = {}


def group(name: str, *rows: Row, **options: Any) -> Callable[[Case], Case]:
    """Registers a case under a name, with the rows it yields."""

    def register(case: Case) -> Case:
        GROUPS[name] = Group(name, rows, case, **options)
        return case

    return register


def limit(name: str) -> Callable[[Case], Case]:
    """Registers what the machine must do in any case for the rows of a group."""

    def register(case: Case) -> Case:
        GROUPS[name].limit = case
        return case

    return register


CLASSES = {
    "StorageContext": "llama_index.core",
    "load_index_from_storage": "llama_index.core",
    "SimpleKVStore": "llama_index.core.storage.kvstore",
    "SimpleDocumentStore": "llama_index.core.storage.docstore",
    "SimpleIndexStore": "llama_index.core.storage.index_store",
    "SimpleVectorStore": "llama_index.core.vector_stores.simple",
    "SimpleGraphStore": "llama_index.core.graph_stores",
    "SimplePropertyGraphStore": "llama_index.core.graph_stores",
}


@dataclass
class Bench:
    """What a case works with: the side, the sizes, a folder, and the side's classes."""

    side: str
    n: int
    dim: int
    work: str
    patient: bool = False

    def __getattr__(self, name: str) -> Any:
        """The class of that name, this side's."""
        if name not in CLASSES:
            raise AttributeError(name)
        return getattr(importlib.import_module("pannier" if self.side == "pannier" else CLASSES[name]), name)

    @property
    def data(self) -> str:
        """Folder of this size's nodes and vectors, the same for every side."""
        return os.path.join(self.work, f"data-{self.n}-{self.dim}")

    def folder(self, name: str) -> str:
        """A folder for what this side writes."""
        path = os.path.join(self.work, f"{name}-{self.n}-{self.dim}", self.side)
        os.makedirs(path, exist_ok=True)
        return path

    def bounded(self, most: int, power: float) -> tuple[int, float]:
        """(size to run, factor): the peer's slow ways run at ``most`` and are extrapolated."""
        if self.side != "peer" or self.n <= most or self.patient:
            return self.n, 1.0
        return most, (self.n / most) ** power


@dataclass
class Outcome:
    """What one process found, by side and row."""

    samples: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    bounded: dict[str, dict[str, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, side: str, name: str, seconds: list[list[float]]) -> None:
        self.samples.setdefault(side, {}).setdefault(name, []).extend(seconds)


def once(op: Op) -> tuple[list[float], float, Any]:
    """([seconds, of which fsync], wall time with the preparation, result) of one run."""
    begin = time.perf_counter()
    state: tuple[Any, ...] = ()
    if op.fresh:
        state = (op.fresh(),)
        gc.collect()  # what the preparation left is not the run's to clean
    synced = preload.fsync_seconds()
    start = time.perf_counter()
    result = op.run(*state)
    end = time.perf_counter()
    factor = op.scale / op.count
    sample = [(end - start) * factor, (preload.fsync_seconds() - synced) * factor]
    del state
    return sample, time.perf_counter() - begin, result


def time_ops(ops: dict[str, Op], budget: float, outcome: Outcome, turns: Turns) -> None:
    """Times the same row of several sides in turns."""
    name = next(iter(ops.values())).name
    sides = list(ops)
    found: dict[str, list[list[float]]] = {side: [] for side in sides}
    spent = {side: 0.0 for side in sides}
    results: dict[str, Any] = {}
    repeats, least = min(op.repeats for op in ops.values()), max(op.least for op in ops.values())
    gc.collect()
    if len(ops) > 1:
        gc.freeze()  # for good: thawing would make the next row's collection walk all imports again
    for turn in range(repeats):
        for side in sides if turn % 2 == 0 else reversed(sides):
            results.pop(side, None)
            sample, wall, results[side] = once(ops[side])
            found[side].append(sample)
            spent[side] += wall
        longest = max(spent.values())
        enough = turn >= 2 or longest > 10 * budget
        if longest > budget and enough and turn + 1 >= least:
            break
        turns.between_repetitions()
    for side, op in ops.items():
        outcome.add(side, name, found[side][1:] if len(found[side]) > 2 else found[side])
        if op.scale != 1.0:
            outcome.bounded.setdefault(side, {})[name] = op.scale
        elif op.answer is not None:
            outcome.answers.setdefault(side, {})[name] = brief(op.answer(results[side]))


def brief(answer: Any) -> str:
    """An answer to compare: its beginning and a digest of the whole."""
    text = json.dumps(answer, default=str)
    return f"{text[:100]} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def step_name(step: Step) -> Any:
    return step.names if isinstance(step, Skip) else step.name


def drive(cases: dict[str, Iterator[Step]], budget: float, outcome: Outcome, turns: Turns) -> None:
    """Runs the sides' cases in lockstep, step by step."""
    while True:
        turns.take()
        steps = {side: next(case, None) for side, case in cases.items()}
        ops: dict[str, Op] = {}
        for side, step in steps.items():
            if isinstance(step, Op):
                ops[side] = step
            elif isinstance(step, Fact):
                outcome.add(side, step.name, [[step.value, 0.0]])
            elif isinstance(step, Skip):
                outcome.skipped.update({name: step.why for name in step.names})
        if all(step is None for step in steps.values()):
            return
        if len({op.name for op in ops.values()}) > 1:
            raise RuntimeError(f"the sides are out of step: {[step_name(s) for s in ops.values()]}")
        if ops:
            time_ops(ops, budget, outcome, turns)
            turns.end_row()


def forget_peak() -> None:
    """Lets "peak" count from now on; what this process needed before is not what is measured."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as f:
        f.write("5")


def memory_mb(name: str) -> float:
    """"private" (anonymous pages), "rss" or "peak" of this process, in megabytes."""
    path, label = {
        "private": ("/proc/self/smaps_rollup", "Anonymous:"),
        "rss": ("/proc/self/status", "VmRSS:"),
        "peak": ("/proc/self/status", "VmHWM:"),
    }[name]
    with open(path, encoding="ascii") as f:
        return next((int(line.split()[1]) * 1024 / 1e6 for line in f if line.startswith(label)), 0.0)
