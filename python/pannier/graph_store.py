"""SimpleGraphStore: triplets by subject, LlamaIndex's own class over a C table.

What a caller sees is ``llama_index.core.graph_stores.simple`` with two differences:
``delete`` deletes (there it compares a tuple with lists, and never does), and a failed
``persist`` changes no file. ``upsert_triplet`` and ``delete`` cost O(1), however many
triplets a subject has.

``store._data.graph_dict`` looks like the dict that it is in LlamaIndex. The lists that
it, or ``get``, hand out are the store's own: to change them is to change the store. A
plain dict that is assigned to it (the knowledge graph index does that) is the store's
contents from then on, and LlamaIndex's own methods work on it.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import fsspec
from llama_index.core.graph_stores import simple as peer
from llama_index.core.graph_stores.types import DEFAULT_PERSIST_DIR, DEFAULT_PERSIST_FNAME

from pannier import _files, _pack
from pannier._core import GraphMethods, GraphPart, TripletTable, graph_classes
from pannier._encoding import corrupt, explain
from pannier._local_fs import local_fs

__all__ = ["NativeGraphData", "SimpleGraphStore"]

PeerData = peer.SimpleGraphStoreData
PeerStore = peer.SimpleGraphStore

_MISSING: Any = object()
# Never equal to a str, so never a subject of a table (which has only str).
_NO_SUBJECTS = frozenset({int, float, complex, bool, bytes, tuple, frozenset, type(None)})
# The limit of LlamaIndex's inner hops: they do not pass on the caller's.
_INNER_LIMIT: int = inspect.signature(PeerData._get_rel_map).parameters["limit"].default
# Deeper walks are left to LlamaIndex's recursion, and so to Python's limit of it.
_MAX_DEPTH = 64
_MAX_LIMIT = 1 << 31


class GraphDict(GraphPart, MutableMapping):
    """``{subject: [[relation, object], ...]}`` as a live view of a TripletTable.

    A list that was handed out is the value from then on, as in a dict. What a table
    cannot hold (a subject that is no ``str``) turns the view into one of a plain dict,
    for good; nothing that was handed out before loses its connection.

    Not a ``dict``: ``json.dumps`` wants ``view.copy()``.
    """

    __slots__ = ("_plain", "__weakref__")

    _table: Optional[TripletTable] = GraphPart.held  # type: ignore[assignment]

    def __init__(self, table: Optional[TripletTable] = None) -> None:
        self._table: Optional[TripletTable] = TripletTable() if table is None else table
        self._plain: Any = None

    def _surrender(self) -> Dict[Any, Any]:
        if self._table is not None:
            self._plain = self._table.snapshot()
            self._table = None
        return self._plain

    def _of(self, key: Any) -> Optional[TripletTable]:
        """The table if it can answer for the key, else None: ``_plain`` does."""
        if type(key) is not str and self._table is not None:
            hash(key)
            if type(key) not in _NO_SUBJECTS:
                self._surrender()
        return self._table

    def __getitem__(self, key: Any) -> Any:
        table = self._of(key)
        if table is None:
            return self._plain[key]
        value = table.live(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        table = self._of(key)
        return self._plain.get(key, default) if table is None else table.live(key, default)

    def __contains__(self, key: Any) -> bool:
        table = self._of(key)
        return key in self._plain if table is None else key in table

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is not str:
            hash(key)
            self._surrender()
        if self._table is None:
            self._plain[key] = value
        else:
            self._table.set(key, value)

    def __delitem__(self, key: Any) -> None:
        table = self._of(key)
        if table is None:
            del self._plain[key]
        elif not table.remove(key):
            raise KeyError(key)

    def __len__(self) -> int:
        return len(self._plain) if self._table is None else len(self._table)

    def _keys(self) -> List[Any]:
        return list(self._plain) if self._table is None else self._table.keys()

    def _walk(self, keys: List[Any]) -> Iterator[Any]:
        for key in keys:
            self._check_size(len(keys))
            yield key
        self._check_size(len(keys))

    def _check_size(self, size: int) -> None:
        if len(self) != size:
            raise RuntimeError("dictionary changed size during iteration")

    def __iter__(self) -> Iterator[Any]:
        return self._walk(self._keys())

    def __reversed__(self) -> Iterator[Any]:
        return self._walk(self._keys()[::-1])

    def clear(self) -> None:
        if self._table is None:
            self._plain.clear()
        else:
            self._table = TripletTable()

    def popitem(self) -> Tuple[Any, Any]:
        keys = self._keys()
        if not keys:
            raise KeyError("popitem(): dictionary is empty")
        return keys[-1], self.pop(keys[-1])

    def copy(self) -> Dict[Any, Any]:
        """A plain dict of the same lists, as ``dict.copy`` gives."""
        return {key: self[key] for key in self._keys()}

    __copy__ = copy

    def _snapshot(self) -> Dict[Any, Any]:
        """A plain dict with fresh lists, but the very lists that were handed out."""
        return dict(self._plain) if self._table is None else self._table.snapshot()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GraphDict):
            return self._snapshot() == other._snapshot()
        return self._snapshot() == other if isinstance(other, dict) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._snapshot())

    def __or__(self, other: Any) -> Any:
        return {**self.copy(), **other} if isinstance(other, (dict, GraphDict)) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return {**other, **self.copy()} if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> "GraphDict":
        self.update(other)
        return self

    def __deepcopy__(self, memo: Dict[int, Any]) -> Dict[Any, Any]:
        # Also what dataclasses.asdict calls: like that of a dict, the result is one.
        return copy.deepcopy(self._snapshot(), memo)

    def __reduce__(self) -> Any:
        return dict, (self._snapshot(),)


class _Peek(Mapping):
    """A table as LlamaIndex's walk reads it, without making subjects live."""

    def __init__(self, table: TripletTable, most: int) -> None:
        self._table, self._most = table, most

    def __contains__(self, key: Any) -> bool:
        return (str.__str__(key) if isinstance(key, str) else key) in self._table

    def __getitem__(self, key: str) -> Any:
        # a subject that another thread deleted after it was looked for has no triplets
        return self._table.peek(str.__str__(key), self._most) or []

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.keys())

    def __len__(self) -> int:
        return len(self._table)


