"""Every map of the specs that may be empty, filled and emptied, derived from the schema.

The filled specs are those of support/operator/spec_changes.py, which has a value for each field.
"""

import copy
from collections.abc import Iterator
from typing import Any

import msgspec

from pywharf_operator.codegen.schema import Schema, schema_of
from pywharf_operator.spec import PackageRepo, PackageServer, Resource
from support.cluster.kube_client import Json
from support.operator.spec_changes import REPO_CHANGES, SERVER_CHANGES

_STRUCTS: dict[str, type[Resource]] = {"PackageRepo": PackageRepo, "PackageServer": PackageServer}
PLURALS = {"PackageRepo": "packagerepos", "PackageServer": "packageservers"}


class MapCase(msgspec.Struct, frozen=True):
    """A map that may be empty."""

    name: str
    """Name of the object."""
    kind: str
    path: str
    """Path in the spec, such as `ingress.annotations`; empty for the spec itself."""
    filled: Json
    emptied: Json
    left_out: Json | None
    """The spec without the map; None if the map is required."""


def map_cases() -> list[MapCase]:
    """Return a case for each map of both specs that may be `{}`. A map without a filled spec is an AssertionError."""
    found: list[MapCase] = []
    for kind, struct in _STRUCTS.items():
        specs = _specs(kind)
        for number, path in enumerate(_maps(schema_of(struct)["properties"]["spec"], ())):
            full = next((spec for spec in specs if _at(spec, path)), None)
            assert full is not None, f"{kind}: no spec of spec_changes.py has something in {'.'.join(path)}"
            empty = _emptied(full, path)
            if _readable(kind, empty):
                name = f"{kind.lower()}-{number}"
                found.append(MapCase(name, kind, ".".join(path), full, empty, _left_out(kind, full, path)))
    return found


def manifest_of(case: MapCase, spec: Json) -> Json:
    """Return the case's object without a namespace."""
    return {
        "apiVersion": "pywharf.dev/v1alpha1",
        "kind": case.kind,
        "metadata": {"name": case.name},
        "spec": spec,
    }


def meaning(kind: str, spec: Any) -> object:
    """Parse a spec as the operator does. Raises msgspec.ValidationError."""
    found = {"apiVersion": "pywharf.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    return msgspec.convert(found, _STRUCTS[kind]).spec  # type: ignore[attr-defined]


def _specs(kind: str) -> list[Json]:
    changes = REPO_CHANGES if kind == "PackageRepo" else SERVER_CHANGES
    return [spec for spec, _ in changes.values()]


def _maps(schema: Schema, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the path of every map that is not in a list."""
    if schema.get("type") == "object":
        yield path
    for name, field in schema.get("properties", {}).items():
        yield from _maps(field, (*path, name))


def _at(spec: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        spec = (spec or {}).get(step)
    return spec


def _emptied(full: Json, path: tuple[str, ...]) -> Json:
    made = copy.deepcopy(full)
    if not path:
        return {}
    parent = _at(made, path[:-1])
    parent[path[-1]] = {}
    return made


def _left_out(kind: str, full: Json, path: tuple[str, ...]) -> Json | None:
    if not path:
        return None
    made = copy.deepcopy(full)
    del _at(made, path[:-1])[path[-1]]
    return made if _readable(kind, made) else None


def _readable(kind: str, spec: Json) -> bool:
    try:
        meaning(kind, spec)
    except msgspec.ValidationError:
        return False
    return True
