"""The oracle: LlamaIndex itself, and what it takes to compare pannier with it.

Every test that uses this module does the same thing twice, once on the peer's class
and once on pannier's, and compares what comes back, what is raised and what lies on
disk. Nothing here says what the right answer is: the installed peer does.

``peer``
    the peer's classes, with the few documented fixes of docs/differences.md applied in
    plain Python (``fixed_side``), so that "expected" is always computed, never typed in.
``raw``
    the peer's classes as they are.
``impl``
    what is being tested: pannier's classes. With ``PANNIER_TEST_IMPL=peer`` in the
    environment a second, separate copy of ``peer``: that run tests the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import datetime
import enum
import io
import itertools
import json
import math
import os
import random
import re
import struct
import uuid
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Callable, Dict, List, Optional, Tuple
from unittest import mock

import fsspec
import numpy as np
from hypothesis import strategies as st
from pydantic import BaseModel

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
from llama_index.core.data_structs.table import PandasStructTable, SQLStructTable
from llama_index.core.graph_stores.simple import SimpleGraphStore
from llama_index.core.graph_stores.simple_labelled import SimplePropertyGraphStore
from llama_index.core.indices.loading import (
    load_graph_from_storage,
    load_index_from_storage,
    load_indices_from_storage,
)
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore
from llama_index.core.storage.docstore.simple_docstore import SimpleDocumentStore
from llama_index.core.storage.docstore.types import RefDocInfo
from llama_index.core.storage.index_store.keyval_index_store import KVIndexStore
from llama_index.core.storage.index_store.simple_index_store import SimpleIndexStore
from llama_index.core.storage.kvstore.simple_kvstore import SimpleKVStore
from llama_index.core.storage.kvstore.types import BaseKVStore
from llama_index.core.storage.storage_context import StorageContext
from llama_index.core.vector_stores.simple import SimpleVectorStore

IMPL = os.environ.get("PANNIER_TEST_IMPL", "pannier")
IS_PEER = IMPL == "peer"

#: Rounds of the random machines: enough for the promise of 200 in a plain run.
ROUNDS = int(os.environ.get("PANNIER_TEST_ROUNDS", "200"))


# -- the sides ------------------------------------------------------------------------


class Side:
    """One family of store classes, by the peer's names."""

    def __init__(self, name: str, **classes: Any) -> None:
        self.name = name
        for key, value in classes.items():
            setattr(self, key, value)

    def __repr__(self) -> str:
        return self.name


_COMMON = dict(
    StorageContext=StorageContext,
    SimpleVectorStore=SimpleVectorStore,
    SimpleGraphStore=SimpleGraphStore,
    SimplePropertyGraphStore=SimplePropertyGraphStore,
    load_index_from_storage=load_index_from_storage,
    load_indices_from_storage=load_indices_from_storage,
    load_graph_from_storage=load_graph_from_storage,
)

raw = Side(
    "raw peer",
    SimpleKVStore=SimpleKVStore,
    KVDocumentStore=KVDocumentStore,
    SimpleDocumentStore=SimpleDocumentStore,
    KVIndexStore=KVIndexStore,
    SimpleIndexStore=SimpleIndexStore,
    **_COMMON,
)


class DocFixes:
    """The documented fixes of the document store, on top of the peer's own class.

    * a ``RefDocInfo`` holds a copy of the stored id list, so that deleting while looping
      over it skips nothing and a refused ``add_documents`` changes nothing;
    * ``adelete_document`` does what ``delete_document`` does.
    """

    def _remove_legacy_info(self, ref_doc_info_dict: dict) -> RefDocInfo:
        info = super()._remove_legacy_info(ref_doc_info_dict)  # type: ignore[misc]
        if isinstance(info.node_ids, list):
            info.node_ids = list(info.node_ids)
        return info

    async def _aremove_from_ref_doc_node(self, doc_id: str) -> None:
        kv: BaseKVStore = self._kvstore  # type: ignore[attr-defined]
        ref_doc_id = await self._aget_ref_doc_id(doc_id)  # type: ignore[attr-defined]
        if ref_doc_id is None:
            return
        info = await self.aget_ref_doc_info(ref_doc_id)  # type: ignore[attr-defined]
        if info is None:
            return
        if doc_id in info.node_ids:
            info.node_ids.remove(doc_id)
        if len(info.node_ids) > 0:
            await kv.aput(ref_doc_id, info.to_dict(), collection=self._ref_doc_collection)  # type: ignore
        else:
            await kv.adelete(ref_doc_id, collection=self._metadata_collection)  # type: ignore
            await kv.adelete(ref_doc_id, collection=self._node_collection)  # type: ignore
            await kv.adelete(ref_doc_id, collection=self._ref_doc_collection)  # type: ignore

    async def adelete_document(self, doc_id: str, raise_error: bool = True) -> None:
        kv: BaseKVStore = self._kvstore  # type: ignore[attr-defined]
        await self._aremove_from_ref_doc_node(doc_id)
        success = await kv.adelete(doc_id, collection=self._node_collection)  # type: ignore
        await kv.adelete(doc_id, collection=self._metadata_collection)  # type: ignore
        if not success and raise_error:
            raise ValueError(f"doc_id {doc_id} not found.")


