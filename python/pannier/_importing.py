"""Imports of what needs LlamaIndex, with the garbage collector looking on less often.

LlamaIndex's own import makes some 130,000 objects that the collector tracks, and hardly
any garbage. By default it is run more than three hundred times meanwhile, over ever more of
them, which takes a seventh of the import's time.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Iterator

_PEER = "llama_index.core"
_ROOM = 50_000  # new objects between two collections: a handful in the whole import


@contextmanager
def rarer_collections() -> Iterator[None]:
    """While LlamaIndex is being imported, the collector waits for more new objects.

    It is left alone when LlamaIndex has been imported before, and when the program has
    turned it off or made it rarer itself. So of several threads one changes the threshold,
    and that one puts it back, unless somebody else has set another meanwhile.

    Turned off instead, it would look at everything at once when it is on again.
    """
    before = gc.get_threshold()
    if _PEER in sys.modules or not gc.isenabled() or not 0 < before[0] < _ROOM:
        yield
        return
    gc.collect(1)  # what is young, while it is little: else it is soon due, with all that the import makes
    raised = (_ROOM, *before[1:])
    gc.set_threshold(*raised)
    try:
        yield
    finally:
        if gc.get_threshold() == raised:
            gc.set_threshold(*before)


def import_with_peer(name: str) -> Any:
    """``importlib.import_module(name)`` of a module that may import LlamaIndex."""
    with rarer_collections():
        return import_module(name)
