"""The floors of the design: row, size, how many times the peer at least."""

from __future__ import annotations

# (row, sizes at which the floor holds, floor). A size that was not measured is said so.
TARGETS: list[tuple[str, tuple[int, ...], float]] = [
    ("persist", (10_000,), 30),
    ("load", (10_000,), 150),
    ("pack_persist", (10_000,), 100),
    ("pack_after_ten", (10_000, 100_000), 500),
    ("pack_open", (10_000,), 1000),
    ("pack_open", (100_000,), 2000),
    ("query", (100_000,), 180),
    ("query_filtered", (10_000,), 50),
    ("query_mmr", (10_000,), 100),
    ("vector_delete", (10_000,), 50),
    ("docstore_add", (10_000,), 6),
    ("get_nodes", (10_000,), 3),
    ("get_nodes_loaded", (10_000,), 3),
    ("docs", (10_000,), 1000),
    ("one_document_add", (10_000,), 100),
    ("one_document_delete", (10_000,), 500),
    ("index_insert", (10_000,), 15),
    ("index_insert", (100_000,), 80),
    ("struct_get", (100_000,), 15),
    ("load_index", (10_000,), 15),
    ("kv_put", (10_000,), 1.2),
    ("kv_get", (10_000,), 1.2),
    ("kv_delete", (10_000,), 1.2),
    ("kv_get_loaded_again", (10_000,), 1),
    ("graph_upsert_hub", (10_000,), 300),
    ("graph_load", (100_000,), 20),
    ("property_rel_map", (100_000,), 200),
    ("property_delete", (100_000,), 500),
    ("property_triplets", (100_000,), 200),
    ("memory", (10_000,), 4),
    ("pack_memory_open", (10_000,), 20),
    ("import", (1,), 10),
    ("persist", (1,), 1),
]
FSYNC_ASIDE = {("persist", 1)}  # held to its floor without fsync, which is shown
# MB that one row may write or hold, whatever the peer does.
CEILINGS = {"pack_bytes": 1.0}
