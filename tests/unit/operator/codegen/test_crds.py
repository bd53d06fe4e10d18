"""The CustomResourceDefinitions: they match the structs, and the API server accepts them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from pywharf_operator.codegen import crds as command
from pywharf_operator.codegen.crds import crds, text_of
from pywharf_operator.codegen.schema import default_of, described
from pywharf_operator.local.manifests import parse_file
from pywharf_operator.spec import ObjectMeta, PackagePolicy, PackageRepo, PackageServer
from support.parts import CHECKOUT

CRDS = crds()
NAMES = {
    "PackageRepo": "pywharf.dev_packagerepos.yaml",
    "PackageServer": "pywharf.dev_packageservers.yaml",
    "PackagePolicy": "pywharf.dev_packagepolicies.yaml",
}
STRUCTS: dict[str, type[msgspec.Struct]] = {
    "PackageRepo": PackageRepo,
    "PackageServer": PackageServer,
    "PackagePolicy": PackagePolicy,
}
LARGEST_ANNOTATION = 262_144
"""Most bytes of an annotation. Client-side `kubectl apply` keeps the whole object in one."""
CEL_TEXT_LIMIT = 5 * 1024
"""Characters of one message or rule that the API server is certain to accept."""


def root(kind):
    (version,) = CRDS[NAMES[kind]]["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def walk(schema, path="") -> Iterator[tuple[str, Any]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from walk(field, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


EVERY = [(kind, path, schema) for kind in NAMES for path, schema in walk(root(kind))]


@pytest.mark.parametrize("name", CRDS)
def test_the_files_are_current_and_small(name):
    text = (CHECKOUT / "deploy" / "crds" / name).read_text()
    assert text == text_of(CRDS[name])
    assert yaml.safe_load(text) == CRDS[name]
    assert len(text) < LARGEST_ANNOTATION / 3


def test_check_reports_what_differs(tmp_path, capsys):
    assert command.main([str(tmp_path)]) == 0
    assert command.main(["--check", str(tmp_path)]) == 0
    changed = tmp_path / NAMES["PackageRepo"]
    changed.write_text(changed.read_text().replace("pkgrepo", "repo"))
    capsys.readouterr()
    assert command.main(["--check", str(tmp_path)]) == 1
    assert f"{changed}: differs" in capsys.readouterr().out


def test_as_a_module(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "pywharf_operator.codegen.crds", tmp_path], check=True, capture_output=True
    )
    assert run.stdout.count(b": written") == len(NAMES)


@pytest.mark.parametrize(
    ("kind", "short", "columns", "subresources"),
    [
        ("PackageRepo", "pkgrepo", ["Ready", "URL", "Files", "Updated", "Age"], {"status": {}}),
        (
            "PackageServer",
            "pkgserver",
            ["Ready", "URL", "Repos", "Replicas", "Age"],
            {
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                },
            },
        ),
        ("PackagePolicy", "pkgpolicy", ["Ready", "Targets", "Rules", "Withheld", "Age"], {"status": {}}),
    ],
)
def test_names_columns_and_subresources(kind, short, columns, subresources):
    spec = CRDS[NAMES[kind]]["spec"]
    (version,) = spec["versions"]
    assert spec["group"] == "pywharf.dev"
    assert spec["scope"] == "Namespaced"
    assert spec["names"]["kind"] == kind
    assert spec["names"]["shortNames"] == [short]
    assert spec["names"]["categories"] == ["pywharf"]
    assert CRDS[NAMES[kind]]["metadata"]["name"] == f"{spec['names']['plural']}.pywharf.dev"
    assert version["subresources"] == subresources
    assert [column["name"] for column in version["additionalPrinterColumns"]] == columns


@pytest.mark.parametrize(("kind", "path", "schema"), EVERY, ids=[f"{kind}{path}" for kind, path, _ in EVERY])
def test_structural(kind, path, schema):
    """The rules of structural schemas, as far as these schemas could break them."""
    int_or_string = schema.get("x-kubernetes-int-or-string", False)
    if path.endswith(".claims{}"):
        assert schema == {"x-kubernetes-preserve-unknown-fields": True}  # a text, a number or a truth value
        return
    assert int_or_string or schema["type"] in {"object", "array", "string", "integer", "boolean"}
    assert not {"$ref", "allOf", "oneOf", "not", "nullable", "definitions", "uniqueItems"} & set(schema)
    assert ("anyOf" in schema) == int_or_string
    assert not ("properties" in schema and "additionalProperties" in schema)
    assert ("items" in schema) == (schema.get("type") == "array")
    if schema.get("type") == "object" and path != ".metadata":
        known = {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"} & set(schema)
        assert len(known) == 1
    assert set(schema.get("required", ())) <= set(schema.get("properties", {}))
    for key in schema.get("x-kubernetes-list-map-keys", ()):
        assert key in schema["items"]["required"]
    if "pattern" in schema:
        re.compile(schema["pattern"])
    if path == "":
        assert set(schema["properties"]) == {"apiVersion", "kind", "metadata", "spec", "status"}
    if path == ".metadata":
        assert schema == {"type": "object"}  # the API server refuses anything more
    if "default" in schema:
        assert not path.startswith(".metadata")
        jsonschema.validate(schema["default"], schema)


@pytest.mark.parametrize(("kind", "path", "schema"), EVERY, ids=[f"{kind}{path}" for kind, path, _ in EVERY])
def test_described(kind, path, schema):
    if path != ".metadata" and not path.endswith(("[]", "{}")):
        assert schema["description"][0].isupper()
        assert schema["description"].endswith(".")


@pytest.mark.parametrize(("kind", "path", "schema"), EVERY, ids=[f"{kind}{path}" for kind, path, _ in EVERY])
def test_rules_are_bounded(kind, path, schema):
    """Every input of a rule has a size limit, so that the API server can bound the rule's cost."""
    for rule in schema.get("x-kubernetes-validations", ()):
        assert set(rule) == {"rule", "message"}
        assert "\n" not in rule["rule"] + rule["message"]
        assert len(rule["rule"]) + len(rule["message"]) < CEL_TEXT_LIMIT
        assert schema.get("type") != "string" or schema["maxLength"] <= 2048
    if schema.get("type") == "array":
        # tests/cluster/test_crds.py has the API server's own word on the lists of a policy.
        assert schema["maxItems"] <= (10_000 if kind == "PackagePolicy" else 256)
    if "oldSelf" in str(schema.get("x-kubernetes-validations", "")):
        assert (kind, path) == ("PackageRepo", ".spec")