def fixed_side(name: str) -> Side:
    """Fresh subclasses of the peer's classes with the documented fixes applied."""

    class FixedKVStore(SimpleKVStore):
        # pannier takes any batch size; the peer's base class takes 1 only.
        def put_all(self, kv_pairs: Any, collection: str = "data", batch_size: int = 1) -> None:
            for key, val in kv_pairs:
                self.put(key, val, collection=collection)

        async def aput_all(self, kv_pairs: Any, collection: str = "data", batch_size: int = 1) -> None:
            for key, val in kv_pairs:
                await self.aput(key, val, collection=collection)

    class FixedKVDocumentStore(DocFixes, KVDocumentStore):
        pass

    class FixedDocumentStore(DocFixes, SimpleDocumentStore):
        def __init__(self, simple_kvstore: Any = None, namespace: Any = None, batch_size: int = 1) -> None:
            super().__init__(simple_kvstore or FixedKVStore(), namespace, batch_size)

        @classmethod
        def from_persist_path(cls, persist_path: str, namespace: Any = None, fs: Any = None) -> Any:
            return cls(FixedKVStore.from_persist_path(persist_path, fs=fs), namespace)

        @classmethod
        def from_dict(cls, save_dict: dict, namespace: Any = None) -> Any:
            return cls(FixedKVStore.from_dict(save_dict), namespace)

    class FixedKVIndexStore(KVIndexStore):
        pass

    class FixedIndexStore(SimpleIndexStore):
        def __init__(self, simple_kvstore: Any = None) -> None:
            super().__init__(simple_kvstore or FixedKVStore())

        @classmethod
        def from_persist_path(cls, persist_path: str, fs: Any = None) -> Any:
            return cls(FixedKVStore.from_persist_path(persist_path, fs=fs))

        @classmethod
        def from_dict(cls, save_dict: dict) -> Any:
            return cls(FixedKVStore.from_dict(save_dict))

    made = dict(
        SimpleKVStore=FixedKVStore,
        KVDocumentStore=FixedKVDocumentStore,
        SimpleDocumentStore=FixedDocumentStore,
        KVIndexStore=FixedKVIndexStore,
        SimpleIndexStore=FixedIndexStore,
    )
    for key, cls in made.items():
        # Importable by name, so that they pickle.
        cls.__name__ = cls.__qualname__ = f"{name}_{key}"
        cls.__module__ = __name__
        globals()[cls.__name__] = cls
    return Side(name, **made, **_COMMON)


class _Pannier(Side):
    """pannier's classes, each imported when first asked for, as pannier does itself."""

    def __getattr__(self, name: str) -> Any:
        import pannier

        return getattr(pannier, name)


peer = fixed_side("peer")
impl = fixed_side("standin") if IS_PEER else _Pannier("pannier")
SIDES = (peer, impl)


# -- running the same thing twice -------------------------------------------------------


_LOOP: Optional[asyncio.AbstractEventLoop] = None


def run(coro: Any) -> Any:
    """Run a coroutine on a loop that is kept: making one for each call is slow."""
    global _LOOP
    if _LOOP is None or _LOOP.is_closed():
        _LOOP = asyncio.new_event_loop()
    return _LOOP.run_until_complete(coro)


