"""The index store: LlamaIndex's ``KVIndexStore`` and ``SimpleIndexStore``."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Dict, List, Optional, Tuple

import fsspec
from dataclasses_json import DataClassJsonMixin
from llama_index.core.data_structs.data_structs import (
    KG,
    EmptyIndexStruct,
    IndexDict,
    IndexGraph,
    IndexList,
    IndexLPG,
    IndexStruct,
    KeywordTable,
    MultiModelIndexDict,
)
from llama_index.core.data_structs.document_summary import IndexDocumentSummary
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS
from llama_index.core.storage.index_store.keyval_index_store import KVIndexStore as PeerKVIndexStore
from llama_index.core.storage.index_store.simple_index_store import SimpleIndexStore as PeerSimpleIndexStore
from llama_index.core.storage.index_store.types import (
    DEFAULT_PERSIST_DIR,
    DEFAULT_PERSIST_FNAME,
    DEFAULT_PERSIST_PATH,
)
from llama_index.core.storage.index_store.utils import index_struct_to_json, json_to_index_struct
from llama_index.core.storage.kvstore.types import BaseKVStore
from llama_index.core.utils import concat_dirs

from pannier import _core, _files, _pack
from pannier.kvstore import SimpleKVStore

_CLASSES = (
    KG,
    EmptyIndexStruct,
    IndexDict,
    IndexDocumentSummary,
    IndexGraph,
    IndexList,
    IndexLPG,
    KeywordTable,
    MultiModelIndexDict,
)

_TO_JSON, _TO_DICT = DataClassJsonMixin.to_json, DataClassJsonMixin.to_dict
_FROM_JSON = DataClassJsonMixin.from_json.__func__  # type: ignore[attr-defined]

# class -> (type text, field names), for classes whose to_json the core prints alike;
# filled, and checked against the installed class, on first use of each
_plans: Dict[type, Optional[Tuple[str, Tuple[str, ...]]]] = {}


def _sample(cls: type) -> Any:
    """A struct of that class with something in every field."""
    struct = cls(index_id="i\u00fc", summary='s"\n')
    fill: Dict[str, Any] = {
        "nodes": ["a", "b"],
        "nodes_dict": {"a": "b", "\u00e9": "c"},
        "doc_id_dict": {"a": ["b"]},
        "embeddings_dict": {"a": [0.5, -0.0]},
        "embedding_dict": {"a": [1e-7]},
        "all_nodes": {0: "a", 12: "b"},
        "root_nodes": {3: "a"},
        "node_id_to_children_ids": {"a": ["b", "c"]},
        "table": {"k": {"a"}, "l": {"x", "y", "z"}},
        "rel_map": {"a": [["b", "c"]]},
        "summary_id_to_node_ids": {"a": ["b"]},
        "node_id_to_summary_id": {"a": "b"},
        "doc_id_to_summary_id": {"a": "b"},
    }
    for field in dataclasses.fields(cls):
        if field.name in fill:
            setattr(struct, field.name, fill[field.name])
    return struct


def _plan(cls: type) -> Optional[Tuple[str, Tuple[str, ...]]]:
    if getattr(cls, "to_json", None) is not _TO_JSON or getattr(cls, "to_dict", None) is not _TO_DICT:
        return None  # somebody gave the class its own way of printing
    try:
        return _plans[cls]
    except KeyError:
        plan = None
        if cls in _CLASSES:
            names = tuple(f.name for f in dataclasses.fields(cls))  # type: ignore[arg-type]
            sample = _sample(cls)
            try:
                text = _core.struct_text(vars(sample), names)
                if text is not None and bytes(text) == sample.to_json().encode():
                    plan = (str(cls.get_type().value), names)  # type: ignore[attr-defined]
            except Exception:  # an installed class unlike the known one: its own way
                plan = None
        _plans[cls] = plan
        return plan


# what the core rebuilds of each field (struct_read.c tells the notation)
_SHAPES = {
    "index_id": "s",
    "summary": "o",
    "nodes": "[s",
    "nodes_dict": "{ss",
    "doc_id_dict": "{s[s",
    "embeddings_dict": "{s[f",
    "embedding_dict": "{s[f",
    "all_nodes": "{is",
    "root_nodes": "{is",
    "node_id_to_children_ids": "{s[s",
    "table": "{s<s",
    "rel_map": "{s[[s",
    "summary_id_to_node_ids": "{s[s",
    "node_id_to_summary_id": "{ss",
    "doc_id_to_summary_id": "{ss",
}

_KINDS = {str(cls.get_type().value): cls for cls in _CLASSES}  # type: ignore[attr-defined]

# class -> (field names, shapes), for classes whose structs the core rebuilds as from_json
# does; filled, and checked against the installed class, on first use of each
_readings: Dict[type, Optional[Tuple[Tuple[str, ...], Tuple[str, ...]]]] = {}


def _check_reading(cls: Any, kind: str) -> Optional[Tuple[Tuple[str, ...], Tuple[str, ...]]]:
    names = tuple(f.name for f in dataclasses.fields(cls))
    text = _sample(cls).to_json()
    store = SimpleKVStore()
    store._load(json.dumps({"c": {"k": {"__type__": kind, "__data__": text}}}).encode())
    shapes = tuple(_SHAPES[name] for name in names)
    fields = _core.struct_fields(store, "c", "k", kind, names, shapes)
    return (names, shapes) if fields is not None and cls(**fields) == cls.from_json(text) else None


def _reading(kind: str) -> Optional[Tuple[Any, Tuple[str, ...], Tuple[str, ...]]]:
    cls = _KINDS.get(kind)
    if cls is None or INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS.get(kind) is not cls:  # type: ignore[call-overload]
        return None
    if getattr(cls.from_json, "__func__", None) is not _FROM_JSON:
        return None  # somebody gave the class its own way of reading
    if cls not in _readings:
        try:
            _readings[cls] = _check_reading(cls, kind)
        except Exception:  # an installed class unlike the known one: its own way
            _readings[cls] = None
    found = _readings[cls]
    return found and (cls, *found)


class _IndexStoreMethods:
    _kvstore: Any
    _collection: str

    def _fast(self) -> bool:
        return type(self) in _EXACT and type(self._kvstore) is SimpleKVStore

    def _fast_async(self, name: str) -> bool:
        """Whether nobody would notice that this method of the key-value store is not awaited."""
        return self._fast() and self._kvstore._is_ours(name)

    def _put(self, struct: IndexStruct) -> bool:
        """Stores it, if the core can."""
        plan = _plan(type(struct))
        return plan is not None and _core.struct_put(
            self._kvstore, self._collection, struct.index_id, plan[0], vars(struct), plan[1]
        )

    def add_index_struct(self, index_struct: IndexStruct) -> None:
        """Stores a snapshot of the struct under its ``index_id``."""
        if not (self._fast() and self._put(index_struct)):
            self._kvstore.put(index_struct.index_id, index_struct_to_json(index_struct), collection=self._collection)

    async def async_add_index_struct(self, index_struct: IndexStruct) -> None:
        """As :meth:`add_index_struct`."""
        if not (self._fast_async("aput") and self._put(index_struct)):
            await super().async_add_index_struct(index_struct)  # type: ignore[misc]

    def _read(self, struct_id: Any) -> Any:
        """The struct of that id, None if there is none, NotImplemented: read it the peer's way."""
        kind = _core.struct_type(self._kvstore, self._collection, struct_id)
        if kind is False:
            return None
        reading = kind and _reading(kind)
        if reading:
            cls, names, shapes = reading
            fields = _core.struct_fields(self._kvstore, self._collection, struct_id, kind, names, shapes)
            if fields is not None:
                return cls(**fields)
        entry = _core.struct_get(self._kvstore, self._collection, struct_id)
        return entry if entry is None or entry is NotImplemented else json_to_index_struct(entry)

    def get_index_struct(self, struct_id: Optional[str] = None) -> Optional[IndexStruct]:
        """A fresh struct, or None if there is none with that id.

        Args:
            struct_id (str | None): None: there must be exactly one struct.

        Raises:
            AssertionError: ``struct_id`` is None and there is not exactly one struct.
            KeyError: the struct's type is not registered.
        """
        if struct_id is not None and type(self) in _EXACT and type(kv := self._kvstore) is SimpleKVStore:
            if _core.struct_type(kv, self._collection, struct_id) is False:
                return None
            struct = self._read(struct_id)
            if struct is not NotImplemented:
                return struct
        return super().get_index_struct(struct_id)  # type: ignore[misc]

    async def aget_index_struct(self, struct_id: Optional[str] = None) -> Optional[IndexStruct]:
        """As :meth:`get_index_struct`."""
        struct = self._read(struct_id) if struct_id is not None and self._fast_async("aget") else NotImplemented
        return await super().aget_index_struct(struct_id) if struct is NotImplemented else struct  # type: ignore[misc]

    def _all(self) -> Optional[List[IndexStruct]]:
        """All structs, if the core has and can read them."""
        if self._kvstore._plain() is not None or not self._kvstore._is_ours("get_all"):
            return None
        self._kvstore._create(self._collection)
        structs = [self._read(key) for key in self._kvstore._keys(self._collection)]
        return None if any(struct is NotImplemented or struct is None for struct in structs) else structs

    def index_structs(self) -> List[IndexStruct]:
        """All structs, fresh ones, in insertion order.

        Raises:
            KeyError: a struct's type is not registered.
        """
        structs = self._all() if self._fast() else None
        return super().index_structs() if structs is None else structs  # type: ignore[misc]

    async def async_index_structs(self) -> List[IndexStruct]:
        """As :meth:`index_structs`."""
        structs = self._all() if self._fast_async("aget_all") else None
        return await super().async_index_structs() if structs is None else structs  # type: ignore[misc]


