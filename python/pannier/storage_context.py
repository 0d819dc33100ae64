"""The storage context: everything an index keeps, loaded and persisted as one.

Same fields, signatures and quirks as LlamaIndex's ``StorageContext``. What is done
better: a persist encodes everything before it touches the disk and commits all
stores at once; a corrupt or foreign file is an error that names it, never an empty
store; directories of LlamaIndex.TS are read.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import fsspec
from llama_index.core.constants import (
    DOC_STORE_KEY,
    GRAPH_STORE_KEY,
    INDEX_STORE_KEY,
    PG_STORE_KEY,
    VECTOR_STORE_KEY,
)
from llama_index.core.graph_stores import simple as peer_graph
from llama_index.core.graph_stores import simple_labelled as peer_property_graph
from llama_index.core.graph_stores.types import DEFAULT_PG_PERSIST_FNAME as PG_FNAME
from llama_index.core.graph_stores.types import GraphStore, PropertyGraphStore
from llama_index.core.storage import storage_context as peer_context
from llama_index.core.storage.docstore import simple_docstore as peer_docstore
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.storage.index_store import simple_index_store as peer_index_store
from llama_index.core.storage.index_store.types import BaseIndexStore
from llama_index.core.storage.kvstore import simple_kvstore as peer_kvstore
from llama_index.core.storage.storage_context import (
    DEFAULT_PERSIST_DIR,
    DEFAULT_VECTOR_STORE,
    DOCSTORE_FNAME,
    GRAPH_STORE_FNAME,
    IMAGE_STORE_FNAME,
    IMAGE_VECTOR_STORE_NAMESPACE,
    INDEX_STORE_FNAME,
    NAMESPACE_SEP,
    VECTOR_STORE_FNAME,
)
from llama_index.core.utils import concat_dirs, get_tqdm_iterable
from llama_index.core.vector_stores import simple as peer_vector
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from pannier import _files, typescript
from pannier._encoding import explain
from pannier.docstore import SimpleDocumentStore
from pannier.errors import UnserializableError, UnsupportedLayoutError
from pannier.graph_store import SimpleGraphStore
from pannier.index_store import SimpleIndexStore
from pannier.kvstore import SimpleKVStore
from pannier.property_graph import SimplePropertyGraphStore
from pannier.vector_store import SimpleVectorStore

# LlamaIndex's classes themselves, whatever its modules' names are rebound to later.
_PeerContext = peer_context.StorageContext
_PeerKVStore = peer_kvstore.SimpleKVStore
_PEER_KV_BACKED = (peer_docstore.SimpleDocumentStore, peer_index_store.SimpleIndexStore)
_KV_BACKED = (SimpleDocumentStore, SimpleIndexStore)
_PeerVectorStore = peer_vector.SimpleVectorStore
_PeerGraphStore = peer_graph.SimpleGraphStore
_PeerPropertyGraphStore = peer_property_graph.SimplePropertyGraphStore

Progress = Union[bool, Callable[[str, int, int], None], None]
Target = Tuple[str, Any, str]  # (label, store, path)


class StorageContext(_PeerContext):
    """Document store, index store, vector stores and graph stores of some indices.

    An instance of ``llama_index.core.StorageContext`` with the same five fields;
    the stores may be pannier's, LlamaIndex's or anybody's.

    Args:
        docstore (BaseDocumentStore): the nodes.
        index_store (BaseIndexStore): the index structs.
        vector_stores (Dict[str, BasePydanticVectorStore]): by namespace.
        graph_store (GraphStore): triplets.
        property_graph_store (Optional[PropertyGraphStore]): labelled graph, if any.
    """

    @classmethod
    def from_defaults(
        cls,
        docstore: Optional[BaseDocumentStore] = None,
        index_store: Optional[BaseIndexStore] = None,
        vector_store: Optional[BasePydanticVectorStore] = None,
        image_store: Optional[BasePydanticVectorStore] = None,
        vector_stores: Optional[Dict[str, BasePydanticVectorStore]] = None,
        graph_store: Optional[GraphStore] = None,
        property_graph_store: Optional[PropertyGraphStore] = None,
        persist_dir: Optional[str] = None,
        fs: Optional[fsspec.AbstractFileSystem] = None,
    ) -> "StorageContext":
        """A context of the stores given, the rest new and empty, or loaded.

        Without ``persist_dir`` the missing stores are new ones, and an ``"image"``
        vector store is added (to the caller's dictionary when ``vector_stores`` is
        given). With it they are loaded from there; a given ``vector_store`` then
        stands alone.

        Args:
            docstore, index_store, graph_store, property_graph_store: used as given.
            vector_store: the store of namespace ``"default"``; wins over ``vector_stores``.
            image_store: the store of namespace ``"image"``.
            vector_stores: by namespace.
            persist_dir (Optional[str]): a directory that ``persist`` wrote, LlamaIndex's,
                pannier's or LlamaIndex.TS's.
            fs (Optional[fsspec.AbstractFileSystem]): where the directory is.

        Raises:
            FileNotFoundError: there is no docstore or index store in the directory.
            ValueError: there is no vector store where one must be.
            CorruptStoreError: a file is not the JSON it should be; it is named.
            UnsupportedLayoutError: a LlamaIndex.TS directory with something in it that
                has no counterpart.
        """
        if persist_dir is None:
            docstore = docstore or SimpleDocumentStore()
            index_store = index_store or SimpleIndexStore()
            graph_store = graph_store or SimpleGraphStore()
            image_store = image_store or SimpleVectorStore()
            if vector_store:
                vector_stores = {DEFAULT_VECTOR_STORE: vector_store}
            else:
                vector_stores = vector_stores or {DEFAULT_VECTOR_STORE: SimpleVectorStore()}
        else:
            if vector_store:
                vector_stores = {DEFAULT_VECTOR_STORE: vector_store}
            docstore, index_store, graph_store, property_graph_store, vector_stores = _load(
                (docstore, index_store, graph_store, property_graph_store, vector_stores), persist_dir, fs
            )
        if image_store:
            vector_stores[IMAGE_VECTOR_STORE_NAMESPACE] = image_store

        return cls(
            docstore=docstore,
            index_store=index_store,
            vector_stores=vector_stores,
            graph_store=graph_store,
            property_graph_store=property_graph_store,
        )

    def persist(
        self,
        persist_dir: Union[str, os.PathLike[str]] = DEFAULT_PERSIST_DIR,
        docstore_fname: str = DOCSTORE_FNAME,
        index_store_fname: str = INDEX_STORE_FNAME,
        vector_store_fname: str = VECTOR_STORE_FNAME,
        image_store_fname: str = IMAGE_STORE_FNAME,
        graph_store_fname: str = GRAPH_STORE_FNAME,
        pg_graph_store_fname: str = PG_FNAME,
        fs: Optional[fsspec.AbstractFileSystem] = None,
        *,
        in_place: bool = False,
        progress: Progress = None,
    ) -> None:
        """Write every store into a directory, all of them or none.

        Everything is encoded before the disk is touched. Stores that pannier does not
        know how to encode (a user's own, Faiss, ...) then persist themselves, under
        the file name LlamaIndex gives them; if one fails, nothing else is written.
        Then all other files change at once: a process killed at any moment leaves
        the old state or the new one.

        Args:
            persist_dir: made when missing.
            docstore_fname, index_store_fname, graph_store_fname, pg_graph_store_fname:
                file names.
            vector_store_fname: ``{namespace}__`` is put before it for each vector store.
            image_store_fname: not used, as in LlamaIndex.
            fs: where to write; on a file system that is not local each file is put whole.
            in_place: write into the existing files (after a synced backup) where they
                cannot be replaced, as with a bind mount of one file.
            progress: ``True`` for a bar, or a function called with
                ``(what, done, total)``.

        Raises:
            UnserializableError: a value that JSON cannot hold; names store and key path.
            NamespaceError: a vector store's namespace that is no file name.
            UnsupportedLayoutError: the directory is LlamaIndex.TS's.
            CommitError: a file operation failed; every file is as before.
        """
        where = str(persist_dir)

        def path(fname: str) -> str:
            return concat_dirs(where, fname) if fs is not None else str(Path(where) / fname)

        targets: List[Target] = [
            ("docstore", self.docstore, path(docstore_fname)),
            ("index store", self.index_store, path(index_store_fname)),
            ("graph store", self.graph_store, path(graph_store_fname)),
        ]
        if self.property_graph_store:
            targets.append(
                ("property graph store", self.property_graph_store, path(pg_graph_store_fname))
            )
        for namespace, store in self.vector_stores.items():
            fname = f"{_files.checked_namespace(namespace)}{NAMESPACE_SEP}{vector_store_fname}"
            targets.append((f"vector store {namespace!r}", store, path(fname)))
        _refuse_typescript(where, [p for _, _, p in targets], fs)
        _persist(targets, where, fs, in_place, _Steps(progress, len(targets) + 1))

    async def apersist(self, *args: Any, **kwargs: Any) -> None:
        """:meth:`persist` in a thread, so the event loop goes on meanwhile."""
        await asyncio.to_thread(self.persist, *args, **kwargs)

    @classmethod
    def from_dict(cls, save_dict: Dict[str, Any]) -> "StorageContext":
        """A context from what :meth:`to_dict` returned.

        Raises:
            KeyError: one of the five keys is missing.
        """
        docstore = SimpleDocumentStore.from_dict(save_dict[DOC_STORE_KEY])
        index_store = SimpleIndexStore.from_dict(save_dict[INDEX_STORE_KEY])
        graph_store = SimpleGraphStore.from_dict(save_dict[GRAPH_STORE_KEY])
        property_graph_store = (
            SimplePropertyGraphStore.from_dict(save_dict[PG_STORE_KEY])
            if save_dict[PG_STORE_KEY]
            else None
        )
        vector_stores: Dict[str, BasePydanticVectorStore] = {
            namespace: SimpleVectorStore.from_dict(data)
            for namespace, data in save_dict[VECTOR_STORE_KEY].items()
        }
        return cls(
            docstore=docstore,
            index_store=index_store,
            vector_stores=vector_stores,
            graph_store=graph_store,
            property_graph_store=property_graph_store,
        )

    def __repr__(self) -> str:
        """What is inside, in a line: LlamaIndex's prints every embedding."""
        parts = [f"{name}={kind}({size})" for name, kind, size in _inventory(self)]
        return f"{type(self).__qualname__}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(kind)}</td><td>{html.escape(size)}</td></tr>"
            for name, kind, size in _inventory(self)
        )
        return (
            f"<table><caption>{html.escape(type(self).__qualname__)}</caption>"
            f"<tr><th>store</th><th>class</th><th>contents</th></tr>{rows}</table>"
        )


