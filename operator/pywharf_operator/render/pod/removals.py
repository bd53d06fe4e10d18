"""PURE. Removal of parts from a pod template, each named by a path such as `spec.containers[server].startupProbe`.

A path is a text in a list, which every tool passes on. A null would not work: `kubectl apply`, kustomize and helm drop
it, and kustomize executes a `$patch` itself.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pywharf_operator.render.pod.strategic_merge import POD_TEMPLATE, InvalidPodTemplateError, JsonValue, Keyed

_FIELD: Final = "podTemplateRemovals"
_STEP: Final = re.compile(r"\.?([A-Za-z0-9_-]+)|\[([^\[\]]+)\]")


def without(
    template: Mapping[str, JsonValue], paths: Iterable[str], *, missing_ok: bool = False
) -> dict[str, JsonValue]:
    """Return a new template without these parts.

    Raises InvalidPodTemplateError for a path to a missing part, unless `missing_ok`.
    """
    made = dict(template)
    for path in paths:
        steps = steps_of(path)
        try:
            made = _without(made, steps, POD_TEMPLATE)
        except LookupError as error:
            if missing_ok:
                continue
            at = f", because {error.args[0]}" if error.args else ""
            raise InvalidPodTemplateError(
                f"{_FIELD}: {path!r} leads to nothing in the pod template{at}; correct the path, or remove it."
            ) from None
    return made


def steps_of(path: str) -> tuple[str, ...]:
    """Split the path into its fields and keys. Its form is checked where it is parsed."""
    return tuple(found[1] or found[2] for found in _STEP.finditer(path))


def path_of(steps: Sequence[str]) -> str:
    """Return a path of these fields and keys."""
    first, *rest = steps
    return first + "".join(f"[{step}]" for step in rest)


def _without(part: JsonValue, steps: Sequence[str], known: object) -> JsonValue:
    """Return a copy of a map or list without the part at `steps`. Raises LookupError if there is no such part."""
    step, *rest = steps
    if isinstance(part, Mapping):
        if step not in part:
            raise LookupError(f"there is no {step!r} among {', '.join(map(str, part)) or 'its fields'}")
        inner = known.get(step) if isinstance(known, Mapping) else None
        kept = {} if not rest else {step: _without(part[step], rest, inner)}
        # Keep the order of the fields.
        return {name: kept.get(name, value) for name, value in part.items() if name != step or rest}
    if isinstance(part, list | tuple):
        return _without_item(part, step, rest, known)
    raise LookupError(f"{step!r} stands below a value that is neither a map nor a list")


def _without_item(items: Sequence[JsonValue], step: str, rest: Sequence[str], known: object) -> list[JsonValue]:
    if isinstance(known, Keyed):
        found = next((item for item in items if _is_named(item, step, known)), None)
        inner: object = known.fields
    else:
        # Items of a list without keys, such as `args`, are named by their texts.
        found = next((item for item in items if not isinstance(item, Mapping) and str(item) == step), None)
        inner = None
    if found is None:
        raise LookupError(f"no item is named {step!r}")
    if not rest:
        return [item for item in items if item is not found]
    return [_without(item, rest, inner) if item is found else item for item in items]


def _is_named(item: JsonValue, step: str, known: Keyed) -> bool:
    """Return whether `step` names the item.

    The name is the item's key. If several items may share a key, such as a port, it includes the distinguishing fields:
    `53/UDP`.
    """
    if not isinstance(item, Mapping):
        return False
    key = str(item.get(known.key))
    others = [str(item.get(field, default)) for field, default in known.defaults.items()]
    usual = [str(default) for default in known.defaults.values()]
    return step == "/".join([key, *others]) or (step == key and others == usual)
