"""CronJobs and Jobs that update indexes: what starts them, and how their results are reported."""

import functools
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywharf_operator.index_updates.slots import MAX_CONCURRENT
from support.cluster.cluster import Cluster, new_namespace
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import (
    apply,
    condition,
    get_repo,
    path,
    repo,
    secret_of,
    server,
    wait_for_condition,
    wait_for_config,
)
from support.distributions.wheels import wheel
from support.kubelet.index_pods import BATCH, IndexPods, annotate, ended, events, jobs, unschedulable, waiting
from support.kubelet.stand_in import Kubelet
from support.operator.operating import Operator, grant, operating
from support.waiting import wait_for

GOOD = {"projects": 2, "files": 7, "bytes": 1234, "problems": []}
LONG_S = 90.0


@pytest.fixture
def granted(cluster: Cluster, namespace: str) -> Path:
    cluster.need_controllers()
    return grant(cluster, namespace)


@pytest.fixture
def operator(granted: Path, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    with operating(tmp_path / "operator", granted, namespace) as running:
        yield running
        print(running.text())


def make(kube: KubeClient, namespace: str, *names: str, **spec: Any) -> None:
    secrets = [secret_of(name) for name in names]
    apply(kube, namespace, server(), *secrets, *(repo(name, **spec) for name in names))


def index_of(kube: KubeClient, namespace: str, name: str) -> Json:
    return ((get_repo(kube, namespace, name) or {}).get("status") or {}).get("index") or {}


def finding(kube: KubeClient, namespace: str, name: str) -> tuple[str, str, str]:
    found = condition(get_repo(kube, namespace, name), "IndexUpToDate")
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def cron_job(kube: KubeClient, namespace: str, name: str) -> Json:
    """Return the repo's CronJob, or an empty dict if there is none."""
    return kube.get(path("cronjobs", namespace, f"pywharf-index-{name}", BATCH)) or {}


def reconciled(operator: Operator) -> float:
    return operator.metric("pywharf_operator_reconciles_total", of="server", result="success")


def resync(operator: Operator, kube: KubeClient, namespace: str) -> None:
    """Wait until the operator has reconciled the server once more and is idle."""
    before = reconciled(operator)
    server_path = path("packageservers", namespace, "pywharf")
    kube.patch(server_path, {"metadata": {"labels": {"pywharf.dev/look": str(int(before))}}})
    wait_for(lambda: reconciled(operator) > before, "another reconcile", longest_s=LONG_S)
    wait_for(lambda: not operator.metric("pywharf_operator_queue_depth"), "an empty queue", longest_s=LONG_S)


FAULTS = {
    "memory": (ended("a line of its log", 137, reason="OOMKilled"), "UpdateFailed", "more memory than its limit"),
    "error": (ended({"error": "The folder\x1b[31m is full."}, 1), "UpdateFailed", "The folder [31m is full."),
    "silent": (ended(None, 1), "UpdateFailed", "Failed: Job pywharf-index-silent-"),
    "control": (ended("\x07\x1b[2J" * 900, 1), "UpdateFailed", "Failed: "),
    "image": (waiting("ImagePullBackOff"), "UpdateStuck", "image cannot be pulled"),
    "node": (unschedulable("0/3 nodes\x00 are free"), "UpdateStuck", "finds no node: 0/3 nodes  are free"),
    "deadline": (None, "UpdateFailed", "took longer than it may"),
    "text": (ended("no JSON at all \x1b]0;x\x07"), "UpdateFailed", "report cannot be read"),
    "huge": (ended('{"files": 1' + "0" * 40 + "}"), "UpdateFailed", "report cannot be read"),
    "negative": (ended({"projects": -1, "files": -1, "bytes": -1}), "UpdateFailed", "report cannot be read"),
    "strings": (ended({"projects": "1", "files": "1", "bytes": "1"}), "UpdateFailed", "report cannot be read"),
    "noise": (ended("\x00\x01\x02\x03" * 1000), "UpdateFailed", "report cannot be read"),
}


@pytest.mark.timeout(180)
def test_a_fault_shows_and_passes_and_affects_no_other_repo(kube, cluster, namespace, operator):
    names = ["good", *FAULTS]
    pods = IndexPods(kube, namespace, good=ended(GOOD))
    pods.of_repo |= {name: status for name, (status, _, _) in FAULTS.items() if status is not None}
    make(kube, namespace, *names)
    wait_for(lambda: jobs(kube, namespace, "deadline"), "its Job", longest_s=LONG_S)
    (late,) = jobs(kube, namespace, "deadline")
    kube.patch(path("jobs", namespace, late["metadata"]["name"], BATCH), {"spec": {"activeDeadlineSeconds": 1}})

    def is_shown() -> bool:
        return all(
            (found := finding(kube, namespace, name))[:2] == ("False", reason) and says in found[2]
            for name, (_, reason, says) in FAULTS.items()
        )

    try:
        pods.until(is_shown, "every fault to show", longest_s=LONG_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {json.dumps({one: finding(kube, namespace, one) for one in names})}") from None
    pods.until(lambda: finding(kube, namespace, "good")[0] == "True", "the good one", longest_s=LONG_S)
    assert {key: index_of(kube, namespace, "good")[key] for key in ("projects", "files", "bytes")} == {
        "projects": 2,
        "files": 7,
        "bytes": 1234,
    }
    table = cluster.kubectl("get", "pkgrepo", "good", f"--namespace={namespace}", "-o", "wide")
    assert re.search(r"^FILES$", table.split("\n")[0].replace(" ", "\n"), re.MULTILINE), table
    assert "7" in table.split("\n")[1].split(), table
    for name, (_, reason, _) in FAULTS.items():
        index = index_of(kube, namespace, name)
        assert not {"projects", "files", "bytes", "lastUpdateTime"} & index.keys(), (name, index)
        message = finding(kube, namespace, name)[2]
        assert message.isprintable(), (name, message)
        (event,) = wait_for_events(kube, namespace, name, "Warning", reason)
        assert event.isprintable()
        assert condition(get_repo(kube, namespace, name), "Accepted")["status"] == "True"

    # Each repo recovers with its next update, which runs a new Job.
    for name in FAULTS:
        pods.of_repo[name] = ended(GOOD)
        annotate(kube, namespace, name, "again")

    def counted() -> bool:
        return all(index_of(kube, namespace, name).get("files") == GOOD["files"] for name in FAULTS)

    def recovered() -> bool:
        return all(finding(kube, namespace, name)[:2] == ("True", "Updated") for name in FAULTS)

    pods.until(counted, "counts of all", longest_s=LONG_S)
    for name in ("image", "node"):  # their first Jobs keep waiting until they are deleted
        assert finding(kube, namespace, name)[1] == "UpdateStuck"
        for one in jobs(kube, namespace, name):
            kube.delete(path("jobs", namespace, one["metadata"]["name"], BATCH))
    pods.until(recovered, "all to recover", longest_s=LONG_S)
    for name in FAULTS:
        assert len(wait_for_events(kube, namespace, name, "Normal", "Updated")) == 1


def wait_for_events(kube: KubeClient, namespace: str, name: str, kind: str, reason: str) -> list[str]:
    """Wait for such Events of a repo and return their messages. An Event follows shortly after its condition."""

    def found() -> list[str]:
        return [one[2] for one in events(kube, namespace, name) if one[:2] == (kind, reason)]

    return wait_for(found, f"an Event {reason} of {name}")


def test_what_is_gone_stays_known(kube, namespace, operator):
    pods = IndexPods(kube, namespace, demo=ended(GOOD))
    make(kube, namespace, "demo")
    pods.until(lambda: index_of(kube, namespace, "demo").get("files") == 7, "its counts")
    before = (get_repo(kube, namespace, "demo") or {})["status"]
    for plural, group in (("pods", "/api/v1"), ("jobs", BATCH)):

        def left(plural=plural, group=group):
            return kube.list(path(plural, namespace, group=group), labelSelector="pywharf.dev/repo=demo")

        for one in left():
            kube.delete(path(plural, namespace, one["metadata"]["name"], group), grace_s=0)
        wait_for(functools.partial(is_empty, left), f"its {plural} to be gone")
        resync(operator, kube, namespace)
        assert (get_repo(kube, namespace, "demo") or {})["status"] == before
        assert len(jobs(kube, namespace)) == (1 if plural == "pods" else 0)  # and no new one is run


def is_empty(listed: Callable[[], list[Json]]) -> bool:
    return not listed()


def test_a_trigger_runs_once(kube, namespace, granted, tmp_path):
    """The same value again, a restart of the operator or a removed value runs nothing."""
    pods = IndexPods(kube, namespace, demo=ended(GOOD))
    make(kube, namespace, "demo")

    def run(value: str, count: int) -> None:
        annotate(kube, namespace, "demo", value)
        pods.until(lambda: index_of(kube, namespace, "demo").get("lastTrigger") == value, f"the trigger {value}")
        pods.until(
            lambda: index_of(kube, namespace, "demo").get("lastJob") in names_of(jobs(kube, namespace)[count - 1 :]),
            f"the result of {value}",
        )
        assert len(jobs(kube, namespace)) == count

    with operating(tmp_path / "a", granted, namespace) as operator:
        pods.until(lambda: index_of(kube, namespace, "demo").get("lastJob"), "the first update")
        assert "lastTrigger" not in index_of(kube, namespace, "demo")
        run("first", 2)
        annotate(kube, namespace, "demo", "first")
        resync(operator, kube, namespace)
        assert len(jobs(kube, namespace)) == 2
        run("second", 3)
    with operating(tmp_path / "b", granted, namespace) as operator:
        resync(operator, kube, namespace)
        assert len(jobs(kube, namespace)) == 3
        annotate(kube, namespace, "demo", None)
        resync(operator, kube, namespace)
        assert len(jobs(kube, namespace)) == 3
        assert index_of(kube, namespace, "demo")["lastTrigger"] == "second"
        run("first", 4)  # the value is new again
        operator.kill()
        annotate(kube, namespace, "demo", "while it was down")
    with operating(tmp_path / "c", granted, namespace) as operator:
        run("while it was down", 5)
        resync(operator, kube, namespace)
        assert len(jobs(kube, namespace)) == 5


def test_many_new_repos_are_updated_a_few_at_a_time(kube, namespace, operator):
    """A thousand new repos must not cause a thousand concurrent pods."""
    names = [f"many-{number}" for number in range(MAX_CONCURRENT + 2)]
    make(kube, namespace, *names)
    wait_for_config(kube, namespace, *names)
    wait_for(lambda: len(jobs(kube, namespace)) >= MAX_CONCURRENT, "the first updates", longest_s=LONG_S)
    resync(operator, kube, namespace)
    running = jobs(kube, namespace)
    assert len(running) == MAX_CONCURRENT
    for one in running[:1]:
        kube.delete(path("jobs", namespace, one["metadata"]["name"], BATCH))
    wait_for(lambda: len(jobs(kube, namespace)) == MAX_CONCURRENT, "one in its place", longest_s=LONG_S)
    for _ in range(3):
        resync(operator, kube, namespace)
        assert len(jobs(kube, namespace)) == MAX_CONCURRENT


def test_many_triggers_of_one_repo_make_one_job_after_another(kube, namespace, operator):
    """Earlier finding: thirty values caused 18 concurrent Jobs for one repo."""
    make(kube, namespace, "demo", "other")
    wait_for(lambda: jobs(kube, namespace, "demo"), "its first update", longest_s=LONG_S)
    for number in range(30):
        annotate(kube, namespace, "demo", f"value-{number}")
        if number % 10 == 0:
            resync(operator, kube, namespace)
    resync(operator, kube, namespace)
    assert len(jobs(kube, namespace, "demo")) == 1
    (running,) = jobs(kube, namespace, "demo")

    def waits() -> bool:
        status, reason, message = finding(kube, namespace, "demo")
        return (status, reason) == ("Unknown", "WaitingForJob") and running["metadata"]["name"] in message

    wait_for(waits, "the condition to say what is waited for", longest_s=LONG_S)
    assert "lastTrigger" not in index_of(kube, namespace, "demo")
    pods = IndexPods(kube, namespace, demo=ended(GOOD))
    pods.until(lambda: index_of(kube, namespace, "demo").get("lastTrigger") == "value-29", "the last value")
    pods.until(lambda: finding(kube, namespace, "demo")[1] == "Updated", "its result")
    resync(operator, kube, namespace)
    assert len(jobs(kube, namespace, "demo")) == 2, "the values in between need no update of their own"


def test_namespaces_share_the_slots(kube, cluster, namespace, tmp_path):
    """One tenant's repos take every slot; another tenant's first repo is updated nevertheless."""
    cluster.need_controllers()
    other_namespace = new_namespace(kube)
    shared = server(allowedNamespaces={"from": "All"})
    names = [f"many-{number}" for number in range(MAX_CONCURRENT + 3)]
    apply(kube, namespace, shared, *(secret_of(name) for name in names), *(repo(name) for name in names))
    account = grant(cluster, namespace, other_namespace)
    with operating(tmp_path / "operator", account, namespace, other_namespace) as operator:
        wait_for(lambda: len(jobs(kube, namespace)) >= MAX_CONCURRENT, "every slot to be taken", longest_s=LONG_S)
        resync(operator, kube, namespace)
        waiting = [name for name in names if finding(kube, namespace, name)[1] == "WaitingForSlot"]
        assert len(waiting) == 3, [finding(kube, namespace, name) for name in names]
        late = repo("late", serverRef={"name": "pywharf", "namespace": namespace})
        second = repo("second", serverRef={"name": "pywharf", "namespace": namespace})
        apply(kube, other_namespace, secret_of("late"), secret_of("second"), late, second)
        wait_for(
            lambda: jobs(kube, namespace, "late") or jobs(kube, namespace, "second"), "its update", longest_s=LONG_S
        )
        resync(operator, kube, namespace)
        assert len(jobs(kube, namespace)) == MAX_CONCURRENT + 1
        # The slot kept for other namespaces is on top of MAX_CONCURRENT, so two Jobs must end.
        for one in [*jobs(kube, namespace, names[0]), *jobs(kube, namespace, names[1])]:
            kube.delete(path("jobs", namespace, one["metadata"]["name"], BATCH))
        wait_for(
            lambda: jobs(kube, namespace, "late") and jobs(kube, namespace, "second"),
            "the next slot to be the other namespace's",
            longest_s=LONG_S,
        )


def test_a_repo_made_anew_is_updated_anew(kube, namespace, granted, tmp_path):
    """A new repo is updated even if its predecessor's deletion went unseen and both have the same trigger value."""
    pods = IndexPods(kube, namespace, demo=ended(GOOD))
    annotated = repo("demo", index={"suspend": True})  # so that only the requested update runs
    annotated["metadata"]["annotations"] = {"pywharf.dev/update-index": "now"}

    def is_shown() -> bool:
        return index_of(kube, namespace, "demo").get("lastTrigger") == "now"

    apply(kube, namespace, server(), secret_of("demo"), annotated)
    with operating(tmp_path / "a", granted, namespace):
        pods.until(lambda: is_shown() and "files" in index_of(kube, namespace, "demo"), "the update")
    assert len(jobs(kube, namespace)) == 1
    former = index_of(kube, namespace, "demo")["lastJob"]
    made = jobs(kube, namespace)[0]["metadata"]["creationTimestamp"]
    wait_for(lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) > made, "another second: times are whole ones")
    kube.delete(path("packagerepos", namespace, "demo"))
    apply(kube, namespace, annotated)
    pods.of_repo["demo"] = ended(GOOD | {"files": 9})
    with operating(tmp_path / "b", granted, namespace):
        pods.until(lambda: is_shown() and index_of(kube, namespace, "demo").get("files") == 9, "an update of its own")
    assert index_of(kube, namespace, "demo")["lastJob"] != former


def names_of(found: list[Json]) -> set[str]:
    return {one["metadata"]["name"] for one in found}


def test_cron_jobs_follow_their_repos(kube, namespace, operator):
    make(kube, namespace, "demo", "other", index={})
    make(kube, namespace, "quiet", index={"suspend": True, "schedule": "5 4 * * *", "timeZone": "Europe/Paris"})
    wait_for_config(kube, namespace, "demo", "other", "quiet")
    for name in ("demo", "other", "quiet"):
        wait_for(functools.partial(cron_job, kube, namespace, name), f"the CronJob of {name}", longest_s=LONG_S)
    for name in ("demo", "other"):  # by chance they may have the same minute
        assert re.fullmatch(r"[1-5]?\d \* \* \* \*", cron_job(kube, namespace, name)["spec"]["schedule"])
    quiet = cron_job(kube, namespace, "quiet")["spec"]
    assert (quiet["schedule"], quiet["timeZone"], quiet["suspend"]) == ("5 4 * * *", "Europe/Paris", True)
    assert (quiet["concurrencyPolicy"], quiet["successfulJobsHistoryLimit"]) == ("Forbid", 1)
    wait_for_condition(kube, path("packagerepos", namespace, "quiet"), "IndexUpToDate", "Unknown", reason="Suspended")
    assert not jobs(kube, namespace, "quiet")
    apply(kube, namespace, repo("quiet", index={"suspend": False, "schedule": "6 4 * * *"}))
    wait_for(lambda: cron_job(kube, namespace, "quiet")["spec"]["schedule"] == "6 4 * * *", "the new schedule")
    assert cron_job(kube, namespace, "quiet")["spec"]["suspend"] is False
    wait_for(lambda: jobs(kube, namespace, "quiet"), "its first update")

    # A Job sees its own folder of the volume and no Secret, because a file system needs none.
    (job,) = jobs(kube, namespace, "demo")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {(one["name"], one["mountPath"], one.get("subPath")) for one in container["volumeMounts"]} == {
        ("tmp", "/tmp", None),
        ("data", "/var/lib/pywharf/cache/demo", "cache/demo"),
    }
    assert {key for one in pod["volumes"] for key in one} == {"name", "emptyDir", "persistentVolumeClaim"}
    assert pod["automountServiceAccountToken"] is False
    assert "other" not in json.dumps(job["spec"])
    assert "env" not in container
    assert "envFrom" not in container

    # Deleting a repo deletes its CronJob, its running Job and the Job's pod, and nothing else.
    wait_for(
        lambda: kube.list(path("pods", namespace, group="/api/v1"), labelSelector="pywharf.dev/repo=demo"), "its pod"
    )
    kube.delete(path("packagerepos", namespace, "demo"))
    wait_for(lambda: not cron_job(kube, namespace, "demo"), "its CronJob to be gone", longest_s=LONG_S)
    wait_for(lambda: not jobs(kube, namespace, "demo"), "its Job to be gone", longest_s=LONG_S)
    wait_for(
        lambda: not kube.list(path("pods", namespace, group="/api/v1"), labelSelector="pywharf.dev/repo=demo"),
        "its pod to be gone",
        longest_s=LONG_S,
    )
    assert cron_job(kube, namespace, "other")
    assert len(jobs(kube, namespace, "other")) == 1


@pytest.mark.timeout(180)
def test_the_schedule_runs_it(kube, namespace, operator):
    """Kubernetes' own controller creates a Job from the CronJob; its result is used like any other."""
    pods = IndexPods(kube, namespace, demo=ended(GOOD))
    often = server(limits={"minScheduleIntervalSeconds": 60})
    apply(kube, namespace, often, secret_of("demo"), repo("demo", index={"schedule": "* * * * *"}))
    pods.until(lambda: index_of(kube, namespace, "demo").get("lastJob"), "the first update")
    first = index_of(kube, namespace, "demo")["lastJob"]
    pods.of_repo["demo"] = ended(GOOD | {"files": 8})
    pods.until(lambda: index_of(kube, namespace, "demo").get("files") == 8, "the scheduled one", longest_s=100)
    last = index_of(kube, namespace, "demo")["lastJob"]
    assert last != first
    (job,) = [one for one in jobs(kube, namespace) if one["metadata"]["name"] == last]
    assert [one["kind"] for one in job["metadata"]["ownerReferences"]] == ["CronJob"]


@pytest.mark.timeout(180)
def test_real_updates(kube, namespace, kubelet, operator, tmp_path):
    """Real updates of a real volume: for a new repo, on request, failing, and working again."""
    make(kube, namespace, "demo", "broken")
    kubelet.secrets |= {"demo-read-value", "broken-read-value"}
    for name in ("demo", "broken"):
        where = path("packagerepos", namespace, name)
        wait_for_condition(kube, where, "IndexUpToDate", "True", reason="Updated", longest_s=LONG_S)
        assert index_of(kube, namespace, name)["files"] == 0
    storage = {name: storage_of(kubelet, namespace, name) for name in ("demo", "broken")}
    project = storage["demo"] / "parcel"
    project.mkdir(parents=True)
    made = wheel(tmp_path, "parcel")
    made.rename(project / made.name)
    annotate(kube, namespace, "demo", "now")
    wait_for(lambda: index_of(kube, namespace, "demo").get("files") == 1, "its wheel to count", longest_s=LONG_S)
    found = index_of(kube, namespace, "demo")
    assert (found["projects"], found["bytes"]) == (1, (project / made.name).stat().st_size)

    spoil(storage["broken"])
    annotate(kube, namespace, "broken", "now")
    found = wait_for_condition(
        kube,
        path("packagerepos", namespace, "broken"),
        "IndexUpToDate",
        "False",
        reason="UpdateFailed",
        longest_s=LONG_S,
    )
    assert found["status"]["index"]["files"] == 0  # as before
    print(condition(found, "IndexUpToDate"))
    repair(storage["broken"])
    annotate(kube, namespace, "broken", "repaired")
    wait_for_condition(
        kube, path("packagerepos", namespace, "broken"), "IndexUpToDate", "True", reason="Updated", longest_s=LONG_S
    )
    assert finding(kube, namespace, "demo")[0] == "True"


def spoil(folder: Path) -> None:
    """Replace the folder by a file, so that nothing can be listed."""
    folder.rename(folder.with_name("aside"))
    folder.write_text("no folder")


def repair(folder: Path) -> None:
    folder.unlink()
    folder.with_name("aside").rename(folder)


def storage_of(kubelet: Kubelet, namespace: str, name: str) -> Path:
    """Return the folder of a repo's packages in the volume."""
    pods = kubelet.pods(namespace, **{"pywharf.dev/server": "pywharf", "app.kubernetes.io/component": "server"})
    return kubelet.volume(pods[0]["metadata"]["name"], "data") / "cache" / name / "storage"
