"""Fixture: `github`."""

from collections.abc import Iterator

import pytest

from support.github.repository import Github, running_github


@pytest.fixture(scope="session")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Github]:
    """Run one GitHub for all tests of this process; `github.repository()` creates a repository for one test."""
    with running_github(tmp_path_factory.mktemp("github")) as running:
        yield running
