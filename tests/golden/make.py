"""Made the golden directories, once: see README.md. No test runs this.

    PYTHONPATH=python python tests/golden/make.py tests/golden/pack-v1

What is made is looked at with a reader of its own (below, written from FORMAT.md), so that
every feature of the format that README.md names is really there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

# ----- The format, from its text -----


def _crc_table() -> List[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Wide(str):
    """A string that form 1 writes as ext type 2."""


def mpack(value: Any) -> bytes:
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, Wide):
        return _ext(2, utf8(value))
    if isinstance(value, str):
        return _sized(utf8(value), 0xA0, 31, b"\xd9", b"\xda", b"\xdb")
    if isinstance(value, bytes):
        return b"\xc4" + bytes([len(value)]) + value if len(value) < 256 else b"\xc5" + struct.pack(">H", len(value)) + value
    if isinstance(value, list):
        return _head(len(value), 0x90, b"\xdc") + b"".join(mpack(v) for v in value)
    head = _head(len(value), 0x80, b"\xde")
    return head + b"".join(mpack(k) + mpack(v) for k, v in value.items())


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b" if value < 0 else "B", value)
    for code, form, low, high in (
        (0xCC, ">B", 0, 2**8), (0xCD, ">H", 0, 2**16), (0xCE, ">I", 0, 2**32), (0xCF, ">Q", 0, 2**64),
        (0xD0, ">b", -(2**7), 0), (0xD1, ">h", -(2**15), 0), (0xD2, ">i", -(2**31), 0), (0xD3, ">q", -(2**63), 0),
    ):  # fmt: skip
        if low <= value < high:
            return bytes([code]) + struct.pack(form, value)
    return _ext(1, str(value).encode())


def _sized(data: bytes, fix: int, most: int, *codes: bytes) -> bytes:
    if len(data) <= most:
        return bytes([fix | len(data)]) + data
    for code, form, limit in zip(codes, (">B", ">H", ">I"), (2**8, 2**16, 2**32)):
        if len(data) < limit:
            return code + struct.pack(form, len(data)) + data
    raise ValueError("too long")


def _ext(kind: int, data: bytes) -> bytes:
    return b"\xc7" + bytes([len(data), kind]) + data


def _head(n: int, fix: int, code: bytes) -> bytes:
    return bytes([fix | n]) if n < 16 else code + struct.pack(">H", n)


def unpack(data: bytes) -> Any:
    value, at = _unpack(data, 0)
    assert at == len(data)
    return value


def _unpack(d: bytes, at: int) -> Tuple[Any, int]:
    c, at = d[at], at + 1
    if c < 0x80 or c >= 0xE0:
        return (c if c < 0x80 else c - 256), at
    if 0x90 <= c < 0xA0 or c in (0xDC, 0xDD):
        n, at = (c & 15, at) if c < 0xA0 else _number(d, at, 2 if c == 0xDC else 4)
        items = []
        for _ in range(n):
            item, at = _unpack(d, at)
            items.append(item)
        return items, at
    if 0xA0 <= c < 0xC0 or c in (0xD9, 0xDA, 0xDB):
        n, at = (c & 31, at) if c < 0xC0 else _number(d, at, 1 << (c - 0xD9))
        return d[at : at + n].decode("utf-8", "surrogatepass"), at + n
    if c in (0xC4, 0xC5, 0xC6):
        n, at = _number(d, at, 1 << (c - 0xC4))
        return d[at : at + n], at + n
    if c in (0xC0, 0xC2, 0xC3):
        return (None, None, False, True)[c - 0xC0], at
    if 0xCC <= c <= 0xCF:
        return _number(d, at, 1 << (c - 0xCC))
    raise ValueError(f"unexpected byte {c:02x}")


def _number(d: bytes, at: int, size: int) -> Tuple[int, int]:
    return int.from_bytes(d[at : at + size], "big"), at + size


def features(segment: bytes) -> Set[str]:
    """What of the format a segment uses."""
    assert segment[:12] == b"\x89PNSEG\r\n\x01\0\0\0"
    at, length, size, crc = struct.unpack_from("<QQQI", segment, len(segment) - 64)
    index = segment[at : at + length]
    assert size == len(segment) and crc == crc32c(index)
    found = set()
    for name, kind, reset, tables, *more in unpack(index)[0]:
        found |= {f"kind {kind}", f"store reset {int(reset)}"} | ({"longer arrays"} if more else set())
        for table, type_, how, n, ops, _, keys, *parts in tables:
            found |= {f"type {type_}", f"table reset {how}"}
            found |= {f"op {op & 3}" for op in segment[ops[0] : ops[0] + ops[1]]}
            found |= {f"form {op >> 2}" for op in segment[ops[0] : ops[0] + ops[1]] if op & 3 != 2}
            if type_ == 2:
                found |= {f"encoding {run[1]}" for run in parts[0]} | ({"runs"} if len(parts[0]) > 1 else set())
            try:
                segment[keys[0] : keys[0] + keys[1]].decode()
            except UnicodeDecodeError:
                found.add("surrogate keys")
    return found


# ----- A pack made by hand -----

EXTRA = ["of a later release", 7, [None]]
"""What stands behind the elements that version 1 describes."""

Entry = Tuple[int, str, Any]  # op, key, what is put


class Put:
    """A value in one of the forms; ``value`` is what it stands for."""

    def __init__(self, form: int, data: bytes, value: Any) -> None:
        self.form, self.data, self.value = form, data, value


def as_json(value: Any) -> Put:
    return Put(0, json.dumps(value).encode(), value)


def as_mpack(value: Any) -> Put:
    return Put(1, mpack(value), value)


def _rows(value: Any) -> Tuple[int, List[bytes]]:
    if isinstance(value, list):
        return 1, [json.dumps(v).encode() for v in value]
    if isinstance(value, dict):
        return 2, [f"{json.dumps(k)}: {json.dumps(v)}".encode() for k, v in value.items()]
    return 0, [json.dumps(value).encode()]


def _lens(rows: List[bytes]) -> bytes:
    return struct.pack(f"<{len(rows)}I", *map(len, rows))


def _struct_value(kind: str, data: Dict[str, Any]) -> Any:
    return {"__type__": kind, "__data__": json.dumps(data)}


def as_struct(kind: str, data: Dict[str, Any]) -> Put:
    columns = []
    for name, value in data.items():
        form, rows = _rows(value)
        columns.append([name, form, len(rows), _lens(rows), b", ".join(rows), *EXTRA])
    return Put(2, mpack([kind, columns, *EXTRA]), _struct_value(kind, data))


def as_change(kind: str, old: Dict[str, Any], new: Dict[str, Any]) -> Put:
    """A change from ``old`` to ``new``: what is equal at both ends stays."""
    columns = []
    for name, value in new.items():
        form, rows = _rows(value)
        _, base = _rows(old[name])
        pieces: List[Any] = []
        same = 0
        while same < min(len(rows), len(base)) and rows[same] == base[same]:
            same += 1
        if same:
            pieces.append([0, 0, same])
        back = 0
        while back < min(len(rows), len(base)) - same and rows[-1 - back] == base[-1 - back]:
            back += 1
        fresh = rows[same : len(rows) - back]
        if fresh:
            pieces.append([1, _lens(fresh), b", ".join(fresh)])
        if back:
            pieces.append([0, len(base) - back, back])
        columns.append([name, form, len(base), len(rows), pieces, *EXTRA])
    return Put(3, mpack([kind, columns, *EXTRA]), _struct_value(kind, new))


class Writer:
    """One segment."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x89PNSEG\r\n" + struct.pack("<I", 1) + bytes(52))
        self.stores: List[Any] = []

    def block(self, data: bytes, align: int = 1) -> List[Any]:
        self.out += bytes(-len(self.out) % align)
        at = len(self.out)
        self.out += data
        return [at, len(data), crc32c(data), *EXTRA]

    def store(self, name: str, kind: int, reset: bool, tables: List[Any]) -> None:
        self.stores.append([name, kind, reset, [self.table(*t) for t in tables], *EXTRA])

    def table(self, name: str, type_: int, reset: int, entries: List[Entry]) -> List[Any]:
        parts = {1: self.values, 2: self.vectors, 3: self.strings}[type_](entries)
        ops = bytes(op | (put.form << 2 if type_ == 1 and op != 2 else 0) for op, _, put in entries)
        keys = [utf8(key) for _, key, _ in entries]
        head = [self.block(ops), self.block(_lens(keys)), self.block(b"".join(keys))]
        return [name, type_, reset, len(entries), *head, *parts, *EXTRA]

    def values(self, entries: List[Entry]) -> List[Any]:
        data = [b"" if op == 2 else put.data for op, _, put in entries]
        at, length, *_ = self.block(b"".join(data))
        crcs = struct.pack(f"<{len(data)}I", *map(crc32c, data))
        return [self.block(_lens(data)), self.block(crcs), [at, length, *EXTRA]]

    def vectors(self, entries: List[Entry]) -> List[Any]:
        runs: List[Any] = []
        for op, _, row in entries:
            if op == 2:
                continue
            encoding = 1 if all(struct.unpack("f", struct.pack("f", v))[0] == v for v in row) else 2
            if not runs or runs[-1][:2] != [len(row), encoding]:
                runs.append([len(row), encoding, []])
            packed = struct.pack(f"<{len(row)}{'fd'[encoding - 1]}", *row)
            runs[-1][2].append(packed + bytes(-len(packed) % 64))
        return [[[dim, e, len(rows), self.block(b"".join(rows), 64), *EXTRA] for dim, e, rows in runs]]

    def strings(self, entries: List[Entry]) -> List[Any]:
        known: List[str] = []
        codes = []
        for op, _, text in entries:
            if op != 2 and text not in known:
                known.append(text)
            codes.append(0xFFFFFFFF if op == 2 else known.index(text))
        texts = [utf8(t) for t in known]
        return [self.block(struct.pack(f"<{len(codes)}I", *codes)), self.block(_lens(texts)), self.block(b"".join(texts))]

    def finish(self) -> bytes:
        index = mpack([self.stores, *EXTRA])
        at = len(self.out)
        tail = struct.pack("<QQQII", at, len(index), at + len(index) + 64, crc32c(index), 1) + bytes(28)
        return bytes(self.out) + index + tail + struct.pack("<I", crc32c(tail))


