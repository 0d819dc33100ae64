"""The document store: LlamaIndex's ``KVDocumentStore`` and ``SimpleDocumentStore``."""

from __future__ import annotations

import os
from abc import ABCMeta
from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any, Dict, List, Optional, Sequence, Tuple

import fsspec
from llama_index.core.schema import BaseNode
from llama_index.core.storage.docstore import keyval_docstore
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore as PeerKVDocumentStore
from llama_index.core.storage.docstore.simple_docstore import SimpleDocumentStore as PeerSimpleDocumentStore
from llama_index.core.storage.docstore.types import (
    DEFAULT_PERSIST_DIR,
    DEFAULT_PERSIST_FNAME,
    DEFAULT_PERSIST_PATH,
    RefDocInfo,
)
from llama_index.core.storage.kvstore.types import DEFAULT_BATCH_SIZE, BaseKVStore
from llama_index.core.utils import concat_dirs

from pannier import _core, _files, _pack
from pannier._nodeplan import ensure_plans
from pannier._nodereader import peer_classes, watch
from pannier._views import LiveMapping, checked_iter
from pannier.kvstore import SimpleKVStore


def _json_to_doc(entry: Any) -> BaseNode:
    return keyval_docstore.json_to_doc(entry)  # looked up there: a caller may have replaced it


_UNBUILT = object()
_AHEAD = 512  # nodes that a walk through all of them builds at once


class _Items(ItemsView):
    def __iter__(self) -> Iterator[Any]:
        return self._mapping._pairs()  # type: ignore[attr-defined]


class _Values(ValuesView):
    def __iter__(self) -> Iterator[Any]:
        return (node for _, node in self._mapping._pairs())  # type: ignore[attr-defined]


class LazyDocs(LiveMapping):
    """``docs`` of a document store: a snapshot, node id -> node.

    A node is built when it is first asked for (a walk through ``values()`` or ``items()``
    builds some ahead), and the same object is handed out from then on. Later changes of the store do not show; changing the mapping does not
    change the store.
    """

    __slots__ = ("_snapshot", "_built", "_slots")

    def __init__(self, snapshot: Any) -> None:
        self._snapshot = snapshot
        self._built: Dict[str, Any] = {}
        # id -> node, or _UNBUILT: the truth once somebody looks at the ids or changes the
        # mapping. Until then it is the snapshot, and no id is an object yet.
        self._slots: Optional[Dict[str, Any]] = None
        for key in snapshot.live():
            self._built[key] = _json_to_doc(snapshot.value(key))

    def _open(self) -> Dict[str, Any]:
        if self._slots is None:
            slots = dict.fromkeys(self._snapshot.keys(), _UNBUILT)
            slots.update(self._built)
            self._slots = slots
        return self._slots

    def __getitem__(self, key: str) -> BaseNode:
        slots = self._slots
        if slots is None:
            if type(key) is not str:
                slots = self._open()
            else:
                built = self._built.get(key)
                return self._built.setdefault(key, self._build(key)) if built is None else built
        slot = slots[key]
        if slot is _UNBUILT:
            slot = slots[key] = self._build(next(k for k in slots if k == key) if type(key) is not str else key)
        return slot

    def _build(self, key: str) -> BaseNode:
        node = self._snapshot.node(key)
        return _json_to_doc(self._snapshot.value(key)) if node is None else node

    def _pairs(self) -> Iterator[Tuple[str, BaseNode]]:
        """All of them; the further the walk goes, the more nodes are built at once."""
        slots, done = self._open(), 0
        keys = list(slots)
        for i, key in enumerate(checked_iter(keys, self.__len__)):
            if i == done:
                done += min(i + 1, _AHEAD)
                self._snapshot.build(keys[i:done], slots, _UNBUILT)
            yield key, self[key]

    def values(self) -> ValuesView:
        return _Values(self)

    def items(self) -> ItemsView:
        return _Items(self)

    def __setitem__(self, key: str, node: Any) -> None:
        self._open()[key] = node

    def __delitem__(self, key: str) -> None:
        del self._open()[key]

    def __iter__(self) -> Iterator[str]:
        return checked_iter(list(self._open()), self.__len__)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._open())

    def __len__(self) -> int:
        return len(self._snapshot if self._slots is None else self._slots)

    def __contains__(self, key: object) -> bool:
        if self._slots is None and type(key) is str:
            return key in self._snapshot
        return key in self._open()


