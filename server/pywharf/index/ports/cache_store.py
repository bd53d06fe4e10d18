"""The port for the pull-through cache: where the files and pages of other indexes are kept."""

from collections.abc import AsyncIterator, Container, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports.packages import Content


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a kept file came from. It is shown to administrators; nothing is decided by it."""

    project: ProjectName
    filename: str
    source: str
    """The other index's URL, without credentials."""


class KeptFile(msgspec.Struct, frozen=True):
    """A file that the cache holds, addressed by its content."""

    sha256: str
    size: int
    last_used: float
    """Unix seconds, at most `USE_GRANULARITY_S` older than the last use that was noted."""
    about: About | None = None
    """Where it came from; None if that was not read (see `abouts`) or is not known."""


class Pin(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that stays in the cache whatever its use, because a repo asked for that."""

    project: ProjectName
    filename: str
    sha256: str
    size: int


USE_GRANULARITY_S = 3600.0
"""Seconds within which further uses of a file need not be noted."""


class CacheStore(Protocol):
    """The files and pages of other indexes, for all repos of a server and all of its replicas.

    A file is addressed by its SHA-256, so its content never changes; the caller has already decided that the
    client may have it. Every method may raise BackendUnavailableError; every write may raise StorageFullError. No
    method blocks the event loop. Digests are 64 lower-case hex digits.
    """

    @property
    def spool_folder(self) -> Path:
        """Return a folder of this machine for files that are being fetched, from which `keep` is cheap.

        Returns:
            A path. The folder exists once a file was not found, or anything was written, if the disk allows that.
        """

    async def open(self, sha256: str) -> tuple[int, Content] | None:
        """Open a kept file.

        Returns:
            Its size in bytes and its content, local or streamed; None if it is not kept.
        """

    async def keep(self, sha256: str, path: Path, about: About) -> None:
        """Keep a file whose content was verified. Of concurrent calls for one digest, one suffices and none fails.

        Parameters:
            sha256: The digest.
            path: A file in the `spool_folder`. The store may move it; the caller removes one still there.
            about: Where it came from.

        Raises:
            StorageFullError: There is no room. Nothing was changed.
        """

    async def free_bytes(self) -> int | None:
        """Return the room that the store has left, or None if that is unknown, as of a bucket."""

    async def note_use(self, sha256: str) -> None:
        """Note that a file was used now. Cheap: within `USE_GRANULARITY_S` it does nothing."""

    def kept(self) -> AsyncIterator[Sequence[KeptFile]]:
        """List all kept files, in portions, in no order. Their `about` may be left out.

        Returns:
            Portions of at most some thousands, so that a million files need the memory of a few. A file that is
            kept or removed meanwhile may be among them or not; no other one is missing.
        """

    async def abouts(self, digests: Sequence[str]) -> Mapping[str, About]:
        """Return where files came from, by digest. Files that are not kept, or not known, are left out."""

    async def remove(self, digests: Sequence[str]) -> None:
        """Remove files; missing ones are ignored. Downloads that are under way may break."""

    async def lock(self, name: str, seconds: float) -> bool:
        """Take a lock by create-if-absent, for at most so long.

        Parameters:
            name: 64 hex digits, such as the digest of a file to fetch.
            seconds: The time after which another caller may take it, whatever became of this one.

        Returns:
            True if this call took the lock. Of concurrent calls, through any number of servers, one returns True.
        """

    async def extend(self, name: str, seconds: float) -> bool:
        """Let a lock that this process took end so many seconds from now. At no moment may another caller take it.

        Returns:
            True if this process still held it; False, and nothing is changed, if it was released, or if it ended and
            may have been taken by another.
        """

    async def unlock(self, name: str) -> None:
        """Release a lock that this process took. A missing one is ignored."""

    async def read_page(self, key: str, most: int) -> bytes | None:
        """Read a kept page, or None. One over `most` bytes counts as missing.

        Parameters:
            key: 64 hex digits, the digest of what the page is.
            most: The largest size in bytes.
        """

    async def write_page(self, key: str, content: bytes) -> None:
        """Keep a page, in place of the one before it."""

    async def remove_pages(self, unused_for_s: float, but_for: Container[str] = frozenset()) -> int:
        """Remove the pages that were last written so many seconds ago or longer.

        Parameters:
            unused_for_s: The age in seconds.
            but_for: Keys of pages that stay whatever their age.

        Returns:
            The bytes of all pages that are left.
        """

    async def remove_leftovers(self) -> None:
        """Remove what processes that were killed left behind: files in their spool folders, and locks that ended."""

    async def pins(self, repo: RepoName) -> tuple[Pin, ...]:
        """Return what a repo has pinned, in no order."""

    async def pinning_repos(self) -> tuple[RepoName, ...]:
        """Return the repos that have pinned anything, also those that no server serves any longer."""

    async def pin(self, repo: RepoName, pin: Pin) -> None:
        """Pin a file for a repo. Idempotent: a pin of one project and file name replaces the one before it."""

    async def unpin(self, repo: RepoName, project: ProjectName, filename: str) -> None:
        """Remove a repo's pin. A missing one is ignored."""

    async def aclose(self) -> None:
        """Release the store's resources. No other method is called afterwards."""