def apply(state: Dict[str, Tuple[int, Dict[str, Any]]], segment: List[Any]) -> None:
    """What a segment means, with the meaning of dicts."""
    for name, kind, reset, tables in segment:
        if reset or name not in state:
            state[name] = (kind, {})
        held = state[name][1]
        for table, _, how, entries in tables:
            if how in (2, 3):
                held.pop(table, None)
            if how == 2:
                continue
            rows = held.setdefault(table, {})
            if how == 1:
                rows.clear()
            for op, key, put in entries:
                if op in (1, 2):
                    rows.pop(key, None)
                if op != 2:
                    rows[key] = put.value if isinstance(put, Put) else put


def text_of(kind: int, tables: Dict[str, Any]) -> bytes:
    return tables[""][""].encode() if kind == 3 else json.dumps(tables).encode()


def manifest(store_id: bytes, keep: int, segments: List[Any], generations: List[Any]) -> bytes:
    payload = mpack([store_id, keep, segments, generations, *EXTRA])
    head = b"\x89PNMAN\r\n" + struct.pack("<IIQI", 1, crc32c(payload), len(payload), 0)
    return head + struct.pack("<I", crc32c(head)) + payload


def node_value(key: str, text: str, **metadata: Any) -> Dict[str, Any]:
    return {
        "__data__": {"id_": key, "embedding": None, "metadata": metadata, "relationships": {}, "text": text, "start_char_idx": None},
        "__type__": "1",
    }


