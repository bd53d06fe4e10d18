"""PURE. Whether an object is as it was rendered, and what to do where somebody else keeps changing it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from pywharf_operator.reconciling.comparison import Steps, first_difference, path_of, quantity
from pywharf_operator.render.labels import MANAGER, Manifest

RENDERED_ANNOTATION: Final = "pywharf.dev/rendered"
KEEPER: Final = f"{MANAGER}-replicas"
"""Field manager of a number of replicas until an autoscaler writes it."""
_REPLICAS: Final = ("spec", "replicas")
_HASH_LENGTH = 32
_MANAGED_BY: Final = "app.kubernetes.io/managed-by"


class Difference(msgspec.Struct, frozen=True):
    """How an object differs from what was rendered."""

    kind: Literal["absent", "changed", "drifted", "same"]
    """changed: the operator renders something else than it applied last; drifted: somebody else changed it."""
    steps: Steps = ()
    """To the first field that drifted."""

    @property
    def path(self) -> str:
        """The same for people."""
        return path_of(self.steps)


def applied_hash(manifest: Mapping[str, Any]) -> str:
    """A digest of everything that is rendered."""
    encoded = msgspec.json.encode(manifest, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:_HASH_LENGTH]


def with_hash(manifest: Manifest) -> Manifest:
    """The manifest with its digest as an annotation, by which a field that is rendered no more is noticed."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), RENDERED_ANNOTATION: applied_hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def differs(desired: Manifest, live: Mapping[str, Any] | None) -> Difference:
    """Compare what `with_hash` gave with the object; what others added to it is passed over."""
    if live is None:
        return Difference("absent")
    wanted = desired["metadata"]["annotations"][RENDERED_ANNOTATION]
    if (live["metadata"].get("annotations") or {}).get(RENDERED_ANNOTATION) != wanted:
        return Difference("changed")
    steps = first_difference(desired, live)
    return Difference("same") if steps is None else Difference("drifted", steps)


def kept_replicas(desired: Manifest, live: Mapping[str, Any] | None) -> Manifest | None:
    """What KEEPER is to apply before a Deployment whose number of replicas is left to an autoscaler from now on.

    A field that its last manager takes back gets its default: all replicas but one would end.
    """
    spec = (live or {}).get("spec") or {}
    if live is None or desired["kind"] != "Deployment" or "replicas" in desired["spec"] or "replicas" not in spec:
        return None
    entries = live["metadata"].get("managedFields") or []
    if not any(one.get("manager") == MANAGER and covers(one.get("fieldsV1"), _REPLICAS) for one in entries):
        return None
    # Of this very object: one that was made anew under its name is not touched.
    metadata = {key: live["metadata"][key] for key in ("name", "namespace", "uid")}
    kind = {key: desired[key] for key in ("apiVersion", "kind")}
    return {**kind, "metadata": metadata, "spec": {"replicas": spec["replicas"]}}


def with_kept_size(desired: Manifest, live: Mapping[str, Any] | None) -> Manifest:
    """The claim with the size that it has, where somebody made it larger: a claim cannot shrink."""
    if live is None or desired["kind"] != "PersistentVolumeClaim":
        return desired
    spec = desired["spec"]
    requests = ((live.get("spec") or {}).get("resources") or {}).get("requests") or {}
    wanted, present = quantity(spec["resources"]["requests"]["storage"]), quantity(requests.get("storage"))
    if wanted is None or present is None or present <= wanted:
        return desired
    kept = {"requests": {"storage": requests["storage"]}}
    return {**desired, "spec": {**spec, "resources": kept}}


def owned_by(live: Mapping[str, Any], owner_uid: str) -> bool:
    """Whether the object's controller is the one with that uid."""
    owners = live["metadata"].get("ownerReferences") or []
    return any(one.get("uid") == owner_uid and one.get("controller") for one in owners)


