"""The vector store: LlamaIndex's ``SimpleVectorStore`` on the C core.

The state lives in the store's ``data`` field. There a :class:`NativeVectorData` holds a
``_core.VectorTable`` (a matrix, and metadata as JSON text until somebody asks for it)
and shows the three dictionaries of LlamaIndex's ``SimpleVectorStoreData`` as live
mappings. It *surrenders*, that is becomes a plain ``SimpleVectorStoreData``, when
somebody assigns one of the dictionaries or stores something that a table cannot hold
(an embedding that is not a list of floats, an id that is no string); from then on, as
for data that the caller made, LlamaIndex's own methods do the work.

A vector that was handed out is live, as in LlamaIndex: the table gives the same list each
time, and ``VectorTable.sync`` takes over what callers changed in such lists. Whoever reads
the vectors goes through ``_synced`` or the store's ``_table``, which see to that.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, cast

import fsspec
from dataclasses_json.cfg import global_config
import numpy as np
from llama_index.core.bridge.pydantic import Field, field_serializer
from llama_index.core.indices.query import embedding_utils
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.utils import concat_dirs
from llama_index.core.vector_stores import simple as peer
from llama_index.core.vector_stores.simple import (
    DEFAULT_VECTOR_STORE,
    MMR_MODE,
    NAMESPACE_SEP,
    SimpleVectorStoreData,
)
from llama_index.core.vector_stores.simple import SimpleVectorStore as PeerSimpleVectorStore
from llama_index.core.vector_stores.types import (
    DEFAULT_PERSIST_DIR,
    DEFAULT_PERSIST_FNAME,
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from pannier import _core, _files, _pack, _stored, typescript
from pannier._encoding import corrupt, explain
from pannier._local_fs import local_fs
from pannier._views import LiveMapping, checked_iter

logger = logging.getLogger(__name__)

ROWS, REFS, METAS = 0, 1, 2  # the maps of a VectorTable
_FIELDS = ("embedding_dict", "text_id_to_ref_doc_id", "metadata_dict")


# ----- The data object -----


class VectorMapping(LiveMapping):
    """One dictionary of a vector store, live.

    ``embedding_dict[id]`` and ``metadata_dict[id]`` are the stored list and dict themselves,
    as in LlamaIndex; they are not the objects that were added.
    """

    __slots__ = ("_data", "_table", "_which", "_plain")

    def __init__(self, data: "NativeVectorData", table: Any, which: int) -> None:
        self._data = data
        self._table = table
        self._which = which
        self._plain: Optional[Dict[Any, Any]] = None  # the dict it became, after a surrender

    def __getitem__(self, key: Any) -> Any:
        if self._plain is not None:
            return self._plain[key]
        hash(key)  # TypeError as a dict raises
        return self._table.get(self._which, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._plain is None:
            hash(key)
            if self._table.set(self._which, key, value):
                return
            self._data._surrender()
        cast(Dict[Any, Any], self._plain)[key] = value

    def __delitem__(self, key: Any) -> None:
        if self._plain is not None:
            del self._plain[key]
            return
        hash(key)
        if not self._table.remove(self._which, key):
            raise KeyError(key)

    def __contains__(self, key: Any) -> bool:
        if self._plain is not None:
            return key in self._plain
        hash(key)
        return bool(self._table.has(self._which, key))

    def __len__(self) -> int:
        return len(self._plain) if self._plain is not None else self._table.len(self._which)

    def __iter__(self) -> Iterator[Any]:
        if self._plain is not None:
            return iter(self._plain)
        return checked_iter(self._table.keys(self._which), self.__len__)

    def clear(self) -> None:
        for key in list(self):
            del self[key]

    def _peeked(self) -> Dict[Any, Any]:
        """A plain dict whose values may be fresh equal ones."""
        if self._plain is not None:
            return dict(self._plain)
        return {key: self._table.peek(self._which, key) for key in self._table.keys(self._which)}

    def __eq__(self, other: object) -> bool:
        if isinstance(other, VectorMapping):
            return self._peeked() == other._peeked()
        return self._peeked() == other

    def __repr__(self) -> str:
        return repr(self._peeked())

    def __deepcopy__(self, memo: Dict[int, Any]) -> Dict[Any, Any]:
        import copy

        return copy.deepcopy(self._peeked(), memo)

    def __reduce__(self) -> Any:
        return (dict, (self._peeked(),))


def _field(which: int) -> Any:
    def get(self: "NativeVectorData") -> VectorMapping:
        return self._views[which]

    def assign(self: "NativeVectorData", value: Any) -> None:
        if value is self._views[which]:  # what ``data.field |= {...}`` ends with
            return
        self._surrender()
        setattr(self, _FIELDS[which], value)

    return property(get, assign)


class NativeVectorData(SimpleVectorStoreData):
    """LlamaIndex's ``SimpleVectorStoreData`` over a C table.

    Assigning one of the three dictionaries turns the object into a plain
    ``SimpleVectorStoreData`` with that dictionary and plain copies of the others;
    mappings that were handed out before go on showing what they showed.

    Args:
        embedding_dict, text_id_to_ref_doc_id, metadata_dict: as in LlamaIndex. With any
            of them the object is a plain one at once.
    """

    embedding_dict = _field(ROWS)  # type: ignore[assignment]
    text_id_to_ref_doc_id = _field(REFS)  # type: ignore[assignment]
    metadata_dict = _field(METAS)  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            self.__class__ = SimpleVectorStoreData  # type: ignore[assignment]
            self.__init__(*args, **kwargs)  # type: ignore[misc]

    def _attach(self, table: Any) -> None:
        self._table = table

    def __getattr__(self, name: str) -> Any:
        """``_views`` and the ``_table`` of a new object, on demand."""
        made: Any
        if name == "_views":
            made = tuple(VectorMapping(self, self._table, which) for which in (ROWS, REFS, METAS))
        elif name == "_table":
            made = _core.VectorTable()
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__.setdefault(name, made)

    @classmethod
    def over(cls, table: Any) -> "NativeVectorData":
        """The data object of a ``_core.VectorTable``."""
        self = cls.__new__(cls)
        self._attach(table)
        return self

    def _synced(self) -> Any:
        """The table, with what was changed in lists that were handed out.

        None when a table cannot hold that: the object is a plain one then.
        """
        table = self._table
        if table.sync():
            return table
        self._surrender()
        return None

    def _surrender(self) -> None:
        """Becomes a plain ``SimpleVectorStoreData``; live values stay the same objects."""
        if type(self) is not NativeVectorData:
            return
        views, table = self._views, self._table
        plain = [{key: table.get(which, key) for key in table.keys(which)} for which in (ROWS, REFS, METAS)]
        del self._views, self._table
        self.__class__ = SimpleVectorStoreData  # type: ignore[assignment]
        for name, view, values in zip(_FIELDS, views, plain):
            view._plain = values
            setattr(self, name, values)

    def _peeked(self) -> SimpleVectorStoreData:
        return SimpleVectorStoreData(*(view._peeked() for view in self._views))

    def to_dict(self, encode_json: bool = False) -> Dict[str, Any]:
        """The three dictionaries as plain ones, deep, as dataclasses_json makes them."""
        if self._synced() is None:
            return self.to_dict(encode_json)
        rows, refs, metas = (view._peeked() for view in self._views)
        live = dict(self._table.live())
        dumped = SimpleVectorStoreData(metadata_dict=live).to_dict(encode_json=encode_json)["metadata_dict"]
        metas.update(dumped)
        return dict(zip(_FIELDS, (rows, refs, metas)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SimpleVectorStoreData):
            return NotImplemented
        mine, theirs = self._views, [getattr(other, name) for name in _FIELDS]
        return all(a == b for a, b in zip(mine, theirs))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._peeked())

    def __copy__(self) -> SimpleVectorStoreData:
        """Shares the dictionaries, so they have to be dictionaries."""
        self._surrender()
        return SimpleVectorStoreData(*(getattr(self, name) for name in _FIELDS))

    def __reduce_ex__(self, protocol: Any) -> Any:
        odd: Dict[str, Any] = {}

        def keep(key: str, value: Any) -> str:
            odd[key] = value
            return "null"

        table = self._synced()
        if table is None:
            return self.__reduce_ex__(protocol)
        text = bytes(table.encode(keep))
        return (_restored, (text, odd))


def _restored(text: bytes, odd: Dict[str, Any]) -> SimpleVectorStoreData:
    """Unpickles a :class:`NativeVectorData`."""
    table = _core.VectorTable.load(text)
    if table is None:
        return SimpleVectorStoreData(**{**json.loads(text), "metadata_dict": {**json.loads(text)["metadata_dict"], **odd}})
    for key, value in odd.items():
        table.set(METAS, key, value)
    return NativeVectorData.over(table)


def _native(data: SimpleVectorStoreData, own_metadata: bool) -> SimpleVectorStoreData:
    """The same contents over a table, or ``data`` itself where a table cannot hold them.

    Args:
        own_metadata: nobody else holds the metadata dicts, so their text will do.
    """
    if any(type(getattr(data, name)) is not dict for name in _FIELDS):
        return data
    table = _core.VectorTable()
    for key, row in data.embedding_dict.items():
        if not table.set(ROWS, key, row):
            return data
    for key, ref in data.text_id_to_ref_doc_id.items():
        if not table.set(REFS, key, ref):
            return data
    for key, metadata in data.metadata_dict.items():
        if own_metadata and table.set_text(key, metadata):
            continue
        if not table.set(METAS, key, metadata):
            return data
    return NativeVectorData.over(table)


# ----- How node classes dump, for VectorTable.add_nodes -----

# One letter a field, see vector_add.c. A class with a field that is not known here is
# left to LlamaIndex's own code.
_KINDS = {
    "id_": "s",
    "embedding": "-",
    "metadata": "-",
    "excluded_embed_metadata_keys": "l",
    "excluded_llm_metadata_keys": "l",
    "relationships": "r",
    "metadata_template": "s",
    "metadata_separator": "s",
    "metadata_seperator": "s",
    "text": "s",
    "mimetype": "s",
    "start_char_idx": "n",
    "end_char_idx": "n",
    "text_template": "s",
    "image": "o",
    "image_path": "o",
    "image_url": "o",
    "image_mimetype": "o",
    "text_embedding": "0",
    "index_id": "s",
    "obj": "0",
    "text_resource": "m",
    "image_resource": "m",
    "audio_resource": "m",
    "video_resource": "m",
}
_RELATED = {"node_id", "node_type", "metadata", "hash"}
_RESOURCE = {"embeddings", "data", "text", "path", "url", "mimetype"}
_NODE_TYPES = (RelatedNodeInfo, NodeRelationship, ObjectType, MediaResource, NodeRelationship.SOURCE)


def _make_plans() -> Dict[type, Tuple[str, Tuple[str, ...], bytes]]:
    if set(RelatedNodeInfo.model_fields) != _RELATED or set(MediaResource.model_fields) != _RESOURCE:
        return {}
    plans = {}
    for cls in (TextNode, Document, ImageNode, IndexNode, Node):
        names = tuple(cls.model_fields)
        if set(names) <= set(_KINDS):
            plans[cls] = (cls.class_name(), names, "".join(_KINDS[name] for name in names).encode())
    return plans


_PLANS = _make_plans()


# ----- Queries -----

_TOP_K = embedding_utils.get_top_k_embeddings
_MMR = embedding_utils.get_top_k_mmr_embeddings
_SIMILARITY = embedding_utils.default_similarity_fn
_dot_checked: Optional[bool] = None


def _dot_agrees() -> bool:
    """Whether the core's similarities will be numpy's to the last bit; checked once."""
    global _dot_checked
    if _dot_checked is None:
        sizes = (2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 100, 255, 384, 768, 1536, 4097)
        at = np.arange(sizes[-1])
        a, b = np.sin(at * 1.7), np.sin(at * 2.3)  # any uneven numbers; np.random takes 5 ms to import
        _dot_checked = all(_core.numpy_dot(a[:n], b[:n]) == np.dot(a[:n], b[:n]) for n in sizes)
        if not _dot_checked:
            logger.info("numpy's dot differs from its C function: queries take LlamaIndex's path")
    return _dot_checked


# Its place and its rules changed with the releases: 0.12 has it under another name.
_BUILD_FILTER: Any = getattr(peer, "build_metadata_filter_fn", getattr(peer, "_build_metadata_filter_fn", None))

_PROBES: Tuple[Tuple[str, Any, str, bool], ...] = (
    ("none", 1, "!=", True),
    ("none", [1], "nin", True),
    ("none", 1, "==", False),
    ("none", 1, "is_empty", True),
    ("text", "ab", "text_match", False),
    ("text", "Ab", "text_match", True),
    ("text", "ab", "text_match_insensitive", True),
    ("list", "x", "contains", True),
    ("list", ["x", "y"], "any", True),
    ("list", ["x", "y"], "all", False),
)


@functools.cache
def _filters_as_known() -> bool:
    """Whether the installed LlamaIndex filters by the rules that the core knows."""
    metadata = {"text": "xAby", "list": ["x"]}

    def match(filters: List[MetadataFilter], condition: Any) -> bool:
        return _BUILD_FILTER(lambda _: metadata, MetadataFilters(filters=filters, condition=condition))("id")

    try:
        one = [MetadataFilter(key="text", value="no", operator="==")]
        return match(one, "not") and not match(one, None) and all(
            match([MetadataFilter(key=key, value=value, operator=operator)], "and") is want
            for key, value, operator, want in _PROBES
        )
    except Exception:
        return False


def _matching(table: Any, node_ids: Optional[Tuple[str, ...]], match: Callable[[str], bool]) -> Tuple[str, ...]:
    """Ids of the rows that pass LlamaIndex's own filter, in order."""
    wanted = None if node_ids is None else set(node_ids)
    return tuple(i for i in table.keys(ROWS) if (wanted is None or i in wanted) and match(i))


