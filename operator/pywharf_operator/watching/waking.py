"""PURE but for its memory. The decision which servers an event wakes, i.e. which must be reconciled."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from cachetools import LRUCache

from pywharf_operator.cluster.live import mapping, server_named_by, targets_of
from pywharf_operator.spec import CREDENTIALS_LABEL, PACKAGE_SERVER, ObjectKey
from pywharf_operator.spec.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    METADATA_ONLY,
    NAMESPACE,
    POD,
    POLICY,
    REPO,
    SECRET,
    SERVER,
    Kind,
)
from pywharf_operator.spec.names import MANAGER, REPO_LABEL, SERVER_LABEL
from pywharf_operator.spec.package_repo import TRIGGER_ANNOTATION

DELETED: Final = "DELETED"
LISTED: Final = None
"""The type of an event that reports only that the object exists."""
_MODIFIED: Final = "MODIFIED"
_MOST_REMEMBERED: Final = 200_000
"""Maximum number of objects; about 100 MB. An object that was deleted while nobody watched is evicted eventually."""

_one_at_a_time: Final = threading.Lock()


class _Seen(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of an object."""

    digest: bytes
    """A digest of the relevant fields."""
    written: str = ""
    """When the operator last wrote the object, according to its managedFields; "" if never, or if no one asks."""


class Wakeup(msgspec.Struct, frozen=True):
    """The servers that an event wakes, and the PackageRepo that it concerns."""

    keys: frozenset[ObjectKey] = frozenset()
    everything: bool = False
    """Whether to reconcile all servers: objects were listed again, and some may have been deleted without an event."""
    repo: ObjectKey | None = None
    """The PackageRepo of the event."""
    deleted: bool = False
    """Whether that one was deleted."""
    server: ObjectKey | None = None
    """The PackageServer of the event."""
    policies: bool = False
    """Whether a PackagePolicy has changed, so that the statuses of policies must be looked after."""


