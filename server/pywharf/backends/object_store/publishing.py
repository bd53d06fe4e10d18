"""Publish a file to a bucket, so that a name has one content for everyone, however many send it, and however often.

The order decides. A claim settles which spelling of a distribution's name counts. Creating the content settles which
bytes the name has. Core metadata and record follow, and then the journal's entry; only the record makes the file
visible. After a crash anywhere, the same upload again completes what is left.
"""

import hashlib
import time
from collections.abc import Callable

import msgspec

from pywharf.backends.object_store.claims import CLAIM_S, Claims
from pywharf.backends.object_store.client import (
    ObjectChangedError,
    ObjectClient,
    ObjectExistsError,
    ObjectMissingError,
)
from pywharf.backends.object_store.file_uploads import FileUploads
from pywharf.backends.object_store.journal import BucketJournal
from pywharf.backends.object_store.layout import Layout
from pywharf.backends.object_store.records import Record, Records
from pywharf.core.duplicates import find_duplicate
from pywharf.core.errors import BackendUnavailableError, FileExistsInRepoError
from pywharf.core.model import File
from pywharf.index.ports import JournalEntry, Upload
from pywharf.index.threads import on_storage, within

_FINISH_S = CLAIM_S / 3
"""Seconds for what follows the claim, so that nobody takes it over meanwhile."""
_READ_S = 300.0
_ATTEMPTS = 10


