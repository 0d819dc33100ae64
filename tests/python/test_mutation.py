"""Our tests notice faults: a handful here, all of them by ``tests/mutation/check.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[1] / "mutation" / "check.py"
HANDFUL = ["get_without_copy", "set_document_hash_keeps_ref_doc_id", "no_image_namespace", "ties_in_reverse"]


@pytest.mark.fix
def test_a_handful_of_faults_is_noticed():
    done = subprocess.run(
        [sys.executable, str(CHECK), "--no-clean", "--only", *HANDFUL],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(HANDFUL)} of {len(HANDFUL)} as they should be" in done.stdout


def test_every_fault_that_the_peer_s_suite_missed_is_planted():
    listed = subprocess.run([sys.executable, str(CHECK), "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert listed.count("missed by the peer") >= 12
    assert len(listed.splitlines()) >= 12 + 12
