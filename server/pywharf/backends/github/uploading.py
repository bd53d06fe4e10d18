"""Publish an upload as a release, unless its distribution is published under another name.

GitHub allows each tag once, but two spellings of a distribution are two tags. So an upload looks for doubles before it
publishes, and for rivals afterwards.
"""

import asyncio
import logging

from cachetools import FIFOCache

from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.changes_file import ChangesFile
from pywharf.backends.github.finding import ReleaseFinder
from pywharf.backends.github.newest import NewestReleases
from pywharf.backends.github.publishing import publish_release, withdraw_release
from pywharf.backends.github.releases import Release, entry_of, tombstone_in
from pywharf.config.repo_config import GithubSpec
from pywharf.core.duplicates import find_duplicate, identity
from pywharf.core.errors import BackendUnavailableError, FileExistsInRepoError
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.ports import Upload

_logger = logging.getLogger(__name__)
_RECENT = 4096
_RIVAL_CHECKS = 5
_RIVAL_PAUSE_S = 1.0
"""Seconds between two checks whether a release of the same distribution and second has been withdrawn."""


class ReleaseUploads:
    """The uploads into one repository."""

    def __init__(self, spec: GithubSpec, newest: NewestReleases, changes: ChangesFile, finder: ReleaseFinder) -> None:
        self._repository = f"/repos/{spec.owner}/{spec.repo}"
        self._branch = spec.branch
        self._newest = newest
        self._changes = changes
        self._finder = finder
        self._own: FIFOCache[str, str] = FIFOCache(_RECENT)

    def address_of(self, filename: str) -> str | None:
        """Return the asset's address of a file that was published here and that may not be in the index yet."""
        return self._own.get(filename)

    async def publish(self, api: GithubApi, upload: Upload) -> File:
        """Publish an upload (see Packages)."""
        name = upload.file.filename
        known = [f.filename for f in upload.known.files] if upload.known is not None else []
        taken = self._names(upload.project)
        if taken.get(name) and name in (await self._changes.read()).deleted.get(upload.project, ()):
            raise FileExistsInRepoError(name, is_deleted=True)
        double = find_duplicate(name, upload.project, [*known, *taken])
        if double is not None and taken.get(double):
            raise FileExistsInRepoError(name, double, is_deleted=True)
        if double is not None and name not in known:
            found = await self._finder.find(double)
            if found is not None and not found.draft:
                raise FileExistsInRepoError(name, double, is_deleted=tombstone_in(found) is not None)
        published = await publish_release(api, f"{self._repository}/releases", self._branch, upload)
        release = published.release
        if not published.is_new:
            stored = entry_of(release).file or upload.file
            if stored.revision and not upload.is_shown(stored.sha256):
                # The release of a freed name may be an old one, which is not among the newest.
                await self._changes.update(lambda now: now.with_newer(upload.project, stored), api)
            return stored
        if (double := await self._lost_to(upload, release)) is not None:
            await withdraw_release(api, self._repository, release)
            is_deleted = self._names(upload.project).get(double, False)
            raise FileExistsInRepoError(name, double, is_deleted=is_deleted)
        if release.content is not None:
            self._own[name] = release.content.url
        return upload.file

    def _names(self, project: ProjectName) -> dict[str, bool]:
        """Return the project's names that are taken by the newest releases and by deleted files, as last read.

        The value is whether the file was deleted.
        """
        return self._newest.journal.names(project) | dict.fromkeys(self._changes.last.deleted.get(project, ()), True)

    async def _lost_to(self, upload: Upload, mine: Release) -> str | None:
        """Return the tag of another release of the same distribution that stays; None if this one stays.

        Each upload checks for rivals after it is published, and the later one of two withdraws. Time does not order
        two releases of the same second: the one with the higher id withdraws if it sees the other one, which waits.
        """
        rivals: list[Release] = []
        for _ in range(_RIVAL_CHECKS):
            try:
                await self._newest.probe()
            except BackendUnavailableError as error:
                _logger.warning("Whether %s is published twice is not known: %s", mine.tag_name, error)
                return None
            rivals = self._rivals(upload, mine)
            if not rivals:
                return None
            if any(_order(rival) < _order(mine) for rival in rivals):
                break
            await asyncio.sleep(_RIVAL_PAUSE_S)
        return rivals[0].tag_name

    def _rivals(self, upload: Upload, mine: Release) -> list[Release]:
        """Return the releases of the same distribution that were published before this one, or in the same second."""
        key = identity(mine.tag_name, upload.project)
        names = {n for n in self._names(upload.project) if identity(n, upload.project) == key}
        others = [r for r in self._newest.releases if not r.draft and r.tag_name in names and r.id != mine.id]
        return [r for r in others if (r.published_at or "") <= (mine.published_at or "")]


def _order(release: Release) -> tuple[str, int]:
    """Return a key that sorts releases by time. Times are whole seconds, so the id decides between equal ones."""
    return release.published_at or "", release.id
