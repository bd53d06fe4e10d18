"""PURE. The comparison of an object with what was rendered, ignoring what the API server and others added.

The API server omits empty values, fills in defaults, rewrites quantities (`1000m` as `1`) and merges some lists by a
key. It stores everything else as given.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pywharf_operator.cluster.live import Steps
from pywharf_operator.spec.quantities import quantity

_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "ownerReferences": "uid",
}
"""Lists that the API server merges by a key, so that others may add items. Every other list is entirely ours."""
_WHOLE: Final = {"selector", "podSelector", "namespaceSelector", "labelSelector", "matchLabels", "nodeSelector"}
"""Maps in which a field that somebody adds changes the meaning of ours."""
_MEANINGFUL_WHEN_EMPTY: Final = {*_WHOLE - {"matchLabels", "nodeSelector"}, "emptyDir"}
"""Maps that mean something even when empty: an empty selector selects everything."""
_TEXTS: Final = {"annotations", "binaryData", "data", "labels", "matchLabels", "nodeSelector"}
"""Maps in which an empty string is a value."""
_EMPTY_TEXTS: Final = {"storageClassName"}
"""Fields in which an empty string differs from absence: a claim with an empty class gets no default class."""
_DROPPED_ZEROS: Final = {
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "nodePort",
    "paused",
    "publishNotReadyAddresses",
    "readOnly",
    "stdin",
    "stdinOnce",
    "tty",
}
"""Fields that the API server omits if they are false or zero. Other fields, when absent, may have another default:
without `automountServiceAccountToken: false` a pod gets a token."""
_DEFAULTED: Final = {
    "dnsPolicy",
    "failureThreshold",
    "imagePullPolicy",
    "path",
    "periodSeconds",
    "protocol",
    "restartPolicy",
    "schedulerName",
    "scheme",
    "successThreshold",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "timeoutSeconds",
}
"""Fields whose empty string or zero the API server replaces with its default."""
_AMOUNTS: Final = {"capacity", "limits", "requests"}
_AMOUNT: Final = {"averageValue", "divisor", "sizeLimit", "storage"}


def first_difference(desired: Mapping[str, Any], live: Mapping[str, Any]) -> Steps | None:
    """Return the steps to the first field of `desired` that differs in `live`, or None if all match."""
    if desired.get("kind") == "Secret" and "stringData" in desired:
        desired = _with_data_alone(desired)
    return _in_map(desired, live, (), service=desired.get("kind") == "Service")


def path_of(steps: Steps) -> str:
    """Format steps for people, such as `spec.ports[http].port`."""
    made = ""
    for step in steps:
        match step:
            case str() if re.search(r"[^\w$-]", step):
                made += f"[{step!r}]"
            case str():
                made += f".{step}" if made else step
            case int():
                made += f"[{step}]"
            case (_, value):
                made += f"[{value}]"
    return made


def _with_data_alone(secret: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the Secret as the API server stores it: with `stringData` moved into `data`."""
    texts = secret["stringData"] or {}
    encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in texts.items()}
    rest = {key: value for key, value in secret.items() if key != "stringData"}
    return {**rest, "data": {**(secret.get("data") or {}), **encoded}}


def _in_value(desired: object, live: object, steps: Steps, *, service: bool) -> Steps | None:
    if isinstance(desired, Mapping):
        return _in_map(desired, live, steps, service=service)
    if isinstance(desired, list | tuple):
        return _in_list(desired, live, steps, service=service)
    return None if _is_same_scalar(desired, live, steps) else steps


def _in_map(desired: Mapping[str, object], live: object, steps: Steps, *, service: bool) -> Steps | None:
    field = _field(steps)
    if not isinstance(live, Mapping):
        return None if live is None and field not in _MEANINGFUL_WHEN_EMPTY and _is_empty(desired, steps) else steps
    for key, value in desired.items():
        found = _in_value(value, live.get(key), (*steps, key), service=service)
        if found is not None:
            return found
    if field in _WHOLE:
        added = sorted(key for key, value in live.items() if key not in desired and value not in (None, {}, []))
        return (*steps, added[0]) if added else None
    return None


def _in_list(desired: Sequence[object], live: object, steps: Steps, *, service: bool) -> Steps | None:
    if not isinstance(live, list | tuple):
        return None if not desired and live is None else steps
    key = _merge_key(desired, steps, service=service)
    if key is None:
        if len(desired) != len(live):
            return steps
        pairs = enumerate(zip(desired, live, strict=True))
        found = (_in_value(one, other, (*steps, number), service=service) for number, (one, other) in pairs)
        return next((difference for difference in found if difference is not None), None)
    by_key = {item.get(key): item for item in live if isinstance(item, Mapping)}
    for item in desired:
        assert isinstance(item, Mapping)  # noqa: S101 - each item has a key
        difference = _in_value(item, by_key.get(item[key], _MISSING), (*steps, (key, item[key])), service=service)
        if difference is not None:
            return difference
    return None


_MISSING: Final = object()


def _merge_key(items: Sequence[object], steps: Steps, *, service: bool) -> str | None:
    """Return the key that identifies the items of such a list, or None if their position does."""
    field = _field(steps)
    key = _KEYS.get(field)
    if field == "ports":
        in_container = any(isinstance(item, Mapping) and "containerPort" in item for item in items)
        key = "containerPort" if in_container else "port" if service else None
    if key is None:
        return None
    values = [item.get(key) if isinstance(item, Mapping) else None for item in items]
    usable = all(isinstance(value, str | int) for value in values) and len(set(values)) == len(values)
    return key if usable else None


def _is_same_scalar(desired: object, live: object, steps: Steps) -> bool:
    if desired is None or desired == live or (desired in ("", 0) and _field(steps) in _DEFAULTED):
        return True
    if live is None:
        return _is_empty(desired, steps)
    if isinstance(desired, bool) or isinstance(live, bool):
        return False
    if _field(steps) in _AMOUNT or _field(steps[:-1]) in _AMOUNTS:
        first, second = quantity(desired), quantity(live)
        return first is not None and first == second
    # A port or a percentage may be written as a number or as a string.
    return {type(desired), type(live)} == {int, str} and str(desired) == str(live)


def _is_empty(value: object, steps: Steps) -> bool:
    """Return whether the API server omits the value, so that absence means the same."""
    match value:
        case None:
            return True
        case Mapping():
            inner = ((item, (*steps, key)) for key, item in value.items())
            return all(_is_empty(item, path) and _field(path) not in _MEANINGFUL_WHEN_EMPTY for item, path in inner)
        case list() | tuple():
            return not value
        case bool() | int():
            return not value and _field(steps) in _DROPPED_ZEROS
    return value == "" and _field(steps[:-1]) not in _TEXTS and _field(steps) not in _EMPTY_TEXTS


def _field(steps: Steps) -> str:
    """Return the last step's name; empty if it has none."""
    last = steps[-1] if steps else ""
    return last if isinstance(last, str) else ""
