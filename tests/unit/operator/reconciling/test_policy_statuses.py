"""The statuses of policies, from what each server says. A double stands for the API server and the replicas."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from pywharf.core.reports import WithheldCount
from pywharf_operator.cluster.kube import Json
from pywharf_operator.cluster.policy_reader import ListedPolicies
from pywharf_operator.reconciling import policy_statuses
from pywharf_operator.reconciling.parsed_objects import Malformed
from pywharf_operator.reconciling.policy_board import ServerReport
from pywharf_operator.reconciling.policy_statuses import PolicyStatuses, most_of
from pywharf_operator.render import Finding, PolicyReach
from pywharf_operator.render.resolve.findings import refused
from pywharf_operator.spec import ObjectKey, PackagePolicy
from pywharf_operator.spec.package_policy import TargetRef, Withheld
from pywharf_operator.status.conditions import as_json
from pywharf_operator.status.policies import PolicyReport, policy_status
from pywharf_operator.status.programmed import ReplicaReport

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = ObjectKey("ml", "company")
HOME, OTHER = ObjectKey("ml", "pywharf"), ObjectKey("shared", "packages")
SERVER = TargetRef(kind="PackageServer", name="pywharf")
REPO = TargetRef(kind="PackageRepo", name="a")
DONE = Finding(status=True, reason="Programmed", message="Every ready replica serves this configuration.")
WAITING = Finding(status=False, reason="Waiting", message="2 of 3.")
UNUSED: Any = None


def policy(*targets: TargetRef, generation: int = 1, until: tuple[datetime, ...] = ()) -> Json:
    exceptions = [{"project": "a", "of": ["Cooldown"], "until": one.isoformat(), "reason": "why"} for one in until]
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": "PackagePolicy",
        "metadata": {"name": "company", "namespace": "ml", "uid": "1", "generation": generation},
        "spec": {
            "targetRefs": [{"kind": one.kind, "name": one.name} for one in targets],
            "cooldown": {"minimumAge": "7d"},
            "exceptions": exceptions,
        },
    }


class Cluster:
    """Doubles of the observer and of the writer of statuses."""

    def __init__(self, *policies: Json, servers: tuple[ObjectKey, ...] = (HOME, OTHER)) -> None:
        self.raws = list(policies)
        self.existing = frozenset(servers)
        self.written: list[Json] = []

    async def policies(self) -> ListedPolicies:
        return ListedPolicies(self.raws, frozenset())

    async def parsed_policies(self, items: list[Json]) -> list[PackagePolicy | Malformed]:
        return [msgspec.convert(one, PackagePolicy) for one in items]

    async def servers(self) -> frozenset[ObjectKey]:
        return self.existing

    async def write(self, _kind: Any, wanted: Any, _now: Any, _superseded: Any) -> None:
        self.written = [as_json(status) for _, status in wanted]


def reported(*targets: TargetRef, programmed: Finding = DONE, generation: int = 1, **more: Any) -> PolicyReport:
    reach = PolicyReach(
        policy=KEY, uid="1", generation=generation, targets=frozenset(targets), repos=2, delivered=True, **more
    )
    return PolicyReport(reach, programmed)


def statuses(cluster: Cluster, **clock: Any) -> PolicyStatuses:
    double: Any = cluster
    return PolicyStatuses(double, double, UNUSED, **clock)


def conditions(cluster: Cluster) -> dict[str, tuple[str, str]]:
    (status,) = cluster.written
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


async def written(made: PolicyStatuses, now: datetime = NOW) -> float | None:
    return await made.write(now, lambda: False)


async def test_a_policy_of_two_servers_is_ready_once_both_have_it() -> None:
    cluster = Cluster(policy(SERVER, REPO))
    made = statuses(cluster)
    await written(made)
    assert cluster.written == [], "no server has seen it"
    made.board.report(HOME, ServerReport({KEY: reported(SERVER)}))
    await written(made)
    assert cluster.written == [], "the other may have the repo"
    repos = frozenset({ObjectKey("ml", "a")})
    made.board.report(OTHER, ServerReport({KEY: reported(REPO, programmed=WAITING)}, repos))
    await written(made)
    assert conditions(cluster) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("False", "Waiting"),
        "Ready": ("False", "Waiting"),
    }
    made.board.report(OTHER, ServerReport({KEY: reported(REPO)}, repos))
    await written(made)
    assert conditions(cluster)["Ready"] == ("True", "Ready")
    assert cluster.written[0]["targets"] == 4


async def test_a_change_is_judged_once_its_server_has_seen_it() -> None:
    cluster = Cluster(policy(SERVER, generation=2))
    made = statuses(cluster)
    made.board.report(HOME, ServerReport({KEY: reported(SERVER)}))
    await written(made)
    assert cluster.written == []
    made.board.report(HOME, ServerReport({KEY: reported(SERVER, generation=2)}))
    await written(made)
    assert conditions(cluster)["Ready"] == ("True", "Ready")


async def test_what_is_missing_is_said_only_when_every_server_was_asked() -> None:
    cluster = Cluster(policy(REPO))
    made = statuses(cluster)
    made.board.report(HOME, ServerReport({}))
    await written(made)
    assert cluster.written == []
    made.board.report(OTHER, ServerReport({}))
    await written(made)
    assert conditions(cluster) == {
        "Accepted": ("False", "TargetNotFound"),
        "Programmed": ("False", "NotDelivered"),
        "Ready": ("False", "TargetNotFound"),
    }


async def test_a_server_that_cannot_be_configured_has_no_policy() -> None:
    cluster = Cluster(policy(SERVER), servers=(HOME,))
    made = statuses(cluster)
    fault = Finding(status=False, reason="ConfigNotRendered", message="See its conditions.")
    made.board.report(HOME, ServerReport({}, fault=fault))
    await written(made)
    assert conditions(cluster) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("False", "ConfigNotRendered"),
        "Ready": ("False", "ConfigNotRendered"),
    }


async def test_a_refused_policy_is_not_programmed() -> None:
    cluster = Cluster(policy(SERVER), servers=(HOME,))
    made = statuses(cluster)
    refusal = refused("TooManyRules", "It has too many.")
    made.board.report(HOME, ServerReport({KEY: reported(SERVER, refusal=refusal)}))
    await written(made)
    assert conditions(cluster)["Programmed"] == ("False", "NotDelivered")
    assert conditions(cluster)["Ready"] == ("False", "TooManyRules")


async def test_blocking_without_a_feed_is_not_ready() -> None:
    cluster = Cluster(policy(SERVER), servers=(HOME,))
    made = statuses(cluster)
    made.board.report(HOME, ServerReport({KEY: reported(SERVER, without_feed=HOME)}))
    await written(made)
    assert conditions(cluster)["Ready"] == ("False", "AdvisoriesMissing")
    assert "PackageServer ml/pywharf follows no advisories" in cluster.written[0]["conditions"][1]["message"]


async def test_exceptions_end_by_the_clock() -> None:
    ends = (NOW - timedelta(days=1), NOW + timedelta(seconds=10), NOW + timedelta(days=9))
    cluster = Cluster(policy(SERVER, until=ends), servers=(HOME,))
    made = statuses(cluster)
    made.board.report(HOME, ServerReport({KEY: reported(SERVER)}))
    assert await written(made) == 10
    assert cluster.written[0]["exceptions"] == {"active": 2, "expired": 1, "next": "2026-06-01T00:00:10Z"}
    assert await written(made, NOW + timedelta(seconds=10)) == 30
    assert cluster.written[0]["exceptions"] == {"active": 1, "expired": 2, "next": "2026-06-10T00:00:00Z"}


async def test_a_status_that_cannot_be_computed_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = policy(SERVER)
    broken["metadata"]["name"] = "broken"
    cluster = Cluster(broken, policy(SERVER), servers=(HOME,))
    made = statuses(cluster)

    def status(one: PackagePolicy, *rest: Any) -> Any:
        if one.metadata.name == "broken":
            raise OverflowError
        return policy_status(one, *rest)

    monkeypatch.setattr(policy_statuses, "policy_status", status)
    both = {KEY: reported(SERVER), ObjectKey("ml", "broken"): reported(SERVER)}
    made.board.report(HOME, ServerReport(both))
    for _ in range(2):
        await written(made)
        assert conditions(cluster)["Ready"] == ("True", "Ready")
    assert [one.getMessage() for one in caplog.records] == [
        "The status of PackagePolicy ml/broken cannot be computed, so it stays."
    ]


async def test_replicas_are_asked_at_most_each_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def ask(_http: Any, pods: Any) -> tuple[ReplicaReport, ...]:
        asked.append(len(pods))
        count = {"ml/company": WithheldCount(files=len(asked), projects=1)}
        return tuple(ReplicaReport(str(n), "d", {}, None, policies=count) for n in range(len(pods)))

    monkeypatch.setattr(policy_statuses, "ask", ask)
    cluster = Cluster(policy(SERVER), servers=(HOME,))
    moments = iter((0.0, 0.0, 29.0, 30.0, 30.0, 31.0))
    made = statuses(cluster, clock=lambda: next(moments))
    made.board.report(HOME, ServerReport({KEY: reported(SERVER)}, pods=({"metadata": {}}, {"metadata": {}})))
    for files in (1, 1, 2, 2):
        await written(made)
        assert cluster.written[0]["withheld"] == {"files": files, "projects": 1}
    assert asked == [2, 2]


async def test_each_server_keeps_its_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a server's replicas do not answer, what they counted last stays; no server speaks for another one."""
    answers: dict[str, dict[str, WithheldCount] | None] = {}

    async def ask(_http: Any, pods: Any) -> tuple[ReplicaReport, ...]:
        found = [answers[pod["metadata"]["name"]] for pod in pods]
        return tuple(ReplicaReport("", "d", {}, "gone" if one is None else None, policies=one or {}) for one in found)

    def files() -> dict[str, int]:
        return {name: one["withheld"]["files"] for name, one in zip(names, cluster.written, strict=True)}

    monkeypatch.setattr(policy_statuses, "ask", ask)
    names = ("company", "team")
    raws = [policy(SERVER), policy(REPO)]
    raws[1]["metadata"]["name"] = "team"
    cluster = Cluster(*raws)
    moments = itertools.count(0.0, 31.0)
    made = statuses(cluster, clock=lambda: next(moments))
    team = ObjectKey("ml", "team")
    made.board.report(HOME, ServerReport({KEY: reported(SERVER)}, pods=({"metadata": {"name": "home"}},)))
    repos = frozenset({ObjectKey("ml", "a")})
    pods = tuple({"metadata": {"name": name}} for name in ("other-1", "other-2"))
    made.board.report(OTHER, ServerReport({team: reported(REPO)}, repos, pods=pods))
    mine, theirs = {"ml/company": WithheldCount(files=3, projects=1)}, {"ml/team": WithheldCount(files=5, projects=1)}
    answers |= {"home": mine, "other-1": theirs, "other-2": {"ml/company": WithheldCount(files=9, projects=9)}}
    await written(made)
    assert files() == {"company": 3, "team": 5}
    answers |= {"home": None}
    await written(made)
    assert files() == {"company": 3, "team": 5}
    answers |= {"home": mine, "other-1": None, "other-2": None}
    await written(made)
    assert files() == {"company": 3, "team": 5}
    answers |= {"other-1": {}}
    await written(made)
    assert files() == {"company": 3, "team": 0}


