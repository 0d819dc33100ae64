"""How document store entries turn into node objects, learned from the installed peer.

The core can build a node straight from an entry's JSON text (``csrc/py/node_decode.h``)
with the very state that pydantic gives it. For each class that pannier knows, a reader
says which fields it has and what they take without conversion. A reader counts only if
the classes' code comes from LlamaIndex and pydantic unchanged and if, on a set of sample
entries, what it builds equals in every respect what the installed ``json_to_doc`` builds;
otherwise entries of that class take LlamaIndex's own way. What a reader was learned from
is watched from then on: a method replaced at run time is the one that runs.
"""

from __future__ import annotations

import json
import pickle
import typing
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Type

from llama_index.core import schema
from llama_index.core.storage.docstore import keyval_docstore, utils
from pydantic import BaseModel

from pannier import _core

_NULL, _STR, _STR_OR_NULL, _INT_OR_NULL, _FLOATS_OR_NULL, _STRS, _FLAT, _RELATIONSHIPS, _RESOURCE = range(9)
_REFUSED, _DEFAULT, _LIST, _DICT = range(4)
_TEXT, _IMAGE = 1, 2

# What json_to_doc tries, in its order.
CLASS_NAMES = ("Document", "Node", "TextNode", "ImageNode", "IndexNode")

_CONFIG = {"populate_by_name", "validate_assignment", "validate_default"}
_CONSTRUCTION = (
    "__init__", "__new__", "__setattr__", "__getattribute__", "__pydantic_validator__", "from_dict", "get_type",
    "class_name", "model_validate",
)  # fmt: skip
_ABSENT = object()
_LEAVES = (str, type(None))  # equal means the same


def watch(owners: Any, names: Any) -> List[Tuple[Any, ...]]:
    """Entries of a watch (``csrc/py/node_watch.h``): these names in these classes' own
    dicts, or in these modules', as they are now."""
    entries: List[Tuple[Any, ...]] = []
    for owner in owners:
        for name in names:
            now = owner.__dict__.get(name, _ABSENT)
            entries.append((owner, name) if now is _ABSENT else (owner, name, now))
    return entries


def peer_classes(cls: Type[Any]) -> List[Type[Any]]:
    """The class and its bases, without ``object``."""
    return [c for c in cls.__mro__ if c is not object]


def readers() -> Optional[Tuple[Any, ...]]:
    """The argument of ``_core.set_node_readers``: the readers that hold, or None."""
    resource_class = getattr(schema, "MediaResource", None)
    related = _model(schema.RelatedNodeInfo)
    resource = _model(resource_class) if resource_class is not None else None
    if related is None:
        return None
    members = {str(m.value): (m, hash(m)) for m in schema.NodeRelationship}
    made = [_reader(cls) for cls in _classes() if resource is not None or resource_class is None]
    good = []
    for reader in made:
        if reader is not None and _agrees((members, related, resource, (reader,)), reader[2][0]):
            good.append(reader)
    return (members, related, resource, tuple(good))


def _classes() -> Iterator[Type[Any]]:
    for name in CLASS_NAMES:
        cls = getattr(schema, name, None)
        if cls is not None:
            yield cls


def _reader(cls: Type[Any]) -> Optional[Tuple[Any, ...]]:
    model = _model(cls)
    if model is None or not known_code(cls, _CONSTRUCTION) or utils.json_to_doc is not keyval_docstore.json_to_doc:
        return None
    flags = _TEXT if cls.__name__ == "Document" and "text_resource" in model[1] else 0
    if "image_path" in model[1] and "image_mimetype" in model[1]:
        flags |= _IMAGE
    class_name = cls.class_name() if cls.__name__ == "Document" else None
    kind = cls.get_type()
    return (str(getattr(kind, "value", kind)), class_name, model, flags, tuple(_watched(cls)))


def _watched(cls: Type[Any]) -> List[Tuple[Any, ...]]:
    """What json_to_doc looks at on its way to an object of that class."""
    entries = watch([keyval_docstore, utils], ["json_to_doc"])
    entries += watch([utils], [n for n in (*CLASS_NAMES, "ImageDocument", "TYPE_KEY", "DATA_KEY") if hasattr(utils, n)])
    entries += watch(peer_classes(cls), _CONSTRUCTION)
    entries += watch([c for c in _classes() if c is not cls], ["get_type"])
    parts = [schema.RelatedNodeInfo, getattr(schema, "MediaResource", None)]
    entries += watch([p for p in parts if p is not None], ["__new__", "__pydantic_validator__", "model_validate"])
    image_document = getattr(utils, "ImageDocument", None)
    if image_document is not None:
        entries += watch([image_document], ["class_name"])
    return entries


