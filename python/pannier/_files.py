"""Files as the stores see them: local ones through the core, others through fsspec.

The peer (LlamaIndex) passes every path to an fsspec file system, the local one by
default. Here local paths are unwrapped to the core's reading and committing, which
are atomic over several files; on every other file system each file is put whole.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Optional, TypeVar, Union

from pannier import _core
from pannier.errors import NamespaceError

if TYPE_CHECKING:
    import fsspec

T = TypeVar("T")
Buffer = Any  # collections.abc.Buffer came with Python 3.12
Path = Union[str, "os.PathLike[str]"]

MAX_LOADS = 20
"""How often a load that others keep committing under is begun."""

_looking: ContextVar[bool] = ContextVar("pannier_looking", default=False)


@contextmanager
def looking(read_only: bool) -> Iterator[None]:
    """With ``read_only``, nothing is finished or written by what reads meanwhile."""
    token = _looking.set(read_only)
    try:
        yield
    finally:
        _looking.reset(token)


OWN_PREFIX = ".pannier-"
"""What the names of the commit journal and of staged files begin with."""


def unwrap_local(fs: Optional["fsspec.AbstractFileSystem"]) -> bool:
    """Whether a file system is the plain local one: None or fsspec's own class for it.

    A subclass or a wrapper (``DirFileSystem``, caches) may mean something else by a
    path, so it is asked itself.
    """
    if fs is None:
        return True
    from fsspec.implementations.local import LocalFileSystem

    return type(fs) is LocalFileSystem


def local_path(path: Path) -> str:
    """The absolute path that fsspec's local file system makes of a path or URL.

    ``file://`` and ``local://`` go, ``~`` is expanded, trailing slashes are cut. So
    file names in exceptions are those that the peer's have.
    """
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem._strip_protocol(path)


def checked_namespace(namespace: Any) -> str:
    """A vector store's namespace, which becomes part of a file name.

    Raises:
        pannier.errors.NamespaceError: a ValueError; with it the peer would write outside
            the directory.
    """
    name = str(namespace)
    if name in ("..", ".") or any(char in name for char in {"/", os.sep, os.altsep or "/", "\0"}):
        raise NamespaceError(f"the vector store namespace {name!r} can't be part of a file name inside the directory")
    return name


def read_file(
    path: Path,
    fs: Optional["fsspec.AbstractFileSystem"] = None,
    root: Optional[Path] = None,
    read_only: bool = False,
) -> Buffer:
    """The bytes of a file, as the last persist left it.

    A persist that was killed after it had committed is finished first.

    Args:
        path: file name, or a URL that ``fs`` understands.
        fs: None for the local file system.
        root: the directory that was persisted to, when the file lies in a directory
            below it; by default the file's own.
        read_only: write nothing, read an unfinished commit's files where they are.

    Returns:
        An object with the buffer protocol.

    Raises:
        OSError: as the peer's ``fs.open(path, "rb")`` raises it (FileNotFoundError,
            IsADirectoryError, ...), with the absolute name.
        pannier.errors.JournalError: the directory holds a journal that cannot be
            followed.
    """
    if unwrap_local(fs):
        return _core.read_file(
            local_path(path), None if root is None else local_path(root), read_only or _looking.get()
        )
    with fs.open(path, "rb") as f:
        return f.read()


def load_vectors(path: Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> Optional[_core.VectorTable]:
    """A large local vector store's file as a table; None where ``read_file`` has to read it.

    Raises:
        OSError, JournalError: as ``read_file``.
    """
    return _core.load_vectors(local_path(path), None, _looking.get()) if unwrap_local(fs) else None


def exists(path: Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> bool:
    """Whether there is a file or directory, like the peer's ``fs.exists(path)``.

    A local file that an unfinished persist has committed counts.
    """
    if not unwrap_local(fs):
        return bool(fs.exists(path))
    local = local_path(path)
    if os.path.exists(local):
        return True
    directory, name = os.path.split(local)
    return name in _pending(directory) or os.path.exists(local)


def listdir(path: Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> list[str]:
    """Base names in a directory, on any fsspec file system, without pannier's own.

    The order is the file system's. (The peer lists only local directories and looks
    for nothing but the default vector store when it is given an ``fs``.)

    Raises:
        FileNotFoundError, NotADirectoryError: as the file system raises it.
    """
    if unwrap_local(fs):
        local = local_path(path)
        pending = _pending(local)
        names = os.listdir(local)
        names += [name for name in pending if "/" not in name and name not in names]
    else:
        names = list_remote(path, fs)
    return [name for name in names if not name.startswith(OWN_PREFIX)]


def write_files(
    items: Iterable[tuple[Path, Buffer]],
    root: Path,
    fs: Optional["fsspec.AbstractFileSystem"] = None,
    in_place: bool = False,
) -> None:
    """Write several files, making missing directories as the peer does.

    Local files at or below ``root`` change all at once, durably, or not at all. A
    path that leads elsewhere (``..``, an absolute file name) is written on its own,
    before them and as safely. What is not a regular file (``/dev/stdout``, a pipe) is
    written as the peer would. On other file systems each file is put whole, in the
    order given. When one file is named twice, the last one counts.

    Args:
        items: path (or URL that ``fs`` understands) and contents of each file.
        root: the directory that is persisted to.
        fs: None for the local file system.
        in_place: overwrite local files that exist instead of renaming over them.

    Raises:
        pannier.errors.CommitError: an OSError; no file at or below ``root`` was changed.
        pannier.errors.OutcomeUnknownError: they changed, perhaps not durably.
        pannier.errors.JournalError: an unfinished earlier persist is in the way.
    """
    if not unwrap_local(fs):
        _put_remote(items, fs)
        return
    top = local_path(root)
    inside: dict[str, Buffer] = {}
    outside: dict[str, Buffer] = {}
    for path, data in items:
        local = local_path(path)
        below = _below(local, top)
        group, key = (outside, local) if below is None else (inside, below)
        group.pop(key, None)
        group[key] = data
    for local, data in [*outside.items(), *_take_special(inside)]:
        if _is_special(local):
            with open(local, "wb") as f:
                f.write(data)
        else:
            _core.commit_files(os.path.dirname(local), [(local, data)], in_place)
    if inside:
        _core.commit_files(top, list(inside.items()), in_place)


def remove(names: Iterable[str], root: Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> None:
    """Delete files of a directory, as far as that is allowed: whoever calls it can do
    without."""
    for name in names:
        try:
            if unwrap_local(fs):
                os.unlink(os.path.join(local_path(root), name))
            else:
                fs.rm_file(f"{str(root).rstrip('/')}/{name}")
        except OSError:
            pass


def recover(root: Path, fs: Optional["fsspec.AbstractFileSystem"] = None, read_only: bool = False) -> bool:
    """Finish a persist that was killed after it had committed, if there is one.

    Returns:
        Whether there was one. Always False on file systems other than the local one.

    Raises:
        pannier.errors.JournalError: it cannot be finished; nothing was changed.
    """
    return bool(unwrap_local(fs) and _core.recover(local_path(root), read_only or _looking.get()))


def stamp(paths: Iterable[Path], root: Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> Any:
    """What tells whether any of several files was replaced: compare two stamps for it.

    When the stamps taken before and after reading the files are equal, what was read
    is of one and the same commit: a commit replaces files only while its journal is
    there, so either the journal or a file differs. None (always equal) on file
    systems other than the local one, which have no such moment.

    Args:
        paths: the files; they may be missing.
        root: the directory that they are committed to.
    """
    if not unwrap_local(fs):
        return None
    journal = os.path.join(local_path(root), OWN_PREFIX + "commit")
    # The order matters: a journal that is gone now was applied before what follows.
    return [_identity(journal), *(_identity(local_path(path)) for path in paths)]


def read_stable(
    load: Callable[[], T], paths: Iterable[Path], root: Path, fs: Optional["fsspec.AbstractFileSystem"] = None
) -> T:
    """What ``load()`` returns or raises when no commit into ``root`` happened meanwhile.

    It is called again when another process persisted while it was reading, at most
    ``MAX_LOADS`` times.

    Args:
        load: reads the files, without other effects.
        paths: all files that it reads.
    """
    paths = list(paths)
    for _ in range(MAX_LOADS - 1):
        before = stamp(paths, root, fs)
        try:
            result = load()
        except Exception:
            if stamp(paths, root, fs) == before:
                raise
            continue
        if stamp(paths, root, fs) == before:
            return result
    return load()


def _identity(path: str) -> Optional[tuple[int, ...]]:
    try:
        st = os.stat(path)
    except (OSError, ValueError):
        return None
    return (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def _pending(directory: str) -> list[str]:
    """Finishes a commit, or names its files if it stays (in a read-only directory)."""
    if not os.path.lexists(os.path.join(directory, OWN_PREFIX + "commit")):
        return []
    _core.recover(directory, _looking.get())
    return _core.pending(directory)


def _below(local: str, top: str) -> Optional[str]:
    """``local`` with plain components below ``top``, or None when it leads elsewhere."""
    base = top if top.endswith("/") else top + "/"
    if not local.startswith(base):
        return None
    parts = [part for part in local[len(base) :].split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return None
    return base + "/".join(parts)


def _is_special(local: str) -> bool:
    try:
        mode = os.stat(local).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _take_special(inside: dict[str, Buffer]) -> list[tuple[str, Buffer]]:
    return [(path, inside.pop(path)) for path in list(inside) if _is_special(path)]


def list_remote(path: Path, fs: "fsspec.AbstractFileSystem") -> list[str]:
    # Object stores cache listings; another process may have persisted since.
    fs.invalidate_cache(path)
    names = []
    for entry in fs.ls(path, detail=False):
        full = entry["name"] if isinstance(entry, dict) else str(entry)
        name = full.rstrip("/").rsplit("/", 1)[-1]
        if name and name not in names:
            names.append(name)
    return names


def _put_remote(items: Iterable[tuple[Path, Buffer]], fs: "fsspec.AbstractFileSystem") -> None:
    made: set[str] = set()
    for path, data in items:
        directory = os.path.dirname(path)
        if directory not in made:
            if not fs.exists(directory):
                fs.makedirs(directory, exist_ok=True)
            made.add(directory)
        fs.pipe_file(path, bytes(data))
