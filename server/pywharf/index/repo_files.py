"""The files of one repo: those that it holds, and those of other indexes that the server caches."""

import msgspec

from pywharf.core.errors import NotFoundError
from pywharf.core.filenames import may_be_stored
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.core.policy.withholding import refusal_of
from pywharf.index.follower import Follower
from pywharf.index.lookups import CALL_TIMEOUT_S, Lookups
from pywharf.index.policies_in_force import PoliciesInForce
from pywharf.index.ports import Backend
from pywharf.index.ports.served_content import ServedContent
from pywharf.index.shared_resources import SharedResources
from pywharf.index.threads import within
from pywharf.index.upstream.source import Source
from pywharf.index.upstream.upstream_cache import UpstreamCache


class UpstreamFile(File, frozen=True, kw_only=True, gc=False):
    """A file of another index, whose content the server caches."""

    source: Source
    """The index whose page lists it."""


class RepoFiles:
    """The files of one repo that may be downloaded."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        backend: Backend,
        follower: Follower,
        lookups: Lookups,
        policies: PoliciesInForce,
        *,
        shared: SharedResources,
        max_file_bytes: int,
    ) -> None:
        self._backend = backend
        self._follower = follower
        self._lookups = lookups
        self._policies = policies
        self._max_file_bytes = max_file_bytes
        self._cache = shared.cache if lookups.upstream.is_cached else None

    async def find(self, name: ProjectName, filename: str) -> File:
        """Return a file that may be downloaded. The repo's own one counts where another index has the name, too.

        Raises IndexNotLoadedError, NotFoundError, WithheldError, UpstreamError.
        """
        project = (await self._follower.latest()).project(name)
        file = project.file(filename) if project else None
        owned = project is not None
        if file is None and self._cache is not None:
            if not owned:
                project = await self._lookups.stored_lately(name)
                file = project.file(filename) if project else None
                owned = project is not None
            foreign = await self._find_foreign(self._cache, name, filename, owned=owned) if file is None else None
            if foreign is not None:
                return foreign
        if file is None and may_be_stored(filename):
            # The client may know it from the page of another server, which accepted it a moment ago.
            project = await self._lookups.stored(name, filename)
            file = project.file(filename) if project else None
        if project is None or file is None:
            raise NotFoundError.no_file(filename, name)
        return await self._offered(project, file, foreign=False)

    async def _find_foreign(
        self, cache: UpstreamCache, name: ProjectName, filename: str, *, owned: bool
    ) -> UpstreamFile | None:
        answer = await self._lookups.foreign_for_file(name, owned=owned)
        listed = answer.project.file(filename) if answer is not None else None
        if answer is None or listed is None:
            # It may have been published since the kept page was confirmed.
            answer = await self._lookups.foreign(name, owned=owned)
            listed = answer.project.file(filename) if answer is not None else None
        if answer is None or listed is None:
            return None
        file = listed if listed.sha256 else await cache.files.known(answer.source, name, listed)
        await self._offered(answer.project, file, foreign=True)
        if self._follower.catalog.source(name) is not None and not self._lookups.may_be_foreign(name, owned=True):
            return None  # it was published here meanwhile
        return UpstreamFile(**msgspec.structs.asdict(file), source=answer.source)

    async def _offered(self, project: Project, file: File, *, foreign: bool) -> File:
        """Return the file. Raises NotFoundError if its project offers none, WithheldError."""
        if not project.offers_files:
            raise NotFoundError(f"The project {project.name!r} is {project.status}; its files are not offered.")
        while (enforcement := self._policies.current()) is not None and enforcement.concerns(
            project.name, foreign=foreign
        ):
            withheld = await enforcement.check(project, file, foreign=foreign)
            if self._policies.current() is enforcement:
                if withheld is not None:
                    raise refusal_of(withheld)
                break
        return file

    async def open(self, name: ProjectName, file: File) -> ServedContent:
        """Open the content of a file that was found. Raises NotFoundError, BackendUnavailableError, UpstreamError."""
        if isinstance(file, UpstreamFile) and self._cache is not None:
            return await self._cache.files.open(file.source, name, file, max_bytes=self._max_file_bytes)
        async with within(CALL_TIMEOUT_S):
            return await self._backend.open_file(name, file)

    async def metadata(self, name: ProjectName, file: File) -> bytes:
        """Read a found file's core metadata. Raises NotFoundError, BackendUnavailableError, UpstreamError."""
        if isinstance(file, UpstreamFile) and self._cache is not None:
            return await self._cache.files.metadata(file.source, name, file)
        async with within(CALL_TIMEOUT_S):
            return await self._backend.read_metadata(name, file)
