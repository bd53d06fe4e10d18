"""What every resource's struct is made of: strict parsing, and rules that the model and the CRD share."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import msgspec
from msgspec import inspect

fields_of = functools.cache(msgspec.structs.fields)
"""A struct type's fields, which msgspec reads from its annotations each time: of thousands it is long."""
_SHOWN = 120
"""Characters of a value that a message repeats."""
_SPELLED = {
    "allow_http": "allowHTTP",
    "api_url": "apiURL",
    "from_": "from",
    "target_cpu_utilization_percentage": "targetCPUUtilizationPercentage",
    "user_ids": "userIDs",
}


def field_name(attribute: str) -> str:
    """The manifest's spelling of an attribute: Kubernetes' camelCase, in which acronyms stay upper case."""
    head, *tail = attribute.split("_")
    return _SPELLED.get(attribute) or head + "".join(word.capitalize() for word in tail)


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """How a text must look. The model checks it with `re`, the CRD with CEL or a JSON Schema pattern."""

    pattern: str
    """Anchored, in the syntax that `re` and RE2 share, without quotation marks."""
    max_length: int
    """Characters. CEL needs it to bound what a rule may cost."""
    must_be: str
    """Completes the sentence "it must be …"."""
    forbidden: tuple[str, ...] = ()
    """Texts that match the pattern and are refused all the same."""
    check: Callable[[str], None] | None = None
    """What a pattern cannot say: raises ValueError. The API server does not run it."""
    may_hold_secret: bool = False
    """Whether people write passwords into such a text; then a message shows it only if it certainly has none."""

    def cel(self) -> str:
        """The rule in CEL, about `self`."""
        rules = [f'self.matches(r"{self.pattern}")']
        rules += [f'self != "{text}"' for text in self.forbidden]
        return " && ".join(rules)

    def verify(self, field: str, text: str) -> None:
        """Raise ValueError, one sentence with the field, the value and the remedy."""
        shown = f" is {text[:_SHOWN]!r}"
        if self.may_hold_secret and re.search(r"[@?#]", text):
            shown = ""  # a password may stand there
        if len(text) > self.max_length:
            raise ValueError(f"{field}{shown}: at most {self.max_length} characters are allowed, not {len(text)}")
        if not re.fullmatch(self.pattern, text) or text in self.forbidden:
            raise ValueError(f"{field}{shown}: it must be {self.must_be}")
        if self.check is not None:
            try:
                self.check(text)
            except ValueError as error:
                raise ValueError(f"{field}{shown}: {error}") from None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on a whole struct, once in CEL and once in Python."""

    cel: str
    message: str
    """One sentence that says what to do, without a full stop."""
    holds: Callable[[Any], bool] | None = None
    """None: the rule compares with the stored object (`oldSelf`), so that only the API server can tell."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename=field_name):
    """A part of a resource. Its fields carry descriptions and forms, its class the rules about several fields."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    def __post_init__(self) -> None:
        """Raise ValueError where a text has not its form or a rule does not hold."""
        for attribute, name, form in _forms(type(self)):
            for text in _texts(getattr(self, attribute)):
                form.verify(name, text)
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                raise ValueError(rule.message)


def form_of(kind: inspect.Type) -> Form | None:
    """The form that a field's type names, if any: on itself, or on one part of a union."""
    if isinstance(kind, inspect.Metadata):
        form = (kind.extra or {}).get("form")
        return form if isinstance(form, Form) else form_of(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next((form for part in kind.types if (form := form_of(part))), None)
    if isinstance(kind, inspect.VarTupleType):
        return form_of(kind.item_type)
    return form_of(kind.value_type) if isinstance(kind, inspect.DictType) else None


@functools.cache
def _forms(kind: type[Model]) -> tuple[tuple[str, str, Form], ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)  # noqa: S101 - `kind` is a struct
    found = ((field.name, field.encode_name, form_of(field.type)) for field in info.fields)
    return tuple((attribute, name, form) for attribute, name, form in found if form is not None)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | dict):
        items: Iterable[object] = value.values() if isinstance(value, dict) else value
        for item in items:
            yield from _texts(item)


def exactly_one(*values: object) -> bool:
    """Return whether exactly one of the values is given."""
    return sum(value is not None for value in values) == 1
