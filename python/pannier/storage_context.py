"""The storage context: everything an index keeps, loaded and persisted as one.

Same fields, signatures and quirks as LlamaIndex's ``StorageContext``. What is done
better: a persist encodes everything before it touches the disk and commits all
stores at once; a corrupt or foreign file is an error that names it, never an empty
store; directories of LlamaIndex.TS are read.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, NamedTuple, Optional, Tuple, Union

import fsspec
from llama_index.core.constants import (
    DOC_STORE_KEY,
    GRAPH_STORE_KEY,
    INDEX_STORE_KEY,
    PG_STORE_KEY,
    VECTOR_STORE_KEY,
)
from llama_index.core.graph_stores.types import DEFAULT_PG_PERSIST_FNAME as PG_FNAME
from llama_index.core.graph_stores.types import GraphStore, PropertyGraphStore
from llama_index.core.storage import storage_context as peer_context
from llama_index.core.storage.docstore.types import BaseDocumentStore
from llama_index.core.storage.index_store.types import BaseIndexStore
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
from llama_index.core.utils import concat_dirs
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from pannier import _files, _pack, _stored, typescript
from pannier._local_fs import local_fs
from pannier._packing import leave_pack, left_pack, persist_pack
from pannier._saving import Progress, Steps, Target, checked_format, default_format, format_of, persist_json
from pannier.docstore import SimpleDocumentStore
from pannier.errors import GenerationError, ReadOnlyError, UnsupportedLayoutError
from pannier.graph_store import SimpleGraphStore
from pannier.index_store import SimpleIndexStore
from pannier.kvstore import SimpleKVStore
from pannier.property_graph import SimplePropertyGraphStore
from pannier.vector_store import SimpleVectorStore

_PeerContext = peer_context.StorageContext  # itself, whatever its module's name is rebound to later


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
        *,
        format: Optional[str] = None,
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
                pannier's in either format, or LlamaIndex.TS's.
            fs (Optional[fsspec.AbstractFileSystem]): where the directory is.
            format (Optional[str]): "json" or "pack", for a directory that has both.

        Raises:
            FileNotFoundError: there is no docstore or index store in the directory.
            ValueError: there is no vector store where one must be.
            CorruptStoreError: a file is not the JSON it should be; it is named.
            UnsupportedLayoutError: a LlamaIndex.TS directory with something in it that
                has no counterpart.
            MixedFormatError: a pack and JSON files that changed after it.
            CorruptPackError, FormatVersionError: a file of a pack cannot be read.
        """
        pack = None
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
            pack = _open(persist_dir, fs, format)
            docstore, index_store, graph_store, property_graph_store, vector_stores = _load(
                (docstore, index_store, graph_store, property_graph_store, vector_stores), persist_dir, fs, pack
            )
        if image_store:
            vector_stores[IMAGE_VECTOR_STORE_NAMESPACE] = image_store

        return cls._holding((docstore, index_store, graph_store, property_graph_store, vector_stores), pack)

    @classmethod
    def open(
        cls,
        persist_dir: Union[str, os.PathLike[str]],
        *,
        read_only: bool = False,
        generation: Optional[int] = None,
        check: bool = False,
        fs: Optional[fsspec.AbstractFileSystem] = None,
        format: Optional[str] = None,
    ) -> "StorageContext":
        """All stores of a directory, in either format.

        Args:
            persist_dir: the directory.
            read_only: the context refuses to persist. Nothing is written into the
                directory, not even to finish a persist that was killed.
            generation: of a pack: an earlier generation, see :func:`pannier.history`. Such
                a context can persist only elsewhere.
            check: of a pack: check all bytes now, instead of each value before its first use.
            fs: where the directory is.
            format: "json" or "pack", for a directory that has both.

        Raises:
            GenerationError: a LookupError; the directory has no such generation.
            CorruptPackError: a file of the pack is damaged; names it and the byte.
            MixedFormatError, FormatVersionError, and as :meth:`from_defaults`.
        """
        where = str(persist_dir)
        pack = _open(where, fs, format, generation, check)
        if pack is None and generation is not None:
            raise GenerationError(f"{where} has no pack, so no generation {generation}")
        self = cls._holding(_load((None, None, None, None, None), where, fs, pack, read_only), pack)
        self._pn_read_only = read_only
        return self

    @classmethod
    def _holding(cls, stores: "Stores", pack: Optional[_pack.Pack]) -> "StorageContext":
        """A context of these stores, at home in the pack that they were read from."""
        docstore, index_store, graph_store, property_graph_store, vector_stores = stores
        self = cls(
            docstore=docstore,
            index_store=index_store,
            vector_stores=vector_stores,
            graph_store=graph_store,
            property_graph_store=property_graph_store,
        )
        if pack is not None:
            self._pn_home = _Home(pack.dir, pack.fs, pack.generation)
        return self

    _pn_home: ClassVar[Optional["_Home"]] = None  # on an instance: the pack that it was read from or written to
    _pn_read_only: ClassVar[bool] = False

    @property
    def generation(self) -> Optional[int]:
        """The generation of the pack that this context was read from or last persisted
        as; None when there is no pack."""
        return self._pn_home.generation if self._pn_home is not None else None

    def reload(self) -> bool:
        """Bring this context to the current generation of its pack.

        The store objects stay, so indices over them go on; what they hold is replaced, and
        changes that were not persisted are lost.

        Returns:
            bool: whether there was a newer one.

        Raises:
            RuntimeError: the context comes from no pack.
            CorruptPackError, MixedFormatError, FormatVersionError.
        """
        home = self._pn_home
        if home is None:
            raise RuntimeError("this context was neither read from a pack nor persisted into one")
        pack = _pack.open_pack(home.dir, home.fs)
        if pack is None:
            raise RuntimeError(f"there is no pack any more in {home.dir}")
        newer = pack.generation != home.generation
        _replace(self, _load((None, None, None, None, None), home.dir, home.fs, pack))
        self._pn_home = home._replace(generation=pack.generation)
        return newer

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
        format: Optional[str] = None,
        keep: int = 0,
    ) -> None:
        """Write every store into a directory, all of them or none.

        There are two formats, and a directory keeps the one it has. *JSON* is
        LlamaIndex's layout, byte for byte. A *pack* holds the same stores as a log of
        changes: persisting writes what changed, opening maps files, earlier generations
        stay. ``format`` converts a directory that has the other one.

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
            format: "json" or "pack"; None is the directory's own, and for a new directory
                what ``install(format=)`` or ``PANNIER_FORMAT`` say, else JSON.
            keep: of a pack: how many generations stay from now on (0: as before, 3 at first).

        Raises:
            UnserializableError: a value that JSON cannot hold; names store and key path.
            ConflictError: another writer changed the pack since this context was read from
                it or persisted into it.
            LockedError: another writer is at work in the pack.
            ReadOnlyError: the context was opened ``read_only``.
            MixedFormatError: the directory has both formats; say which by ``format``.
            NamespaceError: a vector store's namespace that is no file name.
            UnsupportedLayoutError: the directory is LlamaIndex.TS's.
            CommitError: a file operation failed; every file is as before.
        """
        where = str(persist_dir)
        if self._pn_read_only:
            raise ReadOnlyError(f"this context was opened read_only; it does not persist (to {where})")
        chosen, found = checked_format(format), None
        if chosen is None:
            chosen, found = format_of(where, fs)
        chosen = chosen or default_format()

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
        _refuse_typescript(where, fs)
        steps = Steps(progress, len(targets) + 1)
        if chosen == "pack":
            done = persist_pack(targets, where, fs, steps, keep, found=found)
            self._pn_home = _Home(_pack.root_of(where, fs), fs, done.generation)
            return
        names = {os.path.basename(p) for _, _, p in targets}
        had_pack = _pack.exists(where, fs)
        leaving = leave_pack(where, fs, names) if had_pack else {}
        persist_json(targets, where, fs, in_place, steps, leaving)
        if had_pack:
            left_pack(where, fs, names.union(map(os.path.basename, leaving)) - {_pack.MANIFEST})
            self._pn_home = None

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
        import html  # whose table of entities takes a millisecond or more to make

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
"""Bytes of JSON from which a vector store is worth a thread of its own while loading."""

