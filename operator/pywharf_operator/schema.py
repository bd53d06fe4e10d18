"""The structs' structural OpenAPI schema, as a CustomResourceDefinition holds it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from pywharf_operator.spec.model import Form, Model, Rule

Schema = dict[str, Any]


def schema_of(kind: type[msgspec.Struct]) -> Schema:
    """A struct's schema. Raises NotImplementedError for a type that no struct of `spec` uses yet."""
    return _schema(inspect.type_info(kind))


def default_of(field: inspect.Field) -> object:
    """A field's default as JSON; UNSET where there is none, or where absent and empty mean the same.

    Nested defaults are written out: the API server validates a default as it stands, before it fills in others.
    """
    default = field.default
    if default is msgspec.NODEFAULT or default is None:
        return msgspec.UNSET
    plain = _plain(msgspec.to_builtins(default))
    return msgspec.UNSET if plain in ([], {}) else plain


def _plain(value: object) -> object:
    """As JSON has it, without what means the same when absent."""
    if isinstance(value, dict):
        items = ((key, _plain(item)) for key, item in value.items())
        return {key: item for key, item in items if item is not None and item not in ([], {})}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _schema(kind: inspect.Type) -> Schema:
    match kind:
        case inspect.Metadata():
            described = dict(kind.extra_json_schema or {})
            schema = described | _schema(kind.type)
            return _with_form(schema, kind) | _list_type(kind.extra or {})
        case inspect.UnionType():
            return _union(kind)
        case inspect.StructType():
            return _struct(kind)
        case inspect.VarTupleType() | inspect.DictType():
            return _container(kind)
        case _:
            return _scalar(kind)


def _container(kind: inspect.VarTupleType | inspect.DictType) -> Schema:
    if isinstance(kind, inspect.VarTupleType):
        bounds = {"minItems": kind.min_length, "maxItems": kind.max_length}
        return {"type": "array", "items": _schema(kind.item_type)} | _given(bounds)
    if isinstance(kind.value_type, inspect.AnyType):
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    bounds = {"minProperties": kind.min_length, "maxProperties": kind.max_length}
    return {"type": "object", "additionalProperties": _schema(kind.value_type)} | _given(bounds)


def _scalar(kind: inspect.Type) -> Schema:
    match kind:
        case inspect.LiteralType():
            return {"type": "string", "enum": list(kind.values)}
        case inspect.StrType():
            return {"type": "string"} | _given({"maxLength": kind.max_length})
        case inspect.IntType():
            bounds = {"minimum": kind.ge, "maximum": kind.le}
            return {"type": "integer", "format": "int64"} | _given(bounds)
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case _:
            raise NotImplementedError(kind)


def _union(kind: inspect.UnionType) -> Schema:
    parts = [part for part in kind.types if not isinstance(part, inspect.NoneType)]
    if len(parts) == 1:
        return _schema(parts[0])
    if {type(part) for part in parts} == {inspect.StrType, inspect.IntType}:
        return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    raise NotImplementedError(kind)


def _struct(kind: inspect.StructType) -> Schema:
    properties: dict[str, Schema] = {}
    for field in kind.fields:
        schema = _schema(field.type)
        default = default_of(field)
        properties[field.encode_name] = schema if default is msgspec.UNSET else schema | {"default": default}
    required = [field.encode_name for field in kind.fields if field.required]
    schema = {"type": "object", "properties": properties}
    rules = _rules(kind.cls)
    return schema | ({"required": required} if required else {}) | _validations(rules)


def _rules(kind: type) -> tuple[Rule, ...]:
    return kind.rules if issubclass(kind, Model) else ()


def _with_form(schema: Schema, kind: inspect.Metadata) -> Schema:
    """The schema with the form's bounds; only where this very type names the form."""
    form = (kind.extra or {}).get("form")
    if not isinstance(form, Form):
        return schema
    if "x-kubernetes-int-or-string" in schema:
        return schema | {"pattern": form.pattern}  # for CEL such a value has no type
    rule = Rule(cel=form.cel(), message=f"it must be {form.must_be}")
    return schema | {"maxLength": form.max_length} | _validations((rule,))


def _list_type(extra: Mapping[str, Any]) -> Schema:
    keys = extra.get("list_map_keys")
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)} if keys else {}


def _validations(rules: tuple[Rule, ...]) -> Schema:
    listed = [{"rule": rule.cel, "message": rule.message} for rule in rules]
    return {"x-kubernetes-validations": listed} if listed else {}


def _given(values: Mapping[str, int | None]) -> Schema:
    return {key: value for key, value in values.items() if value is not None}
