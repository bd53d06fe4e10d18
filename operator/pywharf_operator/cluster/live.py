"""Readers of objects as the API server returns them."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pywharf_operator.render.labels import Manifest
from pywharf_operator.spec import PACKAGE_REPO, PACKAGE_SERVER, ObjectKey
from pywharf_operator.spec.names import MANAGED_BY_LABEL, MANAGER, RENDERED_ANNOTATION
from pywharf_operator.spec.package_repo import DEFAULT_SERVER_NAME

_TARGETS: Final = (PACKAGE_REPO, PACKAGE_SERVER)
_MOST_TARGETS: Final = 256
"""As many as the schema takes."""

Step = str | int | tuple[str, str | int]
"""One step into a value: a field, a position, or the key and the value that identify a list item."""


Steps = tuple[Step, ...]


def key_of(raw: Mapping[str, Any]) -> ObjectKey:
    """Return the namespace and name of an object from the API server."""
    metadata = raw["metadata"]
    return ObjectKey(str(metadata.get("namespace") or ""), str(metadata["name"]))


def labels_of(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object's labels; empty if it has none."""
    return raw["metadata"].get("labels") or {}


def annotations_of(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object's annotations; empty if it has none."""
    return raw["metadata"].get("annotations") or {}


def is_being_deleted(raw: Mapping[str, Any]) -> bool:
    """Return whether the object is being deleted, even if a finalizer still holds it."""
    return raw["metadata"].get("deletionTimestamp") is not None


def owned_by(live: Mapping[str, Any], owner_uid: str) -> bool:
    """Return whether the object's controller has this uid."""
    owners = live["metadata"].get("ownerReferences") or []
    return any(one.get("uid") == owner_uid and one.get("controller") for one in owners)


def other_owner(live: Mapping[str, Any], owner_uid: str) -> str:
    """Return a sentence that says whose object it is, and what to do."""
    metadata = live["metadata"]
    owners = [one for one in metadata.get("ownerReferences") or [] if one.get("uid") != owner_uid]
    owners.sort(key=lambda one: not one.get("controller"))
    labels = labels_of(live)
    managers = other_managers(live)
    if owners and owners[0].get("kind") == "PackageServer":
        whose = f"it belongs to another PackageServer, or to a former one, of the name {owners[0].get('name')}"
    elif owners:
        whose = f"it belongs to {owners[0].get('kind')} {owners[0].get('name')}"
    elif labels.get(MANAGED_BY_LABEL, MANAGER) != MANAGER:
        instance = labels.get("app.kubernetes.io/instance")
        whose = f"it is managed by {labels[MANAGED_BY_LABEL]}" + (f" as part of {instance}" if instance else "")
    elif managers:
        whose = f"it was made by {managers[-1]}"
    else:
        whose = "it belongs to somebody else"
    return f"{whose}, so it is left alone; delete or rename it, or give the PackageServer another name."


def other_managers(live: Mapping[str, Any], steps: Steps = ()) -> list[str]:
    """Return who else wrote the field at `steps` (without steps: any content of the object), the latest first."""
    entries = [
        one
        for one in live["metadata"].get("managedFields") or []
        if not one.get("subresource") and one.get("manager") != MANAGER and covers(one.get("fieldsV1"), steps)
    ]
    entries.sort(key=lambda one: str(one.get("time")), reverse=True)
    return [str(one.get("manager")) for one in entries]


def metadata_change(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Manifest:
    """Return the merge patch for the metadata of an object that is created only once; empty if nothing changes.

    `wanted` is metadata from `with_hash`. Only its hash is compared, so later changes by others are not reverted.
    Unwanted labels and annotations become null if the operator wrote them, according to managedFields.
    """
    change: Manifest = {}
    hashed = annotations_of(live).get(RENDERED_ANNOTATION)
    if hashed == wanted["annotations"][RENDERED_ANNOTATION]:
        return change
    for part in ("labels", "annotations"):
        there, given = live["metadata"].get(part) or {}, wanted.get(part) or {}
        gone = {key: None for key in there if key not in given and MANAGER in writers(live, ("metadata", part, key))}
        added = {key: value for key, value in given.items() if there.get(key) != value}
        if gone or added:
            change[part] = {**gone, **added}
    return change


def covers(fields: object, steps: Steps) -> bool:
    """Return whether a field set, as in managedFields, contains the field at `steps` or a whole value around it."""
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


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Return whether the pod receives requests: it is ready, has an address and is not being deleted."""
    status = pod.get("status") or {}
    conditions = {one.get("type"): one.get("status") for one in status.get("conditions") or []}
    return not is_being_deleted(pod) and conditions.get("Ready") == "True" and bool(status.get("podIP"))


def is_rolled_out(deployment: Mapping[str, Any] | None) -> bool:
    """Return whether every pod of a Deployment is of its newest template, as far as its controller has reported."""
    if deployment is None:
        return False
    status = mapping(deployment, "status")
    seen, pods, updated = (status.get(field) or 0 for field in ("observedGeneration", "replicas", "updatedReplicas"))
    return bool(seen >= (deployment["metadata"].get("generation") or 0) and 0 < pods <= updated)


def is_running(pod: Mapping[str, Any]) -> bool:
    """Return whether the pod's containers were started, so that its volumes exist."""
    status = pod.get("status") or {}
    return not is_being_deleted(pod) and status.get("phase") == "Running"


def server_named_by(repo: Mapping[str, Any]) -> ObjectKey:
    """Return the server that a raw PackageRepo names; missing and malformed parts get their defaults."""
    reference = mapping(mapping(repo, "spec"), "serverRef")
    name, namespace = reference.get("name"), reference.get("namespace")
    own = str(mapping(repo, "metadata").get("namespace") or "")
    return ObjectKey(
        namespace if isinstance(namespace, str) and namespace else own,
        name if isinstance(name, str) and name else DEFAULT_SERVER_NAME,
    )


def targets_of(policy: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the kind and name of each target of a raw PackagePolicy; malformed ones are left out."""
    listed = mapping(policy, "spec").get("targetRefs")
    refs = (one for one in (listed if isinstance(listed, list) else [])[:_MOST_TARGETS] if isinstance(one, Mapping))
    found = ((one.get("kind"), one.get("name")) for one in refs)
    return tuple((kind, name) for kind, name in found if kind in _TARGETS and isinstance(name, str))


def mapping(holder: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    found = holder.get(field)
    return found if isinstance(found, Mapping) else {}


def writers(live: Mapping[str, Any], steps: Steps) -> set[str]:
    """Return the managers of the field at `steps`."""
    entries = live["metadata"].get("managedFields") or []
    return {str(one.get("manager")) for one in entries if covers(one.get("fieldsV1"), steps)}
