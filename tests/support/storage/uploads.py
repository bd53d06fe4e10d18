"""Publishing to a backend as the server does after it has checked a file."""

import asyncio
import hashlib
from pathlib import Path

import msgspec

from pywharf.core.archive import read_metadata
from pywharf.core.errors import NotFoundError
from pywharf.core.filenames import Kind, parse_upload_filename
from pywharf.core.metadata import parse_metadata
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.ports import Backend, LocalContent, RedirectContent, StreamContent, Upload
from pywharf.index.staging import StagedFile
from support.server.calling import call

UPLOAD_TIME = "2126-01-02T03:04:05.000006Z"
"""A time in the future, so that no storage mistakes a test's upload for one abandoned long ago."""


def file_of(path: Path) -> tuple[ProjectName, File, bytes]:
    """Return the project, the record and the core metadata of a wheel or sdist."""
    parsed = parse_upload_filename(path.name)
    with path.open("rb") as stream:
        metadata = read_metadata(stream, parsed)
        size = stream.seek(0, 2)
    file = File(
        filename=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=size,
        upload_time=UPLOAD_TIME,
        requires_python=parse_metadata(metadata, parsed).requires_python,
        metadata_sha256=hashlib.sha256(metadata).hexdigest() if parsed.kind is Kind.WHEEL else None,
    )
    return parsed.project, file, metadata


async def publish(backend: Backend, path: Path) -> File:
    """Stage and publish a wheel or sdist; returns its record."""
    project, file, metadata = file_of(path)
    await backend.read_journal()  # as a server does before it accepts an upload
    async with StagedFile(backend.staging_folder, 2**40) as staged:
        await staged.write(path.read_bytes())
        await staged.finish()
        await backend.publish(Upload(project, file, staged.path, metadata))
    found = await backend.find_project(project, file.filename)
    stored = found.file(file.filename) if found is not None else None
    assert stored is not None, f"{file.filename} is not there"
    assert bare(stored) == file
    return stored


def bare(file: File) -> File:
    """Return a record without the fields that the storage sets: the content's location and the file's stamp."""
    return msgspec.structs.replace(file, location=None, stamp=None)


async def content(backend: Backend, project: ProjectName, file: File, first: int = 0, last: int | None = None) -> bytes:
    """Return the bytes from `first` to `last` (inclusive), however the backend serves them. Raises NotFoundError."""
    match await backend.open_file(project, file):
        case LocalContent(path):
            try:
                whole = path.read_bytes()
            except FileNotFoundError as error:
                raise NotFoundError(str(error)) from error
            return whole[first : None if last is None else last + 1]
        case StreamContent(size, opening):
            return b"".join([part async for part in opening(first, size - 1 if last is None else last)])
        case RedirectContent(url):
            reply = await asyncio.to_thread(call, url)
            assert reply.status == 200, str(reply)
            return reply.body[first : None if last is None else last + 1]


async def scanned(backend: Backend) -> tuple[list[Project], list[str]]:
    """Run a full scan; returns its projects and its problems."""
    projects: list[Project] = []
    problems: list[str] = []
    async for one in backend.scan(lambda _count, _what: None):
        if one.project is not None:
            projects.append(one.project)
        problems.extend(one.problems)
    return projects, problems


async def journal(backend: Backend) -> dict[str, File]:
    """Return all files of the journal by file name."""
    return {e.file.filename: e.file for e in (await backend.read_journal()).entries if e.file is not None}
