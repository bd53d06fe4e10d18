"""Reports about pods that the cluster refuses, and the remedy for each."""

from datetime import UTC, datetime, timedelta

import pytest

from pywharf_operator.cluster.kube import Kube, KubeError
from pywharf_operator.cluster.remedies import with_remedy
from pywharf_operator.index_updates.refused_pods import is_late, refused_jobs, refused_replica, without_pod
from pywharf_operator.spec.names import Component

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAID = {
    "forbidden: failed quota: q: must specify limits.cpu for: index": ("spec.jobs.resources", "spec.resources"),
    "forbidden: exceeded quota: q, requested: limits.memory=1Gi": ("spec.jobs.resources", "spec.resources"),
    "forbidden: maximum memory usage per Container is 512Mi": (
        "spec.jobs.resources",
        "spec.resources",
    ),
    "forbidden: minimum cpu usage per Container is 1": ("spec.jobs.resources", "spec.resources"),
    "cpu max limit to request ratio per Container is 2": ("spec.jobs.resources", "spec.resources"),
    "unable to validate against any security context constraint": ("userIDs", "userIDs"),
    'violates PodSecurity "restricted:latest": host namespaces': ("spec.jobs.podTemplate", "spec.podTemplate"),
    "denied: you must provide labels: {cost-center}": ("spec.labels", "spec.labels"),
    "denied by a webhook": ("denied by a webhook.", "denied by a webhook."),
}


@pytest.mark.parametrize("message", SAID)
def test_remedies(message):
    components: tuple[Component, ...] = ("index", "server")
    for component, field in zip(components, SAID[message], strict=True):
        shown = with_remedy(message, component)
        assert field in shown
        assert shown.startswith(message[:20])
        assert shown.endswith(".")


def test_messages_of_others_are_bounded():
    shown = with_remedy("exceeded quota\x00\n" + "x" * 100_000)
    assert len(shown) < 1000
    assert shown.isprintable()


def job(name, *, age_s=60.0, **fields):
    metadata = {"name": name, "uid": f"uid-{name}", "creationTimestamp": (NOW - timedelta(seconds=age_s)).isoformat()}
    return {"metadata": metadata | fields.pop("metadata", {}), **fields}


def pod(of):
    return {"metadata": {"name": f"{of}-x", "labels": {"batch.kubernetes.io/job-name": of}}}


def test_which_jobs_have_no_pod():
    ended = {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    jobs = [
        job("runs"),
        job("waits"),
        job("ended", **ended),
        job("suspended", spec={"suspend": True}),
        job("leaves", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ]
    assert [one["metadata"]["name"] for one in without_pod(jobs, [pod("runs"), {"metadata": {}}])] == ["waits"]


@pytest.mark.parametrize(("age_s", "late"), [(1, False), (60, True)])
def test_a_job_has_the_time_to_get_its_pod(age_s, late):
    assert is_late(job("a", age_s=age_s), NOW) is late
    assert not is_late({"metadata": {"name": "a"}}, NOW)


class Events(Kube):
    def __init__(self, *events, error=None):
        self.events, self.error, self.asked = list(events), error, []

    async def list(self, kind, namespace=None, labels=None, *, fields=None, only=None):
        self.asked.append((kind.plural, namespace, labels, fields))
        if self.error is not None:
            raise self.error
        return self.events


def event(uid, message, moment):
    return {"involvedObject": {"uid": uid}, "message": message, "lastTimestamp": moment}


async def test_the_newest_event_counts_and_no_pod_s_made_up_name():
    kube = Events(
        event("a", 'Error creating: pods "a-x7k" is forbidden: new', "2026-01-01T00:00:02Z"),
        event("a", 'Error creating: pods "a-p2q" is forbidden: old', "2026-01-01T00:00:01Z"),
        {"message": None},
    )
    assert (await refused_jobs(kube, "ml"))["a"] == "forbidden: new"
    assert kube.asked == [("events", "ml", None, "involvedObject.kind=Job,type=Warning,reason=FailedCreate")]


async def test_without_the_right_nothing_is_reported():
    assert await refused_jobs(Events(error=KubeError(403, "Forbidden", "no")), "ml") == {}
    with pytest.raises(KubeError):
        await refused_jobs(Events(error=KubeError(500, "InternalError", "no")), "ml")


def test_of_a_deployment():
    failure = {"type": "ReplicaFailure", "status": "True", "message": 'pods "a-1" is forbidden: exceeded quota'}
    assert refused_replica({"status": {"conditions": [failure]}}) == "forbidden: exceeded quota"
    assert refused_replica({"status": {"conditions": [failure | {"status": "False"}]}}) is None
    assert refused_replica(None) is None
