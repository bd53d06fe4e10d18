"""docs/resources.md matches the structs."""

import pytest

from pywharf_operator.codegen import reference
from pywharf_operator.codegen.schema import schema_of
from pywharf_operator.render.resolve.findings import REASONS
from pywharf_operator.spec import PackageRepo, PackageServer
from support.parts import CHECKOUT

TEXT = (CHECKOUT / "docs" / "resources.md").read_text()


def test_the_tables_are_current():
    assert reference.with_sections(TEXT) == TEXT
    assert [name for name in reference.sections() if f"<!-- begin {name} -->" not in TEXT] == []


def paths(schema, path=""):
    for name, field in schema.get("properties", {}).items():
        inner = field.get("items", field)
        yield f"{path}{name}"
        yield from paths(inner, f"{path}{name}{'[]' if 'items' in field else ''}.")


@pytest.mark.parametrize("kind", [PackageRepo, PackageServer])
@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_is_documented(kind, part):
    schema = schema_of(kind)["properties"][part]
    assert [path for path in paths(schema) if f"| `{path}` |" not in TEXT] == []


def test_every_condition_and_reason_is_documented():
    for name, reasons in REASONS.items():
        assert f"`{name.split()[1]}`" in TEXT
        assert [reason for reason in reasons if f"| `{reason}` |" not in TEXT] == []


def test_check_reports_what_differs(tmp_path, capsys):
    path = tmp_path / "resources.md"
    path.write_text(TEXT.replace("| `repoName` | string |", "| `repoName` | number |"))
    assert reference.main(["--check", str(path)]) == 1
    assert "differs" in capsys.readouterr().out
    assert reference.main([str(path)]) == 0
    assert path.read_text() == TEXT
    assert reference.main(["--check", str(path)]) == 0
