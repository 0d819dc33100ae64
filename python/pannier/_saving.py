"""Persisting: what each store's file holds, and the two formats that it can go to.

*JSON* is LlamaIndex's layout: everything is encoded, then all files change at once
(``_files.write_files``). *Pack* gathers what changed in each store since the last
commit and writes one segment (``_core.PackBatch``). Stores that pannier cannot encode
persist themselves, before anything else is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from contextlib import nullcontext
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import fsspec
from llama_index.core.graph_stores import simple as peer_graph
from llama_index.core.graph_stores import simple_labelled as peer_property_graph
from llama_index.core.storage.docstore import simple_docstore as peer_docstore
from llama_index.core.storage.index_store import simple_index_store as peer_index_store
from llama_index.core.storage.kvstore import simple_kvstore as peer_kvstore
from llama_index.core.utils import get_tqdm_iterable
from llama_index.core.vector_stores import simple as peer_vector

from pannier import _core, _files, _pack
from pannier._encoding import explain
from pannier.docstore import SimpleDocumentStore
from pannier.errors import UnserializableError
from pannier.index_store import SimpleIndexStore
from pannier.kvstore import SimpleKVStore
from pannier.vector_store import NativeVectorData, SimpleVectorStore

# LlamaIndex's classes themselves, whatever its modules' names are rebound to later.
_PeerKVStore = peer_kvstore.SimpleKVStore
_PEER_KV_BACKED = (peer_docstore.SimpleDocumentStore, peer_index_store.SimpleIndexStore)
_KV_BACKED = (SimpleDocumentStore, SimpleIndexStore)
_PeerVectorStore = peer_vector.SimpleVectorStore
_PeerGraphStore = peer_graph.SimpleGraphStore
_PeerPropertyGraphStore = peer_property_graph.SimplePropertyGraphStore

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


# ----- What a store's file holds -----


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


def payload_of(label: str, store: Any) -> Any:
    """The content of a store's file, or None when it has to persist itself."""
    try:
        if "persist" in getattr(store, "__dict__", ()):
            return None
        if type(store) in _KV_BACKED or type(store) in _PEER_KV_BACKED:
            return _encode_kv(label, store._kvstore)
        if not _encodes_itself(store):
            return _encode_peer(label, store)
        return store._pn_encode(label) if isinstance(store, SimpleVectorStore) else store._pn_encode()
    except UnserializableError as e:
        if not e.store:
            e.store = label
        raise
    except TypeError as e:
        raise UnserializableError(f"{label}: {e}", store=label) from e


def _encodes_itself(store: Any) -> bool:
    """Whether a store is pannier's and nobody has put another ``persist`` over it."""
    cls = type(store)
    if not hasattr(cls, "_pn_encode"):
        return False
    owner = next((c for c in cls.__mro__ if "persist" in vars(c)), cls)
    if owner.__module__.partition(".")[0] != "pannier":
        return False
    kvstore = getattr(store, "_kvstore", None)
    return kvstore is None or _encodes_itself(kvstore)


def _encode_kv(label: str, kvstore: Any) -> Any:
    """The file of a document or index store over this key-value store."""
    if "persist" in getattr(kvstore, "__dict__", ()):
        return None
    if type(kvstore) is _PeerKVStore:
        return _dumps(label, kvstore._collections_mappings)
    return kvstore._pn_encode(label) if _encodes_itself(kvstore) else None


def _encode_peer(label: str, store: Any) -> Optional[bytes]:
    """The file of a store that is exactly LlamaIndex's own, else None."""
    cls = type(store)
    if cls is _PeerVectorStore:
        return _dumps(label, store.data.to_dict())
    if cls is _PeerGraphStore:
        return _dumps(label, store._data.to_dict())
    if cls is _PeerPropertyGraphStore:
        return store.graph.model_dump_json().encode("utf-8")
    return None


