"""SimplePropertyGraphStore: LlamaIndex's own class, with an index beside its graph.

``store.graph`` is LlamaIndex's ``LabelledPropertyGraph``. Its ``nodes`` and ``triplets``
are a dict and a set that know more than they contain: which triplets touch a node, and
the place of a key in the order. So ``get(ids=)``, ``get_triplets(ids=, entity_names=)``,
``get_rel_map`` and ``delete`` of what they name cost what they touch, and whoever changes
``graph.nodes`` or ``graph.triplets`` meanwhile, or puts others in their place, is noticed.
A graph that the store makes has them from the start. Into a graph that it was given they
are put when the first such call comes and there are more than a few nodes or triplets, and
only if nobody else holds the old ones; otherwise all are looked at, as LlamaIndex does.

Differences (docs/differences.md):

- A triplet whose node or relation is gone, which LlamaIndex's ``delete`` leaves behind
  when it takes a neighbour with the node, is passed over where there ``KeyError`` is
  raised. The graph itself stays as LlamaIndex's is: to add the node again brings the
  triplet back.
- ``to_dict`` gives the triplets as a list, so JSON can hold it; ``from_dict`` takes
  both forms and leaves the caller's dict as it is.
- ``persist`` makes missing directories, and a failure changes no file.
"""

from __future__ import annotations

import copy
import io
import json
import os
import sys
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

import fsspec
from llama_index.core.graph_stores.simple_labelled import (
    SimplePropertyGraphStore as PeerPropertyGraphStore,
)
from llama_index.core.graph_stores.types import (
    DEFAULT_PERSIST_DIR,
    DEFAULT_PG_PERSIST_FNAME,
    EntityNode,
    LabelledNode,
    LabelledPropertyGraph,
    Relation,
    Triplet,
)

from pannier import _core, _files, _graphtext, _pack
from pannier.errors import CorruptStoreError, UnserializableError

__all__ = ["SimplePropertyGraphStore"]

Key = Tuple[str, str, str]  # source id, label, target id

# Up to here it is faster to look at all nodes or triplets than to ask an index.
_FEW = 24
_COLLECTIONS = frozenset({list, tuple, set, frozenset})


# ----- Noticing that a node gets another id -----


class _Ids:
    """Reports assignments to what the id of an EntityNode or ChunkNode is made of.

    An id is computed from the node, the key in ``graph.nodes`` is not: a node that is
    renamed in place is found by its new name, under its old key. An index looks again
    after such a report.
    """

    fields = frozenset({"name", "text", "id_"})

    def __init__(self) -> None:
        self.watching = False

    def watch(self) -> None:
        if self.watching:
            return
        assign = LabelledNode.__setattr__

        def __setattr__(node: Any, name: str, value: Any) -> None:
            assign(node, name, value)
            if name in self.fields:
                _core.node_renamed()  # after: an index sees both or neither

        LabelledNode.__setattr__ = __setattr__  # type: ignore[method-assign]
        self.watching = True


_ids = _Ids()


# ----- The containers -----


