"""The decision which policies concern a server. Which of them fit: `policy_room`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from pywharf.core.names import RepoName
from pywharf.core.policy.model import Policy
from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.policy_room import Candidate, with_room
from pywharf_operator.render.resolve.shares import Age
from pywharf_operator.render.resolve.snapshot import Snapshot
from pywharf_operator.spec import PACKAGE_REPO, PACKAGE_SERVER, ObjectKey, PackagePolicy, PackageServer
from pywharf_operator.spec.package_policy import TargetRef, delivered

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


def server_policies(server: PackageServer, names: Iterable[ServedName], snapshot: Snapshot) -> ServerPolicies:
    """Decide on the policies of one server.

    A policy that cannot be read or parsed now stays as it was delivered, and so does one that no longer fits, if there
    is room: a mistake must not show what was withheld.
    """
    names = tuple(names)
    repos = {one.repo: one for one in names}
    delivered_before = ((one, _kept(one, server, names, snapshot)) for one in snapshot.delivered_policies)
    before = {one.name: kept for one, kept in delivered_before if kept is not None}
    candidates: list[Candidate] = []
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
            candidates.append(Candidate(policy.key, _age(policy), given, earlier))
    candidates += _unreadable(before, snapshot)
    chosen, refusals = with_room(candidates)
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


def _unreadable(before: Mapping[str, Policy], snapshot: Snapshot) -> Iterable[Candidate]:
    """Yield what was delivered of policies that cannot be read or parsed now."""
    unparsed = {str(key) for key in snapshot.unparsed_policies}
    readable = {str(policy.key) for policy in snapshot.policies}
    for name, policy in before.items():
        namespace, _, own_name = name.partition("/")
        if name not in readable and (name in unparsed or _is_unlisted(namespace, snapshot)):
            key = ObjectKey(namespace, own_name)
            yield Candidate(key, (float("-inf"), key), policy, policy)


def _age(policy: PackagePolicy) -> Age:
    created = policy.metadata.creation_timestamp
    return (created.timestamp() if created is not None else float("-inf"), policy.key)
