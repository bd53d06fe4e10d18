"""Copy from a folder of distributions: pypiserver's, flat or with subfolders, or devpi's export."""

import asyncio
import contextlib
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from pywharf.core.errors import InvalidConfigError, InvalidInputError, NotFoundError
from pywharf.core.filenames import extension_of, parse_upload_filename
from pywharf.core.model import File, Project, rfc3339
from pywharf.core.names import ProjectName
from pywharf.core.os_errors import reason_of
from pywharf.index.copying.devpi_export import FILENAME, MAX_BYTES, upload_times
from pywharf.index.copying.repo import local_chunks
from pywharf.index.copying.source import Opened, SourceProject
from pywharf.index.copying.times import of_seconds
from pywharf.index.ports import LocalContent, Progress

MAX_FILES = 1_000_000


class _Found(msgspec.Struct, frozen=True):
    path: Path
    file: File


class FolderSource:
    """All wheels and sdists in a folder and its subfolders. Hidden files and folders are ignored."""

    is_repo = False
    is_local = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[tuple[ProjectName, str], Path] = {}

    async def scan(self, progress: Progress) -> AsyncIterator[SourceProject]:
        projects, problems, ignored = await asyncio.to_thread(self._scan, progress)
        yield SourceProject(None, tuple(problems), ignored=ignored)
        for name in sorted(projects):
            found = projects[name]
            self._paths |= {(name, filename): one.path for filename, one in found.items()}
            files = tuple(found[filename].file for filename in sorted(found))
            yield SourceProject(Project(name=name, files=files))

    async def sha256(self, project: ProjectName, file: File) -> str:
        return await asyncio.to_thread(_digest, self._paths[project, file.filename])

    @contextlib.asynccontextmanager
    async def open(self, project: ProjectName, file: File) -> AsyncIterator[Opened]:
        path = self._paths[project, file.filename]
        async with contextlib.aclosing(local_chunks(LocalContent(path), file.filename)) as chunks:
            yield Opened(chunks)

    async def metadata(self, project: ProjectName, file: File) -> bytes:
        del project
        raise NotFoundError.no_core_metadata(file.filename)

    async def aclose(self) -> None:
        """Do nothing: no resources are held open."""

    def _scan(self, progress: Progress) -> tuple[dict[ProjectName, dict[str, _Found]], list[str], int]:
        """Find all files. Return them by project and name, the problems, and the number of other files."""
        root, times = self._devpi()
        projects: dict[ProjectName, dict[str, _Found]] = {}
        problems: list[str] = []
        ignored = scanned = 0
        for path in _files(root, problems):
            shown = str(path.relative_to(root))
            if extension_of(path.name) is None or path.name.endswith(".doc.zip") or shown == FILENAME:
                ignored += 1
                continue
            scanned += 1
            progress(scanned, shown)
            if scanned > MAX_FILES:
                raise InvalidConfigError(f"FROM: the folder holds more than {MAX_FILES} files; copy it in parts.")
            try:
                parsed = parse_upload_filename(path.name)
                file = _described(path, times)
            except (InvalidInputError, OSError) as error:
                reason = f"{reason_of(error)}." if isinstance(error, OSError) else str(error)
                problems.append(f"{shown} is left out: {reason}")
                continue
            files = projects.setdefault(parsed.project, {})
            other = files.setdefault(path.name, _Found(path, file))
            if other.path != path and _digest(other.path) != _digest(path):
                problems.append(f"{shown} is left out: {other.path.relative_to(root)} has the same name, other bytes.")
        return projects, problems, ignored

    def _devpi(self) -> tuple[Path, dict[Path, str]]:
        """Return the folder to read, and the upload times that an export of devpi records.

        Raises InvalidConfigError for an export of several indexes, whose packages belong into several repos.
        """
        given = self._folder.resolve()
        for top in (given, given.parent, given.parent.parent):
            try:
                with (top / FILENAME).open("rb") as file:
                    content = file.read(MAX_BYTES + 1)
            except OSError:
                continue
            indexes = upload_times(content)
            if top == given and len(indexes) == 1:
                only = (top / next(iter(indexes))).resolve()
                if not only.is_relative_to(top):
                    raise InvalidConfigError(f"FROM: {FILENAME} names an index outside of the export.")
                return only, _absolute(top, indexes)
            if top == given and indexes:
                named = ", ".join(str(self._folder / index) for index in sorted(indexes)[:10])
                raise InvalidConfigError(f"FROM: the export of devpi holds several indexes; give one of {named}.")
            return given, _absolute(top, indexes)
        return given, {}


def _absolute(top: Path, indexes: dict[str, dict[str, str]]) -> dict[Path, str]:
    return {top / path: time for times in indexes.values() for path, time in times.items()}


def _files(root: Path, problems: list[str]) -> Iterator[Path]:
    """Yield the files below a folder, sorted in each folder. Links to folders are not followed."""

    def unreadable(error: OSError) -> None:
        problems.append(f"The folder {error.filename!r} is left out: {reason_of(error)}.")

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _described(path: Path, times: dict[Path, str]) -> File:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError("it is no regular file.")
    uploaded = times.get(path)
    if not uploaded and of_seconds(status.st_mtime) is not None:
        uploaded = rfc3339(status.st_mtime)
    return File(filename=path.name, sha256="", size=status.st_size, upload_time=uploaded)


def _digest(path: Path) -> str:
    """Return a file's SHA-256; "" if it cannot be read, which shows when it is copied."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
