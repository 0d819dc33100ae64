"""The commands that work on a persisted directory; what they do is in ``tools``."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Callable, List

from pannier import tools
from pannier.errors import PannierError


def _parser(name: str, function: Callable[..., Any]) -> argparse.ArgumentParser:
    summary = (function.__doc__ or "").strip().split("\n\n")[0]
    parser = argparse.ArgumentParser(prog=f"pannier {name}", description=" ".join(summary.split()))
    parser.add_argument("directory", help="what persist wrote")
    return parser


def _run(work: Callable[[], int]) -> int:
    """The command's status; what the user can do something about is a line, not a traceback."""
    try:
        return work()
    except (PannierError, OSError, ValueError) as e:
        print(f"pannier: {e}", file=sys.stderr)
        return 1


def convert(argv: List[str]) -> int:
    parser = _parser("convert", tools.convert)
    parser.add_argument("--format", required=True, choices=("json", "pack"))
    parser.add_argument("--out", help="another directory; without it, in place")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    a = parser.parse_args(argv)

    def work() -> int:
        tools.convert(a.directory, a.format, out=a.out, progress=not a.quiet and sys.stderr.isatty())
        return 0

    return _run(work)


def verify(argv: List[str]) -> int:
    a = _parser("verify", tools.verify).parse_args(argv)

    def work() -> int:
        findings = tools.verify(a.directory)
        for finding in findings:
            print(finding)
        print(f"{a.directory}: " + (f"{len(findings)} findings" if findings else "all is well"))
        return 1 if findings else 0

    return _run(work)


def compact(argv: List[str]) -> int:
    parser = _parser("compact", tools.compact)
    parser.add_argument("--keep", type=int, default=1, help="generations that stay; 0: all (default: 1)")
    a = parser.parse_args(argv)

    def work() -> int:
        print(tools.compact(a.directory, keep=a.keep))
        return 0

    return _run(work)


def rollback(argv: List[str]) -> int:
    parser = _parser("rollback", tools.rollback)
    parser.add_argument("generation", type=int, help="its number, see: pannier history")
    a = parser.parse_args(argv)

    def work() -> int:
        print(tools.rollback(a.directory, a.generation))
        return 0

    return _run(work)


def history(argv: List[str]) -> int:
    a = _parser("history", tools.history).parse_args(argv)

    def work() -> int:
        for generation in tools.history(a.directory):
            print(generation)
        return 0

    return _run(work)


def inspect(argv: List[str]) -> int:
    a = _parser("inspect", tools.inspect).parse_args(argv)

    def work() -> int:
        print(tools.dumps(tools.inspect(a.directory)))
        return 0

    return _run(work)