class NativeGraphData(GraphPart, PeerData):
    """``SimpleGraphStoreData`` whose ``graph_dict`` is a view of a C table.

    Attributes:
        graph_dict (GraphDict | dict): subject to ``[[relation, object], ...]``. What is
            assigned here is kept as it is.
    """

    graph_dict: Any = GraphPart.held

    def __init__(self, graph_dict: Any = _MISSING) -> None:
        self.graph_dict = GraphDict() if graph_dict is _MISSING else graph_dict

    def _table(self) -> Optional[TripletTable]:
        graph = self.graph_dict
        return graph._table if type(graph) is GraphDict else None

    @classmethod
    def _wrap(cls, table: TripletTable) -> "NativeGraphData":
        return cls(GraphDict(table))

    def get_rel_map(
        self, subjs: Optional[List[str]] = None, depth: int = 2, limit: int = 30
    ) -> Dict[str, List[List[str]]]:
        """Triplets that start at the subjects, depth first.

        Args:
            subjs (Optional[List[str]]): None for all.
            depth (int): hops.
            limit (int): triplets in all, and of the first hop of each subject.

        Returns:
            {subject: [[subject, relation, object], ...]}, fresh lists. As in LlamaIndex
            inner hops are limited to 30, and the subject at which ``limit`` is reached
            is cut and the last.
        """
        table = self._table()
        if table is None:
            return super().get_rel_map(subjs=subjs, depth=depth, limit=limit)
        names: List[Any] = table.keys() if subjs is None else list(subjs)
        if type(depth) is int and 0 <= depth <= _MAX_DEPTH and type(limit) is int and 0 <= limit < _MAX_LIMIT:
            found = table.rel_map(names, depth, limit, _INNER_LIMIT)
            if found is not None:
                return found
        most = max(limit, _INNER_LIMIT) + 1 if type(limit) is int else sys.maxsize
        return PeerData(_Peek(table, most)).get_rel_map(names, depth=depth, limit=limit)  # type: ignore[arg-type]

    def to_dict(self, encode_json: bool = False) -> Dict[str, Any]:
        """{"graph_dict": {...}}, a deep copy."""
        table = self._table()
        if table is None:
            return super().to_dict(encode_json=encode_json)
        copied = table.copied()
        if copied is not None:
            return {"graph_dict": copied}
        content = table.snapshot()
        live = {subj: content[subj] for subj in table.live_subjects()}
        if live:
            content.update(PeerData(live).to_dict(encode_json=encode_json)["graph_dict"])
        return {"graph_dict": content}

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Any:
        """From what ``to_dict`` returns. What LlamaIndex makes of anything else stays."""
        if type(kvs) is dict and len(kvs) == 1 and type(kvs.get("graph_dict")) is dict:
            table = TripletTable.of(kvs["graph_dict"], True)
            if table is not None:
                return cls._wrap(table)
        data = PeerData.from_dict(kvs, infer_missing=infer_missing)
        if data is kvs:
            return data
        graph = data.graph_dict
        table = TripletTable.of(graph, False) if type(graph) is dict else None
        return cls(graph) if table is None else cls._wrap(table)

    def __eq__(self, other: object) -> bool:
        return self.graph_dict == other.graph_dict if isinstance(other, PeerData) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{PeerData.__qualname__}(graph_dict={self.graph_dict!r})"

    def __deepcopy__(self, memo: Dict[int, Any]) -> "NativeGraphData":
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        table = self._table()
        if table is None:
            new.graph_dict = copy.deepcopy(self.graph_dict, memo)
            new.__dict__.update(copy.deepcopy(self.__dict__, memo))
            return new
        live = {subj: copy.deepcopy(table.peek(subj, 0), memo) for subj in table.live_subjects()}
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        new.graph_dict = GraphDict(_refill(table.snapshot(), live))
        return new

    def __getstate__(self) -> Dict[str, Any]:
        table = self._table()
        if table is None:
            return {**self.__dict__, "graph_dict": self.graph_dict}
        return {**self.__dict__, "graph_dict": table.snapshot(), "_live": table.live_subjects()}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        """Takes LlamaIndex's state too, whose dict others may share: it stays a dict."""
        state = dict(state)
        graph, live = state.pop("graph_dict"), state.pop("_live", None)
        if live is not None:
            graph = GraphDict(_refill(graph, {subj: graph[subj] for subj in live}))
        self.__dict__.update(state)
        self.graph_dict = graph

    def __copy__(self) -> "NativeGraphData":
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.graph_dict = self.graph_dict  # the same, as there
        return new