_SIDE_BY_SIDE_PACK = 1 << 26
"""The same for a pack, where opening costs what the keys cost."""

Stores = Tuple[Any, Any, Any, Any, Any]  # docstore, index, graph, property graph, vector stores


class _Home(NamedTuple):
    """The pack that a context was read from or written to."""

    dir: str
    fs: Optional[fsspec.AbstractFileSystem]
    generation: int


def _open(
    persist_dir: str,
    fs: Optional[fsspec.AbstractFileSystem],
    format: Optional[str] = None,
    generation: Optional[int] = None,
    check: bool = False,
) -> Optional[_pack.Pack]:
    """The directory's pack, or None when its JSON files count."""
    if generation is not None and not 1 <= operator.index(generation) < 1 << 64:
        raise GenerationError(f"{persist_dir} has no generation {generation}")
    if checked_format(format) == "json":
        return None
    return _pack.open_pack(persist_dir, fs, generation, check, mixed=format == "pack" or generation is not None)


def _replace(context: StorageContext, stores: Stores) -> None:
    """Puts what the given stores hold into the context's own store objects."""
    docstore, index_store, graph_store, property_graph_store, vector_stores = stores
    for mine, new in ((context.docstore, docstore), (context.index_store, index_store)):
        if type(mine) is not type(new):
            raise RuntimeError(f"the {type(mine).__name__} of this context is not one that a pack can replace")
    context.docstore._kvstore = docstore._kvstore
    context.index_store._kvstore = index_store._kvstore
    for namespace in context.vector_stores:  # those that are not there are empty
        if type(context.vector_stores[namespace]) is SimpleVectorStore:
            vector_stores.setdefault(namespace, SimpleVectorStore())
    for namespace, store in vector_stores.items():
        mine = context.vector_stores.get(namespace)
        if type(mine) is type(store):
            mine.data = store.data
        else:
            context.vector_stores[namespace] = store
    if type(context.graph_store) is type(graph_store):
        context.graph_store._data = graph_store._data
        _pack.bases.move(graph_store, context.graph_store)
    mine = context.property_graph_store
    if type(mine) is SimplePropertyGraphStore:
        new = property_graph_store or SimplePropertyGraphStore()
        mine.graph = new.graph
        _pack.bases.move(new, mine)
    elif property_graph_store is not None:
        context.property_graph_store = property_graph_store