class Raised:
    """An exception as a result."""

    def __init__(self, exc: BaseException) -> None:
        self.exc = exc

    def __repr__(self) -> str:
        return f"raised {type(self.exc).__name__}: {self.exc}"


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """The result of a call, awaited if need be; an exception comes back as Raised.

    Random names are the same ones in each call, and ``docs``, a lazy mapping of ours,
    is filled as the peer's is, so that what one of its nodes raises is seen here.
    """
    with seeded_uuids():
        try:
            result = call(*args)
            if asyncio.iscoroutine(result):
                result = run(result)
            if isinstance(result, Mapping) and not isinstance(result, dict):
                for key in result:
                    result[key]
            return result
        except Exception as exc:
            return Raised(exc)


def _message(exc: BaseException) -> str:
    return re.sub(r"0x[0-9a-fA-F]+", "0x", str(exc))


def same_exception(expected: BaseException, got: BaseException) -> bool:
    """Same type and same text; pannier's own exceptions must be a kind of the peer's."""
    if type(got).__module__.split(".")[0] == "pannier":
        return isinstance(got, type(expected))
    return type(got) is type(expected) and _message(got) == _message(expected)


def same(call: Callable[[Any], Any], a: Any, b: Any, check: bool = True) -> Tuple[Any, Any]:
    """Run ``call`` on the peer's object and on ours; the outcomes must be equal.

    Returns both outcomes, so that a test can go on with them (change what was handed
    out, on both sides alike).
    """
    expected, got = outcome(call, a), outcome(call, b)
    if check:
        assert_same(expected, got)
    return expected, got


def assert_same(expected: Any, got: Any) -> None:
    if isinstance(expected, Raised) or isinstance(got, Raised):
        assert isinstance(expected, Raised) and isinstance(got, Raised), (
            f"the peer: {expected!r}\nours:     {got!r}"
        )
        assert same_exception(expected.exc, got.exc), f"the peer: {expected!r}\nours:     {got!r}"
        return
    where = difference(expected, got)
    assert where is None, f"{where}\nthe peer: {expected!r:.2000}\nours:     {got!r:.2000}"


# -- equality that misses nothing ---------------------------------------------------------


def difference(a: Any, b: Any, path: str = "") -> Optional[str]:
    """Where two results differ, or None: types, dict order, NaN, -0.0 and nodes included.

    A mapping of ours in place of a dict is fine: the peer's ``docs`` is a dict, ours a
    lazy mapping.
    """
    if a is b:
        return None
    if isinstance(a, dict) and type(a) is dict and not isinstance(b, dict) and isinstance(b, Mapping):
        b = {k: b[k] for k in b}
    if type(a) is not type(b):
        return f"{path or 'value'}: {type(a).__name__} {a!r:.200} is not {type(b).__name__} {b!r:.200}"
    if isinstance(a, enum.Enum):
        return None if a is b else f"{path}: {a!r} is not {b!r}"
    if isinstance(a, float):
        ok = struct.pack("<d", a) == struct.pack("<d", b) or (math.isnan(a) and math.isnan(b))
        return None if ok else f"{path}: {a!r} is not {b!r}"
    if isinstance(a, dict):
        ka, kb = list(a), list(b)
        where = difference(ka, kb, f"{path}.keys()")
        if where is not None:
            return where
        return _first(difference(a[x], b[y], f"{path}[{x!r}]") for x, y in zip(ka, kb))
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return f"{path}: lengths {len(a)} and {len(b)}: {a!r:.200} and {b!r:.200}"
        return _first(difference(x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b)))
    if isinstance(a, BaseModel):
        return (
            difference(a.__dict__, b.__dict__, path)
            or difference(a.__pydantic_fields_set__, b.__pydantic_fields_set__, f"{path}<fields set>")
            or difference(a.__pydantic_extra__, b.__pydantic_extra__, f"{path}<extra>")
            or difference(a.__pydantic_private__, b.__pydantic_private__, f"{path}<private>")
        )
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return difference(vars(a), vars(b), path)
    if isinstance(a, np.ndarray):
        ok = a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        return None if ok else f"{path}: {a!r} is not {b!r}"
    if isinstance(a, np.floating):
        return difference(float(a), float(b), path)
    if a != b:
        return f"{path or 'value'}: {a!r:.200} is not {b!r:.200}"
    return None


