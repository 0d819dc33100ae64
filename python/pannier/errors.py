"""The exceptions that pannier raises where LlamaIndex has none, or a bare one.

Each is also an instance of the built-in exception that LlamaIndex (or ``json``)
raises in the same place, so code that catches that one goes on working.
"""

from __future__ import annotations

import json
from typing import Any, Optional


class PannierError(Exception):
    """Base of all exceptions that are pannier's own."""


class CorruptStoreError(PannierError, json.JSONDecodeError):
    """A persisted file is not the JSON that it should be.

    A ``json.JSONDecodeError`` (so also a ``ValueError``) whose text names the file.

    Attributes:
        path (str | None): the file.
        msg, doc, pos, lineno, colno: as in ``json.JSONDecodeError``; ``doc`` may be
            shortened to the neighbourhood of the error.
        offset (int): byte offset of the error in the file, or -1 when not known.
        hint (str): what to do about it.
    """

    def __init__(
        self, msg: str, doc: str, pos: int, *, path: Optional[str] = None, offset: int = -1, hint: str = ""
    ) -> None:
        json.JSONDecodeError.__init__(self, msg, doc, pos)
        self.path = path
        self.offset = offset
        self.hint = hint

    def __str__(self) -> str:
        text = json.JSONDecodeError.__str__(self)
        if self.path:
            text = f"{self.path}: {text}"
        if self.offset >= 0:
            text += f", byte {self.offset}"
        return f"{text}. {self.hint}" if self.hint else text

    def __reduce__(self) -> Any:
        return (_rebuild_corrupt, (self.msg, self.doc, self.pos, self.path, self.offset, self.hint))


def _rebuild_corrupt(
    msg: str, doc: str, pos: int, path: Optional[str], offset: int, hint: str
) -> CorruptStoreError:
    return CorruptStoreError(msg, doc, pos, path=path, offset=offset, hint=hint)


class UnserializableError(PannierError, TypeError):
    """A value that JSON cannot hold was about to be persisted; nothing was written.

    A ``TypeError``, as ``json.dumps`` raises.

    Attributes:
        store (str): which store, e.g. ``"docstore"``, or the file.
        key_path (str): where in the store, e.g.
            ``docstore/data['node-1'].__data__.metadata.when``.
        value (Any): the value itself.
    """

    def __init__(self, message: str, *, store: str = "", key_path: str = "", value: Any = None) -> None:
        super().__init__(message)
        self.store = store
        self.key_path = key_path
        self.value = value


class UnsupportedLayoutError(PannierError, ValueError):
    """A directory or file was written by something whose layout pannier cannot read
    without losing data (LlamaIndex.TS, a Faiss binary, ...). Nothing was touched."""


class NamespaceError(PannierError, ValueError):
    """A vector store namespace that would not be a file name inside the directory."""


class CommitError(PannierError, OSError):
    """A persist failed. Every file is as it was before.

    An ``OSError``; ``errno`` and ``filename`` say what failed.
    """


class OutcomeUnknownError(CommitError):
    """A persist reached its point of no return but could not be confirmed durable:
    the new state is visible now, and after a power cut either the old or the new
    one is. Persist again to be sure."""


class JournalError(PannierError, ValueError):
    """The commit journal of a directory cannot be followed: it is damaged, or the
    files it names were changed by somebody else meanwhile."""


# open() raises a subclass of OSError for the common errnos, and so does a persist:
# code that expects, say, PermissionError from LlamaIndex's persist goes on working.
# Each class says no more than its two bases.


class CommitPermissionError(CommitError, PermissionError):
    """A persist that was not permitted."""


class CommitNotFoundError(CommitError, FileNotFoundError):
    """A persist into a place that does not exist and cannot be made."""


class CommitNotADirectoryError(CommitError, NotADirectoryError):
    """A persist below something that is not a directory."""


class CommitIsADirectoryError(CommitError, IsADirectoryError):
    """A persist onto a directory."""


class CommitExistsError(CommitError, FileExistsError):
    """A persist whose directory's name is taken by a file."""
