"""PURE. Conversion of findings into statuses, and into the Events about them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from pywharf_operator.render import Finding, RepoVerdict, ServerVerdict
from pywharf_operator.render.labels import selector
from pywharf_operator.render.resolve.findings import unlisted_advice, unreadable_advice
from pywharf_operator.spec import Condition, PackagePolicy, PackageRepo, PackageServer
from pywharf_operator.spec.model import fields_of
from pywharf_operator.spec.package_repo import IndexStatus, PackageRepoStatus
from pywharf_operator.spec.package_server import PackageServerStatus, RepoCounts

READY: Final = "Ready"
NAMESPACES_READ: Final = "NamespacesRead"
ACCESS_RESOLVED: Final = "AccessResolved"
CREDENTIALS_STRONG: Final = "CredentialsStrong"
IDENTITY_READY: Final = "IdentityReady"
CLIENT_CONFIGURED: Final = "ClientConfigured"
UPSTREAM_REACHABLE: Final = "UpstreamReachable"
_QUIET_REASONS: Final = {
    "Waiting",
    "NoReadyReplica",
    "NotServed",
    "Pending",
    "Suspended",
    "ConfigNotRendered",
    "NotDelivered",
    "WaitingForSlot",
    "WaitingForJob",
}
"""Reasons without an Event: the condition is False or Unknown only for a while, or because another one is."""
_NOT_SERVED: Final = Finding(status=False, reason="NotServed", message="The repo cannot be read; see Accepted.")
_NOT_CONFIGURED: Final = Finding(
    status=False, reason="NotServed", message="The repo is not served, so the ConfigMap is left as it is."
)
_NOT_DELIVERED: Final = Finding(status=False, reason="NotDelivered", message="The policy cannot be read; see Accepted.")
_STAYS: Final = "Its version before stays in force, if there was one."
_MAX_MESSAGE: Final = 32_000
_STATUS: Final[dict[bool | None, Literal["True", "False", "Unknown"]]] = {True: "True", False: "False", None: "Unknown"}


class EventText(msgspec.Struct, frozen=True):
    """The type, reason and message of an Event."""

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
    client_configured: Finding | None = None,
    upstream_reachable: Finding | None = None,
    now: datetime,
) -> PackageRepoStatus:
    """Return a repo's status.

    Ready means Accepted, SecretsResolved and Programmed: an old index is still served, and an access entry without an
    effect leaves the others as they are.
    `client_configured` None: the ConfigMap for its clients, if it asks for one, is not written.
    `upstream_reachable` None: the repo depends on no other index, or is not served.
    """
    needed = {"Accepted": verdict.accepted, "SecretsResolved": verdict.secrets_resolved, "Programmed": programmed}
    findings = needed | {"IndexUpToDate": index_up_to_date, READY: ready_of(needed, "The repo is served.")}
    if verdict.access_resolved is not None:
        findings[ACCESS_RESOLVED] = verdict.access_resolved
    if verdict.credentials_strong is not None:
        findings[CREDENTIALS_STRONG] = verdict.credentials_strong
    if verdict.repo.spec.client_config is not None:
        findings[CLIENT_CONFIGURED] = client_configured or _NOT_CONFIGURED
    if upstream_reachable is not None:
        findings[UPSTREAM_REACHABLE] = upstream_reachable
    previous = verdict.repo.status or PackageRepoStatus()
    generation = verdict.repo.metadata.generation or 0
    return PackageRepoStatus(
        observed_generation=generation,
        url=url,
        repo_name=verdict.name,
        conditions=conditions_of(findings, previous.conditions, generation, now),
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
    namespaces_read: Finding | None = None,
    now: datetime,
) -> PackageServerStatus:
    """Return a server's status.

    Ready means Accepted, ConfigRendered and `ready`, the finding about the server's objects and replicas.
    `namespaces_read` None: unknown now, so the previous condition stays.
    """
    needed = {"Accepted": verdict.accepted, "ConfigRendered": config_rendered}
    first_fault = ready_of(needed, "")
    findings = needed | {READY: ready if first_fault.status else first_fault}
    previous = verdict.server.status or PackageServerStatus()
    if namespaces_read is not None:
        findings[NAMESPACES_READ] = namespaces_read
    if verdict.identity_ready is not None:
        findings[IDENTITY_READY] = verdict.identity_ready
    kept = tuple(one for one in previous.conditions if one.type == NAMESPACES_READ and one.type not in findings)
    generation = verdict.server.metadata.generation or 0
    return PackageServerStatus(
        observed_generation=generation,
        url=url,
        repos=repos,
        replicas=ready_replicas,
        selector=",".join(f"{key}={value}" for key, value in selector(verdict.server).items()),
        conditions=(*conditions_of(findings, previous.conditions, generation, now), *kept),
    )


def namespaces_read(
    verdict: ServerVerdict, unreadable: frozenset[str], unlisted: frozenset[str] | None = frozenset()
) -> Finding:
    """Report whether every namespace that may have repos of the server is readable. No other namespace is named.

    `unlisted`: the namespaces whose policies cannot be listed; None: all.
    """
    may_have = unreadable if verdict.server.spec.allowed_namespaces.from_ != "Same" else frozenset()
    concerned = may_have | {one.repo.namespace for one in verdict.kept if one.repo.namespace}
    own = {verdict.server.key.namespace} | {one.repo.key.namespace for one in verdict.repos}
    without_policies = own if unlisted is None else (own & unlisted) - concerned
    advice = [unreadable_advice(concerned)] if concerned else []
    advice += [unlisted_advice(without_policies if unlisted is not None else ())] if without_policies else []
    if not advice:
        return Finding(status=True, reason="Read", message="Every namespace that it serves could be read.")
    reason = "NamespaceUnreadable" if concerned else "PoliciesUnreadable"
    return Finding(status=False, reason=reason, message=" ".join(advice))


def ready_replicas(server: PackageServer, ready: int, lost: Finding | None = None) -> Finding:
    """Return the finding about a server's ready replicas. `lost`: the finding that some, or all, are unreachable."""
    if lost is not None:
        return lost
    if ready:
        scaling = server.spec.autoscaling
        wanted = str(server.most_replicas) if scaling is None else f"{scaling.min_replicas} to {scaling.max_replicas}"
        return Finding(status=True, reason=READY, message=f"{ready} of {wanted} replicas are ready.")
    if server.most_replicas == 0:
        message = "No replica is wanted: spec.replicas is 0; raise it to serve again."
    else:
        message = f"No replica is ready yet; if it stays so, look at the Deployment {server.key} and its pods."
    return Finding(status=False, reason="NoReadyReplica", message=message)


