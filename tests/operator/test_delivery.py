"""Delivery from `kubectl apply` to clients of every replica: the operator and real servers on a real API server."""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clients.computer import Computer, Index
from support.clients.installing import install
from support.clients.publishing import upload
from support.cluster.cluster import Cluster
from support.cluster.kube_client import KubeClient
from support.cluster.resources import (
    SERVER_NAME,
    apply,
    condition,
    get_repo,
    path,
    repo,
    secret,
    secret_of,
    server,
    wait_for_condition,
)
from support.distributions.wheels import wheel
from support.kubelet.stand_in import Kubelet
from support.operator import operating
from support.server.asking import index_status
from support.waiting import wait_for

REPLICAS = 3
SHARED = {"size": "1Gi", "accessModes": ["ReadWriteMany"]}
READ = "team-a-read-value"
REFUSED = "The new configuration is refused"
"""The log message of a server that sees only part of a new set of files."""


@pytest.fixture
def operator(cluster: Cluster, namespace: str, kubelet: Kubelet, tmp_path: Path) -> Iterator[operating.Operator]:
    with operating.operating(tmp_path / "operator", operating.grant(cluster, namespace), namespace) as running:
        running.secrets |= {READ, "team-a-write-value"}
        yield running
        print(running.text())


@pytest.fixture
def urls(kube: KubeClient, namespace: str, kubelet: Kubelet, operator: operating.Operator) -> list[str]:
    """Three replicas that serve the repo team-a."""
    apply(kube, namespace, secret_of("team-a"), repo("team-a"), server(storage=SHARED, replicas=REPLICAS))
    found = kubelet.wait_for_urls(namespace, SERVER_NAME, REPLICAS, longest_s=90)
    wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "Ready", "True")
    return found


def pods_of(kubelet: Kubelet, namespace: str) -> list[dict[str, Any]]:
    return kubelet.pods(namespace, **{"app.kubernetes.io/component": "server"})


def test_packages_install_from_every_replica(kube, namespace, kubelet, urls, tmp_path):
    computer = Computer(tmp_path / "home")
    index = Index(f"{urls[0]}/repo/team-a/simple/", "team-a", "team-a-write-value")
    upload(computer, index, wheel(tmp_path, "parcel"))
    for number, url in enumerate(urls):
        python, _ = install("pip", computer, Index(index.url, "team-a", READ).at(url), "parcel", into=f"at-{number}")
        assert python.value("parcel") == "1"
    found = wait_for_condition(kube, path("packageservers", namespace, SERVER_NAME), "Ready", "True")
    assert found["status"]["repos"] == {"total": 1, "ready": 1}
    assert condition(get_repo(kube, namespace, "team-a"), "Programmed")["status"] == "True"


def test_a_change_is_on_every_replica_within_seconds(kube, namespace, kubelet, operator, urls):
    """The annotation delivers the change: without it, volumes are refreshed only once a minute."""
    before = {pod["metadata"]["name"] for pod in pods_of(kubelet, namespace)}
    seconds = {}
    operator.secrets |= {"team-b-read-value", "another-read-value"}
    for what, objects, name, value in (
        ("new repo", (secret_of("team-b"), repo("team-b")), "team-b", "team-b-read-value"),
        ("rotation", (secret("team-a", read="another-read-value", write="w-secret"),), "team-a", "another-read-value"),
    ):
        began = time.monotonic()
        apply(kube, namespace, *objects)
        wait_for(functools.partial(served, urls, name, value), what)
        seconds[what] = round(time.monotonic() - began, 2)
    # Asking for a value that is yet to come counts as wrong: a slow machine asks so often that it is slowed (429).
    assert {index_status(url, "team-a", READ) for url in urls} <= {401, 429}
    after = pods_of(kubelet, namespace)
    assert {pod["metadata"]["name"] for pod in after} == before
    assert all(pod["status"]["containerStatuses"][0]["restartCount"] == 0 for pod in after)
    print(seconds)
    assert max(seconds.values()) < 15, seconds


def served(urls: list[str], name: str, value: str) -> bool:
    return all(index_status(url, name, value) == 200 for url in urls)


