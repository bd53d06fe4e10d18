"""Scan a repo's bucket: every project with its records, reading only what has changed since the last scan."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import msgspec

from pywharf.backends.object_store.adoption import Adoption
from pywharf.backends.object_store.claims import CLAIM_S, Claims
from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError
from pywharf.backends.object_store.layout import Layout
from pywharf.backends.object_store.listing import ListedFile, ListedProject, list_project, list_projects
from pywharf.backends.object_store.records import Record, Records
from pywharf.backends.object_store.scan_notes import FREED, TAKEN, ScanNotes
from pywharf.core.errors import InvalidConfigError, InvalidInputError
from pywharf.core.model import File, Project, ProjectStatus
from pywharf.core.names import ProjectName
from pywharf.index.ports import Progress, ScannedProject

_LEFTOVER_AGE_S = 24 * 3600
_PROJECTS = 64
"""Projects that are read concurrently."""
_FILES = 64
_UNUSABLE = (InvalidConfigError, InvalidInputError)
_HIDDEN = ProjectStatus("quarantined", "its status file cannot be read")
"""The status of a project whose own cannot be read: files that may be quarantined stay hidden until it is mended."""


class BucketScanner:
    """Reads the projects of one repo."""

    def __init__(
        self, client: ObjectClient, layout: Layout, records: Records, claims: Claims, adoption: Adoption
    ) -> None:
        self._client = client
        self._layout = layout
        self._records = records
        self._claims = claims
        self._adoption = adoption

    async def scan(self, notes: ScanNotes, progress: Progress) -> AsyncIterator[ScannedProject]:
        """Yield the projects, sorted; note what was read. Remove what uploads have left behind."""
        scanned = 0
        batch: list[ListedProject] = []

        async def read() -> Sequence[ScannedProject]:
            return await asyncio.gather(*(self._scan_project(project, notes) for project in batch))

        async for listed in list_projects(self._client, self._layout):
            if isinstance(listed, str):
                yield ScannedProject(None, (listed,))
                continue
            batch.append(listed)
            if len(batch) < _PROJECTS:
                continue
            for found in await read():
                scanned = _reported(found, scanned, progress)
                yield found
            batch.clear()
        for found in await read():
            scanned = _reported(found, scanned, progress)
            yield found
        await self._remove_leftovers()

    async def find(self, name: ProjectName, only: str | None) -> Project | None:
        """See Packages.find_project."""
        if only is not None:
            return await self._find_file(name, only)
        listed = await list_project(self._client, self._layout, name)
        if not listed.files and not listed.has_status:
            return None
        files: list[File] = []
        names = sorted(listed.files)
        for start in range(0, len(names), _FILES):
            some = names[start : start + _FILES]
            found = await asyncio.gather(*(self._found(name, filename, listed.files[filename]) for filename in some))
            files.extend(file for file in found if file is not None)
        return _project(name, files, await self._status(name, []) if listed.has_status else ProjectStatus())

    async def _find_file(self, name: ProjectName, filename: str) -> Project | None:
        try:
            record = await self._records.get(name, filename)
            if record is None or record.is_deleted:
                return None
            stat = await self._client.head(self._layout.content(name, filename))
        except (ObjectMissingError, *_UNUSABLE):
            return None
        if record.file.size not in {None, stat.size}:
            return None
        file = msgspec.structs.replace(record.file, size=stat.size)
        return _project(name, [file], await self._status(name, []))

    async def _found(self, name: ProjectName, filename: str, listed: ListedFile) -> File | None:
        """Return a file that is complete; None for one that is not published yet, was deleted or cannot be used."""
        if not listed.record or listed.size is None:
            return None
        try:
            record = await self._records.get(name, filename)
        except InvalidConfigError:
            return None
        if record is None or record.is_deleted or record.file.size not in {None, listed.size}:
            return None
        return msgspec.structs.replace(record.file, size=listed.size)

    async def _scan_project(self, listed: ListedProject, notes: ScanNotes) -> ScannedProject:
        fingerprints = {filename: file.fingerprint for filename, file in listed.files.items()}
        known = notes.known(listed.name, fingerprints)
        files: list[File] = []
        deleted: list[str] = []
        problems: list[str] = []
        names = sorted(listed.files)
        for start in range(0, len(names), _FILES):
            some = names[start : start + _FILES]
            unknown = [filename for filename in some if filename not in known]
            read = await asyncio.gather(*(self._read(listed, filename, problems) for filename in unknown))
            found = {**dict(zip(unknown, read, strict=True)), **{f: known[f] for f in some if f in known}}
            for filename in some:
                one = found[filename]
                fingerprint = fingerprints[filename]
                if isinstance(one, File):
                    files.append(one)
                elif one == TAKEN:
                    deleted.append(filename)
                if one is not None and filename not in known:
                    notes.note(listed.name, filename, fingerprint if isinstance(one, File) else one + fingerprint)
        status = await self._status(listed.name, problems) if listed.has_status else ProjectStatus()
        project = None
        if files or deleted or status.revision or status.status != "active" or problems:
            project = _project(listed.name, files, status)
        return ScannedProject(project, tuple(problems), tuple(deleted))

    async def _read(self, listed: ListedProject, filename: str, problems: list[str]) -> File | str | None:
        """Return a file's record; TAKEN or FREED for a deleted one; None if there is nothing to index."""
        objects = listed.files[filename]
        try:
            if not objects.record:
                return await self._unrecorded(listed.name, filename, objects, problems)
            record = await self._records.get(listed.name, filename)
            if record is None:
                return None
            if record.is_deleted:
                return await self._deleted(listed.name, record, objects)
            return await self._checked(listed.name, record.file, objects)
        except ObjectMissingError:
            return None  # removed meanwhile
        except _UNUSABLE as error:
            problems.append(f"{listed.name}/{filename} is left out: {error}")
            return None

    async def _deleted(self, name: ProjectName, record: Record, objects: ListedFile) -> str:
        if record.is_taken and objects.size is not None:
            # A deletion that was interrupted.
            filename = record.file.filename
            await self._client.delete([self._layout.metadata(name, filename), self._layout.content(name, filename)])
        return FREED if record.is_freed else TAKEN

    async def _checked(self, name: ProjectName, file: File, objects: ListedFile) -> File:
        """Return the record of a file whose content is there and has the recorded size."""
        if objects.size is None:
            raise InvalidConfigError(
                "its record is there, but not the object itself; publish the same file again, or delete it."
            )
        if file.size not in {None, objects.size}:
            raise InvalidConfigError(f"it has {objects.size} bytes, its record says {file.size}.")
        file = msgspec.structs.replace(file, size=objects.size)
        if file.metadata_sha256 is None and file.filename.endswith(".whl"):
            return await self._adoption.with_metadata(name, file, is_stored=objects.has_metadata)
        return file

    async def _unrecorded(
        self, name: ProjectName, filename: str, objects: ListedFile, problems: list[str]
    ) -> File | None:
        """Record a file that was put there by hand, or by an upload that ended long ago; not one that is under way."""
        if objects.size is None:
            return None
        claim = await self._claims.find(name, filename)
        if claim is not None and claim.filename == filename and time.time() - claim.made_at < CLAIM_S:
            return None
        return await self._adoption.adopt(name, filename, objects.modified, problems)

    async def _status(self, name: ProjectName, problems: list[str]) -> ProjectStatus:
        try:
            found = await self._records.status(name)
        except InvalidConfigError as error:
            problems.append(str(error))
            return _HIDDEN
        return found[0] if found is not None else ProjectStatus()

    async def _remove_leftovers(self) -> None:
        oldest = time.time() - _LEFTOVER_AGE_S
        async for page in self._client.pages(self._layout.staging):
            await self._client.delete([stat.key for stat in page if stat.modified.timestamp() < oldest])


def _project(name: ProjectName, files: Sequence[File], status: ProjectStatus) -> Project:
    return Project(
        name=name,
        files=tuple(files),
        status=status.status,
        status_reason=status.reason,
        status_revision=status.revision,
    )


def _reported(found: ScannedProject, scanned: int, progress: Progress) -> int:
    if found.project is None:
        return scanned
    progress(scanned, found.project.name)
    return scanned + len(found.project.files)