_NOT_PLAIN: Any = object()
_OPERATORS = {operator: operator.value for operator in FilterOperator}
_CONDITIONS = {condition: condition.value for condition in FilterCondition}


def _filter_specs(filters: Any) -> Tuple[Any, str]:
    """Filters as ``VectorTable.query`` takes them, or ``_NOT_PLAIN``."""
    if filters is None:
        return None, "and"
    if type(filters) is not MetadataFilters:
        return _NOT_PLAIN, ""
    if not filters.filters:
        return None, "and"
    condition = filters.condition or FilterCondition.AND
    if type(condition) is not FilterCondition:
        return _NOT_PLAIN, ""
    specs = []
    for one in filters.filters:
        if type(one) is not MetadataFilter or type(one.operator) is not FilterOperator:
            return _NOT_PLAIN, ""
        value = tuple(one.value) if type(one.value) is list else one.value
        specs.append((one.key, _OPERATORS[one.operator], value))
    return specs, _CONDITIONS[condition]


def _id_tuple(node_ids: Any) -> Any:
    if node_ids is None:
        return None
    return tuple(node_ids) if type(node_ids) in (list, tuple, set, frozenset) else _NOT_PLAIN


def _query_vector(embedding: Any, is_mmr: bool) -> Optional[bytes]:
    """The query as float64 values, if LlamaIndex would compute with just those."""
    if type(embedding) is list:
        packed = _core.pack_floats(embedding)
        if packed is not None:
            return packed
    elif is_mmr:
        return None
    try:
        vector = np.array(embedding)
    except Exception:
        return None
    return vector.tobytes() if vector.dtype == np.float64 and vector.ndim == 1 else None


