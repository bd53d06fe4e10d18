"""Large objects from a user who may only create objects: the operator reads what it needs, in bounded memory."""

import base64
import os
import re
from pathlib import Path

import pytest

from support.cluster.kube_client import KubeClient
from support.cluster.resources import (
    apply,
    condition,
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

CORE = "/api/v1"
COUNT = 120
MIB = 1024**2
MOST_GROWTH = 60 * MIB
MOST_GROWTH_OF_REPOS = 128 * MIB
"""Bytes. kopf watches repos: it reads events whole, and pages of a list whole until each object is trimmed."""
LONG_S = 180.0


def peak(operator: Operator) -> int:
    """Return the peak memory of the process in bytes."""
    text = Path(f"/proc/{operator.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found
    return int(found[1]) * 1024


def text(size: int) -> str:
    """Return random letters, so that nothing compresses the text."""
    return base64.b64encode(os.urandom(size * 3 // 4)).decode()


def big_secret(number: int, label: str = "pywharf.dev/credentials", value: str = "true"):
    metadata = {"name": f"big-{number}", "labels": {label: value}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"k": text(1_040_000 * 4 // 3)}}


def big_config_map(number: int):
    metadata = {"name": f"big-{number}", "labels": {"pywharf.dev/server": "pywharf"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": text(1_000_000)}}


def big_repo(number: int):
    """Return a repo with nearly 1 MiB of labels, whose total is unlimited, and 200 KiB of annotations."""
    made = repo(f"big-{number}")
    made["metadata"]["labels"] = {f"{'l' * 200}.{number}.example/{part:05}": "x" * 63 for part in range(2500)}
    made["metadata"]["annotations"] = {"junk": text(200_000)}
    return made


def fill(kube: KubeClient, namespace: str, what: str) -> None:
    for number in range(COUNT):
        if what == "secrets":
            kube.create(path("secrets", namespace, group=CORE), big_secret(number))
        elif what == "secrets of the server":
            kube.create(path("secrets", namespace, group=CORE), big_secret(number, "pywharf.dev/server", "pywharf"))
        elif what == "config maps of the server":
            kube.create(path("configmaps", namespace, group=CORE), big_config_map(number))
        else:
            kube.create(path("packagerepos", namespace), big_repo(number))


def works(kube: KubeClient, namespace: str, operator: Operator, value: str) -> None:
    """Change a secret and wait until it arrives."""
    kube.patch(path("secrets", namespace, "team-a", CORE), {"stringData": {"read": value}})
    where = path("secrets", namespace, "pywharf-credentials", CORE)
    wanted = base64.b64encode(value.encode()).decode()
    wait_for(lambda: (kube.get(where) or {})["data"].get("team-a.read") == wanted, "the new value", longest_s=LONG_S)
    settled(kube, namespace, operator)


@pytest.mark.timeout(420)
@pytest.mark.parametrize("what", ["secrets", "secrets of the server", "config maps of the server", "repos"])
def test_unnamed_secrets_take_no_memory(cluster, kube, namespace, tmp_path, what):
    """120 objects of about 1 MiB are created while the operator runs, and exist when it starts again."""
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    kubeconfig = grant(cluster, namespace)
    with operating(tmp_path, kubeconfig, namespace) as operator:
        wait_for_config(kube, namespace, "team-a", longest_s=LONG_S)
        works(kube, namespace, operator, "first-value")
        before = peak(operator)
        fill(kube, namespace, what)
        works(kube, namespace, operator, "second-value")
        grown = peak(operator) - before
        most = MOST_GROWTH_OF_REPOS if what == "repos" else MOST_GROWTH
        assert grown < most, f"it grew by {grown / MIB:.0f} MiB"
    with operating(tmp_path, kubeconfig, namespace) as operator:
        works(kube, namespace, operator, "third-value")
        grown = peak(operator) - before
        assert grown < most, f"started, it took {grown / MIB:.0f} MiB more"


@pytest.mark.timeout(420)
def test_secrets_that_repos_name_are_kept_by_their_keys(cluster, kube, namespace, tmp_path):
    """30 Secrets of 1 MiB are each named by a repo for a small key."""
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    kubeconfig = grant(cluster, namespace)
    with operating(tmp_path, kubeconfig, namespace) as operator:
        wait_for_config(kube, namespace, "team-a", longest_s=LONG_S)
        works(kube, namespace, operator, "first-value")
        before = peak(operator)
        names = [f"big-{number}" for number in range(30)]
        for number, name in enumerate(names):
            made = big_secret(number)
            made["data"] |= {key: base64.b64encode(f"{name}-{key}".encode()).decode() for key in ("read", "write")}
            kube.create(path("secrets", namespace, group=CORE), made)
            kube.create(path("packagerepos", namespace), repo(name))
        wait_for_config(kube, namespace, "team-a", *names, longest_s=LONG_S)
        grown = peak(operator) - before
        assert grown < MOST_GROWTH, f"it grew by {grown / MIB:.0f} MiB"
        # A repo that names a key which is too long itself is refused alone.
        refs = {f"{use}SecretRef": {"name": "big-0", "key": "k"} for use in ("read", "write")}
        kube.patch(path("packagerepos", namespace, "big-0"), {"spec": {"credentials": refs}})
        where = path("packagerepos", namespace, "big-0")
        wait_for_condition(kube, where, "SecretsResolved", "False", reason="SecretInvalid", longest_s=LONG_S)


def test_a_spec_past_the_bound_is_refused_alone(cluster, kube, namespace, tmp_path):
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    large = repo("large", upstream={"mode": "None", "reserved": [f"{'x' * 190}{n:03}" for n in range(256)]})
    large["spec"]["upstream"]["allowShadowing"] = [f"{'y' * 190}{n:03}" for n in range(256)]
    apply(kube, namespace, large)
    with operating(tmp_path, grant(cluster, namespace), namespace):
        where = path("packagerepos", namespace, "large")
        found = wait_for_condition(kube, where, "Accepted", "False", reason="InvalidSpec")
        assert re.search(r"spec has \d+ bytes as JSON, and at most 65536 are read", str(found["status"]["conditions"]))
        wait_for_config(kube, namespace, "team-a")


@pytest.mark.timeout(300)
def test_servers_that_do_not_exist_cost_no_list_each(cluster, kube, namespace, tmp_path):
    """The repos of missing servers are read together, however many servers are named, also when the operator starts."""
    count = 150
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    for number in range(count):
        kube.create(path("packagerepos", namespace), repo(f"stray-{number}", serverRef={"name": f"nobody-{number}"}))

    def reported() -> int:
        repos = kube.list(path("packagerepos", namespace))
        return sum(condition(one, "Accepted").get("reason") == "ServerNotFound" for one in repos)

    with operating(tmp_path, grant(cluster, namespace), namespace) as operator:
        wait_for(lambda: reported() == count, "each repo to get a status", longest_s=LONG_S)
        wait_for_config(kube, namespace, "team-a", longest_s=LONG_S)
        lists = operator.metric("pywharf_operator_api_requests_total", verb="list")
        assert lists < count, "with one for each it would be more"
        where = path("packagerepos", namespace, "stray-7")
        apply(kube, namespace, server("nobody-7"), secret_of("stray-7"))
        wait_for_condition(kube, where, "Accepted", "True", longest_s=LONG_S)
        kube.delete(path("packageservers", namespace, "nobody-7"))
        wait_for_condition(kube, where, "Accepted", "False", reason="ServerNotFound", longest_s=LONG_S)
        assert reported() == count