def structs() -> Iterator[type[msgspec.Struct]]:
    """Yield every struct of the kinds, except their metadata."""
    pending: list[Any] = [msgspec.inspect.type_info(kind) for kind in STRUCTS.values()]
    seen: set[type] = {ObjectMeta}
    while pending:
        found = pending.pop()
        if isinstance(found, msgspec.inspect.StructType) and found.cls not in seen:
            seen.add(found.cls)
            yield found.cls
            pending += [field.type for field in found.fields]
        pending += [getattr(found, inner) for inner in ("type", "item_type", "value_type") if hasattr(found, inner)]
        pending += getattr(found, "types", ())


def value_of(field: msgspec.inspect.Field) -> object:
    """Return the field's value in a struct whose manifest omits it."""
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


@pytest.mark.parametrize("struct", list(structs()), ids=lambda struct: struct.__name__)
def test_defaults_are_the_structs(struct):
    schema = described(struct)
    info: Any = msgspec.inspect.type_info(struct)
    assert list(schema["properties"]) == [field.encode_name for field in info.fields]
    assert schema.get("required", []) == [field.encode_name for field in info.fields if field.required]
    types = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    for field in info.fields:
        default = schema["properties"][field.encode_name].get("default", msgspec.UNSET)
        assert default == default_of(field)
        if default is not msgspec.UNSET:
            assert msgspec.convert(default, types[field.encode_name]) == value_of(field)
        elif not field.required and field.default is not msgspec.NODEFAULT:
            assert field.default in (None, (), type(field.default)())


ATOMIC = "x-kubernetes-map-type"
WHOLE = [(kind, path, schema) for kind, path, schema in EVERY if ATOMIC in schema]


@pytest.mark.parametrize(("kind", "path", "schema"), EVERY, ids=[f"{kind}{path}" for kind, path, _ in EVERY])
def test_a_map_that_may_become_empty_survives_server_side_apply(kind, path, schema):
    """Each object has a default or a required field, or is applied as a whole: kubernetes#135841."""
    in_spec = path.startswith(".spec") and "[]" not in path
    below = any(kind == other and path.startswith(f"{whole}.") for other, whole, _ in WHOLE)
    if not in_spec or below or schema.get("type") != "object":
        return
    # A rule requires a field of each.
    never_empty = {".spec.backend", ".spec.storage", ".spec.advisories", ".spec.cache", ".spec.cache.fileSystem"}
    assert "default" in schema or "required" in schema or ATOMIC in schema or path in never_empty


@pytest.mark.parametrize(("kind", "path", "schema"), WHOLE, ids=[f"{kind}{path}" for kind, path, _ in WHOLE])
def test_below_what_is_applied_as_a_whole_there_is_no_default(kind, path, schema):
    """A filled-in default would conflict with every other manager. Rules must not rely on a default either."""
    struct = STRUCTS[kind]
    documented = dict(walk(described(struct)))
    for inner, field in walk(schema):
        assert "default" not in field
        default = documented[f"{path}{inner}"].get("default", {})
        if default != {} and inner:
            assert field["description"].endswith(f" Default: {msgspec.json.encode(default).decode()}.")
            owner, _, name = inner.rpartition(".")
            for rule in dict(walk(schema))[owner].get("x-kubernetes-validations", ()):
                assert f"self.{name}" not in rule["rule"] or f"has(self.{name})" in rule["rule"]


def test_the_rule_of_repo_name_stands_on_spec():
    """A rule on the optional field itself would not notice that the field is added or cleared."""
    rules = [rule["rule"] for rule in root("PackageRepo")["properties"]["spec"]["x-kubernetes-validations"]]
    assert any("has(self.repoName) == has(oldSelf.repoName)" in rule for rule in rules)


def examples():
    for folder in ("examples", "tests/golden/render"):
        for path in sorted((CHECKOUT / folder).rglob("*.yaml")):
            # A file that SOPS has encrypted is not a Secret yet, and a workflow is no manifest.
            is_left_out = {"broken", "workflows"} & set(path.parts) or path.name.startswith("expected")
            if not is_left_out and ".sops." not in path.name:
                yield path


@pytest.mark.parametrize("path", list(examples()), ids=lambda path: "/".join(path.parts[-2:]))
def test_examples_fit_schema_and_structs(path):
    assert parse_file(path.name, path.read_bytes(), "default").problems == ()
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] in NAMES:
            schema = closed(root(document["kind"]))
            schema["properties"]["metadata"] = {"type": "object"}
            jsonschema.validate(document, schema)


def closed(schema):
    """Return the schema with unknown fields refused, as `kubectl --validate=strict` does."""
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: closed(field) for name, field in schema["properties"].items()}
        made["additionalProperties"] = False
    if "items" in schema:
        made["items"] = closed(schema["items"])
    return made
