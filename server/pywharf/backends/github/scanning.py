"""Scan a repository: every release, with changes that a crash left incomplete, and what uploads left behind."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from urllib.parse import quote

from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.changes_file import ChangesFile
from pywharf.backends.github.changing import ReleaseChanger, recorded_revision
from pywharf.backends.github.finding import ReleaseFinder
from pywharf.backends.github.listing import Listing
from pywharf.backends.github.releases import (
    Release,
    decode_release,
    entry_of,
    tombstone_in,
    upload_began,
    with_address,
)
from pywharf.core.errors import InvalidConfigError
from pywharf.core.model import File, Project, ProjectStatus
from pywharf.core.names import ProjectName
from pywharf.index.codecs import Index
from pywharf.index.ports import JournalEntry, Progress, ScannedProject

_logger = logging.getLogger(__name__)
_LEFTOVER_AGE_S = 24 * 3600
"""Age of a draft in seconds after which no upload can still be running, so a crash left the draft behind."""


class ReleaseScanner:
    """Reads all releases of one repository."""

    def __init__(  # noqa: PLR0913 - what it reads and writes
        self,
        api: GithubApi,
        repository: str,
        *,
        listing: Listing,
        changes: ChangesFile,
        changer: ReleaseChanger,
        finder: ReleaseFinder,
        read_index: Callable[[], Awaitable[Index]],
    ) -> None:
        self._api = api
        self._repository = repository
        self._releases = f"{repository}/releases"
        self._listing = listing
        self._changes = changes
        self._changer = changer
        self._finder = finder
        self._read_index = read_index
        self._known: Index | None = None
        """The index that a scan read."""

    async def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        """See Packages.scan."""
        changes = await self._changes.read()
        pending = {
            changed.filename: entry
            for entry in changes.entries
            if entry is not None and (changed := entry.changed) is not None
        }
        releases = await self._listing.all(lambda count: progress(count, "releases"), self._complete)
        files: dict[ProjectName, list[File]] = {name: [] for name in (*changes.statuses, *changes.deleted)}
        deleted: dict[ProjectName, set[str]] = {name: set(names) for name, names in changes.deleted.items()}
        problems: list[str] = []
        for release in sorted(releases, key=lambda one: one.tag_name):
            if release.draft:
                continue
            try:
                entry = await self._settled(release, pending.get(release.tag_name))
            except InvalidConfigError as error:
                problems.append(str(error))
                continue
            own = files.setdefault(entry.project, [])
            if entry.file is not None:
                own.append(entry.file)
            elif (tombstone := tombstone_in(release)) is None or not tombstone.is_free:
                deleted.setdefault(entry.project, set()).add(release.tag_name)
        await self._remove_leftovers(releases)
        if problems:
            yield ScannedProject(None, tuple(problems))
        scanned = 0
        for name in sorted(files):
            progress(scanned, name)
            scanned += len(files[name])
            project = Project(name=name).with_files(files[name])
            status = changes.statuses.get(name, ProjectStatus())
            yield ScannedProject(project.with_status(status), deleted=tuple(sorted(deleted.get(name, ()))))

    async def _settled(self, release: Release, pending: JournalEntry | None) -> JournalEntry:
        """Return a release's entry. Complete a change that the file of changes has and the release lacks.

        Raises InvalidConfigError.
        """
        changed = pending.changed if pending is not None else None
        if pending is not None and changed is not None and recorded_revision(release) < changed.revision:
            whole = await self._finder.find(release.tag_name)
            if whole is not None:
                await self._changer.complete(self._api, whole, pending)
                return pending
        entry = entry_of(release)
        if entry.deletion is not None and release.assets and (whole := await self._finder.find(release.tag_name)):
            await self._changer.complete(self._api, whole, entry)
        return entry

    async def _complete(self, release: Release) -> Release | None:
        """Return a release with its asset's address from the index; None if the index has none for its content."""
        try:
            entry = entry_of(release)
        except InvalidConfigError:
            return release  # it is left out with or without an address
        if self._known is None:
            self._known = await self._read_index()
        if entry.file is None:
            return release  # a deleted file needs no address
        project = self._known.project(entry.project)
        file = project.file(entry.file.filename) if project is not None else None
        if file is None or file.location is None or file.sha256 != entry.file.sha256:
            return None
        return with_address(release, file.location)

    async def _remove_leftovers(self, releases: list[Release]) -> None:
        """Remove drafts of interrupted uploads. Keep those that people wrote and those that may still be under way."""
        oldest = time.time() - _LEFTOVER_AGE_S
        for release in releases:
            if release.draft and (began := upload_began(release)) is not None and began < oldest:
                await self._remove_leftover(release)

    async def _remove_leftover(self, release: Release) -> None:
        tag = await self._api.get(f"{self._repository}/git/ref/tags/{quote(release.tag_name)}")
        seen = await self._api.get(f"{self._releases}/{release.id}")
        # A draft with a tag was published once, and the person who withdrew it may want it back.
        if tag.status == HTTPStatus.NOT_FOUND and seen.status == HTTPStatus.OK and decode_release(seen.data).draft:
            await self._api.send("DELETE", f"{self._releases}/{release.id}")
            _logger.info("Removed the draft %s, which an interrupted upload had left.", release.tag_name)
