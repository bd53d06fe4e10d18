"""The records in a bucket, `<file>.meta` and `.status.toml`: read, created, and changed by compare-and-swap.

A record outlives its file: after a deletion it says that the name is taken, or that it was freed.
"""

from collections.abc import Mapping

import msgspec

from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError, Version
from pywharf.backends.object_store.layout import Layout
from pywharf.core.errors import BackendUnavailableError, InvalidConfigError
from pywharf.core.model import STATUSES, Deletion, File, ProjectStatus, rfc3339
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps, loads
from pywharf.index.codecs import file_from_meta, meta_of, parse_meta
from pywharf.index.limits import MAX_RECORD_BYTES, MAX_STATUS_BYTES, MAX_TEXT, fault_of

_TAKEN, _FREED = "taken", "freed"


class Record(msgspec.Struct, frozen=True):
    """A file's record as it lies in the bucket."""

    file: File
    """The file; after its deletion, as it last was, with the deletion's revision."""
    version: Version
    is_deleted: bool = False
    is_freed: bool = False
    """Whether the name of a deleted file may be published again. Its content is then removed."""

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
        deleted = meta.get("deleted")
        return Record(file, got.stat.version, is_deleted=deleted is not None, is_freed=deleted == _FREED)

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
        version = await self._client.create(self._layout.record(project, file.filename), _content(project, file))
        return Record(file, version)

    async def replace(self, project: ProjectName, old: Record, new: Record) -> Record:
        """Replace a record that was read. Raises ObjectChangedError."""
        state = (_FREED if new.is_freed else _TAKEN) if new.is_deleted else None
        key = self._layout.record(project, old.file.filename)
        version = await self._client.replace(key, _content(project, new.file, state), old.version)
        return msgspec.structs.replace(new, version=version)

    async def status(self, project: ProjectName) -> tuple[ProjectStatus, Version] | None:
        """Read a project's status; None if it has none. Raises InvalidConfigError for one that cannot be used."""
        try:
            got = await self._client.get(self._layout.status(project), MAX_STATUS_BYTES)
        except ObjectMissingError:
            return None
        return _parse_status(got.content, f"{project}/.status.toml"), got.stat.version

    async def set_status(self, project: ProjectName, status: ProjectStatus, old: Version | None) -> None:
        """Write a project's status. Raises ObjectExistsError or ObjectChangedError."""
        table: dict[str, str | int] = {"status": status.status, "revision": status.revision}
        if status.reason is not None:
            table["reason"] = status.reason
        content = dumps(table).encode()
        if old is None:
            await self._client.create(self._layout.status(project), content)
        else:
            await self._client.replace(self._layout.status(project), content, old)


def _content(project: ProjectName, file: File, state: str | None = None) -> bytes:
    deleted = {} if state is None else {"deleted": state}
    return dumps(meta_of(project, file) | deleted).encode()


def _parse_status(content: bytes, source: str) -> ProjectStatus:
    try:
        table: Mapping[str, object] = loads(content.decode(), source)
    except UnicodeDecodeError as error:
        raise InvalidConfigError(f"{source} is no UTF-8 text.") from error
    status, reason, revision = table.get("status"), table.get("reason"), table.get("revision", 0)
    if status not in STATUSES or not isinstance(reason, str | None) or not isinstance(revision, int):
        raise InvalidConfigError(f"{source}: status must be one of {', '.join(STATUSES)}, with an optional reason.")
    if reason is not None and len(reason) > MAX_TEXT:
        raise InvalidConfigError(f"{source}: its reason has over {MAX_TEXT} characters; shorten it.")
    return ProjectStatus(str(status), reason, revision)
