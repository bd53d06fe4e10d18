"""Fixtures: `node`, `pod_cluster`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster.cluster import GIVEN, Cluster, given_cluster
from support.node.node import Node, parts, running_node
from support.node.pods import GIVEN_IMAGE
from support.parts import missing


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Run one real node for the whole test run; tests may stop its parts and start them again."""
    if GIVEN in os.environ:
        missing("a node of the tests' own", f"{GIVEN} names a cluster that they may not break")
    made = parts()
    with running_node(tmp_path_factory.mktemp("node"), made) as running:
        yield running


@pytest.fixture(scope="session")
def pod_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Return a cluster that runs pods: `node`'s, or the given one. Tests change only their own objects."""
    given = os.environ.get(GIVEN)
    if given is None:
        node: Node = request.getfixturevalue("node")
        return node.cluster
    if GIVEN_IMAGE not in os.environ:
        missing(GIVEN_IMAGE, f"{GIVEN} is set: name the image that its nodes shall run, too")
    return given_cluster(Path(given), tmp_path_factory.mktemp("cluster"))
