"""One repo as the rest of the server sees it: its pages, files, uploads and state."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Literal

import msgspec

from pywharf.core.access.projects import ProjectFilter
from pywharf.core.errors import PywharfError
from pywharf.core.filenames import DistributionFilename
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.negotiation import PageFormat
from pywharf.core.policy.evaluation import RepoPolicies
from pywharf.core.reports import FailingSource
from pywharf.core.simple import root_html, root_json
from pywharf.index.changes import Changed, Request, change
from pywharf.index.follower import Follower
from pywharf.index.listed_projects import ListedProjects
from pywharf.index.lookups import Lookups, UpstreamPolicy
from pywharf.index.page_cache import Page
from pywharf.index.pinnable_files import PinnableFiles
from pywharf.index.policies_in_force import PoliciesInForce
from pywharf.index.ports import Backend, Claims, RateLimit, RateLimited
from pywharf.index.ports.served_content import ServedContent
from pywharf.index.publish import publish
from pywharf.index.repo_files import RepoFiles
from pywharf.index.repo_pages import RepoPages
from pywharf.index.shared_resources import SharedResources
from pywharf.index.staging import StagedFile
from pywharf.index.upstream.pinning import Pinning, nothing_kept

_LARGE_ROOT = 2_000
_LARGE_FILTERED_ROOT = 50
"""Entries above which rendering a page would hold up the event loop."""


class RepoStatus(msgspec.Struct, frozen=True):
    """The state of one repo at one moment."""

    state: Literal["loading", "failing", "ready"]
    """Loading: the first read of the storage is not over. Failing: the last read failed, whatever an older one gave."""
    failure: PywharfError | None
    """Why the last read failed; None if it did not."""
    rate_limit: RateLimit | None
    """The requests that the storage still accepts, if it counts them and has reported that."""


class Repository:
    """One repo: its pages, files, uploads and state. It owns the backend and the follower, and closes them.

    For the rest of the server it is the only way to them. The caller has already checked the client's permission.
    Policies apply to pages, downloads and uploads, and nothing of them is written to the storage.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        name: RepoName,
        backend: Backend,
        follower: Follower,
        *,
        upstream: UpstreamPolicy,
        max_file_bytes: int,
        shared: SharedResources,
    ) -> None:
        self.name = name
        self._backend = backend
        self._rate_limited = backend if isinstance(backend, RateLimited) else None
        self._claims: Claims = backend if isinstance(backend, Claims) else shared.claims.of(name)
        self._follower = follower
        self._upstream = upstream
        self._max_file_bytes = max_file_bytes
        self._shared = shared
        self._policies = PoliciesInForce(name, shared.advisories, shared.clock, shared.evaluations)
        lookups = Lookups(name, backend, upstream, shared)
        self._project_pages = RepoPages(name, follower, lookups, self._policies, shared)
        self._files = RepoFiles(
            backend, follower, lookups, self._policies, shared=shared, max_file_bytes=max_file_bytes
        )
        self._pinning: Pinning | None = None
        if upstream.is_cached and shared.cache is not None:
            files = PinnableFiles(self._files, shared.cache, max_file_bytes)
            self._pinning = Pinning(
                name, shared.cache.store, files, max_bytes=shared.cache.max_bytes, of_all=shared.cache.pinned
            )
        self._listed = ListedProjects()
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the storage. `stop` or `aclose` ends that."""
        self._following = asyncio.create_task(self._follower.run(), name=f"follow {self.name}")

    async def stop(self) -> None:
        """Stop following the storage; requests go on."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following

    async def aclose(self) -> None:
        """Stop following the storage and pinning, and close the backend."""
        await self.stop()
        if self._pinning is not None:
            await self._pinning.aclose()
        await self._backend.aclose()

    async def first_read(self) -> None:
        """Wait until the first read of the storage has succeeded or failed."""
        await self._follower.first_read()

    def status(self) -> RepoStatus:
        """Return the repo's state now; reads nothing."""
        failure = self._follower.failure
        state: Literal["loading", "failing", "ready"] = "ready" if self._follower.is_loaded else "loading"
        return RepoStatus(
            state="failing" if failure is not None else state,
            failure=failure,
            rate_limit=self._rate_limited.rate_limit if self._rate_limited is not None else None,
        )

    def require_loaded(self) -> None:
        """Raise IndexNotLoadedError before the first successful read of the storage."""
        self._follower.require_loaded()

    def index_mtime(self) -> int:
        """Return the Unix seconds when the index was written; see Follower. Raises IndexNotLoadedError."""
        return self._follower.index_mtime

    def enforce(self, policies: RepoPolicies | None) -> None:
        """Apply these policies from now on, in one step; None: none. Reads nothing.

        Pages stay cached if they are the same object as before.
        """
        self._policies.use(policies)

    async def root_page(self, page_format: PageFormat, visible: ProjectFilter | None = None) -> Page:
        """Return the page of all projects that may have a file; of those, only the ones visible to the client.

        Raises IndexNotLoadedError.
        """
        names = await self._names()
        is_json = page_format is PageFormat.JSON

        def make() -> Page:
            shown = names if visible is None else visible.of(names)
            return Page(root_json(shown) if is_json else root_html(shown))

        # Filtered pages are pages like others to the cache: it bounds what all of them take.
        key = (self.name, visible, is_json)
        large = len(names) > (_LARGE_ROOT if visible is None else _LARGE_FILTERED_ROOT)
        return await self._shared.pages.get_or_make(key, names, make, repo=self.name, large=large)

    async def _names(self) -> tuple[ProjectName, ...]:
        while True:
            catalog, enforcement = await self._follower.latest(), self._policies.current()
            if enforcement is None:
                return catalog.names()
            names = await self._listed.names(catalog, enforcement)
            if self._policies.current() is enforcement:
                return names

    async def project_page(self, name: ProjectName, page_format: PageFormat) -> Page:
        """Return a project's page. See `pywharf.index.repo_pages`."""
        return await self._project_pages.page(name, page_format)

    async def find_file(self, name: ProjectName, filename: str) -> File:
        """Return a file that may be downloaded. See `pywharf.index.repo_files`."""
        return await self._files.find(name, filename)

    async def open_file(self, name: ProjectName, file: File) -> ServedContent:
        """Open the content of a file that was found. Raises NotFoundError, BackendUnavailableError, UpstreamError."""
        return await self._files.open(name, file)

    async def read_metadata(self, name: ProjectName, file: File) -> bytes:
        """Read a found file's core metadata. Raises NotFoundError, BackendUnavailableError, UpstreamError."""
        return await self._files.metadata(name, file)

    def failing_sources(self) -> tuple[FailingSource, ...]:
        """Return the other indexes that fail; asks none."""
        return self._shared.extra_index.health.failing(one.url for one in self._upstream.sources)

    def pinning(self) -> Pinning:
        """Return the repo's pins. Raises NotFoundError if the repo keeps no files of other indexes."""
        if self._pinning is None:
            raise nothing_kept()
        return self._pinning

    def stage(self) -> StagedFile:
        """Return a file for an upload, to receive it within its context; a file not published is then removed."""
        return StagedFile(self._backend.staging_folder, self._max_file_bytes, self._shared.staging.share_of(self.name))

    async def publish(
        self, filename: DistributionFilename, form: Mapping[str, str], staged: StagedFile, secret: str | None = None
    ) -> File:
        """Check and store an upload. See `pywharf.index.publish`."""
        return await publish(
            self._backend,
            self._follower,
            filename,
            form,
            staged,
            secret=secret,
            slot=self._shared.checks.one(self.name),
            with_status=self._with_status,
        )

    async def _with_status(self, project: Project) -> Project:
        """Return the project with its status under the policies; its files do not matter."""
        while (enforcement := self._policies.current()) is not None and enforcement.concerns(project.name):
            shown = await enforcement.evaluate(msgspec.structs.replace(project, files=()))
            if shown is not None and self._policies.current() is enforcement:
                return shown.project
        return project

    async def change(self, name: ProjectName, request: Request, secret: str | None = None) -> Changed:
        """Change a project or its files. See `pywharf.index.changes`."""
        return await change(self._backend, self._follower, name, request, secret=secret)

    async def claim(self, name: str, until: int) -> bool:
        """Claim a name that counts once in this repo, in the storage if it can. See `pywharf.index.ports.Claims`."""
        return await self._claims.claim(name, until)

    async def is_claimed(self, name: str) -> bool:
        """Return whether a name was claimed. See `pywharf.index.ports.Claims`."""
        return await self._claims.is_claimed(name)
