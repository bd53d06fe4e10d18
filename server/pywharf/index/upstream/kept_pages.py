"""The pages of other indexes that the cache keeps: revalidated, and served while an index fails."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Literal, Protocol

import msgspec
from cachetools import LRUCache, TTLCache

from pywharf.core.errors import (
    NotFoundError,
    UpstreamAwayError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports.cache_store import CacheStore, Pin
from pywharf.index.single_flight import SingleFlight
from pywharf.index.upstream.extra_index import NOT_FOUND, FetchedPage, Fetcher, page_url, read_page
from pywharf.index.upstream.first_digests import key_of as key_of_digest
from pywharf.index.upstream.health import SourceHealth
from pywharf.index.upstream.kept_page import KeptPage, is_older, merge, to_keep
from pywharf.index.upstream.page_store import PageID, PageStore
from pywharf.index.upstream.page_weight import MAX_HELD_BYTES, weight_of
from pywharf.index.upstream.pages import ACCEPT, last_serial
from pywharf.index.upstream.pinned_projects import PinnedProjects, number_of
from pywharf.index.upstream.scopes import Scopes
from pywharf.index.upstream.source import Source
from pywharf.index.upstream.sources import Answer

_logger = logging.getLogger(__name__)
_FRESH_S = 60.0
"""Seconds after which an index is asked again."""
_WAIT_S = 2.0
"""Seconds for which a request waits for the index while a kept page could be answered."""
_RETRY_S = 15.0
"""Seconds after a failure for which a kept page is answered without asking again."""
_MAX_ABSENT = 50_000
_REWRITE_S = 3_600.0
"""Seconds after which a page that did not change is written again, so that the store knows it is confirmed."""
_NOT_MODIFIED = 304
_PINS_TOGETHER = 1000

Result = Literal["confirmed", "changed", "stale", "older", "lost", "failed", "other-digest"]
"""What became of a page: confirmed by its index, changed there, answered although the index did not answer, kept
because the index's is older, lost there, missing while the index fails; and a file of it with another digest now."""


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
    weight: int
    """About how many bytes the page takes."""


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
        scopes: Scopes,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        wait_s: float = _WAIT_S,
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._scopes = scopes
        self._kept = PageStore(store, scopes)
        self._pins = PinnedProjects(store, monotonic)
        self._keep_s = keep_s
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._monotonic = monotonic
        self._wait_s = wait_s
        self._held: LRUCache[PageID, _Held] = LRUCache(MAX_HELD_BYTES, attrgetter("weight"))
        self._absent: TTLCache[PageID, bool, float] = TTLCache(_MAX_ABSENT, _FRESH_S, monotonic)
        self._loading = SingleFlight[PageID, _Held | None]()
        self._asking = SingleFlight[PageID, Project | None]()
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
        if held is None or not await self._may_be_answered(key, held.page):
            return await asking
        try:
            # After a failure nobody waits, but the index is asked again.
            async with asyncio.timeout(0 if self._health.is_paused(source.url) else self._wait_s):
                return await asking
        except (TimeoutError, UpstreamError) as error:
            return self._stale(source, held.page, error)

    async def keep(self, source: Source, name: ProjectName) -> Project | None:
        """Return the project's page once the store has it. Raises as `project`, and what the store raises."""
        project = await self.project(source, name)
        await self._kept.written((source.identity, name))
        return project

    async def aclose(self) -> None:
        """Let the pages that are being written reach the store, for a limited time."""
        await self._kept.aclose()

    async def project_of_file(self, source: Source, name: ProjectName) -> Project | None:
        """Return the project's page for a download: a kept one is recent enough. Raises as `project`."""
        key = (source.identity, name)
        held = self._held.get(key)
        if held is None and key not in self._absent:
            held = await self._loading.run(key, lambda: self._load(key))
        if held is not None and not held.page.is_lost and await self._may_be_answered(key, held.page):
            return held.page.project
        return await self.project(source, name)

    def _answer(self, page: KeptPage) -> Project:
        if page.is_lost:
            raise NotFoundError.no_project(page.project.name)
        return page.project

    def _stale(self, source: Source, page: KeptPage, error: Exception) -> Project:
        """Return the kept page although the index was asked in vain."""
        if isinstance(error, TimeoutError):
            self._health.slow(source.url)
        self._metrics.count_page("stale")
        self._metrics.observe_page_age(self._age(page))
        return self._answer(page)

    def _age(self, page: KeptPage) -> float:
        return max(0.0, self._clock() - page.confirmed)

    async def _may_be_answered(self, key: PageID, page: KeptPage) -> bool:
        return self._age(page) <= self._keep_s or any(
            self._may_use(repo, key) for repo in await self._pins.repos(page.project.name)
        )

    def _may_use(self, repo: RepoName, key: PageID) -> bool:
        """Return whether a repo may ask for a page, so that its pins count. Another server's repos may."""
        sources = self._sources.get(repo)
        return sources is None or any(one.identity == key[0] and one.answers_for(key[1]) for one in sources)

    async def pinned_answer(self, repo: RepoName, sources: Iterable[Source], name: ProjectName) -> Answer | None:
        """Return the kept page that lists a file that the repo has pinned, whatever its source and the others say now.

        So what was prefetched from one of several sources is installed while all of them are away.
        """
        pinned = await self._pins.files(repo, name)
        if not pinned:
            return None
        for source in sources:
            key = (source.identity, name)
            held = self._held.get(key) or await self._loading.run(key, partial(self._load, key))
            if held is None or not source.answers_for(name):
                continue
            if any(number_of(file.filename, file.sha256) in pinned for file in held.page.project.files):
                return Answer(source, held.page.project)
        return None

    async def pinned_keys(self) -> AsyncIterator[Sequence[str]]:
        """Yield the keys of what to keep in the store whatever its age, because a served repo has pinned a file.

        They are the pages of its projects, and the digests of the files whose index says none. Without these nobody
        would know which content the file has. Raises BackendUnavailableError.
        """
        for repo in await self._store.pinning_repos():
            if not (sources := self._sources.get(repo, ())):
                continue
            pins = await self._store.pins(repo)
            for name in {pin.project for pin in pins}:
                yield [await self._kept.key((one.identity, name)) for one in sources if one.answers_for(name)]
            scoped = [(one, await self._scopes.of(one.identity)) for one in sources]
            for start in range(0, len(pins), _PINS_TOGETHER):
                yield await asyncio.to_thread(_digest_keys, scoped, pins[start : start + _PINS_TOGETHER])

    async def _load(self, key: PageID) -> _Held | None:
        """Read the kept page into memory."""
        page = await self._kept.read(key)
        if page is None:
            return None
        held = _Held(page, 0.0, page.confirmed, await _weight(page))
        self._hold(key, held)
        return held

    def _hold(self, key: PageID, held: _Held) -> None:
        self._held.pop(key, None)
        with contextlib.suppress(ValueError):  # it is larger than the cache
            self._held[key] = held

    async def _ask(self, key: PageID, held: _Held | None) -> Project | None:
        """Ask the index, and keep what it says."""
        (url, credentials), name = key
        kept = held.page if held is not None else None
        # Without a confirmation within `keep_s`, what the index says counts as if it were new.
        trusted = kept if kept is not None and await self._may_be_answered(key, kept) else None
        etag = trusted.etag if trusted is not None and not trusted.is_lost else ""
        try:
            async with self._fetcher.fetch(page_url(url, name), ACCEPT, etag=etag, credentials=credentials) as fetched:
                result, page = await self._read(key, fetched, kept, trusted, conditional=bool(etag))
        except UpstreamError as error:
            # Drop the traceback and cause, which keep the page in memory.
            is_away = isinstance(error, UpstreamTimeoutError | UpstreamUnreachableError)
            failure = UpstreamAwayError(name) if is_away else type(error)(str(error))
        else:
            self._health.answered(url)
            if result is not None:
                self._metrics.count_page(result)
            return self._take(key, held, page, await _weight(page, held))
        self._health.failed(url)
        if held is not None and trusted is not None:
            held.fresh_until = self._monotonic() + _RETRY_S
        else:
            self._metrics.count_page("failed")
        raise failure

    async def _read(
        self,
        key: PageID,
        fetched: FetchedPage,
        kept: KeptPage | None,
        trusted: KeptPage | None,
        *,
        conditional: bool,
    ) -> tuple[Result | None, KeptPage | None]:
        """Return what the index's answer makes of the page: None if there is none."""
        now, name = self._clock(), key[1]
        if conditional and trusted is not None and fetched.status == _NOT_MODIFIED:
            return "confirmed", msgspec.structs.replace(trusted, confirmed=now)
        if fetched.status in NOT_FOUND:
            if trusted is None:
                return None, None
            # It stays what it was, so that nobody else's project takes its place, and pinned files are found.
            return "lost", msgspec.structs.replace(trusted, is_lost=True)
        project = await read_page(name, fetched)
        assert project is not None  # noqa: S101 - read_page returns None for NOT_FOUND alone
        serial = fetched.serial
        if serial is None:
            serial = await asyncio.to_thread(last_serial, fetched.content, fetched.content_type)
        if trusted is not None and is_older(serial, trusted.serial):
            return "older", trusted
        project = await asyncio.to_thread(to_keep, project)
        # Another replica may have seen a file first.
        stored = await self._kept.read(key)
        if stored is not None and (kept is None or stored.confirmed > kept.confirmed):
            kept = stored
        vanished: Mapping[str, str] = {}
        if kept is not None:
            merged = await asyncio.to_thread(merge, project, kept)
            project, vanished = merged.project, merged.vanished
            if merged.changed:
                self._metrics.count_page("other-digest")
                _logger.warning(
                    "%d files of %s have other digests at their index than they had first, which stay: %r …",
                    len(merged.changed),
                    name,
                    merged.changed[:3],
                )
        page = KeptPage(project=project, confirmed=now, etag=fetched.etag, serial=serial, vanished=vanished)
        return "changed", page

    def _take(self, key: PageID, held: _Held | None, page: KeptPage | None, weight: int) -> Project | None:
        """Keep the page in memory and in the store."""
        if page is None:
            self._held.pop(key, None)
            self._absent[key] = True
            return None
        if held is None:
            held = _Held(page, 0.0, -float("inf"), weight)
        before, held.page, held.weight = held.page, page, weight
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
            self._kept.write(key, page)
        return self._answer(page)


def _digest_keys(sources: Sequence[tuple[Source, str]], pins: Sequence[Pin]) -> list[str]:
    """Return the keys of the records with the digests of pinned files. Each source has its scope."""
    return [
        key_of_digest(source.url, scope, pin.project, pin.filename)
        for pin in pins
        if not pin.filename.endswith(METADATA_SUFFIX)
        for source, scope in sources
        if source.answers_for(pin.project)
    ]


async def _weight(page: KeptPage | None, held: _Held | None = None) -> int:
    """Return the page's weight, that of the held page if it has the same files."""
    if page is None:
        return 0
    if held is not None and page.project is held.page.project and page.vanished is held.page.vanished:
        return held.weight
    return await asyncio.to_thread(weight_of, page.project, page.vanished)
