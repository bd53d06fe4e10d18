"""What a repo asks of its storage and of another index about one project."""

import asyncio
import time
from typing import Final

import msgspec
from cachetools import LRUCache

from pywharf.core.errors import NotFoundError, UpstreamError
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import Backend
from pywharf.index.shared_resources import SharedResources
from pywharf.index.threads import within
from pywharf.index.upstream.pages import may_look_up
from pywharf.index.upstream.source import Source
from pywharf.index.upstream.sources import Answer, Ask, first_answer

_MAX_CONCURRENT: Final = 2
"""Concurrent project lookups in the storage itself; a large project occupies a thread."""
_MAX_MISSING: Final = 4_096
MISSING_S: Final = 1.0
"""Seconds for which a name that the storage lacks is taken as not the repo's, where pages and files are kept."""
CALL_TIMEOUT_S: Final = 60.0
"""Seconds for a storage call that a request waits for, including the wait for a slot."""


class UpstreamPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The other indexes, and the rules for the names that are looked up there."""

    sources: tuple[Source, ...] = ()
    """The other indexes in order; empty: no names are looked up."""
    is_cached: bool = False
    """Whether their pages and files are kept, and served with this server's own links."""
    reserved: tuple[str, ...] = ()
    allow_shadowing: tuple[str, ...] = ()


class Lookups:
    """The lookups of one repo."""

    def __init__(self, repo: RepoName, backend: Backend, upstream: UpstreamPolicy, shared: SharedResources) -> None:
        self._repo = repo
        self.upstream = upstream
        self._backend = backend
        self._ask: Ask = shared.extra_index.project
        self._ask_for_file: Ask = shared.extra_index.project
        self._kept = shared.cache.pages if upstream.is_cached and shared.cache is not None else None
        if self._kept is not None:
            self._ask, self._ask_for_file = self._kept.project, self._kept.project_of_file
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._missing: LRUCache[ProjectName, float] = LRUCache(_MAX_MISSING)
        """Names that the storage did not have lately, with the monotonic time until which that counts."""

    async def stored(self, name: ProjectName, filename: str | None = None) -> Project | None:
        """Return the storage's project, or None; with `filename`, at least that file of it."""
        async with within(CALL_TIMEOUT_S), self._slots:
            return await self._backend.find_project(name, filename)

    async def stored_lately(self, name: ProjectName) -> Project | None:
        """Return the storage's project, or None if it had none within the last second."""
        if self._is_missing(name):
            return None
        async with within(CALL_TIMEOUT_S), self._slots:
            if self._is_missing(name):  # another caller asked meanwhile
                return None
            asked_at = time.monotonic()
            project = await self._backend.find_project(name, None)
        if project is None:
            self._missing[name] = asked_at + MISSING_S
        return project

    def _is_missing(self, name: ProjectName) -> bool:
        return self._missing.get(name, 0.0) > time.monotonic()

    def may_be_foreign(self, name: ProjectName, *, owned: bool) -> bool:
        """Return whether the other index may be asked for the name. `owned`: the repo has a project of that name."""
        policy = self.upstream
        if not policy.sources:
            return False
        return may_look_up(name, owned=owned, reserved=policy.reserved, allow_shadowing=policy.allow_shadowing)

    async def foreign(self, name: ProjectName, *, owned: bool) -> Answer | None:
        """Return another index's project, or None if none has it or may be asked. Raises UpstreamError."""
        return await self._first_answer(self._ask, name, owned=owned)

    async def foreign_for_file(self, name: ProjectName, *, owned: bool) -> Answer | None:
        """Return the same for a download, for which a kept page is recent enough. Raises UpstreamError."""
        return await self._first_answer(self._ask_for_file, name, owned=owned)

    async def _first_answer(self, ask: Ask, name: ProjectName, *, owned: bool) -> Answer | None:
        if not self.may_be_foreign(name, owned=owned):
            return None
        try:
            return await first_answer(ask, self.upstream.sources, name)
        except NotFoundError:
            return await self._pinned_answer(name)
        except UpstreamError:
            pinned = await self._pinned_answer(name)
            if pinned is None:
                raise
            return pinned

    async def _pinned_answer(self, name: ProjectName) -> Answer | None:
        if self._kept is None:
            return None
        return await self._kept.pinned_answer(self._repo, self.upstream.sources, name)

    async def with_sizes(self, project: Project) -> Project:
        """Add the sizes that the original did not record; a JSON page omits a file without a size."""
        if all(f.size is not None for f in project.files):
            return project
        stored = await self.stored(project.name)
        found = {(f.filename, f.sha256): f for f in stored.files} if stored is not None else {}
        return msgspec.structs.replace(
            project, files=tuple(_sized(f, found.get((f.filename, f.sha256), f)) for f in project.files)
        )


def _sized(file: File, stored: File) -> File:
    if file.size is not None:
        return file
    return msgspec.structs.replace(file, size=stored.size, upload_time=file.upload_time or stored.upload_time)
