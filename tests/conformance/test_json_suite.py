"""JSONTestSuite and the hard numbers of parse-number-fxx through pannier's JSON reader.

The oracle is Python's own ``json`` on the same bytes, at test time; the list of outcomes
that lies beside the data is what it said once, and is compared too.

The data is not part of the project: ``PANNIER_DATA`` names its folder, by default
``../shared/data`` beside the project's root.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "python"))

from oracle import Raised, assert_same, difference, dumps, impl, load, outcome, peer, persisted  # noqa: E402

DATA = Path(os.environ.get("PANNIER_DATA") or HERE.parents[2].parent / "shared" / "data")
SUITE = DATA / "JSONTestSuite"
FILES = sorted(SUITE.glob("test_*/*.json")) if SUITE.is_dir() else []

#: Comparing its values by hand would recurse deeper than Python lets us.
TOO_DEEP = "i_structure_500_nested_arrays.json"

needs_data = pytest.mark.skipif(
    not FILES, reason=f"JSONTestSuite is not at {SUITE}: set PANNIER_DATA to the folder that holds it"
)


def name_of(path):
    return f"{path.parent.name}/{path.name}"


def test_the_data_is_all_there_or_not_at_all():
    if not DATA.is_dir():
        pytest.skip(f"no conformance data at {DATA}: set PANNIER_DATA")
    assert len([f for f in FILES if f.parent.name == "test_parsing"]) == 318
    assert len([f for f in FILES if f.parent.name == "test_transform"]) == 22


def same_kind(expected, got):
    """The peer's exception, or pannier's own that is one of the same kind."""
    assert isinstance(expected, Raised) == isinstance(got, Raised), f"json: {expected!r}, ours: {got!r}"
    if isinstance(expected, Raised):
        assert isinstance(got.exc, type(expected.exc)), f"json: {expected!r}, ours: {got!r}"


@needs_data
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_as_a_store(path):
    """The file itself, loaded as a store: refused exactly where ``json.load`` refuses it."""
    data = path.read_bytes()
    expected = outcome(json.loads, data)
    if isinstance(expected, Raised) or isinstance(expected, dict):
        same_kind(expected, outcome(load, impl.SimpleKVStore, data))
    a, b = outcome(load, peer.SimpleKVStore, data), outcome(load, impl.SimpleKVStore, data)
    same_kind(a, b)
    if isinstance(a, Raised):
        return
    if path.name != TOO_DEEP:
        assert_same(outcome(lambda: a.to_dict()), outcome(lambda: b.to_dict()))
    same_kind(outcome(persisted, a), outcome(persisted, b))


@needs_data
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_as_a_value(path):
    """Its text as a value of a store: accepted or not, equal to Python's value, and
    written again as ``json.dumps`` writes that."""
    data = b'{"data": {"k": ' + path.read_bytes() + b', "after": {"x": 1}}}'
    expected = outcome(json.loads, data)
    got = outcome(load, impl.SimpleKVStore, data)
    same_kind(expected, got)
    if isinstance(expected, Raised):
        return
    assert persisted(got) == dumps(expected)
    everything = outcome(lambda: got.get_all())
    assert not isinstance(everything, Raised), everything
    if path.name != TOO_DEEP:
        assert difference(expected["data"], everything) is None
    assert persisted(got) == dumps(expected)
    assert persisted(load(impl.SimpleKVStore, persisted(got))) == dumps(expected)


@needs_data
def test_outcomes_are_the_recorded_ones():
    recorded = json.loads((DATA / "JSONTestSuite_python_outcomes.json").read_text(encoding="utf-8"))["cases"]
    assert set(recorded) == {name_of(f) for f in FILES}
    for path in FILES:
        case = recorded[name_of(path)]
        text = b'{"data": {"k": ' + path.read_bytes() + b"}}"
        got = outcome(load, impl.SimpleKVStore, text)
        if "ok" in case and not path.read_bytes().startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\x00")):
            if isinstance(outcome(json.loads, text), Raised):
                continue  # its encoding was detected from its first bytes, which are ours now
            assert not isinstance(got, Raised), name_of(path)
            if path.name != TOO_DEEP:  # recorded in short
                assert persisted(got) == b'{"data": {"k": ' + case["dumps"].encode() + b"}}", name_of(path)


@needs_data
def test_bottomless_nesting_is_an_error_and_no_crash():
    for opening in (b"[", b'{"a":', b'[{"a":'):
        text = b'{"data": {"k": ' + opening * 100_000
        got = outcome(load, impl.SimpleKVStore, text)
        assert isinstance(got, Raised)
        assert isinstance(got.exc, (RecursionError, json.JSONDecodeError))


NUMBERS = sorted(
    path for path in (DATA / "parse-number-fxx").glob("*.txt") if path.name not in ("ABSENT.txt", "SOURCE.txt")
)


@pytest.mark.skipif(not NUMBERS, reason=f"parse-number-fxx is not at {DATA}: set PANNIER_DATA")
@pytest.mark.parametrize("path", NUMBERS, ids=lambda p: p.name)
def test_hard_numbers(path):
    """Each line: the bits of the float16, float32 and float64, and the decimal text."""
    cases = []
    for line in path.read_text().splitlines():
        _, _, bits, text = line.split()
        if text[0] in "-0123456789" and json_number(text):
            cases.append((bits, text))
    for start in range(0, len(cases), 5000):
        some = cases[start : start + 5000]
        data = ('{"data": {"k": {"v": [' + ", ".join(text for _, text in some) + "]}}}").encode()
        store = load(impl.SimpleKVStore, data)
        assert persisted(store) == dumps(json.loads(data))
        for value, (bits, text) in zip(store.get("k")["v"], some):
            if isinstance(value, float):
                assert struct.pack(">d", value).hex().upper() == bits, text
        assert persisted(store) == dumps(json.loads(data))


def json_number(text):
    try:
        return isinstance(json.loads(text), (int, float))
    except ValueError:
        return False
