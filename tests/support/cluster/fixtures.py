"""Fixtures: `cluster`, `kube`, `namespace`, `own_cluster`, `api_proxy`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster.api_proxy import ApiProxy, proxied
from support.cluster.cluster import (
    GIVEN,
    Cluster,
    OwnCluster,
    given_cluster,
    new_namespace,
    own_cluster_of,
    prepare,
    programs,
    programs_or_why,
)
from support.cluster.control_plane import ControlPlane
from support.cluster.kube_client import KubeClient
from support.cluster.shared_control_plane import shared_cluster


def pytest_collection_finish(session: pytest.Session) -> None:
    """Run the first build, which takes minutes, before any test's time is measured."""
    asked = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "own_cluster" in asked or ("cluster" in asked and GIVEN not in os.environ):
        programs_or_why()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The Kubernetes of this run, shared by all its processes. Tests change only their own objects."""
    own = tmp_path_factory.mktemp("cluster")
    if given := os.environ.get(GIVEN):
        yield given_cluster(Path(given), own)
        return
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-cluster"
    with shared_cluster(shared, own, programs()) as made:
        yield made


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Iterator[KubeClient]:
    """The administrator's client."""
    client = cluster.client()
    yield client
    client.close()


@pytest.fixture
def namespace(kube: KubeClient) -> Iterator[str]:
    """A new namespace. At the end its deletion is requested but not awaited."""
    name = new_namespace(kube)
    yield name
    kube.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[OwnCluster]:
    """A control plane for one test, which may kill and start its parts; never PYWHARF_TEST_KUBECONFIG's."""
    with ControlPlane(tmp_path / "control-plane", programs(), prepare) as plane:
        made = own_cluster_of(plane, tmp_path)
        try:
            yield made
        finally:
            made.close_clients()


@pytest.fixture
def api_proxy(cluster: Cluster, tmp_path: Path) -> Iterator[ApiProxy]:
    """A proxy of the run's cluster for one test; use `cluster.kubeconfig_through(api_proxy.url, api_proxy.ca_file)`."""
    with proxied(cluster.url, cluster.ca_file, tmp_path / "api-proxy") as proxy:
        yield proxy
