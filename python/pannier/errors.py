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


class CorruptPackError(CorruptStoreError):
    """A file of a pack is damaged: a checksum or a length is wrong, or bytes are missing.

    Nothing of the damaged part was returned. ``pannier verify`` lists all that is
    wrong; earlier generations may be whole (``StorageContext.open(dir, generation=)``,
    ``pannier rollback``).

    Attributes:
        path (str): the file, or the directory.
        offset (int): where in it, in bytes.
    """

    HINT = (
        "Nothing was changed. 'pannier verify' lists what is damaged; an earlier generation may be "
        "whole ('pannier history', 'pannier rollback')"
    )

    def __init__(self, what: str, path: str, offset: int) -> None:
        CorruptStoreError.__init__(self, what, "", 0, path=path, offset=offset, hint=self.HINT)

    def __str__(self) -> str:
        return f"{self.path}: {self.msg}, at byte {self.offset}. {self.hint}."

    def __reduce__(self) -> Any:
        return (CorruptPackError, (self.msg, self.path, self.offset))


class FormatVersionError(PannierError, ValueError):
    """A pack was written by a newer release, in a format that this one cannot read.
    Nothing was changed."""


class ConflictError(PannierError, RuntimeError):
    """A persist into a pack would undo another writer's: the store there was changed
    after this context was opened or last persisted. Nothing was changed.

    Open the directory again (``reload()``, or a new context), repeat the change, persist.
    """


class LockedError(PannierError, BlockingIOError):
    """Another process is writing into the pack, longer than one was willing to wait.
    Nothing was changed. A killed process leaves no lock behind."""


class GenerationError(PannierError, LookupError):
    """A pack has no generation of that number, or not any more."""


class MixedFormatError(PannierError, ValueError):
    """A directory holds a pack and JSON files of the same stores that changed after it,
    so it is not clear which is meant; ``format=`` says it. Nothing was changed."""


class ReadOnlyError(PannierError, PermissionError):
    """A context that was opened ``read_only`` was told to persist. Nothing was changed."""


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
