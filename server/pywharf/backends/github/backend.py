"""The github backend: one repo's releases. It reads with the server's token, and writes with the client's if sent."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path

from github.Auth import Auth

from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.assets import Assets
from pywharf.backends.github.branch import BranchFolder
from pywharf.backends.github.changes_file import Changes, ChangesFile, changes_name
from pywharf.backends.github.changing import ReleaseChanger
from pywharf.backends.github.content import ReleaseContents
from pywharf.backends.github.credentials import is_token, parse_client_token, parse_credentials
from pywharf.backends.github.finding import ReleaseFinder
from pywharf.backends.github.index_file import IndexFile, index_names
from pywharf.backends.github.journal import EntryChain
from pywharf.backends.github.listing import Listing
from pywharf.backends.github.newest import NewestReleases
from pywharf.backends.github.scanning import ReleaseScanner
from pywharf.backends.github.uploading import ReleaseUploads
from pywharf.backends.registration import OpenBackend
from pywharf.config.repo_config import GithubSpec
from pywharf.core.access.permission import Permission
from pywharf.core.errors import (
    BackendUnavailableError,
    ForbiddenError,
    UnauthenticatedError,
)
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.egress.policy import Egress
from pywharf.index.codecs import EMPTY_INDEX, Index, decode_index
from pywharf.index.ports import (
    UNCHANGED,
    Change,
    Content,
    JournalEntry,
    JournalRead,
    Progress,
    RateLimit,
    Reserve,
    ScannedProject,
    SetStatus,
    StoredIndex,
    Unchanged,
    Upload,
)

_JOB_MAX_WAIT_S = 3600.0
"""Seconds that update_index waits for a rate limit to end. GitHub's limit resets every hour."""
_UPLOAD_MAX_WAIT_S = 10.0
_LISTING_S = 0.25
"""Seconds for which a poll's listing of the branch counts for its read of the index."""
_CURSORS = "/"
"""What separates the cursors of releases and changes."""


