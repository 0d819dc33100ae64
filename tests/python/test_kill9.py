"""Some kills of each kind in every test run; 300 and more by hand, see kill9.py."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest



def _script(name: str) -> Any:
    path = os.path.join(os.path.dirname(__file__), os.pardir, "crash", f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kill9 = _script("kill9")
readers = _script("readers")
powercut = _script("powercut")


WAYS = [(worker, options) for worker in sorted(kill9.WORKERS) for options in ([], ["--in-place"])]
WAYS.remove(("pack", ["--in-place"]))


@pytest.mark.parametrize("worker,options", WAYS, ids=[" ".join([worker, *options]) for worker, options in WAYS])
def test_killed_persists_leave_one_whole_generation(worker: str, options: list[str]) -> None:
    rounds = 40 if worker == "files" else 4  # a child that imports LlamaIndex takes seconds to start
    outcome = kill9.run(kill9.parse(["--rounds", str(rounds), "--worker", worker, *options]))
    assert outcome.failures == []
    assert outcome.persists >= rounds


def test_readers_of_a_pack_see_whole_generations_while_it_is_written() -> None:
    outcome = readers.run(readers.parse(["--seconds", "2", "--readers", "4"]))
    assert outcome.failures == []
    assert outcome.opens >= 16 and outcome.persists > 1


@pytest.mark.parametrize("worker", ["pack", "context"])
def test_power_cuts_leave_one_whole_generation_and_lose_none_that_was_reported(worker: str) -> None:
    if os.environ.get("PANNIER_TEST_POWER") != "1":
        pytest.skip("cuts the power of loop devices: PANNIER_TEST_POWER=1, as root")
    why = powercut.missing()
    if why:
        pytest.skip(why)
    outcome = powercut.run(powercut.parse(["--rounds", "4", "--worker", worker]))
    assert outcome.failures == []
    assert outcome.persists >= 4


def test_a_torn_or_mixed_or_old_directory_would_be_noticed(tmp_path) -> None:
    worker = kill9.WORKERS["files"]
    worker.persist(str(tmp_path), 5)
    assert kill9.check(worker, str(tmp_path), 5) == (5, "")
    assert "had returned" in kill9.check(worker, str(tmp_path), 6)[1]
    (tmp_path / "store2.json").write_bytes(kill9.contents_of(6, 2))
    assert "side by side" in kill9.check(worker, str(tmp_path), 5)[1]
    (tmp_path / "store2.json").write_bytes(kill9.contents_of(5, 2)[:-3])
    assert "torn" in kill9.check(worker, str(tmp_path), 5)[1]
