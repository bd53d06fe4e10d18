"""Leader election, decided by each replica's own clock."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from pywharf_operator.cluster.kube import KubeError
from pywharf_operator.cluster.leader import Leadership, LeadershipLostError, Times
from pywharf_operator.spec import ObjectKey
from support.waiting import until

TIMES = Times(lease_s=15.0, renew_s=10.0, retry_s=0.001)


class Cluster:
    """One Lease with the API server's optimistic locking. It can be unreachable."""

    def __init__(self):
        self.lease = None
        self.version = 0
        self.fault = None

    async def get(self, _kind, _key):
        if self.fault:
            raise self.fault
        return self.lease

    async def create(self, _kind, manifest):
        return None if self.lease else self._write(manifest)

    async def replace(self, _kind, manifest):
        assert self.lease is not None
        same = manifest["metadata"]["resourceVersion"] == self.lease["metadata"]["resourceVersion"]
        return self._write(manifest) if same else None

    def _write(self, manifest):
        if self.fault:
            raise self.fault
        self.version += 1
        self.lease = manifest | {"metadata": manifest["metadata"] | {"resourceVersion": str(self.version)}}
        return self.lease


class Replica:
    def __init__(self, cluster, name, wall="2026-01-01T00:00:00", times=TIMES, metadata=None):
        self.time = 1000.0
        moment = datetime.fromisoformat(wall).replace(tzinfo=UTC)
        lease = ObjectKey("ns", "pywharf-operator")
        self.leads = Leadership(
            cluster, lease, name, metadata, times=times, clock=lambda: self.time, now=lambda: moment
        )

    async def attempt(self):
        return await self.leads.attempt()


@pytest.fixture
def cluster():
    return Cluster()


async def test_the_first_makes_the_lease_and_the_second_waits(cluster):
    first, second = Replica(cluster, "a"), Replica(cluster, "b")
    assert not first.leads.holds()
    await first.leads.acquire()
    assert first.leads.holds()
    assert not await second.attempt()
    assert not second.leads.holds()
    spec = cluster.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 15, 0)


async def test_the_lease_has_labels_of_one_s_own(cluster):
    """An existing Lease gets them, too. Labels removed from the flag are removed; those of others stay."""
    own = {"labels": {"cost-center": "42"}, "annotations": {"example.com/owner": "a"}}
    assert await Replica(cluster, "a").attempt()
    assert "labels" not in cluster.lease["metadata"]
    with_them = Replica(cluster, "a", metadata=own)
    assert await with_them.attempt()
    metadata = cluster.lease["metadata"]
    assert metadata["labels"] == own["labels"]
    assert own["annotations"].items() <= metadata["annotations"].items()
    metadata["labels"]["other"] = "stays"
    written: dict[str, Any] = {"f:labels": {"f:cost-center": {}}, "f:annotations": {"f:example.com/owner": {}}}
    metadata["managedFields"] = [{"manager": "pywharf-operator", "fieldsV1": {"f:metadata": written}}]
    assert await with_them.attempt()
    assert cluster.lease["metadata"]["labels"] == own["labels"] | {"other": "stays"}
    assert await Replica(cluster, "a").attempt()
    assert cluster.lease["metadata"]["labels"] == {"other": "stays"}
    assert "example.com/owner" not in cluster.lease["metadata"]["annotations"]


@pytest.mark.parametrize("wall", ["1999-01-01T00:00:00", "2099-01-01T00:00:00"])
async def test_a_lease_seen_unchanged_for_its_duration_is_taken_whatever_the_clocks_say(cluster, wall):
    first, second = Replica(cluster, "a"), Replica(cluster, "b", wall)
    await first.attempt()
    assert not await second.attempt()
    second.time += 14
    await first.attempt()  # renewed
    assert not await second.attempt()
    second.time += 14
    assert not await second.attempt()
    second.time += 1.5
    assert await second.attempt()
    assert cluster.lease["spec"]["leaseTransitions"] == 1
    assert not await first.attempt()
    assert not first.leads.holds()


async def test_a_leader_that_did_not_renew_writes_no_more_before_another_may(cluster):
    first, second = Replica(cluster, "a"), Replica(cluster, "b")
    await first.attempt()
    await second.attempt()
    for now in (first, second):
        now.time += 10.0
    assert not first.leads.holds()
    assert not await second.attempt()


async def test_after_a_pause_it_is_lost_without_asking(cluster):
    first = Replica(cluster, "a")
    await first.attempt()
    first.time += 3600.0
    before = cluster.version
    with pytest.raises(LeadershipLostError):
        await first.leads.keep()
    assert cluster.version == before


async def test_faults_are_outlived_for_as_long_as_the_deadline(cluster, caplog):
    first = Replica(cluster, "a")
    await first.attempt()
    cluster.fault = KubeError(503, "ServiceUnavailable", "down")
    keeping = asyncio.create_task(first.leads.keep())
    first.time += 9.0
    await asyncio.sleep(0.05)
    assert first.leads.holds()
    assert not keeping.done()
    before, cluster.fault = cluster.version, None
    await until(lambda: cluster.version > before)
    cluster.fault = KubeError(None, "Unreachable", "")
    first.time += 10.0
    with pytest.raises(LeadershipLostError, match="ns/pywharf-operator"):
        await keeping
    assert caplog.text.count("which is tried again: ServiceUnavailable") == 1


async def test_a_request_that_hangs_does_not_hold_the_lease(cluster):
    first = Replica(cluster, "a", times=Times(lease_s=15.0, renew_s=0.2, retry_s=0.001))
    await first.attempt()

    async def hang(*_args):
        await asyncio.Event().wait()

    cluster.get = hang
    keeping = asyncio.create_task(first.leads.keep())
    await asyncio.sleep(0.05)
    first.time += 0.3
    with pytest.raises(LeadershipLostError):
        await asyncio.wait_for(keeping, 20)


async def test_a_released_lease_is_free_immediately(cluster):
    first, second = Replica(cluster, "a"), Replica(cluster, "b")
    await first.attempt()
    await second.attempt()
    await first.leads.release()
    assert not first.leads.holds()
    assert await second.attempt()
    await first.leads.release()
    assert cluster.lease["spec"]["holderIdentity"] == "b"


@pytest.mark.parametrize(
    "spec",
    [None, {}, {"holderIdentity": None}, {"holderIdentity": ""}, {"holderIdentity": "", "leaseTransitions": "x"}],
)
async def test_an_unheld_lease_is_taken(cluster, spec):
    cluster.lease = {"metadata": {"name": "pywharf-operator", "resourceVersion": "7"}, "spec": spec}
    assert await Replica(cluster, "a").attempt()


async def test_of_two_that_are_equally_fast_one_leads(cluster):
    cluster.lease = {"metadata": {"resourceVersion": "7"}, "spec": {}}
    replicas = [Replica(cluster, name) for name in "abcde"]
    await asyncio.gather(*(replica.attempt() for replica in replicas))
    assert sum(replica.leads.holds() for replica in replicas) == 1