class _DocumentStoreMethods:
    """The methods that differ from the peer's: fast ways on a native key-value store.

    They apply when the store's class and its key-value store's are exactly pannier's and
    no method of either has been replaced (``_fast``); a subclass may have overridden
    something, so it gets the peer's own methods. The ways of reading, of deleting and of
    hashes are C methods (``_core.DocMethods``), which come first and leave to these, or to
    the peer's, what they do not do.
    """

    _fast: Any
    _kvstore: Any
    _node_collection: str
    _metadata_collection: str
    _ref_doc_collection: str

    @property
    def docs(self) -> Any:
        """All nodes: a mapping of node id -> node.

        Returns:
            A snapshot that builds each node on first access (:class:`LazyDocs`).
        """
        if self._fast():
            snapshot = _core.doc_snapshot(self._kvstore, self._node_collection)
            if snapshot is not None:
                return LazyDocs(snapshot)
        return super().docs  # type: ignore[misc]

    def add_documents(
        self,
        docs: Sequence[BaseNode],
        allow_update: bool = True,
        batch_size: Optional[int] = None,
        store_text: bool = True,
    ) -> None:
        """Adds nodes.

        Args:
            docs (Sequence[BaseNode]): the nodes.
            allow_update (bool): whether a node whose id is there already is replaced.
            batch_size (int | None): accepted for compatibility; any value is fine.
            store_text (bool): whether the nodes themselves are stored, or only their
                hashes and the link to their source.

        Raises:
            ValueError: a node is there already and ``allow_update`` is False. Nothing
                has changed then (the peer has changed the sources' infos).
        """
        if self._fast():
            names = (self._node_collection, self._metadata_collection, self._ref_doc_collection)
            if _core.doc_add(self._kvstore, *names, docs, allow_update, store_text):
                return
        super().add_documents(docs, allow_update, batch_size, store_text)  # type: ignore[misc]

    async def async_add_documents(
        self,
        docs: Sequence[BaseNode],
        allow_update: bool = True,
        batch_size: Optional[int] = None,
        store_text: bool = True,
    ) -> None:
        """As :meth:`add_documents`."""
        if self._fast():
            self.add_documents(docs, allow_update, batch_size, store_text)
        else:
            await super().async_add_documents(docs, allow_update, batch_size, store_text)  # type: ignore[misc]

    def get_document(self, doc_id: str, raise_error: bool = True) -> Optional[BaseNode]:
        # what the C method leaves: a node that is built the peer's way, from its entry
        if self._fast():
            entry = _core.doc_get(self._kvstore, self._node_collection, doc_id)
            if entry is not None and entry is not NotImplemented:
                return _json_to_doc(entry)
        return super().get_document(doc_id, raise_error)  # type: ignore[misc]

    async def aget_document(self, doc_id: str, raise_error: bool = True) -> Optional[BaseNode]:
        """As :meth:`get_document`."""
        if self._fast():
            return self.get_document(doc_id, raise_error)
        return await super().aget_document(doc_id, raise_error)  # type: ignore[misc]

    async def aget_node(self, node_id: str, raise_error: bool = True) -> Optional[BaseNode]:
        """As :meth:`get_node`."""
        if self._fast():
            return self.get_node(node_id, raise_error)
        return await super().aget_node(node_id, raise_error)  # type: ignore[misc]

    async def aget_nodes(self, node_ids: List[str], raise_error: bool = True) -> List[BaseNode]:
        """As :meth:`get_nodes`."""
        if self._fast():
            return self.get_nodes(node_ids, raise_error)
        return await super().aget_nodes(node_ids, raise_error)  # type: ignore[misc]

    async def adocument_exists(self, doc_id: str) -> bool:
        """As :meth:`document_exists`."""
        if self._fast():
            return self.document_exists(doc_id)
        return await super().adocument_exists(doc_id)  # type: ignore[misc]

    # ---- sources ----

    def _remove_legacy_info(self, ref_doc_info_dict: dict) -> RefDocInfo:
        # The peer hands out the stored list: deleting while looping over it skips
        # entries, and a refused add leaves it changed. A copy has neither fault.
        info = super()._remove_legacy_info(ref_doc_info_dict)  # type: ignore[misc]
        if isinstance(info.node_ids, list):
            info.node_ids = list(info.node_ids)
        return info

    async def aget_ref_doc_info(self, ref_doc_id: str) -> Optional[RefDocInfo]:
        """As :meth:`get_ref_doc_info`."""
        if self._fast():
            return self.get_ref_doc_info(ref_doc_id)
        return await super().aget_ref_doc_info(ref_doc_id)  # type: ignore[misc]

    async def aget_all_ref_doc_info(self) -> Optional[Dict[str, RefDocInfo]]:
        """As :meth:`get_all_ref_doc_info`."""
        if self._fast():
            return self.get_all_ref_doc_info()
        return await super().aget_all_ref_doc_info()  # type: ignore[misc]

    # ---- deleting ----

    async def _aremove_from_ref_doc_node(self, doc_id: str) -> None:
        # The peer looks the info up under the node's id instead of its source's, so it
        # leaves the deleted id listed.
        ref_doc_id = await self._aget_ref_doc_id(doc_id)  # type: ignore[attr-defined]
        if ref_doc_id is None:
            return
        info = await self.aget_ref_doc_info(ref_doc_id)
        if info is None:
            return
        if doc_id in info.node_ids:
            info.node_ids.remove(doc_id)
        if info.node_ids:
            await self._kvstore.aput(ref_doc_id, info.to_dict(), collection=self._ref_doc_collection)
        else:
            await self._kvstore.adelete(ref_doc_id, collection=self._metadata_collection)
            await self._kvstore.adelete(ref_doc_id, collection=self._node_collection)
            await self._kvstore.adelete(ref_doc_id, collection=self._ref_doc_collection)

    async def adelete_document(self, doc_id: str, raise_error: bool = True) -> None:
        """As :meth:`delete_document`, the source's info included (the peer forgets it)."""
        if self._fast():
            self.delete_document(doc_id, raise_error)
            return
        # one after the other: the info is found through the metadata that goes last
        await self._aremove_from_ref_doc_node(doc_id)
        existed = await self._kvstore.adelete(doc_id, collection=self._node_collection)
        await self._kvstore.adelete(doc_id, collection=self._metadata_collection)
        if not existed and raise_error:
            raise ValueError(f"doc_id {doc_id} not found.")

    # ---- hashes ----

    async def aset_document_hash(self, doc_id: str, doc_hash: str) -> None:
        """As :meth:`set_document_hash`."""
        if self._fast():
            self.set_document_hash(doc_id, doc_hash)
        else:
            await super().aset_document_hash(doc_id, doc_hash)  # type: ignore[misc]

    async def aget_document_hash(self, doc_id: str) -> Optional[str]:
        """As :meth:`get_document_hash`."""
        if self._fast():
            return self.get_document_hash(doc_id)
        return await super().aget_document_hash(doc_id)  # type: ignore[misc]

    def _get_ref_doc_id(self, doc_id: str) -> Optional[str]:
        if self._fast():
            found = _core.doc_meta(self._kvstore, self._metadata_collection, doc_id, "ref_doc_id")
            if found is not NotImplemented:
                return found
        return super()._get_ref_doc_id(doc_id)  # type: ignore[misc]

    async def aget_all_document_hashes(self) -> Dict[str, str]:
        """As :meth:`get_all_document_hashes`."""
        if self._fast():
            return self.get_all_document_hashes()
        return await super().aget_all_document_hashes()  # type: ignore[misc]


