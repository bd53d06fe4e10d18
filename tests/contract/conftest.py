"""Fixtures that open a storage of each kind as often as a test needs."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywharf.backends.opening import open_backend
from pywharf.backends.registration import OpenBackend
from pywharf.config.repo_config import GithubSpec
from pywharf.index.ports import Backend
from support.github.repository import BRANCH, OWNER, Github, TestRepository
from support.storage.storages import (
    ALL,
    FOLDING,
    GITHUB,
    GIVEN,
    MADE,
    OBJECT_STORES,
    REPO,
    Open,
    bucket_storage,
    github_storage,
)

# These test one backend, or some; the others test any.
_OF_ONE = [
    "test_cache_store.py",
    "test_example_backend.py",
    "test_file_system_cache.py",
    "test_file_system.py",
    "test_file_system_changing.py",
    "test_github.py",
    "test_github_changing.py",
    "test_kept_claims.py",
    "test_object_stores.py",
    "test_reserved_names.py",
]
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


@pytest.fixture
def repository(github: Github) -> Iterator[TestRepository]:
    """Create a GitHub repository."""
    made = github.repository()
    yield made
    made.mend()
    github.api.list_cap, github.api.signed_s = 10_000, 300


@pytest.fixture
async def open_(repository: TestRepository, tmp_path: Path) -> AsyncIterator[Callable[..., Backend]]:
    """Return a function that opens the GitHub repository as one more server would."""
    opened: list[Backend] = []

    def open_(token: str | None = None, *, is_job: bool = False, **fields: Any) -> Backend:
        spec = {"owner": OWNER, "repo": repository.name, "branch": BRANCH, "api_url": repository.github.url} | fields
        secret = token or repository.token_of("write")
        backend = open_backend(OpenBackend(GithubSpec(**spec), REPO, tmp_path / str(len(opened)), secret, is_job))
        opened.append(backend)
        return backend

    yield open_
    for backend in opened:
        await backend.aclose()
