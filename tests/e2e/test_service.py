"""What users do, from pods, against a server that the operator made on a real node."""

import base64
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.cluster import Cluster, KubectlError
from support.distributions import wheel
from support.kube_client import Json, KubeClient
from support.pods import ClientPod, client_pod, install_operator, restricted_namespace, rolled_out
from support.resources import apply, get_repo, path, repo, secret, secret_of, server, wait_for_condition
from support.waiting import wait_for

REPO = "team-a"
FOLDER = "/tmp"  # noqa: S108 - the pods' own
ROTATED_S = 10.0


@dataclass(frozen=True)
class Site:
    """One server with one repo, and pods of users."""

    cluster: Cluster
    kube: KubeClient
    namespace: str
    inside: ClientPod
    outside: ClientPod
    """In another namespace."""

    @property
    def host(self) -> str:
        return f"pywharf.{self.namespace}.svc"

    def index(self, password: str = f"{REPO}-read-value") -> str:
        return f"http://{REPO}:{password}@{self.host}/repo/{REPO}/simple/"

    def publish(self, folder: Path, name: str) -> None:
        made = wheel(folder, name)
        content = base64.b64encode(made.read_bytes()).decode()
        self.inside.run("sh", "-c", f"base64 -d > $HOME/{made.name}", input=content)
        where = f"--repository-url=http://{self.host}/repo/{REPO}/simple/"
        named = (f"--username={REPO}", f"--password={REPO}-write-value")
        self.inside.run("twine", "upload", "--non-interactive", where, *named, f"{FOLDER}/{made.name}")

    def download(self, name: str, to: str, index: str = "") -> tuple[str, ...]:
        trusted = ("--trusted-host", self.host)
        flags = ("--no-cache-dir", "--no-deps", "--disable-pip-version-check", "--retries=0")
        return ("pip", "download", *flags, *trusted, f"--index-url={index or self.index()}", f"--dest={to}", name)


@pytest.fixture(scope="module")
def site(pod_cluster: Cluster) -> Iterator[Site]:
    cluster = pod_cluster
    home, other = restricted_namespace(cluster), restricted_namespace(cluster)
    kube = cluster.client()
    install_operator(cluster, home)
    apply(kube, home, server(), secret_of(REPO), repo(REPO))
    wait_for_condition(kube, path("packagerepos", home, REPO), "Ready", "True", longest_s=90)
    inside, outside = client_pod(cluster, home), client_pod(cluster, other)
    yield Site(cluster, kube, home, inside, outside)
    for namespace in (home, other):
        kube.delete(f"/api/v1/namespaces/{namespace}")
    kube.close()


def test_twine_publishes_and_pip_of_another_namespace_installs(site: Site, tmp_path: Path):
    site.publish(tmp_path, "first")
    trusted = ("--trusted-host", site.host, "--disable-pip-version-check", "--no-cache-dir")
    site.outside.run("pip", "install", "--target=/tmp/first", *trusted, f"--index-url={site.index()}", "first")
    assert site.outside.run(
        "python3", "-c", "import sys; sys.path[:0] = ['/tmp/first']; import first; print(first.VALUE)"
    )
    uv = ("uv", "pip", "install", "--no-cache", "--target=/tmp/first-uv", f"--default-index={site.index()}", "first")
    site.outside.run(*uv)


def test_wrong_credentials_are_refused(site: Site):
    index = site.index("wrong")
    said = site.outside.fails(*site.download("first", f"{FOLDER}/wrong", index), "--no-input")
    assert "401" in said or "No matching distribution" in said


def test_the_operator_watches_though_its_user_has_no_name(site: Site):
    """Without its watches it still works, seconds late."""
    where = ("--namespace", site.namespace, "deployment/pywharf-operator")
    assert "start again" not in site.cluster.kubectl("logs", *where)


def test_pods_that_do_not_need_the_api_have_no_token(site: Site):
    selector = "--selector=pywharf.dev/server=pywharf"
    where = ("--namespace", site.namespace)
    shown = site.cluster.kubectl("get", "pods", selector, *where, "-o", "jsonpath={.items[*].spec.volumes[*].name}")
    assert shown
    assert "kube-api-access" not in shown


