"""A pytest plugin that plants one fault into pannier, named by ``PANNIER_FAULT``.

Each fault is a function that patches pannier's classes, as a bug in them would behave,
and the test files that must notice it. Run by ``check.py``; never loaded otherwise.

The first group is the list of faults that LlamaIndex's own test suite did not notice.
"""

from __future__ import annotations

import copy
import json
import os
from typing import Any, Callable, Dict, NamedTuple, Tuple


class Fault(NamedTuple):
    plant: Callable[[Any], None]
    tests: Tuple[str, ...]
    missed_by_the_peer: bool


FAULTS: Dict[str, Fault] = {}


def fault(*tests: str, missed: bool = False) -> Callable:
    """Registers a fault with the test files (or ``file -k expression``) that are to see it."""

    def register(plant: Callable[[Any], None]) -> Callable:
        FAULTS[plant.__name__] = Fault(plant, tests, missed)
        return plant

    return register


def wrap(cls: Any, name: str) -> Callable:
    """Replaces a method by ``f(original, self, *args, **kwargs)``; classmethods stay such."""
    original = getattr(cls, name)
    is_classmethod = getattr(original, "__self__", None) is cls

    def decorate(f: Callable) -> Callable:
        if is_classmethod:

            def method(c: Any, *args: Any, **kwargs: Any) -> Any:
                return f(original, *args, **kwargs)

            setattr(cls, name, classmethod(method))
        else:

            def method(self: Any, *args: Any, **kwargs: Any) -> Any:
                return f(original, self, *args, **kwargs)

            setattr(cls, name, method)
        return f

    return decorate


def document_stores(p: Any) -> Tuple[Any, Any]:
    return p.SimpleDocumentStore, p.KVDocumentStore


# -- what the peer's own suite missed ---------------------------------------------------------


@fault("test_kvstore.py", missed=True)
def get_without_copy(p: Any) -> None:
    @wrap(p.SimpleKVStore, "get")
    def get(original: Any, self: Any, key: Any, collection: Any = "data") -> Any:
        return original(self, key, collection) and self.get_all(collection)[key]


@fault("test_kvstore.py", missed=True)
def put_without_copy(p: Any) -> None:
    @wrap(p.SimpleKVStore, "put")
    def put(original: Any, self: Any, key: Any, val: Any, collection: Any = "data") -> None:
        original(self, key, val, collection)
        self._get_collection_mapping(collection)[key] = val


@fault("test_kvstore.py", missed=True)
def get_all_in_another_order(p: Any) -> None:
    @wrap(p.SimpleKVStore, "get_all")
    def get_all(original: Any, self: Any, collection: Any = "data") -> dict:
        return dict(reversed(original(self, collection).items()))


@fault("test_kvstore.py", "test_value_cells.py", missed=True)
def json_round_trip_on_put(p: Any) -> None:
    @wrap(p.SimpleKVStore, "put")
    def put(original: Any, self: Any, key: Any, val: Any, collection: Any = "data") -> None:
        try:
            val = json.loads(json.dumps(val))
        except (TypeError, ValueError):
            pass
        original(self, key, val, collection)


@fault("test_kvstore.py", missed=True)
def length_on_the_store(p: Any) -> None:
    p.SimpleKVStore.__len__ = lambda self: len(self.get_all())


@fault("test_docstore.py", missed=True)
def length_on_the_document_store(p: Any) -> None:
    p.SimpleDocumentStore.__len__ = lambda self: len(self.docs)


@fault("test_kvstore.py", missed=True)
def deep_to_dict(p: Any) -> None:
    wrap(p.SimpleKVStore, "to_dict")(lambda original, self: copy.deepcopy(original(self)))


@fault("test_kvstore.py", missed=True)
def deep_from_dict(p: Any) -> None:
    wrap(p.SimpleKVStore, "from_dict")(lambda original, data: original(copy.deepcopy(data)))


@fault("test_docstore.py", missed=True)
def wrong_exception_of_get_document(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "get_document")
        def get_document(original: Any, self: Any, doc_id: Any, raise_error: bool = True) -> Any:
            try:
                return original(self, doc_id, raise_error)
            except ValueError as e:
                raise KeyError(str(e)) from None


@fault("test_index_store.py", missed=True)
def wrong_exception_of_an_unknown_type(p: Any) -> None:
    for cls in (p.SimpleIndexStore, p.KVIndexStore):

        @wrap(cls, "get_index_struct")
        def get_index_struct(original: Any, self: Any, struct_id: Any = None) -> Any:
            try:
                return original(self, struct_id)
            except KeyError as e:
                raise ValueError(str(e)) from None