# ----- Loading -----

_SIDE_BY_SIDE = 1 << 20
"""Bytes from which a vector store is worth a thread of its own while loading."""

Stores = Tuple[Any, Any, Any, Any, Any]  # docstore, index, graph, property graph, vector stores


def _load(given: Stores, persist_dir: str, fs: Optional[fsspec.AbstractFileSystem]) -> Stores:
    """The stores of a directory, those given kept, all of one and the same persist."""
    _files.recover(persist_dir, fs)
    names = [DOCSTORE_FNAME, INDEX_STORE_FNAME, GRAPH_STORE_FNAME, PG_FNAME]
    try:
        names += [n for n in _files.listdir(persist_dir, fs) if n.endswith(VECTOR_STORE_FNAME)]
    except OSError:
        pass  # no such directory: the docstore says so
    paths = [os.path.join(persist_dir, name) for name in names]
    return _files.read_stable(lambda: _load_once(given, _Loader(persist_dir, fs)), paths, persist_dir, fs)


def _load_once(given: Stores, loader: "_Loader") -> Stores:
    docstore, index_store, graph_store, property_graph_store, vector_stores = given
    with ThreadPoolExecutor(1) if loader.side_by_side() else nullcontext() as pool:
        vectors = pool.submit(loader.vector_stores) if pool and not vector_stores else None
        docstore = docstore or loader.docstore()
        index_store = index_store or loader.index_store()
        graph_store = graph_store or loader.named(GRAPH_STORE_FNAME, SimpleGraphStore)
        try:
            property_graph_store = property_graph_store or loader.named(PG_FNAME, SimplePropertyGraphStore)
        except FileNotFoundError:
            property_graph_store = None
        vector_stores = vector_stores or (vectors.result() if vectors else loader.vector_stores())
    return loader.finished(docstore), index_store, graph_store, property_graph_store, vector_stores


