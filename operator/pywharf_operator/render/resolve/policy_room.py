"""The decision which policies fit into what one server takes. Whole policies are refused."""

import functools
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from pywharf.core.policy.document import costly_note, rule_count
from pywharf.core.policy.model import MAX_POLICIES, MAX_RULES, Policy
from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.shares import Age, Share, excess
from pywharf_operator.spec import ObjectKey, PackagePolicy
from pywharf_operator.spec.package_policy import delivered

MAX_BYTES: Final = 1_000_000
"""Most bytes of all policies of a server, compressed: they share one ConfigMap."""
_ALWAYS_FITS_BYTES: Final = 700_000
_REPO_BYTES: Final = 66
"""Most bytes of a repo's name in a document: 63 characters, quoted, and a comma."""


class Candidate(msgspec.Struct, frozen=True):
    """A policy that a server might be given."""

    key: ObjectKey
    age: Age
    wanted: Policy
    earlier: Policy | None
    """What the server was given of it before."""

    @property
    def is_of_server(self) -> bool:
        """Whether it is about every repo of the server, now or before."""
        return self.wanted.repos is None or (self.earlier is not None and self.earlier.repos is None)


class _Limit(msgspec.Struct, frozen=True):
    """A limit of all policies of a server."""

    reason: str
    most: int
    measure: Callable[[Policy], int]


Refusals = dict[ObjectKey, tuple[Finding, Policy | None]]
"""Why a policy is refused, and its version before if that stays in force."""


def overflows(policies: Sequence[PackagePolicy]) -> bool:
    """Return whether the policies might not fit together, so that what was delivered before must be known."""
    if len(policies) > MAX_POLICIES:
        return True
    made = [delivered(policy, None) for policy in policies]
    of_names = sum(_REPO_BYTES * len(policy.spec.target_refs) for policy in policies)
    raw = sum(len(_encoded(one)) for one in made) + of_names
    return sum(map(rule_count, made)) > MAX_RULES or raw > _ALWAYS_FITS_BYTES


def with_room(candidates: Sequence[Candidate]) -> tuple[list[Policy], Refusals]:
    """Return what is delivered; and of the refused policies why, and their version before if it stays.

    Policies about the whole server, which are of its own namespace, come first. The others share the rest.
    """
    limits = [_Limit("TooManyPolicies", MAX_POLICIES, lambda _: 1), _Limit("TooManyRules", MAX_RULES, rule_count)]
    versions = ([one.wanted] if one.earlier is None else [one.wanted, one.earlier] for one in candidates)
    if sum(max(len(_encoded(version)) for version in both) for both in versions) > _ALWAYS_FITS_BYTES:
        limits.append(_Limit("PolicyTooLarge", MAX_BYTES, _size))
    chosen: list[Policy] = []
    refusals: Refusals = {}
    for of_server in (True, False):
        more, refused_now = _fitting([one for one in candidates if one.is_of_server is of_server], chosen, limits)
        chosen += more
        refusals |= refused_now
    return chosen, refusals


def _fitting(
    candidates: Sequence[Candidate], taken: Sequence[Policy], limits: Sequence[_Limit]
) -> tuple[list[Policy], Refusals]:
    """Choose the candidates that fit beside the `taken` policies.

    What is in force comes first, so that it never gives way to what is new, and what has grown may take as little.
    """
    room = {limit.reason: limit.most - sum(map(limit.measure, taken)) for limit in limits}
    ages = {one.key: one.age for one in candidates}
    grown = {one.key for one in candidates if one.earlier is None or _is_larger(one.wanted, one.earlier, limits)}
    in_force = {
        one.key: version
        for one in candidates
        if (version := one.earlier if one.key in grown else one.wanted) is not None
    }
    stay = dict(in_force)
    for limit in limits:
        shares = [Share(key, ages[key], limit.measure(policy)) for key, policy in stay.items()]
        for key in excess(shares, room[limit.reason]):
            del stay[key]
    asking = [one for one in candidates if one.key in grown or one.key not in stay]
    reasons: dict[ObjectKey, str] = {}
    for limit in limits:
        fixed = {key: limit.measure(policy) for key, policy in stay.items()}
        asked = {one.key: limit.measure(one.wanted) - fixed.get(one.key, 0) for one in asking if one.key not in reasons}
        shares = [Share(key, ages[key], size, fixed=True) for key, size in fixed.items()]
        shares += [Share(key, ages[key], size) for key, size in asked.items() if size > 0]
        reasons |= dict.fromkeys(excess(shares, room[limit.reason]), limit.reason)
    chosen = {one.key: one.wanted for one in candidates if one.key not in reasons}
    chosen |= {key: policy for key, policy in stay.items() if key in reasons}
    refusals = {
        one.key: (_refusal(reasons[one.key], one.wanted, chosen.get(one.key)), chosen.get(one.key))
        for one in candidates
        if one.key in reasons
    }
    return list(chosen.values()), refusals


def _is_larger(wanted: Policy, earlier: Policy, limits: Iterable[_Limit]) -> bool:
    """Return whether a change takes more of any limit. The repos that it is about are no change of a policy."""
    same_repos = msgspec.structs.replace(wanted, repos=earlier.repos)
    return same_repos != earlier and any(limit.measure(wanted) > limit.measure(earlier) for limit in limits)


def _refusal(reason: str, wanted: Policy, earlier: Policy | None) -> Finding:
    holds = "Its version before stays in force" if earlier is not None else "It is not in force"
    first = "Those about the whole server come first; of the others the newest changes of the namespace"
    if reason == "TooManyPolicies":
        return refused(
            reason,
            f"A server takes {MAX_POLICIES} policies. {first} with the most policies are refused. {holds}. Write one "
            "policy of several.",
        )
    if reason == "TooManyRules":
        return refused(
            reason,
            f"It has {rule_count(wanted)} rules{costly_note(wanted)}; a server takes {MAX_RULES} of all its policies. "
            f"{first} with the "
            f"most rules are refused. {holds}. Use patterns, or take out rules.",
        )
    return refused(
        reason,
        f"All policies of a server share {MAX_BYTES} bytes, compressed, and this one does not fit. {first} that takes "
        f"most are refused. {holds}. Shorten reasons, or take out rules.",
    )


def _encoded(policy: Policy) -> bytes:
    return msgspec.json.encode(policy)


def _size(policy: Policy) -> int:
    return _compressed_size(_encoded(policy))


@functools.lru_cache(maxsize=256)
def _compressed_size(encoded: bytes) -> int:
    return len(zlib.compress(encoded))
