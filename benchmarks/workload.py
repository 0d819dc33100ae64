"""What the benchmark stores: the same nodes and vectors for every side, from a seed.

A node looks like what a PDF reader and a sentence splitter leave: about 1,000
characters (some accented, some CJK, line ends and quotes, since escaping costs),
eight metadata fields, and its source, previous and next node. Ten nodes a document.
Embeddings are unit vectors whose values are float32 numbers, as models give them.
"""

from __future__ import annotations

import json
import os
import pickle
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import Bench

NODES_PER_DOCUMENT = 10
DEPARTMENTS = ("sales", "legal", "research", "support", "finance", "design", "security", "people", "field", "press")
SYLLABLES = "an be cor da el fi gre hu in jo ka lu mon ne or pla qui ros sta tur ul vi wen yo zi".split()
FOREIGN = ("caf\u00e9", "na\u00efve", "\u00fcber", "se\u00f1or", "\u65e5\u672c\u8a9e", "\u6570\u636e\u5e93", "\U0001f4a1")


def make_words(rng: random.Random, count: int = 4000) -> list[str]:
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(count)]


def make_text(rng: random.Random, words: list[str], characters: int) -> str:
    """Sentences and paragraphs; common words are more common."""
    out: list[str] = []
    size = 0
    while size < characters:
        sentence = [words[int(len(words) * rng.random() ** 3)] for _ in range(rng.randint(5, 18))]
        if rng.random() < 0.08:
            sentence.insert(rng.randrange(len(sentence)), rng.choice(FOREIGN))
        if rng.random() < 0.10:
            sentence.append(f'"{rng.choice(words)}"')
        out.append(" ".join(sentence).capitalize() + (".\n\n" if rng.random() < 0.15 else ". "))
        size += len(out[-1])
    return "".join(out).strip()


def make_vectors(n: int, dim: int, seed: int = 7) -> Any:
    """Unit rows, float32, shape (n, dim)."""
    import numpy as np

    matrix = np.random.default_rng(seed).standard_normal((n, dim), dtype=np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def make_nodes(n: int, dim: int, seed: int = 7) -> list[Any]:
    """n ``TextNode`` objects, with embeddings when dim > 0."""
    from llama_index.core.schema import NodeRelationship, ObjectType, RelatedNodeInfo, TextNode

    rng = random.Random(seed)
    words = make_words(rng)
    vectors = make_vectors(n, dim, seed).tolist() if dim else [None] * n
    ids = [f"{rng.getrandbits(128):032x}" for _ in range(n)]
    hashes = [f"{rng.getrandbits(256):064x}" for _ in range(n)]

    def neighbour(i: int, metadata: dict[str, Any]) -> RelatedNodeInfo:
        return RelatedNodeInfo(node_id=ids[i], node_type=ObjectType.TEXT, metadata=metadata, hash=hashes[i])

    nodes = []
    for i in range(n):
        document, part = divmod(i, NODES_PER_DOCUMENT)
        if part == 0:
            shared = {
                "file_name": f"minutes-{document:05d}.pdf",
                "file_path": f"archive/{rng.choice(DEPARTMENTS)}/{document:05d}/minutes-{document:05d}.pdf",
                "file_type": "application/pdf",
                "file_size": rng.randint(20_000, 9_000_000),
                "creation_date": f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
                "last_modified_date": f"2025-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
                "department": DEPARTMENTS[document % len(DEPARTMENTS)],
            }
            source = RelatedNodeInfo(
                node_id=f"document-{document:05d}", node_type=ObjectType.DOCUMENT, metadata=shared, hash=hashes[i]
            )
            at = 0
        related = {NodeRelationship.SOURCE: source}
        if part > 0:
            related[NodeRelationship.PREVIOUS] = neighbour(i - 1, {**shared, "page_label": str(part)})
        if part + 1 < NODES_PER_DOCUMENT and i + 1 < n:
            related[NodeRelationship.NEXT] = neighbour(i + 1, {})
        text = make_text(rng, words, rng.randint(800, 1200))
        nodes.append(
            TextNode(
                id_=ids[i],
                text=text,
                embedding=vectors[i],
                metadata={**shared, "page_label": str(part + 1)},
                excluded_embed_metadata_keys=["file_size", "creation_date", "last_modified_date"],
                excluded_llm_metadata_keys=["file_size", "creation_date", "last_modified_date"],
                relationships=related,
                start_char_idx=at,
                end_char_idx=at + len(text),
            )
        )
        at += len(text)
    return nodes


def prepare(b: Bench) -> None:
    """Writes this size's nodes, texts and vectors, from which every process reads them."""
    import numpy as np

    os.makedirs(b.data, exist_ok=True)
    nodes = make_nodes(b.n, 0)
    with open(os.path.join(b.data, "nodes.pickle"), "wb") as f:
        pickle.dump(nodes, f, pickle.HIGHEST_PROTOCOL)
    with open(os.path.join(b.data, "texts.json"), "w", encoding="utf-8") as f:
        json.dump({n.node_id: n.text for n in nodes}, f)
    np.save(os.path.join(b.data, "vectors.npy"), make_vectors(b.n, b.dim))


def load_nodes(b: Bench, embeddings: bool = False) -> list[Any]:
    """The nodes that ``prepare`` wrote, without embeddings or with them (as lists of floats)."""
    with open(os.path.join(b.data, "nodes.pickle"), "rb") as f:
        nodes: list[Any] = pickle.load(f)  # written by prepare() of this run
    if embeddings:
        for node, vector in zip(nodes, load_vectors(b).tolist()):
            node.embedding = vector
    return nodes


def load_vectors(b: Bench) -> Any:
    """The matrix, float32, shape (n, dim)."""
    import numpy as np

    return np.load(os.path.join(b.data, "vectors.npy"))


def load_texts(b: Bench) -> dict[str, str]:
    """The nodes' texts by id."""
    with open(os.path.join(b.data, "texts.json"), encoding="utf-8") as f:
        return dict(json.load(f))


def query_vectors(dim: int, count: int = 7) -> list[list[float]]:
    return list(make_vectors(count, dim, seed=99).tolist())


def some(values: list[Any], count: int) -> list[Any]:
    """That many of the values, from all over the list; repeated where there are few."""
    if len(values) >= count:
        return [values[i * len(values) // count] for i in range(count)]
    return values * max(min(count, 100) // len(values), 1)


def of_one_document(nodes: list[Any]) -> list[Any]:
    """Copies of the nodes whose source is one large document."""
    from llama_index.core.schema import NodeRelationship

    source = nodes[0].relationships[NodeRelationship.SOURCE]
    return [n.model_copy(update={"relationships": {NodeRelationship.SOURCE: source}}) for n in nodes]


def make_items(n: int) -> list[tuple[str, dict[str, Any]]]:
    """Pairs for a key-value store: what the docstore keeps as a node's metadata."""
    return [(f"key-{i:08d}", {"doc_hash": f"{i:064x}", "ref_doc_id": f"document-{i // 10}"}) for i in range(n)]
