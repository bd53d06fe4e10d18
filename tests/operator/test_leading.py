"""Two replicas, one Lease, on a real API server."""

import pytest

from support.operating import grant, operating
from support.waiting import wait_for

LEASES = "/apis/coordination.k8s.io/v1/namespaces"
LONG_S = 60.0


@pytest.fixture
def granted(cluster, namespace):
    return grant(cluster, namespace)


def holder(kube, namespace):
    lease = kube.get(f"{LEASES}/{namespace}/leases/pywharf-operator")
    return lease["spec"].get("holderIdentity") if lease else None


def transitions(kube, namespace):
    return kube.get(f"{LEASES}/{namespace}/leases/pywharf-operator")["spec"]["leaseTransitions"]


def leads(operator):
    return operator.metric("pywharf_operator_leader") == 1.0


def test_a_leader_that_is_stopped_hands_over_at_once(kube, granted, namespace, tmp_path):
    with operating(tmp_path / "a", granted, namespace, flags=["--leader-elect"]) as first:
        wait_for(lambda: leads(first), "the first to lead", longest_s=LONG_S)
        with operating(tmp_path / "b", granted, namespace, flags=["--leader-elect"]) as second:
            assert not leads(second)  # it is ready all the same
            before = holder(kube, namespace)
            assert first.stop() == 0
            wait_for(lambda: leads(second), "the second to lead", longest_s=10.0)
            assert holder(kube, namespace) not in {before, "", None}
    assert not holder(kube, namespace)


def test_a_leader_that_is_killed_is_followed_within_20_seconds(kube, granted, namespace, tmp_path):
    with operating(tmp_path / "a", granted, namespace, flags=["--leader-elect"]) as first:
        wait_for(lambda: leads(first), "the first to lead", longest_s=LONG_S)
        with operating(tmp_path / "b", granted, namespace, flags=["--leader-elect"]) as second:
            first.kill()
            wait_for(lambda: leads(second), "the second to lead", longest_s=20.0)
            assert transitions(kube, namespace) == 1


def test_a_leader_that_loses_its_lease_ends_and_says_so(kube, granted, namespace, tmp_path):
    with operating(tmp_path / "a", granted, namespace, flags=["--leader-elect"]) as operator:
        wait_for(lambda: leads(operator), "it to lead", longest_s=LONG_S)
        path = f"{LEASES}/{namespace}/leases/pywharf-operator"
        kube.patch(path, {"spec": {"holderIdentity": "another"}})
        assert operator.process.wait(30) == 1
        assert "another replica has it" in operator.text()
