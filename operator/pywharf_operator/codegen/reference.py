"""The tables of docs/resources.md, made from the CRDs and from the reasons of the conditions.

`python -m pywharf_operator.codegen.reference [--check] [FILE]` writes them between the file's markers, or with --check
says that they differ.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pywharf_operator.codegen.schema import Schema, described
from pywharf_operator.render.pod.job_pod import INHERITED, NOT_INHERITED
from pywharf_operator.render.resolve.findings import REASONS
from pywharf_operator.spec import (
    PACKAGE_POLICY,
    PACKAGE_REPO,
    PACKAGE_SERVER,
    PackagePolicy,
    PackageRepo,
    PackageServer,
)

DEFAULT_FILE = Path("docs/resources.md")
_SECTION = re.compile(r"(<!-- begin (?P<name>[^>]+) -->\n)(.*?)(<!-- end (?P=name) -->\n)", re.DOTALL)


def sections() -> dict[str, str]:
    """Return every generated part by the name in its markers."""
    made = {}
    kinds = ((PACKAGE_REPO, PackageRepo), (PACKAGE_SERVER, PackageServer), (PACKAGE_POLICY, PackagePolicy))
    for kind, struct in kinds:
        schema = described(struct)
        properties = schema["properties"]
        for part in ("spec", "status"):
            made[f"{kind} {part}"] = _table(("Field", "Type", "Default", "Meaning"), _fields(properties[part], ""))
        rules = dict.fromkeys(_rules_of_objects(schema))
        made[f"{kind} rules"] = "".join(f"- {rule}.\n" for rule in rules)
    fields = [(field, "yes", text) for field, text in INHERITED.items()]
    fields += [(field, "no", text) for field, text in NOT_INHERITED.items()]
    rows = ((f"`{field}`", taken, text) for field, taken, text in sorted(fields))
    made["Jobs podTemplate"] = _table(("Field of `podTemplate.spec`", "Jobs", "What of it, or why"), rows)
    for name, reasons in REASONS.items():
        made[f"{name} reasons"] = _table(("Reason", "What to do"), ((f"`{r}`", text) for r, text in reasons.items()))
    return made


def with_sections(text: str) -> str:
    """Regenerate every part of the text between markers. Raises KeyError for an unknown name."""
    made = sections()
    return _SECTION.sub(lambda found: found[1] + made[found["name"]] + found[4], text)


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, ...]]:
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        default = "required" if name in required else _shown(field)
        yield f"`{path}{name}`", _type(field), default, _meaning(field)
        inner, suffix = (field["items"], "[].") if "items" in field else (field, ".")
        if "properties" in inner:
            yield from _fields(inner, f"{path}{name}{suffix}")


def _shown(field: Schema) -> str:
    default = field.get("default")
    if default is None or isinstance(default, dict):
        return ""  # the defaults of a struct are shown at its fields
    return f"`{msgspec.json.encode(default).decode()}`"


def _type(field: Schema) -> str:
    kind = str(field.get("type", "text, number, boolean"))
    if "items" in field:
        kind = f"list of {_type(field['items'])}"
    elif "enum" in field:
        kind = ", ".join(f"`{value}`" for value in field["enum"])
    elif "x-kubernetes-int-or-string" in field:
        kind = "quantity"
    elif "additionalProperties" in field:
        kind = f"map of {_type(field['additionalProperties'])}"
    elif field.get("format") == "date-time":
        kind = "time"
    elif "maximum" in field:
        kind = f"{kind}, {field['minimum']} to {field['maximum']}"
    return kind


def _meaning(field: Schema) -> str:
    scalar = field.get("items", field)
    rules = [] if "properties" in scalar else _rules(scalar)
    return " ".join([field["description"], *(f"{rule[:1].upper()}{rule[1:]}." for rule in rules)])


def _rules(schema: Schema) -> list[str]:
    validated: list[dict[str, str]] = schema.get("x-kubernetes-validations", [])
    return [rule["message"] for rule in validated]


def _rules_of_objects(schema: Schema) -> Iterator[str]:
    """Yield the rules about several fields, at any depth."""
    if "properties" in schema:
        yield from _rules(schema)
    inner = [*schema.get("properties", {}).values(), schema.get("items")]
    for part in inner:
        if part is not None:
            yield from _rules_of_objects(part)


def _table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the file. Exit code 1: --check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m pywharf_operator.codegen.reference", description=__doc__)
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", default=DEFAULT_FILE)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the file differs")
    options = parser.parse_args(arguments)
    text = options.file.read_text(encoding="utf-8")
    made = with_sections(text)
    if made == text:
        return 0
    if options.check:
        sys.stdout.write(f"{options.file}: differs; run python -m pywharf_operator.codegen.reference, and commit.\n")
        return 1
    options.file.write_text(made, encoding="utf-8")
    sys.stdout.write(f"{options.file}: written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
