"""PURE. The trimming of objects that others fill: only fields that the operator reads are kept, each of bounded size.

An object may have 1.5 MiB, most of it in fields that the operator does not read: managedFields, annotations, labels.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from pywharf_operator.spec.kinds import EVENT, JOB, POD, POLICY, REPO, SERVER, Json, Kind

OVERSIZE: Final = "oversize"
"""The field added to an object whose spec is omitted: the spec's `bytes`, and the `field` that has the most."""
MOST_SPEC_BYTES: Final = 64 * 1024
"""Maximum bytes of a PackageRepo's spec as JSON. The table that the server gets for it may be far smaller."""
_MOST_STATUS_BYTES: Final = 128 * 1024
_MOST_EVENT_BYTES: Final = 8 * 1024
_MOST_TEXT: Final = 2048
"""Maximum characters kept of a label's or an annotation's value."""
_MOST_FIELD: Final = 64
_MOST_OWNERS: Final = 16
_OWN_PREFIXES: Final = ("pywharf.dev/", "app.kubernetes.io/", "batch.kubernetes.io/", "cronjob.kubernetes.io/")
_OF_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
)
_OF_EVENT: Final = ("involvedObject", "message", "series", "lastTimestamp", "eventTime")
_OF_POD: Final = ("phase", "reason", "podIP", "podIPs", "conditions", "containerStatuses", "initContainerStatuses")


def trimmed(kind: Kind, item: Json) -> Json:
    """Return the object as the operator keeps it. Kinds that are compared field by field are kept whole."""
    made = {"apiVersion": kind.api_version, "kind": kind.name} | item
    trim = _TRIMS.get(kind)
    return made if trim is None else trim(made)


def trimmed_metadata(kind: Kind, item: Json) -> Json:
    """Return the object with only its trimmed metadata."""
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": _metadata(item)}


def _metadata(item: Mapping[str, Any]) -> Json:
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    made: Json = {field: metadata[field] for field in _OF_METADATA if field in metadata}
    for field in ("labels", "annotations"):
        texts = metadata.get(field)
        if isinstance(texts, dict):
            kept = {key: value for key, value in texts.items() if key.startswith(_OWN_PREFIXES)}
            made[field] = {key: value[:_MOST_TEXT] if isinstance(value, str) else value for key, value in kept.items()}
    owners = metadata.get("ownerReferences")
    if isinstance(owners, list):
        made["ownerReferences"] = owners[:_MOST_OWNERS]
    return made


def _repo(item: Json) -> Json:
    made = {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": _metadata(item)}
    status, spec = item.get("status"), item.get("spec")
    if status is not None and _size(status) <= _MOST_STATUS_BYTES:
        made["status"] = status
    if spec is None:
        return made
    if (size := _size(spec)) <= MOST_SPEC_BYTES:
        return {**made, "spec": spec}
    # Keep the server and the name that it claims: it is rejected for them.
    claimed = {field: spec[field] for field in ("serverRef", "repoName") if isinstance(spec, dict) and field in spec}
    oversize = {"bytes": size, "field": _largest(spec)}
    return {**made, "spec": claimed if _size(claimed) <= _MOST_TEXT else {}, OVERSIZE: oversize}


def _largest(spec: Any) -> str:  # noqa: ANN401 - JSON
    """Return the path of the field that takes the most bytes."""
    path = "spec"
    while isinstance(spec, dict) and spec:
        field = max(spec, key=lambda name: _size(spec[name]))
        path, spec = f"{path}.{field[:_MOST_FIELD]}", spec[field]
    return path


def _server(item: Json) -> Json:
    return {**item, "metadata": _metadata(item)}


def _policy(item: Json) -> Json:
    made = {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": _metadata(item)}
    status = item.get("status")
    if status is not None and _size(status) <= _MOST_STATUS_BYTES:
        made["status"] = status
    return made | {field: item[field] for field in ("spec", OVERSIZE) if field in item}


def _pod(item: Json) -> Json:
    status = item.get("status")
    status = status if isinstance(status, dict) else {}
    kept = {field: status[field] for field in _OF_POD if field in status}
    made = {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": _metadata(item)}
    return {**made, "status": kept if _size(kept) <= _MOST_STATUS_BYTES else {}}


def _job(item: Json) -> Json:
    spec, status = item.get("spec"), item.get("status")
    made = {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": _metadata(item)}
    if isinstance(spec, dict):
        made["spec"] = {field: value for field, value in spec.items() if field != "template"}
    if status is not None and _size(status) <= _MOST_STATUS_BYTES:
        made["status"] = status
    return made


def _event(item: Json) -> Json:
    made = {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": _metadata(item)}
    kept: Json = {field: item[field] for field in _OF_EVENT if field in item}
    return {**made, **kept} if _size(kept) <= _MOST_EVENT_BYTES else made


def _size(value: object) -> int:
    return len(msgspec.json.encode(value))


_TRIMS: Final[Mapping[Kind, Callable[[Json], Json]]] = {
    REPO: _repo,
    SERVER: _server,
    POLICY: _policy,
    POD: _pod,
    JOB: _job,
    EVENT: _event,
}
