"""Record files that somebody put into the bucket by hand, as into a file_system repo's folder."""

import asyncio
import hashlib
import uuid
from pathlib import Path

import msgspec

from pywharf.backends.object_store.claims import Claims
from pywharf.backends.object_store.client import ObjectClient, ObjectExistsError
from pywharf.backends.object_store.layout import Layout
from pywharf.backends.object_store.records import Records
from pywharf.core.archive import read_metadata
from pywharf.core.distribution import Distribution, read_distribution, record_of
from pywharf.core.errors import InvalidConfigError, InvalidInputError
from pywharf.core.filenames import DistributionFilename, parse_upload_filename
from pywharf.core.metadata import MAX_METADATA_BYTES, CoreMetadata
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.limits import fault_of
from pywharf.index.threads import on_storage

_DISK_S = 300.0


class Adoption:
    """Reads files of one repo that lack a record or core metadata. One at a time, through a file on disk."""

    def __init__(  # noqa: PLR0913 - what it reads and writes
        self,
        client: ObjectClient,
        layout: Layout,
        *,
        records: Records,
        claims: Claims,
        staging: Path,
        max_file_bytes: int,
    ) -> None:
        self._client = client
        self._layout = layout
        self._records = records
        self._claims = claims
        self._staging = staging
        self._max_file_bytes = max_file_bytes
        self._one = asyncio.Lock()

    async def adopt(self, name: ProjectName, filename: str, uploaded_at: float, problems: list[str]) -> File | None:
        """Check and record a file. Raises InvalidInputError or InvalidConfigError for one that cannot be published."""
        parsed = parse_upload_filename(filename)
        if parsed.project != name:
            raise InvalidConfigError(f"it belongs into the folder {parsed.project!r}.")
        async with self._one:
            read, sha256, size = await self._downloaded(name, parsed)
        problems.extend(f"{name}/{filename} is published all the same: {note}" for note in read.notes)
        file = record_of(read, sha256=sha256, size=size, uploaded_at=uploaded_at)
        if (fault := fault_of(file)) is not None:
            raise InvalidConfigError(fault)
        await self._claims.make(name, filename)
        if read.offered_metadata is not None:
            await self._client.put(self._layout.metadata(name, filename), read.offered_metadata)
        try:
            return (await self._records.create(name, file)).file
        except ObjectExistsError:
            record = await self._records.get(name, filename)
            return record.file if record is not None and not record.is_deleted else None

    async def with_metadata(self, name: ProjectName, file: File, *, is_stored: bool) -> File:
        """Add the digest of a wheel's core metadata, which the original did not record."""
        key = self._layout.metadata(name, file.filename)
        if is_stored:
            raw = (await self._client.get(key, MAX_METADATA_BYTES)).content
        else:
            try:
                async with self._one:
                    read, _, _ = await self._downloaded(name, parse_upload_filename(file.filename), whole=False)
            except InvalidInputError:
                return file  # served without core metadata, as in the original
            raw = read.raw_metadata
            await self._client.put(key, raw)
        return msgspec.structs.replace(file, metadata_sha256=hashlib.sha256(raw).hexdigest()) if raw else file

    async def _downloaded(
        self, name: ProjectName, parsed: DistributionFilename, *, whole: bool = True
    ) -> tuple[Distribution, str, int]:
        key = self._layout.content(name, parsed.filename)
        stat = await self._client.head(key)
        if stat.size > self._max_file_bytes:
            raise InvalidConfigError(
                f"it has {stat.size} bytes; at most {self._max_file_bytes} are allowed (max_file_bytes)."
            )
        path = self._staging / f"{uuid.uuid4().hex}.tmp"
        digest = hashlib.sha256()
        try:
            with await on_storage(_DISK_S, path.open, "xb", 0) as target:
                async for chunk in self._client.stream(key, 0, stat.size - 1):
                    digest.update(chunk)
                    await on_storage(_DISK_S, target.write, chunk)
            read = await asyncio.to_thread(_read, path, parsed, whole=whole)
        finally:
            await on_storage(_DISK_S, path.unlink, missing_ok=True)
        return read, digest.hexdigest(), stat.size


def _read(path: Path, parsed: DistributionFilename, *, whole: bool) -> Distribution:
    with path.open("rb") as stream:
        if whole:
            return read_distribution(stream, parsed)
        return _metadata_alone(read_metadata(stream, parsed), parsed)


def _metadata_alone(raw: bytes, parsed: DistributionFilename) -> Distribution:
    return Distribution(parsed, raw, CoreMetadata(parsed.project, parsed.version))