def _first(items: Any) -> Optional[str]:
    return next((item for item in items if item is not None), None)


def equal(a: Any, b: Any) -> bool:
    return difference(a, b) is None


# -- files ------------------------------------------------------------------------------


_NAMES = itertools.count()


def memory_fs() -> fsspec.AbstractFileSystem:
    return fsspec.filesystem("memory")


def memory_path(name: str = "store.json") -> str:
    """A path of its own on the memory file system (no fsync: the machines stay fast)."""
    return f"/oracle/{next(_NAMES)}/{name}"


class memory_file:
    """A file on a memory file system that is emptied afterwards: it slows down otherwise."""

    def __enter__(self) -> Tuple[fsspec.AbstractFileSystem, str]:
        self.fs = memory_fs()
        self.fs.pseudo_dirs.append("/oracle")
        return self.fs, "/oracle/store.json"

    def __exit__(self, *exc: Any) -> None:
        self.fs.store.clear()
        self.fs.pseudo_dirs[:] = [""]


def persisted(store: Any) -> bytes:
    """The bytes that ``persist`` writes; the store's values are not touched otherwise."""
    with memory_file() as (fs, path):
        store.persist(path, fs=fs)
        return fs.cat_file(path)


def load(cls: Any, data: bytes, at_once: bool = False, **kwargs: Any) -> Any:
    """``cls.from_persist_path`` of a file with these bytes.

    A key-value store of ours leaves its values as text, as those of a document store are,
    unless ``at_once`` lets it do as it likes.
    """
    with memory_file() as (fs, path), contextlib.nullcontext() if at_once or IMPL == "peer" else _values_stay_text():
        fs.pipe_file(path, data)
        return cls.from_persist_path(path, fs=fs, **kwargs)


def _values_stay_text() -> Any:
    return mock.patch.object(impl.SimpleKVStore, "_decode", lambda self, text: False)


def same_bytes(a: Any, b: Any) -> Any:
    """Both persist to the same bytes, or both refuse with the same kind of exception."""
    expected, got = outcome(persisted, a), outcome(persisted, b)
    if isinstance(expected, Raised) and isinstance(got, Raised):
        assert issubclass(type(got.exc), type(expected.exc)), f"the peer: {expected!r}\nours:     {got!r}"
        return expected
    assert_same(expected, got)
    return expected


def tree(root: Any) -> Dict[str, bytes]:
    """Every file below a directory, by relative path."""
    found = {}
    for base, _, files in os.walk(root):
        for name in files:
            path = os.path.join(base, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, root)] = f.read()
    return found


# -- changing what was handed out ---------------------------------------------------------


def scribble(value: Any, seed: int, nested_only: bool = False) -> None:
    """Change something inside a JSON-like value: the same seed, the same change.

    ``nested_only`` leaves the top level alone, as for a dict that is known to be a copy.
    """
    rng = random.Random(seed)
    here, depth = value, 0
    while True:
        children = [c for c in (here.values() if isinstance(here, dict) else here) if type(c) in (dict, list)]
        if children and (rng.random() < 0.6 or (nested_only and depth == 0)):
            here, depth = rng.choice(children), depth + 1
            continue
        break
    if nested_only and depth == 0:
        return
    fresh = rng.choice([rng.randrange(1000), f"s{rng.randrange(100)}", None, {"n": [rng.randrange(9)]}, [1.5]])
    if isinstance(here, dict):
        act = rng.randrange(3)
        if act == 0 or not here:
            here[f"new{rng.randrange(4)}"] = fresh
        elif act == 1:
            here[rng.choice(list(here))] = fresh
        else:
            here.pop(rng.choice(list(here)))
    elif isinstance(here, list):
        act = rng.randrange(3)
        if act == 0 or not here:
            here.append(fresh)
        elif act == 1:
            here[rng.randrange(len(here))] = fresh
        else:
            here.pop(rng.randrange(len(here)))


# -- nasty values -----------------------------------------------------------------------


