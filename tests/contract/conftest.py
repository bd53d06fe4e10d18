"""Fixtures that open a storage of each kind as often as a test needs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pywharf.index.ports import Backend
from support.storage.storages import (
    ALL,
    FOLDING,
    GITHUB,
    GIVEN,
    MADE,
    OBJECT_STORES,
    Open,
    bucket_storage,
    github_storage,
)

# These test one backend; the others test any.
_OF_ONE = ["test_example_backend.py", "test_file_system.py", "test_github.py", "test_object_stores.py"]
collect_ignore = _OF_ONE if GIVEN is not None else []


@pytest.fixture(params=ALL)
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Open the test's storage. Close every opened backend after the test."""
    if request.param == GITHUB:
        open_storage = github_storage(request.getfixturevalue("github"), tmp_path)
    elif request.param in OBJECT_STORES:
        open_storage = bucket_storage(request.getfixturevalue(request.param), tmp_path)
    else:
        open_storage = MADE[request.param].make(tmp_path)
    backends: dict[int, Backend] = {}

    def open_(index_name: str) -> Backend:
        backend = open_storage(index_name)
        backends[id(backend)] = backend
        return backend

    yield open_
    for backend in backends.values():
        await backend.aclose()


@pytest.fixture
def folds(request: pytest.FixtureRequest) -> bool:
    """Return whether update_index removes from the journal what the index holds (`FOLDING`)."""
    return any(name in FOLDING for name in request.node.callspec.params.values() if isinstance(name, str))


@pytest.fixture
def backend(opened: Open) -> Backend:
    return opened("index.json")


@pytest.fixture
def other(opened: Open, backend: Backend) -> Backend:
    """Open the same storage as another server would. Where only one backend is possible, return that one."""
    return opened("index.json")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Create a folder for the files to publish."""
    folder = tmp_path / "made"
    folder.mkdir()
    return folder
