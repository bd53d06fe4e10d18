"""Change what is published in a bucket: yank, delete, set a project's status.

The record is replaced by compare-and-swap, so the changes of one file happen one after the other, on any number of
servers. A deletion keeps the record, marked, and removes content and core metadata afterwards. The name is freed last.
"""

import time
from typing import assert_never

import msgspec

from pywharf.backends.object_store.claims import Claims
from pywharf.backends.object_store.client import (
    ObjectChangedError,
    ObjectClient,
    ObjectExistsError,
    ObjectMissingError,
)
from pywharf.backends.object_store.journal import BucketJournal
from pywharf.backends.object_store.layout import Layout
from pywharf.backends.object_store.records import Record, Records
from pywharf.core.errors import BackendUnavailableError, FileExistsInRepoError, InvalidConfigError, NotFoundError
from pywharf.core.filenames import names_stored_file
from pywharf.core.model import Deletion, File, ProjectStatus, rfc3339
from pywharf.index.ports import Change, Delete, JournalEntry, Reserve, SetStatus, SetYanked
from pywharf.index.tombstones import reserved

_ATTEMPTS = 30


class BucketChanger:
    """Changes the files and projects of one repo."""

    def __init__(
        self, client: ObjectClient, layout: Layout, *, records: Records, claims: Claims, journal: BucketJournal
    ) -> None:
        self._client = client
        self._layout = layout
        self._records, self._claims = records, claims
        self._journal = journal

    async def change(self, change: Change) -> JournalEntry:
        """See Packages.change."""
        match change.action:
            case SetYanked() as action:
                entry = await self._yank(change, action)
            case Delete() as action:
                return await self._delete(change, action)
            case Reserve() as action:
                return await self._reserve(change, action.filename)
            case SetStatus() as action:
                entry = await self._set_status(change, action)
            case _:
                assert_never(change.action)
        await self._add(change, entry)
        return entry

    async def _yank(self, change: Change, action: SetYanked) -> JournalEntry:
        for _ in range(_ATTEMPTS):
            record = await self._recorded(change, action.filename)
            if record.is_deleted:
                raise NotFoundError(f"The storage holds no file {action.filename!r}.")
            if record.file.yanked == action.reason:
                return JournalEntry(change.project, file=record.file)
            file = msgspec.structs.replace(record.file, yanked=action.reason, revision=record.file.revision + 1)
            try:
                await self._records.replace(change.project, record, Record(file, record.version))
            except ObjectChangedError:
                continue  # somebody else's change, or one's own, whose answer was lost
            return JournalEntry(change.project, file=file)
        raise self._too_many(action.filename)

    async def _delete(self, change: Change, action: Delete) -> JournalEntry:
        for _ in range(_ATTEMPTS):
            record = await self._recorded(change, action.filename)
            if not record.is_deleted:
                file = msgspec.structs.replace(record.file, revision=record.file.revision + 1)
                try:
                    record = await self._records.replace(
                        change.project, record, Record(file, record.version, rfc3339(time.time()))
                    )
                except ObjectChangedError:
                    continue
            entry = JournalEntry(change.project, deletion=record.deletion)
            await self._add(change, entry)
            if record.is_freed:
                return entry
            await self._client.delete(
                [
                    self._layout.metadata(change.project, action.filename),
                    self._layout.content(change.project, action.filename),
                ]
            )
            if action.frees_name:
                try:
                    await self._records.replace(change.project, record, msgspec.structs.replace(record, is_freed=True))
                except ObjectChangedError:
                    continue
            return entry
        raise self._too_many(action.filename)

    async def _reserve(self, change: Change, filename: str) -> JournalEntry:
        if not names_stored_file(filename):
            raise NotFoundError(f"{filename[:250]!r} cannot be the name of a file.")
        for _ in range(_ATTEMPTS):
            record = await self._records.usable(change.project, filename)
            try:
                if record is None:
                    await self._claim(change, filename)
                    # An upload that is under way finds the record, and withdraws.
                    now = rfc3339(time.time())
                    record = await self._records.create_deleted(change.project, reserved(filename, now))
                elif record.is_freed:
                    record = msgspec.structs.replace(record, is_freed=False)
                    record = await self._records.replace(change.project, record, record)
            except (ObjectExistsError, ObjectChangedError):
                continue
            if not record.is_deleted:
                raise FileExistsInRepoError(filename)
            return JournalEntry(change.project, deletion=record.deletion)
        raise self._too_many(filename)

    async def _claim(self, change: Change, filename: str) -> None:
        """Claim a distribution for a name. Raises FileExistsInRepoError if another name has it or there is content.

        Raises ObjectChangedError if somebody else claims it now.
        """
        claim = await self._claims.make(change.project, filename)
        if claim is not None and claim.filename != filename:
            other = await self._records.usable(change.project, claim.filename)
            if other is None or not other.is_deleted:
                raise FileExistsInRepoError(filename, claim.filename)
            if other.is_freed:
                await self._claims.replace(change.project, filename, claim)
        try:
            await self._client.head(self._layout.content(change.project, filename))
        except ObjectMissingError:
            return
        raise FileExistsInRepoError(filename)

    async def _set_status(self, change: Change, action: SetStatus) -> JournalEntry:
        for _ in range(_ATTEMPTS):
            try:
                found = await self._records.status(change.project)
            except InvalidConfigError as error:
                raise BackendUnavailableError(f"The project's status cannot be used: {error} Mend it.") from error
            if found is None and not await self._has_objects(change):
                raise NotFoundError(f"The storage holds no project {change.project!r}.")
            old, version = found or (ProjectStatus(), None)
            if (old.status, old.reason) == (action.status, action.reason):
                return JournalEntry(change.project, status=old)
            status = ProjectStatus(action.status, action.reason, old.revision + 1)
            try:
                await self._records.set_status(change.project, status, version)
            except (ObjectExistsError, ObjectChangedError):
                continue
            return JournalEntry(change.project, status=status)
        raise self._too_many(change.project)

    async def _recorded(self, change: Change, filename: str) -> Record:
        record = await self._records.usable(change.project, filename) if names_stored_file(filename) else None
        if record is None:
            raise NotFoundError(f"The storage holds no file {filename!r}.")
        return record

    async def _has_objects(self, change: Change) -> bool:
        async for page in self._client.pages(self._layout.project(change.project)):
            return bool(page)
        return False

    async def _add(self, change: Change, entry: JournalEntry) -> None:
        """Add the entry to the journal, unless index or journal have it already."""
        if not _is_known(change, entry) and not await self._journal.holds(entry):
            await self._journal.add(entry)

    @staticmethod
    def _too_many(what: str) -> BackendUnavailableError:
        return BackendUnavailableError(f"Too many changes of {what!r} run concurrently; try again.")


def _is_known(change: Change, entry: JournalEntry) -> bool:
    """Return whether the caller's project, from index and journal, already shows the entry."""
    known = change.known
    if known is None:
        return False
    match entry:
        case JournalEntry(file=File() as file):
            return known.file(file.filename) == file
        case JournalEntry(deletion=Deletion()):
            return False  # what a project lacks may also be unknown
        case JournalEntry(status=ProjectStatus() as status):
            return (known.status, known.status_reason, known.status_revision) == (
                status.status,
                status.reason,
                status.revision,
            )
    return False
