"""The contract suite against the example of a third party's backend, as docs/backends.md says to run it."""

import os
import re
import subprocess
import sys

import pytest

from support.parts import CHECKOUT
from support.storage.example_backend import FOLDER, install_example
from support.storage.foreign_backend import VARIABLE

LEAST = 103
"""Tests that the suite has for one backend."""


@pytest.mark.timeout(600)
def test_the_example_keeps_the_contract(tmp_path):
    target = install_example(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(target), VARIABLE: str(FOLDER / "contract.toml")},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) >= LEAST, done.stdout
    assert "skipped" not in done.stdout, done.stdout
