"""Bytes of any kind: what once failed never fails again, and a short run finds nothing new."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import REPOSITORY

sys.path.insert(0, str(REPOSITORY))
from tests.fuzz.targets import CORPUS, TARGETS

INPUTS = sorted(path for target in TARGETS for path in (CORPUS / target).iterdir())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_input_of_the_corpus_is_read_or_refused(path):
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_a_cut_or_altered_seed_is_read_or_refused(target):
    for path in (CORPUS / target).iterdir():
        data = path.read_bytes()
        for place in range(0, len(data), max(1, len(data) // 20)):
            TARGETS[target](data[:place])
            TARGETS[target](data[:place] + b"\x00\xff" + data[place + 1 :])


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_short_run_guided_by_coverage_finds_nothing(target, tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or system")
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, "-runs=500", "-max_len=4096", "-seed=1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Done 500 runs" in run.stderr
