"""The decision which policies concern a server, and which of them fit into what one server takes."""

import functools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from pywharf.core.names import RepoName
from pywharf.core.policy.document import rule_count
from pywharf.core.policy.model import MAX_POLICIES, MAX_RULES, Policy
from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.shares import Age, Share, excess
from pywharf_operator.render.resolve.snapshot import Snapshot
from pywharf_operator.spec import PACKAGE_REPO, PACKAGE_SERVER, ObjectKey, PackagePolicy, PackageServer
from pywharf_operator.spec.package_policy import TargetRef, delivered

MAX_BYTES: Final = 1_000_000
"""Most bytes of all policies of a server, compressed: they share one ConfigMap."""
_ALWAYS_FITS_BYTES: Final = 700_000
_NAMED: Final = 3


class ServedName(msgspec.Struct, frozen=True):
    """A repo that names the server, whether its owner is readable now or not."""

    repo: ObjectKey
    """Its PackageRepo."""
    name: RepoName
    served: bool


class PolicyReach(msgspec.Struct, frozen=True, kw_only=True):
    """What a server makes of one policy."""

    policy: ObjectKey
    uid: str | None
    generation: int
    targets: frozenset[TargetRef]
    """Those of its targets that are of this server: the server itself, or repos that name it."""
    repos: int
    """How many served repos it is about."""
    delivered: bool
    """Whether the server is given it, if only as it was before; not so where none of its repos is served."""
    without_feed: ObjectKey | None = None
    """The server, if the policy blocks what advisories call malware and the server follows no feed of them."""
    refusal: Finding | None = None
    """Why the policy is not given to the server as it is described now."""


class ServerPolicies(msgspec.Struct, frozen=True):
    """The policies of one server."""

    delivered: tuple[Policy, ...] = ()
    reaches: tuple[PolicyReach, ...] = ()


class _Candidate(msgspec.Struct, frozen=True):
    key: ObjectKey
    age: Age
    wanted: Policy
    earlier: Policy | None
    """What the server was given of it before."""
    fixed: bool = False

    @property
    def is_new(self) -> bool:
        return self.wanted != self.earlier


def server_policies(server: PackageServer, names: Iterable[ServedName], snapshot: Snapshot) -> ServerPolicies:
    """Decide on the policies of one server.

    A policy that cannot be read or parsed now stays as it was delivered, and so does one that no longer fits, if there
    is room: a mistake must not show what was withheld.
    """
    names = tuple(names)
    repos = {one.repo: one for one in names}
    before = {one.name: kept for one in snapshot.delivered_policies if (kept := _kept(one, server, names)) is not None}
    candidates: list[_Candidate] = []
    reaches: dict[ObjectKey, PolicyReach] = {}
    for policy in snapshot.policies:
        targets = frozenset(ref for ref in policy.spec.target_refs if _is_of(ref, policy.key.namespace, server, repos))
        if not targets:
            continue
        of_server = any(ref.kind == PACKAGE_SERVER for ref in targets)
        own = {repos[ObjectKey(policy.key.namespace, ref.name)] for ref in targets if ref.kind == PACKAGE_REPO}
        concerned = sorted(one.name for one in (names if of_server else own) if one.served)
        wanted = delivered(policy, None if of_server else tuple(concerned))
        given = wanted if of_server or concerned else None
        reaches[policy.key] = PolicyReach(
            policy=policy.key,
            uid=policy.metadata.uid,
            generation=policy.metadata.generation or 0,
            targets=targets,
            repos=len(concerned),
            delivered=given is not None,
            without_feed=server.key if wanted.advisories == "Block" and server.spec.advisories is None else None,
        )
        if given is not None:
            candidates.append(_Candidate(policy.key, _age(policy), given, before.get(given.name)))
    candidates += _unreadable(before, snapshot)
    chosen, refusals = _with_room(candidates)
    for key, (finding, earlier) in refusals.items():
        if key in reaches:
            reaches[key] = msgspec.structs.replace(reaches[key], delivered=earlier is not None, refusal=finding)
    return ServerPolicies(
        delivered=tuple(sorted(chosen, key=lambda one: one.name)),
        reaches=tuple(reaches[key] for key in sorted(reaches)),
    )


