"""What users of kubectl see and do, on a real control plane with real servers."""

import base64
import functools
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import pytest

from pywharf_operator.spec import kinds
from support.certificates import certificates
from support.clients.computer import Computer, Index
from support.clients.publishing import upload
from support.cluster.cluster import Cluster, KubectlError
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import (
    SERVER_NAME,
    apply,
    condition,
    config_text,
    get_repo,
    get_server,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
    wait_for_config,
)
from support.distributions.wheels import wheel
from support.kubelet.stand_in import Kubelet
from support.operator import operating
from support.server.asking import index_status
from support.waiting import wait_for

SERVER_LABEL = "pywharf.dev/server"
READ, WRITE = "team-a-read-value", "team-a-write-value"
REPLICA_SET = kinds.Kind("apps/v1", "ReplicaSet", "replicasets")
OWNED = (*(kind for kind in kinds.OWNED if not kind.optional), kinds.POD, kinds.JOB, REPLICA_SET)
"""Every kind of object that exists because of a server."""


@pytest.fixture
def operator(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[operating.Operator]:
    with operating.operating(tmp_path / "operator", operating.grant(cluster, namespace), namespace) as running:
        running.secrets |= {READ, WRITE}
        yield running
        print(running.text())


def objects_of(kube: KubeClient, namespace: str, name: str = SERVER_NAME) -> set[str]:
    """Return `plural/name` of every object of the server."""
    return {
        f"{kind.plural}/{one['metadata']['name']}"
        for kind in OWNED
        for one in kube.list(kind.path(namespace), labelSelector=f"{SERVER_LABEL}={name}")
    }


def manifests(*objects: Json) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def row(cluster: Cluster, namespace: str, *what: str) -> list[str]:
    """Return the cells of the only line that `kubectl get` prints."""
    (line,) = cluster.kubectl("get", *what, f"--namespace={namespace}", "--no-headers").splitlines()
    return re.split(r"\s{2,}", line.strip())


def test_from_nothing_to_ready_and_to_a_change(cluster, kube, namespace, kubelet, operator):
    """`kubectl wait` returns only once the last applied state is served."""
    where = f"--namespace={namespace}"
    ready = ("wait", "--for=condition=Ready", "--timeout=90s", where, "pkgserver/pywharf", "pkgrepo/team-a")
    cluster.kubectl("apply", where, "-f", "-", input=manifests(server(), secret_of("team-a"), repo("team-a")))
    cluster.kubectl(*ready)
    (url,) = kubelet.urls(namespace, SERVER_NAME)
    assert index_status(url, "team-a", READ) == 200
    wait_for(lambda: len(row(cluster, namespace, "pkgrepo")) == 6, "the first update")
    base = f"http://pywharf.{namespace}.svc"
    assert row(cluster, namespace, "pkgrepo")[:4] == ["team-a", "True", f"{base}/repo/team-a/simple/", "0"]
    wait_for(lambda: row(cluster, namespace, "pkgserver")[3] == "1", "the count of repos")
    assert row(cluster, namespace, "pkgserver")[:5] == ["pywharf", "True", base, "1", "1"]
    together = cluster.kubectl("get", "pywharf", where, "--output=name").split()
    assert together == ["packagerepo.pywharf.dev/team-a", "packageserver.pywharf.dev/pywharf"]
    assert operator.metric("pywharf_operator_repos", condition="Ready", status="True") == 1
    assert operator.metric("pywharf_operator_reconciles_total", result="success") > 0
    assert operator.metric("pywharf_operator_reconciles_total", result="error") == 0
    for rotation, secret in enumerate(("other-read-value", "third-read-value"), start=2):
        name = f"other-{rotation}"
        other = {**secret_of(name), "stringData": {"read": secret, "write": "other-write-value"}}
        refs = {f"{use}SecretRef": {"name": name, "key": use} for use in ("read", "write")}
        cluster.kubectl("apply", where, "-f", "-", input=manifests(other, repo("team-a", credentials=refs)))
        cluster.kubectl(*ready)
        assert index_status(url, "team-a", secret) == 200, "kubectl wait came back too early"
        found = get_repo(kube, namespace, "team-a") or {}
        seen = {one["observedGeneration"] for one in found["status"]["conditions"]}
        assert seen == {found["status"]["observedGeneration"]} == {found["metadata"]["generation"]} == {rotation}
    assert index_status(url, "team-a", READ) == 401


def test_describe_says_what_is_wrong_and_what_to_do(cluster, kube, namespace, operator):
    strong = {"read": "4f9d1c7ab02e6635c81f", "write": "b7e03d92fa164c88d05e"}
    secret = secret_of("team-a") | {"stringData": strong}
    apply(kube, namespace, server(), secret, repo("team-a"), repo("team-b"))
    apply(kube, namespace, repo("team-c", serverRef={"name": "nowhere"}))
    for name, kind, reason, words in (
        ("team-b", "SecretsResolved", "SecretNotFound", ("team-b", "Create", "pywharf.dev/credentials")),
        ("team-c", "Accepted", "ServerNotFound", ("nowhere", "serverRef")),
    ):
        wait_for_condition(kube, path("packagerepos", namespace, name), kind, "False", reason=reason)
        described = wait_for_event(cluster, namespace, f"pkgrepo/{name}", "Warning", reason)
        message = condition(get_repo(kube, namespace, name), kind)["message"]
        conditions, _, events = described.partition("\nEvents:")
        assert f"{kind}: {message}" in " ".join(events.split()), described
        assert message in " ".join(conditions.split()), described
        missing = [word for word in words if word.lower() not in message.lower()]
        assert not missing, f"{message!r} does not name {missing}"
    apply(kube, namespace, secret_of("team-b"))
    wait_for_event(cluster, namespace, "pkgrepo/team-b", "Normal", "Resolved")
    well = cluster.kubectl("describe", "pkgrepo/team-a", f"--namespace={namespace}")
    assert "Warning" not in well
    assert not any(value in well for value in strong.values())
    weak = wait_for_event(cluster, namespace, "pkgrepo/team-b", "Warning", "SecretEasy")
    assert "team-b-read-value" not in weak


def wait_for_event(cluster: Cluster, namespace: str, what: str, kind: str, reason: str) -> str:
    """Wait until `kubectl describe` lists the Event. Returns its output."""

    def described() -> str:
        text = cluster.kubectl("describe", what, f"--namespace={namespace}")
        return text if re.search(rf"\n\s+{kind}\s+{reason}\s", text.partition("\nEvents:")[2]) else ""

    return wait_for(described, f"the Event {kind} {reason} of {what}")


@pytest.mark.timeout(180)
def test_whatever_is_deleted_packages_stay(cluster, kube, namespace, kubelet, operator, tmp_path):
    """A repo, and then its server, is deleted and created again; the package is still there."""
    objects = (secret_of("team-a"), repo("team-a"), server())
    apply(kube, namespace, *objects)
    url = served_at(kube, kubelet, namespace)
    index = Index(f"{url}/repo/team-a/simple/", "team-a", WRITE)
    upload(Computer(tmp_path / "home"), index, wheel(tmp_path, "parcel"))
    before = objects_of(kube, namespace)
    (cron_job,) = (name for name in before if name.startswith("cronjobs/"))
    claim = path("persistentvolumeclaims", namespace, f"{SERVER_NAME}-data", "/api/v1")
    uid = (kube.get(claim) or {})["metadata"]["uid"]

    cluster.kubectl("delete", "pkgrepo/team-a", f"--namespace={namespace}", "--timeout=20s")
    wait_for_config(kube, namespace, longest_s=20)
    wait_for(lambda: index_status(url, "team-a", READ) in {401, 404}, "the end of service")
    credentials = path("secrets", namespace, f"{SERVER_NAME}-credentials", "/api/v1")
    wait_for(
        lambda: not any(key.startswith("team-a.") for key in (kube.get(credentials) or {}).get("data") or {}),
        "the end of its credentials",
    )
    wait_for(lambda: cron_job not in objects_of(kube, namespace), "the end of its CronJob")
    apply(kube, namespace, *objects)
    assert "parcel" in page(served_at(kube, kubelet, namespace), "team-a", READ)

    cluster.kubectl("delete", "pkgserver/pywharf", f"--namespace={namespace}", "--timeout=20s")
    left = {f"persistentvolumeclaims/{SERVER_NAME}-data"}
    wait_for(lambda: objects_of(kube, namespace) == left, f"an end of all but {left}", longest_s=90)
    found = wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "Ready", "False")
    assert condition(found, "Accepted")["reason"] == "ServerNotFound"
    apply(kube, namespace, server())
    assert "parcel" in page(served_at(kube, kubelet, namespace), "team-a", READ)
    assert (kube.get(claim) or {})["metadata"]["uid"] == uid
    wait_for_condition(kube, path("packageservers", namespace, SERVER_NAME), "Ready", "True")


