"""PURE. Drift: whether an object matches what was rendered, and the backoff if somebody else keeps changing it."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from pywharf.core.backoff import backoff_s
from pywharf_operator.cluster.live import Steps, annotations_of, covers, other_managers
from pywharf_operator.reconciling.comparison import first_difference, path_of
from pywharf_operator.render.labels import Manifest
from pywharf_operator.spec.names import MANAGER, RENDERED_ANNOTATION
from pywharf_operator.spec.quantities import quantity

REPLICAS_MANAGER: Final = f"{MANAGER}-replicas"
"""Field manager that owns the number of replicas until an autoscaler writes it."""
_REPLICAS: Final = ("spec", "replicas")


class Difference(msgspec.Struct, frozen=True):
    """How an object differs from what was rendered."""

    kind: Literal["absent", "changed", "drifted", "same"]
    """changed: the operator renders something other than it applied last; drifted: somebody else changed the object."""
    steps: Steps = ()
    """The steps to the first field that drifted."""

    @property
    def path(self) -> str:
        """The steps, formatted for people."""
        return path_of(self.steps)


def differs(desired: Manifest, live: Mapping[str, Any] | None) -> Difference:
    """Compare a manifest from `with_hash` with the object; fields that others added are ignored."""
    if live is None:
        return Difference("absent")
    wanted = desired["metadata"]["annotations"][RENDERED_ANNOTATION]
    if annotations_of(live).get(RENDERED_ANNOTATION) != wanted:
        return Difference("changed")
    steps = first_difference(desired, live)
    return Difference("same") if steps is None else Difference("drifted", steps)


def kept_replicas(desired: Manifest, live: Mapping[str, Any] | None) -> Manifest | None:
    """Return what KEEPER must apply before the operator leaves a Deployment's number of replicas to an autoscaler.

    Return None in all other cases. A field that its last manager gives up gets its default, so all replicas but one
    would end.
    """
    spec = (live or {}).get("spec") or {}
    if live is None or desired["kind"] != "Deployment" or "replicas" in desired["spec"] or "replicas" not in spec:
        return None
    entries = live["metadata"].get("managedFields") or []
    if not any(one.get("manager") == MANAGER and covers(one.get("fieldsV1"), _REPLICAS) for one in entries):
        return None
    # The uid keeps it from an object that was created again under this name.
    metadata = {key: live["metadata"][key] for key in ("name", "namespace", "uid")}
    kind = {key: desired[key] for key in ("apiVersion", "kind")}
    return {**kind, "metadata": metadata, "spec": {"replicas": spec["replicas"]}}


def with_kept_size(desired: Manifest, live: Mapping[str, Any] | None) -> Manifest:
    """Return the claim with its present size if somebody enlarged it, because a claim cannot shrink."""
    if live is None or desired["kind"] != "PersistentVolumeClaim":
        return desired
    spec = desired["spec"]
    requests = ((live.get("spec") or {}).get("resources") or {}).get("requests") or {}
    wanted, present = quantity(spec["resources"]["requests"]["storage"]), quantity(requests.get("storage"))
    if wanted is None or present is None or present <= wanted:
        return desired
    kept = {"requests": {"storage": requests["storage"]}}
    return {**desired, "spec": {**spec, "resources": kept}}


_FIRST_S: Final = 2.0
_LONGEST_S: Final = 300.0
_RESET_AFTER_S: Final = 600.0


class Contest:
    """How often an object was put back. Each time the wait grows, so that two managers do not fight forever."""

    def __init__(self) -> None:
        self._times = 0
        self._last = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until the object may be put back again; 0: now."""
        if self._times and now - self._last > _RESET_AFTER_S:
            self._times = 0
        if not self._times:
            return 0.0
        wait = backoff_s(self._times - 1, first_s=_FIRST_S, longest_s=_LONGEST_S)
        return max(self._last + wait - now, 0.0)

    def put_back(self, now: float) -> None:
        """Record that the object is put back now."""
        self._times += 1
        self._last = now

    @staticmethod
    def message(live: Mapping[str, Any] | None, difference: Difference) -> str:
        """Return who changes what, and what to do."""
        managers = (other_managers(live, difference.steps) or other_managers(live)) if live is not None else []
        who = managers[0] if managers else "Somebody"
        return (
            f"{who} changes {difference.path or 'it'} again and again; the operator puts it back less and less often. "
            "Let only one of them manage it."
        )