@fault("test_kvstore.py", missed=True)
def wrong_exception_of_a_missing_file(p: Any) -> None:
    @wrap(p.SimpleKVStore, "from_persist_path")
    def from_persist_path(original: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except FileNotFoundError as e:
            raise ValueError(str(e)) from None


@fault("test_docstore.py", missed=True)
def set_document_hash_keeps_ref_doc_id(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "set_document_hash")
        def set_document_hash(original: Any, self: Any, doc_id: Any, doc_hash: Any) -> None:
            old = self._kvstore.get(doc_id, collection=self._metadata_collection) or {}
            self._kvstore.put(doc_id, {**old, "doc_hash": doc_hash}, collection=self._metadata_collection)


@fault("test_stores_of_all_kinds.py", missed=True)
def changed_class_name(p: Any) -> None:
    p.SimpleVectorStore.class_name = classmethod(lambda cls: "PannierVectorStore")


@fault("test_stores_of_all_kinds.py", missed=True)
def graph_get_of_nothing_is_none(p: Any) -> None:
    wrap(p.SimpleGraphStore, "get")(lambda original, self, subj: original(self, subj) or None)


@fault("test_stores_of_all_kinds.py", missed=True)
def duplicate_triplets(p: Any) -> None:
    @wrap(p.SimpleGraphStore, "upsert_triplet")
    def upsert_triplet(original: Any, self: Any, subj: str, rel: str, obj: str) -> None:
        self._data.graph_dict.setdefault(subj, []).append([rel, obj])


@fault("test_stores_of_all_kinds.py", missed=True)
def property_graph_persist_does_nothing(p: Any) -> None:
    p.SimplePropertyGraphStore.persist = lambda self, persist_path, fs=None: None


@fault("test_stores_of_all_kinds.py", missed=True)
def no_image_namespace(p: Any) -> None:
    @wrap(p.StorageContext, "from_defaults")
    def from_defaults(original: Any, *args: Any, **kwargs: Any) -> Any:
        context = original(*args, **kwargs)
        context.vector_stores.pop("image", None)
        return context


# -- our own: key-value store -----------------------------------------------------------------


@fault("test_kvstore.py")
def an_overwrite_moves_to_the_end(p: Any) -> None:
    @wrap(p.SimpleKVStore, "put")
    def put(original: Any, self: Any, key: Any, val: Any, collection: Any = "data") -> None:
        val.copy()
        self.delete(key, collection)
        original(self, key, val, collection)


@fault("test_kvstore.py")
def delete_tells_nothing(p: Any) -> None:
    wrap(p.SimpleKVStore, "delete")(lambda original, self, *a, **k: original(self, *a, **k) and None)


@fault("test_kvstore.py")
def reading_creates_no_collection(p: Any) -> None:
    @wrap(p.SimpleKVStore, "get")
    def get(original: Any, self: Any, key: Any, collection: Any = "data") -> Any:
        return original(self, key, collection) if collection in self._collections_mappings else None


@fault("test_kvstore.py")
def the_constructor_copies_everything(p: Any) -> None:
    wrap(p.SimpleKVStore, "__init__")(lambda original, self, data=None: original(self, copy.deepcopy(data)))


@fault("test_kvstore.py")
def an_assigned_collection_is_copied(p: Any) -> None:
    from pannier._views import CollectionsView

    @wrap(CollectionsView, "__setitem__")
    def setitem(original: Any, self: Any, name: Any, mapping: Any) -> None:
        original(self, name, dict(mapping))


def rewritten(p: Any, change: Callable[[bytes], bytes]) -> None:
    @wrap(p.SimpleKVStore, "_pn_encode")
    def encode(original: Any, self: Any, *args: Any, **kwargs: Any) -> bytes:
        return change(bytes(original(self, *args, **kwargs)))


@fault("test_kvstore.py")
def compact_separators(p: Any) -> None:
    rewritten(p, lambda b: json.dumps(json.loads(b), separators=(",", ":")).encode())


@fault("test_kvstore.py")
def text_is_written_as_utf8(p: Any) -> None:
    rewritten(p, lambda b: json.dumps(json.loads(b), ensure_ascii=False).encode("utf-8", "surrogatepass"))


@fault("test_kvstore.py")
def delete_character_is_not_escaped(p: Any) -> None:
    rewritten(p, lambda b: b.replace(b"\\u007f", b"\x7f"))


@fault("test_kvstore.py")
def equal_keys_are_merged(p: Any) -> None:
    rewritten(p, lambda b: json.dumps(json.loads(b)).encode())


@fault("test_kvstore.py")
def collections_are_sorted(p: Any) -> None:
    rewritten(p, lambda b: json.dumps(dict(sorted(json.loads(b).items()))).encode())


@fault("test_kvstore.py")
def floats_lose_a_digit(p: Any) -> None:
    rewritten(p, lambda b: json.dumps(json.loads(b, parse_float=lambda s: float(f"{float(s):.16g}"))).encode())


@fault("test_kvstore.py")
def nan_is_null(p: Any) -> None:
    rewritten(p, lambda b: b.replace(b"NaN", b"null"))


@fault("test_value_cells.py")
def a_persist_writes_what_it_wrote_before(p: Any) -> None:
    written: Dict[int, bytes] = {}

    @wrap(p.SimpleKVStore, "_pn_encode")
    def encode(original: Any, self: Any, *args: Any, **kwargs: Any) -> bytes:
        data = bytes(original(self, *args, **kwargs))
        keep = self.__dict__.setdefault("_kept", (len(data), data))
        return keep[1] if len(data) >= keep[0] else data


@fault("test_value_cells.py")
def what_is_handed_out_is_a_deep_copy(p: Any) -> None:
    wrap(p.SimpleKVStore, "get")(lambda original, self, *a, **k: copy.deepcopy(original(self, *a, **k)))


@fault("test_pickle_copy.py")
def a_pickle_drops_the_contents(p: Any) -> None:
    @wrap(p.SimpleKVStore, "__getstate__")
    def getstate(original: Any, self: Any) -> dict:
        return {**original(self), "_collections_mappings": {}}


@fault("test_pickle_copy.py")
def a_copy_shares_nothing(p: Any) -> None:
    p.SimpleKVStore.__copy__ = lambda self: copy.deepcopy(self)


@fault("test_persist_safety.py")
def the_file_is_truncated_first(p: Any) -> None:
    @wrap(p.SimpleKVStore, "persist")
    def persist(original: Any, self: Any, persist_path: Any, fs: Any = None) -> None:
        if fs is None and os.path.exists(persist_path):
            open(persist_path, "w").close()
        original(self, persist_path, fs)


# -- document store ---------------------------------------------------------------------------


@fault("test_docstore.py")
def ref_doc_info_in_reverse(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "get_ref_doc_info")
        def get_ref_doc_info(original: Any, self: Any, ref_doc_id: Any) -> Any:
            info = original(self, ref_doc_id)
            if info is not None:
                info.node_ids = info.node_ids[::-1]
            return info


@fault("test_docstore.py")
def the_first_nodes_metadata_stays(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "add_documents")
        def add_documents(original: Any, self: Any, docs: Any, *args: Any, **kwargs: Any) -> None:
            for node in docs:
                original(self, [node], *args, **kwargs)


@fault("test_docstore.py")
def a_refused_add_adds_what_came_before(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "add_documents")
        def add_documents(original: Any, self: Any, docs: Any, allow_update: bool = True, *a: Any, **k: Any) -> None:
            if allow_update:
                return original(self, docs, allow_update, *a, **k)
            for node in docs:
                original(self, [node], allow_update, *a, **k)


@fault("test_docstore.py")
def async_delete_leaves_stale_ids(p: Any) -> None:
    for cls in document_stores(p):

        async def adelete_document(self: Any, doc_id: Any, raise_error: bool = True) -> None:
            found = self._kvstore.delete(doc_id, self._node_collection)
            self._kvstore.delete(doc_id, self._metadata_collection)
            if not found and raise_error:
                raise ValueError(f"doc_id {doc_id} not found.")

        cls.adelete_document = adelete_document


@fault("test_docstore.py")
def node_ids_are_the_stored_list(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "get_ref_doc_info")
        def get_ref_doc_info(original: Any, self: Any, ref_doc_id: Any) -> Any:
            info = original(self, ref_doc_id)
            stored = self._kvstore.get(ref_doc_id, self._ref_doc_collection)
            if info is not None and stored and "node_ids" in stored:
                info.node_ids = stored["node_ids"]
            return info


@fault("test_docstore.py")
def the_first_of_equal_hashes_wins(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "get_all_document_hashes")
        def hashes(original: Any, self: Any) -> dict:
            found: Dict[str, str] = {}
            for key, entry in self._kvstore.get_all(self._metadata_collection).items():
                if entry.get("doc_hash"):
                    found.setdefault(entry["doc_hash"], key)
            return found


@fault("test_docstore.py")
def a_source_outlives_its_last_child(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "delete_document")
        def delete_document(original: Any, self: Any, doc_id: Any, raise_error: bool = True) -> None:
            ref = self._get_ref_doc_id(doc_id)
            node = self.get_document(ref, raise_error=False) if ref else None
            original(self, doc_id, raise_error)
            if node is not None and not self.document_exists(ref):
                self.add_documents([node])


@fault("test_docstore.py")
def docs_makes_a_node_for_each_access(p: Any) -> None:
    from pannier.docstore import LazyDocs

    @wrap(LazyDocs, "__getitem__")
    def getitem(original: Any, self: Any, key: Any) -> Any:
        return copy.copy(original(self, key))


@fault("test_docstore.py")
def docs_is_no_snapshot(p: Any) -> None:
    from pannier._views import LiveMapping

    class Live(LiveMapping):
        def __init__(self, store: Any) -> None:
            self.store = store

        def _keys(self) -> dict:
            return self.store._kvstore.get_all(self.store._node_collection)

        def __getitem__(self, key: Any) -> Any:
            if key not in self._keys():
                raise KeyError(key)
            return self.store.get_document(key)

        def __setitem__(self, key: Any, value: Any) -> None:
            raise TypeError

        __delitem__ = None  # type: ignore[assignment]

        def __iter__(self) -> Any:
            return iter(self._keys())

        def __len__(self) -> int:
            return len(self._keys())

    for cls in document_stores(p):
        cls.docs = property(Live)


@fault("test_docstore.py")
def store_text_is_ignored(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "add_documents")
        def add_documents(original: Any, self: Any, docs: Any, allow_update: bool = True, batch_size: Any = None, store_text: bool = True) -> None:
            original(self, docs, allow_update, batch_size, True)


@fault("test_docstore_stateful.py")
def deleting_a_document_keeps_its_hash(p: Any) -> None:
    for cls in document_stores(p):

        @wrap(cls, "delete_document")
        def delete_document(original: Any, self: Any, doc_id: Any, raise_error: bool = True) -> None:
            entry = self._kvstore.get(doc_id, self._metadata_collection)
            original(self, doc_id, raise_error)
            if entry is not None:
                self._kvstore.put(doc_id, entry, self._metadata_collection)


# -- index store ------------------------------------------------------------------------------


@fault("test_index_store.py")
def no_id_means_the_first_struct(p: Any) -> None:
    for cls in (p.SimpleIndexStore, p.KVIndexStore):

        @wrap(cls, "get_index_struct")
        def get_index_struct(original: Any, self: Any, struct_id: Any = None) -> Any:
            return self.index_structs()[0] if struct_id is None else original(self, struct_id)


@fault("test_index_store.py")
def keyword_tables_hold_lists(p: Any) -> None:
    for cls in (p.SimpleIndexStore, p.KVIndexStore):

        @wrap(cls, "get_index_struct")
        def get_index_struct(original: Any, self: Any, struct_id: Any = None) -> Any:
            struct = original(self, struct_id)
            if hasattr(struct, "table"):
                struct.table = {k: list(v) for k, v in struct.table.items()}
            return struct


@fault("test_index_store.py")
def structs_are_handed_out_shared(p: Any) -> None:
    for cls in (p.SimpleIndexStore, p.KVIndexStore):
        made: Dict[Any, Any] = {}

        @wrap(cls, "get_index_struct")
        def get_index_struct(original: Any, self: Any, struct_id: Any = None) -> Any:
            struct = original(self, struct_id)
            old = made.get((id(self), struct_id))
            if old is None or old[0] != struct:
                made[id(self), struct_id] = old = (copy.deepcopy(struct), struct)
            return old[1]


@fault("test_index_store.py")
def a_grown_struct_is_not_taken_again(p: Any) -> None:
    for cls in (p.SimpleIndexStore, p.KVIndexStore):

        @wrap(cls, "add_index_struct")
        def add_index_struct(original: Any, self: Any, index_struct: Any) -> None:
            if self._kvstore.get(index_struct.index_id, self._collection) is None:
                original(self, index_struct)


# -- vectors, graphs, the context ---------------------------------------------------------------


@fault("test_stores_of_all_kinds.py")
def k_is_one_less(p: Any) -> None:
    @wrap(p.SimpleVectorStore, "query")
    def query(original: Any, self: Any, query: Any, **kwargs: Any) -> Any:
        got = original(self, query, **kwargs)
        if len(got.ids) > 1:
            got.ids, got.similarities = got.ids[:-1], got.similarities[:-1]
        return got


@fault("test_stores_of_all_kinds.py")
def ties_in_reverse(p: Any) -> None:
    @wrap(p.SimpleVectorStore, "query")
    def query(original: Any, self: Any, query: Any, **kwargs: Any) -> Any:
        got = original(self, query, **kwargs)
        rows = sorted(enumerate(zip(got.similarities, got.ids)), key=lambda r: (-r[1][0], -r[0]))
        got.similarities, got.ids = [r[1][0] for r in rows], [r[1][1] for r in rows]
        return got


@fault("test_stores_of_all_kinds.py")
def similarities_are_rounded(p: Any) -> None:
    @wrap(p.SimpleVectorStore, "query")
    def query(original: Any, self: Any, query: Any, **kwargs: Any) -> Any:
        import numpy as np

        got = original(self, query, **kwargs)
        got.similarities = [type(s)(np.float32(s)) for s in got.similarities]
        return got


@fault("test_stores_of_all_kinds.py")
def deleting_none_the_text_does_nothing(p: Any) -> None:
    @wrap(p.SimpleVectorStore, "delete")
    def delete(original: Any, self: Any, ref_doc_id: Any, **kwargs: Any) -> None:
        if ref_doc_id != "None":
            original(self, ref_doc_id, **kwargs)


@fault("test_stores_of_all_kinds.py")
def not_equal_is_false_for_a_missing_key(p: Any) -> None:
    @wrap(p.SimpleVectorStore, "query")
    def query(original: Any, self: Any, query: Any, **kwargs: Any) -> Any:
        got = original(self, query, **kwargs)
        for f in getattr(query.filters, "filters", []) or []:
            if getattr(f, "operator", None) in ("!=", "nin"):
                kept = [(s, i) for s, i in zip(got.similarities, got.ids) if f.key in self.data.metadata_dict[i]]
                got.similarities, got.ids = [s for s, _ in kept], [i for _, i in kept]
        return got


@fault("test_stores_of_all_kinds.py")
def delete_nodes_without_anything_deletes_nothing(p: Any) -> None:
    @wrap(p.SimpleVectorStore, "delete_nodes")
    def delete_nodes(original: Any, self: Any, node_ids: Any = None, filters: Any = None, **kwargs: Any) -> None:
        if node_ids is not None or filters is not None:
            original(self, node_ids, filters, **kwargs)


@fault("test_stores_of_all_kinds.py")
def a_namespace_ends_at_its_first_separator(p: Any) -> None:
    @wrap(p.SimpleVectorStore, "from_namespaced_persist_dir")
    def load(original: Any, *args: Any, **kwargs: Any) -> dict:
        return {name.split("__")[0]: store for name, store in original(*args, **kwargs).items()}


@fault("test_stores_of_all_kinds.py")
def a_given_image_store_is_forgotten(p: Any) -> None:
    @wrap(p.StorageContext, "from_defaults")
    def from_defaults(original: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("image_store", None)
        return original(*args, **kwargs)


@fault("test_stores_of_all_kinds.py")
def triplets_are_sorted(p: Any) -> None:
    wrap(p.SimpleGraphStore, "get")(lambda original, self, subj: sorted(original(self, subj)))


@fault("test_stores_of_all_kinds.py")
def graph_delete_does_nothing(p: Any) -> None:
    """What the peer's does."""
    p.SimpleGraphStore.delete = lambda self, subj, rel, obj: None


@fault("test_files.py")
def a_journal_is_not_rolled_forward(p: Any) -> None:
    from pannier import _core, _files

    _core.recover = lambda *args, **kwargs: False
    _files.recover = lambda *args, **kwargs: False


@fault("test_stores_of_all_kinds.py", "test_install.py")
def uninstall_puts_nothing_back(p: Any) -> None:
    from pannier import installing

    installing._restore = lambda: None
    installing.uninstall = lambda: None
    p.uninstall = installing.uninstall


@fault("test_stores_of_all_kinds.py", "test_install.py")
def install_forgets_the_aliases(p: Any) -> None:
    """Rebinding the module's name only, as a naive install would."""
    from pannier import installing

    def naive() -> None:
        from llama_index.core.storage.kvstore import simple_kvstore

        simple_kvstore.SimpleKVStore = p.SimpleKVStore

    installing.install = naive
    p.install = naive


def pytest_configure(config: Any) -> None:
    name = os.environ.get("PANNIER_FAULT")
    if not name:
        return
    import pannier

    FAULTS[name].plant(pannier)


def pytest_report_header() -> str:
    return f"planted fault: {os.environ.get('PANNIER_FAULT', 'none')}"
