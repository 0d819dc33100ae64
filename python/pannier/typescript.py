"""Directories that LlamaIndex.TS persisted, read as what they mean.

LlamaIndex.TS has the same file names in part and another layout inside::

    doc_store.json          (docstore.json in its first releases)
        docstore/data          id -> {"__data__": the node (2023: as a JSON string), "__type__": "TEXT" | ...}
        docstore/metadata      id -> {"docHash", "refDocId"}
        docstore/ref_doc_info  id -> {"nodeIds", "extraInfo"}
    index_store.json
        docstore/data          id -> {"indexId", "summary", "type", "nodesDict" | "nodes" | "table"}
    vector_store.json       {"embeddingDict", "textIdToRefDocId", "metadataDict"}
    images/vector_store.json   likewise, when the program stored images

LlamaIndex reads the index and vector files as empty and fails on the nodes. Here
they become the Python layout, value by value; whatever has no counterpart there is
refused with :class:`pannier.errors.UnsupportedLayoutError`, never dropped.
Embeddings keep every bit; nodes keep ids, texts, metadata and relationships; hashes
stay those that LlamaIndex.TS computed (its recipe differs, so an ingestion pipeline
regards the documents as changed).
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional, Tuple

from llama_index.core.data_structs.data_structs import (
    IndexDict,
    IndexList,
    IndexStruct,
    KeywordTable,
)
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.storage.docstore.utils import doc_to_json
from llama_index.core.storage.index_store.utils import index_struct_to_json

from pannier.errors import CorruptStoreError, UnsupportedLayoutError

DOCSTORE_FNAME = "doc_store.json"
INDEX_STORE_FNAME = "index_store.json"
VECTOR_STORE_FNAME = "vector_store.json"
IMAGE_FOLDER = "images"

NODES = "docstore/data"
METADATA = "docstore/metadata"
REF_DOCS = "docstore/ref_doc_info"
STRUCTS = "index_store/data"

NODE_TYPES = {
    "TEXT": TextNode,
    "DOCUMENT": Document,
    "IMAGE": ImageNode,
    "INDEX": IndexNode,
    "IMAGE_DOCUMENT": ImageDocument,
}

# JSON name -> argument of the node class. "type" is told by the class, "hash" is
# computed by it; "textTemplate" is never applied by LlamaIndex.TS.
_NODE_FIELDS = {
    "id_": "id_",
    "text": "text",
    "metadata": "metadata",
    "embedding": "embedding",
    "excludedEmbedMetadataKeys": "excluded_embed_metadata_keys",
    "excludedLlmMetadataKeys": "excluded_llm_metadata_keys",
    "startCharIdx": "start_char_idx",
    "endCharIdx": "end_char_idx",
    "indexId": "index_id",
}
_ELSEWHERE = {"type", "hash", "textTemplate", "metadataSeparator", "relationships", "image"}
_POSITIONS = {"start_char_idx", "end_char_idx"}
_SEPARATORS = {"metadata_separator", "metadata_seperator"}  # up to 0.13 text nodes use the latter

_HINT = (
    "It was written by LlamaIndex.TS. Nothing was changed. Read it with LlamaIndex.TS, "
    "or build the index anew."
)


def _refuse(what: str, path: str) -> UnsupportedLayoutError:
    return UnsupportedLayoutError(f"{path}: {what}. {_HINT}")


# ----- Is it one? -----


def _first(data: Any, collection: str) -> Any:
    values = data.get(collection) if isinstance(data, Mapping) else None
    if not isinstance(values, Mapping):
        return None
    return next(iter(values.values()), None)


def is_docstore(data: Any) -> bool:
    """Whether the contents of a docstore file are LlamaIndex.TS's (by its first node)."""
    entry = _first(data, NODES)
    if not isinstance(entry, Mapping):
        return False
    kind = entry.get("__type__")
    return isinstance(kind, str) and kind in NODE_TYPES and not _has_class_name(entry)


def _has_class_name(entry: Mapping[str, Any]) -> bool:
    data = entry.get("__data__")
    return isinstance(data, Mapping) and "class_name" in data


