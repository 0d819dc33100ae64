"""Persisting: what each store's file holds, and the two formats that it can go to.

*JSON* is LlamaIndex's layout: everything is encoded, then all files change at once
(``_files.write_files``). *Pack* gathers what changed in each store since the last
commit and writes one segment (``_core.PackBatch``). Stores that pannier cannot encode
persist themselves, before anything else is written.
"""

from __future__ import annotations

import itertools
import json
import operator
import os
import threading
import time
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple, Union

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
from pannier.errors import LockedError, OutcomeUnknownError, PannierError, UnserializableError
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


def payload_of(label: str, store: Any, alone: bool = False) -> Any:
    """The content of a store's file, or None when it has to persist itself.

    Args:
        alone: whatever a subclass makes of ``persist``.
    """
    try:
        if alone and _has_own_file(store):
            return _encode_own(label, store)
        if "persist" in getattr(store, "__dict__", ()):
            return None
        if type(store) in _KV_BACKED or type(store) in _PEER_KV_BACKED:
            return _encode_kv(label, store._kvstore)
        return _encode_own(label, store) if _encodes_itself(store) else _encode_peer(label, store)
    except UnserializableError as e:
        if not e.store:
            e.store = label
        raise
    except TypeError as e:
        raise UnserializableError(f"{label}: {e}", store=label) from e


def _encode_own(label: str, store: Any) -> Any:
    return store._pn_encode(label) if isinstance(store, SimpleVectorStore) else store._pn_encode()


def _has_own_file(store: Any) -> bool:
    """Whether pannier's ``persist`` of the store writes its file itself, instead of
    calling that of a key-value store of somebody else's."""
    return type(store._kvstore) is SimpleKVStore if isinstance(store, _KV_BACKED) else hasattr(store, "_pn_encode")


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


_persisting_itself: ContextVar[Any] = ContextVar("pannier_persisting_itself", default=None)


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


# ----- Pack -----


PATIENT_ATTEMPTS = 8  # a store that is given another table ever again is taken as it was


class PackResult(NamedTuple):
    """What a persist into a pack did."""

    id: bytes
    generation: int  # now current
    bytes: int  # written
    wrote: bool  # False: nothing had changed


class _Turns:
    """One commit at a time takes from a store what changed in it. Others wait for it."""

    def __init__(self) -> None:
        self._ended = threading.Condition()
        self._taken: Dict[int, Tuple[Any, int]] = {}  # id -> (store object, thread)
        self.gatherings: Set["_Gathering"] = set()  # under way

    def begin(self, label: str, holders: List[Any]) -> None:
        """Waits until no other thread's commit has any of them.

        Raises:
            RuntimeError: this thread's has, and is running the caller.
            LockedError: it takes too long.
        """
        me = threading.get_ident()
        with self._ended:
            if any(self._taken.get(id(h), (h, None))[1] == me for h in holders):
                raise RuntimeError(
                    f"the {label} is being persisted, and that runs the code that persists it again. Nothing was changed."
                )
            if not self._ended.wait_for(lambda: self._taken.keys().isdisjoint(map(id, holders)), _pack.PATIENCE / 1000):
                raise LockedError(
                    f"another thread is persisting the {label}. Nothing was changed. Persist again when it is done."
                )
            self._taken.update((id(h), (h, me)) for h in holders)

    def end(self, holders: List[Any]) -> None:
        me = threading.get_ident()
        with self._ended:
            for h in holders:
                if self._taken.get(id(h), (h, None))[1] == me:
                    del self._taken[id(h)]
            self._ended.notify_all()


_turns = _Turns()


def _after_fork() -> None:
    """The threads that were persisting are not in this process: what they took counts as
    changed still."""
    global _turns
    gatherings = _turns.gatherings
    _turns = _Turns()
    for gathering in gatherings:
        if gathering.thread != threading.get_ident():
            gathering.batch.abandon()


os.register_at_fork(after_in_child=_after_fork)


