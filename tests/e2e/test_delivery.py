"""How soon every replica serves a change on a real node: the kubelet mounts the volume again, without a restart."""

import json
import statistics
import subprocess
import time
from collections.abc import Iterator

import pytest

from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json
from support.cluster.resources import repo, secret, secret_of
from support.node.served_repo import REPO, SHARED, Site, made_site
from support.waiting import stretched

REPLICAS = 3
TIMES = 5
MEDIAN_S, WORST_S = 2.0, 5.0
LONGEST_S = 60
# Requests the page from each replica by address until all serve it. Prints a line before the first and after the last.
WATCH = """
import base64, sys, time, urllib.error, urllib.request
repo, password, longest, *hosts = sys.argv[1:]
basic = base64.b64encode(f"{repo}:{password}".encode()).decode()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
def served(host):
    url = f"http://{host}:8888/repo/{repo}/simple/"
    try:
        with opener.open(urllib.request.Request(url, headers={"Authorization": f"Basic {basic}"}), timeout=5) as answer:
            return answer.status == 200
    except (OSError, urllib.error.HTTPError):
        return False
assert not any(map(served, hosts)), "served already"
print("watching", flush=True)
end = time.monotonic() + float(longest)
while not all(map(served, hosts)):
    assert time.monotonic() < end, "not served in time"
    time.sleep(0.02)
print("served", flush=True)
"""


@pytest.fixture(scope="module")
def site(pod_cluster: Cluster) -> Iterator[Site]:
    with made_site(pod_cluster, replicas=REPLICAS, **SHARED) as made:
        yield made


def test_a_new_repo_is_served_by_every_replica_within_seconds(site: Site):
    def apply(number: int) -> tuple[str, str, list[Json]]:
        name = f"new-{number}"
        return name, f"{name}-read-value", [secret_of(name), repo(name)]

    measured("apply of a PackageRepo to served by all", site, apply)


def test_every_replica_serves_a_rotated_secret_within_seconds_without_restart(site: Site):
    shown = "{.metadata.name} {.status.containerStatuses[*].restartCount}"
    before = site.server_pods(shown)
    assert len(before) == REPLICAS
    assert all(line.endswith(" 0") for line in before)

    def apply(number: int) -> tuple[str, str, list[Json]]:
        value = f"rotated-{number}"
        return REPO, value, [secret(REPO, read=value, write=f"{REPO}-write-value")]

    measured("rotated Secret to served by all", site, apply)
    assert site.server_pods(shown) == before


def measured(what: str, site: Site, change) -> None:
    took = []
    for number in range(TIMES):
        name, password, objects = change(number)
        addresses = site.server_pods("{.status.podIP}")
        assert len(addresses) == REPLICAS
        with watching(site, name, password, addresses) as watch:
            assert line_of(watch) == "watching"
            began = time.monotonic()
            text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
            site.kubectl("apply", "--filename=-", input=text)
            assert line_of(watch) == "served"
            took.append(time.monotonic() - began)
    shown = ", ".join(f"{seconds:.2f}" for seconds in took)
    print(f"{what} {REPLICAS} replicas: median {statistics.median(took):.2f} s of {shown}")
    assert statistics.median(took) <= stretched(MEDIAN_S)
    assert max(took) <= stretched(WORST_S)


def watching(site: Site, name: str, password: str, addresses: list[str]) -> "subprocess.Popen[str]":
    return site.inside.start("python3", "-c", WATCH, name, password, str(LONGEST_S), *addresses)


def line_of(watch: "subprocess.Popen[str]") -> str:
    assert watch.stdout is not None
    line = watch.stdout.readline().strip()
    assert line, f"the pod's watch ended: {watch.communicate(timeout=30)}"
    return line
