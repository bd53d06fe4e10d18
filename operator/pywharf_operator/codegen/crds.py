"""The CustomResourceDefinitions, made from the structs of `spec`.

`python -m pywharf_operator.codegen.crds [--check] [DIR]` writes them into DIR (default deploy/crds), or with --check
says which files differ from the structs.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pywharf_operator.codegen.schema import Schema, schema_of
from pywharf_operator.spec import GROUP, VERSION, PackagePolicy, PackageRepo, PackageServer, Resource
from pywharf_operator.spec.kinds import POLICY, REPO, SERVER, Kind

DEFAULT_FOLDER = Path("deploy/crds")
_COMMAND = "python -m pywharf_operator.codegen.crds"
_HEADER = f"# Made from pywharf_operator.spec by `{_COMMAND}`: change the structs, not this file.\n"
_READY = '.status.conditions[?(@.type=="Ready")]'


class _Definition(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind
    short_name: str
    struct: type[Resource]
    description: str
    columns: tuple[tuple[str, str, str, str], ...]
    """Name, type, path and description of the columns that `kubectl get` prints."""
    scale: Mapping[str, str] | None = None
    """Paths of the fields of the subresource `scale`; None: there is no such subresource."""


_AGE = ("Age", "date", ".metadata.creationTimestamp", "How long it has been there.")
_READY_COLUMN = ("Ready", "string", f"{_READY}.status", "Whether it works.")
_URL_COLUMN = ("URL", "string", ".status.url", "Where clients reach it.")
DEFINITIONS = (
    _Definition(
        kind=REPO,
        short_name="pkgrepo",
        struct=PackageRepo,
        description="A private Python package index, served by a PackageServer and kept in the storage it names.",
        columns=(
            _READY_COLUMN,
            _URL_COLUMN,
            ("Files", "integer", ".status.index.files", "Files in the index."),
            ("Updated", "date", ".status.index.lastUpdateTime", "When the index was last updated."),
            _AGE,
        ),
    ),
    _Definition(
        kind=SERVER,
        short_name="pkgserver",
        struct=PackageServer,
        description="A stateless server, and what it lends to the PackageRepos that name it.",
        columns=(
            _READY_COLUMN,
            _URL_COLUMN,
            ("Repos", "integer", ".status.repos.total", "Repos that name this server."),
            ("Replicas", "integer", ".status.replicas", "Replicas that are ready."),
            _AGE,
        ),
        scale={
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
    _Definition(
        kind=POLICY,
        short_name="pkgpolicy",
        struct=PackagePolicy,
        description="What may be installed from the repos of a PackageServer, or from some PackageRepos.",
        columns=(
            _READY_COLUMN,
            ("Targets", "integer", ".status.targets", "Served repos that it is about."),
            ("Rules", "integer", ".status.rules", "Entries of its lists, and its other rules."),
            ("Withheld", "integer", ".status.withheld.files", "Files withheld on the pages that were made lately."),
            _AGE,
        ),
    ),
)


def crds() -> dict[str, dict[str, Any]]:
    """Return every CustomResourceDefinition by file name."""
    return {f"{GROUP}_{definition.kind.plural}.yaml": _crd(definition) for definition in DEFINITIONS}


def text_of(crd: dict[str, Any]) -> str:
    """Return the file's text."""
    return _HEADER + yaml.dump(crd, Dumper=_AliasFreeDumper, sort_keys=False, width=110, allow_unicode=True)


class _AliasFreeDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Write equal parts out each time, without anchors, for people to read."""
        return True


def _crd(definition: _Definition) -> dict[str, Any]:
    kind = definition.kind
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [definition.short_name],
                "categories": ["pywharf"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root(definition)},
                    "subresources": {"status": {}} | ({"scale": dict(definition.scale)} if definition.scale else {}),
                    "additionalPrinterColumns": [
                        {"name": name, "type": type_, "description": description, "jsonPath": path}
                        for name, type_, path, description in definition.columns
                    ],
                }
            ],
        },
    }


def _root(definition: _Definition) -> Schema:
    schema = schema_of(definition.struct)
    properties = schema["properties"]
    properties["metadata"] = {"type": "object"}  # the API server defines it and accepts no description
    schema["required"] = [name for name in schema.get("required", []) if name == "spec"]
    return {"description": definition.description} | {key: value for key, value in schema.items() if value}


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files. Exit code 1: --check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m pywharf_operator.codegen.crds", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=DEFAULT_FOLDER)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file differs")
    options = parser.parse_args(arguments)
    differing = 0
    for name, crd in crds().items():
        path, text = options.folder / name, text_of(crd)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        differing += 1
        if not options.check:
            options.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}: {'differs from the structs' if options.check else 'written'}\n")
    if options.check and differing:
        sys.stdout.write("Run python -m pywharf_operator.codegen.crds, and commit what it writes.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