class BucketPublisher:
    """Publishes the files of one repo."""

    def __init__(  # noqa: PLR0913 - what it reads and writes
        self,
        client: ObjectClient,
        layout: Layout,
        *,
        records: Records,
        claims: Claims,
        journal: BucketJournal,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._layout = layout
        self._records, self._claims = records, claims
        self._journal = journal
        self._clock = clock
        self._uploads = FileUploads(client, layout.staging)

    async def publish(self, upload: Upload) -> File:
        """See Packages.publish."""
        size = upload.file.size if upload.file.size is not None else await on_storage(_READ_S, _size, upload)
        record = await self._checked_record(upload)
        if record is not None and not record.is_deleted:
            return await self._complete(upload, record, size)
        self._refuse_known_duplicate(upload)
        # A large file goes into the bucket before the claim, which others could otherwise take for abandoned.
        async with self._uploads.staged(upload.staged, size) as staged, within(_FINISH_S):
            await self._claim(upload, record)
            await self._create_content(upload, staged)
            stored = await self._record(upload, record)
        await self._journal.add(JournalEntry(upload.project, stored))
        return stored

    async def _checked_record(self, upload: Upload) -> Record | None:
        """Return the file's record, if any. Raises FileExistsInRepoError if the upload cannot become that file."""
        record = await self._records.usable(upload.project, upload.file.filename)
        if record is None or record.is_freed:
            return record
        if record.is_deleted or record.file.sha256 != upload.file.sha256:
            raise FileExistsInRepoError(upload.file.filename, is_deleted=record.is_deleted)
        return record

    async def _complete(self, upload: Upload, record: Record, size: int) -> File:
        """Put back what a recorded file lacks, and its entry in the journal."""
        file = record.file
        try:
            stat = await self._client.head(self._layout.content(upload.project, file.filename))
        except ObjectMissingError:
            stat = None
        if stat is not None and file.size is not None and stat.size != file.size:
            raise BackendUnavailableError(
                f"The object of {file.filename!r} has {stat.size} bytes, its record says {file.size}; remove the "
                "object, and publish the file again."
            )
        if stat is None:
            async with self._uploads.staged(upload.staged, size) as staged:
                await self._create_content(upload, staged)
            await self._put_metadata(upload)
            await self._withdraw_if_deleted(upload)
        entry = JournalEntry(upload.project, file)
        if not upload.is_shown(file.sha256) and not await self._journal.holds(entry):
            await self._journal.add(entry)
        return file

    async def _withdraw_if_deleted(self, upload: Upload) -> None:
        """Remove content that was missing because of a deletion. Raises FileExistsInRepoError if it was."""
        project, filename = upload.project, upload.file.filename
        record = await self._records.usable(project, filename)
        if record is not None and record.is_taken:
            await self._client.delete(
                [self._layout.metadata(project, filename), self._layout.content(project, filename)]
            )
            raise FileExistsInRepoError(filename, is_deleted=True)

    def _refuse_known_duplicate(self, upload: Upload) -> None:
        """Refuse another name of a distribution that has no claim, as one that was put there by hand."""
        if upload.known is None:
            return
        name = upload.file.filename
        double = find_duplicate(name, upload.project, (file.filename for file in upload.known.files))
        if double is not None:
            raise FileExistsInRepoError(name, double)

    async def _claim(self, upload: Upload, record: Record | None) -> None:
        """Claim the distribution for this name. Raises FileExistsInRepoError if another name has it.

        A claim that could be taken over is renewed first, so that of two names only one goes on.
        """
        project, name = upload.project, upload.file.filename
        for _ in range(_ATTEMPTS):
            claim = await self._claims.make(project, name)
            if claim is None:
                return
            age_s = self._clock() - claim.made_at
            if claim.filename == name:
                if record is None and age_s < CLAIM_S / 2:
                    return
            elif age_s < CLAIM_S or not await self._is_abandoned(upload, claim.filename):
                other = await self._records.usable(project, claim.filename)
                raise FileExistsInRepoError(name, claim.filename, is_deleted=other is not None and other.is_deleted)
            try:
                await self._claims.replace(project, name, claim)
            except ObjectChangedError:
                continue
            return
        raise BackendUnavailableError(f"Too many uploads of {name!r} run concurrently; try again.")

    async def _is_abandoned(self, upload: Upload, filename: str) -> bool:
        """Return whether a name with an old claim is free: its upload never went on, or it was deleted and freed."""
        record = await self._records.usable(upload.project, filename)
        if record is not None:
            return record.is_freed
        return not await self._exists(upload, filename)

    async def _exists(self, upload: Upload, filename: str) -> bool:
        try:
            await self._client.head(self._layout.content(upload.project, filename))
        except ObjectMissingError:
            return False
        return True

    async def _create_content(self, upload: Upload, staged: str | None) -> None:
        """Create the content. Raises FileExistsInRepoError if the name has other bytes."""
        key = self._layout.content(upload.project, upload.file.filename)
        try:
            await self._uploads.create(key, upload.staged, staged)
        except ObjectExistsError:
            # Another's, or one's own, whose answer was lost: only the bytes tell.
            if not await self._has_the_bytes(key, upload):
                raise FileExistsInRepoError(upload.file.filename) from None

    async def _has_the_bytes(self, key: str, upload: Upload) -> bool:
        try:
            stat = await self._client.head(key)
            if upload.file.size is not None and stat.size != upload.file.size:
                return False
            record = await self._records.usable(upload.project, upload.file.filename)
            if record is not None and not record.is_deleted:
                return record.file.sha256 == upload.file.sha256
            digest = hashlib.sha256()
            async with within(_READ_S):
                async for chunk in self._client.stream(key, 0, stat.size - 1):
                    digest.update(chunk)
        except ObjectMissingError:
            return False
        return digest.hexdigest() == upload.file.sha256

    async def _put_metadata(self, upload: Upload) -> None:
        if upload.file.metadata_sha256 is not None:
            # The same bytes have the same metadata, so it does not matter who writes last.
            await self._client.put(self._layout.metadata(upload.project, upload.file.filename), upload.metadata)

    async def _record(self, upload: Upload, freed: Record | None) -> File:
        """Record the file, which makes it visible, and return its record."""
        await self._put_metadata(upload)
        project, file = upload.project, upload.file
        if freed is not None:
            file = msgspec.structs.replace(file, revision=freed.file.revision + 1)
        for _ in range(_ATTEMPTS):
            try:
                if freed is None:
                    return (await self._records.create(project, file)).file
                return (await self._records.replace(project, freed, Record(file, freed.version))).file
            except (ObjectExistsError, ObjectChangedError):
                # Another upload of the same bytes, or one's own whose answer was lost, or a deletion.
                found = await self._records.usable(project, file.filename)
            if found is not None and not found.is_deleted and found.file.sha256 == file.sha256:
                return found.file
            if found is not None and not found.is_freed:
                if found.is_deleted:
                    await self._client.delete([self._layout.content(project, file.filename)])
                raise FileExistsInRepoError(file.filename, is_deleted=found.is_deleted)
            freed = found
        raise BackendUnavailableError(f"Too many uploads of {file.filename!r} run concurrently; try again.")


def _size(upload: Upload) -> int:
    return upload.staged.stat().st_size
