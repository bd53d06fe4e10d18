"""The pages of other indexes that the cache keeps: revalidated, and served while an index fails."""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Literal, Protocol

import msgspec
from cachetools import LRUCache, TTLCache

from pywharf.core.errors import (
    NotFoundError,
    PywharfError,
    UpstreamAwayError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from pywharf.core.model import Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports.cache_store import CacheStore, Pin
from pywharf.index.single_flight import SingleFlight
from pywharf.index.upstream.extra_index import NOT_FOUND, FetchedPage, Fetcher, page_url, read_page
from pywharf.index.upstream.health import SourceHealth
from pywharf.index.upstream.kept_page import MAX_BYTES, KeptPage, decode, encode, is_older, key_of, merge, to_keep
from pywharf.index.upstream.pages import ACCEPT, last_serial
from pywharf.index.upstream.source import Identity, Source
from pywharf.index.upstream.sources import Answer

_logger = logging.getLogger(__name__)
_FRESH_S = 60.0
"""Seconds after which an index is asked again."""
_WAIT_S = 2.0
"""Seconds for which a request waits for the index while a kept page could be answered."""
_RETRY_S = 15.0
"""Seconds after a failure for which a kept page is answered without asking again."""
_MAX_FILES_HELD = 200_000
_MAX_ABSENT = 50_000
_REWRITE_S = 3_600.0
"""Seconds after which a page that did not change is written again, so that the store knows it is confirmed."""
_PINS_S = 60.0
_MAX_CONCURRENT_WRITES = 8
_CLOSE_S = 5.0
_NOT_MODIFIED = 304
_SCOPE_ROUNDS = 100_000

Result = Literal["confirmed", "changed", "stale", "older", "lost", "failed", "other-digest"]
"""What became of a page: confirmed by its index, changed there, answered although the index did not answer, kept
because the index's is older, lost there, missing while the index fails; and a file of it with another digest now."""
_Key = tuple[Identity, ProjectName]


_Pinned = Mapping[RepoName, Mapping[ProjectName, AbstractSet[tuple[str, str]]]]
"""Names and digests of pinned files."""


class PageMetrics(Protocol):
    """What counts the kept pages."""

    def count_page(self, result: Result) -> None:
        """Count a page."""

    def observe_page_age(self, seconds: float) -> None:
        """Note the seconds since a page that is answered was confirmed; of those that are not fresh."""


class _Held(msgspec.Struct):
    """A page in memory."""

    page: KeptPage
    fresh_until: float
    """Monotonic time until which it is answered without asking the index."""
    written: float
    """The `confirmed` of the store's page."""


class KeptPages:
    """The pages of other indexes, in memory and in a store. Concurrent callers share one request.

    A page is answered for a minute. Then its index is asked again: for 2 seconds the caller waits for that, and for
    longer where no page is kept. While the index fails, the kept page is answered up to `keep_s` after the index last
    confirmed it, those of projects with a pin without end.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        fetcher: Fetcher,
        store: CacheStore,
        keep_s: float,
        metrics: PageMetrics,
        health: SourceHealth,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        wait_s: float = _WAIT_S,
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._keep_s = keep_s
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._monotonic = monotonic
        self._wait_s = wait_s
        self._held: LRUCache[_Key, _Held] = LRUCache(_MAX_FILES_HELD, lambda held: 10 + len(held.page.project.files))
        self._absent: TTLCache[_Key, bool, float] = TTLCache(_MAX_ABSENT, _FRESH_S, monotonic)
        self._loading = SingleFlight[_Key, _Held | None]()
        self._asking = SingleFlight[_Key, Project | None]()
        self._writing: dict[_Key, asyncio.Task[PywharfError | None]] = {}
        self._write_slots = asyncio.Semaphore(_MAX_CONCURRENT_WRITES)
        self._scopes: dict[Identity, str] = {}
        self._pinned: tuple[float, _Pinned] | None = None
        """What repos have pinned, with the monotonic time until which that counts."""
        self._sources: dict[RepoName, tuple[Source, ...]] = {}

    def use(self, repo: RepoName, sources: Iterable[Source]) -> None:
        """Note a repo's sources, whose pages of pinned projects `pinned_keys` names."""
        self._sources[repo] = tuple(sources)

    async def project(self, source: Source, name: ProjectName) -> Project | None:
        """Return the project's page, or None if the index has none.

        Raises:
            UpstreamAwayError: The index does not answer, and no page is kept.
            UpstreamError: It answers with what is no page, and none is kept.
            NotFoundError: It lost the project, less than `keep_s` ago.
        """
        key = (source.identity, name)
        held = self._held.get(key)
        if held is not None and self._monotonic() < held.fresh_until:
            return self._answer(held.page)
        if held is None:
            if key in self._absent:
                return None
            held = await self._loading.run(key, lambda: self._load(key))
        asking = self._asking.run(key, lambda: self._ask(key, held))
        if held is None:
            return await asking
        try:
            # After a failure nobody waits, but the index is asked again.
            async with asyncio.timeout(0 if self._health.is_paused(source.url) else self._wait_s):
                return await asking
        except (TimeoutError, UpstreamError) as error:
            return await self._stale(key, held, error)

    async def keep(self, source: Source, name: ProjectName) -> Project | None:
        """Return the project's page once the store has it. Raises as `project`, and what the store raises."""
        project = await self.project(source, name)
        writing = self._writing.get((source.identity, name))
        if writing is not None:
            await asyncio.wait([writing])
            error = writing.result()
            if error is not None:
                raise error
        return project

    async def aclose(self) -> None:
        """Let the pages that are being written reach the store, for a limited time."""
        if self._writing:
            _, late = await asyncio.wait(self._writing.values(), timeout=_CLOSE_S)
            for task in late:
                task.cancel()

    async def project_of_file(self, source: Source, name: ProjectName) -> Project | None:
        """Return the project's page for a download: a kept one is recent enough. Raises as `project`."""
        key = (source.identity, name)
        held = self._held.get(key)
        if held is None and key not in self._absent:
            held = await self._loading.run(key, lambda: self._load(key))
        if held is not None and not held.page.is_lost and await self._may_be_answered(held.page):
            return held.page.project
        return await self.project(source, name)

    def _answer(self, page: KeptPage) -> Project:
        if page.is_lost:
            raise NotFoundError.no_project(page.project.name)
        return page.project

    async def _stale(self, key: _Key, held: _Held, error: Exception) -> Project:
        """Return the kept page although the index was asked in vain. Raises the error if the page is too old."""
        if not await self._may_be_answered(held.page):
            if isinstance(error, UpstreamError):
                raise error
            raise UpstreamAwayError(key[1])
        if isinstance(error, TimeoutError):
            self._health.slow(key[0][0])
        self._metrics.count_page("stale")
        self._metrics.observe_page_age(self._age(held.page))
        return self._answer(held.page)

    def _age(self, page: KeptPage) -> float:
        return max(0.0, self._clock() - page.confirmed)

    async def _may_be_answered(self, page: KeptPage) -> bool:
        return self._age(page) <= self._keep_s or await self._is_pinned(page.project.name)

    async def _is_pinned(self, name: ProjectName) -> bool:
        return any(name in of_repo for of_repo in (await self._pins()).values())

    async def _pins(self) -> _Pinned:
        now = self._monotonic()
        if self._pinned is None or self._pinned[0] <= now:
            try:
                found = await self._store.all_pins()
            except PywharfError as error:
                _logger.warning("The cache's pins cannot be read: %s", error)
                return self._pinned[1] if self._pinned is not None else {}
            self._pinned = (now + _PINS_S, {repo: _by_project(pins) for repo, pins in found.items()})
        return self._pinned[1]

    async def pinned_answer(self, repo: RepoName, sources: Iterable[Source], name: ProjectName) -> Answer | None:
        """Return the kept page that lists a file that the repo has pinned, whatever its source and the others say now.

        So what was prefetched from one of several sources is installed while all of them are away.
        """
        pinned = (await self._pins()).get(repo, {}).get(name)
        if not pinned:
            return None
        for source in sources:
            key = (source.identity, name)
            held = self._held.get(key) or await self._loading.run(key, partial(self._load, key))
            if held is None or not source.answers_for(name):
                continue
            if any((file.filename, file.sha256) in pinned for file in held.page.project.files):
                return Answer(source, held.page.project)
        return None

    async def pinned_keys(self) -> frozenset[str]:
        """Return the keys of the pages to keep whatever their age: of projects that a repo has pinned."""
        keys: set[str] = set()
        for repo, pins in (await self._store.all_pins()).items():
            names = {pin.project for pin in pins}
            for source in self._sources.get(repo, ()):
                scope = await self._scope(source.identity)
                keys.update(key_of(source.url, scope, name) for name in names if source.answers_for(name))
        return frozenset(keys)

    async def _load(self, key: _Key) -> _Held | None:
        """Read the kept page into memory. A store that fails holds none: the index is asked then."""
        (url, _), name = key
        try:
            content = await self._store.read_page(key_of(url, await self._scope(key[0]), name), MAX_BYTES)
        except PywharfError as error:
            _logger.warning("The cache's page of %s cannot be read: %s", name, error)
            return None
        page = await asyncio.to_thread(decode, content, url, name) if content is not None else None
        if page is None:
            return None
        held = _Held(page, 0.0, page.confirmed)
        self._hold(key, held)
        return held

    def _hold(self, key: _Key, held: _Held) -> None:
        self._held.pop(key, None)
        with contextlib.suppress(ValueError):  # it is larger than the cache
            self._held[key] = held

    async def _scope(self, identity: Identity) -> str:
        """Return what stands for a source's credentials in keys: slow to compute, since keys are names of files."""
        url, credentials = identity
        if credentials is None:
            return ""
        scope = self._scopes.get(identity)
        if scope is None:
            if len(self._scopes) >= _MAX_ABSENT:
                self._scopes.clear()
            secret, salt = credentials.password.encode(), f"{url}\0{credentials.username}".encode()
            digest = await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", secret, salt, _SCOPE_ROUNDS)
            scope = self._scopes[identity] = digest.hex()
        return scope

    async def _ask(self, key: _Key, held: _Held | None) -> Project | None:
        """Ask the index, and keep what it says."""
        (url, credentials), name = key
        kept = held.page if held is not None else None
        # Without a confirmation within `keep_s`, what the index says counts as if it were new.
        trusted = kept if kept is not None and await self._may_be_answered(kept) else None
        etag = trusted.etag if trusted is not None and not trusted.is_lost else ""
        try:
            async with self._fetcher.fetch(page_url(url, name), ACCEPT, etag=etag, credentials=credentials) as fetched:
                result, page = await self._read(name, fetched, kept, trusted, conditional=bool(etag))
        except UpstreamError as error:
            # Drop the traceback and cause, which keep the page in memory.
            is_away = isinstance(error, UpstreamTimeoutError | UpstreamUnreachableError)
            failure = UpstreamAwayError(name) if is_away else type(error)(str(error))
        else:
            self._health.answered(url)
            if result is not None:
                self._metrics.count_page(result)
            return self._take(key, held, page)
        self._health.failed(url)
        if held is not None and trusted is not None:
            held.fresh_until = self._monotonic() + _RETRY_S
        else:
            self._metrics.count_page("failed")
        raise failure

    async def _read(
        self,
        name: ProjectName,
        fetched: FetchedPage,
        kept: KeptPage | None,
        trusted: KeptPage | None,
        *,
        conditional: bool,
    ) -> tuple[Result | None, KeptPage | None]:
        """Return what the index's answer makes of the page: None if there is none."""
        now = self._clock()
        if conditional and trusted is not None and fetched.status == _NOT_MODIFIED:
            return "confirmed", msgspec.structs.replace(trusted, confirmed=now)
        if fetched.status in NOT_FOUND:
            if trusted is None:
                return None, None
            pinned = await self._is_pinned(name)
            # It stays what it was, so that nobody else's project takes its place, and pinned files are found.
            return "lost", msgspec.structs.replace(trusted, is_lost=not pinned)
        project = await read_page(name, fetched)
        assert project is not None  # noqa: S101 - its status is none of NOT_FOUND
        serial = fetched.serial
        if serial is None:
            serial = await asyncio.to_thread(last_serial, fetched.content, fetched.content_type)
        if trusted is not None and is_older(serial, trusted.serial):
            return "older", trusted
        project = await asyncio.to_thread(to_keep, project)
        vanished: Mapping[str, str] = {}
        if kept is not None:
            merged = await asyncio.to_thread(merge, project, kept)
            project, vanished = merged.project, merged.vanished
            for filename in merged.changed:
                self._metrics.count_page("other-digest")
                _logger.warning("%s has another digest upstream than it had first, which stays.", filename[:200])
        page = KeptPage(project=project, confirmed=now, etag=fetched.etag, serial=serial, vanished=vanished)
        return "changed", page

    def _take(self, key: _Key, held: _Held | None, page: KeptPage | None) -> Project | None:
        """Keep the page in memory and in the store."""
        if page is None:
            self._held.pop(key, None)
            self._absent[key] = True
            return None
        if held is None:
            held = _Held(page, 0.0, -float("inf"))
        before, held.page = held.page, page
        held.fresh_until = self._monotonic() + _FRESH_S
        self._hold(key, held)
        is_same = (before.project, before.etag, before.serial, before.is_lost) == (
            page.project,
            page.etag,
            page.serial,
            page.is_lost,
        )
        if not is_same or page.confirmed - held.written >= min(_REWRITE_S, self._keep_s / 4):
            held.written = page.confirmed
            self._writing[key] = asyncio.create_task(self._write(key, page, self._writing.get(key)))
        return self._answer(page)

    async def _write(
        self, key: _Key, page: KeptPage, before: asyncio.Task[PywharfError | None] | None
    ) -> PywharfError | None:
        """Write a page to the store after the writing of an older one. Nobody waits, because a store may be slow."""
        (url, _), name = key
        if before is not None:
            await asyncio.wait([before])
        try:
            async with self._write_slots:
                content = await asyncio.to_thread(encode, url, page)
                if content is not None:
                    await self._store.write_page(key_of(url, await self._scope(key[0]), name), content)
        except PywharfError as error:
            _logger.warning("The page of %s is not kept: %s", name, error)
            return error
        finally:
            if self._writing.get(key) is asyncio.current_task():
                del self._writing[key]
        return None


def _by_project(pins: Iterable[Pin]) -> Mapping[ProjectName, AbstractSet[tuple[str, str]]]:
    found: defaultdict[ProjectName, set[tuple[str, str]]] = defaultdict(set)
    for pin in pins:
        found[pin.project].add((pin.filename, pin.sha256))
    return dict(found)