class KVDocumentStore(_core.DocMethods, _DocumentStoreMethods, PeerKVDocumentStore):
    """Document store over any key-value store; fast on a native pannier one.

    A drop-in for ``llama_index.core.storage.docstore.keyval_docstore.KVDocumentStore``.

    Args:
        kvstore (BaseKVStore): where the three collections live.
        namespace (str | None): prefix of the collections, default ``"docstore"``.
        batch_size (int): handed to a foreign key-value store's ``put_all``.
        node_collection_suffix, ref_doc_collection_suffix, metadata_collection_suffix
            (str | None): default ``"/data"``, ``"/ref_doc_info"``, ``"/metadata"``.
    """


class SimpleDocumentStore(_core.DocMethods, _DocumentStoreMethods, PeerSimpleDocumentStore):
    """In-memory document store, persisted as one JSON file.

    A drop-in for ``llama_index.core.storage.docstore.SimpleDocumentStore``.

    Args:
        simple_kvstore (SimpleKVStore | None): default a new pannier one.
        namespace (str | None): prefix of the collections, default ``"docstore"``.
        batch_size (int): kept for compatibility.
    """

    def __init__(
        self,
        simple_kvstore: Optional[BaseKVStore] = None,
        namespace: Optional[str] = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        PeerKVDocumentStore.__init__(
            self,
            simple_kvstore or SimpleKVStore(),
            namespace=namespace,
            batch_size=batch_size,
        )

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str = DEFAULT_PERSIST_DIR,
        namespace: Optional[str] = None,
        fs: Optional[fsspec.AbstractFileSystem] = None,
    ) -> "SimpleDocumentStore":
        """Loads ``docstore.json`` from a directory; errors as :meth:`from_persist_path`."""
        join = os.path.join if fs is None else concat_dirs
        return cls.from_persist_path(join(persist_dir, DEFAULT_PERSIST_FNAME), namespace=namespace, fs=fs)

    @classmethod
    def from_persist_path(
        cls,
        persist_path: str,
        namespace: Optional[str] = None,
        fs: Optional[fsspec.AbstractFileSystem] = None,
    ) -> "SimpleDocumentStore":
        """Loads a document store from a file.

        Raises:
            FileNotFoundError: no such file.
            CorruptStoreError: (a json.JSONDecodeError) not JSON; names file and place.
        """
        return cls(SimpleKVStore.from_persist_path(persist_path, fs=fs), namespace)

    @classmethod
    def from_dict(cls, save_dict: dict, namespace: Optional[str] = None) -> "SimpleDocumentStore":
        """A store over the given collections (inner dicts are shared)."""
        return cls(SimpleKVStore.from_dict(save_dict), namespace)

    to_dict = _core.simple_to_dict

    def _pn_encode(self) -> Optional[Any]:
        """The file's bytes, or None when the key-value store is not pannier's."""
        return self._kvstore._pn_encode("docstore") if isinstance(self._kvstore, SimpleKVStore) else None

    def persist(self, persist_path: str = DEFAULT_PERSIST_PATH, fs: Optional[fsspec.AbstractFileSystem] = None) -> None:
        """Writes the store to a file, atomically. Errors as ``SimpleKVStore.persist``."""
        if _pack.persisted("docstore", self, persist_path, fs):
            return
        if type(self._kvstore) is SimpleKVStore:
            _files.write_files([(persist_path, self._pn_encode())], os.path.dirname(persist_path), fs)
        else:
            super().persist(persist_path, fs=fs)


