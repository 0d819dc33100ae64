"""The key-value store: single calls, batches, async calls, and a store that was loaded."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, Iterator

from harness import Bench, Op, Row, Step, group, limit
from workload import make_items

ROWS = (
    Row("kv_put", "KV put", limit="a dict and a shallow copy"),
    Row("kv_overwrite", "KV put over an old value", limit="a dict and a shallow copy"),
    Row("kv_get", "KV get", limit="a dict and a shallow copy"),
    Row("kv_get_missing", "KV get of a missing key", limit="a dict"),
    Row("kv_get_all", "KV get_all, an entry", limit="a dict's copy"),
    Row("kv_put_all", "KV put_all, an entry", limit="a dict and a shallow copy"),
    Row("kv_delete", "KV delete", limit="a dict"),
    Row("kv_aput", "KV aput"),
    Row("kv_aget", "KV aget"),
    Row("kv_persist", "KV persist"),
    Row("kv_load", "KV load", limit="json.loads of the file"),
    Row("kv_load_get", "KV load and a get of each, an entry"),
    Row("kv_get_loaded", "KV get after a load, the first"),
    Row("kv_get_loaded_again", "KV get after a load, the second"),
)
LOOPS = 200  # calls a run where there are few keys


def repeated(keys: list[Any]) -> list[Any]:
    """The keys, often enough that a run takes longer than the clock's grain."""
    return keys * max(LOOPS // len(keys), 1)


def filled(b: Bench, items: list[tuple[str, dict[str, Any]]]) -> Any:
    store = b.SimpleKVStore()
    for key, value in items:
        store.put(key, value, "c")
    return store


def copies(b: Bench, items: list[Any], make: Any) -> list[Any]:
    """So many stores that using up each one's keys takes longer than the clock's grain."""
    return [make() for _ in range(max(LOOPS // len(items), 1))]


@group("kv", *ROWS)
def kv(b: Bench) -> Iterator[Step]:
    items = make_items(b.n)
    keys = [key for key, _ in items]
    again = repeated(keys)
    several = max(LOOPS // b.n, 1)

    def put(stores: list[Any]) -> None:
        for store in stores:
            for key, value in items:
                store.put(key, value, "c")

    def delete(stores: list[Any]) -> None:
        for store in stores:
            for key in keys:
                store.delete(key, "c")

    def put_all(stores: list[Any]) -> None:
        for store in stores:
            store.put_all(items, "c")

    store = filled(b, items)  # first, in memory that nobody has used: what lies where decides about a walk over all of it

    def overwrite() -> None:
        for key, value in repeated(items):
            store.put(key, value, "c")

    def get(name: str = "c") -> Any:
        for key in again:
            found = store.get(key, name)
        return found

    async def aput() -> None:  # often enough that the loop's own work is a small part of it
        for key, value in repeated(items):
            await store.aput(key, value, "c")

    async def aget() -> None:
        for key in again:
            await store.aget(key, "c")

    yield Op("kv_get", get, count=len(again), answer=lambda found: found)
    yield Op("kv_get_missing", lambda: get("other"), count=len(again), answer=lambda found: found)
    yield Op("kv_get_all", lambda: store.get_all("c"), count=b.n, answer=lambda found: [len(found), list(found)[:3]])
    yield Op("kv_overwrite", overwrite, count=len(again))
    yield Op("kv_put", put, lambda: copies(b, items, b.SimpleKVStore), count=several * b.n)
    yield Op("kv_put_all", put_all, lambda: copies(b, items, b.SimpleKVStore), count=several * b.n)
    yield Op("kv_delete", delete, lambda: copies(b, items, lambda: filled(b, items)), count=several * b.n)
    loop = asyncio.new_event_loop()
    yield Op("kv_aput", lambda: loop.run_until_complete(aput()), count=len(again))
    yield Op("kv_aget", lambda: loop.run_until_complete(aget()), count=len(again))
    loop.close()
    path = os.path.join(b.folder("kv"), "kvstore.json")
    yield Op("kv_persist", lambda: store.persist(path), answer=lambda _: os.path.getsize(path))

    def load() -> Any:
        return b.SimpleKVStore.from_persist_path(path)

    def first(stores: list[Any]) -> None:
        for one in stores:
            for key in keys:
                one.get(key, "c")

    loaded = load()
    first([loaded])

    def second() -> None:
        for key in again:
            loaded.get(key, "c")

    def load_and_get() -> None:  # whatever is decoded when: all of it is here
        first([load() for _ in range(several)])

    yield Op("kv_load", load)
    yield Op("kv_load_get", load_and_get, count=several * b.n)
    yield Op("kv_get_loaded", first, lambda: copies(b, items, load), count=several * b.n)
    yield Op("kv_get_loaded_again", second, count=len(again))


@limit("kv")
def kv_limit(b: Bench) -> Iterator[Step]:
    items = make_items(b.n)
    keys = [key for key, _ in items]
    store: dict[str, dict[str, Any]] = {}
    text = json.dumps({"c": dict(items)})

    def put(key: str, value: dict[str, Any]) -> None:
        store[key] = value.copy()

    def get(key: str) -> dict[str, Any]:
        return store[key].copy()

    def put_each() -> None:
        for key, value in items:
            put(key, value)

    def get_each() -> None:
        for key in keys:
            get(key)

    def miss_each() -> None:
        for _ in keys:
            store.get("missing")

    def delete_each(_: Any) -> None:
        for key in keys:
            store.pop(key, None)

    yield Op("kv_put", lambda _: put_each(), store.clear, count=b.n)
    yield Op("kv_overwrite", put_each, count=b.n)
    yield Op("kv_get", get_each, count=b.n)
    yield Op("kv_get_missing", miss_each, count=b.n)
    yield Op("kv_get_all", lambda: dict(store), count=b.n)
    yield Op("kv_put_all", lambda _: put_each(), store.clear, count=b.n)
    yield Op("kv_delete", delete_each, put_each, count=b.n)
    yield Op("kv_load", lambda: json.loads(text))