def _refill(content: Dict[str, Any], live: Dict[str, Any]) -> TripletTable:
    """A table of the contents, in which the live subjects are these objects."""
    table = TripletTable.of(content, False)
    assert table is not None  # every subject comes from a table
    for subj, value in live.items():
        table.set(subj, value)
    return table


class _ByHand(PeerStore):
    """What GraphMethods, the base in C, leaves alone: a subject whose list somebody
    holds, contents that are a plain dict, arguments that are no ``str``."""

    def _table(self) -> Optional[TripletTable]:
        data = self._data
        graph = data.graph_dict if type(data) is NativeGraphData else None
        return graph._table if type(graph) is GraphDict else None

    def get(self, subj: str) -> List[List[str]]:
        table = self._table()
        if table is None or type(subj) is not str:
            return super().get(subj)
        value = table.live(subj, _MISSING)
        return [] if value is _MISSING else value

    def upsert_triplet(self, subj: str, rel: str, obj: str) -> None:
        table = self._table()
        if table is None or not table.upsert(subj, rel, obj):
            super().upsert_triplet(subj, rel, obj)

    def delete(self, subj: str, rel: str, obj: str) -> None:
        table = self._table()
        if table is not None and table.delete(subj, rel, obj):
            return
        graph = self._data.graph_dict
        if subj not in graph:
            return
        existing = graph[subj]
        for i, pair in enumerate(existing):
            if tuple(pair) == (rel, obj):
                del existing[i]
                if len(existing) == 0:
                    del graph[subj]
                return

    for _method in (get, upsert_triplet, delete):
        _method.__qualname__ = f"SimpleGraphStore.{_method.__name__}"  # as it is called: for errors
    del _method


