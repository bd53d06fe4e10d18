"""One of several watched namespaces or its RoleBinding is deleted: the others go on, and nothing else changes."""

import base64
import re
import time

import pytest

from support.cluster.cluster import new_namespace
from support.cluster.kube_client import KubeClient
from support.cluster.resources import (
    apply,
    condition,
    config_text,
    get_server,
    path,
    repo,
    secret_of,
    server,
    settled,
    wait_for_condition,
    wait_for_config,
)
from support.operator.operating import ACCOUNT, Operator, grant, operating
from support.waiting import wait_for

LONG_S = 120.0
BINDINGS = "/apis/rbac.authorization.k8s.io/v1"
CORE, BATCH = "/api/v1", "/apis/batch/v1"
WAYS = ["its RoleBinding is removed", "it is deleted"]


@pytest.fixture
def team(kube):
    name = new_namespace(kube)
    yield name
    kube.delete(f"/api/v1/namespaces/{name}")


def ref(namespace: str) -> dict[str, str]:
    return {"name": "pywharf", "namespace": namespace}


def unbind(kube: KubeClient, namespace: str) -> None:
    kube.delete(path("rolebindings", namespace, ACCOUNT, BINDINGS))


def credentials(kube: KubeClient, namespace: str) -> dict[str, str]:
    found = kube.get(path("secrets", namespace, "pywharf-credentials", CORE)) or {"data": {}}
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def cron_jobs(kube: KubeClient, namespace: str) -> dict[str, str]:
    """Return the uid of each CronJob by its repo."""
    found = kube.list(path("cronjobs", namespace, group=BATCH))
    return {one["metadata"]["labels"]["pywharf.dev/repo"]: one["metadata"]["uid"] for one in found}


def table(text: str, name: str) -> str:
    return text.partition(f"[{name}]\n")[2].partition("\n\n[")[0]


def check_reported(kube: KubeClient, operator: Operator, home: str, team: str) -> None:
    """Check that the condition, the metric and the log report the namespace, and that a remedy is named."""
    where = path("packageservers", home, "pywharf")
    found = wait_for_condition(kube, where, "NamespacesRead", "False", reason="NamespaceUnreadable", longest_s=LONG_S)
    message = condition(found, "NamespacesRead")["message"]
    for words in (team, "Role", "watch.namespaces", "stays as it is"):
        assert words in message
    assert condition(found, "Accepted")["status"] == "True"
    assert operator.metric("pywharf_operator_unreadable_namespaces", namespace=team) == 1
    assert operator.metric("pywharf_operator_unreadable_namespaces") == 1
    assert re.search(rf"The namespace {team} cannot be read \(HTTP 403\).*watch\.namespaces", operator.text())


def goes_on(kube: KubeClient, home: str, *served: str) -> None:
    """Check that a new repo, a changed secret and a deleted repo take effect in the readable namespace."""
    apply(kube, home, secret_of("new"), repo("new"))
    wait_for_config(kube, home, "new", *served, longest_s=LONG_S)
    kube.patch(path("secrets", home, "new", CORE), {"stringData": {"read": "rotated-value"}})
    wait_for(lambda: credentials(kube, home).get("new.read") == "rotated-value", "the rotated secret", longest_s=LONG_S)
    wait_for_condition(kube, path("packagerepos", home, "new"), "SecretsResolved", "True", longest_s=LONG_S)
    kube.delete(path("packagerepos", home, "new"))
    wait_for_config(kube, home, *served, longest_s=LONG_S)