class Colour(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    """A str that is not exactly a str."""


class Mapped(dict):
    """A dict that is not exactly a dict."""


NASTY_TEXT = [
    "",
    " ",
    "plain",
    "a\"b\\c/d",
    "\x00\x01\x1f\x7f\x80",
    "\b\f\n\r\t",
    "\u2028\u2029",
    "caf\u00e9 \u4e2d\u6587",
    "\U0001f600 emoji",
    "\ud83d",
    "\ude00",
    "\ud83d\ude00",  # a pair as two characters: not the emoji
    "\ude00\ud83d",
    "\uffff\ufffe",
    "\U0010ffff",
    "None",
    "null",
    "__data__",
    "x" * 300,
]
NASTY_INTS = [0, -1, 2**31, 2**53 + 1, -(2**63), 2**63, 2**64, 10**40, -(10**25)]
NASTY_FLOATS = [
    0.0, -0.0, 1.0, -1.5, 0.1, 1e16, 1e15, 123456789012345680.0, 1e-7, 1e-5, 0.0001, 5e-324, 2.2250738585072014e-308,
    1.7976931348623157e308, 1e22, 1e23, float("inf"), float("-inf"), float("nan"), 9007199254740993.0, 0.30000000000000004,
]

texts = st.one_of(
    st.sampled_from(NASTY_TEXT),
    st.text(alphabet=st.characters(exclude_categories=[]), max_size=8),
    st.text(alphabet="ab\"\\\u00e9\ud800\udc00", max_size=6),
)
ints = st.one_of(st.sampled_from(NASTY_INTS), st.integers())
floats = st.one_of(st.sampled_from(NASTY_FLOATS), st.floats())
scalars = st.one_of(st.none(), st.booleans(), ints, floats, texts)
#: What a JSON round trip gives back unchanged.
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
#: What JSON takes but does not give back as it was.
odd_values = st.one_of(
    st.tuples(scalars, scalars),
    st.sampled_from([Colour.RED, Level.HIGH, Text("sub"), True]),
    st.builds(lambda v: Mapped(k=v), scalars),
    st.dictionaries(st.one_of(st.integers(-3, 3), st.none(), st.booleans(), floats, texts), scalars, max_size=3),
    st.builds(lambda v: {1: v, "1": v}, scalars),
)
#: What JSON can't hold. Factories: some are hashed or compared by identity.
unjsonable = st.sampled_from(
    [
        lambda: datetime.datetime(2024, 2, 29, 12, 30),
        lambda: datetime.date(2024, 2, 29),
        lambda: {1, 2},
        lambda: b"bytes",
        lambda: np.float32(1.5),
        lambda: np.int64(7),
        lambda: PurePosixPath("/a/b"),
        lambda: 1 + 2j,
    ]
).map(lambda make: make())
live_values = st.recursive(
    st.one_of(scalars, scalars, odd_values, unjsonable),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3), st.tuples(inner)),
    max_leaves=6,
)


def dicts(values: st.SearchStrategy = json_values, keys: st.SearchStrategy = texts) -> st.SearchStrategy:
    return st.dictionaries(keys, values, max_size=4)


def clone(value: Any) -> Any:
    """A value of one's own: the sides must not share what they store."""
    return copy.deepcopy(value)


# -- nodes ------------------------------------------------------------------------------

NODE_IDS = [f"n{i}" for i in range(8)] + ["d0", "", "\u00e9\ud800", "a/b\"c"]
REF_IDS = ["d0", "d1", "n0", "\u4e2d \ud83d"]

clean_texts = st.one_of(st.sampled_from([t for t in NASTY_TEXT if t.isprintable() or "\n" in t]), st.text(max_size=6))
node_metadata = st.one_of(
    st.just({}),
    st.dictionaries(st.sampled_from(["a", "tags", "page", "file name", "\u00e9"]), json_values, max_size=3),
    st.builds(lambda v: {"tags": v}, st.lists(json_values, max_size=3)),
    st.builds(lambda v: {"nested": {"deep": [v, {"x": v}]}}, scalars),
    dicts(odd_values),
)


def related(draw: Any, ids: List[str]) -> RelatedNodeInfo:
    return RelatedNodeInfo(
        node_id=draw(st.sampled_from(ids)),
        node_type=draw(st.sampled_from([None, ObjectType.TEXT, ObjectType.DOCUMENT, "odd"])),
        metadata=draw(node_metadata),
        hash=draw(st.sampled_from([None, "h"])),
    )