def known_code(cls: Type[Any], names: Any) -> bool:
    """Whether these methods of the class are those that LlamaIndex and pydantic came with:
    no wrapper or mock stands there already."""
    for owner in peer_classes(cls):
        home = "pydantic" if owner is BaseModel else schema.__name__
        for name in names:
            found = owner.__dict__.get(name)
            function = getattr(found, "fget", None) or getattr(found, "__func__", found)
            code_globals = getattr(function, "__globals__", None)
            if code_globals is not None and not str(code_globals.get("__name__", "")).startswith(home):
                return False
    return True


def _model(cls: Type[Any]) -> Optional[Tuple[Any, ...]]:
    """A model tuple, or None for a class with anything that is not understood."""
    if cls.__new__ is not object.__new__ or cls.__private_attributes__ or cls.__pydantic_post_init__:
        return None
    if cls.__pydantic_root_model__ or not set(cls.model_config) <= _CONFIG or not _known_validators(cls):
        return None
    names = tuple(cls.model_fields)
    kinds = [_kind(cls, name) for name in names]
    if None in kinds:
        return None
    absent = bytes(_absent(cls, name) for name in names)
    defaults = {n: cls.model_fields[n].default if a == _DEFAULT else None for n, a in zip(names, absent)}
    full: Any = set()
    for name in names:
        full.add(name)
    if list(set(full)) != list(full):
        full = None  # pydantic adds one by one; a copy of a set may have another order
    slots = [BaseModel.__dict__.get(f"__pydantic_{s}__") for s in ("fields_set", "extra", "private")]
    aliases = bytes(_alias(cls, names, name) for name in names)
    return (cls, names, bytes(kinds), absent, aliases, defaults, full, *slots)  # type: ignore[arg-type]


def _known_validators(cls: Type[Any]) -> bool:
    found = cls.__pydantic_decorators__
    if found.validators or found.root_validators or found.model_validators:
        return False
    known = {"validate_data", "validate_mimetype"} if cls.__name__ == "MediaResource" else set()
    return set(found.field_validators) <= known


def _kind(cls: Type[Any], name: str) -> Optional[int]:
    info = cls.model_fields[name]
    if info.metadata:
        return None
    simple = [
        (str, _STR),
        (Optional[str], _STR_OR_NULL),
        (Optional[int], _INT_OR_NULL),
        (Optional[List[float]], _FLOATS_OR_NULL),
        (List[str], _STRS),
        (Dict[str, Any], _FLAT),
    ]
    if cls.__name__ == "MediaResource" and name in ("embeddings", "data", "path", "url"):
        return _NULL
    if cls is schema.RelatedNodeInfo and name == "node_type":
        return _STR_OR_NULL
    if name == "obj" and info.annotation is Any:
        return _NULL
    if name == "relationships":
        return _RELATIONSHIPS
    resource = getattr(schema, "MediaResource", None)
    if resource is not None and set(typing.get_args(info.annotation)) == {resource, type(None)}:
        return _RESOURCE
    for annotation, kind in simple:
        if info.annotation == annotation:
            return kind
    return None


def _alias(cls: Type[Any], names: Tuple[str, ...], name: str) -> int:
    """Until 0.13 the alias of ``metadata_separator`` is also the name of a field."""
    alias = cls.model_fields[name].validation_alias
    return names.index(alias) + 1 if alias in names and alias != name else 0


def _absent(cls: Type[Any], name: str) -> int:
    info = cls.model_fields[name]
    if info.default_factory is not None:
        return _LIST if info.default_factory is list else _DICT if info.default_factory is dict else _REFUSED
    if type(info.default) not in (str, int, bool, float, type(None)):
        return _REFUSED
    return _REFUSED if name == "obj" else _DEFAULT  # IndexNode.from_dict assigns it: set though absent


# ---- checking ----


