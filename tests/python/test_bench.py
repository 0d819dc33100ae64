"""The benchmark runs, compares equals, counts right, and writes its tables where they belong."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCH))
try:
    import alternatives
    import bench
    import growing
    import harness
    import plan
    import report
    import results
    import targets
    import turns
finally:
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The report and the figures of a run at tiny sizes."""
    out = tmp_path_factory.mktemp("bench")
    command = [sys.executable, str(BENCH / "bench.py"), "--quick", "--out", str(out), "--work", str(out / "work")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return (out / "performance.md").read_text("utf-8"), json.loads((out / "performance.json").read_text("utf-8"))


def test_a_quick_run_has_every_row(quick):
    page, data = quick
    missing = [name for name in results.ROWS if name not in data["summary"] and name not in data["skipped"]]
    assert missing == []
    for name, sizes in data["summary"].items():
        title = results.ROWS[name].title
        assert f"| {title}" in page, title
        for entry in sizes.values():
            assert entry["pannier"]["median"] >= 0 or results.ROWS[name].unit == "MB"


def test_a_quick_run_has_both_sides_and_every_size(quick):
    _, data = quick
    for name in ("kv_get", "docstore_add", "query", "struct_get", "graph_get", "property_get_ids", "persist"):
        assert set(data["summary"][name]) == {"1", "10", "30"}
        for entry in data["summary"][name].values():
            assert entry["peer"]["median"] > 0 and entry["times"] > 0
    assert set(data["summary"]["grow_hub"]) == {"10", "20"}
    assert data["summary"]["memory"]["30"]["peer"]["samples"] == 1


def test_a_quick_run_has_every_section(quick):
    page, data = quick
    for title in ("What the machine can do", "Targets", "Rows where the peer is faster", "Growth", "30 nodes"):
        assert f"### {title}" in page
    assert {f["name"] for f in data["limits"]} >= {"read_one", "read_all", "copy", "dots", "write", "fsync", "dict"}
    assert page.count(report.BEGIN) == page.count(report.END) == 1


def test_other_libraries_are_measured_or_skipped_with_a_word(quick):
    page, data = quick
    found = data["alternatives"]["results"]
    assert set(found) == set(alternatives.load_all())
    for facts in found.values():
        assert facts.get("skipped") or facts["times"]
        assert facts["name"] in page
    for key in ("kv:sqlite3", "kv:pannier", "kv:LlamaIndex", "vectors:pannier", "vectors:numpy"):
        assert "times" in found[key]
    assert found["vectors:pannier"]["recall"] == 1.0


def test_every_target_is_a_row():
    assert {name for name, _, _ in targets.TARGETS} | set(targets.CEILINGS) <= set(results.ROWS)
    assert {row.against for row in results.ROWS.values()} - {""} <= set(results.ROWS)
    assert set(report.README_ROWS) <= set(results.ROWS)


# ------------------------------------------------------------ the figures


def job(number=0, n=10):
    return plan.Job(["kv"], ["peer", "pannier"], n, 8, "", 0.1, False, number)


def outcome(peer, ours, name="load", answers=("a", "a")):
    """What a worker prints: samples are [seconds, of which fsync]."""
    return {
        "samples": {"peer": {name: [[v, 0.0] for v in peer]}, "pannier": {name: ours}},
        "answers": {"peer": {name: answers[0]}, "pannier": {name: answers[1]}},
        "bounded": {},
        "skipped": {},
    }


def test_ratio_is_the_median_of_the_rounds_ratios():
    found = results.Results()
    for number, (peer, ours) in enumerate([(10.0, 1.0), (40.0, 2.0), (900.0, 100.0)]):
        found.add(job(number), outcome([peer], [[ours, 0.0]]))
    entry = found.summary()["load"]["10"]
    assert (entry["times"], entry["peer"]["median"], entry["pannier"]["median"]) == (10.0, 40.0, 2.0)
    assert (entry["peer"]["low"], entry["peer"]["high"], entry["peer"]["samples"]) == (10.0, 900.0, 3)


def test_fsync_is_shown_apart_and_decides_which_list_a_row_is_in():
    found = results.Results()
    found.add(job(), outcome([3.0], [[4.0, 2.0]], "persist"))
    found.add(job(), outcome([1.0], [[4.0, 2.0]], "kv_persist"))
    found.add(job(), outcome([5.0], [[4.0, 2.0]], "vector_persist"))
    summary = found.summary()
    assert summary["persist"]["10"]["times"] == 0.75
    assert summary["persist"]["10"]["times_without_fsync"] == 1.5
    assert [e[0] for e in results.slower(summary)] == ["kv_persist"]
    assert [e[0] for e in results.slower_by_fsync(summary)] == ["persist"]
    page = "\n".join(report.slower_section(summary))
    assert "| KV persist | 0.25 (0.50): 1 s / 4 s |" in page
    assert "| persist a context, JSON | 0.75 (1.50): 3 s / 4 s |" in page


def test_no_slower_row_says_none():
    found = results.Results()
    found.add(job(), outcome([2.0], [[1.0, 0.0]]))
    assert "None (" in "\n".join(report.slower_section(found.summary()))


def test_a_row_against_another_takes_the_peers_figure_from_there():
    found = results.Results()
    found.add(job(), outcome([8.0], [[4.0, 0.0]], "persist"))
    found.add(job(), {**outcome([], []), "samples": {"pannier": {"pack_persist": [[0.5, 0.0]]}}, "answers": {}})
    assert found.summary()["pack_persist"]["10"]["times"] == 16.0


def test_a_row_against_another_must_have_its_answer():
    found = results.Results()
    found.add(job(), outcome([1.0], [[1.0, 0.0]], "first_query"))
    with pytest.raises(SystemExit, match="different answers to pack_first_query"):
        found.compare(job(), "pannier", "pack_first_query", "b")


def test_a_different_answer_ends_the_run():
    found = results.Results()
    found.add(job(), outcome([1.0], [[1.0, 0.0]]))
    with pytest.raises(SystemExit, match="different answers to load at 10"):
        found.add(job(), outcome([1.0], [[1.0, 0.0]], answers=("a", "b")))


def test_targets_are_judged():
    found = results.Results()
    found.add(job(n=10_000), outcome([100.0], [[1.0, 0.0]], "persist"))
    found.add(job(n=10_000), outcome([100.0], [[1.0, 0.0]], "load"))
    page = "\n".join(report.targets_section({"summary": found.summary(), "limits": [], "settings": {"dim": 8}}))
    assert "| persist a context, JSON, 10,000 | 30.0 | 100 | reached |" in page
    assert "| load a context, JSON, 10,000 | 150 | 100 | **below** |" in page
    assert "Not measured in this run: persist a context, pack, 10,000" in page


# ------------------------------------------------------------ the clock


def drive(budget=0.0, **cases):
    found = harness.Outcome()
    harness.drive({side: iter(steps) for side, steps in cases.items()}, budget, found, turns.Turns())
    return found


def test_sides_take_turns_and_each_drops_its_first_run():
    calls = []
    steps = {side: [harness.Op("x", lambda s=side: calls.append(s))] for side in ("peer", "pannier")}
    found = drive(budget=60.0, **steps)
    pairs = list(zip(calls[::2], calls[1::2]))
    assert pairs == list(itertools.islice(itertools.cycle([("peer", "pannier"), ("pannier", "peer")]), len(pairs)))
    assert len(pairs) == harness.MAX_REPEATS
    assert [len(found.samples[side]["x"]) for side in steps] == [harness.MAX_REPEATS - 1] * 2


def test_fresh_state_is_made_for_each_run_and_once_is_once():
    made = []

    def fresh():
        made.append(0)
        return made

    step = harness.Op("x", lambda state: state is made, fresh, count=2, answer=bool)
    found = drive(budget=60.0, pannier=[step])
    assert len(made) == len(found.samples["pannier"]["x"]) + 1 == harness.MAX_REPEATS
    assert found.answers["pannier"]["x"].startswith("true")
    assert len(drive(pannier=[harness.Op("x", list, repeats=1)]).samples["pannier"]["x"]) == 1


def test_a_bounded_run_is_marked_and_gives_no_answer():
    bounded = harness.Bench("peer", 8000, 8, "").bounded(2000, 2)
    assert bounded == (2000, 16.0)
    assert harness.Bench("peer", 8000, 8, "", patient=True).bounded(2000, 2) == (8000, 1.0)
    assert harness.Bench("pannier", 8000, 8, "").bounded(2000, 2) == (8000, 1.0)
    found = drive(peer=[harness.Op("x", list, scale=16.0, answer=len)])
    assert found.bounded == {"peer": {"x": 16.0}} and found.answers == {}


def take_turns(monkeypatch, rows):
    """What two sides in two threads did, in order: (side, row); rows: the repetitions of each, by side."""
    monkeypatch.setattr(turns, "SPELL", 0.0)
    done, found = [], {}

    def side(name, channel, first):
        turn = turns.Turns(channel, first)
        steps = [
            harness.Op(f"row {i}", lambda i=i: done.append((name, i)), repeats=most) for i, most in enumerate(rows[name])
        ]
        found[name] = harness.Outcome()
        harness.drive({name: iter(steps)}, 60.0, found[name], turn)
        turn.leave()

    ends = zip(("peer", "pannier"), socket.socketpair(), (True, False))
    threads = [threading.Thread(target=side, args=words) for words in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(found[name].samples[name]) == len(rows[name]) for name in rows)
    return done


def test_two_processes_take_turns_row_by_row(monkeypatch):
    done = take_turns(monkeypatch, {"peer": [3, 2], "pannier": [3, 2]})
    assert [row for _, row in done] == [0] * 6 + [1] * 4
    assert [name for name, _ in done[:6]] == ["peer", "pannier"] * 3
    assert sorted(done[6:]) == [("pannier", 1)] * 2 + [("peer", 1)] * 2


def test_the_slower_side_of_a_row_ends_it_alone_and_nobody_runs_ahead(monkeypatch):
    done = take_turns(monkeypatch, {"peer": [1, 5, 1], "pannier": [4, 1, 1]})
    assert [row for _, row in done] == [0] * 5 + [1] * 6 + [2] * 2
    assert done[:5] == [("peer", 0)] + [("pannier", 0)] * 4


def test_a_side_whose_other_is_gone_goes_on_alone(monkeypatch):
    assert take_turns(monkeypatch, {"peer": [2], "pannier": [2, 2, 2]})[4:] == [("pannier", 1)] * 2 + [("pannier", 2)] * 2


def test_two_processes_find_what_one_does(monkeypatch, tmp_path):
    pair = plan.Job(["kv"], ["peer", "pannier"], 20, 8, str(tmp_path), 0.002, False)
    asked = plan.Settings([20], [], [], ["kv"], work=str(tmp_path))
    together = plan.run_job(pair, asked)
    monkeypatch.setattr(plan, "TOGETHER", 10)
    apart = plan.run_job(pair, asked)
    for side in pair.sides:
        assert set(apart["samples"][side]) == set(together["samples"][side]) == {r.name for r in harness.GROUPS["kv"].rows}
        assert apart["answers"][side] == together["answers"][side]
    pair.groups = ["nothing"]
    with pytest.raises(subprocess.CalledProcessError):
        plan.run_job(pair, asked)


def test_sides_out_of_step_are_an_error():
    with pytest.raises(RuntimeError, match="out of step"):
        drive(peer=[harness.Op("x", list)], pannier=[harness.Op("y", list)])


# ------------------------------------------------------------ arguments, plan, places


def settings(*words):
    args = bench.parse(list(words))
    sizes = bench.numbers(args.sizes)
    return plan.Settings(
        sizes, bench.numbers(args.small), bench.growth_sizes(sizes), args.groups, rounds=args.rounds, work="w"
    )


def test_large_sizes_have_fewer_rounds_and_a_process_for_each_side():
    jobs = list(plan.plan(settings("--sizes", "1000,10000,100000", "--groups", "kv", "--rounds", "3")))
    assert [j.round for j in jobs if j.n == 1000 and j.sides != ["limit"]] == [0, 1, 2]
    assert [j.sides for j in jobs if j.n == 10_000] == [["peer", "pannier"], ["limit"], ["pannier", "peer"], ["limit"]]
    assert [j.sides for j in jobs if j.n == 100_000] == [["peer", "pannier"], ["limit"]]


def test_group_small_alone_runs_every_store_at_small_sizes_only():
    jobs = list(plan.plan(settings("--groups", "small", "--small", "1,10", "--rounds", "1")))
    assert [j.n for j in jobs if "kv" in j.groups] == [1, 10]
    assert {"kv", "vectors", "documents", "structs", "graph", "property", "context", "load"} <= set(jobs[0].groups)


def test_a_million_vectors_are_searched_by_pannier_alone_and_when_asked():
    asked = settings("--sizes", "1000", "--groups", "scan,million", "--rounds", "1")
    assert {j.n for j in plan.plan(asked)} == {1000}
    asked.million = [1_000_000]
    jobs = [j for j in plan.plan(asked) if j.n == 1_000_000]
    assert [(j.groups, j.sides) for j in jobs] == [(["million"], ["pannier"]), (["million"], ["limit"])]


def test_unknown_groups_and_sizes_are_refused(capsys):
    with pytest.raises(SystemExit):
        bench.parse(["--groups", "nothing"])
    assert "no group nothing" in capsys.readouterr().err
    with pytest.raises(bench.argparse.ArgumentTypeError):
        bench.numbers("0,1")


def test_report_goes_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"head\n{report.BEGIN}\nold\n{report.END}\ntail\n")
    report.replace_block(str(page), ["new"])
    report.replace_block(str(page), ["newer"])
    assert page.read_text() == f"head\n{report.BEGIN}\nnewer\n{report.END}\ntail\n"
    page.write_text("nothing")
    with pytest.raises(SystemExit):
        report.replace_block(str(page), ["new"])


@pytest.mark.parametrize(
    "value, text",
    [(1.5, "1.5 s"), (0.0123, "12.3 ms"), (4.2e-6, "4.2 µs"), (3e-8, "30 ns"), (123.4, "123 s"), (1234.5, "1,234 s")],
)
def test_seconds_are_readable(value, text):
    assert report.seconds(value) == text


def test_growth_in_words():
    def of(times):
        return growing.word(growing.exponent(dict(zip((100, 1000, 10_000, 100_000), times))))

    assert of([9.0, 1.0, 1.1, 1.05]) == "flat"  # the smallest does not count
    assert of([1.0, 1.0, 10.0, 100.0]) == "linear"
    assert of([1.0, 1.0, 3.2, 10.0]) == "n^0.5"
    assert of([1.0, 1.0, 100.0, 10_000.0]) == "n^2.0"
    assert of([1.0, 10.0]) == "linear"
    assert of([1.0]) == ""
    sizes = {"1000": {"peer": {"median": 1.0}, "pannier": None}, "10000": {"peer": {"median": 10.0}, "pannier": None}}
    assert (growing.grows_as(sizes, "peer"), growing.grows_as(sizes, "pannier")) == ("linear", "")
