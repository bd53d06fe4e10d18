"""The file of changes in a branch, beside the index: what releases cannot tell, or not soon enough.

It holds the statuses of projects, the names of deleted files, and a journal of changes: a changed old release is not
among the newest, which replicas list. The file is written by compare-and-swap before a release is changed, so changes
of one file through any number of servers have an order. update_index removes from the journal what the index holds.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Self

import msgspec

from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.branch import BranchFolder, Entry
from pywharf.backends.github.refusals import CALLER_STATUSES, Step, refusal
from pywharf.core.backoff import backoff_s
from pywharf.core.errors import BackendUnavailableError, IndexConflictError
from pywharf.core.model import Deletion, File, ProjectStatus
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName
from pywharf.index.limits import fault_of_entry
from pywharf.index.ports import JournalEntry

_FORMAT = 1
_MAX_BYTES = 4 * 1024 * 1024
_MAX_ENTRIES = 10_000
"""Changes since the last update_index."""
_ATTEMPTS = 12
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
_logger = logging.getLogger(__name__)


def changes_name(index_name: str) -> str:
    """Return the name of the file that belongs to an index file."""
    return f"{index_name.rpartition('.')[0]}-changes.json"


@warmed_up
class _Document(msgspec.Struct, frozen=True):
    format: int = _FORMAT
    statuses: dict[str, ProjectStatus] = {}
    deleted: dict[str, list[str]] = {}
    journal: list[msgspec.Raw] = []


class Changes:
    """The content of the file. Immutable; each method that changes something returns a copy."""

    def __init__(
        self,
        statuses: dict[ProjectName, ProjectStatus] | None = None,
        deleted: dict[ProjectName, tuple[str, ...]] | None = None,
        journal: tuple[bytes, ...] = (),
    ) -> None:
        self.statuses = statuses or {}
        self.deleted = deleted or {}
        """The names of deleted files that stay taken."""
        self.journal = journal
        """The entries as JSON. Those of a newer version are kept as they are."""
        self.entries = tuple(map(_entry, journal))
        """The entries; None for one that cannot be used."""

    def newest(self, project: ProjectName, filename: str) -> File | Deletion | None:
        """Return the journal's newest record or deletion of a file."""
        found = [entry.changed for entry in self.entries if entry is not None and entry.project == project]
        own = [one for one in found if one is not None and one.filename == filename]
        return max(own, key=lambda one: one.revision, default=None)

    def with_entry(self, entry: JournalEntry) -> Self:
        """Add a journal entry; a status becomes the project's."""
        statuses = self.statuses if entry.status is None else self.statuses | {entry.project: entry.status}
        return type(self)(statuses, self.deleted, (*self.journal, msgspec.json.encode(entry)))

    def with_deleted(self, project: ProjectName, filename: str, *, is_taken: bool) -> Self:
        """Note a deleted file whose name is taken, or no longer."""
        others = tuple(name for name in self.deleted.get(project, ()) if name != filename)
        names = tuple(sorted((*others, filename))) if is_taken else others
        deleted = {key: value for key, value in (self.deleted | {project: names}).items() if value}
        return type(self)(self.statuses, deleted, self.journal)

    def without_first(self, count: int) -> Self:
        """Remove the oldest journal entries."""
        return type(self)(self.statuses, self.deleted, self.journal[count:])

    def encode(self) -> bytes:
        """Return the file's content. Raises BackendUnavailableError past its limits."""
        document = {
            "format": _FORMAT,
            "statuses": self.statuses,
            "deleted": self.deleted,
            "journal": [msgspec.Raw(line) for line in self.journal],
        }
        content = msgspec.json.format(msgspec.json.encode(document), indent=1)
        if len(content) > _MAX_BYTES or len(self.journal) > _MAX_ENTRIES:
            raise BackendUnavailableError(
                f"The file of changes would have {len(self.journal)} entries and {len(content)} bytes; at most "
                f"{_MAX_ENTRIES} and {_MAX_BYTES} are allowed. Run update_index."
            )
        return content

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Read the file's content. Raises msgspec.MsgspecError, UnicodeDecodeError."""
        document = msgspec.json.decode(content, type=_Document)
        if document.format != _FORMAT:
            raise msgspec.ValidationError(f"its format is {document.format}, this version reads {_FORMAT}")
        statuses = {ProjectName(name): status for name, status in document.statuses.items()}
        deleted = {ProjectName(name): tuple(names) for name, names in document.deleted.items()}
        lines = document.journal[:_MAX_ENTRIES]
        return cls(statuses, deleted, tuple(_compact(bytes(line)) for line in lines))


