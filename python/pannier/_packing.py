"""Persisting into a pack: what changed in each store since the last commit is gathered and
written as one segment (``_core.PackBatch``); and the way out of a pack, back to JSON files.

Stores that pannier cannot encode persist themselves, before anything else is written.
"""

from __future__ import annotations

import itertools
import operator
import os
import threading
import time
from contextlib import nullcontext
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

import fsspec

from pannier import _core, _files, _pack
from pannier._encoding import explain
from pannier._payloads import KV_BACKED, PEER_KV_BACKED, PeerKVStore, PeerVectorStore, has_own_file, payload_of
from pannier._saving import Steps, Target, format_of, is_persisting_itself, persist_foreign
from pannier.errors import LockedError, OutcomeUnknownError, PannierError, UnserializableError
from pannier.graph_store import SimpleGraphStore
from pannier.kvstore import SimpleKVStore
from pannier.vector_store import NativeVectorData, SimpleVectorStore

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

    def begin(self, label: str, holders: List[Any]) -> bool:
        """Waits until no other thread's commit has any of them.

        Returns:
            Whether one had.

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
            waits = not self._are_free(holders)
            if waits and not self._ended.wait_for(lambda: self._are_free(holders), _pack.PATIENCE / 1000):
                raise LockedError(
                    f"another thread is persisting the {label}. Nothing was changed. Persist again when it is done."
                )
            self._taken.update((id(h), (h, me)) for h in holders)
            return waits

    def _are_free(self, holders: List[Any]) -> bool:
        return self._taken.keys().isdisjoint(map(id, holders))

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

        found = {name: self._base_of_table(table, name) for name, table in self.tables.items()}
        became_plain = self.batch.gather(
            [
                (name, table._table if isinstance(table, NativeVectorData) else table, base is None or not base.tracked)
                for (name, table), base in zip(self.tables.items(), found.values())
            ],
            encode_others,
        )
        for name, table in self.tables.items():
            if name not in became_plain:
                self._note_table(table, name, found[name])
        for name in became_plain:
            self._add_payload(*self.stores[name], name)
        return foreign

    def _take_table(self, label: str, store: Any, path: str) -> bool:
        """Whether a store is a native table, which is gathered with the others."""
        name = os.path.basename(path)
        self.stores[name] = (label, store)
        table = _native_table(store) if name not in self.as_text else None
        if table is None or any(table is t for t in self.tables.values()) or self._is_the_text(label, store, table, name):
            return False
        self.tables[name] = table
        return True

    def _is_the_text(self, label: str, store: Any, table: Any, name: str) -> bool:
        """Whether the pack has a table that was read from it as text, and that is the same
        still: it needs not be written for what it is now."""
        base = _pack.bases.get(_identity_of(store), self.place, name, self.id)
        if base is None or not base.digest or _pack.bases.get(table, self.place, name, self.id) is not None:
            return False
        return _pack.digest_of(payload_of(label, store, self.alone)) == base.digest

    def moved(self) -> bool:
        """Whether a store let go of its table while that was gathered."""
        return any(_native_table(self.stores[name][1]) is not table for name, table in self.tables.items())

    def _base(self, *holders: Any, name: str) -> Optional[_pack.Base]:
        """The newest of the holders' bases, the first of them if they are equal."""
        bases = [_pack.bases.get(holder, self.place, name, self.id) for holder in holders]
        base = max((b for b in bases if b is not None), key=lambda b: b.changed, default=None)
        if base is not None:
            self.bases.append((name, base.id, base.changed))
        return base

    def _base_of_table(self, table: Any, name: str) -> Optional[_pack.Base]:
        """A store that can be given another table knows by itself what it was saved as: that
        counts when it is newer, and says that the table is to be written whole."""
        return self._base(table, _identity_of(self.stores[name][1]), name=name)

    def _note_table(self, table: Any, name: str, base: Optional[_pack.Base]) -> None:
        self._note(table, name, base, tracked=True)
        holder = _identity_of(self.stores[name][1])
        if holder is not table:
            self._note(holder, name, base)

    def _note(
        self, holder: Any, name: str, base: Optional[_pack.Base], digest: bytes = b"", tracked: bool = False
    ) -> None:
        old = base or _pack.Base(self.place, name, self.id or b"", 0)
        self.noted.append((holder, old._replace(digest=digest, tracked=tracked)))

    def _add_payload(self, label: str, store: Any, path: str) -> bool:
        name = os.path.basename(path)
        payload = payload_of(label, store, self.alone)
        if payload is None:
            return False
        holder = _identity_of(store)
        base = self._base(holder, name=name)
        digest = _pack.digest_of(payload)
        self._note(holder, name, base, digest)
        if base is None or base.digest != digest:
            self._add_text(store, name, payload)
        return True

    def _add_text(self, store: Any, name: str, payload: Any) -> None:
        """A store that is written whole; as tables where its file has that shape."""
        if name in self.as_text:
            pass
        elif isinstance(store, (PeerKVStore, *KV_BACKED, *PEER_KV_BACKED)):
            table = SimpleKVStore()
            if table._load(payload) and not self.batch.gather([(name, table, True)]):
                return
        elif isinstance(store, PeerVectorStore):
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