class _Loader:
    """Loads the stores of one directory, Python's layout or LlamaIndex.TS's.

    A LlamaIndex.TS directory shows by its files' contents. Its first releases called
    the docstore as Python does, so that one is looked at only after another file has
    shown what the directory is: :meth:`finished` comes last.
    """

    def __init__(self, persist_dir: str, fs: Optional[fsspec.AbstractFileSystem]) -> None:
        self.dir = persist_dir
        self.fs = fs
        self.typescript = False
        self.loaded: Any = None  # the docstore, if it came from here
        self.nodes: List[Any] = []  # found inside LlamaIndex.TS's indices

    def side_by_side(self) -> bool:
        """Whether the default vector store is large enough to be read in a thread."""
        if not _files.unwrap_local(self.fs):
            return False
        try:
            size = os.stat(_files.local_path(self.path(f"{DEFAULT_VECTOR_STORE}{NAMESPACE_SEP}{VECTOR_STORE_FNAME}"))).st_size
        except OSError:
            return False
        return size >= _SIDE_BY_SIDE

    def path(self, fname: str) -> str:
        return concat_dirs(self.dir, fname) if self.fs is not None else os.path.join(self.dir, fname)

    def read(self, path: str) -> Any:
        return typescript.parse(_files.read_file(path, self.fs), path)

    def exists(self, fname: str) -> bool:
        return _files.exists(self.path(fname), self.fs)

    def named(self, fname: str, cls: Any) -> Any:
        """The directory's store of a class. Undecodable bytes are told with the file's name."""
        try:
            return cls.from_persist_dir(self.dir, fs=self.fs)
        except UnicodeDecodeError as e:
            if fname in e.reason:
                raise
            reason = f"{e.reason} (in {self.path(fname)}: not a JSON file)"
            raise UnicodeDecodeError(e.encoding, e.object, e.start, e.end, reason) from None

    def docstore(self) -> BaseDocumentStore:
        fname = typescript.DOCSTORE_FNAME
        if not self.exists(DOCSTORE_FNAME) and self.exists(fname):
            data = self.read(self.path(fname))
            if typescript.is_docstore(data):
                return SimpleDocumentStore(_kvstore(typescript.docstore_data(data, self.path(fname))))
        self.loaded = SimpleDocumentStore.from_persist_dir(self.dir, fs=self.fs)
        return self.loaded

    def index_store(self) -> BaseIndexStore:
        store = SimpleIndexStore.from_persist_dir(self.dir, fs=self.fs)
        if not typescript.is_index_store(store._kvstore._collections_mappings):
            return store
        self.typescript = True
        data, self.nodes = typescript.index_store_data(store.to_dict(), self.path(INDEX_STORE_FNAME))
        return SimpleIndexStore(_kvstore(data))

    def vector_stores(self) -> Dict[str, BasePydanticVectorStore]:
        bare = VECTOR_STORE_FNAME
        if self.exists(bare) and not self.exists(f"{DEFAULT_VECTOR_STORE}{NAMESPACE_SEP}{bare}"):
            data = self.read(self.path(bare)) if self.starts_as_typescript(bare) else None
            if typescript.is_vector_store(data):
                self.typescript = True
                return self.converted_vector_stores(data)
        stores = SimpleVectorStore.from_namespaced_persist_dir(self.dir, fs=self.fs)
        for store in stores.values():
            # A store that was loaded alone persists to where it came from. Of a context
            # all stores go to one place, which persist is told.
            store._fs = fsspec.filesystem("file")
        return stores

    def starts_as_typescript(self, fname: str) -> bool:
        """Whether the first key may be LlamaIndex.TS's, without parsing the file."""
        start = bytes(memoryview(_files.read_file(self.path(fname), self.fs))[:200])
        return any(key in start for key in (b'"embeddingDict"', b'"textIdToRefDocId"', b'"metadataDict"'))

    def converted_vector_stores(self, data: Any) -> Dict[str, BasePydanticVectorStore]:
        found = {DEFAULT_VECTOR_STORE: (data, self.path(VECTOR_STORE_FNAME))}
        images = f"{typescript.IMAGE_FOLDER}/{VECTOR_STORE_FNAME}"
        if self.exists(images):
            found[IMAGE_VECTOR_STORE_NAMESPACE] = (self.read(self.path(images)), self.path(images))
        return {
            namespace: SimpleVectorStore.from_dict(typescript.vector_data(content, path))
            for namespace, (content, path) in found.items()
        }

    def finished(self, docstore: BaseDocumentStore) -> BaseDocumentStore:
        """The docstore, once all else is loaded; it holds the nodes that only an index held."""
        if self.typescript and docstore is self.loaded:
            if typescript.is_docstore(self.loaded._kvstore._collections_mappings):
                data = typescript.docstore_data(self.loaded.to_dict(), self.path(DOCSTORE_FNAME))
                docstore = SimpleDocumentStore(_kvstore(data))
        missing = [n for n in self.nodes if not docstore.document_exists(n.node_id)]
        if missing:
            docstore.add_documents(missing)
        return docstore


