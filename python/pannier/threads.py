"""How many threads a search through vectors may use.

Large searches are shared out among a few threads of the C core; they hold no GIL, and no
answer depends on how many there are. None is started before a search is large enough
(several megabytes of vectors). A process made by ``fork`` runs on one thread, as long as
no number was set: programs that fork workers have given each CPU its work already.
"""

from __future__ import annotations

from pannier import _core


def get_threads() -> int:
    """Threads that one search may run on, the caller's included.

    Returns:
        int: what :func:`set_threads` set; else the environment variable
        ``PANNIER_THREADS``; else the number of CPUs this process may use, at most 4.
    """
    return _core.get_threads()


def set_threads(n: int) -> None:
    """Sets that number, for this process and for those it forks from now on.

    Args:
        n (int): 1 for no other thread at all; 64 at most, more is taken as 64.

    Raises:
        ValueError: ``n`` is below 1. TypeError: it is no int.
    """
    _core.set_threads(n)