def by_hand_segments() -> List[List[Any]]:
    odd = {
        "nil": None, "yes": True, "no": False, "ints": [0, 127, 128, 255, 256, 65535, 65536, 2**32, 2**63, 2**64 - 1],
        "minus": [-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)], "beyond": [2**64, -(10**30)],
        "floats": [0.0, -0.0, 0.1, 1e300, 5e-324], "text": "ä\n\"\\\u2028\U0001f600", "wide": Wide("\ud83d and \udc00"),
        "": {"empty": {}, "list": []}, "long": "x" * 40 + "ß" * 150, "many": list(range(20)),
    }  # fmt: skip
    first = {"index_id": "i", "summary": None, "nodes_dict": {f"k{n}": f"v{n}" for n in range(6)}, "doc_id_dict": {}}
    later = {**first, "summary": "Übersicht", "nodes_dict": {"k0": "v0", "k1": "changed", "k4": "v4", "k5": "v5", "neu": "é"}}
    last = {**later, "nodes_dict": {**later["nodes_dict"], "k6": "\ud800"}, "doc_id_dict": {"d": ["k0"]}}
    graph = '{"graph_dict": {"a": [["likes", "b"]]}}'
    return [
        [
            ("docstore.json", 1, True, [
                ("docstore/data", 1, 0, [
                    (0, "m1", as_mpack(node_value("m1", "one", odd=odd))),
                    (0, "j1", as_json(node_value("j1", "zwei ä", n=1))),
                    (0, "\ud800 alone", as_mpack(node_value("s", "three"))),
                    (0, "m2", as_mpack(node_value("m2", "four"))),
                    (0, "", as_json(node_value("", "the empty key"))),
                ]),
                ("docstore/metadata", 1, 0, [(0, "m1", as_mpack({"doc_hash": "h1"})), (0, "鍵\U0001f511", as_json({"doc_hash": "h2"}))]),
                ("other", 1, 0, [(0, "gone", as_mpack({"a": 1}))]),
            ]),
            ("index_store.json", 1, True, [("index_store/data", 1, 0, [
                (0, "i", as_struct("vector_store", first)),
                (0, "list", as_struct("list", {"index_id": "list", "summary": "s", "nodes": ["a", "b", "c"]})),
                (0, "odd", as_mpack({"__type__": "list", "__data__": '{"index_id": "odd", "summary": null, "nodes": []}'})),
            ])]),
            ("graph_store.json", 3, True, [("", 1, 0, [(0, "", Put(1, mpack(graph), graph))])]),
            ("default__vector_store.json", 2, True, [
                ("embedding_dict", 2, 0, [(0, "m1", [1.0, -2.5]), (0, "j1", [0.5, 0.25]), (0, "m2", [0.1, 0.2]), (0, "\ud800", [3.0] * 17)]),
                ("text_id_to_ref_doc_id", 3, 0, [(0, "m1", "d\U0001f600"), (0, "j1", "d\U0001f600"), (0, "m2", "\udfff")]),
                ("metadata_dict", 1, 0, [(0, "m1", as_mpack({"n": 1.5, "tag": "é"})), (0, "j1", as_json({"n": 2}))]),
            ]),
        ],
        [
            ("docstore.json", 1, False, [
                ("docstore/data", 1, 0, [
                    (2, "j1", None),
                    (0, "m1", as_json(node_value("m1", "one, again"))),
                    (1, "m2", as_mpack(node_value("m2", "four, at the end"))),
                    (2, "never there", None),
                ]),
                ("other", 1, 2, []),
                ("docstore/metadata", 1, 3, [(0, "m2", as_json({"doc_hash": "h3"}))]),
            ]),
            ("index_store.json", 1, False, [("index_store/data", 1, 0, [(0, "i", as_change("vector_store", first, later))])]),
            ("default__vector_store.json", 2, False, [
                ("embedding_dict", 2, 0, [(1, "j1", [7.0, 8.0]), (2, "m2", None), (0, "m1", [0.3, 0.4, 0.5])]),
                ("text_id_to_ref_doc_id", 3, 1, [(0, "j1", "other"), (0, "m1", "other")]),
            ]),
            ("image__vector_store.json", 2, True, [("embedding_dict", 2, 0, []), ("text_id_to_ref_doc_id", 3, 0, []), ("metadata_dict", 1, 0, [])]),
        ],
        [
            ("docstore.json", 1, False, [
                ("docstore/data", 1, 0, [(0, "j1", as_mpack(node_value("j1", "back")))]),
                ("docstore/ref_doc_info", 1, 0, [(0, "d", as_mpack({"node_ids": ["m1", "j1"], "metadata": {"a": [1, {"b": None}]}}))]),
            ]),
            ("index_store.json", 1, False, [("index_store/data", 1, 0, [(0, "i", as_change("vector_store", later, last)), (2, "odd", None)])]),
            ("graph_store.json", 3, False, [("", 1, 0, [(0, "", Put(1, mpack('{"graph_dict": {}}'), '{"graph_dict": {}}'))])]),
        ],
    ]  # fmt: skip


