"""How node objects turn into their document store entry, learned from the installed peer.

The core can print a node straight from its fields, far faster than pydantic's
``model_dump``. For each class that pannier knows, a plan says which field is what
(``csrc/py/node_encode.h``). A plan counts only if, on a set of sample nodes, it prints
exactly what the installed LlamaIndex gives; otherwise nodes of that class take
LlamaIndex's own way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from typing import Any, Dict, Iterator, List, Tuple, Type

from pannier import _core

_PLAIN, _RELATIONSHIPS, _RESOURCE, _NONE = range(4)
_TAIL_NONE, _TAIL_TEXT = range(2)
_HASH_PROPERTY, _HASH_TEXT = range(2)

# What runs when the peer turns a node into its entry.
_DUMPING = (
    "to_dict", "dict", "model_dump", "custom_model_dump", "_serialize_obj", "class_name", "get_type", "hash", "node_id",
    "ref_doc_id", "source_node", "__getattribute__", "__pydantic_serializer__",
)  # fmt: skip

_lock = threading.Lock()
_ready = False


def ensure_plans() -> None:
    """Makes the plans once a process; cheap afterwards. Thread safe."""
    global _ready
    if _ready:
        return
    with _lock:
        if not _ready:
            _install_plans()
            _ready = True


def _install_plans() -> None:
    from llama_index.core import schema

    from pannier import _nodereader

    readers = _nodereader.readers()
    if readers is not None:
        with contextlib.suppress(ValueError):  # pydantic keeps its models in another way: no reader then
            _core.set_node_readers(readers)

    resource = getattr(schema, "MediaResource", None)
    types = (schema.NodeRelationship, schema.RelatedNodeInfo, schema.ObjectType, resource, schema.NodeRelationship.SOURCE)
    _core.set_node_plans(types, {})
    plans = {cls: _plan(cls) for cls in _classes(schema) if _nodereader.known_code(cls, _DUMPING)}
    good = {cls: plan for cls, plan in plans.items() if all(_agrees(node, plan) for node in _samples(schema, cls))}
    _core.set_node_plans(types, good)


def _classes(schema: Any) -> Iterator[Type[Any]]:
    for name in ("TextNode", "ImageNode", "IndexNode", "Document", "Node"):
        cls = getattr(schema, name, None)
        if cls is not None:
            yield cls


def _plan(cls: Type[Any]) -> Any:
    names: List[str] = list(cls.model_fields)
    kinds = []
    for name in names:
        if name == "relationships":
            kinds.append(_RELATIONSHIPS)
        elif name.endswith("_resource"):
            kinds.append(_RESOURCE)
        elif name == "obj":
            kinds.append(_NONE)
        else:
            kinds.append(_PLAIN)
    openings = tuple(f'{"{" if i == 0 else ", "}{json.dumps(name)}: '.encode() for i, name in enumerate(names))
    openings = (b'{"__data__": ' + openings[0], *openings[1:])
    closing = f', "class_name": {json.dumps(cls.class_name())}'
    tail = _TAIL_TEXT if cls.__name__ == "Document" and "text_resource" in names else _TAIL_NONE
    if tail == _TAIL_TEXT:
        closing += ', "text": '
    end = f'}}, "__type__": {json.dumps(cls.get_type())}}}'
    return (tuple(names), bytes(kinds), openings, closing.encode(), tail, end.encode(), _hash(cls), tuple(_watched(cls)))


def _hash(cls: Type[Any]) -> int:
    from llama_index.core import schema

    return _HASH_TEXT if cls.hash is schema.TextNode.__dict__["hash"] and _text_hash_is_known() else _HASH_PROPERTY


def _text_hash_is_known() -> bool:
    """Whether TextNode's hash is that of its text and its metadata, printed as a dict."""
    from llama_index.core import schema

    for text, metadata in (("", {}), ("a\ud800é", {"k": [1.5, None, "\udc00"], "é": {"x": 10**20}})):
        node = schema.TextNode(text=text, metadata=metadata)
        if node.hash != hashlib.sha256((text + str(metadata)).encode("utf-8", "surrogatepass")).hexdigest():
            return False
    return True


def _watched(cls: Type[Any]) -> List[Tuple[Any, ...]]:
    """What the peer's doc_to_json and hash look at."""
    from llama_index.core import schema
    from llama_index.core.storage.docstore import keyval_docstore, utils

    from pannier import _nodereader

    entries = _nodereader.watch(_nodereader.peer_classes(cls), _DUMPING)
    entries += _nodereader.watch([keyval_docstore, utils], ["doc_to_json"])
    entries += _nodereader.watch([schema], ["sha256"])
    parts = [schema.RelatedNodeInfo, getattr(schema, "MediaResource", None)]
    return entries + _nodereader.watch([p for p in parts if p is not None], ["__pydantic_serializer__", "class_name"])


def _agrees(node: Any, plan: Any) -> bool:
    from llama_index.core.storage.docstore.utils import doc_to_json

    try:
        text = _core.encode_node(node, plan)
        return text is None or bytes(text) == json.dumps(doc_to_json(node)).encode()
    except Exception:
        return False


def _samples(schema: Any, cls: Type[Any]) -> Iterator[Any]:
    """Nodes that use every field, and hardly any."""
    rel = schema.NodeRelationship
    info = schema.RelatedNodeInfo
    meta = {"a": "ü\"\\\n", "b": 1, "c": 1.5, "d": None, "e": [1, {"f": []}], "g": True, "x y": -0.0, "h": {"i": 10**20}}
    related = [
        {},
        {rel.SOURCE: info(node_id="s")},
        {
            rel.SOURCE: info(node_id="s", node_type=schema.ObjectType.DOCUMENT, metadata=meta, hash="h"),
            rel.PREVIOUS: info(node_id="p", node_type="1"),
            rel.NEXT: info(node_id="n", node_type=None, metadata={"k": "v"}),
            rel.PARENT: info(node_id="q", node_type=schema.ObjectType.TEXT),
            rel.CHILD: [info(node_id="c1"), info(node_id="c2", node_type=schema.ObjectType.IMAGE)],
        },
    ]
    common: List[Dict[str, Any]] = [
        {"id_": "x", "metadata": m, "relationships": r, "embedding": e}
        for m, r, e in zip(({}, {"k": "v"}, meta), related, (None, [0.5, 1e-7], [1.0]))
    ]
    common[2].update(excluded_embed_metadata_keys=["a"], excluded_llm_metadata_keys=["b", "ü"], metadata_separator="|")
    extra: Dict[str, Tuple[Dict[str, Any], ...]] = {
        "TextNode": ({}, {"text": "héllo\x7f", "start_char_idx": 0, "end_char_idx": 5, "mimetype": "text/html"}),
        "ImageNode": ({}, {"text": "t", "image": "aGk=", "image_path": "a.png", "image_url": "u", "text_embedding": [0.25]}),
        "IndexNode": ({"index_id": "i"}, {"index_id": "i", "text": "t"}),
        "Document": ({}, {"text": "héllo"}, {"text": ""}),
        "Node": ({}, {"text_resource": schema.MediaResource(text="t")}) if hasattr(schema, "MediaResource") else (),
    }
    for fields in extra[cls.__name__]:
        for base in common:
            yield cls(**base, **fields)