def other_owner(live: Mapping[str, Any], owner_uid: str) -> str:
    """A sentence that says whose object it is, and what to do."""
    metadata = live["metadata"]
    owners = [one for one in metadata.get("ownerReferences") or [] if one.get("uid") != owner_uid]
    owners.sort(key=lambda one: not one.get("controller"))
    labels = metadata.get("labels") or {}
    managers = other_managers(live)
    if owners and owners[0].get("kind") == "PackageServer":
        whose = f"it belongs to another PackageServer, or to a former one, of the name {owners[0].get('name')}"
    elif owners:
        whose = f"it belongs to {owners[0].get('kind')} {owners[0].get('name')}"
    elif labels.get(_MANAGED_BY, MANAGER) != MANAGER:
        instance = labels.get("app.kubernetes.io/instance")
        whose = f"it is managed by {labels[_MANAGED_BY]}" + (f" as part of {instance}" if instance else "")
    elif managers:
        whose = f"it was made by {managers[-1]}"
    else:
        whose = "it belongs to somebody else"
    return f"{whose}, so it is left alone; delete or rename it, or give the PackageServer another name."


def other_managers(live: Mapping[str, Any], steps: Steps = ()) -> list[str]:
    """Who else wrote the field to which the steps lead, or any field of the object's content; the last one first."""
    entries = [
        one
        for one in live["metadata"].get("managedFields") or []
        if not one.get("subresource") and one.get("manager") != MANAGER and covers(one.get("fieldsV1"), steps)
    ]
    entries.sort(key=lambda one: str(one.get("time")), reverse=True)
    return [str(one.get("manager")) for one in entries]


def metadata_change(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Manifest:
    """Return what to merge into the metadata of an object that is made once; empty where there is nothing.

    `wanted` is metadata of `with_hash`, compared by its hash alone: what somebody changes later is not put back. Of the
    labels and annotations that are not wanted, those that the operator wrote become null, as managedFields tell.
    """
    change: Manifest = {}
    hashed = (live["metadata"].get("annotations") or {}).get(RENDERED_ANNOTATION)
    if hashed == wanted["annotations"][RENDERED_ANNOTATION]:
        return change
    for part in ("labels", "annotations"):
        there, given = live["metadata"].get(part) or {}, wanted.get(part) or {}
        gone = {key: None for key in there if key not in given and MANAGER in writers(live, ("metadata", part, key))}
        added = {key: value for key, value in given.items() if there.get(key) != value}
        if gone or added:
            change[part] = {**gone, **added}
    return change


def writers(live: Mapping[str, Any], steps: Steps) -> set[str]:
    """Return the managers of the field to which the steps lead."""
    entries = live["metadata"].get("managedFields") or []
    return {str(one.get("manager")) for one in entries if covers(one.get("fieldsV1"), steps)}


def covers(fields: object, steps: Steps) -> bool:
    """Whether a set of fields, in the form of managedFields, holds the one to which the steps lead, or all of it."""
    for step in steps:
        if fields == {} or isinstance(step, int):
            return True  # a value or a list that is written as a whole
        if not isinstance(fields, Mapping):
            return False
        if isinstance(step, str):
            fields = fields.get(f"f:{step}")
        else:
            items = (inner for name, inner in fields.items() if name.startswith("k:") and _is_item(name[2:], *step))
            fields = next(items, None)
    return fields is not None or not steps


def _is_item(encoded: str, key: str, value: str | int) -> bool:
    try:
        found = json.loads(encoded)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get(key) == value


_WAITS_S: Final = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0)
_PEACE_S: Final = 600.0


class Contest:
    """How often an object was put back. Each time it is left longer, so that two managers do not fight for ever."""

    def __init__(self) -> None:
        self._times = 0
        self._last = 0.0

    def wait(self, now: float) -> float:
        """Seconds until it may be put back again; 0: now."""
        if self._times and now - self._last > _PEACE_S:
            self._times = 0
        if not self._times:
            return 0.0
        return max(self._last + _WAITS_S[min(self._times, len(_WAITS_S) - 1)] - now, 0.0)

    def put_back(self, now: float) -> None:
        """It is put back now."""
        self._times += 1
        self._last = now

    @staticmethod
    def message(live: Mapping[str, Any] | None, difference: Difference) -> str:
        """Who changes what, and what to do."""
        managers = (other_managers(live, difference.steps) or other_managers(live)) if live is not None else []
        who = managers[0] if managers else "Somebody"
        return (
            f"{who} changes {difference.path or 'it'} again and again; the operator puts it back less and less often. "
            "Let only one of them manage it."
        )
