"""Which processes a run consists of, and the running of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Iterator, Optional

import cases
from harness import GROUPS, Group

HERE = os.path.dirname(os.path.abspath(__file__))
TOGETHER = 1000  # up to this size both sides run in one process; above, in two that take turns
TWICE, ONCE = 5000, 20_000  # above these sizes there are two rounds, one round
SIDES = ("peer", "pannier")

assert cases.__all__


@dataclass
class Settings:
    """One run's arguments; see bench.py's --help."""

    sizes: list[int]
    small: list[int]
    growth: list[int]
    groups: list[str]
    dim: int = 384
    growth_dim: int = 32
    rounds: int = 3
    budget: float = 0.1
    patient: bool = False
    million: list[int] = field(default_factory=list)  # sizes for pannier alone
    work: str = ""
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class Job:
    """One process, or two that take turns: the groups, for whom, at which size."""

    groups: list[str]
    sides: list[str]
    n: int
    dim: int
    work: str
    budget: float
    patient: bool
    round: int = 0
    growth: bool = False


def chosen(settings: Settings, *where: str) -> list[Group]:
    """The groups asked for that run at one of these places; "small" alone means all of them."""
    everything = not set(settings.groups) - {"small", "alternatives", "limits"}
    return [g for g in GROUPS.values() if g.where in where and (everything or g.name in settings.groups)]


def order(number: int) -> list[str]:
    return list(SIDES if number % 2 == 0 else reversed(SIDES))


def at_size(settings: Settings, groups: list[Group], n: int, dim: int, number: int, growth: bool) -> Iterator[Job]:
    """One round of some groups at one size."""

    def job(names: list[str], sides: list[str]) -> Job:
        return Job(names, sides, n, dim, settings.work, settings.budget, settings.patient, number, growth)

    shared = [g.name for g in groups if not g.alone]
    if n <= TOGETHER and shared:
        yield job(shared, order(number))
        shared = []
    for group in groups:
        sides = [side for side in order(number) if side in group.sides]
        if group.name in shared:
            yield job([group.name], sides)
        elif group.alone:
            yield from (job([group.name], [side]) for side in sides)


def rounds_at(n: int) -> int:
    """At most so many rounds at a size: the large ones take LlamaIndex minutes."""
    return 1 if n > ONCE else 2 if n > TWICE else sys.maxsize


def plan(settings: Settings) -> Iterator[Job]:
    """All processes of a run, in order: round by round, small sizes first."""
    only_small = settings.groups == ["small"]
    for number in range(settings.rounds):
        if "small" in settings.groups:
            for n in settings.small:
                groups = [g for g in chosen(settings, "all", "small") if not g.alone]
                yield from at_size(settings, groups, n, settings.dim, number, False)
        if once := chosen(settings, "once"):
            yield from at_size(settings, once, 1, settings.dim, number, False)
        for n in [] if only_small else settings.sizes:
            if number >= rounds_at(n):
                continue
            groups = chosen(settings, "all", "large")
            yield from at_size(settings, groups, n, settings.dim, number, False)
            names = [g.name for g in groups if g.limit is not None]
            if names:
                yield Job(names, ["limit"], n, settings.dim, settings.work, settings.budget, False, number)
    for n in [] if only_small else settings.growth:
        if groups := chosen(settings, "growth"):
            yield from at_size(settings, groups, n, settings.growth_dim, 0, True)
    for n in settings.million:
        if groups := chosen(settings, "million"):
            yield from at_size(settings, groups, n, settings.dim, 0, False)
            yield Job([g.name for g in groups], ["limit"], n, settings.dim, settings.work, settings.budget, False)


def call(words: list[str], env: dict[str, str], seconds: Optional[float] = None) -> Any:
    """The JSON on a process's last line; raises CalledProcessError or TimeoutExpired."""
    os.sync()  # what earlier ones left to be written is not this one's
    done = subprocess.run(
        words, stdout=subprocess.PIPE, text=True, check=True, timeout=seconds, env={**os.environ, **env}
    )
    return json.loads(done.stdout.splitlines()[-1])


def command(job: Job) -> list[str]:
    return [sys.executable, os.path.join(HERE, "worker.py"), json.dumps(asdict(job))]


def run_pair(job: Job, env: dict[str, str]) -> dict[str, Any]:
    """Two processes that take turns, one for each side; what they found, put together."""
    os.sync()
    running = []
    for side, place, end in zip(job.sides, ("first", "second"), socket.socketpair()):
        with end:
            words = [*command(replace(job, sides=[side])), str(end.fileno()), place]
            fds, variables = [end.fileno()], {**os.environ, **env}
            running.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, pass_fds=fds, env=variables))
    texts = [process.communicate()[0] for process in running]
    found: dict[str, Any] = {}
    for process, text in zip(running, texts):
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        for name, values in json.loads(text.splitlines()[-1]).items():
            found.setdefault(name, {}).update(values)
    return found


def run_job(job: Job, settings: Settings) -> dict[str, Any]:
    env = dict(settings.env)
    if len(job.sides) > 1 and job.n > TOGETHER:
        return run_pair(job, env)
    if job.sides == ["limit"]:
        env["OPENBLAS_NUM_THREADS"] = "1"  # one core reads
    return dict(call(command(job), env))
