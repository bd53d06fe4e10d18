"""What Jobs and their pods report about an index, whatever the termination message contains."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from pywharf_operator.index_updates.state import due_trigger, index_state, jobs_of_repo, needs_first_update
from pywharf_operator.spec import API_VERSION, ObjectMeta, PackageRepo, PackageRepoSpec
from pywharf_operator.spec.backends import Backend, FileSystem
from pywharf_operator.spec.package_repo import Credentials, Index, IndexStatus, PackageRepoStatus

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT_NOON, LATER, EARLIER = "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z", "2026-01-01T11:00:00Z"
KNOWN = IndexStatus(
    projects=1,
    files=2,
    bytes=3,
    last_update_time=NOON,
    last_job="known",
    last_result="Updated: 1 projects, 2 files.",
    last_trigger="a",
)
GOOD = {"projects": 4, "files": 5000, "bytes": 6, "problems": []}


def repo(index: IndexStatus | None = None, *, suspend: bool = False, trigger: object = None) -> PackageRepo:
    annotations = {} if trigger is None else {"pywharf.dev/update-index": trigger}
    backend = Backend(file_system=FileSystem())
    return PackageRepo(
        api_version=API_VERSION,
        kind="PackageRepo",
        metadata=ObjectMeta(name="demo", namespace="ml", annotations=annotations),
        spec=PackageRepoSpec(backend=backend, credentials=Credentials(), index=Index(suspend=suspend)),
        status=None if index is None else PackageRepoStatus(index=index),
    )


def job(name="new", end=LATER, kind="Complete", **condition):
    ended = {"type": kind, "status": "True", "lastTransitionTime": end, **condition}
    return {
        "metadata": {"name": name, "creationTimestamp": end},
        "status": {"conditions": [] if kind is None else [ended]},
    }


def failed(name="new", end=LATER, **condition):
    return job(name, end, "Failed", **{"reason": "BackoffLimitExceeded", "message": "Too often.", **condition})


def pod(of="new", message=None, code=0, created=LATER, **status):
    ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
    if message is not None:
        ended["message"] = message if isinstance(message, str) else json.dumps(message)
    status = {"containerStatuses": [{"name": "index", "state": {"terminated": ended}}]} | status
    labels = {"batch.kubernetes.io/job-name": of}
    return {"metadata": {"name": f"{of}-x", "labels": labels, "creationTimestamp": created}, "status": status}


def waiting(reason, of="new"):
    return pod(of, containerStatuses=[{"name": "index", "state": {"waiting": {"reason": reason}}}])


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes\x1b[31m are free",
}
OOM = [{"name": "index", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "the log's end"}}}]


def seen(repo, jobs, pods, now=NOON + timedelta(hours=1, minutes=1)):
    return index_state(repo, jobs, pods, now)


@pytest.mark.parametrize(
    ("jobs", "pods", "status", "reason", "says"),
    [
        pytest.param([], [], None, "Pending", "first update", id="nothing"),
        pytest.param([job(kind=None)], [], None, "Pending", "first update", id="running"),
        pytest.param([job()], [pod(message=GOOD)], True, "Updated", "4 projects, 5,000 files.", id="good"),
        pytest.param(
            [job()],
            [pod(message=GOOD | {"problems": ["a\x1b[31m", "b"]})],
            True,
            "Updated",
            "2 problems: a [31m.",
            id="problems",
        ),
        pytest.param([job()], [], True, "Updated", "Updated.", id="pod gone before it was seen"),
        pytest.param(
            [failed()], [pod(message={"error": "No\x00 room."}, code=1)], False, "UpdateFailed", "No  room.", id="error"
        ),
        pytest.param([failed()], [], False, "UpdateFailed", "Job new: Too often.", id="failed, pod gone"),
        pytest.param(
            [failed()],
            [pod(message={"error": "old"}, code=1, created=EARLIER), pod(message={"error": "last"}, code=1)],
            False,
            "UpdateFailed",
            "last",
            id="the newest pod",
        ),
        pytest.param(
            [failed()],
            [pod(message="Starting\nno such flag: --x\n \n", code=2)],
            False,
            "UpdateFailed",
            "Failed: no such flag: --x.",
            id="the end of a log",
        ),
        pytest.param([failed()], [pod(containerStatuses=OOM)], False, "UpdateFailed", "more memory", id="memory"),
        pytest.param(
            [failed(reason="DeadlineExceeded")],
            [pod(message={"error": "x"}, code=1)],
            False,
            "UpdateFailed",
            "took longer",
            id="deadline",
        ),
        pytest.param(
            [failed()],
            [pod(reason="Evicted", containerStatuses=[])],
            False,
            "UpdateFailed",
            "evicted",
            id="evicted",
        ),
        pytest.param(
            [job(kind=None)], [waiting("ImagePullBackOff")], False, "UpdateStuck", "image cannot be pulled", id="image"
        ),
        pytest.param(
            [job(kind=None)],
            [pod(containerStatuses=[], conditions=[UNSCHEDULABLE])],
            False,
            "UpdateStuck",
            "no node: 0/1 nodes [31m are free",
            id="no node",
        ),
        pytest.param([job(kind=None)], [waiting("ContainerCreating")], None, "Pending", "first", id="starting"),
        pytest.param(
            [failed("old", EARLIER), job(kind=None)],
            [waiting("ErrImagePull")],
            False,
            "UpdateStuck",
            "image cannot be pulled",
            id="stuck after a failure",
        ),
        pytest.param(
            [job("old", EARLIER), failed()],
            [pod("old", GOOD)],
            False,
            "UpdateFailed",
            "Too often",
            id="the last one counts",
        ),
        pytest.param(
            [failed("old", EARLIER), job()],
            [pod(message=GOOD), pod("old", {"error": "x"}, 1)],
            True,
            "Updated",
            "4 projects",
            id="recovered",
        ),
        pytest.param([job(end="yesterday")], [pod(message=GOOD)], True, "Updated", "4 projects", id="no time"),
    ],
)
def test_of_a_new_repo(jobs, pods, status, reason, says):
    finding, state = seen(repo(), jobs, pods)
    assert (finding.status, finding.reason) == (status, reason), finding.message
    assert says in finding.message
    assert finding.message.isprintable()
    assert (state.last_result or "").isprintable()


HOSTILE = [
    "{",
    "null",
    "[]",
    "7",
    '"text"',
    "\x00\x1b[2J" * 1024,
    "[" * 4096,
    '{"files": -1}',
    '{"files": 1e400}',
    '{"files": 9223372036854775808}',
    '{"files": ' + "9" * 4000 + "}",
    '{"files": "7"}',
    '{"files": true}',
    '{"files": 7.5}',
    '{"files": 7, "projects": null, "bytes": []}',
    '{"problems": "none"}',
    '{"problems": [1]}',
    '{"error": {}}',
]


@pytest.mark.parametrize("message", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("ended", [job(), failed()], ids=["complete", "failed"])
def test_a_hostile_message_changes_no_count(message, ended):
    code = 0 if ended == job() else 1
    finding, state = seen(repo(KNOWN), [ended], [pod(message=message, code=code)])
    assert (finding.status, finding.reason) == (False, "UpdateFailed")
    assert (state.projects, state.files, state.bytes, state.last_update_time) == (1, 2, 3, NOON)
    assert (state.last_job, state.last_trigger) == ("new", "a")
    for text in (finding.message, state.last_result or ""):
        assert text.isprintable()
        assert len(text) < 800
    if code == 0:
        assert "its report cannot be read" in finding.message
    # The next reconcile reports the same, also after the pod is gone.
    again, same = seen(repo(state), [ended], [pod(message=message, code=code)])
    gone, kept = seen(repo(state), [ended], [])
    assert (again, same) == (gone, kept) == (finding, state)


@pytest.mark.parametrize(
    ("jobs", "pods"),
    [
        pytest.param([], [], id="all gone"),
        pytest.param([job("known", AT_NOON)], [], id="its pod is gone"),
        pytest.param([failed("older", EARLIER)], [pod("older", {"error": "x"}, 1)], id="only an older failure is left"),
        pytest.param([job("older", EARLIER)], [pod("older", GOOD)], id="only an older success is left"),
        pytest.param([job(kind=None)], [], id="one runs"),
    ],
)
def test_what_is_gone_is_remembered(jobs, pods):
    finding, state = seen(repo(KNOWN), jobs, pods)
    assert (finding.status, finding.reason, state) == (True, "Updated", KNOWN)


def test_pods_seen_after_their_job_give_the_reason():
    finding, state = seen(repo(KNOWN), [failed()], [])
    assert "Too often" in finding.message
    finding, state = seen(repo(state), [failed()], [pod(containerStatuses=OOM)])
    assert "more memory" in finding.message


def test_counts_that_are_seen_after_their_job_are_taken():
    _, state = seen(repo(KNOWN), [job()], [])
    assert (state.files, state.last_job) == (2, "new")
    _, state = seen(repo(state), [job()], [pod(message=GOOD)])
    assert (state.projects, state.files, state.bytes) == (4, 5000, 6)


def created(job, at):
    return job | {"metadata": job["metadata"] | {"creationTimestamp": at}}


FAST = msgspec.structs.replace(KNOWN, last_update_time=datetime(2026, 1, 1, 14, tzinfo=UTC))
"""What a pod with a sidecar has reported, by its node's clock."""