def _compact(line: bytes) -> bytes:
    return msgspec.json.format(line, indent=-1)


def _entry(line: bytes) -> JournalEntry | None:
    try:
        entry = msgspec.json.decode(line, type=JournalEntry)
    except msgspec.MsgspecError as error:
        _logger.warning("An entry of the file of changes is ignored: %s", error)
        return None
    if (fault := fault_of_entry(entry)) is not None:
        _logger.warning("An entry of the file of changes about %.200r is ignored: %s", entry.project, fault)
        return None
    return entry


class ChangesFile:
    """The file of changes of one repo, which any number of servers and jobs may use concurrently."""

    def __init__(self, folder: BranchFolder, index_name: str) -> None:
        self._folder = folder
        self._name = changes_name(index_name)
        self._sha: str | None = None
        self.last = Changes()
        """What was read or written last."""

    async def read(self) -> Changes:
        """List the folder, and read the file if it has changed."""
        changes, _ = await self._read()
        return changes

    async def update(self, change: Callable[[Changes], Changes], api: GithubApi | None = None) -> Changes:
        """Replace the content by what `change` makes of it, by compare-and-swap. `change` may be called again.

        Nothing is written if it returns the same object. Raises BackendUnavailableError if others were always faster.
        """
        for attempt in range(_ATTEMPTS):
            now, stored = await self._read()
            wanted = change(now)
            if wanted is now:
                return now
            if await self._write(wanted, stored, api):
                return wanted
            pause = backoff_s(attempt, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
            await asyncio.sleep(pause * random.random())  # noqa: S311 - no secret
        raise BackendUnavailableError("Many others change this repo at the moment; try again.")

    async def _read(self) -> tuple[Changes, Entry | None]:
        """Return the content, and the file that has it; None if there is no file."""
        await self._folder.list()
        entry = self._listed()
        if entry is None:
            self._sha, self.last = None, Changes()
            return self.last, None
        if entry.sha == self._sha:
            return self.last, entry
        if entry.size > _MAX_BYTES:
            raise self._unreadable(f"it has {entry.size} bytes, of {_MAX_BYTES} at most")
        content = await self._folder.read(entry)
        try:
            changes = await asyncio.to_thread(Changes.decode, content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._unreadable(str(error)) from error
        self._sha, self.last = entry.sha, changes
        return changes, entry

    def _unreadable(self, reason: str) -> BackendUnavailableError:
        # Not ignored, because the file may say that a project is quarantined.
        return BackendUnavailableError(
            f"The file {self._name} in the branch {self._folder.branch!r} cannot be read ({reason}). Put back an "
            "earlier one, or remove it, and with it the statuses of projects."
        )

    def _listed(self) -> Entry | None:
        return next(iter(self._folder.find(self._name)), None)

    async def _write(self, wanted: Changes, replaced: Entry | None, api: GithubApi | None) -> bool:
        """Write the file if it is still the one that was read; return whether it was."""
        content = await asyncio.to_thread(wanted.encode)
        answer = await self._folder.put(self._name, content, replaced, api)
        self._folder.forget()
        if answer.status not in CALLER_STATUSES:
            self._sha, self.last = str(answer.data["content"]["sha"]), wanted
            return True
        refused = refusal(Step.WRITE_CHANGES, answer, branch=self._folder.branch)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise refused
        if not isinstance(refused, IndexConflictError):
            # Other messages do not tell whether another commit came first.
            await self._folder.list()
            if self._listed() == replaced:
                raise refused
        return False