def make_by_hand(case: Path) -> None:
    folder = case / "pack"
    folder.mkdir(parents=True)
    state: Dict[str, Tuple[int, Dict[str, Any]]] = {}
    listed, generations = [], []
    changed: Dict[str, int] = {}
    for i, content in enumerate(by_hand_segments()):
        number = (1, 2, 5)[i]
        w = Writer()
        for store in content:
            w.store(*store)
            changed[store[0]] = number
        data = w.finish()
        name = f"seg-{number:016x}-{0x1234567890ABCDEF + i:016x}.pn"
        (folder / name).write_bytes(data)
        listed.append([name, len(data), int.from_bytes(data[-4:], "little"), *EXTRA])
        apply(state, content)
        stores = [[s, kind, changed[s], *EXTRA] for s, (kind, _) in state.items()]
        foreign = [["redis__vector_store.json", "somewhere.RedisLike", *EXTRA]]
        outdated = [["docstore.json", 123, 1_600_000_000_000_000_000, 0xDEADBEEF, *EXTRA]]
        generations.append([number, 1_700_000_000_000_000_000 + i, list(range(i + 1)), stores, foreign, outdated, *EXTRA])
        target = case / "json" / str(number)
        target.mkdir(parents=True)
        for s, (kind, tables) in state.items():
            (target / s).write_bytes(text_of(kind, tables))
    (folder / "MANIFEST").write_bytes(manifest(bytes(range(16)), 1000, listed, generations))


