"""``install()``: LlamaIndex's own names give pannier's stores.

What is redirected is the class objects themselves, so every name that anybody
holds for them is reached: modules imported earlier, aliases (``SimpleCache``,
``DocumentStore``), pydantic default factories, the docstore registry, pickles.

- ``__new__`` of each class returns an instance of pannier's class when the class
  called is exactly LlamaIndex's. Python then runs ``__init__`` of what came back.
- The constructors that are class methods (``from_defaults``, ``from_persist_dir``,
  ...) pass on to pannier's, when called on exactly LlamaIndex's class.
- Subclasses that users wrote, and pannier's own classes, which are subclasses too,
  take the way they always took.
- pydantic copies a model by ``__new__`` and fills it behind its back, so its copies
  bypass the redirection and keep their class. Other copies and unpickling go by
  ``__new__`` and ``__setstate__``, which pannier's classes have for both states: what
  LlamaIndex pickled loads as pannier's.

``uninstall()`` puts the class methods back and leaves a ``__new__`` that passes
through: Python cannot give a class its inherited ``__new__`` slot back, and with
the method merely deleted ``object.__new__`` would refuse constructor arguments.
"""

from __future__ import annotations

import functools
import inspect
import threading
from importlib import import_module
from typing import Any, Callable, Dict, List, Optional, Tuple

from pannier._importing import rarer_collections

# (module of LlamaIndex, module of pannier, class name)
_CLASSES: Tuple[Tuple[str, str, str], ...] = (
    ("llama_index.core.storage.kvstore.simple_kvstore", "pannier.kvstore", "SimpleKVStore"),
    ("llama_index.core.storage.index_store.keyval_index_store", "pannier.index_store", "KVIndexStore"),
    ("llama_index.core.storage.index_store.simple_index_store", "pannier.index_store", "SimpleIndexStore"),
    ("llama_index.core.storage.docstore.keyval_docstore", "pannier.docstore", "KVDocumentStore"),
    ("llama_index.core.storage.docstore.simple_docstore", "pannier.docstore", "SimpleDocumentStore"),
    ("llama_index.core.vector_stores.simple", "pannier.vector_store", "SimpleVectorStore"),
    ("llama_index.core.graph_stores.simple", "pannier.graph_store", "SimpleGraphStore"),
    (
        "llama_index.core.graph_stores.simple_labelled",
        "pannier.property_graph",
        "SimplePropertyGraphStore",
    ),
    ("llama_index.core.storage.storage_context", "pannier.storage_context", "StorageContext"),
)

# pydantic's ways to make an object by cls.__new__ and fill it without __init__.
_COPIES = ("__copy__", "__deepcopy__", "model_copy", "copy", "model_construct")

_lock = threading.RLock()
_installed = False
_patched: Dict[type, type] = {}  # LlamaIndex's class -> pannier's, once it has our __new__
_saved: List[Tuple[type, str, Any]] = []  # what uninstall() puts back; None: delete


class _Bypass(threading.local):
    """Depth of operations in this thread during which nothing is redirected."""

    depth = 0


_bypass = _Bypass()


def _redirects(peer: type, cls: type) -> bool:
    return cls is peer and _installed and not _bypass.depth


def _make_new(peer: type, ours: type) -> Callable[..., Any]:
    def __new__(cls: type, *args: Any, **kwargs: Any) -> Any:
        if _redirects(peer, cls):
            return ours.__new__(ours)
        following = super(peer, cls).__new__
        if following is object.__new__:
            return following(cls)
        return following(cls, *args, **kwargs)

    # What inspect.signature shows for the class goes on being its constructor.
    __new__.__signature__ = inspect.signature(peer.__init__)  # type: ignore[attr-defined]
    __new__.__qualname__ = f"{peer.__qualname__}.__new__"
    return __new__


def _make_classmethod(peer: type, ours: type, name: str, original: Any) -> Any:
    function = original.__func__

    @functools.wraps(function)
    def constructor(cls: type, *args: Any, **kwargs: Any) -> Any:
        if _redirects(peer, cls):
            return getattr(ours, name)(*args, **kwargs)
        return function(cls, *args, **kwargs)

    return classmethod(constructor)


def _make_copy(peer: type, name: str) -> Any:
    original = inspect.getattr_static(peer, name)
    is_classmethod = isinstance(original, classmethod)
    function = original.__func__ if is_classmethod else original

    @functools.wraps(function)
    def copy(*args: Any, **kwargs: Any) -> Any:
        _bypass.depth += 1
        try:
            return function(*args, **kwargs)
        finally:
            _bypass.depth -= 1

    return classmethod(copy) if is_classmethod else copy


def _set(cls: type, name: str, value: Any) -> None:
    _saved.append((cls, name, cls.__dict__.get(name)))
    setattr(cls, name, value)


def _redirect(peer: type, ours: type) -> None:
    if peer not in _patched:
        peer.__new__ = staticmethod(_make_new(peer, ours))  # type: ignore[assignment]
        _patched[peer] = ours
    for name, value in list(vars(peer).items()):
        if isinstance(value, classmethod) and name.startswith("from_"):
            _set(peer, name, _make_classmethod(peer, ours, name, value))
    for name in _COPIES:
        if hasattr(peer, name):
            _set(peer, name, _make_copy(peer, name))


def install(format: Optional[str] = None) -> None:
    """Make LlamaIndex use pannier's storage everywhere in this process.

    After it ``SimpleVectorStore()``, ``StorageContext.from_defaults()``,
    ``VectorStoreIndex.from_documents(...)`` and all else that makes one of the
    default stores makes pannier's, whatever was imported before. Objects that exist
    already go on working as they are. Calling it again changes nothing but ``format``.

    Args:
        format (str | None): "json" or "pack": what ``StorageContext.persist`` makes of a new
            directory from now on; None leaves that to the environment variable
            ``PANNIER_FORMAT``, without which it is JSON.

    Raises:
        ValueError: another format.
    """
    global _installed
    with _lock, rarer_collections():
        from pannier._saving import set_default_format

        set_default_format(format)
        if _installed:
            return
        pairs = [
            (getattr(import_module(theirs), name), getattr(import_module(mine), name))
            for theirs, mine, name in _CLASSES
        ]
        try:
            for peer, ours in pairs:
                _redirect(peer, ours)
        except BaseException:
            _restore()
            raise
        _installed = True


def uninstall() -> None:
    """Undo :func:`install`: LlamaIndex's names give LlamaIndex's own objects again.

    Pannier's objects made meanwhile go on working. Without a previous ``install()``
    nothing happens.
    """
    global _installed
    with _lock:
        if _installed:
            from pannier._saving import set_default_format

            set_default_format(None)
        _installed = False
        _restore()


def _restore() -> None:
    while _saved:
        cls, name, value = _saved.pop()
        if value is None:
            delattr(cls, name)
        else:
            setattr(cls, name, value)


def installed() -> bool:
    """Whether :func:`install` is in effect."""
    return _installed
