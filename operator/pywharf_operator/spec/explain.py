"""What is wrong with a manifest, as one sentence: the field, its value unless it may be a secret, and the remedy."""

import difflib
import re

import msgspec
from msgspec import inspect

from pywharf.core.struct_errors import describe

_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?$")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?$")
_ENUM = re.compile(r"^Invalid enum value '(?P<value>.*)' - at `\$\.?(?P<path>[^`]*)`$", re.DOTALL)
_OWN = re.compile(r"^(?P<sentence>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_NOT_TEXT = re.compile(r"expected `str[^`]*`, got `(int|float|bool)`")
_SOURCE = "manifest"
_USER_INFO = re.compile(r"://[^\s'\"]*@")


def explain(error: msgspec.ValidationError, data: object, kind: type[msgspec.Struct]) -> str:
    """One sentence without the object's name. `data` is what `kind` was read from."""
    message = str(error)
    if found := _UNKNOWN.search(message):
        return _unknown(found["field"], found["path"] or "", kind)
    if found := _MISSING.search(message):
        field = _joined(found["path"], found["field"])
        return f"{field} is missing; add it."
    if found := _ENUM.match(message):
        return _enum(found["value"], found["path"], kind)
    if isinstance(error.__cause__, ValueError | TypeError):  # a form or a rule of the struct, whose sentences are whole
        found = _OWN.match(message)
        path = found["path"] if found else None
        sentence = found["sentence"] if found else message
        return f"{_own(path, sentence)}."
    sentence = describe(error, data, _SOURCE).removeprefix(f"{_SOURCE}: ")
    sentence = sentence.replace(" | null`", "`")
    if _NOT_TEXT.search(sentence):
        sentence = sentence.rstrip(".") + "; put the value in quotes."
    return _USER_INFO.sub("://…@", sentence)


def _own(path: str | None, sentence: str) -> str:
    """The sentence with its field's path before it; a rule on several fields begins with its struct's name."""
    if not path:
        return sentence
    last = path.rpartition(".")[2]
    if sentence.startswith((f"{last}:", f"{last} ")):
        return path.removesuffix(last) + sentence
    return f"{path}.{sentence}"


def _unknown(field: str, path: str, kind: type[msgspec.Struct]) -> str:
    known = [part.encode_name for part in _fields_at(kind, path)]
    meant = difflib.get_close_matches(field, known, n=1) or [name for name in known if name.lower() == field.lower()]
    remedy = f"did you mean {meant[0]}?" if meant else f"known there: {', '.join(known)}."
    return f"the field {_joined(path, field)} is unknown; {remedy}"


def _enum(value: str, path: str, kind: type[msgspec.Struct]) -> str:
    parent, _, name = path.rpartition(".")
    name = name.partition("[")[0]
    values = [
        str(choice)
        for field in _fields_at(kind, parent)
        if field.encode_name == name
        for choice in _choices(field.type)
    ]
    return f"{path} is {value[:120]!r}; it must be one of {', '.join(values)}."


def _joined(path: str | None, field: str) -> str:
    return f"{path}.{field}" if path else field


def _fields_at(kind: type[msgspec.Struct], path: str) -> tuple[inspect.Field, ...]:
    """The fields of the struct at a path such as `spec.backend.fileSystem`."""
    current = _struct_in(inspect.type_info(kind))
    for step in re.findall(r"[^.\[\]]+", re.sub(r"\[[^\]]*\]", "", path)):
        fields = current.fields if current is not None else ()
        current = next((_struct_in(field.type) for field in fields if field.encode_name == step), None)
    return current.fields if current is not None else ()


def _struct_in(kind: inspect.Type) -> inspect.StructType | None:
    match kind:
        case inspect.StructType():
            return kind
        case inspect.Metadata():
            return _struct_in(kind.type)
        case inspect.VarTupleType():
            return _struct_in(kind.item_type)
        case inspect.UnionType():
            return next((found for part in kind.types if (found := _struct_in(part))), None)
        case _:
            return None


def _choices(kind: inspect.Type) -> tuple[object, ...]:
    match kind:
        case inspect.LiteralType():
            return kind.values
        case inspect.Metadata():
            return _choices(kind.type)
        case inspect.VarTupleType():
            return _choices(kind.item_type)
        case inspect.UnionType():
            return next((found for part in kind.types if (found := _choices(part))), ())
        case _:
            return ()
