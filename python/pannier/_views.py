"""Live mappings over what the C core holds, for callers that reach into the stores.

LlamaIndex keeps plain dicts in ``_collections_mappings``; code outside reads, changes
and replaces them. These views give the same over a native table: every access goes to
the table, and what is handed out is the stored value itself. They are no ``dict``
subclasses on purpose: ``json.dumps`` would print such a one as ``{}``.

A view that is kept while the store goes on to other contents keeps what it showed, as the
dict would: it has a *home*, an empty dict that the table fills when the collection
leaves it, and that is what the view reads from then on (csrc/py/kv_table.h).
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

    def __copy__(self) -> Dict[Any, Any]:
        return self.copy()

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
        return dict(self.items()) == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __repr__(self) -> str:
        return repr(dict(self.items()))

    def __deepcopy__(self, memo: Dict[int, Any]) -> Dict[Any, Any]:
        import copy

        return copy.deepcopy(dict(self.items()), memo)

    def __reduce__(self) -> Any:
        return (dict, (dict(self.items()),))


class _TableView(LiveMapping):
    """What both views of a table have: a name in it (None: all collections) and a home."""

    __slots__ = ("_table", "_name", "_home")

    def __init__(self, table: Any, name: Any = None) -> None:
        self._table = table
        self._name = name
        self._home = table._home(name)

    def _there(self) -> bool:
        """Whether the table has it still; else the home does."""
        return bool(self._table._shows(self._name, self._home))

    def _dict(self) -> Any:
        """The dict that LlamaIndex would have here; the table works on dicts from now on."""
        if self._there():
            self._table._surrender()
        return self._home


class CollectionView(_TableView):
    """One collection of a :class:`pannier.SimpleKVStore`: key -> stored value."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        return self._table._live(self._name, key) if self._there() else self._home[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._there():
            self._table._set_live(self._name, key, value)
        else:
            self._home[key] = value

    def __delitem__(self, key: Any) -> None:
        if not self._there():
            del self._home[key]
        elif not KVTable.delete(self._table, key, self._name):  # a subclass's own may have called this
            raise KeyError(key)

    def __contains__(self, key: Any) -> bool:
        return bool(self._table._has(self._name, key)) if self._there() else key in self._home

    def __iter__(self) -> Iterator[Any]:
        return checked_iter(self._table._keys(self._name), self.__len__) if self._there() else iter(self._home)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._table._keys(self._name) if self._there() else self._home)

    def __len__(self) -> int:
        return int(self._table._count(self._name)) if self._there() else len(self._home)


class CollectionsView(_TableView):
    """All collections of a native :class:`pannier.SimpleKVStore`: name -> collection.

    Assigning a mapping makes that very object the collection, as in LlamaIndex: the
    store then works on plain dicts (see ``SimpleKVStore``).
    """

    __slots__ = ()

    def __getitem__(self, name: Any) -> Any:
        if not self._there():
            return self._home[name]
        hash(name)  # TypeError as a dict raises
        if name not in self._table._names():
            raise KeyError(name)
        return CollectionView(self._table, name)

    def __setitem__(self, name: Any, mapping: Any) -> None:
        if not (self._there() and is_view(mapping, self._table, name)):  # what ``all[name] |= {...}`` ends with
            self._dict()[name] = as_dict(mapping)

    def __delitem__(self, name: Any) -> None:
        if self._there():
            self._table._drop(name)
        else:
            del self._home[name]

    def __iter__(self) -> Iterator[Any]:
        return checked_iter(self._table._names(), self.__len__) if self._there() else iter(self._home)

    def __len__(self) -> int:
        return len(self._table._names() if self._there() else self._home)

    def clear(self) -> None:
        """Without a view of each collection, which would have to keep what that held."""
        for name in list(self):
            del self[name]

    def copy(self) -> Dict[Any, Any]:
        """A dict of the collections themselves: those are dicts from now on."""
        return dict(self._dict())


def is_view(mapping: Any, table: Any, name: Any = None) -> bool:
    """Whether a mapping shows just what that table has under the name."""
    return isinstance(mapping, _TableView) and mapping._table is table and mapping._name == name and mapping._there()


def as_dict(mapping: Any) -> Any:
    """What LlamaIndex would have in the place of that mapping: of a view its dict."""
    return mapping._dict() if isinstance(mapping, _TableView) else mapping


def as_dicts(mappings: Any) -> Any:
    """As :func:`as_dict`, of all collections, some of which may be views of others' ones."""
    mappings = as_dict(mappings)
    if isinstance(mappings, dict):
        for name, mapping in mappings.items():
            if isinstance(mapping, _TableView):
                mappings[name] = mapping._dict()
    return mappings


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
