"""The benchmark runs, compares equals, and writes its tables where they belong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture()
def bench():
    spec = importlib.util.spec_from_file_location("pannier_bench", BENCH / "bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_run_gives_every_row(bench, tmp_path):
    command = [sys.executable, str(BENCH / "bench.py"), "--n", "40", "--dim", "8", "--rounds", "1", "--no-report"]
    done = subprocess.run([*command, "--work", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for _, title, _, _ in bench.ROWS:
        (line,) = [x for x in done.stdout.splitlines() if x.startswith(f"| {title} |")]
        assert line.split("|")[2].strip() and line.split("|")[3].strip()
    assert sorted(os.listdir(tmp_path / "peer")) == sorted(os.listdir(tmp_path / "pannier"))


def test_a_difference_stops_the_benchmark(bench, tmp_path):
    same = {"answers": [["a"]], "docstore": "pannier.docstore"}
    for side in ("peer", "pannier"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "docstore.json").write_text("{}")
    bench.check_same([{"peer": same, "pannier": same}], str(tmp_path))
    with pytest.raises(SystemExit, match="different answers"):
        bench.check_same([{"peer": {**same, "answers": [["b"]]}, "pannier": same}], str(tmp_path))
    with pytest.raises(SystemExit, match="does not use pannier"):
        bench.check_same([{"peer": same, "pannier": {**same, "docstore": "llama_index"}}], str(tmp_path))
    (tmp_path / "pannier" / "docstore.json").write_text("[]")
    with pytest.raises(SystemExit, match="different files"):
        bench.check_same([{"peer": same, "pannier": same}], str(tmp_path))


def test_ratio_is_the_median_of_paired_ratios(bench):
    def result(peer, ours):
        sides = {"peer": peer, "pannier": ours}
        return {side: {row[0]: value for row in bench.ROWS} for side, value in sides.items()} | {"limit": {}}

    summary = bench.summarize([result(10.0, 1.0), result(40.0, 2.0), result(900.0, 100.0)])
    assert summary["load"] == {"peer": 40.0, "pannier": 2.0, "limit": None, "times": 10.0}


def test_report_goes_between_the_markers(bench, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("head\n<!-- bench:begin -->\nold\n<!-- bench:end -->\ntail\n")
    bench.replace_block(str(page), ["new"])
    bench.replace_block(str(page), ["newer"])
    assert page.read_text() == "head\n<!-- bench:begin -->\nnewer\n<!-- bench:end -->\ntail\n"
    page.write_text("nothing")
    with pytest.raises(SystemExit):
        bench.replace_block(str(page), ["new"])


@pytest.mark.parametrize(
    "value, text", [(1.5, "1.5 s"), (0.0123, "12.3 ms"), (4.2e-6, "4.2 µs"), (3e-8, "30 ns"), (123.4, "123 s")]
)
def test_seconds_are_readable(bench, value, text):
    assert bench.seconds(value) == text
