"""What clusters require of objects: user ids, quotas, limits, labels. A condition says why one is not admitted."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from support.cluster.cluster import Cluster
from support.cluster.kube_client import ApiError, Json, KubeClient
from support.cluster.resources import (
    apply,
    condition,
    get_repo,
    get_server,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
)
from support.kubelet.index_pods import BATCH, jobs
from support.operator.chart import objects
from support.operator.operating import grant, operating
from support.parts import CHECKOUT
from support.waiting import wait_for

CORE, ADMISSION = "/api/v1", "/apis/admissionregistration.k8s.io/v1"
LONG_S = 90.0
LOWEST, HIGHEST = 1000680000, 1000689999
COST = "cost-center"
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
# In essence OpenShift's restricted-v2: ids must be in the namespace's range, and a pod without ids gets them from it.
IDS = ("runAsUser", "runAsGroup", "fsGroup")
MADE = ["services", "deployments", "persistentvolumeclaims", "cronjobs", "jobs", "pods", "secrets", "configmaps"]
MADE += ["serviceaccounts", "networkpolicies", "replicasets", "poddisruptionbudgets", "ingresses"]


def policy(name: str, namespace: str, resources: list[str], rules: dict[str, str]) -> list[Json]:
    """Return a ValidatingAdmissionPolicy for the namespace and its binding. `rules` are messages by expression."""
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": resources}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"namespaceSelector": selector, "resourceRules": [rule]},
                "validations": [{"expression": one, "message": message} for one, message in rules.items()],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]


class Policies:
    """The admission policies of a test, with a wait until the API server enforces each."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        self._made: list[str] = []

    def apply(self, resources: list[str], rules: dict[str, str], refused: Json) -> None:
        """Apply a policy and wait until it holds. `refused` is a pod spec, or a part of one, that it refuses."""
        name = f"{self._namespace}-{len(self._made)}"
        for made, plural in zip(
            policy(name, self._namespace, resources, rules),
            ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
            strict=True,
        ):
            where = f"{ADMISSION}/{plural}/{name}"
            self._kube.apply(where, made)
            self._made.append(where)
        wait_for(lambda: refusal(self._kube, self._namespace, refused), "the policy to hold", longest_s=LONG_S)

    def remove(self) -> None:
        for where in self._made:
            self._kube.delete(where)


@pytest.fixture
def policies(cluster: Cluster, kube: KubeClient, namespace: str) -> Iterator[Policies]:
    cluster.need_controllers()
    made = Policies(kube, namespace)
    yield made
    made.remove()


