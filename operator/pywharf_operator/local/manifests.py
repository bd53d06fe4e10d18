"""The reader of a folder of YAML files: it returns resources and problems. A broken object affects no other."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pywharf.core.os_errors import reason_of
from pywharf_operator.local.yaml_text import documents
from pywharf_operator.spec import (
    API_VERSION,
    GROUP,
    PACKAGE_POLICY,
    PACKAGE_REPO,
    PACKAGE_SERVER,
    NamespaceObject,
    ObjectKey,
    PackagePolicy,
    PackageRepo,
    PackageServer,
    Resource,
    Secret,
)
from pywharf_operator.spec.explain import explain

SUFFIXES = (".yaml", ".yml")
MAX_FILE_BYTES = 4 * 1024**2
MAX_FILES = 10_000
_PATCH = "podTemplate"
_KINDS: Mapping[tuple[str, str], type[Resource]] = {
    (API_VERSION, PACKAGE_REPO): PackageRepo,
    (API_VERSION, PACKAGE_SERVER): PackageServer,
    (API_VERSION, PACKAGE_POLICY): PackagePolicy,
    ("v1", "Secret"): Secret,
    ("v1", "Namespace"): NamespaceObject,
}


class Problem(msgspec.Struct, frozen=True, order=True):
    """A part of a file that cannot be used, and what to do about it."""

    file: str
    """Path relative to the folder."""
    document: int
    """Number of the document in the file, from 1; 0: the whole file."""
    object: str
    """`Kind namespace/name`; empty if it cannot be read."""
    sentence: str

    def __str__(self) -> str:
        """Render as one line."""
        where = f"{self.file}, document {self.document}" if self.document else self.file
        return f"{where}{f' ({self.object})' if self.object else ''}: {self.sentence}"


class Loaded(msgspec.Struct, frozen=True):
    """A resource, with its file and document."""

    file: str
    document: int
    resource: Resource

    @property
    def identity(self) -> str:
        """The name that no other object may have: `Kind namespace/name`."""
        return f"{self.resource.kind} {self.resource.key}"


class Manifests(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a folder."""

    loaded: tuple[Loaded, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    """Ignored objects, which are no fault."""

    def of(self, kind: type[msgspec.Struct]) -> list[Any]:
        """Return every resource of a kind."""
        return [item.resource for item in self.loaded if isinstance(item.resource, kind)]


def read_folder(folder: Path) -> dict[str, bytes | str]:
    """Return every YAML file's content, by its path in the folder. A str instead says why the file is unreadable.

    Subfolders are read too. Names that begin with a dot, and links that leave the folder, are ignored.
    """
    files: dict[str, bytes | str] = {}
    for path in sorted(_yaml_files(folder, folder.resolve())):
        name = path.relative_to(folder).as_posix()
        if len(files) >= MAX_FILES:
            files[name] = f"the folder holds more than {MAX_FILES} YAML files; split it."
            break
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            continue  # removed since it was listed
        except OSError as error:
            files[name] = f"it cannot be read: {reason_of(error)}."
            continue
        too_large = f"it is larger than {MAX_FILE_BYTES} bytes; split it."
        files[name] = too_large if len(content) > MAX_FILE_BYTES else content
    return files


def _yaml_files(folder: Path, root: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.resolve().is_relative_to(root):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _yaml_files(path, root)
        elif path.suffix in SUFFIXES and path.is_file():
            yield path


def parse_file(file: str, content: bytes | str, namespace: str) -> Manifests:
    """Parse one file. `namespace` is the namespace of objects that name none."""
    loaded: list[Loaded] = []
    problems: list[Problem] = []
    notes: list[Problem] = []
    if isinstance(content, str):
        return Manifests(problems=(Problem(file, 0, "", content),))
    for number, document in enumerate(documents(content), start=1):
        if document.fault is not None:
            problems.append(Problem(file, number, "", document.fault))
        for item in _items(document.value):
            found = _parse(file, number, item, namespace)
            if isinstance(found, Loaded):
                loaded.append(found)
            else:
                problem, is_note = found
                (notes if is_note else problems).append(problem)
    return Manifests(loaded=tuple(loaded), problems=tuple(problems), notes=tuple(notes))


def merge(files: Mapping[str, Manifests]) -> Manifests:
    """Merge the files into one folder. If two objects have one name, the first in the order of files counts."""
    first: dict[str, Loaded] = {}
    problems = [problem for manifests in files.values() for problem in manifests.problems]
    for item in (item for name in sorted(files) for item in files[name].loaded):
        other = first.setdefault(item.identity, item)
        if other is not item:
            sentence = f"it stands in {other.file}, document {other.document} too, which counts; remove one."
            problems.append(Problem(item.file, item.document, item.identity, sentence))
    notes = [note for manifests in files.values() for note in manifests.notes]
    return Manifests(loaded=tuple(first.values()), problems=tuple(sorted(problems)), notes=tuple(sorted(notes)))


def load_folder(folder: Path, namespace: str) -> Manifests:
    """Read and parse a folder."""
    return merge({name: parse_file(name, content, namespace) for name, content in read_folder(folder).items()})


def _items(document: object) -> Iterator[object]:
    """Yield the document's objects: the items of a List, otherwise the document itself, nothing if it is empty."""
    if isinstance(document, dict) and document.get("kind") == "List" and document.get("apiVersion") == "v1":
        items = document.get("items")
        yield from items if isinstance(items, list) else []
    elif document is not None:
        yield document


def _parse(file: str, number: int, item: object, namespace: str) -> Loaded | tuple[Problem, bool]:
    """Return the resource, or a problem and whether it is only a note."""
    if not isinstance(item, dict):
        return Problem(file, number, "", "it is not an object, so it is ignored."), True
    item = _without_nulls(item)
    version, kind, name = item.get("apiVersion"), item.get("kind"), _object_name(item, namespace)
    struct = _KINDS.get((version, kind)) if isinstance(version, str) and isinstance(kind, str) else None
    if struct is None:
        sentence, is_note = _not_ours(version, kind)
        return Problem(file, number, name, sentence), is_note
    metadata = item.get("metadata")
    if isinstance(metadata, dict):
        item = item | {"metadata": {"namespace": namespace} | metadata}
    try:
        return Loaded(file, number, msgspec.convert(item, struct))
    except msgspec.ValidationError as error:
        return Problem(file, number, name, explain(error, item, struct)), False


def _not_ours(version: object, kind: object) -> tuple[str, bool]:
    """Return why the object is ignored, and whether that is only a note."""
    ours = {PACKAGE_POLICY, PACKAGE_REPO, PACKAGE_SERVER}
    if kind in ours:
        return f"apiVersion is {_short(version)}; write apiVersion: {API_VERSION}.", False
    if isinstance(version, str) and version.split("/")[0] == GROUP:
        return f"kind is {_short(kind)}; {API_VERSION} has {', '.join(sorted(ours))}.", False
    if kind == "Secret":
        return f"apiVersion is {_short(version)}; only a Secret of v1 is read, so it is ignored.", True
    return f"its kind is {_short(kind)}, which is not one of pywharf's, so it is ignored.", True


def _short(value: object) -> str:
    return repr(value[:80]) if isinstance(value, str) else "missing" if value is None else "no text"


def _object_name(item: Mapping[str, Any], namespace: str) -> str:
    kind, metadata = item.get("kind"), item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, own = metadata.get("name"), metadata.get("namespace", namespace)
    if not all(isinstance(text, str) for text in (kind, name, own)):
        return ""
    return f"{kind} {ObjectKey(str(own), str(name))}"[:400]


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    """Remove keys without a value, as the API server does; but in a patch, where null removes a field, keep them."""
    return {
        key: _without_nulls(item) if isinstance(item, dict) and key != _PATCH else item
        for key, item in value.items()
        if item is not None
    }
