"""Missing parts: objects deleted without an operator; an operator without CRDs, API server or etcd."""

import contextlib
import http.client

import pytest

from support.cluster.cluster import CRDS, apply_crds, new_namespace
from support.cluster.control_plane import API_SERVER, ETCD
from support.cluster.kube_client import ApiError, KubeClient
from support.cluster.resources import (
    API,
    apply,
    path,
    repo,
    secret_of,
    server,
    settled,
    wait_for_condition,
    wait_for_config,
)
from support.operator.operating import Operator, grant, operating
from support.waiting import wait_for

LONG_S = 60.0
RECOVERED_S = 120.0
TRIES = 3
TEAMS = ("team-a", "team-b", "team-c", "team-d", "team-e")
OWNED = [
    ("secrets", "/api/v1"),
    ("configmaps", "/api/v1"),
    ("services", "/api/v1"),
    ("serviceaccounts", "/api/v1"),
    ("persistentvolumeclaims", "/api/v1"),
    ("deployments", "/apis/apps/v1"),
    ("cronjobs", "/apis/batch/v1"),
    ("networkpolicies", "/apis/networking.k8s.io/v1"),
]
KINDS = [*OWNED, ("packagerepos", API), ("packageservers", API)]


def test_without_an_operator_everything_can_be_deleted(cluster, kube, namespace, tmp_path):
    """Nothing waits for the operator: no finalizer holds an object. After a restart it creates nothing again."""
    cluster.need_controllers()
    home, folder = namespace, tmp_path / "operator"
    other = new_namespace(kube)
    apply(kube, other, server(), secret_of("team-a"), repo("team-a"), secret_of("team-b"), repo("team-b"))
    kubeconfig = grant(cluster, home, other)
    with operating(folder, kubeconfig, home, other) as operator:
        wait_for_config(kube, other, "team-a", "team-b")
        settled(kube, other, operator)
    for plural, group in KINDS:
        held = {
            one["metadata"]["name"]: one["metadata"].get("finalizers")
            for one in kube.list(path(plural, other, group=group))
        }
        assert not any(held[name] for name in held if plural != "persistentvolumeclaims"), (plural, held)
    kube.delete(path("packagerepos", other, "team-b"))
    assert kube.get(path("packagerepos", other, "team-b")) is None
    kube.delete(path("packageservers", other, "pywharf"))
    assert kube.get(path("packageservers", other, "pywharf")) is None
    wait_for(lambda: not owned(kube, other), "what the server owned to go", longest_s=LONG_S)
    with operating(folder, kubeconfig, home, other) as operator:
        where = path("packagerepos", other, "team-a")
        wait_for_condition(kube, where, "Accepted", "False", longest_s=LONG_S)
        assert not owned(kube, other)
        apply(kube, other, server())
        wait_for_config(kube, other, "team-a", longest_s=LONG_S)
    kube.delete(f"/api/v1/namespaces/{other}")
    gone = f"/api/v1/namespaces/{other}"
    wait_for(lambda: kube.get(gone) is None, "the namespace to go", longest_s=LONG_S)
    kube.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    with operating(folder, grant(cluster, home, other), home, other) as operator:
        apply(kube, home, server(), secret_of("team-c"), repo("team-c"))
        wait_for_config(kube, home, "team-c", longest_s=LONG_S)
        settled(kube, home, operator)
        assert not owned(kube, other)
        assert not kube.list(path("packagerepos", other))
    kube.delete(gone)


def owned(kube: KubeClient, namespace: str) -> list[str]:
    """Return the objects that belong to a server, except its claim, which outlives it."""
    return [
        f"{plural}/{one['metadata']['name']}"
        for plural, group in OWNED
        for one in kube.list(path(plural, namespace, group=group), labelSelector="pywharf.dev/server=pywharf")
        if plural != "persistentvolumeclaims"
    ]


@pytest.mark.timeout(240)
def test_a_control_plane_that_comes_and_goes(own_cluster, tmp_path):
    """The operator starts before the CRDs exist. Then API server and etcd are killed, with changes before and after."""
    own_cluster.need_controllers()
    kube = own_cluster.client()
    namespace = new_namespace(kube)
    kubeconfig = grant(own_cluster, namespace)
    own_cluster.kubectl("delete", "-f", str(CRDS))
    with operating(tmp_path / "operator", kubeconfig, namespace, wait=False) as operator:
        wait_for(lambda: "Waiting for it" in operator.text(), "a line in the log", longest_s=LONG_S)
        assert operator.get("/healthz")[0] == 200
        assert operator.get("/readyz")[0] == 503
        apply_crds(own_cluster.kubectl_program, own_cluster.kubeconfig)
        apply(kube, namespace, server(), *(secret_of(name) for name in TEAMS), repo(TEAMS[0]))
        wait_for_config(kube, namespace, TEAMS[0], longest_s=LONG_S)
        lines = [line for line in operator.text().splitlines() if "CustomResourceDefinition" in line]
        assert "packagerepos.pywharf.dev and packageservers.pywharf.dev" in lines[0]
        # The two are created one after the other: a look in between names the one that is still missing, once.
        assert len(lines) <= 2, lines
        assert not any("packagerepos.pywharf.dev and" in line for line in lines[1:]), lines
        there = [TEAMS[0]]
        for part, before, after in ((API_SERVER, TEAMS[1], TEAMS[2]), (ETCD, TEAMS[3], TEAMS[4])):
            settled(kube, namespace, operator)
            apply(kube, namespace, repo(before))
            own_cluster.kill(part)
            wait_for(lambda: not is_ready(kube), "an API server that does not answer", longest_s=LONG_S)
            if part == API_SERVER:
                wait_for(lambda: unanswered(operator) >= TRIES, "requests in vain", longest_s=LONG_S)
            assert operator.get("/healthz")[0] == 200
            own_cluster.start(part)
            wait_for(lambda: is_ready(kube), "the API server", longest_s=LONG_S)
            apply(kube, namespace, repo(after))
            kube.delete(path("packagerepos", namespace, there[0]))
            there = [*there[1:], before, after]
            wait_for_config(kube, namespace, *there, longest_s=RECOVERED_S)
            assert operator.process.poll() is None
            assert operator.get("/healthz")[0] == 200
    kube.close()


def is_ready(kube: KubeClient) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException, ApiError):
        return bool(kube.request("GET", "/readyz"))
    return False


def unanswered(operator: Operator) -> float:
    return operator.metric("pywharf_operator_api_requests_total", code="none")