@pytest.mark.parametrize(
    "held", [("Secret",), ("ConfigMap",), ("Secret", "ConfigMap")], ids=["config-first", "secret-first", "neither"]
)
def test_a_replica_never_serves_half_a_set(kube, namespace, kubelet, urls, held):
    """A replica serves its old set until every part of the new one is there. Until then the repo is not Programmed."""
    late = pods_of(kubelet, namespace)[0]
    name, address = late["metadata"]["name"], late["status"]["podIP"]
    (behind,) = [url for url in urls if address in url]
    others = [url for url in urls if url != behind]
    kubelet.hold_volumes(name, *held)
    rotated = secret("team-a", read="another-read-value", write="another-write-value")
    apply(kube, namespace, rotated, secret_of("team-b"), repo("team-b"))
    wait_for(
        lambda: served(others, "team-a", "another-read-value") and served(others, "team-b", "team-b-read-value"), ""
    )
    where = path("packagerepos", namespace, "team-b")
    wait_for(
        lambda: "2 of 3 ready" in condition(kube.get(where), "Programmed").get("message", ""),
        "Programmed to tell of the others",
    )
    wait_for_condition(kube, where, "Programmed", "False", reason="Waiting")
    assert index_status(behind, "team-a", READ) == 200
    assert index_status(behind, "team-a", "another-read-value") in {401, 429}
    assert index_status(behind, "team-b", "team-b-read-value") in {401, 404}
    kubelet.release(name)
    wait_for(lambda: served(urls, "team-a", "another-read-value"), "the late replica")
    wait_for(lambda: served(urls, "team-b", "team-b-read-value"), "the late replica")
    wait_for_condition(kube, where, "Programmed", "True")


def test_a_set_of_several_secrets_is_whole_or_not_served(kube, namespace, kubelet, operator):
    """The Secrets of credentials that are too large for one may also arrive in any order."""
    names = [f"team-{number}" for number in range(60)]
    large = "w" * 15_000
    apply(kube, namespace, *(secret(name, read=f"{name}-read-value", write=large) for name in names))
    apply(kube, namespace, *(repo(name, index={"suspend": True}) for name in names))
    apply(kube, namespace, server(storage=SHARED, replicas=1))
    urls = kubelet.wait_for_urls(namespace, SERVER_NAME, 1, longest_s=90)
    wait_for(lambda: served(urls, names[-1], f"{names[-1]}-read-value"), "the repos")
    (pod,) = pods_of(kubelet, namespace)
    replica = pod["metadata"]["name"]
    shards = [f"{SERVER_NAME}-credentials", f"{SERVER_NAME}-credentials-1"]
    for late, early in (shards, shards[::-1]):
        keys = kube.get(path("secrets", namespace, early, "/api/v1"))["data"]
        name = next(key.removesuffix(".read") for key in keys if key.endswith(".read"))
        config = kubelet.volume(replica, "config") / "config.toml"
        before, refused = config.read_text(), kubelet.log(replica).count(REFUSED)
        kubelet.hold_volumes(replica, f"Secret/{late}")
        apply(kube, namespace, secret(name, read="another-read-value", write=large))
        wait_for(functools.partial(_differs, config, before), "all but one Secret")
        wait_for(functools.partial(_logs_another_refusal, kubelet, replica, refused), "the replica to look at them")
        wait_for_condition(kube, path("packagerepos", namespace, name), "Programmed", "False", reason="Waiting")
        assert served(urls, name, f"{name}-read-value")
        assert index_status(urls[0], name, "another-read-value") in {401, 429}
        kubelet.release(replica)
        wait_for(functools.partial(served, urls, name, "another-read-value"), "the whole set")


def _differs(file: Path, text: str) -> bool:
    return file.read_text() != text


def _logs_another_refusal(kubelet: Kubelet, replica: str, refused: int) -> bool:
    return kubelet.log(replica).count(REFUSED) > refused


def test_a_frozen_replica_is_waited_for_by_name(kube, namespace, kubelet, urls):
    frozen = pods_of(kubelet, namespace)[0]["metadata"]["name"]
    kubelet.freeze(frozen)
    kubelet.wait_for_urls(namespace, SERVER_NAME, REPLICAS - 1)
    apply(kube, namespace, secret_of("team-b"), repo("team-b"))
    wait_for_condition(kube, path("packagerepos", namespace, "team-b"), "Programmed", "True")
    where = path("packageservers", namespace, SERVER_NAME)
    wait_for(lambda: (kube.get(where) or {})["status"]["replicas"] == REPLICAS - 1, "the server's count of replicas")
    kubelet.thaw(frozen)
    again = kubelet.wait_for_urls(namespace, SERVER_NAME, REPLICAS)
    wait_for(lambda: served(again, "team-b", "team-b-read-value"), "the replica that was away")