def is_index_store(data: Any) -> bool:
    """Whether the contents of an index store file are LlamaIndex.TS's."""
    if not isinstance(data, Mapping) or STRUCTS in data:
        return False
    entry = _first(data, NODES)
    return isinstance(entry, Mapping) and "indexId" in entry and "__data__" not in entry


def is_vector_store(data: Any) -> bool:
    """Whether the contents of a vector store file are LlamaIndex.TS's."""
    return isinstance(data, Mapping) and "embeddingDict" in data and "embedding_dict" not in data


# ----- Conversion: plain JSON values in, the Python layout's plain values out -----


def _related(info: Any, path: str) -> RelatedNodeInfo:
    if not isinstance(info, Mapping) or set(info) - {"nodeId", "nodeType", "metadata", "hash"}:
        raise _refuse(f"a relationship that is not understood: {str(info)[:80]}", path)
    kind: Optional[str] = info.get("nodeType")
    if kind == "IMAGE_DOCUMENT":
        kind = "DOCUMENT"
    if kind is not None and kind not in ObjectType.__members__:
        raise _refuse(f"unknown node type {kind!r} in a relationship", path)
    return RelatedNodeInfo(
        node_id=info["nodeId"],
        node_type=None if kind is None else ObjectType[kind],
        metadata=info.get("metadata") or {},
        hash=info.get("hash"),
    )


def _relationships(data: Any, path: str) -> Dict[NodeRelationship, Any]:
    out: Dict[NodeRelationship, Any] = {}
    for name, value in (data or {}).items():
        if name not in NodeRelationship.__members__:
            raise _refuse(f"unknown relationship {name!r}", path)
        many = isinstance(value, list)
        related = [_related(info, path) for info in (value if many else [value])]
        out[NodeRelationship[name]] = related if many else related[0]
    return out


def _image(value: Any, path: str) -> Dict[str, Any]:
    """An image as LlamaIndex.TS keeps it: an address, a path, or data in a URL."""
    if isinstance(value, str):
        if value.startswith(("http://", "https://")):
            return {"image_url": value}
        if value.startswith("file://"):
            return {"image_path": value[len("file://") :]}
        if value.startswith("data:") and ";base64," in value:
            mimetype, _, data = value[len("data:") :].partition(";base64,")
            return {"image": data, "image_mimetype": mimetype}
    raise _refuse("an image that is neither an address nor data in a URL", path)


def node(kind: Any, data: Any, path: str) -> BaseNode:
    """The node that one entry of a docstore stands for.

    Args:
        kind: its ``__type__``, e.g. ``"TEXT"``.
        data: its ``__data__``, an object or the JSON text of one.
        path (str): the file, for the message of an error.

    Raises:
        UnsupportedLayoutError: something in it has no counterpart in Python.
    """
    if isinstance(data, str):
        data = _parse(data, path)
    if kind not in NODE_TYPES or not isinstance(data, Mapping):
        raise _refuse(f"unknown node type {kind!r}", path)
    unknown = set(data) - set(_NODE_FIELDS) - _ELSEWHERE
    if unknown:
        raise _refuse(f"a {kind} node has fields that are not understood: {sorted(unknown)}", path)
    fields = {_NODE_FIELDS[k]: v for k, v in data.items() if k in _NODE_FIELDS}
    if "Document" in NODE_TYPES[kind].__name__:
        fields = {k: v for k, v in fields.items() if k not in _POSITIONS}
    if data.get("image") is not None:
        fields.update(_image(data["image"], path))
    made = NODE_TYPES[kind](relationships=_relationships(data.get("relationships"), path), **fields)
    for field in _SEPARATORS & set(type(made).model_fields):
        if data.get("metadataSeparator", getattr(made, field)) != getattr(made, field):
            setattr(made, field, data["metadataSeparator"])
    return made


def _renamed(entry: Any, names: Dict[str, str], path: str) -> Dict[str, Any]:
    if not isinstance(entry, Mapping) or set(entry) - set(names):
        raise _refuse(f"an entry that is not understood: {str(entry)[:80]}", path)
    return {names[k]: v for k, v in entry.items()}


