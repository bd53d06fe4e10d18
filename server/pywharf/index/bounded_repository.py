"""One repo as a client sees it whose access entries name only some of its projects."""

from collections.abc import Mapping

from pywharf.core.access.projects import ProjectFilter
from pywharf.core.errors import ForbiddenError, NotFoundError
from pywharf.core.filenames import DistributionFilename
from pywharf.core.model import File
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.negotiation import PageFormat
from pywharf.index.changes import Changed, Request
from pywharf.index.page_cache import Page
from pywharf.index.ports.served_content import ServedContent
from pywharf.index.repository import Repository
from pywharf.index.staging import StagedFile
from pywharf.index.upstream.pinning import Pinning


class BoundedRepository:
    """A repository whose other projects do not exist for the client, wherever they come from.

    What the client may publish is checked before, by its grant.
    """

    def __init__(self, repository: Repository, visible: ProjectFilter) -> None:
        self._repository = repository
        self._visible = visible

    @property
    def name(self) -> RepoName:
        """Return the repo's name."""
        return self._repository.name

    def require_loaded(self) -> None:
        """See Repository."""
        self._repository.require_loaded()

    def index_mtime(self) -> int:
        """Raise ForbiddenError: the time shows when other projects are published to or changed."""
        raise ForbiddenError("The index is about all projects of the repo; your access entries show you some of them.")

    async def root_page(self, page_format: PageFormat) -> Page:
        """Return the page of those projects that the client sees. See Repository."""
        return await self._repository.root_page(page_format, self._visible)

    async def project_page(self, name: ProjectName, page_format: PageFormat) -> Page:
        """Return a project's page. See Repository."""
        if not self._visible.allows(name):
            self._repository.require_loaded()
            raise NotFoundError.no_project(name)
        return await self._repository.project_page(name, page_format)

    async def find_file(self, name: ProjectName, filename: str) -> File:
        """Return a file that may be downloaded. See Repository."""
        if not self._visible.allows(name):
            self._repository.require_loaded()
            raise NotFoundError.no_file(filename, name)
        return await self._repository.find_file(name, filename)

    async def open_file(self, name: ProjectName, file: File) -> ServedContent:
        """See Repository; the file was found by `find_file`."""
        return await self._repository.open_file(name, file)

    async def read_metadata(self, name: ProjectName, file: File) -> bytes:
        """See Repository; the file was found by `find_file`."""
        return await self._repository.read_metadata(name, file)

    def pinning(self) -> Pinning:
        """See Repository. The caller checks the project against the client's grant."""
        return self._repository.pinning()

    def stage(self) -> StagedFile:
        """See Repository."""
        return self._repository.stage()

    async def publish(
        self, filename: DistributionFilename, form: Mapping[str, str], staged: StagedFile, secret: str | None = None
    ) -> File:
        """See Repository."""
        return await self._repository.publish(filename, form, staged, secret)

    async def change(self, name: ProjectName, request: Request, secret: str | None = None) -> Changed:
        """See Repository."""
        return await self._repository.change(name, request, secret)


SeenRepository = Repository | BoundedRepository
"""A repo as one client sees it."""
