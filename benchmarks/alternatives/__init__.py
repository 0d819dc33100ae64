"""Other libraries that a user might pick, at the parts of the work that they do.

A contender is a class registered with ``@contender(kind, needs)``: ``kind`` "kv" or
"vectors", ``needs`` the module that must import. It is measured by run.py, in a process of
its own, possibly by another interpreter (these libraries need not share a venv with
LlamaIndex). Every contender does the same work; what it does not do is None.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable

CONTENDERS: dict[str, dict[str, Any]] = {}


def contender(name: str, kind: str, needs: str, words: str = "", most: int = 1 << 30) -> Callable[[type], type]:
    """Registers a class. ``words`` say what it is (exact, ...), ``most`` the entries it is given."""

    def register(cls: type) -> type:
        facts = {"name": name, "kind": kind, "needs": needs, "words": words, "most": most, "make": cls}
        CONTENDERS[f"{kind}:{name}"] = facts
        return cls

    return register


def load_all() -> dict[str, dict[str, Any]]:
    """All contenders; their libraries are imported only when one is made."""
    for module in ("keyvalue", "flat", "databases", "ours"):
        importlib.import_module(f"alternatives.{module}")
    return CONTENDERS
