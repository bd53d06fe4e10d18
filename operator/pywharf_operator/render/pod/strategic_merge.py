"""PURE. Strategic merge of a patch into a pod template, by the rules of the Kubernetes API conventions.

Maps are merged field by field, and null removes a field. Lists of the fields in `POD_TEMPLATE` are merged item by item,
by their key; every other list is replaced. `$patch: replace` and `$patch: delete` are supported, in maps and in lists.
In a volume, fields that the patch does not name are removed, as in the API's strategy `retainKeys`: a volume has one
source.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

_MAX_DEPTH = 100
_DIRECTIVE = "$patch"

JsonValue = Any
"""Any JSON value."""


class InvalidPodTemplateError(Exception):
    """A patch that does not fit a pod template; the message names the field and the remedy."""


class Keyed(msgspec.Struct, frozen=True):
    """A list whose items are identified by a key."""

    key: str
    defaults: Mapping[str, JsonValue] = {}
    """Further fields that identify items, with the value that a missing one stands for."""
    fields: Mapping[str, Any] = {}
    """The merge rules of the items' own fields."""
    retain_keys: bool = False
    """Whether fields that the patch's item does not name are dropped."""


_CONTAINERS: Final = Keyed(
    "name",
    fields={
        "env": Keyed("name"),
        "ports": Keyed("containerPort", defaults={"protocol": "TCP"}),
        "volumeDevices": Keyed("devicePath"),
        "volumeMounts": Keyed("mountPath"),
    },
)
POD_TEMPLATE: Final[Mapping[str, Any]] = {
    "spec": {
        "containers": _CONTAINERS,
        "hostAliases": Keyed("ip"),
        "imagePullSecrets": Keyed("name"),
        "initContainers": _CONTAINERS,
        "resourceClaims": Keyed("name", retain_keys=True),
        "schedulingGates": Keyed("name"),
        "topologySpreadConstraints": Keyed("topologyKey"),
        "volumes": Keyed("name", retain_keys=True),
    }
}


def merged_pod_template(
    base: Mapping[str, JsonValue], patch: Mapping[str, JsonValue], path: str = "podTemplate"
) -> dict[str, JsonValue]:
    """Merge `patch` into a copy of `base`. `path` is the field of `patch`, for messages.

    Raises InvalidPodTemplateError.
    """
    return _map(base, patch, POD_TEMPLATE, path)


def _map(
    base: Mapping[str, JsonValue], patch: Mapping[str, JsonValue], known: Mapping[str, Any], path: str
) -> dict[str, JsonValue]:
    _check_depth(path)
    directive = patch.get(_DIRECTIVE, "merge")
    if directive not in ("merge", "replace", "delete"):
        raise InvalidPodTemplateError(f"{path}.$patch must be one of merge, replace and delete.")
    if directive == "delete":
        return {}
    made = {} if directive == "replace" else dict(base)
    for field, value in patch.items():
        if field == _DIRECTIVE:
            continue
        _check_field(field, path)
        if value is None or (isinstance(value, Mapping) and value.get(_DIRECTIVE) == "delete"):
            made.pop(field, None)
        else:
            made[field] = _value(made.get(field), value, known.get(field, {}), f"{path}.{field}")
    return made


def _value(base: JsonValue, patch: JsonValue, known: Mapping[str, Any] | Keyed, path: str) -> JsonValue:
    if isinstance(known, Keyed):
        return _keyed_list(base or [], patch, known, path)
    if isinstance(patch, Mapping):
        _check_same_kind(base, Mapping, "a map", path)
        return _map(base or {}, patch, known, path)
    if known or isinstance(base, Mapping):
        raise InvalidPodTemplateError(f"{path} must be a map.")
    if isinstance(patch, list | tuple):
        _check_same_kind(base, list, "a list", path)
        return [_copy(item, f"{path}[{number}]") for number, item in enumerate(patch)]
    if isinstance(base, list):
        raise InvalidPodTemplateError(f"{path} must be a list.")
    return patch


def _keyed_list(base: list[JsonValue], patch: JsonValue, known: Keyed, path: str) -> list[JsonValue]:
    if not isinstance(patch, list | tuple):
        raise InvalidPodTemplateError(f"{path} must be a list.")
    made: dict[tuple[JsonValue, ...], JsonValue] = {}
    if {_DIRECTIVE: "replace"} not in patch:
        made = {_identity(item, known, path): item for item in base}
    for number, item in enumerate(patch):
        where = f"{path}[{number}]"
        if item == {_DIRECTIVE: "replace"}:
            continue
        if not isinstance(item, Mapping):
            raise InvalidPodTemplateError(f"{where} must be a map.")
        identity = _identity(item, known, where)
        if item.get(_DIRECTIVE) == "delete":
            made.pop(identity, None)
            continue
        before = made.get(identity, {})
        if known.retain_keys:
            before = {field: value for field, value in before.items() if field in item}
        made[identity] = _map(before, item, known.fields, where)
    return list(made.values())


def _identity(item: Mapping[str, JsonValue], known: Keyed, path: str) -> tuple[JsonValue, ...]:
    key = item.get(known.key)
    if not isinstance(key, str | int):
        raise InvalidPodTemplateError(f"{path}.{known.key} is missing; items of this list are told apart by it.")
    return (key, *(str(item.get(field, default)) for field, default in known.defaults.items()))


def _copy(value: JsonValue, path: str) -> JsonValue:
    """Return the value without directives and nulls in its maps. Without a base to merge with, they mean nothing."""
    if isinstance(value, Mapping):
        return _map({}, value, {}, path)
    if isinstance(value, list | tuple):
        _check_depth(path)
        return [_copy(item, f"{path}[{number}]") for number, item in enumerate(value)]
    if value is None and path.endswith("]"):
        raise InvalidPodTemplateError(f"{path} is null, which is no item of a list; remove it.")
    return value


def _check_same_kind(base: JsonValue, kind: type, what: str, path: str) -> None:
    if base is not None and not isinstance(base, kind):
        raise InvalidPodTemplateError(f"{path} cannot be {what}.")


def _check_field(field: object, path: str) -> None:
    if not isinstance(field, str) or field.startswith("$"):
        raise InvalidPodTemplateError(
            f"{path}: {str(field)[:80]!r} is not known here; of the merge directives there is $patch."
        )


def _check_depth(path: str) -> None:
    if path.count(".") + path.count("[") > _MAX_DEPTH:
        raise InvalidPodTemplateError(f"podTemplate is nested deeper than {_MAX_DEPTH} levels.")