def _forgetting(kind: Any, name: str) -> Any:
    """A method of the plain container that changes many items: the index is made anew
    when needed."""
    change = getattr(kind, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.forget()
        return change(self, *args, **kwargs)

    method.__name__ = name
    return method


class NodeDict(_core.NodeIndex):
    """``graph.nodes``, with the places of its keys and the keys that are no ids."""

    __slots__ = ()

    def in_order(self, keys: List[Any]) -> List[Any]:
        """The keys, all of which are here, in the order of the dict."""
        return sorted(keys, key=self.places().__getitem__) if len(keys) > 1 else keys

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def popitem(self) -> Tuple[Any, Any]:
        for key in reversed(self):
            return key, self.pop(key)
        return super().popitem()  # its KeyError

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()


_DICTS = (dict, NodeDict)  # what `nodes` is, unless a user puts something else there


class TripletSet(_core.TripletIndex):
    """``graph.triplets``, with the triplets of each node."""

    __slots__ = ()

    def pop(self) -> Any:
        for triplet in self:
            self.remove(triplet)
            return triplet
        return super().pop()  # its KeyError

    def __repr__(self) -> str:
        return repr(set(self))

    def __reduce__(self) -> Any:
        return set, (list(self),)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()


for _ours, _plain, _names in (
    (NodeDict, dict, "clear update __ior__"),
    (
        TripletSet,
        set,
        "clear update difference_update intersection_update symmetric_difference_update __ior__ __iand__ __isub__ __ixor__",
    ),
):
    for _name in _names.split():
        setattr(_ours, _name, _forgetting(_plain, _name))


def _references(fields: Dict[str, Any], name: str) -> int:
    return sys.getrefcount(fields[name])


_ONE_REFERENCE = _references({"x": set()}, "x")


def _indexed(fields: Dict[str, Any], name: str, plain: type, ours: type) -> Any:
    """The indexed container of a graph, put in place of the plain one if nobody else
    holds that, or None."""
    kind = type(fields[name])
    if kind is ours:
        return fields[name]
    if kind is not plain or _references(fields, name) > _ONE_REFERENCE:
        return None
    fields[name] = ours(fields[name])  # past __setattr__: the field counts as set by nobody
    return fields[name]


def _index(graph: Any) -> Optional[Tuple[NodeDict, TripletSet]]:
    """The indexed nodes and triplets of a graph, or None: go LlamaIndex's way."""
    if type(graph) is not LabelledPropertyGraph:
        return None
    _ids.watch()
    nodes = _indexed(graph.__dict__, "nodes", dict, NodeDict)
    triplets = _indexed(graph.__dict__, "triplets", set, TripletSet)
    return None if nodes is None or triplets is None else (nodes, triplets)


def _unindexed() -> Tuple[NodeDict, TripletSet]:
    """Containers that know nothing until they are asked: for much at once."""
    _ids.watch()
    nodes, triplets = NodeDict(), TripletSet()
    nodes.forget()
    triplets.forget()
    return nodes, triplets


def _keys_of(nodes: NodeDict, ids: Any) -> Optional[List[Any]]:
    """Keys of the nodes with one of the ids; None when ids is no collection of str."""
    if type(ids) not in (list, tuple, set, frozenset) or not all(type(i) is str for i in ids):
        return None
    odd = nodes.odd()
    wanted = dict.fromkeys(ids)
    keys = [i for i in wanted if i in nodes and i not in odd]
    return keys + [key for key in list(odd) if nodes[key].id in wanted]


# ----- Looking at all -----
#
# The id of an EntityNode is spelt out where many are asked for: a property is a call.


def _having(nodes: List[LabelledNode], properties: Any) -> List[LabelledNode]:
    """The nodes that have one of the properties."""
    if type(properties) is dict and len(properties) == 1:
        found = []
        for name, value in properties.items():
            for n in nodes:
                if n.properties.get(name) == value:
                    found.append(n)
        return found
    return [n for n in nodes if any(n.properties.get(k) == v for k, v in properties.items())]


def _with_property(triplets: List[Triplet], properties: Any) -> List[Triplet]:
    """Those of which a node or the relation has one of the properties."""
    if type(properties) is dict and len(properties) == 1:
        for k, v in properties.items():
            return [
                t
                for t in triplets
                if t[0].properties.get(k) == v or t[1].properties.get(k) == v or t[2].properties.get(k) == v
            ]
    return [t for t in triplets if any(any(part.properties.get(k) == v for part in t) for k, v in properties.items())]


def _every(graph: LabelledPropertyGraph) -> List[Triplet]:
    """``graph.get_triplets()``; KeyError when a node or relation is gone."""
    nodes, relations = graph.nodes, graph.relations
    return [(nodes[s], relations[f"{s}_{r}_{o}"], nodes[o]) for s, r, o in graph.triplets]


def _every_labelled(graph: LabelledPropertyGraph, labels: Any) -> List[Triplet]:
    """Those of them whose relation has one of the labels."""
    nodes, relations = graph.nodes, graph.relations
    if type(labels) is list and isinstance(graph.triplets, set) and type(nodes) in _DICTS and type(relations) is dict:
        found = _core.graph_labelled(nodes, relations, graph.triplets, labels)
        if found is not None:
            return found
    found = []
    for s, r, o in list(graph.triplets):
        relation = relations[f"{s}_{r}_{o}"]
        if (relation.label if type(relation) is Relation else relation.id) in labels:
            found.append((nodes[s], relation, nodes[o]))
    return found


def _every_touching(graph: LabelledPropertyGraph, ids: Any) -> List[Triplet]:
    """Those of them that touch a node with one of the ids, a collection."""
    nodes, relations = graph.nodes, graph.relations
    found = []
    for s, r, o in list(graph.triplets):  # an id may run code
        subj, obj = nodes[s], nodes[o]
        if (
            (subj.name.replace('"', " ") if type(subj) is EntityNode else subj.id) in ids
            or (obj.name.replace('"', " ") if type(obj) is EntityNode else obj.id) in ids
        ):
            found.append((subj, relations[f"{s}_{r}_{o}"], obj))
    return found


# ----- Changing -----


def _bring_back(relations: Dict[str, Relation], key: Key, name: str, relation: Relation) -> None:
    """A triplet that was there gets the relation if it has none, which is looked for by the
    ids of its nodes. ``source_id`` and ``target_id`` may spell them in another way: with
    quotation marks, which an id has not."""
    if "{}_{}_{}".format(*key) not in relations:
        relations.setdefault(name, relation)


def _add_relation(graph: LabelledPropertyGraph, relation: Relation) -> None:
    """``graph.add_relation(relation)`` in one go, but a relation that is gone comes back."""
    nodes, source = graph.nodes, relation.source_id
    subj = nodes.get(source)
    if subj is None:
        subj = nodes[source] = EntityNode(name=source)
    target, label = relation.target_id, relation.label
    obj = nodes.get(target)
    if obj is None:
        obj = nodes[target] = EntityNode(name=target)
    subj_id, obj_id = subj.id, obj.id
    key = (subj_id, label, obj_id)
    name = f"{source}_{label}_{target}"
    if key in graph.triplets:
        _bring_back(graph.relations, key, name, relation)
        return
    graph.triplets.add(key)
    if subj_id != source or obj_id != target:  # else they stand there
        nodes[subj_id] = subj
        nodes[obj_id] = obj
    graph.relations[name] = relation


def _upsert_relation(store: Any, relation: Relation) -> None:
    """``store.graph.add_relation(relation)``, of any kind."""
    graph = store.graph
    ours = type(graph) is LabelledPropertyGraph
    if ours and type(relation) is Relation:
        _add_relation(graph, relation)
        return
    graph.add_relation(relation)
    if ours:
        key = (graph.nodes[relation.source_id].id, relation.id, graph.nodes[relation.target_id].id)
        _bring_back(graph.relations, key, graph._get_relation_key(relation=relation), relation)


def _delete_triplet(graph: Any, triplet: Triplet) -> None:
    """``graph.delete_triplet(triplet)``, with each id computed once."""
    subj, rel, obj = triplet
    if type(graph) is not LabelledPropertyGraph or type(rel) is not Relation:
        graph.delete_triplet(triplet)
        return
    subj_id, obj_id = subj.id, obj.id
    key = (subj_id, rel.label, obj_id)
    if key not in graph.triplets:
        return
    graph.triplets.remove(key)
    graph.nodes.pop(subj_id, None)
    graph.nodes.pop(obj_id, None)
    graph.relations.pop(f"{rel.source_id}_{rel.label}_{rel.target_id}", None)


# ----- The store -----


class _UnserializableGraph(UnserializableError, ValueError):
    """LlamaIndex raises pydantic's PydanticSerializationError here, a ValueError."""


class SimplePropertyGraphStore(_core.PropertyMethods, PeerPropertyGraphStore):  # type: ignore[misc]
    """LlamaIndex's ``SimplePropertyGraphStore``.

    ``upsert_nodes`` and ``upsert_relations`` are those of PropertyMethods.

    Args:
        graph (Optional[LabelledPropertyGraph]): contents, used as they are.
    """

    def __init__(self, graph: Optional[LabelledPropertyGraph] = None) -> None:
        super().__init__(graph)
        if graph is None:
            _index(self.graph)

    def get(
        self,
        properties: Optional[dict] = None,
        ids: Optional[List[str]] = None,
    ) -> List[LabelledNode]:
        """The nodes that have one of the ids, and one of the properties, if given; in
        the order of ``graph.nodes``."""
        if ids and len(self.graph.nodes) > _FEW:  # no name for it yet: an index counts references
            found = self._get_by_index(ids)
            if found is not None:
                return _having(found, properties) if properties else found
        nodes = list(self.graph.nodes.values())
        if properties:
            nodes = _having(nodes, properties)
        if not ids:
            return nodes
        found = []
        for n in nodes:
            if (n.name.replace('"', " ") if type(n) is EntityNode else n.id) in ids:
                found.append(n)
        return found

    def _get_by_index(self, ids: Any) -> Optional[List[LabelledNode]]:
        index = _index(self.graph)
        keys = None if index is None else _keys_of(index[0], ids)
        return None if index is None or keys is None else [index[0][key] for key in index[0].in_order(keys)]

    def _candidates(self, ids: Any) -> Optional[Iterable[Key]]:
        """The triplets that touch a node with one of the ids, or None: search all."""
        index = _index(self.graph) if ids else None
        keys = None if index is None else _keys_of(index[0], ids)
        return None if index is None or keys is None else index[1].touching(keys)

    def _rows(self, keys: Iterable[Key]) -> Iterator[Tuple[Key, Triplet]]:
        """Triplets whose nodes and relation are all there."""
        graph = self.graph
        nodes, relations = graph.nodes, graph.relations
        for key in keys:
            subj, rel, obj = key
            name = f"{subj}_{rel}_{obj}"
            if subj in nodes and obj in nodes and name in relations:
                yield key, (nodes[subj], relations[name], nodes[obj])

    def _all_triplets(self) -> List[Triplet]:
        try:
            return _every(self.graph)
        except KeyError:
            return [t for _, t in self._rows(self.graph.triplets)]

    def get_triplets(
        self,
        entity_names: Optional[List[str]] = None,
        relation_names: Optional[List[str]] = None,
        properties: Optional[dict] = None,
        ids: Optional[List[str]] = None,
    ) -> List[Triplet]:
        """The triplets that meet every condition given; none when none is given.

        Args:
            entity_names (Optional[List[str]]): one end has one of these ids.
            relation_names (Optional[List[str]]): labels.
            properties (Optional[dict]): a node or the relation has one of them.
            ids (Optional[List[str]]): as entity_names.

        Returns:
            (source node, relation, target node) each; the order is that of a set.
        """
        if not ids and not properties and not entity_names and not relation_names:
            return []
        if type(self.graph) is not LabelledPropertyGraph:
            return super().get_triplets(entity_names, relation_names, properties, ids)
        graph, wanted = self.graph, entity_names or ids
        try:
            if relation_names and not wanted and not properties:
                return _every_labelled(graph, relation_names)
            one = type(wanted) in _COLLECTIONS and not (relation_names or properties or entity_names and ids)
            if one and len(graph.triplets) <= _FEW:
                return _every_touching(graph, wanted)
        except KeyError:
            pass  # something is gone
        by_name = self._candidates(entity_names)
        by_id = self._candidates(ids) if by_name is None else None
        found = by_name if by_name is not None else by_id
        triplets = self._all_triplets() if found is None else [t for _, t in self._rows(found)]
        if entity_names and by_name is None:
            triplets = [t for t in triplets if t[0].id in entity_names or t[2].id in entity_names]
        if relation_names:
            triplets = [t for t in triplets if t[1].id in relation_names]
        if properties:
            triplets = _with_property(triplets, properties)
        if ids and by_id is None:
            triplets = [t for t in triplets if any(t[0].id == i or t[2].id == i for i in ids)]
        return triplets

    def get_rel_map(
        self,
        graph_nodes: List[LabelledNode],
        depth: int = 2,
        limit: int = 30,
        ignore_rels: Optional[List[str]] = None,
    ) -> List[Triplet]:
        """Triplets within ``depth`` hops of the nodes, nearest first.

        As in LlamaIndex the second hop gives those of the first again, and ``limit``
        takes any of the last hop.
        """
        ours = type(self).get_triplets is SimplePropertyGraphStore.get_triplets
        graph_nodes = list(graph_nodes)
        keys = self._candidates([n.id for n in graph_nodes]) if ours and type(depth) is int else None
        if keys is None:
            return super().get_rel_map(graph_nodes, depth, limit, ignore_rels)
        walk = _Walk(self, ignore_rels or [], limit)
        hops = walk.take(self._rows(keys))
        for _ in range(1, depth):
            keys = None if walk.full or not hops else self._candidates([t[2].id for _, t in hops])
            if keys is None:
                break
            hops = walk.take(walk.unseen(self._rows(keys)))
        return walk.found[:limit] if depth > 0 else []

    def delete(
        self,
        entity_names: Optional[List[str]] = None,
        relation_names: Optional[List[str]] = None,
        properties: Optional[dict] = None,
        ids: Optional[List[str]] = None,
    ) -> None:
        """Delete the matching triplets, their ends, and the matching nodes.

        Without any argument all nodes go, as in LlamaIndex. There, however, a criterion
        that does not choose nodes (a relation name, an entity name) or that is empty
        (``ids=[]``, which ``delete_llama_nodes`` gives for a document it does not know)
        chooses every node of the graph too; here it chooses those it names.
        """
        everything = entity_names is None and relation_names is None and properties is None and ids is None
        for triplet in self.get_triplets(entity_names, relation_names, properties, ids):
            _delete_triplet(self.graph, triplet)
        if properties or ids or everything:
            nodes = self.get(properties=properties, ids=ids)
        else:
            nodes = self.get(ids=entity_names) if entity_names else []
        for node in nodes:
            self.graph.delete_node(node)

    def _pn_encode(self) -> Any:
        """The contents of the file, bytes-like.

        Raises:
            UnserializableError: a value that JSON cannot hold (also a ValueError).
        """
        text = _graphtext.encode(self.graph)
        if text is not None:
            return text
        try:
            return self.graph.model_dump_json().encode("utf-8")
        except (TypeError, ValueError) as e:
            path = _culprit(self.graph)
            message = f"{e}, at {path} of the property graph store. Nothing was written."
            raise _UnserializableGraph(message, store="property graph store", key_path=path) from e

    def persist(self, persist_path: str, fs: Optional[fsspec.AbstractFileSystem] = None) -> None:
        """Write the store to one file; missing directories are made.

        Raises:
            UnserializableError: a value that JSON cannot hold; no file was touched.
            CommitError: an OSError; the file is as it was.
        """
        if _pack.persisted("property graph store", self, persist_path, fs):
            return
        _files.write_files([(persist_path, self._pn_encode())], os.path.dirname(persist_path), fs)

    @classmethod
    def from_persist_path(
        cls, persist_path: str, fs: Optional[fsspec.AbstractFileSystem] = None
    ) -> "SimplePropertyGraphStore":
        """The store in a file.

        Raises:
            FileNotFoundError: there is none.
            CorruptStoreError: a json.JSONDecodeError; the file is no JSON.
            UnicodeDecodeError: nor text.
        """
        found = _pack.find(persist_path, fs)
        data = _files.read_file(persist_path, fs) if found is None else found.text()
        plain = cls.from_dict.__func__ is SimplePropertyGraphStore.from_dict.__func__  # type: ignore[attr-defined]
        graph = _graphtext.decode(data, *_unindexed()) if plain else None
        store = cls(graph) if graph is not None else cls.from_dict(_read(bytes(data), persist_path))
        if found is not None:
            found.note(store, data)
        return store

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str = DEFAULT_PERSIST_DIR,
        fs: Optional[fsspec.AbstractFileSystem] = None,
    ) -> "SimplePropertyGraphStore":
        """The store in ``persist_dir/property_graph_store.json``."""
        return cls.from_persist_path(os.path.join(persist_dir, DEFAULT_PG_PERSIST_FNAME), fs=fs)

    @classmethod
    def from_dict(cls, data: dict) -> "SimplePropertyGraphStore":
        """The store of a dict from :meth:`to_dict`, LlamaIndex's or this one's.

        Raises:
            ValueError: a node is neither an entity nor a chunk.
        """
        return super().from_dict(copy.copy(data))  # which empties its argument's nodes

    def to_dict(self) -> dict:
        """nodes, relations, and triplets as a list of tuples."""
        data = super().to_dict()
        data["triplets"] = list(data["triplets"])
        return data


