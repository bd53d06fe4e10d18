"""Fixture: `node`."""

from collections.abc import Iterator

import pytest

from support.node import Node, parts, running_node


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One real node, for the run; tests change only what is theirs."""
    made = parts()
    with running_node(tmp_path_factory.mktemp("node"), made) as running:
        yield running
