"""Copy from another index by its Simple API, as HTML or JSON."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from urllib.parse import urljoin

import msgspec

from pywharf.core.errors import InvalidConfigError, InvalidInputError, NotFoundError, PywharfError, UpstreamError
from pywharf.core.filenames import extension_of, parse_upload_filename
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.copying.retrying import TRANSIENT, Retrying
from pywharf.index.copying.source import Opened, SourceProject
from pywharf.index.ports import Progress
from pywharf.index.upstream.extra_index import FetchedPage
from pywharf.index.upstream.pages import ACCEPT, parse_page
from pywharf.index.upstream.root_page import parse_root

_MAX_LOST = 10
"""Pages in a row that cannot be read, after which the index counts as gone."""


class IndexClient(Protocol):
    """An HTTP client of one index, bounded in time and size."""

    async def page(self, url: str, accept: str) -> FetchedPage:
        """Fetch a page with status 200. Raises NotFoundError, ForbiddenError, UpstreamError, UnavailableError."""

    def download(self, url: str) -> AbstractAsyncContextManager[Opened]:
        """Open a file's content. Raises NotFoundError, ForbiddenError, UpstreamError, UnavailableError."""

    async def aclose(self) -> None:
        """Close the connections."""


class SimpleIndexSource:
    """An index with a root page that lists its projects, unless the wanted ones are all named."""

    is_repo = False
    is_local = False

    def __init__(  # noqa: PLR0913 - all by name
        self,
        url: str,
        client: IndexClient,
        *,
        parallel: int,
        wanted: Callable[[ProjectName], bool],
        names: Sequence[ProjectName] = (),
        reading: Retrying,
    ) -> None:
        self._url = url.rstrip("/") + "/"
        self._client = client
        self._parallel = parallel
        self._wanted = wanted
        self._names = tuple(names)
        """The wanted projects, if all are named: then no list of projects is needed."""
        self._reading = reading

    async def scan(self, progress: Progress) -> AsyncIterator[SourceProject]:
        names, problems = await self._listed()
        if problems:
            yield SourceProject(None, problems)
        scanned = lost = 0
        async with contextlib.aclosing(self._pages(names)) as pages:
            async for name, found in pages:
                progress(scanned, name)
                if isinstance(found, PywharfError):
                    lost += isinstance(found, TRANSIENT)
                    if lost >= _MAX_LOST:
                        raise found
                    yield SourceProject(None, (f"{name} is left out: {found}",))
                    continue
                lost = 0
                scanned += len(found.project.files) if found.project is not None else 0
                yield found

    async def _listed(self) -> tuple[tuple[ProjectName, ...], tuple[str, ...]]:
        """Return the names of the projects, and a sentence for each name that cannot be one."""
        if self._names:
            return self._names, ()
        try:
            page = await self._reading.run(lambda: self._client.page(self._url, ACCEPT))
        except NotFoundError as error:
            raise InvalidConfigError(
                f"FROM: {self._url} has no list of projects. Give the URL of a Simple index, which often ends in "
                "/simple/, or name the projects with --projects."
            ) from error
        names, problems = await asyncio.to_thread(parse_root, page.content, page.content_type)
        return tuple(filter(self._wanted, names)), problems

    async def _pages(
        self, names: Iterable[ProjectName]
    ) -> AsyncGenerator[tuple[ProjectName, SourceProject | PywharfError], None]:
        """Read the projects' pages in order, a few concurrently."""
        running: list[tuple[ProjectName, asyncio.Task[SourceProject | PywharfError]]] = []
        rest = iter(names)
        try:
            while True:
                while len(running) < self._parallel and (name := next(rest, None)) is not None:
                    running.append((name, asyncio.create_task(self._project(name))))
                if not running:
                    return
                name, task = running[0]
                found = await task
                del running[0]
                yield name, found
        finally:
            for _, task in running:
                task.cancel()
            await asyncio.gather(*(task for _, task in running), return_exceptions=True)

    async def _project(self, name: ProjectName) -> SourceProject | PywharfError:
        try:
            page = await self._reading.run(lambda: self._client.page(urljoin(self._url, f"{name}/"), ACCEPT))
            project = await asyncio.to_thread(parse_page, name, page.content, page.content_type, page.url)
        except (NotFoundError, UpstreamError, *TRANSIENT) as error:
            return error
        return await asyncio.to_thread(_copyable, project)

    async def sha256(self, project: ProjectName, file: File) -> str:
        del project
        return file.sha256

    def open(self, project: ProjectName, file: File) -> AbstractAsyncContextManager[Opened]:
        del project
        return self._client.download(file.location or "")

    async def metadata(self, project: ProjectName, file: File) -> bytes:
        del project
        raise NotFoundError.no_core_metadata(file.filename)

    async def aclose(self) -> None:
        await self._client.aclose()


def _copyable(project: Project) -> SourceProject:
    """Sort out what is no distribution, or not one of this project."""
    files: dict[str, File] = {}
    problems: list[str] = []
    ignored = 0
    for file in project.files:
        if extension_of(file.filename) is None:
            ignored += 1
            continue
        try:
            parsed = parse_upload_filename(file.filename)
        except InvalidInputError as error:
            problems.append(f"{project.name}: {error}")
            continue
        if parsed.project != project.name:
            problems.append(f"{project.name}/{file.filename} is left out: its name says {parsed.project!r}.")
        elif files.setdefault(file.filename, file).sha256 != file.sha256:
            problems.append(f"{project.name}/{file.filename} is left out: the page lists it again with other bytes.")
    kept = tuple(files[name] for name in sorted(files))
    return SourceProject(msgspec.structs.replace(project, files=kept), tuple(problems), ignored=ignored)