def served_at(kube: KubeClient, kubelet: Kubelet, namespace: str) -> str:
    """Wait until the only replica serves team-a. Returns its URL."""
    wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "Ready", "True", longest_s=90)
    (url,) = kubelet.wait_for_urls(namespace, SERVER_NAME, 1)
    wait_for(lambda: index_status(url, "team-a", READ) == 200, "the repo")
    return url


def page(url: str, name: str, secret: str, context: ssl.SSLContext | None = None) -> str:
    """Return the repo's index page."""
    opener = build_opener(ProxyHandler({}), *([HTTPSHandler(context=context)] if context else []))
    login = base64.b64encode(f"{name}:{secret}".encode()).decode()
    opener.addheaders = [("Authorization", f"Basic {login}")]
    with opener.open(f"{url}/repo/{name}/simple/", timeout=20) as answer:
        return str(answer.read().decode())


def test_a_repo_moves_to_another_server(kube, namespace, operator):
    """The repo is in one configuration or the other, together with everything that belongs to it."""
    apply(kube, namespace, server(), server("second"), secret_of("team-a"), repo("team-a"))
    where = path("packagerepos", namespace, "team-a")
    for here, there in (("pywharf", "second"), ("second", "pywharf"), ("pywharf", "second")):
        apply(kube, namespace, repo("team-a", serverRef={"name": here}))
        expected = {
            "url": f"http://{here}.{namespace}.svc/repo/team-a/simple/",
            "in": {here: True, there: False},
            "counted": {here: 1, there: 0},
            "CronJobs": {f"{here}-index-team-a"},
        }
        wait_for(functools.partial(is_so, kube, namespace, where, expected), f"{expected}")


