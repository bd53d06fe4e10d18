"""PackageRepos in a bucket, from manifests to clients: the operator, Jobs, real servers and a real S3 server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.clients.computer import Computer, Index
from support.clients.installing import install
from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import (
    SERVER_NAME,
    apply,
    condition,
    get_repo,
    path,
    repo,
    secret,
    server,
    wait_for_condition,
)
from support.distributions.wheels import wheel
from support.kubelet.index_pods import annotate
from support.kubelet.stand_in import Kubelet
from support.object_stores.store import ObjectStore
from support.object_stores.versitygw import secret_of
from support.operator import operating
from support.operator.store_keys import AZURE_KEY
from support.server.calling import call
from support.waiting import wait_for

READ, WRITE = "wheels-read-value", "wheels-write-value"
LONG_S = 90.0
LENDING: Json = {"serviceAccount": {"annotations": {"example.com/role": "wheels"}}}


@pytest.fixture
def operator(cluster: Cluster, namespace: str, kubelet: Kubelet, tmp_path: Path) -> Iterator[operating.Operator]:
    with operating.operating(tmp_path / "operator", operating.grant(cluster, namespace), namespace) as running:
        running.secrets |= {READ, WRITE}
        yield running
        print(running.text())


def stateless(s3: ObjectStore, **spec: Any) -> Json:
    """Return a server without a volume, whose repos may name this store."""
    made = server(allowedEndpoints=[urlsplit(s3.endpoint).netloc], **spec)
    del made["spec"]["storage"]
    return made


def bucket(s3: ObjectStore, name: str = "wheels", *, keys: str | None = None, **backend: Any) -> tuple[Json, Json]:
    """Return a Secret and a repo of that name, with a prefix of its own in the bucket."""
    table = s3.table()
    where = {"bucket": table["bucket"], "prefix": table["prefix"], "endpoint": s3.endpoint, "allowHTTP": True} | backend
    refs = {f"{use}SecretRef": {"name": name, "key": use} for use in ("read", "write", "backend")}
    values = {"read": READ, "write": WRITE, "backend": s3.secret if keys is None else keys}
    return secret(name, **values), repo(name, backend={"s3": where}, credentials=refs)


def at(namespace: str, name: str = "wheels") -> str:
    return path("packagerepos", namespace, name)


def served(kube: KubeClient, kubelet: Kubelet, namespace: str, replicas: int) -> list[str]:
    """Wait until the index was updated for the first time. Returns the URLs of the replicas."""
    urls = kubelet.wait_for_urls(namespace, SERVER_NAME, replicas, longest_s=LONG_S)
    for kind in ("Ready", "IndexUpToDate"):
        wait_for_condition(kube, at(namespace), kind, "True", longest_s=LONG_S)
    return urls


def status(url: str, page: str = "") -> int:
    return call(f"{url}/repo/wheels/simple/{page}", auth=f"wheels:{READ}").status


def known_to(url: str, project: str) -> None:
    """Wait until the replica serves the project."""
    wait_for(lambda: status(url, f"{project}/") == 200, f"{project} at {url}", longest_s=LONG_S)


@pytest.mark.timeout(240)
def test_two_replicas_on_one_bucket(kube, namespace, kubelet, operator, s3, tmp_path):
    operator.secrets |= {line.partition('"')[2].strip('"') for line in s3.secret.splitlines()}
    computer, file = Computer(tmp_path / "home"), wheel(tmp_path, "parcel")
    apply(kube, namespace, *bucket(s3), stateless(s3, replicas=2))
    one, other = served(kube, kubelet, namespace, 2)
    flags = ("--non-interactive", "--disable-progress-bar", f"--repository-url={one}/repo/wheels/simple/")
    computer.run("twine", "upload", *flags, "--username=wheels", f"--password={WRITE}", file)
    for number, url in enumerate((one, other)):
        known_to(url, "parcel")
        index = Index(f"{url}/repo/wheels/simple/", "wheels", READ)
        python, _ = install("pip", computer, index, "parcel", into=f"at-{number}")
        assert python.installed() == {"parcel": "1.0"}
    annotate(kube, namespace, "wheels", "now")

    def counted() -> bool:
        found: Json = ((get_repo(kube, namespace, "wheels") or {}).get("status") or {}).get("index") or {}
        return bool(found.get("lastTrigger") == "now" and found.get("files") == 1)

    wait_for(counted, "the Job's count", longest_s=LONG_S)
    assert kube.list(path("persistentvolumeclaims", namespace, group="/api/v1")) == []


FAULTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "unknown-key": ({"keys": secret_of("nobody", "x" * 24)}, "Programmed", "BrokenOnReplica", "put valid keys into"),
    "no-bucket": ({"bucket": "no-such-bucket"}, "Programmed", "BrokenOnReplica", "does not exist; create it"),
    "half-a-key": ({"keys": 'access_key_id = "hush"'}, "SecretsResolved", "SecretInvalid", "lacks secret_access_key"),
    "keys-of-azure": ({"keys": AZURE_KEY}, "SecretsResolved", "SecretInvalid", "lacks access_key_id and"),
    "not-listed": ({"endpoint": "http://10.0.0.5:9000"}, "Accepted", "EndpointNotAllowed", "'http://10.0.0.5:9000'"),
}


@pytest.mark.timeout(240)
def test_a_fault_is_the_repo_s_own_and_told_with_its_remedy(kube, namespace, kubelet, operator, s3):
    operator.secrets.add("hush")
    apply(kube, namespace, *bucket(s3), stateless(s3))
    (url,) = served(kube, kubelet, namespace, 1)
    for name, (fault, kind, reason, remedy) in FAULTS.items():
        apply(kube, namespace, *bucket(s3, name, **fault))
        found = wait_for_condition(kube, at(namespace, name), kind, "False", reason=reason, longest_s=LONG_S)
        assert remedy in condition(found, kind)["message"], name
    assert status(url) == 200
    assert condition(kube.get(at(namespace)), "Ready")["status"] == "True"
    # The same repo with the right keys, without a restart.
    keys, _ = bucket(s3, "unknown-key")
    apply(kube, namespace, keys)
    wait_for_condition(kube, at(namespace, "unknown-key"), "Ready", "True", longest_s=LONG_S)
    assert kubelet.wait_for_urls(namespace, SERVER_NAME, 1, longest_s=LONG_S) == [url]


def test_an_identity_is_lent_to_listed_namespaces(kube, namespace, operator, s3):
    """The list alone changes what the repo is, and under which account its Job runs."""
    _, lent = bucket(s3)
    del lent["spec"]["credentials"]["backendSecretRef"]
    for field in ("endpoint", "allowHTTP"):  # the identity is for its own cloud alone
        del lent["spec"]["backend"]["s3"][field]
    apply(kube, namespace, secret("wheels", read=READ, write=WRITE), lent, stateless(s3, **LENDING))
    expected = "have spec.ambientIdentity.namespaces of PackageServer"
    found = wait_for_condition(
        kube, at(namespace), "SecretsResolved", "False", reason="AmbientIdentityNotAllowed", longest_s=LONG_S
    )
    assert expected in condition(found, "SecretsResolved")["message"]
    apply(kube, namespace, stateless(s3, ambientIdentity={"namespaces": [namespace]}, **LENDING))
    wait_for_condition(kube, at(namespace), "SecretsResolved", "True", longest_s=LONG_S)
    where = path("cronjobs", namespace, "pywharf-index-wheels", "/apis/batch/v1")
    job = wait_for(lambda: kube.get(where), "the CronJob", longest_s=LONG_S)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == SERVER_NAME
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp"]


def test_what_others_add_for_the_identity_stays(kube, namespace, operator, s3):
    """A cloud's tools annotate the ServiceAccount and inject into pod templates; only what is ours is restored."""
    apply(kube, namespace, stateless(s3, **LENDING))
    account = path("serviceaccounts", namespace, SERVER_NAME, "/api/v1")
    deployment = path("deployments", namespace, SERVER_NAME, "/apis/apps/v1")
    wait_for(lambda: kube.get(account) and kube.get(deployment), "the server's objects", longest_s=LONG_S)
    injected = {
        "containers": [{"name": "server", "env": [{"name": "AWS_ROLE_ARN", "value": "arn"}]}],
        "volumes": [{"name": "aws-iam-token", "emptyDir": {}}],
    }
    kube.patch(deployment, {"spec": {"template": {"spec": injected}}}, "application/strategic-merge-patch+json")
    kube.patch(account, {"metadata": {"annotations": {"cloud.example/id": "7", "example.com/role": "stolen"}}})

    def restored() -> bool:
        annotations = (kube.get(account) or {})["metadata"]["annotations"]
        return bool(annotations["example.com/role"] == "wheels" and annotations["cloud.example/id"] == "7")

    wait_for(restored, "our annotation, beside the other one", longest_s=LONG_S)
    spec = (kube.get(deployment) or {})["spec"]["template"]["spec"]
    assert {"name": "AWS_ROLE_ARN", "value": "arn"} in spec["containers"][0]["env"]
    assert "aws-iam-token" in [volume["name"] for volume in spec["volumes"]]


