"""Samples of all processes, put together: medians, spread, ratios, answers compared."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any, Iterator, Optional

from harness import GROUPS, Row
from plan import Job

ROWS: dict[str, Row] = {row.name: row for group in GROUPS.values() for row in group.rows}
DRAW = 0.97  # a ratio above this is not called slower
LEAST = {"s": 1e-12, "MB": 0.1}  # less than this is the instrument's noise


class Results:
    """Collects outcomes; ``summary()`` gives what the report shows."""

    def __init__(self) -> None:
        # (row, n, side) -> rounds -> samples [value, of which fsync]
        self.samples: dict[tuple[str, int, str], dict[int, list[list[float]]]] = defaultdict(dict)
        self.answers: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        self.bounded: dict[tuple[str, int], float] = {}
        self.skipped: dict[str, str] = {}
        self.failed: list[str] = []

    def add(self, job: Job, outcome: dict[str, Any]) -> None:
        for side, rows in outcome["samples"].items():
            for name, samples in rows.items():
                self.samples[name, job.n, side].setdefault(job.round, []).extend(samples)
        for rows in outcome["bounded"].values():
            for name, scale in rows.items():
                self.bounded[name, job.n] = scale
        for side, rows in outcome["answers"].items():
            for name, answer in rows.items():
                self.compare(job, side, name, answer)
        for name, why in outcome["skipped"].items():
            self.skipped[name] = why

    def compare(self, job: Job, side: str, name: str, answer: Any) -> None:
        """The benchmark compares equals or nothing; a row against another has that one's answer."""
        known = self.answers[ROWS[name].against or name, job.n]
        known[f"{side}, {name}"] = answer
        if len(set(known.values())) > 1:
            raise SystemExit(f"bench: the two sides give different answers to {name} at {job.n}: {known}")

    def figure(self, name: str, n: int, side: str) -> Optional[dict[str, float]]:
        """{median, low, high, fsync, samples} of one side, or None."""
        values = [s for samples in self.samples.get((name, n, side), {}).values() for s in samples]
        if not values:
            return None
        times = sorted(v[0] for v in values)
        low, high = times[0], times[-1]
        if len(times) >= 8:
            low, _, high = statistics.quantiles(times, n=4)
        fsync = statistics.median(v[1] for v in values)
        return {"median": statistics.median(times), "low": low, "high": high, "fsync": fsync, "samples": len(times)}

    def ratios(self, name: str, against: str, n: int) -> tuple[Optional[float], Optional[float]]:
        """(peer / pannier, the same with pannier's fsync left out): medians of the rounds' ratios."""
        peer, ours = self.samples.get((against, n, "peer"), {}), self.samples.get((name, n, "pannier"), {})
        whole, without, least = [], [], LEAST[ROWS[name].unit]
        for number in sorted(set(peer) & set(ours)):
            theirs = statistics.median(s[0] for s in peer[number])
            whole.append(theirs / max(statistics.median(s[0] for s in ours[number]), least))
            without.append(theirs / max(statistics.median(s[0] - s[1] for s in ours[number]), least))
        return (statistics.median(whole), statistics.median(without)) if whole else (None, None)

    def entry(self, name: str, n: int) -> dict[str, Any]:
        against = ROWS[name].against or name
        found: dict[str, Any] = {side: self.figure(name, n, side) for side in ("pannier", "limit")}
        found["peer"] = self.figure(against, n, "peer")
        found["times"], found["times_without_fsync"] = self.ratios(name, against, n)
        found["bounded"] = self.bounded.get((against, n))
        return found

    def summary(self) -> dict[str, dict[str, Any]]:
        """{row: {size as text: entry}}, rows in the order of their groups."""
        sizes = sorted({n for _, n, _ in self.samples})
        out: dict[str, dict[str, Any]] = {}
        for name in ROWS:
            found = {n: self.entry(name, n) for n in sizes if (name, n, "pannier") in self.samples}
            if found:
                out[name] = {str(n): entry for n, entry in found.items()}
        return out


Entry = tuple[str, int, dict[str, Any]]  # row, size, figures


def each_entry(summary: dict[str, dict[str, Any]]) -> Iterator[Entry]:
    for name, sizes in summary.items():
        for n, entry in sizes.items():
            if entry["times"] is not None:
                yield name, int(n), entry


def slower(summary: dict[str, dict[str, Any]]) -> list[Entry]:
    """Where the peer is faster, fsync aside."""
    return [e for e in each_entry(summary) if e[2]["times_without_fsync"] < DRAW]


def slower_by_fsync(summary: dict[str, dict[str, Any]]) -> list[Entry]:
    """Where the peer is faster only because it does not sync."""
    return [e for e in each_entry(summary) if e[2]["times"] < DRAW <= e[2]["times_without_fsync"]]
