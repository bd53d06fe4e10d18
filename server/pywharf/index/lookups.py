"""What a repo asks of its storage and of another index about one project."""

import asyncio
from typing import Final

import msgspec

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.ports import Backend
from pywharf.index.threads import within
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.index.upstream.pages import may_look_up

_MAX_CONCURRENT: Final = 2
"""Concurrent project lookups in the storage itself; a large project occupies a thread."""
CALL_TIMEOUT_S: Final = 60.0
"""Seconds for a storage call that a request waits for, including the wait for a slot."""


class UpstreamPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The URL of the other index, and the rules for the names that are looked up there."""

    url: str | None = None
    """The URL of the other index; None: no names are looked up."""
    reserved: tuple[str, ...] = ()
    allow_shadowing: tuple[str, ...] = ()


class Lookups:
    """The lookups of one repo."""

    def __init__(self, backend: Backend, extra_index: ExtraIndex, upstream: UpstreamPolicy) -> None:
        self.upstream = upstream
        self._backend = backend
        self._extra_index = extra_index
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    async def stored(self, name: ProjectName, filename: str | None = None) -> Project | None:
        """Return the storage's project, or None; with `filename`, at least that file of it."""
        async with within(CALL_TIMEOUT_S), self._slots:
            return await self._backend.find_project(name, filename)

    def may_be_foreign(self, name: ProjectName, *, owned: bool) -> bool:
        """Return whether the other index may be asked for the name. `owned`: the repo has a project of that name."""
        policy = self.upstream
        if policy.url is None:
            return False
        return may_look_up(name, owned=owned, reserved=policy.reserved, allow_shadowing=policy.allow_shadowing)

    async def foreign(self, name: ProjectName, *, owned: bool) -> Project | None:
        """Return the other index's project, or None if it has none or may not be asked. Raises UpstreamError."""
        if self.upstream.url is None or not self.may_be_foreign(name, owned=owned):
            return None
        return await self._extra_index.project(self.upstream.url, name)

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