@pytest.mark.timeout(420)
def test_a_namespace_whose_rolebinding_is_removed_stays_served(cluster, kube, namespace, team, tmp_path):
    """Its repos stay served, also after restarts without any state, until the binding is back."""
    apply(kube, namespace, server(allowedNamespaces={"from": "All"}), secret_of("own"), repo("own"))
    apply(kube, team, secret_of("team-a"), repo("team-a", serverRef=ref(namespace)))
    apply(kube, team, repo("team-b", serverRef=ref(namespace), credentials={"anonymousRead": True, "readOnly": True}))
    kubeconfig = grant(cluster, namespace, team)
    served = ("own", "team-a", "team-b")
    with operating(tmp_path, kubeconfig, namespace, team) as operator:
        text = wait_for_config(kube, namespace, *served, longest_s=LONG_S)
        wait_for(lambda: set(cron_jobs(kube, namespace)) == set(served), "every CronJob", longest_s=LONG_S)
        before = table(text, "team-a"), cron_jobs(kube, namespace)["team-a"]
        settled(kube, namespace, operator)
        status = wait_for_condition(kube, path("packagerepos", team, "team-a"), "SecretsResolved", "True")["status"]
        unbind(kube, team)
        goes_on(kube, namespace, *served)
        check_reported(kube, operator, namespace, team)
        assert operator.get("/healthz")[0] == 200
    for _ in range(2):
        with operating(tmp_path, kubeconfig, namespace, team) as operator:
            goes_on(kube, namespace, *served)
            check_reported(kube, operator, namespace, team)
            # A served name stays taken, even if its repo cannot be read.
            apply(kube, namespace, secret_of("taker"), repo("taker", repoName="team-a"))
            where = path("packagerepos", namespace, "taker")
            found = wait_for_condition(kube, where, "Accepted", "False", reason="NameConflict", longest_s=LONG_S)
            assert team not in condition(found, "Accepted")["message"]
            kube.delete(where)
        assert (table(config_text(kube, namespace), "team-a"), cron_jobs(kube, namespace)["team-a"]) == before
        assert credentials(kube, namespace)["team-a.read"] == "team-a-read-value"
        assert (kube.get(path("packagerepos", team, "team-a")) or {})["status"] == status
    with operating(tmp_path, kubeconfig, namespace, team) as operator:
        check_reported(kube, operator, namespace, team)
        kube.delete(path("packagerepos", team, "team-b"))
        grant(cluster, namespace, team)
        wait_for_config(kube, namespace, "own", "team-a", longest_s=LONG_S)
        wait_for_condition(
            kube, path("packageservers", namespace, "pywharf"), "NamespacesRead", "True", longest_s=LONG_S
        )
        wait_for(lambda: operator.metric("pywharf_operator_unreadable_namespaces") == 0, "the metric")
        assert f"The namespace {team} can be read again." in operator.text()
        kube.patch(path("secrets", team, "team-a", CORE), {"stringData": {"read": "rotated-too"}})
        wait_for(
            lambda: credentials(kube, namespace)["team-a.read"] == "rotated-too", "the rotated secret", longest_s=LONG_S
        )


@pytest.mark.timeout(420)
def test_a_namespace_that_is_deleted_is_dropped_where_its_end_was_seen(cluster, kube, namespace, tmp_path):
    cluster.need_controllers()
    team = new_namespace(kube)
    apply(kube, namespace, server(allowedNamespaces={"from": "All"}), secret_of("own"), repo("own"))
    apply(kube, team, secret_of("team-a"), repo("team-a", serverRef=ref(namespace)))
    kubeconfig = grant(cluster, namespace, team)
    with operating(tmp_path, kubeconfig, namespace, team) as operator:
        wait_for_config(kube, namespace, "own", "team-a", longest_s=LONG_S)
        kube.delete(f"/api/v1/namespaces/{team}")
        wait_for(lambda: kube.get(f"/api/v1/namespaces/{team}") is None, "the namespace to go", longest_s=LONG_S)
        # The API server reported the deletion of its PackageRepo, though it could no longer be listed.
        wait_for_config(kube, namespace, "own", longest_s=LONG_S)
        goes_on(kube, namespace, "own")
        check_reported(kube, operator, namespace, team)
    with operating(tmp_path, kubeconfig, namespace, team) as operator:
        goes_on(kube, namespace, "own")
        check_reported(kube, operator, namespace, team)
        wait_for(lambda: set(cron_jobs(kube, namespace)) == {"own"}, "its CronJob alone", longest_s=LONG_S)


@pytest.mark.timeout(420)
def test_a_namespace_that_was_deleted_while_nobody_saw_it(cluster, kube, namespace, tmp_path):
    """Nobody can know that it is gone: its repos stay served until the administrator stops watching it."""
    cluster.need_controllers()
    team = new_namespace(kube)
    apply(kube, namespace, server(allowedNamespaces={"from": "All"}), secret_of("own"), repo("own"))
    apply(kube, team, secret_of("team-a"), repo("team-a", serverRef=ref(namespace)))
    kubeconfig = grant(cluster, namespace, team)
    with operating(tmp_path, kubeconfig, namespace, team):
        text = wait_for_config(kube, namespace, "own", "team-a", longest_s=LONG_S)
    kube.delete(f"/api/v1/namespaces/{team}")
    wait_for(lambda: kube.get(f"/api/v1/namespaces/{team}") is None, "the namespace to go", longest_s=LONG_S)
    with operating(tmp_path, kubeconfig, namespace, team) as operator:
        goes_on(kube, namespace, "own", "team-a")
        check_reported(kube, operator, namespace, team)
        assert table(config_text(kube, namespace), "team-a") == table(text, "team-a")
    with operating(tmp_path, kubeconfig, namespace):
        wait_for_config(kube, namespace, "own", longest_s=LONG_S)