def is_so(kube: KubeClient, namespace: str, where: str, expected: dict[str, Any]) -> bool:
    """Return whether the repo is in the one server and not in the other."""
    servers = list(expected["in"])
    statuses = {name: (get_server(kube, namespace, name) or {}).get("status") or {} for name in servers}
    return expected == {
        "url": ((kube.get(where) or {}).get("status") or {}).get("url"),
        "in": {name: "[team-a]" in config_text(kube, namespace, name) for name in servers},
        "counted": {name: (status.get("repos") or {}).get("total") for name, status in statuses.items()},
        "CronJobs": cron_jobs(kube, namespace),
    }


def cron_jobs(kube: KubeClient, namespace: str) -> set[str]:
    return {one["metadata"]["name"] for one in kube.list(path("cronjobs", namespace, group="/apis/batch/v1"))}


def test_a_server_with_a_certificate(kube, namespace, kubelet, operator, tmp_path):
    """Clients use https; probes and the operator's requests do not."""
    made = certificates(tmp_path / "certificates")
    pair = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "certificate"},
        "stringData": {"tls.crt": made.cert.read_text(), "tls.key": made.key.read_text()},
    }
    apply(
        kube, namespace, pair, secret_of("team-a"), repo("team-a"), server(tls={"secretRef": {"name": "certificate"}})
    )
    found = wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "Ready", "True", longest_s=90)
    assert found["status"]["url"] == f"https://pywharf.{namespace}.svc/repo/team-a/simple/"
    found = wait_for_condition(kube, path("packageservers", namespace, SERVER_NAME), "Ready", "True")
    assert found["status"]["url"] == f"https://pywharf.{namespace}.svc"
    (url,) = kubelet.wait_for_urls(namespace, SERVER_NAME, 1)
    assert url.startswith("https://")
    context = made.client_context()
    context.check_hostname = False  # a pod's address is not in the certificate
    assert "<html" in page(url, "team-a", READ, context).lower()
    (pod,) = kubelet.pods(namespace, **{"app.kubernetes.io/component": "server"})
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_how_many_replicas(cluster, kube, namespace, operator):
    shared: dict[str, Any] = {"storage": {"size": "1Gi", "accessModes": ["ReadWriteMany"]}}
    where, deployment = (
        path("packageservers", namespace, SERVER_NAME),
        path("deployments", namespace, SERVER_NAME, APPS),
    )
    apply(kube, namespace, server(replicas=0, **shared))
    found = wait_for_condition(kube, where, "Ready", "False", reason="NoReadyReplica")
    assert "spec.replicas" in condition(found, "Ready")["message"]
    assert replicas(kube, deployment) == 0
    apply(kube, namespace, server(replicas=3, **shared))
    wait_for(lambda: replicas(kube, deployment) == 3, "three replicas")
    budget = f"poddisruptionbudgets/{SERVER_NAME}"
    wait_for(lambda: budget in objects_of(kube, namespace), "the budget")
    apply(kube, namespace, server(autoscaling={"minReplicas": 2, "maxReplicas": 5}, **shared))
    wait_for(lambda: not writes_replicas(kube.get(deployment)), "an operator that leaves the number alone")
    assert replicas(kube, deployment) == 3, "the servers go on while the autoscaler has not decided yet"
    autoscaler = f"horizontalpodautoscalers/{SERVER_NAME}"
    wait_for(lambda: autoscaler in objects_of(kube, namespace), "the autoscaler")
    cluster.kubectl("scale", "deployment/pywharf", "--replicas=4", f"--namespace={namespace}")
    apply(kube, namespace, secret_of("team-a"), repo("team-a"))
    wait_for_config(kube, namespace, "team-a")
    wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "Accepted", "True")
    assert replicas(kube, deployment) == 4, "the number is the autoscaler's"
    apply(kube, namespace, server(**shared))
    wait_for(lambda: replicas(kube, deployment) == 1, "one replica")
    wait_for(lambda: not {autoscaler, budget} & objects_of(kube, namespace), "no autoscaler and no budget")


