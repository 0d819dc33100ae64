from pannier.docstore import KVDocumentStore as KVDocumentStore
from pannier.docstore import SimpleDocumentStore as SimpleDocumentStore
from pannier.errors import CommitError as CommitError
from pannier.errors import ConflictError as ConflictError
from pannier.errors import CorruptPackError as CorruptPackError
from pannier.errors import CorruptStoreError as CorruptStoreError
from pannier.errors import FormatVersionError as FormatVersionError
from pannier.errors import GenerationError as GenerationError
from pannier.errors import JournalError as JournalError
from pannier.errors import LockedError as LockedError
from pannier.errors import MixedFormatError as MixedFormatError
from pannier.errors import NamespaceError as NamespaceError
from pannier.errors import OutcomeUnknownError as OutcomeUnknownError
from pannier.errors import PannierError as PannierError
from pannier.errors import ReadOnlyError as ReadOnlyError
from pannier.errors import UnserializableError as UnserializableError
from pannier.errors import UnsupportedLayoutError as UnsupportedLayoutError
from pannier.graph_store import SimpleGraphStore as SimpleGraphStore
from pannier.index_store import KVIndexStore as KVIndexStore
from pannier.index_store import SimpleIndexStore as SimpleIndexStore
from pannier.installing import install as install
from pannier.installing import uninstall as uninstall
from pannier.kvstore import SimpleKVStore as SimpleKVStore
from pannier.loading import load_graph_from_storage as load_graph_from_storage
from pannier.loading import load_index_from_storage as load_index_from_storage
from pannier.loading import load_indices_from_storage as load_indices_from_storage
from pannier.property_graph import SimplePropertyGraphStore as SimplePropertyGraphStore
from pannier.registry import register_index_type as register_index_type
from pannier.storage_context import StorageContext as StorageContext
from pannier.threads import get_threads as get_threads
from pannier.threads import set_threads as set_threads
from pannier.vector_store import SimpleVectorStore as SimpleVectorStore

__version__: str
__all__: list[str]