def _holders_of(targets: List[Target]) -> List[Any]:
    """What a commit of the stores takes from."""
    tables = [_native_table(store) for _, store, _ in targets]
    return [_identity_of(store) for _, store, _ in targets] + [table for table in tables if table is not None]


def _identity_of(store: Any) -> Any:
    """The object that a store's base is kept with, when it is written whole."""
    if isinstance(store, (*KV_BACKED, *PEER_KV_BACKED)):
        return store._kvstore
    return store.data if isinstance(store, PeerVectorStore) else store


def _native_table(store: Any) -> Any:
    """The KVTable, NativeVectorData or TripletTable behind a store that is nobody's but ours."""
    if "persist" in getattr(store, "__dict__", ()):
        return None
    if type(store) in (SimpleKVStore, *KV_BACKED, *PEER_KV_BACKED):
        kvstore = store if type(store) is SimpleKVStore else store._kvstore
        mine = type(kvstore) is SimpleKVStore and "persist" not in kvstore.__dict__
        return kvstore if mine and kvstore._plain() is None else None
    if type(store) is SimpleVectorStore:
        return store.data if store._table() is not None else None
    if type(store) is SimpleGraphStore:
        return store._table()
    return None


def _value_at(store: Any, table: str, key: str) -> Any:
    try:
        if isinstance(store, (SimpleKVStore, *KV_BACKED, *PEER_KV_BACKED)):
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
    found: Optional[Dict[str, Any]] = None,
) -> PackResult:
    """Every store into the directory's pack, as one new generation.

    JSON files of the same stores are removed once the commit is durable.

    Args:
        keep: generations to keep; 0: as before (3 for a new pack).
        alone: the only store's own ``persist`` was called.
        found: the directory's manifest, if it was read just now.

    Raises:
        UnserializableError, ConflictError, LockedError, CommitError, ...: nothing changed.
    """
    if not 0 <= operator.index(keep) <= _pack.MAX_KEEP:
        raise ValueError(f"keep must be 0 to {_pack.MAX_KEEP}, not {keep!r}")
    # The last of equal names wins, as it does among files.
    targets = list({os.path.basename(path): (label, store, path) for label, store, path in targets}.values())
    holders = _holders_of(targets)
    waited = _turns.begin(targets[0][0], holders)
    try:
        if waited or found is None:
            found = _pack.manifest(persist_dir, fs)
        as_text: Set[str] = set()
        for attempt in itertools.count():
            gathering = _Gathering(found, _pack.place_of(persist_dir, fs), as_text, alone)
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
        _turns.end(_holders_of(foreign))  # they may come back each by itself
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


# ----- A store alone, and the way back -----


def persist_alone(label: str, store: Any, persist_path: Any, fs: Optional[fsspec.AbstractFileSystem]) -> bool:
    """One store into the pack of the directory that its file would lie in.

    Returns:
        False when the directory's stores are JSON files: nothing was done.

    Raises:
        UnserializableError, ConflictError, CommitError, ...: as ``StorageContext.persist``.
    """
    path = os.fspath(persist_path)
    directory = os.path.dirname(path)
    chosen, found = format_of(directory, fs)
    if chosen != "pack":
        return False
    if is_persisting_itself(store) and not has_own_file(store):
        return False  # its file lies beside the pack, as whoever persists it notes there
    persist_pack([(label, store, path)], directory, fs, Steps(None, 2), alone=True, found=found)
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
