"""Real parts that a test may need (client tools, a browser), and the skip when one is missing.

A test without its part is skipped with a reason and listed at the end of the run. With `PYWHARF_REQUIRE_ALL=1`
(as in .ci/run), tests/conftest.py turns every skip into a failure.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRE_ALL = "PYWHARF_REQUIRE_ALL"
CLIENTS = "PYWHARF_TEST_CLIENTS"
BENCH_PEERS = "PYWHARF_BENCH_PEERS"

CHECKOUT = Path(__file__).resolve().parents[2]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


def all_required() -> bool:
    return os.environ.get(REQUIRE_ALL, "") not in {"", "0"}


def missing(part: str, hint: str) -> NoReturn:
    """Skip the calling test (or the tests of the calling fixture) because `part` is missing."""
    pytest.skip(f"needs {part}: {hint}")


def require(program: str, hint: str, *other_names: str) -> Path:
    """Return the path of a program on PATH: the first of its names that is found. Otherwise skips the calling test."""
    for name in (program, *other_names):
        if found := shutil.which(name):
            return Path(found)
    missing(program, hint)


def peer(program: str) -> Path:
    """Return the path that another server's program has once `make .venv-bench` has run."""
    return Path(os.environ.get(BENCH_PEERS) or CHECKOUT / ".venv-bench" / "bin") / program


def chromium() -> Path:
    """Return the browser for playwright's `executable_path`; playwright's own downloads are not used."""
    return require(CHROMIUM_NAMES[0], "apt-get install chromium", *CHROMIUM_NAMES[1:])


def client(name: str) -> Path:
    """Return the path of a real client (pip, uv, twine, poetry, pdm, flit, python …) in the locked environment."""
    folder = Path(os.environ.get(CLIENTS) or CHECKOUT / ".venv-clients" / "bin")
    program = folder / name
    if not program.is_file():
        missing(f"the client {name}", "make .venv-clients (make test does)")
    return program
