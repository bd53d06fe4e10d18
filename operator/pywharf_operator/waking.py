"""PURE but for its memory. Which servers have to be looked at because of an event."""

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from pywharf_operator.kinds import DEPLOYMENT, JOB, METADATA_ONLY, NAMESPACE, POD, REPO, SECRET, SERVER, Kind
from pywharf_operator.render.labels import MANAGER, SERVER_LABEL
from pywharf_operator.spec import CREDENTIALS_LABEL, PACKAGE_SERVER, ObjectKey
from pywharf_operator.spec.package_repo import TRIGGER_ANNOTATION

DELETED: Final = "DELETED"
LISTED: Final = None
"""The type of an event that says only that the object is there."""
_DEFAULT_SERVER: Final = "pywharf"
_MOST_REMEMBERED: Final = 200_000
"""Objects; about 30 MB. An object that was deleted while nobody watched is forgotten at last."""

_one_at_a_time: Final = threading.Lock()

Json = Mapping[str, Any]


class Woken(msgspec.Struct, frozen=True):
    """What an event asks for."""

    keys: frozenset[ObjectKey] = frozenset()
    everything: bool = False
    """Whether objects were listed anew: some may have been deleted without an event."""
    repo: ObjectKey | None = None
    """The PackageRepo of the event."""
    deleted: bool = False
    """Whether that one was deleted."""
    server: ObjectKey | None = None
    """The PackageServer of the event."""


class Waking:
    """Remembers of each object a digest of what counts, and which server each repo names.

    What the operator itself writes (a status) counts not, or each reconcile would wake the next. Events may come from
    several threads.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()
        self._servers: dict[str, dict[str, ObjectKey]] = {}
        """The server by namespace and name of the repo that names it."""
        self._counts: dict[str, Counter[ObjectKey]] = {}
        """By namespace: how many of its repos name a server."""

    def woken(self, kind: Kind, event: str | None, manifest: Json) -> Woken:
        """The servers that the event concerns."""
        with _one_at_a_time:
            woken = self._woken(kind, event, manifest)
        metadata = _mapping(manifest, "metadata")
        key = ObjectKey(str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
        if kind == SERVER:
            return msgspec.structs.replace(woken, server=key)
        return msgspec.structs.replace(woken, repo=key, deleted=event == DELETED) if kind == REPO else woken

    def _woken(self, kind: Kind, event: str | None, manifest: Json) -> Woken:
        metadata = _mapping(manifest, "metadata")
        name = (kind.plural, str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
        before = self._seen.get(name)
        if event == DELETED:
            self._seen.pop(name, None)
            return Woken(self._keys(kind, manifest, gone=True))
        now = _digest(kind, manifest)
        if now == before:
            self._seen.move_to_end(name)
            return Woken(everything=event is LISTED)
        self._seen[name] = now
        self._seen.move_to_end(name)
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        if kind not in _OTHERS and _written_by_operator(manifest):
            return Woken(everything=event is LISTED and before is not None)
        return Woken(self._keys(kind, manifest, gone=False), everything=event is LISTED and before is not None)

    def _keys(self, kind: Kind, manifest: Json, *, gone: bool) -> frozenset[ObjectKey]:
        metadata = _mapping(manifest, "metadata")
        namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        labels = _mapping(metadata, "labels")
        if kind == SERVER:
            return frozenset({ObjectKey(namespace, name)})
        if kind == REPO:
            return self._of_repo(namespace, name, None if gone else server_named_by(manifest))
        if kind == NAMESPACE:
            return frozenset(self._counts.get(name, ()))
        keys = set(self._counts.get(namespace, ())) if kind == SECRET and CREDENTIALS_LABEL in labels else set()
        # By its owner, too: somebody may have changed the label.
        owners = {labels.get(SERVER_LABEL), *_owners(metadata)}
        return frozenset(keys | {ObjectKey(namespace, owner) for owner in owners if isinstance(owner, str) and owner})

    def _of_repo(self, namespace: str, name: str, server: ObjectKey | None) -> frozenset[ObjectKey]:
        """The server that the repo names now, and the one that it named before."""
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


def _owners(metadata: Json) -> Iterator[object]:
    listed = metadata.get("ownerReferences")
    for owner in listed if isinstance(listed, list) else []:
        if isinstance(owner, Mapping) and owner.get("kind") == PACKAGE_SERVER:
            yield owner.get("name")


def server_named_by(repo: Json) -> ObjectKey:
    """The server of a PackageRepo as the API has it; where it is malformed, the one that it would name by default."""
    reference = _mapping(_mapping(repo, "spec"), "serverRef")
    name, namespace = reference.get("name"), reference.get("namespace")
    own = str(_mapping(repo, "metadata").get("namespace") or "")
    return ObjectKey(
        namespace if isinstance(namespace, str) and namespace else own,
        name if isinstance(name, str) and name else _DEFAULT_SERVER,
    )


_OTHERS: Final = (REPO, SERVER, NAMESPACE, POD, JOB)
"""Kinds whose objects the operator does not apply."""


def _written_by_operator(manifest: Json) -> bool:
    """Whether the operator wrote last: it knows what it did. In doubt, within one second, somebody else did."""
    written: dict[bool, str] = {}
    entries = _mapping(manifest, "metadata").get("managedFields")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping):
            own = entry.get("manager") == MANAGER
            written[own] = max(written.get(own, ""), str(entry.get("time") or ""))
    return written.get(True, "") > written.get(False, "")


def _digest(kind: Kind, manifest: Json) -> bytes:
    """Of what counts: 16 bytes, from which nothing can be told of a secret that is not known already."""
    encoded = msgspec.json.encode(_what_counts(kind, manifest), order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).digest()


def _what_counts(kind: Kind, manifest: Json) -> object:  # noqa: PLR0911 - a table of kinds
    metadata, status = _mapping(manifest, "metadata"), _mapping(manifest, "status")
    lasting = [metadata.get("uid"), metadata.get("deletionTimestamp"), metadata.get("labels")]
    if kind == REPO:
        return [*lasting, metadata.get("generation"), _mapping(metadata, "annotations").get(TRIGGER_ANNOTATION)]
    if kind == SERVER:
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
        # Where nothing but the metadata was read, it stands for the rest.
        metadata.get("resourceVersion") if kind in METADATA_ONLY else None,
        {name: value for name, value in manifest.items() if name not in {"metadata", "status"}},
        [status.get("readyReplicas"), status.get("updatedReplicas"), _refused(status)] if kind == DEPLOYMENT else None,
    ]


def _conditions(status: Json) -> list[list[object]]:
    conditions = status.get("conditions")
    listed = conditions if isinstance(conditions, list) else []
    return sorted(
        ([str(item.get("type")), str(item.get("status"))] for item in listed if isinstance(item, Mapping)),
        key=str,
    )


def _ready(status: Json) -> bool:
    return ["Ready", "True"] in _conditions(status)


def _refused(status: Json) -> bool:
    return ["ReplicaFailure", "True"] in _conditions(status)


def _unscheduled(status: Json) -> bool:
    return ["PodScheduled", "False"] in _conditions(status)


def _containers(status: Json) -> list[object]:
    """Of each container: what it waits for, when and how it ended, and how often it was started."""
    listed = status.get("containerStatuses")
    return [
        [
            item.get("name"),
            item.get("restartCount"),
            _mapping(_mapping(item, "state"), "waiting").get("reason"),
            _mapping(_mapping(item, "state"), "terminated").get("finishedAt"),
        ]
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, Mapping)
    ]


def _mapping(holder: Json, field: str) -> Json:
    found = holder.get(field)
    return found if isinstance(found, Mapping) else {}
