"""Receive one file from a source: stage it, verify its size and digest, make its record."""

import asyncio
import contextlib
import hashlib
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from pywharf.core.archive import read_metadata
from pywharf.core.distribution import Distribution, read_distribution, record_of
from pywharf.core.errors import InvalidInputError, InvalidUploadError, NotFoundError, TooLargeError
from pywharf.core.filenames import DistributionFilename, parse_upload_filename
from pywharf.core.model import File, rfc3339
from pywharf.core.names import ProjectName
from pywharf.index.copying import times
from pywharf.index.copying.source import Opened, Source
from pywharf.index.limits import fault_of
from pywharf.index.ports import Packages
from pywharf.index.staging import StagedFile

_WEAK = frozenset({"md5", "sha1", "sha224", "sha384", "sha512", "blake2b", "blake2s"})
"""Algorithms, besides SHA-256, of the digests in links of Simple indexes."""


class Received(msgspec.Struct, frozen=True):
    """A staged file with all that is needed to publish it."""

    path: Path
    record: File
    metadata: bytes
    """The raw core metadata; empty if the record names none."""
    notes: tuple[str, ...] = ()
    """Requirements that an old sdist does not meet, a sentence each."""


class Receiver:
    """Receives files of one source for one target."""

    def __init__(self, source: Source, target: Packages, max_file_bytes: int) -> None:
        self._source, self._target = source, target
        self._max_file_bytes = max_file_bytes

    async def receive(self, project: ProjectName, file: File, stack: contextlib.AsyncExitStack) -> Received:
        """Receive and check a file. It stays staged until `stack` ends.

        Raises InvalidInputError or TooLargeError for a file that cannot be published, and what the source raises.
        """
        async with contextlib.AsyncExitStack() as own:
            staged = await own.enter_async_context(StagedFile(self._target.staging_folder, self._max_file_bytes))
            async with self._source.open(project, file) as opened:
                await _receive(opened, staged, file)
            sha256 = await staged.finish()
            await _check(file, staged, sha256)
            if self._source.is_repo:
                received = await self._with_kept_record(project, file, staged, sha256)
            else:
                received = await _with_made_record(project, file, staged, sha256, opened.modified)
            if (fault := fault_of(received.record)) is not None:
                raise TooLargeError(fault[:1].upper() + fault[1:])
            stack.push_async_exit(own.pop_all())
        return received

    async def _with_kept_record(self, project: ProjectName, file: File, staged: StagedFile, sha256: str) -> Received:
        """Keep a repo's own record, and read its core metadata. What the original did not record is completed."""
        record = msgspec.structs.replace(
            file,
            sha256=sha256,
            size=staged.size,
            upload_time=file.upload_time or rfc3339(time.time()),
            location=None,
            provenance=None,
            stamp=None,
            revision=0,
        )
        raw = None
        if file.metadata_sha256 is not None:
            with contextlib.suppress(NotFoundError):
                raw = await self._source.metadata(project, file)
        if raw is None or hashlib.sha256(raw).hexdigest() != file.metadata_sha256:
            raw = await asyncio.to_thread(_core_metadata, staged, file.filename)
        digest = None if raw is None else hashlib.sha256(raw).hexdigest()
        return Received(staged.path, msgspec.structs.replace(record, metadata_sha256=digest), raw or b"")


def is_unverified(source: Source, file: File) -> bool:
    """Return whether no digest confirms the content that the source sends."""
    return not (file.sha256 or source.is_local or _weak_digest(file))


async def _receive(opened: Opened, staged: StagedFile, file: File) -> None:
    async for chunk in opened.chunks:
        await staged.write(chunk)
        if file.size is not None and staged.size > file.size:
            raise InvalidUploadError(f"it is longer than the {file.size} bytes that the source says.")
    if file.size is not None and staged.size != file.size:
        raise InvalidUploadError(f"it has {staged.size} bytes; the source says {file.size}.")


async def _check(file: File, staged: StagedFile, sha256: str) -> None:
    """Compare the content with the digest that the source gives. Raises InvalidUploadError."""
    if file.sha256:
        if sha256 != file.sha256:
            raise InvalidUploadError(f"its SHA-256 is {sha256}; the source says {file.sha256}.")
        return
    weak = _weak_digest(file)
    if weak is None:
        return
    algorithm, given = weak

    def computed() -> str:
        with staged.path.open("rb") as content:
            digest = hashlib.new(algorithm, usedforsecurity=False)
            return hashlib.file_digest(content, lambda: digest).hexdigest()

    if (actual := await asyncio.to_thread(computed)) != given.lower():
        raise InvalidUploadError(f"its {algorithm} is {actual}; the source says {given[:130]}.")


def _weak_digest(file: File) -> tuple[str, str] | None:
    """Return the algorithm and the digest of a link such as `…/foo-1.0.whl#md5=…`, if it has one."""
    algorithm, equals, digest = urlsplit(file.location or "").fragment.partition("=")
    return (algorithm, digest) if equals and digest and algorithm in _WEAK else None


async def _with_made_record(
    project: ProjectName, file: File, staged: StagedFile, sha256: str, modified: float | None
) -> Received:
    """Read the archive and make the record as for an upload, with the source's time and yank."""
    parsed = parse_upload_filename(file.filename)
    if parsed.project != project:
        raise InvalidUploadError(f"its name says that it belongs to the project {parsed.project!r}.")
    read = await asyncio.to_thread(_read, staged, parsed)
    known = (times.of_text(file.upload_time), times.of_seconds(modified) if modified is not None else None)
    uploaded_at = next((seconds for seconds in known if seconds is not None), None)
    record = record_of(
        read, sha256=sha256, size=staged.size, uploaded_at=time.time() if uploaded_at is None else uploaded_at
    )
    return Received(staged.path, msgspec.structs.replace(record, yanked=file.yanked), read.raw_metadata, read.notes)


def _read(staged: StagedFile, parsed: DistributionFilename) -> Distribution:
    with staged.path.open("rb") as stream:
        return read_distribution(stream, parsed)


def _core_metadata(staged: StagedFile, filename: str) -> bytes | None:
    """Return a wheel's core metadata from the archive; None for other files and if it cannot be read."""
    try:
        if not filename.endswith(".whl"):
            return None
        with staged.path.open("rb") as stream:
            return read_metadata(stream, parse_upload_filename(filename))
    except InvalidInputError:
        return None