def test_a_trigger_runs_one_job_whose_result_is_in_the_status(kube, namespace, kubelet, urls, tmp_path):
    def result() -> dict[str, Any]:
        return ((get_repo(kube, namespace, "team-a") or {}).get("status") or {}).get("index") or {}

    wait_for(lambda: result().get("files") == 0, "the update that a new repo gets", longest_s=60)
    index = Index(f"{urls[0]}/repo/team-a/simple/", "team-a", "team-a-write-value")
    upload(Computer(tmp_path / "home"), index, wheel(tmp_path, "parcel"))
    for _ in range(2):
        triggered = repo("team-a")
        triggered["metadata"]["annotations"] = {"pywharf.dev/update-index": "once"}
        apply(kube, namespace, triggered)
    wait_for(lambda: result().get("files") == 1, f"the result; now {result()}", longest_s=60)
    assert result()["lastTrigger"] == "once"
    assert result()["projects"] == 1
    jobs = kube.list(path("jobs", namespace, group="/apis/batch/v1"))
    assert len(jobs) == 2, [job["metadata"]["name"] for job in jobs]
    wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "IndexUpToDate", "True")


def test_the_servers_serve_while_the_operator_is_away(kube, namespace, kubelet, operator, urls):
    operator.kill()
    apply(kube, namespace, secret("team-a", read="another-read-value", write="another-write-value"))
    assert served(urls, "team-a", READ)
    victim = pods_of(kubelet, namespace)[0]["metadata"]["name"]
    kubelet.kill(victim)
    again = wait_for_restart(kubelet, namespace, victim)
    assert served(again(), "team-a", READ)


def test_a_rollout_drops_no_request(kube, namespace, kubelet, urls):
    """Each replica that was ready a moment ago gets requests, as from users of a Service."""
    old = {pod["metadata"]["uid"] for pod in pods_of(kubelet, namespace)}
    changed = server(storage=SHARED, replicas=REPLICAS, podTemplate={"metadata": {"annotations": {"rollout": "1"}}})
    apply(kube, namespace, changed)
    answers: list[int] = []

    def rolled_out() -> bool:
        ready = kubelet.urls(namespace, SERVER_NAME)
        assert len(ready) >= REPLICAS
        answers.extend(index_status(url, "team-a", READ) for url in ready)
        return not old & {pod["metadata"]["uid"] for pod in pods_of(kubelet, namespace)}

    wait_for(rolled_out, "the rollout", longest_s=90)
    assert set(answers) == {200}
    assert len(answers) > 2 * REPLICAS


def wait_for_restart(kubelet: Kubelet, namespace: str, name: str) -> Callable[[], list[str]]:
    def restarted() -> bool:
        (pod,) = [one for one in pods_of(kubelet, namespace) if one["metadata"]["name"] == name]
        (status,) = pod["status"]["containerStatuses"]
        return bool(status["restartCount"] and status["ready"])

    wait_for(restarted, "the restart")
    return lambda: kubelet.wait_for_urls(namespace, SERVER_NAME, REPLICAS)


def test_a_name_is_not_taken_over_with_its_packages(kube, namespace, kubelet, operator, urls, tmp_path):
    """The folder remembers its owner: another PackageRepo of this name gets its own credentials, but no package."""
    computer = Computer(tmp_path / "home")
    index = Index(f"{urls[0]}/repo/team-a/simple/", "team-a", "team-a-write-value")
    upload(computer, index, wheel(tmp_path, "parcel"))
    kube.delete(path("packagerepos", namespace, "team-a"))
    apply(kube, namespace, secret_of("heir"), repo("heir", repoName="team-a"))
    operator.secrets |= {"heir-read-value", "heir-write-value"}
    where = path("packagerepos", namespace, "heir")
    found = wait_for_condition(kube, where, "Programmed", "False", reason="DataOwnedByOther")
    assert condition(found, "Ready")["reason"] == "DataOwnedByOther"
    for url in urls:
        for password in ("heir-read-value", READ):
            wait_for(lambda: index_status(url, "team-a", password) != 200, f"{url} to give {password} nothing")  # noqa: B023
    # Once the first owner has its name back, all packages are served again.
    kube.delete(where)
    apply(kube, namespace, repo("team-a"))
    wait_for_condition(kube, path("packagerepos", namespace, "team-a"), "Ready", "True")
    for number, url in enumerate(urls):
        install("pip", computer, Index(index.url, "team-a", READ).at(url), "parcel", into=f"at-{number}")