def refusal(kube: KubeClient, namespace: str, spec: Json) -> str:
    """Return why the API server refuses such a pod, or an empty string if it accepts it."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}}
    pod["spec"] = {"containers": [{"name": "a", "image": "a"}], "automountServiceAccountToken": False} | spec
    try:
        text = json.dumps(pod).encode()
        kube.request("POST", path("pods", namespace, group=CORE), text, "application/json", dryRun="All")
    except ApiError as error:
        return error.message
    return ""


def restrict_ids(policies: Policies) -> None:
    parts = {
        "spec": "has(object.spec.securityContext) ? [object.spec.securityContext] : []",
        "containers": "object.spec.containers.filter(c, has(c.securityContext)).map(c, c.securityContext)",
    }
    rules = {
        f"({found}).all(s, !has(s.{field}) || (s.{field} >= {LOWEST} && s.{field} <= {HIGHEST}))": (
            f"unable to validate against any security context constraint: provider restricted-v2: .{part}.{field}: "
            f"Invalid value: must be in the ranges: [{LOWEST}, {HIGHEST}]"
        )
        for part, found in parts.items()
        for field in IDS
        if part == "spec" or field != "fsGroup"
    }
    policies.apply(["pods"], rules, {"securityContext": {"runAsUser": 1}})


def pods(kube: KubeClient, namespace: str, component: str) -> list[Json]:
    return kube.list(path("pods", namespace, group=CORE), labelSelector=f"app.kubernetes.io/component={component}")


def both(kube: KubeClient, namespace: str) -> list[Json]:
    """Wait for a pod of the server and one of a Job. Returns both."""

    def found() -> list[Json]:
        made = [pods(kube, namespace, component) for component in ("server", "index")]
        return [one[0] for one in made] if all(made) else []

    try:
        made: list[Json] = wait_for(found, "a pod of the server and one of a Job", longest_s=LONG_S)
    except AssertionError as error:
        there = [[one["metadata"]["name"] for one in pods(kube, namespace, part)] for part in ("server", "index")]
        why = (
            condition(get_server(kube, namespace), "Ready"),
            condition(get_repo(kube, namespace, "team-a"), "IndexUpToDate"),
        )
        raise AssertionError(f"{error}; there are {there}, and {why}") from None
    return made


def check_reported(kube: KubeClient, namespace: str, *parts: str) -> None:
    """Wait until the repo's condition says why its Job has no pod."""

    def holds() -> bool:
        found = condition(get_repo(kube, namespace, "team-a"), "IndexUpToDate")
        return found.get("reason") == "UpdateStuck" and all(part in found["message"] for part in parts)

    try:
        wait_for(holds, f"a message with {parts}", longest_s=LONG_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {condition(get_repo(kube, namespace, 'team-a'), 'IndexUpToDate')}") from None


def test_ids_of_the_cluster(policies, cluster, kube, namespace, tmp_path):
    """As on OpenShift: pods are refused and the conditions name the remedy; with the field set, pods are admitted."""
    restrict_ids(policies)
    kube.patch(
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    )
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating(tmp_path, grant(cluster, namespace), namespace):
        where = path("packageservers", namespace, "pywharf")
        found = wait_for_condition(kube, where, "Ready", "False", reason="PodRefused", longest_s=LONG_S)
        message = condition(found, "Ready")["message"]
        assert "security context constraint" in message
        assert "set spec.security.userIDs of the PackageServer to FromCluster" in message
        check_reported(
            kube, namespace, "security context constraint", "spec.security.userIDs of the PackageServer to FromCluster"
        )
        assert pods(kube, namespace, "server") == pods(kube, namespace, "index") == []
        apply(kube, namespace, server(security={"userIDs": "FromCluster"}))
        # A Job keeps the template that it was created with, so a new one is needed.
        kube.patch(
            path("packagerepos", namespace, "team-a"), {"metadata": {"annotations": {"pywharf.dev/update-index": "1"}}}
        )
        for pod in both(kube, namespace):
            assert not set(IDS) & set(pod["spec"]["securityContext"])
            assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


def test_ids_of_the_cluster_in_the_chart(policies, cluster, kube, namespace, tmp_path):
    """Every pod of the release, including its test's, is admitted with the value and refused without it."""
    restrict_ids(policies)

    def found(values: Json) -> list[Json]:
        specs = []
        for item in objects(tmp_path, values).values():
            spec = item.get("spec", {}).get("template", item).get("spec", {})
            if "containers" in spec:
                specs.append(spec | {"automountServiceAccountToken": False, "serviceAccountName": "default"})
        return specs

    kube.apply(
        path("serviceaccounts", namespace, "default", CORE),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}},
    )
    fixed, free = found({}), found({"security": {"userIDs": "FromCluster"}})
    assert len(fixed) == len(free) == 2
    assert [bool(refusal(kube, namespace, spec)) for spec in fixed] == [True, True]
    assert [refusal(kube, namespace, spec) for spec in free] == ["", ""]


