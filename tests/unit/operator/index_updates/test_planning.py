"""Which Jobs a reconcile starts, and what it reports once they are started. Nothing here reaches an API server."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from pywharf.core.names import RepoName
from pywharf_operator.cluster.kube import KubeError
from pywharf_operator.index_updates.outcome import indexes_of
from pywharf_operator.index_updates.planning import RepoPlan, plan_updates
from pywharf_operator.index_updates.runs import Runs
from pywharf_operator.index_updates.slots import MAX_CONCURRENT
from pywharf_operator.index_updates.starting import start
from pywharf_operator.render import Finding, RepoVerdict
from pywharf_operator.spec import API_VERSION, ObjectMeta, PackageRepo, PackageRepoSpec
from pywharf_operator.spec.backends import Backend, FileSystem
from pywharf_operator.spec.package_repo import Credentials, Index, IndexStatus, PackageRepoStatus

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
KNOWN = IndexStatus(last_update_time=NOW - timedelta(hours=1), last_job="known", last_result="x", last_trigger="a")
GOOD = Finding(status=True, reason="x", message="x")


def verdict(name="demo", *, trigger=None, index=None, suspend=False):
    annotations = {} if trigger is None else {"pywharf.dev/update-index": trigger}
    spec = PackageRepoSpec(
        backend=Backend(file_system=FileSystem()), credentials=Credentials(), index=Index(suspend=suspend)
    )
    repo = PackageRepo(
        api_version=API_VERSION,
        kind="PackageRepo",
        metadata=ObjectMeta(name=name, namespace="ml", uid=f"uid-{name}", annotations=annotations),
        spec=spec,
        status=None if index is None else PackageRepoStatus(index=index),
    )
    return RepoVerdict(repo=repo, accepted=GOOD, secrets_resolved=GOOD)


def cron_job(name="demo", template="t1"):
    of_jobs = {"labels": {}, "annotations": {"pywharf.dev/template": template}}
    return {
        "metadata": {"name": f"wharf-index-{name}", "namespace": "ml"},
        "spec": {"jobTemplate": {"metadata": of_jobs, "spec": {}}},
    }


def job(name, *, template="t1", uid="u1", **metadata):
    annotations = {"pywharf.dev/template": template, "cronjob.kubernetes.io/instantiate": "manual"}
    return {
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": uid,
            "creationTimestamp": NOW.isoformat(),
            "annotations": annotations,
        }
        | metadata
    }


def finished(made):
    ended = {"type": "Complete", "status": "True", "lastTransitionTime": NOW.isoformat()}
    return made | {"status": {"conditions": [ended]}}


def plan_of(repo, *jobs, refused=None):
    runs = Runs({repo.name: list(jobs)}, {}, [], refused or {})
    (plan,) = plan_updates([repo], {repo.name: cron_job(repo.name)}, runs, NOW)
    return plan, runs


def name_of(repo):
    """Return the name of the Job that the repo's request starts."""
    (new,) = plan_of(repo)[0].new_jobs
    return new.manifest["metadata"]["name"]


TRIGGERED = verdict(trigger="b", index=KNOWN)


@pytest.mark.parametrize(
    ("repo", "jobs", "starts", "acts_on", "waits"),
    [
        pytest.param(verdict(), [], 1, None, None, id="first"),
        pytest.param(verdict(suspend=True), [], 0, None, None, id="suspended"),
        pytest.param(verdict(), [job("other")], 0, None, None, id="first is running"),
        pytest.param(verdict(index=KNOWN), [], 0, None, None, id="nothing is requested"),
        pytest.param(verdict(trigger="a", index=KNOWN), [], 0, None, None, id="acted on already"),
        pytest.param(TRIGGERED, [], 1, "b", None, id="trigger"),
        pytest.param(verdict(trigger="b", index=KNOWN, suspend=True), [], 1, "b", None, id="trigger while suspended"),
        pytest.param(TRIGGERED, [job("other")], 0, None, "WaitingForJob", id="another runs"),
        pytest.param(TRIGGERED, [job(name_of(TRIGGERED))], 0, "b", "WaitingForJob", id="its Job exists"),
        pytest.param(
            TRIGGERED,
            [job(name_of(TRIGGERED), deletionTimestamp="x")],
            0,
            None,
            "WaitingForJob",
            id="its Job is being deleted",
        ),
    ],
)
def test_what_starts(repo, jobs, starts, acts_on, waits):
    plan, _ = plan_of(repo, *jobs)
    assert (len(plan.new_jobs), plan.acts_on) == (starts, acts_on)
    assert (plan.waiting and plan.waiting.reason) == waits


