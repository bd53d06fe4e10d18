"""The surface that third parties' backends import: small, whole, documented, and enough for the example."""

import ast
import inspect
import re
import types
import typing

import msgspec
import pytest

from pywharf.backends import api
from support.parts import CHECKOUT
from support.storage.example_backend import FOLDER

SURFACE = "pywharf.backends.api"
DOCS = (CHECKOUT / "docs" / "backends.md").read_text()


def imported(source: str) -> set[tuple[str, str]]:
    """Return the modules of pywharf that a source imports, each with a name imported from it."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(name.name, "") for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "", name.name) for name in node.names}
    return {(module, name) for module, name in found if module.partition(".")[0] == "pywharf"}


def test_the_example_imports_the_surface_alone():
    sources = sorted((FOLDER / "src").rglob("*.py"))
    names = {name for path in sources for name in imported(path.read_text())}
    assert names
    assert {module for module, _ in names} == {SURFACE}
    assert {name for _, name in names} <= set(api.__all__)


@pytest.mark.parametrize("source", ["import pywharf.core.model", "from pywharf.core.model import File"])
def test_another_import_would_be_found(source):
    assert {module for module, _ in imported(source)} == {"pywharf.core.model"}


def test_the_documentation_names_what_the_surface_exports_and_nothing_else():
    section = re.search(r"^## What you import$(.*?)(?=^## )", DOCS, re.MULTILINE | re.DOTALL)
    assert section is not None
    named = re.findall(r"`(\w+)`", re.sub(r"\|[^|]*\|$", "", section[1], flags=re.MULTILINE))
    assert sorted(named) == sorted(api.__all__)


OPTIONAL = (api.Probeable, api.Authority, api.RateLimited, api.Claims)


def test_the_documentation_names_every_method_and_field():
    missing = {
        f"{kind.__name__}.{name}"
        for kind in (api.Packages, api.IndexStore, api.Backend, *OPTIONAL)
        for name, member in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
        if f"`{name}`" not in DOCS
    }
    missing |= {field for field in api.OpenBackend.__struct_fields__ if f"`{field}`" not in DOCS}
    missing |= {field for field in api.BackendType.__struct_fields__ if f"`{field}`" not in DOCS}
    assert missing == set()


def classes_in(annotation: object) -> set[type]:
    """Return pywharf's classes in an annotation."""
    found = {annotation} if isinstance(annotation, type) else set()
    for part in typing.get_args(annotation):
        found |= {one for item in (part if isinstance(part, list) else [part]) for one in classes_in(item)}
    return {one for one in found if one.__module__.startswith("pywharf.")}


def annotations_of(exported: object) -> list[object]:
    if isinstance(exported, types.FunctionType):
        return list(typing.get_type_hints(exported).values())
    if not isinstance(exported, type):
        return [exported]
    members = [m.fget if isinstance(m, property) else m for m in vars(exported).values()]
    hints = [*typing.get_type_hints(exported).values()] if issubclass(exported, msgspec.Struct) else []
    return hints + [h for m in members if isinstance(m, types.FunctionType) for h in typing.get_type_hints(m).values()]


NOT_NEEDED = {"AccessEntry", "Reach", "Secret", "SecretRef", "Upstream"}
"""Types that the server reads and a backend does not: of the fields that every repo has, and of Egress.reach."""


def test_every_type_that_a_backend_meets_is_on_the_surface():
    met = {
        kind.__name__
        for name in api.__all__
        for hint in annotations_of(getattr(api, name))
        for kind in classes_in(hint)
    }
    assert met - set(api.__all__) - NOT_NEEDED == set()