@pytest.mark.parametrize(
    ("index", "jobs"),
    [
        pytest.param(KNOWN, [created(job("known", LATER), AT_NOON), job()], id="two end within a second"),
        pytest.param(KNOWN, [job(), created(job("known", LATER), AT_NOON)], id="listed in the other order"),
        pytest.param(FAST, [job("known", AT_NOON), job()], id="the known one's node has a fast clock"),
        pytest.param(
            KNOWN,
            [job("known", AT_NOON), created(job(), EARLIER)],
            id="it was created first and could not start for long",
        ),
    ],
)
def test_a_job_that_ends_after_the_known_one_is_counted_once(index, jobs):
    pods = [pod("known", GOOD | {"files": 7}), pod(message=GOOD)]
    finding, state = seen(repo(index), jobs, pods)
    assert (finding.reason, state.files, state.last_job) == ("Updated", 5000, "new")
    assert seen(repo(state), jobs, pods) == (finding, state)


@pytest.mark.parametrize(
    ("suspend", "index", "reason", "first"),
    [
        (True, None, "Suspended", False),
        (True, KNOWN, "Updated", False),
        (False, None, "Pending", True),
        (False, KNOWN, "Updated", False),
        (False, IndexStatus(last_job="x", last_result="Failed: y"), "UpdateFailed", False),
    ],
)
def test_without_jobs(suspend, index, reason, first):
    made = repo(index, suspend=suspend)
    assert seen(made, [], [])[0].reason == reason
    assert needs_first_update(made) is first


