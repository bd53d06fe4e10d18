"""The form of `index.toml`, the original's: a table for each file."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from pywharf.core.filenames import extension_of
from pywharf.core.model import File, Project
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName, normalize
from pywharf.core.toml_text import dumps, loads
from pywharf.index.limits import MAX_TEXT, fault_of
from pywharf.index.sidecars import file_from_meta, meta_of

_HEAD = re.compile(rb"mtime = (\d{1,15})\n")

LocationField = Callable[[ProjectName, File], tuple[str, str] | None]
"""A function that returns a backend's own field of an entry and its value, or None."""


@warmed_up
class _TomlEntry(msgspec.Struct, frozen=True):
    distrib: str
    package: str
    ext: str
    sha256: str
    meta: dict[str, str] = {}
    package_path: str | None = None
    url: str | None = None


class _TomlProject(msgspec.Struct, frozen=True):
    name: str
    status: str = "active"
    reason: str | None = None
    revision: int = 0


@warmed_up
class _TomlDocument(msgspec.Struct, frozen=True):
    mtime: int
    pkgs: list[Any] = []
    """Items of _TomlEntry, converted one by one: for a large index, one call for all would hold up the event loop."""
    projects: list[_TomlProject] = []


def decode_toml(text: str, source: str) -> tuple[int, dict[ProjectName, Project]]:
    """Return an index's time and its projects. Raises InvalidConfigError, InvalidNameError or msgspec's errors."""
    document = msgspec.convert(loads(text, source), _TomlDocument)
    files: dict[ProjectName, dict[str, File]] = {}
    tables = document.pkgs[::-1]
    document.pkgs.clear()
    while tables:  # free each one immediately: freeing all together would hold up the event loop, too
        entry = msgspec.convert(tables.pop(), _TomlEntry)
        filename = f"{entry.package}.{entry.ext}"
        file = file_from_meta(filename, entry.meta | {"sha256": entry.sha256}, entry.url)
        if fault_of(file) is not None:
            continue  # update_index names it
        files.setdefault(normalize(entry.distrib), {})[filename] = file
    statuses = {normalize(p.name): p for p in document.projects}
    projects: dict[ProjectName, Project] = {}
    for name in sorted(files.keys() | statuses.keys()):
        own, status = files.get(name, {}), statuses.get(name)
        projects[name] = Project(
            name=name,
            files=tuple(own[f] for f in sorted(own)),
            status=status.status if status else "active",
            status_reason=status.reason and status.reason[:MAX_TEXT] if status else None,
            status_revision=status.revision if status else 0,
        )
    return document.mtime, projects


def toml_mtime(content: bytes) -> int | None:
    """Return the time in the head of a file that update_index wrote, or None."""
    head = _HEAD.match(content)
    return int(head[1]) if head is not None else None


def encode_toml(mtime: int, projects: Iterable[Project], backend_type: str, location: LocationField) -> bytes:
    pkgs: list[dict[str, Any]] = []
    statuses: list[dict[str, Any]] = []
    for project in projects:
        for file in project.files:
            extension = extension_of(file.filename) or ""
            entry: dict[str, Any] = {
                "type": backend_type,
                "distrib": project.name,
                "package": file.filename.removesuffix(extension),
                "ext": extension.removeprefix("."),
                "sha256": file.sha256,
            }
            own = location(project.name, file)
            if own is not None:
                entry[own[0]] = own[1]
            pkgs.append(entry | {"meta": meta_of(project.name, file)})
        if project.status != "active" or project.status_revision or not project.files:
            reason = {} if project.status_reason is None else {"reason": project.status_reason}
            revision = {"revision": project.status_revision} if project.status_revision else {}
            statuses.append({"name": project.name, "status": project.status} | reason | revision)
    document: dict[str, Any] = {"mtime": mtime, "pkgs": pkgs}
    if statuses:
        document["projects"] = statuses
    return dumps(document).encode()
