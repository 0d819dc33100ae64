"""Makes the machine's memory and files ready, the same for every side.

A virtual machine's host hands out memory on first touch and takes idle memory back; what
that costs depends on who ran before, not on what is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys


def warm_files(folder: str) -> None:
    """Reads the files once, so that every side finds them in the page cache."""
    for entry in os.scandir(folder):
        if entry.is_file():
            with open(entry.path, "rb") as f:
                while f.read(1 << 20):
                    pass


def warm_memory(megabytes: int = 1024) -> None:
    subprocess.run([sys.executable, "-c", f"b'x' * ({megabytes} << 20)"], check=True)


def warm_disk(folder: str, megabytes: int = 512) -> None:
    """Writes and removes a file of that size."""
    scratch = os.path.join(folder, "scratch")
    with open(scratch, "wb") as f:
        for _ in range(megabytes):
            f.write(b"x" * (1 << 20))
    os.remove(scratch)
