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


def warm_memory(n: int) -> None:
    """As much as persisting or loading n nodes takes, on either side."""
    megabytes = max(1024, n * 40 // 1000)
    subprocess.run([sys.executable, "-c", f"b'x' * ({megabytes} << 20)"], check=True)


def warm_disk(folder: str, n: int) -> None:
    """Writes and removes a file of the size that n nodes have as JSON, and more."""
    megabytes = max(512, n * 16 // 1000)
    scratch = os.path.join(folder, "scratch")
    with open(scratch, "wb") as f:
        for _ in range(megabytes):
            f.write(b"x" * (1 << 20))
    os.remove(scratch)