def accepted(policy: PackagePolicy, reaches: Sequence[PolicyReach]) -> Finding:
    """Return the condition Accepted, from what each server makes of the policy."""
    refusal = next((one.refusal for one in reaches if one.refusal is not None), None)
    if refusal is not None:
        return refusal
    found = {ref for one in reaches for ref in one.targets}
    missing = [ref for ref in policy.spec.target_refs if ref not in found]
    if missing:
        listed = ", ".join(f"{ref.kind} {policy.key.namespace}/{ref.name}" for ref in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        rest = " The other targets have it." if found else ""
        return refused(
            "TargetNotFound",
            f"There is no {listed}{more} that the operator serves; create it, or correct spec.targetRefs. A policy "
            f"speaks only of its own namespace.{rest}",
        )
    return Finding(status=True, reason="Accepted", message=" ".join(("The policy is taken.", *_hints(policy))))


def _hints(policy: PackagePolicy) -> Iterable[str]:
    spec = policy.spec
    if spec.cooldown is not None and spec.cooldown.missing_time == "FirstSeen":
        yield (
            "cooldown.missingTime is FirstSeen, and the server keeps no first sights yet, so files without an upload "
            "time are withheld as by Deny."
        )
    given = {
        "Cooldown": spec.cooldown is not None,
        "AllowOnly": spec.allow_only is not None,
        "Deny": bool(spec.deny),
        "Yank": bool(spec.yank),
        "Status": bool(spec.status),
        "Advisory": spec.advisories is not None,
    }
    idle = sorted({rule for one in spec.exceptions for rule in one.of if not given[rule]})
    if idle:
        yield f"exceptions name {', '.join(idle)}, of which the policy has no rule, so they have no effect there."


def _is_of(ref: TargetRef, namespace: str, server: PackageServer, repos: Mapping[ObjectKey, ServedName]) -> bool:
    key = ObjectKey(namespace, ref.name)
    return key == server.key if ref.kind == PACKAGE_SERVER else key in repos


def _kept(policy: Policy, server: PackageServer, names: Sequence[ServedName]) -> Policy | None:
    """Return an earlier version of a policy without the repos that are no longer of its namespace; None: nothing."""
    namespace = policy.name.partition("/")[0]
    if policy.repos is None:
        return policy if namespace == server.key.namespace else None
    own = {one.name for one in names if one.repo.namespace == namespace and one.served}
    repos = tuple(name for name in policy.repos if name in own)
    return msgspec.structs.replace(policy, repos=repos) if repos else None


def _unreadable(before: Mapping[str, Policy], snapshot: Snapshot) -> Iterable[_Candidate]:
    """Yield what was delivered of policies that cannot be read or parsed now."""
    unparsed = {str(key) for key in snapshot.unparsed_policies}
    readable = {str(policy.key) for policy in snapshot.policies}
    for name, policy in before.items():
        namespace, _, own_name = name.partition("/")
        unlisted = snapshot.unlisted_policies is None or namespace in snapshot.unlisted_policies
        if name not in readable and (name in unparsed or unlisted):
            key = ObjectKey(namespace, own_name)
            yield _Candidate(key, (float("-inf"), key), policy, policy, fixed=True)


def overflows(policies: Sequence[PackagePolicy]) -> bool:
    """Return whether the policies might not fit together, so that what was delivered before must be known."""
    if len(policies) > MAX_POLICIES:
        return True
    made = [delivered(policy, None) for policy in policies]
    return sum(map(rule_count, made)) > MAX_RULES or sum(len(_encoded(one)) for one in made) > _ALWAYS_FITS_BYTES


def _with_room(
    candidates: Sequence[_Candidate],
) -> tuple[list[Policy], dict[ObjectKey, tuple[Finding, Policy | None]]]:
    """Return what is delivered; and of the refused policies why, and their version before if it still fits."""
    rules = {one.key: rule_count(one.wanted) for one in candidates}
    raw = sum(len(_encoded(one.wanted)) for one in candidates)
    sizes = {one.key: _size(one.wanted) if raw > _ALWAYS_FITS_BYTES else 0 for one in candidates}
    crowd = excess([_share(one, 1) for one in candidates], MAX_POLICIES)
    many = crowd | excess([_share(one, rules[one.key]) for one in candidates if one.key not in crowd], MAX_RULES)
    left = [one for one in candidates if one.key not in many]
    large = excess([_share(one, sizes[one.key]) for one in left], MAX_BYTES)
    chosen = [one.wanted for one in left if one.key not in large]
    rules_left = MAX_RULES - sum(map(rule_count, chosen))
    bytes_left = MAX_BYTES - sum(_size(one) for one in chosen) if raw > _ALWAYS_FITS_BYTES else MAX_BYTES
    refusals: dict[ObjectKey, tuple[Finding, Policy | None]] = {}
    for one in sorted(candidates, key=lambda one: one.age):
        if one.key not in many and one.key not in large:
            continue
        earlier = one.earlier
        if (
            earlier is not None
            and len(chosen) < MAX_POLICIES
            and rule_count(earlier) <= rules_left
            and _size(earlier) <= bytes_left
        ):
            chosen.append(earlier)
            rules_left -= rule_count(earlier)
            bytes_left -= _size(earlier)
        else:
            earlier = None
        refusals[one.key] = (_refusal(one.key in many, rules[one.key], earlier), earlier)
    return chosen, refusals


def _share(one: _Candidate, size: int) -> Share:
    # What is new or changed gives way first, so that its namespace loses nothing that holds already.
    created, key = one.age
    return Share(one.key, (max(created, 0.0) + (_LATER_S if one.is_new else 0.0), key), size, one.fixed)


_LATER_S: Final = 1e12


def _refusal(many: bool, rules: int, earlier: Policy | None) -> Finding:  # noqa: FBT001 - which limit it is past
    holds = "Its version before stays in force" if earlier is not None else "It is not in force"
    if many:
        return refused(
            "TooManyRules",
            f"It has {rules} rules, and a server takes {MAX_POLICIES} policies with {MAX_RULES} rules together; the "
            f"newest changes of the namespace with the most are refused. {holds}. Use patterns, take out rules, or "
            "write one policy of several.",
        )
    return refused(
        "PolicyTooLarge",
        f"All policies of a server share {MAX_BYTES} bytes, compressed, and this one does not fit; the newest changes "
        f"of the namespace that takes most are refused. {holds}. Shorten reasons, or take out rules.",
    )


def _age(policy: PackagePolicy) -> Age:
    created = policy.metadata.creation_timestamp
    return (created.timestamp() if created is not None else float("-inf"), policy.key)


def _encoded(policy: Policy) -> bytes:
    return msgspec.json.encode(policy)


def _size(policy: Policy) -> int:
    return _compressed_size(_encoded(policy))


@functools.lru_cache(maxsize=256)
def _compressed_size(encoded: bytes) -> int:
    return len(zlib.compress(encoded))