def _mmr_threshold(query: VectorStoreQuery, kwargs: Dict[str, Any]) -> Any:
    """None for a plain query, a float for MMR, ``_NOT_PLAIN`` for what is neither."""
    if query.mode == VectorStoreQueryMode.DEFAULT:
        return None if peer.get_top_k_embeddings is _TOP_K else _NOT_PLAIN
    if query.mode != MMR_MODE or peer.get_top_k_mmr_embeddings is not _MMR:
        return _NOT_PLAIN
    threshold = kwargs.get("mmr_threshold")
    if threshold is None:
        return 0.5
    if type(threshold) not in (float, int):
        return _NOT_PLAIN
    return float(threshold) if threshold or _zero_counts() else 0.5


@functools.cache
def _zero_counts() -> bool:
    """Whether the installed LlamaIndex takes a threshold of 0 as 0; before 0.14 it is the default."""
    scores, _ = _MMR([1.0, 0.0], [[1.0, 0.0]], similarity_top_k=1, embedding_ids=["a"], mmr_threshold=0)
    return bool(scores[0] == 0)


class _Plan(NamedTuple):
    """A query as the core takes it."""

    vector: bytes  # of float64
    k: int
    threshold: Optional[float]
    node_ids: Optional[Tuple[str, ...]]
    specs: Any
    condition: str


