"""Fixtures shared by the tests with real client tools: an empty repo per test, and a user's computer."""

import ipaddress
import random
from collections.abc import Iterator

import pytest

from support.clients.computer import Computer
from support.server import calling
from support.server.repos import Repo, many_repos

REPOS = 40
"""Repos per test file; more than any file has tests that use one."""


@pytest.fixture(autouse=True)
def source(monkeypatch) -> str:
    """Ask servers from an address of the test's own, so that its wrong secrets do not brake those of other tests."""
    address = str(ipaddress.IPv4Address("127.1.0.0") + random.randrange(2**23))
    monkeypatch.setattr(calling, "SOURCE", address)
    return address


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
