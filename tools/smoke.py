"""The shortest proof that an installed pannier works: build, persist, reopen, ask.

Usage: python tools/smoke.py; exits non-zero with a traceback when it does not.
"""

from __future__ import annotations

import filecmp
import os
import sys
import tempfile

import llama_index.core
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.schema import TextNode

import pannier



def run(module, folder: str) -> list[tuple[str, float]]:
    """Builds and reopens an index with the classes of one module; what it answers."""
    context = module.StorageContext.from_defaults()
    nodes = [TextNode(id_=f"n{i}", text=f"text {i} \u00e9\u4e2d", metadata={"i": i}) for i in range(50)]
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=MockEmbedding(embed_dim=8))
    index.set_index_id("smoke")
    context.persist(persist_dir=folder)
    again = module.StorageContext.from_defaults(persist_dir=folder)
    loaded = module.load_index_from_storage(again, embed_model=MockEmbedding(embed_dim=8))
    return [(n.node.node_id, n.score) for n in loaded.as_retriever(similarity_top_k=5).retrieve("q")]


def main() -> int:
    with tempfile.TemporaryDirectory() as top:
        ours, peer = os.path.join(top, "ours"), os.path.join(top, "peer")
        assert run(pannier, ours) == run(llama_index.core, peer) != []
        names = sorted(os.listdir(ours))
        assert names == sorted(os.listdir(peer)), names
        assert filecmp.cmpfiles(ours, peer, names, shallow=False) == (names, [], [])
    print(f"smoke: 1 passed, 0 failed (CPython {sys.version.split()[0]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