def _plan_query(table: Any, query: VectorStoreQuery, kwargs: Dict[str, Any]) -> Optional[_Plan]:
    """None where LlamaIndex's own code has to answer."""
    threshold = _mmr_threshold(query, kwargs)
    if threshold is _NOT_PLAIN or embedding_utils.default_similarity_fn is not _SIMILARITY:
        return None
    if query.filters is not None and table.len(ROWS) and not table.len(METAS):
        return None
    k = query.similarity_top_k
    k = 0 if k is None else k
    vector = _query_vector(query.query_embedding, threshold is not None)
    node_ids = _id_tuple(query.node_ids)
    specs, condition = _filter_specs(query.filters)
    if type(k) is not int or k < 0 or vector is None or node_ids is _NOT_PLAIN or specs is _NOT_PLAIN:
        return None
    if k > 2**62 or not _dot_agrees() or (specs is not None and _BUILD_FILTER is None):
        return None
    return _Plan(vector, k, threshold, node_ids, specs, condition)


class _Asker:
    """LlamaIndex's own filter, made when the first row needs it (most queries ask nothing)."""

    __slots__ = ("_table", "_filters", "_match")

    def __init__(self, table: Any, filters: Any) -> None:
        self._table = table
        self._filters = filters
        self._match: Optional[Callable[[str], bool]] = None

    def __call__(self, node_id: str) -> bool:
        if self._match is None:
            table = self._table
            self._match = cast(Callable[[str], bool], _BUILD_FILTER(lambda i: table.peek(METAS, i), self._filters))
        return self._match(node_id)


