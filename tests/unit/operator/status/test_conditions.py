"""From findings to the status objects, and to the Events that report them."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from pywharf_operator.render import Finding, RepoVerdict, ServerVerdict
from pywharf_operator.spec import PackageRepo, PackageServer
from pywharf_operator.spec.package_repo import IndexStatus
from pywharf_operator.spec.package_server import RepoCounts
from pywharf_operator.status.conditions import (
    EventText,
    as_json,
    events_of,
    malformed_status,
    namespaces_read,
    ready_replicas,
    repo_status,
    same,
    server_status,
)

BEFORE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = BEFORE + timedelta(hours=1, microseconds=999_999)
THEN, LATER = "2026-01-02T03:04:05Z", "2026-01-02T04:04:05Z"
YES = Finding(status=True, reason="Good", message="All is well.")
NO = Finding(status=False, reason="SecretNotFound", message="There is no Secret x.")
UNKNOWN = Finding(status=None, reason="Pending", message="Nobody knows yet.")
WAITING = Finding(status=False, reason="Waiting", message="0 of 1.")
ALL = {"accepted": YES, "secrets_resolved": YES, "programmed": YES, "index_up_to_date": YES}


def raw(kind: str = "PackageRepo", status: Any = None, generation: int = 7) -> dict[str, Any]:
    spec: dict[str, Any] = {"backend": {"fileSystem": {}}} if kind == "PackageRepo" else {}
    metadata = {"name": "demo", "namespace": "ml", "generation": generation, "uid": "1"}
    made = {"apiVersion": "pywharf.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    return made if status is None else {**made, "status": status}


def of_repo(status=None, generation=7, now=NOW, url="http://x/", index=None, **findings):
    found = ALL | findings
    repo = msgspec.convert(raw(status=status, generation=generation), PackageRepo)
    made = repo_status(
        RepoVerdict(repo=repo, accepted=found["accepted"], secrets_resolved=found["secrets_resolved"]),
        url=url,
        programmed=found["programmed"],
        index_up_to_date=found["index_up_to_date"],
        index=index,
        now=now,
    )
    return as_json(made)


def of_server(status=None, accepted=YES, config_rendered=YES, ready=YES, now=NOW):
    server = msgspec.convert(raw("PackageServer", status), PackageServer)
    made = server_status(
        ServerVerdict(server=server, accepted=accepted, repos=()),
        url="http://x",
        repos=RepoCounts(total=2, ready=1),
        ready_replicas=3,
        config_rendered=config_rendered,
        ready=ready,
        now=now,
    )
    return as_json(made)


def conditions(status):
    return {one["type"]: one for one in status["conditions"]}


def ready(status):
    one = conditions(status)["Ready"]
    return one["status"], one["reason"]


def test_the_whole_status_of_a_repo():
    index = IndexStatus(projects=1, files=2, bytes=3, last_update_time=BEFORE, last_job="j", last_result="Updated.")
    made = of_repo(index=index)
    assert [one["type"] for one in made["conditions"]] == [
        "Accepted",
        "SecretsResolved",
        "Programmed",
        "IndexUpToDate",
        "Ready",
    ]
    assert made.pop("conditions")[0] == {
        "type": "Accepted",
        "status": "True",
        "reason": "Good",
        "message": "All is well.",
        "lastTransitionTime": LATER,
        "observedGeneration": 7,
    }
    assert made == {
        "observedGeneration": 7,
        "url": "http://x/",
        "repoName": "demo",
        "index": {
            "projects": 1,
            "files": 2,
            "bytes": 3,
            "lastUpdateTime": THEN,
            "lastJob": "j",
            "lastResult": "Updated.",
        },
    }


def test_the_whole_status_of_a_server():
    made = of_server()
    assert [one["type"] for one in made.pop("conditions")] == ["Accepted", "ConfigRendered", "Ready"]
    repos = {"total": 2, "ready": 1}
    selector = "app.kubernetes.io/name=pywharf,app.kubernetes.io/instance=demo,app.kubernetes.io/component=server"
    assert made == {
        "observedGeneration": 7,
        "url": "http://x",
        "repos": repos,
        "replicas": 3,
        "selector": selector,
    }


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ({}, ("True", "Ready")),
        ({"accepted": NO}, ("False", "SecretNotFound")),
        ({"secrets_resolved": NO}, ("False", "SecretNotFound")),
        ({"programmed": WAITING}, ("False", "Waiting")),
        ({"programmed": UNKNOWN}, ("False", "Pending")),
        ({"index_up_to_date": NO}, ("True", "Ready")),
        ({"index_up_to_date": UNKNOWN}, ("True", "Ready")),
        # the first fault; faults come before unknown conditions
        ({"accepted": NO, "programmed": WAITING}, ("False", "SecretNotFound")),
        ({"accepted": UNKNOWN, "programmed": WAITING}, ("False", "Waiting")),
    ],
)
def test_ready_of_a_repo(findings, expected):
    assert ready(of_repo(**findings)) == expected


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ({}, ("True", "Good")),
        ({"accepted": NO}, ("False", "SecretNotFound")),
        ({"config_rendered": NO, "ready": WAITING}, ("False", "SecretNotFound")),
        ({"ready": WAITING}, ("False", "Waiting")),
    ],
)
def test_ready_of_a_server(findings, expected):
    assert ready(of_server(**findings)) == expected


@pytest.mark.parametrize(
    ("spec", "count", "expected", "reported"),
    [
        ({}, 1, True, "1 of 1 replicas"),
        ({"replicas": 3}, 2, True, "2 of 3 replicas"),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}, 2, True, "2 of 2 to 5 replicas"),
        ({}, 0, False, "Deployment ml/demo"),
        ({"replicas": 0}, 0, False, "spec.replicas is 0"),
    ],
)
def test_ready_replicas(spec, count, expected, reported):
    found = ready_replicas(msgspec.convert({**raw("PackageServer"), "spec": spec}, PackageServer), count)
    assert (found.status, found.reason) == (expected, "Ready" if expected else "NoReadyReplica")
    assert reported in found.message


def test_a_status_that_is_not_known_is_unknown():
    assert conditions(of_repo(index_up_to_date=UNKNOWN))["IndexUpToDate"]["status"] == "Unknown"


def test_a_time_moves_with_its_own_status_alone():
    first = of_repo(now=BEFORE)
    second = of_repo(
        status=first, generation=8, index_up_to_date=NO, accepted=msgspec.structs.replace(YES, message=".")
    )
    times = {kind: one["lastTransitionTime"] for kind, one in conditions(second).items()}
    assert times == {kind: LATER if kind == "IndexUpToDate" else THEN for kind in times}
    assert {one["observedGeneration"] for one in second["conditions"]} == {8} == {second["observedGeneration"]}
    third = of_repo(status=second, now=NOW + timedelta(days=1), index_up_to_date=UNKNOWN)
    assert conditions(third)["IndexUpToDate"]["lastTransitionTime"] == "2026-01-03T04:04:05Z"
    assert of_server(status=of_server(now=BEFORE))["conditions"] == of_server(now=BEFORE)["conditions"]


def test_times_are_in_utc():
    assert (
        conditions(of_repo(now=datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone(timedelta(hours=1)))))["Ready"][
            "lastTransitionTime"
        ]
        == THEN
    )


def test_a_time_that_utc_has_no_year_for_can_be_written():
    late = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-1)))
    assert conditions(of_repo(now=late))["Ready"]["lastTransitionTime"] == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize(
    ("unreadable", "unlisted", "reason", "named"),
    [
        (set(), set(), "Read", ""),
        (set(), {"ml"}, "PoliciesUnreadable", "The PackagePolicies of ml cannot be read"),
        (set(), {"ml", "other"}, "PoliciesUnreadable", "The PackagePolicies of ml cannot be read"),
        (set(), {"other"}, "Read", ""),
        (set(), None, "PoliciesUnreadable", "The PackagePolicies of all namespaces cannot be read"),
        ({"hr"}, {"hr", "ml"}, "NamespaceUnreadable", "The PackagePolicies of ml cannot be read"),
        ({"ml"}, {"ml"}, "NamespaceUnreadable", "The namespace ml cannot be read"),
    ],
)
def test_namespaces_whose_policies_cannot_be_listed(unreadable, unlisted, reason, named):
    server = raw("PackageServer")
    server["spec"] = {"allowedNamespaces": {"from": "All"}}
    verdict = ServerVerdict(server=msgspec.convert(server, PackageServer), accepted=YES, repos=())
    found = namespaces_read(verdict, frozenset(unreadable), None if unlisted is None else frozenset(unlisted))
    assert found.reason == reason
    assert named in found.message
    assert "other" not in found.message.replace("no other one", "")


def test_what_is_known_of_the_index_stays():
    index = IndexStatus(files=2, last_trigger="t")
    first = of_repo(index=index)
    assert of_repo(status=first, index=None, url=None)["index"] == {"files": 2, "lastTrigger": "t"}
    assert "url" not in of_repo(status=first, url=None)


def test_a_message_is_bounded():
    made = of_repo(accepted=Finding(status=False, reason="InvalidBackend", message="x" * 100_000))
    assert all(len(one["message"]) <= 32_768 for one in made["conditions"])


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (of_repo(), of_repo),
        (of_repo(index=IndexStatus(last_update_time=BEFORE)), of_repo),
        (of_repo(index=IndexStatus()), of_repo),
        (of_server(), of_server),
    ],
)
def test_what_was_written_is_the_same_when_it_is_read_back(status, again):
    stored = json.loads(json.dumps(status))
    assert same(stored, again(stored, now=NOW + timedelta(days=1)))
    assert same({**stored, "conditions": stored["conditions"][::-1]}, status)
    assert same({**stored, "absent": None}, status)


@pytest.mark.parametrize(
    "current",
    [
        None,
        {},
        {"conditions": None},
        of_repo(generation=8),
        of_repo(programmed=WAITING),
        of_repo(url="http://y/"),
        of_repo(now=BEFORE),
        of_repo(index=IndexStatus(files=1)),
        of_repo() | {"more": 1},
        of_repo() | {"conditions": [*of_repo()["conditions"], {"type": "Former", "status": "True"}]},
        of_repo() | {"conditions": of_repo()["conditions"][1:]},
        of_repo() | {"conditions": ["odd"]},
    ],
)
def test_what_differs_is_written(current):
    assert not same(current, of_repo())


INVALID = Finding(status=False, reason="InvalidSpec", message="the field spec.x is unknown.")


@pytest.mark.parametrize(
    "status",
    [None, "odd", [], {"conditions": None}, {"conditions": "odd"}, {"conditions": [{"type": "Ready"}]}, {"url": 5}],
)
def test_one_that_cannot_be_read(status):
    made = malformed_status(raw(status=status), INVALID, NOW)
    assert {kind: (one["status"], one["reason"]) for kind, one in conditions(made).items()} == {
        "Accepted": ("False", "InvalidSpec"),
        "Ready": ("False", "InvalidSpec"),
        "Programmed": ("False", "NotServed"),
    }
    assert made.keys() == {"observedGeneration", "conditions"}
    assert same(made, malformed_status(raw(status=made), INVALID, NOW + timedelta(days=1)))


def test_what_was_known_of_a_repo_that_cannot_be_read_stays():
    before = of_repo(now=BEFORE, index=IndexStatus(files=5)) | {"more": 1}
    made = malformed_status(raw(status=before, generation=8), INVALID, NOW)
    assert made["index"] == {"files": 5}
    assert made["repoName"] == "demo"
    assert not made.keys() & {"url", "more"}
    found = conditions(made)
    assert (found["Accepted"]["lastTransitionTime"], found["Accepted"]["observedGeneration"]) == (LATER, 8)
    assert found["SecretsResolved"] == conditions(before)["SecretsResolved"]
    assert ready(of_repo(status=made)) == ("True", "Ready")


def test_a_server_that_cannot_be_read_runs_on():
    before = of_server(now=BEFORE)
    made = malformed_status(raw("PackageServer", before), INVALID, NOW)
    assert {key: made[key] for key in ("url", "repos", "replicas")} == {
        key: before[key] for key in ("url", "repos", "replicas")
    }
    assert conditions(made).keys() == {"Accepted", "Ready", "ConfigRendered"}


BROKEN = Finding(status=False, reason="BrokenOnReplica", message="No folder.")
FAILED = Finding(status=False, reason="UpdateFailed", message="Storage is full.")
REFUSED = Finding(status=False, reason="ApplyRefused", message="No.")
ABSENT = Finding(status=False, reason="NoReadyReplica", message="None.")


def warning(finding, kind):
    return EventText("Warning", finding.reason, f"{kind}: {finding.message}")


def normal(kind, message="All is well.", reason="Good"):
    return EventText("Normal", reason, f"{kind}: {message}")


@pytest.mark.parametrize(
    ("before", "after", "reported"),
    [
        # the first status
        (None, {}, []),
        (None, {"programmed": WAITING, "index_up_to_date": UNKNOWN}, []),
        (None, {"programmed": ABSENT}, []),
        (None, {"secrets_resolved": NO}, [warning(NO, "SecretsResolved")]),
        # states that pass by themselves
        ({"programmed": WAITING}, {}, []),
        ({"programmed": ABSENT}, {"programmed": WAITING}, []),
        ({}, {"programmed": ABSENT}, []),
        ({}, {"index_up_to_date": UNKNOWN}, []),
        # faults
        ({}, {"secrets_resolved": NO}, [warning(NO, "SecretsResolved")]),
        ({}, {"index_up_to_date": FAILED}, [warning(FAILED, "IndexUpToDate")]),
        ({"programmed": WAITING}, {"programmed": BROKEN}, [warning(BROKEN, "Programmed")]),
        ({"accepted": NO}, {"accepted": INVALID}, [warning(INVALID, "Accepted")]),
        ({}, {"accepted": NO, "index_up_to_date": FAILED}, [warning(NO, "Accepted"), warning(FAILED, "IndexUpToDate")]),
        # an Event is sent only once
        ({"accepted": NO}, {"accepted": NO}, []),
        ({"accepted": NO}, {"accepted": msgspec.structs.replace(NO, message="Another.")}, []),
        ({"index_up_to_date": FAILED}, {"index_up_to_date": UNKNOWN}, []),
        # recovered
        ({"accepted": NO}, {}, [normal("Accepted")]),
        ({"index_up_to_date": FAILED}, {}, [normal("IndexUpToDate")]),
        ({"accepted": NO}, {"programmed": WAITING}, [normal("Accepted")]),
        ({"accepted": NO}, {"secrets_resolved": INVALID}, [normal("Accepted"), warning(INVALID, "SecretsResolved")]),
    ],
)
def test_events_of_a_repo(before, after, reported):
    previous = None if before is None else of_repo(**before)
    assert sorted(events_of(previous, of_repo(status=previous, **after)), key=str) == sorted(reported, key=str)


@pytest.mark.parametrize(
    ("before", "after", "reported"),
    [
        (None, {"ready": ABSENT}, []),
        ({"ready": ABSENT}, {}, []),
        ({}, {"ready": ABSENT}, []),
        ({}, {"ready": REFUSED}, [warning(REFUSED, "Ready")]),
        ({"ready": REFUSED}, {"ready": REFUSED}, []),
        ({"ready": REFUSED}, {}, [normal("Ready")]),
        ({}, {"config_rendered": NO}, [warning(NO, "ConfigRendered")]),
        ({"config_rendered": NO}, {}, [normal("ConfigRendered")]),
        ({"config_rendered": NO}, {"ready": REFUSED}, [normal("ConfigRendered"), warning(REFUSED, "Ready")]),
        ({"ready": REFUSED}, {"accepted": NO}, [warning(NO, "Accepted")]),
    ],
)
def test_events_of_a_server(before, after, reported):
    previous = None if before is None else of_server(**before)
    assert sorted(events_of(previous, of_server(status=previous, **after)), key=str) == sorted(reported, key=str)


def test_events_of_one_that_cannot_be_read():
    made = malformed_status(raw(), INVALID, NOW)
    assert events_of(None, made) == (warning(INVALID, "Accepted"),)
    assert events_of(made, made) == ()
    assert events_of(made, of_repo(status=made)) == (normal("Accepted"),)


@pytest.mark.parametrize(
    "previous", [{"conditions": ["odd"]}, {"conditions": [{"type": "Accepted"}]}, {"conditions": None}]
)
def test_events_after_an_odd_status(previous):
    assert events_of(previous, of_repo(accepted=NO)) == (warning(NO, "Accepted"),)