class KVIndexStore(_IndexStoreMethods, PeerKVIndexStore):
    """Index store over any key-value store; fast on a native pannier one.

    A drop-in for ``llama_index.core.storage.index_store.keyval_index_store.KVIndexStore``.

    Args:
        kvstore (BaseKVStore): where the structs live.
        namespace (str | None): prefix of the collection, default ``"index_store"``.
        collection_suffix (str | None): default ``"/data"``.
    """


class SimpleIndexStore(_IndexStoreMethods, PeerSimpleIndexStore):
    """In-memory index store, persisted as one JSON file.

    A drop-in for ``llama_index.core.storage.index_store.SimpleIndexStore``.

    Args:
        simple_kvstore (SimpleKVStore | None): default a new pannier one.
    """

    def __init__(self, simple_kvstore: Optional[BaseKVStore] = None) -> None:
        PeerKVIndexStore.__init__(self, simple_kvstore or SimpleKVStore())

    @classmethod
    def from_persist_dir(
        cls, persist_dir: str = DEFAULT_PERSIST_DIR, fs: Optional[fsspec.AbstractFileSystem] = None
    ) -> "SimpleIndexStore":
        """Loads ``index_store.json`` from a directory; errors as :meth:`from_persist_path`."""
        join = os.path.join if fs is None else concat_dirs
        return cls.from_persist_path(join(persist_dir, DEFAULT_PERSIST_FNAME), fs=fs)

    @classmethod
    def from_persist_path(
        cls, persist_path: str, fs: Optional[fsspec.AbstractFileSystem] = None
    ) -> "SimpleIndexStore":
        """Loads an index store from a file.

        Raises:
            FileNotFoundError: no such file.
            CorruptStoreError: (a json.JSONDecodeError) not JSON; names file and place.
        """
        return cls(SimpleKVStore.from_persist_path(persist_path, fs=fs))

    @classmethod
    def from_dict(cls, save_dict: dict) -> "SimpleIndexStore":
        """A store over the given collections (inner dicts are shared)."""
        return cls(SimpleKVStore.from_dict(save_dict))

    def _pn_encode(self) -> Optional[Any]:
        """The file's bytes, or None when the key-value store is not pannier's."""
        return self._kvstore._pn_encode("index store") if isinstance(self._kvstore, SimpleKVStore) else None

    def persist(self, persist_path: str = DEFAULT_PERSIST_PATH, fs: Optional[fsspec.AbstractFileSystem] = None) -> None:
        """Writes the store to a file, atomically. Errors as ``SimpleKVStore.persist``."""
        if _pack.persisted("index store", self, persist_path, fs):
            return
        if type(self._kvstore) is SimpleKVStore:
            _files.write_files([(persist_path, self._pn_encode())], os.path.dirname(persist_path), fs)
        else:
            super().persist(persist_path, fs=fs)


_EXACT = frozenset({KVIndexStore, SimpleIndexStore})

__all__ = ["KVIndexStore", "SimpleIndexStore"]
