"""What each store's file holds, in whichever format it goes: the JSON text that LlamaIndex
would write, of every store that pannier can encode."""

from __future__ import annotations

import json
from typing import Any, Optional

from llama_index.core.graph_stores import simple as peer_graph
from llama_index.core.graph_stores import simple_labelled as peer_property_graph
from llama_index.core.storage.docstore import simple_docstore as peer_docstore
from llama_index.core.storage.index_store import simple_index_store as peer_index_store
from llama_index.core.storage.kvstore import simple_kvstore as peer_kvstore
from llama_index.core.vector_stores import simple as peer_vector

from pannier._encoding import explain
from pannier.docstore import SimpleDocumentStore
from pannier.errors import UnserializableError
from pannier.index_store import SimpleIndexStore
from pannier.kvstore import SimpleKVStore
from pannier.vector_store import SimpleVectorStore

# LlamaIndex's classes themselves, whatever its modules' names are rebound to later.
PeerKVStore = peer_kvstore.SimpleKVStore
PEER_KV_BACKED = (peer_docstore.SimpleDocumentStore, peer_index_store.SimpleIndexStore)
KV_BACKED = (SimpleDocumentStore, SimpleIndexStore)
PeerVectorStore = peer_vector.SimpleVectorStore
PeerGraphStore = peer_graph.SimpleGraphStore
PeerPropertyGraphStore = peer_property_graph.SimplePropertyGraphStore


def payload_of(label: str, store: Any, alone: bool = False) -> Any:
    """The content of a store's file, or None when it has to persist itself.

    Args:
        alone: whatever a subclass makes of ``persist``.
    """
    try:
        if alone and has_own_file(store):
            return _encode_own(label, store)
        if "persist" in getattr(store, "__dict__", ()):
            return None
        if type(store) in KV_BACKED or type(store) in PEER_KV_BACKED:
            return _encode_kv(label, store._kvstore)
        return _encode_own(label, store) if _encodes_itself(store) else _encode_peer(label, store)
    except UnserializableError as e:
        if not e.store:
            e.store = label
        raise
    except TypeError as e:
        raise UnserializableError(f"{label}: {e}", store=label) from e


def _encode_own(label: str, store: Any) -> Any:
    return store._pn_encode(label) if isinstance(store, SimpleVectorStore) else store._pn_encode()


def has_own_file(store: Any) -> bool:
    """Whether pannier's ``persist`` of the store writes its file itself, instead of
    calling that of a key-value store of somebody else's."""
    return type(store._kvstore) is SimpleKVStore if isinstance(store, KV_BACKED) else hasattr(store, "_pn_encode")


def _encodes_itself(store: Any) -> bool:
    """Whether a store is pannier's and nobody has put another ``persist`` over it."""
    cls = type(store)
    if not hasattr(cls, "_pn_encode"):
        return False
    owner = next((c for c in cls.__mro__ if "persist" in vars(c)), cls)
    if owner.__module__.partition(".")[0] != "pannier":
        return False
    kvstore = getattr(store, "_kvstore", None)
    return kvstore is None or _encodes_itself(kvstore)


def _encode_kv(label: str, kvstore: Any) -> Any:
    """The file of a document or index store over this key-value store."""
    if "persist" in getattr(kvstore, "__dict__", ()):
        return None
    if type(kvstore) is PeerKVStore:
        return _dumps(label, kvstore._collections_mappings)
    return kvstore._pn_encode(label) if _encodes_itself(kvstore) else None


def _encode_peer(label: str, store: Any) -> Optional[bytes]:
    """The file of a store that is exactly LlamaIndex's own, else None."""
    cls = type(store)
    if cls is PeerVectorStore:
        return _dumps(label, store.data.to_dict())
    if cls is PeerGraphStore:
        return _dumps(label, store._data.to_dict())
    if cls is PeerPropertyGraphStore:
        return store.graph.model_dump_json().encode("utf-8")
    return None


def _dumps(label: str, value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except TypeError as e:
        raise explain(e, label, "", value) from e
