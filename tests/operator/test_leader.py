"""Two replicas of the operator share one Lease: at most one of them writes at any time."""

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.cluster.api_faults import Call, Delay, Drop
from support.cluster.api_proxy import ApiProxy, proxied
from support.cluster.cluster import Cluster
from support.cluster.kube_client import KubeClient
from support.cluster.resources import apply, repo, secret, secret_of, server, wait_for_config
from support.operator.operating import ACCOUNT, Operator, grant, operating
from support.waiting import stretched, wait_for

LEASES = "/apis/coordination.k8s.io/v1/namespaces"
LONG_S = 60.0
TAKEOVER_S = 20.0
IMMEDIATELY_S = 5.0
LEASE_S = 15.0


@dataclass
class Replica:
    """An operator with its own proxy, which records its requests."""

    operator: Operator
    proxy: ApiProxy

    @property
    def leads(self) -> bool:
        with contextlib.suppress(OSError):
            return self.operator.metric("pywharf_operator_leader") == 1.0
        return False

    def writes(self) -> list[Call]:
        """Return the writes that reached the API server, except those to the Lease."""
        return [call for call in self.proxy.writes() if "/leases" not in call.path and not isinstance(call.fault, Drop)]


@pytest.fixture
def pair(cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path) -> Iterator[tuple[Replica, Replica]]:
    """Two replicas: the first leads and has reconciled a server and a repo; the second is on standby."""
    grant(cluster, namespace)
    apply(kube, namespace, server(), secret_of("team-a"), repo("team-a"))
    with contextlib.ExitStack() as stack:
        made = []
        for name in ("first", "second"):
            proxy = stack.enter_context(proxied(cluster.url, cluster.ca_file, tmp_path / name / "proxy"))
            kubeconfig = cluster.kubeconfig_for(ACCOUNT, namespace, url=proxy.url, ca_file=proxy.ca_file)
            operator = stack.enter_context(operating(tmp_path / name, kubeconfig, namespace, flags=["--leader-elect"]))
            made.append(Replica(operator, proxy))
            if name == "first":
                wait_for(lambda: made[0].leads, "the first to lead", longest_s=LONG_S)
                wait_for_config(kube, namespace, "team-a")
        first, second = made
        yield first, second
        for one in made:
            print(one.operator.text())
        assert_one_writer(first, second)


def assert_one_writer(first: Replica, second: Replica) -> None:
    """Check that the second replica writes only after the last write of the first."""
    one, other = first.writes(), second.writes()
    assert one, "the first never wrote"
    if other:
        late = [call for call in one if call.at >= other[0].at]
        assert not late, f"the first wrote when the second did: {late}"


def works(kube: KubeClient, namespace: str, replica: Replica) -> None:
    """Check that the replica reconciles a new repo."""
    apply(kube, namespace, secret_of("team-b"), repo("team-b"))
    wait_for_config(kube, namespace, "team-a", "team-b")
    assert replica.writes()


def test_a_standby_is_well_and_writes_nothing(kube, namespace, pair):
    first, second = pair
    for path in ("/healthz", "/readyz"):
        assert second.operator.get(path)[0] == 200
    assert not second.leads
    works(kube, namespace, first)
    assert not second.proxy.writes(), "a standby writes nothing, not even to the Lease"
    assert not second.proxy.calls(path="/packagerepos", method="PATCH")


def test_the_leader_is_killed(kube, namespace, pair):
    first, second = pair
    began = time.monotonic()
    first.operator.kill()
    apply(kube, namespace, secret_of("team-b"), repo("team-b"))
    wait_for(lambda: second.leads, "the second to lead", longest_s=LONG_S)
    took = time.monotonic() - began
    assert took < TAKEOVER_S, took
    works(kube, namespace, second)


def test_the_leader_is_stopped(kube, namespace, pair):
    first, second = pair
    began = time.monotonic()
    assert first.operator.stop() == 0
    wait_for(lambda: second.leads, "the second to lead", longest_s=LONG_S)
    took = time.monotonic() - began
    assert took < stretched(IMMEDIATELY_S), took
    works(kube, namespace, second)


def test_a_frozen_leader_that_wakes_writes_no_more(kube, namespace, pair):
    first, second = pair
    first.operator.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: second.leads, "the second to lead", longest_s=LONG_S)
        works(kube, namespace, second)
    finally:
        first.operator.process.send_signal(signal.SIGCONT)
    began = time.monotonic()
    # A change that it would apply if it still held its Lease.
    apply(kube, namespace, secret("team-a", read="another-read-value", write="w"))
    assert first.operator.process.wait(LEASE_S) == 1
    assert not [call for call in first.writes() if call.at >= began]
    assert second.leads


def test_a_leader_whose_api_server_is_slow_steps_down(kube, namespace, pair):
    first, second = pair
    first.proxy.add(Delay(30.0), path="/leases")
    apply(kube, namespace, secret_of("team-b"), repo("team-b"))
    assert first.operator.process.wait(LEASE_S + stretched(IMMEDIATELY_S)) == 1
    wait_for(lambda: second.leads, "the second to lead", longest_s=TAKEOVER_S)
    wait_for_config(kube, namespace, "team-a", "team-b")
    apply(kube, namespace, secret("team-a", read="another-read-value", write="w"))
    wait_for(second.writes, "the second to write")
    holder = kube.get(f"{LEASES}/{namespace}/leases/pywharf-operator")
    assert holder is not None
    assert holder["spec"]["leaseTransitions"] == 1


def test_a_leader_that_loses_its_lease_ends_and_logs_it(cluster, kube, namespace, tmp_path):
    with operating(tmp_path, grant(cluster, namespace), namespace, flags=["--leader-elect"]) as operator:
        wait_for(lambda: operator.metric("pywharf_operator_leader") == 1, "it to lead", longest_s=60)
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/pywharf-operator"
        kube.patch(path, {"spec": {"holderIdentity": "another"}})
        assert operator.process.wait(30) == 1
        assert "another replica has it" in operator.text()
