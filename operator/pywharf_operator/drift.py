"""PURE. Whether an object is as it was rendered, and what to do where somebody else keeps changing it."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

import msgspec

from pywharf_operator.render.labels import MANAGER, Manifest

RENDERED_ANNOTATION: Final = "pywharf.dev/rendered"
_HASH_LENGTH = 32
_MERGE_KEYS = ("name", "containerPort", "port", "mountPath", "topologyKey", "type", "key", "ip", "uid")
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([KMGTPE]i|[numkMGTPE])?\Z")
_UNITS: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


class Difference(msgspec.Struct, frozen=True):
    """How an object differs from what was rendered."""

    kind: Literal["absent", "changed", "drifted", "same"]
    """changed: the operator renders something else than it applied last; drifted: somebody else changed it."""
    path: str = ""
    """Of the first field that drifted."""


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
    path = _first_difference(desired, live, "")
    return Difference("same") if path is None else Difference("drifted", path)


def _first_difference(desired: object, live: object, path: str) -> str | None:
    if isinstance(desired, Mapping):
        return _first_in_map(desired, live, path)
    if isinstance(desired, list | tuple):
        return _first_in_list(desired, live, path)
    if desired is None or desired == live or (live is None and desired in ("", False, 0)):
        return None
    return None if _same_quantity(desired, live) else path


def _first_in_map(desired: Mapping[str, object], live: object, path: str) -> str | None:
    if not isinstance(live, Mapping):
        return None if _is_empty(desired) and live is None else path or "."
    found = (
        _first_difference(value, live.get(key), f"{path}.{key}" if path else key) for key, value in desired.items()
    )
    return next((difference for difference in found if difference is not None), None)


def _is_empty(value: object) -> bool:
    """Whether absent means the same."""
    if isinstance(value, Mapping):
        return all(_is_empty(item) for item in value.values())
    return value is None or value in ("", False) or (isinstance(value, list | tuple) and not value)


def _first_in_list(desired: Sequence[object], live: object, path: str) -> str | None:
    if not isinstance(live, list | tuple):
        return None if not desired and live is None else path
    key = _merge_key(desired)
    if key is None:
        if len(desired) != len(live):
            return path
        pairs = enumerate(zip(desired, live, strict=True))
        differences = (_first_difference(one, other, f"{path}[{number}]") for number, (one, other) in pairs)
        return next((difference for difference in differences if difference is not None), None)
    by_key: dict[object, object] = {item.get(key): item for item in live if isinstance(item, Mapping)}
    for item in desired:
        assert isinstance(item, Mapping)  # noqa: S101 - a merge key was found in each
        found = _first_difference(item, by_key.get(item[key]), f"{path}[{item[key]}]")
        if found is not None:
            return found
    return None


def _merge_key(items: Sequence[object]) -> str | None:
    """A field that tells the items of a list of objects apart, as the API server merges them."""
    if not items or not all(isinstance(item, Mapping) for item in items):
        return None
    for key in _MERGE_KEYS:
        values = [item.get(key) for item in items if isinstance(item, Mapping)]
        if None not in values and all(isinstance(v, str | int) for v in values) and len(set(values)) == len(values):
            return key
    return None


def _same_quantity(one: object, other: object) -> bool:
    first, second = _quantity(one), _quantity(other)
    return first is not None and first == second


def _quantity(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    found = _QUANTITY.match(str(value))
    if found is None:
        return None
    try:
        return Decimal(found[1]) * _UNITS[found[2] or ""]
    except InvalidOperation:
        return None


def owned_by(live: Mapping[str, Any], owner_uid: str) -> bool:
    """Whether the object's controller is the one with that uid."""
    owners = live["metadata"].get("ownerReferences") or []
    return any(one.get("uid") == owner_uid and one.get("controller") for one in owners)


def other_owner(live: Mapping[str, Any], owner_uid: str) -> str:
    """A sentence that says whose object it is, and what to do."""
    owners = [one for one in live["metadata"].get("ownerReferences") or [] if one.get("uid") != owner_uid]
    managers = other_managers(live)
    if owners:
        whose = f"it belongs to {owners[0].get('kind')} {owners[0].get('name')}"
    elif managers:
        whose = f"it was made by {managers[0]}"
    else:
        whose = "it belongs to somebody else"
    return f"{whose}, so it is left alone; delete or rename it, or give the PackageServer another name."


def other_managers(live: Mapping[str, Any]) -> list[str]:
    """Who else wrote fields of the object's content, the last one first."""
    entries = [one for one in live["metadata"].get("managedFields") or [] if one.get("subresource") is None]
    entries.sort(key=lambda one: str(one.get("time")), reverse=True)
    return [str(one.get("manager")) for one in entries if one.get("manager") != MANAGER]


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
        managers = other_managers(live) if live is not None else []
        who = managers[0] if managers else "Somebody"
        return (
            f"{who} changes {difference.path} again and again; the operator puts it back less and less often. "
            "Let only one of them manage it."
        )
