"""The github backend: one repo's releases. It reads with the server's token, and writes with the client's if sent."""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from cachetools import FIFOCache
from github.Auth import Auth

from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.assets import Assets
from pywharf.backends.github.branch import BranchFolder
from pywharf.backends.github.changes_file import Changes, ChangesFile, changes_name
from pywharf.backends.github.changing import ReleaseChanger, recorded_revision
from pywharf.backends.github.credentials import is_token, parse_client_token, parse_credentials
from pywharf.backends.github.index_file import IndexFile, index_names
from pywharf.backends.github.journal import EntryChain, ReleaseJournal
from pywharf.backends.github.listing import Listing
from pywharf.backends.github.publishing import publish_release, withdraw_release
from pywharf.backends.github.releases import (
    Asset,
    Release,
    decode_release,
    entry_of,
    tombstone_in,
    upload_began,
    with_address,
)
from pywharf.backends.registration import OpenBackend
from pywharf.config.repo_config import GithubSpec
from pywharf.core.access import Permission
from pywharf.core.errors import (
    BackendUnavailableError,
    FileExistsInRepoError,
    ForbiddenError,
    InvalidConfigError,
    NotFoundError,
    UnauthenticatedError,
)
from pywharf.core.filenames import METADATA_SUFFIX, extension_of, is_plain
from pywharf.core.identity import find_duplicate, identity
from pywharf.core.model import File, Project, ProjectStatus
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
    RedirectContent,
    ScannedProject,
    SetStatus,
    StoredIndex,
    StreamContent,
    Unchanged,
    Upload,
)

_logger = logging.getLogger(__name__)

