"""Pin upstream files for one repo: keep them in the cache now, and whatever their use."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from pywharf.core.errors import (
    BusyError,
    DigestDiffersError,
    NotFoundError,
    PinsFullError,
    PywharfError,
    UnavailableError,
    UpstreamError,
)
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import File
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports.cache_store import CacheStore, Pin
from pywharf.index.upstream.pinned_bytes import PinnedBytes

MAX_PINS: Final = 20_000
"""Pins of one repo."""
_SHARE: Final = 2
"""A repo may pin this fraction of the cache's bytes, one half."""
_MAX_RUNNING: Final = 32
"""Files of one repo that are being fetched, or whose outcome nobody asked for yet."""
LONGEST_WAIT_S: Final = 20.0
"""Seconds after which a caller has to ask again: proxies end a request that stays silent for a minute."""
_OUTCOME_KEPT_S: Final = 300.0
"""Seconds for which the outcome of a fetch waits for a caller that asks again."""
_FRESH_S: Final = 10.0
"""Seconds for which this worker's list of pins counts without being read again where a pin is added."""
_LISTED_S: Final = 1.0
"""The same where pins are listed."""

Key = tuple[ProjectName, str]


class FoundFile(msgspec.Struct, frozen=True):
    """A file that the client may download."""

    file: File
    is_own: bool
    """Whether it is the repo's own, which needs no pin."""


class Files(Protocol):
    """What a repo offers."""

    async def find(self, project: ProjectName, filename: str) -> FoundFile:
        """Find a file. Raises NotFoundError, WithheldError, UpstreamError, UnavailableError."""

    async def keep(self, project: ProjectName, file: File) -> str:
        """Wait until the file, its metadata and the project's page are in the cache. Raises as `find`.

        Returns:
            The file's SHA-256, which is verified.
        """


