"""PURE. From findings to statuses, and to the Events that tell of them."""

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from pywharf_operator.render import Finding, RepoVerdict, ServerVerdict
from pywharf_operator.spec import Condition
from pywharf_operator.spec.package_repo import IndexStatus, PackageRepoStatus
from pywharf_operator.spec.package_server import PackageServerStatus, RepoCounts

READY: Final = "Ready"
_QUIET_REASONS: Final = {"Waiting", "NoReadyReplica", "NotServed", "Pending", "Suspended", "ConfigNotRendered"}
"""Of conditions that are False or Unknown for a while, or because another one is: no Event tells of them."""
_MAX_MESSAGE: Final = 32_000
_STATUS: Final[dict[bool | None, Literal["True", "False", "Unknown"]]] = {True: "True", False: "False", None: "Unknown"}


class EventText(msgspec.Struct, frozen=True):
    """What an Event says."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def repo_status(  # noqa: PLR0913 - one for each part of the status
    verdict: RepoVerdict,
    *,
    url: str | None,
    programmed: Finding,
    index_up_to_date: Finding,
    index: IndexStatus | None,
    now: datetime,
) -> PackageRepoStatus:
    """A repo's status. Ready is Accepted, SecretsResolved and Programmed; an old index is still served."""
    needed = {"Accepted": verdict.accepted, "SecretsResolved": verdict.secrets_resolved, "Programmed": programmed}
    findings = needed | {"IndexUpToDate": index_up_to_date, READY: _ready(needed, "The repo is served.")}
    previous = verdict.repo.status or PackageRepoStatus()
    generation = verdict.repo.metadata.generation or 0
    return PackageRepoStatus(
        observed_generation=generation,
        url=url,
        repo_name=verdict.name,
        conditions=_conditions(findings, previous.conditions, generation, now),
        index=index if index is not None else previous.index,
    )


def server_status(  # noqa: PLR0913 - one for each part of the status
    verdict: ServerVerdict,
    *,
    url: str | None,
    repos: RepoCounts,
    ready_replicas: int,
    config_rendered: Finding,
    ready: Finding,
    now: datetime,
) -> PackageServerStatus:
    """A server's status. Ready is Accepted, ConfigRendered and what `ready` says of its objects and replicas."""
    needed = {"Accepted": verdict.accepted, "ConfigRendered": config_rendered}
    first_fault = _ready(needed, "")
    findings = needed | {READY: ready if first_fault.status else first_fault}
    previous = verdict.server.status or PackageServerStatus()
    generation = verdict.server.metadata.generation or 0
    return PackageServerStatus(
        observed_generation=generation,
        url=url,
        repos=repos,
        replicas=ready_replicas,
        conditions=_conditions(findings, previous.conditions, generation, now),
    )


def malformed_status(raw: Mapping[str, Any], finding: Finding, now: datetime) -> dict[str, Any]:
    """The status, as JSON, of an object that got past the schema and cannot be read. What else it said stays."""
    status = raw.get("status")
    status = status if isinstance(status, dict) else {}
    generation = raw["metadata"].get("generation") or 0
    try:
        previous = msgspec.convert(status.get("conditions") or [], tuple[Condition, ...])
    except msgspec.ValidationError:
        previous = ()
    findings = {"Accepted": finding, READY: finding}
    conditions = _conditions(findings, previous, generation, now)
    others = tuple(one for one in previous if one.type not in findings)
    return {
        **{key: value for key, value in status.items() if key in {"url", "repoName", "index", "repos", "replicas"}},
        "observedGeneration": generation,
        "conditions": [as_json(one) for one in (*conditions, *others)],
    }


def _ready(needed: Mapping[str, Finding], good: str) -> Finding:
    """The first fault, else the first that is not known, else that all is well."""
    for wanted in (False, None):
        for finding in needed.values():
            if finding.status is wanted:
                return Finding(status=False, reason=finding.reason, message=finding.message)
    return Finding(status=True, reason=READY, message=good)


def _conditions(
    findings: Mapping[str, Finding], previous: Sequence[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    before = {one.type: one for one in previous}
    made = []
    for kind, finding in findings.items():
        status, old = _STATUS[finding.status], before.get(kind)
        since = old.last_transition_time if old is not None and old.status == status else now
        made.append(
            Condition(
                type=kind,
                status=status,
                reason=finding.reason,
                message=finding.message[:_MAX_MESSAGE],
                last_transition_time=since,
                observed_generation=generation,
            )
        )
    return tuple(made)


_fields = functools.cache(msgspec.structs.fields)
"""They are read from annotations each time, which takes long."""


def as_json(status: msgspec.Struct | Mapping[str, Any]) -> dict[str, Any]:
    """As the API server has it: times in UTC to the second, nothing that is not given."""
    if isinstance(status, Mapping):
        return dict(status)
    found = _plain({field.encode_name: getattr(status, field.name) for field in _fields(type(status))})
    assert isinstance(found, dict)  # noqa: S101 - a mapping becomes one
    return found


def _plain(value: object) -> object:
    match value:
        case msgspec.Struct():
            return as_json(value)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case Mapping():
            return {key: _plain(item) for key, item in value.items() if item is not None}
        case tuple() | list():
            return [_plain(item) for item in value]
        case _:
            return value


def same(current: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether a status says already what is wanted of it, and nothing that is wanted no more."""
    return _comparable(current or {}) == _comparable(wanted)


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = status.get("conditions") or []
    by_type = {one.get("type"): one for one in conditions if isinstance(one, Mapping)}
    return {key: value for key, value in status.items() if key != "conditions" and value is not None} | {
        "conditions": by_type
    }


def events_of(previous: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> tuple[EventText, ...]:
    """An Event for each fault that is new and for each that is gone; none for what passes by itself."""
    before = _comparable(previous or {})["conditions"]
    told: list[EventText] = []
    for one in wanted.get("conditions") or []:
        old = before.get(one["type"]) or {}
        if one["type"] == READY:
            continue  # it repeats another condition
        was_fault, is_fault = _is_fault(old), _is_fault(one)
        if is_fault and (old.get("reason"), was_fault) != (one["reason"], True):
            told.append(EventText("Warning", one["reason"], f"{one['type']}: {one['message']}"))
        elif was_fault and one["status"] == "True":
            told.append(EventText("Normal", one["reason"], f"{one['type']}: {one['message']}"))
    ready, was_ready = _ready_of(wanted), _ready_of({"conditions": list(before.values())})
    fault = {text.reason for text in told}
    if ready.get("status") == "False" and _is_fault(ready) and ready["reason"] not in _reasons(wanted):
        if was_ready.get("reason") != ready["reason"] and ready["reason"] not in fault:
            told.append(EventText("Warning", ready["reason"], ready["message"]))
    elif ready.get("status") == "True" and was_ready.get("status") == "False":
        told.append(EventText("Normal", READY, ready["message"]))
    return tuple(told)


def _is_fault(condition: Mapping[str, Any]) -> bool:
    return condition.get("status") == "False" and condition.get("reason") not in _QUIET_REASONS


def _ready_of(status: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next((one for one in status.get("conditions") or [] if one.get("type") == READY), {})
    return found


def _reasons(status: Mapping[str, Any]) -> set[str]:
    """Of the other conditions that are False."""
    return {
        one["reason"] for one in status.get("conditions") or [] if one["type"] != READY and one["status"] == "False"
    }
