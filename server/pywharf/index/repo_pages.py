"""The project pages of one repo: its own, another index's, or both merged, under the policies in force."""

import time
from collections.abc import Hashable
from functools import partial

import msgspec
from cachetools import LRUCache

from pywharf.core.errors import NotFoundError
from pywharf.core.model import Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.negotiation import PageFormat
from pywharf.index.follower import Follower
from pywharf.index.lookups import MISSING_S, Lookups
from pywharf.index.page_cache import Page
from pywharf.index.policies_in_force import PoliciesInForce
from pywharf.index.project_pages import Sources, make_page
from pywharf.index.shared_resources import SharedResources
from pywharf.index.upstream.sources import Answer

_LARGE_PROJECT = 200
"""Files above which rendering a page would hold up the event loop."""
_FOREIGN_FILE_BYTES = 1024
"""Approximate bytes of memory that a file of another index takes."""
_MAX_RECENT = 4_096

_Key = tuple[ProjectName, *tuple[Hashable, ...]]


class _Recent(msgspec.Struct, frozen=True):
    """What a page of a cached index was made from a moment ago."""

    until: float
    """Monotonic time after which the storage and the index are asked again."""
    own: object
    """The catalog's source of the project, which a publication changes."""
    key: _Key
    made_from: object


class RepoPages:
    """The project pages of one repo."""

    def __init__(
        self,
        repo: RepoName,
        follower: Follower,
        lookups: Lookups,
        policies: PoliciesInForce,
        shared: SharedResources,
    ) -> None:
        self._repo = repo
        self._follower = follower
        self._lookups = lookups
        self._policies = policies
        self._pages, self._tally = shared.pages, shared.withheld
        self._is_cached = lookups.upstream.is_cached
        self._recent: LRUCache[tuple[ProjectName, bool], _Recent] = LRUCache(_MAX_RECENT)

    async def page(self, name: ProjectName, page_format: PageFormat) -> Page:
        """Return a project's page: the repo's own, otherwise another index's; both merged where shadowing is allowed.

        Raises IndexNotLoadedError, NotFoundError, UpstreamError.
        """
        is_json = page_format is PageFormat.JSON
        catalog = await self._follower.latest()
        source = catalog.source(name)
        if source is None or self._lookups.may_be_foreign(name, owned=True):
            recent = self._recent_page(name, source, is_json=is_json) if self._is_cached else None
            if recent is not None:
                return recent
            # Another server may have just accepted an upload of an unknown name, so the storage itself is asked.
            asks = self._lookups.stored_lately if self._is_cached else self._lookups.stored
            own = await asks(name) if source is None else catalog.project(name)
            return await self._looked_up(name, own, source, is_json=is_json)
        if self._policies.need_advisories:
            self._policies.current()
        page = self._pages.get((self._policies.pages, name, is_json), source)
        if page is not None:
            return page
        return await self._own(name, catalog.project(name), source, is_json=is_json)

    def _recent_page(self, name: ProjectName, own: object, *, is_json: bool) -> Page | None:
        """Return the page that was made a moment ago, if nothing says that it is another one now."""
        try:
            recent = self._recent[name, is_json]  # faster than `get`, in every request
        except KeyError:
            return None
        if recent.until < time.monotonic() or recent.own != own:
            return None
        if self._policies.need_advisories:
            self._policies.current()
        return self._pages.get((self._policies.pages, *recent.key), recent.made_from)

    async def _looked_up(self, name: ProjectName, own: Project | None, source: object, *, is_json: bool) -> Page:
        """Return the page of a project that another index may have: its own page, the other's, or both merged."""
        began = time.monotonic()
        foreign = await self._lookups.foreign(name, owned=own is not None)
        if own is None and (source := self._follower.catalog.source(name)) is not None:
            # It was published here during the lookups: it is the repo's, as if it had been known before them.
            own = self._follower.catalog.project(name)
            if not self._lookups.may_be_foreign(name, owned=True):
                foreign = None
        if foreign is None:
            return await self._own(name, own, own if source is None else source, is_json=is_json)
        key: _Key = (name, is_json, foreign.source.identity, self._is_cached)
        # The tuple compares equal to one of the same two projects, and its identity is found faster.
        made_from = (own, foreign.project)
        page = await self._foreign(key, own, foreign, made_from, is_json=is_json)
        if self._is_cached:
            self._recent[name, is_json] = _Recent(began + MISSING_S, source, key, made_from)
        return page

    async def _foreign(
        self, key: _Key, own: Project | None, foreign: Answer, made_from: object, *, is_json: bool
    ) -> Page:
        """Return a page with the other index's files, after the repo's own if it has any."""
        sources = Sources(own, foreign.project, is_cached=self._is_cached)
        return await self._page(key, made_from, sources, is_json, source_bytes=sources.count * _FOREIGN_FILE_BYTES)

    async def _own(self, name: ProjectName, project: Project | None, source: object, *, is_json: bool) -> Page:
        if project is None:
            raise NotFoundError.no_project(name)
        self._policies.current()
        page = self._pages.get((self._policies.pages, name, is_json), source)
        if page is not None:
            return page
        shown = await self._lookups.with_sizes(project) if is_json else project
        return await self._page((name, is_json), source, Sources(shown), is_json)

    async def _page(
        self,
        key: _Key,
        source: object,
        sources: Sources,
        is_json: bool,  # noqa: FBT001 - passed on
        source_bytes: int = 0,
    ) -> Page:
        """Return the page under the policies in force when it is complete: waiting for a slot may take long."""
        note = partial(self._tally.note, self._repo, key[0])
        began = self._policies.clock()
        while True:
            enforcement = self._policies.current()
            page = await self._pages.get_or_make(
                (self._policies.pages, *key),
                source,
                partial(make_page, sources, enforcement, note, is_json=is_json),
                repo=self._repo,
                large=sources.count > _LARGE_PROJECT
                or (enforcement is not None and enforcement.takes_long(key[0], sources.count)),
                source_bytes=source_bytes,
            )
            # Another caller may have had it made before this one came, for a time that is over.
            if self._policies.current() is enforcement and (
                page.since >= began or page.is_right_at(self._policies.clock())
            ):
                return page
