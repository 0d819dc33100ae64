"""Stores' files wherever they are: in a directory of their own, or in its pack.

``read_file``, ``exists`` and ``listdir`` of ``_files``, for paths that may mean a store
of a pack. A single store that is loaded alone finds its directory's pack by itself; a
context's are all read from one generation (``_pack.reading``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional

from pannier import _files, _pack

if TYPE_CHECKING:
    import fsspec


def read_file(path: _files.Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> _files.Buffer:
    """The bytes of a store's JSON file, or what they would be.

    Raises:
        OSError, JournalError: as ``_files.read_file``.
        CorruptPackError, FormatVersionError, MixedFormatError: of a pack.
    """
    found = _pack.find(path, fs)
    return found.text() if found is not None else _files.read_file(path, fs)


def exists(path: _files.Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> bool:
    """Whether there is such a file or such a store."""
    return _pack.find(path, fs) is not None or _files.exists(path, fs)


def listdir(path: _files.Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> List[str]:
    """The names of a directory's files and of its pack's stores.

    Raises:
        FileNotFoundError, NotADirectoryError: as the file system raises it.
    """
    names = _files.listdir(path, fs)
    return names + [name for name in _pack.names(path, fs) if name not in names]
