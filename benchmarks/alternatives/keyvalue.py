"""Key to small dict: sqlite3, LMDB, DuckDB, and a file written with orjson.

A contender has ``put_all(items)`` (durable when it returns), ``get(key)``, ``close()`` and
``open()`` (ready to answer ``get``).
"""

from __future__ import annotations

import json
import os
from typing import Any

from . import contender


@contender("sqlite3", "kv", "sqlite3", "one table, one transaction")
class SQLite:
    def __init__(self, folder: str) -> None:
        import sqlite3

        self.path = os.path.join(folder, "kv.sqlite")
        self.connect = lambda: sqlite3.connect(self.path)
        self.open()
        self.db.execute("CREATE TABLE kv (k TEXT PRIMARY KEY, v TEXT)")

    def open(self) -> None:
        self.db = self.connect()

    def put_all(self, items: list[tuple[str, dict[str, Any]]]) -> None:
        with self.db:
            self.db.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", [(k, json.dumps(v)) for k, v in items])

    def get(self, key: str) -> Any:
        return json.loads(self.db.execute("SELECT v FROM kv WHERE k = ?", (key,)).fetchone()[0])

    def close(self) -> None:
        self.db.close()


@contender("lmdb", "kv", "lmdb", "one transaction; a reader kept open")
class LMDB:
    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "lmdb")
        self.open()

    def open(self) -> None:
        import lmdb

        self.env = lmdb.open(self.path, map_size=1 << 30)
        self.reader = None

    def put_all(self, items: list[tuple[str, dict[str, Any]]]) -> None:
        with self.env.begin(write=True) as writer:
            for key, value in items:
                writer.put(key.encode(), json.dumps(value).encode())

    def get(self, key: str) -> Any:
        self.reader = self.reader or self.env.begin()
        return json.loads(self.reader.get(key.encode()))

    def close(self) -> None:
        if self.reader is not None:
            self.reader.abort()
        self.env.close()


@contender("duckdb", "kv", "duckdb", "one table, as LlamaIndex's DuckDB store")
class DuckDB:
    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "kv.duckdb")
        self.open()
        self.db.execute("CREATE TABLE kv (k VARCHAR PRIMARY KEY, v VARCHAR)")

    def open(self) -> None:
        import duckdb

        self.db = duckdb.connect(self.path)

    def put_all(self, items: list[tuple[str, dict[str, Any]]]) -> None:
        self.db.execute("BEGIN")
        self.db.executemany("INSERT INTO kv VALUES (?, ?)", [[k, json.dumps(v)] for k, v in items])
        self.db.execute("COMMIT")

    def get(self, key: str) -> Any:
        return json.loads(self.db.execute("SELECT v FROM kv WHERE k = ?", [key]).fetchone()[0])

    def close(self) -> None:
        self.db.close()


@contender("orjson", "kv", "orjson", "a dict, and one file written whole with fsync")
class Orjson:
    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "kv.json")
        self.data: dict[str, Any] = {}

    def open(self) -> None:
        import orjson

        with open(self.path, "rb") as f:
            self.data = orjson.loads(f.read())

    def put_all(self, items: list[tuple[str, dict[str, Any]]]) -> None:
        import orjson

        for key, value in items:
            self.data[key] = value.copy()
        with open(self.path, "wb") as f:
            f.write(orjson.dumps(self.data))
            f.flush()
            os.fsync(f.fileno())

    def get(self, key: str) -> Any:
        return self.data[key].copy()

    def close(self) -> None:
        self.data = {}
