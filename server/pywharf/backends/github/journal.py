"""The newest releases as a journal. It needs no writing and no folding. Pure."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from pywharf.backends.github.releases import Release, entry_of
from pywharf.core.errors import InvalidConfigError
from pywharf.index.ports import JournalEntry, JournalRead


class ReleaseJournal:
    """Journal entries in the order of their publishing.

    A cursor holds the number of entries read and a digest of them. If those entries are unchanged, the rest are new.
    """

    def __init__(self, releases: Iterable[Release] = ()) -> None:
        published = [release for release in releases if not release.draft]
        published.sort(key=lambda release: (release.published_at or "", release.id))
        self.entries = tuple(_entries(published))
        digest = hashlib.sha256()
        self._cursors = [f"0:{digest.hexdigest()}"]
        for number, entry in enumerate(self.entries, 1):
            digest.update(msgspec.json.encode(entry))
            self._cursors.append(f"{number}:{digest.hexdigest()}")

    def read(self, cursor: str | None) -> JournalRead:
        """Return the entries after the cursor, or all entries if one before it has changed."""
        read, _, _ = (cursor or "").partition(":")
        known = read.isdecimal() and int(read) < len(self._cursors) and self._cursors[int(read)] == cursor
        entries = self.entries[int(read) :] if known else self.entries
        return JournalRead(entries, self._cursors[-1], restarted=not known)


def _entries(releases: Iterable[Release]) -> Iterator[JournalEntry]:
    for release in releases:
        with contextlib.suppress(InvalidConfigError):  # update_index reports what is wrong with it
            yield entry_of(release)
