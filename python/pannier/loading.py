"""Indices back from a storage context: LlamaIndex's three load functions.

Same signatures, messages and order of effects as ``llama_index.core.indices.loading``:
every index is built before they are counted, and a graph's root is looked up only
when it is used. The classes come from :mod:`pannier.registry`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, List, Optional, Sequence

from llama_index.core.indices.base import BaseIndex
from llama_index.core.indices.composability.graph import ComposableGraph

from pannier.registry import index_class

if TYPE_CHECKING:
    from llama_index.core.storage.storage_context import StorageContext

logger = logging.getLogger(__name__)


def load_index_from_storage(
    storage_context: "StorageContext",
    index_id: Optional[str] = None,
    **kwargs: Any,
) -> "BaseIndex[Any]":
    """Load one index from a storage context, pannier's or LlamaIndex's.

    Args:
        storage_context (StorageContext): holds the docstore, index store and vector stores.
        index_id (Optional[str]): which index. None: the only one there is.
        **kwargs: passed on to the constructor of the index.

    Raises:
        ValueError: no index, more than one without ``index_id``, or no such id.
        KeyError: the type of an index is not registered.
    """
    index_ids: Optional[Sequence[str]] = None if index_id is None else [index_id]
    indices = load_indices_from_storage(storage_context, index_ids=index_ids, **kwargs)
    if len(indices) == 0:
        raise ValueError(
            "No index in storage context, check if you specified the right persist_dir."
        )
    elif len(indices) > 1:
        raise ValueError(
            f"Expected to load a single index, but got {len(indices)} instead. "
            "Please specify index_id."
        )
    return indices[0]


def load_indices_from_storage(
    storage_context: "StorageContext",
    index_ids: Optional[Sequence[str]] = None,
    **kwargs: Any,
) -> "List[BaseIndex[Any]]":
    """Load several indices from a storage context.

    Args:
        storage_context (StorageContext): holds the docstore, index store and vector stores.
        index_ids (Optional[Sequence[str]]): which, in this order. None: all.
        **kwargs: passed on to the constructor of each index.

    Raises:
        ValueError: there is no index with one of the ids; none was built then.
        KeyError: the type of an index is not registered.
    """
    if index_ids is None:
        logger.info("Loading all indices.")
        index_structs = storage_context.index_store.index_structs()
    else:
        logger.info(f"Loading indices with ids: {index_ids}")
        index_structs = []
        for index_id in index_ids:
            index_struct = storage_context.index_store.get_index_struct(index_id)
            if index_struct is None:
                raise ValueError(f"Failed to load index with ID {index_id}")
            index_structs.append(index_struct)

    indices = []
    for index_struct in index_structs:
        cls = index_class(index_struct.get_type())
        indices.append(
            cls(index_struct=index_struct, storage_context=storage_context, **kwargs)
        )
    return indices


def load_graph_from_storage(
    storage_context: "StorageContext",
    root_id: str,
    **kwargs: Any,
) -> ComposableGraph:
    """Load all indices of a storage context as a graph.

    Args:
        storage_context (StorageContext): holds the docstore, index store and vector stores.
        root_id (str): id of the root index. An unknown one raises KeyError at the
            first use of the graph, not here.
        **kwargs: passed on to the constructor of each index.
    """
    indices = load_indices_from_storage(storage_context, index_ids=None, **kwargs)
    all_indices = {index.index_id: index for index in indices}
    return ComposableGraph(all_indices=all_indices, root_id=root_id)