class Waking:
    """Decides which servers an event wakes.

    It remembers a digest of each object's relevant fields, when the operator last wrote the object, and the server
    that each repo names. The operator's own writes are ignored; otherwise every reconcile would trigger the next.
    Events may come from several threads.
    """

    def __init__(self) -> None:
        self._seen: LRUCache[tuple[str, str, str], _Seen] = LRUCache(_MOST_REMEMBERED)
        self._servers: dict[str, dict[str, ObjectKey]] = {}
        """The server that a repo names, by the repo's namespace and name."""
        self._counts: dict[str, Counter[ObjectKey]] = {}
        """How many repos name each server, by the repos' namespace."""
        self._targets: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {}
        """The kind and name of each target of a policy, by the policy's namespace and name."""

    def woken(self, kind: Kind, event: str | None, manifest: Mapping[str, Any]) -> Wakeup:
        """Return the servers that the event concerns."""
        with _one_at_a_time:
            woken = self._woken(kind, event, manifest)
        metadata = mapping(manifest, "metadata")
        key = ObjectKey(str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
        if kind == SERVER:
            return msgspec.structs.replace(woken, server=key)
        return msgspec.structs.replace(woken, repo=key, deleted=event == DELETED) if kind == REPO else woken

    def _woken(self, kind: Kind, event: str | None, manifest: Mapping[str, Any]) -> Wakeup:
        metadata = mapping(manifest, "metadata")
        name = (kind.plural, str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
        before = self._seen.get(name)
        if event == DELETED:
            self._seen.pop(name, None)
            return Wakeup(self._keys(kind, manifest, gone=True), policies=kind == POLICY)
        own, others = ("", "") if kind in _OTHERS else _last_writes(metadata)
        # Remembered even if no relevant field has changed: the next event is compared with the newest write.
        self._seen[name] = now = _Seen(_digest(kind, manifest), own)
        everything = event is LISTED and before is not None
        if before is not None and now.digest == before.digest:
            return Wakeup(everything=everything)
        known = before is not None or event != _MODIFIED  # otherwise it was evicted
        if known and own > others and own > ("" if before is None else before.written):
            return Wakeup(everything=everything)
        return Wakeup(self._keys(kind, manifest, gone=False), everything=everything, policies=kind == POLICY)

    def _keys(self, kind: Kind, manifest: Mapping[str, Any], *, gone: bool) -> frozenset[ObjectKey]:
        metadata = mapping(manifest, "metadata")
        namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        labels = mapping(metadata, "labels")
        if kind == SERVER:
            return frozenset({ObjectKey(namespace, name)})
        if kind == REPO:
            return self._of_repo(namespace, name, None if gone else server_named_by(manifest))
        if kind == POLICY:
            return self._of_policy(namespace, name, () if gone else targets_of(manifest))
        if kind == NAMESPACE:
            return frozenset(self._counts.get(name, ()))
        of_repos = (kind == SECRET and CREDENTIALS_LABEL in labels) or (kind == CONFIG_MAP and REPO_LABEL in labels)
        keys = set(self._counts.get(namespace, ())) if of_repos else set()
        # Also by its owner, because somebody may have changed the label.
        owners = {labels.get(SERVER_LABEL), *_owners(metadata)}
        return frozenset(keys | {ObjectKey(namespace, owner) for owner in owners if isinstance(owner, str) and owner})

    def _of_repo(self, namespace: str, name: str, server: ObjectKey | None) -> frozenset[ObjectKey]:
        """Return the server that the repo names now, and the one that it named before."""
        repos = self._servers.setdefault(namespace, {})
        counts = self._counts.setdefault(namespace, Counter())
        before = repos.pop(name, None)
        if before is not None:
            counts[before] -= 1
            if not counts[before]:
                del counts[before]
        if server is not None:
            repos[name] = server
            counts[server] += 1
        if not repos:
            del self._servers[namespace], self._counts[namespace]
        return frozenset(key for key in (before, server) if key is not None)

    def _of_policy(self, namespace: str, name: str, targets: tuple[tuple[str, str], ...]) -> frozenset[ObjectKey]:
        """Return the servers that the policy is about now, and those that it was about before.

        A repo that is still unknown wakes its server by an event of its own.
        """
        policies = self._targets.setdefault(namespace, {})
        before = policies.pop(name, ())
        if targets:
            policies[name] = targets
        if not policies:
            del self._targets[namespace]
        repos = self._servers.get(namespace, {})
        found = {
            ObjectKey(namespace, target) if kind == PACKAGE_SERVER else repos.get(target)
            for kind, target in {*before, *targets}
        }
        return frozenset(key for key in found if key is not None)


def _owners(metadata: Mapping[str, Any]) -> Iterator[object]:
    listed = metadata.get("ownerReferences")
    for owner in listed if isinstance(listed, list) else []:
        if isinstance(owner, Mapping) and owner.get("kind") == PACKAGE_SERVER:
            yield owner.get("name")


_OTHERS: Final = (REPO, SERVER, POLICY, NAMESPACE, POD, JOB)
"""Kinds whose objects the operator does not apply."""


def _last_writes(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Return when the operator and when anybody else last wrote the object, as managedFields say; "" if never.

    An event is the operator's own only if the first time is newer than the second, and newer than it was in the event
    before: an update by somebody else that only removes fields gives its writer no new time. Times have whole seconds.
    The operator's second write within a second thus counts as somebody else's; the reconcile finds nothing to do.
    """
    own, others = "", ""
    entries = metadata.get("managedFields")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping):
            time = str(entry.get("time") or "")
            if entry.get("manager") == MANAGER:
                own = max(own, time)
            else:
                others = max(others, time)
    return own, others


def _digest(kind: Kind, manifest: Mapping[str, Any]) -> bytes:
    """Return a 16-byte digest of the relevant fields. It reveals nothing of a secret that is not already known."""
    encoded = msgspec.json.encode(_relevant_fields(kind, manifest), order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).digest()


def _relevant_fields(kind: Kind, manifest: Mapping[str, Any]) -> object:  # noqa: PLR0911 - a table of kinds
    metadata, status = mapping(manifest, "metadata"), mapping(manifest, "status")
    lasting = [metadata.get("uid"), metadata.get("deletionTimestamp"), metadata.get("labels")]
    if kind == REPO:
        return [*lasting, metadata.get("generation"), mapping(metadata, "annotations").get(TRIGGER_ANNOTATION)]
    if kind in {SERVER, POLICY}:
        return [*lasting, metadata.get("generation")]
    if kind == NAMESPACE:
        return lasting
    if kind == SECRET:
        return [*lasting, metadata.get("resourceVersion")]
    if kind == POD:
        annotations = metadata.get("annotations")
        now = [status.get("phase"), status.get("podIP"), _ready(status), _unscheduled(status)]
        return [*lasting, annotations, *now, _containers(status)]
    if kind == JOB:
        return [*lasting, _conditions(status)]
    return [
        *lasting,
        {name: value for name, value in metadata.items() if name not in {"managedFields", "resourceVersion"}},
        # If only the metadata was read, the resourceVersion stands for the rest.
        metadata.get("resourceVersion") if kind in METADATA_ONLY else None,
        {name: value for name, value in manifest.items() if name not in {"metadata", "status"}},
        [status.get("readyReplicas"), status.get("updatedReplicas"), _refused(status)] if kind == DEPLOYMENT else None,
    ]


def _conditions(status: Mapping[str, Any]) -> list[list[object]]:
    conditions = status.get("conditions")
    listed = conditions if isinstance(conditions, list) else []
    return sorted(
        ([str(item.get("type")), str(item.get("status"))] for item in listed if isinstance(item, Mapping)),
        key=str,
    )


def _ready(status: Mapping[str, Any]) -> bool:
    return ["Ready", "True"] in _conditions(status)


def _refused(status: Mapping[str, Any]) -> bool:
    return ["ReplicaFailure", "True"] in _conditions(status)


def _unscheduled(status: Mapping[str, Any]) -> bool:
    return ["PodScheduled", "False"] in _conditions(status)


def _containers(status: Mapping[str, Any]) -> list[object]:
    """Return each container's name, number of restarts, reason for waiting, and end time."""
    listed = status.get("containerStatuses")
    return [
        [
            item.get("name"),
            item.get("restartCount"),
            mapping(mapping(item, "state"), "waiting").get("reason"),
            mapping(mapping(item, "state"), "terminated").get("finishedAt"),
        ]
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, Mapping)
    ]