class GithubBackend:
    """The backend of one repository. Any number of servers and jobs may use it concurrently."""

    def __init__(
        self, spec: GithubSpec, staging: Path, auth: Callable[[], Auth], egress: Egress, *, is_job: bool = False
    ) -> None:
        self._spec = spec
        self._staging = staging
        self._is_job = is_job
        """Whether update_index uses the backend: it waits for rate limits to end, and reads all releases anyway."""
        self._egress = egress
        self._api = GithubApi(spec.api_url, auth, egress=egress)
        self._api.max_wait_s = _JOB_MAX_WAIT_S if is_job else 0.0
        self._writing = GithubApi(spec.api_url, auth, egress=egress)
        self._writing.max_wait_s = _UPLOAD_MAX_WAIT_S
        repository = f"/repos/{spec.owner}/{spec.repo}"
        listing = Listing(self._api, spec.owner, spec.repo)
        finder = ReleaseFinder(self._api, f"{repository}/releases")
        names = (*index_names(spec.index_name), changes_name(spec.index_name))
        branch = BranchFolder(self._api, spec.owner, spec.repo, spec.branch, names)
        self._repository = repository
        self._index = IndexFile(branch, spec.index_name)
        self._changes = ChangesFile(branch, spec.index_name)
        self._changer = ReleaseChanger(f"{repository}/releases", self._changes, finder.find)
        self._change_lock = asyncio.Lock()
        self._listed_at = -_LISTING_S
        """Monotonic time when a poll listed the branch, for its read of the index."""
        self._newest = NewestReleases(listing)
        self._uploads = ReleaseUploads(spec, self._newest, self._changes, finder)
        self._assets = Assets(self._api, spec.owner, spec.repo)
        self._contents = ReleaseContents(
            self._assets, finder, redirects=spec.download == "redirect", address_of=self._uploads.address_of
        )
        self._scanner = ReleaseScanner(
            self._api,
            repository,
            listing=listing,
            changes=self._changes,
            changer=self._changer,
            finder=finder,
            read_index=self._read_known,
        )

    @property
    def staging_folder(self) -> Path:
        self._staging.mkdir(parents=True, exist_ok=True)
        return self._staging

    @property
    def poll_interval_s(self) -> float:
        return float(self._spec.sync_index_interval)

    @property
    def rate_limit(self) -> RateLimit | None:
        """How often GitHub may still be asked; None before the first answer."""
        return self._api.rate_limit

    def is_plausible(self, secret: str) -> bool:
        """Return whether the secret may be a GitHub token (see Authority)."""
        return is_token(secret, self._api.host)

    async def permission_of(self, secret: str) -> Permission:
        """Return what GitHub allows a client's own token to do here (see Authority).

        The repository's description shows what the token's owner may do. A list of releases shows whether the token
        itself may read contents. Only GitHub's answer to an upload shows whether it may write them.
        """
        try:
            api = self._api_of(secret)
        except UnauthenticatedError:
            return Permission.NONE
        try:
            answer = await api.get(self._repository)
            if answer.status != HTTPStatus.OK:  # also what the token may not know of
                return Permission.NONE
            listed = await api.get(f"{self._repository}/releases", {"per_page": "1"})
        except (UnauthenticatedError, ForbiddenError):
            return Permission.NONE
        finally:
            await api.aclose()
        if listed.status != HTTPStatus.OK:
            return Permission.NONE
        may_push = (answer.data.get("permissions") or {}).get("push")
        return Permission.WRITE if may_push else Permission.READ

    async def read_index(self, known: str | None = None) -> StoredIndex | Unchanged | None:
        is_listed, self._listed_at = time.monotonic() - self._listed_at < _LISTING_S, -_LISTING_S
        stored = await self._index.read(known, is_listed=is_listed)
        if stored is None:
            self._newest.indexed_until = 0.0
        elif stored is not UNCHANGED:
            self._newest.indexed_until = float((await _decoded(stored)).mtime)
        return stored

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        return await self._index.write(content, expected)

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        del project
        return None if file.location is None else ("url", file.location)

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        """Read the journal (see Backend): the newest releases and the file of changes."""
        if not self._is_job:
            await self._newest.probe()
        changes = await self._changes.read()
        if cursor is not None or self._is_job:
            # A poll reads the index next, which needs no second listing of the branch.
            self._listed_at = time.monotonic()
        newest, _, changed = (cursor or "").partition(_CURSORS)
        chains = ((self._newest.journal, newest), (_chain(changes), changed))
        reads = [chain.read(after) for chain, after in chains]
        restarted = any(read.restarted for read in reads)
        entries = (
            [entry for chain, _ in chains for entry in chain.entries]
            if restarted
            else [entry for read in reads for entry in read.entries]
        )
        return JournalRead(tuple(entries), _CURSORS.join(read.cursor for read in reads), restarted)

    async def fold_journal(self, cursor: str) -> None:
        """Remove the entries before the cursor from the file of changes. Releases stay where they are."""
        _, _, changed = cursor.partition(_CURSORS)
        if changed == _chain(Changes()).read(None).cursor:
            return

        def fold(now: Changes) -> Changes:
            count = _chain(now).count_before(changed)
            return now.without_first(count) if count else now

        await self._changes.update(fold)

    def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        return self._scanner.scan(progress)

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        """Find a project among the newest releases and changes (see Backend). Older releases are in the index."""
        del only
        await self._newest.probe()
        changes = await self._changes.read()
        entries = [entry for entry in (*self._newest.journal.entries, *changes.entries) if entry is not None]
        own = [entry for entry in entries if entry.project == name]
        status = changes.statuses.get(name)
        if not own and status is None and name not in changes.deleted:
            return None
        changed = [one for entry in own if (one := entry.changed) is not None]
        return Project(name=name).with_changes(sorted(changed, key=lambda one: one.revision), status)

    async def publish(self, upload: Upload) -> File:
        """Publish an upload (see Backend), with the client's own token if it has one."""
        async with self._writing_as(upload.secret) as api:
            return await self._uploads.publish(api, upload)

    async def change(self, change: Change) -> JournalEntry:
        """Change a release or a status (see Backend), with the client's own token if it has one."""
        async with self._writing_as(change.secret) as api, self._change_lock:
            if isinstance(change.action, SetStatus):
                found = await self.find_project(change.project)
                return await self._changer.set_status(api, change, change.action, found)
            if isinstance(change.action, Reserve):
                await self._newest.probe()
                taken = self._newest.journal.names(change.project)
                return await self._changer.reserve(
                    api, change, change.action, (name for name, is_deleted in taken.items() if not is_deleted)
                )
            return await self._changer.change_file(api, change, change.action)

    @contextlib.asynccontextmanager
    async def _writing_as(self, secret: str | None) -> AsyncIterator[GithubApi]:
        """Provide the API client to write with: the client's own, or the server's."""
        if secret is None:
            yield self._writing
            return
        api = self._api_of(secret)
        api.max_wait_s = _UPLOAD_MAX_WAIT_S
        try:
            yield api
        finally:
            await api.aclose()

    async def open_file(self, project: ProjectName, file: File) -> Content:
        del project
        return await self._contents.open(file)

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        del project
        return await self._contents.metadata(file)

    async def aclose(self) -> None:
        await self._assets.aclose()
        await self._api.aclose()
        await self._writing.aclose()

    async def _read_known(self) -> Index:
        stored = await self._index.read(None)
        return await _decoded(stored) if isinstance(stored, StoredIndex) else EMPTY_INDEX

    def _api_of(self, token: str) -> GithubApi:
        """Return an API client with a client's token."""
        auth = parse_client_token(token)
        return GithubApi(self._spec.api_url, lambda: auth, egress=self._egress, is_clients=True, threads=1)


def _chain(changes: Changes) -> EntryChain:
    return EntryChain(changes.journal, changes.entries)


async def _decoded(stored: StoredIndex) -> Index:
    """Decode an index. Treat an unreadable one as missing; update_index will rewrite it."""
    try:
        return await asyncio.to_thread(decode_index, stored.content, stored.filename)
    except BackendUnavailableError:
        return EMPTY_INDEX


def open_github(request: OpenBackend[GithubSpec], secret: str) -> GithubBackend:
    """Open a repo's backend. Raises InvalidConfigError if the secret is in no form that GitHub issues."""
    parse_credentials(secret)
    staging = request.root / "cache" / request.name / "staging"
    return GithubBackend(
        request.spec, staging, lambda: parse_credentials(secret), request.egress, is_job=request.is_job
    )
