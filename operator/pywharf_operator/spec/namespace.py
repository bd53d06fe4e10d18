"""Namespace (core/v1): its labels decide which servers its repos may name."""

from typing import Any

from pywharf_operator.spec.metadata import Resource


class NamespaceObject(Resource, frozen=True, kw_only=True):
    """A Namespace; only its name and labels are read."""

    spec: dict[str, Any] | None = None
    status: dict[str, Any] | None = None
