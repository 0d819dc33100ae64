"""Imports through ``pannier._importing``: the garbage collector is rarer, and then as it was."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from pannier import _importing
from pannier._importing import import_with_peer, rarer_collections


@pytest.fixture
def fresh(monkeypatch):
    """As if LlamaIndex had not been imported; the collector is put back."""
    monkeypatch.setattr(_importing, "_PEER", "no.such.module")
    before, enabled = gc.get_threshold(), gc.isenabled()
    gc.set_threshold(700, 10, 10)
    gc.enable()
    yield
    gc.set_threshold(*before)
    (gc.enable if enabled else gc.disable)()


def test_collections_are_rarer_meanwhile_and_as_before_afterwards(fresh):
    for _ in range(5):
        gc.collect(0)
    with rarer_collections():
        assert gc.get_threshold()[0] == _importing._ROOM
        assert gc.get_count()[1] == 0  # else the second generation is due in the middle of the import
        with rarer_collections():  # as a second thread
            pass
        assert gc.get_threshold()[0] == _importing._ROOM
    assert gc.get_threshold() == (700, 10, 10) and gc.isenabled()


def test_the_collector_is_as_before_when_the_import_fails(fresh):
    with pytest.raises(ModuleNotFoundError):
        import_with_peer("pannier.no_such_module")
    assert gc.get_threshold() == (700, 10, 10) and gc.isenabled()


@pytest.mark.parametrize("young", [0, _importing._ROOM, 1_000_000])
def test_a_program_that_set_it_rarer_is_let_alone(fresh, young):
    gc.set_threshold(young, 10, 10)
    with rarer_collections():
        assert gc.get_threshold() == (young, 10, 10)
    assert gc.get_threshold() == (young, 10, 10)


def test_a_collector_that_is_off_is_let_alone(fresh):
    gc.disable()
    with rarer_collections():
        assert gc.get_threshold() == (700, 10, 10)
    assert not gc.isenabled()


def test_what_is_set_meanwhile_stays(fresh):
    with rarer_collections():
        gc.set_threshold(900, 5, 5)
    assert gc.get_threshold() == (900, 5, 5)


def test_nothing_changes_once_llamaindex_is_there(fresh, monkeypatch):
    monkeypatch.setattr(_importing, "_PEER", "sys")
    with rarer_collections():
        assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("how", ["from pannier import StorageContext", "import pannier; pannier.install()"])
def test_a_fresh_import_takes_a_handful_of_collections(how):
    code = (
        "import gc, sys\n"
        "gc.set_threshold(700, 10, 10)\n"
        "runs = []\n"
        "gc.callbacks.append(lambda phase, info: runs.append(phase))\n"
        f"{how}\n"
        "print(len(runs) // 2, gc.get_threshold(), gc.isenabled(), 'llama_index.core' in sys.modules)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    runs, rest = done.stdout.strip().split(" ", 1)
    assert rest == "(700, 10, 10) True True", done.stderr
    assert int(runs) < 60
