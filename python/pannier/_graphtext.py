"""The text of a property graph's file, written and read without pydantic's detours.

The core (``csrc/py/graph_encode.c``, ``graph_decode.c``) prints LlamaIndex's ``EntityNode``,
``ChunkNode`` and ``Relation`` just as ``model_dump_json`` does, and builds them as
``model_validate`` does. It is told of the classes here, and used only if the installed ones
are as it knows them and a sample graph comes out the same, text and objects. A method that
is replaced at run time is the one that runs.
"""

from __future__ import annotations

import copy
from typing import Any, Dict

from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.graph_stores.simple_labelled import (
    SimplePropertyGraphStore as PeerPropertyGraphStore,
)
from llama_index.core.graph_stores.types import (
    ChunkNode,
    EntityNode,
    LabelledPropertyGraph,
    Relation,
)

from pannier import _core
from pannier._nodereader import peer_classes, watch

# A value for each field, by class: in the order that csrc/py/graph_models.c spells out.
_SAMPLES: Dict[Any, Dict[str, Any]] = {
    EntityNode: {"label": "l", "embedding": None, "properties": {}, "name": 'a"b'},
    ChunkNode: {"label": "l", "embedding": None, "properties": {}, "text": "t", "id_": None},
    Relation: {"label": "l", "source_id": "a", "target_id": "b", "properties": {}},
}
_STATE = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
_CONSTRUCTION = (
    "__init__", "__new__", "__getattribute__", "__pydantic_validator__", "__pydantic_serializer__", "id",
    "model_validate", "model_dump_json", "add_node", "add_triplet", "add_relation", "_get_relation_key",
)  # fmt: skip

# What pydantic versions might print or read in another way.
_SAMPLE_GRAPH = {
    "nodes": {
        'a "b"': {"label": "é\u2028\x7f", "embedding": [0.1, 1.5e-05, -9e-06, 1e-10, 1e16, 5e-324, 0.0], "properties": {}, "name": "n"},
        "c\\": {"label": "\x00\x1f\n", "embedding": None, "properties": {"k": [1, None, True, {"x": 1e300}]}, "text": "t", "id_": None},
    },
    "relations": {"r": {"label": "l", "source_id": "a", "target_id": "b", "properties": {"y": -1}}},
    "triplets": [["a", "l", "b"]],
}  # fmt: skip


def _known() -> bool:
    """Whether the classes are as the core knows them."""
    made = [kind.model_validate(fields) for kind, fields in _SAMPLES.items()]
    if any(list(node.__dict__) != list(fields) for node, fields in zip(made, _SAMPLES.values())):
        return False
    entity, chunk, relation = made
    if (entity.id, chunk.id, relation.id) != ("a b", str(hash("t")), "l"):
        return False
    return all((x.__pydantic_extra__, x.__pydantic_private__) == (None, None) for x in made)


def _state_of(graph: Any) -> Any:
    """All that is in a graph, pydantic's own state included, as something to compare."""
    items = [graph, *graph.nodes.values(), *graph.relations.values()]
    states = [(type(x), repr(x.__dict__), *(repr(getattr(x, name)) for name in _STATE)) for x in items]
    return states, list(graph.nodes), list(graph.relations)


def encode(graph: Any) -> Any:
    """The text of a graph's file, bytes-like, or None: pydantic has to write it."""
    if not _NATIVE or type(graph) is not LabelledPropertyGraph:
        return None
    fields = graph.__dict__
    if list(fields) != ["nodes", "relations", "triplets"]:
        return None
    nodes, relations, triplets = fields.values()
    if type(nodes) is not dict and not isinstance(nodes, _core.NodeIndex) or type(relations) is not dict:
        return None
    if type(triplets) is not set and not isinstance(triplets, _core.TripletIndex):
        return None
    return _core.graph_encode(nodes, relations, triplets)


def decode(text: Any, nodes: Dict[Any, Any], triplets: Any) -> Any:
    """The graph of a file's text, in these containers, or None: LlamaIndex has to read it."""
    relations: Dict[Any, Any] = {}
    if not _NATIVE or not _core.graph_decode(text, nodes, relations, triplets):
        return None
    graph = LabelledPropertyGraph.model_validate({"nodes": {}, "relations": {}, "triplets": []})
    graph.__dict__.update(nodes=nodes, relations=relations, triplets=triplets)
    return graph


def _tell_core() -> None:
    """Tell the core of the installed classes."""
    owners = dict.fromkeys(c for kind in (*_SAMPLES, LabelledPropertyGraph) for c in peer_classes(kind))
    slots = tuple(BaseModel.__dict__[name] for name in _STATE)
    _core.graph_models(tuple(_SAMPLES), slots, tuple(watch(owners, _CONSTRUCTION)))


def _agrees() -> bool:
    """Whether the core reads and writes the sample as pydantic does."""
    theirs = PeerPropertyGraphStore.from_dict(copy.deepcopy(_SAMPLE_GRAPH)).graph
    text = theirs.model_dump_json().encode()
    ours = decode(text, {}, set())
    encoded = None if ours is None else encode(ours)
    return encoded is not None and bytes(encoded) == text and _state_of(ours) == _state_of(theirs)


_NATIVE = _known()
if _NATIVE:
    _tell_core()
    _NATIVE = _agrees()
