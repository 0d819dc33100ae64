"""The tree keeps its rules, and the checkers notice when it does not."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_tree = tool("check_tree")


def test_tree_is_clean():
    assert check_tree.check(str(ROOT)) == []


def test_checker_sees_the_whole_core():
    files = [f for f in check_tree.tracked(str(ROOT)) if f.startswith("csrc/") and f.endswith(".c")]
    assert {f.split("/")[1] for f in files} == {"base", "os", "codec", "simd", "persist", "store", "py"}


@pytest.mark.parametrize(
    "path, line, part",
    [
        ("csrc/base/a.c", '#include "codec/json_read.h"', "does not stand below"),
        ("csrc/codec/a.c", '#include "simd/dot.h"', "does not stand below"),
        ("csrc/persist/a.c", '#include "store/kv.h"', "does not stand below"),
        ("csrc/store/a.h", '#  include "py/module.h"', "does not stand below"),
        ("csrc/store/a.c", "#include <Python.h>", "only csrc/py"),
        ("csrc/os/a.c", '#include "Python.h"', "only csrc/py"),
        ("csrc/base/a.c", '#include "buffer.h"', "layer/file.h"),
        ("csrc/extra/a.c", '#include "base/buffer.h"', "not in a layer"),
    ],
)
def test_checker_notices_a_wrong_include(path, line, part):
    (finding,) = check_tree.check_csrc({path: f"/* a */\n{line}\n"})
    assert part in finding and finding.startswith(path)


def test_checker_allows_what_stands_below():
    text = '#include "base/buffer.h"\n#include "codec/number.h"\n#include "store/kv.h"\n#include <string.h>\n'
    assert check_tree.check_csrc({"csrc/store/a.c": text, "csrc/py/b.c": text + "#include <Python.h>\n"}) == []


def test_checker_notices_names_used_twice_and_a_second_cpp():
    found = check_tree.check_csrc({"csrc/base/a.h": "", "csrc/os/a.h": ""})
    assert len(found) == 1 and "taken by csrc/base/a.h" in found[0]
    found = check_tree.check_csrc({"csrc/base/a.cpp": "", "csrc/os/b.cpp": ""})
    assert len(found) == 1 and "C++" in found[0]


@pytest.mark.parametrize("line", ["see /" + "home/me/x", 'open("/' + 'root/x")', "TO" + "DO later", "FIX" + "ME"])
def test_checker_notices_private_paths_and_unfinished_places(line):
    (finding,) = check_tree.check_words({"docs/a.md": f"fine\n{line}\n"})
    assert finding.startswith("docs/a.md:2:")


@pytest.mark.skipif("PANNIER_UNDER_SANITIZER" in os.environ, reason="an instrumented build exports more")
def test_only_the_init_function_is_exported():
    core = importlib.util.find_spec("pannier._core").origin
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "check_exports.py"), core], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif("PANNIER_UNDER_SANITIZER" in os.environ, reason="compiles without the sanitizer's run-time")
def test_export_checker_notices_a_stray_symbol(tmp_path):
    source, library = tmp_path / "a.c", tmp_path / "a.so"
    source.write_text("int PyInit__core(void) { return 0; }\nint stray(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    assert tool("check_exports").exported(str(library)) == {"PyInit__core", "stray"}


def test_sanitizer_checker_tells_our_reports_from_others():
    findings = tool("check_asan").findings
    theirs = "Direct leak of 8 byte(s)\n    #0 malloc\n    #1 numpy/core.so"
    ours = "Direct leak of 8 byte(s)\n    #0 malloc\n    #1 in pn_buf_new csrc/base/buffer.c:9".replace("csrc", "/x/csrc")
    assert findings(f"ERROR: LeakSanitizer: detected memory leaks\n\n{theirs}\n\n{ours}\n\nSUMMARY") == [ours]
    assert findings("==1==ERROR: AddressSanitizer: heap-use-after-free") and findings("a.c:1: runtime error: x")
    assert findings("") == []
