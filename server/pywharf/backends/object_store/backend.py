"""A backend that keeps one repo's packages in a bucket, for any number of servers without a disk of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from pywharf.backends.object_store.adoption import Adoption
from pywharf.backends.object_store.changing import BucketChanger
from pywharf.backends.object_store.claims import Claims
from pywharf.backends.object_store.client import ObjectClient
from pywharf.backends.object_store.content import BucketContents
from pywharf.backends.object_store.found_objects import UrlLife
from pywharf.backends.object_store.index_file import BucketIndex
from pywharf.backends.object_store.journal import BucketJournal
from pywharf.backends.object_store.layout import Layout
from pywharf.backends.object_store.preconditions import try_preconditions
from pywharf.backends.object_store.publishing import BucketPublisher
from pywharf.backends.object_store.records import Records
from pywharf.backends.object_store.scan_notes import ScanNotes, read_notes
from pywharf.backends.object_store.scanning import BucketScanner
from pywharf.backends.object_store.token_claims import TokenClaims
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.ports import (
    Change,
    Content,
    JournalEntry,
    JournalRead,
    Progress,
    ScannedProject,
    StoredIndex,
    Unchanged,
    Upload,
)
from pywharf.index.threads import on_storage

_DISK_S = 30.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a repo's table says about its bucket, without the store itself."""

    prefix: str
    index_name: str
    poll_interval_s: float
    max_file_bytes: int
    url_life: UrlLife | None
    """None: the server passes files on."""
    is_job: bool = False


class ObjectStoreBackend:
    """The bucket of one repo. Any number of servers and jobs may use it concurrently."""

    def __init__(self, settings: Settings, staging: Path, connect: Callable[[], ObjectClient]) -> None:
        self._settings = settings
        self._staging = staging
        self._connect = connect
        self._parts: _Parts | None = None
        self._opening = asyncio.Lock()
        self._notes: ScanNotes | None = None
        self._kept: StoredIndex | None = None

    @property
    def staging_folder(self) -> Path:
        return self._staging

    @property
    def poll_interval_s(self) -> float:
        return self._settings.poll_interval_s

    async def read_index(self, known: str | None = None) -> StoredIndex | Unchanged | None:
        found = await (await self._open()).index.read(known)
        if self._settings.is_job and isinstance(found, StoredIndex):
            self._kept = found
        return found

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        return await (await self._open()).index.write(content, expected)

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        layout = Layout(self._settings.prefix)
        return "package_path", layout.content(project, file.filename)

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        return await (await self._open()).journal.read(cursor)

    async def fold_journal(self, cursor: str) -> None:
        parts = await self._open()
        await parts.journal.fold(cursor)
        await self._save_notes(parts)

    async def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        parts = await self._open()
        notes = await read_notes(parts.client, parts.layout, await self._index_before(parts))
        self._notes = None
        async for found in parts.scanner.scan(notes, progress):
            yield found
        self._notes = notes

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        return await (await self._open()).scanner.find(name, only)

    async def publish(self, upload: Upload) -> File:
        return await (await self._open()).publisher.publish(upload)

    async def change(self, change: Change) -> JournalEntry:
        return await (await self._open()).changer.change(change)

    async def open_file(self, project: ProjectName, file: File) -> Content:
        return await (await self._open()).contents.open(project, file)

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        return await (await self._open()).contents.metadata(project, file)

    async def claim(self, name: str, until: int) -> bool:
        """Claim a name (see Claims)."""
        return await (await self._open()).tokens.claim(name, until)

    async def is_claimed(self, name: str) -> bool:
        """Return whether a name was claimed (see Claims)."""
        return await (await self._open()).tokens.is_claimed(name)

    async def remove_ended_claims(self) -> None:
        """Remove the claims that ended (see Claims)."""
        await (await self._open()).tokens.remove_ended()

    async def aclose(self) -> None:
        if self._parts is not None:
            await self._parts.client.aclose()

    async def _open(self) -> "_Parts":
        """Return the parts. The first call connects, and tries out what the store promises."""
        if self._parts is not None:
            return self._parts
        async with self._opening:
            if self._parts is None:
                await on_storage(_DISK_S, self._make_staging)
                parts = _parts(self._settings, self._staging, self._connect())
                await try_preconditions(parts.client, parts.layout.staging)
                self._parts = parts
        return self._parts

    async def _index_before(self, parts: "_Parts") -> StoredIndex | None:
        """Return the index as it is now. A job that has just read it keeps one copy of it."""
        kept, self._kept = self._kept, None
        found = await parts.index.read(kept.version if kept is not None else None)
        return kept if not isinstance(found, StoredIndex | None) else found

    def _make_staging(self) -> None:
        self._staging.mkdir(parents=True, exist_ok=True)

    async def _save_notes(self, parts: "_Parts") -> None:
        """Note what the scan read, now that the index has it."""
        notes, self._notes = self._notes, None
        if notes is None:
            return
        if parts.index.last_version is not None:
            await notes.save(parts.client, parts.layout, parts.index.last_version)


class _Parts(msgspec.Struct, frozen=True):
    client: ObjectClient
    layout: Layout
    journal: BucketJournal
    index: BucketIndex
    contents: BucketContents
    publisher: BucketPublisher
    changer: BucketChanger
    scanner: BucketScanner
    tokens: TokenClaims


def _parts(settings: Settings, staging: Path, client: ObjectClient) -> _Parts:
    layout = Layout(settings.prefix)
    records, claims = Records(client, layout), Claims(client, layout)
    journal = BucketJournal(client, layout.journal)
    adoption = Adoption(
        client, layout, records=records, claims=claims, staging=staging, max_file_bytes=settings.max_file_bytes
    )
    return _Parts(
        client=client,
        layout=layout,
        journal=journal,
        index=BucketIndex(client, layout, settings.index_name),
        contents=BucketContents(client, layout, settings.url_life),
        publisher=BucketPublisher(client, layout, records=records, claims=claims, journal=journal),
        changer=BucketChanger(client, layout, records=records, claims=claims, journal=journal),
        scanner=BucketScanner(client, layout, records, claims, adoption),
        tokens=TokenClaims(client, layout.tokens),
    )