# ----- Packs that pannier writes -----


def context() -> Any:
    from pannier import SimplePropertyGraphStore, StorageContext

    return StorageContext.from_defaults(property_graph_store=SimplePropertyGraphStore())


def node(i: int, key: str, dim: int = 4, exact: bool = True, text: str = "") -> Any:
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

    row = [(i * 7 + k) / (8 if exact else 10) for k in range(dim)]
    made = TextNode(id_=key, text=text or f"text of {key}", embedding=row, metadata={"n": i, "tag": "äb"[i % 2], "l": [1.5, None]})
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc-{i // 2}")
    return made


def add(ctx: Any, nodes: List[Any], namespace: str = "default") -> None:
    from pannier import SimpleVectorStore

    ctx.docstore.add_documents([n.model_copy(update={"embedding": None}) for n in nodes])
    ctx.vector_stores.setdefault(namespace, SimpleVectorStore())
    ctx.vector_stores[namespace].add(nodes)


def saved(case: Path, ctx: Any, **kwargs: Any) -> None:
    """Persists, and notes what the generation's JSON files are, as LlamaIndex has them too."""
    ctx.persist(str(case / "pack"), format="pack", **kwargs)
    target = case / "json" / str(ctx.generation)
    shutil.rmtree(target, ignore_errors=True)
    ctx.persist(str(target), format="json")


def make_written(case: Path) -> None:
    from llama_index.core.data_structs.data_structs import IndexDict, IndexGraph, IndexList, KeywordTable
    from llama_index.core.graph_stores.types import EntityNode, Relation
    from pannier import SimpleVectorStore

    class Elsewhere(SimpleVectorStore):
        """A store that is not pannier's: persisting it writes nothing here."""

        def persist(self, persist_path: str, fs: Any = None) -> None:
            pass

    ctx = context()
    keys = ["a", "ключ", "鍵", "\U0001f511", "é", "e\u0301", "", "b c", 'q"\\/', "n\n\x01\x7f"]
    add(ctx, [node(i, k or "x", exact=i % 3 != 0) for i, k in enumerate(keys)])
    add(ctx, [node(20 + i, f"pic-{i}", dim=3 + i % 2) for i in range(4)], "bild é")
    ctx.docstore._kvstore.put("\ud800", {"__data__": {"wide": "\udfff\ud800"}, "__type__": "1"}, collection="docstore/data")
    index = IndexDict(index_id="dict", nodes_dict={f"v{i}": f"n{i}" for i in range(40)})
    table = KeywordTable(index_id="words", table={"wort": {"n1"}, "été": {"n2"}})
    tree = IndexGraph(index_id="tree", all_nodes={0: "n0", 1: "n1"}, root_nodes={0: "n0"}, node_id_to_children_ids={"n0": ["n1"]})
    for s in (index, table, tree, IndexList(index_id="list", nodes=["n1", "n2"])):
        ctx.index_store.add_index_struct(s)
    ctx.graph_store.upsert_triplet("a", "mag", "ü")
    ctx.property_graph_store.upsert_nodes([EntityNode(name="x", label="é", properties={"p": [1]}), EntityNode(name="y")])
    ctx.property_graph_store.upsert_relations([Relation(label="r", source_id="x", target_id="y")])
    saved(case, ctx, keep=9)

    for key in ("v3", "v7"):
        del index.nodes_dict[key]
    index.nodes_dict["v9"], index.nodes_dict["neu"] = "other", "n40"
    ctx.index_store.add_index_struct(index)
    ctx.docstore.delete_document("a")
    ctx.vector_stores["default"].delete_nodes(["鍵"])
    add(ctx, [node(30, "later"), node(31, "e\u0301", exact=False)])
    ctx.vector_stores["redis"] = Elsewhere()
    saved(case, ctx)

    add(ctx, [node(32, "a", text="back again")])  # at the end now
    ctx.docstore.delete_document("later")
    add(ctx, [node(33, "later", text="gone and back within one generation")])
    ctx.docstore._kvstore.get_all(collection="docstore/data")["é"]["__data__"]["metadata"]["edited"] = {"deep": [1, 2]}
    ctx.index_store.delete_index_struct("list")
    saved(case, ctx)

    ctx.graph_store.upsert_triplet("a", "mag", "ß")
    index.summary = "Zusammenfassung"
    index.nodes_dict.pop("v0")
    ctx.index_store.add_index_struct(index)
    ctx.vector_stores["bild é"].delete("doc-10")
    saved(case, ctx)

    ctx.docstore.delete_ref_doc("doc-1", raise_error=False)
    ctx.docstore.set_document_hash("é", "a hash")
    saved(case, ctx)


def make_merged(case: Path) -> None:
    ctx = context()
    add(ctx, [node(i, f"n{i}", exact=i % 5 != 0) for i in range(30)])
    saved(case, ctx, keep=2)
    for turn in range(24):
        add(ctx, [node(100 + turn, f"m{turn % 10}", exact=turn % 2 == 0)])
        ctx.docstore.delete_document(f"n{turn}")
        ctx.vector_stores["default"].delete_nodes([f"n{turn + 1}"])
        saved(case, ctx)
    for old in (case / "json").iterdir():
        if int(old.name) < ctx.generation - 1:
            shutil.rmtree(old)


def make_converted(case: Path) -> None:
    from pannier import StorageContext, _files

    ctx = context()
    add(ctx, [node(i, f"n{i}") for i in range(3)])
    ctx.persist(str(case / "pack"), format="json")
    again = StorageContext.open(str(case / "pack"))
    remove, _files.remove = _files.remove, lambda *args: None  # killed before the old files go
    try:
        saved(case, again)
        add(again, [node(9, "n9")])
        saved(case, again)
    finally:
        _files.remove = remove


WANTED = {
    "written": ["kind 1", "kind 2", "kind 3", "op 0", "op 1", "op 2", "form 0", "form 1", "form 2", "form 3", "encoding 1",
                "encoding 2", "runs", "surrogate keys"],
    "merged": ["kind 1", "kind 2"],
    "converted": ["kind 1"],
    "by_hand": ["longer arrays", "table reset 0", "table reset 1", "table reset 2", "table reset 3", "form 1", "form 3"],
}  # fmt: skip


def check_like_peer(folder: Path) -> None:
    """LlamaIndex itself reads the files and writes the same ones."""
    from llama_index.core.storage.storage_context import StorageContext as PeerContext

    with tempfile.TemporaryDirectory() as other:
        PeerContext.from_defaults(persist_dir=str(folder)).persist(other)
        for path in Path(other).iterdir():
            assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def main() -> None:
    root = Path(sys.argv[1])
    if root.exists():
        sys.exit(f"{root} is there: golden files are never made again")
    make = {"written": make_written, "merged": make_merged, "converted": make_converted, "by_hand": make_by_hand}
    for name, function in make.items():
        function(root / name)
        found: Set[str] = set()
        for path in (root / name / "pack").glob("seg-*"):
            found |= features(path.read_bytes())
        missing = set(WANTED[name]) - found
        assert not missing, (name, missing)
        for folder in (root / name / "json").iterdir():
            check_like_peer(folder)
    lines = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n")
    (root / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    size = sum(os.path.getsize(p) for p in root.rglob("*") if p.is_file())
    print(f"{len(lines)} files, {size:,} bytes")


if __name__ == "__main__":
    main()
