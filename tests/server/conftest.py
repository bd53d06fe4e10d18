"""Fixtures shared by the tests with real client tools: an empty repo per test, and a user's computer."""

from collections.abc import Iterator

import pytest

from support.clients.computer import Computer
from support.server.repos import Repo, many_repos

REPOS = 40
"""Repos per test file; more than any file has tests that use one."""


@pytest.fixture(scope="module")
def repos(tmp_path_factory) -> Iterator[Iterator[Repo]]:
    with many_repos(tmp_path_factory.mktemp("server"), REPOS) as made:
        yield made


@pytest.fixture
def repo(repos: Iterator[Repo]) -> Repo:
    """Return an empty repo that no other test uses, on a server that the file's tests share."""
    made = next(repos, None)
    assert made is not None, f"this file has more tests than the {REPOS} repos of conftest.py"
    return made


@pytest.fixture
def computer(tmp_path) -> Computer:
    return Computer(tmp_path / "home")