def _load(
    given: Stores,
    persist_dir: str,
    fs: Optional[fsspec.AbstractFileSystem],
    pack: Optional[_pack.Pack] = None,
    read_only: bool = False,
) -> Stores:
    """The stores of a directory, those given kept, all of one and the same persist."""
    with _pack.reading(persist_dir, fs, pack), _files.looking(read_only):
        if pack is not None:
            return _load_once(given, _Loader(persist_dir, fs, pack))
        return _load_json(given, persist_dir, fs)


def _load_json(given: Stores, persist_dir: str, fs: Optional[fsspec.AbstractFileSystem]) -> Stores:
    _files.recover(persist_dir, fs)
    names = [DOCSTORE_FNAME, INDEX_STORE_FNAME, GRAPH_STORE_FNAME, PG_FNAME]
    try:
        names += [n for n in _stored.listdir(persist_dir, fs) if n.endswith(VECTOR_STORE_FNAME)]
    except OSError:
        pass  # no such directory: the docstore says so
    paths = [os.path.join(persist_dir, name) for name in names]
    return _files.read_stable(lambda: _load_once(given, _Loader(persist_dir, fs)), paths, persist_dir, fs)


def _load_once(given: Stores, loader: "_Loader") -> Stores:
    docstore, index_store, graph_store, property_graph_store, vector_stores = given
    with ThreadPoolExecutor(1) if loader.side_by_side() else nullcontext() as pool:
        vectors = pool.submit(copy_context().run, loader.vector_stores) if pool and not vector_stores else None
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

    def __init__(
        self, persist_dir: str, fs: Optional[fsspec.AbstractFileSystem], pack: Optional[_pack.Pack] = None
    ) -> None:
        self.dir = persist_dir
        self.fs = fs
        self.pack = pack
        self.typescript = False
        self.loaded: Any = None  # the docstore, if it came from here
        self.nodes: List[Any] = []  # found inside LlamaIndex.TS's indices

    def side_by_side(self) -> bool:
        """Whether the vector stores are large enough to be read in a thread of their own."""
        if self.pack is not None:
            return self.pack.bytes >= _SIDE_BY_SIDE_PACK
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
        return typescript.parse(_stored.read_file(path, self.fs), path)

    def exists(self, fname: str) -> bool:
        return _stored.exists(self.path(fname), self.fs)

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
            store._fs = local_fs()
        return stores

    def starts_as_typescript(self, fname: str) -> bool:
        """Whether the first key may be LlamaIndex.TS's, without parsing the file."""
        start = bytes(memoryview(_stored.read_file(self.path(fname), self.fs))[:200])
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


def _refuse_typescript(persist_dir: str, fs: Optional[fsspec.AbstractFileSystem]) -> None:
    """Keep LlamaIndex.TS's files: some of its names are ours, its contents are not."""
    with _pack.reading(persist_dir, fs, None):
        loader = _Loader(persist_dir, fs)
        index = loader.path(INDEX_STORE_FNAME)
        if not loader.exists(typescript.DOCSTORE_FNAME) or loader.exists(DOCSTORE_FNAME):
            return
        theirs = loader.exists(INDEX_STORE_FNAME) and typescript.is_index_store(loader.read(index))
    if theirs:
        raise UnsupportedLayoutError(
            f"{persist_dir} was written by LlamaIndex.TS, and persisting there would replace its "
            f"{INDEX_STORE_FNAME}. Nothing was changed. Persist to another directory."
        )


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
