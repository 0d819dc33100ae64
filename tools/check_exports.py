"""Checks that an extension module exports PyInit__core and nothing else.

Usage: python tools/check_exports.py FILE.so ...
"""

from __future__ import annotations

import subprocess
import sys


def exported(path: str) -> set[str]:
    """Names of the dynamic symbols that the library defines (needs nm from binutils)."""
    done = subprocess.run(
        ["nm", "-D", "--defined-only", "--extern-only", path], capture_output=True, text=True, check=True
    )
    return {line.split()[-1] for line in done.stdout.splitlines() if line.strip()}


def main() -> int:
    status = 0
    for path in sys.argv[1:]:
        extra = exported(path) ^ {"PyInit__core"}
        if extra:
            print(f"{path}: exports differ from PyInit__core alone: {', '.join(sorted(extra)[:10])}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
