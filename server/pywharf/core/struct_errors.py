"""Convert data written by people to structs. Each error is one sentence and never holds a secret."""

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from pywharf.core.errors import InvalidConfigError, InvalidInputError
from pywharf.core.msgspec_warmup import warmed_up

S = TypeVar("S", bound=msgspec.Struct)
_PATH = re.compile(r"^(?P<reason>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_SECRET_FIELD = re.compile(r"secret|raw|password|token|credential|private|stringdata|\bdata\b", re.IGNORECASE)


def convert(data: object, kind: type[S], source: str) -> S:
    """Convert the data to a struct.

    Raises InvalidConfigError that names `source`, the field, its value unless it may be a secret, and what is expected.
    """
    try:
        return msgspec.convert(data, warmed_up(kind))
    except msgspec.ValidationError as error:
        raise InvalidConfigError(describe(error, data, source)) from None


def decode_body(body: bytes | msgspec.Raw, kind: type[S], source: str = "The body") -> S:
    """Decode a client's JSON to a struct. Raises InvalidInputError that names `source` and the field.

    `kind` must be known to msgspec already: `pywharf.core.msgspec_warmup`.
    """
    try:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError as error:
            raise InvalidInputError(describe(error, msgspec.json.decode(body), source)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"The body is no JSON: {error}.") from None


def describe(error: msgspec.ValidationError, data: object, source: str) -> str:
    """Describe a validation error of `data` in one sentence."""
    matched = _PATH.match(str(error))
    reason, path = (matched["reason"], matched["path"] or "") if matched else (str(error), "")
    unknown = _UNKNOWN.search(reason)
    field = path.lstrip(".")
    if unknown:
        name = f"{field}.{unknown['field']}" if field else unknown["field"]
        return f"{source}: the field {name!r} is unknown; check its spelling and its indentation."
    reason = reason[:1].lower() + reason[1:]
    if not field:
        return f"{source}: {reason}."
    shown = "" if _SECRET_FIELD.search(field) else _shown(_value_at(data, path))
    return f"{source}: {field}{shown}: {reason}."


_MISSING = object()


def _value_at(data: object, path: str) -> object:
    value = data
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, Mapping):
            value = value.get(step, _MISSING)
        elif isinstance(value, list | tuple) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value


def _shown(value: object) -> str:
    if isinstance(value, str):
        return "" if "@" in value else f" is {value[:120]!r}"  # a URL may hold a password before the @
    return f" is {value!r}" if isinstance(value, int | float) else ""
