"""The structs' structural OpenAPI schema for a CustomResourceDefinition.

Server-side apply turns a map into null when it removes the map's last field, although the manifest says `{}`, and the
API server then refuses the null (kubernetes#135841). So a map that may become empty has one of two shapes:

- A map that is always there has a default of its own, which replaces the null.
- An optional map, for which absent and `{}` differ, is atomic: it is applied as a whole, so no field is removed from
  it. Nothing below it has a default in the CRD: a filled-in default would make the object differ from the manifest,
  and so cause a conflict for every other manager. These defaults are in the structs and in the descriptions.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from pywharf.core.forms import Form
from pywharf_operator.spec.metadata import Resource
from pywharf_operator.spec.model import Model, Rule

Schema = dict[str, Any]
_MAP_TYPE = "x-kubernetes-map-type"
_LIST_TYPE = "x-kubernetes-list-type"
_ANY_FIELD = "x-kubernetes-preserve-unknown-fields"
_LONGEST_IN_CEL = 2048
"""Characters of a text that a rule may match. The operator alone checks the form of a longer one."""


def schema_of(kind: type[msgspec.Struct]) -> Schema:
    """Return a struct's schema. Raises NotImplementedError for a type that no struct of `spec` uses yet."""
    return _applicable(described(kind), whole=False)


def described(kind: type[msgspec.Struct]) -> Schema:
    """Return the schema with every default at its field, as the documentation shows it."""
    return _schema(inspect.type_info(kind))


def default_of(field: inspect.Field) -> object:
    """Return a field's default as JSON; UNSET if there is none, or if the API server needs none.

    Nested defaults are written out: the API server validates a default as it is, before it fills in others.
    """
    default = field.default
    if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    if default is msgspec.NODEFAULT or default is None:
        return msgspec.UNSET
    plain = _plain(msgspec.to_builtins(default))
    # An empty list needs no default: it stays a list, no matter which manager applies it.
    return msgspec.UNSET if plain == [] or _holds_any_field(field.type) else plain


def _plain(value: object) -> object:
    """Convert a value to JSON, without the parts that mean the same when absent."""
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
        return {"type": "object", _ANY_FIELD: True}
    bounds = {"minProperties": kind.min_length, "maxProperties": kind.max_length}
    return {"type": "object", "additionalProperties": _schema(kind.value_type)} | _given(bounds)


def _scalar(kind: inspect.Type) -> Schema:
    match kind:
        case inspect.LiteralType():
            return {"type": "string", "enum": list(kind.values)}
        case inspect.StrType():
            return {"type": "string"} | _given({"minLength": kind.min_length, "maxLength": kind.max_length})
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
    kinds = {type(part.type if isinstance(part, inspect.Metadata) else part) for part in parts}
    if kinds == {inspect.StrType, inspect.IntType}:
        return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    if kinds == {inspect.StrType, inspect.IntType, inspect.BoolType}:
        return {_ANY_FIELD: True}  # no schema can say more; the operator checks it
    raise NotImplementedError(kind)


def _struct(kind: inspect.StructType) -> Schema:
    properties: dict[str, Schema] = {}
    for field in kind.fields:
        schema = _schema(field.type)
        default = default_of(field)
        if default is not msgspec.UNSET:
            schema |= {"default": default}
        elif schema.get("type") == "object" and not issubclass(kind.cls, Resource) and _may_be_empty(field.type):
            schema |= {_MAP_TYPE: "atomic"}
        properties[field.encode_name] = schema
    required = [field.encode_name for field in kind.fields if field.required]
    schema = {"type": "object", "properties": properties}
    rules = _rules(kind.cls)
    return schema | ({"required": required} if required else {}) | _validations(rules)


def _may_be_empty(kind: inspect.Type) -> bool:
    """Return whether `{}` is a value of the map."""
    match kind:
        case inspect.Metadata():
            return _may_be_empty(kind.type)
        case inspect.UnionType():
            return any(_may_be_empty(part) for part in kind.types)
        case inspect.StructType():
            try:
                msgspec.convert({}, kind.cls)
            except msgspec.ValidationError:
                return False
            return True
    return isinstance(kind, inspect.DictType)


def _holds_any_field(kind: inspect.Type) -> bool:
    """Return whether the map's fields are unknown. A null in it would not be refused, and would mean something else."""
    if isinstance(kind, inspect.Metadata):
        return _holds_any_field(kind.type)
    return isinstance(kind, inspect.DictType) and isinstance(kind.value_type, inspect.AnyType)


def _applicable(schema: Schema, *, whole: bool) -> Schema:
    """Move the defaults below a part that is applied as a whole into the descriptions.

    `whole`: the schema is below such a part.
    """
    made = dict(schema)
    if whole and "default" in made:
        default = made.pop("default")
        if default != {}:
            made["description"] = f"{made['description']} Default: {msgspec.json.encode(default).decode()}."
    inner = whole or made.get(_MAP_TYPE) == "atomic"
    if "properties" in made:
        made["properties"] = {name: _applicable(field, whole=inner) for name, field in made["properties"].items()}
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _applicable(made["additionalProperties"], whole=inner)
    if "items" in made:
        # A list without keys is applied as a whole, too.
        made["items"] = _applicable(made["items"], whole=inner or _LIST_TYPE not in made)
    return made


def _rules(kind: type) -> tuple[Rule, ...]:
    return kind.rules if issubclass(kind, Model) else ()


def _with_form(schema: Schema, kind: inspect.Metadata) -> Schema:
    """Return the schema with the form's bounds, if this very type names a form."""
    form = (kind.extra or {}).get("form")
    if not isinstance(form, Form):
        return schema
    if "x-kubernetes-int-or-string" in schema:
        return schema | {"pattern": form.pattern}  # for CEL such a value has no type
    bounded = schema | {"maxLength": form.max_length}
    if form.max_length > _LONGEST_IN_CEL:
        return bounded
    if (kind.extra or {}).get("costs_much_in_cel"):
        return bounded | {"pattern": form.pattern}  # it costs nothing, and explains nothing to the user
    return bounded | _validations((Rule(cel=_cel(form), message=f"it must be {form.must_be}"),))


def _cel(form: Form) -> str:
    """Return the form's rule in CEL, about `self`."""
    rules = [f'self.matches(r"{form.pattern}")']
    rules += [f'self != "{text}"' for text in form.forbidden]
    return " && ".join(rules)


def _list_type(extra: Mapping[str, Any]) -> Schema:
    keys = extra.get("list_map_keys")
    return {_LIST_TYPE: "map", "x-kubernetes-list-map-keys": list(keys)} if keys else {}


def _validations(rules: tuple[Rule, ...]) -> Schema:
    listed = [{"rule": rule.cel, "message": rule.message} for rule in rules]
    return {"x-kubernetes-validations": listed} if listed else {}


def _given(values: Mapping[str, int | None]) -> Schema:
    return {key: value for key, value in values.items() if value is not None}
