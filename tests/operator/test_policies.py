"""Policies from `kubectl apply` to every replica: the operator and real servers on a real API server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pywharf_operator.render.objects.config_map import texts_of
from support.clients.computer import Computer, Index
from support.clients.publishing import upload
from support.cluster.api_faults import Answer
from support.cluster.cluster import Cluster, new_namespace
from support.cluster.kube_client import ApiError, KubeClient
from support.cluster.resources import (
    SERVER_NAME,
    apply,
    condition,
    path,
    policy,
    repo,
    secret_of,
    server,
    wait_for_condition,
    wait_for_config,
    wait_for_object,
)
from support.distributions.wheels import wheel
from support.kubelet.stand_in import Kubelet
from support.operator import operating
from support.server.calling import call
from support.waiting import wait_for

REPLICAS = 3
SHARED = {"size": "1Gi", "accessModes": ["ReadWriteMany"]}
CORE = "/api/v1"
OPEN = {"anonymousRead": True, "readOnly": True}
MAX_RULES = 10_000


def where(namespace: str, name: str) -> str:
    return path("packagepolicies", namespace, name)


def document(kube: KubeClient, namespace: str) -> list[dict[str, Any]]:
    """Return the policies that the server is given."""
    found = kube.get(path("configmaps", namespace, f"{SERVER_NAME}-policies", CORE))
    return [] if found is None else json.loads(texts_of(found)["policies.json"])["policies"]


def names(kube: KubeClient, namespace: str) -> set[str]:
    return {one["name"] for one in document(kube, namespace)}


def rules(number: int, prefix: str = "stolen") -> list[dict[str, str]]:
    return [{"project": f"{prefix}-{one}", "versions": "==1"} for one in range(number)]


@pytest.fixture
def operator(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[operating.Operator]:
    with operating.operating(tmp_path / "operator", operating.grant(cluster, namespace), namespace) as running:
        yield running
        print(running.text())


@pytest.fixture
def urls(kube: KubeClient, namespace: str, kubelet: Kubelet, operator: operating.Operator) -> list[str]:
    """Three replicas that serve the repo team-a."""
    apply(kube, namespace, secret_of("team-a"), repo("team-a"), server(storage=SHARED, replicas=REPLICAS))
    found = kubelet.wait_for_urls(namespace, SERVER_NAME, REPLICAS, longest_s=90)
    wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "Ready", "True")
    return found


def files(url: str) -> set[str]:
    """Return the files of the project parcel that a replica shows."""
    answer = call(
        f"{url}/repo/team-a/simple/parcel/",
        auth="team-a:team-a-read-value",
        headers={"Accept": "application/vnd.pypi.simple.v1+json"},
    )
    return {one["filename"] for one in answer.json()["files"]} if answer.status == 200 else set()


@pytest.mark.timeout(240)
def test_a_policy_reaches_every_replica_and_leaves_them(kube, namespace, kubelet, operator, urls, tmp_path):
    computer = Computer(tmp_path / "home")
    index = Index(f"{urls[0]}/repo/team-a/simple/", "team-a", "team-a-write-value")
    for version in ("1", "2"):
        upload(computer, index, wheel(tmp_path, "parcel", version))
    both = {"parcel-1-py3-none-any.whl", "parcel-2-py3-none-any.whl"}
    wait_for(lambda: all(files(url) == both for url in urls), "both files")
    restarts = [pod["metadata"]["uid"] for pod in kubelet.pods(namespace)]
    apply(kube, namespace, policy("deny", deny=[{"project": "parcel", "versions": ">=2", "reason": "stolen"}]))
    wait_for(lambda: all(files(url) == {"parcel-1-py3-none-any.whl"} for url in urls), "the policy on every replica")
    found = wait_for_condition(kube, where(namespace, "deny"), "Ready", "True")
    assert (found["status"]["targets"], found["status"]["rules"]) == (1, 1)
    wait_for_object(
        kube,
        where(namespace, "deny"),
        lambda one: one.get("status", {}).get("withheld") == {"files": 1, "projects": 1},
        "the count of what is withheld",
        longest_s=90,
    )
    # The policy did not restart a pod, nor reopen a storage.
    assert [pod["metadata"]["uid"] for pod in kubelet.pods(namespace)] == restarts
    kube.delete(where(namespace, "deny"))
    wait_for(lambda: all(files(url) == both for url in urls), "both files again")
    wait_for(lambda: kube.get(path("configmaps", namespace, "pywharf-policies", CORE)) is None, "the ConfigMap to go")


@pytest.mark.timeout(240)
def test_conditions_and_what_holds_while_something_is_wrong(kube, namespace, operator):
    apply(kube, namespace, server(), repo("a", credentials=OPEN), repo("b", credentials=OPEN))
    wait_for_config(kube, namespace, "a", "b")
    target = {"kind": "PackageRepo", "name": "a"}
    apply(kube, namespace, policy("one", target, deny=rules(3)))
    wait_for(lambda: [one.get("repos") for one in document(kube, namespace)] == [["a"]], "the policy")
    found = wait_for_condition(kube, where(namespace, "one"), "Accepted", "True")
    assert condition(found, "Programmed")["reason"] == "NoReadyReplica"
    text = texts_of(kube.get(path("configmaps", namespace, "pywharf-config", CORE)))["config.toml"]
    assert 'policies_file = "/etc/pywharf/policies.json"' in text
    before = document(kube, namespace)
    kube.delete(path("configmaps", namespace, "pywharf-policies", CORE))
    wait_for(lambda: document(kube, namespace) == before, "the deleted ConfigMap")
    kube.patch(path("configmaps", namespace, "pywharf-policies", CORE), {"data": {"policies.json": '{"policies": []}'}})
    wait_for(lambda: document(kube, namespace) == before, "the changed ConfigMap")
    # What only the operator refuses leaves the version before in force, also of a new operator.
    apply(kube, namespace, policy("one", target, deny=[{"project": "a", "versions": "~=2"}]))
    found = wait_for_condition(kube, where(namespace, "one"), "Accepted", "False", reason="InvalidSpec")
    assert "stays in force" in condition(found, "Accepted")["message"]
    assert document(kube, namespace) == before
    # A target that is missing takes nothing from the others; once it is there, it has the policy.
    apply(kube, namespace, policy("one", target, {"kind": "PackageRepo", "name": "c"}, deny=rules(3)))
    found = wait_for_condition(kube, where(namespace, "one"), "Accepted", "False", reason="TargetNotFound")
    assert f"PackageRepo {namespace}/c" in condition(found, "Accepted")["message"]
    apply(kube, namespace, repo("c", credentials=OPEN))
    wait_for_condition(kube, where(namespace, "one"), "Accepted", "True")
    assert [one["repos"] for one in document(kube, namespace)] == [["a", "c"]]
    # A policy of a server that does not exist.
    apply(kube, namespace, policy("other", {"kind": "PackageServer", "name": "nobody"}, allowOnly=[]))
    wait_for_condition(kube, where(namespace, "other"), "Accepted", "False", reason="TargetNotFound")
    apply(kube, namespace, policy("other", allowOnly=["a"], exceptions=[expired("2020-01-01T00:00:00Z")]))
    found = wait_for_condition(kube, where(namespace, "other"), "Accepted", "True")
    assert found["status"]["exceptions"] == {"active": 0, "expired": 1}
    assert found["status"]["targets"] == 3
    events = [
        one["reason"]
        for one in kube.list(path("events", namespace, group=CORE))
        if one["involvedObject"]["kind"] == "PackagePolicy"
    ]
    assert {"InvalidSpec", "TargetNotFound", "Accepted"} <= set(events)
    kube.delete(path("packageservers", namespace, SERVER_NAME))
    wait_for_condition(kube, where(namespace, "other"), "Accepted", "False", reason="TargetNotFound")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"until": "9999-12-31T23:59:59-01:00"}, "until must be before the year 9999"),
        ({"until": "9999-01-01T00:00:00Z"}, "until must be before the year 9999"),
        ({"reason": " "}, "reason"),
    ],
)
def test_the_api_refuses_an_exception_that_no_status_could_show(kube, namespace, changes, words):
    one = expired("9998-12-31T23:59:59Z")
    apply(kube, namespace, policy("good", allowOnly=[], exceptions=[one]))
    with pytest.raises(ApiError) as refused:
        apply(kube, namespace, policy("bad", allowOnly=[], exceptions=[one | changes]))
    assert words in str(refused.value)


def expired(until: str) -> dict[str, Any]:
    return {"project": "a", "of": ["AllowOnly"], "until": until, "reason": "why"}


@pytest.mark.timeout(300)
def test_ten_thousand_rules_and_one_more(kube, namespace, operator):
    apply(kube, namespace, server(), repo("a", credentials=OPEN))
    apply(kube, namespace, policy("long", deny=rules(MAX_RULES - 1)))
    wait_for(lambda: [len(one["deny"]) for one in document(kube, namespace)] == [MAX_RULES - 1], "all rules")
    found = wait_for_condition(kube, where(namespace, "long"), "Accepted", "True")
    assert found["status"]["rules"] == MAX_RULES - 1
    apply(kube, namespace, policy("new", deny=rules(2, "new")))
    found = wait_for_condition(kube, where(namespace, "new"), "Accepted", "False", reason="TooManyRules")
    assert "10000" in condition(found, "Accepted")["message"]
    assert names(kube, namespace) == {f"{namespace}/long"}
    # One that grows past the limit keeps its version before.
    apply(kube, namespace, policy("new", deny=rules(1, "new")))
    wait_for_condition(kube, where(namespace, "new"), "Accepted", "True")
    apply(kube, namespace, policy("new", deny=rules(5, "new")))
    wait_for_condition(kube, where(namespace, "new"), "Accepted", "False", reason="TooManyRules")
    assert {one["name"]: len(one["deny"]) for one in document(kube, namespace)} == {
        f"{namespace}/long": MAX_RULES - 1,
        f"{namespace}/new": 1,
    }


@pytest.mark.timeout(300)
def test_policies_that_cannot_be_read_stay(cluster, kube, namespace, tmp_path):
    """Without the right to list policies nothing is dropped, also after a restart; repos follow their changes."""
    kubeconfig = operating.grant(cluster, namespace)
    apply(kube, namespace, server(), repo("a", credentials=OPEN), policy("one", deny=rules(2)))
    with operating.operating(tmp_path, kubeconfig, namespace):
        wait_for(lambda: names(kube, namespace) == {f"{namespace}/one"}, "the policy")
    without = [rule for rule in operating.RULES if "packagepolicies" not in rule["resources"]]
    others = [{**operating.RULES[0], "resources": ["packagerepos", "packageservers"]}]
    role = path("roles", namespace, operating.ACCOUNT, "/apis/rbac.authorization.k8s.io/v1")
    kube.patch(role, {"rules": [*without, *others]})
    before = document(kube, namespace)
    kube.delete(where(namespace, "one"))
    with operating.operating(tmp_path, kubeconfig, namespace) as operator:
        apply(kube, namespace, repo("b", credentials=OPEN))
        wait_for_config(kube, namespace, "a", "b")
        wait_for(lambda: "PackagePolicies" in operator.text(), "a line in the log")
        assert document(kube, namespace) == before
        operating.grant(cluster, namespace)
        wait_for(lambda: document(kube, namespace) == [], "the policy to go", longest_s=90)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("code", [404, 500])
def test_a_fault_of_the_api_drops_no_policy(cluster, kube, namespace, api_proxy, tmp_path, code):
    operating.grant(cluster, namespace)
    kubeconfig = cluster.kubeconfig_for(operating.ACCOUNT, namespace, url=api_proxy.url, ca_file=api_proxy.ca_file)
    apply(kube, namespace, server(), repo("a", credentials=OPEN), policy("one", deny=rules(2)))
    with operating.operating(tmp_path / "operator", kubeconfig, namespace, flags=["--resync=2"]) as operator:
        wait_for(lambda: names(kube, namespace) == {f"{namespace}/one"}, "the policy")
        before = document(kube, namespace)
        api_proxy.add(Answer(code), method="GET", path="/packagepolicies$")
        seen = operator.metric("pywharf_operator_reconciles_total")
        wait_for(lambda: operator.metric("pywharf_operator_reconciles_total") >= seen + 3, "reconciles")
        assert document(kube, namespace) == before
        api_proxy.clear()
        kube.delete(where(namespace, "one"))
        wait_for(lambda: document(kube, namespace) == [], "the policy to go", longest_s=90)


@pytest.mark.timeout(240)
def test_a_policy_speaks_only_of_its_own_namespace(cluster, kube, namespace, tmp_path):
    team = new_namespace(kube)
    try:
        ref = {"name": SERVER_NAME, "namespace": namespace}
        apply(kube, namespace, server(allowedNamespaces={"from": "All"}), repo("own", credentials=OPEN))
        apply(kube, team, repo("theirs", credentials=OPEN, serverRef=ref))
        apply(kube, team, policy("mine", {"kind": "PackageRepo", "name": "theirs"}, deny=rules(1)))
        apply(kube, team, policy("of-own", {"kind": "PackageRepo", "name": "own"}, deny=rules(1)))
        apply(kube, team, policy("of-server", deny=rules(1)))
        apply(kube, namespace, policy("all", deny=rules(1)))
        with operating.operating(tmp_path, operating.grant(cluster, namespace, team), namespace, team):
            wait_for_condition(kube, where(team, "mine"), "Accepted", "True")
            found = wait_for_condition(kube, where(namespace, "all"), "Accepted", "True")
            assert found["status"]["targets"] == 2
            for name in ("of-own", "of-server"):
                wait_for_condition(kube, where(team, name), "Accepted", "False", reason="TargetNotFound")
            given = {one["name"]: one.get("repos") for one in document(kube, namespace)}
            assert given == {f"{namespace}/all": None, f"{team}/mine": ["theirs"]}
    finally:
        kube.delete(f"{CORE}/namespaces/{team}")
