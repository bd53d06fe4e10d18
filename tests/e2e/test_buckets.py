"""The chart on a real node with packages in a bucket: no volume, two replicas, clients, the index Job, faults."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import apply, condition, path, repo, secret, wait_for_condition, wait_for_object
from support.distributions.wheels import wheel
from support.node.node import Node, brought
from support.node.pods import client_pod, restricted_namespace, rolled_out
from support.node.release import IMAGE_VALUES, Release
from support.node.served_repo import FOLDER, Site
from support.object_stores.store import ObjectStore
from support.object_stores.versitygw import BUCKET, secret_of
from support.operator.chart import CHART
from support.waiting import wait_for

NAME = "wheels"
REPLICAS = 2
pytestmark = pytest.mark.timeout(300)  # the first test may wait for the node, the chart and two replicas
_POST = """
import base64, json, sys, urllib.request
url, user, password, body = sys.argv[1:]
token = base64.b64encode(f"{user}:{password}".encode()).decode()
headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
request = urllib.request.Request(url, body.encode(), headers)
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""
_GET = """
import base64, sys, urllib.request
url, user, password = sys.argv[1:]
token = base64.b64encode(f"{user}:{password}".encode()).decode()
headers = {"Authorization": f"Basic {token}", "Accept": "application/vnd.pypi.simple.v1+json"}
print(urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20).read().decode())
"""


@pytest.fixture(scope="module")
def endpoint(node: Node, s3: ObjectStore) -> str:
    """The store's URL for pods."""
    return f"http://{brought(node, 's3', urlsplit(s3.endpoint).port or 0)}"


