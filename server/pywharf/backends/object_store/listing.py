"""The objects of a repo's projects as a list of the bucket shows them, project by project, in little memory."""

import hashlib
from base64 import b85encode
from collections.abc import AsyncIterator, Iterable

import msgspec

from pywharf.backends.object_store.client import ObjectClient, Stat
from pywharf.backends.object_store.layout import META_SUFFIX, STATUS_FILENAME, Layout
from pywharf.core.errors import InvalidInputError
from pywharf.core.filenames import METADATA_SUFFIX, names_stored_file
from pywharf.core.names import ProjectName, normalize


class ListedFile(msgspec.Struct, gc=False):
    """The objects of one file."""

    size: int | None = None
    """Bytes of the content; None if there is no content."""
    modified: float = 0.0
    """Unix seconds when the content was stored, by the store's clock."""
    content: bytes = b""
    """A digest of the content's version; likewise for the record. Empty: there is no such object."""
    record: bytes = b""
    has_metadata: bool = False

    @property
    def fingerprint(self) -> str:
        """A text that changes when one of the objects does."""
        parts = b"\0".join((self.content, self.record, str(self.size).encode(), b"1" if self.has_metadata else b""))
        return b85encode(hashlib.blake2b(parts, digest_size=8).digest()).decode()


class ListedProject(msgspec.Struct):
    """The objects of one project."""

    name: ProjectName
    files: dict[str, ListedFile] = {}
    has_status: bool = False

    def add(self, stat: Stat, filename: str) -> None:
        """Add an object of that name in the project's folder; others than files' are ignored."""
        if filename == STATUS_FILENAME:
            self.has_status = True
            return
        kind = next((suffix for suffix in (META_SUFFIX, METADATA_SUFFIX) if filename.endswith(suffix)), "")
        name = filename.removesuffix(kind)
        if not names_stored_file(name):
            return
        file = self.files.get(name) or self.files.setdefault(name, ListedFile())
        if kind == METADATA_SUFFIX:
            file.has_metadata = True
        elif kind == META_SUFFIX:
            file.record = _digest(stat)
        else:
            file.size, file.modified, file.content = stat.size, stat.modified.timestamp(), _digest(stat)


async def list_project(client: ObjectClient, layout: Layout, name: ProjectName) -> ListedProject:
    """List one project."""
    project = ListedProject(name)
    folder = layout.project(name)
    async for page in client.pages(folder):
        for stat in page:
            project.add(stat, stat.key.removeprefix(f"{folder}/"))
    return project


async def list_projects(client: ObjectClient, layout: Layout) -> AsyncIterator[ListedProject | str]:
    """List all projects, sorted by name; for a folder that is no project's, yield a problem.

    Keys are sorted otherwise than names: `a-b/` comes before `a/`. So what begins with the same part is held back until
    all of it was read.
    """
    held: dict[str, ListedProject] = {}
    unusable: set[str] = set()
    part: str | None = None
    async for page in client.pages(layout.storage):
        for stat in page:
            folder, slash, filename = stat.key.removeprefix(f"{layout.storage}/").partition("/")
            if not slash or folder in unusable:
                continue
            if folder not in held:
                if (problem := _problem(folder)) is not None:
                    unusable.add(folder)
                    yield problem
                    continue
                begins = folder.partition("-")[0]
                if begins != part:
                    for project in _sorted(held.values()):
                        yield project
                    held, part = {}, begins
                held[folder] = ListedProject(ProjectName(folder))
            held[folder].add(stat, filename)
    for project in _sorted(held.values()):
        yield project


def _problem(folder: str) -> str | None:
    try:
        normal = normalize(folder)
    except InvalidInputError as error:
        return f"The folder {folder[:200]!r} is left out: {error}"
    return None if normal == folder else f"The folder {folder!r} is left out: its files belong into {normal!r}."


def _sorted(projects: Iterable[ListedProject]) -> list[ListedProject]:
    return sorted(projects, key=lambda project: project.name)


def _digest(stat: Stat) -> bytes:
    version = f"{stat.version.e_tag} {stat.version.generation} {stat.size}".encode()
    return hashlib.blake2b(version, digest_size=8).digest()