def _choice(table: Any, plan: _Plan, filters: Any) -> Tuple[Any, Any, str, Optional[Callable[[str], bool]]]:
    """``(node_ids, filters, condition, ask)`` for the core: what to choose from."""
    if plan.specs is None:
        return plan.node_ids, None, plan.condition, None
    if _filters_as_known():
        return plan.node_ids, plan.specs, plan.condition, _Asker(table, filters)
    return _matching(table, plan.node_ids, _Asker(table, filters)), None, plan.condition, None


def _fast_query(table: Any, query: VectorStoreQuery, kwargs: Dict[str, Any]) -> Optional[Tuple[list, list]]:
    """``(similarities, ids)``, or None where LlamaIndex's own code has to answer."""
    plan = _plan_query(table, query, kwargs)
    if plan is None:
        return None
    return table.query(plan.vector, plan.k, plan.threshold, *_choice(table, plan, query.filters))


_TOGETHER = 32  # queries that share one reading of the rows, at most


def _exactly(value: Any) -> Any:
    """A key that equals only what Python cannot tell from it: 1, 1.0 and True differ."""
    return (tuple, tuple(map(_exactly, value))) if type(value) is tuple else (type(value), value)


def _sharing_key(plan: Optional[_Plan]) -> Any:
    """Equal for queries that choose from the same rows; None for one that shares nothing."""
    if plan is None or plan.threshold is not None:
        return None
    specs = plan.specs and tuple(map(_exactly, plan.specs))
    key = (len(plan.vector), plan.node_ids, specs, plan.condition)
    try:
        hash(key)
    except TypeError:  # LlamaIndex says what is wrong with the ids
        return None
    return key


def _fast_queries(table: Any, queries: Sequence[VectorStoreQuery]) -> List[Optional[Tuple[list, list]]]:
    """What can be answered together; None for a query that has to be asked by itself."""
    plans = [_plan_query(table, query, {}) if type(query) is VectorStoreQuery else None for query in queries]
    groups: Dict[Any, List[int]] = {}
    for i, plan in enumerate(plans):
        groups.setdefault(_sharing_key(plan), []).append(i)
    groups.pop(None, None)
    found: List[Optional[Tuple[list, list]]] = [None] * len(plans)
    for group in groups.values():
        for start in range(0, len(group), _TOGETHER):
            members = group[start : start + _TOGETHER]
            if len(members) == 1:
                continue
            several = cast(List[_Plan], [plans[i] for i in members])
            choice = _choice(table, several[0], queries[members[0]].filters)
            vectors = b"".join(plan.vector for plan in several)
            answers = table.query_many(vectors, tuple(plan.k for plan in several), *choice)
            for i, answer in zip(members, answers or ()):
                found[i] = answer
    return found


# ----- The store -----


class Vectors(NamedTuple):
    """What :meth:`SimpleVectorStore.vectors` returns."""

    array: np.ndarray
    ids: List[str]
    copied: bool


