"""Index types: which classes stand behind the ``__type__`` of a persisted index.

The table itself is C (``csrc/store/registry.h``). LlamaIndex's own two dictionaries,
``INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS`` and ``INDEX_STRUCT_TYPE_TO_INDEX_CLASS``,
stay the truth: what a program adds to, replaces in or deletes from them is noticed
at the next lookup, and what :func:`register_index_type` adds is written there too.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, List, Optional, Type

if TYPE_CHECKING:
    from llama_index.core.data_structs.data_structs import IndexStruct
    from llama_index.core.indices.base import BaseIndex

    from pannier._core import Registry

_lock = Lock()
_registry: Optional["Registry"] = None


def _types() -> "Registry":
    """The one registry of this process, filled from LlamaIndex at first use."""
    global _registry
    if _registry is None:
        from llama_index.core.data_structs.registry import (
            INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS,
        )
        from llama_index.core.indices.registry import INDEX_STRUCT_TYPE_TO_INDEX_CLASS

        from pannier._core import Registry

        with _lock:
            if _registry is None:
                _registry = Registry(
                    INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS,
                    INDEX_STRUCT_TYPE_TO_INDEX_CLASS,
                )
    return _registry


def _known(type_name: str, cls: Any) -> Any:
    if cls is None:
        raise KeyError(type_name)
    return cls


def struct_class(type_name: str) -> Type["IndexStruct"]:
    """The struct class of an index type.

    Args:
        type_name (str): as persisted, e.g. ``"vector_store"``; an ``IndexStructType`` is one.

    Raises:
        KeyError: the type is not known, as LlamaIndex's dictionary raises it.
    """
    return _known(type_name, _types().resolve(type_name)[0])


def index_class(type_name: str) -> Type["BaseIndex[Any]"]:
    """The index class of an index type.

    Args:
        type_name (str): as persisted, e.g. ``"vector_store"``; an ``IndexStructType`` is one.

    Raises:
        KeyError: the type is not known, as LlamaIndex's dictionary raises it.
    """
    return _known(type_name, _types().resolve(type_name)[1])


def index_types() -> List[str]:
    """Every type name known now."""
    return _types().names()


def register_index_type(
    type_name: str, struct_cls: Type["IndexStruct"], index_cls: Type["BaseIndex[Any]"]
) -> None:
    """Make an index type loadable, by pannier's loaders and by LlamaIndex's own.

    Registering a known type replaces its classes.

    Args:
        type_name (str): what ``struct_cls.get_type()`` returns; it is persisted as
            the struct's ``__type__``.
        struct_cls (Type[IndexStruct]): class of the persisted struct.
        index_cls (Type[BaseIndex]): class that is built from it.

    Raises:
        TypeError: an argument is not a ``str``, an ``IndexStruct`` class, a
            ``BaseIndex`` class.
    """
    from llama_index.core.data_structs.data_structs import IndexStruct
    from llama_index.core.indices.base import BaseIndex

    if not isinstance(type_name, str):
        raise TypeError(f"type_name must be a str, not {type(type_name).__name__}")
    if not (isinstance(struct_cls, type) and issubclass(struct_cls, IndexStruct)):
        raise TypeError(f"struct_cls must be a subclass of IndexStruct, not {struct_cls!r}")
    if not (isinstance(index_cls, type) and issubclass(index_cls, BaseIndex)):
        raise TypeError(f"index_cls must be a subclass of BaseIndex, not {index_cls!r}")
    _types().register(type_name, struct_cls, index_cls)