class Pinned(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a wish to pin."""

    project: ProjectName
    filename: str
    sha256: str
    size: int | None
    own: bool = False
    """Whether it is the repo's own file, which is always there and takes nothing of the cache."""


class Outcome(msgspec.Struct, frozen=True):
    """A finished call of `Pinning.pin`."""

    pinned: Pinned
    is_new: bool


class Pinning:
    """The pins of one repo, as one worker sees and changes them. Other workers and servers change the same ones."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        repo: RepoName,
        store: CacheStore,
        files: Files,
        *,
        max_bytes: int,
        of_all: PinnedBytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`of_all` is shared by all repos of the cache; None: there is no other repo."""
        self._repo = repo
        self._store = store
        self._of_all = PinnedBytes(store, max_bytes, clock) if of_all is None else of_all
        self._most = max_bytes // _SHARE
        self._files = files
        self._clock = clock
        self._known: dict[Key, Pin] = {}
        self._metadata: dict[Key, Pin] = {}
        """The pins of the files' core metadata, which installers ask for first, by the key of the file."""
        self._bytes = 0
        self._sorted: tuple[Pin, ...] | None = None
        """The pins as they are listed; None after a change."""
        self._read_at: float | None = None
        self._changing = asyncio.Lock()
        """Held by the one call that changes pins."""
        self._running: dict[Key, tuple[str, asyncio.Task[Outcome]]] = {}
        """Each with the digest that was asked for."""

    async def pins(self) -> tuple[Pin, ...]:
        """Return the repo's pins, sorted by project and file name. Raises BackendUnavailableError."""
        async with self._changing:
            await self._read_if_older(_LISTED_S)
            if self._sorted is None:
                self._sorted = tuple(self._known[key] for key in sorted(self._known))
            return self._sorted

    async def pin(
        self, project: ProjectName, filename: str, sha256: str, wait_s: float = LONGEST_WAIT_S
    ) -> Outcome | None:
        """Pin a file once it is kept. Idempotent, and goes on if the caller is cancelled.

        Parameters:
            project: Its project.
            filename: Its name.
            sha256: The digest that it must have.
            wait_s: Seconds to wait for the outcome.

        Returns:
            None if that takes longer than `wait_s`; ask again for the outcome.

        Raises:
            NotFoundError: The repo does not offer the file.
            WithheldError: A policy withholds it.
            DigestDiffersError: It has another digest.
            PinsFullError: The repo has too many pins, or it or all repos together would pin too many bytes.
            BusyError: Too many files are being fetched, or this one with another digest.
            UpstreamError, UnavailableError: The other index or the cache failed.
        """
        key = (project, filename)
        asked, task = self._running.get(key, ("", None))
        if task is not None and not task.done() and asked != sha256:
            raise BusyError(f"{filename[:240]} is being pinned with another digest; try again in some seconds.")
        if task is None or asked != sha256:
            if len(self._running) >= _MAX_RUNNING:
                raise BusyError(f"{_MAX_RUNNING} files are being pinned for this repo; try again in some seconds.")
            task = asyncio.create_task(self._pin(project, filename, sha256), name=f"pin {filename[:240]}")
            self._running[key] = (sha256, task)
            task.add_done_callback(lambda done: self._finished(key, done))
        await asyncio.wait([task], timeout=wait_s)
        if not task.done():
            return None
        self._forget(key, task)
        if task.cancelled():
            raise UnavailableError(f"{filename[:240]} was unpinned meanwhile, or the server stops.")
        return task.result()

    async def unpin(self, project: ProjectName, filename: str) -> bool:
        """Remove a pin, and return whether it was there. The file stays as long as it is used."""
        key = (project, filename)
        _, task = self._running.pop(key, ("", None))
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        async with self._changing:
            await self._read_if_older(0)
            # The file's pin goes last: as long as it is there, the call can be repeated.
            if self._metadata.pop(key, None) is not None:
                await self._store.unpin(self._repo, project, filename + METADATA_SUFFIX)
            known = self._known.pop(key, None)
            if known is not None:
                await self._store.unpin(self._repo, project, filename)
            self._read_at = self._sorted = None
            self._of_all.changed()
            return known is not None

    async def aclose(self) -> None:
        """End what is being fetched for this repo."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pin(self, project: ProjectName, filename: str, sha256: str) -> Outcome:
        async with self._changing:
            await self._read_if_older(_FRESH_S)
            known = self._known.get((project, filename))
        is_pinned = known is not None and known.sha256 == sha256
        try:
            found = await self._files.find(project, filename)
        except UpstreamError:
            if not is_pinned or await self._store.open(sha256) is None:
                raise
            return _outcome(known)
        if found.file.sha256:
            _check(filename, sha256, found.file.sha256)
        if found.is_own:
            return Outcome(Pinned(project, filename, sha256, found.file.size, own=True), is_new=False)
        if not is_pinned:
            self._check_room((project, filename), found.file.size or 0)
            await self._of_all.check(sha256, found.file.size or 0)
        _check(filename, sha256, await self._files.keep(project, found.file))
        # The metadata's pin comes first: where the file has one, nothing is missing.
        await self._pin_metadata(project, found.file)
        if is_pinned:
            return _outcome(known)
        opened = await self._store.open(sha256)
        if opened is None:
            raise UnavailableError(f"The cache has no room for {filename[:240]} or does not answer; try again.")
        pin = Pin(project, filename, sha256, opened[0])
        await self._add(self._known, (project, filename), pin)
        if await self._store.open(sha256) is None:  # it was removed before the pin could protect it
            await self._files.keep(project, found.file)
        return Outcome(_pinned(pin), is_new=True)

    async def _pin_metadata(self, project: ProjectName, file: File) -> None:
        """Pin a file's core metadata, if it has any: without it an installer fails as without the file."""
        digest = file.metadata_sha256
        opened = await self._store.open(digest) if digest else None
        if digest and opened is not None:
            pin = Pin(project, file.filename + METADATA_SUFFIX, digest, opened[0])
            await self._add(self._metadata, (project, file.filename), pin)

    async def _add(self, pins: dict[Key, Pin], key: Key, pin: Pin) -> None:
        async with self._changing:
            before = pins.get(key)
            if before == pin:
                return
            self._check_room(key, pin.size - (before.size if before is not None else 0))
            await self._of_all.take(pin.sha256, pin.size)
            try:
                await self._store.pin(self._repo, pin)
            except BaseException:
                self._of_all.changed()
                raise
            pins[key] = pin
            self._sorted = None
            self._bytes += pin.size - (before.size if before is not None else 0)

    def _check_room(self, key: Key, size: int) -> None:
        """Raise PinsFullError if there is no room for a pin of so many more bytes."""
        if key not in self._known and len(self._known) >= MAX_PINS:
            raise PinsFullError(f"The repo has {MAX_PINS} pins, which is the most; remove some with prefetch --unpin.")
        if self._bytes + size > self._most:
            raise PinsFullError(
                f"The repo has pinned {self._bytes} bytes, and this file has {size}; one repo may pin half of the "
                f"cache's bytes, {self._most}. Remove pins with prefetch --unpin, or give the cache more maxBytes."
            )

    async def _read_if_older(self, seconds: float) -> None:
        """Read the pins, which other workers and servers may have changed, if they were read so long ago."""
        if self._read_at is not None and self._clock() - self._read_at < seconds:
            return
        pins = await self._store.pins(self._repo)
        self._known, self._metadata, self._sorted = {}, {}, None
        for pin in pins:
            if pin.filename.endswith(METADATA_SUFFIX):
                self._metadata[pin.project, pin.filename.removesuffix(METADATA_SUFFIX)] = pin
            else:
                self._known[pin.project, pin.filename] = pin
        self._bytes = sum(pin.size for pin in pins)
        self._read_at = self._clock()

    def _finished(self, key: Key, task: asyncio.Task[Outcome]) -> None:
        if not task.cancelled():
            task.exception()  # retrieved here, or asyncio would report it if nobody asks again
        asyncio.get_running_loop().call_later(_OUTCOME_KEPT_S, self._forget, key, task)

    def _forget(self, key: Key, task: asyncio.Task[Outcome]) -> None:
        if self._running.get(key, ("", None))[1] is task:
            del self._running[key]


def _check(filename: str, wanted: str, found: str) -> None:
    if found != wanted:
        raise DigestDiffersError(filename, wanted, found)


def _outcome(pin: Pin | None) -> Outcome:
    assert pin is not None  # noqa: S101 - the caller compared its digest
    return Outcome(_pinned(pin), is_new=False)


def _pinned(pin: Pin) -> Pinned:
    return Pinned(pin.project, pin.filename, pin.sha256, pin.size)


def nothing_kept() -> PywharfError:
    """Return the error for a repo that keeps no upstream files."""
    return NotFoundError("This repo keeps no files of other indexes, so it has no pins; set upstream.mode to Cached.")