def _kvstore(data: Dict[str, Any]) -> SimpleKVStore:
    """A key-value store of converted collections, as if loaded from their file."""
    store = SimpleKVStore()
    text = json.dumps(data).encode()
    return store if store._load(text) else SimpleKVStore(json.loads(text))


# ----- Persisting -----


class _Steps:
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


def _refuse_typescript(
    persist_dir: str, paths: List[str], fs: Optional[fsspec.AbstractFileSystem]
) -> None:
    """Keep LlamaIndex.TS's files: some of its names are ours, its contents are not."""
    loader = _Loader(persist_dir, fs)
    index = loader.path(INDEX_STORE_FNAME)
    if not loader.exists(typescript.DOCSTORE_FNAME) or loader.exists(DOCSTORE_FNAME):
        return
    if loader.exists(INDEX_STORE_FNAME) and typescript.is_index_store(loader.read(index)):
        raise UnsupportedLayoutError(
            f"{persist_dir} was written by LlamaIndex.TS, and persisting there would replace its "
            f"{INDEX_STORE_FNAME}. Nothing was changed. Persist to another directory."
        )


def _own_fs(
    store: Any, fs: Optional[fsspec.AbstractFileSystem]
) -> Optional[fsspec.AbstractFileSystem]:
    """Where a store goes: to ``fs``, else to the file system it was made with."""
    if fs is not None:
        return fs
    own = getattr(store, "_fs", None)
    return None if _files.unwrap_local(own) else own


