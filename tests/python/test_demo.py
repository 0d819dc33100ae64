"""The demo: what it reads, that both sides are compared, and that a difference fails it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import json.decoder
import subprocess
import sys

import pytest

from pannier import demo
from pannier.__main__ import main as pannier_main

needs_model = pytest.mark.skipif(
    importlib.util.find_spec("wordllama") is None, reason="the extra pannier[demo] is not installed"
)


@pytest.fixture()
def folder(tmp_path):
    """Text files, and what must not be read."""
    top = tmp_path / "text"
    (top / "deep").mkdir(parents=True)
    (top / ".hidden").mkdir()
    for i in range(12):
        (top / f"page{i:02d}.md").write_text(f"Page {i} is about number {i}. " * (5 + i), encoding="utf-8")
    (top / "deep" / "caf\u00e9.txt").write_text("Caf\u00e9s open early. \u65e5\u672c\u8a9e \U0001f4a1", encoding="utf-8")
    (top / "latin.txt").write_bytes(b"not utf-8: \xe9\xff")
    (top / "empty.txt").write_text("  \n")
    (top / "picture.png").write_bytes(b"\x89PNG")
    (top / ".hidden" / "secret.txt").write_text("secret")
    return top


def test_folder_texts_reads_text_files_only(folder):
    names = [name for name, _, _ in demo.folder_texts(str(folder))]
    assert names == [*(["latin.txt"] + [f"page{i:02d}.md" for i in range(12)]), "deep/caf\u00e9.txt"]


def test_folder_without_text_is_a_clear_error(tmp_path):
    with pytest.raises(demo.DemoError, match="No text files"):
        demo.read_documents(str(tmp_path))
    with pytest.raises(demo.DemoError, match="not a folder"):
        demo.read_documents(str(tmp_path / "nothing"))


def test_python_docstrings_come_without_importing_modules():
    code = (
        "import sys; from pannier import demo; found = list(demo.python_docstrings());"
        "ids = [i for i, _, _ in found]; assert len(ids) == len(set(ids)) > 5000, len(ids);"
        "titles = {m['title'] for _, _, m in found};"
        "assert {'json', 'json.dumps', 'pathlib.Path.exists'} & titles >= {'json', 'json.dumps'};"
        "assert 'ftplib' in titles and 'ftplib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_documents_of_python_have_metadata_and_unique_ids(monkeypatch):
    monkeypatch.setattr(demo, "_library_files", lambda root: [json.__file__, json.decoder.__file__])
    documents = demo.read_documents(None)
    assert len({d.node_id for d in documents}) == len(documents)
    (found,) = [d for d in documents if d.metadata["title"] == "json.dumps"]
    assert found.metadata["module"] == "json" and found.metadata["kind"] == "function"
    assert found.text.startswith("Serialize ``obj``")


@needs_model
def test_model_gives_unit_float32_vectors_that_mean_something():
    import numpy as np

    model = demo.load_model()
    cat, kitten, tax = (
        np.array(model.get_text_embedding(t)) for t in ("a cat", "a small kitten", "income tax form")
    )
    assert cat.shape == (256,)
    assert cat.tolist() == cat.astype(np.float32).tolist()
    assert abs(np.linalg.norm(cat) - 1) < 1e-6
    assert cat @ kitten > cat @ tax
    assert model.get_query_embedding("a cat") == model.get_text_embedding_batch(["x", "a cat"])[1]
    assert model.get_text_embedding("") == [0.0] * 256


def test_sentences_lose_nothing():
    text = "One. Two?  Three\n\nstill three! f(x.y) 4.5 end"
    assert demo.split_sentences(text) == ["One. ", "Two?  ", "Three\n\nstill three! ", "f(x.y) 4.5 end"]
    assert demo.split_sentences("") == []


@needs_model
def test_split_stops_at_the_limit_and_names_nodes(folder):
    nodes = demo.split(demo.read_documents(str(folder)), 5)
    assert [n.node_id for n in nodes[:2]] == ["latin.txt#0", "page00.md#0"] and len(nodes) == 5


@needs_model
def test_demo_on_a_folder(folder, tmp_path):
    keep = tmp_path / "kept"
    command = [sys.executable, "-m", "pannier", "demo", str(folder), "--ask", "number 7?", "--keep", str(keep)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same answers: yes" in done.stdout and "files byte-identical: yes" in done.stdout
    assert "? number 7?" in done.stdout and "ratio" in done.stdout
    assert demo.compare_files(str(keep / "LlamaIndex"), str(keep / "pannier"))[0]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2 and "exists already" in again.stderr


def measured(**changed):
    side = dict(build=1.0, persist=2.0, load=4.0, first=0.5, ask=0.25, import_mb=100.0, peak_mb=300.0)
    side.update(resident_mb=200.0, bytes=10, answers=[[["id", "0x1p-1", {"title": "t"}, "text"]]], **changed)
    return side


@pytest.mark.parametrize(
    "answer, content, status", [("id", "same", 0), ("other", "same", 1), ("id", "changed", 1)]
)
def test_a_difference_fails_the_demo(answer, content, status, tmp_path, monkeypatch, capsys):
    def fake_side(side, work):
        ours = side == "pannier"
        (tmp_path / side).mkdir()
        (tmp_path / side / "docstore.json").write_text(content if ours else "same")
        result = measured(store=f"{'pannier' if ours else 'llama_index'}.docstore.X")
        if ours:
            result["answers"] = [[[answer, "0x1p-1", {"title": "t"}, "text"]]]
        return result

    (tmp_path / "questions.json").write_text('["q"]')
    facts = dict(documents=1, nodes=1, dim=2, split=0.0, embed=0.0)
    monkeypatch.setattr(demo, "prepare", lambda args, work: facts)
    monkeypatch.setattr(demo, "run_side", fake_side)
    assert demo.compare(argparse.Namespace(folder=None), str(tmp_path)) == status
    assert ("NO" in capsys.readouterr().out) == bool(status)


def test_compare_files_names_what_differs(tmp_path):
    left, right = tmp_path / "a", tmp_path / "b"
    left.mkdir()
    right.mkdir()
    (left / "x").write_text("1")
    (right / "x").write_text("2")
    assert demo.compare_files(str(left), str(right)) == (False, "different: x")
    (left / "y").write_text("1")
    assert "y" in demo.compare_files(str(left), str(right))[1]


def test_table_shows_ratios():
    table = demo.make_table(measured(), measured(load=0.01))
    (line,) = [x for x in table.splitlines() if x.startswith("load")]
    assert line.split()[-5:] == ["s", "10.00", "ms", "400.0", "x"]


def test_missing_model_is_said_plainly(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert demo.main(["--limit", "1"]) == 2
    assert "pip install 'pannier[demo]'" in capsys.readouterr().err


def test_command_line(capsys):
    assert pannier_main(["--help"]) == 0 and "demo" in capsys.readouterr().out
    assert pannier_main([]) == 2
    assert pannier_main(["nonsense"]) == 2 and "nonsense" in capsys.readouterr().err
    assert pannier_main(["--version"]) == 0 and capsys.readouterr().out.startswith("pannier ")
    with pytest.raises(SystemExit):
        pannier_main(["demo", "--limit", "0"])
