"""What the benchmark stores: the same nodes and vectors for every side, from a seed.

A node looks like what a PDF reader and a sentence splitter leave: about 1,000
characters (some accented, some CJK, line ends and quotes, since escaping costs),
eight metadata fields, and its source, previous and next node. Ten nodes a document.
Embeddings are unit vectors whose values are float32 numbers, as models give them.
"""

from __future__ import annotations

import random
from typing import Any

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
