"""Some kills of each kind in every test run; 300 and more by hand, see kill9.py."""

from __future__ import annotations

import importlib.util
import os

import pytest

PATH = os.path.join(os.path.dirname(__file__), os.pardir, "crash", "kill9.py")
SPEC = importlib.util.spec_from_file_location("kill9", PATH)
assert SPEC is not None and SPEC.loader is not None
kill9 = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(kill9)


@pytest.mark.parametrize("options", [[], ["--in-place"]], ids=["renamed", "in-place"])
@pytest.mark.parametrize("worker", sorted(kill9.WORKERS))
def test_killed_persists_leave_one_whole_generation(worker: str, options: list[str]) -> None:
    rounds = 40 if worker == "files" else 4  # a child that imports LlamaIndex takes seconds to start
    outcome = kill9.run(kill9.parse(["--rounds", str(rounds), "--worker", worker, *options]))
    assert outcome.failures == []
    assert outcome.persists >= rounds


def test_a_torn_or_mixed_or_old_directory_would_be_noticed(tmp_path) -> None:
    worker = kill9.WORKERS["files"]
    worker.persist(str(tmp_path), 5)
    assert kill9.check(worker, str(tmp_path), 5) == (5, "")
    assert "had returned" in kill9.check(worker, str(tmp_path), 6)[1]
    (tmp_path / "store2.json").write_bytes(kill9.contents_of(6, 2))
    assert "side by side" in kill9.check(worker, str(tmp_path), 5)[1]
    (tmp_path / "store2.json").write_bytes(kill9.contents_of(5, 2)[:-3])
    assert "torn" in kill9.check(worker, str(tmp_path), 5)[1]
