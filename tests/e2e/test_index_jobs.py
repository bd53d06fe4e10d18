"""The CronJobs that update indexes, on a real node: their schedule, their pods, and a Job that fails and recovers."""

import functools
import json
import time
from collections.abc import Iterator

import pytest

from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json
from support.cluster.resources import apply, condition, get_repo, path, repo, secret_of, wait_for_condition
from support.kubelet.index_pods import BATCH, annotate, events, jobs
from support.node.pods import applied
from support.node.served_repo import Site, made_site
from support.waiting import wait_for

WHEELS = {"team-a": ["one"], "team-b": ["two", "three"], "broken": ["four"]}
"""Wheels by repo. The last repo's Job fails; its schedule never comes, so it runs only on request."""
SCHEDULED = ("team-a", "team-b")
EVERY_MINUTE, NEVER = {"index": {"schedule": "* * * * *"}}, {"index": {"schedule": "0 0 29 2 *"}}
STORAGE = "/var/lib/pywharf/cache/broken/storage"
SCHEDULED_S = 120.0
"""Seconds: a minute for the schedule, the time of a Job, and as much again for a busy machine."""
FAILED_S = 120.0
"""Seconds until a Job has failed: it is tried three times, after 10 and 20 seconds."""
# Reports from a Job's container: its user, what it sees of the volume and what it may write.
POLL = """
import json, os, sys
root, repo = sys.argv[1:]
folder = f"{root}/cache/{repo}"
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "repos": os.listdir(f"{root}/cache"),
    "group": os.stat(folder).st_gid,
    "writes": [path for path in ("/", root, f"{root}/cache", folder, f"{folder}/storage") if os.access(path, os.W_OK)],
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
}))
"""


@pytest.fixture(scope="module")
def site(pod_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose repos were updated once without files. Then wheels came, and one storage became unreadable."""
    with made_site(pod_cluster) as made:
        often = {"spec": {"limits": {"minScheduleIntervalSeconds": 60}}}
        made.kubectl("patch", "packageserver", "pywharf", "--type=merge", f"--patch={json.dumps(often)}")
        schedules = {name: EVERY_MINUTE if name in SCHEDULED else NEVER for name in WHEELS}
        apply(made.kube, made.namespace, *(secret_of(name) for name in WHEELS))
        apply(made.kube, made.namespace, *(repo(name, **spec) for name, spec in schedules.items()))
        for name in WHEELS:
            where = path("packagerepos", made.namespace, name)
            wait_for_condition(made.kube, where, "Ready", "True")
            wait_for_condition(made.kube, where, "IndexUpToDate", "True", reason="Updated")
        # The failing repo comes first because it takes longest.
        for name in reversed(WHEELS):
            for wheel in WHEELS[name]:
                made.publish(tmp_path_factory.mktemp("wheels"), wheel, name)
            if name not in SCHEDULED:
                mode_of_storage(made, 0)
                annotate(made.kube, made.namespace, name, "unreadable")
        yield made


def test_the_schedule_updates_each_repo_and_its_counts_are_shown(site: Site):
    began = time.monotonic()
    for name in SCHEDULED:
        wait_for(functools.partial(counted_by_schedule, site, name), f"counts of {name}", longest_s=SCHEDULED_S)
        found = get_repo(site.kube, site.namespace, name)
        assert condition(found, "IndexUpToDate")["status"] == "True"
        assert index_of(site, name)["projects"] == len(WHEELS[name])
        assert "lastTrigger" not in index_of(site, name)
    print(f"counted by the schedule {time.monotonic() - began:.0f} s later")
    header, *rows = site.kubectl("get", "pkgrepo", *SCHEDULED).splitlines()
    shown = {row.split()[0]: dict(zip(header.split(), row.split(), strict=True)) for row in rows}
    assert {name: (row["FILES"], row["READY"]) for name, row in shown.items()} == {
        name: (str(len(WHEELS[name])), "True") for name in SCHEDULED
    }
    assert all(row["UPDATED"].endswith("s") for row in shown.values()), shown


def test_one_that_fails_says_why_and_recovers(site: Site):
    where = path("packagerepos", site.namespace, "broken")
    found = wait_for_condition(site.kube, where, "IndexUpToDate", "False", reason="UpdateFailed", longest_s=FAILED_S)
    message = condition(found, "IndexUpToDate")["message"]
    print(message)
    assert "Permission denied" in message
    assert found["status"]["index"]["files"] == 0  # as before
    (of_the_event,) = wait_for(lambda: events_of(site, "Warning", "UpdateFailed"), "an Event of it")
    assert "Permission denied" in of_the_event
    assert events_of(site, "Normal", "Updated") == []

    mode_of_storage(site, 0o755)
    annotate(site.kube, site.namespace, "broken", "readable")
    wait_for_condition(site.kube, where, "IndexUpToDate", "True", reason="Updated")
    assert index_of(site, "broken")["files"] == len(WHEELS["broken"])
    wait_for(lambda: events_of(site, "Normal", "Updated"), "an Event of its recovery")
    assert len(events_of(site, "Warning", "UpdateFailed")) == 1


def test_a_job_sees_its_repo_only_and_may_write_it(site: Site):
    cron_job = site.kube.get(path("cronjobs", site.namespace, "pywharf-index-team-a", BATCH)) or {}
    template = cron_job["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    polls = container | {"command": ["python3", "-c", POLL, "/var/lib/pywharf", "team-a"], "args": []}
    metadata = {"name": "look", "namespace": site.namespace}
    spec = template["spec"] | {"containers": [polls]}
    applied(site.cluster, [{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
    site.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", "pod/look")
    assert json.loads(site.kubectl("logs", "look")) == {
        "user": [65532, 65532],
        "repos": ["team-a"],
        "group": 65532,
        "writes": ["/var/lib/pywharf/cache/team-a", "/var/lib/pywharf/cache/team-a/storage"],
        "token": False,
    }


def counted_by_schedule(site: Site, name: str) -> bool:
    """Return whether a Job that the CronJob itself created has reported all wheels."""
    index = index_of(site, name)
    own = [
        job["metadata"]["name"]
        for job in jobs(site.kube, site.namespace, name)
        if [owner["kind"] for owner in job["metadata"]["ownerReferences"]] == ["CronJob"]
    ]
    return index["files"] == len(WHEELS[name]) and index["lastJob"] in own


def index_of(site: Site, name: str) -> Json:
    found: Json = (get_repo(site.kube, site.namespace, name) or {})["status"]["index"]
    return found


def events_of(site: Site, kind: str, reason: str) -> list[str]:
    """Return the messages of the failing repo's Events of this type and reason."""
    return [said for *about, said in events(site.kube, site.namespace, "broken") if about == [kind, reason]]


def mode_of_storage(site: Site, mode: int) -> None:
    script = f"import os; os.chmod({STORAGE!r}, {mode})"
    site.kubectl("exec", "deployment/pywharf", "--", "python3", "-c", script)