def test_an_account_of_another_maker_replaces_ours(kube, namespace, operator, s3):
    apply(kube, namespace, stateless(s3))
    account = path("serviceaccounts", namespace, SERVER_NAME, "/api/v1")
    wait_for(lambda: kube.get(account), "the ServiceAccount", longest_s=LONG_S)
    apply(kube, namespace, stateless(s3, serviceAccount={"name": "cloud"}))
    wait_for(lambda: kube.get(account) is None, "the end of the ServiceAccount", longest_s=LONG_S)
    deployment = kube.get(path("deployments", namespace, SERVER_NAME, "/apis/apps/v1")) or {}
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "cloud"


def test_an_autoscaler_and_no_volume(kube, namespace, operator, s3):
    apply(
        kube, namespace, stateless(s3, autoscaling={"minReplicas": 2, "maxReplicas": 5}, staging={"sizeLimit": "1Gi"})
    )
    where = path("horizontalpodautoscalers", namespace, SERVER_NAME, "/apis/autoscaling/v2")
    scaler = wait_for(lambda: kube.get(where), "the autoscaler", longest_s=LONG_S)
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 5)
    deployment = kube.get(path("deployments", namespace, SERVER_NAME, "/apis/apps/v1")) or {}
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    data = next(one for one in deployment["spec"]["template"]["spec"]["volumes"] if one["name"] == "data")
    assert data["emptyDir"] == {"sizeLimit": "1Gi"}
    assert kube.list(path("persistentvolumeclaims", namespace, group="/api/v1")) == []
