"""One repo as clients see it: its pages, files and uploads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import quote

import msgspec

from pywharf.core.errors import NotFoundError
from pywharf.core.filenames import DistributionFilename, may_be_stored
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.negotiation import PageFormat
from pywharf.core.simple import project_html, project_json, root_html, root_json
from pywharf.index.change_probes import ChangeProbes
from pywharf.index.follower import Follower
from pywharf.index.generations import Generation
from pywharf.index.page_cache import Page, PageCache
from pywharf.index.ports import Backend, Content
from pywharf.index.publish import publish
from pywharf.index.staging import StagedFile
from pywharf.index.threads import within
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.index.upstream.pages import may_look_up

_LARGE_ROOT = 2_000
_LARGE_PROJECT = 200
"""Entries above which rendering a page would hold up the event loop."""
_MAX_CONCURRENT_LOOKUPS = 2
"""Concurrent project lookups in the storage itself; a large project occupies a thread."""
_CALL_TIMEOUT_S = 60.0
"""Seconds for a storage call that a request waits for, including the wait for a slot."""
_FOREIGN_FILE_BYTES = 1024
"""Approximate bytes of memory that a file of another index takes."""


class UpstreamPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The URL of the other index, and the rules for the names that are looked up there."""

    url: str | None = None
    """The URL of the other index; None: no names are looked up."""
    reserved: tuple[str, ...] = ()
    allow_shadowing: tuple[str, ...] = ()