class _Gathering:
    """One commit into a pack, store by store.

    A store that is native and was last saved in this very pack is written as what
    changed; any other one whole. Of the latter the text's digest is kept, so that the
    same text is not written twice.

    Args:
        found: the manifest of the pack; None for a new one.
        place: where that is.
        as_text: names of stores with values that only text can hold.
        alone: the store's ``persist`` was called, which a subclass may have put another
            over: it is written as its class of pannier's does.
    """

    def __init__(
        self, found: Optional[Dict[str, Any]], place: Optional[_pack.Place], as_text: Set[str], alone: bool
    ) -> None:
        self.batch = _core.PackBatch()
        self.id: Optional[bytes] = found["id"] if found else None
        self.generation = found["generations"][-1]["number"] if found else 0
        self.place = place
        self.as_text = as_text
        self.alone = alone
        self.thread = threading.get_ident()
        self.bases: List[Tuple[str, bytes, int]] = []
        self.noted: List[Tuple[Any, _pack.Base]] = []  # what is to be given a base, and the one it has
        self.tables: Dict[str, Any] = {}  # name -> native table, each once: what changed in it is told once
        self.stores: Dict[str, Any] = {}  # name -> (label, object), for messages

    def gather(self, targets: List[Target]) -> List[Target]:
        """All stores: the native tables at one moment, the others right before it.

        Returns:
            Those that have to persist themselves.

        Raises:
            CorruptPackError: what a table was read from is damaged.
            UnserializableError: a value that JSON cannot hold.
        """
        others = [target for target in targets if not self._take_table(*target)]
        foreign: List[Target] = []

        def encode_others() -> None:
            foreign.extend(target for target in others if not self._add_payload(*target))

        found = {name: self._base(table, name) for name, table in self.tables.items()}
        became_plain = self.batch.gather(
            [
                (name, table._table if isinstance(table, NativeVectorData) else table, base is None or not base.tracked)
                for (name, table), base in zip(self.tables.items(), found.values())
            ],
            encode_others,
        )
        for name, table in self.tables.items():
            if name not in became_plain:
                self._note(table, name, found[name], b"")
        for name in became_plain:
            self._add_payload(*self.stores[name], name)
        return foreign

    def _take_table(self, label: str, store: Any, path: str) -> bool:
        """Whether a store is a native table, which is gathered with the others."""
        name = os.path.basename(path)
        self.stores[name] = (label, store)
        table = _native_table(store) if name not in self.as_text else None
        if table is None or any(table is t for t in self.tables.values()):
            return False
        self.tables[name] = table
        return True

    def moved(self) -> bool:
        """Whether a store let go of its table while that was gathered."""
        return any(_native_table(self.stores[name][1]) is not table for name, table in self.tables.items())

    def _base(self, holder: Any, name: str) -> Optional[_pack.Base]:
        base = _pack.bases.get(holder, self.place, name, self.id)
        if base is not None:
            self.bases.append((name, base.id, base.changed))
        return base

    def _note(self, holder: Any, name: str, base: Optional[_pack.Base], digest: bytes) -> None:
        old = base or _pack.Base(self.place, name, self.id or b"", 0)
        self.noted.append((holder, old._replace(digest=digest, tracked=not digest)))

    def _add_payload(self, label: str, store: Any, path: str) -> bool:
        name = os.path.basename(path)
        payload = payload_of(label, store, self.alone)
        if payload is None:
            return False
        holder = _identity_of(store)
        base = self._base(holder, name)
        digest = _pack.digest_of(payload)
        self._note(holder, name, base, digest)
        if base is None or base.digest != digest:
            self._add_text(store, name, payload)
        return True

    def _add_text(self, store: Any, name: str, payload: Any) -> None:
        """A store that is written whole; as tables where its file has that shape."""
        if name in self.as_text:
            pass
        elif isinstance(store, (_PeerKVStore, *_KV_BACKED, *_PEER_KV_BACKED)):
            table = SimpleKVStore()
            if table._load(payload) and not self.batch.gather([(name, table, True)]):
                return
        elif isinstance(store, _PeerVectorStore):
            vectors = _core.VectorTable.load(payload)
            if vectors is not None:
                self.batch.gather([(name, vectors, True)])
                return
        self.batch.text(name, payload)

    def encode(self) -> Optional[str]:
        """Live values to text.

        Returns:
            None, or the name of a store that has to be gathered as text.

        Raises:
            UnserializableError: a value that JSON cannot hold, with its key path.
        """
        try:
            return self.batch.encode()
        except TypeError as e:
            place = getattr(e, "pn_place", None)
            if place is None:
                raise UnserializableError(str(e)) from e
            label, store = self.stores[place[0]]
            raise explain(e, label, f"{place[1]}[{place[2]!r}]", _value_at(store, place[1], place[2])) from e

    def saved(self, result: PackResult, changed: Any, before: Dict[str, Tuple[int, int]], place: Any) -> None:
        """The commit is durable: every store builds on it from now on."""
        self.batch.settle(True)
        for holder, base in self.noted:
            at = result.generation if base.name in changed else before.get(base.name, (0, result.generation))[1]
            _pack.bases.set(holder, base._replace(place=place, id=result.id, changed=at))

    def settle_doubt(self, now: Optional[Dict[str, Any]], time: int, place: Any) -> None:
        """The commit was cut off: it was made if its generation is there.

        Args:
            now: the manifest as it is.
            time: of the commit, by which it is known.
        """
        for g in now["generations"] if now is not None else ():
            if g["time"] == time:
                changed = {name for name, (_, at) in g["stores"].items() if at == g["number"]}
                self.saved(PackResult(now["id"], g["number"], 0, True), changed, g["stores"], place)


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
        return store.data if store._table() is not None else None
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
    alone: bool = False,
) -> PackResult:
    """Every store into the directory's pack, as one new generation.

    JSON files of the same stores are removed once the commit is durable.

    Args:
        keep: generations to keep; 0: as before (3 for a new pack).
        alone: the only store's own ``persist`` was called.

    Raises:
        UnserializableError, ConflictError, LockedError, CommitError, ...: nothing changed.
    """
    if not 0 <= operator.index(keep) <= _pack.MAX_KEEP:
        raise ValueError(f"keep must be 0 to {_pack.MAX_KEEP}, not {keep!r}")
    # The last of equal names wins, as it does among files.
    targets = list({os.path.basename(path): (label, store, path) for label, store, path in targets}.values())
    holders = [_identity_of(store) for _, store, _ in targets]
    _turns.begin(targets[0][0], holders)
    try:
        as_text: Set[str] = set()
        for attempt in itertools.count():
            gathering = _Gathering(_pack.manifest(persist_dir, fs), _pack.place_of(persist_dir, fs), as_text, alone)
            result = _persist_gathered(gathering, targets, persist_dir, fs, steps, keep, attempt)
            if result is not None:
                break
    finally:
        _turns.end(holders)
    steps.step("commit")
    steps.finish()
    return result