def test_an_index_job_writes_its_folder_and_its_counts_reach_the_status(site: Site, tmp_path: Path):
    site.publish(tmp_path, "counted")
    where = path("packagerepos", site.namespace, REPO)
    site.kube.patch(where, {"metadata": {"annotations": {"pywharf.dev/update-index": f"{time.time()}"}}})

    def counted() -> Json:
        found = get_repo(site.kube, site.namespace, REPO)
        index: Json = ((found or {}).get("status") or {}).get("index") or {}
        return index if index.get("files") else {}

    index = wait_for(counted, "counts in status.index", longest_s=90)
    assert index["projects"] >= 1
    wait_for_condition(site.kube, where, "IndexUpToDate", "True", longest_s=60)


def test_a_rotated_secret_is_served_within_seconds_by_the_same_pod(site: Site, tmp_path: Path):
    site.publish(tmp_path, "rotated")
    pods = ("get", "pods", "--selector=app.kubernetes.io/component=server", "--namespace", site.namespace)
    names = site.cluster.kubectl(*pods, "-o", "name")
    apply(site.kube, site.namespace, secret(REPO, read="rotated-read", write=f"{REPO}-write-value"))
    began = time.monotonic()
    try:
        wait_for(lambda: _downloads(site, "rotated", "rotated-read"), "the new secret", longest_s=60)
        took = time.monotonic() - began
    finally:
        apply(site.kube, site.namespace, secret_of(REPO))
        wait_for(lambda: _downloads(site, "rotated", f"{REPO}-read-value"), "the old secret", longest_s=60)
    print(f"rotated secret served after {took:.1f} s")  # noqa: T201 - a measurement
    assert took < ROTATED_S
    assert site.cluster.kubectl(*pods, "-o", "name") == names


def test_a_rolling_update_loses_no_download(pod_cluster: Cluster, tmp_path: Path):
    """Two replicas on a shared volume: one of the node's folders is that."""
    cluster, name = pod_cluster, restricted_namespace(pod_cluster)
    kube = cluster.client()
    install_operator(cluster, name)
    shared: Json = {"storage": {"size": "1Gi", "accessModes": ["ReadWriteMany"]}, "replicas": 2}
    apply(kube, name, server(**shared), secret_of(REPO), repo(REPO))
    wait_for_condition(kube, path("packagerepos", name, REPO), "Ready", "True", longest_s=90)
    rolled_out(cluster, name, "pywharf")
    pod = client_pod(cluster, name)
    site = Site(cluster, kube, name, pod, pod)
    site.publish(tmp_path, "steady")
    ended, failures, count = threading.Event(), list[str](), 0

    def loop() -> None:
        nonlocal count
        while not ended.is_set():
            try:
                pod.run(*site.download("steady", f"{FOLDER}/steady-{count}"))
            except KubectlError as error:
                failures.append(error.stderr)
            count += 1

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        wait_for(lambda: count >= 2, "the first downloads", longest_s=60)
        apply(kube, name, server(**shared, podTemplate={"metadata": {"annotations": {"rolled": "yes"}}}))
        _all_new(site)
        done = count
        wait_for(lambda: count >= done + 2, "downloads after it", longest_s=60)
    finally:
        ended.set()
        thread.join()
        kube.delete(f"/api/v1/namespaces/{name}")
        kube.close()
    assert not failures
    print(f"{count} downloads during the rolling update")  # noqa: T201 - a measurement


def _all_new(site: Site) -> None:
    selector = "app.kubernetes.io/component=server"

    def rolled() -> bool:
        pods = site.kube.list(path("pods", site.namespace, group="/api/v1"), labelSelector=selector)
        new = [pod for pod in pods if pod["metadata"].get("annotations", {}).get("rolled") == "yes"]
        ready = [
            pod
            for pod in new
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        ]
        return len(ready) == len(pods) == 2

    wait_for(rolled, "two new pods and no old one", longest_s=100)


def _downloads(site: Site, name: str, password: str) -> bool:
    try:
        site.outside.run(*site.download(name, f"{FOLDER}/rotated", site.index(password)), "--no-input")
    except KubectlError:
        return False
    return True