def docstore_data(data: Mapping[str, Any], path: str) -> Dict[str, Any]:
    """The collections of a docstore in the Python layout."""
    unknown = set(data) - {NODES, METADATA, REF_DOCS}
    if unknown:
        raise _refuse(f"unknown collections {sorted(unknown)}", path)
    out: Dict[str, Any] = {}
    for name, entries in data.items():
        if name == NODES:
            out[name] = {
                key: doc_to_json(node(e.get("__type__"), e.get("__data__"), path))
                for key, e in entries.items()
            }
        else:
            names = (
                {"docHash": "doc_hash", "refDocId": "ref_doc_id"}
                if name == METADATA
                else {"nodeIds": "node_ids", "extraInfo": "metadata"}
            )
            out[name] = {key: _renamed(e, names, path) for key, e in entries.items()}
    return out


def _struct(entry: Mapping[str, Any], path: str) -> Tuple[IndexStruct, List[BaseNode]]:
    """The struct, and the nodes that LlamaIndex.TS keeps inside it."""
    kind = entry.get("type")
    common = {"index_id": entry["indexId"], "summary": entry.get("summary")}
    known = {"indexId", "summary", "type"}
    nodes: List[BaseNode] = []
    struct: IndexStruct
    if kind == "simple_dict":
        known.add("nodesDict")
        inside = {k: node(v.get("type"), v, path) for k, v in entry.get("nodesDict", {}).items()}
        nodes = list(inside.values())
        struct = IndexDict(nodes_dict={k: n.node_id for k, n in inside.items()}, **common)
    elif kind == "list":
        known.add("nodes")
        struct = IndexList(nodes=list(entry.get("nodes", [])), **common)
    elif kind == "keyword_table" and isinstance(entry.get("table"), Mapping):
        known.add("table")
        table = {word: set(ids) for word, ids in entry["table"].items()}
        struct = KeywordTable(table=table, **common)
    else:
        raise _refuse(f"an index of type {kind!r}", path)
    if set(entry) - known:
        raise _refuse(f"an index with fields that are not understood: {sorted(set(entry) - known)}", path)
    return struct, nodes


def index_store_data(data: Mapping[str, Any], path: str) -> Tuple[Dict[str, Any], List[BaseNode]]:
    """The collections of an index store in the Python layout, and the nodes found inside.

    The Python layout has only the ids of nodes in an index, the nodes in the docstore.
    """
    structs: Dict[str, Any] = {}
    nodes: List[BaseNode] = []
    for entry in data[NODES].values():
        struct, inside = _struct(entry, path)
        structs[struct.index_id] = index_struct_to_json(struct)
        nodes += inside
    return {STRUCTS: structs}, nodes


def vector_data(data: Mapping[str, Any], path: str) -> Dict[str, Any]:
    """A vector store's three dictionaries in the Python layout.

    A node without a source gets the string ``"None"``, as in LlamaIndex.

    Raises:
        UnsupportedLayoutError: the file has more than these three.
    """
    names = {
        "embeddingDict": "embedding_dict",
        "textIdToRefDocId": "text_id_to_ref_doc_id",
        "metadataDict": "metadata_dict",
    }
    unknown = set(data) - set(names)
    if unknown:
        raise _refuse(f"fields that are not understood: {sorted(unknown)}", path)
    out = {python: dict(data.get(theirs) or {}) for theirs, python in names.items()}
    sources = out["text_id_to_ref_doc_id"]
    out["text_id_to_ref_doc_id"] = {key: sources.get(key, "None") for key in out["embedding_dict"]}
    return out


def _parse(text: Any, path: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        near = e.doc[max(0, e.pos - 40) : e.pos + 40]
        raise CorruptStoreError(e.msg, near, min(e.pos, 40), path=path, offset=e.pos) from None


def parse(content: Any, path: str) -> Any:
    """The JSON value of a file's bytes.

    Raises:
        CorruptStoreError: it is not JSON; the message names the file.
    """
    return _parse(bytes(content), path)
