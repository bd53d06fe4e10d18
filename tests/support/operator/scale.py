"""The operator's cost for a thousand PackageRepos at the same time, measured on a real control plane."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from support.cluster import resources
from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import apply, condition, config_text, path, repo, secret, secret_of, server
from support.operator import operating
from support.operator.operating import Operator
from support.waiting import wait_for

WRITES = ("apply", "create", "delete", "patch", "update")
_CONCURRENT = 16
_LONGEST_S = 300.0


@dataclass(frozen=True)
class Scale:
    """The results of one measurement."""

    reconciled_s: float
    """Seconds from applying the first repo until the last one has a CronJob and a status."""
    applying_s: float
    """Seconds of `reconciled_s` in which the repos were applied."""
    writes_per_repo: float
    memory: int
    """Resident bytes of the operator after the reconciles."""
    latencies_s: tuple[float, ...]
    """Seconds from applying one more repo until the ConfigMap has changed, for each such repo."""
    idle_s: float
    """Seconds that a restarted operator needs for its first reconcile when there is nothing to do."""
    idle_writes: float
    repos: list[Json]
    """The PackageRepos at the end."""


def writes(operator: Operator) -> float:
    """Return the number of write requests that the operator has sent so far."""
    return sum(operator.metric("pywharf_operator_api_requests_total", verb=verb) for verb in WRITES)


def measure(cluster: Cluster, kube: KubeClient, namespace: str, folder: Path, count: int, latencies: int = 3) -> Scale:
    """Measure `count` repos with suspended schedules, in one namespace with their server."""
    kubeconfig = operating.grant(cluster, namespace)
    apply(kube, namespace, server(limits={"reposPerNamespace": count + latencies}))
    with operating.operating(folder, kubeconfig, namespace) as operator:
        where = path("packageservers", namespace, resources.SERVER_NAME)
        resources.wait_for_condition(kube, where, "Accepted", "True")
        names = [f"repo-{number}" for number in range(count)]
        with ThreadPoolExecutor(_CONCURRENT) as pool:
            list(pool.map(lambda name: apply(kube, namespace, _strong_secret(name)), names))
            until_quiet(operator)
            before = writes(operator)
            began = time.monotonic()
            list(pool.map(lambda name: apply(kube, namespace, _suspended(name)), names))
        applying_s = time.monotonic() - began
        wait_for(lambda: _all_reconciled(kube, namespace, count), f"{count} repos", longest_s=_LONGEST_S)
        reconciled_s = time.monotonic() - began
        until_quiet(operator)
        per_repo = (writes(operator) - before) / count
        memory = operator.memory()
        found = tuple(_latency(kube, namespace, operator, number) for number in range(latencies))
    began = time.monotonic()
    with operating.operating(folder, kubeconfig, namespace) as operator:
        done = "pywharf_operator_reconciles_total"
        wait_for(lambda: operator.metric(done, of="server", result="success") >= 1, "one reconcile", longest_s=60)
        idle_s = time.monotonic() - began
        until_quiet(operator)
        idle_writes = writes(operator)
    listed = kube.list(path("packagerepos", namespace))
    return Scale(reconciled_s, applying_s, per_repo, memory, found, idle_s, idle_writes, listed)


def _strong_secret(name: str) -> Json:
    """Return the repo's Secret with values that cause no Event about weak ones, which would be one more write."""
    read, write = (hashlib.sha256(f"{name} {use}".encode()).hexdigest() for use in ("read", "write"))
    return secret(name, read=read, write=write)


def _suspended(name: str) -> Json:
    return repo(name, index={"suspend": True})


def _latency(kube: KubeClient, namespace: str, operator: Operator, number: int) -> float:
    name = f"late-{number}"
    apply(kube, namespace, secret_of(name))
    until_quiet(operator)
    began = time.monotonic()
    apply(kube, namespace, _suspended(name))
    wait_for(lambda: f"\n[{name}]" in config_text(kube, namespace), f"{name} in the configuration", longest_s=60)
    return time.monotonic() - began


def _all_reconciled(kube: KubeClient, namespace: str, count: int) -> bool:
    if len(kube.list(path("cronjobs", namespace, group="/apis/batch/v1"))) < count:
        return False
    listed = kube.list(path("packagerepos", namespace))
    return len([one for one in listed if condition(one, "Accepted").get("status") == "True"]) >= count


def until_quiet(operator: Operator) -> None:
    """Wait until nothing has been reconciled for 2 seconds and the queue is empty."""
    last, since = -1.0, time.monotonic()

    def quiet() -> bool:
        nonlocal last, since
        done = operator.metric("pywharf_operator_reconcile_seconds_count")
        waits = operator.metric("pywharf_operator_queue_depth")
        if done != last or waits:
            last, since = done, time.monotonic()
        return time.monotonic() - since > 2.0

    wait_for(quiet, "the operator to have nothing to do", longest_s=_LONGEST_S)