def _persist_gathered(
    gathering: _Gathering,
    targets: List[Target],
    persist_dir: str,
    fs: Optional[fsspec.AbstractFileSystem],
    steps: Steps,
    keep: int,
    attempt: int,
) -> Optional[PackResult]:
    """None: it has to be begun again, with one more store as text, or since one was given
    another table meanwhile."""
    _turns.gatherings.add(gathering)
    try:
        foreign = gathering.gather(targets)
        if gathering.moved() and attempt < PATIENT_ATTEMPTS:
            return None
        as_text = gathering.encode()
        if as_text is not None:
            gathering.as_text.add(as_text)
            return None
        for target in targets:
            if target not in foreign:
                steps.step(target[0])
        _turns.end([_identity_of(store) for _, store, _ in foreign])  # they may come back each by itself
        persist_foreign(foreign, fs, steps)
        return _commit(gathering, persist_dir, fs, targets, foreign, keep)
    finally:
        gathering.batch.settle(False)  # what was not saved counts as changed still
        _turns.gatherings.discard(gathering)


def _foreign_note(
    targets: List[Target], foreign: List[Target], current: Dict[str, Any], before: int
) -> Tuple[Tuple[str, str], ...]:
    """The stores that are not pannier's, those persisted now and those from before. One
    that has put itself into the pack, after generation ``before``, is none."""
    note = dict(current["foreign"])
    for _, _, path in targets:
        note.pop(os.path.basename(path), None)
    for _, store, path in foreign:
        name = os.path.basename(path)
        if current["stores"].get(name, (0, 0))[1] <= before:
            note[name] = f"{type(store).__module__}.{type(store).__qualname__}"
    return tuple(note.items())


def _commit(
    gathering: _Gathering,
    persist_dir: str,
    fs: Optional[fsspec.AbstractFileSystem],
    targets: List[Target],
    foreign: List[Target],
    keep: int,
) -> PackResult:
    found = _pack.manifest(persist_dir, fs)
    current = found["generations"][-1] if found else {"stores": {}, "foreign": {}}
    note = _foreign_note(targets, foreign, current, gathering.generation)
    own = {name for name in (*current["stores"], *gathering.stores)} - {name for name, _ in note}
    outdated = _pack.outdated_json(persist_dir, fs, own)
    now = time.time_ns()
    private = bool(outdated) and _files.unwrap_local(fs)
    privacy = _pack.as_private_as(persist_dir, outdated[0][0]) if private else nullcontext()
    try:
        with privacy, _pack.writable(persist_dir, fs) as root:
            *done, changed = gathering.batch.commit(
                root, tuple(gathering.bases), note, outdated, _pack.writer_note(), now, keep, _pack.PATIENCE
            )
    except BaseException as e:
        if isinstance(e, OutcomeUnknownError) or not isinstance(e, PannierError):  # KeyboardInterrupt, for one
            gathering.settle_doubt(_pack.manifest(persist_dir, fs), now, _pack.place_of(persist_dir, fs))
        raise
    result = PackResult(*done)
    gathering.saved(result, changed, current["stores"], _pack.place_of(persist_dir, fs))
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
    if _persisting_itself.get() is store and not _has_own_file(store):
        return False  # its file lies beside the pack, as whoever persists it notes there
    persist_pack([(label, store, path)], directory, fs, Steps(None, 2), alone=True)
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