@st.composite
def relationships(draw: Any, bad: bool = False) -> Dict[NodeRelationship, Any]:
    rel: Dict[NodeRelationship, Any] = {}
    if draw(st.integers(0, 3)):
        info = related(draw, REF_IDS)
        rel[NodeRelationship.SOURCE] = [info] if bad and draw(st.integers(0, 5)) == 0 else info
    if draw(st.booleans()):
        rel[draw(st.sampled_from([NodeRelationship.PREVIOUS, NodeRelationship.NEXT, NodeRelationship.PARENT]))] = (
            related(draw, NODE_IDS)
        )
    if draw(st.integers(0, 3)) == 0:
        rel[NodeRelationship.CHILD] = [related(draw, NODE_IDS) for _ in range(draw(st.integers(0, 3)))]
    return rel


class Unserializable:
    """Something an IndexNode refuses to serialize."""

    def __repr__(self) -> str:
        return "Unserializable()"


@st.composite
def nodes(draw: Any, ids: Optional[List[str]] = None, bad: bool = False, metadata: Any = node_metadata) -> BaseNode:
    """A node of any of the peer's classes; ``bad`` also makes some that no store takes."""
    base: Dict[str, Any] = dict(
        id_=draw(st.sampled_from(ids or NODE_IDS)),
        metadata=draw(metadata),
        relationships=draw(relationships(bad)),
    )
    if draw(st.integers(0, 4)) == 0:
        base["embedding"] = draw(st.lists(st.floats(width=32, allow_nan=False), max_size=3))
    if draw(st.integers(0, 4)) == 0:
        base["excluded_embed_metadata_keys"] = draw(st.lists(clean_texts, max_size=2))
    if draw(st.integers(0, 6)) == 0:
        base["metadata_template"] = "{key}={value}"
    kind = draw(st.sampled_from(["text", "text", "text", "document", "image", "index", "node", "imagedoc"]))
    if kind == "text":
        return TextNode(
            text=draw(texts), start_char_idx=draw(st.none() | st.integers(0, 9)), mimetype="text/plain", **base
        )
    if kind == "document":
        return Document(text=draw(clean_texts), **base)
    if kind == "image":
        return ImageNode(
            text=draw(clean_texts),
            image=draw(st.sampled_from([None, "aGk="])),
            image_path=draw(st.sampled_from([None, "/tmp/a.png", "b"])),
            image_url=draw(st.sampled_from([None, "http://x.y/z.jpg"])),
            **base,
        )
    if kind == "imagedoc":
        # No path or URL: its constructor would go and look at the picture.
        return ImageDocument(text=draw(clean_texts), image=draw(st.sampled_from([None, b"aGk="])), **base)
    if kind == "index":
        obj = draw(
            st.sampled_from(
                [None, "text", {"a": 1}, TextNode(text="inner", id_="inner"), Document(text="inner", id_="innerd"), 7]
                + ([Unserializable()] if bad else [])
            )
        )
        return IndexNode(text=draw(clean_texts), index_id=draw(clean_texts), obj=obj, **base)
    return Node(
        text_resource=MediaResource(
            text=draw(st.none() | clean_texts),
            embeddings=draw(st.sampled_from([None, {"dense": [0.1, 0.2]}])),
        ),
        image_resource=draw(
            st.sampled_from([None, MediaResource(data=b"xyz"), MediaResource(path="a.png", mimetype="image/png")])
        ),
        **base,
    )


def doc(id_: str, text: str = "text", **metadata: Any) -> Document:
    return Document(id_=id_, text=text, metadata=metadata)


def chunk(id_: str, ref: Optional[str] = "d0", text: str = "text", **metadata: Any) -> TextNode:
    """A text node, of a source document if ``ref`` is not None."""
    rel: Dict[NodeRelationship, Any] = {}
    if ref is not None:
        rel[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=ref, node_type=ObjectType.DOCUMENT)
    return TextNode(id_=id_, text=text, metadata=metadata, relationships=rel)


# -- index structs ------------------------------------------------------------------------