APPS = "/apis/apps/v1"


def writes_replicas(deployment: Json | None) -> bool:
    """Return whether the operator owns the number of replicas."""
    entries = (deployment or {})["metadata"]["managedFields"]
    own = [one["fieldsV1"]["f:spec"] for one in entries if one["manager"] == "pywharf-operator"]
    return any("f:replicas" in fields for fields in own)


def replicas(kube: KubeClient, where: str) -> int | None:
    return ((kube.get(where) or {}).get("spec") or {}).get("replicas")


def test_refused_immediately(cluster, kube, namespace):
    """The API server refuses the object with the reason, before any operator sees it."""
    apply(kube, namespace, repo("team-a", repoName="team-a"))
    how = ("--server-side", "--force-conflicts", "--field-manager=tests", f"--namespace={namespace}")
    both = {"fileSystem": {}, "s3": {"bucket": "wheels"}}
    for manifest, words in (
        (repo("team-a", repoName="another"), "repoName"),
        (repo("team-a"), "repoName"),
        (repo("team-b", backend=both), "backend"),
        (server(replicas=2, autoscaling={"maxReplicas": 3}), "exclude each other"),
    ):
        with pytest.raises(KubectlError) as refused:
            cluster.kubectl("apply", *how, "-f", "-", input=json.dumps(manifest))
        assert words in str(refused.value)


ROUTES, MONITORS = "/apis/gateway.networking.k8s.io/v1", "/apis/monitoring.coreos.com/v1"


def small_crd(kind: str, plural: str, group: str) -> Json:
    """Return a CustomResourceDefinition that accepts any spec, instead of the real one."""
    open_object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": open_object}}}
    metadata: Json = {"name": f"{plural}.{group}"}
    if group.endswith(".k8s.io"):
        metadata["annotations"] = {"api-approved.kubernetes.io": "unapproved, of a test"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


@pytest.mark.timeout(240)
def test_ways_to_a_server_come_with_their_kinds(own_cluster, tmp_path):
    """Objects whose kinds the cluster does not know yet are reported, and created as soon as the kinds exist."""
    kube, namespace = own_cluster.client(), "default"
    asked: dict[str, Any] = {
        "ingress": {"host": "packages.example.com", "className": "some"},
        "httpRoute": {"parentRefs": [{"name": "gateway"}], "hostnames": ["packages.example.com"]},
        "serviceMonitor": {"labels": {"release": "prometheus"}},
    }
    where = path("packageservers", namespace, SERVER_NAME)
    route, monitor = (
        path("httproutes", namespace, SERVER_NAME, ROUTES),
        path("servicemonitors", namespace, SERVER_NAME, MONITORS),
    )
    crds = [
        small_crd("HTTPRoute", "httproutes", "gateway.networking.k8s.io"),
        small_crd("ServiceMonitor", "servicemonitors", "monitoring.coreos.com"),
    ]
    with operating.operating(tmp_path, operating.grant(own_cluster, namespace), namespace):
        apply(kube, namespace, server(**asked), secret_of("team-a"), repo("team-a"))
        found = wait_for_condition(kube, where, "Ready", "False", reason="ApiMissing")
        message = condition(found, "Ready")["message"]
        assert all(word in message for word in ("HTTPRoute", "spec.httpRoute", "ServiceMonitor", "spec.serviceMonitor"))
        wait_for_config(kube, namespace, "team-a")
        ingress = path("ingresses", namespace, SERVER_NAME, "/apis/networking.k8s.io/v1")
        (rule,) = wait_for(lambda: kube.get(ingress), "the Ingress")["spec"]["rules"]
        assert rule["host"] == "packages.example.com"
        own_cluster.kubectl("apply", "-f", "-", input=manifests(*crds))
        made = wait_for(lambda: kube.get(route), "the HTTPRoute", longest_s=60)
        assert made["spec"]["rules"] == [{"backendRefs": [{"name": SERVER_NAME, "port": 80}]}]
        made = wait_for(lambda: kube.get(monitor), "the ServiceMonitor", longest_s=60)
        assert made["metadata"]["labels"]["release"] == "prometheus"
        metrics = path("services", namespace, f"{SERVER_NAME}-metrics", "/api/v1")
        assert kube.get(metrics) is not None
        wait_for_condition(kube, where, "Ready", "False", reason="NoReadyReplica")
        apply(kube, namespace, server())
        wait_for(lambda: not any(map(kube.get, (route, monitor, ingress, metrics))), "none, as none is asked for")
    kube.close()
