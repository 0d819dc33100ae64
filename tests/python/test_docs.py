"""Every Python block of README and docs runs, every example runs, every link leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "csrc" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def blocks():
    for page in PAGES:
        for number, code in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            yield pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")


def run(arguments, folder):
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", list(blocks()))
def test_block_runs(code, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(code, encoding="utf-8")
    run([str(script)], tmp_path)


def test_readme_example_persists_and_answers(tmp_path):
    (first, *_) = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len([x for x in first.splitlines() if x.strip()]) <= 10
    (tmp_path / "block.py").write_text(first, encoding="utf-8")
    assert run(["block.py"], tmp_path).strip()
    assert (tmp_path / "storage" / "default__vector_store.json").stat().st_size > 0


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example_runs(path, tmp_path):
    assert run([str(path)], tmp_path).strip(), "an example shows something"


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_commands_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / "tools" / "run").read_text(encoding="utf-8")
    commands = set(re.findall(r"sh tools/run (\w+)", text))
    assert {"demo", "test"} <= commands
    for command in commands:
        assert re.search(rf"^{command}\)$", script, re.M), command