PENDING = pod(
    phase="Pending", containerStatuses=[{"name": "index", "state": {"waiting": {"reason": "ContainerCreating"}}}]
)


@pytest.mark.parametrize(
    ("jobs", "pods", "minutes", "says"),
    [
        ([job(kind=None)], [PENDING], 5, None),
        ([job(kind=None)], [PENDING], 6, "Job new has not started; `kubectl describe pod new-x` says why."),
        ([job(kind=None)], [pod(phase="Running", containerStatuses=[])], 60, None),
        ([job(kind=None)], [], 5, None),
        ([job(kind=None)], [], 6, "Job new has no pod; `kubectl describe job new` says why."),
        ([job(kind=None) | {"spec": {"suspend": True}}], [], 60, None),
        ([job(kind=None, end="odd")], [], 60, None),
        ([job()], [], 60, None),
        ([job(kind=None)], [pod("other")], 6, "has no pod"),
        ([job(kind=None)], [pod(message={"error": "x"}, code=1)], 60, None),
    ],
)
def test_a_job_that_does_not_start_is_reported_after_a_while(jobs, pods, minutes, says):
    finding, state = seen(repo(KNOWN), jobs, pods, NOON + timedelta(hours=1, minutes=minutes))
    assert (finding.reason == "UpdateStuck") is (says is not None), finding
    assert (says or "") in finding.message
    if says is not None:
        assert state == KNOWN
        assert seen(repo(KNOWN), jobs, pods, NOON + timedelta(hours=2))[0] == finding


@pytest.mark.parametrize(
    ("created", "kept"), [(None, ["a", "b", "c"]), (EARLIER, ["a", "b", "c"]), (AT_NOON, ["b", "c"]), (LATER, ["c"])]
)
def test_jobs_of_a_former_repo_of_the_name_are_ignored(created, kept):
    when = None if created is None else datetime.fromisoformat(created)
    made = msgspec.structs.replace(repo(), metadata=ObjectMeta(name="demo", namespace="ml", creation_timestamp=when))
    jobs = [job("a", EARLIER), job("b", AT_NOON), job("c", "odd")]
    assert [one["metadata"]["name"] for one in jobs_of_repo(made, jobs)] == kept


def test_a_failure_reports_whether_updates_go_on():
    index = IndexStatus(last_job="x", last_result="Failed: y.")
    for suspend, says in ((False, "tried by schedule"), (True, "updates are suspended")):
        assert says in seen(repo(index, suspend=suspend), [], [])[0].message