def _agrees(candidate: Tuple[Any, ...], cls: Type[Any]) -> bool:
    """Whether what the candidate builds is what the peer builds, on all samples, and it
    does build all but the odd ones."""
    try:
        for entry, ordinary in _samples(cls):
            text = json.dumps(entry).encode()
            ours = _core.decode_node(text, candidate)
            if ours is None and not ordinary:
                continue
            theirs = utils.json_to_doc(_core.json_decode(text))
            if ours is None or not _same(ours, theirs) or (ordinary and not _behaves_the_same(ours, theirs)):
                return False
    except Exception:
        return False
    return True


def _state(obj: Any) -> Any:
    """Everything an object consists of, down to the order of its dicts and sets, in a form
    that ``==`` compares."""
    kind = type(obj)
    if isinstance(obj, dict):
        return (kind, _states(obj), _states(obj.values()))
    if isinstance(obj, (list, tuple, set)):
        return (kind, _states(obj))
    if not isinstance(obj, BaseModel):
        return (kind, repr(obj))
    hidden = []
    for name in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        try:
            hidden.append(object.__getattribute__(obj, name))
        except AttributeError:
            hidden.append("unset")
    return (kind, _state(obj.__dict__), _states(hidden))


def _states(values: Iterable[Any]) -> List[Any]:
    return [v if type(v) in _LEAVES else _state(v) for v in values]


def _same(a: Any, b: Any) -> bool:
    return bool(_state(a) == _state(b))


def _behaves_the_same(a: Any, b: Any) -> bool:
    def seen(node: Any) -> List[Any]:
        results = [repr(node), str(node), pickle.dumps(node), node.model_dump(), node.to_dict()]
        for name, value in (("metadata", {"new": 1}), ("metadata_template", 5), ("id_", "other")):
            try:
                setattr(node, name, value)
                results.append(_state(node))
            except ValueError as e:
                results.append(str(e))
        return results

    return a == b and seen(a) == seen(b)


def _samples(cls: Type[Any]) -> Iterator[Tuple[Dict[str, Any], bool]]:
    """(entry, whether a reader is expected to take it)."""
    kind = cls.get_type()
    type_text = str(getattr(kind, "value", kind))
    for data, ordinary in _data_samples(cls):
        yield {"__data__": data, "__type__": type_text}, ordinary


def _data_samples(cls: Type[Any]) -> Iterator[Tuple[Dict[str, Any], bool]]:
    plain = cls(id_="x", **({"index_id": "i"} if "index_id" in cls.model_fields else {})).to_dict()
    full = dict(plain, **_full(cls))
    yield json.loads(json.dumps(plain)), True
    yield full, True
    yield dict(reversed(list(full.items()))), False
    needed = {"id_", "index_id", "obj", "text_resource", "class_name"}
    for odd in (0, 1):
        yield {k: v for i, (k, v) in enumerate(full.items()) if k in needed or i % 2 == odd}, False
    for text in ("", "\udc00\ud800", "\U0001f600" + "a" * 300):
        changed: Dict[str, Any] = dict(full, metadata_template=text, metadata={text: text})
        if "text_resource" in changed:
            changed["text_resource"] = dict(full["text_resource"], text=text)
        if "text" in changed:
            changed["text"] = text
        yield changed, False


def _full(cls: Type[Any]) -> Dict[str, Any]:
    """Every field with something in it."""
    related = {"node_id": "s", "node_type": "4", "metadata": {"k": 1}, "hash": "h", "class_name": "RelatedNodeInfo"}
    resource = {"embeddings": None, "text": "t\n", "path": None, "url": None, "mimetype": "text/html"}
    by_kind: Dict[int, Any] = {
        _NULL: None,
        _STR: "é\"\n",
        _STR_OR_NULL: "\u4e2d",
        _INT_OR_NULL: -7,
        _FLOATS_OR_NULL: [0.5, -0.0, 1e-7, float("inf")],
        _STRS: ["a", "", "b"],
        _FLAT: {"a": 1, "b": 1.5, "c": None, "d": True, "e": "é", "text": "x", "g": 10**30, "h": False},
        _RELATIONSHIPS: {
            "1": related,
            "2": {"node_id": "p"},
            "3": {"node_id": "n", "node_type": None, "hash": None},
            "4": dict(related, node_type="something else", metadata={}),
            "5": [related, {"node_id": "c", "node_type": "1"}],
        },
    }
    fields = {name: by_kind.get(_kind(cls, name), resource) for name in cls.model_fields}  # type: ignore[arg-type]
    if "text_resource" in fields and cls.__name__ == "Document":
        fields["text"] = fields["text_resource"]["text"]
    return fields
