"""PURE. The rules of the operator's Roles. The chart's are compared with them, and tests run the operator with them."""

from collections.abc import Mapping
from typing import Any, Final

from pywharf_operator.spec.kinds import (
    EVENT,
    JOB,
    LEASE,
    NAMESPACE,
    OWNED,
    POD,
    POLICY,
    REPO,
    SERVER,
    VOLUME_CLAIM,
    Kind,
)

Rule = dict[str, Any]
"""A rule of a Role as JSON has it."""
_READ: Final = ("get", "list", "watch")
_OWN: Final = (*_READ, "create", "patch", "delete")
_VERBS: Final[Mapping[Kind, tuple[str, ...]]] = {
    REPO: _READ,
    SERVER: _READ,
    POLICY: _READ,
    **dict.fromkeys(OWNED, _OWN),
    # It holds packages, so it is never deleted.
    VOLUME_CLAIM: (*_READ, "create", "patch"),
    JOB: _OWN,
    POD: (*_READ, "patch"),
    EVENT: ("create", "list"),
}
_STATUSES: Final = (REPO, SERVER, POLICY)


def namespace_rules() -> list[Rule]:
    """Return what the operator may do in each namespace that it watches."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for kind, verbs in _VERBS.items():
        found.setdefault((kind.group, verbs), []).append(kind.plural)
    rules = [_rule(group, resources, verbs) for (group, verbs), resources in found.items()]
    statuses = [f"{kind.plural}/status" for kind in _STATUSES]
    return [*rules, _rule(REPO.group, statuses, ("patch",))]


def lease_rules(name: str) -> list[Rule]:
    """Return what it may do with the Lease of that name, in its own namespace."""
    rule = _rule(LEASE.group, [LEASE.plural], ("get", "update"))
    return [_rule(LEASE.group, [LEASE.plural], ("create",)), rule | {"resourceNames": [name]}]


def cluster_rules() -> list[Rule]:
    """Return what it may do besides where it watches every namespace."""
    return [_rule(NAMESPACE.group, [NAMESPACE.plural], ("list", "watch"))]


def _rule(group: str, resources: list[str], verbs: tuple[str, ...]) -> Rule:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}