@pytest.mark.parametrize(
    ("trigger", "last", "due"),
    [
        (None, None, None),
        ("", None, None),
        ("a", None, "a"),
        ("a", "a", None),
        ("b", "a", "b"),
        (None, "a", None),
        ("c" * 2000, None, "c" * 1000),
        ("c" * 2000, "c" * 1000, None),
    ],
)
def test_a_trigger_is_due_once(trigger, last, due):
    assert due_trigger(repo(IndexStatus(last_trigger=last), trigger=trigger)) == due


def beside(name="istio-proxy", **state):
    return {"name": name, "state": state or {"running": {"startedAt": EARLIER}}}


def finished(message=GOOD, code=0, at=LATER):
    text = message if isinstance(message, str) else json.dumps(message)
    return {"name": "index", "state": {"terminated": {"exitCode": code, "message": text, "finishedAt": at}}}


def kept_pod(*containers):
    return pod(phase="Running", containerStatuses=list(containers))


def test_a_sidecar_that_runs_on_hides_no_report():
    """The container has ended and reported its result, but the Job never completes."""
    running = job(kind=None)
    finding, state = seen(repo(), [running], [kept_pod(beside(), finished())])
    assert (finding.status, finding.reason) == (False, "SidecarRunning")
    for words in ("istio-proxy", "spec.jobs", "native sidecars", 'sidecar.istio.io/inject: "false"'):
        assert words in finding.message
    assert (state.files, state.last_job, state.last_result) == (5000, "new", "Updated: 4 projects, 5,000 files.")
    # A second reconcile yields the same. When its deadline ends the Job, the index does not count as outdated.
    again = seen(repo(state), [running], [kept_pod(beside(), finished())])
    assert again == (finding, state)
    late = failed(reason="DeadlineExceeded")
    assert seen(repo(state), [late], [])[0].reason == "Updated"
    assert seen(repo(), [late], [kept_pod(beside(), finished())])[0].reason == "Updated"


@pytest.mark.parametrize(
    ("containers", "reason"),
    [
        pytest.param([finished(at="2026-01-01T13:00:50Z"), beside()], "Updated", id="it may still end"),
        pytest.param([finished(), beside(terminated={"exitCode": 0})], "Pending", id="it has ended"),
        pytest.param([beside(), beside("index")], "Pending", id="both run"),
        pytest.param([finished(code=1), beside()], "Pending", id="a failure is the Job's to tell"),
        pytest.param([finished("no report"), beside()], "SidecarRunning", id="no report"),
    ],
)
def test_when_a_sidecar_is_reported(containers, reason):
    assert seen(repo(), [job(kind=None)], [kept_pod(*containers)])[0].reason == reason


@pytest.mark.parametrize("is_over", [False, True], ids=["it still runs", "the deadline has ended it"])
@pytest.mark.parametrize(
    ("jobs", "at", "files"),
    [
        pytest.param([job("known", AT_NOON)], EARLIER, 5000, id="its node has a slow clock"),
        pytest.param([], EARLIER, 2, id="older than what is known of a Job that is gone"),
        pytest.param([job("known", "2026-01-01T15:00:00Z")], EARLIER, 2, id="of before the known one"),
    ],
)
def test_which_report_beside_a_sidecar_counts(jobs, at, files, is_over):
    late = failed(end="2026-01-01T16:00:00Z", reason="DeadlineExceeded") if is_over else job(kind=None)
    _, state = seen(repo(KNOWN), [*jobs, created(late, LATER)], [kept_pod(beside(), finished(at=at))])
    assert state.files == files


def test_a_sidecar_s_message_is_no_report():
    """Nor does the sidecar's exit count as the end of the update."""
    junk = beside("a-proxy", terminated={"exitCode": 0, "message": json.dumps({"projects": 9, "files": 9})})
    finding, state = seen(repo(), [job()], [kept_pod(junk, finished())])
    assert (finding.reason, state.files) == ("Updated", 5000)
    killed = beside("a-proxy", terminated={"exitCode": 137, "reason": "OOMKilled"})
    finding, state = seen(repo(), [failed()], [kept_pod(killed, finished())])
    assert (finding.reason, state.files) == ("Updated", 5000)
    finding, _ = seen(repo(), [failed()], [kept_pod(killed, finished({"error": "No room."}, code=1))])
    assert "No room." in finding.message


def test_a_sidecar_that_cannot_start_is_named():
    state = {"initContainerStatuses": [{"name": "istio-init", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
    finding, _ = seen(repo(), [job(kind=None)], [pod(containerStatuses=[], **state)])
    assert finding.reason == "UpdateStuck"
    assert "istio-init" in finding.message
    assert "PackageServer's image" not in finding.message
