"""The package's surface: lazy import, names, signatures, types, stub, command line."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from importlib import import_module

import pytest

import pannier
import pannier.__main__ as command_line
from pannier import errors
from pannier.installing import _CLASSES

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGE = os.path.dirname(pannier.__file__)
PAIRS = [
    pytest.param(getattr(import_module(theirs), name), name, id=name) for theirs, _, name in _CLASSES
]
LOADERS = ["load_index_from_storage", "load_indices_from_storage", "load_graph_from_storage"]


def run(code: str) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(PACKAGE), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light_until_a_class_is_asked_for():
    heavy = "llama_index", "pydantic", "numpy", "fsspec", "pannier._core"
    out = run(
        "import sys, json, pannier, pannier.__main__\n"
        "dir(pannier); pannier.__version__; pannier.CorruptStoreError\n"
        f"print(json.dumps([m for m in {heavy!r} if m in sys.modules]))\n"
        "pannier.SimpleKVStore\n"
        f"print(json.dumps([m for m in {heavy!r} if m in sys.modules]))\n"
    )
    before, after = map(json.loads, out.splitlines())
    assert before == []
    assert "llama_index" in after


def test_every_name_resolves_and_is_listed():
    for name in pannier.__all__:
        assert getattr(pannier, name) is not None
        assert name in dir(pannier)
    namespace: dict = {}
    exec("from pannier import *", namespace)
    assert set(pannier.__all__) <= set(namespace)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'SimpleKVStor'"):
        pannier.SimpleKVStor


def test_stub_lists_the_same_names():
    with open(os.path.join(PACKAGE, "__init__.pyi"), encoding="utf-8") as f:
        tree = ast.parse(f.read())
    names = {
        alias.asname: node.module.removeprefix("pannier.")
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names == pannier._HOME
    assert os.path.exists(os.path.join(PACKAGE, "py.typed"))


def test_core_stub_lists_what_the_core_has():
    from pannier import _core

    with open(os.path.join(PACKAGE, "_core.pyi"), encoding="utf-8") as f:
        tree = ast.parse(f.read())
    stubbed = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            stubbed[node.name] = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            stubbed[node.name] = None
        elif isinstance(node, ast.AnnAssign):
            stubbed[node.target.id] = None
    real = {name for name in dir(_core) if not name.startswith("__")}
    assert set(stubbed) == real
    for name, methods in stubbed.items():
        if methods is not None:
            public = {m for m in vars(getattr(_core, name)) if not m.startswith("__")}
            assert public <= methods | {"__init__"}, name


def test_version_is_the_one_of_pyproject():
    with open(os.path.join(ROOT, "pyproject.toml"), encoding="utf-8") as f:
        assert re.search(r'^version = "(.*)"$', f.read(), re.M)[1] == pannier.__version__


@pytest.mark.parametrize("peer, name", PAIRS)
def test_class_is_the_peers_kind(peer, name):
    ours = getattr(pannier, name)
    assert issubclass(ours, peer) and ours is not peer
    assert ours.__name__ == peer.__name__
    assert ours.__module__.startswith("pannier.")


@pytest.mark.parametrize("peer, name", PAIRS)
def test_stores_are_never_falsy(peer, name):
    """`store or Default()` is how LlamaIndex writes defaults."""
    ours = getattr(pannier, name)
    assert not hasattr(ours, "__len__") and not hasattr(ours, "__bool__")


def parameters(function) -> list:
    return [  # self: a C method's is positional
        (p.name, p.name == "self" or p.kind, p.default if isinstance(p.default, (str, int, bool, type(None))) else "...")
        for p in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("peer, name", PAIRS)
def test_methods_have_the_peers_signatures(peer, name):
    ours = getattr(pannier, name)
    for method, theirs in inspect.getmembers(peer, callable):
        if method.startswith("_") and method != "__init__":
            continue
        mine = getattr(ours, method)
        if mine is theirs or not (inspect.isfunction(theirs) or inspect.ismethod(theirs)):
            continue
        try:
            want, got = parameters(theirs), parameters(mine)
        except ValueError:
            continue  # a C method without a text signature
        assert got[: len(want)] == want, method
        for extra in inspect.signature(mine).parameters.values():
            if extra.name not in dict((w[0], 0) for w in want):
                assert extra.default is not inspect.Parameter.empty, (method, extra)
        assert inspect.iscoroutinefunction(mine) == inspect.iscoroutinefunction(theirs), method


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_have_the_peers_signatures(name):
    from llama_index.core.indices import loading

    assert parameters(getattr(pannier, name)) == parameters(getattr(loading, name))


@pytest.mark.parametrize("peer, name", PAIRS)
def test_public_methods_are_documented(peer, name):
    ours = getattr(pannier, name)
    assert inspect.getdoc(ours)
    for method, value in vars(ours).items():
        if not method.startswith("_") and callable(getattr(ours, method)):
            assert inspect.getdoc(getattr(ours, method)), method


def test_errors_are_the_builtin_ones_too():
    assert issubclass(errors.CorruptStoreError, json.JSONDecodeError)
    assert issubclass(errors.UnserializableError, TypeError)
    assert issubclass(errors.UnsupportedLayoutError, ValueError)
    assert issubclass(errors.NamespaceError, ValueError)
    assert issubclass(errors.CommitError, OSError)
    for name in ("CorruptStoreError", "UnserializableError", "NamespaceError", "CommitError"):
        assert issubclass(getattr(errors, name), pannier.PannierError)


def test_command_line_helps_and_refuses(capsys):
    assert command_line.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pannier {pannier.__version__}\n"
    assert command_line.main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out
    assert command_line.main([]) == 2
    assert "usage:" in capsys.readouterr().err
    assert command_line.main(["dmeo"]) == 2
    assert "no such command: dmeo" in capsys.readouterr().err


def test_command_line_dispatches(monkeypatch):
    from pannier import demo

    seen = []
    monkeypatch.setattr(demo, "main", lambda argv: seen.append(argv) or 3)
    assert command_line.main(["demo", "folder", "--limit", "2"]) == 3
    assert seen == [["folder", "--limit", "2"]]
