"""Reads sanitizer reports and fails on those that concern pannier.

Usage: python tools/check_asan.py FOLDER

Every error of AddressSanitizer or UBSan counts. Of LeakSanitizer's, those with one
of our functions on the stack: CPython and other extensions keep some memory at exit
on purpose, which is theirs to explain.
"""

from __future__ import annotations

import os
import sys

OURS = ("/csrc/", "pannier/_core")


def findings(report: str) -> list[str]:
    """The paragraphs of one report that are ours to answer for."""
    if "LeakSanitizer" not in report:
        return [report] if "Sanitizer" in report or "runtime error" in report else []
    found = []
    for paragraph in report.split("\n\n"):
        if "leak of" in paragraph and any(name in paragraph for name in OURS):
            found.append(paragraph)
        elif "ERROR: AddressSanitizer" in paragraph or "runtime error" in paragraph:
            found.append(paragraph)
    return found


def main() -> int:
    found = []
    for name in sorted(os.listdir(sys.argv[1])):
        with open(os.path.join(sys.argv[1], name), encoding="utf-8", errors="replace") as f:
            found += findings(f.read())
    for text in found[:20]:
        print(text, end="\n\n")
    print(f"sanitizers: {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
