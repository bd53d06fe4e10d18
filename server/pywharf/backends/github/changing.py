"""Change a release's file or a project's status, in two steps; a crash may follow either.

First the change is written into the file of changes, which decides the order and shows it to every server. Then the
release is edited. A repeat of the change or the next scan completes what a crash left.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus

import msgspec

from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.changes_file import Changes, ChangesFile
from pywharf.backends.github.refusals import Step, refusal
from pywharf.backends.github.releases import Asset, Release, body_of_changed, decode_release, entry_of, tombstone_in
from pywharf.core.duplicates import find_duplicate
from pywharf.core.errors import FileExistsInRepoError, InvalidConfigError, NotFoundError
from pywharf.core.filenames import names_stored_file
from pywharf.core.model import Deletion, File, Project, ProjectStatus, rfc3339
from pywharf.core.names import ProjectName
from pywharf.index.ports import Change, Delete, JournalEntry, Reserve, SetStatus, SetYanked
from pywharf.index.sidecars import file_from_meta, meta_of, parse_meta
from pywharf.index.tombstones import Tombstone, meta_of_deleted

Find = Callable[[str], Awaitable[Release | None]]


class ReleaseChanger:
    """A changer of one repository's releases."""

    def __init__(self, releases: str, changes: ChangesFile, find: Find) -> None:
        self._releases = releases
        """The path of the releases."""
        self._changes = changes
        self._find = find

    async def set_status(
        self, api: GithubApi, change: Change, action: SetStatus, found: Project | None
    ) -> JournalEntry:
        """Set the status of a project that `found` shows to exist."""
        entry: JournalEntry | None = None

        def decide(now: Changes) -> Changes:
            nonlocal entry
            known = change.known
            stored = now.statuses.get(change.project, ProjectStatus())
            if known is not None and known.status_revision > stored.revision:
                stored = ProjectStatus(known.status, known.status_reason, known.status_revision)
            if found is None and known is None and change.project not in now.statuses | now.deleted:
                raise NotFoundError(f"The storage holds no project {change.project!r}.")
            if (stored.status, stored.reason) != (action.status, action.reason):
                stored = ProjectStatus(action.status, action.reason, stored.revision + 1)
            entry = JournalEntry(change.project, status=stored)
            return now if now.statuses.get(change.project, ProjectStatus()) == stored else now.with_entry(entry)

        await self._changes.update(decide, api)
        assert entry is not None  # noqa: S101 - `decide` was called
        return entry

    async def change_file(self, api: GithubApi, change: Change, action: SetYanked | Delete) -> JournalEntry:
        """Yank or delete a release's file."""
        release = await self._find(action.filename)
        stored = _stored(release, change)
        if release is None and isinstance(action, Delete):
            return await self._change_reserved(api, change, action)
        if release is None or stored is None:
            raise NotFoundError(f"The storage holds no file {action.filename[:250]!r}.")
        entry: JournalEntry | None = None

        def decide(now: Changes) -> Changes:
            nonlocal entry
            journaled = now.newest(change.project, action.filename)
            was_taken = action.filename in now.deleted.get(change.project, ())
            if was_taken and not isinstance(action, Delete):
                raise _deleted(action.filename)  # after the release was read
            is_first = isinstance(_newer(journaled, stored), File)
            entry, is_new = _decided(journaled, stored, change, action)
            wanted = now.with_entry(entry) if is_new else now
            if not isinstance(action, Delete):
                return wanted
            is_taken = (was_taken or is_first) and not action.frees_name
            return (
                wanted
                if was_taken == is_taken
                else wanted.with_deleted(change.project, action.filename, is_taken=is_taken)
            )

        await self._changes.update(decide, api)
        assert entry is not None  # noqa: S101 - `decide` was called
        frees = isinstance(action, Delete) and action.frees_name
        release = await self.complete(api, release, entry, frees_name=frees)
        newest = (await self._changes.read()).newest(change.project, action.filename)
        if newest is not None and newest.revision > _revision(entry):
            # A later change through another server, whose edit this one may have overwritten.
            await self.complete(api, release, entry_for(change.project, newest))
        return entry

    async def reserve(self, api: GithubApi, change: Change, action: Reserve, taken: Iterable[str]) -> JournalEntry:
        """Keep a name taken that has no release. `taken` are names of the newest releases.

        Only the file of changes says so. An upload knows it as of its server's last poll.
        """
        if not names_stored_file(action.filename):
            raise NotFoundError(f"{action.filename[:250]!r} cannot be the name of a file.")
        stored = _stored(await self._find(action.filename), change)
        known = change.known.files if change.known is not None else ()
        double = find_duplicate(action.filename, change.project, [*taken, *(file.filename for file in known)])
        if double is not None or isinstance(stored, File):
            raise FileExistsInRepoError(action.filename, double)

        def decide(now: Changes) -> Changes:
            if isinstance(now.newest(change.project, action.filename), File):
                raise FileExistsInRepoError(action.filename)
            if action.filename in now.deleted.get(change.project, ()):
                return now
            return now.with_deleted(change.project, action.filename, is_taken=True)

        await self._changes.update(decide, api)
        return entry_for(change.project, stored or Deletion(action.filename, 0))

    async def _change_reserved(self, api: GithubApi, change: Change, action: Delete) -> JournalEntry:
        """Free a name that has no release, if that is asked for. Raises NotFoundError if it was not taken."""

        def decide(now: Changes) -> Changes:
            if action.filename not in now.deleted.get(change.project, ()):
                raise NotFoundError(f"The storage holds no file {action.filename[:250]!r}.")
            if not action.frees_name:
                return now
            return now.with_deleted(change.project, action.filename, is_taken=False)

        await self._changes.update(decide, api)
        return JournalEntry(change.project, deletion=Deletion(action.filename, 0))

    async def complete(
        self, api: GithubApi, release: Release, entry: JournalEntry, *, frees_name: bool = False
    ) -> Release:
        """Edit a release as a journal entry says. Return it as it is now."""
        tombstone = tombstone_in(release)
        if entry.file is not None:
            if recorded_revision(release) >= entry.file.revision:
                return release
            return await self._edit(api, release, meta_of(entry.project, entry.file))
        if entry.deletion is None:
            return release
        if (
            tombstone is None
            or tombstone.file.revision < entry.deletion.revision
            or (frees_name and not tombstone.is_free)
        ):
            release = await self._edit(
                api, release, meta_of_deleted(entry.project, _tombstone(release, entry.deletion, frees_name=frees_name))
            )
        for asset in _left_assets(release):
            await api.send("DELETE", f"{self._releases}/assets/{asset.url.rpartition('/')[2]}")
        return release

    async def _edit(self, api: GithubApi, release: Release, meta: dict[str, str]) -> Release:
        body = {"body": body_of_changed(release, meta)}
        answer = await api.send("PATCH", f"{self._releases}/{release.id}", body)
        if answer.status != HTTPStatus.OK:
            raise refusal(Step.CHANGE, answer, tag=release.tag_name)
        return decode_release(answer.data)


