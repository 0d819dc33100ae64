"""Packs as the stores see them: where one is, what it holds, what a store builds on.

The format is in csrc/FORMAT.md. A pack holds stores under the names of the files that
LlamaIndex's layout has for them, so a path such as ``storage/docstore.json`` means the
same in both formats: the file, or the store of that name in ``storage``'s pack.

A pack on another file system (``fs``) is mirrored into a temporary local directory for
as long as it takes to map its segments, or to commit: see :class:`Remote`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import socket
import tempfile
import time
import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from pannier import _core, _files
from pannier.errors import CommitError, CommitPermissionError, ConflictError, MixedFormatError

if TYPE_CHECKING:
    import fsspec

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST"
MAGIC = b"\x89PNMAN\r\n"  # what it begins with
SEGMENT = re.compile(r"seg-[0-9a-f]{16}-[0-9a-f]{16}\.pn")
COLLECTIONS, VECTORS, TEXT = 1, 2, 3  # the kinds of stores
PATIENCE = 10_000
"""Milliseconds that a persist waits for another writer."""

KEEP = 3
"""Generations that a new pack keeps."""

MAX_KEEP = 1000
"""Generations that a pack can keep."""

MAX_SEGMENTS = 16
"""What a generation has at most; the next commit merges (FORMAT.md)."""

MAX_OPENS = 20
"""How often a remote pack that others keep committing to is fetched anew."""


Place = Tuple[Any, ...]
"""What tells a directory from its copies: device and inode, or a file system and a path."""


class Base(NamedTuple):
    """What a store in memory was read from or last written to."""

    place: Optional[Place]
    name: str  # of the store in the pack
    id: bytes  # of the pack
    changed: int  # the generation that last changed the store there
    digest: bytes = b""  # of the text, for a store that is written whole
    tracked: bool = False  # a native store that knows what changed in it since


def digest_of(text: Any) -> bytes:
    return hashlib.sha256(text).digest()


class Bases:
    """The bases of each store object, for as long as the object lives: one for each
    directory and name that it was saved to.

    Kept beside the objects: their ``__dict__`` is what pickles and copies carry away, and
    some are not hashable.
    """

    MAX = 32  # for one object; who saves to new directories for ever needs no more

    def __init__(self) -> None:
        self._of: Dict[int, Tuple[Any, Dict[Any, Base]]] = {}

    def _all(self, store: Any) -> Dict[Any, Base]:
        entry = self._of.get(id(store))
        return entry[1] if entry is not None and entry[0]() is store else {}

    def get(self, store: Any, place: Optional[Place], name: str, pack_id: Optional[bytes]) -> Optional[Base]:
        base = self._all(store).get((place, name)) if place is not None else None
        return base if base is not None and base.id == pack_id else None

    def set(self, store: Any, base: Base) -> None:
        key = id(store)
        known = dict(self._all(store))
        if base.tracked:  # what a store tells as changed is so since its last commit alone
            known = {k: b._replace(tracked=False) for k, b in known.items()}
        known.pop((base.place, base.name), None)
        known[base.place, base.name] = base
        if len(known) > self.MAX:
            del known[next(iter(known))]
        try:
            ref = weakref.ref(store, lambda dead: self._drop(key, dead))
        except TypeError:  # an object that nobody can watch is written whole each time
            return
        self._of[key] = (ref, known)

    def forget(self, store: Any, base: Base) -> None:
        """The store builds on nothing there any more: it will be written whole."""
        self._all(store).pop((base.place, base.name), None)

    def move(self, old: Any, new: Any) -> None:
        """``new`` holds what ``old`` held."""
        known = self._all(old)
        self._of.pop(id(new), None)
        for base in known.values():
            self.set(new, base)

    def _drop(self, key: int, dead: Any) -> None:
        entry = self._of.get(key)
        if entry is not None and entry[0] is dead:
            del self._of[key]


bases = Bases()


class Pack:
    """One generation of a pack, open for reading.

    Attributes:
        dir (str): the directory, as a local path or as ``fs`` names it.
        core (_core.Pack): the segments.
        generation (int): its number.
        id (bytes): of the pack.
        stores (dict[str, tuple[int, int]]): name -> (kind, generation that last changed it).
        json (dict[str, tuple[int, int, int]]): outdated files: name -> (size, mtime in ns, CRC-32C).
        bytes (int): of its segments.
    """

    def __init__(self, directory: str, fs: Optional["fsspec.AbstractFileSystem"], core: Any) -> None:
        self.dir = directory
        self.fs = fs
        self.core = core
        self.generation: int = core.generation
        manifest = core.manifest
        self.id: bytes = manifest["id"]
        entry = next(g for g in manifest["generations"] if g["number"] == self.generation)
        self.stores: Dict[str, Tuple[int, int]] = own_stores(entry)
        self.json: Dict[str, Tuple[int, int, int]] = entry["json"]
        self.bytes: int = sum(manifest["segments"][name] for name in entry["segments"])
        self.place = place_of(directory, fs)

    def kind(self, name: str) -> int:
        return self.stores[name][0]

    def base(self, name: str, digest: bytes = b"") -> Base:
        return Base(self.place, name, self.id, self.stores[name][1], digest, tracked=not digest)


class Found(NamedTuple):
    """A store of a pack."""

    pack: Pack
    name: str

    @property
    def kind(self) -> int:
        return self.pack.kind(self.name)

    def fill(self, table: Any) -> None:
        """Makes the store the contents of a ``SimpleKVStore``."""
        self.pack.core.kv(self.name, table)
        bases.set(table, self.pack.base(self.name))

    def vectors(self) -> Any:
        """The store as a ``_core.VectorTable``."""
        return self.pack.core.vectors(self.name)

    def graph(self) -> Any:
        """The store as a ``_core.TripletTable``; None when it is no graph of plain triplets."""
        table = self.pack.core.graph(self.name) if self.kind == COLLECTIONS else None
        if table is not None:
            bases.set(table, self.pack.base(self.name))
        return table

    def text(self) -> Any:
        """The store as the bytes of its JSON file."""
        return self.pack.core.text(self.name)

    def note(self, store: Any, text: Any) -> None:
        """The store object was made of this text."""
        bases.set(store, self.pack.base(self.name, digest_of(text)))

    def note_whole(self, store: Any) -> None:
        """The store object was made of this; what it holds besides its table is written whole."""
        bases.set(store, self.pack.base(self.name)._replace(tracked=False))


# ----- Finding -----

_reading: ContextVar[Optional[Tuple[str, Optional[Pack]]]] = ContextVar("pannier_pack", default=None)


@contextmanager
def reading(directory: _files.Path, fs: Optional["fsspec.AbstractFileSystem"], pack: Optional[Pack]) -> Iterator[None]:
    """All stores that are loaded from the directory meanwhile come from this generation of
    its pack, or, with None, from its JSON files."""
    token = _reading.set((root_of(str(directory), fs), pack))
    try:
        yield
    finally:
        _reading.reset(token)


def root_of(directory: str, fs: Optional["fsspec.AbstractFileSystem"]) -> str:
    """The directory's absolute path, or its name for ``fs``."""
    if _files.unwrap_local(fs):
        return _files.local_path(directory or ".")
    return str(directory).rstrip("/")


