"""Fixture: `kubelet`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster.cluster import Cluster
from support.kubelet.stand_in import Kubelet, kubelet_of


@pytest.fixture
def kubelet(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Kubelet]:
    """Run the pods of `namespace` (and of namespaces added with `watch`) as processes of this machine."""
    cluster.need_controllers()
    with kubelet_of(cluster, tmp_path / "kubelet", namespace) as made:
        yield made