class SimpleGraphStore(GraphMethods, _ByHand):  # type: ignore[misc]
    """LlamaIndex's ``SimpleGraphStore``.

    ``get``, ``get_rel_map``, ``upsert_triplet``, ``delete`` and ``to_dict`` are those of
    GraphMethods.

    Args:
        data (Optional[SimpleGraphStoreData]): contents, kept as they are.
        fs (Optional[fsspec.AbstractFileSystem]): where ``persist`` writes by default.
    """

    def __init__(
        self,
        data: Optional[PeerData] = None,
        fs: Optional[fsspec.AbstractFileSystem] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data or NativeGraphData(), fs or local_fs(), **kwargs)

    def _pn_encode(self) -> Any:
        """The contents of the file, bytes-like.

        Raises:
            UnserializableError: a value that JSON cannot hold.
        """
        table = self._table()
        text = None if table is None else table.encode()
        if text is not None:
            return text
        graph = self._data.graph_dict
        data = {"graph_dict": graph._snapshot() if isinstance(graph, GraphDict) else graph}
        try:
            data = self._data.to_dict()
            return json.dumps(data).encode()
        except TypeError as e:
            raise explain(e, "graph store", "", data) from e

    def persist(
        self,
        persist_path: str = os.path.join(DEFAULT_PERSIST_DIR, DEFAULT_PERSIST_FNAME),
        fs: Optional[fsspec.AbstractFileSystem] = None,
    ) -> None:
        """Write the store to one file; missing directories are made.

        Raises:
            UnserializableError: a value that JSON cannot hold; no file was touched.
            CommitError: an OSError; the file is as it was.
        """
        fs = fs or self._fs
        if _pack.persisted("graph store", self, persist_path, fs):
            return
        _files.write_files([(persist_path, self._pn_encode())], os.path.dirname(persist_path), fs)

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str = DEFAULT_PERSIST_DIR,
        fs: Optional[fsspec.AbstractFileSystem] = None,
    ) -> "SimpleGraphStore":
        """The store in ``persist_dir/graph_store.json``; see :meth:`from_persist_path`."""
        return cls.from_persist_path(os.path.join(persist_dir, DEFAULT_PERSIST_FNAME), fs=fs)

    @classmethod
    def from_persist_path(
        cls, persist_path: str, fs: Optional[fsspec.AbstractFileSystem] = None
    ) -> "SimpleGraphStore":
        """The store in a file. A missing file is a warning and an empty store.

        Raises:
            CorruptStoreError: a json.JSONDecodeError; the file is no JSON.
            UnicodeDecodeError: nor text.
        """
        fs = fs or fsspec.filesystem("file")
        found = _pack.find(persist_path, fs)
        if found is None and not _files.exists(persist_path, fs):
            peer.logger.warning(
                f"No existing {peer.__name__} found at {persist_path}. "
                "Initializing a new graph_store from scratch. "
            )
            return cls()
        peer.logger.debug(f"Loading {peer.__name__} from {persist_path}.")
        table = None if found is None else found.graph()
        if found is not None and table is not None:
            store = cls(NativeGraphData._wrap(table))
            found.note_whole(store)
            return store
        text = _files.read_file(persist_path, fs) if found is None else found.text()
        table = TripletTable.load(text)
        data = NativeGraphData._wrap(table) if table is not None else NativeGraphData.from_dict(corrupt(text, persist_path))
        store = cls(data)
        if found is not None:
            found.note(store, text)
        return store

    @classmethod
    def from_dict(cls, save_dict: dict) -> "SimpleGraphStore":
        """The store of a dict that :meth:`to_dict` returned; a deep copy."""
        return cls(NativeGraphData.from_dict(save_dict))


graph_classes(
    SimpleGraphStore,
    NativeGraphData,
    GraphDict,
    _INNER_LIMIT,
    (_ByHand.get, _ByHand.get_rel_map, _ByHand.upsert_triplet, _ByHand.delete, _ByHand.to_dict),
)
