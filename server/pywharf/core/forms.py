"""The form that a text in a configuration or a manifest must have, and its check. Fields carry forms in their types."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec import inspect

_SHOWN = 120
"""Characters of a value that a message repeats."""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """How a text must look. A field's type names it: `Annotated[str, Meta(extra={"form": FORM})]`."""

    pattern: str
    """Anchored, in the syntax that `re` and RE2 share, without quotation marks. The CRDs use it, too."""
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

    def verify(self, field: str, text: str) -> None:
        """Raise ValueError, one sentence with the field, the value and the remedy."""
        shown = f" is {text[:_SHOWN]!r}"
        if "@" in text or (self.may_hold_secret and re.search(r"[?#]", text)):
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


def verify_forms(struct: msgspec.Struct) -> None:
    """Raise ValueError if a text in one of the struct's fields does not have the form that the field's type names."""
    for attribute, name, form in _forms(type(struct)):
        for text in _texts(getattr(struct, attribute)):
            form.verify(name, text)


def form_of(kind: inspect.Type) -> Form | None:
    """Return the form that a field's type names, if any: on itself, or on one part of a union."""
    if isinstance(kind, inspect.Metadata):
        form = (kind.extra or {}).get("form")
        return form if isinstance(form, Form) else form_of(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next((form for part in kind.types if (form := form_of(part))), None)
    if isinstance(kind, inspect.VarTupleType):
        return form_of(kind.item_type)
    return form_of(kind.value_type) if isinstance(kind, inspect.DictType) else None


@functools.cache
def _forms(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, Form], ...]:
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
