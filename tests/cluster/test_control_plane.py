"""The control plane that other tests use."""

from typing import Any

import pytest

from support.cluster.cluster import Cluster
from support.cluster.kube_client import KubeClient
from support.waiting import wait_for


def config_map(name: str, **metadata) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}


def test_a_namespace_ends(kube: KubeClient, cluster: Cluster, namespace: str):
    cluster.need_controllers()
    kube.create(f"/api/v1/namespaces/{namespace}/configmaps", config_map("a"))
    kube.delete(f"/api/v1/namespaces/{namespace}")
    wait_for(lambda: kube.get(f"/api/v1/namespaces/{namespace}") is None, "its end", longest_s=60)


def test_the_owned_goes_with_its_owner(kube: KubeClient, cluster: Cluster, namespace: str):
    cluster.need_controllers()
    repos = f"/apis/pywharf.dev/v1alpha1/namespaces/{namespace}/packageservers"
    server = {"apiVersion": "pywharf.dev/v1alpha1", "kind": "PackageServer"}
    owner = kube.create(repos, {**server, "metadata": {"name": "a"}, "spec": {}})
    reference = {**server, "name": "a", "uid": owner["metadata"]["uid"], "controller": True}
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    kube.create(maps, config_map("owned", ownerReferences=[reference]))
    kube.delete(f"{repos}/a")
    wait_for(lambda: kube.get(f"{maps}/owned") is None, "garbage collection", longest_s=90)


def test_an_api_server_goes_and_comes(own_cluster):
    client = own_cluster.client()
    client.create("/api/v1/namespaces/default/configmaps", config_map("a"))
    own_cluster.stop_apiserver()
    with pytest.raises(OSError, match=r".*"):
        client.get("/version")
    own_cluster.start_apiserver()
    assert client.get("/api/v1/namespaces/default/configmaps/a") is not None
    client.close()