def malformed_status(raw: Mapping[str, Any], finding: Finding, now: datetime) -> dict[str, Any]:
    """Return the status, as JSON, of an object that passed the schema but is unreadable.

    The rest of the status stays, except that a repo is no longer served: an unreadable server runs on and an unreadable
    policy holds on, an unreadable repo does not.
    """
    status = raw.get("status")
    status = status if isinstance(status, dict) else {}
    generation = raw["metadata"].get("generation") or 0
    try:
        previous = msgspec.convert(status.get("conditions") or [], tuple[Condition, ...])
    except msgspec.ValidationError:
        previous = ()
    findings, kept = {"Accepted": finding, READY: finding}, {"url", "repos", "replicas", "selector"}
    if raw.get("kind") == PackageRepo.__name__:
        findings, kept = findings | {"Programmed": _NOT_SERVED}, {"repoName", "index"}
    elif raw.get("kind") == PackagePolicy.__name__:
        finding = msgspec.structs.replace(finding, message=f"{finding.message} {_STAYS}")
        findings = {"Accepted": finding, "Programmed": _NOT_DELIVERED, READY: finding}
        kept = {"targets", "rules", "exceptions", "withheld"}
    conditions = conditions_of(findings, previous, generation, now)
    others = tuple(one for one in previous if one.type not in findings)
    return {
        **{key: value for key, value in status.items() if key in kept},
        "observedGeneration": generation,
        "conditions": [as_json(one) for one in (*conditions, *others)],
    }


def ready_of(needed: Mapping[str, Finding], good: str) -> Finding:
    """Return the first fault, otherwise the first unknown finding, otherwise that all is well."""
    for wanted in (False, None):
        for finding in needed.values():
            if finding.status is wanted:
                return Finding(status=False, reason=finding.reason, message=finding.message)
    return Finding(status=True, reason=READY, message=good)


def conditions_of(
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


def as_json(status: msgspec.Struct | Mapping[str, Any]) -> dict[str, Any]:
    """Convert a status to the API server's JSON: times in UTC to the second, no missing values."""
    if isinstance(status, Mapping):
        return dict(status)
    found = _plain({field.encode_name: getattr(status, field.name) for field in fields_of(type(status))})
    assert isinstance(found, dict)  # noqa: S101 - a mapping becomes a dict
    return found


def _plain(value: object) -> object:
    match value:
        case msgspec.Struct():
            return as_json(value)
        case datetime():
            return _in_utc(value).strftime("%Y-%m-%dT%H:%M:%SZ")
        case Mapping():
            return {key: _plain(item) for key, item in value.items() if item is not None}
        case tuple() | list():
            return [_plain(item) for item in value]
        case _:
            return value


def _in_utc(moment: datetime) -> datetime:
    """Convert a time to UTC. A status of others may hold one that UTC has no year for, which keeps its digits."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment.replace(tzinfo=UTC)


def same(current: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Return whether a status already equals the wanted one, apart from the order of its conditions."""
    return _comparable(current or {}) == _comparable(wanted)


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = status.get("conditions") or []
    by_type = {one.get("type"): one for one in conditions if isinstance(one, Mapping)}
    return {key: value for key, value in status.items() if key != "conditions" and value is not None} | {
        "conditions": by_type
    }


def events_of(previous: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> tuple[EventText, ...]:
    """Return an Event for each new fault and for each solved one; none for temporary conditions.

    A condition that was good from the start has none, so that a thousand new repos do not cause a thousand Events.
    """
    before = _reportable(previous or {})
    texts: list[EventText] = []
    for kind, one in _reportable(wanted).items():
        old = before.get(kind, {})
        message = f"{kind}: {one.get('message')}"
        if _is_fault(one) and not (_is_fault(old) and old.get("reason") == one["reason"]):
            texts.append(EventText("Warning", one["reason"], message))
        elif _is_fault(old) and one.get("status") == "True":
            texts.append(EventText("Normal", one["reason"], message))
    return tuple(texts)


def _is_fault(condition: Mapping[str, Any]) -> bool:
    return condition.get("status") == "False" and condition.get("reason") not in _QUIET_REASONS


def _reportable(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the conditions by type, without a Ready that repeats another one."""
    found: dict[str, Mapping[str, Any]] = _comparable(status)["conditions"]
    ready = found.get(READY, {})
    others = {kind: one for kind, one in found.items() if kind != READY}
    repeats = ready.get("status") == "False" and any(
        one.get("status") != "True" and one.get("reason") == ready.get("reason") for one in others.values()
    )
    return others if repeats else found
