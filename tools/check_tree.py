"""Checks what a compiler does not: the layers of csrc, and what no file may hold.

Usage: python tools/check_tree.py [ROOT]; prints each finding, exits 1 if any.

- A module includes only what stands below it (base < os, codec, simd < persist <
  store < py) and itself; Python.h only under csrc/py.
- File names under csrc are unique; one C++ file at most.
- No file names a developer's directory, and none is left unfinished.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

LAYERS = [["base"], ["os", "codec", "simd"], ["persist"], ["store"], ["py"]]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)
# An absolute path into somebody's home or workspace, and words for "later".
PRIVATE = re.compile(r"(?<![\w.$}~])/(?:home|root|Users|work|workspace)/[\w.]")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
TEXT = (".c", ".h", ".cpp", ".py", ".pyi", ".md", ".toml", ".sh", ".txt", "Makefile", "run", "LICENSE")


def tracked(root: str) -> list[str]:
    """Files of the tree that git knows or would add, relative to root, sorted."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        names = done.stdout.decode().split("\0")
    else:
        names = [
            os.path.relpath(os.path.join(d, f), root)
            for d, dirs, files in os.walk(root)
            for f in files
            if not {".git", "build", ".venv"} & set(os.path.relpath(d, root).split(os.sep))
        ]
    return sorted({n for n in names if n and os.path.isfile(os.path.join(root, n))})


def check_include(path: str, form: str, target: str) -> str | None:
    """What is wrong with one #include of a file under csrc, or None."""
    parts = path.split("/")
    layer = parts[1] if len(parts) > 2 else ""
    if layer not in RANK:
        return f"{path}: not in a layer ({', '.join(RANK)})"
    if target in ("Python.h", "structmember.h") or target.startswith(("numpy/", "cpython/")):
        return None if layer == "py" else f"{path}: includes {target}, which only csrc/py may"
    if form == "<":
        return None
    other = target.split("/")[0]
    if other not in RANK or "/" not in target:
        return f'{path}: includes "{target}"; write "layer/file.h"'
    if other != layer and RANK[other] >= RANK[layer]:
        return f"{path}: {layer} includes {target}, which does not stand below it"
    return None


def check_csrc(files: dict[str, str]) -> list[str]:
    """Findings about the C sources; files maps relative path to text."""
    found, seen = [], {}
    for path, text in files.items():
        if not path.startswith("csrc/") or not path.endswith((".c", ".h", ".cpp")):
            continue
        name = os.path.basename(path)
        if name in seen:
            found.append(f"{path}: the name is taken by {seen[name]}")
        seen[name] = path
        found += [p for p in (check_include(path, *m) for m in INCLUDE.findall(text)) if p]
    cpp = [p for p in seen.values() if p.endswith(".cpp")]
    if len(cpp) > 1:
        found.append(f"more than one C++ file: {', '.join(cpp)}")
    return found


def check_words(files: dict[str, str]) -> list[str]:
    """Findings about private paths and unfinished places."""
    found = []
    for path, text in files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if PRIVATE.search(line):
                found.append(f"{path}:{number}: a private path: {line.strip()[:100]}")
            if UNFINISHED.search(line):
                found.append(f"{path}:{number}: unfinished: {line.strip()[:100]}")
    return found


def check(root: str) -> list[str]:
    """All findings about the tree at root, one line each."""
    files = {}
    for name in tracked(root):
        if name.endswith(TEXT):
            with open(os.path.join(root, name), encoding="utf-8", errors="replace") as f:
                files[name] = f.read()
    return check_csrc(files) + check_words(files)


def main() -> int:
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    findings = check(root)
    for line in findings:
        print(line)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