# Once a process, here rather than at the first node: it takes some 25 ms.
ensure_plans()

_CLASSES = (KVDocumentStore, SimpleDocumentStore)


def _method_names(cls: type) -> List[str]:
    return [name for name in dir(cls) if not name.startswith("__") and callable(getattr(cls, name))]


def _plain_info() -> Optional[type]:
    """The class if ``RefDocInfo(node_ids, metadata)`` does nothing but set these two."""
    if type(RefDocInfo) not in (type, ABCMeta) or RefDocInfo.__new__ is not object.__new__:
        return None
    if RefDocInfo.__setattr__ is not object.__setattr__ or "__init__" not in RefDocInfo.__dict__:
        return None
    made = RefDocInfo(node_ids=["n"], metadata={"m": 1})
    return RefDocInfo if made.__dict__ == {"node_ids": ["n"], "metadata": {"m": 1}} else None


_core.set_doc_classes(
    _CLASSES,
    SimpleKVStore,
    _plain_info(),
    (
        *(tuple(watch([cls], _method_names(cls))) for cls in _CLASSES),
        tuple(watch(peer_classes(RefDocInfo), ["__init__", "__new__", "__setattr__"])),
    ),
)

__all__: List[str] = ["KVDocumentStore", "LazyDocs", "SimpleDocumentStore"]
