"""What can be done with a persisted directory as such: convert, check, compact, go back.

Each function is also a command: ``pannier convert``, ``verify``, ``compact``,
``rollback``, ``history``, ``inspect``.
"""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple, Union

from pannier import _core, _files, _pack
from pannier.errors import CorruptStoreError, GenerationError

if TYPE_CHECKING:
    import fsspec

    from pannier._saving import Progress

Directory = Union[str, "os.PathLike[str]"]
_KINDS = {_pack.COLLECTIONS: "collections", _pack.VECTORS: "vectors", _pack.TEXT: "text"}


class Finding(NamedTuple):
    """Something that is wrong with a persisted directory."""

    path: str  # the file
    offset: int  # in bytes
    what: str

    def __str__(self) -> str:
        return f"{self.path}: byte {self.offset}: {self.what}"


class Generation(NamedTuple):
    """One generation of a pack."""

    number: int
    time: datetime  # when it was committed, UTC
    bytes: int  # of its segments
    segments: int
    stores: Tuple[str, ...]
    changed: Tuple[str, ...]  # the stores that it changed

    def __str__(self) -> str:
        changed = ", ".join(self.changed) or "nothing"
        when = self.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        segments = "1 segment " if self.segments == 1 else f"{self.segments} segments"
        return f"{self.number:6}  {when}  {self.bytes:14,} bytes in {segments:11}  changed: {changed}"


def convert(
    directory: Directory,
    format: str,
    *,
    out: Optional[Directory] = None,
    fs: Optional["fsspec.AbstractFileSystem"] = None,
    progress: "Progress" = None,
) -> None:
    """Turn a persisted directory into the other format, there or in another directory.

    Back to JSON gives, byte for byte, what LlamaIndex writes for the same contents. In
    place, the old form goes once the new one is committed; a process that is killed at
    any moment leaves one of the two.

    Args:
        directory: what ``persist`` wrote, in either format.
        format (str): "json" or "pack".
        out: another directory; None converts in place.
        fs: the file system of both; None is the local one.
        progress: as for ``StorageContext.persist``.

    Raises:
        FileNotFoundError: there is no docstore or index store in the directory.
        CorruptStoreError, MixedFormatError, CommitError, ...: nothing was changed.
    """
    from pannier.storage_context import StorageContext

    context = StorageContext.from_defaults(persist_dir=str(directory), fs=fs)
    context.persist(str(directory if out is None else out), fs=fs, format=format, progress=progress)


def verify(directory: Directory) -> List[Finding]:
    """Check every byte of a persisted directory, all generations of a pack.

    Returns:
        list[Finding]: what is wrong, with file and byte offset; empty when all is well.

    Raises:
        FileNotFoundError: there is no such directory, or nothing persisted in it.
        JournalError: a killed persist cannot be finished.
    """
    root = _files.local_path(str(directory))
    if _pack.exists(root):
        return [Finding(*found) for found in _core.pack_verify(root)]
    names = [name for name in _files.listdir(root) if name.endswith(".json")]
    if not names:
        raise FileNotFoundError(f"nothing that LlamaIndex or pannier persisted in {root}")
    return [finding for name in sorted(names) for finding in _verify_json(os.path.join(root, name))]


def _verify_json(path: str) -> List[Finding]:
    from pannier._encoding import corrupt

    data = _files.read_file(path)
    try:
        corrupt(data, path)
    except CorruptStoreError as e:
        return [Finding(path, max(e.offset, 0), e.msg)]
    except UnicodeDecodeError as e:
        return [Finding(path, e.start, "not UTF-8")]
    return []


def compact(directory: Directory, *, keep: int = 1) -> Generation:
    """Write a pack's current generation as one segment, and forget older ones.

    Contexts that are open go on; their next persist builds on it.

    Args:
        directory: where the pack is.
        keep: how many generations stay; 0: all.

    Returns:
        Generation: the current one, which keeps its number.

    Raises:
        FileNotFoundError: there is no pack.
        LockedError, CommitError, CorruptPackError: nothing was changed.
    """
    root = _pack_root(directory)
    if not 0 <= keep <= _pack.MAX_KEEP:
        raise ValueError(f"keep must be 0 to {_pack.MAX_KEEP}, not {keep!r}")
    _core.pack_compact(root, _pack.writer_note(), keep, _pack.PATIENCE)
    return history(root)[-1]


def rollback(directory: Directory, generation: int) -> Generation:
    """Make an earlier generation of a pack the current one again, as a new generation.

    Args:
        directory: where the pack is.
        generation: its number, see :func:`history`.

    Returns:
        Generation: the new one.

    Raises:
        FileNotFoundError: there is no pack.
        GenerationError: a LookupError; the generation is not kept (any more).
        LockedError, CommitError, CorruptPackError: nothing was changed.
    """
    root = _pack_root(directory)
    if not 1 <= generation < 1 << 64:
        raise GenerationError(f"{root} has no generation {generation}")
    _core.pack_rollback(root, generation, time.time_ns(), _pack.writer_note(), _pack.PATIENCE)
    return history(root)[-1]


def history(directory: Directory, fs: Optional["fsspec.AbstractFileSystem"] = None) -> List[Generation]:
    """The generations of a pack that can be opened, oldest first.

    Raises:
        FileNotFoundError: there is no pack.
        CorruptPackError, FormatVersionError.
    """
    manifest = _pack.manifest(str(directory), fs)
    if manifest is None:
        raise FileNotFoundError(f"there is no pack in {directory}")
    return [_generation(g, manifest["segments"]) for g in manifest["generations"]]


def _generation(g: Dict[str, Any], sizes: Dict[str, int]) -> Generation:
    return Generation(
        number=g["number"],
        time=datetime.fromtimestamp(g["time"] / 1e9, timezone.utc),
        bytes=sum(sizes[name] for name in g["segments"]),
        segments=len(g["segments"]),
        stores=tuple(g["stores"]),
        changed=tuple(name for name, (_, changed) in g["stores"].items() if changed == g["number"]),
    )


def inspect(directory: Directory) -> Dict[str, Any]:
    """What is in a persisted directory, without loading it.

    Returns:
        dict: ``format``, ``stores`` {name: {...}}, and of a pack ``id``, ``keep``,
        ``generation``, ``generations``, ``bytes``, ``foreign``.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    root = _files.local_path(str(directory))
    manifest = _pack.manifest(root)
    if manifest is None:
        names = [name for name in _files.listdir(root) if name.endswith(".json")]
        return {
            "format": "json" if names else None,
            "stores": {name: {"bytes": os.stat(os.path.join(root, name)).st_size} for name in sorted(names)},
        }
    current = manifest["generations"][-1]
    return {
        "format": "pack",
        "id": manifest["id"].hex(),
        "keep": manifest["keep"],
        "generation": current["number"],
        "generations": [g["number"] for g in manifest["generations"]],
        "bytes": sum(manifest["segments"].values()),
        "stores": {
            name: {"kind": _KINDS.get(kind, str(kind)), "changed": changed}
            for name, (kind, changed) in _pack.own_stores(current).items()
        },
        "foreign": current["foreign"],
    }


def _pack_root(directory: Directory) -> str:
    root = _files.local_path(str(directory))
    if _pack.manifest(root) is None:
        raise FileNotFoundError(f"there is no pack in {root}")
    return root


def dumps(value: Any) -> str:
    """A result of :func:`inspect` as indented JSON."""
    return json.dumps(value, indent=2)