STRUCT_IDS = ["i0", "i1", "i2", "\u00e9\ud800", ""]
_ids = st.sampled_from(["n0", "n1", "n2", "\u00e9", "\ud83d", "a\"b\\"])


@st.composite
def structs(draw: Any) -> IndexStruct:
    """An index struct of any type that the peer's registry knows."""
    base = dict(index_id=draw(st.sampled_from(STRUCT_IDS)), summary=draw(st.none() | texts))
    str_map = st.dictionaries(texts, texts, max_size=3)
    lists = st.dictionaries(texts, st.lists(_ids, max_size=3), max_size=3)
    sets = st.dictionaries(texts, st.sets(_ids, max_size=3), max_size=3)
    vectors = st.dictionaries(texts, st.lists(floats, max_size=3), max_size=2)
    numbered = st.dictionaries(st.integers(0, 50), texts, max_size=4)
    kind = draw(st.integers(0, 10))
    if kind == 0:
        return IndexGraph(
            all_nodes=draw(numbered), root_nodes=draw(numbered), node_id_to_children_ids=draw(lists), **base
        )
    if kind == 1:
        return KeywordTable(table=draw(sets), **base)
    if kind == 2:
        return IndexList(nodes=draw(st.lists(texts, max_size=4)), **base)
    if kind == 3:
        return IndexLPG(**base)
    if kind == 4:
        return IndexDict(nodes_dict=draw(str_map), doc_id_dict=draw(lists), embeddings_dict=draw(vectors), **base)
    if kind == 5:
        return MultiModelIndexDict(nodes_dict=draw(str_map), **base)
    if kind == 6:
        return KG(
            table=draw(sets),
            rel_map=draw(st.dictionaries(texts, st.lists(st.lists(texts, min_size=2, max_size=2), max_size=2), max_size=2)),
            embedding_dict=draw(vectors),
            **base,
        )
    if kind == 7:
        return EmptyIndexStruct(**base)
    if kind == 8:
        return IndexDocumentSummary(
            summary_id_to_node_ids=draw(lists),
            node_id_to_summary_id=draw(str_map),
            doc_id_to_summary_id=draw(str_map),
            **base,
        )
    if kind == 9:
        return SQLStructTable(context_dict=draw(str_map), **base)
    return PandasStructTable(**base)


# -- stores of a user's own ------------------------------------------------------------


class LoggingKV(BaseKVStore):
    """A user's own KV store, which writes down how it is called."""

    def __init__(self) -> None:
        self.inner = raw.SimpleKVStore()
        self.log: List[tuple] = []

    def _call(self, name, *args, **kwargs):
        self.log.append((name, args, tuple(sorted(kwargs.items()))))
        return getattr(self.inner, name)(*args, **kwargs)

    def put(self, *args, **kwargs):
        return self._call("put", *args, **kwargs)

    async def aput(self, *args, **kwargs):
        return self._call("put", *args, **kwargs)

    def get(self, *args, **kwargs):
        return self._call("get", *args, **kwargs)

    async def aget(self, *args, **kwargs):
        return self._call("get", *args, **kwargs)

    def get_all(self, *args, **kwargs):
        return self._call("get_all", *args, **kwargs)

    async def aget_all(self, *args, **kwargs):
        return self._call("get_all", *args, **kwargs)

    def delete(self, *args, **kwargs):
        return self._call("delete", *args, **kwargs)

    async def adelete(self, *args, **kwargs):
        return self._call("delete", *args, **kwargs)


# -- determinism --------------------------------------------------------------------------


class seeded_uuids:
    """``uuid.uuid4`` from a seeded generator, so that two runs name things alike."""

    def __init__(self, seed: int = 7) -> None:
        self._seed = seed

    def __enter__(self) -> "seeded_uuids":
        rng = random.Random(self._seed)
        self._saved = uuid.uuid4
        uuid.uuid4 = lambda: uuid.UUID(int=rng.getrandbits(128), version=4)  # type: ignore[assignment]
        return self

    def __exit__(self, *exc: Any) -> None:
        uuid.uuid4 = self._saved  # type: ignore[assignment]


def dumps(value: Any) -> bytes:
    """What the peer writes for a plain value."""
    return json.dumps(value).encode("utf-8")


def as_file(value: Any) -> io.BytesIO:
    return io.BytesIO(dumps(value))
