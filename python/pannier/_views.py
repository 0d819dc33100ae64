"""Live mappings over what the C core holds, for callers that reach into the stores.

LlamaIndex keeps plain dicts in ``_collections_mappings``; code outside reads, changes
and replaces them. These views give the same over a native table: every access goes to
the table, and what is handed out is the stored value itself. They are no ``dict``
subclasses on purpose: ``json.dumps`` would print such a one as ``{}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Dict, Tuple

from pannier._core import KVTable


class LiveMapping(MutableMapping):
    """What a ``dict`` has beyond ``MutableMapping``: ``copy``, ``|``, ``==``, ``repr``."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> Dict[Any, Any]:
        """A plain dict with the same (not copied) values."""
        return dict(self.items())

    def __reversed__(self) -> Iterator[Any]:
        return reversed(list(self))

    def popitem(self) -> Tuple[Any, Any]:
        """Removes and returns the last pair (a ``MutableMapping``'s is the first)."""
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError("popitem(): dictionary is empty")

    def __or__(self, other: Any) -> Any:
        return {**self, **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return {**other, **self} if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> "LiveMapping":
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        return self.copy() == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __repr__(self) -> str:
        return repr(self.copy())

    def __deepcopy__(self, memo: Dict[int, Any]) -> Dict[Any, Any]:
        import copy

        return copy.deepcopy(self.copy(), memo)

    def __reduce__(self) -> Any:
        return (dict, (self.copy(),))


class CollectionView(LiveMapping):
    """One collection of a :class:`pannier.SimpleKVStore`: key -> stored value."""

    __slots__ = ("_table", "_name")

    def __init__(self, table: Any, name: Any) -> None:
        self._table = table
        self._name = name

    def __getitem__(self, key: Any) -> Any:
        return self._table._live(self._name, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._table._set_live(self._name, key, value)

    def __delitem__(self, key: Any) -> None:
        if not KVTable.delete(self._table, key, self._name):  # a subclass's own may have called this
            raise KeyError(key)

    def __contains__(self, key: Any) -> bool:
        return bool(self._table._has(self._name, key))

    def __iter__(self) -> Iterator[Any]:
        return checked_iter(self._table._keys(self._name), lambda: self._table._count(self._name))

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._table._keys(self._name))

    def __len__(self) -> int:
        return int(self._table._count(self._name))


class CollectionsView(LiveMapping):
    """All collections of a native :class:`pannier.SimpleKVStore`: name -> collection.

    Assigning a mapping makes that very object the collection, as in LlamaIndex: the
    store then works on plain dicts (see ``SimpleKVStore``).
    """

    __slots__ = ("_table",)

    def __init__(self, table: Any) -> None:
        self._table = table

    def __getitem__(self, name: Any) -> Any:
        plain = self._table._plain()
        if plain is not None:
            return plain[name]
        if name not in self._table._names():
            raise KeyError(name)
        return CollectionView(self._table, name)

    def __setitem__(self, name: Any, mapping: Any) -> None:
        self._table._surrender()[name] = mapping

    def __delitem__(self, name: Any) -> None:
        self._table._drop(name)

    def __iter__(self) -> Iterator[Any]:
        return checked_iter(self._table._names(), lambda: len(self._table._names()))

    def __len__(self) -> int:
        return len(self._table._names())


def checked_iter(keys: Any, count: Any) -> Iterator[Any]:
    """Iterates over a snapshot of keys; as a dict does, raises RuntimeError when the
    number of keys changes meanwhile, also after the last one."""
    size = len(keys)
    for key in keys:
        _check_size(count, size)
        yield key
    _check_size(count, size)


def _check_size(count: Any, size: int) -> None:
    if count() != size:
        raise RuntimeError("dictionary changed size during iteration")
