"""PURE. The adoption of objects that belong to a server but have no owner, e.g. after a restore from a backup.

Backup tools restore objects without owner references, and `kubectl delete --cascade=orphan` removes them. Such an
object is adopted if it carries every label that the operator sets, has a name that the operator gives, and has no
controller. Anybody who may create objects in the server's namespace can create such an object; docs/backup.md says so.
"""

from collections.abc import Mapping
from typing import Any, Final

from pywharf.core.names import RepoName
from pywharf_operator.cluster.live import covers, labels_of, owned_by
from pywharf_operator.render.labels import Manifest, labels, object_name, owner_references
from pywharf_operator.render.objects.credentials import MAX_SHARDS, shard_name
from pywharf_operator.render.objects.cron_job import cron_job_name
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.kinds import CONFIG_MAP, CRON_JOB, JOB, SECRET, VOLUME_CLAIM, Kind
from pywharf_operator.spec.names import (
    COMPONENT_LABEL,
    COMPONENTS,
    CONFIG_MAP_SUFFIXES,
    MANAGER,
    REPO_LABEL,
    SERVER_LABEL,
)

_SUFFIXES: Final = ("", *CONFIG_MAP_SUFFIXES, "index", "metrics", "session")
"""Name suffixes of the objects that a server has once, except its credentials."""
_OUR_LABEL: Final = ("metadata", "labels", SERVER_LABEL)


def has_controller(live: Mapping[str, Any]) -> bool:
    """Return whether the object has a controller, ours or another."""
    return any(one.get("controller") for one in live["metadata"].get("ownerReferences") or [])


def belongs(kind: Kind, live: Mapping[str, Any], server: PackageServer) -> bool:
    """Return whether the server owns the object or may adopt it."""
    return owned_by(live, server.metadata.uid or "") or is_orphan(kind, live, server)


def is_orphan(kind: Kind, live: Mapping[str, Any], server: PackageServer) -> bool:
    """Return whether the object has no controller and was created for the server, by its labels and its name."""
    if has_controller(live):
        return False
    found = labels_of(live)
    if kind is VOLUME_CLAIM:  # it never has an owner, so that it outlives its server
        return bool(found.get(SERVER_LABEL) == server.key.name)
    component = found.get(COMPONENT_LABEL)
    if component not in COMPONENTS or not labels(server, component).items() <= found.items():
        return False
    return _is_name_of_ours(kind, str(live["metadata"]["name"]), found.get(REPO_LABEL), server)


def _is_name_of_ours(kind: Kind, name: str, repo: object, server: PackageServer) -> bool:
    if kind is CRON_JOB or kind is JOB:
        if not isinstance(repo, str):
            return False
        of_cron_job = cron_job_name(server, RepoName(repo))
        return name == of_cron_job if kind is CRON_JOB else name.startswith(f"{of_cron_job}-")
    names = {object_name(server, suffix) for suffix in _SUFFIXES}
    return name in names or (kind is SECRET and name in {shard_name(server, one) for one in range(MAX_SHARDS)})


def adoption(live: Mapping[str, Any], server: PackageServer) -> Manifest:
    """Return the manifest that makes the server the owner of this object, by its uid, and changes nothing else."""
    metadata = {key: live["metadata"][key] for key in ("name", "namespace", "uid")}
    metadata["ownerReferences"] = owner_references(server)
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}


def taken_over(live: Mapping[str, Any]) -> list[Manifest] | None:
    """Return managedFields in which the operator owns what a restore wrote; None if it has applied the object before.

    Server-side apply removes a field that is no longer rendered only if nobody else owns it. Otherwise a restored
    object would keep everything it had: the secrets of a repo that is gone, or a volume whose Secret is gone.
    """
    entries = live["metadata"].get("managedFields") or []
    if any(one.get("manager") == MANAGER and one.get("operation") == "Apply" for one in entries):
        return None
    restored = [one for one in entries if not one.get("subresource") and covers(one.get("fieldsV1"), _OUR_LABEL)]
    fields: Manifest = {"f:metadata": {"f:labels": {f"f:{SERVER_LABEL}": {}}}}
    for one in restored:
        if one.get("apiVersion") == live["apiVersion"]:
            # Its other labels and annotations stay, because a restore marks its objects with them.
            _add(fields, {name: value for name, value in one["fieldsV1"].items() if name != "f:metadata"})
    own = {
        "manager": MANAGER,
        "operation": "Apply",
        "apiVersion": live["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    return [own, *(one for one in entries if one not in restored)]


def _add(fields: Manifest, more: Mapping[str, Any]) -> None:
    for name, inner in more.items():
        _add(fields.setdefault(name, {}), inner)


def stale_data(kind: Kind, desired: Mapping[str, Any], live: Mapping[str, Any]) -> Manifest:
    """Return a merge patch that removes the keys of a ConfigMap or Secret that are not rendered; empty if none are.

    It ignores who wrote them: a repo's secrets must not outlive the repo because managedFields were lost.
    """
    if kind is not CONFIG_MAP and kind is not SECRET:
        return {}
    gone = {
        field: dict.fromkeys(sorted((live.get(field) or {}).keys() - (desired.get(field) or {}).keys()))
        for field in ("data", "binaryData")
    }
    return {field: keys for field, keys in gone.items() if keys}
