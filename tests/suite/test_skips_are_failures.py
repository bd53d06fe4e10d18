"""Check that skipped tests are listed, and that they fail if nothing may be skipped."""

import os
import shutil
import subprocess
import sys

import pytest

from support.parts import CHECKOUT, REQUIRE_ALL

CASES = """
import pytest
from support.parts import require

def test_whole():
    pass

def test_part():
    require("no-such-program", "it does not exist")

@pytest.mark.skip(reason="not today")
def test_mark():
    pass

@pytest.mark.xfail
def test_known_bug():
    raise AssertionError
"""
MODULE = "import pytest\n\npytest.importorskip('no_such_module')\n"


@pytest.fixture
def run(tmp_path):
    tests = tmp_path / "tests"
    tests.mkdir()
    shutil.copy(CHECKOUT / "tests" / "conftest.py", tests)
    (tests / "test_cases.py").write_text(CASES)
    (tests / "test_module.py").write_text(MODULE)

    def run(require_all: str, *arguments: str):
        pytest_here = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path]
        return subprocess.run(
            [*pytest_here, "-c", CHECKOUT / "pyproject.toml", *arguments, "tests"],
            cwd=tmp_path,
            env=os.environ | {REQUIRE_ALL: require_all, "PYTHONPATH": str(CHECKOUT / "tests")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("workers", ["0", "1"])
def test_left_out_is_named(run, workers):
    done = run("", "-n", workers)
    assert done.returncode == 0, done.stdout
    account = done.stdout.partition("= left out =")[2]
    assert "1 x needs no-such-program: it does not exist" in account
    assert "1 x not today" in account
    assert "no_such_module" in account
    assert "1 passed, 3 skipped, 1 xfailed" in done.stdout.splitlines()[-1]


def test_nothing_may_be_left_out(run):
    done = run("1", "--continue-on-collection-errors")
    assert done.returncode == 1, done.stdout
    assert "needs no-such-program: it does not exist" in done.stdout
    assert "1 failed, 1 passed, 1 xfailed, 2 errors" in done.stdout.splitlines()[-1]
