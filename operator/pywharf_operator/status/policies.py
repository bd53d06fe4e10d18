"""PURE. The status of a policy, from what each server that it is about says."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from pywharf.core.policy.document import rule_count
from pywharf_operator.render import Finding, PolicyReach
from pywharf_operator.render.resolve.policies import accepted
from pywharf_operator.spec import PackagePolicy
from pywharf_operator.spec.package_policy import ExceptionCounts, PackagePolicyStatus, Withheld, delivered
from pywharf_operator.status.conditions import READY, conditions_of, ready_of

NOT_DELIVERED: Final = Finding(
    status=False, reason="NotDelivered", message="No server has the policy as it is now; see Accepted."
)
_IDLE: Final = Finding(
    status=True, reason="Programmed", message="None of the repos that it is about is served, so nothing is to be done."
)


class PolicyReport(msgspec.Struct, frozen=True):
    """What one server makes of a policy, and whether its replicas have it."""

    reach: PolicyReach
    programmed: Finding


def policy_status(
    policy: PackagePolicy, reports: Sequence[PolicyReport], withheld: Withheld, now: datetime
) -> PackagePolicyStatus:
    """Return a policy's status. Ready means Accepted and Programmed."""
    taken = accepted(policy, [one.reach for one in reports])
    needed = {"Accepted": taken, "Programmed": _programmed(reports)}
    findings = needed | {READY: ready_of(needed, "The policy is in force.")}
    previous = policy.status or PackagePolicyStatus()
    generation = policy.metadata.generation or 0
    return PackagePolicyStatus(
        observed_generation=generation,
        targets=sum(one.reach.repos for one in reports),
        rules=rule_count(delivered(policy, None)),
        exceptions=_exceptions(policy, now),
        withheld=withheld,
        conditions=conditions_of(findings, previous.conditions, generation, now),
    )


def next_end_s(policy: PackagePolicy, now: datetime) -> float | None:
    """Return the seconds until the policy's next exception ends; None if none is left."""
    ends = [(one.until - now).total_seconds() for one in policy.spec.exceptions if one.until > now]
    return min(ends, default=None)


def _programmed(reports: Sequence[PolicyReport]) -> Finding:
    if not reports or any(one.reach.refusal is not None for one in reports):
        return NOT_DELIVERED
    feeds = (one.reach.without_feed for one in reports if one.reach.delivered)
    without_feed = next((server for server in feeds if server is not None), None)
    if without_feed is not None:
        return Finding(
            status=False,
            reason="AdvisoriesMissing",
            message=(
                f"advisories.mode is Block, and PackageServer {without_feed} follows no advisories, so the repos "
                "answer 503 (advisories-not-loaded); set spec.advisories there, or use Report."
            ),
        )
    findings = [one.programmed for one in reports if one.reach.delivered]
    return next((one for one in findings if not one.status), findings[0] if findings else _IDLE)


def _exceptions(policy: PackagePolicy, now: datetime) -> ExceptionCounts:
    ends = [one.until for one in policy.spec.exceptions]
    active = [end for end in ends if end > now]
    return ExceptionCounts(active=len(active), expired=len(ends) - len(active), next=min(active, default=None))
