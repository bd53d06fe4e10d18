"""The records in a bucket, `<file>.meta` and `.status.toml`: read, created, and changed by compare-and-swap.

A record outlives its file: after a deletion it is a tombstone (`pywharf.index.tombstones`).
"""

import msgspec

from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError, Version
from pywharf.backends.object_store.layout import STATUS_FILENAME, Layout
from pywharf.core.errors import BackendUnavailableError, InvalidConfigError
from pywharf.core.model import Deletion, File, ProjectStatus, rfc3339
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps
from pywharf.index.limits import MAX_RECORD_BYTES, MAX_STATUS_BYTES, fault_of
from pywharf.index.sidecars import file_from_meta, meta_of, parse_meta, parse_status, status_text
from pywharf.index.tombstones import Tombstone, meta_of_deleted, tombstone_from_meta


class Record(msgspec.Struct, frozen=True):
    """A file's record as it lies in the bucket."""

    file: File
    """The file; after its deletion, as it last was, with the deletion's revision."""
    version: Version
    deleted: str | None = None
    """The time of the deletion (RFC 3339); None while the file is published."""
    is_freed: bool = False
    """Whether the name of a deleted file may be published again. Its content is then removed."""

    @property
    def is_deleted(self) -> bool:
        """Whether the file was deleted."""
        return self.deleted is not None

    @property
    def deletion(self) -> Deletion:
        """The deletion of a deleted file."""
        return Deletion(self.file.filename, self.file.revision)

    @property
    def is_taken(self) -> bool:
        """Whether the file was deleted and its name may not be published again."""
        return self.is_deleted and not self.is_freed


class Records:
    """The records of one repo."""

    def __init__(self, client: ObjectClient, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    async def get(self, project: ProjectName, filename: str) -> Record | None:
        """Read a file's record; None if there is none. Raises InvalidConfigError for one that cannot be used."""
        key = self._layout.record(project, filename)
        try:
            got = await self._client.get(key, MAX_RECORD_BYTES)
        except ObjectMissingError:
            return None
        if got.stat.size > MAX_RECORD_BYTES:
            raise InvalidConfigError(f"its record has more than {MAX_RECORD_BYTES} bytes; shorten or remove it.")
        try:
            meta = parse_meta(got.content.decode(), f"{project}/{filename}.meta")
        except UnicodeDecodeError as error:
            raise InvalidConfigError("its record is no UTF-8 text.") from error
        file = file_from_meta(filename, meta)
        # Records of a file_system repo hold stamps, which mean nothing in a bucket.
        file = msgspec.structs.replace(
            file, stamp=None, upload_time=file.upload_time or rfc3339(got.stat.modified.timestamp())
        )
        if (fault := fault_of(file)) is not None:
            raise InvalidConfigError(fault)
        tombstone = tombstone_from_meta(filename, meta)
        if tombstone is None:
            return Record(file, got.stat.version)
        return Record(file, got.stat.version, tombstone.deleted, tombstone.is_free)

    async def usable(self, project: ProjectName, filename: str) -> Record | None:
        """Read a file's record before a write. Raises BackendUnavailableError for one that cannot be used."""
        try:
            return await self.get(project, filename)
        except InvalidConfigError as error:
            raise BackendUnavailableError(
                f"The record of {filename!r} cannot be used: {error} Mend or remove the object."
            ) from error

    async def create(self, project: ProjectName, file: File) -> Record:
        """Create a file's record. Raises ObjectExistsError."""
        content = dumps(meta_of(project, file)).encode()
        return Record(file, await self._client.create(self._layout.record(project, file.filename), content))

    async def create_deleted(self, project: ProjectName, tombstone: Tombstone) -> Record:
        """Create the record of a deleted file. Raises ObjectExistsError."""
        content = dumps(meta_of_deleted(project, tombstone)).encode()
        version = await self._client.create(self._layout.record(project, tombstone.file.filename), content)
        return Record(tombstone.file, version, tombstone.deleted, tombstone.is_free)

    async def replace(self, project: ProjectName, old: Record, new: Record) -> Record:
        """Replace a record that was read. Raises ObjectChangedError."""
        if new.deleted is None:
            meta = meta_of(project, new.file)
        else:
            meta = meta_of_deleted(project, Tombstone(new.file, new.deleted, new.is_freed))
        key = self._layout.record(project, old.file.filename)
        version = await self._client.replace(key, dumps(meta).encode(), old.version)
        return msgspec.structs.replace(new, version=version)

    async def status(self, project: ProjectName) -> tuple[ProjectStatus, Version] | None:
        """Read a project's status; None if it has none. Raises InvalidConfigError for one that cannot be used."""
        try:
            got = await self._client.get(self._layout.status(project), MAX_STATUS_BYTES)
        except ObjectMissingError:
            return None
        source = f"{project}/{STATUS_FILENAME}"
        if got.stat.size > MAX_STATUS_BYTES:
            raise InvalidConfigError(f"{source} has more than {MAX_STATUS_BYTES} bytes; shorten or remove it.")
        try:
            return parse_status(got.content.decode(), source), got.stat.version
        except UnicodeDecodeError as error:
            raise InvalidConfigError(f"{source} is no UTF-8 text.") from error

    async def set_status(self, project: ProjectName, status: ProjectStatus, old: Version | None) -> None:
        """Write a project's status. Raises ObjectExistsError or ObjectChangedError."""
        content = status_text(status).encode()
        if old is None:
            await self._client.create(self._layout.status(project), content)
        else:
            await self._client.replace(self._layout.status(project), content, old)
