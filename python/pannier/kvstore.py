"""The key-value store: LlamaIndex's ``SimpleKVStore`` on the C core."""

from __future__ import annotations

import logging
import os
from itertools import islice
from typing import Any, Dict, List, Optional, Sequence, Tuple

import fsspec
from llama_index.core.storage.kvstore.simple_kvstore import SimpleKVStore as PeerSimpleKVStore
from llama_index.core.storage.kvstore.types import DEFAULT_BATCH_SIZE, DEFAULT_COLLECTION

from pannier import _core, _files, _pack
from pannier._encoding import corrupt, explain
from pannier._views import CollectionsView, CollectionView, as_dicts, is_view

logger = logging.getLogger(__name__)


class SimpleKVStore(_core.KVTable, PeerSimpleKVStore):
    """In-memory key-value store with named collections, persisted as one JSON file.

    A drop-in for ``llama_index.core.storage.kvstore.SimpleKVStore``, and an instance
    of it. Small values of a store's own file are decoded as they are loaded, faster than one
    by one; large ones, and those of a document or index store's file, stay as text until
    somebody asks for them.

    ``put`` and ``get`` copy the top level of a value only; ``get_all`` hands out the
    stored values; order is insertion order; reading or deleting in an unknown
    collection creates it. Keys may be any hashable object, values anything with a
    ``copy()`` method; what JSON cannot hold fails when persisting, before any file is
    touched.

    The store becomes *plain* (a dict of dicts, at the peer's speed) when a caller
    hands in or asks for those dicts: constructor ``data``, ``from_dict``, ``to_dict``,
    assigning to ``_collections_mappings``, a ``_mapping_factory`` other than ``dict``, or
    a key that is not an exact ``str``.

    Args:
        data (dict[str, dict[Any, dict]] | None): initial collections; the outer dict is
            copied, the inner ones are shared with the caller, as in LlamaIndex.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A subclass that finds collections its own way gets the peer's methods, which ask it."""
        super().__init_subclass__(**kwargs)
        if cls._get_collection_mapping is not SimpleKVStore._get_collection_mapping:
            for name in ("put", "get", "get_all", "delete"):
                if getattr(cls, name) is getattr(_core.KVTable, name):
                    setattr(cls, name, getattr(PeerSimpleKVStore, name))

    def __init__(self, data: Optional[Dict[str, Dict[str, dict]]] = None) -> None:
        self._reset()
        if data is not None:
            self._adopt(as_dicts(data.copy()))

    # ``_collections_mappings`` is an instance attribute of the peer.
    @property
    def _collections_mappings(self) -> Any:
        plain = self._plain()
        return CollectionsView(self) if plain is None else as_dicts(plain)

    @_collections_mappings.setter
    def _collections_mappings(self, mappings: Any) -> None:
        if not is_view(mappings, self):  # what ``store._collections_mappings |= {...}`` ends with
            self._adopt(as_dicts(mappings))

    def _get_collection_mapping(self, collection: str) -> Any:
        """The collection's live mapping, created if missing."""
        self._create(collection)
        plain = self._plain()
        return CollectionView(self, collection) if plain is None else plain[collection]

    # put, put_all, get, get_all, delete, to_dict: methods of the C base.

    def _put_rest(self, kv_pairs: Any, done: int, collection: str) -> None:
        # what put_all leaves: other iterables, what is no pair, an overridden put
        for key, val in islice(kv_pairs, done, None) if done else kv_pairs:
            self.put(key, val, collection=collection)

    def _is_ours(self, name: str) -> bool:
        """Whether that method is this module's or the C base's: neither overridden nor replaced."""
        return getattr(type(self), name) is _OURS[name] and name not in self.__dict__

    async def aput(self, key: str, val: dict, collection: str = DEFAULT_COLLECTION) -> None:
        """As :meth:`put`."""
        self.put(key, val, collection=collection)

    async def aput_all(
        self,
        kv_pairs: List[Tuple[str, dict]],
        collection: str = DEFAULT_COLLECTION,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        """As :meth:`put_all`; any batch size is accepted."""
        if self._is_ours("aput"):
            _core.KVTable.put_all(self, kv_pairs, collection=collection, batch_size=batch_size)
        else:
            for key, val in kv_pairs:
                await self.aput(key, val, collection=collection)

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> Optional[dict]:
        """As :meth:`get`."""
        return self.get(key, collection=collection)

    def get_many(self, keys: Sequence[str], collection: str = DEFAULT_COLLECTION) -> List[Optional[dict]]:
        """``[get(key) for key in keys]``."""
        if self._is_ours("get"):
            return self._get_keys(keys, collection)
        return [self.get(key, collection) for key in keys]

    async def aget_all(self, collection: str = DEFAULT_COLLECTION) -> Dict[str, dict]:
        """As :meth:`get_all`."""
        return self.get_all(collection=collection)

    async def adelete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """As :meth:`delete`."""
        return self.delete(key, collection=collection)

    # ---- files ----

    def _pn_encode(self, store: str = "key-value store") -> Any:
        """The whole file as bytes-like, exactly what ``json.dumps`` gives.

        Raises:
            UnserializableError: a value that JSON cannot hold, with its key path.
        """
        as_dicts(self._plain())  # somebody may have put a view into a dict of his
        try:
            return self._write()
        except TypeError as e:
            place = getattr(e, "pn_place", None)
            if place is None:
                raise explain(e, store, "", self._plain() or {}) from e
            try:
                value = self._live(*place)
            except KeyError:  # its own code removed it meanwhile
                value = {}
            raise explain(e, store, f"{place[0]}[{place[1]!r}]", value) from e

    def persist(self, persist_path: str, fs: Optional[fsspec.AbstractFileSystem] = None) -> None:
        """Writes the store to a file, atomically; missing directories are made.

        Args:
            persist_path (str): the file.
            fs (fsspec.AbstractFileSystem | None): where; default the local disk.

        Raises:
            UnserializableError: (a TypeError) a value that JSON cannot hold; nothing changed.
            CommitError: (an OSError) writing failed; the file is as it was.
        """
        if _pack.persisted("key-value store", self, persist_path, fs):
            return
        data = self._pn_encode(os.path.basename(str(persist_path)))
        _files.write_files([(persist_path, data)], os.path.dirname(persist_path), fs)

    @classmethod
    def from_persist_path(
        cls, persist_path: str, fs: Optional[fsspec.AbstractFileSystem] = None
    ) -> "SimpleKVStore":
        """Loads a store from a file.

        Raises:
            FileNotFoundError: no such file.
            CorruptStoreError: (a json.JSONDecodeError) not JSON; names file and place.
        """
        logger.debug(f"Loading {__name__} from {persist_path}.")
        store = cls()
        found = _pack.find(persist_path, fs)
        if found is not None and found.kind == _pack.COLLECTIONS:
            found.fill(store)
            return store
        data = _files.read_file(persist_path, fs) if found is None else found.text()
        if not (found is None and store._decode(data)) and not store._load(data):
            store = cls(corrupt(data, str(persist_path)))
        if found is not None:
            found.note(store, data)
        return store

    @classmethod
    def from_dict(cls, save_dict: dict) -> "SimpleKVStore":
        """A store over the given collections; the inner dicts are shared."""
        return cls(save_dict)

    # ---- pickle and copy ----

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        state["_collections_mappings"] = self._dump()
        state["factory_fn"] = {"fn": self._mapping_factory}
        return state

    def __setstate__(self, state: dict) -> None:
        """Takes a state of this class or of the peer's."""
        state = dict(state)
        self._mapping_factory = state.pop("factory_fn")["fn"]
        collections = state.pop("_collections_mappings")
        if type(collections) is not dict or not all(type(c) is dict for c in collections.values()):
            self._adopt(collections)
        else:
            for name, collection in collections.items():
                self._create(name)
                for key, value in collection.items():
                    self._set_live(name, key, value)
        self.__dict__.update(state)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (_new, (type(self),), self.__getstate__())

    def __copy__(self) -> "SimpleKVStore":
        other = _new(type(self))
        other.__dict__.update(self.__dict__)
        other._mapping_factory = self._mapping_factory
        other._adopt(self._surrender())  # a shallow copy shares the outer dict, as the peer's does
        return other


_OURS = {name: getattr(SimpleKVStore, name) for name in ("get", "get_all", "aput", "aget", "aget_all", "adelete")}


def _new(cls: type) -> Any:
    return cls.__new__(cls)