QUOTA = {"requests.cpu": "4", "requests.memory": "8Gi", "limits.cpu": "8", "limits.memory": "16Gi"}
BOUND = {"type": "Container", "max": {"memory": "512Mi", "ephemeral-storage": "5Gi"}, "default": {"memory": "256Mi"}}
BOUNDS: dict[str, tuple[Json, Json, Json, tuple[str, ...], tuple[str, ...]]] = {
    "quota": (
        {"kind": "ResourceQuota", "spec": {"hard": QUOTA}},
        {"limits": {"cpu": "1"}},
        {"limits": {"cpu": "500m"}},
        ("must specify limits.cpu", "name them in spec.jobs.resources of the PackageServer"),
        ("must specify limits.cpu", "name them in spec.resources of the PackageServer"),
    ),
    "used up": (
        {"kind": "ResourceQuota", "spec": {"hard": {"limits.memory": "600Mi"}}},
        {"limits": {"memory": "512Mi"}},
        {"limits": {"memory": "64Mi"}},
        ("exceeded quota", "ask for less in spec.jobs.resources of the PackageServer"),
        ("exceeded quota", "ask for less in spec.resources of the PackageServer"),
    ),
    "range": (
        {"kind": "LimitRange", "spec": {"limits": [BOUND]}},
        {"limits": {"memory": "512Mi", "ephemeral-storage": "5Gi"}},
        {"limits": {"memory": "256Mi", "ephemeral-storage": "1Gi"}},
        ("maximum memory usage per Container", "set spec.jobs.resources of the PackageServer within its bounds"),
        ("maximum memory usage per Container", "set spec.resources of the PackageServer within its bounds"),
    ),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_quotas_and_ranges(name, cluster, kube, namespace, tmp_path):
    """The conditions of the server and of the repo each name the field; with the fields set, all pods are admitted."""
    cluster.need_controllers()
    bound, of_server, of_jobs, repo_says, server_says = BOUNDS[name]
    plural = {"ResourceQuota": "resourcequotas", "LimitRange": "limitranges"}[bound["kind"]]
    kube.apply(path(plural, namespace, "a", CORE), {"apiVersion": "v1", "metadata": {"name": "a"}, **bound})
    if bound["kind"] == "ResourceQuota":  # until it is counted, it refuses everything with another error
        wait_for(
            lambda: "hard" in (kube.get(path(plural, namespace, "a", CORE)) or {}).get("status", {}),
            "the quota to be counted",
            longest_s=LONG_S,
        )
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with operating(tmp_path, grant(cluster, namespace), namespace):

        def server_reports() -> bool:
            found = condition(get_server(kube, namespace), "Ready")
            return found.get("reason") == "PodRefused" and all(part in found["message"] for part in server_says)

        wait_for(server_reports, f"the server to report {server_says}", longest_s=LONG_S)
        check_reported(kube, namespace, *repo_says)
        assert len(jobs(kube, namespace)) == 1, "nothing has changed, so none takes its place"
        apply(kube, namespace, server(resources=of_server))
        wait_for(lambda: pods(kube, namespace, "server"), "the server's pod", longest_s=LONG_S)
        apply(kube, namespace, server(resources=of_server, jobs={"resources": of_jobs}))
        kube.patch(
            path("packagerepos", namespace, "team-a"), {"metadata": {"annotations": {"pywharf.dev/update-index": "1"}}}
        )
        both(kube, namespace)


def test_the_example_fits_its_quota(cluster, kube, namespace, tmp_path):
    cluster.need_controllers()
    folder = CHECKOUT / "examples" / "quota"
    quota, made = (yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("quota", "server"))
    quota["metadata"]["namespace"] = made["metadata"]["namespace"] = namespace
    kube.apply(path("resourcequotas", namespace, "team", CORE), quota)
    apply(kube, namespace, made, secret_of("team-a"), repo("team-a"))
    with operating(tmp_path, grant(cluster, namespace), namespace):
        both(kube, namespace)


def test_labels_that_a_policy_asks_of_everything(policies, cluster, kube, namespace, tmp_path):
    rules = {
        f"has(object.metadata.labels) && '{COST}' in object.metadata.labels": f"you must provide labels: {{{COST}}}"
    }
    kube.apply(path("serviceaccounts", namespace, "default", CORE), ACCOUNT)
    config = grant(cluster, namespace)
    policies.apply([one for one in MADE if one != "secrets"], rules, {})
    own: dict[str, Any] = {"labels": {COST: "42"}, "annotations": {"example.com/owner": "a"}}
    rest: dict[str, Any] = {
        "storage": {"size": "1Gi", "accessModes": ["ReadWriteMany"]},
        "replicas": 2,
        "ingress": {"host": "a.example"},
    }
    apply(kube, namespace, server(**rest), secret_of("team-a"), repo("team-a"))
    with operating(tmp_path, config, namespace):
        where = path("packageservers", namespace, "pywharf")
        found = wait_for_condition(kube, where, "Ready", "False", reason="ApplyRefused", longest_s=LONG_S)
        assert COST in condition(found, "Ready")["message"]
        apply(kube, namespace, server(**rest, **own))
        both(kube, namespace)

        def made() -> dict[str, Json]:
            groups = {
                CORE: ["secrets", "services", "persistentvolumeclaims", "configmaps", "pods", "serviceaccounts"],
                "/apis/apps/v1": ["deployments"],
                BATCH: ["cronjobs", "jobs"],
                "/apis/networking.k8s.io/v1": ["networkpolicies", "ingresses"],
                "/apis/policy/v1": ["poddisruptionbudgets"],
            }
            return {
                f"{plural}/{item['metadata']['name']}": item["metadata"]
                for group, plurals in groups.items()
                for plural in plurals
                for item in kube.list(path(plural, namespace, group=group), labelSelector="pywharf.dev/server=pywharf")
            }

        def lacking() -> list[str]:
            return [
                name
                for name, metadata in made().items()
                if metadata["labels"].get(COST) != "42"
                or metadata.get("annotations", {}).get("example.com/owner") != "a"
            ]

        wait_for(lambda: not lacking(), "every object to have them", longest_s=LONG_S)
        assert {name.partition("/")[0] for name in made()} >= {"secrets", "persistentvolumeclaims", "jobs", "pods"}
        assert "secrets/pywharf-session" in made()
        # Removed labels disappear from the objects; a label set by somebody else stays.
        policies.remove()
        kube.patch(path("secrets", namespace, "pywharf-session", CORE), {"metadata": {"labels": {"other": "stays"}}})
        apply(kube, namespace, server(**rest))

        def left() -> list[str]:
            return [
                name
                for name, metadata in made().items()
                if not name.startswith(("pods/", "jobs/"))
                and (COST in metadata["labels"] or "example.com/owner" in metadata.get("annotations", {}))
            ]

        try:
            wait_for(lambda: not left(), "every object to lose them", longest_s=LONG_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {left()}") from None
        assert made()["secrets/pywharf-session"]["labels"]["other"] == "stays"