def entry_for(project: ProjectName, changed: File | Deletion) -> JournalEntry:
    """Return the journal entry of a record or a deletion."""
    if isinstance(changed, File):
        return JournalEntry(project, file=changed)
    return JournalEntry(project, deletion=changed)


def _left_assets(release: Release) -> Sequence[Asset]:
    """Return the assets of a deleted file. If its name is free, others are those of an upload under way."""
    tombstone = tombstone_in(release)
    if tombstone is None or not tombstone.is_free:
        return release.assets
    own = {None, tombstone.file.sha256, tombstone.file.metadata_sha256}
    return [asset for asset in release.assets if asset.sha256 in own]


def _stored(release: Release | None, change: Change) -> File | Deletion | None:
    """Return what the release says; None if it is no file of the project."""
    if release is None or release.draft:
        return None
    try:
        entry = entry_of(release)
    except InvalidConfigError:
        return None
    return entry.changed if entry.project == change.project else None


def _newer(journaled: File | Deletion | None, stored: File | Deletion) -> File | Deletion:
    return stored if journaled is None or journaled.revision < stored.revision else journaled


def _decided(
    journaled: File | Deletion | None, stored: File | Deletion, change: Change, action: SetYanked | Delete
) -> tuple[JournalEntry, bool]:
    """Return the entry for an action, and whether the journal lacks it."""
    known = change.known_file(action.filename)
    now = _newer(journaled, stored)
    revision = max(now.revision, known.revision if known is not None else 0) + 1
    if isinstance(action, Delete):
        if isinstance(now, File):
            return JournalEntry(change.project, deletion=Deletion(action.filename, revision)), True
        is_shown = now == journaled or (change.known is not None and known is None)
        return JournalEntry(change.project, deletion=now), not is_shown
    if isinstance(now, Deletion):
        raise _deleted(action.filename)
    if now.yanked != action.reason or (known is not None and known.revision > now.revision):
        changed = msgspec.structs.replace(now, yanked=action.reason, revision=revision)
        return JournalEntry(change.project, file=changed), True
    is_shown = now.revision == 0 or now == journaled or (known is not None and known.revision == now.revision)
    return JournalEntry(change.project, file=now), not is_shown


def _deleted(filename: str) -> NotFoundError:
    return NotFoundError(f"The file {filename!r} was deleted.")


def _revision(entry: JournalEntry) -> int:
    return entry.changed.revision if entry.changed is not None else 0


def recorded_revision(release: Release) -> int:
    """Return the revision of the record in a release's text; -1 if the text is no record."""
    try:
        return file_from_meta(release.tag_name, parse_meta(release.body or "", "")).revision
    except InvalidConfigError:
        return -1


def _tombstone(release: Release, deletion: Deletion, *, frees_name: bool) -> Tombstone:
    """Return the record of a deletion, from the release's text."""
    before = tombstone_in(release)
    file = file_from_meta(release.tag_name, parse_meta(release.body or "", release.tag_name))
    return Tombstone(
        msgspec.structs.replace(file, revision=deletion.revision),
        rfc3339(time.time()) if before is None else before.deleted,
        frees_name or (before is not None and before.is_free),
    )
