"""The newest releases and the file of changes as a journal. Pure."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from pywharf.backends.github.releases import Release, entry_of, tombstone_in
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import ProjectName
from pywharf.index.ports import JournalEntry, JournalRead


class EntryChain:
    """Journal entries in their order.

    A cursor holds the number of entries read and a digest of them. If those entries are unchanged, the rest are new.
    """

    def __init__(self, lines: Iterable[bytes], entries: Sequence[JournalEntry | None]) -> None:
        """Take the entries, each as it is stored and decoded; None: it is skipped."""
        self._all = tuple(entries)
        digest = hashlib.sha256()
        self._cursors = [f"0:{digest.hexdigest()}"]
        for number, line in enumerate(lines, 1):
            digest.update(line)
            self._cursors.append(f"{number}:{digest.hexdigest()}")

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """Return all entries."""
        return tuple(entry for entry in self._all if entry is not None)

    def read(self, cursor: str | None) -> JournalRead:
        """Return the entries after the cursor, or all entries if one before it has changed."""
        read = self.count_before(cursor or "")
        entries = self._all[read or 0 :]
        return JournalRead(
            tuple(entry for entry in entries if entry is not None), self._cursors[-1], restarted=read is None
        )

    def count_before(self, cursor: str) -> int | None:
        """Return the number of entries before the cursor; None if one of them has changed."""
        read, _, _ = cursor.partition(":")
        known = read.isdecimal() and int(read) < len(self._cursors) and self._cursors[int(read)] == cursor
        return int(read) if known else None


class ReleaseJournal(EntryChain):
    """The newest releases in the order of their publishing. It needs no writing and no folding."""

    def __init__(self, releases: Iterable[Release] = ()) -> None:
        published = [release for release in releases if not release.draft]
        published.sort(key=lambda release: (release.published_at or "", release.id))
        entries = tuple(_entries(published))
        super().__init__((msgspec.json.encode(entry) for entry in entries), entries)
        self.freed = frozenset(
            release.tag_name for release in published if (found := tombstone_in(release)) is not None and found.is_free
        )
        """The names of deleted files that may be published again."""

    def names(self, project: ProjectName) -> dict[str, bool]:
        """Return the project's names that are taken, each with whether its file was deleted."""
        own = [entry for entry in self.entries if entry.project == project]
        names = {entry.file.filename: False for entry in own if entry.file is not None}
        deleted = {entry.deletion.filename: True for entry in own if entry.deletion is not None}
        return names | {name: True for name in deleted if name not in self.freed}


def _entries(releases: Iterable[Release]) -> Iterator[JournalEntry]:
    for release in releases:
        with contextlib.suppress(InvalidConfigError):  # update_index reports what is wrong with it
            yield entry_of(release)