_LEFTOVER_AGE_S = 24 * 3600
"""Age of a draft in seconds after which no upload can still be running, so a crash left the draft behind."""
_JOB_MAX_WAIT_S = 3600.0
"""Seconds that update_index waits for a rate limit to end. GitHub's limit resets every hour."""
_UPLOAD_MAX_WAIT_S = 10.0
_METADATA_BYTES = 16 * 1024 * 1024
_METADATA_KEPT = 256
_RECENT = 4096
_RIVAL_CHECKS = 5
_RIVAL_PAUSE_S = 1.0
"""Seconds between two checks whether a release of the same distribution and second has been withdrawn."""
_LISTING_S = 0.25
"""Seconds for which a poll's listing of the branch counts for its read of the index."""
_CURSORS = "/"
"""What separates the cursors of releases and changes."""
_MIN_PROBE_INTERVAL_S = 0.25
"""Least seconds between two probes triggered by requests. GitHub's limit per minute counts free probes, too."""


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
        self._releases = f"/repos/{spec.owner}/{spec.repo}/releases"
        self._listing = Listing(self._api, spec.owner, spec.repo)
        names = (*index_names(spec.index_name), changes_name(spec.index_name))
        self._branch = BranchFolder(self._api, spec.owner, spec.repo, spec.branch, names)
        self._index = IndexFile(self._branch, spec.index_name)
        self._changes = ChangesFile(self._branch, spec.index_name)
        self._changer = ReleaseChanger(self._releases, self._changes, self._find_release)
        self._change_lock = asyncio.Lock()
        self._listed_at = -_LISTING_S
        """Monotonic time when a poll listed the branch, for its read of the index."""
        self._assets = Assets(self._api, spec.owner, spec.repo)
        self._indexed_until = 0.0
        """Unix seconds. Everything published before then is in the index that was read last."""
        self._journal = ReleaseJournal()
        self._newest: tuple[Release, ...] = ()
        """The releases that the journal was built from."""
        self._probe_lock = asyncio.Lock()
        self._probes_begun = 0
        self._probed_at = 0.0
        self._own: FIFOCache[str, str] = FIFOCache(_RECENT)
        """Addresses, by file name, of assets that this server published and that may not be in the index yet."""
        self._known: Index | None = None
        """The index that a scan read."""
        self._metadata: FIFOCache[str, bytes] = FIFOCache(_METADATA_KEPT)

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
            answer = await api.get(f"/repos/{self._spec.owner}/{self._spec.repo}")
            if answer.status != HTTPStatus.OK:  # also what the token may not know of
                return Permission.NONE
            listed = await api.get(self._releases, {"per_page": "1"})
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
            self._indexed_until = 0.0
        elif stored is not UNCHANGED:
            self._indexed_until = float((await _decoded(stored)).mtime)
        return stored

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        return await self._index.write(content, expected)

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        del project
        return None if file.location is None else ("url", file.location)

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        """Read the journal (see Backend): the newest releases and the file of changes."""
        if not self._is_job:
            await self._probe_now()
        changes = await self._changes.read()
        if cursor is not None or self._is_job:
            # A poll reads the index next, which needs no second listing of the branch.
            self._listed_at = time.monotonic()
        newest, _, changed = (cursor or "").partition(_CURSORS)
        chains = ((self._journal, newest), (_chain(changes), changed))
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

    async def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
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
            whole = await self._find_release(release.tag_name)
            if whole is not None:
                await self._changer.complete(self._api, whole, pending)
                return pending
        entry = entry_of(release)
        if entry.deletion is not None and release.assets and (whole := await self._find_release(release.tag_name)):
            await self._changer.complete(self._api, whole, entry)
        return entry

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        """Find a project among the newest releases and changes (see Backend). Older releases are in the index."""
        del only
        await self._probe_now()
        changes = await self._changes.read()
        entries = [entry for entry in (*self._journal.entries, *changes.entries) if entry is not None]
        own = [entry for entry in entries if entry.project == name]
        status = changes.statuses.get(name)
        if not own and status is None and name not in changes.deleted:
            return None
        changed = [one for entry in own if (one := entry.changed) is not None]
        return Project(name=name).with_changes(sorted(changed, key=lambda one: one.revision), status)

    async def publish(self, upload: Upload) -> File:
        """Publish an upload (see Backend), with the client's own token if it has one."""
        async with self._writing_as(upload.secret) as api:
            return await self._publish(api, upload)

    async def change(self, change: Change) -> JournalEntry:
        """Change a release or a status (see Backend), with the client's own token if it has one."""
        async with self._writing_as(change.secret) as api, self._change_lock:
            if isinstance(change.action, SetStatus):
                found = await self.find_project(change.project)
                return await self._changer.set_status(api, change, change.action, found)
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

    async def _publish(self, api: GithubApi, upload: Upload) -> File:
        name = upload.file.filename
        known = [f.filename for f in upload.known.files] if upload.known is not None else []
        taken = self._newest_names(upload.project)
        double = find_duplicate(name, upload.project, [*known, *taken])
        if double is not None and taken.get(double):
            raise FileExistsInRepoError(name, double, is_deleted=True)
        if double is not None and name not in known:
            found = await self._find_release(double)
            if found is not None and not found.draft:
                raise FileExistsInRepoError(name, double, is_deleted=tombstone_in(found) is not None)
        published = await publish_release(api, self._releases, self._spec.branch, upload)
        release = published.release
        if not published.is_new:
            stored = entry_of(release).file or upload.file
            if stored.revision and not upload.is_shown(stored.sha256):
                # The release of a freed name may be an old one, which is not among the newest.
                await self._changes.update(lambda now: now.with_newer(upload.project, stored), api)
            return stored
        if (double := await self._lost_to(upload, release)) is not None:
            await withdraw_release(api, f"/repos/{self._spec.owner}/{self._spec.repo}", release)
            is_deleted = self._newest_names(upload.project).get(double, False)
            raise FileExistsInRepoError(name, double, is_deleted=is_deleted)
        if release.content is not None:
            self._own[name] = release.content.url
        return upload.file

    def _newest_names(self, project: ProjectName) -> dict[str, bool]:
        """Return the project's names that are taken by the newest releases and by deleted files, as last read.

        The value is whether the file was deleted.
        """
        return self._journal.names(project) | dict.fromkeys(self._changes.last.deleted.get(project, ()), True)

    async def _lost_to(self, upload: Upload, mine: Release) -> str | None:
        """Return the tag of another release of the same distribution that stays; None if this one stays.

        GitHub allows each tag once, but two spellings are two tags. So each upload checks for rivals after it is
        published, and the later one of two withdraws. Time does not order two releases of the same second: the one with
        the higher id withdraws if it sees the other one, which waits for that.
        """
        rivals: list[Release] = []
        for _ in range(_RIVAL_CHECKS):
            try:
                await self._probe_now()
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
        names = {n for n in self._newest_names(upload.project) if identity(n, upload.project) == key}
        others = [r for r in self._newest if not r.draft and r.tag_name in names and r.id != mine.id]
        return [r for r in others if (r.published_at or "") <= (mine.published_at or "")]

    async def open_file(self, project: ProjectName, file: File) -> Content:
        del project
        asset = file.location or self._own.get(file.filename) or (await self._release(file.filename)).url
        url = await self._assets.signed_url(asset)  # raises for a missing file before the response begins
        if url is not None and self._spec.download == "redirect":
            return RedirectContent(url)
        size = file.size
        if size is None:
            content = await self._release(file.filename)
            asset, size = content.url, content.size
        return StreamContent(size, lambda first, last: self._assets.stream(asset, first, last))

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        del project
        digest = file.metadata_sha256 or ""
        kept = self._metadata.get(digest)
        if kept is not None:
            return kept
        release = await self._find_release(file.filename)
        if release is None or release.metadata is None:
            raise NotFoundError.no_core_metadata(file.filename)
        raw = await self._assets.read(release.metadata.url, _METADATA_BYTES)
        if hashlib.sha256(raw).hexdigest() != digest:
            raise BackendUnavailableError(
                f"The asset {file.filename + METADATA_SUFFIX!r} is not what the index says; run update_index."
            )
        self._metadata[digest] = raw
        return raw

    async def aclose(self) -> None:
        await self._assets.aclose()
        await self._api.aclose()
        await self._writing.aclose()

    async def _probe_now(self) -> None:
        """Probe the newest releases. Concurrent callers share one probe, which begins after all have asked."""
        wanted = self._probes_begun + 1
        async with self._probe_lock:
            if self._probes_begun >= wanted:
                return
            pause = self._probed_at + _MIN_PROBE_INTERVAL_S - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            self._probes_begun += 1
            releases, changed = await self._listing.head(self._indexed_until)
            self._probed_at = time.monotonic()
            if changed:
                self._newest = releases
                self._journal = await asyncio.to_thread(ReleaseJournal, releases)

    async def _release(self, filename: str) -> Asset:
        """Ask GitHub for the asset that is the file. Raises NotFoundError."""
        release = await self._find_release(filename)
        if release is None or release.content is None:
            raise NotFoundError.file_removed(filename)
        return release.content

    async def _find_release(self, filename: str) -> Release | None:
        if extension_of(filename) is None or not is_plain(filename):
            return None
        answer = await self._api.get(f"{self._releases}/tags/{quote(filename, safe='')}")
        return decode_release(answer.data) if answer.status == HTTPStatus.OK else None

    async def _complete(self, release: Release) -> Release | None:
        """Return a release with its asset's address from the index; None if the index has none for its content."""
        try:
            entry = entry_of(release)
        except InvalidConfigError:
            return release  # it is left out with or without an address
        if self._known is None:
            stored = await self._index.read(None)
            self._known = await _decoded(stored) if isinstance(stored, StoredIndex) else EMPTY_INDEX
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
        tag = await self._api.get(f"/repos/{self._spec.owner}/{self._spec.repo}/git/ref/tags/{quote(release.tag_name)}")
        seen = await self._api.get(f"{self._releases}/{release.id}")
        # A draft with a tag was published once, and the person who withdrew it may want it back.
        if tag.status == HTTPStatus.NOT_FOUND and seen.status == HTTPStatus.OK and decode_release(seen.data).draft:
            await self._api.send("DELETE", f"{self._releases}/{release.id}")
            _logger.info("Removed the draft %s, which an interrupted upload had left.", release.tag_name)

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


def _order(release: Release) -> tuple[str, int]:
    """Return a key that sorts releases by time. Times are whole seconds, so the id decides between equal ones."""
    return release.published_at or "", release.id


def open_github(request: OpenBackend[GithubSpec], secret: str) -> GithubBackend:
    """Open a repo's backend. Raises InvalidConfigError if the secret is in no form that GitHub issues."""
    parse_credentials(secret)
    staging = request.root / "cache" / request.name / "staging"
    return GithubBackend(
        request.spec, staging, lambda: parse_credentials(secret), request.egress, is_job=request.is_job
    )
