"""Persisting: which format a directory has, and the way into JSON files.

*JSON* is LlamaIndex's layout: everything is encoded, then all files change at once
(``_files.write_files``). Stores that pannier cannot encode persist themselves, before
anything else is written. The way into a *pack* is in ``_packing``.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import fsspec
from llama_index.core.utils import get_tqdm_iterable

from pannier import _files, _pack
from pannier._payloads import payload_of

Progress = Union[bool, Callable[[str, int, int], None], None]
Target = Tuple[str, Any, str]  # (label, store, path)
FORMATS = ("json", "pack")


def checked_format(name: Optional[str]) -> Optional[str]:
    """A format's name, or None for "as it is"."""
    if name is not None and name not in FORMATS:
        raise ValueError(f"format must be 'json' or 'pack', not {name!r}")
    return name


_default_format: Optional[str] = None


def set_default_format(name: Optional[str]) -> None:
    """The format of new directories; None: what ``PANNIER_FORMAT`` says, else JSON."""
    global _default_format
    _default_format = checked_format(name)


def default_format() -> str:
    return _default_format or checked_format(os.environ.get("PANNIER_FORMAT") or None) or "json"


class Steps:
    """Tells the caller how far a persist is."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.total = total
        self.done = 0
        self.call = progress if callable(progress) else None
        self.bar = iter(
            get_tqdm_iterable(range(total), progress is True, "Persisting storage context")
        )

    def step(self, what: str) -> None:
        self.done += 1
        next(self.bar, None)
        if self.call is not None:
            self.call(what, self.done, self.total)

    def finish(self) -> None:
        next(self.bar, None)  # lets a bar close itself


def format_of(
    directory: str, fs: Optional[fsspec.AbstractFileSystem]
) -> Tuple[Optional[str], Optional[Dict[str, Any]]]:
    """The format of a directory's stores.

    Returns:
        ("pack", its manifest), ("json", None), or (None, None) when it has no stores.

    Raises:
        MixedFormatError: it has both and it is not clear which counts.
    """
    found = _pack.manifest(directory, fs)
    if found:
        _pack.refuse_mixture(str(directory), fs, found["generations"][-1])
        return "pack", found
    try:
        names = _files.listdir(directory, fs)
    except OSError:
        return None, None
    return ("json" if any(name.endswith(".json") for name in names) else None), None


# ----- JSON -----


def _own_fs(
    store: Any, fs: Optional[fsspec.AbstractFileSystem]
) -> Optional[fsspec.AbstractFileSystem]:
    """Where a store goes: to ``fs``, else to the file system it was made with."""
    if fs is not None:
        return fs
    own = getattr(store, "_fs", None)
    return None if _files.unwrap_local(own) else own


def _make_folder(path: str, fs: Optional[fsspec.AbstractFileSystem]) -> None:
    """LlamaIndex's docstore, persisted first, makes it before any other store."""
    folder = os.path.dirname(path)
    if fs is None:
        os.makedirs(folder or ".", exist_ok=True)
    elif folder and not fs.exists(folder):
        fs.makedirs(folder)


def persist_json(
    targets: List[Target],
    persist_dir: str,
    fs: Optional[fsspec.AbstractFileSystem],
    in_place: bool,
    steps: Steps,
    also: Optional[Dict[str, Any]] = None,
) -> None:
    """Every store's file, and the files ``also`` (path -> bytes), all at once."""
    # id(file system) -> (file system, path -> payload); the last of equal paths wins.
    commits: Dict[int, Tuple[Optional[fsspec.AbstractFileSystem], Dict[str, Any]]] = {}
    foreign: List[Target] = []
    for label, store, path in targets:
        payload = payload_of(label, store)
        if payload is None:
            foreign.append((label, store, path))
            continue
        where = _own_fs(store, fs)
        commits.setdefault(id(where), (where, {}))[1][path] = payload
        steps.step(label)
    if also:
        commits.setdefault(id(fs), (fs, {}))[1].update(also)
    persist_foreign(foreign, fs, steps)
    for where, files in commits.values():
        _files.write_files(list(files.items()), persist_dir, where, in_place=in_place)
    steps.step("commit")
    steps.finish()


_persisting_itself: ContextVar[Any] = ContextVar("pannier_persisting_itself", default=None)


def is_persisting_itself(store: Any) -> bool:
    """Whether the caller runs in the store's ``persist`` that ``persist_foreign`` called."""
    return _persisting_itself.get() is store


def persist_foreign(foreign: List[Target], fs: Optional[fsspec.AbstractFileSystem], steps: Steps) -> None:
    """Lets each store persist itself, under the file name LlamaIndex gives it."""
    for label, store, path in foreign:
        _make_folder(path, fs)
        token = _persisting_itself.set(store)
        try:
            store.persist(persist_path=path, fs=fs)
        finally:
            _persisting_itself.reset(token)
        steps.step(label)