def _persist(
    targets: List[Target],
    persist_dir: str,
    fs: Optional[fsspec.AbstractFileSystem],
    in_place: bool,
    steps: _Steps,
) -> None:
    # id(file system) -> (file system, path -> payload); the last of equal paths wins.
    commits: Dict[int, Tuple[Optional[fsspec.AbstractFileSystem], Dict[str, Any]]] = {}
    foreign: List[Target] = []
    for label, store, path in targets:
        payload = _payload(label, store)
        if payload is None:
            foreign.append((label, store, path))
            continue
        where = _own_fs(store, fs)
        commits.setdefault(id(where), (where, {}))[1][path] = payload
        steps.step(label)
    for label, store, path in foreign:
        _make_folder(path, fs)
        store.persist(persist_path=path, fs=fs)
        steps.step(label)
    for where, files in commits.values():
        _files.write_files(list(files.items()), persist_dir, where, in_place=in_place)
    steps.step("commit")
    steps.finish()


def _make_folder(path: str, fs: Optional[fsspec.AbstractFileSystem]) -> None:
    """LlamaIndex's docstore, persisted first, makes it before any other store."""
    folder = os.path.dirname(path)
    if fs is None:
        os.makedirs(folder or ".", exist_ok=True)
    elif folder and not fs.exists(folder):
        fs.makedirs(folder)


def _payload(label: str, store: Any) -> Any:
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


# ----- Telling what is inside -----


def _inventory(context: StorageContext) -> List[Tuple[str, str, str]]:
    """(field, class, contents) of every store. Contents are best effort: a store of
    somebody else's is only named."""
    stores: List[Tuple[str, Any, Callable[[Any], str]]] = [
        ("docstore", context.docstore, _docstore_size),
        ("index_store", context.index_store, _index_store_size),
    ]
    stores += [
        (f"vector_stores[{namespace!r}]", store, _vector_size)
        for namespace, store in context.vector_stores.items()
    ]
    stores.append(("graph_store", context.graph_store, _graph_size))
    if context.property_graph_store is not None:
        stores.append(
            ("property_graph_store", context.property_graph_store, _property_graph_size)
        )
    return [(name, type(store).__name__, _size(store, of)) for name, store, of in stores]


def _size(store: Any, of: Callable[[Any], str]) -> str:
    try:
        return of(store)
    except Exception:  # a store that only looks like one of ours
        return ""


def _count(n: int, one: str) -> str:
    return f"{n:,} {one}" + ("" if n == 1 else "s")


def _collection_size(store: Any, name: str) -> int:
    return len(store._kvstore._collections_mappings.get(name, ()))


def _docstore_size(store: Any) -> str:
    nodes = _collection_size(store, store._node_collection)
    documents = _collection_size(store, store._ref_doc_collection)
    return f"{_count(nodes, 'node')} of {_count(documents, 'document')}"


def _index_store_size(store: Any) -> str:
    n = _collection_size(store, store._collection)
    return "1 index" if n == 1 else f"{n:,} indices"


def _vector_size(store: Any) -> str:
    vectors = store.data.embedding_dict
    n = len(vectors)
    if n == 0:
        return "empty"
    dimension = len(store.get(next(iter(vectors))))
    return f"{n:,} × {dimension:,}, {_bytes(n * dimension * 8)} as doubles"


def _bytes(n: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if n < 1024 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1024
    return ""


def _graph_size(store: Any) -> str:
    return _count(len(store._data.graph_dict), "subject")


def _property_graph_size(store: Any) -> str:
    graph = store.graph
    return f"{_count(len(graph.nodes), 'node')}, {_count(len(graph.relations), 'relation')}"