@pytest.fixture(scope="module")
def site(node: Node, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The chart's release with a server that has no volume, and a client in another namespace."""
    cluster = node.cluster
    release = Release(cluster, restricted_namespace(cluster), tmp_path_factory.mktemp("buckets"))
    other = restricted_namespace(cluster)
    kube = cluster.client()
    server = {
        "storage": None,
        "replicas": REPLICAS,
        "staging": {"sizeLimit": "64Mi"},
        "allowedEndpoints": [urlsplit(endpoint).netloc],
        "upstream": {"mode": "None"},
    }
    try:
        release.helm("install", str(CHART), values=IMAGE_VALUES | {"server": server})
        rolled_out(cluster, release.namespace, "pywharf-operator")
        wait_for_condition(kube, path("packageservers", release.namespace, "pywharf"), "Ready", "True", longest_s=90)
        rolled_out(cluster, release.namespace, "pywharf")
        made = Site(cluster, kube, release.namespace, client_pod(cluster, other))
        made.inside.reach(made.host)
        yield made
    finally:
        release.remove()
        cluster.kubectl("delete", "namespace", other, "--wait=false")
        kube.close()


@pytest.fixture(scope="module")
def wheels(site: Site, s3: ObjectStore, endpoint: str) -> str:
    """A repo in a bucket that every replica serves; returns its path in the API."""
    return served(site, NAME, endpoint, s3.secret)


def served(site: Site, name: str, endpoint: str, keys: str, **backend: str) -> str:
    values = {"read": f"{name}-read-value", "write": f"{name}-write-value", "backend": keys}
    where: Json = {"bucket": BUCKET, "prefix": f"e2e-{name}/", "endpoint": endpoint, "allowHTTP": True} | backend
    credentials = {f"{use}SecretRef": {"name": name, "key": use} for use in values}
    apply(site.kube, site.namespace, secret(name, **values), repo(name, backend={"s3": where}, credentials=credentials))
    return path("packagerepos", site.namespace, name)


def test_no_volume_at_all(site: Site, wheels: str):
    wait_for_condition(site.kube, wheels, "Ready", "True", longest_s=90)
    wait_for_condition(site.kube, wheels, "IndexUpToDate", "True", longest_s=120)
    assert site.kubectl("get", "persistentvolumeclaims", "--output=name").split() == []
    pods = json.loads(site.kubectl("get", "pods", "--output=json"))["items"]
    assert not [volume for pod in pods for volume in pod["spec"]["volumes"] if "persistentVolumeClaim" in volume]
    assert len(site.server_pods()) == REPLICAS


def test_from_twine_to_pip_and_uv(site: Site, wheels: str, tmp_path: Path):
    """A client is redirected to the store by a signed URL; it sends the store no credentials of its own."""
    wait_for_condition(site.kube, wheels, "Ready", "True", longest_s=90)
    site.publish(tmp_path, "crate", NAME)
    index = site.index(f"{NAME}-read-value", NAME)
    pip = ("pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--trusted-host", site.host)
    site.inside.run(*pip, f"--index-url={index}", f"--target={FOLDER}/pip", "crate")
    site.inside.run("uv", "pip", "install", "--no-cache", f"--target={FOLDER}/uv", f"--default-index={index}", "crate")
    changed = site.bring(wheel(tmp_path, "crate", payload=b"VALUE = 2\n"))
    where = (f"--repository-url=http://{site.host}/repo/{NAME}/simple/", f"--username={NAME}")
    said = site.inside.fails("twine", "upload", "--non-interactive", *where, f"--password={NAME}-write-value", changed)
    assert "File already exists" in said
    # Other tests publish here, too, before or after this one; each of their projects has one file.
    root = f"http://{site.host}/repo/{NAME}/simple/"
    published = json.loads(site.inside.run("python3", "-c", _GET, root, NAME, f"{NAME}-read-value"))["projects"]
    assert {"name": "crate"} in published
    site.kube.patch(wheels, {"metadata": {"annotations": {"pywharf.dev/update-index": "now"}}})

    def is_counted(live: Json) -> bool:
        return bool(live.get("status", {}).get("index", {}).get("files") == len(published))

    wait_for_object(site.kube, wheels, is_counted, f"the count of {len(published)} files", longest_s=120)


def test_a_yank_is_shown_by_every_replica(site: Site, wheels: str, tmp_path: Path):
    wait_for_condition(site.kube, wheels, "Ready", "True", longest_s=90)
    site.publish(tmp_path, "barrel", NAME)
    url = f"http://{site.host}/repo/{NAME}/-/projects/barrel/yank"
    body = json.dumps({"version": "1.0", "reason": "leaks"})
    site.inside.run("python3", "-c", _POST, url, NAME, f"{NAME}-write-value", body)
    addresses = site.server_pods("{.status.podIP}")
    assert len(addresses) == REPLICAS

    def yanked() -> bool:
        pages = [f"http://{address}:8888/repo/{NAME}/simple/barrel/" for address in addresses]
        read = [site.inside.run("python3", "-c", _GET, page, NAME, f"{NAME}-read-value") for page in pages]
        return all(file["yanked"] == "leaks" for page in read for file in json.loads(page)["files"])

    wait_for(yanked, "the yank on every replica", longest_s=60)


FAULTS = {
    "unknown-key": (secret_of("nobody", "x" * 24), {}, "put valid keys into the repo's secret"),
    "no-bucket": (None, {"bucket": "no-such-bucket"}, "does not exist; create it, or correct"),
}


def test_a_fault_is_told_with_its_remedy(site: Site, s3: ObjectStore, endpoint: str):
    made = {name: served(site, name, endpoint, keys or s3.secret, **more) for name, (keys, more, _) in FAULTS.items()}
    for name, where in made.items():
        found = wait_for_condition(site.kube, where, "Programmed", "False", reason="BrokenOnReplica", longest_s=90)
        assert FAULTS[name][-1] in condition(found, "Programmed")["message"]


def test_keys_are_replaced_without_a_restart(site: Site, s3: ObjectStore, endpoint: str, wheels: str):
    """The other repo of the server stays ready all the time, and so do the pods."""
    name, pods = "rotated", site.server_pods()
    where = served(site, name, endpoint, s3.secret)
    wait_for_condition(site.kube, where, "Ready", "True", longest_s=90)
    for keys, status, reason in (
        ('access_key_id = "half"', "False", "SecretInvalid"),
        (secret_of("nobody", "x" * 24), "False", "BrokenOnReplica"),
        (s3.secret, "True", "Ready"),
    ):
        apply(site.kube, site.namespace, secret(name, read="a", write="b", backend=keys))
        ready = wait_for_condition(site.kube, where, "Ready", status, reason=reason, longest_s=90)
        assert "half" not in json.dumps(ready["status"])
        assert ready_now(site.kube, wheels)
    assert site.server_pods() == pods


def ready_now(kube: KubeClient, where: str) -> bool:
    return bool(condition(kube.get(where), "Ready").get("status") == "True")
