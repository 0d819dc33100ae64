"""pannier: LlamaIndex's default storage on a C core.

Either change the import::

    from pannier import StorageContext, load_index_from_storage

or leave the program as it is and call ``pannier.install()`` once. Files stay
LlamaIndex's own JSON, byte for byte.

``import pannier`` itself is light: LlamaIndex is imported when a class is first
asked for.
"""

from typing import Any, List

__version__ = "0.1.0"

_HOME = {
    "StorageContext": "storage_context",
    "SimpleKVStore": "kvstore",
    "KVIndexStore": "index_store",
    "SimpleIndexStore": "index_store",
    "KVDocumentStore": "docstore",
    "SimpleDocumentStore": "docstore",
    "SimpleVectorStore": "vector_store",
    "SimpleGraphStore": "graph_store",
    "SimplePropertyGraphStore": "property_graph",
    "load_index_from_storage": "loading",
    "load_indices_from_storage": "loading",
    "load_graph_from_storage": "loading",
    "register_index_type": "registry",
    "get_threads": "threads",
    "set_threads": "threads",
    "install": "installing",
    "uninstall": "installing",
    "convert": "tools",
    "verify": "tools",
    "compact": "tools",
    "rollback": "tools",
    "history": "tools",
    "inspect": "tools",
    "PannierError": "errors",
    "CommitError": "errors",
    "ConflictError": "errors",
    "CorruptPackError": "errors",
    "CorruptStoreError": "errors",
    "FormatVersionError": "errors",
    "GenerationError": "errors",
    "JournalError": "errors",
    "LockedError": "errors",
    "MixedFormatError": "errors",
    "NamespaceError": "errors",
    "OutcomeUnknownError": "errors",
    "ReadOnlyError": "errors",
    "UnserializableError": "errors",
    "UnsupportedLayoutError": "errors",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pannier._importing import import_with_peer

    value = getattr(import_with_peer(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_HOME})