@pytest.mark.timeout(300)
def test_an_account_that_may_get_the_namespace_learns_that_it_is_gone(cluster, kube, namespace, tmp_path):
    cluster.need_controllers()
    team = new_namespace(kube)
    apply(kube, namespace, server(allowedNamespaces={"from": "All"}), secret_of("own"), repo("own"))
    apply(kube, team, secret_of("team-a"), repo("team-a", serverRef=ref(namespace)))
    kubeconfig = grant(cluster, namespace, team)
    with operating(tmp_path, kubeconfig, namespace, team):
        wait_for_config(kube, namespace, "own", "team-a", longest_s=LONG_S)
    kube.delete(f"/api/v1/namespaces/{team}")
    wait_for(lambda: kube.get(f"/api/v1/namespaces/{team}") is None, "the namespace to go", longest_s=LONG_S)
    rule = {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [team], "verbs": ["get"]}
    name = f"get-{team}"
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    meta = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    binding = {"kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject], **meta}
    kube.create(f"{BINDINGS}/clusterroles", {"kind": "ClusterRole", "rules": [rule], **meta})
    kube.create(f"{BINDINGS}/clusterrolebindings", binding)
    try:
        with operating(tmp_path, kubeconfig, namespace, team):
            wait_for_config(kube, namespace, "own", longest_s=LONG_S)
    finally:
        kube.delete(f"{BINDINGS}/clusterrolebindings/{name}")
        kube.delete(f"{BINDINGS}/clusterroles/{name}")


@pytest.mark.timeout(300)
def test_a_server_in_a_namespace_that_cannot_be_read(cluster, kube, namespace, team, tmp_path):
    """Its repos in other namespaces keep their conditions; a new repo's condition says why nothing happens."""
    apply(kube, team, server(allowedNamespaces={"from": "All"}))
    apply(kube, namespace, server(), secret_of("own"), repo("own"))
    apply(kube, namespace, secret_of("far"), repo("far", serverRef=ref(team)))
    kubeconfig = grant(cluster, namespace, team)
    far = path("packagerepos", namespace, "far")
    with operating(tmp_path, kubeconfig, namespace, team):
        wait_for_config(kube, team, "far", longest_s=LONG_S)
        before = condition(wait_for_condition(kube, far, "Accepted", "True", longest_s=LONG_S), "Accepted")
    unbind(kube, team)
    with operating(tmp_path, kubeconfig, namespace, team) as operator:
        goes_on(kube, namespace, "own")
        apply(kube, namespace, secret_of("late"), repo("late", serverRef=ref(team)))
        where = path("packagerepos", namespace, "late")
        wait_for_condition(kube, where, "Accepted", "Unknown", reason="ServerUnreadable", longest_s=LONG_S)
        assert condition(kube.get(far), "Accepted") == before
        assert operator.get("/healthz")[0] == 200
        # A server that admits only its own namespace reports nothing about others.
        assert condition(get_server(kube, namespace), "NamespacesRead")["status"] == "True"
    assert "[far]" in config_text(kube, team)


@pytest.mark.timeout(300)
def test_secrets_alone_that_cannot_be_read(cluster, kube, namespace, team, tmp_path):
    """A Role without Secrets is treated as no Role: a namespace that is only partly readable changes nothing."""
    apply(kube, namespace, server(allowedNamespaces={"from": "All"}), secret_of("own"), repo("own"))
    apply(kube, team, secret_of("team-a"), repo("team-a", serverRef=ref(namespace)))
    kubeconfig = grant(cluster, namespace, team)
    role = path("roles", team, ACCOUNT, BINDINGS)
    with operating(tmp_path, kubeconfig, namespace, team) as operator:
        text = wait_for_config(kube, namespace, "own", "team-a", longest_s=LONG_S)
        rules = (kube.get(role) or {})["rules"]
        without = [one for one in rules if "secrets" not in one["resources"]]
        kube.patch(role, {"rules": without})
        time.sleep(1.0)
        goes_on(kube, namespace, "own", "team-a")
        check_reported(kube, operator, namespace, team)
        assert table(config_text(kube, namespace), "team-a") == table(text, "team-a")
        kube.patch(role, {"rules": rules})
        kube.patch(path("secrets", team, "team-a", CORE), {"stringData": {"read": "rotated-too"}})
        wait_for(
            lambda: credentials(kube, namespace)["team-a.read"] == "rotated-too", "the rotated secret", longest_s=LONG_S
        )
        wait_for_condition(
            kube, path("packageservers", namespace, "pywharf"), "NamespacesRead", "True", longest_s=LONG_S
        )
