"""The decision which policies concern a server, and which of them fit into what one server takes."""

import functools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from pywharf.core.names import RepoName
from pywharf.core.policy.document import costly_note, rule_count
from pywharf.core.policy.model import MAX_POLICIES, MAX_RULES, Policy
from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.shares import Age, Share, excess
from pywharf_operator.render.resolve.snapshot import Snapshot
from pywharf_operator.spec import PACKAGE_REPO, PACKAGE_SERVER, ObjectKey, PackagePolicy, PackageServer
from pywharf_operator.spec.package_policy import TargetRef, delivered

MAX_BYTES: Final = 1_000_000
"""Most bytes of all policies of a server, compressed: they share one ConfigMap."""
_ALWAYS_FITS_BYTES: Final = 700_000
_REPO_BYTES: Final = 66
"""Most bytes of a repo's name in a document: 63 characters, quoted, and a comma."""
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

    @property
    def is_of_server(self) -> bool:
        """Whether it is about every repo of the server, now or before."""
        return self.wanted.repos is None or (self.earlier is not None and self.earlier.repos is None)


class _Limit(msgspec.Struct, frozen=True):
    """A limit of all policies of a server."""

    reason: str
    most: int
    measure: Callable[[Policy], int]


_Refusals = dict[ObjectKey, tuple[Finding, Policy | None]]
"""Why a policy is refused, and its version before if that stays in force."""


def server_policies(server: PackageServer, names: Iterable[ServedName], snapshot: Snapshot) -> ServerPolicies:
    """Decide on the policies of one server.

    A policy that cannot be read or parsed now stays as it was delivered, and so does one that no longer fits, if there
    is room: a mistake must not show what was withheld.
    """
    names = tuple(names)
    repos = {one.repo: one for one in names}
    delivered_before = ((one, _kept(one, server, names, snapshot)) for one in snapshot.delivered_policies)
    before = {one.name: kept for one, kept in delivered_before if kept is not None}
    candidates: list[_Candidate] = []
    reaches: dict[ObjectKey, PolicyReach] = {}
    for policy in snapshot.policies:
        targets = frozenset(ref for ref in policy.spec.target_refs if _is_of(ref, policy.key, server, repos, snapshot))
        if not targets:
            continue
        servers = {ObjectKey(policy.key.namespace, ref.name) for ref in targets if ref.kind == PACKAGE_SERVER}
        of_server = server.key in servers
        own = {repos[ObjectKey(policy.key.namespace, ref.name)] for ref in targets if ref.kind == PACKAGE_REPO}
        own |= {one for one in names if snapshot.meant_servers.get(one.repo) in servers}
        concerned = sorted(one.name for one in (names if of_server else own) if one.served)
        wanted = delivered(policy, None if of_server else tuple(concerned))
        earlier = before.get(wanted.name)
        if not of_server and not concerned and earlier is not None:
            # Its repos may be served again in a moment, and its version before may be the only one that fits.
            aimed = {one.name for one in own}
            wanted = msgspec.structs.replace(wanted, repos=tuple(one for one in earlier.repos or () if one in aimed))
        given = wanted if wanted.repos is None or wanted.repos else None
        reaches[policy.key] = PolicyReach(
            policy=policy.key,
            uid=policy.metadata.uid,
            generation=policy.metadata.generation or 0,
            targets=targets,
            repos=len(concerned),
            delivered=of_server or bool(concerned),
            without_feed=server.key if wanted.advisories == "Block" and server.spec.advisories is None else None,
        )
        if given is not None:
            candidates.append(_Candidate(policy.key, _age(policy), given, earlier))
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


def _is_of(
    ref: TargetRef,
    policy: ObjectKey,
    server: PackageServer,
    repos: Mapping[ObjectKey, ServedName],
    snapshot: Snapshot,
) -> bool:
    key = ObjectKey(policy.namespace, ref.name)
    if ref.kind == PACKAGE_SERVER:
        return key == server.key or any(snapshot.meant_servers.get(repo) == key for repo in repos)
    return key in repos


def _kept(policy: Policy, server: PackageServer, names: Sequence[ServedName], snapshot: Snapshot) -> Policy | None:
    """Return an earlier version of a policy without the repos that are no longer of its namespace; None: nothing.

    A repo that is not served now stays in it, as it may be served again before the policy can be read.
    """
    namespace = policy.name.partition("/")[0]
    if policy.repos is None:
        return policy if namespace == server.key.namespace else None
    own = {one.name for one in names if one.repo.namespace == namespace}
    others = {one.name for one in names if one.repo.namespace != namespace and one.served}
    # Nothing is known of the repos of a namespace that cannot be read, if they are not served.
    unlisted = _is_unlisted(namespace, snapshot)
    repos = tuple(name for name in policy.repos if name not in others and (unlisted or name in own))
    return msgspec.structs.replace(policy, repos=repos) if repos else None


def _is_unlisted(namespace: str, snapshot: Snapshot) -> bool:
    return snapshot.unlisted_policies is None or namespace in snapshot.unlisted_policies


def _unreadable(before: Mapping[str, Policy], snapshot: Snapshot) -> Iterable[_Candidate]:
    """Yield what was delivered of policies that cannot be read or parsed now."""
    unparsed = {str(key) for key in snapshot.unparsed_policies}
    readable = {str(policy.key) for policy in snapshot.policies}
    for name, policy in before.items():
        namespace, _, own_name = name.partition("/")
        if name not in readable and (name in unparsed or _is_unlisted(namespace, snapshot)):
            key = ObjectKey(namespace, own_name)
            yield _Candidate(key, (float("-inf"), key), policy, policy)


def overflows(policies: Sequence[PackagePolicy]) -> bool:
    """Return whether the policies might not fit together, so that what was delivered before must be known."""
    if len(policies) > MAX_POLICIES:
        return True
    made = [delivered(policy, None) for policy in policies]
    of_names = sum(_REPO_BYTES * len(policy.spec.target_refs) for policy in policies)
    raw = sum(len(_encoded(one)) for one in made) + of_names
    return sum(map(rule_count, made)) > MAX_RULES or raw > _ALWAYS_FITS_BYTES


def _with_room(candidates: Sequence[_Candidate]) -> tuple[list[Policy], _Refusals]:
    """Return what is delivered; and of the refused policies why, and their version before if it stays.

    Policies about the whole server, which are of its own namespace, come first. The others share the rest.
    """
    limits = [_Limit("TooManyPolicies", MAX_POLICIES, lambda _: 1), _Limit("TooManyRules", MAX_RULES, rule_count)]
    versions = ([one.wanted] if one.earlier is None else [one.wanted, one.earlier] for one in candidates)
    if sum(max(len(_encoded(version)) for version in both) for both in versions) > _ALWAYS_FITS_BYTES:
        limits.append(_Limit("PolicyTooLarge", MAX_BYTES, _size))
    chosen: list[Policy] = []
    refusals: _Refusals = {}
    for of_server in (True, False):
        more, refused_now = _fitting([one for one in candidates if one.is_of_server is of_server], chosen, limits)
        chosen += more
        refusals |= refused_now
    return chosen, refusals


def _fitting(
    candidates: Sequence[_Candidate], taken: Sequence[Policy], limits: Sequence[_Limit]
) -> tuple[list[Policy], _Refusals]:
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