def _dumps(label: str, value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except TypeError as e:
        raise explain(e, label, "", value) from e


# ----- JSON -----


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


def persist_foreign(foreign: List[Target], fs: Optional[fsspec.AbstractFileSystem], steps: Steps) -> None:
    """Lets each store persist itself, under the file name LlamaIndex gives it."""
    for label, store, path in foreign:
        _make_folder(path, fs)
        store.persist(persist_path=path, fs=fs)
        steps.step(label)


# ----- Pack -----


class PackResult(NamedTuple):
    """What a persist into a pack did."""

    id: bytes
    generation: int  # now current
    bytes: int  # written
    wrote: bool  # False: nothing had changed


class _Gathering:
    """One commit into a pack, store by store.

    A store that is native and was last saved in this very pack is written as what
    changed; any other one whole. Of the latter the text's digest is kept, so that the
    same text is not written twice.
    """

    def __init__(self, pack_id: Optional[bytes]) -> None:
        self.batch = _core.PackBatch()
        self.id = pack_id
        self.bases: List[Tuple[str, bytes, int]] = []
        self.noted: List[Tuple[Any, str, bytes]] = []  # (object, store, digest) to be given a base
        self.tables: Dict[str, Any] = {}  # name -> native table; a table has one base, so one name
        self.stores: Dict[str, Any] = {}  # name -> (label, object), for messages

    def add(self, label: str, store: Any, name: str) -> bool:
        """Takes a store on; False when it has to persist itself."""
        self.stores[name] = (label, store)
        table = _native_table(store)
        if table is not None and not any(table is t for t in self.tables.values()):
            self.tables[name] = table
            return True
        return self._add_payload(label, store, name)

    def gather(self) -> None:
        """The native tables, all at one moment.

        Raises:
            CorruptPackError: what one of them was read from is damaged.
        """
        items = []
        for name, table in self.tables.items():
            whole = self._base(table, name) is None
            items.append((name, table._table if isinstance(table, NativeVectorData) else table, whole))
        became_plain = self.batch.gather(items)
        self.noted += [(table, name, b"") for name, table in self.tables.items() if name not in became_plain]
        for name in became_plain:
            label, store = self.stores[name]
            self._add_payload(label, store, name)

    def _base(self, holder: Any, name: str) -> Optional[_pack.Base]:
        base = _pack.bases.get(holder)
        if base is None or base.id != self.id or base.name != name:
            return None
        self.bases.append((base.name, base.id, base.changed))
        return base

    def _add_payload(self, label: str, store: Any, name: str) -> bool:
        payload = payload_of(label, store)
        if payload is None:
            return False
        holder = _identity_of(store)
        base = self._base(holder, name)
        digest = hashlib.sha256(payload).digest()
        self.noted.append((holder, name, digest))
        if base is None or base.digest != digest:
            self._add_text(store, name, payload)
        return True

    def _add_text(self, store: Any, name: str, payload: Any) -> None:
        """A store that is written whole; as tables where its file has that shape."""
        if isinstance(store, (_PeerKVStore, *_KV_BACKED, *_PEER_KV_BACKED)):
            table = SimpleKVStore()
            if table._load(payload) and not self.batch.gather([(name, table, True)]):
                return
        elif isinstance(store, _PeerVectorStore):
            vectors = _core.VectorTable.load(payload)
            if vectors is not None:
                self.batch.gather([(name, vectors, True)])
                return
        self.batch.text(name, payload)

    def encode(self) -> None:
        """Live values to text.

        Raises:
            UnserializableError: a value that JSON cannot hold, with its key path.
        """
        try:
            self.batch.encode()
        except TypeError as e:
            place = getattr(e, "pn_place", None)
            if place is None:
                raise UnserializableError(str(e)) from e
            label, store = self.stores[place[0]]
            raise explain(e, label, f"{place[1]}[{place[2]!r}]", _value_at(store, place[1], place[2])) from e

    def saved(self, result: PackResult, changed: Any, before: Dict[str, Tuple[int, int]]) -> None:
        """The commit is durable: every store builds on it from now on."""
        self.batch.settle(True)
        for holder, name, digest in self.noted:
            at = result.generation if name in changed else before.get(name, (0, result.generation))[1]
            _pack.bases.set(holder, _pack.Base(name, result.id, at, digest))


def _identity_of(store: Any) -> Any:
    """The object that a store's base is kept with, when it is written whole."""
    if isinstance(store, (*_KV_BACKED, *_PEER_KV_BACKED)):
        return store._kvstore
    return store.data if isinstance(store, _PeerVectorStore) else store


def _native_table(store: Any) -> Any:
    """The KVTable or NativeVectorData behind a store that is nobody's but ours."""
    if "persist" in getattr(store, "__dict__", ()):
        return None
    if type(store) in (SimpleKVStore, *_KV_BACKED, *_PEER_KV_BACKED):
        kvstore = store if type(store) is SimpleKVStore else store._kvstore
        mine = type(kvstore) is SimpleKVStore and "persist" not in kvstore.__dict__
        return kvstore if mine and kvstore._plain() is None else None
    if type(store) is SimpleVectorStore:
        data = store.data
        return data if type(data) is NativeVectorData else None
    return None


def _value_at(store: Any, table: str, key: str) -> Any:
    try:
        if isinstance(store, (SimpleKVStore, *_KV_BACKED, *_PEER_KV_BACKED)):
            return getattr(store, "_kvstore", store)._live(table, key)
        return getattr(store.data, table)[key]
    except Exception:  # its own code removed it meanwhile
        return {}


def persist_pack(
    targets: List[Target],
    persist_dir: str,
    fs: Optional[fsspec.AbstractFileSystem],
    steps: Steps,
    keep: int = 0,
) -> PackResult:
    """Every store into the directory's pack, as one new generation.

    JSON files of the same stores are removed once the commit is durable.

    Args:
        keep: generations to keep; 0: as before (3 for a new pack).

    Raises:
        UnserializableError, ConflictError, LockedError, CommitError, ...: nothing changed.
    """
    with _one_at_a_time:
        return _persist_pack(targets, persist_dir, fs, steps, keep)


# What a store has changed is gathered by one commit at a time.
_one_at_a_time = threading.RLock()


def _new_lock_in_child() -> None:
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


os.register_at_fork(after_in_child=_new_lock_in_child)


def _persist_pack(
    targets: List[Target], persist_dir: str, fs: Optional[fsspec.AbstractFileSystem], steps: Steps, keep: int
) -> PackResult:
    found = _pack.manifest(persist_dir, fs)
    current = found["generations"][-1] if found else {"stores": {}, "foreign": {}}
    gathering = _Gathering(found["id"] if found else None)
    try:
        foreign = []
        for label, store, path in targets:
            if gathering.add(label, store, os.path.basename(path)):
                steps.step(label)
            else:
                foreign.append((label, store, path))
        gathering.gather()
        gathering.encode()
        persist_foreign(foreign, fs, steps)
        result = _commit(gathering, persist_dir, fs, _foreign_note(targets, foreign, current), current, keep)
    except BaseException:
        gathering.batch.settle(False)
        raise
    steps.step("commit")
    steps.finish()
    return result


def _foreign_note(
    targets: List[Target], foreign: List[Target], current: Dict[str, Any]
) -> Tuple[Tuple[str, str], ...]:
    """The stores that are not pannier's, those persisted now and those from before."""
    note = dict(current["foreign"])
    for _, _, path in targets:
        note.pop(os.path.basename(path), None)
    for _, store, path in foreign:
        note[os.path.basename(path)] = f"{type(store).__module__}.{type(store).__qualname__}"
    return tuple(note.items())


def _commit(
    gathering: _Gathering,
    persist_dir: str,
    fs: Optional[fsspec.AbstractFileSystem],
    foreign: Tuple[Tuple[str, str], ...],
    current: Dict[str, Any],
    keep: int,
) -> PackResult:
    own = {name for name in (*current["stores"], *gathering.stores)} - {name for name, _ in foreign}
    outdated = _pack.outdated_json(persist_dir, fs, own)
    privacy = nullcontext()
    if outdated and _files.unwrap_local(fs):
        privacy = _pack.as_private_as(persist_dir, outdated[0][0])
    with privacy, _pack.writable(persist_dir, fs) as root:
        *done, changed = gathering.batch.commit(
            root,
            tuple(gathering.bases),
            foreign,
            outdated,
            _pack.writer_note(),
            time.time_ns(),
            keep,
            _pack.PATIENCE,
        )
    result = PackResult(*done)
    gathering.saved(result, changed, current["stores"])
    _files.remove([name for name, *_ in outdated], persist_dir, fs)
    return result


# ----- Either -----


def format_of(directory: str, fs: Optional[fsspec.AbstractFileSystem]) -> Optional[str]:
    """The format of a directory's stores: "pack", "json", or None when it has none.

    Raises:
        MixedFormatError: it has both and it is not clear which counts.
    """
    found = _pack.manifest(directory, fs)
    if found:
        _pack.refuse_mixture(str(directory), fs, found["generations"][-1])
        return "pack"
    try:
        names = _files.listdir(directory, fs)
    except OSError:
        return None
    return "json" if any(name.endswith(".json") for name in names) else None


def persist_alone(label: str, store: Any, persist_path: Any, fs: Optional[fsspec.AbstractFileSystem]) -> bool:
    """One store into the pack of the directory that its file would lie in.

    Returns:
        False when the directory's stores are JSON files: nothing was done.

    Raises:
        UnserializableError, ConflictError, CommitError, ...: as ``StorageContext.persist``.
    """
    path = os.fspath(persist_path)
    directory = os.path.dirname(path)
    if format_of(directory, fs) != "pack":
        return False
    persist_pack([(label, store, path)], directory, fs, Steps(None, 2))
    return True


def left_pack(persist_dir: str, fs: Optional[fsspec.AbstractFileSystem], names: Any) -> None:
    """Removes the pack, once the JSON files count; those are then as private as it was."""
    if _files.unwrap_local(fs):
        root = _files.local_path(persist_dir)
        mode = os.stat(os.path.join(root, _pack.MANIFEST)).st_mode & 0o777
        for name in names:
            path = os.path.join(root, name)
            if os.path.isfile(path) and os.stat(path).st_mode & 0o777 & ~mode:
                os.chmod(path, mode)
    _pack.retire(persist_dir, fs)


def leave_pack(persist_dir: str, fs: Optional[fsspec.AbstractFileSystem], taken: Any) -> Dict[str, Any]:
    """The files that make a directory's JSON count instead of its pack: path -> bytes.

    They are committed together with the stores' own: the stores of the pack that are
    not among ``taken`` (names), and a manifest without generations.
    """
    pack = _pack.open_pack(persist_dir, fs, mixed=True)
    if pack is None:
        return {}
    manifest = pack.core.manifest
    files = {_joined(persist_dir, name, fs): pack.core.text(name) for name in pack.stores if name not in taken}
    files[_joined(persist_dir, _pack.MANIFEST, fs)] = _core.retired_manifest(manifest["id"], manifest["keep"])
    return files


def _joined(directory: str, name: str, fs: Optional[fsspec.AbstractFileSystem]) -> str:
    return os.path.join(directory, name) if _files.unwrap_local(fs) else f"{str(directory).rstrip('/')}/{name}"