class SimpleVectorStore(_core.VectorMethods, PeerSimpleVectorStore):
    """In-memory vector store, persisted as one JSON file.

    A drop-in for ``llama_index.core.vector_stores.SimpleVectorStore``, and an instance
    of it. Queries are exact: ids, order (ties included) and similarities are those of
    LlamaIndex, to the last bit.

    Beside the vectors and the metadata's text, queries keep 8 bytes a row, and for each
    of the last 16 metadata keys that were filtered by 4 bytes a row and its different
    values; a table of a million values or more that is searched again and again, another
    byte a value and 20 a row. Large searches use several threads: :func:`pannier.set_threads`. The list that
    ``get`` gives is kept while somebody holds it, and compared with the matrix before each
    query; of the others 64 MB at most are kept until then.

    Args:
        data (SimpleVectorStoreData | None): contents. An object that the caller made is
            used as it is (shared with the caller, at LlamaIndex's speed).
        fs (fsspec.AbstractFileSystem | None): where ``persist`` writes; default the local disk.
    """

    data: SimpleVectorStoreData = Field(default_factory=NativeVectorData)

    def __init__(
        self,
        data: Optional[SimpleVectorStoreData] = None,
        fs: Optional[fsspec.AbstractFileSystem] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data=data or NativeVectorData(), fs=fs or local_fs(), **kwargs)

    @field_serializer("data", mode="wrap")
    def _dump_data(self, data: Any, handler: Any) -> Any:
        return handler(data._peeked() if type(data) is NativeVectorData else data)

    def _table(self) -> Any:
        """The C table, synced, or None when plain data is the truth."""
        data = self.data
        return data._synced() if type(data) is NativeVectorData else None

    def _unread_table(self) -> Any:
        """The same, not synced, for what reads no vectors: comparing all that are out, for each
        node that is added, would take far longer than the adding."""
        data = self.data
        return data._table if type(data) is NativeVectorData else None

    def __getstate__(self) -> Dict[str, Any]:
        """As in LlamaIndex, which leaves out what cannot be pickled: that must not be damaged data.

        Raises:
            CorruptPackError: the store was read from a pack that is damaged.
        """
        table = self._table()
        if table is not None:
            table.settle()
        return super().__getstate__()

    # ---- contents ----

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> List[str]:
        """Stores the nodes' embeddings, source ids and metadata.

        Args:
            nodes (Sequence[BaseNode]): each with an embedding.

        Returns:
            list[str]: the nodes' ids.

        Raises:
            ValueError: "embedding not set."; the nodes before that one are stored, as in
                LlamaIndex.
        """
        if type(nodes) is not list:
            return super().add(nodes, **add_kwargs)
        done = 0
        while done < len(nodes):
            table = self._unread_table()
            if table is None:
                super().add(nodes[done:], **add_kwargs)
                break
            done = table.add_nodes(nodes, done, _PLANS, _NODE_TYPES)
            if done < len(nodes):
                self._add_slowly(nodes[done])
                done += 1
        return [node.node_id for node in nodes]

    def _add_slowly(self, node: BaseNode) -> None:
        super().add([node])
        table = self._unread_table()
        if table is not None:  # LlamaIndex made the metadata dict; nobody else has it
            table.set_text(node.node_id, table.peek(METAS, node.node_id))

    def delete_nodes(
        self,
        node_ids: Optional[List[str]] = None,
        filters: Optional[MetadataFilters] = None,
        **delete_kwargs: Any,
    ) -> None:
        """Removes the nodes that are named and pass the filters.

        Args:
            node_ids (list[str] | None): None for all nodes.
            filters (MetadataFilters | None): None for no restriction.
        """
        table = self._unread_table()
        if filters is None and type(node_ids) is list and table is not None:  # the usual call, straight away
            if not table.delete_matching(tuple(node_ids), None, "and"):
                super().delete_nodes(node_ids, filters, **delete_kwargs)
            return
        ids = _id_tuple(node_ids)
        specs, condition = _filter_specs(filters)
        fast = table is not None and ids is not _NOT_PLAIN and specs is not _NOT_PLAIN
        if fast and specs is not None and _BUILD_FILTER is not None and not _filters_as_known():
            try:
                ids = _matching(table, ids, _BUILD_FILTER(lambda node_id: table.peek(METAS, node_id), filters))
                specs = None
            except Exception:
                fast = False  # LlamaIndex deletes until it comes to what raises
        if not fast or not table.delete_matching(ids, specs, condition):
            super().delete_nodes(node_ids, filters, **delete_kwargs)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The most similar nodes, exactly as LlamaIndex ranks them.

        Args:
            query (VectorStoreQuery): ``similarity_top_k`` 0 means all. Modes: default and
                MMR in C; SVM, linear and logistic regression as in LlamaIndex.
            mmr_threshold (float): keyword for MMR, default 0.5.

        Returns:
            VectorStoreQueryResult: ``similarities`` (numpy.float64) and ``ids``.

        Raises:
            ValueError: the mode is not supported; dimensions differ; filters on a store
                that was persisted without metadata. TypeError, KeyError: from a filter
                that does not fit a node's metadata.
        """
        table = self._table()
        found = None if table is None else _fast_query(table, query, kwargs)
        if found is None:
            return super().query(query, **kwargs)
        return VectorStoreQueryResult(similarities=found[0], ids=found[1])

    def query_many(self, queries: Sequence[VectorStoreQuery], **kwargs: Any) -> List[VectorStoreQueryResult]:
        """The answers that :meth:`query` gives, query by query, for less.

        Queries of the default mode that choose from the same rows (the same ``filters``
        and ``node_ids``, or none) read the vectors once, up to 32 together.

        Args:
            queries (Sequence[VectorStoreQuery]): of any kinds; the numbers of results may differ.
            kwargs: for each :meth:`query`.

        Returns:
            list[VectorStoreQueryResult]: one a query, in order.

        Raises:
            What the first query that fails raises.
        """
        queries = list(queries)
        found: List[Optional[Tuple[list, list]]] = [None] * len(queries)
        table = self._table()
        if table is not None and len(queries) > 1 and not kwargs and type(self).query is SimpleVectorStore.query:
            try:
                found = _fast_queries(table, queries)
            except Exception:
                pass  # asked one by one, the query that is first to fail says what is wrong
        return [
            self.query(query, **kwargs) if pair is None else VectorStoreQueryResult(similarities=pair[0], ids=pair[1])
            for query, pair in zip(queries, found)
        ]

    def vectors(self) -> Vectors:
        """All embeddings as one matrix.

        Returns:
            Vectors: ``array``, (n, d) float32 or float64, row i belonging to ``ids[i]``;
            ``copied`` tells whether it is a copy. Where the rows lie in one block in
            their order it is not: the array is then read-only, and goes on showing the
            rows of this moment when the store changes.

        Raises:
            ValueError: embeddings of different lengths.
        """
        ids = list(self.data.embedding_dict)
        table = self._table()
        if table is None:
            return Vectors(np.array([self.data.embedding_dict[i] for i in ids], dtype=np.float64), ids, True)
        rows = table.dense()
        if rows is not None:
            return Vectors(np.asarray(memoryview(rows)), ids, False)
        shape = table.shape()
        if shape is None:
            raise ValueError("the embeddings have different lengths")
        array = np.empty(shape[:2], dtype=np.float64 if shape[2] else np.float32)
        if array.size:
            table.copy_rows(array)
        return Vectors(array, ids, True)

    # ---- files ----

    def _pn_encode(self, store: str = "vector store") -> Any:
        """The whole file as bytes-like, exactly what ``json.dump`` writes.

        Raises:
            UnserializableError: a value that JSON cannot hold, with its key path.
        """
        table = self._table()
        if table is not None:
            return table.encode(lambda key, value: _dump_metadata(store, key, value))
        try:
            return json.dumps(self.data.to_dict()).encode("ascii")
        except TypeError as e:
            raise explain(e, store, "", {name: getattr(self.data, name) for name in _FIELDS}) from e

    def persist(
        self,
        persist_path: str = os.path.join(DEFAULT_PERSIST_DIR, DEFAULT_PERSIST_FNAME),
        fs: Optional[fsspec.AbstractFileSystem] = None,
    ) -> None:
        """Writes the store to a file, atomically; missing directories are made.

        Args:
            persist_path (str): the file.
            fs (fsspec.AbstractFileSystem | None): where; default the store's own.

        Raises:
            UnserializableError: (a TypeError) a value that JSON cannot hold; nothing changed.
            CommitError: (an OSError) writing failed; the file is as it was.
        """
        if _pack.persisted("vector store", self, persist_path, fs or self._fs):
            return
        data = self._pn_encode(os.path.basename(str(persist_path)))
        _files.write_files([(persist_path, data)], os.path.dirname(persist_path), fs or self._fs)

    @classmethod
    def from_persist_path(
        cls, persist_path: str, fs: Optional[fsspec.AbstractFileSystem] = None
    ) -> "SimpleVectorStore":
        """Loads a file; the store keeps ``fs``.

        A file of LlamaIndex.TS is read too (LlamaIndex reads it as empty).

        Raises:
            ValueError: there is no such file, in LlamaIndex's words.
            CorruptStoreError: it is not JSON.
        """
        found = _pack.find(persist_path, fs)
        if found is None and not _files.exists(persist_path, fs):
            raise ValueError(f"No existing {peer.__name__} found at {persist_path}, skipping load.")
        logger.debug(f"Loading {peer.__name__} from {persist_path}.")
        if found is not None and found.kind == _pack.VECTORS:
            data = NativeVectorData.over(found.vectors())
            _pack.bases.set(data, found.pack.base(found.name))
            return cls(data, fs=fs)
        table = _files.load_vectors(persist_path, fs) if found is None else None
        if table is not None:
            return cls(NativeVectorData.over(table), fs=fs)
        content = _files.read_file(persist_path, fs) if found is None else found.text()
        table = _core.VectorTable.load(content)
        store = cls(NativeVectorData.over(table) if table is not None else _parsed(content, str(persist_path)), fs=fs)
        if found is not None:
            found.note(store.data, content)
        return store

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str = DEFAULT_PERSIST_DIR,
        namespace: str = DEFAULT_VECTOR_STORE,
        fs: Optional[fsspec.AbstractFileSystem] = None,
    ) -> "SimpleVectorStore":
        """Loads ``{namespace}__vector_store.json`` of a directory.

        Raises:
            ValueError: there is no such file, in LlamaIndex's words.
            NamespaceError: (a ValueError) the namespace would leave the directory.
            CorruptStoreError: the file is not JSON.
        """
        fname = f"{_files.checked_namespace(namespace)}{NAMESPACE_SEP}{DEFAULT_PERSIST_FNAME}"
        return cls.from_persist_path(_join(persist_dir, fname, fs), fs=fs)

    @classmethod
    def from_namespaced_persist_dir(
        cls,
        persist_dir: str = DEFAULT_PERSIST_DIR,
        fs: Optional[fsspec.AbstractFileSystem] = None,
    ) -> Dict[str, BasePydanticVectorStore]:
        """Loads every ``{namespace}__vector_store.json`` of a directory, on any ``fs``.

        A bare ``vector_store.json``, which early versions of LlamaIndex wrote, is the
        default store where there is no ``default__vector_store.json``.

        Returns:
            dict[str, SimpleVectorStore]: by namespace.

        Raises:
            ValueError: there is no such directory, in LlamaIndex's words for the file.
            CorruptStoreError: one of the files is not JSON; the message names it.
        """
        try:
            names = _stored.listdir(persist_dir, fs)
        except OSError:
            return {DEFAULT_VECTOR_STORE: cls.from_persist_dir(persist_dir, fs=fs)}
        suffix = f"{NAMESPACE_SEP}{DEFAULT_PERSIST_FNAME}"
        stores: Dict[str, BasePydanticVectorStore] = {
            name[: -len(suffix)]: cls.from_persist_path(_join(persist_dir, name, fs), fs=fs)
            for name in names
            if name.endswith(suffix)
        }
        if DEFAULT_PERSIST_FNAME in names and DEFAULT_VECTOR_STORE not in stores:
            bare = _join(persist_dir, DEFAULT_PERSIST_FNAME, fs)
            stores[DEFAULT_VECTOR_STORE] = cls.from_persist_path(bare, fs=fs)
        return stores

    @classmethod
    def from_dict(cls, data: Dict[str, Any], **kwargs: Any) -> "SimpleVectorStore":
        """A store from what :meth:`to_dict` returned; integers become floats."""
        return cls(_native(_plain_data(data) or SimpleVectorStoreData.from_dict(data), own_metadata=False))

    # get, delete and clear: VectorMethods, in C. to_dict, get_nodes, client, class_name and the
    # async methods: LlamaIndex's.


_core.set_vector_classes(SimpleVectorStore, NativeVectorData)


def _join(persist_dir: str, fname: str, fs: Optional[fsspec.AbstractFileSystem]) -> str:
    return os.path.join(persist_dir, fname) if fs is None else concat_dirs(persist_dir, fname)


def _only(values: Any, kind: type) -> bool:
    return set(map(type, values)) <= {kind}


def _plain_data(data: Any) -> Optional[SimpleVectorStoreData]:
    """What ``SimpleVectorStoreData.from_dict`` makes of the dictionaries that ``to_dict``
    gives: new dicts, new rows, the same metadata objects. None for anything else."""
    if type(data) is not dict or data.keys() != set(_FIELDS) or global_config.decoders:
        return None
    rows, refs, metas = (data[name] for name in _FIELDS)
    if not all(type(part) is dict and _only(part, str) for part in (rows, refs, metas)):
        return None
    if not (_only(rows.values(), list) and _only(refs.values(), str) and _only(metas.values(), dict)):
        return None
    if not all(_only(row, float) for row in rows.values()):
        return None
    return SimpleVectorStoreData({key: row.copy() for key, row in rows.items()}, refs.copy(), metas.copy())


def _parsed(content: Any, path: str) -> SimpleVectorStoreData:
    """What LlamaIndex makes of a file that the core's loader leaves to Python."""
    value = corrupt(content, path)
    if typescript.is_vector_store(value):
        value = typescript.vector_data(value, path)
    return _native(SimpleVectorStoreData.from_dict(value), own_metadata=True)


def _dump_metadata(store: str, key: str, value: Any) -> str:
    """The JSON text of metadata that is not plain JSON, as LlamaIndex's persist gives it."""
    try:
        return json.dumps(SimpleVectorStoreData(metadata_dict={key: value}).to_dict()["metadata_dict"][key])
    except TypeError as e:
        raise explain(e, store, f"metadata_dict[{key!r}]", value) from e