async def test_after_a_restart_what_was_written_stays_until_the_replicas_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failure: list[str | None] = ["gone"]

    async def ask(_http: Any, pods: Any) -> tuple[ReplicaReport, ...]:
        return tuple(ReplicaReport("", "d", {}, failure[0]) for _ in pods)

    monkeypatch.setattr(policy_statuses, "ask", ask)
    raw = policy(SERVER) | {"status": {"withheld": {"files": 4, "projects": 2}}}
    cluster = Cluster(raw, servers=(HOME,))
    moments = itertools.count(0.0, 31.0)
    made = statuses(cluster, clock=lambda: next(moments))
    made.board.report(HOME, ServerReport({KEY: reported(SERVER)}, pods=({"metadata": {}},)))
    await written(made)
    assert cluster.written[0]["withheld"] == {"files": 4, "projects": 2}
    failure[0] = None
    await written(made)
    assert cluster.written[0]["withheld"] == {"files": 0, "projects": 0}
    made.board.report(HOME, ServerReport({}, fault=WAITING))
    await written(made)
    assert cluster.written[0]["withheld"] == {"files": 4, "projects": 2}, "it cannot be configured, and goes on"


def test_the_most_of_any_replica_counts() -> None:
    a, b, c = (ObjectKey(name, name) for name in "abc")
    one = {"a/a": WithheldCount(files=3, projects=1), "b/b": WithheldCount(files=1, projects=1)}
    other = {"a/a": WithheldCount(files=2, projects=2)}
    assert most_of([one, other], [a, c]) == {a: Withheld(files=3, projects=2), c: Withheld()}
    assert most_of([], [b]) == {b: Withheld()}
