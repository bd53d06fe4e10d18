"""What every resource's struct is made of: strict parsing, and rules that the model and the CRD share."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from pywharf.core.forms import verify_forms

fields_of = functools.cache(msgspec.structs.fields)
"""A struct type's fields, which msgspec reads from its annotations each time: of thousands it is long."""
_SPELLED = {
    "allow_http": "allowHTTP",
    "api_url": "apiURL",
    "from_": "from",
    "namespace_id": "namespaceID",
    "owner_id": "ownerID",
    "target_cpu_utilization_percentage": "targetCPUUtilizationPercentage",
    "user_ids": "userIDs",
}


def field_name(attribute: str) -> str:
    """The manifest's spelling of an attribute: Kubernetes' camelCase, in which acronyms stay upper case."""
    head, *tail = attribute.split("_")
    return _SPELLED.get(attribute) or head + "".join(word.capitalize() for word in tail)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on a whole struct, once in CEL and once in Python."""

    cel: str
    message: str
    """One sentence that says what to do, without a full stop."""
    holds: Callable[[Any], bool] | None = None
    """None: the API server alone checks it. The rule compares with the stored object (`oldSelf`), or a fault costs only
    a part of the object, which is left out where the object is resolved."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename=field_name):
    """A part of a resource. Its fields carry descriptions and forms, its class the rules about several fields."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    def __post_init__(self) -> None:
        """Raise ValueError where a text has not its form or a rule does not hold."""
        verify_forms(self)
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                raise ValueError(rule.message)


def exactly_one(*values: object) -> bool:
    """Return whether exactly one of the values is given."""
    return sum(value is not None for value in values) == 1