def place_of(directory: str, fs: Optional["fsspec.AbstractFileSystem"]) -> Optional[Place]:
    """Where a store's base is; None when there is no such directory."""
    root = root_of(directory, fs)
    if not _files.unwrap_local(fs):
        return (type(fs), root)
    try:
        st = os.stat(root)
    except OSError:
        return None
    return (st.st_dev, st.st_ino)


def own_stores(generation: Dict[str, Any]) -> Dict[str, Tuple[int, int]]:
    """The stores of a generation, without what the pack still has of those that persist
    themselves by now."""
    return {name: store for name, store in generation["stores"].items() if name not in generation["foreign"]}


def exists(directory: _files.Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> bool:
    """Whether the directory has a manifest at all (it may be a retired one)."""
    root = root_of(str(directory), fs)
    if _files.unwrap_local(fs):
        return os.path.lexists(os.path.join(root, MANIFEST)) and not _is_somebody_s(root)
    fs.invalidate_cache(root)  # another process may have persisted since it was listed
    return bool(fs.exists(f"{root}/{MANIFEST}"))


def _is_somebody_s(root: str) -> bool:
    """Whether what is called MANIFEST in a directory has nothing to do with a pack: it does
    not begin as one does, and no segment is there."""
    try:
        with open(os.path.join(root, MANIFEST), "rb", buffering=0) as f:
            if f.read(len(MAGIC)) == MAGIC:
                return False
        return not any(SEGMENT.fullmatch(name) for name in os.listdir(root))
    except IsADirectoryError:
        return True
    except OSError:
        return False  # whoever reads it will say what is wrong


def manifest(directory: _files.Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> Optional[Dict[str, Any]]:
    """The manifest (see ``_core.Pack.manifest``) of a directory whose stores are a pack.

    Returns:
        None when there is no manifest, or a retired one.
    """
    if not exists(directory, fs):
        return None
    root = root_of(str(directory), fs)
    if _files.unwrap_local(fs):
        found = _core.pack_manifest(root)
    else:
        with Remote(root, fs) as local:
            found = _core.pack_manifest(local.dir)
    return found if found and found["generations"] else None


def open_pack(
    directory: _files.Path,
    fs: Optional["fsspec.AbstractFileSystem"] = None,
    generation: Optional[int] = None,
    check: bool = False,
    mixed: bool = False,
) -> Optional[Pack]:
    """The pack in a directory, or None when its stores are JSON files.

    Args:
        directory: where.
        fs: the file system; None is the local one.
        generation: its number; None is the current one.
        check: check all bytes now.
        mixed: take the pack although JSON files changed after it.

    Raises:
        GenerationError: there is no such generation.
        CorruptPackError, FormatVersionError: a file of it cannot be read.
        MixedFormatError: JSON files of the same stores are newer, or unknown to it.
    """
    if not exists(directory, fs):
        return None
    root = root_of(str(directory), fs)
    if _files.unwrap_local(fs):
        core = _core.Pack.open(root, generation or 0, check)
    else:
        core = _open_remote(root, fs, generation or 0, check)
    if core is None:
        return None
    pack = Pack(root, fs, core)
    if not mixed:
        _refuse_mixture(pack)
    return pack


def find(path: _files.Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> Optional[Found]:
    """The store that a file's path means, when the directory has a pack with it."""
    directory, name = os.path.split(str(path))
    pinned = _reading.get()
    if pinned is not None and pinned[0] == root_of(directory, fs):
        pack = pinned[1]
    else:
        pack = open_pack(directory, fs)
    return Found(pack, name) if pack is not None and name in pack.stores else None


def names(directory: _files.Path, fs: Optional["fsspec.AbstractFileSystem"] = None) -> List[str]:
    """The names of the stores in a directory's pack; none when it has no pack."""
    pinned = _reading.get()
    if pinned is not None and pinned[0] == root_of(str(directory), fs):
        return list(pinned[1].stores) if pinned[1] is not None else []
    found = manifest(directory, fs)
    return list(own_stores(found["generations"][-1])) if found else []


# ----- JSON files beside a pack -----


def remote_names(root: str, fs: Any) -> List[str]:
    """Base names in a directory on another file system; none when there is no such one."""
    try:
        return _files.list_remote(root, fs)
    except FileNotFoundError:
        return []


def json_beside(
    directory: _files.Path, fs: Optional["fsspec.AbstractFileSystem"], stores: Any
) -> Dict[str, Tuple[int, int]]:
    """The JSON files in a directory that have names of stores: name -> (size, mtime in ns)."""
    root = root_of(str(directory), fs)
    found = {}
    if _files.unwrap_local(fs):
        for name in stores:
            try:
                st = os.stat(os.path.join(root, name))
            except (OSError, ValueError):
                continue
            found[name] = (st.st_size, st.st_mtime_ns)
    else:
        there = remote_names(root, fs)
        for name in stores:
            if name in there:
                found[name] = (int(fs.info(f"{root}/{name}")["size"]), 0)
    return found


def _crc(root: str, name: str, fs: Optional["fsspec.AbstractFileSystem"]) -> int:
    if _files.unwrap_local(fs):
        return int(_core.crc32c(_files.read_file(os.path.join(root, name))))
    return int(_core.crc32c(fs.cat_file(f"{root}/{name}")))


def outdated_json(
    directory: _files.Path, fs: Optional["fsspec.AbstractFileSystem"], stores: Any
) -> Tuple[Tuple[str, int, int, int], ...]:
    """What a manifest notes of the JSON files that a commit leaves behind."""
    root = root_of(str(directory), fs)
    beside = json_beside(directory, fs, stores)
    return tuple((name, size, mtime, _crc(root, name, fs)) for name, (size, mtime) in beside.items())


def newer_json(
    directory: _files.Path, fs: Optional["fsspec.AbstractFileSystem"], generation: Dict[str, Any]
) -> List[str]:
    """JSON files of a generation's stores that are not what the manifest noted as outdated."""
    root = root_of(str(directory), fs)
    newer = []
    for name, (size, mtime) in json_beside(directory, fs, own_stores(generation)).items():
        noted = generation["json"].get(name)
        if noted is None or noted[0] != size or (noted[1] != mtime and noted[2] != _crc(root, name, fs)):
            newer.append(name)
    return newer


def _refuse_mixture(pack: Pack) -> None:
    refuse_mixture(pack.dir, pack.fs, {"stores": pack.stores, "foreign": {}, "json": pack.json})


# There no file system moves several files at once: the new files are put one by one, and what
# makes them count is put last.
_CUT_OFF = (
    " If a persist with format='json', or a conversion to JSON, was cut off: the pack is whole. Open it with "
    "StorageContext.open(..., format='pack') and persist it with format='json' again."
)


def refuse_mixture(
    directory: str, fs: Optional["fsspec.AbstractFileSystem"], generation: Dict[str, Any]
) -> None:
    """Raises MixedFormatError when it is not clear which format is meant."""
    newer = newer_json(directory, fs, generation)
    if newer:
        raise MixedFormatError(
            f"{directory} holds a pack ({MANIFEST}) and JSON files of the same stores that it does not know: "
            f"{', '.join(sorted(newer))}. Something that knows no packs has persisted there. Nothing was changed. "
            "Say which counts: format='pack' or format='json' (StorageContext.open, persist), or move the others away."
            + ("" if _files.unwrap_local(fs) else _CUT_OFF)
        )


# ----- Writing -----


def writer_note() -> str:
    """Who writes, for the message that those who wait get."""
    return f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S %z')}"


def persisted(label: str, store: Any, path: Any, fs: Optional["fsspec.AbstractFileSystem"]) -> bool:
    """Persists a single store into the pack of its directory, if that has one."""
    if not exists(os.path.dirname(os.fspath(path)), fs):
        return False
    from pannier import _packing  # it knows all stores

    return _packing.persist_alone(label, store, path, fs)


@contextmanager
def as_private_as(directory: _files.Path, name: str) -> Iterator[None]:
    """A pack that is made meanwhile, of JSON files, is as private as this one of them.

    Its files take the mode of the manifest, so one is put there first, without
    generations: the JSON files go on to count.
    """
    root = root_of(str(directory), None)
    mode = os.stat(os.path.join(root, name)).st_mode & 0o777
    path = os.path.join(root, MANIFEST)
    if os.path.lexists(path) or not _put_new(path, _core.retired_manifest(os.urandom(16), KEEP), mode):
        yield
        return
    try:
        yield
    except BaseException:
        try:
            _core.pack_retire(root, writer_note(), PATIENCE)
        except Exception as e:  # the commit came to its end after all, or no disk: it does no harm
            logger.debug(f"{path} stays: {e!r}")
        raise


def _put_new(path: str, data: bytes, mode: int) -> bool:
    """A whole file under a name that nobody has, or no file at all.

    It is staged under a name that commits sweep, should the process be killed.

    Returns:
        False when there is one.
    """
    staged = os.path.join(os.path.dirname(path), f"{_files.OWN_PREFIX}00000000-{os.urandom(8).hex()}.tmp")
    try:
        with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
            f.write(data)
            f.flush()
            os.fchmod(f.fileno(), mode)
            os.fsync(f.fileno())
        _give_name(staged, path)
    except FileExistsError:
        return False
    except OSError as e:
        cls = CommitPermissionError if isinstance(e, PermissionError) else CommitError
        raise cls(e.errno, f"{e.strerror} (cannot write the manifest)", path) from e
    finally:
        if os.path.lexists(staged):
            os.unlink(staged)
    return True


def _give_name(staged: str, path: str) -> None:
    """Raises FileExistsError when the name is taken."""
    try:
        os.link(staged, path)
    except FileExistsError:
        raise
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or os.path.lexists(path):
            raise
        os.rename(staged, path)  # a file system without hard links


@contextmanager
def writable(directory: _files.Path, fs: Optional["fsspec.AbstractFileSystem"]) -> Iterator[str]:
    """A local directory to commit to; what is committed is in ``directory`` afterwards."""
    root = root_of(str(directory), fs)
    if _files.unwrap_local(fs):
        yield root
        return
    with Remote(root, fs) as mirror:
        mirror.prepare_merge()
        yield mirror.dir
        mirror.upload()


def retire(directory: _files.Path, fs: Optional["fsspec.AbstractFileSystem"]) -> None:
    """Removes a pack's files, when its manifest has no generations any more."""
    root = root_of(str(directory), fs)
    if _files.unwrap_local(fs):
        _core.pack_retire(root, writer_note(), PATIENCE)
        return
    _files.remove([MANIFEST, *(n for n in remote_names(root, fs) if SEGMENT.fullmatch(n))], root, fs)


def _writes_in_place(fs: Any) -> bool:
    """Whether a put overwrites a local file: a file system derived from the local one, or
    one wrapped around it."""
    from fsspec.implementations.local import LocalFileSystem

    while not isinstance(fs, LocalFileSystem):
        fs = getattr(fs, "fs", None)
        if fs is None:
            return False
    return True


class Remote:
    """A pack on another file system, mirrored in a temporary local directory.

    A commit there needs the manifest, and segments only when many have to be merged;
    what it wrote goes up afterwards, the manifest last, so that a reader finds the old
    generation or the new one. There is no lock: the manifest is looked at once more right
    before it is put, so two writers overlook each other only when one puts it within that
    moment of the other.
    """

    def __init__(self, root: str, fs: Any) -> None:
        self.root = root
        self.fs = fs
        self._tmp = tempfile.TemporaryDirectory(prefix="pannier-")
        self.dir = self._tmp.name

    def __enter__(self) -> "Remote":
        try:
            self._fetch_manifest()
        except BaseException:
            self._tmp.cleanup()
            raise
        return self

    def __exit__(self, *exc: Any) -> None:
        self._tmp.cleanup()

    def _fetch(self, name: str) -> None:
        data = self.fs.cat_file(f"{self.root}/{name}")
        with open(os.path.join(self.dir, name), "wb") as f:
            f.write(data)

    def _fetch_manifest(self) -> None:
        self.had: Dict[str, int] = {}
        self.generation = 0
        self.read = self._current()
        if self.read is None:
            return
        with open(os.path.join(self.dir, MANIFEST), "wb") as f:
            f.write(self.read)
        found = _core.pack_manifest(self.dir)
        if found and found["generations"]:
            self.had = dict(found["segments"])
            self.generation = found["generations"][-1]["number"]

    def _current(self) -> Optional[bytes]:
        """The manifest's bytes as they are there now."""
        try:
            return bytes(self.fs.cat_file(f"{self.root}/{MANIFEST}"))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fetch_segments(self, names: Any) -> None:
        for name in names:
            self._fetch(name)

    def prepare_merge(self) -> None:
        """Fetches the current generation's segments when the next commit will merge them."""
        found = _core.pack_manifest(self.dir)
        current = found["generations"][-1]["segments"] if found and found["generations"] else []
        if len(current) >= MAX_SEGMENTS:
            self.fetch_segments(current)

    def upload(self) -> None:
        """Puts new segments, then the manifest, then deletes what nothing refers to."""
        found = _core.pack_manifest(self.dir)
        if found is None:
            return
        with open(os.path.join(self.dir, MANIFEST), "rb") as f:
            manifest = f.read()
        if manifest == self.read:
            return
        if not self.fs.exists(self.root):
            self.fs.makedirs(self.root, exist_ok=True)
        for name in found["segments"]:
            if name not in self.had:
                with open(os.path.join(self.dir, name), "rb") as f:
                    self.fs.pipe_file(f"{self.root}/{name}", f.read())
        if self._current() != self.read:
            raise ConflictError(
                f"another writer has committed to the pack in {self.root} meanwhile. Nothing was changed. Open it "
                "again (reload(), or a new context), repeat the change there and persist."
            )
        self._put_manifest(manifest)
        self._sweep(found["segments"])

    def _put_manifest(self, manifest: bytes) -> None:
        target = f"{self.root}/{MANIFEST}"
        if not _writes_in_place(self.fs):
            self.fs.pipe_file(target, manifest)
            return
        staged = f"{self.root}/{_files.OWN_PREFIX}{MANIFEST}"
        self.fs.pipe_file(staged, manifest)
        self.fs.mv(staged, target)

    def _sweep(self, listed: Any) -> None:
        """Segments of generations before ours that the manifest does not list. (A later
        one is of a writer that is under way; if it fails, the next commit removes it.)
        The commit has happened, whatever becomes of this."""
        try:
            for name in remote_names(self.root, self.fs):
                if SEGMENT.fullmatch(name) and name not in listed and int(name[4:20], 16) <= self.generation:
                    self.fs.rm_file(f"{self.root}/{name}")
        except Exception as e:
            logger.debug(f"not all outdated segments in {self.root} were removed: {e!r}")


def _open_remote(root: str, fs: Any, generation: int, check: bool) -> Any:
    for attempt in range(MAX_OPENS):
        with Remote(root, fs) as mirror:
            found = _core.pack_manifest(mirror.dir)
            if not found or not found["generations"]:
                return None
            wanted = [g for g in found["generations"] if g["number"] == (generation or found["generations"][-1]["number"])]
            try:
                for g in wanted:
                    mirror.fetch_segments(g["segments"])
            except FileNotFoundError:
                if attempt + 1 < MAX_OPENS:
                    continue  # the manifest was replaced meanwhile
                raise
            return _core.Pack.open(mirror.dir, generation, check, True)
    return None
