"""From a store's contents to the bytes of its file, and errors that say where.

``json.dumps`` says what it cannot hold ("Object of type datetime is not JSON
serializable") but not where that value is. :func:`explain` finds the place.
"""

from __future__ import annotations

import json
from typing import Any, Optional, Tuple

from pannier.errors import CorruptStoreError, UnserializableError

_HINT = "Nothing was written. Convert the value (for example with str() or .isoformat()) or remove it, then persist again."


def find_unserializable(value: Any, path: str = "") -> Optional[Tuple[str, Any]]:
    """The key path and value of the first part of ``value`` that JSON cannot hold.

    Args:
        value: any object.
        path: what the key path starts with.

    Returns:
        ``(key path, culprit)``, or None if ``json.dumps`` accepts ``value``.
    """
    seen = set()

    def look(v: Any, where: str) -> Optional[Tuple[str, Any]]:
        if isinstance(v, (dict, list, tuple)):
            if id(v) in seen:
                return where, v
            seen.add(id(v))
            try:
                if isinstance(v, dict):
                    for k, item in v.items():
                        if not isinstance(k, (str, int, float, bool, type(None))):
                            return f"{where} (key {k!r})", k
                        found = look(item, _join(where, k))
                        if found:
                            return found
                else:
                    for i, item in enumerate(v):
                        found = look(item, f"{where}[{i}]")
                        if found:
                            return found
            finally:
                seen.discard(id(v))
            return None
        try:
            json.dumps(v)
        except Exception:
            return where, v
        return None

    try:
        return look(value, path)
    except RecursionError:
        return f"{path} (nested too deeply)", value


def _join(path: str, key: Any) -> str:
    if isinstance(key, str) and key.isidentifier():
        return f"{path}.{key}" if path else key
    return f"{path}[{key!r}]"


def explain(error: BaseException, store: str, path: str, value: Any) -> BaseException:
    """The exception to raise instead of ``error``, which encoding ``value`` raised.

    Args:
        error: what ``json.dumps`` or the core raised.
        store: name for the message, e.g. ``"docstore"``.
        path: where ``value`` stands in that store.
        value: what was being encoded.

    Returns:
        An :class:`UnserializableError` for a TypeError; for anything else the same
        exception (its class is the peer's to choose, e.g. ValueError for a circle).
    """
    if not isinstance(error, TypeError) or isinstance(error, UnserializableError):
        return error
    where, culprit = find_unserializable(value, path) or (path, value)
    return UnserializableError(f"{error}, at {where} of the {store}. {_HINT}", store=store, key_path=where, value=culprit)


def corrupt(data: Any, path: str, hint: str = "") -> Any:
    """What ``json.load`` makes of a file's bytes: the value, or an exception that names the file.

    For text that the core's reader refused: json itself decides, so what it accepts
    (UTF-16, integers of any length, ...) loads, and what it refuses gets its message.

    Args:
        data: bytes-like, the file's contents.
        path: the file, for the message.
        hint: what to do, appended to the message.

    Raises:
        CorruptStoreError: (a JSONDecodeError) as ``json.loads`` raises, with the path.
        UnicodeDecodeError: as ``json.loads`` raises; its reason gets the path.
        RecursionError: nested too deeply.
    """
    raw = bytes(data)
    try:
        return json.loads(raw)
    except json.JSONDecodeError as e:
        # the document may be huge: keep only what the error is about
        offset = len(e.doc[: e.pos].encode("utf-8", "surrogatepass"))
        error = CorruptStoreError(e.msg, e.doc, e.pos, path=path, offset=offset, hint=hint or _what_it_is(raw))
        raise error from None
    except UnicodeDecodeError as e:
        reason = f"{e.reason} (in {path}: {_what_it_is(raw) or 'not a JSON file'})"
        raise UnicodeDecodeError(e.encoding, e.object, e.start, e.end, reason) from None


def _what_it_is(raw: bytes) -> str:
    if not raw:
        return "The file is empty: an earlier save was interrupted. Restore it from a backup or build the index anew."
    if raw[:4] in (b"IxFI", b"IxF2", b"IxFl", b"IHNs", b"IwFl", b"IxMp"):
        return "This is a Faiss index: load it with FaissVectorStore and pass that as vector_store."
    if raw[:1] not in b"{[ \t\r\n\xef\xff\xfe":
        return "This does not look like a file that LlamaIndex or pannier wrote."
    return ""