_core.property_classes(
    SimplePropertyGraphStore,
    LabelledPropertyGraph,
    NodeDict,
    TripletSet,
    (PeerPropertyGraphStore.upsert_nodes, PeerPropertyGraphStore.upsert_relations, _upsert_relation),
)


def _read(data: bytes, path: Any) -> Any:
    try:
        # LlamaIndex reads text: strict UTF-8, no byte order mark.
        return json.loads(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read())
    except json.JSONDecodeError as e:
        raise CorruptStoreError(e.msg, e.doc, e.pos, path=path) from None
    except UnicodeDecodeError as e:
        raise UnicodeDecodeError(e.encoding, e.object, e.start, e.end, f"{e.reason} (in {path})") from None


class _Walk:
    """What get_rel_map has found, and when it may stop: hops only add at the end, so
    what comes after ``limit`` triplets that count would be cut."""

    def __init__(self, store: SimplePropertyGraphStore, ignored: Any, limit: Any) -> None:
        nodes = store.graph.nodes
        self._odd = nodes.odd() if type(nodes) is NodeDict else nodes  # replaced meanwhile: any may be odd
        self._ignored = ignored
        self._room = limit if type(limit) is int and limit >= 0 else sys.maxsize
        self._seen: set = set()
        self.found: List[Triplet] = []

    @property
    def full(self) -> bool:
        return len(self.found) >= self._room

    def take(self, rows: Iterator[Tuple[Key, Triplet]]) -> List[Tuple[Key, Triplet]]:
        hops = []
        for row in rows:
            if self.full:
                break
            hops.append(row)
            if row[1][1].id not in self._ignored:
                self.found.append(row[1])
        return hops

    def unseen(self, rows: Iterator[Tuple[Key, Triplet]]) -> Iterator[Tuple[Key, Triplet]]:
        """LlamaIndex tells triplets apart by their text. Keys that are ids say the same."""
        new = []
        for row in rows:
            mark = self._mark(row)
            if mark not in self._seen:
                new.append(mark)
                yield row
        self._seen.update(new)  # not before: there a hop is not told apart in itself

    def _mark(self, row: Tuple[Key, Triplet]) -> Any:
        key, triplet = row
        plain = key[0] not in self._odd and key[2] not in self._odd and type(triplet[1]) is Relation
        return key if plain else str(triplet)


def _culprit(graph: LabelledPropertyGraph) -> str:
    """Where in the graph the value is that pydantic cannot write."""
    for name in ("nodes", "relations"):
        for key, item in list(getattr(graph, name).items()):
            path = f"{name}[{key!r}]"
            if not _writes({key: 0}):
                return path
            if isinstance(item, (LabelledNode, Relation)) and not _writes(item):
                return _inside(path, item.__dict__)
    return "triplets"


def _inside(path: str, value: Any) -> str:
    while True:
        if isinstance(value, dict):
            parts = [(f"{path}[{key!r}]", inner) for key, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            parts = [(f"{path}[{i}]", inner) for i, inner in enumerate(value)]
        else:
            return path
        bad = next(((p, inner) for p, inner in parts if not _writes(inner)), None)
        if bad is None:
            return path
        path, value = bad


def _writes(value: Any) -> bool:
    from pydantic_core import to_json

    try:
        to_json(value)
    except (TypeError, ValueError):
        return False
    return True