class Repository:
    """The use cases of one repo. The caller has already checked the client's permission."""

    def __init__(  # noqa: PLR0913 - its parts, all by name
        self,
        *,
        name: RepoName,
        backend: Backend,
        upstream: UpstreamPolicy,
        extra_index: ExtraIndex,
        pages: PageCache,
        max_file_bytes: int,
        checks: asyncio.Semaphore,
        on_parse: Callable[[], None] = lambda: None,
        change_probes: ChangeProbes | None = None,
        generation: Generation | None = None,
    ) -> None:
        self.name = name
        self.backend = backend
        self.max_file_bytes = max_file_bytes
        self.follower = Follower(name, backend, on_parse, change_probes, generation)
        self._upstream = upstream
        self._extra_index = extra_index
        self._pages = pages
        self._checks = checks
        """Slots for uploads that are being checked, shared by all repos."""
        self._own_check = asyncio.Lock()
        self._lookup_slots = asyncio.Semaphore(_MAX_CONCURRENT_LOOKUPS)

    async def root_page(self, page_format: PageFormat) -> Page:
        """Return the page of all projects. Raises IndexNotLoadedError."""
        names = (await self.follower.latest()).names()
        is_json = page_format is PageFormat.JSON
        return await self._pages.get_or_make(
            (self.name, None, is_json),
            names,
            lambda: root_json(names) if is_json else root_html(names),
            large=len(names) > _LARGE_ROOT,
        )

    async def project_page(self, name: ProjectName, page_format: PageFormat) -> Page:
        """Return a project's page: the repo's own, otherwise the extra index's; both merged where shadowing is allowed.

        Raises IndexNotLoadedError, NotFoundError, UpstreamError.
        """
        is_json = page_format is PageFormat.JSON
        catalog = await self.follower.latest()
        source = catalog.source(name)
        if source is not None and not self._may_look_up(name, owned=True):
            page = self._pages.get((self.name, name, is_json), source)
            if page is not None:
                return page
            return await self._own_page(name, catalog.project(name), source, is_json=is_json)
        # Another server may have just accepted an upload of this name, so the storage itself is asked.
        own = catalog.project(name) if source is not None else await self._find(name)
        foreign = None
        if self._upstream.url is not None and self._may_look_up(name, owned=own is not None):
            foreign = await self._extra_index.project(self._upstream.url, name)
        if own is None and self.follower.catalog.source(name) is not None:
            return await self.project_page(name, page_format)  # it was published here in the meantime
        if foreign is None:
            if own is None:
                raise _no_project(name)
            return await self._own_page(name, own, source if source is not None else own, is_json=is_json)
        merged = _merged(own, foreign)
        return await self._pages.get_or_make(
            (self.name, name, is_json, self._upstream.url),
            (own, foreign),
            lambda: project_json(merged, foreign=True) if is_json else project_html(merged, foreign=True),
            large=len(merged.files) > _LARGE_PROJECT,
            source_bytes=len(merged.files) * _FOREIGN_FILE_BYTES,
        )

    async def find_file(self, name: ProjectName, filename: str) -> File:
        """Return a file that may be downloaded. Raises IndexNotLoadedError, NotFoundError."""
        project = (await self.follower.latest()).project(name)
        file = project.file(filename) if project else None
        if file is None and may_be_stored(filename):
            # The client may know it from the page of another server, which accepted it a moment ago.
            async with within(_CALL_TIMEOUT_S), self._lookup_slots:
                project = await self.backend.find_project(name, filename)
            file = project.file(filename) if project else None
        if project is None or file is None:
            raise NotFoundError(f"This repo has no file {filename[:240]!r} of the project {name!r}.")
        if not project.offers_files:
            raise NotFoundError(f"The project {name!r} is {project.status}; its files are not offered.")
        return file

    async def open_file(self, name: ProjectName, file: File) -> Content:
        """Open a file's content. Raises NotFoundError, BackendUnavailableError."""
        async with within(_CALL_TIMEOUT_S):
            return await self.backend.open_file(name, file)

    async def read_metadata(self, name: ProjectName, file: File) -> bytes:
        """Read a file's core metadata. Raises NotFoundError, BackendUnavailableError."""
        async with within(_CALL_TIMEOUT_S):
            return await self.backend.read_metadata(name, file)

    async def publish(
        self, filename: DistributionFilename, form: Mapping[str, str], staged: StagedFile, secret: str | None = None
    ) -> File:
        """Check and store an upload. See `pywharf.index.publish`."""
        return await publish(
            self.backend, self.follower, filename, form, staged, secret=secret, slot=self._check_slot()
        )

    @contextlib.asynccontextmanager
    async def _check_slot(self) -> AsyncIterator[None]:
        """Hold a slot to check an upload. A repo holds at most one, so its uploads leave slots to other repos."""
        async with self._own_check, self._checks:
            yield

    async def _find(self, name: ProjectName) -> Project | None:
        async with within(_CALL_TIMEOUT_S), self._lookup_slots:
            return await self.backend.find_project(name)

    def _may_look_up(self, name: ProjectName, *, owned: bool) -> bool:
        policy = self._upstream
        if policy.url is None:
            return False
        return may_look_up(name, owned=owned, reserved=policy.reserved, allow_shadowing=policy.allow_shadowing)

    async def _own_page(self, name: ProjectName, project: Project | None, source: object, *, is_json: bool) -> Page:
        if project is None:
            raise _no_project(name)
        key = (self.name, name, is_json)
        page = self._pages.get(key, source)
        if page is not None:
            return page
        shown = await self._with_sizes(project) if is_json else project
        return await self._pages.get_or_make(
            key,
            source,
            lambda: project_json(shown) if is_json else project_html(shown),
            large=len(shown.files) > _LARGE_PROJECT,
        )

    async def _with_sizes(self, project: Project) -> Project:
        """Add the sizes that the original did not record; a JSON page omits a file without a size."""
        if all(f.size is not None for f in project.files):
            return project
        stored = await self._find(project.name)
        found = {(f.filename, f.sha256): f for f in stored.files} if stored is not None else {}
        return msgspec.structs.replace(
            project, files=tuple(_sized(f, found.get((f.filename, f.sha256), f)) for f in project.files)
        )


def _sized(file: File, stored: File) -> File:
    if file.size is not None:
        return file
    return msgspec.structs.replace(file, size=stored.size, upload_time=file.upload_time or stored.upload_time)


def _no_project(name: ProjectName) -> NotFoundError:
    return NotFoundError(f"This repo has no project {name!r}.")


def _merged(own: Project | None, foreign: Project) -> Project:
    """Merge the repo's own files, whose links stay relative, with the other index's files after them."""
    if own is None:
        return foreign
    files = [msgspec.structs.replace(f, location=quote(f.filename)) for f in own.files if own.offers_files]
    names = {f.filename for f in files}
    rest = [f for f in foreign.files if f.filename not in names] if foreign.offers_files else []
    return msgspec.structs.replace(own, files=(*files, *rest))