def test_a_value_that_recurs_starts_a_job_of_its_own():
    """The Job of the first time is still there."""
    first = finished(job(name_of(TRIGGERED)))
    again = verdict(trigger="b", index=msgspec.structs.replace(KNOWN, last_job="of a, the second time"))
    plan, _ = plan_of(again, first)
    assert (len(plan.new_jobs), plan.acts_on) == (1, "b")


def test_repos_without_a_slot_wait():
    repos = [verdict(f"r{number:02}") for number in range(MAX_CONCURRENT + 2)]
    plans = plan_updates(repos, {one.name: cron_job(one.name) for one in repos}, Runs({}, {}, []), NOW)
    assert sum(len(plan.new_jobs) for plan in plans) == MAX_CONCURRENT
    assert [plan.waiting.reason for plan in plans if plan.waiting] == ["WaitingForSlot"] * 2
    assert not any(plan.new_jobs for plan in plans if plan.waiting)


def test_planning_changes_nothing():
    jobs = [job("other", uid="refused", template="old")]
    first, runs = plan_of(TRIGGERED, *jobs, refused={"refused": "no"})
    again, _ = plan_of(TRIGGERED, *jobs, refused={"refused": "no"})
    assert first == again
    assert runs.jobs == {"demo": jobs}


@pytest.mark.parametrize(
    ("template", "uid", "replaced"), [("old", "refused", True), ("t1", "refused", False), ("old", "u1", False)]
)
def test_a_refused_job_of_another_template_is_replaced(template, uid, replaced):
    plan, _ = plan_of(verdict(index=KNOWN), job("other", uid=uid, template=template), refused={"refused": "no"})
    assert [one.replaces["metadata"]["name"] for one in plan.new_jobs if one.replaces] == ["other"] * replaced


class Api:
    """The calls that starting makes, of which one may fail."""

    def __init__(self, error: KubeError | None = None) -> None:
        self.calls: list[str] = []
        self._error = error

    async def create(self, kind: Any, manifest: Any) -> Any:
        self.calls.append(f"create {manifest['metadata']['name']}")
        if self._error is not None:
            raise self._error
        return manifest

    async def delete(self, kind: Any, key: Any, uid: str) -> None:
        self.calls.append(f"delete {key.name} {uid}")


async def outcome(repo: RepoVerdict, *jobs: Any, api: Any = None, refused: Any = None) -> tuple[RepoPlan, Any, Any]:
    plan, runs = plan_of(repo, *jobs, refused=refused)
    api = Api() if api is None else api
    started = await start(api, [plan])
    finding, index = indexes_of([plan], started, runs, NOW)[RepoName("demo")]
    return plan, finding, index


async def test_a_trigger_that_was_acted_on_is_remembered():
    _, finding, index = await outcome(TRIGGERED)
    assert (finding.reason, index.last_trigger) == ("Updated", "b")


async def test_a_trigger_that_waits_is_not_remembered():
    _, finding, index = await outcome(TRIGGERED, job("other"))
    assert (finding.reason, index.last_trigger) == ("WaitingForJob", "a")


async def test_a_job_is_replaced_before_it_is_deleted():
    api = Api()
    _, finding, _ = await outcome(
        verdict(index=KNOWN), job("other", uid="refused", template="old"), api=api, refused={"refused": "no"}
    )
    assert [call.split()[0] for call in api.calls] == ["create", "delete"]
    assert api.calls[1] == "delete other refused"
    assert finding.reason == "Updated", "the refused Job is gone"


async def test_a_refused_job_is_reported_to_its_repo():
    error = KubeError(403, "Forbidden", "exceeded quota: q")
    _, finding, index = await outcome(TRIGGERED, api=Api(error))
    assert (finding.status, finding.reason) == (False, "UpdateStuck")
    assert "exceeded quota" in finding.message
    assert index == KNOWN, "the trigger is still due"


async def test_what_an_earlier_job_reported_counts_although_a_new_one_is_refused():
    done = finished(job("done"))
    _, finding, index = await outcome(TRIGGERED, done, api=Api(KubeError(403, "Forbidden", "exceeded quota: q")))
    assert (finding.reason, index.last_job, index.last_trigger) == ("UpdateStuck", "done", "a")


async def test_an_api_server_that_is_away_is_an_error():
    with pytest.raises(KubeError):
        await outcome(TRIGGERED, api=Api(KubeError(503, "Unavailable", "")))
