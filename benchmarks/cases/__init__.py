"""The cases, a module for each store; importing this package registers them all."""

from . import context, documents, fresh, graphs, growth, kv, pack, scan, structs, vectors

__all__ = ["context", "documents", "fresh", "graphs", "growth", "kv", "pack", "scan", "structs", "vectors"]
